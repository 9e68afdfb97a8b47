use std::collections::BTreeSet;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use proptest::prelude::*;
use proptest::sample::Index;

use super::super::sample::{self, Row};
use super::super::{digest, order, write};
use super::*;
use crate::store::OpenOptions;

/// A farm's store with a reader, for one test.
struct Desk {
    store: Store,
    blocks: Blocks,
    clock: Clock,
}

impl Desk {
    async fn new() -> Self {
        let clock = Clock::simulated("2026-11-22T15:00:00Z".parse().unwrap(), 7);
        let store = Store::open("memory://", &OpenOptions::default(), clock.clone()).await.unwrap();
        Self { blocks: Blocks::new(store.clone(), 1 << 20), store, clock }
    }

    /// Writes the rows of the sample's hour as a level-0 block.
    async fn level0(&self, table: Table, rows: &[Row], shards: u16) -> Option<(BlockKey, u64)> {
        let hours = order::split(table, &sample::batch(table, rows), &|_| shards).unwrap();
        let of_hour = hours.iter().find(|rows| rows.hour == sample::hour())?;
        let bytes = write::level0(table, of_hour, 1).unwrap();
        let block = BlockId::new(self.clock.ulid());
        let key = BlockKey { table, dir: ShardDir::All, hour: sample::hour(), block };
        let object = self.store.create(&Key::Block(key), bytes).await.unwrap();
        Some((key, object.size_bytes))
    }

    async fn merge(&self, shard: Shard, inputs: Vec<(BlockKey, u64)>, change: impl FnOnce(&mut MergeSpec)) -> Merged {
        let mut spec = MergeSpec {
            table: inputs[0].0.table,
            shard,
            hour: sample::hour(),
            merged_from: inputs.iter().map(|(key, _)| key.block).collect(),
            inputs,
            forget: HashSet::new(),
            file_bytes: 1 << 30,
            memory_bytes: 128 << 20,
        };
        change(&mut spec);
        merge(&self.blocks, &self.store, &self.clock, spec).await.unwrap()
    }

    async fn batch(&self, (key, size_bytes): (BlockKey, u64), shard: Option<Shard>) -> RecordBatch {
        let rows = self.blocks.rows(&key, size_bytes, shard).await.unwrap();
        let batches: Vec<RecordBatch> = rows.try_collect().await.unwrap();
        concat_batches(&crate::table::schema(key.table), &batches).unwrap()
    }

    async fn rows(&self, file: (BlockKey, u64), shard: Option<Shard>) -> Vec<Row> {
        sample::rows(file.0.table, &self.batch(file, shard).await)
    }
}

fn file((key, object): &(BlockKey, Object)) -> (BlockKey, u64) {
    (*key, object.size_bytes)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// What a merge must leave of rows of the sample's hour and a shard: the model of rule 3, without what is forgotten.
fn model(table: Table, rows: &[Row], shard: Shard, forget: &HashSet<TraceId>) -> BTreeSet<Row> {
    let own = |row: &Row| {
        let of = match table {
            Table::Spans => Shard::of_trace(row.trace, shard.count()),
            Table::Entries => Shard::of_handler(&sample::handler(row.handler).parse().unwrap(), shard.count()),
        };
        of == shard && sample::placed(row).hour == sample::hour() && !forget.contains(&row.trace)
    };
    sample::model(table, rows).into_iter().filter(own).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn any_partition_and_any_order_of_merges_gives_the_same_rows(
        rows in prop::collection::vec(sample::any_row(), 1..60),
        parts in prop::collection::vec(any::<Index>(), 60),
        order in prop::collection::vec((any::<Index>(), any::<Index>()), 5),
        shards in 1_u16..3,
        forgotten in prop::option::of(0..6_u128),
    ) {
        run(async {
            let desk = Desk::new().await;
            for table in Table::BOTH {
                let mut blocks = Vec::new();
                for part in 0..6 {
                    let own = rows.iter().zip(&parts).filter(|(_, of)| of.index(6) == part).map(|(row, _)| row.clone());
                    blocks.extend(desk.level0(table, &own.collect::<Vec<_>>(), shards).await);
                }
                if blocks.is_empty() {
                    continue;
                }
                for shard in Shard::all(shards) {
                    let forget: HashSet<TraceId> = forgotten.iter().map(|trace| sample::trace(*trace)).collect();
                    let expected = model(table, &rows, shard, &forget);
                    let whole = desk.merge(shard, blocks.clone(), |spec| spec.forget = forget.clone()).await;
                    prop_assert_eq!(whole.files.len(), 1);
                    let merged = desk.rows(file(&whole.files[0]), None).await;
                    prop_assert_eq!(merged.len() as u64, whole.rows_out);
                    prop_assert_eq!(merged.iter().cloned().collect::<BTreeSet<_>>(), expected.clone());
                    prop_assert_eq!(merged.len(), expected.len());
                    // Two by two, in any order.
                    let mut left = blocks.clone();
                    for (a, b) in &order {
                        if left.len() > 1 {
                            let a = left.remove(a.index(left.len()));
                            let b = left.remove(b.index(left.len()));
                            left.push(file(&desk.merge(shard, vec![a, b], |_| {}).await.files[0]));
                        }
                    }
                    let stepwise = desk.merge(shard, left, |spec| spec.forget = forget.clone()).await;
                    let stepwise = file(&stepwise.files[0]);
                    prop_assert_eq!(desk.rows(stepwise, Some(shard)).await, merged);
                    if table == Table::Entries {
                        let read = desk.blocks.digest(&stepwise.0, stepwise.1, Some(shard)).await.unwrap();
                        let made = digest::digest(&desk.batch(stepwise, None).await).unwrap();
                        prop_assert_eq!(&*read, &made);
                    }
                }
            }
            Ok(())
        })?;
    }
}

#[test]
fn files_end_with_traces_and_handlers_and_only_the_last_replaces() {
    run(async {
        let desk = Desk::new().await;
        let shard = Shard::new(0, 1).unwrap();
        let rows: Vec<Row> = (0..60_000)
            .map(|row| Row { handler: (row / 7000 % 9) as u8, ..sample::row(row / 30, row as u64, row as i64) })
            .collect();
        for table in Table::BOTH {
            let inputs = [
                desk.level0(table, &rows[..40_000], 1).await.unwrap(),
                desk.level0(table, &rows[20_000..], 1).await.unwrap(),
            ];
            let merged = desk.merge(shard, inputs.to_vec(), |spec| spec.file_bytes = 20_000).await;
            assert!(merged.files.len() > 2, "{} files", merged.files.len());
            assert_eq!((merged.rows_in, merged.rows_out), (80_000, 60_000));
            let mut seen = BTreeSet::new();
            let mut found = 0;
            for (number, written) in merged.files.iter().enumerate() {
                let rows = desk.rows(file(written), Some(shard)).await;
                found += rows.len();
                let groups: BTreeSet<String> = rows
                    .iter()
                    .map(|row| if table == Table::Spans { row.trace.to_string() } else { row.handler.to_string() })
                    .collect();
                assert!(groups.iter().all(|group| seen.insert(group.clone())), "a trace or handler in two files");
                let meta = desk.blocks.meta(&written.0, written.1.size_bytes).await.unwrap();
                assert_eq!((meta.rows, &*meta.shards), (rows.len() as u64, &[shard][..]));
                if number + 1 == merged.files.len() {
                    assert_eq!(meta.merged_from, inputs.map(|(key, _)| key.block));
                    let others: Vec<BlockId> = merged.files.iter().map(|(key, _)| key.block).collect();
                    assert_eq!(meta.siblings, others[..number]);
                } else {
                    assert!(meta.merged_from.is_empty() && meta.siblings.is_empty());
                }
            }
            assert_eq!(found, 60_000);
        }
    });
}

#[test]
fn a_merge_of_nothing_writes_an_empty_file_that_replaces_its_inputs() {
    run(async {
        let desk = Desk::new().await;
        for table in Table::BOTH {
            let row = sample::row(1, 1, 0);
            let inputs = vec![desk.level0(table, std::slice::from_ref(&row), 1).await.unwrap()];
            let shard = Shard::new(0, 1).unwrap();
            let merged = desk.merge(shard, inputs.clone(), |spec| spec.forget = HashSet::from([row.trace])).await;
            let written = file(&merged.files[0]);
            assert_eq!((merged.files.len(), merged.rows_in, merged.rows_out), (1, 1, 0));
            let meta = desk.blocks.meta(&written.0, written.1).await.unwrap();
            assert_eq!((meta.rows, &*meta.merged_from), (0, &[inputs[0].0.block][..]));
            assert!(desk.rows(written, None).await.is_empty());
            assert!(!desk.blocks.may_hold(&written.0, written.1, row.trace).await.unwrap());
            assert_eq!(desk.blocks.traces(&written.0, written.1, &[row.trace]).await.unwrap().num_rows(), 0);
        }
    });
}

#[test]
fn a_thousand_inputs_are_merged_in_passes_that_replace_what_they_merged() {
    run(async {
        let desk = Desk::new().await;
        let shard = Shard::new(0, 1).unwrap();
        let mut inputs = Vec::new();
        for block in 0..1000_u64 {
            let row = |span| sample::row(u128::from(span % 97), span, span as i64);
            let rows: Vec<Row> = (block * 7..block * 7 + 10).map(row).collect();
            inputs.push(desk.level0(Table::Spans, &rows, 1).await.unwrap());
        }
        let merged = desk.merge(shard, inputs.clone(), |spec| spec.memory_bytes = OUTPUT_BYTES + (32 << 20)).await;
        assert_eq!((merged.rows_in, merged.rows_out), (10_000, 999 * 7 + 10));
        assert!(!merged.passes.is_empty());
        let last = desk.blocks.meta(&merged.files[0].0, merged.files[0].1.size_bytes).await.unwrap();
        let names: BTreeSet<BlockId> = last.merged_from.iter().copied().collect();
        assert!(inputs.iter().all(|(key, _)| names.contains(&key.block)));
        assert!(merged.passes.iter().all(|(key, _)| names.contains(&key.block)));
        for pass in &merged.passes {
            let meta = desk.blocks.meta(&pass.0, pass.1.size_bytes).await.unwrap();
            assert!(!meta.merged_from.is_empty());
        }
    });
}

#[test]
fn passes_come_to_an_end_however_small_files_are() {
    run(async {
        let desk = Desk::new().await;
        let shard = Shard::new(0, 1).unwrap();
        let mut inputs = Vec::new();
        for trace in 0..20_u64 {
            inputs.push(desk.level0(Table::Spans, &[sample::row(u128::from(trace), trace, 1)], 1).await.unwrap());
        }
        let change = |spec: &mut MergeSpec| (spec.memory_bytes, spec.file_bytes) = (OUTPUT_BYTES, 1);
        let merged = desk.merge(shard, inputs, change).await;
        assert_eq!((merged.rows_in, merged.rows_out, merged.passes.is_empty()), (20, 20, false));
        assert_eq!(merged.files.len(), 20, "a file a trace");
    });
}

#[test]
fn a_merge_reads_of_a_block_what_is_of_its_shard() {
    run(async {
        let desk = Desk::new().await;
        let shards = 16;
        let row = |span: u64| Row { trace: sample::trace(span.into()), ..sample::row(0, span, 1) };
        let rows: Vec<Row> = (0..40_000).map(row).collect();
        let many = desk.level0(Table::Spans, &rows, shards).await.unwrap();
        let few = desk.level0(Table::Spans, &rows[..1000], shards).await.unwrap();
        let mut found = 0;
        for shard in Shard::all(shards) {
            let takes = |(key, size_bytes): (BlockKey, u64)| {
                let desk = &desk;
                async move {
                    let footer = desk.blocks.footer(&key, size_bytes, true).await.unwrap();
                    let share = Share::of(&footer, shard);
                    assert!(share.footer.parquet.num_row_groups() <= 1, "a shard's rows lie in one row group");
                    let rows =
                        share.parts.iter().flat_map(|(_, ranges)| ranges).map(ExactSizeIterator::len).sum::<usize>();
                    (share.takes(), rows, footer.parquet.num_row_groups())
                }
            };
            let (of_many, rows, groups) = takes(many).await;
            let (of_few, ..) = takes(few).await;
            assert_eq!(groups, 3);
            found += rows;
            let all = |takes: share::Takes| takes.always + takes.at_least;
            assert!(all(of_few) < INPUT_BYTES + (128 << 10), "{of_few:?}");
            assert!((all(of_few)..INPUT_BYTES + (512 << 10)).contains(&all(of_many)), "{of_many:?}");
        }
        assert_eq!(found, rows.len());
    });
}

#[test]
fn a_pass_takes_no_more_than_that_the_rest_fits() {
    assert_eq!(share::fitting([10; 100].into_iter(), 505), 50);
    assert_eq!(share::fitting([10; 100].into_iter(), 0), FEWEST_INPUTS);
    assert_eq!(of_pass(50, 1000), 50);
    assert_eq!(of_pass(50, 3), 4 + SPARE);
    assert_eq!(of_pass(FEWEST_INPUTS, 1), FEWEST_INPUTS);
}
