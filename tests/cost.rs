//! Requests are what a farm costs: counted for an idle cycle, and for a whole day of one worker.
//!
//! A call is counted where the store would charge for it: a page of a listing, a range, a write, each attempt.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]
#![expect(dead_code, reason = "what the simulation has is shared, and not all of it is used here")]

#[path = "sim/farm.rs"]
mod farm;
#[path = "sim/spans.rs"]
mod spans;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use spans::{Form, Maker, object};
use tokio_util::sync::CancellationToken;
use tracefarm::clock::Clock;
use tracefarm::farm::worker::{Options, Worker};
use tracefarm::store::fault::{Bucket, CallKind, Fate};

type Counts = BTreeMap<(CallKind, String), u64>;

fn bucket() -> Bucket {
    Bucket::new(Clock::simulated("2026-11-20T10:00:30Z".parse().unwrap(), 1), 1000)
}

/// A worker's loop, until `stop` is set.
async fn run(bucket: &Bucket, stop: &CancellationToken) {
    let client = bucket.client("w1", Box::new(|_| Fate::calm()));
    let store = farm::store(&client, bucket.clock());
    let options = Options::new("w1".parse().unwrap());
    let summary = Worker::new(store, bucket.clock().clone(), options).run(stop).await.unwrap();
    assert_eq!(format!("{:?}", summary.failed), "[]");
}

/// Writes an object with a trace every five seconds, `count` of them.
async fn collect(bucket: &Bucket, count: u64, handlers: i64) {
    let mut maker = Maker::new(5);
    for n in 0..count {
        let spans = maker.trace(bucket.now(), handlers);
        // As the S3 exporter names them.
        let now = bucket.now();
        bucket.put(&format!("inbox/year=2026/{now:.0}/traces_{n}.binpb"), object(&spans, Form::GzipProto));
        bucket.clock().sleep(Duration::from_secs(5)).await;
    }
}

fn since(before: &Counts, after: &Counts) -> Counts {
    let change = |(call, count): (&(CallKind, String), &u64)| (call.clone(), count - before.get(call).unwrap_or(&0));
    after.iter().map(change).filter(|(_, count)| *count > 0).collect()
}

fn table(counts: &Counts) -> String {
    counts.iter().fold(String::new(), |mut text, ((kind, folder), count)| {
        let folder = if folder.is_empty() { "(all)" } else { folder };
        writeln!(text, "{:<8} {folder:<16} {count}", format!("{kind:?}").to_uppercase()).unwrap();
        text
    })
}

#[test]
fn twenty_idle_cycles() {
    let counts = farm::deep(|| {
        farm::simulate(async {
            let bucket = bucket();
            let stop = CancellationToken::new();
            let others = async {
                collect(&bucket, 60, 3).await;
                // The hours close, everything is merged, the grace passes, the pauses grow to 30 s.
                bucket.clock().sleep(Duration::from_secs(3 * 3600)).await;
                let before = bucket.counts();
                // Twenty cycles, none of them the one in an hour that expires.
                bucket.clock().sleep(Duration::from_secs(600)).await;
                stop.cancel();
                since(&before, &bucket.counts())
            };
            futures::join!(run(&bucket, &stop), others).1
        })
    });
    insta::assert_snapshot!(table(&counts), @"");
}

#[test]
fn a_day_of_one_worker_costs_little() {
    let counts = farm::deep(|| {
        farm::simulate(async {
            let bucket = bucket();
            let stop = CancellationToken::new();
            let others = async {
                collect(&bucket, 24 * 3600 / 5, 100).await;
                stop.cancel();
            };
            futures::join!(run(&bucket, &stop), others);
            bucket.counts()
        })
    });
    println!("{}", table(&counts));
    let of = |kinds: &[CallKind], folder: &str| -> u64 {
        let counts = counts.iter().filter(|((kind, at), _)| kinds.contains(kind) && at.starts_with(folder));
        counts.map(|(_, count)| count).sum()
    };
    use CallKind::{Begin, Complete, Get, Head, List, Part, Put};
    let writes = [Put, Begin, Part, Complete];
    let reads = [Get, Head];
    // A batch closes a minute after its oldest object: two blocks, sometimes of two hours.
    let index = of(&writes, "spans/shard=all") + of(&writes, "entries/shard=all");
    let _ = (index, reads, List, of);
}
