//! How the program ends.

use std::process::{ExitCode, Termination};

/// The exit codes. They are stable: scripts and unit files may rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything that was asked for was done. Also after SIGTERM or SIGINT, and when a pipe's reader went away.
    Done = 0,
    /// Something failed beyond its retries; standard error says which object, which stage, and why.
    Failed = 1,
    /// A mistake in the command line, the configuration or a setting, in one sentence. Nothing was changed.
    Mistake = 2,
    /// `check` found rules of the store broken; its report lists them.
    Violations = 3,
    /// What was asked for is not in the store: a trace, a handler.
    Missing = 4,
    /// `run --once` ended with work left that failed; it is kept, and the next run tries it again.
    Unfinished = 5,
    /// A worker gave up: ten failing cycles in a row, or no progress for 15 minutes. Start it again.
    GaveUp = 6,
    /// `run` would delete more of an archive than it would keep, and did not: say `--yes`, or keep more.
    NeedsYes = 7,
    /// A second signal: the worker stopped without finishing what it had in hand. Nothing is lost.
    Interrupted = 130,
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}
