//! The hours in which a trace's rows are looked for.

use crate::model::Hour;
use crate::table::place::Placed;

/// An entry that claims to last longer than this many hours has a broken clock: its window ends here.
const LONGEST_HOURS: i32 = 24;

/// Some hours in which a trace's rows can be. [`Hour::EPOCH`], where rows go whose times are impossible, is always one
/// of them: a trace may have one service with a broken clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// The first hour.
    pub first: Hour,
    /// The last hour.
    pub last: Hour,
}

impl Window {
    /// All hours that rows can have.
    pub fn all() -> Self {
        Self { first: Hour::of_ns(i64::MIN), last: Hour::of_ns(i64::MAX) }
    }

    /// From the hour before an entry starts to the hour after it ends. An entry without a possible time is placed by
    /// when it was received, which is after it happened.
    pub fn of_entry(placed: Placed, duration_ns: i64) -> Self {
        let start = Hour::of_ns(placed.time_ns);
        let end = Hour::of_ns(placed.time_ns.saturating_add(duration_ns.max(0)));
        let last = end.min(start.plus(LONGEST_HOURS)).next();
        Self { first: start.plus(if placed.hour == Hour::EPOCH { -2 } else { -1 }), last }
    }

    /// Both, and what lies between.
    pub fn join(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }

    /// The same with so many hours more before it.
    pub fn earlier(self, hours: i32) -> Self {
        Self { first: self.first.plus(-hours), ..self }
    }

    /// Whether rows may lie in `hour`.
    pub fn holds(self, hour: Hour) -> bool {
        hour == Hour::EPOCH || (self.first..=self.last).contains(&hour)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_reaches_from_the_hour_before_to_the_hour_after() {
        let hour: Hour = "2026-11-22T14".parse().unwrap();
        let at = |ns: i64| Placed { time_ns: hour.start_ns() + ns, hour };
        let window = |first, last| Window { first: hour.plus(first), last: hour.plus(last) };
        assert_eq!(Window::of_entry(at(0), 0), window(-1, 1));
        assert_eq!(Window::of_entry(at(3_599_999_999_999), 1), window(-1, 2), "it ends in the next hour");
        assert_eq!(Window::of_entry(at(0), -5), window(-1, 1), "it ends before it starts");
        assert_eq!(Window::of_entry(at(0), i64::MAX), window(-1, 25), "nobody is served for centuries");
        let received = Placed { time_ns: hour.start_ns(), hour: Hour::EPOCH };
        assert_eq!(Window::of_entry(received, 0), window(-2, 1));
        assert!(window(-1, 1).holds(Hour::EPOCH), "one service of the trace may have a broken clock");
        assert!(!window(-1, 1).holds(hour.plus(2)));
        assert!([hour, Hour::of_ns(i64::MIN), Hour::of_ns(i64::MAX)].iter().all(|hour| Window::all().holds(*hour)));
    }
}
