//! The only place that spawns: every task keeps its span (so that an error can tell the way it came), and is joined.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::LazyLock;

use rayon_core::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;
use tracing::{Instrument, Span};

use crate::error::{Result, report};

/// One thread a core. Always the same few: an allocator keeps memory for each thread that it has seen, and batches that
/// wander over the runtime's hundreds of blocking threads leave some of theirs in each.
static CORES: LazyLock<Result<ThreadPool, ThreadPoolBuildError>> =
    LazyLock::new(|| ThreadPoolBuilder::new().thread_name(|number| format!("cpu-{number}")).build());

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
    let (span, runtime) = (Span::current(), Handle::current());
    cores.spawn_fifo(move || {
        let _runtime = runtime.enter();
        let outcome = catch_unwind(AssertUnwindSafe(|| span.in_scope(work)));
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

fn is_alone() -> bool {
    Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread
}

/// Runs `work` as a task of its own in the current span; aborted when the handle is dropped.
pub fn spawn<T, F>(work: F) -> Task<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns tasks, with their span")]
    let handle = tokio::spawn(work.in_current_span());
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
