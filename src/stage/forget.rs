//! `tracefarm forget`.
use std::collections::HashSet;

use crate::error::Result;
use crate::model::TraceId;
use crate::stage::Desk;
use crate::store::{Key, Prefix};
use jiff::Timestamp;

/// Every tombstone, and when it was written.
pub async fn tombstones(desk: &Desk) -> Result<Vec<(TraceId, Timestamp)>> {
    let listed = desk.store.list(&Prefix::Forget).await?;
    let tombstone = |object: crate::store::Object| match object.key {
        Key::Forget(trace) => Some((trace, object.modified)),
        _ => None,
    };
    Ok(listed.objects.into_iter().filter_map(tombstone).collect())
}

/// The traces that are to be forgotten.
pub async fn traces(desk: &Desk) -> Result<HashSet<TraceId>> {
    Ok(tombstones(desk).await?.into_iter().map(|(trace, _)| trace).collect())
}
