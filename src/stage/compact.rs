//! level 0 → level 1, and the removal of what has been replaced.
//!
//! A merge only adds: its output names what it replaces (rule 2), and every reader and planner goes by that. The inputs
//! go in a later pass, when the output has stood for the grace. So a worker may die anywhere, two may merge the same, or
//! one may write an output long after its inputs are gone: there is a copy too many until the next merge, never a row
//! too few.

pub mod plan;

use std::collections::{BTreeSet, HashSet};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;

pub use plan::{Delete, Facts, Merge, Plan, Why};

use super::item::{is_over_budget, item};
use super::quarantine::{self, Health};
use super::{CLOCKS_DIFFER, Desk, Fence, Fenced, Round, StageReport, forget, lanes};
use crate::error::{Result, bail, is_not_found, report, store_kind};
use crate::farm::settings::Timeline;
use crate::model::{Hour, Shard, Table, TraceId};
use crate::store::{Key, Stage};
use crate::table::merge::{self, MergeSpec, Merged};
use crate::table::view::{Block, Damaged, Parts, Scope, View};

/// Files of level 1 end at about this size: large enough for engines, small enough to be written again.
pub const FILE_BYTES: u64 = 1 << 30;

/// A round begins merges for at most this long: then other stages have their turn.
pub(crate) const ROUND_LASTS: Duration = Duration::from_secs(60);

/// Who takes no slot of the open hour, and owns none of the hours that change, looks this seldom whether there is something
/// for it.
pub(crate) const ELSEWHERE_EVERY: Duration = Duration::from_secs(15 * 60);

/// What is written to level 0 in so long is merged by one worker, of each shard …
pub(crate) const SLOT: Duration = plan::OPEN_EVERY;

/// … who looks for it so long after: then nearly all of it has waited for long enough, and none is under way.
pub(crate) const SLOT_AFTER: Duration = Duration::from_secs(60);

/// How often a worker lists whole tables: in an hour that nobody expects there may be something left to merge, of a merge
/// that failed for long.
const WHOLE_EVERY: Duration = Duration::from_secs(3600);

/// How many deletes are under way at a time.
const DELETES_AT_A_TIME: usize = 20;

/// Lists both tables and says what is to be merged and deleted. Changes nothing.
pub async fn plan(desk: &Desk, _: &Round) -> Result<Plan> {
    Ok(look(desk, None, BTreeSet::new()).await?.0)
}

/// The parts of the blocks that one of several workers looks at, merges and sweeps.
///
/// What is to be merged is *dealt* by shard and hour ([`Round::is_dealt`]), and so are the hours, whose workers look at all
/// shards of it: a level-0 block goes when every shard it has rows of has been merged. So a worker lists level 0, the
/// folders of its own parts, and reads no footers but theirs. If all listed all and took slices of it, a farm of 500 would
/// read each footer 500 times and each page of a table 1,440 times a day and worker: with its load, that grew with the
/// square.
///
/// What is indexed into an open hour is dealt by the five minutes in which it was written instead, to whoever it may be:
/// a farm of hundreds writes more into a shard than one worker merges meanwhile. Whose hour and shard it is merges what
/// these have merged, and when the hour is over all of it.
///
/// It only saves work (rule 4). If peers change, what was dealt to others is anew, and everybody looks at once. Of two that
/// see other peers, or one of which runs a program that takes slices, both may merge a part, or none until they agree. A
/// worker that dies leaves its parts for the minute in which it still counts. A part whose shard is of another count than
/// its hour (settings that were changed by hand) is whose hour it is, when it next lists the whole. What is deleted is
/// judged by part of a table only in one direction: an output that was not listed replaces nothing.
#[derive(Clone)]
struct Dealt {
    round: Round,
    shards: Timeline<u16>,
    whole: bool,
    now: Timestamp,
}

impl Dealt {
    /// None: all is mine.
    fn of(desk: &Desk, round: &Round) -> Option<Self> {
        if desk.once || round.peers <= 1 {
            return None;
        }
        let (whole, now) = (round.whole.is_due(desk.clock.monotonic()), desk.store_clock().now()?);
        Some(Self { round: round.clone(), shards: desk.settings.shards.clone(), whole, now })
    }

    fn is_my_hour(&self, hour: Hour) -> bool {
        Shard::new(0, *self.shards.at(hour)).is_some_and(|first| self.round.is_dealt(hour.number().into(), first))
    }

    /// Whether the runs of a part are mine.
    fn has(&self, hour: Hour, shard: Shard) -> bool {
        match shard.count() == *self.shards.at(hour) {
            true => self.round.is_dealt(hour.number().into(), shard),
            // Unless the whole was listed, its level 1 was not.
            false => self.whole && self.is_my_hour(hour),
        }
    }

    /// Whether what was written to level 0 in a slot is mine, of a shard.
    fn takes(&self, hour: Hour, slot: i64, shard: Shard) -> bool {
        match shard.count() == *self.shards.at(hour) && self.now < dealt_until(hour) {
            true => self.round.is_dealt(slot, shard),
            false => self.has(hour, shard),
        }
    }

    fn parts(&self) -> Parts {
        let (shards, held, taken) = (self.shards.clone(), self.clone(), self.clone());
        Parts {
            shards: Arc::new(move |hour| *shards.at(hour)),
            holds: Arc::new(move |hour, shard| held.is_my_hour(hour) || held.has(hour, shard)),
            slot: slot_of,
            takes: Arc::new(move |hour, slot, shard| taken.is_my_hour(hour) || taken.takes(hour, slot, shard)),
            near: (!self.whole).then(|| near(self.now)),
        }
    }

    /// Whether of a block something is to be merged by me.
    fn is_mine(&self, shard: Shard, block: &Block) -> bool {
        match block.is_level0() {
            true => self.takes(block.key.hour, slot_of(block.modified), shard),
            false => self.has(block.key.hour, shard),
        }
    }

    /// In how long there may be something for me that is not on a listing of now.
    fn longest(&self) -> Duration {
        let shards = *self.shards.at(Hour::of(self.now));
        let takes = |slot| Shard::all(shards).any(|shard| self.round.is_dealt(slot, shard));
        longest(self.now, takes, |hour| self.is_my_hour(hour))
    }
}

/// In how long there may be something for a worker of a farm that is not on a listing of now: who takes of a slot, and whose
/// an hour is.
pub(crate) fn longest(now: Timestamp, takes: impl Fn(i64) -> bool, owns: impl Fn(Hour) -> bool) -> Duration {
    // What was replaced is deleted by whose hour it is.
    let deletes = near_hours(now).any(owns).then_some(plan::OPEN_EVERY);
    next_slot(now, takes).into_iter().chain(deletes).fold(ELSEWHERE_EVERY, Duration::min)
}

/// The slot of what was written then.
pub(crate) fn slot_of(written: Timestamp) -> i64 {
    written.as_second().div_euclid(SLOT.as_secs() as i64)
}

/// In how long there is something to be looked for of the next of the slots that are `mine`.
fn next_slot(now: Timestamp, mine: impl Fn(i64) -> bool) -> Option<Duration> {
    let before = slot_of(now) - 1;
    let due = |slot: i64| (slot + 1) * SLOT.as_secs() as i64 + SLOT_AFTER.as_secs() as i64 - now.as_second();
    let slots = before..=before + (ELSEWHERE_EVERY.as_secs() / SLOT.as_secs()) as i64;
    let due = slots.filter(|slot| due(*slot) > 0).find(|slot| mine(*slot)).map(due)?;
    u64::try_from(due).ok().map(Duration::from_secs)
}

/// Until when what is indexed into an hour is dealt by slots: then it waits for the merge that closes the hour.
pub(crate) fn dealt_until(hour: Hour) -> Timestamp {
    let after = plan::CLOSED_AFTER - plan::OPEN_EVERY;
    hour.end().checked_add(after).unwrap_or(Timestamp::MAX)
}

/// The hours in which something is merged also when nothing of level 0 is left: the one that is open, and those that
/// were until a while ago.
fn near(now: Timestamp) -> RangeInclusive<Hour> {
    let open = Hour::of(now);
    open.plus(-2)..=open.next()
}

/// [`near`], one by one.
pub(crate) fn near_hours(now: Timestamp) -> impl Iterator<Item = Hour> {
    let near = near(now);
    (near.start().number()..=near.end().number()).map(Hour::from_number)
}

/// When whole tables were listed last. Clones share it.
#[derive(Clone, Default)]
pub struct Whole(Arc<Mutex<Option<Duration>>>);

impl Whole {
    fn is_due(&self, now: Duration) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none_or(|last| now - last >= WHOLE_EVERY)
    }

    fn was_listed(&self, now: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }
}

/// The plan and the damaged blocks that have not been marked yet.
async fn look(
    desk: &Desk,
    dealt: Option<&Dealt>,
    forced: BTreeSet<(Table, Hour, Shard)>,
) -> Result<(Plan, Vec<Damaged>)> {
    let Some(now) = desk.store_clock().now() else {
        bail!("the store's time is not known yet: the first heartbeat is missing");
    };
    let keep_for = desk.settings.keep_for.clone();
    let facts = Facts { now, grace: desk.grace, once: desk.once, keep_for, forced };
    let (mut plan, mut damaged) = (Plan::default(), Vec::new());
    for table in Table::BOTH {
        let scope = Scope::all(table, desk.grace);
        // To forget a trace, also hours that are one run each are written anew.
        let scope = if facts.forced.is_empty() { scope.unsettled() } else { scope };
        let scope = if let Some(dealt) = dealt { scope.of_parts(dealt.parts()) } else { scope };
        let view: View = desk.view(&scope).await?;
        plan.add_some(table, &view, &facts, |shard, block| dealt.is_none_or(|dealt| dealt.is_mine(shard, block)));
        damaged.extend(view.damaged.into_iter().filter(|damaged| !damaged.marked));
    }
    if let Some(dealt) = dealt.filter(|dealt| dealt.whole) {
        dealt.round.whole.was_listed(desk.clock.monotonic());
    }
    Ok((plan, damaged))
}

/// Until when nothing can be due, by a plan that was just done: what is indexed from now on waits for five minutes in an
/// open hour. (Eight blocks of level 0 are enough sooner, for whoever happens to look.) In a bucket of a week that is a
/// dozen listings every five minutes, of one worker or of those whose turn it is ([`Dealt::longest`]), and not every minute
/// of each.
fn rests_until(desk: &Desk, dealt: Option<&Dealt>, plan_next: Option<Timestamp>) -> Option<Duration> {
    // On one person's machine listings cost nothing.
    let now = desk.store_clock().now().filter(|_| !desk.pace.is_eager())?;
    let longest = dealt.map_or(plan::OPEN_EVERY, Dealt::longest);
    let due = plan_next
        .map_or(longest, |next| Duration::try_from(next.duration_since(now)).unwrap_or_default() + CLOCKS_DIFFER);
    Some(desk.clock.monotonic() + due.min(longest))
}

/// Deletes what has been replaced for as long as the grace, then does my part of the merges, for about a minute
/// (`--once`: all of my slice, by weight). With a grace of zero the inputs go in the same round.
///
/// # Errors
/// When nothing can be done: the store does not answer.
pub async fn run(desk: &Desk, round: &Round) -> Result<StageReport> {
    let forget = Arc::new(forget::traces(desk).await?);
    rewrite(desk, round, BTreeSet::new(), forget).await
}

/// [`run`], and what is `forced` is written anew without the traces of `forget`.
pub(super) async fn rewrite(
    desk: &Desk,
    round: &Round,
    forced: BTreeSet<(Table, Hour, Shard)>,
    forget: Arc<HashSet<TraceId>>,
) -> Result<StageReport> {
    let mut report = StageReport::default();
    // Before the listing: what is deleted was decided by it.
    let fence = Fence::begin(desk);
    let dealt = if forced.is_empty() { Dealt::of(desk, round) } else { None };
    let (plan, damaged) = look(desk, dealt.as_ref(), forced).await?;
    let rests_until = rests_until(desk, dealt.as_ref(), plan.next);
    warn(desk, round, &plan);
    for damaged in damaged {
        examine(desk, damaged, &mut report).await;
    }
    // Each delete is a request, however large the block.
    let deletes = if dealt.is_some() { plan.deletes } else { round.slice(plan.deletes, |_| 1) };
    sweep(desk, round, &fence, deletes, &mut report).await;
    let mine = if dealt.is_some() { plan.merges } else { round.slice(plan.merges, |merge| merge.bytes.max(1)) };
    let merged = merges(desk, round, mine, forget, &mut report).await?;
    if merged > 0 && desk.grace.is_zero() {
        let fence = Fence::begin(desk);
        let (plan, _) = look(desk, None, BTreeSet::new()).await?;
        sweep(desk, round, &fence, plan.deletes, &mut report).await;
    }
    if report.failed.is_empty() && report.skipped == 0 && !report.more {
        report.rests_until = rests_until;
    }
    Ok(report)
}

fn warn(desk: &Desk, round: &Round, plan: &Plan) {
    for (table, hour) in &plan.newer {
        let message = format!("a newer program wrote to {table} of {hour}: this one leaves that hour alone");
        round.warn(&desk.clock, Stage::Compact, &message);
    }
    for (path, why) in &plan.damaged {
        round.warn(&desk.clock, Stage::Compact, &format!("{path} is skipped: {why}"));
    }
}

/// Deletes blocks, each only while the fence stands. A block that is gone already was somebody else's to delete.
async fn sweep(desk: &Desk, round: &Round, fence: &Fence, deletes: Vec<Delete>, report: &mut StageReport) {
    let deletes = stream::iter(deletes).map(|delete| {
        let (desk, fence, stopped) = (desk.clone(), fence.clone(), round.is_stopped());
        async move {
            let outcome = match (delete.key, stopped) {
                (Some(key), false) => remove(&desk, &fence, Key::Block(key)).await,
                _ => Ok(Err(None)),
            };
            (delete.path, outcome)
        }
    });
    let mut deletes = deletes.buffer_unordered(DELETES_AT_A_TIME);
    while let Some((path, outcome)) = deletes.next().await {
        match outcome {
            Ok(Ok(())) => report.deleted += 1,
            // The next pass lists again.
            Ok(Err(_)) => report.skipped += 1,
            Err(cause) => report.fail(path, cause),
        }
    }
}

async fn remove(desk: &Desk, fence: &Fence, key: Key) -> Result<Result<(), Option<Fenced>>> {
    if let Err(fenced) = fence.allows_delete() {
        return Ok(Err(Some(fenced)));
    }
    desk.store.delete(&key).await?;
    Ok(Ok(()))
}

async fn merges(
    desk: &Desk,
    round: &Round,
    merges: Vec<Merge>,
    forget: Arc<HashSet<TraceId>>,
    report: &mut StageReport,
) -> Result<u64> {
    let (mine, later): (Vec<Merge>, Vec<Merge>) =
        merges.into_iter().partition(|merge| round.setbacks.may_try(&merge.name()));
    report.skipped += later.len() as u64;
    if mine.is_empty() {
        return Ok(0);
    }
    let (started, lanes) = (desk.clock.monotonic(), lanes());
    round.monitor.begin(Stage::Compact, mine.len() as u64, mine.iter().map(|merge| merge.bytes).sum());
    let running = stream::iter(mine).map(|merge| {
        let (desk, round, forget) = (desk.clone(), round.clone(), forget.clone());
        async move {
            // Asked when its turn comes.
            let over = round.is_stopped() || (!desk.once && desk.clock.monotonic() - started > ROUND_LASTS);
            let name = merge.name();
            let outcome = match over {
                true => None,
                false => Some(item(&desk.clock, &name, merge.bytes, one(&desk, &merge, &forget, lanes)).await),
            };
            (merge, outcome)
        }
    });
    let mut running = running.buffer_unordered(lanes);
    let mut merged = 0;
    while let Some((merge, outcome)) = running.next().await {
        let name = merge.name();
        match outcome {
            None => {
                report.skipped += 1;
                report.more = true;
            }
            Some(Ok(done)) => {
                round.setbacks.done(&name);
                merged += 1;
                report.done += 1;
                report.rows_in += done.rows_in;
                report.rows_out += done.rows_out;
                report.bytes_in += merge.bytes;
                report.bytes_out += done.files.iter().map(|(_, object)| object.size_bytes).sum::<u64>();
            }
            // Rule 4: an input was merged and swept meanwhile. List again.
            Some(Err(cause)) if is_not_found(&cause) => {
                report.skipped += 1;
                report.more = true;
            }
            Some(Err(cause)) => {
                round.setbacks.failed(&name);
                if store_kind(&cause).is_none() && !is_over_budget(&cause) {
                    blame(desk, &merge, report).await;
                }
                report.fail(name, cause);
            }
        }
        round.monitor.advance(Stage::Compact, 1, merge.bytes);
    }
    drop(running);
    round.monitor.end(Stage::Compact);
    Ok(merged)
}

/// Writes the output of one merge.
async fn one(desk: &Desk, merge: &Merge, forget: &HashSet<TraceId>, lanes: usize) -> Result<Merged> {
    let spec = MergeSpec {
        table: merge.table,
        shard: merge.shard,
        hour: merge.hour,
        inputs: merge.keys.clone(),
        merged_from: merge.merged_from.clone(),
        forget: forget.clone(),
        file_bytes: desk.file_bytes,
        memory_bytes: desk.memory_bytes / lanes,
    };
    merge::merge(&desk.blocks, &desk.store, &desk.clock, spec).await
}

/// A merge failed though the store answered: one of its inputs is damaged, or this program is wrong. Each is read whole,
/// alone; what cannot be read is marked and skipped from then on, so that the others are merged.
async fn blame(desk: &Desk, merge: &Merge, report: &mut StageReport) {
    for (key, size_bytes) in &merge.keys {
        let why = String::new();
        let damaged =
            Damaged { key: *key, size_bytes: *size_bytes, modified: jiff::Timestamp::MIN, why, marked: false };
        examine(desk, damaged, report).await;
    }
}

async fn examine(desk: &Desk, damaged: Damaged, report: &mut StageReport) {
    let path = Key::Block(damaged.key).path();
    match item(&desk.clock, &path, damaged.size_bytes, quarantine::examine(desk, &damaged)).await {
        Ok(Health::Sound) => {}
        Ok(Health::Damaged(why)) => {
            report.fail(path, report!("it is damaged, and left where it is: {why}"));
        }
        Err(cause) => report.fail(path, cause),
    }
}
