//! Attributes in JSON: `[{"key":"a","value":{"intValue":"1"}}]`, in any order of fields, into typed JSON.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::super::bad::{Read, problem, reason};
use super::super::promote;
use super::super::redact::{self, Action, Redactor};
use super::super::rows;
use super::super::typed_json::write;
use super::cursor::Cursor;

enum Field {
    Key,
    Value,
    Unknown,
}

enum Kind {
    String,
    Bool,
    Int,
    Double,
    Array,
    List,
    Bytes,
    Unknown,
}

/// Writes the attributes of the next value (an array or `null`) behind those of the object that begins at `start`; how
/// many were dropped. `found` is told each key and where its value stands.
pub(super) fn attributes(
    cursor: &mut Cursor<'_>,
    out: &mut Vec<u8>,
    start: usize,
    redactor: &mut Redactor,
    depth: usize,
    mut found: impl FnMut(&[u8], usize, usize),
) -> Read<u32> {
    let mut dropped = 0;
    cursor.array(|cursor| {
        let before = out.len();
        let Some(pair) = key_value(cursor, out, start, depth, write::string)? else { return Ok(()) };
        let key = promote::text(out, (pair.key as u32, pair.value as u32 - 1)).unwrap_or_default();
        match redactor.action(&key) {
            Action::Keep => found(&key, pair.value, out.len()),
            Action::Drop => {
                out.truncate(before);
                dropped += 1;
            }
            Action::Hash => {
                let key = key.into_owned();
                redact::hash(out, pair.value);
                found(&key, pair.value, out.len());
            }
        }
        Ok(())
    })?;
    Ok(dropped)
}

/// The attributes of a resource or a scope.
pub(super) fn shared(
    cursor: &mut Cursor<'_>,
    attributes: &mut rows::Attributes,
    redactor: &mut Redactor,
    depth: usize,
) -> Read<u32> {
    let mut out = std::mem::take(&mut attributes.out);
    let dropped = self::attributes(cursor, &mut out, 0, redactor, depth, |key, start, end| {
        attributes.attribute(key, start, end);
    });
    attributes.out = out;
    dropped
}

/// Where the parts of a pair were written: `"key":value`.
struct Pair {
    key: usize,
    value: usize,
}

/// How a key is written.
type WriteKey = fn(&mut Vec<u8>, &[u8]) -> Result<(), write::NotUtf8>;

/// Writes a key and its value, whichever comes first. Nothing for `null`.
fn key_value(
    cursor: &mut Cursor<'_>,
    out: &mut Vec<u8>,
    start: usize,
    depth: usize,
    write_key: WriteKey,
) -> Read<Option<Pair>> {
    if cursor.null()? {
        return Ok(None);
    }
    out.push(if out.len() == start { b'{' } else { b',' });
    let key = out.len();
    out.extend_from_slice(b"\"\":");
    let mut value = out.len();
    out.extend_from_slice(b"null");
    let name = |key: &str| match key {
        "key" => Field::Key,
        "value" => Field::Value,
        _ => Field::Unknown,
    };
    cursor.object(name, |cursor, field| {
        match field {
            Field::Key => {
                let text = cursor.string()?.as_bytes();
                let written = out.split_off(value);
                out.truncate(key);
                // A `str` is UTF-8.
                let _ = write_key(out, text);
                out.push(b':');
                value = out.len();
                out.extend_from_slice(&written);
            }
            Field::Value => {
                out.truncate(value);
                any_value(cursor, out, depth)?;
            }
            Field::Unknown => {
                cursor.skip()?;
            }
        }
        Ok(())
    })?;
    Ok(Some(Pair { key, value }))
}

/// Writes a value; values within it may nest `depth` deep. Of several kinds given the last counts.
fn any_value(cursor: &mut Cursor<'_>, out: &mut Vec<u8>, depth: usize) -> Read<()> {
    let start = out.len();
    let Some(depth) = depth.checked_sub(1) else {
        return Err(problem(reason::TOO_DEEP, cursor.at(), "a value nests too deep"));
    };
    out.extend_from_slice(b"null");
    let name = |key: &str| match key {
        "stringValue" | "string_value" => Kind::String,
        "intValue" | "int_value" => Kind::Int,
        "boolValue" | "bool_value" => Kind::Bool,
        "doubleValue" | "double_value" => Kind::Double,
        "arrayValue" | "array_value" => Kind::Array,
        "kvlistValue" | "kvlist_value" => Kind::List,
        "bytesValue" | "bytes_value" => Kind::Bytes,
        _ => Kind::Unknown,
    };
    cursor.object(name, |cursor, kind| {
        if matches!(kind, Kind::Unknown) {
            return cursor.skip().map(|_| ());
        }
        // A value of `null` was not set.
        if cursor.null()? {
            return Ok(());
        }
        out.truncate(start);
        match kind {
            Kind::String => write::text(out, cursor.string()?),
            Kind::Bool => out.extend_from_slice(if cursor.boolean()? { b"true" } else { b"false" }),
            Kind::Int => write::int(out, cursor.integer()?),
            Kind::Double => write::double(out, cursor.double()?),
            Kind::Bytes => bytes(cursor, out)?,
            Kind::Array => {
                values(cursor, |cursor| {
                    out.push(if out.len() == start { b'[' } else { b',' });
                    any_value(cursor, out, depth)
                })?;
                out.extend_from_slice(if out.len() == start { b"[]" } else { b"]" });
            }
            Kind::List => {
                values(cursor, |cursor| key_value(cursor, out, start, depth, write::nested_key).map(|_| ()))?;
                out.extend_from_slice(if out.len() == start { b"{}" } else { b"}" });
            }
            Kind::Unknown => {}
        }
        Ok(())
    })
}

/// The elements of `{"values":[…]}`.
fn values(cursor: &mut Cursor<'_>, mut element: impl FnMut(&mut Cursor<'_>) -> Read<()>) -> Read<()> {
    let is_values = |key: &str| key == "values";
    cursor.object(
        is_values,
        |cursor, is_values| {
            if is_values { cursor.array(&mut element) } else { cursor.skip().map(|_| ()) }
        },
    )
}

/// Base64 in either alphabet, padded or not, as JSON's mapping of protobuf allows.
fn bytes(cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Read<()> {
    const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);

    let at = cursor.at();
    let text = cursor.string()?;
    let engine = if text.contains(['-', '_']) { URL_SAFE } else { STANDARD };
    match engine.decode(text) {
        Ok(bytes) => {
            write::bytes(out, &bytes);
            Ok(())
        }
        Err(error) => Err(problem(reason::BAD_VALUE, at, format!("bytes that are not base64: {error}"))),
    }
}
