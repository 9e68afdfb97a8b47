//! Makes a large inbox out of a small one: every copy of the recorded traces gets fresh ids and later times, in the
//! order and company in which they were recorded, as gzip'd OTLP protobuf in objects named as `awss3exporter` names
//! them. The same seed and arguments give the same bytes.
//!
//! ```text
//! cargo run --release --example amplify -- --from samples --to /tmp/inbox --spans 1000000
//! ```

#[path = "../tests/support/official.rs"]
mod official;

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Parser;
use jiff::Timestamp;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, TracesData};
use prost::Message;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

#[derive(Parser)]
#[command(about = "Makes a large inbox out of a small one")]
struct Args {
    /// A folder of OTLP objects
    #[arg(long)]
    from: PathBuf,
    /// The folder to write into; made if it is not there
    #[arg(long)]
    to: PathBuf,
    /// At least so many spans; the last copy ends with a whole trace
    #[arg(long, default_value_t = 1_000_000)]
    spans: usize,
    /// When the first copy begins
    #[arg(long, default_value = "2026-11-22T00:00:00Z")]
    start: Timestamp,
    /// Spans in an object: the batch size of a collector's batch processor
    #[arg(long, default_value_t = 8_192)]
    object_spans: usize,
    /// Which ids
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() {
    let args = Args::parse();
    let recording = Recording::read(&args.from);
    eprintln!(
        "recorded: {} spans, {} traces in {} documents, {} s",
        recording.spans,
        recording.traces.len(),
        recording.documents.len(),
        recording.length_ns() / 1_000_000_000
    );
    let mut objects = Objects { folder: args.to, ..Objects::new(args.object_spans) };
    let mut copies = 0;
    while objects.spans < args.spans {
        let shift_ns = args.start.as_nanosecond() as i64 - recording.earliest_ns + copies * recording.length_ns();
        recording.copy(args.seed ^ copies as u64, shift_ns, args.spans - objects.spans, &mut objects);
        copies += 1;
    }
    objects.end();
    println!(
        "{}",
        serde_json::json!({
            "spans": objects.spans, "traces": objects.traces, "objects": objects.count,
            "protobuf_bytes": objects.protobuf_bytes, "gzip_bytes": objects.gzip_bytes, "copies": copies,
        })
    );
}

/// The distinct spans of a folder, in the order of its objects.
struct Recording {
    documents: Vec<TracesData>,
    /// Spans of each trace, in the order in which traces appear.
    traces: Vec<(Vec<u8>, usize)>,
    spans: usize,
    earliest_ns: i64,
    latest_ns: i64,
}

impl Recording {
    fn read(folder: &Path) -> Self {
        let mut seen = HashSet::new();
        let mut documents = Vec::new();
        for path in official::files(folder) {
            let bytes = std::fs::read(&path).unwrap();
            for mut document in official::decode(&bytes).unwrap_or_else(|why| panic!("{}: {why}", path.display())) {
                official::keep_new(&mut document, &mut seen);
                documents.push(document);
            }
        }
        // Objects in the order in which they were written, whatever their names: by their newest span.
        let newest = |data: &TracesData| official::spans(data).map(|span| span.end_time_unix_nano).max();
        documents.retain(|data| newest(data).is_some());
        documents.sort_by_key(newest);

        let mut places = HashMap::new();
        let mut traces: Vec<(Vec<u8>, usize)> = Vec::new();
        for span in documents.iter().flat_map(official::spans) {
            let place = *places.entry(span.trace_id.clone()).or_insert_with(|| {
                traces.push((span.trace_id.clone(), 0));
                traces.len() - 1
            });
            traces[place].1 += 1;
        }
        let start = |span: &opentelemetry_proto::tonic::trace::v1::Span| span.start_time_unix_nano as i64;
        let starts = || documents.iter().flat_map(official::spans).map(start);
        Self {
            spans: starts().count(),
            earliest_ns: starts().min().expect("spans"),
            latest_ns: starts().max().expect("spans"),
            documents,
            traces,
        }
    }

    fn length_ns(&self) -> i64 {
        self.latest_ns - self.earliest_ns
    }

    /// Adds a copy of the first traces that have `at_least` spans together, or of all.
    fn copy(&self, seed: u64, shift_ns: i64, at_least: usize, objects: &mut Objects) {
        let mut chance = StdRng::seed_from_u64(seed);
        let mut wanted = HashMap::new();
        let mut spans = 0;
        for (trace, count) in &self.traces {
            if spans >= at_least {
                break;
            }
            wanted.insert(&trace[..], chance.random::<u128>().to_be_bytes());
            spans += count;
        }
        objects.traces += wanted.len();
        // A span id is unique within its trace: one mask for the whole copy keeps parents and links right.
        let mask = chance.next_u64().to_be_bytes();
        let fresh = |id: &mut Vec<u8>| id.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        let later = |ns: &mut u64| *ns = ns.wrapping_add_signed(shift_ns);
        for document in &self.documents {
            let mut document = document.clone();
            for resource in &mut document.resource_spans {
                for scope in &mut resource.scope_spans {
                    scope.spans.retain(|span| wanted.contains_key(&span.trace_id[..]));
                    for span in &mut scope.spans {
                        span.trace_id = wanted[&span.trace_id[..]].to_vec();
                        fresh(&mut span.span_id);
                        if span.parent_span_id.iter().any(|byte| *byte != 0) {
                            fresh(&mut span.parent_span_id);
                        }
                        later(&mut span.start_time_unix_nano);
                        later(&mut span.end_time_unix_nano);
                        span.events.iter_mut().for_each(|event| later(&mut event.time_unix_nano));
                        for link in &mut span.links {
                            if let Some(trace) = wanted.get(&link.trace_id[..]) {
                                link.trace_id = trace.to_vec();
                                fresh(&mut link.span_id);
                            }
                        }
                    }
                }
                resource.scope_spans.retain(|scope| !scope.spans.is_empty());
            }
            document.resource_spans.retain(|resource| !resource.scope_spans.is_empty());
            objects.add(document, &mut chance);
        }
    }
}

/// Writes objects as they fill. As in a collector's batch, the requests of an object stand behind each other, and
/// nothing of them is merged.
struct Objects {
    folder: PathBuf,
    object_spans: usize,
    pending: Vec<ResourceSpans>,
    pending_spans: usize,
    pending_name: u32,
    spans: usize,
    traces: usize,
    count: usize,
    protobuf_bytes: usize,
    gzip_bytes: usize,
}

impl Objects {
    fn new(object_spans: usize) -> Self {
        Self {
            folder: PathBuf::new(),
            object_spans,
            pending: Vec::new(),
            pending_spans: 0,
            pending_name: 0,
            spans: 0,
            traces: 0,
            count: 0,
            protobuf_bytes: 0,
            gzip_bytes: 0,
        }
    }

    fn add(&mut self, document: TracesData, chance: &mut StdRng) {
        let spans = official::spans(&document).count();
        self.spans += spans;
        self.pending_spans += spans;
        self.pending.extend(document.resource_spans);
        self.pending_name = chance.random_range(100_000_000..999_999_999);
        if self.pending_spans >= self.object_spans {
            self.end();
        }
    }

    fn end(&mut self) {
        let data = TracesData { resource_spans: std::mem::take(&mut self.pending) };
        let Some(newest) = official::spans(&data).map(|span| span.end_time_unix_nano).max() else { return };
        let bytes = data.encode_to_vec();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&bytes).unwrap();
        let gzip = gzip.finish().unwrap();
        let written = Timestamp::from_nanosecond(newest.into()).unwrap();
        let folder = self.folder.join(written.strftime("year=%Y/month=%m/day=%d/hour=%H/minute=%M").to_string());
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("traces_{}.binpb.gz", self.pending_name)), &gzip).unwrap();
        self.pending_spans = 0;
        self.count += 1;
        self.protobuf_bytes += bytes.len();
        self.gzip_bytes += gzip.len();
    }
}
