//! The stages: index → compact → publish → expire. Each is a pure plan (listing in, items out) and an execute for one
//! item.

pub mod compact;
pub mod expire;
pub mod fence;
pub mod forget;
pub mod index;
pub mod pins;
pub mod publish;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::farm::{Settings, StoreClock};
use crate::handler::catalogue::Catalogue;
use crate::store::Store;
use crate::table::read::Blocks;

/// What every stage works with: the store and what was last read of its documents. Cheap to clone; the loop makes a new
/// one when settings or the catalogue change.
#[derive(Clone)]
pub struct Desk {
    /// The farm's store.
    pub store: Store,
    /// Where collectors write: `inbox/` of the store, or another bucket or folder (`--inbox`).
    pub inbox: Inbox,
    /// Reads blocks; shared, as its cache is.
    pub blocks: Blocks,
    /// Time and chance.
    pub clock: Clock,
    /// The store's time (rule 8).
    pub store_clock: StoreClock,
    /// The newest settings, at most 5 minutes old.
    pub settings: Arc<Settings>,
    /// The newest catalogue, and its number.
    pub catalogue: Arc<(u64, Catalogue)>,
    /// The grace that counts: the settings', or `--grace`'s for a lone worker.
    pub grace: Duration,
    /// `--once`: every hour counts as closed, nothing waits.
    pub once: bool,
    /// One budget of memory, in bytes, that batches, merges and fetches share.
    pub memory_bytes: usize,
}

/// Where inbox objects are.
#[derive(Clone)]
pub struct Inbox {
    /// The store that holds them.
    pub store: Store,
    /// Nothing there is deleted: what was indexed is remembered in the ledger.
    pub keep: bool,
}
