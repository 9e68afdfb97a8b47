//! A worker's sign of life (`farm/workers/<name>.<boot id>.json`), which is also how it learns the store's time (rule 8).
//!
//! A heartbeat is written over every [`PERIOD`]; nobody else writes that name, because a boot's id is its own. Its
//! last-modified is a moment of the store's clock, and from there the machine's monotonic clock counts on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use super::intent::Intent;
use super::record::{Record, Vitals};
use crate::clock::Clock;
use crate::error::{Mistake, Result, ResultExt, bail, report, store_kind, told};
use crate::model::{BootId, WorkerName};
use crate::store::{Key, Object, Prefix, Store, StoreErrorKind};

/// How often a worker writes its heartbeat: four in the time for which one counts.
pub const PERIOD: Duration = Duration::from_secs(15);
/// A heartbeat younger than this is alive, and lets its worker delete.
pub const FRESH: Duration = Duration::from_secs(60);
/// Heartbeats of the dead are swept after this: long enough for a person to look at them.
pub const DEAD: Duration = Duration::from_secs(24 * 3600);

/// The store's clock: last-modified of my own newest heartbeat plus monotonic time since, plus `--now`'s offset. Clones
/// share it.
#[derive(Clone)]
pub struct StoreClock {
    clock: Clock,
    last: Arc<Mutex<Option<Seen>>>,
}

/// A moment of the store's clock, and where the monotonic clock stood around it.
#[derive(Clone, Copy)]
struct Seen {
    /// What the store said.
    time: Timestamp,
    /// Before the request was sent: the moment was not earlier. `None` if it was no heartbeat of mine.
    sent: Option<Duration>,
    /// When the answer was there: the moment was not later.
    answered: Duration,
}

impl StoreClock {
    /// A clock that knows nothing yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, last: Arc::default() }
    }

    /// The store's time, with `--now`'s offset; never ahead of the true one: it counts from when the answer was there,
    /// and last-modified is cut to whole seconds. `None` before the first heartbeat.
    ///
    /// It may step back a little from one heartbeat to the next, when an answer took longer; a plan is given one `now`.
    pub fn now(&self) -> Option<Timestamp> {
        self.unmoved().map(|time| add(time, self.clock.offset()))
    }

    /// The store's time without `--now`'s offset, as objects really have it in their last-modified: for the age of
    /// heartbeats, which are as old as they are whatever time a test pretends.
    pub fn unmoved(&self) -> Option<Timestamp> {
        let seen = (*self.last())?;
        let since = self.clock.monotonic().saturating_sub(seen.answered);
        Some(add(seen.time, signed(since)))
    }

    /// The store's time, never behind the true one: for what must certainly be young. `None` if it was told by no heartbeat.
    pub fn latest(&self) -> Option<Timestamp> {
        let seen = (*self.last())?;
        // Last-modified is cut to whole seconds.
        let since = self.clock.monotonic().saturating_sub(seen.sent?) + Duration::from_secs(1);
        Some(add(seen.time, signed(since) + self.clock.offset().max(SignedDuration::ZERO)))
    }

    /// Whether the newest heartbeat is younger than [`FRESH`]: without that a worker deletes nothing. Counted from
    /// before the request was sent, so never too young.
    pub fn is_fresh(&self) -> bool {
        let sent = self.last().and_then(|seen| seen.sent);
        sent.is_some_and(|sent| self.clock.monotonic().saturating_sub(sent) < FRESH)
    }

    /// Learns the time from a listing ([`crate::store::Listing::began`]), for readers, which write no heartbeat. Such a
    /// clock is never fresh; one that has a heartbeat ignores it.
    pub fn observe(&self, began: Timestamp) {
        let answered = self.clock.monotonic();
        let mut last = self.last();
        if last.is_none_or(|seen| seen.sent.is_none()) {
            *last = Some(Seen { time: began, sent: None, answered });
        }
    }

    /// Learns the time from a heartbeat that was sent at `sent` and is answered now.
    fn heartbeat(&self, time: Timestamp, sent: Duration) {
        *self.last() = Some(Seen { time, sent: Some(sent), answered: self.clock.monotonic() });
    }

    fn last(&self) -> MutexGuard<'_, Option<Seen>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a heartbeat says. Fields that a newer program added are ignored: peers of two versions live together while a
/// farm is updated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The worker's name.
    pub name: WorkerName,
    /// This life of it.
    pub boot: BootId,
    /// The version of its program.
    pub version: String,
    /// When it started, by its machine's clock: for people.
    pub started: Timestamp,
    /// The inbox objects of the batch in hand, empty between batches.
    pub in_hand: Vec<String>,
    /// Whether it is one that killed a worker before, alone.
    #[serde(default)]
    pub alone: bool,
    /// What it is about to write of the batch in hand, or has written. One that cannot be read is none.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "readable")]
    pub intent: Option<Intent>,
    /// Whether it may run the store's `publish_command`.
    #[serde(default)]
    pub publish_command: bool,
    /// How often it writes this, in seconds.
    pub period_seconds: u64,
    /// How it is; none if its program does not say, or in a way that this one cannot read: what it has in hand counts
    /// all the same.
    #[serde(default, deserialize_with = "readable")]
    pub vitals: Option<Vitals>,
}

fn readable<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(T::deserialize(value).ok())
}

/// A heartbeat with nothing in hand is a multiple of so many bytes long, and no other is. So a listing tells whose hands are
/// empty, and of hundreds of peers only a few need be read ([`Other::has_empty_hands`]).
const EMPTY_HANDS: usize = 64;

fn padded(mut body: Vec<u8>, says: &Heartbeat) -> Vec<u8> {
    let length = match says.in_hand.is_empty() {
        true => body.len().next_multiple_of(EMPTY_HANDS),
        false => body.len() + usize::from(body.len().is_multiple_of(EMPTY_HANDS)),
    };
    body.resize(length, b'\n');
    body
}

/// My own heartbeat. Clones share it.
#[derive(Clone)]
pub struct Heart {
    clock: Clock,
    store_clock: StoreClock,
    record: Record,
    says: Arc<Mutex<Heartbeat>>,
    /// Held while a heartbeat is written, so that they are written in order and none after the last; whether it stopped.
    stopped: Arc<tokio::sync::Mutex<bool>>,
}

/// Somebody else's heartbeat, as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// Whose.
    pub name: WorkerName,
    /// Which life of it.
    pub boot: BootId,
    /// How long ago it was written, by the store's clock; not more than that.
    pub age: Duration,
    /// The listed object.
    pub object: Object,
}

impl Other {
    /// Whether it counts as alive.
    pub fn is_alive(&self) -> bool {
        self.age < FRESH
    }

    /// Whether it has nothing in hand, as far as its length tells: one in sixty-four of a program that does not know of this
    /// has.
    pub fn has_empty_hands(&self) -> bool {
        self.object.size_bytes.is_multiple_of(EMPTY_HANDS as u64)
    }
}

impl Heart {
    /// A new life of the worker `name`. Nothing is written yet.
    pub fn new(clock: Clock, name: WorkerName) -> Self {
        let record = Record::new(clock.clone());
        Self::of_run(clock, name, record)
    }

    /// A new life of the worker `name`, that tells what `record` knows.
    pub fn of_run(clock: Clock, name: WorkerName, record: Record) -> Self {
        let says = Heartbeat {
            name,
            boot: BootId::new(clock.ulid()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: clock.wall(),
            in_hand: Vec::new(),
            alone: false,
            intent: None,
            publish_command: false,
            period_seconds: PERIOD.as_secs(),
            vitals: None,
        };
        let store_clock = StoreClock::new(clock.clone());
        Self { clock, store_clock, record, says: Arc::new(Mutex::new(says)), stopped: Arc::default() }
    }

    /// The store's time, as this heart's beats tell it.
    pub fn store_clock(&self) -> &StoreClock {
        &self.store_clock
    }

    /// What heartbeats tell of the run.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// What the next heartbeat says.
    pub fn says(&self) -> Heartbeat {
        Heartbeat { vitals: Some(self.record.vitals()), ..self.lock().clone() }
    }

    /// My key.
    pub fn key(&self) -> Key {
        let says = self.lock();
        Key::Heartbeat(says.name.clone(), says.boot)
    }

    /// Names the inbox objects in hand, from the next [`Heart::beat`] on; whether it is one suspect, `alone`. Nothing is to
    /// be written of them yet.
    pub fn hold(&self, in_hand: Vec<String>, alone: bool) {
        let mut says = self.lock();
        (says.in_hand, says.alone, says.intent) = (in_hand, alone, None);
    }

    /// Says what is about to be written of what is in hand, from the next [`Heart::beat`] on, until something else is held.
    pub fn intend(&self, intent: Option<Intent>) {
        let mut says = self.lock();
        (says.alone, says.intent) = (false, intent);
    }

    /// Says whether I may run the store's `publish_command`, from the next [`Heart::beat`] on.
    pub fn allow_publish_command(&self, may: bool) {
        self.lock().publish_command = may;
    }

    /// Writes my heartbeat and sets the store's clock by it; does nothing once it was removed.
    ///
    /// Overwriting is safe: only this boot writes the name. If the process dies before or after, the last one written
    /// grows old, which is what says that it died.
    pub async fn beat(&self, store: &Store) -> Result<()> {
        self.write(store, true).await
    }

    /// [`Heart::beat`]; on a full disk, which has room for a name but not for what it says, an empty one: it still tells
    /// that I live and what time it is, without which nothing could be deleted to make room (rule 8). Not while
    /// something is in hand: that must be named.
    pub async fn beat_if_need_be_empty(&self, store: &Store) -> Result<()> {
        match self.beat(store).await {
            Err(report) if store_kind(&report) == Some(StoreErrorKind::Full) => {
                // Why there was no room is what counts.
                self.write(store, false).await.map_err(|_| report)
            }
            outcome => outcome,
        }
    }

    async fn write(&self, store: &Store, with_words: bool) -> Result<()> {
        let stopped = self.stopped.lock().await;
        if *stopped {
            return Ok(());
        }
        // Asked now that the heartbeat before is written: this one must not say less.
        let says = self.says();
        let body = match with_words {
            true => padded(serde_json::to_vec(&says).context("write the heartbeat as JSON")?, &says),
            false if says.in_hand.is_empty() => Vec::new(),
            false => bail!("what is in hand must be named"),
        };
        let sent = self.clock.monotonic();
        let written = store.overwrite(&self.key(), body.into()).await.context("write my heartbeat")?;
        self.store_clock.heartbeat(written.modified, sent);
        self.record.beat();
        Ok(())
    }

    /// Beats every [`PERIOD`] until it is dropped. A heartbeat that fails is logged and tried again at the next turn;
    /// meanwhile the clock grows stale and the worker stops deleting by itself.
    pub async fn keep_beating(&self, store: &Store) {
        loop {
            self.clock.sleep(PERIOD).await;
            if let Err(report) = self.beat_if_need_be_empty(store).await {
                tracing::warn!(
                    failure = told(&report),
                    "the heartbeat failed; without one for {FRESH:?} nothing is deleted"
                );
            }
        }
    }

    /// Removes my heartbeat: the worker ends well. None is written afterwards. If the process dies before, it is swept
    /// like that of any dead worker.
    pub async fn remove(&self, store: &Store) -> Result<()> {
        let mut stopped = self.stopped.lock().await;
        *stopped = true;
        Ok(store.delete(&self.key()).await.context("remove my heartbeat")?)
    }

    /// The heartbeats of everybody else, dead or alive, sorted by name and boot; earlier lives of my own name are
    /// others, too.
    ///
    /// # Errors
    /// Before the first [`Heart::beat`]: without the store's time nobody's age is known.
    pub async fn others(&self, store: &Store) -> Result<Vec<Other>> {
        let listing = store.list(&Prefix::Workers).await.context("list the heartbeats")?;
        // Asked after the listing: an age that is too great would make somebody alive look dead.
        let now =
            self.store_clock.unmoved().ok_or_else(|| report!("ask for other workers after the first heartbeat"))?;
        let my_boot = self.lock().boot;
        let mut others: Vec<Other> = listing
            .objects
            .into_iter()
            .filter_map(|object| match &object.key {
                Key::Heartbeat(name, boot) if *boot != my_boot => {
                    let age = now.duration_since(object.modified).try_into().unwrap_or(Duration::ZERO);
                    Some(Other { name: name.clone(), boot: *boot, age, object })
                }
                _ => None,
            })
            .collect();
        others.sort_by(|a, b| (&a.name, a.boot).cmp(&(&b.name, b.boot)));
        Ok(others)
    }

    /// The worker among `others` that is alive, bears my name and was there first, if there is one.
    pub fn twin<'a>(&self, others: &'a [Other]) -> Option<&'a Other> {
        let says = self.lock();
        others.iter().find(|other| other.is_alive() && other.name == says.name && other.boot < says.boot)
    }

    /// Makes sure that nobody else is alive: what `--grace 0s` asks for (rule 2), at the start, after the first beat,
    /// and again in every cycle, because another may start later. Of two that start at once each has written its
    /// heartbeat before it lists, so at least one sees the other.
    ///
    /// # Errors
    /// A [`Mistake`] that names the others.
    pub async fn refuse_company(&self, store: &Store) -> Result<()> {
        let others = self.others(store).await?;
        let alive: Vec<String> = others
            .iter()
            .filter(|other| other.is_alive())
            .map(|other| format!("{} ({} s ago)", other.name, other.age.as_secs()))
            .collect();
        if alive.is_empty() {
            return Ok(());
        }
        Err(report!(Mistake(format!(
            "a grace of 0s is only for a worker that is alone, but there are heartbeats of others: {}. Stop them, or wait \
             {} s if they are gone, or run with the store's own grace.",
            alive.join(", "),
            FRESH.as_secs(),
        )))
        .into_dynamic())
    }

    /// Deletes the heartbeats of workers dead for longer than [`DEAD`]; returns how many. Each is deleted only if it is
    /// still what was listed: somebody who was asleep for a day may have come back.
    pub async fn prune(&self, store: &Store) -> Result<usize> {
        let mut pruned = 0;
        for other in self.others(store).await?.iter().filter(|other| other.age > DEAD) {
            if !self.store_clock.is_fresh() {
                break;
            }
            pruned += usize::from(store.delete_if_unchanged(&other.object).await.context("prune dead heartbeats")?);
        }
        Ok(pruned)
    }

    fn lock(&self) -> MutexGuard<'_, Heartbeat> {
        self.says.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `time + duration`, at the end of time if it would be beyond.
fn add(time: Timestamp, duration: SignedDuration) -> Timestamp {
    time.saturating_add(duration).unwrap_or(time)
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn heart(clock: &Clock, name: &str) -> Heart {
        Heart::new(clock.clone(), name.parse().unwrap())
    }

    async fn memory(clock: &Clock) -> Store {
        Store::open("memory://", &crate::store::OpenOptions::default(), clock.clone()).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_is_a_lower_bound_and_grows_stale() {
        let clock = Clock::simulated(at("2026-11-22T14:00:00Z"), 1);
        let store_clock = StoreClock::new(clock.clone());
        assert_eq!((store_clock.now(), store_clock.is_fresh()), (None, false));

        // The store's clock is a year behind the machine's. The answer took 5 s; the store may have taken the time in
        // any of them.
        let sent = clock.monotonic();
        clock.sleep(Duration::from_secs(5)).await;
        store_clock.heartbeat(at("2025-11-22T14:00:00Z"), sent);
        assert_eq!(store_clock.now(), Some(at("2025-11-22T14:00:00Z")));
        clock.sleep(Duration::from_secs(54)).await;
        assert_eq!(store_clock.now(), Some(at("2025-11-22T14:00:54Z")));
        assert!(store_clock.is_fresh(), "59 s since it was sent");
        clock.sleep(Duration::from_secs(1)).await;
        assert!(!store_clock.is_fresh(), "60 s since it was sent");
        assert_eq!(store_clock.now(), Some(at("2025-11-22T14:00:55Z")), "a stale clock still counts");
    }

    #[tokio::test]
    async fn a_listing_tells_whose_hands_are_empty() {
        let clock = Clock::system(SignedDuration::ZERO);
        let (store, mine, theirs) = (memory(&clock).await, heart(&clock, "a"), heart(&clock, "b"));
        mine.beat(&store).await.unwrap();
        for length in 0..2 * EMPTY_HANDS {
            let in_hand = if length == 0 { Vec::new() } else { vec!["x".repeat(length)] };
            theirs.hold(in_hand, false);
            theirs.beat(&store).await.unwrap();
            let others = mine.others(&store).await.unwrap();
            assert_eq!(others[0].has_empty_hands(), length == 0, "{} bytes", others[0].object.size_bytes);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_latest_it_can_be_is_never_behind() {
        let clock = Clock::simulated(at("2026-11-22T14:00:00Z"), 1);
        let store_clock = StoreClock::new(clock.clone());
        store_clock.observe(at("2026-11-22T14:00:00Z"));
        assert_eq!(store_clock.latest(), None, "a listing tells a lower bound alone");
        let sent = clock.monotonic();
        clock.sleep(Duration::from_secs(5)).await;
        // It may have been written as soon as it was sent, at the end of that second.
        store_clock.heartbeat(at("2026-11-22T14:00:00Z"), sent);
        clock.sleep(Duration::from_secs(10)).await;
        assert_eq!(store_clock.latest(), Some(at("2026-11-22T14:00:16Z")));
        assert_eq!(store_clock.now(), Some(at("2026-11-22T14:00:10Z")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_learns_the_time_from_a_listing_but_may_not_delete() {
        let clock = Clock::simulated(at("2026-11-22T14:00:00Z"), 1);
        let store_clock = StoreClock::new(clock.clone());
        store_clock.observe(at("2026-11-22T13:00:00Z"));
        clock.sleep(Duration::from_secs(1)).await;
        assert_eq!((store_clock.now(), store_clock.is_fresh()), (Some(at("2026-11-22T13:00:01Z")), false));
        store_clock.heartbeat(at("2026-11-22T13:00:02Z"), clock.monotonic());
        store_clock.observe(at("2026-11-22T12:00:00Z"));
        assert_eq!((store_clock.now(), store_clock.is_fresh()), (Some(at("2026-11-22T13:00:02Z")), true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_moved_clock_moves_plans_and_not_the_age_of_heartbeats() {
        let clock = Clock::system(SignedDuration::from_hours(8 * 24));
        let store_clock = StoreClock::new(clock.clone());
        store_clock.heartbeat(at("2026-11-22T14:00:00Z"), clock.monotonic());
        assert_eq!(store_clock.now(), Some(at("2026-11-30T14:00:00Z")));
        assert_eq!(store_clock.unmoved(), Some(at("2026-11-22T14:00:00Z")));
    }

    #[tokio::test]
    async fn a_heartbeat_is_seen_by_others_until_it_is_removed() {
        let clock = Clock::system(SignedDuration::ZERO);
        let store = memory(&clock).await;
        let (mine, theirs) = (heart(&clock, "farm-1"), heart(&clock, "farm-2"));
        assert!(mine.others(&store).await.is_err(), "not before the first beat");
        mine.beat(&store).await.unwrap();
        assert_eq!(mine.others(&store).await.unwrap(), []);
        mine.refuse_company(&store).await.unwrap();

        theirs.hold(vec!["traces/1.json".to_owned()], false);
        theirs.beat(&store).await.unwrap();
        theirs.beat(&store).await.unwrap();
        let others = mine.others(&store).await.unwrap();
        assert_eq!(others.len(), 1);
        assert_eq!((others[0].name.as_str(), others[0].is_alive()), ("farm-2", true));
        let (body, _) = store.get(&others[0].object.key).await.unwrap();
        let said = serde_json::from_slice::<Heartbeat>(&body).unwrap();
        assert_eq!((&said.name, &said.in_hand), (&theirs.says().name, &theirs.says().in_hand));
        assert_eq!(said.vitals.unwrap().peers, 0, "nobody has asked who the peers are");
        let refused = mine.refuse_company(&store).await.unwrap_err();
        assert!(crate::error::find::<Mistake>(&refused).unwrap().0.contains("farm-2"), "{refused}");
        assert_eq!(mine.prune(&store).await.unwrap(), 0, "the living are not swept");

        theirs.remove(&store).await.unwrap();
        theirs.beat(&store).await.unwrap();
        assert_eq!(mine.others(&store).await.unwrap(), [], "no heartbeat after the last");
    }

    #[tokio::test]
    async fn a_restarted_worker_is_another_life() {
        let clock = Clock::system(SignedDuration::ZERO);
        let store = memory(&clock).await;
        let (before, after) = (heart(&clock, "farm-1"), heart(&clock, "farm-1"));
        before.beat(&store).await.unwrap();
        after.beat(&store).await.unwrap();
        assert_eq!(after.others(&store).await.unwrap()[0].boot, before.says().boot);
    }

    #[tokio::test]
    async fn the_dead_are_swept_after_a_day() {
        let clock = Clock::system(SignedDuration::ZERO);
        let store = memory(&clock).await;
        let (dead, alive) = (heart(&clock, "farm-1"), heart(&clock, "farm-2"));
        dead.beat(&store).await.unwrap();
        alive.beat(&store).await.unwrap();
        // As if the store said that a day and an hour have passed.
        let later = alive.store_clock.unmoved().unwrap() + SignedDuration::from_hours(25);
        alive.store_clock.heartbeat(later, clock.monotonic());
        assert!(!alive.others(&store).await.unwrap()[0].is_alive());
        assert_eq!(alive.prune(&store).await.unwrap(), 1);
        assert_eq!(alive.others(&store).await.unwrap(), []);
    }

    /// While a farm is updated two versions read each other's heartbeats: whatever the one does not understand of the
    /// other's, it knows who it is and what it has in hand.
    #[test]
    fn heartbeats_of_older_and_newer_programs_are_read() {
        let said = |vitals: &str| {
            let text = format!(
                r#"{{"name":"farm-1","boot":"01KA8Z3V5Y7N0M2B4C6D8F0G1H","version":"9.0.0","role":"worker",
                "started":"2026-11-22T14:00:00Z","in_hand":["inbox/1"],"period_seconds":15{vitals}}}"#
            );
            let says = serde_json::from_str::<Heartbeat>(&text).unwrap();
            assert_eq!((says.version.as_str(), says.in_hand.as_slice()), ("9.0.0", &["inbox/1".to_owned()][..]));
            says.vitals
        };
        assert_eq!(said(""), None);
        assert_eq!(said(r#","vitals":null,"mood":"fine""#), None);
        assert_eq!(said(r#","vitals":{"rank":"the third"}"#), None);
        assert_eq!(said(r#","vitals":{"rank":3,"mood":"fine"}"#).unwrap().rank, Some(3));
        // As a program before this one reads it: what it does not know it skips.
        #[derive(Deserialize)]
        struct Older {
            name: WorkerName,
            in_hand: Vec<String>,
        }
        let mine = heart(&Clock::system(SignedDuration::ZERO), "farm-1");
        mine.hold(vec!["inbox/2".to_owned()], true);
        let body = padded(serde_json::to_vec(&mine.says()).unwrap(), &mine.says());
        let older: Older = serde_json::from_slice(&body).unwrap();
        assert_eq!((older.name.as_str(), older.in_hand), ("farm-1", vec!["inbox/2".to_owned()]));
    }
}
