//! The names of the immutable files.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use ulid::Ulid;

use super::ParseError;

/// One of the two tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Table {
    /// One row a span.
    Spans,
    /// One row an entry span: the handler index.
    Entries,
}

impl Table {
    /// Both, in the order in which index writes them: spans first.
    pub const BOTH: [Self; 2] = [Self::Spans, Self::Entries];
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spans => "spans",
            Self::Entries => "entries",
        })
    }
}

impl FromStr for Table {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text {
            "spans" => Ok(Self::Spans),
            "entries" => Ok(Self::Entries),
            _ => Err(ParseError::new(text, "a table (spans or entries)")),
        }
    }
}

impl serde::Serialize for Table {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The name of a block, a ULID, eg `01KA8Z3V5Y7N0M2B4C6D8F0G1H`. Never used twice, so that nothing is ever written
/// over.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(Ulid);

impl BlockId {
    /// The block with this ULID; new ones come from [`crate::clock::Clock::ulid`].
    pub fn new(ulid: Ulid) -> Self {
        Self(ulid)
    }

    /// When the name was made, by the clock of the machine that made it.
    pub fn made(self) -> Timestamp {
        i64::try_from(self.0.timestamp_ms())
            .ok()
            .and_then(|ms| Timestamp::from_millisecond(ms).ok())
            .unwrap_or_default()
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BlockId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let id = Ulid::from_string(text).map_err(|_| ParseError::new(text, "a block's name (a ULID)"))?;
        // Lower case and the letters that Crockford's alphabet folds would give one block two names.
        if id.to_string() == text { Ok(Self(id)) } else { Err(ParseError::new(text, "a block's name (a ULID)")) }
    }
}

impl serde::Serialize for BlockId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for BlockId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
