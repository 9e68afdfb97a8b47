//! What a run came to.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use crate::stage::StageReport;
use crate::store::{Counts, Request};

/// What a run came to: printed at its end, and JSON with `-o json`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Inbox objects indexed.
    pub objects: u64,
    /// Spans indexed, copies included.
    pub spans: u64,
    /// Traces of which spans were indexed, counted by batch and hour: one whose spans come in several counts in each.
    pub traces: u64,
    /// Distinct handlers that were hit.
    pub handlers: u64,
    /// Bytes of inbox objects, as stored.
    pub bytes_in: u64,
    /// Bytes of blocks and documents written.
    pub bytes_out: u64,
    /// Objects deleted, inbox objects included.
    pub deleted: u64,
    /// By stage.
    pub stages: BTreeMap<&'static str, StageSummary>,
    /// Requests and bytes by stage and kind, of the store and of another inbox.
    pub requests: Counts,
    /// The same by kind alone, with what they cost.
    pub kinds: BTreeMap<Request, Kind>,
    /// What the requests cost at list price, in US dollars; 0 for a local store.
    pub dollars: f64,
    /// The most workers that shared the work at a time, this one included.
    pub peers: usize,
    /// How long the run took.
    pub seconds: f64,
    /// What failed and has not been done since. An exit code other than 0 says that there is something.
    pub failed: Vec<Failed>,
}

/// Requests of a kind.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Kind {
    /// How many, every attempt counted.
    pub requests: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// What they cost at list price, in US dollars.
    pub dollars: f64,
}

/// What a stage came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StageSummary {
    /// Rounds.
    pub rounds: u64,
    /// Items done.
    pub done: u64,
    /// Items left for later, in the last round.
    pub skipped: u64,
    /// Rows read.
    pub rows_in: u64,
    /// Rows written.
    pub rows_out: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Objects deleted.
    pub deleted: u64,
    /// Wall time.
    pub seconds: f64,
    /// Processor time, of all threads.
    pub cpu_seconds: f64,
    /// Items that failed, each time counted.
    pub failures: u64,
    /// Rounds that could do nothing at all.
    pub failed_rounds: u64,
}

impl StageSummary {
    /// A round came to `report`.
    pub(in crate::farm) fn add(&mut self, report: &StageReport) {
        self.done += report.done;
        self.skipped = report.skipped;
        self.rows_in += report.rows_in;
        self.rows_out += report.rows_out;
        self.bytes_in += report.bytes_in;
        self.bytes_out += report.bytes_out;
        self.deleted += report.deleted;
        self.failures += report.failed.len() as u64;
    }
}

/// An item that failed and has not been done since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// In which stage.
    pub stage: &'static str,
    /// Which.
    pub item: String,
    /// Why; the log has the whole story.
    pub why: String,
    /// How many rounds in a row.
    pub times: u32,
    /// Since when, by the worker's clock.
    pub since: Timestamp,
}

impl Failed {
    /// `item` failed `now`, maybe once more than `before`.
    pub(in crate::farm) fn again(
        before: Option<Self>,
        stage: &'static str,
        item: &str,
        why: String,
        now: Timestamp,
    ) -> Self {
        let (times, since) = before.map_or((0, now), |before| (before.times, before.since));
        Self { stage, item: item.to_owned(), why, times: times + 1, since }
    }
}

impl Summary {
    /// Whether everything that could be done was, if not at once.
    pub fn is_clean(&self) -> bool {
        self.failed.is_empty()
    }

    /// Whether anything was done, or failed.
    pub fn did_something(&self) -> bool {
        !self.is_clean() || self.stages.values().any(|stage| stage.done + stage.deleted + stage.failed_rounds > 0)
    }
}

/// One line, and one for each failure.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { objects, spans, deleted, seconds, .. } = self;
        writeln!(f, "{objects} objects, {spans} spans indexed; {deleted} objects deleted; {seconds:.1} s")?;
        let mut failed = self.failed.iter();
        failed.try_for_each(|Failed { stage, item, why, .. }| writeln!(f, "failed: {stage} {item}: {why}"))
    }
}
