//! The hours in which a trace's rows are looked for.

use crate::model::Hour;
use crate::table::place::Placed;
use crate::table::view::Block;

/// An entry that claims to last longer than this many hours has a broken clock: its window ends here.
const LONGEST_HOURS: i32 = 24;

/// Some hours in which a trace's rows can be. [`Hour::EPOCH`], where rows go whose times are impossible, is always one
/// of them: a trace may have one service with a broken clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Window {
    /// The first hour.
    pub first: Hour,
    /// The last hour.
    pub last: Hour,
    /// In level 0 rows are looked for only in blocks whose spans' times meet these, nanoseconds since 1970; none: in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub near: Option<(i64, i64)>,
}

impl Window {
    /// All hours that rows can have.
    pub fn all() -> Self {
        Self { first: Hour::of_ns(i64::MIN), last: Hour::of_ns(i64::MAX), near: None }
    }

    /// From the hour before an entry starts to the hour after it ends. An entry without a possible time is placed by
    /// when it was received, which is after it happened.
    pub fn of_entry(placed: Placed, duration_ns: i64) -> Self {
        let start = Hour::of_ns(placed.time_ns);
        let end = Hour::of_ns(placed.time_ns.saturating_add(duration_ns.max(0)));
        let last = end.min(start.plus(LONGEST_HOURS)).next();
        Self { first: start.plus(if placed.hour == Hour::EPOCH { -2 } else { -1 }), last, near: None }
    }

    /// Both, and what lies between.
    pub fn join(self, other: Self) -> Self {
        let near = self.near.zip(other.near).map(|(a, b)| (a.0.min(b.0), a.1.max(b.1)));
        Self { first: self.first.min(other.first), last: self.last.max(other.last), near }
    }

    /// The same with so many hours more before it.
    pub fn earlier(self, hours: i32) -> Self {
        Self { first: self.first.plus(-hours), ..self }
    }

    /// Whether rows may lie in `hour`.
    pub fn holds(self, hour: Hour) -> bool {
        hour == Hour::EPOCH || (self.first..=self.last).contains(&hour)
    }

    /// Whether rows are looked for in `block` of spans: in the hours, and in level 0 near the entry. What is far from it
    /// there is found when its hour has been merged.
    pub fn asks(self, block: &Block) -> bool {
        let times = block.meta.times.filter(|_| block.is_level0() && block.key.hour != Hour::EPOCH);
        let is_near = self.near.zip(times).is_none_or(|(near, times)| times.0 <= near.1 && near.0 <= times.1);
        is_near && self.holds(block.key.hour)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BlockId, Shard, ShardDir, Table};
    use crate::store::layout::BlockKey;
    use crate::table::block::{BlockMeta, FORMAT};

    #[test]
    fn near_an_entry_blocks_as_indexed_are_asked_whose_times_meet_it_and_merged_ones_in_all_hours() {
        let hour: Hour = "2026-11-22T14".parse().unwrap();
        let minute = 60_000_000_000;
        let entry = hour.start_ns() + 30 * minute;
        let hours = Window { first: hour.previous(), last: hour.next(), near: None };
        let window = Window { near: Some((entry - minute, entry + 3 * minute)), ..hours };
        let block = |dir, hour: Hour, times: Option<(i64, i64)>| {
            let times = times.map(|(first, last)| (entry + first * minute, entry + last * minute));
            let meta = BlockMeta {
                format: FORMAT,
                rules: 1,
                rows: 1,
                shards: Vec::new(),
                merged_from: Vec::new(),
                siblings: Vec::new(),
                times,
            };
            let key = BlockKey { table: Table::Spans, dir, hour, block: BlockId::new(ulid::Ulid(1)) };
            Block { key, size_bytes: 1, modified: jiff::Timestamp::UNIX_EPOCH, meta: std::sync::Arc::new(meta) }
        };
        let merged = ShardDir::One(Shard::new(0, 1).unwrap());
        for (dir, hour, times, asks) in [
            (ShardDir::All, hour, Some((-9, -2)), false),
            (ShardDir::All, hour, Some((-9, -1)), true),
            (ShardDir::All, hour, Some((3, 9)), true),
            (ShardDir::All, hour, Some((4, 9)), false),
            (ShardDir::All, hour, Some((-9, 9)), true),
            (ShardDir::All, hour, None, true),
            (ShardDir::All, hour.plus(2), Some((0, 1)), false),
            (ShardDir::All, Hour::EPOCH, Some((-9, -2)), true),
            (merged, hour.next(), Some((-9, -2)), true),
            (merged, hour.plus(2), None, false),
        ] {
            let block = block(dir, hour, times);
            assert_eq!((window.asks(&block), hours.asks(&block)), (asks, hours.holds(hour)), "{block:?}");
        }
        let later = Window { near: Some((entry + 9 * minute, entry + 11 * minute)), ..hours };
        assert_eq!(window.join(later).near, Some((entry - minute, entry + 11 * minute)));
        assert_eq!(window.join(hours), hours, "who looks everywhere looks near, too");
    }

    #[test]
    fn a_window_reaches_from_the_hour_before_to_the_hour_after() {
        let hour: Hour = "2026-11-22T14".parse().unwrap();
        let at = |ns: i64| Placed { time_ns: hour.start_ns() + ns, hour };
        let window = |first, last| Window { first: hour.plus(first), last: hour.plus(last), near: None };
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
