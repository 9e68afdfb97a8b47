//! `tracefarm simulate`

use std::fmt::Write;

use bytesize::ByteSize;

use super::out::{self, Column};
use super::{Exit, Session};
use crate::error::{Mistake, Result};
use crate::farm::settings::When;
use crate::farm::simulate::{Projection, Scenario, project};
use crate::store::{Request, Stage};

/// Say what a farm would cost a day, from its own plans
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Workers
    #[arg(long, default_value_t = 1, env = "TRACEFARM_SIMULATE_INSTANCES", hide_env_values = true)]
    instances: usize,
    /// Spans a second that collectors write, in all
    #[arg(
        long,
        default_value_t = 100.0,
        value_name = "NUMBER",
        env = "TRACEFARM_SIMULATE_SPANS",
        hide_env_values = true
    )]
    spans_per_second: f64,
    /// Handlers, all hit equally often
    #[arg(long, default_value_t = 50, env = "TRACEFARM_SIMULATE_HANDLERS", hide_env_values = true)]
    handlers: usize,
    /// Hash buckets of the tables [default: one for each 150,000 spans a second]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=999), env = "TRACEFARM_SIMULATE_SHARDS", hide_env_values = true)]
    shards: Option<u16>,
    /// Collectors [default: as many as write objects of 8,192 spans]
    #[arg(long, env = "TRACEFARM_SIMULATE_COLLECTORS", hide_env_values = true)]
    collectors: Option<usize>,
    /// How often each collector writes an object, in seconds
    #[arg(
        long,
        default_value_t = 5.0,
        value_name = "SECONDS",
        env = "TRACEFARM_SIMULATE_OBJECT_SECONDS",
        hide_env_values = true
    )]
    object_seconds: f64,
    /// Memory of each worker (`run --memory`)
    #[arg(long, default_value = "512MiB", value_name = "SIZE", env = "TRACEFARM_MEMORY", hide_env_values = true)]
    memory: ByteSize,
    /// Cores of each worker
    #[arg(long, default_value_t = 2, env = "TRACEFARM_SIMULATE_CORES", hide_env_values = true)]
    cores: usize,
    /// Settings that the store would have, eg publish_every=15m
    #[arg(value_name = "KEY=VALUE", value_parser = super::settings::pair)]
    settings: Vec<(String, String)>,
    #[command(flatten)]
    output: out::Output,
}

impl Args {
    /// Plays the farm and prints what its day comes to.
    pub async fn run(self, _session: &Session) -> Result<Exit> {
        let output = self.output;
        // Seconds of processor time.
        let projection = crate::task::cpu(move || project(&self.scenario()?)).await?;
        output.show(&projection, text)?;
        Ok(Exit::Done)
    }

    fn scenario(&self) -> Result<Scenario> {
        let mut scenario = Scenario::new(self.instances, self.spans_per_second, self.handlers);
        scenario.object_seconds = self.object_seconds;
        scenario.collectors = self
            .collectors
            .unwrap_or_else(|| (self.spans_per_second * self.object_seconds / 8192.0).ceil().max(1.0) as usize);
        scenario.memory_bytes = self.memory.as_u64() as usize;
        scenario.cores = self.cores;
        scenario.settings = scenario.settings.with(&self.settings, When::SinceEver).map_err(Mistake)?;
        Ok(scenario.with_shards(self.shards))
    }
}

fn text(day: &Projection) -> String {
    let scenario = &day.scenario;
    let mut text = format!(
        "{}, {} spans a second, {}, {}, {} objects a second; a day:\n\n",
        out::counted(scenario.instances as u64, "instance"),
        out::count(scenario.spans_per_second.round() as u64),
        out::counted(scenario.handlers as u64, "handler"),
        out::counted(day.shards.into(), "shard"),
        out::count((scenario.collectors as f64 / scenario.object_seconds).round() as u64),
    );
    let kinds = [Request::Put, Request::Part, Request::List, Request::Get, Request::Head, Request::Delete];
    let columns = [
        Column::Left("stage"),
        Column::Right("put"),
        Column::Right("part"),
        Column::Right("list"),
        Column::Right("get"),
        Column::Right("head"),
        Column::Right("delete"),
        Column::Right("$ a day"),
    ];
    let rows = Stage::ALL.into_iter().filter(|stage| day.requests.contains_key(stage)).map(|stage| {
        let of = |kind: &Request| day.requests[&stage].get(kind).copied().unwrap_or(0);
        let name = format!("{stage:?}").to_lowercase();
        let dollars = day.dollars.get(&stage).copied().unwrap_or_default();
        [name].into_iter().chain(kinds.iter().map(|kind| out::count(of(kind)))).chain([money(dollars)]).collect()
    });
    let mut rows: Vec<Vec<String>> = rows.collect();
    let all = kinds.iter().map(|kind| out::count(day.of(*kind)));
    rows.push(["all".to_owned()].into_iter().chain(all).chain([money(day.dollars.values().sum())]).collect());
    text += &out::table(&columns, rows);
    text.push('\n');
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<12}{value}");
    };
    let (stored, blocks) = (out::bytes(day.stored_bytes), out::count(day.blocks));
    line("stored", format!("{stored} in {blocks} blocks: ${} a day", money(day.storage_dollars)));
    line("in all", format!("${} a day, instances apart", money(day.total_dollars())));
    line("collectors", format!("pay ${} a day for writing the inbox", money(day.collectors_dollars)));
    line("cores", format!("{:.1} of {} on average", day.cores, scenario.instances * scenario.cores));
    line("backlog", format!("at most {:.0} s", day.backlog_seconds));
    line("pages", format!("made every {:.0} s", day.publish_seconds));
    line("digests", format!("{} for a publisher, were all kept", out::bytes(day.digest_bytes)));
    let longest = day.longest.iter().map(|(stage, seconds)| format!("{stage:?} {seconds:.0} s").to_lowercase());
    line("longest", longest.collect::<Vec<_>>().join(", "));
    let most = scenario.settings.grace.0.as_secs_f64() / 2.0;
    for (stage, seconds) in day.longest.iter().filter(|(_, seconds)| **seconds > most) {
        let what = format!("an item of {stage:?} takes {seconds:.0} s, more than half of the grace ({most:.0} s)");
        line("warning", out::red(&what.to_lowercase()));
    }
    for rate in &day.rates {
        line("busy", format!("{}/: {:.0} writes and {:.0} reads a second", rate.folder, rate.writes, rate.reads));
    }
    line("assumed", day.assumed.to_owned());
    text
}

fn money(dollars: f64) -> String {
    format!("{dollars:.2}")
}
