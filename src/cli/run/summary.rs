//! What a run came to, for people.

use std::fmt::Write;

use crate::cli::out::{self, Column};
use crate::farm::worker::Summary;

/// So many failures are named.
const NAMED: usize = 10;

/// One line if nothing was done, else tables of at most 80 columns.
pub(super) fn text(summary: &Summary, peak_memory_bytes: Option<u64>) -> String {
    let requests = out::counted(summary.requests.total().requests, "request");
    let price = if summary.dollars > 0.0 { format!(", {}", out::dollars(summary.dollars)) } else { String::new() };
    let time = out::duration((summary.seconds * 1e9) as i64);
    if !summary.did_something() {
        return format!("nothing to do ({requests}{price}, {time})\n");
    }
    let mut text = String::new();
    let mut line = |parts: &[String]| {
        let parts: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", parts.join(", "));
    };
    if summary.objects > 0 {
        line(&[format!("indexed {}", out::counted(summary.objects, "object")), out::bytes(summary.bytes_in)]);
        line(&[
            out::counted(summary.spans, "span"),
            // A trace whose spans came in several batches counts in each.
            format!("{} (counted by batch)", out::counted(summary.traces, "trace")),
            out::counted(summary.handlers, "handler"),
        ]);
    }
    line(&[
        format!("{} written", out::bytes(summary.bytes_out)),
        format!("{} deleted", out::counted(summary.deleted, "object")),
        time,
        if summary.peers > 1 { format!("{} workers", summary.peers) } else { String::new() },
        peak_memory_bytes.map_or_else(String::new, |bytes| format!("{} memory", out::bytes(bytes))),
    ]);
    let stages = summary.stages.iter().map(|(name, stage)| {
        vec![
            (*name).to_owned(),
            out::count(stage.done),
            out::count(stage.skipped),
            out::count(stage.failures),
            out::count(stage.rows_out),
            out::bytes(stage.bytes_in),
            out::bytes(stage.bytes_out),
            format!("{:.1}", stage.seconds),
            format!("{:.1}", stage.cpu_seconds),
        ]
    });
    let columns = ["done", "left", "failed", "rows", "read", "written", "s", "cpu s"].map(Column::Right);
    let columns = [&[Column::Left("stage")][..], &columns].concat();
    let _ = write!(text, "\n{}", out::table(&columns, stages));

    let kinds = summary.kinds.iter().map(|(kind, sum)| {
        vec![
            kind.name().to_owned(),
            out::count(sum.requests),
            out::bytes(sum.bytes_in),
            out::bytes(sum.bytes_out),
            if sum.dollars > 0.0 { out::dollars(sum.dollars) } else { String::new() },
        ]
    });
    let cost = if summary.dollars > 0.0 { "list price" } else { "" };
    let columns = ["number", "received", "sent", cost].map(Column::Right);
    let columns = [&[Column::Left("request")][..], &columns].concat();
    let total = vec!["all".to_owned(), out::count(summary.requests.total().requests), String::new(), String::new()];
    let total =
        [total, vec![if summary.dollars > 0.0 { out::dollars(summary.dollars) } else { String::new() }]].concat();
    let _ = write!(text, "\n{}", out::table(&columns, kinds.chain([total])));

    if !summary.failed.is_empty() {
        text.push('\n');
    }
    for failed in summary.failed.iter().take(NAMED) {
        let times = if failed.times > 1 { format!(" ({} times)", failed.times) } else { String::new() };
        let said = format!("failed: {} {}{times}: {}", failed.stage, failed.item, failed.why);
        let _ = writeln!(text, "{}", out::red(&out::printable(&said)));
    }
    if summary.failed.len() > NAMED {
        let _ = writeln!(text, "… and {} more; -o json names all", summary.failed.len() - NAMED);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::farm::worker::{Failed, Kind, StageSummary};
    use crate::store::{Counts, Request, Stage, Tally};

    fn summary(requests: u64) -> Summary {
        let tally = Tally { requests, failed: 1, bytes_in: 1 << 30, bytes_out: 7 };
        let kinds = BTreeMap::from([
            (Request::Get, Kind { requests, bytes_in: 1 << 30, bytes_out: 0, dollars: requests as f64 * 4e-7 }),
            (Request::Put, Kind { requests: 0, bytes_in: 0, bytes_out: 7, dollars: 0.0 }),
        ]);
        Summary {
            requests: Counts(BTreeMap::from([(Stage::Index, BTreeMap::from([(Request::Get, tally)]))])),
            dollars: kinds.values().map(|kind| kind.dollars).sum(),
            kinds,
            peers: 1,
            seconds: 2.5,
            ..Summary::default()
        }
    }

    #[test]
    fn a_run_that_found_nothing_to_do_is_one_line() {
        let mut idle = summary(12);
        idle.stages.insert("index", StageSummary { rounds: 1, seconds: 0.1, ..StageSummary::default() });
        assert_eq!(text(&idle, Some(1)), "nothing to do (12 requests, $0.000005, 2.50 s)\n");
    }

    #[test]
    fn a_run_that_worked_is_tables_of_80_columns() {
        let index = StageSummary {
            done: 123_456,
            failures: 14,
            rows_in: 100_000_000,
            rows_out: 100_000_000,
            bytes_in: 90 << 30,
            bytes_out: 45 << 30,
            seconds: 3_600.0,
            cpu_seconds: 7_200.5,
            ..StageSummary::default()
        };
        let failed = |item: usize| Failed {
            stage: "index",
            item: format!("inbox/{item:03}\u{1b}[31m"),
            why: "read it: 503 Slow Down".to_owned(),
            times: 3,
            since: jiff::Timestamp::UNIX_EPOCH,
        };
        let summary = Summary {
            objects: index.done,
            spans: index.rows_in,
            traces: 1_000_000,
            handlers: 112,
            bytes_in: index.bytes_in,
            bytes_out: index.bytes_out,
            deleted: 123_442,
            peers: 40,
            stages: BTreeMap::from([("index", index), ("compact", StageSummary::default())]),
            failed: (0..14).map(failed).collect(),
            ..summary(1_234_567)
        };
        let shown = text(&summary, Some(400 << 20));
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
        insta::assert_snapshot!(shown, @r"
        indexed 123,456 objects, 90.0 GiB
        100,000,000 spans, 1,000,000 traces (counted by batch), 112 handlers
        45.0 GiB written, 123,442 objects deleted, 2.50 s, 40 workers, 400.0 MiB memory

        STAGE       DONE  LEFT  FAILED         ROWS      READ   WRITTEN       S   CPU S
        compact        0     0       0            0       0 B       0 B     0.0     0.0
        index    123,456     0      14  100,000,000  90.0 GiB  45.0 GiB  3600.0  7200.5

        REQUEST     NUMBER  RECEIVED  SENT  LIST PRICE
        get      1,234,567   1.0 GiB   0 B   $0.493827
        put              0       0 B   7 B
        all      1,234,567                   $0.493827

        failed: index inbox/000�[31m (3 times): read it: 503 Slow Down
        failed: index inbox/001�[31m (3 times): read it: 503 Slow Down
        failed: index inbox/002�[31m (3 times): read it: 503 Slow Down
        failed: index inbox/003�[31m (3 times): read it: 503 Slow Down
        failed: index inbox/004�[31m (3 times): read it: 503 Slow Down
        failed: index inbox/005�[31m (3 times): read it: 503 Slow Down
        failed: index inbox/006�[31m (3 times): read it: 503 Slow Down
        failed: index inbox/007�[31m (3 times): read it: 503 Slow Down
        failed: index inbox/008�[31m (3 times): read it: 503 Slow Down
        failed: index inbox/009�[31m (3 times): read it: 503 Slow Down
        … and 4 more; -o json names all
        ");
    }
}
