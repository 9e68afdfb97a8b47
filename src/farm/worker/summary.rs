//! What a run came to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Serialize;

use crate::clock::Clock;
use crate::error::Result;
use crate::stage::{Setbacks, StageReport};
use crate::store::{Counts, Stage, Store};

/// What a run came to: printed at its end, and JSON with `-o json`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Inbox objects indexed.
    pub objects: u64,
    /// Spans indexed, copies included.
    pub spans: u64,
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
    /// What the requests cost at list price, in US dollars; 0 for a local store.
    pub dollars: f64,
    /// How long the run took.
    pub seconds: f64,
    /// What failed and has not been done since. An exit code other than 0 says that there is something.
    pub failed: Vec<Failed>,
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
    /// Rounds that could do nothing at all.
    pub failed_rounds: u64,
}

/// An item that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// In which stage.
    pub stage: &'static str,
    /// Which.
    pub item: String,
    /// Why.
    pub why: String,
}

/// A stage's name, as it stands in logs and summaries.
pub(super) fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Farm => "farm",
        Stage::Index => "index",
        Stage::Compact => "compact",
        Stage::Publish => "publish",
        Stage::Expire => "expire",
        Stage::Read => "read",
    }
}

/// How long a round took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    pub wall: Duration,
    pub processor: Duration,
}

/// The item of a round that could do nothing.
const WHOLE_ROUND: &str = "everything";

/// Collects it.
pub(super) struct Ran {
    began: Duration,
    before: Vec<Counts>,
    stages: BTreeMap<&'static str, StageSummary>,
    failed: BTreeMap<(&'static str, String), String>,
}

impl Ran {
    pub fn begin(clock: &Clock, store: &Store, inbox: &Store) -> Self {
        let before = vec![store.meter().snapshot(), inbox.meter().snapshot()];
        Self { began: clock.monotonic(), before, stages: BTreeMap::new(), failed: BTreeMap::new() }
    }

    /// A round of `stage` is over, with a report unless it could do nothing.
    pub fn add(&mut self, stage: Stage, time: Took, report: Result<StageReport>, setbacks: &Setbacks) {
        let stage = name(stage);
        let sum = self.stages.entry(stage).or_default();
        sum.rounds += 1;
        sum.seconds += time.wall.as_secs_f64();
        sum.cpu_seconds += time.processor.as_secs_f64();
        let report = match report {
            Ok(report) => report,
            Err(why) => {
                sum.failed_rounds += 1;
                self.failed.insert((stage, WHOLE_ROUND.to_owned()), why.to_string());
                return;
            }
        };
        sum.done += report.done;
        sum.skipped = report.skipped;
        sum.rows_in += report.rows_in;
        sum.rows_out += report.rows_out;
        sum.bytes_in += report.bytes_in;
        sum.bytes_out += report.bytes_out;
        sum.deleted += report.deleted;
        // What failed before and is not waiting for another try has been done, or is gone.
        self.failed.retain(|(of, item), _| *of != stage || setbacks.times(item) > 0);
        for failure in &report.failed {
            self.failed.remove(&(stage, failure.item.clone()));
        }
        // Parts of one item may have failed each for itself.
        for failure in report.failed {
            *self.failed.entry((stage, failure.item)).or_default() += &failure.report.to_string();
        }
    }

    pub fn summary(&self, clock: &Clock, store: &Store, inbox: &Store) -> Summary {
        let mut requests = store.meter().snapshot().since(&self.before[0]);
        let mut dollars = if store.is_cloud() { requests.price_dollars() } else { 0.0 };
        if inbox.url() != store.url() {
            let more = inbox.meter().snapshot().since(&self.before[1]);
            dollars += if inbox.is_cloud() { more.price_dollars() } else { 0.0 };
            for (stage, kinds) in more.0 {
                for (request, tally) in kinds {
                    *requests.0.entry(stage).or_default().entry(request).or_default() += tally;
                }
            }
        }
        let index = self.stages.get(name(Stage::Index)).cloned().unwrap_or_default();
        let failed =
            self.failed.iter().map(|((stage, item), why)| Failed { stage, item: item.clone(), why: why.clone() });
        Summary {
            objects: index.done,
            spans: index.rows_in,
            bytes_in: index.bytes_in,
            bytes_out: self.stages.values().map(|stage| stage.bytes_out).sum(),
            deleted: self.stages.values().map(|stage| stage.deleted).sum(),
            stages: self.stages.clone(),
            requests,
            dollars,
            seconds: (clock.monotonic() - self.began).as_secs_f64(),
            failed: failed.collect(),
        }
    }
}

impl Summary {
    /// Whether everything that could be done was, if not at once.
    pub fn is_clean(&self) -> bool {
        self.failed.is_empty()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} objects ({}), {} spans indexed; {} written, {} objects deleted; {:.1} s",
            self.objects,
            ByteSize(self.bytes_in),
            self.spans,
            ByteSize(self.bytes_out),
            self.deleted,
            self.seconds
        )?;
        for (name, stage) in &self.stages {
            writeln!(f, "  {name}: {} done, {} left, {:.1} s", stage.done, stage.skipped, stage.seconds)?;
        }
        let requests = self.requests.total().requests;
        match self.dollars > 0.0 {
            true => writeln!(f, "  {requests} requests, ${:.6} at list price", self.dollars)?,
            false => writeln!(f, "  {requests} requests")?,
        }
        self.failed.iter().try_for_each(|Failed { stage, item, why }| writeln!(f, "  failed: {stage} {item}: {why}"))
    }
}
