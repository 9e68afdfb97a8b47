//! What stands below `site/`, by one listing.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::error::Result;
use crate::store::layout::SiteKey;
use crate::store::{Key, Prefix, Store};

/// Documents and files: of each its etag, and when it was written.
#[derive(Debug, Default)]
pub(super) struct Listed(HashMap<SiteKey, (String, Timestamp)>);

impl Listed {
    /// Lists them.
    pub async fn now(store: &Store) -> Result<Self> {
        let site = store.list(&Prefix::Site).await?;
        let documents = site.objects.into_iter().filter_map(|object| match object.key {
            Key::Site(key) => Some((key, (object.etag, object.modified))),
            _ => None,
        });
        Ok(Self(documents.collect()))
    }

    /// Whether a document stands as it was written.
    pub fn stands(&self, key: &SiteKey, etag: &str) -> bool {
        self.0.get(key).is_some_and(|(there, _)| there == etag)
    }

    /// When a document was written; none if it does not stand.
    pub fn written(&self, key: &SiteKey) -> Option<Timestamp> {
        self.0.get(key).map(|(_, written)| *written)
    }

    #[cfg(test)]
    pub fn of<const N: usize>(documents: [(SiteKey, &str); N]) -> Self {
        let documents = documents.into_iter().map(|(key, etag)| (key, (etag.to_owned(), Timestamp::UNIX_EPOCH)));
        Self(documents.collect())
    }
}
