//! Rows → OTLP/JSON, as the specification writes it: ids in hex, 64-bit integers as strings, enums as numbers, what is
//! empty left out (but for the value of an attribute that was never set: `"value":{}`).
//!
//! Source: <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>.

use std::borrow::Cow;
use std::collections::HashMap;

use arrow::array::{
    Array, AsArray, FixedSizeBinaryArray, PrimitiveArray, RecordBatch, StringArray, TypedDictionaryArray,
};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Int32Type, Int64Type, TimestampNanosecondType, UInt32Type};

use super::typed_json::{self, Attributes, Value, write};
use crate::error::{Report, Result, ResultExt, report};

/// The spans of `rows` (batches of [`crate::table::spans::schema`], any order) as one OTLP/JSON `TracesData` document.
/// Equal resources and scopes are written once. Lossless for everything the protocol carries.
///
/// # Errors
/// If a column is not what the schema says, or holds text that is not typed JSON: the block was not written by us.
pub fn traces_data(rows: &[RecordBatch]) -> Result<String> {
    let batches = rows.iter().map(Columns::new).collect::<Result<Vec<_>>>()?;
    let mut out = Vec::with_capacity(1 << 16);
    out.extend_from_slice(b"{\"resourceSpans\":[");
    for (at, group) in grouped(&batches).iter().enumerate() {
        separate(&mut out, at);
        resource_spans(&mut out, &batches, group).context("write OTLP/JSON")?;
    }
    out.extend_from_slice(b"]}");
    String::from_utf8(out).map_err(|error| report!(error).into_dynamic())
}

/// The order in which [`traces_data`] writes the same `rows`: which batch, which row of it. Whoever keeps something
/// beside the document for each span goes by it.
///
/// # Errors
/// As [`traces_data`].
pub fn document_order(rows: &[RecordBatch]) -> Result<Vec<(usize, usize)>> {
    let batches = rows.iter().map(Columns::new).collect::<Result<Vec<_>>>()?;
    Ok(grouped(&batches).into_iter().flatten().flatten().collect())
}

/// A row: which batch, which row of it.
type Row = (usize, usize);

/// The rows of one resource by scope; of each the first row tells what they share.
type Group = Vec<Vec<Row>>;

/// Rows by resource and scope, in the order in which these first come.
fn grouped(batches: &[Columns<'_>]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut resources = HashMap::with_hasher(foldhash::fast::RandomState::default());
    let mut scopes = HashMap::with_hasher(foldhash::fast::RandomState::default());
    for (number, batch) in batches.iter().enumerate() {
        for row in 0..batch.trace_id.len() {
            let resource = *resources.entry(batch.resource_key(row)).or_insert_with(|| {
                groups.push(Group::new());
                groups.len() - 1
            });
            let group = &mut groups[resource];
            let scope = *scopes.entry((resource, batch.scope_key(row))).or_insert_with(|| {
                group.push(Vec::new());
                group.len() - 1
            });
            group[scope].push((number, row));
        }
    }
    groups
}

fn resource_spans(out: &mut Vec<u8>, batches: &[Columns<'_>], group: &Group) -> Result<()> {
    let (batch, row) = group.first().and_then(|rows| rows.first()).map_or((0, 0), |row| *row);
    let first = &batches[batch];
    let mut object = Object::begin(out);
    let mut resource = Object::begin(object.field("resource"));
    resource.attributes(first.resource.get(row))?;
    resource.count("droppedAttributesCount", first.resource_dropped.value_or_zero(row));
    let entities = typed_json::entity_refs(or_empty_array(first.entity_refs.get(row)))?;
    resource.array("entityRefs", &entities, |out, entity| {
        let mut object = Object::begin(out);
        write::text(object.field("schemaUrl"), &entity.schema_url);
        write::text(object.field("type"), &entity.kind);
        texts(object.field("idKeys"), &entity.id_keys);
        texts(object.field("descriptionKeys"), &entity.description_keys);
        object.end();
    });
    resource.end();
    let out = object.field("scopeSpans");
    out.push(b'[');
    for (at, rows) in group.iter().enumerate() {
        separate(out, at);
        scope_spans(out, batches, rows)?;
    }
    out.push(b']');
    object.text("schemaUrl", first.resource_schema_url.get(row));
    object.end();
    Ok(())
}

fn scope_spans(out: &mut Vec<u8>, batches: &[Columns<'_>], rows: &[Row]) -> Result<()> {
    let (batch, row) = rows[0];
    let first = &batches[batch];
    let mut object = Object::begin(out);
    let mut scope = Object::begin(object.field("scope"));
    scope.text("name", first.scope.get(row));
    scope.text("version", first.scope_version.get(row));
    scope.attributes(first.scope_attributes.get(row))?;
    scope.count("droppedAttributesCount", first.scope_dropped.value_or_zero(row));
    scope.end();
    let out = object.field("spans");
    out.push(b'[');
    for (at, (batch, row)) in rows.iter().enumerate() {
        separate(out, at);
        span(out, &batches[*batch], *row)?;
    }
    out.push(b']');
    object.text("schemaUrl", first.scope_schema_url.get(row));
    object.end();
    Ok(())
}

fn span(out: &mut Vec<u8>, batch: &Columns<'_>, row: usize) -> Result<()> {
    let start = batch.start.value(row) as u64;
    let mut object = Object::begin(out);
    object.hex("traceId", batch.trace_id.value(row));
    object.hex("spanId", batch.span_id.value(row));
    object.text("traceState", batch.trace_state.get(row));
    if batch.parent_span_id.is_valid(row) {
        object.hex("parentSpanId", batch.parent_span_id.value(row));
    }
    object.count("flags", batch.flags.value_or_zero(row));
    object.text("name", batch.name.get(row));
    object.number("kind", batch.kind.value_or_zero(row));
    object.long("startTimeUnixNano", start);
    object.long("endTimeUnixNano", start.wrapping_add(batch.duration.value(row) as u64));
    object.attributes(batch.attributes.get(row))?;
    object.count("droppedAttributesCount", batch.dropped_attributes.value_or_zero(row));
    let events = typed_json::events(or_empty_array(batch.events.get(row)))?;
    object.array("events", &events, |out, event| {
        let mut object = Object::begin(out);
        object.long("timeUnixNano", event.time);
        object.text("name", &event.name);
        object.pairs("attributes", &event.attributes);
        object.count("droppedAttributesCount", event.dropped);
        object.end();
    });
    object.count("droppedEventsCount", batch.dropped_events.value_or_zero(row));
    let links = typed_json::links(or_empty_array(batch.links.get(row)))?;
    object.array("links", &links, |out, link| {
        let mut object = Object::begin(out);
        object.text("traceId", &link.trace_id);
        object.text("spanId", &link.span_id);
        object.text("traceState", &link.trace_state);
        object.pairs("attributes", &link.attributes);
        object.count("droppedAttributesCount", link.dropped);
        object.count("flags", link.flags);
        object.end();
    });
    object.count("droppedLinksCount", batch.dropped_links.value_or_zero(row));
    let (code, message) = (batch.status_code.value_or_zero(row), batch.status_message.get(row));
    if code != 0 || !message.is_empty() {
        let mut status = Object::begin(object.field("status"));
        status.text("message", message);
        status.number("code", code);
        status.end();
    }
    object.end();
    Ok(())
}

/// A JSON object whose zero and empty fields are left out.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    first: bool,
}

impl<'o> Object<'o> {
    fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    fn field(&mut self, name: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    fn text(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            write::text(self.field(name), text);
        }
    }

    fn hex(&mut self, name: &str, bytes: &[u8]) {
        let out = self.field(name);
        out.push(b'"');
        write::hex(out, bytes);
        out.push(b'"');
    }

    fn number(&mut self, name: &str, number: i32) {
        if number != 0 {
            write::int(self.field(name), i64::from(number));
        }
    }

    fn count(&mut self, name: &str, count: u32) {
        if count != 0 {
            write::unsigned(self.field(name), u64::from(count));
        }
    }

    /// 64 bits are strings in OTLP/JSON.
    fn long(&mut self, name: &str, number: u64) {
        if number != 0 {
            let out = self.field(name);
            out.push(b'"');
            write::unsigned(out, number);
            out.push(b'"');
        }
    }

    fn array<T>(&mut self, name: &str, values: &[T], mut element: impl FnMut(&mut Vec<u8>, &T)) {
        if values.is_empty() {
            return;
        }
        let out = self.field(name);
        out.push(b'[');
        for (at, value) in values.iter().enumerate() {
            separate(out, at);
            element(out, value);
        }
        out.push(b']');
    }

    /// Attributes from their typed JSON, which is empty if there are none.
    fn attributes(&mut self, text: &str) -> Result<()> {
        if !text.is_empty() {
            self.pairs("attributes", &typed_json::attributes(text)?);
        }
        Ok(())
    }

    fn pairs(&mut self, name: &str, pairs: &Attributes<'_>) {
        self.array(name, pairs, pair);
    }

    fn end(self) {
        self.out.push(b'}');
    }
}

fn pair(out: &mut Vec<u8>, (key, value): &(Cow<'_, str>, Value<'_>)) {
    out.extend_from_slice(b"{\"key\":");
    write::text(out, key);
    out.extend_from_slice(b",\"value\":");
    any_value(out, value);
    out.push(b'}');
}

fn any_value(out: &mut Vec<u8>, value: &Value<'_>) {
    let mut object = Object::begin(out);
    match value {
        Value::String(text) => write::text(object.field("stringValue"), text),
        Value::Bool(true) => object.field("boolValue").extend_from_slice(b"true"),
        Value::Bool(false) => object.field("boolValue").extend_from_slice(b"false"),
        Value::Int(number) => {
            let out = object.field("intValue");
            out.push(b'"');
            write::int(out, *number);
            out.push(b'"');
        }
        Value::Double(number) if number.is_finite() => write::double(object.field("doubleValue"), *number),
        Value::Double(number) => write::text(object.field("doubleValue"), write::not_finite(*number)),
        Value::Bytes(bytes) => {
            let out = object.field("bytesValue");
            out.push(b'"');
            write::base64(out, bytes);
            out.push(b'"');
        }
        Value::Array(values) => {
            let out = object.field("arrayValue");
            out.extend_from_slice(b"{\"values\":[");
            for (at, value) in values.iter().enumerate() {
                separate(out, at);
                any_value(out, value);
            }
            out.extend_from_slice(b"]}");
        }
        Value::List(pairs) => {
            let out = object.field("kvlistValue");
            out.extend_from_slice(b"{\"values\":[");
            for (at, one) in pairs.iter().enumerate() {
                separate(out, at);
                pair(out, one);
            }
            out.extend_from_slice(b"]}");
        }
        Value::None => {}
    }
    object.end();
}

fn texts(out: &mut Vec<u8>, texts: &[Cow<'_, str>]) {
    out.push(b'[');
    for (at, text) in texts.iter().enumerate() {
        separate(out, at);
        write::text(out, text);
    }
    out.push(b']');
}

fn separate(out: &mut Vec<u8>, at: usize) {
    if at > 0 {
        out.push(b',');
    }
}

fn or_empty_array(text: &str) -> &str {
    if text.is_empty() { "[]" } else { text }
}

/// The columns of one batch.
struct Columns<'a> {
    trace_id: &'a FixedSizeBinaryArray,
    span_id: &'a FixedSizeBinaryArray,
    parent_span_id: &'a FixedSizeBinaryArray,
    start: &'a PrimitiveArray<TimestampNanosecondType>,
    duration: &'a PrimitiveArray<Int64Type>,
    kind: &'a PrimitiveArray<Int32Type>,
    status_code: &'a PrimitiveArray<Int32Type>,
    flags: &'a PrimitiveArray<UInt32Type>,
    dropped_attributes: &'a PrimitiveArray<UInt32Type>,
    dropped_events: &'a PrimitiveArray<UInt32Type>,
    dropped_links: &'a PrimitiveArray<UInt32Type>,
    resource_dropped: &'a PrimitiveArray<UInt32Type>,
    scope_dropped: &'a PrimitiveArray<UInt32Type>,
    name: Text<'a>,
    status_message: Text<'a>,
    trace_state: Text<'a>,
    scope: Text<'a>,
    scope_version: Text<'a>,
    scope_attributes: Text<'a>,
    scope_schema_url: Text<'a>,
    resource: Text<'a>,
    entity_refs: Text<'a>,
    resource_schema_url: Text<'a>,
    attributes: Text<'a>,
    events: Text<'a>,
    links: Text<'a>,
}

/// A text column, as a dictionary or plain. Null is empty.
enum Text<'a> {
    Dictionary(TypedDictionaryArray<'a, Int32Type, StringArray>),
    Plain(&'a StringArray),
}

impl<'a> Text<'a> {
    fn get(&self, row: usize) -> &'a str {
        match self {
            Self::Dictionary(array) => match array.keys().is_valid(row) {
                true => array.values().value(array.keys().value(row) as usize),
                false => "",
            },
            Self::Plain(array) if array.is_valid(row) => array.value(row),
            Self::Plain(_) => "",
        }
    }
}

trait ValueOrZero<T> {
    /// Null is zero.
    fn value_or_zero(&self, row: usize) -> T;
}

impl<P: ArrowPrimitiveType> ValueOrZero<P::Native> for PrimitiveArray<P> {
    fn value_or_zero(&self, row: usize) -> P::Native {
        if self.is_valid(row) { self.value(row) } else { P::default_value() }
    }
}

impl<'a> Columns<'a> {
    fn new(batch: &'a RecordBatch) -> Result<Self> {
        let column =
            |name: &str| batch.column_by_name(name).ok_or_else(|| report!("no column `{name}` in a batch of spans"));
        let wrong = |name: &str, data_type: &DataType| -> Report {
            report!("the column `{name}` of a batch of spans is of type {data_type}").into_dynamic()
        };
        let binary = |name: &str| {
            let column = column(name)?;
            column.as_fixed_size_binary_opt().ok_or_else(|| wrong(name, column.data_type()))
        };
        let text = |name: &str| {
            let column = column(name)?;
            if let Some(plain) = column.as_string_opt() {
                return Ok(Text::Plain(plain));
            }
            let dictionary = column.as_dictionary_opt::<Int32Type>().and_then(|array| array.downcast_dict());
            dictionary.map(Text::Dictionary).ok_or_else(|| wrong(name, column.data_type()))
        };
        fn number<'a, P: ArrowPrimitiveType>(batch: &'a RecordBatch, name: &str) -> Result<&'a PrimitiveArray<P>> {
            let array = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<P>());
            array.ok_or_else(|| {
                report!("no column `{name}` of type {} in a batch of spans", P::DATA_TYPE).into_dynamic()
            })
        }
        Ok(Self {
            trace_id: binary("trace_id")?,
            span_id: binary("span_id")?,
            parent_span_id: binary("parent_span_id")?,
            start: number(batch, "start")?,
            duration: number(batch, "duration")?,
            kind: number(batch, "kind")?,
            status_code: number(batch, "status_code")?,
            flags: number(batch, "flags")?,
            dropped_attributes: number(batch, "dropped_attributes")?,
            dropped_events: number(batch, "dropped_events")?,
            dropped_links: number(batch, "dropped_links")?,
            resource_dropped: number(batch, "resource_dropped_attributes")?,
            scope_dropped: number(batch, "scope_dropped_attributes")?,
            name: text("name")?,
            status_message: text("status_message")?,
            trace_state: text("trace_state")?,
            scope: text("scope")?,
            scope_version: text("scope_version")?,
            scope_attributes: text("scope_attributes")?,
            scope_schema_url: text("scope_schema_url")?,
            resource: text("resource")?,
            entity_refs: text("entity_refs")?,
            resource_schema_url: text("resource_schema_url")?,
            attributes: text("attributes")?,
            events: text("events")?,
            links: text("links")?,
        })
    }

    fn resource_key(&self, row: usize) -> (&'a str, &'a str, u32, &'a str) {
        let dropped = self.resource_dropped.value_or_zero(row);
        (self.resource.get(row), self.entity_refs.get(row), dropped, self.resource_schema_url.get(row))
    }

    fn scope_key(&self, row: usize) -> (&'a str, &'a str, &'a str, u32, &'a str) {
        let (name, version) = (self.scope.get(row), self.scope_version.get(row));
        let dropped = self.scope_dropped.value_or_zero(row);
        (name, version, self.scope_attributes.get(row), dropped, self.scope_schema_url.get(row))
    }
}
