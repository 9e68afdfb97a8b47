//! Logs, to standard error: short lines for people on a terminal, else one JSON object a line in the form that Google
//! Cloud Logging reads ([`cloud`]).
//!
//! Filters stand on the layer that prints, never on the registry, and only for events: the [`Recorder`] must see every
//! span, or error reports lose the way they came, and records what they belong to.

mod cloud;
mod human;

use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;

use indicatif::MultiProgress;
use tracing_subscriber::filter::{EnvFilter, FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::error::{self, Mistake, Recorder};

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
        fmt::layer().event_format(human::Lines).with_ansi(colours).with_writer(Above).boxed()
    } else {
        cloud::CloudLayer::new(Above).boxed()
    };
    if filter.max_level_hint().is_none_or(|level| level >= LevelFilter::DEBUG) {
        error::show_places();
    }
    let filter = filter.or(filter_fn(|metadata: &tracing::Metadata<'_>| metadata.is_span()));
    let registry = tracing_subscriber::registry().with(Recorder).with(printed.with_filter(filter));
    // A second call (tests in one process) keeps the first subscriber.
    drop(registry.try_init());
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

#[expect(clippy::disallowed_methods, reason = "the time of a log record is for people and decides nothing")]
fn wall() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
