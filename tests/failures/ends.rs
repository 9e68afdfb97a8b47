//! Ends: signals, readers that go away, the watchdog, items that take too long.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::front::{Reply, error};
use super::{Bucket, files, program, spans, told};

/// A worker in the middle of an upload that is not answered.
fn uploading(haste: &str) -> Option<(Bucket, Child)> {
    let hangs = |asked: &super::Asked| asked.is("PUT", "/spans/").then_some(Reply::Hang);
    let bucket = Bucket::before_s3(hangs)?;
    bucket.put(&["a.json"]);
    let mut command = bucket.command(&["run", "--once", "--name", "w-1"]);
    // The upload is not given up while the test looks at it.
    command.env("TRACEFARM_PATIENCE", "10").env("TRACEFARM_HASTE", haste);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while !bucket.front.asked().iter().any(|asked| asked.is("PUT", "/spans/")) {
        std::thread::sleep(Duration::from_millis(20));
    }
    Some((bucket, child))
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn sigterm_in_an_upload_gives_it_twenty_seconds() {
    let Some((bucket, child)) = uploading("20") else { return };
    signal(&child, "TERM");
    let output = child.wait_with_output().unwrap();
    insta::assert_snapshot!(told(&output), @"
    [time] INFO  stopping; what is in hand may take 20 s more (a second signal ends it at once)
    [time] WARN  stopped in the middle of an item after 20s; it will be done again
    exit 0
    ");
    let removed = bucket.front.asked().iter().any(|asked| asked.is("DELETE", "/farm/workers/"));
    assert!(removed, "the heartbeat goes");
    assert!(!bucket.front.asked().iter().any(|asked| asked.is("DELETE", "/inbox/")), "nothing is lost");
}

/// What failed is tried again by whoever comes next: to end as one was asked is no failure.
#[test]
fn a_worker_that_loops_and_is_told_to_end_ends_well_whatever_failed() {
    let refused = |asked: &super::Asked| match asked.is("GET", "/inbox/") {
        true => error(403, "AccessDenied", "Access Denied"),
        false => None,
    };
    let Some(bucket) = Bucket::before_s3(refused) else { return };
    bucket.put(&["a.json"]);
    let mut command = bucket.command(&["run", "--name", "w-1", "-o", "json"]);
    // A batch waits a minute for company.
    command.env("TRACEFARM_PATIENCE", "10").env("TRACEFARM_HASTE", "20");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while bucket.front.asked().iter().filter(|asked| asked.is("GET", "/inbox/")).count() < 2 {
        std::thread::sleep(Duration::from_millis(20));
    }
    signal(&child, "TERM");
    let output = child.wait_with_output().unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["failed"][0]["item"], "inbox/a.json", "{summary}");
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let Some((bucket, mut child)) = uploading("1") else { return };
    signal(&child, "INT");
    // It says that it stops when it has heard the first.
    let mut error = child.stderr.take().unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"\n") {
        let mut byte = [0];
        std::io::Read::read_exact(&mut error, &mut byte).unwrap();
        said.push(byte[0]);
    }
    signal(&child, "TERM");
    let status = child.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(130), None));
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("stopping; what is in hand may take 20 s more"), "{said}");
    assert!(!bucket.front.asked().iter().any(|asked| asked.is("DELETE", "/inbox/")), "nothing is lost");
}

#[test]
fn a_reader_or_a_log_that_goes_away_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    fs::create_dir_all(store.join("inbox")).unwrap();
    fs::write(store.join("inbox/a.json"), spans(3)).unwrap();
    let mut command = program();
    command.arg("--store").arg(&store).args(["run", "--once"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(files(&store, "inbox").len(), 0);
    // A mistake that nobody hears is one all the same.
    let mut child = program().args(["--store", "", "run"]).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(2));
}

/// A quarter of an hour passes in half a second, in which no request is made because the one before is not answered.
#[test]
fn a_worker_in_which_nothing_moves_gives_up() {
    let Some(bucket) = Bucket::before_s3(|asked| asked.is_list("inbox").then_some(Reply::Hang)) else { return };
    let mut command = bucket.command(&["run", "--name", "w-1"]);
    command.env("TRACEFARM_PATIENCE", "10").env("TRACEFARM_HASTE", "1000");
    insta::assert_snapshot!(told(&command.output().unwrap()), @"
    [time] ERROR the worker gave up
      nothing moved for 15 minutes
      in run rank=0 worker=[name]
    exit 6
    ");
}

/// More than ten minutes pass in three seconds.
#[test]
fn an_item_that_takes_longer_than_its_budget_is_stopped_and_told() {
    let Some(bucket) = Bucket::before_s3(|asked| asked.is("PUT", "/spans/").then_some(Reply::Hang)) else { return };
    bucket.put(&["a.json"]);
    let mut command = bucket.command(&["run", "--once", "--name", "w-1"]);
    command.env("TRACEFARM_PATIENCE", "10").env("TRACEFARM_HASTE", "200");
    // Meanwhile it may be tried again.
    let said = told(&command.output().unwrap());
    let lines: Vec<&str> = said.lines().collect();
    insta::assert_snapshot!(format!("{}\n{}", lines[..4].join("\n"), lines[lines.len() - 1]), @"
    [time] ERROR index failed (1 of 1)
      a batch of inbox objects
        it took longer than its 11m 29s and was stopped; [n] kB had come and gone; it was at this: create s3://traces/[ulid]/spans/shard=all/hour=[hour]/[ulid].parquet ([n])
        in run rank=0 worker=[name] › stage=index
    exit 5
    ");
    assert!(!bucket.front.asked().iter().any(|asked| asked.is("DELETE", "/inbox/")), "nothing is lost");
}
