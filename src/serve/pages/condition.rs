//! What a client has already (RFC 9110, 13).

use std::fmt;

use axum::http::{HeaderMap, header};
use jiff::Timestamp;
use jiff::fmt::rfc2822;

/// Tells one content of a name from another. A weak one stands for the same content in several encodings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etag {
    /// Without quotes.
    pub text: String,
    /// Whether it is weak.
    pub is_weak: bool,
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weak = if self.is_weak { "W/" } else { "" };
        write!(f, "{weak}\"{}\"", self.text)
    }
}

/// Whether a request depends on what the client has.
pub fn is_said(headers: &HeaderMap) -> bool {
    headers.contains_key(header::IF_NONE_MATCH) || headers.contains_key(header::IF_MODIFIED_SINCE)
}

/// Whether the client has this content: by its etag if it says one, else by its date.
pub fn is_known(headers: &HeaderMap, etag: &Etag, modified: Timestamp) -> bool {
    let mut said = headers.get_all(header::IF_NONE_MATCH).iter().peekable();
    if said.peek().is_some() {
        return said.filter_map(|value| value.to_str().ok()).any(|list| names(list, etag));
    }
    let since = headers.get(header::IF_MODIFIED_SINCE).and_then(|value| parsed(value.to_str().ok()?));
    since.is_some_and(|since| modified.as_second() <= since.as_second())
}

/// Whether a range counts: always, unless the client says of which content it wants one.
pub fn range_counts(headers: &HeaderMap, etag: &Etag, modified: Timestamp) -> bool {
    let Some(said) = headers.get(header::IF_RANGE) else { return true };
    let Ok(said) = said.to_str() else { return false };
    match parsed(said) {
        Some(date) => date.as_second() == modified.as_second(),
        // Strong comparison: a part of one encoding is none of another.
        None => !etag.is_weak && said == etag.to_string(),
    }
}

/// The time as HTTP writes it.
pub fn date(time: Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn parsed(date: &str) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new().parse_timestamp(date).ok()
}

/// Weak comparison of a list, or `*`. Our etags have no commas and no quotes within: the clouds' are hex.
fn names(list: &str, etag: &Etag) -> bool {
    list.split(',').map(str::trim).any(|one| {
        let one = one.strip_prefix("W/").unwrap_or(one);
        one == "*" || one.strip_prefix('"').and_then(|one| one.strip_suffix('"')) == Some(etag.text.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: header::HeaderName, value: &str) -> HeaderMap {
        [(name, value.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn what_a_client_has_is_told_by_etag_and_else_by_date() {
        let (etag, time) =
            (Etag { text: "abc".to_owned(), is_weak: true }, Timestamp::from_second(1_795_310_700).unwrap());
        assert_eq!(etag.to_string(), "W/\"abc\"");
        for value in ["\"abc\"", "W/\"abc\"", "\"x\", W/\"abc\"", "*"] {
            assert!(is_known(&said(header::IF_NONE_MATCH, value), &etag, time), "{value}");
        }
        for value in ["\"abcd\"", "abc", "", "\"ab"] {
            assert!(!is_known(&said(header::IF_NONE_MATCH, value), &etag, time), "{value}");
        }
        assert_eq!(date(time), "Sun, 22 Nov 2026 01:25:00 GMT");
        assert!(is_known(&said(header::IF_MODIFIED_SINCE, &date(time)), &etag, time));
        let before = Timestamp::from_second(1_795_310_699).unwrap();
        assert!(!is_known(&said(header::IF_MODIFIED_SINCE, &date(before)), &etag, time));
        assert!(!is_known(&said(header::IF_MODIFIED_SINCE, "yesterday"), &etag, time));
        let mut both = said(header::IF_NONE_MATCH, "\"x\"");
        both.insert(header::IF_MODIFIED_SINCE, date(time).parse().unwrap());
        assert!(!is_known(&both, &etag, time), "the etag decides");
        assert!(!is_known(&HeaderMap::new(), &etag, time));
    }

    #[test]
    fn a_range_counts_of_the_content_it_was_meant_of() {
        let time = Timestamp::from_second(1_795_310_700).unwrap();
        let etag = |is_weak| Etag { text: "abc".to_owned(), is_weak };
        assert!(range_counts(&HeaderMap::new(), &etag(true), time));
        assert!(range_counts(&said(header::IF_RANGE, "\"abc\""), &etag(false), time));
        assert!(!range_counts(&said(header::IF_RANGE, "\"abc\""), &etag(true), time));
        assert!(!range_counts(&said(header::IF_RANGE, "\"x\""), &etag(false), time));
        assert!(range_counts(&said(header::IF_RANGE, &date(time)), &etag(true), time));
    }
}
