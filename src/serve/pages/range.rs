//! Which part of an object is asked for (RFC 9110, 14).

use std::ops::Range;

use axum::http::{HeaderMap, header};

/// What a request asks for of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// All of it.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that it does not have.
    Nothing,
}

/// What `headers` ask for of `size_bytes`. One range is understood; several, and what is no range of bytes, are answered
/// with the whole, as the standard allows.
pub fn asked(headers: &HeaderMap, size_bytes: u64) -> Asked {
    let Some(value) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else { return Asked::Whole };
    parse(value, size_bytes).unwrap_or(Asked::Whole)
}

fn parse(value: &str, size_bytes: u64) -> Option<Asked> {
    let (unit, set) = value.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = set.trim().split_once('-')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(first) || !digits(last) || (first.is_empty() && last.is_empty()) {
        return None;
    }
    // More digits than a number holds lie beyond any object.
    let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
    if first.is_empty() {
        let last = number(last).min(size_bytes);
        return Some(if last == 0 { Asked::Nothing } else { Asked::Part(size_bytes - last..size_bytes) });
    }
    let first = number(first);
    let end = if last.is_empty() { u64::MAX } else { number(last).saturating_add(1) };
    if end <= first && !last.is_empty() {
        return None;
    }
    Some(if first >= size_bytes { Asked::Nothing } else { Asked::Part(first..end.min(size_bytes)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_understood_as_the_standard_has_them() {
        let of = |value: &str| {
            let headers = [(header::RANGE, value.parse().unwrap())].into_iter().collect();
            asked(&headers, 100)
        };
        for (value, part) in [
            ("bytes=0-0", 0..1),
            ("bytes=10-19", 10..20),
            ("bytes=90-", 90..100),
            ("bytes=90-1000", 90..100),
            ("bytes=-5", 95..100),
            ("bytes=-1000", 0..100),
            ("Bytes= 1-2", 1..3),
            ("bytes=5-99999999999999999999999", 5..100),
        ] {
            assert_eq!(of(value), Asked::Part(part), "{value}");
        }
        for value in ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(of(value), Asked::Nothing, "{value}");
        }
        for value in ["bytes=5-4", "bytes=0-1,3-4", "lines=1-2", "bytes", "bytes=-", "bytes=a-b", "bytes=+1-2", ""] {
            assert_eq!(of(value), Asked::Whole, "{value}");
        }
        assert_eq!(asked(&HeaderMap::new(), 100), Asked::Whole);
        let first = [(header::RANGE, "bytes=0-".parse().unwrap())].into_iter().collect();
        assert_eq!(asked(&first, 0), Asked::Nothing, "of an empty object");
    }
}
