//! The worker's numbers in Prometheus' text format: made of the run's record when somebody asks, kept nowhere else.
//!
//! Names and units are Prometheus' conventions: seconds, bytes, `_total` for what only grows.

use std::fmt::{Error, Result};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Health;
use crate::clock::Clock;
use crate::farm::Record;
use crate::farm::record::Memory;
use crate::farm::worker::StageSummary;
use crate::store::{Request, Stage, Tally};

pub(super) use prometheus_text::CONTENT_TYPE;

/// All of them.
pub(super) struct Metrics {
    registry: Registry,
}

impl Metrics {
    pub fn new(record: Record, clock: Clock) -> Self {
        let mut registry = Registry::default();
        let started = clock.wall().as_duration().as_secs_f64() - clock.monotonic().as_secs_f64();
        registry.register_collector(Box::new(Worker { record, clock, started }));
        Self { registry }
    }

    /// As Prometheus reads them.
    pub fn text(&self) -> std::result::Result<String, Error> {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// The worker of this process.
#[derive(Debug)]
struct Worker {
    record: Record,
    clock: Clock,
    /// When the process started, in seconds since 1970.
    started: f64,
}

impl Collector for Worker {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result {
        let now = self.clock.monotonic();
        let (watch, vitals) = (self.record.watch(), self.record.vitals());
        let summary = self.record.summary();
        let mut page = Page(encoder);

        let version = [([("version", env!("CARGO_PKG_VERSION"))], 1.0)];
        page.family("tracefarm_build_info", "The program's version; always 1", MetricType::Gauge, version)?;
        let content = Health::of(&watch, now).is_content();
        page.gauge("tracefarm_healthy", "Whether /healthz answers 200", f64::from(u8::from(content)))?;
        page.gauge("tracefarm_peers", "Workers that share the work; 0 before this one asked", vitals.peers as f64)?;
        if let Some(rank) = vitals.rank {
            page.gauge("tracefarm_rank", "Place among the peers, from 0; absent without one", rank as f64)?;
        }
        if let Some(beat) = watch.beat {
            let age = now.saturating_sub(beat).as_secs_f64();
            page.gauge("tracefarm_heartbeat_age_seconds", "Time since the last heartbeat was written", age)?;
        }
        let failing = watch.failing_cycles.into();
        page.gauge("tracefarm_failing_cycles", "Cycles in a row that failed; at ten the worker gives up", failing)?;
        let failing = vitals.failing_items as f64;
        page.gauge("tracefarm_failing_items", "Items that failed and have not been done since", failing)?;
        if let Some(backlog) = vitals.backlog {
            let (objects, bytes, age) = (backlog.objects as f64, backlog.bytes as f64, backlog.oldest_seconds as f64);
            page.gauge(
                "tracefarm_backlog_objects",
                "Inbox objects that wait, of the whole farm, as last listed",
                objects,
            )?;
            page.gauge("tracefarm_backlog_bytes", "Bytes of the inbox objects that wait", bytes)?;
            page.gauge("tracefarm_backlog_age_seconds", "Age of the oldest of them when it was listed", age)?;
        }
        let traces = summary.traces as f64;
        page.counter("tracefarm_traces", "Traces of which spans were indexed, counted by batch and hour", traces)?;

        let stages = WORKING.map(|stage| (stage.name(), summary.stages.get(stage.name()).cloned().unwrap_or_default()));
        for (name, help, value) in OF_STAGES {
            let samples = stages.iter().map(|(stage, sum)| ([("stage", *stage)], value(sum)));
            page.family(name, help, MetricType::Counter, samples)?;
        }
        for (name, help, value) in OF_REQUESTS {
            let samples = summary.requests.0.iter().flat_map(|(stage, kinds)| {
                let sample = |kind: &Request| [("stage", stage.name()), ("kind", kind.name())];
                kinds.iter().map(move |(kind, tally)| (sample(kind), value(tally) as f64))
            });
            page.family(name, help, MetricType::Counter, samples)?;
        }
        page.counter(
            "tracefarm_request_cost_dollars",
            "List price of the requests; 0 of a local store",
            summary.dollars,
        )?;

        page.process(&self.clock, self.started)
    }
}

/// The stages that do rounds.
const WORKING: [Stage; 4] = [Stage::Index, Stage::Compact, Stage::Publish, Stage::Expire];

/// A counter: its name, what it counts, and where that stands.
type Counted<T, N> = (&'static str, &'static str, fn(&T) -> N);

/// By stage.
const OF_STAGES: [Counted<StageSummary, f64>; 11] = [
    ("tracefarm_stage_items", "Items done: inbox objects, merges, documents, hours", |sum| sum.done as f64),
    ("tracefarm_stage_failures", "Items that failed, each time counted", |sum| sum.failures as f64),
    ("tracefarm_stage_rounds", "Rounds", |sum| sum.rounds as f64),
    ("tracefarm_stage_failed_rounds", "Rounds that could do nothing at all", |sum| sum.failed_rounds as f64),
    ("tracefarm_stage_read_rows", "Rows read", |sum| sum.rows_in as f64),
    ("tracefarm_stage_written_rows", "Rows written", |sum| sum.rows_out as f64),
    ("tracefarm_stage_read_bytes", "Bytes of objects read, as stored", |sum| sum.bytes_in as f64),
    ("tracefarm_stage_written_bytes", "Bytes of objects written", |sum| sum.bytes_out as f64),
    ("tracefarm_stage_deleted_objects", "Objects deleted", |sum| sum.deleted as f64),
    ("tracefarm_stage_seconds", "Time spent in rounds", |sum| sum.seconds),
    ("tracefarm_stage_cpu_seconds", "Processor time of all threads spent in rounds", |sum| sum.cpu_seconds),
];

/// By stage and kind of request.
const OF_REQUESTS: [Counted<Tally, u64>; 4] = [
    ("tracefarm_requests", "Requests to the store, every attempt counted", |tally| tally.requests),
    (
        "tracefarm_request_retries",
        "Requests that came to nothing in a way that passes; made again, unless it was the fourth attempt",
        |tally| tally.failed,
    ),
    ("tracefarm_request_received_bytes", "Bytes of bodies received from the store", |tally| tally.bytes_in),
    ("tracefarm_request_sent_bytes", "Bytes of bodies sent to the store", |tally| tally.bytes_out),
];

/// The page, as it grows.
pub(crate) struct Page<'a>(pub DescriptorEncoder<'a>);

impl Page<'_> {
    /// What is told of every process; `started` in seconds since 1970.
    pub(crate) fn process(&mut self, clock: &Clock, started: f64) -> Result {
        self.gauge("process_start_time_seconds", "When the process started, since 1970", started)?;
        self.counter("process_cpu_seconds", "Processor time of all threads", clock.processor().as_secs_f64())?;
        if let Some(Memory { bytes, peak_bytes }) = Memory::now() {
            self.gauge("process_resident_memory_bytes", "Resident memory", bytes as f64)?;
            self.gauge("tracefarm_peak_memory_bytes", "The most resident memory at a time", peak_bytes as f64)?;
        }
        Ok(())
    }

    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: f64) -> Result {
        let encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    /// The name gets `_total` at its end.
    pub(crate) fn counter(&mut self, name: &str, help: &str, value: f64) -> Result {
        let encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(encoder)
    }

    pub(crate) fn family<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: impl IntoIterator<Item = (L, f64)>,
    ) -> Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in samples {
            let sample = encoder.encode_family(&labels)?;
            match kind {
                MetricType::Counter => ConstCounter::new(value).encode(sample)?,
                _ => ConstGauge::new(value).encode(sample)?,
            }
        }
        Ok(())
    }
}
