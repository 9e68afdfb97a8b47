//! What a run of a worker is doing and has done: one memory, from which heartbeats, metrics, health checks and the
//! summary at its end are made.
//!
//! The loop tells it what happens, everybody else only asks, and it decides nothing. Asking costs no request.

mod memory;
mod vitals;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{civil, tz::TimeZone};

pub use self::memory::Memory;
pub use self::vitals::{Backlog, Failing, Spent, Vitals};
use super::worker::{Failed, Kind, StageSummary, Summary};
use crate::clock::Clock;
use crate::error::Result;
use crate::stage::{Setbacks, StageReport};
use crate::store::{Counts, Object, Request, Stage, Store};

/// The item of a round that could do nothing.
const WHOLE_ROUND: &str = "everything";

/// The memory of a run. Clones share it.
#[derive(Clone)]
pub struct Record {
    clock: Clock,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    began: Duration,
    /// The stores that count requests, and what each had counted when the run began: the farm's, and an inbox elsewhere.
    stores: Vec<(Store, Counts)>,
    /// My rank among so many peers.
    rank: Option<usize>,
    peers: usize,
    most_peers: usize,
    in_hand: Option<Stage>,
    stages: BTreeMap<&'static str, StageSummary>,
    failed: BTreeMap<(&'static str, String), Failed>,
    traces: u64,
    /// Hashes of the ids of handlers that were hit.
    handlers: HashSet<u64>,
    backlog: Option<Backlog>,
    failing_cycles: u32,
    /// Cycles that have ended.
    cycles: u64,
    watch: Watch,
    /// A day (UTC), and what had been spent when it began.
    day: Option<(civil::Date, Spent)>,
}

/// What those who judge whether the worker lives go by; times are [`Clock::monotonic`]'s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// When the run began.
    pub began: Duration,
    /// When the watchdog looked last; none before the work begins.
    pub looked: Option<Duration>,
    /// When it last saw something move.
    pub moved: Duration,
    /// When my last heartbeat was written; none before the first.
    pub beat: Option<Duration>,
    /// Cycles in a row that failed.
    pub failing_cycles: u32,
    /// The stage in hand.
    pub in_hand: Option<Stage>,
}

/// How long a round took.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// By the clock.
    pub wall: Duration,
    /// Of all processors.
    pub processor: Duration,
}

impl Record {
    /// Of a run that has not begun.
    pub fn new(clock: Clock) -> Self {
        let state = State { began: clock.monotonic(), ..State::default() };
        Self { clock, state: Arc::new(Mutex::new(state)) }
    }

    /// A run begins, on `store` with `inbox`; what was before is forgotten.
    pub fn begin(&self, store: &Store, inbox: &Store) {
        let counted = |store: &Store| (store.clone(), store.meter().snapshot());
        let mut stores = vec![counted(store)];
        if inbox.url() != store.url() {
            stores.push(counted(inbox));
        }
        *self.lock() = State { began: self.clock.monotonic(), stores, ..State::default() };
    }

    /// I am the `rank`th (from 0) of so many peers, or (not yet) one of them.
    pub fn placed(&self, rank: Option<usize>, peers: usize) {
        let mut state = self.lock();
        (state.rank, state.peers) = (rank, peers);
        state.most_peers = state.most_peers.max(peers);
    }

    /// A round of `stage` begins.
    pub fn begins(&self, stage: Stage) {
        self.lock().in_hand = Some(stage);
    }

    /// A round of `stage` is over, with a report unless it could do nothing.
    pub fn add(&self, stage: Stage, time: Took, report: Result<StageReport>, setbacks: &Setbacks) {
        let now = self.clock.wall();
        let mut state = self.lock();
        let state = &mut *state;
        state.in_hand = None;
        let stage = stage.name();
        let sum = state.stages.entry(stage).or_default();
        sum.rounds += 1;
        sum.seconds += time.wall.as_secs_f64();
        sum.cpu_seconds += time.processor.as_secs_f64();
        let whole = (stage, WHOLE_ROUND.to_owned());
        let report = match report {
            Ok(report) => report,
            Err(why) => {
                sum.failed_rounds += 1;
                let again = state.failed.remove(&whole);
                state.failed.insert(whole, Failed::again(again, stage, WHOLE_ROUND, why.to_string(), now));
                return;
            }
        };
        sum.add(&report);
        state.traces += report.traces;
        state.handlers.extend(report.handlers);
        // What failed before and is not waiting for another try has been done, or is gone.
        state.failed.retain(|(of, item), _| *of != stage || setbacks.times(item) > 0);
        let mut failures: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for failure in report.failed {
            failures.entry(failure.item).or_default().push(failure.report.to_string());
        }
        // Parts of one item may have failed each for itself.
        for (item, whys) in failures {
            let again = state.failed.remove(&(stage, item.clone()));
            let failed = Failed::again(again, stage, &item, whys.join("; "), now);
            state.failed.insert((stage, item), failed);
        }
    }

    /// So much waits in the inbox, as a listing has just shown.
    pub fn waits(&self, backlog: Backlog) {
        self.lock().backlog = Some(backlog);
    }

    /// Of what waits, `object` is done.
    pub fn indexed(&self, object: &Object) {
        if let Some(backlog) = &mut self.lock().backlog {
            backlog.leave(object);
        }
    }

    /// A cycle is over; so many in a row have failed.
    pub fn cycled(&self, failing: u32) {
        let mut state = self.lock();
        (state.failing_cycles, state.cycles) = (failing, state.cycles + 1);
    }

    /// How many cycles have ended.
    pub fn cycles(&self) -> u64 {
        self.lock().cycles
    }

    /// The watchdog looked, and something had moved `since` then.
    pub fn watched(&self, since: Duration) {
        let now = self.clock.monotonic();
        let mut state = self.lock();
        (state.watch.looked, state.watch.moved) = (Some(now), since);
    }

    /// My heartbeat was written.
    pub fn beat(&self) {
        let now = self.clock.monotonic();
        self.lock().watch.beat = Some(now);
    }

    /// What those who judge go by.
    pub fn watch(&self) -> Watch {
        let state = self.lock();
        Watch { began: state.began, failing_cycles: state.failing_cycles, in_hand: state.in_hand, ..state.watch }
    }

    /// What the next heartbeat says.
    pub fn vitals(&self) -> Vitals {
        let today = self.clock.wall().to_zoned(TimeZone::UTC).date();
        let mut state = self.lock();
        let spent = state.spent();
        if state.day.is_none_or(|(day, _)| day != today) {
            // A run that began today began with nothing.
            let before = if state.day.is_none() { Spent::default() } else { spent };
            state.day = Some((today, before));
        }
        let before = state.day.map_or_else(Spent::default, |(_, before)| before);
        let index = state.stages.get(Stage::Index.name());
        let memory = Memory::now();
        Vitals {
            rank: state.rank,
            peers: state.peers,
            stage: state.in_hand.map(|stage| stage.name().to_owned()),
            failing_cycles: state.failing_cycles,
            failing_items: state.failed.len(),
            failing: vitals::worst(state.failed.values()),
            objects: index.map_or(0, |index| index.done),
            spans: index.map_or(0, |index| index.rows_in),
            rows_written: state.stages.values().map(|stage| stage.rows_out).sum(),
            requests: spent.requests,
            dollars: spent.dollars,
            day: Some(today),
            day_requests: spent.requests - before.requests,
            day_dollars: spent.dollars - before.dollars,
            memory_bytes: memory.map(|memory| memory.bytes),
            peak_memory_bytes: memory.map(|memory| memory.peak_bytes),
            backlog: state.backlog,
        }
    }

    /// What the run has come to.
    pub fn summary(&self) -> Summary {
        let state = self.lock();
        let (mut requests, mut kinds) = (Counts::default(), BTreeMap::<Request, Kind>::new());
        for (store, before) in &state.stores {
            let counts = store.meter().snapshot().since(before);
            for request in Request::ALL {
                let tally = counts.of(request);
                if tally == Default::default() {
                    continue;
                }
                let kind = kinds.entry(request).or_default();
                kind.requests += tally.requests;
                kind.bytes_in += tally.bytes_in;
                kind.bytes_out += tally.bytes_out;
                kind.dollars += if store.is_cloud() { request.price_dollars() * tally.requests as f64 } else { 0.0 };
            }
            requests += counts;
        }
        let index = state.stages.get(Stage::Index.name()).cloned().unwrap_or_default();
        Summary {
            objects: index.done,
            spans: index.rows_in,
            traces: state.traces,
            handlers: state.handlers.len() as u64,
            bytes_in: index.bytes_in,
            bytes_out: state.stages.values().map(|stage| stage.bytes_out).sum(),
            deleted: state.stages.values().map(|stage| stage.deleted).sum(),
            stages: state.stages.clone(),
            requests,
            dollars: kinds.values().map(|kind| kind.dollars).sum(),
            kinds,
            peers: state.most_peers,
            seconds: (self.clock.monotonic() - state.began).as_secs_f64(),
            failed: state.failed.values().cloned().collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn spent(&self) -> Spent {
        let mut spent = Spent::default();
        for (store, before) in &self.stores {
            let counts = store.meter().snapshot().since(before);
            spent.requests += counts.total().requests;
            spent.dollars += if store.is_cloud() { counts.price_dollars() } else { 0.0 };
        }
        spent
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").finish_non_exhaustive()
    }
}
