//! One run of `publish_command`, behind its guard (`tracefarm guard`).
//!
//! The command gets what it works on as its standard input and as files, and names as environment variables: nothing of a
//! trace is ever a word of a command line. Its environment is otherwise empty but for `PATH` and `LANG`, so that no
//! credentials of the worker's reach it that way. (It runs as the same user on the same machine: files of that user and
//! the cloud's metadata server are within its reach.)
//!
//! Dropping the run ends it: the guard sees its standard input end.

use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStdin, Command};

use super::document::Row;
use super::folder::{self, Folder, MOST_FILE_BYTES};
use crate::clock::Clock;
use crate::error::{Result, ResultExt, bail};
use crate::task;

/// What is kept of each of the command's outputs, for the message that says why it failed: the end.
const KEPT_BYTES: usize = 64 << 10;

/// How much of that a person is shown.
const SHOWN_BYTES: usize = 2 << 10;

/// How often the folder is looked at for being too large.
const LOOKS_EVERY: Duration = Duration::from_millis(500);

/// How long the guard may take to end everything. Then it hangs in the kernel, and waiting longer would hold up the worker.
const GUARD_WITHIN: Duration = Duration::from_secs(15);

/// The longest value of an environment variable: names in traces have any length, and a process's environment has not.
const LONGEST_FACT: usize = 1 << 10;

/// The signal by which a process learns that its file is too large (SIGXFSZ), as a shell tells it.
const TOO_LARGE: i32 = 128 + 25;

/// How the command is run.
#[derive(Clone)]
pub(super) struct Runner<'a> {
    /// The program that has the command `guard`.
    pub guard: &'a Path,
    /// The command and its arguments.
    pub words: &'a [String],
    /// How long it may take.
    pub timeout: Duration,
    pub clock: &'a Clock,
}

impl Runner<'_> {
    /// Runs the command for the handler in `row`, on what is in `folder`, and leaves what it wrote there.
    ///
    /// # Errors
    /// What happened, in words that can be published.
    pub async fn run(&self, folder: &mut Folder, row: &Row) -> Result<()> {
        let mut child = self.spawn(folder.path(), row).context("start the guard of `publish_command`")?;
        folder.guarded(true);
        let leash = child.stdin.take();
        let ended = self.wait(child, leash, folder.path()).await;
        // A guard that hangs still has its folder.
        folder.guarded(matches!(ended, Ended::Not(_)));
        match ended {
            Ended::Well => Ok(()),
            Ended::Badly(why) | Ended::Not(why) => bail!("{why}"),
        }
    }

    fn spawn(&self, folder: &Path, row: &Row) -> std::io::Result<Child> {
        let mut command = Command::new(self.guard);
        command.arg("guard").arg(folder).arg(MOST_FILE_BYTES.to_string()).arg("--").args(self.words);
        command.env_clear();
        for name in ["PATH", "LANG"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.env("HOME", folder::home(folder)).env("TMPDIR", folder::tmp(folder));
        command.env("TRACEFARM_SUMMARY", folder::summary(folder));
        for (name, value) in facts(row) {
            command.env(name, value);
        }
        let pipe = std::process::Stdio::piped;
        // A group of its own: what a terminal sends to the worker's is not for the guard.
        command.stdin(pipe()).stdout(pipe()).stderr(pipe()).process_group(0).spawn()
    }

    async fn wait(&self, mut child: Child, leash: Option<ChildStdin>, folder: &Path) -> Ended {
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let mut ended = pin!(async { tokio::join!(tail(out), tail(err), child.wait()) });
        let why = tokio::select! {
            (out, err, status) = &mut ended => {
                return match status {
                    Ok(status) if status.success() => Ended::Well,
                    Ok(status) => Ended::Badly(format!("it ended with {}{}", code(status), says(&out, &err))),
                    Err(error) => Ended::Badly(format!("its end could not be seen: {error}")),
                };
            }
            () = self.clock.sleep(self.timeout) => {
                format!("it took longer than {} and was killed", humantime::format_duration(self.timeout))
            }
            why = self.watch(folder) => format!("{why}, and was killed"),
        };
        drop(leash);
        tokio::select! {
            (out, err, _) = &mut ended => Ended::Badly(format!("{why}{}", says(&out, &err))),
            () = self.clock.sleep(GUARD_WITHIN) => Ended::Not(format!("{why}, but did not go")),
        }
    }

    /// Ends when there is too much in the folder.
    async fn watch(&self, folder: &Path) -> String {
        loop {
            self.clock.sleep(LOOKS_EVERY).await;
            let path = folder.to_owned();
            if let Err(why) = task::blocking(move || folder::measure(&path)).await {
                return why.format_current_context().to_string();
            }
        }
    }
}

/// How a run ended.
enum Ended {
    Well,
    Badly(String),
    /// Its guard did not end in time: something may still be at work.
    Not(String),
}

/// What the environment says of a handler.
fn facts(row: &Row) -> [(&'static str, String); 6] {
    // A NUL ends a variable.
    let fact = |text: &str| text.chars().filter(|c| *c != '\0').take(LONGEST_FACT).collect();
    [
        ("TRACEFARM_HANDLER", fact(row.id.as_str())),
        ("TRACEFARM_HANDLER_NAME", fact(&row.name)),
        ("TRACEFARM_KIND", fact(&row.kind)),
        ("TRACEFARM_ROUTE", fact(row.route.as_deref().unwrap_or_default())),
        ("TRACEFARM_SERVICE", fact(&row.service)),
        ("TRACEFARM_SERVICE_NAMESPACE", fact(&row.namespace)),
    ]
}

/// Reads `output` to its end and keeps the end.
async fn tail(output: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut output) = output else { return kept };
    let mut buffer = [0; 8 << 10];
    while let Ok(read @ 1..) = output.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..read]);
        if kept.len() > 2 * KEPT_BYTES {
            kept.drain(..kept.len() - KEPT_BYTES);
        }
    }
    kept
}

fn code(status: std::process::ExitStatus) -> String {
    match status.code() {
        Some(TOO_LARGE) => format!("a file larger than {}", bytesize::ByteSize(MOST_FILE_BYTES)),
        Some(code @ 129..=192) => format!("signal {}", code - 128),
        Some(code) => format!("exit code {code}"),
        None => "its guard killed".to_owned(),
    }
}

/// The end of what the command said, standard error if there is any.
fn says(out: &[u8], err: &[u8]) -> String {
    let said = if err.is_empty() { out } else { err };
    let end = String::from_utf8_lossy(&said[said.len().saturating_sub(SHOWN_BYTES)..]);
    // Shown on terminals and pages: text of traces may be in it.
    let is_bad =
        |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let end: String = end.trim().chars().map(|c| if is_bad(c) { '\u{fffd}' } else { c }).collect();
    if end.is_empty() { end } else { format!(": {end}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_says_is_shown_without_escape_sequences_and_from_its_end() {
        assert_eq!(says(b"out", b""), ": out");
        assert_eq!(says(b"out", b" \x1b[31mno\nway\xff\n"), ": \u{fffd}[31mno\nway\u{fffd}");
        assert_eq!(says(b"", b"  "), "");
        let long = [vec![b'x'; 3 * SHOWN_BYTES], b"the end".to_vec()].concat();
        assert!(says(b"", &long).ends_with("the end") && says(b"", &long).len() <= SHOWN_BYTES + 2);
    }

    #[tokio::test]
    async fn of_an_endless_output_the_end_is_kept() {
        let text: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let kept = tail(Some(&text[..])).await;
        assert!(kept.len() <= 2 * KEPT_BYTES && text.ends_with(&kept), "{}", kept.len());
    }
}
