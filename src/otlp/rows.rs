//! Rows of the `spans` table as they grow: one vector a column, strings that repeat interned, long texts in one buffer.
//! What many spans share (resource, scope, schema URLs) is written once and referred to.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeBinaryArray, Int32Array, Int64Array, TimestampMillisecondArray, TimestampNanosecondArray,
    UInt32Array,
};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::record_batch::RecordBatch;

use super::dictionary::{Dictionary, Interner, NONE, Texts, nulls};
use super::promote::{Found, Promoted};
use super::redact::{Redact, Redactor};

/// Rows of the `spans` table in the order in which they came, growing: the columns that every decoder writes into.
#[derive(Debug, Default)]
pub struct SpanRows {
    pub(super) redactor: Redactor,

    trace_id: Vec<[u8; 16]>,
    span_id: Vec<[u8; 8]>,
    /// All zero: none.
    parent_span_id: Vec<[u8; 8]>,
    start: Vec<i64>,
    duration: Vec<i64>,
    name: Vec<i32>,
    status_message: Vec<i32>,
    trace_state: Vec<i32>,
    kind: Vec<i32>,
    status_code: Vec<i32>,
    flags: Vec<u32>,
    dropped_attributes: Vec<u32>,
    dropped_events: Vec<u32>,
    dropped_links: Vec<u32>,
    received: Vec<i64>,
    /// The text of the span in hand stands behind the last row's.
    pub(super) attributes: Texts,
    pub(super) events: Texts,
    pub(super) links: Texts,
    promoted: Promoted,
    /// The attributes of the event or link in hand.
    pub(super) scratch: Vec<u8>,
    /// Which of `contexts` each row belongs to.
    context: Vec<u32>,

    contexts: Vec<Context>,
    resources: Shared<Resource>,
    scopes: Shared<Scope>,

    pub(super) names: Dictionary,
    pub(super) status_messages: Dictionary,
    pub(super) trace_states: Dictionary,
    pub(super) schema_urls: Dictionary,
    services: Dictionary,
    namespaces: Dictionary,
    resource_texts: Dictionary,
    entity_refs: Dictionary,
    pub(super) scope_names: Dictionary,
    pub(super) scope_versions: Dictionary,
    scope_texts: Dictionary,
}

/// A span's own fields, as sent, but for those whose text is already in [`SpanRows::attributes`], `events`, `links`.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    pub(super) parent_span_id: [u8; 8],
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) name: i32,
    pub(super) status_message: i32,
    pub(super) trace_state: i32,
    pub(super) kind: i32,
    pub(super) status_code: i32,
    pub(super) flags: u32,
    pub(super) dropped_attributes: u32,
    pub(super) dropped_events: u32,
    pub(super) dropped_links: u32,
    pub(super) found: Found,
}

impl Default for Span {
    fn default() -> Self {
        Self {
            trace_id: [0; 16],
            span_id: [0; 8],
            parent_span_id: [0; 8],
            start: 0,
            end: 0,
            name: NONE,
            status_message: NONE,
            trace_state: NONE,
            kind: 0,
            status_code: 0,
            flags: 0,
            dropped_attributes: 0,
            dropped_events: 0,
            dropped_links: 0,
            found: Found::default(),
        }
    }
}

/// What the spans of one `ScopeSpans` share. Filled when it is known: the protocol lets it come after the spans.
#[derive(Clone, Copy, Debug)]
struct Context {
    resource: u32,
    resource_schema_url: i32,
    scope: u32,
    scope_schema_url: i32,
}

impl Context {
    const UNKNOWN: Self = Self { resource: 0, resource_schema_url: NONE, scope: 0, scope_schema_url: NONE };
}

/// A resource: keys of the dictionaries.
#[derive(Clone, Copy, Debug)]
struct Resource {
    service: i32,
    namespace: i32,
    text: i32,
    entity_refs: i32,
    dropped: u32,
}

impl Default for Resource {
    fn default() -> Self {
        Self { service: NONE, namespace: NONE, text: NONE, entity_refs: NONE, dropped: 0 }
    }
}

/// A scope: keys of the dictionaries.
#[derive(Clone, Copy, Debug)]
struct Scope {
    name: i32,
    version: i32,
    text: i32,
    dropped: u32,
}

impl Default for Scope {
    fn default() -> Self {
        Self { name: NONE, version: NONE, text: NONE, dropped: 0 }
    }
}

/// Resources or scopes by number; number 0 is the one that says nothing. The bytes with which one came are remembered:
/// when they come again, and they do with every message, nothing is decoded.
#[derive(Debug)]
struct Shared<T> {
    values: Vec<T>,
    raw: Interner,
    by_raw: Vec<u32>,
}

impl<T: Default> Default for Shared<T> {
    fn default() -> Self {
        Self { values: vec![T::default()], raw: Interner::default(), by_raw: Vec::new() }
    }
}

/// A resource or scope whose bytes are new.
#[derive(Clone, Copy, Debug)]
pub(super) struct New(u32);

impl<T> Shared<T> {
    fn known(&mut self, raw: &[u8]) -> Result<u32, New> {
        // Numbers stay below 2^32: each takes bytes of an input that is far smaller.
        let (number, _) =
            self.raw.intern(raw, |_| Ok::<_, std::convert::Infallible>(())).unwrap_or_else(|no| match no {});
        match self.by_raw.get(number as usize) {
            Some(known) if *known != UNFILLED => Ok(*known),
            _ => {
                self.by_raw.resize(self.by_raw.len().max(number as usize + 1), UNFILLED);
                Err(New(number))
            }
        }
    }

    fn add(&mut self, new: New, value: T) -> u32 {
        let number = self.values.len() as u32;
        self.values.push(value);
        self.by_raw[new.0 as usize] = number;
        number
    }

    fn memory_bytes(&self) -> usize {
        self.values.capacity() * size_of::<T>() + self.raw.memory_bytes() + self.by_raw.capacity() * 4
    }
}

/// Bytes that were seen but could not be read.
const UNFILLED: u32 = u32::MAX;

/// How far the rows were filled: to forget what came after.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    rows: usize,
}

impl SpanRows {
    /// No rows yet. `redact` says which attributes lose their values before anything is stored.
    pub fn new(redact: Redact) -> Self {
        Self { redactor: Redactor::new(redact), ..Self::default() }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.trace_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how much memory they take.
    pub fn memory_bytes(&self) -> usize {
        // The columns of fixed width are 32 (ids) + 24 (times) + 11 × 4 bytes a row.
        let fixed = self.trace_id.capacity() * (32 + 24 + 11 * 4);
        let texts = self.attributes.memory_bytes() + self.events.memory_bytes() + self.links.memory_bytes();
        let dictionaries: usize = self.dictionaries().iter().map(|dictionary| dictionary.memory_bytes()).sum();
        let shared = self.contexts.capacity() * size_of::<Context>()
            + self.resources.memory_bytes()
            + self.scopes.memory_bytes();
        fixed + texts + dictionaries + shared + self.promoted.memory_bytes()
    }

    fn dictionaries(&self) -> [&Dictionary; 11] {
        [
            &self.names,
            &self.status_messages,
            &self.trace_states,
            &self.schema_urls,
            &self.services,
            &self.namespaces,
            &self.resource_texts,
            &self.entity_refs,
            &self.scope_names,
            &self.scope_versions,
            &self.scope_texts,
        ]
    }

    /// How long the longest text is that Arrow addresses with 31 bits.
    pub(super) fn longest_text(&self) -> usize {
        let dictionaries = self.dictionaries().map(Dictionary::text_bytes).into_iter();
        let texts = [&self.attributes, &self.events, &self.links].map(|texts| texts.bytes.len());
        dictionaries.chain(texts).max().unwrap_or(0)
    }

    /// A new `ScopeSpans` begins: what its spans refer to.
    pub(super) fn begin_context(&mut self) -> u32 {
        self.contexts.push(Context::UNKNOWN);
        self.contexts.len() as u32 - 1
    }

    /// How many contexts there are: the next one's number.
    pub(super) fn contexts(&self) -> u32 {
        self.contexts.len() as u32
    }

    /// The scope of one context is known.
    pub(super) fn set_scope(&mut self, context: u32, scope: u32, schema_url: i32) {
        let context = &mut self.contexts[context as usize];
        context.scope = scope;
        context.scope_schema_url = schema_url;
    }

    /// The resource of all contexts from `first` on is known.
    pub(super) fn set_resource(&mut self, first: u32, resource: u32, schema_url: i32) {
        for context in &mut self.contexts[first as usize..] {
            context.resource = resource;
            context.resource_schema_url = schema_url;
        }
    }

    /// The number of the resource that came as these bytes before.
    pub(super) fn known_resource(&mut self, raw: &[u8]) -> Result<u32, New> {
        self.resources.known(raw)
    }

    /// A resource, read: typed JSON of its attributes and entities (empty if none), its dropped count.
    pub(super) fn add_resource(&mut self, new: New, attributes: &Attributes, entity_refs: &[u8], dropped: u32) -> u32 {
        let resource = Resource {
            service: key(&mut self.services, attributes.service()),
            namespace: key(&mut self.namespaces, attributes.namespace()),
            text: key(&mut self.resource_texts, attributes.text()),
            entity_refs: key(&mut self.entity_refs, entity_refs),
            dropped,
        };
        self.resources.add(new, resource)
    }

    /// The number of the scope that came as these bytes before.
    pub(super) fn known_scope(&mut self, raw: &[u8]) -> Result<u32, New> {
        self.scopes.known(raw)
    }

    /// A scope, read.
    pub(super) fn add_scope(
        &mut self,
        new: New,
        name: i32,
        version: i32,
        attributes: &Attributes,
        dropped: u32,
    ) -> u32 {
        let text = key(&mut self.scope_texts, attributes.text());
        self.scopes.add(new, Scope { name, version, text, dropped })
    }

    /// A span begins: nothing of the one before that failed is left.
    pub(super) fn begin_span(&mut self) {
        let rows = self.len();
        self.attributes.truncate(rows);
        self.events.truncate(rows);
        self.links.truncate(rows);
    }

    /// The span in hand is a row.
    pub(super) fn commit(&mut self, span: &Span, context: u32, received_ms: i64) {
        self.trace_id.push(span.trace_id);
        self.span_id.push(span.span_id);
        self.parent_span_id.push(span.parent_span_id);
        self.start.push(span.start as i64);
        self.duration.push(span.end.wrapping_sub(span.start) as i64);
        self.name.push(span.name);
        self.status_message.push(span.status_message);
        self.trace_state.push(span.trace_state);
        self.kind.push(span.kind);
        self.status_code.push(span.status_code);
        self.flags.push(span.flags);
        self.dropped_attributes.push(span.dropped_attributes);
        self.dropped_events.push(span.dropped_events);
        self.dropped_links.push(span.dropped_links);
        self.received.push(received_ms);
        self.promoted.push(&span.found, &self.attributes.bytes);
        self.attributes.commit();
        self.events.commit();
        self.links.commit();
        self.context.push(context);
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { rows: self.len() }
    }

    /// How many rows came after `mark`.
    pub(super) fn since(&self, mark: Mark) -> usize {
        self.len() - mark.rows
    }

    /// Forgets all rows after `mark`. What they interned stays, unused.
    pub(super) fn rollback(&mut self, mark: Mark) {
        let rows = mark.rows;
        self.trace_id.truncate(rows);
        self.span_id.truncate(rows);
        self.parent_span_id.truncate(rows);
        self.start.truncate(rows);
        self.duration.truncate(rows);
        for column in
            [&mut self.name, &mut self.status_message, &mut self.trace_state, &mut self.kind, &mut self.status_code]
        {
            column.truncate(rows);
        }
        for column in [&mut self.flags, &mut self.dropped_attributes, &mut self.dropped_events, &mut self.dropped_links]
        {
            column.truncate(rows);
        }
        self.received.truncate(rows);
        self.promoted.truncate(rows);
        self.attributes.truncate(rows);
        self.events.truncate(rows);
        self.links.truncate(rows);
        self.context.truncate(rows);
    }

    /// The rows as one batch of [`crate::table::spans::schema`], not sorted; leaves none behind.
    pub fn finish(&mut self) -> RecordBatch {
        let redactor = std::mem::take(&mut self.redactor);
        let mut rows = std::mem::replace(self, Self { redactor, ..Self::default() });
        let columns = rows.columns();
        #[expect(clippy::expect_used, reason = "every column is as long as the others and of the schema's type")]
        RecordBatch::try_new(crate::table::spans::schema(), columns).expect("the columns are the schema's")
    }

    /// In the order of the schema.
    fn columns(&mut self) -> Vec<ArrayRef> {
        use std::mem::take;

        let contexts: Vec<Context> = self.context.iter().map(|number| self.contexts[*number as usize]).collect();
        let (resources, scopes) = (&self.resources.values, &self.scopes.values);
        let resource =
            |get: fn(&Resource) -> i32| contexts.iter().map(move |context| get(&resources[context.resource as usize]));
        let scope = |get: fn(&Scope) -> i32| contexts.iter().map(move |context| get(&scopes[context.scope as usize]));
        let resource_dropped = contexts.iter().map(|context| resources[context.resource as usize].dropped);
        let scope_dropped = contexts.iter().map(|context| scopes[context.scope as usize].dropped);
        let has_parent = nulls(self.parent_span_id.len(), |row| self.parent_span_id[row] != [0; 8]);
        let schema_keys: Vec<i32> = contexts
            .iter()
            .map(|context| context.resource_schema_url)
            .chain(contexts.iter().map(|context| context.scope_schema_url))
            .collect();
        let schema_urls = self.schema_urls.column(schema_keys.into_iter());
        vec![
            binary(take(&mut self.trace_id), None),
            binary(take(&mut self.span_id), None),
            binary(take(&mut self.parent_span_id), has_parent),
            Arc::new(TimestampNanosecondArray::from(take(&mut self.start)).with_timezone("UTC")),
            Arc::new(Int64Array::from(take(&mut self.duration))),
            self.services.column(resource(|resource| resource.service)),
            self.namespaces.column(resource(|resource| resource.namespace)),
            self.scope_names.column(scope(|scope| scope.name)),
            self.scope_versions.column(scope(|scope| scope.version)),
            self.names.column(take(&mut self.name).into_iter()),
            signed(take(&mut self.kind)),
            signed(take(&mut self.status_code)),
            self.status_messages.column(take(&mut self.status_message).into_iter()),
            self.trace_states.column(take(&mut self.trace_state).into_iter()),
            unsigned(take(&mut self.flags)),
            unsigned(take(&mut self.dropped_attributes)),
            unsigned(take(&mut self.dropped_events)),
            unsigned(take(&mut self.dropped_links)),
            unsigned(resource_dropped.collect()),
            unsigned(scope_dropped.collect()),
            schema_urls.slice(0, contexts.len()),
            schema_urls.slice(contexts.len(), contexts.len()),
            self.promoted.http_method.finish(),
            self.promoted.http_route.finish(),
            Arc::new(Int32Array::from(take(&mut self.promoted.http_status))),
            self.promoted.rpc_method.finish(),
            self.promoted.db_system.finish(),
            self.promoted.error_type.finish(),
            self.attributes.column(),
            self.scope_texts.column(scope(|scope| scope.text)),
            self.resource_texts.column(resource(|resource| resource.text)),
            self.entity_refs.column(resource(|resource| resource.entity_refs)),
            self.events.column(),
            self.links.column(),
            Arc::new(TimestampMillisecondArray::from(take(&mut self.received)).with_timezone("UTC")),
        ]
    }
}

/// The attributes of a resource or scope while they are read: their text, and the two that have columns.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    pub(super) out: Vec<u8>,
    service: Option<(u32, u32)>,
    namespace: Option<(u32, u32)>,
}

impl Attributes {
    /// An attribute's value was written to `start..end`.
    pub(super) fn attribute(&mut self, key: &[u8], start: usize, end: usize) {
        let slot = match key {
            b"service.name" => &mut self.service,
            b"service.namespace" => &mut self.namespace,
            _ => return,
        };
        slot.get_or_insert((start as u32, end as u32));
    }

    fn text(&self) -> &[u8] {
        &self.out
    }

    fn service(&self) -> std::borrow::Cow<'_, [u8]> {
        self.service.and_then(|range| super::promote::text(&self.out, range)).unwrap_or_default()
    }

    fn namespace(&self) -> std::borrow::Cow<'_, [u8]> {
        self.namespace.and_then(|range| super::promote::text(&self.out, range)).unwrap_or_default()
    }
}

/// The key of text that was checked when it was written.
fn key(dictionary: &mut Dictionary, text: impl AsRef<[u8]>) -> i32 {
    let key = dictionary.key(text.as_ref());
    debug_assert!(key.is_ok(), "what we write is UTF-8");
    key.unwrap_or(NONE)
}

fn binary<const N: usize>(ids: Vec<[u8; N]>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(FixedSizeBinaryArray::new(N as i32, Buffer::from_vec(ids.into_flattened()), nulls))
}

/// Zero is null.
fn signed(values: Vec<i32>) -> ArrayRef {
    let nulls = nulls(values.len(), |row| values[row] != 0);
    Arc::new(Int32Array::new(values.into(), nulls))
}

/// Zero is null.
fn unsigned(values: Vec<u32>) -> ArrayRef {
    let nulls = nulls(values.len(), |row| values[row] != 0);
    Arc::new(UInt32Array::new(values.into(), nulls))
}
