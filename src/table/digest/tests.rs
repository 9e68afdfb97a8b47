use arrow::array::RecordBatch;
use proptest::prelude::*;

use super::super::order;
use super::super::sample::{self, Row};
use super::*;
use crate::model::Table;

fn sorted(rows: &[Row]) -> RecordBatch {
    order::union(Table::Entries, &[sample::batch(Table::Entries, rows)]).unwrap()
}

/// Rows without revisions: merging digests of blocks cannot tell them.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec(sample::any_row(), 0..60).prop_map(|mut rows| {
        for (number, row) in rows.iter_mut().enumerate() {
            row.span = crate::model::SpanId((number as u64).to_be_bytes());
        }
        rows
    })
}

proptest! {
    #[test]
    fn digests_of_parts_merge_to_the_digest_of_all(rows in rows(), cuts in (0.0..1.0, 0.0..1.0)) {
        let at = |part: f64| (part * rows.len() as f64) as usize;
        let (a, b) = (at(cuts.0).min(at(cuts.1)), at(cuts.0).max(at(cuts.1)));
        let parts = [&rows[..a], &rows[a..b], &rows[b..]].map(|part| digest(&sorted(part)).unwrap());
        let whole = digest(&sorted(&rows)).unwrap();
        let merged = |order: [usize; 3]| {
            let mut merged = Digest::default();
            order.iter().for_each(|part| merged.merge(&parts[*part]));
            merged
        };
        prop_assert_eq!(&merged([0, 1, 2]), &whole);
        prop_assert_eq!(&merged([2, 0, 1]), &whole);
        let mut right = parts[1].clone();
        right.merge(&parts[2]);
        let mut grouped = parts[0].clone();
        grouped.merge(&right);
        prop_assert_eq!(&grouped, &whole);
        // As it stands in a block.
        let bytes = crate::table::appendix::write(&whole).unwrap();
        prop_assert_eq!(&crate::table::appendix::read::<Digest>(&bytes).unwrap(), &whole);
        // In whatever batches a run comes.
        let mut builder = Builder::default();
        let run = sorted(&rows);
        (0..run.num_rows()).for_each(|row| builder.add(&run.slice(row, 1)).unwrap());
        prop_assert_eq!(builder.finish().unwrap(), whole);
    }

    #[test]
    fn a_digest_counts_what_a_plain_loop_counts(rows in rows()) {
        let whole = digest(&sorted(&rows)).unwrap();
        let model = sample::model(Table::Entries, &rows);
        for (id, handler) in &whole.handlers {
            let own: Vec<&Row> = model.iter().filter(|row| sample::handler(row.handler) == id.as_str()).collect();
            prop_assert_eq!(handler.count, own.len() as u64);
            prop_assert_eq!(handler.errors, own.iter().filter(|row| row.status == Some(2)).count() as u64);
            prop_assert_eq!(handler.latency.count(), handler.count);
            prop_assert_eq!(handler.minutes.values().map(|minute| minute.count).sum::<u64>(), handler.count);
            prop_assert_eq!(handler.hours.values().map(|hour| hour.count).sum::<u64>(), handler.count);
            prop_assert_eq!(handler.error_types.values().map(|errors| errors.count).sum::<u64>(), handler.errors);
            let traces: std::collections::BTreeSet<String> = own.iter().map(|row| row.trace.to_string()).collect();
            prop_assert_eq!(handler.newest.len(), traces.len());
            prop_assert!(handler.newest.is_sorted_by(|a, b| a > b));
            prop_assert_eq!(handler.newest[0].time_ns, handler.last_ns);
            let paths: u64 = handler.paths.iter().map(|path| path.count).sum();
            prop_assert_eq!(paths, if id.is_not_found() { handler.count } else { 0 });
        }
        prop_assert_eq!(whole.handlers.values().map(|handler| handler.count).sum::<u64>(), model.len() as u64);
    }
}

#[test]
fn of_revisions_the_newest_counts() {
    let row = Row { handler: 1, ..sample::row(1, 1, 0) };
    let later = Row { status: Some(2), received: row.received + 60, ..row.clone() };
    let digest = digest(&sorted(&[later, row])).unwrap();
    let handler = digest.handlers.values().next().unwrap();
    assert_eq!((handler.count, handler.errors), (1, 1));
}

#[test]
fn a_trace_with_many_entries_takes_one_place_among_the_newest() {
    let mut rows: Vec<Row> = (0..500).map(|span| sample::row(1, span, span as i64)).collect();
    rows.extend((2..500).map(|trace| sample::row(trace, 1, trace as i64 - 1000)));
    let digest = digest(&sorted(&rows)).unwrap();
    let newest = &digest.handlers.values().next().unwrap().newest;
    assert_eq!(newest.len(), NEWEST_KEPT);
    assert_eq!(newest[0].span().unwrap().0, 499_u64.to_be_bytes());
    assert_eq!(newest[1].trace().unwrap().0, 499_u128.to_be_bytes());
}

#[test]
fn beyond_the_newest_paths_counts_are_summed_up() {
    let path = |number: usize, time: i64, count: u64| PathDigest {
        method: "GET".to_owned(),
        path: format!("/{number}"),
        count,
        errors: 0,
        newest: EntryRef {
            time_ns: time,
            trace_id: String::new(),
            span_id: String::new(),
            duration_ns: 0,
            error: false,
        },
    };
    let of = |paths: Vec<PathDigest>| HandlerDigest { count: 1, paths, ..HandlerDigest::default() };
    let mut old = of((0..800).map(|number| path(number, number as i64, 2)).collect());
    let new = of((400..1200).map(|number| path(number, 10_000 + number as i64, 3)).collect());
    old.merge(&new);
    assert_eq!(old.paths.len(), PATHS_KEPT);
    assert_eq!((old.paths[0].path.as_str(), old.paths[999].path.as_str()), ("/1199", "/200"));
    assert_eq!(old.paths.iter().find(|path| path.path == "/500").unwrap().count, 5);
    assert_eq!(old.paths_dropped, 400);
}
