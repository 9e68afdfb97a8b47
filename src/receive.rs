//! Receives OTLP and writes it into the inbox: traces over HTTP ([`http`], protobuf and JSON) and gRPC ([`grpc`]).
//!
//! ```text
//! request ─▶ memory ─▶ unpack, check ─▶ batch ─▶ one object in inbox/ ─▶ the answers of all that are in it
//! ```
//!
//! Who is answered with success can rely on it: the spans stand in the store, durable. An answer that comes too late for
//! its client, or is lost, makes the client send again; the spans then stand twice and are one (rule 3 of the store).
//! A receiver remembers nothing; any number may run, as long as one likes.
//!
//! Everything is bounded: what a request may hold, unpacked ([`Options::request_bytes`]); what all that wait hold
//! together ([`Options::memory_bytes`]: who would be beyond is told to come again at once); connections and heads
//! ([`crate::serve::listen`]), and the time for a body. Sources: <https://opentelemetry.io/docs/specs/otlp/>.

mod batch;
mod body;
mod counts;
pub mod grpc;
pub mod http;
mod memory;
pub mod metrics;
mod refusal;

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

pub use batch::Batcher;
pub use counts::{Counts, Told};
use memory::{Held, Memory};
pub use refusal::Refusal;

use crate::clock::Clock;
use crate::error::told;
use crate::otlp::Limits;
use crate::otlp::request::{self, Checked, Compression, Encoding};
use crate::serve::guard::Token;
use crate::store::Store;
use crate::task;
use batch::Waiting;

/// How long a request waits for its batch to be durable. The store's client tries for longer; whoever sent it is asked to
/// send it again, which is harmless.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// How a receiver works.
#[derive(Clone)]
pub struct Options {
    /// A batch is written when it has so many bytes of messages …
    pub batch_bytes: usize,
    /// … or its first request has waited this long.
    pub batch_time: Duration,
    /// The largest request, unpacked.
    pub request_bytes: usize,
    /// What all requests that wait may hold together.
    pub memory_bytes: usize,
    /// How a message may be built.
    pub limits: Limits,
    /// Under which names clients of HTTP may ask ([`crate::serve::guard::hosts`]).
    pub hosts: Option<Arc<[String]>>,
    /// Origins of pages that may send; beside them, where names are bounded, pages of this machine.
    pub origins: Vec<HeaderValue>,
    /// What clients must know.
    pub token: Option<Token>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            batch_bytes: 8 << 20,
            batch_time: Duration::from_millis(500),
            request_bytes: 16 << 20,
            memory_bytes: 256 << 20,
            limits: Limits::default(),
            hosts: None,
            origins: Vec::new(),
            token: None,
        }
    }
}

/// Takes requests in. Cheap to clone.
#[derive(Clone)]
pub struct Receiver(Arc<Shared>);

struct Shared {
    options: Options,
    memory: Memory,
    counts: Arc<Counts>,
    queue: mpsc::UnboundedSender<Waiting>,
}

impl Receiver {
    /// A receiver, and what writes its batches into the inbox of `store` as long as it runs.
    pub fn new(store: Store, clock: Clock, options: Options) -> (Self, Batcher) {
        // Without a bound of its own: each request in it holds memory.
        let (queue, requests) = mpsc::unbounded_channel();
        let counts = Arc::<Counts>::default();
        let batcher = Batcher::new(store, clock, requests, &options, counts.clone());
        let memory = Memory::new(options.memory_bytes);
        (Self(Arc::new(Shared { options, memory, counts, queue })), batcher)
    }

    /// What came and what became of it, so far.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.0.counts
    }

    fn options(&self) -> &Options {
        &self.0.options
    }

    /// Checks one message and waits until it is durable.
    async fn take(
        &self,
        body: Bytes,
        compression: Option<Compression>,
        encoding: Encoding,
        held: Held,
    ) -> Result<Checked, Refusal> {
        let options = &self.0.options;
        let (most, limits) = (options.request_bytes, options.limits.clone());
        let looked = task::cpu(move || look(body, compression, encoding, most, &limits, held));
        let (checked, held) = looked.await.map_err(|report| {
            tracing::error!(failure = told(&report), "a request could not be looked at");
            Refusal::Failed
        })??;
        if checked.spans > 0 {
            let (answer, outcome) = oneshot::channel();
            let waiting = Waiting { message: checked.message.clone(), held, answer };
            self.0.queue.send(waiting).map_err(|_| Refusal::Stopping)?;
            // If the client goes away here, its spans stay in their batch: kept, and not confirmed.
            match tokio::time::timeout(ANSWER_TIME, outcome).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Err(Refusal::Unwritten),
                Ok(Err(_)) => return Err(Refusal::Stopping),
                Err(_) => return Err(Refusal::Late),
            }
        }
        self.0.counts.took(&checked);
        Ok(checked)
    }
}

/// Unpacks and checks; nothing waits here.
fn look(
    body: Bytes,
    compression: Option<Compression>,
    encoding: Encoding,
    most: usize,
    limits: &Limits,
    mut held: Held,
) -> crate::error::Result<Result<(Checked, Held), Refusal>> {
    let message = match compression {
        None => body,
        Some(compression) => match request::unpack(&body, compression, most) {
            Ok(Some(message)) => message.into(),
            Ok(None) => return Ok(Err(Refusal::TooLarge(most))),
            Err(why) => return Ok(Err(Refusal::Unreadable(why.0))),
        },
    };
    // One at a time on each core: that it is held before it is counted is bounded.
    if let Err(full) = held.hold(message.len()) {
        return Ok(Err(full));
    }
    Ok(match request::check(message, encoding, limits)? {
        Ok(checked) => Ok((checked, held)),
        Err(why) => Err(Refusal::Unreadable(why.0)),
    })
}

#[cfg(test)]
mod tests;
