//! What is visible: a listing of blocks together with what their footers say of each other (rule 2).

use std::sync::Arc;

use jiff::Timestamp;

use super::block::BlockMeta;
use crate::model::Shard;
use crate::store::layout::BlockKey;

/// A listed block with its footer.
#[derive(Clone, Debug)]
pub struct Block {
    /// Where it lies.
    pub key: BlockKey,
    /// Its listed size.
    pub size_bytes: u64,
    /// When it was written, by the store's clock.
    pub modified: Timestamp,
    /// Its footer.
    pub meta: Arc<BlockMeta>,
}

/// A listing of blocks, level 0 before level 1, with their footers.
#[derive(Clone, Debug)]
pub struct View {
    /// A time, by the store's clock, at or before the moment at which the listing began.
    pub began: Timestamp,
    /// Every listed block.
    pub blocks: Vec<Block>,
}

impl View {
    /// The blocks that count for `shard`: all that have rows of it and are not replaced for it by a visible output
    /// that was written before the listing began.
    pub fn visible(&self, shard: Shard) -> Vec<&Block> {
        let _ = shard;
        todo!()
    }
}
