//! Counts of requests and bytes, by kind and stage: below the retries, so that every attempt counts.

/// Who asked: a stage of the worker, or a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Peers, heartbeats, settings.
    Farm,
    /// inbox → level 0
    Index,
    /// level 0 → level 1
    Compact,
    /// → site
    Publish,
    /// pins and deletes
    Expire,
    /// `get`, `search` and the other readers
    Read,
}

/// Shared counters.
#[derive(Clone, Debug, Default)]
pub struct Meter {}
