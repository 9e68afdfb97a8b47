//! One hour: its spans and its entries counted, and held against each other.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use super::run::{Merged, Row, Rows};
use super::traces::Traces;
use super::{HandlerCount, Paths};
use crate::error::{Result, report};
use crate::handler::{self, Rules};
use crate::model::{HandlerId, Hour, Shard, Table, TraceId};
use crate::query::Reader;
use crate::query::columns::{Entries, Spans};
use crate::table::canonical::Canonical;
use crate::table::key::{KeyColumns, RecordKey};
use crate::table::view::{Block, View};

/// How many entries are held at a time when those of spans and of `entries/` differ.
const HELD: u64 = 1_000_000;

/// How many differences are told one by one.
const TOLD: usize = 5;

/// What an hour holds.
#[derive(Default)]
pub(super) struct Found {
    /// Distinct keys.
    pub spans: u64,
    /// Distinct contents beyond them.
    pub revisions: u64,
    /// Rows of `spans/` in all blocks.
    pub rows: u64,
    /// Distinct entries.
    pub entries: u64,
    /// Distinct contents beyond them: a span that was revised has as many entries.
    pub entry_revisions: u64,
    /// Rows of `entries/` in all blocks.
    pub entry_rows: u64,
    pub handlers: BTreeMap<HandlerId, HandlerCount>,
    pub paths: Paths,
    pub violations: Vec<(String, String)>,
    told: Sum,
    stored: Sum,
}

impl Found {
    /// Whether the entries are those of the spans.
    pub fn agree(&self) -> bool {
        self.told == self.stored
    }
}

/// A set of entries by count and sum of hashes: equal sets have equal ones, whatever their order; different ones do not,
/// but for a chance of 2⁻¹²⁸.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    count: u64,
    hashes: u128,
}

impl Sum {
    fn add(&mut self, entry: u128) {
        self.count += 1;
        self.hashes = self.hashes.wrapping_add(entry);
    }
}

/// What makes an entry: where it stands, and for what.
fn entry_hash(handler: &str, keys: &KeyColumns, row: usize) -> u128 {
    let RecordKey { trace, span, server } = keys.record(row);
    let mut bytes = Vec::with_capacity(handler.len() + 40);
    bytes.extend(trace.0);
    bytes.extend(span.0);
    bytes.push(u8::from(server));
    bytes.extend(keys.start(row).to_le_bytes());
    bytes.extend(handler.as_bytes());
    xxh3_128(&bytes)
}

/// Reads the hour in both tables; its traces are met.
pub(super) async fn read(
    reader: &Reader,
    hour: Hour,
    spans: &View,
    entries: &View,
    forgotten: &HashSet<TraceId>,
    traces: &mut Traces,
) -> Result<Found> {
    let mut found = Found::default();
    let rules = reader.settings.rules.at(hour);
    for (shard, blocks) in shards(spans) {
        let mut merged = Merged::new(reader, Table::Spans, shard, &blocks).await?;
        read_spans(&mut merged, rules, forgotten, &mut found, |trace| traces.meet(trace, hour)).await?;
        found.violations.extend(merged.violations());
    }
    for (shard, blocks) in shards(entries) {
        let mut merged = Merged::new(reader, Table::Entries, shard, &blocks).await?;
        read_entries(&mut merged, forgotten, &mut found).await?;
        merged.digests(reader).await?;
        found.violations.extend(merged.violations());
    }
    found.rows += replaced_rows(spans);
    found.entry_rows += replaced_rows(entries);
    Ok(found)
}

/// The blocks that count, by shard.
fn shards(view: &View) -> BTreeMap<Shard, Vec<&Block>> {
    let mut shards: BTreeMap<Shard, Vec<&Block>> = BTreeMap::new();
    for (shard, block) in view.visible_parts() {
        shards.entry(shard).or_default().push(block);
    }
    shards
}

/// Rows of blocks that have been replaced for every shard, and wait to be swept.
fn replaced_rows(view: &View) -> u64 {
    let counting: HashSet<_> = view.visible_parts().iter().map(|(_, block)| block.id()).collect();
    view.blocks.iter().filter(|block| !counting.contains(&block.id())).map(|block| block.meta.rows).sum()
}

/// Meets the hour's traces once more.
pub(super) async fn meet_again(reader: &Reader, hour: Hour, spans: &View, traces: &mut Traces) -> Result<()> {
    for (shard, blocks) in shards(spans) {
        let mut merged = Merged::new(reader, Table::Spans, shard, &blocks).await?;
        let mut last = None;
        while let Some(row) = merged.next().await? {
            let trace = row.rows.keys.trace(row.at);
            if last != Some(trace) {
                traces.meet(trace, hour);
                last = Some(trace);
            }
        }
    }
    Ok(())
}

/// A batch of spans with what the rules tell of its rows.
struct Told {
    rows: Arc<Rows>,
    canonical: Canonical,
    /// The hash of the entry that a row makes, if it makes one.
    entries: HashMap<usize, u128>,
}

impl Told {
    fn of(rows: &Arc<Rows>, rules: &Rules) -> Result<Self> {
        let spans = Spans::of(&rows.batch)?;
        let told = handler::entries(&rows.batch, rules)?;
        let keys = KeyColumns::of(Table::Entries, &told)?;
        // The entries stand in the order of the spans that make them.
        let makers: Vec<usize> = (0..spans.len()).filter(|row| spans.is_entry(*row)).collect();
        if makers.len() != keys.len() {
            return Err(report!("the handler rules made {} entries of {} entry spans", keys.len(), makers.len()));
        }
        let hashes = makers.iter().enumerate().map(|(at, row)| (*row, entry_hash(keys.handler(at), &keys, at)));
        Ok(Self { entries: hashes.collect(), canonical: Canonical::of(&rows.batch), rows: rows.clone() })
    }
}

/// Remembers what was told of the batches in hand: rows of several blocks alternate.
#[derive(Default)]
struct Tellings(Vec<Told>);

impl Tellings {
    /// As many as blocks are read at once; older ones are told again if they are asked for.
    const KEPT: usize = 256;

    fn of(&mut self, rows: &Arc<Rows>, rules: &Rules) -> Result<&Told> {
        let place = match self.0.iter().position(|told| Arc::ptr_eq(&told.rows, rows)) {
            Some(place) => place,
            None => {
                if self.0.len() == Self::KEPT {
                    self.0.remove(0);
                }
                self.0.push(Told::of(rows, rules)?);
                self.0.len() - 1
            }
        };
        Ok(&self.0[place])
    }
}

async fn read_spans(
    merged: &mut Merged<'_>,
    rules: &Rules,
    forgotten: &HashSet<TraceId>,
    found: &mut Found,
    mut meet: impl FnMut(TraceId),
) -> Result<()> {
    let mut tellings = Tellings::default();
    let mut trace = None;
    let mut contents: HashSet<(RecordKey, u64)> = HashSet::new();
    let mut keys: HashSet<RecordKey> = HashSet::new();
    let mut entries: HashSet<u128> = HashSet::new();
    while let Some(row) = merged.next().await? {
        found.rows += 1;
        let told = tellings.of(&row.rows, rules)?;
        let key = row.rows.keys.record(row.at);
        if trace != Some(key.trace) {
            trace = Some(key.trace);
            meet(key.trace);
            contents.clear();
            keys.clear();
            entries.clear();
        }
        if !contents.insert((key, told.canonical.hash(row.at))) {
            continue;
        }
        if keys.insert(key) {
            found.spans += 1
        } else {
            found.revisions += 1
        }
        if let Some(entry) = told.entries.get(&row.at)
            && !forgotten.contains(&key.trace)
            && entries.insert(*entry)
        {
            found.told.add(*entry);
        }
    }
    Ok(())
}

async fn read_entries(merged: &mut Merged<'_>, forgotten: &HashSet<TraceId>, found: &mut Found) -> Result<()> {
    let mut group: Vec<Row> = Vec::new();
    loop {
        let row = merged.next().await?;
        if let Some(first) = group.first()
            && row.as_ref().is_none_or(|row| !row.is_same(first))
        {
            count_entry(&group, forgotten, found)?;
            group.clear();
        }
        let Some(row) = row else { return Ok(()) };
        found.entry_rows += 1;
        group.push(row);
    }
}

/// Counts the rows of one entry: the newest revision says whether it is an error.
fn count_entry(group: &[Row], forgotten: &HashSet<TraceId>, found: &mut Found) -> Result<()> {
    let content = |row: &Row| Canonical::of(&row.rows.batch).hash(row.at);
    let newest = if group.len() == 1 {
        group.first()
    } else {
        let contents: HashSet<u64> = group.iter().map(content).collect();
        found.entry_revisions += (contents.len() as u64).saturating_sub(1);
        group.iter().max_by_key(|row| (row.rows.keys.received(row.at), content(row)))
    };
    let Some(row) = newest else { return Ok(()) };
    let (keys, at) = (&row.rows.keys, row.at);
    let entries = Entries::of(&row.rows.batch)?;
    found.entries += 1;
    if !forgotten.contains(&keys.trace(at)) {
        found.stored.add(entry_hash(keys.handler(at), keys, at));
    }
    let Ok(handler) = keys.handler(at).parse::<HandlerId>() else { return Ok(()) };
    if handler.is_not_found() {
        let text = |column: crate::query::columns::Text<'_>| column.or_empty(at).to_owned();
        let line = (text(entries.service), text(entries.method), text(entries.path));
        found.paths.add(line, 1);
    }
    let counted = found.handlers.entry(handler).or_default();
    counted.count += 1;
    counted.errors += u64::from(entries.is_error(at));
    Ok(())
}

/// What stands in one table and not in the other.
#[derive(Default)]
pub(super) struct Differences {
    without_entry: u64,
    without_span: u64,
    examples: Vec<String>,
}

impl Differences {
    /// Whether only entries are missing.
    pub fn only_spans_more(&self) -> bool {
        self.without_span == 0
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { without_entry, without_span, examples } = self;
        write!(f, "{without_entry} entry spans have no entry, {without_span} entries have no span: ")?;
        f.write_str(&examples.join(", "))
    }
}

/// Reads the hour again and names what differs.
pub(super) async fn differences(
    reader: &Reader,
    spans: &View,
    entries: &View,
    forgotten: &HashSet<TraceId>,
) -> Result<Differences> {
    let rows: u64 = entries.blocks.iter().map(|block| block.meta.rows).sum();
    let parts = u128::from(rows / HELD + 1);
    let mut differences = Differences::default();
    for part in 0..parts {
        let mut told: HashMap<u128, TraceId> = HashMap::new();
        for (shard, blocks) in shards(spans) {
            let mut merged = Merged::new(reader, Table::Spans, shard, &blocks).await?;
            let mut tellings = Tellings::default();
            while let Some(row) = merged.next().await? {
                let hour = row.rows.keys.placed(row.at).hour;
                let hashes = tellings.of(&row.rows, reader.settings.rules.at(hour))?;
                if let Some(entry) = hashes.entries.get(&row.at).filter(|entry| **entry % parts == part) {
                    told.insert(*entry, row.rows.keys.trace(row.at));
                }
            }
        }
        let mut met = HashSet::new();
        for (shard, blocks) in shards(entries) {
            let mut merged = Merged::new(reader, Table::Entries, shard, &blocks).await?;
            while let Some(row) = merged.next().await? {
                let (keys, at) = (&row.rows.keys, row.at);
                let entry = entry_hash(keys.handler(at), keys, at);
                if entry % parts != part || forgotten.contains(&keys.trace(at)) || !met.insert(entry) {
                    continue;
                }
                if told.remove(&entry).is_none() {
                    differences.without_span += 1;
                    differences.tell(format!("{} under {} has no span", keys.trace(at), keys.handler(at)));
                }
            }
        }
        // What has been met has been taken out; the rest has no entry.
        for trace in told.values().filter(|trace| !forgotten.contains(*trace)) {
            differences.without_entry += 1;
            differences.tell(format!("{trace} has no entry"));
        }
    }
    Ok(differences)
}

impl Differences {
    fn tell(&mut self, example: String) {
        if self.examples.len() < TOLD {
            self.examples.push(example);
        }
    }
}
