use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;

use super::super::sample::{self, Row};
use super::*;

/// Whether `rows` stand in the table's order, by the definition and not by the code that sorts.
fn in_order(table: Table, rows: &[Row]) -> bool {
    let key = |row: &Row| {
        let server = row.kind == Some(2);
        match table {
            Table::Spans => (String::new(), 0, row.trace, row.start, row.span, server),
            // Descending without overflow: the largest number has no negative.
            Table::Entries => (sample::handler(row.handler), !row.start, row.trace, 0, row.span, server),
        }
    };
    rows.is_sorted_by_key(key)
}

proptest! {
    #[test]
    fn splitting_is_what_a_plain_model_says(rows in prop::collection::vec(sample::any_row(), 0..40), shards in 1_u16..5) {
        for table in Table::BOTH {
            let hours = split(table, &sample::batch(table, &rows), &|_| shards).unwrap();
            prop_assert!(hours.is_sorted_by_key(|hour| hour.hour));
            let mut found = BTreeSet::new();
            for hour in &hours {
                let split = sample::rows(table, &hour.rows);
                prop_assert!(!split.is_empty());
                prop_assert!(hour.shards.is_sorted_by_key(|(shard, _)| shard.index()));
                prop_assert_eq!(hour.shards.last().unwrap().1.end, split.len());
                for (shard, range) in &hour.shards {
                    let of_shard = &split[range.clone()];
                    prop_assert!(!of_shard.is_empty() && in_order(table, of_shard));
                    for row in of_shard {
                        let own = match table {
                            Table::Spans => Shard::of_trace(row.trace, shards),
                            Table::Entries => Shard::of_handler(&sample::handler(row.handler).parse().unwrap(), shards),
                        };
                        prop_assert_eq!(own, *shard);
                        prop_assert_eq!(sample::placed(row).hour, hour.hour);
                        prop_assert!(found.insert(row.clone()), "a row twice");
                    }
                }
            }
            // Rows with one content lie in one hour unless they were received so far apart that one start is possible
            // for one of them only; the sample's are not.
            prop_assert_eq!(found, sample::model(table, &rows));
        }
    }

    #[test]
    fn the_order_of_rows_does_not_depend_on_how_they_came(
        rows in prop::collection::vec(sample::any_row(), 1..30),
        swaps in prop::collection::vec((any::<Index>(), any::<Index>()), 0..30),
        cut in any::<Index>(),
    ) {
        let mut other = rows.clone();
        swaps.iter().for_each(|(a, b)| other.swap(a.index(rows.len()), b.index(rows.len())));
        let (first, second) = other.split_at(cut.index(rows.len()));
        for table in Table::BOTH {
            let whole = union(table, &[sample::batch(table, &rows)]).unwrap();
            let parts = union(table, &[sample::batch(table, first), sample::batch(table, second)]).unwrap();
            prop_assert_eq!(sample::rows(table, &whole), sample::rows(table, &parts));
            let ours = sample::rows(table, &whole);
            prop_assert!(in_order(table, &ours));
            // Of each key one row is current, and the newest or first of them.
            let newest = sample::rows(table, &current(table, &whole, false).unwrap());
            let base = sample::rows(table, &current(table, &whole, true).unwrap());
            let keys: BTreeSet<_> = ours.iter().map(|row| (row.trace, row.span, row.kind == Some(2))).collect();
            prop_assert_eq!((newest.len(), base.len()), (keys.len(), keys.len()));
            for row in ours {
                let same = |other: &&Row| (other.trace, other.span, other.kind == Some(2)) == (row.trace, row.span, row.kind == Some(2));
                prop_assert!(newest.iter().find(same).unwrap().received >= row.received);
                prop_assert!(base.iter().find(same).unwrap().received <= row.received);
            }
        }
        let batch = |rows| sample::batch(Table::Spans, rows);
        prop_assert_eq!(content_hash(&batch(&rows)).unwrap(), content_hash(&batch(&other)).unwrap());
        let mut doubled = rows.clone();
        doubled.extend_from_slice(second);
        prop_assert_eq!(content_hash(&batch(&rows)).unwrap(), content_hash(&batch(&doubled)).unwrap());
    }
}

#[test]
fn the_content_of_a_row_is_its_values_whatever_dictionary_they_stand_in() {
    let plain = sample::row(1, 1, 0);
    let other = Row { name: Some(0), ..sample::row(2, 2, 0) };
    let alone = sample::batch(Table::Spans, std::slice::from_ref(&plain));
    let together = sample::batch(Table::Spans, &[other, plain.clone()]);
    assert_eq!(Canonical::of(&alone).bytes(0), Canonical::of(&together).bytes(1));
    let later = sample::batch(Table::Spans, &[Row { received: plain.received + 5, ..plain.clone() }]);
    assert_eq!(content_hash(&alone).unwrap(), content_hash(&later).unwrap());
    let named = sample::batch(Table::Spans, &[Row { name: None, ..plain }]);
    assert_ne!(content_hash(&alone).unwrap(), content_hash(&named).unwrap());
    // Part of the format: pins are named by it.
    assert_eq!(content_hash(&alone).unwrap(), 7_315_845_084_354_805_074);
}
