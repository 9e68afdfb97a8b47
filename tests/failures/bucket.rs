//! A bucket that is not there, is elsewhere, cannot be written, is too busy, answers slowly or in part.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::front::{Reply, error};
use super::{Bucket, told};

const SLOW: &str = "Please reduce your request rate.";

#[test]
fn a_bucket_that_is_not_there_is_a_mistake() {
    let bucket = Bucket::alone(|_| error(404, "NoSuchBucket", "The specified bucket does not exist"));
    insta::assert_snapshot!(told(&bucket.command(&["run", "--once"]).output().unwrap()), @"
    tracefarm: there is no bucket `traces` for s3://traces: make it first, or correct its name
    exit 2
    ");
    assert_eq!(bucket.front.asked().len(), 1, "nothing that passes");
}

#[test]
fn a_bucket_of_another_region_is_a_mistake_and_the_region_is_told() {
    let elsewhere = vec![("x-amz-bucket-region", "eu-central-1".to_owned())];
    let moved = move |_: &_| {
        Some(Reply::Error(301, "PermanentRedirect", "The bucket must be addressed elsewhere.", elsewhere.clone()))
    };
    let bucket = Bucket::alone(moved);
    insta::assert_snapshot!(told(&bucket.command(&["run", "--once"]).output().unwrap()), @"
    tracefarm: s3://traces cannot be opened: 301 PermanentRedirect: the bucket is in region eu-central-1: name the bucket's region: AWS_REGION=eu-central-1
    exit 2
    ");
    let elsewhere = vec![("x-amz-bucket-region", "eu-central-1".to_owned())];
    let wrong = "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-central-1'";
    let bucket =
        Bucket::alone(move |_| Some(Reply::Error(400, "AuthorizationHeaderMalformed", wrong, elsewhere.clone())));
    insta::assert_snapshot!(told(&bucket.command(&["handlers"]).output().unwrap()), @"
    tracefarm: s3://traces cannot be opened: 400 AuthorizationHeaderMalformed: The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-central-1': name the bucket's region: AWS_REGION=eu-central-1
    exit 2
    ");
}

#[test]
fn a_bucket_that_cannot_be_written_is_told_with_what_the_credentials_need() {
    let Some(bucket) = Bucket::before_s3(|asked| match asked.changes() {
        true => error(403, "AccessDenied", "Access Denied"),
        false => None,
    }) else {
        return;
    };
    insta::assert_snapshot!(told(&bucket.command(&["run", "--once", "--name", "w-1"]).output().unwrap()), @"
    [time] ERROR the command failed
      write my heartbeat
      write s3://traces/[ulid]/farm/workers/w-1.[ulid].json
      403 AccessDenied: Access Denied
      → let these credentials list, read, write and delete in the store (an inbox that is kept: list and read)
      in run worker=[name]
    exit 1
    ");
    let changes = bucket.front.asked().iter().filter(|asked| asked.changes()).count();
    assert_eq!(changes, 1, "nothing that passes, and no further than the heartbeat");
}

#[test]
fn of_a_bucket_that_is_too_busy_each_object_is_asked_five_times_and_the_causes_are_one() {
    let Some(bucket) = Bucket::before_s3(|asked| match asked.is("GET", "/inbox/") {
        true => error(503, "SlowDown", SLOW),
        false => None,
    }) else {
        return;
    };
    bucket.put(&["a.json", "b.json", "c.json"]);
    insta::assert_snapshot!(told(&bucket.command(&["run", "--once", "--name", "w-1"]).output().unwrap()), @"
    [time] ERROR index failed (3 of 3)
      3: inbox/a.json, inbox/b.json, inbox/c.json
        read s3://traces/[ulid]/inbox/a.json
        503 SlowDown: Please reduce your request rate. (5 attempts)
        → it is tried again later, less and less often; if this goes on, fewer workers help
        in run rank=0 worker=[name] › stage=index › item=a batch of inbox objects › object=inbox/a.json
    exit 5
    ");
    let asked = bucket.front.asked();
    for name in ["a", "b", "c"] {
        let times = asked.iter().filter(|asked| asked.is("GET", &format!("/inbox/{name}.json"))).count();
        // `--once` does not wait for another try.
        assert_eq!(times, 5, "{name}");
    }
}

#[test]
fn a_bucket_that_says_when_to_come_back_is_asked_again_then() {
    let times = AtomicU32::new(0);
    let Some(bucket) = Bucket::before_s3(move |asked| {
        let first = asked.is("GET", "/inbox/") && times.fetch_add(1, Ordering::SeqCst) < 2;
        let after = vec![("retry-after", "1".to_owned())];
        first.then_some(Reply::Error(503, "SlowDown", SLOW, after))
    }) else {
        return;
    };
    bucket.put(&["a.json"]);
    insta::assert_snapshot!(told(&bucket.command(&["run", "--once"]).output().unwrap()), @"exit 0");
}

/// All of it, for ever: every attempt is one of five, then the whole worker waits, and in the end it gives up.
#[test]
fn a_worker_whose_bucket_is_always_too_busy_gives_up_after_ten_cycles() {
    let Some(bucket) = Bucket::before_s3(|asked| match asked.is_list("inbox") {
        true => error(503, "SlowDown", SLOW),
        false => None,
    }) else {
        return;
    };
    // Prefixes stand before the folder.
    let mut command = bucket.command(&["run", "--name", "w-1"]);
    command.env("TRACEFARM_HASTE", "100");
    let output = command.output().unwrap();
    let said = told(&output);
    insta::assert_snapshot!(said.lines().rev().take(5).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n"), @"
      in run rank=0 worker=[name] › stage=expire
    [time] ERROR the worker gave up
      10 cycles in a row failed
      in run rank=0 worker=[name]
    exit 6
    ");
    let asked = bucket.front.asked().iter().filter(|asked| asked.is_list("inbox")).count();
    assert!(
        asked.is_multiple_of(5) && (90..=110).contains(&asked),
        "{asked}: ten cycles, in each of which index looks, and expiry, which failed in the one before"
    );
}

#[test]
fn a_connection_that_is_cut_again_and_again_leaves_the_object_for_later() {
    let Some(bucket) = Bucket::before_s3(|asked| asked.is("GET", "/inbox/").then_some(Reply::Cut(100))) else { return };
    bucket.put(&["a.json"]);
    insta::assert_snapshot!(told(&bucket.command(&["run", "--once", "--name", "w-1"]).output().unwrap()), @"
    [time] ERROR index failed (1 of 1)
      inbox/a.json
        read s3://traces/[ulid]/inbox/a.json
        the connection was cut: end of file before message length reached (5 attempts)
        in run rank=0 worker=[name] › stage=index › item=a batch of inbox objects › object=inbox/a.json
    exit 5
    ");
}

#[test]
fn a_bucket_that_does_not_answer_is_given_up_after_five_time_outs() {
    let Some(bucket) = Bucket::before_s3(|asked| asked.is("GET", "/inbox/").then_some(Reply::Hang)) else { return };
    bucket.put(&["a.json"]);
    insta::assert_snapshot!(told(&bucket.command(&["run", "--once", "--name", "w-1"]).output().unwrap()), @"
    [time] ERROR index failed (1 of 1)
      inbox/a.json
        read s3://traces/[ulid]/inbox/a.json
        no answer in time: operation timed out (5 attempts)
        in run rank=0 worker=[name] › stage=index › item=a batch of inbox objects › object=inbox/a.json
    exit 5
    ");
}

#[test]
fn a_body_that_trickles_is_given_up_as_a_time_out() {
    let trickle = Reply::Trickle;
    let Some(bucket) =
        Bucket::before_s3(move |asked| asked.is("GET", "/inbox/").then(|| trickle(Duration::from_millis(50))))
    else {
        return;
    };
    bucket.put(&["a.json"]);
    insta::assert_snapshot!(told(&bucket.command(&["run", "--once", "--name", "w-1"]).output().unwrap()), @"
    [time] ERROR index failed (1 of 1)
      inbox/a.json
        read s3://traces/[ulid]/inbox/a.json
        no answer in time: too slow: [n] bytes in [n] s (5 attempts)
        in run rank=0 worker=[name] › stage=index › item=a batch of inbox objects › object=inbox/a.json
    exit 5
    ");
}
