//! A streaming k-way merge of sorted runs, rule 3 applied, into level-1 files; memory bounded by inputs × one batch.

use std::collections::HashSet;

use jiff::Timestamp;

use super::read::Blocks;
use crate::clock::Clock;
use crate::error::Result;
use crate::model::{BlockId, Hour, Shard, Table, TraceId};
use crate::store::layout::BlockKey;
use crate::store::{Object, Store};

/// One merge: all `inputs` of one table, shard and hour into level 1.
#[derive(Clone, Debug)]
pub struct MergeSpec {
    /// The table.
    pub table: Table,
    /// The output's shard.
    pub shard: Shard,
    /// The hour.
    pub hour: Hour,
    /// The blocks to read, of either level, with their listed sizes.
    pub inputs: Vec<(BlockKey, u64)>,
    /// What the last file says it replaces: the inputs, and those on the inputs' lists that are still listed.
    pub merged_from: Vec<BlockId>,
    /// Traces to leave out (tombstones).
    pub forget: HashSet<TraceId>,
    /// A file ends at about this many bytes, aligned to traces (spans) or handlers.
    pub file_bytes: u64,
    /// Bytes of memory the merge may use.
    pub memory_bytes: usize,
}

/// What a merge wrote.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    /// The files in the order written; the last carries `merged_from`. There is always one, even without rows.
    pub files: Vec<(BlockKey, Object)>,
    /// Rows read.
    pub rows_in: u64,
    /// Rows written.
    pub rows_out: u64,
    /// When the last file was written, by the store.
    pub finished: Option<Timestamp>,
}

/// Runs a merge. Dies without harm anywhere: files without the last one are extra copies (rule 2).
pub async fn merge(blocks: &Blocks, store: &Store, clock: &Clock, spec: MergeSpec) -> Result<Merged> {
    let _ = (blocks, store, clock, spec);
    todo!()
}
