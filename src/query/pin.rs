//! A pin: one trace of one handler, kept beyond `keep_for` as an object of its own.
//!
//! The object is gzip'd OTLP/JSON that any tool reads, with one more top-level key:
//!
//! ```json
//! {"resourceSpans": […], "tracefarm": {"received": [1795310533000, …]}}
//! ```
//!
//! `received` has a time in milliseconds since 1970 for each span in the order of the document. With it the rows are
//! rebuilt exactly as they stood in the blocks: all revisions of a span, told apart by when they came.
//!
//! The name says what is inside: `<start>` is the newest start of an entry of the handler, `<hash of rows>` is
//! [`rows_hash`]. So two workers that pin the same rows write the same name, and a pin with more rows or an earlier
//! `received` has another one: nothing is ever written over.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use arrow::array::{ArrayRef, TimestampMillisecondArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

use super::columns::Spans;
use crate::error::{Result, ResultExt, bail};
use crate::model::{HandlerId, Table, TraceId};
use crate::otlp::redact::Redact;
use crate::otlp::{Limits, ObjectDecoder, Progress, SpanRows, encode};
use crate::store::layout::PinKey;
use crate::store::{Key, Listing, Prefix, Store};
use crate::table::order;

/// The most that a pin may decompress to: far beyond any trace, and a bound on what a damaged object can ask for.
const LARGEST_BYTES: u64 = 4 << 30;

/// What stands beside the OTLP.
#[derive(serde::Serialize, serde::Deserialize)]
struct Beside {
    /// When each span of the document was received, milliseconds since 1970.
    received: Vec<i64>,
}

#[derive(serde::Deserialize)]
struct Document {
    tracefarm: Beside,
}

/// The hash that tells one set of rows from another: of their content ([`order::content_hash`]) and when each was
/// received. `rows` are one sorted run ([`order::union`]).
pub fn rows_hash(rows: &RecordBatch) -> Result<u64> {
    let columns = Spans::of(rows)?;
    let mut hash = Xxh3::new();
    hash.update(&order::content_hash(rows)?.to_le_bytes());
    for row in 0..columns.len() {
        hash.update(&columns.received_ms(row).to_le_bytes());
    }
    Ok(hash.digest())
}

/// The object's bytes for `rows`, one sorted run of one trace. CPU only.
///
/// What was written is read back before it is returned: a pin is the last copy of its trace, so an encoder's mistake
/// must be found while the blocks still stand.
///
/// # Errors
/// If the rows do not come back exactly.
pub fn encode(rows: &RecordBatch) -> Result<Bytes> {
    let grouped = by_origin(rows)?;
    let columns = Spans::of(&grouped)?;
    let beside = Beside { received: (0..columns.len()).map(|row| columns.received_ms(row)).collect() };
    let otlp = encode::traces_data(std::slice::from_ref(&grouped))?;
    let Some(open) = otlp.trim_end().strip_suffix('}') else {
        bail!("the OTLP/JSON of a trace is not an object");
    };
    let beside = serde_json::to_string(&beside).context("write what stands beside the OTLP")?;
    let mut gzip = GzEncoder::new(Vec::with_capacity(otlp.len() / 8), Compression::default());
    for part in [open, ",\"tracefarm\":", &beside, "}"] {
        gzip.write_all(part.as_bytes()).context("compress a pin")?;
    }
    let body = Bytes::from(gzip.finish().context("compress a pin")?);
    if rows_hash(&decode(&body)?)? != rows_hash(rows)? {
        bail!("the rows of a pin do not come back from its OTLP/JSON as they were");
    }
    Ok(body)
}

/// The rows in a pin, one sorted run. CPU only.
///
/// # Errors
/// If the object is damaged: not gzip, not OTLP/JSON, or without a `received` for each span.
pub fn decode(body: &[u8]) -> Result<RecordBatch> {
    let mut text = Vec::new();
    MultiGzDecoder::new(body).take(LARGEST_BYTES).read_to_end(&mut text).context("decompress a pin")?;
    let Document { tracefarm: Beside { received } } = serde_json::from_slice(&text).context("read a pin's JSON")?;
    let mut rows = SpanRows::new(Redact::default());
    // What is in a pin was within the limits when it came.
    let limits = Limits { message_bytes: usize::MAX, ..Limits::default() };
    let mut decoder = ObjectDecoder::new(text.as_slice(), Timestamp::UNIX_EPOCH, limits);
    while decoder.decode(&mut rows, usize::MAX)? == Progress::Full {}
    if let Some(bad) = decoder.bad().first() {
        bail!("the OTLP/JSON of a pin is damaged at {}: {}", bad.at, bad.message);
    }
    let rows = rows.finish();
    if rows.num_rows() != received.len() || rows.num_rows() == 0 {
        bail!("a pin has {} spans and {} times of receipt", rows.num_rows(), received.len());
    }
    let received: ArrayRef = Arc::new(TimestampMillisecondArray::from(received).with_timezone("UTC"));
    let schema = rows.schema();
    let at = schema.index_of("received").context("find the column `received`")?;
    let mut columns = rows.columns().to_vec();
    columns[at] = received;
    let rows = RecordBatch::try_new(schema, columns).context("restore the times of receipt")?;
    order::union(Table::Spans, &[rows])
}

/// The rows with those of one resource and scope together, so that the document says each of them once.
pub fn by_origin(rows: &RecordBatch) -> Result<RecordBatch> {
    let columns = Spans::of(rows)?;
    let mut origins: BTreeMap<(&str, &str, &str), u32> = BTreeMap::new();
    let mut order: Vec<(u32, u32)> = Vec::with_capacity(columns.len());
    for row in 0..columns.len() {
        let origin = (columns.resource.or_empty(row), columns.scope.or_empty(row), columns.scope_version.or_empty(row));
        let next = u32::try_from(origins.len()).unwrap_or(u32::MAX);
        let origin = *origins.entry(origin).or_insert(next);
        order.push((origin, u32::try_from(row).unwrap_or(u32::MAX)));
    }
    order.sort_unstable();
    let rows_in_order: UInt32Array = order.into_iter().map(|(_, row)| row).collect();
    Ok(take_record_batch(rows, &rows_in_order).context("put a trace's rows in order")?)
}

/// A pin read.
pub async fn read(store: &Store, key: &PinKey) -> Result<RecordBatch> {
    let key = Key::Pin(key.clone());
    let (body, _) = store.get(&key).await?;
    Ok(crate::task::cpu(move || decode(&body)).await.context(format!("read the pin {}", key.path()))?)
}

/// The pins of a listing, by handler and trace: every version of each.
#[derive(Clone, Debug, Default)]
pub struct Pins {
    /// The versions of each handler's traces.
    pub handlers: BTreeMap<HandlerId, BTreeMap<TraceId, Vec<PinKey>>>,
}

impl Pins {
    /// Every pin of the store: a page of listing for each thousand.
    pub async fn all(store: &Store) -> Result<Self> {
        Ok(Self::of(store.list(&Prefix::Latest).await?))
    }

    /// The pins of one handler.
    pub async fn of_handler(store: &Store, handler: &HandlerId) -> Result<Self> {
        Ok(Self::of(store.list(&Prefix::Pins(handler.clone())).await?))
    }

    /// The pins in `listing`.
    pub fn of(listing: Listing) -> Self {
        let mut pins = Self::default();
        for object in listing.objects {
            if let Key::Pin(pin) = object.key {
                pins.add(pin);
            }
        }
        pins
    }

    /// Adds a pin that is durable.
    pub fn add(&mut self, pin: PinKey) {
        self.handlers.entry(pin.handler.clone()).or_default().entry(pin.trace).or_default().push(pin);
    }

    /// The traces of `handler` with the newest start that a version says.
    pub fn traces<'a>(&'a self, handler: &HandlerId) -> impl Iterator<Item = (i64, TraceId)> + 'a {
        let traces = self.handlers.get(handler).into_iter().flatten();
        traces.filter_map(|(trace, versions)| Some((versions.iter().map(|pin| pin.start_ns).max()?, *trace)))
    }

    /// The versions of one trace's pin.
    pub fn versions(&self, handler: &HandlerId, trace: TraceId) -> &[PinKey] {
        self.handlers.get(handler).and_then(|traces| traces.get(&trace)).map_or(&[], Vec::as_slice)
    }

    /// Every version of every pin of `trace`, whatever the handler.
    pub fn of_trace(&self, trace: TraceId) -> impl Iterator<Item = &PinKey> {
        self.handlers.values().filter_map(move |traces| traces.get(&trace)).flatten()
    }

    /// Every pinned trace, each once.
    pub fn all_traces(&self) -> std::collections::BTreeSet<TraceId> {
        self.handlers.values().flat_map(|traces| traces.keys().copied()).collect()
    }

    /// Every version of every pin.
    pub fn iter(&self) -> impl Iterator<Item = &PinKey> {
        self.handlers.values().flat_map(|traces| traces.values()).flatten()
    }
}
