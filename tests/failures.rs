//! What a person is told when something fails, and how the program ends: the very words on standard error.
//!
//! The program runs as a user runs it; S3 is a server that fails as the real one does. Where more than the failure must
//! work, the real server stands behind it: `scripts/servers cargo test --test failures`. Without it those tests say that
//! they were left out.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]
#![cfg(target_os = "linux")]

#[path = "support/farm.rs"]
mod farm;
#[path = "support/front.rs"]
mod front;
#[path = "support/official.rs"]
mod official;

#[path = "failures/bucket.rs"]
mod bucket;
#[path = "failures/credentials.rs"]
mod credentials;
#[path = "failures/disk.rs"]
mod disk;
#[path = "failures/ends.rs"]
mod ends;
#[path = "failures/reports.rs"]
mod reports;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use front::{Asked, Front, Reply};
use regex::Regex;

/// A store in a bucket behind a server that fails.
struct Bucket {
    front: Front,
    url: String,
    /// The credentials that the real server takes.
    key: String,
    secret: String,
}

impl Bucket {
    /// Nothing behind: what no rule is for is not implemented.
    fn alone(rule: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let (key, secret) = ("tracefarm".to_owned(), "tracefarm-secret".to_owned());
        Self { front: Front::new(None, rule), url: "s3://traces".to_owned(), key, secret }
    }

    /// The real server behind; none if it does not run, which is said.
    fn before_s3(rule: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static) -> Option<Self> {
        let servers = std::env::var("TRACEFARM_SERVERS").unwrap_or_default();
        let Some(bucket) = servers.split_whitespace().find(|url| url.starts_with("s3://")) else {
            println!("LEFT OUT: this needs a real S3 server: `scripts/servers cargo test --test failures`");
            return None;
        };
        let behind = std::env::var("AWS_ENDPOINT_URL").unwrap();
        let url = format!("{bucket}/{}", tracefarm::clock::Clock::system(jiff::SignedDuration::ZERO).ulid());
        let (key, secret) = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY");
        let (key, secret) = (std::env::var(key).unwrap(), std::env::var(secret).unwrap());
        Some(Self { front: Front::new(Some(behind), rule), url, key, secret })
    }

    /// The program on this store, with the credentials in its environment; requests have a twentieth of the time.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.anonymous(args);
        command.env("AWS_ACCESS_KEY_ID", &self.key).env("AWS_SECRET_ACCESS_KEY", &self.secret);
        command
    }

    /// The same without credentials.
    fn anonymous(&self, args: &[&str]) -> Command {
        let mut command = program();
        command.env("AWS_ENDPOINT_URL", &self.front.url).env("AWS_ALLOW_HTTP", "true").env("AWS_REGION", "us-east-1");
        // An answer has half a second: this machine may be busy.
        command.env("TRACEFARM_PATIENCE", "0.05").args(["--store", &self.url]).args(args);
        command
    }

    /// Puts traces into the inbox, under these names.
    fn put(&self, names: &[&str]) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (bucket, prefix) = self.url.strip_prefix("s3://").unwrap().split_once('/').unwrap();
        let s3 = object_store::aws::AmazonS3Builder::new()
            .with_endpoint(std::env::var("AWS_ENDPOINT_URL").unwrap())
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_bucket_name(bucket)
            .with_access_key_id(&self.key)
            .with_secret_access_key(&self.secret)
            .build()
            .unwrap();
        for name in names {
            let path = object_store::path::Path::from(format!("{prefix}/inbox/{name}"));
            let put = object_store::ObjectStoreExt::put(&s3, &path, spans(10).into());
            runtime.block_on(put).unwrap();
        }
    }
}

/// The program, with nothing of the environment of the tests but what finds programs.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracefarm"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).stdin(Stdio::null());
    command.env("TRACEFARM_LOG", "human");
    command
}

/// OTLP/JSON with so many spans, of now.
fn spans(count: u64) -> String {
    spans_at(tracefarm::clock::Clock::system(jiff::SignedDuration::ZERO).wall(), count)
}

/// OTLP/JSON with so many spans, each a trace of its own, before `time`.
fn spans_at(time: jiff::Timestamp, count: u64) -> String {
    let now = time.as_nanosecond() as u64;
    let span = |number: u64| {
        let (start, end) = (now - 1_000_000 * number, now);
        format!(
            r#"{{"traceId":"{end:016x}{number:016x}","spanId":"{number:016x}","name":"GET /x","kind":2,"startTimeUnixNano":"{start}","endTimeUnixNano":"{end}"}}"#
        )
    };
    let spans: Vec<String> = (1..=count).map(span).collect();
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}]}}]}}]}}"#, spans.join(","))
}

/// What standard error said and how the program ended, without what differs from run to run.
fn told(output: &Output) -> String {
    let code = output.status.code().map_or_else(|| output.status.to_string(), |code| code.to_string());
    format!("{}exit {code}", redacted(&String::from_utf8_lossy(&output.stderr)))
}

fn redacted(text: &str) -> String {
    let mut text = text.to_owned();
    for (pattern, with) in [
        (r"(?m)^\d\d:\d\d:\d\d ", "[time] "),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[time]"),
        (r"hour=\d{4}-\d\d-\d\dT\d\d", "hour=[hour]"),
        (r"\d{4}-\d\d-\d\dT\d\d", "[hour]"),
        (r"127\.0\.0\.1:\d+", "[address]"),
        (r"\b01[0-9A-HJKMNP-TV-Z]{24}\b", "[ulid]"),
        (r"worker=[\w-]+", "worker=[name]"),
        (r#""worker":"[\w-]+""#, r#""worker":"[name]""#),
        (r"/tmp/[\w./]*?/store", "[folder]"),
        (r"bytes \d+\.\.\d+", "bytes [range]"),
        (r"\d+ bytes in \d+(\.\d+)? s\b", "[n] bytes in [n] s"),
        (r"\((\d+h )?(\d+m )?\d+[ms]\)", "([n])"),
        (r"\d+(\.\d+)? kB had", "[n] kB had"),
        (r#""request_id": "[^"]*""#, r#""request_id": "[id]""#),
        (r"none within [\d.]+m?s", "none within [n] s"),
        (r"src/([\w/]+\.rs):\d+", "src/$1:[line]"),
    ] {
        text = Regex::new(pattern).unwrap().replace_all(&text, with).into_owned();
    }
    text
}

/// Files of a folder of a local store.
fn files(store: &Path, folder: &str) -> Vec<std::path::PathBuf> {
    let folder = store.join(folder);
    if folder.is_dir() { official::files(&folder) } else { Vec::new() }
}
