//! The decoders against the official generated code, on everything that was recorded and on what chance makes up.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stderr, reason = "who runs the tests should know what was not tested")]

mod bad;
mod oracle;
mod property;
mod recorded;
mod redact;
mod scrambled;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use opentelemetry_proto::tonic::trace::v1::TracesData;
use tracefarm::otlp::redact::Redact;
use tracefarm::otlp::{BadPart, Limits, ObjectDecoder, Progress, SpanRows, encode};

/// What our decoder makes of an object: OTLP again, and what was bad. Batches are small, so that objects are spread
/// over several.
fn decoded(object: &[u8], limits: &Limits) -> (TracesData, Vec<BadPart>, usize) {
    let (text, bad, count) = decoded_text(object, limits);
    let documents = oracle::documents(&text);
    assert_eq!(documents.len(), 1);
    (oracle::traces_data(&documents[0]), bad, count)
}

/// Our OTLP/JSON of a good object.
fn encoded(object: &[u8]) -> String {
    let (text, bad, _) = decoded_text(object, &Limits::default());
    assert_eq!(bad, []);
    text
}

fn decoded_text(object: &[u8], limits: &Limits) -> (String, Vec<BadPart>, usize) {
    let mut decoder = ObjectDecoder::new(object, Timestamp::UNIX_EPOCH, limits.clone());
    let mut rows = SpanRows::new(Redact::default());
    let mut batches = Vec::new();
    loop {
        let progress = decoder.decode(&mut rows, 20_000).expect("a slice can be read");
        batches.push(rows.finish());
        if progress == Progress::Done {
            break;
        }
    }
    let count = batches.iter().map(|batch| batch.num_rows()).sum();
    let text = encode::traces_data(&batches).expect("our own batches can be written");
    (text, decoder.bad().to_vec(), count)
}

/// The full recording: `TRACEFARM_SHARED`, or `../shared` beside the checkout.
fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("TRACEFARM_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from)
        .join("data/shop");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: the full recording is not at {} (set TRACEFARM_SHARED)", folder.display());
    None
}

/// All files below `folder`, with their paths in it.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut folders = vec![folder.to_owned()];
    let mut files = Vec::new();
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("below it").to_string_lossy().into_owned();
                files.push((name, std::fs::read(&path).expect("a file")));
            }
        }
    }
    files.sort();
    files
}
