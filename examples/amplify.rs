//! Makes a large inbox out of a small one: every copy of the recorded traces gets fresh ids and later times, in the
//! order and company in which they were recorded, as gzip'd OTLP protobuf in objects named as `awss3exporter` names
//! them. The same seed and arguments give the same bytes.
//!
//! ```text
//! cargo run --release --example amplify -- --from samples --to /tmp/inbox --spans 1000000
//! ```

#[path = "../tests/support/copies.rs"]
mod copies;
#[path = "../tests/support/official.rs"]
mod official;

use std::path::PathBuf;

use clap::Parser;
use copies::{Batcher, Recording, Written};
use jiff::Timestamp;

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
    let mut batcher = Batcher::new(args.object_spans, args.seed);
    let mut count = Count { folder: args.to, objects: 0, protobuf_bytes: 0, gzip_bytes: 0 };
    let (mut spans, mut traces, mut copies) = (0, 0, 0);
    while spans < args.spans {
        let shift_ns = args.start.as_nanosecond() as i64 - recording.earliest_ns + copies * recording.length_ns();
        let (documents, copied) = recording.copy(args.seed ^ copies as u64, shift_ns, args.spans - spans);
        traces += copied;
        copies += 1;
        for document in documents {
            spans += official::spans(&document).count();
            batcher.add(document).into_iter().for_each(|object| count.write(&object));
        }
    }
    batcher.end().into_iter().for_each(|object| count.write(&object));
    println!(
        "{}",
        serde_json::json!({
            "spans": spans, "traces": traces, "objects": count.objects,
            "protobuf_bytes": count.protobuf_bytes, "gzip_bytes": count.gzip_bytes, "copies": copies,
        })
    );
}

/// Writes objects and counts them.
struct Count {
    folder: PathBuf,
    objects: usize,
    protobuf_bytes: usize,
    gzip_bytes: usize,
}

impl Count {
    fn write(&mut self, object: &Written) {
        let path = self.folder.join(&object.name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &object.gzip).unwrap();
        self.objects += 1;
        self.protobuf_bytes += object.protobuf_bytes;
        self.gzip_bytes += object.gzip.len();
    }
}
