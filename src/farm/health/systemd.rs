//! What systemd is told of a service of `Type=notify` with `WatchdogSec=`: that the work has begun, that it goes on, how it
//! goes, that it ends. Where nobody asked to be told (`$NOTIFY_SOCKET`) nothing is.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use super::Health;
use crate::clock::Clock;
use crate::error::Result;
use crate::farm::Record;
use crate::farm::record::Vitals;

/// Before the work begins it is looked this often whether it has.
const LOOKS_EVERY: Duration = Duration::from_millis(200);
/// Afterwards at least this often, for the status.
const TELLS_EVERY: Duration = Duration::from_secs(10);

/// What systemd supervises.
pub trait Service {
    /// Whether its work has begun; with a server it has when this is asked.
    fn has_begun(&self) -> bool {
        true
    }

    /// Whether it is to go on: else the watchdog is not fed. It is not either if no thread comes to look.
    fn is_content(&self) -> bool {
        true
    }

    /// One line for `systemctl status`.
    fn status(&self) -> String;
}

/// A worker.
pub struct OfWorker {
    /// What it does.
    pub record: Record,
    /// Its clock.
    pub clock: Clock,
}

impl Service for OfWorker {
    fn has_begun(&self) -> bool {
        self.record.watch().looked.is_some()
    }

    fn is_content(&self) -> bool {
        Health::of(&self.record.watch(), self.clock.monotonic()).is_content()
    }

    fn status(&self) -> String {
        status(&self.record.vitals())
    }
}

/// Tells systemd of `service` until it is dropped; that it stops when `stop` is set.
pub async fn tell(service: impl Service, clock: Clock, stop: CancellationToken) -> Result<()> {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(());
    }
    while !service.has_begun() && !stop.is_cancelled() {
        clock.sleep(LOOKS_EVERY).await;
    }
    if !stop.is_cancelled() {
        send(&[NotifyState::Ready]);
    }
    // Twice in the time that systemd waits, and once more for a machine that is busy.
    let pause = sd_notify::watchdog_enabled().map_or(TELLS_EVERY, |within| TELLS_EVERY.min(within / 3));
    let mut said = String::new();
    let mut stopping = false;
    loop {
        if stop.is_cancelled() && !stopping {
            stopping = true;
            send(&[NotifyState::Stopping]);
        }
        if service.is_content() {
            send(&[NotifyState::Watchdog]);
        }
        let status = service.status();
        if status != said {
            send(&[NotifyState::Status(&status)]);
            said = status;
        }
        tokio::select! {
            () = clock.sleep(pause) => {}
            () = stop.cancelled(), if !stopping => {}
        }
    }
}

/// The service ends by itself.
pub fn ends() {
    send(&[NotifyState::Stopping]);
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("systemd could not be told: {error}");
    }
}

fn status(vitals: &Vitals) -> String {
    let mut parts = Vec::new();
    parts.push(match (vitals.rank, vitals.peers) {
        (Some(_), 0 | 1) => "alone".to_owned(),
        (Some(rank), peers) => format!("worker {} of {peers}", rank + 1),
        (None, _) => "waiting for a place".to_owned(),
    });
    parts.push(vitals.stage.clone().unwrap_or_else(|| "idle".to_owned()));
    parts.push(format!("{} objects indexed", vitals.objects));
    if let Some(backlog) = vitals.backlog.filter(|backlog| backlog.objects > 0) {
        let more = if backlog.more { "more than " } else { "" };
        parts.push(format!("{more}{} wait, the oldest for {} s", backlog.objects, backlog.oldest_seconds));
    }
    if vitals.failing_items > 0 {
        parts.push(format!("{} items fail", vitals.failing_items));
    }
    if vitals.failing_cycles > 0 {
        parts.push(format!("{} cycles in a row failed", vitals.failing_cycles));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::farm::record::Backlog;

    #[test]
    fn the_status_is_one_line() {
        assert_eq!(status(&Vitals::default()), "waiting for a place; idle; 0 objects indexed");
        let vitals = Vitals {
            rank: Some(2),
            peers: 40,
            stage: Some("compact".to_owned()),
            objects: 1_234,
            failing_items: 2,
            failing_cycles: 1,
            backlog: Some(Backlog { objects: 20, bytes: 1, oldest_seconds: 75, ..Backlog::default() }),
            ..Vitals::default()
        };
        assert_eq!(
            status(&vitals),
            "worker 3 of 40; compact; 1234 objects indexed; 20 wait, the oldest for 75 s; 2 items fail; \
             1 cycles in a row failed"
        );
    }
}
