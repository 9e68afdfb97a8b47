//! `farm/pinned/<hour>/<entries shard>.json`: which blocks of entries have had their newest traces pinned (rule 5).
//!
//! A document is written over by whoever completes the same hour and shard; each version is true by itself (all pins of
//! the blocks it names were completed before it was written), so that the last writer winning loses nothing: what it does
//! not name is done again.
//!
//! It is true for the [`terms`] by which it was decided what must stay. When these change (`keep_last` is raised, a newer
//! trace is forgotten) a trace may have to stay that has no pin: then the document covers nothing, until the pins are
//! completed by the new terms. Otherwise spans would go that only the entries, which nobody has looked at again, call for.

use std::collections::{BTreeSet, HashSet};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::plan::Covered;
use crate::error::{Result, ResultExt};
use crate::model::{BlockId, Hour, Shard, ShardDir};
use crate::query::{AT_A_TIME, forgotten};
use crate::stage::Desk;
use crate::stage::publish::plan::hash_of;
use crate::store::{Key, Prefix, Store, StoreErrorKind};

/// The document.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Pinned {
    /// When it was written, by the store's clock: for people.
    at: Timestamp,
    /// What decided which traces are the newest that must stay ([`terms`]).
    terms: String,
    /// The blocks whose newest traces are pinned.
    blocks: BTreeSet<BlockId>,
}

/// What decides, beside the entries, which traces must stay: a name for it. To be asked before the pins are completed: a
/// trace that is forgotten in the meantime makes it another.
pub async fn terms(desk: &Desk) -> Result<String> {
    let (catalogue, settings) = (desk.catalogue.0, &desk.settings);
    let decided = format!("{} {:?} {catalogue}", settings.keep_last, settings.pin_max_age.map(|age| age.0));
    let forgotten = forgotten(&desk.store).await?;
    Ok(hash_of(forgotten.iter().map(ToString::to_string).chain([decided])))
}

/// The documents that stand; another name for the listing of `farm/pinned/`.
pub async fn documents(store: &Store) -> Result<Vec<(Hour, Shard)>> {
    let listing = store.list(&Prefix::Pinned).await?;
    let keys = listing.objects.into_iter().filter_map(|object| match object.key {
        Key::Pinned(hour, ShardDir::One(shard)) => Some((hour, shard)),
        _ => None,
    });
    Ok(keys.collect())
}

/// Reads the documents of the hours that `wanted` says, and of these `terms`.
pub async fn read(store: &Store, terms: &str, wanted: impl Fn(Hour) -> bool) -> Result<Covered> {
    let keys = documents(store).await?.into_iter().filter(|(hour, _)| wanted(*hour));
    let reads = stream::iter(keys).map(|(hour, shard)| async move {
        let key = Key::Pinned(hour, ShardDir::One(shard));
        match store.get(&key).await {
            Ok((body, _)) => match serde_json::from_slice::<Pinned>(&body) {
                Ok(document) if document.terms != terms => Ok(None),
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

/// Writes that the newest traces, by these `terms`, of `shard` in `blocks` of `hour` have been pinned.
pub async fn write(
    store: &Store,
    hour: Hour,
    shard: Shard,
    terms: &str,
    blocks: impl IntoIterator<Item = BlockId>,
    at: Timestamp,
) -> Result<()> {
    let document = Pinned { at, terms: terms.to_owned(), blocks: blocks.into_iter().collect() };
    let body = serde_json::to_vec(&document).context("write a list of pinned blocks")?;
    store.overwrite(&Key::Pinned(hour, ShardDir::One(shard)), body.into()).await?;
    Ok(())
}

/// Deletes the document of an hour that has no block left.
pub async fn delete(store: &Store, hour: Hour, shard: Shard) -> Result<()> {
    Ok(store.delete(&Key::Pinned(hour, ShardDir::One(shard))).await?)
}
