//! Pages, played. Which of them change is not drawn but reckoned: handlers are hit evenly and at random.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;

use super::Scenario;
use super::compact::{Circle, Known, footer_bytes, groups};
use super::farm::Farm;
use super::world::{World, hour_of, time};
use crate::farm::slice;
use crate::model::{BlockId, Shard, Table};
use crate::query::window::Window;
use crate::stage::compact::FILE_BYTES;
use crate::stage::publish::farm;
use crate::stage::publish::plan::{self, Near};
use crate::stage::publish::summary::EXAMPLES;
use crate::store::NEAR_BYTES;
use crate::store::Request::{Get, Head, List, Put};
use crate::store::Stage::Publish;
use crate::table::place::Placed;
use crate::table::read::is_taken_whole;
use crate::table::view::{Block, View};

/// Bytes of a handler's two documents, and of a span of them as OTLP/JSON: `tests.rs` measures them on the
/// samples.
pub(super) const PAGE_BYTES: f64 = 17_600.0;
pub(super) const JSON_BYTES: f64 = 784.0;

/// What a caller with what it calls takes in memory, in a block's digest of calls: likewise.
pub(super) const CALL_BYTES: f64 = 1_070.0;

/// What stands of the pages.
#[derive(Default)]
pub(super) struct Site {
    parts: BTreeMap<Shard, Part>,
    /// When the list of handlers and the farm's own document were written.
    listed: u64,
    told: u64,
}

/// A shard's part, as it was written.
#[derive(Clone, Copy, Default)]
struct Part {
    written: u64,
    /// How many blocks had been written.
    names: u64,
    /// Up to when requests were on it, and what they called.
    indexed: f64,
    compacted: f64,
}

/// How much of the pages of ids a bloom filter of level 1 lets through that have none.
const LET_THROUGH: f64 = 0.01;

/// Bytes of a row group's bloom filter: of 26,000 traces.
const FILTER_BYTES: f64 = 32_768.0;

/// Blocks, and how many each stands for.
type Many<'v> = Vec<(&'v Block, f64)>;

/// The traces that a handler shows.
struct Shown {
    all: f64,
    /// The newest, the newest failed and the slowest that were not shown when its page was written last: how many, and since
    /// when they are, in seconds.
    new: [(f64, f64); 3],
    indexed: f64,
}

impl Shown {
    /// Of a handler that has been hit for `life` seconds, of which it was not on its page in the last `seconds`.
    fn of(scenario: &Scenario, indexed: f64, life: f64, seconds: f64) -> Self {
        let (rate, keep, examples) =
            (scenario.hits_per_second(), f64::from(scenario.settings.keep_last), EXAMPLES as f64);
        let newest = |rate: f64, most: f64| {
            let many = most.min(rate * seconds);
            (many, indexed - if many > 0.0 { many / rate } else { 0.0 })
        };
        let slowest = (examples.min(rate * life) * (seconds / life).min(1.0), indexed - seconds);
        let new = [newest(rate, keep), newest(rate * scenario.error_rate, examples), slowest];
        Self { all: (keep + 2.0 * examples).min(rate * life), new, indexed }
    }

    fn all_new(&self) -> f64 {
        self.new.iter().map(|(many, _)| many).sum()
    }

    /// How many of the new ones are looked for in a block of level 0.
    fn new_in(&self, block: &Block, near: Option<Near>) -> f64 {
        let Some((near, (first, last))) = near.zip(block.meta.times) else { return self.all_new() };
        let (margin, asked_since) = near.seconds();
        let (first, last) = ((first as f64 / 1e9 - margin).max(asked_since), last as f64 / 1e9 + margin);
        let share = |since: f64| {
            let all = (self.indexed - since).max(1e-9);
            ((last.min(self.indexed) - first.max(since)) / all).clamp(0.0, 1.0)
        };
        self.new.iter().map(|(many, since)| many * share(*since)).sum()
    }
}

/// What looking for the traces of a handler asks of blocks.
struct Looks<'v> {
    /// With how many there are of each, how many traces of a handler are looked for in it, and found, and whether it is new.
    blocks: Vec<(&'v Block, f64, [f64; 2], bool)>,
    shards: f64,
    room: u64,
    /// Requests for the footer of each time.
    footer: f64,
}

impl<'v> Looks<'v> {
    fn new(
        scenario: &Scenario,
        known: &mut Known,
        [fresh, others]: [&Many<'v>; 2],
        shown: &Shown,
        near: Option<Near>,
    ) -> Self {
        let shards = f64::from(scenario.shards());
        let room = (scenario.memory_bytes / 8) as u64;
        // Ids are in order in level 1, so that a trace is looked for in one file of a run; and it is in one of the runs.
        let files = |block: &Block| {
            let runs = (3600.0 * scenario.spans_per_second / shards / block.meta.rows as f64).round();
            if block.size_bytes > FILE_BYTES / 2 { runs.max(1.0) } else { 1.0 }
        };
        let runs = fresh.iter().filter(|(block, _)| !block.is_level0()).map(|(block, many)| many / files(block));
        let runs = (runs.sum::<f64>() / shards).max(1.0);
        let mut blocks = Vec::new();
        for (of, is_fresh) in [(fresh, true), (others, false)] {
            for (block, many) in of {
                let carried = if is_fresh { shown.all - shown.all_new() } else { 0.0 };
                let traces = if block.is_level0() {
                    let wanted = shown.new_in(block, near) + if near.is_some() { 0.0 } else { carried };
                    [wanted, wanted]
                } else {
                    let wanted = (shown.all_new() + carried) / (shards * files(block));
                    [wanted, if is_fresh { wanted / runs } else { 0.0 }]
                };
                blocks.push((*block, *many, traces, is_fresh));
            }
        }
        let is_whole = |block: &Block| is_taken_whole(block.key.dir, block.size_bytes, usize::MAX >> 32, room);
        let bytes = blocks.iter().map(|(block, many, ..)| many * footer_bytes(block.meta.rows as f64)).sum();
        let footer = if known.holds(bytes) { 0.0 } else { 1.0 };
        for (block, ..) in blocks.iter().filter(|(block, ..)| footer == 0.0 && is_whole(block)) {
            known.has_index(block);
        }
        Self { blocks, shards, room, footer }
    }

    /// Requests for the traces of so many handlers.
    fn of(&self, handlers: f64, bytes: &mut f64) -> f64 {
        self.blocks.iter().map(|block| self.look(block, handlers, bytes)).sum()
    }

    /// Requests for what is new of traces that were shown before.
    fn again(&self, handlers: f64, bytes: &mut f64) -> f64 {
        self.blocks.iter().filter(|(.., fresh)| *fresh).map(|block| self.look(block, handlers, bytes)).sum()
    }

    fn look(
        &self,
        (block, many, [wanted, found], _): &(&Block, f64, [f64; 2], bool),
        handlers: f64,
        bytes: &mut f64,
    ) -> f64 {
        let (wanted, found) = (wanted * handlers, found * handlers);
        let asked = many * some(wanted);
        if is_taken_whole(block.key.dir, block.size_bytes, wanted as usize, self.room) {
            *bytes += asked * block.size_bytes as f64;
            return asked;
        }
        // The footer and the page index; ids of each row group that may have some, and the rest of what is there.
        let rows = block.meta.rows as f64;
        if block.is_level0() {
            return asked * (1.0 + self.footer + 2.0 * groups(rows, Some(self.shards)).min(wanted.max(1.0)));
        }
        let all = groups(rows, None);
        let filters = (all * FILTER_BYTES / NEAR_BYTES as f64).ceil().min(wanted.max(1.0));
        let through = (LET_THROUGH * wanted).min(all);
        asked * (self.footer + filters) + many * (some(found + through) + through + 2.0 * found.min(all))
    }
}

/// Whether there is one at least, if so many are expected.
fn some(mean: f64) -> f64 {
    1.0 - (-mean.max(0.0)).exp()
}

impl Site {
    /// As it stands in the middle of a farm's life.
    pub fn grown(shards: u16, second: u64) -> Self {
        let at = second as f64;
        let part = |shard| (shard, Part { written: second, names: 0, indexed: at, compacted: at });
        Self { parts: Shard::all(shards).map(part).collect(), ..Self::default() }
    }
}

impl Farm {
    /// A round of worker `rank`: whether it did something, and how long it took.
    pub(super) fn publish(&mut self, rank: usize) -> (bool, f64) {
        let asked = self.so_far();
        let second = self.world.second;
        self.read_parts(rank);
        let looked = &self.workers[rank].looked;
        let ages = self.site.parts.iter().map(|(shard, part)| {
            let last = part.written.max(looked.get(shard).copied().unwrap_or(0));
            (*shard, Duration::from_secs(second.saturating_sub(last)))
        });
        let ages: BTreeMap<Shard, Duration> = ages.collect();
        let shards: Vec<Shard> = Shard::all(self.scenario.played_shards().0).collect();
        let mine = slice::slice(&vec![1; shards.len()], rank, self.workers.len());
        let due = plan::due(shards[mine].iter().copied(), &ages, self.publish_every(), false);
        let mut did = false;
        if !due.is_empty() {
            // What all parts are made from.
            for table in Table::BOTH {
                self.list_blocks(rank, Publish, table);
            }
            let documents = World::pages(2.0 * self.published() + f64::from(self.scenario.shards()) + 1.0);
            self.ask(Publish, List, 2.0 + documents);
            let [spans, entries] = Table::BOTH.map(|table| self.world.view(table).clone());
            for shard in due {
                did |= self.part(rank, shard, &entries, &spans);
                self.workers[rank].looked.insert(shard, second);
            }
        }
        if rank == 0 {
            did |= self.list(rank, did);
        }
        (did, self.took(asked))
    }

    /// How often pages are made.
    pub(super) fn publish_every(&self) -> Duration {
        let handlers = if self.site.parts.is_empty() { 0.0 } else { self.published() };
        plan::publish_every(&self.scenario.settings, handlers as usize)
    }

    /// How many handlers have been hit so far.
    fn published(&self) -> f64 {
        let seconds = self.world.second as f64 - self.since;
        self.scenario.handlers as f64 * some(self.scenario.hits_per_second() * seconds)
    }

    /// Lists the parts, and reads what is new since it did so before.
    fn read_parts(&mut self, rank: usize) {
        let last = std::mem::replace(&mut self.workers[rank].parts_read, self.world.second);
        let new = self.site.parts.values().filter(|part| part.written >= last).count();
        self.ask(Publish, List, World::pages(f64::from(self.scenario.shards())));
        self.ask(Publish, Get, new as f64 * self.scenario.played_shards().1);
    }

    /// The part of `shard`, if it is stale.
    fn part(&mut self, rank: usize, shard: Shard, entries: &View, spans: &View) -> bool {
        let names = self.world.named;
        let before = self.site.parts.get(&shard).copied();
        if before.is_some_and(|part| part.names == names) {
            return false;
        }
        let (began, scenario) = (self.so_far(), self.scenario.clone());
        // It stands for a gang's parts.
        let alike = scenario.played_shards().1 / scenario.gang();
        let now = self.up_to(names, spans);
        let handlers = scenario.handlers as f64 / f64::from(scenario.shards());
        let seconds = now.indexed - before.map_or(self.since, |part| part.indexed);
        let rate = scenario.hits_per_second();
        let changed = handlers * some(rate * seconds);
        let recounted = before.filter(|_| scenario.trace_entries > 1.0);
        let recounted = recounted.map_or(0.0, |part| some(rate * (now.compacted - part.compacted)));

        // What is new is asked for all traces that are shown; what is old for new traces, in the hours around theirs.
        let near = self.looks_near(spans);
        let written = time(before.map_or(0, |part| part.written + 1));
        let [fresh, others] = self.open(spans, written, now.indexed - seconds, near);
        let shown = Shown::of(&scenario, now.indexed, now.indexed - self.since, seconds);
        let looks = Looks::new(&scenario, &mut self.workers[rank].known, [&fresh, &others], &shown, near);
        let mut gets = self.digests(rank, shard, entries) + self.calls(rank, spans);
        // Rows of traces that are shown already may have been merged with new ones: then their pages are made once more,
        // and turn out to be the same.
        let same = if before.is_some() { handlers - changed } else { 0.0 };
        let mut bytes = 0.0;
        gets += if same < 1.0 { 0.0 } else { looks.again(same, &mut bytes) };
        let rows: f64 = fresh.iter().map(|(block, many)| many * block.meta.rows as f64).sum();
        let again = (rows - scenario.spans_per_second * seconds).max(0.0) / scenario.spans_per_second;
        let stale = changed + same * some(rate * again);
        let held = shown.all * scenario.trace_spans * JSON_BYTES;
        let (mut left, mut chunk) = (stale, self.workers[rank].chunk.clone().again());
        while left > 0.0 {
            let size = left.min(chunk.handlers() as f64);
            // A document that stands is read for what is not new of it.
            gets += if before.is_some() { size } else { 0.0 };
            gets += looks.of(size, &mut bytes);
            left -= size;
            chunk.done(chunk.handlers(), (chunk.handlers() as f64 * held) as usize, Duration::ZERO);
        }
        self.workers[rank].chunk = chunk;
        self.ask(Publish, Get, gets * alike);
        self.ask(Publish, Put, (2.0 * changed + (handlers - changed) * recounted + 1.0) * alike);
        self.site.parts.insert(shard, now);
        self.lasted(Publish, self.took(began) + bytes / plan::READ_A_SECOND);
        true
    }

    /// Where traces are looked for in blocks as indexed.
    fn looks_near(&self, spans: &View) -> Option<Near> {
        // Of each there are as many as it stands for; but their number is not whole.
        let many = self.scenario.gang();
        let blocks = spans.blocks.iter().filter(|block| block.is_level0());
        let blocks = blocks.map(|block| (block.meta.times, (many * block.size_bytes as f64) as u64));
        let most_bytes = plan::most_bytes(self.scenario.settings.grace.0);
        Near::of(blocks, (plan::MANY as f64 / many) as usize, most_bytes)
    }

    /// What is visible of the spans: blocks that may have rows that came since `written`, and others of the hours in which
    /// traces that came since then are looked for; with how many there are of each.
    fn open<'v>(&self, spans: &'v View, written: Timestamp, since: f64, near: Option<Near>) -> [Many<'v>; 2] {
        let fresh: HashSet<BlockId> = plan::fresh(spans, written, near).into_iter().map(Block::id).collect();
        let hour = hour_of(since);
        let window = Window::of_entry(Placed { time_ns: hour.start_ns(), hour }, 0).earlier(1);
        let parts = spans.visible_parts().into_iter().map(|(_, block)| (block.id(), block));
        let visible: BTreeMap<BlockId, &Block> = parts.filter(|(_, block)| block.key.hour >= window.first).collect();
        let blocks = visible.into_values().map(|block| (block, self.world.stands_for(block)));
        let (fresh, others) = blocks.partition(|(block, _)| fresh.contains(&block.id()));
        [fresh, others]
    }

    /// Up to when requests are in blocks, and in merged ones.
    fn up_to(&self, names: u64, spans: &View) -> Part {
        let now = self.world.second;
        let indexed = self.world.inbox.first().copied().unwrap_or(now).min(now) as f64;
        let merged = spans.blocks.iter().filter(|block| !block.is_level0());
        let compacted = merged.map(|block| block.modified.as_second()).max().unwrap_or_default() as f64;
        Part { written: now, names, indexed, compacted: compacted.max(self.since) }
    }

    /// Rank 0 joins the parts, and tells of the farm.
    fn list(&mut self, rank: usize, wrote: bool) -> bool {
        // Of its gang one is the first.
        let one = 1.0 / self.scenario.gang();
        let (second, instances) = (self.world.second, self.scenario.instances as f64);
        if wrote {
            self.read_parts(rank);
        }
        if self.site.parts.is_empty() {
            return false;
        }
        self.ask(Publish, Head, one);
        let is_new = self.site.parts.values().any(|part| part.written >= self.site.listed);
        if is_new {
            self.site.listed = second + 1;
            self.ask(Publish, Put, one);
            self.ask(Publish, Get, one);
            self.ask(Publish, List, one * World::pages(2.0 * self.published() + f64::from(self.scenario.shards())));
        }
        let least = if is_new { farm::SHORTEST } else { farm::LONGEST };
        let tells = second - self.site.told >= least.as_secs();
        if tells {
            self.site.told = second;
            self.ask(Publish, List, one * (World::pages(instances) + 1.0));
            self.ask(Publish, Get, one * instances);
            self.ask(Publish, Put, one);
        }
        is_new || tells
    }

    /// Requests for the digests of the entries of a shard that are new: those of old hours, where they are forgotten, are
    /// less than a thousandth of what a farm costs.
    fn digests(&mut self, rank: usize, shard: Shard, entries: &View) -> f64 {
        let since = self.workers[rank].known.read(Circle::Digests(shard), 0.0, self.world.second);
        let mut gets = 0.0;
        for (of, block) in entries.visible_parts() {
            if of == shard && block.modified.as_second() as u64 > since {
                // From the footer; or from rows, by the page index where a row group holds several shards.
                let many = if block.is_level0() { self.world.stands_for(block) } else { 1.0 };
                let room = (self.scenario.memory_bytes / 8) as u64;
                let whole = block.is_level0() && is_taken_whole(block.key.dir, block.size_bytes, 0, room);
                let index = f64::from(u8::from(block.is_level0() && !whole && self.scenario.shards() > 1));
                gets += many * (1.0 + self.workers[rank].known.reads_index(block, index));
            }
        }
        gets
    }

    /// Requests for the digests of calls of all merged spans.
    fn calls(&mut self, rank: usize, spans: &View) -> f64 {
        let each = |rows: f64| CALL_BYTES * rows.min(self.scenario.handlers as f64);
        let (counted, _, rows) = self.world.counted(Table::Spans);
        let merged = || spans.blocks.iter().filter(|block| !block.is_level0());
        let bytes = merged().map(|b| self.world.stands_for(b) * each(b.meta.rows as f64)).sum::<f64>();
        let bytes = bytes + counted * each(rows);
        let since = self.workers[rank].known.read(Circle::Calls, bytes, self.world.second);
        let new = merged().filter(|block| block.modified.as_second() as u64 > since);
        let new = new.map(|block| self.world.stands_for(block)).sum::<f64>();
        // Those that are forgotten again and again are read with their footers.
        if since == 0 { (counted + new) * 2.0 } else { new }
    }
}
