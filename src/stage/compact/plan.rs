//! What is to be merged and what is to go: pure functions of a listing.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::Timestamp;
use serde::Serialize;

use crate::farm::settings::{Span, Timeline};
use crate::model::{BlockId, Hour, Shard, Table};
use crate::store::Key;
use crate::store::layout::BlockKey;
use crate::table::view::{Block, View, has_stood, is_one_run, runs};

/// While an hour is open, what has been indexed into it is merged this often.
pub(crate) const OPEN_EVERY: Duration = Duration::from_secs(5 * 60);

/// An hour is merged into one run when it has been over for this long: the spans of its last requests have come.
pub(crate) const CLOSED_AFTER: Duration = Duration::from_secs(15 * 60);

/// What comes later still waits until there are so many …
const STRAGGLERS: usize = 4;

/// … or the oldest has waited for this long.
const STRAGGLER_AGE: Duration = Duration::from_secs(6 * 3600);

/// In an open hour, so many runs of about the same size are merged into one of the next.
const TIER: usize = 8;

/// What the planner is told beyond the listing.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The store's time.
    pub now: Timestamp,
    /// How long an output stands before what it replaces goes.
    pub grace: Duration,
    /// `--once`: every hour is taken as closed, and nothing waits.
    pub once: bool,
    /// How long hours are kept: one that is past is left to expire.
    pub keep_for: Timeline<Span>,
    /// Hours and shards that are to be written anew whatever they hold, because a trace is to be forgotten.
    pub forced: BTreeSet<(Table, Hour, Shard)>,
}

impl Facts {
    /// Whether an hour is older than it is kept: it is about to expire, and writing it anew would be in vain. (Rows
    /// without a possible time stand in the first hour; they expire by when they were received.)
    fn is_past(&self, hour: Hour) -> bool {
        hour != Hour::EPOCH && has_stood(hour.end(), self.now, self.keep_for.at(hour).0)
    }
}

/// What a round of compaction would do.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Plan {
    /// Merges, sorted by hour, shard and table: what weighs alike stands apart, and slices of the list are even.
    pub merges: Vec<Merge>,
    /// Blocks that have been replaced for all their shards for as long as the grace.
    pub deletes: Vec<Delete>,
    /// Hours that a newer program wrote to: this one leaves them alone.
    pub newer: Vec<(Table, Hour)>,
    /// Blocks that cannot be read, and what is wrong with each.
    pub damaged: Vec<(String, String)>,
    /// When the first of the blocks that are not merged now will be due, if any will.
    #[serde(skip)]
    pub next: Option<Timestamp>,
}

/// A merge of some blocks of one table, shard and hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Merge {
    /// The table.
    pub table: Table,
    /// The shard.
    pub shard: Shard,
    /// The hour.
    pub hour: Hour,
    /// Why now.
    pub why: Why,
    /// About how many bytes are read.
    pub bytes: u64,
    /// The blocks to merge.
    pub inputs: Vec<BlockId>,
    #[serde(skip)]
    pub(super) keys: Vec<(BlockKey, u64)>,
    #[serde(skip)]
    pub(crate) merged_from: Vec<BlockId>,
}

/// Why a merge is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// What was indexed into an open hour is five minutes old, or eight runs are of one size.
    Open,
    /// The hour is over: everything into one run.
    Closed,
    /// Enough has come after that, or it has waited long enough.
    Stragglers,
    /// A trace is to be forgotten.
    Forget,
}

/// A block that may go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Delete {
    /// Its path.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
    #[serde(skip)]
    pub(crate) key: Option<BlockKey>,
}

impl Plan {
    /// Adds what is to be done to the blocks of `table` on `view` (only hours with more than one block a shard need to
    /// be on it, and those of [`Facts::forced`]).
    pub fn add(&mut self, table: Table, view: &View, facts: &Facts) {
        self.add_some(table, view, facts, |_, _| true);
    }

    /// [`Plan::add`], but of merges only those of blocks that are `mine` for a shard.
    pub(crate) fn add_some(&mut self, table: Table, view: &View, facts: &Facts, mine: impl Fn(Shard, &Block) -> bool) {
        let newer = view.newer_hours();
        let by_shard: BTreeMap<Shard, BTreeMap<Hour, Vec<&Block>>> = pending(view, mine);
        for (shard, hours) in by_shard {
            for (hour, blocks) in hours {
                let forced = facts.forced.contains(&(table, hour, shard));
                if newer.contains(&hour) || facts.is_past(hour) {
                    continue;
                }
                let blocks = if forced { blocks } else { mergeable(blocks, hour, facts.now) };
                match due(&blocks, hour, forced, facts) {
                    Some((inputs, why)) => self.merges.push(Merge::new(table, shard, hour, why, view, &inputs)),
                    None => self.next = self.next.into_iter().chain(due_at(&blocks, hour, facts.now)).min(),
                }
            }
        }
        self.merges.sort_by_key(|merge| (merge.hour, merge.shard, merge.table));
        let mut deletes = view.deletable(facts.now, facts.grace);
        deletes.retain(|block| !newer.contains(&block.key.hour));
        // Level 0 first: it is what makes a listing long.
        deletes.sort_by_key(|block| (!block.is_level0(), block.id()));
        self.deletes.extend(deletes.into_iter().map(|block| Delete {
            path: Key::Block(block.key).path(),
            size_bytes: block.size_bytes,
            key: Some(block.key),
        }));
        self.newer.extend(newer.into_iter().map(|hour| (table, hour)));
        let damaged = view.damaged.iter().map(|damaged| (Key::Block(damaged.key).path(), damaged.why.clone()));
        self.damaged.extend(damaged);
    }
}

/// In how many shards and hours of `view` there is something to merge, now or once it is due.
pub fn waiting(view: &View, facts: &Facts) -> u64 {
    let parts = pending(view, |_, _| true).into_values().flatten().filter(|(hour, _)| !facts.is_past(*hour));
    parts.filter(|(hour, blocks)| !is_one_run(&mergeable(blocks.clone(), *hour, facts.now))).count() as u64
}

/// The blocks to look at, by shard and hour.
fn pending(view: &View, mine: impl Fn(Shard, &Block) -> bool) -> BTreeMap<Shard, BTreeMap<Hour, Vec<&Block>>> {
    let mut by_shard: BTreeMap<Shard, BTreeMap<Hour, Vec<&Block>>> = BTreeMap::new();
    for (shard, block) in view.pending_parts().into_iter().filter(|(shard, block)| mine(*shard, block)) {
        by_shard.entry(shard).or_default().entry(block.key.hour).or_default().push(block);
    }
    by_shard
}

/// The blocks that may be merged at all. The hour of impossible times never ends, and its rows expire by when they were
/// received, which is told by when their block was written. If every merge took in the one before, a service whose clock
/// is broken for good would make its block young again for ever. So a level-1 block of an earlier day stays as it is:
/// the hour has a block a day, and each goes when it is past.
fn mergeable(blocks: Vec<&Block>, hour: Hour, now: Timestamp) -> Vec<&Block> {
    if hour != Hour::EPOCH {
        return blocks;
    }
    let day = |time: Timestamp| time.as_second().div_euclid(24 * 3600);
    blocks.into_iter().filter(|block| block.is_level0() || day(block.modified) == day(now)).collect()
}

/// What of `blocks`, the pending ones of a shard and hour, is to be merged now.
fn due<'a>(blocks: &[&'a Block], hour: Hour, forced: bool, facts: &Facts) -> Option<(Vec<&'a Block>, Why)> {
    if forced && !blocks.is_empty() {
        return Some((blocks.to_vec(), Why::Forget));
    }
    if is_one_run(blocks) {
        return None;
    }
    let closed = hour.end().as_second().saturating_add(CLOSED_AFTER.as_secs() as i64);
    if !facts.once && facts.now.as_second() < closed {
        return due_while_open(blocks, facts).map(|inputs| (inputs, Why::Open));
    }
    // The merge that closes an hour is the first one written after its end.
    let is_closed = blocks.iter().any(|block| !block.is_level0() && block.modified.as_second() >= closed);
    if facts.once || !is_closed {
        return Some((blocks.to_vec(), Why::Closed));
    }
    due_stragglers(blocks, facts).map(|inputs| (inputs, Why::Stragglers))
}

/// When `blocks`, which are not due now, will be by their age: not by what comes until then.
fn due_at(blocks: &[&Block], hour: Hour, now: Timestamp) -> Option<Timestamp> {
    if is_one_run(blocks) {
        return None;
    }
    let closes = hour.end().checked_add(CLOSED_AFTER).ok().filter(|closes| now < *closes);
    let waits = if closes.is_some() { OPEN_EVERY } else { STRAGGLER_AGE };
    let level0 = blocks.iter().filter(|block| block.is_level0()).map(|block| block.modified).min();
    closes.into_iter().chain(level0.and_then(|oldest| oldest.checked_add(waits).ok())).min()
}

fn due_while_open<'a>(blocks: &[&'a Block], facts: &Facts) -> Option<Vec<&'a Block>> {
    let (level0, level1): (Vec<&Block>, Vec<&Block>) = blocks.iter().partition(|block| block.is_level0());
    let is_due = level0.iter().any(|block| has_stood(block.modified, facts.now, OPEN_EVERY)) || level0.len() >= TIER;
    let mut inputs = if is_due { level0 } else { Vec::new() };
    let mut tiers: BTreeMap<u32, Vec<Vec<&Block>>> = BTreeMap::new();
    for run in runs(&level1) {
        tiers.entry(bytes_of(&run).max(1).ilog(TIER as u64)).or_default().push(run);
    }
    inputs.extend(tiers.into_values().filter(|tier| tier.len() >= TIER).flatten().flatten());
    (!inputs.is_empty()).then_some(inputs)
}

/// Everything but the largest run has come late. It waits; and while it is small beside that run it is merged without
/// it, so that an archive that is indexed hour by hour does not rewrite the same run again and again.
///
/// Rows that stand, and count, twice wait for the grace only: so often at most are they written again, by workers that take
/// a part for theirs in turn.
fn due_stragglers<'a>(blocks: &[&'a Block], facts: &Facts) -> Option<Vec<&'a Block>> {
    let mut runs = runs(blocks);
    runs.sort_by_key(|run| (run.iter().any(|block| block.is_level0()), std::cmp::Reverse(bytes_of(run))));
    let largest = runs.remove(0);
    let late: Vec<&Block> = runs.iter().flatten().copied().collect();
    let waited = late.iter().any(|block| has_stood(block.modified, facts.now, STRAGGLER_AGE));
    let twice = has_twice(blocks, facts);
    if !waited && !twice && runs.len() < STRAGGLERS {
        return None;
    }
    let waited = waited || (twice && !has_twice(&late, facts));
    let small = bytes_of(&late).saturating_mul(TIER as u64) < bytes_of(&largest);
    if small && !waited { Some(late) } else { Some(blocks.to_vec()) }
}

/// Whether two outputs that have stood for the grace were made of the same input: a merge of what an hour was given while it
/// was open ended after the one that closed it had begun.
fn has_twice(blocks: &[&Block], facts: &Facts) -> bool {
    let mut seen = HashSet::new();
    let stands = blocks.iter().filter(|block| has_stood(block.modified, facts.now, facts.grace));
    !stands.flat_map(|block| &block.meta.merged_from).all(|name| seen.insert(*name))
}

fn bytes_of(run: &[&Block]) -> u64 {
    run.iter().map(|block| block.size_bytes).sum()
}

impl Merge {
    fn new(table: Table, shard: Shard, hour: Hour, why: Why, view: &View, inputs: &[&Block]) -> Self {
        // Of a level-0 block only the shard's row groups are read: about its share.
        let bytes = inputs.iter().map(|block| block.size_bytes / block.shards().len().max(1) as u64).sum();
        Self {
            table,
            shard,
            hour,
            why,
            bytes,
            inputs: inputs.iter().map(|block| block.id()).collect(),
            keys: inputs.iter().map(|block| (block.key, block.size_bytes)).collect(),
            merged_from: view.merged_from(inputs),
        }
    }

    /// Under which name its failures are remembered.
    pub(super) fn name(&self) -> String {
        format!("merge {} {} {}", self.table, self.shard, self.hour)
    }
}

impl fmt::Display for Merge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            Why::Open => "the hour is open, and this has waited for five minutes",
            Why::Closed => "the hour is over",
            Why::Stragglers => "it came after the hour was closed",
            Why::Forget => "a trace is to be forgotten",
        };
        let (count, bytes) = (self.inputs.len(), ByteSize(self.bytes));
        write!(f, "{} {} of {}: {count} blocks, {bytes}: {why}", self.table, self.shard, self.hour)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = ByteSize(self.merges.iter().map(|merge| merge.bytes).sum());
        writeln!(f, "compact: {} merges, {bytes}; {} blocks to delete", self.merges.len(), self.deletes.len())?;
        for merge in &self.merges {
            writeln!(f, "  merge {merge}")?;
        }
        for delete in &self.deletes {
            writeln!(f, "  delete {} (replaced)", delete.path)?;
        }
        for (table, hour) in &self.newer {
            writeln!(f, "  leave {table} of {hour}: a newer program wrote to it")?;
        }
        self.damaged.iter().try_for_each(|(path, why)| writeln!(f, "  skip {path}: {why}"))
    }
}

/// The names that a plan would delete, for tests and simulations.
impl Plan {
    /// The blocks to delete.
    pub fn deleted(&self) -> HashSet<BlockId> {
        self.deletes.iter().filter_map(|delete| delete.key).map(|key| key.block).collect()
    }
}

#[cfg(test)]
mod tests;
