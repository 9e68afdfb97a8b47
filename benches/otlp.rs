//! Spans per CPU second of decoding, beside what bounds it: gunzip alone, the official decoder, a walk over the wire
//! that keeps nothing. One thread, the samples of the repository again and again.
//!
//! ```text
//! cargo bench --bench otlp
//! ```

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program that measures and prints")]

use std::hint::black_box;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message;
use tracefarm::otlp::redact::Redact;
use tracefarm::otlp::{Limits, ObjectDecoder, Progress, SpanRows, encode};

/// Each measurement takes at least so long.
const SECONDS: f64 = 1.5;

fn main() {
    let mut gzipped = Vec::new();
    let mut protobuf = Vec::new();
    let mut json = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("samples")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let object = std::fs::read(&path).unwrap();
            let name = path.to_string_lossy().into_owned();
            if name.ends_with(".binpb.gz") {
                protobuf.push(gunzip(&object));
                gzipped.push(object);
            } else if name.ends_with(".json.gz") {
                json.push(gunzip(&object));
            }
        }
    }
    let spans_of = |objects: &[Vec<u8>]| objects.iter().map(|object| decode(object, &mut rows())).sum::<usize>();
    let (spans, json_spans) = (spans_of(&protobuf), spans_of(&json));
    let bytes = |objects: &[Vec<u8>]| objects.iter().map(Vec::len).sum::<usize>();
    println!("protobuf: {spans} spans, {} bytes, {} gzip'd", bytes(&protobuf), bytes(&gzipped));
    println!("JSON: {json_spans} spans, {} bytes", bytes(&json));

    let measured = |what: &str, spans: usize, bytes: usize, mut once: Box<dyn FnMut() + '_>| {
        once();
        let begin = cpu_seconds();
        let mut times = 0;
        while cpu_seconds() - begin < SECONDS {
            once();
            times += 1;
        }
        let seconds = (cpu_seconds() - begin) / f64::from(times);
        println!("{what:<48}{:>12.0} spans/CPU-s{:>8.0} MB/s", spans as f64 / seconds, bytes as f64 / seconds / 1e6);
    };
    let all = |objects: &[Vec<u8>]| {
        let mut rows = rows();
        for object in objects {
            decode(object, &mut rows);
        }
        black_box(rows.finish());
    };
    measured(
        "gunzip alone",
        spans,
        bytes(&protobuf),
        Box::new(|| gzipped.iter().for_each(|object| drop(gunzip(object)))),
    );
    measured(
        "walk of the wire, UTF-8 checked, nothing kept",
        spans,
        bytes(&protobuf),
        Box::new(|| {
            protobuf.iter().for_each(|object| {
                black_box(walk(object, TRACES_DATA));
            })
        }),
    );
    measured(
        "official decode (prost), dropped",
        spans,
        bytes(&protobuf),
        Box::new(|| protobuf.iter().for_each(|object| drop(black_box(TracesData::decode(&object[..]).unwrap())))),
    );
    measured("protobuf into columns", spans, bytes(&protobuf), Box::new(|| all(&protobuf)));
    measured("gunzip and protobuf into columns", spans, bytes(&protobuf), Box::new(|| all(&gzipped)));
    measured("JSON into columns", json_spans, bytes(&json), Box::new(|| all(&json)));
    measured(
        "JSON into serde_json's tree, dropped",
        json_spans,
        bytes(&json),
        Box::new(|| {
            json.iter().for_each(|object| drop(black_box(serde_json::from_slice::<serde_json::Value>(object).unwrap())))
        }),
    );
    let mut all_rows = rows();
    protobuf.iter().for_each(|object| {
        decode(object, &mut all_rows);
    });
    let batch = [all_rows.finish()];
    let text = encode::traces_data(&batch).unwrap();
    measured(
        "columns into OTLP/JSON",
        spans,
        text.len(),
        Box::new(|| drop(black_box(encode::traces_data(&batch).unwrap()))),
    );
}

fn rows() -> SpanRows {
    SpanRows::new(Redact::default())
}

fn decode(object: &[u8], rows: &mut SpanRows) -> usize {
    let before = rows.len();
    let mut decoder = ObjectDecoder::new(object, Timestamp::UNIX_EPOCH, Limits::default());
    while decoder.decode(rows, usize::MAX).unwrap() != Progress::Done {}
    assert_eq!(decoder.bad_count(), 0);
    rows.len() - before
}

fn gunzip(object: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(object.len() * 12);
    MultiGzDecoder::new(object).read_to_end(&mut plain).unwrap();
    plain
}

/// CPU time of this thread.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Which fields of a message are messages, and which are strings.
struct Shape {
    messages: &'static [(u64, &'static Shape)],
    strings: &'static [u64],
}

static TRACES_DATA: &Shape = &Shape { messages: &[(1, RESOURCE_SPANS)], strings: &[] };
static RESOURCE_SPANS: &Shape = &Shape { messages: &[(1, RESOURCE), (2, SCOPE_SPANS)], strings: &[3] };
static RESOURCE: &Shape = &Shape { messages: &[(1, PAIR)], strings: &[] };
static SCOPE_SPANS: &Shape = &Shape { messages: &[(1, SCOPE), (2, SPAN)], strings: &[3] };
static SCOPE: &Shape = &Shape { messages: &[(3, PAIR)], strings: &[1, 2] };
static SPAN: &Shape = &Shape { messages: &[(9, PAIR), (11, EVENT), (13, LINK), (15, STATUS)], strings: &[3, 5] };
static EVENT: &Shape = &Shape { messages: &[(3, PAIR)], strings: &[2] };
static LINK: &Shape = &Shape { messages: &[(4, PAIR)], strings: &[3] };
static STATUS: &Shape = &Shape { messages: &[], strings: &[2] };
static PAIR: &Shape = &Shape { messages: &[(2, VALUE)], strings: &[1] };
static VALUE: &Shape = &Shape { messages: &[], strings: &[1] };

/// Visits every field; what it saw, so that nothing is optimised away.
fn walk(mut message: &[u8], shape: &Shape) -> u64 {
    let mut seen = 0;
    while !message.is_empty() {
        let tag = varint(&mut message);
        match tag & 7 {
            0 => seen ^= varint(&mut message),
            1 => {
                seen ^= u64::from_le_bytes(*message.first_chunk().unwrap());
                message = &message[8..];
            }
            5 => message = &message[4..],
            _ => {
                let length = varint(&mut message) as usize;
                let (payload, rest) = message.split_at(length);
                message = rest;
                let field = tag >> 3;
                if let Some((_, shape)) = shape.messages.iter().find(|(number, _)| *number == field) {
                    seen ^= walk(payload, shape);
                } else if shape.strings.contains(&field) {
                    seen ^= simdutf8::basic::from_utf8(payload).unwrap().len() as u64;
                }
            }
        }
    }
    seen
}

fn varint(message: &mut &[u8]) -> u64 {
    let mut number = 0;
    let mut shift = 0;
    loop {
        let byte = message[0];
        *message = &message[1..];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return number;
        }
        shift += 7;
    }
}
