//! The store that is made up.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use ulid::Ulid;

use super::Scenario;
use crate::handler::RULES;
use crate::model::{BlockId, Hour, Shard, ShardDir, Table};
use crate::store::layout::BlockKey;
use crate::store::{Key, Object};
use crate::table::block::{BlockMeta, FORMAT};
use crate::table::view::{Block, View, unsettled};

/// How many objects a page of a listing has.
const PAGE: usize = 1000;

/// Objects and blocks.
pub(super) struct World {
    pub scenario: Scenario,
    /// Seconds since 1970.
    pub second: u64,
    /// In key order, which is that of time: collectors name objects by it.
    pub inbox: Vec<Object>,
    /// By table; level 1 before level 0, each by shard, hour and name.
    blocks: [Vec<Block>; 2],
    pub pinned: HashSet<(Hour, Shard)>,
    pub chance: StdRng,
    named: u64,
    views: HashMap<(Table, bool), Rc<View>>,
    /// How many blocks of each table are level 0.
    level0: [usize; 2],
    written: f64,
}

impl World {
    pub fn new(scenario: Scenario, second: u64) -> Self {
        let (blocks, views) = ([Vec::new(), Vec::new()], HashMap::new());
        let (inbox, pinned) = (Vec::new(), HashSet::new());
        let chance = StdRng::seed_from_u64(1);
        // The first object comes with the first second: workers fall into one rhythm or another by what they find first.
        let written = 1.0 + 1e-9 - (scenario.collectors as f64 / scenario.object_seconds).min(1.0);
        Self { scenario, second, inbox, blocks, pinned, chance, named: 0, views, level0: [0; 2], written }
    }

    pub fn now(&self) -> Timestamp {
        // Fits: seconds of this century.
        Timestamp::from_second(self.second as i64).unwrap_or(Timestamp::MIN)
    }

    /// What the collectors write in the next second.
    pub fn collect(&mut self) {
        let a_second = self.scenario.collectors as f64 / self.scenario.object_seconds;
        let before = self.written.floor();
        self.written += a_second;
        let objects = self.written.floor() - before;
        let rows = self.scenario.spans_per_second / a_second;
        let modified = self.now();
        for _ in 0..objects as u64 {
            self.named += 1;
            self.inbox.push(Object {
                key: Key::Inbox(format!("{:012}", self.named)),
                size_bytes: (rows * self.scenario.spans.inbox_bytes).round().max(1.0) as u64,
                modified,
                etag: String::new(),
            });
        }
    }

    /// Spans in an inbox object.
    pub fn rows_of(&self, object: &Object) -> f64 {
        object.size_bytes as f64 / self.scenario.spans.inbox_bytes
    }

    /// How many pages a listing of so many objects has.
    pub fn pages(objects: usize) -> f64 {
        (objects / PAGE + 1) as f64
    }

    /// How many blocks of a table lie in level 0 and 1.
    pub fn counts(&self, table: Table) -> [usize; 2] {
        let level0 = self.level0[table as usize];
        [level0, self.blocks[table as usize].len() - level0]
    }

    pub fn blocks(&self, table: Table) -> &[Block] {
        &self.blocks[table as usize]
    }

    /// What a listing that begins now shows; only the hours where something can be merged, if `unsettled_only`.
    pub fn view(&mut self, table: Table, unsettled_only: bool) -> Rc<View> {
        if let Some(view) = self.views.get(&(table, unsettled_only)) {
            return view.clone();
        }
        let all = &self.blocks[table as usize];
        let hours = unsettled_only.then(|| unsettled(all.iter().map(|block| &block.key)));
        let shown = all.iter().filter(|block| hours.as_ref().is_none_or(|hours| hours.contains(&block.key.hour)));
        let blocks = shown.cloned().collect();
        let view = Rc::new(View { began: self.now(), blocks, damaged: Vec::new(), foreign: Vec::new() });
        self.views.insert((table, unsettled_only), view.clone());
        view
    }

    /// The next second.
    pub fn tick(&mut self) {
        self.second += 1;
        self.views.clear();
        self.collect();
    }

    fn id(&mut self) -> BlockId {
        self.named += 1;
        BlockId::new(Ulid::from_parts(self.second * 1000, u128::from(self.named)))
    }

    /// Writes a block as indexed.
    pub fn write_level0(&mut self, table: Table, hour: Hour, rows: f64, shards: Vec<Shard>) -> u64 {
        let block = self.id();
        let size_bytes = self.bytes(table, 0, rows);
        self.insert(
            BlockKey { table, dir: ShardDir::All, hour, block },
            size_bytes,
            rows,
            shards,
            Vec::new(),
            Vec::new(),
        );
        size_bytes
    }

    /// Writes the files of a merge; their sizes.
    pub fn write_level1(
        &mut self,
        table: Table,
        shard: Shard,
        hour: Hour,
        rows: f64,
        merged_from: Vec<BlockId>,
        file_bytes: u64,
    ) -> Vec<u64> {
        let bytes = self.bytes(table, 1, rows);
        let files = bytes.div_ceil(file_bytes).max(1);
        let names: Vec<BlockId> = (0..files).map(|_| self.id()).collect();
        for (n, block) in names.iter().enumerate() {
            let is_last = n + 1 == names.len();
            let siblings = if is_last { names[..n].to_vec() } else { Vec::new() };
            let from = if is_last { merged_from.clone() } else { Vec::new() };
            let key = BlockKey { table, dir: ShardDir::One(shard), hour, block: *block };
            self.insert(key, bytes / files, rows / files as f64, vec![shard], from, siblings);
        }
        vec![bytes / files; files as usize]
    }

    fn bytes(&self, table: Table, level: usize, rows: f64) -> u64 {
        let spans = &self.scenario.spans;
        let row = match table {
            Table::Spans => spans.block_bytes[level],
            Table::Entries => spans.entry_bytes[level],
        };
        (rows * row).round().max(1.0) as u64
    }

    fn insert(
        &mut self,
        key: BlockKey,
        size_bytes: u64,
        rows: f64,
        shards: Vec<Shard>,
        merged_from: Vec<BlockId>,
        siblings: Vec<BlockId>,
    ) {
        let meta = BlockMeta { format: FORMAT, rules: RULES, rows: rows as u64, shards, merged_from, siblings };
        let block = Block { key, size_bytes, modified: self.now(), meta: Arc::new(meta) };
        self.level0[key.table as usize] += usize::from(block.is_level0());
        self.blocks[key.table as usize].push(block);
    }

    /// An hour of a shard, merged long ago.
    pub fn prefill(&mut self, table: Table, shard: Shard, hour: Hour, rows: f64, file_bytes: u64) {
        let second = self.second;
        self.second = (hour.end().as_second() + 1800) as u64;
        self.write_level1(table, shard, hour, rows, Vec::new(), file_bytes);
        self.second = second;
    }

    pub fn delete(&mut self, table: Table, gone: &HashSet<BlockId>) {
        if gone.is_empty() {
            return;
        }
        let blocks = &mut self.blocks[table as usize];
        blocks.retain(|block| !gone.contains(&block.id()));
        self.level0[table as usize] = blocks.iter().filter(|block| block.is_level0()).count();
    }

    pub fn stored_bytes(&self) -> u64 {
        let inbox: u64 = self.inbox.iter().map(|object| object.size_bytes).sum();
        inbox + self.blocks.iter().flatten().map(|block| block.size_bytes).sum::<u64>()
    }

    /// Which shards some of so many draws fall into.
    pub fn drawn(&mut self, draws: f64) -> Vec<Shard> {
        let count = self.scenario.shards();
        if draws > 5.0 * f64::from(count) * f64::from(count).ln().max(1.0) {
            return Shard::all(count).collect();
        }
        let drawn: HashSet<u16> =
            (0..draws.round().max(1.0) as u64).map(|_| self.chance.random_range(0..count)).collect();
        Shard::all(count).filter(|shard| drawn.contains(&shard.index())).collect()
    }
}

/// About what a footer takes, bytes in the file and in memory: assumptions, of typical tables.
pub(super) struct FooterSize;

impl FooterSize {
    /// A row group's columns in the file.
    const GROUP_BYTES: f64 = 3_400.0;
    /// The words and the schema.
    const BASE_BYTES: f64 = 2_500.0;
    /// A row group's columns in memory.
    const GROUP_MEMORY: f64 = 17_000.0;
    /// Rows of a row group.
    const GROUP_ROWS: f64 = (256 << 10) as f64;

    fn groups(block: &Block) -> f64 {
        (block.meta.rows as f64 / Self::GROUP_ROWS).ceil().max(1.0)
    }

    /// Requests for one.
    pub fn requests(block: &Block) -> f64 {
        // The last 64 KiB of the file, and what is before them.
        if Self::groups(block) * Self::GROUP_BYTES + Self::BASE_BYTES > (64 << 10) as f64 { 2.0 } else { 1.0 }
    }

    /// Bytes of memory of what it says.
    pub fn words(block: &Block) -> usize {
        block.meta.memory_bytes()
    }

    /// Bytes of memory.
    pub fn memory(block: &Block) -> usize {
        let lists = (block.meta.merged_from.len() + block.meta.siblings.len() + block.meta.shards.len()) * 32;
        (Self::groups(block) * Self::GROUP_MEMORY) as usize + lists + 1000
    }
}
