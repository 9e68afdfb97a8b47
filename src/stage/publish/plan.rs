//! What is due to be published: pure.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use xxhash_rust::xxh3::Xxh3;

use super::document::{MadeFrom, Part};
use crate::farm::Settings;
use crate::model::{BlockId, Shard};
use crate::table::view::{Block, View};

/// At this many handlers …
const USUAL_HANDLERS: f64 = 5_000.0;

/// … pages are made so often, if the setting says nothing.
const USUAL: Duration = Duration::from_secs(15 * 60);

/// Nobody looks at pages more often.
const SHORTEST: Duration = Duration::from_secs(60);

/// Pages that are older than this are not worth the PUTs they save.
const LONGEST: Duration = Duration::from_secs(3600);

/// So many blocks of spans as indexed are all asked for the traces that pages show: a request each, for hundreds of handlers
/// together, is less than a tenth of what it costs to write their pages. Of more only those near a trace ([`Near`]).
pub const MANY: usize = 1_000;

/// How near: a trace whose spans are further away from its entry is rare, and shown without them until they are merged.
const MARGIN_NS: i64 = 60_000_000_000;

/// How much an instance reads in a second, in bytes: two gigabits.
pub(crate) const READ_A_SECOND: f64 = 250e6;

/// How often a handler is published at most: the setting, or by default every 15 minutes at 5,000 handlers and by the
/// square root of how many there are: 90 s at 50, 21 minutes at 10,000. Every handler may change all the time, and each
/// takes two PUTs then: $0.48 a day at 50, $4.80 at 5,000; four times the handlers cost twice as much.
pub fn publish_every(settings: &Settings, handlers: usize) -> Duration {
    if let Some(every) = settings.publish_every {
        return every.0;
    }
    USUAL.mul_f64((handlers as f64 / USUAL_HANDLERS).sqrt()).clamp(SHORTEST, LONGEST)
}

/// The parts to look at: those that were never written, and those that were written and looked at longer ago than `every`.
/// A part of another number of shards does not count. With `at_once` all.
pub fn due(
    shards: impl IntoIterator<Item = Shard>,
    ages: &BTreeMap<Shard, Duration>,
    every: Duration,
    at_once: bool,
) -> Vec<Shard> {
    let is_due = |shard: &Shard| at_once || ages.get(shard).is_none_or(|age| *age >= every);
    shards.into_iter().filter(is_due).collect()
}

/// Whether a part says other things than it was made from, or was written by a program with other documents.
pub fn is_stale(part: Option<&Part>, made_from: &MadeFrom) -> bool {
    part.is_none_or(|part| part.made_from != *made_from)
}

/// Where the spans of a trace are looked for in blocks as indexed, of which there are many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Near {
    /// Only of entries after this time (nanoseconds since 1970) at all: what is before waits for the merge of its hour.
    since_ns: i64,
}

impl Near {
    /// Of `blocks` as indexed, each with its spans' times and its size; none: wherever they are in a trace's hours, because
    /// these blocks are not more than `many`. A farm that takes in millions of spans a second has thousands of them, which
    /// hold a minute each, and a merge asks for what one look into all of them does.
    ///
    /// What is not near a trace is found when it has been merged: minutes later in hours that are open, and at the latest
    /// when stragglers are. And so is everything of traces for which more than `most_bytes` would have to be read: as long as
    /// a listing is good ([`most_bytes`]), so much can be.
    pub fn of(blocks: impl Iterator<Item = (Option<(i64, i64)>, u64)>, many: usize, most_bytes: u64) -> Option<Self> {
        let mut newest: Vec<(i64, u64)> =
            blocks.map(|(times, size_bytes)| (times.map_or(i64::MAX, |times| times.1), size_bytes)).collect();
        if newest.len() <= many {
            return None;
        }
        newest.sort_unstable_by_key(|(last, _)| std::cmp::Reverse(*last));
        let mut bytes = 0_u64;
        let beyond = newest.into_iter().find(|(_, size_bytes)| {
            bytes = bytes.saturating_add(*size_bytes);
            bytes > most_bytes
        });
        Some(Self { since_ns: beyond.map_or(i64::MIN, |(last, _)| last.saturating_add(MARGIN_NS)) })
    }

    /// The times of blocks as indexed in which rows of a trace are, of which this is an entry.
    pub fn times(self, time_ns: i64, duration_ns: i64) -> (i64, i64) {
        if time_ns <= self.since_ns {
            // No block ends before it begins.
            return (i64::MAX, i64::MIN);
        }
        let end = time_ns.saturating_add(duration_ns.max(0));
        (time_ns.saturating_sub(MARGIN_NS), end.saturating_add(MARGIN_NS))
    }

    /// The margin and the time since when, in seconds: for who reckons with them.
    pub(crate) fn seconds(self) -> (f64, f64) {
        (MARGIN_NS as f64 / 1e9, self.since_ns as f64 / 1e9)
    }
}

/// How much of blocks as indexed may be read for some handlers, if blocks stay for so long after they were merged: pages are
/// written by a listing that is good for half of it, and a third of that is spent here.
pub fn most_bytes(grace: Duration) -> u64 {
    if grace.is_zero() { u64::MAX } else { (READ_A_SECOND * (grace / 6).as_secs_f64()) as u64 }
}

/// Blocks of spans whose rows may be new to whoever looked last at `until`: written since, but for merges of blocks that
/// had all been there. If of blocks as indexed only those `near` a trace are asked, merges of these may bring rows, too.
pub fn fresh(view: &View, until: Timestamp, near: Option<Near>) -> Vec<&Block> {
    // Last-modified times may be cut to seconds: a tie counts as written since.
    let is_old = |modified: Timestamp| modified.as_second() < until.as_second();
    let known: HashMap<BlockId, &Block> = view.blocks.iter().map(|block| (block.id(), block)).collect();
    let was_asked = |block: &&Block| is_old(block.modified) && (near.is_none() || !block.is_level0());
    let brings_rows = |block: &&Block| {
        let inputs = &block.meta.merged_from;
        let all_old = inputs.iter().all(|input| known.get(input).is_some_and(was_asked));
        !is_old(block.modified) && (inputs.is_empty() || !all_old)
    };
    view.blocks.iter().filter(brings_rows).collect()
}

/// A hash of names, in any order.
pub fn hash_of<T: std::fmt::Display>(names: impl IntoIterator<Item = T>) -> String {
    let mut names: Vec<String> = names.into_iter().map(|name| name.to_string()).collect();
    names.sort_unstable();
    names.dedup();
    let mut hash = Xxh3::new();
    for name in names {
        hash.update(name.as_bytes());
        hash.update(b"\n");
    }
    format!("{:016x}", hash.digest())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::model::{Hour, ShardDir, Table};
    use crate::store::layout::BlockKey;
    use crate::table::block::{BlockMeta, FORMAT};

    #[test]
    fn a_day_of_publishing_costs_by_the_square_root_of_its_handlers() {
        let settings = Settings::default();
        for (handlers, seconds) in [(0, 60), (22, 60), (50, 90), (1_250, 450), (5_000, 900), (20_000, 1_800)] {
            assert_eq!(publish_every(&settings, handlers).as_secs(), seconds, "{handlers}");
        }
        assert_eq!(publish_every(&settings, 1_000_000), LONGEST);
    }

    #[test]
    fn a_part_is_due_when_it_is_missing_or_old_enough() {
        let shards: Vec<Shard> = Shard::all(3).collect();
        let seconds = Duration::from_secs;
        let ages = [(shards[0], seconds(59)), (shards[1], seconds(60)), (Shard::new(2, 4).unwrap(), seconds(5))].into();
        assert_eq!(due(Shard::all(3), &ages, seconds(60), false), [shards[1], shards[2]]);
        assert_eq!(due(Shard::all(3), &ages, seconds(60), true), shards);
    }

    /// A block of which the `written`th second is that of its writing.
    fn block(number: u128, is_level0: bool, merged_from: &[u128], written: i64) -> Block {
        let name = |number: u128| BlockId::new(ulid::Ulid(number));
        let shard = Shard::new(0, 1).unwrap();
        let meta = BlockMeta {
            format: FORMAT,
            rules: 1,
            rows: 1,
            shards: vec![shard],
            merged_from: merged_from.iter().copied().map(name).collect(),
            siblings: Vec::new(),
            times: None,
        };
        let dir = if is_level0 { ShardDir::All } else { ShardDir::One(shard) };
        let key = BlockKey { table: Table::Spans, dir, hour: Hour::EPOCH, block: name(number) };
        let modified = Timestamp::from_second(written).unwrap();
        Block { key, size_bytes: 1, modified, meta: std::sync::Arc::new(meta) }
    }

    #[test]
    fn a_merge_brings_what_was_not_asked_for_before() {
        let blocks = vec![
            block(1, true, &[], 5),
            block(2, true, &[], 15),
            block(3, false, &[], 5),
            block(4, false, &[1], 15),
            block(5, false, &[3], 15),
            block(6, false, &[1, 2], 15),
            block(7, false, &[99], 15),
            block(8, false, &[1], 5),
        ];
        let view = View {
            began: Timestamp::UNIX_EPOCH,
            blocks,
            damaged: Vec::new(),
            foreign: Vec::new(),
            elsewhere: HashSet::new(),
        };
        let fresh = |near| {
            let fresh = fresh(&view, Timestamp::from_second(10).unwrap(), near);
            fresh.into_iter().map(Block::id).collect::<Vec<_>>()
        };
        let names =
            |numbers: &[u128]| numbers.iter().map(|number| BlockId::new(ulid::Ulid(*number))).collect::<Vec<_>>();
        assert_eq!(fresh(None), names(&[2, 6, 7]), "what is new, merged with it, and merged of what is gone");
        let near = Near::of([(None, 1)].into_iter(), 0, 1);
        assert!(near.is_some());
        assert_eq!(fresh(near), names(&[2, 4, 6, 7]), "not everything was asked of blocks as indexed");
    }

    #[test]
    fn of_many_blocks_those_are_asked_that_are_near_and_of_a_time_for_which_all_can_be_read() {
        let minute = MARGIN_NS;
        // A block a minute, of a minute.
        let blocks = |count: i64| (0..count).map(|number| (Some((number * minute, (number + 1) * minute)), 100));
        assert_eq!(Near::of(blocks(10), 10, 0), None, "they are not many");
        let all = Near::of(blocks(10), 9, 1_000).unwrap();
        assert_eq!(all.times(3 * minute, 5), (2 * minute, 4 * minute + 5));
        assert_eq!(all.times(3 * minute, -5), (2 * minute, 4 * minute), "it ends before it starts");
        // The last three are read: blocks that end after 7. What begins after 8 asks no other.
        let some = Near::of(blocks(10), 9, 399).unwrap();
        assert_eq!(some.times(8 * minute + 1, 0), (7 * minute + 1, 9 * minute + 1));
        let none = some.times(8 * minute, 0);
        assert!(none.0 > none.1);
        // Blocks without times are asked for everything, and come first.
        let old = blocks(10).chain([(None, 300)]);
        assert_eq!(Near::of(old, 9, 399).unwrap().times(10 * minute, 0), none);
        assert_eq!((most_bytes(Duration::from_secs(600)), most_bytes(Duration::ZERO)), (25_000_000_000, u64::MAX));
    }

    #[test]
    fn a_hash_of_names_does_not_depend_on_their_order() {
        assert_eq!(hash_of(["a", "b"]), hash_of(["b", "a", "b"]));
        assert_ne!(hash_of(["ab"]), hash_of(["a", "b"]));
    }
}
