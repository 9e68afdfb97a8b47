//! What a farm will cost: hours of its life, played with its own plans over listings that are made up.
//!
//! No data is made, and no store is asked. There is a clock, an inbox of objects with sizes and times, blocks with sizes,
//! times and what their footers say, and workers that go through the loop of [`worker`](super::worker) with its very
//! intervals. What is due is said by the plans of the stages ([`index::plan`](mod@crate::stage::index::plan),
//! [`compact::plan`](mod@crate::stage::compact::plan), [`publish::plan`](crate::stage::publish::plan)), what is whose by
//! [`slice`](super::slice), what stands by [`View`](crate::table::view::View). What each item then asks of the store is
//! counted next to the reason; `tests/cost.rs` runs real workers on a simulated store and holds the counts against these.
//!
//! Of a farm of more than [`Scenario::played`] workers a part is played: about so many, and in proportion shards and
//! objects. Each does what a real one does, and sees listings, peers and inputs of merges in their real number; what they
//! ask is multiplied at the end.
//!
//! What is played is a time in the middle of a farm's life: `keep_for` full of merged hours, the hours before the last
//! one quiet. After a warm-up one hour is counted; a day is 24 of them. What is not: failures, retries, pins, renames,
//! traces that come late, work that two workers do at once. Their requests come on top.

mod compact;
mod farm;
mod publish;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use self::farm::Farm;
use crate::error::{Mistake, Result};
use crate::farm::Settings;
use crate::farm::settings::Timeline;
use crate::model::{Shard, Table};
use crate::store::{Counts, Request, Stage};

/// What is played before the hour that is counted: from a quarter past an hour, when the one before has just been merged,
/// to the next.
const WARM_UP: Duration = Duration::from_secs(45 * 60);

/// By default there are shards enough that the merge of an hour and shard takes a core so many seconds.
const MERGE_SECONDS: f64 = 20.0 * 60.0;

/// Spans of an object: the size to which the Collector's batch processor cuts by default.
const OBJECT_SPANS: f64 = 8192.0;

/// US dollars a byte and day: $0.023 a GB and month (S3 Standard in us-east-1; GCS 0.020, Azure 0.018).
const BYTE_DAY_DOLLARS: f64 = 0.023 / 1e9 / (365.25 / 12.0);

/// Spans that the whole pipeline takes through a core a second; bytes of a span in the inbox as protobuf, and gzip'd:
/// README, measured by `scripts/bench`. Nearly half of the time is the merge.
const SPANS_A_CPU_SECOND: f64 = 220_000.0;
const MERGED_A_CPU_SECOND: f64 = 2.0 * SPANS_A_CPU_SECOND;
const PROTO_BYTES: f64 = 270.0;
const INBOX_BYTES: f64 = 40.0;

/// A farm and its traffic.
#[derive(Clone, Debug, Serialize)]
pub struct Scenario {
    /// Workers.
    pub instances: usize,
    /// Spans a second that collectors write, in all.
    pub spans_per_second: f64,
    /// Handlers, all hit equally often: the dearest case, because all of their pages change all the time.
    pub handlers: usize,
    /// Objects a second that collectors write, in all.
    pub objects_per_second: f64,
    /// Spans a trace.
    pub trace_spans: f64,
    /// Entries (roots, server and consumer spans) a trace. If there are more than one, handlers call others: their pages
    /// change once more when a merge has counted the calls.
    pub trace_entries: f64,
    /// How much of the entries are errors.
    pub error_rate: f64,
    /// Each worker's budget of memory in bytes (`run --memory`).
    pub memory_bytes: usize,
    /// Each worker's cores.
    pub cores: usize,
    /// How long a request takes, in seconds.
    pub request_seconds: f64,
    /// Of more workers about so many are played.
    #[serde(skip)]
    pub played: usize,
    /// The settings.
    #[serde(skip)]
    pub settings: Settings,
}

impl Scenario {
    /// A farm with the default settings, objects of 8,192 spans but at least one every five seconds, and a shard for each
    /// 20 minutes of a core that the merge of an hour takes.
    pub fn new(instances: usize, spans_per_second: f64, handlers: usize) -> Self {
        let shards = (spans_per_second * 3600.0 / MERGED_A_CPU_SECOND / MERGE_SECONDS).ceil();
        let shards = Timeline::always(shards.clamp(1.0, f64::from(Shard::MAX)) as u16);
        Self {
            instances,
            spans_per_second,
            handlers,
            objects_per_second: (spans_per_second / OBJECT_SPANS).max(0.2),
            trace_spans: 10.0,
            trace_entries: 1.4,
            error_rate: 0.01,
            memory_bytes: 512 << 20,
            cores: 2,
            request_seconds: 0.05,
            played: 20,
            settings: Settings { shards, ..Settings::default() },
        }
    }

    /// # Errors
    /// A [`Mistake`]: what no farm can be.
    pub fn check(&self) -> Result<()> {
        let numbers = [
            ("--instances", self.instances as f64, 1e4),
            ("--spans-per-second", self.spans_per_second, 1e9),
            ("--handlers", self.handlers as f64, 1e6),
            ("--objects-per-second", self.objects_per_second, 1e4),
            ("--trace-spans", self.trace_spans, 1e6),
            ("--trace-entries", self.trace_entries, self.trace_spans),
            ("--error-rate", self.error_rate, 1.0),
            ("--cores", self.cores as f64, 1e3),
            ("--request-seconds", self.request_seconds, 60.0),
        ];
        match numbers.into_iter().find(|(_, number, most)| !(*number > 0.0 && number <= most)) {
            Some((what, number, most)) => {
                Err(Mistake(format!("{what} can be more than 0 and at most {most}, not {number}")).into())
            }
            None => Ok(()),
        }
    }

    /// Hash buckets of the tables.
    pub fn shards(&self) -> u16 {
        *self.settings.shards.last()
    }

    /// How many workers are played: about [`Scenario::played`] of more, so that each stands for as many workers as a shard
    /// that is played stands for shards.
    fn played_workers(&self) -> usize {
        if self.instances <= self.played {
            return self.instances;
        }
        let shards = f64::from(self.shards());
        let played = (shards * self.played as f64 / self.instances as f64).round().max(1.0);
        ((self.instances as f64 * played / shards).round() as usize).clamp(1, 2 * self.played).min(self.instances)
    }

    /// How many real workers one that is played stands for.
    fn gang(&self) -> f64 {
        self.instances as f64 / self.played_workers() as f64
    }

    /// How many shards are played, and how many real ones each stands for.
    fn played_shards(&self) -> (u16, f64) {
        let shards = f64::from(self.shards());
        let played = (shards / self.gang()).round().max(1.0);
        (played as u16, shards / played)
    }

    fn object_rows(&self) -> f64 {
        self.spans_per_second / self.objects_per_second
    }

    fn entries_per_second(&self) -> f64 {
        self.spans_per_second / self.trace_spans * self.trace_entries
    }

    /// Of each handler.
    fn hits_per_second(&self) -> f64 {
        self.entries_per_second() / self.handlers as f64
    }

    /// Rows a second of a table, in all.
    fn rows_per_second(&self, table: Table) -> f64 {
        if table == Table::Spans { self.spans_per_second } else { self.entries_per_second() }
    }
}

/// A day of a farm.
#[derive(Clone, Debug, Serialize)]
pub struct Projection {
    /// Of which.
    pub scenario: Scenario,
    /// Shards.
    pub shards: u16,
    /// Requests a day, by stage and kind.
    pub requests: BTreeMap<Stage, BTreeMap<Request, u64>>,
    /// What they cost at list price, US dollars a day, by stage.
    pub dollars: BTreeMap<Stage, f64>,
    /// What stands in the store, in bytes.
    pub stored_bytes: u64,
    /// Objects in `spans/` and `entries/`.
    pub blocks: u64,
    /// US dollars a day for what stands.
    pub storage_dollars: f64,
    /// Requests and storage, US dollars a day.
    pub total_dollars: f64,
    /// What the collectors pay for writing the inbox, US dollars a day: not tracefarm's.
    pub collectors_dollars: f64,
    /// Cores that are busy on average.
    pub cores: f64,
    /// The oldest object of the inbox, in seconds, at its worst in the hour.
    pub backlog_seconds: u64,
    /// How often pages are made, in seconds.
    pub publish_seconds: f64,
    /// The longest item of each stage, in seconds.
    pub longest_seconds: BTreeMap<Stage, f64>,
}

/// Plays `scenario`.
///
/// # Errors
/// A [`Mistake`] of the scenario.
pub fn project(scenario: &Scenario) -> Result<Projection> {
    scenario.check()?;
    let mut farm = Farm::new(scenario, true);
    farm.play(WARM_UP);
    farm.forget_counts();
    farm.play(Duration::from_secs(3600));
    Ok(Projection::of(scenario.clone(), &farm))
}

/// What `scenario` asks of an empty store in its first `time`: what a test can hold against real workers.
///
/// # Errors
/// A [`Mistake`] of the scenario.
pub fn begin(scenario: &Scenario, time: Duration) -> Result<Counts> {
    scenario.check()?;
    let mut farm = Farm::new(scenario, false);
    farm.play(time);
    Ok(farm.counts(1.0))
}

impl Projection {
    /// What a day is, by what an hour was.
    fn of(scenario: Scenario, farm: &Farm) -> Self {
        let counts = farm.counts(24.0);
        let of_stage = |(stage, kinds): (&Stage, &BTreeMap<Request, _>)| {
            (*stage, Counts([(*stage, kinds.clone())].into()).price_dollars())
        };
        let dollars: BTreeMap<Stage, f64> = counts.0.iter().map(of_stage).collect();
        let [(spans, span_blocks), (entries, entry_blocks)] = Table::BOTH.map(|table| farm.world.stored(table));
        let stored_bytes = spans + entries + scenario.handlers as f64 * publish::PAGE_BYTES;
        let storage_dollars = stored_bytes * BYTE_DAY_DOLLARS;
        let requests = |kinds: BTreeMap<Request, crate::store::Tally>| {
            kinds.into_iter().map(|(kind, tally)| (kind, tally.requests)).collect()
        };
        Self {
            shards: scenario.shards(),
            requests: counts.0.into_iter().map(|(stage, kinds)| (stage, requests(kinds))).collect(),
            total_dollars: dollars.values().sum::<f64>() + storage_dollars,
            dollars,
            stored_bytes: stored_bytes as u64,
            blocks: (span_blocks + entry_blocks) as u64,
            storage_dollars,
            collectors_dollars: scenario.objects_per_second * 86_400.0 * Request::Put.price_dollars(),
            cores: scenario.spans_per_second / SPANS_A_CPU_SECOND,
            backlog_seconds: farm.backlog,
            publish_seconds: farm.publish_every().as_secs_f64(),
            longest_seconds: farm.longest.clone(),
            scenario,
        }
    }

    /// Requests of a kind of all stages.
    pub fn of_kind(&self, request: Request) -> u64 {
        self.requests.values().filter_map(|kinds| kinds.get(&request)).sum()
    }
}

#[cfg(test)]
mod tests;
