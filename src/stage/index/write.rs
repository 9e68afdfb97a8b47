//! A batch of rows → durable level-0 blocks; then its inbox objects go.

use std::collections::HashSet;

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::batch::Source;
use crate::error::{Report, Result, ResultExt, report};
use crate::handler;
use crate::model::{BlockId, ShardDir, Table};
use crate::stage::ledger::Ledger;
use crate::stage::quarantine::{self, Original};
use crate::stage::{Desk, Fence, Fenced};
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
pub(super) struct Blocks {
    /// Hours on their way.
    hours: BoxStream<'static, Result<OfHour>>,
    /// Encoded, and not written yet.
    spans: Vec<Block>,
    entries: Vec<Block>,
    /// Of all that were encoded.
    pub keys: Vec<Key>,
    /// Their bytes.
    pub bytes: u64,
    /// Rows of traces, counted by hour.
    pub traces: u64,
    /// Hashes of the handlers' ids.
    pub handlers: HashSet<u64>,
}

struct OfHour {
    spans: Block,
    /// One, or none.
    entries: Vec<Block>,
    traces: u64,
    handlers: HashSet<u64>,
}

struct Block {
    key: Key,
    bytes: Bytes,
}

impl Blocks {
    /// Of `rows`; nothing is encoded yet. Later, so many hours are encoded at a time, also while others are written: old
    /// traces of many hours make many small blocks. With one nothing is but when it is asked for.
    pub async fn new(desk: &Desk, rows: RecordBatch, at_a_time: usize) -> Result<Self> {
        let settings = desk.settings.clone();
        let split = move || match rows.num_rows() {
            0 => Ok(Vec::new()),
            _ => order::split(Table::Spans, &rows, &|hour| *settings.shards.at(hour)),
        };
        let (hours, desk) = (task::cpu(split).await?, desk.clone());
        let encoded = stream::iter(hours).map(move |rows| {
            let desk = desk.clone();
            task::cpu(move || OfHour::encode(&desk, &rows))
        });
        let hours = encoded.buffered(at_a_time).boxed();
        let (keys, handlers) = (Vec::new(), HashSet::new());
        Ok(Self { hours, spans: Vec::new(), entries: Vec::new(), keys, bytes: 0, traces: 0, handlers })
    }

    /// Encodes hour by hour, until as many bytes of spans as this wait to be written, or nothing is left; whether
    /// something may be left. Writes nothing.
    ///
    /// A block of one row is as large as twenty rows, so an archive of a thousand hours that come all at once is not held
    /// as a whole. Its entries are, as they are written last: the fewest of its rows.
    pub async fn encode(&mut self, bytes: usize) -> Result<bool> {
        let mut waiting = 0;
        while let Some(hour) = self.hours.try_next().await? {
            waiting += hour.spans.bytes.len();
            for block in std::iter::once(&hour.spans).chain(&hour.entries) {
                self.keys.push(block.key.clone());
                self.bytes += block.bytes.len() as u64;
            }
            self.spans.push(hour.spans);
            self.entries.extend(hour.entries);
            self.traces += hour.traces;
            self.handlers.extend(hour.handlers);
            if waiting >= bytes {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes the spans blocks that wait for it.
    ///
    /// Dying in here or later leaves extra copies, unless every block stands by then: the inbox objects are still there and
    /// are indexed again, into blocks of other names, and rule 3 makes the rows one.
    pub async fn write_spans(&mut self, desk: &Desk) -> Result<()> {
        write_all(desk, std::mem::take(&mut self.spans)).await
    }

    /// Writes the entries blocks, when every spans block stands: so that a listed trace has its spans.
    pub async fn write_entries(&mut self, desk: &Desk) -> Result<()> {
        write_all(desk, std::mem::take(&mut self.entries)).await
    }
}

async fn write_all(desk: &Desk, blocks: Vec<Block>) -> Result<()> {
    let writes = stream::iter(blocks).map(|Block { key, bytes }| async move {
        desk.store.create(&key, bytes).await.context_with(|| format!("write {}", key.path()))?;
        Ok(())
    });
    writes.buffer_unordered(WRITES_AT_A_TIME).try_collect().await
}

impl OfHour {
    fn encode(desk: &Desk, rows: &order::HourRows) -> Result<Self> {
        let rules = desk.settings.rules.at(rows.hour);
        let block = |table: Table, rows: &order::HourRows| -> Result<Block> {
            let block = BlockId::new(desk.clock.ulid());
            let key = Key::Block(BlockKey { table, dir: ShardDir::All, hour: rows.hour, block });
            Ok(Block { key, bytes: write::level0(table, rows, rules.number)? })
        };
        let mut hour = Self {
            spans: block(Table::Spans, rows)?,
            entries: Vec::new(),
            traces: rows.traces()?,
            handlers: HashSet::new(),
        };
        let entries = handler::entries(&rows.rows, rules)?;
        if entries.num_rows() > 0 {
            for rows in order::split(Table::Entries, &entries, &|hour| *desk.settings.shards.at(hour))? {
                hour.handlers.extend(rows.handlers()?);
                hour.entries.push(block(Table::Entries, &rows)?);
            }
        }
        Ok(hour)
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
