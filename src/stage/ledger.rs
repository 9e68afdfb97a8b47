//! What has been indexed of an inbox that is kept (`--keep-inbox`): `farm/ledger/<day>/<ulid>.json`.
//!
//! Instead of deleting a batch's inbox objects, index writes their identities (path and etag), after the batch's blocks
//! are durable: dying before that indexes them again, which rule 3 makes harmless. A document is deleted when every
//! object in it is gone from the inbox, so that the ledger does not outgrow what it is about.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use ulid::Ulid;
use xxhash_rust::xxh3::Xxh3;

use super::{Desk, Fence};
use crate::error::{Report, Result, ResultExt};
use crate::store::{Key, Object, Prefix};

/// How many documents are read at a time.
const AT_A_TIME: usize = 20;

/// One document.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    objects: Vec<Indexed>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Indexed {
    path: String,
    etag: String,
}

/// A document's name, and the identities in it.
type Pages = BTreeMap<(Date, Ulid), HashSet<u128>>;

/// What the ledger says, as last read. Documents never change, so only new ones are fetched. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pages: Arc<Mutex<Pages>>,
}

impl Ledger {
    /// Reads what is new in the ledger, and forgets what is no longer there.
    pub async fn refresh(&self, desk: &Desk) -> Result<()> {
        let listed = desk.store.list(&Prefix::Ledger).await?;
        let names: Vec<(Date, Ulid)> = listed.objects.iter().filter_map(|object| name(&object.key)).collect();
        let unread: Vec<_> = {
            let mut pages = self.lock();
            pages.retain(|name, _| names.contains(name));
            names.into_iter().filter(|name| !pages.contains_key(name)).collect()
        };
        let read = stream::iter(unread).map(|(day, ulid)| {
            let store = desk.store.clone();
            async move {
                let key = Key::Ledger(day, ulid);
                let (bytes, _) = store.get(&key).await?;
                let page: Page = serde_json::from_slice(&bytes).context(format!("read {}", key.path()))?;
                let hashes = page.objects.iter().map(|object| hash(&object.path, &object.etag)).collect();
                Ok::<_, Report>(((day, ulid), hashes))
            }
        });
        let read: Vec<_> = read.buffer_unordered(AT_A_TIME).try_collect().await?;
        self.lock().extend(read);
        Ok(())
    }

    /// Whether this content of this object has been indexed.
    pub fn has(&self, object: &Object) -> bool {
        let hash = hash(&object.key.path(), &object.etag);
        self.lock().values().any(|page| page.contains(&hash))
    }

    /// Notes that `objects` have been indexed: all their blocks are durable.
    pub async fn note(&self, desk: &Desk, objects: &[Object]) -> Result<()> {
        let day = TimeZone::UTC.to_datetime(desk.clock.wall()).date();
        let name = (day, desk.clock.ulid());
        let indexed = |object: &Object| Indexed { path: object.key.path(), etag: object.etag.clone() };
        let page = Page { objects: objects.iter().map(indexed).collect() };
        let body = serde_json::to_vec(&page).context("write a page of the ledger")?;
        desk.store.create(&Key::Ledger(name.0, name.1), body.into()).await?;
        let hashes = page.objects.iter().map(|object| hash(&object.path, &object.etag)).collect();
        self.lock().insert(name, hashes);
        Ok(())
    }

    /// Deletes the documents of which no object is in the inbox any more. `inbox` is a whole listing of it.
    pub async fn forget_gone(&self, desk: &Desk, inbox: &[Object], fence: &Fence) -> Result<u64> {
        let there: HashSet<u128> = inbox.iter().map(|object| hash(&object.key.path(), &object.etag)).collect();
        let gone: Vec<_> = {
            let pages = self.lock();
            pages.iter().filter(|(_, page)| page.is_disjoint(&there)).map(|(name, _)| *name).collect()
        };
        let mut deleted = 0;
        for (day, ulid) in gone {
            // An object that comes back with the same content is indexed once more: rule 3.
            fence.allows_delete()?;
            desk.store.delete(&Key::Ledger(day, ulid)).await?;
            self.lock().remove(&(day, ulid));
            deleted += 1;
        }
        Ok(deleted)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(key: &Key) -> Option<(Date, Ulid)> {
    if let Key::Ledger(day, ulid) = key { Some((*day, *ulid)) } else { None }
}

/// 128 bits: two of a billion objects have the same with a chance of 10^-21.
fn hash(path: &str, etag: &str) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(path.as_bytes());
    hash.update(&[0]);
    hash.update(etag.as_bytes());
    hash.digest128()
}
