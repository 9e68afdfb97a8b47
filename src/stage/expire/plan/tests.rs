use proptest::prelude::*;

use super::*;
use crate::farm::settings::{Change, Span, Timeline};
use crate::model::{ShardDir, Table};

const HOUR: i64 = 3600;

fn shard(index: u16) -> Shard {
    Shard::new(index, 2).unwrap()
}

fn hour() -> Hour {
    "2026-11-22T14".parse().unwrap()
}

fn block(number: u128, hour: Hour, shards: &[Shard], modified: Timestamp) -> Listed {
    let dir = if let [one] = shards { ShardDir::One(*one) } else { ShardDir::All };
    let block = BlockId::new(ulid::Ulid(number));
    Listed {
        key: BlockKey { table: Table::Entries, dir, hour, block },
        size_bytes: 10,
        modified,
        shards: shards.to_vec(),
    }
}

fn horizon(settings: &Settings, now: Timestamp) -> Horizon<'_> {
    Horizon { settings, grace: Duration::from_secs(600), now, backlog: SignedDuration::ZERO }
}

fn after(hours: i64) -> Timestamp {
    hour().end() + SignedDuration::from_hours(7 * 24 + hours)
}

fn covering(blocks: &[(&Listed, Shard)]) -> Covered {
    let mut covered = Covered::default();
    for (block, shard) in blocks {
        covered.0.entry((block.key.hour, *shard)).or_default().insert(block.key.block);
    }
    covered
}

#[test]
fn an_hour_is_past_when_its_last_nanosecond_is_older_than_keep_for() {
    let settings = Settings::default();
    let nano = SignedDuration::from_nanos(1);
    assert!(!horizon(&settings, after(0) - nano).is_past(hour(), hour().end()));
    assert!(horizon(&settings, after(0)).is_past(hour(), hour().end()));
}

#[test]
fn a_backlog_holds_expiry_up_by_its_age_but_at_most_seven_days() {
    let settings = Settings::default();
    let with = |backlog, now| Horizon { backlog, ..horizon(&settings, now) };
    assert!(!with(SignedDuration::from_hours(1), after(0)).is_past(hour(), hour().end()));
    assert!(with(SignedDuration::from_hours(1), after(1)).is_past(hour(), hour().end()));
    assert!(with(SignedDuration::from_hours(1000), after(168)).is_past(hour(), hour().end()));
    assert!(with(SignedDuration::from_hours(-5), after(0)).is_past(hour(), hour().end()), "an inbox from the future");
}

#[test]
fn rows_without_a_possible_time_expire_by_when_their_block_was_written() {
    let settings = Settings::default();
    let written = hour().end();
    assert!(!horizon(&settings, after(-1)).is_past(Hour::EPOCH, written));
    assert!(horizon(&settings, after(0)).is_past(Hour::EPOCH, written));
    assert!(horizon(&settings, hour().start()).is_near(Hour::EPOCH), "its traces are of any hour");
}

#[test]
fn an_hour_is_near_when_a_neighbour_is_past_within_six_hours() {
    let mut settings = Settings::default();
    assert!(horizon(&settings, after(-6)).is_near(hour()));
    assert!(horizon(&settings, after(-7)).is_near(hour()), "the hour before is past in six hours");
    assert!(!horizon(&settings, after(-8)).is_near(hour()));
    // The next hour is kept for longer: this one's spans still wait for its entries to be covered.
    let days = |days: u64| Span(Duration::from_secs(days * 24 * 3600));
    let changes = vec![Change { from: Hour::EPOCH, value: days(7) }, Change { from: hour().next(), value: days(30) }];
    settings.keep_for = Timeline::try_from(changes).unwrap();
    assert!(horizon(&settings, after(-6)).is_near(hour().next()));
    assert!(!horizon(&settings, after(-6)).is_near(hour().next().next()));
}

#[test]
fn a_block_goes_only_when_past_and_older_than_the_grace() {
    let settings = Settings::default();
    let now = after(0);
    assert!(horizon(&settings, now).may_go(hour(), now - SignedDuration::from_secs(600)));
    assert!(!horizon(&settings, now).may_go(hour(), now - SignedDuration::from_secs(599)), "a straggler");
    assert!(Horizon { grace: Duration::ZERO, ..horizon(&settings, now) }.may_go(hour(), now));
}

#[test]
fn a_near_hour_is_worked_on_until_every_shard_covers_every_block() {
    let settings = Settings::default();
    let near = horizon(&settings, after(-3));
    let both = block(1, hour(), &[shard(0), shard(1)], hour().end());
    let items = |covered: &Covered, horizon: &Horizon<'_>| {
        entries_items(std::slice::from_ref(&both), covered, &BTreeSet::new(), horizon)
    };
    let item = |index| EntriesItem { shard: shard(index), hour: hour() };
    assert_eq!(items(&Covered::default(), &near), [item(0), item(1)]);
    assert_eq!(items(&covering(&[(&both, shard(0))]), &near), [item(1)]);
    let all = covering(&[(&both, shard(0)), (&both, shard(1))]);
    assert_eq!(items(&all, &near), []);
    assert_eq!(items(&all, &horizon(&settings, after(0))), [item(0), item(1)], "now it may go");
    assert_eq!(items(&Covered::default(), &horizon(&settings, after(-48))), []);
    let newer = BTreeSet::from([hour()]);
    assert_eq!(entries_items(&[both], &Covered::default(), &newer, &near), [], "a newer program's hour");
}

#[test]
fn every_shard_weighs_by_its_hours_whatever_its_traffic() {
    let (one, next) = (hour(), hour().next());
    let sized =
        |number, hour, shards: &[Shard], size_bytes| Listed { size_bytes, ..block(number, hour, shards, hour.end()) };
    // A thousand times as much in the first shard; the second hour has three times as much as the first.
    let blocks = [
        sized(1, one, &[shard(0)], 1_000),
        sized(2, next, &[shard(0)], 3_000),
        sized(3, one, &[shard(1)], 1),
        sized(4, next, &[shard(1)], 3),
    ];
    let item = |index, hour| EntriesItem { shard: shard(index), hour };
    let items = [item(0, one), item(0, next), item(1, one), item(1, next)];
    let weights = entries_weights(&items, &blocks);
    assert_eq!(items.map(|item| weights[&item]), [500, 1500, 500, 1500]);
    // A block of both shards counts for each with its part; what is not to be done counts for nothing.
    let weights =
        entries_weights(&[item(0, one), item(1, one)], &[sized(5, one, &[shard(0), shard(1)], 8), blocks[1].clone()]);
    assert_eq!(weights.into_values().collect::<Vec<_>>(), [1000, 1000]);
}

#[test]
fn a_level_0_block_of_entries_goes_only_when_each_of_its_shards_is_covered() {
    let settings = Settings::default();
    let past = horizon(&settings, after(0));
    let both = block(1, hour(), &[shard(0), shard(1)], hour().end());
    let one = block(2, hour(), &[shard(0)], hour().end());
    let blocks = [both.clone(), one.clone()];
    let goes = |covered: &Covered, settled: &[Shard]| -> Vec<BlockId> {
        let settled = settled.iter().copied().collect();
        entries_that_may_go(&blocks, covered, &settled, &past).into_iter().map(|block| block.key.block).collect()
    };
    let other = covering(&[(&both, shard(1))]);
    assert!(goes(&Covered::default(), &[]).is_empty());
    assert_eq!(goes(&Covered::default(), &[shard(0)]), [one.key.block]);
    assert_eq!(goes(&other, &[shard(0)]), [both.key.block, one.key.block]);
    assert!(goes(&other, &[]).is_empty());
}

#[test]
fn spans_wait_for_the_entries_of_their_hour_and_of_its_neighbours() {
    let settings = Settings::default();
    let past = horizon(&settings, after(48));
    let spans = [block(9, hour(), &[shard(0)], hour().end())];
    let none = BTreeSet::new();
    let goes = |entries: &[Listed], covered: &Covered| {
        !spans_that_may_go(&spans, entries, covered, &none, &none, &past).is_empty()
    };
    assert!(goes(&[], &Covered::default()), "all entries are gone");
    for offset in [-1, 0, 1] {
        let entries = [block(1, hour().plus(offset), &[shard(1)], hour().end())];
        assert!(!goes(&entries, &Covered::default()), "{offset}");
        assert!(goes(&entries, &covering(&[(&entries[0], shard(1))])), "{offset}");
    }
    assert!(goes(&[block(1, hour().plus(2), &[shard(1)], hour().end())], &Covered::default()));
    let timeless = [block(1, Hour::EPOCH, &[shard(1)], after(40))];
    assert!(!goes(&timeless, &Covered::default()));
    let unread = BTreeSet::from([hour().next()]);
    assert!(spans_that_may_go(&spans, &[], &Covered::default(), &unread, &none, &past).is_empty());
    assert!(spans_that_may_go(&spans, &[], &Covered::default(), &none, &unread, &past).is_empty());
}

proptest! {
    /// Whatever is listed and covered: nothing young goes, nothing within keep_for goes, nothing uncovered goes, and
    /// what more documents cover only adds to what goes.
    #[test]
    fn nothing_goes_that_must_stay(
        blocks in prop::collection::vec((0..4i32, 0..3usize, -200..200i64, any::<bool>(), any::<bool>()), 0..12),
        now in -200..400i64,
        backlog in 0..300i64,
    ) {
        let settings = Settings::default();
        let horizon = Horizon { backlog: SignedDuration::from_hours(backlog), ..horizon(&settings, after(now)) };
        let mut covered = Covered::default();
        let mut listed = Vec::new();
        for (number, (offset, shards, modified, first, second)) in blocks.into_iter().enumerate() {
            let shards = [vec![shard(0)], vec![shard(1)], vec![shard(0), shard(1)]][shards].clone();
            let modified = after(0) + SignedDuration::from_secs(modified * HOUR);
            let block = block(number as u128, hour().plus(offset), &shards, modified);
            for (shard, covers) in [(shard(0), first), (shard(1), second)] {
                if covers {
                    covered.0.entry((block.key.hour, shard)).or_default().insert(block.key.block);
                }
            }
            listed.push(block);
        }
        let none = BTreeSet::new();
        let gone = entries_that_may_go(&listed, &covered, &BTreeSet::new(), &horizon);
        for block in &gone {
            prop_assert!(covered.covers(block));
            prop_assert!(block.key.hour.end() + SignedDuration::from_hours(7 * 24) <= horizon.now);
            prop_assert!(horizon.now.duration_since(block.modified) >= SignedDuration::from_secs(600));
        }
        let spans = spans_that_may_go(&listed, &listed, &covered, &none, &none, &horizon);
        for hour in spans.keys() {
            for block in listed.iter().filter(|block| (block.key.hour.number() - hour.number()).abs() <= 1) {
                prop_assert!(covered.covers(block));
            }
        }
        // Every block that may go has an item that will look at it.
        let items = entries_items(&listed, &covered, &none, &horizon);
        for block in gone {
            let hour = block.key.hour;
            let looked_at = block.shards.iter().all(|shard| items.contains(&EntriesItem { shard: *shard, hour }));
            prop_assert!(looked_at);
        }
        let settled = |shards: &[Shard]| {
            entries_that_may_go(&listed, &covered, &shards.iter().copied().collect(), &horizon).len()
        };
        prop_assert!(settled(&[shard(0), shard(1)]) >= settled(&[shard(0)]));
        prop_assert!(settled(&[shard(0)]) >= settled(&[]));
    }
}
