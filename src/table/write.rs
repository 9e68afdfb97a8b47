//! Blocks written: level 0 in one buffer, level 1 as a stream of files.

use bytes::Bytes;

use super::order::HourRows;
use crate::error::Result;
use crate::model::Table;

/// One hour's rows as a level-0 block, whole: fast encoding, row groups cut at shards. CPU only.
pub fn level0(table: Table, rows: &HourRows, rules: u32) -> Result<Bytes> {
    let _ = (table, rows, rules);
    todo!()
}
