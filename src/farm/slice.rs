//! My contiguous part of a sorted work list.

use std::ops::Range;

/// Rank `rank` of `count` takes the items whose weight lies in `[⌊rank·W/count⌋, ⌊(rank+1)·W/count⌋)` of the total `W`.
/// An item belongs to the slice in which its first unit of weight lies; an item without weight weighs 1.
pub fn slice(weights: &[u64], rank: usize, count: usize) -> Range<usize> {
    let _ = (weights, rank, count);
    todo!()
}
