//! The columns of a batch by name: what reads single rows works on these and not on Arrow's arrays.

use arrow::array::{
    Array, AsArray, BooleanArray, FixedSizeBinaryArray, Int32Array, Int64Array, StringArray, UInt32Array,
};
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMillisecondType, TimestampNanosecondType, UInt32Type};
use arrow::record_batch::RecordBatch;

use crate::error::{Result, report};
use crate::model::{SpanId, TraceId};
use crate::table::place::{Placed, place};

/// A column of text, dictionary or not.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    keys: Option<&'a Int32Array>,
    values: &'a StringArray,
}

impl<'a> Text<'a> {
    /// The text in `row`; `None` where the protocol's value is empty.
    pub fn get(&self, row: usize) -> Option<&'a str> {
        let at = match self.keys {
            Some(keys) if keys.is_null(row) => return None,
            // Arrow checks that keys lie within the values.
            Some(keys) => keys.value(row) as usize,
            None => row,
        };
        (!self.values.is_null(at)).then(|| self.values.value(at))
    }

    /// The text in `row`, empty if there is none.
    pub fn or_empty(&self, row: usize) -> &'a str {
        self.get(row).unwrap_or_default()
    }
}

/// A batch whose columns are asked for by name.
#[derive(Clone, Copy)]
pub(super) struct Named<'a>(pub(super) &'a RecordBatch);

impl<'a> Named<'a> {
    fn array(self, name: &str) -> Result<&'a dyn Array> {
        Ok(self.0.column_by_name(name).ok_or_else(|| wrong(name, "is missing"))?.as_ref())
    }

    pub(super) fn text(self, name: &str) -> Result<Text<'a>> {
        let array = self.array(name)?;
        let text = match array.data_type() {
            DataType::Utf8 => array.as_string_opt().map(|values| Text { keys: None, values }),
            _ => array.as_dictionary_opt::<Int32Type>().and_then(|dictionary| {
                Some(Text { keys: Some(dictionary.keys()), values: dictionary.values().as_string_opt()? })
            }),
        };
        text.ok_or_else(|| wrong(name, "holds no text"))
    }

    pub(super) fn bytes(self, name: &str) -> Result<&'a FixedSizeBinaryArray> {
        self.array(name)?.as_fixed_size_binary_opt().ok_or_else(|| wrong(name, "holds no ids"))
    }

    pub(super) fn ints(self, name: &str) -> Result<&'a Int32Array> {
        self.array(name)?.as_primitive_opt::<Int32Type>().ok_or_else(|| wrong(name, "holds no 32-bit integers"))
    }

    fn counts(self, name: &str) -> Result<&'a UInt32Array> {
        self.array(name)?.as_primitive_opt::<UInt32Type>().ok_or_else(|| wrong(name, "holds no counts"))
    }

    pub(super) fn longs(self, name: &str) -> Result<&'a Int64Array> {
        self.array(name)?.as_primitive_opt::<Int64Type>().ok_or_else(|| wrong(name, "holds no 64-bit integers"))
    }

    fn bools(self, name: &str) -> Result<&'a BooleanArray> {
        self.array(name)?.as_boolean_opt().ok_or_else(|| wrong(name, "holds no booleans"))
    }

    pub(super) fn nanos(self, name: &str) -> Result<&'a [i64]> {
        let times = self.array(name)?.as_primitive_opt::<TimestampNanosecondType>();
        Ok(times.ok_or_else(|| wrong(name, "holds no times in nanoseconds"))?.values())
    }

    fn millis(self, name: &str) -> Result<&'a [i64]> {
        let times = self.array(name)?.as_primitive_opt::<TimestampMillisecondType>();
        Ok(times.ok_or_else(|| wrong(name, "holds no times in milliseconds"))?.values())
    }
}

fn wrong(column: &str, how: &str) -> crate::error::Report {
    report!("the column `{column}` {how}: these are not rows of this program's tables")
}

/// Rows of the `spans` table.
#[derive(Clone, Copy)]
pub struct Spans<'a> {
    traces: &'a FixedSizeBinaryArray,
    spans: &'a FixedSizeBinaryArray,
    parents: &'a FixedSizeBinaryArray,
    starts: &'a [i64],
    durations: &'a Int64Array,
    received: &'a [i64],
    kinds: &'a Int32Array,
    statuses: &'a Int32Array,
    flags: &'a UInt32Array,
    http_statuses: &'a Int32Array,
    /// `service.name`
    pub service: Text<'a>,
    /// The scope's name.
    pub scope: Text<'a>,
    /// The scope's version.
    pub scope_version: Text<'a>,
    /// The span's name.
    pub name: Text<'a>,
    /// The status message.
    pub status_message: Text<'a>,
    /// W3C trace state.
    pub trace_state: Text<'a>,
    /// Typed JSON, an object.
    pub attributes: Text<'a>,
    /// Typed JSON, an object.
    pub resource: Text<'a>,
    /// Typed JSON, an array of objects.
    pub events: Text<'a>,
    /// Typed JSON, an array of objects.
    pub links: Text<'a>,
    rows: usize,
}

impl<'a> Spans<'a> {
    /// The columns of `batch`.
    ///
    /// # Errors
    /// If they are not those of [`crate::table::spans::schema`].
    pub fn of(batch: &'a RecordBatch) -> Result<Self> {
        let named = Named(batch);
        Ok(Self {
            traces: named.bytes("trace_id")?,
            spans: named.bytes("span_id")?,
            parents: named.bytes("parent_span_id")?,
            starts: named.nanos("start")?,
            durations: named.longs("duration")?,
            received: named.millis("received")?,
            kinds: named.ints("kind")?,
            statuses: named.ints("status_code")?,
            flags: named.counts("flags")?,
            http_statuses: named.ints("http_status")?,
            service: named.text("service")?,
            scope: named.text("scope")?,
            scope_version: named.text("scope_version")?,
            name: named.text("name")?,
            status_message: named.text("status_message")?,
            trace_state: named.text("trace_state")?,
            attributes: named.text("attributes")?,
            resource: named.text("resource")?,
            events: named.text("events")?,
            links: named.text("links")?,
            rows: batch.num_rows(),
        })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The row's trace.
    pub fn trace(&self, row: usize) -> TraceId {
        TraceId::from_slice(self.traces.value(row)).unwrap_or(TraceId::ZERO)
    }

    /// The row's span.
    pub fn span(&self, row: usize) -> SpanId {
        SpanId::from_slice(self.spans.value(row)).unwrap_or(SpanId::ZERO)
    }

    /// The row's parent; `None` for a root.
    pub fn parent(&self, row: usize) -> Option<SpanId> {
        if self.parents.is_null(row) {
            return None;
        }
        SpanId::from_slice(self.parents.value(row)).filter(|parent| !parent.is_zero())
    }

    /// Its start as sent: nanoseconds since 1970, unsigned.
    pub fn start(&self, row: usize) -> u64 {
        self.starts[row] as u64
    }

    /// Its end as sent.
    pub fn end(&self, row: usize) -> u64 {
        self.start(row).wrapping_add(self.duration(row) as u64)
    }

    /// End − start in nanoseconds.
    pub fn duration(&self, row: usize) -> i64 {
        self.durations.value(row)
    }

    /// When it was received, in milliseconds since 1970.
    pub fn received_ms(&self, row: usize) -> i64 {
        self.received[row]
    }

    /// Where the row was placed: its time and hour.
    pub fn placed(&self, row: usize) -> Placed {
        place(self.start(row), self.end(row), self.received[row].saturating_mul(1_000_000))
    }

    /// SpanKind, 0 if not set.
    pub fn kind(&self, row: usize) -> i32 {
        value_or_zero(self.kinds, row)
    }

    /// StatusCode, 0 if not set.
    pub fn status(&self, row: usize) -> i32 {
        value_or_zero(self.statuses, row)
    }

    /// The promoted HTTP status.
    pub fn http_status(&self, row: usize) -> Option<i32> {
        (!self.http_statuses.is_null(row)).then(|| self.http_statuses.value(row))
    }

    /// Flags, 0 if not set.
    pub fn flags(&self, row: usize) -> u32 {
        if self.flags.is_null(row) { 0 } else { self.flags.value(row) }
    }

    /// Whether the span is an entry: of kind SERVER (2) or CONSUMER (5), or without a parent.
    pub fn is_entry(&self, row: usize) -> bool {
        matches!(self.kind(row), 2 | 5) || self.parent(row).is_none()
    }
}

/// Rows of the `entries` table.
#[derive(Clone, Copy)]
pub struct Entries<'a> {
    traces: &'a FixedSizeBinaryArray,
    spans: &'a FixedSizeBinaryArray,
    starts: &'a [i64],
    durations: &'a Int64Array,
    received: &'a [i64],
    statuses: &'a Int32Array,
    http_statuses: &'a Int32Array,
    roots: &'a BooleanArray,
    /// The handler's id.
    pub handler: Text<'a>,
    /// The handler's kind.
    pub handler_kind: Text<'a>,
    /// The handler's canonical name.
    pub handler_name: Text<'a>,
    /// `service.name`
    pub service: Text<'a>,
    /// The request's method.
    pub method: Text<'a>,
    /// The route as the framework spells it.
    pub route: Text<'a>,
    /// The path, only of entries without a route.
    pub path: Text<'a>,
    /// The span's name.
    pub span_name: Text<'a>,
    /// `error.type`
    pub error_type: Text<'a>,
    rows: usize,
}

impl<'a> Entries<'a> {
    /// The columns of `batch`.
    ///
    /// # Errors
    /// If they are not those of [`crate::table::entries::schema`].
    pub fn of(batch: &'a RecordBatch) -> Result<Self> {
        let named = Named(batch);
        Ok(Self {
            traces: named.bytes("trace_id")?,
            spans: named.bytes("span_id")?,
            starts: named.nanos("start")?,
            durations: named.longs("duration")?,
            received: named.millis("received")?,
            statuses: named.ints("status_code")?,
            http_statuses: named.ints("http_status")?,
            roots: named.bools("is_root")?,
            handler: named.text("handler")?,
            handler_kind: named.text("handler_kind")?,
            handler_name: named.text("handler_name")?,
            service: named.text("service")?,
            method: named.text("method")?,
            route: named.text("route")?,
            path: named.text("path")?,
            span_name: named.text("span_name")?,
            error_type: named.text("error_type")?,
            rows: batch.num_rows(),
        })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The row's trace.
    pub fn trace(&self, row: usize) -> TraceId {
        TraceId::from_slice(self.traces.value(row)).unwrap_or(TraceId::ZERO)
    }

    /// The row's span.
    pub fn span(&self, row: usize) -> SpanId {
        SpanId::from_slice(self.spans.value(row)).unwrap_or(SpanId::ZERO)
    }

    /// End − start in nanoseconds.
    pub fn duration(&self, row: usize) -> i64 {
        self.durations.value(row)
    }

    /// When it was received, in milliseconds since 1970.
    pub fn received_ms(&self, row: usize) -> i64 {
        self.received[row]
    }

    /// Where the row was placed: its time and hour.
    pub fn placed(&self, row: usize) -> Placed {
        let start = self.starts[row] as u64;
        place(start, start.wrapping_add(self.duration(row) as u64), self.received[row].saturating_mul(1_000_000))
    }

    /// StatusCode, 0 if not set.
    pub fn status(&self, row: usize) -> i32 {
        value_or_zero(self.statuses, row)
    }

    /// The HTTP status, if there is one.
    pub fn http_status(&self, row: usize) -> Option<i32> {
        (!self.http_statuses.is_null(row)).then(|| self.http_statuses.value(row))
    }

    /// Whether the entry's span has no parent.
    pub fn is_root(&self, row: usize) -> bool {
        self.roots.value(row)
    }

    /// Whether it counts as an error: status error, or an HTTP status of 500 and more.
    pub fn is_error(&self, row: usize) -> bool {
        self.status(row) == 2 || self.http_status(row).is_some_and(|status| (500..600).contains(&status))
    }
}

pub(super) fn value_or_zero(array: &Int32Array, row: usize) -> i32 {
    if array.is_null(row) { 0 } else { array.value(row) }
}
