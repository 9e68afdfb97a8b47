use std::os::unix::ffi::OsStrExt;
use std::path::Path as FilePath;

use jiff::SignedDuration;
use object_store::memory::InMemory;

use super::*;

fn clock() -> Clock {
    Clock::system(SignedDuration::ZERO)
}

async fn open(folder: &FilePath) -> Store {
    Store::open(folder.to_str().unwrap(), &OpenOptions::default(), clock()).await.unwrap()
}

fn inbox(name: &str) -> Key {
    Key::Inbox(name.to_owned())
}

fn names(listing: &Listing) -> Vec<String> {
    listing.objects.iter().map(|object| object.key.path()).collect()
}

#[tokio::test]
async fn a_key_is_created_once_and_the_same_bytes_again_are_no_error() {
    for store in [
        Store::over(Arc::new(InMemory::new()), "memory://", clock()),
        open(tempfile::tempdir().unwrap().keep().as_path()).await,
    ] {
        let written = store.create(&Key::Settings(1), "one".into()).await.unwrap();
        assert_eq!(store.create(&Key::Settings(1), "one".into()).await.unwrap().etag, written.etag);
        let error = store.create(&Key::Settings(1), "two".into()).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::AlreadyExists);
        let (bytes, read) = store.get(&Key::Settings(1)).await.unwrap();
        assert_eq!((&bytes[..], &read), (&b"one"[..], &written));
    }
}

#[tokio::test]
async fn a_directory_lists_files_whatever_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inbox");
    std::fs::create_dir_all(inner.join("a b")).unwrap();
    let odd =
        ["weird name %2F é\u{202e}.binpb", " lead", "trail ", "x#1", "tmp.gz.tmp", "a b/line\nbreak", "~", ".hid"];
    for name in odd {
        std::fs::write(inner.join(name), name).unwrap();
    }
    std::fs::write(inner.join(std::ffi::OsStr::from_bytes(b"caf\xe9.json")), "latin 1").unwrap();
    std::fs::write(folder.path().join("README"), "a person's").unwrap();
    std::os::unix::fs::symlink("nowhere", inner.join("broken")).unwrap();
    std::os::unix::fs::symlink("..", inner.join("loop")).unwrap();

    let store = open(folder.path()).await;
    let listing = store.list(&Prefix::Inbox).await.unwrap();
    let mut expected: Vec<_> = odd.iter().map(|name| format!("inbox/{name}")).collect();
    expected.sort();
    assert_eq!(names(&listing), expected);
    assert_eq!(listing.foreign.len(), 1, "{:?}", listing.foreign);
    assert_eq!(store.list(&Prefix::Everything).await.unwrap().foreign.len(), 2);

    for name in odd {
        let (bytes, object) = store.get(&inbox(name)).await.unwrap();
        assert_eq!(bytes, name);
        store.create(&Key::Quarantine(layout::QuarantineKey::new("bad", name, &object.etag)), bytes).await.unwrap();
        assert!(store.delete_if_unchanged(&object).await.unwrap());
    }
    assert_eq!(store.list(&Prefix::Inbox).await.unwrap().objects, []);
    assert_eq!(store.list(&Prefix::Quarantine).await.unwrap().objects.len(), odd.len());
}

#[tokio::test]
async fn no_key_leads_out_of_the_directory() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("store")).await;
    for name in ["../../evil", "a/../../../evil", "a//b", "./x", "nul\0"] {
        assert!(store.create(&inbox(name), "x".into()).await.is_err(), "{name}");
        assert!(store.get(&inbox(name)).await.is_err(), "{name}");
        assert!(store.delete(&inbox(name)).await.is_err(), "{name}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_file_that_is_being_written_is_not_deleted() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    std::fs::create_dir(folder.path().join("inbox")).unwrap();
    let path = folder.path().join("inbox/traces.jsonl");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(b"{}\n").unwrap();
    let seen = store.head(&inbox("traces.jsonl")).await.unwrap();
    assert!(!store.delete_if_unchanged(&seen).await.unwrap(), "held open");
    file.write_all(b"{}\n").unwrap();
    drop(file);
    assert!(!store.delete_if_unchanged(&seen).await.unwrap(), "grown since it was seen");
    let seen = store.head(&inbox("traces.jsonl")).await.unwrap();
    assert!(store.delete_if_unchanged(&seen).await.unwrap());
    assert!(!path.exists());
}

#[tokio::test]
async fn unfinished_files_are_not_listed_and_swept_when_old() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let key = Key::Block(layout::BlockKey {
        table: crate::model::Table::Spans,
        dir: crate::model::ShardDir::All,
        hour: crate::model::Hour::EPOCH,
        block: crate::model::BlockId::new(clock().ulid()),
    });
    let mut upload = store.create_large(&key).await.unwrap();
    upload.write(vec![7; 9 << 20].into()).await.unwrap();
    let unfinished = folder.path().join(".tracefarm-unfinished");
    assert_eq!(std::fs::read_dir(&unfinished).unwrap().count(), 1);
    let all = store.list(&Prefix::Everything).await.unwrap();
    assert_eq!((all.objects.len(), all.foreign.len()), (0, 0));
    drop(upload);
    // What a killed process leaves.
    std::fs::write(unfinished.join("young"), "").unwrap();
    let old = std::fs::File::create(unfinished.join("old")).unwrap();
    old.set_modified(std::time::UNIX_EPOCH).unwrap();
    open(folder.path()).await;
    assert!(unfinished.join("young").exists());
    assert!(!unfinished.join("old").exists());
}

#[tokio::test]
async fn what_was_written_is_dated_before_the_next_listing_or_at_its_begin() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    for i in 0..20 {
        let before = store.list(&Prefix::Settings).await.unwrap().began;
        let written = store.create(&Key::Settings(i), "x".into()).await.unwrap();
        let after = store.list(&Prefix::Settings).await.unwrap().began;
        assert!(before <= written.modified, "{before} {}", written.modified);
        // A file system may date more finely than the clock that is asked: a tick, 10 ms at most.
        assert!(written.modified <= after + SignedDuration::from_millis(20), "{} {after}", written.modified);
    }
}

#[tokio::test]
async fn another_inbox_takes_every_name_and_a_reader_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("spans")).unwrap();
    std::fs::write(folder.path().join("spans/a.json"), "{}").unwrap();
    let options = OpenOptions { read_only: true, as_inbox: true, ..OpenOptions::default() };
    let store = Store::open(folder.path().to_str().unwrap(), &options, clock()).await.unwrap();
    let listing = store.list(&Prefix::Inbox).await.unwrap();
    assert_eq!(listing.objects[0].key, inbox("spans/a.json"));
    assert_eq!(store.get(&inbox("spans/a.json")).await.unwrap().0, "{}");
    assert_eq!(store.delete_if_unchanged(&listing.objects[0]).await.unwrap_err().kind, StoreErrorKind::Denied);
    assert_eq!(store.overwrite(&inbox("x"), "".into()).await.unwrap_err().kind, StoreErrorKind::Denied);
}

#[test]
fn near_ranges_are_one_request() {
    assert_eq!(requests_for(&[]), 0);
    assert_eq!(requests_for(&[0..10, 5 << 20..6 << 20, 10..20]), 2);
    assert_eq!(requests_for(&[0..(3 << 20), 100..200, 3 << 20..4 << 20]), 1);
}
