//! Index and compaction on a simulated store: what they promise when workers die, sleep, or work at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arrow::array::AsArray;
use jiff::Timestamp;

use super::testing::{GRACE, MINUTE, START, Sent, World, crash_at};
use super::*;
use crate::farm::settings::{Change, Timeline};
use crate::farm::strikes;
use crate::model::{BootId, Shard, SpanId, Table, TraceId};
use crate::store::fault::{Fate, Incident};
use crate::store::{Key, Prefix};

impl World {
    /// How often each row is visible, by what a reader reads: (trace, span) → copies.
    async fn rows(&self, table: Table) -> BTreeMap<(TraceId, SpanId), usize> {
        let at = self.sit(&self.calm()).await;
        let view = at.desk.view(&Scope::all(table, GRACE)).await.unwrap();
        assert!(view.damaged.is_empty() && view.foreign.is_empty(), "{view:#?}");
        let mut rows = BTreeMap::new();
        for (shard, block) in view.visible_parts() {
            let batches = at.desk.blocks.rows(&block.key, block.size_bytes, Some(shard)).await.unwrap();
            for batch in futures::TryStreamExt::try_collect::<Vec<_>>(batches).await.unwrap() {
                let ids = |name| batch.column_by_name(name).unwrap().as_fixed_size_binary();
                for (trace, span) in ids("trace_id").iter().zip(ids("span_id").iter()) {
                    let key = (TraceId::from_slice(trace.unwrap()), SpanId::from_slice(span.unwrap()));
                    *rows.entry((key.0.unwrap(), key.1.unwrap())).or_insert(0) += 1;
                }
            }
        }
        rows
    }

    async fn keys(&self, table: Table) -> BTreeSet<(TraceId, SpanId)> {
        self.rows(table).await.into_keys().collect()
    }

    /// One worker indexes and compacts everything there is, as time passes.
    async fn work_off(&self) {
        for _ in 0..3 {
            let at = self.sit(&self.calm()).await;
            for report in [index::run(&at.desk, &at.round).await, compact::run(&at.desk, &at.round).await] {
                let report = report.unwrap();
                assert!(report.failed.is_empty(), "{:#?}", report.failed);
            }
            self.sleep(GRACE.as_secs() + 1).await;
        }
    }

    /// Whatever replaces a run replaces what that replaced and still stands; of how many names that is so.
    async fn carried(&self) -> usize {
        let at = self.sit(&self.calm()).await;
        let view = at.desk.view(&Scope::all(Table::Spans, GRACE)).await.unwrap();
        let by_name: HashMap<_, _> = view.blocks.iter().map(|block| (block.id(), block)).collect();
        let mut carried = 0;
        for block in &view.blocks {
            let replaced = block.meta.merged_from.iter().filter_map(|name| by_name.get(name));
            for name in replaced.flat_map(|run| &run.meta.merged_from).filter(|name| by_name.contains_key(name)) {
                assert!(block.meta.merged_from.contains(name), "{} forgets {name}", block.id());
                carried += 1;
            }
        }
        carried
    }

    /// At rest: every row once, one run a shard and hour, nothing left over.
    async fn check_rest(&self, spans: &[(u8, u8)]) {
        let wanted: BTreeMap<_, _> = spans.iter().map(|span| (ids(*span), 1)).collect();
        assert_eq!(self.rows(Table::Spans).await, wanted);
        assert_eq!(
            self.rows(Table::Entries).await,
            wanted.into_iter().filter(|((_, span), _)| span.0[7] == 1).collect()
        );
        assert_eq!(self.bucket.paths("spans/shard=all"), [""; 0]);
        assert_eq!(self.bucket.paths("entries/shard=all"), [""; 0]);
        assert_eq!(self.bucket.breaches(), [""; 0]);
    }
}

fn ids((trace, span): (u8, u8)) -> (TraceId, SpanId) {
    (TraceId([trace; 16]), SpanId([0, 0, 0, 0, 0, 0, 0, span]))
}

/// Spans of one line of OTLP/JSON, each (trace, span): span 1 is the trace's root, a SERVER, the others its children.
/// A trace of 100 or more started an hour earlier.
fn line(spans: &[(u8, u8)]) -> String {
    let span = |(trace, span): &(u8, u8)| {
        let (id, hex) = ids((*trace, *span));
        let start = 1_795_357_000_000_000_000_u64 - u64::from(*trace / 100) * 3_600_000_000_000;
        let (kind, parent) = if *span == 1 { (2, String::new()) } else { (1, ids((*trace, 1)).1.to_string()) };
        format!(
            r#"{{"traceId":"{id}","spanId":"{hex}","parentSpanId":"{parent}","name":"GET /x","kind":{kind},
            "startTimeUnixNano":"{start}","endTimeUnixNano":"{}"}}"#,
            start + 1_000_000
        )
        .replace('\n', "")
    };
    let spans: Vec<String> = spans.iter().map(span).collect();
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}]}}]}}]}}"#, spans.join(",")) + "\n"
}

/// Two objects, one of them with a line that cannot be read.
const SPANS: [(u8, u8); 6] = [(1, 1), (1, 2), (2, 1), (101, 1), (101, 2), (3, 1)];

fn put_two(world: &World) {
    world.bucket.put("inbox/a.jsonl", line(&SPANS[..3]));
    world.bucket.put("inbox/b.jsonl", bad_object());
}

/// Two good lines around one that is cut.
fn bad_object() -> String {
    format!(
        "{}{{\"resourceSpans\":[{{
{}",
        line(&SPANS[3..5]),
        line(&SPANS[5..])
    )
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_indexed_and_indexed_again_it_changes_nothing() {
    let world = World::new();
    put_two(&world);
    world.sleep(60).await;
    let at = world.sit(&world.calm()).await;
    let report = index::run(&at.desk, &at.round).await.unwrap();
    assert_eq!((report.done, report.rows_in, report.failed.len()), (2, 6, 0), "{report:?}");
    assert_eq!(world.bucket.paths("inbox/"), [""; 0]);
    let bad = world.bucket.paths("quarantine/");
    assert_eq!(bad.len(), 2, "{bad:?}");
    assert!(bad[1].ends_with(".error.json") && bad[1].contains("/b.jsonl@"), "{bad:?}");
    let body = world.bucket.read(&bad[0]).unwrap().body;
    assert_eq!(body, bad_object(), "as it was");
    put_two(&world);
    world.sleep(60).await;
    world.work_off().await;
    world.check_rest(&SPANS).await;
    assert_eq!(world.bucket.paths("quarantine/"), bad, "the same bytes are the same object");
}

/// A worker dies before or after every single call of a round of index, then of compaction; another goes on.
#[tokio::test(start_paused = true)]
async fn dying_between_any_two_calls_loses_nothing() {
    for stage in ["index", "compact"] {
        let mut call = 0;
        loop {
            call += 1;
            let mut died = false;
            for after in [false, true] {
                let world = World::new();
                put_two(&world);
                world.sleep(60).await;
                if stage == "compact" {
                    let at = world.sit(&world.calm()).await;
                    index::run(&at.desk, &at.round).await.unwrap();
                    put_two(&world);
                    index::run(&at.desk, &at.round).await.unwrap();
                    world.sleep(2 * 3600).await;
                }
                let client = world.client(crash_at(call, after));
                let ended = client.live(async {
                    let at = world.sit(&client).await;
                    if stage == "index" {
                        index::run(&at.desk, &at.round).await.unwrap();
                    } else {
                        compact::run(&at.desk, &at.round).await.unwrap();
                        world.sleep(GRACE.as_secs() + 1).await;
                        at.desk.heart.beat(&at.desk.store).await.unwrap();
                        compact::run(&at.desk, &at.round).await.unwrap();
                    }
                });
                died |= ended.await.is_none();
                let seen = world.keys(Table::Spans).await;
                if world.bucket.paths("inbox/").is_empty() {
                    assert_eq!(seen.len(), SPANS.len(), "{stage}, call {call}:\n{}", world.bucket.log());
                }
                world.work_off().await;
                world.check_rest(&SPANS).await;
            }
            if !died {
                assert!(call > 10, "{stage} makes more calls than {call}");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_workers_at_once_do_it_twice_and_it_counts_once() {
    let world = World::new();
    put_two(&world);
    world.sleep(60).await;
    let (one, two) = (world.sit(&world.calm()).await, world.sit(&world.calm()).await);
    let (a, b) = tokio::join!(index::run(&one.desk, &one.round), index::run(&two.desk, &two.round));
    assert!(a.unwrap().failed.is_empty() && b.unwrap().failed.is_empty());
    let (a, b) = tokio::join!(compact::run(&one.desk, &one.round), compact::run(&two.desk, &two.round));
    assert!(a.unwrap().failed.is_empty() && b.unwrap().failed.is_empty());
    assert_eq!(world.keys(Table::Spans).await.len(), SPANS.len());
    world.sleep(GRACE.as_secs() + 1).await;
    world.work_off().await;
    world.check_rest(&SPANS).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_dealt_is_merged_by_one_of_them_and_swept_by_one() {
    let shards = || Settings { shards: Timeline::always(4), ..Settings::default() };
    let spans: Vec<(u8, u8)> = (1..20).chain(101..120).map(|trace| (trace, 1)).collect();
    let merges = async |peers: usize| {
        let world = World { settings: shards(), ..World::new() };
        let mut farm = Vec::new();
        for rank in 0..peers {
            let mut at = world.sit(&world.calm()).await;
            (at.round.rank, at.round.peers, at.desk.once) = (rank, peers, peers == 1);
            // Whole tables are not listed again.
            assert!(!compact::run(&at.desk, &at.round).await.unwrap().did_something());
            farm.push(at);
        }
        world.bucket.put("inbox/a.jsonl", line(&spans));
        let at = world.sit(&world.calm()).await;
        index::run(&at.desk, &at.round).await.unwrap();
        // Both hours are over, and an earlier one is none of those that change.
        world.sleep(2 * 3600).await;
        let mut done = [0; 2];
        for round in &mut done {
            for at in &farm {
                at.desk.heart.beat(&at.desk.store).await.unwrap();
                let report = compact::run(&at.desk, &at.round).await.unwrap();
                assert!(report.failed.is_empty());
                *round += report.done;
            }
            world.sleep(GRACE.as_secs() + 2).await;
        }
        assert_eq!(done[1], 0, "{peers} peers");
        assert_eq!(world.bucket.paths("spans/shard=all"), [""; 0], "{peers} peers");
        world.check_rest(&spans).await;
        done[0]
    };
    let alone = merges(1).await;
    assert!(alone > 8, "{alone} shards of hours");
    for peers in [2, 3, 7, 40] {
        assert_eq!(merges(peers).await, alone, "{peers} peers");
    }
}

/// While an hour is open, who merges is told by when it was indexed; and none of it is merged twice, also when runs are
/// merged by somebody who does not look at what they replaced.
#[tokio::test(start_paused = true)]
async fn what_is_indexed_into_an_open_hour_is_dealt_by_when_it_was() {
    let settings = Settings { shards: Timeline::always(3), ..Settings::default() };
    let world = World { settings, ..World::new() };
    world.sleep(1_800).await;
    let mut farm = Vec::new();
    for rank in 0..5 {
        let mut at = world.sit(&world.calm()).await;
        (at.round.rank, at.round.peers, at.desk.once) = (rank, 5, false);
        assert!(!compact::run(&at.desk, &at.round).await.unwrap().did_something());
        farm.push(at);
    }
    let (mut merged, mut merged_by, mut carried) = (0, BTreeSet::new(), 0);
    // Five minutes each, from the beginning of an hour to twenty minutes after it.
    for slot in 1..=16 {
        if slot <= 11 {
            let request =
                |n: u64| Sent::request(100 * slot + n, 1, ["/a", "/b", "/c"][n as usize % 3], START + 60 * MINUTE + n);
            world.send(&slot.to_string(), &(0..12).map(request).collect::<Vec<_>>());
            let at = world.sit(&world.calm()).await;
            index::run(&at.desk, &at.round).await.unwrap();
        }
        world.sleep(298).await;
        for (rank, at) in farm.iter().enumerate() {
            at.desk.heart.beat(&at.desk.store).await.unwrap();
            let report = compact::run(&at.desk, &at.round).await.unwrap();
            assert!(report.failed.is_empty());
            merged += report.done;
            merged_by.extend((report.done > 0).then_some(rank));
        }
        // What was written in the second of a listing hides nothing.
        world.sleep(2).await;
        carried += world.carried().await;
        let rows = world.rows(Table::Spans).await;
        assert!(rows.values().all(|copies| *copies == 1), "slot {slot}: {rows:?}");
    }
    assert!(merged_by.len() > 2, "{merged_by:?}");
    assert!(carried > 0, "runs were merged while what they had replaced stood");
    world.sleep(GRACE.as_secs() + 1).await;
    world.work_off().await;
    assert_eq!(world.rows(Table::Spans).await.len(), 11 * 12);
    assert_eq!(world.bucket.paths("spans/").len(), 3, "a run of each shard");
    let runs = 3 + world.bucket.paths("entries/").len() as u64;
    let most = (11 + 1 + 1) * runs;
    assert!(
        (11 * runs..=most).contains(&merged),
        "{merged} merges; each once, eight runs, and all of the hour: {most}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_trickle_is_one_workers_and_when_it_is_late_everybodys() {
    let world = World::new();
    for number in 0..3 {
        world.bucket.put(&format!("inbox/{number}"), line(&SPANS[number..][..1]));
    }
    let index = async |rank: usize| {
        let mut at = world.sit(&world.calm()).await;
        (at.round.rank, at.round.peers, at.desk.once) = (rank, 3, false);
        let report = index::run(&at.desk, &at.round).await.unwrap();
        let rests = report.rests_until.map(|until| until - world.clock.monotonic());
        (report.done, rests.map(|rests| rests.as_secs()))
    };
    assert_eq!(index(0).await, (0, Some(30)), "there may be enough for a batch soon");
    assert_eq!(index(2).await, (0, Some(60)));
    world.sleep(70).await;
    assert_eq!(index(2).await, (0, Some(21)), "it is the first one's, who is busy");
    world.sleep(20).await;
    assert_eq!((index(1).await.0, index(2).await.0), (1, 1));
    assert_eq!(world.bucket.paths("inbox/").len(), 1);
    assert_eq!(index(1).await.0, 1);
}

#[tokio::test(start_paused = true)]
async fn inputs_stand_for_the_grace_and_with_a_grace_of_zero_go_at_once() {
    for grace in [GRACE, Duration::ZERO] {
        let world = World { grace, ..World::new() };
        put_two(&world);
        let at = world.sit(&world.calm()).await;
        index::run(&at.desk, &at.round).await.unwrap();
        let inputs = world.bucket.paths("spans/shard=all");
        assert_eq!(inputs.len(), 2, "two hours");
        world.sleep(30).await;
        let report = compact::run(&at.desk, &at.round).await.unwrap();
        assert_eq!(report.done, 4);
        if !grace.is_zero() {
            assert_eq!(world.bucket.paths("spans/shard=all"), inputs);
            world.sleep(GRACE.as_secs() - 31).await;
            at.desk.heart.beat(&at.desk.store).await.unwrap();
            assert_eq!(compact::run(&at.desk, &at.round).await.unwrap().deleted, 0);
            world.sleep(40).await;
            assert_eq!(compact::run(&at.desk, &at.round).await.unwrap().deleted, 4);
        }
        world.check_rest(&SPANS).await;
    }
}

/// Strikes go with their object, and not before: neither when it could not be put into the quarantine, nor when the
/// worker was stopped before it came to it.
#[tokio::test(start_paused = true)]
async fn strikes_stay_until_their_object_is_done() {
    let world = World::new();
    world.bucket.put("inbox/deadly.json", line(&SPANS[..1]));
    world.bucket.put("inbox/suspect.json", line(&SPANS[1..2]));
    let strike = |path: &str, alone| {
        let boot = BootId::new(world.clock.ulid());
        let body = format!(
            r#"{{"object":"{path}","alone":{alone},"worker":"w","version":"1","last_seen":"2026-11-22T14:00:00Z"}}"#
        );
        world.bucket.put(&Key::Strike(strikes::object_id(path), boot).path(), body);
    };
    (0..3).for_each(|_| strike("inbox/deadly.json", true));
    strike("inbox/suspect.json", false);
    let no_quarantine = world.client(Box::new(|call| match call.path.starts_with("quarantine/") {
        true => Fate::before(Incident::Fail),
        false => Fate::calm(),
    }));
    let mut at = world.sit(&no_quarantine).await;
    at.round.stop.cancel();
    index::run(&at.desk, &at.round).await.unwrap();
    assert_eq!(world.bucket.paths("farm/strikes/").len(), 4, "stopped before it came to them");
    at.round.stop = tokio_util::sync::CancellationToken::new();
    let report = index::run(&at.desk, &at.round).await.unwrap();
    assert_eq!((report.done, report.failed.len()), (1, 1), "{report:?}");
    assert_eq!(world.bucket.paths("inbox/"), ["inbox/deadly.json"]);
    assert_eq!(world.bucket.paths("farm/strikes/").len(), 3, "it could not be put into the quarantine");
    let at = world.sit(&world.calm()).await;
    index::run(&at.desk, &at.round).await.unwrap();
    assert_eq!(world.bucket.paths("inbox/"), [""; 0]);
    assert_eq!(world.bucket.paths("farm/strikes/"), [""; 0]);
    assert_eq!(world.bucket.paths("quarantine/deadly/").len(), 2);
}

/// A batch may be full of what is skipped, without a row and without the end of an object.
#[tokio::test(start_paused = true)]
async fn a_message_larger_than_a_batch_is_not_the_end_of_the_inbox() {
    let mut world = World::new();
    (world.settings.batch_bytes, world.settings.max_message_bytes) = (1 << 20, 1 << 20);
    let name = "x".repeat(3 << 20);
    world.bucket.put("inbox/large.json", line(&SPANS[..1]).replacen("\"name\":\"", &format!("\"name\":\"{name}"), 1));
    world.bucket.put("inbox/small.json", line(&SPANS[1..2]));
    let at = world.sit(&world.calm()).await;
    world.sleep(61).await;
    at.desk.heart.beat(&at.desk.store).await.unwrap();
    let report = index::run(&at.desk, &at.round).await.unwrap();
    assert_eq!((report.done, report.rows_in, world.bucket.paths("inbox/").len()), (2, 1, 0), "{report:?}");
    assert_eq!(world.bucket.paths("quarantine/too-large/").len(), 2);
}

/// The next batch has a fence of its own, and would delete the object at its end.
#[tokio::test(start_paused = true)]
async fn an_object_stays_of_which_a_batch_that_was_too_slow_has_a_part() {
    let mut world = World::new();
    world.settings.batch_bytes = 1 << 20;
    world.send("large", &(1..=5_000).map(|trace| Sent::request(trace, 1, "/a", START)).collect::<Vec<_>>());
    world.sleep(61).await;
    let mut is_first = true;
    let client = world.client(Box::new(move |call| {
        let write = call.path.starts_with("spans/") && call.kind == crate::store::fault::CallKind::Put;
        let first = write && std::mem::take(&mut is_first);
        if first { Fate::after(Incident::Wait(GRACE / 2 + Duration::from_secs(1))) } else { Fate::calm() }
    }));
    let at = world.sit(&client).await;
    let report = tokio::select! {
        report = index::run(&at.desk, &at.round) => report.unwrap(),
        () = at.desk.heart.keep_beating(&at.desk.store) => unreachable!("a heart beats for ever"),
    };
    assert!(report.rows_in < 5_000, "more than one batch, of which the first is the last: {report:?}");
    assert_eq!((report.done, world.bucket.paths("inbox/").len()), (0, 1));
    world.work_off().await;
    assert_eq!((world.rows(Table::Spans).await.len(), world.bucket.paths("inbox/").len()), (5_000, 0));
}

/// A worker sleeps in the middle of a sweep, or of an index batch, for longer than half the grace: it deletes nothing
/// more. Without a heartbeat it does not even begin.
#[tokio::test(start_paused = true)]
async fn a_worker_that_slept_deletes_nothing() {
    let world = World::new();
    put_two(&world);
    let client = world.client(Box::new(|call| {
        let first_write = call.path.starts_with("spans/") && call.kind == crate::store::fault::CallKind::Put;
        if first_write { Fate::after(Incident::Wait(GRACE / 2 + Duration::from_secs(1))) } else { Fate::calm() }
    }));
    let at = world.sit(&client).await;
    let report = index::run(&at.desk, &at.round).await.unwrap();
    assert_eq!((report.done, report.skipped, report.more), (0, 2, true), "{report:?}");
    assert_eq!(world.bucket.paths("inbox/").len(), 2);
    let mut at = at;
    at.desk.heart.beat(&at.desk.store).await.unwrap();
    at.desk.settings_read = world.clock.monotonic();
    client.follow(Box::new(|_| Fate::calm()));
    assert_eq!(index::run(&at.desk, &at.round).await.unwrap().done, 2, "a later round indexes them again");
    client.follow(Box::new(|call| match call.path.starts_with("farm/workers/") {
        true => Fate::before(Incident::Fail),
        false => Fate::calm(),
    }));
    world.sleep(61).await;
    put_two(&world);
    index::run(&at.desk, &at.round).await.unwrap_err();
    assert_eq!(world.bucket.paths("inbox/").len(), 2, "no heartbeat for a minute");
    world.work_off().await;
    world.check_rest(&SPANS).await;
}

#[tokio::test(start_paused = true)]
async fn an_object_whose_body_is_cut_is_left_and_the_others_are_indexed() {
    let world = World::new();
    put_two(&world);
    let client = world.client(Box::new(|call| {
        let cut = (call.path == "inbox/a.jsonl").then_some(0.5);
        Fate { cut, ..Fate::calm() }
    }));
    let at = world.sit(&client).await;
    let report = index::run(&at.desk, &at.round).await.unwrap();
    assert_eq!((report.done, report.failed.len()), (1, 1), "{report:?}");
    assert_eq!(report.failed[0].item, "inbox/a.jsonl");
    assert_eq!(world.bucket.paths("inbox/"), ["inbox/a.jsonl"]);
    let report = index::run(&at.desk, &at.round).await.unwrap();
    assert_eq!((report.skipped, report.failed.len()), (1, 0), "not tried again at once");
    world.work_off().await;
    world.check_rest(&SPANS).await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_grows_while_it_is_indexed_stays() {
    let world = World::new();
    put_two(&world);
    let bucket = world.bucket.clone();
    let client = world.client(Box::new(move |call| {
        if call.path.starts_with("entries/") && call.kind == crate::store::fault::CallKind::Put {
            bucket.put("inbox/a.jsonl", line(&SPANS[..3]) + &line(&[(4, 1)]));
        }
        Fate::calm()
    }));
    let at = world.sit(&client).await;
    let report = index::run(&at.desk, &at.round).await.unwrap();
    assert_eq!((report.done, report.skipped), (1, 1), "{report:?}");
    assert_eq!(world.bucket.paths("inbox/"), ["inbox/a.jsonl"]);
    world.work_off().await;
    world.check_rest(&[&SPANS[..], &[(4, 1)]].concat()).await;
}

#[tokio::test(start_paused = true)]
async fn a_kept_inbox_is_indexed_once_and_the_ledger_forgets_what_is_gone() {
    let world = World { keep_inbox: true, ..World::new() };
    put_two(&world);
    let at = world.sit(&world.calm()).await;
    assert_eq!(index::run(&at.desk, &at.round).await.unwrap().done, 2);
    assert_eq!(world.bucket.paths("inbox/").len(), 2);
    assert_eq!(world.bucket.paths("farm/ledger/").len(), 1);
    let quarantined = world.bucket.paths("quarantine/");
    assert_eq!(quarantined.len(), 1, "only why: the object stays in the inbox: {quarantined:?}");
    let blocks = world.bucket.paths("spans/");
    let another = world.sit(&world.calm()).await;
    assert_eq!(index::run(&another.desk, &another.round).await.unwrap().done, 0, "another worker reads the ledger");
    assert_eq!(world.bucket.paths("spans/"), blocks);
    world.bucket.put("inbox/a.jsonl", line(&[(4, 1)]));
    assert_eq!(index::run(&at.desk, &at.round).await.unwrap().done, 1, "another content of a name is another object");
    world.bucket.remove("inbox/a.jsonl");
    world.bucket.remove("inbox/b.jsonl");
    index::run(&at.desk, &at.round).await.unwrap();
    assert_eq!(world.bucket.paths("farm/ledger/"), [""; 0]);
    world.work_off().await;
    world.check_rest(&[&SPANS[..], &[(4, 1)]].concat()).await;
}

#[tokio::test(start_paused = true)]
async fn an_object_with_an_hour_of_newer_rules_is_left_whole() {
    let mut world = World::new();
    let rules = |number| crate::handler::Rules { number, ..crate::handler::Rules::default() };
    let hour = |text: &str| text.parse().unwrap();
    let changes = [(crate::model::Hour::EPOCH, 1), (hour("2026-11-22T14"), crate::handler::RULES + 1)];
    let changes = changes.map(|(from, number)| Change { from, value: rules(number) });
    world.settings.rules = serde_json::from_value(serde_json::to_value(changes).unwrap()).unwrap();
    // Traces of 100 and more started at 13 h, the others at 14 h.
    world.bucket.put("inbox/mixed.jsonl", line(&[(101, 1), (1, 1)]));
    world.bucket.put("inbox/old.jsonl", line(&[(102, 1)]));
    let at = world.sit(&world.calm()).await;
    let report = index::run(&at.desk, &at.round).await.unwrap();
    assert_eq!((report.done, report.failed.len()), (1, 1), "{report:?}");
    assert!(report.failed[0].report.to_string().contains("run a newer program"), "{}", report.failed[0].report);
    assert_eq!(world.bucket.paths("inbox/"), ["inbox/mixed.jsonl"]);
    assert_eq!(world.keys(Table::Spans).await, BTreeSet::from([ids((102, 1))]));
}

#[tokio::test(start_paused = true)]
async fn settings_that_are_too_old_are_not_indexed_by() {
    let world = World::new();
    put_two(&world);
    let at = world.sit(&world.calm()).await;
    world.sleep(301).await;
    assert!(index::run(&at.desk, &at.round).await.unwrap_err().to_string().contains("5 minutes"));
    assert_eq!(world.bucket.paths("spans/"), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn four_shards_hold_each_row_once() {
    let mut world = World::new();
    world.settings.shards = Timeline::always(4);
    let spans: Vec<(u8, u8)> = (1..40).flat_map(|trace| [(trace, 1), (trace, 2)]).collect();
    for (number, spans) in spans.chunks(13).enumerate() {
        world.bucket.put(&format!("inbox/{number}"), line(spans));
    }
    world.work_off().await;
    world.check_rest(&spans).await;
    assert_eq!(world.bucket.paths("spans/").len(), 4);
    let at = world.sit(&world.calm()).await;
    let view = at.desk.view(&Scope::of_trace(ids(spans[0]).0, [4], GRACE)).await.unwrap();
    let shard = Shard::of_trace(ids(spans[0]).0, 4);
    assert_eq!(view.blocks.iter().map(|block| block.shards().to_vec()).collect::<Vec<_>>(), [[shard]]);
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_trace_goes_from_blocks_and_from_the_quarantine() {
    let world = World::new();
    put_two(&world);
    world.work_off().await;
    assert_eq!(world.bucket.paths("quarantine/").len(), 2, "it holds traces 101 and 3");
    let at = world.sit(&world.calm()).await;
    at.desk.store.create(&Key::Forget(ids((101, 1)).0), "{}".into()).await.unwrap();
    world.sleep(2).await;
    let report = forget::run(&at.desk, &at.round).await.unwrap();
    assert!(report.failed.is_empty() && report.did_something(), "{report:?}");
    world.sleep(2).await;
    let left: Vec<_> = SPANS.into_iter().filter(|span| span.0 != 101).collect();
    assert_eq!(world.keys(Table::Spans).await, left.iter().map(|span| ids(*span)).collect());
    assert_eq!(world.bucket.paths("quarantine/"), [""; 0]);
    at.desk.heart.beat(&at.desk.store).await.unwrap();
    let blocks = world.bucket.paths("spans/");
    forget::run(&at.desk, &at.round).await.unwrap();
    assert_eq!(world.bucket.paths("spans/"), blocks, "a second sweep finds nothing");
    // The object is sent again: it is left out as it is indexed.
    put_two(&world);
    world.sleep(GRACE.as_secs() + 1).await;
    world.work_off().await;
    world.check_rest(&left).await;
    world.sleep(21 * 24 * 3600).await;
    let at = world.sit(&world.calm()).await;
    forget::run(&at.desk, &at.round).await.unwrap();
    assert_eq!(at.desk.store.list(&Prefix::Forget).await.unwrap().objects.len(), 0, "its time is over");
}

#[test]
fn failures_wait_longer_and_longer() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let clock = Clock::simulated(Timestamp::UNIX_EPOCH, 1);
        let setbacks = Setbacks::new(clock.clone());
        for wait in [10, 20, 40, 80, 160, 320, 600, 600] {
            setbacks.failed("a");
            clock.sleep(Duration::from_secs(wait - 1)).await;
            assert!(!setbacks.may_try("a") && setbacks.may_try("b"));
            clock.sleep(Duration::from_secs(1)).await;
            assert!(setbacks.may_try("a"));
        }
        assert_eq!((setbacks.times("a"), setbacks.items()), (8, vec!["a".to_owned()]));
        setbacks.done("a");
        assert_eq!(setbacks.items(), [""; 0]);
    });
}
