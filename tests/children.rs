//! `publish_command`: the program as a user runs it, with scripts that behave well, badly and very badly.
#![expect(clippy::unwrap_used, reason = "these are tests")]
#![cfg(target_os = "linux")]

mod stores;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tracefarm::store::layout::{ExtraName, SiteKey};
use tracefarm::store::{Key, OpenOptions, Prefix, Store};

/// A store, its worker's temporary folder, and a folder in which scripts lie and leave word.
struct Farm {
    url: String,
    folder: tempfile::TempDir,
}

impl Farm {
    fn local() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::at(folder.path().join("store").display().to_string(), folder)
    }

    fn at(url: String, folder: tempfile::TempDir) -> Self {
        for name in ["store", "tmp", "outside"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { url, folder }
    }

    fn tmp(&self) -> PathBuf {
        self.folder.path().join("tmp")
    }

    /// A file that a script may write, to tell the test something.
    fn outside(&self, name: &str) -> PathBuf {
        self.folder.path().join("outside").join(name)
    }

    fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tracefarm"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TRACEFARM_") {
                command.env_remove(name);
            }
        }
        command.args(["--store", &self.url, "--log-level", "warn"]).env("TMPDIR", self.tmp());
        command.env("SOME_TOKEN", "not for children");
        command
    }

    fn ran(&self, code: i32, args: &[&str]) -> Output {
        let output = self.program().args(args).output().unwrap();
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{args:?}\n{out}\n{error}");
        output
    }

    fn json(&self, code: i32, args: &[&str]) -> Value {
        serde_json::from_slice(&self.ran(code, args).stdout).unwrap()
    }

    /// A worker that does what there is to do and may run the command; how it ends.
    fn work(&self, code: i32) -> Value {
        self.json(code, &WORK)
    }

    fn begin(&self, args: &[&str]) -> Child {
        self.program().args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn set(&self, setting: &str) -> &Self {
        self.ran(0, &["settings", "set", setting]);
        self
    }

    /// Makes `text` the command. `$OUT` in it is the folder outside.
    fn script(&self, text: &str) -> &Self {
        let path = self.outside("script");
        let out = self.folder.path().join("outside");
        fs::write(&path, text.replace("$OUT", out.to_str().unwrap())).unwrap();
        self.set(&format!("publish_command=/bin/sh {}", path.display()))
    }

    /// Traces of handlers, one an object.
    fn send(&self, traces: &[(u32, &str)]) -> &Self {
        for (trace, route) in traces {
            let path = self.folder.path().join("store/inbox").join(format!("{trace}.json"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, request(*trace, route)).unwrap();
        }
        self
    }

    fn pages(&self) -> BTreeMap<String, Vec<u8>> {
        let site = self.folder.path().join("store/site");
        let mut found = BTreeMap::new();
        let mut todo = vec![site.clone()];
        while let Some(folder) = todo.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    todo.push(path);
                } else {
                    let name = path.strip_prefix(&site).unwrap().display().to_string();
                    found.insert(name, fs::read(&path).unwrap());
                }
            }
        }
        found
    }

    /// The extras that stand, below their handlers' folders: whatever is there, named or not.
    fn extras(&self, handler: &str) -> BTreeMap<String, String> {
        let of_handler = self.pages().into_iter().filter_map(|(name, body)| {
            let (of, name) = name.split_once("/extra/")?;
            of.contains(handler).then(|| (name.to_owned(), String::from_utf8(body).unwrap()))
        });
        of_handler.collect()
    }

    fn summary(&self, handler: &str) -> Value {
        let pages = self.pages();
        let mut of = pages.iter().filter(|(name, _)| name.contains(handler) && name.ends_with("/summary.json"));
        serde_json::from_slice(of.next().unwrap_or_else(|| panic!("{handler}: {:?}", pages.keys())).1).unwrap()
    }

    fn error(&self, handler: &str) -> String {
        self.summary(handler)["extra_error"].as_str().unwrap_or_default().to_owned()
    }

    /// A worker leaves nothing behind, whatever became of its children.
    fn is_tidy(&self) -> &Self {
        let left: Vec<_> = fs::read_dir(self.tmp()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [""; 0].map(PathBuf::from));
        let check = self.json(0, &["check", "-o", "json"]);
        assert_eq!((&check["violations"], &check["foreign"]), (&json!([]), &json!([])));
        self
    }
}

const WORK: [&str; 7] = ["run", "--once", "--grace", "0s", "--allow-publish-command", "-o", "json"];

fn request(trace: u32, route: &str) -> String {
    let now = u64::try_from(stores::clock().wall().as_nanosecond()).unwrap();
    let start = now - 60_000_000_000 + u64::from(trace) * 1_000_000;
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let span = json!({
        "traceId": format!("{trace:032x}"), "spanId": format!("{:016x}", trace + 1), "name": "GET", "kind": 2,
        "startTimeUnixNano": start.to_string(), "endTimeUnixNano": (start + 5_000_000).to_string(),
        "attributes": [text("http.request.method", "GET"), text("http.route", route),
            {"key": "http.response.status_code", "value": {"intValue": "200"}}],
    });
    let resource = json!({"attributes": [text("service.name", "we\u{202e}b;$(touch x)")]});
    json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}).to_string()
}

/// Waits for what must come; there is no other measure of time in these tests.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{what}: not within a minute");
}

/// Whether a process lives: not if it is gone, or nobody has taken notice of its end.
fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The processes that have written their ids into a file.
fn pids(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

#[test]
fn what_a_command_writes_stands_beside_the_page_and_is_named_there() {
    let farm = Farm::local();
    farm.send(&[(1, "/a"), (2, "/a"), (3, "/b")]).script(
        r#"cat > traces.json
           mkdir -p img/deep; printf '%s' "$TRACEFARM_HANDLER" > 'img/deep/ü "x".svg'
           cp "$TRACEFARM_SUMMARY" of.json; env > env.txt; : > empty
           echo cache > "$HOME/cache"; echo temporary > "$TMPDIR/temporary"; echo above > ../above"#,
    );
    let ran = farm.work(0);
    assert_eq!(ran["failed"], json!([]));
    farm.is_tidy();
    for (handler, traces) in [("get-a-", 2), ("get-b-", 1)] {
        let summary = farm.summary(handler);
        let id = summary["handler"]["id"].as_str().unwrap();
        let extras = farm.extras(handler);
        let names: Vec<&str> = extras.keys().map(String::as_str).collect();
        assert_eq!(names, ["empty", "env.txt", "img/deep/%C3%BC%20%22x%22.svg", "of.json", "traces.json"]);
        assert_eq!(extras["img/deep/%C3%BC%20%22x%22.svg"], id);
        let given: Value = serde_json::from_str(&extras["traces.json"]).unwrap();
        assert_eq!(given["resourceSpans"].as_array().unwrap().len(), traces);
        let stored = &farm.pages()[&format!("handlers/{id}/traces.json.gz")];
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(&stored[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, extras["traces.json"]);
        let of: Value = serde_json::from_str(&extras["of.json"]).unwrap();
        assert_eq!(of["handler"], summary["handler"]);
        let known = ["HOME", "LANG", "PATH", "PWD", "TMPDIR", "OLDPWD", "SHLVL", "_"];
        for line in extras["env.txt"].lines() {
            let (name, value) = line.split_once('=').unwrap();
            assert!(known.contains(&name) || name.starts_with("TRACEFARM_"), "{line}");
            assert!(name != "TRACEFARM_SERVICE" || value == "we\u{202e}b;$(touch x)", "{line}");
        }
        let told = |name: &str, kind: &str| {
            let all = summary["extras"].as_array().unwrap();
            let one = all.iter().find(|extra| extra["name"] == name).unwrap();
            let key = format!("site/handlers/{id}/extra/{}", ExtraName::new(name).unwrap());
            let bytes = fs::metadata(farm.folder.path().join("store").join(&key)).unwrap().len();
            assert_eq!(one, &json!({"name": name, "key": key, "bytes": bytes, "content_type": kind}));
        };
        told("img/deep/ü \"x\".svg", "image/svg+xml");
        told("traces.json", "application/json");
        told("empty", "application/octet-stream");
        assert_eq!(summary["extras"].as_array().unwrap().len(), 5);
        let shown = farm.ran(0, &["handlers", "show", id]);
        assert!(String::from_utf8_lossy(&shown.stdout).contains("traces.json (application/json"));
    }
}

#[test]
fn the_command_runs_again_only_for_what_changed_and_what_it_no_longer_writes_goes() {
    let farm = Farm::local();
    let log = farm.outside("log");
    let runs = || {
        let runs = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::remove_file(&log);
        runs.lines()
            .map(|id| id.rsplit_once("get-").unwrap().1[..1].to_owned())
            .collect::<std::collections::BTreeSet<_>>()
    };
    let both = ["a", "b"].map(str::to_owned).into();
    farm.send(&[(1, "/a"), (2, "/b")]);
    farm.script(r#"echo "$TRACEFARM_HANDLER" >> $OUT/log; echo one > one; echo two > two"#);
    farm.work(0);
    assert_eq!(runs(), both);
    farm.work(0);
    assert_eq!(runs(), [].into(), "nothing changed");
    farm.send(&[(3, "/b")]).work(0);
    assert_eq!(runs(), ["b".to_owned()].into());
    // An extra that somebody else changed, or took away.
    let one = farm.pages().into_keys().find(|name| name.contains("get-a") && name.ends_with("/one")).unwrap();
    fs::write(farm.folder.path().join("store/site").join(one), "other").unwrap();
    farm.work(0);
    assert_eq!(runs(), ["a".to_owned()].into());
    assert_eq!(farm.extras("get-a")["one"], "one\n");

    let other = farm.outside("other");
    fs::write(&other, format!("echo \"$TRACEFARM_HANDLER\" >> {}; echo 2 > two", log.display())).unwrap();
    farm.set(&format!("publish_command=sh {}", other.display())).work(0);
    assert_eq!(runs(), both, "another command");
    for handler in ["get-a", "get-b"] {
        assert_eq!(farm.extras(handler), [("two".to_owned(), "2\n".to_owned())].into());
        assert_eq!(farm.summary(handler)["extras"].as_array().unwrap().len(), 1);
    }
    let id = farm.summary("get-b")["handler"]["id"].as_str().unwrap().to_owned();
    farm.ran(0, &["handlers", "remove", &id]);
    farm.work(0);
    assert!(farm.pages().keys().all(|name| !name.contains("get-b")), "{:?}", farm.pages().keys());
    assert_eq!(farm.extras("get-a").len(), 1);
    assert_eq!(runs(), ["a".to_owned()].into(), "its summary names the catalogue");

    farm.set("publish_command=").work(0);
    assert_eq!(farm.extras(""), [].into());
    assert_eq!(farm.summary("get-a").get("extras"), None);
    assert_eq!(runs(), [].into());
    farm.is_tidy();
}

#[test]
fn a_command_that_fails_is_told_and_holds_up_nothing() {
    let farm = Farm::local();
    farm.send(&[(1, "/a")]).script("echo good > good").work(0);
    fs::write(farm.outside("data"), "not a program").unwrap();
    fs::set_permissions(farm.outside("data"), fs::Permissions::from_mode(0o644)).unwrap();
    let loud =
        format!("{}; exit 1", "head -c 30000000 /dev/zero | tr '\\0' x >&2; echo the end >&2; yes | head -c 9000000");
    let scripts = [
        ("echo oh >&2; printf '\\033[31mno' >&2; exit 3", "it ended with exit code 3: oh\n\u{fffd}[31mno"),
        ("echo said; kill -TERM $$", "it ended with signal 15: said"),
        (&loud, "xxxthe end"),
        ("ln -s /etc/passwd passwd", "it left \"passwd\", which is a link or a device and no file"),
        ("ln -s /etc etc", "it left \"etc\", which is a link"),
        ("mkfifo pipe", "it left \"pipe\", which is a link or a device"),
        ("head -c 33554433 /dev/zero > large", ""),
        ("for n in 1 2 3; do head -c 30000000 /dev/zero > $n; done", "it wrote more than 100 files, or more than"),
        ("n=0; while [ $n -lt 101 ]; do : > $n; n=$((n+1)); done", "it wrote more than 100 files"),
        ("mkdir -p 1/2/3/4/5/6/7/8/9", "it wrote more than 8 folders within each other"),
        ("touch $(head -c 90 /dev/zero | tr '\\0' '!')", "is too long a name"),
        ("touch \"$(printf 'a\\377b')\"", "whose name is not UTF-8"),
        ("seq 1 10001 | (cd $TMPDIR; xargs touch); sleep 1000", "it had more than 10000 files"),
        ("cd ..; rm -rf extra", "look for what the command wrote"),
    ];
    let bad = scripts.iter().enumerate();
    let files: Vec<_> =
        bad.map(|(number, (script, error))| (farm.outside(&number.to_string()), *script, *error)).collect();
    let mut commands: Vec<(String, &str)> = Vec::new();
    for (path, script, error) in &files {
        fs::write(path, script).unwrap();
        commands.push((format!("sh {}", path.display()), error));
    }
    commands.push((
        "no-such-program".to_owned(),
        "it ended with exit code 127: tracefarm: `publish_command` cannot be run: no-such-program",
    ));
    commands.push((
        farm.outside("data").display().to_string(),
        "it ended with exit code 126: tracefarm: `publish_command` cannot be run",
    ));
    for (number, (command, error)) in commands.iter().enumerate() {
        farm.set(&format!("publish_command={command}"));
        // A page that changed appears all the same.
        let trace = 10 + number as u32;
        let ran = farm.send(&[(trace, "/a")]).work(5);
        let summary = farm.summary("get-a");
        assert_eq!(summary["newest"][0]["trace_id"], format!("{trace:032x}"), "{command}");
        let why = farm.error("get-a");
        assert!(!why.is_empty() && why.contains(error), "{command}: {why}");
        assert!(why.len() < 3000, "{command}: {} bytes", why.len());
        let item = ran["failed"][0]["item"].as_str().unwrap();
        assert!(item.starts_with("publish extras of ") && item.contains("/get-a-"), "{item}");
        assert_eq!(ran["failed"].as_array().unwrap().len(), 1);
        let status = farm.json(0, &["status", "-o", "json"]);
        assert!(status["extra_errors"].as_object().unwrap().values().any(|told| *told == why), "{status}");
        // The old ones stay.
        assert_eq!(farm.extras("get-a"), [("good".to_owned(), "good\n".to_owned())].into(), "{command}");
        assert_eq!(summary["extras"].as_array().unwrap().len(), 1);
        farm.is_tidy();
    }
    // A command that reads nothing of its input, and one that is well again.
    farm.script("exec 0<&-; echo good > good").work(0);
    assert_eq!(farm.error("get-a"), "");
    farm.is_tidy();
}

#[test]
fn nothing_outlives_a_command_that_takes_too_long_or_ends() {
    let farm = Farm::local();
    farm.send(&[(1, "/a")]).set("publish_command_timeout=1s");
    let stubborn = r#"
        trap '' TERM; echo $$ >> $OUT/pids
        (trap '' TERM; sh -c 'echo $$ >> $OUT/pids; exec sleep 1001' & sleep 1002) &
        setsid sh -c 'trap "" TERM; echo $$ >> $OUT/pids; sh -c "echo \$\$ >> $OUT/pids; exec sleep 1003" & exec sleep 1004' &
        n=0; while [ $n -lt 100 ]; do sh -c 'echo $$ >> $OUT/pids; exec sleep 1005' & n=$((n+1)); done
        n=0; while [ $n -lt 30 ]; do setsid sh -c 'echo $$ >> $OUT/pids; exec sleep 1006' & n=$((n+1)); done
        while [ $(wc -l < $OUT/pids) -lt 134 ]; do sleep 0.1; done
    "#;
    // One that goes on, then one that ends well and leaves the rest in the background.
    for (end, code) in [("while :; do sleep 1000; done", 5), ("echo good > good", 0)] {
        farm.set(if code == 5 { "publish_command_timeout=10s" } else { "publish_command_timeout=1m" });
        farm.script(&format!("{stubborn}{end}"));
        fs::write(farm.outside("again"), end).unwrap();
        farm.send(&[(2 + code as u32, "/a")]).work(code);
        let pids = pids(&farm.outside("pids"));
        assert!(pids.len() == 134 || (code == 5 && !pids.is_empty()), "{}", pids.len());
        assert_eq!(pids.iter().filter(|pid| lives(pid)).count(), 0);
        let why = farm.error("get-a");
        assert!(code == 0 || why.contains("it took longer than 10s and was killed"), "{why}");
        fs::remove_file(farm.outside("pids")).unwrap();
        farm.is_tidy();
    }
    assert_eq!(farm.extras("get-a").len(), 1);
}

#[test]
fn a_command_ends_with_its_worker_however_that_ends() {
    for signals in [vec!["KILL"], vec!["TERM", "TERM"]] {
        let farm = Farm::local();
        farm.send(&[(1, "/a")]);
        farm.script(
            r#"trap '' TERM
               setsid sh -c 'trap "" TERM; echo $$ >> $OUT/pids; exec sleep 1000' &
               echo $$ >> $OUT/pids; [ -e $OUT/well ] && echo good > good && exit; sleep 1000"#,
        );
        let mut worker = farm.begin(&WORK);
        until("the command is at work", || pids(&farm.outside("pids")).len() == 2);
        let pids = pids(&farm.outside("pids"));
        assert!(pids.iter().all(|pid| lives(pid)));
        for signal in &signals {
            Command::new("kill").args([&format!("-{signal}"), &worker.id().to_string()]).status().unwrap();
            std::thread::sleep(Duration::from_millis(300));
        }
        worker.wait().unwrap();
        until("the command is gone", || !pids.iter().any(|pid| lives(pid)));
        until("so is its folder", || fs::read_dir(farm.tmp()).unwrap().count() == 0);
        assert_eq!(farm.extras(""), [].into());
        assert_eq!(farm.summary("get-a")["handler"]["count"], 1, "the page came first");
        fs::write(farm.outside("well"), "").unwrap();
        for heartbeat in fs::read_dir(farm.folder.path().join("store/farm/workers")).unwrap() {
            fs::remove_file(heartbeat.unwrap().path()).unwrap();
        }
        farm.work(0);
        assert_eq!(farm.extras("get-a").len(), 1);
        farm.is_tidy();
    }
}

#[test]
fn a_worker_that_may_not_run_it_says_so_and_does_the_rest() {
    let farm = Farm::local();
    farm.send(&[(1, "/a")]).script("echo $$ >> $OUT/ran; echo good > good");
    let output = farm.ran(0, &["run", "--once", "--grace", "0s"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.matches("--allow-publish-command").count(), 1, "{said}");
    assert!(!farm.outside("ran").exists());
    assert_eq!((farm.extras(""), farm.error("get-a")), ([].into(), String::new()));
    let heartbeats = farm.folder.path().join("store/farm/workers");
    let warnings = |farm: &Farm| farm.json(0, &["status", "-o", "json"])["warnings"].to_string();
    for (args, warned) in [(&["run"][..], true), (&["run", "--allow-publish-command"][..], false)] {
        let mut worker = farm.begin(args);
        until("it works", || fs::read_dir(&heartbeats).is_ok_and(|mut some| some.next().is_some()));
        assert_eq!(warnings(&farm).contains("1 of 1 workers may not run it"), warned);
        worker.kill().unwrap();
        worker.wait().unwrap();
        for heartbeat in fs::read_dir(&heartbeats).unwrap() {
            fs::remove_file(heartbeat.unwrap().path()).unwrap();
        }
    }
    // What others made stays with one that may not make it.
    farm.work(0);
    farm.send(&[(2, "/a")]).ran(0, &["run", "--once", "--grace", "0s"]);
    assert_eq!(farm.extras("get-a").len(), 1);
    assert_eq!(farm.summary("get-a")["extras"].as_array().unwrap().len(), 1);
    farm.is_tidy();
}

#[test]
fn a_forgotten_trace_is_in_no_extra_though_the_command_fails_or_may_not_run() {
    for may_run in [true, false] {
        let farm = Farm::local();
        farm.send(&[(0xabcdef, "/a"), (2, "/a"), (3, "/b")]);
        farm.script("[ -e $OUT/broken ] && exit 1; cat > traces.json").work(0);
        let forgotten = format!("{:032x}", 0xabcdef);
        assert!(farm.extras("get-a")["traces.json"].contains(&forgotten));
        fs::write(farm.outside("broken"), "").unwrap();
        farm.ran(0, &["forget", &forgotten]);
        if may_run {
            farm.work(5);
        } else {
            farm.ran(0, &["run", "--once", "--grace", "0s"]);
        }
        assert_eq!(farm.extras("get-a"), [].into());
        assert_eq!(farm.summary("get-a").get("extras"), None);
        assert_eq!(farm.extras("get-b").len(), 1, "nothing was taken from this one");
        fs::remove_file(farm.outside("broken")).unwrap();
        farm.work(0);
        let extra = &farm.extras("get-a")["traces.json"];
        assert!(!extra.contains(&forgotten) && extra.contains(&format!("{:032x}", 2)), "{extra}");
        farm.is_tidy();
    }
}

#[test]
fn the_example_draws_a_waterfall_of_every_trace() {
    let readme = include_str!("../README.md");
    let (_, program) = readme.split_once("```python\n").unwrap();
    let (program, _) = program.split_once("```").unwrap();
    let farm = Farm::local();
    let path = farm.outside("waterfall.py");
    fs::write(&path, program).unwrap();
    farm.set(&format!("publish_command=python3 {}", path.display()));
    farm.send(&[(1, "/a"), (2, "/a")]).work(0);
    let extras = farm.extras("get-a");
    assert_eq!(extras.keys().cloned().collect::<Vec<_>>(), [1, 2].map(|trace| format!("{trace:032x}.svg")));
    for svg in extras.values() {
        assert!(svg.starts_with("<svg") && svg.contains("GET 5.00 ms") && svg.ends_with("</svg>"), "{svg}");
    }
    assert_eq!(farm.summary("get-a")["extras"][0]["content_type"], "image/svg+xml");
}

#[tokio::test(flavor = "multi_thread")]
async fn extras_stand_in_every_kind_of_store() {
    for place in stores::places() {
        let farm = Farm::at(place.url.clone(), tempfile::tempdir().unwrap());
        let store = Store::open(&place.url, &OpenOptions::default(), stores::clock()).await.unwrap();
        store.create(&Key::Inbox("1.json".to_owned()), request(1, "/a").into()).await.unwrap();
        farm.script("wc -c > 'the size'; echo x > other").work(0);
        let extras = async || {
            let listed = store.list(&Prefix::Site).await.unwrap();
            assert_eq!(listed.foreign.len(), 0);
            let extra = |object: tracefarm::store::Object| match object.key {
                Key::Site(SiteKey::Extra(_, ref name)) => Some((name.as_str().to_owned(), object.key)),
                _ => None,
            };
            listed.objects.into_iter().filter_map(extra).collect::<BTreeMap<_, _>>()
        };
        let found = extras().await;
        assert_eq!(found.keys().collect::<Vec<_>>(), ["other", "the size"], "{}", place.url);
        let (body, _) = store.get(&found["the size"]).await.unwrap();
        assert!(String::from_utf8_lossy(&body).trim().parse::<u64>().unwrap() > 100);
        farm.script("echo x > other").set("publish_command=").work(0);
        assert_eq!(extras().await.len(), 0, "{}", place.url);
    }
}
