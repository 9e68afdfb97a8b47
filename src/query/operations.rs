//! Services and the operations of their spans, as far back as there is time to look.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};

use super::{Reader, relisted};
use crate::error::{Result, ResultExt};
use crate::model::Table;
use crate::store::Key;
use crate::table::operations::Operation;
use crate::table::view::{Block, Scope};

/// How many blocks are looked at at once.
const AT_A_TIME: usize = 4;

/// How many operations an answer has at most: nobody picks one from a longer list.
const MOST: usize = 100_000;

/// What blocks of spans hold.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// By service, name and kind.
    pub operations: BTreeSet<Operation>,
    /// Whether every block was looked at.
    pub complete: bool,
}

/// The operations in all visible blocks, the newest hours first, as far as `time` reaches. What blocks hold is kept, so
/// that asking again gets further.
///
/// # Errors
/// Those of the store, and of damaged blocks.
pub async fn known(reader: &Reader, time: Duration) -> Result<Known> {
    relisted(|| known_once(reader, time)).await
}

async fn known_once(reader: &Reader, time: Duration) -> Result<Known> {
    let began = reader.clock.monotonic();
    let view = reader.view(&Scope::all(Table::Spans, reader.settings.grace.0)).await?;
    let mut blocks: Vec<&Block> = view.visible_parts().into_iter().map(|(_, block)| block).collect();
    blocks.dedup_by_key(|block| block.id());
    blocks.sort_by_key(|block| std::cmp::Reverse(block.key.hour));
    let looks = blocks.into_iter().map(|block| async move {
        if reader.clock.monotonic() - began > time {
            return Result::<_>::Ok(None);
        }
        let operations = reader.blocks.operations(&block.key, block.size_bytes).await;
        Ok(Some(operations.context_with(|| format!("list the operations in {}", Key::Block(block.key).path()))?))
    });
    let mut looks = stream::iter(looks).buffered(AT_A_TIME);
    let mut known = Known { complete: true, ..Known::default() };
    while let Some(operations) = looks.try_next().await? {
        match operations {
            Some(operations) if known.operations.len() < MOST => {
                known.operations.extend(operations.0.iter().cloned());
            }
            _ => known.complete = false,
        }
    }
    Ok(known)
}
