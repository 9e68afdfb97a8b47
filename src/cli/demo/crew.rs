//! The demo's three workers: equals that divide the work by their names, as three processes or machines would.

use std::fs::{File, TryLockError};
use std::path::Path;

use futures::future::try_join_all;
use tokio_util::sync::CancellationToken;

use crate::cli::out::{self, Column};
use crate::cli::run;
use crate::clock::Clock;
use crate::error::{Mistake, Report, Result, ResultExt};
use crate::farm::heartbeat::Heart;
use crate::farm::peers::Provider;
use crate::farm::worker::{Options, Summary, Worker};
use crate::model::WorkerName;
use crate::stage::Pace;
use crate::store::Store;

/// Their names.
const NAMES: [&str; 3] = ["demo-1", "demo-2", "demo-3"];

/// The workers of one demo, the only one in its folder.
pub struct Crew {
    store: Store,
    clock: Clock,
    names: Vec<WorkerName>,
    /// Held for as long as they may work; the system lets go of it when the process ends, however it does. None where the
    /// file system knows no locks.
    _lock: Option<File>,
}

impl Crew {
    /// Takes the folder, in which `store` is, for the workers of this demo.
    ///
    /// # Errors
    /// A [`Mistake`] if another demo, or any other worker, is at work there.
    pub async fn hire(store: &Store, clock: &Clock, folder: &Path) -> Result<Self> {
        let lock = File::open(folder).ok().and_then(|file| match file.try_lock() {
            Ok(()) => Some(Ok(file)),
            Err(TryLockError::WouldBlock) => Some(Err(busy(folder, "another demo"))),
            Err(TryLockError::Error(_)) => None,
        });
        let lock = lock.transpose()?;
        let names = NAMES.iter().map(|name| name.parse()).collect::<Result<Vec<WorkerName>, _>>();
        let names = names.context("name the workers")?;
        let heart = Heart::new(clock.clone(), names[0].clone());
        heart.beat(store).await?;
        let others = heart.others(store).await?;
        heart.remove(store).await?;
        let mut alive = Vec::new();
        for other in others.iter().filter(|other| other.is_alive()) {
            if lock.is_some() && names.contains(&other.name) {
                // Of a demo that was killed: were it alive, the folder would be locked. Nobody needs to wait for it.
                store.delete_if_unchanged(&other.object).await?;
            } else {
                alive.push(other.name.to_string());
            }
        }
        if alive.is_empty() {
            Ok(Self { store: store.clone(), clock: clock.clone(), names, _lock: lock })
        } else {
            Err(busy(folder, &alive.join(", ")).into())
        }
    }

    /// Works until nothing is left to do: all three on their parts, then one alone, with whom merged blocks need not
    /// stand for the grace. What each of the three came to, and whether nothing failed in the end.
    ///
    /// # Errors
    /// Those of [`Worker::run`].
    pub async fn drain(&self, stop: &CancellationToken) -> Result<(Vec<(WorkerName, Summary)>, bool)> {
        let all = self.names.iter().map(|name| async {
            let worker = self.worker(Options { once: true, ..self.options(name) });
            Ok::<_, Report>((name.clone(), worker.run(stop).await?))
        });
        let done = try_join_all(all).await?;
        let last = self.worker(Options { name: self.names[0].clone(), ..run::alone()? });
        let is_clean = last.run(stop).await?.is_clean();
        Ok((done, is_clean))
    }

    /// Works on, on whatever comes, until `stop`.
    ///
    /// # Errors
    /// Of the first that gives up.
    pub async fn stay(&self, stop: &CancellationToken) -> Result<()> {
        let all = self
            .names
            .iter()
            .map(|name| async { self.worker(Options { pace: Pace::eager(), ..self.options(name) }).run(stop).await });
        try_join_all(all).await?;
        Ok(())
    }

    fn options(&self, name: &WorkerName) -> Options {
        let options = Options::new(name.clone());
        Options {
            // They begin at one moment: by heartbeats each might see itself alone at first, and take everything.
            peers: Provider::Static(self.names.clone()),
            memory_bytes: options.memory_bytes / self.names.len(),
            ..options
        }
    }

    fn worker(&self, options: Options) -> Worker {
        Worker::new(self.store.clone(), self.clock.clone(), options)
    }
}

fn busy(folder: &Path, who: &str) -> Mistake {
    Mistake(format!("{who} is at work in {}: stop it, or name another folder with --store", folder.display()))
}

/// Who did what, as a table.
pub fn table(done: &[(WorkerName, Summary)]) -> String {
    let columns = [
        Column::Left("worker"),
        Column::Right("indexed"),
        Column::Right("spans"),
        Column::Right("merges"),
        Column::Right("pages"),
    ];
    let rows = done.iter().map(|(name, summary)| {
        let of = |stage: &str| summary.stages.get(stage).map_or(0, |stage| stage.done);
        vec![
            name.to_string(),
            out::counted(summary.objects, "object"),
            out::count(summary.spans),
            out::count(of("compact")),
            out::count(of("publish")),
        ]
    });
    out::table(&columns, rows)
}
