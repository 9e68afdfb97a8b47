//! `tracefarm guard`, which nobody types: stands between a worker and one run of `publish_command`, and lets nothing of
//! that run outlive it.
//!
//! The worker holds the other end of the guard's standard input. When that ends (the time is over, the worker stops, or
//! it was killed, by whatever signal) the guard ends the run and removes its folder; so no signal must arrive, and none
//! can be missed. It is a process of its own because a worker that is killed can do nothing any more, and because only
//! a parent can take in the processes that others leave behind.
//!
//! The command runs in a process group of its own, which is killed as one: nothing that forks can outrun that. What left
//! the group (`setsid`) is taken in by the guard (on Linux) when its parent is gone, and is killed one by one. Elsewhere
//! such processes stay; and if the guard itself is killed, so does whatever it guarded.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process_group, setrlimit};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, Session, complain};
use crate::error::{Result, ResultExt};
use crate::stage::publish::folder;

/// How long the command may take to end by itself when it is told to (SIGTERM), before it is killed.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

/// This program, as a worker starts it.
pub fn program() -> Result<PathBuf> {
    // Whatever has become of the file: a package may have been updated under a worker that runs.
    if cfg!(target_os = "linux") {
        return Ok("/proc/self/exe".into());
    }
    Ok(std::env::current_exe().context("find this program's own file")?)
}

/// Guard one run of `publish_command`
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The folder of the run
    folder: PathBuf,
    /// The largest file that may be written, in bytes
    file_bytes: u64,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl Args {
    /// Runs the command, and exits as it did; with 127 if there is no such program, 126 if it cannot be run, and 128 and
    /// the signal's number if it was killed by one (as shells do).
    pub async fn run(self, session: &Session) -> Result<Exit> {
        // Whoever stops all processes at once (systemd) means the command, too; the guard stays until it has ended.
        let _deaf = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        let limit = |bytes| Rlimit { current: Some(bytes), maximum: Some(bytes) };
        setrlimit(Resource::Fsize, limit(self.file_bytes)).context("limit the size of files")?;
        setrlimit(Resource::Core, limit(0)).context("limit the size of core dumps")?;
        #[cfg(target_os = "linux")]
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .context("become the parent of whatever is left behind")?;
        let code = match self.begin() {
            Err(error) => {
                complain(&format!("`publish_command` cannot be run: {}: {error}", self.command[0].display()));
                if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }
            }
            Ok(child) => self.guard(session, child).await?,
        };
        // The code is the command's, and the thread that reads standard input waits for ever.
        std::process::exit(code)
    }

    fn begin(&self) -> std::io::Result<Child> {
        let traces = File::open(folder::traces(&self.folder))?;
        Command::new(&self.command[0])
            .args(&self.command[1..])
            .current_dir(folder::extra(&self.folder))
            .stdin(traces)
            .process_group(0)
            .spawn()
    }

    async fn guard(&self, session: &Session, mut child: Child) -> Result<i32> {
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let tell = |signal| {
            // An error says that nobody of the group is left.
            group.map(|group| kill_process_group(group, signal))
        };
        let mut worker = tokio::io::stdin();
        let ended = tokio::select! {
            status = child.wait() => Some(status.context("wait for the command")?),
            // Nothing is ever sent: this is the end of it, or an error, which comes to the same.
            _ = worker.read_u8() => None,
        };
        let status = match ended {
            Some(status) => status,
            None => {
                tell(Signal::TERM);
                tokio::select! {
                    _ = child.wait() => {}
                    () = session.clock.sleep(ENDS_WITHIN) => {}
                }
                tell(Signal::KILL);
                child.wait().await.context("wait for the command")?
            }
        };
        // Also after a good end: what it left in the background may still write, and holds the worker's pipes.
        tell(Signal::KILL);
        #[cfg(target_os = "linux")]
        orphans::kill(session).await;
        if ended.is_none() {
            // Nobody else will: the worker waits no longer. What cannot be removed is left to whoever sweeps /tmp.
            let _ = fs::remove_dir_all(&self.folder);
        }
        Ok(code(status))
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Processes that have become this process's children because their own parents are gone.
#[cfg(target_os = "linux")]
mod orphans {
    use std::time::Duration;

    use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

    use super::{Session, fs};

    /// How often it is looked for more: some that fork away all the time may outrun even this.
    const ROUNDS: u32 = 2_000;

    /// Kills them, and theirs, until there are none.
    pub async fn kill(session: &Session) {
        for _ in 0..ROUNDS {
            while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
            let children = children();
            if children.is_empty() {
                return;
            }
            for child in children {
                let _ = kill_process(child, Signal::KILL);
            }
            session.clock.sleep(Duration::from_millis(1)).await;
        }
    }

    fn children() -> Vec<Pid> {
        let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        let ids = lists.flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<i32>>());
        ids.filter_map(Pid::from_raw).collect()
    }
}
