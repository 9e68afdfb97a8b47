//! Blocks that queries leave out because they cannot be read: told once in the log, and with each answer that may lack
//! something for it.
//!
//! Workers mark such a block in `quarantine/blocks/` when a merge or expiry meets it, which is when `status` and the farm's
//! page tell of it; queries meet it before.

use std::collections::{BTreeSet, HashSet};
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::{BlockId, Hour};
use crate::store::Key;
use crate::store::layout::BlockKey;
use crate::table::view::Damaged;

/// So many blocks are named in a sentence.
const NAMED: usize = 3;

/// What one query has left out. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Skipped {
    /// What the log has been told of, by this query and others.
    logged: Arc<Mutex<HashSet<BlockId>>>,
    blocks: Arc<Mutex<BTreeSet<BlockKey>>>,
}

impl Skipped {
    /// For another query: what this one has logged is not logged again.
    pub fn of_another_query(&self) -> Self {
        Self { logged: Arc::clone(&self.logged), blocks: Arc::default() }
    }

    pub(super) fn note(&self, damaged: &[Damaged]) {
        for block in damaged {
            let path = || Key::Block(block.key).path();
            if lock(&self.logged).insert(block.key.block) {
                tracing::warn!(object = %path(), "a block cannot be read, and what is in it is left out: {}", block.why);
            }
            lock(&self.blocks).insert(block.key);
        }
    }

    /// What of it may hold rows of `hours`; those of the hour without times may be of any.
    pub fn within(&self, hours: impl RangeBounds<Hour>) -> Lacks {
        let blocks = lock(&self.blocks);
        let of_hours = blocks.iter().filter(|key| key.hour == Hour::EPOCH || hours.contains(&key.hour));
        Lacks(of_hours.map(|key| Key::Block(*key).path()).collect())
    }
}

/// The paths of the blocks that an answer lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lacks(pub BTreeSet<String>);

impl Lacks {
    /// In a sentence, unless it lacks none.
    pub fn sentence(&self) -> Option<String> {
        let count = self.0.len();
        let named: Vec<&str> = self.0.iter().take(NAMED).map(String::as_str).collect();
        let more = if count > NAMED { format!(" and {} more", count - NAMED) } else { String::new() };
        let (blocks, them) = if count == 1 { ("block", "it") } else { ("blocks", "them") };
        (count > 0).then(|| {
            let named = named.join(", ");
            format!("{count} {blocks} cannot be read, and what is in {them} is left out: {named}{more}")
        })
    }

    /// `text`, and the sentence, if there is one.
    pub fn beside(&self, text: &str) -> String {
        self.sentence().map_or_else(|| text.to_owned(), |sentence| format!("{text}; but {sentence}"))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A set stays whole if a thread dies while it holds the lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ShardDir, Table};

    #[test]
    fn an_answer_lacks_what_may_be_of_its_hours() {
        let hour = |text: &str| text.parse::<Hour>().unwrap();
        let damaged = |number: u128, hour: Hour| Damaged {
            key: BlockKey { table: Table::Spans, dir: ShardDir::All, hour, block: BlockId::new(ulid::Ulid(number)) },
            size_bytes: 1,
            modified: "2026-11-22T14:00:00Z".parse().unwrap(),
            why: "no footer".to_owned(),
            marked: false,
        };
        let all = Skipped::default();
        all.note(&[damaged(1, Hour::EPOCH), damaged(2, hour("2026-11-22T13")), damaged(3, hour("2026-11-22T14"))]);
        assert_eq!(all.within(..).0.len(), 3);
        let lacks = all.within(hour("2026-11-22T14")..);
        assert_eq!(lacks.0.len(), 2);
        let sentence = lacks.sentence().unwrap();
        assert!(sentence.starts_with("2 blocks cannot be read, and what is in them is left out: spans/"), "{sentence}");
        assert!(lacks.beside("not here").starts_with("not here; but 2 blocks"));

        let other = all.of_another_query();
        assert_eq!(other.within(..), Lacks::default());
        assert_eq!((other.within(..).sentence(), other.within(..).beside("not here")), (None, "not here".to_owned()));
    }
}
