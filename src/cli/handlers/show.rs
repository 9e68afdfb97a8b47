//! One handler, for people.

use std::fmt::Write;

use super::{millis, out};
use crate::cli::out::Column;
use crate::stage::publish::document::{Entry, Path, Summary};

/// How many paths are shown.
const PATHS: usize = 20;

/// The summary as text.
pub fn text(summary: &Summary) -> String {
    let row = &summary.handler;
    let mut text = format!("{}  {}\n", out::bold(&out::printable(&row.name)), out::dim(&row.id.to_string()));
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<12}{value}");
        }
    };
    line("service", out::printable(&row.service));
    line("kind", row.kind.clone());
    line("route", row.route.as_deref().map(out::printable).unwrap_or_default());
    let added = summary.route_added_ms.map(|ms| format!("written by hand {}", moment(ms)));
    line("", added.unwrap_or_default());
    line("also", row.aliases.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    line("entries", format!("{}, {} errors", out::count(row.count), out::count(row.errors)));
    let since = summary.first_ms.map(|ms| format!("since {}", moment(ms))).unwrap_or_default();
    line("seen", format!("{} {since}", row.last_ms.map(moment).unwrap_or_default()).trim().to_owned());
    line("took", format!("p50 {}, p95 {}, p99 {}", millis(row.p50_ms), millis(row.p95_ms), millis(row.p99_ms)));
    let statuses = summary.statuses.iter().map(|(status, count)| format!("{status}: {}", out::count(*count)));
    line("statuses", statuses.collect::<Vec<_>>().join(", "));
    for error in &summary.error_types {
        let kind = if error.kind.is_empty() { "(no error.type)" } else { &error.kind };
        let example = error.example.as_ref().map(|entry| format!(", as in {}", entry.trace_id)).unwrap_or_default();
        line("error", format!("{} × {}{example}", out::count(error.count), out::printable(kind)));
    }
    line("pinned", if summary.pins.is_empty() { String::new() } else { format!("{} traces", summary.pins.len()) });
    for extra in &summary.extras {
        line("extra", format!("{} ({}, {})", out::printable(&extra.name), extra.content_type, out::bytes(extra.bytes)));
    }
    line("extras", summary.extra_error.as_deref().map(out::printable).unwrap_or_default());
    text += &entries("Newest", &summary.newest);
    text += &entries("Newest with an error", &summary.newest_errors);
    text += &entries("Slowest", &summary.slowest);
    if !summary.calls.is_empty() {
        let columns = [
            Column::Right("calls"),
            Column::Right("errors"),
            Column::Right("p50"),
            Column::Right("p95"),
            Column::Left("what"),
        ];
        let rows = summary.calls.iter().map(|call| {
            let what = format!("{} {}", call.service, call.operation);
            vec![out::count(call.count), out::count(call.errors), millis(call.p50_ms), millis(call.p95_ms), what]
        });
        text += &format!("\nCalls\n{}", out::table(&columns, rows));
    }
    text += &paths("Requests from before the route was known", &summary.adopted);
    text += &paths("Paths", &summary.paths);
    text
}

fn moment(ms: i64) -> String {
    out::moment(ms.saturating_mul(1_000_000))
}

fn entries(title: &str, entries: &[Entry]) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let columns = [Column::Left("start"), Column::Right("took"), Column::Left(""), Column::Left("trace")];
    let rows = entries.iter().map(|entry| {
        let error = if entry.error { "ERROR" } else { "" };
        vec![moment(entry.start_ms), millis(Some(entry.duration_ms)), error.to_owned(), entry.trace_id.clone()]
    });
    format!("\n{title}\n{}", out::table(&columns, rows))
}

fn paths(title: &str, paths: &[Path]) -> String {
    if paths.is_empty() {
        return String::new();
    }
    format!("\n{title}\n{}", table(paths.iter().take(PATHS)))
}

/// Requests by method and path as a table.
pub fn table<'a>(paths: impl Iterator<Item = &'a Path>) -> String {
    let columns = [
        Column::Right("count"),
        Column::Left("method"),
        Column::Left("path"),
        Column::Left("newest"),
        Column::Left("trace"),
        Column::Left("a route matches"),
    ];
    let rows = paths.map(|path| {
        vec![
            out::count(path.count),
            path.method.clone(),
            path.path.clone(),
            moment(path.last_ms),
            path.newest.trace_id.clone(),
            path.matches.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        ]
    });
    out::table(&columns, rows)
}
