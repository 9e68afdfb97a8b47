//! Runs drawn from a seed: everything that can come together, together.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use tracefarm::clock::Clock;
use tracefarm::farm::peers::Provider;
use tracefarm::farm::worker::{Archive, Options, Worker};
use tracefarm::model::WorkerName;
use tracefarm::store::fault::Faults;

use super::farm::{self, Boot, STEPS, Step};
use super::spans::{FORMS, HOUR_NS, Made, Maker, SECOND_NS, object};
use super::world::World;

/// A day with lost answers, cut bodies, slow calls.
const ROUGH: Faults = Faults {
    latency_from_ms: 1.0,
    latency_to_ms: 3_000.0,
    fail_before: 0.01,
    fail_after: 0.01,
    cut: 0.01,
    crash: 0.0,
    freeze: 0.0,
    freeze_at_most: Duration::ZERO,
};

/// A day on which workers die and machines stand still for up to an hour, too.
const STORM: Faults = Faults {
    fail_before: 0.02,
    fail_after: 0.02,
    cut: 0.02,
    crash: 0.004,
    freeze: 0.006,
    freeze_at_most: Duration::from_secs(3600),
    ..ROUGH
};

/// Somebody who writes to the inbox.
struct Collector {
    maker: Maker,
    handlers: i64,
    /// Spans that come later.
    held: Vec<Made>,
    /// What was written, to be written again.
    written: Vec<(String, Vec<Made>)>,
}

impl Collector {
    /// Writes an object or several, of now and of hours ago.
    fn write(&mut self, world: &World) {
        let maker = &mut self.maker;
        let now = world.now();
        let mut spans = Vec::new();
        for _ in 0..maker.pick(1, 4) {
            let back = match maker.pick(0, 12) {
                0 => maker.pick(0, 12 * 3600),
                1..4 => maker.pick(0, 3 * 3600),
                _ => maker.pick(0, 300),
            };
            for made in maker.trace(now - SignedDuration::from_secs(back), self.handlers) {
                if maker.falls(0.2) { self.held.push(made) } else { spans.push(made) }
            }
        }
        while !self.held.is_empty() && maker.falls(0.5) {
            let at = maker.pick(0, self.held.len() as i64) as usize;
            spans.push(self.held.swap_remove(at));
        }
        if maker.falls(0.1) {
            spans.push(odd(maker, now));
        }
        if maker.falls(0.2)
            && let Some(of) = spans.iter().find(|made| made.is_entry()).cloned()
        {
            // It comes in another object, maybe before the first content.
            let revision = maker.revision(&of);
            self.held.push(revision);
        }
        let form = FORMS[maker.pick(0, 4) as usize];
        let path = world.arrive(&spans, form);
        if maker.falls(0.2) {
            // An export that was tried again: the same spans, or some of them, under another name.
            let some = spans.iter().filter(|_| maker.falls(0.7)).cloned().collect::<Vec<_>>();
            world.arrive(&some, FORMS[maker.pick(0, 4) as usize]);
        }
        if maker.falls(0.1) {
            // The same bytes under the same name: the client did not hear the first answer.
            world.arrive_at(&path, object(&spans, form), &spans);
        }
        if maker.falls(0.1) {
            let number = maker.pick(0, 1000);
            world.garbage(&format!("inbox/junk/{number}.json"), format!("{{\"no\": {number}").as_bytes());
        }
        self.written.push((path, spans));
        if maker.falls(0.1) {
            let (_, spans) = self.written[maker.pick(0, self.written.len() as i64) as usize].clone();
            world.arrive(&spans, FORMS[maker.pick(0, 4) as usize]);
        }
    }
}

/// A span whose times are impossible.
fn odd(maker: &mut Maker, now: Timestamp) -> Made {
    let mut odd = maker.entry("odd", super::spans::Does::Serve("/odd".to_owned()), now);
    let now_ns = now.as_nanosecond() as i64;
    match maker.pick(0, 4) {
        0 => (odd.start_ns, odd.end_ns) = (0, 0),
        1 => (odd.start_ns, odd.end_ns) = (now_ns / 1_000_000, now_ns / 1_000_000 + 5),
        2 => odd.start_ns = 4_291_000_000 * SECOND_NS,
        _ => (odd.start_ns, odd.end_ns) = (now_ns + 30 * HOUR_NS, now_ns + 31 * HOUR_NS),
    }
    odd
}

/// What a run is like, all of it drawn from its seed.
#[derive(Clone, Debug)]
struct Weather {
    workers: u64,
    faults: Faults,
    phases: i64,
}

/// One whole run.
pub fn run(seed: u64) {
    farm::simulate(async {
        let mut maker = Maker::new(seed);
        let start: Timestamp = "2026-11-20T00:00:00Z".parse().unwrap();
        let start = start + SignedDuration::from_secs(maker.pick(0, 2 * 24 * 3600));
        let page_size = [2, 3, 10, 1000][maker.pick(0, 4) as usize];
        let mut world = World::new(seed, start, page_size);
        world.file_bytes = [1, 3 << 10, 1 << 30][maker.pick(0, 3) as usize];
        let weather = Weather {
            workers: maker.pick(1, 4) as u64,
            faults: [Faults::CALM, ROUGH, STORM, STORM][maker.pick(0, 4) as usize].clone(),
            phases: maker.pick(2, 6),
        };
        let shards = ["1", "1", "4"][maker.pick(0, 3) as usize];
        let keep_for = format!("{}h", maker.pick(3, 30));
        let keep_last = maker.pick(1, 4).to_string();
        let grace = ["2m", "10m"][maker.pick(0, 2) as usize];
        let batch_bytes = ["1MiB", "128MiB"][maker.pick(0, 2) as usize];
        world
            .set(&[
                ("shards", shards),
                ("keep_for", &keep_for),
                ("keep_last", &keep_last),
                ("grace", grace),
                ("batch_bytes", batch_bytes),
                ("settle", "1s"),
            ])
            .await;

        let handlers = maker.pick(1, 4);
        let mut collector =
            Collector { maker: Maker::new(seed ^ 0xc011), handlers, held: Vec::new(), written: Vec::new() };
        for phase in 0..weather.phases {
            work(&world, &weather, &mut maker, &mut collector, phase).await;
            if world.is_wrong() {
                break;
            }
            between(&world, &mut maker).await;
        }
        if !world.is_wrong() {
            world.rest(seed).await;
        }
        world.verdict(&format!("seed {seed}"));
    });
}

/// Workers and collectors at once for some minutes.
async fn work(world: &World, weather: &Weather, maker: &mut Maker, collector: &mut Collector, phase: i64) {
    let workers = (0..weather.workers).map(|n| {
        let seed = maker.pick(0, i64::MAX) as u64;
        worker(world, weather, format!("w{n}"), seed, n, phase)
    });
    let workers = futures::future::join_all(workers.collect::<Vec<_>>());
    let collecting = async {
        for _ in 0..collector.maker.pick(1, 6) {
            collector.write(world);
            let pause = collector.maker.pick(1, 120_000) as u64;
            world.bucket.clock().sleep(Duration::from_millis(pause)).await;
        }
    };
    let reading = reader(world, &weather.faults, maker.pick(0, i64::MAX) as u64);
    let working = async { futures::join!(workers, collecting) };
    // Somebody reads as long as there is work.
    futures::future::select(std::pin::pin!(working), std::pin::pin!(reading)).await;
}

/// Somebody who reads one trace after the other.
async fn reader(world: &World, faults: &Faults, seed: u64) {
    let mut maker = Maker::new(seed);
    // People do not die in the middle of a command, or nobody waits for its answer then.
    let faults = Faults { crash: 0.0, ..faults.clone() };
    let client = world.bucket.client("r", faults.script(seed));
    let clock = Clock::simulated(world.now(), seed);
    let reading = async {
        loop {
            if let Ok(reader) = farm::reader(&client, &clock).await {
                for _ in 0..5 {
                    let traces: Vec<_> = world.model(|model| model.traces()).into_iter().collect();
                    if !traces.is_empty() {
                        world.read(&reader, traces[maker.pick(0, traces.len() as i64) as usize]).await;
                    }
                    clock.sleep(Duration::from_millis(maker.pick(1, 30_000) as u64)).await;
                }
            } else {
                clock.sleep(Duration::from_secs(1)).await;
            }
        }
    };
    client.live(reading).await;
    // Only frozen lives end here, and they do not end.
    std::future::pending::<()>().await;
}

/// What a worker believes of the others.
#[derive(Clone, Copy)]
enum Peers {
    /// It does everything.
    Alone,
    /// It does its part.
    Agree,
    /// Each time something else: two claim one part, nobody claims another for a while.
    Disagree,
}

/// One logical worker through some lives: it does rounds of stages in any order, as a farm's would, until it has done
/// enough or died often enough.
async fn worker(world: &World, weather: &Weather, name: String, seed: u64, rank: u64, phase: i64) {
    let mut maker = Maker::new(seed);
    let skew = [0, 0, -3600, 3 * 3600, 30 * 24 * 3600, -400 * 24 * 3600][maker.pick(0, 6) as usize];
    let peers = [Peers::Alone, Peers::Agree, Peers::Disagree][maker.pick(0, 3) as usize];
    for life in 0..3 {
        let clock = Clock::simulated(world.now() + SignedDuration::from_secs(skew), seed ^ life);
        let label = format!("{name}{}", char::from(b'a' + (phase as u8 * 3 + life as u8) % 26));
        let client = world.bucket.client(&label, weather.faults.clone().script(seed ^ life));
        let steps: Vec<(Step, u64)> = (0..maker.pick(4, 16))
            .map(|_| (STEPS[maker.pick(0, STEPS.len() as i64) as usize], maker.pick(1, 60_000) as u64))
            .collect();
        let once = maker.falls(0.3);
        let memory_bytes = [8 << 20, 64 << 20][maker.pick(0, 2) as usize];
        let lived = client.live(async {
            let mut boot = Boot::start(&client, &name, &clock).await?;
            (boot.desk.once, boot.desk.file_bytes, boot.desk.memory_bytes) = (once, world.file_bytes, memory_bytes);
            let (heart, store) = (boot.heart.clone(), boot.store.clone());
            let work = async {
                let mut read = clock.monotonic();
                for (step, pause) in steps {
                    // Errors are what faults make of it; another round tries again.
                    if clock.monotonic() - read > Duration::from_secs(60) && boot.refresh().await.is_ok() {
                        read = clock.monotonic();
                    }
                    (boot.round.rank, boot.round.peers) = match peers {
                        Peers::Alone => (0, 1),
                        Peers::Agree => (rank as usize, weather.workers as usize),
                        Peers::Disagree => {
                            let peers = maker.pick(1, 5);
                            (maker.pick(0, peers) as usize, peers as usize)
                        }
                    };
                    let _ = boot.step(step).await;
                    clock.sleep(Duration::from_millis(pause)).await;
                }
            };
            farm::while_beating(&heart, &store, work).await;
            heart.remove(&store).await
        });
        if lived.await.is_some_and(|ended| ended.is_ok()) || world.is_wrong() {
            return;
        }
        world.bucket.clock().sleep(Duration::from_millis(maker.pick(1, 90_000) as u64)).await;
    }
}

/// Whole workers, in their own loop, for some hours: they start, die and stand still whenever they do.
pub fn looping(seed: u64) {
    farm::simulate(async {
        let mut maker = Maker::new(seed);
        let start: Timestamp = "2026-11-20T10:50:00Z".parse().unwrap();
        let world = World::new(seed, start, [3, 10, 1000][maker.pick(0, 3) as usize]);
        let shards = ["1", "4"][maker.pick(0, 2) as usize];
        world.set(&[("shards", shards), ("keep_for", "3h"), ("keep_last", "2"), ("grace", "5m")]).await;
        let faults = [ROUGH, STORM][maker.pick(0, 2) as usize].clone();
        let stop = CancellationToken::new();
        let workers = (0..maker.pick(1, 4)).map(|n| looper(&world, &faults, n, maker.pick(0, i64::MAX) as u64, &stop));
        let workers = futures::future::join_all(workers.collect::<Vec<_>>());
        let collecting = async {
            let mut collector =
                Collector { maker: Maker::new(seed ^ 0xc011), handlers: 3, held: Vec::new(), written: Vec::new() };
            for _ in 0..20 {
                collector.write(&world);
                let pause = collector.maker.pick(1, 1_200) as u64;
                world.bucket.clock().sleep(Duration::from_secs(pause)).await;
                if collector.maker.falls(0.2) {
                    people(&world, &mut collector.maker).await;
                }
                if world.is_wrong() {
                    break;
                }
            }
            stop.cancel();
        };
        futures::join!(workers, collecting);
        if !world.is_wrong() {
            world.rest(seed).await;
        }
        world.verdict(&format!("looping, seed {seed}"));
    });
}

/// One worker, started again whenever it ends before it is told to.
async fn looper(world: &World, faults: &Faults, n: i64, seed: u64, stop: &CancellationToken) {
    let mut maker = Maker::new(seed);
    let skew = [0, 0, -3600, 30 * 24 * 3600][maker.pick(0, 4) as usize];
    let faults = Faults { crash: faults.crash / 4.0, ..faults.clone() };
    for life in 0.. {
        let clock = Clock::simulated(world.now() + SignedDuration::from_secs(skew), seed ^ life);
        let client = world.bucket.client(&format!("w{n}-{life}"), faults.clone().script(seed ^ life));
        let name: WorkerName = format!("w{n}").parse().unwrap();
        // Half of the lives go by a list of their own, that names some who are, some who are not, and itself.
        let peers = match maker.falls(0.5) {
            true => Provider::Store,
            false => {
                let others = (0..5).filter(|_| maker.falls(0.5)).map(|n| format!("w{n}").parse().unwrap());
                Provider::Static(others.chain([name.clone()]).collect())
            }
        };
        let options = Options { archive: Archive::Expire, peers, ..Options::new(name) };
        let worker = Worker::new(farm::store(&client, &clock), clock, options);
        // It may give up: whoever supervises it starts another.
        let _ = client.live(worker.run(stop)).await;
        if stop.is_cancelled() || world.is_wrong() {
            return;
        }
        world.bucket.clock().sleep(Duration::from_secs(maker.pick(1, 300) as u64)).await;
    }
}

/// Time passes, people change things.
async fn between(world: &World, maker: &mut Maker) {
    people(world, maker).await;
    let minutes = [0, 1, 15, 60, 180, 720, 2 * 24 * 60][maker.pick(0, 7) as usize];
    farm::pass(SignedDuration::from_mins(minutes)).await;
}

/// People change settings, have a trace forgotten, or rename a handler.
async fn people(world: &World, maker: &mut Maker) {
    match maker.pick(0, 8) {
        0 => world.set(&[("keep_last", &maker.pick(1, 5).to_string())]).await,
        1 => world.set(&[("shards", ["1", "2", "4"][maker.pick(0, 3) as usize])]).await,
        2 => world.set(&[("keep_for", &format!("{}h", maker.pick(3, 30)))]).await,
        3 | 4 => {
            let traces: Vec<_> = world.model(|model| model.traces()).into_iter().collect();
            if !traces.is_empty() {
                world.forget(traces[maker.pick(0, traces.len() as i64) as usize]).await;
            }
        }
        5 => world.rename().await,
        _ => {}
    }
}

/// Readers all the time, while workers merge small files and sweep as fast as they may.
pub fn reading(seed: u64) {
    farm::simulate(async {
        let mut maker = Maker::new(seed);
        let start: Timestamp = "2026-11-20T10:50:00Z".parse().unwrap();
        let mut world = World::new(seed, start, maker.pick(2, 5) as usize);
        world.file_bytes = 1;
        let shards = ["1", "2"][maker.pick(0, 2) as usize];
        world.set(&[("shards", shards), ("grace", "1m"), ("settle", "0s"), ("keep_for", "30h")]).await;
        let faults = Faults { freeze: 0.002, freeze_at_most: Duration::from_secs(300), ..SLOW };
        let over = Duration::from_secs(15 * 60);
        let mut seeds = || maker.pick(0, i64::MAX) as u64;
        let workers: Vec<_> = (0..2).map(|n| merger(&world, &faults, n, seeds())).collect();
        let readers: Vec<_> = (0..3).map(|_| reader(&world, &SLOW, seeds())).collect();
        let collecting = async {
            let mut maker = Maker::new(seed ^ 0xc011);
            while !world.is_wrong() {
                let back = SignedDuration::from_secs(maker.pick(0, 3600));
                world.arrive(&maker.trace(world.now() - back, 2), FORMS[maker.pick(0, 4) as usize]);
                world.bucket.clock().sleep(Duration::from_millis(maker.pick(1, 40_000) as u64)).await;
            }
        };
        let all = async {
            futures::join!(futures::future::join_all(workers), futures::future::join_all(readers), collecting)
        };
        // They never end by themselves.
        let _ = tokio::time::timeout(over, all).await;
        if !world.is_wrong() {
            world.rest(seed).await;
        }
        world.verdict(&format!("reading, seed {seed}"));
    });
}

/// A network that takes up to two seconds for a call.
const SLOW: Faults = Faults { latency_to_ms: 2_000.0, ..Faults::CALM };

/// A worker that indexes and merges without a pause.
async fn merger(world: &World, faults: &Faults, n: u64, seed: u64) {
    let mut maker = Maker::new(seed);
    // Clocks that differ a little: names of one worker sort between those of another.
    let skew = [0, -3, 2, -3600][maker.pick(0, 4) as usize];
    let clock = Clock::simulated(world.now() + SignedDuration::from_secs(skew), seed);
    let name = format!("m{n}");
    let client = world.bucket.client(&name, faults.clone().script(seed));
    let work = async {
        let mut boot = Boot::start(&client, &name, &clock).await.unwrap();
        (boot.desk.once, boot.desk.file_bytes) = (true, world.file_bytes);
        let (heart, store) = (boot.heart.clone(), boot.store.clone());
        let work = async {
            while !world.is_wrong() {
                let _ = boot.refresh().await;
                let _ = boot.step(if maker.falls(0.3) { Step::Index } else { Step::Compact }).await;
                clock.sleep(Duration::from_millis(maker.pick(1, 5_000) as u64)).await;
            }
        };
        farm::while_beating(&heart, &store, work).await
    };
    client.live(work).await;
}
