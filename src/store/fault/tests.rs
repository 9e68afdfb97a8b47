use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use jiff::Timestamp;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode};

use super::*;
use crate::clock::Clock;

fn simulated<F: Future>(test: impl FnOnce(Bucket) -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let wall: Timestamp = "2026-11-22T14:00:00.750Z".parse().unwrap();
        test(Bucket::new(Clock::simulated(wall, 1), 2)).await
    })
}

fn calm(bucket: &Bucket) -> Client {
    bucket.client("w1", Box::new(|_| Fate::calm()))
}

#[test]
fn an_object_is_created_once_and_read_by_range() {
    simulated(async |bucket| {
        let client = calm(&bucket);
        let at = Path::from("spans/a");
        client.put_opts(&at, Bytes::from("0123456789").into(), PutMode::Create.into()).await.unwrap();
        let again = client.put_opts(&at, Bytes::from("x").into(), PutMode::Create.into()).await;
        assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
        assert_eq!(client.get_range(&at, 2..5).await.unwrap(), "234");
        let parts = client.get_ranges(&at, &[0..1, 8..10]).await.unwrap();
        assert_eq!(parts, [Bytes::from("0"), Bytes::from("89")]);
        let meta = client.head(&at).await.unwrap();
        assert_eq!((meta.size, meta.last_modified.to_rfc3339()), (10, "2026-11-22T14:00:00+00:00".to_owned()));
        assert_eq!(bucket.breaches(), [""; 0]);
        client.delete(&at).await.unwrap();
        assert!(matches!(client.get(&at).await, Err(Error::NotFound { .. })));
        client.put(&at, Bytes::from("x").into()).await.unwrap();
        assert_eq!(bucket.breaches().len(), 2, "overwritten without asking, and a name used twice");
    });
}

#[test]
fn the_pages_of_a_listing_are_taken_at_different_moments() {
    simulated(async |bucket| {
        let client = calm(&bucket);
        for name in ["a/1", "a/2", "a/3", "ab/1", "b"] {
            bucket.put(name, "");
        }
        let names = async |stream: futures::stream::BoxStream<'static, object_store::Result<_>>| {
            let found: Vec<object_store::ObjectMeta> = stream.try_collect().await.unwrap();
            found.into_iter().map(|object| object.location.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(client.list(Some(&Path::from("a")))).await, ["a/1", "a/2", "a/3"], "a folder, not a text");
        assert_eq!(names(client.list_with_offset(None, &Path::from("a/2"))).await, ["a/3", "ab/1", "b"]);
        assert_eq!(client.calls(), 4);

        let mut listing = client.list(None);
        assert_eq!(listing.try_next().await.unwrap().unwrap().location.as_ref(), "a/1");
        bucket.put("a/0", "");
        bucket.put("a/4", "");
        bucket.remove("a/3");
        assert_eq!(names(listing).await, ["a/2", "a/4", "ab/1", "b"]);
        let result = client.list_with_delimiter(None).await.unwrap();
        assert_eq!(result.common_prefixes, [Path::from("a"), Path::from("ab")]);
        assert_eq!(result.objects.len(), 1);
    });
}

#[test]
fn a_large_object_is_visible_when_it_is_complete() {
    simulated(async |bucket| {
        let client = calm(&bucket);
        let at = Path::from("spans/a");
        let mut upload = client.put_multipart(&at).await.unwrap();
        let (first, second) = (upload.put_part("ab".into()), upload.put_part("cd".into()));
        second.await.unwrap();
        first.await.unwrap();
        assert!(bucket.read("spans/a").is_none());
        upload.complete().await.unwrap();
        assert_eq!(bucket.read("spans/a").unwrap().body, "abcd");
    });
}

#[test]
fn a_call_fails_before_or_after_its_effect_and_a_body_is_cut() {
    simulated(async |bucket| {
        let client = calm(&bucket);
        let at = Path::from("x");
        client.follow(Box::new(|_| Fate::before(Incident::Fail)));
        assert!(client.put(&at, "abcd".into()).await.is_err());
        assert!(bucket.read("x").is_none());
        client.follow(Box::new(|_| Fate::after(Incident::Fail)));
        assert!(client.put(&at, "abcd".into()).await.is_err());
        assert!(bucket.read("x").is_some());
        client.follow(Box::new(|_| Fate { cut: Some(0.5), ..Fate::calm() }));
        let mut body = client.get(&at).await.unwrap().into_stream();
        assert_eq!(body.try_next().await.unwrap().unwrap(), "ab");
        assert!(body.try_next().await.is_err());
        assert!(bucket.log().contains("#2 PUT x FAILS after its effect"), "{}", bucket.log());
    });
}

#[test]
fn a_crash_ends_a_life_where_it_stands() {
    simulated(async |bucket| {
        let client = calm(&bucket);
        client.follow(Box::new(|call| match call.number {
            2 => Fate::after(Incident::Crash),
            _ => Fate::calm(),
        }));
        let writes = async |client: Client| {
            for name in ["a", "b", "c"] {
                client.put(&Path::from(name), "".into()).await.unwrap();
            }
        };
        assert_eq!(client.live(writes(client.clone())).await, None);
        assert_eq!(bucket.paths(""), ["a", "b"]);
        assert!(client.is_dead());
        let next = calm(&bucket);
        assert_eq!(next.live(writes(next.clone())).await, Some(()));
    });
}

#[test]
fn a_frozen_worker_stands_still_while_time_passes_and_then_goes_on() {
    simulated(async |bucket| {
        let client = calm(&bucket);
        client.follow(Box::new(|_| Fate::before(Incident::Freeze(Duration::from_secs(3600)))));
        let begin = bucket.now();
        let patient = async {
            // The machine stands still: its time-outs do not fire meanwhile.
            let at = Path::from("a");
            let write = client.put(&at, "".into());
            tokio::time::timeout(Duration::from_secs(10), write).await.unwrap().unwrap();
        };
        client.live(patient).await.unwrap();
        assert!(bucket.now().duration_since(begin).as_secs() >= 3600);
        assert_eq!(bucket.paths(""), ["a"]);
    });
}

#[test]
fn a_held_call_waits_for_the_test() {
    simulated(async |bucket| {
        let client = calm(&bucket);
        let gate = Gate::new();
        let held = gate.clone();
        client.follow(Box::new(move |_| Fate::before(Incident::Hold(held.clone()))));
        let at = Path::from("a");
        let (written, ()) = tokio::join!(client.put(&at, "".into()), async {
            gate.reached().await;
            assert!(bucket.read("a").is_none());
            gate.open();
        });
        written.unwrap();
    });
}

#[test]
fn a_worker_stands_still_until_the_test_lets_it_go() {
    simulated(async |bucket| {
        let client = calm(&bucket);
        let gate = Gate::new();
        let held = gate.clone();
        client.follow(Box::new(move |_| Fate::after(Incident::FreezeUntil(held.clone()))));
        let at = Path::from("a");
        let patient = async {
            let write = client.put(&at, "".into());
            tokio::time::timeout(Duration::from_secs(10), write).await.unwrap().unwrap();
        };
        let (lived, ()) = tokio::join!(client.live(patient), async {
            gate.reached().await;
            assert!(bucket.read("a").is_some());
            tokio::time::advance(Duration::from_secs(3600)).await;
            gate.open();
        });
        assert_eq!(lived, Some(()));
    });
}

#[test]
fn a_seed_replays_exactly() {
    let faults = Faults {
        latency_to_ms: 5_000.0,
        fail_before: 0.1,
        fail_after: 0.1,
        cut: 0.1,
        crash: 0.002,
        freeze: 0.01,
        freeze_at_most: Duration::from_secs(600),
        ..Faults::CALM
    };
    let run = |seed: u64| {
        simulated(async |bucket| {
            let workers = (0..3).map(|worker| {
                let client = bucket.client(&format!("w{worker}"), faults.clone().script(seed ^ worker));
                async move {
                    let work = async {
                        for n in 0..50 {
                            let _ = client.put(&Path::from(format!("{n}")), Bytes::from("body").into()).await;
                            if let Ok(found) = client.get(&Path::from(format!("{n}"))).await {
                                let _ = found.bytes().await;
                            }
                        }
                    };
                    client.live(work).await
                }
            });
            futures::future::join_all(workers).await;
            bucket.log()
        })
    };
    for seed in 0..5 {
        let log = run(seed);
        assert_eq!(log, run(seed), "seed {seed}");
        assert_ne!(log, run(seed + 100));
        for what in ["FAILS before", "FAILS after"] {
            assert!(log.contains(what), "{log}");
        }
    }
}

#[test]
fn it_is_an_object_store_like_any_other() {
    simulated(async |bucket| {
        let store: Arc<dyn ObjectStore> = Arc::new(calm(&bucket));
        let (from, to) = (Path::from("a"), Path::from("b"));
        store.put(&from, "x".into()).await.unwrap();
        store.copy(&from, &to).await.unwrap();
        assert!(matches!(store.copy_if_not_exists(&from, &to).await, Err(Error::AlreadyExists { .. })));
        store.rename(&from, &Path::from("c")).await.unwrap();
        assert_eq!(bucket.paths(""), ["b", "c"]);
    });
}
