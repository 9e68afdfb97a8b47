//! Values that change at full hours.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::Hour;

/// A change counts from the first hour that begins after two whole hours between.
const FULL_HOURS_AHEAD: i32 = 2;

/// A pending change that begins sooner than this stays, because rows may already have been placed by it: a span may
/// start up to 1 h after it is received, a worker may use settings that are 5 min old, and clocks get a margin. One
/// that begins later has placed no row yet and can be taken back.
const BINDS: Duration = Duration::from_secs(90 * 60);

/// A value that changes at full hours: `(from, value)`, sorted; the first counts since ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Change<T>>", into = "Vec<Change<T>>")]
#[serde(bound(serialize = "T: Serialize + Clone", deserialize = "T: Deserialize<'de>"))]
pub struct Timeline<T>(Vec<Change<T>>);

/// From `from` on the value is `value`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change<T> {
    /// The first hour for which it counts, eg `2026-11-22T14`.
    pub from: Hour,
    /// The value.
    pub value: T,
}

impl<T> Timeline<T> {
    /// The same value always.
    pub fn always(value: T) -> Self {
        Self(vec![Change { from: Hour::EPOCH, value }])
    }

    /// What counts for `hour`.
    pub fn at(&self, hour: Hour) -> &T {
        let changes = &self.0;
        let after = changes.partition_point(|change| change.from <= hour);
        // A timeline is never empty (deserialising refuses that): the first change counts for all earlier hours.
        &changes[after.saturating_sub(1)].value
    }

    /// Every value that ever counted or will, and from when.
    pub fn changes(&self) -> &[Change<T>] {
        &self.0
    }

    /// What counts in the end: the newest change, pending or not.
    pub fn last(&self) -> &T {
        // Never empty, see `at`.
        &self.0[self.0.len() - 1].value
    }
}

impl<T: PartialEq> Timeline<T> {
    /// Makes `value` count from at least two full hours after `now` (the store's time), so that every worker knows of
    /// it before it places a row by it. Pending changes are replaced, as long as no row can have been placed by them.
    pub fn change(&mut self, value: T, now: Timestamp) {
        let bound = i128::from(jiff::Timestamp::as_second(now)) + i128::from(BINDS.as_secs());
        let mut first = true;
        // The first counts since ever, whatever it says.
        self.0.retain(|change| std::mem::take(&mut first) || i128::from(change.from.number()) * 3600 < bound);
        if *self.last() != value {
            let newest = self.0[self.0.len() - 1].from;
            let from = Hour::of(now).plus(1 + FULL_HOURS_AHEAD).max(newest.next());
            self.0.push(Change { from, value });
        }
    }
}

impl<T> TryFrom<Vec<Change<T>>> for Timeline<T> {
    type Error = &'static str;

    fn try_from(changes: Vec<Change<T>>) -> Result<Self, Self::Error> {
        if changes.is_empty() {
            return Err("a list of values without a value");
        }
        if !changes.is_sorted_by(|a, b| a.from < b.from) {
            return Err("the hours from which values count must ascend");
        }
        Ok(Self(changes))
    }
}

impl<T> From<Timeline<T>> for Vec<Change<T>> {
    fn from(timeline: Timeline<T>) -> Self {
        timeline.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(timeline: &Timeline<u16>) -> Vec<(String, u16)> {
        timeline.changes().iter().map(|change| (change.from.to_string(), change.value)).collect()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_change_counts_after_two_full_hours() {
        for (now, from) in [
            ("2026-11-22T14:00:00Z", "2026-11-22T17"),
            ("2026-11-22T14:59:59Z", "2026-11-22T17"),
            ("2026-11-22T22:30:00Z", "2026-11-23T01"),
        ] {
            let mut timeline = Timeline::always(1);
            timeline.change(16, at(now));
            assert_eq!(hours(&timeline), [("1970-01-01T00".to_owned(), 1), (from.to_owned(), 16)]);
            let from: Hour = from.parse().unwrap();
            assert_eq!((*timeline.at(from.previous()), *timeline.at(from), *timeline.last()), (1, 16, 16));
            assert_eq!(*timeline.at(Hour::EPOCH.plus(-5)), 1, "the first counts since ever");
        }
    }

    #[test]
    fn a_pending_change_is_replaced_while_no_row_was_placed_by_it() {
        let mut timeline = Timeline::always(1);
        timeline.change(160, at("2026-11-22T14:30:00Z"));
        timeline.change(16, at("2026-11-22T15:30:00Z"));
        assert_eq!(hours(&timeline)[1..], [("2026-11-22T18".to_owned(), 16)]);
        timeline.change(1, at("2026-11-22T15:31:00Z"));
        assert_eq!(hours(&timeline).len(), 1, "taken back");
        timeline.change(160, at("2026-11-22T15:40:00Z"));
        timeline.change(16, at("2026-11-22T16:31:00Z"));
        assert_eq!(hours(&timeline)[1..], [("2026-11-22T18".to_owned(), 160), ("2026-11-22T19".to_owned(), 16)]);
    }

    #[test]
    fn a_list_without_value_or_out_of_order_is_refused() {
        for bad in [
            "[]",
            r#"[{"from":"2026-11-22T14","value":1},{"from":"2026-11-22T13","value":2}]"#,
            r#"[{"from":"2026-11-22T14","value":1},{"from":"2026-11-22T14","value":2}]"#,
            r#"[{"from":"2026-11-22T14","value":1,"until":3}]"#,
        ] {
            assert!(serde_json::from_str::<Timeline<u16>>(bad).is_err(), "{bad}");
        }
        let good = r#"[{"from":"1970-01-01T00","value":1},{"from":"2026-11-22T14","value":2}]"#;
        let timeline: Timeline<u16> = serde_json::from_str(good).unwrap();
        assert_eq!(serde_json::to_string(&timeline).unwrap(), good);
    }
}
