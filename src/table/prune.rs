//! Which pages of a block can hold what is looked for.

use std::ops::Range;

use parquet::bloom_filter::Sbbf;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::page_index::column_index::ColumnIndexMetaData;

use super::block::BlockError;
use super::footer::{Footer, fetch};
use super::scan::Selected;
use crate::error::Result;
use crate::store::Store;

/// Values looked for in one column: their bytes as the column holds them, sorted.
pub(super) struct Wanted {
    pub column: &'static str,
    values: Vec<Vec<u8>>,
}

impl Wanted {
    pub fn new(column: &'static str, values: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut values: Vec<Vec<u8>> = values.into_iter().collect();
        values.sort_unstable();
        values.dedup();
        Self { column, values }
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub fn holds(&self, value: &[u8]) -> bool {
        self.values.binary_search_by(|wanted| wanted.as_slice().cmp(value)).is_ok()
    }

    /// Whether one of them may lie within the bounds, which may be missing, or shortened to enclose more.
    fn within(&self, least: Option<&[u8]>, most: Option<&[u8]>) -> bool {
        let from = least.map_or(0, |least| self.values.partition_point(|wanted| wanted.as_slice() < least));
        let to = most.map_or(self.values.len(), |most| self.values.partition_point(|wanted| wanted.as_slice() <= most));
        from < to
    }

    fn column_of(&self, parquet: &ParquetMetaData) -> Option<usize> {
        let columns = parquet.file_metadata().schema_descr().columns();
        columns.iter().position(|column| column.name() == self.column)
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// The row groups that may hold one of them, by their statistics.
    pub fn by_bounds(&self, footer: &Footer) -> Vec<usize> {
        let Some(column) = self.column_of(&footer.parquet) else { return Vec::new() };
        let may_hold = |group: &usize| {
            let bounds = footer.parquet.row_group(*group).column(column).statistics();
            self.within(bounds.and_then(|b| b.min_bytes_opt()), bounds.and_then(|b| b.max_bytes_opt()))
        };
        (0..footer.parquet.num_row_groups()).filter(may_hold).collect()
    }

    /// The row groups that may hold one of them, by their statistics and then by their bloom filters: one request for
    /// all filters that matter.
    pub async fn groups(&self, store: &Store, footer: &Footer) -> Result<Vec<usize>> {
        let Some(column) = self.column_of(&footer.parquet) else { return Ok(Vec::new()) };
        let chunk = |group: usize| footer.parquet.row_group(group).column(column);
        let (mut groups, mut filters) = (Vec::new(), Vec::new());
        for group in self.by_bounds(footer) {
            match (chunk(group).bloom_filter_offset(), chunk(group).bloom_filter_length()) {
                (Some(offset), Some(length)) if offset >= 0 && length > 0 => {
                    filters.push((group, offset as u64..offset as u64 + length as u64));
                }
                _ => groups.push(group),
            }
        }
        let ranges: Vec<Range<u64>> = filters.iter().map(|(_, range)| range.clone()).collect();
        if !ranges.is_empty() {
            let bytes = fetch(store, &footer.key, footer.size_bytes, &ranges).await?;
            for ((group, _), bytes) in filters.iter().zip(bytes) {
                let filter = Sbbf::from_bytes(&bytes).map_err(|error| BlockError::corrupt(&footer.key, error))?;
                if self.values.iter().any(|wanted| filter.check(wanted.as_slice())) {
                    groups.push(*group);
                }
            }
        }
        groups.sort_unstable();
        Ok(groups)
    }

    /// The rows of `groups` whose pages may hold one of them, by the page index; all rows of a group without one.
    pub fn pages(&self, footer: &Footer, groups: &[usize]) -> Vec<Selected> {
        let Some(column) = self.column_of(&footer.parquet) else { return Vec::new() };
        groups
            .iter()
            .map(|group| (*group, self.pages_of(footer, *group, column)))
            .filter(|(_, r)| !r.is_empty())
            .collect()
    }

    fn pages_of(&self, footer: &Footer, group: usize, column: usize) -> Vec<Range<usize>> {
        let rows = footer.parquet.row_group(group).num_rows() as usize;
        let all = || std::iter::once(0..rows).collect();
        let index = footer.parquet.page_index_for_row_group(group);
        let (Some(bounds), Some(pages)) = (index.column_index(column), index.page_locations(column)) else {
            return all();
        };
        // Damage that would make the index lie, or step outside of the group, is answered by reading it all.
        let starts: Option<Vec<usize>> = pages.iter().map(|page| usize::try_from(page.first_row_index).ok()).collect();
        let starts = starts.filter(|starts| starts.first() == Some(&0) && starts.is_sorted());
        let Some(starts) = starts.filter(|starts| starts.last() <= Some(&rows)) else { return all() };
        if bounds.num_pages() != starts.len() as u64 {
            return all();
        }
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for (page, start) in starts.iter().enumerate() {
            let end = starts.get(page + 1).copied().unwrap_or(rows);
            let (least, most) = match bounds {
                ColumnIndexMetaData::FIXED_LEN_BYTE_ARRAY(index) | ColumnIndexMetaData::BYTE_ARRAY(index) => {
                    (index.min_value(page), index.max_value(page))
                }
                _ => (None, None),
            };
            if !self.within(least, most) || *start == end {
                continue;
            }
            match ranges.last_mut() {
                Some(last) if last.end == *start => last.end = end,
                _ => ranges.push(*start..end),
            }
        }
        ranges
    }
}
