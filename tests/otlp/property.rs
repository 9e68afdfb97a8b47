//! Whatever the protocol can say comes out as it went in; whatever it cannot say does no harm.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, TracesData};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;
use tracefarm::otlp::Limits;

use crate::{decoded, encoded, oracle, scrambled};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z]{0,3}",
        1 => vec(any::<char>(), 0..12).prop_map(|text| text.into_iter().collect()),
        1 => "[\\x00-\\x7f]{0,12}",
    ]
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        text(),
        "\\$[a-z]{0,3}",
        prop::sample::select(vec![
            "http.route",
            "http.status_code",
            "rpc.method",
            "rpc.service",
            "service.name",
            "$bytes"
        ])
        .prop_map(str::to_owned),
    ]
}

fn value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        text().prop_map(Value::StringValue),
        any::<bool>().prop_map(Value::BoolValue),
        any::<i64>().prop_map(Value::IntValue),
        proptest::num::f64::ANY.prop_map(Value::DoubleValue),
        vec(any::<u8>(), 0..6).prop_map(Value::BytesValue),
        any::<i32>().prop_map(Value::StringValueStrindex),
    ];
    let leaf = option::of(leaf).prop_map(|value| AnyValue { value });
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|values| Value::ArrayValue(ArrayValue { values })),
            vec(pair(inner), 0..4).prop_map(|values| Value::KvlistValue(KeyValueList { values })),
        ]
        .prop_map(|value| AnyValue { value: Some(value) })
    })
}

fn pair(value: impl Strategy<Value = AnyValue>) -> impl Strategy<Value = KeyValue> {
    (key(), option::of(value), 0..2).prop_map(|(key, value, key_strindex)| KeyValue { key, value, key_strindex })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    vec(pair(value()), 0..4)
}

/// Small numbers, zero among them, and all others.
fn count() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), 1..4u32, any::<u32>()]
}

fn enumeration() -> impl Strategy<Value = i32> {
    prop_oneof![0..6i32, any::<i32>()]
}

fn event() -> impl Strategy<Value = Event> {
    (any::<u64>(), text(), attributes(), count()).prop_map(
        |(time_unix_nano, name, attributes, dropped_attributes_count)| Event {
            time_unix_nano,
            name,
            attributes,
            dropped_attributes_count,
        },
    )
}

fn link() -> impl Strategy<Value = Link> {
    let ids = (vec(any::<u8>(), 0..20), vec(any::<u8>(), 0..10));
    (ids, text(), attributes(), count(), count()).prop_map(
        |((trace_id, span_id), trace_state, attributes, dropped, flags)| Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count: dropped,
            flags,
        },
    )
}

fn span() -> impl Strategy<Value = Span> {
    let parent = prop_oneof![Just(vec![]), Just(vec![0; 8]), vec(any::<u8>(), 8)];
    let ids = (1..=u128::MAX, 1..=u64::MAX, parent);
    let times = (any::<u64>(), any::<u64>());
    let lists = (attributes(), vec(event(), 0..3), vec(link(), 0..3));
    let status = option::of((text(), enumeration()).prop_map(|(message, code)| Status { message, code }));
    (ids, (text(), text()), enumeration(), times, lists, (count(), count(), count(), count()), status).prop_map(
        |((trace_id, span_id, parent_span_id), (name, trace_state), kind, times, lists, counts, status)| Span {
            trace_id: trace_id.to_be_bytes().to_vec(),
            span_id: span_id.to_be_bytes().to_vec(),
            trace_state,
            parent_span_id,
            flags: counts.3,
            name,
            kind,
            start_time_unix_nano: times.0,
            end_time_unix_nano: times.1,
            attributes: lists.0,
            dropped_attributes_count: counts.0,
            events: lists.1,
            dropped_events_count: counts.1,
            links: lists.2,
            dropped_links_count: counts.2,
            status,
        },
    )
}

fn scope_spans() -> impl Strategy<Value = ScopeSpans> {
    let scope =
        (text(), text(), attributes(), count()).prop_map(|(name, version, attributes, dropped_attributes_count)| {
            InstrumentationScope { name, version, attributes, dropped_attributes_count }
        });
    (option::of(scope), vec(span(), 0..4), text()).prop_map(|(scope, spans, schema_url)| ScopeSpans {
        scope,
        spans,
        schema_url,
    })
}

pub fn traces_data() -> impl Strategy<Value = TracesData> {
    let entity = (text(), text(), vec(text(), 0..3), vec(text(), 0..3)).prop_map(
        |(schema_url, r#type, id_keys, description_keys)| EntityRef { schema_url, r#type, id_keys, description_keys },
    );
    let resource =
        (attributes(), count(), vec(entity, 0..2)).prop_map(|(attributes, dropped_attributes_count, entity_refs)| {
            Resource { attributes, dropped_attributes_count, entity_refs }
        });
    let resource_spans = (option::of(resource), vec(scope_spans(), 0..3), text())
        .prop_map(|(resource, scope_spans, schema_url)| ResourceSpans { resource, scope_spans, schema_url });
    vec(resource_spans, 1..3).prop_map(|resource_spans| TracesData { resource_spans })
}

/// Whether a number has no place in JSON's own numbers: opentelemetry-proto's serde support refuses those in strings.
fn has_special_numbers(data: &TracesData) -> bool {
    let text = format!("{data:?}");
    text.contains("NaN") || text.contains("inf")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn protobuf_comes_out_as_it_went_in(data in traces_data()) {
        let object = data.encode_to_vec();
        let (got, bad, _) = decoded(&object, &Limits::default());
        prop_assert_eq!(bad, []);
        prop_assert_eq!(oracle::spans(&got), oracle::spans(&data));
    }

    #[test]
    fn json_comes_out_as_it_went_in(data in traces_data()) {
        let text = encoded(&data.encode_to_vec());
        let (got, bad, _) = decoded(text.as_bytes(), &Limits::default());
        prop_assert_eq!(bad, []);
        prop_assert_eq!(oracle::spans(&got), oracle::spans(&data));
        if !has_special_numbers(&data) {
            let official: TracesData = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(oracle::spans(&official), oracle::spans(&data));
        }
    }

    #[test]
    fn protobuf_may_be_written_in_any_way(data in traces_data(), seed in any::<u64>()) {
        let object = scrambled::protobuf(&data, seed);
        let expected = TracesData::decode(&object[..]).unwrap();
        let (got, bad, _) = decoded(&object, &Limits::default());
        prop_assert_eq!(bad, []);
        prop_assert_eq!(oracle::spans(&got), oracle::spans(&expected));
    }

    #[test]
    fn json_may_be_written_in_any_way(data in traces_data(), seed in any::<u64>()) {
        let text = scrambled::json(&oracle::documents(&encoded(&data.encode_to_vec()))[0], seed);
        let (got, bad, _) = decoded(text.as_bytes(), &Limits::default());
        prop_assert_eq!(bad, []);
        prop_assert_eq!(oracle::spans(&got), oracle::spans(&data));
    }

    #[test]
    fn what_is_broken_does_no_harm(
        data in traces_data(),
        as_json in any::<bool>(),
        cut in any::<prop::sample::Index>(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut object = data.encode_to_vec();
        if as_json {
            object = encoded(&object).into_bytes();
        }
        for (at, byte) in &changes {
            let at = at.index(object.len());
            object[at] = *byte;
        }
        object.truncate(cut.index(object.len()) + 1);
        let (got, bad, _) = decoded(&object, &Limits::default());
        // Where we find nothing wrong, the official code does not either, and reads the same.
        if bad.is_empty() && !as_json && object[0] == 0x0a && let Ok(expected) = TracesData::decode(&object[..]) {
            prop_assert_eq!(oracle::spans(&got), oracle::spans(&expected));
        }
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..400), prefix in 0..6usize) {
        let prefixes: [&[u8]; 6] = [b"", b"\x0a", b"{", b"\0\0\0\x10\x0a", b"\x1f\x8b\x08\0\0\0\0\0\0\x03", b"\x28\xb5\x2f\xfd"];
        decoded(&[prefixes[prefix], &bytes].concat(), &Limits { message_bytes: 300, depth: 5 });
    }

    #[test]
    fn random_brackets_do_no_harm(text in r#"(\{"resourceSpans":|"scopeSpans":|"spans":|"resource":|"attributes":|[\[\]{}",:\n ]|"traceId"|"key"|"value"|null|1){0,60}"#) {
        decoded(text.as_bytes(), &Limits { message_bytes: 300, depth: 5 });
    }
}
