//! The handlers of the recording against its truth: every entry span under its handler, every 404 by method and path.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, and one that skips says so"
)]

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int32Type;
use jiff::Timestamp;
use serde::Deserialize;
use tracefarm::handler::{self, Rules};
use tracefarm::otlp::redact::Redact;
use tracefarm::otlp::{Limits, ObjectDecoder, Progress, SpanRows};

/// What `truth.json` says of entry spans; Python worked it out with the official package.
#[derive(Deserialize)]
struct Truth {
    entry_spans: Vec<EntrySpans>,
    server_404_without_http_route: Vec<NotFound>,
    server_404_without_http_route_total: u64,
}

#[derive(Deserialize)]
struct EntrySpans {
    service: String,
    kind: String,
    name: String,
    http_route: Option<String>,
    method: String,
    is_root: bool,
    count: u64,
}

#[derive(Deserialize)]
struct NotFound {
    service: String,
    method: String,
    path: String,
    count: u64,
}

impl EntrySpans {
    /// The handler that they should hit, told from the truth alone. In the recording every request without a route is a
    /// 404, and parameters are written `:id`, `<id>` and `{id}`.
    fn handler(&self) -> (String, String) {
        let name = match (self.kind.as_str(), &self.http_route) {
            ("SERVER", Some(route)) => {
                let segments = route.split('/').map(|segment| {
                    let name = segment.strip_prefix(':').or_else(|| segment.strip_prefix('<')?.strip_suffix('>'));
                    name.map_or_else(|| segment.to_owned(), |name| format!("{{{name}}}"))
                });
                format!("{} {}", self.method, segments.collect::<Vec<_>>().join("/"))
            }
            ("SERVER", None) => "404".to_owned(),
            ("CONSUMER", _) => self.name.clone(),
            ("INTERNAL", _) => format!("job {}", self.name),
            ("CLIENT", _) => format!("client {}", self.name),
            _ => self.name.clone(),
        };
        (self.service.clone(), name)
    }
}

/// One row of entries, as text.
#[derive(Clone)]
struct Entry {
    id: String,
    service: String,
    name: String,
    method: String,
    route: Option<String>,
    path: Option<String>,
    is_root: bool,
}

fn rows(batch: &RecordBatch) -> Vec<([u8; 16], [u8; 8], i32, Entry)> {
    let text = |name: &str, row: usize| {
        let column = batch.column_by_name(name).unwrap();
        match column.as_dictionary_opt::<Int32Type>() {
            Some(texts) => texts.key(row).map(|key| texts.values().as_string::<i32>().value(key).to_owned()),
            None => column.is_valid(row).then(|| column.as_string::<i32>().value(row).to_owned()),
        }
    };
    let bytes = |name: &str, row: usize| batch.column_by_name(name).unwrap().as_fixed_size_binary().value(row).to_vec();
    let kind = batch.column_by_name("kind").unwrap().as_primitive::<Int32Type>();
    (0..batch.num_rows())
        .map(|row| {
            let entry = Entry {
                id: text("handler", row).unwrap(),
                service: text("service", row).unwrap_or_default(),
                name: text("handler_name", row).unwrap(),
                method: text("method", row).unwrap_or_default(),
                route: text("route", row),
                path: text("path", row),
                is_root: batch.column_by_name("is_root").unwrap().as_boolean().value(row),
            };
            let (trace, span) = (bytes("trace_id", row), bytes("span_id", row));
            (trace.try_into().unwrap(), span.try_into().unwrap(), kind.value(row), entry)
        })
        .collect()
}

/// Every entry of the recording once, and the batches of spans.
fn recorded(folder: &Path) -> (Vec<Entry>, Vec<RecordBatch>) {
    let mut folders = vec![folder.join("inbox")];
    let (mut entries, mut batches, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    while let Some(next) = folders.pop() {
        for path in std::fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let object = std::fs::read(path).unwrap();
            let mut decoder = ObjectDecoder::new(object.as_slice(), Timestamp::UNIX_EPOCH, Limits::default());
            let mut spans = SpanRows::new(Redact::default());
            while decoder.decode(&mut spans, usize::MAX).unwrap() != Progress::Done {}
            let spans = spans.finish();
            let batch = handler::entries(&spans, &Rules::default()).unwrap();
            assert_eq!(batch.schema(), tracefarm::table::entries::schema());
            for (trace, span, kind, entry) in rows(&batch) {
                if seen.insert((trace, span, kind == 2)) {
                    entries.push(entry);
                }
            }
            batches.push(spans);
        }
    }
    (entries, batches)
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

#[test]
fn every_entry_of_the_recording_is_under_its_handler() {
    let Some(folder) = shared() else { return };
    let truth: Truth = serde_json::from_slice(&std::fs::read(folder.join("truth.json")).unwrap()).unwrap();
    let (entries, batches) = recorded(&folder);

    let mut expected: BTreeMap<((String, String), bool), u64> = BTreeMap::new();
    for spans in &truth.entry_spans {
        *expected.entry((spans.handler(), spans.is_root)).or_default() += spans.count;
    }
    let mut told: BTreeMap<((String, String), bool), u64> = BTreeMap::new();
    let mut ids: BTreeMap<(String, String), String> = BTreeMap::new();
    for entry in &entries {
        let handler = (entry.service.clone(), entry.name.clone());
        *told.entry((handler.clone(), entry.is_root)).or_default() += 1;
        assert_eq!(*ids.entry(handler).or_insert_with(|| entry.id.clone()), entry.id, "one name, one id");
        assert!(entry.route.is_none() || entry.path.is_none(), "a path only without a route");
    }
    assert_eq!(told, expected);
    assert_eq!(ids.values().collect::<HashSet<_>>().len(), ids.len(), "one id, one name");

    // `explain` tells the same, with the rule.
    for spans in &batches {
        let entries = rows(&handler::entries(spans, &Rules::default()).unwrap());
        let explained = handler::explain(spans, &Rules::default()).unwrap();
        assert_eq!(entries.len(), explained.len());
        for ((.., entry), (_, told)) in entries.iter().zip(&explained) {
            assert_eq!(
                (&entry.id, &entry.name, entry.method.as_str(), &entry.route, &entry.path),
                (&told.id.to_string(), &told.name, told.method.as_deref().unwrap_or_default(), &told.route, &told.path)
            );
        }
    }
}

#[test]
fn every_404_of_the_recording_is_listed_by_method_and_path() {
    let Some(folder) = shared() else { return };
    let truth: Truth = serde_json::from_slice(&std::fs::read(folder.join("truth.json")).unwrap()).unwrap();
    let (entries, _) = recorded(&folder);
    let mut told: BTreeMap<(String, String, String), u64> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.name == "404") {
        assert!(entry.id.starts_with("web/404-"), "{}", entry.id);
        *told.entry((entry.service.clone(), entry.method.clone(), entry.path.clone().unwrap())).or_default() += 1;
    }
    let listed = truth.server_404_without_http_route.into_iter();
    let expected = listed.map(|list| ((list.service, list.method, list.path), list.count)).collect();
    assert_eq!(told, expected);
    assert_eq!(told.values().sum::<u64>(), truth.server_404_without_http_route_total);
}

/// Run by hand with `cargo test --test handlers -- --ignored --nocapture`: how much processor time an entry takes (Linux).
#[test]
#[ignore = "a measurement"]
fn how_long_an_entry_takes() {
    let Some(folder) = shared() else { return };
    let (_, batches) = recorded(&folder);
    let spans = arrow::compute::concat_batches(&tracefarm::table::spans::schema(), &batches).unwrap();
    let processor_ns = || -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        stat.split_whitespace().next().unwrap().parse().unwrap()
    };
    let began = processor_ns();
    let mut rows = 0;
    for _ in 0..20 {
        rows += handler::entries(&spans, &Rules::default()).unwrap().num_rows();
    }
    let ns = (processor_ns() - began) as f64 / rows as f64;
    eprintln!("{ns:.0} ns an entry ({} spans, {} entries a batch)", spans.num_rows(), rows / 20);
}
