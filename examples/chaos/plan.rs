//! What is done to the farm, and when: a pure function of the seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub seed: u64,
    pub time: Duration,
    /// The store's.
    pub grace: Duration,
    pub kills: usize,
    pub stops: usize,
    pub resizes: usize,
}

/// Something that is done to the farm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A worker is killed with -9, and another takes its place.
    Kill {
        /// Which of those that live, counted around.
        which: usize,
        /// Not before one has something in hand, and this long after (if that comes within ten seconds).
        aimed: Option<Duration>,
        /// So long nobody takes its place.
        away: Duration,
        /// The other one has its name, as a pod has that comes back; else a new name, as a new instance.
        same_name: bool,
    },
    /// A worker stands still for so long (SIGSTOP, SIGCONT).
    Stop { which: usize, pause: Duration },
    /// One more.
    Add,
    /// One less (SIGTERM).
    Remove { which: usize },
    /// Each is told to end, and started again under its name when it has, one after the other.
    Roll,
    /// `tracefarm settings set`.
    Set(&'static str),
    /// `tracefarm handlers rename`: the handler of this place on the list becomes that of the next.
    Rename { which: usize },
}

/// By when.
pub type Plan = Vec<(Duration, What)>;

/// A worker looks dead after this: its last heartbeat is a minute old.
const LOOKS_DEAD: Duration = Duration::from_secs(60);

/// Settings that are changed on the way; none changes what is to come out.
const SETTINGS: [&str; 4] = ["batch_bytes=2MiB", "shards=4", "publish_every=20s", "batch_bytes=1MiB"];

/// The plan of `terms`: as many of each as asked for, spread over the time.
pub fn plan(terms: &Terms) -> Plan {
    let mut chance = StdRng::seed_from_u64(terms.seed);
    let mut plan = Plan::new();
    let mut spread = |count: usize, chance: &mut StdRng, what: &mut dyn FnMut(usize, &mut StdRng) -> What| {
        for n in 0..count {
            let share = (n as f64 + chance.random::<f64>()) / count as f64;
            plan.push((terms.time.mul_f64(share), what(n, chance)));
        }
    };
    spread(terms.kills, &mut chance, &mut |_, chance| What::Kill {
        which: chance.random_range(0..64),
        aimed: chance.random_bool(0.5).then(|| Duration::from_millis(chance.random_range(0..400))),
        away: Duration::from_millis(chance.random_range(0..6_000)),
        same_name: chance.random_bool(0.3),
    });
    spread(terms.stops, &mut chance, &mut |n, chance| What::Stop {
        which: chance.random_range(0..64),
        pause: match n % 3 {
            // Also when half of the grace is over, so that the fence comes down.
            0 => LOOKS_DEAD.max(terms.grace / 2) + Duration::from_secs(chance.random_range(4..20)),
            1 => Duration::from_millis(chance.random_range(500..10_000)),
            _ => Duration::from_secs(chance.random_range(10..50)),
        },
    });
    // The farm stays about as large as it was: what is added is removed next.
    spread(terms.resizes, &mut chance, &mut |n, chance| match n % 2 {
        0 => What::Add,
        _ => What::Remove { which: chance.random_range(0..64) },
    });
    spread(SETTINGS.len(), &mut chance, &mut |n, _| What::Set(SETTINGS[n]));
    plan.push((terms.time.mul_f64(0.4), What::Rename { which: chance.random_range(0..64) }));
    plan.push((terms.time.mul_f64(0.6), What::Roll));
    plan.sort_by_key(|(at, _)| *at);
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(seed: u64) -> Terms {
        let (time, grace) = (Duration::from_secs(600), Duration::from_secs(240));
        Terms { seed, time, grace, kills: 70, stops: 20, resizes: 9 }
    }

    #[test]
    fn the_same_seed_plans_the_same() {
        assert_eq!(plan(&terms(7)), plan(&terms(7)));
        assert_ne!(plan(&terms(7)), plan(&terms(8)));
    }

    #[test]
    fn as_much_is_done_as_was_asked_for_and_in_order() {
        for seed in 0..50 {
            let plan = plan(&terms(seed));
            let count = |is: fn(&What) -> bool| plan.iter().filter(|(_, what)| is(what)).count();
            assert_eq!(count(|what| matches!(what, What::Kill { .. })), 70);
            assert_eq!(count(|what| matches!(what, What::Stop { .. })), 20);
            assert_eq!(count(|what| matches!(what, What::Add | What::Remove { .. })), 9);
            assert!(plan.is_sorted_by_key(|(at, _)| *at));
            assert!(plan.iter().all(|(at, _)| *at <= terms(seed).time));
            assert!(
                plan.iter().any(|(_, what)| matches!(what, What::Stop { pause, .. } if *pause > terms(seed).grace / 2))
            );
        }
    }
}
