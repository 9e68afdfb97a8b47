//! Real workers on one real store, while everything happens to them: they are killed with -9, stand still, come and go;
//! requests are cut, delayed and refused; collectors write all the time; people change settings. Then the farm comes to
//! rest, and what is in the store is held against what was fed. `scripts/chaos` runs this.
//!
//! What is done is drawn from the seed ([`plan`]); what comes of it depends on the machine's timing, too.
//!
//! The farm under chaos has a grace of one to five minutes, two shards, `settle` of a second, and batches of about a
//! megabyte, so that each rule of the store is met often. A twentieth or so of what is fed is older than it is kept: it expires at
//! once, but for the newest traces of each handler.
//!
//! # Rows indexed twice
//! A worker that dies between the block of a batch and the end of its objects leaves rows that are indexed once more.
//! That is harmless (they are one in the first merge) and wasted. If all blocks of the batch stand and it is found dead
//! within half the grace, they are not (a grace of one minute is too short for that). `rows twice` is the rows of all level-0 blocks of
//! spans that ever were, less the spans that were fed, as a share of these.

#[path = "../../tests/support/copies.rs"]
mod copies;
mod farm;
mod feed;
mod news;
#[path = "../../tests/support/official.rs"]
mod official;
mod plan;
mod proxy;
#[path = "../../tests/support/recording.rs"]
mod recording;
mod run;
mod tally;
mod verdict;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tracefarm::clock::Clock;

#[derive(Parser)]
#[command(about = "Real workers on a real store, while everything happens to them")]
struct Args {
    /// How long things happen; coming to rest takes one or two minutes more
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    time: Duration,
    /// How long it may take until the inbox is empty: a minute until the dead are known to be dead, another for a batch
    /// that waits for company, and then some for a slow machine
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration)]
    rest: Duration,
    /// What happens
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Where
    #[arg(long, value_enum, default_value_t = Kind::Local)]
    store: Kind,
    /// How many workers
    #[arg(long, default_value_t = 5)]
    workers: usize,
    /// How many are killed [default: one in 8 s]
    #[arg(long)]
    kills: Option<usize>,
    /// How many stand still for a while, every third for more than a minute [default: one in 30 s]
    #[arg(long)]
    stops: Option<usize>,
    /// How many are added or removed [default: one in 75 s]
    #[arg(long)]
    resizes: Option<usize>,
    /// The store's grace [default: an eighth of the time, between one minute and five]
    #[arg(long, value_parser = humantime::parse_duration)]
    grace: Option<Duration>,
    /// Spans that are fed a second
    #[arg(long, default_value_t = 2_000)]
    rate: usize,
    /// Spans in an object
    #[arg(long, default_value_t = 250)]
    object_spans: usize,
    /// A folder of OTLP objects that are copied
    #[arg(long, default_value = "samples/inbox")]
    recording: PathBuf,
    /// The most rows that may be indexed twice, as a percentage of those fed
    #[arg(long, default_value_t = 5.0)]
    twice: f64,
    /// The program [default: beside this one]
    #[arg(long)]
    program: Option<PathBuf>,
    /// Where logs and a local store go; made, and kept if something is wrong [default: a temporary folder]
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Where the store is.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A folder
    Local,
    /// The S3 server of `AWS_ENDPOINT_URL` and `TRACEFARM_SERVERS` (scripts/servers), behind a bad network
    S3,
}

impl Args {
    fn grace(&self) -> Duration {
        let share = Duration::from_secs(self.time.as_secs() / 8);
        self.grace.unwrap_or(share.clamp(Duration::from_secs(60), Duration::from_secs(300)))
    }

    fn terms(&self) -> plan::Terms {
        let time = self.time;
        let one_in = |seconds: u64| usize::try_from(time.as_secs().div_ceil(seconds)).unwrap_or(usize::MAX);
        plan::Terms {
            seed: self.seed,
            time,
            grace: self.grace(),
            kills: self.kills.unwrap_or(one_in(8)),
            stops: self.stops.unwrap_or(one_in(30)),
            resizes: self.resizes.unwrap_or(one_in(75)),
        }
    }
}

fn main() -> ExitCode {
    tracefarm::error::install();
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let clock = Clock::system(jiff::SignedDuration::ZERO);
    match runtime.expect("a runtime").block_on(run::run(&args, clock)) {
        Ok(news) => {
            if args.json || !std::io::stdout().is_terminal() {
                println!("{}", serde_json::to_string_pretty(&news).expect("numbers and texts"));
            } else {
                println!("{news}");
            }
            if news.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(report) => {
            eprintln!("chaos: {report}");
            ExitCode::FAILURE
        }
    }
}

/// Says how far it is: over itself on a terminal, else a line in ten seconds.
fn progress(line: &str, last: &mut Duration, now: Duration) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[2K{line}");
    } else if now.saturating_sub(*last) >= Duration::from_secs(10) {
        *last = now;
        eprintln!("{line}");
    }
}
