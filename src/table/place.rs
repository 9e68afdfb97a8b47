//! Where a row goes: the time it counts by, and so its hour.

use crate::model::Hour;

/// 2000-01-01T00:00:00Z in nanoseconds: no span started earlier.
const EARLIEST_NS: u64 = 946_684_800_000_000_000;
/// How far ahead of its receipt a span may start: the clocks of applications differ.
const AHEAD_NS: i64 = 3_600_000_000_000;

/// A row's placed time and hour. A pure function of the row, so that every worker tells the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its start, else its end, else when it was received: what `latest/` and "newest" go by. Nanoseconds since 1970.
    pub time_ns: i64,
    /// Its hour; [`Hour::EPOCH`] if neither start nor end is possible.
    pub hour: Hour,
}

/// Places a row by its start and end (64 bits as sent) and the second it was received (nanoseconds since 1970).
pub fn place(start: u64, end: u64, received_ns: i64) -> Placed {
    let possible = |time: u64| {
        let latest = received_ns.saturating_add(AHEAD_NS);
        i64::try_from(time).ok().filter(|ns| time >= EARLIEST_NS && *ns <= latest)
    };
    match possible(start).or_else(|| possible(end)) {
        Some(time_ns) => Placed { time_ns, hour: Hour::of_ns(time_ns) },
        None => Placed { time_ns: received_ns, hour: Hour::EPOCH },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impossible_start_is_placed_by_the_end_and_else_in_the_first_hour() {
        let received = Hour::of_ns(1_795_310_000_000_000_000);
        let at = received.start_ns();
        assert_eq!(place(at as u64, at as u64 + 1, at).hour, received);
        assert_eq!(place(0, at as u64, at), Placed { time_ns: at, hour: received });
        assert_eq!(place(0, 0, at), Placed { time_ns: at, hour: Hour::EPOCH });
        assert_eq!(place(u64::MAX, u64::MAX, at).hour, Hour::EPOCH);
        assert_eq!(place(1_795_310_000_000, 1_795_310_000_001, at).hour, Hour::EPOCH, "milliseconds for nanoseconds");
        let ahead = at + AHEAD_NS;
        assert_eq!(place(ahead as u64, ahead as u64, at).hour, received.next());
        assert_eq!(place(ahead as u64 + 1, at as u64, at).hour, received, "too far ahead: by its end");
    }
}
