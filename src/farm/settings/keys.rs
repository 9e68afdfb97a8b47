//! The settings one by one, as people name, set and read them.

use std::time::Duration;

use bytesize::ByteSize;
use jiff::Timestamp;
use serde::Serialize;

use super::{Settings, Span, Timeline};
use crate::handler::RULES;
use crate::model::Hour;
use crate::otlp::decode::MOST_MESSAGE_BYTES;

/// One row of `settings show`: a value of a setting. One that changes at full hours has a row for each of its values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The setting.
    pub key: &'static str,
    /// Its value, as `settings set` takes it.
    pub value: String,
    /// The hour from which it counts; none: since ever.
    pub from: Option<Hour>,
    /// Whether this is what a farm has if nobody sets anything.
    pub is_default: bool,
    /// What it does.
    pub explanation: &'static str,
}

/// From when a value counts that changes at full hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Since ever: nothing was placed by another value yet.
    SinceEver,
    /// Two full hours after this, the store's time.
    After(Timestamp),
}

/// Takes a value as a person writes it; the error is the end of a sentence that begins with the setting's name.
type Set = fn(&mut Settings, &str, When) -> Result<(), String>;

/// The values of a setting and the hours from which they count; none: since ever.
type Values = Vec<(Option<Hour>, String)>;

struct Setting {
    key: &'static str,
    explanation: &'static str,
    set: Set,
    show: fn(&Settings) -> Values,
}

/// Every setting, in the order in which they are shown.
const SETTINGS: &[Setting] = &[
    Setting {
        key: "shards",
        explanation: "hash buckets of the tables, 1 to 999; counts from two full hours later",
        set: |settings, text, when| change(&mut settings.shards, number(text, 1, 999)? as u16, when),
        show: |settings| timeline(&settings.shards, u16::to_string),
    },
    Setting {
        key: "keep_for",
        explanation: "how long everything is kept, eg 7d; counts from two full hours later",
        set: |settings, text, when| change(&mut settings.keep_for, span(text)?, when),
        show: |settings| timeline(&settings.keep_for, Span::to_string),
    },
    Setting {
        key: "rules",
        explanation: "number of the rules that tell the handler; raise it when every worker has the new program",
        set: |settings, text, when| {
            let mut rules = settings.rules.last().clone();
            rules.number = number(text, 1, u64::from(RULES))? as u32;
            change(&mut settings.rules, rules, when)
        },
        show: |settings| timeline(&settings.rules, |rules| rules.number.to_string()),
    },
    Setting {
        key: "handler_attribute",
        explanation: "span attribute that names the handler, where a span has it",
        set: |settings, text, when| {
            let mut rules = settings.rules.last().clone();
            text.clone_into(&mut rules.handler_attribute);
            change(&mut settings.rules, rules, when)
        },
        show: |settings| timeline(&settings.rules, |rules| rules.handler_attribute.clone()),
    },
    Setting {
        key: "keep_last",
        explanation: "how many of a handler's newest traces are kept however old, 1 to 100",
        set: |settings, text, _| put(&mut settings.keep_last, number(text, 1, 100)? as u32),
        show: |settings| now(settings.keep_last.to_string()),
    },
    Setting {
        key: "redact_drop",
        explanation: "attributes whose values are dropped before anything is stored: globs, with commas between",
        set: |settings, text, _| put(&mut settings.redact_drop, globs(text)),
        show: |settings| now(settings.redact_drop.join(",")),
    },
    Setting {
        key: "redact_hash",
        explanation: "attributes whose values are replaced by a hash before anything is stored: globs",
        set: |settings, text, _| put(&mut settings.redact_hash, globs(text)),
        show: |settings| now(settings.redact_hash.join(",")),
    },
    Setting {
        key: "grace",
        explanation: "how long merged blocks stand beside what replaces them; an item of work may take half of it",
        set: |settings, text, _| put(&mut settings.grace, span(text)?),
        show: |settings| now(settings.grace.to_string()),
    },
    Setting {
        key: "settle",
        explanation: "how long an inbox object is left alone after its last change",
        set: |settings, text, _| put(&mut settings.settle, span(text)?),
        show: |settings| now(settings.settle.to_string()),
    },
    Setting {
        key: "settle_growing",
        explanation: "the same for objects that grow: append blobs and local files, but for those of `receive`",
        set: |settings, text, _| put(&mut settings.settle_growing, span(text)?),
        show: |settings| now(settings.settle_growing.to_string()),
    },
    Setting {
        key: "batch_bytes",
        explanation: "decompressed bytes at which a batch of inbox objects closes, eg 128MiB",
        set: |settings, text, _| put(&mut settings.batch_bytes, bytes(text)?),
        show: |settings| now(show_bytes(settings.batch_bytes)),
    },
    Setting {
        key: "publish_every",
        explanation: "a handler's pages are made at most once in this time; auto: as often as costs little",
        set: |settings, text, _| put(&mut settings.publish_every, optional(text, "auto")?),
        show: |settings| now(settings.publish_every.map_or("auto".to_owned(), |span| span.to_string())),
    },
    Setting {
        key: "publish_command",
        explanation: "a program of yours that makes files of each handler for its page; see `run --allow-publish-command`",
        set: |settings, text, _| put(&mut settings.publish_command, words(text)?),
        show: |settings| now(command_line(&settings.publish_command)),
    },
    Setting {
        key: "publish_command_timeout",
        explanation: "how long that program may take for a handler before it is killed, but no longer than a quarter of the grace",
        set: |settings, text, _| put(&mut settings.publish_command_timeout, span(text)?),
        show: |settings| now(settings.publish_command_timeout.to_string()),
    },
    Setting {
        key: "max_handlers",
        explanation: "the most handlers that a service shows; the rest is summed up in (other)",
        set: |settings, text, _| put(&mut settings.max_handlers, number(text, 1, 1_000_000)? as u32),
        show: |settings| now(settings.max_handlers.to_string()),
    },
    Setting {
        key: "pin_max_age",
        explanation: "newest traces older than this go, too; none: they never go",
        set: |settings, text, _| put(&mut settings.pin_max_age, optional(text, "none")?),
        show: |settings| now(settings.pin_max_age.map_or("none".to_owned(), |span| span.to_string())),
    },
    Setting {
        key: "max_message_bytes",
        explanation: "the largest single message (document, line, frame) of an inbox object, decompressed, eg 64MiB",
        set: |settings, text, _| put(&mut settings.max_message_bytes, bytes(text)?),
        show: |settings| now(show_bytes(settings.max_message_bytes)),
    },
];

/// Every value of every setting.
pub(super) fn show(settings: &Settings) -> Vec<Shown> {
    let default = Settings::default();
    let mut rows = Vec::new();
    for setting in SETTINGS {
        let usual = (setting.show)(&default);
        for (from, value) in (setting.show)(settings) {
            let is_default = usual[0].1 == value;
            rows.push(Shown { key: setting.key, value, from, is_default, explanation: setting.explanation });
        }
    }
    rows
}

/// Sets `key` to what `text` says.
pub(super) fn set(settings: &mut Settings, key: &str, text: &str, when: When) -> Result<(), String> {
    let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
        let known: Vec<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
        return Err(format!("there is no setting `{key}`; there are {}", known.join(", ")));
    };
    (setting.set)(settings, text.trim(), when).map_err(|rest| format!("`{key}` {rest}"))
}

fn put<T>(place: &mut T, value: T) -> Result<(), String> {
    *place = value;
    Ok(())
}

fn change<T: PartialEq>(timeline: &mut Timeline<T>, value: T, when: When) -> Result<(), String> {
    match when {
        When::SinceEver => *timeline = Timeline::always(value),
        When::After(now) => timeline.change(value, now),
    }
    Ok(())
}

fn number(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let number: Option<u64> = text.parse().ok();
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("must be a whole number from {least} to {most}, not `{text}`"))
}

fn span(text: &str) -> Result<Span, String> {
    humantime::parse_duration(text)
        .map(Span)
        .map_err(|error| format!("must be a length of time such as 7d, 12h or 10m, not `{text}`: {error}"))
}

fn optional(text: &str, none: &str) -> Result<Option<Span>, String> {
    if text == none { Ok(None) } else { span(text).map(Some).map_err(|rest| format!("{rest} (or `{none}`)")) }
}

fn bytes(text: &str) -> Result<u64, String> {
    let size: Result<ByteSize, _> = text.parse();
    size.map(|size| size.as_u64()).map_err(|_| format!("must be a number of bytes such as 64MiB, not `{text}`"))
}

/// Bytes so that they parse as the same number.
fn show_bytes(bytes: u64) -> String {
    [(30, "GiB"), (20, "MiB"), (10, "KiB")]
        .into_iter()
        .find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift)
        .map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// The words of a command, as a shell would split them. Nothing else of a shell is known: no variables, no pipes.
fn words(text: &str) -> Result<Vec<String>, String> {
    shlex::split(text).ok_or_else(|| format!("has a quote that is not closed: `{text}`"))
}

/// Words as one text that [`words`] splits into the same.
pub fn command_line<T: AsRef<str>>(words: &[T]) -> String {
    // Only a NUL cannot be quoted, and `check` refuses those.
    shlex::try_join(words.iter().map(AsRef::as_ref)).unwrap_or_default()
}

fn globs(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|glob| !glob.is_empty()).map(str::to_owned).collect()
}

fn now(value: String) -> Values {
    vec![(None, value)]
}

/// The values of a timeline; two settings share that of the rules, so neighbours that look the same are one.
fn timeline<T>(timeline: &Timeline<T>, text: impl Fn(&T) -> String) -> Values {
    let mut rows = Values::new();
    for (index, change) in timeline.changes().iter().enumerate() {
        let value = text(&change.value);
        if rows.last().is_none_or(|(_, last)| *last != value) {
            rows.push(((index > 0).then_some(change.from), value));
        }
    }
    rows
}

fn check_command(words: &[String]) -> Result<(), String> {
    let Some(program) = words.first() else { return Ok(()) };
    if words.iter().any(|word| word.contains('\0')) {
        return Err("`publish_command` has a NUL character in it".to_owned());
    }
    // It is run in a folder of its own, where a relative path leads nowhere.
    if program.is_empty() || (program.contains('/') && !program.starts_with('/')) {
        return Err(format!(
            "`publish_command` must begin with a program's name or its absolute path, not with `{program}`"
        ));
    }
    Ok(())
}

/// What is wrong with the values, whoever wrote them.
pub(super) fn check(settings: &Settings) -> Result<(), String> {
    fn within<T: PartialOrd + Copy>(
        key: &str,
        value: T,
        range: [T; 2],
        show: impl Fn(T) -> String,
    ) -> Result<(), String> {
        if range[0] <= value && value <= range[1] {
            return Ok(());
        }
        Err(format!("`{key}` must lie between {} and {}, not be {}", show(range[0]), show(range[1]), show(value)))
    }
    let span = |key, value: Span, least: u64, most: u64| {
        within(key, value, [least, most].map(|seconds| Span(Duration::from_secs(seconds))), |span| span.to_string())
    };
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    /// A hundred years: what is longer is a slip of the keyboard, and may overflow the hours that are reckoned with.
    const FOREVER: u64 = 36_525 * DAY;

    for change in settings.shards.changes() {
        within("shards", change.value, [1, crate::model::Shard::MAX], |n| n.to_string())?;
    }
    for change in settings.keep_for.changes() {
        // Whole hours are deleted.
        span("keep_for", change.value, HOUR, FOREVER)?;
    }
    for change in settings.rules.changes() {
        // A higher number than this program knows is no mistake: a worker leaves those hours alone.
        within("rules", change.value.number, [1, u32::MAX], |n| n.to_string())?;
        within("handler_attribute", change.value.handler_attribute.len(), [0, 256], |n| format!("{n} bytes"))?;
    }
    within("keep_last", settings.keep_last, [1, crate::table::digest::NEWEST_KEPT as u32], |n| n.to_string())?;
    // Below a minute a healthy worker that waits for its retries would never finish an item; `run --grace 0s` switches
    // the grace off for one that is alone.
    span("grace", settings.grace, MINUTE, DAY)?;
    span("settle", settings.settle, 0, DAY)?;
    span("settle_growing", settings.settle_growing, 0, DAY)?;
    within("batch_bytes", settings.batch_bytes, [1 << 20, 16 << 30], show_bytes)?;
    settings.publish_every.map_or(Ok(()), |value| span("publish_every", value, 1, DAY))?;
    check_command(&settings.publish_command)?;
    span("publish_command_timeout", settings.publish_command_timeout, 1, 5 * MINUTE)?;
    within("max_handlers", settings.max_handlers, [1, 1_000_000], |n| n.to_string())?;
    settings.pin_max_age.map_or(Ok(()), |value| span("pin_max_age", value, HOUR, FOREVER))?;
    within("max_message_bytes", settings.max_message_bytes, [1 << 10, MOST_MESSAGE_BYTES as u64], show_bytes)?;
    for (key, globs) in [("redact_drop", &settings.redact_drop), ("redact_hash", &settings.redact_hash)] {
        for glob in globs {
            globset::Glob::new(glob).map_err(|error| format!("`{key}` has a glob that is none: {error}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_set() {
        let mut settings = Settings::default();
        for row in show(&Settings::default()) {
            assert!(row.is_default && row.from.is_none(), "{row:?}");
            set(&mut settings, row.key, &row.value, When::SinceEver).unwrap();
        }
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn every_field_is_a_setting() {
        let json = serde_json::to_value(Settings::default()).unwrap();
        let fields = json.as_object().unwrap().keys().map(String::as_str);
        let known = SETTINGS.iter().map(|setting| setting.key).filter(|key| *key != "handler_attribute");
        assert_eq!(fields.collect::<std::collections::BTreeSet<_>>(), known.collect());
    }

    #[test]
    fn a_mistake_is_told_in_a_sentence() {
        let wrong = |key: &str, text: &str| {
            let mut settings = Settings::default();
            set(&mut settings, key, text, When::SinceEver).and_then(|()| check(&settings)).unwrap_err()
        };
        insta::assert_snapshot!(wrong("shard", "3"), @"there is no setting `shard`; there are shards, keep_for, rules, handler_attribute, keep_last, redact_drop, redact_hash, grace, settle, settle_growing, batch_bytes, publish_every, publish_command, publish_command_timeout, max_handlers, pin_max_age, max_message_bytes");
        insta::assert_snapshot!(wrong("shards", "0"), @"`shards` must be a whole number from 1 to 999, not `0`");
        insta::assert_snapshot!(wrong("shards", "1000"), @"`shards` must be a whole number from 1 to 999, not `1000`");
        insta::assert_snapshot!(wrong("keep_last", "101"), @"`keep_last` must be a whole number from 1 to 100, not `101`");
        insta::assert_snapshot!(wrong("rules", "2"), @"`rules` must be a whole number from 1 to 1, not `2`");
        insta::assert_snapshot!(wrong("keep_for", "week"), @"`keep_for` must be a length of time such as 7d, 12h or 10m, not `week`: expected number at 0");
        insta::assert_snapshot!(wrong("keep_for", "5m"), @"`keep_for` must lie between 1h and 100years, not be 5m");
        insta::assert_snapshot!(wrong("grace", "0s"), @"`grace` must lie between 1m and 1day, not be 0s");
        insta::assert_snapshot!(wrong("pin_max_age", "never"), @"`pin_max_age` must be a length of time such as 7d, 12h or 10m, not `never`: expected number at 0 (or `none`)");
        insta::assert_snapshot!(wrong("batch_bytes", "1KiB"), @"`batch_bytes` must lie between 1MiB and 16GiB, not be 1KiB");
        insta::assert_snapshot!(wrong("publish_command", "render 'x"), @"`publish_command` has a quote that is not closed: `render 'x`");
        insta::assert_snapshot!(wrong("publish_command", "./render x"), @"`publish_command` must begin with a program's name or its absolute path, not with `./render`");
        insta::assert_snapshot!(wrong("publish_command_timeout", "1h"), @"`publish_command_timeout` must lie between 1s and 5m, not be 1h");
        insta::assert_snapshot!(wrong("redact_drop", "a,[b"), @"`redact_drop` has a glob that is none: error parsing glob '[b': unclosed character class; missing ']'");
    }

    #[test]
    fn a_setting_of_the_rules_keeps_the_other_one() {
        let mut settings = Settings::default();
        let at = |text: &str| When::After(text.parse().unwrap());
        set(&mut settings, "handler_attribute", "code.function.name", at("2026-11-22T14:30:00Z")).unwrap();
        set(&mut settings, "rules", "1", at("2026-11-22T14:31:00Z")).unwrap();
        let shown: Vec<_> =
            show(&settings).into_iter().filter(|row| ["rules", "handler_attribute"].contains(&row.key)).collect();
        let rows: Vec<_> = shown
            .iter()
            .map(|row| (row.key, row.value.as_str(), row.from.map(|h| h.to_string()), row.is_default))
            .collect();
        assert_eq!(
            rows,
            [
                ("rules", "1", None, true),
                ("handler_attribute", "tracefarm.handler", None, true),
                ("handler_attribute", "code.function.name", Some("2026-11-22T17".to_owned()), false),
            ]
        );
    }

    #[test]
    fn the_words_of_a_command_print_as_they_are_split() {
        let mut settings = Settings::default();
        set(&mut settings, "publish_command", r#"  /opt/render --title "a b" '' 'it'"'"'s $HOME' "#, When::SinceEver)
            .unwrap();
        assert_eq!(settings.publish_command, ["/opt/render", "--title", "a b", "", "it's $HOME"]);
        let shown = show(&settings).into_iter().find(|row| row.key == "publish_command").unwrap().value;
        let mut again = Settings::default();
        set(&mut again, "publish_command", &shown, When::SinceEver).unwrap();
        assert_eq!(again.publish_command, settings.publish_command, "{shown}");
        set(&mut again, "publish_command", "", When::SinceEver).unwrap();
        assert_eq!(again, Settings::default());
    }

    #[test]
    fn bytes_print_as_they_parse() {
        for (bytes, text) in
            [(0, "0"), (1, "1"), (1500, "1500"), (1536, "1536"), (2048, "2KiB"), (64 << 20, "64MiB"), (3 << 30, "3GiB")]
        {
            assert_eq!(show_bytes(bytes), text);
            assert_eq!(super::bytes(text).unwrap(), bytes);
        }
    }
}
