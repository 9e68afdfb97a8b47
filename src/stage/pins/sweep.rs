//! Pins that have to go, and versions that are made one.
//!
//! Rule 6 lets a trace's pins go only if `keep_last` newer traces of the handler are durable in `latest/`. The exceptions
//! are what people asked for: a tombstone (`forget`), `handlers remove`, `pin_max_age`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};

use crate::error::Result;
use crate::model::{HandlerId, Hour, Shard, TraceId};
use crate::query::newest::{self, newest};
use crate::query::pin::Pins;
use crate::query::{AT_A_TIME, forgotten, handlers};
use crate::stage::item::item;
use crate::stage::{Desk, Fence, Round, StageReport, pins};
use crate::store::Key;

/// Why a pin goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Its trace is to be forgotten.
    Forgotten,
    /// Its handler was removed after the trace.
    Removed,
    /// It is older than `pin_max_age`.
    TooOld,
    /// `keep_last` newer traces are pinned.
    Outdated,
}

/// Whether a trace of `handler` that started at `time_ns` is not to be kept at `now`: the handler was removed after it,
/// or it is older than `pin_max_age`.
pub fn is_over(desk: &Desk, now: Timestamp, handler: &HandlerId, time_ns: i64) -> bool {
    over(desk, now, handler, time_ns).is_some()
}

fn over(desk: &Desk, now: Timestamp, handler: &HandlerId, time_ns: i64) -> Option<Reason> {
    let (_, catalogue) = &*desk.catalogue;
    if catalogue.is_removed(handler, time_ns) {
        return Some(Reason::Removed);
    }
    let oldest = desk.settings.pin_max_age.and_then(|age| {
        let age = SignedDuration::try_from(age.0).ok()?;
        now.checked_sub(age).ok()
    });
    oldest.filter(|oldest| i128::from(time_ns) < oldest.as_nanosecond()).map(|_| Reason::TooOld)
}

/// Which pins of one handler go: pure. `traces` are all of its pinned traces with their newest starts; `stays` says of a
/// trace whether anything but its rank is against it.
pub fn outdated(
    traces: impl IntoIterator<Item = (i64, TraceId)>,
    keep: usize,
    stays: impl Fn(i64, TraceId) -> Option<Reason>,
) -> BTreeMap<TraceId, Reason> {
    let mut goes = BTreeMap::new();
    let mut ranked = Vec::new();
    for (time_ns, trace) in traces {
        match stays(time_ns, trace) {
            Some(reason) => drop(goes.insert(trace, reason)),
            None => ranked.push((time_ns, trace)),
        }
    }
    // A trace that goes for another reason is no newer trace that stays durable: it does not count.
    let kept: BTreeSet<TraceId> = newest(ranked.iter().copied(), keep).into_iter().map(|(_, trace)| trace).collect();
    goes.extend(
        ranked.into_iter().filter(|(_, trace)| !kept.contains(trace)).map(|(_, trace)| (trace, Reason::Outdated)),
    );
    goes
}

/// One round over the pins of my slice of handlers: makes versions one, deletes what goes.
pub async fn run(desk: &Desk, round: &Round) -> Result<StageReport> {
    let mut done = StageReport::default();
    let Some(now) = desk.store_clock().now() else { return Ok(done) };
    let fence = Fence::begin(desk);
    let pins = Pins::all(&desk.store).await?;
    let forgotten = forgotten(&desk.store).await?;
    let count = *desk.settings.shards.at(Hour::of(now));
    let mut handlers: Vec<(Shard, HandlerId)> =
        pins.handlers.keys().map(|handler| (Shard::of_handler(handler, count), handler.clone())).collect();
    handlers.sort_unstable();
    let sweep = Sweep { desk, fence: &fence, now, pins: &pins, forgotten: &forgotten };
    let mine = round.slice(handlers, |_| 1);
    let mut sweeps = stream::iter(mine)
        .map(|(_, handler)| {
            let sweep = &sweep;
            async move {
                let name = format!("sweep the pins of {handler}");
                let outcome = item(&desk.clock, &name, 0, sweep.handler(&handler)).await;
                (name, outcome)
            }
        })
        .buffer_unordered(AT_A_TIME);
    while let Some((name, outcome)) = sweeps.next().await {
        match outcome {
            Ok(report) => done.add(report),
            Err(report) => done.fail(name, report),
        }
    }
    Ok(done)
}

/// Deletes every pin of `traces`, which have tombstones: `forget`'s part for `latest/`.
///
/// A pin that a worker writes right now, from rows it read before the tombstone, is found when the sweep comes again.
pub async fn forget(desk: &Desk, traces: &BTreeSet<TraceId>, fence: &Fence) -> Result<u64> {
    let pins = Pins::all(&desk.store).await?;
    let mut deleted = 0;
    for version in pins.iter().filter(|version| traces.contains(&version.trace)) {
        fence.allows_delete()?;
        desk.store.delete(&Key::Pin(version.clone())).await?;
        deleted += 1;
    }
    Ok(deleted)
}

struct Sweep<'a> {
    desk: &'a Desk,
    fence: &'a Fence,
    now: Timestamp,
    pins: &'a Pins,
    forgotten: &'a HashSet<TraceId>,
}

impl Sweep<'_> {
    async fn handler(&self, handler: &HandlerId) -> Result<StageReport> {
        let mut done = StageReport::default();
        let goes = self.goes(handler).await?;
        for (trace, versions) in self.pins.handlers.get(handler).into_iter().flatten() {
            if let Some(reason) = goes.get(trace) {
                for version in versions {
                    self.fence.allows_delete()?;
                    self.desk.store.delete(&Key::Pin(version.clone())).await?;
                    done.deleted += 1;
                }
                tracing::debug!(%handler, %trace, ?reason, "a pin goes");
            } else if versions.len() > 1 {
                let one = pins::add_rows(self.desk, self.fence, handler, *trace, None, Vec::new()).await?;
                done.done += one.written;
                done.deleted += one.deleted;
            }
        }
        Ok(done)
    }

    async fn goes(&self, handler: &HandlerId) -> Result<BTreeMap<TraceId, Reason>> {
        let keep = newest::keep_last(&self.desk.settings, &self.desk.catalogue.1, handler);
        let stays = |time_ns, trace: TraceId| {
            if self.forgotten.contains(&trace) {
                return Some(Reason::Forgotten);
            }
            over(self.desk, self.now, handler, time_ns)
        };
        if !handler.is_not_found() {
            return Ok(outdated(self.pins.traces(handler), keep, stays));
        }
        self.not_found_goes(handler, keep, stays).await
    }

    /// Of a 404 list the newest trace of each of the newest paths stays. The path is inside of the pin, so they are all
    /// read: that is done only where more are listed than can stay, or nobody waits (`--once`).
    async fn not_found_goes(
        &self,
        handler: &HandlerId,
        keep: usize,
        stays: impl Fn(i64, TraceId) -> Option<Reason>,
    ) -> Result<BTreeMap<TraceId, Reason>> {
        let traces: Vec<(i64, TraceId)> = self.pins.traces(handler).collect();
        let mut goes = BTreeMap::new();
        let mut ranked = Vec::new();
        for (time_ns, trace) in traces {
            match stays(time_ns, trace) {
                Some(reason) => drop(goes.insert(trace, reason)),
                None => ranked.push((time_ns, trace)),
            }
        }
        if ranked.len() <= keep && !self.desk.once {
            return Ok(goes);
        }
        let mut reads = stream::iter(ranked.clone())
            .map(|(_, trace)| async move {
                let mut requests = Vec::new();
                for version in self.pins.versions(handler, trace) {
                    requests.extend(handlers::requests(&self.desk.store, &self.desk.settings, version).await?);
                }
                Result::<_>::Ok((trace, requests))
            })
            .buffer_unordered(AT_A_TIME);
        let mut by_trace = HashMap::new();
        while let Some(read) = reads.next().await {
            let (trace, requests) = read?;
            by_trace.insert(trace, requests);
        }
        let kept = newest_of_paths(
            by_trace.iter().flat_map(|(trace, requests)| {
                requests.iter().map(move |(time_ns, request)| (*time_ns, *trace, request.clone()))
            }),
            keep,
        );
        goes.extend(ranked.into_iter().filter(|(_, trace)| !kept.contains(trace)).map(|(_, t)| (t, Reason::Outdated)));
        Ok(goes)
    }
}

/// A request that hit no handler: its method and path.
type Request = (String, String);

/// The traces that hold the newest request of each of the newest `keep` paths: pure.
pub fn newest_of_paths(requests: impl IntoIterator<Item = (i64, TraceId, Request)>, keep: usize) -> BTreeSet<TraceId> {
    let mut by_path: BTreeMap<Request, (i64, TraceId)> = BTreeMap::new();
    for (time_ns, trace, request) in requests {
        let newest = by_path.entry(request).or_insert((time_ns, trace));
        *newest = (*newest).max((time_ns, trace));
    }
    let mut newest: Vec<(i64, TraceId)> = by_path.into_values().collect();
    newest.sort_unstable_by(|a, b| b.cmp(a));
    newest.into_iter().take(keep).map(|(_, trace)| trace).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(number: u8) -> TraceId {
        TraceId([number; 16])
    }

    #[test]
    fn what_is_among_the_newest_stays() {
        let traces = [(5, trace(1)), (9, trace(2)), (7, trace(3)), (7, trace(4))];
        let goes = outdated(traces, 2, |_, _| None);
        assert_eq!(
            goes.keys().copied().collect::<Vec<_>>(),
            [trace(1), trace(3)],
            "of two at once the greater id stays"
        );
        assert!(outdated(traces, 4, |_, _| None).is_empty());
    }

    #[test]
    fn a_trace_that_goes_for_another_reason_pushes_nobody_out() {
        let traces = [(5, trace(1)), (9, trace(2)), (7, trace(3))];
        let goes = outdated(traces, 2, |_, t| (t == trace(2)).then_some(Reason::Forgotten));
        assert_eq!(goes, BTreeMap::from([(trace(2), Reason::Forgotten)]));
    }

    #[test]
    fn of_a_404_list_each_path_keeps_its_newest() {
        let get = |path: &str| ("GET".to_owned(), path.to_owned());
        let requests = [
            (1, trace(1), get("/a")),
            (3, trace(2), get("/a")),
            (2, trace(3), get("/b")),
            (1, trace(4), get("/c")),
            (9, trace(3), get("/b")),
        ];
        assert_eq!(newest_of_paths(requests.clone(), 2), BTreeSet::from([trace(2), trace(3)]));
        assert_eq!(newest_of_paths(requests, 3), BTreeSet::from([trace(2), trace(3), trace(4)]));
    }
}
