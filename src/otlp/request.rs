//! What exporters send to a receiver: one message that is all there, in an encoding that its sender names. And objects
//! made of such messages: each behind its length, as the Collector's file exporter frames them, so that one that cannot
//! be read takes no other with it. [`super::ObjectDecoder`] reads a framed message by the very function that checked it
//! here.

use std::io::{self, Write};

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::bad::{BadPart, Notes, reason};
use super::decode::{Limits, one_message};
use super::encode;
use super::redact::Redact;
use super::rows::SpanRows;
use super::sink::{Place, Sink};
use super::sniff::{self, Format};
use super::source;
use super::wire::{Field, Fields};
use crate::error::Result;

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `ExportTraceServiceRequest`
    Protobuf,
    /// The same as OTLP/JSON.
    Json,
}

/// How a message is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// gzip, of any number of members.
    Gzip,
    /// zstd, of any number of frames.
    Zstd,
}

/// What came of a message.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What of it is to be kept: as it came, or, if spans were refused, the others as OTLP/JSON. Empty without spans.
    pub message: Bytes,
    /// Spans in it.
    pub spans: u64,
    /// Spans that cannot be read and are left out.
    pub refused: u64,
    /// Why, for whoever sent them; empty if there are none.
    pub why: String,
}

/// Why nothing of a message is kept, as a sentence for its sender.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// How many refused parts are told.
const TOLD: usize = 3;

/// Unpacks a body; none if there is more than `most_bytes` in it.
///
/// # Errors
/// If it is no such stream, or damaged.
pub fn unpack(body: &[u8], compression: Compression, most_bytes: usize) -> Result<Option<Vec<u8>>, Unreadable> {
    let begins = match compression {
        Compression::Gzip => source::GZIP,
        Compression::Zstd => source::ZSTD,
    };
    if !body.starts_with(begins) {
        return Err(Unreadable(format!("the body is not {compression:?}, as its header says").to_lowercase()));
    }
    let mut out = Vec::new();
    source::decompress(body, &mut out, most_bytes).map_err(|error| Unreadable(error.to_string()))?;
    Ok((out.len() <= most_bytes).then_some(out))
}

/// Reads `message` whole and says what of it can be kept: all of it, or all spans but a few. Takes as much CPU time as
/// indexing its spans will, and meanwhile memory for their rows.
///
/// # Errors
/// [`Unreadable`] within: its structure breaks, or it is no such message. The outer ones are bugs.
pub fn check(message: Bytes, encoding: Encoding, limits: &Limits) -> Result<Result<Checked, Unreadable>> {
    let format = match encoding {
        Encoding::Protobuf => Format::Protobuf,
        Encoding::Json => Format::Json,
    };
    // An empty request of protobuf has no bytes; one of JSON is `{}`.
    if message.is_empty() && encoding == Encoding::Protobuf {
        return Ok(Ok(Checked { message, spans: 0, refused: 0, why: String::new() }));
    }
    // Who reads it from the inbox tells what it is by its first bytes: it must look like what it is said to be.
    if sniff::message(&message) != format || sniff::skip_space(&message).is_empty() {
        let name = if encoding == Encoding::Json { "JSON" } else { "protobuf" };
        return Ok(Err(Unreadable(format!("the body is no OTLP of traces in {name}"))));
    }
    let mut rows = SpanRows::new(Redact::default());
    let mut notes = Notes::default();
    let mut sink = Sink { rows: &mut rows, notes: &mut notes, depth: limits.depth, received_ms: 0 };
    one_message(&mut sink, Place::default(), &message, format);
    let spans = rows.len() as u64;
    if notes.count == 0 {
        return Ok(Ok(Checked { message, spans, refused: 0, why: String::new() }));
    }
    if let Some(part) = notes.parts.iter().find(|part| breaks_structure(part)) {
        return Ok(Err(Unreadable(told(part))));
    }
    let refused = count(&message, encoding).map_or(notes.count, |all| all.saturating_sub(spans).max(1));
    let parts: Vec<String> = notes.parts.iter().take(TOLD).map(told).collect();
    let more = if notes.count > parts.len() as u64 { "; …" } else { "" };
    let why = format!("{refused} of {} spans were refused: {}{more}", spans + refused, parts.join("; "));
    let message = if spans == 0 { Bytes::new() } else { encode::traces_data(&[rows.finish()])?.into() };
    Ok(Ok(Checked { message, spans, refused, why }))
}

/// Whether what is wrong is not a span's own content: nobody can tell what else is missing.
fn breaks_structure(part: &BadPart) -> bool {
    !matches!(part.reason, reason::BAD_ID | reason::BAD_VALUE | reason::BAD_TEXT | reason::TOO_DEEP)
}

fn told(part: &BadPart) -> String {
    format!("{} ({}): {}", part.at, part.reason, part.message)
}

/// How many spans there are in a message, readable or not; none if it cannot be told.
fn count(message: &[u8], encoding: Encoding) -> Option<u64> {
    match encoding {
        Encoding::Protobuf => {
            let mut count = 0;
            each(message, |number, resource| {
                let scopes = |number: u32, scope: &[u8]| match number {
                    2 | 1000 => each(scope, |number, _| {
                        count += u64::from(number == 2);
                        Some(())
                    }),
                    _ => Some(()),
                };
                if number == 1 { each(resource, scopes) } else { Some(()) }
            })?;
            Some(count)
        }
        Encoding::Json => {
            let traces: Traces = serde_json::from_slice(message).ok()?;
            let scopes = traces.resource_spans.into_iter().flatten().flat_map(|resource| resource.scope_spans);
            Some(scopes.flatten().flat_map(|scope| scope.spans).map(|spans| spans.len() as u64).sum())
        }
    }
}

/// Calls `with` for each field of a message that has a length.
fn each<'a>(message: &'a [u8], mut with: impl FnMut(u32, &'a [u8]) -> Option<()>) -> Option<()> {
    let mut fields = Fields::new(message);
    while let Some((number, field)) = fields.next().ok()? {
        if let Field::Bytes(inner) = field {
            with(number, inner)?;
        }
    }
    Some(())
}

#[derive(Deserialize)]
struct Traces {
    #[serde(rename = "resourceSpans", alias = "resource_spans")]
    resource_spans: Option<Vec<ResourceSpans>>,
}

#[derive(Deserialize)]
struct ResourceSpans {
    #[serde(rename = "scopeSpans", alias = "scope_spans", alias = "instrumentationLibrarySpans")]
    scope_spans: Option<Vec<ScopeSpans>>,
}

#[derive(Deserialize)]
struct ScopeSpans {
    spans: Option<Vec<IgnoredAny>>,
}

/// Messages of either encoding as one object: each behind its length in four bytes (big-endian), compressed together.
///
/// # Errors
/// If one is larger than a length can say.
pub fn pack(messages: &[Bytes]) -> io::Result<Vec<u8>> {
    let mut out = zstd::stream::write::Encoder::new(Vec::new(), LEVEL)?;
    out.include_checksum(true)?;
    for message in messages {
        let length = u32::try_from(message.len()).map_err(io::Error::other)?;
        out.write_all(&length.to_be_bytes())?;
        out.write_all(message)?;
    }
    out.finish()
}

/// Objects of the inbox live for a minute or two: the fastest level, which still finds what requests have in common.
const LEVEL: i32 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::{ObjectDecoder, Progress};

    /// A span of JSON whose id begins with `id`.
    fn span(id: u8) -> String {
        format!(r#"{{"traceId":"{id:02x}{:030x}","spanId":"{id:02x}{:014x}","name":"n"}}"#, 1, 1)
    }

    fn json(spans: &[String]) -> Bytes {
        format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}]}}]}}]}}"#, spans.join(",")).into()
    }

    fn field(number: u8, inner: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, inner.len() as u8], inner].concat()
    }

    fn proto(ids: &[&[u8]]) -> Bytes {
        let spans: Vec<u8> = ids.iter().flat_map(|id| field(2, &[field(1, id), field(2, &[7; 8])].concat())).collect();
        field(1, &field(2, &spans)).into()
    }

    fn checked(message: &Bytes, encoding: Encoding) -> Result<Checked, String> {
        check(message.clone(), encoding, &Limits::default()).unwrap().map_err(|Unreadable(why)| why)
    }

    #[test]
    fn a_good_message_is_kept_as_it_came() {
        for (message, encoding) in
            [(json(&[span(1), span(2)]), Encoding::Json), (proto(&[&[1; 16], &[2; 16]]), Encoding::Protobuf)]
        {
            let good = checked(&message, encoding).unwrap();
            assert_eq!((good.message, good.spans, good.refused, good.why.as_str()), (message, 2, 0, ""));
        }
        for (message, encoding) in
            [("", Encoding::Protobuf), ("{}", Encoding::Json), ("{\"resourceSpans\":[]}", Encoding::Json)]
        {
            assert_eq!(checked(&message.into(), encoding).unwrap().spans, 0);
        }
    }

    #[test]
    fn only_spans_that_cannot_be_read_are_refused() {
        for (message, encoding) in [
            (json(&[span(1), span(2).replace("\"n\"", "\"n\",\"kind\":\"what\""), span(3)]), Encoding::Json),
            (proto(&[&[1; 16], &[2; 15], &[3; 16]]), Encoding::Protobuf),
        ] {
            let partly = checked(&message, encoding).unwrap();
            assert_eq!((partly.spans, partly.refused), (2, 1));
            assert!(
                partly.why.starts_with("1 of 3 spans were refused: ") && partly.why.contains("span 2"),
                "{}",
                partly.why
            );
            assert_eq!(checked(&partly.message, Encoding::Json).unwrap().spans, 2);
        }
        let none = checked(&proto(&[&[0; 16]]), Encoding::Protobuf).unwrap();
        assert_eq!((none.message.len(), none.spans, none.refused), (0, 0, 1));
        // A resource before its spans takes them with it.
        let resource = r#"{"resourceSpans":[{"resource":7,"scopeSpans":[{"spans":[{},{}]}]},"#;
        let text = String::from_utf8(json(&[span(1)]).to_vec()).unwrap().replace("{\"resourceSpans\":[", resource);
        let partly = checked(&text.into(), Encoding::Json).unwrap();
        assert_eq!((partly.spans, partly.refused), (1, 2));
    }

    #[test]
    fn what_breaks_or_is_something_else_is_not_kept_at_all() {
        let (json, proto) = (json(&[span(1)]), proto(&[&[1; 16]]));
        for (message, encoding) in [
            (json.clone(), Encoding::Protobuf),
            (proto.clone(), Encoding::Json),
            (json.slice(..json.len() - 5), Encoding::Json),
            (proto.slice(..proto.len() - 5), Encoding::Protobuf),
            (Bytes::new(), Encoding::Json),
            (" \n".into(), Encoding::Json),
            ("[]".into(), Encoding::Json),
            (r#"{"resourceLogs":[]}"#.into(), Encoding::Json),
            (Bytes::from_static(b"\x1f\x8b\x08\0"), Encoding::Protobuf),
            // A `ResourceSpans` that looks like JSON with a line before it.
            ([&b"\n\x7b\"A"[..], &[b'x'; 121]].concat().into(), Encoding::Protobuf),
        ] {
            assert!(checked(&message, encoding).is_err(), "{message:?}");
        }
    }

    #[test]
    fn an_object_of_messages_is_read_as_they_were_checked() {
        let partly = checked(&proto(&[&[4; 16], &[5; 15]]), Encoding::Protobuf).unwrap();
        let messages = [proto(&[&[1; 16]]), json(&[span(2), span(3)]), partly.message, proto(&[&[6; 16], &[7; 16]])];
        let object = pack(&messages).unwrap();
        let mut decoder = ObjectDecoder::new(&object[..], jiff::Timestamp::UNIX_EPOCH, Limits::default());
        let mut rows = SpanRows::new(Redact::default());
        assert_eq!(decoder.decode(&mut rows, usize::MAX).unwrap(), Progress::Done);
        assert_eq!((rows.len(), decoder.bad_count()), (6, 0));
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let bomb = zstd::encode_all(&vec![b' '; 1 << 20][..], 1).unwrap();
        assert!(unpack(&bomb, Compression::Zstd, 1 << 19).unwrap().is_none());
        assert_eq!(unpack(&bomb, Compression::Zstd, 1 << 20).unwrap().unwrap().len(), 1 << 20);
        assert!(unpack(&bomb, Compression::Gzip, 1 << 20).is_err());
        assert!(unpack(&bomb[..bomb.len() - 3], Compression::Zstd, 1 << 20).is_err());
    }
}
