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
    let counts = farm::simulate(async {
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
    });
    insta::assert_snapshot!(table(&counts), @r"
    LIST     entries          20
    LIST     entries/shard=all 20
    LIST     farm/forget      20
    LIST     farm/handlers    10
    LIST     farm/settings    10
    LIST     farm/workers     21
    LIST     inbox            20
    LIST     latest           10
    LIST     quarantine       1
    LIST     quarantine/blocks 40
    LIST     site             10
    LIST     site/assets      1
    LIST     site/parts       10
    LIST     spans            20
    LIST     spans/shard=all  20
    GET      farm/settings    10
    GET      farm/workers     1
    GET      site/index.html  1
    HEAD     site/handlers.json 10
    PUT      farm/workers     40
    PUT      site/farm.json   1
    ");
}

/// A day of one worker, an object every five seconds, a hundred handlers. A quick run plays three hours of it and reckons
/// the day from them; `TRACEFARM_SIM_SEEDS=1` plays all 24.
#[test]
fn a_day_of_one_worker_costs_half_a_dollar() {
    let hours = if std::env::var_os("TRACEFARM_SIM_SEEDS").is_some() { 24 } else { 3 };
    let counts = farm::simulate(async {
        let bucket = bucket();
        let stop = CancellationToken::new();
        let others = async {
            collect(&bucket, hours * 3600 / 5, 100).await;
            stop.cancel();
        };
        futures::join!(run(&bucket, &stop), others);
        bucket.counts()
    });
    println!("in {hours} hours:\n{}", table(&counts));
    let sum = |kinds: &[CallKind], folder: &str| -> u64 {
        let counts = counts.iter().filter(|((kind, at), _)| kinds.contains(kind) && at.starts_with(folder));
        counts.map(|(_, count)| count).sum()
    };
    let day = |kinds: &[CallKind], folder: &str| sum(kinds, folder) * 24 / hours;
    use CallKind::{Begin, Complete, Delete, Get, Head, List, Part, Put};
    let (writes, reads) = ([Put, Begin, Part, Complete], [Get, Head]);
    let within = |what: &str, count: u64, least: u64, most: u64| {
        assert!((least..=most).contains(&count), "{what}: {count} a day, not {least} to {most}");
    };

    // Each object is read once, looked at once more right before it is deleted, and deleted once. Those of the last
    // minute are still there.
    let objects = hours * 3600 / 5;
    let taken = sum(&[Delete], "inbox");
    assert_eq!((sum(&[Get], "inbox"), sum(&[Head], "inbox")), (taken, taken));
    assert!((objects - 24..objects).contains(&taken), "{taken} of {objects} objects were indexed");
    // A batch closes a minute after its oldest object: a block of each table, a second one where two hours are touched.
    let level0 = day(&writes, "spans/shard=all") + day(&writes, "entries/shard=all");
    within("writes of level 0", level0, 2 * 24 * 50, 4_000);
    // Every five minutes while an hour is open, and once when it has closed.
    let level1 = day(&writes, "spans/") + day(&writes, "entries/") - level0;
    within("writes of level 1", level1, 2 * 24 * 10, 800);
    // What every block takes: its footer, its rows in a merge, and the traces that pages show.
    within("reads of blocks", day(&reads, "spans/") + day(&reads, "entries/"), 2 * level0, 75_000);
    // Every two or three minutes some 30 to 45 of the hundred handlers have been hit: two documents each, the 404 lists, a
    // part, the list. (All of them in every minute would be 288,000.)
    within("pages", day(&writes, "site/"), 2 * 24 * 20 * 20, 48_000);
    // Four a minute, and two a batch: one names its objects before they are read, one puts them down, so that peers need
    // not leave to this worker what it has no longer.
    within("heartbeats", day(&writes, "farm/workers"), 24 * 240, 24 * (241 + 2 * 60));
    // The inbox some six times a minute, blocks and peers three, strikes with a batch, what pages are made from once or twice.
    within("listings", day(&[List], ""), 24 * 60, 54_000);

    // S3's list prices: $5 a million writes and listings, $0.40 a million reads.
    let dollars = (day(&writes, "") + day(&[List], "")) as f64 * 5e-6 + day(&reads, "") as f64 * 0.4e-6;
    println!("a day: ${dollars:.2}");
    assert!(dollars < 0.55, "a day costs ${dollars:.2}");
}
