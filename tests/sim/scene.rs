//! Scripted interleavings: one worker is stopped at each of its calls in turn, for good or for a while, and others do
//! something meanwhile. That is every interleaving with one switch, on the real code.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::{SignedDuration, Timestamp};
use tracefarm::clock::Clock;
use tracefarm::store::fault::{Client, Fate, Gate, Incident, Script};

use super::farm::{self, Boot, Step};
use super::spans::{Does, Form, Made, Maker};
use super::world::{World, calm};

/// How a worker is stopped at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The call hangs; the worker's heart goes on beating.
    Hang,
    /// The whole worker stands still: when it goes on it believes that no time has passed.
    Freeze,
    /// It dies.
    Crash,
    /// The call fails, and the worker makes of it what it does.
    Fail,
}

/// Where it is stopped.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// At which call, from 1.
    pub call: u64,
    /// After the effect, or before it.
    pub after: bool,
    pub stop: Stop,
}

/// One play of a scene.
pub struct Scene {
    pub world: World,
    pub maker: Maker,
    place: Place,
    /// Among how many the work is shared out: the worker that is stopped is the last of them …
    pub peers: usize,
    /// … and the others take themselves for this one.
    pub rank: usize,
    /// What the clocks of lives say when they begin. Without it each is behind that of the life before, so that what it
    /// writes sorts before what is there.
    pub clocks_say: Option<Timestamp>,
    /// Whether the call was ever made.
    reached: bool,
    /// Whether it has failed.
    failed: Arc<AtomicBool>,
    lives: u64,
}

/// Plays `scene`, in a store of so many `shards`, once for each place: every `stride`th call of the worker that it
/// interleaves.
pub fn every_place(name: &str, shards: u16, stride: u64, scene: impl AsyncFn(&mut Scene)) {
    let mut played = 0;
    for stop in [Stop::Hang, Stop::Freeze, Stop::Crash, Stop::Fail] {
        for after in [false, true] {
            // Not all begin with the first call, so that a coarse sweep meets them all between its kinds.
            let first = 1 + (stop as u64 * 2 + u64::from(after)) % stride;
            for call in (first..).step_by(stride as usize) {
                let place = Place { call, after, stop };
                played += 1;
                if !play(name, shards, place, &scene) {
                    break;
                }
            }
        }
    }
    assert!(played > 8, "{name}: the worker that is to be interleaved makes no calls");
}

/// Whether the place was reached.
fn play(name: &str, shards: u16, place: Place, scene: &impl AsyncFn(&mut Scene)) -> bool {
    farm::simulate(async {
        let start: Timestamp = "2026-11-20T10:20:00Z".parse().unwrap();
        let mut world = World::new(place.call, start, 2);
        // Merges of one file, and of as many as there are traces or handlers.
        world.file_bytes = if place.call.is_multiple_of(2) { 1 } else { 1 << 30 };
        // Two traces a handler, three hours, ten minutes of grace: small enough for everything to happen.
        let shards = shards.to_string();
        let settings =
            [("shards", shards.as_str()), ("keep_for", "3h"), ("keep_last", "2"), ("grace", "10m"), ("settle", "0s")];
        world.set(&settings).await;
        let maker = Maker::new(7);
        let mut play = Scene {
            world,
            maker,
            place,
            peers: 1,
            rank: 0,
            clocks_say: None,
            reached: false,
            failed: Arc::default(),
            lives: 0,
        };
        // On the heap, as what follows: unoptimised, each of these futures is laid on the stack several times over.
        Box::pin(scene(&mut play)).await;
        if !play.world.is_wrong() {
            play.world.rest(place.call).await;
        }
        play.world.verdict(&format!("{name} at {place:?}"));
        play.reached
    })
}

impl Scene {
    /// An entry span of a handler, so many minutes ago.
    pub fn entry(&mut self, route: &str, minutes_ago: i64) -> Made {
        let time = self.world.now() - SignedDuration::from_mins(minutes_ago);
        self.maker.entry("web", Does::Serve(route.to_owned()), time)
    }

    /// A span of another's trace, without an entry, so many minutes after it.
    pub fn child(&mut self, of: &Made, minutes_after: i64) -> Made {
        self.maker.child(of, "web", Does::Work("work".to_owned()), minutes_after * 60_000_000_000 + 5_000_000)
    }

    /// An object arrives.
    pub fn arrive(&self, spans: &[&Made]) -> String {
        let spans: Vec<Made> = spans.iter().map(|made| (*made).clone()).collect();
        self.world.arrive(&spans, Form::GzipProto)
    }

    pub async fn minutes(&self, minutes: i64) {
        farm::pass(SignedDuration::from_mins(minutes)).await;
    }

    /// Four traces in an hour of level 1, a file each, two more in level 0. What a merge writes from now on has names that
    /// sort among those that are there, in any order.
    pub async fn runs_of_several_files(&mut self) -> Vec<Made> {
        self.world.file_bytes = 1;
        self.clocks_say = Some(self.world.now());
        let spans: Vec<_> = (0..6).map(|n| self.entry("/h", 5 + n)).collect();
        for (n, made) in spans.iter().enumerate() {
            if n == 4 {
                self.work(&[Step::Compact]).await;
                self.minutes(11).await;
                self.work(&[Step::Compact]).await;
            }
            self.arrive(&[made]);
            self.work(&[Step::Index]).await;
        }
        spans
    }

    /// A worker to which nothing happens does these rounds.
    pub async fn work(&mut self, steps: &[Step]) {
        Box::pin(self.work_at_once(steps, true)).await;
    }

    /// The same; without `once` it waits for what a loop waits for.
    pub async fn work_at_once(&mut self, steps: &[Step], once: bool) {
        self.lives += 1;
        let name = format!("b{}", self.lives);
        let behind = SignedDuration::from_hours(self.lives as i64);
        let wall = self.clocks_say.unwrap_or(self.world.now() - behind);
        let clock = Clock::simulated(wall, self.place.call << 8 | self.lives);
        let client = calm(&self.world.bucket, &name);
        let mut boot = Boot::start(&client, &name, &clock).await.unwrap();
        (boot.desk.once, boot.desk.file_bytes) = (once, self.world.file_bytes);
        (boot.round.rank, boot.round.peers) = (self.rank, self.peers);
        boot.while_beating(async {
            for step in steps {
                self.world.drain(&boot, *step).await;
            }
        })
        .await;
    }

    /// A worker dies with these objects in hand, and two minutes pass.
    pub async fn dies_with(&mut self, paths: &[&str], alone: bool) {
        self.lives += 1;
        let name = format!("d{}", self.lives);
        let clock = Clock::simulated(self.world.now(), self.lives);
        let boot = Boot::start(&calm(&self.world.bucket, &name), &name, &clock).await.unwrap();
        boot.heart.hold(paths.iter().map(|path| (*path).to_owned()).collect(), alone);
        boot.heart.beat(&boot.store).await.unwrap();
        self.minutes(2).await;
    }

    /// A worker does these rounds, and is stopped at its place; `meanwhile` happens then.
    pub async fn interleave(&mut self, steps: &[Step], meanwhile: impl AsyncFnOnce(&mut Self)) {
        let gate = Gate::new();
        let client = self.world.bucket.client("mover", self.script(&gate));
        let clock = Clock::simulated(self.world.now(), 99);
        let (file_bytes, peers) = (self.world.file_bytes, self.peers);
        let mover = client.live(Box::pin(async {
            let mut boot = Boot::start(&client, "mover", &clock).await.unwrap();
            (boot.desk.once, boot.desk.file_bytes) = (true, file_bytes);
            (boot.round.rank, boot.round.peers) = (peers - 1, peers);
            boot.while_beating(async {
                for step in steps {
                    for _ in 0..20 {
                        // It may fail: what it listed is gone, or it took too long. It never panics.
                        if !boot.step(*step).await.is_ok_and(|report| report.more) {
                            break;
                        }
                    }
                }
            })
            .await;
        }));
        self.reached |= Box::pin(self.stopped(&client, &gate, mover, meanwhile)).await;
    }

    /// Somebody reads the traces of `made`, one after the other, and is stopped at the place; `meanwhile` happens then.
    /// One that is to stand still (and not one that hangs) has read them before, and so knows footers of blocks that may
    /// be gone by then.
    pub async fn read_while(&mut self, made: &[Made], meanwhile: impl AsyncFnOnce(&mut Self)) {
        if self.place.stop == Stop::Crash {
            // Readers leave nothing behind.
            return;
        }
        let gate = Gate::new();
        let client = calm(&self.world.bucket, "reader");
        let (script, knows) = (self.script(&gate), self.place.stop == Stop::Freeze);
        let clock = Clock::simulated(self.world.now(), 99);
        let world = self.world.clone();
        let reading = client.live(async {
            let reader = farm::reader(&client, &clock).await.unwrap();
            for made in made.iter().filter(|_| knows) {
                world.read(&reader, made.trace).await;
            }
            client.follow(script);
            for made in made {
                world.read(&reader, made.trace).await;
            }
        });
        self.reached |= Box::pin(self.stopped(&client, &gate, reading, meanwhile)).await;
    }

    /// Stops a client at the place, once; its first calls, by which it starts, do not count.
    fn script(&self, gate: &Gate) -> Script {
        let (place, gate, failed) = (self.place, gate.clone(), self.failed.clone());
        let mut calls = 0;
        Box::new(move |call| {
            let starts =
                ["farm/workers", "farm/settings", "farm/handlers"].iter().any(|dir| call.path.starts_with(dir));
            calls += u64::from(!starts);
            if starts || calls != place.call {
                return Fate::calm();
            }
            let incident = match place.stop {
                Stop::Hang => Incident::Hold(gate.clone()),
                Stop::Freeze => Incident::FreezeUntil(gate.clone()),
                Stop::Crash => Incident::Crash,
                Stop::Fail => {
                    failed.store(true, Ordering::Relaxed);
                    Incident::Fail
                }
            };
            if place.after { Fate::after(incident) } else { Fate::before(incident) }
        })
    }

    /// Runs `work`, and `meanwhile` when it is stopped, or has ended; whether it was stopped.
    async fn stopped<T>(
        &mut self,
        client: &Client,
        gate: &Gate,
        work: impl Future<Output = Option<T>>,
        meanwhile: impl AsyncFnOnce(&mut Self),
    ) -> bool {
        let ended = Cell::new(false);
        let work = async {
            work.await;
            ended.set(true);
        };
        let mut reached = false;
        let others = async {
            loop {
                reached |= gate.is_reached() || client.is_dead();
                if reached || ended.get() {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            meanwhile(self).await;
            gate.open();
        };
        futures::join!(work, others);
        reached | self.failed.load(Ordering::Relaxed)
    }
}
