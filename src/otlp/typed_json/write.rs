//! The writer of typed JSON: appends to one growing buffer, copies clean runs whole.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Value;

/// A string that should be UTF-8 is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not UTF-8 from its byte {0} on")]
pub struct NotUtf8(pub usize);

/// What follows the backslash for a byte that must be escaped; 0 for the others; `u` for those in hex.
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = b'u';
        byte += 1;
    }
    table[b'\n' as usize] = b'n';
    table[b'\r' as usize] = b'r';
    table[b'\t' as usize] = b't';
    table[0x08] = b'b';
    table[0x0c] = b'f';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// `bytes` as a JSON string, with its quotes.
///
/// # Errors
/// If they are not UTF-8; nothing is written then.
#[inline]
pub fn string(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), NotUtf8> {
    out.reserve(bytes.len() + 3);
    if is_plain(bytes) {
        out.push(b'"');
        out.extend_from_slice(bytes);
        out.push(b'"');
        return Ok(());
    }
    escaped(out, utf8(bytes)?);
    Ok(())
}

/// `text` as a JSON string, with its quotes.
#[inline]
pub fn text(out: &mut Vec<u8>, text: &str) {
    if string(out, text.as_bytes()).is_err() {
        debug_assert!(false, "a str is UTF-8");
    }
}

/// `bytes` as text.
///
/// # Errors
/// If they are not UTF-8.
pub fn utf8(bytes: &[u8]) -> Result<&str, NotUtf8> {
    simdutf8::basic::from_utf8(bytes)
        .map_err(|_| NotUtf8(std::str::from_utf8(bytes).err().map_or(0, |error| error.valid_up_to())))
}

/// Whether all bytes are ASCII that stands in JSON as it is: nothing to check and nothing to escape. Eight at a time.
#[inline]
pub(crate) fn is_plain(bytes: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // The high bit of a byte is set if it is special. Borrows can only mark a byte above one that is special itself.
    const fn special(word: u64) -> u64 {
        let below_space = word.wrapping_sub(ONES * 0x20);
        let quote = (word ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
        let backslash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
        // A byte ≥ 0x80 counts by itself, so the false marks of the others at such bytes do no harm.
        (below_space | quote | backslash | word) & HIGH
    }
    let (words, rest) = bytes.as_chunks::<8>();
    let mut found = 0;
    for word in words {
        found |= special(u64::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        let last = match bytes.last_chunk::<8>() {
            Some(last) => *last,
            None => {
                let mut padded = [b' '; 8];
                padded[..rest.len()].copy_from_slice(rest);
                padded
            }
        };
        found |= special(u64::from_le_bytes(last));
    }
    found == 0
}

fn escaped(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.push(b'"');
    let mut clean = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let escape = ESCAPES[usize::from(*byte)];
        if escape == 0 {
            continue;
        }
        out.extend_from_slice(&bytes[clean..at]);
        clean = at + 1;
        out.extend_from_slice(&[b'\\', escape]);
        if escape == b'u' {
            out.extend_from_slice(&[b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
    out.extend_from_slice(&bytes[clean..]);
    out.push(b'"');
}

/// A key of a nested list, with its quotes: one that begins with `$` gets one more.
///
/// # Errors
/// If it is not UTF-8; nothing is written then.
#[inline]
pub fn nested_key(out: &mut Vec<u8>, key: &[u8]) -> Result<(), NotUtf8> {
    let start = out.len();
    string(out, key)?;
    if key.first() == Some(&b'$') {
        out.insert(start + 1, b'$');
    }
    Ok(())
}

/// An integer.
#[inline]
pub fn int(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A number without a sign: times and counts.
#[inline]
pub fn unsigned(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A double: the shortest text that reads back the same, always with a point or an exponent.
pub fn double(out: &mut Vec<u8>, number: f64) {
    if number.is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(number).as_bytes());
    } else {
        out.extend_from_slice(b"{\"$double\":\"");
        out.extend_from_slice(not_finite(number).as_bytes());
        out.extend_from_slice(b"\"}");
    }
}

/// The name of a number that is not finite, as OTLP/JSON has it, too.
pub(crate) fn not_finite(number: f64) -> &'static str {
    if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

/// Bytes.
pub fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(b"{\"$bytes\":\"");
    base64(out, bytes);
    out.extend_from_slice(b"\"}");
}

/// Bytes in base64, without quotes.
pub(crate) fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut out[start..]);
    debug_assert_eq!(written.ok(), Some(out.len() - start), "base64 is as long as it says");
}

/// `bytes` in lower-case hex, without quotes.
#[inline]
pub(crate) fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

/// Any value.
pub fn value(out: &mut Vec<u8>, any: &Value<'_>) {
    match any {
        Value::String(string) => text(out, string),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(number) => int(out, *number),
        Value::Double(number) => double(out, *number),
        Value::Bytes(data) => bytes(out, data),
        Value::Array(values) => {
            out.push(b'[');
            for (at, one) in values.iter().enumerate() {
                separate(out, at);
                value(out, one);
            }
            out.push(b']');
        }
        Value::List(list) => {
            out.push(b'{');
            for (at, (key, one)) in list.iter().enumerate() {
                separate(out, at);
                let written = nested_key(out, key.as_bytes());
                debug_assert_eq!(written, Ok(()), "a str is UTF-8");
                out.push(b':');
                value(out, one);
            }
            out.push(b'}');
        }
        Value::None => out.extend_from_slice(b"null"),
    }
}

fn separate(out: &mut Vec<u8>, at: usize) {
    if at > 0 {
        out.push(b',');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_clean_ascii_is_plain() {
        assert!(is_plain(b"") && is_plain(b"short") && is_plain(b"exactly8") && is_plain(b"longer than eight ~!#[]"));
        for length in [1, 3, 8, 9, 16, 30] {
            for at in 0..length {
                for special in [b'"', b'\\', 0, 0x1f, 0x80, 0xff, b'\n'] {
                    let mut bytes = vec![b'a'; length];
                    bytes[at] = special;
                    assert!(!is_plain(&bytes), "{special} at {at} of {length}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn plain_is_what_serde_json_copies(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let plain = bytes.iter().all(|byte| (0x20..0x80).contains(byte) && !matches!(byte, b'"' | b'\\'));
            prop_assert_eq!(is_plain(&bytes), plain);
        }

        #[test]
        fn strings_are_json(string in ".*") {
            let mut out = Vec::new();
            text(&mut out, &string);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), string);
        }
    }
}
