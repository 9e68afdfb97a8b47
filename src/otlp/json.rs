//! OTLP/JSON straight into columns: values are pulled one by one, no tree is built.
//!
//! As the protocol's JSON mapping has it: ids in hex (either case), 64-bit integers as strings or numbers, enums as
//! numbers, unknown fields ignored. Beyond it, what real writers sent: names of enums, `null` for anything, doubles in
//! strings, `snake_case` names, `instrumentationLibrarySpans` (before 2022), any order of fields. Of a field given
//! twice the last counts; an array given twice is one behind the other.

mod attributes;
mod cursor;

use super::bad::{Problem, Read, problem, reason};
use super::dictionary::{Dictionary, NONE};
use super::elements::{self, Event, Link};
use super::rows::{Attributes, Span, SpanRows};
use super::sink::{Place, Sink};
use cursor::Cursor;

/// Reads the document that begins with `text`; how many bytes it takes, none if its end cannot be told. What cannot
/// be read is noted; what can be is kept. A document may end too early: what stands before its end is read.
pub(super) fn document(sink: &mut Sink<'_>, place: Place, text: &[u8]) -> Option<usize> {
    let mut cursor = Cursor::new(text);
    let mut walker = Walker { sink, place, broken: false };
    let result = walker.document(&mut cursor);
    walker.or_resync(&mut cursor, 0, "", result).ok().map(|()| cursor.at())
}

/// Which signal other than traces a document's key stands for.
fn other_signal(key: &str) -> Option<&'static str> {
    match key {
        "resourceMetrics" | "resource_metrics" => Some("metrics"),
        "resourceLogs" | "resource_logs" => Some("logs"),
        "resourceProfiles" | "resource_profiles" => Some("profiles"),
        _ => None,
    }
}

struct Walker<'s, 'r> {
    sink: &'s mut Sink<'r>,
    place: Place,
    /// The brackets no longer match, or the text is at its end: this is noted, and nothing can be read any more.
    broken: bool,
}

enum Document {
    ResourceSpans,
    Other(&'static str),
    Unknown(String),
}

enum ResourceSpans {
    Resource,
    ScopeSpans,
    SchemaUrl,
    Unknown,
}

enum ScopeSpans {
    Scope,
    Spans,
    SchemaUrl,
    Unknown,
}

enum Field {
    TraceId,
    SpanId,
    TraceState,
    ParentSpanId,
    Name,
    Kind,
    Start,
    End,
    Attributes,
    DroppedAttributes,
    Events,
    DroppedEvents,
    Links,
    DroppedLinks,
    Status,
    Flags,
    Time,
    Code,
    Message,
    Version,
    EntityRefs,
    SchemaUrl,
    Type,
    IdKeys,
    DescriptionKeys,
    Unknown,
}

/// The fields of spans and of what they hold.
fn field(key: &str) -> Field {
    match key {
        "traceId" | "trace_id" => Field::TraceId,
        "spanId" | "span_id" => Field::SpanId,
        "parentSpanId" | "parent_span_id" => Field::ParentSpanId,
        "name" => Field::Name,
        "kind" => Field::Kind,
        "startTimeUnixNano" | "start_time_unix_nano" => Field::Start,
        "endTimeUnixNano" | "end_time_unix_nano" => Field::End,
        "attributes" => Field::Attributes,
        "status" => Field::Status,
        "code" => Field::Code,
        "message" => Field::Message,
        "events" => Field::Events,
        "links" => Field::Links,
        "flags" => Field::Flags,
        "timeUnixNano" | "time_unix_nano" => Field::Time,
        "traceState" | "trace_state" => Field::TraceState,
        "droppedAttributesCount" | "dropped_attributes_count" => Field::DroppedAttributes,
        "droppedEventsCount" | "dropped_events_count" => Field::DroppedEvents,
        "droppedLinksCount" | "dropped_links_count" => Field::DroppedLinks,
        "version" => Field::Version,
        "entityRefs" | "entity_refs" => Field::EntityRefs,
        "schemaUrl" | "schema_url" => Field::SchemaUrl,
        "type" => Field::Type,
        "idKeys" | "id_keys" => Field::IdKeys,
        "descriptionKeys" | "description_keys" => Field::DescriptionKeys,
        _ => Field::Unknown,
    }
}

impl Walker<'_, '_> {
    fn document(&mut self, cursor: &mut Cursor<'_>) -> Read<()> {
        let name = |key: &str| match key {
            "resourceSpans" | "resource_spans" => Document::ResourceSpans,
            key => other_signal(key).map_or_else(|| Document::Unknown(key.chars().take(40).collect()), Document::Other),
        };
        let (mut traces, mut other, mut unknown) = (false, None, None);
        cursor.object(name, |cursor, key| match key {
            Document::ResourceSpans => {
                traces = true;
                cursor.array(|cursor| {
                    self.place = Place { resource: self.place.resource + 1, scope: 0, span: 0, ..self.place };
                    self.resource_spans(cursor)
                })
            }
            Document::Other(signal) => {
                other = Some(signal);
                cursor.skip().map(|_| ())
            }
            Document::Unknown(key) => {
                unknown.get_or_insert(key);
                cursor.skip().map(|_| ())
            }
        })?;
        self.place = Place { resource: 0, scope: 0, span: 0, ..self.place };
        // Whose keys are all unknown is somebody else's document: it must not vanish as one without spans.
        let message = match (traces, other, unknown) {
            (_, Some(signal), _) => {
                format!("these are {signal}, not traces: give the pipeline of traces a prefix of its own")
            }
            (false, None, Some(key)) => format!("JSON without `resourceSpans`; its first key is `{key}`"),
            _ => return Ok(()),
        };
        self.note(&problem(reason::NOT_TRACES, 0, message));
        Ok(())
    }

    fn resource_spans(&mut self, cursor: &mut Cursor<'_>) -> Read<()> {
        let name = |key: &str| match key {
            "resource" => ResourceSpans::Resource,
            "scopeSpans" | "scope_spans" => ResourceSpans::ScopeSpans,
            "instrumentationLibrarySpans" | "instrumentation_library_spans" => ResourceSpans::ScopeSpans,
            "schemaUrl" | "schema_url" => ResourceSpans::SchemaUrl,
            _ => ResourceSpans::Unknown,
        };
        cursor.peek()?;
        let start = cursor.at();
        let mark = self.sink.rows.mark();
        let first = self.sink.rows.contexts();
        let (mut resource, mut schema_url, mut unreadable) = (0, NONE, false);
        let result = cursor.object(name, |cursor, key| {
            match key {
                ResourceSpans::Resource => {
                    resource = self.resource(cursor).inspect_err(|_| unreadable = true)?;
                }
                ResourceSpans::ScopeSpans => cursor.array(|cursor| {
                    self.place = Place { scope: self.place.scope + 1, span: 0, ..self.place };
                    self.scope_spans(cursor)
                })?,
                ResourceSpans::SchemaUrl => schema_url = self.schema_url(cursor)?,
                ResourceSpans::Unknown => {
                    cursor.skip()?;
                }
            }
            Ok(())
        });
        self.sink.rows.set_resource(first, resource, schema_url);
        if unreadable {
            // Without their resource nobody could tell whose spans these are.
            self.sink.rows.rollback(mark);
        }
        let what = if unreadable { "the resource cannot be read: " } else { "" };
        self.or_resync(cursor, start, what, result)
    }

    fn scope_spans(&mut self, cursor: &mut Cursor<'_>) -> Read<()> {
        let name = |key: &str| match key {
            "scope" | "instrumentationLibrary" | "instrumentation_library" => ScopeSpans::Scope,
            "spans" => ScopeSpans::Spans,
            "schemaUrl" | "schema_url" => ScopeSpans::SchemaUrl,
            _ => ScopeSpans::Unknown,
        };
        cursor.peek()?;
        let start = cursor.at();
        let mark = self.sink.rows.mark();
        let context = self.sink.rows.begin_context();
        let (mut scope, mut schema_url, mut unreadable) = (0, NONE, false);
        let result = cursor.object(name, |cursor, key| {
            match key {
                ScopeSpans::Scope => scope = self.scope(cursor).inspect_err(|_| unreadable = true)?,
                ScopeSpans::Spans => cursor.array(|cursor| {
                    self.place.span += 1;
                    cursor.peek()?;
                    let start = cursor.at();
                    let result = self.span(cursor, context);
                    self.or_resync(cursor, start, "", result)
                })?,
                ScopeSpans::SchemaUrl => schema_url = self.schema_url(cursor)?,
                ScopeSpans::Unknown => {
                    cursor.skip()?;
                }
            }
            Ok(())
        });
        self.sink.rows.set_scope(context, scope, schema_url);
        if unreadable {
            self.sink.rows.rollback(mark);
        }
        self.place.span = 0;
        let what = if unreadable { "the scope cannot be read: " } else { "" };
        self.or_resync(cursor, start, what, result)
    }

    fn span(&mut self, cursor: &mut Cursor<'_>, context: u32) -> Read<()> {
        if cursor.null()? {
            return Ok(());
        }
        let depth = self.sink.depth;
        let rows = &mut *self.sink.rows;
        rows.begin_span();
        let start = cursor.at();
        let mut span = Span::default();
        let (mut trace_id, mut span_id) = (None, None);
        let mut redacted = 0;
        let attributes = rows.attributes.mark();
        cursor.object(field, |cursor, key| {
            match key {
                Field::TraceId => trace_id = id(cursor, "trace id")?,
                Field::SpanId => span_id = id(cursor, "span id")?,
                Field::ParentSpanId => span.parent_span_id = id(cursor, "parent's span id")?.unwrap_or_default(),
                Field::TraceState => span.trace_state = key_of(&mut rows.trace_states, cursor.string()?),
                Field::Name => span.name = key_of(&mut rows.names, cursor.string()?),
                Field::Kind => span.kind = enumeration(cursor, kind)?,
                Field::Start => span.start = cursor.integer()?,
                Field::End => span.end = cursor.integer()?,
                Field::Attributes => {
                    let out = &mut rows.attributes.bytes;
                    let found = |key: &[u8], start, end| span.found.attribute(key, start, end);
                    redacted += attributes::attributes(cursor, out, attributes, &mut rows.redactor, depth, found)?;
                }
                Field::DroppedAttributes => span.dropped_attributes = cursor.integer()?,
                Field::Events => cursor.array(|cursor| event(rows, cursor, depth))?,
                Field::DroppedEvents => span.dropped_events = cursor.integer()?,
                Field::Links => cursor.array(|cursor| link(rows, cursor, depth))?,
                Field::DroppedLinks => span.dropped_links = cursor.integer()?,
                Field::Status => cursor.object(field, |cursor, key| {
                    match key {
                        Field::Code => span.status_code = enumeration(cursor, code)?,
                        Field::Message => span.status_message = key_of(&mut rows.status_messages, cursor.string()?),
                        _ => {
                            cursor.skip()?;
                        }
                    }
                    Ok(())
                })?,
                Field::Flags => span.flags = cursor.integer()?,
                _ => {
                    cursor.skip()?;
                }
            }
            Ok(())
        })?;
        rows.attributes.close(b'}');
        rows.events.close(b']');
        rows.links.close(b']');
        span.trace_id = present(trace_id, start, "trace id")?;
        span.span_id = present(span_id, start, "span id")?;
        span.dropped_attributes = span.dropped_attributes.saturating_add(redacted);
        self.sink.commit(&span, context);
        Ok(())
    }

    fn schema_url(&mut self, cursor: &mut Cursor<'_>) -> Read<i32> {
        Ok(key_of(&mut self.sink.rows.schema_urls, cursor.string()?))
    }

    /// The number of a resource: decoded only if its text is new.
    fn resource(&mut self, cursor: &mut Cursor<'_>) -> Read<u32> {
        if cursor.null()? {
            return Ok(0);
        }
        let start = cursor.at();
        let raw = cursor.skip()?;
        let depth = self.sink.depth;
        let rows = &mut *self.sink.rows;
        let new = match rows.known_resource(raw) {
            Ok(known) => return Ok(known),
            Err(new) => new,
        };
        let end = cursor.at();
        cursor.seek(start);
        let mut found = Attributes::default();
        let mut entity_refs = Vec::new();
        let (mut dropped, mut redacted) = (0u32, 0);
        cursor.object(field, |cursor, key| {
            match key {
                Field::Attributes => redacted += attributes::shared(cursor, &mut found, &mut rows.redactor, depth)?,
                Field::DroppedAttributes => dropped = cursor.integer()?,
                Field::EntityRefs => cursor.array(|cursor| entity_ref(&mut entity_refs, cursor))?,
                _ => {
                    cursor.skip()?;
                }
            }
            Ok(())
        })?;
        debug_assert_eq!(cursor.at(), end, "both ways of reading end at the same place");
        elements::close(&mut found.out, 0, b'}');
        elements::close(&mut entity_refs, 0, b']');
        Ok(rows.add_resource(new, &found, &entity_refs, dropped.saturating_add(redacted)))
    }

    /// The number of a scope: decoded only if its text is new.
    fn scope(&mut self, cursor: &mut Cursor<'_>) -> Read<u32> {
        if cursor.null()? {
            return Ok(0);
        }
        let start = cursor.at();
        let raw = cursor.skip()?;
        let depth = self.sink.depth;
        let rows = &mut *self.sink.rows;
        let new = match rows.known_scope(raw) {
            Ok(known) => return Ok(known),
            Err(new) => new,
        };
        cursor.seek(start);
        let mut found = Attributes::default();
        let (mut name, mut version) = (NONE, NONE);
        let (mut dropped, mut redacted) = (0u32, 0);
        cursor.object(field, |cursor, key| {
            match key {
                Field::Name => name = key_of(&mut rows.scope_names, cursor.string()?),
                Field::Version => version = key_of(&mut rows.scope_versions, cursor.string()?),
                Field::Attributes => redacted += attributes::shared(cursor, &mut found, &mut rows.redactor, depth)?,
                Field::DroppedAttributes => dropped = cursor.integer()?,
                _ => {
                    cursor.skip()?;
                }
            }
            Ok(())
        })?;
        elements::close(&mut found.out, 0, b'}');
        Ok(rows.add_scope(new, name, version, &found, dropped.saturating_add(redacted)))
    }

    /// If the value that begins at `start` could not be read: notes that and steps over it. If that cannot be done,
    /// nothing after it can be read, and the error goes on up.
    fn or_resync(&mut self, cursor: &mut Cursor<'_>, start: usize, what: &str, result: Read<()>) -> Read<()> {
        match result {
            Err(mut problem) if !self.broken => {
                problem.message.insert_str(0, what);
                self.resync(cursor, start, problem)
            }
            result => result,
        }
    }

    fn resync(&mut self, cursor: &mut Cursor<'_>, start: usize, problem: Box<Problem>) -> Read<()> {
        if self.broken {
            return Err(problem);
        }
        match cursor.skip_at(start) {
            Ok(()) => {
                self.note(&problem);
                Ok(())
            }
            Err(broken) => {
                // The end of the text tells more than what was missing there.
                let worse = if broken.reason == reason::TRUNCATED { broken } else { problem };
                self.broken = true;
                self.note(&worse);
                Err(worse)
            }
        }
    }

    fn note(&mut self, problem: &Problem) {
        self.sink.notes.add(problem.reason, self.place.tell(Some(problem.at)), &*problem.message);
    }
}

/// Reads an event and writes it behind the others.
fn event(rows: &mut SpanRows, cursor: &mut Cursor<'_>, depth: usize) -> Read<()> {
    if cursor.null()? {
        return Ok(());
    }
    let mut name = Vec::new();
    let (mut time, mut dropped, mut redacted) = (0, 0, 0);
    let SpanRows { scratch, redactor, .. } = rows;
    scratch.clear();
    cursor.object(field, |cursor, key| {
        match key {
            Field::Time => time = cursor.integer()?,
            Field::Name => name = cursor.string()?.into(),
            Field::Attributes => redacted += attributes::attributes(cursor, scratch, 0, redactor, depth, |_, _, _| {})?,
            Field::DroppedAttributes => dropped = cursor.integer()?,
            _ => {
                cursor.skip()?;
            }
        }
        Ok(())
    })?;
    elements::close(scratch, 0, b'}');
    Event { time, name: &name, dropped, redacted }.write(&mut rows.events, &rows.scratch).map_err(not_utf8)
}

/// Reads a link and writes it behind the others.
fn link(rows: &mut SpanRows, cursor: &mut Cursor<'_>, depth: usize) -> Read<()> {
    if cursor.null()? {
        return Ok(());
    }
    let (mut trace_id, mut span_id, mut trace_state) = (Vec::new(), Vec::new(), Vec::new());
    let (mut dropped, mut redacted, mut flags) = (0, 0, 0);
    let SpanRows { scratch, redactor, .. } = rows;
    scratch.clear();
    cursor.object(field, |cursor, key| {
        match key {
            Field::TraceId => trace_id = hex(cursor, "a link's trace id")?,
            Field::SpanId => span_id = hex(cursor, "a link's span id")?,
            Field::TraceState => trace_state = cursor.string()?.into(),
            Field::Attributes => redacted += attributes::attributes(cursor, scratch, 0, redactor, depth, |_, _, _| {})?,
            Field::DroppedAttributes => dropped = cursor.integer()?,
            Field::Flags => flags = cursor.integer()?,
            _ => {
                cursor.skip()?;
            }
        }
        Ok(())
    })?;
    elements::close(scratch, 0, b'}');
    Link { trace_id: &trace_id, span_id: &span_id, trace_state: &trace_state, dropped, redacted, flags }
        .write(&mut rows.links, &rows.scratch)
        .map_err(not_utf8)
}

/// Reads an entity and writes it behind the others.
fn entity_ref(out: &mut Vec<u8>, cursor: &mut Cursor<'_>) -> Read<()> {
    if cursor.null()? {
        return Ok(());
    }
    let (mut schema_url, mut kind) = (String::new(), String::new());
    let (mut id_keys, mut description_keys) = (Vec::new(), Vec::new());
    let text = |cursor: &mut Cursor<'_>| cursor.string().map(str::to_owned);
    cursor.object(field, |cursor, key| {
        match key {
            Field::SchemaUrl => schema_url = text(cursor)?,
            Field::Type => kind = text(cursor)?,
            Field::IdKeys => cursor.array(|cursor| text(cursor).map(|key| id_keys.push(key)))?,
            Field::DescriptionKeys => cursor.array(|cursor| text(cursor).map(|key| description_keys.push(key)))?,
            _ => {
                cursor.skip()?;
            }
        }
        Ok(())
    })?;
    elements::entity_ref(out, schema_url.as_bytes(), kind.as_bytes(), &id_keys, &description_keys).map_err(not_utf8)
}

/// The key of a string, which is UTF-8 already.
fn key_of(dictionary: &mut Dictionary, text: &str) -> i32 {
    dictionary.key(text.as_bytes()).unwrap_or(NONE)
}

/// Cannot be: jiter checked it.
fn not_utf8(error: super::typed_json::write::NotUtf8) -> Box<Problem> {
    problem(reason::BAD_TEXT, 0, error.to_string())
}

/// An enum's value: a number, maybe in a string, or its name.
fn enumeration(cursor: &mut Cursor<'_>, names: fn(&str) -> Option<i32>) -> Read<i32> {
    cursor.peek()?;
    let start = cursor.at();
    if cursor.peek()? != jiter::Peek::String {
        return cursor.integer();
    }
    let text = cursor.string()?;
    let known = names(text).or_else(|| text.parse().ok());
    known.ok_or_else(|| problem(reason::BAD_VALUE, start, format!("`{text:.40}` is no name of this enum")))
}

fn kind(name: &str) -> Option<i32> {
    Some(match name {
        "SPAN_KIND_UNSPECIFIED" => 0,
        "SPAN_KIND_INTERNAL" => 1,
        "SPAN_KIND_SERVER" => 2,
        "SPAN_KIND_CLIENT" => 3,
        "SPAN_KIND_PRODUCER" => 4,
        "SPAN_KIND_CONSUMER" => 5,
        _ => return None,
    })
}

fn code(name: &str) -> Option<i32> {
    Some(match name {
        "STATUS_CODE_UNSET" => 0,
        "STATUS_CODE_OK" => 1,
        "STATUS_CODE_ERROR" => 2,
        _ => return None,
    })
}

/// An id of a span; none if it is empty or `null`.
fn id<const N: usize>(cursor: &mut Cursor<'_>, what: &str) -> Read<Option<[u8; N]>> {
    cursor.peek()?;
    let start = cursor.at();
    let text = cursor.string()?.as_bytes();
    if text.is_empty() {
        return Ok(None);
    }
    let mut id = [0; N];
    if text.len() != 2 * N {
        let message = format!("the {what} has {} digits instead of {}", text.len(), 2 * N);
        return Err(problem(reason::BAD_ID, start, message));
    }
    if !unhex(text, &mut id) {
        return Err(problem(reason::BAD_ID, start, format!("the {what} is not hexadecimal")));
    }
    Ok(Some(id))
}

fn present<const N: usize>(id: Option<[u8; N]>, start: usize, what: &str) -> Read<[u8; N]> {
    match id {
        Some(id) if id != [0; N] => Ok(id),
        Some(_) => Err(problem(reason::BAD_ID, start, format!("the {what} is all zero"))),
        None => Err(problem(reason::BAD_ID, start, format!("the {what} is missing"))),
    }
}

/// An id of any length.
fn hex(cursor: &mut Cursor<'_>, what: &str) -> Read<Vec<u8>> {
    cursor.peek()?;
    let start = cursor.at();
    let text = cursor.string()?.as_bytes();
    let mut id = vec![0; text.len() / 2];
    if text.len() % 2 != 0 || !unhex(text, &mut id) {
        return Err(problem(reason::BAD_ID, start, format!("{what} is not hexadecimal")));
    }
    Ok(id)
}

/// Fills `out` from twice as many hex digits of either case; whether all were.
fn unhex(text: &[u8], out: &mut [u8]) -> bool {
    const DIGITS: [u8; 256] = {
        let mut table = [0xff; 256];
        let mut digit = 0;
        while digit < 16 {
            table[b"0123456789abcdef"[digit as usize] as usize] = digit;
            table[b"0123456789ABCDEF"[digit as usize] as usize] = digit;
            digit += 1;
        }
        table
    };
    let mut all = 0;
    for (byte, pair) in out.iter_mut().zip(text.as_chunks::<2>().0) {
        let (high, low) = (DIGITS[usize::from(pair[0])], DIGITS[usize::from(pair[1])]);
        all |= high | low;
        *byte = high << 4 | low & 15;
    }
    all < 16
}
