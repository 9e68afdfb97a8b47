//! Pages, played. Which of them change is not drawn but reckoned: handlers are hit evenly and at random.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;

use super::compact::{Circle, footer_bytes, footer_requests, groups};
use super::farm::Farm;
use super::world::{World, hour_of, time};
use crate::farm::slice;
use crate::model::{BlockId, Shard, Table};
use crate::query::window::Window;
use crate::stage::publish::chunk::Chunk;
use crate::stage::publish::summary::EXAMPLES;
use crate::stage::publish::{farm, plan};
use crate::store::Request::{Get, Head, List, Put};
use crate::store::Stage::Publish;
use crate::table::place::Placed;
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

/// Blocks, and how many each stands for.
type Many<'v> = Vec<(&'v Block, f64)>;

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
        let [fresh, others] = self.open(spans, time(before.map_or(0, |part| part.written + 1)), now.indexed - seconds);
        let known = &mut self.workers[rank].known;
        let bytes = fresh.iter().chain(&others).map(|(block, many)| many * footer_bytes(block.meta.rows as f64)).sum();
        let footer = if known.holds(bytes) { 0.0 } else { 1.0 };
        let index: f64 = fresh.iter().map(|(block, many)| many * known.reads_index(block, 1.0)).sum();
        // To find a trace takes a request in each row group that may have it, and another in one that has.
        let asked = |blocks: &[(&Block, f64)], traces: f64, each: f64| -> f64 {
            let groups = |block: &Block| groups(block.meta.rows as f64, block.is_level0()).min(traces.max(1.0));
            blocks.iter().map(|(block, many)| many * (footer + each * groups(block))).sum()
        };
        let mut gets = index + self.digests(rank, shard, entries) + self.calls(rank, spans);
        // Rows of traces that are shown already may have been merged with new ones: then their pages are made once more,
        // and turn out to be the same.
        let same = if before.is_some() { handlers - changed } else { 0.0 };
        gets += if same < 1.0 { 0.0 } else { asked(&fresh, same, 1.0) };
        let rows: f64 = fresh.iter().map(|(block, many)| many * block.meta.rows as f64).sum();
        let again = (rows - scenario.spans_per_second * seconds).max(0.0) / scenario.spans_per_second;
        let stale = changed + same * some(rate * again);
        let held = f64::from(scenario.settings.keep_last) + 2.0 * EXAMPLES as f64;
        let held = held.min(rate * (now.indexed - self.since)) * scenario.trace_spans * JSON_BYTES;
        let (mut left, mut chunk) = (stale, Chunk::first(scenario.memory_bytes));
        while left > 0.0 {
            let size = left.min(chunk.handlers() as f64);
            // A document that stands is read for what is not new of it.
            gets += if before.is_some() { size } else { 0.0 };
            gets += asked(&fresh, size, 2.0) + asked(&others, size, 1.0);
            left -= size;
            chunk.done(chunk.handlers(), (chunk.handlers() as f64 * held) as usize, Duration::ZERO);
        }
        self.ask(Publish, Get, gets * alike);
        self.ask(Publish, Put, (2.0 * changed + (handlers - changed) * recounted + 1.0) * alike);
        self.site.parts.insert(shard, now);
        self.lasted(Publish, self.took(began));
        true
    }

    /// What is visible of the spans: blocks that may have rows that came since `written`, and others of the hours in which
    /// traces that came since then are looked for; with how many there are of each.
    fn open<'v>(&self, spans: &'v View, written: Timestamp, since: f64) -> [Many<'v>; 2] {
        let fresh: HashSet<BlockId> = plan::fresh(spans, written).into_iter().map(Block::id).collect();
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
                let index = f64::from(u8::from(block.is_level0() && self.scenario.shards() > 1));
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
        if since == 0 { (counted + new) * (1.0 + footer_requests(rows)) } else { new }
    }
}
