//! My contiguous part of a sorted work list.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use crate::model::Shard;

/// Rank `rank` of `count` takes the items the middle of whose weight lies in `(rank·W/count, (rank+1)·W/count]` of the
/// total `W`; an item without weight weighs 1.
///
/// So the slices of all ranks are disjoint, follow on each other and hold every item; and each weighs at most its share
/// plus half of the items at its two ends. A rank that is none of `count` has nothing.
pub fn slice(weights: &[u64], rank: usize, count: usize) -> Range<usize> {
    if rank >= count {
        return 0..0;
    }
    slices(weights, count).swap_remove(rank)
}

/// Whose of `count` workers the item at `position` of an endless list is, whatever else there is to do.
///
/// The list is dealt out in turns of `count` items, of which each worker has one; who begins a turn is chance, and the
/// same chance for everybody. So nobody needs to have listed what the others have, two listings never disagree, and what
/// stands at regular distances (a heavy shard, in each hour) goes round.
pub fn deal(position: u64, count: usize) -> usize {
    let count = count.max(1) as u64;
    let first = xxh3_64(&(position / count).to_le_bytes()) % count;
    ((position % count + first) % count) as usize
}

/// Whose of `count` workers a part of the blocks is: `shard` in an hour, or in another measure of time, counted from
/// anywhere ([`deal`]).
pub fn deal_part(time: i64, shard: Shard, count: usize) -> usize {
    let position = time * i64::from(shard.count()) + i64::from(shard.index());
    deal(position as u64, count)
}

/// The slices of all ranks, in order: one pass over the list for all of them.
fn slices(weights: &[u64], count: usize) -> Vec<Range<usize>> {
    let weigh = |weight: &u64| u128::from((*weight).max(1));
    let total: u128 = weights.iter().map(weigh).sum();
    let (mut slices, mut before, mut next) = (Vec::with_capacity(count), 0, 0);
    for rank in 0..count {
        // Twice 2^64 items of 2^64 each, times a count below 2^64, could exceed 128 bits; any list that fits memory and
        // any farm do not: the products stay below 2 × 2^39 items × 2^64 × 2^24 workers.
        let until = 2 * (rank as u128 + 1) * total;
        let first = next;
        // The last item's middle lies in the last slice: no item is left.
        while let Some(weight) = weights.get(next)
            && (2 * before + weigh(weight)) * count as u128 <= until
        {
            before += weigh(weight);
            next += 1;
        }
        slices.push(first..next);
    }
    slices
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn five_workers_and_ten_thousand_items() {
        let weights = vec![1; 10_000];
        assert_eq!(slice(&weights, 1, 5), 2_000..4_000);
        assert_eq!(slice(&weights, 0, 1), 0..10_000);
        assert_eq!(slice(&weights, 5, 5), 0..0);
        assert_eq!(slice(&weights, 0, 0), 0..0);
        assert_eq!(slice(&[], 0, 3), 0..0);
    }

    #[test]
    fn an_item_belongs_where_its_middle_lies() {
        // W = 12: the slices end at 4, 8 and 12, and the middles lie at 5, 10.5 and 11.5.
        let weights = [10, 1, 1];
        assert_eq!([0, 1, 2].map(|rank| slice(&weights, rank, 3)), [0..0, 0..1, 1..3]);
        // Four of 4 and four of 1 among four: nobody has two of the large ones.
        let weights = [1, 4, 4, 4, 1, 4, 1, 1];
        assert_eq!([0, 1, 2, 3].map(|rank| slice(&weights, rank, 4)), [0..2, 2..3, 3..5, 5..8]);
        assert_eq!(slice(&[0, 0, 0, 0], 1, 2), 2..4, "no weight weighs 1");
        assert_eq!([0, 1, 2, 3].map(|rank| slice(&[1], rank, 4).len()), [0, 1, 0, 0], "one item is in the middle");
        assert_eq!(slice(&[u64::MAX, u64::MAX, u64::MAX], 1, 3), 1..2);
    }

    #[test]
    fn every_turn_is_dealt_to_all_and_a_heavy_shard_goes_round() {
        for count in [1, 3, 16, 500] {
            for turn in 0..20 {
                let mut dealt: Vec<usize> = (0..count).map(|n| deal((turn * count + n) as u64, count)).collect();
                dealt.sort_unstable();
                assert_eq!(dealt, (0..count).collect::<Vec<_>>());
            }
        }
        assert_eq!(deal(7, 0), 0);
        // The first of 16 shards, in each hour of 50 days, among four.
        let mut heavy = [0; 4];
        (0..1200).for_each(|hour| heavy[deal(hour * 16, 4)] += 1);
        assert!(heavy.iter().all(|count| (240..360).contains(count)), "{heavy:?}");
    }

    proptest! {
        #[test]
        fn slices_are_contiguous_complete_and_balanced(
            weights in prop::collection::vec(prop_oneof![0..5u64, 0..1_000_000u64, any::<u64>()], 0..200),
            count in 1..40usize,
        ) {
            let weigh = |range: Range<usize>| weights[range].iter().map(|w| u128::from((*w).max(1))).sum::<u128>();
            let share = weigh(0..weights.len()) / count as u128;
            let mut next = 0;
            for rank in 0..count {
                let mine = slice(&weights, rank, count);
                prop_assert_eq!(mine.start.min(mine.end), mine.start);
                if !mine.is_empty() {
                    prop_assert_eq!(mine.start, next);
                    next = mine.end;
                }
                let heaviest = weights[mine.clone()].iter().max().copied().unwrap_or(0);
                prop_assert!(weigh(mine) <= share + 1 + u128::from(heaviest.max(1)));
            }
            prop_assert_eq!(next, weights.len());
        }
    }
}
