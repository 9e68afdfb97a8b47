use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::{LocalSet, spawn_local};

use super::*;
use crate::error::{find, is_not_found};
use crate::farm::heartbeat::Heartbeat;
use crate::farm::settings::Span;
use crate::store::Request;
use crate::store::fault::{Bucket, CallKind, Fate, Incident};

const LINE: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"01010101010101010101010101010101",
    "spanId":"0101010101010101","name":"GET /x","kind":2,"startTimeUnixNano":"1795357000000000000",
    "endTimeUnixNano":"1795357000001000000"}]}]}]}"#;

/// A bucket at 2026-11-22T14:30:00, half an hour after the span of [`LINE`].
fn bucket() -> Bucket {
    Bucket::new(Clock::simulated("2026-11-22T14:30:00Z".parse().unwrap(), 1), 1_000)
}

fn store(bucket: &Bucket, name: &str, script: crate::store::fault::Script) -> Store {
    let now = bucket.clone();
    let client = Arc::new(bucket.client(name, script));
    Store::over_with_time(client, "memory://", bucket.clock().clone(), Arc::new(move || now.now()))
}

fn calm(bucket: &Bucket) -> Store {
    store(bucket, "calm", Box::new(|_| Fate::calm()))
}

fn worker(store: Store, bucket: &Bucket, change: impl FnOnce(&mut Options)) -> Worker {
    let mut options = Options::new("test".parse().unwrap());
    change(&mut options);
    Worker::new(store, bucket.clock().clone(), options)
}

#[tokio::test(start_paused = true)]
async fn once_does_everything_and_again_it_does_nothing() {
    let bucket = bucket();
    bucket.put("inbox/a.json", LINE);
    let plans = worker(calm(&bucket), &bucket, |options| options.once = true).plans().await.unwrap();
    assert_eq!(plans.index.objects.len(), 1);
    assert_eq!(bucket.paths(""), ["inbox/a.json"], "a dry run changes nothing");
    let once = worker(calm(&bucket), &bucket, |options| options.once = true);
    let summary = once.run(&CancellationToken::new()).await.unwrap();
    assert_eq!((summary.objects, summary.spans, summary.is_clean()), (1, 1, true), "{summary}");
    assert_eq!(bucket.paths("inbox/"), [""; 0]);
    assert_eq!(bucket.paths("spans/shard=000-of-001/").len(), 1);
    assert_eq!(bucket.paths("farm/workers/"), [""; 0], "the heartbeat is removed");
    let stood = bucket.objects().into_keys().collect::<Vec<_>>();
    let summary = once.run(&CancellationToken::new()).await.unwrap();
    assert_eq!((summary.objects, summary.deleted), (0, 0), "{summary}");
    assert_eq!(bucket.objects().into_keys().collect::<Vec<_>>(), stood);
}

/// Nobody tells of a farm that has ended: what was told last stays.
#[tokio::test(start_paused = true)]
async fn once_tells_of_the_farm_that_nothing_waits_any_more() {
    let bucket = bucket();
    for number in 1..=30 {
        bucket.put(&format!("inbox/{number}.json"), span(number));
    }
    let once = worker(calm(&bucket), &bucket, |options| options.once = true);
    assert!(once.run(&CancellationToken::new()).await.unwrap().is_clean());
    let farm: serde_json::Value = serde_json::from_slice(&bucket.read("site/farm.json").unwrap().body).unwrap();
    assert_eq!((&farm["backlog"]["objects"], &farm["backlog"]["bytes"]), (&0.into(), &0.into()), "{farm:#}");
    assert_eq!(farm["workers"][0]["vitals"]["stage"], "publish", "{farm:#}");
}

/// What failed is told at the end, even if the last rounds left it alone.
#[tokio::test(start_paused = true)]
async fn once_is_not_clean_while_pages_cannot_be_written() {
    let bucket = bucket();
    bucket.put("inbox/a.json", LINE);
    let no_pages = |call: &crate::store::fault::Call| {
        let page = call.kind == CallKind::Put && call.path.starts_with("site/handlers/");
        if page { Fate::before(Incident::Fail) } else { Fate::calm() }
    };
    let once = worker(store(&bucket, "full", Box::new(no_pages)), &bucket, |options| options.once = true);
    let summary = once.run(&CancellationToken::new()).await.unwrap();
    let failed: Vec<&str> = summary.failed.iter().map(|failed| failed.item.as_str()).collect();
    assert_eq!(failed, ["publish 000-of-001"], "{summary}");
    let once = worker(calm(&bucket), &bucket, |options| options.once = true);
    assert!(once.run(&CancellationToken::new()).await.unwrap().is_clean());
}

#[tokio::test(start_paused = true)]
async fn what_comes_after_once_began_is_left_so_that_it_ends() {
    let bucket = bucket();
    let (inner, count) = (bucket.clone(), AtomicU64::new(0));
    let busy = store(
        &bucket,
        "busy",
        Box::new(move |call| {
            if call.path.starts_with("spans/") {
                inner.put(&format!("inbox/{}", count.fetch_add(1, Ordering::Relaxed)), LINE);
            }
            Fate::before(Incident::Wait(Duration::from_millis(500)))
        }),
    );
    bucket.put("inbox/first", LINE);
    let summary = worker(busy, &bucket, |options| options.once = true).run(&CancellationToken::new()).await.unwrap();
    assert!(summary.objects >= 1 && !bucket.paths("inbox/").is_empty(), "{summary}");
}

/// The first heartbeat comes before the place is known, the second only 15 s later: pages are written between.
#[tokio::test(start_paused = true)]
async fn a_heartbeat_tells_a_workers_first_place_at_once() {
    let bucket = bucket();
    let stop = CancellationToken::new();
    let looping = worker(calm(&bucket), &bucket, |_| {});
    let (summary, ()) = tokio::join!(looping.run(&stop), async {
        bucket.clock().sleep(Duration::from_secs(5)).await;
        let heartbeat = bucket.read(&bucket.paths("farm/workers/")[0]).unwrap();
        let says: Heartbeat = serde_json::from_slice(&heartbeat.body).unwrap();
        assert_eq!(says.vitals.map(|vitals| (vitals.rank, vitals.peers)), Some((Some(0), 1)));
        let farm: serde_json::Value = serde_json::from_slice(&bucket.read("site/farm.json").unwrap().body).unwrap();
        assert_eq!(farm["workers"][0]["slice"]["until"], 1.0, "{farm:#}");
        stop.cancel();
    });
    summary.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_stopped_removes_its_heartbeat_and_ends() {
    let bucket = bucket();
    let stop = CancellationToken::new();
    let looping = worker(calm(&bucket), &bucket, |_| {});
    let (summary, ()) = tokio::join!(looping.run(&stop), async {
        bucket.clock().sleep(Duration::from_secs(100)).await;
        assert_eq!(bucket.paths("farm/workers/").len(), 1);
        bucket.put("inbox/a.json", LINE);
        bucket.clock().sleep(Duration::from_secs(200)).await;
        stop.cancel();
    });
    let summary = summary.unwrap();
    assert_eq!(summary.objects, 1, "settled for 10 s, then waited a minute for company: {summary}");
    assert_eq!(bucket.paths("farm/workers/"), [""; 0]);
    assert!(summary.seconds < 331.0, "{summary}");
}

/// [`LINE`] with another span.
fn span(number: u64) -> String {
    LINE.replace("\"0101010101010101\"", &format!("\"{number:016x}\""))
}

/// How many requests the pages show; none before there are pages.
fn shown(bucket: &Bucket) -> Option<u64> {
    let list: serde_json::Value = serde_json::from_slice(&bucket.read("site/handlers.json")?.body).unwrap();
    list["handlers"].as_array().unwrap().iter().map(|row| row["count"].as_u64()).sum()
}

/// Whenever it comes, also while blocks are merged and the clock is waited for.
#[tokio::test(start_paused = true)]
async fn what_comes_to_an_eager_worker_is_on_the_pages_within_two_seconds() {
    let bucket = bucket();
    let (stop, pace) = (CancellationToken::new(), Pace::eager());
    let came = pace.came.clone();
    let disk = store(&bucket, "disk", Box::new(|_| Fate::before(Incident::Wait(Duration::from_millis(3)))));
    let eager = worker(disk, &bucket, |options| options.pace = pace);
    let clock = bucket.clock();
    let (summary, ()) = tokio::join!(eager.run(&stop), async {
        for number in 1..=90_u64 {
            // At other moments of the worker's minutes each time.
            clock.sleep(Duration::from_millis(137 * (number % 29))).await;
            bucket.put(&format!("inbox/{number}.json"), span(number));
            let sent = clock.monotonic();
            came.notify_one();
            while shown(&bucket) < Some(number) {
                clock.sleep(Duration::from_millis(20)).await;
                let took = clock.monotonic() - sent;
                assert!(took < Duration::from_secs(2), "{number} after {took:?}");
            }
        }
        stop.cancel();
    });
    let summary = summary.unwrap();
    assert!(summary.is_clean() && summary.stages["compact"].done > 0, "{summary}");
}

/// A day's hours have closed, and all are merged at once, on a disk that is slow: that takes ten seconds.
#[tokio::test(start_paused = true)]
async fn what_comes_while_many_hours_are_merged_waits_for_those_in_hand_alone() {
    let bucket = bucket();
    let (stop, pace) = (CancellationToken::new(), Pace::eager());
    let came = pace.came.clone();
    let disk = store(&bucket, "disk", Box::new(|_| Fate::before(Incident::Wait(Duration::from_millis(20)))));
    let eager = worker(disk, &bucket, |options| options.pace = pace);
    let clock = bucket.clock();
    let merged = || bucket.paths("spans/shard=000-of-001/").len();
    for hour in 0..24 {
        let at = (1_795_357_000 - hour * 3_600).to_string();
        bucket.put(&format!("inbox/{hour}.json"), span(hour + 1).replace("1795357000", &at));
    }
    let (summary, ()) = tokio::join!(eager.run(&stop), async {
        while merged() == 0 {
            clock.sleep(Duration::from_millis(10)).await;
        }
        let mut during = 0;
        for number in 1..=40_u64 {
            bucket.put(&format!("inbox/later-{number}.json"), span(1_000 + number));
            let sent = clock.monotonic();
            during += u64::from(merged() < 23);
            came.notify_one();
            while shown(&bucket) != Some(24 + number) {
                clock.sleep(Duration::from_millis(20)).await;
                let took = clock.monotonic() - sent;
                assert!(
                    took < Duration::from_secs(2),
                    "{number} after {took:?}: {:?}, {} merged",
                    shown(&bucket),
                    merged()
                );
            }
        }
        assert!(during > 3, "{during} came while hours were merged");
        // They are merged all the same.
        while merged() < 24 {
            clock.sleep(Duration::from_secs(1)).await;
            assert!(clock.monotonic() < Duration::from_secs(300), "{} merged", merged());
        }
        stop.cancel();
    });
    assert!(summary.unwrap().is_clean());
}

/// Works off a backlog of half-minute batches; what was written of blocks and pages, and after how many seconds.
async fn puts_of_a_backlog(pace: Pace) -> Vec<(String, u64)> {
    let bucket = bucket();
    // Each is a batch by itself.
    let long = "x".repeat(1 << 20);
    for number in 0..30 {
        let line = LINE.replace("GET /x", &format!("GET /{number}{long}"));
        bucket.put(&format!("inbox/{number:02}.json"), line);
    }
    let began = bucket.clock().monotonic();
    let puts = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (clock, seen) = (bucket.clock().clone(), puts.clone());
    let slow = store(
        &bucket,
        "slow",
        Box::new(move |call| {
            if call.kind != CallKind::Put {
                return Fate::calm();
            }
            seen.lock().unwrap().push((call.path.clone(), (clock.monotonic() - began).as_secs()));
            match call.path.starts_with(LEVEL0) {
                true => Fate::before(Incident::Wait(Duration::from_secs(30))),
                false => Fate::calm(),
            }
        }),
    );
    let stop = CancellationToken::new();
    let looping = worker(slow, &bucket, |options| (options.memory_bytes, options.pace) = (6 << 20, pace));
    let (summary, ()) = tokio::join!(looping.run(&stop), async {
        while !bucket.paths("inbox/").is_empty() {
            bucket.clock().sleep(Duration::from_secs(1)).await;
        }
        stop.cancel();
    });
    assert!(summary.unwrap().is_clean());
    puts.lock().unwrap().clone()
}

const LEVEL0: &str = "spans/shard=all/";

/// Nobody waits for merges of half of what there is; but a backlog that never ends does not keep them from being made.
#[tokio::test(start_paused = true)]
async fn a_backlog_is_indexed_first_for_five_minutes() {
    let puts = puts_of_a_backlog(Pace::default()).await;
    let blocks: Vec<_> = puts.iter().filter(|(path, _)| path.starts_with("spans/")).collect();
    let first_merge = blocks.iter().position(|(path, _)| !path.starts_with(LEVEL0)).unwrap();
    let (_, at) = blocks[first_merge];
    assert!((300..420).contains(at), "{blocks:?}");
    assert!(
        blocks[first_merge..].iter().any(|(path, _)| path.starts_with(LEVEL0)),
        "it goes on afterwards: {blocks:?}"
    );
}

/// Somebody looks at the pages of an eager worker.
#[tokio::test(start_paused = true)]
async fn of_an_eager_workers_backlog_is_shown_what_has_been_indexed() {
    let puts = puts_of_a_backlog(Pace::eager()).await;
    let shown = puts.iter().find(|(path, _)| path == "site/handlers.json").unwrap().1;
    assert!(shown < 150, "{shown} s");
}

/// An item that hangs is given 20 s when the worker is stopped.
#[tokio::test(start_paused = true)]
async fn an_item_that_hangs_does_not_keep_a_stopped_worker() {
    let bucket = bucket();
    bucket.put("inbox/a.json", LINE);
    let hanging = store(
        &bucket,
        "hangs",
        Box::new(|call| match call.path.starts_with("inbox/a") {
            true => Fate::before(Incident::Wait(Duration::from_secs(10_000))),
            false => Fate::calm(),
        }),
    );
    let stop = CancellationToken::new();
    let started = bucket.clock().monotonic();
    let hanging = worker(hanging, &bucket, |options| options.once = true);
    let (summary, ()) = tokio::join!(hanging.run(&stop), async {
        bucket.clock().sleep(Duration::from_secs(30)).await;
        stop.cancel();
    });
    assert_eq!(summary.unwrap().objects, 0);
    assert_eq!((bucket.clock().monotonic() - started).as_secs(), 50);
    assert_eq!(bucket.paths("inbox/").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_store_hangs_or_fails_gives_up() {
    for (fate, gave_up) in
        [(Incident::Wait(Duration::from_secs(100_000)), GaveUp::Stuck), (Incident::Fail, GaveUp::Failing)]
    {
        let bucket = bucket();
        let script = move |call: &crate::store::fault::Call| match call.path.starts_with("inbox") {
            true => Fate::before(fate.clone()),
            false => Fate::calm(),
        };
        let looping = worker(store(&bucket, "odd", Box::new(script)), &bucket, |_| {});
        let report = looping.run(&CancellationToken::new()).await.unwrap_err();
        assert_eq!(find::<GaveUp>(&report), Some(&gave_up), "{report}");
        assert!(!is_not_found(&report));
    }
}

/// One item fails for ever: it is reported, and `--once` ends.
#[tokio::test(start_paused = true)]
async fn once_ends_also_when_something_fails() {
    let bucket = bucket();
    bucket.put("inbox/a.json", LINE);
    bucket.put("inbox/b.json", LINE);
    let script = |call: &crate::store::fault::Call| match call.path.as_str() {
        "inbox/a.json" => Fate::before(Incident::Fail),
        _ => Fate::calm(),
    };
    let once = worker(store(&bucket, "odd", Box::new(script)), &bucket, |options| options.once = true);
    let summary = once.run(&CancellationToken::new()).await.unwrap();
    assert_eq!(summary.objects, 1);
    assert_eq!(summary.failed.len(), 1, "{summary}");
    assert_eq!((summary.failed[0].stage, summary.failed[0].item.as_str()), ("index", "inbox/a.json"));
    assert!(!summary.is_clean());
}

/// A worker that dies of something else later must not have named them.
#[tokio::test(start_paused = true)]
async fn what_was_in_hand_is_put_down_when_the_store_fails_in_the_middle() {
    let bucket = bucket();
    bucket.put("inbox/a.json", LINE);
    let script = |call: &crate::store::fault::Call| match call.kind {
        CallKind::Put if call.path.starts_with("spans/") => Fate::before(Incident::Fail),
        _ => Fate::calm(),
    };
    let stop = CancellationToken::new();
    let looping = worker(store(&bucket, "odd", Box::new(script)), &bucket, |_| {});
    let (summary, seen) = tokio::join!(looping.run(&stop), async {
        let mut seen = Vec::new();
        for _ in 0..30 {
            bucket.clock().sleep(Duration::from_secs(11)).await;
            let path = bucket.paths("farm/workers/").remove(0);
            let says: Heartbeat = serde_json::from_slice(&bucket.read(&path).unwrap().body).unwrap();
            seen.push(says.in_hand);
        }
        stop.cancel();
        seen
    });
    assert!(summary.unwrap().stages["index"].failed_rounds > 1);
    assert_eq!(seen.concat(), [""; 0]);
}

/// What is listed for expiry may be gone when it is read: others expire, too. Then it is listed again soon.
#[tokio::test(start_paused = true)]
async fn expiry_that_failed_is_tried_again_in_the_next_cycle() {
    let bucket = bucket();
    bucket.put("inbox/a.json", LINE);
    let once = worker(calm(&bucket), &bucket, |options| options.once = true);
    once.run(&CancellationToken::new()).await.unwrap();
    bucket.clock().sleep(Duration::from_secs(8 * 24 * 3600)).await;
    // Index lists the inbox when a cycle begins, expiry once more in the middle of it.
    let failures = Arc::new(AtomicU64::new(0));
    let (failed, mut inboxes) = (failures.clone(), 0);
    let script = move |call: &crate::store::fault::Call| {
        inboxes += u64::from(call.kind == CallKind::List && call.path == "inbox");
        if inboxes == 2 && failed.load(Ordering::Relaxed) == 0 {
            failed.fetch_add(1, Ordering::Relaxed);
            return Fate::before(Incident::Fail);
        }
        Fate::calm()
    };
    let stop = CancellationToken::new();
    let looping = worker(store(&bucket, "odd", Box::new(script)), &bucket, |_| {});
    let (summary, ()) = tokio::join!(looping.run(&stop), async {
        bucket.clock().sleep(Duration::from_secs(300)).await;
        stop.cancel();
    });
    let summary = summary.unwrap();
    assert_eq!((failures.load(Ordering::Relaxed), summary.stages["expire"].failed_rounds), (1, 1), "{summary}");
    assert_eq!(bucket.paths("spans/"), [""; 0], "{summary}");
}

/// Heartbeats tell how the worker is, and cost no request more.
#[tokio::test(start_paused = true)]
async fn a_heartbeat_tells_what_fails_what_waits_and_what_was_done() {
    let bucket = bucket();
    bucket.put("inbox/a.json", LINE);
    bucket.put("inbox/b.json", LINE);
    let script = |call: &crate::store::fault::Call| match call.path.as_str() {
        "inbox/a.json" => Fate::before(Incident::Fail),
        _ => Fate::calm(),
    };
    let (stop, looping) = (CancellationToken::new(), worker(store(&bucket, "odd", Box::new(script)), &bucket, |_| {}));
    let (summary, said) = tokio::join!(looping.run(&stop), async {
        bucket.clock().sleep(Duration::from_secs(200)).await;
        let [path] = &bucket.paths("farm/workers/")[..] else { panic!("one heartbeat") };
        let said = serde_json::from_slice::<Heartbeat>(&bucket.objects()[path].body).unwrap();
        stop.cancel();
        said.vitals.unwrap()
    });
    assert_eq!((said.rank, said.peers, said.objects, said.spans), (Some(0), 1, 1, 1));
    let backlog = said.backlog.unwrap();
    assert_eq!((backlog.objects, backlog.more, backlog.kept), (1, false, false));
    assert!((120..=200).contains(&backlog.oldest_seconds), "{backlog:?}");
    let [failing] = &said.failing[..] else { panic!("{:?}", said.failing) };
    assert_eq!((failing.stage.as_str(), failing.item.as_str(), said.failing_items), ("index", "inbox/a.json", 1));
    assert!(failing.times > 1 && !failing.why.contains('\n'), "{failing:?}");
    assert!(said.requests > 20 && said.day_requests == said.requests, "{said:?}");
    let summary = summary.unwrap();
    assert_eq!((summary.traces, summary.handlers, summary.peers), (1, 1, 1));
    assert_eq!(summary.kinds[&Request::Delete].requests, 1, "{:?}", summary.kinds);
}

/// Rule 8: of an archive that is older than `keep_for` nothing goes without a word.
#[tokio::test(start_paused = true)]
async fn an_archive_is_not_expired_without_asking_and_a_farm_that_grew_old_is() {
    let bucket = bucket();
    bucket.put("inbox/a.json", LINE);
    Settings::begin(&calm(&bucket)).await.unwrap();
    bucket.clock().sleep(Duration::from_secs(8 * 24 * 3600)).await;
    let archive = worker(calm(&bucket), &bucket, |options| options.once = true);
    for _ in 0..2 {
        let report = archive.run(&CancellationToken::new()).await.unwrap_err();
        let would = find::<WouldExpire>(&report).unwrap();
        assert!(would.past_bytes > 0 && would.kept_bytes == 0, "{would}");
        assert!(would.to_string().contains("--yes"), "{would}");
        assert!(!bucket.paths("spans/").is_empty());
    }
    // A developer's machine keeps it and goes on.
    let keeping = worker(calm(&bucket), &bucket, |options| (options.once, options.archive) = (true, Archive::Keep));
    assert!(keeping.run(&CancellationToken::new()).await.unwrap().is_clean());
    assert!(!bucket.paths("spans/").is_empty() && bucket.paths("farm/pinned/").is_empty());
    bucket.clock().sleep(Duration::from_secs(601)).await;
    let agreed = worker(calm(&bucket), &bucket, |options| (options.once, options.archive) = (true, Archive::Expire));
    agreed.run(&CancellationToken::new()).await.unwrap();
    assert_eq!(bucket.paths("spans/"), [""; 0]);

    let bucket = self::bucket();
    bucket.put("inbox/a.json", LINE);
    let once = worker(calm(&bucket), &bucket, |options| options.once = true);
    once.run(&CancellationToken::new()).await.unwrap();
    bucket.clock().sleep(Duration::from_secs(8 * 24 * 3600)).await;
    once.run(&CancellationToken::new()).await.unwrap();
    assert_eq!(bucket.paths("spans/"), [""; 0], "kept as promised, then gone");
}

/// Rule 8: what is past is told by the store's clock, whatever the worker's says.
#[tokio::test(start_paused = true)]
async fn a_machine_whose_clock_is_hours_off_expires_what_is_past_by_the_stores() {
    for hours in [-30, 30] {
        let bucket = bucket();
        bucket.put("inbox/a.json", LINE);
        let wrong = Clock::simulated(bucket.now() + jiff::SignedDuration::from_hours(hours), 2);
        let once = || {
            let (client, now) = (bucket.client("wrong", Box::new(|_| Fate::calm())), bucket.clone());
            let now = Arc::new(move || now.now());
            let store = Store::over_with_time(Arc::new(client), "memory://", wrong.clone(), now);
            let mut options = Options::new("test".parse().unwrap());
            options.once = true;
            Worker::new(store, wrong.clone(), options)
        };
        once().run(&CancellationToken::new()).await.unwrap();
        // The hour of the span ends half an hour after the bucket's clock begins.
        bucket.clock().sleep(Duration::from_secs(7 * 24 * 3600)).await;
        once().run(&CancellationToken::new()).await.unwrap();
        assert!(!bucket.paths("spans/").is_empty(), "{hours} h: kept as long as was promised");
        bucket.clock().sleep(Duration::from_secs(2 * 3600)).await;
        once().run(&CancellationToken::new()).await.unwrap();
        assert_eq!(bucket.paths("spans/"), [""; 0], "{hours} h");
    }
}

#[tokio::test(start_paused = true)]
async fn a_grace_of_zero_is_refused_in_company() {
    let bucket = bucket();
    let stop = CancellationToken::new();
    let other = Worker::new(calm(&bucket), bucket.clock().clone(), Options::new("other".parse().unwrap()));
    let (refused, _) = tokio::join!(
        async {
            bucket.clock().sleep(Duration::from_secs(5)).await;
            let alone = worker(calm(&bucket), &bucket, |options| {
                (options.once, options.grace) = (true, Some(Duration::ZERO));
            });
            let refused = alone.run(&CancellationToken::new()).await;
            stop.cancel();
            refused
        },
        other.run(&stop)
    );
    let report = refused.unwrap_err();
    assert!(find::<crate::error::Mistake>(&report).is_some_and(|mistake| mistake.0.contains("other")), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_settings_is_noticed_within_a_minute() {
    let bucket = bucket();
    let stop = CancellationToken::new();
    let looping = worker(calm(&bucket), &bucket, |_| {});
    let (summary, ()) = tokio::join!(looping.run(&stop), async {
        bucket.clock().sleep(Duration::from_secs(100)).await;
        // A settle of an hour: what comes now is left alone.
        let settings = Settings { settle: Span(Duration::from_secs(3600)), ..Settings::default() };
        let json = serde_json::to_vec(&settings).unwrap();
        calm(&bucket).create(&Key::Settings(2), json.into()).await.unwrap();
        bucket.clock().sleep(Duration::from_secs(95)).await;
        bucket.put("inbox/a.json", LINE);
        bucket.clock().sleep(Duration::from_secs(300)).await;
        stop.cancel();
    });
    assert_eq!(summary.unwrap().objects, 0);
}

/// A worker of a farm, at work until it is told to stop. Needs a [`LocalSet`].
struct Hand {
    stop: CancellationToken,
    work: tokio::task::JoinHandle<Result<Summary>>,
}

impl Hand {
    /// Its requests for objects take `seconds` each.
    fn hire(bucket: &Bucket, name: &str, seconds: u64) -> Self {
        Self::hire_with(bucket, name, &Arc::new(AtomicU64::new(seconds)))
    }

    fn hire_with(bucket: &Bucket, name: &str, seconds: &Arc<AtomicU64>) -> Self {
        let (stop, seconds) = (CancellationToken::new(), seconds.clone());
        let slow = move |call: &crate::store::fault::Call| match call.path.starts_with("inbox/") {
            true => Fate::before(Incident::Wait(Duration::from_secs(seconds.load(Ordering::Relaxed)))),
            false => Fate::calm(),
        };
        let (store, clock) = (store(bucket, name, Box::new(slow)), bucket.clock().clone());
        let (options, until) = (Options::new(name.parse().unwrap()), stop.clone());
        let work = spawn_local(async move { Worker::new(store, clock, options).run(&until).await });
        Self { stop, work }
    }

    async fn dismiss(self) -> Summary {
        self.stop.cancel();
        self.work.await.unwrap().unwrap()
    }
}

/// Objects of one span each, numbered from `first` on.
fn fill(bucket: &Bucket, first: u64, count: u64) {
    for number in first..first + count {
        let line = span(number + 1);
        bucket.put(&format!("inbox/{number:06}.json"), line);
    }
}

#[tokio::test(start_paused = true)]
async fn five_workers_share_the_work_then_three_then_eight() {
    let work = async {
        let bucket = bucket();
        let names: Vec<String> = (0..8).map(|number| format!("farm-{number}")).collect();
        let mut farm: Vec<Hand> = Vec::new();
        let (mut filled, mut indexed) = (0, 0);
        let slow = Arc::new(AtomicU64::new(0));
        // With the inbox so slow the first is not ready before the last begins, and a batch is before it takes too long.
        for (size, objects, seconds) in [(5, 10_000, 1), (3, 1_000, 10), (8, 1_000, 10)] {
            slow.store(seconds, Ordering::Relaxed);
            while farm.len() > size {
                indexed += farm.remove(farm.len() - 1).dismiss().await.objects;
            }
            while farm.len() < size {
                farm.push(Hand::hire_with(&bucket, &names[farm.len()], &slow));
            }
            // They see each other within a pause, and a heartbeat that was removed is gone at once.
            bucket.clock().sleep(Duration::from_secs(100)).await;
            fill(&bucket, filled, objects);
            filled += objects;
            bucket.clock().sleep(Duration::from_secs(900)).await;
            assert_eq!(bucket.paths("inbox/"), [""; 0], "{size} workers left something");
        }
        // Slices are disjoint, so nothing was done twice; and each had its part, also those who came for the last round.
        let mut least = u64::MAX;
        for hand in farm {
            let objects = hand.dismiss().await.objects;
            least = least.min(objects);
            indexed += objects;
        }
        assert_eq!(indexed, filled);
        assert_eq!(least, 1_000 / 8);
        let once = worker(calm(&bucket), &bucket, |options| options.once = true);
        once.run(&CancellationToken::new()).await.unwrap();
        assert_eq!(bucket.paths("farm/workers/"), [""; 0]);
    };
    LocalSet::new().run_until(work).await;
}

#[tokio::test(start_paused = true)]
async fn the_second_worker_of_a_name_waits_for_the_first_to_end() {
    let work = async {
        let bucket = bucket();
        let first = Hand::hire(&bucket, "farm-1", 0);
        bucket.clock().sleep(Duration::from_secs(1)).await;
        let second = Hand::hire(&bucket, "farm-1", 0);
        // Longer than the watchdog's patience: to wait for one's place is not to be stuck.
        bucket.clock().sleep(Duration::from_secs(1_200)).await;
        fill(&bucket, 0, 10);
        bucket.clock().sleep(Duration::from_secs(200)).await;
        assert_eq!(first.dismiss().await.objects, 10);
        fill(&bucket, 10, 10);
        bucket.clock().sleep(Duration::from_secs(200)).await;
        assert_eq!(second.dismiss().await.objects, 10);
    };
    LocalSet::new().run_until(work).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_not_on_the_list_does_nothing_but_ask_again() {
    let bucket = bucket();
    fill(&bucket, 0, 10);
    let listed = |names: &str| {
        let peers = format!("static:{names}").parse().unwrap();
        move |options: &mut Options| (options.once, options.peers) = (true, peers)
    };
    let stop = CancellationToken::new();
    let stranger = worker(calm(&bucket), &bucket, listed("farm-1,farm-2"));
    let (summary, ()) = tokio::join!(stranger.run(&stop), async {
        bucket.clock().sleep(Duration::from_secs(1_200)).await;
        stop.cancel();
    });
    assert_eq!((summary.unwrap().objects, bucket.paths("inbox/").len()), (0, 10));
    // The other one never comes: a run that ends does not end before everything is done.
    for names in ["test,zzz", "aaa,test"] {
        fill(&bucket, 0, 10);
        let once = worker(calm(&bucket), &bucket, listed(names));
        assert_eq!(once.run(&CancellationToken::new()).await.unwrap().objects, 10);
        assert_eq!(bucket.paths("inbox/"), [""; 0]);
    }
}

/// A worker was killed a moment ago: by its heartbeat it lives.
#[tokio::test(start_paused = true)]
async fn once_does_also_the_part_of_the_dead() {
    let bucket = bucket();
    let dead = Heart::new(bucket.clock().clone(), "aaa".parse().unwrap());
    dead.beat(&calm(&bucket)).await.unwrap();
    fill(&bucket, 0, 1);
    let once = worker(calm(&bucket), &bucket, |options| options.once = true);
    assert_eq!(once.run(&CancellationToken::new()).await.unwrap().objects, 1);
    assert_eq!(bucket.paths("spans/shard=000-of-001/").len(), 1, "merged, too");
    assert!(bucket.paths("site/").contains(&"site/handlers.json".to_owned()));
}

/// Slow requests make a batch last; meanwhile a second worker comes, and takes its part of what is left.
#[tokio::test(start_paused = true)]
async fn work_is_divided_anew_while_a_stage_is_at_it() {
    let work = async {
        let bucket = bucket();
        let settings = Settings { batch_bytes: 1 << 20, ..Settings::default() };
        let json = serde_json::to_vec(&settings).unwrap();
        calm(&bucket).create(&Key::Settings(1), json.into()).await.unwrap();
        let slow = |call: &crate::store::fault::Call| match call.path.starts_with("inbox/") {
            true => Fate::before(Incident::Wait(Duration::from_secs(2))),
            false => Fate::calm(),
        };
        // Objects of half a megabyte: two make a batch.
        for number in 0..200 {
            let pad = "x".repeat(500_000);
            let line = span(number + 1);
            bucket.put(&format!("inbox/{number:06}.json"), line.replace("GET /x", &format!("GET /{pad}")));
        }
        bucket.clock().sleep(Duration::from_secs(100)).await;
        let stop = CancellationToken::new();
        let first = worker(store(&bucket, "slow", Box::new(slow)), &bucket, |_| {});
        let (summary, second) = tokio::join!(first.run(&stop), async {
            bucket.clock().sleep(Duration::from_secs(20)).await;
            let second = Hand::hire(&bucket, "zzz", 0);
            bucket.clock().sleep(Duration::from_secs(600)).await;
            stop.cancel();
            second.dismiss().await
        });
        let (first, second) = (summary.unwrap(), second);
        assert_eq!(bucket.paths("inbox/"), [""; 0]);
        assert!(second.objects >= 50, "{first}\n{second}");
        assert!(first.objects + second.objects <= 210, "{first}\n{second}");
    };
    LocalSet::new().run_until(work).await;
}

/// In step, each would merge for ever what the two others have just merged.
#[tokio::test(start_paused = true)]
async fn three_that_finish_each_others_parts_at_one_moment_come_to_an_end() {
    let bucket = bucket();
    fill(&bucket, 0, 30);
    let names: Vec<WorkerName> = ["a", "b", "c"].map(|name| name.parse().unwrap()).into();
    let workers = names.iter().map(|name| {
        worker(calm(&bucket), &bucket, |options| {
            (options.name, options.once) = (name.clone(), true);
            options.peers = Provider::Static(names.clone());
        })
    });
    let (workers, stop) = (workers.collect::<Vec<_>>(), CancellationToken::new());
    let all = futures::future::join_all(workers.iter().map(|worker| worker.run(&stop)));
    let ended = tokio::time::timeout(Duration::from_secs(3600), all).await.expect("they work on and on");
    let summaries: Vec<Summary> = ended.into_iter().map(Result::unwrap).collect();
    assert_eq!(summaries.iter().map(|summary| summary.objects).sum::<u64>(), 30);
    assert!(summaries.iter().all(Summary::is_clean));
    let merges: u64 = summaries.iter().map(|summary| summary.stages["compact"].done).sum();
    assert!(merges < 100, "{merges} merges");
}
