//! What a worker is about to write of a batch, said in its heartbeat before the first of it is written.
//!
//! A batch is blocks first, then its objects leave the inbox. Whoever dies between the two leaves rows that stand and
//! objects that would be indexed once more: harmless (rule 3) and wasted. By its intent those who find it dead can tell that
//! everything it had to write stands, and do what is left.
//!
//! It is a write-ahead intent as databases have it, turned round: it is never needed to undo or to repeat anything. Without
//! it, or if only one of its blocks is not found (not written, or merged and gone since), the objects are indexed again.

use std::collections::HashSet;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Report, Result, ResultExt};
use crate::stage::{Desk, Fence};
use crate::store::{Key, Object, StoreErrorKind};

/// How many requests are under way at a time.
const AT_A_TIME: usize = 20;

/// Blocks, and what is done once they stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Paths of the blocks that are about to be written.
    blocks: Vec<String>,
    /// Inbox objects of which every row is durable when all of the blocks are: those whose last rows are in this batch.
    objects: Vec<Content>,
}

/// An inbox object as the answer that delivered its bytes told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    path: String,
    size_bytes: u64,
    modified: Timestamp,
    etag: String,
}

impl Intent {
    /// To write `blocks`, so that `objects` may leave the inbox.
    pub fn new<'a>(blocks: impl Iterator<Item = &'a Key>, objects: impl Iterator<Item = &'a Object>) -> Self {
        let content = |object: &Object| Content {
            path: object.key.path(),
            size_bytes: object.size_bytes,
            modified: object.modified,
            etag: object.etag.clone(),
        };
        Self { blocks: blocks.map(Key::path).collect(), objects: objects.map(content).collect() }
    }

    /// Removes the objects from the inbox if every block stands; the paths of those that are done, or none.
    ///
    /// Dying in here, two at once, the worker after all alive and doing the same: each asks again what stands before it
    /// deletes, and deletes the very content that was read, and nothing else. A block that is found is whole (a PUT is
    /// seen as a whole or not at all), and its rows stay whatever becomes of it (rules 2 and 5). Who stands still in
    /// here for long wakes up before the fence: the same content may have been put back to be indexed once more.
    ///
    /// # Errors
    /// Those of the store; then nothing is known, and it is tried again.
    pub async fn carry_out(&self, desk: &Desk) -> Result<HashSet<&str>> {
        let fence = Fence::begin(desk);
        // What claims to need no block proves nothing. Where the inbox is kept nobody intends this.
        if self.blocks.is_empty() || desk.inbox.keep || !self.all_stand(desk).await? {
            return Ok(HashSet::new());
        }
        let done = stream::iter(&self.objects).map(async |content| {
            let Some(object) = content.object() else { return Ok::<_, Report>(None) };
            fence.allows_delete().context("remove what a dead worker has indexed from the inbox")?;
            let deleted = desk.inbox.store.delete_if_unchanged(&object).await;
            // Gone or written over since: what was read of it stands all the same.
            deleted.context_with(|| format!("remove {}", content.path))?;
            Ok(Some(content.path.as_str()))
        });
        let done: Vec<Option<&str>> = done.buffer_unordered(AT_A_TIME).try_collect().await?;
        Ok(done.into_iter().flatten().collect())
    }

    async fn all_stand(&self, desk: &Desk) -> Result<bool> {
        let looks = stream::iter(&self.blocks).map(async |path| match Key::parse(path) {
            Some(key @ Key::Block(_)) => match desk.store.head(&key).await {
                Ok(_) => Ok(true),
                Err(error) if error.kind == StoreErrorKind::NotFound => Ok(false),
                Err(error) => Err(error).context_with(|| format!("look for {path}"))?,
            },
            _ => Ok(false),
        });
        looks.buffer_unordered(AT_A_TIME).try_all(async |stands| stands).await
    }
}

impl Content {
    /// None for what is no object of the inbox: nothing else is ever deleted because a heartbeat says so.
    fn object(&self) -> Option<Object> {
        let key = Key::parse(&self.path).filter(|key| matches!(key, Key::Inbox(_)))?;
        Some(Object { key, size_bytes: self.size_bytes, modified: self.modified, etag: self.etag.clone() })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::farm::heartbeat::Heartbeat;
    use crate::farm::strikes::Coroner;
    use crate::stage::index;
    use crate::stage::testing::{At, GRACE, START, Sent, World, crash_at};
    use crate::store::Prefix;
    use crate::store::fault::{CallKind, Fate, Gate, Incident, Script};

    const HOUR: u64 = 3_600_000_000_000;

    /// Two objects whose rows are of two hours: two blocks of spans and two of entries.
    fn two_objects() -> World {
        let world = World::new();
        world.send("a", &[Sent::request(1, 1, "/a", START), Sent::request(2, 2, "/b", START - HOUR)]);
        world.send("b", &[Sent::request(3, 3, "/a", START), Sent::inner(3, 4, 3, "db", START)]);
        world
    }

    /// A worker indexes, and dies as `script` says; whether it did.
    async fn dies(world: &World, script: Script) -> bool {
        world.sleep(61).await;
        let client = world.client(script);
        let lived = client.live(async {
            let at = world.sit(&client).await;
            index::run(&at.desk, &at.round).await.unwrap();
        });
        lived.await.is_none()
    }

    /// Dies before it removes anything of the inbox.
    async fn dies_with_all_written(world: &World) {
        let script = |call: &crate::store::fault::Call| match call.kind {
            CallKind::Delete if call.path.starts_with("inbox/") => Fate::before(Incident::Crash),
            _ => Fate::calm(),
        };
        assert!(dies(world, Box::new(script)).await);
        assert_eq!((blocks(world).len(), world.bucket.paths("inbox/").len()), (4, 2));
    }

    /// A peer finds whoever is dead; how many strikes it gave.
    async fn examine(world: &World, at: &At) -> u64 {
        world.sleep(61).await;
        at.desk.heart.beat(&at.desk.store).await.unwrap();
        let others = at.desk.heart.others(&at.desk.store).await.unwrap();
        Coroner::default().examine(&at.desk, &others).await.unwrap()
    }

    fn blocks(world: &World) -> Vec<String> {
        [world.bucket.paths("spans/"), world.bucket.paths("entries/")].concat()
    }

    /// The heartbeat of the dead worker, and its path.
    fn last_words(world: &World) -> (String, Heartbeat) {
        let said = world.bucket.paths("farm/workers/").into_iter().map(|path| {
            let body = world.bucket.read(&path).unwrap().body;
            (path, serde_json::from_slice::<Heartbeat>(&body).unwrap())
        });
        said.into_iter().find(|(_, says)| says.intent.is_some()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_it_dies_at_what_stands_whole_is_not_indexed_again() {
        let (mut call, mut carried_out) = (0, 0);
        loop {
            call += 1;
            let mut died = false;
            for after in [false, true] {
                let world = two_objects();
                died |= dies(&world, crash_at(call, after)).await;
                let (written, left) = (blocks(&world).len(), world.bucket.paths("inbox/").len() as u64);
                let strikes = examine(&world, &world.desk().await).await;
                let still_left = world.bucket.paths("inbox/").len() as u64;
                if written == 4 {
                    assert_eq!((still_left, strikes), (0, 0), "call {call}:\n{}", world.bucket.log());
                    carried_out += u64::from(left > 0);
                } else {
                    // Named is what was decoded; dead before that, it accuses nobody.
                    assert_eq!(still_left, left);
                    assert!([0, left].contains(&strikes), "{strikes}");
                }
                world.drain().await;
                for (trace, spans) in [(1, 1), (2, 1), (3, 2)] {
                    assert_eq!(world.spans_of(crate::stage::testing::trace_id(trace)).await.len(), spans);
                }
                assert_eq!(world.bucket.breaches(), [""; 0]);
            }
            if !died {
                break;
            }
        }
        assert!(carried_out >= 6, "before and after each of the last block, two looks and two deletes: {carried_out}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_carries_it_out_may_die_too() {
        for call in 1.. {
            let mut died = false;
            for after in [false, true] {
                let world = two_objects();
                dies_with_all_written(&world).await;
                let client = world.client(crash_at(call, after));
                let lived = client.live(async { examine(&world, &world.sit(&client).await).await });
                died |= lived.await.is_none();
                assert_eq!(examine(&world, &world.desk().await).await, 0);
                assert_eq!((blocks(&world).len(), world.bucket.paths("inbox/").len()), (4, 0));
                assert_eq!(world.bucket.paths("farm/strikes/"), [""; 0]);
            }
            if !died {
                assert!(call > 10, "it makes more calls than {call}");
                break;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_a_block_is_gone_everything_is_indexed_again() {
        for gone in 0..4 {
            let world = two_objects();
            dies_with_all_written(&world).await;
            world.bucket.remove(&blocks(&world)[gone]);
            assert_eq!(examine(&world, &world.desk().await).await, 2, "strikes");
            assert_eq!(world.bucket.paths("inbox/").len(), 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_written_over_since_stays() {
        let world = two_objects();
        dies_with_all_written(&world).await;
        world.send("b", &[Sent::request(9, 9, "/new", START)]);
        assert_eq!(examine(&world, &world.desk().await).await, 0);
        assert_eq!(world.bucket.paths("inbox/"), ["inbox/b.jsonl"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_with_bad_parts_is_indexed_again_and_a_kept_one_stays() {
        let world = two_objects();
        world.bucket.put("inbox/bad.jsonl", "{\"resourceSpans\":[{\n");
        let script = |call: &crate::store::fault::Call| match call.path.starts_with("quarantine/") {
            true => Fate::before(Incident::Crash),
            false => Fate::calm(),
        };
        assert!(dies(&world, Box::new(script)).await);
        assert_eq!(examine(&world, &world.desk().await).await, 1);
        assert_eq!(world.bucket.paths("inbox/"), ["inbox/bad.jsonl"]);

        let mut world = two_objects();
        dies_with_all_written(&world).await;
        world.keep_inbox = true;
        assert_eq!(examine(&world, &world.desk().await).await, 2);
        assert_eq!(
            world.bucket.paths("inbox/").len(),
            2,
            "a peer that is told to keep the inbox removes nothing of it"
        );
    }

    /// Somebody else may write into the bucket, or a disk may turn bits.
    #[tokio::test(start_paused = true)]
    async fn no_intent_removes_what_is_no_object_of_the_inbox() {
        let world = two_objects();
        dies_with_all_written(&world).await;
        let at = world.desk().await;
        let (path, says) = last_words(&world);
        let stored = at.desk.store.list(&Prefix::Workers).await.unwrap().objects;
        let all = world.bucket.objects();
        let mut evil = Intent::new([].iter(), stored.iter());
        evil.blocks = says.intent.unwrap().blocks;
        let no_block = Intent::new(stored.iter().map(|object| &object.key), [].iter());
        let none = Intent::new([].iter(), stored.iter());
        for intent in [&evil, &no_block, &none] {
            assert_eq!(intent.carry_out(&at.desk).await.unwrap(), HashSet::new());
        }
        assert_eq!(world.bucket.objects().into_keys().collect::<Vec<_>>(), all.into_keys().collect::<Vec<_>>());

        // One that cannot be read is none; what is in hand counts all the same.
        let body = world.bucket.read(&path).unwrap().body;
        let mut said: serde_json::Value = serde_json::from_slice(&body).unwrap();
        said["intent"] = serde_json::json!({ "blocks": 3 });
        world.bucket.put(&path, said.to_string());
        assert_eq!(examine(&world, &at).await, 2);
    }

    /// It stands still between the look and the delete; meanwhile the objects are done, and put back.
    #[tokio::test(start_paused = true)]
    async fn who_wakes_up_too_late_removes_nothing() {
        let world = two_objects();
        dies_with_all_written(&world).await;
        let before = world.bucket.objects();
        let gate = Gate::new();
        let held = gate.clone();
        let client = world.client(Box::new(move |call| match call.kind {
            CallKind::Head if call.path.starts_with("entries/") => Fate::after(Incident::FreezeUntil(held.clone())),
            _ => Fate::calm(),
        }));
        let (slow, quick) = (world.sit(&client).await, world.desk().await);
        let (.., says) = last_words(&world);
        let intent = says.intent.unwrap();
        let sleeper = client.live(intent.carry_out(&slow.desk));
        let world = &world;
        let (woken, ()) = tokio::join!(sleeper, async {
            gate.reached().await;
            assert_eq!(intent.carry_out(&quick.desk).await.unwrap().len(), 2);
            for (path, stored) in before.into_iter().filter(|(path, _)| path.starts_with("inbox/")) {
                world.bucket.restore([(path, stored)].into());
            }
            world.clock.sleep(GRACE / 2 + Duration::from_secs(1)).await;
            gate.open();
        });
        let refused = woken.unwrap().unwrap_err().to_string();
        assert!(refused.contains("half the grace"), "{refused}");
        assert_eq!(world.bucket.paths("inbox/").len(), 2);
    }
}
