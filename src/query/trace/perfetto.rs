//! A trace in the Trace Event Format, which ui.perfetto.dev and `chrome://tracing` open.
//!
//! Source: "Trace Event Format" (Chromium project), sections "Complete Events", "Instant Events", "Flow Events" and
//! "Metadata Events". A service is a process. Complete events of one thread must nest, and spans that run side by side do
//! not: each service gets as many threads as it has spans side by side. Times are microseconds with a fraction, from the
//! trace's first start: 53 bits do not hold nanoseconds since 1970.

use std::collections::{BTreeMap, HashMap};

use arrow::record_batch::RecordBatch;
use serde_json::{Map, Value as Json, json};

use super::jaeger::{attributes, plain};
use crate::error::{Result, ResultExt};
use crate::model::SpanId;
use crate::otlp::typed_json;
use crate::query::columns::Spans;

/// The trace in `rows` (one row a span).
pub fn document(rows: &RecordBatch) -> Result<Json> {
    let spans = Spans::of(rows)?;
    let mut order: Vec<usize> = (0..spans.len()).collect();
    // Of two that start at once the longer is outside.
    order.sort_by_key(|row| (spans.start(*row), std::cmp::Reverse(spans.duration(*row)), spans.span(*row)));
    let first = order.first().map_or(0, |row| spans.start(*row));
    let micros = |ns: u64| ns.wrapping_sub(first) as i64 as f64 / 1000.0;

    let mut events = Vec::with_capacity(2 * spans.len());
    let mut processes: BTreeMap<&str, Process> = BTreeMap::new();
    let mut places: HashMap<SpanId, (usize, usize)> = HashMap::new();
    for row in order {
        let service = spans.service.get(row).unwrap_or("(no service)");
        let next = processes.len() + 1;
        let process = processes.entry(service).or_insert_with(|| Process { pid: next, threads: Vec::new() });
        let duration = spans.duration(row).max(0) as u64;
        let tid = process.thread(spans.start(row), spans.start(row).saturating_add(duration));
        let pid = process.pid;
        let at = micros(spans.start(row));
        let name = spans.name.or_empty(row);
        let args = args(&spans, row).context_with(|| format!("read the span {name}"))?;
        events.push(json!({
            "ph": "X", "name": name, "cat": category(&spans, row), "pid": pid, "tid": tid,
            "ts": at, "dur": duration as f64 / 1000.0, "args": args,
        }));
        for event in spans.events.get(row).map_or(Ok(Vec::new()), typed_json::events)? {
            let args: Map<String, Json> =
                event.attributes.iter().map(|(key, value)| (key.clone().into_owned(), plain(value))).collect();
            events.push(json!({
                "ph": "i", "s": "t", "name": event.name, "pid": pid, "tid": tid, "ts": micros(event.time), "args": args,
            }));
        }
        // An arrow from the caller's service to this one.
        if let Some(parent) = spans.parent(row)
            && let Some((parent_pid, parent_tid)) = places.get(&parent).copied()
            && parent_pid != pid
        {
            let id = spans.span(row).to_string();
            events.push(json!({ "ph": "s", "id": id, "name": "call", "cat": "call", "pid": parent_pid, "tid": parent_tid, "ts": at }));
            events.push(json!({ "ph": "f", "bp": "e", "id": id, "name": "call", "cat": "call", "pid": pid, "tid": tid, "ts": at }));
        }
        places.insert(spans.span(row), (pid, tid));
    }
    for (service, process) in processes {
        events.push(json!({ "ph": "M", "name": "process_name", "pid": process.pid, "args": { "name": service } }));
    }
    Ok(json!({ "displayTimeUnit": "ns", "traceEvents": events }))
}

struct Process {
    pid: usize,
    /// For each thread the ends of the spans that are open there, outermost first.
    threads: Vec<Vec<u64>>,
}

impl Process {
    /// The first thread in which a span from `start` to `end` nests; numbered from 1. Spans come in order of start.
    fn thread(&mut self, start: u64, end: u64) -> usize {
        for (number, open) in self.threads.iter_mut().enumerate() {
            while open.last().is_some_and(|end| *end <= start) {
                open.pop();
            }
            if open.last().is_none_or(|outer| *outer >= end) {
                open.push(end);
                return number + 1;
            }
        }
        self.threads.push(vec![end]);
        self.threads.len()
    }
}

fn category(spans: &Spans<'_>, row: usize) -> &'static str {
    ["span", "internal", "server", "client", "producer", "consumer"].get(spans.kind(row) as usize).unwrap_or(&"span")
}

fn args(spans: &Spans<'_>, row: usize) -> Result<Map<String, Json>> {
    let mut args: Map<String, Json> = attributes(spans.attributes.get(row))?
        .iter()
        .map(|(key, value)| (key.clone().into_owned(), plain(value)))
        .collect();
    args.insert("span_id".to_owned(), json!(spans.span(row).to_string()));
    if let Some(parent) = spans.parent(row) {
        args.insert("parent_span_id".to_owned(), json!(parent.to_string()));
    }
    if spans.status(row) == 2 {
        args.insert("error".to_owned(), json!(spans.status_message.or_empty(row)));
    }
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::testing::{self, Span};

    #[test]
    fn spans_side_by_side_get_threads_of_their_own_and_nested_ones_share() {
        let rows = testing::rows(&[
            Span::new(1, 0, "outer").at(1_000).lasting(10_000).service("web"),
            Span::new(2, 1, "left").at(2_000).lasting(4_000).service("web"),
            Span::new(3, 1, "right").at(3_000).lasting(5_000).service("web"),
            Span::new(4, 1, "later").at(9_000).lasting(1_000).service("web"),
            Span::new(5, 2, "far").at(2_500).lasting(1_000).service("db"),
        ]);
        let document = document(&rows).unwrap();
        let events = document["traceEvents"].as_array().unwrap();
        let place = |name: &str| {
            let event = events.iter().find(|event| event["name"] == name && event["ph"] == "X").unwrap();
            (event["pid"].as_u64().unwrap(), event["tid"].as_u64().unwrap(), event["ts"].as_f64().unwrap())
        };
        assert_eq!(place("outer"), (1, 1, 0.0));
        assert_eq!(place("left"), (1, 1, 1.0));
        assert_eq!(place("right"), (1, 2, 2.0));
        assert_eq!(place("later"), (1, 1, 8.0));
        assert_eq!(place("far"), (2, 1, 1.5));
        assert_eq!(events.iter().filter(|event| event["ph"] == "s").count(), 1);
    }
}
