//! The workers' loop, played.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use super::asked::Asked;
use super::handlers::Handler;
use super::pages::Site;
use super::world::{FooterSize, World};
use super::{DAYS_A_MONTH, Projection, Scenario};
use crate::farm::heartbeat::PERIOD;
use crate::farm::slice;
use crate::farm::strikes::AHEAD;
use crate::farm::worker::{HOURLY, LONGEST_PAUSE, LOOK_EVERY, PEERS_EVERY, SETTINGS_EVERY, SHORTEST_PAUSE};
use crate::model::{BlockId, Hour, Shard, Table};
use crate::stage::expire::plan::{self as expire, Covered, EntriesItem, Horizon, Listed};
use crate::stage::publish::plan::publish_every;
use crate::stage::{compact, index};
use crate::store::Request::{self, Delete, Get, Head, List, Part, Put};
use crate::store::upload::PART_BYTES;
use crate::store::{Object, Stage};
use crate::table::lru::Lru;
use crate::table::merge::{LEAST_INPUT_BYTES, OUTPUT_BYTES};
use crate::table::view::Block;

/// How many requests of an item are under way at a time.
const AT_A_TIME: f64 = 20.0;

/// Seconds between the moments at which the workers of a large farm do things.
const GRID: u64 = 5;

/// US dollars a GB and month (S3 Standard in us-east-1; Google's costs 0.020, Azure's about 0.018).
const GB_MONTH_DOLLARS: f64 = 0.023;

/// A farm at work.
pub(super) struct Farm {
    pub world: World,
    pub workers: Vec<Worker>,
    pub handlers: Vec<Handler>,
    pub site: Site,
    /// Requests that wait to be counted while something else is borrowed.
    pub asked_now: Vec<(Stage, Request, &'static str, f64)>,
    /// Who is next, and when.
    turns: BinaryHeap<Reverse<(u64, usize)>>,
    asked: Asked,
    asked_in_all: f64,
    longest: BTreeMap<Stage, f64>,
    backlog: f64,
    /// Weighing the inbox takes long when it has a hundred thousand objects: once for all who list at one moment.
    inbox_slices: (u64, Vec<std::ops::Range<usize>>),
    merges: (u64, Rc<compact::Plan>),
    /// Objects in hand, and blocks that will be written when their batch is done.
    coming: BTreeMap<u64, Vec<Coming>>,
    began: u64,
}

/// What is written when its time has come.
enum Coming {
    Level0 { table: Table, hour: Hour, rows: f64, draws: f64 },
    Level1 { merge: compact::Merge, rows: f64 },
}

/// One worker.
pub(super) struct Worker {
    pause: f64,
    /// The stage that comes next, when its cycle began, and whether one of it did something.
    next: Stage,
    cycle_began: u64,
    did: bool,
    placed: Option<u64>,
    settings_read: u64,
    hands_read: u64,
    expired: Option<u64>,
    rested: HashMap<Stage, u64>,
    metas: Lru<BlockId, ()>,
    /// Whether with the page index.
    footers: Lru<BlockId, bool>,
    calls: Lru<BlockId, ()>,
    digests: Lru<(BlockId, Shard), ()>,
    budget: usize,
    pub parts_read: u64,
    pub looked: HashMap<Shard, u64>,
}

impl Worker {
    fn new(scenario: &Scenario, second: u64) -> Self {
        // As `Worker::desk` and `Blocks::new` divide it.
        let budget = scenario.memory_bytes / 8 / 4;
        Self {
            pause: SHORTEST_PAUSE.as_secs_f64(),
            next: Stage::Index,
            cycle_began: second,
            did: false,
            placed: None,
            settings_read: second,
            hands_read: 0,
            expired: None,
            rested: HashMap::new(),
            metas: Lru::new(budget),
            footers: Lru::new(budget),
            calls: Lru::new(budget),
            digests: Lru::new(budget),
            budget,
            parts_read: 0,
            looked: HashMap::new(),
        }
    }

    /// Whether it has a digest of calls of so many bytes in mind; it has from now on.
    pub fn knows_calls(&mut self, block: BlockId, bytes: usize) -> bool {
        let knows = self.calls.get(&block).is_some();
        if !knows {
            self.calls.put(block, (), bytes);
        }
        knows
    }

    /// Whether it has the digest in mind; it has from now on.
    pub fn knows_digest(&mut self, of: (BlockId, Shard), bytes: usize) -> bool {
        let knows = self.digests.get(&of).is_some();
        if !knows {
            self.digests.put(of, (), bytes);
        }
        knows
    }

    /// Whether it has a footer with its page index in mind; it has from now on.
    pub fn knows_index(&mut self, block: &Block) -> bool {
        let knows = self.footers.get(&block.id()) == Some(true);
        if !knows {
            self.footers.put(block.id(), true, 2 * FooterSize::memory(block));
        }
        knows
    }
}

impl Farm {
    /// A farm in the middle of its life, at a quarter past an hour, or at its begin.
    pub fn new(scenario: Scenario, grown: bool) -> Self {
        // 2026-11-20T10:15:00Z; begun half a minute after an hour, as tests do.
        let hour = Hour::of_ns(1_795_168_800_000_000_000);
        let second = hour.start().as_second() as u64 + if grown { 15 * 60 } else { 30 };
        let shards = scenario.shards();
        let keep = *scenario.settings.keep_for.last();
        let kept = if grown { keep.0.as_secs_f64() } else { 0.0 };
        let rate = scenario.entries_per_second() / scenario.handlers as f64;
        let handler = |number| Handler::new(number, shards, rate, scenario.spans.errors, second as f64, kept);
        let handlers = (0..scenario.handlers).map(handler).collect();
        let site = if grown { Site::prefilled(shards, second) } else { Site::default() };
        let workers: Vec<Worker> = (0..scenario.instances).map(|_| Worker::new(&scenario, second)).collect();
        let turns =
            (0..workers.len()).map(|rank| Reverse((second + rank as u64 % 30 * u64::from(grown), rank))).collect();
        let spans_an_hour = scenario.spans_per_second * 3600.0 / f64::from(shards);
        let entries_an_hour = scenario.entries_per_second() * 3600.0 / f64::from(shards);
        let mut world = World::new(scenario, second);
        if grown {
            let hours = (keep.0.as_secs() / 3600) as i32;
            for before in 1..=hours {
                for shard in Shard::all(shards) {
                    let hour = hour.plus(-before);
                    world.prefill(Table::Spans, shard, hour, spans_an_hour, compact::FILE_BYTES);
                    world.prefill(Table::Entries, shard, hour, entries_an_hour, compact::FILE_BYTES);
                    if before > hours - 6 {
                        world.pinned.insert((hour, shard));
                    }
                }
            }
        }
        let mut farm = Self {
            world,
            workers,
            handlers,
            site,
            asked_now: Vec::new(),
            turns,
            asked: Asked::default(),
            asked_in_all: 0.0,
            longest: BTreeMap::new(),
            backlog: 0.0,
            inbox_slices: (0, Vec::new()),
            merges: (0, Rc::default()),
            coming: BTreeMap::new(),
            began: second,
        };
        if grown {
            // Not all are hourly at once.
            for rank in 0..farm.workers.len() {
                farm.workers[rank].expired =
                    Some(second.saturating_sub(rank as u64 * 3600 / farm.workers.len() as u64));
            }
        }
        farm
    }

    pub fn asked(&self) -> &Asked {
        &self.asked
    }

    /// Counts from here.
    pub fn forget_counts(&mut self) {
        self.asked = Asked::default();
        self.longest.clear();
        self.backlog = 0.0;
        self.began = self.world.second;
    }

    /// Plays for `time`.
    pub fn play(&mut self, time: Duration) {
        let end = self.world.second + time.as_secs();
        while self.world.second < end {
            self.world.tick();
            let second = self.world.second;
            for done in self.coming.remove(&second).unwrap_or_default() {
                self.write(done);
            }
            let beats = self.workers.len() as f64 / PERIOD.as_secs_f64();
            self.ask(Stage::Farm, Put, "farm/workers", beats);
            if let Some(oldest) = self.world.inbox.first() {
                self.backlog = self.backlog.max(second as f64 - oldest.modified.as_second() as f64);
            }
            while let Some(Reverse((at, rank))) = self.turns.peek().copied()
                && at <= second
            {
                self.turns.pop();
                let took = self.cycle(rank);
                let at = second + took.round().max(1.0) as u64;
                // A large farm lists at the same moments: what is planned then is planned once for all.
                let grid = if self.workers.len() > 4 { GRID } else { 1 };
                self.turns.push(Reverse((at.next_multiple_of(grid), rank)));
            }
        }
    }

    pub fn ask(&mut self, stage: Stage, request: Request, folder: &str, many: f64) {
        self.asked_in_all += many;
        self.asked.add(self.world.second, stage, request, folder, many);
    }

    /// Counts what waits to be counted.
    pub fn settle_asked(&mut self) {
        for (stage, request, folder, many) in std::mem::take(&mut self.asked_now) {
            self.ask(stage, request, folder, many);
        }
    }

    pub fn requests(&self) -> f64 {
        self.asked_in_all
    }

    /// How long the requests since then took.
    pub fn took(&self, since: f64) -> f64 {
        (self.asked_in_all - since) / AT_A_TIME * self.world.scenario.request_seconds
    }

    pub fn longest(&mut self, stage: Stage, seconds: f64) {
        let longest = self.longest.entry(stage).or_default();
        *longest = longest.max(seconds);
    }

    pub fn slice<T>(&self, rank: usize, items: Vec<T>, weight: impl Fn(&T) -> u64) -> Vec<T> {
        let weights: Vec<u64> = items.iter().map(weight).collect();
        let mine = slice::slice(&weights, rank, self.workers.len());
        items.into_iter().skip(mine.start).take(mine.len()).collect()
    }

    pub fn rate_of_handler(&self) -> f64 {
        self.world.scenario.entries_per_second() / self.world.scenario.handlers as f64
    }

    /// Up to when what came has been indexed.
    pub fn indexed_until(&self) -> f64 {
        let now = self.world.second as f64;
        self.world.inbox.first().map_or(now, |oldest| (oldest.modified.as_second() as f64).min(now))
    }

    /// Up to when spans of a shard have been merged.
    pub fn compacted_until(&self, shard: Shard) -> f64 {
        let spans = self.world.blocks(Table::Spans).iter();
        let merged = spans.filter(|block| !block.is_level0() && block.shards() == [shard]);
        merged.map(|block| block.modified.as_second() as f64).fold(0.0, f64::max)
    }

    /// Goes on with a worker's cycle, until a stage does something, which takes a while; how long until it goes on again.
    fn cycle(&mut self, rank: usize) -> f64 {
        let second = self.world.second;
        let since = |at: u64| Duration::from_secs(second.saturating_sub(at));
        if self.workers[rank].next == Stage::Index {
            self.workers[rank].cycle_began = second;
            if self.workers[rank].placed.is_none_or(|placed| since(placed) >= PEERS_EVERY) {
                self.ask(Stage::Farm, List, "farm/workers", World::pages(self.workers.len()));
                self.workers[rank].placed = Some(second);
            }
            if since(self.workers[rank].settings_read) >= SETTINGS_EVERY {
                self.ask(Stage::Farm, List, "farm/settings", 1.0);
                self.ask(Stage::Farm, Get, "farm/settings", 1.0);
                self.ask(Stage::Farm, List, "farm/handlers", 1.0);
                self.workers[rank].settings_read = second;
            }
            self.workers[rank].next = Stage::Compact;
            let (did, took) = self.index(rank);
            self.workers[rank].did = did;
            if did {
                return took;
            }
        }
        if self.workers[rank].next == Stage::Compact {
            self.workers[rank].next = Stage::Publish;
            if self.is_time(rank, Stage::Compact) {
                let (did, took) = self.compact(rank);
                self.rest(rank, Stage::Compact, did);
                self.workers[rank].did |= did;
                if did {
                    return took + 2.0;
                }
            }
        }
        self.workers[rank].next = Stage::Index;
        let mut took = 0.0;
        if self.is_time(rank, Stage::Publish) {
            let (did, seconds) = self.publish(rank);
            self.rest(rank, Stage::Publish, did);
            self.workers[rank].did |= did;
            took += seconds;
        }
        if self.workers[rank].expired.is_none_or(|expired| since(expired) >= HOURLY) {
            let (did, seconds) = self.expire(rank);
            self.workers[rank].did |= did;
            took += seconds;
            self.workers[rank].expired = Some(second);
        }
        if self.workers[rank].did {
            self.workers[rank].pause = SHORTEST_PAUSE.as_secs_f64();
            return took;
        }
        let looks = |stage| self.workers[rank].rested.get(&stage).map(|since| since + LOOK_EVERY.as_secs());
        let rest = [Stage::Compact, Stage::Publish].into_iter().filter_map(looks).max();
        let rest = rest.map_or(LONGEST_PAUSE.as_secs_f64(), |at| at.saturating_sub(second) as f64);
        let pause = self.workers[rank].pause.min(rest).max(SHORTEST_PAUSE.as_secs_f64());
        self.workers[rank].pause = (self.workers[rank].pause * 2.0).min(LONGEST_PAUSE.as_secs_f64());
        took + pause
    }

    fn is_time(&self, rank: usize, stage: Stage) -> bool {
        let worker = &self.workers[rank];
        worker.rested.get(&stage).is_none_or(|since| worker.cycle_began - since >= LOOK_EVERY.as_secs())
    }

    fn rest(&mut self, rank: usize, stage: Stage, did: bool) {
        if did {
            self.workers[rank].rested.remove(&stage);
        } else {
            let began = self.workers[rank].cycle_began;
            self.workers[rank].rested.insert(stage, began);
        }
    }

    /// Whether something was indexed, and how long it took.
    fn index(&mut self, rank: usize) -> (bool, f64) {
        let asked = self.requests();
        let listed = self.world.inbox.len().min(index::LISTED_OBJECTS);
        self.ask(Stage::Index, List, "inbox", World::pages(listed.saturating_sub(1)));
        let now = self.world.now();
        let settings = self.world.scenario.settings.clone();
        let facts = index::Facts {
            now,
            settle: settings.settle.0,
            once: false,
            until: None,
            batch_bytes: settings.batch_bytes,
            indexed: &|_| false,
            may_try: &|_| true,
            failures: &|_| 0,
        };
        let mine = self.inbox_of(rank, listed);
        let plan = index::Plan::new(mine, &facts);
        if !plan.due || plan.objects.is_empty() {
            return (false, self.took(asked));
        }
        self.ask(Stage::Index, List, "farm/strikes", 1.0);
        self.look_at_hands(rank);
        self.ask(Stage::Index, List, "farm/forget", 1.0);
        let spans = self.world.scenario.spans;
        let memory = self.world.scenario.memory_bytes;
        let batch_bytes = index::batch_bytes(&settings, memory) as f64;
        let batch_rows = (batch_bytes / spans.proto_bytes).min((memory / 4) as f64 / spans.memory_bytes);
        let speed = spans.indexed_a_cpu_second * self.world.scenario.cores as f64;
        let (mut seconds, mut done): (f64, Vec<Object>) = (0.0, Vec::new());
        let mut batch: BTreeMap<Hour, f64> = BTreeMap::new();
        let objects: Vec<Object> = plan.objects.iter().map(|item| item.object.clone()).collect();
        for (n, object) in objects.iter().enumerate() {
            if n % AHEAD == 0 {
                self.look_at_hands(rank);
                self.ask(Stage::Index, Put, "farm/workers", 1.0);
            }
            let more = self.world.rows_of(object);
            for (hour, part) in self.hours_of(object) {
                *batch.entry(hour).or_default() += more * part;
            }
            self.ask(Stage::Index, Get, "inbox", 1.0);
            self.ask(Stage::Index, Head, "inbox", 1.0);
            self.ask(Stage::Index, Delete, "inbox", 1.0);
            done.push(object.clone());
            seconds += more / speed;
            let is_last = n + 1 == objects.len() || seconds > index::LISTING_LASTS.as_secs_f64();
            if is_last || batch.values().sum::<f64>() >= batch_rows {
                let at = self.world.second + (seconds + self.took(asked)).round().max(1.0) as u64;
                self.batch(std::mem::take(&mut batch), at);
            }
            if is_last {
                break;
            }
        }
        // Empty hands.
        self.ask(Stage::Index, Put, "farm/workers", 1.0);
        // They stand in key order, as the inbox does.
        let first = self.world.inbox.partition_point(|object| object.key < done[0].key);
        self.world.inbox.drain(first..first + done.len());
        self.inbox_slices.0 = 0;
        let took = seconds + self.took(asked);
        self.longest(Stage::Index, took);
        (true, took)
    }

    /// Reads what peers have in hand: of those that have beaten since it looked before.
    fn look_at_hands(&mut self, rank: usize) {
        let peers = self.workers.len();
        if peers <= 1 {
            return;
        }
        let since = (self.world.second - self.workers[rank].hands_read.min(self.world.second)) as f64;
        self.workers[rank].hands_read = self.world.second;
        self.ask(Stage::Index, List, "farm/workers", World::pages(peers));
        let beaten = (since / PERIOD.as_secs_f64()).min(1.0);
        self.ask(Stage::Index, Get, "farm/workers", (peers - 1) as f64 * beaten);
    }

    fn inbox_of(&mut self, rank: usize, listed: usize) -> Vec<Object> {
        if self.inbox_slices.0 != self.world.second {
            let weights: Vec<u64> = self.world.inbox[..listed].iter().map(|object| object.size_bytes).collect();
            self.inbox_slices = (self.world.second, slice::slices(&weights, self.workers.len()));
        }
        let mine = self.inbox_slices.1.get(rank).cloned().unwrap_or(0..0);
        self.world.inbox.get(mine).map(<[Object]>::to_vec).unwrap_or_default()
    }

    /// The hours in which the spans of an object lie: they were written since the object before.
    fn hours_of(&self, object: &Object) -> Vec<(Hour, f64)> {
        let end = object.modified.as_second() as f64;
        let begin = end - self.world.scenario.object_seconds;
        let (first, last) = (Hour::of_ns((begin * 1e9) as i64), Hour::of_ns(((end - 0.001) * 1e9) as i64));
        if first == last {
            return vec![(first, 1.0)];
        }
        let before = (first.end().as_second() as f64 - begin) / self.world.scenario.object_seconds;
        vec![(first, before), (last, 1.0 - before)]
    }

    fn batch(&mut self, hours: BTreeMap<Hour, f64>, at: u64) {
        let spans = self.world.scenario.spans;
        for (hour, rows) in hours {
            let traces = rows / spans.a_trace;
            for (table, rows, draws) in
                [(Table::Spans, rows, traces), (Table::Entries, traces * spans.entries_a_trace, traces)]
            {
                let folder = if table == Table::Spans { "spans/shard=all" } else { "entries/shard=all" };
                self.ask(Stage::Index, Put, folder, 1.0);
                self.coming.entry(at).or_default().push(Coming::Level0 { table, hour, rows, draws });
            }
        }
    }

    fn write(&mut self, coming: Coming) {
        match coming {
            Coming::Level0 { table, hour, rows, draws } => {
                let shards = self.world.drawn(draws);
                self.world.write_level0(table, hour, rows, shards);
            }
            Coming::Level1 { merge, rows } => {
                let from = merge.merged_from().to_vec();
                self.world.write_level1(merge.table, merge.shard, merge.hour, rows, from, compact::FILE_BYTES);
            }
        }
    }

    /// Lists a table's blocks and reads the footers that are not known.
    pub fn list_blocks(&mut self, rank: usize, stage: Stage, table: Table, unsettled_only: bool) {
        let [level0, level1] = self.world.counts(table);
        let folders =
            if table == Table::Spans { ["spans/shard=all", "spans"] } else { ["entries/shard=all", "entries"] };
        self.ask(stage, List, folders[0], World::pages(level0));
        self.ask(stage, List, folders[1], World::pages(level1 + level0));
        self.ask(stage, List, "quarantine/blocks", 1.0);
        let view = self.world.view(table, unsettled_only);
        let memory: usize = view.blocks.iter().map(FooterSize::words).sum();
        let worker = &mut self.workers[rank];
        // What is gone through in a circle that does not fit is never known when its turn comes.
        let fits = memory <= worker.budget;
        let mut gets = [0.0; 2];
        for block in &view.blocks {
            if fits && worker.metas.get(&block.id()).is_some() {
                continue;
            }
            if fits {
                worker.metas.put(block.id(), (), FooterSize::words(block));
            }
            gets[usize::from(!block.is_level0())] += FooterSize::requests(block);
        }
        self.ask(stage, Get, folders[0], gets[0]);
        self.ask(stage, Get, folders[1], gets[1]);
    }

    /// Whether something was merged or deleted, and how long it took.
    fn compact(&mut self, rank: usize) -> (bool, f64) {
        let asked = self.requests();
        self.ask(Stage::Compact, List, "farm/forget", 1.0);
        for table in Table::BOTH {
            self.list_blocks(rank, Stage::Compact, table, true);
        }
        if self.merges.0 != self.world.second {
            let facts = compact::Facts {
                now: self.world.now(),
                grace: self.world.scenario.settings.grace.0,
                once: false,
                keep_for: self.world.scenario.settings.keep_for.clone(),
                forced: BTreeSet::new(),
            };
            let mut plan = compact::Plan::default();
            for table in Table::BOTH {
                let view = self.world.view(table, true);
                plan.add(table, &view, &facts);
            }
            self.merges = (self.world.second, Rc::new(plan));
        }
        let plan = self.merges.1.clone();
        let deletes = self.slice(rank, plan.deletes.iter().collect(), |_| 1);
        let gone: HashSet<BlockId> = deletes.iter().filter_map(|delete| delete.block()).collect();
        for table in Table::BOTH {
            let folder = if table == Table::Spans { "spans" } else { "entries" };
            let of_table = deletes.iter().filter(|delete| delete.path.starts_with(folder)).count();
            self.ask(Stage::Compact, Delete, folder, of_table as f64);
            self.world.delete(table, &gone);
        }
        let in_hand: HashSet<(Table, Shard, Hour)> = self.merging().collect();
        let mine = self.slice(rank, plan.merges.iter().collect(), |merge| merge.bytes.max(1));
        let (mut seconds, mut merged) = (self.took(asked), false);
        for merge in mine {
            // Whoever has it in hand is the same worker as a rule: the list is divided in the same way.
            if in_hand.contains(&(merge.table, merge.shard, merge.hour)) {
                continue;
            }
            let took = self.merge(rank, merge.clone(), seconds);
            self.longest(Stage::Compact, took);
            seconds += took;
            merged = true;
            // What is left has its turn in a later round.
            if seconds > compact::ROUND_LASTS.as_secs_f64() {
                break;
            }
        }
        (merged || !gone.is_empty(), seconds)
    }

    fn merging(&self) -> impl Iterator<Item = (Table, Shard, Hour)> + '_ {
        self.coming.values().flatten().filter_map(|coming| match coming {
            Coming::Level1 { merge, .. } => Some((merge.table, merge.shard, merge.hour)),
            Coming::Level0 { .. } => None,
        })
    }

    /// One merge that begins in so many `seconds`; how long it takes.
    fn merge(&mut self, rank: usize, merge: compact::Merge, seconds: f64) -> f64 {
        let asked = self.requests();
        let folder = if merge.table == Table::Spans { "spans" } else { "entries" };
        let names: HashSet<BlockId> = merge.inputs.iter().copied().collect();
        let inputs: Vec<Block> =
            self.world.blocks(merge.table).iter().filter(|block| names.contains(&block.id())).cloned().collect();
        let lanes = self.world.scenario.cores.min(4);
        let memory = self.world.scenario.memory_bytes / lanes;
        let input_bytes =
            (memory.saturating_sub(OUTPUT_BYTES).max(memory / 2) / inputs.len().max(1)).max(LEAST_INPUT_BYTES);
        let mut rows = 0.0;
        for block in &inputs {
            let share = block.meta.rows as f64 / block.shards().len().max(1) as f64;
            let bytes = block.size_bytes as f64 / block.shards().len().max(1) as f64;
            rows += share;
            let index = f64::from(u8::from(!self.workers[rank].knows_index(block)));
            // A window of pages that fits into half of its memory is one request.
            let windows = (bytes / (input_bytes as f64 / 2.0)).ceil().max(1.0);
            self.ask(Stage::Compact, Get, if block.is_level0() { "spans/shard=all" } else { folder }, index + windows);
        }
        let spans = self.world.scenario.spans;
        let row_bytes = if merge.table == Table::Spans { spans.block_bytes[1] } else { spans.entry_bytes[1] };
        let bytes = rows * row_bytes;
        for _ in 0..(bytes / compact::FILE_BYTES as f64).ceil().max(1.0) as u64 {
            let of_file = bytes.min(compact::FILE_BYTES as f64);
            if of_file < PART_BYTES as f64 {
                self.ask(Stage::Compact, Put, folder, 1.0);
            } else {
                // Begin, parts, end, and a look at what it came to.
                self.ask(Stage::Compact, Part, folder, (of_file / PART_BYTES as f64).ceil() + 2.0);
                self.ask(Stage::Compact, Head, folder, 1.0);
            }
        }
        let took = self.took(asked) + rows / spans.merged_a_cpu_second;
        let at = self.world.second + (seconds + took).round().max(1.0) as u64;
        self.coming.entry(at).or_default().push(Coming::Level1 { merge, rows });
        took
    }

    /// An hourly round; whether something went, and how long it took.
    fn expire(&mut self, rank: usize) -> (bool, f64) {
        let asked = self.requests();
        let settings = self.world.scenario.settings.clone();
        self.ask(Stage::Compact, List, "farm/forget", 1.0);
        // Whether anything was ever pinned; if not, how much would go.
        self.ask(Stage::Expire, List, "farm/pinned", 1.0);
        if self.world.pinned.is_empty() {
            for (table, folder) in [(Table::Spans, "spans"), (Table::Entries, "entries")] {
                self.ask(Stage::Expire, List, folder, World::pages(self.world.blocks(table).len()));
            }
        }
        self.ask(Stage::Expire, List, "inbox", World::pages(self.world.inbox.len()));
        self.list_blocks(rank, Stage::Expire, Table::Entries, false);
        self.ask(Stage::Expire, List, "farm/forget", 1.0);
        self.ask(Stage::Expire, List, "farm/pinned", World::pages(self.world.pinned.len()));
        let horizon = Horizon {
            settings: &settings,
            grace: settings.grace.0,
            now: self.world.now(),
            backlog: jiff::SignedDuration::ZERO,
        };
        let near = self.world.pinned.iter().filter(|(hour, _)| horizon.is_near(*hour)).count();
        self.ask(Stage::Expire, Get, "farm/pinned", near as f64);
        let entries = self.world.view(Table::Entries, false);
        let listed: Vec<Listed> =
            entries.blocks.iter().filter(|block| horizon.is_near(block.key.hour)).map(Into::into).collect();
        let named = |(hour, shard): &(Hour, Shard)| {
            let of = listed.iter().filter(|block| block.key.hour == *hour && block.shards.contains(shard));
            ((*hour, *shard), of.map(|block| block.key.block).collect())
        };
        let covered = Covered(self.world.pinned.iter().filter(|(hour, _)| horizon.is_near(*hour)).map(named).collect());
        let items = expire::entries_items(&listed, &covered, &BTreeSet::new(), &horizon);
        let mine: Vec<EntriesItem> = self.slice(rank, items, |_| 1);
        let did = !mine.is_empty();
        if did {
            self.ask(Stage::Expire, List, "latest", 1.0);
            self.ask(Stage::Expire, List, "farm/forget", 1.0);
            let shards: BTreeSet<Shard> = mine.iter().map(|item| item.shard).collect();
            for shard in shards {
                self.digests(rank, Stage::Expire, shard, &entries);
            }
        }
        let mut gone = HashSet::new();
        for item in mine {
            if self.world.pinned.insert((item.hour, item.shard)) {
                self.ask(Stage::Expire, Put, "farm/pinned", 1.0);
            }
            let of = listed.iter().filter(|block| block.key.hour == item.hour && block.shards.contains(&item.shard));
            gone.extend(of.filter(|block| horizon.may_go(item.hour, block.modified)).map(|block| block.key.block));
        }
        self.ask(Stage::Expire, Delete, "entries", gone.len() as f64);
        self.world.delete(Table::Entries, &gone);
        // The sweep of the pins.
        self.ask(Stage::Expire, List, "latest", 1.0);
        self.ask(Stage::Expire, List, "farm/forget", 1.0);
        self.expire_spans(rank, &horizon);
        self.ask(Stage::Farm, List, "farm/workers", World::pages(self.workers.len()));
        self.ask(Stage::Farm, List, "farm/strikes", 1.0);
        let took = self.took(asked);
        self.longest(Stage::Expire, took);
        (did, took)
    }

    fn expire_spans(&mut self, rank: usize, horizon: &Horizon<'_>) {
        let spans: Vec<Listed> = self
            .world
            .blocks(Table::Spans)
            .iter()
            .filter(|block| horizon.may_go(block.key.hour, block.modified))
            .map(Into::into)
            .collect();
        let pages = World::pages(self.world.blocks(Table::Spans).len());
        self.ask(Stage::Expire, List, "spans", pages);
        if !spans.is_empty() {
            self.list_blocks(rank, Stage::Expire, Table::Entries, false);
            self.ask(Stage::Expire, List, "farm/forget", 1.0);
            self.ask(Stage::Expire, List, "farm/pinned", World::pages(self.world.pinned.len()));
            let near = self.world.pinned.iter().filter(|(hour, _)| horizon.is_near(*hour)).count();
            self.ask(Stage::Expire, Get, "farm/pinned", near as f64);
            let footers: f64 = self
                .world
                .blocks(Table::Spans)
                .iter()
                .filter(|block| horizon.may_go(block.key.hour, block.modified))
                .map(FooterSize::requests)
                .sum();
            let [level0, level1] = self.world.counts(Table::Spans);
            self.ask(Stage::Expire, List, "spans", World::pages(level0) + World::pages(level0 + level1));
            self.ask(Stage::Expire, List, "quarantine/blocks", 1.0);
            self.ask(Stage::Expire, Get, "spans", footers);
            let mine = self.slice(rank, spans, |block| block.size_bytes);
            self.ask(Stage::Expire, List, "latest", mine.len() as f64);
            self.ask(Stage::Expire, Delete, "spans", mine.len() as f64);
            let gone: HashSet<BlockId> = mine.iter().map(|block| block.key.block).collect();
            self.world.delete(Table::Spans, &gone);
            self.ask(Stage::Expire, List, "spans", pages);
        }
        self.ask(Stage::Expire, List, "farm/pinned", World::pages(self.world.pinned.len()));
        if !self.world.pinned.is_empty() {
            self.ask(Stage::Expire, List, "entries", World::pages(self.world.blocks(Table::Entries).len()));
            let hours: HashSet<Hour> =
                Table::BOTH.iter().flat_map(|table| self.world.blocks(*table)).map(|block| block.key.hour).collect();
            let before = self.world.pinned.len();
            self.world.pinned.retain(|(hour, _)| hours.contains(hour));
            let gone = before - self.world.pinned.len();
            self.ask(Stage::Expire, Delete, "farm/pinned", gone as f64);
        }
    }

    /// About what a handler's digest takes in memory, of a block with so many of its entries: an assumption.
    pub fn digest_bytes(&self, entries: f64) -> f64 {
        // References, minutes, the sketch, as `HandlerDigest::memory_bytes` adds them up.
        900.0 + 144.0 * (entries.min(100.0) + entries.min(10.0) + 3.0) + 32.0 * entries.min(60.0)
    }

    /// What a day is, by what was counted.
    pub fn projection(self) -> Projection {
        let seconds = (self.world.second - self.began).max(1) as f64;
        let counts = self.asked.counts(86_400.0 / seconds);
        let dollars = counts.0.keys().map(|stage| {
            let only = crate::store::Counts([(*stage, counts.0[stage].clone())].into());
            (*stage, only.price_dollars())
        });
        let scenario = self.world.scenario.clone();
        let pages = scenario.handlers as f64 * scenario.spans.page_bytes;
        let stored_bytes = self.world.stored_bytes() + pages as u64;
        let objects_a_day = scenario.collectors as f64 / scenario.object_seconds * 86_400.0;
        let blocks = Table::BOTH.iter().map(|table| self.world.blocks(*table).len() as u64).sum();
        let digests = self.world.blocks(Table::Entries).iter().filter(|block| !block.is_level0()).map(|block| {
            let handlers = scenario.handlers as f64 / f64::from(scenario.shards());
            handlers * self.digest_bytes(block.meta.rows as f64 / handlers)
        });
        let publishers = scenario.instances.min(usize::from(scenario.shards())) as f64;
        Projection {
            shards: scenario.shards(),
            dollars: dollars.collect(),
            requests: counts
                .0
                .iter()
                .map(|(stage, kinds)| (*stage, kinds.iter().map(|(kind, tally)| (*kind, tally.requests)).collect()))
                .collect(),
            stored_bytes,
            blocks,
            storage_dollars: stored_bytes as f64 / 1e9 * GB_MONTH_DOLLARS / DAYS_A_MONTH,
            collectors_dollars: objects_a_day * 5e-6,
            cores: scenario.spans_per_second / scenario.spans.a_cpu_second,
            backlog_seconds: self.backlog,
            publish_seconds: publish_every(&scenario.settings, scenario.handlers).as_secs_f64(),
            longest: self.longest.clone(),
            digest_bytes: (digests.sum::<f64>() / publishers) as u64,
            rates: self.asked.rates().into_iter().take(8).collect(),
            assumed: super::ASSUMED,
            scenario,
        }
    }
}
