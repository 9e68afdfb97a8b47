//! Rows made up for tests: small alphabets, so that copies, revisions and odd times come by themselves.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray, TimestampNanosecondArray, new_null_array,
};
use arrow::datatypes::{DataType, Int32Type};
use proptest::prelude::*;

use crate::model::{Hour, SpanId, Table, TraceId};

/// A row of either table, as far as tests care.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub trace: TraceId,
    pub span: SpanId,
    pub kind: Option<i32>,
    pub start: i64,
    pub duration: i64,
    /// Which handler, of a few; entries only.
    pub handler: u8,
    /// The name, of a few, or null.
    pub name: Option<u8>,
    pub status: Option<i32>,
    /// Seconds.
    pub received: i64,
}

/// The hour around which rows lie.
pub(crate) fn hour() -> Hour {
    "2026-11-22T14".parse().unwrap()
}

/// A handler's id by number.
pub(crate) fn handler(number: u8) -> String {
    match number {
        0 => "web/404-00000000".to_owned(),
        _ => format!("web/get-{number}-0000000{}", number % 10),
    }
}

/// A trace's id by number: spread over the shards, and over both halves of the id.
pub(crate) fn trace(number: u128) -> TraceId {
    TraceId(number.wrapping_mul(0x1234_5678_9abc_def1_0000_0000_0000_0001).to_be_bytes())
}

/// Where a row goes.
pub(crate) fn placed(row: &Row) -> super::place::Placed {
    let end = row.start.wrapping_add(row.duration);
    super::place::place(row.start as u64, end as u64, row.received * 1_000_000_000)
}

/// A plain row.
pub(crate) fn row(trace: u128, span: u64, start: i64) -> Row {
    Row {
        trace: TraceId(trace.to_be_bytes()),
        span: SpanId(span.to_be_bytes()),
        kind: Some(2),
        start: hour().start_ns() + start,
        duration: 1_000_000,
        handler: 1,
        name: Some(1),
        status: None,
        received: hour().start_ns() / 1_000_000_000 + 10,
    }
}

/// Any row: of few traces and spans, mostly of one hour, sometimes of odd times.
pub(crate) fn any_row() -> impl Strategy<Value = Row> {
    let start = prop_oneof![
        8 => (0..5_i64).prop_map(|at| hour().start_ns() + at * 1_000_000_000),
        1 => (0..3_i64).prop_map(|at| hour().next().start_ns() + at),
        1 => prop_oneof![Just(0), Just(-1), Just(i64::MAX), Just(i64::MIN), Just(1_795_310_000_000)],
    ];
    let duration = prop_oneof![6 => 0..3_i64, 1 => Just(-5), 1 => Just(i64::MIN), 1 => Just(2_000_000_000)];
    let ids = (0..6_u128, 0..3_u64, prop_oneof![Just(None), Just(Some(2)), Just(Some(3))]);
    let rest = (0..3_u8, prop_oneof![Just(None), (0..2_u8).prop_map(Some)], prop_oneof![Just(None), Just(Some(2))]);
    (ids, start, duration, rest, 0..3_i64).prop_map(|((trace, span, kind), start, duration, rest, received)| Row {
        trace: self::trace(trace),
        span: SpanId(span.to_be_bytes()),
        kind,
        start,
        duration,
        handler: rest.0,
        name: rest.1,
        status: rest.2,
        received: hour().start_ns() / 1_000_000_000 + 1800 + received,
    })
}

/// The rows as a batch of `table`'s schema: the columns a [`Row`] has, the others null or fixed.
pub(crate) fn batch(table: Table, rows: &[Row]) -> RecordBatch {
    let schema = super::schema(table);
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            "trace_id" => binary(rows.iter().map(|row| row.trace.0.to_vec()), 16),
            "span_id" => binary(rows.iter().map(|row| row.span.0.to_vec()), 8),
            "start" => {
                let starts = TimestampNanosecondArray::from_iter_values(rows.iter().map(|row| row.start));
                Arc::new(starts.with_timezone("UTC"))
            }
            "duration" => Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.duration))),
            "kind" => Arc::new(rows.iter().map(|row| row.kind).collect::<Int32Array>()),
            "status_code" => Arc::new(rows.iter().map(|row| row.status).collect::<Int32Array>()),
            "received" => {
                let seconds = rows.iter().map(|row| row.received * 1000);
                Arc::new(TimestampMillisecondArray::from_iter_values(seconds).with_timezone("UTC"))
            }
            "handler" => texts(rows.iter().map(|row| Some(handler(row.handler)))),
            "handler_kind" => texts(rows.iter().map(|_| Some("http".to_owned()))),
            "handler_name" => texts(rows.iter().map(|row| Some(format!("GET /{}", row.handler)))),
            "name" | "span_name" => texts(rows.iter().map(|row| row.name.map(|name| format!("name {name}")))),
            "service" => texts(rows.iter().map(|_| Some("web".to_owned()))),
            "method" => texts(rows.iter().map(|_| Some("GET".to_owned()))),
            "path" => Arc::new(
                rows.iter().map(|row| (row.handler == 0).then(|| format!("/p{:?}", row.name))).collect::<StringArray>(),
            ),
            "attributes" => {
                let text = |name: u8| format!("{{\"name\":{name}}}");
                Arc::new(rows.iter().map(|row| row.name.map(text)).collect::<StringArray>())
            }
            "resource" => texts(rows.iter().map(|_| Some("{\"service.name\":\"web\"}".to_owned()))),
            "is_root" => Arc::new(BooleanArray::from(vec![true; rows.len()])),
            _ => {
                assert!(field.is_nullable(), "{} needs a value", field.name());
                new_null_array(field.data_type(), rows.len())
            }
        }
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
}

/// The rows of a batch made by [`batch`], again.
pub(crate) fn rows(table: Table, batch: &RecordBatch) -> Vec<Row> {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Int64Type, TimestampMillisecondType, TimestampNanosecondType};
    let column = |name: &str| batch.column_by_name(name).unwrap();
    let text = |name: &str, row: usize| {
        let dictionary = column(name).as_dictionary::<Int32Type>();
        let valid = dictionary.is_valid(row);
        valid.then(|| dictionary.values().as_string::<i32>().value(dictionary.keys().value(row) as usize).to_owned())
    };
    let number = |name: &str, row: usize| {
        let array = column(name).as_primitive::<Int32Type>();
        array.is_valid(row).then(|| array.value(row))
    };
    let name = if table == Table::Spans { "name" } else { "span_name" };
    let row = |row: usize| Row {
        trace: TraceId::from_slice(column("trace_id").as_fixed_size_binary().value(row)).unwrap(),
        span: SpanId::from_slice(column("span_id").as_fixed_size_binary().value(row)).unwrap(),
        kind: number("kind", row),
        start: column("start").as_primitive::<TimestampNanosecondType>().value(row),
        duration: column("duration").as_primitive::<Int64Type>().value(row),
        handler: match table {
            Table::Spans => 0,
            Table::Entries => (0..=9).find(|number| handler(*number) == text("handler", row).unwrap()).unwrap(),
        },
        name: text(name, row).map(|name| name.strip_prefix("name ").unwrap().parse().unwrap()),
        status: number("status_code", row),
        received: column("received").as_primitive::<TimestampMillisecondType>().value(row) / 1000,
    };
    (0..batch.num_rows()).map(row).collect()
}

fn binary(ids: impl Iterator<Item = Vec<u8>>, width: i32) -> ArrayRef {
    let bytes: Vec<u8> = ids.flatten().collect();
    Arc::new(FixedSizeBinaryArray::try_new(width, bytes.into(), None).unwrap())
}

fn texts(values: impl Iterator<Item = Option<String>>) -> ArrayRef {
    let values: Vec<Option<String>> = values.collect();
    let array: DictionaryArray<Int32Type> = values.iter().map(Option::as_deref).collect();
    assert_eq!(
        arrow::array::Array::data_type(&array),
        &DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
    );
    Arc::new(array)
}

/// What rule 3 leaves of `rows`, worked out the plain way: of rows with one key and one content the earliest received,
/// by hour and shard, in the table's order up to the order of revisions.
pub(crate) fn model(table: Table, all: &[Row]) -> std::collections::BTreeSet<Row> {
    let mut kept: std::collections::BTreeMap<Row, i64> = std::collections::BTreeMap::new();
    for row in all {
        let content = Row { received: 0, handler: if table == Table::Spans { 0 } else { row.handler }, ..row.clone() };
        let earliest = kept.entry(content).or_insert(i64::MAX);
        *earliest = row.received.min(*earliest);
    }
    kept.into_iter().map(|(content, received)| Row { received, ..content }).collect()
}
