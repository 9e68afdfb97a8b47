//! Inbox objects as the official decoder reads them: prost and serde code generated from the protocol's own
//! definitions (`opentelemetry-proto`). It shares nothing with the decoders of tracefarm, so that one can be held
//! against the other; it is slow, and takes only whole objects.
#![allow(dead_code, reason = "each test and example that includes this file uses a part of it")]

use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span, TracesData};
use prost::Message;
use serde_json::Value;

/// SpanKind SERVER: part of a span's key, because a client's span and a server's may share an id.
pub const SERVER: i32 = 2;

/// Every file below `folder`, sorted by path.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("list {}: {error}", folder.display()));
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// The bytes of an object, decompressed if they are gzip or zstd (several members or frames, too).
pub fn decompress(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut plain = Vec::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut plain).map_err(|error| error.to_string())?;
    } else if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        zstd::Decoder::new(bytes)
            .and_then(|mut zstd| zstd.read_to_end(&mut plain))
            .map_err(|error| error.to_string())?;
    } else {
        plain.extend_from_slice(bytes);
    }
    Ok(plain)
}

/// The documents of an object, in order.
pub fn decode(bytes: &[u8]) -> Result<Vec<TracesData>, String> {
    let plain = decompress(bytes)?;
    match plain.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => serde_json::Deserializer::from_slice(&plain)
            .into_iter::<Value>()
            .map(|document| document.map_err(|error| error.to_string()).and_then(from_json))
            .collect(),
        // A message after its length, 4 bytes, big-endian: the file exporter's framing.
        Some(0) if plain.len() > 4 => {
            let mut rest = &plain[..];
            let mut documents = Vec::new();
            while let Some((length, after)) = rest.split_first_chunk::<4>() {
                let (message, after) =
                    after.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or("cut frame")?;
                documents.extend(decode(message)?);
                rest = after;
            }
            Ok(documents)
        }
        _ => Ok(vec![TracesData::decode(&plain[..]).map_err(|error| error.to_string())?]),
    }
}

/// One OTLP/JSON document. What the official serde code refuses though exporters write it (an array without
/// `values`, NaN as a string) is put first into the form that it takes.
pub fn from_json(mut document: Value) -> Result<TracesData, String> {
    normalise(&mut document);
    let mut data: TracesData = serde_json::from_value(document).map_err(|error| error.to_string())?;
    for resource in &mut data.resource_spans {
        for_each_attributes(resource, &mut |attributes| attributes.iter_mut().for_each(|a| restore(a.value.as_mut())));
    }
    Ok(data)
}

/// Marks a double that JSON writes as a string.
const DOUBLE: &str = "tracefarm-test-double:";

fn normalise(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(normalise),
        Value::Object(fields) => {
            for list in ["arrayValue", "kvlistValue"] {
                if let Some(Value::Object(list)) = fields.get_mut(list) {
                    list.entry("values").or_insert_with(|| Value::Array(Vec::new()));
                }
            }
            if let Some(Value::String(double)) = fields.get("doubleValue") {
                let marked = format!("{DOUBLE}{double}");
                fields.remove("doubleValue");
                fields.insert("stringValue".to_owned(), Value::String(marked));
            }
            fields.values_mut().for_each(normalise);
        }
        _ => {}
    }
}

fn restore(value: Option<&mut AnyValue>) {
    match value.and_then(|value| value.value.as_mut()) {
        Some(Any::ArrayValue(array)) => array.values.iter_mut().for_each(|value| restore(Some(value))),
        Some(Any::KvlistValue(list)) => list.values.iter_mut().for_each(|pair| restore(pair.value.as_mut())),
        Some(any) => {
            if let Any::StringValue(text) = any
                && let Some(double) = text.strip_prefix(DOUBLE)
            {
                *any = Any::DoubleValue(double.parse().expect("a double in a string"));
            }
        }
        None => {}
    }
}

fn for_each_attributes(resource: &mut ResourceSpans, change: &mut dyn FnMut(&mut Vec<KeyValue>)) {
    if let Some(resource) = &mut resource.resource {
        change(&mut resource.attributes);
    }
    for scope in &mut resource.scope_spans {
        if let Some(scope) = &mut scope.scope {
            change(&mut scope.attributes);
        }
        for span in &mut scope.spans {
            change(&mut span.attributes);
            span.events.iter_mut().for_each(|event| change(&mut event.attributes));
            span.links.iter_mut().for_each(|link| change(&mut link.attributes));
        }
    }
}

/// Keeps the first span of each (trace, span, is it a server's) that was not `seen` before; drops what is then empty.
pub fn keep_new(data: &mut TracesData, seen: &mut HashSet<(Vec<u8>, Vec<u8>, bool)>) {
    for resource in &mut data.resource_spans {
        for scope in &mut resource.scope_spans {
            scope.spans.retain(|span| seen.insert(key(span)));
        }
        resource.scope_spans.retain(|scope| !scope.spans.is_empty());
    }
    data.resource_spans.retain(|resource| !resource.scope_spans.is_empty());
}

/// What tells a span from others.
pub fn key(span: &Span) -> (Vec<u8>, Vec<u8>, bool) {
    (span.trace_id.clone(), span.span_id.clone(), span.kind == SERVER)
}

/// Every span of `data`.
pub fn spans(data: &TracesData) -> impl Iterator<Item = &Span> {
    data.resource_spans.iter().flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans)
}
