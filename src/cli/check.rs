//! `tracefarm check`

use super::out::{self, Column};
use super::progress::Bars;
use super::{Exit, Session};
use crate::error::Result;
use crate::query::check::{self, Check};

/// How many handlers and paths the text shows.
const SHOWN: usize = 40;

/// Read everything, verify the rules of the store, and count
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    output: out::Output,
}

impl Args {
    /// Prints the report.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let reader = session.query().await?;
        let check = check::check(&reader, &Bars::new()).await?;
        self.output.show(&check, text)?;
        Ok(if check.violation_count == 0 { Exit::Done } else { Exit::Violations })
    }
}

fn text(check: &Check) -> String {
    let mut text = format!(
        "{} spans of {} traces, {} entries of {} handlers\n{} blocks, {}; {} pins, {} in the inbox, {} in quarantine\n",
        out::count(check.spans),
        out::count(check.traces),
        out::count(check.entries),
        out::count(check.handlers.len() as u64),
        out::count(check.blocks),
        out::bytes(check.bytes),
        out::count(check.latest),
        out::count(check.inbox),
        out::count(check.quarantined),
    );
    let notes = [
        (check.revisions, "revisions of spans, of which the newest counts"),
        (check.duplicates, "rows stand in a second place for now"),
        (check.foreign.len() as u64, "names are none of ours, and left alone"),
    ];
    for (number, what) in notes.into_iter().filter(|(number, _)| *number > 0) {
        text += &format!("{} {what}\n", out::count(number));
    }
    let mut handlers: Vec<_> = check.handlers.iter().collect();
    handlers.sort_by(|a, b| b.1.count.cmp(&a.1.count).then_with(|| a.0.cmp(b.0)));
    let rows = handlers
        .iter()
        .take(SHOWN)
        .map(|(handler, counted)| vec![out::count(counted.count), out::count(counted.errors), handler.to_string()]);
    text += "\n";
    text += &out::table(&[Column::Right("entries"), Column::Right("errors"), Column::Left("handler")], rows);
    if handlers.len() > SHOWN {
        text += &format!("… and {} more\n", handlers.len() - SHOWN);
    }
    text += "\n";
    if check.violation_count == 0 {
        text += "No violation.\n";
    } else {
        text += &out::red(&format!("{} violations:\n", out::count(check.violation_count)));
        for violation in &check.violations {
            text += &format!("  {}: {}\n", out::printable(&violation.object), out::printable(&violation.what));
        }
    }
    text
}
