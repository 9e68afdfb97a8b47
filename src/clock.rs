//! The only place that knows the time and chance, so that a simulation can hold both.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::time::Instant;
use ulid::Ulid;

/// Time and chance. Cheap to clone; clones share the random numbers.
///
/// Plans never use [`Clock::wall`] for the age of objects: they use the store's time
/// ([`crate::farm::StoreClock`]), because a worker's own clock may be wrong.
#[derive(Clone)]
pub struct Clock {
    inner: Arc<Inner>,
}

struct Inner {
    /// A simulation's wall time when the clock was made; `None`: the machine's is asked each time, as it may be set.
    wall: Option<Timestamp>,
    /// The runtime's monotonic time when the clock was made: tests pause it.
    started: Instant,
    /// `--now`: what is added to the store's time, and to nothing else.
    offset: SignedDuration,
    /// `--haste`: how many times as fast as the runtime's the monotonic time goes, if it is not the same.
    haste: Option<f64>,
    chance: Mutex<StdRng>,
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clock({})", self.wall())
    }
}

impl Clock {
    /// The machine's clock and the system's random numbers. `offset` moves the store's time (`--now`).
    #[expect(clippy::disallowed_methods, reason = "the one place that asks for the system's random numbers")]
    pub fn system(offset: SignedDuration) -> Self {
        Self::with(None, offset, rand::make_rng(), None)
    }

    /// The same, but everything that waits for [`Clock::monotonic`] or [`Clock::sleep`] waits `haste` times as short, so
    /// that a test sees in seconds what a worker does in a quarter of an hour. Times of objects go as they go.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks for the system's random numbers")]
    pub fn hasty(offset: SignedDuration, haste: f64) -> Self {
        Self::with(None, offset, rand::make_rng(), Some(haste))
    }

    /// A clock that says `wall` now and goes on with the runtime's (maybe paused) time; chance comes from `seed`.
    pub fn simulated(wall: Timestamp, seed: u64) -> Self {
        Self::with(Some(wall), SignedDuration::ZERO, StdRng::seed_from_u64(seed), None)
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that reads the runtime's clock")]
    fn with(wall: Option<Timestamp>, offset: SignedDuration, chance: StdRng, haste: Option<f64>) -> Self {
        let started = Instant::now();
        Self { inner: Arc::new(Inner { wall, started, offset, haste, chance: Mutex::new(chance) }) }
    }

    /// Time since the clock was made; never goes back.
    pub fn monotonic(&self) -> Duration {
        let elapsed = self.inner.started.elapsed();
        self.inner.haste.map_or(elapsed, |haste| elapsed.mul_f64(haste))
    }

    /// The machine's idea of the time: for logs, names and people.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    pub fn wall(&self) -> Timestamp {
        match self.inner.wall {
            Some(wall) => wall + SignedDuration::try_from(self.monotonic()).unwrap_or(SignedDuration::MAX),
            None => Timestamp::now(),
        }
    }

    /// The clock by which this machine's kernel dates files: it goes in ticks of some milliseconds and is up to one of
    /// them behind [`Clock::wall`], so a file written after this was asked is never dated before it.
    pub fn files(&self) -> Timestamp {
        #[cfg(target_os = "linux")]
        if self.inner.wall.is_none() {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
            let nanos = i32::try_from(now.tv_nsec).unwrap_or(0);
            return Timestamp::new(now.tv_sec, nanos).unwrap_or(Timestamp::UNIX_EPOCH);
        }
        self.wall()
    }

    /// Processor time that this process has used, in all its threads: for measuring. Zero where it cannot be told, and in
    /// simulations.
    pub fn processor(&self) -> Duration {
        #[cfg(unix)]
        if self.inner.wall.is_none() {
            let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
            return Duration::try_from(used).unwrap_or_default();
        }
        Duration::ZERO
    }

    /// What `--now` adds to the store's time.
    pub fn offset(&self) -> SignedDuration {
        self.inner.offset
    }

    /// A new ULID: names of blocks, boots and ledger entries.
    pub fn ulid(&self) -> Ulid {
        let millis = u64::try_from(self.wall().as_millisecond()).unwrap_or(0);
        let mut chance = self.inner.chance.lock().unwrap_or_else(PoisonError::into_inner);
        Ulid::from_parts(millis, u128::from(chance.next_u64()) << 64 | u128::from(chance.next_u64()))
    }

    /// A random number in `0.0..1.0`, for jitter.
    pub fn fraction(&self) -> f64 {
        self.inner.chance.lock().unwrap_or_else(PoisonError::into_inner).random()
    }

    /// Waits; a test that pauses the runtime's time does not.
    #[expect(clippy::disallowed_methods, reason = "the one place that sleeps")]
    pub async fn sleep(&self, time: Duration) {
        tokio::time::sleep(self.inner.haste.map_or(time, |haste| time.div_f64(haste))).await;
    }
}
