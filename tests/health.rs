//! Health, metrics and systemd's notifications of the program as it runs, asked as probes, Prometheus and systemd do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A worker of the program, or another of its services, killed with the test.
struct Worker {
    child: Child,
    logs: BufReader<std::process::ChildStderr>,
}

impl Worker {
    fn start(store: &Path, args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::of(store, &[&["run"], args].concat(), env)
    }

    fn of(store: &Path, args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tracefarm"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TRACEFARM_") {
                command.env_remove(name);
            }
        }
        command.arg("--store").arg(store).args(["--log", "json"]).args(args).envs(env.iter().copied());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let logs = BufReader::new(child.stderr.take().unwrap());
        Self { child, logs }
    }

    /// Where it answers, as its log says.
    fn address(&mut self) -> SocketAddr {
        loop {
            let mut line = String::new();
            assert!(self.logs.read_line(&mut line).unwrap() > 0, "the worker ended and did not say where it answers");
            let record: serde_json::Value = serde_json::from_str(&line).unwrap();
            if let Some(address) = record["health"].as_str() {
                return address.parse().unwrap();
            }
        }
    }

    /// Ends it as a supervisor does; its exit code.
    fn terminate(&mut self) -> Option<i32> {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Prometheus' own reader of the format takes every line, and every name and unit is as its conventions have it.
#[test]
fn metrics_are_read_by_prometheus_own_parser() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = Worker::start(folder.path(), &["--health", "127.0.0.1:0"], &[]);
    let address = worker.address();
    let (status, health) = get(address, "/healthz");
    assert_eq!((status, health.as_str()), (200, "{\"status\":\"ok\"}\n"));
    // Until it has looked once.
    let metrics = loop {
        let (status, metrics) = get(address, "/metrics");
        assert_eq!(status, 200);
        if metrics.contains("\ntracefarm_backlog_objects 0") {
            break metrics;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(worker.terminate(), Some(0));

    let Some(python) = std::env::var_os("TRACEFARM_PYTHON") else {
        eprintln!("skipped: TRACEFARM_PYTHON names no Python with prometheus_client (scripts/test does)");
        return;
    };
    let file = folder.path().join("metrics");
    std::fs::write(&file, metrics).unwrap();
    let checked = Command::new(python).arg("-c").arg(PARSE).arg(&file).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(checked.status.success(), "{}{}", text(&checked.stdout), text(&checked.stderr));
    assert!(text(&checked.stdout).starts_with("read "), "{}", text(&checked.stdout));
}

const PARSE: &str = r#"
import re, sys
from prometheus_client.parser import text_string_to_metric_families

families = list(text_string_to_metric_families(open(sys.argv[1]).read()))
seen = set()
for family in families:
    where = f"{family.name} ({family.type})"
    assert family.type in ("counter", "gauge"), where
    assert family.documentation, f"{where}: no help"
    assert family.name not in seen, f"{where}: twice"
    seen.add(family.name)
    assert re.fullmatch(r"(tracefarm|process)_[a-z_]+", family.name), where
    assert not re.search(r"_(milliseconds|minutes|kilobytes|mb|ms|count|sum|bucket)$", family.name), f"{where}: no base unit"
    for sample in family.samples:
        # The parser takes `_total` off a counter's name.
        assert sample.name == family.name + ("_total" if family.type == "counter" else ""), f"{where}: {sample}"
        assert family.type == "gauge" or sample.value >= 0, f"{where}: {sample}"
    labels = [tuple(sorted(sample.labels.items())) for sample in family.samples]
    assert len(labels) == len(set(labels)), f"{where}: a sample twice"
stages = {s.labels["stage"] for f in families for s in f.samples if f.name == "tracefarm_stage_items"}
assert stages == {"index", "compact", "publish", "expire"}, stages
assert len(families) > 30, len(families)
print("read", len(families), "families")
"#;

/// The socket that systemd would have made, and what was said there.
struct Systemd {
    folder: tempfile::TempDir,
    socket: UnixDatagram,
    said: Vec<String>,
}

impl Systemd {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        std::fs::create_dir(folder.path().join("store")).unwrap();
        Self { folder, socket, said: Vec::new() }
    }

    /// Starts a service as `Type=notify` with `WatchdogSec=` has it.
    fn start(&self, args: &[&str]) -> Worker {
        let socket = self.folder.path().join("notify");
        let env = [("NOTIFY_SOCKET", socket.to_str().unwrap()), ("WATCHDOG_USEC", "600000")];
        Worker::of(&self.folder.path().join("store"), args, &env)
    }

    /// What has been said when something that begins with `until` has.
    fn hear(&mut self, until: &str) -> &[String] {
        while !self.said.iter().any(|line| line.starts_with(until)) {
            let mut message = [0; 4096];
            let heard = self.socket.recv(&mut message);
            let length = heard.unwrap_or_else(|error| panic!("{error} before {until}: {:?}", self.said));
            self.said.extend(String::from_utf8_lossy(&message[..length]).lines().map(str::to_owned));
        }
        &self.said
    }
}

#[test]
fn systemd_is_told_that_the_work_begins_goes_on_and_ends() {
    let services: [(&[&str], &str); 4] = [
        (&["run"], "STATUS=alone; "),
        (&["receive", "--http=127.0.0.1:0", "--grpc=none"], "STATUS=0 requests taken, 0 spans, in 0 objects"),
        (&["serve", "--listen=127.0.0.1:0"], "STATUS=serving "),
        (&["serve", "--listen=127.0.0.1:0", "--receive"], "STATUS=serving "),
    ];
    for (args, told) in services {
        let mut systemd = Systemd::new();
        let mut service = systemd.start(args);
        assert_eq!(systemd.hear("READY=1"), ["READY=1"], "nothing before: {args:?}");
        systemd.hear("WATCHDOG=1");
        let status = systemd.hear(told);
        assert!(status.iter().all(|line| !line.starts_with("STOPPING")), "{status:?}");
        assert_eq!(service.terminate(), Some(0), "{args:?}");
        systemd.hear("STOPPING=1");
    }
}

/// What cannot begin is not ready.
#[test]
fn systemd_is_not_told_that_a_receiver_without_a_store_is_ready() {
    let systemd = Systemd::new();
    std::fs::write(systemd.folder.path().join("store/file"), "").unwrap();
    let mut service = systemd.start(&["--store", "store/file", "receive", "--http=127.0.0.1:0", "--grpc=none"]);
    assert_ne!(service.child.wait().unwrap().code(), Some(0));
    systemd.socket.set_nonblocking(true).unwrap();
    assert!(systemd.socket.recv(&mut [0; 64]).is_err(), "nothing was said");
}

#[test]
fn a_taken_port_is_one_sentence_and_code_2() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    for (address, why) in [(address.as_str(), "something else listens there"), ("nonsense", "HOST:PORT")] {
        let mut worker = Worker::start(folder.path(), &["--once"], &[("TRACEFARM_HEALTH", address)]);
        let mut error = String::new();
        worker.logs.read_to_string(&mut error).unwrap();
        assert_eq!(worker.child.wait().unwrap().code(), Some(2), "{error}");
        assert!(error.contains(why) && error.starts_with("tracefarm: ") && error.lines().count() == 1, "{error}");
    }
    assert!(!folder.path().join("farm").exists(), "nothing was written");
}
