//! The workers' loop, played, with what they index and what they let expire.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use super::compact::Known;
use super::publish::Site;
use super::world::{World, hour_of, time};
use super::{PROTO_BYTES, SPANS_A_CPU_SECOND, Scenario};
use crate::farm::heartbeat::PERIOD;
use crate::farm::slice;
use crate::farm::strikes::AHEAD;
use crate::farm::worker::{HOURLY, LOOK_EVERY, PEERS_EVERY, SETTINGS_EVERY};
use crate::model::{BlockId, Hour, Shard, Table};
use crate::query::AT_A_TIME;
use crate::stage::CLOCKS_DIFFER;
use crate::stage::compact::Merge;
use crate::stage::expire::plan::AHEAD as PINNED_AHEAD;
use crate::stage::index;
use crate::stage::pace::Pace;
use crate::stage::publish::chunk::Chunk;
use crate::store::Request::{self, Delete, Get, Head, List, Put};
use crate::store::{Counts, Key, Object, Stage, Tally};
use crate::table::block::BlockMeta;

/// What a span takes in memory in a batch: `tests.rs` measures it on the samples.
pub(super) const MEMORY_BYTES: f64 = 629.0;

/// A farm at work.
pub(super) struct Farm {
    pub scenario: Rc<Scenario>,
    pub world: World,
    pub workers: Vec<Worker>,
    pub site: Site,
    /// By stage and kind, of what is played.
    asked: BTreeMap<(Stage, Request), f64>,
    /// All so far: pages of listings, which come one after the other, and the others.
    in_all: [f64; 2],
    /// Since when handlers have been hit, in seconds since 1970.
    pub since: f64,
    /// What will be written when its time has come.
    pub coming: BTreeMap<u64, Vec<Coming>>,
    /// What is being merged.
    pub begun: HashSet<(Shard, BlockId)>,
    /// Who is next, and when.
    turns: BinaryHeap<Reverse<(u64, usize)>>,
    /// The longest round or item of each stage, in seconds.
    pub longest: BTreeMap<Stage, f64>,
    /// The oldest object of the inbox, in seconds, at its worst.
    pub backlog: u64,
}

/// What is written in a while.
pub(super) enum Coming {
    /// Of objects that were written from the one second to the other.
    Level0 {
        table: Table,
        hour: Hour,
        rows: f64,
        seconds: (u64, u64),
    },
    Level1 {
        merge: Merge,
        rows: f64,
    },
}

/// One worker.
pub(super) struct Worker {
    pub known: Known,
    /// When it read the parts of pages, when it looked at each, and when at what peers have in hand.
    pub parts_read: u64,
    pub looked: HashMap<Shard, u64>,
    /// How many handlers it published together last.
    pub chunk: Chunk,
    hands_read: u64,
    /// Until when it has objects of the inbox in hand.
    holds_until: u64,
    pause: Duration,
    /// The stage that comes next, when its cycle began, and whether one of it did something.
    next: Stage,
    cycle_began: u64,
    did: bool,
    placed: u64,
    settings_read: u64,
    expired: u64,
    /// Stages that had nothing (more) to do, and until when there can be nothing.
    pub rests: HashMap<Stage, u64>,
    /// When it listed whole tables for merges.
    pub whole: u64,
}

impl Farm {
    /// A farm in the middle of its life, at a quarter past an hour, or at its begin.
    pub fn new(scenario: &Scenario, grown: bool) -> Self {
        let scenario = Rc::new(scenario.clone());
        // 2026-11-20T10:15:00Z; begun half a minute after an hour, as tests do.
        let second = 1_795_168_800 + if grown { 15 * 60 } else { 30 };
        let played = scenario.played_workers();
        let worker = |rank: usize| Worker {
            known: Known::new(scenario.memory_bytes, second),
            parts_read: second,
            looked: HashMap::new(),
            chunk: Chunk::first(scenario.memory_bytes),
            hands_read: 0,
            holds_until: 0,
            pause: Pace::default().shortest_pause,
            next: Stage::Index,
            cycle_began: second,
            did: false,
            placed: 0,
            settings_read: second,
            // Not all are hourly at once.
            expired: if grown { second - HOURLY.as_secs() * rank as u64 / played as u64 } else { 0 },
            rests: HashMap::new(),
            whole: if grown { second - HOURLY.as_secs() * rank as u64 / played as u64 } else { 0 },
        };
        let life = scenario.settings.keep_for.last().0.as_secs_f64();
        Self {
            world: World::new(scenario.clone(), second, grown),
            turns: (0..played).map(|rank| Reverse((second + u64::from(grown) * (rank as u64 % 30), rank))).collect(),
            workers: (0..played).map(worker).collect(),
            site: if grown { Site::grown(scenario.played_shards().0, second) } else { Site::default() },
            asked: BTreeMap::new(),
            in_all: [0.0; 2],
            since: second as f64 - if grown { life } else { 0.0 },
            coming: BTreeMap::new(),
            begun: HashSet::new(),
            longest: BTreeMap::new(),
            backlog: 0,
            scenario,
        }
    }

    /// Counts from here.
    pub fn forget_counts(&mut self) {
        self.asked.clear();
        self.longest.clear();
        self.backlog = 0;
    }

    /// What the whole farm asked, times `factor`.
    pub fn counts(&self, factor: f64) -> Counts {
        let mut counts = Counts::default();
        for ((stage, request), many) in &self.asked {
            let requests = (many * factor * self.scenario.gang()).round() as u64;
            counts.0.entry(*stage).or_default().insert(*request, Tally { requests, ..Tally::default() });
        }
        counts
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
            self.ask(Stage::Farm, Put, self.workers.len() as f64 / PERIOD.as_secs_f64());
            if let Some(oldest) = self.world.inbox.first() {
                self.backlog = self.backlog.max(second - oldest);
            }
            while let Some(Reverse((at, rank))) = self.turns.peek().copied()
                && at <= second
            {
                self.turns.pop();
                let took = self.cycle(rank);
                self.turns.push(Reverse((second + took.round().max(1.0) as u64, rank)));
            }
        }
    }

    /// Counts `many` requests of one worker.
    pub fn ask(&mut self, stage: Stage, request: Request, many: f64) {
        *self.asked.entry((stage, request)).or_default() += many;
        self.in_all[usize::from(request != List)] += many;
    }

    /// How many requests so far, for [`Farm::took`].
    pub fn so_far(&self) -> [f64; 2] {
        self.in_all
    }

    /// How long the requests since then took, in seconds.
    pub fn took(&self, since: [f64; 2]) -> f64 {
        let turns = self.in_all[0] - since[0] + ((self.in_all[1] - since[1]) / AT_A_TIME as f64).ceil();
        turns * self.scenario.request_seconds
    }

    /// The second that comes after so many.
    pub fn after(&self, seconds: f64) -> u64 {
        self.world.second + seconds.round().max(1.0) as u64
    }

    /// Notes how long something lasted.
    pub fn lasted(&mut self, stage: Stage, seconds: f64) -> f64 {
        let longest = self.longest.entry(stage).or_default();
        *longest = longest.max(seconds);
        seconds
    }

    fn write(&mut self, coming: Coming) {
        match coming {
            Coming::Level0 { table, hour, rows, seconds } => self.world.write_level0(table, hour, rows, seconds),
            Coming::Level1 { merge, rows } => {
                for input in &merge.inputs {
                    self.begun.remove(&(merge.shard, *input));
                }
                self.world.write_level1(merge.table, merge.shard, merge.hour, rows, merge.merged_from);
            }
        }
    }

    /// Goes on with a worker's cycle, until a stage does something, which takes a while; how long until it goes on again.
    fn cycle(&mut self, rank: usize) -> f64 {
        let second = self.world.second;
        if self.workers[rank].next == Stage::Index {
            (self.workers[rank].cycle_began, self.workers[rank].did) = (second, false);
            self.look_around(rank);
            self.workers[rank].next = Stage::Compact;
            if let Some(took) = self.look(rank, Stage::Index, Self::index) {
                return took;
            }
        }
        if self.workers[rank].next == Stage::Compact {
            self.workers[rank].next = Stage::Publish;
            if let Some(took) = self.look(rank, Stage::Compact, Self::compact) {
                // An output counts for listings that begin in a later second.
                return took + 2.0;
            }
        }
        self.workers[rank].next = Stage::Index;
        let mut took = self.look(rank, Stage::Publish, Self::publish).unwrap_or_default();
        if second - self.workers[rank].expired >= HOURLY.as_secs() {
            self.workers[rank].expired = second;
            took += self.expire(rank);
        }
        let (pace, worker) = (Pace::default(), &mut self.workers[rank]);
        if worker.did {
            worker.pause = pace.shortest_pause;
            return took;
        }
        let until = [Stage::Index, Stage::Compact, Stage::Publish].map(|stage| worker.rests.get(&stage));
        let rest = until.iter().map(|until| until.map(|until| until.saturating_sub(second))).min().flatten();
        let rest =
            rest.map_or(worker.pause, |rest| Duration::from_secs(rest).clamp(pace.shortest_pause, pace.longest_pause));
        worker.pause = (worker.pause * 2).max(rest).min(pace.longest_pause);
        took + rest.as_secs_f64()
    }

    /// Runs a stage, unless it rests; how long it took if it did something.
    fn look(&mut self, rank: usize, stage: Stage, run: impl Fn(&mut Self, usize) -> (bool, f64)) -> Option<f64> {
        if self.workers[rank].rests.get(&stage).is_some_and(|until| self.world.second < *until) {
            return None;
        }
        self.workers[rank].rests.remove(&stage);
        let (did, took) = run(self, rank);
        let worker = &mut self.workers[rank];
        if !did && stage != Stage::Index {
            worker.rests.entry(stage).or_insert(worker.cycle_began + LOOK_EVERY.as_secs());
        }
        worker.did |= did;
        did.then_some(took)
    }

    /// Asks who the peers are, and what the settings.
    fn look_around(&mut self, rank: usize) {
        let second = self.world.second;
        let is_due = |last: u64, every: Duration| second - last >= every.as_secs();
        if is_due(self.workers[rank].placed, PEERS_EVERY) {
            self.workers[rank].placed = second;
            self.ask(Stage::Farm, List, World::pages(self.scenario.instances as f64));
        }
        if is_due(self.workers[rank].settings_read, SETTINGS_EVERY) {
            self.workers[rank].settings_read = second;
            self.ask(Stage::Farm, List, 2.0);
            self.ask(Stage::Farm, Get, 1.0);
        }
    }

    /// inbox → level 0: whether something was indexed, and how long it took.
    fn index(&mut self, rank: usize) -> (bool, f64) {
        let asked = self.so_far();
        let scenario = self.scenario.clone();
        let listed = self.world.inbox.len();
        self.ask(Stage::Index, List, World::pages((listed as f64 * scenario.gang()).min(index::LISTED_OBJECTS as f64)));
        let size_bytes = self.world.object_bytes();
        let object = |(number, written): (usize, &u64)| {
            let key = Key::Inbox(format!("{number:09}"));
            Object { key, size_bytes, modified: time(*written), etag: String::new() }
        };
        let settings = &scenario.settings;
        let facts = index::Facts {
            now: self.world.now(),
            settle: settings.settle.0,
            settle_received: settings.settle.0,
            batch_age: Pace::default().batch_age,
            once: false,
            until: None,
            batch_bytes: settings.batch_bytes,
            indexed: &|_| false,
            may_try: &|_| true,
            failures: &|_| 0,
        };
        let objects: Vec<Object> = self.world.inbox.iter().enumerate().map(object).collect();
        let late_at = index::plan::late_at(&objects, &facts);
        let (played, real) = (self.workers.len(), (listed as f64 * scenario.gang()) as usize);
        let (rank_here, sharers) = if late_at.is_some_and(|late_at| late_at <= facts.now) {
            (played - rank - 1, played)
        } else {
            let bytes = real as u64 * size_bytes;
            let sharers = index::plan::sharers(real, bytes, facts.batch_bytes, scenario.instances);
            (rank, (sharers as f64 / scenario.gang()).ceil() as usize)
        };
        let mine = slice::slice(&vec![size_bytes; listed], rank_here, sharers.min(played));
        let plan = index::Plan::new(objects[mine.clone()].to_vec(), &facts);
        // Until when nothing can be due: half a batch's age for each page if there is some.
        let (age, half) = (facts.batch_age.as_secs(), Pace::default().longest_pause.as_secs());
        let again = if mine.is_empty() { age } else { age.min(half * (real as u64 / 1000 + 1)) };
        let next = plan.next.into_iter().chain(late_at.filter(|late_at| *late_at > facts.now)).min();
        let next = next.map_or(u64::MAX, |next| next.as_second() as u64 + CLOCKS_DIFFER.as_secs());
        self.workers[rank].rests.insert(Stage::Index, next.min(self.world.second + again));
        // Those that have settled stand before those that have not.
        let due = plan.objects.len();
        if !plan.due || due == 0 {
            return (false, self.took(asked));
        }
        // Strikes, what peers have in hand, and what is to be forgotten.
        self.ask(Stage::Index, List, 2.0);
        self.look_at_hands(rank);
        let batch_rows = (index::batch_bytes(settings, scenario.memory_bytes) as f64 / PROTO_BYTES)
            .min(index::rows_bytes(scenario.memory_bytes) as f64 / MEMORY_BYTES);
        let (mut seconds, mut done) = (0.0, 0);
        let mut batch: BTreeMap<Hour, (f64, (u64, u64))> = BTreeMap::new();
        while done < due && seconds <= index::LISTING_LASTS.as_secs_f64() {
            if done % AHEAD == 0 {
                self.look_at_hands(rank);
                self.ask(Stage::Index, Put, 1.0);
            }
            let written = self.world.inbox[mine.start + done];
            let of_hour = batch.entry(hour_of(written as f64)).or_insert((0.0, (written, written)));
            *of_hour = (of_hour.0 + scenario.object_rows(), (of_hour.1.0.min(written), of_hour.1.1.max(written)));
            done += 1;
            seconds += scenario.object_rows() / SPANS_A_CPU_SECOND;
            if batch.values().map(|(rows, _)| rows).sum::<f64>() >= batch_rows {
                self.batch(std::mem::take(&mut batch), self.after(seconds + self.took(asked)));
            }
        }
        self.batch(batch, self.after(seconds + self.took(asked)));
        // Empty hands.
        self.ask(Stage::Index, Put, 1.0);
        for request in [Get, Head, Delete] {
            self.ask(Stage::Index, request, done as f64);
        }
        self.world.inbox.drain(mine.start..mine.start + done);
        self.workers[rank].holds_until = self.after(seconds + self.took(asked));
        if done < due {
            self.workers[rank].rests.remove(&Stage::Index);
        }
        (true, self.lasted(Stage::Index, seconds + self.took(asked)))
    }

    /// Reads what peers have in hand: of those that have beaten since it looked before.
    fn look_at_hands(&mut self, rank: usize) {
        let peers = self.scenario.instances as f64;
        if peers > 1.0 {
            let second = self.world.second;
            let since = second - std::mem::replace(&mut self.workers[rank].hands_read, second).min(second);
            self.ask(Stage::Index, List, World::pages(peers));
            // Of those whose hands are empty nothing is read.
            let others = self.workers.iter().enumerate().filter(|(other, _)| *other != rank);
            let full = others.filter(|(_, other)| other.holds_until > second).count() as f64;
            let full = full * (peers - 1.0) / (self.workers.len() as f64 - 1.0).max(1.0);
            self.ask(Stage::Index, Get, full * (since as f64 / PERIOD.as_secs_f64()).min(1.0));
        }
    }

    fn batch(&mut self, hours: BTreeMap<Hour, (f64, (u64, u64))>, at: u64) {
        let entries = self.scenario.trace_entries / self.scenario.trace_spans;
        // What it is about to write.
        self.ask(Stage::Index, Put, if hours.is_empty() { 0.0 } else { 1.0 });
        for (hour, (rows, seconds)) in hours {
            self.ask(Stage::Index, Put, 2.0);
            let blocks = [(Table::Spans, rows), (Table::Entries, rows * entries)];
            let blocks = blocks.map(|(table, rows)| Coming::Level0 { table, hour, rows, seconds });
            self.coming.entry(at).or_default().extend(blocks);
        }
    }

    /// A round of expiry, and how long it took: less than a hundredth of what a farm costs, so it is reckoned and not
    /// played. Handlers are hit all the time, so nothing needs a pin.
    fn expire(&mut self, rank: usize) -> f64 {
        let asked = self.so_far();
        // The dead, and their strikes; tombstones.
        self.ask(Stage::Farm, List, World::pages(self.scenario.instances as f64) + 1.0);
        self.ask(Stage::Compact, List, 1.0);
        let pages = World::pages(self.world.level0(Table::Entries)) + World::pages(self.world.stored(Table::Entries).1);
        self.ask(Stage::Expire, List, pages + 1.0);
        // Footers of the hours that are near, which are forgotten until the next round where there are many.
        let (counted, ..) = self.world.counted(Table::Entries);
        let hours = (self.scenario.settings.keep_for.last().0.as_secs() / 3600) as f64;
        let of_hour = counted / hours;
        let is_known = self.workers[rank].known.holds(counted * size_of::<BlockMeta>() as f64);
        let near = if is_known { of_hour } else { of_hour * (PINNED_AHEAD.as_hours() as f64 + 2.0) };
        self.ask(Stage::Expire, Get, near);
        // An hour becomes near and another goes: for each shard somebody asks for the newest traces of all hours.
        let items = if counted > 0.0 { 2.0 * f64::from(self.scenario.shards()) } else { 0.0 };
        let items = items / self.scenario.instances as f64;
        self.ask(Stage::Expire, List, items.min(1.0) * (pages + 2.0));
        self.ask(Stage::Expire, Get, items * counted / f64::from(self.scenario.shards()) * 2.0);
        // What is past, whether anything was pinned; the inbox; terms; the pins and their sweep. Each hour and shard is
        // pinned once, and then read by everybody until it is past.
        let tables = Table::BOTH.map(|table| World::pages(self.world.stored(table).1)).iter().sum::<f64>();
        self.ask(Stage::Expire, List, 2.0 * tables + 4.0);
        let shards = if self.world.counted(Table::Spans).0 > 0.0 { f64::from(self.scenario.shards()) } else { 0.0 };
        self.ask(Stage::Expire, Get, PINNED_AHEAD.as_hours() as f64 * shards);
        self.ask(Stage::Expire, Put, shards / self.scenario.instances as f64);
        self.lasted(Stage::Expire, self.took(asked))
    }
}
