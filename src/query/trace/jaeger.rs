//! Traces as the JSON of Jaeger's query API and UI (`/api/traces/{id}`, "Upload file").
//!
//! Source: jaegertracing/jaeger, `internal/uimodel/model.go` (the fields) and the OpenTelemetry specification's
//! "Transformation to Jaeger" (which tags kind, status, scope, events and links become). Times are microseconds.

use std::collections::BTreeMap;

use arrow::record_batch::RecordBatch;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use crate::error::{Result, ResultExt};
use crate::handler::id::shown_service;
use crate::otlp::typed_json::{self, Attributes, Value};
use crate::query::columns::Spans;

/// One answer with a trace for each of `traces` (one row a span).
pub fn document(traces: &[RecordBatch]) -> Result<Json> {
    let data = traces.iter().filter(|rows| rows.num_rows() > 0).map(trace).collect::<Result<Vec<_>>>()?;
    Ok(json!({ "data": data, "total": 0, "limit": 0, "offset": 0, "errors": null }))
}

fn trace(rows: &RecordBatch) -> Result<Json> {
    let columns = Spans::of(rows)?;
    let mut processes = Processes::default();
    let mut spans = Vec::with_capacity(columns.len());
    for row in 0..columns.len() {
        let process = processes.of(&columns, row)?;
        let name = columns.name.or_empty(row);
        spans.push(span(&columns, row, &process).context_with(|| format!("read the span {name}"))?);
    }
    let id = if columns.is_empty() { String::new() } else { columns.trace(0).to_string() };
    Ok(json!({ "traceID": id, "spans": spans, "processes": processes.into_json(), "warnings": null }))
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

fn span(columns: &Spans<'_>, row: usize, process: &str) -> Result<Json> {
    let trace_id = columns.trace(row).to_string();
    let mut references = Vec::new();
    if let Some(parent) = columns.parent(row) {
        references.push(json!({ "refType": "CHILD_OF", "traceID": trace_id, "spanID": parent.to_string() }));
    }
    let links = columns.links.get(row).map_or(Ok(Vec::new()), typed_json::links)?;
    references.extend(
        links.iter().map(|link| json!({ "refType": "FOLLOWS_FROM", "traceID": link.trace_id, "spanID": link.span_id })),
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
    add(
        "span.kind",
        ["", "internal", "server", "client", "producer", "consumer"].get(columns.kind(row) as usize).unwrap_or(&""),
    );
    add("otel.status_code", ["", "OK", "ERROR"].get(columns.status(row) as usize).unwrap_or(&""));
    add("otel.status_description", columns.status_message.or_empty(row));
    if columns.status(row) == 2 {
        all.push(json!({ "key": "error", "type": "bool", "value": true }));
    }
    let events = columns.events.get(row).map_or(Ok(Vec::new()), typed_json::events)?;
    let logs = events.iter().map(|event| {
        let mut fields = tags(&event.attributes);
        if !event.name.is_empty() {
            fields.insert(0, json!({ "key": "event", "type": "string", "value": event.name }));
        }
        json!({ "timestamp": event.time / 1000, "fields": fields })
    });
    Ok(json!({
        "traceID": trace_id,
        "spanID": columns.span(row).to_string(),
        "flags": columns.flags(row) & 0xff,
        "operationName": columns.name.or_empty(row),
        "references": references,
        "startTime": columns.start(row) / 1000,
        // Jaeger's durations have no sign.
        "duration": columns.duration(row).max(0) / 1000,
        "tags": all,
        "logs": logs.collect::<Vec<_>>(),
        "processID": process,
        "warnings": null,
    }))
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
        assert_eq!(spans[1]["logs"][0]["fields"][0]["value"], "cache");
        let processes = &document["data"][0]["processes"];
        assert_eq!(processes[spans[1]["processID"].as_str().unwrap()]["serviceName"], "db");
    }
}
