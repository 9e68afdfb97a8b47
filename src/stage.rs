//! The stages: index → compact → publish → expire. Each is a pure plan (listing in, items out) and an execute for one
//! item.
//!
//! Every stage shows the worker the same face, so that the loop, `--dry-run` and simulations treat all alike:
//!
//! ```text
//! pub async fn plan(desk: &Desk, round: &Round) -> Result<Plan>        lists, then calls the pure planner; changes nothing
//! pub async fn run(desk: &Desk, round: &Round) -> Result<StageReport>  plans, takes its slice, does one batch of it
//! ```
//!
//! `Plan` is [`std::fmt::Display`] (a line an item: what would be done and why) and [`serde::Serialize`]. An item that fails
//! is an entry in [`StageReport::failed`], not an error of `run`: the others go on, and a later round tries it again. An
//! error of `run` means that nothing could be done (the store does not answer, credentials are refused). No stage
//! retries; the store's client does, and the next round.
//!
//! Who forgets what (`forget`): [`forget`] sweeps blocks and the quarantine, `pins::forget(desk, &traces, &fence) ->
//! Result<()>` the pins and `publish::forget(desk, &traces, &fence) -> Result<()>` the site; `traces` is a
//! `BTreeSet<TraceId>`.

pub mod compact;
pub mod expire;
pub mod fence;
pub mod forget;
pub mod index;
mod item;
pub mod ledger;
pub mod pace;
pub mod pins;
pub mod publish;
pub mod quarantine;

#[cfg(test)]
pub(crate) mod testing;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

pub use fence::{Fence, Fenced};
pub use ledger::Ledger;
pub use pace::Pace;

use crate::clock::Clock;
use crate::error::{Account, Report, Result};
use crate::farm::strikes::{Held, Strikes};
use crate::farm::{Heart, Settings, StoreClock};
use crate::handler::catalogue::Catalogue;
use crate::model::{Shard, WorkerName};
use crate::store::{Stage, Store};
use crate::table::read::Blocks;
use crate::table::view::{Scope, View};

/// A store tells its time in whole seconds, by which a worker knows it anew with each heartbeat: what is due by one may not
/// be by the next. So whoever waits until something is due waits so much longer, and need not look twice.
pub(crate) const CLOCKS_DIFFER: Duration = Duration::from_secs(1);

/// What every stage works with: the store and what was last read of its documents. Cheap to clone; the loop makes a new
/// one when settings or the catalogue change.
#[derive(Clone)]
pub struct Desk {
    /// The farm's store.
    pub store: Store,
    /// Where collectors write: `inbox/` of the store, or another bucket or folder (`--inbox`).
    pub inbox: Inbox,
    /// Reads blocks; shared, as its cache is.
    pub blocks: Blocks,
    /// Time and chance.
    pub clock: Clock,
    /// The worker's heartbeat, which names what it has in hand and tells the store's time.
    pub heart: Heart,
    /// The newest settings, at most 5 minutes old.
    pub settings: Arc<Settings>,
    /// When they were read ([`Clock::monotonic`]).
    pub settings_read: Duration,
    /// The newest catalogue, and its number.
    pub catalogue: Arc<(u64, Catalogue)>,
    /// The grace that counts: the settings', or `--grace`'s for a lone worker.
    pub grace: Duration,
    /// `--once`: every hour counts as closed, nothing waits.
    pub once: bool,
    /// One budget of memory, in bytes, that batches, merges and fetches share.
    pub memory_bytes: usize,
    /// Files of level 1 end at about this size ([`compact::FILE_BYTES`]; simulations take less).
    pub file_bytes: u64,
    /// Of more blocks of spans as indexed pages ask only those near a trace ([`publish::plan::MANY`]; simulations take
    /// fewer).
    pub many_blocks: usize,
    /// Who works here: stands in error documents.
    pub worker: WorkerName,
    /// The program that guards `publish_command` (this one: `tracefarm guard`); none: the worker may not run it.
    pub guard: Option<Arc<Path>>,
    /// How soon it takes what comes.
    pub pace: Pace,
}

impl Desk {
    /// The same desk, whose requests are counted under `stage`.
    pub fn for_stage(&self, stage: Stage) -> Self {
        let store = self.store.for_stage(stage);
        let blocks = self.blocks.with_store(store.clone());
        let inbox = Inbox { store: self.inbox.store.for_stage(stage), keep: self.inbox.keep };
        Self { store, blocks, inbox, ..self.clone() }
    }

    /// The store's time (rule 8).
    pub fn store_clock(&self) -> &StoreClock {
        self.heart.store_clock()
    }

    /// Lists blocks and reads their footers ([`View::list`]).
    pub async fn view(&self, scope: &Scope) -> Result<View> {
        View::list(&self.blocks, &self.store, &self.clock, scope).await
    }
}

/// What a round of a stage is given beside the desk.
#[derive(Clone)]
pub struct Round {
    /// My rank among the peers, from 0.
    pub rank: usize,
    /// How many peers there are, I included.
    pub peers: usize,
    /// Set when the worker is to stop: no new item is begun; the one in hand may finish.
    pub stop: CancellationToken,
    /// Items that failed lately are not begun.
    pub setbacks: Setbacks,
    /// Inbox objects that changed later are left: `--once` does what is there when it begins, and so comes to an end
    /// also while collectors go on writing.
    pub until: Option<Timestamp>,
    /// What has been indexed of an inbox that is kept.
    pub ledger: Ledger,
    /// What peers have in hand, as last read.
    pub held: Held,
    /// Strikes, as last read.
    pub strikes: Strikes,
    /// When whole tables were listed for merges.
    pub whole: compact::Whole,
    /// What has been looked at for traces to be forgotten.
    pub looked: forget::Looked,
    /// What is known of pages, by their etags.
    pub pages: publish::Pages,
    /// Who is told how far the work is.
    pub monitor: Arc<dyn Monitor>,
    said: Arc<Mutex<HashMap<String, Duration>>>,
}

impl Round {
    /// A warning that still holds is said again after this time.
    const SAID_LASTS: Duration = Duration::from_secs(3600);

    /// The round of a worker that is alone, that nobody stops or watches, without a memory of failures.
    pub fn alone(clock: &Clock) -> Self {
        let (stop, monitor) = (CancellationToken::new(), Arc::new(Unwatched));
        let setbacks = Setbacks::new(clock.clone());
        Self {
            rank: 0,
            peers: 1,
            stop,
            setbacks,
            until: None,
            ledger: Ledger::default(),
            held: Held::default(),
            strikes: Strikes::default(),
            whole: compact::Whole::default(),
            looked: forget::Looked::default(),
            pages: publish::Pages::default(),
            monitor,
            said: Arc::default(),
        }
    }

    /// Whether the worker is to stop.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Tells the monitor what a person should read, the same words at most once an hour.
    pub fn warn(&self, clock: &Clock, stage: Stage, message: &str) {
        let now = clock.monotonic();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|_, at| now - *at < Self::SAID_LASTS);
        if !said.contains_key(message) {
            said.insert(message.to_owned(), now);
            self.monitor.warn(stage, message);
        }
    }

    /// My contiguous part of a sorted work list ([`crate::farm::slice`]).
    pub fn slice<T>(&self, items: Vec<T>, weight: impl Fn(&T) -> u64) -> Vec<T> {
        self.slice_among(self.peers, items, weight)
    }

    /// The same round, whose slices are taken from the other end.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self { rank: self.peers.saturating_sub(self.rank + 1), ..self.clone() }
    }

    /// [`Round::slice`] of a list that the first `count` peers share.
    pub fn slice_among<T>(&self, count: usize, items: Vec<T>, weight: impl Fn(&T) -> u64) -> Vec<T> {
        if self.peers <= 1 {
            return items;
        }
        let weights: Vec<u64> = items.iter().map(weight).collect();
        let mine = crate::farm::slice::slice(&weights, self.rank, count);
        items.into_iter().skip(mine.start).take(mine.len()).collect()
    }

    /// Whether a part of the blocks is dealt to me ([`crate::farm::slice::deal_part`]).
    pub fn is_dealt(&self, time: i64, shard: Shard) -> bool {
        crate::farm::slice::deal_part(time, shard, self.peers) == self.rank
    }
}

/// What a round of a stage came to.
#[derive(Debug, Default)]
pub struct StageReport {
    /// Items done: inbox objects, merges, documents, hours.
    pub done: u64,
    /// Items left for later: failed lately, too young, fenced, the worker stops.
    pub skipped: u64,
    /// Items that failed, and why. A later round tries again.
    pub failed: Vec<Failure>,
    /// Rows read.
    pub rows_in: u64,
    /// Rows written.
    pub rows_out: u64,
    /// Bytes read from objects, as stored.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Objects deleted.
    pub deleted: u64,
    /// Traces of which rows were indexed, each counted once a batch and hour.
    pub traces: u64,
    /// Hashes (XXH3-64) of the ids of handlers that were hit.
    pub handlers: HashSet<u64>,
    /// Whether something can be done at once: a batch was not the end of the list, or an item's output makes work.
    pub more: bool,
    /// Until then ([`Clock::monotonic`]) nothing can be due, by what was listed; none: nobody knows.
    pub rests_until: Option<Duration>,
}

/// An item that failed.
#[derive(Debug)]
pub struct Failure {
    /// Which: the object's path, or what an item's [`std::fmt::Display`] says.
    pub item: String,
    /// Why, with the chain of causes.
    pub report: Report,
}

impl StageReport {
    /// Notes that `item` failed: under the name by which its [`Setbacks`] count, if they do.
    pub fn fail(&mut self, item: impl Into<String>, report: Report) {
        self.failed.push(Failure { item: item.into(), report });
    }

    /// What failed, as the field `failure` of one log record: of so many items as were tried.
    pub fn account(&self) -> Box<dyn std::error::Error> {
        let failed = self.failed.iter().map(|failure| (failure.item.as_str(), &failure.report));
        Box::new(Account::of_batch(failed, self.done + self.failed.len() as u64))
    }

    /// Whether anything changed.
    pub fn did_something(&self) -> bool {
        self.done > 0 || self.deleted > 0
    }

    /// Adds what another round or item came to.
    pub fn add(&mut self, other: Self) {
        self.done += other.done;
        self.skipped += other.skipped;
        self.failed.extend(other.failed);
        self.rows_in += other.rows_in;
        self.rows_out += other.rows_out;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.deleted += other.deleted;
        self.traces += other.traces;
        self.handlers.extend(other.handlers);
        self.more |= other.more;
    }
}

/// Who is told how far the work is: progress bars, logs. Every method may be called from any thread.
pub trait Monitor: Send + Sync {
    /// A round of `stage` begins with so many items, of so many bytes in all where they are known.
    fn begin(&self, stage: Stage, items: u64, bytes: u64) {
        let _ = (stage, items, bytes);
    }

    /// Some are done.
    fn advance(&self, stage: Stage, items: u64, bytes: u64) {
        let _ = (stage, items, bytes);
    }

    /// The round is over.
    fn end(&self, stage: Stage) {
        let _ = stage;
    }

    /// Something that a person should read now: logged, if nobody shows it otherwise.
    fn warn(&self, stage: Stage, message: &str) {
        tracing::warn!(stage = stage.name(), "{message}");
    }
}

/// Nobody watches.
pub struct Unwatched;

impl Monitor for Unwatched {}

/// Items that failed lately, and when each may be tried again: 10 s after the first failure, doubling to 10 min. With
/// that one bad item neither blocks a list nor is hammered. In memory only: another worker, or the next boot, tries at
/// once.
#[derive(Clone)]
pub struct Setbacks {
    clock: Clock,
    items: Arc<Mutex<HashMap<String, Setback>>>,
}

#[derive(Clone, Copy)]
struct Setback {
    times: u32,
    until: Duration,
}

impl Setbacks {
    /// The wait after the first failure.
    const FIRST: Duration = Duration::from_secs(10);
    /// The longest wait.
    const LONGEST: Duration = Duration::from_secs(600);
    /// How long after its wait an item is remembered.
    const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

    /// None yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, items: Arc::default() }
    }

    /// Whether `item` may be tried now.
    pub fn may_try(&self, item: &str) -> bool {
        self.lock().get(item).is_none_or(|setback| self.clock.monotonic() >= setback.until)
    }

    /// How often `item` failed in a row.
    pub fn times(&self, item: &str) -> u32 {
        self.lock().get(item).map_or(0, |setback| setback.times)
    }

    /// `item` failed once more.
    pub fn failed(&self, item: &str) {
        let mut items = self.lock();
        let times = items.get(item).map_or(0, |setback| setback.times);
        // What failed a day ago and was never tried again is gone: somebody else did it, or deleted it.
        let now = self.clock.monotonic();
        items.retain(|_, setback| now < setback.until + Self::REMEMBERED);
        let wait = Self::FIRST.saturating_mul(1 << times.min(10)).min(Self::LONGEST);
        items.insert(item.to_owned(), Setback { times: times + 1, until: now + wait });
    }

    /// `item` was done.
    pub fn done(&self, item: &str) {
        self.lock().remove(item);
    }

    /// Every item that failed and has not been done since.
    pub fn items(&self) -> Vec<String> {
        let mut items: Vec<String> = self.lock().keys().cloned().collect();
        items.sort_unstable();
        items
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Setback>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many CPU-bound pieces of work run at a time: as many as there are cores, at most 4 (each takes a share of the
/// memory). On a runtime of one thread (simulations) one.
pub(crate) fn lanes() -> usize {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => 1,
        _ => std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4)),
    }
}

/// Where inbox objects are.
#[derive(Clone)]
pub struct Inbox {
    /// The store that holds them.
    pub store: Store,
    /// Nothing there is deleted: what was indexed is remembered in the ledger.
    pub keep: bool,
}

impl Inbox {
    /// Whether objects here may grow while they lie here: local files, Azure's append blobs. They settle longer.
    pub fn grows(&self) -> bool {
        let url = self.store.url();
        let scheme = url.split_once(':').map_or("file", |(scheme, _)| scheme);
        !["memory", "s3", "s3a", "gs", "gcs"].contains(&scheme)
    }
}

#[cfg(test)]
mod tests;
