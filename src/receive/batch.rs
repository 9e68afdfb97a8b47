//! Many requests, one object: what waits is written together, and each is answered when the object is durable.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::memory::Held;
use super::{Counts, Options};
use crate::clock::Clock;
use crate::error::{Result, ResultExt, told};
use crate::otlp::request;
use crate::store::{Key, Store};
use crate::task;

/// How many objects are written at a time. While so many are under way the open batch goes on growing, as far as there is
/// memory: a slow store gets larger objects, not more of them.
const WRITES: usize = 8;

/// A request that waits for its batch.
pub(super) struct Waiting {
    pub message: Bytes,
    /// Given back when it is answered.
    pub held: Held,
    /// Whether the message is durable.
    pub answer: oneshot::Sender<bool>,
}

/// The batch that requests come into.
#[derive(Default)]
struct Open {
    requests: Vec<Waiting>,
    bytes: usize,
    /// When the first came.
    began: Duration,
}

impl Open {
    fn add(&mut self, request: Waiting, now: Duration) {
        if self.requests.is_empty() {
            self.began = now;
        }
        self.bytes += request.message.len();
        self.requests.push(request);
    }

    /// How long it may still wait for company; none if nothing is in it.
    fn waits(&self, now: Duration, batch_bytes: usize, batch_time: Duration) -> Option<Duration> {
        if self.requests.is_empty() {
            return None;
        }
        let full = self.bytes >= batch_bytes;
        Some(if full { Duration::ZERO } else { batch_time.saturating_sub(now.saturating_sub(self.began)) })
    }
}

/// Writes batches. Runs beside the servers that fill them, and ends after them.
pub struct Batcher {
    store: Store,
    clock: Clock,
    requests: mpsc::UnboundedReceiver<Waiting>,
    batch_bytes: usize,
    batch_time: Duration,
    counts: Arc<Counts>,
}

impl Batcher {
    pub(super) fn new(
        store: Store,
        clock: Clock,
        requests: mpsc::UnboundedReceiver<Waiting>,
        options: &Options,
        counts: Arc<Counts>,
    ) -> Self {
        let (batch_bytes, batch_time) = (options.batch_bytes, options.batch_time);
        Self { store, clock, requests, batch_bytes, batch_time, counts }
    }

    /// Writes what `serving` takes in, until that has ended and what waited is answered. Once `stop` is set nothing waits
    /// for company any more. `wrote` is called after each object.
    ///
    /// Whoever drops this, or kills the process, leaves requests without an answer: they are sent again.
    ///
    /// # Errors
    /// Those of `serving`.
    pub async fn beside(
        self,
        serving: impl Future<Output = Result<()>>,
        stop: &CancellationToken,
        wrote: impl Fn(),
    ) -> Result<()> {
        let end = CancellationToken::new();
        let serving = async {
            serving.await?;
            end.cancel();
            Ok(())
        };
        tokio::try_join!(serving, self.run(stop, &end, wrote)).map(drop)
    }

    /// Works until `end` is set (or every [`super::Receiver`] is gone) and what waited is answered.
    async fn run(mut self, stop: &CancellationToken, end: &CancellationToken, wrote: impl Fn()) -> Result<()> {
        let mut open = Open::default();
        let mut writing = FuturesUnordered::new();
        let mut ended = false;
        while !(ended && open.requests.is_empty() && writing.is_empty()) {
            let (hurries, now) = (stop.is_cancelled(), self.clock.monotonic());
            let batch_time = if hurries || ended { Duration::ZERO } else { self.batch_time };
            let waits = open.waits(now, self.batch_bytes, batch_time).filter(|_| writing.len() < WRITES);
            if waits == Some(Duration::ZERO) {
                writing.push(self.write(std::mem::take(&mut open)));
                continue;
            }
            tokio::select! {
                request = self.requests.recv(), if !ended => match request {
                    Some(request) => open.add(request, self.clock.monotonic()),
                    None => ended = true,
                },
                () = self.clock.sleep(waits.unwrap_or_default()), if waits.is_some() => {}
                Some(written) = writing.next() => {
                    let _: Result<()> = written;
                    wrote();
                }
                () = stop.cancelled(), if !hurries => {}
                // What is sent before still comes, then none.
                () = end.cancelled(), if !self.requests.is_closed() => self.requests.close(),
            }
        }
        Ok(())
    }

    /// Writes one batch and answers its requests.
    fn write(&self, batch: Open) -> impl Future<Output = Result<()>> + use<> {
        let (store, counts, key) = (self.store.clone(), self.counts.clone(), Key::received(self.clock.ulid()));
        let path = key.path();
        let work = async move {
            let messages: Vec<Bytes> = batch.requests.iter().map(|request| request.message.clone()).collect();
            let written = async {
                let object = task::cpu(move || Ok(request::pack(&messages)?)).await.context("pack requests")?;
                let bytes = object.len();
                // Create-only, under a name that nobody else has. If the answer is lost, it is read back; if even that
                // fails, the object may stand there all the same: then its requests are sent again, and their spans
                // stand twice and are one. If the process dies here, nobody was answered.
                store.create(&key, object.into()).await?;
                Ok::<_, crate::error::Report>(bytes)
            };
            let durable = match written.await {
                Ok(bytes) => {
                    counts.wrote(bytes);
                    true
                }
                Err(report) => {
                    counts.failed();
                    let requests = batch.requests.len();
                    tracing::error!(
                        failure = told(&report),
                        requests,
                        "a batch could not be written; its senders are told to come again"
                    );
                    false
                }
            };
            for request in batch.requests {
                // Gone, if its client did not wait.
                let _ = request.answer.send(durable);
                drop(request.held);
            }
            Ok(())
        };
        let span = tracing::info_span!("batch", object = path);
        span.in_scope(|| task::spawn(work)).join()
    }
}
