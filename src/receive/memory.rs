//! What requests that wait hold together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Refusal;

/// The unit in which memory is counted; a request holds one at least, with all that it costs beside its bytes.
const UNIT_BYTES: usize = 4 << 10;

/// So much memory, for all. Cheap to clone.
#[derive(Clone)]
pub(super) struct Memory {
    free: Arc<Semaphore>,
}

/// A request's part of it, given back when this is dropped.
pub(super) struct Held {
    units: OwnedSemaphorePermit,
    free: Arc<Semaphore>,
}

impl Memory {
    pub fn new(bytes: usize) -> Self {
        Self { free: Arc::new(Semaphore::new((bytes / UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS))) }
    }

    /// A part for one request.
    ///
    /// # Errors
    /// [`Refusal::Busy`] if there is none left: nobody waits for it, as what came would have to be kept meanwhile.
    pub fn enter(&self) -> Result<Held, Refusal> {
        let units = self.free.clone().try_acquire_owned().map_err(|_| Refusal::Busy)?;
        Ok(Held { units, free: self.free.clone() })
    }
}

impl Held {
    /// Holds `bytes` in all, if it holds less.
    pub fn hold(&mut self, bytes: usize) -> Result<(), Refusal> {
        let more = bytes.div_ceil(UNIT_BYTES).saturating_sub(self.units.num_permits());
        if more > 0 {
            let more = u32::try_from(more).map_err(|_| Refusal::Busy)?;
            let more = self.free.clone().try_acquire_many_owned(more).map_err(|_| Refusal::Busy)?;
            self.units.merge(more);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_held_again() {
        let memory = Memory::new(10 * UNIT_BYTES);
        let mut one = memory.enter().unwrap();
        one.hold(8 * UNIT_BYTES).unwrap();
        one.hold(1).unwrap();
        let mut two = memory.enter().unwrap();
        two.hold(2 * UNIT_BYTES).unwrap();
        assert!(matches!(two.hold(2 * UNIT_BYTES + 1), Err(Refusal::Busy)) && memory.enter().is_err());
        drop(one);
        two.hold(10 * UNIT_BYTES).unwrap();
        assert!(memory.enter().is_err());
        drop(two);
        assert!(memory.enter().is_ok());
    }
}
