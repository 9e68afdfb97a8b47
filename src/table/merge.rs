//! A streaming k-way merge of sorted runs, rule 3 applied, into level-1 files; memory bounded by how many inputs are read
//! at once.
//!
//! The merge itself ([`machine`]) does no I/O: it runs off the async threads until it needs bytes of an input or has
//! bytes of a file, and says which. An input is read window by window (a part of a row group), and takes about a page of
//! each column in memory ([`mod@share`]). When there are more than fit, they are merged in passes: the smallest of them first,
//! into a block that is a whole merge of its own and replaces those, then that with the rest. A pass that is left behind by
//! a crash is therefore not waste but work done.

mod gather;
pub(crate) mod input;
mod intern;
mod machine;
pub(crate) mod share;

use std::collections::{BTreeSet, HashSet, VecDeque};

use futures::stream::{StreamExt, TryStreamExt, iter};
use jiff::Timestamp;

use super::block::{BlockError, FORMAT, Words};
use super::footer::fetch;
use super::read::Blocks;
use super::write::GROUP_ROWS;
use crate::clock::Clock;
use crate::error::{Result, ResultExt, bail};
use crate::handler::RULES;
use crate::model::{BlockId, Hour, Shard, ShardDir, Table, TraceId};
use crate::store::layout::BlockKey;
use crate::store::{Key, Object, Store, Upload};
use crate::task;
use machine::{Machine, Want};
use share::{Share, apart};

/// What an input takes in memory, however small it is: a reader of each column, and its place in the merge.
pub(crate) const INPUT_BYTES: usize = 192 << 10;
/// So many inputs are merged at once in however little memory: passes must come to an end.
const FEWEST_INPUTS: usize = 8;
/// What a file being written takes at most: a row group, its dictionaries, and parts on their way.
pub(crate) const OUTPUT_BYTES: usize = 64 << 20;
/// Rows of a row group of a pass, which is read once more and then gone: a window of it should not be a small part of it.
pub(crate) const PASS_GROUP_ROWS: usize = 64 << 10;
/// About so many inputs more than would have to be are merged by a pass, because what it writes takes more memory than each.
const SPARE: usize = 8;
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
    /// What the last file says it replaces: the inputs, and those on the inputs' lists that may still be listed.
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
    let room = spec.memory_bytes.saturating_sub(OUTPUT_BYTES);
    let mut passes: Vec<(BlockKey, Object)> = Vec::new();
    let (mut rows_in, mut rows_passed) = (0, 0);
    // The smallest first: what a pass takes is written twice.
    spec.inputs.sort_by_key(|(key, size_bytes)| (key.dir != ShardDir::All, *size_bytes));
    let mut left: VecDeque<(BlockKey, u64)> = std::mem::take(&mut spec.inputs).into();
    let mut open: Vec<Share> = Vec::new();
    loop {
        // Footers of inputs that are not merged yet would be what fills the memory.
        let mut fits = Share::fitting(open.iter(), room);
        while fits == open.len() && !left.is_empty() {
            let next = left.drain(..left.len().min(CONCURRENCY));
            let next = iter(next).map(|(key, size_bytes)| share(blocks, &spec, key, size_bytes));
            open.extend(next.buffered(CONCURRENCY).try_collect::<Vec<_>>().await?);
            fits = Share::fitting(open.iter(), room);
        }
        if fits == open.len() {
            break;
        }
        let taken = of_pass(fits, open.len() - fits + left.len());
        let inputs: Vec<Share> = open.drain(..taken).collect();
        let merged_from = replaced(&inputs, &spec.merged_from);
        // One file, however large: if it were cut, a pass might leave as many inputs as it took, and there would be no
        // last pass.
        let (forget, file_bytes) = (spec.forget.clone(), u64::MAX);
        let part = MergeSpec { inputs: Vec::new(), merged_from, forget, file_bytes, ..spec };
        let merged =
            merge_once(store, clock, &part, inputs, PASS_GROUP_ROWS).await.context("merge a part of the inputs")?;
        // Its inputs are read no more; what it wrote stands for them in a later pass.
        (rows_in, rows_passed) = (rows_in + merged.rows_in, rows_passed + merged.rows_out);
        spec.merged_from.extend(merged.files.iter().map(|(key, _)| key.block));
        left.extend(merged.files.iter().map(|(key, object)| (*key, object.size_bytes)));
        passes.extend(merged.files);
    }
    let mut merged = merge_once(store, clock, &spec, open, GROUP_ROWS).await?;
    // What a pass wrote was counted when it was read first.
    merged.rows_in += rows_in;
    merged.rows_in -= rows_passed;
    merged.passes = passes;
    Ok(merged)
}

/// How many of the first `fits` inputs a pass takes, if there are `more` that do not fit: no more than that the rest fits
/// with what it writes.
pub(crate) fn of_pass(fits: usize, more: usize) -> usize {
    (more + 1 + SPARE).min(fits)
}

/// What a merge of `inputs` alone replaces: these, and of their own lists what `all` says is still listed.
fn replaced(inputs: &[Share], all: &[BlockId]) -> Vec<BlockId> {
    let all: HashSet<&BlockId> = all.iter().collect();
    let inherited = inputs.iter().flat_map(|input| &input.footer.words.merged_from).filter(|name| all.contains(name));
    let names: BTreeSet<BlockId> =
        inputs.iter().map(|input| input.footer.key.block).chain(inherited.copied()).collect();
    names.into_iter().collect()
}

async fn merge_once(
    store: &Store,
    clock: &Clock,
    spec: &MergeSpec,
    inputs: Vec<Share>,
    group_rows: usize,
) -> Result<Merged> {
    let rules = inputs.iter().map(|input| input.footer.words.rules).max().unwrap_or(RULES);
    let mut merged = Merged::default();
    let mut machine = Machine::new(spec, inputs, group_rows)?;
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
                    let bytes = apart(bytes, &need.ranges);
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

/// What is read of an input, with the page index where only a part of a row group will be read at a time.
async fn share(blocks: &Blocks, spec: &MergeSpec, key: BlockKey, size_bytes: u64) -> Result<Share> {
    if key.table != spec.table || key.hour != spec.hour {
        bail!("{} is no input of a merge of {} {}", Key::Block(key).path(), spec.table, spec.hour);
    }
    let footer = blocks.footer(&key, size_bytes, true).await?;
    let words = &footer.words;
    if words.format > FORMAT || words.rules > RULES {
        let message = format!("format {}, rules {}; this program knows {FORMAT}, {RULES}", words.format, words.rules);
        return Err(BlockError::too_new(&key, message).into());
    }
    Ok(Share::of(&footer, spec.shard))
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
