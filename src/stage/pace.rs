//! How soon a worker looks for work and takes it: a process's own choice, which no other worker notices.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

/// How soon a worker looks for work and takes it.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Inbox objects younger than this are left alone; none: as the settings say.
    pub settle: Option<Duration>,
    /// A batch is begun when its oldest object has waited this long, or when there is enough for a full one.
    pub batch_age: Duration,
    /// How often a handler is published at most, and then at once when something was indexed; none: as the settings say.
    pub publish_every: Option<Duration>,
    /// The pause when there is nothing to do, doubled each time …
    pub shortest_pause: Duration,
    /// … up to this.
    pub longest_pause: Duration,
    /// The pause between two cycles that had something to do.
    pub breath: Duration,
    /// Ends a pause: something came.
    pub came: Arc<Notify>,
}

/// Of a farm, where requests cost money and pages are looked at by the minute.
impl Default for Pace {
    fn default() -> Self {
        Self {
            settle: None,
            batch_age: Duration::from_secs(60),
            publish_every: None,
            shortest_pause: Duration::from_secs(2),
            longest_pause: Duration::from_secs(30),
            breath: Duration::ZERO,
            came: Arc::default(),
        }
    }
}

impl Pace {
    /// Of one person's machine: what comes is to be seen at once, and listings cost nothing. What comes while a cycle
    /// runs and during the breath after it is one batch, so that a flood costs no more than a trickle.
    pub fn eager() -> Self {
        Self {
            settle: Some(Duration::ZERO),
            batch_age: Duration::ZERO,
            publish_every: Some(Duration::ZERO),
            shortest_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(2),
            breath: Duration::from_millis(200),
            came: Arc::default(),
        }
    }

    /// Whether what was indexed is published at once.
    pub fn is_eager(&self) -> bool {
        self.publish_every.is_some()
    }
}
