//! A sketch of durations: mergeable, and its quantiles are right within 1 %.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How many bits of a duration beside its leading one tell its bin: 2^6 bins an octave, so that a bin's middle is off
/// by at most 1/128 (0.8 %) of any duration in it.
const BITS: u32 = 6;

/// How long entries took: how many in each bin. A bin is all numbers that agree in their leading seven bits: the
/// log-linear bins of HdrHistogram, with the bounded relative error, and the merging by adding, of a DDSketch (Masson,
/// Rim, Lee: "DDSketch", VLDB 2019). Of integers alone, so that every machine puts a duration into the same bin; there
/// are at most 3,712 bins, so none is ever collapsed, and merging is exact. As JSON: an object, bin → count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Latency {
    bins: BTreeMap<u16, u64>,
}

impl Latency {
    /// Adds `count` entries of a duration in nanoseconds; below zero counts as zero.
    pub fn add(&mut self, duration_ns: i64, count: u64) {
        *self.bins.entry(bin(duration_ns.max(0) as u64)).or_default() += count;
    }

    /// Adds what `other` holds.
    pub fn merge(&mut self, other: &Self) {
        for (bin, count) in &other.bins {
            *self.bins.entry(*bin).or_default() += count;
        }
    }

    /// How many entries it holds.
    pub fn count(&self) -> u64 {
        self.bins.values().sum()
    }

    /// The duration in nanoseconds below which the part `quantile` (0 to 1) of the entries lies; `None` if there is
    /// none.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let last = self.count().checked_sub(1)?;
        let rank = (quantile.clamp(0.0, 1.0) * last as f64) as u64;
        let mut below = 0;
        for (bin, count) in &self.bins {
            below += count;
            if below > rank {
                return Some(middle(*bin));
            }
        }
        None
    }

    /// How many entries took at most each of `bounds` nanoseconds (ascending), cumulative: what histograms are drawn of.
    pub fn at_most(&self, bounds: &[f64]) -> Vec<u64> {
        let mut bins = self.bins.iter().peekable();
        let mut below = 0;
        let up_to = |bound: &f64| {
            while let Some((_, count)) = bins.next_if(|(bin, _)| middle(**bin) <= *bound) {
                below += count;
            }
            below
        };
        bounds.iter().map(up_to).collect()
    }

    /// About how much memory it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bins.len() * 16
    }
}

/// Numbers below 2^(BITS+1) are bins of their own; above, the position of the leading bit and the bits after it.
fn bin(value: u64) -> u16 {
    let octave = (u64::BITS - (value | 1).leading_zeros()).saturating_sub(BITS + 1);
    // At most 58 octaves of 64 bins, and the first of 128: fits 16 bits.
    (u64::from(octave << BITS) + (value >> octave)) as u16
}

/// The middle of a bin.
fn middle(bin: u16) -> f64 {
    let octave = (u32::from(bin) >> BITS).saturating_sub(1);
    let first = u64::from(u32::from(bin) - (octave << BITS)) << octave;
    first as f64 + (((1_u64 << octave) - 1) as f64) / 2.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_quantile_is_right_within_a_hundredth(mut durations in prop::collection::vec(0..i64::MAX, 1..200), part in 0.0..=1.0) {
            let mut latency = Latency::default();
            durations.iter().for_each(|duration| latency.add(*duration, 1));
            durations.sort_unstable();
            let exact = durations[(part * (durations.len() - 1) as f64) as usize] as f64;
            let told = latency.quantile(part).unwrap();
            prop_assert!((told - exact).abs() <= exact * 0.008, "{told} for {exact}");
        }

        #[test]
        fn bins_are_in_order_and_without_gaps(value in 0..u64::MAX) {
            let next = bin(value + 1);
            prop_assert!(next == bin(value) || next == bin(value) + 1);
        }
    }

    #[test]
    fn small_and_odd_durations_have_their_place() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantile(0.5), None);
        [-5, 0, 1, 127, i64::MAX].iter().for_each(|duration| latency.add(*duration, 1));
        assert_eq!(latency.quantile(0.0), Some(0.0));
        assert_eq!(latency.quantile(0.75), Some(127.0));
        assert_eq!(latency.at_most(&[0.0, 1.0, 126.0, 127.0, 1e30]), [2, 3, 3, 4, 5]);
        assert_eq!(bin(u64::MAX), 58 * 64 + 63);
        // Part of the format: digests hold bins by number.
        assert_eq!([bin(1_000), bin(1_000_000), bin(1_000_000_000)], [317, 954, 1591]);
    }
}
