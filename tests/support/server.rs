//! `tracefarm serve` as a process, and how tests ask it.
#![allow(dead_code, reason = "each test that includes this file uses a part of it")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;

/// A server on a free port; it goes away with this.
pub struct Server {
    child: Child,
    /// What it logs: a file, as a pipe that nobody reads would stop it.
    log: File,
    pub address: SocketAddr,
}

/// `command`, ended when this process is over, however it ends: for statics, which nobody drops. (A death signal comes when
/// the thread is over that started the process: a test's.)
pub fn until_we_end(command: &Command) -> Command {
    let mut watched = Command::new("sh");
    // Our end of its input closes with us.
    watched.args(["-c", "\"$@\" & cat; kill $!", "sh"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => watched.env(name, value),
            None => watched.env_remove(name),
        };
    }
    watched
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Server {
    /// Starts `command`, which has everything but `serve` and its options.
    pub fn start(mut command: Command, options: &[&str]) -> Self {
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(options);
        let log = tempfile::tempfile().unwrap();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log.try_clone().unwrap());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().trim_end_matches('/').rsplit_once("http://").map(|(_, address)| address.parse());
        let Some(Ok(address)) = address else {
            panic!("the server does not say where it listens: {line:?}\n{}", read(log));
        };
        Self { child, log, address }
    }

    pub fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    /// Sends these very bytes, and reads until the server closes.
    pub fn raw(&self, request: &[u8]) -> Answer {
        raw(self.address, request)
    }

    /// One request with these headers.
    pub fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
        ask(self.address, method, target, headers)
    }

    pub fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, &[])
    }

    /// The JSON at `target`, which must be there.
    pub fn json(&self, target: &str) -> Value {
        let answer = self.get(target);
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        answer.json()
    }

    /// The most memory that the process had so far, in bytes.
    pub fn peak_memory_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(kibibytes.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    }

    /// Sends a signal as `kill` names it.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the process; what it logged.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        (status, self.log())
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        read(self.log.try_clone().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(mut log: File) -> String {
    let mut text = String::new();
    log.rewind().unwrap();
    log.read_to_string(&mut text).unwrap();
    text
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|why| panic!("{why}: {}", self.text()))
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// Sends these very bytes, and reads until the server closes.
pub fn raw(address: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = connect(address);
    // A server that refuses early may close before it has all.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    parsed(&answer)
}

/// One request with these headers.
pub fn ask(address: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
    let host = format!("localhost:{}", address.port());
    let mut request = format!("{method} {target} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request.push_str(&format!("host: {host}\r\n"));
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    raw(address, request.as_bytes())
}

pub fn get(address: SocketAddr, target: &str) -> Answer {
    ask(address, "GET", target, &[])
}

/// An answer of HTTP/1.1, whole or cut.
pub fn parsed(answer: &[u8]) -> Answer {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let Some(end) = end else { return Answer { status: 0, headers: Vec::new(), body: answer.to_vec() } };
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let is_chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = &answer[end + 4..];
    let body = if is_chunked { joined(body) } else { body.to_vec() };
    Answer { status, headers, body }
}

/// Chunks, joined.
fn joined(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
        let length =
            std::str::from_utf8(&rest[..line]).ok().and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
        let Some(length) = length.filter(|length| *length > 0) else { break };
        let chunk = &rest[line + 2..];
        body.extend_from_slice(&chunk[..length.min(chunk.len())]);
        rest = chunk.get(length + 2..).unwrap_or_default();
    }
    body
}

/// How many clients this process has file descriptors for, at most ten thousand.
pub fn clients() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let most = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |most| most as usize);
    most.saturating_sub(500).min(10_000)
}

/// The pages of a server that somebody else started.
pub struct Page(pub SocketAddr);

impl Page {
    pub fn get(&self, target: &str) -> Answer {
        let mut stream = TcpStream::connect(self.0).unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        parsed(&answer)
    }

    /// Whether a trace is among those of some handler, whole.
    pub fn shows(&self, trace: &str) -> bool {
        let list = self.get("/site/handlers.json");
        if list.status != 200 {
            return false;
        }
        let list = list.json();
        list["handlers"].as_array().unwrap().iter().any(|row| {
            let traces = self.get(&format!("/site/handlers/{}/traces.json.gz", row["id"].as_str().unwrap()));
            let mut text = String::new();
            let read = flate2::read::MultiGzDecoder::new(&traces.body[..]).read_to_string(&mut text);
            read.is_ok() && text.contains(trace)
        })
    }
}
