//! `search`: entries by handler, service, time, duration, error, status, attribute; the newest first.
//!
//! Hours are looked at from the newest back until there are enough. Of each, only blocks whose digests know a handler that
//! fits are read, and of these only the rows of such handlers. What is held in memory is a batch of entries, the newest
//! `limit` so far, and with `--attr` the spans of [`TRACES_AT_A_TIME`] traces.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use arrow::record_batch::RecordBatch;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::columns::{Entries, Spans};
use super::pin::{self, Pins};
use super::rows::{self, Traces};
use super::window::Window;
use super::{AT_A_TIME, Reader, relisted};
use crate::error::{Result, ResultExt, store_kind, told};
use crate::handler;
use crate::handler::catalogue::Catalogue;
use crate::handler::id::shown_service;
use crate::model::{HandlerId, Hour, Shard, Table, TraceId};
use crate::otlp::typed_json::{self, Value};
use crate::store::Key;
use crate::store::layout::PinKey;
use crate::table::digest::HandlerDigest;
use crate::table::order;
use crate::table::view::{Block, Scope, View};

/// How many traces' spans are held at once while attributes are looked for.
const TRACES_AT_A_TIME: usize = 200;

/// What to look for. Everything that is said must hold.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// The handler, or one that counts as it.
    pub handler: Option<HandlerId>,
    /// `service.name` of the entry; `unknown_service` for those without.
    pub service: Option<String>,
    /// Started at this time or later.
    pub since: Option<Timestamp>,
    /// Started before this time.
    pub until: Option<Timestamp>,
    /// The entry span's own name.
    pub span_name: Option<String>,
    /// Took at least so many nanoseconds.
    pub min_duration_ns: Option<i64>,
    /// Took at most so many nanoseconds.
    pub max_duration_ns: Option<i64>,
    /// Is an error (status error or HTTP 5xx), or is none.
    pub error: Option<bool>,
    /// The HTTP status.
    pub status: Option<i32>,
    /// Some span of the trace has these attributes, its own or its resource's. A value is compared with what a person
    /// would write: strings as they are, numbers and booleans as JSON.
    pub attributes: Vec<(String, String)>,
    /// At most so many.
    pub limit: usize,
}

/// A moment, or how long ago.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    /// A moment.
    At(Timestamp),
    /// So long ago.
    Ago(SignedDuration),
}

impl When {
    /// The moment, as of `now`.
    pub fn before(self, now: Timestamp) -> Result<Timestamp, jiff::Error> {
        match self {
            Self::At(moment) => Ok(moment),
            Self::Ago(ago) => now.saturating_sub(ago),
        }
    }
}

impl std::str::FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ago) = humantime::parse_duration(text) {
            return SignedDuration::try_from(ago).map(Self::Ago).map_err(|error| error.to_string());
        }
        let day = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
        match text.parse() {
            Ok(moment) => Ok(Self::At(moment)),
            Err(_) => day().map(|day| Self::At(day.timestamp())).ok_or_else(|| {
                "a time is written 2026-11-22T14:00:00Z, 2026-11-22 (UTC), or as how long ago: 90m, 2h, 3d".to_owned()
            }),
        }
    }
}

/// An entry that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hit {
    /// The trace, in hex.
    pub trace_id: String,
    /// The entry span, in hex.
    pub span_id: String,
    /// The handler it counts as.
    pub handler: HandlerId,
    /// The handler's canonical name.
    pub name: String,
    /// `service.name`; `unknown_service` if there is none.
    pub service: String,
    /// When it started.
    pub start: Timestamp,
    /// Nanoseconds.
    pub duration_ns: i64,
    /// Whether it is an error.
    pub error: bool,
    /// The HTTP status.
    pub http_status: Option<i32>,
    /// The path, of a request without a route.
    pub path: Option<String>,
}

/// Runs a search: the newest first.
pub async fn search(reader: &Reader, search: &Search) -> Result<Vec<Hit>> {
    relisted(|| search_once(reader, search)).await
}

async fn search_once(reader: &Reader, search: &Search) -> Result<Vec<Hit>> {
    let forgotten = reader.forgotten().await?;
    let grace = reader.settings.grace.0;
    let scope = match &search.handler {
        None => Scope::all(Table::Entries, grace),
        Some(handler) => {
            let sources = sources(&reader.catalogue.1, handler);
            let shards = reader.shard_counts().into_iter().flat_map(|count| {
                sources.iter().map(move |source| Shard::of_handler(source, count)).collect::<Vec<_>>()
            });
            Scope::all(Table::Entries, grace).of_shards(shards)
        }
    };
    let view = reader.view(&scope).await?;
    let filter = Filter { search, catalogue: &reader.catalogue.1, forgotten: &forgotten };
    // Pins hold what is older than any block, and what is in blocks, too.
    let oldest = search.since.map_or(Hour::EPOCH, Hour::of);
    let needed = reader.may_have_expired(oldest, view.began);
    let pins = if needed { Pins::all(&reader.store).await? } else { Pins::default() };
    let mut found = Found { hits: BTreeMap::new(), limit: search.limit.max(1) };
    let spans =
        if search.attributes.is_empty() { None } else { Some(reader.view(&Scope::all(Table::Spans, grace)).await?) };
    let mut hours: BTreeMap<Hour, Vec<(Shard, &Block)>> = BTreeMap::new();
    for (shard, block) in view.visible_parts() {
        if filter.hour(block.key.hour) {
            hours.entry(block.key.hour).or_default().push((shard, block));
        }
    }
    // The hour without times holds entries of any time: first, so that it is not cut off.
    let timeless = hours.remove(&Hour::EPOCH).map(|parts| (Hour::EPOCH, parts));
    for (hour, parts) in timeless.into_iter().chain(hours.into_iter().rev()) {
        if hour != Hour::EPOCH && found.is_full_before(hour.end_ns()) {
            break;
        }
        for (_, block) in parts {
            let mut batches = filter.batches(reader, block).await?;
            while let Some(rows) = batches.try_next().await? {
                found.add(reader, spans.as_ref(), search, filter.rows(&rows)?).await?;
            }
        }
    }
    found.add_pins(reader, &filter, &pins, search).await?;
    Ok(found.hits.into_values().rev().take(search.limit).collect())
}

/// The ids with which entries of `handler` may have been indexed.
fn sources(catalogue: &Catalogue, handler: &HandlerId) -> Vec<HandlerId> {
    catalogue.sources(catalogue.canonical(handler))
}

struct Filter<'a> {
    search: &'a Search,
    catalogue: &'a Catalogue,
    forgotten: &'a HashSet<TraceId>,
}

impl Filter<'_> {
    /// Whether entries of this hour can fit.
    fn hour(&self, hour: Hour) -> bool {
        hour == Hour::EPOCH
            || (self.search.since.is_none_or(|since| hour.end() > since)
                && self.search.until.is_none_or(|until| hour.start() < until))
    }

    fn handler(&self, id: &HandlerId) -> bool {
        self.search
            .handler
            .as_ref()
            .is_none_or(|wanted| self.catalogue.canonical(wanted) == self.catalogue.canonical(id))
    }

    fn service(&self, service: &str) -> bool {
        self.search.service.as_ref().is_none_or(|wanted| service == wanted || shown_service(service) == wanted)
    }

    /// The rows of a block in which entries can fit, batch by batch.
    async fn batches(&self, reader: &Reader, block: &Block) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let path = || format!("search {}", Key::Block(block.key).path());
        let digest = reader.blocks.digest(&block.key, block.size_bytes, None).await.context_with(path)?;
        let fits = |id: &HandlerId, known: &HandlerDigest| {
            self.handler(id)
                && self.service(&known.service)
                && (self.search.error != Some(true) || known.errors > 0)
                && self.search.status.is_none_or(|status| known.http_statuses.contains_key(&status))
        };
        let handlers: Vec<HandlerId> =
            digest.handlers.iter().filter(|(id, known)| fits(id, known)).map(|(id, _)| id.clone()).collect();
        if handlers.is_empty() {
            return Ok(stream::empty().boxed());
        }
        if handlers.len() == digest.handlers.len() {
            return Ok(reader.blocks.rows(&block.key, block.size_bytes, None).await.context_with(path)?);
        }
        let rows = reader.blocks.handlers(&block.key, block.size_bytes, &handlers).await.context_with(path)?;
        Ok(stream::iter([Ok(rows)]).boxed())
    }

    /// The rows of entries that fit.
    fn rows(&self, rows: &RecordBatch) -> Result<Vec<Hit>> {
        let entries = Entries::of(rows)?;
        let mut hits = Vec::new();
        for row in 0..entries.len() {
            if let Some(hit) = self.row(&entries, row) {
                hits.push(hit);
            }
        }
        Ok(hits)
    }

    fn row(&self, entries: &Entries<'_>, row: usize) -> Option<Hit> {
        let search = self.search;
        let (trace, time_ns) = (entries.trace(row), entries.placed(row).time_ns);
        let start = Timestamp::from_nanosecond(i128::from(time_ns)).ok()?;
        let fits = search.since.is_none_or(|since| start >= since)
            && search.until.is_none_or(|until| start < until)
            && self.service(entries.service.or_empty(row))
            && search.span_name.as_ref().is_none_or(|name| entries.span_name.or_empty(row) == name)
            && search.min_duration_ns.is_none_or(|least| entries.duration(row) >= least)
            && search.max_duration_ns.is_none_or(|most| entries.duration(row) <= most)
            && search.error.is_none_or(|error| entries.is_error(row) == error)
            && search.status.is_none_or(|status| entries.http_status(row) == Some(status))
            && !self.forgotten.contains(&trace);
        let id: HandlerId = entries.handler.or_empty(row).parse().ok()?;
        (fits && self.handler(&id)).then(|| Hit {
            trace_id: trace.to_string(),
            span_id: entries.span(row).to_string(),
            handler: self.catalogue.canonical(&id).clone(),
            name: entries.handler_name.or_empty(row).to_owned(),
            service: shown_service(entries.service.or_empty(row)).to_owned(),
            start,
            duration_ns: entries.duration(row),
            error: entries.is_error(row),
            http_status: entries.http_status(row),
            path: entries.path.get(row).map(str::to_owned),
        })
    }
}

/// The newest hits so far: one for each entry, whatever its revisions and copies.
struct Found {
    hits: BTreeMap<(Timestamp, String, String), Hit>,
    limit: usize,
}

impl Found {
    /// Whether nothing that starts before `ns` can be among the newest any more.
    fn is_full_before(&self, ns: i64) -> bool {
        let oldest = self.hits.keys().next().map(|(start, ..)| start.as_nanosecond());
        self.hits.len() >= self.limit && oldest.is_some_and(|oldest| oldest >= i128::from(ns))
    }

    fn keep(&mut self, hit: Hit) {
        self.hits.insert((hit.start, hit.trace_id.clone(), hit.span_id.clone()), hit);
        while self.hits.len() > self.limit {
            self.hits.pop_first();
        }
    }

    /// Adds candidates, the newest first; with attributes only those whose trace has them.
    async fn add(
        &mut self,
        reader: &Reader,
        spans: Option<&View>,
        search: &Search,
        mut candidates: Vec<Hit>,
    ) -> Result<()> {
        let Some(spans) = spans else {
            candidates.into_iter().for_each(|hit| self.keep(hit));
            return Ok(());
        };
        candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.start));
        for chunk in candidates.chunks(TRACES_AT_A_TIME) {
            let newest = chunk.first().map_or(i64::MIN, time_ns);
            if self.is_full_before(newest) {
                break;
            }
            let mut traces = Traces::new();
            for hit in chunk {
                let hour = Hour::of_ns(time_ns(hit));
                let placed = crate::table::place::Placed { time_ns: time_ns(hit), hour };
                let window = Window::of_entry(placed, hit.duration_ns);
                if let Ok(trace) = hit.trace_id.parse() {
                    traces.entry(trace).and_modify(|known: &mut Window| *known = known.join(window)).or_insert(window);
                }
            }
            let mut having = HashSet::new();
            for (trace, parts) in rows::of_traces(&reader.blocks, spans, &traces).await? {
                if has_attributes(&parts, &search.attributes)? {
                    having.insert(trace.to_string());
                }
            }
            chunk.iter().filter(|hit| having.contains(&hit.trace_id)).for_each(|hit| self.keep(hit.clone()));
        }
        Ok(())
    }

    /// Adds what pins hold: of traces that no block has any more.
    async fn add_pins(&mut self, reader: &Reader, filter: &Filter<'_>, pins: &Pins, search: &Search) -> Result<()> {
        let fits = |pin: &&PinKey| {
            let hour = Hour::of_ns(pin.start_ns);
            filter.handler(&pin.handler) && filter.hour(hour) && !filter.forgotten.contains(&pin.trace)
        };
        let mut versions: Vec<&PinKey> = pins.iter().filter(fits).collect();
        versions.sort_by_key(|version| std::cmp::Reverse(version.start_ns));
        for chunk in versions.chunks(AT_A_TIME) {
            // A pin's name says its newest start: what comes after is older.
            if chunk.first().is_some_and(|pin| self.is_full_before(pin.start_ns)) {
                break;
            }
            let reads = stream::iter(chunk).map(|pin| async move {
                match pin::read(&reader.store, pin).await {
                    Ok(rows) => Ok(Some((*pin, rows))),
                    Err(report) if store_kind(&report).is_some() => Err(report),
                    Err(report) => {
                        tracing::warn!(pin = %Key::Pin((*pin).clone()).path(), failure = told(&report), "a pin is not searched");
                        Ok(None)
                    }
                }
            });
            let read: Vec<Option<(&PinKey, RecordBatch)>> = reads.buffered(AT_A_TIME).try_collect().await?;
            for (pin, rows) in read.into_iter().flatten() {
                if !has_attributes(std::slice::from_ref(&rows), &search.attributes)? {
                    continue;
                }
                let rules = reader.settings.rules.at(Hour::of_ns(pin.start_ns));
                let entries = handler::entries(&rows, rules).context("tell the handlers of a pin's entries")?;
                let entries = order::current(Table::Entries, &order::union(Table::Entries, &[entries])?, false)?;
                filter.rows(&entries)?.into_iter().for_each(|hit| self.keep(hit));
            }
        }
        Ok(())
    }
}

fn time_ns(hit: &Hit) -> i64 {
    i64::try_from(hit.start.as_nanosecond()).unwrap_or(i64::MAX)
}

/// Whether some span of `parts` has all of `wanted`, its own attributes and its resource's together.
fn has_attributes(parts: &[RecordBatch], wanted: &[(String, String)]) -> Result<bool> {
    if wanted.is_empty() {
        return Ok(true);
    }
    for rows in parts {
        let spans = Spans::of(rows)?;
        for row in 0..spans.len() {
            let texts = [spans.attributes.get(row), spans.resource.get(row)];
            // Text search first: parsing every span's attributes would be the whole cost.
            let mentions = |key: &str| texts.iter().flatten().any(|text| text.contains(key));
            if !wanted.iter().all(|(key, _)| mentions(key)) {
                continue;
            }
            let mut missing: BTreeSet<&(String, String)> = wanted.iter().collect();
            for text in texts.into_iter().flatten() {
                for (key, value) in typed_json::attributes(text)? {
                    missing.retain(|(wanted, text)| *wanted != key || !says(&value, text));
                }
            }
            if missing.is_empty() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether a value is what a person wrote.
pub(super) fn says(value: &Value<'_>, text: &str) -> bool {
    match value {
        Value::String(value) => value == text,
        Value::Bool(value) => value.to_string() == text,
        Value::Int(value) => text.parse() == Ok(*value),
        Value::Double(value) => text.parse() == Ok(*value),
        Value::Array(values) => values.iter().any(|value| says(value, text)),
        Value::Bytes(_) | Value::List(_) | Value::None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::testing::{self, Span};

    #[test]
    fn a_time_is_a_moment_a_day_or_how_long_ago() {
        assert_eq!("2h".parse(), Ok(When::Ago(SignedDuration::from_hours(2))));
        let moment = When::At("2026-11-22T00:00:00Z".parse().unwrap());
        assert_eq!("2026-11-22T00:00:00Z".parse(), Ok(moment));
        assert_eq!("2026-11-22".parse(), Ok(moment));
        assert!("yesterday".parse::<When>().is_err());
    }

    #[test]
    fn attributes_are_found_on_any_span_and_its_resource() {
        let rows = [testing::rows(&[
            Span::new(1, 0, "root").service("web"),
            Span::new(2, 1, "query")
                .service("db")
                .attributes(r#"{"user.id":"42","rows":3,"ok":true,"tags":["a","b"]}"#),
        ])];
        let has = |wanted: &[(&str, &str)]| {
            let wanted: Vec<_> = wanted.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            has_attributes(&rows, &wanted).unwrap()
        };
        assert!(has(&[]));
        assert!(has(&[("user.id", "42"), ("rows", "3"), ("ok", "true"), ("tags", "b"), ("service.name", "db")]));
        assert!(!has(&[("user.id", "42"), ("service.name", "web")]), "on one span");
        assert!(!has(&[("user.id", "4")]));
        assert!(!has(&[("id", "42")]), "a part of a key is not the key");
    }

    #[test]
    fn the_newest_stay_and_an_entry_counts_once() {
        let hit = |second: i64, trace: u8| Hit {
            trace_id: TraceId([trace; 16]).to_string(),
            span_id: "0000000000000001".to_owned(),
            handler: "web/x-00000001".parse().unwrap(),
            name: String::new(),
            service: String::new(),
            start: Timestamp::from_second(second).unwrap(),
            duration_ns: 0,
            error: false,
            http_status: None,
            path: None,
        };
        let mut found = Found { hits: BTreeMap::new(), limit: 2 };
        [hit(5, 1), hit(5, 1), hit(3, 2), hit(9, 3)].into_iter().for_each(|hit| found.keep(hit));
        let starts: Vec<i64> = found.hits.values().map(|hit| hit.start.as_second()).collect();
        assert_eq!(starts, [5, 9]);
        assert!(found.is_full_before(5_000_000_000));
        assert!(!found.is_full_before(5_000_000_001), "something between may be newer than the oldest hit");
    }
}
