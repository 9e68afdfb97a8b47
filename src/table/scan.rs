//! Rows decoded from chosen ranges of a block, without any I/O of its own: it says which bytes it needs next.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{RowFilter, RowSelection, RowSelector};
use parquet::arrow::push_decoder::{ParquetPushDecoder, ParquetPushDecoderBuilder};
use xxhash_rust::xxh3::Xxh3;

use super::block::{BlockError, group_range};
use super::footer::Footer;
use super::guard;
use crate::error::Result;

/// Which rows of which row group: ranges within it, ascending.
pub(super) type Selected = (usize, Vec<Range<usize>>);

/// A scan under way.
pub(super) struct Scan {
    footer: Arc<Footer>,
    decoder: ParquetPushDecoder,
}

/// What a scan wants or has.
pub(super) enum Step {
    /// Bytes of the file; go on with [`Scan::push`].
    Need(Vec<Range<u64>>),
    /// Rows, at most a batch.
    Rows(RecordBatch),
    /// There are no more.
    Done,
}

impl Scan {
    /// Reads `selected` in their order, `batch_rows` at a time; all columns, or those of `columns`; of these rows only
    /// those that pass `filter`.
    pub fn new(
        footer: &Arc<Footer>,
        selected: &[Selected],
        batch_rows: usize,
        columns: Option<&[&str]>,
        filter: Option<RowFilter>,
    ) -> Result<Self> {
        let groups = selected.iter().map(|(group, _)| *group).collect();
        let mut selectors = Vec::new();
        let mut whole = true;
        for (group, ranges) in selected {
            let rows = footer.parquet.row_group(*group).num_rows() as usize;
            whole &= matches!(ranges.as_slice(), [range] if *range == (0..rows));
            let mut at = 0;
            for range in ranges {
                selectors.push(RowSelector::skip(range.start - at));
                selectors.push(RowSelector::select(range.len()));
                at = range.end;
            }
            selectors.push(RowSelector::skip(rows - at));
        }
        let mut builder = ParquetPushDecoderBuilder::new_with_metadata(footer.reader()?)
            .with_batch_size(batch_rows)
            .with_row_groups(groups);
        if !whole {
            builder = builder.with_row_selection(RowSelection::from(selectors));
        }
        if let Some(columns) = columns {
            let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
            builder = builder.with_projection(mask);
        }
        if let Some(filter) = filter {
            builder = builder.with_row_filter(filter);
        }
        let decoder = guard(&footer.key, || builder.build())?;
        Ok(Self { footer: footer.clone(), decoder })
    }

    /// Decodes the next rows, or says which bytes that takes. CPU only.
    pub fn step(&mut self) -> Result<Step> {
        Ok(match guard(&self.footer.key, || self.decoder.try_decode())? {
            DecodeResult::NeedsData(ranges) => Step::Need(ranges),
            DecodeResult::Data(rows) => Step::Rows(rows),
            DecodeResult::Finished => Step::Done,
        })
    }

    /// Hands over the bytes that it asked for. If they are a row group, whole, their sum is compared.
    pub fn push(&mut self, ranges: Vec<Range<u64>>, bytes: Vec<Bytes>) -> Result<()> {
        self.check(&ranges, &bytes)?;
        guard(&self.footer.key, || self.decoder.push_ranges(ranges, bytes))
    }

    fn check(&self, ranges: &[Range<u64>], bytes: &[Bytes]) -> Result<()> {
        let mut parts: Vec<(&Range<u64>, &Bytes)> = ranges.iter().zip(bytes).collect();
        parts.sort_unstable_by_key(|(range, _)| range.start);
        let (Some((first, _)), Some((last, _))) = (parts.first(), parts.last()) else { return Ok(()) };
        let all = first.start..last.end;
        let group = self.footer.parquet.row_groups().iter().position(|group| group_range(group) == all);
        let sum = group.and_then(|group| self.footer.words.sums.get(group));
        let (Some(sum), true) = (sum, parts.is_sorted_by(|(a, _), (b, _)| a.end == b.start)) else { return Ok(()) };
        let mut hash = Xxh3::new();
        parts.iter().for_each(|(_, bytes)| hash.update(bytes));
        if format!("{:016x}", hash.digest()) != *sum {
            let message = format!("bytes {}..{} are not those that were written", all.start, all.end);
            return Err(BlockError::corrupt(&self.footer.key, message).into());
        }
        Ok(())
    }
}
