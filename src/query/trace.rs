//! One trace by its id: every row of it, from the blocks that count and from pins.

pub mod jaeger;
pub mod perfetto;
pub mod tree;

use std::collections::{HashMap, HashSet};

use arrow::record_batch::RecordBatch;

pub use tree::Tree;

use super::pin::{self, Pins};
use super::window::Window;
use super::{Reader, relisted, rows};
use crate::error::{Report, Result, store_kind, told};
use crate::model::{BlockId, Shard, Table, TraceId};
use crate::otlp::encode;
use crate::store::layout::{BlockKey, PinKey};
use crate::table::order;
use crate::table::view::{Scope, View};

/// What a trace id stands for.
#[derive(Debug)]
pub enum Lookup {
    /// A trace.
    Found(Box<Trace>),
    /// A tombstone stands: the trace is to be forgotten, and what may be left of it is hidden.
    Forgotten,
    /// Nothing in this store.
    Missing,
}

/// A trace with all revisions of its spans.
#[derive(Debug)]
pub struct Trace {
    /// Its id.
    pub id: TraceId,
    /// One sorted run, all revisions.
    pub rows: RecordBatch,
    /// The blocks in which rows of it were found.
    pub blocks: Vec<BlockKey>,
    /// The pins that hold it.
    pub pins: Vec<PinKey>,
}

/// Everything that is known of the trace `id`: the union of visible blocks and pins.
///
/// Asks for: one LIST of level 0 and of one shard for each number of shards that ever counted, the footers of these
/// blocks (kept for the next query), a bloom filter of each, pages of those that hold it; and a LIST of `latest/`.
///
/// # Errors
/// Those of the store, and of damaged blocks and pins that may hold the trace.
pub async fn find(reader: &Reader, id: TraceId) -> Result<Lookup> {
    relisted(|| async move {
        let listed = Listed::take(reader, [id], Window::all()).await?;
        let mut found = listed.traces(&rows::Traces::from([(id, Window::all())])).await?;
        found.remove(&id).unwrap_or(Ok(Lookup::Missing))
    })
    .await
}

/// One listing of everything that traces are read from. An object on it that is gone means: list again ([`relisted`]).
pub struct Listed {
    reader: Reader,
    forgotten: HashSet<TraceId>,
    spans: View,
    pins: Pins,
}

impl Listed {
    /// Lists where `traces` can be; pins only if something in `window` may have left the blocks by now.
    pub async fn take(reader: &Reader, traces: impl IntoIterator<Item = TraceId>, window: Window) -> Result<Self> {
        let counts = reader.shard_counts();
        let shards = traces
            .into_iter()
            .flat_map(|trace| counts.iter().map(move |count| Shard::of_trace(trace, *count)).collect::<Vec<_>>());
        Self::of(reader, Scope::all(Table::Spans, reader.settings.grace.0).of_shards(shards), window).await
    }

    /// Lists where any trace can be.
    pub async fn all(reader: &Reader, window: Window) -> Result<Self> {
        Self::of(reader, Scope::all(Table::Spans, reader.settings.grace.0), window).await
    }

    async fn of(reader: &Reader, scope: Scope, window: Window) -> Result<Self> {
        let forgotten = reader.forgotten().await?;
        let spans = reader.view(&scope).await?;
        // The blocks first, then the pins: rows that leave the blocks between the two are in a pin that was written
        // before.
        let needed = reader.may_have_expired(window.first, spans.began);
        let pins = if needed { Pins::all(&reader.store).await? } else { Pins::default() };
        Ok(Self { reader: reader.clone(), forgotten, spans, pins })
    }

    /// The blocks of spans.
    pub fn spans(&self) -> &View {
        &self.spans
    }

    /// What is known of each of `wanted`. Missing ones may be absent; one that is there but cannot be read is an error
    /// of its own.
    ///
    /// # Errors
    /// Those of the store, and of damaged blocks.
    pub async fn traces(&self, wanted: &rows::Traces) -> Result<HashMap<TraceId, Result<Lookup>>> {
        let mut found: HashMap<TraceId, Found> = HashMap::new();
        for (key, rows) in rows::by_block(&self.reader.blocks, &self.spans, wanted).await? {
            for (trace, rows) in rows::by_trace(&rows)? {
                let of_trace = found.entry(trace).or_default();
                of_trace.parts.push(rows);
                of_trace.blocks.push(key);
            }
        }
        for id in wanted.keys() {
            for version in self.pins.of_trace(*id) {
                let of_trace = found.entry(*id).or_default();
                match pin::read(&self.reader.store, version).await {
                    Ok(rows) => {
                        of_trace.parts.push(rows);
                        of_trace.pins.push(version.clone());
                    }
                    // Gone, or the store did not answer: what it holds is not known, and there may be no other copy.
                    Err(report) if store_kind(&report).is_some() => return Err(report),
                    // Another version or the blocks may have it all.
                    Err(report) => {
                        tracing::warn!(trace = %id, failure = told(&report), "a pin of the trace cannot be read");
                        of_trace.damaged = Some(report);
                    }
                }
            }
        }
        let forgotten = wanted.keys().filter(|id| self.forgotten.contains(id)).map(|id| (*id, Ok(Lookup::Forgotten)));
        let lookups: HashMap<_, _> = found.into_iter().map(|(id, found)| (id, found.lookup(id))).collect();
        Ok(lookups.into_iter().chain(forgotten).collect())
    }
}

/// What has been found of a trace.
#[derive(Default)]
struct Found {
    parts: Vec<RecordBatch>,
    blocks: Vec<BlockKey>,
    pins: Vec<PinKey>,
    damaged: Option<Report>,
}

impl Found {
    fn lookup(self, id: TraceId) -> Result<Lookup> {
        match (rows::union(&self.parts)?, self.damaged) {
            (Some(rows), _) => Ok(Lookup::Found(Box::new(Trace { id, rows, blocks: self.blocks, pins: self.pins }))),
            // It is there, but nobody can read it.
            (None, Some(report)) => Err(report),
            (None, None) => Ok(Lookup::Missing),
        }
    }
}

impl Trace {
    /// One row a span: the newest revision of each, or with `base` the first.
    pub fn current(&self, base: bool) -> Result<RecordBatch> {
        order::current(Table::Spans, &self.rows, base)
    }

    /// How many rows are revisions of others.
    pub fn revisions(&self) -> Result<usize> {
        Ok(self.rows.num_rows() - self.current(false)?.num_rows())
    }

    /// The names of the blocks that hold rows of it.
    pub fn block_ids(&self) -> impl Iterator<Item = BlockId> + '_ {
        self.blocks.iter().map(|key| key.block)
    }

    /// As a tree, for people.
    pub fn tree(&self, base: bool) -> Result<Tree> {
        Tree::of(&self.current(base)?)
    }

    /// As one OTLP/JSON document, lossless.
    pub fn otlp_json(&self, base: bool) -> Result<String> {
        encode::traces_data(&[self.current(base)?])
    }

    /// As a pin holds it: OTLP/JSON with all revisions, and when each span was received beside it ([`pin`]).
    pub fn pin_json(&self) -> Result<String> {
        pin::document(&self.rows)
    }

    /// As Jaeger's UI exports and imports traces.
    pub fn jaeger_json(&self, base: bool) -> Result<serde_json::Value> {
        jaeger::document(&[self.current(base)?])
    }

    /// As the Trace Event Format that Perfetto and `chrome://tracing` open.
    pub fn perfetto_json(&self, base: bool) -> Result<serde_json::Value> {
        perfetto::document(&self.current(base)?)
    }
}
