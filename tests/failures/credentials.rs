//! Credentials that are missing, wrong, expired or renewed, and clocks that are wrong.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::front::{Asked, Front, Reply, error};
use super::{Bucket, told};

const EXPIRED: &str = "The provided token has expired.";

#[test]
fn missing_credentials_are_a_mistake() {
    let bucket = Bucket::alone(|_| None);
    let mut command = bucket.anonymous(&["run", "--once"]);
    // Nobody is at the metadata server's address, on this machine or in any cloud.
    command.env("AWS_METADATA_ENDPOINT", "http://169.254.170.2");
    insta::assert_snapshot!(told(&command.output().unwrap()), @"
    tracefarm: no credentials for s3://traces: neither the environment has any, nor does a role of this machine
    exit 2
    ");
    assert_eq!(bucket.front.asked().len(), 0);
}

#[test]
fn credentials_that_the_store_does_not_know_are_a_mistake() {
    let unknown = "The AWS Access Key Id you provided does not exist in our records.";
    let bucket = Bucket::alone(move |_| error(403, "InvalidAccessKeyId", unknown));
    insta::assert_snapshot!(told(&bucket.command(&["run", "--once"]).output().unwrap()), @"
    tracefarm: s3://traces cannot be opened: 403 InvalidAccessKeyId: The AWS Access Key Id you provided does not exist in our records.: the store does not know these credentials: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
    exit 2
    ");
}

#[test]
fn credentials_that_have_expired_are_told_with_what_to_do() {
    let bucket = Bucket::alone(|_| error(400, "ExpiredToken", EXPIRED));
    insta::assert_snapshot!(told(&bucket.command(&["run", "--once"]).output().unwrap()), @"
    tracefarm: s3://traces cannot be opened: 400 ExpiredToken: The provided token has expired.: the credentials have expired: give new ones (those of a role are fetched anew by themselves)
    exit 2
    ");
}

/// They are good for the first requests only, and nobody has others.
#[test]
fn credentials_that_expire_in_the_middle_leave_everything_for_later() {
    let Some(bucket) = Bucket::before_s3(|asked| match asked.is("GET", "/inbox/") {
        true => error(403, "ExpiredToken", EXPIRED),
        false => None,
    }) else {
        return;
    };
    bucket.put(&["a.json", "b.json"]);
    insta::assert_snapshot!(told(&bucket.command(&["run", "--once", "--name", "w-1"]).output().unwrap()), @"
    [time] ERROR index failed (2 of 2)
      2: inbox/a.json, inbox/b.json
        read s3://traces/[ulid]/inbox/a.json
        403 ExpiredToken: The provided token has expired.
        → the credentials have expired: give new ones (those of a role are fetched anew by themselves)
        in run rank=0 worker=[name] › stage=index › item=a batch of inbox objects › object=inbox/a.json
    exit 5
    ");
}

/// A bucket that has revoked the credentials `OLD` long before they expire; and how often they were tried.
fn revoking() -> (Bucket, Arc<AtomicU32>) {
    let uses = Arc::new(AtomicU32::new(0));
    let counted = uses.clone();
    let bucket = Bucket::alone(move |asked| match asked.key.as_str() {
        "OLD" => {
            counted.fetch_add(1, Ordering::SeqCst);
            error(403, "ExpiredToken", EXPIRED)
        }
        // That is known of credentials that are good: what is asked is answered.
        "NEW" => error(404, "NoSuchBucket", "The specified bucket does not exist"),
        key => panic!("signed with {key}"),
    });
    (bucket, uses)
}

/// Which credentials a place gives: those that have been revoked, and from then on others.
fn in_turn() -> impl Fn() -> &'static str + Send + Sync {
    let times = AtomicU32::new(0);
    move || if times.fetch_add(1, Ordering::SeqCst) == 0 { "OLD" } else { "NEW" }
}

/// The program came as far as the bucket, with the second credentials.
fn came_through(mut command: Command, uses: &AtomicU32) {
    let said = told(&command.output().unwrap());
    insta::allow_duplicates! {
        insta::assert_snapshot!(said, @"
        tracefarm: there is no bucket `traces` for s3://traces: make it first, or correct its name
        exit 2
        ");
    }
    assert_eq!(uses.load(Ordering::SeqCst), 1, "refused once");
}

fn credentials(key: &str) -> String {
    format!(r#"{{"AccessKeyId":"{key}","SecretAccessKey":"s","Token":"t","Expiration":"2099-01-01T00:00:00Z"}}"#)
}

#[test]
fn credentials_of_a_pod_that_are_revoked_are_fetched_anew() {
    let (bucket, uses) = revoking();
    let key = in_turn();
    let place = Front::new(None, move |_| Some(Reply::Document(credentials(key()))));
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "pod").unwrap();
    let mut command = bucket.anonymous(&["run", "--once"]);
    command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", &place.url).env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token);
    came_through(command, &uses);
    assert_eq!(place.asked().len(), 2, "fetched once more");
}

#[test]
fn credentials_of_an_instance_that_are_revoked_are_fetched_anew() {
    let (bucket, uses) = revoking();
    let key = in_turn();
    let place = Front::new(None, move |asked| {
        Some(Reply::Document(match asked.path.as_str() {
            "/latest/api/token" => "session".to_owned(),
            "/latest/meta-data/iam/security-credentials/" => "role".to_owned(),
            _ => credentials(key()),
        }))
    });
    let mut command = bucket.anonymous(&["run", "--once"]);
    command.env("AWS_METADATA_ENDPOINT", &place.url);
    came_through(command, &uses);
}

/// As STS answers: "AssumeRoleWithWebIdentity" of the AWS Security Token Service API reference.
fn assumed(key: &str) -> String {
    format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
         <SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>\
         </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    )
}

/// The program in a pod whose service account may assume a role, and the place where it does.
fn pod(
    bucket: &Bucket,
    folder: &Path,
    serve: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static,
) -> (Command, Front) {
    let (sts, certificate) = Front::over_tls(serve);
    let [token, trusted] = ["token", "trusted.pem"].map(|name| folder.join(name));
    fs::write(&token, "of-the-pod").unwrap();
    fs::write(&trusted, certificate).unwrap();
    let mut command = bucket.anonymous(&["run", "--once"]);
    command
        .env("AWS_ENDPOINT_URL_STS", &sts.url)
        .env("SSL_CERT_FILE", trusted)
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", token);
    command.env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/farm").env("AWS_ROLE_SESSION_NAME", "w-1");
    (command, sts)
}

#[test]
fn credentials_for_the_token_of_a_service_account_that_are_revoked_are_fetched_anew() {
    let (bucket, uses) = revoking();
    let folder = tempfile::tempdir().unwrap();
    let key = in_turn();
    let (command, sts) = pod(&bucket, folder.path(), move |asked| {
        assert!(asked.query.contains("Action=AssumeRoleWithWebIdentity"), "{}", asked.query);
        assert!(asked.query.contains("WebIdentityToken=of-the-pod") && asked.query.contains("RoleSessionName=w-1"));
        assert!(asked.query.contains("role%2Ffarm"), "{}", asked.query);
        Some(Reply::Document(assumed(key())))
    });
    came_through(command, &uses);
    assert_eq!(sts.asked().len(), 2, "fetched once more");
}

#[test]
fn a_service_account_that_may_not_assume_the_role_is_told_of_it() {
    let (bucket, _) = revoking();
    let folder = tempfile::tempdir().unwrap();
    let no = "Not authorized to perform sts:AssumeRoleWithWebIdentity";
    let (mut command, _sts) = pod(&bucket, folder.path(), move |_| error(403, "AccessDenied", no));
    insta::assert_snapshot!(told(&command.output().unwrap()), @"
    tracefarm: s3://traces cannot be opened: 403 AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity: let the role (AWS_ROLE_ARN) trust this service account: its trust policy names issuer, namespace and account
    exit 2
    ");
}

#[test]
fn a_machine_whose_clock_is_wrong_is_told_to_set_it() {
    let skewed = "The difference between the request time and the server's time is too large.";
    let date = || vec![("date", "Sun, 22 Nov 2026 10:00:00 GMT".to_owned())];
    let bucket = Bucket::alone(move |_| Some(Reply::Error(403, "RequestTimeTooSkewed", skewed, date())));
    let said = told(&bucket.command(&["run", "--once"]).output().unwrap());
    insta::assert_snapshot!(said, @"
    tracefarm: s3://traces cannot be opened: 403 RequestTimeTooSkewed: The difference between the request time and the server's time is too large.: set this machine's clock (the store says it is [time])
    exit 2
    ");
}
