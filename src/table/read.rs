//! Blocks read, pruned: footers are read once and kept (blocks never change), rows by range.
//!
//! Decoding runs off the async threads ([`task::cpu`]), batch by batch. Damage (a footer, page or dictionary that does
//! not decode) is a [`BlockError`] of kind `Corrupt`, found with [`crate::error::find`]; errors of the store pass as
//! they are, so that "it is gone" (rule 4) is never taken for damage.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::Int32Type;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt, try_unfold};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, RowFilter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::block::{BlockError, BlockMeta};
use super::digest::{CallsDigest, Digest};
use super::footer::{Footer, are_within, fetch};
use super::lru::Lru;
use super::operations::{self, Operations};
use super::prune::Wanted;
use super::scan::{Scan, Selected, Step};
use crate::error::{Result, ResultExt};
use crate::model::{BlockId, HandlerId, Shard, ShardDir, TraceId};
use crate::store::layout::BlockKey;
use crate::store::{Key, Store};
use crate::task;

/// Rows of a batch that [`Blocks::rows`] yields, at most.
const BATCH_ROWS: usize = 8 << 10;

/// A block of level 0 that is no larger is taken whole, with one request, whatever is looked for in it: half of it are ids.
/// In level 1 few bytes of a bloom filter tell that a trace is not there, so that as many must be looked for.
const SMALL_BYTES: u64 = 1 << 20;
const SMALL_BYTES_A_TRACE: u64 = 64 << 10;

/// About what a block of level 0 has in all columns for each page of ids. Its pages are of all ids, or of all those of a
/// shard: if as many traces are looked for as there are pages, most are read, a request for each row group and another for
/// what is found there. Then it is taken whole as well, with one.
pub(crate) const PAGE_BYTES: u64 = 256 << 10;

/// Reads blocks of one store and keeps what never changes (footers, digests), within a budget of memory. Cheap to
/// clone; clones share what is kept.
#[derive(Clone)]
pub struct Blocks {
    store: Store,
    kept: Arc<Kept>,
}

/// A block that was taken whole.
#[derive(Clone)]
struct Body {
    bytes: Bytes,
    /// Its place in memory.
    _room: Arc<OwnedSemaphorePermit>,
}

impl Body {
    fn ranges(&self, footer: &Footer, ranges: &[std::ops::Range<u64>]) -> Result<Vec<Bytes>> {
        are_within(&footer.key, self.bytes.len() as u64, ranges)?;
        Ok(ranges.iter().map(|range| self.bytes.slice(range.start as usize..range.end as usize)).collect())
    }
}

/// Whether a block of so many bytes is taken whole for so many values that are looked for in it, if `room_bytes` hold it.
pub(crate) fn is_taken_whole(dir: ShardDir, size_bytes: u64, values: usize, room_bytes: u64) -> bool {
    let values = values as u64;
    let most = match dir {
        ShardDir::All => SMALL_BYTES.max(PAGE_BYTES * values),
        ShardDir::One(_) => SMALL_BYTES.min(SMALL_BYTES_A_TRACE * values),
    };
    size_bytes <= most.min(room_bytes)
}

struct Kept {
    /// What footers say of blocks: all that listings need, and a hundredth of a footer.
    metas: Mutex<Lru<BlockId, Arc<BlockMeta>>>,
    footers: Mutex<Lru<BlockId, Arc<Footer>>>,
    digests: Mutex<Lru<DigestOf, Arc<Digest>>>,
    operations: Mutex<Lru<BlockId, Arc<Operations>>>,
    calls: Mutex<Lru<BlockId, Arc<CallsDigest>>>,
    /// What blocks that are taken whole may come to at a time, in KiB.
    room: Arc<Semaphore>,
    room_bytes: u64,
}

/// Of which block, and of which shard of it.
type DigestOf = (BlockId, Option<Shard>);

impl Blocks {
    /// A reader on `store` that keeps at most about `cache_bytes`: a quarter for what footers say, for whole footers, for
    /// digests of handlers, and for those of calls. (Names of operations, which only a server asks for, are kept beside: an
    /// eighth as much.) Blocks that it takes whole, to look for something, come to as much again at a time.
    pub fn new(store: Store, cache_bytes: usize) -> Self {
        let budget = cache_bytes / 4;
        let (metas, footers) = (Mutex::new(Lru::new(budget)), Mutex::new(Lru::new(budget)));
        let (digests, calls) = (Mutex::new(Lru::new(budget)), Mutex::new(Lru::new(budget)));
        let operations = Mutex::new(Lru::new(cache_bytes / 8));
        let room_kib = (cache_bytes >> 10).clamp(1, u32::MAX as usize >> 4);
        let (room, room_bytes) = (Arc::new(Semaphore::new(room_kib)), (room_kib as u64) << 10);
        Self { store, kept: Arc::new(Kept { metas, footers, digests, calls, operations, room, room_bytes }) }
    }

    /// The same cache, reading through `store` (the same store, counted under another stage).
    pub fn with_store(&self, store: Store) -> Self {
        Self { store, kept: self.kept.clone() }
    }

    /// What a block's footer says. `size_bytes` is the listed size: one ranged request, or none if kept. A block of a
    /// higher format or rules has a footer like any other: whoever plans looks at both numbers.
    ///
    /// # Errors
    /// A [`BlockError`] of kind `Corrupt`, or the store's.
    pub async fn meta(&self, key: &BlockKey, size_bytes: u64) -> Result<Arc<BlockMeta>> {
        if let Some(meta) = lock(&self.kept.metas).get(&key.block) {
            return Ok(meta);
        }
        let meta = self.footer(key, size_bytes, false).await?.meta.clone();
        lock(&self.kept.metas).put(key.block, meta.clone(), meta.memory_bytes());
        Ok(meta)
    }

    /// All rows of a block in its order, batch by batch; with `shard` only that shard's (level 0: only its row groups
    /// are read, or its pages where a row group holds several small shards).
    ///
    /// # Errors
    /// A [`BlockError`] (also from within the stream: a page may be damaged), or the store's.
    pub async fn rows(
        &self,
        key: &BlockKey,
        size_bytes: u64,
        shard: Option<Shard>,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let footer = self.footer(key, size_bytes, false).await?;
        let wanted = shard.map_or(0..footer.words.rows, |shard| footer.words.rows_of(shard));
        let selected = self::selected(&footer, wanted);
        let partly = selected.iter().any(|(group, ranges)| {
            ranges.iter().map(ExactSizeIterator::len).sum::<usize>() as i64
                != footer.parquet.row_group(*group).num_rows()
        });
        let footer = if partly { self.footer(key, size_bytes, true).await? } else { footer };
        let scan = Scan::new(&footer, &selected, BATCH_ROWS, None, None)?;
        Ok(self.batches(footer, None, scan))
    }

    /// The same of one shard, for whoever reads them at once: a small block of level 0 is taken whole.
    async fn rows_now(
        &self,
        key: &BlockKey,
        size_bytes: u64,
        shard: Option<Shard>,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let Some(shard) = shard.filter(|_| key.dir == ShardDir::All && self.takes_whole(key, size_bytes, 0)) else {
            return self.rows(key, size_bytes, shard).await;
        };
        let (footer, body) = self.whole(key, size_bytes).await?;
        let selected = self::selected(&footer, footer.words.rows_of(shard));
        let scan = Scan::new(&footer, &selected, BATCH_ROWS, None, None)?;
        Ok(self.batches(footer, Some(body), scan))
    }

    /// Some columns of all rows of a block, batch by batch: only their bytes are read.
    ///
    /// # Errors
    /// A [`BlockError`] (also from within the stream), or the store's.
    pub async fn columns(
        &self,
        key: &BlockKey,
        size_bytes: u64,
        columns: &[&str],
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let footer = self.footer(key, size_bytes, false).await?;
        let selected = self::selected(&footer, 0..footer.words.rows);
        let scan = Scan::new(&footer, &selected, BATCH_ROWS, Some(columns), None)?;
        Ok(self.batches(footer, None, scan))
    }

    /// The rows of some traces in a block of either table: bloom filter, statistics and page index first, then only
    /// the pages that can hold them.
    ///
    /// # Errors
    /// A [`BlockError`], or the store's.
    pub async fn traces(&self, key: &BlockKey, size_bytes: u64, traces: &[TraceId]) -> Result<RecordBatch> {
        self.find(key, size_bytes, Wanted::new("trace_id", traces.iter().map(|trace| trace.0.to_vec())), None).await
    }

    /// The rows of some handlers in a block of entries, newest first (by their own start) within each.
    ///
    /// # Errors
    /// A [`BlockError`], or the store's.
    pub async fn handlers(&self, key: &BlockKey, size_bytes: u64, handlers: &[HandlerId]) -> Result<RecordBatch> {
        let wanted = Wanted::new("handler", handlers.iter().map(|handler| handler.as_str().as_bytes().to_vec()));
        self.find(key, size_bytes, wanted, None).await
    }

    /// Whether a block may hold rows of `trace` (bloom filter in level 1, rows in level 0). No false negatives.
    ///
    /// # Errors
    /// A [`BlockError`], or the store's.
    pub async fn may_hold(&self, key: &BlockKey, size_bytes: u64, trace: TraceId) -> Result<bool> {
        let wanted = Wanted::new("trace_id", [trace.0.to_vec()]);
        match key.dir {
            ShardDir::One(_) => {
                let footer = self.footer(key, size_bytes, false).await?;
                footer.reader()?;
                Ok(!wanted.groups(&self.store, &footer).await?.is_empty())
            }
            ShardDir::All => Ok(self.find(key, size_bytes, wanted, Some(&["trace_id"])).await?.num_rows() > 0),
        }
    }

    /// The digest of a block of entries: from its footer, else computed from its rows (level 0) and kept. `shard`
    /// restricts it to one shard's handlers.
    ///
    /// # Errors
    /// A [`BlockError`], or the store's.
    pub async fn digest(&self, key: &BlockKey, size_bytes: u64, shard: Option<Shard>) -> Result<Arc<Digest>> {
        let name = (key.block, shard);
        if let Some(kept) = lock(&self.kept.digests).get(&name) {
            return Ok(kept);
        }
        // Level 0 has none. What level 1 holds is one shard's.
        let merged = match key.dir {
            ShardDir::All => None,
            ShardDir::One(_) => Some(self.footer(key, size_bytes, false).await?),
        };
        let merged = merged.filter(|footer| shard.is_none_or(|shard| footer.meta.shards == [shard]));
        let digest = match merged.as_ref().and_then(|footer| Some((footer, footer.words.digest?))) {
            Some((footer, place)) => self.appendix(footer, place).await?,
            None => {
                let mut digest = super::digest::Builder::default();
                let mut rows = self.rows_now(key, size_bytes, shard).await?;
                while let Some(rows) = rows.try_next().await? {
                    digest.add(&rows)?;
                }
                digest.finish()?
            }
        };
        let digest = Arc::new(digest);
        lock(&self.kept.digests).put(name, digest.clone(), digest.memory_bytes());
        Ok(digest)
    }

    /// The digest of calls of a block of spans: level 1 has one, level 0 none.
    ///
    /// # Errors
    /// A [`BlockError`], or the store's.
    pub async fn calls(&self, key: &BlockKey, size_bytes: u64) -> Result<Option<Arc<CallsDigest>>> {
        if let Some(kept) = lock(&self.kept.calls).get(&key.block) {
            return Ok(Some(kept));
        }
        let footer = self.footer(key, size_bytes, false).await?;
        let Some(place) = footer.words.calls else { return Ok(None) };
        let calls: Arc<CallsDigest> = Arc::new(self.appendix(&footer, place).await?);
        lock(&self.kept.calls).put(key.block, calls.clone(), calls.memory_bytes());
        Ok(Some(calls))
    }

    /// Which services have spans in a block of spans, and what they are called: kept.
    ///
    /// # Errors
    /// A [`BlockError`], or the store's.
    pub async fn operations(&self, key: &BlockKey, size_bytes: u64) -> Result<Arc<Operations>> {
        if let Some(kept) = lock(&self.kept.operations).get(&key.block) {
            return Ok(kept);
        }
        let mut operations = Operations::default();
        let mut rows = self.columns(key, size_bytes, &operations::COLUMNS).await?;
        while let Some(rows) = rows.try_next().await? {
            operations.add(&rows)?;
        }
        let operations = Arc::new(operations);
        lock(&self.kept.operations).put(key.block, operations.clone(), operations.memory_bytes());
        Ok(operations)
    }

    /// A footer, kept or read; `indexed` with the page index.
    pub(super) async fn footer(&self, key: &BlockKey, size_bytes: u64, indexed: bool) -> Result<Arc<Footer>> {
        let kept = lock(&self.kept.footers).get(&key.block);
        // That of level 0 is asked for sooner or later, and comes with the same request.
        let indexed = indexed || key.dir == ShardDir::All;
        let footer = match kept {
            Some(footer) if footer.indexed || !indexed => return Ok(footer),
            Some(footer) => footer.with_index(&self.store).await?,
            None => Footer::read(&self.store, key, size_bytes, indexed).await?,
        };
        let footer = Arc::new(footer);
        lock(&self.kept.footers).put(key.block, footer.clone(), footer.memory_bytes());
        Ok(footer)
    }

    async fn appendix<T: serde::de::DeserializeOwned>(&self, footer: &Footer, place: super::block::Place) -> Result<T> {
        let corrupt = |why: &dyn std::fmt::Display| BlockError::corrupt(&footer.key, format!("its digest: {why}"));
        let range = place.range(footer.size_bytes).ok_or_else(|| corrupt(&"it lies outside the file"))?;
        let bytes = fetch(&self.store, &footer.key, footer.size_bytes, std::slice::from_ref(&range)).await?;
        let bytes = bytes.into_iter().next().unwrap_or_default();
        Ok(super::appendix::read(&bytes).map_err(|why| corrupt(&why))?)
    }

    async fn find(
        &self,
        key: &BlockKey,
        size_bytes: u64,
        wanted: Wanted,
        columns: Option<&[&str]>,
    ) -> Result<RecordBatch> {
        let nothing = || RecordBatch::new_empty(super::schema(key.table));
        let kept = lock(&self.kept.footers).get(&key.block);
        if wanted.is_empty() || kept.as_ref().is_some_and(|footer| wanted.by_bounds(footer).is_empty()) {
            return Ok(nothing());
        }
        let (footer, groups, body) = if self.takes_whole(key, size_bytes, wanted.len()) {
            let (footer, body) = self.whole(key, size_bytes).await?;
            let groups = wanted.by_bounds(&footer);
            (footer, groups, Some(body))
        } else {
            let footer = self.footer(key, size_bytes, false).await?;
            footer.reader()?;
            let groups = wanted.groups(&self.store, &footer).await?;
            (if groups.is_empty() { footer } else { self.footer(key, size_bytes, true).await? }, groups, None)
        };
        let reader = footer.reader()?;
        if groups.is_empty() {
            return Ok(nothing());
        }
        let selected = wanted.pages(&footer, &groups);
        let mask = ProjectionMask::columns(reader.parquet_schema(), [wanted.column]);
        let passes = ArrowPredicateFn::new(mask, move |rows: RecordBatch| Ok(matches(&wanted, rows.column(0))));
        let scan = Scan::new(&footer, &selected, BATCH_ROWS, columns, Some(RowFilter::new(vec![Box::new(passes)])))?;
        let batches: Vec<RecordBatch> = self.batches(footer, body, scan).try_collect().await?;
        let schema = batches.first().map_or_else(|| super::schema(key.table), RecordBatch::schema);
        Ok(concat_batches(&schema, &batches).context("join the rows found")?)
    }

    fn takes_whole(&self, key: &BlockKey, size_bytes: u64, values: usize) -> bool {
        is_taken_whole(key.dir, size_bytes, values, self.kept.room_bytes)
    }

    /// Takes a block whole, as soon as there is room for it. Whoever waits while it has another may wait for ever.
    async fn whole(&self, key: &BlockKey, size_bytes: u64) -> Result<(Arc<Footer>, Body)> {
        // No more than there is room for in all: see `is_taken_whole`.
        let kib = size_bytes.div_ceil(1 << 10) as u32;
        let room = self.kept.room.clone().acquire_many_owned(kib).await.context("wait for memory")?;
        let (bytes, _) = self.store.get(&Key::Block(*key)).await?;
        if bytes.len() as u64 != size_bytes {
            let message = format!("it has {} bytes, and was listed with {size_bytes}", bytes.len());
            return Err(BlockError::corrupt(key, message).into());
        }
        let kept = lock(&self.kept.footers).get(&key.block);
        let footer = match kept {
            Some(footer) if footer.indexed => footer,
            kept => {
                let footer = Arc::new(Footer::of_body(key, &bytes)?);
                // For merges, which need the index. If it is not there any more, it would push out others.
                if kept.is_some() {
                    lock(&self.kept.footers).put(key.block, footer.clone(), footer.memory_bytes());
                }
                footer
            }
        };
        Ok((footer, Body { bytes, _room: Arc::new(room) }))
    }

    /// Runs a scan: bytes fetched here or taken from the `body`, decoded off the async threads.
    fn batches(&self, footer: Arc<Footer>, body: Option<Body>, scan: Scan) -> BoxStream<'static, Result<RecordBatch>> {
        let from = (self.store.clone(), body);
        try_unfold((from, footer, Some(scan)), |(from, footer, mut scan)| async move {
            while let Some(mut now) = scan.take() {
                let (mut now, step) = task::cpu(move || {
                    let step = now.step()?;
                    Ok((now, step))
                })
                .await?;
                match step {
                    Step::Rows(rows) => return Ok(Some((rows, (from, footer, Some(now))))),
                    Step::Done => break,
                    Step::Need(ranges) => {
                        let bytes = match &from {
                            (_, Some(body)) => body.ranges(&footer, &ranges)?,
                            (store, None) => fetch(store, &footer.key, footer.size_bytes, &ranges).await?,
                        };
                        now.push(ranges, bytes)?;
                        scan = Some(now);
                    }
                }
            }
            Ok(None)
        })
        .boxed()
    }
}

/// The parts of row groups that rows `wanted` of the block lie in.
pub(super) fn selected(footer: &Footer, wanted: std::ops::Range<u64>) -> Vec<Selected> {
    let parts = footer.groups().filter_map(|(group, rows)| {
        let (from, to) = (wanted.start.max(rows.start), wanted.end.min(rows.end));
        let range = (from.saturating_sub(rows.start)) as usize..(to.saturating_sub(rows.start)) as usize;
        (from < to).then(|| (group, std::iter::once(range).collect()))
    });
    parts.collect()
}

/// Which values of a column are wanted: texts by their dictionary, ids one by one.
fn matches(wanted: &Wanted, column: &dyn Array) -> BooleanArray {
    match column.as_dictionary_opt::<Int32Type>() {
        Some(dictionary) => {
            let values = dictionary.values().as_string::<i32>();
            let held: HashSet<i32> = (0..values.len())
                .filter(|key| wanted.holds(values.value(*key).as_bytes()))
                .map(|key| key as i32)
                .collect();
            dictionary.keys().iter().map(|key| Some(key.is_some_and(|key| held.contains(&key)))).collect()
        }
        None => column.as_fixed_size_binary().iter().map(|id| Some(id.is_some_and(|id| wanted.holds(id)))).collect(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is kept stays whole if a thread dies while it holds the lock: at worst a value is read again.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
