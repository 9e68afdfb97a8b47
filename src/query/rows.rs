//! The rows of many traces, fetched block by block: each block that can hold some of them is opened once for all.

use std::collections::{BTreeMap, HashMap};

use arrow::record_batch::RecordBatch;
use futures::{StreamExt, TryStreamExt, stream};

use super::AT_A_TIME;
use super::columns::Spans;
use super::window::Window;
use crate::error::{Result, ResultExt};
use crate::model::{Shard, Table, TraceId};
use crate::store::Key;
use crate::store::layout::BlockKey;
use crate::table::order;
use crate::table::read::Blocks;
use crate::table::view::{Block, View};

/// Traces, and where each is looked for.
pub type Traces = BTreeMap<TraceId, Window>;

/// For each block of `view` that counts for a shard of some of `traces`, and lies in their window: which of them it may
/// hold. In key order.
pub fn wanted<'v>(view: &'v View, traces: &Traces) -> Vec<(&'v Block, Vec<TraceId>)> {
    let mut by_shard: HashMap<Shard, Vec<(TraceId, Window)>> = HashMap::new();
    let counts: std::collections::BTreeSet<u16> = view.shards().into_iter().map(Shard::count).collect();
    for count in counts {
        for (trace, window) in traces {
            by_shard.entry(Shard::of_trace(*trace, count)).or_default().push((*trace, *window));
        }
    }
    let mut by_block: BTreeMap<BlockKey, (&Block, Vec<TraceId>)> = BTreeMap::new();
    for (shard, block) in view.visible_parts() {
        let of_shard = by_shard.get(&shard).into_iter().flatten();
        let near: Vec<TraceId> = of_shard.filter(|(_, window)| window.asks(block)).map(|(trace, _)| *trace).collect();
        if !near.is_empty() {
            by_block.entry(block.key).or_insert_with(|| (block, Vec::new())).1.extend(near);
        }
    }
    by_block.into_values().collect()
}

/// All rows of `traces` in the visible blocks of `view` (of spans), by trace; traces without rows are absent. Rows may
/// stand twice and in any order: [`union`] makes them one run.
///
/// # Errors
/// Those of the store; not found if a block was merged away: list again (rule 4).
pub async fn of_traces(blocks: &Blocks, view: &View, traces: &Traces) -> Result<HashMap<TraceId, Vec<RecordBatch>>> {
    of_parts(blocks, wanted(view, traces)).await
}

/// The same of some `parts` of what is [`wanted`].
///
/// # Errors
/// As [`of_traces`].
pub async fn of_parts(
    blocks: &Blocks,
    parts: Vec<(&Block, Vec<TraceId>)>,
) -> Result<HashMap<TraceId, Vec<RecordBatch>>> {
    let mut found: HashMap<TraceId, Vec<RecordBatch>> = HashMap::new();
    for (_, rows) in read(blocks, parts).await? {
        for (trace, rows) in by_trace(&rows)? {
            found.entry(trace).or_default().push(rows);
        }
    }
    Ok(found)
}

/// The rows of `traces` in each visible block of `view` that has any.
///
/// # Errors
/// As [`of_traces`].
pub async fn by_block(blocks: &Blocks, view: &View, traces: &Traces) -> Result<Vec<(BlockKey, RecordBatch)>> {
    read(blocks, wanted(view, traces)).await
}

async fn read(blocks: &Blocks, parts: Vec<(&Block, Vec<TraceId>)>) -> Result<Vec<(BlockKey, RecordBatch)>> {
    let reads = parts.into_iter().map(|(block, traces)| {
        let (blocks, key, size_bytes) = (blocks.clone(), block.key, block.size_bytes);
        async move {
            let rows = blocks.traces(&key, size_bytes, &traces).await;
            Result::<_>::Ok((key, rows.context_with(|| format!("read traces from {}", Key::Block(key).path()))?))
        }
    });
    let found = stream::iter(reads).buffered(AT_A_TIME);
    found.try_filter(|(_, rows)| std::future::ready(rows.num_rows() > 0)).try_collect().await
}

/// Cuts `rows` (of spans, a trace's rows together) into traces.
pub fn by_trace(rows: &RecordBatch) -> Result<Vec<(TraceId, RecordBatch)>> {
    let columns = Spans::of(rows)?;
    let mut cut = Vec::new();
    let mut from = 0;
    for row in 1..=columns.len() {
        if row == columns.len() || columns.trace(row) != columns.trace(from) {
            cut.push((columns.trace(from), rows.slice(from, row - from)));
            from = row;
        }
    }
    Ok(cut)
}

/// One sorted run of a trace's rows, each once, revisions all kept; `None` if there is no row.
pub fn union(rows: &[RecordBatch]) -> Result<Option<RecordBatch>> {
    if rows.iter().all(|rows| rows.num_rows() == 0) {
        return Ok(None);
    }
    order::union(Table::Spans, rows).map(Some)
}
