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
    /// http, rpc, messaging, faas, graphql, job, client, other, custom or not-found.
    pub kind: String,
    /// The canonical name, eg `GET /products/{id}`.
    pub name: String,
    /// `service.name`, empty if there is none.
    pub service: String,
    /// `service.namespace`, empty if there is none.
    pub namespace: String,
    /// The request's method; none if the handler is no request.
    pub method: Option<String>,
    /// The route in the framework's own spelling, of the newest entry that has one.
    pub route: Option<String>,
    /// Entries.
    pub count: u64,
    /// Those with status error, or HTTP status 5xx.
    pub errors: u64,
    /// The placed time of the oldest entry, nanoseconds since 1970.
    pub first_ns: i64,
    /// The placed time of the newest entry.
    pub last_ns: i64,
    /// Entries by HTTP status; those without one are not counted.
    pub http_statuses: BTreeMap<i32, u64>,
    /// How long the entries took.
    pub latency: Latency,
    /// The newest entry of each of the newest [`NEWEST_KEPT`] *traces*, newest first by (time, trace id): a trace with a
    /// thousand entries takes one place.
    pub newest: Vec<EntryRef>,
    /// The newest entries with an error, of at most [`EXAMPLES_KEPT`] traces, newest first.
    pub newest_errors: Vec<EntryRef>,
    /// The slowest entries, of at most [`EXAMPLES_KEPT`] traces, slowest first.
    pub slowest: Vec<EntryRef>,
    /// Errors by `error.type` (empty if there is none): the most frequent [`EXAMPLES_KEPT`].
    pub error_types: BTreeMap<String, ErrorDigest>,
    /// Entries by minute since 1970.
    pub minutes: BTreeMap<i64, MinuteDigest>,
    /// Entries without a route by method and path: the newest [`PATHS_KEPT`]. A service's 404 list is made of these.
    pub paths: Vec<PathDigest>,
}

/// Errors of one type.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ErrorDigest {
    /// How many.
    pub count: u64,
    /// The newest.
    pub example: Option<EntryRef>,
}

/// Entries of one minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MinuteDigest {
    /// How many.
    pub count: u64,
    /// Those with an error.
    pub errors: u64,
}

/// Requests of one method and path.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PathDigest {
    /// The method, empty if there is none.
    pub method: String,
    /// The path, without its query.
    pub path: String,
    /// How many.
    pub count: u64,
    /// Those with an error.
    pub errors: u64,
    /// The newest.
    pub newest: EntryRef,
}

/// How long entries took: a mergeable sketch whose quantiles are right within 1 %.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Latency {}

impl Latency {
    /// The duration in nanoseconds below which the part `quantile` (0 to 1) of the entries lies; `None` if there is
    /// none.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let _ = quantile;
        todo!()
    }

    /// How many entries took at most each of `bounds` nanoseconds (ascending), cumulative: what histograms are drawn of.
    pub fn at_most(&self, bounds: &[f64]) -> Vec<u64> {
        let _ = bounds;
        todo!()
    }
}

/// How many examples (errors, slowest, types) a digest keeps for each handler.
pub const EXAMPLES_KEPT: usize = 10;

/// How many paths a digest keeps for each handler.
pub const PATHS_KEPT: usize = 1_000;

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
