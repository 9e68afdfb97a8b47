//! The two tables: their schemas, blocks written and read (pruned), merged and digested.
//!
//! Everything here works on Arrow batches and knows no stage.

pub mod block;
pub mod digest;
pub mod entries;
pub mod merge;
pub mod order;
pub mod place;
pub mod read;
pub mod spans;
pub mod view;
pub mod write;
