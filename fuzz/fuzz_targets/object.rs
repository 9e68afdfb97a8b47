//! Whole objects: any compression and framing, small limits, small batches.

#![no_main]

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use tracefarm::otlp::redact::Redact;
use tracefarm::otlp::{Limits, ObjectDecoder, Progress, SpanRows};

fuzz_target!(|data: &[u8]| {
    let limits = Limits { message_bytes: 512, depth: 8 };
    let mut decoder = ObjectDecoder::new(data, Timestamp::UNIX_EPOCH, limits);
    let mut rows = SpanRows::new(Redact::default());
    while decoder.decode(&mut rows, 256).expect("a slice can be read") != Progress::Done {
        rows.finish();
    }
    assert!(decoder.bad().len() as u64 <= decoder.bad_count());
});
