//! A simulated store with requests in it, for tests of the stages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Desk, Inbox, Pace, Round, StageReport, compact, expire, index, publish};
use crate::clock::Clock;
use crate::farm::Settings;
use crate::farm::heartbeat::Heart;
use crate::handler::catalogue::Catalogue;
use crate::model::{HandlerId, SpanId, TraceId, WorkerName};
use crate::query::Reader;
use crate::query::columns::Spans;
use crate::query::pin::{self, Pins};
use crate::query::trace::{self, Lookup};
use crate::store::Store;
use crate::store::fault::{Bucket, Client, Fate, Incident, Script, Stored};
use crate::table::read::Blocks;

pub(crate) const GRACE: Duration = Duration::from_secs(600);

/// 2026-11-22T14:00:00 in nanoseconds.
pub(crate) const START: u64 = 1_795_356_000_000_000_000;

/// Nanoseconds in a minute.
pub(crate) const MINUTE: u64 = 60_000_000_000;

/// A store and its clock, which begins at 2026-11-22T14:30:00.
pub(crate) struct World {
    pub clock: Clock,
    pub bucket: Bucket,
    pub settings: Settings,
    pub catalogue: (u64, Catalogue),
    pub grace: Duration,
    pub keep_inbox: bool,
    /// As [`Desk::many_blocks`].
    pub many_blocks: usize,
}

/// A worker's desk.
pub(crate) struct At {
    pub desk: Desk,
    pub round: Round,
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = Clock::simulated("2026-11-22T14:30:00Z".parse().unwrap(), 1);
        let bucket = Bucket::new(clock.clone(), 1_000);
        let (settings, catalogue) = (Settings::default(), (0, Catalogue::default()));
        Self { clock, bucket, settings, catalogue, grace: GRACE, keep_inbox: false, many_blocks: publish::plan::MANY }
    }

    pub(crate) fn calm(&self) -> Client {
        self.bucket.client("calm", Box::new(|_| Fate::calm()))
    }

    pub(crate) fn client(&self, script: Script) -> Client {
        self.bucket.client("odd", script)
    }

    /// Sits down at the store as seen through `client`.
    pub(crate) async fn sit(&self, client: &Client) -> At {
        let bucket = self.bucket.clone();
        let now = Arc::new(move || bucket.now());
        let store = Store::over_with_time(Arc::new(client.clone()), "memory://", self.clock.clone(), now);
        let name: WorkerName = "test".parse().unwrap();
        let heart = Heart::new(self.clock.clone(), name.clone());
        heart.beat(&store).await.unwrap();
        let desk = Desk {
            inbox: Inbox { store: store.clone(), keep: self.keep_inbox },
            blocks: Blocks::new(store.clone(), 1 << 20),
            store,
            clock: self.clock.clone(),
            heart,
            settings: Arc::new(self.settings.clone()),
            settings_read: self.clock.monotonic(),
            catalogue: Arc::new(self.catalogue.clone()),
            grace: self.grace,
            once: true,
            memory_bytes: 64 << 20,
            file_bytes: compact::FILE_BYTES,
            many_blocks: self.many_blocks,
            worker: name,
            guard: None,
            pace: Pace::default(),
        };
        At { round: Round::alone(&self.clock), desk }
    }

    pub(crate) async fn desk(&self) -> At {
        self.sit(&self.calm()).await
    }

    pub(crate) async fn sleep(&self, seconds: u64) {
        self.clock.sleep(Duration::from_secs(seconds)).await;
    }

    /// Puts spans into the inbox, an object each.
    pub(crate) fn send(&self, name: &str, spans: &[Sent]) {
        self.bucket.put(&format!("inbox/{name}.jsonl"), spans.iter().map(Sent::json).collect::<String>());
    }

    /// Indexes and compacts what there is.
    pub(crate) async fn take_in(&self) {
        self.sleep(61).await;
        for _ in 0..2 {
            let at = self.desk().await;
            clean(index::run(&at.desk, &at.round).await.unwrap());
            self.sleep(2).await;
            let at = self.desk().await;
            clean(compact::run(&at.desk, &at.round).await.unwrap());
            self.sleep(GRACE.as_secs() + 2).await;
        }
        let at = self.desk().await;
        clean(compact::run(&at.desk, &at.round).await.unwrap());
    }

    pub(crate) async fn expire(&self) -> StageReport {
        let at = self.desk().await;
        clean(expire::run(&at.desk, &at.round).await.unwrap())
    }

    pub(crate) async fn publish(&self) -> StageReport {
        let at = self.desk().await;
        clean(publish::run(&at.desk, &at.round).await.unwrap())
    }

    /// One worker does everything there is to do, as time passes.
    pub(crate) async fn drain(&self) {
        for _ in 0..3 {
            self.take_in().await;
            self.expire().await;
            self.sleep(GRACE.as_secs() + 2).await;
        }
    }

    /// One worker expires what there is, as time passes.
    pub(crate) async fn settle(&self) {
        for _ in 0..2 {
            self.expire().await;
            self.sleep(GRACE.as_secs() + 2).await;
        }
    }

    /// The spans of a trace that a reader finds, revisions once; none if there is no trace.
    pub(crate) async fn spans_of(&self, id: TraceId) -> BTreeSet<SpanId> {
        let at = self.desk().await;
        match trace::find(&Reader::from(&at.desk), id).await.unwrap() {
            Lookup::Found(found) => {
                let spans = Spans::of(&found.rows).unwrap();
                (0..spans.len()).map(|row| spans.span(row)).collect()
            }
            Lookup::Forgotten | Lookup::Missing => BTreeSet::new(),
        }
    }

    /// What is pinned: handler → trace → spans of all versions.
    pub(crate) async fn pinned(&self) -> BTreeMap<HandlerId, BTreeMap<TraceId, BTreeSet<SpanId>>> {
        let at = self.desk().await;
        let mut all: BTreeMap<HandlerId, BTreeMap<TraceId, BTreeSet<SpanId>>> = BTreeMap::new();
        for version in Pins::all(&at.desk.store).await.unwrap().iter() {
            let rows = pin::read(&at.desk.store, version).await.unwrap();
            let spans = Spans::of(&rows).unwrap();
            let known = all.entry(version.handler.clone()).or_default().entry(version.trace).or_default();
            known.extend((0..spans.len()).map(|row| spans.span(row)));
        }
        all
    }

    /// A document of the site.
    pub(crate) fn site<T: serde::de::DeserializeOwned>(&self, path: &str) -> T {
        let stored = self.bucket.read(path).unwrap_or_else(|| panic!("{path} is not there"));
        serde_json::from_slice(&stored.body).unwrap()
    }

    /// Puts the store back as it stood.
    pub(crate) fn reset(&self, objects: BTreeMap<String, Stored>) {
        for path in self.bucket.paths("") {
            self.bucket.remove(&path);
        }
        self.bucket.restore(objects);
    }

    /// When an object was written.
    pub(crate) fn modified(&self, path: &str) -> Timestamp {
        self.bucket.read(path).unwrap_or_else(|| panic!("{path} is not there")).modified
    }
}

/// Dies at a call of the store, counted from 1: before it has an effect, or after.
pub(crate) fn crash_at(call: usize, after: bool) -> Script {
    let mut number = 0;
    Box::new(move |_| {
        number += 1;
        match (number == call, after) {
            (false, _) => Fate::calm(),
            (true, false) => Fate::before(Incident::Crash),
            (true, true) => Fate::after(Incident::Crash),
        }
    })
}

/// A report without failures.
pub(crate) fn clean(report: StageReport) -> StageReport {
    assert!(report.failed.is_empty(), "{:#?}", report.failed);
    report
}

pub(crate) fn trace_id(number: u64) -> TraceId {
    TraceId(u128::from(number).to_be_bytes())
}

pub(crate) fn span_id(number: u64) -> SpanId {
    SpanId(number.to_be_bytes())
}

/// A span on its way to the inbox.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub trace: u64,
    pub span: u64,
    pub parent: u64,
    pub service: &'static str,
    pub start: u64,
    pub duration: u64,
    pub kind: u8,
    pub route: Option<&'static str>,
    pub path: Option<String>,
    pub status: Option<u16>,
    pub attributes: String,
}

impl Sent {
    /// A span of kind INTERNAL.
    pub(crate) fn inner(trace: u64, span: u64, parent: u64, service: &'static str, start: u64) -> Self {
        Self {
            trace,
            span,
            parent,
            service,
            start,
            duration: 1_000_000,
            kind: 1,
            route: None,
            path: None,
            status: None,
            attributes: String::new(),
        }
    }

    /// A request that hit a route.
    pub(crate) fn request(trace: u64, span: u64, route: &'static str, start: u64) -> Self {
        Self { kind: 2, route: Some(route), status: Some(200), ..Self::inner(trace, span, 0, "web", start) }
    }

    /// A request that hit none.
    pub(crate) fn not_found(trace: u64, span: u64, path: &str, start: u64) -> Self {
        Self { kind: 2, path: Some(path.to_owned()), status: Some(404), ..Self::inner(trace, span, 0, "web", start) }
    }

    fn json(&self) -> String {
        let mut attributes = Vec::new();
        let text = |key: &str, value: &str| format!(r#"{{"key":"{key}","value":{{"stringValue":"{value}"}}}}"#);
        if self.kind == 2 {
            attributes.push(text("http.request.method", "GET"));
        }
        attributes.extend(self.route.map(|route| text("http.route", route)));
        attributes.extend(self.path.as_ref().map(|path| text("url.path", path)));
        attributes.extend(
            self.status
                .map(|status| format!(r#"{{"key":"http.response.status_code","value":{{"intValue":"{status}"}}}}"#)),
        );
        if !self.attributes.is_empty() {
            attributes.push(self.attributes.clone());
        }
        let parent = if self.parent == 0 { String::new() } else { span_id(self.parent).to_string() };
        format!(
            concat!(
                r#"{{"resourceSpans":[{{"resource":{{"attributes":[{}]}},"scopeSpans":[{{"spans":[{{"traceId":"{}","#,
                r#""spanId":"{}","parentSpanId":"{}","name":"s{}","kind":{},"startTimeUnixNano":"{}","#,
                r#""endTimeUnixNano":"{}","attributes":[{}]}}]}}]}}]}}"#,
                "\n"
            ),
            text("service.name", self.service),
            trace_id(self.trace),
            span_id(self.span),
            parent,
            self.span,
            self.kind,
            self.start,
            self.start + self.duration,
            attributes.join(",")
        )
    }
}
