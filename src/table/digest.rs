//! Digests: what entries come to, as a pure and mergeable function of their rows.

use std::collections::BTreeMap;

use arrow::record_batch::RecordBatch;

use crate::error::Result;
use crate::model::{HandlerId, SpanId, TraceId};

/// The digest of a set of entries: one for each handler.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Digest {
    /// By the id with which the rows were indexed.
    pub handlers: BTreeMap<HandlerId, HandlerDigest>,
}

/// One entry, by reference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct EntryRef {
    /// Its placed time, nanoseconds since 1970.
    pub time_ns: i64,
    /// Its trace, in hex.
    pub trace_id: String,
    /// Its span, in hex.
    pub span_id: String,
    /// Nanoseconds.
    pub duration_ns: i64,
    /// Whether its status is an error.
    pub error: bool,
}

/// What a handler's entries come to.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct HandlerDigest {
    /// Entries.
    pub count: u64,
    /// Those with status error, or HTTP status 5xx.
    pub errors: u64,
    // more fields: the table's author completes them (http statuses, sketch, newest, slowest, newest errors, error
    // types with an example, counts by minute, names, 404 paths)
}

/// How many references of the newest entries a digest keeps for each handler: as many as `keep_last` may be.
pub const NEWEST_KEPT: usize = 100;

/// The digest of `rows` (of the entries table, sorted; of revisions of a key only the newest counts).
pub fn digest(rows: &RecordBatch) -> Result<Digest> {
    let _ = rows;
    todo!()
}

impl Digest {
    /// Adds what `other` comes to, of other rows.
    pub fn merge(&mut self, other: &Self) {
        let _ = other;
        todo!()
    }
}

/// Which handler calls which service and operation, how often and for how long.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CallsDigest {}

/// What the ids of an entry are, parsed.
impl EntryRef {
    /// The trace's id.
    pub fn trace(&self) -> Option<TraceId> {
        self.trace_id.parse().ok()
    }

    /// The span's id.
    pub fn span(&self) -> Option<SpanId> {
        self.span_id.parse().ok()
    }
}

/// Builds a [`Digest`] from batches.
#[derive(Default)]
pub(super) struct Builder {
    digest: Digest,
}

impl Builder {
    pub fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        let _ = rows;
        todo!()
    }

    pub fn finish(self) -> Digest {
        self.digest
    }
}

impl Digest {
    pub(super) fn memory_bytes(&self) -> usize {
        1000 * self.handlers.len()
    }
}
