//! What a worker is about to write of a batch, said in its heartbeat before the last of it is written.
//!
//! A batch is blocks first, then its objects leave the inbox. Whoever dies between the two leaves rows that stand and
//! objects that would be indexed once more: harmless (rule 3) and wasted. By its intent those who find it dead can tell that
//! everything it had to write stands, and do what is left.
//!
//! It is a write-ahead intent as databases have it, turned round: it is never needed to undo or to repeat anything. Without
//! it, or if only one of its blocks is not found (not written, or merged and gone since) or is too old, the objects are
//! indexed again.
//!
//! # Why too old
//! Somebody may be expiring the blocks' hour, by a listing of entries that does not have the batch's yet: it keeps spans
//! that are younger than the grace (rule 2). A worker that stood still between its spans and its entries for longer finds
//! the fence before its objects; whoever does its work must find it, too. So every block must be younger than half the
//! grace, and the objects go within half of one: as if the batch itself had come to its end in time. (With a grace of a
//! minute nobody is known to be dead soon enough, and everything is indexed again.)

use std::collections::HashSet;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Result, ResultExt, bail, told};
use crate::stage::{Desk, Fence};
use crate::store::{Key, Object, StoreErrorKind};
use crate::table::view::has_stood;

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
    /// To write `blocks`, so that `objects` may leave the inbox; none if either is empty.
    pub fn new<'a>(blocks: &[Key], objects: impl Iterator<Item = &'a Object>) -> Option<Self> {
        let content = |object: &Object| Content {
            path: object.key.path(),
            size_bytes: object.size_bytes,
            modified: object.modified,
            etag: object.etag.clone(),
        };
        let intent = Self { blocks: blocks.iter().map(Key::path).collect(), objects: objects.map(content).collect() };
        (!intent.blocks.is_empty() && !intent.objects.is_empty()).then_some(intent)
    }

    /// Removes the objects from the inbox if every block stands and is young; the paths of those that are done. An object
    /// that cannot be deleted stays, and is indexed again.
    ///
    /// Dying in here, two at once, the worker after all alive and doing the same: each asks again what stands before it
    /// deletes, and deletes the very content that was read, and nothing else. A block that is found is whole (a PUT is
    /// seen as a whole or not at all). Who stands still in here for long wakes up before the fence.
    ///
    /// # Errors
    /// The store does not say what stands: it is asked again later.
    pub async fn carry_out(&self, desk: &Desk) -> Result<HashSet<&str>> {
        let fence = Fence::begin(desk);
        // What claims to need no block proves nothing. Where the inbox is kept nobody intends this.
        if self.blocks.is_empty() || desk.inbox.keep || !self.all_stand(desk).await? {
            return Ok(HashSet::new());
        }
        let done = stream::iter(&self.objects).map(async |content| match content.leave(desk, &fence).await {
            Ok(()) => Some(content.path.as_str()),
            Err(report) => {
                let failure = told(&report);
                tracing::warn!(
                    failure,
                    "{} has been indexed and stays in the inbox: it is indexed again",
                    content.path
                );
                None
            }
        });
        Ok(done.buffer_unordered(AT_A_TIME).filter_map(async |done| done).collect().await)
    }

    async fn all_stand(&self, desk: &Desk) -> Result<bool> {
        let looks = stream::iter(&self.blocks).map(async |path| match Key::parse(path) {
            Some(key @ Key::Block(_)) => match desk.store.head(&key).await {
                Ok(block) => Ok(desk.grace.is_zero() || is_younger(&block, desk)),
                Err(error) if error.kind == StoreErrorKind::NotFound => Ok(false),
                Err(error) => Err(error).context_with(|| format!("look for {path}"))?,
            },
            _ => Ok(false),
        });
        looks.buffer_unordered(AT_A_TIME).try_all(async |stands| stands).await
    }
}

/// Whether `block` is certainly younger than half the grace.
fn is_younger(block: &Object, desk: &Desk) -> bool {
    desk.store_clock().latest().is_some_and(|latest| !has_stood(block.modified, latest, desk.grace / 2))
}

impl Content {
    /// Leaves the inbox.
    async fn leave(&self, desk: &Desk, fence: &Fence) -> Result<()> {
        // Nothing else is ever deleted because a heartbeat says so.
        let Some(key @ Key::Inbox(_)) = Key::parse(&self.path) else { bail!("it is no object of the inbox") };
        let object = Object { key, size_bytes: self.size_bytes, modified: self.modified, etag: self.etag.clone() };
        fence.allows_delete()?;
        // Gone or written over since: what was read of it stands all the same.
        desk.inbox.store.delete_if_unchanged(&object).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

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
        dies_with(world, 64 << 20, script).await
    }

    async fn dies_with(world: &World, memory_bytes: usize, script: Script) -> bool {
        world.sleep(61).await;
        let client = world.client(script);
        let lived = client.live(async {
            let mut at = world.sit(&client).await;
            at.desk.memory_bytes = memory_bytes;
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

    /// With so little memory each block is written as soon as it is encoded.
    #[rstest]
    #[tokio::test(start_paused = true)]
    async fn whatever_it_dies_at_what_stands_whole_is_not_indexed_again(#[values(64 << 20, 64 << 10)] memory: usize) {
        let (mut call, mut carried_out) = (0, 0);
        loop {
            call += 1;
            let mut died = false;
            for after in [false, true] {
                let world = two_objects();
                died |= dies_with(&world, memory, crash_at(call, after)).await;
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

    /// Found by the model checker: a worker stands still for long after its spans, and whoever expires their hour has listed
    /// its entries by then, too early to see those that come.
    #[tokio::test(start_paused = true)]
    async fn what_stands_for_half_the_grace_proves_nothing_any_more() {
        for (since, strikes) in [(GRACE.as_secs() / 2 - 70, 0), (GRACE.as_secs() / 2 - 60, 2)] {
            let world = two_objects();
            dies_with_all_written(&world).await;
            world.sleep(since).await;
            assert_eq!(
                examine(&world, &world.desk().await).await,
                strikes,
                "{since} s, and a minute until it is known"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_deleted_stays_and_stops_nobody() {
        let world = two_objects();
        dies_with_all_written(&world).await;
        let client = world.client(Box::new(|call| match call.kind {
            CallKind::Delete if call.path == "inbox/a.jsonl" => Fate::before(Incident::Fail),
            _ => Fate::calm(),
        }));
        assert_eq!(examine(&world, &world.sit(&client).await).await, 1);
        assert_eq!(world.bucket.paths("inbox/"), ["inbox/a.jsonl"]);
        let others = world.bucket.paths("farm/workers/");
        assert_eq!(others.len(), 1, "only the peer's own heartbeat is left: {others:?}");
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
        let keys: Vec<Key> = stored.iter().map(|object| object.key.clone()).collect();
        let intent = says.intent.unwrap();
        let heartbeats = Intent::new(&keys, stored.iter()).unwrap();
        let none_of_the_inbox = Intent { objects: heartbeats.objects, ..intent.clone() };
        let no_blocks = Intent { blocks: heartbeats.blocks, ..intent.clone() };
        let nothing = Intent { blocks: Vec::new(), ..intent };
        for intent in [&none_of_the_inbox, &no_blocks, &nothing] {
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

    /// It stands still after the first look at what it deletes; meanwhile the objects are done, and put back.
    #[tokio::test(start_paused = true)]
    async fn who_wakes_up_too_late_removes_nothing_more() {
        let world = World::new();
        for number in 1..=30 {
            world.send(&number.to_string(), &[Sent::request(number, 1, "/a", START)]);
        }
        let script = |call: &crate::store::fault::Call| match call.kind {
            CallKind::Delete if call.path.starts_with("inbox/") => Fate::before(Incident::Crash),
            _ => Fate::calm(),
        };
        assert!(dies(&world, Box::new(script)).await);
        let before = world.bucket.objects();
        let gate = Gate::new();
        let held = gate.clone();
        let client = world.client(Box::new(move |call| match call.kind {
            CallKind::Head if call.path.starts_with("inbox/") => Fate::before(Incident::FreezeUntil(held.clone())),
            _ => Fate::calm(),
        }));
        let (slow, quick) = (world.sit(&client).await, world.desk().await);
        let intent = last_words(&world).1.intent.unwrap();
        let sleeper = client.live(intent.carry_out(&slow.desk));
        let world = &world;
        let (woken, ()) = tokio::join!(sleeper, async {
            gate.reached().await;
            assert_eq!(intent.carry_out(&quick.desk).await.unwrap().len(), 30);
            for (path, stored) in before.into_iter().filter(|(path, _)| path.starts_with("inbox/")) {
                world.bucket.restore([(path, stored)].into());
            }
            world.clock.sleep(GRACE / 2 + Duration::from_secs(1)).await;
            // Its heart beats as soon as it wakes up.
            slow.desk.heart.beat(&quick.desk.store).await.unwrap();
            gate.open();
        });
        assert_eq!(woken.unwrap().unwrap().len(), AT_A_TIME, "those that it was at");
        assert_eq!(world.bucket.paths("inbox/").len(), 30 - AT_A_TIME);
    }
}
