//! level 0 → level 1, played.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::MERGED_A_CPU_SECOND;
use super::farm::{Coming, EARLY, Farm};
use super::world::{World, merged_bytes};
use crate::farm::slice;
use crate::farm::worker::HOURLY;
use crate::model::{BlockId, Hour, Shard, ShardDir, Table};
use crate::stage::compact::{self, FILE_BYTES, Merge};
use crate::store::Request::{Delete, Get, Head, List, Part, Put};
use crate::store::Stage;
use crate::store::layout::BlockKey;
use crate::store::upload::PART_BYTES;
use crate::table::block::BlockMeta;
use crate::table::merge;
use crate::table::view::{Block, View, unsettled};
use crate::table::write::{GROUP_LEAST_ROWS, GROUP_ROWS};

/// A row group's columns in a footer with its page index, in memory: `tests.rs` measures it on the samples, and that a footer
/// is as small as [`guess_bytes`](crate::table::footer) takes it to be, so that it takes one request.
pub(super) const GROUP_MEMORY_BYTES: f64 = 42_000.0;

/// What is read of blocks again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Circle {
    /// What the footers of a table's blocks say: of all, or of those that are dealt to a worker.
    Words(Table, bool),
    /// Digests of calls.
    Calls,
    /// Digests of a shard's handlers.
    Digests(Shard),
}

/// What a worker has read and still knows: [`Blocks`](crate::table::read::Blocks), played. Its caches forget what was used
/// longest ago. Whoever goes through the same things in a circle that does not fit never knows what it needs next: so a
/// cache either holds all of a circle, and only what is new is read, or nothing.
pub(super) struct Known {
    /// Bytes of each cache.
    budget: f64,
    /// Up to when what was written is known: all that there was when the worker began.
    until: HashMap<Circle, u64>,
    began: u64,
    /// How likely it has the page index of a block.
    indexed: HashMap<BlockId, f64>,
}

impl Known {
    /// Of a worker with so much memory, as [`Blocks::new`](crate::table::read::Blocks::new) divides it.
    pub fn new(memory_bytes: usize, began: u64) -> Self {
        Self { budget: (memory_bytes / 8 / 4) as f64, until: HashMap::new(), began, indexed: HashMap::new() }
    }

    /// Since when what was written is to be read of a circle that takes so many bytes: since ever, if it does not fit.
    pub fn read(&mut self, circle: Circle, bytes: f64, now: u64) -> u64 {
        let until = self.until.insert(circle, if self.holds(bytes) { now } else { 0 }).unwrap_or(self.began);
        if self.holds(bytes) { until } else { 0 }
    }

    /// Whether what takes so many bytes stays known.
    pub fn holds(&self, bytes: f64) -> bool {
        bytes <= self.budget
    }

    /// The page index of a block came with the rest of it.
    pub fn has_index(&mut self, block: &Block) {
        self.indexed.insert(block.id(), 1.0);
    }

    /// How likely the page index of a block is to be read, that is so likely needed.
    pub fn reads_index(&mut self, block: &Block, needed: f64) -> f64 {
        let known = self.indexed.entry(block.id()).or_default();
        let reads = needed.min(1.0) * (1.0 - *known);
        *known += reads;
        reads
    }
}

/// Row groups of so many rows: in level 0 one ends with one of the shards that makes it large enough.
pub(super) fn groups(rows: f64, shards: Option<f64>) -> f64 {
    let (least, most) = (GROUP_LEAST_ROWS as f64, GROUP_ROWS as f64);
    let of_group = shards.map_or(most, |shards| {
        let of_shard = (rows / shards).max(1.0);
        ((least / of_shard).ceil() * of_shard).min(most)
    });
    (rows / of_group).ceil().max(1.0)
}

/// What a whole footer takes in memory.
pub(super) fn footer_bytes(rows: f64) -> f64 {
    GROUP_MEMORY_BYTES * groups(rows, None)
}

impl Farm {
    /// Whether something was merged or deleted, and how long it took.
    pub(super) fn compact(&mut self, rank: usize) -> (bool, f64) {
        let (asked, second) = (self.so_far(), self.world.second);
        self.ask(Stage::Compact, List, 1.0);
        for table in Table::BOTH {
            self.list_blocks(rank, Stage::Compact, table);
        }
        if second - self.workers[rank].whole >= HOURLY.as_secs() {
            self.workers[rank].whole = second;
        }
        let plan = self.plan(rank);
        let gone = plan.deleted();
        for table in Table::BOTH.into_iter().filter(|_| !gone.is_empty()) {
            let before = self.world.stored(table).1;
            self.world.delete(table, &gone);
            self.ask(Stage::Compact, Delete, (before - self.world.stored(table).1) / self.scenario.gang());
        }
        let longest = if self.near().any(|(hour, shard)| self.is_dealt(rank, hour, shard)) {
            compact::plan::OPEN_EVERY
        } else {
            compact::ELSEWHERE_EVERY
        };
        let next = plan.next.map_or(u64::MAX, |next| next.as_second() as u64);
        self.workers[rank].rests.insert(Stage::Compact, next.min(second + longest.as_secs()).max(second + 1));
        let lists = self.so_far()[0] - asked[0];
        let (mut seconds, mut merged) = (self.took(asked), false);
        for merge in plan.merges.iter().filter(|merge| self.is_dealt(rank, merge.hour, merge.shard)).collect::<Vec<_>>()
        {
            // What is left has its turn in a later round.
            if seconds > compact::ROUND_LASTS.as_secs_f64() {
                self.workers[rank].rests.remove(&Stage::Compact);
                break;
            }
            if self.begun.insert((merge.table, merge.shard, merge.hour)) {
                seconds += self.merge(rank, merge, seconds);
                merged = true;
            }
        }
        let did = merged || !gone.is_empty();
        self.ask(Stage::Compact, List, if did { EARLY[1] * lists } else { 0.0 });
        (did, seconds)
    }

    /// Whether a part of the blocks is this worker's, and whether an hour is.
    fn is_dealt(&self, rank: usize, hour: Hour, shard: Shard) -> bool {
        let position = i64::from(hour.number()) * i64::from(shard.count()) + i64::from(shard.index());
        slice::deal(position as u64, self.workers.len()) == rank
    }

    fn is_my_hour(&self, rank: usize, hour: Hour) -> bool {
        let first = Shard::all(self.scenario.played_shards().0).next();
        first.is_some_and(|first| self.is_dealt(rank, hour, first))
    }

    /// The parts of the hours that change.
    fn near(&self) -> impl Iterator<Item = (Hour, Shard)> {
        let (open, shards) = (Hour::of(self.world.now()), self.scenario.played_shards().0);
        (-2..=1).flat_map(move |hours| Shard::all(shards).map(move |shard| (open.plus(hours), shard)))
    }

    /// Whether a worker that looks for merges sees a block: of a part that is its own, or in an hour that is.
    fn is_seen(&self, rank: usize, block: &Block) -> bool {
        let is_mine = |shard| self.is_my_hour(rank, block.key.hour) || self.is_dealt(rank, block.key.hour, shard);
        match block.key.dir {
            ShardDir::All => Shard::all(self.scenario.played_shards().0).any(is_mine),
            ShardDir::One(shard) => is_mine(shard),
        }
    }

    fn plan(&self, rank: usize) -> compact::Plan {
        let settings = &self.scenario.settings;
        let (grace, keep_for) = (settings.grace.0, settings.keep_for.clone());
        let facts = compact::Facts { now: self.world.now(), grace, once: false, keep_for, forced: BTreeSet::new() };
        let mut plan = compact::Plan::default();
        for table in Table::BOTH {
            let all = self.world.view(table);
            let blocks = all.blocks.iter().filter(|block| self.is_seen(rank, block)).cloned().collect();
            plan.add(table, &View { began: all.began, blocks, damaged: Vec::new(), foreign: Vec::new() }, &facts);
        }
        plan
    }

    /// One merge that begins in so many `seconds`; how long it takes.
    fn merge(&mut self, rank: usize, merge: &Merge, seconds: f64) -> f64 {
        let asked = self.so_far();
        // It stands for a gang's merges of as many shards.
        let (_, each) = self.scenario.played_shards();
        let alike = each / self.scenario.gang();
        let names: HashSet<BlockId> = merge.inputs.iter().copied().collect();
        let view = self.world.view(merge.table).clone();
        // Rows, bytes and key of each run that is still to be read, in the order in which they are.
        let mut runs: Vec<(f64, f64, (BlockKey, u64))> = Vec::new();
        let mut next = 0;
        for block in view.blocks.iter().filter(|block| names.contains(&block.id())) {
            let many = if block.is_level0() { self.world.stands_for(block) } else { 1.0 };
            let of_shard = if block.is_level0() { 1.0 / (block.shards().len() as f64 * each) } else { 1.0 };
            let run = (block.meta.rows as f64 * of_shard, block.size_bytes as f64 * of_shard);
            let many = many.round() as usize;
            runs.extend(std::iter::repeat_n((run.0, run.1, (block.key, block.size_bytes)), many));
            let index = self.workers[rank].known.reads_index(block, 1.0);
            self.ask(Stage::Compact, Get, index * many as f64 * alike);
        }
        let memory = self.scenario.memory_bytes / self.scenario.cores.min(4);
        let room = memory.saturating_sub(merge::OUTPUT_BYTES);
        let keys = |runs: &[(f64, f64, (BlockKey, u64))]| runs.iter().map(|(.., key)| *key).collect::<Vec<_>>();
        let mut rows_read = 0.0;
        loop {
            // No more can fit than take their least.
            let some = &runs[next..runs.len().min(next + 2_000)];
            let fitting = merge::fitting(&keys(some), room).max(1);
            // A window of pages that fits into half of an input's memory is one request.
            let window = (room.max(memory / 2) / fitting / 2) as f64;
            let now = &runs[next..next + fitting];
            let windows: f64 = now.iter().map(|(_, bytes, _)| (bytes / window).ceil().max(1.0)).sum();
            let (rows, first) = (now.iter().map(|(rows, ..)| rows).sum::<f64>(), now[0].2.0);
            self.ask(Stage::Compact, Get, windows * alike);
            let bytes = merged_bytes(merge.table, rows);
            rows_read += rows;
            next += fitting;
            if next == runs.len() {
                self.upload(bytes.min(FILE_BYTES), bytes.div_ceil(FILE_BYTES).max(1) as f64 * alike);
                let took = self.took(asked) + rows_read / MERGED_A_CPU_SECOND;
                let done = Coming::Level1 { merge: merge.clone(), rows };
                self.coming.entry(self.after(seconds + took)).or_default().push(done);
                return self.lasted(Stage::Compact, took);
            }
            // Too many for the memory: some of them first, into a block that stands for them.
            self.upload(bytes, alike);
            runs.push((rows, bytes as f64, (first, bytes)));
        }
    }

    /// So many files of so many bytes.
    fn upload(&mut self, bytes: u64, files: f64) {
        if bytes < PART_BYTES as u64 {
            self.ask(Stage::Compact, Put, files);
        } else {
            // Begin, parts, end, and a look at what it came to.
            self.ask(Stage::Compact, Part, (bytes.div_ceil(PART_BYTES as u64) + 2) as f64 * files);
            self.ask(Stage::Compact, Head, files);
        }
    }

    /// Lists a table's blocks and reads the footers that are not known: for merges those of the parts that are dealt to
    /// this worker, in hours where something can be merged.
    pub(super) fn list_blocks(&mut self, rank: usize, stage: Stage, table: Table) {
        self.world.list();
        let view = self.world.view(table).clone();
        let merges = stage == Stage::Compact;
        let few =
            merges && self.scenario.instances > 1 && self.world.second - self.workers[rank].whole < HOURLY.as_secs();
        let level1 = match few {
            // A folder for each part.
            true => {
                let is_mine =
                    |(hour, shard): &(Hour, Shard)| self.is_my_hour(rank, *hour) || self.is_dealt(rank, *hour, *shard);
                self.near().filter(is_mine).count() as f64
            }
            false => World::pages(self.world.stored(table).1),
        };
        let hours = merges.then(|| unsettled(view.blocks.iter().map(|block| &block.key)));
        let is_shown = |block: &&Block| {
            hours.as_ref().is_none_or(|hours| hours.contains(&block.key.hour) && self.is_seen(rank, block))
        };
        let shown: Vec<&Block> = view.blocks.iter().filter(is_shown).collect();
        // Of level 1 a gang's workers have a part each.
        let many = |block: &Block| if merges && !block.is_level0() { 1.0 } else { self.world.stands_for(block) };
        let counted = if merges { 0.0 } else { self.world.counted(table).0 };
        let words = shown.iter().map(|block| many(block) * block.meta.memory_bytes() as f64).sum::<f64>();
        let bytes = counted * size_of::<BlockMeta>() as f64 + words;
        let circle = Circle::Words(table, merges && self.scenario.instances > 1);
        let since = self.workers[rank].known.read(circle, bytes, self.world.second);
        let new = shown.iter().filter(|block| block.modified.as_second() as u64 > since);
        let new: f64 = new.map(|block| many(block)).sum();
        let old = if since == 0 { counted } else { 0.0 };
        self.ask(stage, List, World::pages(self.world.level0(table)) + level1 + 1.0);
        self.ask(stage, Get, new + old);
    }
}
