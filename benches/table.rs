//! What the tables cost: CPU seconds by step, and bytes a span by column, on the full recording.
//!
//! `cargo bench --bench table [-- SPANS]`: the recording (`TRACEFARM_SHARED`, or `../shared` beside the checkout) is
//! decoded once and multiplied with fresh ids and shifted times to about SPANS (1,000,000), in batches of the size that
//! index makes. Decoding and multiplying are not counted. Linux only (`/proc`).
#![expect(clippy::print_stdout, reason = "a benchmark prints")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark ends at the first surprise")]

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use parquet::file::metadata::ParquetMetaDataReader;
use tracefarm::clock::Clock;
use tracefarm::handler::Rules;
use tracefarm::model::{BlockId, Hour, Shard, ShardDir, Table};
use tracefarm::otlp::redact::Redact;
use tracefarm::otlp::{Limits, ObjectDecoder, Progress, SpanRows};
use tracefarm::store::layout::BlockKey;
use tracefarm::store::{Key, OpenOptions, Store};
use tracefarm::table::merge::{MergeSpec, merge};
use tracefarm::table::order::split;
use tracefarm::table::read::Blocks;
use tracefarm::table::write::level0;
use tracefarm::table::{entries, spans};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// As many rows as index puts into a batch of 128 MiB.
const BATCH_ROWS: usize = 470_000;

/// CPU seconds of this process so far, to a hundredth.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[derive(Default)]
struct Costs(BTreeMap<&'static str, f64>);

impl Costs {
    fn time<T>(&mut self, step: &'static str, work: impl FnOnce() -> T) -> T {
        let before = cpu();
        let done = work();
        *self.0.entry(step).or_default() += cpu() - before;
        done
    }
}

fn recording() -> Option<PathBuf> {
    let shared = std::env::var_os("TRACEFARM_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    Some(shared.join("data/shop/inbox")).filter(|inbox| inbox.is_dir())
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

fn decode(inbox: &Path) -> RecordBatch {
    let mut objects = Vec::new();
    files(inbox, &mut objects);
    let mut rows = SpanRows::new(Redact::default());
    for object in objects {
        let body = std::io::Cursor::new(std::fs::read(object).unwrap());
        let received = "2026-11-22T02:00:00Z".parse().unwrap();
        let mut decoder = ObjectDecoder::new(body, received, Limits::default());
        while decoder.decode(&mut rows, usize::MAX).unwrap() != Progress::Done {}
    }
    rows.finish()
}

/// A copy of the recording with other ids, as random as those, and later by `copy` times ten minutes.
fn copy_of(rows: &RecordBatch, copy: u64) -> RecordBatch {
    let columns = rows.schema_ref().fields().iter().zip(rows.columns()).map(|(field, column)| -> ArrayRef {
        match field.name().as_str() {
            "trace_id" | "span_id" | "parent_span_id" => {
                let ids = column.as_fixed_size_binary();
                let width = ids.value_length() as usize;
                let mut bytes = ids.value_data().to_vec();
                for word in bytes.chunks_exact_mut(8) {
                    // A span's id in its own column and in its children's stay the same.
                    let mixed = xxh3_64_with_seed(word, copy).to_le_bytes();
                    word.copy_from_slice(&mixed);
                }
                Arc::new(FixedSizeBinaryArray::try_new(width as i32, bytes.into(), ids.nulls().cloned()).unwrap())
            }
            "start" => {
                let later = copy as i64 * 600_000_000_000;
                let starts = column.as_primitive::<TimestampNanosecondType>();
                Arc::new(starts.unary::<_, TimestampNanosecondType>(|start| start + later).with_timezone("UTC"))
            }
            _ => column.clone(),
        }
    });
    RecordBatch::try_new(rows.schema(), columns.collect()).unwrap()
}

fn main() {
    let Some(inbox) = recording() else {
        println!("skipped: the recording is not there (TRACEFARM_SHARED)");
        return;
    };
    let wanted: usize = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(1_000_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(bench(&inbox, wanted));
}

async fn bench(inbox: &Path, wanted: usize) {
    let recorded = decode(inbox);
    let copies = wanted.div_ceil(recorded.num_rows()).max(1) as u64;
    let clock = Clock::system(jiff::SignedDuration::ZERO);
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().to_str().unwrap().to_owned();
    let store = Store::open(&url, &OpenOptions::default(), clock.clone()).await.unwrap();
    let mut costs = Costs::default();
    let mut blocks: BTreeMap<(Table, Hour), Vec<(BlockKey, u64)>> = BTreeMap::new();
    let mut total: BTreeMap<(Table, u8), (usize, u64)> = BTreeMap::new();
    let per_batch = (BATCH_ROWS / recorded.num_rows()).max(1) as u64;
    for first in (0..copies).step_by(per_batch as usize) {
        let parts: Vec<RecordBatch> =
            (first..(first + per_batch).min(copies)).map(|copy| copy_of(&recorded, copy)).collect();
        let batch = concat_batches(&spans::schema(), &parts).unwrap();
        drop(parts);
        let of_entries = costs.time("0 entries (handler)", || entries_of(&batch));
        for (table, rows, sort, write) in [
            (Table::Spans, &batch, "1 sort spans", "2 write spans, level 0"),
            (Table::Entries, &of_entries, "3 sort entries", "4 write entries, level 0"),
        ] {
            let hours = costs.time(sort, || split(table, rows, &|_| 1).unwrap());
            for hour in hours {
                let bytes = costs.time(write, || level0(table, &hour, 1).unwrap());
                let sum = total.entry((table, 0)).or_default();
                *sum = (sum.0 + hour.rows.num_rows(), sum.1 + bytes.len() as u64);
                let block = BlockId::new(clock.ulid());
                let key = BlockKey { table, dir: ShardDir::All, hour: hour.hour, block };
                let object = store.create(&Key::Block(key), bytes).await.unwrap();
                blocks.entry((table, hour.hour)).or_default().push((key, object.size_bytes));
            }
        }
    }
    let before_merge = peak_mib();
    let reader = Blocks::new(store.clone(), 64 << 20);
    let mut columns: BTreeMap<(Table, String), u64> = BTreeMap::new();
    let mut merged_files = Vec::new();
    for ((table, hour), inputs) in blocks {
        let spec = MergeSpec {
            table,
            shard: Shard::new(0, 1).unwrap(),
            hour,
            merged_from: inputs.iter().map(|(key, _)| key.block).collect(),
            inputs,
            forget: HashSet::new(),
            file_bytes: 1 << 30,
            memory_bytes: 256 << 20,
        };
        let step = if table == Table::Spans { "5 merge spans" } else { "6 merge entries" };
        let before = cpu();
        let merged = merge(&reader, &store, &clock, spec).await.unwrap();
        *costs.0.entry(step).or_default() += cpu() - before;
        for (key, object) in merged.files {
            let (bytes, _) = store.get(&Key::Block(key)).await.unwrap();
            let sum = total.entry((table, 1)).or_default();
            let footer = ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap();
            *sum = (sum.0 + footer.file_metadata().num_rows() as usize, sum.1 + object.size_bytes);
            let mut in_columns = 0;
            for group in footer.row_groups() {
                for column in group.columns() {
                    let name = column.column_path().string();
                    *columns.entry((table, name)).or_default() += column.compressed_size() as u64;
                    in_columns += column.compressed_size() as u64;
                }
            }
            *columns.entry((table, "(filters, indexes, digests, footer)".to_owned())).or_default() +=
                object.size_bytes - in_columns;
            merged_files.push((key, object.size_bytes));
        }
    }
    let rows = total[&(Table::Spans, 1)].0 as f64;
    println!("{} spans, {} entries; {copies} copies of the recording", rows, total[&(Table::Entries, 1)].0);
    let mut sum = 0.0;
    for (step, seconds) in &costs.0 {
        println!("{step:<28} {seconds:6.2} CPU s  {:>10.0} spans/CPU-s", rows / seconds);
        sum += if step.starts_with('0') { 0.0 } else { *seconds };
    }
    println!("{:<28} {sum:6.2} CPU s  {:>10.0} spans/CPU-s", "all but 0", rows / sum);
    for ((table, level), (count, bytes)) in &total {
        println!(
            "{table} level {level}: {count} rows, {bytes} bytes, {:.2} a row, {:.2} a span",
            *bytes as f64 / *count as f64,
            *bytes as f64 / rows
        );
    }
    for table in Table::BOTH {
        let mut sizes: Vec<(&String, u64)> =
            columns.iter().filter(|((of, _), _)| *of == table).map(|((_, name), bytes)| (name, *bytes)).collect();
        sizes.sort_unstable_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let count = total[&(table, 1)].0 as f64;
        let sizes: Vec<String> =
            sizes.iter().map(|(name, bytes)| format!("{name} {:.2}", *bytes as f64 / count)).collect();
        println!("{table}, bytes a row: {}", sizes.join(", "));
    }
    println!("peak memory {} MiB (before merging {before_merge})", peak_mib());
    find(&reader, &merged_files, &recorded).await;
}

/// How a trace is found: requests and time.
async fn find(reader: &Blocks, files: &[(BlockKey, u64)], recorded: &RecordBatch) {
    let ids = copy_of(&recorded.slice(0, 2000), 0);
    let ids = ids.column_by_name("trace_id").unwrap().as_fixed_size_binary().clone();
    let before = cpu();
    let mut found = 0;
    let looked_for = 50;
    for row in 0..looked_for {
        let trace = tracefarm::model::TraceId::from_slice(ids.value(row * 37)).unwrap();
        for (key, size_bytes) in files.iter().filter(|(key, _)| key.table == Table::Spans) {
            found += reader.traces(key, *size_bytes, &[trace]).await.unwrap().num_rows();
        }
    }
    println!(
        "a trace by id: {:.1} CPU ms, {found} spans of {looked_for}",
        (cpu() - before) * 1000.0 / looked_for as f64
    );
}

/// The entries of a batch.
fn entries_of(batch: &RecordBatch) -> RecordBatch {
    let rows = tracefarm::handler::entries(batch, &Rules::default()).expect("entries");
    assert_eq!(rows.schema(), entries::schema());
    let _ = rows.column_by_name("duration").unwrap().as_primitive::<Int64Type>();
    rows
}
