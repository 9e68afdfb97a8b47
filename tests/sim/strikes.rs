//! An object that kills whoever decodes it, among others that do not, on a farm whose workers die of other things, too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use tracefarm::clock::Clock;
use tracefarm::farm::heartbeat::Heartbeat;
use tracefarm::farm::strikes::DEADLY;
use tracefarm::farm::worker::{Options, Worker};
use tracefarm::store::fault::{Bucket, CallKind, Fate, Faults, Incident, Script};

use super::farm;
use super::spans::{FORMS, Maker};
use super::world::World;

const MONSTER: &str = "inbox/7f/monster.bin";

/// A network that loses some answers; workers die now and then, or stand still until they look dead.
const UNKIND: Faults = Faults {
    latency_to_ms: 1_000.0,
    fail_before: 0.005,
    fail_after: 0.005,
    crash: 0.0015,
    freeze: 0.001,
    freeze_at_most: Duration::from_secs(400),
    ..Faults::CALM
};

/// How often the monster killed: with others in hand, and alone.
#[derive(Default)]
struct Deaths {
    all: AtomicU32,
    alone: AtomicU32,
}

/// One run: until the monster is out of the way.
pub fn run(seed: u64) {
    farm::simulate(async {
        let mut maker = Maker::new(seed);
        let start: Timestamp = "2026-11-20T10:50:00Z".parse().unwrap();
        let world = World::new(seed, start, [3, 1000][maker.pick(0, 2) as usize]);
        world.set(&[("keep_for", "30h"), ("grace", "5m"), ("settle", "0s")]).await;
        let faults = [Faults::CALM, UNKIND][maker.pick(0, 2) as usize].clone();
        let (stop, deaths) = (CancellationToken::new(), Arc::new(Deaths::default()));
        world.garbage(MONSTER, b"{");
        let workers = maker.pick(1, 5);
        let lives = (0..workers).map(|n| lives(&world, &faults, n, maker.pick(0, i64::MAX) as u64, &stop, &deaths));
        let lives = futures::future::join_all(lives.collect::<Vec<_>>());
        let collecting = async {
            let mut maker = Maker::new(seed ^ 0xc011);
            let until = world.now() + SignedDuration::from_hours(4);
            // Others come as long as it kills, so that each death has innocents beside it.
            while world.bucket.read(MONSTER).is_some() && world.now() < until && !world.is_wrong() {
                let trace = maker.trace(world.now(), 3);
                world.arrive(&trace, FORMS[maker.pick(0, 4) as usize]);
                world.bucket.clock().sleep(Duration::from_millis(maker.pick(1, 60_000) as u64)).await;
            }
            stop.cancel();
        };
        futures::join!(lives, collecting);
        let (all, alone) = (deaths.all.load(Ordering::Relaxed), deaths.alone.load(Ordering::Relaxed));
        if alone < DEADLY {
            world.wrong(format!("it is out of the way after {all} deaths, {alone} of them alone"));
        }
        // Each worker may have it in hand when the others die of it: once among many, once among few, and as often as is
        // needed.
        if all > (DEADLY + 2) * workers as u32 {
            world.wrong(format!("it killed {all} times, {alone} of them alone"));
        }
        world.only_in_quarantine(MONSTER);
        if !world.is_wrong() {
            world.rest(seed).await;
            world.only_in_quarantine(MONSTER);
        }
        world.verdict(&format!("strikes, seed {seed}"));
    });
}

/// A worker that is started again whenever it ends, under its name or a new one.
async fn lives(world: &World, faults: &Faults, n: i64, seed: u64, stop: &CancellationToken, deaths: &Arc<Deaths>) {
    let mut maker = Maker::new(seed);
    let same_name = maker.falls(0.5);
    for life in 0.. {
        let name = if same_name { format!("w{n}") } else { format!("w{n}-{life}") };
        let clock = Clock::simulated(world.now(), seed ^ life);
        let script = deadly(&world.bucket, faults.clone().script(seed ^ life), seed ^ life, deaths.clone());
        let client = world.bucket.client(&name, script);
        let options = Options::new(name.parse().unwrap());
        let worker = Worker::new(farm::store(&client, &clock), clock, options);
        let _ = client.live(worker.run(stop)).await;
        if stop.is_cancelled() || world.is_wrong() {
            return;
        }
        world.bucket.clock().sleep(Duration::from_secs(maker.pick(1, 120) as u64)).await;
    }
}

/// Whoever has fetched the monster and named it decodes it, and writes nothing any more. Who gives strikes dies at it now
/// and then, before or after one is written.
fn deadly(bucket: &Bucket, mut others: Script, seed: u64, deaths: Arc<Deaths>) -> Script {
    let (bucket, mut maker) = (bucket.clone(), Maker::new(seed));
    let (mut fetched, mut heartbeat) = (false, String::new());
    Box::new(move |call| {
        if call.path.starts_with("farm/workers/") && call.kind == CallKind::Put {
            heartbeat.clone_from(&call.path);
        }
        if fetched && call.kind == CallKind::Put {
            let says = bucket.read(&heartbeat).map(|stored| serde_json::from_slice::<Heartbeat>(&stored.body).unwrap());
            if let Some(says) = says.filter(|says| says.in_hand.iter().any(|path| path == MONSTER)) {
                deaths.all.fetch_add(1, Ordering::Relaxed);
                deaths.alone.fetch_add(u32::from(says.alone), Ordering::Relaxed);
                return Fate::before(Incident::Crash);
            }
        }
        fetched |= call.path == MONSTER && call.kind == CallKind::Get;
        if call.path.starts_with("farm/strikes/") && call.kind == CallKind::Put && maker.falls(0.2) {
            let side = if maker.falls(0.5) { Fate::before } else { Fate::after };
            return side(Incident::Crash);
        }
        others(call)
    })
}
