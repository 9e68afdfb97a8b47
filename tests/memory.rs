//! A merge stays within its memory: every byte that is allocated is counted.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]
#![expect(unsafe_code, reason = "an allocator that counts is one")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use arrow::array::{ArrayRef, AsArray, FixedSizeBinaryArray, RecordBatch};
use arrow::compute::concat_batches;
use tracefarm::clock::Clock;
use tracefarm::model::{BlockId, Shard, ShardDir, Table};
use tracefarm::otlp::redact::Redact;
use tracefarm::otlp::{Limits, ObjectDecoder, Progress, SpanRows};
use tracefarm::store::layout::BlockKey;
use tracefarm::store::{Key, OpenOptions, Store};
use tracefarm::table::merge::{MergeSpec, merge};
use tracefarm::table::order::split;
use tracefarm::table::read::Blocks;
use tracefarm::table::write::level0;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The system's allocator, counted.
struct Counted;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counted = Counted;

// SAFETY: all is done by the system's allocator, with what it was asked for.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The samples' spans of one hour.
fn sample() -> RecordBatch {
    let mut rows = SpanRows::new(Redact::default());
    let inbox = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/inbox/s3");
    for path in files(&inbox).iter().filter(|path| path.extension().is_some_and(|e| e == "binpb")) {
        let received = "2026-11-22T02:00:00Z".parse().unwrap();
        let mut decoder = ObjectDecoder::new(std::fs::File::open(path).unwrap(), received, Limits::default());
        while decoder.decode(&mut rows, usize::MAX).unwrap() == Progress::Full {}
    }
    let hours = split(Table::Spans, &rows.finish(), &|_| 1).unwrap();
    hours.into_iter().map(|hour| hour.rows).max_by_key(RecordBatch::num_rows).unwrap()
}

/// The same rows of other traces.
fn copy_of(rows: &RecordBatch, copy: u64) -> RecordBatch {
    let columns = rows.schema_ref().fields().iter().zip(rows.columns()).map(|(field, column)| -> ArrayRef {
        if field.name() != "trace_id" {
            return column.clone();
        }
        let mut bytes = column.as_fixed_size_binary().value_data().to_vec();
        for word in bytes.chunks_exact_mut(8) {
            word.copy_from_slice(&xxh3_64_with_seed(word, copy).to_le_bytes());
        }
        Arc::new(FixedSizeBinaryArray::try_new(16, bytes.into(), None).unwrap())
    });
    RecordBatch::try_new(rows.schema(), columns.collect()).unwrap()
}

/// What a merge of one of so many shards takes: of so many blocks of so many rows in all, in so much memory.
async fn merges(blocks: u64, rows: usize, shards: u16, memory_bytes: usize) {
    let clock = Clock::system(jiff::SignedDuration::ZERO);
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap(), &OpenOptions::default(), clock.clone()).await.unwrap();
    let sample = sample();
    let shard = Shard::new(shards / 2, shards).unwrap();
    let (mut inputs, mut expected, mut read) = (Vec::new(), 0, 0);
    for block in 0..blocks {
        let parts = (0..rows.div_ceil(sample.num_rows()) as u64).map(|part| copy_of(&sample, block * 100 + part));
        let batch = concat_batches(&sample.schema(), &parts.collect::<Vec<_>>()).unwrap().slice(0, rows);
        let hours = split(Table::Spans, &batch, &|_| shards).unwrap();
        let [hour] = hours.as_slice() else { panic!("{} hours", hours.len()) };
        expected += hour.shards.iter().filter(|(of, _)| *of == shard).map(|(_, range)| range.len() as u64).sum::<u64>();
        let key =
            BlockKey { table: Table::Spans, dir: ShardDir::All, hour: hour.hour, block: BlockId::new(clock.ulid()) };
        let object = store.create(&Key::Block(key), level0(Table::Spans, hour, 1).unwrap()).await.unwrap();
        inputs.push((key, object.size_bytes));
        read += object.size_bytes;
    }
    drop(sample);
    let spec = MergeSpec {
        table: Table::Spans,
        shard,
        hour: inputs[0].0.hour,
        merged_from: inputs.iter().map(|(key, _)| key.block).collect(),
        inputs,
        forget: HashSet::new(),
        file_bytes: 1 << 30,
        memory_bytes,
    };
    // A cache that holds little is no part of what is measured.
    let reader = Blocks::new(store.clone(), 1 << 20);
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let merged = merge(&reader, &store, &clock, spec).await.unwrap();
    let took = PEAK.load(Relaxed) - before;
    println!(
        "{blocks} blocks of {rows} rows, {} KiB, {shards} shards: {:.1} MiB of {}, {} passes",
        (read / blocks) >> 10,
        took as f64 / f64::from(1 << 20),
        memory_bytes >> 20,
        merged.passes.len()
    );
    assert_eq!((merged.rows_in, merged.rows_out), (expected, expected));
    assert!(!merged.passes.is_empty(), "all inputs fit at once: nothing is shown");
    assert!(took < memory_bytes, "{took} bytes of {memory_bytes}");
}

/// One after the other: the count is of the whole process.
#[tokio::test]
async fn a_merge_of_many_inputs_stays_within_its_memory() {
    merges(200, 1_600, 16, 96 << 20).await;
    merges(40, 24_000, 16, 80 << 20).await;
    merges(24, 40_000, 2, 128 << 20).await;
}
