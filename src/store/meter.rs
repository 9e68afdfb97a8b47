//! Counts of requests and bytes, by kind and stage: below the retries, so that every attempt counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// Who asked: a stage of the worker, or a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

impl Stage {
    /// All of them, in the order of the worker's loop.
    pub const ALL: [Self; 6] = [Self::Farm, Self::Index, Self::Compact, Self::Publish, Self::Expire, Self::Read];

    /// Its name, as it stands in logs, metrics and summaries.
    pub fn name(self) -> &'static str {
        match self {
            Self::Farm => "farm",
            Self::Index => "index",
            Self::Compact => "compact",
            Self::Publish => "publish",
            Self::Expire => "expire",
            Self::Read => "read",
        }
    }
}

/// What was asked of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// A page of a listing (at most 1,000 objects; Azure 5,000).
    List,
    /// An object, or a range of one.
    Get,
    /// What is known of an object.
    Head,
    /// A whole object written.
    Put,
    /// Begin, part and end of a large object.
    Part,
    /// An object deleted.
    Delete,
    /// Anything else: fetching credentials, for one. Not the store's, so it costs nothing.
    Other,
}

impl Request {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::List, Self::Get, Self::Head, Self::Put, Self::Part, Self::Delete, Self::Other];

    /// Its name, as it stands in metrics and summaries.
    pub fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Get => "get",
            Self::Head => "head",
            Self::Put => "put",
            Self::Part => "part",
            Self::Delete => "delete",
            Self::Other => "other",
        }
    }

    /// List price of one in US dollars: writes and lists $5, reads $0.40 a million; deleting is free. The three clouds agree
    /// so nearly that one table serves (S3 Standard us-east-1, GCS Standard us-east1, Azure Blob hot LRS; 2026).
    pub fn price_dollars(self) -> f64 {
        match self {
            Self::List | Self::Put | Self::Part => 5.0 / 1e6,
            Self::Get | Self::Head => 0.4 / 1e6,
            Self::Delete | Self::Other => 0.0,
        }
    }
}

/// Shared counters: clones count together.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    counts: Arc<[[Count; Request::ALL.len()]; Stage::ALL.len()]>,
}

#[derive(Debug, Default)]
struct Count {
    requests: AtomicU64,
    failed: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Meter {
    fn count(&self, stage: Stage, request: Request) -> &Count {
        &self.counts[stage as usize][request as usize]
    }

    /// One more request, whose body had `bytes_out` bytes.
    pub(super) fn add(&self, stage: Stage, request: Request, bytes_out: u64) {
        self.add_many(stage, request, 1, bytes_out);
    }

    /// Several requests of a kind at once.
    pub(super) fn add_many(&self, stage: Stage, request: Request, requests: u64, bytes_out: u64) {
        // Relaxed: these are numbers for people, nothing is decided by their order.
        let count = self.count(stage, request);
        count.requests.fetch_add(requests, Ordering::Relaxed);
        count.bytes_out.fetch_add(bytes_out, Ordering::Relaxed);
    }

    /// One of the requests came to nothing, in a way that passes.
    pub(super) fn failed(&self, stage: Stage, request: Request) {
        self.count(stage, request).failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes of an answer.
    pub(super) fn received(&self, stage: Stage, request: Request, bytes_in: u64) {
        self.count(stage, request).bytes_in.fetch_add(bytes_in, Ordering::Relaxed);
    }

    /// The counts so far.
    pub fn snapshot(&self) -> Counts {
        let mut counts = Counts::default();
        for stage in Stage::ALL {
            for request in Request::ALL {
                let count = self.count(stage, request);
                let read = Tally {
                    requests: count.requests.load(Ordering::Relaxed),
                    failed: count.failed.load(Ordering::Relaxed),
                    bytes_in: count.bytes_in.load(Ordering::Relaxed),
                    bytes_out: count.bytes_out.load(Ordering::Relaxed),
                };
                if read != Tally::default() {
                    counts.0.entry(stage).or_default().insert(request, read);
                }
            }
        }
        counts
    }
}

/// How many, and how much. Bytes are those of bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Requests, every attempt counted.
    pub requests: u64,
    /// Those of them that came to nothing in a way that passes (no answer, 408, 429, 5xx): each is made again, unless it
    /// was the fourth.
    pub failed: u64,
    /// Bytes read from the store.
    pub bytes_in: u64,
    /// Bytes written to it.
    pub bytes_out: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
    }
}

/// What a [`Meter`] had counted at a moment: `{"index": {"get": {"requests": 3, …}}}`. Kinds without requests are left
/// out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts(pub BTreeMap<Stage, BTreeMap<Request, Tally>>);

impl Counts {
    /// What was asked of a kind, by all stages.
    pub fn of(&self, request: Request) -> Tally {
        let mut sum = Tally::default();
        self.0.values().filter_map(|stage| stage.get(&request)).for_each(|tally| sum += *tally);
        sum
    }

    /// What a stage asked, of all kinds.
    pub fn of_stage(&self, stage: Stage) -> Tally {
        let mut sum = Tally::default();
        self.0.get(&stage).into_iter().flat_map(BTreeMap::values).for_each(|tally| sum += *tally);
        sum
    }

    /// Everything.
    pub fn total(&self) -> Tally {
        let mut sum = Tally::default();
        Stage::ALL.into_iter().for_each(|stage| sum += self.of_stage(stage));
        sum
    }

    /// What the requests cost in US dollars at list price, whatever the cloud (storage and traffic not counted); 0 for
    /// a local store, which [`super::Store::is_cloud`] tells.
    pub fn price_dollars(&self) -> f64 {
        Request::ALL.into_iter().map(|request| self.of(request).requests as f64 * request.price_dollars()).sum()
    }

    /// What was counted since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut counts = Self::default();
        for (&stage, kinds) in &self.0 {
            for (&request, &now) in kinds {
                let then = earlier.0.get(&stage).and_then(|kinds| kinds.get(&request)).copied().unwrap_or_default();
                if now != then {
                    let more = Tally {
                        requests: now.requests - then.requests,
                        failed: now.failed - then.failed,
                        bytes_in: now.bytes_in - then.bytes_in,
                        bytes_out: now.bytes_out - then.bytes_out,
                    };
                    counts.0.entry(stage).or_default().insert(request, more);
                }
            }
        }
        counts
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        for (stage, kinds) in other.0 {
            for (request, tally) in kinds {
                *self.0.entry(stage).or_default().entry(request).or_default() += tally;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_summed_by_kind_and_stage_and_priced() {
        let meter = Meter::default();
        meter.add(Stage::Index, Request::Put, 100);
        let before = meter.snapshot();
        meter.clone().add_many(Stage::Publish, Request::Put, 999_999, 0);
        meter.add_many(Stage::Publish, Request::Get, 1_000_000, 0);
        meter.received(Stage::Publish, Request::Get, 7);
        meter.failed(Stage::Publish, Request::Put);
        let counts = meter.snapshot();
        assert_eq!(counts.of(Request::Put), Tally { requests: 1_000_000, failed: 1, bytes_in: 0, bytes_out: 100 });
        assert_eq!(counts.of_stage(Stage::Index).requests, 1);
        assert_eq!(counts.total(), Tally { requests: 2_000_000, failed: 1, bytes_in: 7, bytes_out: 100 });
        assert!((counts.price_dollars() - 5.4).abs() < 1e-9);
        assert_eq!(counts.since(&before).of(Request::Put).requests, 999_999);
        assert_eq!(counts.since(&counts), Counts::default());
        assert_eq!(
            serde_json::to_string(&before).unwrap(),
            r#"{"index":{"put":{"requests":1,"failed":0,"bytes_in":0,"bytes_out":100}}}"#
        );
    }
}
