//! The program: parse, set up the logs, run the command, end with its code.

use clap::Parser;
use tracefarm::cli::{Cli, Exit};

/// Batches come and go by the hundred megabytes: this allocator gives them back to the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Exit {
    tracefarm::cli::run(Cli::parse())
}
