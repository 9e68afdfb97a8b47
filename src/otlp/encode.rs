//! Rows → OTLP/JSON, as the specification writes it (ids in hex, 64-bit integers as strings).

use arrow::record_batch::RecordBatch;

/// The spans of `rows` (batches of [`crate::table::spans::schema`], any order) as one OTLP/JSON `TracesData` document.
/// Equal resources and scopes that stand together are written once. Lossless for everything the protocol carries.
pub fn traces_data(rows: &[RecordBatch]) -> String {
    let _ = rows;
    todo!()
}
