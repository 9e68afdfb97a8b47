//! Hash buckets. Both hashes below are part of the format: a change needs a new format number.

use std::fmt;
use std::str::FromStr;

use xxhash_rust::xxh3::xxh3_64;

use super::{HandlerId, ParseError, TraceId};

/// One of `count` hash buckets, eg `003-of-016`: of trace ids in `spans/`, of handlers in `entries/`. It carries its
/// count, so that changing the setting `shards` needs no migration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard {
    // The count stands first so that the derived order is that of (count, index): a shard's peers are neighbours.
    count: u16,
    index: u16,
}

impl Shard {
    /// The most shards a farm can have: three digits in a key.
    pub const MAX: u16 = 999;

    /// Bucket `index` of `count`; `None` unless `index < count <= MAX`.
    pub fn new(index: u16, count: u16) -> Option<Self> {
        (index < count && count <= Self::MAX).then_some(Self { count, index })
    }

    /// All `count` shards, in order.
    pub fn all(count: u16) -> impl Iterator<Item = Self> {
        (0..count).map(move |index| Self { count, index })
    }

    /// Where the spans of a trace go: XXH3-64 (seed 0) of the 16 bytes of its id, modulo `count`.
    pub fn of_trace(trace: TraceId, count: u16) -> Self {
        Self::of_hash(xxh3_64(&trace.0), count)
    }

    /// Where the entries of a handler go: XXH3-64 (seed 0) of the UTF-8 bytes of its id, modulo `count`.
    pub fn of_handler(handler: &HandlerId, count: u16) -> Self {
        Self::of_hash(xxh3_64(handler.as_str().as_bytes()), count)
    }

    fn of_hash(hash: u64, count: u16) -> Self {
        let count = count.max(1);
        // The remainder is smaller than a `u16`.
        Self { count, index: (hash % u64::from(count)) as u16 }
    }

    /// Its place among the shards, from 0.
    pub fn index(self) -> u16 {
        self.index
    }

    /// How many shards there are.
    pub fn count(self) -> u16 {
        self.count
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03}-of-{:03}", self.index, self.count)
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Shard {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let bad = || ParseError::new(text, "a shard (such as 003-of-016)");
        let (index, count) = text.split_once("-of-").ok_or_else(bad)?;
        let number = |digits: &str| digits.parse().map_err(|_| bad());
        let shard = Self::new(number(index)?, number(count)?).ok_or_else(bad)?;
        if shard.to_string() == text { Ok(shard) } else { Err(bad()) }
    }
}

impl serde::Serialize for Shard {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The folder a block lies in, which also says its level: `all` (level 0: as indexed, every shard in one block) or one
/// shard (level 1: compacted).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ShardDir {
    /// Level 0.
    All,
    /// Level 1.
    One(Shard),
}

impl fmt::Display for ShardDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::One(shard) => shard.fmt(f),
        }
    }
}

impl FromStr for ShardDir {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text == "all" { Ok(Self::All) } else { text.parse().map(Self::One) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_prints_as_it_parses() {
        for text in ["all", "000-of-001", "003-of-016", "998-of-999"] {
            assert_eq!(text.parse::<ShardDir>().unwrap().to_string(), text);
        }
        for bad in ["", "3-of-16", "016-of-016", "0000-of-001", "000-of-000", "-01-of-002", "+01-of-002"] {
            assert!(bad.parse::<ShardDir>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_hash_is_part_of_the_format_and_never_changes() {
        let trace: TraceId = "4bf92f3577b34da6a3ce929d0e0e4736".parse().unwrap();
        assert_eq!(
            Shard::of_trace(trace, 16).to_string(),
            Shard::new((xxh3_64(&trace.0) % 16) as u16, 16).unwrap().to_string()
        );
        assert_eq!(xxh3_64(b""), 0x2d06_8005_38d3_94c2);
    }
}
