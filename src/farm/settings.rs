//! The store's settings: numbered versions (`farm/settings/<sequence>.json`), the highest counts (rule 7).
//!
//! What decides where a row goes (`shards`, `keep_for`, `rules`) is a list with the hour from which each value counts,
//! at least two full hours ahead of the moment it is set; the rest counts at once. `redact` counts at once, too: nobody
//! wants a secret stored for two more hours, and a span redacted once and not another time is a revision, not a loss.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::handler::Rules;
use crate::model::Hour;

/// A value that changes at full hours: `(from, value)`, sorted; the first counts since ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeline<T>(Vec<Change<T>>);

/// From `from` on the value is `value`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change<T> {
    /// The first hour for which it counts, eg `2026-11-22T14`.
    pub from: Hour,
    /// The value.
    pub value: T,
}

impl<T> Timeline<T> {
    /// The same value always.
    pub fn always(value: T) -> Self {
        Self(vec![Change { from: Hour::EPOCH, value }])
    }

    /// What counts for `hour`.
    pub fn at(&self, hour: Hour) -> &T {
        let changes = &self.0;
        let after = changes.partition_point(|change| change.from <= hour);
        // A timeline is never empty (deserialising refuses that): the first change counts for all earlier hours.
        &changes[after.saturating_sub(1)].value
    }

    /// Every value that ever counted, and from when.
    pub fn changes(&self) -> &[Change<T>] {
        &self.0
    }
}

/// One version of the settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    /// The most handlers that a service shows.
    pub max_handlers: u32,
    /// Pins older than this go, for privacy; none: never.
    pub pin_max_age: Option<Span>,
    /// The largest single message of an inbox object, decompressed.
    pub max_message_bytes: u64,
}

/// A length of time that is written as people write it: `7d`, `10m`, `15s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

impl TryFrom<String> for Span {
    type Error = humantime::DurationError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        humantime::parse_duration(&text).map(Self)
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        humantime::format_duration(span.0).to_string()
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
            max_handlers: 2_000,
            pin_max_age: None,
            max_message_bytes: 64 << 20,
        }
    }
}
