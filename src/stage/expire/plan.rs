//! What may go, and what must be pinned first: pure functions of listings, documents, settings and the time.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::farm::Settings;
use crate::model::{BlockId, Hour, Shard};
use crate::store::layout::BlockKey;
use crate::table::view::{Block, Damaged, has_stood};

/// An hour's newest traces are pinned this long before it is past: a farm that stands still for less, and whose bucket
/// has a lifecycle rule, has pinned them in time.
pub const AHEAD: SignedDuration = SignedDuration::from_hours(6);

/// The most that a backlog holds expiry up: an object in the inbox that nobody can index must not stop it for ever.
pub const LONGEST_BACKLOG: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A listed block, of either table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Where it lies.
    pub key: BlockKey,
    /// Its listed size.
    pub size_bytes: u64,
    /// When it was written.
    pub modified: Timestamp,
    /// The shards of which it has rows.
    pub shards: Vec<Shard>,
}

impl From<&Block> for Listed {
    fn from(block: &Block) -> Self {
        let shards = block.shards().to_vec();
        Self { key: block.key, size_bytes: block.size_bytes, modified: block.modified, shards }
    }
}

/// How far the past reaches.
#[derive(Clone, Copy, Debug)]
pub struct Horizon<'a> {
    /// The settings: `keep_for` of each hour.
    pub settings: &'a Settings,
    /// The grace that counts.
    pub grace: Duration,
    /// The store's time.
    pub now: Timestamp,
    /// How old the oldest object of the inbox is, at most [`LONGEST_BACKLOG`]: what has not been indexed must not expire
    /// unread.
    pub backlog: SignedDuration,
}

impl Horizon<'_> {
    /// Whether a block of `hour` that was written at `modified` is past: whether the hour's last nanosecond is older
    /// than `keep_for`.
    ///
    /// The rows of [`Hour::EPOCH`] have no possible time and expire by when they were received. A block is written after
    /// all of its rows were received, so one whose last-modified is older than `keep_for` holds only such rows. Their
    /// footers and statistics need not be read for that; a merge makes a block younger only when newer rows join it.
    pub fn is_past(&self, hour: Hour, modified: Timestamp) -> bool {
        expires(self.settings, hour, modified) <= self.reach()
    }

    /// Whether the newest traces of `hour` are to be pinned: it, or a neighbour whose spans may not go before its
    /// entries are covered, will be past within [`AHEAD`]. The hour without times always is: what is in it belongs to
    /// traces of any hour.
    pub fn is_near(&self, hour: Hour) -> bool {
        hour == Hour::EPOCH || pinned_from(self.settings, hour) <= self.reach()
    }

    /// The last hour that is near: nothing later need be looked at.
    pub fn last_near(&self) -> Hour {
        let mut hour = Hour::of(self.reach());
        while hour > Hour::EPOCH && !self.is_near(hour) {
            hour = hour.previous();
        }
        hour
    }

    /// Whether a block may be deleted as far as time goes: it is past, and older than the grace (somebody may be writing
    /// what belongs to it).
    pub fn may_go(&self, hour: Hour, modified: Timestamp) -> bool {
        self.is_past(hour, modified) && has_stood(modified, self.now, self.grace)
    }

    fn reach(&self) -> Timestamp {
        saturating_add(self.now, -self.backlog.clamp(SignedDuration::ZERO, LONGEST_BACKLOG))
    }
}

/// From when on the newest traces of `hour` are pinned ([`Horizon::is_near`]), unless a backlog holds expiry up.
pub fn pinned_from(settings: &Settings, hour: Hour) -> Timestamp {
    let hours = [hour.previous(), hour, hour.next()];
    let first = hours.into_iter().map(|hour| expires(settings, hour, Timestamp::MAX)).min();
    saturating_add(first.unwrap_or(Timestamp::MAX), -AHEAD)
}

fn expires(settings: &Settings, hour: Hour, modified: Timestamp) -> Timestamp {
    let (hour, from) = if hour == Hour::EPOCH { (Hour::of(modified), modified) } else { (hour, hour.end()) };
    let keep_for = SignedDuration::try_from(settings.keep_for.at(hour).0).unwrap_or(SignedDuration::MAX);
    saturating_add(from, keep_for)
}

fn saturating_add(time: Timestamp, more: SignedDuration) -> Timestamp {
    time.checked_add(more).unwrap_or(if more.is_negative() { Timestamp::MIN } else { Timestamp::MAX })
}

/// What `farm/pinned/` says: for each hour and shard of entries the blocks whose newest traces have been pinned.
#[derive(Clone, Debug, Default)]
pub struct Covered(pub HashMap<(Hour, Shard), HashSet<BlockId>>);

impl Covered {
    /// Whether the document of `shard` names the block.
    pub fn names(&self, block: &BlockKey, shard: Shard) -> bool {
        self.0.get(&(block.hour, shard)).is_some_and(|blocks| blocks.contains(&block.block))
    }

    /// Whether a block is covered: the document of each shard in its footer names it (rule 5).
    pub fn covers(&self, block: &Listed) -> bool {
        block.shards.iter().all(|shard| self.names(&block.key, *shard))
    }
}

/// Pin the newest traces of one hour and shard of entries, then delete what is past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntriesItem {
    /// The shard; first, so that a slice of the sorted list is a range of shards.
    pub shard: Shard,
    /// The hour.
    pub hour: Hour,
}

/// The hours and shards of entries with something to do: the hour is near and a block is not covered yet, or a block may
/// go. Sorted. `left_alone` are hours that a newer program wrote.
pub fn entries_items(
    entries: &[Listed],
    covered: &Covered,
    left_alone: &BTreeSet<Hour>,
    horizon: &Horizon<'_>,
) -> Vec<EntriesItem> {
    let mut items = BTreeSet::new();
    for block in entries.iter().filter(|block| !left_alone.contains(&block.key.hour)) {
        let hour = block.key.hour;
        if !horizon.is_near(hour) {
            continue;
        }
        let goes = horizon.may_go(hour, block.modified);
        let open = block.shards.iter().filter(|shard| goes || !covered.names(&block.key, **shard));
        items.extend(open.map(|shard| EntriesItem { shard: *shard, hour }));
    }
    items.into_iter().collect()
}

/// How much work each of `items` is, by which they are shared out.
///
/// Work are the traces to be pinned, at most `keep_last` of each handler. Handlers are spread evenly over the shards, so
/// every shard weighs the same for each of its hours, whatever its traffic; its hours share that by their bytes.
pub fn entries_weights(items: &[EntriesItem], entries: &[Listed]) -> BTreeMap<EntriesItem, u64> {
    let mut bytes: BTreeMap<EntriesItem, u64> = items.iter().map(|item| (*item, 0)).collect();
    for block in entries {
        for shard in &block.shards {
            if let Some(bytes) = bytes.get_mut(&EntriesItem { shard: *shard, hour: block.key.hour }) {
                *bytes += block.size_bytes / block.shards.len() as u64;
            }
        }
    }
    let mut shards: BTreeMap<Shard, (u128, u128)> = BTreeMap::new();
    for (item, bytes) in &bytes {
        let (hours, all) = shards.entry(item.shard).or_default();
        (*hours, *all) = (*hours + 1, *all + u128::from(*bytes));
    }
    let weight = |(item, bytes): (EntriesItem, u64)| {
        let (hours, all) = shards.get(&item.shard).copied().unwrap_or_default();
        let weight = AN_HOUR * hours * u128::from(bytes) / all.max(1);
        (item, u64::try_from(weight).unwrap_or(u64::MAX))
    };
    bytes.into_iter().map(weight).collect()
}

/// What an hour of the average of its shard weighs.
const AN_HOUR: u128 = 1000;

/// The blocks among `entries` of one hour that may be deleted: past, older than the grace, and every shard in their
/// footer is covered: by its document, or because its pins were completed in this very item (`settled`).
pub fn entries_that_may_go<'l>(
    entries: &'l [Listed],
    covered: &Covered,
    settled: &BTreeSet<Shard>,
    horizon: &Horizon<'_>,
) -> Vec<&'l Listed> {
    let is_settled =
        |block: &Listed| block.shards.iter().all(|shard| settled.contains(shard) || covered.names(&block.key, *shard));
    entries.iter().filter(|block| horizon.may_go(block.key.hour, block.modified) && is_settled(block)).collect()
}

/// The hours whose spans may go, and the blocks of them that may. `spans` were listed before `entries`, and `covered`
/// was read after both.
///
/// Every block of entries of the hour must be gone or covered, and of its neighbours (a trace crosses full hours), and
/// of the hour without times (its traces are anywhere). `unread` are hours with a block of entries whose footer cannot
/// be read and that nobody has marked: nobody knows what it covers.
pub fn spans_that_may_go(
    spans: &[Listed],
    entries: &[Listed],
    covered: &Covered,
    unread: &BTreeSet<Hour>,
    left_alone: &BTreeSet<Hour>,
    horizon: &Horizon<'_>,
) -> BTreeMap<Hour, Vec<Listed>> {
    let open: BTreeSet<Hour> = entries
        .iter()
        .filter(|block| !covered.covers(block))
        .map(|block| block.key.hour)
        .chain(unread.iter().copied())
        .chain(left_alone.iter().copied())
        .collect();
    let mut hours: BTreeMap<Hour, Vec<Listed>> = BTreeMap::new();
    for block in spans {
        let hour = block.key.hour;
        let holds_it = [hour.previous(), hour, hour.next(), Hour::EPOCH];
        if horizon.may_go(hour, block.modified) && !holds_it.iter().any(|hour| open.contains(hour)) {
            hours.entry(hour).or_default().push(block.clone());
        }
    }
    hours
}

/// Damaged blocks that may go with their hour: they have been reported in `quarantine/blocks/`, and what is in them
/// nobody can read, pin or keep.
pub fn damaged_that_may_go<'d>(damaged: &'d [Damaged], horizon: &Horizon<'_>) -> Vec<&'d Damaged> {
    damaged.iter().filter(|block| block.marked && horizon.may_go(block.key.hour, block.modified)).collect()
}

#[cfg(test)]
mod tests;
