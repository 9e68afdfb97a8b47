//! Inputs that kill workers: who died with an inbox object in hand gives it a strike, and the third that it gets alone
//! puts it into the quarantine.
//!
//! A worker names what it has in hand in its heartbeat, before it decodes it ([`Hands`]). Whoever finds a boot dead
//! writes a strike for each of its objects (`farm/strikes/<object id>/<boot id>`: create-only, so there is one however
//! many find it) and then removes the dead heartbeat. A batch of hundreds may die of one of them, or of a machine that
//! was taken away: an object with a strike is only a suspect, and is indexed alone from then on, named alone in the
//! heartbeat. Deaths that came then count, and [`DEADLY`] of them are no chance.
//!
//! Strikes go with their object; those of objects that are gone are swept a day later.

use std::collections::{BTreeMap, HashSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::heartbeat::{Heart, Heartbeat, Other};
use crate::error::{Result, ResultExt};
use crate::model::BootId;
use crate::store::{Key, Object, Prefix, Store, StoreErrorKind};

/// So many workers died with an object, and with nothing else, in hand: it is quarantined.
pub const DEADLY: u32 = 3;
/// So many objects beyond those being decoded are named in a heartbeat, so that it is not written for each.
const AHEAD: usize = 100;
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
    /// Looks at those of `others` that have been silent for a minute; how many strikes there are for it.
    ///
    /// Dying in here leaves the heartbeat, and whoever comes next writes the same strikes. A worker that was only paused
    /// beats again, under the same name; a strike that it did not deserve is forgiven when its object is done.
    pub async fn examine(&mut self, store: &Store, others: &[Other]) -> Result<u64> {
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
            for object in &says.in_hand {
                let strike = Strike {
                    object: object.clone(),
                    alone: says.alone,
                    worker: says.name.to_string(),
                    version: says.version.clone(),
                    last_seen: dead.object.modified,
                };
                let body = serde_json::to_vec_pretty(&strike).context("write a strike as JSON")?;
                let key = Key::Strike(object_id(object), dead.boot);
                match store.create(&key, body.into()).await {
                    Ok(_) => strikes += 1,
                    Err(error) if error.kind == StoreErrorKind::AlreadyExists => {}
                    Err(error) => return Err(error).context_with(|| format!("write {}", key.path()))?,
                }
            }
            // Its strikes are durable. Only what was listed: if it came back to life it has beaten since.
            store.delete_if_unchanged(&dead.object).await.context("remove the heartbeat of a dead worker")?;
            tracing::warn!(
                worker = %says.name,
                "{} died with {} inbox objects in hand; each is indexed alone from now on",
                says.name,
                says.in_hand.len()
            );
        }
        Ok(strikes)
    }
}

/// Which objects have strikes, and how many they got alone.
pub async fn load(store: &Store) -> Result<BTreeMap<u64, u32>> {
    let mut strikes = BTreeMap::new();
    for object in store.list(&Prefix::Strikes).await.context("list the strikes")?.objects {
        let Key::Strike(id, _) = object.key else { continue };
        let body = match store.get(&object.key).await {
            Ok((body, _)) => body,
            Err(error) if error.kind == StoreErrorKind::NotFound => continue,
            Err(error) => return Err(error).context("read a strike")?,
        };
        // One that cannot be read makes its object a suspect, and no more.
        let alone = serde_json::from_slice::<Strike>(&body).is_ok_and(|strike| strike.alone);
        *strikes.entry(id).or_default() += u32::from(alone);
    }
    Ok(strikes)
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

/// Names inbox objects in the heartbeat before they are decoded.
pub struct Hands {
    heart: Heart,
    store: Store,
    /// Not named yet, in the order in which they are fetched.
    waiting: VecDeque<String>,
    /// Named in the heartbeat as it was written last.
    named: HashSet<String>,
    /// Of these, what has been decoded, or begun to be.
    taken: HashSet<String>,
}

impl Hands {
    /// Empty hands, that will take `items` in about this order.
    pub fn new(heart: &Heart, store: &Store, items: impl Iterator<Item = String>) -> Self {
        let (named, taken) = (HashSet::new(), HashSet::new());
        Self { heart: heart.clone(), store: store.clone(), waiting: items.collect(), named, taken }
    }

    /// `path` is about to be decoded: when this returns, a durable heartbeat names it.
    ///
    /// # Errors
    /// If the heartbeat cannot be written: then nothing may be decoded.
    pub async fn take(&mut self, path: &str) -> Result<()> {
        self.taken.insert(path.to_owned());
        if self.named.contains(path) {
            return Ok(());
        }
        let place = self.waiting.iter().position(|waiting| waiting == path).map_or(0, |place| place + 1);
        let more = (place + AHEAD).min(self.waiting.len());
        self.named.extend(self.waiting.drain(..more));
        self.named.insert(path.to_owned());
        self.say(false).await
    }

    /// `path` alone is about to be decoded.
    ///
    /// # Errors
    /// As [`Hands::take`].
    pub async fn take_alone(&mut self, path: &str) -> Result<()> {
        self.named = HashSet::from([path.to_owned()]);
        self.say(true).await
    }

    /// A batch is done: what was taken is out of hand, but for the object `open`, of which the rest is to come. The next
    /// heartbeat says so.
    pub fn put_down(&mut self, open: Option<&str>) {
        self.named.retain(|path| !self.taken.contains(path) || Some(path.as_str()) == open);
        self.taken.retain(|path| Some(path.as_str()) == open);
        self.heart.hold(sorted(&self.named), false);
    }

    /// Everything is done.
    ///
    /// # Errors
    /// If the heartbeat cannot be written; a death until the next one would be held against what was in hand.
    pub async fn empty(mut self) -> Result<()> {
        if !self.named.is_empty() {
            self.named.clear();
            self.say(false).await?;
        }
        Ok(())
    }

    async fn say(&self, alone: bool) -> Result<()> {
        self.heart.hold(sorted(&self.named), alone);
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
    use super::*;
    use crate::clock::Clock;
    use crate::store::OpenOptions;
    use crate::store::fault::{Bucket, Fate};

    async fn memory(clock: &Clock) -> Store {
        Store::open("memory://", &OpenOptions::default(), clock.clone()).await.unwrap()
    }

    fn heart(clock: &Clock, name: &str) -> Heart {
        Heart::new(clock.clone(), name.parse().unwrap())
    }

    /// The others, as they look when a minute has passed for `mine`.
    async fn a_minute_later(mine: &Heart, store: &Store) -> Vec<Other> {
        let mut others = mine.others(store).await.unwrap();
        others.iter_mut().for_each(|other| other.age += std::time::Duration::from_secs(60));
        others
    }

    #[tokio::test]
    async fn the_dead_accuse_what_they_had_in_hand_once() {
        let clock = Clock::system(SignedDuration::ZERO);
        let store = memory(&clock).await;
        let (mine, theirs, idle) = (heart(&clock, "a"), heart(&clock, "b"), heart(&clock, "c"));
        for heart in [&mine, &theirs, &idle] {
            heart.beat(&store).await.unwrap();
        }
        theirs.hold(vec!["inbox/1".to_owned(), "inbox/2".to_owned()], false);
        theirs.beat(&store).await.unwrap();
        let mut coroner = Coroner::default();
        assert_eq!(
            coroner.examine(&store, &mine.others(&store).await.unwrap()).await.unwrap(),
            0,
            "the living accuse nobody"
        );
        let others = a_minute_later(&mine, &store).await;
        assert_eq!(coroner.examine(&store, &others).await.unwrap(), 2);
        // Somebody else saw it, too, at the same time.
        assert_eq!(Coroner::default().examine(&store, &others).await.unwrap(), 0);
        let suspects = load(&store).await.unwrap();
        assert_eq!(suspects, BTreeMap::from([(object_id("inbox/1"), 0), (object_id("inbox/2"), 0)]));
        let left: Vec<String> = mine.others(&store).await.unwrap().iter().map(|other| other.name.to_string()).collect();
        assert_eq!(left, ["c"], "who died with empty hands stays for a day");

        // Three die of it, alone.
        for name in ["d", "e", "f"] {
            let dead = heart(&clock, name);
            let mut hands = Hands::new(&dead, &store, ["inbox/1".to_owned()].into_iter());
            hands.take_alone("inbox/1").await.unwrap();
            let others = a_minute_later(&mine, &store).await;
            assert_eq!(coroner.examine(&store, &others).await.unwrap(), 1);
        }
        assert_eq!(load(&store).await.unwrap()[&object_id("inbox/1")], DEADLY);
        forgive(&store, "inbox/1").await.unwrap();
        assert_eq!(load(&store).await.unwrap(), BTreeMap::from([(object_id("inbox/2"), 0)]));
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
        assert_eq!(load(&store).await.unwrap(), BTreeMap::from([(object_id("inbox/here"), 0)]));
    }

    #[tokio::test]
    async fn everything_is_named_before_it_is_taken_and_not_after() {
        let clock = Clock::system(SignedDuration::ZERO);
        let store = memory(&clock).await;
        let mine = heart(&clock, "a");
        let path = |number: usize| format!("inbox/{number:03}");
        let mut hands = Hands::new(&mine, &store, (0..250).map(path));
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
}
