//! One item at work: in a span of its own, and within a budget of time.

use std::time::Duration;

use tracing::Instrument;

use crate::clock::Clock;
use crate::error::{Report, Result, find, report};
use crate::task::{self, OverBudget};

/// Every item has this long: the grace by default. After half of it the fence lets an item change nothing more, and it
/// has as long again to end by itself (what it has read and written by then may spare the next one work). It is time for
/// several calls in a row of which each needs all of its attempts (five of 10 s, and 13 s between them), and less than
/// the watchdog's quarter of an hour: an item that hangs ends alone.
const LEAST: Duration = Duration::from_secs(600);

/// And a second more for so many bytes of its input, as an upload has. A core does tens of times as much: what is slower
/// hangs, or has a machine that would not keep up.
const BYTES_PER_SEC: u64 = 1_000_000;

/// Runs `work`, which is the item called `item` and has about so many bytes to read. Beyond its budget it is stopped, with all
/// of its tasks: what it had begun to write is not visible (an upload that is not finished, a block under a name that
/// nobody knows), what it had written stays, as if the process had died here.
///
/// # Errors
/// Those of `work`; an [`OverBudget`], which says what it was at.
pub(super) async fn item<T>(clock: &Clock, item: &str, bytes: u64, work: impl Future<Output = Result<T>>) -> Result<T> {
    let budget = LEAST + Duration::from_secs(bytes / BYTES_PER_SEC);
    // On the heap: items are large, and stand deep in the loop of the worker.
    let work = Box::pin(work);
    let work = async {
        match task::within(clock, budget, work).await {
            Ok(outcome) => outcome,
            Err(over) => Err(report!(over).into_dynamic()),
        }
    };
    work.instrument(tracing::info_span!("item", item)).await
}

/// Whether an item was stopped because it took too long.
pub(super) fn is_over_budget(report: &Report) -> bool {
    find::<OverBudget>(report).is_some()
}
