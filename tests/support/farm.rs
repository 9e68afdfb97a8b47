//! A store in a folder that goes away, and the program as a user runs it.
#![allow(dead_code, reason = "each test that includes this file uses a part of it")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::official;

/// When the recording had ended: what its objects were received at, so that nothing depends on the day of the test.
const RECORDED: Duration = Duration::from_secs(1_795_310_700); // 2026-11-22T01:25:00Z
/// Half an hour later: what the store's clock says when a worker runs.
const NOW: &str = "2026-11-22T02:00:00Z";
/// Eight days later.
const LATER: &str = "2026-11-30T02:00:00Z";

/// A store.
pub struct Farm {
    pub url: String,
    /// What the store's clock says when the program runs.
    now: &'static str,
    /// The folder, of a local store.
    folder: Option<tempfile::TempDir>,
}

impl Farm {
    /// An empty store in a folder.
    pub fn local() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("store")).unwrap();
        Self { url: folder.path().join("store").display().to_string(), now: NOW, folder: Some(folder) }
    }

    /// The store at `url`.
    pub fn at(url: String) -> Self {
        Self { url, now: NOW, folder: None }
    }

    /// The same store eight days later; it goes away with this one.
    pub fn later(&self) -> Self {
        Self { url: self.url.clone(), now: LATER, folder: None }
    }

    pub fn path(&self) -> &Path {
        Path::new(&self.url)
    }

    /// Copies a folder into the inbox, received when it was recorded.
    pub fn put(&self, from: &Path) -> &Self {
        copy(from, &self.path().join("inbox"));
        self
    }

    /// How many files are below `folder` of the store.
    pub fn files(&self, folder: &str) -> Vec<PathBuf> {
        let folder = self.path().join(folder);
        if folder.is_dir() { official::files(&folder) } else { Vec::new() }
    }

    /// A minute passes for a worker that was killed: its heartbeat no longer says that it lives.
    pub fn forget_dead_workers(&self) {
        for heartbeat in self.files("farm/workers") {
            fs::remove_file(heartbeat).unwrap();
        }
    }

    /// The program on this store, at its time.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tracefarm"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TRACEFARM_") {
                command.env_remove(name);
            }
        }
        command.args(["--store", &self.url, "--now", self.now, "--log-level", "warn"]);
        command
    }

    /// Runs the program; it must end with `code`. What it printed.
    pub fn ran(&self, code: i32, args: &[&str]) -> String {
        let output = self.command().args(args).output().unwrap();
        said(args, code, output)
    }

    /// Runs the program, which must succeed and print JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        let text = self.ran(0, args);
        serde_json::from_str(&text).unwrap_or_else(|why| panic!("{args:?}: {why}\n{text}"))
    }

    /// A worker that drains the inbox, alone.
    pub fn work(&self) -> Value {
        self.json(&["run", "--once", "--grace", "0s", "-o", "json"])
    }

    /// The same, begun and left to itself.
    pub fn begin(&self, args: &[&str]) -> Child {
        self.command().args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }
}

fn said(args: &[&str], code: i32, output: Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}\n{text}\n{error}");
    text
}

/// Copies a folder, with [`RECORDED`] as the time of every file.
pub fn copy(from: &Path, to: &Path) {
    for path in official::files(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&path, &target).unwrap();
        // Writable whatever the original was: a worker deletes it.
        let time = SystemTime::UNIX_EPOCH + RECORDED;
        let mut rights = fs::metadata(&target).unwrap().permissions();
        #[expect(clippy::permissions_set_readonly_false, reason = "a temporary copy")]
        rights.set_readonly(false);
        fs::set_permissions(&target, rights).unwrap();
        File::options().write(true).open(&target).unwrap().set_modified(time).unwrap();
    }
}
