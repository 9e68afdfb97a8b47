//! Whether the worker lives, for whoever would start another: `/healthz` and `/metrics` ([`server`]), and systemd
//! ([`systemd`]).
//!
//! Starting another one helps against what is wrong with this process, and against nothing else. So `/healthz` fails, and
//! systemd's watchdog is not fed, only if the worker itself is stuck:
//!
//! | | `/healthz` | who acts |
//! | --- | --- | --- |
//! | it works, is idle, waits for its place, starts, stops | 200 `ok` | nobody |
//! | the store does not answer, so that heartbeats grow old | 200 `degraded` | nobody: a group that replaced all its workers would find the store as it is |
//! | cycles fail | 200 `degraded` | the worker, after ten in a row: exit code 6, and its supervisor starts the program again |
//! | nothing moves | 200 until the watchdog's 15 minutes are over, then 503 `stuck` | the worker: exit code 6. The check fails only if even that hangs |
//! | the watchdog itself does not come to look: something blocks the worker's task | 503 `stuck` after two minutes | systemd, the group's autohealing, Kubernetes |
//! | the process is gone, or none of its threads answers | no answer | the same |
//!
//! An instance whose own network or credentials are broken looks from inside like a store that is down: it gives up by
//! itself again and again, and `status` shows it as gone.

pub(crate) mod metrics;
pub mod server;
pub mod systemd;

use std::time::Duration;

use serde::Serialize;

use super::heartbeat::FRESH;
use super::record::Watch;
use super::worker::watchdog::{LOOKS_EVERY, PATIENCE};

/// The watchdog looks every 30 s; if it has not for so long, its task is blocked.
const BLOCKED: Duration = Duration::from_secs(120);
/// Until the work begins a worker may take so long: every call has a time-out, and four attempts.
const STARTS_WITHIN: Duration = PATIENCE;

/// How the worker is: what `/healthz` answers, as one line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// In a word.
    pub status: Status,
    /// Why, unless it is `ok`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// In a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Fine.
    Ok,
    /// Something is wrong that another process would not mend.
    Degraded,
    /// This process must be replaced.
    Stuck,
}

impl Health {
    /// Judges by what the run's record shows at `now` ([`crate::clock::Clock::monotonic`]).
    pub fn of(watch: &Watch, now: Duration) -> Self {
        let since = |then: Duration| now.saturating_sub(then);
        let looked = watch.looked.map(since);
        let (status, reason) = match looked {
            None if since(watch.began) > STARTS_WITHIN => {
                (Status::Stuck, format!("the work has not begun for {}", minutes(since(watch.began))))
            }
            Some(looked) if looked > BLOCKED => {
                let hand = watch.in_hand.map_or("between stages", |stage| stage.name());
                (Status::Stuck, format!("blocked ({hand}): the watchdog has not looked for {}", minutes(looked)))
            }
            // The watchdog says so within 30 s, and the process ends: this is for when it does not.
            Some(_) if since(watch.moved) > PATIENCE + LOOKS_EVERY * 2 => {
                let hand = watch.in_hand.map_or("between stages", |stage| stage.name());
                (Status::Stuck, format!("nothing has moved for {} ({hand})", minutes(since(watch.moved))))
            }
            _ => match (watch.beat.map_or(since(watch.began), since), watch.failing_cycles) {
                (silent, _) if silent >= FRESH => (
                    Status::Degraded,
                    format!("no heartbeat could be written for {} s: the store does not answer", silent.as_secs()),
                ),
                (_, 0) => return Self { status: Status::Ok, reason: None },
                (_, 1) => (Status::Degraded, "the last cycle failed".to_owned()),
                (_, cycles) => (Status::Degraded, format!("the last {cycles} cycles failed")),
            },
        };
        Self { status, reason: Some(reason) }
    }

    /// Whether this process is to go on.
    pub fn is_content(&self) -> bool {
        self.status != Status::Stuck
    }
}

fn minutes(time: Duration) -> String {
    format!("{} minutes", time.as_secs() / 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Stage;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(minutes: u32) -> Duration {
        MINUTE * minutes
    }

    fn judged(watch: Watch) -> (Status, String) {
        let health = Health::of(&watch, at(100));
        (health.status, health.reason.unwrap_or_default())
    }

    #[test]
    fn only_what_is_wrong_with_the_process_itself_is_a_reason_to_replace_it() {
        let fine = Watch {
            began: Duration::ZERO,
            looked: Some(at(100) - LOOKS_EVERY),
            moved: at(99),
            beat: Some(at(100) - Duration::from_secs(15)),
            failing_cycles: 0,
            in_hand: Some(Stage::Compact),
        };
        assert_eq!(judged(fine), (Status::Ok, String::new()));
        assert_eq!(judged(Watch { moved: at(86), ..fine }).0, Status::Ok, "the watchdog is patient");

        // The store is down: nobody is to be killed for it.
        let (status, reason) = judged(Watch { beat: Some(at(95)), failing_cycles: 4, ..fine });
        assert_eq!(status, Status::Degraded);
        assert!(reason.contains("300 s: the store does not answer"), "{reason}");
        assert_eq!(
            judged(Watch { failing_cycles: 9, ..fine }),
            (Status::Degraded, "the last 9 cycles failed".to_owned())
        );

        let (status, reason) = judged(Watch { looked: Some(at(97)), ..fine });
        assert_eq!(status, Status::Stuck);
        assert_eq!(reason, "blocked (compact): the watchdog has not looked for 3 minutes");
        assert_eq!(judged(Watch { moved: at(83), in_hand: None, ..fine }).0, Status::Stuck);
    }

    #[test]
    fn a_start_has_time_but_not_for_ever() {
        let starts = |minutes: u32| Watch { began: at(100 - minutes), ..Watch::default() };
        assert_eq!(judged(starts(0)).0, Status::Ok);
        assert_eq!(judged(starts(14)).0, Status::Degraded, "the first heartbeat is overdue");
        assert_eq!(judged(starts(16)).0, Status::Stuck);
        let health = Health::of(&Watch::default(), Duration::ZERO);
        assert_eq!(serde_json::to_string(&health).unwrap(), r#"{"status":"ok"}"#);
    }
}
