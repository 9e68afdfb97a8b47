//! How many traces there are, however many: exact, with a bounded number of ids in memory.

use std::collections::{BTreeSet, HashMap, HashSet};

use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Result, ResultExt};
use crate::model::{Hour, Table, TraceId};
use crate::query::Reader;
use crate::table::key::KeyColumns;
use crate::table::view::View;

/// How many ids are held at a time: about 100 MiB of them.
pub(super) const HELD: usize = 2 << 20;

/// Of how many traces the rows are read at a time.
pub(super) const AT_A_TIME: usize = 1_000;

/// The traces met so far, of one part of all.
#[derive(Debug)]
pub(super) struct Traces {
    /// The trace's first hour.
    met: HashMap<TraceId, Hour>,
    crossing: BTreeSet<TraceId>,
    held: usize,
    part: u64,
    parts: u64,
    counted: u64,
}

impl Default for Traces {
    fn default() -> Self {
        Self { met: HashMap::new(), crossing: BTreeSet::new(), held: HELD, part: 0, parts: 1, counted: 0 }
    }
}

impl Traces {
    /// A trace has spans in `hour`.
    pub fn meet(&mut self, trace: TraceId, hour: Hour) {
        if self.part_of(trace) != self.part {
            return;
        }
        if *self.met.entry(trace).or_insert(hour) != hour {
            self.crossing.insert(trace);
        }
        // Only the first part may find that there must be more: it then leaves half of its ids to another.
        while self.part == 0 && self.met.len() > self.held {
            self.parts *= 2;
            let parts = self.parts;
            self.met.retain(|trace, _| part_of(*trace, parts) == 0);
            self.crossing.retain(|trace| part_of(*trace, parts) == 0);
        }
    }

    fn part_of(&self, trace: TraceId) -> u64 {
        part_of(trace, self.parts)
    }

    /// Goes on to the next part, if there is one: every trace is then to be met again.
    pub fn next_part(&mut self) -> bool {
        self.counted += std::mem::take(&mut self.met).len() as u64;
        self.part += 1;
        self.part < self.parts
    }

    /// How many there are, when every part is done.
    pub fn count(&self) -> u64 {
        self.counted
    }

    /// Those in more than one hour.
    pub fn crossing(&self) -> impl Iterator<Item = TraceId> {
        self.crossing.iter().copied()
    }
}

fn part_of(trace: TraceId, parts: u64) -> u64 {
    // The lower half of the hash decides the shard.
    (xxh3_64(&trace.0) >> 32) % parts
}

/// How many spans of `traces` were counted in more than one hour, all but once.
pub(super) async fn revisions_across_hours(reader: &Reader, spans: &View, traces: &[TraceId]) -> Result<u64> {
    let mut by_hour = HashSet::new();
    for (_, block) in spans.visible_parts() {
        let rows = reader.blocks.traces(&block.key, block.size_bytes, traces).await.context("read traces again")?;
        let keys = KeyColumns::of(Table::Spans, &rows)?;
        by_hour.extend((0..keys.len()).map(|row| (block.key.hour, keys.record(row))));
    }
    let distinct: HashSet<_> = by_hour.iter().map(|(_, key)| key).collect();
    Ok((by_hour.len() - distinct.len()) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_counted_exactly_even_if_few_ids_fit() {
        let trace = |number: u64| TraceId(u128::from(number).to_be_bytes());
        let hour = |number| Hour::from_number(number);
        for held in [usize::MAX, 300, 7] {
            let mut traces = Traces { held, ..Traces::default() };
            loop {
                for number in 0..1_000 {
                    traces.meet(trace(number), hour(1));
                    if number % 10 == 0 {
                        traces.meet(trace(number), hour(2));
                        traces.meet(trace(number), hour(3));
                    }
                }
                if !traces.next_part() {
                    break;
                }
            }
            assert_eq!(traces.count(), 1_000, "{held}");
            assert_eq!(traces.crossing().count(), 100, "{held}");
        }
    }
}
