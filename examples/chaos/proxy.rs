//! A bad network before a good store: an HTTP proxy that cuts, delays and fails requests.
//!
//! Bytes pass as they are, so that signatures (which cover the Host header) stay right. One request at a time of a
//! connection is read whole, its fate drawn, and passed on over a connection of its own; the answer comes back whole,
//! too, so that it can be cut anywhere.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tracefarm::clock::Clock;
use tracefarm::error::{Result, ResultExt, report};
use tracefarm::task::{self, Task};

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// Nothing.
    Passed,
    /// The connection is cut before the server hears of it.
    CutBefore,
    /// … when half of the request has been sent to the server.
    CutWithin,
    /// … when the server has done what was asked, and before the answer: nobody knows.
    CutAfter,
    /// … in the middle of the answer.
    CutAnswer,
    /// 503 SlowDown, and nothing was done.
    SlowDown,
    /// 500, and nothing was done.
    Failed,
    /// 500, and it was done.
    FailedAfter,
    /// It takes some time.
    Delayed,
    /// The answer dribbles.
    Slow,
}

/// Of a thousand requests so many meet each fate.
const OF_A_THOUSAND: [(Fate, u32); 9] = [
    (Fate::CutBefore, 10),
    (Fate::CutWithin, 5),
    (Fate::CutAfter, 10),
    (Fate::CutAnswer, 5),
    (Fate::SlowDown, 10),
    (Fate::Failed, 5),
    (Fate::FailedAfter, 5),
    (Fate::Delayed, 60),
    (Fate::Slow, 10),
];

/// How many requests met which fate.
pub type Counts = BTreeMap<Fate, u64>;

/// A running proxy.
pub struct Proxy {
    /// Where it listens.
    pub address: String,
    counts: Arc<Mutex<Counts>>,
    _listening: Task<()>,
}

struct Wire {
    server: String,
    clock: Clock,
    chance: Mutex<StdRng>,
    counts: Arc<Mutex<Counts>>,
}

impl Proxy {
    /// A proxy before the server at `server` (host and port).
    pub async fn start(server: String, seed: u64, clock: Clock) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
        let address = listener.local_addr().context("ask for the port")?.to_string();
        let counts = Arc::<Mutex<Counts>>::default();
        let chance = Mutex::new(StdRng::seed_from_u64(seed));
        let wire = Wire { server, clock, chance, counts: counts.clone() };
        let listening = task::spawn(async move {
            let mut connections = FuturesUnordered::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (client, _) = accepted.context("accept a connection")?;
                        connections.push(wire.serve(client));
                    }
                    // Whoever hangs up has his reasons, this proxy among them.
                    Some(_) = connections.next() => {}
                }
            }
        });
        Ok(Self { address, counts, _listening: listening })
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Wire {
    /// Serves one connection until either side ends it.
    async fn serve(&self, mut client: TcpStream) -> Result<()> {
        let mut read = Vec::new();
        while let Some(request) = request(&mut client, &mut read).await? {
            let fate = self.draw();
            *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(fate).or_default() += 1;
            match fate {
                Fate::CutBefore => return Ok(()),
                Fate::CutWithin => {
                    let mut server = TcpStream::connect(&self.server).await?;
                    server.write_all(&request[..request.len() / 2]).await?;
                    return Ok(());
                }
                Fate::CutAfter => {
                    self.ask(&request).await?;
                    return Ok(());
                }
                Fate::CutAnswer => {
                    let answer = self.ask(&request).await?;
                    client.write_all(&answer[..answer.len() / 2]).await?;
                    return Ok(());
                }
                Fate::SlowDown => client.write_all(&refusal(503, "SlowDown")).await?,
                Fate::Failed => client.write_all(&refusal(500, "InternalError")).await?,
                Fate::FailedAfter => {
                    self.ask(&request).await?;
                    client.write_all(&refusal(500, "InternalError")).await?;
                }
                Fate::Delayed => {
                    self.clock.sleep(Duration::from_millis(self.between(20, 1_500))).await;
                    client.write_all(&self.ask(&request).await?).await?;
                }
                Fate::Slow => {
                    let answer = self.ask(&request).await?;
                    let pause = Duration::from_millis(self.between(5, 200));
                    for part in answer.chunks(answer.len() / 10 + 1) {
                        self.clock.sleep(pause).await;
                        client.write_all(part).await?;
                    }
                }
                Fate::Passed => client.write_all(&self.ask(&request).await?).await?,
            }
        }
        Ok(())
    }

    fn between(&self, from: u64, to: u64) -> u64 {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner).random_range(from..to)
    }

    fn draw(&self) -> Fate {
        let mut drawn = self.between(0, 1_000) as u32;
        for (fate, share) in OF_A_THOUSAND {
            match drawn.checked_sub(share) {
                None => return fate,
                Some(rest) => drawn = rest,
            }
        }
        Fate::Passed
    }

    /// The server's answer, whole, as a connection that stays open would bring it.
    async fn ask(&self, request: &[u8]) -> Result<Vec<u8>> {
        let mut server = TcpStream::connect(&self.server).await?;
        let head = head_end(request).ok_or_else(|| report!("a request without a head"))?;
        // So the answer ends where the server hangs up.
        server.write_all(&request[..head - 2]).await?;
        server.write_all(b"Connection: close\r\n\r\n").await?;
        server.write_all(&request[head..]).await?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer).await?;
        let head = head_end(&answer).ok_or_else(|| report!("the server hung up"))?;
        let mut kept = Vec::with_capacity(answer.len());
        for line in answer[..head - 2].split_inclusive(|byte| *byte == b'\n') {
            if !line.to_ascii_lowercase().starts_with(b"connection:") {
                kept.extend(line);
            }
        }
        kept.extend(&answer[head - 2..]);
        Ok(kept)
    }
}

/// The next request of a connection, head and body; what was read beyond it stays in `read`.
async fn request(client: &mut TcpStream, read: &mut Vec<u8>) -> Result<Option<Vec<u8>>> {
    loop {
        if let Some(head) = head_end(read) {
            let length = head + content_length(&read[..head])?;
            if read.len() >= length {
                let rest = read.split_off(length);
                return Ok(Some(std::mem::replace(read, rest)));
            }
        }
        if client.read_buf(read).await? == 0 {
            return Ok(None);
        }
    }
}

/// Where the body begins.
fn head_end(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

fn content_length(head: &[u8]) -> Result<usize> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    if head.contains("\r\ntransfer-encoding:") {
        return Err(report!("a request in chunks: this proxy knows none"));
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    Ok(length.map_or(Ok(0), |length| length.trim().parse()).context("read the length of a request")?)
}

fn refusal(status: u16, code: &str) -> Vec<u8> {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>chaos</Message></Error>");
    format!("HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_of_one_connection_are_split_where_they_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let put = b"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n\r\n\r\n".to_vec();
        let get = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n".to_vec();
        client.write_all(&[put.clone(), get.clone(), get[..9].to_vec()].concat()).await.unwrap();
        drop(client);
        let mut read = Vec::new();
        assert_eq!(request(&mut server, &mut read).await.unwrap(), Some(put));
        assert_eq!(request(&mut server, &mut read).await.unwrap(), Some(get));
        assert_eq!(request(&mut server, &mut read).await.unwrap(), None, "half a request is none");
        assert!(content_length(b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }

    #[tokio::test]
    async fn an_answer_passes_but_for_the_end_of_the_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap().to_string();
        let (chance, counts) = (Mutex::new(StdRng::seed_from_u64(1)), Arc::default());
        let wire = Wire { server, clock: Clock::system(jiff::SignedDuration::ZERO), chance, counts };
        let answering = async {
            let (mut server, _) = listener.accept().await.unwrap();
            let asked = request(&mut server, &mut Vec::new()).await.unwrap().unwrap();
            server.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nETag: e\r\n\r\nbody").await.unwrap();
            String::from_utf8(asked).unwrap()
        };
        let (answer, asked) = tokio::join!(wire.ask(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"), answering);
        assert_eq!(answer.unwrap(), b"HTTP/1.1 200 OK\r\nETag: e\r\n\r\nbody");
        assert!(asked.starts_with("GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"), "{asked}");
    }

    #[test]
    fn the_shares_of_the_fates_are_a_part_of_a_thousand() {
        assert!(OF_A_THOUSAND.iter().map(|(_, share)| share).sum::<u32>() < 1_000);
    }
}
