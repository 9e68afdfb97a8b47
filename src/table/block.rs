//! What a block says of itself, in its footer's key-value metadata.

use crate::model::{BlockId, Shard};

use super::digest::{CallsDigest, Digest};

/// The number of the block format that this program writes. It reads this one and the one before.
pub const FORMAT: u32 = 1;

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
    /// Entries, level 1: what the rows come to.
    pub digest: Option<Digest>,
    /// Spans, level 1: which handler calls what.
    pub calls: Option<CallsDigest>,
}
