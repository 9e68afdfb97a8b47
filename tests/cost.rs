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

use spans::{Does, Form, Maker, object};
use tokio::task::{LocalSet, spawn_local};
use tokio_util::sync::CancellationToken;
use tracefarm::clock::Clock;
use tracefarm::farm::Settings;
use tracefarm::farm::settings::Timeline;
use tracefarm::farm::simulate::{self, Scenario, Spans};
use tracefarm::farm::worker::{Options, Worker};
use tracefarm::store::fault::{Bucket, CallKind, Fate, Incident};
use tracefarm::store::{Counts, Key, Request, Stage};

type Calls = BTreeMap<(CallKind, String), u64>;

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

fn since(before: &Calls, after: &Calls) -> Calls {
    let change = |(call, count): (&(CallKind, String), &u64)| (call.clone(), count - before.get(call).unwrap_or(&0));
    after.iter().map(change).filter(|(_, count)| *count > 0).collect()
}

fn table(counts: &Calls) -> String {
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
    LIST     farm/workers     20
    LIST     inbox            20
    LIST     latest           10
    LIST     quarantine/blocks 40
    LIST     site             10
    LIST     site/parts       10
    LIST     spans            20
    LIST     spans/shard=all  20
    GET      farm/settings    10
    HEAD     site/handlers.json 10
    PUT      farm/workers     40
    ");
}

/// A day of one worker, an object every five seconds, a hundred handlers. A quick run plays three hours of it and reckons
/// the day from them; `TRACEFARM_SIM_SEEDS=1` plays all 24.
#[test]
fn a_day_of_one_worker_costs_two_thirds_of_a_dollar() {
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
    // Every two or three minutes some 30 of the hundred handlers have been hit: two documents each, the 404 lists, a part,
    // the list. (All of them in every minute would be 288,000.)
    within("pages", day(&writes, "site/"), 2 * 24 * 20 * 20, 57_000);
    // Four a minute, one that names the objects of a batch before they are read, and one when they are done.
    within("heartbeats", day(&writes, "farm/workers"), 24 * 240, 24 * (241 + 2 * 60));
    // The inbox some six times a minute, blocks and peers three, strikes with a batch, what pages are made from once or twice.
    within("listings", day(&[List], ""), 24 * 60, 54_000);

    // S3's list prices: $5 a million writes and listings, $0.40 a million reads.
    let dollars = (day(&writes, "") + day(&[List], "")) as f64 * 5e-6 + day(&reads, "") as f64 * 0.4e-6;
    println!("a day: ${dollars:.2}");
    assert!(dollars < 0.66, "a day costs ${dollars:.2}");
}

/// A farm that is small enough to be run.
#[derive(Clone, Copy)]
struct Small {
    workers: usize,
    shards: u16,
    handlers: i64,
    /// Traces of an object, one each five seconds.
    traces: u64,
    hours: u64,
    /// How far each kind of request of a stage may be off.
    within: f64,
}

const REQUEST_SECONDS: f64 = 0.05;

impl Small {
    /// Real workers, real data: what they asked, and what their spans were like.
    async fn run(self) -> (Counts, Spans) {
        let bucket = bucket();
        let settings = Settings { shards: Timeline::always(self.shards), ..Settings::default() };
        let calm = farm::store(&bucket.client("calm", Box::new(|_| Fate::calm())), bucket.clock());
        calm.create(&Key::Settings(1), serde_json::to_vec(&settings).unwrap().into()).await.unwrap();
        let mut hands = Vec::new();
        for rank in 0..self.workers {
            let name = format!("w{rank}");
            let wait = Duration::from_secs_f64(REQUEST_SECONDS);
            let client = bucket.client(&name, Box::new(move |_| Fate::before(Incident::Wait(wait))));
            let (store, clock) = (farm::store(&client, bucket.clock()), bucket.clock().clone());
            let (stop, options) = (CancellationToken::new(), Options::new(name.parse().unwrap()));
            let until = stop.clone();
            hands.push((stop, spawn_local(async move { Worker::new(store, clock, options).run(&until).await })));
        }
        let mut maker = Maker::new(5);
        let (mut bytes, mut proto, mut spans) = (0, 0, 0);
        for n in 0..self.hours * 3600 / 5 {
            let mut all = Vec::new();
            for _ in 0..self.traces {
                let does = Does::Serve(format!("/r{}", maker.pick(0, self.handlers)));
                let root = maker.entry("web", does, bucket.now());
                let children = (1..4).map(|n| maker.child(&root, "web", Does::Work("work".to_owned()), n * 1_000_000));
                all.extend(children.collect::<Vec<_>>());
                all.push(root);
            }
            let body = object(&all, Form::GzipProto);
            (bytes, proto, spans) = (bytes + body.len(), proto + object(&all, Form::Proto).len(), spans + all.len());
            bucket.put(&format!("inbox/{:.0}-{n}.binpb", bucket.now()), body);
            bucket.clock().sleep(Duration::from_secs(5)).await;
        }
        let mut counts = Counts::default();
        for (stop, work) in hands {
            stop.cancel();
            let summary = work.await.unwrap().unwrap();
            assert!(summary.is_clean(), "{summary}");
            for (stage, kinds) in summary.requests.0 {
                for (kind, tally) in kinds {
                    *counts.0.entry(stage).or_default().entry(kind).or_default() += tally;
                }
            }
        }
        let like = Spans {
            a_trace: 4.0,
            entries_a_trace: 1.0,
            errors: 0.1,
            calls: false,
            inbox_bytes: bytes as f64 / spans as f64,
            proto_bytes: proto as f64 / spans as f64,
            ..Spans::default()
        };
        (counts, like)
    }

    fn scenario(self, spans: Spans) -> Scenario {
        let mut scenario = Scenario::new(self.workers, self.traces as f64 * 4.0 / 5.0, self.handlers as usize);
        (scenario.collectors, scenario.spans, scenario.request_seconds) = (1, spans, REQUEST_SECONDS);
        scenario.with_shards(Some(self.shards))
    }
}

/// What `tracefarm simulate` reckons is what real workers ask for: the price within a tenth, and so each stage and kind that
/// is a hundredth of it; but for the reads for pages that seldom change, of which it misses a fifth.
#[rstest::rstest]
#[case::alone(Small { workers: 1, shards: 1, handlers: 30, traces: 5, hours: 2, within: 0.1 })]
#[case::quiet(Small { workers: 1, shards: 1, handlers: 100, traces: 1, hours: 2, within: 0.25 })]
fn what_is_projected_is_what_is_asked(#[case] small: Small) {
    let (real, spans) = farm::simulate(async { LocalSet::new().run_until(small.run()).await });
    let time = Duration::from_secs(small.hours * 3600);
    let projected = simulate::begin(&small.scenario(spans), time).unwrap().counts(1.0);
    let dollars = real.price_dollars();
    let mut wrong = Vec::new();
    println!("{:<10}{:<8}{:>10}{:>12}{:>8}", "stage", "kind", "asked", "projected", "ratio");
    for stage in Stage::ALL {
        for kind in Request::ALL {
            let of =
                |counts: &Counts| counts.0.get(&stage).and_then(|kinds| kinds.get(&kind)).map_or(0, |t| t.requests);
            let (asked, reckoned) = (of(&real), of(&projected));
            if asked + reckoned == 0 {
                continue;
            }
            let ratio = reckoned as f64 / asked.max(1) as f64;
            println!("{:<10}{:<8}{asked:>10}{reckoned:>12}{ratio:>8.2}", format!("{stage:?}"), format!("{kind:?}"));
            let price = |many: u64| {
                let tally = tracefarm::store::Tally { requests: many, ..Default::default() };
                Counts([(stage, [(kind, tally)].into())].into()).price_dollars()
            };
            let matters = price(asked).max(price(reckoned)) > dollars / 100.0;
            if matters && (ratio - 1.0).abs() > small.within {
                wrong.push(format!("{stage:?} {kind:?}: {asked} asked, {reckoned} projected"));
            }
        }
    }
    println!("${dollars:.4} asked, ${:.4} projected", projected.price_dollars());
    assert_eq!(wrong, [""; 0]);
    assert!((projected.price_dollars() / dollars - 1.0).abs() < 0.1);
}
