//! Hot spots: how evenly four workers share what is uneven. One handler with nine tenths of the traffic, a shard far
//! larger than the others, ten thousand handlers; with 1, 4 and 16 shards.
//!
//! Each stage is one round of all four at once, on one simulated store, with real data: nobody waits, so that what is
//! compared is how the work list was divided. `cargo test --test balance -- --nocapture` prints the tables.
//!
//! What is asserted: whoever has most of a stage has at most 1.3 times the mean, or has one item. What one item is, and so
//! stays one worker's whatever there is in it: an inbox object; a merge of one table, shard and hour; a part (the pages of
//! one shard of the handlers); an hour and shard of entries, or an hour and folder of spans, that expires. More `shards`
//! make all but the first smaller. The list of handlers, what the farm says of itself and the program's own pages are one
//! worker's, too, and not counted here. Of ten thousand handlers nothing expires here: that would take the test too long.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]
#![expect(dead_code, reason = "what the simulation has is shared, and not all of it is used here")]

#[path = "sim/farm.rs"]
mod farm;
#[path = "sim/spans.rs"]
mod spans;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use farm::{Boot, Step, pass};
use futures::future::join_all;
use jiff::SignedDuration;
use rstest::rstest;
use spans::{Does, Form, Maker, SECOND_NS, object};
use tracefarm::clock::Clock;
use tracefarm::farm::Settings;
use tracefarm::farm::settings::Timeline;
use tracefarm::model::{Shard, TraceId};
use tracefarm::stage::StageReport;
use tracefarm::store::Key;
use tracefarm::store::fault::{Bucket, Call, CallKind, Faults};

const WORKERS: usize = 4;

/// What lies in the inbox.
#[derive(Clone, Copy)]
struct Backlog {
    shards: u16,
    handlers: i64,
    traces: u64,
    hours: i64,
    /// How much of the traffic hits the first handler.
    hot: f64,
    /// How many of the traces that chance puts elsewhere lie in the first shard, too.
    giant: f64,
    keep_last: u32,
    /// Whether a week passes, too.
    expires: bool,
}

impl Backlog {
    /// Objects of one to sixty traces, all received now.
    fn fill(self, bucket: &Bucket) {
        let mut maker = Maker::new(7);
        let now = bucket.now();
        let mut left = self.traces;
        let mut handler = 0;
        while left > 0 {
            let mut all = Vec::new();
            // Few objects are large.
            for _ in 0..left.min(60_f64.powf(maker.pick(0, 1000) as f64 / 1000.0) as u64 + 1) {
                left -= 1;
                let at = now - SignedDuration::from_secs(maker.pick(0, self.hours * 3600));
                // Each handler in turn, so that every one of them is hit.
                let hit = if maker.falls(self.hot) { 0 } else { handler % self.handlers };
                handler += 1;
                let mut root = maker.entry("web", Does::Serve(format!("/r{hit}")), at);
                while maker.falls(self.giant) && Shard::of_trace(TraceId(root.trace), self.shards).index() != 0 {
                    root = maker.entry("web", Does::Serve(format!("/r{hit}")), at);
                }
                let children =
                    (0..3).map(|n| maker.child(&root, "web", Does::Work("work".to_owned()), n * SECOND_NS / 10));
                all.extend(children.collect::<Vec<_>>());
                all.push(root);
            }
            bucket.put(&format!("inbox/{:016x}.binpb", maker.pick(0, i64::MAX)), object(&all, Form::GzipProto));
        }
    }
}

/// Work by worker.
struct Shares {
    what: String,
    work: Vec<u64>,
    items: Vec<u64>,
}

impl Shares {
    /// Items, rows and bytes of a stage.
    fn all(stage: &str, reports: &[StageReport]) -> [Self; 3] {
        let of =
            |what, work: fn(&StageReport) -> u64| Self::of(&format!("{stage}: {what}"), reports, work, &done(reports));
        [of("items", |r| r.done), of("rows", |r| r.rows_in), of("bytes", |r| r.bytes_in)]
    }

    fn of(what: &str, done: &[StageReport], work: impl Fn(&StageReport) -> u64, items: &[u64]) -> Self {
        Self { what: what.to_owned(), work: done.iter().map(work).collect(), items: items.to_vec() }
    }

    fn total(&self) -> u64 {
        self.work.iter().sum()
    }

    /// The most that one worker has, by the mean.
    fn most(&self) -> f64 {
        let most = *self.work.iter().max().unwrap();
        most as f64 * self.work.len() as f64 / self.total().max(1) as f64
    }

    /// Says so if somebody has more than 1.3 times the mean, and more than one item. Rows, bytes, documents, deletes: items
    /// alone say nothing of work.
    fn uneven(&self) -> Option<String> {
        let (at, _) = self.work.iter().enumerate().max_by_key(|(_, work)| **work).unwrap();
        let is_even = self.what.ends_with(": items") || self.most() <= 1.3 || self.items[at] <= 1;
        (!is_even).then(|| format!("{}: {:?} of {:?} items", self.what, self.work, self.items))
    }
}

fn done(reports: &[StageReport]) -> Vec<u64> {
    reports.iter().map(|report| report.done).collect()
}

/// One round of `step` by all at once.
async fn wave(boots: &[Boot], step: Step) -> Vec<StageReport> {
    let rounds = join_all(boots.iter().map(|boot| boot.while_beating(boot.step(step)))).await;
    let reports: Vec<StageReport> = rounds.into_iter().map(Result::unwrap).collect();
    for report in &reports {
        assert!(report.failed.is_empty(), "{:?}", report.failed);
    }
    reports
}

/// Stays away for `time`; then everybody beats before going on.
async fn later(boots: &[Boot], time: SignedDuration) {
    pass(time).await;
    for boot in boots {
        boot.heart.beat(&boot.store).await.unwrap();
    }
}

/// Whose call it is.
fn rank(call: &Call) -> usize {
    call.client.trim_start_matches('w').parse().unwrap()
}

async fn shares(backlog: Backlog) -> Vec<Shares> {
    let bucket = Bucket::new(Clock::simulated("2026-11-20T10:59:00Z".parse().unwrap(), 1), 1000);
    let shards = Timeline::always(backlog.shards);
    let settings = Settings { shards, keep_last: backlog.keep_last, max_handlers: 10_000, ..Settings::default() };
    let calm = farm::store(&bucket.client("calm", Box::new(|_| Default::default())), bucket.clock());
    calm.create(&Key::Settings(1), serde_json::to_vec(&settings).unwrap().into()).await.unwrap();
    backlog.fill(&bucket);
    let mut boots = Vec::new();
    for rank in 0..WORKERS {
        let client = bucket.client(&format!("w{rank}"), Faults::CALM.script(rank as u64));
        let mut boot = Boot::start(&client, &format!("w{rank}"), bucket.clock()).await.unwrap();
        (boot.round.rank, boot.round.peers, boot.desk.once) = (rank, WORKERS, true);
        boots.push(boot);
    }
    let mut shares = Vec::new();

    let indexed = wave(&boots, Step::Index).await;
    shares.extend(Shares::all("index", &indexed));
    assert_eq!(shares[1].total(), backlog.traces * 4, "nothing twice");

    later(&boots, SignedDuration::from_secs(2)).await;
    let merged = wave(&boots, Step::Compact).await;
    shares.extend(Shares::all("compact", &merged));
    assert_eq!(shares[4].total(), backlog.traces * 5, "each span, and each entry, once");

    later(&boots, SignedDuration::from_mins(11)).await;
    let swept = wave(&boots, Step::Compact).await;
    shares.push(Shares::of("compact: deletes", &swept, |r| r.deleted, &done(&swept)));

    let pages = Arc::new(Mutex::new([[0; 2]; WORKERS]));
    let seen = pages.clone();
    bucket.watch(move |call, objects| {
        let of_farm = ["site/handlers.json", "site/farm.json", "site/index.html", "site/assets/"];
        let is_page = call.path.starts_with("site/") && !of_farm.iter().any(|path| call.path.starts_with(path));
        if let (CallKind::Put, true, Some(page)) = (call.kind, is_page, objects.get(&call.path)) {
            let [many, bytes] = &mut seen.lock().unwrap()[rank(call)];
            (*many, *bytes) = (*many + 1, *bytes + page.body.len() as u64);
        }
    });
    wave(&boots, Step::Publish).await;
    bucket.watch(|_, _| {});
    let pages = *pages.lock().unwrap();
    let parts = vec![u64::from(backlog.shards).div_ceil(WORKERS as u64); WORKERS];
    shares.push(Shares {
        what: "publish: pages".to_owned(),
        work: pages.map(|[many, _]| many).to_vec(),
        items: parts.clone(),
    });
    shares.push(Shares {
        what: "publish: bytes".to_owned(),
        work: pages.map(|[_, bytes]| bytes).to_vec(),
        items: parts,
    });

    if !backlog.expires {
        return shares;
    }
    later(&boots, SignedDuration::from_hours(24 * 7 + backlog.hours)).await;
    // When an hour of a shard has its pins, a document says so: one an item.
    let hours = Arc::new(Mutex::new(vec![0; WORKERS]));
    let seen = hours.clone();
    bucket.watch(move |call, _| {
        if call.kind == CallKind::Put && call.path.starts_with("farm/pinned/") {
            seen.lock().unwrap()[rank(call)] += 1;
        }
    });
    let expired = wave(&boots, Step::Expire).await;
    let hours = hours.lock().unwrap().clone();
    shares.push(Shares { what: "expire: items".to_owned(), work: hours.clone(), items: hours.clone() });
    shares.push(Shares::of("expire: pins", &expired, |r| r.done, &hours));
    shares.push(Shares::of("expire: bytes", &expired, |r| r.bytes_out, &hours));
    shares
}

fn print(name: &str, shares: &[Shares]) {
    println!("\n{name}\n{:<18}{:>12}{:>9}  by worker", "", "all", "most");
    for share in shares {
        let by_worker: BTreeMap<usize, u64> = share.work.iter().copied().enumerate().collect();
        println!("{:<18}{:>12}{:>9.2}  {:?}", share.what, share.total(), share.most(), by_worker.values());
    }
}

#[rstest]
fn what_is_hot_is_shared_out(#[values(1, 4, 16)] shards: u16) {
    let even =
        Backlog { shards, handlers: 400, traces: 3_000, hours: 4, hot: 0.0, giant: 0.0, keep_last: 3, expires: true };
    let cases = [
        ("one handler has nine tenths of the traffic", Backlog { hot: 0.9, ..even }),
        ("one shard is far larger than the others", Backlog { giant: 0.8, ..even }),
    ];
    let mut uneven = Vec::new();
    for (name, backlog) in cases {
        let shares = farm::simulate(shares(backlog));
        print(&format!("{name}, {shards} shards"), &shares);
        uneven.extend(shares.iter().filter_map(|share| share.uneven()).map(|what| format!("{name}: {what}")));
    }
    assert_eq!(uneven, [""; 0]);
}

#[test]
fn ten_thousand_handlers_are_shared_out() {
    let shards = 16;
    let backlog = Backlog {
        shards,
        handlers: 10_000,
        traces: 10_000,
        hours: 4,
        hot: 0.0,
        giant: 0.0,
        keep_last: 10,
        expires: false,
    };
    let shares = farm::simulate(shares(backlog));
    print(&format!("10,000 handlers, {shards} shards"), &shares);
    assert_eq!(shares.iter().filter_map(Shares::uneven).collect::<Vec<_>>(), [""; 0]);
}
