//! What `get`, `search` and `serve` share, and what publishing and pinning read by: traces with all their rows, the
//! list of handlers, searches, explanations, the state of the farm.
//!
//! Nothing here writes or deletes. Every answer is made from one listing of blocks, pins and tombstones; an object on it
//! that is gone when it is read means "list again" (rule 4), which [`relisted`] does.

pub mod check;
pub mod columns;
pub mod dependencies;
pub mod explain;
pub mod handlers;
pub mod newest;
pub mod operations;
pub mod pin;
pub mod rows;
pub mod search;
pub mod skipped;
pub mod spans;
pub mod status;
pub mod trace;
pub mod window;

#[cfg(test)]
pub(crate) mod testing;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use self::skipped::Skipped;
use crate::clock::Clock;
use crate::error::{Result, is_not_found};
use crate::farm::Settings;
use crate::handler::catalogue::Catalogue;
use crate::model::{Hour, TraceId};
use crate::stage::Desk;
use crate::store::{Key, Prefix, Store};
use crate::table::read::Blocks;
use crate::table::view::{Scope, View};

/// How many objects are fetched at a time: enough to hide a bucket's latency, few enough to be polite.
pub const AT_A_TIME: usize = 20;

/// How often a query that met an object which was gone begins again with a new listing.
const TRIES: usize = 5;

/// What a query reads from. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    /// The farm's store.
    pub store: Store,
    /// Reads blocks.
    pub blocks: Blocks,
    /// For names and time-outs; ages are told by the store's own times.
    pub clock: Clock,
    /// The newest settings.
    pub settings: Arc<Settings>,
    /// The newest catalogue, and its number.
    pub catalogue: Arc<(u64, Catalogue)>,
    /// What queries have left out.
    pub skipped: Skipped,
}

impl From<&Desk> for Reader {
    fn from(desk: &Desk) -> Self {
        Self {
            store: desk.store.clone(),
            blocks: desk.blocks.clone(),
            clock: desk.clock.clone(),
            settings: Arc::clone(&desk.settings),
            catalogue: Arc::clone(&desk.catalogue),
            skipped: Skipped::default(),
        }
    }
}

impl Reader {
    /// Reads a store: its newest settings and catalogue, and a budget of `cache_bytes` for footers and digests.
    pub async fn open(store: Store, clock: Clock, cache_bytes: usize) -> Result<Self> {
        let blocks = Blocks::new(store.clone(), cache_bytes);
        Self::with_blocks(store, clock, blocks).await
    }

    /// The same with `blocks` of the store that are kept already.
    pub async fn with_blocks(store: Store, clock: Clock, blocks: Blocks) -> Result<Self> {
        let (_, settings) = Settings::load(&store).await?;
        let catalogue = Catalogue::load(&store).await?;
        let (settings, catalogue) = (Arc::new(settings), Arc::new(catalogue));
        Ok(Self { store, blocks, clock, settings, catalogue, skipped: Skipped::default() })
    }

    /// Lists blocks and reads their footers. Those that cannot be read are left out, which [`Reader::skipped`] tells.
    pub async fn view(&self, scope: &Scope) -> Result<View> {
        let view = View::list(&self.blocks, &self.store, &self.clock, scope).await?;
        self.skipped.note(&view.damaged);
        Ok(view)
    }

    /// Every number of shards that ever counted, and so may stand in a key.
    pub fn shard_counts(&self) -> BTreeSet<u16> {
        shard_counts(&self.settings)
    }

    /// Whether rows of `hour` and later may have left the blocks for the pins, at `now` by the store's clock.
    pub fn may_have_expired(&self, hour: Hour, now: Timestamp) -> bool {
        let now = now.saturating_add(self.clock.offset()).unwrap_or(now);
        let kept = SignedDuration::try_from(self.settings.keep_for.at(hour).0).unwrap_or(SignedDuration::MAX);
        // An hour of doubt: this clock is a lower bound.
        let soon = now.saturating_add(SignedDuration::from_hours(1)).unwrap_or(now);
        hour == Hour::EPOCH || hour.end().saturating_add(kept).is_ok_and(|expires| expires <= soon)
    }

    /// The traces that are to be forgotten: readers hide them.
    pub async fn forgotten(&self) -> Result<HashSet<TraceId>> {
        forgotten(&self.store).await
    }
}

/// Every number of shards that ever counted.
pub fn shard_counts(settings: &Settings) -> BTreeSet<u16> {
    settings.shards.changes().iter().map(|change| change.value).collect()
}

/// The traces with a tombstone in `farm/forget/`.
pub async fn forgotten(store: &Store) -> Result<HashSet<TraceId>> {
    let listing = store.list(&Prefix::Forget).await?;
    let traces = listing.objects.into_iter();
    Ok(traces.filter_map(|object| if let Key::Forget(trace) = object.key { Some(trace) } else { None }).collect())
}

/// Runs `query` until it meets no object that is gone: rule 4 says that such an answer means "list again". A sweep
/// takes away a few blocks an hour, so a second try is rare and a fifth is a fault worth reporting.
pub async fn relisted<T, F: Future<Output = Result<T>>>(mut query: impl FnMut() -> F) -> Result<T> {
    let mut tries = 1;
    loop {
        match query().await {
            Err(report) if is_not_found(&report) && tries < TRIES => tries += 1,
            outcome => return outcome,
        }
    }
}
