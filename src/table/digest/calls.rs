//! Which handler calls which service and operation, how often and for how long.
//!
//! Level 1 of `spans` has the spans of a trace together (those of one hour: a call whose two ends started in different
//! hours is told by the calling end alone). A call is
//! - a span of kind CLIENT or PRODUCER: what it calls is the SERVER or CONSUMER span below it (or, in Zipkin-style
//!   traces, beside it under the same id); if that sent none, the database system, or nobody known;
//! - a SERVER or CONSUMER span whose parent is known and is neither: the caller's library told no kinds.
//!
//! The caller is the entry span at or above the call: SERVER, CONSUMER, or without a known parent. It is named by its
//! service and its own name; [`super::HandlerDigest::span_names`] ties these to handlers.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use serde::{Deserialize, Serialize};

use super::Latency;
use crate::error::{Result, report};

/// How many calls a digest tells apart; beyond it operations, and then services, are no longer told.
pub const CALLS_KEPT: usize = 10_000;

/// Spans of one trace that are looked at together: beyond it, a trace is cut into pieces of so many.
const TRACE_SPANS: usize = 100_000;
/// Names beyond so many bytes are not told.
const NAME_BYTES: usize = 8 << 20;

const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const PRODUCER: i32 = 4;
const CONSUMER: i32 = 5;
const ERROR: i32 = 2;

/// The calls of a set of spans.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallsDigest {
    /// By caller and callee, in that order.
    pub calls: Vec<Call>,
    /// Calls that were too many to be told apart.
    pub dropped: u64,
}

/// Calls of one operation by another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Who calls: the service of the entry span within which the call was made; empty if it has none.
    pub service: String,
    /// The name of that entry span.
    pub operation: String,
    /// Who is called: a service, or a database system (`db_system`), or empty if nobody told.
    pub callee: String,
    /// The name of the span at the other end, or of the calling span if there is none.
    pub callee_operation: String,
    /// How many.
    pub count: u64,
    /// Those whose calling span has status error.
    pub errors: u64,
    /// How long they took, seen by the caller.
    pub latency: Latency,
}

type Names<'a> = (&'a str, &'a str, &'a str, &'a str);

impl Call {
    fn names(&self) -> Names<'_> {
        (&self.service, &self.operation, &self.callee, &self.callee_operation)
    }
}

impl CallsDigest {
    /// About how much memory it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let names =
            |call: &Call| call.service.len() + call.operation.len() + call.callee.len() + call.callee_operation.len();
        let sizes = self.calls.iter().map(|call| size_of::<Call>() + names(call) + call.latency.memory_bytes());
        size_of::<Self>() + sizes.sum::<usize>()
    }

    /// Adds what `other` comes to, of other spans.
    pub fn merge(&mut self, other: &Self) {
        self.dropped += other.dropped;
        for more in &other.calls {
            match self.calls.binary_search_by(|ours| ours.names().cmp(&more.names())) {
                Ok(at) => {
                    let ours = &mut self.calls[at];
                    ours.count += more.count;
                    ours.errors += more.errors;
                    ours.latency.merge(&more.latency);
                }
                Err(at) => self.calls.insert(at, more.clone()),
            }
        }
        if self.calls.len() > CALLS_KEPT {
            let mut counts: Vec<u64> = self.calls.iter().map(|call| call.count).collect();
            counts.sort_unstable_by(|a, b| b.cmp(a));
            let least = counts[CALLS_KEPT];
            let dropped = &mut self.dropped;
            self.calls.retain(|call| {
                let kept = call.count > least;
                *dropped += if kept { 0 } else { call.count };
                kept
            });
        }
    }
}

/// Builds a [`CallsDigest`] from the rows of a sorted run of spans, batch by batch.
#[derive(Default)]
pub(crate) struct CallsBuilder {
    names: Interner,
    calls: HashMap<[u32; 4], Numbers, foldhash::fast::FixedState>,
    dropped: u64,
    /// The trace in hand.
    trace: Option<[u8; 16]>,
    spans: Vec<Span>,
    work: Work,
}

#[derive(Default)]
struct Numbers {
    count: u64,
    errors: u64,
    latency: Latency,
}

/// What a call is told by; names are numbers of [`Interner`].
struct Span {
    id: u64,
    parent: Option<u64>,
    kind: i32,
    error: bool,
    duration_ns: i64,
    service: u32,
    name: u32,
    database: u32,
}

impl Span {
    fn receives(&self) -> bool {
        matches!(self.kind, SERVER | CONSUMER)
    }

    fn calls(&self) -> bool {
        matches!(self.kind, CLIENT | PRODUCER)
    }
}

/// What is worked out of a trace; kept for its memory.
#[derive(Default)]
struct Work {
    /// By id: the receiving span of that id, and the other one.
    by_id: HashMap<u64, [Option<u32>; 2], foldhash::fast::FixedState>,
    /// Which span was received from which.
    answered: Vec<Option<u32>>,
    entries: Vec<Option<u32>>,
    path: Vec<u32>,
}

impl CallsBuilder {
    /// Adds the run's next rows.
    ///
    /// # Errors
    /// If they are not of the spans table.
    pub fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        let column = |name: &str| rows.column_by_name(name).ok_or_else(|| report!("spans have no column `{name}`"));
        let wrong = || report!("spans have columns of other types than the table's");
        let ids = |name: &str| column(name)?.as_fixed_size_binary_opt().ok_or_else(wrong);
        let numbers = |name: &str| column(name)?.as_primitive_opt::<Int32Type>().ok_or_else(wrong);
        let (traces, spans, parents) = (ids("trace_id")?, ids("span_id")?, ids("parent_span_id")?);
        let (kinds, statuses) = (numbers("kind")?, numbers("status_code")?);
        let durations = column("duration")?.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
        let services = self.names.numbers(column("service")?)?;
        let names = self.names.numbers(column("name")?)?;
        let databases = self.names.numbers(column("db_system")?)?;
        let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap_or_default());
        let known =
            |array: &arrow::array::Int32Array, row: usize| if array.is_valid(row) { array.value(row) } else { 0 };
        for row in 0..rows.num_rows() {
            let trace: [u8; 16] = traces.value(row).try_into().unwrap_or_default();
            if self.trace != Some(trace) || self.spans.len() >= TRACE_SPANS {
                self.close();
                self.trace = Some(trace);
            }
            self.spans.push(Span {
                id: number(spans.value(row)),
                parent: parents.is_valid(row).then(|| number(parents.value(row))),
                kind: known(kinds, row),
                error: known(statuses, row) == ERROR,
                duration_ns: durations.value(row),
                service: services[row],
                name: names[row],
                database: databases[row],
            });
        }
        Ok(())
    }

    /// The digest of all rows.
    pub fn finish(mut self) -> CallsDigest {
        self.close();
        let mut calls: BTreeMap<[&str; 4], Numbers> = BTreeMap::new();
        for (names, numbers) in self.calls {
            let named = calls.entry(names.map(|name| self.names.get(name))).or_default();
            named.count += numbers.count;
            named.errors += numbers.errors;
            named.latency.merge(&numbers.latency);
        }
        let calls = calls.into_iter().map(|([service, operation, callee, callee_operation], numbers)| Call {
            service: service.to_owned(),
            operation: operation.to_owned(),
            callee: callee.to_owned(),
            callee_operation: callee_operation.to_owned(),
            count: numbers.count,
            errors: numbers.errors,
            latency: numbers.latency,
        });
        CallsDigest { calls: calls.collect(), dropped: self.dropped }
    }

    /// Counts the calls of the trace in hand.
    fn close(&mut self) {
        let spans = std::mem::take(&mut self.spans);
        let mut work = std::mem::take(&mut self.work);
        // A trace of nothing but entries calls nobody.
        if spans.len() > 1 || spans.iter().any(Span::calls) {
            work.of(&spans);
            for (at, span) in spans.iter().enumerate() {
                let (callee, operation) = if span.calls() {
                    match work.answered[at] {
                        Some(answer) => (spans[answer as usize].service, spans[answer as usize].name),
                        None => (span.database, span.name),
                    }
                } else if span.receives() && work.above(&spans, at).is_some_and(|above| !spans[above].calls()) {
                    (span.service, span.name)
                } else {
                    continue;
                };
                let caller = if span.calls() { Some(at) } else { work.above(&spans, at) };
                let Some(entry) = caller.and_then(|caller| work.entry(&spans, caller)) else { continue };
                let entry = &spans[entry];
                self.count([entry.service, entry.name, callee, operation], span);
            }
        }
        self.spans = spans;
        self.spans.clear();
        self.work = work;
    }

    fn count(&mut self, names: [u32; 4], span: &Span) {
        let full = self.calls.len() >= CALLS_KEPT;
        let [service, _, callee, _] = names;
        let by_service = [service, NOBODY, callee, NOBODY];
        let told = if !full || self.calls.contains_key(&names) {
            names
        } else if self.calls.contains_key(&by_service) || self.calls.len() < 2 * CALLS_KEPT {
            by_service
        } else {
            self.dropped += 1;
            return;
        };
        let numbers = self.calls.entry(told).or_default();
        numbers.count += 1;
        numbers.errors += u64::from(span.error);
        numbers.latency.add(span.duration_ns, 1);
    }
}

impl Work {
    /// Finds out who answered whom.
    fn of(&mut self, spans: &[Span]) {
        self.by_id.clear();
        for (at, span) in spans.iter().enumerate() {
            // Of revisions of a span the last one here counts: which of them is chance, but the same everywhere.
            self.by_id.entry(span.id).or_default()[usize::from(!span.receives())] = Some(at as u32);
        }
        self.answered.clear();
        self.answered.resize(spans.len(), None);
        self.entries.clear();
        self.entries.resize(spans.len(), None);
        for (at, _) in spans.iter().enumerate().filter(|(_, span)| span.receives()) {
            if let Some(above) = self.above(spans, at)
                && spans[above].calls()
            {
                self.answered[above].get_or_insert(at as u32);
            }
        }
    }

    /// The span above another: in Zipkin-style traces the caller's of the same id, else the parent, and of a parent's
    /// two halves the receiving one.
    fn above(&self, spans: &[Span], at: usize) -> Option<usize> {
        let span = &spans[at];
        let twin = if span.receives() { self.by_id.get(&span.id).and_then(|halves| halves[1]) } else { None };
        if let Some(twin) = twin {
            return Some(twin as usize);
        }
        let [receiving, other] = *self.by_id.get(&span.parent?)?;
        receiving.or(other).map(|above| above as usize).filter(|above| *above != at)
    }

    /// The entry span at or above a span; `None` if the parents go in a circle.
    fn entry(&mut self, spans: &[Span], at: usize) -> Option<usize> {
        self.path.clear();
        let mut now = at;
        let entry = loop {
            if let Some(entry) = self.entries[now] {
                break entry as usize;
            }
            if spans[now].receives() {
                break now;
            }
            match self.above(spans, now) {
                None => break now,
                Some(_) if self.path.len() > spans.len() => return None,
                Some(above) => {
                    self.path.push(now as u32);
                    now = above;
                }
            }
        };
        self.entries[now] = Some(entry as u32);
        self.path.iter().for_each(|passed| self.entries[*passed as usize] = Some(entry as u32));
        Some(entry)
    }
}

/// The number of the empty name.
const NOBODY: u32 = 0;

/// Names by number.
struct Interner {
    numbers: HashMap<String, u32, foldhash::fast::FixedState>,
    names: Vec<String>,
    bytes: usize,
}

impl Default for Interner {
    fn default() -> Self {
        Self { numbers: std::iter::once((String::new(), NOBODY)).collect(), names: vec![String::new()], bytes: 0 }
    }
}

impl Interner {
    fn get(&self, number: u32) -> &str {
        &self.names[number as usize]
    }

    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        if self.bytes > NAME_BYTES {
            return NOBODY;
        }
        let number = self.names.len() as u32;
        self.bytes += name.len() + size_of::<String>();
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }

    /// The numbers of a column's rows: each value of its dictionary that is used is looked up once.
    fn numbers(&mut self, column: &dyn Array) -> Result<Vec<u32>> {
        let column = column.as_dictionary_opt::<Int32Type>().ok_or_else(|| report!("a name is no text"))?;
        let values = column.values().as_string_opt::<i32>().ok_or_else(|| report!("a name is no text"))?;
        let mut known = vec![u32::MAX; values.len()];
        let numbers = (0..column.len()).map(|row| {
            if column.is_null(row) {
                return NOBODY;
            }
            let key = column.keys().value(row) as usize;
            if known[key] == u32::MAX {
                known[key] = self.number(values.value(key));
            }
            known[key]
        });
        Ok(numbers.collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, FixedSizeBinaryArray};

    use super::*;
    use crate::model::{SpanId, Table};
    use crate::table::sample::{self, Row};

    /// Spans as (trace, id, parent, kind), in order, of one service, named by the number of `name`.
    fn spans(of: &[(u128, u64, u64, i32, u8)]) -> RecordBatch {
        let rows: Vec<Row> = of
            .iter()
            .map(|(trace, id, _, kind, name)| Row {
                kind: Some(*kind),
                name: Some(*name),
                ..sample::row(*trace, *id, 0)
            })
            .collect();
        let batch = sample::batch(Table::Spans, &rows);
        let parents = of.iter().map(|(_, _, parent, _, _)| (*parent > 0).then(|| SpanId(parent.to_be_bytes()).0));
        let parents: ArrayRef = Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(parents, 8).unwrap());
        let mut columns = batch.columns().to_vec();
        columns[batch.schema().index_of("parent_span_id").unwrap()] = parents;
        RecordBatch::try_new(batch.schema(), columns).unwrap()
    }

    fn calls(batches: &[RecordBatch]) -> Vec<(String, String, u64)> {
        let mut builder = CallsBuilder::default();
        batches.iter().for_each(|rows| builder.add(rows).unwrap());
        let digest = builder.finish();
        digest.calls.into_iter().map(|call| (call.operation, call.callee_operation, call.count)).collect()
    }

    fn call(from: u8, to: u8, count: u64) -> (String, String, u64) {
        (format!("name {from}"), format!("name {to}"), count)
    }

    #[test]
    fn a_call_is_tied_to_the_entry_above_it_and_to_the_span_that_answers() {
        let whole = spans(&[
            (1, 1, 0, SERVER, 0),
            (1, 2, 1, 1, 1),
            (1, 3, 2, CLIENT, 2),
            (1, 4, 3, SERVER, 3),
            (1, 5, 4, CLIENT, 4),
            (2, 1, 0, SERVER, 0),
            (2, 3, 1, CLIENT, 2),
            (2, 4, 3, SERVER, 3),
        ]);
        let expected = [call(0, 3, 2), call(3, 4, 1)];
        assert_eq!(calls(std::slice::from_ref(&whole)), expected);
        let rows: Vec<RecordBatch> = (0..whole.num_rows()).map(|row| whole.slice(row, 1)).collect();
        assert_eq!(calls(&rows), expected, "in whatever batches a run comes");
    }

    #[test]
    fn the_two_halves_of_a_zipkin_span_are_one_call() {
        let spans = spans(&[(1, 1, 0, SERVER, 0), (1, 2, 1, CLIENT, 1), (1, 2, 1, SERVER, 2), (1, 3, 2, CLIENT, 3)]);
        assert_eq!(calls(&[spans]), [call(0, 2, 1), call(2, 3, 1)]);
    }

    #[test]
    fn callers_without_kinds_orphans_and_circles_do_no_harm() {
        let kindless = spans(&[(1, 1, 0, 1, 0), (1, 2, 1, SERVER, 1)]);
        assert_eq!(calls(&[kindless]), [call(0, 1, 1)]);
        let orphan = spans(&[(1, 1, 9, CLIENT, 0)]);
        assert_eq!(calls(&[orphan]), [call(0, 0, 1)]);
        let circle = spans(&[(1, 1, 2, 1, 0), (1, 2, 1, CLIENT, 1), (1, 3, 3, CLIENT, 2)]);
        assert_eq!(calls(&[circle]), [call(2, 2, 1)]);
    }
}
