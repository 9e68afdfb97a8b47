//! The only place that spawns: every task keeps its span (so that an error can tell the way it came), and is joined.

use std::future::Future;

use tracing::{Instrument, Span};

use crate::error::{Result, report};

/// Runs CPU-bound work off the async threads, in the current span. On a runtime of one thread (simulations) it runs
/// in place, so that a seed decides everything.
pub async fn cpu<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    if tokio::runtime::Handle::current().runtime_flavor() == tokio::runtime::RuntimeFlavor::CurrentThread {
        return work();
    }
    let span = Span::current();
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns blocking work, with its span")]
    let task = tokio::task::spawn_blocking(move || span.in_scope(work));
    joined(task.await)
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
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(report!("the task was stopped")),
    }
}
