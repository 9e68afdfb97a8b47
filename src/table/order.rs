//! Sorting, de-duplication and sharding of one batch in memory: what index does before it writes.
//!
//! The order of rows within a shard is total, whatever batches they came in:
//! - spans: trace_id, start, span_id;
//! - entries: handler, start descending, trace_id, span_id;
//! - then, in both, rows of kind SERVER last; then revisions by the hash of their content; then the earliest
//!   `received` first, so that of equal rows the first is the one that stays (rule 3).
//!
//! Starts are ordered as signed numbers, as the column's type has it. Entries whose start is impossible lie in the hour
//! of their placed time ([`super::place`]) and are sorted there by the start they were sent with, like all others:
//! who wants the newest must go by the placed time, as [`super::digest`] does.

use std::cmp::Ordering;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use arrow::array::{Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::canonical::Canonical;
use super::key::{KeyColumns, RecordKey};
use crate::error::{Result, ResultExt};
use crate::model::{HandlerId, Hour, Shard, Table};

/// One hour of a batch, ready to be written as level 0.
#[derive(Debug, Clone)]
pub struct HourRows {
    /// The hour of all rows.
    pub hour: Hour,
    /// Sorted in the table's order, rule 3 applied.
    pub rows: RecordBatch,
    /// Which rows are which shard's: contiguous, in order of shard, none empty.
    pub shards: Vec<(Shard, Range<usize>)>,
}

impl HourRows {
    /// How many traces have rows here.
    ///
    /// # Errors
    /// If `rows` are not of the spans table.
    pub fn traces(&self) -> Result<u64> {
        let columns = KeyColumns::of(Table::Spans, &self.rows)?;
        // The rows of a trace stand together.
        let is_first = |row: &usize| *row == 0 || columns.trace_number(*row) != columns.trace_number(*row - 1);
        Ok((0..columns.len()).filter(is_first).count() as u64)
    }

    /// When the first of them started and the last ended, nanoseconds since 1970, as they say; none if there are none.
    ///
    /// # Errors
    /// If `rows` are not of the spans table.
    pub fn times(&self) -> Result<Option<(i64, i64)>> {
        let columns = KeyColumns::of(Table::Spans, &self.rows)?;
        // A span may say that it ended before it started.
        let times = (0..columns.len()).map(|row| {
            let (start, end) = (columns.start(row), columns.start(row).wrapping_add(columns.duration(row)));
            (start.min(end), start.max(end))
        });
        Ok(times.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))))
    }

    /// The XXH3-64 of the ids of the handlers that were hit.
    ///
    /// # Errors
    /// If `rows` are not of the entries table.
    pub fn handlers(&self) -> Result<HashSet<u64>> {
        let columns = KeyColumns::of(Table::Entries, &self.rows)?;
        let Some((keys, values)) = columns.handlers() else { return Ok(HashSet::new()) };
        let used: HashSet<i32> = keys.values().iter().copied().collect();
        Ok(used.into_iter().map(|key| xxh3_64(values.value(key as usize).as_bytes())).collect())
    }
}

/// Splits `rows` by hour (their own [`super::place`]), sorts each in `table`'s order and de-duplicates it (rule 3: of
/// equal rows the one received first stays; revisions all stay). `shards` says how many shards count for an hour.
///
/// # Errors
/// If `rows` are not of `table`'s schema, or an entry's handler is no handler's id.
pub fn split(table: Table, rows: &RecordBatch, shards: &dyn Fn(Hour) -> u16) -> Result<Vec<HourRows>> {
    let columns = KeyColumns::of(table, rows)?;
    let handler_shards = HandlerShards::of(&columns)?;
    let mut counts = HashMap::new();
    let mut places = Vec::with_capacity(rows.num_rows());
    let mut last: Option<(crate::model::TraceId, u16, Shard)> = None;
    for row in 0..rows.num_rows() {
        let hour = columns.placed(row).hour;
        let count = *counts.entry(hour).or_insert_with(|| shards(hour));
        let shard = match &handler_shards {
            Some(handlers) => handlers.shard(&columns, row, count),
            // Neighbours are mostly of one trace.
            None => match last {
                Some((trace, of, shard)) if trace == columns.trace(row) && of == count => shard,
                _ => Shard::of_trace(columns.trace(row), count),
            },
        };
        last = Some((columns.trace(row), count, shard));
        places.push((hour, shard));
    }
    // Hour and shard in one number: hours fit 32 bits, with their sign turned into order.
    let group = |row: usize| {
        let (hour, shard) = places[row];
        u64::from(hour.number() as u32 ^ 0x8000_0000) << 16 | u64::from(shard.index())
    };
    let order = sorted(&columns, rows, group);
    let mut hours = Vec::new();
    for of_hour in order.chunk_by(|a, b| places[*a as usize].0 == places[*b as usize].0) {
        let mut ranges: Vec<(Shard, Range<usize>)> = Vec::new();
        for of_shard in of_hour.chunk_by(|a, b| places[*a as usize].1 == places[*b as usize].1) {
            let from = ranges.last().map_or(0, |(_, range)| range.end);
            ranges.push((places[of_shard[0] as usize].1, from..from + of_shard.len()));
        }
        hours.push(HourRows { hour: places[of_hour[0] as usize].0, rows: gather(rows, of_hour)?, shards: ranges });
    }
    Ok(hours)
}

/// Like [`split`], for the rows of one trace or handler read from several blocks: one sorted batch, rule 3 applied, all
/// revisions kept. Batches of `table`'s schema.
///
/// # Errors
/// If `rows` are not of `table`'s schema.
pub fn union(table: Table, rows: &[RecordBatch]) -> Result<RecordBatch> {
    let rows = concat_batches(&super::schema(table), rows).context("join rows of several blocks")?;
    let columns = KeyColumns::of(table, &rows)?;
    let order = sorted(&columns, &rows, |_| 0);
    gather(&rows, &order)
}

/// Of the revisions of each key in `rows` (sorted, as [`union`] returns them) the one that counts: the newest by
/// (received, content hash), or with `base` the first. In the order of `rows`.
///
/// # Errors
/// If `rows` are not of `table`'s schema.
pub fn current(table: Table, rows: &RecordBatch, base: bool) -> Result<RecordBatch> {
    let columns = KeyColumns::of(table, rows)?;
    let canonical = Canonical::of(rows);
    let mut counted: HashMap<RecordKey, usize> = HashMap::with_capacity(rows.num_rows());
    for row in 0..rows.num_rows() {
        match counted.entry(columns.record(row)) {
            Entry::Vacant(free) => {
                free.insert(row);
            }
            Entry::Occupied(mut other) => {
                let newer = revision(&columns, &canonical, row).cmp(&revision(&columns, &canonical, *other.get()));
                if newer == (if base { Ordering::Less } else { Ordering::Greater }) {
                    other.insert(row);
                }
            }
        }
    }
    if counted.len() == rows.num_rows() {
        return Ok(rows.clone());
    }
    let mut kept: Vec<u32> = counted.into_values().map(|row| row as u32).collect();
    kept.sort_unstable();
    gather(rows, &kept)
}

/// By what revisions of one key are older and newer.
pub(super) fn revision(columns: &KeyColumns, canonical: &Canonical, row: usize) -> (i64, u64) {
    (columns.received(row), canonical.hash(row))
}

/// XXH3-64 of the canonical content ([`super::canonical`]) of all `rows` of the spans table (everything but
/// `received`), in the table's order and each once: two sets of rows are the same if this is.
///
/// # Errors
/// If `rows` are not of the spans table.
pub fn content_hash(rows: &RecordBatch) -> Result<u64> {
    let rows = union(Table::Spans, std::slice::from_ref(rows))?;
    let canonical = Canonical::of(&rows);
    let mut hash = Xxh3::new();
    let mut content = Vec::new();
    for row in 0..rows.num_rows() {
        content.clear();
        canonical.write(row, &mut content);
        // A row's length stands before it, so that no two lists of rows are the same text.
        hash.update(&(content.len() as u64).to_le_bytes());
        hash.update(&content);
    }
    Ok(hash.digest())
}

/// The shard of each handler of a batch's dictionary, by number of shards: hashed once a handler, not once a row.
struct HandlerShards {
    ids: Vec<Option<HandlerId>>,
    by_count: std::cell::RefCell<HashMap<u16, Vec<Option<Shard>>>>,
}

impl HandlerShards {
    fn of(columns: &KeyColumns) -> Result<Option<Self>> {
        let Some((keys, values)) = columns.handlers() else { return Ok(None) };
        let mut used = vec![false; values.len()];
        keys.values().iter().for_each(|key| used[*key as usize] = true);
        let ids = used.iter().enumerate().map(|(key, used)| used.then(|| values.value(key).parse()).transpose());
        let ids = ids.collect::<Result<_, _>>().context("take the shard of an entry's handler")?;
        Ok(Some(Self { ids, by_count: std::cell::RefCell::default() }))
    }

    fn shard(&self, columns: &KeyColumns, row: usize, count: u16) -> Shard {
        let mut by_count = self.by_count.borrow_mut();
        let shards = by_count.entry(count).or_insert_with(|| {
            let of = |id: &Option<HandlerId>| id.as_ref().map(|id| Shard::of_handler(id, count));
            self.ids.iter().map(of).collect()
        });
        let key = columns.handlers().map_or(0, |(keys, _)| keys.value(row) as usize);
        #[expect(clippy::expect_used, reason = "`of` parsed every handler that a row names")]
        shards[key].expect("a used handler")
    }
}

/// One row to be sorted: everything that orders it but its content, in a few machine words.
struct Sort {
    /// Hour, shard and (entries) the handler's rank; then the two numbers of [`numbers`].
    group: (u64, u32),
    first: u128,
    second: u128,
    server: bool,
    row: u32,
}

/// The rows in order of `group`, then the table's order, without the copies that rule 3 drops.
fn sorted(columns: &KeyColumns, rows: &RecordBatch, group: impl Fn(usize) -> u64) -> Vec<u32> {
    let ranks = columns.handlers().map(|(_, values)| {
        let mut by_name: Vec<u32> = (0..values.len() as u32).collect();
        by_name.sort_unstable_by_key(|key| values.value(*key as usize));
        let mut ranks = vec![0_u32; values.len()];
        // Equal handlers may stand twice in a dictionary: they rank equal.
        let mut rank = 0;
        for (place, key) in by_name.iter().enumerate() {
            if place > 0 && values.value(by_name[place - 1] as usize) != values.value(*key as usize) {
                rank += 1;
            }
            ranks[*key as usize] = rank;
        }
        ranks
    });
    let mut order: Vec<Sort> = (0..columns.len())
        .map(|row| {
            let rank = match (&ranks, columns.handlers()) {
                (Some(ranks), Some((keys, _))) => ranks[keys.value(row) as usize],
                _ => 0,
            };
            let (first, second) = numbers(columns, row, ranks.is_some());
            Sort { group: (group(row), rank), first, second, server: columns.server(row), row: row as u32 }
        })
        .collect();
    let key = |sort: &Sort| (sort.group, sort.first, sort.second, sort.server);
    order.sort_unstable_by_key(key);
    let mut kept = Vec::with_capacity(order.len());
    let canonical = Canonical::of(rows);
    for same in order.chunk_by(|a, b| key(a) == key(b)) {
        match same {
            [one] => kept.push(one.row),
            _ => distinct(columns, &canonical, same.iter().map(|sort| sort.row), &mut kept),
        }
    }
    kept
}

/// The order of rows of one group and handler as two numbers that compare in one instruction or two each.
fn numbers(columns: &KeyColumns, row: usize, entries: bool) -> (u128, u128) {
    let trace = columns.trace_number(row);
    // The sign bit turned, so that unsigned order is the signed one.
    let start = columns.start(row) as u64 ^ (1 << 63);
    let span = u128::from(columns.span_number(row));
    if entries {
        let newest_first = u128::from(!start);
        (newest_first << 64 | trace >> 64, trace << 64 | span)
    } else {
        (trace, u128::from(start) << 64 | span)
    }
}

/// Of rows with one key: one of each content, by content, the earliest received.
fn distinct(columns: &KeyColumns, canonical: &Canonical, rows: impl Iterator<Item = u32>, kept: &mut Vec<u32>) {
    let mut hashed: Vec<(u64, u32)> = rows.map(|row| (canonical.hash(row as usize), row)).collect();
    let by_content =
        |a: &(u64, u32), b: &(u64, u32)| canonical.compare(a.1 as usize, a.0, canonical, b.1 as usize, b.0);
    hashed.sort_unstable_by(|a, b| {
        let received = |row: u32| columns.received(row as usize);
        by_content(a, b).then_with(|| received(a.1).cmp(&received(b.1)))
    });
    hashed.dedup_by(|later, first| by_content(later, first).is_eq());
    kept.extend(hashed.into_iter().map(|(_, row)| row));
}

/// The rows named in `order`; no copy if that is all of them as they are.
fn gather(rows: &RecordBatch, order: &[u32]) -> Result<RecordBatch> {
    if order.len() == rows.num_rows() && order.iter().enumerate().all(|(at, row)| at == *row as usize) {
        return Ok(rows.clone());
    }
    let order = UInt32Array::from(order.to_vec());
    Ok(take_record_batch(rows, &order).context("bring rows into order")?)
}

#[cfg(test)]
mod tests;
