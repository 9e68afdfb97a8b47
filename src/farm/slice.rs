//! My contiguous part of a sorted work list.

use std::ops::Range;

/// Rank `rank` of `count` takes the items whose weight lies in `[⌊rank·W/count⌋, ⌊(rank+1)·W/count⌋)` of the total `W`.
/// An item belongs to the slice in which its first unit of weight lies; an item without weight weighs 1.
///
/// So the slices of all ranks are disjoint, follow on each other and hold every item; and each weighs at most its share
/// plus its heaviest item. A rank that is none of `count` has nothing.
pub fn slice(weights: &[u64], rank: usize, count: usize) -> Range<usize> {
    if rank >= count {
        return 0..0;
    }
    let weigh = |weight: &u64| u128::from((*weight).max(1));
    let total: u128 = weights.iter().map(weigh).sum();
    // At most 2^64 items of 2^64 each, times a count below 2^64, could exceed 128 bits; any list that fits memory and
    // any farm do not: the product stays below 2^40 items × 2^64 × 2^24 workers.
    let bound = |rank: usize| rank as u128 * total / count as u128;
    let (from, until) = (bound(rank), bound(rank + 1));

    let mut at = 0;
    let starts = weights.iter().map(|weight| {
        let start = at;
        at += weigh(weight);
        start
    });
    // Starts ascend strictly, so the items of the slice stand together.
    let (mut first, mut end) = (0, 0);
    for start in starts.take_while(|start| *start < until) {
        first += usize::from(start < from);
        end += 1;
    }
    first..end
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
    fn an_item_belongs_where_its_first_unit_lies() {
        // W = 12: the slices begin at 0, 4 and 8.
        let weights = [10, 1, 1];
        assert_eq!([0, 1, 2].map(|rank| slice(&weights, rank, 3)), [0..1, 1..1, 1..3]);
        assert_eq!(slice(&[0, 0, 0, 0], 1, 2), 2..4, "no weight weighs 1");
        assert_eq!(slice(&[u64::MAX, u64::MAX, u64::MAX], 1, 3), 1..2);
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
