//! The worker's loop: peers → index → compact → publish → expire → sleep, until there is nothing left (`--once`), it is
//! stopped, or it gives up.
//!
//! A worker is one of many equals and remembers nothing that it could not learn again. What it is told to do is written
//! down in [`Options`]; what it did, in the [`Summary`] that a run ends with.

mod summary;
pub(super) mod watchdog;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

pub use summary::{Failed, Kind, StageSummary, Summary};

use self::watchdog::Watchdog;
use super::Settings;
use super::heartbeat::{FRESH, Heart};
use super::peers::{Directory, Peers, Provider};
use super::record::{Record, Took};
use super::strikes::{self, Coroner};
use crate::clock::Clock;
use crate::error::{Mistake, Report, Result, find, report, told};
use crate::handler::catalogue::Catalogue;
use crate::model::{Hour, Table, WorkerName};
use crate::stage::{
    Desk, Inbox, Monitor, Pace, Round, StageReport, Unwatched, compact, expire, forget, index, publish,
};
use crate::store::{Key, Prefix, Stage, Store};
use crate::table::read::Blocks;
use crate::task;

/// The peers are asked for this often, also while a stage works: when they are others, the item in hand is the last one,
/// and the work is divided anew.
pub(super) const PEERS_EVERY: Duration = Duration::from_secs(10);
/// Settings and catalogue are read again after this time.
pub(super) const SETTINGS_EVERY: Duration = Duration::from_secs(60);
/// Expiry, and what else is done now and then.
pub(super) const HOURLY: Duration = Duration::from_secs(3600);
/// A stage that lists the blocks and finds nothing to do is asked again after this time: nothing that it waits for
/// happens more often, and listings are most of what an idle farm costs.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(60);
/// An eager worker that always has something to index merges blocks this often all the same.
const MERGES_EVERY: Duration = Duration::from_secs(600);
/// So long an eager worker merges whatever comes; then what is in hand is the last.
const MERGES_FIRST: Duration = Duration::from_millis(250);
/// A worker with a backlog that takes longer does all else this often all the same: until then merges would take in half
/// of what comes together anyway, and pages would show what is about to be out of date.
const BACKLOG_FIRST: Duration = Duration::from_secs(300);
/// Workers that finish each other's parts begin a cycle so far apart, doubled each time …
const APART: Duration = Duration::from_secs(1);
/// … up to this.
const LONGEST_APART: Duration = Duration::from_secs(60);
/// So many failing cycles in a row, and the worker gives up: whoever started it starts another.
const FAILING_CYCLES: u32 = 10;
/// What is in hand when the worker is told to stop may take this long.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// `--once` does what was there when it began, by the store's clock; the clocks of a store's machines differ a little.
const ONCE_MARGIN: Duration = Duration::from_secs(2);

/// How a worker runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name among its peers.
    pub name: WorkerName,
    /// Run until nothing is left to do, and end.
    pub once: bool,
    /// Another grace than the settings': zero only for a worker that is alone.
    pub grace: Option<Duration>,
    /// Nothing in the inbox is deleted; what was indexed is remembered in the ledger.
    pub keep_inbox: bool,
    /// The budget of memory, in bytes, that batches, merges and fetches share.
    pub memory_bytes: usize,
    /// What becomes of an archive that is older than it is kept.
    pub archive: Archive,
    /// Who says who the peers are.
    pub peers: Provider,
    /// The store's `publish_command` may be run, guarded by this program's command `guard`.
    pub guard: Option<PathBuf>,
    /// How soon it takes what comes.
    pub pace: Pace,
}

impl Options {
    /// A worker that loops, with the default budget of 512 MiB.
    pub fn new(name: WorkerName) -> Self {
        Self {
            name,
            once: false,
            grace: None,
            keep_inbox: false,
            memory_bytes: 512 << 20,
            archive: Archive::Ask,
            peers: Provider::Store,
            guard: None,
            pace: Pace::default(),
        }
    }
}

/// What becomes of a store most of which was older than `keep_for` when it came (rule 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Archive {
    /// The worker ends with [`WouldExpire`], and somebody says what is to be done.
    Ask,
    /// It expires as all else does.
    Expire,
    /// It is kept, which is said, and the worker goes on: whoever replays old traces wants to see them.
    Keep,
}

/// Why a worker gave up. The process exits with an error, and whatever supervises it starts another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GaveUp {
    /// Cycle after cycle failed.
    #[error("{FAILING_CYCLES} cycles in a row failed")]
    Failing,
    /// Something hangs.
    #[error("nothing moved for 15 minutes")]
    Stuck,
}

/// Rule 8: expiry would delete more than it would keep of a store that was filled from an archive. Nothing has been
/// expired yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} of this store were older than `keep_for` when they were indexed and would be deleted now, {} would be kept. Run \
     with --yes to delete them, or keep more: tracefarm settings set keep_for=…",
    bytesize::ByteSize(*.past_bytes), bytesize::ByteSize(*.kept_bytes)
)]
pub struct WouldExpire {
    /// Bytes of blocks that were past when they were written.
    pub past_bytes: u64,
    /// Bytes of all others.
    pub kept_bytes: u64,
}

/// A worker, ready to run.
pub struct Worker {
    store: Store,
    inbox: Store,
    clock: Clock,
    options: Options,
    monitor: Arc<dyn Monitor>,
    record: Record,
}

/// What `--dry-run` shows: the very plans, of which nothing is done.
#[derive(Debug, serde::Serialize)]
pub struct Plans {
    /// inbox → level 0
    pub index: index::Plan,
    /// level 0 → level 1
    pub compact: compact::Plan,
    /// Documents to be made, a line each.
    pub publish: Vec<String>,
    /// Pins and past hours, a line each.
    pub expire: Vec<String>,
}

impl std::fmt::Display for Plans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.index, self.compact)?;
        self.publish.iter().chain(&self.expire).try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl Worker {
    /// A worker on `store`, whose inbox is `inbox/` there unless [`Worker::with_inbox`] says otherwise.
    pub fn new(store: Store, clock: Clock, options: Options) -> Self {
        let (inbox, record) = (store.clone(), Record::new(clock.clone()));
        Self { inbox, store, clock, options, monitor: Arc::new(Unwatched), record }
    }

    /// Another bucket or folder as the inbox (opened with [`crate::store::OpenOptions::as_inbox`]).
    pub fn with_inbox(mut self, inbox: Store) -> Self {
        self.inbox = inbox;
        self
    }

    /// Tells `monitor` how far the work is.
    pub fn watched_by(mut self, monitor: Arc<dyn Monitor>) -> Self {
        self.monitor = monitor;
        self
    }

    /// Notes in `record` what it does, for those who ask meanwhile.
    pub fn recorded_by(mut self, record: Record) -> Self {
        self.record = record;
        self
    }

    /// What it does and has done.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Whether it ends when nothing is left ([`Options::once`]).
    pub fn runs_once(&self) -> bool {
        self.options.once
    }

    /// Its time and chance.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Runs until nothing is left ([`Options::once`]) or `stop` is cancelled: then no new item is begun, and the one in
    /// hand may finish for 20 s. Dying at any moment instead loses nothing.
    ///
    /// Items that fail are no error: they stand in [`Summary::failed`], and the others go on.
    ///
    /// # Errors
    /// [`GaveUp`], [`WouldExpire`], a [`Mistake`] of the options, or that the store cannot be used at all.
    pub async fn run(&self, stop: &CancellationToken) -> Result<Summary> {
        let span = tracing::info_span!("run", worker = %self.options.name, rank = tracing::field::Empty);
        Box::pin(self.run_in_span(stop)).instrument(span).await
    }

    async fn run_in_span(&self, stop: &CancellationToken) -> Result<Summary> {
        self.record.begin(&self.store, &self.inbox);
        let heart = Heart::of_run(self.clock.clone(), self.options.name.clone(), self.record.clone());
        heart.allow_publish_command(self.options.guard.is_some());
        heart.beat_if_need_be_empty(&self.store).await?;
        let outcome = self.with_heart(&heart, stop).await;
        // A heartbeat that stays behind only keeps a lone worker from starting for a minute.
        if let Err(report) = heart.remove(&self.store).await {
            tracing::warn!(failure = told(&report), "the heartbeat stays behind");
        }
        outcome
    }

    async fn with_heart(&self, heart: &Heart, stop: &CancellationToken) -> Result<Summary> {
        let beating = task::spawn({
            let (heart, store) = (heart.clone(), self.store.for_stage(Stage::Farm));
            async move {
                heart.keep_beating(&store).await;
                Ok(())
            }
        });
        let mut shift = Shift::begin(self, heart.clone(), stop.clone()).await?;
        let stores = [self.store.clone(), self.inbox.clone()];
        let watchdog = Watchdog::new(self.clock.clone(), stores, self.record.clone());
        let ended = tokio::select! {
            ended = shift.work() => ended,
            () = watchdog.barks() => Err(report!(GaveUp::Stuck).into_dynamic()),
            () = stopped_for(&self.clock, stop, STOP_WITHIN) => {
                tracing::warn!("stopped in the middle of an item after {STOP_WITHIN:?}; it will be done again");
                Ok(())
            }
        };
        drop(beating);
        ended.map(|()| self.record.summary())
    }

    /// Lists and plans, and does nothing: not even a heartbeat is written.
    pub async fn plans(&self) -> Result<Plans> {
        let heart = Heart::new(self.clock.clone(), self.options.name.clone());
        let listed = self.store.list(&Prefix::Workers).await?;
        heart.store_clock().observe(listed.began);
        let (_, settings) = Settings::load(&self.store).await?;
        let catalogue = Catalogue::load(&self.store).await?;
        let desk = self.desk(&heart, settings, catalogue);
        let round = Round::alone(&self.clock);
        Ok(Plans {
            index: index::plan(&desk.for_stage(Stage::Index), &round).await?,
            compact: compact::plan(&desk.for_stage(Stage::Compact), &round).await?,
            publish: publish::dry_run(&desk).await?,
            expire: expire::dry_run(&desk).await?,
        })
    }

    fn desk(&self, heart: &Heart, settings: Settings, catalogue: (u64, Catalogue)) -> Desk {
        Desk {
            grace: self.options.grace.unwrap_or(settings.grace.0),
            store: self.store.clone(),
            inbox: Inbox { store: self.inbox.clone(), keep: self.options.keep_inbox },
            // Footers and digests of a store with a few thousand blocks.
            blocks: Blocks::new(self.store.clone(), self.options.memory_bytes / 8),
            clock: self.clock.clone(),
            heart: heart.clone(),
            settings: Arc::new(settings),
            settings_read: self.clock.monotonic(),
            catalogue: Arc::new(catalogue),
            once: self.options.once,
            memory_bytes: self.options.memory_bytes,
            file_bytes: compact::FILE_BYTES,
            many_blocks: publish::plan::MANY,
            worker: self.options.name.clone(),
            guard: self.options.guard.as_deref().map(Arc::from),
            pace: self.options.pace.clone(),
        }
    }
}

/// Ends `time` after `stop` is set.
async fn stopped_for(clock: &Clock, stop: &CancellationToken, time: Duration) {
    stop.cancelled().await;
    clock.sleep(time).await;
}

/// One run of a worker.
struct Shift<'a> {
    worker: &'a Worker,
    heart: Heart,
    directory: Directory,
    coroner: Coroner,
    /// Those by which the work is divided.
    peers: Peers,
    /// When I was last seen to be one of them; none if I am not, or they have changed.
    placed: Option<Duration>,
    /// `--once`: my part is done, and I do what is left of the others'.
    finishes: bool,
    /// Set when the worker is to stop.
    stop: CancellationToken,
    desk: Desk,
    round: Round,
    ran: Record,
    /// When the settings were last asked for, whether or not they came.
    asked: Duration,
    expired: Option<Duration>,
    /// When blocks were last looked at for merges.
    merged: Duration,
    /// What is in hand ends before its time when something comes.
    gives_way: bool,
    /// The next merges do not: the last gave way before they did anything.
    patient: bool,
    /// Stages that had nothing (more) to do, and until when there can be nothing.
    rests: HashMap<Stage, Duration>,
}

impl<'a> Shift<'a> {
    async fn begin(worker: &'a Worker, heart: Heart, stop: CancellationToken) -> Result<Self> {
        if worker.options.grace.is_some_and(|grace| grace.is_zero()) {
            heart.refuse_company(&worker.store).await?;
        }
        let (_, settings) = Settings::begin(&worker.store).await?;
        let catalogue = Catalogue::load(&worker.store).await?;
        let desk = worker.desk(&heart, settings, catalogue);
        let options = &worker.options;
        let directory = Directory::new(&options.peers, &worker.clock, options.name.clone())?;
        let peers = Peers { names: Vec::new(), rank: None };
        let mut round = Round::alone(&worker.clock);
        round.monitor = worker.monitor.clone();
        if worker.options.once {
            let now = heart.store_clock().unmoved().unwrap_or(Timestamp::MIN);
            round.until = Some(now.saturating_add(ONCE_MARGIN)?);
        }
        let ran = worker.record.clone();
        let asked = worker.clock.monotonic();
        Ok(Self {
            worker,
            heart,
            coroner: Coroner::default(),
            directory,
            peers,
            placed: None,
            finishes: false,
            stop,
            desk,
            round,
            ran,
            asked,
            expired: None,
            merged: asked,
            gives_way: false,
            patient: false,
            rests: HashMap::new(),
        })
    }

    async fn work(&mut self) -> Result<()> {
        let pace = &self.worker.options.pace;
        let mut pause = pace.shortest_pause;
        let (mut apart, mut rank) = (APART, 0);
        let mut failing = 0;
        while !self.stop.is_cancelled() {
            let cycle = self.cycle().await?;
            failing = if cycle.is_failing() { failing + 1 } else { 0 };
            self.ran.cycled(failing);
            if failing >= FAILING_CYCLES {
                return Err(report!(GaveUp::Failing).into_dynamic());
            }
            if cycle.did_something || cycle.regrouped {
                pause = pace.shortest_pause;
                if self.finishes {
                    self.let_others_end(&mut apart, rank).await;
                } else if !pace.breath.is_zero() {
                    self.worker.clock.sleep(pace.breath).await;
                }
                continue;
            }
            // What failed is in the summary; another run tries it again. What could not be done because the store
            // changed in the meantime (or the fence came down) is tried again now, as often as cycles may fail.
            if self.worker.options.once && !cycle.waits {
                if cycle.more {
                    continue;
                }
                // What is left is the others' part; whether they still live, a minute would tell. This run ends with
                // nothing left: it does their part, too. What they have in hand is done twice, which counts once.
                if self.peers.names.len() <= 1 {
                    break;
                }
                self.peers = Peers::new([self.worker.options.name.clone()], &self.worker.options.name);
                rank = self.round.rank;
                (self.round.rank, self.round.peers, self.finishes) = (0, 1, true);
                self.let_others_end(&mut apart, rank).await;
                continue;
            }
            let rest = self.rest().map_or(pause, |rest| rest.clamp(pace.shortest_pause, pace.longest_pause));
            tokio::select! {
                () = self.worker.clock.sleep(rest) => {}
                () = pace.came.notified() => drop(self.rests.remove(&Stage::Index)),
                () = self.stop.cancelled() => {}
            }
            pause = (pause * 2).max(rest).min(pace.longest_pause);
        }
        Ok(())
    }

    /// Gives way to those before me, for a time that doubles, with a part of it by chance. Workers that finish each other's
    /// parts would do the same at the same moment: each would merge what the others have just merged, and none would ever
    /// see that nothing is left.
    async fn let_others_end(&self, apart: &mut Duration, rank: usize) {
        let time = apart.mul_f64(rank as f64 + self.worker.clock.fraction());
        tokio::select! {
            () = self.worker.clock.sleep(time.min(LONGEST_APART)) => {}
            () = self.stop.cancelled() => {}
        }
        *apart = (*apart * 2).min(LONGEST_APART);
    }

    /// Every stage once.
    ///
    /// # Errors
    /// Only what the worker must end for.
    async fn cycle(&mut self) -> Result<Cycle> {
        let mut cycle = Cycle { began: self.worker.clock.monotonic(), ..Cycle::default() };
        if !self.take_my_place(&mut cycle).await? {
            return Ok(cycle);
        }
        self.read_settings().await;
        if self.desk.grace.is_zero() {
            // Again and again: another worker may have started since.
            let alone = self.heart.refuse_company(&self.worker.store).await;
            if cycle.goes_on::<Mistake, _>(alone)?.is_none() {
                return Ok(cycle);
            }
        }
        self.look(Stage::Index, &mut cycle, index::run).await;
        if cycle.regrouped {
            return Ok(cycle);
        }
        // What came is indexed first; blocks are merged when nothing is left, or it has gone on for too long. An eager
        // worker shows it meanwhile.
        let is_eager = self.worker.options.pace.is_eager();
        let (busy, patience) = match is_eager {
            true => (cycle.did_something, MERGES_EVERY),
            false => (cycle.did_something && cycle.more, BACKLOG_FIRST),
        };
        let merges = !busy || self.worker.clock.monotonic() - self.merged >= patience;
        if !merges && !is_eager {
            // A backlog is of any hour, also of closed ones, which need not wait: when it is done, it is merged.
            self.rests.remove(&Stage::Compact);
            return Ok(cycle);
        }
        if merges {
            let rests = self.is_at_rest(Stage::Compact);
            self.gives_way = is_eager && !self.patient;
            let merged = self.look(Stage::Compact, &mut cycle, compact::run).await;
            self.gives_way = false;
            let gave_way = cycle.gave_way;
            // What is left is merged in the next cycle; in vain it gives way once.
            self.patient = gave_way && !merged;
            if !gave_way && !rests {
                self.merged = cycle.began;
            }
            // What came meanwhile is to wait neither for another cycle nor for the clock.
            let until = self.worker.clock.monotonic() + if merged { self.tie() } else { Duration::ZERO };
            if is_eager && (merged || gave_way) && !cycle.regrouped {
                self.stage(Stage::Index, &mut cycle, index::run).await;
            }
            if merged {
                self.worker.clock.sleep(until.saturating_sub(self.worker.clock.monotonic())).await;
                if is_eager && !cycle.regrouped {
                    self.stage(Stage::Index, &mut cycle, index::run).await;
                }
            }
        }
        if is_eager && cycle.did_something {
            self.rests.remove(&Stage::Publish);
        }
        if cycle.regrouped {
            return Ok(cycle);
        }
        self.look(Stage::Publish, &mut cycle, publish::run).await;
        if cycle.regrouped {
            return Ok(cycle);
        }
        if self.is_time_to_expire() {
            self.stage(Stage::Compact, &mut cycle, forget::run).await;
            let asked = self.ask_before_expiring().await;
            let may = cycle.goes_on::<WouldExpire, _>(asked)?;
            if may == Some(false) {
                self.expired = Some(self.worker.clock.monotonic());
            }
            if may == Some(true) {
                let failed = std::mem::take(&mut cycle.failed);
                self.stage(Stage::Expire, &mut cycle, expire::run).await;
                // What it had listed may be gone, as others expire, too: it is listed again in the next cycle.
                if !cycle.failed {
                    self.expired = Some(self.worker.clock.monotonic());
                }
                cycle.failed |= failed;
            }
            if let Err(report) = self.heart.prune(&self.worker.store).await {
                tracing::warn!(failure = told(&report), "heartbeats of the dead stay for now");
            }
            if let Err(report) = strikes::sweep(&self.worker.store, &self.worker.inbox).await {
                tracing::warn!(failure = told(&report), "old strikes stay for now");
            }
        }
        Ok(cycle)
    }

    /// How long from now until what was written counts: for listings that begin in a later second. Whoever publishes at
    /// once would see an output's inputs beside it. The store's time is known to a second on clouds.
    fn tie(&self) -> Duration {
        let store = &self.worker.store;
        match store.now().filter(|_| !store.is_cloud()) {
            Some(now) => Duration::from_millis(1_050 - u64::try_from(now.subsec_millisecond()).unwrap_or(0)),
            None => Duration::from_secs(2),
        }
    }

    /// Runs a stage, unless there can be nothing to do for it yet; whether it did something.
    ///
    /// By what a stage has listed it says itself until when ([`StageReport::rests_until`]). That holds whatever becomes of
    /// peers: others that come or go clear it, and work that falls to this one without its knowing (its listing was older
    /// than theirs) waits until then, a minute or five, and no longer.
    async fn look<F>(&mut self, stage: Stage, cycle: &mut Cycle, run: F) -> bool
    where
        F: AsyncFn(&Desk, &Round) -> Result<StageReport>,
    {
        if self.is_at_rest(stage) {
            return false;
        }
        self.rests.remove(&stage);
        let (came, rests_until) = self.stage(stage, cycle, run).await;
        let until = match came {
            // `--once` ends when there is nothing left to do, and must have looked.
            _ if self.desk.once || cycle.regrouped => None,
            Came::Nothing if stage != Stage::Index => rests_until.or(Some(cycle.began + self.look_every(stage))),
            _ => rests_until,
        };
        self.rests.extend(until.map(|until| (stage, until)));
        came == Came::Done
    }

    fn is_at_rest(&self, stage: Stage) -> bool {
        self.rests.get(&stage).is_some_and(|until| self.worker.clock.monotonic() < *until)
    }

    /// How soon a stage that had nothing to do is asked again, if it does not say.
    fn look_every(&self, stage: Stage) -> Duration {
        let pace = &self.worker.options.pace;
        match self.desk.settings.publish_every {
            // What another one indexed is to be seen as soon as what this one did.
            _ if stage == Stage::Publish && pace.is_eager() && self.peers.names.len() > 1 => pace.longest_pause,
            Some(every) if stage == Stage::Publish => every.0.min(LOOK_EVERY),
            _ => LOOK_EVERY,
        }
    }

    /// How long until a stage is to be asked again, if all rest.
    fn rest(&self) -> Option<Duration> {
        let now = self.worker.clock.monotonic();
        let until = [Stage::Index, Stage::Compact, Stage::Publish].map(|stage| self.rests.get(&stage));
        let rests = until.iter().map(|until| until.map(|until| until.saturating_sub(now)));
        rests.min().flatten()
    }

    /// Runs a stage until it has nothing more to do at once (`--once`) or for one round; what came of it, and until when
    /// there can be nothing for it.
    async fn stage<F>(&mut self, stage: Stage, cycle: &mut Cycle, run: F) -> (Came, Option<Duration>)
    where
        F: AsyncFn(&Desk, &Round) -> Result<StageReport>,
    {
        let desk = self.desk.for_stage(stage);
        let span = tracing::info_span!("stage", stage = stage.name());
        let mut came = Came::Nothing;
        loop {
            let clock = &self.worker.clock;
            let (started, used) = (clock.monotonic(), clock.processor());
            let stop = self.stop.child_token();
            self.round.stop = stop.clone();
            self.ran.begins(stage);
            let round = self.round.clone();
            let working = Box::pin(run(&desk, &round)).instrument(span.clone());
            let (outcome, gave_way) = self.until_called(working, &stop).await;
            cycle.gave_way |= gave_way;
            // One stage runs at a time, so the processor time of the process is the stage's (but for the heartbeat's).
            let time = Took { wall: clock.monotonic() - started, processor: clock.processor() - used };
            let report = match outcome {
                Ok(report) => report,
                Err(report) => {
                    span.in_scope(|| tracing::error!(failure = told(&report), "a round of {} failed", stage.name()));
                    cycle.failed = true;
                    self.ran.add(stage, time, Err(report), &self.round.setbacks);
                    return (came.max(Came::Left), None);
                }
            };
            if !report.failed.is_empty() {
                let failure = report.account();
                span.in_scope(|| tracing::error!(failure, "{} failed", stage.name()));
            }
            came = came.max(Came::of(&report));
            cycle.did_something |= report.did_something();
            cycle.more |= report.more;
            cycle.items_failed |= !report.failed.is_empty();
            if stop.is_cancelled() && !gave_way {
                cycle.regrouped = true;
                self.placed = None;
            }
            let again = self.desk.once && report.more && report.did_something() && !stop.is_cancelled();
            let rests_until = report.rests_until;
            self.ran.add(stage, time, Ok(report), &self.round.setbacks);
            if !again {
                return (came, rests_until);
            }
        }
    }

    /// Asks who the peers are and takes my place among them; whether I have one. A worker that is not (yet) on the list,
    /// or whose name another one bears, does nothing but ask again.
    async fn take_my_place(&mut self, cycle: &mut Cycle) -> Result<bool> {
        if self.finishes {
            return Ok(true);
        }
        let now = self.worker.clock.monotonic();
        if self.placed.is_some_and(|placed| now - placed < PEERS_EVERY) {
            return Ok(true);
        }
        let placed = self.ask_peers().await;
        let placed = cycle.goes_on::<Mistake, _>(placed)?;
        cycle.waits = placed == Some(false);
        self.placed = (placed == Some(true)).then_some(now);
        Ok(placed == Some(true))
    }

    async fn ask_peers(&mut self) -> Result<bool> {
        let others = self.heart.others(&self.worker.store).await?;
        if let Some(twin) = self.heart.twin(&others) {
            let message = format!(
                "another worker is called {} (its last heartbeat is {} s old): this one waits until that one ends, or is \
                 silent for {} s. Give each worker a name of its own (--name)",
                twin.name,
                twin.age.as_secs(),
                FRESH.as_secs()
            );
            self.round.warn(&self.worker.clock, Stage::Farm, &message);
            return Ok(false);
        }
        self.coroner.examine(&self.desk, &others).await?;
        let peers = self.directory.peers(&others).await?;
        self.ran.placed(peers.rank, peers.names.len());
        let Some(rank) = peers.rank else {
            let (me, provider) = (&self.worker.options.name, &self.worker.options.peers);
            let message = format!("{me} is not (yet) among the {} peers that {provider} names", peers.names.len());
            self.round.warn(&self.worker.clock, Stage::Farm, &message);
            return Ok(false);
        };
        if peers != self.peers {
            // Who is alone, and was before, need not be told.
            tracing::Span::current().record("rank", rank);
            if peers.names.len().max(self.peers.names.len()) > 1 {
                tracing::info!(rank, peers = peers.names.len(), "worker {} of {}", rank + 1, peers.names.len());
            }
            // The heartbeat before the first place says of none: who asks is not to wait for the next.
            let is_first = self.peers.names.is_empty();
            (self.round.rank, self.round.peers) = (rank, peers.names.len());
            self.peers = peers;
            if is_first && let Err(report) = self.heart.beat_if_need_be_empty(&self.worker.store).await {
                tracing::warn!(failure = told(&report), "the heartbeat failed, and is tried again");
            }
            // Where there was nothing for me there may be something now.
            self.rests.clear();
        }
        Ok(true)
    }

    /// Does `work`; when meanwhile the peers become others than those by which it was divided, or something comes to what
    /// gives way, `stop` makes the items in hand the last. While the peers cannot be asked they count as unchanged:
    /// before the next stage it is said how long. What came of it, and whether it gave way.
    async fn until_called<T>(&mut self, work: impl Future<Output = T>, stop: &CancellationToken) -> (T, bool) {
        if self.finishes {
            return (work.await, false);
        }
        let mut work = std::pin::pin!(work);
        let others_now = async {
            loop {
                self.worker.clock.sleep(PEERS_EVERY).await;
                let Ok(others) = self.heart.others(&self.worker.store).await else { continue };
                if self.directory.peers(&others).await.is_ok_and(|peers| peers != self.peers) {
                    return;
                }
            }
        };
        let something_came = async {
            self.worker.clock.sleep(MERGES_FIRST).await;
            self.worker.options.pace.came.notified().await;
        };
        let gave_way = tokio::select! {
            done = &mut work => return (done, false),
            () = others_now => false,
            () = something_came, if self.gives_way => true,
        };
        stop.cancel();
        (work.await, gave_way)
    }

    /// Reads settings and catalogue again, once a minute. If they cannot be read the old ones count on; index itself
    /// stops when they are five minutes old.
    async fn read_settings(&mut self) {
        let now = self.worker.clock.monotonic();
        if now - self.asked < SETTINGS_EVERY {
            return;
        }
        self.asked = now;
        let read = async {
            let (_, settings) = Settings::load(&self.worker.store).await?;
            let catalogue = Catalogue::load(&self.worker.store).await?;
            Ok::<_, Report>((settings, catalogue))
        };
        match read.await {
            Ok((settings, catalogue)) => {
                self.desk.grace = self.worker.options.grace.unwrap_or(settings.grace.0);
                self.desk.settings = Arc::new(settings);
                self.desk.catalogue = Arc::new(catalogue);
                self.desk.settings_read = now;
            }
            Err(report) => {
                tracing::warn!(failure = told(&report), "the settings could not be read again; the old ones count on");
            }
        }
    }

    fn is_time_to_expire(&self) -> bool {
        let elapsed = |at: Duration| self.worker.clock.monotonic() - at >= HOURLY;
        self.worker.options.once || self.expired.is_none_or(elapsed)
    }

    /// Rule 8. Asked of the store and not remembered, so that a supervisor that starts the worker again does not answer
    /// for a person: as long as nothing has ever been pinned for expiry, blocks that were past when they were written
    /// came of an archive, and whoever pointed tracefarm at it may not know what `keep_for` will do to it. (A block that
    /// grew old in the store was kept as promised.)
    ///
    /// Whether there may be expired.
    async fn ask_before_expiring(&self) -> Result<bool> {
        if self.worker.options.archive == Archive::Expire {
            return Ok(true);
        }
        let store = self.worker.store.for_stage(Stage::Expire);
        let pinned = store.list_some(&Prefix::Pinned, None, 1).await?;
        if !pinned.objects.is_empty() {
            return Ok(true);
        }
        let mut would = WouldExpire { past_bytes: 0, kept_bytes: 0 };
        for table in Table::BOTH {
            for object in store.list(&Prefix::Table(table)).await?.objects {
                let Key::Block(key) = object.key else { continue };
                let keep_for = jiff::SignedDuration::try_from(self.desk.settings.keep_for.at(key.hour).0);
                let age = object.modified.duration_since(key.hour.end());
                let was_past = key.hour != Hour::EPOCH && keep_for.is_ok_and(|keep_for| age >= keep_for);
                let bytes = if was_past { &mut would.past_bytes } else { &mut would.kept_bytes };
                *bytes += object.size_bytes;
            }
        }
        if would.past_bytes <= would.kept_bytes {
            return Ok(true);
        }
        if self.worker.options.archive == Archive::Ask {
            return Err(report!(would).into_dynamic());
        }
        tracing::warn!(
            "{} of this store were older than `keep_for` when they came. They are kept for now: `tracefarm settings set \
             keep_for=…` keeps them for good, `tracefarm run --once --yes` deletes them",
            bytesize::ByteSize(would.past_bytes)
        );
        Ok(false)
    }
}

/// What a stage came to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Came {
    /// There was nothing to do.
    Nothing,
    /// There was, and it failed, or something else must happen first.
    Left,
    /// Something was done.
    Done,
}

impl Came {
    fn of(report: &StageReport) -> Self {
        match report.did_something() {
            true => Self::Done,
            false if report.more || report.skipped > 0 || !report.failed.is_empty() => Self::Left,
            false => Self::Nothing,
        }
    }
}

/// What a cycle came to.
#[derive(Default)]
struct Cycle {
    /// When it began, by the machine's monotonic clock.
    began: Duration,
    did_something: bool,
    /// There is something left that could be done at once.
    more: bool,
    /// A stage could do nothing at all.
    failed: bool,
    items_failed: bool,
    /// I am none of the peers: there is nothing for me to do yet.
    waits: bool,
    /// The peers have become others in the middle of a stage: the work is divided anew before anything else.
    regrouped: bool,
    /// Merges ended early because something came.
    gave_way: bool,
}

impl Cycle {
    /// What came of it, if the cycle can go on: not if it failed for a while. For an `E` the worker ends.
    fn goes_on<E: std::error::Error + Send + Sync + 'static, T>(&mut self, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Ok(outcome) => Ok(Some(outcome)),
            Err(report) if find::<E>(&report).is_some() => Err(report),
            Err(report) => {
                tracing::error!(failure = told(&report), "a cycle failed");
                self.failed = true;
                Ok(None)
            }
        }
    }

    fn is_failing(&self) -> bool {
        self.failed || ((self.items_failed || self.more) && !self.did_something)
    }
}

#[cfg(test)]
mod tests;
