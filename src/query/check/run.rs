//! The rows of some blocks of one hour and shard, one by one in the table's order, each block verified as it passes.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;
use futures::stream::BoxStream;

use crate::error::Result;
use crate::model::{HandlerId, Shard, ShardDir, Table};
use crate::query::Reader;
use crate::store::Key;
use crate::table::digest;
use crate::table::key::KeyColumns;
use crate::table::view::Block;

/// One batch of a block with its key columns.
pub(super) struct Rows {
    pub batch: RecordBatch,
    pub keys: KeyColumns,
}

/// A row of a batch.
#[derive(Clone)]
pub(super) struct Row {
    pub rows: Arc<Rows>,
    pub at: usize,
}

impl Row {
    fn compare(&self, other: &Self) -> Ordering {
        self.rows.keys.compare(self.at, &other.rows.keys, other.at)
    }

    /// Whether both are the same record with the same start (and handler): copies, or revisions.
    pub fn is_same(&self, other: &Self) -> bool {
        self.compare(other) == Ordering::Equal
    }
}

/// One block being read.
struct Run<'a> {
    block: &'a Block,
    table: Table,
    shard: Shard,
    stream: BoxStream<'static, Result<RecordBatch>>,
    head: Option<Row>,
    digest: Option<digest::Builder>,
}

/// Several blocks, read as one.
pub(super) struct Merged<'a> {
    runs: Vec<Run<'a>>,
    violations: Violations,
}

/// What is wrong with blocks: by block and rule the first example.
type Violations = BTreeMap<(String, &'static str), String>;

impl<'a> Merged<'a> {
    /// Begins to read the rows of `shard` in `blocks`.
    pub async fn new(reader: &Reader, table: Table, shard: Shard, blocks: &[&'a Block]) -> Result<Self> {
        let mut merged = Self { runs: Vec::with_capacity(blocks.len()), violations: Violations::new() };
        for block in blocks {
            let is_level1 = matches!(block.key.dir, ShardDir::One(_));
            let stream = reader.blocks.rows(&block.key, block.size_bytes, (!is_level1).then_some(shard)).await?;
            let digest = (is_level1 && table == Table::Entries).then(digest::Builder::default);
            let mut run = Run { block, table, shard, stream, head: None, digest };
            run.next(&mut merged.violations).await?;
            merged.runs.push(run);
        }
        Ok(merged)
    }

    /// The next row of all.
    pub async fn next(&mut self) -> Result<Option<Row>> {
        let mut least: Option<(usize, &Row)> = None;
        for (place, run) in self.runs.iter().enumerate() {
            if let Some(head) = &run.head
                && least.is_none_or(|(_, row)| head.compare(row) == Ordering::Less)
            {
                least = Some((place, head));
            }
        }
        let Some((place, row)) = least.map(|(place, row)| (place, row.clone())) else { return Ok(None) };
        self.runs[place].next(&mut self.violations).await?;
        Ok(Some(row))
    }

    /// Compares the digests of compacted blocks, all of whose rows must have passed, with those in their footers.
    pub async fn digests(&mut self, reader: &Reader) -> Result<()> {
        for run in &mut self.runs {
            if let Some(digest) = run.digest.take() {
                let stored = reader.blocks.digest(&run.block.key, run.block.size_bytes, None).await?;
                if *stored != digest.finish()? {
                    let object = Key::Block(run.block.key).path();
                    self.violations.insert((object, "digest"), "its digest is not that of its rows".to_owned());
                }
            }
        }
        Ok(())
    }

    /// What was wrong with blocks: object and sentence.
    pub fn violations(self) -> impl Iterator<Item = (String, String)> {
        self.violations.into_iter().map(|((object, _), what)| (object, what))
    }
}

impl Run<'_> {
    /// Goes on to the next row, and verifies it.
    async fn next(&mut self, violations: &mut Violations) -> Result<()> {
        let last = self.head.take();
        let next = match &last {
            Some(row) if row.at + 1 < row.rows.keys.len() => Some(Row { rows: row.rows.clone(), at: row.at + 1 }),
            _ => self.batch().await?.map(|rows| Row { rows, at: 0 }),
        };
        if let Some(row) = &next {
            let mut violated = |rule: &'static str, what: String| {
                violations.entry((Key::Block(self.block.key).path(), rule)).or_insert(what);
            };
            if last.is_some_and(|last| last.compare(row) == Ordering::Greater) {
                violated("order", "its rows are not sorted".to_owned());
            }
            let keys = &row.rows.keys;
            let placed = keys.placed(row.at).hour;
            if placed != self.block.key.hour {
                violated("hour", format!("a row of trace {} belongs to {placed}", keys.trace(row.at)));
            }
            let shard = match self.table {
                Table::Spans => Some(Shard::of_trace(keys.trace(row.at), self.shard.count())),
                Table::Entries => {
                    let handler: Option<HandlerId> = keys.handler(row.at).parse().ok();
                    handler.map(|handler| Shard::of_handler(&handler, self.shard.count()))
                }
            };
            if shard != Some(self.shard) {
                violated("shard", format!("a row of trace {} is not of {}", keys.trace(row.at), self.shard));
            }
        }
        self.head = next;
        Ok(())
    }

    async fn batch(&mut self) -> Result<Option<Arc<Rows>>> {
        while let Some(batch) = self.stream.try_next().await? {
            if let Some(digest) = &mut self.digest {
                digest.add(&batch)?;
            }
            if batch.num_rows() > 0 {
                let keys = KeyColumns::of(self.table, &batch)?;
                return Ok(Some(Arc::new(Rows { batch, keys })));
            }
        }
        Ok(None)
    }
}
