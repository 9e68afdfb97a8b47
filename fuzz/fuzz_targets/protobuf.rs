//! A `TracesData` of arbitrary bytes. Where our decoder finds nothing wrong, the official one does not either, and both
//! read as many spans; what was read can be written as OTLP/JSON, and that is read again as the same rows.

#![no_main]

use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message;

mod common;

fuzz_target!(|data: &[u8]| {
    if data.first() != Some(&0x0a) {
        return;
    }
    let (rows, bad) = common::decode(data);
    common::round_trip(&rows);
    // Scope spans of before 2022 (field 1000) are unknown to the official code; white space is no message.
    let is_json = data.trim_ascii_start().first().is_none_or(|byte| *byte == b'{');
    if bad == 0 && !is_json && !data.windows(2).any(|pair| pair == [0xc2, 0x3e]) {
        let Ok(official) = TracesData::decode(data) else { return };
        let scopes = official.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        assert_eq!(rows.num_rows(), scopes.map(|scope| scope.spans.len()).sum::<usize>());
    }
});
