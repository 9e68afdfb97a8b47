//! `tracefarm completions`

use clap::CommandFactory;

use super::{Cli, Exit, out};
use crate::error::{Result, ResultExt};

/// Print the completions of a shell
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Which shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

impl Args {
    /// Prints them.
    pub fn run(self) -> Result<Exit> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "tracefarm", &mut script);
        out::print(&String::from_utf8(script).context("write the completions")?)?;
        Ok(Exit::Done)
    }
}
