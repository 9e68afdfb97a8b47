//! OTLP/protobuf straight into columns: one walk over the wire, nothing copied but what is stored.
//!
//! Field numbers are those of `opentelemetry/proto/trace/v1/trace.proto` and `common/v1/common.proto` (1.10). Fields
//! may come in any order. Of a field given twice the last counts; messages given twice are merged, as protobuf has it:
//! their bytes are put one behind the other. Field 1000 is what `scope_spans` was before 2022. References into string
//! tables (`string_value_strindex`, `key_strindex`) belong to profiles: as the protocol asks, they count as absent.

use std::borrow::Cow;

use super::bad::{Problem, Read, problem, reason};
use super::elements::{self, Event, Link};
use super::redact::{self, Action, Redactor};
use super::rows::{Attributes, Mark, Span, SpanRows};
use super::sink::{Place, Sink};
use super::typed_json::write::{self, NotUtf8};
use super::wire::{Field, Fields};

/// Reads one `ResourceSpans` into the sink's rows. What cannot be read is noted; what can be is kept. `message` may end
/// too early: what stands before its end is read.
pub(super) fn resource_spans(sink: &mut Sink<'_>, place: Place, message: &[u8]) {
    Walker { sink, base: message, place }.resource_spans(message);
}

struct Walker<'s, 'r> {
    sink: &'s mut Sink<'r>,
    /// The message in hand: places are told by it.
    base: &'s [u8],
    place: Place,
}

/// A message that may have come in several pieces.
#[derive(Default)]
struct Merged<'a>(Option<Cow<'a, [u8]>>);

impl<'a> Merged<'a> {
    fn add(&mut self, piece: &'a [u8]) {
        match &mut self.0 {
            None => self.0 = Some(Cow::Borrowed(piece)),
            Some(before) => before.to_mut().extend_from_slice(piece),
        }
    }

    fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl Walker<'_, '_> {
    fn resource_spans(&mut self, message: &[u8]) {
        let (mark, noted) = (self.sink.rows.mark(), self.sink.notes.count);
        let first = self.sink.rows.contexts();
        let mut resource = Merged::default();
        let mut schema_url: &[u8] = &[];
        let mut fields = Fields::new(message);
        let ended = loop {
            match fields.next() {
                Ok(None) => break None,
                Ok(Some((1, Field::Bytes(piece)))) => resource.add(piece),
                Ok(Some((2 | 1000, Field::Bytes(message)))) => {
                    self.place.scope += 1;
                    if let Some(signal) = self.scope_spans(message) {
                        self.sink.rows.rollback(mark);
                        return self.note(&problem(reason::NOT_TRACES, message.as_ptr().addr(), not_traces(signal)));
                    }
                }
                Ok(Some((3, Field::Bytes(text)))) => schema_url = text,
                Ok(Some((number @ (1..=3 | 1000), field))) => {
                    break Some(fields.unexpected("ResourceSpans", number, &field));
                }
                Ok(Some(_)) => {}
                Err(problem) => break Some(problem),
            }
        };
        // A part that is cut: the spans before the cut are whole.
        if let Some(problem) = ended {
            let before = self.sink.notes.count;
            match fields.cut {
                Some((1, piece)) => resource.add(piece),
                Some((2 | 1000, message)) => {
                    self.place.scope += 1;
                    self.scope_spans(message);
                }
                _ => {}
            }
            if self.sink.notes.count == before {
                self.place.scope = 0;
                self.note(&problem);
            }
        }
        self.place.scope = 0;
        let resource = self.resource(resource.bytes());
        let schema_url =
            self.sink.rows.schema_urls.key(schema_url).map_err(|error| not_utf8(error, schema_url, "the schema URL"));
        match resource.and_then(|resource| schema_url.map(|schema_url| (resource, schema_url))) {
            Ok((resource, schema_url)) => self.sink.rows.set_resource(first, resource, schema_url),
            // Without their resource nobody could tell whose spans these are.
            Err(problem) => self.drop_spans(mark, noted, "resource", &problem),
        }
    }

    /// Reads one `ScopeSpans`; which signal it holds, if it is another one than traces.
    fn scope_spans(&mut self, message: &[u8]) -> Option<&'static str> {
        let (mark, noted) = (self.sink.rows.mark(), self.sink.notes.count);
        let context = self.sink.rows.begin_context();
        let mut scope = Merged::default();
        let mut schema_url: &[u8] = &[];
        let mut fields = Fields::new(message);
        self.place.span = 0;
        let ended = loop {
            match fields.next() {
                Ok(None) => break None,
                Ok(Some((1, Field::Bytes(piece)))) => scope.add(piece),
                Ok(Some((2, Field::Bytes(message)))) => {
                    self.place.span += 1;
                    if let Err(problem) = self.span(message, context) {
                        if self.place.span == 1
                            && let Some(signal) = other_signal(message)
                        {
                            return Some(signal);
                        }
                        self.note(&problem);
                    }
                }
                Ok(Some((3, Field::Bytes(text)))) => schema_url = text,
                Ok(Some((number @ 1..=3, field))) => break Some(fields.unexpected("ScopeSpans", number, &field)),
                Ok(Some(_)) => {}
                Err(problem) => break Some(problem),
            }
        };
        if let Some(problem) = ended {
            match fields.cut {
                Some((1, piece)) => scope.add(piece),
                Some((2, _)) => self.place.span += 1,
                _ => self.place.span = 0,
            }
            self.note(&problem);
        }
        self.place.span = 0;
        let scope = self.scope(scope.bytes());
        let schema_url =
            self.sink.rows.schema_urls.key(schema_url).map_err(|error| not_utf8(error, schema_url, "the schema URL"));
        match scope.and_then(|scope| schema_url.map(|schema_url| (scope, schema_url))) {
            Ok((scope, schema_url)) => self.sink.rows.set_scope(context, scope, schema_url),
            Err(problem) => self.drop_spans(mark, noted, "scope", &problem),
        }
        None
    }

    fn span(&mut self, message: &[u8], context: u32) -> Read<()> {
        let depth = self.sink.depth;
        let rows = &mut *self.sink.rows;
        rows.begin_span();
        let mut span = Span::default();
        let (mut trace_id, mut span_id, mut parent): (&[u8], &[u8], &[u8]) = (&[], &[], &[]);
        let mut fields = Fields::new(message);
        let attributes = rows.attributes.mark();
        let mut redacted = 0;
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (1, Field::Bytes(id)) => trace_id = id,
                (2, Field::Bytes(id)) => span_id = id,
                (3, Field::Bytes(text)) => {
                    span.trace_state =
                        rows.trace_states.key(text).map_err(|error| not_utf8(error, text, "the trace state"))?
                }
                (4, Field::Bytes(id)) => parent = id,
                (5, Field::Bytes(text)) => {
                    span.name = rows.names.key(text).map_err(|error| not_utf8(error, text, "the name"))?
                }
                (6, Field::Varint(kind)) => span.kind = kind as i32,
                (7, Field::Fixed64(time)) => span.start = time,
                (8, Field::Fixed64(time)) => span.end = time,
                (9, Field::Bytes(pair)) => {
                    let out = &mut rows.attributes.bytes;
                    let found = |key: &[u8], start, end| span.found.attribute(key, start, end);
                    redacted += attribute(out, attributes, &mut rows.redactor, pair, depth, found)?;
                }
                (10, Field::Varint(count)) => span.dropped_attributes = count as u32,
                (11, Field::Bytes(message)) => event(rows, message, depth)?,
                (12, Field::Varint(count)) => span.dropped_events = count as u32,
                (13, Field::Bytes(message)) => link(rows, message, depth)?,
                (14, Field::Varint(count)) => span.dropped_links = count as u32,
                (15, Field::Bytes(message)) => {
                    let mut fields = Fields::new(message);
                    while let Some((number, field)) = fields.next()? {
                        match (number, field) {
                            (2, Field::Bytes(text)) => {
                                span.status_message = rows
                                    .status_messages
                                    .key(text)
                                    .map_err(|error| not_utf8(error, text, "the status message"))?;
                            }
                            (3, Field::Varint(code)) => span.status_code = code as i32,
                            (2 | 3, field) => return Err(fields.unexpected("Status", number, &field)),
                            _ => {}
                        }
                    }
                }
                (16, Field::Fixed32(flags)) => span.flags = flags,
                (1..=16, field) => return Err(fields.unexpected("Span", number, &field)),
                _ => {}
            }
        }
        rows.attributes.close(b'}');
        rows.events.close(b']');
        rows.links.close(b']');
        span.trace_id = id(trace_id, "trace id")?;
        span.span_id = id(span_id, "span id")?;
        if !parent.is_empty() {
            span.parent_span_id = parent.try_into().map_err(|_| wrong_length(parent, "parent's span id", 8))?;
        }
        span.dropped_attributes = span.dropped_attributes.saturating_add(redacted);
        self.sink.commit(&span, context);
        Ok(())
    }

    /// The number of a resource: decoded only if its bytes are new.
    fn resource(&mut self, message: &[u8]) -> Read<u32> {
        if message.is_empty() {
            return Ok(0);
        }
        let rows = &mut *self.sink.rows;
        let new = match rows.known_resource(message) {
            Ok(known) => return Ok(known),
            Err(new) => new,
        };
        let mut attributes = Attributes::default();
        let mut entity_refs = Vec::new();
        let (mut dropped, mut redacted) = (0u32, 0u32);
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (1, Field::Bytes(pair)) => {
                    redacted += shared_attribute(&mut attributes, &mut rows.redactor, pair, self.sink.depth)?;
                }
                (2, Field::Varint(count)) => dropped = count as u32,
                (3, Field::Bytes(message)) => entity_ref(&mut entity_refs, message)?,
                (1..=3, field) => return Err(fields.unexpected("Resource", number, &field)),
                _ => {}
            }
        }
        elements::close(&mut attributes.out, 0, b'}');
        elements::close(&mut entity_refs, 0, b']');
        Ok(rows.add_resource(new, &attributes, &entity_refs, dropped.saturating_add(redacted)))
    }

    /// The number of a scope: decoded only if its bytes are new.
    fn scope(&mut self, message: &[u8]) -> Read<u32> {
        if message.is_empty() {
            return Ok(0);
        }
        let rows = &mut *self.sink.rows;
        let new = match rows.known_scope(message) {
            Ok(known) => return Ok(known),
            Err(new) => new,
        };
        let mut attributes = Attributes::default();
        let (mut name, mut version): (&[u8], &[u8]) = (&[], &[]);
        let (mut dropped, mut redacted) = (0u32, 0u32);
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (1, Field::Bytes(text)) => name = text,
                (2, Field::Bytes(text)) => version = text,
                (3, Field::Bytes(pair)) => {
                    redacted += shared_attribute(&mut attributes, &mut rows.redactor, pair, self.sink.depth)?;
                }
                (4, Field::Varint(count)) => dropped = count as u32,
                (1..=4, field) => return Err(fields.unexpected("InstrumentationScope", number, &field)),
                _ => {}
            }
        }
        elements::close(&mut attributes.out, 0, b'}');
        let name = rows.scope_names.key(name).map_err(|error| not_utf8(error, name, "the name"))?;
        let version = rows.scope_versions.key(version).map_err(|error| not_utf8(error, version, "the version"))?;
        Ok(rows.add_scope(new, name, version, &attributes, dropped.saturating_add(redacted)))
    }

    /// What the spans after `mark` share cannot be read: they are left out.
    fn drop_spans(&mut self, mark: Mark, noted: u64, what: &str, problem: &Problem) {
        let lost = self.sink.rows.since(mark);
        // It is cut, that is noted, and no span is lost by it.
        if lost == 0 && self.sink.notes.count > noted {
            return;
        }
        self.sink.rows.rollback(mark);
        let message = format!("the {what} of {lost} spans cannot be read: {}", problem.message);
        self.note(&Problem { message, ..*problem });
    }

    fn note(&mut self, problem: &Problem) {
        let byte = problem.at.checked_sub(self.base.as_ptr().addr()).filter(|byte| *byte <= self.base.len());
        self.sink.notes.add(problem.reason, self.place.tell(byte), &*problem.message);
    }
}

/// Writes one attribute behind the others of the object that begins at `start`; how many it adds to the dropped ones.
/// `found` is told its key and where its value stands.
#[inline]
fn attribute(
    out: &mut Vec<u8>,
    start: usize,
    redactor: &mut Redactor,
    pair: &[u8],
    depth: usize,
    found: impl FnOnce(&[u8], usize, usize),
) -> Read<u32> {
    let (key, value) = key_value(pair)?;
    let action = redactor.action(key);
    if action == Action::Drop {
        return Ok(1);
    }
    out.push(if out.len() == start { b'{' } else { b',' });
    write::string(out, key).map_err(|error| not_utf8(error, key, "an attribute's key"))?;
    out.push(b':');
    let value_start = out.len();
    any_value(out, value.bytes(), depth)?;
    if action == Action::Hash {
        redact::hash(out, value_start);
    }
    found(key, value_start, out.len());
    Ok(0)
}

/// An attribute of a resource or a scope.
fn shared_attribute(attributes: &mut Attributes, redactor: &mut Redactor, pair: &[u8], depth: usize) -> Read<u32> {
    let mut place = None;
    let dropped = attribute(&mut attributes.out, 0, redactor, pair, depth, |key, start, end| {
        place = Some((key.to_vec(), start, end));
    })?;
    if let Some((key, start, end)) = place {
        attributes.attribute(&key, start, end);
    }
    Ok(dropped)
}

#[inline]
fn key_value(message: &[u8]) -> Read<(&[u8], Merged<'_>)> {
    let mut fields = Fields::new(message);
    let mut key: &[u8] = &[];
    let mut value = Merged::default();
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(text)) => key = text,
            (2, Field::Bytes(message)) => value.add(message),
            (1 | 2, field) => return Err(fields.unexpected("KeyValue", number, &field)),
            _ => {}
        }
    }
    Ok((key, value))
}

/// Writes a value; values within it may nest `depth` deep.
fn any_value(out: &mut Vec<u8>, message: &[u8], depth: usize) -> Read<()> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(problem(reason::TOO_DEEP, message.as_ptr().addr(), "a value nests too deep"));
    };
    let mut fields = Fields::new(message);
    let Some((number, field)) = fields.next()? else {
        out.extend_from_slice(b"null");
        return Ok(());
    };
    if fields.is_empty() { one_value(out, &fields, number, field, depth) } else { last_value(out, message, depth) }
}

fn one_value(out: &mut Vec<u8>, fields: &Fields<'_>, number: u32, field: Field<'_>, depth: usize) -> Read<()> {
    match (number, field) {
        (1, Field::Bytes(text)) => write::string(out, text).map_err(|error| not_utf8(error, text, "a string"))?,
        (2, Field::Varint(value)) => out.extend_from_slice(if value == 0 { b"false" } else { b"true" }),
        (3, Field::Varint(value)) => write::int(out, value as i64),
        (4, Field::Fixed64(bits)) => write::double(out, f64::from_bits(bits)),
        (5, Field::Bytes(message)) => {
            let start = out.len();
            let mut fields = Fields::new(message);
            while let Some((number, field)) = fields.next()? {
                match (number, field) {
                    (1, Field::Bytes(value)) => {
                        out.push(if out.len() == start { b'[' } else { b',' });
                        any_value(out, value, depth)?;
                    }
                    (1, field) => return Err(fields.unexpected("ArrayValue", number, &field)),
                    _ => {}
                }
            }
            close_value(out, start, b'[', b']');
        }
        (6, Field::Bytes(message)) => {
            let start = out.len();
            let mut fields = Fields::new(message);
            while let Some((number, field)) = fields.next()? {
                match (number, field) {
                    (1, Field::Bytes(pair)) => {
                        out.push(if out.len() == start { b'{' } else { b',' });
                        let (key, value) = key_value(pair)?;
                        write::nested_key(out, key).map_err(|error| not_utf8(error, key, "a key"))?;
                        out.push(b':');
                        any_value(out, value.bytes(), depth)?;
                    }
                    (1, field) => return Err(fields.unexpected("KeyValueList", number, &field)),
                    _ => {}
                }
            }
            close_value(out, start, b'{', b'}');
        }
        (7, Field::Bytes(bytes)) => write::bytes(out, bytes),
        (8, Field::Varint(_)) => out.extend_from_slice(b"null"),
        (1..=8, field) => return Err(fields.unexpected("AnyValue", number, &field)),
        _ => out.extend_from_slice(b"null"),
    }
    Ok(())
}

/// A value given several times: the last counts, but two arrays or two lists are merged.
#[cold]
fn last_value(out: &mut Vec<u8>, message: &[u8], depth: usize) -> Read<()> {
    let mut fields = Fields::new(message);
    let mut last: Option<(u32, Field<'_>)> = None;
    let mut merged = Vec::new();
    while let Some((number, field)) = fields.next()? {
        if !(1..=8).contains(&number) {
            continue;
        }
        if let (5 | 6, Field::Bytes(piece)) = (number, field) {
            if last.is_none_or(|(before, _)| before != number) {
                merged.clear();
            }
            merged.extend_from_slice(piece);
        }
        last = Some((number, field));
    }
    match last {
        None => out.extend_from_slice(b"null"),
        Some((number @ (5 | 6), Field::Bytes(_))) => one_value(out, &fields, number, Field::Bytes(&merged), depth)?,
        Some((number, field)) => one_value(out, &fields, number, field, depth)?,
    }
    Ok(())
}

/// Reads an event and writes it behind the others.
fn event(rows: &mut SpanRows, message: &[u8], depth: usize) -> Read<()> {
    let mut event = Event::default();
    let scratch = &mut rows.scratch;
    scratch.clear();
    let mut fields = Fields::new(message);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Fixed64(time)) => event.time = time,
            (2, Field::Bytes(text)) => event.name = text,
            (3, Field::Bytes(pair)) => {
                event.redacted += attribute(scratch, 0, &mut rows.redactor, pair, depth, |_, _, _| {})?;
            }
            (4, Field::Varint(count)) => event.dropped = count as u32,
            (1..=4, field) => return Err(fields.unexpected("Event", number, &field)),
            _ => {}
        }
    }
    elements::close(scratch, 0, b'}');
    event.write(&mut rows.events, scratch).map_err(|error| not_utf8(error, event.name, "an event's name"))
}

/// Reads a link and writes it behind the others.
fn link(rows: &mut SpanRows, message: &[u8], depth: usize) -> Read<()> {
    let mut link = Link::default();
    let scratch = &mut rows.scratch;
    scratch.clear();
    let mut fields = Fields::new(message);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(id)) => link.trace_id = id,
            (2, Field::Bytes(id)) => link.span_id = id,
            (3, Field::Bytes(text)) => link.trace_state = text,
            (4, Field::Bytes(pair)) => {
                link.redacted += attribute(scratch, 0, &mut rows.redactor, pair, depth, |_, _, _| {})?;
            }
            (5, Field::Varint(count)) => link.dropped = count as u32,
            (6, Field::Fixed32(flags)) => link.flags = flags,
            (1..=6, field) => return Err(fields.unexpected("Link", number, &field)),
            _ => {}
        }
    }
    elements::close(scratch, 0, b'}');
    link.write(&mut rows.links, scratch).map_err(|error| not_utf8(error, link.trace_state, "a link's trace state"))
}

/// Reads an entity and writes it behind the others.
fn entity_ref(out: &mut Vec<u8>, message: &[u8]) -> Read<()> {
    let (mut schema_url, mut kind): (&[u8], &[u8]) = (&[], &[]);
    let (mut id_keys, mut description_keys) = (Vec::new(), Vec::new());
    let mut fields = Fields::new(message);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(text)) => schema_url = text,
            (2, Field::Bytes(text)) => kind = text,
            (3, Field::Bytes(text)) => id_keys.push(text),
            (4, Field::Bytes(text)) => description_keys.push(text),
            (1..=4, field) => return Err(fields.unexpected("EntityRef", number, &field)),
            _ => {}
        }
    }
    elements::entity_ref(out, schema_url, kind, &id_keys, &description_keys)
        .map_err(|error| not_utf8(error, message, "an entity"))
}

/// Like [`elements::close`], but an empty one is written, too.
fn close_value(out: &mut Vec<u8>, start: usize, begin: u8, end: u8) {
    if out.len() == start {
        out.push(begin);
    }
    out.push(end);
}

fn id<const N: usize>(id: &[u8], what: &str) -> Read<[u8; N]> {
    match <[u8; N]>::try_from(id) {
        Ok(id) if id != [0; N] => Ok(id),
        Ok(_) => Err(problem(reason::BAD_ID, id.as_ptr().addr(), format!("the {what} is all zero"))),
        Err(_) => Err(wrong_length(id, what, N)),
    }
}

#[cold]
fn wrong_length(id: &[u8], what: &str, length: usize) -> Box<Problem> {
    let message = match id.len() {
        0 => format!("the {what} is missing"),
        other => format!("the {what} has {other} bytes instead of {length}"),
    };
    problem(reason::BAD_ID, id.as_ptr().addr(), message)
}

#[cold]
fn not_utf8(error: NotUtf8, text: &[u8], what: &str) -> Box<Problem> {
    problem(reason::BAD_TEXT, text.as_ptr().addr() + error.0, format!("{what} is not UTF-8"))
}

fn not_traces(signal: &str) -> String {
    format!("these are {signal}, not traces: give the pipeline of traces a prefix of its own")
}

/// What a "span" that cannot be read really is. The outer messages of all signals look alike: only here do the field
/// types differ (`LogRecord`: field 1 is a time, field 2 a number; `Metric`: a name, and data in fields 5 to 11).
fn other_signal(message: &[u8]) -> Option<&'static str> {
    let mut fields = Fields::new(message);
    let (mut named, mut data, mut span) = (false, false, false);
    while let Ok(Some((number, field))) = fields.next() {
        match (number, field) {
            (1 | 11, Field::Fixed64(_)) | (2, Field::Varint(_)) => return Some("logs"),
            (1, Field::Bytes(_)) => named = true,
            (5 | 7 | 9 | 10 | 11, Field::Bytes(_)) => data = true,
            (2, Field::Bytes(id)) if id.len() == 8 => span = true,
            (4, Field::Bytes(_)) | (6, Field::Varint(_)) | (7 | 8, Field::Fixed64(_)) => span = true,
            _ => {}
        }
    }
    (named && data && !span).then_some("metrics")
}
