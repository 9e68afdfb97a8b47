//! `tracefarm demo` as a person meets it: three workers, pages, and what goes wrong.

#[path = "support/farm.rs"]
mod farm;
#[path = "support/official.rs"]
mod official;
#[path = "support/recording.rs"]
mod recording;
#[path = "support/server.rs"]
mod server;

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use farm::Farm;
use recording::Truth;
use serde_json::Value;
use server::get;

static TRUTH: LazyLock<Truth> =
    LazyLock::new(|| Truth::of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/inbox")));

/// A demo that serves its pages; it is killed with this.
struct Demo {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    printed: String,
}

impl Demo {
    fn start(farm: &Farm, options: &[&str]) -> Self {
        let mut command = farm.command();
        command.args(["demo", "--listen", "127.0.0.1:0"]).args(options);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out, printed: String::new() }
    }

    /// Where the pages are, once it says so.
    fn address(&mut self) -> SocketAddr {
        loop {
            let mut line = String::new();
            assert!(self.out.read_line(&mut line).unwrap() > 0, "it ended: {}", self.printed);
            self.printed += &line;
            if let Some((_, rest)) = line.split_once("pages are at http://") {
                return rest.split('/').next().unwrap().parse().unwrap();
            }
        }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// How it ended, and all that it printed.
    fn wait(mut self) -> (ExitStatus, String) {
        self.out.read_to_string(&mut self.printed).unwrap();
        (self.child.wait().unwrap(), std::mem::take(&mut self.printed))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn json(address: SocketAddr, path: &str) -> Value {
    let answer = get(address, path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// Asks until it is so, for two minutes at least.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let is_so = (0..1_200).any(|_| {
        let is_so = is_so();
        if !is_so {
            std::thread::sleep(Duration::from_millis(100));
        }
        is_so
    });
    assert!(is_so, "{what}");
}

/// How the program ends, and what it says.
fn ends(farm: &Farm, args: &[&str]) -> (i32, String, String) {
    let output = farm.command().args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The store is as one worker would have left it: everything once, nothing broken.
fn is_whole(farm: &Farm) {
    let check = farm.json(&["check", "-o", "json"]);
    assert_eq!(check["spans"], TRUTH.spans);
    assert_eq!(check["entries"], TRUTH.entries);
    for field in ["duplicates", "violation_count", "quarantined", "inbox"] {
        assert_eq!(check[field], 0, "{field}: {check}");
    }
    assert_eq!(farm.files("farm/workers"), Vec::<std::path::PathBuf>::new());
}

#[test]
fn three_workers_share_the_samples_and_the_store_is_as_if_it_were_one() {
    let farm = Farm::local();
    for attempt in 0..2 {
        let (code, text, error) = ends(&farm, &["demo", "--no-serve"]);
        assert_eq!(code, 0, "{error}");
        assert!(!text.contains('\u{1b}'), "plain in a pipe: {text}");
        let objects: Vec<u64> = text
            .lines()
            .filter(|line| line.starts_with("demo-"))
            .map(|line| line.split_whitespace().nth(1).unwrap().parse().unwrap())
            .collect();
        assert_eq!(objects.len(), 3, "{text}");
        // Which of them takes an object is told by its name; that none is left to a single one is no chance.
        assert!(objects.iter().all(|objects| *objects > 0), "attempt {attempt}: {text}");
        assert!(
            text.lines().any(|line| line.contains("POST /checkout") && line.contains("web/post-checkout-")),
            "{text}"
        );
        assert!(text.contains(" serve        the pages") && !text.contains("Ctrl-C"), "{text}");
        is_whole(&farm);
    }
}

#[test]
fn the_pages_are_served_and_the_workers_go_on_until_it_is_interrupted() {
    let farm = Farm::local();
    let mut demo = Demo::start(&farm, &[]);
    let address = demo.address();
    assert!(get(address, "/site/").text().contains("<!doctype html>"));
    let handlers = || json(address, "/site/handlers.json")["handlers"].as_array().unwrap().clone();
    let before = handlers().len();
    assert!(before > 10);
    let rows: Vec<String> = farm.ran(0, &["handlers"]).lines().skip(1).map(str::to_owned).collect();
    assert_eq!(rows.len(), before);

    // Twice at once: the second says so, and does no harm.
    let (code, out, error) = ends(&farm, &["demo", "--no-serve"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(error.starts_with("tracefarm: another demo is at work in ") && error.lines().count() == 1, "{error}");

    // What comes into the inbox is worked on, by whoever's part it is.
    let trace = serde_json::json!({ "resourceSpans": [{
        "resource": { "attributes": [{ "key": "service.name", "value": { "stringValue": "mine" } }] },
        "scopeSpans": [{ "spans": [{
            "traceId": "4bf92f3577b34da6a3ce929d0e0e4736", "spanId": "00f067aa0ba902b7", "name": "nightly", "kind": 1,
            "startTimeUnixNano": "1795310000000000000", "endTimeUnixNano": "1795310001000000000",
        }] }],
    }] });
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine.json"), trace.to_string()).unwrap();
    farm.put(folder.path());
    until("a page of the new service", || handlers().iter().any(|row| row["service"] == "mine"));
    until("three workers on the farm's page", || {
        let farm = json(address, "/site/farm.json");
        let alive = farm["workers"].as_array().unwrap().iter().filter(|worker| worker["alive"] == true);
        let mut names: Vec<_> = alive.map(|worker| worker["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names == ["demo-1", "demo-2", "demo-3"]
    });

    demo.signal("INT");
    let (status, text) = demo.wait();
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    assert_eq!(farm.files("farm/workers"), Vec::<std::path::PathBuf>::new(), "they said that they end");
}

#[test]
fn a_demo_that_was_killed_in_the_middle_is_simply_started_again() {
    let farm = Farm::local();
    for moment in ["inbox", "farm/workers", "spans", "entries", "site"] {
        let mut demo = Demo::start(&farm, &[]);
        until(moment, || !farm.files(moment).is_empty() || demo.child.try_wait().unwrap().is_some());
        demo.signal("KILL");
        assert_eq!(demo.wait().0.code(), None, "{moment}: it was killed, and had not ended");
    }
    let (code, text, error) = ends(&farm, &["demo", "--no-serve"]);
    assert_eq!(code, 0, "nobody waits for the dead\n{text}{error}");
    is_whole(&farm);
}

#[test]
fn an_address_that_is_taken_is_told_before_anything_is_written() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let farm = Farm::local();
    let (code, out, error) = ends(&farm, &["demo", "--listen", &address]);
    assert_eq!((code, out.as_str()), (2, ""), "{error}");
    assert!(error.contains(&address) && error.contains("--no-serve") && error.lines().count() == 1, "{error}");
    assert_eq!(std::fs::read_dir(farm.path()).unwrap().count(), 0);
    assert_eq!(ends(&farm, &["demo", "--no-serve", "--listen", &address]).0, 0, "nobody listens then");
}

#[test]
fn a_store_of_somebodys_own_gets_no_samples() {
    let farm = Farm::local();
    farm.work();
    let (code, out, error) = ends(&farm, &["demo", "--no-serve"]);
    assert_eq!((code, out.as_str()), (2, ""), "{error}");
    assert!(error.contains("is a farm's store") && error.lines().count() == 1, "{error}");
    assert_eq!(farm.files("inbox").len(), 0);

    // A demo's, whatever was set since; but not while somebody else works there.
    let farm = Farm::local();
    farm.ran(0, &["demo", "--no-serve"]);
    farm.ran(0, &["settings", "set", "keep_for=9d"]);
    let mut worker = farm.begin(&["run", "--name", "other"]);
    until("another worker's heartbeat", || !farm.files("farm/workers").is_empty());
    let (code, out, error) = ends(&farm, &["demo", "--no-serve"]);
    let _ = worker.kill();
    let _ = worker.wait();
    assert_eq!((code, out.as_str()), (2, ""), "{error}");
    assert!(error.contains("other is at work in") && error.lines().count() == 1, "{error}");
    farm.forget_dead_workers();
    farm.ran(0, &["demo", "--no-serve"]);
}

#[test]
fn where_nothing_can_be_written_it_says_what_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let script =
        r#"mount -t tmpfs -o ro tmpfs "$FOLDER" && exec "$PROGRAM" --store "$FOLDER" --log human demo --no-serve"#;
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-euc", script]).env("FOLDER", folder.path());
    command.env("PROGRAM", env!("CARGO_BIN_EXE_tracefarm"));
    let output = command.output();
    let Ok(output) = output.map(|output| (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    else {
        return println!("LEFT OUT: there is no `unshare` here");
    };
    let (code, error) = output;
    if error.contains("unshare") || error.contains("mount:") {
        return println!("LEFT OUT: nothing could be mounted read-only: {error}");
    }
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("Read-only file system") && error.contains(&folder.path().display().to_string()), "{error}");
    assert!(error.lines().count() <= 6, "{error}");

    let (code, _, error) = ends(&Farm::at("/proc/nothing/here".to_owned()), &["demo", "--no-serve"]);
    assert_ne!(code, 0);
    assert!(error.contains("/proc/nothing"), "{error}");
}
