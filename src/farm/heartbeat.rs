//! A worker's sign of life, which is also how it learns the store's time (rule 8).

use jiff::Timestamp;

use crate::clock::Clock;

/// The store's clock: last-modified of my own newest heartbeat plus monotonic time since, plus `--now`'s offset.
#[derive(Clone)]
pub struct StoreClock {}

impl StoreClock {
    /// A clock that knows nothing yet.
    pub fn new(clock: Clock) -> Self {
        let _ = clock;
        todo!()
    }

    /// The store's time; never ahead of the true one. `None` before the first heartbeat.
    pub fn now(&self) -> Option<Timestamp> {
        todo!()
    }

    /// Whether the newest heartbeat is younger than 60 s: without that a worker deletes nothing.
    pub fn is_fresh(&self) -> bool {
        todo!()
    }
}
