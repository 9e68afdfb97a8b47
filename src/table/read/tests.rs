use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;

use super::super::block::{BlockErrorKind, group_range};
use super::super::merge::{MergeSpec, merge};
use super::super::sample::{self, Row};
use super::super::{digest, order, write};
use super::*;
use crate::clock::Clock;
use crate::error::find;
use crate::model::{ShardDir, Table};
use crate::store::meter::Request;
use crate::store::{Key, OpenOptions};

struct Desk {
    store: Store,
    blocks: Blocks,
    clock: Clock,
}

impl Desk {
    async fn new() -> Self {
        let clock = Clock::simulated("2026-11-22T15:00:00Z".parse().unwrap(), 7);
        let store = Store::open("memory://", &OpenOptions::default(), clock.clone()).await.unwrap();
        Self { blocks: Blocks::new(store.clone(), 8 << 20), store, clock }
    }

    async fn put(&self, table: Table, dir: ShardDir, bytes: bytes::Bytes) -> (BlockKey, u64) {
        let key = BlockKey { table, dir, hour: sample::hour(), block: BlockId::new(self.clock.ulid()) };
        let object = self.store.create(&Key::Block(key), bytes).await.unwrap();
        (key, object.size_bytes)
    }

    async fn level0(&self, table: Table, rows: &[Row], shards: u16) -> (BlockKey, u64) {
        let hours = order::split(table, &sample::batch(table, rows), &|_| shards).unwrap();
        assert_eq!(hours.len(), 1);
        self.put(table, ShardDir::All, write::level0(table, &hours[0], 1).unwrap()).await
    }

    async fn level1(&self, input: (BlockKey, u64), shard: Shard) -> (BlockKey, u64) {
        let spec = MergeSpec {
            table: input.0.table,
            shard,
            hour: sample::hour(),
            inputs: vec![input],
            merged_from: vec![input.0.block],
            forget: HashSet::new(),
            file_bytes: 1 << 30,
            memory_bytes: 128 << 20,
        };
        let merged = merge(&self.blocks, &self.store, &self.clock, spec).await.unwrap();
        (merged.files[0].0, merged.files[0].1.size_bytes)
    }

    /// The same store without anything kept.
    fn fresh(&self) -> Blocks {
        Blocks::new(self.store.clone(), 8 << 20)
    }

    fn gets(&self) -> u64 {
        self.store.meter().snapshot().of(Request::Get).requests
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Many traces of ten spans, of nine handlers.
fn many() -> Vec<Row> {
    let row = |row: u64| Row {
        handler: (row % 9) as u8,
        trace: sample::trace(u128::from(row / 10) + 1),
        ..sample::row(0, row, row as i64)
    };
    (0..60_000).map(row).collect()
}

#[test]
fn a_trace_is_found_by_a_few_requests_and_exactly() {
    run(async {
        let desk = Desk::new().await;
        let rows = many();
        let shard = Shard::new(1, 2).unwrap();
        for table in Table::BOTH {
            let level0 = desk.level0(table, &rows, 2).await;
            let level1 = desk.level1(level0, shard).await;
            for (key, size_bytes) in [level0, level1] {
                let own = |row: &&Row| {
                    key.dir == ShardDir::All
                        || match table {
                            Table::Spans => Shard::of_trace(row.trace, 2) == shard,
                            Table::Entries => {
                                Shard::of_handler(&sample::handler(row.handler).parse().unwrap(), 2) == shard
                            }
                        }
                };
                let rows: Vec<&Row> = rows.iter().filter(own).collect();
                let wanted = [rows[0].trace, rows[rows.len() / 2].trace, sample::trace(99_999)];
                let blocks = desk.fresh();
                // There is no room to take it whole.
                let tight = Blocks::new(desk.store.clone(), 16 << 10);
                let mut all_found = Vec::new();
                // Footer, page index, filters, ids, the rest; object_store joins what lies close together.
                for (blocks, most) in
                    [(&tight, 8), (&blocks, if is_taken_whole(key.dir, size_bytes, 3, 8 << 20) { 1 } else { 8 })]
                {
                    let before = desk.gets();
                    all_found.push(blocks.traces(&key, size_bytes, &wanted).await.unwrap());
                    assert!(desk.gets() - before <= most, "{} requests", desk.gets() - before);
                }
                assert_eq!(all_found[0], all_found[1]);
                let found = all_found.remove(0);
                let expected: BTreeSet<Row> = rows
                    .iter()
                    .filter(|row| wanted.contains(&row.trace))
                    .map(|row| Row { handler: if table == Table::Spans { 0 } else { row.handler }, ..(*row).clone() })
                    .collect();
                let found = sample::rows(table, &found);
                assert_eq!(found.len(), expected.len());
                assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
                for trace in wanted {
                    let there = rows.iter().any(|row| row.trace == trace);
                    assert_eq!(blocks.may_hold(&key, size_bytes, trace).await.unwrap(), there, "{key:?} {trace}");
                }
                let all: Vec<RecordBatch> =
                    blocks.rows(&key, size_bytes, None).await.unwrap().try_collect().await.unwrap();
                assert_eq!(all.iter().map(RecordBatch::num_rows).sum::<usize>(), rows.len());
            }
        }
    });
}

#[test]
fn what_is_small_for_what_is_looked_for_in_it_is_taken_whole_if_there_is_room() {
    let (level0, level1) = (ShardDir::All, ShardDir::One(Shard::new(0, 1).unwrap()));
    for (dir, size_bytes, values, whole) in [
        (level0, SMALL_BYTES, 0, true),
        (level1, 64 << 10, 1, true),
        (level1, SMALL_BYTES, 15, false),
        (level1, SMALL_BYTES, 16, true),
        (level0, SMALL_BYTES + 1, 4, false),
        (level0, SMALL_BYTES + 1, 5, true),
        (level1, SMALL_BYTES + 1, 1_000, false),
        (level0, 8 << 20, 31, false),
        (level0, 8 << 20, 32, true),
        (level0, (64 << 20) + 1, 1_000, false),
    ] {
        assert_eq!(is_taken_whole(dir, size_bytes, values, 64 << 20), whole, "{dir:?} {size_bytes} {values}");
    }
    assert!(!is_taken_whole(level0, 2_000, 5, 1_999));
}

#[test]
fn whoever_looks_into_whole_blocks_at_once_waits_for_room_and_keeps_their_indexes_for_merges() {
    run(async {
        let desk = Desk::new().await;
        let rows = many();
        let (key, size_bytes) = desk.level0(Table::Spans, &rows, 3).await;
        let traces: Vec<TraceId> = rows.iter().step_by(700).map(|row| row.trace).collect();
        // There is room for one at a time.
        let blocks = Blocks::new(desk.store.clone(), size_bytes as usize + 1_024);
        blocks.meta(&key, size_bytes).await.unwrap();
        let before = desk.gets();
        let found = (0..9).map(|_| blocks.traces(&key, size_bytes, &traces));
        for found in futures::future::join_all(found).await {
            assert_eq!(found.unwrap().num_rows(), traces.len() * 10);
        }
        assert_eq!(desk.gets() - before, 9);
        let before = desk.gets();
        assert!(blocks.footer(&key, size_bytes, true).await.unwrap().indexed);
        assert_eq!(desk.gets(), before);
    });
}

#[test]
fn a_block_that_is_not_as_long_as_it_was_listed_is_damaged() {
    run(async {
        let desk = Desk::new().await;
        let (key, size_bytes) = desk.level0(Table::Spans, &many()[..100], 1).await;
        for size_bytes in [size_bytes + 1, size_bytes - 1] {
            let report = desk.fresh().traces(&key, size_bytes, &[sample::trace(1)]).await.unwrap_err();
            assert_eq!(find::<BlockError>(&report).unwrap().kind, BlockErrorKind::Corrupt);
        }
    });
}

#[test]
fn a_block_as_indexed_says_when_its_spans_began_and_ended() {
    run(async {
        let desk = Desk::new().await;
        let rows: Vec<Row> = many()[..100].to_vec();
        let times = |table| {
            let (desk, rows) = (&desk, &rows);
            async move {
                let (key, size_bytes) = desk.level0(table, rows, 1).await;
                desk.blocks.meta(&key, size_bytes).await.unwrap().times
            }
        };
        let of_rows = sample::batch(Table::Spans, &rows);
        let starts: &arrow::array::TimestampNanosecondArray = of_rows.column_by_name("start").unwrap().as_primitive();
        let durations: &arrow::array::Int64Array = of_rows.column_by_name("duration").unwrap().as_primitive();
        let ends = starts.values().iter().zip(durations.values()).map(|(start, duration)| start + duration);
        let first = starts.values().iter().min().unwrap();
        assert_eq!(times(Table::Spans).await, Some((*first, ends.max().unwrap())));
        assert_eq!(times(Table::Entries).await, None);
    });
}

#[test]
fn handlers_and_shards_are_read_without_the_others() {
    run(async {
        let desk = Desk::new().await;
        let rows = many();
        // Many small shards share a row group.
        let block = desk.level0(Table::Entries, &rows, 50).await;
        let handler: HandlerId = sample::handler(4).parse().unwrap();
        let of_handler = rows.iter().filter(|row| row.handler == 4).count();
        let found = desk.blocks.handlers(&block.0, block.1, std::slice::from_ref(&handler)).await.unwrap();
        let found = sample::rows(Table::Entries, &found);
        assert_eq!(found.len(), of_handler);
        assert!(found.iter().all(|row| row.handler == 4) && found.is_sorted_by(|a, b| a.start > b.start));
        let shard = Shard::of_handler(&handler, 50);
        let own: Vec<RecordBatch> =
            desk.blocks.rows(&block.0, block.1, Some(shard)).await.unwrap().try_collect().await.unwrap();
        let handlers = |digest: &Digest| digest.handlers.keys().cloned().collect::<Vec<_>>();
        let own = concat_batches(&crate::table::entries::schema(), &own).unwrap();
        let of_shard = desk.blocks.digest(&block.0, block.1, Some(shard)).await.unwrap();
        assert_eq!(*of_shard, digest::digest(&own).unwrap());
        assert!(handlers(&of_shard).contains(&handler));
        let whole = desk.blocks.digest(&block.0, block.1, None).await.unwrap();
        assert_eq!(whole.handlers.len(), 9);
        let before = desk.gets();
        assert!(Arc::ptr_eq(&whole, &desk.blocks.digest(&block.0, block.1, None).await.unwrap()));
        assert_eq!(desk.gets(), before, "kept");
    });
}

#[test]
fn a_block_of_a_newer_format_has_a_footer_but_no_rows_for_us() {
    run(async {
        let desk = Desk::new().await;
        let hours = order::split(Table::Spans, &sample::batch(Table::Spans, &many()), &|_| 1).unwrap();
        let bytes = write::level0(Table::Spans, &hours[0], 1).unwrap();
        let text = std::str::from_utf8(b"\"format\":1").unwrap().as_bytes();
        let at = bytes.windows(text.len()).rposition(|window| window == text).unwrap();
        let mut newer = bytes.to_vec();
        newer[at + text.len() - 1] = b'9';
        let (key, size_bytes) = desk.put(Table::Spans, ShardDir::All, newer.into()).await;
        assert_eq!(desk.blocks.meta(&key, size_bytes).await.unwrap().format, 9);
        let error = desk.blocks.rows(&key, size_bytes, None).await.err().unwrap();
        assert_eq!(find::<BlockError>(&error).unwrap().kind, BlockErrorKind::TooNew);
    });
}

/// Everything that reads a block; the first error.
async fn read(blocks: &Blocks, key: &BlockKey, size_bytes: u64) -> Result<()> {
    let trace = sample::trace(17);
    blocks.meta(key, size_bytes).await?;
    blocks.may_hold(key, size_bytes, trace).await?;
    blocks.traces(key, size_bytes, &[trace]).await?;
    match key.table {
        Table::Spans => drop(blocks.calls(key, size_bytes).await?),
        Table::Entries => {
            blocks.digest(key, size_bytes, None).await?;
            blocks.handlers(key, size_bytes, &[sample::handler(1).parse().unwrap()]).await?;
        }
    }
    blocks.rows(key, size_bytes, None).await?.try_for_each(|_| async { Ok(()) }).await
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn damage_is_told_and_never_panics(at in any::<Index>(), bytes in prop::collection::vec(any::<u8>(), 1..40), cut in any::<bool>()) {
        run(async {
            let desk = Desk::new().await;
            let rows = &many()[..3000];
            for table in Table::BOTH {
                let level0 = desk.level0(table, rows, 1).await;
                let level1 = desk.level1(level0, Shard::new(0, 1).unwrap()).await;
                for (key, _) in [level0, level1] {
                    let (body, _) = desk.store.get(&Key::Block(key)).await.unwrap();
                    let mut body = body.to_vec();
                    let at = at.index(body.len());
                    // Its first four bytes are Parquet's magic, which nobody needs.
                    let mut in_rows = false;
                    if cut {
                        body.truncate(at);
                    } else {
                        let footer = desk.blocks.footer(&key, body.len() as u64, false).await.unwrap();
                        let rows = group_range(footer.parquet.row_group(0));
                        let end = (at + bytes.len()).min(body.len());
                        in_rows = body[at..end] != bytes[..end - at] && rows.contains(&(at as u64)) && rows.contains(&(end as u64));
                        body.splice(at..end, bytes[..end - at].iter().copied());
                    }
                    let damaged = desk.put(table, key.dir, body.into()).await;
                    if let Err(error) = read(&desk.fresh(), &damaged.0, damaged.1).await {
                        let found = find::<BlockError>(&error);
                        prop_assert!(found.is_some_and(|found| found.kind == BlockErrorKind::Corrupt || !cut), "{error}");
                    } else {
                        prop_assert!(!cut && !in_rows, "a block damaged at byte {at} was read");
                    }
                }
            }
            Ok(())
        })?;
    }
}

#[test]
fn an_object_that_is_gone_is_no_damage() {
    run(async {
        let desk = Desk::new().await;
        let (key, size_bytes) = desk.level0(Table::Spans, &many()[..10], 1).await;
        desk.store.delete(&Key::Block(key)).await.unwrap();
        let error = read(&desk.fresh(), &key, size_bytes).await.unwrap_err();
        assert!(crate::error::is_not_found(&error) && find::<BlockError>(&error).is_none());
    });
}
