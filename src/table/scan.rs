//! Rows decoded from chosen ranges of a block, without any I/O of its own: it says which bytes it needs next.

use std::ops::Range;

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{RowFilter, RowSelection, RowSelector};
use parquet::arrow::push_decoder::{ParquetPushDecoder, ParquetPushDecoderBuilder};

use super::footer::Footer;
use super::guard;
use crate::error::Result;
use crate::store::layout::BlockKey;

/// Which rows of which row group: ranges within it, ascending.
pub(super) type Selected = (usize, Vec<Range<usize>>);

/// A scan under way.
pub(super) struct Scan {
    key: BlockKey,
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
        footer: &Footer,
        selected: &[Selected],
        batch_rows: usize,
        columns: Option<&[&str]>,
        filter: Option<RowFilter>,
    ) -> Result<Self> {
        let groups = selected.iter().map(|(group, _)| *group).collect();
        let mut selectors = Vec::new();
        for (group, ranges) in selected {
            let rows = footer.parquet.row_group(*group).num_rows() as usize;
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
            .with_row_groups(groups)
            .with_row_selection(RowSelection::from(selectors));
        if let Some(columns) = columns {
            let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
            builder = builder.with_projection(mask);
        }
        if let Some(filter) = filter {
            builder = builder.with_row_filter(filter);
        }
        let decoder = guard(&footer.key, || builder.build())?;
        Ok(Self { key: footer.key, decoder })
    }

    /// Decodes the next rows, or says which bytes that takes. CPU only.
    pub fn step(&mut self) -> Result<Step> {
        Ok(match guard(&self.key, || self.decoder.try_decode())? {
            DecodeResult::NeedsData(ranges) => Step::Need(ranges),
            DecodeResult::Data(rows) => Step::Rows(rows),
            DecodeResult::Finished => Step::Done,
        })
    }

    /// Hands over the bytes that it asked for.
    pub fn push(&mut self, ranges: Vec<Range<u64>>, bytes: Vec<Bytes>) -> Result<()> {
        guard(&self.key, || self.decoder.push_ranges(ranges, bytes))
    }
}
