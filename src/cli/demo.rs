//! `tracefarm demo`: the whole pipeline on sample traces, in a folder.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use include_dir::{Dir, DirEntry, include_dir};

use super::progress::Bars;
use super::{Exit, Session, handlers, out, run};
use crate::error::{Mistake, Result, ResultExt};
use crate::farm::Settings;
use crate::farm::worker::Worker;
use crate::query::handlers::Overview;
use crate::store::{Key, Store};

/// The sample traces, as collectors wrote them.
static SAMPLES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/samples/inbox");

/// When the last of them was written: 2026-11-22T01:18:37Z. What a collector wrote then was received then.
const RECORDED: Duration = Duration::from_secs(1_795_310_317);

/// The samples are of one day. A store that keeps a week would keep only the newest ten traces of each handler of them,
/// so this one keeps everything for a hundred years.
const KEEP_FOR: &str = "100years";

/// How many handlers are shown.
const SHOWN: usize = 20;

/// Make a small store from sample traces, and show what is in it
#[derive(clap::Args, Debug)]
pub struct Args {}

impl Args {
    /// Runs it, again and again if one likes: the same traces twice are the same traces.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let folder = session.store_url().unwrap_or("tracefarm-demo");
        if folder.contains("://") {
            return Err(Mistake(format!("the demo is made in a folder, not in {folder}")).into());
        }
        let store = Store::open(folder, &Default::default(), session.clock.clone()).await?;
        if Settings::load(&store).await?.0 == 0 {
            let values = [("keep_for".to_owned(), KEEP_FOR.to_owned())];
            Settings::set(&store, &values, session.store_now(&store).await?).await?;
        }
        let (objects, bytes) = copy(&SAMPLES, Path::new(folder))?;
        out::print(&format!("{objects} objects of sample traces ({}) into {folder}/inbox", out::bytes(bytes)))?;
        let worker = Worker::new(store, session.clock.clone(), run::alone()?).watched_by(Arc::new(Bars::new()));
        let exit = run::work(worker, out::Output::default()).await?;
        if exit != Exit::Done {
            return Ok(exit);
        }
        let reader = session.query_of(folder).await?;
        let overview = Overview::read(&reader).await?;
        out::print(&shown(folder, &overview).await?)?;
        Ok(Exit::Done)
    }
}

/// Copies the samples into the store's inbox, with the time at which they were recorded.
fn copy(samples: &Dir<'_>, folder: &Path) -> Result<(usize, u64)> {
    let (mut objects, mut bytes) = (0, 0);
    for entry in samples.entries() {
        match entry {
            DirEntry::Dir(dir) => {
                let (more, more_bytes) = copy(dir, folder)?;
                objects += more;
                bytes += more_bytes;
            }
            DirEntry::File(sample) => {
                let name = sample.path().to_string_lossy();
                let path = folder.join(Key::Inbox(name.into_owned()).path());
                let write = || {
                    fs::create_dir_all(path.parent().unwrap_or(folder))?;
                    fs::write(&path, sample.contents())?;
                    File::options().write(true).open(&path)?.set_modified(SystemTime::UNIX_EPOCH + RECORDED)
                };
                write().context_with(|| format!("write {}", path.display()))?;
                objects += 1;
                bytes += sample.contents().len() as u64;
            }
        }
    }
    Ok((objects, bytes))
}

async fn shown(folder: &str, overview: &Overview) -> Result<String> {
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
    let requests: u64 = overview.not_found().iter().map(|list| list.list.count).sum();
    let rest = if handlers > SHOWN { format!("… and {} more\n", handlers - SHOWN) } else { String::new() };
    Ok(format!(
        "\n{}{rest}\n\
         {requests} requests hit no handler at all.\n\n\
         Look further:\n\
         \x20 tracefarm -s {folder} serve        the pages, http://127.0.0.1:8080/\n\
         \x20 tracefarm -s {folder} handlers show {id}\n\
         \x20 tracefarm -s {folder} get {}\n\
         \x20 tracefarm -s {folder} not-found\n\
         \x20 tracefarm -s {folder} search --error --limit 5\n\
         \x20 tracefarm -s {folder} check\n\
         (from a checkout: cargo run --release -- -s {folder} …), and without tracefarm:\n\
         \x20 {folder}/site/handlers.json        every handler with its numbers\n\
         \x20 {folder}/site/handlers/{id}/  summary.json, traces.json.gz\n\
         \x20 duckdb -c \"select service, name, count(*) from '{folder}/spans/*/*/*.parquet' group by all order by 3 desc\"\n",
        handlers::table(&rows),
        trace.unwrap_or_default(),
    ))
}
