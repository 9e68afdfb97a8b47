//! Everything that was recorded, as the official code reads it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tracefarm::otlp::Limits;

use crate::{decoded, files, oracle, shared};

/// What the official code makes of an object.
fn expected(object: &[u8]) -> BTreeMap<String, usize> {
    let mut plain = object.to_vec();
    if object.starts_with(&[0x1f, 0x8b]) {
        plain.clear();
        flate2::read::MultiGzDecoder::new(object).read_to_end(&mut plain).unwrap();
    } else if object.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        plain = zstd::decode_all(object).unwrap();
    }
    let mut spans = BTreeMap::new();
    let mut add = |data: &TracesData| {
        for (span, count) in oracle::spans(data) {
            *spans.entry(span).or_default() += count;
        }
    };
    if plain[0] == 0 {
        let mut rest = &plain[..];
        while let Some((length, frames)) = rest.split_first_chunk::<4>() {
            let (frame, behind) = frames.split_at(u32::from_be_bytes(*length) as usize);
            rest = behind;
            let is_zstd = frame.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
            let frame = if is_zstd { zstd::decode_all(frame).unwrap() } else { frame.to_vec() };
            match frame[0] {
                b'{' => add(&oracle::traces_data(&oracle::documents(std::str::from_utf8(&frame).unwrap())[0])),
                _ => add(&TracesData::decode(&frame[..]).unwrap()),
            }
        }
    } else if plain.starts_with(b"{") {
        for document in oracle::documents(std::str::from_utf8(&plain).unwrap()) {
            add(&oracle::traces_data(&document));
        }
    } else {
        add(&TracesData::decode(&plain[..]).unwrap());
    }
    spans
}

/// Reads every object of a folder both ways; how many spans there are.
fn compare(folder: &Path) -> usize {
    let mut spans = 0;
    for (name, object) in files(folder) {
        if name == "extra.json" {
            continue;
        }
        let (data, bad, count) = decoded(&object, &Limits::default());
        assert_eq!(bad, [], "{name}");
        let (got, expected) = (oracle::spans(&data), expected(&object));
        assert!(!expected.is_empty(), "{name}");
        if got != expected {
            let missing = expected.keys().find(|span| !got.contains_key(*span));
            let wrong = got.keys().find(|span| !expected.contains_key(*span));
            panic!("{name}:\nmissing {missing:#?}\nwrong {wrong:#?}");
        }
        spans += count;
    }
    spans
}

#[test]
fn the_samples_are_read_as_the_official_code_reads_them() {
    assert!(compare(&Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/inbox")) > 10_000);
}

#[test]
fn the_whole_recording_is_read_as_the_official_code_reads_it() {
    let Some(shared) = shared() else { return };
    assert_eq!(compare(&shared.join("inbox")), 116_815, "spans as written into the inbox");
    assert!(compare(&shared.join("extra")) > 1000);
}

/// How many changed objects are tried; `TRACEFARM_MUTATIONS` asks for more.
const MUTATIONS: u64 = 300;

#[test]
fn changed_samples_do_no_harm() {
    let samples = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/inbox"));
    let mutations = std::env::var("TRACEFARM_MUTATIONS").map_or(MUTATIONS, |text| text.parse().unwrap());
    for seed in 0..mutations {
        let mut random = StdRng::seed_from_u64(seed);
        let (name, sample) = &samples[random.random_range(0..samples.len())];
        let mut object = sample.clone();
        // Half of them inside of their compression: there the decoders see the change.
        if object.starts_with(&[0x1f, 0x8b]) && random.random_bool(0.5) {
            object.clear();
            flate2::read::MultiGzDecoder::new(&sample[..]).read_to_end(&mut object).unwrap();
        }
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..object.len());
            match random.random_range(0..5) {
                0 => object[at] = random.random(),
                1 => object[at] ^= 1 << random.random_range(0..8),
                2 => object.truncate(at + 1),
                3 => drop(object.drain(at..(at + random.random_range(1..50)).min(object.len()))),
                _ => {
                    let piece = object[at..(at + random.random_range(1..200)).min(object.len())].to_vec();
                    let to = random.random_range(0..=object.len());
                    object.splice(to..to, piece);
                }
            }
            if object.is_empty() {
                object.push(b' ');
            }
        }
        let limits =
            Limits { message_bytes: if random.random_bool(0.2) { 10_000 } else { 64 << 20 }, ..Limits::default() };
        let (got, bad, count) = decoded(&object, &limits);
        if bad.is_empty()
            && object.starts_with(b"\n")
            && let Ok(expected) = TracesData::decode(&object[..])
        {
            assert_eq!(oracle::spans(&got), oracle::spans(&expected), "seed {seed}, {name}, {count} spans");
        }
    }
}
