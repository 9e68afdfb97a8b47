//! Past spans go, once nobody can need them any more.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};

use super::covered;
use super::plan::{self, Listed};
use super::{Times, examine, examine_blame, unread_hours};
use crate::error::{Result, ResultExt, is_not_found};
use crate::model::{HandlerId, Hour, Shard, ShardDir, Table, TraceId};
use crate::query::pin::Pins;
use crate::query::{AT_A_TIME, rows};
use crate::stage::item::item;
use crate::stage::pins;
use crate::stage::{Desk, Fence, Round, StageReport};
use crate::store::Key;
use crate::table::view::Scope;

/// One round over past spans.
pub(super) async fn run(desk: &Desk, round: &Round, times: &Times) -> Result<StageReport> {
    let mut done = StageReport::default();
    let horizon = times.horizon(desk);
    let fence = Fence::begin(desk);
    // The order of these three is rule 5: spans, then entries, then what is covered. Entries that were written after
    // the first listing belong to spans that are not on it, or that had an entry before; and a document that was read
    // after the entries were listed was completed by a listing of them.
    let spans = super::names(&desk.store, Table::Spans).await?;
    let past =
        || spans.iter().filter(|block| horizon.may_go(block.key.hour, block.modified)).map(|block| block.key.hour);
    let (Some(first), Some(last)) = (past().min(), past().max()) else {
        done.add(forget_documents(desk, &fence, &spans, times).await?);
        return Ok(done);
    };
    // What may hold them is of the hour without times, of these, or of their neighbours.
    let holders = Scope::all(Table::Entries, desk.grace).within(Hour::EPOCH..=last.next());
    let entries = desk.view(&holders).await?;
    let covered = covered::read(&desk.store, &covered::terms(desk).await?, |hour| horizon.is_near(hour)).await?;

    let listed: Vec<Listed> = entries.blocks.iter().map(Into::into).collect();
    // Whether a block is damaged, or of a newer program, is told by its footer; a view of spans reads those.
    // Only of hours that may go: the others are most of a store.
    let view = desk.view(&Scope::all(Table::Spans, desk.grace).within(first..=last)).await?;
    let mut left_alone = view.newer_hours();
    left_alone.extend(entries.newer_hours());
    let hours =
        plan::spans_that_may_go(&spans, &listed, &covered, &unread_hours(&entries.damaged), &left_alone, &horizon);
    let marked: BTreeSet<_> = view.damaged.iter().filter(|block| block.marked).map(|block| block.key).collect();
    let unreadable: BTreeSet<_> = view.damaged.iter().filter(|block| !block.marked).map(|block| block.key).collect();

    let past = view.damaged.iter().filter(|block| !block.marked && horizon.is_past(block.key.hour, block.modified));
    examine(desk, past, &mut done).await;

    let items: Vec<(ShardDir, Hour, Vec<Listed>)> = by_dir(hours);
    for (dir, hour, blocks) in round.slice(items, |(.., blocks)| blocks.iter().map(|block| block.size_bytes).sum()) {
        let name = format!("expire spans {dir} {hour}");
        if round.is_stopped() || !round.setbacks.may_try(&name) {
            done.skipped += 1;
            continue;
        }
        if fence.allows_delete().is_err() {
            done.more = true;
            done.skipped += 1;
            continue;
        }
        let (gone, blocks): (Vec<Listed>, Vec<Listed>) =
            blocks.into_iter().partition(|block| marked.contains(&block.key));
        let blocks: Vec<Listed> = blocks.into_iter().filter(|block| !unreadable.contains(&block.key)).collect();
        let outcome = async {
            let mut report = delete(desk, &fence, &gone).await?;
            report.add(expire(desk, &fence, &blocks).await?);
            Result::<StageReport>::Ok(report)
        };
        let bytes = blocks.iter().map(|block| block.size_bytes).sum();
        match item(&desk.clock, &name, bytes, outcome).await {
            Ok(report) => {
                round.setbacks.done(&name);
                done.add(report);
            }
            // Rule 4: a peer whose listing said other things had it, too, and was sooner. List again.
            Err(report) if is_not_found(&report) => {
                done.more = true;
                done.skipped += 1;
            }
            Err(report) => {
                examine_blame(desk, &report, &mut done).await;
                round.setbacks.failed(&name);
                done.fail(name, report);
            }
        }
    }
    done.add(forget_documents(desk, &fence, &super::names(&desk.store, Table::Spans).await?, times).await?);
    Ok(done)
}

/// The items, sorted by shard: level 0 is one of its own.
fn by_dir(hours: BTreeMap<Hour, Vec<Listed>>) -> Vec<(ShardDir, Hour, Vec<Listed>)> {
    let mut items: BTreeMap<(ShardDir, Hour), Vec<Listed>> = BTreeMap::new();
    for (hour, blocks) in hours {
        for block in blocks {
            items.entry((block.key.dir, hour)).or_default().push(block);
        }
    }
    items.into_iter().map(|((dir, hour), blocks)| (dir, hour, blocks)).collect()
}

/// Adds the rows of pinned traces in `blocks` to their pins, then deletes the blocks.
async fn expire(desk: &Desk, fence: &Fence, blocks: &[Listed]) -> Result<StageReport> {
    let mut done = StageReport::default();
    if blocks.is_empty() {
        return Ok(done);
    }
    // Listed right before: a pin that is written later was completed by its writer from these very blocks, or its
    // writer met one that was gone and begins again.
    let pins = Pins::all(&desk.store).await?;
    let pinned = pins.all_traces();
    for block in blocks {
        let traces: Vec<TraceId> = match block.key.dir {
            ShardDir::All => pinned.iter().copied().collect(),
            ShardDir::One(shard) => {
                pinned.iter().copied().filter(|trace| Shard::of_trace(*trace, shard.count()) == shard).collect()
            }
        };
        if traces.is_empty() {
            continue;
        }
        let path = Key::Block(block.key).path();
        let read = desk.blocks.traces(&block.key, block.size_bytes, &traces).await;
        let found = read.context(format!("look for rows of pinned traces in {path}"))?;
        for (trace, rows) in rows::by_trace(&found)? {
            let handlers: BTreeSet<&HandlerId> = pins.of_trace(trace).map(|pin| &pin.handler).collect();
            for handler in handlers {
                let added = pins::add_rows(desk, fence, handler, trace, None, vec![rows.clone()]).await?;
                done.done += added.written;
                done.bytes_out += added.bytes;
                done.deleted += added.deleted;
            }
        }
    }
    done.add(delete(desk, fence, blocks).await?);
    Ok(done)
}

async fn delete(desk: &Desk, fence: &Fence, blocks: &[Listed]) -> Result<StageReport> {
    let mut done = StageReport::default();
    let deletes = stream::iter(blocks).map(|block| async move {
        fence.allows_delete()?;
        desk.store.delete(&Key::Block(block.key)).await?;
        Result::<()>::Ok(())
    });
    let mut deletes = deletes.buffer_unordered(AT_A_TIME);
    while let Some(outcome) = deletes.next().await {
        outcome?;
        done.deleted += 1;
    }
    Ok(done)
}

/// Deletes the documents of hours that have no block left. If a straggler arrives right then, its pins are completed
/// once more and the document is written again.
async fn forget_documents(desk: &Desk, fence: &Fence, spans: &[Listed], times: &Times) -> Result<StageReport> {
    let mut done = StageReport::default();
    let documents = covered::documents(&desk.store).await?;
    if documents.is_empty() {
        return Ok(done);
    }
    let entries = super::names(&desk.store, Table::Entries).await?;
    let hours: BTreeSet<Hour> = spans.iter().chain(&entries).map(|block| block.key.hour).collect();
    let horizon = times.horizon(desk);
    for (hour, shard) in documents {
        if !hours.contains(&hour) && horizon.is_near(hour) && fence.allows_delete().is_ok() {
            covered::delete(&desk.store, hour, shard).await?;
            done.deleted += 1;
        }
    }
    Ok(done)
}
