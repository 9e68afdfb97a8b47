//! The fence: an item that ran too long changes nothing more that others may rely on (rule 2).
//!
//! What an item does, it decides by a listing from its beginning. Blocks that were on that listing are deleted by others
//! only when what replaced them has stood for the grace. So for half the grace the listing can be relied on, and with
//! the other half as margin a delete that was sent in time is over in time. After that the item only adds blocks under
//! new names, which does no harm at any time, and begins again with a new listing.

use std::time::Duration;

use super::Desk;
use crate::clock::Clock;
use crate::farm::StoreClock;

/// Measures one item, from before its listing. Cheap to clone.
#[derive(Clone)]
pub struct Fence {
    clock: Clock,
    store_clock: StoreClock,
    began: Duration,
    /// None: the grace is zero, and the fence is off.
    limit: Option<Duration>,
}

/// Why an item may not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fenced {
    /// It ran too long.
    #[error(
        "this took longer than half the grace ({limit:?}), so what it was decided by may be out of date; a later round begins again"
    )]
    Late {
        /// Half the grace.
        limit: Duration,
    },
    /// The heartbeat cannot be written: the store's time is not known, and peers may take this worker for dead.
    #[error("the last heartbeat is older than 60 s, so nothing is deleted")]
    NoHeartbeat,
}

impl Fence {
    /// An item begins: call this before its listing is taken.
    pub fn begin(desk: &Desk) -> Self {
        let limit = (!desk.grace.is_zero()).then(|| desk.grace / 2);
        Self {
            began: desk.clock.monotonic(),
            clock: desk.clock.clone(),
            store_clock: desk.store_clock().clone(),
            limit,
        }
    }

    /// How long the listing can still be relied on; none: for ever.
    pub fn left(&self) -> Option<Duration> {
        self.limit.map(|limit| limit.saturating_sub(self.clock.monotonic() - self.began))
    }

    /// Whether half of that time is over.
    pub fn is_half_spent(&self) -> bool {
        self.limit.zip(self.left()).is_some_and(|(limit, left)| left < limit / 2)
    }

    /// Asked right before each write of a mutable name or a pin.
    pub fn allows_write(&self) -> Result<(), Fenced> {
        match self.limit {
            Some(limit) if self.clock.monotonic() - self.began > limit => Err(Fenced::Late { limit }),
            _ => Ok(()),
        }
    }

    /// Asked right before each delete: also the heartbeat must be fresh (rule 8).
    pub fn allows_delete(&self) -> Result<(), Fenced> {
        self.allows_write()?;
        if self.store_clock.is_fresh() { Ok(()) } else { Err(Fenced::NoHeartbeat) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::testing::{GRACE, World};

    #[tokio::test(start_paused = true)]
    async fn an_item_that_took_longer_than_half_the_grace_changes_nothing_more() {
        let world = World::new();
        let mut at = world.desk().await;
        let heart = at.desk.heart.clone();
        let fence = Fence::begin(&at.desk);
        world.sleep(GRACE.as_secs() / 2).await;
        assert_eq!((fence.allows_write(), fence.allows_delete()), (Ok(()), Err(Fenced::NoHeartbeat)));
        heart.beat(&at.desk.store).await.unwrap();
        assert_eq!((fence.allows_write(), fence.allows_delete()), (Ok(()), Ok(())));
        world.sleep(1).await;
        let late = Err(Fenced::Late { limit: GRACE / 2 });
        assert_eq!((fence.allows_write(), fence.allows_delete()), (late.clone(), late));

        at.desk.grace = Duration::ZERO;
        let off = Fence::begin(&at.desk);
        world.sleep(24 * 3600).await;
        heart.beat(&at.desk.store).await.unwrap();
        assert_eq!((off.allows_write(), off.allows_delete()), (Ok(()), Ok(())));
    }
}
