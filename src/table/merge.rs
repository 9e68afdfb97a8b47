//! A streaming k-way merge of sorted runs, rule 3 applied, into level-1 files; memory bounded by how many inputs are read
//! at once.
//!
//! The merge itself ([`machine`]) does no I/O: it runs off the async threads until it needs bytes of an input or has
//! bytes of a file, and says which. An input is read window by window (a part of a row group), and takes about a page of
//! each column in memory: 0.2 to 5 MiB. When there are more than fit, they are merged in passes: some of them first, into
//! a block that is a whole merge of its own and replaces those, then that with the rest. A pass that is left behind by a
//! crash is therefore not waste but work done.

mod gather;
mod input;
mod intern;
mod machine;

use std::collections::{BTreeSet, HashSet};

use futures::stream::{StreamExt, TryStreamExt, iter};
use jiff::Timestamp;

use super::block::{BlockError, FORMAT, Words};
use super::footer::{Footer, fetch};
use super::read::Blocks;
use crate::clock::Clock;
use crate::error::{Result, ResultExt, bail};
use crate::handler::RULES;
use crate::model::{BlockId, Hour, Shard, ShardDir, Table, TraceId};
use crate::store::layout::BlockKey;
use crate::store::{Key, Object, Store, Upload};
use crate::task;
use machine::{Machine, Want};

/// What an input takes in memory, however small it is: its footer, and a reader and a small batch of each column.
const INPUT_BYTES: usize = 192 << 10;
/// What a stored byte takes in memory when it is read: bytes and pages as stored, unpacked, and as columns. Measured on
/// blocks of level 0 of 100 to 5,000 spans: 250 KiB to 3.5 MiB an input, 0.66 KiB a span.
const UNPACKED: usize = 18;
/// Of a larger input no more than a page of each column is in memory.
const PAGES_BYTES: usize = 5 << 20;
/// So many inputs are merged at once in however little memory: passes must come to an end.
const FEWEST_INPUTS: usize = 8;
/// What a file being written takes at most: a row group, its dictionaries, and parts on their way.
pub(crate) const OUTPUT_BYTES: usize = 64 << 20;
/// Requests at once.
const CONCURRENCY: usize = 20;

/// One merge: all `inputs` of one table, shard and hour into level 1.
#[derive(Clone, Debug)]
pub struct MergeSpec {
    /// The table.
    pub table: Table,
    /// The output's shard.
    pub shard: Shard,
    /// The hour.
    pub hour: Hour,
    /// The blocks to read, of either level, with their listed sizes.
    pub inputs: Vec<(BlockKey, u64)>,
    /// What the last file says it replaces: the inputs, and those on the inputs' lists that are still listed.
    pub merged_from: Vec<BlockId>,
    /// Traces to leave out (tombstones).
    pub forget: HashSet<TraceId>,
    /// A file ends at about this many bytes, aligned to traces (spans) or handlers.
    pub file_bytes: u64,
    /// Bytes of memory the merge may use.
    pub memory_bytes: usize,
}

/// What a merge wrote.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    /// The files in the order written; the last carries `merged_from`. There is always one, even without rows.
    pub files: Vec<(BlockKey, Object)>,
    /// Files of earlier passes, which the last file replaces: only if there were too many inputs for the memory.
    pub passes: Vec<(BlockKey, Object)>,
    /// Rows read of the inputs.
    pub rows_in: u64,
    /// Rows written.
    pub rows_out: u64,
    /// When the last file was written, by the store.
    pub finished: Option<Timestamp>,
}

/// Runs a merge. Dies without harm anywhere: files without the last one are extra copies (rule 2), and so are two
/// outputs of one merge that two workers run at once.
///
/// # Errors
/// A [`BlockError`] of the input that is damaged or too new, or the store's; `NotFound` of an input means: list again.
pub async fn merge(blocks: &Blocks, store: &Store, clock: &Clock, mut spec: MergeSpec) -> Result<Merged> {
    let mut passes: Vec<(BlockKey, Object)> = Vec::new();
    let mut rows_in = 0;
    loop {
        let fitting = fitting(&spec.inputs, spec.memory_bytes.saturating_sub(OUTPUT_BYTES));
        if fitting == spec.inputs.len() {
            break;
        }
        let inputs: Vec<(BlockKey, u64)> = spec.inputs.drain(..fitting).collect();
        let merged_from = replaced(blocks, &inputs, &spec.merged_from).await?;
        // One file, however large: if it were cut, a pass might leave as many inputs as it took, and there would be no
        // last pass.
        let (forget, file_bytes) = (spec.forget.clone(), u64::MAX);
        let part = MergeSpec { inputs, merged_from, forget, file_bytes, ..spec.clone_without_inputs() };
        let merged = merge_once(blocks, store, clock, &part).await.context("merge a part of the inputs")?;
        // Its inputs are read no more; what it wrote stands for them in the next pass.
        rows_in += merged.rows_in - rows_of(blocks, &part.inputs, &passes, spec.shard).await?;
        spec.merged_from.extend(merged.files.iter().map(|(key, _)| key.block));
        spec.inputs.extend(merged.files.iter().map(|(key, object)| (*key, object.size_bytes)));
        passes.extend(merged.files);
    }
    let mut merged = merge_once(blocks, store, clock, &spec).await?;
    merged.rows_in += rows_in;
    merged.rows_in -= rows_of(blocks, &spec.inputs, &passes, spec.shard).await?;
    merged.passes = passes;
    Ok(merged)
}

/// How many of `inputs`, from the first on, are read at once in `memory_bytes`.
pub(crate) fn fitting(inputs: &[(BlockKey, u64)], memory_bytes: usize) -> usize {
    let needs = inputs.iter().map(|(_, size_bytes)| {
        let stored = usize::try_from(*size_bytes).unwrap_or(usize::MAX);
        INPUT_BYTES + stored.saturating_mul(UNPACKED).min(PAGES_BYTES)
    });
    let sums = needs.scan(0_usize, |sum, need| {
        *sum = sum.saturating_add(need);
        Some(*sum)
    });
    sums.take_while(|sum| *sum <= memory_bytes).count().max(FEWEST_INPUTS).min(inputs.len())
}

impl MergeSpec {
    fn clone_without_inputs(&self) -> Self {
        Self { inputs: Vec::new(), merged_from: Vec::new(), forget: HashSet::new(), ..*self }
    }
}

/// What a merge of `inputs` alone replaces: these, and of their own lists what `all` says is still listed.
async fn replaced(blocks: &Blocks, inputs: &[(BlockKey, u64)], all: &[BlockId]) -> Result<Vec<BlockId>> {
    let all: BTreeSet<&BlockId> = all.iter().collect();
    let mut names: BTreeSet<BlockId> = inputs.iter().map(|(key, _)| key.block).collect();
    for (key, size_bytes) in inputs {
        let meta = blocks.meta(key, *size_bytes).await?;
        names.extend(meta.merged_from.iter().filter(|name| all.contains(name)));
    }
    Ok(names.into_iter().collect())
}

/// The rows of those of `inputs` that earlier passes wrote: they were counted when they were read first.
async fn rows_of(
    blocks: &Blocks,
    inputs: &[(BlockKey, u64)],
    passes: &[(BlockKey, Object)],
    shard: Shard,
) -> Result<u64> {
    let passed: HashSet<BlockId> = passes.iter().map(|(key, _)| key.block).collect();
    let mut rows = 0;
    for (key, size_bytes) in inputs.iter().filter(|(key, _)| passed.contains(&key.block)) {
        let footer = blocks.footer(key, *size_bytes, false).await?;
        let range = footer.words.rows_of(shard);
        rows += range.end - range.start;
    }
    Ok(rows)
}

async fn merge_once(blocks: &Blocks, store: &Store, clock: &Clock, spec: &MergeSpec) -> Result<Merged> {
    let footers = iter(&spec.inputs).map(|(key, size_bytes)| footer(blocks, spec, key, *size_bytes));
    let footers: Vec<_> = footers.buffered(CONCURRENCY).try_collect().await?;
    let rules = footers.iter().map(|footer| footer.words.rules).max().unwrap_or(RULES);
    let mut merged = Merged::default();
    let mut machine = Machine::new(spec, footers)?;
    let mut file = File::begin(store, clock, spec).await?;
    loop {
        let (back, want) = task::cpu(move || {
            let want = machine.run()?;
            Ok((machine, want))
        })
        .await?;
        machine = back;
        match want {
            Want::Input(needs) => {
                let fetched = iter(needs).map(|need| async {
                    let footer = need.footer.clone();
                    let bytes = fetch(store, &footer.key, footer.size_bytes, &need.ranges).await?;
                    Ok::<_, crate::error::Report>((need, bytes))
                });
                // An unfinished read is dropped with the whole merge: nothing is left behind but an upload not ended.
                let fetched: Vec<_> = fetched.buffered(CONCURRENCY).try_collect().await?;
                machine.supply(fetched)?;
            }
            Want::Write(bytes) => file.upload.write(bytes).await?,
            Want::Ended { last: false } => {
                for bytes in machine.end_file(words(spec, rules, &[]))? {
                    file.upload.write(bytes).await?;
                }
                // Durable before the next one begins, and so before the last, which names it: if we die between them,
                // what is there are copies of rows that their inputs still have.
                merged.files.push((file.key, file.upload.finish().await?));
                file = File::begin(store, clock, spec).await?;
            }
            Want::Ended { last: true } => break,
        }
    }
    let siblings: Vec<BlockId> = merged.files.iter().map(|(key, _)| key.block).collect();
    let last = Words { merged_from: spec.merged_from.clone(), ..words(spec, rules, &siblings) };
    (merged.rows_in, merged.rows_out) = (machine.rows_in(), machine.rows_out());
    for bytes in task::cpu(move || machine.end_file(last)).await? {
        file.upload.write(bytes).await?;
    }
    let object = file.upload.finish().await?;
    merged.finished = Some(object.modified);
    merged.files.push((file.key, object));
    Ok(merged)
}

/// The footer of an input, with the page index where only a part of a row group will be read at a time.
async fn footer(blocks: &Blocks, spec: &MergeSpec, key: &BlockKey, size_bytes: u64) -> Result<std::sync::Arc<Footer>> {
    if key.table != spec.table || key.hour != spec.hour {
        bail!("{} is no input of a merge of {} {}", Key::Block(*key).path(), spec.table, spec.hour);
    }
    let footer = blocks.footer(key, size_bytes, true).await?;
    let words = &footer.words;
    if words.format > FORMAT || words.rules > RULES {
        let message = format!("format {}, rules {}; this program knows {FORMAT}, {RULES}", words.format, words.rules);
        return Err(BlockError::too_new(key, message).into());
    }
    Ok(footer)
}

/// A file under way.
struct File {
    key: BlockKey,
    upload: Upload,
}

impl File {
    async fn begin(store: &Store, clock: &Clock, spec: &MergeSpec) -> Result<Self> {
        let block = BlockId::new(clock.ulid());
        let key = BlockKey { table: spec.table, dir: ShardDir::One(spec.shard), hour: spec.hour, block };
        Ok(Self { key, upload: store.create_large(&Key::Block(key)).await? })
    }
}

/// What a file says of itself; its rows and digests are filled in when it ends.
fn words(spec: &MergeSpec, rules: u32, siblings: &[BlockId]) -> Words {
    Words {
        format: FORMAT,
        rules,
        rows: 0,
        shards: vec![(spec.shard, 0)],
        merged_from: Vec::new(),
        siblings: siblings.to_vec(),
        times: None,
        sums: Vec::new(),
        digest: None,
        calls: None,
    }
}

#[cfg(test)]
mod tests;
