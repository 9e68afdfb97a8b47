//! The newest traces of near hours are pinned, then past entries go.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};

use super::covered;
use super::plan::{self, Covered, Horizon, Listed};
use super::{Times, examine, examine_blame};
use crate::error::{Report, Result, ResultExt, report};
use crate::model::{BlockId, HandlerId, Hour, Shard, Table, TraceId};
use crate::query::newest::{self, Newest};
use crate::query::pin::{ByTrace, Pins};
use crate::query::window::Window;
use crate::query::{AT_A_TIME, forgotten};
use crate::stage::item::item;
use crate::stage::pins::{self, Wanted};
use crate::stage::{Desk, Fence, Round, StageReport};
use crate::store::Key;
use crate::table::place::Placed;
use crate::table::view::{Damaged, Scope, View};

/// One round over the entries of near hours.
pub(super) async fn run(desk: &Desk, round: &Round, times: &Times) -> Result<StageReport> {
    let mut done = StageReport::default();
    let horizon = times.horizon(desk);
    let fence = Fence::begin(desk);
    // A block that appears after this listing only brings newer traces or stragglers of its own, and its name will not be
    // on the document.
    let near = Scope::all(Table::Entries, desk.grace).within(Hour::EPOCH..=horizon.last_near());
    let view = desk.view(&near).await?;
    let listed: Vec<Listed> = view.blocks.iter().map(Into::into).collect();
    let terms = covered::terms(desk).await?;
    let covered = covered::read(&desk.store, &terms, |hour| horizon.is_near(hour)).await?;

    for block in plan::damaged_that_may_go(&view.damaged, &horizon) {
        if fence.allows_delete().is_ok() {
            desk.store.delete(&Key::Block(block.key)).await?;
            done.deleted += 1;
        }
    }
    let unmarked = view.damaged.iter().filter(|block| !block.marked && horizon.is_near(block.key.hour));
    examine(desk, unmarked, &mut done).await;
    let items = plan::entries_items(&listed, &covered, &view.newer_hours(), &horizon);
    let mut hours: BTreeMap<Hour, BTreeSet<Shard>> = BTreeMap::new();
    let weights = plan::entries_weights(&items, &listed);
    for item in round.slice(items, |item| weights.get(item).copied().unwrap_or_default()) {
        hours.entry(item.hour).or_default().insert(item.shard);
    }
    if hours.is_empty() {
        return Ok(done);
    }
    let pins = Pins::all(&desk.store).await?;
    let elsewhere = pins.by_trace();
    let newest = Candidates::read(desk, &horizon, &view, &hours).await.context("find the newest traces of handlers")?;
    let work =
        Work { desk, fence: &fence, listed: &listed, covered: &covered, terms: &terms, horizon, elsewhere, newest };
    round.monitor.begin(crate::store::Stage::Expire, hours.len() as u64, 0);
    for (hour, shards) in hours {
        let name = format!("expire entries {hour}");
        if round.is_stopped() || !round.setbacks.may_try(&name) {
            done.skipped += 1;
            continue;
        }
        if fence.allows_delete().is_err() {
            // Too slow for its listing: what is left begins again with a new one.
            done.more = true;
            done.skipped += 1;
            continue;
        }
        let hours_work = async { Ok(work.hour(hour, &shards).await) };
        let failures = match item(&desk.clock, &name, work.bytes(hour), hours_work).await {
            Ok((report, failures)) => {
                done.add(report);
                failures
            }
            Err(report) => {
                done.fail(name.clone(), report);
                round.setbacks.failed(&name);
                continue;
            }
        };
        if failures.is_empty() {
            round.setbacks.done(&name);
        } else {
            round.setbacks.failed(&name);
        }
        for (shard, report) in failures {
            done.fail(name.clone(), report.context(format!("expire entries {shard}")).into_dynamic());
        }
        round.monitor.advance(crate::store::Stage::Expire, 1, 0);
    }
    round.monitor.end(crate::store::Stage::Expire);
    Ok(done)
}

/// What became of the shard for which `pin` is wanted.
fn outcome_of<'o>(
    shard_of: &BTreeMap<(HandlerId, TraceId), Shard>,
    outcomes: &'o mut BTreeMap<Shard, Option<Report>>,
    pin: &Wanted,
) -> Option<&'o mut Option<Report>> {
    outcomes.get_mut(shard_of.get(&(pin.handler.clone(), pin.trace))?)
}

struct Work<'a> {
    desk: &'a Desk,
    fence: &'a Fence,
    listed: &'a [Listed],
    covered: &'a Covered,
    terms: &'a str,
    horizon: Horizon<'a>,
    elsewhere: ByTrace<'a>,
    newest: Candidates,
}

impl Work<'_> {
    /// How much there is of `hour`.
    fn bytes(&self, hour: Hour) -> u64 {
        self.listed.iter().filter(|block| block.key.hour == hour).map(|block| block.size_bytes).sum()
    }

    /// Pins what must stay of `hour`, says so, deletes what is past. Shards without anything to pin come first: a full
    /// disk must not keep them.
    async fn hour(&self, hour: Hour, shards: &BTreeSet<Shard>) -> (StageReport, Vec<(Shard, Report)>) {
        let mut done = StageReport::default();
        let mut failures = Vec::new();
        let mut wanted: BTreeMap<Shard, Vec<Wanted>> = shards.iter().map(|shard| (*shard, Vec::new())).collect();
        for (shard, pin) in self.newest.wanted(hour) {
            if let Some(pins) = wanted.get_mut(&shard) {
                pins.push(pin);
            }
        }
        let (with_pins, without): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|(_, pins)| !pins.is_empty());

        let settled: BTreeSet<Shard> = without.iter().map(|(shard, _)| *shard).collect();
        self.cover(hour, &settled, &mut done, &mut failures).await;
        self.delete(hour, &settled, &mut done, &mut failures).await;
        if with_pins.is_empty() {
            return (done, failures);
        }
        match self.pin(with_pins, &mut done).await {
            Ok(outcomes) => {
                let mut pinned = BTreeSet::new();
                for (shard, failed) in outcomes {
                    match failed {
                        None => drop(pinned.insert(shard)),
                        Some(report) => failures.push((shard, report)),
                    }
                }
                self.cover(hour, &pinned, &mut done, &mut failures).await;
                pinned.extend(settled);
                self.delete(hour, &pinned, &mut done, &mut failures).await;
            }
            Err(report) => {
                let first = shards.first().copied();
                failures.extend(first.map(|shard| (shard, report)));
            }
        }
        (done, failures)
    }

    /// Completes the pins; for each shard the first reason why one was not, if any.
    async fn pin(
        &self,
        wanted: Vec<(Shard, Vec<Wanted>)>,
        done: &mut StageReport,
    ) -> Result<BTreeMap<Shard, Option<Report>>> {
        // Listed after the entries that say which traces must stay: what they refer to is older than they are, because
        // index writes spans before entries.
        let spans = self.desk.view(&Scope::all(Table::Spans, self.desk.grace)).await?;
        let shard_of: BTreeMap<(HandlerId, TraceId), Shard> = wanted
            .iter()
            .flat_map(|(shard, pins)| pins.iter().map(|pin| ((pin.handler.clone(), pin.trace), *shard)))
            .collect();
        let mut outcomes: BTreeMap<Shard, Option<Report>> = wanted.iter().map(|(shard, _)| (*shard, None)).collect();
        let mut pins: Vec<Wanted> = wanted.into_iter().flat_map(|(_, pins)| pins).collect();
        // Rows of a trace may stand in a block that cannot be read right now, and nobody has found to be damaged.
        let unread: Vec<&Damaged> = spans.damaged.iter().filter(|block| !block.marked).collect();
        for pin in &pins {
            let hides = unread.iter().find(|block| pin.window.holds(block.key.hour));
            if let (Some(block), Some(outcome)) = (hides, outcome_of(&shard_of, &mut outcomes, pin)) {
                let path = Key::Block(block.key).path();
                outcome
                    .get_or_insert(report!("spans of {} may stand in {path}: {}", pin.trace, block.why).into_dynamic());
            }
        }
        examine(
            self.desk,
            unread.iter().copied().filter(|block| pins.iter().any(|pin| pin.window.holds(block.key.hour))),
            done,
        )
        .await;
        pins.retain(|pin| !unread.iter().any(|block| pin.window.holds(block.key.hour)));
        let completed = match pins::complete(self.desk, self.fence, &spans, &self.elsewhere, pins).await {
            Ok(completed) => completed,
            Err(report) => {
                examine_blame(self.desk, &report, done).await;
                return Err(report);
            }
        };
        done.done += completed.written;
        done.bytes_out += completed.bytes;
        done.deleted += completed.deleted;
        for (handler, trace, report) in completed.failed {
            if let Some(outcome) = shard_of.get(&(handler, trace)).and_then(|shard| outcomes.get_mut(shard)) {
                outcome.get_or_insert(report);
            }
        }
        Ok(outcomes)
    }

    /// Writes the documents of `shards`: their pins are complete. All listed blocks are named, also those that an output
    /// hides: their rows are in the output, and so were looked at.
    async fn cover(
        &self,
        hour: Hour,
        shards: &BTreeSet<Shard>,
        done: &mut StageReport,
        failures: &mut Vec<(Shard, Report)>,
    ) {
        for shard in shards {
            let of_shard = self.listed.iter().filter(|block| block.key.hour == hour && block.shards.contains(shard));
            let blocks: BTreeSet<BlockId> = of_shard.clone().map(|block| block.key.block).collect();
            if of_shard.clone().all(|block| self.covered.names(&block.key, *shard)) {
                continue;
            }
            let written = async {
                self.fence.allows_write()?;
                covered::write(&self.desk.store, hour, *shard, self.terms, blocks, self.horizon.now).await
            };
            match written.await {
                Ok(()) => done.done += 1,
                // On a full disk, say. What is past goes all the same: its pins were completed by this very item.
                Err(report) => failures.push((*shard, report)),
            }
        }
    }

    /// Deletes the blocks of `hour` that are past and covered. A delete that is lost is done by the next round; one that
    /// is done twice is done once.
    async fn delete(
        &self,
        hour: Hour,
        settled: &BTreeSet<Shard>,
        done: &mut StageReport,
        failures: &mut Vec<(Shard, Report)>,
    ) {
        let of_hour: Vec<Listed> = self.listed.iter().filter(|block| block.key.hour == hour).cloned().collect();
        let goes = plan::entries_that_may_go(&of_hour, self.covered, settled, &self.horizon);
        let deletes = stream::iter(goes).map(|block| async move {
            self.fence.allows_delete()?;
            self.desk.store.delete(&Key::Block(block.key)).await?;
            Result::<()>::Ok(())
        });
        let mut deletes = deletes.buffer_unordered(AT_A_TIME);
        while let Some(outcome) = deletes.next().await {
            match outcome {
                Ok(()) => done.deleted += 1,
                Err(report) => {
                    let shard = settled.first().copied();
                    failures.extend(shard.map(|shard| (shard, report)));
                }
            }
        }
    }
}

/// The newest traces of the handlers with entries in the hours at hand.
struct Candidates {
    wanted: BTreeMap<Hour, Vec<(Shard, Wanted)>>,
}

impl Candidates {
    /// For each of `hours` and its shards: the traces with entries in it that are among the newest of their handler, all
    /// hours counted. `near` are the blocks of these hours.
    async fn read(
        desk: &Desk,
        horizon: &Horizon<'_>,
        near: &View,
        hours: &BTreeMap<Hour, BTreeSet<Shard>>,
    ) -> Result<Self> {
        let forgotten = forgotten(&desk.store).await?;
        let stays = |handler: &HandlerId, time_ns: i64, trace: TraceId| {
            !forgotten.contains(&trace) && !pins::sweep::is_over(desk, horizon.now, handler, time_ns)
        };
        let mut here = Newest::of_hours(&desk.blocks, near, hours).await?;
        let handlers: BTreeSet<HandlerId> = here.handlers().cloned().collect();
        // The newest of a handler are told by its entries of all hours. Of later hours what is not known only pins a trace
        // more, which the sweep takes away: a shard that the settings do not tell of, or what is so new that it has not
        // been merged. What is near must be known: it goes. Listed later than `near`: what has been replaced since is in
        // what replaced it.
        let counts = desk.settings.shards.changes().iter().map(|change| change.value);
        let counts: BTreeSet<u16> = counts.chain(near.shards().iter().map(|shard| shard.count())).collect();
        let shards = handlers.iter().flat_map(|handler| counts.iter().map(|count| Shard::of_handler(handler, *count)));
        let later = Scope::all(Table::Entries, desk.grace).of_shards(shards).merged_after(horizon.last_near());
        let everywhere = Newest::of_handlers(&desk.blocks, &desk.view(&later).await?, &handlers).await?;
        let mut wanted: BTreeMap<Hour, Vec<(Shard, Wanted)>> = BTreeMap::new();
        for handler in &handlers {
            let keep = newest::keep_last(&desk.settings, &desk.catalogue.1, handler);
            let newest = everywhere.newest(handler, keep, |time_ns, trace| stays(handler, time_ns, trace));
            here.read_rows(&desk.blocks, near, handler, &newest).await?;
            for (hour, shard, entries) in here.in_hours(handler) {
                let mut windows: BTreeMap<TraceId, Window> = BTreeMap::new();
                for entry in entries {
                    let window = Window::of_entry(Placed { time_ns: entry.time_ns, hour }, entry.duration_ns);
                    let joined = windows.get(&entry.trace).map_or(window, |known| known.join(window));
                    windows.insert(entry.trace, joined);
                }
                for (start_ns, trace) in &newest {
                    if let Some(window) = windows.get(trace) {
                        let (handler, trace, start_ns) = (handler.clone(), *trace, *start_ns);
                        let pin = Wanted { handler, trace, start_ns, window: *window };
                        wanted.entry(hour).or_default().push((shard, pin));
                    }
                }
            }
        }
        Ok(Self { wanted })
    }

    fn wanted(&self, hour: Hour) -> impl Iterator<Item = (Shard, Wanted)> + '_ {
        self.wanted.get(&hour).into_iter().flatten().cloned()
    }
}
