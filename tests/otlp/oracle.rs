//! What the official generated code makes of OTLP, and a JSON reader of its own for OTLP/JSON: opentelemetry-proto's
//! refuses what real exporters write, and serde_json's numbers are not rounded correctly.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, TracesData};

/// How often each span is there, written with everything it carries and everything it belongs to. What the protocol
/// says twice is said once: absent and empty messages are equal, a parent id of zeros is none, references into string
/// tables are absent.
pub fn spans(data: &TracesData) -> BTreeMap<String, usize> {
    let mut spans = BTreeMap::new();
    for resource_spans in &data.resource_spans {
        let mut resource = resource_spans.resource.clone().unwrap_or_default();
        resource.attributes.iter_mut().for_each(key_value);
        for scope_spans in &resource_spans.scope_spans {
            let mut scope = scope_spans.scope.clone().unwrap_or_default();
            scope.attributes.iter_mut().for_each(key_value);
            for span in &scope_spans.spans {
                let mut span = span.clone();
                span.attributes.iter_mut().for_each(key_value);
                span.events.iter_mut().flat_map(|event| &mut event.attributes).for_each(key_value);
                span.links.iter_mut().flat_map(|link| &mut link.attributes).for_each(key_value);
                span.status.get_or_insert_default();
                if span.parent_span_id == [0; 8] {
                    span.parent_span_id.clear();
                }
                let urls = (&resource_spans.schema_url, &scope_spans.schema_url);
                *spans.entry(format!("{span:?} {scope:?} {resource:?} {urls:?}")).or_default() += 1;
            }
        }
    }
    spans
}

fn key_value(pair: &mut KeyValue) {
    pair.key_strindex = 0;
    any_value(pair.value.get_or_insert_default());
}

fn any_value(value: &mut AnyValue) {
    match &mut value.value {
        Some(Value::ArrayValue(array)) => array.values.iter_mut().for_each(any_value),
        Some(Value::KvlistValue(list)) => list.values.iter_mut().for_each(key_value),
        Some(Value::StringValueStrindex(_)) => value.value = None,
        _ => {}
    }
}

/// JSON, with numbers as they stand there and repeated keys.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// The JSON documents in `text`, one behind the other.
pub fn documents(text: &str) -> Vec<Json> {
    let mut parser = Parser { text: text.trim_start_matches('\u{feff}'), at: 0 };
    let mut documents = Vec::new();
    while parser.peek().is_some() {
        documents.push(parser.value());
    }
    documents
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while self.at < bytes.len() && bytes[self.at].is_ascii_whitespace() {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn value(&mut self) -> Json {
        match self.peek().expect("a value") {
            b'{' => {
                let mut pairs = Vec::new();
                self.list(b'}', |parser| {
                    let Json::Text(key) = parser.value() else { panic!("a key") };
                    assert_eq!(parser.peek(), Some(b':'));
                    parser.at += 1;
                    let value = parser.value();
                    pairs.push((key, value));
                });
                Json::Object(pairs)
            }
            b'[' => {
                let mut values = Vec::new();
                self.list(b']', |parser| values.push(parser.value()));
                Json::Array(values)
            }
            b'"' => {
                let rest = &self.text[self.at..];
                let mut end = 1;
                while rest.as_bytes()[end] != b'"' {
                    end += if rest.as_bytes()[end] == b'\\' { 2 } else { 1 };
                }
                self.at += end + 1;
                Json::Text(serde_json::from_str(&rest[..=end]).expect("a string"))
            }
            _ => {
                let rest = &self.text[self.at..];
                let end = rest.find([',', '}', ']', ' ', '\n', '\r']).unwrap_or(rest.len());
                self.at += end;
                match &rest[..end] {
                    "null" => Json::Null,
                    "true" => Json::Bool(true),
                    "false" => Json::Bool(false),
                    number => Json::Number(number.to_owned()),
                }
            }
        }
    }

    fn list(&mut self, end: u8, mut element: impl FnMut(&mut Self)) {
        self.at += 1;
        if self.peek() == Some(end) {
            self.at += 1;
            return;
        }
        loop {
            element(self);
            let next = self.peek().expect("`,` or an end");
            self.at += 1;
            if next == end {
                return;
            }
            assert_eq!(next, b',');
        }
    }
}

impl Json {
    fn get(&self, key: &str) -> &Json {
        const NULL: &Json = &Json::Null;
        let snake: String = key
            .chars()
            .flat_map(|c| if c.is_uppercase() { vec!['_', c.to_ascii_lowercase()] } else { vec![c] })
            .collect();
        let Json::Object(pairs) = self else { return NULL };
        pairs.iter().rfind(|(name, _)| name == key || *name == snake).map_or(NULL, |(_, value)| value)
    }

    fn list<T>(&self, key: &str, read: impl FnMut(&Json) -> T) -> Vec<T> {
        match self.get(key) {
            Json::Array(values) => values.iter().filter(|value| **value != Json::Null).map(read).collect(),
            Json::Null => Vec::new(),
            other => panic!("{key}: {other:?}"),
        }
    }

    fn text(&self) -> String {
        match self {
            Json::Text(text) | Json::Number(text) => text.clone(),
            Json::Null => String::new(),
            other => panic!("{other:?}"),
        }
    }

    fn number<T: std::str::FromStr<Err: std::fmt::Debug> + Default>(&self, key: &str) -> T {
        let text = self.get(key).text();
        if text.is_empty() { T::default() } else { text.parse().expect(key) }
    }

    fn hex(&self, key: &str) -> Vec<u8> {
        let text = self.get(key).text();
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
    }

    fn named<T: Into<i32>>(&self, key: &str, names: fn(&str) -> Option<T>) -> i32 {
        names(&self.get(key).text()).map_or_else(|| self.number(key), Into::into)
    }
}

/// OTLP/JSON as a message.
pub fn traces_data(json: &Json) -> TracesData {
    let resource_spans = json.list("resourceSpans", |json| {
        let resource = json.get("resource");
        let scopes = |name: &'static str, scope: &'static str| {
            json.list(name, move |json| ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: json.get(scope).get("name").text(),
                    version: json.get(scope).get("version").text(),
                    attributes: pairs(json.get(scope), "attributes"),
                    dropped_attributes_count: json.get(scope).number("droppedAttributesCount"),
                }),
                spans: json.list("spans", span),
                schema_url: json.get("schemaUrl").text(),
            })
        };
        ResourceSpans {
            resource: Some(Resource {
                attributes: pairs(resource, "attributes"),
                dropped_attributes_count: resource.number("droppedAttributesCount"),
                entity_refs: resource.list("entityRefs", |json| EntityRef {
                    schema_url: json.get("schemaUrl").text(),
                    r#type: json.get("type").text(),
                    id_keys: json.list("idKeys", Json::text),
                    description_keys: json.list("descriptionKeys", Json::text),
                }),
            }),
            scope_spans: [
                scopes("scopeSpans", "scope"),
                scopes("instrumentationLibrarySpans", "instrumentationLibrary"),
            ]
            .concat(),
            schema_url: json.get("schemaUrl").text(),
        }
    });
    TracesData { resource_spans }
}

fn span(json: &Json) -> Span {
    use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
    use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

    let status = json.get("status");
    Span {
        trace_id: json.hex("traceId"),
        span_id: json.hex("spanId"),
        trace_state: json.get("traceState").text(),
        parent_span_id: json.hex("parentSpanId"),
        flags: json.number("flags"),
        name: json.get("name").text(),
        kind: json.named("kind", SpanKind::from_str_name),
        start_time_unix_nano: json.number("startTimeUnixNano"),
        end_time_unix_nano: json.number("endTimeUnixNano"),
        attributes: pairs(json, "attributes"),
        dropped_attributes_count: json.number("droppedAttributesCount"),
        events: json.list("events", |json| Event {
            time_unix_nano: json.number("timeUnixNano"),
            name: json.get("name").text(),
            attributes: pairs(json, "attributes"),
            dropped_attributes_count: json.number("droppedAttributesCount"),
        }),
        dropped_events_count: json.number("droppedEventsCount"),
        links: json.list("links", |json| Link {
            trace_id: json.hex("traceId"),
            span_id: json.hex("spanId"),
            trace_state: json.get("traceState").text(),
            attributes: pairs(json, "attributes"),
            dropped_attributes_count: json.number("droppedAttributesCount"),
            flags: json.number("flags"),
        }),
        dropped_links_count: json.number("droppedLinksCount"),
        status: Some(Status {
            message: status.get("message").text(),
            code: status.named("code", StatusCode::from_str_name),
        }),
    }
}

fn pairs(json: &Json, key: &str) -> Vec<KeyValue> {
    json.list(key, |json| KeyValue {
        key: json.get("key").text(),
        value: Some(AnyValue { value: value(json.get("value")) }),
        key_strindex: 0,
    })
}

fn value(json: &Json) -> Option<Value> {
    use base64::Engine;

    let Json::Object(fields) = json else { return None };
    let (kind, json) = fields.iter().rfind(|(_, value)| *value != Json::Null)?;
    Some(match kind.as_str() {
        "stringValue" => Value::StringValue(json.text()),
        "boolValue" => Value::BoolValue(*json == Json::Bool(true)),
        "intValue" => Value::IntValue(json.text().parse().expect("an integer")),
        "doubleValue" => Value::DoubleValue(json.text().parse().expect("a double")),
        "arrayValue" => {
            Value::ArrayValue(ArrayValue { values: json.list("values", |json| AnyValue { value: value(json) }) })
        }
        "kvlistValue" => Value::KvlistValue(KeyValueList { values: pairs(json, "values") }),
        "bytesValue" => {
            Value::BytesValue(base64::engine::general_purpose::STANDARD.decode(json.text()).expect("base64"))
        }
        other => panic!("{other}"),
    })
}
