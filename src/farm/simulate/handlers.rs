//! Handlers that are made up, with the traces that their pages show.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::model::{HandlerId, Hour, Shard, TraceId};
use crate::query::rows::Traces;
use crate::query::window::Window;
use crate::stage::publish::summary::EXAMPLES;
use crate::table::place::Placed;

/// A trace that a page shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shot {
    /// Seconds since 1970.
    pub second: f64,
    pub trace: TraceId,
    /// How slow, from 0 to 1.
    slow: f64,
}

/// One handler.
pub(super) struct Handler {
    pub shard: Shard,
    /// Newest first.
    newest: Vec<Shot>,
    errors: Vec<Shot>,
    slowest: Vec<Shot>,
    /// Up to when its requests have been looked at.
    until: f64,
}

/// What has come to a handler since its pages were made.
pub(super) struct Changes {
    /// Its entries.
    pub entries: bool,
    /// What its entries called has been counted by a merge.
    pub calls: bool,
}

impl Handler {
    /// A handler that has been hit `rate` times a second for as long as `kept` seconds before `second`; not at all if that
    /// is nothing.
    pub fn new(number: usize, shards: u16, rate: f64, errors: f64, second: f64, kept: f64) -> Self {
        let id: Option<HandlerId> = format!("web/get-r{number}-{number:08x}").parse().ok();
        let shard = id.map(|id| Shard::of_handler(&id, shards)).or(Shard::new(0, shards));
        let mut handler = Self {
            shard: shard.unwrap_or_else(|| unreachable!("a store has a shard")),
            newest: Vec::new(),
            errors: Vec::new(),
            slowest: Vec::new(),
            until: second,
        };
        if kept > 0.0 {
            let mut chance = StdRng::seed_from_u64(number as u64);
            handler.hit(&mut chance, rate * kept, second - kept, second, 10, errors);
        }
        handler
    }

    /// Hits since the last call up to `until`, at `rate` a second; what of it changes pages. What it called was counted up
    /// to `compacted.0` then, and is up to `compacted.1` now.
    pub fn look(
        &mut self,
        chance: &mut StdRng,
        rate: f64,
        errors: f64,
        until: f64,
        keep: usize,
        compacted: (f64, f64),
    ) -> Changes {
        let from = self.until;
        let mean = rate * (until - from).max(0.0);
        let before = self.newest.first().map(|shot| shot.second);
        self.hit(chance, mean, from, until, keep, errors);
        self.until = from.max(until);
        Changes {
            entries: self.newest.first().map(|shot| shot.second) != before,
            calls: self.newest.iter().any(|shot| compacted.0 < shot.second && shot.second <= compacted.1),
        }
    }

    fn hit(&mut self, chance: &mut StdRng, mean: f64, from: f64, until: f64, keep: usize, errors: f64) {
        let hits = poisson(chance, mean);
        let keep = keep.min(crate::table::digest::NEWEST_KEPT);
        let add = |list: &mut Vec<Shot>, times: Vec<f64>, most: usize, chance: &mut StdRng| {
            for second in times {
                list.insert(0, Shot { second, trace: TraceId(chance.random()), slow: chance.random() });
            }
            list.sort_by(|a, b| b.second.total_cmp(&a.second));
            list.truncate(most);
        };
        let some = newest_of(chance, hits, from, until, keep);
        add(&mut self.newest, some, keep, chance);
        let failed = poisson(chance, hits as f64 * errors).min(hits);
        let some = newest_of(chance, failed, from, until, EXAMPLES);
        add(&mut self.errors, some, EXAMPLES, chance);
        // Of so many hits the slowest: their ranks are those of the greatest of as many even numbers.
        let mut slow = 1.0;
        for n in 0..hits.min(EXAMPLES as u64) {
            slow *= chance.random::<f64>().powf(1.0 / (hits - n) as f64);
            let second = from + chance.random::<f64>() * (until - from);
            self.slowest.push(Shot { second, trace: TraceId(chance.random()), slow });
        }
        self.slowest.sort_by(|a, b| b.slow.total_cmp(&a.slow));
        self.slowest.truncate(EXAMPLES);
    }

    /// The traces that its page shows.
    pub fn shown(&self) -> impl Iterator<Item = &Shot> {
        self.newest.iter().chain(&self.errors).chain(&self.slowest)
    }
}

impl Shot {
    pub fn hour(&self) -> Hour {
        Hour::of_ns((self.second * 1e9) as i64)
    }

    /// Where pages look for it.
    pub fn window(&self) -> Window {
        Window::of_entry(Placed { time_ns: (self.second * 1e9) as i64, hour: self.hour() }, 0).earlier(1)
    }
}

/// All of `shots`, and where each is looked for.
pub(super) fn traces<'a>(shots: impl Iterator<Item = &'a Shot>) -> Traces {
    shots.map(|shot| (shot.trace, shot.window())).collect()
}

/// The newest `most` of `hits` even moments.
fn newest_of(chance: &mut StdRng, hits: u64, from: f64, until: f64, most: usize) -> Vec<f64> {
    let mut left = 1.0;
    let mut times = Vec::new();
    for n in 0..hits.min(most as u64) {
        left *= chance.random::<f64>().powf(1.0 / (hits - n) as f64);
        times.push(from + left * (until - from));
    }
    times
}

/// A number of events of which `mean` come on average.
fn poisson(chance: &mut StdRng, mean: f64) -> u64 {
    if mean > 50.0 {
        // Near enough to a normal distribution.
        let sum: f64 = (0..12).map(|_| chance.random::<f64>()).sum::<f64>() - 6.0;
        return (mean + sum * mean.sqrt()).round().max(0.0) as u64;
    }
    let (limit, mut product, mut events) = ((-mean).exp(), chance.random::<f64>(), 0);
    while product > limit {
        product *= chance.random::<f64>();
        events += 1;
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_come_as_often_as_they_should() {
        let mut chance = StdRng::seed_from_u64(1);
        for mean in [0.2, 5.0, 200.0] {
            let sum: u64 = (0..2_000).map(|_| poisson(&mut chance, mean)).sum();
            assert!((sum as f64 / 2_000.0 / mean - 1.0).abs() < 0.1, "{mean}: {sum}");
        }
        let newest = newest_of(&mut chance, 1_000, 0.0, 1_000.0, 10);
        assert_eq!(newest.len(), 10);
        assert!(newest.is_sorted_by(|a, b| a > b) && newest[9] > 950.0, "{newest:?}");
    }
}
