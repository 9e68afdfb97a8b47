//! Rows → OTLP/JSON, as the specification writes it (ids in hex, 64-bit integers as strings).

use arrow::record_batch::RecordBatch;

use crate::error::Result;

/// The spans of `rows` (batches of [`crate::table::spans::schema`], any order) as one OTLP/JSON `TracesData` document.
/// Equal resources and scopes are written once. Lossless for everything the protocol carries.
///
/// # Errors
/// If a column is not what the schema says, or holds text that is not typed JSON: the block was not written by us.
pub fn traces_data(rows: &[RecordBatch]) -> Result<String> {
    let _ = rows;
    todo!()
}
