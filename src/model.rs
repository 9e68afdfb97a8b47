//! The nouns that the whole program shares. Each parses itself where it enters the program and prints itself the way
//! it stands in keys, tables and pages; nothing else formats or parses one.

mod block;
mod handler_id;
mod hour;
mod id;
mod shard;
mod worker;

pub use block::{BlockId, Table};
pub use handler_id::HandlerId;
pub use hour::Hour;
pub use id::{SpanId, TraceId};
pub use shard::{Shard, ShardDir};
pub use worker::{BootId, WorkerName};

/// A text that is not the noun it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct ParseError {
    text: String,
    expected: &'static str,
}

impl ParseError {
    pub(crate) fn new(text: impl Into<String>, expected: &'static str) -> Self {
        Self { text: text.into(), expected }
    }
}
