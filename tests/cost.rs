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
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use spans::{Form, Maker, object};
use tokio_util::sync::CancellationToken;
use tracefarm::clock::Clock;
use tracefarm::farm::worker::{Options, Worker};
use tracefarm::store::fault::{Bucket, CallKind, Fate, Incident};
use tracefarm::store::{Counts as Metered, Request, Stage};

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
    LIST     entries          12
    LIST     entries/shard=all 12
    LIST     farm/forget      12
    LIST     farm/handlers    10
    LIST     farm/settings    10
    LIST     farm/workers     21
    LIST     inbox            10
    LIST     latest           10
    LIST     quarantine       1
    LIST     quarantine/blocks 24
    LIST     site             10
    LIST     site/assets      1
    LIST     site/parts       10
    LIST     spans            12
    LIST     spans/shard=all  12
    GET      farm/settings    10
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
    // Four a minute, and three a batch: one names its objects before they are read, one the blocks that are about to be
    // written of them, so that nothing is written twice that stands when it dies, and one puts them down, so that peers need
    // not leave to this worker what it has no longer. (What has not settled when a batch is begun is fifty seconds from the
    // next: 72 an hour.)
    within("heartbeats", day(&writes, "farm/workers"), 24 * 240, 24 * (241 + 3 * 72));
    // The inbox and peers twice or three times a minute, strikes with a batch, blocks every five minutes, what pages are made
    // from once or twice a minute.
    within("listings", day(&[List], ""), 24 * 60, 32_000);

    // S3's list prices: $5 a million writes and listings, $0.40 a million reads.
    let dollars = (day(&writes, "") + day(&[List], "")) as f64 * 5e-6 + day(&reads, "") as f64 * 0.4e-6;
    println!("a day: ${dollars:.2}");
    assert!(dollars < 0.48, "a day costs ${dollars:.2}");
}

/// Half an hour of a farm of so many workers: what its stages asked of the store, and how fresh what it made was.
struct Counted {
    by_stage: Metered,
    by_folder: Counts,
    /// The oldest that an object was when it left the inbox.
    indexed: Duration,
    /// The longest time in which spans of the open hour were not merged.
    merged: Duration,
}

/// An object every two seconds, named as the S3 exporter does: a folder a minute, in it by chance. Requests take 20 to
/// 80 ms. It is counted when the workers have found each other and worked for a quarter of an hour.
async fn half_an_hour_of(workers: usize) -> Counted {
    let bucket = bucket();
    let stop = CancellationToken::new();
    let stores: Vec<_> = (0..workers)
        .map(|n| {
            let mut chance = StdRng::seed_from_u64(n as u64);
            let mut wait = move || Incident::Wait(Duration::from_millis(chance.random_range(20..80)));
            let client = bucket.client(&format!("w{n:02}"), Box::new(move |_| Fate::before(wait())));
            farm::store(&client, bucket.clock())
        })
        .collect();
    let working = stores.iter().enumerate().map(|(n, store)| {
        let (store, clock, stop) = (store.clone(), bucket.clock().clone(), stop.clone());
        async move {
            // One after the other, as machines start.
            clock.sleep(Duration::from_millis(3_700 * n as u64)).await;
            let options = Options::new(format!("w{n:02}").parse().unwrap());
            let summary = Worker::new(store, clock, options).run(&stop).await.unwrap();
            assert_eq!(format!("{:?}", summary.failed), "[]");
        }
    });
    let metered = || {
        let mut all = Metered::default();
        stores.iter().for_each(|store| all += store.meter().snapshot());
        all
    };
    let others = async {
        let mut maker = Maker::new(5);
        let mut collect = async |seconds: u64| {
            for _ in 0..seconds / 2 {
                let (now, name) = (bucket.now(), maker.pick(100_000_000, 999_999_999));
                let spans = maker.trace(now, 3);
                let folder = now.strftime("year=%Y/month=%m/day=%d/hour=%H/minute=%M");
                bucket.put(&format!("inbox/{folder}/traces_{name}.binpb.gz"), object(&spans, Form::GzipProto));
                bucket.clock().sleep(Duration::from_secs(2)).await;
            }
        };
        collect(900).await;
        let (stages, folders) = (metered(), bucket.counts());
        let (clock, fresh) = (bucket.clock().clone(), Arc::new(Mutex::new((BTreeMap::new(), [Duration::ZERO; 2]))));
        let (noted, mut merged_at) = (fresh.clone(), clock.monotonic());
        bucket.watch(move |call, objects| {
            let (came, [indexed, merged]) = &mut *noted.lock().unwrap();
            for (path, stored) in
                objects.range("inbox/".to_owned()..).take_while(|(path, _)| path.starts_with("inbox/"))
            {
                came.entry(path.clone()).or_insert(stored.modified);
            }
            match (call.kind, call.path.as_str()) {
                (CallKind::Delete, path) if path.starts_with("inbox/") => {
                    let age = clock.wall().duration_since(came.remove(path).unwrap());
                    *indexed = (*indexed).max(age.try_into().unwrap());
                }
                (CallKind::Put, path) if path.starts_with("spans/shard=0") => {
                    *merged = (*merged).max(clock.monotonic() - merged_at);
                    merged_at = clock.monotonic();
                }
                _ => {}
            }
        });
        collect(1800).await;
        bucket.watch(|_, _| {});
        stop.cancel();
        let [indexed, merged] = fresh.lock().unwrap().1;
        Counted { by_stage: metered().since(&stages), by_folder: since(&folders, &bucket.counts()), indexed, merged }
    };
    futures::join!(join_all(working), others).1
}

/// The same traffic costs a worker more its heartbeat, its settings and a look now and then, and no more: neither does each
/// list what all the others list, nor is a minute's trickle made into as many batches as there are workers.
#[test]
fn more_workers_on_the_same_traffic_cost_little_more() {
    let mut alone = None;
    for workers in [1, 4, 16] {
        let counted = farm::simulate(half_an_hour_of(workers));
        println!("{workers} workers, indexed within {:?}, merged within {:?}", counted.indexed, counted.merged);
        println!("{:<8}{:>7}{:>7}{:>7}{:>7}  a day", "", "LIST", "GET", "HEAD", "PUT");
        let dollars = |stage: Stage| {
            let asked = |request| {
                counted.by_stage.0.get(&stage).and_then(|kinds| kinds.get(&request)).map_or(0, |t| t.requests)
            };
            let [list, get, head, put] = [Request::List, Request::Get, Request::Head, Request::Put].map(asked);
            let dollars =
                Request::ALL.map(|request| asked(request) as f64 * request.price_dollars()).iter().sum::<f64>() * 48.0;
            println!("{:<8}{list:>7}{get:>7}{head:>7}{put:>7}  ${dollars:.2}", stage.name());
            dollars
        };
        let [farm, index, compact, _] = [Stage::Farm, Stage::Index, Stage::Compact, Stage::Publish].map(dollars);
        println!("{}", table(&counted.by_folder));
        assert!(counted.indexed < Duration::from_secs(110), "indexed after {:?}", counted.indexed);
        assert!(counted.merged < Duration::from_secs(400), "merged after {:?}", counted.merged);
        let more = workers as f64 - 1.0;
        let (alone_index, alone_compact) = *alone.get_or_insert((index, compact));
        assert!(farm < 0.08 * workers as f64, "${farm:.2} a day for peers and settings of {workers}");
        assert!(index <= alone_index + 0.02 * more, "${index:.2} a day for the inbox of {workers}");
        assert!(compact <= alone_compact + 0.02 * more, "${compact:.2} a day for merges of {workers}");
    }
}
