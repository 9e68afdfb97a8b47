//! The block format: what a block's file holds beside its rows, and what it says of itself.
//!
//! A block is a Parquet file with the columns of [`super::schema`], in that order. Its footer's key-value metadata has
//! one key, `tracefarm`, whose value is JSON:
//!
//! ```json
//! {
//!   "format": 1,                        // this page; a program reads its own and the one before
//!   "rules": 1,                         // the number of the handler rules with which the rows were indexed
//!   "rows": 1234,
//!   "shards": {"000-of-002": 1000, "001-of-002": 234},  // rows of each, in the order in which they stand
//!   "merged_from": ["01KA8Z3V5Y7N0M2B4C6D8F0G1H"],      // blocks that this one replaces, for its shard
//!   "siblings": [],                     // other files of the same merge
//!   "times": [1795356000000000000, 1795356059000000000], // spans, level 0: their first start and last end, ns since 1970
//!   "sums": ["2d06800538d394c2"],       // XXH3-64 of the bytes of each row group, from its first column to its last
//!   "digest": [5432100, 2345],          // entries, level 1: where in the file their digest lies: offset, bytes
//!   "calls": [5432100, 345]             // spans, level 1: likewise, the digest of calls
//! }
//! ```
//!
//! `merged_from`, `siblings`, `times`, `digest` and `calls` are left out when there are none; unknown keys are ignored. The first
//! four mean the same in every format to come, so that a program can tell that a block is too new for it. A digest is a
//! zstd frame of JSON between the last row group and Parquet's own indexes: bytes that Parquet readers skip, as they
//! skip what no footer points to. The sums are compared whenever a row group is read whole, so that a merge never makes
//! damaged rows its own; where only pages are read, it is Parquet's and zstd's decoders that notice damage, or not.
//!
//! Rows are sorted (see [`super::order`]). Level 0 holds all shards of an hour, one after the other; a row group ends
//! with a shard wherever it has grown large enough ([`super::write`]), and a shard's rows can always be read by range.
//! Level 1 holds one shard, and a bloom filter on `trace_id` for each row group, all of them at the end.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::model::{BlockId, Shard};
use crate::store::Key;
use crate::store::layout::BlockKey;

/// The number of the block format that this program writes. It reads this one and the one before.
pub const FORMAT: u32 = 1;

/// The key of the footer's words.
const NAME: &str = "tracefarm";

/// The footer's own words.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockMeta {
    /// The block format.
    pub format: u32,
    /// The number of the handler rules with which its rows were indexed.
    pub rules: u32,
    /// Rows.
    pub rows: u64,
    /// Level 0: the shards it has rows of. Level 1: its one shard.
    pub shards: Vec<Shard>,
    /// The blocks that this one replaces for its own shard (rule 2), and those that they replaced and that were still
    /// listed. Only the last file of a merge has any.
    pub merged_from: Vec<BlockId>,
    /// The other files of the same merge; only in the last.
    pub siblings: Vec<BlockId>,
    /// When the first of its spans started and the last ended, nanoseconds since 1970; none in level 1, of entries, and
    /// where a program before this one wrote it.
    pub times: Option<(i64, i64)>,
}

impl BlockMeta {
    /// About how much memory it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let lists = self.shards.len() * size_of::<Shard>()
            + (self.merged_from.len() + self.siblings.len()) * size_of::<BlockId>();
        size_of::<Self>() + lists
    }
}

/// Why the content of a block cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockErrorKind {
    /// It is damaged, or not a block of ours: set it aside.
    Corrupt,
    /// A newer program wrote it: leave its hour alone.
    TooNew,
}

/// A block whose content cannot be used. Errors of the store are never one of these.
#[derive(Clone, Debug)]
pub struct BlockError {
    /// What to do about it.
    pub kind: BlockErrorKind,
    /// Which block.
    pub key: BlockKey,
    /// What is wrong, for a person.
    pub message: String,
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = Key::Block(self.key).path();
        match self.kind {
            BlockErrorKind::Corrupt => write!(f, "block {path} is damaged: {}", self.message),
            BlockErrorKind::TooNew => write!(f, "block {path} was written by a newer program: {}", self.message),
        }
    }
}

impl std::error::Error for BlockError {}

impl BlockError {
    pub(super) fn corrupt(key: &BlockKey, message: impl fmt::Display) -> Self {
        Self { kind: BlockErrorKind::Corrupt, key: *key, message: message.to_string() }
    }

    pub(super) fn too_new(key: &BlockKey, message: impl fmt::Display) -> Self {
        Self { kind: BlockErrorKind::TooNew, key: *key, message: message.to_string() }
    }
}

/// The JSON as it stands in the footer, with what only the reader and the writer of blocks need.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Words {
    pub format: u32,
    pub rules: u32,
    pub rows: u64,
    #[serde(with = "in_order")]
    pub shards: Vec<(Shard, u64)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged_from: Vec<BlockId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub siblings: Vec<BlockId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<(i64, i64)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sums: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Place>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<Place>,
}

/// A sum as [`Words::sums`] has it.
pub(super) fn sum(bytes: &[u8]) -> String {
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(bytes))
}

/// Where the bytes of a row group lie: from its first column to its last, which have no gaps between them. Of metadata
/// that was checked, or that we wrote.
pub(super) fn group_range(group: &parquet::file::metadata::RowGroupMetaData) -> Range<u64> {
    let starts = group.columns().iter().map(|column| column.byte_range().0);
    let ends = group.columns().iter().map(|column| column.byte_range().0 + column.byte_range().1);
    starts.min().unwrap_or(0)..ends.max().unwrap_or(0)
}

/// Where in the file something lies: offset and length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place(pub u64, pub u64);

impl Place {
    /// As a range; `None` if it is not within a file of `size_bytes`.
    pub fn range(self, size_bytes: u64) -> Option<Range<u64>> {
        let end = self.0.checked_add(self.1)?;
        (end <= size_bytes).then_some(self.0..end)
    }
}

impl Words {
    /// As an entry of the footer's metadata.
    pub fn to_metadata(&self) -> Result<parquet::file::metadata::KeyValue> {
        Ok(parquet::file::metadata::KeyValue::new(NAME.to_owned(), serde_json::to_string(self)?))
    }

    /// From the footer's metadata.
    ///
    /// # Errors
    /// A text for a person, if there is no such entry, or it does not hold together.
    pub fn of_metadata(footer: &parquet::file::metadata::FileMetaData) -> Result<Self, String> {
        let entries = footer.key_value_metadata().into_iter().flatten();
        let text = entries.filter(|entry| entry.key == NAME).find_map(|entry| entry.value.as_deref());
        let text = text.ok_or("its footer has no `tracefarm` entry, so it is no block of a farm")?;
        let words: Self = serde_json::from_str(text).map_err(|error| format!("its footer's `tracefarm`: {error}"))?;
        let sum = words.shards.iter().try_fold(0_u64, |sum, (_, rows)| sum.checked_add(*rows));
        if sum != Some(words.rows) || u64::try_from(footer.num_rows()) != Ok(words.rows) {
            return Err("its footer counts rows in two ways that differ".to_owned());
        }
        Ok(words)
    }

    /// The rows of `shard`, by number; empty if it has none.
    pub fn rows_of(&self, shard: Shard) -> Range<u64> {
        let mut from = 0;
        for (other, rows) in &self.shards {
            if *other == shard {
                return from..from + rows;
            }
            from += rows;
        }
        0..0
    }

    pub fn meta(&self) -> BlockMeta {
        BlockMeta {
            format: self.format,
            rules: self.rules,
            rows: self.rows,
            shards: self.shards.iter().map(|(shard, _)| *shard).collect(),
            merged_from: self.merged_from.clone(),
            siblings: self.siblings.clone(),
            times: self.times,
        }
    }
}

/// A list of pairs as a JSON object, in the list's order.
mod in_order {
    use serde::de::{Error, MapAccess, Visitor};
    use serde::{Deserializer, Serializer};

    use crate::model::Shard;

    pub fn serialize<S: Serializer>(pairs: &[(Shard, u64)], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(pairs.iter().map(|(shard, rows)| (shard.to_string(), rows)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(Shard, u64)>, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Vec<(Shard, u64)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("rows by shard")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some((shard, rows)) = map.next_entry::<String, u64>()? {
                    pairs.push((shard.parse().map_err(Error::custom)?, rows));
                }
                Ok(pairs)
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_footers_words_are_part_of_the_format() {
        let shard = |index| Shard::new(index, 16).unwrap();
        let words = Words {
            format: 1,
            rules: 1,
            rows: 12,
            shards: vec![(shard(2), 5), (shard(11), 7)],
            merged_from: vec!["01KA8Z3V5Y7N0M2B4C6D8F0G1H".parse().unwrap()],
            siblings: Vec::new(),
            times: Some((-5, 7)),
            sums: vec![sum(b"")],
            digest: Some(Place(100, 20)),
            calls: None,
        };
        let text = serde_json::to_string(&words).unwrap();
        insta::assert_snapshot!(text, @r#"{"format":1,"rules":1,"rows":12,"shards":{"002-of-016":5,"011-of-016":7},"merged_from":["01KA8Z3V5Y7N0M2B4C6D8F0G1H"],"times":[-5,7],"sums":["2d06800538d394c2"],"digest":[100,20]}"#);
        assert_eq!(serde_json::from_str::<Words>(&text).unwrap(), words);
        let older = text.replace(r#""times":[-5,7],"#, "");
        assert_eq!(serde_json::from_str::<Words>(&older).unwrap(), Words { times: None, ..words.clone() });
        assert_eq!(words.rows_of(shard(11)), 5..12);
        assert_eq!(words.rows_of(shard(3)), 0..0);
    }
}
