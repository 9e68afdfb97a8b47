//! The floor below an indexer of OTLP: what single steps cost on the same bytes, one thread, each alone. Prints one line
//! of JSON a step: seconds of CPU, megabytes of protobuf and spans a second of CPU.
//!
//! ```text
//! cargo run --release --example floor -- /tmp/inbox
//! ```

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Parser;
use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message;

#[path = "../tests/support/official.rs"]
mod official;

#[derive(Parser)]
#[command(about = "Measures what single steps of indexing cost")]
struct Args {
    /// A folder of gzip'd OTLP protobuf, as examples/amplify.rs writes it
    folder: PathBuf,
}

fn main() {
    let args = Args::parse();
    let files = official::files(&args.folder);
    // All compressed bytes at once, each object's protobuf only while it is worked on: memory stays small.
    let objects: Vec<Vec<u8>> = files.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let mut totals = Totals::default();
    for object in &objects {
        let plain = gunzip(object);
        totals.bytes += plain.len();
        totals.spans += official::spans(&TracesData::decode(&plain[..]).unwrap()).count();
    }

    totals.measure("gunzip (flate2, zlib-rs)", &objects, |object| gunzip(object).len());
    totals.measure("gunzip + official decode (prost) + drop", &objects, |object| {
        TracesData::decode(&gunzip(object)[..]).unwrap().resource_spans.len()
    });
    totals.measure("gunzip + zero-copy walk, UTF-8 checked", &objects, |object| walk(&gunzip(object), &TRACES_DATA));
    totals.measure("gunzip + zstd 3", &objects, |object| zstd::bulk::compress(&gunzip(object), 3).unwrap().len());
    totals.peak_memory();
}

fn gunzip(object: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(object.len() * 8);
    flate2::read::MultiGzDecoder::new(object).read_to_end(&mut plain).unwrap();
    plain
}

#[derive(Default)]
struct Totals {
    bytes: usize,
    spans: usize,
}

impl Totals {
    fn measure(&self, what: &str, objects: &[Vec<u8>], mut step: impl FnMut(&[u8]) -> usize) {
        let before = cpu_seconds();
        let made: usize = objects.iter().map(|object| std::hint::black_box(step(object))).sum();
        let seconds = cpu_seconds() - before;
        assert!(made > 0);
        println!(
            "{}",
            serde_json::json!({
                "step": what,
                "cpu_seconds": (seconds * 1000.0).round() / 1000.0,
                "mb_per_cpu_second": (self.bytes as f64 / 1e6 / seconds).round(),
                "spans_per_cpu_second": (self.spans as f64 / seconds).round(),
            })
        );
    }

    fn peak_memory(&self) {
        let status = std::fs::read_to_string(Path::new("/proc/self/status")).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("unknown").trim();
        println!("{}", serde_json::json!({ "spans": self.spans, "protobuf_bytes": self.bytes, "peak_memory": peak }));
    }
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// What stands below a message: its fields that are messages and its fields that are text.
struct Shape {
    messages: &'static [(u32, &'static Shape)],
    texts: &'static [u32],
}

// The wire format of opentelemetry/proto/trace/v1/trace.proto and common/v1/common.proto.
static TRACES_DATA: Shape = Shape { messages: &[(1, &RESOURCE_SPANS)], texts: &[] };
static RESOURCE_SPANS: Shape = Shape { messages: &[(1, &RESOURCE), (2, &SCOPE_SPANS)], texts: &[3] };
static RESOURCE: Shape = Shape { messages: &[(1, &KEY_VALUE)], texts: &[] };
static SCOPE_SPANS: Shape = Shape { messages: &[(1, &SCOPE), (2, &SPAN)], texts: &[3] };
static SCOPE: Shape = Shape { messages: &[(3, &KEY_VALUE)], texts: &[1, 2] };
static SPAN: Shape = Shape { messages: &[(9, &KEY_VALUE), (11, &EVENT), (13, &LINK), (15, &STATUS)], texts: &[3, 5] };
static EVENT: Shape = Shape { messages: &[(3, &KEY_VALUE)], texts: &[2] };
static LINK: Shape = Shape { messages: &[(4, &KEY_VALUE)], texts: &[3] };
static STATUS: Shape = Shape { messages: &[], texts: &[2] };
static KEY_VALUE: Shape = Shape { messages: &[(2, &ANY_VALUE)], texts: &[1] };
static ANY_VALUE: Shape = Shape { messages: &[(5, &ARRAY), (6, &PAIRS)], texts: &[1] };
static ARRAY: Shape = Shape { messages: &[(1, &ANY_VALUE)], texts: &[] };
static PAIRS: Shape = Shape { messages: &[(1, &KEY_VALUE)], texts: &[] };

/// Visits every field of `message` down to the values of attributes and checks every text; how many fields there are.
fn walk(mut message: &[u8], shape: &Shape) -> usize {
    let mut fields = 0;
    while !message.is_empty() {
        let tag = varint(&mut message);
        fields += 1;
        match tag & 7 {
            0 => {
                varint(&mut message);
            }
            1 => message = &message[8..],
            2 => {
                let length = varint(&mut message) as usize;
                let (value, rest) = message.split_at(length);
                message = rest;
                let number = (tag >> 3) as u32;
                if let Some((_, below)) = shape.messages.iter().find(|(field, _)| *field == number) {
                    fields += walk(value, below);
                } else if shape.texts.contains(&number) {
                    assert!(simdutf8::basic::from_utf8(value).is_ok());
                }
            }
            5 => message = &message[4..],
            other => panic!("wire type {other}"),
        }
    }
    fields
}

fn varint(message: &mut &[u8]) -> u64 {
    let mut value = 0;
    for (at, byte) in message.iter().enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *message = &message[at + 1..];
            return value;
        }
    }
    panic!("a cut number")
}
