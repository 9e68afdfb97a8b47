//! What bytes are, by themselves: names lie (`facts` of exporters: no extension, a wrong one, or bytes that an HTTP
//! client has already decompressed).

use super::source::{GZIP, ZSTD};

/// How much of an object is looked at.
pub(super) const PREFIX_BYTES: usize = 512;

/// What an object, or a frame of it, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Gzip,
    Zstd,
    /// One document or many, or nothing but white space.
    Json,
    /// `TracesData` or `ExportTraceServiceRequest`, one or several behind each other: they cannot be told apart.
    Protobuf,
    /// Each message behind its length: four bytes, big-endian.
    Framed,
    Unknown,
}

/// Tells what begins with `prefix`, which is the whole if it is shorter than [`PREFIX_BYTES`].
pub(super) fn format(prefix: &[u8]) -> Format {
    let message = message(prefix);
    if message != Format::Unknown {
        return message;
    }
    // The first byte of a length below 128 MiB is no tag of protobuf (field 0), no letter and no white space.
    match prefix {
        [0..=7, _, _, _, frame @ ..] if self::message(frame) != Format::Unknown && !frame.is_empty() => Format::Framed,
        _ => Format::Unknown,
    }
}

/// Tells what a message is, compressed or not.
pub(super) fn message(prefix: &[u8]) -> Format {
    let text = skip_space(prefix);
    if prefix.starts_with(GZIP) {
        Format::Gzip
    } else if prefix.starts_with(ZSTD) {
        Format::Zstd
    } else if text.is_empty() || begins_document(text) {
        Format::Json
    } else if prefix[0] == 0x0a {
        Format::Protobuf
    } else if matches!(text[0], b'{' | b'[') {
        // Not of OTLP, but JSON: it will be told what is wrong with it.
        Format::Json
    } else {
        Format::Unknown
    }
}

/// Without white space and byte order marks at the beginning.
pub(super) fn skip_space(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii_start();
    text.strip_prefix(b"\xef\xbb\xbf").map_or(text, skip_space)
}

/// Whether JSON with a first key, or an empty object, begins here. A newline is also the tag of protobuf's field 1, and
/// `{` a length of 123: behind that a resource would have to begin with a quote and a letter to look like this.
pub(super) fn begins_document(text: &[u8]) -> bool {
    let Some(inner) = text.strip_prefix(b"{") else { return false };
    match inner.trim_ascii_start() {
        [b'}', ..] => true,
        [b'"', letter, ..] => letter.is_ascii_alphabetic() || *letter == b'_',
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_tells_the_format() {
        let cases: &[(&[u8], Format)] = &[
            (b"", Format::Json),
            (b"\n\n \n", Format::Json),
            (b"\x1f\x8b\x08", Format::Gzip),
            (b"\x28\xb5\x2f\xfd\0", Format::Zstd),
            (b"{\"resourceSpans\":[]}", Format::Json),
            (b"\n\n{ }", Format::Json),
            (b"\xef\xbb\xbf{\"a\":1}", Format::Json),
            (b"[[[[", Format::Json),
            (b"{", Format::Json),
            (b"\n{\n  \"resourceSpans\"", Format::Json),
            // A ResourceSpans of 123 bytes whose resource has 34, 32 or 10.
            (b"\n{\n\"\n rest", Format::Protobuf),
            (b"\n{\n \n rest", Format::Protobuf),
            (b"\n{\n\n\n\x08rest", Format::Protobuf),
            (b"\n{\x12\x79", Format::Protobuf),
            // One of 91 bytes.
            (b"\n[\n\x0c", Format::Protobuf),
            (b"\x0a\x86\x15", Format::Protobuf),
            (b"\0\0\0\x05\x0a\x03\x12\x01\x00", Format::Framed),
            (b"\0\x01\0\x05{\"resourceSpans\"", Format::Framed),
            (b"\0\0\0\x05\x28\xb5\x2f\xfd\0", Format::Framed),
            (&[0; 600], Format::Unknown),
            (&[0; 4], Format::Unknown),
            (b"hello", Format::Unknown),
            (b"\x12\x03abc", Format::Unknown),
        ];
        for (prefix, expected) in cases {
            assert_eq!(format(prefix), *expected, "{prefix:?}");
        }
    }
}
