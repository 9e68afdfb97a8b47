use std::collections::BTreeMap;

use super::*;
use crate::farm::Settings;
use crate::farm::record::{Failing, Vitals};
use crate::query::status::{Quarantined, Struck, Today};

fn status(workers: Vec<Worker>) -> Status {
    let time = "2026-11-22T14:30:00Z".parse().unwrap();
    let mut versions = BTreeMap::new();
    for worker in workers.iter().filter(|worker| worker.alive) {
        *versions.entry(worker.version.clone().unwrap()).or_default() += 1;
    }
    Status {
        store: "s3://traces".to_owned(),
        time,
        inbox: Pile { objects: 1_234, bytes: 5 << 20, oldest_seconds: Some(130) },
        backlog: None,
        tables: Vec::new(),
        pins: Pile::default(),
        pinned_handlers: 0,
        quarantine: BTreeMap::new(),
        damaged_blocks: Vec::new(),
        forgetting: 0,
        strikes: Vec::new(),
        workers,
        versions,
        today: Today { day: time.to_zoned(jiff::tz::TimeZone::UTC).date(), requests: 12_345, dollars: 0.06 },
        settings: Settings::default(),
        catalogue: 0,
        published: None,
        warnings: Vec::new(),
        requests: 0,
    }
}

fn worker(rank: usize, peers: usize) -> Worker {
    Worker {
        name: format!("farm-{rank:02}"),
        seen_seconds: 3,
        alive: true,
        version: Some("0.1.0".to_owned()),
        started: None,
        in_hand: 0,
        slice: Slice::of(rank, peers, 16),
        vitals: Some(Vitals {
            rank: Some(rank),
            peers,
            stage: Some("index".to_owned()),
            objects: 1_000 + rank as u64,
            memory_bytes: Some(200 << 20),
            ..Vitals::default()
        }),
    }
}

fn shown(status: &Status) -> String {
    text(status, &Screen { width: Some(80) })
}

#[test]
fn one_worker_is_a_few_lines() {
    insta::assert_snapshot!(shown(&status(vec![worker(0, 1)])), @"");
}

#[test]
fn of_forty_workers_those_that_need_somebody_are_shown() {
    let mut farm: Vec<Worker> = (0..40).map(|rank| worker(rank, 40)).collect();
    let since = "2026-11-22T14:00:00Z".parse().unwrap();
    let fails = |item: &str, times| Failing {
        stage: "index".to_owned(),
        item: item.to_owned(),
        why: "read s3://traces/inbox: 503 Slow Down".to_owned(),
        times,
        since,
    };
    let vitals = farm[30].vitals.as_mut().unwrap();
    (vitals.failing_items, vitals.failing) = (3, vec![fails("inbox/\u{1b}[31ma.json", 7), fails("inbox/b.json", 2)]);
    farm[20].vitals.as_mut().unwrap().failing_cycles = 4;
    (farm[5].alive, farm[5].seen_seconds, farm[5].in_hand, farm[5].slice) = (false, 400, 20, None);
    farm[39].version = Some("0.2.0".to_owned());
    let mut status = status(farm);
    status.quarantine.insert(
        "truncated".to_owned(),
        Quarantined {
            pile: Pile { objects: 2, bytes: 100, oldest_seconds: Some(90_000) },
            newest: vec!["quarantine/truncated/x.json@1.error.json".to_owned()],
        },
    );
    status.strikes = vec![Struck { object: "inbox/deadly".to_owned(), strikes: 3, alone: 1 }];
    status.warnings = vec!["farm-20 has failed 4 cycles in a row and gives up after 10: see its log.".to_owned()];
    let shown = shown(&status);
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    insta::assert_snapshot!(shown, @"");
}
