//! Blocks written: level 0 in one buffer, level 1 as a stream of files.

use std::ops::Range;

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{BloomFilterPosition, EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::block::{FORMAT, Place, Words, group_range, sum};
use super::order::HourRows;
use crate::error::{Result, ResultExt};
use crate::model::Table;

/// Rows of a row group, at most: a unit of memory and of pruning for every engine that reads it.
pub(crate) const GROUP_ROWS: usize = 256 << 10;
/// Bytes of a row group, at most, as the writer estimates them before compression.
const GROUP_BYTES: usize = 64 << 20;
/// Level 0: a row group ends with a shard once it has as many rows. Below that, the costs of a row group (34 columns,
/// each with its header, its dictionary and its place in the footer) are more than reading a shard by pages.
pub(crate) const GROUP_LEAST_ROWS: usize = 16 << 10;
/// Rows of a page: what is read of each column to find one trace.
pub(crate) const PAGE_ROWS: usize = 8 << 10;
/// Rows of a page of level 0, at least: where a block has rows of many shards it has more pages than that.
pub(crate) const PAGE_LEAST_ROWS: usize = 1 << 10;
/// Level 1's zstd level.
const LEVEL: i32 = 3;

/// One hour's rows as a level-0 block, whole: fast encoding, row groups cut at shards. CPU only.
///
/// # Errors
/// If the rows are not of the table's schema.
pub fn level0(table: Table, rows: &HourRows, rules: u32) -> Result<Bytes> {
    // A merge reads one shard, and unpacks all pages that have rows of it.
    let page_rows = (rows.rows.num_rows() / rows.shards.len().max(1)).clamp(PAGE_LEAST_ROWS, PAGE_ROWS);
    let properties = shared(table)
        .set_compression(Compression::LZ4_RAW)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_data_page_row_count_limit(page_rows);
    let properties = find_by(table).iter().fold(properties, |properties, name| {
        properties.set_column_statistics_enabled(ColumnPath::from(*name), EnabledStatistics::Page)
    });
    let mut writer = writer(table, properties.build())?;
    for (_, range) in &rows.shards {
        writer.write(&rows.rows.slice(range.start, range.len())).context("encode a level-0 block")?;
        if writer.in_progress_rows() >= GROUP_LEAST_ROWS {
            writer.flush().context("encode a level-0 block")?;
        }
    }
    let words = Words {
        format: FORMAT,
        rules,
        rows: rows.rows.num_rows() as u64,
        shards: rows.shards.iter().map(|(shard, range)| (*shard, range.len() as u64)).collect(),
        merged_from: Vec::new(),
        siblings: Vec::new(),
        times: if table == Table::Spans { rows.times()? } else { None },
        sums: Vec::new(),
        digest: None,
        calls: None,
    };
    writer.flush().context("encode a level-0 block")?;
    writer.sync().context("encode a level-0 block")?;
    let body = writer.inner();
    let group = |range: Range<u64>| sum(&body[range.start as usize..range.end as usize]);
    let sums = writer.flushed_row_groups().iter().map(|metadata| group(group_range(metadata))).collect();
    let words = Words { sums, ..words };
    writer.append_key_value_metadata(words.to_metadata()?);
    Ok(writer.into_inner().context("encode a level-0 block")?.into())
}

/// A level-1 file being written: rows in, bytes out as they become ready.
pub(super) struct Level1 {
    writer: ArrowWriter<Vec<u8>>,
    rows: u64,
    /// How many bytes have been handed out.
    handed_out: u64,
    sums: Vec<String>,
}

impl Level1 {
    /// With row groups of so many rows, at most.
    pub fn new(table: Table, group_rows: usize) -> Result<Self> {
        let zstd = Compression::ZSTD(ZstdLevel::try_new(LEVEL)?);
        let ascending = |column: i32| SortingColumn { column_idx: column, descending: false, nulls_first: false };
        let descending = |column: i32| SortingColumn { column_idx: column, descending: true, nulls_first: false };
        let column = |name: &str| super::schema(table).index_of(name).map_or(0, |at| at as i32);
        let order = match table {
            Table::Spans => {
                vec![ascending(column("trace_id")), ascending(column("start")), ascending(column("span_id"))]
            }
            Table::Entries => vec![
                ascending(column("handler")),
                descending(column("start")),
                ascending(column("trace_id")),
                ascending(column("span_id")),
            ],
        };
        let trace = ColumnPath::from("trace_id");
        let properties = shared(table)
            .set_compression(zstd)
            .set_max_row_group_row_count(Some(group_rows))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_sorting_columns(Some(order))
            .set_column_bloom_filter_enabled(trace.clone(), true)
            .set_column_bloom_filter_fpp(trace.clone(), 0.01)
            // All together, so that those that matter are one request.
            .set_bloom_filter_position(BloomFilterPosition::End)
            // The most there can be: the filter is folded to what it holds when the row group ends.
            .set_column_bloom_filter_max_ndv(trace, group_rows as u64);
        let properties = find_by(table).iter().chain(&["start"]).fold(properties, |properties, name| {
            properties.set_column_statistics_enabled(ColumnPath::from(*name), EnabledStatistics::Page)
        });
        Ok(Self { writer: writer(table, properties.build())?, rows: 0, handed_out: 0, sums: Vec::new() })
    }

    pub fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.rows += rows.num_rows() as u64;
        Ok(self.writer.write(rows).context("encode a level-1 block")?)
    }

    /// Bytes of the file so far, with an estimate of the row group in hand.
    pub fn size_bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// What has become ready since the last call.
    pub fn ready(&mut self) -> Result<Bytes> {
        self.writer.sync().context("encode a level-1 block")?;
        let ready = std::mem::take(self.writer.inner_mut());
        // The writer hands on a row group when it is whole: none lies across what was handed out before.
        for group in &self.writer.flushed_row_groups()[self.sums.len()..] {
            let range = group_range(group);
            let bytes = (range.start - self.handed_out) as usize..(range.end - self.handed_out) as usize;
            self.sums.push(sum(&ready[bytes]));
        }
        self.handed_out += ready.len() as u64;
        Ok(ready.into())
    }

    /// Ends the file: what is left of its bytes. `words` get their sums and the places of the digests from here.
    pub fn finish(mut self, mut words: Words, digest: Option<&[u8]>, calls: Option<&[u8]>) -> Result<Vec<Bytes>> {
        self.writer.flush().context("encode a level-1 block")?;
        let last_group = self.ready()?;
        words.sums = std::mem::take(&mut self.sums);
        let mut put = |bytes: Option<&[u8]>| -> Result<Option<Place>> {
            let Some(bytes) = bytes else { return Ok(None) };
            let at = self.writer.bytes_written() as u64;
            self.writer.write_all(bytes).context("write the digest of a level-1 block")?;
            Ok(Some(Place(at, bytes.len() as u64)))
        };
        words.digest = put(digest)?;
        words.calls = put(calls)?;
        self.writer.append_key_value_metadata(words.to_metadata()?);
        Ok(vec![last_group, self.writer.into_inner().context("encode a level-1 block")?.into()])
    }
}

/// The columns by which rows are found: they have bounds for every page.
fn find_by(table: Table) -> &'static [&'static str] {
    match table {
        Table::Spans => &["trace_id"],
        Table::Entries => &["handler", "trace_id"],
    }
}

/// What both levels have in common.
fn shared(table: Table) -> WriterPropertiesBuilder {
    let properties = WriterProperties::builder()
        .set_created_by(concat!("tracefarm ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_max_row_group_bytes(Some(GROUP_BYTES))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_dictionary_enabled(false)
        .set_column_encoding(ColumnPath::from("start"), Encoding::DELTA_BINARY_PACKED)
        .set_column_encoding(ColumnPath::from("duration"), Encoding::DELTA_BINARY_PACKED);
    super::schema(table).fields().iter().fold(properties, |properties, field| {
        use arrow::datatypes::DataType;
        let few_values = matches!(
            field.data_type(),
            DataType::Dictionary(_, _)
                | DataType::Int32
                | DataType::UInt32
                | DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, _)
        );
        properties.set_column_dictionary_enabled(ColumnPath::from(field.name().as_str()), few_values)
    })
}

fn writer(table: Table, properties: WriterProperties) -> Result<ArrowWriter<Vec<u8>>> {
    // Arrow's own schema is left out: readers of ours know it, others have Parquet's, and it is 3 KB a block.
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let writer = ArrowWriter::try_new_with_options(Vec::new(), super::schema(table), options);
    Ok(writer.context("begin to encode a block")?)
}
