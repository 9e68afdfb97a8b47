//! Scaling shown: one backlog, worked off by 1, 2, 4 and 8 workers, by what each of them did.
//!
//! Workers run their own loop on one simulated store whose requests take 20 to 80 ms; time is simulated, too, so that they
//! really work side by side on one machine. Each is given one core: an object of the inbox takes as long as it takes one
//! core at the pipeline's measured speed (`scripts/bench`), one after the other. What is shown is how long it took, what
//! each did, what was done twice, and what was asked of the store.
//!
//! `cargo test --test scaling -- --nocapture` prints the table.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]
#![expect(dead_code, reason = "what the simulation has is shared, and not all of it is used here")]

#[path = "sim/farm.rs"]
mod farm;
#[path = "sim/spans.rs"]
mod spans;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use jiff::SignedDuration;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use spans::{Form, Maker, object};
use tokio::task::{LocalSet, spawn_local};
use tokio_util::sync::CancellationToken;
use tracefarm::clock::Clock;
use tracefarm::farm::Settings;
use tracefarm::farm::settings::Timeline;
use tracefarm::farm::worker::{Options, StageSummary, Summary, Worker};
use tracefarm::store::Key;
use tracefarm::store::fault::{Bucket, CallKind, Fate, Incident, Script};

/// Objects of the backlog.
const OBJECTS: u64 = 1200;
/// Traces of each.
const TRACES: u64 = 1;
/// Bytes of each.
const PADDED_BYTES: usize = 32 << 10;
/// How long an object takes a core. At 220,000 spans a CPU second it is one of some 80,000 spans; to make so many would
/// take the test longer than to count them.
const OBJECT_TAKES: Duration = Duration::from_millis(400);

/// What a farm of so many came to.
struct Outcome {
    workers: Vec<Summary>,
    /// When the last object left the inbox, since the first was read.
    indexed: Duration,
    /// When the last merge was written, since then.
    merged: Duration,
    spans: u64,
    calls: BTreeMap<CallKind, u64>,
}

/// A request takes 20 to 80 ms, and an object that was read takes its worker's core for a while. `first` becomes the time
/// of the first read.
fn script(bucket: &Bucket, seed: u64, first: Arc<OnceLock<Duration>>) -> Script {
    let clock = bucket.clock().clone();
    let (mut chance, mut busy_until) = (StdRng::seed_from_u64(seed), Duration::ZERO);
    Box::new(move |call| {
        let wait = |ms: u64| Incident::Wait(Duration::from_millis(ms));
        let mut fate = Fate::before(wait(chance.random_range(20..80)));
        if call.kind == CallKind::Get && call.path.starts_with("inbox/") {
            let now = clock.monotonic();
            first.get_or_init(|| now);
            busy_until = busy_until.max(now) + OBJECT_TAKES;
            fate.after.push(Incident::Wait(busy_until - now));
        }
        fate
    })
}

async fn work(workers: usize) -> Outcome {
    let bucket = Bucket::new(Clock::simulated("2026-11-20T10:59:00Z".parse().unwrap(), 1), 1000);
    let settings = Settings { shards: Timeline::always(4), batch_bytes: 1 << 20, ..Settings::default() };
    let calm = farm::store(&bucket.client("calm", Box::new(|_| Fate::calm())), bucket.clock());
    calm.create(&Key::Settings(1), serde_json::to_vec(&settings).unwrap().into()).await.unwrap();

    let (mut hands, first) = (Vec::new(), Arc::new(OnceLock::new()));
    for rank in 0..workers {
        let name = format!("w{rank}");
        let store = farm::store(&bucket.client(&name, script(&bucket, rank as u64, first.clone())), bucket.clock());
        let (stop, clock) = (CancellationToken::new(), bucket.clock().clone());
        let (options, until) = (Options::new(name.parse().unwrap()), stop.clone());
        hands.push((stop, spawn_local(async move { Worker::new(store, clock, options).run(&until).await })));
    }
    // They find each other.
    bucket.clock().sleep(Duration::from_secs(100)).await;
    let mut maker = Maker::new(7);
    let mut spans = 0;
    for number in 0..OBJECTS {
        let mut all = Vec::new();
        for _ in 0..TRACES {
            let at = bucket.now() - SignedDuration::from_secs(maker.pick(0, 3 * 3600));
            all.extend(maker.trace(at, 50));
        }
        spans += all.len() as u64;
        // Blanks before it. A batch of objects as small as these would be all of them, take longer than an item may, and be
        // stopped as one that hangs; so it is some thirty, as of objects that really take a core so long.
        let json = object(&all, Form::Json);
        let body = [vec![b' '; PADDED_BYTES.saturating_sub(json.len())], json].concat();
        bucket.put(&format!("inbox/{number:06}.json"), body);
    }
    let (clock, last) = (bucket.clock().clone(), Arc::new(Mutex::new([Duration::ZERO; 2])));
    let seen = last.clone();
    bucket.watch(move |call, _| {
        let at = clock.monotonic();
        let mut last = seen.lock().unwrap();
        match (call.kind, call.path.as_str()) {
            (CallKind::Delete, path) if path.starts_with("inbox/") => last[0] = at,
            (CallKind::Put, path) if path.starts_with("spans/shard=0") => last[1] = at,
            _ => {}
        }
    });
    let counted = bucket.counts();
    bucket.clock().sleep(Duration::from_secs(1500)).await;
    assert_eq!(bucket.paths("inbox/").len(), 0);
    let mut calls: BTreeMap<CallKind, u64> = BTreeMap::new();
    for (call, count) in bucket.counts() {
        *calls.entry(call.0).or_default() += count - counted.get(&call).unwrap_or(&0);
    }
    let mut summaries = Vec::new();
    for (stop, work) in hands {
        stop.cancel();
        summaries.push(work.await.unwrap().unwrap());
    }
    assert_eq!(bucket.breaches(), [""; 0]);
    let [indexed, merged] = last.lock().unwrap().map(|at| at - *first.get().unwrap());
    Outcome { workers: summaries, indexed, merged, spans, calls }
}

#[test]
fn more_workers_are_faster_and_do_little_twice() {
    println!(
        "{:<8}{:>10}{:>9}{:>10}{:>9}{:>9}{:>9}{:>9}{:>8}{:>8}{:>8}{:>8}  spans indexed by each",
        "workers",
        "indexed s",
        "speed-up",
        "merged s",
        "twice %",
        "merged",
        "pages",
        "LIST",
        "GET",
        "HEAD",
        "PUT",
        "DELETE"
    );
    let mut alone = None;
    for workers in [1, 2, 4, 8] {
        let outcome = farm::simulate(async { LocalSet::new().run_until(work(workers)).await });
        let sum = |stage: &str, of: fn(&StageSummary) -> u64| -> u64 {
            outcome.workers.iter().filter_map(|summary| summary.stages.get(stage)).map(of).sum()
        };
        let indexed: Vec<u64> = outcome.workers.iter().map(|summary| summary.spans).collect();
        let twice = indexed.iter().sum::<u64>() as f64 / outcome.spans as f64 * 100.0 - 100.0;
        let seconds = outcome.indexed.as_secs_f64();
        let speed_up = *alone.get_or_insert(seconds) / seconds;
        let call = |kind: CallKind| outcome.calls.get(&kind).copied().unwrap_or(0);
        println!(
            "{workers:<8}{seconds:>10.0}{speed_up:>9.2}{:>10.0}{twice:>9.2}{:>9}{:>9}{:>9}{:>8}{:>8}{:>8}{:>8}  {indexed:?}",
            outcome.merged.as_secs_f64(),
            sum("compact", |stage| stage.rows_in),
            sum("publish", |stage| stage.done),
            call(CallKind::List),
            call(CallKind::Get),
            call(CallKind::Head),
            call(CallKind::Put),
            call(CallKind::Delete),
        );
        assert!(twice < 10.0, "{workers} workers indexed {twice:.1} % twice");
        assert!(speed_up > 0.7 * workers as f64, "{workers} workers are {speed_up:.2} times as fast");
    }
}
