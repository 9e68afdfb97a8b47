//! Blocks read, pruned: footers are read once and kept (blocks never change), rows by range.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use futures::stream::BoxStream;

use super::block::BlockMeta;
use crate::error::Result;
use crate::model::{HandlerId, Shard, TraceId};
use crate::store::Store;
use crate::store::layout::BlockKey;

/// Reads blocks of one store and keeps what never changes (footers, digests), within a budget of memory. Cheap to
/// clone; clones share what is kept.
#[derive(Clone)]
pub struct Blocks {}

impl Blocks {
    /// A reader on `store` that keeps at most about `cache_bytes` of footers.
    pub fn new(store: Store, cache_bytes: usize) -> Self {
        let _ = (store, cache_bytes);
        todo!()
    }

    /// The same cache, reading through `store` (the same store, counted under another stage).
    pub fn with_store(&self, store: Store) -> Self {
        let _ = store;
        todo!()
    }

    /// What a block's footer says. `size_bytes` is the listed size: one ranged request, or none if kept.
    pub async fn meta(&self, key: &BlockKey, size_bytes: u64) -> Result<Arc<BlockMeta>> {
        let _ = (key, size_bytes);
        todo!()
    }

    /// All rows of a block in its order, batch by batch; with `shard` only that shard's (level 0: only its row groups
    /// are read).
    pub async fn rows(
        &self,
        key: &BlockKey,
        size_bytes: u64,
        shard: Option<Shard>,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let _ = (key, size_bytes, shard);
        todo!()
    }

    /// The rows of some traces in a block of either table: bloom filter, statistics and page index first, then only
    /// the pages that can hold them.
    pub async fn traces(&self, key: &BlockKey, size_bytes: u64, traces: &[TraceId]) -> Result<RecordBatch> {
        let _ = (key, size_bytes, traces);
        todo!()
    }

    /// The rows of some handlers in a block of entries, newest first within each.
    pub async fn handlers(&self, key: &BlockKey, size_bytes: u64, handlers: &[HandlerId]) -> Result<RecordBatch> {
        let _ = (key, size_bytes, handlers);
        todo!()
    }

    /// Whether a block may hold rows of `trace` (bloom filter in level 1, rows in level 0). No false negatives.
    pub async fn may_hold(&self, key: &BlockKey, size_bytes: u64, trace: TraceId) -> Result<bool> {
        let _ = (key, size_bytes, trace);
        todo!()
    }

    /// The digest of a block of entries: from its footer, else computed from its rows (level 0) and kept. `shard`
    /// restricts it to one shard's handlers.
    pub async fn digest(
        &self,
        key: &BlockKey,
        size_bytes: u64,
        shard: Option<Shard>,
    ) -> Result<Arc<super::digest::Digest>> {
        let _ = (key, size_bytes, shard);
        todo!()
    }
}
