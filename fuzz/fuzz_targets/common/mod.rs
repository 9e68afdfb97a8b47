//! What the targets share.

use arrow::record_batch::RecordBatch;
use jiff::Timestamp;
use tracefarm::otlp::redact::Redact;
use tracefarm::otlp::{Limits, ObjectDecoder, Progress, SpanRows, encode};

/// The rows of an object, and how many of its parts are bad.
pub fn decode(object: &[u8]) -> (RecordBatch, u64) {
    let mut decoder = ObjectDecoder::new(object, Timestamp::UNIX_EPOCH, Limits::default());
    let mut rows = SpanRows::new(Redact::default());
    while decoder.decode(&mut rows, usize::MAX).expect("a slice can be read") != Progress::Done {}
    (rows.finish(), decoder.bad_count())
}

/// Rows are written as OTLP/JSON that is read without a bad part and written again as the same text.
pub fn round_trip(rows: &RecordBatch) {
    let text = encode::traces_data(std::slice::from_ref(rows)).expect("our own rows can be written");
    let (again, bad) = decode(text.as_bytes());
    assert_eq!((again.num_rows(), bad), (rows.num_rows(), 0), "{text}");
    assert_eq!(encode::traces_data(&[again]).expect("our own rows can be written"), text);
}
