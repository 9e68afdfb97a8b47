//! The name of what a request hits.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::ParseError;

/// Identifies a handler, eg `web/get-products-id-5b1f0c3a`: `<service>/<slug>-<8 hex digits>`, readable, and safe in a
/// key and in a URL. Cheap to clone. [`crate::handler`] makes them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HandlerId(Arc<str>);

impl HandlerId {
    /// The id as text, with its slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the slash: the service's name, escaped.
    pub fn service(&self) -> &str {
        self.0.split_once('/').map_or("", |(service, _)| service)
    }

    /// Whether this is a service's list of requests that hit no handler (`<service>/404-<8 hex digits>`).
    pub fn is_not_found(&self) -> bool {
        self.0.split_once('/').is_some_and(|(_, rest)| rest.len() == 12 && rest.starts_with("404-"))
    }
}

impl fmt::Display for HandlerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HandlerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for HandlerId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let bad = || ParseError::new(text, "a handler's id (such as web/get-products-id-5b1f0c3a)");
        let part_fits = |part: &str| {
            !part.is_empty()
                && part.len() <= 200
                && !part.starts_with('.')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~'))
        };
        let (service, rest) = text.split_once('/').ok_or_else(bad)?;
        let hash = rest.rsplit('-').next().unwrap_or_default();
        let hashed = hash.len() == 8 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if part_fits(service) && part_fits(rest) && hashed && rest.len() > 9 {
            Ok(Self(text.into()))
        } else {
            Err(bad())
        }
    }
}

impl serde::Serialize for HandlerId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for HandlerId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
