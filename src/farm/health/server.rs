//! `/healthz` and `/metrics` over HTTP/1.1, and nothing else.
//!
//! Whoever can reach the port can ask; so it answers few at a time, reads little, and waits for nobody for long.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use super::{Health, metrics};
use crate::clock::Clock;
use crate::error::{Mistake, Result};
use crate::farm::Record;

/// So many connections are open at a time; others wait until one of them ends.
const CONNECTIONS: usize = 16;
/// A connection ends after this time, whatever came of it.
const CONNECTION_LASTS: Duration = Duration::from_secs(10);
/// The head of a request must be there within this time.
const HEAD_WITHIN: Duration = Duration::from_secs(3);
/// The longest head of a request; the least that the server can be told.
const HEAD_BYTES: usize = 8 << 10;

/// Listens at `address` (`HOST:PORT`).
///
/// # Errors
/// A [`Mistake`] if that cannot be had.
pub async fn listen(address: &str) -> Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    let bound = bound.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = bound.map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::AddrInUse => "something else listens there; stop it, or name another port".to_owned(),
            std::io::ErrorKind::InvalidInput => "it must be HOST:PORT, eg 0.0.0.0:8079".to_owned(),
            _ => error.to_string(),
        };
        Mistake(format!("cannot answer health checks at {address} (--health): {why}"))
    })?;
    tracing::info!(health = %address, "answers health checks and Prometheus at http://{address}");
    Ok(listener)
}

/// What can be asked about a process.
pub trait Vital: Sync {
    /// How it is.
    fn health(&self) -> Health;

    /// Its numbers, as Prometheus reads them.
    ///
    /// # Errors
    /// None that is known.
    fn metrics(&self) -> Result<String, std::fmt::Error>;
}

/// The worker of this process.
struct OfWorker {
    record: Record,
    metrics: metrics::Metrics,
    clock: Clock,
}

impl Vital for OfWorker {
    fn health(&self) -> Health {
        Health::of(&self.record.watch(), self.clock.monotonic())
    }

    fn metrics(&self) -> Result<String, std::fmt::Error> {
        self.metrics.text()
    }
}

/// Answers for a worker until it is dropped.
pub async fn serve(listener: TcpListener, record: Record, clock: Clock) -> Result<()> {
    let metrics = metrics::Metrics::new(record.clone(), clock.clone());
    serve_of(listener, OfWorker { record, metrics, clock: clock.clone() }, clock).await
}

/// Answers for `vital` until it is dropped.
pub async fn serve_of(listener: TcpListener, vital: impl Vital, clock: Clock) -> Result<()> {
    let mut open = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if open.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => open.push(converse(stream, &vital, &clock)),
                // No more files may be open, or the client went away: the next one may have more luck.
                Err(error) => {
                    tracing::debug!("a health check was not accepted: {error}");
                    clock.sleep(Duration::from_secs(1)).await;
                }
            },
            Some(()) = open.next(), if !open.is_empty() => {}
        }
    }
}

/// One connection: one request, one answer.
async fn converse(stream: TcpStream, vital: &impl Vital, clock: &Clock) {
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let answer = answer(request.method(), request.uri().path(), vital);
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // A client that sends nonsense, or goes away, is no trouble of ours.
        _ = connection => {}
        () = clock.sleep(CONNECTION_LASTS) => {}
    }
}

fn answer(method: &Method, path: &str, vital: &impl Vital) -> Response<Full<Bytes>> {
    let (status, kind, body) = match path {
        "/healthz" | "/metrics" if !matches!(*method, Method::GET | Method::HEAD) => {
            (StatusCode::METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", "GET or HEAD\n".to_owned())
        }
        "/healthz" => {
            let health = vital.health();
            let status = if health.is_content() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            (status, "application/json", serde_json::to_string(&health).unwrap_or_default() + "\n")
        }
        "/metrics" => match vital.metrics() {
            Ok(text) => (StatusCode::OK, metrics::CONTENT_TYPE, text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", format!("{error}\n")),
        },
        _ => (StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "/healthz or /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

#[cfg(test)]
mod tests;
