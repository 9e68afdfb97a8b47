//! The farm that is served: its store, what of it is kept in memory, and how much may be asked of it at once.

use std::future::Future;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use super::failure::Failure;
use crate::clock::Clock;
use crate::error::Result;
use crate::farm::health::systemd::Service;
use crate::model::Hour;
use crate::query::Reader;
use crate::query::operations::{self, Known};
use crate::query::skipped::{Lacks, Skipped};
use crate::store::Store;
use crate::table::read::Blocks;
use crate::task;

/// How old the settings and the catalogue may be: as for a worker.
const DOCUMENTS_FRESH: Duration = Duration::from_secs(60);

/// How old the list of services and operations may be.
const OPERATIONS_FRESH: Duration = Duration::from_secs(30);

/// How long a list of services and operations may take: what it has then is the answer, and the next one gets further.
const OPERATIONS_TIME: Duration = Duration::from_secs(10);

/// How many queries run at a time: each may hold a hundred megabytes.
const QUERIES: usize = 4;

/// How long a query waits for its turn.
const TURN: Duration = Duration::from_secs(5);

/// What is served. Cheap to clone.
#[derive(Clone)]
pub struct Farm(Arc<Shared>);

struct Shared {
    store: Store,
    blocks: Blocks,
    clock: Clock,
    reader: Kept<Reader>,
    operations: Kept<(Arc<Known>, Skipped)>,
    metrics: Kept<Arc<str>>,
    queries: Arc<Semaphore>,
    skipped: Skipped,
    incomplete_answers: AtomicU64,
}

impl Farm {
    /// Serves what is in `store`, with at most about `cache_bytes` of footers, digests and names kept.
    pub fn new(store: Store, clock: Clock, cache_bytes: usize) -> Self {
        let blocks = Blocks::new(store.clone(), cache_bytes);
        Self(Arc::new(Shared {
            store,
            blocks,
            clock,
            reader: Kept::default(),
            operations: Kept::default(),
            metrics: Kept::default(),
            queries: Arc::new(Semaphore::new(QUERIES)),
            skipped: Skipped::default(),
            incomplete_answers: AtomicU64::new(0),
        }))
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// What queries read from, with settings and a catalogue that are at most a minute old.
    pub async fn reader(&self) -> Result<Reader> {
        let shared = &self.0;
        let load = || Reader::with_blocks(shared.store.clone(), shared.clock.clone(), shared.blocks.clone());
        shared.reader.get(&shared.clock, DOCUMENTS_FRESH, load).await
    }

    /// Asks something of the store, on a thread for itself; the answer, and what was left out for it.
    pub async fn query<T, F>(&self, ask: impl FnOnce(Reader) -> F + Send + 'static) -> Result<(T, Skipped)>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>>,
    {
        let skipped = self.0.skipped.of_another_query();
        let reader = Reader { skipped: skipped.clone(), ..self.reader().await? };
        Ok((task::query(move || ask(reader)).await?, skipped))
    }

    /// What an answer about `hours` lacks of what was `skipped` for it; counted if it lacks something.
    pub fn lacks(&self, skipped: &Skipped, hours: impl RangeBounds<Hour>) -> Lacks {
        let lacks = skipped.within(hours);
        self.0.incomplete_answers.fetch_add(u64::from(!lacks.0.is_empty()), Ordering::Relaxed);
        lacks
    }

    /// How many answers have lacked something.
    pub fn incomplete_answers(&self) -> u64 {
        self.0.incomplete_answers.load(Ordering::Relaxed)
    }

    /// Services and operations, and what was left out for them.
    pub async fn operations(&self) -> Result<(Arc<Known>, Lacks)> {
        let known = |reader: Reader| async move { Ok(Arc::new(operations::known(&reader, OPERATIONS_TIME).await?)) };
        let list = || self.query(known);
        let (known, skipped) = self.0.operations.get(&self.0.clock, OPERATIONS_FRESH, list).await?;
        Ok((known, self.lacks(&skipped, ..)))
    }

    /// The text of `/metrics`, made by `make` unless there is one that is at most `fresh` old.
    pub async fn metrics<F: Future<Output = Result<Arc<str>>>>(
        &self,
        fresh: Duration,
        make: impl FnOnce(Reader) -> F + Send + 'static,
    ) -> Result<Arc<str>> {
        self.0.metrics.get(&self.0.clock, fresh, async || Ok(self.query(make).await?.0)).await
    }

    /// A query's turn; it is over when this is dropped.
    ///
    /// # Errors
    /// "Try again" if others take too long.
    pub async fn turn(&self) -> Result<OwnedSemaphorePermit, Failure> {
        match tokio::time::timeout(TURN, Arc::clone(&self.0.queries).acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "too many queries at once: try again")),
        }
    }
}

/// For systemd: it is told when requests are answered.
impl Service for Farm {
    fn status(&self) -> String {
        match self.incomplete_answers() {
            0 => format!("serving {}", self.0.store.url()),
            answers => format!("serving {}; {answers} answers lack what cannot be read", self.0.store.url()),
        }
    }
}

/// A value that is good for a while. Whoever finds it too old makes a new one; who comes meanwhile waits for it.
struct Kept<T>(Mutex<Option<(Duration, T)>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Kept<T> {
    async fn get<F: Future<Output = Result<T>>>(
        &self,
        clock: &Clock,
        fresh: Duration,
        make: impl FnOnce() -> F,
    ) -> Result<T> {
        // Held while one is made. A maker whose client goes away lets go of it, and the next one makes it.
        let mut kept = self.0.lock().await;
        if let Some((made, value)) = &*kept
            && clock.monotonic() - *made < fresh
        {
            return Ok(value.clone());
        }
        let value = make().await?;
        *kept = Some((clock.monotonic(), value.clone()));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_value_is_made_once_for_all_who_ask_and_anew_when_it_is_old() {
        let (kept, made) = (Kept::default(), AtomicU32::new(0));
        let clock = Clock::simulated("2026-11-22T00:00:00Z".parse().unwrap(), 1);
        let get = || {
            kept.get(&clock, Duration::from_secs(60), || async {
                clock.sleep(Duration::from_secs(1)).await;
                Ok(made.fetch_add(1, Ordering::Relaxed))
            })
        };
        let all = futures::future::join_all((0..10).map(|_| get())).await;
        assert!(all.into_iter().all(|value| value.unwrap() == 0));
        clock.sleep(Duration::from_secs(59)).await;
        assert_eq!(get().await.unwrap(), 0);
        clock.sleep(Duration::from_secs(2)).await;
        assert_eq!(get().await.unwrap(), 1);
    }
}
