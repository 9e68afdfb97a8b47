//! The canonical content of a row: what two copies of a record have in common, whatever batch, dictionary or encoding
//! they stand in.
//!
//! It is the concatenation, over the columns in the schema's order without `received`, of those that are not null: the
//! column's number (one byte), the length of its value (four bytes, little-endian) and the value: UTF-8 text, an id's
//! bytes, a number's little-endian bytes, one byte for a boolean. So a column that a later format adds at the schema's
//! end changes the content of no row that leaves it null. Its XXH3-64 is the content hash of rules 3 and 6.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Int32Type, Int64Type, TimeUnit, TimestampMillisecondType, TimestampNanosecondType, UInt32Type,
};
use xxhash_rust::xxh3::xxh3_64;

/// Writes the canonical content of rows of one batch.
#[derive(Clone, Debug)]
pub(crate) struct Canonical {
    columns: Vec<(u8, ArrayRef)>,
}

impl Canonical {
    pub fn of(rows: &RecordBatch) -> Self {
        let columns = rows.schema_ref().fields().iter().zip(rows.columns()).enumerate();
        let columns = columns.filter(|(_, (field, _))| field.name() != "received");
        Self { columns: columns.map(|(number, (_, column))| (number as u8, column.clone())).collect() }
    }

    /// Appends the content of `row`.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        for (number, column) in &self.columns {
            if column.is_null(row) {
                continue;
            }
            let mut put = |value: &[u8]| {
                out.push(*number);
                out.extend_from_slice(&(value.len() as u32).to_le_bytes());
                out.extend_from_slice(value);
            };
            match column.data_type() {
                DataType::Utf8 => put(column.as_string::<i32>().value(row).as_bytes()),
                DataType::Dictionary(_, _) => {
                    let dictionary = column.as_dictionary::<Int32Type>();
                    let key = dictionary.keys().value(row) as usize;
                    put(dictionary.values().as_string::<i32>().value(key).as_bytes());
                }
                DataType::FixedSizeBinary(_) => put(column.as_fixed_size_binary().value(row)),
                DataType::Int32 => put(&column.as_primitive::<Int32Type>().value(row).to_le_bytes()),
                DataType::UInt32 => put(&column.as_primitive::<UInt32Type>().value(row).to_le_bytes()),
                DataType::Int64 => put(&column.as_primitive::<Int64Type>().value(row).to_le_bytes()),
                DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                    put(&column.as_primitive::<TimestampNanosecondType>().value(row).to_le_bytes());
                }
                DataType::Timestamp(_, _) => {
                    put(&column.as_primitive::<TimestampMillisecondType>().value(row).to_le_bytes());
                }
                DataType::Boolean => put(&[u8::from(column.as_boolean().value(row))]),
                // The schemas of both tables have no other type; a test holds them to it.
                other => unreachable!("a column of type {other}"),
            }
        }
    }

    pub fn bytes(&self, row: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        self.write(row, &mut out);
        out
    }

    pub fn hash(&self, row: usize) -> u64 {
        xxh3_64(&self.bytes(row))
    }

    /// Orders two rows of one key by content: by hash, and by the bytes if those agree (a hash can be forged).
    pub fn compare(&self, row: usize, hash: u64, other: &Self, other_row: usize, other_hash: u64) -> Ordering {
        hash.cmp(&other_hash).then_with(|| self.bytes(row).cmp(&other.bytes(other_row)))
    }
}
