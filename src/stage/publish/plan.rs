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
/// together, is less than a tenth of what it costs to write their pages. Of more only those near a trace ([`near`]).
pub const MANY: usize = 1_000;

/// How near: a trace whose spans are further away from its entry is rare, and shown without them until they are merged.
const NEAR: Duration = Duration::from_secs(60);

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

/// How near to its entry the spans of a trace are looked for in blocks as indexed, of which there are `blocks`; none: wherever
/// they are in its hours, because these are not more than `many`. A farm that takes in millions of spans a second has thousands
/// of them, which hold a minute each, and a merge asks for what one look into all of them does. What is not near is found
/// when it has been merged: minutes later in hours that are open, and at the latest when stragglers are.
pub fn near(blocks: usize, many: usize) -> Option<Duration> {
    (blocks > many).then_some(NEAR)
}

/// Blocks of spans whose rows may be new to whoever looked last at `until`: written since, but for merges of blocks that
/// had all been there. If of blocks as indexed only those `near` a trace are asked, merges of these may bring rows, too.
pub fn fresh(view: &View, until: Timestamp, near: Option<Duration>) -> Vec<&Block> {
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
        let view = View { began: Timestamp::UNIX_EPOCH, blocks, damaged: Vec::new(), foreign: Vec::new() };
        let fresh = |near| {
            let fresh = fresh(&view, Timestamp::from_second(10).unwrap(), near);
            fresh.into_iter().map(Block::id).collect::<Vec<_>>()
        };
        let names =
            |numbers: &[u128]| numbers.iter().map(|number| BlockId::new(ulid::Ulid(*number))).collect::<Vec<_>>();
        assert_eq!(fresh(None), names(&[2, 6, 7]), "what is new, merged with it, and merged of what is gone");
        assert_eq!(fresh(near(1, 0)), names(&[2, 4, 6, 7]), "not everything was asked of blocks as indexed");
        assert_eq!((near(1_000, MANY), near(1_001, MANY)), (None, Some(NEAR)));
    }

    #[test]
    fn a_hash_of_names_does_not_depend_on_their_order() {
        assert_eq!(hash_of(["a", "b"]), hash_of(["b", "a", "b"]));
        assert_ne!(hash_of(["ab"]), hash_of(["a", "b"]));
    }
}
