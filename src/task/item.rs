//! Work within a budget of time, which says what it was at when the time is over.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytesize::ByteSize;

use crate::clock::Clock;

tokio::task_local! {
    /// What the current task works on. Tasks that are spawned go on with it.
    static ITEM: Item;
}

/// What is known of the work in hand; nothing, outside of [`within`].
#[derive(Clone, Default)]
pub(super) struct Item(Option<Arc<Known>>);

struct Known {
    clock: Clock,
    moved_bytes: AtomicU64,
    doing: Mutex<At>,
}

#[derive(Default)]
struct At {
    next: u64,
    /// What is under way, in the order in which it began, and since when.
    all: BTreeMap<u64, (String, Duration)>,
}

impl Item {
    pub fn current() -> Self {
        ITEM.try_with(Clone::clone).unwrap_or_default()
    }

    pub async fn scope<T>(self, work: impl Future<Output = T>) -> T {
        ITEM.scope(self, work).await
    }

    pub fn enter<T>(self, work: impl FnOnce() -> T) -> T {
        ITEM.sync_scope(self, work)
    }
}

/// What is under way until this is dropped.
pub struct Doing(Option<(Arc<Known>, u64)>);

impl Drop for Doing {
    fn drop(&mut self) {
        if let Some((known, number)) = self.0.take() {
            known.doing.lock().unwrap_or_else(PoisonError::into_inner).all.remove(&number);
        }
    }
}

/// Notes what the item in hand is at: a verb and its object. Said only if the item takes too long.
pub fn doing(what: impl FnOnce() -> String) -> Doing {
    let Item(Some(known)) = Item::current() else { return Doing(None) };
    let since = known.clock.monotonic();
    let mut at = known.doing.lock().unwrap_or_else(PoisonError::into_inner);
    let number = at.next;
    at.next += 1;
    at.all.insert(number, (what(), since));
    drop(at);
    Doing(Some((known, number)))
}

/// Notes that the item in hand has read or written so many bytes.
pub fn moved(bytes: u64) {
    if let Item(Some(known)) = Item::current() {
        known.moved_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Work took longer than its budget and was stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct OverBudget {
    /// How long it may have taken.
    pub budget: Duration,
    /// Bytes it had read and written.
    pub moved_bytes: u64,
    /// What it was at, and for how long, the oldest first.
    pub at: Vec<(String, Duration)>,
}

impl fmt::Display for OverBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |time: Duration| humantime::format_duration(Duration::from_secs(time.as_secs()));
        let (budget, moved) = (whole(self.budget), ByteSize(self.moved_bytes).display().si());
        write!(f, "it took longer than its {budget} and was stopped; {moved} had come and gone; it was at ")?;
        match self.at.split_at_checked(3) {
            _ if self.at.is_empty() => f.write_str("nothing that is known"),
            Some((shown, more)) if !more.is_empty() => write!(f, "this: {}, and {} more", list(shown), more.len()),
            _ => write!(f, "this: {}", list(&self.at)),
        }
    }
}

fn list(at: &[(String, Duration)]) -> String {
    let whole = |time: &Duration| humantime::format_duration(Duration::from_secs(time.as_secs())).to_string();
    at.iter().map(|(what, time)| format!("{what} ({})", whole(time))).collect::<Vec<_>>().join(", ")
}

/// Runs `work` for at most `budget`. Then it is dropped, with every task that it began and joins: structured, so nothing
/// of it goes on.
///
/// # Errors
/// [`OverBudget`].
pub async fn within<T>(clock: &Clock, budget: Duration, work: impl Future<Output = T>) -> Result<T, OverBudget> {
    let known = Arc::new(Known { clock: clock.clone(), moved_bytes: AtomicU64::new(0), doing: Mutex::default() });
    let mut work = std::pin::pin!(Item(Some(known.clone())).scope(work));
    tokio::select! {
        biased;
        done = &mut work => return Ok(done),
        () = clock.sleep(budget) => {}
    }
    // Before it is dropped, and what it was at with it.
    let now = clock.monotonic();
    let at = known.doing.lock().unwrap_or_else(PoisonError::into_inner);
    let at = at.all.values().map(|(what, since)| (what.clone(), now.saturating_sub(*since))).collect();
    Err(OverBudget { budget, moved_bytes: known.moved_bytes.load(Ordering::Relaxed), at })
}
