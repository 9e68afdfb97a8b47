//! The two tables: their schemas, blocks written and read (pruned), merged and digested.
//!
//! Everything here works on Arrow batches and knows no stage.

mod appendix;
pub mod block;
pub(crate) mod canonical;
pub mod digest;
pub mod entries;
mod footer;
pub(crate) mod key;
mod lru;
pub mod merge;
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
        insta::assert_snapshot!(columns(Table::Spans), @"");
        insta::assert_snapshot!(columns(Table::Entries), @"");
    }
}
