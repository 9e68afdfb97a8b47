//! What is visible: a listing of blocks together with what their footers say of each other (rule 2).
//!
//! Compaction adds an output before it removes its inputs, so the same rows stand in several blocks for a while. Whom to
//! believe is decided here and nowhere else, by pure functions over one listing:
//!
//! * [`View::visible`]: what readers, publishing and pins count. An output hides what it replaces only if it was
//!   written before the listing began: a listing is not atomic, it may hold the last file of a merge without the files
//!   written before it.
//! * [`View::pending`]: what a planner of merges looks at. It believes every output at once; if it believes one too
//!   early, the next merge has a copy more, and nothing is lost.
//! * [`View::deletable`]: what has been replaced for every shard by outputs that have stood for the grace.
//!
//! Rows may be seen twice at any time (rule 3 makes them one), but never not at all.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::block::{BlockMeta, FORMAT};
use super::read::Blocks;
use crate::clock::Clock;
use crate::error::{Result, bail, is_not_found, store_kind};
use crate::model::{BlockId, HandlerId, Hour, Shard, ShardDir, Table, TraceId};
use crate::store::layout::BlockKey;
use crate::store::{Key, Listing, Object, Prefix, Store};

/// How many footers are fetched at a time: enough to hide a bucket's latency, few enough to be polite.
const FOOTERS_AT_A_TIME: usize = 20;

/// So many folders are listed one by one; the whole table rather than more: a page of it holds many.
const MOST_FOLDERS: usize = 200;

/// How often a listing is begun again because it was too slow or an object on it was gone when its footer was read.
/// A sweep takes away a few blocks an hour, so that even a second time is rare.
const TRIES: usize = 5;

/// A block that was named so long before a listing began may have been written after it: a batch has ten minutes, and
/// clocks differ.
const NAMED_BEFORE: Duration = Duration::from_secs(15 * 60);

/// Which blocks to list.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The table.
    pub table: Table,
    /// Only these hours; all if none.
    pub hours: Option<RangeInclusive<Hour>>,
    /// Only level 0 and these shards; all if none.
    pub shards: Option<Vec<Shard>>,
    /// Of later hours only level 1.
    pub merged_after: Option<Hour>,
    /// Only these parts; all if none.
    pub parts: Option<Parts>,
    /// Leave out hours that one block a shard makes up: nothing there can be merged or hidden. Their footers, most of
    /// a store's, are then not read.
    pub unsettled_only: bool,
    /// The grace that counts: a listing that lasts longer than half of it is begun again. Zero switches that off.
    pub grace: Duration,
}

impl Scope {
    /// The whole table.
    pub fn all(table: Table, grace: Duration) -> Self {
        Self { table, hours: None, shards: None, merged_after: None, parts: None, unsettled_only: false, grace }
    }

    /// Where the spans of `trace` can be: level 0, and one shard for every count of shards that ever counted.
    pub fn of_trace(trace: TraceId, counts: impl IntoIterator<Item = u16>, grace: Duration) -> Self {
        let shards = counts.into_iter().map(|count| Shard::of_trace(trace, count));
        Self::all(Table::Spans, grace).of_shards(shards)
    }

    /// Where the entries of `handler` can be: level 0, and one shard for every count of shards that ever counted.
    pub fn of_handler(handler: &HandlerId, counts: impl IntoIterator<Item = u16>, grace: Duration) -> Self {
        let shards = counts.into_iter().map(|count| Shard::of_handler(handler, count));
        Self::all(Table::Entries, grace).of_shards(shards)
    }

    /// Only level 0 and `shards`.
    pub fn of_shards(mut self, shards: impl IntoIterator<Item = Shard>) -> Self {
        let shards: BTreeSet<Shard> = shards.into_iter().collect();
        self.shards = Some(shards.into_iter().collect());
        self
    }

    /// Only the blocks of `hours`.
    pub fn within(mut self, hours: RangeInclusive<Hour>) -> Self {
        self.hours = Some(hours);
        self
    }

    /// Of the hours after `hour` only what has been merged. Of level 0 a large farm has more blocks than of all else.
    pub fn merged_after(mut self, hour: Hour) -> Self {
        self.merged_after = Some(hour);
        self
    }

    /// Only the blocks of `parts`.
    pub fn of_parts(mut self, parts: Parts) -> Self {
        self.parts = Some(parts);
        self
    }

    /// Only hours in which something can be merged or hidden.
    pub fn unsettled(mut self) -> Self {
        self.unsettled_only = true;
        self
    }

    fn holds(&self, key: &BlockKey) -> bool {
        let in_shards = match (key.dir, &self.shards) {
            (ShardDir::One(shard), Some(shards)) => shards.contains(&shard),
            _ => true,
        };
        key.table == self.table
            && in_shards
            && self.merged_after.is_none_or(|hour| key.dir != ShardDir::All || key.hour <= hour)
            && self.hours.as_ref().is_none_or(|hours| hours.contains(&key.hour))
    }
}

/// Some shards of some hours: those that one of several workers merges.
#[derive(Clone)]
pub struct Parts {
    /// How many shards an hour has.
    pub shards: Arc<dyn Fn(Hour) -> u16 + Send + Sync>,
    /// Which of them, in level 1.
    pub holds: Arc<dyn Fn(Hour, Shard) -> bool + Send + Sync>,
    /// What was written to level 0 is told apart by the time in which it was.
    pub slot: fn(Timestamp) -> i64,
    /// Whether of an hour's blocks of level 0 those of a slot are wanted, because of a shard. Their level 1 is listed, too.
    pub takes: Arc<dyn Fn(Hour, i64, Shard) -> bool + Send + Sync>,
    /// Level 1 is listed only of these hours and of those that have something in level 0, each shard for itself; none:
    /// the whole table, in which any hour may turn out to have something to merge.
    pub near: Option<RangeInclusive<Hour>>,
}

impl Parts {
    fn of(&self, hour: Hour, holds: impl Fn(Shard) -> bool) -> impl Iterator<Item = Shard> {
        Shard::all((self.shards)(hour)).filter(move |shard| holds(*shard))
    }

    /// Of hours and slots of level 0 those that are wanted, and for which shards.
    fn taken(&self, level0: &[(BlockKey, Object)]) -> HashMap<(Hour, i64), Vec<Shard>> {
        let mut taken: HashMap<(Hour, i64), Vec<Shard>> = HashMap::new();
        for (key, object) in level0 {
            let (hour, slot) = (key.hour, (self.slot)(object.modified));
            let wanted = || self.of(hour, |shard| (self.takes)(hour, slot, shard)).collect();
            taken.entry((hour, slot)).or_insert_with(wanted);
        }
        taken.retain(|_, shards| !shards.is_empty());
        taken
    }

    /// The folders of level 1 in which something of these parts can be, if that is `taken` of level 0; none if the whole
    /// table is to be listed.
    fn folders(&self, table: Table, taken: &HashMap<(Hour, i64), Vec<Shard>>) -> Option<Vec<Prefix>> {
        let near = self.near.as_ref()?;
        let hours = (near.start().number()..=near.end().number()).map(Hour::from_number);
        let near = hours.flat_map(|hour| self.of(hour, move |shard| (self.holds)(hour, shard)).map(move |s| (hour, s)));
        let with_level0 = taken.iter().flat_map(|((hour, _), shards)| shards.iter().map(|shard| (*hour, *shard)));
        let folders: BTreeSet<(Hour, Shard)> = near.chain(with_level0).collect();
        let folder = |(hour, shard)| Prefix::Hour(table, ShardDir::One(shard), hour);
        (folders.len() <= MOST_FOLDERS).then(|| folders.into_iter().map(folder).collect())
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("near", &self.near).finish_non_exhaustive()
    }
}

/// A listed block with its footer.
#[derive(Clone, Debug)]
pub struct Block {
    /// Where it lies.
    pub key: BlockKey,
    /// Its listed size.
    pub size_bytes: u64,
    /// When it was written, by the store's clock.
    pub modified: Timestamp,
    /// Its footer.
    pub meta: Arc<BlockMeta>,
}

impl Block {
    /// Its name.
    pub fn id(&self) -> BlockId {
        self.key.block
    }

    /// Whether it is as indexed, every shard in one.
    pub fn is_level0(&self) -> bool {
        self.key.dir == ShardDir::All
    }

    /// The shards it has rows of: the footer's in level 0, its folder's in level 1.
    pub fn shards(&self) -> &[Shard] {
        &self.meta.shards
    }

    /// Whether a newer program wrote it: its hour is left alone.
    pub fn is_newer_than_us(&self) -> bool {
        self.meta.format > FORMAT || self.meta.rules > crate::handler::RULES
    }
}

/// A listed block that cannot be used.
#[derive(Clone, Debug)]
pub struct Damaged {
    /// Where it lies.
    pub key: BlockKey,
    /// Its listed size.
    pub size_bytes: u64,
    /// When it was written.
    pub modified: Timestamp,
    /// What is wrong, for a person.
    pub why: String,
    /// Whether it has been reported already, in `quarantine/blocks/`.
    pub marked: bool,
}

/// A listing of blocks, level 0 before level 1, with their footers.
#[derive(Clone, Debug)]
pub struct View {
    /// A time, by the store's clock, at or before the moment at which the listing began.
    pub began: Timestamp,
    /// Every listed block that can be used, in key order: level 1 by shard, hour and name, then level 0.
    pub blocks: Vec<Block>,
    /// Blocks whose footers cannot be read, and those marked in `quarantine/blocks/`. They hide nothing.
    pub damaged: Vec<Damaged>,
    /// Names under the table's prefix that are none of ours: reported and left alone.
    pub foreign: Vec<String>,
    /// Blocks of level 0 that are listed, and no part of the scope.
    pub elsewhere: HashSet<BlockId>,
}

impl View {
    /// Lists the blocks of `scope` and reads their footers (those that `blocks` does not know yet, 20 at a time).
    ///
    /// # Errors
    /// Those of the store; and when listings of the scope keep lasting longer than half the grace, or blocks keep going
    /// away while their footers are read, five times in a row.
    pub async fn list(blocks: &Blocks, store: &Store, clock: &Clock, scope: &Scope) -> Result<Self> {
        for _ in 0..TRIES {
            let started = clock.monotonic();
            let listed = Listed::take(store, scope).await?;
            // What was taken first may have been replaced *and* removed before the last page was taken: then the rows
            // are on neither. An output stands for the grace before its inputs go, so half of it is soon enough.
            if !scope.grace.is_zero() && clock.monotonic() - started > scope.grace / 2 {
                continue;
            }
            // Rule 4: an object on the list that is gone was replaced in the meantime. List again.
            if let Some(view) = listed.with_footers(blocks).await? {
                return Ok(view);
            }
        }
        bail!("{} blocks keep changing while they are listed, or listings last longer than half the grace", scope.table)
    }

    /// The blocks that count for `shard`: all that have rows of it and are not replaced for it by an output that was
    /// written before the listing began. In key order.
    pub fn visible(&self, shard: Shard) -> Vec<&Block> {
        let replaced = self.replaced(|output| self.stood_before(output));
        self.of_shard(shard, &replaced)
    }

    /// [`View::visible`] for every shard: which block counts for which shard. A level-0 block that has been merged for
    /// some of its shards counts for the others only.
    pub fn visible_parts(&self) -> Vec<(Shard, &Block)> {
        self.parts(&self.replaced(|output| self.stood_before(output)))
    }

    /// What a planner of merges looks at: the blocks of `shard` that no listed output replaces, however new it is.
    pub fn pending(&self, shard: Shard) -> Vec<&Block> {
        self.of_shard(shard, &self.replaced(|_| true))
    }

    /// [`View::pending`] for every shard.
    pub fn pending_parts(&self) -> Vec<(Shard, &Block)> {
        self.parts(&self.replaced(|_| true))
    }

    /// Every shard of which a block has rows, in order.
    pub fn shards(&self) -> BTreeSet<Shard> {
        self.blocks.iter().flat_map(|block| block.shards().iter().copied()).collect()
    }

    /// Every hour with a block, damaged ones included, in order.
    pub fn hours(&self) -> BTreeSet<Hour> {
        let hours = self.blocks.iter().map(|block| block.key.hour);
        hours.chain(self.damaged.iter().map(|damaged| damaged.key.hour)).collect()
    }

    /// The same listing, only the blocks of `hours`.
    pub fn within(&self, hours: &RangeInclusive<Hour>) -> Self {
        Self {
            began: self.began,
            blocks: self.blocks.iter().filter(|block| hours.contains(&block.key.hour)).cloned().collect(),
            damaged: self.damaged.iter().filter(|damaged| hours.contains(&damaged.key.hour)).cloned().collect(),
            foreign: Vec::new(),
            elsewhere: self.elsewhere.clone(),
        }
    }

    /// Hours with a block that a newer program wrote: this one leaves them alone.
    pub fn newer_hours(&self) -> BTreeSet<Hour> {
        self.blocks.iter().filter(|block| block.is_newer_than_us()).map(|block| block.key.hour).collect()
    }

    /// The blocks that may be deleted at `now` (the store's): for every shard that a block has rows of, an output that
    /// has stood for the `grace` names it. Safe on any listing, also a partial one: an output that is not on it covers
    /// nothing, and one that is on it was durable.
    pub fn deletable(&self, now: Timestamp, grace: Duration) -> Vec<&Block> {
        let replaced = self.replaced(|output| has_stood(output.modified, now, grace));
        let covered = |block: &&Block| {
            // `all` of no shards would be true: a block that names none has not been replaced by anything.
            !block.shards().is_empty() && block.shards().iter().all(|shard| replaced.holds(*shard, block.id()))
        };
        self.blocks.iter().filter(covered).collect()
    }

    /// The shards of `block` for which a listed output replaces it.
    pub fn replaced_for(&self, block: &Block) -> Vec<Shard> {
        let replaced = self.replaced(|_| true);
        block.shards().iter().copied().filter(|shard| replaced.holds(*shard, block.id())).collect()
    }

    /// What the last file of a merge of `inputs` must say that it replaces: the inputs, and every name on their own
    /// lists that is still listed, or so new that it may be. Without those, a level-0 block that an input had replaced,
    /// and that waits for its other shards, would come back for this shard when the input goes.
    pub fn merged_from(&self, inputs: &[&Block]) -> Vec<BlockId> {
        let listed: HashSet<BlockId> = self.blocks.iter().map(Block::id).collect();
        // A block that cannot be read now may be readable again: it is still listed, and stays replaced.
        let damaged: HashSet<BlockId> = self.damaged.iter().map(|damaged| damaged.key.block).collect();
        let inherited = inputs.iter().flat_map(|input| &input.meta.merged_from).copied();
        // What came while this was being listed, and was merged by somebody at once, may be on no list.
        let came = self.began.saturating_sub(NAMED_BEFORE).unwrap_or(Timestamp::MIN);
        let is_there = |name: &BlockId| {
            listed.contains(name) || damaged.contains(name) || self.elsewhere.contains(name) || name.made() >= came
        };
        let still_there = inherited.filter(is_there);
        let names: BTreeSet<BlockId> = inputs.iter().map(|input| input.id()).chain(still_there).collect();
        names.into_iter().collect()
    }

    /// Whether an output was certainly durable when the first page was taken. Last-modified times may be cut to
    /// seconds, so a tie in seconds is not before.
    fn stood_before(&self, output: &Block) -> bool {
        output.modified.as_second() < self.began.as_second()
    }

    fn of_shard(&self, shard: Shard, replaced: &Replaced) -> Vec<&Block> {
        let counts = |block: &&Block| block.shards().contains(&shard) && !replaced.holds(shard, block.id());
        self.blocks.iter().filter(counts).collect()
    }

    fn parts(&self, replaced: &Replaced) -> Vec<(Shard, &Block)> {
        let parts = self.blocks.iter().flat_map(|block| block.shards().iter().map(move |shard| (*shard, block)));
        parts.filter(|(shard, block)| !replaced.holds(*shard, block.id())).collect()
    }

    /// What the outputs that are `believed` replace. An output speaks for its own shard only.
    fn replaced(&self, believed: impl Fn(&Block) -> bool) -> Replaced {
        let mut names: HashMap<Shard, HashSet<BlockId>> = HashMap::new();
        for output in self.blocks.iter().filter(|block| believed(block)) {
            if let ShardDir::One(shard) = output.key.dir
                && !output.meta.merged_from.is_empty()
            {
                names.entry(shard).or_default().extend(&output.meta.merged_from);
            }
        }
        Replaced(names)
    }
}

/// Whether these blocks of one shard and hour are one sorted run: one file, or the last file of a merge and its
/// siblings. Then there is nothing to merge.
pub fn is_one_run(blocks: &[&Block]) -> bool {
    if blocks.iter().any(|block| block.is_level0()) {
        return false;
    }
    let names: HashSet<BlockId> = blocks.iter().map(|block| block.id()).collect();
    let is_last = |block: &&Block| {
        let siblings = &block.meta.siblings;
        siblings.len() + 1 == names.len() && siblings.iter().all(|name| names.contains(name))
    };
    blocks.len() < 2 || blocks.iter().any(is_last)
}

/// Blocks of one shard and hour as sorted runs: the last file of a merge together with its siblings is one, a file whose
/// merge died is one alone, and so is each block of level 0.
pub fn runs<'a>(blocks: &[&'a Block]) -> Vec<Vec<&'a Block>> {
    let by_name: HashMap<BlockId, &'a Block> = blocks.iter().map(|block| (block.id(), *block)).collect();
    let mut taken = HashSet::new();
    let mut runs = Vec::new();
    for last in blocks.iter().filter(|block| !block.meta.siblings.is_empty()) {
        let siblings = last.meta.siblings.iter().filter_map(|name| by_name.get(name).copied());
        let run: Vec<&Block> = siblings.chain([*last]).collect();
        if run.len() == last.meta.siblings.len() + 1 && run.iter().all(|block| !taken.contains(&block.id())) {
            taken.extend(run.iter().map(|block| block.id()));
            runs.push(run);
        }
    }
    runs.extend(blocks.iter().filter(|block| !taken.contains(&block.id())).map(|block| vec![*block]));
    runs
}

/// Whether something written at `modified` has stood for the `grace` at `now`, both by the store's clock. With a grace
/// of zero everything has.
pub fn has_stood(modified: Timestamp, now: Timestamp, grace: Duration) -> bool {
    grace.is_zero()
        || now.duration_since(modified) >= jiff::SignedDuration::try_from(grace).unwrap_or(jiff::SignedDuration::MAX)
}

/// Names that outputs replace, by the shard for which they do.
struct Replaced(HashMap<Shard, HashSet<BlockId>>);

impl Replaced {
    fn holds(&self, shard: Shard, block: BlockId) -> bool {
        self.0.get(&shard).is_some_and(|names| names.contains(&block))
    }
}

/// What the listings said, before the footers are read.
struct Listed {
    began: Timestamp,
    blocks: Vec<(BlockKey, Object)>,
    marked: HashSet<BlockId>,
    foreign: Vec<String>,
    elsewhere: HashSet<BlockId>,
}

impl Listed {
    async fn take(store: &Store, scope: &Scope) -> Result<Self> {
        let table = scope.table;
        // Level 0 first. Rows move from level 0 to level 1 and never back: what leaves level 0 after this line is in a
        // level-1 block that was written before, and so on a listing that begins later.
        let level0 = store.list(&Prefix::Shard(table, ShardDir::All)).await?;
        let began = level0.began;
        let (foreign, of_level0) = (level0.foreign, level0.objects.into_iter().filter_map(of_block));
        let mut of_level0: Vec<(BlockKey, Object)> = of_level0.filter(|(key, _)| scope.holds(key)).collect();
        let taken = scope.parts.as_ref().map(|parts| (parts, parts.taken(&of_level0)));
        let mut elsewhere = HashSet::new();
        if let Some((parts, taken)) = &taken {
            let others = |(key, object): &mut (BlockKey, Object)| {
                !taken.contains_key(&(key.hour, (parts.slot)(object.modified)))
            };
            elsewhere.extend(of_level0.extract_if(.., others).map(|(key, _)| key.block));
        }
        let folders = match (&scope.shards, &taken) {
            (Some(shards), _) => shards.iter().map(|shard| Prefix::Shard(table, ShardDir::One(*shard))).collect(),
            (None, Some((parts, taken))) => parts.folders(table, taken).unwrap_or_else(|| vec![Prefix::Table(table)]),
            (None, None) => vec![Prefix::Table(table)],
        };
        // Level 1 counts for what is merged there, and for what is merged there from level 0.
        let of_parts = taken.as_ref().map(|(parts, taken)| {
            let from_level0 = taken.iter().flat_map(|((hour, _), shards)| shards.iter().map(|shard| (*hour, *shard)));
            (parts, from_level0.collect::<HashSet<_>>())
        });
        let of_parts = |hour: Hour, shard: Shard| {
            of_parts
                .as_ref()
                .is_none_or(|(parts, from_level0)| (parts.holds)(hour, shard) || from_level0.contains(&(hour, shard)))
        };
        let level1 = stream::iter(folders).map(|folder| {
            let store = store.clone();
            async move { store.list(&folder).await }
        });
        let level1: Vec<Listing> = level1.buffered(FOOTERS_AT_A_TIME).try_collect().await?;
        let marked = store.list(&Prefix::BadBlocks).await?.objects.into_iter();
        let marked = marked.filter_map(|object| if let Key::BadBlock(block) = object.key { Some(block) } else { None });
        let mut listed = Self { began, blocks: Vec::new(), marked: marked.collect(), foreign, elsewhere };
        for listing in level1 {
            listed.foreign.extend(listing.foreign);
            let wanted = |(key, _): &(BlockKey, Object)| match key.dir {
                // The whole table's listing has level 0 once more, from too late.
                ShardDir::All => false,
                ShardDir::One(shard) => scope.holds(key) && of_parts(key.hour, shard),
            };
            listed.blocks.extend(listing.objects.into_iter().filter_map(of_block).filter(wanted));
        }
        listed.blocks.append(&mut of_level0);
        listed.foreign.sort_unstable();
        listed.foreign.dedup();
        if scope.unsettled_only {
            listed.drop_settled();
        }
        Ok(listed)
    }

    /// Leaves out the hours in which no shard has more than one block and nothing is level 0.
    fn drop_settled(&mut self) {
        let unsettled = unsettled(self.blocks.iter().map(|(key, _)| key));
        self.blocks.retain(|(key, _)| unsettled.contains(&key.hour));
    }

    /// The view, or none if a listed block is gone.
    async fn with_footers(self, blocks: &Blocks) -> Result<Option<View>> {
        let marked = self.marked;
        let footers = stream::iter(self.blocks).map(|(key, object)| {
            let blocks = blocks.clone();
            let marked = marked.contains(&key.block);
            async move {
                let Object { size_bytes, modified, .. } = object;
                let damaged = |why: String| Damaged { key, size_bytes, modified, why, marked };
                if marked {
                    return Ok(Err(damaged("marked in quarantine/blocks/".to_owned())));
                }
                match blocks.meta(&key, size_bytes).await {
                    Ok(meta) if speaks_for(&key, &meta) => Ok(Ok(Block { key, size_bytes, modified, meta })),
                    Ok(_) => Ok(Err(damaged("its footer names other shards than its folder".to_owned()))),
                    // The store answered, but not with a footer.
                    Err(report) if store_kind(&report).is_none() => Ok(Err(damaged(report.to_string()))),
                    Err(report) => Err(report.context(format!("read the footer of {}", Key::Block(key).path()))),
                }
            }
        });
        let read: Result<Vec<_>, _> = footers.buffered(FOOTERS_AT_A_TIME).try_collect().await;
        let read = match read {
            Ok(read) => read,
            Err(report) => {
                let report = report.into_dynamic();
                return if is_not_found(&report) { Ok(None) } else { Err(report) };
            }
        };
        let mut view = View {
            began: self.began,
            blocks: Vec::new(),
            damaged: Vec::new(),
            foreign: self.foreign,
            elsewhere: self.elsewhere,
        };
        for block in read {
            match block {
                Ok(block) => view.blocks.push(block),
                Err(damaged) => view.damaged.push(damaged),
            }
        }
        Ok(Some(view))
    }
}

fn of_block(object: Object) -> Option<(BlockKey, Object)> {
    if let Key::Block(key) = object.key { Some((key, object)) } else { None }
}

/// The hours in which a shard has more than one block, or something is level 0.
pub(crate) fn unsettled<'k>(blocks: impl IntoIterator<Item = &'k BlockKey>) -> HashSet<Hour> {
    let mut seen = HashSet::new();
    let is_unsettled = |key: &&BlockKey| key.dir == ShardDir::All || !seen.insert((key.hour, key.dir));
    blocks.into_iter().filter(is_unsettled).map(|key| key.hour).collect()
}

/// A level-1 block has rows of its folder's shard alone: if its footer says otherwise, it is not where it was written.
fn speaks_for(key: &BlockKey, meta: &BlockMeta) -> bool {
    match key.dir {
        ShardDir::All => true,
        ShardDir::One(shard) => meta.shards == [shard],
    }
}

#[cfg(test)]
mod tests;
