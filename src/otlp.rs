//! OTLP in and out: what a collector wrote becomes rows of the `spans` table without a struct a span, and rows become
//! OTLP/JSON again, the same that came in.
//!
//! ```text
//! object ─▶ decompress (gzip, zstd, up to three times) ─▶ frame ─▶ message ─▶ columns ─▶ RecordBatch ─▶ OTLP/JSON
//!           source                                        decode   protobuf,   rows                     encode
//!                                                         lines    json
//! ```
//!
//! # What is read
//! The format is told by content (`sniff`), never by a name:
//! - gzip with any number of members, zstd with any number of frames, one within the other up to three times;
//! - OTLP protobuf: `TracesData` or `ExportTraceServiceRequest`, one or several behind each other; it begins with field
//!   1, and `scope_spans` may be the `instrumentation_library_spans` of before 2022;
//! - OTLP/JSON: one document, one a line, one behind the other, or over many lines; leniently (`json`): names of enums,
//!   numbers in strings and strings for numbers, `null`, `snake_case`, unknown fields however deep;
//! - messages of either, each behind its length in four bytes (big-endian), each compressed or not.
//!
//! # Limits
//! | what | how much | beyond it |
//! | --- | --- | --- |
//! | a message: a `ResourceSpans`, a JSON document, a frame | [`Limits::message_bytes`], 64 MiB decompressed; never above [`decode::MOST_MESSAGE_BYTES`] | `too-large`; the next one is read |
//! | values within values | [`Limits::depth`], 100; never above [`typed_json::MAX_DEPTH`] | `too-deep`; the span is left out |
//! | layers of compression | 3 | `unknown-format` |
//! | a zstd window | 128 MiB (`--long=27`) | `corrupt` |
//! | bad parts told one by one | 100 | counted |
//! | a promoted text (`http_route`, …) | 64 KiB | cut; whole in `attributes` |
//!
//! An object may be of any size: it is read message by message, and spread over batches by
//! [`ObjectDecoder::decode`]. In memory are one message, its buffer (up to twice its size) and the rows; rows of a
//! hostile message may be ten times as large as it is (control characters are six bytes in JSON). White space alone is
//! an empty object; zeros are no format, and reading stops at the first few.
//!
//! # What is bad, and what is kept
//! A [`BadPart`] is the smallest thing that cannot be read, and everything around it is kept:
//! - a span with a trace or span id that is missing, zero or of a wrong length, a parent's id of a wrong length, text
//!   that is not UTF-8, a value of a wrong type or too deep: that span;
//! - a scope or resource that cannot be read: its spans, as nobody could tell whose they are;
//! - a message that is cut or whose structure breaks: what stands before that place is kept;
//! - a line or a frame: the next one is read. Protobuf whose top level breaks ends there;
//! - gzip or zstd that breaks: what was decompressed before is kept. So are the spans of a gzip stream whose checksum is
//!   wrong: they decoded whole, but some byte of it is not what was written, and the part says so;
//! - logs, metrics, other JSON: `not-traces`, the whole message.
//!
//! # What is the same
//! Everything the protocol (opentelemetry-proto 1.10) carries comes out again, but for what it can say in two ways: an
//! absent message and an empty one (resource, scope, status, a value never set) are equal; a parent's id of zeros is no
//! parent; NaN is NaN whatever its bits; a resource or scope without spans is nothing; which `ScopeSpans` a span shared
//! with which other one is not kept, equal scopes are one. Fields unknown to the protocol are not kept, and neither are
//! references into string tables, which only profiles have (the protocol asks to treat them as absent).

pub mod bad;
pub mod decode;
mod dictionary;
mod elements;
pub mod encode;
mod json;
mod lines;
mod promote;
mod protobuf;
pub mod redact;
pub mod request;
pub mod rows;
mod sink;
mod sniff;
mod source;
pub mod typed_json;
mod wire;

pub use bad::BadPart;
pub use decode::{Limits, ObjectDecoder, Progress};
pub use rows::SpanRows;
