//! The status for people: what needs one first, and never more than fits a mind.

use crate::cli::out::{self, Column};
use crate::query::status::{Blocks, Pile, Slice, Status, Worker};

/// So many workers are shown, those that need somebody first.
const WORKERS: usize = 12;
/// So many failures.
const FAILURES: usize = 8;
/// So many objects with strikes, damaged blocks, dead workers.
const NAMED: usize = 5;

/// Where it is shown.
pub(super) struct Screen {
    /// Columns; none in a pipe.
    pub width: Option<usize>,
}

impl Screen {
    pub fn of_terminal() -> Self {
        Self { width: out::terminal().map(|(columns, _)| columns) }
    }
}

pub(super) fn text(status: &Status, screen: &Screen) -> String {
    let mut text = format!("{}  {}\n\n", out::bold(&status.store), status.time.strftime("%F %T"));
    let mut line = |name: &str, value: &str| text += &out::labelled(name, &out::printable(value), screen.width);
    let kept = if status.backlog.is_some() { ", kept" } else { "" };
    line("inbox", &format!("{}{kept}", pile(&status.inbox)));
    if status.backlog.is_some() {
        line("waiting", &pile(&status.waiting()));
    }
    for table in &status.tables {
        line(&table.table, &blocks(table));
    }
    line("latest", &latest(status));
    line("published", &published(status));
    if status.forgetting > 0 {
        line("forgetting", &out::counted(status.forgetting, "trace"));
    }
    let price = if status.today.dollars > 0.0 {
        format!(", {} at list price", out::dollars(status.today.dollars))
    } else {
        String::new()
    };
    line("today", &format!("{}{price}", out::counted(status.today.requests, "request")));

    for (reason, objects) in &status.quarantine {
        line("quarantine", &format!("{reason}: {}", pile(&objects.pile)));
        for object in &objects.newest {
            line("", object);
        }
    }
    for block in status.damaged_blocks.iter().take(NAMED) {
        line("damaged", block);
    }
    if let Some(more) = more(status.damaged_blocks.len(), NAMED) {
        line("", &more);
    }
    for struck in status.strikes.iter().take(NAMED) {
        let alone = if struck.alone > 0 { format!(", {} of them alone", struck.alone) } else { String::new() };
        line("strikes", &format!("{}: {}{alone}", struck.object, struck.strikes));
    }
    if let Some(more) = more(status.strikes.len(), NAMED) {
        line("", &more);
    }
    for (handler, why) in status.extra_errors.iter().take(NAMED) {
        line("extras", &format!("{handler}: {}", why.lines().next().unwrap_or_default()));
    }
    if let Some(more) = more(status.extra_errors.len(), NAMED) {
        line("", &more);
    }
    let failing = status.failing();
    for (worker, item) in failing.iter().take(FAILURES) {
        let since = age(status.time.duration_since(item.since).as_secs());
        let times = out::counted(item.times.into(), "time");
        let why = format!("{} {}: {times} in {since}, by {}: {}", item.stage, item.item, worker.name, item.why);
        line("fails", &why);
    }
    let told: usize =
        status.living().filter_map(|worker| worker.vitals.as_ref()).map(|vitals| vitals.failing_items).sum();
    if let Some(more) = more(told, FAILURES.min(failing.len())) {
        line("", &more);
    }
    text += &workers(status);
    let dead: Vec<&Worker> = status.workers.iter().filter(|worker| !worker.alive).collect();
    if !dead.is_empty() {
        let mut gone: Vec<String> = dead.iter().take(NAMED).map(|worker| gone(worker)).collect();
        gone.extend(more(dead.len(), NAMED));
        text += &out::labelled("gone", &gone.join(", "), screen.width);
    }
    if !status.warnings.is_empty() {
        text.push('\n');
    }
    for warning in &status.warnings {
        for line in out::labelled("!", &out::printable(warning), screen.width).lines() {
            text += &out::red(line);
            text.push('\n');
        }
    }
    text
}

/// What is left when so many were shown.
fn more(count: usize, shown: usize) -> Option<String> {
    (count > shown).then(|| format!("… and {} more", count - shown))
}

/// The living, those that need somebody first.
fn workers(status: &Status) -> String {
    let mut living: Vec<&Worker> = status.living().collect();
    if living.is_empty() {
        return String::new();
    }
    let trouble = |worker: &Worker| {
        let Some(vitals) = &worker.vitals else { return (0, 0, false) };
        (vitals.failing_cycles, vitals.failing_items, vitals.rank.is_none())
    };
    // The worst first, then by rank: those without trouble stand as they share the work.
    living.sort_by_key(|worker| {
        let rank = worker.vitals.as_ref().and_then(|vitals| vitals.rank);
        (std::cmp::Reverse(trouble(worker)), rank, worker.name.clone())
    });
    let mixed = status.versions.len() > 1;
    let shards = usize::from(*status.settings.shards.last());
    let rows = living.iter().take(WORKERS).map(|worker| {
        let vitals = worker.vitals.clone().unwrap_or_default();
        let mut row = vec![
            worker.name.clone(),
            place(worker),
            worker.slice.as_ref().map_or_else(|| "-".to_owned(), |slice| part(slice, vitals.peers <= shards)),
            vitals.stage.unwrap_or_else(|| "-".to_owned()),
            out::count(vitals.objects),
            match (vitals.failing_items, vitals.failing_cycles) {
                (0, 0) => "-".to_owned(),
                (items, 0) => items.to_string(),
                (items, cycles) => format!("{items} + {}", out::counted(cycles.into(), "cycle")),
            },
            vitals.memory_bytes.map_or_else(|| "-".to_owned(), out::bytes),
            age(worker.seen_seconds),
        ];
        if mixed {
            row.push(worker.version.clone().unwrap_or_else(|| "-".to_owned()));
        }
        row
    });
    let left = ["worker", "rank", "part", "stage"].map(Column::Left);
    let right = ["indexed", "fail", "memory", "seen"].map(Column::Right);
    let mut columns = [left, right].concat();
    if mixed {
        columns.push(Column::Left("version"));
    }
    let mut text = format!("\n{}", out::table(&columns, rows));
    if let Some(more) = more(living.len(), WORKERS) {
        text += &format!("{more}, which do as well or better\n");
    }
    text
}

/// The pinned traces. That there are none is as it should be for days, which is said.
fn latest(status: &Status) -> String {
    match status.pins_from {
        _ if status.pins.objects > 0 => {
            let handlers = out::counted(status.pinned_handlers, "handler");
            format!("{} of {handlers}", pile(&status.pins))
        }
        None => "none: nothing has been indexed yet".to_owned(),
        Some(from) => {
            let (tense, looks) =
                if from > status.time { ("from", " on") } else { ("due since", "; a worker looks every hour") };
            let from = from.strftime("%F %H:%M");
            format!("none yet: each handler's newest traces are copied there before they expire, {tense} {from}{looks}")
        }
    }
}

/// When pages were written last, or why they were not.
fn published(status: &Status) -> String {
    match status.published {
        Some(time) => time.strftime("%F %T").to_string(),
        None if status.living().next().is_none() => "never: no worker is alive".to_owned(),
        None => "not yet: workers index what waits before, for five minutes at most".to_owned(),
    }
}

/// A worker's rank among its peers; until it has one, why not.
fn place(worker: &Worker) -> String {
    match worker.vitals.as_ref().map(|vitals| (vitals.rank, vitals.peers)) {
        None => "-".to_owned(),
        Some((Some(rank), peers)) => format!("{}/{peers}", rank + 1),
        Some((None, _)) if worker.kept_out => "none".to_owned(),
        Some((None, _)) => "starting".to_owned(),
    }
}

/// By shards where each worker has some, else by weight: lists are divided all the same.
fn part(slice: &Slice, by_shards: bool) -> String {
    match slice.shards.filter(|_| by_shards) {
        _ if slice.from == 0.0 && slice.until == 1.0 => "all".to_owned(),
        Some((first, last)) if first == last => format!("shard {first}"),
        Some((first, last)) => format!("shards {first}-{last}"),
        None => format!("{:.0}-{:.0} %", slice.from * 100.0, slice.until * 100.0),
    }
}

fn gone(worker: &Worker) -> String {
    let hand = if worker.in_hand > 0 {
        format!(" with {} in hand", out::counted(worker.in_hand as u64, "object"))
    } else {
        String::new()
    };
    format!("{} ({} ago{hand})", worker.name, age(worker.seen_seconds))
}

fn blocks(table: &Blocks) -> String {
    let hours = match (table.oldest, table.newest) {
        (Some(oldest), Some(newest)) if oldest == newest => format!(", all of {oldest}"),
        (Some(oldest), Some(newest)) => format!(", {} hours from {oldest} to {newest}", table.hours),
        _ => String::new(),
    };
    let (indexed, compacted) = (pile(&table.level0), pile(&table.level1));
    format!("compacted {compacted}; as indexed {indexed}{hours}; {} to merge", table.to_compact)
}

fn pile(pile: &Pile) -> String {
    if pile.objects == 0 {
        return "none".to_owned();
    }
    let oldest = pile.oldest_seconds.map_or_else(String::new, |seconds| format!(", the oldest {}", age(seconds)));
    format!("{} ({}{oldest})", out::count(pile.objects), out::bytes(pile.bytes))
}

/// `12 s`, `3 min`, `5 h`, `2 d`.
fn age(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{} s", seconds.max(0)),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests;
