//! The workers: real processes, what is done to them, and how each ended.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Lines of its log that are shown of a worker that ended by itself.
const LAST_BYTES: i64 = 6_000;

/// How workers are started, and those that were.
pub struct Farm {
    /// The program.
    pub program: PathBuf,
    /// The store's URL.
    pub store: String,
    /// What the workers (and nobody else) find in their environment.
    pub environment: Vec<(String, String)>,
    /// Where their logs go.
    pub logs: PathBuf,
    pub workers: Vec<Worker>,
    pub ended: Ended,
    names: usize,
    starts: usize,
}

/// How workers ended.
#[derive(Default)]
pub struct Ended {
    pub killed: usize,
    /// Told to end, and ended well.
    pub asked: usize,
    /// Otherwise: what happened.
    pub otherwise: Vec<String>,
}

/// A process.
pub struct Worker {
    pub name: String,
    child: Child,
    log: PathBuf,
    pub state: State,
}

/// What was done to it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Works,
    /// It stands still until then.
    Stands(Duration),
    /// It was told to end at that time.
    Told(Duration),
    /// It was killed.
    Killed,
}

impl Farm {
    pub fn new(program: PathBuf, store: String, environment: Vec<(String, String)>, logs: PathBuf) -> Self {
        Self { program, store, environment, logs, workers: vec![], ended: Ended::default(), names: 0, starts: 0 }
    }

    /// The program on the store, as a person would run it: nothing fails between them.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TRACEFARM_")) {
            command.env_remove(name);
        }
        command.args(["--store", &self.store, "--log", "json"]);
        command
    }

    /// Starts a worker, under a name that nobody had if none is given.
    pub fn start(&mut self, name: Option<String>) -> std::io::Result<()> {
        let name = name.unwrap_or_else(|| {
            self.names += 1;
            // Names sort in no order of time.
            format!("{:02x}-{}", self.names.wrapping_mul(0x9e37) % 251, self.names)
        });
        self.starts += 1;
        let log = self.logs.join(format!("{:04}-{name}.log", self.starts));
        let file = File::create(&log)?;
        let mut command = self.command();
        command.args(["--log-level", "info", "run", "--name", &name, "--memory", "128MiB", "--yes"]);
        command.envs(self.environment.iter().cloned());
        let child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn()?;
        self.workers.push(Worker { name, child, log, state: State::Works });
        Ok(())
    }

    /// Those to whom something may be done, by their order among them.
    pub fn working(&self, which: usize) -> Option<usize> {
        let working: Vec<usize> =
            (0..self.workers.len()).filter(|at| self.workers[*at].state == State::Works).collect();
        (!working.is_empty()).then(|| working[which % working.len()])
    }

    /// How many are there, those that stand still included.
    pub fn living(&self) -> usize {
        self.workers.iter().filter(|worker| matches!(worker.state, State::Works | State::Stands(_))).count()
    }

    pub fn kill(&mut self, at: usize) {
        let worker = &mut self.workers[at];
        // It may have ended a moment ago; then its code tells.
        if worker.child.kill().is_ok() {
            worker.state = State::Killed;
        }
    }

    /// Stops `at` until `until`.
    pub fn stop(&mut self, at: usize, until: Duration) {
        self.workers[at].signal("STOP");
        self.workers[at].state = State::Stands(until);
    }

    /// Tells `at` to end.
    pub fn tell(&mut self, at: usize, now: Duration) {
        // Who stands still hears nothing.
        self.workers[at].signal("CONT");
        self.workers[at].signal("TERM");
        self.workers[at].state = State::Told(now);
    }

    /// Lets those go on whose pause is over, and takes note of those that ended: their names, and what was done to them last.
    pub fn look(&mut self, now: Duration) -> Vec<(String, State)> {
        let mut gone = Vec::new();
        for mut worker in std::mem::take(&mut self.workers) {
            match worker.state {
                State::Stands(until) if now >= until => {
                    worker.signal("CONT");
                    worker.state = State::Works;
                }
                // A worker takes at most 20 s to end, and the requests that are then under way.
                State::Told(since) if now - since > Duration::from_secs(90) => {
                    self.ended.otherwise.push(worker.tell("was told to end and did not within 90 s"));
                    worker.state = State::Killed;
                    let _ = worker.child.kill();
                }
                _ => {}
            }
            match worker.child.try_wait() {
                Ok(None) => self.workers.push(worker),
                Ok(Some(status)) => {
                    self.ended.note(&worker, status);
                    gone.push((worker.name, worker.state));
                }
                Err(error) => self.ended.otherwise.push(worker.tell(&format!("cannot be waited for: {error}"))),
            }
        }
        gone
    }
}

impl Ended {
    fn note(&mut self, worker: &Worker, status: ExitStatus) {
        match (worker.state, status.code(), status.signal()) {
            (State::Killed, _, Some(9)) => self.killed += 1,
            (State::Told(_), Some(0), _) => self.asked += 1,
            _ => self.otherwise.push(worker.tell(&format!("ended with {status}, and nobody had asked it to"))),
        }
    }
}

impl Worker {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: &str) {
        // It may be gone.
        let _ = Command::new("kill").args([format!("-{signal}"), self.id().to_string()]).stderr(Stdio::null()).status();
    }

    /// What happened, and the end of its log.
    fn tell(&self, what: &str) -> String {
        let mut last = Vec::new();
        let read = File::open(&self.log).and_then(|mut file| {
            let bytes = file.metadata()?.len() as i64;
            file.seek(SeekFrom::Start((bytes - LAST_BYTES).max(0) as u64))?;
            file.read_to_end(&mut last)
        });
        let last = read.map_or_else(|error| error.to_string(), |_| String::from_utf8_lossy(&last).into_owned());
        format!("{} (process {}) {what}; the end of {}:\n{last}", self.name, self.id(), self.log.display())
    }
}

impl Drop for Farm {
    /// Nobody stays behind when the run is broken off.
    fn drop(&mut self) {
        for worker in &mut self.workers {
            let _ = worker.child.kill();
            let _ = worker.child.wait();
        }
    }
}
