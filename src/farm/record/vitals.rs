//! What a worker says of itself in its heartbeat, so that `status` and pages know of it without asking anybody.

use jiff::{Timestamp, civil};
#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::farm::worker::Failed;
use crate::store::Object;

/// So many failing items are named.
const NAMED: usize = 20;
/// Their names and reasons have at most so many characters: a heartbeat is small, whatever fails.
const LONGEST: usize = 200;

/// How the worker is. Counts are since it started.
///
/// Programs of several versions read each other's: fields are only ever added, and one that is missing is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default)]
pub struct Vitals {
    /// Its rank among its peers, from 0; none if it is not (yet) one of them.
    pub rank: Option<usize>,
    /// How many peers it sees, itself included; 0 before it asked.
    pub peers: usize,
    /// The stage in hand; none between stages.
    pub stage: Option<String>,
    /// Cycles in a row that failed.
    pub failing_cycles: u32,
    /// How many items failed and have not been done since.
    pub failing_items: usize,
    /// The worst of them, at most 20.
    pub failing: Vec<Failing>,
    /// Inbox objects indexed.
    pub objects: u64,
    /// Spans indexed, copies included.
    pub spans: u64,
    /// Rows written by all stages.
    pub rows_written: u64,
    /// Requests to the store and to another inbox, every attempt counted.
    pub requests: u64,
    /// What they cost at list price, in US dollars; 0 for a local store.
    pub dollars: f64,
    /// The day (UTC) of the next two.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub day: Option<civil::Date>,
    /// Requests on this day.
    pub day_requests: u64,
    /// What they cost.
    pub day_dollars: f64,
    /// Resident memory; none where the system does not say.
    pub memory_bytes: Option<u64>,
    /// The most at a time.
    pub peak_memory_bytes: Option<u64>,
    /// What waited in the inbox when it was last listed.
    pub backlog: Option<Backlog>,
}

/// What waits to be indexed by the whole farm: inbox objects that no ledger knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default)]
pub struct Backlog {
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How old the oldest was when it was listed, in seconds.
    pub oldest_seconds: i64,
    /// Whether there are more: a listing ends after 100,000 objects.
    pub more: bool,
    /// Whether the inbox is kept: then what has been indexed lies there, too.
    pub kept: bool,
}

impl Backlog {
    /// Of what a listing that began at `now` (by the store's clock) shows.
    pub fn of<'a>(objects: impl Iterator<Item = &'a Object>, now: Timestamp, more: bool) -> Self {
        let mut backlog = Self { more, ..Self::default() };
        for object in objects {
            backlog.objects += 1;
            backlog.bytes += object.size_bytes;
            backlog.oldest_seconds = backlog.oldest_seconds.max(now.duration_since(object.modified).as_secs());
        }
        backlog
    }

    /// Without `object`, which is done. Who is the oldest now, the next listing tells.
    pub(super) fn leave(&mut self, object: &Object) {
        self.objects = self.objects.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(object.size_bytes);
        if self.objects == 0 {
            self.oldest_seconds = 0;
        }
    }
}

/// An item that fails.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default)]
pub struct Failing {
    /// In which stage.
    pub stage: String,
    /// Which; long names are cut in the middle.
    pub item: String,
    /// Why, in one line, cut if it is long.
    pub why: String,
    /// How often in a row.
    pub times: u32,
    /// Since when, by the worker's clock.
    #[cfg_attr(test, schemars(with = "String"))]
    pub since: Timestamp,
}

/// Requests and their list price.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// Requests, every attempt counted.
    pub requests: u64,
    /// US dollars; 0 for a local store.
    pub dollars: f64,
}

/// The worst of what `failed`: what failed most often, then what has failed longest.
pub(super) fn worst<'a>(failed: impl Iterator<Item = &'a Failed>) -> Vec<Failing> {
    let mut failed: Vec<&Failed> = failed.collect();
    failed.sort_by(|a, b| b.times.cmp(&a.times).then(a.since.cmp(&b.since)).then(a.item.cmp(&b.item)));
    let failing = failed.into_iter().take(NAMED).map(|failed| Failing {
        stage: failed.stage.to_owned(),
        item: cut(&failed.item, LONGEST / 2),
        why: cut(&failed.why, LONGEST - 1),
        times: failed.times,
        since: failed.since,
    });
    failing.collect()
}

/// `text` in one line, at most [`LONGEST`] characters of it: the first `head` and the last that fit.
fn cut(text: &str, head: usize) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let count = text.chars().count();
    if count <= LONGEST {
        return text;
    }
    let tail = count - (LONGEST - 1 - head);
    text.chars().take(head).chain(['…']).chain(text.chars().skip(tail)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_of_a_thousand_failures_are_named_and_a_heartbeat_stays_small() {
        let failed: Vec<Failed> = (0..1_000)
            .map(|number| Failed {
                stage: "index",
                item: format!("inbox/{}/{number:04}", "ä".repeat(900)),
                why: "\u{1f980}\n".repeat(5_000),
                times: number / 10,
                since: Timestamp::from_second(i64::from(number)).unwrap(),
            })
            .collect();
        let worst = worst(failed.iter());
        let times: Vec<(u32, i64)> = worst.iter().map(|item| (item.times, item.since.as_second())).collect();
        assert_eq!((times.len(), times[0], times[9], times[10]), (20, (99, 990), (99, 999), (98, 980)));
        assert!(worst[0].item.starts_with("inbox/ä") && worst[0].item.ends_with("/0990"), "{}", worst[0].item);
        assert!(worst.iter().all(|item| item.item.chars().count() == LONGEST && !item.why.contains('\n')));
        let bytes = serde_json::to_vec(&Vitals { failing: worst, ..Vitals::default() }).unwrap().len();
        assert!(bytes < 32 << 10, "{bytes}");
    }

    #[test]
    fn what_a_program_does_not_know_or_say_is_empty() {
        let older: Vitals = serde_json::from_str(r#"{"rank":3,"backlog":{"objects":7}}"#).unwrap();
        assert_eq!((older.rank, older.backlog.unwrap().objects, older.failing_items), (Some(3), 7, 0));
        let newer = r#"{"mood":"fine","failing":[{"item":"x","colour":"red"}]}"#;
        assert_eq!(serde_json::from_str::<Vitals>(newer).unwrap().failing[0].item, "x");
    }
}
