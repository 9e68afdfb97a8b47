//! What a farm will cost: hours of its life, played with its own plans over listings that are made up.
//!
//! No data is made, and no store is asked. There is a clock, an inbox of objects with sizes and times, blocks with sizes,
//! times and what their footers say, handlers with the traces that their pages show, and workers that go through the
//! loop of [`worker`](super::worker) with its very intervals. What is due is said by the plans of the stages
//! ([`index::plan`](crate::stage::index::plan), [`compact::plan`](crate::stage::compact::plan),
//! [`publish::plan`](crate::stage::publish::plan), [`expire::plan`](crate::stage::expire::plan)), what is whose by
//! [`slice`](super::slice), what stands by [`View`](crate::table::view::View), what a worker still knows by the cache of
//! footers itself. What each item then asks of the store is counted ([`Asked`]) request by request, next to the reason;
//! `tests/cost.rs` runs real workers on a simulated store and holds the counts against these.
//!
//! What is played is a time in the middle of a farm's life: `keep_for` full of merged hours, the hours before the last
//! one quiet. After a warm-up one hour is counted; a day is 24 of them.
//!
//! What is not played: failures, retries, several versions of a pin, renames, traces that come late. Their requests come
//! on top.

mod asked;
mod cycle;
mod handlers;
mod pages;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

pub use asked::{Asked, Rate};

use self::cycle::Farm;
use crate::error::{Mistake, Result};
use crate::farm::Settings;
use crate::farm::settings::Timeline;
use crate::model::Shard;
use crate::store::{Request, Stage};

/// Days in a month, for prices by the month.
const DAYS_A_MONTH: f64 = 365.25 / 12.0;

/// A farm and its traffic.
#[derive(Clone, Debug, Serialize)]
pub struct Scenario {
    /// Workers.
    pub instances: usize,
    /// Spans a second that collectors write, in all.
    pub spans_per_second: f64,
    /// Handlers, all hit equally often: the dearest case, because all of their pages change all the time.
    pub handlers: usize,
    /// How many collectors write into the inbox.
    pub collectors: usize,
    /// How often each of them writes an object, in seconds.
    pub object_seconds: f64,
    /// Each worker's budget of memory in bytes (`run --memory`).
    pub memory_bytes: usize,
    /// Each worker's cores.
    pub cores: usize,
    /// How long a request takes, in seconds.
    pub request_seconds: f64,
    /// The settings.
    #[serde(skip)]
    pub settings: Settings,
    /// What spans are like.
    pub spans: Spans,
    /// Hours that are played before the one that is counted.
    pub warm_up: f64,
}

/// What spans are like. The defaults are measured where that is said (by `scripts/bench`, whose numbers stand in the
/// README); the others are assumptions ([`ASSUMED`]).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spans {
    /// Spans a trace: an assumption, near the recording's.
    pub a_trace: f64,
    /// Entries a trace (roots, server and consumer spans): an assumption, near the recording's.
    pub entries_a_trace: f64,
    /// Whether handlers call others: their pages change once more when a merge has counted the calls.
    pub calls: bool,
    /// How much of the entries are errors: an assumption.
    pub errors: f64,
    /// Bytes of a span in the inbox, gzip'd: measured.
    pub inbox_bytes: f64,
    /// The same as protobuf: measured.
    pub proto_bytes: f64,
    /// In a batch in memory: an assumption.
    pub memory_bytes: f64,
    /// In `spans/`, as indexed (an assumption) and compacted (measured).
    pub block_bytes: [f64; 2],
    /// Of an *entry* in `entries/`, as indexed (an assumption) and compacted (measured: 5.4 bytes a span).
    pub entry_bytes: [f64; 2],
    /// Of a handler's pages, both documents: an assumption.
    pub page_bytes: f64,
    /// Spans that a core indexes a second: an assumption, half of the pipeline's time.
    pub indexed_a_cpu_second: f64,
    /// Rows that a core merges a second: an assumption, the other half.
    pub merged_a_cpu_second: f64,
    /// Spans that the whole pipeline takes through a core a second: measured.
    pub a_cpu_second: f64,
}

/// What the figures rest on beyond plans and measurements; printed with them.
pub const ASSUMED: &str = "10 spans and 1.4 entries a trace, 1 % errors, 60 bytes a row of level 0, 600 bytes a span in \
                           memory, 6 kB of pages a handler, a core indexes and merges 440,000 rows a second each, footers \
                           and digests of typical size, every handler is hit equally often, nothing fails and nothing is \
                           done twice";

impl Default for Spans {
    fn default() -> Self {
        Self {
            a_trace: 10.0,
            entries_a_trace: 1.4,
            calls: true,
            errors: 0.01,
            inbox_bytes: 40.0,
            proto_bytes: 270.0,
            memory_bytes: 600.0,
            block_bytes: [60.0, 28.8],
            entry_bytes: [60.0, 38.6],
            page_bytes: 6_000.0,
            indexed_a_cpu_second: 440_000.0,
            merged_a_cpu_second: 440_000.0,
            a_cpu_second: 220_000.0,
        }
    }
}

impl Scenario {
    /// A farm with the default settings and as many collectors as write objects of 8,192 spans (the size to which the
    /// Collector's batch processor cuts by default), each every five seconds.
    pub fn new(instances: usize, spans_per_second: f64, handlers: usize) -> Self {
        let object_seconds = 5.0;
        Self {
            instances,
            spans_per_second,
            handlers,
            collectors: (spans_per_second * object_seconds / 8192.0).ceil().max(1.0) as usize,
            object_seconds,
            memory_bytes: 512 << 20,
            cores: 2,
            request_seconds: 0.05,
            settings: Settings::default(),
            spans: Spans::default(),
            warm_up: 1.5,
        }
    }

    /// As many shards as keep a merge of an open hour within a few minutes of one worker, but no more than the handlers need.
    pub fn with_shards(mut self, shards: Option<u16>) -> Self {
        let wanted = self.spans_per_second / 150_000.0;
        let shards = shards.unwrap_or(wanted.ceil().clamp(1.0, f64::from(Shard::MAX)) as u16);
        self.settings.shards = Timeline::always(shards);
        self
    }

    /// # Errors
    /// A [`Mistake`]: what no farm can be.
    pub fn check(&self) -> Result<()> {
        let positive = |what: &str, number: f64| match number.is_finite() && number > 0.0 {
            true => Ok(()),
            false => Err(Mistake(format!("{what} must be more than nothing, not {number}"))),
        };
        positive("--instances", self.instances as f64)?;
        positive("--spans-per-second", self.spans_per_second)?;
        positive("--handlers", self.handlers as f64)?;
        positive("--collectors", self.collectors as f64)?;
        positive("--object-seconds", self.object_seconds)?;
        positive("--cores", self.cores as f64)?;
        if self.instances > 10_000 || self.handlers > 1_000_000 || self.collectors as f64 / self.object_seconds > 1e4 {
            return Err(Mistake(
                "at most 10,000 instances, 1,000,000 handlers and 10,000 objects a second can be played".to_owned(),
            )
            .into());
        }
        Ok(())
    }

    fn shards(&self) -> u16 {
        *self.settings.shards.last()
    }

    fn entries_per_second(&self) -> f64 {
        self.spans_per_second / self.spans.a_trace * self.spans.entries_a_trace
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
    /// What the collectors pay for writing the inbox, US dollars a day: not tracefarm's.
    pub collectors_dollars: f64,
    /// Cores that are needed on average.
    pub cores: f64,
    /// The oldest object of the inbox, in seconds, at its worst in the hour.
    pub backlog_seconds: f64,
    /// How often pages are made, in seconds.
    pub publish_seconds: f64,
    /// The longest item of each stage, in seconds, with its requests and its work: half of the grace is the most that one
    /// may take.
    pub longest: BTreeMap<Stage, f64>,
    /// Memory that a publisher's digests take, in bytes, were they all kept.
    pub digest_bytes: u64,
    /// The busiest prefixes: requests a second in the busiest minute.
    pub rates: Vec<Rate>,
    /// What the figures rest on beyond plans and measurements.
    pub assumed: &'static str,
}

impl Projection {
    /// Requests and storage, US dollars a day.
    pub fn total_dollars(&self) -> f64 {
        self.dollars.values().sum::<f64>() + self.storage_dollars
    }

    /// Requests of a kind of all stages.
    pub fn of(&self, request: Request) -> u64 {
        self.requests.values().filter_map(|kinds| kinds.get(&request)).sum()
    }
}

/// Plays `scenario`.
///
/// # Errors
/// A [`Mistake`] of the scenario.
pub fn project(scenario: &Scenario) -> Result<Projection> {
    scenario.check()?;
    let mut farm = Farm::new(scenario.clone(), true);
    farm.play(Duration::from_secs_f64(scenario.warm_up * 3600.0));
    farm.forget_counts();
    farm.play(Duration::from_secs(3600));
    Ok(farm.projection())
}

/// What `scenario` asks of an empty store in its first `time`: what a test can hold against real workers.
///
/// # Errors
/// A [`Mistake`] of the scenario.
pub fn begin(scenario: &Scenario, time: Duration) -> Result<Asked> {
    scenario.check()?;
    let mut farm = Farm::new(scenario.clone(), false);
    farm.play(time);
    Ok(farm.asked().clone())
}
