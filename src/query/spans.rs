//! Traces by any of their spans: what Jaeger's query API searches by.
//!
//! A trace is found if one of its spans fits everything that is said. Most searches are for spans at which a trace
//! enters a service; those are in the small `entries` table, which is asked first. Only if it has too few are the spans
//! themselves looked through: hour by hour from the newest back, the columns that the search names, and no block whose
//! operations ([`Operations`]) show that it has nothing else to offer.
//!
//! What is held in memory is a batch of rows, the newest `limit` references so far, and the traces of the answer, at most
//! [`ANSWER_SPANS`]. How long it may last and how many spans it may look at is bounded, too; what that cut off is said.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use arrow::array::{FixedSizeBinaryArray, Int32Array, Int64Array};
use arrow::record_batch::RecordBatch;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::columns::{Named, Text, value_or_zero};
use super::rows::Traces;
use super::search::{self, Search, says};
use super::trace::{Listed, Lookup, Trace};
use super::window::Window;
use super::{Reader, relisted};
use crate::error::{Result, ResultExt, told};
use crate::handler::id::shown_service;
use crate::model::{Hour, TraceId};
use crate::otlp::typed_json;
use crate::store::Key;
use crate::table::operations::Operations;
use crate::table::place::Placed;
use crate::table::view::Block;

/// How many spans an answer has at most, but for the first trace, which is whole: about 100 MB as JSON.
pub const ANSWER_SPANS: usize = 50_000;

/// How many traces are fetched at once.
const TRACES_AT_A_TIME: usize = 20;

/// How many blocks are looked through at once.
const BLOCKS_AT_A_TIME: usize = 4;

/// How many entries are tried before spans are looked through, if what is said of attributes may rule them out.
const CANDIDATES: usize = 200;

/// What to look for: one span fits all that is said.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// `service.name`; `unknown_service` for those without.
    pub service: Option<String>,
    /// The span's name.
    pub operation: Option<String>,
    /// Attributes of the span, its resource, its scope or its events, and what Jaeger shows as such: `span.kind`,
    /// `otel.status_code`, `otel.status_description`, `otel.scope.name`, `otel.scope.version`, `error`. Values as a
    /// person writes them.
    pub attributes: Vec<(String, String)>,
    /// Started at this time or later, nanoseconds since 1970.
    pub since_ns: i64,
    /// Started at this time or before.
    pub until_ns: i64,
    /// Took at least so many nanoseconds.
    pub min_duration_ns: Option<i64>,
    /// Took at most so many nanoseconds.
    pub max_duration_ns: Option<i64>,
    /// At most so many traces.
    pub limit: usize,
}

/// What a search may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// It ends by then, with what it has.
    pub time: Duration,
    /// It looks at so many spans, with what it has then.
    pub rows: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time: Duration::from_secs(15), rows: 50_000_000 }
    }
}

/// What was found, the newest first as far as one look at entries and one at spans can tell.
#[derive(Debug, Default)]
pub struct Found {
    /// The traces, whole.
    pub traces: Vec<Trace>,
    /// Why there may be others that fit, beside the limit that was asked for.
    pub cut: Option<String>,
}

/// Runs a search.
///
/// # Errors
/// Those of the store, and of damaged blocks.
pub async fn find(reader: &Reader, wanted: &Wanted, limits: Limits) -> Result<Found> {
    relisted(|| Finding::new(reader, wanted, limits).run()).await
}

/// A search under way.
struct Finding<'a> {
    reader: &'a Reader,
    wanted: &'a Wanted,
    limits: Limits,
    began: Duration,
    tried: HashSet<TraceId>,
    spans: usize,
    found: Found,
}

impl<'a> Finding<'a> {
    fn new(reader: &'a Reader, wanted: &'a Wanted, limits: Limits) -> Self {
        let began = reader.clock.monotonic();
        Self { reader, wanted, limits, began, tried: HashSet::new(), spans: 0, found: Found::default() }
    }

    async fn run(mut self) -> Result<Found> {
        let hours = Hour::of_ns(self.wanted.since_ns)..=Hour::of_ns(self.wanted.until_ns);
        let window = Window { first: hours.start().plus(-1), last: hours.end().next(), near: None };
        let listed = Listed::all(self.reader, window).await?;
        let all_entries = self.by_entries(&listed).await?;
        let mut parts: Vec<&Block> = Vec::new();
        for (_, block) in listed.spans().visible_parts() {
            // A level-0 block counts for several shards, and is looked through once.
            if hours.contains(&block.key.hour) && parts.last().is_none_or(|last| last.id() != block.id()) {
                parts.push(block);
            }
        }
        parts.sort_by_key(|block| std::cmp::Reverse(block.key.hour));
        let mut rows = 0;
        for of_hour in parts.chunk_by(|a, b| a.key.hour == b.key.hour) {
            if self.is_done() {
                break;
            }
            let mut best = Best::of(self.wanted);
            for some in of_hour.chunks(BLOCKS_AT_A_TIME) {
                if self.is_late() || rows > self.limits.rows {
                    let hour = of_hour.first().map(|block| block.key.hour.to_string()).unwrap_or_default();
                    self.found.cut = Some(format!(
                        "the search ended before it had seen all spans of {hour} and before: narrow its time"
                    ));
                    break;
                }
                let looks = some.iter().map(|block| self.look_through(block, all_entries));
                let mut looks = stream::iter(looks.collect::<Vec<_>>()).buffered(BLOCKS_AT_A_TIME);
                while let Some((seen, fitting)) = looks.try_next().await? {
                    rows += seen;
                    fitting.into_iter().for_each(|(start, trace)| best.add(start, trace));
                }
            }
            let newest = best.newest.into_iter().rev().map(|(start_ns, trace)| (trace, start_ns, 0)).collect();
            self.take(&listed, newest).await?;
            if self.found.cut.is_some() {
                break;
            }
        }
        Ok(self.found)
    }

    /// Takes traces by entries that fit. Whether these were all entries that fit.
    async fn by_entries(&mut self, listed: &Listed) -> Result<bool> {
        let wanted = self.wanted;
        let asked = if wanted.attributes.is_empty() {
            wanted.limit.saturating_mul(4).max(CANDIDATES)
        } else {
            wanted.limit.max(CANDIDATES)
        };
        let time = |ns: i64| Timestamp::from_nanosecond(i128::from(ns)).ok();
        let search = Search {
            service: wanted.service.clone(),
            span_name: wanted.operation.clone(),
            since: time(wanted.since_ns),
            // A search ends before its `until`.
            until: time(wanted.until_ns.saturating_add(1)),
            min_duration_ns: wanted.min_duration_ns,
            max_duration_ns: wanted.max_duration_ns,
            limit: asked,
            ..Search::default()
        };
        let hits = search::search(self.reader, &search).await?;
        let is_all = hits.len() < asked;
        let start_ns = |hit: &search::Hit| i64::try_from(hit.start.as_nanosecond()).unwrap_or(i64::MAX);
        let candidates =
            hits.iter().filter_map(|hit| Some((hit.trace_id.parse().ok()?, start_ns(hit), hit.duration_ns)));
        self.take(listed, candidates.collect()).await?;
        Ok(is_all)
    }

    fn is_late(&self) -> bool {
        self.reader.clock.monotonic() - self.began > self.limits.time
    }

    fn is_done(&self) -> bool {
        self.found.traces.len() >= self.wanted.limit || self.found.cut.is_some()
    }

    /// Reads candidates (trace, a time at which it was under way, for how long), and takes those that fit.
    async fn take(&mut self, listed: &Listed, mut candidates: Vec<(TraceId, i64, i64)>) -> Result<()> {
        candidates.retain(|(trace, ..)| self.tried.insert(*trace));
        for chunk in candidates.chunks(TRACES_AT_A_TIME) {
            if self.is_done() {
                return Ok(());
            }
            if self.is_late() {
                self.found.cut = Some("the search ended before it had read every trace that may fit".to_owned());
                return Ok(());
            }
            let window = |start_ns: &i64, duration_ns: &i64| {
                Window::of_entry(Placed { time_ns: *start_ns, hour: Hour::of_ns(*start_ns) }, *duration_ns)
            };
            let traces: Traces =
                chunk.iter().map(|(trace, start, duration)| (*trace, window(start, duration))).collect();
            let mut read = listed.traces(&traces).await?;
            for (id, ..) in chunk {
                match read.remove(id) {
                    Some(Ok(Lookup::Found(trace))) => self.consider(*trace)?,
                    Some(Err(report)) => {
                        tracing::warn!(trace = %id, failure = told(&report), "a trace is not searched");
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn consider(&mut self, trace: Trace) -> Result<()> {
        if self.is_done() {
            return Ok(());
        }
        let rows = trace.current(false)?;
        let probe = Probe::of(&rows, true)?;
        let mut fits = false;
        for row in 0..rows.num_rows() {
            fits = fits || self.wanted.fits(&probe, row)?;
        }
        if !fits {
            return Ok(());
        }
        if self.spans > 0 && self.spans + rows.num_rows() > ANSWER_SPANS {
            self.found.cut = Some(format!("an answer has at most {ANSWER_SPANS} spans: ask for fewer traces"));
            return Ok(());
        }
        self.spans += rows.num_rows();
        self.found.traces.push(trace);
        Ok(())
    }

    /// The spans of a block that fit (start and trace), and how many were looked at. `all_entries`: those at which a
    /// trace enters a service have all been looked at.
    async fn look_through(&self, block: &Block, all_entries: bool) -> Result<(u64, Vec<(i64, TraceId)>)> {
        let path = || format!("look through {}", Key::Block(block.key).path());
        let blocks = &self.reader.blocks;
        if !self
            .wanted
            .may_have(&*blocks.operations(&block.key, block.size_bytes).await.context_with(path)?, all_entries)
        {
            return Ok((0, Vec::new()));
        }
        let mut columns = vec!["trace_id", "start", "duration", "service", "name"];
        let with_attributes = !self.wanted.attributes.is_empty();
        if with_attributes {
            columns.extend(ATTRIBUTE_COLUMNS);
        }
        let mut batches = blocks.columns(&block.key, block.size_bytes, &columns).await.context_with(path)?;
        let (mut seen, mut fitting) = (0, Best::of(self.wanted));
        while let Some(rows) = batches.try_next().await.context_with(path)? {
            seen += rows.num_rows() as u64;
            let wanted = self.wanted.clone();
            let found = crate::task::cpu(move || {
                let probe = Probe::of(&rows, with_attributes)?;
                let mut found = Vec::new();
                for row in 0..rows.num_rows() {
                    if wanted.fits(&probe, row)? {
                        found.push((probe.starts[row], probe.trace(row)));
                    }
                }
                Ok(found)
            });
            let is_new = |(_, trace): &(i64, TraceId)| !self.tried.contains(trace);
            found.await?.into_iter().filter(is_new).for_each(|(start, trace)| fitting.add(start, trace));
        }
        Ok((seen, fitting.newest.into_iter().collect()))
    }
}

/// The newest traces so far, each once, at its newest span.
struct Best {
    newest: BTreeSet<(i64, TraceId)>,
    starts: HashMap<TraceId, i64>,
    most: usize,
}

impl Best {
    /// Twice as many as are asked for: of some a later revision does not fit.
    fn of(wanted: &Wanted) -> Self {
        let most = wanted.limit.saturating_mul(2).max(20);
        Self { newest: BTreeSet::new(), starts: HashMap::new(), most }
    }

    fn add(&mut self, start_ns: i64, trace: TraceId) {
        let is_full = self.newest.len() >= self.most;
        if is_full && self.newest.first().is_some_and(|(oldest, _)| *oldest >= start_ns) {
            return;
        }
        match self.starts.get(&trace) {
            Some(known) if *known >= start_ns => return,
            Some(known) => _ = self.newest.remove(&(*known, trace)),
            None => {}
        }
        self.newest.insert((start_ns, trace));
        self.starts.insert(trace, start_ns);
        if self.newest.len() > self.most
            && let Some((_, oldest)) = self.newest.pop_first()
        {
            self.starts.remove(&oldest);
        }
    }
}

/// Beside ids, times and names, what is said of attributes is looked for in these.
const ATTRIBUTE_COLUMNS: [&str; 9] = [
    "kind",
    "status_code",
    "status_message",
    "scope",
    "scope_version",
    "attributes",
    "scope_attributes",
    "resource",
    "events",
];

/// The columns that a search looks at.
struct Probe<'a> {
    traces: &'a FixedSizeBinaryArray,
    starts: &'a [i64],
    durations: &'a Int64Array,
    service: Text<'a>,
    name: Text<'a>,
    attributes: Option<AttributeColumns<'a>>,
}

struct AttributeColumns<'a> {
    kinds: &'a Int32Array,
    statuses: &'a Int32Array,
    status_message: Text<'a>,
    scope: Text<'a>,
    scope_version: Text<'a>,
    /// Typed JSON, objects.
    objects: [Text<'a>; 3],
    events: Text<'a>,
}

impl<'a> Probe<'a> {
    fn of(rows: &'a RecordBatch, with_attributes: bool) -> Result<Self> {
        let named = Named(rows);
        let attributes = || -> Result<AttributeColumns<'a>> {
            Ok(AttributeColumns {
                kinds: named.ints("kind")?,
                statuses: named.ints("status_code")?,
                status_message: named.text("status_message")?,
                scope: named.text("scope")?,
                scope_version: named.text("scope_version")?,
                objects: [named.text("attributes")?, named.text("resource")?, named.text("scope_attributes")?],
                events: named.text("events")?,
            })
        };
        Ok(Self {
            traces: named.bytes("trace_id")?,
            starts: named.nanos("start")?,
            durations: named.longs("duration")?,
            service: named.text("service")?,
            name: named.text("name")?,
            attributes: with_attributes.then(attributes).transpose()?,
        })
    }

    fn trace(&self, row: usize) -> TraceId {
        TraceId::from_slice(self.traces.value(row)).unwrap_or(TraceId::ZERO)
    }
}

impl Wanted {
    /// Whether a block with these operations can have a span that fits.
    fn may_have(&self, operations: &Operations, all_entries: bool) -> bool {
        let fits = |service: &str, name: &str, kind: i32| {
            self.service.as_ref().is_none_or(|wanted| service == wanted || shown_service(service) == wanted)
                && self.operation.as_ref().is_none_or(|wanted| name == wanted)
                // Spans of kind SERVER and CONSUMER are entries, all of them.
                && !(all_entries && matches!(kind, 2 | 5))
        };
        // Of one with more operations than are told apart some are not known.
        operations.is_full() || operations.0.iter().any(|o| fits(&o.service, &o.name, o.kind))
    }

    /// Whether the span in `row` fits.
    fn fits(&self, probe: &Probe<'_>, row: usize) -> Result<bool> {
        let service = || probe.service.or_empty(row);
        let (start, duration) = (probe.starts[row], probe.durations.value(row));
        if start < self.since_ns
            || start > self.until_ns
            || self.min_duration_ns.is_some_and(|least| duration < least)
            || self.max_duration_ns.is_some_and(|most| duration > most)
            || self.operation.as_ref().is_some_and(|name| probe.name.or_empty(row) != name)
            || self.service.as_ref().is_some_and(|wanted| service() != wanted && shown_service(service()) != wanted)
        {
            return Ok(false);
        }
        let Some(columns) = &probe.attributes else { return Ok(self.attributes.is_empty()) };
        for (key, value) in &self.attributes {
            if !columns.have(row, key, value)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl AttributeColumns<'_> {
    fn have(&self, row: usize, key: &str, value: &str) -> Result<bool> {
        let status = value_or_zero(self.statuses, row);
        let shown = match key {
            "span.kind" => super::trace::jaeger::kind(value_or_zero(self.kinds, row)),
            "otel.status_code" => super::trace::jaeger::status(status),
            "otel.status_description" => self.status_message.or_empty(row),
            "otel.scope.name" => self.scope.or_empty(row),
            "otel.scope.version" => self.scope_version.or_empty(row),
            "error" if value == "true" && status == 2 => "true",
            "error" if value == "false" && status != 2 => "false",
            _ => "",
        };
        if !shown.is_empty() && shown == value {
            return Ok(true);
        }
        // Text search first: parsing every span's attributes would be the whole cost.
        for text in self.objects.iter().filter_map(|column| column.get(row)).filter(|text| text.contains(key)) {
            if typed_json::attributes(text)?.iter().any(|(k, v)| k == key && says(v, value)) {
                return Ok(true);
            }
        }
        let Some(events) = self.events.get(row).filter(|text| text.contains(key) || key == "event") else {
            return Ok(false);
        };
        let events = typed_json::events(events)?;
        Ok(events.iter().any(|event| {
            let says_it = event.attributes.iter().any(|(k, v)| k == key && says(v, value));
            says_it || (key == "event" && event.name == value)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::testing::{self, Span};

    fn fitting(wanted: &Wanted) -> Vec<usize> {
        let rows = testing::rows(&[
            Span::new(1, 0, "GET /").at(1_000).lasting(50).kind(2).service("web").error("no luck"),
            Span::new(2, 1, "query")
                .at(1_010)
                .lasting(20)
                .kind(3)
                .service("db")
                .attributes(r#"{"user.id":"42","rows":3,"ok":true}"#)
                .events(r#"[{"time":1015,"name":"cache","attributes":{"hit":false}}]"#),
            Span::new(3, 1, "tick").at(2_000),
        ]);
        let probe = Probe::of(&rows, true).unwrap();
        (0..3).filter(|row| wanted.fits(&probe, *row).unwrap()).collect()
    }

    fn any() -> Wanted {
        Wanted { until_ns: i64::MAX, limit: 20, ..Wanted::default() }
    }

    #[test]
    fn a_span_fits_if_everything_that_is_said_holds_of_it() {
        assert_eq!(fitting(&any()), [0, 1, 2]);
        let service = |name: &str| Wanted { service: Some(name.to_owned()), ..any() };
        assert_eq!(fitting(&service("web")), [0]);
        assert_eq!(fitting(&service("unknown_service")), [2]);
        assert_eq!(fitting(&Wanted { operation: Some("query".to_owned()), ..any() }), [1]);
        assert_eq!(fitting(&Wanted { operation: Some("query".to_owned()), ..service("web") }), [0; 0]);
        assert_eq!(fitting(&Wanted { since_ns: 1_010, until_ns: 1_999, ..any() }), [1]);
        assert_eq!(fitting(&Wanted { min_duration_ns: Some(20), ..any() }), [0, 1]);
        assert_eq!(fitting(&Wanted { max_duration_ns: Some(20), ..any() }), [1, 2]);
    }

    #[test]
    fn what_is_shown_as_a_tag_is_found_as_one() {
        let tags = |pairs: &[(&str, &str)]| Wanted {
            attributes: pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            ..any()
        };
        assert_eq!(fitting(&tags(&[("user.id", "42"), ("rows", "3"), ("ok", "true")])), [1]);
        assert_eq!(fitting(&tags(&[("hit", "false")])), [1], "of an event");
        assert_eq!(fitting(&tags(&[("event", "cache")])), [1]);
        assert_eq!(fitting(&tags(&[("service.name", "web")])), [0], "of the resource");
        assert_eq!(fitting(&tags(&[("error", "true")])), [0]);
        assert_eq!(fitting(&tags(&[("error", "false")])), [1, 2]);
        assert_eq!(fitting(&tags(&[("span.kind", "client")])), [1]);
        assert_eq!(fitting(&tags(&[("otel.status_code", "ERROR"), ("otel.status_description", "no luck")])), [0]);
        assert_eq!(fitting(&tags(&[("user.id", "42"), ("error", "true")])), [0; 0], "on one span");
        assert_eq!(fitting(&tags(&[("span.kind", "")])), [0; 0]);
    }

    #[test]
    fn blocks_that_can_add_nothing_are_left_out() {
        let mut operations = Operations::default();
        for (service, name, kind) in [("web", "GET /", 2), ("db", "query", 3)] {
            let (service, name) = (service.to_owned(), name.to_owned());
            operations.0.insert(crate::table::operations::Operation { service, name, kind });
        }
        let web = Wanted { service: Some("web".to_owned()), ..any() };
        assert!(web.may_have(&operations, false));
        assert!(!web.may_have(&operations, true), "its only spans are entries, and those were looked at");
        assert!(Wanted { service: Some("db".to_owned()), ..any() }.may_have(&operations, true));
        assert!(
            !Wanted { service: Some("db".to_owned()), operation: Some("GET /".to_owned()), ..any() }
                .may_have(&operations, false)
        );
    }

    #[test]
    fn the_newest_traces_stay_each_at_its_newest_span() {
        let mut best = Best { newest: BTreeSet::new(), starts: HashMap::new(), most: 2 };
        for (start, trace) in [(5, 1), (7, 1), (6, 1), (3, 2), (4, 3)] {
            best.add(start, TraceId([trace; 16]));
        }
        assert_eq!(best.newest, [(4, TraceId([3; 16])), (7, TraceId([1; 16]))].into());
    }
}
