//! Sorting, de-duplication and sharding of one batch in memory: what index does before it writes.

use std::ops::Range;

use arrow::record_batch::RecordBatch;

use crate::error::Result;
use crate::model::{Hour, Shard, Table};

/// One hour of a batch, ready to be written as level 0.
#[derive(Debug, Clone)]
pub struct HourRows {
    /// The hour of all rows.
    pub hour: Hour,
    /// Sorted in the table's order, rule 3 applied.
    pub rows: RecordBatch,
    /// Which rows are which shard's: contiguous, in order of shard, none empty.
    pub shards: Vec<(Shard, Range<usize>)>,
}

/// Splits `rows` by hour (their own [`super::place`]), sorts each in `table`'s order and de-duplicates it (rule 3: of
/// equal rows the one received first stays; revisions all stay). `shards` says how many shards count for an hour.
pub fn split(table: Table, rows: &RecordBatch, shards: &dyn Fn(Hour) -> u16) -> Result<Vec<HourRows>> {
    let _ = (table, rows, shards);
    todo!()
}

/// Like [`split`], for the rows of one trace or handler read from several blocks: one sorted batch, rule 3 applied, all
/// revisions kept. Batches of `table`'s schema.
pub fn union(table: Table, rows: &[RecordBatch]) -> Result<RecordBatch> {
    let _ = (table, rows);
    todo!()
}

/// Of the revisions of each key in `rows` (sorted, as [`union`] returns them) the one that counts: the newest by
/// (received, content hash), or with `base` the first.
pub fn current(table: Table, rows: &RecordBatch, base: bool) -> Result<RecordBatch> {
    let _ = (table, rows, base);
    todo!()
}

/// XXH3-64 of the canonical content of all `rows` of the spans table (everything but `received`), in sorted order: two
/// sets of rows are the same if this is.
pub fn content_hash(rows: &RecordBatch) -> Result<u64> {
    let _ = rows;
    todo!()
}
