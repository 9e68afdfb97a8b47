//! A whole trace: all services, also where a parent lies further back.

use std::collections::{BTreeMap, HashSet};

use arrow::record_batch::RecordBatch;

use super::Desk;
use crate::error::{Result, is_not_found, store_kind, told};
use crate::model::TraceId;
use crate::query::columns::Spans;
use crate::query::pin::{self, ByTrace, Pins};
use crate::query::relisted;
use crate::query::rows::{self, Traces};
use crate::store::layout::PinKey;
use crate::table::view::View;

/// How many hours before the window parents are looked for while one is missing. Each step costs a look into the blocks
/// of those hours, and a parent that nobody ever sent (a caller without tracefarm) is missing for ever.
const EARLIER_HOURS: [i32; 2] = [6, 24];

/// The rows of `traces` in the blocks of `spans` and in their pins under other handlers (`elsewhere`), each trace one
/// sorted run; those with a missing parent are looked for in earlier hours, too. A trace without rows is absent.
///
/// # Errors
/// If a block or a pin cannot be read.
pub(super) async fn whole_traces(
    desk: &Desk,
    spans: &View,
    elsewhere: &ByTrace<'_>,
    traces: Traces,
) -> Result<BTreeMap<TraceId, RecordBatch>> {
    let mut whole = BTreeMap::new();
    let mut looking = traces.clone();
    for hours in std::iter::once(0).chain(EARLIER_HOURS) {
        let earlier = looking.iter().map(|(trace, window)| (*trace, window.earlier(hours))).collect();
        let found = rows::of_traces(&desk.blocks, spans, &earlier).await?;
        let mut orphaned = Traces::new();
        for (trace, parts) in found {
            if let Some(rows) = rows::union(&parts)? {
                if let Some(window) = looking.get(&trace)
                    && !has_parents(&rows)?
                {
                    orphaned.insert(trace, *window);
                }
                whole.insert(trace, rows);
            }
        }
        looking = orphaned;
        if looking.is_empty() {
            break;
        }
    }
    // What is not in the blocks any more may have been pinned with an entry of another handler or an earlier hour. No row
    // tells that it had children: every such pin counts.
    for trace in traces.into_keys() {
        let found: Option<RecordBatch> = whole.remove(&trace);
        let hash = found.as_ref().map(pin::rows_hash).transpose()?;
        let versions = elsewhere.get(&trace).into_iter().flatten().copied();
        let mut parts = match pinned(desk, versions, trace, hash).await {
            // A version was replaced since that listing, maybe by this very item: another has its rows.
            Err(report) if is_not_found(&report) => {
                relisted(|| async { pinned(desk, Pins::all(&desk.store).await?.of_trace(trace), trace, hash).await })
                    .await?
            }
            parts => parts?,
        };
        parts.extend(found);
        if let Some(rows) = rows::union(&parts)? {
            whole.insert(trace, rows);
        }
    }
    Ok(whole)
}

/// The rows of `trace` in these `versions` of its pins, but for those whose names say that they hold just the rows of
/// `hash`. One that is damaged is left out: nobody can read it.
///
/// # Errors
/// Those of the store: what is in a pin that cannot be read right now must not be missing from another for ever.
async fn pinned<'p>(
    desk: &Desk,
    versions: impl Iterator<Item = &'p PinKey>,
    trace: TraceId,
    hash: Option<u64>,
) -> Result<Vec<RecordBatch>> {
    let mut parts = Vec::new();
    for version in versions.filter(|version| hash != Some(version.rows)) {
        match pin::read(&desk.store, version).await {
            Ok(rows) => parts.push(rows),
            Err(report) if store_kind(&report).is_some() => return Err(report),
            Err(report) => {
                tracing::warn!(%trace, failure = told(&report), "a pin that may complete the trace is damaged")
            }
        }
    }
    Ok(parts)
}

/// Whether the parent of each span is among `rows`.
fn has_parents(rows: &RecordBatch) -> Result<bool> {
    let columns = Spans::of(rows)?;
    let there: HashSet<_> = (0..columns.len()).map(|row| columns.span(row)).collect();
    Ok((0..columns.len()).filter_map(|row| columns.parent(row)).all(|parent| there.contains(&parent)))
}
