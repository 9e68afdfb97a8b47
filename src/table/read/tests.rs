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
                let before = desk.gets();
                let found = blocks.traces(&key, size_bytes, &wanted).await.unwrap();
                // Footer, page index, filters, ids, the rest; object_store joins what lies close together.
                assert!(desk.gets() - before <= 8, "{} requests", desk.gets() - before);
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
