//! What is due to be published: pure.

use std::collections::BTreeMap;
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

/// Blocks of spans whose rows may be new to whoever looked last at `until`: written since, but for merges of blocks that
/// had all been there.
pub fn fresh(view: &View, until: Timestamp) -> Vec<&Block> {
    // Last-modified times may be cut to seconds: a tie counts as written since.
    let is_old = |modified: Timestamp| modified.as_second() < until.as_second();
    let written: BTreeMap<BlockId, Timestamp> = view.blocks.iter().map(|block| (block.id(), block.modified)).collect();
    let brings_rows = |block: &&Block| {
        let inputs = &block.meta.merged_from;
        let all_old = inputs.iter().all(|input| written.get(input).is_some_and(|modified| is_old(*modified)));
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

    #[test]
    fn a_hash_of_names_does_not_depend_on_their_order() {
        assert_eq!(hash_of(["a", "b"]), hash_of(["b", "a", "b"]));
        assert_ne!(hash_of(["ab"]), hash_of(["a", "b"]));
    }
}
