//! A block's footer: parsed, checked against the file's size, and with what it needs to be read by.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parquet::DecodeResult;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::page_index::PageIndexBuilder;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataBuilder, ParquetMetaDataPushDecoder};

use super::block::{BlockError, BlockMeta, FORMAT, Words};
use super::guard;
use crate::error::Result;
use crate::model::{ShardDir, Table};
use crate::store::layout::BlockKey;
use crate::store::{Key, Store};

/// What is fetched of a block's end in the hope that the whole footer lies in it: a row group takes some 5 KiB of it, and is
/// 8 MB large, but in level 0 it may end with a shard a tenth of that, and has many pages where there are many shards.
pub(crate) fn guess_bytes(dir: ShardDir, size_bytes: u64) -> u64 {
    let grows = if dir == ShardDir::All { 64 } else { 1024 };
    size_bytes.min((64 << 10) + size_bytes / grows)
}

/// A footer, ready to read rows by.
#[derive(Debug)]
pub(super) struct Footer {
    pub key: BlockKey,
    pub size_bytes: u64,
    pub words: Words,
    pub meta: Arc<BlockMeta>,
    pub parquet: Arc<ParquetMetaData>,
    /// Whether `parquet` has the page index.
    pub indexed: bool,
}

impl Footer {
    /// Reads it with one request of the file's end, and another if it is larger than guessed; `indexed` with the page
    /// index, which lies right before it.
    pub async fn read(store: &Store, key: &BlockKey, size_bytes: u64, indexed: bool) -> Result<Self> {
        let corrupt = |error: parquet::errors::ParquetError| BlockError::corrupt(key, error);
        let mut decoder = ParquetMetaDataPushDecoder::try_new(size_bytes).map_err(corrupt)?;
        if !indexed {
            decoder = decoder.with_page_index_policy(PageIndexPolicy::Skip);
        }
        let guess = size_bytes - guess_bytes(key.dir, size_bytes)..size_bytes;
        let bytes = store.get_ranges(&Key::Block(*key), std::slice::from_ref(&guess)).await?;
        decoder.push_ranges(vec![guess], bytes).map_err(corrupt)?;
        let parquet = decode(store, key, size_bytes, decoder).await?;
        Self::new(key, size_bytes, parquet, indexed)
    }

    /// The footer, with the page index, of a block that is there whole. CPU only.
    pub fn of_body(key: &BlockKey, body: &Bytes) -> Result<Self> {
        let size_bytes = body.len() as u64;
        let corrupt = |error: parquet::errors::ParquetError| BlockError::corrupt(key, error);
        let mut decoder = ParquetMetaDataPushDecoder::try_new(size_bytes).map_err(corrupt)?;
        decoder.push_range(0..size_bytes, body.clone()).map_err(corrupt)?;
        match guard(key, || decoder.try_decode())? {
            DecodeResult::Data(parquet) => Self::new(key, size_bytes, parquet, true),
            _ => Err(BlockError::corrupt(key, "its footer has no end").into()),
        }
    }

    /// The same footer with the page index.
    pub async fn with_index(&self, store: &Store) -> Result<Self> {
        let parquet = ParquetMetaData::clone(&self.parquet);
        let decoder = ParquetMetaDataPushDecoder::try_new_with_metadata(self.size_bytes, parquet);
        let decoder = decoder.map_err(|error| BlockError::corrupt(&self.key, error))?;
        let parquet = decode(store, &self.key, self.size_bytes, decoder).await?;
        Self::new(&self.key, self.size_bytes, parquet, true)
    }

    fn new(key: &BlockKey, size_bytes: u64, parquet: ParquetMetaData, indexed: bool) -> Result<Self> {
        let words = Words::of_metadata(parquet.file_metadata()).map_err(|why| BlockError::corrupt(key, why))?;
        if words.format <= FORMAT {
            fits(key.table, size_bytes, &parquet).map_err(|why| BlockError::corrupt(key, why))?;
        }
        let meta = Arc::new(words.meta());
        Ok(Self { key: *key, size_bytes, words, meta, parquet: Arc::new(parquet), indexed })
    }

    /// The same footer with some of its row groups, which are numbered anew, and of the page index only where pages lie.
    /// Its words go on speaking of the whole block.
    pub fn only(&self, groups: &[usize]) -> Self {
        let row_groups = groups.iter().map(|group| self.parquet.row_group(*group).clone()).collect();
        let columns = self.parquet.file_metadata().schema_descr().num_columns();
        let mut index = PageIndexBuilder::new(groups.len(), columns);
        for (place, group) in groups.iter().enumerate() {
            let pages = self.parquet.page_index_for_row_group(*group);
            for column in 0..columns {
                if let Some(pages) = pages.offset_index(column) {
                    index.put_offset_index(pages.clone(), place, column);
                }
            }
        }
        let parquet = ParquetMetaDataBuilder::new(self.parquet.file_metadata().clone()).set_row_groups(row_groups);
        let parquet = parquet.set_page_index(self.indexed.then(|| Arc::new(index.build()) as _)).build();
        let sums = groups.iter().filter_map(|group| self.words.sums.get(*group).cloned()).collect();
        let words = Words { sums, ..self.words.clone() };
        Self { words, parquet: Arc::new(parquet), meta: self.meta.clone(), ..*self }
    }

    /// The words and schema that a decoder starts from.
    ///
    /// # Errors
    /// [`super::block::BlockErrorKind::TooNew`] for a format that this program does not know, `Corrupt` for columns
    /// that are not the table's.
    pub fn reader(&self) -> Result<ArrowReaderMetadata> {
        if self.words.format > FORMAT {
            let message = format!("its format is {}, this program knows {FORMAT}", self.words.format);
            return Err(BlockError::too_new(&self.key, message).into());
        }
        let options = ArrowReaderOptions::new().with_schema(super::schema(self.key.table));
        guard(&self.key, || ArrowReaderMetadata::try_new(self.parquet.clone(), options))
    }

    /// About how much memory it takes.
    pub fn memory_bytes(&self) -> usize {
        let lists = (self.words.merged_from.len() + self.words.siblings.len()) * 2 * size_of::<u128>();
        size_of::<Self>() + self.parquet.memory_size() + lists + self.words.shards.len() * 32
    }

    /// The rows of each row group.
    pub fn groups(&self) -> impl Iterator<Item = (usize, Range<u64>)> {
        self.parquet.row_groups().iter().enumerate().scan(0, |from, (group, rows)| {
            // `fits` made sure that they are not negative and sum up to the block's rows.
            let range = *from..*from + rows.num_rows() as u64;
            *from = range.end;
            Some((group, range))
        })
    }
}

async fn decode(
    store: &Store,
    key: &BlockKey,
    size_bytes: u64,
    mut decoder: ParquetMetaDataPushDecoder,
) -> Result<ParquetMetaData> {
    loop {
        let ranges = match guard(key, || decoder.try_decode())? {
            DecodeResult::Data(metadata) => return Ok(metadata),
            DecodeResult::NeedsData(ranges) => ranges,
            DecodeResult::Finished => return Err(BlockError::corrupt(key, "its footer has no end").into()),
        };
        let bytes = fetch(store, key, size_bytes, &ranges).await?;
        guard(key, || decoder.push_ranges(ranges, bytes))?;
    }
}

/// The bytes of `ranges`, which damaged metadata may have put outside the file.
pub(super) async fn fetch(store: &Store, key: &BlockKey, size_bytes: u64, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
    are_within(key, size_bytes, ranges)?;
    Ok(store.get_ranges(&Key::Block(*key), ranges).await?)
}

/// Whether `ranges` lie in the file.
pub(super) fn are_within(key: &BlockKey, size_bytes: u64, ranges: &[Range<u64>]) -> Result<(), BlockError> {
    match ranges.iter().find(|range| range.start > range.end || range.end > size_bytes) {
        Some(Range { start, end }) => {
            Err(BlockError::corrupt(key, format!("it points to bytes {start}..{end}, and has {size_bytes}")))
        }
        None => Ok(()),
    }
}

/// Checks what damaged metadata would make a decoder stumble over.
fn fits(table: Table, size_bytes: u64, parquet: &ParquetMetaData) -> Result<(), String> {
    let columns = parquet.file_metadata().schema_descr().num_columns();
    let expected = super::schema(table).fields().len();
    if columns != expected {
        return Err(format!("it has {columns} columns, and {table} has {expected}"));
    }
    let mut rows = 0_i64;
    for group in parquet.row_groups() {
        if group.num_rows() < 0 || group.num_columns() != columns {
            return Err("a row group of its footer does not fit its schema".to_owned());
        }
        rows = rows.saturating_add(group.num_rows());
        for column in group.columns() {
            let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
            let inside = |at: i64| u64::try_from(at).is_ok_and(|at| at <= size_bytes);
            let sizes = [start, column.data_page_offset(), column.compressed_size()];
            let end = start.saturating_add(column.compressed_size());
            if !sizes.into_iter().all(inside) || !inside(end) || column.num_values() != group.num_rows() {
                return Err("a column of its footer lies outside the file".to_owned());
            }
        }
    }
    if rows != parquet.file_metadata().num_rows() {
        return Err("its row groups do not sum up to its rows".to_owned());
    }
    Ok(())
}
