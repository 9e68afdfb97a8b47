//! Where a trace's rows are looked for, and the trace that they make.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use arrow::record_batch::RecordBatch;

use super::Desk;
use crate::error::{Result, is_not_found};
use crate::model::{Hour, TraceId};
use crate::query::columns::Spans;
use crate::query::pin::{self, Pins};
use crate::query::rows;
use crate::table::place::Placed;
use crate::table::view::View;

/// An entry that claims to last longer than this many hours has a broken clock: its window ends here.
const LONGEST_HOURS: i32 = 24;

/// How many hours before the window parents are looked for while one is missing. Each step costs a look into the blocks
/// of those hours, and a parent that nobody ever sent (a caller without tracefarm) is missing for ever.
const WIDER_HOURS: [i32; 2] = [6, 24];

/// Some hours in which a trace's rows can be. [`Hour::EPOCH`], where rows go whose times are impossible, is always one
/// of them: a trace may have one service with a broken clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// The first hour.
    pub first: Hour,
    /// The last hour.
    pub last: Hour,
}

impl Window {
    /// From the hour before an entry starts to the hour after it ends. An entry without a possible time is placed by
    /// when it was received, which is after it happened.
    pub fn of_entry(placed: Placed, duration_ns: i64) -> Self {
        let start = Hour::of_ns(placed.time_ns);
        let end = Hour::of_ns(placed.time_ns.saturating_add(duration_ns.max(0)));
        let last = end.min(start.plus(LONGEST_HOURS)).next();
        Self { first: start.plus(if placed.hour == Hour::EPOCH { -2 } else { -1 }), last }
    }

    /// Both, and what lies between.
    pub fn join(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }

    fn wider(self, hours: i32) -> Self {
        Self { first: self.first.plus(-hours), ..self }
    }

    /// The blocks of `view` in these hours, and in the hour of impossible times.
    pub fn of(self, view: &View) -> View {
        let holds = |hour: Hour| hour == Hour::EPOCH || (self.first..=self.last).contains(&hour);
        View {
            began: view.began,
            blocks: view.blocks.iter().filter(|block| holds(block.key.hour)).cloned().collect(),
            damaged: view.damaged.iter().filter(|damaged| holds(damaged.key.hour)).cloned().collect(),
            foreign: Vec::new(),
        }
    }
}

/// The rows of `traces` in the blocks of `window`, each trace one sorted run; those with a missing parent are looked for
/// in earlier hours, too, and in the pins of the trace under other handlers. A trace without rows is absent.
///
/// # Errors
/// If a block cannot be read.
pub(super) async fn whole_traces(
    desk: &Desk,
    spans: &View,
    elsewhere: &Pins,
    window: Window,
    traces: BTreeSet<TraceId>,
) -> Result<BTreeMap<TraceId, RecordBatch>> {
    let mut whole = BTreeMap::new();
    let mut looking = traces;
    for hours in std::iter::once(0).chain(WIDER_HOURS) {
        let found = rows::of_traces(&desk.blocks, &window.wider(hours).of(spans), &looking).await?;
        let mut orphaned = BTreeSet::new();
        for (trace, parts) in found {
            if let Some(rows) = rows::union(&parts)? {
                if !has_parents(&rows)? {
                    orphaned.insert(trace);
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
    for trace in looking {
        for version in elsewhere.of_trace(trace) {
            let more = match pin::read(&desk.store, version).await {
                Ok(rows) => rows,
                // Only a help: the pins of the handler itself are read with care where they are completed.
                Err(report) if is_not_found(&report) => continue,
                Err(report) => {
                    tracing::warn!(%trace, "a pin that may complete the trace cannot be read\n{report}");
                    continue;
                }
            };
            let parts: Vec<RecordBatch> = whole.remove(&trace).into_iter().chain([more]).collect();
            if let Some(rows) = rows::union(&parts)? {
                whole.insert(trace, rows);
            }
        }
    }
    Ok(whole)
}

/// Whether the parent of each span is among `rows`.
fn has_parents(rows: &RecordBatch) -> Result<bool> {
    let columns = Spans::of(rows)?;
    let there: HashSet<_> = (0..columns.len()).map(|row| columns.span(row)).collect();
    Ok((0..columns.len()).filter_map(|row| columns.parent(row)).all(|parent| there.contains(&parent)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_reaches_from_the_hour_before_to_the_hour_after() {
        let hour: Hour = "2026-11-22T14".parse().unwrap();
        let at = |ns: i64| Placed { time_ns: hour.start_ns() + ns, hour };
        let window = |first, last| Window { first: hour.plus(first), last: hour.plus(last) };
        assert_eq!(Window::of_entry(at(0), 0), window(-1, 1));
        assert_eq!(Window::of_entry(at(3_599_999_999_999), 1), window(-1, 2), "it ends in the next hour");
        assert_eq!(Window::of_entry(at(0), -5), window(-1, 1), "it ends before it starts");
        assert_eq!(Window::of_entry(at(0), i64::MAX), window(-1, 25), "nobody is served for centuries");
        let received = Placed { time_ns: hour.start_ns(), hour: Hour::EPOCH };
        assert_eq!(Window::of_entry(received, 0), window(-2, 1));
    }
}
