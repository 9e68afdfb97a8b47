//! `tracefarm check`: reads everything of a store and says whether the rules of the store hold.
//!
//! It verifies, from the bytes and not from what footers claim: that every block can be read; that its rows stand in
//! the table's order, in the hour and the shard of its folder, as many as its footer says; that the digest of a
//! compacted block of entries is that of its rows; that what a merge says it replaces can be so; that the entries of an
//! hour are exactly those that the handler rules tell of its spans; that every pin is readable, whole and holds the
//! entry that it stands under; that documents are readable. Nothing is changed.
//!
//! # Counting
//! Everything is counted once, however often it stands in the store for now, and exactly, in bounded memory:
//!
//! * The blocks of one hour and shard are merged row by row, all at once (memory: one batch a block). Rows with one key
//!   meet there, so spans and entries are counted as they pass; one trace's keys at a time are held.
//! * A trace whose spans lie in several hours is met in each of them. The ids of traces are held to tell, at most
//!   [`traces::HELD`] of them; if there are more, only those of every second, fourth, … trace are, by a hash of the id,
//!   and the spans are read again for each of the other parts.
//! * Of traces in several hours the rows are read once more, because a revision with another start may lie in another
//!   hour than its base.
//! * Entries and spans of an hour are compared by count and a 128-bit sum of hashes, whatever their shards; only where
//!   these differ are they read again and held against each other, a million at a time.

mod documents;
mod hour;
mod run;
mod traces;

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use serde::Serialize;

use super::Reader;
use crate::error::{Result, is_not_found};
use crate::model::{HandlerId, ShardDir};
use crate::model::{Hour, Shard, Table, TraceId};
use crate::stage::Monitor;
use crate::store::layout::QuarantineKey;
use crate::store::{Key, Prefix, Stage};
use crate::table::view::{Block, Scope, View};

/// How many violations a report tells one by one.
const TOLD: usize = 1_000;

/// How many different paths of 404 lists a report tells one by one; the rest of a service is summed up as `(other)`.
const PATHS: usize = 100_000;

/// How often an hour is looked at again that changed while it was read.
const TRIES: usize = 3;

/// What a store holds, and which rules are broken. The fields are stable.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Check {
    /// Distinct spans: (trace, span, is it a server's).
    pub spans: u64,
    /// Distinct traces in `spans/`.
    pub traces: u64,
    /// Distinct entries.
    pub entries: u64,
    /// Spans beyond `spans` that say something else of the same span: all are kept, the newest counts.
    pub revisions: u64,
    /// By the id with which the entries were indexed.
    pub handlers: BTreeMap<HandlerId, HandlerCount>,
    /// The entries that hit no handler, by service, method and path.
    pub not_found: Vec<NotFound>,
    /// Objects in `spans/` and `entries/`.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Pins in `latest/`.
    pub latest: u64,
    /// Objects in `inbox/`.
    pub inbox: u64,
    /// Objects in `quarantine/`, explanations not counted.
    pub quarantined: u64,
    /// Rows of both tables that stand in a second place for now: allowed, until their hour is compacted and swept.
    pub duplicates: u64,
    /// Names that are none of ours: left alone, no violation. The first thousand.
    pub foreign: Vec<String>,
    /// How many violations there are.
    pub violation_count: u64,
    /// The first thousand.
    pub violations: Vec<Violation>,
}

/// A handler's entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HandlerCount {
    /// All of them.
    pub count: u64,
    /// Those with status error, or an HTTP status of 500 and more.
    pub errors: u64,
}

/// A line of a 404 list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotFound {
    /// `service.name`, empty if there is none.
    pub service: String,
    /// The request's method, empty if there is none.
    pub method: String,
    /// The path without its query, empty if there is none.
    pub path: String,
    /// How many requests.
    pub count: u64,
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The object, or the hour (`spans 2026-11-22T14`).
    pub object: String,
    /// What is wrong with it.
    pub what: String,
}

impl Check {
    fn violated(&mut self, object: impl Into<String>, what: impl Into<String>) {
        self.violation_count += 1;
        if self.violations.len() < TOLD {
            self.violations.push(Violation { object: object.into(), what: what.into() });
        }
    }
}

/// Reads everything of the store.
///
/// On a store that is being worked on, an hour that changes while it is read is read again. Rows are then counted by
/// listings of different moments, each of which is right.
///
/// # Errors
/// Those of the store. What is wrong *in* the store is in the report.
pub async fn check(reader: &Reader, monitor: &dyn Monitor) -> Result<Check> {
    let mut check = Check::default();
    // The inbox first: input that is indexed while the rest is read is then counted here, and explains below why spans
    // may stand without their entries.
    let everything = reader.store.list(&Prefix::Everything).await?;
    let pins = count(&everything, &mut check);
    let forgotten = reader.forgotten().await?;
    let hours = {
        let (spans, entries) = list(reader, None).await?;
        footers(reader, &spans, &mut check);
        footers(reader, &entries, &mut check);
        spans.hours().into_iter().chain(entries.hours()).collect::<std::collections::BTreeSet<Hour>>()
    };
    let mut whole = Whole {
        reader,
        forgotten,
        now: now(reader, everything.began),
        inbox_is_empty: check.inbox == 0,
        traces: traces::Traces::default(),
        paths: Paths::default(),
    };
    monitor.begin(Stage::Read, hours.len() as u64, 0);
    for hour in &hours {
        whole.hour(*hour, &mut check).await?;
        monitor.advance(Stage::Read, 1, 0);
    }
    monitor.end(Stage::Read);
    whole.traces_across_hours(&hours, &mut check).await?;
    check.not_found = whole.paths.0.into_iter().map(not_found).collect();
    documents::check(reader, &everything, pins, monitor, &mut check).await?;
    Ok(check)
}

/// What is known while the hours are gone through.
struct Whole<'a> {
    reader: &'a Reader,
    /// Traces with a tombstone: a sweep takes them from one table after the other.
    forgotten: HashSet<TraceId>,
    now: Timestamp,
    inbox_is_empty: bool,
    traces: traces::Traces,
    paths: Paths,
}

impl Whole<'_> {
    /// Reads an hour, again if it changes meanwhile.
    async fn hour(&mut self, hour: Hour, check: &mut Check) -> Result<()> {
        for last in (0..TRIES).map(|attempt| attempt + 1 == TRIES) {
            let (spans, entries) = list(self.reader, Some(hour)).await?;
            let found = match hour::read(self.reader, hour, &spans, &entries, &self.forgotten, &mut self.traces).await {
                Ok(found) => found,
                Err(report) if is_not_found(&report) && !last => continue,
                Err(report) => return Err(report),
            };
            if !found.agree() && !last {
                let (again, entries_again) = list(self.reader, Some(hour)).await?;
                if names(&again) != names(&spans) || names(&entries_again) != names(&entries) {
                    continue;
                }
            }
            if !found.agree() {
                let differences = hour::differences(self.reader, &spans, &entries, &self.forgotten).await?;
                let is_past = hour.end_ns() < self.past_ns(hour);
                // What is on its way is no violation: index writes spans before entries. Of an hour that is past some
                // blocks of either table may be gone before others: those of spans go when the entries are covered, and
                // in hour 1970-01-01T00 each goes by its own age.
                let on_its_way = is_past || (differences.only_spans_more() && !self.inbox_is_empty);
                if !on_its_way {
                    check.violated(format!("hour {hour}"), differences.to_string());
                }
            }
            for (object, what) in &found.violations {
                check.violated(object.clone(), what.clone());
            }
            self.add(found, check);
            return Ok(());
        }
        Ok(())
    }

    /// Nanoseconds since 1970 before which `hour` is past.
    fn past_ns(&self, hour: Hour) -> i64 {
        let keep_for = self.reader.settings.keep_for.at(hour).0.as_nanos();
        i64::try_from(self.now.as_nanosecond() - keep_for as i128).unwrap_or(i64::MIN)
    }

    fn add(&mut self, found: hour::Found, check: &mut Check) {
        check.spans += found.spans;
        check.entries += found.entries;
        check.revisions += found.revisions;
        check.duplicates += found.rows - found.spans - found.revisions;
        check.duplicates += found.entry_rows - found.entries - found.entry_revisions;
        for (handler, counted) in found.handlers {
            let sum = check.handlers.entry(handler).or_default();
            sum.count += counted.count;
            sum.errors += counted.errors;
        }
        for (line, counted) in found.paths.0 {
            self.paths.add(line, counted);
        }
    }

    /// What only a look across the hours can tell: how many traces there are, and spans with revisions in several hours.
    async fn traces_across_hours(&mut self, hours: &std::collections::BTreeSet<Hour>, check: &mut Check) -> Result<()> {
        while self.traces.next_part() {
            for hour in hours {
                let (spans, _) = list(self.reader, Some(*hour)).await?;
                hour::meet_again(self.reader, *hour, &spans, &mut self.traces).await?;
            }
        }
        check.traces = self.traces.count();
        let crossing: Vec<TraceId> = self.traces.crossing().collect();
        for some in crossing.chunks(traces::AT_A_TIME) {
            let (spans, _) = list(self.reader, None).await?;
            let moved = traces::revisions_across_hours(self.reader, &spans, some).await?;
            check.spans -= moved;
            check.revisions += moved;
        }
        Ok(())
    }
}

/// Requests by service, method and path: at most [`PATHS`] paths.
#[derive(Default)]
struct Paths(BTreeMap<(String, String, String), u64>);

impl Paths {
    fn add(&mut self, line: (String, String, String), count: u64) {
        let full = self.0.len() >= PATHS;
        match self.0.get_mut(&line) {
            Some(sum) => *sum += count,
            None if full => *self.0.entry((line.0, String::new(), "(other)".to_owned())).or_default() += count,
            None => {
                self.0.insert(line, count);
            }
        }
    }
}

/// The blocks of both tables, of all hours or of one. Entries before spans: index writes spans first, so that every
/// entry on the list has its span on the other.
async fn list(reader: &Reader, hour: Option<Hour>) -> Result<(View, View)> {
    let scope = |table| {
        let all = Scope::all(table, reader.settings.grace.0);
        hour.map_or(all.clone(), |hour| all.within(hour..=hour))
    };
    // Not through the reader, which logs what is damaged: here it is a violation.
    let list = async |table| View::list(&reader.blocks, &reader.store, &reader.clock, &scope(table)).await;
    let entries = list(Table::Entries).await?;
    let spans = list(Table::Spans).await?;
    Ok((spans, entries))
}

fn names(view: &View) -> Vec<String> {
    view.blocks.iter().map(|block| block.id().to_string()).collect()
}

fn now(reader: &Reader, listed: Timestamp) -> Timestamp {
    listed.saturating_add(reader.clock.offset()).unwrap_or(listed)
}

fn not_found(((service, method, path), count): ((String, String, String), u64)) -> NotFound {
    NotFound { service, method, path, count }
}

/// Counts the objects by what they are, and returns the pins among them.
fn count(everything: &crate::store::Listing, check: &mut Check) -> Vec<crate::store::layout::PinKey> {
    let mut pins = Vec::new();
    for object in &everything.objects {
        match &object.key {
            Key::Block(_) => {
                check.blocks += 1;
                check.bytes += object.size_bytes;
            }
            Key::Pin(pin) => {
                check.latest += 1;
                pins.push(pin.clone());
            }
            Key::Inbox(_) => check.inbox += 1,
            Key::Quarantine(QuarantineKey { .. }) => check.quarantined += 1,
            _ => {}
        }
    }
    check.foreign = everything.foreign.iter().take(TOLD).cloned().collect();
    pins
}

/// What footers say of each other, and blocks that cannot be used at all.
fn footers(reader: &Reader, view: &View, check: &mut Check) {
    for damaged in &view.damaged {
        check.violated(Key::Block(damaged.key).path(), damaged.why.clone());
    }
    let by_name: BTreeMap<_, &Block> = view.blocks.iter().map(|block| (block.id(), block)).collect();
    for block in &view.blocks {
        let object = Key::Block(block.key).path();
        if block.is_newer_than_us() {
            check.violated(&object, "a newer program wrote it: this one cannot check its hour");
        }
        let of_settings = *reader.settings.shards.at(block.key.hour);
        let counts = block.shards().iter().filter(|shard| shard.count() != of_settings);
        if let Some(shard) = counts.into_iter().next() {
            check.violated(
                &object,
                format!("it has rows of shard {shard}, but for its hour {of_settings} shards count"),
            );
        }
        match block.key.dir {
            ShardDir::All if !block.meta.merged_from.is_empty() || !block.meta.siblings.is_empty() => {
                check.violated(&object, "it is as indexed, but says that it was merged");
            }
            ShardDir::One(shard) if block.shards().iter().any(|other| *other != shard) => {
                check.violated(&object, "its footer names another shard than its folder");
            }
            _ => {}
        }
        if block.meta.merged_from.contains(&block.id()) {
            check.violated(&object, "it says that it replaces itself");
        }
        for input in block.meta.merged_from.iter().filter_map(|name| by_name.get(name)) {
            let of_one_shard = input.is_level0() || input.key.dir == block.key.dir;
            if input.key.hour != block.key.hour || !of_one_shard {
                check.violated(&object, format!("it says that it replaces {}", Key::Block(input.key).path()));
            }
        }
        let replaced = |shard: &Shard| view.replaced_for(block).contains(shard);
        let missing = block.meta.siblings.iter().find(|name| !by_name.contains_key(name));
        if let Some(missing) = missing
            && !block.shards().iter().all(replaced)
        {
            check.violated(&object, format!("it counts, but its sibling {missing} is not there"));
        }
    }
}
