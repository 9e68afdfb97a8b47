//! What a worker remembers of pages: what stands under an etag, and when it looked last. It only saves requests: an etag
//! names one content for ever, and whoever remembers nothing asks once more.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};

use super::chunk::Chunk;
use super::document::{Handlers, Part, PartRow, SUMMARY_VERSION};
use crate::error::Result;
use crate::model::Shard;
use crate::query::AT_A_TIME;
use crate::store::layout::SiteKey;
use crate::store::{Key, Object, Prefix, Store, StoreErrorKind};

/// The memory. Clones share it.
#[derive(Clone, Default)]
pub struct Pages(Arc<Mutex<Memory>>);

#[derive(Default)]
struct Memory {
    /// None: it cannot be read, or another program wrote it.
    parts: HashMap<(Shard, String), Option<Arc<Part>>>,
    /// The list of handlers: its etag, and the parts it was made from.
    list: Option<(String, BTreeMap<String, String>)>,
    looked: HashMap<Shard, Duration>,
    /// When the pages themselves are to be looked at again (monotonic).
    assets_due: Duration,
    /// When `site/farm.json` was written last (monotonic).
    farm_written: Option<Duration>,
    /// How many handlers were published together last.
    chunk: Option<Chunk>,
    /// Parts of which not everything could be made yet.
    left: BTreeSet<(Left, Shard)>,
}

/// What there may not be time enough for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Left {
    /// A part's pages.
    Pages,
    /// What a user's own program makes for them.
    Extras,
}

/// The parts that stand, of any number of shards.
#[derive(Default)]
pub(super) struct Written {
    /// Each with its listed object.
    pub parts: BTreeMap<Shard, (Object, Option<Arc<Part>>)>,
}

impl Pages {
    /// Lists the parts, and reads those that are not known yet.
    pub(super) async fn written(&self, store: &Store) -> Result<Written> {
        let listing = store.list(&Prefix::Parts).await?;
        let mut written = Written::default();
        let mut unread = Vec::new();
        for object in listing.objects {
            let Key::Site(SiteKey::Part(shard)) = object.key else { continue };
            match self.lock().parts.get(&(shard, object.etag.clone())) {
                Some(part) => drop(written.parts.insert(shard, (object, part.clone()))),
                None => unread.push((shard, object)),
            }
        }
        let reads = stream::iter(unread).map(|(shard, object)| async move {
            match store.get(&object.key).await {
                // One that is damaged, or another program's, counts as stale. What the answer says of its object counts:
                // it may have been written anew since the listing.
                Ok((body, object)) => Ok(Some((shard, object, serde_json::from_slice(&body).ok().map(Arc::new)))),
                Err(gone) if gone.kind == StoreErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        });
        let read: Vec<Option<_>> = reads.buffer_unordered(AT_A_TIME).try_collect().await?;
        for (shard, object, part) in read.into_iter().flatten() {
            self.lock().parts.insert((shard, object.etag.clone()), part.clone());
            written.parts.insert(shard, (object, part));
        }
        let there: HashSet<(Shard, &str)> =
            written.parts.iter().map(|(shard, (object, _))| (*shard, object.etag.as_str())).collect();
        self.lock().parts.retain(|(shard, etag), _| there.contains(&(*shard, etag.as_str())));
        Ok(written)
    }

    /// Which parts the list of handlers was made from; none if there is no list of this program's.
    pub(super) async fn listed(&self, store: &Store) -> Result<Option<BTreeMap<String, String>>> {
        let key = Key::Site(SiteKey::Handlers);
        let there = match store.head(&key).await {
            Ok(object) => object,
            Err(missing) if missing.kind == StoreErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if let Some((etag, parts)) = &self.lock().list
            && *etag == there.etag
        {
            return Ok(Some(parts.clone()));
        }
        let (body, object) = match store.get(&key).await {
            Ok(answer) => answer,
            Err(gone) if gone.kind == StoreErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let list: Option<Handlers> = serde_json::from_slice(&body).ok();
        let Some(list) = list.filter(|list| list.version == SUMMARY_VERSION) else { return Ok(None) };
        self.lock().list = Some((object.etag, list.parts.clone()));
        Ok(Some(list.parts))
    }

    /// How long ago each part was looked at, at `now` (monotonic).
    pub(super) fn looked(&self, now: Duration) -> HashMap<Shard, Duration> {
        self.lock().looked.iter().map(|(shard, at)| (*shard, now.saturating_sub(*at))).collect()
    }

    /// A part was looked at, and is as it should be.
    pub(super) fn look(&self, shard: Shard, now: Duration) {
        self.lock().looked.insert(shard, now);
    }

    /// Whether the pages themselves are to be looked at, at `now` (monotonic).
    pub(super) fn assets_are_due(&self, now: Duration) -> bool {
        now >= self.lock().assets_due
    }

    /// The pages themselves are to be looked at again then.
    pub(super) fn look_at_assets(&self, at: Duration) {
        self.lock().assets_due = at;
    }

    /// When `site/farm.json` was written last (monotonic); none if this worker has not.
    pub(super) fn farm_written(&self) -> Option<Duration> {
        self.lock().farm_written
    }

    /// `site/farm.json` was written.
    pub(super) fn write_farm(&self, at: Duration) {
        self.lock().farm_written = Some(at);
    }

    /// How many handlers of a part are published together first.
    pub(super) fn chunk(&self, memory_bytes: usize) -> Chunk {
        self.lock().chunk.clone().map_or_else(|| Chunk::first(memory_bytes), Chunk::again)
    }

    /// How many were last.
    pub(super) fn keep_chunk(&self, chunk: Chunk) {
        self.lock().chunk = Some(chunk);
    }

    /// There was not time enough for all of `what` of a part, or there was after all.
    pub(super) fn leave(&self, what: Left, shard: Shard, left: bool) {
        let mut memory = self.lock();
        if left {
            memory.left.insert((what, shard))
        } else {
            memory.left.remove(&(what, shard))
        };
    }

    /// The parts of which some of `what` is still to be made.
    pub(super) fn left(&self, what: Left) -> BTreeSet<Shard> {
        self.lock().left.iter().filter(|(left, _)| *left == what).map(|(_, shard)| *shard).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Written {
    /// A part, if it can be read.
    pub fn part(&self, shard: Shard) -> Option<&Part> {
        self.parts.get(&shard).and_then(|(_, part)| part.as_deref())
    }

    /// Whether a part names extras.
    pub fn has_extras(&self) -> bool {
        let mut parts = self.parts.values().filter_map(|(_, part)| part.as_ref());
        parts.any(|part| part.handlers.iter().any(|line| line.extras.is_some()))
    }

    /// How many handlers the parts of `count` shards have together; one that has extras counts as as many as its
    /// documents come to.
    pub fn handlers(&self, count: u16) -> usize {
        let parts = self.parts.iter().filter(|(shard, _)| shard.count() == count);
        let parts = parts.filter_map(|(_, (_, part))| part.as_ref());
        // The summary is written once more, to name them.
        let extras = |line: &PartRow| line.extras.as_ref().map_or(0, |extras| (1 + extras.files.len()).div_ceil(2));
        let handlers = |part: &Part| part.handlers.iter().map(|line| 1 + extras(line)).sum::<usize>();
        parts.map(|part| handlers(part) + part.not_found.len()).sum()
    }
}
