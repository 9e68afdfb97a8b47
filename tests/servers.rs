//! What [`Store`] promises, asked of every kind of store: memory and a directory always; S3, GCS and Azure when run as
//! `scripts/servers cargo test --test servers`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test: a failure is a panic, and it says what it tried"
)]
#![expect(clippy::single_range_in_vec_init, reason = "a list of ranges may have one")]

mod stores;

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::{Attribute, ObjectStoreExt};
use tracefarm::error::{Mistake, find};
use tracefarm::model::{BlockId, Hour, ShardDir, Table};
use tracefarm::store::layout::{BlockKey, QuarantineKey, SiteKey};
use tracefarm::store::{Key, OpenOptions, Prefix, Request, Stage, Store, StoreErrorKind};

use stores::{clock, name, places};

/// A store of each kind, and what keeps it.
async fn stores() -> Vec<(Store, Option<stores::Place>)> {
    let options = OpenOptions::default();
    let mut all = vec![(Store::open("memory://", &options, clock()).await.unwrap(), None)];
    for place in places() {
        all.push((Store::open(&place.url, &options, clock()).await.unwrap(), Some(place)));
    }
    all
}

fn inbox(name: impl Into<String>) -> Key {
    Key::Inbox(name.into())
}

fn block() -> Key {
    let block = BlockId::new(name());
    Key::Block(BlockKey { table: Table::Spans, dir: ShardDir::All, hour: Hour::EPOCH, block })
}

/// Bytes without a pattern that a cut or a swap of parts would leave as it is.
fn noise(bytes: usize) -> Bytes {
    (0..bytes as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_created_once_and_overwritten_only_on_purpose() {
    for (store, _place) in stores().await {
        let url = store.url();
        let key = Key::Settings(1);
        let one = store.create(&key, "one".into()).await.unwrap();
        assert_eq!(store.create(&key, "one".into()).await.unwrap().etag, one.etag, "{url}");
        assert_eq!(store.create(&key, "two".into()).await.unwrap_err().kind, StoreErrorKind::AlreadyExists, "{url}");
        let (bytes, read) = store.get(&key).await.unwrap();
        assert_eq!((&bytes[..], &read.etag, read.size_bytes), (&b"one"[..], &one.etag, 3), "{url}");
        let two = store.overwrite(&key, "two!".into()).await.unwrap();
        assert_ne!(one.etag, two.etag, "{url}");
        let seen = store.head(&key).await.unwrap();
        assert_eq!((seen.etag, seen.size_bytes), (two.etag.clone(), 4), "{url}");
        let listed = store.list(&Prefix::Settings).await.unwrap().objects;
        assert_eq!((&listed[0].etag, listed[0].size_bytes, listed.len()), (&two.etag, 4, 1), "{url}");
        // An answer to a write is dated at most a moment after the object.
        assert!(listed[0].modified.duration_since(two.modified).abs().as_secs() < 5, "{url}: {listed:?} {two:?}");
    }
}

/// A bucket's website sends what was said when the object was written; a page's module must be called JavaScript.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_tells_browsers_what_a_page_is_and_how_long_to_keep_it() {
    // The server that stands for GCS is given what our own helper translates, and that knows no Cache-Control.
    for place in places().into_iter().filter(|place| place.url.starts_with("s3://") || place.url.starts_with("az://")) {
        let store = Store::open(&place.url, &OpenOptions::default(), clock()).await.unwrap();
        let asset = Key::Site(SiteKey::Asset(1, "main.js".to_owned()));
        store.create(&asset, "export {}".into()).await.unwrap();
        store.overwrite(&Key::Site(SiteKey::Index), "<!doctype html>".into()).await.unwrap();
        let url = place.url.parse().unwrap();
        let (bucket, folder) = object_store::parse_url_opts(&url, std::env::vars()).unwrap();
        let told = async |key: &Key| {
            let path = object_store::path::Path::from(format!("{folder}/{}", key.path()));
            let attributes = bucket.get(&path).await.unwrap().attributes;
            [Attribute::ContentType, Attribute::CacheControl]
                .map(|name| attributes.get(&name).unwrap().as_ref().to_owned())
        };
        assert_eq!(told(&asset).await, ["text/javascript; charset=utf-8", "public, max-age=31536000, immutable"]);
        assert_eq!(told(&Key::Site(SiteKey::Index)).await, ["text/html; charset=utf-8", "no-cache"], "{}", place.url);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_create_one_name_at_once_one_has_it() {
    for (store, _place) in stores().await {
        let creates = (0..8).map(|i| {
            let store = store.clone();
            async move { store.create(&Key::Catalogue(1), format!("by {i}").into()).await }
        });
        let outcomes = futures::future::join_all(creates).await;
        let created: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
        assert_eq!(created.len(), 1, "{}: {outcomes:?}", store.url());
        for failed in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert_eq!(failed.kind, StoreErrorKind::AlreadyExists, "{failed:?}");
        }
        assert_eq!(store.head(&Key::Catalogue(1)).await.unwrap().etag, created[0].etag);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_read_whole_in_parts_and_as_a_stream() {
    for (store, _place) in stores().await {
        let (key, body) = (inbox("a.bin"), noise(3 << 20));
        store.create(&key, body.clone()).await.unwrap();
        assert_eq!(store.get(&key).await.unwrap().0, body);
        let (chunks, object) = store.get_stream(&key).await.unwrap();
        let chunks: Vec<Bytes> = chunks.try_collect().await.unwrap();
        assert_eq!((chunks.concat(), object.size_bytes), (body.to_vec(), 3 << 20));
        let ranges = [3_000_000..3_000_010, 0..4, 4..8, 100..100_000];
        let parts = store.get_ranges(&key, &ranges).await.unwrap();
        for (part, range) in parts.iter().zip(&ranges) {
            assert_eq!(part, &body[range.start as usize..range.end as usize], "{}", store.url());
        }
        assert!(store.get_ranges(&key, &[(3 << 20) - 10..(3 << 20) + 10]).await.is_err(), "{}", store.url());

        let gone = inbox("gone");
        for error in [
            store.get(&gone).await.unwrap_err(),
            store.head(&gone).await.unwrap_err(),
            store.get_ranges(&gone, &[0..1]).await.unwrap_err(),
            store.get_stream(&gone).await.err().unwrap(),
        ] {
            assert_eq!(error.kind, StoreErrorKind::NotFound, "{error:?}");
        }
        let error = store.get(&gone).await.unwrap_err();
        assert_eq!(error.to_string(), format!("read {}/inbox/gone", store.url()));
        store.delete(&gone).await.unwrap();
        store.delete(&key).await.unwrap();
        assert_eq!(store.head(&key).await.unwrap_err().kind, StoreErrorKind::NotFound, "{}", store.url());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_have_pages_an_order_and_a_place_to_go_on_from() {
    for (store, _place) in stores().await {
        let url = store.url();
        assert_eq!(store.list(&Prefix::Everything).await.unwrap().objects, []);
        // More than a page of S3 and GCS.
        let count = 1100;
        futures::stream::iter(0..count)
            .map(|i| {
                let store = store.clone();
                async move { store.create(&inbox(format!("traces_{i:05}.json")), "{}".into()).await }
            })
            .buffer_unordered(20)
            .try_collect::<Vec<_>>()
            .await
            .unwrap();
        store.create(&Key::Settings(1), "{}".into()).await.unwrap();
        let before = store.meter().snapshot();
        let all = store.list(&Prefix::Inbox).await.unwrap();
        let pages = store.meter().snapshot().since(&before).of(Request::List).requests;
        assert_eq!((all.objects.len(), all.foreign.len(), all.more), (count, 0, false), "{url}");
        // Azure's pages are larger.
        assert_eq!(pages, if url.starts_with("az:") { 1 } else { 2 }, "{url}");
        assert!(all.objects.is_sorted_by_key(|object| object.key.path()));
        assert_eq!(store.list(&Prefix::Everything).await.unwrap().objects.len(), count + 1, "{url}");

        let mut found = Vec::new();
        loop {
            let after = found.last().map(|object: &tracefarm::store::Object| object.key.clone());
            let some = store.list_some(&Prefix::Inbox, after.as_ref(), 400).await.unwrap();
            found.extend(some.objects);
            if !some.more {
                break;
            }
        }
        assert_eq!(found, all.objects, "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_name_in_the_inbox_can_be_read_quarantined_and_deleted_or_is_reported() {
    let usual = [
        "weird name %2F é\u{202e}.binpb",
        "year=2026/month=11/traces_1.json.gz",
        "q?y=1&z=2",
        "plus+and=eq",
        "per%cent%41",
        "sub dir/ü/~tilde",
        "x#1",
        "<angle>&amp;'quote\"",
        "*[a]{b}^|`",
        "traces.tmp",
        ".hidden",
        "2026/11/22/traces_15_04_05.json_4711",
    ];
    let odd =
        ["a//b.json", "//", "/lead", "back\\slash", " lead", "trail ", "line\nbreak", "a/./b", "../up", "\u{10FFFD}"];
    for (store, _place) in stores().await {
        let url = store.url();
        let (mut written, mut refused) = (Vec::new(), Vec::new());
        // Some servers know another object by these: versitygw keeps objects as files, Azure has no backslashes.
        let same = |name: &str| match &url[..2] {
            "s3" => !(name.contains("//") || name.starts_with('/')),
            "az" => !name.contains('\\'),
            _ => true,
        };
        for name in usual.iter().chain(&odd).filter(|name| same(name)) {
            match store.create(&inbox(*name), (*name).into()).await {
                Ok(_) => written.push(*name),
                Err(error) => {
                    assert!(odd.contains(name), "{url}: {name:?}: {error:?}");
                    refused.push(name);
                }
            }
        }
        println!("{url} refuses {refused:?}");
        let listing = store.list(&Prefix::Inbox).await.unwrap();
        assert_eq!(listing.objects.len() + listing.foreign.len(), written.len(), "{url}: {listing:#?}");
        println!("{url} has as foreign {:?}", listing.foreign);
        for object in &listing.objects {
            let Key::Inbox(name) = &object.key else { panic!("{object:?}") };
            assert!(written.contains(&name.as_str()), "{url}: {name:?} was not written");
            let (bytes, read) = store.get(&object.key).await.unwrap();
            assert_eq!((bytes, &read.etag), (Bytes::from(name.clone()), &object.etag), "{url}: {name:?}");
            let quarantined = QuarantineKey::new("odd", name, &object.etag);
            store.create(&Key::Quarantine(quarantined.clone()), name.clone().into()).await.unwrap();
            store.create(&Key::QuarantineError(quarantined), "{}".into()).await.unwrap();
            assert!(store.delete_if_unchanged(object).await.unwrap(), "{url}: {name:?}");
        }
        let left = store.list(&Prefix::Inbox).await.unwrap();
        assert_eq!((left.objects, &left.foreign), (vec![], &listing.foreign), "{url}");
        let quarantined = store.list(&Prefix::Quarantine).await.unwrap();
        assert_eq!((quarantined.objects.len(), quarantined.foreign.len()), (2 * listing.objects.len(), 0), "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_object_appears_whole_or_not_at_all() {
    for (store, _place) in stores().await {
        let url = store.url();
        let body = noise((20 << 20) + 12_345);
        let key = block();
        let mut upload = store.create_large(&key).await.unwrap();
        for piece in body.chunks(3_333_333) {
            upload.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        assert_eq!(store.head(&key).await.unwrap_err().kind, StoreErrorKind::NotFound, "{url}");
        let object = upload.finish().await.unwrap();
        assert_eq!(object.size_bytes, body.len() as u64, "{url}");
        let (read, seen) = store.get(&key).await.unwrap();
        assert!(read == body, "{url}: other bytes came back");
        assert_eq!(seen.etag, object.etag, "{url}");

        let dropped = block();
        let mut upload = store.create_large(&dropped).await.unwrap();
        upload.write(body.slice(..17 << 20)).await.unwrap();
        drop(upload);
        let small = block();
        let mut upload = store.create_large(&small).await.unwrap();
        upload.write("small".into()).await.unwrap();
        upload.finish().await.unwrap();
        let listed: Vec<_> = store.list(&Prefix::Table(Table::Spans)).await.unwrap().objects;
        assert_eq!(listed.len(), 2, "{url}: {listed:?}");
        assert_eq!(store.get(&small).await.unwrap().0, "small");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_seen_is_deleted() {
    for (store, _place) in stores().await {
        let url = store.url();
        let key = inbox("traces.json");
        let seen = store.create(&key, "{}".into()).await.unwrap();
        store.overwrite(&key, "{}\n{}".into()).await.unwrap();
        assert!(!store.delete_if_unchanged(&seen).await.unwrap(), "{url}");
        let seen = store.list(&Prefix::Inbox).await.unwrap().objects.remove(0);
        assert!(store.delete_if_unchanged(&seen).await.unwrap(), "{url}");
        assert!(!store.delete_if_unchanged(&seen).await.unwrap(), "{url}");
        assert_eq!(store.list(&Prefix::Inbox).await.unwrap().objects, [], "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_beginning_of_a_listing_is_told_by_the_stores_clock() {
    for (store, _place) in stores().await {
        let url = store.url();
        let before = store.list(&Prefix::Settings).await.unwrap().began;
        let written = store.create(&Key::Settings(1), "{}".into()).await.unwrap();
        let listed = store.list(&Prefix::Settings).await.unwrap();
        // In whole seconds at worst.
        let dated = listed.objects[0].modified;
        assert!(before.as_second() <= dated.as_second(), "{url}: {before} {dated}");
        assert!(listed.began <= clock().wall(), "{url}");
        clock().sleep(Duration::from_millis(2_100)).await;
        let later = store.list(&Prefix::Settings).await.unwrap().began;
        assert!(later > dated && later > written.modified, "{url}: {later} {dated}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_counted_under_its_stage() {
    for (store, _place) in stores().await {
        let url = store.url();
        let store = store.for_stage(Stage::Publish);
        let before = store.meter().snapshot();
        let key = inbox("x");
        store.create(&key, "12345".into()).await.unwrap();
        let (_, object) = store.get(&key).await.unwrap();
        store.get_ranges(&key, &[0..1, 2..3]).await.unwrap();
        store.head(&key).await.unwrap();
        store.list(&Prefix::Inbox).await.unwrap();
        store.delete_if_unchanged(&object).await.unwrap();
        let counts = store.meter().snapshot().since(&before);
        assert_eq!(counts.0.keys().collect::<Vec<_>>(), [&Stage::Publish], "{url}");
        let count = |request| counts.of(request).requests;
        // The in-memory store does not date its answers, and is asked.
        let heads = if url.starts_with("memory") { 3 } else { 2 };
        let expected =
            [(Request::Put, 1), (Request::Get, 2), (Request::Head, heads), (Request::List, 1), (Request::Delete, 1)];
        for (request, expected) in expected {
            assert_eq!(count(request), expected, "{url}: {request:?} {counts:?}");
        }
        assert_eq!(counts.of(Request::Put).bytes_out, 5, "{url}");
        assert!((7..=8).contains(&counts.of(Request::Get).bytes_in), "{url}: {counts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_of_which_one_lies_within_the_other_overlap() {
    for place in places() {
        let url = &place.url;
        let open = async |url: String| Store::open(&url, &OpenOptions::default(), clock()).await.unwrap();
        let store = open(format!("{url}/farm")).await;
        let mut others = vec![(format!("{url}/farm/"), true), (format!("{url}/farm/inbox"), true), (url.clone(), true)];
        others.extend(["farm2", "far", "otlp/farm"].map(|beside| (format!("{url}/{beside}"), false)));
        // The same bucket in another spelling.
        for (scheme, other) in [("s3", "s3a"), ("gs", "gcs"), ("az", "abfs"), ("az", "AZ")] {
            if let Some(rest) = url.strip_prefix(&format!("{scheme}://")) {
                others.push((format!("{other}://{rest}/farm/inbox"), true));
            }
        }
        for (other, expected) in others {
            let other = open(other).await;
            assert_eq!((store.overlaps(&other), other.overlaps(&store)), (expected, expected), "{}", other.url());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_not_there_is_told_in_one_sentence() {
    let reader = OpenOptions { read_only: true, ..OpenOptions::default() };
    let mut urls = vec!["/nowhere/at/all".to_owned(), "ftp://x/y".to_owned(), "s3://".to_owned(), String::new()];
    urls.push("file://host/path".to_owned());
    for bucket in std::env::var("TRACEFARM_SERVERS").unwrap_or_default().split_whitespace() {
        urls.push(format!("{bucket}-absent/prefix"));
    }
    for url in urls {
        let report = Store::open(&url, &reader, clock()).await.err().unwrap();
        let mistake = find::<Mistake>(&report).unwrap_or_else(|| panic!("{url}: {report}"));
        println!("{mistake}");
        assert!(mistake.0.lines().count() == 1 && mistake.0.len() < 300, "{mistake}");
    }
}
