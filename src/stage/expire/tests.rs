//! Expiry and pins on a simulated store: what they promise when workers die, sleep, or work at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::farm::settings::Timeline;
use crate::model::{HandlerId, SpanId, TraceId};
use crate::stage::testing::{GRACE, MINUTE, START, Sent, World, clean, crash_at, span_id, trace_id};
use crate::stage::{expire, index};
use crate::store::Key;
use crate::store::fault::{CallKind, Fate, Faults, Gate, Incident};

const DAY: u64 = 24 * 3600;
const HOUR_NS: u64 = 60 * MINUTE;

/// A week's worth of traces: `/a` with 14 (two spans of two services each, the first crosses the hour), `/b` with 3, one
/// of them without a possible time, 404s on two paths.
fn spans() -> Vec<Sent> {
    let mut all = Vec::new();
    for number in 1..=14 {
        let start = START + number * MINUTE;
        all.push(Sent::request(number, 1, "/a", start));
        all.push(Sent::inner(number, 2, 1, "db", if number == 14 { start + HOUR_NS } else { start + 1 }));
    }
    for number in 21..=22 {
        all.push(Sent::request(number, 1, "/b", START + number * MINUTE - 2 * HOUR_NS));
        all.push(Sent::inner(number, 2, 1, "db", START + number * MINUTE - 2 * HOUR_NS));
    }
    all.push(Sent::request(23, 1, "/b", 0));
    all.push(Sent::inner(23, 2, 1, "db", START));
    for (number, path) in [(31, "/x"), (32, "/y"), (33, "/x")] {
        all.push(Sent::not_found(number, 1, path, START + number * 1_000));
    }
    all
}

/// The traces that must stay for ever, by the end of their handler's id.
fn newest(keep_last: u64) -> BTreeSet<u64> {
    (15 - keep_last.min(14)..=14).chain(24 - keep_last.min(3)..=23).chain([32, 33]).collect()
}

fn spans_of(number: u64) -> BTreeSet<SpanId> {
    spans().iter().filter(|span| span.trace == number).map(|span| span_id(span.span)).collect()
}

async fn filled(world: &World) {
    let spans = spans();
    for (number, chunk) in spans.chunks(7).enumerate() {
        world.send(&format!("{number}"), chunk);
    }
    world.take_in().await;
}

/// Every trace that must stay is found whole.
async fn check_newest(world: &World, keep_last: u64, when: &str) {
    for number in newest(keep_last) {
        let found = world.spans_of(trace_id(number)).await;
        assert_eq!(found, spans_of(number), "trace {number} {when}:\n{}", world.bucket.log());
    }
}

/// At rest, long after: no block, no document, and exactly the newest of each handler, whole, one version each.
async fn check_rest(world: &World, keep_last: u64) {
    for prefix in ["spans/", "entries/", "farm/pinned/", "inbox/"] {
        assert_eq!(world.bucket.paths(prefix), [""; 0], "{prefix}");
    }
    let pinned = world.pinned().await;
    let traces: BTreeMap<TraceId, BTreeSet<SpanId>> = pinned.values().flatten().map(|(t, s)| (*t, s.clone())).collect();
    let wanted: BTreeMap<_, _> =
        newest(keep_last).into_iter().map(|number| (trace_id(number), spans_of(number))).collect();
    assert_eq!(traces, wanted);
    assert_eq!(world.bucket.paths("latest/").len(), wanted.len(), "one version each");
    assert_eq!(pinned.len(), 3, "{:?}", pinned.keys().collect::<Vec<&HandlerId>>());
    check_newest(world, keep_last, "at rest").await;
    assert_eq!(world.bucket.breaches(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn eight_days_later_only_the_newest_of_each_handler_are_left_whole() {
    for (shards, keep_last) in [(1, 10), (4, 10), (1, 1), (4, 100)] {
        let mut world = World::new();
        world.settings.shards = Timeline::always(shards);
        world.settings.keep_last = keep_last;
        filled(&world).await;
        let before = (world.bucket.paths("spans/"), world.bucket.paths("entries/"));
        world.sleep(6 * DAY).await;
        world.expire().await;
        assert_eq!((world.bucket.paths("spans/"), world.bucket.paths("entries/")), before, "nothing is past");
        world.sleep(2 * DAY).await;
        world.drain().await;
        check_rest(&world, u64::from(keep_last)).await;
        let stood = world.bucket.paths("latest/");
        world.sleep(400 * DAY).await;
        world.expire().await;
        assert_eq!(world.bucket.paths("latest/"), stood, "for ever");
    }
}

/// Somebody restored an old version of the settings, or wrote them by hand.
#[tokio::test(start_paused = true)]
async fn shards_of_a_count_that_the_settings_do_not_tell_of_are_pinned_too() {
    let mut world = World::new();
    world.settings.shards = Timeline::always(4);
    filled(&world).await;
    world.settings.shards = Timeline::always(1);
    world.sleep(8 * DAY).await;
    world.drain().await;
    check_rest(&world, 10).await;
}

/// As it really goes: hourly, from the sixth hour before. The entries go before their spans.
#[tokio::test(start_paused = true)]
async fn hour_by_hour_nothing_is_lost_and_entries_go_before_spans() {
    let mut world = World::new();
    world.settings.keep_last = 2;
    filled(&world).await;
    world.sleep(7 * DAY - 12 * 3600).await;
    let mut pinned_ahead = false;
    for _ in 0..24 {
        world.expire().await;
        check_newest(&world, 2, "hourly").await;
        let (entries, spans) = (world.bucket.paths("entries/"), world.bucket.paths("spans/"));
        assert!(entries.len() <= spans.len(), "{entries:?} {spans:?}");
        pinned_ahead |= !world.bucket.paths("latest/").is_empty() && !entries.is_empty();
        world.sleep(3600).await;
    }
    assert!(pinned_ahead);
    check_rest(&world, 2).await;
}

/// A worker dies before or after every single call of a round of expiry; another goes on.
#[tokio::test(start_paused = true)]
async fn dying_between_any_two_calls_loses_no_newest_trace() {
    let mut world = World::new();
    world.settings.keep_last = 1;
    filled(&world).await;
    world.sleep(8 * DAY).await;
    let filled = world.bucket.objects();
    let mut call = 0;
    let mut alive = false;
    while !alive {
        call += 1;
        for after in [false, true] {
            world.reset(filled.clone());
            let client = world.client(crash_at(call, after));
            let ended = client.live(async {
                let at = world.sit(&client).await;
                expire::run(&at.desk, &at.round).await.unwrap();
            });
            alive = ended.await.is_some();
            check_newest(&world, 1, &format!("after dying at call {call}")).await;
            world.settle().await;
            check_rest(&world, 1).await;
        }
    }
    assert!(call > 40, "a round makes more calls than {call}");
}

#[tokio::test(start_paused = true)]
async fn two_workers_at_once_with_a_faulty_store_lose_nothing() {
    let mut world = World::new();
    world.settings.keep_last = 1;
    filled(&world).await;
    world.sleep(8 * DAY).await;
    let filled = world.bucket.objects();
    for seed in 0..20 {
        world.reset(filled.clone());
        let faults = Faults { fail_before: 0.02, fail_after: 0.02, ..Faults::CALM };
        let (one, two) = (world.client(faults.clone().script(seed)), world.client(faults.script(seed + 1000)));
        let work = async |client| {
            // A heartbeat that fails: the worker does not begin.
            let at = world.sit(client).await;
            let _ = expire::run(&at.desk, &at.round).await;
        };
        tokio::join!(one.live(work(&one)), two.live(work(&two)));
        check_newest(&world, 1, &format!("with seed {seed}")).await;
        world.settle().await;
        check_rest(&world, 1).await;
    }
}

/// A worker that listed, and then slept while others did everything, must change nothing.
#[tokio::test(start_paused = true)]
async fn a_worker_that_slept_pins_and_deletes_nothing_by_its_old_listing() {
    let mut world = World::new();
    world.settings.keep_last = 1;
    filled(&world).await;
    world.sleep(8 * DAY).await;
    let filled = world.bucket.objects();
    for kind in [CallKind::Put, CallKind::Delete] {
        world.reset(filled.clone());
        let gate = Gate::new();
        let held = gate.clone();
        let client = world.client(Box::new(move |call| {
            let first = call.kind == kind && (call.path.starts_with("latest/") || call.path.starts_with("entries/"));
            if first && !held.is_reached() { Fate::before(Incident::Hold(held.clone())) } else { Fate::calm() }
        }));
        let slow = async {
            let at = world.sit(&client).await;
            let _ = expire::run(&at.desk, &at.round).await;
        };
        let others = async {
            while !gate.is_reached() {
                world.sleep(1).await;
            }
            world.sleep(GRACE.as_secs()).await;
            world.settle().await;
            gate.open();
        };
        tokio::join!(slow, others);
        check_newest(&world, 1, "after the sleeper woke").await;
        world.settle().await;
        check_rest(&world, 1).await;
    }
}

/// A span that arrives when its trace is pinned and its hour is past joins the pin.
#[tokio::test(start_paused = true)]
async fn a_late_span_of_a_pinned_trace_joins_its_pin() {
    let world = World::new();
    world.send("first", &[Sent::request(1, 1, "/a", START)]);
    world.take_in().await;
    world.sleep(7 * DAY).await;
    world.expire().await;
    world.drain().await;
    assert_eq!(world.bucket.paths("latest/").len(), 1);
    assert_eq!(world.bucket.paths("spans/"), [""; 0]);
    world.send("late", &[Sent::inner(1, 2, 1, "db", START + 5)]);
    world.drain().await;
    assert_eq!(world.bucket.paths("spans/"), [""; 0]);
    assert_eq!(world.bucket.paths("latest/").len(), 1);
    assert_eq!(world.spans_of(trace_id(1)).await, [span_id(1), span_id(2)].into());
}

/// An entry that arrives when its trace is pinned under another handler, and gone from the blocks: the pin under its own
/// handler has the whole trace, too. Nothing in the late rows tells that others are missing: it is their root.
#[tokio::test(start_paused = true)]
async fn a_late_entry_of_a_trace_that_is_pinned_elsewhere_is_pinned_with_all_of_it() {
    let world = World::new();
    let called = Sent { parent: 1, service: "cart", ..Sent::request(1, 2, "/b", START + 1) };
    world.send("first", &[called, Sent::inner(1, 3, 2, "db", START + 2)]);
    world.take_in().await;
    world.sleep(7 * DAY).await;
    world.expire().await;
    world.drain().await;
    assert_eq!(world.bucket.paths("spans/"), [""; 0]);
    world.send("late", &[Sent::request(1, 1, "/a", START)]);
    world.drain().await;
    let pinned = world.pinned().await;
    let spans: Vec<&BTreeSet<SpanId>> = pinned.values().flat_map(BTreeMap::values).collect();
    let all = BTreeSet::from([span_id(1), span_id(2), span_id(3)]);
    assert_eq!(spans, [&all, &all], "{pinned:?}");
}

/// A service whose clock is broken for good: its rows have no possible time, and go by when they were received.
#[tokio::test(start_paused = true)]
async fn rows_without_a_possible_time_do_not_stay_for_ever() {
    let mut world = World::new();
    world.settings.keep_last = 1;
    for day in 1..=20 {
        world.send("timeless", &[Sent::request(day, 1, "/a", 0)]);
        world.take_in().await;
        world.expire().await;
        world.sleep(DAY).await;
    }
    let hour = world.bucket.paths("spans/shard=000-of-001/hour=1970-01-01T00/").len();
    assert!((7..=9).contains(&hour), "a block a day for a week: {hour}");
    assert_eq!(world.bucket.paths("latest/").len(), 1, "{:?}", world.bucket.paths("latest/"));
    assert_eq!(world.spans_of(trace_id(20)).await, [span_id(1)].into());
    assert!(world.spans_of(trace_id(5)).await.is_empty());
}

/// What waits in the inbox must not expire unread, and what it belongs to waits for it.
#[tokio::test(start_paused = true)]
async fn a_backlog_holds_expiry_up() {
    let world = World::new();
    world.send("first", &[Sent::request(1, 1, "/a", START)]);
    world.take_in().await;
    world.send("waits", &[Sent::request(2, 1, "/a", START + 1)]);
    world.sleep(8 * DAY).await;
    world.expire().await;
    assert_eq!(world.bucket.paths("entries/").len(), 1, "eight days less seven");
    let at = world.desk().await;
    clean(index::run(&at.desk, &at.round).await.unwrap());
    world.drain().await;
    assert_eq!(world.bucket.paths("latest/").len(), 2);
    assert_eq!(world.bucket.paths("entries/"), [""; 0]);
}

/// An inbox that is kept holds old objects for ever: those that have been indexed hold nothing up.
#[tokio::test(start_paused = true)]
async fn of_a_kept_inbox_what_is_not_on_the_ledger_holds_expiry_up() {
    let world = World { keep_inbox: true, ..World::new() };
    world.send("first", &[Sent::request(1, 1, "/a", START)]);
    world.take_in().await;
    world.send("waits", &[Sent::request(2, 1, "/a", START + 1)]);
    world.sleep(8 * DAY).await;
    world.expire().await;
    assert_eq!(world.bucket.paths("entries/").len(), 1, "eight days less seven");
    world.take_in().await;
    world.drain().await;
    assert_eq!(world.bucket.paths("latest/").len(), 2);
    assert_eq!(world.bucket.paths("entries/"), [""; 0]);
    assert_eq!(world.bucket.paths("inbox/").len(), 2);
}

/// Nobody can read a damaged pin; what others hold of the trace makes it whole again.
#[tokio::test(start_paused = true)]
async fn a_damaged_pin_is_healed_from_the_blocks() {
    let mut world = World::new();
    world.settings.keep_last = 1;
    filled(&world).await;
    world.sleep(7 * DAY - 3 * 3600).await;
    world.expire().await;
    let pins = world.bucket.paths("latest/");
    assert!(!pins.is_empty() && !world.bucket.paths("entries/").is_empty(), "pinned ahead");
    for pin in &pins {
        world.bucket.put(pin, "garbage");
    }
    world.sleep(DAY).await;
    world.drain().await;
    check_rest(&world, 1).await;
}

#[tokio::test(start_paused = true)]
async fn what_people_asked_to_remove_goes_from_the_pins() {
    let mut world = World::new();
    filled(&world).await;
    world.sleep(8 * DAY).await;
    world.drain().await;
    let pinned = world.pinned().await;
    let handler = |part: &str| pinned.keys().find(|id| id.as_str().contains(part)).unwrap().clone();
    // A trace is forgotten.
    let at = world.desk().await;
    at.desk.store.create(&Key::Forget(trace_id(14)), "{}".into()).await.unwrap();
    clean(crate::stage::forget::run(&at.desk, &at.round).await.unwrap());
    assert!(!world.pinned().await[&handler("get-a")].contains_key(&trace_id(14)));
    // A handler is removed.
    world.catalogue.1.remove(&handler("get-b"), world.clock.wall());
    world.expire().await;
    assert!(!world.pinned().await.contains_key(&handler("get-b")));
    // Pins are not kept for ever.
    world.settings.pin_max_age = Some(crate::farm::settings::Span(Duration::from_secs(DAY)));
    world.expire().await;
    assert!(world.pinned().await.is_empty());
}

/// Nothing can be written.
#[tokio::test(start_paused = true)]
async fn a_full_disk_does_not_stop_what_may_go_without_a_pin() {
    let mut world = World::new();
    world.settings.keep_last = 1;
    world.send("first", &[Sent::request(1, 1, "/a", START - 3 * HOUR_NS)]);
    world.send("second", &[Sent::request(2, 1, "/a", START)]);
    world.take_in().await;
    world.sleep(7 * DAY + 2 * 3600).await;
    let client = world.client(Box::new(|call| {
        let writes = call.kind == CallKind::Put && !call.path.starts_with("farm/workers/");
        if writes { Fate::before(Incident::Fail) } else { Fate::calm() }
    }));
    let at = world.sit(&client).await;
    let report = expire::run(&at.desk, &at.round).await.unwrap();
    assert!(!report.failed.is_empty(), "it says so");
    assert_eq!(world.bucket.paths("entries/").len(), 1, "trace 1 is not the newest: its entries go without a document");
    world.drain().await;
    assert_eq!(world.bucket.paths("latest/").len(), 1);
    assert_eq!(world.spans_of(trace_id(2)).await, [span_id(1)].into());
}
