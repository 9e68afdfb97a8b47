//! `farm/pinned/<hour>/<entries shard>.json`: which blocks of entries have had their newest traces pinned (rule 5).
//!
//! A document is written over by whoever completes the same hour and shard; each version is true by itself (all pins of
//! the blocks it names were completed before it was written), so that the last writer winning loses nothing: what it does
//! not name is done again.

use std::collections::{BTreeSet, HashSet};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::plan::Covered;
use crate::error::{Result, ResultExt};
use crate::model::{BlockId, Hour, Shard, ShardDir};
use crate::query::AT_A_TIME;
use crate::store::{Key, Prefix, Store, StoreErrorKind};

/// The document.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Pinned {
    /// When it was written, by the store's clock: for people.
    at: Timestamp,
    /// The blocks whose newest traces are pinned.
    blocks: BTreeSet<BlockId>,
}

/// Reads the documents of the hours that `wanted` says; another name for the listing of `farm/pinned/`.
pub async fn read(store: &Store, wanted: impl Fn(Hour) -> bool) -> Result<Covered> {
    let listing = store.list(&Prefix::Pinned).await?;
    let keys = listing.objects.into_iter().filter_map(|object| match object.key {
        Key::Pinned(hour, ShardDir::One(shard)) if wanted(hour) => Some((hour, shard)),
        _ => None,
    });
    let reads = stream::iter(keys).map(|(hour, shard)| async move {
        let key = Key::Pinned(hour, ShardDir::One(shard));
        match store.get(&key).await {
            Ok((body, _)) => match serde_json::from_slice::<Pinned>(&body) {
                Ok(document) => Ok(Some(((hour, shard), document.blocks.into_iter().collect::<HashSet<_>>()))),
                Err(error) => {
                    // It covers nothing then, and the pins are completed once more: that writes it anew.
                    tracing::warn!(document = %key.path(), %error, "a list of pinned blocks is damaged and will be made again");
                    Ok(None)
                }
            },
            // It went with its hour between the listing and now.
            Err(gone) if gone.kind == StoreErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    });
    let documents: Vec<_> = reads.buffer_unordered(AT_A_TIME).try_collect().await?;
    Ok(Covered(documents.into_iter().flatten().collect()))
}

/// Writes that the newest traces of `shard` in `blocks` of `hour` have been pinned.
pub async fn write(
    store: &Store,
    hour: Hour,
    shard: Shard,
    blocks: impl IntoIterator<Item = BlockId>,
    at: Timestamp,
) -> Result<()> {
    let document = Pinned { at, blocks: blocks.into_iter().collect() };
    let body = serde_json::to_vec(&document).context("write a list of pinned blocks")?;
    store.overwrite(&Key::Pinned(hour, ShardDir::One(shard)), body.into()).await?;
    Ok(())
}

/// Deletes the document of an hour that has no block left.
pub async fn delete(store: &Store, hour: Hour, shard: Shard) -> Result<()> {
    Ok(store.delete(&Key::Pinned(hour, ShardDir::One(shard))).await?)
}
