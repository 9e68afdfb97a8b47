//! The store's settings: numbered versions (`farm/settings/<sequence>.json`), the highest counts (rule 7).
//!
//! What decides where a row goes (`shards`, `keep_for`, `rules`) is a list with the hour from which each value counts,
//! at least two full hours ahead of the moment it is set; the rest counts at once. `redact` counts at once, too: nobody
//! wants a secret stored for two more hours, and a span redacted once and not another time is a revision, not a loss.
//!
//! The first version is written by the first worker ([`Settings::begin`]) or by the first `settings set`, whichever
//! comes first. In that one values count since ever, because no row was placed by others; so a new farm can be given its
//! shards at once, and a later program with other defaults moves no row of an old one.

mod keys;
mod timeline;

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use keys::{Shown, When, command_line};
pub use timeline::{Change, Timeline};

use super::documents::{self, Document};
use crate::error::{Mistake, Result, report};
use crate::handler::Rules;
use crate::model::Table;
use crate::store::{Key, Prefix, Store};

/// One version of the settings. A field that a document leaves out has its default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How many hash buckets.
    pub shards: Timeline<u16>,
    /// How long everything is kept.
    pub keep_for: Timeline<Span>,
    /// The handler rules' number and `handler_attribute`.
    pub rules: Timeline<Rules>,
    /// How many of a handler's newest traces are kept for ever (1 to [`crate::table::digest::NEWEST_KEPT`]).
    pub keep_last: u32,
    /// Globs of attribute keys whose values are dropped, and of those that are hashed.
    pub redact_drop: Vec<String>,
    /// See `redact_drop`.
    pub redact_hash: Vec<String>,
    /// How long a merged block's inputs stand after it (rule 2).
    pub grace: Span,
    /// How long an inbox object is left alone after its last change; longer for those that grow.
    pub settle: Span,
    /// See `settle`: append blobs and local files.
    pub settle_growing: Span,
    /// A batch closes at this many decompressed bytes.
    pub batch_bytes: u64,
    /// A handler is published at most once in this time; none: as often as costs little.
    pub publish_every: Option<Span>,
    /// A user's own program and its arguments, which publishing runs for each handler that changed; none if empty. Only
    /// workers run it that were started so that they may.
    pub publish_command: Vec<String>,
    /// How long it may take for a handler.
    pub publish_command_timeout: Span,
    /// The most handlers that a service shows.
    pub max_handlers: u32,
    /// Pins older than this go, for privacy; none: never.
    pub pin_max_age: Option<Span>,
    /// The largest single message of an inbox object, decompressed.
    pub max_message_bytes: u64,
}

impl Settings {
    /// The newest settings and their number; number 0 and the defaults if there are none yet. For readers: workers
    /// [`Settings::begin`].
    pub async fn load(store: &Store) -> Result<(u64, Self)> {
        documents::load_newest(store).await
    }

    /// The newest settings for somebody who will place rows by them: if there are none yet, the defaults are written
    /// down first. Of two who do that at once one writes, and both read the same.
    pub async fn begin(store: &Store) -> Result<(u64, Self)> {
        match Self::load(store).await? {
            (0, _) => documents::change(store, |_, settings: &Self| Ok(settings.clone())).await,
            found => Ok(found),
        }
    }

    /// Sets some values (`K=V`, as people write them) and returns the new settings with their number. `now` is the
    /// store's time.
    ///
    /// # Errors
    /// A [`Mistake`] for an unknown key or a value that makes no sense; then none of the values is set.
    pub async fn set(store: &Store, values: &[(String, String)], now: Timestamp) -> Result<(u64, Self)> {
        // Only a store without any block lets values count since ever. Asked before the change: a worker that indexes
        // its first block in between has begun the settings first, and so this is no longer the first version.
        let mut untouched = true;
        for table in Table::BOTH {
            let some = store.list_some(&Prefix::Table(table), None, 1).await?;
            untouched &= some.objects.is_empty() && some.foreign.is_empty();
        }
        documents::change(store, |number, settings: &Self| {
            let when = if number == 0 && untouched { When::SinceEver } else { When::After(now) };
            settings.with(values, when).map_err(|sentence| report!(Mistake(sentence)).into_dynamic())
        })
        .await
    }

    /// These settings with some values changed.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn with(&self, values: &[(String, String)], when: When) -> std::result::Result<Self, String> {
        let mut settings = self.clone();
        for (key, value) in values {
            keys::set(&mut settings, key, value, when)?;
        }
        keys::check(&settings)?;
        Ok(settings)
    }

    /// Every setting with its values, for `settings show`.
    pub fn show(&self) -> Vec<Shown> {
        keys::show(self)
    }
}

impl Document for Settings {
    const NOUN: &'static str = "settings";

    fn prefix() -> Prefix {
        Prefix::Settings
    }

    fn key(number: u64) -> Key {
        Key::Settings(number)
    }

    fn number(key: &Key) -> Option<u64> {
        if let Key::Settings(number) = key { Some(*number) } else { None }
    }

    fn check(&self) -> std::result::Result<(), String> {
        keys::check(self)
    }

    /// What places rows always stands there: it must not move with a program's defaults. The rest only where somebody
    /// set it: then a better default reaches old farms, and an older program refuses only what it really does not know.
    fn to_json(&self) -> serde_json::Result<serde_json::Value> {
        let mut json = serde_json::to_value(self)?;
        let default = serde_json::to_value(Self::default())?;
        if let Some(fields) = json.as_object_mut() {
            fields.retain(|key, value| {
                matches!(key.as_str(), "shards" | "keep_for" | "rules") || default.get(key) != Some(value)
            });
        }
        Ok(json)
    }
}

/// A length of time that is written as people write it: `7d`, `10m`, `15s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl TryFrom<String> for Span {
    type Error = humantime::DurationError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        humantime::parse_duration(&text).map(Self)
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl Default for Settings {
    fn default() -> Self {
        let seconds = |n| Span(Duration::from_secs(n));
        Self {
            shards: Timeline::always(1),
            keep_for: Timeline::always(seconds(7 * 24 * 3600)),
            rules: Timeline::always(Rules::default()),
            keep_last: 10,
            redact_drop: Vec::new(),
            redact_hash: Vec::new(),
            grace: seconds(600),
            settle: seconds(10),
            settle_growing: seconds(300),
            batch_bytes: 128 << 20,
            publish_every: None,
            publish_command: Vec::new(),
            publish_command_timeout: seconds(30),
            max_handlers: 2_000,
            pin_max_age: None,
            max_message_bytes: 64 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Hour;

    fn values(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    async fn memory() -> Store {
        let clock = crate::clock::Clock::simulated("2026-11-22T14:00:00Z".parse().unwrap(), 1);
        Store::open("memory://", &crate::store::OpenOptions::default(), clock).await.unwrap()
    }

    #[test]
    fn settings_are_the_same_in_json_and_in_toml() {
        let when = When::After("2026-11-22T14:30:00Z".parse().unwrap());
        let set = [("shards", "16"), ("keep_for", "30d"), ("pin_max_age", "90d"), ("redact_drop", "http.*.cookie, a")];
        let settings = Settings::default().with(&values(&set), when).unwrap();
        let json = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&json).unwrap(), settings);
        let toml = toml::to_string(&settings).unwrap();
        assert_eq!(toml::from_str::<Settings>(&toml).unwrap(), settings);
        assert_eq!(settings.redact_drop, ["http.*.cookie", "a"]);
        let hour: Hour = "2026-11-22T17".parse().unwrap();
        assert_eq!((*settings.shards.at(hour.previous()), *settings.shards.at(hour)), (1, 16));
    }

    #[test]
    fn a_document_holds_what_places_rows_and_what_was_set() {
        let settings = Settings::default().with(&values(&[("keep_last", "20")]), When::SinceEver).unwrap();
        let fields: Vec<_> = settings.to_json().unwrap().as_object().unwrap().keys().cloned().collect();
        assert_eq!(fields, ["keep_for", "keep_last", "rules", "shards"]);
        let read: Settings = serde_json::from_value(settings.to_json().unwrap()).unwrap();
        assert_eq!(read, settings);
    }

    #[tokio::test]
    async fn the_first_settings_count_since_ever_and_later_ones_two_hours_later() {
        let now = "2026-11-22T14:30:00Z".parse().unwrap();
        let store = memory().await;
        assert_eq!(Settings::load(&store).await.unwrap(), (0, Settings::default()));
        let (number, settings) = Settings::set(&store, &values(&[("shards", "4")]), now).await.unwrap();
        assert_eq!((number, settings.shards.changes().len(), *settings.shards.last()), (1, 1, 4));
        let (number, settings) = Settings::set(&store, &values(&[("shards", "8")]), now).await.unwrap();
        assert_eq!((number, settings.shards.changes().len(), *settings.shards.last()), (2, 2, 8));
        assert_eq!(Settings::begin(&store).await.unwrap(), (2, settings));
    }

    #[tokio::test]
    async fn a_worker_writes_the_defaults_down_before_it_places_rows() {
        let now = "2026-11-22T14:30:00Z".parse().unwrap();
        let store = memory().await;
        assert_eq!(Settings::begin(&store).await.unwrap(), (1, Settings::default()));
        assert_eq!(Settings::begin(&store).await.unwrap(), (1, Settings::default()));
        let (number, settings) = Settings::set(&store, &values(&[("shards", "4")]), now).await.unwrap();
        assert_eq!((number, settings.shards.changes().len()), (2, 2));
    }

    #[tokio::test]
    async fn one_mistake_sets_nothing() {
        let now = "2026-11-22T14:30:00Z".parse().unwrap();
        let store = memory().await;
        let refused = Settings::set(&store, &values(&[("keep_last", "20"), ("shards", "-1")]), now).await.unwrap_err();
        assert!(crate::error::find::<Mistake>(&refused).is_some(), "{refused}");
        assert_eq!(Settings::load(&store).await.unwrap().0, 0);
    }
}
