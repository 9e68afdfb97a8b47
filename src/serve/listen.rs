//! Listening: connections taken in, bounded in number and in what each may hold, and let go gently.
//!
//! Knows HTTP/1.1, or HTTP/2 for gRPC, and nothing of what is served. A connection costs a task and at most
//! [`Limits::header_bytes`] of buffers; one that is slow to say what it wants ([`Limits::header_time`], also between two
//! requests), or to take its answer ([`Limits::write_time`]), is closed. What a request may cost is [`super::guard`]'s
//! affair.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::map_request;
use futures::StreamExt;
use futures::future::Either;
use futures::stream::FuturesUnordered;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::error::{Mistake, Result, ResultExt};
use crate::task;

/// How long the listener rests after a connection could not be taken in (no file descriptor, no memory).
const REST: Duration = Duration::from_millis(100);

/// How long connections that have just been made may take to ask, once the server is to stop. Their clients were told that
/// they are connected, and would see a reset where a moment later they would have been refused and gone elsewhere.
const LAST_ASKED: Duration = Duration::from_millis(100);

/// How many connections wait in the system's queue, as far as the system allows. One that finds it full is tried again by
/// its client's system after a second, and then ever later.
const QUEUE: u32 = 4096;

/// How many requests an HTTP/2 connection has in hand at a time; the client keeps others back.
const STREAMS: u32 = 256;

/// What the client of an HTTP/2 connection may send before it is read, of all its requests together: with the most
/// connections 128 MB. (HTTP/1.1 reads as it goes.) It is what HTTP/2 begins with, RFC 9113, section 6.9.2; a sender whose
/// answers take 20 ms gets 3 MB/s through it, and may open more connections.
const WINDOW: u32 = (1 << 16) - 1;

/// What connections may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many at a time; the next wait in the system's queue.
    pub connections: usize,
    /// A request's line and headers together.
    pub header_bytes: usize,
    /// A request's headers.
    pub headers: usize,
    /// How long a request's head may take, from the end of the request before.
    pub header_time: Duration,
    /// How long a client may take no byte of an answer.
    pub write_time: Duration,
    /// How long requests in hand may last once the server is to stop.
    pub stop_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 2_000,
            header_bytes: 32 << 10,
            headers: 100,
            header_time: Duration::from_secs(20),
            write_time: Duration::from_secs(30),
            stop_time: Duration::from_secs(20),
        }
    }
}

/// Listens at `address`. Port 0 is a free one; [`TcpListener::local_addr`] says which.
///
/// # Errors
/// A [`Mistake`] if it is taken or not this machine's.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A server that was just stopped may be started again.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(QUEUE)
    };
    Ok(listen().map_err(|error: io::Error| Mistake(format!("cannot listen at {address}: {error}")))?)
}

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.1
    Http1,
    /// HTTP/2 without TLS, from the first byte: what clients of gRPC speak.
    Http2,
}

/// Serves `router` until `stop`: then those that wait in the system's queue are the last to be taken in, idle connections
/// are closed after a moment, and requests in hand have [`Limits::stop_time`] to end.
///
/// # Errors
/// If the limits of the process cannot be told.
pub async fn serve(
    listener: TcpListener,
    speaks: Speaks,
    router: Router,
    limits: Limits,
    clock: &Clock,
    stop: &CancellationToken,
) -> Result<()> {
    let connections = Arc::new(Semaphore::new(limits.connections.min(descriptors())));
    let graceful = GracefulShutdown::new();
    let mut open = FuturesUnordered::new();
    let take_in = |stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit| {
        let connection = match speaks {
            Speaks::Http1 => Either::Left(graceful.watch(connection(stream, router.clone(), &limits))),
            Speaks::Http2 => Either::Right(connection2(stream, router.clone(), &limits, &graceful, clock)),
        };
        let connection = task::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%peer, "a connection ended: {error}");
            }
            drop(place);
            Ok(())
        });
        connection.join()
    };
    let mut failing = false;
    loop {
        let taken = async {
            let place = Arc::clone(&connections).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, taken) = tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = open.next() => {
                // What goes wrong with a connection is its client's affair; a panic goes on here.
                let _: Result<()> = ended;
                continue;
            }
            taken = taken => taken,
        };
        let place = place.context("take a connection in")?;
        match taken {
            Ok((stream, peer)) => {
                failing = false;
                open.push(take_in(stream, peer, place));
            }
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                // Said once, however often it is tried.
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!("connections cannot be taken in: {error}");
                }
                clock.sleep(REST).await;
            }
        }
    }
    // Asked of the system itself: the runtime may not have heard yet of those that wait.
    let listener = listener.into_std().context("stop to listen")?;
    while let Ok(place) = Arc::clone(&connections).try_acquire_owned()
        && let Ok((stream, peer)) = listener.accept()
    {
        if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
            open.push(take_in(stream, peer, place));
        }
    }
    drop(listener);
    let asked = clock.sleep(LAST_ASKED);
    let rest = open.len();
    let ended = async {
        asked.await;
        graceful.shutdown().await;
        while open.next().await.is_some() {}
    };
    if tokio::time::timeout(limits.stop_time, ended).await.is_err() {
        tracing::warn!(connections = rest, "requests in hand did not end in time, and are cut off");
    }
    Ok(())
}

type Connection = http1::Connection<TokioIo<std::pin::Pin<Box<TimeoutStream<TcpStream>>>>, TowerToHyperService<Router>>;

fn connection(stream: TcpStream, router: Router, limits: &Limits) -> Connection {
    // Small answers go at once. A socket that is gone already says so when it is read.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write_time));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_headers(limits.headers)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes.max(16 << 10))
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(router))
}

/// An HTTP/2 connection until its end. It is asked now and then whether it lives, and closed if it says nothing.
fn connection2(
    stream: TcpStream,
    router: Router,
    limits: &Limits,
    graceful: &GracefulShutdown,
    clock: &Clock,
) -> impl Future<Output = hyper::Result<()>> + use<> {
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write_time));
    // Longer than it takes to be asked, and to answer.
    stream.set_read_timeout(Some(limits.header_time * 3));
    let asked = CancellationToken::new();
    let router = {
        let asked = asked.clone();
        router.layer(map_request(move |request: Request| {
            asked.cancel();
            std::future::ready(request)
        }))
    };
    // Hyper spawns a task a stream, which ends with its connection.
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .keep_alive_interval(limits.header_time)
        .keep_alive_timeout(limits.header_time)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(router));
    let connection = graceful.watch(connection);
    let (clock, time) = (clock.clone(), limits.header_time);
    async move {
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = &mut connection => return ended,
            () = asked.cancelled() => {}
            // Whoever has not asked for anything by now is not waited for.
            () = clock.sleep(time) => return Ok(()),
        }
        connection.await
    }
}

/// Errors of one connection: the next may be well.
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// How many connections the process has file descriptors for: half of them, as many as the system allows. The others
/// are the store's.
fn descriptors() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some() && current != maximum {
        // Not allowed somewhere: then with what there is.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
    let most =
        getrlimit(Resource::Nofile).current.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    (most / 2).clamp(1, Semaphore::MAX_PERMITS)
}
