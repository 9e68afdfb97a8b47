//! Every file of the collection that is bad in some way, and what cannot be in a collection: sizes, streams, limits.

use std::io::{Read, Write};

use jiff::Timestamp;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, TracesData};
use prost::Message;
use rstest::rstest;
use tracefarm::otlp::redact::Redact;
use tracefarm::otlp::{Limits, ObjectDecoder, Progress, SpanRows};

use crate::{decoded, files, shared};

/// A file, how many of its spans are good, and the reasons of its bad parts.
type Case = (&'static str, usize, &'static [&'static str]);

const CASES: &[Case] = &[
    ("_SUCCESS", 0, &[]),
    ("bom.json", 3, &[]),
    ("bomb-1GB.jsonl.zst", 0, &["unknown-format"]),
    ("bomb-200MB-spaces.json.gz", 0, &[]),
    ("bomb-200MB-zeros.binpb.gz", 0, &["unknown-format"]),
    ("deep-100k-in-attr.json", 0, &["too-deep"]),
    ("deep-100k.json", 0, &["not-traces"]),
    ("deep-20k-in-attr.binpb", 0, &["too-deep"]),
    ("deep-unknown-field.json", 0, &[]),
    ("double-gzip.binpb.gz", 40, &[]),
    ("empty-gzip.binpb.gz", 0, &[]),
    ("empty-object.json", 0, &[]),
    ("empty.binpb", 0, &[]),
    ("empty.binpb.gz", 0, &[]),
    ("empty.json", 0, &[]),
    ("end-before-start.binpb", 5, &[]),
    ("gzip-bad-crc.binpb.gz", 40, &["corrupt"]),
    ("gzip-trailing-garbage.binpb.gz", 40, &["corrupt"]),
    ("gzipped.binpb", 40, &[]),
    ("huge-length.binpb", 0, &["truncated"]),
    ("invalid-hex-ids.json", 2, &["bad-id", "bad-id", "bad-id", "bad-id"]),
    ("invalid-utf8.binpb", 2, &["bad-text"]),
    ("invalid-utf8.json", 2, &["bad-text"]),
    ("jsonl-no-final-newline-cut.jsonl", 5, &["truncated"]),
    ("lenient.json", 5, &[]),
    ("logs.binpb", 0, &["not-traces"]),
    ("lone-surrogate.json", 2, &["bad-text"]),
    ("malformed.json", 39, &["truncated"]),
    ("metrics.binpb", 0, &["not-traces"]),
    ("metrics.json", 0, &["not-traces"]),
    ("millis-not-nanos.binpb", 5, &[]),
    ("not-gzipped.binpb.gz", 40, &[]),
    ("nul-in-name.json", 3, &[]),
    ("null-fields.json", 0, &[]),
    ("old-instrumentation-library.json", 3, &[]),
    ("one-bad-line.jsonl", 6, &["truncated"]),
    ("only-newlines.jsonl", 0, &[]),
    ("parent-cycle.binpb", 5, &[]),
    ("parent-id-zero.binpb", 4, &[]),
    ("random.binpb", 0, &["unknown-format"]),
    ("random.json.gz", 0, &["unknown-format"]),
    ("random.jsonl.zst", 0, &["corrupt"]),
    ("same-span-id-twice.binpb", 5, &[]),
    ("self-parent.binpb", 4, &[]),
    ("snake-case.json", 3, &[]),
    ("span-id-4-bytes.binpb", 3, &["bad-id"]),
    ("span-id-zero.binpb", 3, &["bad-id"]),
    ("start-zero.binpb", 5, &[]),
    ("time-max-u64.binpb", 5, &[]),
    ("times-zero.binpb", 5, &[]),
    ("trace-id-10-bytes.binpb", 3, &["bad-id"]),
    ("trace-id-empty.binpb", 3, &["bad-id"]),
    ("trace-id-zero.binpb", 3, &["bad-id"]),
    ("traces_123456789.binpb.gz.tmp", 0, &["truncated", "truncated"]),
    ("truncated-early.binpb", 0, &["truncated"]),
    ("truncated-gzip.binpb.gz", 23, &["truncated", "truncated"]),
    ("truncated.binpb", 39, &["truncated"]),
    ("truncated.json.gz", 11, &["truncated"]),
    ("weird name %2F é\u{202e}.binpb", 40, &[]),
    ("wrong-extension.json", 40, &[]),
    ("year-2300.binpb", 5, &[]),
];

#[test]
fn of_bad_files_the_good_spans_are_read_and_the_rest_is_told() {
    let Some(shared) = shared() else { return };
    let files = files(&shared.join("bad"));
    assert_eq!(files.len(), CASES.len());
    for (name, object) in files {
        let Some((_, spans, reasons)) = CASES.iter().find(|case| case.0 == name) else { panic!("no case for {name}") };
        let (_, bad, count) = decoded(&object, &Limits::default());
        assert_eq!(count, *spans, "{name}: {bad:?}");
        assert_eq!(bad.iter().map(|part| part.reason).collect::<Vec<_>>(), *reasons, "{name}: {bad:?}");
        assert!(bad.iter().all(|part| !part.at.is_empty() && part.message.len() > 10), "{name}: {bad:?}");
    }
}

#[test]
fn a_bad_part_says_where_it_is_and_what_is_wrong() {
    let line = |spans: &str| format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#);
    let good = r#"{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708","name":"good"}"#;
    let text = [
        line(good),
        line(&format!(r#"{good},{{"traceId":"0102","spanId":"0102030405060708"}},{good}"#)),
        line(good).replace("good", "\\uD800"),
        "junk".to_owned(),
        line(good)[..120].to_owned(),
        line(&good.replace("}", r#","kind":"SPAN_KIND_QUEEN"}"#)),
        r#"{"data":[]}"#.to_owned(),
        line(good) + &line(good) + "x",
    ]
    .join("\n");
    let (_, bad, count) = decoded(text.as_bytes(), &Limits::default());
    assert_eq!(count, 5);
    let told: Vec<String> =
        bad.iter().map(|part| format!("{} · {} · {}", part.reason, part.at, part.message)).collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    bad-id · line 2, resource 1, scope 1, span 2, byte 281 · the trace id has 4 digits instead of 32
    bad-text · line 3, resource 1, scope 1, span 1, byte 543 · a string holds half of a surrogate pair
    malformed · line 4, byte 552 · not JSON: a document cannot begin with 'j'
    truncated · line 5, resource 1, scope 1, span 1, byte 677 · the JSON document ends in the middle
    bad-value · line 6, resource 1, scope 1, span 1, byte 816 · `SPAN_KIND_QUEEN` is no name of this enum
    not-traces · line 7, byte 841 · JSON without `resourceSpans`; its first key is `data`
    malformed · line 8, byte 1127 · not JSON: 'x' where a document should begin
    ");
}

/// `spans` spans with names of `name_bytes` bytes in one message.
fn message(spans: usize, name_bytes: usize) -> Vec<u8> {
    let spans = (1..=spans).map(|number| Span {
        trace_id: vec![1; 16],
        span_id: (number as u64).to_be_bytes().to_vec(),
        name: "n".repeat(name_bytes),
        ..Span::default()
    });
    let scope_spans = vec![ScopeSpans { spans: spans.collect(), ..ScopeSpans::default() }];
    TracesData { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] }.encode_to_vec()
}

fn json(spans: usize, name_bytes: usize) -> Vec<u8> {
    let span =
        |number| format!(r#"{{"traceId":"{:032x}","spanId":"{number:016x}","name":"{}"}}"#, 1, "n".repeat(name_bytes));
    let spans: Vec<String> = (1..=spans).map(span).collect();
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}]}}]}}]}}"#, spans.join(",")).into_bytes()
}

fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
    messages.iter().flat_map(|message| [&(message.len() as u32).to_be_bytes()[..], message].concat()).collect()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

#[rstest]
#[case::protobuf([message(2, 1), message(1, 5000), message(3, 1)].concat())]
#[case::lines([json(2, 1), json(1, 5000), json(3, 1)].join(&b'\n'))]
#[case::lines_with_an_end([json(2, 1), json(1, 5000), json(3, 1), vec![]].join(&b"\r\n"[..]))]
#[case::frames(framed(&[message(2, 1), message(1, 5000), message(3, 1)]))]
#[case::json_frames(framed(&[json(2, 1), json(1, 5000), json(3, 1)]))]
#[case::frames_of_gzip(framed(&[gzip(&message(2, 1)), gzip(&message(1, 5000)), gzip(&message(3, 1))]))]
#[case::frames_of_zstd(framed(&[message(2, 1), message(1, 5000), message(3, 1)].map(|m| zstd::encode_all(&m[..], 3).unwrap())))]
#[case::twice_compressed(gzip(&zstd::encode_all(&[message(2, 1), message(1, 5000), message(3, 1)].concat()[..], 3).unwrap()))]
fn a_message_that_is_too_large_is_left_out_alone(#[case] object: Vec<u8>) {
    let limits = Limits { message_bytes: 4000, ..Limits::default() };
    let (_, bad, count) = decoded(&object, &limits);
    assert_eq!(count, 5, "{bad:?}");
    assert_eq!(bad.iter().map(|part| part.reason).collect::<Vec<_>>(), ["too-large"], "{bad:?}");
    let (_, bad, count) = decoded(&object, &Limits::default());
    assert_eq!((count, bad), (6, vec![]));
}

#[rstest]
#[case::protobuf(message(2, 100), 1)]
#[case::json(json(2, 100), 1)]
#[case::frame(framed(&[message(2, 100)]), 1)]
#[case::frame_of_json(framed(&[json(2, 100)]), 1)]
#[case::frame_of_zstd(framed(&[zstd::encode_all(&message(2, 100)[..], 3).unwrap()]), 0)]
#[case::gzip(gzip(&message(2, 100)), 0)]
fn a_cut_anywhere_is_told(#[case] object: Vec<u8>, #[case] at_least: usize) {
    // The first byte of protobuf alone is an empty line, too.
    for end in 2..object.len() {
        let (_, bad, count) = decoded(&object[..end], &Limits::default());
        // A few bytes may be no format at all.
        let reasons = ["truncated", "unknown-format", "corrupt"];
        assert!(bad.iter().all(|part| reasons.contains(&part.reason)), "{end}: {bad:?}");
        assert!(!bad.is_empty(), "{end}");
        assert!(count <= 2);
        if end == object.len() - 1 {
            assert!(count >= at_least, "{bad:?}");
        }
    }
}

#[test]
fn pretty_printed_and_concatenated_documents_are_told_apart() {
    let pretty = br#"{
  "resourceSpans": [
{
"scopeSpans": [ {"spans": [
{"traceId": "00000000000000000000000000000001", "spanId": "0000000000000001", "name": "}{\""}
] } ]
}
  ]
}"#;
    for separator in [&b"\n"[..], b"", b"\n\n \n", b"\xef\xbb\xbf"] {
        let object = [&pretty[..], &json(2, 1), pretty, &json(1, 1)].join(separator);
        let (_, bad, count) = decoded(&object, &Limits::default());
        assert_eq!((count, bad), (5, vec![]), "{separator:?}");
    }
    // A cut one does not swallow the next, wherever it was cut.
    for end in 1..pretty.len() {
        let object = [&pretty[..end], &json(2, 1)].join(&b'\n');
        let (_, bad, count) = decoded(&object, &Limits::default());
        assert!(count >= 2 && bad.len() == 1, "cut at {end}: {count} spans, {bad:?}");
    }
}

#[test]
fn large_objects_are_spread_over_batches() {
    let object = vec![message(100, 50); 200].concat();
    let mut decoder = ObjectDecoder::new(&object[..], Timestamp::UNIX_EPOCH, Limits::default());
    let mut rows = SpanRows::new(Redact::default());
    let (mut batches, mut spans) = (0, 0);
    loop {
        let progress = decoder.decode(&mut rows, 100_000).unwrap();
        assert!(rows.memory_bytes() < 1_000_000, "{}", rows.memory_bytes());
        batches += 1;
        spans += rows.finish().num_rows();
        if progress == Progress::Done {
            break;
        }
    }
    assert_eq!(spans, 20_000);
    assert!((object.len() / 120_000..=object.len() / 90_000).contains(&batches), "{batches} of {}", object.len());
    assert_eq!(decoder.decompressed_bytes(), object.len() as u64);
}

#[test]
fn a_cut_connection_is_an_error_and_nothing_else() {
    struct Cut;
    impl Read for Cut {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::new(std::io::ErrorKind::ConnectionReset, "reset"))
        }
    }
    for object in [message(100, 50), gzip(&message(100, 50)), json(100, 50), framed(&[message(100, 50)])] {
        let body = object[..object.len() / 2].chain(Cut);
        let mut decoder = ObjectDecoder::new(body, Timestamp::UNIX_EPOCH, Limits::default());
        let report = decoder.decode(&mut SpanRows::new(Redact::default()), usize::MAX).unwrap_err();
        assert!(report.to_string().contains("reset"), "{report}");
        assert_eq!(decoder.bad(), []);
    }
}

#[test]
fn only_a_hundred_bad_parts_are_told_and_all_are_counted() {
    let object = [
        &json(1, 1)[..],
        b"
",
        &b"junk\n{}\n".repeat(500),
    ]
    .concat();
    let mut decoder = ObjectDecoder::new(&object[..], Timestamp::UNIX_EPOCH, Limits::default());
    let mut rows = SpanRows::new(Redact::default());
    assert_eq!(decoder.decode(&mut rows, usize::MAX).unwrap(), Progress::Done);
    assert_eq!((decoder.bad().len(), decoder.bad_count(), rows.len()), (100, 500, 1));
}
