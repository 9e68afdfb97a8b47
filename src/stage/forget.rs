//! `tracefarm forget`: a trace is to be removed everywhere.
//!
//! The command writes a tombstone (`farm/forget/<trace id>`) and nothing else is needed: readers hide the trace from
//! then on, index and compaction drop it, and once an hour this sweep looks at everything that stands: blocks that hold
//! the trace are written anew without it (and go when the new ones have stood for the grace), so are pins and pages, and
//! objects in the quarantine that hold it are deleted. It looks again every hour, because a worker that was paused may
//! write the trace once more, until `keep_for` and 14 days after the tombstone: by then every copy that nobody
//! has touched has expired, the bucket's own old versions aside.
//!
//! Dying anywhere in a sweep leaves the tombstone, and so the next sweep.

use std::collections::{BTreeSet, HashSet};
use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::record_batch::RecordBatch;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use xxhash_rust::xxh3::Xxh3;

use super::item::item;
use super::{Desk, Fence, Round, StageReport, compact, pins, publish};
use crate::error::{Result, is_not_found};
use crate::model::{Hour, Shard, Table, TraceId};
use crate::otlp::redact::Redact;
use crate::otlp::{Limits, ObjectDecoder, Progress, SpanRows};
use crate::store::layout::QuarantineKey;
use crate::store::{Key, Object, Prefix};
use crate::table::view::{Block, Scope, View, has_stood};
use crate::task;

/// How long after `keep_for` a tombstone stands: longer than any worker sleeps, and than lifecycle rules wait.
const AFTERWARDS: Duration = Duration::from_secs(14 * 24 * 3600);

/// How many blocks are looked at at a time.
const AT_A_TIME: usize = 20;

/// An object of the quarantine is decoded in pieces of this many bytes.
const STEP_BYTES: usize = 8 << 20;

/// Every tombstone, and when it was written.
pub async fn tombstones(desk: &Desk) -> Result<Vec<(TraceId, Timestamp)>> {
    let listed = desk.store.list(&Prefix::Forget).await?;
    let tombstone = |object: Object| match object.key {
        Key::Forget(trace) => Some((trace, object.modified)),
        _ => None,
    };
    Ok(listed.objects.into_iter().filter_map(tombstone).collect())
}

/// The traces that are to be forgotten.
pub async fn traces(desk: &Desk) -> Result<HashSet<TraceId>> {
    Ok(tombstones(desk).await?.into_iter().map(|(trace, _)| trace).collect())
}

/// Which objects of the quarantine have been looked at for which traces: they never change. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Looked(Arc<Mutex<HashSet<u128>>>);

/// Sweeps once: removes what is to be forgotten wherever it stands, then the tombstones whose time is over.
pub async fn run(desk: &Desk, round: &Round) -> Result<StageReport> {
    let mut report = StageReport::default();
    let tombstones = tombstones(desk).await?;
    let Some(now) = desk.store_clock().now() else { return Ok(report) };
    if tombstones.is_empty() {
        return Ok(report);
    }
    let traces: BTreeSet<TraceId> = tombstones.iter().map(|(trace, _)| *trace).collect();
    let forget = Arc::new(traces.iter().copied().collect::<HashSet<_>>());
    let forced = forced(desk, &traces).await?;
    if !forced.is_empty() {
        report.add(compact::rewrite(desk, round, forced, forget.clone()).await?);
    }
    sweep_quarantine(desk, round, forget, &mut report).await?;
    let fence = Fence::begin(desk);
    report.deleted += pins::forget(desk, &traces, &fence).await?;
    let fence = Fence::begin(desk);
    report.deleted += publish::forget(desk, &traces, &fence).await?;
    let fence = Fence::begin(desk);
    for trace in over(&tombstones, longest_kept(desk), now) {
        // After the sweep: if it failed above, the tombstone stands for another hour.
        fence.allows_delete()?;
        desk.store.delete(&Key::Forget(trace)).await?;
        report.deleted += 1;
    }
    Ok(report)
}

fn longest_kept(desk: &Desk) -> Duration {
    desk.settings.keep_for.changes().iter().map(|change| change.value.0).max().unwrap_or_default()
}

/// The tombstones that have stood for `keep_for` and 14 days.
fn over(tombstones: &[(TraceId, Timestamp)], keep_for: Duration, now: Timestamp) -> Vec<TraceId> {
    let stands = keep_for.saturating_add(AFTERWARDS);
    let over = tombstones.iter().filter(|(_, written)| has_stood(*written, now, stands));
    over.map(|(trace, _)| *trace).collect()
}

/// The hours and shards that must be written anew: those where a block that counts really has rows of the traces (a
/// bloom filter alone would have a hundredth of all blocks written anew every hour).
async fn forced(desk: &Desk, traces: &BTreeSet<TraceId>) -> Result<BTreeSet<(Table, Hour, Shard)>> {
    let mut forced = BTreeSet::new();
    for table in Table::BOTH {
        let view = desk.view(&Scope::all(table, desk.grace)).await?;
        let parts = candidates(table, &view, traces);
        let looked = stream::iter(parts).map(|(block, shards, wanted)| {
            let blocks = desk.blocks.clone();
            async move {
                match blocks.traces(&block.key, block.size_bytes, &wanted).await {
                    Ok(rows) if rows.num_rows() > 0 => Ok(Some((block.key.hour, shards))),
                    Ok(_) => Ok(None),
                    // Merged and swept meanwhile: its output is looked at in an hour.
                    Err(report) if is_not_found(&report) => Ok(None),
                    Err(report) => Err(report),
                }
            }
        });
        let found: Vec<_> = looked.buffer_unordered(AT_A_TIME).try_collect().await?;
        for (hour, shards) in found.into_iter().flatten() {
            forced.extend(shards.into_iter().map(|shard| (table, hour, shard)));
        }
    }
    Ok(forced)
}

/// Which blocks to look at, for which shards and traces. Spans say by the trace's hash where they can be; entries are
/// sharded by their handlers, so any shard can have some.
fn candidates(table: Table, view: &View, traces: &BTreeSet<TraceId>) -> Vec<(Block, Vec<Shard>, Vec<TraceId>)> {
    let mut counting: std::collections::BTreeMap<_, (Block, Vec<Shard>)> = std::collections::BTreeMap::new();
    for shard in view.shards() {
        for block in view.pending(shard).into_iter().filter(|block| !block.is_newer_than_us()) {
            counting.entry(block.key).or_insert_with(|| (block.clone(), Vec::new())).1.push(shard);
        }
    }
    let wanted = |(block, shards): (Block, Vec<Shard>)| {
        let can_hold = |trace: &&TraceId| {
            table == Table::Entries || shards.iter().any(|shard| Shard::of_trace(**trace, shard.count()) == *shard)
        };
        let wanted: Vec<TraceId> = traces.iter().filter(can_hold).copied().collect();
        (block, shards, wanted)
    };
    counting.into_values().map(wanted).filter(|(_, _, wanted)| !wanted.is_empty()).collect()
}

/// Deletes what stands in the quarantine and can be decoded to spans of the traces.
async fn sweep_quarantine(
    desk: &Desk,
    round: &Round,
    forget: Arc<HashSet<TraceId>>,
    report: &mut StageReport,
) -> Result<()> {
    for object in desk.store.list(&Prefix::Quarantine).await?.objects {
        let Key::Quarantine(key) = &object.key else { continue };
        let looked = fingerprint(&object, &forget);
        if round.is_stopped() || round.looked.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&looked) {
            continue;
        }
        let path = object.key.path();
        match item(&desk.clock, &path, object.size_bytes, sweep_object(desk, &object, key, forget.clone())).await {
            Ok(deleted) => {
                round.looked.0.lock().unwrap_or_else(PoisonError::into_inner).insert(looked);
                report.deleted += deleted;
                report.done += u64::from(deleted > 0);
            }
            Err(cause) if is_not_found(&cause) => {}
            Err(cause) => report.fail(path, cause),
        }
    }
    Ok(())
}

async fn sweep_object(desk: &Desk, object: &Object, key: &QuarantineKey, forget: Arc<HashSet<TraceId>>) -> Result<u64> {
    let fence = Fence::begin(desk);
    let (bytes, seen) = desk.store.get(&object.key).await?;
    let message_bytes = desk.settings.max_message_bytes as usize;
    let holds = task::cpu(move || {
        let limits = Limits { message_bytes, ..Limits::default() };
        let mut decoder = ObjectDecoder::new(Cursor::new(bytes), seen.modified, limits);
        loop {
            let mut rows = SpanRows::new(Redact::default());
            let progress = decoder.decode(&mut rows, STEP_BYTES)?;
            if has_any(&rows.finish(), &forget) {
                return Ok(true);
            }
            if progress == Progress::Done {
                return Ok(false);
            }
        }
    });
    if !holds.await? {
        return Ok(0);
    }
    fence.allows_delete()?;
    // The explanation first: dying between the two leaves the object, which the next sweep finds.
    desk.store.delete(&Key::QuarantineError(key.clone())).await?;
    desk.store.delete(&object.key).await?;
    Ok(2)
}

fn has_any(rows: &RecordBatch, traces: &HashSet<TraceId>) -> bool {
    let column = rows.column_by_name("trace_id").map(|column| column.as_fixed_size_binary());
    let is_one =
        |trace: Option<&[u8]>| trace.and_then(TraceId::from_slice).is_some_and(|trace| traces.contains(&trace));
    column.is_some_and(|column| column.iter().any(is_one))
}

fn fingerprint(object: &Object, traces: &HashSet<TraceId>) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(object.key.path().as_bytes());
    for trace in traces.iter().collect::<BTreeSet<_>>() {
        hash.update(&trace.0);
    }
    hash.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tombstone_stands_for_keep_for_and_fourteen_days() {
        let day = Duration::from_secs(24 * 3600);
        let written = Timestamp::from_second(1_795_310_000).unwrap();
        let tombstones = [(TraceId([1; 16]), written), (TraceId([2; 16]), written + day)];
        assert_eq!(over(&tombstones, 7 * day, written + 21 * day - Duration::from_secs(1)), []);
        assert_eq!(over(&tombstones, 7 * day, written + 21 * day), [TraceId([1; 16])]);
        assert_eq!(over(&tombstones, 7 * day, written + 22 * day).len(), 2);
    }
}
