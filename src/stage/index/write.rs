//! A batch of rows → durable level-0 blocks; then its inbox objects go.

use std::collections::HashSet;

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::batch::Source;
use crate::error::{Report, Result, ResultExt, report};
use crate::farm::Settings;
use crate::handler;
use crate::model::{BlockId, Hour, ShardDir, Table};
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

/// What came of a batch.
#[derive(Default)]
pub(super) struct Written {
    /// Bytes of blocks.
    pub bytes: u64,
    /// Traces, counted by hour.
    pub traces: u64,
    /// Hashes of the handlers' ids.
    pub handlers: HashSet<u64>,
}

/// Makes every one of `rows` durable: one spans block for each hour, and when all of those stand, one entries block
/// for each hour with entries.
///
/// Dying anywhere in here leaves extra copies: the inbox objects are still there and are indexed again, into blocks
/// of other names, and rule 3 makes the rows one. Entries come last, so that a listed trace has its spans.
pub(super) async fn blocks(desk: &Desk, rows: RecordBatch) -> Result<Written> {
    let mut written = Written::default();
    if rows.num_rows() == 0 {
        return Ok(written);
    }
    let settings = desk.settings.clone();
    let hours = task::cpu(move || order::split(Table::Spans, &rows, &|hour| *settings.shards.at(hour))).await?;
    let encoded = stream::iter(hours).map(|rows| {
        let (hour, settings) = (rows.hour, desk.settings.clone());
        async move { Ok::<_, Report>((hour, task::cpu(move || encode(&rows, &settings)).await?)) }
    });
    // Old traces of many hours make many small blocks: a core goes on while they are written.
    let spans = encoded.buffer_unordered(lanes()).map_ok(|(hour, mut encoded)| async move {
        let block = std::mem::take(&mut encoded.spans);
        encoded.written.bytes += block.len() as u64;
        create(desk, Table::Spans, hour, block).await?;
        Ok((hour, encoded))
    });
    let spans: Vec<_> = spans.try_buffer_unordered(WRITES_AT_A_TIME).try_collect().await?;
    // Every spans block is durable from here on.
    let mut entries = Vec::new();
    for (hour, encoded) in spans {
        written.bytes += encoded.written.bytes;
        written.traces += encoded.written.traces;
        written.handlers.extend(encoded.written.handlers);
        entries.extend(encoded.entries.into_iter().map(|block| (hour, block)));
    }
    let entries = stream::iter(entries).map(|(hour, block)| {
        let desk = desk.clone();
        async move {
            let bytes = block.len() as u64;
            create(&desk, Table::Entries, hour, block).await?;
            Ok::<_, Report>(bytes)
        }
    });
    for bytes in entries.buffer_unordered(WRITES_AT_A_TIME).try_collect::<Vec<u64>>().await? {
        written.bytes += bytes;
    }
    Ok(written)
}

/// Does with a suspect's rows what [`blocks`] will do, but for the writes: should that kill us, it is known by whom.
pub(super) async fn rehearse(desk: &Desk, rows: RecordBatch) -> Result<()> {
    let settings = desk.settings.clone();
    task::cpu(move || {
        let hours = order::split(Table::Spans, &rows, &|hour| *settings.shards.at(hour))?;
        hours.iter().try_for_each(|rows| encode(rows, &settings).map(drop))
    })
    .await
}

/// Blocks that are not written yet.
struct Encoded {
    spans: Bytes,
    /// One, or none.
    entries: Vec<Bytes>,
    written: Written,
}

/// One hour of spans as a block, and the entries among them.
fn encode(rows: &order::HourRows, settings: &Settings) -> Result<Encoded> {
    let rules = settings.rules.at(rows.hour);
    let spans = write::level0(Table::Spans, rows, rules.number)?;
    let mut written = Written { traces: rows.traces()?, ..Written::default() };
    let entries = handler::entries(&rows.rows, rules)?;
    if entries.num_rows() == 0 {
        return Ok(Encoded { spans, entries: Vec::new(), written });
    }
    let entries = order::split(Table::Entries, &entries, &|hour| *settings.shards.at(hour))?;
    for rows in &entries {
        written.handlers.extend(rows.handlers()?);
    }
    let entries = entries.iter().map(|rows| write::level0(Table::Entries, rows, rules.number));
    Ok(Encoded { spans, entries: entries.collect::<Result<_>>()?, written })
}

async fn create(desk: &Desk, table: Table, hour: Hour, block: Bytes) -> Result<Object> {
    let key = BlockKey { table, dir: ShardDir::All, hour, block: BlockId::new(desk.clock.ulid()) };
    let key = Key::Block(key);
    Ok(desk.store.create(&key, block).await.context(format!("write {}", key.path()))?)
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
