//! `traces.json.gz`: the traces that a handler's summary names, whole.
//!
//! A trace that several handlers show is fetched and written as JSON once for all of them. The document is OTLP/JSON with
//! one more top-level key, as in pins:
//!
//! ```json
//! {"resourceSpans":[…],"tracefarm":{"received":[…],"large":["<trace id>"],"looked_for":{"<trace id>":{"first":"<hour>","last":"<hour>"}}}}
//! ```
//!
//! Traces that the document had before are not read from all blocks again ([`standing`](super::standing)).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::Write;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{StreamExt, TryStreamExt, stream};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Result, ResultExt, bail, is_not_found, store_kind, told};
use crate::model::{BlockId, HandlerId, TraceId};
use crate::otlp::encode;
use crate::query::AT_A_TIME;
use crate::query::handlers::Handler;
use crate::query::newest::newest;
use crate::query::pin::{self, Beside};
use crate::query::rows::{self, Traces};
use crate::query::window::Window;
use crate::stage::publish::plan::Near;
use crate::stage::publish::summary::EXAMPLES;
use crate::stage::{Desk, Fence};
use crate::store::Key;
use crate::store::layout::{PinKey, SiteKey};
use crate::table::digest::EntryRef;
use crate::table::place::Placed;
use crate::table::view::View;

/// A trace whose OTLP/JSON is larger stands alone.
const LARGE_BYTES: usize = 1 << 20;

/// The pages are read far more often than written, but written all the time: the fastest level but one costs a third of
/// the default's time for a tenth more bytes.
const COMPRESSION: Compression = Compression::new(2);

/// The traces that a handler shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown {
    /// Where each is looked for in blocks.
    pub traces: Traces,
    /// Pins that hold some of them.
    pub pins: Vec<PinKey>,
}

impl Shown {
    /// The newest `keep_last`, the newest errors, the slowest; where there are many blocks as indexed, looked for `near` them.
    fn of(known: &Handler, keep_last: usize, near: Option<Near>) -> Self {
        let digest = &known.digest;
        let mut traces = Traces::new();
        let mut add = |entry: &EntryRef| {
            if let Some(trace) = entry.trace() {
                // The hour in which it was placed is not known here: two hours before cover both cases.
                let hour = crate::model::Hour::of_ns(entry.time_ns);
                let hours = Window::of_entry(Placed { time_ns: entry.time_ns, hour }, entry.duration_ns).earlier(1);
                let window = Window { near: near.map(|near| near.times(entry.time_ns, entry.duration_ns)), ..hours };
                traces.entry(trace).and_modify(|known: &mut Window| *known = known.join(window)).or_insert(window);
            }
        };
        let in_blocks = digest.newest.iter().filter_map(|entry| Some((entry.time_ns, entry.trace()?)));
        let pinned = known.pins.iter().map(|pin| (pin.start_ns, pin.trace));
        let newest: BTreeSet<TraceId> =
            newest(in_blocks.chain(pinned), keep_last).into_iter().map(|(_, trace)| trace).collect();
        digest
            .newest
            .iter()
            .filter(|entry| entry.trace().is_some_and(|trace| newest.contains(&trace)))
            .for_each(&mut add);
        digest.newest_errors.iter().take(EXAMPLES).for_each(&mut add);
        digest.slowest.iter().take(EXAMPLES).for_each(&mut add);
        let pins: Vec<PinKey> = known
            .pins
            .iter()
            .filter(|pin| newest.contains(&pin.trace) || traces.contains_key(&pin.trace))
            .cloned()
            .collect();
        for pin in &pins {
            let hour = crate::model::Hour::of_ns(pin.start_ns);
            let window = Window::of_entry(Placed { time_ns: pin.start_ns, hour }, 0);
            traces.entry(pin.trace).or_insert(window);
        }
        Self { traces, pins }
    }

    /// What its document is made of, as a name. A trace that is looked for in other hours may have other spans.
    pub fn hash(&self) -> String {
        let pins = self.pins.iter().map(|pin| Key::Pin(pin.clone()).path());
        let traces = self.traces.iter().map(|(trace, window)| {
            // Who did not ask all blocks must when they are few again. Which were asked changes by the minute.
            let near = if window.near.is_some() { " near" } else { "" };
            format!("{trace} {} {}{near}", window.first, window.last)
        });
        super::plan::hash_of(traces.chain(pins))
    }
}

/// What each handler shows. A trace that several of them show is looked for wherever one of them says, so that all show
/// the same of it, whichever of them are written together.
pub fn shown<'k>(
    handlers: impl Iterator<Item = (&'k HandlerId, &'k Handler, usize)>,
    near: Option<Near>,
) -> BTreeMap<HandlerId, Shown> {
    let shown = handlers.map(|(id, known, keep_last)| (id.clone(), Shown::of(known, keep_last, near)));
    let mut shown: BTreeMap<HandlerId, Shown> = shown.collect();
    let mut joined = Traces::new();
    for (trace, window) in shown.values().flat_map(|shown| &shown.traces) {
        joined.entry(*trace).and_modify(|known| *known = known.join(*window)).or_insert(*window);
    }
    for (trace, window) in shown.values_mut().flat_map(|shown| &mut shown.traces) {
        *window = joined.get(trace).copied().unwrap_or(*window);
    }
    shown
}

/// A trace as JSON, ready to stand in documents.
struct Fragment {
    /// The elements of `resourceSpans`.
    elements: String,
    /// When each span was received, milliseconds since 1970.
    received: Vec<i64>,
}

impl Fragment {
    fn of(rows: &RecordBatch) -> Result<Self> {
        let received = pin::received(rows)?;
        let otlp = encode::traces_data(std::slice::from_ref(rows))?;
        let elements = otlp.trim().strip_prefix("{\"resourceSpans\":[").and_then(|rest| rest.strip_suffix("]}"));
        let Some(elements) = elements else { bail!("the OTLP/JSON of a trace is not a list of resourceSpans") };
        Ok(Self { elements: elements.to_owned(), received })
    }
}

/// A document of these traces, with what stands beside them. CPU only.
fn document<'a>(fragments: impl Iterator<Item = &'a Fragment>, mut beside: Beside) -> Result<Bytes> {
    let mut gzip = GzEncoder::new(Vec::new(), COMPRESSION);
    gzip.write_all(b"{\"resourceSpans\":[")?;
    let mut first = true;
    for fragment in fragments {
        if !std::mem::take(&mut first) {
            gzip.write_all(b",")?;
        }
        gzip.write_all(fragment.elements.as_bytes())?;
        beside.received.extend_from_slice(&fragment.received);
    }
    gzip.write_all(b"],\"tracefarm\":")?;
    serde_json::to_writer(&mut gzip, &beside)?;
    gzip.write_all(b"}")?;
    Ok(gzip.finish()?.into())
}

/// What stands for a handler.
#[derive(Debug)]
pub struct Written {
    /// A hash of the bytes of its `traces.json.gz`.
    pub body: String,
    /// The etag of that.
    pub etag: String,
    /// Traces that are objects of their own.
    pub large: Vec<TraceId>,
    /// Bytes written; 0 if the very same document stood already.
    pub bytes: u64,
}

/// Writes the documents of `handlers`: their traces are fetched together, block by block. Of the documents that are
/// `standing` (the hash of their bytes and their etag) those that would be the same are left, and traces are carried over:
/// only `fresh` blocks can have more of them. How much OTLP/JSON was held in memory is returned, too.
///
/// If the process dies in between, some documents are newer than the part that names them: the part is stale then and all
/// of it is looked at again.
///
/// # Errors
/// If traces cannot be fetched, or the store fails.
pub async fn write(
    desk: &Desk,
    fence: &Fence,
    spans: &View,
    handlers: &BTreeMap<HandlerId, Shown>,
    standing: &BTreeMap<HandlerId, (String, String)>,
    fresh: &HashSet<BlockId>,
) -> Result<(BTreeMap<HandlerId, Written>, usize)> {
    let mut traces = Traces::new();
    let mut pins: BTreeSet<&PinKey> = BTreeSet::new();
    // All say the same of a trace that several show.
    for shown in handlers.values() {
        traces.extend(&shown.traces);
        pins.extend(&shown.pins);
    }
    let traces = Arc::new(traces);
    let carried = super::standing::of(&desk.store, standing, &traces).await?;
    let mut wanted = rows::wanted(spans, &traces);
    for (block, traces) in &mut wanted {
        traces.retain(|trace| fresh.contains(&block.id()) || !carried.contains_key(trace));
    }
    wanted.retain(|(_, traces)| !traces.is_empty());
    let mut parts = rows::of_parts(&desk.blocks, wanted).await?;
    for (trace, rows) in carried {
        parts.entry(trace).or_default().push(rows);
    }
    for (trace, rows) in pinned(desk, pins).await? {
        parts.entry(trace).or_default().push(rows);
    }
    let fragments = Arc::new(crate::task::cpu(move || encode_all(parts)).await?);

    let large: BTreeSet<TraceId> = fragments
        .iter()
        .filter(|(_, fragment)| fragment.elements.len() > LARGE_BYTES)
        .map(|(trace, _)| *trace)
        .collect();
    let alone = stream::iter(&large).map(|trace| {
        let (fragments, trace) = (Arc::clone(&fragments), *trace);
        async move {
            let body = crate::task::cpu(move || document(fragments.get(&trace).into_iter(), Beside::default())).await?;
            fence.allows_write()?;
            desk.store.overwrite(&Key::Site(SiteKey::Trace(trace)), body).await?;
            Result::<()>::Ok(())
        }
    });
    alone.buffer_unordered(AT_A_TIME).try_collect::<()>().await?;

    let documents = stream::iter(handlers).map(|(handler, shown)| {
        let fragments = Arc::clone(&fragments);
        let (apart, own): (Vec<TraceId>, Vec<TraceId>) = shown.traces.keys().partition(|trace| large.contains(trace));
        // Of those that stand alone nothing is carried over.
        let looked_for = own.iter().filter_map(|trace| traces.get_key_value(trace));
        let beside = Beside {
            received: Vec::new(),
            large: apart.iter().map(ToString::to_string).collect(),
            looked_for: looked_for.map(|(trace, window)| (trace.to_string(), *window)).collect(),
        };
        async move {
            let body = crate::task::cpu(move || document(own.iter().filter_map(|trace| fragments.get(trace)), beside));
            let body = body.await.context_with(|| format!("write the traces of {handler}"))?;
            let hash = format!("{:016x}", xxh3_64(&body));
            let stands = standing.get(handler).filter(|(body, _)| *body == hash);
            let (etag, bytes) = match stands {
                Some((_, etag)) => (etag.clone(), 0),
                None => {
                    let bytes = body.len() as u64;
                    fence.allows_write()?;
                    (desk.store.overwrite(&Key::Site(SiteKey::Traces(handler.clone())), body).await?.etag, bytes)
                }
            };
            Result::<_>::Ok((handler.clone(), Written { body: hash, etag, large: apart, bytes }))
        }
    });
    let written = documents.buffer_unordered(AT_A_TIME).try_collect().await?;
    Ok((written, fragments.values().map(|fragment| fragment.elements.len()).sum()))
}

/// The rows in pins. One that is damaged shows less, with a warning; one that is gone means "list again".
async fn pinned(desk: &Desk, pins: BTreeSet<&PinKey>) -> Result<Vec<(TraceId, RecordBatch)>> {
    let reads = stream::iter(pins).map(|version| async move {
        match pin::read(&desk.store, version).await {
            Ok(rows) => Ok(Some((version.trace, rows))),
            Err(report) if is_not_found(&report) || store_kind(&report).is_some() => Err(report),
            Err(report) => {
                tracing::warn!(trace = %version.trace, failure = told(&report), "a pin is not published");
                Ok(None)
            }
        }
    });
    let read: Vec<Option<_>> = reads.buffer_unordered(AT_A_TIME).try_collect().await?;
    Ok(read.into_iter().flatten().collect())
}

fn encode_all(parts: HashMap<TraceId, Vec<RecordBatch>>) -> Result<HashMap<TraceId, Fragment>> {
    let mut fragments = HashMap::with_capacity(parts.len());
    for (trace, parts) in parts {
        if let Some(rows) = rows::union(&parts)? {
            let fragment = Fragment::of(&rows).context_with(|| format!("write trace {trace} as OTLP/JSON"))?;
            fragments.insert(trace, fragment);
        }
    }
    Ok(fragments)
}
