//! `tracefarm status`

use std::fmt::Write;
use std::time::Duration;

use super::{Exit, Session, out};
use crate::error::Result;
use crate::farm::settings::Span;
use crate::query::status::{self, Pile, Status};
use crate::store::Stage;

/// Say what waits, what stands, who works, and what fails
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where collectors write, if it is not inbox/ in the store
    #[arg(long, value_name = "URL", env = "TRACEFARM_INBOX", hide_env_values = true)]
    inbox: Option<String>,
    /// Say it again and again [default: every 10s]
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        default_missing_value = "10s",
        value_parser = super::span,
        env = "TRACEFARM_WATCH",
        hide_env_values = true
    )]
    watch: Option<Span>,
    #[command(flatten)]
    output: out::Output,
}

impl Args {
    /// Prints the status, once or until stopped.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let inbox = match self.inbox.as_ref().or(session.config.run.inbox.as_ref()) {
            None => None,
            Some(url) => {
                let store = session.reader().await?;
                Some(session.inbox(url, &store, true).await?.for_stage(Stage::Read))
            }
        };
        loop {
            // Settings and catalogue may change between two looks.
            let reader = session.query().await?;
            let status = status::status(&reader, inbox.as_ref().unwrap_or(&reader.store)).await?;
            if self.watch.is_some() && out::colours() {
                // To the top left, and clear what was below.
                out::print("\u{1b}[H\u{1b}[2J")?;
            }
            self.output.show(&status, text)?;
            let Some(pause) = self.watch else { return Ok(Exit::Done) };
            session.clock.sleep(pause.0.max(Duration::from_secs(1))).await;
        }
    }
}

fn text(status: &Status) -> String {
    let mut text = format!("{}  {}\n\n", out::bold(&status.store), status.time.strftime("%F %T"));
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<12}{value}");
    };
    line("inbox", pile(&status.inbox));
    for table in &status.tables {
        let hours = match (table.oldest, table.newest) {
            (Some(oldest), Some(newest)) if oldest == newest => format!(", all of {oldest}"),
            (Some(oldest), Some(newest)) => format!(", {} hours from {oldest} to {newest}", table.hours),
            _ => String::new(),
        };
        let (indexed, compacted) = (pile(&table.level0), pile(&table.level1));
        line(
            &table.table,
            format!("compacted {compacted}; as indexed {indexed}{hours}; {} to merge", table.to_compact),
        );
    }
    line("latest", format!("{} of {} handlers", pile(&status.pins), status.pinned_handlers));
    for (reason, objects) in &status.quarantine {
        line("quarantine", format!("{}: {}", out::printable(reason), pile(objects)));
    }
    for block in &status.damaged_blocks {
        line("damaged", block.clone());
    }
    if status.forgetting > 0 {
        line("forgetting", format!("{} traces", status.forgetting));
    }
    line("published", status.published.map_or_else(|| "never".to_owned(), |time| time.strftime("%F %T").to_string()));
    for worker in &status.workers {
        let alive = if worker.alive { "works" } else { "is gone" };
        let version = worker.version.as_deref().unwrap_or("unknown");
        let hand = if worker.in_hand > 0 { format!(", {} objects in hand", worker.in_hand) } else { String::new() };
        line("worker", format!("{} {alive}, seen {} s ago, version {version}{hand}", worker.name, worker.seen_seconds));
    }
    for warning in &status.warnings {
        line("", out::red(warning));
    }
    text
}

fn pile(pile: &Pile) -> String {
    let age = pile.oldest_seconds.filter(|_| pile.objects > 0);
    let age = age.map(|seconds| format!(", the oldest {}", out::duration(seconds.saturating_mul(1_000_000_000))));
    format!("{} ({}{})", out::count(pile.objects), out::bytes(pile.bytes), age.unwrap_or_default())
}
