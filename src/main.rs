//! The program: parse, set up the logs, run the command, end with its code.

// What cannot fail says so with `#[expect(clippy::unwrap_used, reason = "…")]`; only the command line prints.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

use clap::Parser;
use tracefarm::cli::{Cli, Exit};

fn main() -> Exit {
    tracefarm::cli::run(Cli::parse())
}
