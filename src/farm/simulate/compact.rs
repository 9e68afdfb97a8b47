//! level 0 → level 1, played.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use super::MERGED_A_CPU_SECOND;
use super::farm::{Coming, Farm};
use super::world::{ROW_BYTES, World, merged_bytes};
use crate::farm::slice;
use crate::farm::worker::HOURLY;
use crate::model::{BlockId, Hour, Shard, ShardDir, Table};
use crate::stage::CLOCKS_DIFFER;
use crate::stage::compact::{self, FILE_BYTES, Merge};
use crate::store::Request::{Delete, Get, Head, List, Part, Put};
use crate::store::Stage;
use crate::store::upload::PART_BYTES;
use crate::table::block::BlockMeta;
use crate::table::merge::input::{BATCH_LEAST_ROWS, ROW_BYTES as BATCH_ROW_BYTES};
use crate::table::merge::{self, share::fitting};
use crate::table::view::{Block, View, unsettled};
use crate::table::write::{GROUP_LEAST_ROWS, GROUP_ROWS, PAGE_LEAST_ROWS, PAGE_ROWS};

/// A row group's columns in a footer with its page index, in memory: `tests.rs` measures it on the samples, and that a footer
/// is as small as [`guess_bytes`](crate::table::footer) takes it to be, so that it takes one request.
pub(super) const GROUP_MEMORY_BYTES: f64 = 42_000.0;

/// Bytes of a row unpacked, by table, of either level: likewise.
pub(super) const UNPACKED_BYTES: [f64; 2] = [211.9, 33.5];

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

    /// How likely the page index of a block is to be read, that is so likely needed. That of level 0 comes with its footer.
    pub fn reads_index(&mut self, block: &Block, needed: f64) -> f64 {
        if block.is_level0() {
            return 0.0;
        }
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

/// What a merge reads of a block.
#[derive(Clone, Copy)]
struct Run {
    rows: f64,
    /// Bytes of a row, as stored and unpacked.
    row_bytes: [f64; 2],
    page_rows: f64,
    group_rows: f64,
    level0: bool,
}

impl Run {
    fn of(table: Table, rows: f64, level0: bool) -> Self {
        let level = usize::from(!level0);
        let row_bytes = [ROW_BYTES[table as usize][level], UNPACKED_BYTES[table as usize]];
        let page_rows = if level0 { rows.clamp(PAGE_LEAST_ROWS as f64, PAGE_ROWS as f64) } else { PAGE_ROWS as f64 };
        let group_rows = if level0 { GROUP_LEAST_ROWS } else { GROUP_ROWS } as f64;
        Self { rows, row_bytes, page_rows: page_rows.min(rows), group_rows, level0 }
    }

    /// As [`merge::share`] reckons.
    fn always(&self) -> usize {
        let groups = (self.rows / self.group_rows).ceil();
        merge::INPUT_BYTES + (groups * GROUP_MEMORY_BYTES + self.page_rows * self.row_bytes[1]) as usize
    }

    fn at_least(&self) -> usize {
        let batch = (BATCH_LEAST_ROWS as f64).min(self.rows) * (self.row_bytes[1] + BATCH_ROW_BYTES as f64);
        (self.page_rows * self.row_bytes[0] + batch) as usize
    }

    /// How many times bytes are asked for, so many at a time: a window of pages is one request.
    fn windows(&self, memory_bytes: f64) -> f64 {
        let window = (memory_bytes / 2.0 / self.row_bytes[0]).max(self.page_rows).max(1.0);
        (self.rows / self.group_rows).ceil() * (self.group_rows.min(self.rows) / window).ceil()
    }
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
        let longest = self.longest(rank);
        let next = plan.next.map_or(u64::MAX, |next| next.as_second() as u64 + CLOCKS_DIFFER.as_secs());
        self.workers[rank].rests.insert(Stage::Compact, next.min(second + longest.as_secs()).max(second + 1));
        // So many merges at a time, as real ones have cores.
        let mut lanes = vec![self.took(asked); self.lanes()];
        let mut merged = false;
        for merge in &plan.merges {
            let Some(lane) = (0..lanes.len()).min_by(|a, b| lanes[*a].total_cmp(&lanes[*b])) else { break };
            // What is left has its turn in a later round.
            if lanes[lane] > compact::ROUND_LASTS.as_secs_f64() {
                self.workers[rank].rests.remove(&Stage::Compact);
                break;
            }
            let inputs = merge.inputs.iter().map(|block| (merge.shard, *block));
            if inputs.clone().all(|input| !self.begun.contains(&input)) {
                self.begun.extend(inputs);
                lanes[lane] += self.merge(rank, merge, lanes[lane]);
                merged = true;
            }
        }
        let seconds = lanes.into_iter().fold(0.0, f64::max);
        (merged || !gone.is_empty(), seconds)
    }

    /// As real ones merge at a time.
    fn lanes(&self) -> usize {
        self.scenario.cores.min(4)
    }

    /// Whether a part of the blocks is this worker's (or what was written to level 0 in a slot), and whether an hour is.
    fn is_dealt(&self, rank: usize, time: i64, shard: Shard) -> bool {
        slice::deal_part(time, shard, self.workers.len()) == rank
    }

    fn is_my_hour(&self, rank: usize, hour: Hour) -> bool {
        let first = Shard::all(self.scenario.played_shards().0).next();
        first.is_some_and(|first| self.is_dealt(rank, hour.number().into(), first))
    }

    /// Whether of a block something is to be merged by this worker.
    fn is_mine(&self, rank: usize, shard: Shard, block: &Block) -> bool {
        let hour = block.key.hour;
        let by_slot = block.is_level0() && self.scenario.instances > 1 && self.world.now() < compact::dealt_until(hour);
        let time = if by_slot { compact::slot_of(block.modified) } else { hour.number().into() };
        self.is_dealt(rank, time, shard)
    }

    /// In how long there may be something that is not on a listing of now.
    fn longest(&self, rank: usize) -> Duration {
        if self.scenario.instances == 1 {
            return compact::plan::OPEN_EVERY;
        }
        let (now, shards) = (self.world.now(), self.scenario.played_shards().0);
        let takes = |slot| Shard::all(shards).any(|shard| self.is_dealt(rank, slot, shard));
        compact::longest(now, takes, |hour| self.is_my_hour(rank, hour))
    }

    /// The parts of the hours that change.
    fn near(&self) -> impl Iterator<Item = (Hour, Shard)> {
        let shards = self.scenario.played_shards().0;
        compact::near_hours(self.world.now()).flat_map(move |hour| Shard::all(shards).map(move |shard| (hour, shard)))
    }

    /// Whether a worker that looks for merges sees a block: of a part that is its own, or in an hour that is; of level 1 also
    /// where it merges what is of level 0.
    fn is_seen(&self, rank: usize, block: &Block, folders: &HashSet<(Hour, Shard)>) -> bool {
        let hour = block.key.hour;
        match block.key.dir {
            _ if self.is_my_hour(rank, hour) => true,
            ShardDir::All => Shard::all(self.scenario.played_shards().0).any(|shard| self.is_mine(rank, shard, block)),
            ShardDir::One(shard) => self.is_mine(rank, shard, block) || folders.contains(&(hour, shard)),
        }
    }

    /// The folders of level 1 that it lists: of its parts of the hours that change, and where it merges what is of level 0.
    fn folders(&self, rank: usize, table: Table) -> HashSet<(Hour, Shard)> {
        let runs = |(hour, shard): &(Hour, Shard)| {
            self.is_my_hour(rank, *hour) || self.is_dealt(rank, hour.number().into(), *shard)
        };
        let level0 = self.world.view(table).blocks.iter().filter(|block| block.is_level0());
        let slots: HashMap<(Hour, i64), &Block> =
            level0.map(|block| ((block.key.hour, compact::slot_of(block.modified)), block)).collect();
        let shards = || Shard::all(self.scenario.played_shards().0);
        let taken = slots.into_values().flat_map(|block| shards().map(move |shard| (block, shard)));
        let taken = taken.filter(|(block, shard)| self.is_mine(rank, *shard, block));
        self.near().filter(runs).chain(taken.map(|(block, shard)| (block.key.hour, shard))).collect()
    }

    fn plan(&self, rank: usize) -> compact::Plan {
        let settings = &self.scenario.settings;
        let (grace, keep_for) = (settings.grace.0, settings.keep_for.clone());
        let facts = compact::Facts { now: self.world.now(), grace, once: false, keep_for, forced: BTreeSet::new() };
        let mut plan = compact::Plan::default();
        for table in Table::BOTH {
            let all = self.world.view(table);
            let folders = self.folders(rank, table);
            let blocks = all.blocks.iter().filter(|block| self.is_seen(rank, block, &folders)).cloned().collect();
            let elsewhere = all.blocks.iter().filter(|block| block.is_level0()).map(Block::id).collect();
            let view = View { began: all.began, blocks, damaged: Vec::new(), foreign: Vec::new(), elsewhere };
            plan.add_some(table, &view, &facts, |shard, block| self.is_mine(rank, shard, block));
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
        let mut runs = Vec::new();
        let mut footers = Vec::new();
        for block in view.blocks.iter().filter(|block| names.contains(&block.id())) {
            let (rows, level0) = (block.meta.rows as f64, block.is_level0());
            let many = if level0 { self.world.stands_for(block) } else { 1.0 };
            let of_shard = if level0 { rows / (block.shards().len() as f64 * each) } else { rows };
            footers.push((
                many,
                GROUP_MEMORY_BYTES * groups(rows, level0.then(|| block.shards().len() as f64 * each)),
                block,
            ));
            runs.extend(std::iter::repeat_n(Run::of(merge.table, of_shard, level0), many.round() as usize));
        }
        // The smallest first.
        runs.sort_by_key(|run| (!run.level0, run.rows as u64));
        let in_memory = footers.iter().map(|(many, bytes, _)| many * bytes).sum();
        for (many, _, block) in footers {
            let known = &mut self.workers[rank].known;
            let read = if known.holds(in_memory) { known.reads_index(block, 1.0) } else { 1.0 };
            self.ask(Stage::Compact, Get, read * many * alike);
        }
        let memory = self.scenario.memory_bytes / self.lanes();
        let room = memory.saturating_sub(merge::OUTPUT_BYTES);
        let mut rows_read = 0.0;
        let mut left = runs.as_slice();
        let mut passed: Vec<Run> = Vec::new();
        loop {
            let count = left.len() + passed.len();
            let fits = fitting(left.iter().chain(&passed).map(|run| run.always() + run.at_least()), room).min(count);
            let taken = if fits == count { count } else { merge::of_pass(fits, count - fits) };
            let now: Vec<Run> = left.iter().chain(&passed).take(taken).copied().collect();
            passed.drain(..taken.saturating_sub(left.len()));
            left = &left[taken.min(left.len())..];
            let always: f64 = now.iter().map(|run| run.always() as f64).sum();
            let each = (room.max(memory / 2) as f64 - always).max(0.0) / taken as f64;
            let windows: f64 = now.iter().map(|run| run.windows(each)).sum();
            let rows = now.iter().map(|run| run.rows).sum::<f64>();
            self.ask(Stage::Compact, Get, windows * alike);
            let bytes = merged_bytes(merge.table, rows);
            rows_read += rows;
            if taken == count {
                self.upload(bytes.min(FILE_BYTES), bytes.div_ceil(FILE_BYTES).max(1) as f64 * alike);
                let took = self.took(asked) + rows_read / MERGED_A_CPU_SECOND;
                let done = Coming::Level1 { merge: merge.clone(), rows };
                self.coming.entry(self.after(seconds + took)).or_default().push(done);
                return self.lasted(Stage::Compact, took);
            }
            // Too many for the memory: some of them first, into a block that stands for them.
            self.upload(bytes, alike);
            // Its footer is read, too.
            self.ask(Stage::Compact, Get, alike);
            passed.push(Run { rows, group_rows: merge::PASS_GROUP_ROWS as f64, ..Run::of(merge.table, rows, false) });
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
        let folders = if merges { self.folders(rank, table) } else { HashSet::new() };
        let level1 = match few {
            true => folders.len() as f64,
            false => World::pages(self.world.stored(table).1),
        };
        let hours = merges.then(|| unsettled(view.blocks.iter().map(|block| &block.key)));
        let is_shown = |block: &&Block| {
            hours.as_ref().is_none_or(|hours| hours.contains(&block.key.hour) && self.is_seen(rank, block, &folders))
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
