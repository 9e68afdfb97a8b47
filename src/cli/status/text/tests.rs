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
        pins_from: None,
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
        extra_errors: BTreeMap::new(),
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
        publish_command: false,
        slice: Slice::of(rank, peers, 16),
        kept_out: false,
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
    insta::assert_snapshot!(shown(&status(vec![worker(0, 1)])), @r"
    s3://traces  2026-11-22 14:30:00

    inbox       1,234 (5.0 MiB, the oldest 2 min)
    latest      none: nothing has been indexed yet
    published   not yet: workers index what waits before, for five minutes at most
    today       12,345 requests, $0.060000 at list price

    WORKER   RANK  PART  STAGE  INDEXED  FAIL     MEMORY  SEEN
    farm-00  1/1   all   index    1,000     -  200.0 MiB   3 s
    ");
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
    let handler = "web/get-products-id-5b1f0c3a".parse().unwrap();
    status.extra_errors = [(handler, "it ended with exit code 3: oh\nno".to_owned())].into();
    status.warnings = vec!["farm-20 has failed 4 cycles in a row and gives up after 10: see its log.".to_owned()];
    let shown = shown(&status);
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    insta::assert_snapshot!(shown, @r"
    s3://traces  2026-11-22 14:30:00

    inbox       1,234 (5.0 MiB, the oldest 2 min)
    latest      none: nothing has been indexed yet
    published   not yet: workers index what waits before, for five minutes at most
    today       12,345 requests, $0.060000 at list price
    quarantine  truncated: 2 (100 B, the oldest 25 h)
                quarantine/truncated/x.json@1.error.json
    strikes     inbox/deadly: 3, 1 of them alone
    extras      web/get-products-id-5b1f0c3a: it ended with exit code 3: oh
    fails       index inbox/�[31ma.json: 7 times in 30 min, by farm-30: read
                s3://traces/inbox: 503 Slow Down
    fails       index inbox/b.json: 2 times in 30 min, by farm-30: read
                s3://traces/inbox: 503 Slow Down
                … and 1 more

    WORKER   RANK   PART     STAGE  INDEXED          FAIL     MEMORY  SEEN  VERSION
    farm-20  21/40  50-52 %  index    1,020  0 + 4 cycles  200.0 MiB   3 s  0.1.0
    farm-30  31/40  75-78 %  index    1,030             3  200.0 MiB   3 s  0.1.0
    farm-00  1/40   0-2 %    index    1,000             -  200.0 MiB   3 s  0.1.0
    farm-01  2/40   2-5 %    index    1,001             -  200.0 MiB   3 s  0.1.0
    farm-02  3/40   5-8 %    index    1,002             -  200.0 MiB   3 s  0.1.0
    farm-03  4/40   8-10 %   index    1,003             -  200.0 MiB   3 s  0.1.0
    farm-04  5/40   10-12 %  index    1,004             -  200.0 MiB   3 s  0.1.0
    farm-06  7/40   15-18 %  index    1,006             -  200.0 MiB   3 s  0.1.0
    farm-07  8/40   18-20 %  index    1,007             -  200.0 MiB   3 s  0.1.0
    farm-08  9/40   20-22 %  index    1,008             -  200.0 MiB   3 s  0.1.0
    farm-09  10/40  22-25 %  index    1,009             -  200.0 MiB   3 s  0.1.0
    farm-10  11/40  25-28 %  index    1,010             -  200.0 MiB   3 s  0.1.0
    … and 27 more, which do as well or better
    gone        farm-05 (6 min ago with 20 objects in hand)

    !           farm-20 has failed 4 cycles in a row and gives up after 10: see its
                log.
    ");
}

#[test]
fn what_a_young_store_lacks_is_told_with_when_it_comes() {
    let mut status = status(vec![worker(0, 1)]);
    let vitals = status.workers[0].vitals.as_mut().unwrap();
    vitals.rank = None;
    status.pins_from = Some("2026-11-29T07:00:00Z".parse().unwrap());
    let young = shown(&status);
    let told = |text: &str, wanted: &str| {
        let words: Vec<&str> = text.split_whitespace().collect();
        assert!(words.join(" ").contains(wanted), "{text}");
    };
    told(
        &young,
        "latest none yet: each handler's newest traces are copied there before they expire, from 2026-11-29 07:00 on",
    );
    told(&young, "published not yet: workers index what waits before");
    told(&young, "farm-00 starting");

    // The same an eternity later: what should have come has not.
    status.time = "2026-11-29T09:00:00Z".parse().unwrap();
    status.workers[0].kept_out = true;
    let old = shown(&status);
    told(&old, "due since 2026-11-29 07:00; a worker looks every hour");
    told(&old, "farm-00 none");
    status.workers.clear();
    told(&shown(&status), "published never: no worker is alive");
    (status.pins.objects, status.pinned_handlers) = (7, 1);
    told(&shown(&status), "latest 7 (0 B) of 1 handler");
}
