//! `tracefarm explain`

use std::fmt::Write;

use jiff::Timestamp;

use super::{Exit, Session, complain, out};
use crate::error::Result;
use crate::model::TraceId;
use crate::query::explain::{self, Explanation};

/// Say why a trace is kept, until when, and which handlers it hit by which rule
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The trace's id, 32 hexadecimal digits
    #[arg(value_name = "TRACE_ID")]
    trace: TraceId,
    #[command(flatten)]
    output: out::Output,
}

impl Args {
    /// Explains it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let reader = session.query().await?;
        let Some(explanation) = explain::explain(&reader, self.trace).await? else {
            complain(&format!("trace {} is not in {}", self.trace, reader.store.url()));
            return Ok(Exit::Missing);
        };
        self.output.show(&explanation, text)?;
        Ok(Exit::Done)
    }
}

fn text(explanation: &Explanation) -> String {
    let mut text = format!("{}\n{}\n", out::bold(&explanation.trace_id), explanation.verdict);
    let mut line = |line: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    };
    let moment = |time: Timestamp| time.strftime("%F %T").to_string();
    if explanation.spans > 0 {
        line(format!("\n{} spans, {} revisions of them", explanation.spans, explanation.revisions));
    }
    for entry in &explanation.entries {
        let counts_as = entry.counts_as.as_ref().map(|id| format!(", which counts as {id}")).unwrap_or_default();
        let rank = entry.rank.map(|rank| format!(", its {rank}. newest trace")).unwrap_or_default();
        let (name, rule) = (out::printable(&entry.name), &entry.rule);
        line(format!("\nhit {} ({name}){counts_as}{rank}", entry.handler));
        line(format!("    with span {} at {}, told by: {rule}", entry.span_id, moment(entry.start)));
    }
    for block in &explanation.blocks {
        line(format!("\nin {}\n    until {}", block.key, moment(block.expires)));
    }
    for pin in &explanation.pins {
        let (handler, rank, keep) = (&pin.handler, pin.rank, pin.keep_last);
        line(format!("\npinned for {handler}: the {rank}. newest of those pinned, {keep} are kept"));
        pin.keys.iter().for_each(|key| line(format!("    {key}")));
    }
    text
}
