//! What the farm did, seen from outside: every level-0 block and every strike that ever was.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracefarm::clock::Clock;
use tracefarm::error::{Result, is_not_found};
use tracefarm::model::{BlockId, BootId, ShardDir, Table};
use tracefarm::store::{Key, Prefix, Store};
use tracefarm::table::read::Blocks;

/// Blocks stand for at least the grace, and strikes until somebody has been through a round of index.
const EVERY: Duration = Duration::from_secs(1);

/// What was seen.
#[derive(Default)]
pub struct Seen {
    /// Rows of each level-0 block of spans.
    blocks: HashMap<BlockId, u64>,
    strikes: HashSet<(u64, BootId)>,
    /// Objects that had strikes.
    struck: HashSet<u64>,
}

/// Looks at the store all the time.
pub struct Tally {
    pub store: Store,
    pub clock: Clock,
    pub seen: Arc<Mutex<Seen>>,
}

impl Tally {
    pub async fn run(self) -> Result<()> {
        let blocks = Blocks::new(self.store.clone(), 1 << 20);
        loop {
            // It is looked again a second later.
            if let Err(report) = self.look(&blocks).await {
                eprintln!("chaos: the tally could not look: {report}");
            }
            self.clock.sleep(EVERY).await;
        }
    }

    /// Looks once.
    pub async fn look(&self, blocks: &Blocks) -> Result<()> {
        for object in self.store.list(&Prefix::Shard(Table::Spans, ShardDir::All)).await?.objects {
            let Key::Block(key) = object.key else { continue };
            if self.seen().blocks.contains_key(&key.block) {
                continue;
            }
            match blocks.meta(&key, object.size_bytes).await {
                Ok(meta) => drop(self.seen().blocks.insert(key.block, meta.rows)),
                Err(report) if is_not_found(&report) => {}
                Err(report) => return Err(report),
            }
        }
        for object in self.store.list(&Prefix::Strikes).await?.objects {
            if let Key::Strike(id, boot) = object.key {
                let mut seen = self.seen();
                seen.strikes.insert((id, boot));
                seen.struck.insert(id);
            }
        }
        Ok(())
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// Level-0 blocks of spans, and their rows.
    pub fn indexed(&self) -> (usize, u64) {
        (self.blocks.len(), self.blocks.values().sum())
    }

    /// Strikes, and objects that had some.
    pub fn strikes(&self) -> (usize, usize) {
        (self.strikes.len(), self.struck.len())
    }
}
