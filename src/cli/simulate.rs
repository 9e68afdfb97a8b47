//! `tracefarm simulate`

use bytesize::ByteSize;

use super::out::{self, Column};
use super::{Exit, Session};
use crate::error::{Mistake, Result};
use crate::farm::settings::When;
use crate::farm::simulate::{Projection, Scenario, project};
use crate::store::{Request, Stage};

/// Say what a farm would cost a day, from its own plans
///
/// Plays two hours in the middle of a farm's life over listings that are made up: no data is made, no store is asked.
/// Failures and retries come on top, and the instances.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Workers
    #[arg(long, default_value_t = 1, env = "TRACEFARM_SIMULATE_INSTANCES", hide_env_values = true)]
    instances: usize,
    /// Spans a second that collectors write, in all
    #[arg(long, default_value_t = 100.0, env = "TRACEFARM_SIMULATE_SPANS_PER_SECOND", hide_env_values = true)]
    spans_per_second: f64,
    /// Handlers, all hit equally often: the dearest case
    #[arg(long, default_value_t = 50, env = "TRACEFARM_SIMULATE_HANDLERS", hide_env_values = true)]
    handlers: usize,
    /// Objects a second that collectors write, in all [default: each of 8,192 spans, but at least one in five seconds]
    #[arg(long, env = "TRACEFARM_SIMULATE_OBJECTS_PER_SECOND", hide_env_values = true)]
    objects_per_second: Option<f64>,
    /// Spans a trace
    #[arg(long, default_value_t = 10.0, env = "TRACEFARM_SIMULATE_TRACE_SPANS", hide_env_values = true)]
    trace_spans: f64,
    /// Handlers that a trace enters
    #[arg(long, default_value_t = 1.4, env = "TRACEFARM_SIMULATE_TRACE_ENTRIES", hide_env_values = true)]
    trace_entries: f64,
    /// How much of that fails
    #[arg(long, default_value_t = 0.01, env = "TRACEFARM_SIMULATE_ERROR_RATE", hide_env_values = true)]
    error_rate: f64,
    /// Memory of each worker (`run --memory`)
    #[arg(long, default_value = "512MiB", value_name = "SIZE", env = "TRACEFARM_MEMORY", hide_env_values = true)]
    memory: ByteSize,
    /// Cores of each worker
    #[arg(long, default_value_t = 2, env = "TRACEFARM_SIMULATE_CORES", hide_env_values = true)]
    cores: usize,
    /// Seconds that a request takes
    #[arg(long, default_value_t = 0.05, env = "TRACEFARM_SIMULATE_REQUEST_SECONDS", hide_env_values = true)]
    request_seconds: f64,
    /// Settings that the store would have, eg publish_every=15m [default for shards: one for each 20 minutes of a core that
    /// the merge of an hour takes]
    #[arg(value_name = "KEY=VALUE", value_parser = super::settings::pair)]
    settings: Vec<(String, String)>,
    #[command(flatten)]
    output: out::Output,
}

impl Args {
    /// Plays the farm and prints what its day comes to.
    pub async fn run(self, _session: &Session) -> Result<Exit> {
        let usual = Scenario::new(self.instances, self.spans_per_second, self.handlers);
        let scenario = Scenario {
            objects_per_second: self.objects_per_second.unwrap_or(usual.objects_per_second),
            trace_spans: self.trace_spans,
            trace_entries: self.trace_entries,
            error_rate: self.error_rate,
            memory_bytes: self.memory.as_u64() as usize,
            cores: self.cores,
            request_seconds: self.request_seconds,
            settings: usual.settings.with(&self.settings, When::SinceEver).map_err(Mistake)?,
            ..usual
        };
        // Seconds of processor time.
        let projection = crate::task::cpu(move || project(&scenario)).await?;
        self.output.show(&projection, text)?;
        Ok(Exit::Done)
    }
}

fn text(day: &Projection) -> String {
    let (scenario, money) = (&day.scenario, |dollars: f64| format!("{dollars:.2}"));
    let kinds = [Request::Put, Request::Part, Request::List, Request::Get, Request::Head, Request::Delete];
    let numbers = ["put", "part", "list", "get", "head", "delete", "$ a day"].map(Column::Right);
    let columns: Vec<Column> = [Column::Left("stage")].into_iter().chain(numbers).collect();
    let row = |name: &str, of: &dyn Fn(Request) -> u64, dollars: f64| -> Vec<String> {
        let counts = kinds.iter().map(|kind| out::count(of(*kind)));
        [name.to_owned()].into_iter().chain(counts).chain([money(dollars)]).collect()
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    for stage in Stage::ALL.into_iter().filter(|stage| day.requests.contains_key(stage)) {
        let of = |kind| day.requests[&stage].get(&kind).copied().unwrap_or(0);
        rows.push(row(stage.name(), &of, day.dollars.get(&stage).copied().unwrap_or_default()));
    }
    rows.push(row("all", &|kind| day.of_kind(kind), day.dollars.values().sum()));
    let longest = day.longest_seconds.iter().map(|(stage, seconds)| format!("{} {seconds:.0} s", stage.name()));
    format!(
        "{}, {} spans a second, {}, {}; a day:\n\n{}\n\
         stored      {}, {} blocks: ${} a day\n\
         in all      ${} a day, instances apart\n\
         collectors  pay ${} a day for writing the inbox\n\
         cores       {:.1} of {} are busy\n\
         backlog     at most {} s old\n\
         pages       made every {:.0} s\n\
         longest     {}\n",
        out::counted(scenario.instances as u64, "instance"),
        out::count(scenario.spans_per_second.round() as u64),
        out::counted(scenario.handlers as u64, "handler"),
        out::counted(day.shards.into(), "shard"),
        out::table(&columns, rows),
        out::bytes(day.stored_bytes),
        out::count(day.blocks),
        money(day.storage_dollars),
        money(day.total_dollars),
        money(day.collectors_dollars),
        day.cores,
        scenario.instances * scenario.cores,
        day.backlog_seconds,
        day.publish_seconds,
        longest.collect::<Vec<_>>().join(", "),
    )
}
