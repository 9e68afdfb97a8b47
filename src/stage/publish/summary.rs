//! Summaries made of what is known of handlers: pure.

use std::collections::{BTreeMap, BTreeSet};

use super::document::{
    Bucket, Call, Entry, ErrorType, NotFound, NotFoundRow, Others, Path, Pin, Point, Quantile, Row, SUMMARY_VERSION,
    Summary,
};
use crate::handler::catalogue::Catalogue;
use crate::model::HandlerId;
use crate::query::handlers::{Adoption, Handler};
use crate::query::newest::{NOT_FOUND_PATHS, newest};
use crate::store::Key;
use crate::table::digest::{EntryRef, HandlerDigest, PathDigest};

/// How many of the newest errors and of the slowest are shown.
pub const EXAMPLES: usize = 3;

/// How many of the newest hours of history are by minute.
const HOURS_BY_MINUTE: i64 = 3;

/// How many hours a spark line has.
const SPARK_HOURS: i64 = 24;

/// The quantiles that are shown.
const QUANTILES: [f64; 7] = [0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0];

/// How many calls are shown.
pub const CALLS: usize = 50;

/// What settings and catalogue say of a handler.
#[derive(Clone, Copy, Debug)]
pub struct Applied {
    /// The catalogue's number.
    pub catalogue: u64,
    /// How many newest traces are shown.
    pub keep_last: usize,
    /// When a person wrote its route; milliseconds since 1970.
    pub route_added_ms: Option<i64>,
}

impl Applied {
    /// What `catalogue`, of that number, says of the handler `id`.
    pub fn of(id: &HandlerId, (number, catalogue): &(u64, Catalogue), keep_last: usize) -> Self {
        let route_added_ms = catalogue.added(id).map(|added| added.as_millisecond());
        Self { catalogue: *number, keep_last, route_added_ms }
    }
}

/// A handler in full. `pinned` is what the pins say that no digest shows; `adopted` are requests of the 404 list.
pub fn summary(
    id: &HandlerId,
    known: &Handler,
    pinned: &HandlerDigest,
    adopted: &[PathDigest],
    calls: Vec<Call>,
    applied: Applied,
) -> Summary {
    let digest = &known.digest;
    let latency = QUANTILES
        .iter()
        .filter_map(|quantile| Some(Quantile { quantile: *quantile, ms: digest.latency.quantile(*quantile)? / 1e6 }));
    let mut error_types: Vec<ErrorType> = digest
        .error_types
        .iter()
        .map(|(kind, errors)| ErrorType {
            kind: kind.clone(),
            count: errors.count,
            example: errors.example.as_ref().map(entry),
        })
        .collect();
    error_types.sort_by(|a, b| (b.count, &a.kind).cmp(&(a.count, &b.kind)));
    let pins = known.pins.iter().map(|pin| Pin {
        trace_id: pin.trace.to_string(),
        start_ms: pin.start_ns.div_euclid(1_000_000),
        key: Key::Pin(pin.clone()).path(),
    });
    Summary {
        version: SUMMARY_VERSION,
        catalogue: applied.catalogue,
        handler: row(id, known, pinned, adopted),
        first_ms: (digest.count > 0).then(|| digest.first_ns.div_euclid(1_000_000)),
        latency: latency.collect(),
        histogram: histogram(digest),
        statuses: digest.http_statuses.iter().map(|(status, count)| (status.to_string(), *count)).collect(),
        error_types,
        history: history(digest),
        newest: newest_entries(digest, pinned, applied.keep_last),
        newest_errors: digest.newest_errors.iter().take(EXAMPLES).map(entry).collect(),
        slowest: digest.slowest.iter().take(EXAMPLES).map(entry).collect(),
        pins: pins.collect(),
        calls,
        adopted: adopted.iter().map(|request| path(request, Vec::new())).collect(),
        route_added_ms: applied.route_added_ms,
        paths: if digest.route.is_none() && !id.is_not_found() {
            digest.paths.iter().take(NOT_FOUND_PATHS).map(|request| path(request, Vec::new())).collect()
        } else {
            Vec::new()
        },
        extras: Vec::new(),
        extra_error: None,
    }
}

/// A handler's line in the list.
fn row(id: &HandlerId, known: &Handler, pinned: &HandlerDigest, adopted: &[PathDigest]) -> Row {
    let digest = &known.digest;
    // A handler that no block knows has the name that its pins tell.
    let named = if digest.count > 0 || !digest.name.is_empty() { digest } else { pinned };
    let last_ns =
        (digest.count > 0).then_some(digest.last_ns).into_iter().chain(known.pins.iter().map(|pin| pin.start_ns));
    let quantile = |quantile| Some(digest.latency.quantile(quantile)? / 1e6);
    Row {
        id: id.clone(),
        aliases: known.aliases.clone(),
        service: if named.service.is_empty() { id.service().to_owned() } else { named.service.clone() },
        namespace: named.namespace.clone(),
        kind: named.kind.clone(),
        name: named.name.clone(),
        method: named.method.clone(),
        route: named.route.clone(),
        count: digest.count,
        errors: digest.errors,
        last_ms: last_ns.max().map(|ns| ns.div_euclid(1_000_000)),
        p50_ms: quantile(0.5),
        p95_ms: quantile(0.95),
        p99_ms: quantile(0.99),
        spark: spark(digest),
        adopted: adopted.iter().map(|path| path.count).sum(),
    }
}

/// A 404 list.
pub fn not_found(id: &HandlerId, known: &Handler, adoption: &Adoption, catalogue: u64) -> NotFound {
    let digest = &known.digest;
    let last_ns =
        (digest.count > 0).then_some(digest.last_ns).into_iter().chain(known.pins.iter().map(|pin| pin.start_ns));
    let matches = |request: &PathDigest| adoption.matches(id, &request.method, &request.path).to_vec();
    NotFound {
        version: SUMMARY_VERSION,
        catalogue,
        list: NotFoundRow {
            service: if digest.service.is_empty() { id.service().to_owned() } else { digest.service.clone() },
            namespace: digest.namespace.clone(),
            handler: id.clone(),
            list: list_name(id),
            count: digest.count,
            paths: digest.paths.len() as u64,
            last_ms: last_ns.max().map(|ns| ns.div_euclid(1_000_000)),
        },
        requests: digest.paths.iter().map(|request| path(request, matches(request))).collect(),
    }
}

/// The name of a 404 list's document: the service's, and the hash of the id, because services of one name in two
/// namespaces have a list each.
pub fn list_name(id: &HandlerId) -> String {
    id.as_str().replacen("/404", "", 1)
}

/// The newest traces, pinned ones included: a trace once, at its newest entry.
fn newest_entries(digest: &HandlerDigest, pinned: &HandlerDigest, keep: usize) -> Vec<Entry> {
    let mut entries = BTreeMap::new();
    for reference in pinned.newest.iter().chain(&digest.newest) {
        if let Some(trace) = reference.trace() {
            let newest = entries.entry(trace).or_insert(reference);
            *newest = (*newest).max(reference);
        }
    }
    let order = newest(entries.iter().map(|(trace, reference)| (reference.time_ns, *trace)), keep);
    order.iter().filter_map(|(_, trace)| entries.get(trace).map(|reference| entry(reference))).collect()
}

/// An entry as documents show it.
fn entry(reference: &EntryRef) -> Entry {
    Entry {
        trace_id: reference.trace_id.clone(),
        span_id: reference.span_id.clone(),
        start_ms: reference.time_ns.div_euclid(1_000_000),
        duration_ms: reference.duration_ns as f64 / 1e6,
        error: reference.error,
    }
}

fn path(request: &PathDigest, matches: Vec<HandlerId>) -> Path {
    Path {
        method: request.method.clone(),
        path: request.path.clone(),
        count: request.count,
        last_ms: request.newest.time_ns.div_euclid(1_000_000),
        newest: entry(&request.newest),
        matches,
    }
}

/// Bars at 1, 2 and 5 of each power of ten, from where the first entries are to where the last are.
fn histogram(digest: &HandlerDigest) -> Vec<Bucket> {
    let bounds: Vec<f64> = (-2..=6).flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(power))).collect();
    let nanos: Vec<f64> = bounds.iter().map(|ms| ms * 1e6).collect();
    let mut below = 0;
    let mut bars: Vec<Bucket> = bounds
        .iter()
        .zip(digest.latency.at_most(&nanos))
        .map(|(bound, at_most)| {
            let count = at_most.saturating_sub(below);
            below = at_most;
            Bucket { le_ms: Some(*bound), count }
        })
        .collect();
    let above = digest.count.saturating_sub(below);
    if above > 0 {
        bars.push(Bucket { le_ms: None, count: above });
    }
    let first = bars.iter().position(|bar| bar.count > 0).unwrap_or(bars.len());
    let last = bars.iter().rposition(|bar| bar.count > 0).map_or(0, |last| last + 1);
    bars.drain(first.min(last)..last).collect()
}

/// By minute for the newest hours, by hour before.
fn history(digest: &HandlerDigest) -> Vec<Point> {
    let Some(newest) = digest.hours.keys().next_back() else { return Vec::new() };
    let from = newest - HOURS_BY_MINUTE + 1;
    let hours = digest.hours.range(..from).map(|(hour, at)| (hour * 3600, 3600, at));
    let minutes = digest.minutes.range(from * 60..).map(|(minute, at)| (minute * 60, 60, at));
    let point = |(start, seconds, at): (i64, u32, &crate::table::digest::MinuteDigest)| Point {
        start_ms: start * 1000,
        seconds,
        count: at.count,
        errors: at.errors,
    };
    hours.chain(minutes).map(point).collect()
}

fn spark(digest: &HandlerDigest) -> Vec<u64> {
    let Some(newest) = digest.hours.keys().next_back() else { return Vec::new() };
    let oldest = digest.hours.keys().next().map_or(*newest, |oldest| *oldest.max(&(newest - SPARK_HOURS + 1)));
    (oldest..=*newest).map(|hour| digest.hours.get(&hour).map_or(0, |at| at.count)).collect()
}

/// By service, then the busiest first.
pub fn sort(rows: &mut [Row]) {
    rows.sort_by(|a, b| (&a.service, &a.namespace, b.count, &a.id).cmp(&(&b.service, &b.namespace, a.count, &b.id)));
}

/// A handler as [`cut`] weighs it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight {
    /// `service.name`
    pub service: String,
    /// Its id.
    pub id: HandlerId,
    /// Entries.
    pub count: u64,
    /// Those with an error.
    pub errors: u64,
}

/// Of each service the handlers beyond its busiest `most` (of two that are equally busy the first id is shown), and what
/// they come to: a scan of a site by a bot must not fill the farm.
pub fn cut(handlers: impl IntoIterator<Item = Weight>, most: usize) -> (BTreeSet<HandlerId>, Vec<Others>) {
    let mut by_service: BTreeMap<String, Vec<Weight>> = BTreeMap::new();
    for handler in handlers {
        by_service.entry(handler.service.clone()).or_default().push(handler);
    }
    let (mut dropped, mut others) = (BTreeSet::new(), Vec::new());
    for (service, mut handlers) in by_service {
        handlers.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.id.cmp(&b.id)));
        let mut sum = Others { service, ..Others::default() };
        for handler in handlers.into_iter().skip(most) {
            sum.handlers += 1;
            sum.count += handler.count;
            sum.errors += handler.errors;
            dropped.insert(handler.id);
        }
        if sum.handlers > 0 {
            others.push(sum);
        }
    }
    (dropped, others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TraceId;
    use crate::table::digest::{Latency, MinuteDigest};

    fn id(text: &str) -> HandlerId {
        text.parse().unwrap()
    }

    fn reference(time_ns: i64, trace: u8) -> EntryRef {
        let (trace_id, span_id) = (TraceId([trace; 16]).to_string(), "00000000000000aa".to_owned());
        EntryRef { time_ns, trace_id, span_id, duration_ns: 1_500_000, error: false }
    }

    #[test]
    fn the_newest_of_blocks_and_pins_are_shown_together_each_trace_once() {
        let digest = HandlerDigest { newest: vec![reference(9, 1), reference(5, 2)], ..HandlerDigest::default() };
        let pinned = HandlerDigest { newest: vec![reference(7, 2), reference(6, 3)], ..HandlerDigest::default() };
        let shown = newest_entries(&digest, &pinned, 3);
        let ids: Vec<TraceId> = shown.iter().map(|entry| entry.trace_id.parse().unwrap()).collect();
        assert_eq!(ids, [TraceId([1; 16]), TraceId([2; 16]), TraceId([3; 16])]);
        assert_eq!(newest_entries(&digest, &pinned, 1).len(), 1);
    }

    #[test]
    fn the_busiest_of_a_service_stay_and_the_others_are_summed_up() {
        let weight = |text: &str, count| {
            let id = id(text);
            Weight { service: id.service().to_owned(), id, count, errors: 1 }
        };
        let all = ["a/x-00000001", "a/y-00000002", "a/z-00000003", "b/x-00000004"];
        let (dropped, others) = cut([5, 9, 9, 1].into_iter().zip(all).map(|(count, id)| weight(id, count)), 1);
        assert_eq!(dropped.iter().map(HandlerId::as_str).collect::<Vec<_>>(), [all[0], all[2]]);
        assert_eq!(others, [Others { service: "a".to_owned(), handlers: 2, count: 14, errors: 2 }]);
    }

    #[test]
    fn the_histogram_covers_every_entry_and_begins_where_they_do() {
        let mut latency = Latency::default();
        for ms in [3, 3, 40, 2_000_000_000] {
            latency.add(ms * 1_000_000, 1);
        }
        let bars = histogram(&HandlerDigest { count: 4, latency, ..HandlerDigest::default() });
        assert_eq!(bars.iter().map(|bar| bar.count).sum::<u64>(), 4);
        assert_eq!(bars[0], Bucket { le_ms: Some(5.0), count: 2 });
        assert_eq!(bars.last().unwrap().le_ms, None);
        assert!(histogram(&HandlerDigest::default()).is_empty());
    }

    #[test]
    fn history_is_by_hour_and_then_by_minute() {
        let at = |count| MinuteDigest { count, errors: 0 };
        let digest = HandlerDigest {
            hours: [(100, at(7)), (104, at(2))].into(),
            minutes: [(100 * 60, at(7)), (104 * 60 + 5, at(2))].into(),
            ..HandlerDigest::default()
        };
        let points: Vec<(i64, u32, u64)> = history(&digest).iter().map(|p| (p.start_ms, p.seconds, p.count)).collect();
        assert_eq!(points, [(360_000_000, 3600, 7), ((104 * 60 + 5) * 60_000, 60, 2)]);
        assert_eq!(spark(&digest), [7, 0, 0, 0, 2]);
    }

    #[test]
    fn two_namespaces_have_two_lists() {
        assert_eq!(list_name(&id("web/404-0a1b2c3d")), "web-0a1b2c3d");
    }
}
