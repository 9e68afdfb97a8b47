//! Publishing, played.

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use rand::RngExt;

use super::cycle::Farm;
use super::handlers::{Shot, traces};
use super::world::World;
use crate::model::{BlockId, Shard, Table, TraceId};
use crate::query::rows;
use crate::stage::publish::document::{MadeFrom, Part, SUMMARY_VERSION};
use crate::stage::publish::part::HANDLERS_AT_A_TIME;
use crate::stage::publish::plan;
use crate::store::Request::{Get, Head, List, Put};
use crate::store::Stage;
use crate::table::view::{Block, View};

/// What stands of the pages.
#[derive(Default)]
pub(super) struct Site {
    /// When each part was written, and what it says.
    parts: BTreeMap<Shard, (u64, Part)>,
    /// Up to when what was called had been counted, when each part was written.
    compacted: HashMap<Shard, f64>,
    listed: u64,
}

/// Of how many chunks of handlers of a part the reads are counted one by one; the others are like them.
const CHUNKS_COUNTED: usize = 3;

/// What a digest of calls takes in memory: a few dozen calls with their sketches. An assumption.
const CALLS_BYTES: usize = 10_000;

impl Site {
    /// As it stands in the middle of a farm's life.
    pub fn prefilled(shards: u16, second: u64) -> Self {
        let part = |shard| (shard, (second, Part::default()));
        Self { parts: Shard::all(shards).map(part).collect(), ..Self::default() }
    }
}

impl Farm {
    /// A round of publishing of worker `rank`; whether it did something, and how long it took.
    pub(super) fn publish(&mut self, rank: usize) -> (bool, f64) {
        let second = self.world.second;
        let count = self.world.scenario.shards();
        self.ask(Stage::Publish, List, "site/parts", World::pages(self.site.parts.len()));
        let looked = self.workers[rank].parts_read;
        let changed = self.site.parts.values().filter(|(written, _)| *written >= looked).count();
        self.ask(Stage::Publish, Get, "site/parts", changed as f64);
        self.workers[rank].parts_read = second;
        let every = plan::publish_every(&self.world.scenario.settings, self.published_handlers());
        let ages = self.site.parts.iter().map(|(shard, (written, _))| {
            let looked = self.workers[rank].looked.get(shard).copied().unwrap_or(0);
            (*shard, Duration::from_secs(second - (*written).max(looked).min(second)))
        });
        let ages: BTreeMap<Shard, Duration> = ages.collect();
        let mine = self.slice(rank, Shard::all(count).collect(), |_| 1);
        let due = plan::due(mine, &ages, every, false);
        let (mut did, mut seconds) = (false, 0.0);
        if !due.is_empty() {
            seconds += self.ground(rank);
            let (entries, spans) = (self.world.view(Table::Entries, false), self.world.view(Table::Spans, false));
            for shard in due {
                if let Some(took) = self.part(rank, shard, &entries, &spans) {
                    self.longest(Stage::Publish, seconds + took);
                    seconds += took;
                    did = true;
                }
                self.workers[rank].looked.insert(shard, second);
            }
        }
        if rank == 0 {
            did |= self.list(rank, did);
        }
        (did, seconds)
    }

    /// How many handlers the parts have: also a 404 list is one.
    fn published_handlers(&self) -> usize {
        if self.site.parts.is_empty() { 0 } else { self.handlers.len() }
    }

    /// What all parts are made from.
    fn ground(&mut self, rank: usize) -> f64 {
        let asked = self.requests();
        for table in Table::BOTH {
            self.list_blocks(rank, Stage::Publish, table, false);
        }
        self.ask(Stage::Publish, List, "latest", 1.0);
        self.ask(Stage::Publish, List, "farm/forget", 1.0);
        let documents = 2 * self.published_handlers() + self.site.parts.len() + 1;
        self.ask(Stage::Publish, List, "site", World::pages(documents));
        self.took(asked)
    }

    /// The part of `shard`; how long it took, if it was stale.
    fn part(&mut self, rank: usize, shard: Shard, entries: &View, spans: &View) -> Option<f64> {
        let asked = self.requests();
        let made_from =
            MadeFrom { version: SUMMARY_VERSION, entries: names(entries), spans: names(spans), ..MadeFrom::default() };
        let before = self.site.parts.get(&shard).map(|(_, part)| part.clone());
        if !plan::is_stale(before.as_ref(), &made_from) {
            return None;
        }
        self.digests(rank, Stage::Publish, shard, entries);
        // One read of each merged block's digest of calls that is not known.
        for block in spans.blocks.iter().filter(|block| !block.is_level0()) {
            if !self.workers[rank].knows_calls(block.id(), CALLS_BYTES) {
                self.ask(Stage::Publish, Get, "spans", 1.0);
            }
        }

        let (rate, errors) = (self.rate_of_handler(), self.world.scenario.spans.errors);
        let keep = self.world.scenario.settings.keep_last as usize;
        let (until, compacted) = (self.indexed_until(), self.compacted_until(shard));
        let before_compacted = self.site.compacted.insert(shard, compacted).unwrap_or(0.0);
        let (mut todo, mut same): (Vec<usize>, Vec<Shot>) = (Vec::new(), Vec::new());
        for (number, handler) in self.handlers.iter_mut().enumerate().filter(|(_, handler)| handler.shard == shard) {
            let changes =
                handler.look(&mut self.world.chance, rate, errors, until, keep, (before_compacted, compacted));
            if changes.entries {
                todo.push(number);
            } else {
                same.extend(handler.shown());
                if changes.calls && self.world.scenario.spans.calls {
                    self.asked_now.push((Stage::Publish, Put, "site/handlers", 1.0));
                }
            }
        }
        self.settle_asked();
        // Spans that are new of traces that were shown before.
        let fresh: Vec<BlockId> =
            match before.as_ref().and_then(|part| jiff::Timestamp::from_millisecond(part.spans_until_ms).ok()) {
                Some(until) => plan::fresh(spans, until).into_iter().map(Block::id).collect(),
                None => Vec::new(),
            };
        if !fresh.is_empty() && !same.is_empty() {
            self.read_traces(rank, spans, &same, Some(&fresh), 1.0);
        }
        let chunks: Vec<&[usize]> = todo.chunks(HANDLERS_AT_A_TIME).collect();
        let step = chunks.len().div_ceil(CHUNKS_COUNTED).max(1);
        let counted: Vec<Vec<Shot>> = chunks
            .iter()
            .step_by(step)
            .map(|chunk| chunk.iter().flat_map(|number| self.handlers[*number].shown().copied()).collect())
            .collect();
        let factor = chunks.len() as f64 / counted.len().max(1) as f64;
        for shots in counted {
            self.read_traces(rank, spans, &shots, None, factor);
        }
        self.ask(Stage::Publish, Put, "site/handlers", 2.0 * todo.len() as f64);
        self.ask(Stage::Publish, Put, "site/parts", 1.0);
        let part = Part { made_from, spans_until_ms: self.world.now().as_millisecond(), ..Part::default() };
        self.site.parts.insert(shard, (self.world.second, part));
        Some(self.took(asked))
    }

    /// Rank 0 joins the parts.
    fn list(&mut self, rank: usize, wrote: bool) -> bool {
        if wrote {
            self.ask(Stage::Publish, List, "site/parts", World::pages(self.site.parts.len()));
            let second = self.world.second;
            let new = self.site.parts.values().filter(|(written, _)| *written >= second).count();
            self.ask(Stage::Publish, Get, "site/parts", new as f64);
            self.workers[rank].parts_read = second + 1;
        }
        if self.site.parts.is_empty() {
            return false;
        }
        self.ask(Stage::Publish, Head, "site", 1.0);
        let newest = self.site.parts.values().map(|(written, _)| *written + 1).max().unwrap_or(0);
        if newest <= self.site.listed {
            return false;
        }
        self.site.listed = newest;
        self.ask(Stage::Publish, Put, "site", 1.0);
        self.ask(Stage::Publish, Get, "site", 1.0);
        self.ask(Stage::Publish, List, "site", World::pages(2 * self.published_handlers() + self.site.parts.len()));
        true
    }

    /// The digests of the entries of a shard, in all hours.
    pub(super) fn digests(&mut self, rank: usize, stage: Stage, shard: Shard, entries: &View) {
        let handlers = self.handlers.len() as f64 / f64::from(shard.count());
        let parts = entries.visible_parts();
        for (_, block) in parts.iter().filter(|(of, _)| *of == shard) {
            let rows = block.meta.rows as f64 / block.shards().len().max(1) as f64;
            let hit = rows.min(handlers).max(1.0);
            let bytes = (hit * self.digest_bytes(rows / hit)) as usize;
            if self.workers[rank].knows_digest((block.id(), shard), bytes) {
                continue;
            }
            if block.is_level0() {
                // From its rows; where a row group holds several shards, by the page index.
                let index = block.shards().len() > 1 && !self.workers[rank].knows_index(block);
                self.ask(stage, Get, "entries/shard=all", 1.0 + f64::from(u8::from(index)));
            } else {
                self.ask(stage, Get, "entries", 1.0);
            }
        }
    }

    /// Reads traces from the blocks that may hold them, as [`rows::wanted`] says.
    fn read_traces(&mut self, rank: usize, spans: &View, shots: &[Shot], only: Option<&[BlockId]>, factor: f64) {
        let shown = traces(shots.iter());
        let holder = self.holders(spans, shots);
        for (block, wanted) in rows::wanted(spans, &shown) {
            if only.is_some_and(|only| !only.contains(&block.id())) {
                continue;
            }
            let holds = wanted.iter().any(|trace| holder.get(trace) == Some(&block.id()));
            let mut gets = 0.0;
            // A bloom filter, then pages of one column, then of all.
            if !block.is_level0() {
                gets += 1.0;
            }
            if block.is_level0() || holds {
                gets += f64::from(u8::from(!self.workers[rank].knows_index(block))) + 1.0;
            }
            if holds {
                gets += 1.0;
            }
            let folder = if block.is_level0() { "spans/shard=all" } else { "spans" };
            self.ask(Stage::Publish, Get, folder, gets * factor);
        }
    }

    /// Which block really has each trace: the first that was written after it came, of its hour and shard.
    fn holders(&mut self, spans: &View, shots: &[Shot]) -> HashMap<TraceId, BlockId> {
        let mut by_place: HashMap<(Shard, crate::model::Hour), Vec<&Block>> = HashMap::new();
        let hours: std::collections::HashSet<_> = shots.iter().map(Shot::hour).collect();
        for (shard, block) in spans.visible_parts() {
            if hours.contains(&block.key.hour) {
                by_place.entry((shard, block.key.hour)).or_default().push(block);
            }
        }
        let mut holders = HashMap::new();
        for shot in shots {
            let shard = Shard::of_trace(shot.trace, self.world.scenario.shards());
            let Some(blocks) = by_place.get(&(shard, shot.hour())) else { continue };
            let after = blocks.iter().filter(|block| block.modified.as_second() as f64 >= shot.second);
            let Some(first) = after.map(|block| block.modified).min() else { continue };
            let same: Vec<&&Block> = blocks.iter().filter(|block| block.modified == first).collect();
            let one = self.world.chance.random_range(0..same.len());
            holders.insert(shot.trace, same[one].id());
        }
        holders
    }
}

/// What a part says of the blocks that it was made from: a name for what is visible.
fn names(view: &View) -> String {
    let mut hash = std::hash::DefaultHasher::new();
    view.visible_parts().into_iter().for_each(|(shard, block)| (shard, block.id()).hash(&mut hash));
    hash.finish().to_string()
}
