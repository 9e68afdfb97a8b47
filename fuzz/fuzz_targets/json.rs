//! OTLP/JSON of arbitrary text: what was read can be written, and that is read again as the same rows.

#![no_main]

use libfuzzer_sys::fuzz_target;

mod common;

fuzz_target!(|data: &[u8]| {
    let (rows, _) = common::decode(&[b"{\"resourceSpans\":[", data].concat());
    common::round_trip(&rows);
});
