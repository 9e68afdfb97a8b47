//! level 0 → level 1, and the removal of what has been replaced.
//!
//! A merge only adds: its output names what it replaces (rule 2), and every reader and planner goes by that. The inputs
//! go in a later pass, when the output has stood for the grace. So a worker may die anywhere, two may merge the same, or
//! one may write an output long after its inputs are gone: there is a copy too many until the next merge, never a row
//! too few.

pub mod plan;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};

pub use plan::{Delete, Facts, Merge, Plan, Why};

use super::item::{is_over_budget, item};
use super::quarantine::{self, Health};
use super::{Desk, Fence, Fenced, Round, StageReport, forget, lanes};
use crate::error::{Result, bail, is_not_found, report, store_kind};
use crate::model::{Hour, Shard, Table, TraceId};
use crate::store::{Key, Stage};
use crate::table::merge::{self, MergeSpec, Merged};
use crate::table::view::{Damaged, Scope, View};

/// Files of level 1 end at about this size: large enough for engines, small enough to be written again.
pub const FILE_BYTES: u64 = 1 << 30;

/// A round begins merges for at most this long: then other stages have their turn.
const ROUND_LASTS: Duration = Duration::from_secs(60);

/// How many deletes are under way at a time.
const DELETES_AT_A_TIME: usize = 20;

/// Lists both tables and says what is to be merged and deleted. Changes nothing.
pub async fn plan(desk: &Desk, round: &Round) -> Result<Plan> {
    let _ = round;
    Ok(look(desk, BTreeSet::new()).await?.0)
}

/// The plan and the damaged blocks that have not been marked yet.
async fn look(desk: &Desk, forced: BTreeSet<(Table, Hour, Shard)>) -> Result<(Plan, Vec<Damaged>)> {
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
        let view: View = desk.view(&scope).await?;
        plan.add(table, &view, &facts);
        damaged.extend(view.damaged.into_iter().filter(|damaged| !damaged.marked));
    }
    Ok((plan, damaged))
}

/// Deletes what has been replaced for as long as the grace, then does my slice of the merges, for about a minute
/// (`--once`: all of them). With a grace of zero the inputs go in the same round.
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
    let (plan, damaged) = look(desk, forced).await?;
    warn(desk, round, &plan);
    for damaged in damaged {
        examine(desk, damaged, &mut report).await;
    }
    sweep(desk, round, &fence, plan.deletes, &mut report).await;
    let merged = merges(desk, round, plan.merges, forget, &mut report).await?;
    if merged > 0 && desk.grace.is_zero() {
        let fence = Fence::begin(desk);
        let (plan, _) = look(desk, BTreeSet::new()).await?;
        sweep(desk, round, &fence, plan.deletes, &mut report).await;
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
    // Each is a request, however large the block.
    let mine = round.slice(deletes, |_| 1);
    let deletes = stream::iter(mine).map(|delete| {
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
    let mine = round.slice(merges, |merge| merge.bytes.max(1));
    let (mine, later): (Vec<Merge>, Vec<Merge>) =
        mine.into_iter().partition(|merge| round.setbacks.may_try(&merge.name()));
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
