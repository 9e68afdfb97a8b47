//! `tracefarm demo`: the whole farm on sample traces, in a folder.

mod crew;
mod samples;

use std::net::SocketAddr;
use std::path::Path;

use tokio_util::sync::CancellationToken;

use self::crew::Crew;
use super::listen::Listen;
use super::run::{ended, stopped_by_signals};
use super::serve::KEPT_BYTES;
use super::{Exit, Session, complain, handlers, out};
use crate::error::{Mistake, Result, ResultExt};
use crate::farm::Settings;
use crate::model::Hour;
use crate::query::handlers::Overview;
use crate::serve::farm::Farm;
use crate::serve::{self, guard, listen};
use crate::store::{OpenOptions, Stage, Store};

/// The samples are of one day. A store that keeps a week would keep only the newest ten traces of each handler of them,
/// so this one keeps everything for a hundred years. That also tells a demo's store from anybody's.
const KEEP_FOR: &str = "100years";

/// How many handlers are shown.
const SHOWN: usize = 20;

/// Make a small store from sample traces, work on it with three workers, and serve its pages
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The store is ./tracefarm-demo, or the folder that --store names. Three workers divide the work by their names, and go on
working on what comes into its inbox until Ctrl-C. Started again it begins with the same traces, which are the same traces.")]
pub struct Args {
    /// Make the store and end: serve no pages
    #[arg(long, env = "TRACEFARM_NO_SERVE", hide_env_values = true, value_parser = out::boolish())]
    no_serve: bool,
    #[command(flatten)]
    listen: Listen,
}

impl Args {
    /// Runs it, again and again if one likes: the same traces twice are the same traces.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let name = session.store_url().unwrap_or("tracefarm-demo");
        if name.contains("://") {
            return Err(Mistake(format!("the demo is made in a folder, not in {name}")).into());
        }
        let folder = Path::new(name);
        // Before anything is written: an address that is taken is told at once.
        let listener = match self.no_serve {
            true => None,
            false => Some(self.listen.bind().await.map_err(|report| {
                match crate::error::find(&report) {
                    Some(Mistake(why)) => Mistake(format!(
                        "{why}; --listen 127.0.0.1:0 takes a free port, --no-serve makes the store without showing it"
                    ))
                    .into(),
                    None => report,
                }
            })?),
        };
        let store = Store::open(name, &OpenOptions::default(), session.clock.clone()).await?;
        let crew = Crew::hire(&store, &session.clock, folder).await?;
        begin(session, &store, name).await?;
        let stop = CancellationToken::new();
        let signals = stopped_by_signals(&stop)?;
        let (objects, bytes) = samples::put(&store, folder).await?;
        out::print(&format!("{objects} objects of sample traces ({}) into {name}/inbox\n", out::bytes(bytes)))?;
        let (done, is_clean) = match crew.drain(&stop).await {
            Ok(drained) => drained,
            Err(report) => return ended(report),
        };
        out::print(&crew::table(&done))?;
        if stop.is_cancelled() {
            return Ok(Exit::Done);
        }
        if !is_clean {
            complain("not everything could be done: the log above says what, and why");
            return Ok(Exit::Unfinished);
        }
        let overview = Overview::read(&session.query_of(name).await?).await?;
        let Some(listener) = listener else {
            out::print(&shown(name, &overview, None).await?)?;
            return Ok(Exit::Done);
        };
        let address = listener.local_addr().context("tell where the pages are")?;
        let options =
            serve::Options { hosts: guard::hosts(address, &[]), metrics_handlers: 1000, ..Default::default() };
        let farm = Farm::new(store.for_stage(Stage::Read), session.clock.clone(), KEPT_BYTES);
        let router = serve::router(&farm, options);
        out::print(&shown(name, &overview, Some(address)).await?)?;
        // A worker that gives up ends the demo: what it says of the farm would not be true any more.
        let worked = async {
            let worked = crew.stay(&stop).await;
            stop.cancel();
            worked
        };
        let served =
            listen::serve(listener, listen::Speaks::Http1, router, listen::Limits::default(), &session.clock, &stop);
        let (worked, served) = tokio::join!(worked, served);
        drop(signals);
        served?;
        worked.map(|()| Exit::Done).or_else(ended)
    }
}

/// Settings for the samples, in a store that has none yet.
///
/// # Errors
/// A [`Mistake`] if it is somebody's store: the samples would be among their traces for as long as it keeps them.
async fn begin(session: &Session, store: &Store, name: &str) -> Result<()> {
    let (number, settings) = Settings::load(store).await?;
    // What the first version says of an hour counts since ever, whatever was set later.
    if number > 0 && settings.keep_for.at(Hour::EPOCH).to_string() != KEEP_FOR {
        return Err(
            Mistake(format!("{name} is a farm's store: the demo makes one of its own, --store names where")).into()
        );
    }
    if number == 0 {
        let values = [("keep_for".to_owned(), KEEP_FOR.to_owned())];
        Settings::set(store, &values, session.store_now(store).await?).await?;
    }
    Ok(())
}

/// The handlers, and what to try.
async fn shown(folder: &str, overview: &Overview, address: Option<SocketAddr>) -> Result<String> {
    let mut rows = overview.rows().await?;
    let handlers = rows.len();
    rows.sort_by_key(|row| std::cmp::Reverse(row.count));
    // One that is worth a look: requests, some of which failed.
    let example = rows.iter().find(|row| row.kind == "http" && row.errors > 0).or(rows.first());
    let id = example.map(|row| row.id.to_string()).unwrap_or_default();
    let trace = match example {
        Some(row) => overview.summary(&row.id).await?.and_then(|all| Some(all.newest.first()?.trace_id.clone())),
        None => None,
    };
    rows.truncate(SHOWN);
    let lists = overview.not_found();
    let requests: u64 = lists.iter().map(|list| list.list.count).sum();
    let rest = if handlers > SHOWN { format!("… and {} more\n", handlers - SHOWN) } else { String::new() };
    let pages = match address {
        None => format!("\x20 tracefarm -s {folder} serve        the pages, http://127.0.0.1:8080/\n"),
        Some(_) => String::new(),
    };
    let serving = match address {
        None => String::new(),
        Some(address) => format!(
            "\nThe pages are at http://{address}/ and the three workers go on, with what comes into {folder}/inbox.\n\
             Ctrl-C ends both; the store stays.\n"
        ),
    };
    Ok(format!(
        "\n{}{rest}\n\
         {requests} requests hit no handler at all.\n\n\
         Look further:\n\
         {pages}\
         \x20 tracefarm -s {folder} handlers show {id}\n\
         \x20 tracefarm -s {folder} get {}\n\
         \x20 tracefarm -s {folder} not-found\n\
         \x20 tracefarm -s {folder} search --error --limit 5\n\
         \x20 tracefarm -s {folder} check\n\
         (from a checkout: cargo run --release -- -s {folder} …), and without tracefarm:\n\
         \x20 {folder}/site/handlers.json        every handler with its numbers\n\
         \x20 {folder}/site/handlers/{id}/  summary.json, traces.json.gz\n\
         \x20 duckdb -c \"select service, name, count(*) from '{folder}/spans/*/*/*.parquet' group by all order by 3 desc\"\n\
         {serving}",
        handlers::table(&rows),
        trace.unwrap_or_default(),
    ))
}
