//! Digests: what entries come to, as a pure and mergeable function of their rows.
//!
//! Merging is commutative and associative, and the digest of two sets of rows merged is the digest of both together:
//! counts add up, and of everything that is kept only in part the newest (or slowest) is kept, so that what is among the
//! best of all is among the best of its own part. One thing gives way: of paths and error types beyond the newest
//! [`PATHS_KEPT`] and [`TYPES_KEPT`] the counts go to `…_dropped`, and a path that comes back later counts anew. Which
//! are kept, and their newest entries, are exact even then.
//!
//! Of the revisions of a record (rule 3) the newest by (received, content hash) counts, if they stand together: if they
//! agree in handler and start. A revision that moves a span to another time or handler is an entry of its own here: it
//! may lie in another block, another shard or another hour, and no digest of one block can tell.

mod build;
mod calls;
mod latency;
mod newest;

use std::collections::{BTreeMap, HashMap};

use arrow::record_batch::RecordBatch;

pub(crate) use build::Builder;
pub(crate) use calls::CallsBuilder;
pub use calls::{CALLS_KEPT, Call, CallsDigest};
pub use latency::Latency;
use newest::{NEWEST, SLOWEST, keep};

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
    /// That entry.
    pub routed: Option<EntryRef>,
    /// The names of its entry spans, with the newest entry of each: the newest [`EXAMPLES_KEPT`]. Calls
    /// ([`CallsDigest`]) name their caller so.
    pub span_names: BTreeMap<String, EntryRef>,
    /// Entries.
    pub count: u64,
    /// Those with status error, or HTTP status 5xx.
    pub errors: u64,
    /// The placed time of the oldest entry, nanoseconds since 1970.
    pub first_ns: i64,
    /// The placed time of the newest entry.
    pub last_ns: i64,
    /// Entries by HTTP status; those without one are not counted, those that are none (below 100, above 599) are 0.
    pub http_statuses: BTreeMap<i32, u64>,
    /// Entries by the span's status: 1 ok, 2 error; those without one are not counted, unknown ones are -1.
    pub status_codes: BTreeMap<i32, u64>,
    /// The sum of the durations (below zero counts as zero), in nanoseconds.
    pub duration_sum_ns: u64,
    /// How long the entries took.
    pub latency: Latency,
    /// The newest entry of each of the newest [`NEWEST_KEPT`] *traces*, newest first by (time, trace id): a trace with a
    /// thousand entries takes one place.
    pub newest: Vec<EntryRef>,
    /// The newest entries with an error, of at most [`EXAMPLES_KEPT`] traces, newest first.
    pub newest_errors: Vec<EntryRef>,
    /// The slowest entries, of at most [`EXAMPLES_KEPT`] traces, slowest first.
    pub slowest: Vec<EntryRef>,
    /// Errors by `error.type` (empty if there is none): the newest [`TYPES_KEPT`] types.
    pub error_types: BTreeMap<String, ErrorDigest>,
    /// Errors of types beyond those.
    pub error_types_dropped: u64,
    /// Entries by minute since 1970: the newest [`MINUTES_KEPT`] minutes that have any.
    pub minutes: BTreeMap<i64, MinuteDigest>,
    /// Entries by hour since 1970: the newest [`HOURS_KEPT`] hours that have any.
    pub hours: BTreeMap<i64, MinuteDigest>,
    /// Entries without a route by method and path: the newest [`PATHS_KEPT`]. A service's 404 list is made of these.
    pub paths: Vec<PathDigest>,
    /// Entries of paths beyond those.
    pub paths_dropped: u64,
}

/// Errors of one type.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ErrorDigest {
    /// How many.
    pub count: u64,
    /// The newest.
    pub example: Option<EntryRef>,
}

/// Entries of one minute or hour.
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

/// How many examples (errors, slowest) a digest keeps for each handler.
pub const EXAMPLES_KEPT: usize = 10;

/// How many error types a digest keeps for each handler.
pub const TYPES_KEPT: usize = 100;

/// How many minutes a digest keeps for each handler: a day. Hours go back further.
pub const MINUTES_KEPT: usize = 24 * 60;

/// How many hours a digest keeps for each handler: a year.
pub const HOURS_KEPT: usize = 366 * 24;

/// How many paths a digest keeps for each handler.
pub const PATHS_KEPT: usize = 1_000;

/// How many references of the newest entries a digest keeps for each handler: as many as `keep_last` may be.
pub const NEWEST_KEPT: usize = 100;

/// The digest of `rows` (of the entries table, sorted; of revisions of a key only the newest counts).
///
/// # Errors
/// If they are not of the entries table, or a handler of theirs is none.
pub fn digest(rows: &RecordBatch) -> Result<Digest> {
    let mut digest = Builder::default();
    digest.add(rows)?;
    digest.finish()
}

impl Digest {
    /// Adds what `other` comes to, of other rows.
    pub fn merge(&mut self, other: &Self) {
        for (id, handler) in &other.handlers {
            match self.handlers.get_mut(id) {
                Some(ours) => ours.merge(handler),
                None => {
                    self.handlers.insert(id.clone(), handler.clone());
                }
            }
        }
    }

    /// About how much memory it takes.
    pub fn memory_bytes(&self) -> usize {
        let sizes = self.handlers.iter().map(|(id, handler)| id.as_str().len() + handler.memory_bytes());
        size_of::<Self>() + sizes.sum::<usize>()
    }
}

impl HandlerDigest {
    /// Adds what `other` comes to, of other rows.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        // Names are those of the newest entry. Two entries that agree in all that a reference holds are one record.
        let newer = (other.newest.first(), &other.name, &other.kind) > (self.newest.first(), &self.name, &self.kind);
        if self.count == 0 || newer {
            self.kind.clone_from(&other.kind);
            self.name.clone_from(&other.name);
            self.service.clone_from(&other.service);
            self.namespace.clone_from(&other.namespace);
            self.method.clone_from(&other.method);
        }
        if (&other.routed, &other.route) > (&self.routed, &self.route) {
            self.route.clone_from(&other.route);
            self.routed.clone_from(&other.routed);
        }
        self.first_ns = if self.count == 0 { other.first_ns } else { self.first_ns.min(other.first_ns) };
        self.last_ns = if self.count == 0 { other.last_ns } else { self.last_ns.max(other.last_ns) };
        self.count += other.count;
        self.errors += other.errors;
        self.duration_sum_ns = self.duration_sum_ns.saturating_add(other.duration_sum_ns);
        self.latency.merge(&other.latency);
        other.http_statuses.iter().for_each(|(status, count)| *self.http_statuses.entry(*status).or_default() += count);
        other.status_codes.iter().for_each(|(code, count)| *self.status_codes.entry(*code).or_default() += count);
        other.newest.iter().for_each(|entry| keep(&mut self.newest, NEWEST_KEPT, entry, NEWEST));
        other.newest_errors.iter().for_each(|entry| keep(&mut self.newest_errors, EXAMPLES_KEPT, entry, NEWEST));
        other.slowest.iter().for_each(|entry| keep(&mut self.slowest, EXAMPLES_KEPT, entry, SLOWEST));
        for (ours, theirs) in [(&mut self.minutes, &other.minutes), (&mut self.hours, &other.hours)] {
            for (at, more) in theirs {
                let at = ours.entry(*at).or_default();
                at.count += more.count;
                at.errors += more.errors;
            }
        }
        for (name, entry) in &other.span_names {
            self.name_span(name, entry);
        }
        self.trim();
        self.merge_types(other);
        self.merge_paths(other);
    }

    /// Notes the name of an entry's span.
    fn name_span(&mut self, name: &str, entry: &EntryRef) {
        match self.span_names.get_mut(name) {
            Some(newest) => {
                if *newest < *entry {
                    newest.clone_from(entry);
                }
            }
            None => {
                self.span_names.insert(name.to_owned(), entry.clone());
                if self.span_names.len() > EXAMPLES_KEPT {
                    let oldest = self.span_names.iter().min_by_key(|(name, entry)| (*entry, *name));
                    let oldest = oldest.map(|(name, _)| name.clone());
                    oldest.and_then(|name| self.span_names.remove(&name));
                }
            }
        }
    }

    fn merge_types(&mut self, other: &Self) {
        for (name, more) in &other.error_types {
            let ours = self.error_types.entry(name.clone()).or_default();
            ours.count += more.count;
            if ours.example < more.example {
                ours.example.clone_from(&more.example);
            }
        }
        let dropped = self.error_types_dropped + other.error_types_dropped;
        (self.error_types, self.error_types_dropped) = keep_types(std::mem::take(&mut self.error_types), dropped);
    }

    fn merge_paths(&mut self, other: &Self) {
        let dropped = self.paths_dropped + other.paths_dropped;
        if other.paths.is_empty() {
            self.paths_dropped = dropped;
            return;
        }
        let name = |path: &PathDigest| (path.method.clone(), path.path.clone());
        let mut paths: HashMap<_, _> = self.paths.drain(..).map(|path| (name(&path), path)).collect();
        for more in &other.paths {
            match paths.get_mut(&name(more)) {
                Some(ours) => {
                    ours.count += more.count;
                    ours.errors += more.errors;
                    if ours.newest < more.newest {
                        ours.newest.clone_from(&more.newest);
                    }
                }
                None => {
                    paths.insert(name(more), more.clone());
                }
            }
        }
        (self.paths, self.paths_dropped) = keep_paths(paths, dropped);
    }

    /// Forgets the oldest minutes and hours beyond those that are kept.
    fn trim(&mut self) {
        for (times, most) in [(&mut self.minutes, MINUTES_KEPT), (&mut self.hours, HOURS_KEPT)] {
            while times.len() > most {
                times.pop_first();
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        // A reference has two texts on the heap.
        let references = self.newest.len() + self.newest_errors.len() + self.slowest.len() + 2 * self.span_names.len();
        let times = (self.minutes.len() + self.hours.len()) * 32;
        let paths = self.paths.iter().map(|path| path.path.len() + 2 * size_of::<PathDigest>()).sum::<usize>();
        size_of::<Self>()
            + references * 144
            + times
            + paths
            + self.error_types.len() * 256
            + self.latency.memory_bytes()
    }
}

/// The newest [`PATHS_KEPT`] of `paths`, newest first, and how many entries the others had, added to `dropped`.
fn keep_paths(paths: HashMap<(String, String), PathDigest>, dropped: u64) -> (Vec<PathDigest>, u64) {
    let mut paths: Vec<PathDigest> = paths.into_values().collect();
    paths.sort_unstable_by(|a, b| (&b.newest, &b.path, &b.method).cmp(&(&a.newest, &a.path, &a.method)));
    let gone: u64 = paths.iter().skip(PATHS_KEPT).map(|path| path.count).sum();
    paths.truncate(PATHS_KEPT);
    (paths, dropped + gone)
}

/// The newest [`TYPES_KEPT`] of `types`, and how many errors the others had, added to `dropped`.
fn keep_types(
    types: impl IntoIterator<Item = (String, ErrorDigest)>,
    dropped: u64,
) -> (BTreeMap<String, ErrorDigest>, u64) {
    let mut types: Vec<(String, ErrorDigest)> = types.into_iter().collect();
    if types.len() > TYPES_KEPT {
        types.sort_unstable_by(|a, b| (&b.1.example, &b.0).cmp(&(&a.1.example, &a.0)));
    }
    let gone: u64 = types.iter().skip(TYPES_KEPT).map(|(_, errors)| errors.count).sum();
    types.truncate(TYPES_KEPT);
    (types.into_iter().collect(), dropped + gone)
}

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

#[cfg(test)]
mod tests;
