//! `tracefarm run`

mod summary;

use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::progress::Bars;
use super::{Exit, Session, complain, guard, out, settings};
use crate::error::{Mistake, Report, Result, ResultExt, find, told};
use crate::farm::Settings;
use crate::farm::health::{server, systemd};
use crate::farm::peers::Provider;
use crate::farm::record::{Memory, Record};
use crate::farm::settings::Span;
use crate::farm::worker::{Archive, GaveUp, Options, Summary, Worker, WouldExpire};
use crate::model::WorkerName;
use crate::stage::Pace;
use crate::store::Store;
use crate::task::{self, Task};

/// The least memory that a worker can do its work in.
const LEAST_MEMORY: ByteSize = ByteSize::mib(64);

/// Work: index what is in the inbox, compact, publish, expire
#[derive(clap::Args, Debug)]
pub struct Args {
    /// End when nothing is left to do; every hour counts as closed
    #[arg(long, env = "TRACEFARM_ONCE", hide_env_values = true, value_parser = out::boolish())]
    once: bool,
    /// Print what would be done, and do nothing
    #[arg(long, env = "TRACEFARM_DRY_RUN", hide_env_values = true, value_parser = out::boolish())]
    dry_run: bool,
    /// Where collectors write, if it is not inbox/ in the store: a bucket, a prefix or a folder
    #[arg(long, value_name = "URL", env = "TRACEFARM_INBOX", hide_env_values = true)]
    inbox: Option<String>,
    /// Delete nothing in the inbox: remember in the store what was indexed
    #[arg(long, env = "TRACEFARM_KEEP_INBOX", hide_env_values = true, value_parser = out::boolish())]
    keep_inbox: bool,
    /// How long merged blocks stand beside what replaces them; 0s if nobody else reads or works on the store
    /// [default: as the store's settings say, 10m]
    #[arg(long, value_name = "TIME", value_parser = super::span, env = "TRACEFARM_GRACE", hide_env_values = true)]
    grace: Option<Span>,
    /// Memory that batches, merges and fetches share [default: 512MiB]
    #[arg(long, value_name = "SIZE", env = "TRACEFARM_MEMORY", hide_env_values = true)]
    memory: Option<ByteSize>,
    /// Who says who the peers are: store (heartbeats), gce (the managed instance group), kubernetes:SERVICE (ready
    /// pods), aws (the Auto Scaling group), static:NAME,NAME… [default: store]
    #[arg(long, value_name = "WHO", env = "TRACEFARM_PEERS", hide_env_values = true)]
    peers: Option<Provider>,
    /// The worker's name among its peers [default: as the provider calls it, or the host's name and the process's]
    #[arg(long, env = "TRACEFARM_NAME", hide_env_values = true)]
    name: Option<WorkerName>,
    /// Answer /healthz and /metrics (Prometheus) there, eg 0.0.0.0:8079 [default: nowhere]
    #[arg(long, value_name = "HOST:PORT", env = "TRACEFARM_HEALTH", hide_env_values = true)]
    health: Option<String>,
    /// Expire an archive that is older than it is kept
    #[arg(long, env = "TRACEFARM_YES", hide_env_values = true, value_parser = out::boolish())]
    yes: bool,
    /// Run the program that the setting `publish_command` names. Whoever may write the store's settings can then run
    /// programs as this worker's user
    #[arg(long, env = "TRACEFARM_ALLOW_PUBLISH_COMMAND", hide_env_values = true, value_parser = out::boolish())]
    allow_publish_command: bool,
    #[command(flatten)]
    output: out::Output,
}

/// What a run prints. The fields are stable.
#[derive(Serialize)]
struct Ran {
    #[serde(flatten)]
    summary: Summary,
    /// The most memory that the process had at a time; none where the system does not say (only Linux does).
    peak_memory_bytes: Option<u64>,
}

impl Args {
    /// Works, and prints what it came to.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let config = &session.config.run;
        // Before anything that may take time: whoever asks how the worker is has an answer from the start.
        let record = Record::new(session.clock.clone());
        let _answering = match self.health.as_ref().or(config.health.as_ref()).filter(|_| !self.dry_run) {
            Some(address) => {
                let listener = server::listen(address).await?;
                Some(task::spawn(server::serve(listener, record.clone(), session.clock.clone())))
            }
            None => None,
        };
        let store = session.writer().await?;
        let keep_inbox = self.keep_inbox || config.keep_inbox.unwrap_or(false);
        let inbox = match self.inbox.as_ref().or(config.inbox.as_ref()) {
            Some(url) => Some(session.inbox(url, &store, keep_inbox).await?),
            None => None,
        };
        let memory = self.memory.or(config.memory).unwrap_or(ByteSize::mib(512));
        if memory < LEAST_MEMORY {
            return Err(Mistake(format!("{memory} of memory is too little: a worker needs {LEAST_MEMORY}")).into());
        }
        let peers = match (self.peers, &config.peers) {
            (Some(peers), _) => peers,
            (None, Some(peers)) => peers.parse()?,
            (None, None) => Provider::Store,
        };
        let name = match (self.name, &config.name) {
            (Some(name), _) => name,
            (None, Some(name)) => named(Some(name))?,
            (None, None) => peers.my_name(&session.clock).await?.map_or_else(|| named(None), Ok)?,
        };
        let options = Options {
            name,
            peers,
            once: self.once,
            grace: self.grace.or(config.grace).map(|grace| grace.0),
            keep_inbox,
            memory_bytes: usize::try_from(memory.as_u64()).context("fit the memory into this machine")?,
            archive: if self.yes { Archive::Expire } else { Archive::Ask },
            guard: match self.allow_publish_command || config.allow_publish_command.unwrap_or(false) {
                true => Some(guard::program()?),
                false => None,
            },
            pace: Pace::default(),
        };
        if !self.dry_run {
            begin_settings(session, &store).await?;
        }
        let mut worker = Worker::new(store, session.clock.clone(), options).recorded_by(record);
        if let Some(inbox) = inbox {
            worker = worker.with_inbox(inbox);
        }
        if self.dry_run {
            let plans = worker.plans().await?;
            self.output.show(&plans, |plans| plans.to_string())?;
            return Ok(Exit::Done);
        }
        work(worker.watched_by(Arc::new(Bars::new())), self.output).await
    }
}

/// Runs `worker` until it ends by itself or a signal stops it.
pub async fn work(worker: Worker, output: out::Output) -> Result<Exit> {
    let stop = CancellationToken::new();
    let signals = stopped_by_signals(&stop)?;
    let service = systemd::OfWorker { record: worker.record().clone(), clock: worker.clock().clone() };
    let telling = task::spawn(systemd::tell(service, worker.clock().clone(), stop.clone()));
    let once = worker.runs_once();
    let outcome = worker.run(&stop).await;
    drop((signals, telling));
    systemd::ends();
    match outcome {
        Ok(summary) => {
            // Of a worker that goes on until it is told to end the next one tries again what failed, as it would have.
            let exit = if summary.is_clean() || !once { Exit::Done } else { Exit::Unfinished };
            let peak_memory_bytes = Memory::now().map(|memory| memory.peak_bytes);
            let ran = Ran { summary, peak_memory_bytes };
            output.show(&ran, |ran| summary::text(&ran.summary, ran.peak_memory_bytes))?;
            Ok(exit)
        }
        Err(report) => ended(report),
    }
}

/// The ends of a worker that have codes of their own.
pub fn ended(report: Report) -> Result<Exit> {
    if let Some(would) = find::<WouldExpire>(&report) {
        complain(&would.to_string());
        return Ok(Exit::NeedsYes);
    }
    if find::<GaveUp>(&report).is_some() {
        tracing::error!(failure = told(&report), "the worker gave up");
        return Ok(Exit::GaveUp);
    }
    Err(report)
}

/// Sets the settings of the configuration file, if the store has none yet.
async fn begin_settings(session: &Session, store: &Store) -> Result<()> {
    let pairs = settings::pairs(&session.config.settings)?;
    if !pairs.is_empty() && Settings::load(store).await?.0 == 0 {
        Settings::set(store, &pairs, session.store_now(store).await?).await?;
    }
    Ok(())
}

/// The first SIGTERM or SIGINT lets the item in hand finish, the second ends the process: nothing is lost either way.
///
/// It listens once this returns, and not when the runtime first comes to it: a supervisor may stop what has just told that it
/// is ready.
pub fn stopped_by_signals(stop: &CancellationToken) -> Result<Task<()>> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let stop = stop.clone();
    Ok(task::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first {
                tracing::info!("stopping; what is in hand may take 20 s more (a second signal ends it at once)");
                stop.cancel();
            }
        }
        #[expect(clippy::exit, reason = "a second signal: a person or a supervisor will not wait for destructors")]
        std::process::exit(Exit::Interrupted as i32)
    }))
}

pub fn named(name: Option<&str>) -> Result<WorkerName, Mistake> {
    let name = name.map_or_else(host_and_process, str::to_owned);
    name.parse().map_err(|error: crate::model::ParseError| Mistake(error.to_string()))
}

/// `<host>-<process id>`, in the letters that a name may have.
fn host_and_process() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let fits = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' };
    let host: String = host.chars().take(100).map(fits).collect();
    format!("{host}-{}", std::process::id())
}

/// A lone worker's options: nobody else reads or works on the store.
pub fn alone() -> Result<Options> {
    let grace = Some(Duration::ZERO);
    Ok(Options { once: true, grace, ..Options::new(named(None)?) })
}
