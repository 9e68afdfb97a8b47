//! The newest traces of handlers: what must stay when an hour goes.
//!
//! All of it is told by digests, which readers keep: no row is read, but for the one case that [`Newest::read_rows`]
//! explains.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::{StreamExt, TryStreamExt, stream};

use super::AT_A_TIME;
use super::columns::Entries;
use crate::error::{Result, ResultExt};
use crate::farm::Settings;
use crate::handler::catalogue::Catalogue;
use crate::model::{HandlerId, Hour, Shard, TraceId};
use crate::store::Key;
use crate::table::digest::{Digest, EntryRef, HandlerDigest, NEWEST_KEPT};
use crate::table::read::Blocks;
use crate::table::view::{Block, View};

/// Of how many paths of a 404 list the newest trace is kept.
pub const NOT_FOUND_PATHS: usize = 100;

/// How far after an hour a trace that began in it may have its newest entry for its older ones to be looked up in the
/// rows ([`Newest::read_rows`]).
const LONGEST_TRACE_NS: i64 = 24 * 3_600_000_000_000;

/// The newest `keep` traces of `entries` (time, trace), newest first: a trace counts once, at its newest entry; of two
/// at the same nanosecond the one with the greater id is the newer, so that every worker tells the same.
pub fn newest(entries: impl IntoIterator<Item = (i64, TraceId)>, keep: usize) -> Vec<(i64, TraceId)> {
    let mut by_trace: HashMap<TraceId, i64> = HashMap::new();
    for (time_ns, trace) in entries {
        by_trace.entry(trace).and_modify(|newest| *newest = time_ns.max(*newest)).or_insert(time_ns);
    }
    let mut traces: Vec<(i64, TraceId)> = by_trace.into_iter().map(|(trace, time_ns)| (time_ns, trace)).collect();
    traces.sort_unstable_by(|a, b| b.cmp(a));
    traces.truncate(keep);
    traces
}

/// How many of the newest traces of `handler` are kept, under this very id; of a 404 list the newest of so many paths.
pub fn keep_last(settings: &Settings, catalogue: &Catalogue, handler: &HandlerId) -> usize {
    if handler.is_not_found() {
        return NOT_FOUND_PATHS;
    }
    shown_last(settings, catalogue, handler)
}

/// How many of the newest traces of `handler` are shown.
pub fn shown_last(settings: &Settings, catalogue: &Catalogue, handler: &HandlerId) -> usize {
    let keep = catalogue.keep_last(handler).unwrap_or(settings.keep_last) as usize;
    keep.clamp(1, NEWEST_KEPT)
}

/// An entry of a handler, by reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its placed time, nanoseconds since 1970.
    pub time_ns: i64,
    /// Its trace.
    pub trace: TraceId,
    /// Nanoseconds.
    pub duration_ns: i64,
}

impl Entry {
    fn of(entry: &EntryRef) -> Option<Self> {
        Some(Self { time_ns: entry.time_ns, trace: entry.trace()?, duration_ns: entry.duration_ns })
    }
}

/// The newest entries of some handlers, as digests have them.
#[derive(Clone, Debug, Default)]
pub struct Newest {
    handlers: BTreeMap<HandlerId, OfHandler>,
}

#[derive(Clone, Debug, Default)]
struct OfHandler {
    /// The newest entry of each trace, by the hour and shard of the block that says so.
    hours: BTreeMap<(Hour, Shard), Vec<Entry>>,
    /// Of a 404 list: the newest entry of each method and path.
    paths: HashMap<(String, String), Entry>,
    /// Hours and shards of which a digest holds as many entries as it can: there may be more.
    cut: BTreeSet<(Hour, Shard)>,
}

impl Newest {
    /// All handlers with entries in `hours` (and there in those shards).
    pub async fn of_hours(blocks: &Blocks, view: &View, hours: &BTreeMap<Hour, BTreeSet<Shard>>) -> Result<Self> {
        let here = |shard: Shard, hour: Hour| hours.get(&hour).is_some_and(|shards| shards.contains(&shard));
        Self::read(blocks, view, here, |_| true).await
    }

    /// These handlers in all hours.
    pub async fn of_handlers(blocks: &Blocks, view: &View, handlers: &BTreeSet<HandlerId>) -> Result<Self> {
        let mut shards: HashMap<u16, BTreeSet<Shard>> = HashMap::new();
        for count in view.shards().into_iter().map(Shard::count).collect::<BTreeSet<u16>>() {
            shards.insert(count, handlers.iter().map(|handler| Shard::of_handler(handler, count)).collect());
        }
        let holds_some =
            |shard: Shard, _: Hour| shards.get(&shard.count()).is_some_and(|shards| shards.contains(&shard));
        Self::read(blocks, view, holds_some, |handler| handlers.contains(handler)).await
    }

    async fn read(
        blocks: &Blocks,
        view: &View,
        in_scope: impl Fn(Shard, Hour) -> bool,
        wanted: impl Fn(&HandlerId) -> bool,
    ) -> Result<Self> {
        let parts: Vec<(Shard, &Block)> =
            view.visible_parts().into_iter().filter(|(shard, block)| in_scope(*shard, block.key.hour)).collect();
        let mut newest = Self::default();
        let mut digests = stream::iter(parts)
            .map(|(shard, block)| async move {
                let digest = blocks.digest(&block.key, block.size_bytes, Some(shard)).await;
                let digest = digest.context_with(|| format!("digest {}", Key::Block(block.key).path()))?;
                crate::error::Result::<_>::Ok((shard, block.key.hour, digest))
            })
            .buffer_unordered(AT_A_TIME);
        while let Some((shard, hour, digest)) = digests.try_next().await? {
            newest.add(hour, shard, &digest, &wanted);
        }
        Ok(newest)
    }

    fn add(&mut self, hour: Hour, shard: Shard, digest: &Digest, wanted: impl Fn(&HandlerId) -> bool) {
        for (handler, digest) in digest.handlers.iter().filter(|(handler, _)| wanted(handler)) {
            self.handlers.entry(handler.clone()).or_default().add(hour, shard, digest, handler.is_not_found());
        }
    }

    /// The handlers, in order.
    pub fn handlers(&self) -> impl Iterator<Item = &HandlerId> {
        self.handlers.keys()
    }

    /// The newest `keep` traces of `handler` that `stays` does not refuse, newest first; of a 404 list the newest of
    /// each of the newest `keep` paths.
    pub fn newest(
        &self,
        handler: &HandlerId,
        keep: usize,
        stays: impl Fn(i64, TraceId) -> bool,
    ) -> Vec<(i64, TraceId)> {
        let Some(of_handler) = self.handlers.get(handler) else { return Vec::new() };
        let stays = |entry: &&Entry| stays(entry.time_ns, entry.trace);
        if !handler.is_not_found() {
            let entries = of_handler.hours.values().flatten();
            return newest(entries.filter(stays).map(|entry| (entry.time_ns, entry.trace)), keep);
        }
        let mut paths: Vec<&Entry> = of_handler.paths.values().filter(stays).collect();
        paths.sort_unstable_by(|a, b| b.cmp(a));
        // One trace may be the newest of several paths.
        newest(paths.into_iter().take(keep).map(|entry| (entry.time_ns, entry.trace)), keep)
    }

    /// The entries of `handler` in each hour and shard.
    pub fn in_hours(&self, handler: &HandlerId) -> impl Iterator<Item = (Hour, Shard, &[Entry])> {
        let hours = self.handlers.get(handler).into_iter().flat_map(|of_handler| &of_handler.hours);
        hours.map(|((hour, shard), entries)| (*hour, *shard, entries.as_slice()))
    }

    /// Adds the entries of `traces` that digests do not show.
    ///
    /// A digest holds the newest entry of each of the newest [`NEWEST_KEPT`] traces of an hour. A trace that is among
    /// the newest of its handler by an entry of a *later* hour may have an older entry here, behind a hundred others, and
    /// then its spans of this hour are needed, too. That takes a trace that crosses the end of a busy hour after which
    /// its handler was hardly hit any more; the rows of the handler in that hour are read then, and only then. A trace
    /// that takes longer than a day is not looked for.
    pub async fn read_rows(
        &mut self,
        blocks: &Blocks,
        view: &View,
        handler: &HandlerId,
        traces: &[(i64, TraceId)],
    ) -> Result<()> {
        let Some(of_handler) = self.handlers.get_mut(handler) else { return Ok(()) };
        for (hour, shard) in of_handler.cut.clone() {
            let entries = of_handler.hours.entry((hour, shard)).or_default();
            let shown: BTreeSet<TraceId> = entries.iter().map(|entry| entry.trace).collect();
            let crosses = |time_ns: i64| (hour.end_ns()..hour.end_ns() + LONGEST_TRACE_NS).contains(&time_ns);
            let hidden: BTreeSet<TraceId> = traces
                .iter()
                .filter(|(time_ns, trace)| crosses(*time_ns) && !shown.contains(trace))
                .map(|(_, trace)| *trace)
                .collect();
            if hidden.is_empty() {
                continue;
            }
            for block in view.visible(shard).into_iter().filter(|block| block.key.hour == hour) {
                let rows = blocks.handlers(&block.key, block.size_bytes, std::slice::from_ref(handler)).await;
                let rows = rows.context_with(|| format!("read {handler} in {}", Key::Block(block.key).path()))?;
                let columns = Entries::of(&rows)?;
                for row in (0..columns.len()).filter(|row| hidden.contains(&columns.trace(*row))) {
                    let (time_ns, duration_ns) = (columns.placed(row).time_ns, columns.duration(row));
                    entries.push(Entry { time_ns, trace: columns.trace(row), duration_ns });
                }
            }
        }
        Ok(())
    }
}

impl OfHandler {
    fn add(&mut self, hour: Hour, shard: Shard, digest: &HandlerDigest, not_found: bool) {
        let of_hour = self.hours.entry((hour, shard)).or_default();
        of_hour.extend(digest.newest.iter().filter_map(Entry::of));
        if digest.newest.len() >= NEWEST_KEPT {
            self.cut.insert((hour, shard));
        }
        if !not_found {
            return;
        }
        for path in &digest.paths {
            let Some(entry) = Entry::of(&path.newest) else { continue };
            of_hour.push(entry);
            let newest = self.paths.entry((path.method.clone(), path.path.clone())).or_insert(entry);
            *newest = entry.max(*newest);
        }
        // Of each path there is only the newest.
        if digest.paths.iter().any(|path| path.count > 1) {
            self.cut.insert((hour, shard));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(number: u8) -> TraceId {
        TraceId([number; 16])
    }

    fn entry(time_ns: i64, number: u8) -> EntryRef {
        EntryRef {
            time_ns,
            trace_id: trace(number).to_string(),
            span_id: "0000000000000001".to_owned(),
            duration_ns: 5,
            error: false,
        }
    }

    #[test]
    fn a_trace_counts_once_at_its_newest_entry() {
        let entries = [(1, trace(1)), (8, trace(2)), (9, trace(1)), (9, trace(3)), (2, trace(4))];
        assert_eq!(newest(entries, 3), [(9, trace(3)), (9, trace(1)), (8, trace(2))]);
        assert_eq!(newest(entries, 0), []);
    }

    #[test]
    fn the_newest_of_a_handler_are_told_over_all_hours() {
        let handler: HandlerId = "web/get-x-00000001".parse().unwrap();
        let shard = Shard::new(0, 1).unwrap();
        let hour: Hour = "2026-11-22T14".parse().unwrap();
        let mut all = Newest::default();
        for (hour, entries) in [(hour, vec![entry(3, 1), entry(2, 2)]), (hour.next(), vec![entry(7, 1), entry(6, 3)])] {
            let digest = HandlerDigest { newest: entries, ..HandlerDigest::default() };
            all.add(hour, shard, &Digest { handlers: [(handler.clone(), digest)].into() }, |_| true);
        }
        assert_eq!(all.newest(&handler, 2, |_, _| true), [(7, trace(1)), (6, trace(3))]);
        assert_eq!(all.newest(&handler, 2, |_, t| t != trace(1)), [(6, trace(3)), (2, trace(2))]);
        let first = all.in_hours(&handler).next().unwrap();
        assert_eq!((first.0, first.2.len()), (hour, 2), "trace 1 has an entry in the first hour, too");
    }

    #[test]
    fn of_a_404_list_the_newest_of_each_path_stay() {
        let handler: HandlerId = "web/404-00000001".parse().unwrap();
        let path = |path: &str, newest: EntryRef| crate::table::digest::PathDigest {
            method: "GET".to_owned(),
            path: path.to_owned(),
            count: 1,
            errors: 0,
            newest,
        };
        let digest = HandlerDigest {
            newest: vec![entry(9, 9), entry(8, 8)],
            paths: vec![path("/a", entry(9, 9)), path("/b", entry(3, 3))],
            ..HandlerDigest::default()
        };
        let mut all = Newest::default();
        let hour: Hour = "2026-11-22T14".parse().unwrap();
        let digest = Digest { handlers: [(handler.clone(), digest)].into() };
        all.add(hour, Shard::new(0, 1).unwrap(), &digest, |_| true);
        assert_eq!(all.newest(&handler, 100, |_, _| true), [(9, trace(9)), (3, trace(3))]);
    }
}
