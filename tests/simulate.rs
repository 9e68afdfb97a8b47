//! `tracefarm simulate` against real workers on a simulated store.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]
#![expect(dead_code, reason = "what the simulation has is shared, and not all of it is used here")]

#[path = "sim/farm.rs"]
mod farm;
#[path = "sim/spans.rs"]
mod spans;

use std::time::Duration;

use spans::{Does, Form, Maker, object};
use tokio::task::{LocalSet, spawn_local};
use tokio_util::sync::CancellationToken;
use tracefarm::clock::Clock;
use tracefarm::farm::Settings;
use tracefarm::farm::settings::Timeline;
use tracefarm::farm::simulate::{self, Scenario};
use tracefarm::farm::worker::{Options, Worker};
use tracefarm::store::fault::{Bucket, Fate, Incident};
use tracefarm::store::{Counts, Key, Request, Stage, Tally};

/// A farm that is small enough to be run.
#[derive(Clone, Copy)]
struct Small {
    workers: usize,
    shards: u16,
    handlers: i64,
    /// Traces of an object, one each five seconds.
    traces: u64,
    hours: u64,
}

const REQUEST_SECONDS: f64 = 0.05;

impl Small {
    /// Real workers, real data: what they asked.
    async fn run(self) -> Counts {
        let bucket = Bucket::new(Clock::simulated("2026-11-20T10:00:30Z".parse().unwrap(), 1), 1000);
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
        for n in 0..self.hours * 3600 / 5 {
            let mut all = Vec::new();
            for _ in 0..self.traces {
                let does = Does::Serve(format!("/r{}", maker.pick(0, self.handlers)));
                let root = maker.entry("web", does, bucket.now());
                let children = (1..4).map(|n| maker.child(&root, "web", Does::Work("work".to_owned()), n * 1_000_000));
                all.extend(children.collect::<Vec<_>>());
                all.push(root);
            }
            bucket.put(&format!("inbox/{:.0}-{n}.binpb", bucket.now()), object(&all, Form::GzipProto));
            bucket.clock().sleep(Duration::from_secs(5)).await;
        }
        let mut counts = Counts::default();
        for (stop, work) in hands {
            stop.cancel();
            let summary = work.await.unwrap().unwrap();
            assert!(summary.is_clean(), "{summary}");
            counts += summary.requests;
        }
        counts
    }

    fn scenario(self) -> Scenario {
        let usual = Scenario::new(self.workers, self.traces as f64 * 4.0 / 5.0, self.handlers as usize);
        let settings = Settings { shards: Timeline::always(self.shards), ..Settings::default() };
        let request_seconds = REQUEST_SECONDS;
        Scenario { trace_spans: 4.0, trace_entries: 1.0, error_rate: 0.1, cores: 1, request_seconds, settings, ..usual }
    }
}

/// What `tracefarm simulate` reckons is what real workers ask for: the price within a tenth, and so each stage and kind that
/// is a fiftieth of it.
#[rstest::rstest]
#[case::alone(Small { workers: 1, shards: 1, handlers: 30, traces: 5, hours: 2 })]
#[case::quiet(Small { workers: 1, shards: 1, handlers: 100, traces: 1, hours: 2 })]
#[case::three(Small { workers: 3, shards: 2, handlers: 30, traces: 5, hours: 2 })]
fn what_is_projected_is_what_is_asked(#[case] small: Small) {
    let real = farm::simulate(async { LocalSet::new().run_until(small.run()).await });
    let time = Duration::from_secs(small.hours * 3600);
    let projected = simulate::begin(&small.scenario(), time).unwrap();
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
                let tally = Tally { requests: many, ..Default::default() };
                Counts([(stage, [(kind, tally)].into())].into()).price_dollars()
            };
            let matters = price(asked).max(price(reckoned)) > dollars / 50.0;
            if matters && (ratio - 1.0).abs() > 0.1 {
                wrong.push(format!("{stage:?} {kind:?}: {asked} asked, {reckoned} projected"));
            }
        }
    }
    println!("${dollars:.4} asked, ${:.4} projected", projected.price_dollars());
    assert_eq!(wrong, [""; 0]);
    assert!((projected.price_dollars() / dollars - 1.0).abs() < 0.1);
}
