//! How many handlers are published together: the more, the fewer requests, because each block is opened once for all of
//! their traces; the fewer, the less memory.

use std::time::Duration;

/// To begin with: a handler shows at most 16 traces by default, of some ten spans; large ones have thousands.
const FIRST: usize = 50;

/// More are not made at once, whatever memory holds.
const MOST: usize = 5_000;

/// What takes longer than this may be too much for the time for which a listing is good.
const LONG: Duration = Duration::from_secs(100);

/// Grows while memory and time allow.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    handlers: usize,
    /// How much OTLP/JSON may be held at once. The same rows as columns, and compressed, come to about as much again.
    held_bytes: usize,
    /// How long the last chunk took.
    took: Duration,
}

impl Chunk {
    /// The first, for a worker with so much memory.
    pub fn first(memory_bytes: usize) -> Self {
        Self { handlers: FIRST, held_bytes: memory_bytes / 8, took: Duration::ZERO }
    }

    /// The first of the next part: as many as the last came to.
    pub fn again(self) -> Self {
        let handlers = if self.took > LONG { (self.handlers / 2).max(1) } else { self.handlers };
        Self { handlers, took: Duration::ZERO, ..self }
    }

    /// How many handlers.
    pub fn handlers(&self) -> usize {
        self.handlers
    }

    /// `handlers` were published, held so many bytes of OTLP/JSON, and took so long.
    pub fn done(&mut self, handlers: usize, held_bytes: usize, took: Duration) {
        let fit = handlers.saturating_mul(self.held_bytes) / held_bytes.max(1);
        // The rest of a part says nothing against as many as before.
        self.handlers = fit.clamp(1, MOST.min(self.handlers.max(2 * handlers)));
        self.took = took;
    }

    /// That many failed.
    pub fn failed(&mut self, took: Duration) {
        self.handlers = (self.handlers / 2).max(1);
        self.took = took;
    }

    /// Whether another can be written while what it is decided by may be relied on for so long: the next may take twice
    /// as long as the last, and the part itself comes after it. None: for ever.
    pub fn has_time(&self, left: Option<Duration>) -> bool {
        left.is_none_or(|left| left > 3 * self.took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_grows_to_what_memory_holds_and_shrinks_for_large_traces() {
        let mut chunk = Chunk::first(8 << 20);
        let mut sizes = Vec::new();
        for held_of_each in [1 << 10, 1 << 10, 1 << 10, 1 << 19, 1 << 21, 1 << 10] {
            let handlers = chunk.handlers();
            sizes.push(handlers);
            chunk.done(handlers, handlers * held_of_each, Duration::ZERO);
        }
        assert_eq!(sizes, [50, 100, 200, 400, 2, 1]);
        assert_eq!(chunk.handlers(), 2);
        chunk.done(MOST, 0, Duration::ZERO);
        assert_eq!(chunk.handlers(), MOST);
    }

    #[test]
    fn the_next_part_begins_with_what_the_last_came_to_but_with_less_where_that_took_long_or_failed() {
        let mut chunk = Chunk::first(8 << 20);
        chunk.done(400, 400 << 10, Duration::from_secs(60));
        let mut chunk = chunk.again();
        assert_eq!((chunk.handlers(), chunk.has_time(Some(Duration::from_secs(1)))), (800, true));
        chunk.done(800, 800 << 10, LONG * 2);
        let mut chunk = chunk.again();
        assert_eq!(chunk.handlers(), 512);
        chunk.failed(Duration::ZERO);
        assert_eq!(chunk.again().handlers(), 256);
    }

    #[test]
    fn no_chunk_begins_that_may_not_end_in_time() {
        let mut chunk = Chunk::first(8 << 20);
        let seconds = Duration::from_secs;
        assert!(chunk.has_time(Some(seconds(1))) && !chunk.has_time(Some(seconds(0))));
        chunk.done(50, 0, seconds(100));
        assert!(chunk.has_time(None) && chunk.has_time(Some(seconds(301))) && !chunk.has_time(Some(seconds(300))));
    }
}
