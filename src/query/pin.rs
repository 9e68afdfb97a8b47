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

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};

use arrow::array::{ArrayRef, TimestampMillisecondArray};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

use super::columns::Spans;
use super::window::Window;
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
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub struct Beside {
    /// When each span of the document was received, milliseconds since 1970.
    pub received: Vec<i64>,
    /// Traces (in hex) of a handler's page that are objects of their own; none in a pin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub large: Vec<String>,
    /// Where each trace (in hex) of a handler's page was looked for; none in a pin. (Programs before this one wrote
    /// `looked_in`, hours alone, and believe no other.)
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub looked_for: BTreeMap<String, Window>,
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
    let text = document(rows)?;
    let mut gzip = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::default());
    gzip.write_all(text.as_bytes()).context("compress a pin")?;
    let body = Bytes::from(gzip.finish().context("compress a pin")?);
    if rows_hash(&decode(&body)?)? != rows_hash(rows)? {
        bail!("the rows of a pin do not come back from its OTLP/JSON as they were");
    }
    Ok(body)
}

/// What is compressed: OTLP/JSON, with the key `tracefarm` beside it. CPU only.
pub fn document(rows: &RecordBatch) -> Result<String> {
    let beside = Beside { received: received(rows)?, ..Beside::default() };
    let mut text = encode::traces_data(std::slice::from_ref(rows))?;
    if text.pop() != Some('}') {
        bail!("the OTLP/JSON of a trace is not an object");
    }
    text.push_str(",\"tracefarm\":");
    text.push_str(&serde_json::to_string(&beside).context("write what stands beside the OTLP")?);
    text.push('}');
    Ok(text)
}

/// When each row was received, in the order of the document that [`encode::traces_data`] makes of them.
pub fn received(rows: &RecordBatch) -> Result<Vec<i64>> {
    let columns = Spans::of(rows)?;
    let order = encode::document_order(std::slice::from_ref(rows))?;
    Ok(order.into_iter().map(|(_, row)| columns.received_ms(row)).collect())
}

/// The rows in a pin, one sorted run. CPU only.
///
/// # Errors
/// If the object is damaged: not gzip, not OTLP/JSON, or without a `received` for each span.
pub fn decode(body: &[u8]) -> Result<RecordBatch> {
    let (rows, _) = decode_document(body)?;
    if rows.num_rows() == 0 {
        bail!("a pin has no span");
    }
    Ok(rows)
}

/// The rows in a pin, or in the document of a handler's traces: one sorted run, and what stands beside it. CPU only.
///
/// # Errors
/// As [`decode`], but there may be no span.
pub fn decode_document(body: &[u8]) -> Result<(RecordBatch, Beside)> {
    let mut text = Vec::new();
    MultiGzDecoder::new(body).take(LARGEST_BYTES).read_to_end(&mut text).context("decompress traces")?;
    let Document { tracefarm: mut beside } = serde_json::from_slice(&text).context("read the JSON of traces")?;
    let received = std::mem::take(&mut beside.received);
    let mut rows = SpanRows::new(Redact::default());
    // What is in a pin was within the limits when it came.
    let limits = Limits { message_bytes: usize::MAX, ..Limits::default() };
    let mut decoder = ObjectDecoder::new(text.as_slice(), Timestamp::UNIX_EPOCH, limits);
    while decoder.decode(&mut rows, usize::MAX)? == Progress::Full {}
    if let Some(bad) = decoder.bad().first() {
        bail!("the OTLP/JSON is damaged at {}: {}", bad.at, bad.message);
    }
    let rows = rows.finish();
    if rows.num_rows() != received.len() {
        bail!("there are {} spans and {} times of receipt", rows.num_rows(), received.len());
    }
    let received: ArrayRef = Arc::new(TimestampMillisecondArray::from(received).with_timezone("UTC"));
    let schema = rows.schema();
    let at = schema.index_of("received").context("find the column `received`")?;
    let mut columns = rows.columns().to_vec();
    columns[at] = received;
    let rows = RecordBatch::try_new(schema, columns).context("restore the times of receipt")?;
    Ok((order::union(Table::Spans, &[rows])?, beside))
}

/// A pin read.
pub async fn read(store: &Store, key: &PinKey) -> Result<RecordBatch> {
    let key = Key::Pin(key.clone());
    let (body, _) = store.get(&key).await?;
    Ok(crate::task::cpu(move || decode(&body)).await.context(format!("read the pin {}", key.path()))?)
}

/// Versions of pins, by trace.
pub type ByTrace<'p> = HashMap<TraceId, Vec<&'p PinKey>>;

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

    /// Every version of every pin of `trace`, whatever the handler. For many traces see [`by_trace`](Self::by_trace).
    pub fn of_trace(&self, trace: TraceId) -> impl Iterator<Item = &PinKey> {
        self.handlers.values().filter_map(move |traces| traces.get(&trace)).flatten()
    }

    /// Every version of every pin, by trace.
    pub fn by_trace(&self) -> ByTrace<'_> {
        let mut by_trace = ByTrace::new();
        for version in self.iter() {
            by_trace.entry(version.trace).or_default().push(version);
        }
        by_trace
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::testing::{self, Span};

    fn trace() -> RecordBatch {
        let spans = [
            Span::new(1, 0, "GET /").at(5_000).lasting(9).kind(2).service("web").received(10),
            Span::new(2, 1, "query")
                .at(6_000)
                .service("db")
                .attributes(r#"{"n":1,"x":[0.5,{"$bytes":"AAE="}]}"#)
                .received(30),
            Span::new(3, 1, "render").at(7_000).service("web").events(r#"[{"time":7,"name":"e"}]"#).received(20),
            // A revision: the same span, received later, with another name.
            Span::new(3, 1, "render again").at(7_000).service("web").received(40),
            Span::new(4, 9, "late").at(8_000).service("db").error("no luck").received(50),
        ];
        order::union(Table::Spans, &[testing::rows(&spans)]).unwrap()
    }

    #[test]
    fn rows_come_back_from_a_pin_exactly() {
        let rows = trace();
        let back = decode(&encode(&rows).unwrap()).unwrap();
        assert_eq!(back.num_rows(), 5);
        assert_eq!(rows_hash(&back).unwrap(), rows_hash(&rows).unwrap());
        let (before, after) = (Spans::of(&rows).unwrap(), Spans::of(&back).unwrap());
        for row in 0..before.len() {
            assert_eq!(after.span(row), before.span(row));
            assert_eq!(after.name.get(row), before.name.get(row));
            assert_eq!(after.received_ms(row), before.received_ms(row));
        }
    }

    #[test]
    fn the_hash_tells_when_a_row_was_received() {
        let span = |seconds| testing::rows(&[Span::new(1, 0, "x").at(1).received(seconds)]);
        assert_ne!(rows_hash(&span(1)).unwrap(), rows_hash(&span(2)).unwrap());
        assert_eq!(rows_hash(&span(1)).unwrap(), rows_hash(&span(1)).unwrap());
    }

    #[test]
    fn a_damaged_pin_is_told_apart_from_a_whole_one() {
        let whole = encode(&trace()).unwrap();
        assert!(decode(&whole[..whole.len() / 2]).is_err(), "cut");
        assert!(decode(b"garbage").is_err());
        let gzip = |text: &[u8]| {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
            gzip.write_all(text).unwrap();
            gzip.finish().unwrap()
        };
        assert!(decode(&gzip(b"{}")).is_err(), "no times of receipt");
        assert!(decode(&gzip(br#"{"resourceSpans":[],"tracefarm":{"received":[]}}"#)).is_err(), "no rows");
        assert!(decode(&gzip(br#"{"resourceSpans":[],"tracefarm":{"received":[1]}}"#)).is_err());
    }

    #[test]
    fn a_pin_is_otlp_json_that_other_tools_read() {
        let body = encode(&trace()).unwrap();
        let mut text = String::new();
        MultiGzDecoder::new(&body[..]).read_to_string(&mut text).unwrap();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        let spans: usize = document["resourceSpans"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|resource| resource["scopeSpans"].as_array().unwrap())
            .map(|scope| scope["spans"].as_array().unwrap().len())
            .sum();
        assert_eq!(spans, 5);
        assert_eq!(document["tracefarm"]["received"].as_array().unwrap().len(), 5);
    }

    #[test]
    fn the_newest_start_of_all_versions_counts() {
        let handler: HandlerId = "web/get-x-00000001".parse().unwrap();
        let pin = |trace: u8, start_ns, rows| PinKey {
            handler: handler.clone(),
            start_ns,
            trace: TraceId([trace; 16]),
            rows,
        };
        let mut pins = Pins::default();
        [pin(1, 5, 1), pin(1, 9, 2), pin(2, 7, 3)].into_iter().for_each(|version| pins.add(version));
        let traces: Vec<_> = pins.traces(&handler).collect();
        assert_eq!(traces, [(9, TraceId([1; 16])), (7, TraceId([2; 16]))]);
        assert_eq!(pins.versions(&handler, TraceId([1; 16])).len(), 2);
    }
}
