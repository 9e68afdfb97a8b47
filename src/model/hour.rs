//! The UTC hour: the unit of compaction and of expiry.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::ParseError;

/// Nanoseconds in an hour.
const HOUR_NS: i64 = 3_600_000_000_000;

/// A UTC hour, eg `2026-11-22T14`. Hours are numbered from 1970-01-01T00, which is also where rows go whose times
/// are impossible ([`Hour::EPOCH`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(i32);

impl Hour {
    /// The hour of rows that have no possible time: it expires by when they were received.
    pub const EPOCH: Self = Self(0);

    /// The hour of a time in nanoseconds since 1970. An `i64` of them spans ±292 years: 2.6 million hours fit `i32`.
    pub fn of_ns(time_ns: i64) -> Self {
        Self(time_ns.div_euclid(HOUR_NS) as i32)
    }

    /// The hour in which `time` lies.
    pub fn of(time: Timestamp) -> Self {
        Self(time.as_second().div_euclid(3600) as i32)
    }

    /// The hour with this number since 1970-01-01T00.
    pub fn from_number(number: i32) -> Self {
        Self(number)
    }

    /// Hours since 1970-01-01T00.
    pub fn number(self) -> i32 {
        self.0
    }

    /// Its first nanosecond, since 1970.
    pub fn start_ns(self) -> i64 {
        i64::from(self.0) * HOUR_NS
    }

    /// The first nanosecond after it.
    pub fn end_ns(self) -> i64 {
        self.next().start_ns()
    }

    /// The hour after this one.
    pub fn next(self) -> Self {
        self.plus(1)
    }

    /// The hour before this one.
    pub fn previous(self) -> Self {
        self.plus(-1)
    }

    /// The hour `hours` later, or earlier if negative.
    pub fn plus(self, hours: i32) -> Self {
        Self(self.0 + hours)
    }

    /// When it begins.
    pub fn start(self) -> Timestamp {
        // Every `i32` of hours lies within jiff's years only up to ±9999; the hours that rows can have do (see of_ns).
        Timestamp::from_second(i64::from(self.0) * 3600).unwrap_or(Timestamp::MAX)
    }

    /// When it is over: the start of the next one.
    pub fn end(self) -> Timestamp {
        self.next().start()
    }
}

impl fmt::Display for Hour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = TimeZone::UTC.to_datetime(self.start());
        write!(f, "{:04}-{:02}-{:02}T{:02}", at.year(), at.month(), at.day(), at.hour())
    }
}

impl fmt::Debug for Hour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hour {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let bad = || ParseError::new(text, "an hour (such as 2026-11-22T14)");
        let (date, hour) = text.split_once('T').ok_or_else(bad)?;
        let date: jiff::civil::Date = date.parse().map_err(|_| bad())?;
        let hour: i8 = hour.parse().map_err(|_| bad())?;
        let time = jiff::civil::Time::new(hour, 0, 0, 0).map_err(|_| bad())?;
        let at = TimeZone::UTC.to_timestamp(DateTime::from_parts(date, time)).map_err(|_| bad())?;
        let parsed = Self::of(at);
        if parsed.to_string() == text { Ok(parsed) } else { Err(bad()) }
    }
}

impl serde::Serialize for Hour {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Hour {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_prints_as_it_parses() {
        let hour: Hour = "2026-11-22T14".parse().unwrap();
        assert_eq!(hour.to_string(), "2026-11-22T14");
        assert_eq!(Hour::of_ns(hour.start_ns()), hour);
        assert_eq!(Hour::of_ns(hour.end_ns() - 1), hour);
        assert_eq!(Hour::of_ns(-1), Hour::EPOCH.previous());
        assert_eq!(Hour::EPOCH.to_string(), "1970-01-01T00");
        for bad in ["2026-11-22", "2026-11-22T24", "2026-11-22T4", "2026-13-22T14", "x"] {
            assert!(bad.parse::<Hour>().is_err(), "{bad}");
        }
    }
}
