//! OTLP in and out: what a collector wrote becomes rows of the `spans` table without a struct a span, and rows become
//! OTLP/JSON again, the same that came in.

pub mod decode;
pub mod encode;
pub mod redact;
pub mod typed_json;

pub use decode::{BadPart, Limits, ObjectDecoder, Progress, SpanRows};
