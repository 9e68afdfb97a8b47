//! The two tables: their schemas, blocks written and read (pruned), merged and digested.
//!
//! Everything here works on Arrow batches and knows no stage.

mod appendix;
pub mod block;
pub(crate) mod canonical;
pub mod digest;
pub mod entries;
pub(crate) mod footer;
pub(crate) mod key;
mod lru;
pub mod merge;
pub mod operations;
pub mod order;
pub mod place;
mod prune;
pub mod read;
#[cfg(test)]
pub(crate) mod sample;
mod scan;
pub mod spans;
pub mod view;
pub mod write;

use arrow::datatypes::SchemaRef;

use crate::error::Result;
use crate::model::Table;
use crate::store::layout::BlockKey;

/// The schema of a table.
pub fn schema(table: Table) -> SchemaRef {
    match table {
        Table::Spans => spans::schema(),
        Table::Entries => entries::schema(),
    }
}

/// Runs a step of the Parquet library on bytes of a block: any error of it means that the block is damaged, and so does
/// a panic, which damaged metadata can cause in a library that checks most of it, but not all.
fn guard<T, E: std::fmt::Display>(key: &BlockKey, step: impl FnOnce() -> Result<T, E>) -> Result<T> {
    // What `step` leaves behind when it panics is dropped with the error: nobody sees it half done.
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(step)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(block::BlockError::corrupt(key, error).into()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(block::BlockError::corrupt(key, format!("it cannot be decoded: {}", text.unwrap_or("a panic"))).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns may be added at the end by a later format; whatever else changes here makes old blocks unreadable.
    #[test]
    fn the_columns_are_part_of_the_format() {
        let columns = |table| {
            let schema = schema(table);
            let line = |field: &arrow::datatypes::Field| {
                format!("{} {}{}", field.name(), field.data_type(), if field.is_nullable() { "?" } else { "" })
            };
            schema.fields().iter().map(|field| line(field)).collect::<Vec<_>>().join("\n")
        };
        insta::assert_snapshot!(columns(Table::Spans), @r#"
        trace_id FixedSizeBinary(16)
        span_id FixedSizeBinary(8)
        parent_span_id FixedSizeBinary(8)?
        start Timestamp(ns, "UTC")
        duration Int64
        service Dictionary(Int32, Utf8)?
        service_namespace Dictionary(Int32, Utf8)?
        scope Dictionary(Int32, Utf8)?
        scope_version Dictionary(Int32, Utf8)?
        name Dictionary(Int32, Utf8)?
        kind Int32?
        status_code Int32?
        status_message Dictionary(Int32, Utf8)?
        trace_state Dictionary(Int32, Utf8)?
        flags UInt32?
        dropped_attributes UInt32?
        dropped_events UInt32?
        dropped_links UInt32?
        resource_dropped_attributes UInt32?
        scope_dropped_attributes UInt32?
        resource_schema_url Dictionary(Int32, Utf8)?
        scope_schema_url Dictionary(Int32, Utf8)?
        http_method Dictionary(Int32, Utf8)?
        http_route Dictionary(Int32, Utf8)?
        http_status Int32?
        rpc_method Dictionary(Int32, Utf8)?
        db_system Dictionary(Int32, Utf8)?
        error_type Dictionary(Int32, Utf8)?
        attributes Utf8?
        scope_attributes Dictionary(Int32, Utf8)?
        resource Dictionary(Int32, Utf8)?
        entity_refs Dictionary(Int32, Utf8)?
        events Utf8?
        links Utf8?
        received Timestamp(ms, "UTC")
        "#);
        insta::assert_snapshot!(columns(Table::Entries), @r#"
        handler Dictionary(Int32, Utf8)
        handler_kind Dictionary(Int32, Utf8)
        handler_name Dictionary(Int32, Utf8)
        start Timestamp(ns, "UTC")
        duration Int64
        trace_id FixedSizeBinary(16)
        span_id FixedSizeBinary(8)
        kind Int32?
        is_root Boolean
        status_code Int32?
        http_status Int32?
        error_type Dictionary(Int32, Utf8)?
        service Dictionary(Int32, Utf8)?
        service_namespace Dictionary(Int32, Utf8)?
        method Dictionary(Int32, Utf8)?
        route Dictionary(Int32, Utf8)?
        path Utf8?
        span_name Dictionary(Int32, Utf8)?
        received Timestamp(ms, "UTC")
        "#);
    }
}
