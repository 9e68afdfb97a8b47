//! Notices that nothing moves any more.

use std::time::Duration;

use crate::clock::Clock;
use crate::farm::Record;
use crate::store::{Stage, Store};

/// How long nothing may move.
pub(in crate::farm) const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// How often it looks.
pub(in crate::farm) const LOOKS_EVERY: Duration = Duration::from_secs(30);

/// A worker that lives asks its stores for something: a merge of an hour reads and writes all the time. Heartbeats do not
/// count: they go on beside work that hangs. Or its cycles end: also of one that only waits for its place.
pub(super) struct Watchdog {
    clock: Clock,
    stores: [Store; 2],
    record: Record,
}

impl Watchdog {
    pub fn new(clock: Clock, stores: [Store; 2], record: Record) -> Self {
        Self { clock, stores, record }
    }

    /// Ends when nothing has moved for 15 minutes.
    pub async fn barks(&self) {
        let (mut seen, mut since) = (self.done(), self.clock.monotonic());
        loop {
            self.record.watched(since);
            self.clock.sleep(LOOKS_EVERY).await;
            let (done, now) = (self.done(), self.clock.monotonic());
            if done != seen {
                (seen, since) = (done, now);
            } else if now - since >= PATIENCE {
                return;
            }
        }
    }

    /// Requests and cycles so far.
    fn done(&self) -> (u64, u64) {
        let of_stages = |store: &Store| {
            let counts = store.meter().snapshot();
            counts.total().requests - counts.of_stage(Stage::Farm).requests
        };
        (self.stores.iter().map(of_stages).sum(), self.record.cycles())
    }
}
