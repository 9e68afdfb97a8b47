//! One trace by its id: every row of it, from the blocks that count and from pins.

pub mod jaeger;
pub mod perfetto;
pub mod tree;

use arrow::record_batch::RecordBatch;

pub use tree::Tree;

use super::pin::{self, Pins};
use super::window::Window;
use super::{Reader, relisted, rows};
use crate::error::{Result, store_kind, told};
use crate::model::{BlockId, Table, TraceId};
use crate::otlp::encode;
use crate::store::layout::{BlockKey, PinKey};
use crate::table::order;
use crate::table::view::Scope;

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
    relisted(|| find_once(reader, id)).await
}

async fn find_once(reader: &Reader, id: TraceId) -> Result<Lookup> {
    if reader.forgotten().await?.contains(&id) {
        return Ok(Lookup::Forgotten);
    }
    let scope = Scope::of_trace(id, reader.shard_counts(), reader.settings.grace.0);
    let view = reader.view(&scope).await?;
    let only = rows::Traces::from([(id, Window::all())]);
    let (mut parts, mut blocks) = (Vec::new(), Vec::new());
    for (key, rows) in rows::by_block(&reader.blocks, &view, &only).await? {
        blocks.push(key);
        parts.push(rows);
    }
    // The blocks first, then the pins: rows that leave the blocks between the two are in a pin that was written before.
    let pins = Pins::all(&reader.store).await?;
    let (mut read, mut damaged) = (Vec::new(), None);
    for version in pins.of_trace(id) {
        match pin::read(&reader.store, version).await {
            Ok(rows) => {
                parts.push(rows);
                read.push(version.clone());
            }
            // Gone, or the store did not answer: what it holds is not known, and there may be no other copy.
            Err(report) if store_kind(&report).is_some() => return Err(report),
            // Another version or the blocks may have it all.
            Err(report) => {
                tracing::warn!(trace = %id, failure = told(&report), "a pin of the trace cannot be read");
                damaged = Some(report);
            }
        }
    }
    match (rows::union(&parts)?, damaged) {
        (Some(rows), _) => Ok(Lookup::Found(Box::new(Trace { id, rows, blocks, pins: read }))),
        // It is there, but nobody can read it.
        (None, Some(report)) => Err(report),
        (None, None) => Ok(Lookup::Missing),
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

    /// As Jaeger's UI exports and imports traces.
    pub fn jaeger_json(&self, base: bool) -> Result<serde_json::Value> {
        jaeger::document(&[self.current(base)?])
    }

    /// As the Trace Event Format that Perfetto and `chrome://tracing` open.
    pub fn perfetto_json(&self, base: bool) -> Result<serde_json::Value> {
        perfetto::document(&self.current(base)?)
    }
}
