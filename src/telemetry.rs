//! Logs, to standard error: short lines for people on a terminal, else one JSON object a line in the form that Google
//! Cloud Logging reads ([`cloud`]).
//!
//! Filters stand on the layer that prints, never on the registry: [`RootcauseLayer`] must see every span, or error
//! reports lose the way they came.

mod cloud;

use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;

use indicatif::MultiProgress;
use rootcause_tracing::RootcauseLayer;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::error::Mistake;

/// How logs are written.
#[derive(clap::ValueEnum, serde::Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Human on a terminal, else JSON
    #[default]
    Auto,
    /// Short lines for people
    Human,
    /// One JSON object a line, as Google Cloud Logging reads it
    Json,
}

/// Progress bars and log lines share one terminal: whoever draws a bar adds it here, and log lines go above it.
pub static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Sets the logs up for the whole process. `filter` is written as for `RUST_LOG`, eg `info` or
/// `tracefarm::stage=debug`.
///
/// # Errors
/// A [`Mistake`] if `filter` is none.
pub fn start(format: LogFormat, filter: &str) -> Result<(), Mistake> {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::WARN.into())
        .parse(filter)
        .map_err(|error| Mistake(format!("`{filter}` is no log filter: {error}")))?;
    let human = match format {
        LogFormat::Human => true,
        LogFormat::Json => false,
        LogFormat::Auto => io::stderr().is_terminal(),
    };
    let printed = if human {
        let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        fmt::layer().compact().with_target(false).with_timer(TimeOfDay).with_ansi(colours).with_writer(Above).boxed()
    } else {
        cloud::CloudLayer::new(Above).boxed()
    };
    let registry = tracing_subscriber::registry().with(RootcauseLayer).with(printed.with_filter(filter));
    // A second call (tests in one process) keeps the first subscriber.
    let _ = registry.try_init();
    Ok(())
}

/// Writes whole lines to standard error, above the progress bars.
#[derive(Clone, Copy)]
struct Above;

impl<'a> MakeWriter<'a> for Above {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

impl Write for Above {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        BARS.suspend(|| io::stderr().write_all(line)).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `14:02:03`, UTC.
struct TimeOfDay;

impl fmt::time::FormatTime for TimeOfDay {
    fn format_time(&self, writer: &mut fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(writer, "{}", wall().strftime("%T"))
    }
}

#[expect(clippy::disallowed_methods, reason = "the time of a log record is for people and decides nothing")]
fn wall() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
