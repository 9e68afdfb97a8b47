//! A batch of rows → durable level-0 blocks; then its inbox objects go.

use std::collections::HashSet;

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::batch::Source;
use crate::error::{Report, Result, ResultExt, report};
use crate::handler;
use crate::model::{BlockId, ShardDir, Table};
use crate::stage::ledger::Ledger;
use crate::stage::quarantine::{self, Original};
use crate::stage::{Desk, Fence, Fenced, lanes};
use crate::store::layout::BlockKey;
use crate::store::{Key, Object, StoreErrorKind};
use crate::table::{order, write};
use crate::task;

/// How many blocks are written at a time.
const WRITES_AT_A_TIME: usize = 20;

/// How many objects leave the inbox at a time. Whatever still stands there when a worker dies is indexed twice: they go
/// as nearly at once as a store lets them, so that the one whose request must be tried again does not hold up the others.
const LEAVE_AT_A_TIME: usize = 100;

/// A batch as blocks: a spans block for each hour, and an entries block for each hour with entries.
#[derive(Default)]
pub(super) struct Blocks {
    spans: Vec<Block>,
    entries: Vec<Block>,
    /// Rows of traces, counted by hour.
    pub traces: u64,
    /// Hashes of the handlers' ids.
    pub handlers: HashSet<u64>,
}

/// A block that is not written yet.
struct Block {
    key: Key,
    bytes: Bytes,
}

impl Blocks {
    /// Encodes `rows`. Writes nothing: should a suspect kill us, it is known by whom; and before the first block is written
    /// all that will be are known ([`Intent`](crate::farm::intent::Intent)). Their bytes are a part of what the rows take.
    pub async fn encode(desk: &Desk, rows: RecordBatch) -> Result<Self> {
        let mut blocks = Self::default();
        if rows.num_rows() == 0 {
            return Ok(blocks);
        }
        let settings = desk.settings.clone();
        let hours = task::cpu(move || order::split(Table::Spans, &rows, &|hour| *settings.shards.at(hour))).await?;
        let encoded = stream::iter(hours).map(|rows| {
            let desk = desk.clone();
            task::cpu(move || Self::of_hour(&desk, &rows))
        });
        let mut encoded = encoded.buffered(lanes());
        while let Some(hour) = encoded.try_next().await? {
            blocks.spans.extend(hour.spans);
            blocks.entries.extend(hour.entries);
            blocks.traces += hour.traces;
            blocks.handlers.extend(hour.handlers);
        }
        Ok(blocks)
    }

    fn of_hour(desk: &Desk, rows: &order::HourRows) -> Result<Self> {
        let rules = desk.settings.rules.at(rows.hour);
        let block = |table: Table, rows: &order::HourRows| -> Result<Block> {
            let bytes = write::level0(table, rows, rules.number)?;
            let id = BlockId::new(desk.clock.ulid());
            Ok(Block { key: Key::Block(BlockKey { table, dir: ShardDir::All, hour: rows.hour, block: id }), bytes })
        };
        let mut blocks = Self { spans: vec![block(Table::Spans, rows)?], traces: rows.traces()?, ..Self::default() };
        let entries = handler::entries(&rows.rows, rules)?;
        if entries.num_rows() > 0 {
            for rows in order::split(Table::Entries, &entries, &|hour| *desk.settings.shards.at(hour))? {
                blocks.handlers.extend(rows.handlers()?);
                blocks.entries.push(block(Table::Entries, &rows)?);
            }
        }
        Ok(blocks)
    }

    /// Their keys.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.spans.iter().chain(&self.entries).map(|block| &block.key)
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> u64 {
        self.spans.iter().chain(&self.entries).map(|block| block.bytes.len() as u64).sum()
    }

    /// Makes every row durable: the spans blocks, and when all of those stand, the entries blocks.
    ///
    /// Dying anywhere in here leaves extra copies: the inbox objects are still there and are indexed again, into blocks
    /// of other names, and rule 3 makes the rows one. Entries come last, so that a listed trace has its spans.
    pub async fn write(&self, desk: &Desk) -> Result<()> {
        for blocks in [&self.spans, &self.entries] {
            let writes = stream::iter(blocks).map(async |block| {
                let written = desk.store.create(&block.key, block.bytes.clone()).await;
                written.context_with(|| format!("write {}", block.key.path()))
            });
            writes.buffer_unordered(WRITES_AT_A_TIME).try_for_each(async |_| Ok(())).await?;
        }
        Ok(())
    }
}

/// What became of an object whose rows are durable.
pub(super) enum Gone {
    /// It was deleted, or noted in the ledger.
    Done,
    /// It is another object now, or a process still has it open: it is indexed again later, and rule 3 makes the rows
    /// one.
    Stays,
    /// The fence: another round begins again.
    Late(Fenced),
    /// The quarantine could not be written, or the delete failed.
    Failed(Report),
}

/// What is left to do once all rows of `sources` are durable: bad ones go to the quarantine, then each leaves the inbox
/// or is noted in the ledger. One object's trouble leaves that object where it is.
pub(super) async fn finish(desk: &Desk, ledger: &Ledger, fence: &Fence, sources: Vec<Source>) -> Vec<(Object, Gone)> {
    let finished = stream::iter(sources).map(|source| {
        let (desk, fence) = (desk.clone(), fence.clone());
        async move {
            let object = source.object.clone();
            (object, leave(&desk, &fence, source).await)
        }
    });
    let mut finished: Vec<(Object, Gone)> = finished.buffer_unordered(LEAVE_AT_A_TIME).collect().await;
    if desk.inbox.keep {
        let done = finished.iter().filter(|(_, gone)| matches!(gone, Gone::Done));
        let objects: Vec<Object> = done.map(|(object, _)| object.clone()).collect();
        // Blocks first, then the note: dying between the two indexes them again.
        if let Err(report) = note(desk, ledger, fence, &objects).await {
            let why = report.to_string();
            for (_, gone) in finished.iter_mut().filter(|(_, gone)| matches!(gone, Gone::Done)) {
                *gone = Gone::Failed(report!("note it in the ledger: {why}"));
            }
        }
    }
    finished
}

async fn note(desk: &Desk, ledger: &Ledger, fence: &Fence, objects: &[Object]) -> Result<()> {
    if objects.is_empty() {
        return Ok(());
    }
    fence.allows_write()?;
    ledger.note(desk, objects).await
}

async fn leave(desk: &Desk, fence: &Fence, source: Source) -> Gone {
    let Source { object, whole, bad, bad_count, spans } = source;
    if bad_count > 0 {
        let original = whole.map_or(Original::Object, Original::Bytes);
        // Durable before the object goes: what cannot be read is kept as it was.
        if let Err(report) = quarantine::put(desk, &object, original, &bad, bad_count, spans).await {
            return Gone::Failed(report.context("put it into the quarantine").into_dynamic());
        }
    }
    if desk.inbox.keep {
        return Gone::Done;
    }
    // A paused worker that wakes up here acts on an old world: its blocks may have been merged, expired and deleted,
    // and the same object put back to be indexed once more.
    if let Err(fenced) = fence.allows_delete() {
        return Gone::Late(fenced);
    }
    // Only this very content: what was appended or written over in the meantime has not been read.
    match desk.inbox.store.delete_if_unchanged(&object).await {
        Ok(true) => Gone::Done,
        Ok(false) => Gone::Stays,
        // Another worker was faster.
        Err(error) if error.kind == StoreErrorKind::NotFound => Gone::Done,
        Err(error) => Gone::Failed(report!(error).into_dynamic()),
    }
}
