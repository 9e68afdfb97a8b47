//! Rows for tests, without a decoder.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, FixedSizeBinaryArray, Int32Array, Int64Array, StringArray, TimestampMillisecondArray,
    TimestampNanosecondArray, new_null_array,
};
use arrow::datatypes::Int32Type;
use arrow::record_batch::RecordBatch;

use crate::model::TraceId;
use crate::table::spans;

/// A span of a test. Everything is zero or empty unless said.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    trace: TraceId,
    id: u64,
    parent: u64,
    name: String,
    start: i64,
    duration: i64,
    kind: i32,
    service: Option<String>,
    attributes: Option<String>,
    events: Option<String>,
    error: Option<String>,
    received_ms: i64,
}

impl Span {
    pub(crate) fn new(id: u64, parent: u64, name: &str) -> Self {
        Self {
            trace: TraceId([7; 16]),
            id,
            parent,
            name: name.to_owned(),
            start: 0,
            duration: 0,
            kind: 0,
            service: None,
            attributes: None,
            events: None,
            error: None,
            received_ms: 0,
        }
    }

    pub(crate) fn at(self, start: u64) -> Self {
        Self { start: start as i64, ..self }
    }

    pub(crate) fn lasting(self, duration: i64) -> Self {
        Self { duration, ..self }
    }

    pub(crate) fn kind(self, kind: i32) -> Self {
        Self { kind, ..self }
    }

    pub(crate) fn service(self, service: &str) -> Self {
        Self { service: Some(service.to_owned()), ..self }
    }

    pub(crate) fn attributes(self, json: &str) -> Self {
        Self { attributes: Some(json.to_owned()), ..self }
    }

    pub(crate) fn events(self, json: &str) -> Self {
        Self { events: Some(json.to_owned()), ..self }
    }

    pub(crate) fn error(self, message: &str) -> Self {
        Self { error: Some(message.to_owned()), ..self }
    }

    pub(crate) fn received(self, seconds: i64) -> Self {
        Self { received_ms: seconds * 1000, ..self }
    }
}

/// A batch of the spans table, rows in the given order.
pub(crate) fn rows(all: &[Span]) -> RecordBatch {
    let texts = |text: fn(&Span) -> Option<&str>| -> ArrayRef {
        Arc::new(all.iter().map(text).collect::<DictionaryArray<Int32Type>>())
    };
    let schema = spans::schema();
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            "trace_id" => Arc::new(FixedSizeBinaryArray::try_from_iter(all.iter().map(|span| span.trace.0)).unwrap()),
            "span_id" => {
                Arc::new(FixedSizeBinaryArray::try_from_iter(all.iter().map(|span| span.id.to_be_bytes())).unwrap())
            }
            "parent_span_id" => {
                let parents = all.iter().map(|span| (span.parent != 0).then(|| span.parent.to_be_bytes()));
                Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(parents, 8).unwrap())
            }
            "start" => Arc::new(
                TimestampNanosecondArray::from_iter_values(all.iter().map(|span| span.start)).with_timezone("UTC"),
            ),
            "duration" => Arc::new(Int64Array::from_iter_values(all.iter().map(|span| span.duration))),
            "received" => Arc::new(
                TimestampMillisecondArray::from_iter_values(all.iter().map(|span| span.received_ms))
                    .with_timezone("UTC"),
            ),
            "kind" => Arc::new(all.iter().map(|span| (span.kind != 0).then_some(span.kind)).collect::<Int32Array>()),
            "status_code" => Arc::new(all.iter().map(|span| span.error.as_ref().map(|_| 2)).collect::<Int32Array>()),
            "service" => texts(|span| span.service.as_deref()),
            // What a decoder copies the service from.
            "resource" => {
                let resource =
                    |span: &Span| span.service.as_ref().map(|name| format!(r#"{{"service.name":"{name}"}}"#));
                let resources: Vec<Option<String>> = all.iter().map(resource).collect();
                Arc::new(resources.iter().map(Option::as_deref).collect::<DictionaryArray<Int32Type>>())
            }
            "name" => texts(|span| Some(span.name.as_str()).filter(|name| !name.is_empty())),
            "status_message" => texts(|span| span.error.as_deref()),
            "attributes" => Arc::new(all.iter().map(|span| span.attributes.as_deref()).collect::<StringArray>()),
            "events" => Arc::new(all.iter().map(|span| span.events.as_deref()).collect::<StringArray>()),
            _ => new_null_array(field.data_type(), all.len()),
        }
    });
    RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap()
}
