//! `explain`: why a trace is kept, and until when.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::columns::Spans;
use super::newest::keep_last;
use super::pin::Pins;
use super::trace::{self, Lookup, Trace};
use super::{Reader, relisted};
use crate::error::{Result, ResultExt};
use crate::handler;
use crate::model::{HandlerId, Hour, TraceId};
use crate::store::{Key, Prefix};
use crate::table::digest::NEWEST_KEPT;

/// What is known of a trace's fate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The trace, in hex.
    pub trace_id: String,
    /// When it was asked to be forgotten, if it was.
    pub forgotten: Option<Timestamp>,
    /// Spans, each counted once.
    pub spans: usize,
    /// Rows beyond these: revisions.
    pub revisions: usize,
    /// The blocks that hold rows of it.
    pub blocks: Vec<InBlock>,
    /// The pins that hold it.
    pub pins: Vec<InPin>,
    /// Its entries.
    pub entries: Vec<Entry>,
    /// When the last block that holds rows of it is past; none if no block does.
    pub in_blocks_until: Option<Timestamp>,
    /// The whole of it in a sentence.
    pub verdict: String,
}

/// A block that holds rows of the trace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InBlock {
    /// The object.
    pub key: String,
    /// The hour of its rows.
    pub hour: Hour,
    /// Whether it has been compacted.
    pub level: u8,
    /// When it is past and may go; of the hour without times not before this.
    pub expires: Timestamp,
}

/// A pin of the trace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InPin {
    /// The handler.
    pub handler: HandlerId,
    /// The objects: one, or more while they are being made one.
    pub keys: Vec<String>,
    /// When its newest entry of the handler started.
    pub start: Timestamp,
    /// Its place among the handler's pinned traces, 1 is the newest.
    pub rank: usize,
    /// How many of them stay.
    pub keep_last: usize,
}

/// An entry of the trace, and which handler it hit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// The span, in hex.
    pub span_id: String,
    /// The handler that the rules tell.
    pub handler: HandlerId,
    /// The one it counts as, if it is an alias.
    pub counts_as: Option<HandlerId>,
    /// The handler's name.
    pub name: String,
    /// The rule that told it.
    pub rule: String,
    /// When it started.
    pub start: Timestamp,
    /// Its place among the newest traces of its handler in blocks, 1 is the newest; none beyond the newest hundred.
    pub rank: Option<usize>,
}

/// Explains `id`; `None` if the store has nothing of it and no tombstone stands.
pub async fn explain(reader: &Reader, id: TraceId) -> Result<Option<Explanation>> {
    relisted(|| explain_once(reader, id)).await
}

async fn explain_once(reader: &Reader, id: TraceId) -> Result<Option<Explanation>> {
    let found = match trace::find(reader, id).await? {
        Lookup::Missing => return Ok(None),
        Lookup::Forgotten => return Ok(Some(forgotten(reader, id).await?)),
        Lookup::Found(found) => found,
    };
    let pins = Pins::all(&reader.store).await?;
    let mut explained = Explanation {
        trace_id: id.to_string(),
        forgotten: None,
        spans: found.current(false)?.num_rows(),
        revisions: found.revisions()?,
        blocks: Vec::new(),
        pins: in_pins(reader, &pins, id),
        entries: entries(reader, &found).await?,
        in_blocks_until: None,
        verdict: String::new(),
    };
    explained.blocks = found.blocks.iter().map(|key| in_block(reader, key, &found)).collect();
    explained.in_blocks_until = explained.blocks.iter().map(|block| block.expires).max();
    explained.verdict = verdict(&explained);
    Ok(Some(explained))
}

async fn forgotten(reader: &Reader, id: TraceId) -> Result<Explanation> {
    let tombstones = reader.store.list(&Prefix::Forget).await?;
    let since = tombstones.objects.into_iter().find(|object| object.key == Key::Forget(id));
    Ok(Explanation {
        trace_id: id.to_string(),
        forgotten: since.map(|object| object.modified),
        spans: 0,
        revisions: 0,
        blocks: Vec::new(),
        pins: Vec::new(),
        entries: Vec::new(),
        in_blocks_until: None,
        verdict: "It is to be forgotten: readers hide it, and the workers remove what is left of it.".to_owned(),
    })
}

fn in_block(reader: &Reader, key: &crate::store::layout::BlockKey, found: &Trace) -> InBlock {
    let keep_for =
        |hour: Hour| SignedDuration::try_from(reader.settings.keep_for.at(hour).0).unwrap_or(SignedDuration::MAX);
    // Rows without a possible time are kept from when they were received.
    let from = if key.hour == Hour::EPOCH { newest_received(found) } else { key.hour.end() };
    let hour = if key.hour == Hour::EPOCH { Hour::of(from) } else { key.hour };
    InBlock {
        key: Key::Block(*key).path(),
        hour: key.hour,
        level: u8::from(key.dir != crate::model::ShardDir::All),
        expires: from.checked_add(keep_for(hour)).unwrap_or(Timestamp::MAX),
    }
}

fn newest_received(found: &Trace) -> Timestamp {
    let newest = Spans::of(&found.rows)
        .map(|spans| (0..spans.len()).map(|row| spans.received_ms(row)).max().unwrap_or_default())
        .unwrap_or_default();
    Timestamp::from_millisecond(newest).unwrap_or(Timestamp::MIN)
}

fn in_pins(reader: &Reader, pins: &Pins, id: TraceId) -> Vec<InPin> {
    let mut of_trace: BTreeMap<HandlerId, InPin> = BTreeMap::new();
    for version in pins.of_trace(id) {
        let traces = super::newest::newest(pins.traces(&version.handler), usize::MAX);
        let rank = traces.iter().position(|(_, trace)| *trace == id).map_or(0, |place| place + 1);
        let start = Timestamp::from_nanosecond(i128::from(version.start_ns)).unwrap_or(Timestamp::MIN);
        let pin = of_trace.entry(version.handler.clone()).or_insert_with(|| InPin {
            handler: version.handler.clone(),
            keys: Vec::new(),
            start,
            rank,
            keep_last: keep_last(&reader.settings, &reader.catalogue.1, &version.handler),
        });
        pin.start = pin.start.max(start);
        pin.keys.push(Key::Pin(version.clone()).path());
    }
    of_trace.into_values().collect()
}

async fn entries(reader: &Reader, found: &Trace) -> Result<Vec<Entry>> {
    let rows = found.current(false)?;
    let spans = Spans::of(&rows)?;
    let (_, catalogue) = &*reader.catalogue;
    let mut all = Vec::new();
    for change in reader.settings.rules.changes() {
        for (row, told) in handler::explain(&rows, &change.value).context("tell the handlers of the entries")? {
            let placed = spans.placed(row);
            // With the rules that counted for its hour, as when it was indexed.
            if !std::ptr::eq(reader.settings.rules.at(placed.hour), &change.value) {
                continue;
            }
            let counts_as = catalogue.canonical(&told.id);
            all.push(Entry {
                span_id: spans.span(row).to_string(),
                counts_as: (*counts_as != told.id).then(|| counts_as.clone()),
                rank: None,
                handler: told.id,
                name: told.name,
                rule: told.rule.to_owned(),
                start: Timestamp::from_nanosecond(i128::from(placed.time_ns)).unwrap_or(Timestamp::MIN),
            });
        }
    }
    all.sort_by(|a, b| (a.start, &a.span_id).cmp(&(b.start, &b.span_id)));
    let handlers: std::collections::BTreeSet<HandlerId> = all.iter().map(|entry| entry.handler.clone()).collect();
    let scope = crate::table::view::Scope::all(crate::model::Table::Entries, reader.settings.grace.0);
    let view = reader.view(&scope).await?;
    let newest = super::newest::Newest::of_handlers(&reader.blocks, &view, &handlers).await?;
    for entry in &mut all {
        let traces = newest.newest(&entry.handler, NEWEST_KEPT, |_, _| true);
        entry.rank = traces.iter().position(|(_, trace)| *trace == found.id).map(|place| place + 1);
    }
    Ok(all)
}

fn verdict(explained: &Explanation) -> String {
    let pinned = explained.pins.iter().min_by_key(|pin| pin.rank);
    match (explained.in_blocks_until, pinned) {
        (Some(until), Some(pin)) => format!(
            "It stands in blocks until {until} and is pinned as number {} of the newest {} of {}.",
            pin.rank, pin.keep_last, pin.handler
        ),
        (None, Some(pin)) => format!(
            "Its blocks are gone; it is pinned as number {} of the newest {} of {}, until so many newer ones are pinned.",
            pin.rank, pin.keep_last, pin.handler
        ),
        (Some(until), None) => {
            format!(
                "It stands in blocks until {until}. If it is then still among the newest of a handler it is pinned."
            )
        }
        (None, None) => "Nothing keeps it: its rows are on their way out.".to_owned(),
    }
}
