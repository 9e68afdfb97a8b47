//! The store that is made up: an inbox of objects and two tables of blocks, names and sizes only.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use jiff::Timestamp;
use ulid::Ulid;

use super::{INBOX_BYTES, Scenario};
use crate::handler::RULES;
use crate::model::{BlockId, Hour, Shard, ShardDir, Table};
use crate::stage::compact::FILE_BYTES;
use crate::store::layout::BlockKey;
use crate::table::block::{BlockMeta, FORMAT};
use crate::table::view::{Block, View};

/// How many objects a page of a listing has.
const PAGE: f64 = 1000.0;

/// Bytes of a row, by table: as indexed, and merged. `tests.rs` measures them on the samples, as one block of
/// 25,087 spans and one of their 4,373 entries.
pub(super) const ROW_BYTES: [[f64; 2]; 2] = [[37.2, 30.3], [29.6, 47.0]];

/// Of a farm in the middle of its life the blocks of so many hours can be seen one by one; those before are only counted.
const HOURS_SEEN: i32 = 4;

/// How old spans are when they are written to the inbox, at most, in seconds: requests of a few seconds, and batches of
/// collectors.
const OLDEST: u64 = 15;

/// Objects and blocks.
pub(super) struct World {
    scenario: Rc<Scenario>,
    /// Seconds since 1970.
    pub second: u64,
    /// When each object was written; in key order, which is that of time.
    pub inbox: Vec<u64>,
    tables: [Rc<View>; 2],
    /// How many hours of each shard, before the first that can be seen, have been merged long ago.
    hours_counted: i32,
    /// How many blocks have been written.
    pub named: u64,
    /// What the collectors have written, in objects.
    collected: f64,
}

impl World {
    pub fn new(scenario: Rc<Scenario>, second: u64, grown: bool) -> Self {
        let empty = || View {
            began: time(second),
            blocks: Vec::new(),
            damaged: Vec::new(),
            foreign: Vec::new(),
            elsewhere: HashSet::new(),
        };
        // The first object comes with the first second: workers fall into one rhythm or another by what they find first.
        let collected = 1.0 + 1e-9 - (scenario.objects_per_second / scenario.gang()).min(1.0);
        let hours = (scenario.settings.keep_for.last().0.as_secs() / 3600) as i32;
        let mut world = Self {
            second,
            inbox: Vec::new(),
            tables: [empty(), empty()].map(Rc::new),
            hours_counted: if grown { (hours - HOURS_SEEN).max(0) } else { 0 },
            named: 0,
            collected,
            scenario: scenario.clone(),
        };
        let now = hour_of(second as f64);
        for before in (1..=if grown { HOURS_SEEN } else { 0 }).rev() {
            let hour = now.plus(-before);
            world.second = (hour.end().as_second() + 1800) as u64;
            for (table, shard) in
                Table::BOTH.into_iter().flat_map(|t| Shard::all(scenario.played_shards().0).map(move |s| (t, s)))
            {
                world.write_level1(table, shard, hour, world.hour_rows(table), Vec::new());
            }
        }
        world.second = second;
        world
    }

    pub fn now(&self) -> Timestamp {
        time(self.second)
    }

    /// The next second, and what collectors write in it.
    pub fn tick(&mut self) {
        self.second += 1;
        let before = self.collected.floor();
        self.collected += self.scenario.objects_per_second / self.scenario.gang();
        let objects = (self.collected.floor() - before) as usize;
        self.inbox.extend(std::iter::repeat_n(self.second, objects));
    }

    pub fn object_bytes(&self) -> u64 {
        (self.scenario.object_rows() * INBOX_BYTES).max(1.0) as u64
    }

    /// Rows of an hour in a shard.
    fn hour_rows(&self, table: Table) -> f64 {
        3600.0 * self.scenario.rows_per_second(table) / f64::from(self.scenario.shards())
    }

    /// The blocks that are only counted: how many, bytes and rows of each.
    pub fn counted(&self, table: Table) -> (f64, f64, f64) {
        let (bytes, rows) = (self.hour_rows(table) * ROW_BYTES[table as usize][1], self.hour_rows(table));
        let files = (bytes / FILE_BYTES as f64).ceil().max(1.0);
        (f64::from(self.hours_counted) * f64::from(self.scenario.shards()) * files, bytes / files, rows / files)
    }

    /// How many real blocks one stands for: of level 0 those of a gang of workers, of level 1 those of some shards.
    pub fn stands_for(&self, block: &Block) -> f64 {
        if block.is_level0() { self.scenario.gang() } else { self.scenario.played_shards().1 }
    }

    /// Bytes and blocks of a table.
    pub fn stored(&self, table: Table) -> (f64, f64) {
        let (counted, bytes, _) = self.counted(table);
        self.tables[table as usize].blocks.iter().fold((counted * bytes, counted), |(bytes, blocks), block| {
            let many = self.stands_for(block);
            (bytes + many * block.size_bytes as f64, blocks + many)
        })
    }

    /// Blocks of level 0.
    pub fn level0(&self, table: Table) -> f64 {
        self.view(table).blocks.iter().filter(|block| block.is_level0()).count() as f64 * self.scenario.gang()
    }

    /// How many pages a listing of so many objects has.
    pub fn pages(objects: f64) -> f64 {
        (objects / PAGE).ceil().max(1.0)
    }

    /// What a listing shows that begins now.
    pub fn view(&self, table: Table) -> &Rc<View> {
        &self.tables[table as usize]
    }

    /// Listings begin now.
    pub fn list(&mut self) {
        let now = self.now();
        self.tables.iter_mut().for_each(|view| Rc::make_mut(view).began = now);
    }

    /// Writes a block as indexed, of objects that were written from the one second to the other.
    pub fn write_level0(&mut self, table: Table, hour: Hour, rows: f64, (first, last): (u64, u64)) {
        let bytes = (rows * ROW_BYTES[table as usize][0]).max(1.0) as u64;
        // Exporters name the objects of a minute by chance, so that any worker may have any of them.
        let nanoseconds = |second: u64| time(second).as_nanosecond() as i64;
        let times = (nanoseconds(first / 60 * 60 - OLDEST), nanoseconds((last / 60 + 1) * 60));
        let shards = Shard::all(self.scenario.played_shards().0).collect();
        self.insert(table, ShardDir::All, hour, bytes, BlockMeta { times: Some(times), ..meta(shards, rows) });
    }

    /// Writes the files of a merge.
    pub fn write_level1(&mut self, table: Table, shard: Shard, hour: Hour, rows: f64, merged_from: Vec<BlockId>) {
        let bytes = merged_bytes(table, rows);
        let files = bytes.div_ceil(FILE_BYTES).max(1);
        let mut siblings = Vec::new();
        for file in 1..=files {
            let (merged_from, others) =
                if file == files { (merged_from.clone(), siblings.clone()) } else { Default::default() };
            let meta = meta(vec![shard], rows / files as f64);
            let meta = BlockMeta { merged_from, siblings: others, ..meta };
            siblings.push(self.insert(table, ShardDir::One(shard), hour, bytes / files, meta));
        }
    }

    fn insert(&mut self, table: Table, dir: ShardDir, hour: Hour, size_bytes: u64, meta: BlockMeta) -> BlockId {
        self.named += 1;
        let block = BlockId::new(Ulid::from_parts(self.second * 1000, u128::from(self.named)));
        let key = BlockKey { table, dir, hour, block };
        let block = Block { key, size_bytes, modified: self.now(), meta: Arc::new(meta) };
        Rc::make_mut(&mut self.tables[table as usize]).blocks.push(block);
        key.block
    }

    pub fn delete(&mut self, table: Table, gone: &HashSet<BlockId>) {
        Rc::make_mut(&mut self.tables[table as usize]).blocks.retain(|block| !gone.contains(&block.id()));
    }
}

/// What a footer says of so many rows.
fn meta(shards: Vec<Shard>, rows: f64) -> BlockMeta {
    BlockMeta {
        format: FORMAT,
        rules: RULES,
        rows: rows.round() as u64,
        shards,
        merged_from: Vec::new(),
        siblings: Vec::new(),
        times: None,
    }
}

/// What so many rows take in level 1.
pub(super) fn merged_bytes(table: Table, rows: f64) -> u64 {
    (rows * ROW_BYTES[table as usize][1]).max(1.0) as u64
}

/// A second as a time.
pub(super) fn time(second: u64) -> Timestamp {
    // Fits: seconds of this century.
    Timestamp::from_second(second as i64).unwrap_or(Timestamp::MIN)
}

/// The hour of a second.
pub(super) fn hour_of(second: f64) -> Hour {
    Hour::of_ns((second * 1e9) as i64)
}
