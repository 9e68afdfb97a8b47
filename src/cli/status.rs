//! `tracefarm status`

mod text;

use std::io::IsTerminal;
use std::time::Duration;

use super::{Exit, Session, out};
use crate::error::{Mistake, Result, find};
use crate::farm::settings::Span;
use crate::query::status::{self, Status};
use crate::store::{Stage, Store};
use crate::table::read::Blocks;

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
        let mut known = None;
        let first = look(session, inbox.as_ref(), &mut known).await?;
        let Some(pause) = self.watch else {
            self.output.show(&first, |status| text::text(status, &text::Screen::of_terminal()))?;
            return Ok(Exit::Done);
        };
        let redraws = std::io::stdout().is_terminal() && !self.output.is_json();
        if redraws {
            out::draw("\u{1b}[2J")?;
        }
        let mut status = Ok(first);
        loop {
            match &status {
                Ok(status) if redraws => redraw(&text::text(status, &text::Screen::of_terminal()))?,
                Ok(status) => self.output.show(status, |status| text::text(status, &text::Screen::of_terminal()))?,
                Err(report) if find::<Mistake>(report).is_some() => return status.map(|_| Exit::Done),
                // It may answer the next time; the log goes to standard error and stays.
                Err(report) => tracing::warn!("the store could not be asked: {report}"),
            }
            session.clock.sleep(pause.0.max(Duration::from_secs(1))).await;
            // Settings and catalogue may change between two looks.
            status = look(session, inbox.as_ref(), &mut known).await;
        }
    }
}

/// `known`: footers that were read for the looks before.
async fn look(session: &Session, inbox: Option<&Store>, known: &mut Option<Blocks>) -> Result<Status> {
    let mut reader = session.query().await?;
    reader.blocks = known.get_or_insert(reader.blocks).with_store(reader.store.clone());
    status::status(&reader, inbox.unwrap_or(&reader.store)).await
}

/// Draws over what was there, without a flicker; what does not fit into the terminal is left out.
fn redraw(text: &str) -> Result<()> {
    let rows = out::terminal().map_or(usize::MAX, |(_, rows)| rows.saturating_sub(1).max(1));
    let lines: Vec<&str> = text.lines().collect();
    let mut screen = "\u{1b}[H".to_owned();
    let shown = if lines.len() > rows { rows - 1 } else { lines.len() };
    for line in &lines[..shown] {
        screen += line;
        screen += "\u{1b}[K\n";
    }
    if shown < lines.len() {
        screen += &format!("… {} lines more\u{1b}[K\n", lines.len() - shown);
    }
    // What was below goes; the cursor stays at the end.
    screen += "\u{1b}[J";
    out::draw(&screen)
}
