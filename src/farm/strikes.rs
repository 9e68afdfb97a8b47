//! Inputs that kill workers: who died with an inbox object in hand gives it a strike, and the third that it gets alone
//! puts it into the quarantine.
//!
//! A worker names what it has in hand in its heartbeat, before it decodes it ([`Hands`]). Whoever finds a boot dead
//! writes a strike for each of its objects that it had not written whole ([`Intent`]) and then removes the dead
//! heartbeat. A strike is `farm/strikes/<object id>/<boot id>`, create-only, so there is one however many find it. A
//! batch of hundreds may die of one of them, or of a machine that was taken away, which is by far more common: an
//! object with one strike is only a suspect, and is indexed in a small [`COMPANY`] of suspects. Whoever is in a company
//! that dies, too, is indexed alone from then on. While it is decoded and its rows are encoded, and no longer, the
//! heartbeat says that it is alone in hand; deaths that came then count, and [`DEADLY`] of them are no chance. (The
//! network's time does not count: it is the longest by far, and whoever takes machines away would meet the same object
//! there again and again.)
//!
//! Strikes go with their object; those of objects that are gone are swept a day later.
//!
//! What a peer names is also left to it ([`Held`]): when the work is divided anew, or two lists of peers differ, nothing
//! that somebody has begun is begun again. It only saves work; two that name an object at the same moment both index it.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::heartbeat::{Heart, Heartbeat, Other};
use super::intent::Intent;
use crate::error::{Result, ResultExt};
use crate::model::BootId;
use crate::stage::Desk;
use crate::store::{Key, Object, Prefix, Store, StoreErrorKind};

/// So many workers died with an object, and with nothing else, in hand: it is quarantined.
pub const DEADLY: u32 = 3;
/// So many objects that were in hand at one death are indexed together. Each batch has three heartbeats and waits for its
/// own requests: of a hundred that a machine took with it when it was taken away each alone would take a hundred times
/// as long, and a company that is sixteen times smaller than a batch finds who it was with one death more.
pub const COMPANY: usize = 16;
/// So many objects beyond those being decoded are named in a heartbeat, so that it is not written for each.
pub(super) const AHEAD: usize = 100;
/// How many strikes are read or written at a time.
const AT_A_TIME: usize = 20;
/// Strikes are kept for so long when their object is not there any more: a zombie may have it in hand.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// What a strike says; for people, but for `alone`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strike {
    /// The inbox object's path.
    pub object: String,
    /// Whether it was all that the worker had in hand.
    pub alone: bool,
    /// Who died.
    pub worker: String,
    /// The dead program's version.
    pub version: String,
    /// Its last heartbeat.
    pub last_seen: Timestamp,
}

/// Which object a strike is for: the XXH3-64 of its path.
pub fn object_id(path: &str) -> u64 {
    xxh3_64(path.as_bytes())
}

/// Gives strikes to what dead workers had in hand, and removes their heartbeats.
#[derive(Default)]
pub struct Coroner {
    /// Those that died with nothing in hand: their heartbeats stay for a day, for people.
    seen: HashSet<BootId>,
}

impl Coroner {
    /// Looks at those of `others` that have been silent for a minute; how many strikes there are for it. What one of
    /// them had written leaves the inbox, without a strike ([`Intent::carry_out`]).
    ///
    /// Dying in here leaves the heartbeat, and whoever comes next writes the same strikes. A worker that was only paused
    /// beats again, under the same name; a strike that it did not deserve is forgiven when its object is done.
    pub async fn examine(&mut self, desk: &Desk, others: &[Other]) -> Result<u64> {
        let store = &desk.store;
        let mut strikes = 0;
        for dead in others.iter().filter(|other| !other.is_alive()) {
            if self.seen.contains(&dead.boot) {
                continue;
            }
            let said = match store.get(&dead.object.key).await {
                Ok((body, _)) => body,
                // Somebody else was here.
                Err(error) if error.kind == StoreErrorKind::NotFound => continue,
                Err(error) => return Err(error).context("read the heartbeat of a dead worker")?,
            };
            // A heartbeat that cannot be read accuses nobody.
            let says = serde_json::from_slice::<Heartbeat>(&said).ok().filter(|says| !says.in_hand.is_empty());
            let Some(says) = says else {
                self.seen.insert(dead.boot);
                continue;
            };
            let done = match &says.intent {
                Some(intent) => intent.carry_out(desk).await?,
                None => HashSet::new(),
            };
            let blamed: Vec<&String> = says.in_hand.iter().filter(|path| !done.contains(path.as_str())).collect();
            let given = blamed.iter().map(|object| strike(store, &says, dead, object));
            strikes +=
                stream::iter(given).buffer_unordered(AT_A_TIME).try_fold(0, async |all, one| Ok(all + one)).await?;
            // Its strikes are durable. Only what was listed: if it came back to life it has beaten since.
            store.delete_if_unchanged(&dead.object).await.context("remove the heartbeat of a dead worker")?;
            tracing::warn!(
                worker = %says.name,
                "{} died with {} inbox objects in hand. {} of them had been indexed and have left the inbox; {} are indexed \
                 a few at a time from now on",
                says.name,
                says.in_hand.len(),
                done.len(),
                blamed.len()
            );
        }
        Ok(strikes)
    }
}

/// Gives `object` the strike for `dead`; 1 if nobody else had.
async fn strike(store: &Store, says: &Heartbeat, dead: &Other, object: &str) -> Result<u64> {
    let strike = Strike {
        object: object.to_owned(),
        alone: says.alone,
        worker: says.name.to_string(),
        version: says.version.clone(),
        last_seen: dead.object.modified,
    };
    let body = serde_json::to_vec_pretty(&strike).context("write a strike as JSON")?;
    let key = Key::Strike(object_id(object), dead.boot);
    match store.create(&key, body.into()).await {
        Ok(_) => Ok(1),
        Err(error) if error.kind == StoreErrorKind::AlreadyExists => Ok(0),
        Err(error) => Err(error).context_with(|| format!("write {}", key.path()))?,
    }
}

/// How often workers died with an object in hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Deaths {
    /// While nothing else could be to blame.
    pub alone: u32,
    /// Among others.
    pub in_company: u32,
}

impl Deaths {
    /// Whether this is no chance.
    pub fn are_deadly(self) -> bool {
        self.alone >= DEADLY
    }

    /// Whether it may be indexed together with others like it.
    pub fn allow_company(self) -> bool {
        self.alone == 0 && self.in_company <= 1
    }
}

/// Strikes as last read; they never change, so only new ones are. Clones share it.
#[derive(Clone, Default)]
pub struct Strikes {
    /// Whether each counts as a lonely death.
    known: Arc<Mutex<BTreeMap<(u64, BootId), bool>>>,
}

impl Strikes {
    /// Which of these objects (by [`object_id`]) have strikes, and how many.
    pub async fn of(&self, store: &Store, objects: &HashSet<u64>) -> Result<BTreeMap<u64, Deaths>> {
        let listed = store.list(&Prefix::Strikes).await.context("list the strikes")?.objects;
        let strike = |object: &Object| if let Key::Strike(id, boot) = object.key { Some((id, boot)) } else { None };
        let listed: BTreeSet<(u64, BootId)> = listed.iter().filter_map(strike).collect();
        let mine = listed.iter().filter(|(id, _)| objects.contains(id));
        let mut known = self.lock().clone();
        known.retain(|strike, _| listed.contains(strike));
        let unread: Vec<_> = mine.clone().filter(|strike| !known.contains_key(*strike)).copied().collect();
        let read = stream::iter(unread).map(|(id, boot)| async move {
            match store.get(&Key::Strike(id, boot)).await {
                // One that cannot be read makes its object a suspect, and no more.
                Ok((body, _)) => Ok(Some(serde_json::from_slice::<Strike>(&body).is_ok_and(|strike| strike.alone))),
                // Its object has been done.
                Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
                Err(error) => Err(error).context("read a strike"),
            }
            .map(|alone| alone.map(|alone| ((id, boot), alone)))
        });
        let read: Vec<_> = read.buffer_unordered(AT_A_TIME).try_collect().await?;
        known.extend(read.into_iter().flatten());
        let mut deaths = BTreeMap::<u64, Deaths>::new();
        for strike in mine {
            if let Some(alone) = known.get(strike) {
                let deaths = deaths.entry(strike.0).or_default();
                *if *alone { &mut deaths.alone } else { &mut deaths.in_company } += 1;
            }
        }
        *self.lock() = known;
        Ok(deaths)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(u64, BootId), bool>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the strikes of an object that is done: indexed, or in the quarantine.
pub async fn forgive(store: &Store, path: &str) -> Result<()> {
    for strike in store.list(&Prefix::StrikesOf(object_id(path))).await.context("list its strikes")?.objects {
        if matches!(strike.key, Key::Strike(..)) {
            store.delete(&strike.key).await.context("remove a strike")?;
        }
    }
    Ok(())
}

/// Removes strikes whose objects are no longer in the inbox, a day after they were given.
pub async fn sweep(store: &Store, inbox: &Store) -> Result<u64> {
    let strikes = store.list(&Prefix::Strikes).await.context("list the strikes")?;
    let is_old = |object: &&Object| strikes.began.duration_since(object.modified) > KEPT;
    let old: Vec<&Object> = strikes.objects.iter().filter(is_old).collect();
    if old.is_empty() {
        return Ok(0);
    }
    let inbox = inbox.list(&Prefix::Inbox).await.context("list the inbox")?;
    let there: HashSet<u64> = inbox.objects.iter().map(|object| object_id(&object.key.path())).collect();
    let mut swept = 0;
    for strike in old {
        // A listing of the inbox that was begun later than that of the strikes: what is not there is gone.
        if matches!(strike.key, Key::Strike(id, _) if !there.contains(&id)) {
            store.delete(&strike.key).await.context("remove a strike")?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// What the others have in hand, as last read: of heartbeats that have not changed nothing is read again, and nothing at all
/// of those with empty hands. Clones share it.
#[derive(Clone, Default)]
pub struct Held {
    named: Arc<Mutex<Named>>,
}

/// By boot: the heartbeat's etag, and what it names.
type Named = BTreeMap<BootId, (String, Vec<String>)>;

impl Held {
    /// Inbox objects that other workers name at this moment, the dead among them: their heartbeats go when the strikes for
    /// what they name are durable, and until then nobody can know a suspect among others.
    pub async fn by_others(&self, heart: &Heart, store: &Store) -> Result<HashSet<String>> {
        let others = heart.others(store).await?;
        let mut known = std::mem::take(&mut *self.lock());
        let alive = others.into_iter().map(|other| {
            let of_before = known.remove(&other.boot).filter(|(etag, _)| *etag == other.object.etag);
            (other, of_before)
        });
        let hands = stream::iter(alive.collect::<Vec<_>>()).map(|(other, of_before)| async move {
            let hand = match of_before {
                Some(hand) => hand,
                None if other.has_empty_hands() => (other.object.etag.clone(), Vec::new()),
                None => match store.get(&other.object.key).await {
                    // One that cannot be read claims nothing.
                    Ok((body, now)) => {
                        (now.etag, serde_json::from_slice::<Heartbeat>(&body).map_or(vec![], |h| h.in_hand))
                    }
                    // It ended.
                    Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(error).context("read the heartbeat of a peer"),
                },
            };
            Ok(Some((other.boot, hand)))
        });
        let hands: Vec<Option<_>> = hands.buffer_unordered(AT_A_TIME).try_collect().await?;
        let hands: Named = hands.into_iter().flatten().collect();
        let held = hands.values().flat_map(|(_, hand)| hand.iter().cloned()).collect();
        *self.lock() = hands;
        Ok(held)
    }

    fn lock(&self) -> MutexGuard<'_, Named> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names inbox objects in the heartbeat before they are decoded.
pub struct Hands {
    heart: Heart,
    store: Store,
    /// Looks at what peers have in hand before it names more; none: there are no peers, or they do not count.
    held: Option<Held>,
    /// Not named yet, in the order in which they are fetched.
    waiting: VecDeque<String>,
    /// Named in the heartbeat as it was written last.
    named: HashSet<String>,
    /// Of these, what has been decoded, or begun to be.
    taken: HashSet<String>,
    /// What peers had in hand when it was to be named.
    theirs: HashSet<String>,
    /// It is a suspect, that is all that is in hand.
    alone: bool,
    /// What the heartbeat said when it was written last for these hands.
    said: Said,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Names,
    Alone,
}

impl Hands {
    /// Empty hands, that will take `items` in about this order, but for what peers have in hand by then.
    pub fn new(heart: &Heart, store: &Store, held: Option<Held>, items: impl Iterator<Item = String>) -> Self {
        let (alone, said) = (false, Said::Nothing);
        Self {
            alone,
            said,
            heart: heart.clone(),
            store: store.clone(),
            held,
            waiting: items.collect(),
            named: HashSet::new(),
            taken: HashSet::new(),
            theirs: HashSet::new(),
        }
    }

    /// Empty hands for a suspect.
    pub fn of_suspect(heart: &Heart, store: &Store, held: Option<Held>, path: &str) -> Self {
        let mut hands = Self::new(heart, store, held, [path.to_owned()].into_iter());
        hands.alone = true;
        hands
    }

    /// Whether they are for a suspect.
    pub fn are_alone(&self) -> bool {
        self.alone
    }

    /// `path` is about to be decoded: when this returns, a durable heartbeat names it. False if it is not to be: a peer
    /// has it in hand.
    ///
    /// # Errors
    /// If the heartbeat cannot be written: then nothing may be decoded.
    pub async fn take(&mut self, path: &str) -> Result<bool> {
        // Of the rest of an object the beginning stands in a block already.
        if !self.taken.contains(path) && self.theirs.contains(path) {
            return Ok(false);
        }
        if !self.named.contains(path) {
            self.theirs = self.held_by_others().await?;
            let place = self.waiting.iter().position(|waiting| waiting == path).map_or(0, |place| place + 1);
            let more = (place + AHEAD).min(self.waiting.len());
            let named = self.waiting.drain(..more).chain([path.to_owned()]);
            self.named.extend(named.filter(|path| !self.theirs.contains(path)));
            if !self.alone {
                self.say(Said::Names).await?;
            }
            if self.theirs.contains(path) {
                return Ok(false);
            }
        }
        if self.alone && self.said != Said::Alone {
            self.say(Said::Alone).await?;
        }
        self.taken.insert(path.to_owned());
        Ok(true)
    }

    /// What was taken was decoded and encoded, and is about to be written: when this returns, a durable heartbeat says what
    /// is done by it, if anything is. A suspect did not kill: a death from now on is not its fault.
    ///
    /// # Errors
    /// If the heartbeat cannot be written: then nothing may be, lest it be done twice.
    pub async fn intend(&mut self, intent: Option<Intent>) -> Result<()> {
        let is_news = intent.is_some() || self.said == Said::Alone;
        self.said = Said::Names;
        self.heart.intend(intent);
        if is_news { self.beat().await } else { Ok(()) }
    }

    /// More of what was taken is about to be encoded: a suspect may kill again.
    ///
    /// # Errors
    /// If the heartbeat cannot be written: then nothing may be encoded.
    pub async fn fear(&mut self) -> Result<()> {
        if self.alone { self.say(Said::Alone).await } else { Ok(()) }
    }

    async fn held_by_others(&self) -> Result<HashSet<String>> {
        match &self.held {
            Some(held) => held.by_others(&self.heart, &self.store).await,
            None => Ok(HashSet::new()),
        }
    }

    /// A batch is done: what was taken is out of hand, but for the object `open`, of which the rest is to come. The next
    /// heartbeat says so.
    pub fn put_down(&mut self, open: Option<&str>) {
        self.named.retain(|path| !self.taken.contains(path) || Some(path.as_str()) == open);
        self.taken.retain(|path| Some(path.as_str()) == open);
        self.heart.hold(sorted(&self.named), false);
    }

    /// Everything is done. Written at once: a death until the next heartbeat would be held against what was in hand, and
    /// peers would leave alone what is given up.
    ///
    /// # Errors
    /// If the heartbeat cannot be written.
    pub async fn empty(mut self) -> Result<()> {
        self.named.clear();
        if self.said == Said::Nothing { Ok(()) } else { self.say(Said::Nothing).await }
    }

    async fn say(&mut self, what: Said) -> Result<()> {
        // An error may come after the effect.
        self.said = what;
        self.heart.hold(sorted(&self.named), what == Said::Alone);
        self.beat().await
    }

    async fn beat(&self) -> Result<()> {
        Ok(self.heart.beat(&self.store).await.context("name what is in hand")?)
    }
}

fn sorted(named: &HashSet<String>) -> Vec<String> {
    let mut named: Vec<String> = named.iter().cloned().collect();
    named.sort_unstable();
    named
}

impl Drop for Hands {
    /// A round that ended in the middle has nothing in hand, either.
    fn drop(&mut self) {
        self.heart.hold(Vec::new(), false);
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::clock::Clock;
    use crate::stage::testing::{At, World};
    use crate::store::OpenOptions;
    use crate::store::fault::{Bucket, Fate};

    async fn memory(clock: &Clock) -> Store {
        Store::open("memory://", &OpenOptions::default(), clock.clone()).await.unwrap()
    }

    fn heart(clock: &Clock, name: &str) -> Heart {
        Heart::new(clock.clone(), name.parse().unwrap())
    }

    /// Once among others, and so often alone.
    fn once(alone: u32) -> Deaths {
        Deaths { alone, in_company: 1 }
    }

    /// The others, as they look when a minute has passed for `mine`.
    async fn a_minute_later(mine: &Heart, store: &Store) -> Vec<Other> {
        let mut others = mine.others(store).await.unwrap();
        others.iter_mut().for_each(|other| other.age += std::time::Duration::from_secs(60));
        others
    }

    #[tokio::test(start_paused = true)]
    async fn the_dead_accuse_what_they_had_in_hand_once() {
        let world = World::new();
        let At { desk, .. } = &world.desk().await;
        let (clock, store) = (&world.clock, &desk.store);
        let (mine, theirs, idle) = (&desk.heart, heart(clock, "b"), heart(clock, "c"));
        for heart in [&theirs, &idle] {
            heart.beat(store).await.unwrap();
        }
        theirs.hold(vec!["inbox/1".to_owned(), "inbox/2".to_owned()], false);
        theirs.beat(store).await.unwrap();
        let mut coroner = Coroner::default();
        assert_eq!(
            coroner.examine(desk, &mine.others(store).await.unwrap()).await.unwrap(),
            0,
            "the living accuse nobody"
        );
        let others = a_minute_later(mine, store).await;
        assert_eq!(coroner.examine(desk, &others).await.unwrap(), 2);
        // Somebody else saw it, too, at the same time.
        assert_eq!(Coroner::default().examine(desk, &others).await.unwrap(), 0);
        let ids = HashSet::from(["inbox/1", "inbox/2"].map(object_id));
        let strikes = Strikes::default();
        let suspects = strikes.of(store, &ids).await.unwrap();
        assert_eq!(suspects, BTreeMap::from([(object_id("inbox/1"), once(0)), (object_id("inbox/2"), once(0))]));
        let left: Vec<String> = mine.others(store).await.unwrap().iter().map(|other| other.name.to_string()).collect();
        assert_eq!(left, ["c"], "who died with empty hands stays for a day");

        // Three die of it, alone.
        for name in ["d", "e", "f"] {
            let dead = heart(clock, name);
            let mut hands = Hands::of_suspect(&dead, store, None, "inbox/1");
            assert!(hands.take("inbox/1").await.unwrap());
            let others = a_minute_later(mine, store).await;
            assert_eq!(coroner.examine(desk, &others).await.unwrap(), 1);
        }
        assert_eq!(strikes.of(store, &ids).await.unwrap()[&object_id("inbox/1")], once(DEADLY));
        forgive(store, "inbox/1").await.unwrap();
        assert_eq!(strikes.of(store, &ids).await.unwrap(), BTreeMap::from([(object_id("inbox/2"), once(0))]));
        assert_eq!(strikes.of(store, &HashSet::new()).await.unwrap(), BTreeMap::new());
    }

    #[tokio::test(start_paused = true)]
    async fn strikes_without_an_object_are_swept_a_day_later() {
        let clock = Clock::simulated("2026-11-22T14:00:00Z".parse().unwrap(), 1);
        let bucket = Bucket::new(clock.clone(), 1_000);
        let (client, now) = (bucket.client("calm", Box::new(|_| Fate::calm())), bucket.clone());
        let now = std::sync::Arc::new(move || now.now());
        let store = Store::over_with_time(std::sync::Arc::new(client), "memory://", clock.clone(), now);
        bucket.put("inbox/here", "x");
        let boot = BootId::new(clock.ulid());
        for path in ["inbox/here", "inbox/gone"] {
            store.create(&Key::Strike(object_id(path), boot), "{}".into()).await.unwrap();
        }
        assert_eq!(sweep(&store, &store).await.unwrap(), 0, "a zombie may have it in hand");
        clock.sleep(std::time::Duration::from_secs(25 * 3600)).await;
        assert_eq!(sweep(&store, &store).await.unwrap(), 1);
        let ids = HashSet::from(["inbox/here", "inbox/gone"].map(object_id));
        let left = Strikes::default().of(&store, &ids).await.unwrap();
        assert_eq!(left, BTreeMap::from([(object_id("inbox/here"), once(0))]));
    }

    #[tokio::test]
    async fn everything_is_named_before_it_is_taken_and_not_after() {
        let clock = Clock::system(SignedDuration::ZERO);
        let store = memory(&clock).await;
        let mine = heart(&clock, "a");
        let path = |number: usize| format!("inbox/{number:03}");
        let mut hands = Hands::new(&mine, &store, None, (0..250).map(path));
        let said = async || -> Vec<String> {
            let (body, _) = store.get(&mine.key()).await.unwrap();
            serde_json::from_slice::<Heartbeat>(&body).unwrap().in_hand
        };
        // They arrive in almost the order in which they were asked for.
        hands.take(&path(3)).await.unwrap();
        assert_eq!(said().await, (0..4 + AHEAD).map(path).collect::<Vec<_>>());
        for number in [0, 1, 2, 110] {
            hands.take(&path(number)).await.unwrap();
            assert!(said().await.contains(&path(number)));
        }
        hands.put_down(Some(&path(110)));
        mine.beat(&store).await.unwrap();
        let said_now = said().await;
        assert!(!said_now.contains(&path(3)) && said_now.contains(&path(110)) && said_now.contains(&path(111)));
        hands.empty().await.unwrap();
        assert_eq!(said().await, [""; 0]);
    }

    #[tokio::test]
    async fn a_suspect_is_accused_while_it_is_decoded_and_encoded_and_no_longer() {
        let clock = Clock::system(SignedDuration::ZERO);
        let store = memory(&clock).await;
        let mine = heart(&clock, "a");
        let said = async || {
            let (body, _) = store.get(&mine.key()).await.unwrap();
            let says = serde_json::from_slice::<Heartbeat>(&body).unwrap();
            (says.in_hand.len(), says.alone)
        };
        let mut hands = Hands::of_suspect(&mine, &store, None, "inbox/1");
        // Its first part, then the rest, in another batch.
        for open in [Some("inbox/1"), None] {
            assert!(hands.take("inbox/1").await.unwrap());
            assert_eq!(said().await, (1, true));
            hands.intend(None).await.unwrap();
            assert_eq!(said().await, (1, false));
            hands.fear().await.unwrap();
            assert_eq!(said().await, (1, true));
            hands.intend(None).await.unwrap();
            assert_eq!(said().await, (1, false));
            hands.put_down(open);
        }
        hands.empty().await.unwrap();
        assert_eq!(said().await, (0, false));
    }

    #[tokio::test]
    async fn what_a_living_peer_has_in_hand_is_left_to_it() {
        let clock = Clock::system(SignedDuration::ZERO);
        let store = memory(&clock).await;
        let (mine, theirs) = (heart(&clock, "a"), heart(&clock, "b"));
        mine.beat(&store).await.unwrap();
        theirs.beat(&store).await.unwrap();
        let path = |number: usize| format!("inbox/{number:03}");
        let hands = |heart: &Heart, numbers: Range<usize>| {
            Hands::new(heart, &store, Some(Held::default()), numbers.map(path).collect::<Vec<_>>().into_iter())
        };
        let mut first = hands(&theirs, 100..400);
        assert!(first.take(&path(100)).await.unwrap(), "101 are named");
        let mut second = hands(&mine, 0..300);
        assert!(second.take(&path(0)).await.unwrap());
        assert!(second.take(&path(99)).await.unwrap());
        assert!(!second.take(&path(100)).await.unwrap());
        assert!(!second.take(&path(200)).await.unwrap());
        assert!(second.take(&path(201)).await.unwrap());
        // And what this one has named since is not taken by the first when it comes to it.
        assert!(!first.take(&path(201)).await.unwrap());
        assert!(first.take(&path(302)).await.unwrap());
        // Put down, it is anybody's.
        second.empty().await.unwrap();
        assert!(hands(&theirs, 201..202).take(&path(201)).await.unwrap());
    }
}
