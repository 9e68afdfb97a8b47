use std::sync::Arc;

use proptest::prelude::*;
use rstest::rstest;
use ulid::Ulid;

use super::*;
use crate::model::ShardDir;
use crate::table::block::{BlockMeta, FORMAT};

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;

fn hour() -> Hour {
    "2026-11-22T14".parse().unwrap()
}

/// A time after the hour's start.
fn at(second: i64) -> Timestamp {
    hour().start() + jiff::SignedDuration::from_secs(second)
}

fn shard(index: u16) -> Shard {
    Shard::new(index, 2).unwrap()
}

fn block(number: u128, dir: ShardDir, replaces: &[u128], siblings: &[u128], written: i64, size_bytes: u64) -> Block {
    let names = |numbers: &[u128]| numbers.iter().map(|number| BlockId::new(Ulid(*number))).collect();
    let shards = if let ShardDir::One(shard) = dir { vec![shard] } else { vec![shard(0)] };
    let (merged_from, siblings) = (names(replaces), names(siblings));
    let meta = BlockMeta { format: FORMAT, rules: 1, rows: 1, shards, merged_from, siblings, times: None };
    let key = BlockKey { table: Table::Spans, dir, hour: hour(), block: BlockId::new(Ulid(number)) };
    Block { key, size_bytes, modified: at(written), meta: Arc::new(meta) }
}

fn level0(number: u128, written: i64) -> Block {
    block(number, ShardDir::All, &[], &[], written, 1_000)
}

fn level1(number: u128, written: i64, size_bytes: u64) -> Block {
    block(number, ShardDir::One(shard(0)), &[], &[], written, size_bytes)
}

fn facts(now: i64) -> Facts {
    Facts {
        now: at(now),
        grace: Duration::from_secs(600),
        once: false,
        keep_for: Timeline::always(Span(Duration::from_secs(7 * 24 * 3600))),
        forced: BTreeSet::new(),
    }
}

fn plan(blocks: &[Block], facts: &Facts) -> Plan {
    let view = View {
        began: facts.now,
        blocks: blocks.to_vec(),
        damaged: Vec::new(),
        foreign: Vec::new(),
        elsewhere: HashSet::new(),
    };
    let mut plan = Plan::default();
    plan.add(Table::Spans, &view, facts);
    assert!(plan.next.is_none_or(|next| next > facts.now), "what is not due will be");
    plan
}

fn merged(blocks: &[Block], facts: &Facts) -> Vec<(Vec<u128>, Why)> {
    let number = |id: &BlockId| id.to_string().parse::<Ulid>().unwrap().0;
    let merges = plan(blocks, facts).merges;
    merges.into_iter().map(|merge| (merge.inputs.iter().map(number).collect(), merge.why)).collect()
}

#[rstest]
#[case::young(4 * MINUTE, &[])]
#[case::five_minutes(5 * MINUTE, &[1, 2])]
#[case::the_hour_is_over_but_its_last_spans_may_come(HOUR + 14 * MINUTE, &[1, 2])]
#[case::closed(HOUR + 15 * MINUTE, &[1, 2, 3])]
fn an_hour_is_merged_while_it_is_open_and_wholly_when_it_is_over(#[case] now: i64, #[case] inputs: &[u128]) {
    // 3 is a run already.
    let blocks = [level0(1, 0), level0(2, 2 * MINUTE), level1(3, 0, 1_000)];
    let merges = merged(&blocks, &facts(now));
    assert_eq!(merges.into_iter().flat_map(|merge| merge.0).collect::<Vec<_>>(), inputs);
}

#[test]
fn eight_runs_of_a_size_are_merged_into_one_of_the_next() {
    let seven: Vec<Block> = (1..8).map(|number| level1(number, 0, 1_000)).chain([level1(20, 0, 900_000)]).collect();
    assert_eq!(merged(&seven, &facts(MINUTE)), []);
    let eight: Vec<Block> = seven.into_iter().chain([level1(9, 0, 1_100)]).collect();
    assert_eq!(merged(&eight, &facts(MINUTE)), [(vec![1, 2, 3, 4, 5, 6, 7, 9], Why::Open)]);
}

#[test]
fn a_straggler_waits_for_company_or_for_six_hours() {
    let closed = HOUR + 15 * MINUTE;
    let mut blocks = vec![level1(1, closed, 1_000), level0(2, closed + MINUTE), level0(3, closed + MINUTE)];
    assert_eq!(merged(&blocks, &facts(closed + 2 * MINUTE)), []);
    assert_eq!(merged(&blocks, &facts(closed + 6 * HOUR + MINUTE)), [(vec![1, 2, 3], Why::Stragglers)]);
    assert_eq!(
        merged(&blocks, &Facts { once: true, ..facts(closed + 2 * MINUTE) }),
        [(vec![1, 2, 3], Why::Closed)],
        "--once never waits"
    );
    blocks.extend([level0(4, closed + MINUTE), level0(5, closed + MINUTE)]);
    assert_eq!(merged(&blocks, &facts(closed + 2 * MINUTE)), [(vec![1, 2, 3, 4, 5], Why::Stragglers)]);
    blocks[0] = level1(1, closed, 1_000_000);
    assert_eq!(
        merged(&blocks, &facts(closed + 2 * MINUTE)),
        [(vec![2, 3, 4, 5], Why::Stragglers)],
        "a run that is much larger is not written again for them"
    );
    assert_eq!(merged(&blocks, &facts(closed + 7 * HOUR)), [(vec![1, 2, 3, 4, 5], Why::Stragglers)]);
}

#[test]
fn rows_that_two_merges_wrote_do_not_wait() {
    let closed = HOUR + 15 * MINUTE;
    let run =
        |number, replaces: &[u128], written| block(number, ShardDir::One(shard(0)), replaces, &[], written, 1_000);
    let mut blocks = vec![run(5, &[1, 2, 3], closed), run(6, &[3, 4], closed + MINUTE)];
    assert_eq!(merged(&blocks, &facts(closed + 10 * MINUTE)), [], "the other worker may be at it");
    let later = facts(closed + 11 * MINUTE);
    assert_eq!(merged(&blocks, &later), [(vec![5, 6], Why::Stragglers)]);
    assert_eq!(merged(&[blocks[0].clone(), run(6, &[4], closed + MINUTE)], &later), [], "each its own");
    blocks[0].size_bytes = 1_000_000;
    assert_eq!(merged(&blocks, &later), [(vec![5, 6], Why::Stragglers)], "it is in the largest, too");
    let late = [blocks[0].clone(), run(6, &[8, 9], closed + MINUTE), run(7, &[9], closed + MINUTE)];
    assert_eq!(merged(&late, &later), [(vec![6, 7], Why::Stragglers)], "it is not");
}

#[test]
fn what_was_merged_while_the_hour_was_open_is_merged_once_more_when_it_is_over() {
    let blocks = [level1(1, 30 * MINUTE, 1_000_000), level0(2, 50 * MINUTE)];
    assert_eq!(merged(&blocks, &facts(2 * HOUR)), [(vec![1, 2], Why::Closed)]);
}

#[test]
fn a_run_is_left_alone_unless_a_trace_is_to_be_forgotten() {
    let mut last = block(2, ShardDir::One(shard(0)), &[9], &[1], 2 * HOUR, 1_000);
    let blocks = [level1(1, 2 * HOUR, 1_000), last.clone()];
    assert_eq!(merged(&blocks, &facts(3 * HOUR)), []);
    let forced = BTreeSet::from([(Table::Spans, hour(), shard(0))]);
    assert_eq!(merged(&blocks, &Facts { forced, ..facts(3 * HOUR) }), [(vec![1, 2], Why::Forget)]);
    Arc::make_mut(&mut last.meta).siblings.clear();
    assert_eq!(merged(&[blocks[0].clone(), last], &Facts { once: true, ..facts(3 * HOUR) }).len(), 1);
}

#[test]
fn a_past_hour_is_left_to_expire_and_a_newer_programs_to_it() {
    let mut blocks = vec![level0(1, 0), level0(2, 0)];
    assert_eq!(merged(&blocks, &facts(7 * 24 * HOUR)).len(), 1);
    assert_eq!(merged(&blocks, &facts(7 * 24 * HOUR + HOUR)), []);
    Arc::make_mut(&mut blocks[0].meta).format = FORMAT + 1;
    let plan = plan(&blocks, &facts(2 * HOUR));
    assert_eq!((plan.merges.len(), plan.newer), (0, vec![(Table::Spans, hour())]));
}

#[test]
fn a_plan_says_what_it_would_do() {
    let blocks = [level0(1, 0), level0(2, 0), block(3, ShardDir::One(shard(0)), &[1], &[], 0, 2_000)];
    insta::assert_snapshot!(plan(&blocks, &facts(2 * HOUR)), @r"
    compact: 1 merges, 2.9 KiB; 1 blocks to delete
      merge spans 000-of-002 of 2026-11-22T14: 2 blocks, 2.9 KiB: the hour is over
      delete spans/shard=all/hour=2026-11-22T14/00000000000000000000000001.parquet (replaced)
    ");
}

/// Blocks of one shard: (level 1?, written in minutes, size); each replaces none.
fn blocks() -> impl Strategy<Value = Vec<Block>> {
    let block = (any::<bool>(), 0..600_i64, 1..2_000_000_u64);
    prop::collection::vec(block, 0..20).prop_map(|blocks| {
        let block = |(number, (merged, minute, size)): (usize, (bool, i64, u64))| {
            let dir = if merged { ShardDir::One(shard(0)) } else { ShardDir::All };
            super::tests::block(number as u128 + 1, dir, &[], &[], minute * MINUTE, size)
        };
        blocks.into_iter().enumerate().map(block).collect()
    })
}

proptest! {
    /// Whatever is merged, when: the plans come to an end with one run, each merge makes fewer runs, and none merges
    /// what is one run already.
    #[test]
    fn merging_comes_to_rest(mut blocks in blocks(), once in any::<bool>()) {
        let mut now = 600 * MINUTE;
        for round in 0..40_u128 {
            let facts = Facts { once, ..facts(now) };
            let plan = plan(&blocks, &facts);
            prop_assert!(plan.merges.len() <= 1);
            let Some(merge) = plan.merges.into_iter().next() else {
                if now < 2_000 * MINUTE {
                    now += HOUR;
                    continue;
                }
                prop_assert!(is_one_run(&blocks.iter().collect::<Vec<_>>()), "{blocks:#?}");
                return Ok(());
            };
            let size = blocks.iter().filter(|block| merge.inputs.contains(&block.id())).map(|block| block.size_bytes);
            let output = super::tests::block(100 + round, ShardDir::One(shard(0)), &[], &[], 0, size.sum());
            let output = Block { modified: facts.now, ..output };
            prop_assert!(merge.inputs.len() > 1 || blocks.iter().any(|b| b.is_level0() && b.id() == merge.inputs[0]));
            blocks.retain(|block| !merge.inputs.contains(&block.id()));
            blocks.push(output);
        }
        prop_assert!(false, "no end: {:#?}", blocks);
    }
}
