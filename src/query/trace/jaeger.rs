//! Traces as the JSON of Jaeger's query API and UI (`/api/traces/{id}`, "Upload file").
//!
//! Source: jaegertracing/jaeger, `internal/uimodel/model.go` (the fields) and the OpenTelemetry specification's
//! "Transformation to Jaeger" (which tags kind, status, scope, events and links become). Times are microseconds.

use std::collections::{BTreeMap, HashMap, HashSet};

use arrow::record_batch::RecordBatch;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use crate::error::{Result, ResultExt};
use crate::handler::id::shown_service;
use crate::model::{SpanId, TraceId};
use crate::otlp::typed_json::{self, Attributes, Value};
use crate::query::columns::Spans;

/// The largest integer that every reader of JSON has exactly: Jaeger writes larger ones as text.
const SAFE_INTEGER: u64 = (1 << 53) - 1;

/// One answer with a trace for each of `traces` (one row a span).
pub fn document(traces: &[RecordBatch]) -> Result<Json> {
    let data = traces.iter().filter(|rows| rows.num_rows() > 0).map(trace).collect::<Result<Vec<_>>>()?;
    Ok(json!({ "data": data, "total": 0, "limit": 0, "offset": 0, "errors": null }))
}

/// One trace of an answer. As Jaeger does before it shows one, tags are sorted, and a SERVER span that shares the id of
/// its CLIENT span (Zipkin-style traces) gets one of its own: its interface needs unique ones. Unlike Jaeger this moves
/// no span in time, and a service without a name is `unknown_service`, as in every list of this program.
pub fn trace(rows: &RecordBatch) -> Result<Json> {
    let columns = Spans::of(rows)?;
    let ids = Ids::of(&columns);
    let mut processes = Processes::default();
    let mut spans = Vec::with_capacity(columns.len());
    for row in 0..columns.len() {
        let process = processes.of(&columns, row)?;
        let name = columns.name.or_empty(row);
        spans.push(span(&columns, row, &ids, &process).context_with(|| format!("read the span {name}"))?);
    }
    let id = if columns.is_empty() { String::new() } else { shown(columns.trace(0)) };
    Ok(json!({ "traceID": id, "spans": spans, "processes": processes.into_json(), "warnings": null }))
}

/// A trace's id: of one with 64 bits only these, as Jaeger has them.
pub fn shown(id: TraceId) -> String {
    let id = id.to_string();
    id.strip_prefix("0000000000000000").map_or(id.clone(), str::to_owned)
}

/// The tag `span.kind`, empty if it is not set.
pub fn kind(kind: i32) -> &'static str {
    usize::try_from(kind)
        .ok()
        .and_then(|kind| ["", "internal", "server", "client", "producer", "consumer"].get(kind).copied())
        .unwrap_or_default()
}

/// The tag `otel.status_code`, empty if it is not set.
pub fn status(status: i32) -> &'static str {
    match status {
        1 => "OK",
        2 => "ERROR",
        _ => "",
    }
}

/// The ids of a trace's spans, and new ones for SERVER spans that share theirs.
struct Ids {
    known: HashSet<SpanId>,
    /// The shared id, and the new one.
    new: HashMap<SpanId, SpanId>,
}

impl Ids {
    fn of(columns: &Spans<'_>) -> Self {
        let with = |kind| (0..columns.len()).filter(move |row| columns.kind(*row) == kind).map(|row| columns.span(row));
        let clients: HashSet<SpanId> = with(3).collect();
        let known: HashSet<SpanId> = (0..columns.len()).map(|row| columns.span(row)).collect();
        let mut next = 0_u64;
        let mut new = HashMap::new();
        for shared in with(2).filter(|id| clients.contains(id)) {
            new.entry(shared).or_insert_with(|| {
                next += 1;
                while known.contains(&SpanId(next.to_be_bytes())) {
                    next += 1;
                }
                SpanId(next.to_be_bytes())
            });
        }
        Self { known, new }
    }

    /// The ids of a span and its parent.
    fn in_row(&self, columns: &Spans<'_>, row: usize) -> (SpanId, Option<SpanId>) {
        let (id, parent) = (columns.span(row), columns.parent(row));
        match self.new.get(&id) {
            // What was shared is the client's, which is the parent.
            Some(new) if columns.kind(row) == 2 => (*new, Some(id)),
            _ => (id, parent.map(|parent| *self.new.get(&parent).unwrap_or(&parent))),
        }
    }
}

/// Services with their resources: `p1`, `p2`, … in order of appearance.
#[derive(Default)]
struct Processes<'a> {
    names: BTreeMap<(&'a str, &'a str), String>,
    all: serde_json::Map<String, Json>,
}

impl<'a> Processes<'a> {
    fn of(&mut self, columns: &Spans<'a>, row: usize) -> Result<String> {
        let key = (columns.service.or_empty(row), columns.resource.or_empty(row));
        if let Some(name) = self.names.get(&key) {
            return Ok(name.clone());
        }
        let name = format!("p{}", self.names.len() + 1);
        let attributes = attributes(columns.resource.get(row))?;
        let mut tags = tags(&attributes);
        tags.retain(|tag| tag["key"] != "service.name");
        sort(&mut tags);
        // Jaeger has no traces without a service.
        let service = shown_service(columns.service.or_empty(row));
        self.all.insert(name.clone(), json!({ "serviceName": service, "tags": tags }));
        self.names.insert(key, name.clone());
        Ok(name)
    }

    fn into_json(self) -> Json {
        Json::Object(self.all)
    }
}

fn span(columns: &Spans<'_>, row: usize, ids: &Ids, process: &str) -> Result<Json> {
    let trace_id = shown(columns.trace(row));
    let (id, parent) = ids.in_row(columns, row);
    let mut links = columns.links.get(row).map_or(Ok(Vec::new()), typed_json::links)?;
    for link in &mut links {
        link.trace_id = link.trace_id.parse().map_or_else(|_| link.trace_id.clone(), |id| shown(id).into());
    }
    let mut references = Vec::new();
    if let Some(parent) = parent {
        let parent = parent.to_string();
        // A link to the parent says what kind of reference it is, and is none besides.
        let link = links.iter().find(|link| link.trace_id == trace_id && link.span_id == parent);
        let kind = link.map_or("CHILD_OF", reference);
        references.push(json!({ "refType": kind, "traceID": trace_id, "spanID": parent }));
    }
    let is_parent = |link: &typed_json::Link<'_>| {
        link.trace_id == trace_id && parent.is_some_and(|parent| link.span_id == parent.to_string())
    };
    references.extend(
        links
            .iter()
            .filter(|link| !is_parent(link))
            .map(|link| json!({ "refType": reference(link), "traceID": link.trace_id, "spanID": link.span_id })),
    );
    let mut all = tags(&attributes(columns.attributes.get(row))?);
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            all.push(json!({ "key": key, "type": "string", "value": value }));
        }
    };
    add("otel.scope.name", columns.scope.or_empty(row));
    add("otel.scope.version", columns.scope_version.or_empty(row));
    add("w3c.tracestate", columns.trace_state.or_empty(row));
    add("span.kind", kind(columns.kind(row)));
    add("otel.status_code", status(columns.status(row)));
    add("otel.status_description", columns.status_message.or_empty(row));
    if columns.status(row) == 2 {
        all.push(json!({ "key": "error", "type": "bool", "value": true }));
    }
    sort(&mut all);
    let events = columns.events.get(row).map_or(Ok(Vec::new()), typed_json::events)?;
    let logs = events.iter().map(|event| {
        let mut fields = tags(&event.attributes);
        if !event.name.is_empty() && !event.attributes.iter().any(|(key, _)| key == "event") {
            fields.push(json!({ "key": "event", "type": "string", "value": event.name }));
        }
        sort(&mut fields);
        json!({ "timestamp": event.time / 1000, "fields": fields })
    });
    let warning = |parent: SpanId| {
        let is_missing = !ids.known.contains(&parent) && !ids.new.values().any(|new| *new == parent);
        is_missing.then(|| vec![format!("invalid parent span IDs={parent}; skipping clock skew adjustment")])
    };
    Ok(json!({
        "traceID": trace_id,
        "spanID": id.to_string(),
        "operationName": columns.name.or_empty(row),
        "references": references,
        "startTime": columns.start(row) / 1000,
        // Jaeger's durations have no sign.
        "duration": columns.duration(row).max(0) / 1000,
        "tags": all,
        "logs": logs.collect::<Vec<_>>(),
        "processID": process,
        "warnings": parent.and_then(warning),
    }))
}

/// What kind of reference a link is: OpenTracing's bridge says so in an attribute.
fn reference(link: &typed_json::Link<'_>) -> &'static str {
    let said = link.attributes.iter().find(|(key, _)| key == "opentracing.ref_type");
    if said.is_some_and(|(_, value)| value.as_str() == Some("child_of")) { "CHILD_OF" } else { "FOLLOWS_FROM" }
}

fn sort(tags: &mut [Json]) {
    tags.sort_by(|a, b| a["key"].as_str().cmp(&b["key"].as_str()));
}

/// The attributes in a column of typed JSON, none if it is null.
pub(super) fn attributes(text: Option<&str>) -> Result<Attributes<'_>> {
    text.map_or(Ok(Vec::new()), typed_json::attributes)
}

fn tags(attributes: &Attributes<'_>) -> Vec<Json> {
    let tag = |(key, value): &(std::borrow::Cow<'_, str>, Value<'_>)| {
        let (kind, value) = match value {
            Value::String(text) => ("string", json!(text)),
            Value::Bool(value) => ("bool", json!(value)),
            Value::Int(value) if value.unsigned_abs() > SAFE_INTEGER => ("int64", json!(value.to_string())),
            Value::Int(value) => ("int64", json!(value)),
            // JSON has no NaN.
            Value::Double(value) if value.is_finite() => ("float64", json!(value)),
            Value::Double(value) => ("string", json!(value.to_string())),
            Value::Bytes(bytes) => ("binary", json!(STANDARD.encode(bytes))),
            Value::Array(_) | Value::List(_) => ("string", json!(plain(value).to_string())),
            Value::None => ("string", json!("")),
        };
        json!({ "key": key, "type": kind, "value": value })
    };
    attributes.iter().map(tag).collect()
}

/// A value as plain JSON, for people: bytes in base64, of keys given twice the last.
pub fn plain(value: &Value<'_>) -> Json {
    match value {
        Value::String(text) => json!(text),
        Value::Bool(value) => json!(value),
        Value::Int(value) => json!(value),
        Value::Double(value) if value.is_finite() => json!(value),
        Value::Double(value) => json!(value.to_string()),
        Value::Bytes(bytes) => json!(STANDARD.encode(bytes)),
        Value::Array(values) => values.iter().map(plain).collect(),
        Value::List(list) => {
            Json::Object(list.iter().map(|(key, value)| (key.clone().into_owned(), plain(value))).collect())
        }
        Value::None => Json::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::testing::{self, Span};

    #[test]
    fn a_span_becomes_what_jaegers_ui_reads() {
        let rows = testing::rows(&[
            Span::new(1, 0, "GET /").at(5_000).lasting(2_500).kind(2).service("web").error("no luck"),
            Span::new(2, 1, "query")
                .at(6_000)
                .service("db")
                .attributes(
                    r#"{"db.system":"sqlite","rows":3,"ratio":0.5,"ok":true,"tags":["a",1],"blob":{"$bytes":"AAE="}}"#,
                )
                .events(r#"[{"time":7000,"name":"cache","attributes":{"hit":false}}]"#),
        ]);
        let document = document(&[rows]).unwrap();
        let spans = document["data"][0]["spans"].as_array().unwrap();
        assert_eq!(spans[0]["startTime"], 5);
        assert_eq!(spans[0]["duration"], 2);
        assert_eq!(spans[0]["references"], json!([]));
        let tag = |span: &Json, key: &str| {
            span["tags"].as_array().unwrap().iter().find(|tag| tag["key"] == key).cloned().unwrap()
        };
        assert_eq!(tag(&spans[0], "error")["value"], true);
        assert_eq!(tag(&spans[0], "span.kind")["value"], "server");
        assert_eq!(tag(&spans[1], "rows"), json!({ "key": "rows", "type": "int64", "value": 3 }));
        assert_eq!(tag(&spans[1], "ratio")["type"], "float64");
        assert_eq!(tag(&spans[1], "tags")["value"], r#"["a",1]"#);
        assert_eq!(tag(&spans[1], "blob"), json!({ "key": "blob", "type": "binary", "value": "AAE=" }));
        assert_eq!(spans[1]["references"][0]["spanID"], "0000000000000001");
        assert_eq!(spans[1]["logs"][0]["timestamp"], 7);
        let fields = &spans[1]["logs"][0]["fields"];
        assert_eq!((&fields[0]["value"], &fields[1]["value"]), (&json!("cache"), &json!(false)));
        let processes = &document["data"][0]["processes"];
        assert_eq!(processes[spans[1]["processID"].as_str().unwrap()]["serviceName"], "db");
    }

    #[test]
    fn a_server_span_that_shares_its_clients_id_gets_one_of_its_own() {
        let rows = testing::rows(&[
            Span::new(5, 0, "call").kind(3),
            Span::new(5, 0, "serve").kind(2),
            Span::new(6, 5, "inside"),
            Span::new(7, 9, "orphan"),
        ]);
        let trace = trace(&rows).unwrap();
        let told: Vec<_> = trace["spans"]
            .as_array()
            .unwrap()
            .iter()
            .map(|span| {
                let hex = |id: &Json| u64::from_str_radix(id.as_str().unwrap(), 16).unwrap();
                let parent = span["references"].as_array().unwrap().first().map(|parent| hex(&parent["spanID"]));
                (hex(&span["spanID"]), parent, span["warnings"].is_null())
            })
            .collect();
        assert_eq!(told, [(5, None, true), (1, Some(5), true), (6, Some(1), true), (7, Some(9), false)]);
    }

    #[test]
    fn integers_that_browsers_would_round_are_text() {
        let rows = testing::rows(&[Span::new(1, 0, "x").attributes(r#"{"a":9007199254740991,"b":-9007199254740992}"#)]);
        let trace = trace(&rows).unwrap();
        let tags = &trace["spans"][0]["tags"];
        assert_eq!((&tags[0]["value"], &tags[1]["value"]), (&json!(9007199254740991_i64), &json!("-9007199254740992")));
    }
}
