//! `/metrics`: rate, errors and latency of each handler, for Prometheus.
//!
//! # What is counted
//!
//! Prometheus likes counters that only grow, and takes their increase. A store has none to give. What it holds of a
//! handler shrinks when an hour expires, and when compaction finds that a collector had sent some spans twice; Prometheus
//! would take each for a restart, and all that is left for new. A server could remember what it has counted, but two
//! servers, or one that was restarted, would remember different things, and a span is indexed minutes after it was
//! served: what a counter grew by would belong to no time in particular.
//!
//! So these are gauges: how many entries *started* within a window that is always of the same length.
//!
//! | metric | type | says |
//! | --- | --- | --- |
//! | `tracefarm_handler_hour_requests` | gauge | entries that started within the last 60 full minutes |
//! | `tracefarm_handler_hour_errors` | gauge | those with status error, or HTTP 5xx |
//! | `tracefarm_handler_recent_duration_seconds` | histogram | how long entries took that started in this hour of the clock or the one before |
//! | `tracefarm_handler_last_request_timestamp_seconds` | gauge | when the newest started |
//! | `tracefarm_metrics_window_end_timestamp_seconds` | gauge | the end of the 60 minutes |
//! | `tracefarm_metrics_handlers_summed` | gauge | handlers that are too many to be told apart |
//! | `tracefarm_incomplete_answers_total` | counter | answers of this server that lack something, as blocks cannot be read |
//!
//! A rate per second is `tracefarm_handler_hour_requests / 3600`, the share of errors one gauge by the other, a quantile
//! `histogram_quantile(0.95, tracefarm_handler_recent_duration_seconds_bucket)`: all without `rate()`, which would be
//! wrong here. The histogram's window is longer because blocks keep latencies by the hour: its shape is meant, its count
//! rises and falls with the hours. What is not indexed yet is not counted: the newest minutes fill up.
//!
//! # What it costs
//!
//! The listing of entries, and the digests of three hours, which are kept: a scrape reads the blocks that are new since
//! the last. The text is made at most every [`FRESH`], whoever asks.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::failure::Failure;
use super::farm::Farm;
use crate::error::{Result, ResultExt};
use crate::handler::catalogue::Catalogue;
use crate::handler::id::shown_service;
use crate::model::{HandlerId, Hour, Table};
use crate::query::{Reader, handlers, relisted};
use crate::table::digest::{HandlerDigest, Latency};
use crate::table::view::Scope;

/// How old the text may be. Prometheus asks every 15 s or more.
const FRESH: Duration = Duration::from_secs(10);

/// How many minutes the window has.
const WINDOW_MINUTES: i64 = 60;

/// The histogram's bounds in seconds: those that OpenTelemetry recommends for `http.server.request.duration`, and two
/// for jobs.
const BOUNDS_SECONDS: [f64; 16] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 60.0, 600.0];

/// The format of the text.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How many handlers are told apart; the others of a service are summed up.
#[derive(Clone, Copy, Debug)]
pub struct Most(pub usize);

/// `/metrics`
pub async fn metrics(State((farm, most)): State<(Farm, Most)>) -> Result<Response, Failure> {
    let text = farm.metrics(FRESH, move |reader| async move {
        Ok(relisted(|| text(&reader, most)).await.context("make the metrics")?)
    });
    let (mut text, name) = (text.await?.to_string(), "tracefarm_incomplete_answers_total");
    begin(&mut text, name, "counter", "Answers of this server that lack something, as blocks cannot be read.");
    text.push_str(&format!("{name} {}\n", farm.incomplete_answers()));
    Ok(([(header::CONTENT_TYPE, TEXT)], text).into_response())
}

async fn text(reader: &Reader, most: Most) -> Result<Arc<str>> {
    // The hours are those of the store's clock.
    let now = reader.store.now().unwrap_or_else(|| reader.clock.wall());
    let now = now.saturating_add(reader.clock.offset()).unwrap_or(now);
    let this = Hour::of(now);
    let scope = Scope::all(Table::Entries, reader.settings.grace.0).within(this.previous()..=this.next());
    let recent = reader.view(&scope).await?;
    let digests = handlers::digests(&reader.blocks, &recent, |_| true, |_| true).await?;
    Ok(exposed(&Numbers::of(&digests, &reader.catalogue.1, now, most), now).into())
}

/// What is told of a handler, or of several that are summed up.
#[derive(Clone, Debug, Default, PartialEq)]
struct Line {
    name: String,
    method: String,
    kind: String,
    requests: u64,
    errors: u64,
    last_ns: i64,
    latency: Latency,
    sum_ns: u64,
}

impl Line {
    fn add(&mut self, digest: &HandlerDigest, minutes: std::ops::Range<i64>) {
        for minute in digest.minutes.range(minutes).map(|(_, minute)| minute) {
            self.requests += minute.count;
            self.errors += minute.errors;
        }
        self.last_ns = self.last_ns.max(digest.last_ns);
        self.latency.merge(&digest.latency);
        self.sum_ns = self.sum_ns.saturating_add(digest.duration_sum_ns);
    }

    fn sum(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.last_ns = self.last_ns.max(other.last_ns);
        self.latency.merge(&other.latency);
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }
}

/// Lines by service and handler.
#[derive(Debug, Default, PartialEq)]
struct Numbers {
    lines: BTreeMap<(String, String), Line>,
    summed: u64,
}

/// The handler label of what is summed up.
const OTHERS: &str = "(others)";

impl Numbers {
    /// Pure.
    fn of(digests: &BTreeMap<HandlerId, HandlerDigest>, catalogue: &Catalogue, now: Timestamp, most: Most) -> Self {
        let end = now.as_second().div_euclid(60);
        let mut lines: BTreeMap<HandlerId, (String, Line)> = BTreeMap::new();
        for (id, digest) in digests.iter().filter(|(id, digest)| !catalogue.is_removed(id, digest.last_ns)) {
            let canonical = catalogue.canonical(id);
            let (service, line) = lines.entry(canonical.clone()).or_default();
            // Names are those of the newest entry.
            if digest.last_ns >= line.last_ns {
                *service = shown_service(&digest.service).to_owned();
                line.name.clone_from(&digest.name);
                line.method = digest.method.clone().unwrap_or_default();
                line.kind.clone_from(&digest.kind);
            }
            line.add(digest, end - WINDOW_MINUTES..end);
        }
        let mut numbers = Self::default();
        let mut sorted: Vec<(HandlerId, (String, Line))> = lines.into_iter().collect();
        sorted.sort_by(|(a, (_, x)), (b, (_, y))| y.latency.count().cmp(&x.latency.count()).then_with(|| a.cmp(b)));
        for (place, (id, (service, line))) in sorted.into_iter().enumerate() {
            if place < most.0 {
                numbers.lines.insert((service, id.to_string()), line);
            } else {
                numbers.summed += 1;
                let of_service = numbers.lines.entry((service, OTHERS.to_owned())).or_default();
                of_service.kind = "others".to_owned();
                of_service.sum(&line);
            }
        }
        numbers
    }
}

/// What a gauge says of a line.
type Value = fn(&Line) -> f64;

/// Begins a family of the text.
fn begin(out: &mut String, name: &str, kind: &str, help: &str) {
    out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
}

/// The text, in Prometheus' format.
fn exposed(numbers: &Numbers, now: Timestamp) -> String {
    let mut out = String::with_capacity(numbers.lines.len() * 2_500 + 1_000);
    let mut family = |name: &str, kind: &str, help: &str, write: &mut dyn FnMut(&mut String)| {
        begin(&mut out, name, kind, help);
        write(&mut out);
    };
    let lines: Vec<(String, &Line)> = numbers.lines.iter().map(|(key, line)| (labels(key, line), line)).collect();
    let gauges: [(&str, &str, Value); 3] = [
        ("tracefarm_handler_hour_requests", "Entries that started within the last 60 full minutes.", |line| {
            line.requests as f64
        }),
        (
            "tracefarm_handler_hour_errors",
            "Entries that started within the last 60 full minutes and have status error or HTTP status 5xx.",
            |line| line.errors as f64,
        ),
        (
            "tracefarm_handler_last_request_timestamp_seconds",
            "When the newest entry of the last hours started.",
            |line| line.last_ns as f64 / 1e9,
        ),
    ];
    for (name, help, value) in gauges {
        family(name, "gauge", help, &mut |out| {
            for (labels, line) in &lines {
                _ = writeln!(out, "{name}{{{labels}}} {}", value(line));
            }
        });
    }
    let name = "tracefarm_handler_recent_duration_seconds";
    let help = "How long entries took that started in this hour of the clock or the one before. Not cumulative over time: use it without rate().";
    family(name, "histogram", help, &mut |out| {
        for (labels, line) in &lines {
            let count = line.latency.count();
            for (bound, below) in BOUNDS_SECONDS.iter().zip(line.latency.at_most(&BOUNDS_SECONDS.map(|s| s * 1e9))) {
                _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}");
            }
            _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
            _ = writeln!(out, "{name}_sum{{{labels}}} {}", line.sum_ns as f64 / 1e9);
            _ = writeln!(out, "{name}_count{{{labels}}} {count}");
        }
    });
    let end = now.as_second().div_euclid(60) * 60;
    let help = "The end of the 60 minutes of the gauges by hour, by the store's clock.";
    family("tracefarm_metrics_window_end_timestamp_seconds", "gauge", help, &mut |out| {
        _ = writeln!(out, "tracefarm_metrics_window_end_timestamp_seconds {end}");
    });
    let help = "Handlers that are too many to be told apart: they are summed up as (others) of their service.";
    family("tracefarm_metrics_handlers_summed", "gauge", help, &mut |out| {
        _ = writeln!(out, "tracefarm_metrics_handlers_summed {}", numbers.summed);
    });
    out
}

fn labels((service, handler): &(String, String), line: &Line) -> String {
    let Line { name, method, kind, .. } = line;
    let pairs = [("service", service), ("handler", handler), ("name", name), ("method", method), ("kind", kind)];
    let pair = |(label, value): (&str, &String)| format!("{label}=\"{}\"", escaped(value));
    pairs.map(pair).join(",")
}

/// A label's value, as the format escapes it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::digest::MinuteDigest;

    /// 2026-11-22T02:00:30Z
    const NOW: i64 = 1_795_312_830;

    fn digest(service: &str, name: &str, minutes: &[(i64, u64, u64)]) -> HandlerDigest {
        let minute =
            |(ago, count, errors): &(i64, u64, u64)| (NOW / 60 - ago, MinuteDigest { count: *count, errors: *errors });
        let minutes: BTreeMap<_, _> = minutes.iter().map(minute).collect();
        let count = minutes.values().map(|minute| minute.count).sum();
        let mut latency = Latency::default();
        latency.add(30_000_000, count);
        HandlerDigest {
            kind: "http".to_owned(),
            name: name.to_owned(),
            service: service.to_owned(),
            method: Some("GET".to_owned()),
            count,
            last_ns: NOW * 1_000_000_000,
            duration_sum_ns: count * 30_000_000,
            latency,
            minutes,
            ..HandlerDigest::default()
        }
    }

    fn id(text: &str) -> HandlerId {
        text.parse().unwrap()
    }

    fn now() -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }

    #[test]
    fn the_window_has_sixty_full_minutes() {
        let digests =
            [(id("web/a-00000001"), digest("web", "GET /a", &[(0, 1, 0), (1, 2, 1), (60, 4, 0), (61, 8, 8)]))];
        let numbers = Numbers::of(&digests.into(), &Catalogue::default(), now(), Most(10));
        let line = numbers.lines.values().next().unwrap();
        assert_eq!((line.requests, line.errors, line.latency.count()), (6, 1, 15));
    }

    #[test]
    fn beyond_the_busiest_handlers_a_service_is_summed_up() {
        let digests: BTreeMap<_, _> = (0..10_000_u32)
            .map(|n| (id(&format!("web/h-{n:08x}")), digest("web", "GET /", &[(1, u64::from(n) + 1, 0)])))
            .collect();
        let numbers = Numbers::of(&digests, &Catalogue::default(), now(), Most(3));
        assert_eq!((numbers.lines.len(), numbers.summed), (4, 9_997));
        let others = &numbers.lines[&("web".to_owned(), OTHERS.to_owned())];
        assert_eq!(others.requests, (1..=9_997).sum::<u64>());
        assert!(numbers.lines.contains_key(&("web".to_owned(), format!("web/h-{:08x}", 9_999))));
    }

    #[test]
    fn the_text_is_as_prometheus_reads_it() {
        let mut odd = digest("a \"b\"\\", "GET /x\n", &[(1, 2, 1)]);
        odd.method = None;
        let numbers = Numbers::of(&[(id("a/x-00000001"), odd)].into(), &Catalogue::default(), now(), Most(10));
        let text = exposed(&numbers, now());
        let labels = r#"service="a \"b\"\\",handler="a/x-00000001",name="GET /x\n",method="",kind="http""#;
        for line in [
            format!("tracefarm_handler_hour_requests{{{labels}}} 2"),
            format!("tracefarm_handler_hour_errors{{{labels}}} 1"),
            format!("tracefarm_handler_last_request_timestamp_seconds{{{labels}}} {NOW}"),
            format!("tracefarm_handler_recent_duration_seconds_bucket{{{labels},le=\"0.025\"}} 0"),
            format!("tracefarm_handler_recent_duration_seconds_bucket{{{labels},le=\"0.05\"}} 2"),
            format!("tracefarm_handler_recent_duration_seconds_bucket{{{labels},le=\"+Inf\"}} 2"),
            format!("tracefarm_handler_recent_duration_seconds_sum{{{labels}}} 0.06"),
            format!("tracefarm_handler_recent_duration_seconds_count{{{labels}}} 2"),
            format!("tracefarm_metrics_window_end_timestamp_seconds {}", NOW / 60 * 60),
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
    }
}
