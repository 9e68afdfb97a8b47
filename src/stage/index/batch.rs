//! Inbox objects → one batch of rows in memory: fetched 20 at a time, decoded on CPU threads.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int64Type, TimestampMillisecondType, TimestampNanosecondType};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body::{Body, WHOLE_BYTES};
use super::plan::Item;
use crate::error::{Result, is_not_found, report};
use crate::farm::Settings;
use crate::farm::strikes::Hands;
use crate::handler::RULES;
use crate::model::{Hour, TraceId};
use crate::otlp::redact::Redact;
use crate::otlp::{BadPart, Limits, ObjectDecoder, Progress, SpanRows};
use crate::stage::Failure;
use crate::store::{Object, Store};
use crate::table::place::place;
use crate::task;

/// How many objects are fetched at a time: enough to hide a bucket's latency, few enough to be polite.
const FETCHES_AT_A_TIME: usize = 20;

/// The decoder comes back after this many bytes, decompressed, so that memory is looked at: small spans take several
/// times as much memory as bytes.
const STEP_BYTES: usize = 8 << 20;

/// What a batch of an object is decoded with.
#[derive(Clone)]
pub(super) struct Terms {
    pub redact: Redact,
    pub limits: Limits,
    pub settings: Arc<Settings>,
    /// Traces to leave out (tombstones).
    pub forget: Arc<HashSet<TraceId>>,
    /// A batch closes at this many decompressed bytes.
    pub batch_bytes: u64,
    /// It also closes when its rows take this much memory.
    pub rows_bytes: usize,
    /// Fetched bytes that wait for the decoder.
    pub fetched_bytes: usize,
}

/// Rows of one or more objects, and the objects of which they are the last.
pub(super) struct Batch {
    /// Not sorted.
    pub rows: RecordBatch,
    /// Objects that are read to their end: done once the rows of this batch (and of those before) are durable.
    pub sources: Vec<Source>,
    /// Objects that could not be read to their end, or must not be indexed. The rows that came of them stay in the
    /// batch: when the object is read again, rule 3 makes them one with the new ones.
    pub failed: Vec<Failure>,
    /// Bytes read, as stored.
    pub bytes_in: u64,
    /// Objects that were gone when they were to be read, or in a peer's hand.
    pub vanished: u64,
    /// Objects that a process still writes.
    pub held: Vec<String>,
}

impl Default for Batch {
    fn default() -> Self {
        let rows = RecordBatch::new_empty(crate::table::spans::schema());
        Self { rows, sources: Vec::new(), failed: Vec::new(), bytes_in: 0, vanished: 0, held: Vec::new() }
    }
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.rows.num_rows() == 0
            && self.sources.is_empty()
            && self.failed.is_empty()
            && self.vanished == 0
            && self.held.is_empty()
    }
}

/// An object that has been read to its end.
pub(super) struct Source {
    /// As the GET that delivered its bytes said.
    pub object: Object,
    /// Its bytes, if it was small and something in it was bad.
    pub whole: Option<Bytes>,
    pub bad: Vec<BadPart>,
    pub bad_count: u64,
    pub spans: u64,
}

/// Objects on their way into batches.
pub(super) struct Intake {
    terms: Terms,
    fetched: BoxStream<'static, Result<Fetched, Failure>>,
    /// An object whose rest goes into the next batch.
    open: Option<Open>,
    /// Objects with rows that a newer program must index, and the first such hour: they are left whole.
    newer: HashMap<String, Hour>,
}

struct Fetched {
    item: Item,
    /// None: a process still writes it.
    outcome: Result<Option<(Body, Object, Option<Bytes>)>>,
    permit: Option<OwnedSemaphorePermit>,
}

struct Open {
    path: String,
    object: Object,
    whole: Option<Bytes>,
    decoder: ObjectDecoder<Body>,
    spans: u64,
    _permit: Option<OwnedSemaphorePermit>,
}

/// Which rows of a batch came of which object.
struct Part {
    rows: Range<usize>,
    path: String,
}

impl Intake {
    /// Begins to fetch `items`; they are decoded in the order in which they arrive.
    pub fn new(store: Store, items: Vec<Item>, terms: Terms) -> Self {
        let memory = Arc::new(Semaphore::new(terms.fetched_bytes.max(WHOLE_BYTES as usize)));
        let fetched = stream::iter(items).map(move |item| {
            let (store, memory) = (store.clone(), memory.clone());
            // A task of its own: it goes on while a batch is written and nobody asks for the next object, so that no
            // answer waits unread until the client gives it up.
            let path = item.path.clone();
            let span = tracing::info_span!("object", object = path);
            let fetch = async move {
                // A streamed object holds a few chunks at a time; it is counted like the largest that is held whole.
                let held = item.size_bytes.clamp(1, WHOLE_BYTES);
                // The semaphore is never closed; without a permit the budget would merely not be kept.
                let permit = memory.acquire_many_owned(u32::try_from(held).unwrap_or(u32::MAX)).await.ok();
                let outcome = fetch(&store, &item.object).await;
                Ok(Fetched { item, outcome, permit })
            };
            let fetch = span.in_scope(|| task::spawn(fetch));
            async move { fetch.join().await.map_err(|report| Failure { item: path, report }) }
        });
        let fetched = fetched.buffer_unordered(FETCHES_AT_A_TIME).boxed();
        Self { terms, fetched, open: None, newer: HashMap::new() }
    }

    /// The next batch, or none if there are no more objects. Each object is `in_hand` before it is decoded.
    ///
    /// # Errors
    /// Those that are no object's fault, so that nothing can go on.
    pub async fn next(&mut self, in_hand: &mut Hands) -> Result<Option<Batch>> {
        let mut rows = SpanRows::new(self.terms.redact.clone());
        let mut batch = Batch::default();
        let mut parts = Vec::new();
        let mut left_bytes = self.terms.batch_bytes.max(1);
        let mut ended = false;
        while left_bytes > 0 && rows.memory_bytes() < self.terms.rows_bytes {
            let mut open = match self.open.take() {
                Some(open) => open,
                None => match self.fetched.next().await {
                    None => {
                        ended = true;
                        break;
                    }
                    Some(fetched) => match self.begin(fetched, &mut batch) {
                        Some(open) => open,
                        None => continue,
                    },
                },
            };
            // Should it kill us, it is known who did.
            if !in_hand.take(&open.path).await? {
                batch.vanished += 1;
                continue;
            }
            let step = usize::try_from(left_bytes).unwrap_or(usize::MAX).min(STEP_BYTES);
            let (from, before) = (rows.len(), open.decoder.decompressed_bytes());
            let outcome;
            (open, rows, outcome) = task::cpu(move || {
                let outcome = open.decoder.decode(&mut rows, step);
                Ok((open, rows, outcome))
            })
            .await?;
            // At least one, so that a million empty objects do not make one endless batch.
            left_bytes = left_bytes.saturating_sub((open.decoder.decompressed_bytes() - before).max(1));
            open.spans += (rows.len() - from) as u64;
            parts.push(Part { rows: from..rows.len(), path: open.path.clone() });
            match outcome {
                Ok(Progress::Full) => self.open = Some(open),
                Ok(Progress::Done) => {
                    batch.bytes_in += open.object.size_bytes;
                    batch.sources.push(open.into_source());
                }
                // A cut connection. The rows that came stay in the batch: they are this object's, and when it is read
                // again rule 3 makes them one with the new ones. The object itself is not among the sources, so it is
                // neither deleted nor noted.
                Err(report) => {
                    let report = report.context("read it to its end (it stays in the inbox for a later cycle)");
                    batch.failed.push(Failure { item: open.path, report: report.into_dynamic() });
                }
            }
        }
        batch.rows = rows.finish();
        self.leave_newer_hours(&mut batch, &parts)?;
        self.terms.leave_out_forgotten(&mut batch)?;
        // An empty batch is not the end: a message may be larger than a batch, or all of its rows forgotten.
        Ok((!ended || !batch.is_empty()).then_some(batch))
    }

    /// The object whose rest goes into the next batch.
    pub fn open_path(&self) -> Option<&str> {
        self.open.as_ref().map(|open| open.path.as_str())
    }

    /// Gives up the object whose rest would go into the next batch, because rows that came of it were not written: were
    /// it read to its end, it would be deleted without them. Its path, if there is one.
    pub fn give_up_open(&mut self) -> Option<String> {
        self.open.take().map(|open| open.path)
    }

    fn begin(&self, fetched: Result<Fetched, Failure>, batch: &mut Batch) -> Option<Open> {
        let Fetched { item, outcome, permit } = match fetched {
            Ok(fetched) => fetched,
            Err(failure) => {
                batch.failed.push(failure);
                return None;
            }
        };
        match outcome {
            Ok(None) => {
                batch.held.push(item.path);
                None
            }
            Ok(Some((body, object, whole))) => {
                // `received` is the last-modified of the very answer that delivers these bytes: an object that was
                // written over since the listing is another one, and counts as received later.
                let decoder = ObjectDecoder::new(body, object.modified, self.terms.limits.clone());
                Some(Open { path: item.path, object, whole, decoder, spans: 0, _permit: permit })
            }
            // Another worker indexed it, or a lifecycle rule took it.
            Err(report) if is_not_found(&report) => {
                batch.vanished += 1;
                None
            }
            Err(report) => {
                batch.failed.push(Failure { item: item.path, report });
                None
            }
        }
    }

    /// Takes the rows of whole objects out of the batch of which a row belongs to an hour that counts rules of a newer
    /// program. What an earlier batch took of such an object stays: the newer program will write those rows again.
    fn leave_newer_hours(&mut self, batch: &mut Batch, parts: &[Part]) -> Result<()> {
        let rules = &self.terms.settings.rules;
        if rules.changes().iter().all(|change| change.value.number <= RULES) {
            return Ok(());
        }
        let hours = hours(&batch.rows);
        for part in parts {
            if let Some(hour) = hours[part.rows.clone()].iter().find(|hour| rules.at(**hour).number > RULES) {
                self.newer.entry(part.path.clone()).or_insert(*hour);
            }
        }
        let mut keep = vec![true; batch.rows.num_rows()];
        for part in parts.iter().filter(|part| self.newer.contains_key(&part.path)) {
            keep[part.rows.clone()].fill(false);
        }
        batch.rows = filter_record_batch(&batch.rows, &BooleanArray::from(keep))?;
        for source in std::mem::take(&mut batch.sources) {
            let path = source.object.key.path();
            match self.newer.get(&path) {
                None => batch.sources.push(source),
                Some(hour) => {
                    let number = rules.at(*hour).number;
                    let report = report!(
                        "it has spans of {hour}, for which the settings count handler rules {number}; this program \
                         knows rules up to {RULES}. It stays in the inbox, whole: run a newer program"
                    );
                    batch.failed.push(Failure { item: path, report });
                }
            }
        }
        Ok(())
    }
}

impl Terms {
    fn leave_out_forgotten(&self, batch: &mut Batch) -> Result<()> {
        if self.forget.is_empty() {
            return Ok(());
        }
        let traces = batch.rows.column_by_name("trace_id").map(|column| column.as_fixed_size_binary().clone());
        let Some(traces) = traces else { return Ok(()) };
        let stays = |trace: Option<&[u8]>| {
            !trace.and_then(TraceId::from_slice).is_some_and(|trace| self.forget.contains(&trace))
        };
        let keep: BooleanArray = traces.iter().map(|trace| Some(stays(trace))).collect();
        batch.rows = filter_record_batch(&batch.rows, &keep)?;
        Ok(())
    }
}

impl Open {
    fn into_source(self) -> Source {
        let bad_count = self.decoder.bad_count();
        Source {
            object: self.object,
            whole: self.whole.filter(|_| bad_count > 0),
            bad: self.decoder.bad().to_vec(),
            bad_count,
            spans: self.spans,
        }
    }
}

/// The bytes of an object, unless it is a local file that a process holds open: the file exporter would go on writing
/// into a deleted file, and each reading would be another part of it.
async fn fetch(store: &Store, object: &Object) -> Result<Option<(Body, Object, Option<Bytes>)>> {
    if store.is_held_open(&object.key).await? {
        return Ok(None);
    }
    Ok(Some(Body::fetch(store, object).await?))
}

/// The hour of each row of a batch of the spans table.
fn hours(rows: &RecordBatch) -> Vec<Hour> {
    let column = |name: &str| rows.column_by_name(name).map(|column| column.as_ref());
    let (Some(start), Some(duration), Some(received)) = (column("start"), column("duration"), column("received"))
    else {
        return Vec::new();
    };
    let start = start.as_primitive::<TimestampNanosecondType>().values();
    let duration = duration.as_primitive::<Int64Type>().values();
    let received = received.as_primitive::<TimestampMillisecondType>().values();
    let times = start.iter().zip(duration).zip(received);
    times
        .map(|((start, duration), received_ms)| {
            // The 64 bits as they were sent.
            let (start, end) = (*start as u64, start.wrapping_add(*duration) as u64);
            place(start, end, received_ms.saturating_mul(1_000_000)).hour
        })
        .collect()
}
