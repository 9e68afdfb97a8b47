//! Durations as Go writes them (`1.5s`, `1h2m`, `250us`): what Jaeger's clients send.

use std::str::FromStr;

use jiff::SignedDuration;

/// A length of time, to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duration(pub SignedDuration);

impl Duration {
    /// So many milliseconds; beyond what can be told, as much as can.
    pub fn from_millis(millis: u64) -> Self {
        Self(SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX)))
    }

    /// In nanoseconds; beyond 292 years, these.
    pub fn nanos(self) -> i64 {
        i64::try_from(self.0.as_nanos()).unwrap_or(i64::MAX)
    }
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no length of time: write 250us, 1.5s, 1h30m");
        let mut rest = text;
        let mut nanos = 0_f64;
        let mut exact = SignedDuration::ZERO;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
            let (number, after) = rest.split_at(digits);
            let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
            let (unit, after) = after.split_at(end);
            let unit_ns: i64 = match unit {
                "ns" => 1,
                "us" | "µs" | "μs" => 1_000,
                "ms" => 1_000_000,
                "s" => 1_000_000_000,
                "m" => 60_000_000_000,
                "h" => 3_600_000_000_000,
                _ => return Err(wrong()),
            };
            match number.parse::<i64>() {
                Ok(number) => {
                    let part = number.checked_mul(unit_ns).ok_or_else(wrong)?;
                    exact = exact.checked_add(SignedDuration::from_nanos(part)).ok_or_else(wrong)?;
                }
                Err(_) => nanos += number.parse::<f64>().map_err(|_| wrong())? * unit_ns as f64,
            }
            rest = after;
        }
        let fraction = SignedDuration::from_nanos(nanos.round() as i64);
        exact.checked_add(fraction).map(Self).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, nanos) in [
            ("1ns", 1),
            ("1us", 1_000),
            ("1µs", 1_000),
            ("1.5ms", 1_500_000),
            ("2s", 2_000_000_000),
            ("1m0.25s", 60_250_000_000),
            ("1h2m3s", 3_723_000_000_000),
            (".5s", 500_000_000),
            ("48h", 172_800_000_000_000),
        ] {
            assert_eq!(text.parse::<Duration>().unwrap().nanos(), nanos, "{text}");
        }
        for text in ["", "1", "s", "1 s", "1d", "1.2.3s", "-1s", "99999999999999h", "1s2"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }
}
