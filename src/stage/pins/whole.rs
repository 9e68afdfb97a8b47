//! A whole trace: all services, also where a parent lies further back.

use std::collections::{BTreeMap, HashSet};

use arrow::record_batch::RecordBatch;

use super::Desk;
use crate::error::{Result, is_not_found, store_kind, told};
use crate::model::TraceId;
use crate::query::columns::Spans;
use crate::query::pin::{self, Pins};
use crate::query::relisted;
use crate::query::rows::{self, Traces};
use crate::table::view::View;

/// How many hours before the window parents are looked for while one is missing. Each step costs a look into the blocks
/// of those hours, and a parent that nobody ever sent (a caller without tracefarm) is missing for ever.
const EARLIER_HOURS: [i32; 2] = [6, 24];

/// The rows of `traces` in the blocks of `spans`, each trace one sorted run; those with a missing parent are looked for
/// in earlier hours, too, and in the pins of the trace under other handlers. A trace without rows is absent.
///
/// # Errors
/// If a block or a pin cannot be read.
pub(super) async fn whole_traces(
    desk: &Desk,
    spans: &View,
    elsewhere: &Pins,
    traces: Traces,
) -> Result<BTreeMap<TraceId, RecordBatch>> {
    let mut whole = BTreeMap::new();
    let mut looking = traces;
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
            return Ok(whole);
        }
    }
    // What is not in the blocks any more may have been pinned with an entry of an earlier hour.
    for trace in looking.into_keys() {
        let mut parts = match pinned(desk, elsewhere, trace).await {
            // A version was replaced since that listing, maybe by this very item: another has its rows.
            Err(report) if is_not_found(&report) => {
                relisted(|| async { pinned(desk, &Pins::all(&desk.store).await?, trace).await }).await?
            }
            parts => parts?,
        };
        parts.extend(whole.remove(&trace));
        if let Some(rows) = rows::union(&parts)? {
            whole.insert(trace, rows);
        }
    }
    Ok(whole)
}

/// The rows of `trace` in the pins of a listing. One that is damaged is left out: nobody can read it.
///
/// # Errors
/// Those of the store: what is in a pin that cannot be read right now must not be missing from another for ever.
async fn pinned(desk: &Desk, pins: &Pins, trace: TraceId) -> Result<Vec<RecordBatch>> {
    let mut parts = Vec::new();
    for version in pins.of_trace(trace) {
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
