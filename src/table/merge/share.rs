//! What of a block a merge reads: the rows of one shard.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::input::{BATCH_LEAST_ROWS, ROW_BYTES};
use super::{FEWEST_INPUTS, INPUT_BYTES};
use crate::model::Shard;
use crate::table::footer::Footer;
use crate::table::read::selected;
use crate::table::scan::Selected;

/// A shard's rows in a block, with as much of its footer as they take: a worker's block of level 0 has dozens of shards, and
/// a merge thousands of such blocks.
pub(super) struct Share {
    pub footer: Arc<Footer>,
    /// Rows of the row groups that this footer has.
    pub parts: Vec<Selected>,
}

/// What reading a share takes in memory, in bytes. All of it is said by the footer but for [`INPUT_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Takes {
    /// However little is read at a time: what is left of the footer, readers, and a page of each column unpacked.
    pub always: usize,
    /// A page of each column as it is stored, and the smallest batch of rows.
    pub at_least: usize,
}

impl Share {
    pub fn of(footer: &Arc<Footer>, shard: Shard) -> Self {
        let mut parts = selected(footer, footer.words.rows_of(shard));
        let groups: Vec<usize> = parts.iter().map(|(group, _)| *group).collect();
        if groups.len() == footer.parquet.num_row_groups() {
            return Self { footer: footer.clone(), parts };
        }
        parts.iter_mut().enumerate().for_each(|(place, (group, _))| *group = place);
        Self { footer: Arc::new(footer.only(&groups)), parts }
    }

    pub fn takes(&self) -> Takes {
        let mut takes = Takes { always: 0, at_least: 0 };
        for (group, ranges) in &self.parts {
            let of_group = OfGroup::of(&self.footer, *group);
            let rows: usize = ranges.iter().map(ExactSizeIterator::len).sum();
            takes.always = takes.always.max(of_group.page_rows * of_group.unpacked);
            let batch = rows.min(BATCH_LEAST_ROWS) * (of_group.unpacked + ROW_BYTES);
            takes.at_least = takes.at_least.max(of_group.page_rows * of_group.stored + batch);
        }
        takes.always += INPUT_BYTES + self.footer.parquet.memory_size();
        takes
    }

    /// How many of `shares`, from the first on, are read at once in `memory_bytes`.
    pub fn fitting<'s>(shares: impl ExactSizeIterator<Item = &'s Self>, memory_bytes: usize) -> usize {
        let count = shares.len();
        fitting(shares.map(|share| share.takes().always + share.takes().at_least), memory_bytes).min(count)
    }
}

/// How many inputs that take so many bytes each are read at once in `memory_bytes`.
pub(crate) fn fitting(needs: impl Iterator<Item = usize>, memory_bytes: usize) -> usize {
    let sums = needs.scan(0_usize, |sum, need| {
        *sum = sum.saturating_add(need);
        Some(*sum)
    });
    sums.take_while(|sum| *sum <= memory_bytes).count().max(FEWEST_INPUTS)
}

/// Bytes of a row of a row group, and rows of its pages.
pub(super) struct OfGroup {
    pub stored: usize,
    pub unpacked: usize,
    pub page_rows: usize,
}

impl OfGroup {
    pub fn of(footer: &Footer, group: usize) -> Self {
        let metadata = footer.parquet.row_group(group);
        let rows = (metadata.num_rows().max(0) as usize).max(1);
        let bytes = |bytes: i64| (bytes.max(0) as usize).div_ceil(rows).max(1);
        // All columns' pages end at about the same rows.
        let pages = footer.parquet.page_index_for_row_group(group).num_data_pages(0).unwrap_or(1);
        Self {
            stored: bytes(metadata.compressed_size()),
            unpacked: bytes(metadata.total_byte_size()),
            page_rows: rows.div_ceil(pages.max(1)),
        }
    }
}

/// Parts of one answer that are less than half of it, copied: otherwise they would keep all of it in memory. (What lies
/// near is asked for at once, and a shard's pages lie among those of its neighbours.)
pub(super) fn apart(bytes: Vec<Bytes>, ranges: &[Range<u64>]) -> Vec<Bytes> {
    let starts = ranges.iter().map(|range| range.start).min().unwrap_or_default();
    let ends = ranges.iter().map(|range| range.end).max().unwrap_or_default();
    let wanted: usize = bytes.iter().map(Bytes::len).sum();
    if 2 * wanted as u64 >= ends - starts {
        return bytes;
    }
    bytes.iter().map(|bytes| Bytes::copy_from_slice(bytes)).collect()
}
