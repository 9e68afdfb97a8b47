//! OTLP in and out: what a collector wrote becomes rows of the `spans` table without a struct a span, and rows become
//! OTLP/JSON again, the same that came in.

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
pub mod rows;
mod sink;
mod sniff;
mod source;
pub mod typed_json;
mod wire;

pub use bad::BadPart;
pub use decode::{Limits, ObjectDecoder, Progress};
pub use rows::SpanRows;
