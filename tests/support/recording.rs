//! What was recorded, and what is to come of it: worked out from the official decoder's reading, by rules written here a
//! second time, as plainly as the recording allows.
#![allow(dead_code, reason = "each test that includes this file uses a part of it")]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{Span, TracesData};
use prost::Message;

use super::official;

/// The folder that holds the full recording, if it is at hand.
pub fn shared() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(|parent| parent.join("shared"));
    let folder = std::env::var_os("TRACEFARM_SHARED").map(PathBuf::from).or_else(beside)?.join("data/shop");
    folder.join("truth.json").is_file().then_some(folder)
}

/// The inbox to test with: the full recording's, or the samples'.
pub fn inbox() -> PathBuf {
    match shared() {
        Some(folder) => folder.join("inbox"),
        None => {
            static SAID: std::sync::Once = std::sync::Once::new();
            SAID.call_once(|| eprintln!("no full recording beside the checkout (../shared): testing with the samples"));
            Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/inbox")
        }
    }
}

/// A span with what stands around it, as one text of bytes: two of them are the same if these are.
pub fn whole(
    resource: Option<&Resource>,
    url: &str,
    scope: Option<&InstrumentationScope>,
    of: &str,
    span: &Span,
) -> Vec<u8> {
    let mut span = span.clone();
    // Not set and set to nothing are one to the protocol.
    if span.parent_span_id.iter().all(|byte| *byte == 0) {
        span.parent_span_id.clear();
    }
    if span.status.as_ref().is_some_and(|status| *status == Default::default()) {
        span.status = None;
    }
    let (mut resource, mut scope) = (resource.cloned().unwrap_or_default(), scope.cloned().unwrap_or_default());
    for attributes in [&mut resource.attributes, &mut scope.attributes, &mut span.attributes] {
        unset(attributes);
    }
    span.events.iter_mut().for_each(|event| unset(&mut event.attributes));
    span.links.iter_mut().for_each(|link| unset(&mut link.attributes));
    let mut bytes = resource.encode_length_delimited_to_vec();
    bytes.extend(scope.encode_length_delimited_to_vec());
    for text in [url, of] {
        bytes.extend(text.len().to_le_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes.extend(span.encode_to_vec());
    bytes
}

/// An attribute without a value and one whose value holds nothing are one to the protocol, too.
fn unset(attributes: &mut [KeyValue]) {
    for pair in attributes {
        if pair.value.as_ref().is_some_and(|value| value.value.is_none()) {
            pair.value = None;
        }
        if let Some(Any::KvlistValue(list)) = pair.value.as_mut().and_then(|value| value.value.as_mut()) {
            unset(&mut list.values);
        }
    }
}

/// Every span of OTLP documents, with what stands around it.
pub fn wholes(document: &TracesData) -> impl Iterator<Item = (&Span, Vec<u8>)> {
    document.resource_spans.iter().flat_map(|resource| {
        resource.scope_spans.iter().flat_map(move |scope| {
            scope.spans.iter().map(move |span| {
                let around = (resource.resource.as_ref(), scope.scope.as_ref());
                (span, whole(around.0, &resource.schema_url, around.1, &scope.schema_url, span))
            })
        })
    })
}

/// What is to come of an inbox.
#[derive(Default)]
pub struct Truth {
    /// Distinct spans.
    pub spans: u64,
    /// By trace id in hex: its spans, whole.
    pub traces: HashMap<String, HashSet<Vec<u8>>>,
    /// Distinct entry spans.
    pub entries: u64,
    /// Entries and errors by service and handler's name; 404s are not among them.
    pub handlers: BTreeMap<(String, String), (u64, u64)>,
    /// 404s by service, method and path.
    pub not_found: BTreeMap<(String, String, String), u64>,
    /// By service and handler's name the traces with the time of their newest entry.
    newest: BTreeMap<(String, String), HashMap<String, u64>>,
}

/// Of [`inbox`].
pub static TRUTH: LazyLock<Truth> = LazyLock::new(|| Truth::of(&inbox()));

impl Truth {
    /// Reads every object of a folder.
    pub fn of(folder: &Path) -> Self {
        let mut truth = Self::default();
        let mut seen = HashSet::new();
        for path in official::files(folder) {
            let bytes = std::fs::read(&path).unwrap();
            if path.ends_with("extra.json") {
                // It describes the others.
                continue;
            }
            for mut document in official::decode(&bytes).unwrap_or_else(|why| panic!("{}: {why}", path.display())) {
                official::keep_new(&mut document, &mut seen);
                truth.take(&document, |whole| whole);
            }
        }
        truth
    }

    /// Takes a document of which every span is new, and keeps of each, whole, what `kept` makes of it.
    pub fn take(&mut self, document: &TracesData, kept: impl Fn(Vec<u8>) -> Vec<u8>) {
        for (span, whole) in wholes(document) {
            self.traces.entry(hex(&span.trace_id)).or_default().insert(kept(whole));
            self.spans += 1;
        }
        for resource in &document.resource_spans {
            let service = resource.resource.as_ref().and_then(|r| text(&r.attributes, &["service.name"]));
            let service = service.unwrap_or_default();
            resource.scope_spans.iter().flat_map(|scope| &scope.spans).for_each(|span| self.add(&service, span));
        }
    }

    fn add(&mut self, service: &str, span: &Span) {
        let is_root = span.parent_span_id.iter().all(|byte| *byte == 0);
        if !(matches!(span.kind, 2 | 5) || is_root) {
            return;
        }
        self.entries += 1;
        match told(span) {
            Told::Handler(name) => {
                let status = number(&span.attributes, &["http.response.status_code", "http.status_code"]);
                let failed = span.status.as_ref().is_some_and(|status| status.code == 2);
                // What SDKs say, and lists show, of a service without a name.
                let service = if service.is_empty() { "unknown_service" } else { service };
                let key = (service.to_owned(), name);
                let counts = self.handlers.entry(key.clone()).or_default();
                counts.0 += 1;
                counts.1 += u64::from(failed || status.is_some_and(|status| status >= 500));
                let newest = self.newest.entry(key).or_default().entry(hex(&span.trace_id)).or_default();
                *newest = span.start_time_unix_nano.max(*newest);
            }
            Told::NotFound(method, path) => {
                *self.not_found.entry((service.to_owned(), method, path)).or_default() += 1;
            }
        }
    }

    /// The newest traces of a handler, newest first.
    pub fn newest(&self, service: &str, name: &str, keep: usize) -> Vec<String> {
        self.newest_of_all(&[(service.to_owned(), name.to_owned())], keep)
    }

    /// Of handlers that count as one, by service and name.
    pub fn newest_of_all(&self, handlers: &[(String, String)], keep: usize) -> Vec<String> {
        let mut newest = BTreeMap::new();
        for (trace, start) in handlers.iter().filter_map(|handler| self.newest.get(handler)).flatten() {
            let known = newest.entry(trace.clone()).or_insert(*start);
            *known = (*known).max(*start);
        }
        let mut traces: Vec<_> = newest.into_iter().map(|(trace, start)| (start, trace)).collect();
        traces.sort_by(|a, b| b.cmp(a));
        traces.into_iter().take(keep).map(|(_, trace)| trace).collect()
    }

    /// The ids of all traces, in order.
    pub fn trace_ids(&self) -> BTreeSet<&String> {
        self.traces.keys().collect()
    }
}

enum Told {
    Handler(String),
    NotFound(String, String),
}

/// The handler rules, as far as the recording needs them.
fn told(span: &Span) -> Told {
    let attributes = &span.attributes;
    let method = text(attributes, &["http.request.method", "http.method"]);
    let handler = match (span.kind, method) {
        (2, Some(method)) => {
            let route = text(attributes, &["http.route"]).filter(|route| !route.is_empty());
            let status = number(attributes, &["http.response.status_code", "http.status_code"]);
            match route {
                Some(route) => format!("{method} {}", canonical(&route)),
                None if matches!(status, Some(404 | 405)) => {
                    let target = text(attributes, &["url.path", "http.target"]);
                    let target = target.or_else(|| {
                        let url = text(attributes, &["http.url"])?;
                        Some(format!("/{}", url.split_once("://")?.1.split_once('/')?.1))
                    });
                    let path = target.unwrap_or_default().split(['?', '#']).next().unwrap_or_default().to_owned();
                    return Told::NotFound(method, path);
                }
                None if span.name != method && !span.name.is_empty() => span.name.clone(),
                None => format!("{method} (no route)"),
            }
        }
        (2 | 5, _) => span.name.clone(),
        (1, _) => format!("job {}", span.name),
        (3 | 4, _) => format!("client {}", span.name),
        _ => span.name.clone(),
    };
    Told::Handler(handler)
}

/// `/users/:id` and `/users/<int:id>` as `/users/{id}`; no slash at the end.
pub fn canonical(route: &str) -> String {
    let segment = |segment: &str| {
        let angled = segment.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
        let name = segment.strip_prefix(':').or(angled.map(|name| name.rsplit(':').next().unwrap_or(name)));
        name.map_or_else(|| segment.to_owned(), |name| format!("{{{name}}}"))
    };
    let route = route.split('/').map(segment).collect::<Vec<_>>().join("/");
    if route.len() > 1 { route.trim_end_matches('/').to_owned() } else { route }
}

fn value<'a>(attributes: &'a [KeyValue], keys: &[&str]) -> Option<&'a Any> {
    keys.iter().find_map(|key| attributes.iter().find(|pair| pair.key == *key)?.value.as_ref()?.value.as_ref())
}

fn text(attributes: &[KeyValue], keys: &[&str]) -> Option<String> {
    match value(attributes, keys)? {
        Any::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

fn number(attributes: &[KeyValue], keys: &[&str]) -> Option<i64> {
    match value(attributes, keys)? {
        Any::IntValue(number) => Some(*number),
        _ => None,
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
