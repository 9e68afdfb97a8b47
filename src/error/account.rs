//! A failure, or those of a batch, as it is told: once, in one log record, for people and for Error Reporting.

use std::error::Error;
use std::fmt;

use rootcause::ReportRef;
use rootcause::hooks::builtin_hooks::location::Location;
use rootcause::markers::{Dynamic, Local, Uncloneable};
use serde::Serialize;

use super::way::{Way, text};
use super::{Report, find, places_are_shown};
use crate::store::{Said, StoreError};

/// So many different causes of one batch are told.
const MOST_FAILURES: usize = 8;
/// So many items are named for each.
const MOST_ITEMS: usize = 5;
/// So much of a cause is told.
const MOST_CHARS: usize = 1_000;

/// What went wrong: a [`tracing`] field of this type (`failure = told(&report)`) is laid out by whoever prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// `3 of 20`, of a batch.
    pub(crate) scope: Option<String>,
    /// Equal causes are one.
    pub(crate) failures: Vec<Failing>,
    /// How many failures of other causes are left out.
    more: usize,
}

/// A cause and what it came upon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Failing {
    /// What it is called in a list: nothing that differs from one occurrence to the next.
    pub title: String,
    /// How many items failed like that.
    pub count: usize,
    /// The first of them.
    pub items: Vec<String>,
    /// The object of the store, with its URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// From what was to be done down to what happened.
    pub causes: Vec<Cause>,
    /// What a person can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// How often the store was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// The store's name for the last request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Through which spans it came.
    pub way: Way,
    /// Where in the program it was made.
    #[serde(skip)]
    pub place: Option<Location>,
}

/// One link of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Cause {
    pub what: String,
    /// Where in the program it was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

impl Account {
    /// One failure.
    pub fn of(report: &Report) -> Self {
        Self { scope: None, failures: vec![Failing::of(None, report)], more: 0 }
    }

    /// Those of a batch of `all` items: what has one cause is summed.
    pub fn of_batch<'r>(failed: impl IntoIterator<Item = (&'r str, &'r Report)>, all: u64) -> Self {
        let mut failed: Vec<(&str, &Report)> = failed.into_iter().collect();
        failed.sort_by_key(|(item, _)| *item);
        let mut failures: Vec<Failing> = Vec::new();
        let (mut count, mut more) = (0_u64, 0);
        for (item, report) in failed {
            count += 1;
            let failing = Failing::of(Some(item), report);
            match failures.iter().position(|known| known.title == failing.title) {
                Some(at) => {
                    failures[at].count += 1;
                    if failures[at].items.len() < MOST_ITEMS {
                        failures[at].items.extend(failing.items);
                    }
                }
                None if failures.len() < MOST_FAILURES => failures.push(failing),
                None => more += 1,
            }
        }
        failures.sort_by_key(|failing| std::cmp::Reverse(failing.count));
        Self { scope: Some(format!("{count} of {}", all.max(count))), failures, more }
    }

    /// What it is about, in words that are the same the next time.
    pub(crate) fn title(&self) -> &str {
        self.failures.first().map_or("", |failing| &failing.title)
    }
}

impl Failing {
    fn of(item: Option<&str>, report: &Report) -> Self {
        let store = find::<StoreError>(report);
        let said = store.and_then(StoreError::said);
        let leaf = report.iter_reports().last();
        let attachments = || leaf.into_iter().flat_map(|leaf| leaf.attachments().iter());
        let way = attachments().find_map(|attachment| attachment.downcast_inner::<Way>()).cloned();
        let place = attachments().find_map(|attachment| attachment.downcast_inner::<Location>()).copied();
        let causes = causes(report.as_ref().into_uncloneable().into_local());
        let last = causes.last().map_or("", |cause| &cause.what);
        let title = match (store, said) {
            (Some(error), Some(said)) => format!("{}: {}", error.operation, stable(&said.what)),
            (Some(error), None) => format!("{}: {}", error.operation, stable(last)),
            _ => stable(last),
        };
        Self {
            title,
            count: 1,
            items: item.map(str::to_owned).into_iter().collect(),
            object: store.map(|error| error.path.clone()),
            causes,
            advice: said.and_then(|said| said.advice.clone()),
            attempts: said.map(|said| said.attempts).filter(|attempts| *attempts > 0),
            request_id: said.and_then(|said| said.request_id.clone()),
            way: way.unwrap_or_default(),
            place,
        }
    }
}

/// Any report, to look at.
pub(super) type Look<'r> = ReportRef<'r, Dynamic, Uncloneable, Local>;

/// The chain of causes: contexts, then what errors carry within; what repeats the one before is left out.
fn causes(report: Look<'_>) -> Vec<Cause> {
    let mut causes: Vec<Cause> = Vec::new();
    for node in report.iter_reports() {
        let place = node.attachments().iter().find_map(|attachment| attachment.downcast_inner::<Location>().copied());
        let mut say = |what: String| {
            if !what.is_empty() && causes.last().is_none_or(|before| !before.what.contains(&what)) {
                let what = if what.len() > MOST_CHARS { what.chars().take(MOST_CHARS).collect() } else { what };
                causes.push(Cause { what, at: place.map(|place| place.to_string()) });
            }
        };
        say(node.format_current_context().to_string());
        let mut next = node.current_context_error_source();
        while let Some(error) = next {
            say(error.to_string());
            // Below it stands the same in the client's words.
            next = if error.is::<Said>() { None } else { error.source() };
        }
    }
    causes
}

/// The chain in one line: `read the settings: read s3://b/farm/settings/1.json: 503 SlowDown: … (4 attempts)`.
pub(super) fn line(report: Look<'_>) -> String {
    let causes: Vec<String> = causes(report).into_iter().map(|cause| cause.what).collect();
    causes.join(": ")
}

/// A text without what differs from one occurrence to the next: paths, numbers, ids. Statuses of HTTP stay.
fn stable(text: &str) -> String {
    let is_status =
        |word: &str| word.len() == 3 && word.starts_with(['4', '5']) && word.bytes().all(|b| b.is_ascii_digit());
    let mut words: Vec<&str> = Vec::new();
    for word in text.split_whitespace() {
        let varies = word.contains('/') || word.bytes().any(|byte| byte.is_ascii_digit());
        match varies && !is_status(word.trim_end_matches([':', ','])) {
            true if words.last() == Some(&"…") => {}
            true => words.push("…"),
            false => words.push(word),
        }
    }
    words.join(" ")
}

impl fmt::Display for Failing {
    /// Lines, indented by two.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut indent = "  ";
        if !self.items.is_empty() {
            match self.count {
                1 => write!(f, "  {}", self.items.join(", "))?,
                count => write!(f, "  {count}: {}", self.items.join(", "))?,
            }
            if self.count > self.items.len() {
                write!(f, ", …")?;
            }
            writeln!(f)?;
            indent = "    ";
        }
        for Cause { what, at } in &self.causes {
            write!(f, "{indent}{}", what.replace('\n', &format!("\n{indent}")))?;
            match at {
                Some(at) if places_are_shown() => writeln!(f, "  ({at})")?,
                _ => writeln!(f)?,
            }
        }
        if let Some(advice) = &self.advice {
            writeln!(f, "{indent}→ {advice}")?;
        }
        let named = |step: &super::way::Step| {
            step.fields.get("item").is_some_and(|item| self.items.first().is_some_and(|first| *first == text(item)))
        };
        let way = Way(self.way.0.iter().filter(|step| !named(step)).cloned().collect());
        if !way.0.is_empty() {
            writeln!(f, "{indent}in {way}")?;
        }
        Ok(())
    }
}

/// The lines below a message, for people.
impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failures.iter().try_for_each(|failing| failing.fmt(f))?;
        match self.more {
            0 => Ok(()),
            more => writeln!(f, "  {more} more, of other causes"),
        }
    }
}

impl Error for Account {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_says_nothing_that_differs_the_next_time() {
        assert_eq!(
            stable("503 SlowDown: Please reduce your request rate."),
            "503 SlowDown: Please reduce your request rate."
        );
        assert_eq!(stable("the body was cut: 3 of 10 bytes came"), "the body was cut: … of … bytes came");
        assert_eq!(stable("cannot read spans/x.parquet 17 times"), "cannot read … times");
    }
}
