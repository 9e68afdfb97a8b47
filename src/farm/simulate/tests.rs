//! What the simulation reckons with, measured on the samples; and that a part stands for the whole.

#![expect(clippy::print_stdout, reason = "these are tests: what was measured is to be seen")]

use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use jiff::Timestamp;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};

use super::*;
use crate::otlp::redact::Redact;
use crate::otlp::{Limits, ObjectDecoder, Progress, SpanRows};
use crate::stage::testing::World;
use crate::stage::{compact as compaction, index, publish as publishing};
use crate::store::Key;
use crate::table::view::{Scope, View};
use crate::table::write::GROUP_ROWS;

/// The samples' folder.
fn inbox() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/inbox")
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Bytes and rows of the blocks that `of` chooses.
fn row_bytes(view: &View, of: impl Fn(&crate::table::view::Block) -> bool) -> f64 {
    let blocks: Vec<_> = view.blocks.iter().filter(|block| of(block)).collect();
    let bytes: u64 = blocks.iter().map(|block| block.size_bytes).sum();
    bytes as f64 / blocks.iter().map(|block| block.meta.rows).sum::<u64>() as f64
}

#[tokio::test(start_paused = true)]
async fn what_is_reckoned_with_is_what_the_samples_come_to() {
    let mut measured: Vec<(&str, f64, f64)> = Vec::new();

    let mut rows = SpanRows::new(Redact::default());
    for path in files(&inbox().join("s3")).iter().filter(|path| path.extension().is_some_and(|e| e == "binpb")) {
        let body = std::fs::read(path).unwrap();
        let mut decoder = ObjectDecoder::new(body.as_slice(), Timestamp::UNIX_EPOCH, Limits::default());
        while decoder.decode(&mut rows, usize::MAX).unwrap() == Progress::Full {}
    }
    let memory = rows.memory_bytes() as f64;
    measured.push(("memory of a span in a batch", memory / rows.finish().num_rows() as f64, farm::MEMORY_BYTES));

    let world = World::new();
    for path in files(&inbox()) {
        let name = path.strip_prefix(inbox()).unwrap().to_str().unwrap().to_owned();
        world.bucket.put(&format!("inbox/{name}"), std::fs::read(&path).unwrap());
    }
    world.sleep(61).await;
    let mut at = world.desk().await;
    at.desk.memory_bytes = 512 << 20;
    index::run(&at.desk, &at.round).await.unwrap();
    world.sleep(2).await;
    compaction::run(&at.desk, &at.round).await.unwrap();
    world.sleep(2).await;
    at.desk.heart.beat(&at.desk.store).await.unwrap();
    for (table, known) in Table::BOTH.into_iter().zip(world::ROW_BYTES) {
        let view = at.desk.view(&Scope::all(table, at.desk.grace)).await.unwrap();
        let names = ["a row as indexed", "a row merged"];
        for level in 0..2 {
            let bytes = row_bytes(&view, |block| block.is_level0() == (level == 0) && block.meta.rows > 1_000);
            measured.push((names[level], bytes, known[level]));
        }
        for level in 0..2 {
            let of_level = view.blocks.iter().filter(|block| block.is_level0() == (level == 0));
            let largest = of_level.max_by_key(|block| block.meta.rows).unwrap();
            let (body, _) = at.desk.store.get(&Key::Block(largest.key)).await.unwrap();
            let parquet = ParquetMetaDataReader::new().parse_and_finish(&body).unwrap();
            let unpacked: i64 = parquet.row_groups().iter().map(|group| group.total_byte_size()).sum();
            let unpacked = unpacked as f64 / largest.meta.rows as f64;
            measured.push(("a row unpacked", unpacked, compact::UNPACKED_BYTES[table as usize]));
        }
        let largest = view.blocks.iter().filter(|block| !block.is_level0()).max_by_key(|b| b.meta.rows).unwrap();
        let (body, _) = at.desk.store.get(&Key::Block(largest.key)).await.unwrap();
        let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
        let parquet = reader.parse_and_finish(&body).unwrap();
        let groups = parquet.num_row_groups() as f64;
        if table == Table::Spans {
            let in_memory = parquet.memory_size() as f64 / groups;
            measured.push(("a row group of a footer in memory", in_memory, compact::GROUP_MEMORY_BYTES));
            let calls = at.desk.blocks.calls(&largest.key, largest.size_bytes).await.unwrap().unwrap();
            let bytes = calls.memory_bytes() as f64 / calls.calls.len() as f64;
            measured.push(("a pair of callers and callees", bytes, publish::CALL_BYTES));
            let footer = u32::from_le_bytes(body[body.len() - 8..body.len() - 4].try_into().unwrap());
            // Within what is fetched in the hope that it is whole: 8 MB and more a row group.
            assert!(f64::from(footer) / groups < (world::ROW_BYTES[0][1] * GROUP_ROWS as f64) / 1024.0);
        }
    }
    publishing::run(&at.desk, &at.round).await.unwrap();
    let (mut bytes, mut handlers, mut text, mut spans) = (0, 0, 0, 0);
    for path in world.bucket.paths("site/handlers/") {
        let body: Bytes = world.bucket.read(&path).unwrap().body;
        bytes += body.len();
        if path.ends_with("traces.json.gz") {
            handlers += 1;
            let mut json = String::new();
            flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut json).unwrap();
            (text, spans) = (text + json.len(), spans + json.matches("\"spanId\"").count());
        }
    }
    measured.push(("a handler's pages", bytes as f64 / f64::from(handlers), publish::PAGE_BYTES));
    measured.push(("a span as JSON", text as f64 / spans as f64, publish::JSON_BYTES));

    for (what, found, known) in &measured {
        println!("{what}: {found:.1}, reckoned with {known}");
    }
    let wrong: Vec<_> = measured.iter().filter(|(_, found, known)| (found / known - 1.0).abs() > 0.1).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Merges by a quarter: which worker has which part of the one hour that is counted is chance. (Where merges take longer
/// than they come, no two farms are alike; so there are shards enough here.)
#[test]
fn a_part_of_a_farm_stands_for_the_whole() {
    let settings = Settings { shards: Timeline::always(25), ..Settings::default() };
    let scenario = Scenario { settings, ..Scenario::new(50, 100_000.0, 10_000) };
    let (whole, part) = (Scenario { played: 50, ..scenario.clone() }, Scenario { played: 20, ..scenario });
    let [whole, part] = [whole, part].map(|scenario| project(&scenario).unwrap());
    let mut wrong = Vec::new();
    for (stage, dollars) in &whole.dollars {
        let ratio = part.dollars[stage] / dollars;
        println!("{stage:?}: ${dollars:.3}, {ratio:.3}");
        let within = if *stage == Stage::Compact { 0.25 } else { 0.1 };
        if (ratio - 1.0).abs() > within && *dollars > whole.total_dollars / 50.0 {
            wrong.push((stage, ratio));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn what_no_farm_can_be_is_refused() {
    let refused = |scenario: Scenario| project(&scenario).unwrap_err().to_string();
    assert!(refused(Scenario::new(0, 1.0, 1)).contains("--instances"));
    assert!(refused(Scenario::new(1, f64::NAN, 1)).contains("--spans-per-second"));
    assert!(refused(Scenario { trace_entries: 20.0, ..Scenario::new(1, 1.0, 1) }).contains("--trace-entries"));
}
