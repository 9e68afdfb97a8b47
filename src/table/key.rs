//! The columns by which rows are ordered, told apart and placed; the same in both tables.

use std::cmp::Ordering;

use arrow::array::{
    Array, AsArray, FixedSizeBinaryArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
    TimestampNanosecondArray,
};
use arrow::datatypes::{ArrowPrimitiveType, Int32Type, Int64Type, TimestampMillisecondType, TimestampNanosecondType};

use super::place::{Placed, place};
use crate::error::{Result, report};
use crate::model::{SpanId, Table, TraceId};

/// `SPAN_KIND_SERVER`: in Zipkin-style traces the client's and the server's span share an id, and this tells them.
const SERVER: i32 = 2;

/// What tells one record from another (rule 3). Rows that agree in it are copies or revisions of one record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct RecordKey {
    pub trace: TraceId,
    pub span: SpanId,
    pub server: bool,
}

/// The columns of one batch that order, identity and place are made of. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct KeyColumns {
    table: Table,
    trace: FixedSizeBinaryArray,
    span: FixedSizeBinaryArray,
    start: TimestampNanosecondArray,
    duration: Int64Array,
    kind: Int32Array,
    received: TimestampMillisecondArray,
    /// Entries only: the dictionary's keys and values.
    handler: Option<(Int32Array, StringArray)>,
}

impl KeyColumns {
    /// # Errors
    /// If `rows` are not of `table`'s schema.
    pub fn of(table: Table, rows: &RecordBatch) -> Result<Self> {
        let column =
            |name: &str| rows.column_by_name(name).ok_or_else(|| report!("rows of {table} have no column `{name}`"));
        let wrong = |name: &str| report!("column `{name}` of {table} has another type than the table's");
        let binary = |name: &'static str, width: i32| {
            let array = column(name)?.as_fixed_size_binary_opt().filter(|array| array.value_length() == width);
            array.cloned().ok_or_else(|| wrong(name))
        };
        fn primitive<T: ArrowPrimitiveType>(array: &dyn Array) -> Option<arrow::array::PrimitiveArray<T>> {
            array.as_primitive_opt::<T>().cloned()
        }
        let handler = match table {
            Table::Spans => None,
            Table::Entries => {
                let array = column("handler")?.as_dictionary_opt::<Int32Type>().ok_or_else(|| wrong("handler"))?;
                let values = array.values().as_string_opt::<i32>().ok_or_else(|| wrong("handler"))?;
                Some((array.keys().clone(), values.clone()))
            }
        };
        Ok(Self {
            table,
            trace: binary("trace_id", 16)?,
            span: binary("span_id", 8)?,
            start: primitive::<TimestampNanosecondType>(column("start")?).ok_or_else(|| wrong("start"))?,
            duration: primitive::<Int64Type>(column("duration")?).ok_or_else(|| wrong("duration"))?,
            kind: primitive::<Int32Type>(column("kind")?).ok_or_else(|| wrong("kind"))?,
            received: primitive::<TimestampMillisecondType>(column("received")?).ok_or_else(|| wrong("received"))?,
            handler,
        })
    }

    pub fn len(&self) -> usize {
        self.trace.len()
    }

    pub fn trace(&self, row: usize) -> TraceId {
        TraceId(self.trace_bytes(row))
    }

    fn trace_bytes(&self, row: usize) -> [u8; 16] {
        // The width was checked in `of`.
        self.trace.value(row).try_into().unwrap_or_default()
    }

    pub fn trace_number(&self, row: usize) -> u128 {
        u128::from_be_bytes(self.trace_bytes(row))
    }

    pub fn span(&self, row: usize) -> SpanId {
        SpanId(self.span.value(row).try_into().unwrap_or_default())
    }

    pub fn span_number(&self, row: usize) -> u64 {
        u64::from_be_bytes(self.span(row).0)
    }

    /// As the column holds it: the order of starts is that of signed numbers, as every engine sees it.
    pub fn start(&self, row: usize) -> i64 {
        self.start.value(row)
    }

    pub fn duration(&self, row: usize) -> i64 {
        self.duration.value(row)
    }

    pub fn server(&self, row: usize) -> bool {
        self.kind.is_valid(row) && self.kind.value(row) == SERVER
    }

    /// Milliseconds since 1970.
    pub fn received(&self, row: usize) -> i64 {
        self.received.value(row)
    }

    /// Entries only; empty in spans.
    pub fn handler(&self, row: usize) -> &str {
        match &self.handler {
            Some((keys, values)) => values.value(keys.value(row) as usize),
            None => "",
        }
    }

    /// Entries only: the dictionary of handlers, and the key of a row in it.
    pub fn handlers(&self) -> Option<(&Int32Array, &StringArray)> {
        self.handler.as_ref().map(|(keys, values)| (keys, values))
    }

    pub fn record(&self, row: usize) -> RecordKey {
        RecordKey { trace: self.trace(row), span: self.span(row), server: self.server(row) }
    }

    pub fn placed(&self, row: usize) -> Placed {
        let start = self.start(row);
        let end = start.wrapping_add(self.duration(row));
        // 64 bits as sent: an unsigned number in the protocol.
        place(start as u64, end as u64, self.received(row).saturating_mul(1_000_000))
    }

    /// The part of the table's order that needs no content: rows that are equal in it are copies or revisions of one
    /// record (spans: trace, start, span; entries: handler, start descending, trace, span; in both then SERVER last).
    pub fn compare(&self, row: usize, other: &Self, other_row: usize) -> Ordering {
        let trace = || self.trace_number(row).cmp(&other.trace_number(other_row));
        let start = || self.start(row).cmp(&other.start(other_row));
        let by_table = match self.table {
            Table::Spans => trace().then_with(start),
            Table::Entries => {
                let handler = self.handler(row).cmp(other.handler(other_row));
                handler.then_with(|| start().reverse()).then_with(trace)
            }
        };
        by_table
            .then_with(|| self.span_number(row).cmp(&other.span_number(other_row)))
            .then_with(|| self.server(row).cmp(&other.server(other_row)))
    }
}
