//! What every command is given: the options that all have, with the configuration file behind them.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Mistake, Result, ResultExt};
use crate::farm::{Settings, documents};
use crate::handler::catalogue::Catalogue;
use crate::query::Reader;
use crate::query::skipped::Skipped;
use crate::store::open::Patience;
use crate::store::{OpenOptions, Prefix, Stage, Store};
use crate::table::read::Blocks;
use crate::telemetry::LogFormat;

/// How much memory a command keeps footers and digests in: those of some hundred thousand blocks.
const FOOTERS_BYTES: usize = 128 << 20;

/// The options that all commands have.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// The store: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, or a folder
    #[arg(short, long, global = true, value_name = "URL", env = "TRACEFARM_STORE", hide_env_values = true)]
    store: Option<String>,
    /// A TOML file with what is long to write here
    #[arg(long, global = true, value_name = "FILE", env = "TRACEFARM_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    /// How logs are written to standard error [default: human on a terminal, else json]
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        env = "TRACEFARM_LOG",
        hide_env_values = true,
        hide_possible_values = true
    )]
    log: Option<LogFormat>,
    /// Which logs: a level (error, warn, info, debug, trace) or directives as for RUST_LOG
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        default_value = "warn,tracefarm=info",
        env = "TRACEFARM_LOG_LEVEL",
        hide_env_values = true,
        hide_default_value = true
    )]
    log_level: String,
    /// Moves the store's clock: a moment, or `+8d` from now (for tests)
    #[arg(long, global = true, hide = true, env = "TRACEFARM_NOW", allow_hyphen_values = true)]
    now: Option<Now>,
    /// How many times as fast the worker's own clock goes: pauses, the watchdog, budgets (for tests)
    #[arg(long, global = true, hide = true, env = "TRACEFARM_HASTE", value_parser = positive)]
    haste: Option<f64>,
    /// How many times as long requests may take, and are waited for between attempts (for tests)
    #[arg(long, global = true, hide = true, env = "TRACEFARM_PATIENCE", value_parser = positive)]
    patience: Option<f64>,
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    if number.is_finite() && number > 0.0 { Ok(number) } else { Err("it must be greater than 0".to_owned()) }
}

/// `--now`
#[derive(Clone, Copy, Debug, PartialEq)]
enum Now {
    At(Timestamp),
    Off(SignedDuration),
}

impl std::str::FromStr for Now {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let off = |duration: &str| {
            let duration = humantime::parse_duration(duration).map_err(|error| error.to_string())?;
            SignedDuration::try_from(duration).map_err(|error| error.to_string())
        };
        match text.as_bytes().first() {
            Some(b'+') => off(&text[1..]).map(Self::Off),
            Some(b'-') => off(&text[1..]).map(|duration| Self::Off(-duration)),
            _ => text.parse().map(Self::At).map_err(|error: jiff::Error| error.to_string()),
        }
    }
}

/// A command's surroundings.
pub struct Session {
    global: Global,
    /// The configuration file, or an empty one.
    pub config: Config,
    /// Time and chance.
    pub clock: Clock,
}

impl Session {
    /// Reads the configuration file, if one is named.
    ///
    /// # Errors
    /// A [`Mistake`] in it.
    pub fn new(global: Global) -> Result<Self> {
        let config = global.config.as_deref().map_or_else(|| Ok(Config::default()), Config::read)?;
        let offset = match global.now {
            None => SignedDuration::ZERO,
            Some(Now::Off(offset)) => offset,
            Some(Now::At(moment)) => moment.duration_since(Clock::system(SignedDuration::ZERO).wall()),
        };
        let clock = global.haste.map_or_else(|| Clock::system(offset), |haste| Clock::hasty(offset, haste));
        Ok(Self { global, config, clock })
    }

    /// `--log`
    pub fn log_format(&self) -> LogFormat {
        self.global.log.or(self.config.log).unwrap_or_default()
    }

    /// `--log-level`
    pub fn log_filter(&self) -> &str {
        &self.global.log_level
    }

    /// The store's URL, if one is named.
    pub fn store_url(&self) -> Option<&str> {
        self.global.store.as_deref().or(self.config.store.as_deref())
    }

    /// Opens the store to write.
    ///
    /// # Errors
    /// A [`Mistake`] if none is named.
    pub async fn writer(&self) -> Result<Store> {
        self.open(&self.options()).await
    }

    /// Opens the store to read: nothing done with it writes or deletes.
    ///
    /// # Errors
    /// A [`Mistake`] if none is named.
    pub async fn reader(&self) -> Result<Store> {
        self.open(&OpenOptions { read_only: true, ..self.options() }).await
    }

    /// How stores are opened to write.
    pub fn options(&self) -> OpenOptions {
        OpenOptions {
            patience: Patience::default().times(self.global.patience.unwrap_or(1.0)),
            ..OpenOptions::default()
        }
    }

    /// Opens another inbox than that of `store`.
    ///
    /// # Errors
    /// A [`Mistake`] if one lies within the other, or if it is a farm's store itself: blocks would be taken for input.
    pub async fn inbox(&self, url: &str, store: &Store, read_only: bool) -> Result<Store> {
        let options = OpenOptions { read_only, as_inbox: true, ..self.options() };
        let inbox =
            Store::open(url, &options, self.clock.clone()).await.context_with(|| format!("open the inbox {url}"))?;
        if inbox.overlaps(store) {
            return Err(Mistake(format!(
                "the inbox {url} and the store {} overlap: name an inbox beside the store, or none (inbox/ in the store is read anyway)",
                store.url()
            ))
            .into());
        }
        let itself = Store::open(url, &OpenOptions { read_only: true, ..self.options() }, self.clock.clone()).await?;
        if !itself.list_some(&Prefix::Settings, None, 1).await?.objects.is_empty() {
            return Err(Mistake(format!(
                "{url} is the store of a farm: as an inbox name what collectors write, such as {url}/inbox"
            ))
            .into());
        }
        Ok(inbox)
    }

    /// What queries read from.
    ///
    /// # Errors
    /// A [`Mistake`] if no store is named; those of the store.
    pub async fn query(&self) -> Result<Reader> {
        self.query_store(self.reader().await?).await
    }

    /// [`Session::query`] of the store at `url`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn query_of(&self, url: &str) -> Result<Reader> {
        let options = OpenOptions { read_only: true, ..self.options() };
        self.query_store(Store::open(url, &options, self.clock.clone()).await?).await
    }

    async fn query_store(&self, store: Store) -> Result<Reader> {
        let store = store.for_stage(Stage::Read);
        let (_, settings) = Settings::load(&store).await?;
        let catalogue = documents::load_newest::<Catalogue>(&store).await?;
        let blocks = Blocks::new(store.clone(), FOOTERS_BYTES);
        let (clock, settings, catalogue) = (self.clock.clone(), settings.into(), catalogue.into());
        Ok(Reader { store, blocks, clock, settings, catalogue, skipped: Skipped::default() })
    }

    /// The store's time, by the answer to a listing, moved by `--now`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn store_now(&self, store: &Store) -> Result<Timestamp> {
        let listed = store.list_some(&Prefix::Settings, None, 1).await?.began;
        Ok(listed.saturating_add(self.clock.offset()).unwrap_or(listed))
    }

    async fn open(&self, options: &OpenOptions) -> Result<Store> {
        let url = self.store_url().ok_or_else(|| {
            Mistake("which store? Name it with --store URL, or in the environment as TRACEFARM_STORE".to_owned())
        })?;
        Store::open(url, options, self.clock.clone()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_is_a_moment_or_an_offset() {
        assert_eq!("+8d".parse(), Ok(Now::Off(SignedDuration::from_hours(192))));
        assert_eq!("-1h 30m".parse(), Ok(Now::Off(-SignedDuration::from_mins(90))));
        assert_eq!("2026-11-22T14:00:00Z".parse(), Ok(Now::At("2026-11-22T14:00:00Z".parse().unwrap())));
        assert!("tomorrow".parse::<Now>().is_err());
    }
}
