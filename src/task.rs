//! The only place that spawns: every task keeps its span (so that an error can tell the way it came) and its
//! [`Item`], and is joined.
//!
//! Who drops the future of a piece of work stops it: a task is aborted, a piece of CPU-bound work that has not begun
//! never does, one that waits ([`wait`]) wakes up, and one that computes ends at its end, which nobody hears. Such pieces
//! are therefore kept short: a step of a decoder, a window of a merge, one block.

mod item;

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::LazyLock;

use rayon_core::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use crate::error::{Result, report};

use item::Item;
pub use item::{Doing, OverBudget, doing, moved, within};

/// One thread a core. Always the same few: an allocator keeps memory for each thread that it has seen, and batches that
/// wander over the runtime's hundreds of blocking threads leave some of theirs in each.
static CORES: LazyLock<Result<ThreadPool, ThreadPoolBuildError>> =
    LazyLock::new(|| ThreadPoolBuilder::new().thread_name(|number| format!("cpu-{number}")).build());

thread_local! {
    /// Set when nobody wants the CPU-bound work of this thread any more.
    static GIVEN_UP: RefCell<Option<CancellationToken>> = const { RefCell::new(None) };
}

/// Runs CPU-bound work off the async threads, in the current span: as many pieces at a time as there are cores, first
/// come first served. On a runtime of one thread (simulations) it runs in place, so that a seed decides everything.
pub async fn cpu<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    if is_alone() {
        return work();
    }
    let cores = CORES.as_ref().map_err(|error| report!("start threads for CPU-bound work: {error}"))?;
    let (sender, outcome) = oneshot::channel();
    let (span, runtime, item) = (Span::current(), Handle::current(), Item::current());
    let given_up = CancellationToken::new();
    // Dropped with this future.
    let _giving_up = given_up.clone().drop_guard();
    let _doing = doing(|| "compute".to_owned());
    cores.spawn_fifo(move || {
        if given_up.is_cancelled() {
            return;
        }
        let _runtime = runtime.enter();
        GIVEN_UP.set(Some(given_up));
        let outcome = catch_unwind(AssertUnwindSafe(|| item.enter(|| span.in_scope(work))));
        GIVEN_UP.set(None);
        // Nobody waits any more for the work of an item that was stopped.
        let _ = sender.send(outcome);
    });
    match outcome.await {
        Ok(Ok(result)) => result,
        // A panic is a bug: it goes on where somebody waits for the work.
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => Err(report!("the work was stopped")),
    }
}

/// Waits, in CPU-bound work, for something that comes from an async task; none if nobody wants the work any more.
pub fn wait<T>(what: impl Future<Output = T>) -> Option<T> {
    let given_up = GIVEN_UP.with_borrow(Clone::clone);
    Handle::current().block_on(async {
        match given_up {
            None => Some(what.await),
            Some(given_up) => given_up.run_until_cancelled(what).await,
        }
    })
}

/// Runs work that waits for the machine (files) off the async threads, in the current span. In place on a runtime of
/// one thread.
pub async fn blocking<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    if is_alone() {
        return work();
    }
    let span = Span::current();
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns blocking work, with its span")]
    let task = tokio::task::spawn_blocking(move || span.in_scope(work));
    joined(task.await)
}

/// Runs a query: a future that waits for the store and is never sent to another thread, as the compiler cannot tell of
/// futures that lend to closures' futures that they could be (rust-lang/rust#102211). It has a thread for itself while
/// it runs, so whoever calls this bounds how many there are. If the caller goes away it ends where it next waits.
pub async fn query<T, W, F>(work: W) -> Result<T>
where
    T: Send + 'static,
    W: FnOnce() -> F + Send + 'static,
    F: Future<Output = Result<T>>,
{
    let stop = CancellationToken::new();
    let _stopped = stop.clone().drop_guard();
    let (span, runtime) = (Span::current(), Handle::current());
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns blocking work, with its span")]
    let task = tokio::task::spawn_blocking(move || {
        let work = span.in_scope(work).instrument(span);
        runtime.block_on(stop.run_until_cancelled_owned(work)).unwrap_or_else(|| Err(report!("the query was stopped")))
    });
    joined(task.await)
}

fn is_alone() -> bool {
    Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread
}

/// Runs `work` as a task of its own in the current span; aborted when the handle is dropped.
pub fn spawn<T, F>(work: F) -> Task<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let work = Item::current().scope(work).in_current_span();
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns tasks, with their span")]
    let handle = tokio::spawn(work);
    Task(handle)
}

/// A running task; dropping it stops it.
pub struct Task<T>(tokio::task::JoinHandle<Result<T>>);

impl<T> Task<T> {
    /// Waits for its result.
    pub async fn join(mut self) -> Result<T> {
        joined((&mut self.0).await)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn joined<T>(outcome: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    match outcome {
        Ok(result) => result,
        // A panic is a bug: it goes on where somebody waits for the task.
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        Err(_) => Err(report!("the task was stopped")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    /// Work that waits for what never comes takes every core; it ends when nobody wants it, and what stood behind it in
    /// the queue and was given up, too, never begins.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn work_that_nobody_wants_any_more_ends_or_never_begins() {
        let (begun, ended, late) =
            (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
        let cores = rayon_core::current_num_threads().max(std::thread::available_parallelism().unwrap().get());
        let hanging: Vec<Task<()>> = (0..cores)
            .map(|_| {
                let (begun, ended) = (begun.clone(), ended.clone());
                spawn(cpu(move || {
                    begun.fetch_add(1, Ordering::SeqCst);
                    assert!(wait(std::future::pending::<()>()).is_none());
                    ended.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                }))
            })
            .collect();
        while (begun.load(Ordering::SeqCst) as usize) < cores {
            tokio::task::yield_now().await;
        }
        let queued = spawn(cpu({
            let late = late.clone();
            move || {
                late.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
        }));
        tokio::task::yield_now().await;
        drop(queued);
        drop(hanging);
        // Behind all of them.
        cpu(|| Ok(())).await.unwrap();
        while (ended.load(Ordering::SeqCst) as usize) < cores {
            tokio::task::yield_now().await;
        }
        assert_eq!(late.load(Ordering::SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_item_that_takes_longer_than_its_budget_is_stopped_and_says_what_it_was_at() {
        use crate::clock::Clock;

        let clock = Clock::simulated("2026-11-22T14:00:00Z".parse().unwrap(), 1);
        let stopped = Arc::new(());
        let held = Arc::downgrade(&stopped);
        let work = async {
            let (clock, stopped) = (clock.clone(), stopped);
            moved(1_000_000);
            // In a task of its own: it is still this item's.
            let long = clock.clone();
            let read = spawn(async move {
                let _stopped = stopped;
                moved(500_000);
                let _doing = doing(|| "read spans/x".to_owned());
                long.sleep(Duration::from_secs(10_000)).await;
                Ok(())
            });
            let _doing = doing(|| "look at inbox/a".to_owned());
            clock.sleep(Duration::from_secs(100)).await;
            drop(_doing);
            read.join().await
        };
        let over = within(&clock, Duration::from_secs(300), work).await.unwrap_err();
        assert_eq!(
            over.to_string(),
            "it took longer than its 5m and was stopped; 1.5 MB had come and gone; it was at this: read spans/x (5m)"
        );
        tokio::task::yield_now().await;
        assert_eq!(held.strong_count(), 0, "its tasks are gone with it");
        assert_eq!(within(&clock, Duration::from_secs(300), async { 7 }).await.unwrap(), 7);
    }
}
