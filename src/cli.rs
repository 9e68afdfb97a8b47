//! The commands: arguments in, one call of the library, something printed. Nothing below knows a terminal.

mod check;
mod completions;
mod demo;
mod dev;
mod exit;
mod explain;
mod forget;
mod get;
mod guard;
mod handlers;
mod lifecycle;
mod listen;
mod not_found;
pub mod out;
mod progress;
mod rebuild;
mod receive;
mod run;
mod search;
mod serve;
mod session;
mod settings;
mod simulate;
mod status;

use std::io::Write;

use clap::{Parser, Subcommand};

pub use exit::Exit;
pub use session::{Global, Session};

use crate::error::{Mistake, Report, Result, ResultExt, find, told};
use crate::farm::settings::Span;
use crate::telemetry;

/// The command line.
#[derive(Parser, Debug)]
#[command(
    name = "tracefarm",
    version,
    about = "Turns a bucket of OpenTelemetry traces into handlers, Parquet and summaries",
    after_help = "Every option has an environment variable; `--config` names a TOML file for what is long.\n\
                  Exit codes: 0 done, 1 failed, 2 a mistake of yours, 3 violations found, 4 not there, 5 unfinished, \
                  6 gave up, 7 needs --yes.",
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Demo(demo::Args),
    Dev(dev::Args),
    Run(run::Args),
    Receive(receive::Args),
    Handlers(handlers::Args),
    NotFound(not_found::Args),
    Serve(serve::Args),
    Search(search::Args),
    Get(get::Args),
    Explain(explain::Args),
    Forget(forget::Args),
    Status(status::Args),
    Check(check::Args),
    Settings(settings::Args),
    Rebuild(rebuild::Args),
    Lifecycle(lifecycle::Args),
    Simulate(simulate::Args),
    Completions(completions::Args),
    #[command(hide = true)]
    Guard(guard::Args),
}

impl Command {
    async fn run(self, session: &Session) -> Result<Exit> {
        match self {
            Self::Demo(args) => args.run(session).await,
            Self::Dev(args) => args.run(session).await,
            Self::Run(args) => args.run(session).await,
            Self::Receive(args) => args.run(session).await,
            Self::Handlers(args) => args.run(session).await,
            Self::NotFound(args) => args.run(session).await,
            Self::Serve(args) => args.run(session).await,
            Self::Search(args) => args.run(session).await,
            Self::Get(args) => args.run(session).await,
            Self::Explain(args) => args.run(session).await,
            Self::Forget(args) => args.run(session).await,
            Self::Status(args) => args.run(session).await,
            Self::Check(args) => args.run(session).await,
            Self::Settings(args) => args.run(session).await,
            Self::Rebuild(args) => args.run(session).await,
            Self::Lifecycle(args) => args.run(session).await,
            Self::Simulate(args) => args.run(session).await,
            Self::Completions(args) => args.run(),
            Self::Guard(args) => args.run(session).await,
        }
    }
}

/// Runs the command and says how it ended.
pub fn run(cli: Cli) -> Exit {
    match begin(cli) {
        Ok(exit) => exit,
        Err(report) => failed(&report),
    }
}

fn begin(cli: Cli) -> Result<Exit> {
    let session = Session::new(cli.global)?;
    telemetry::start(session.log_format(), session.log_filter())?;
    crate::error::install();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the async runtime")?;
    let exit = runtime.block_on(cli.command.run(&session));
    // What still runs (a CPU-bound piece of a stopped item) has no effect that anybody waits for.
    runtime.shutdown_background();
    exit
}

/// Tells a person what went wrong, once.
fn failed(report: &Report) -> Exit {
    if find::<std::io::Error>(report).is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
        // `tracefarm search … | head`: the reader has what it wanted.
        return Exit::Done;
    }
    if let Some(Mistake(sentence)) = find::<Mistake>(report) {
        complain(sentence);
        return Exit::Mistake;
    }
    tracing::error!(failure = told(report), "the command failed");
    Exit::Failed
}

/// Parses a length of time as people write it (`7d`, `90s`).
fn span(text: &str) -> Result<Span, humantime::DurationError> {
    Span::try_from(text.to_owned())
}

/// A user's mistake is told to the user, whatever becomes of the logs. If nobody listens, the exit code says it.
fn complain(sentence: &str) {
    drop(writeln!(std::io::stderr(), "tracefarm: {sentence}"));
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_of_every_command_has_an_environment_variable_and_a_help_text() {
        fn look(command: &clap::Command, way: &str) {
            for arg in command.get_arguments().filter(|arg| !arg.is_positional()) {
                let name = format!("{way} --{}", arg.get_long().unwrap_or_default());
                if matches!(arg.get_long(), Some("help" | "version")) {
                    continue;
                }
                assert!(arg.get_help().is_some(), "{name} has no help");
                let variable = arg.get_env().and_then(|name| name.to_str()).unwrap_or_default();
                assert!(variable.starts_with("TRACEFARM_"), "{name} has the environment variable `{variable}`");
            }
            for sub in command.get_subcommands() {
                assert!(sub.get_about().is_some(), "{way} {} has no help", sub.get_name());
                look(sub, &format!("{way} {}", sub.get_name()));
            }
        }
        look(&Cli::command(), "tracefarm");
    }
}
