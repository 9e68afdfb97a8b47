//! `tracefarm get`

use std::collections::BTreeSet;

use serde::Serialize;

use super::out::{self, Column};
use super::{Exit, Session, complain};
use crate::error::{Result, ResultExt};
use crate::model::TraceId;
use crate::query::trace::{self, Lookup, Trace, Tree, tree::Node, tree::Place};
use crate::store::Key;

/// How many characters a bar of the waterfall takes.
const BAR: usize = 24;

/// Indentation ends at this depth: deeper spans stand below each other.
const DEEPEST: usize = 40;

/// Print one trace, from the blocks and the pins together
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The trace's id, 32 hexadecimal digits
    #[arg(value_name = "TRACE_ID")]
    trace: TraceId,
    /// `tree` or `json` of it, `otlp-json` (all that came in), `jaeger` (for Jaeger's UI), `perfetto`
    #[arg(
        short,
        long = "output",
        value_name = "FORMAT",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        env = "TRACEFARM_OUTPUT",
        hide_env_values = true
    )]
    output: Format,
    /// The spans as they came first, without later revisions
    #[arg(long, env = "TRACEFARM_BASE", hide_env_values = true, value_parser = out::boolish())]
    base: bool,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Format {
    /// A tree of spans, for people
    #[default]
    #[value(alias = "text")]
    Tree,
    /// The tree as JSON
    Json,
    /// OTLP/JSON: everything that came in
    OtlpJson,
    /// What Jaeger's UI imports
    Jaeger,
    /// What ui.perfetto.dev opens
    Perfetto,
}

/// `-o json`. The fields are stable.
#[derive(Serialize)]
struct Report<'a> {
    /// Its id.
    trace_id: String,
    /// How many rows say something else of a span than the one that is shown.
    revisions: usize,
    /// The blocks that hold rows of it.
    blocks: Vec<String>,
    /// The pins that hold it.
    pins: Vec<String>,
    /// Its spans, depth first, with `start` and `duration_ns` of the whole.
    #[serde(flatten)]
    tree: &'a Tree,
}

impl Args {
    /// Prints the trace.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let reader = session.query().await?;
        let trace = match trace::find(&reader, self.trace).await.context_with(|| format!("look for {}", self.trace))? {
            Lookup::Found(trace) => trace,
            Lookup::Forgotten => {
                complain(&format!("trace {} is to be forgotten: what may be left of it is hidden", self.trace));
                return Ok(Exit::Missing);
            }
            Lookup::Missing => {
                complain(&format!("trace {} is not in {}", self.trace, reader.store.url()));
                return Ok(Exit::Missing);
            }
        };
        match self.output {
            Format::Tree => out::print(&tree(&trace, &trace.tree(self.base)?)?)?,
            Format::Json => {
                let tree = trace.tree(self.base)?;
                out::json(&Report {
                    trace_id: trace.id.to_string(),
                    revisions: trace.revisions()?,
                    blocks: trace.blocks.iter().map(|key| Key::Block(*key).path()).collect(),
                    pins: trace.pins.iter().map(|key| Key::Pin(key.clone()).path()).collect(),
                    tree: &tree,
                })?;
            }
            Format::OtlpJson => out::print(&trace.otlp_json(self.base)?)?,
            Format::Jaeger => out::json(&trace.jaeger_json(self.base)?)?,
            Format::Perfetto => out::json(&trace.perfetto_json(self.base)?)?,
        }
        Ok(Exit::Done)
    }
}

fn tree(trace: &Trace, tree: &Tree) -> Result<String> {
    let services: BTreeSet<&str> = tree.nodes.iter().map(|node| node.service.as_str()).collect();
    let revisions = match trace.revisions()? {
        0 => String::new(),
        n => format!(", {}", out::counted(n as u64, "revision")),
    };
    let head = format!(
        "{}  {}  {}, {}, {}{revisions}\n\n",
        out::bold(&trace.id.to_string()),
        out::moment(tree.start as i64),
        out::duration(tree.duration_ns),
        out::counted(tree.nodes.len() as u64, "span"),
        out::counted(services.len() as u64, "service"),
    );
    let columns = [
        Column::Right("after"),
        Column::Right("took"),
        Column::Left("span"),
        Column::Left("service"),
        Column::Left(""),
    ];
    let rows = tree.nodes.iter().map(|node| {
        let bar = if out::colours() { bar(node, tree.duration_ns) } else { String::new() };
        let indent = "  ".repeat(node.depth.min(DEEPEST));
        vec![
            out::duration(node.offset_ns),
            out::duration(node.duration_ns),
            format!("{indent}{}{}", node.name, remarks(node)),
            node.service.clone(),
            bar,
        ]
    });
    Ok(head + &out::table(&columns, rows))
}

/// What is worth saying of a span beyond its name.
fn remarks(node: &Node) -> String {
    let kind = match node.kind {
        2 => "  server",
        3 => "  client",
        4 => "  producer",
        5 => "  consumer",
        _ => "",
    };
    let status = node.http_status.map_or_else(String::new, |status| format!("  {status}"));
    let error = match (node.error, node.status_message.as_str()) {
        (false, _) => String::new(),
        (true, "") => "  ERROR".to_owned(),
        (true, message) => format!("  ERROR {message}"),
    };
    let place = match node.place {
        Place::Root | Place::Child => "",
        Place::Orphan => "  (its parent never came)",
        Place::Cycle => "  (its parents are its own children)",
    };
    format!("{kind}{status}{error}{place}")
}

/// When the span was, within the whole trace.
fn bar(node: &Node, whole_ns: i64) -> String {
    let at = |ns: i64| ((ns.clamp(0, whole_ns) as f64 / whole_ns.max(1) as f64) * BAR as f64) as usize;
    let from = at(node.offset_ns).min(BAR - 1);
    let to = at(node.offset_ns.saturating_add(node.duration_ns)).clamp(from + 1, BAR);
    format!("{}{}", "·".repeat(from), "█".repeat(to - from))
}
