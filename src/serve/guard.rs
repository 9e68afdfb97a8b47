//! Who may ask, and what an answer may cost: what stands before every route.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body::{Frame, SizeHint};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use super::failure::{Failure, Why};
use crate::clock::Clock;
use crate::error::{Mistake, told};

/// The longest path and query that is looked at. Ours have at most some hundred bytes; Jaeger's queries carry tags.
const LONGEST_TARGET: usize = 8 << 10;

/// What is looked at before a request is answered.
#[derive(Clone)]
pub struct Guard {
    /// Under which names the server may be asked; any if none.
    pub hosts: Option<Arc<[String]>>,
    /// What a client must know.
    pub token: Option<Token>,
    /// How many requests are answered at a time.
    pub at_once: Arc<Semaphore>,
    /// How long a request may take to be answered.
    pub time: Duration,
    /// How long a client may take to read an answer.
    pub body_time: Duration,
    /// Tells how long it took.
    pub clock: Clock,
}

/// The names that a server bound to `address` may be asked under: with `named`, these and those of this machine; without,
/// on a loopback address only the latter, else any.
///
/// A page of anybody's can give its own name this machine's address (DNS rebinding), and then reads what is meant for
/// people on this machine alone. Its requests carry its own name.
pub fn hosts(address: SocketAddr, named: &[String]) -> Option<Arc<[String]>> {
    if named.is_empty() && !address.ip().is_loopback() {
        return None;
    }
    let own = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
    let bound = match address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    Some(own.into_iter().chain([bound]).chain(named.iter().map(|name| name.to_ascii_lowercase())).collect())
}

/// A secret. Only its hash is kept, and hashes are compared: how long that takes says nothing about the secret.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// The secret as it stands in a file or variable: without white space around it.
    ///
    /// # Errors
    /// If it is so short that it can be guessed.
    pub fn new(secret: &str) -> Result<Self, Mistake> {
        let secret = secret.trim();
        if secret.len() < 16 {
            return Err(Mistake("a token has at least 16 characters: `openssl rand -hex 32` makes one".to_owned()));
        }
        Ok(Self(Sha256::digest(secret.as_bytes()).into()))
    }

    fn is(&self, said: &[u8]) -> bool {
        let said: [u8; 32] = Sha256::digest(said).into();
        said.iter().zip(self.0).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }

    /// Whether a request knows it: as a bearer's token, or as the password of anybody. The second is what browsers can
    /// be asked for, so that pages need no form, no cookie and no session.
    pub fn is_known(&self, headers: &HeaderMap) -> bool {
        let Some(said) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else { return false };
        let Some((scheme, said)) = said.split_once(' ') else { return false };
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.is(said.trim().as_bytes());
        }
        if scheme.eq_ignore_ascii_case("basic")
            && let Ok(said) = STANDARD.decode(said.trim())
            && let Some(colon) = said.iter().position(|byte| *byte == b':')
        {
            return self.is(&said[colon + 1..]);
        }
        false
    }
}

/// Lets through what may be asked.
pub async fn admit(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match refuse(&guard, &request) {
        Some(answer) => answer,
        None => next.run(request).await,
    }
}

fn refuse(guard: &Guard, request: &Request) -> Option<Response> {
    let uri = request.uri();
    // `GET http://elsewhere/…` is said to proxies, and this is none.
    if uri.authority().is_some() || !uri.path().starts_with('/') {
        return Some(Failure::mistake("a path is asked for, not an address").into_response());
    }
    if uri.path_and_query().is_some_and(|target| target.as_str().len() > LONGEST_TARGET) {
        return Some(Failure::new(StatusCode::URI_TOO_LONG, "the address is too long").into_response());
    }
    if let Some(hosts) = &guard.hosts
        && !host(request.headers()).is_some_and(|host| hosts.contains(&host))
    {
        let message = "the server is not known by this name: --host NAME makes it so";
        return Some(Failure::new(StatusCode::MISDIRECTED_REQUEST, message).into_response());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        let mut answer = Failure::new(StatusCode::METHOD_NOT_ALLOWED, "the store is only read here").into_response();
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Some(answer);
    }
    // Whether the server lives is no secret.
    if let Some(token) = &guard.token
        && uri.path() != "/healthz"
        && !token.is_known(request.headers())
    {
        let mut answer = Failure::new(StatusCode::UNAUTHORIZED, "the token is missing or wrong").into_response();
        let challenge =
            HeaderValue::from_static("Basic realm=\"tracefarm: the token is the password\", charset=\"UTF-8\"");
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        return Some(answer);
    }
    None
}

/// The name under which the server is asked, without its port, if there is exactly one.
pub fn host(headers: &HeaderMap) -> Option<String> {
    let mut all = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (all.next(), all.next()) else { return None };
    let host = host.to_str().ok()?.to_ascii_lowercase();
    let name = match host.rsplit_once(':') {
        // `[::1]` has colons of its own.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() => name,
        _ => &host,
    };
    Some(name.to_owned())
}

/// Bounds what a request takes, and logs it if it fails: one record each, and none of what a client did wrong.
pub async fn bound(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let Ok(place) = Arc::clone(&guard.at_once).try_acquire_owned() else {
        return Failure::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once: try again").into_response();
    };
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let began = guard.clock.monotonic();
    // The work of a request that is late is dropped with it.
    let answer = match tokio::time::timeout(guard.time, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => {
            let message = format!("the answer took longer than {} s: ask for less", guard.time.as_secs());
            Failure::new(StatusCode::GATEWAY_TIMEOUT, message).into_response()
        }
    };
    if answer.status().is_server_error() {
        let status = answer.status().as_u16();
        let duration_ms = u64::try_from((guard.clock.monotonic() - began).as_millis()).unwrap_or(u64::MAX);
        let path: String = path.chars().take(200).collect();
        match answer.extensions().get::<Why>() {
            Some(Why(report)) => {
                tracing::error!(failure = told(report), %method, path, status, duration_ms, "a request failed");
            }
            None => tracing::error!(%method, path, status, duration_ms, "a request was given up"),
        }
    }
    let until = Box::pin(deadline(guard.body_time));
    answer.map(|body| Body::new(Held { body, until, _place: place }))
}

#[expect(clippy::disallowed_methods, reason = "a client's time, which no simulation needs to hold")]
fn deadline(time: Duration) -> Sleep {
    tokio::time::sleep(time)
}

/// The body of an answer: counts as a request until it is read, for which there is a time.
struct Held {
    body: Body,
    until: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(axum::Error::new("the client reads too slowly"))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What browsers are told of every answer. The policy is the pages' own: nothing from anywhere else, no inline script,
/// nothing framed.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
         connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Adds [`HEADERS`].
pub async fn harden(request: Request, next: Next) -> Response {
    let mut answer = next.run(request).await;
    for (name, value) in HEADERS {
        answer.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_told_without_its_port() {
        let told = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            values.iter().for_each(|value| _ = headers.append(header::HOST, value.parse().unwrap()));
            host(&headers)
        };
        for (said, name) in [
            ("localhost:8080", "localhost"),
            ("LOCALHOST", "localhost"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("[::1]:8080", "[::1]"),
            ("[::1]", "[::1]"),
            ("evil.example:80", "evil.example"),
        ] {
            assert_eq!(told(&[said]).unwrap(), name);
        }
        assert_eq!(told(&[]), None);
        assert_eq!(told(&["localhost", "evil.example"]), None);
    }

    #[test]
    fn on_a_loopback_address_only_this_machines_names_count() {
        let at = |address: &str, named: &[&str]| {
            let named: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
            hosts(address.parse().unwrap(), &named)
        };
        let local = at("127.0.0.1:8080", &[]).unwrap();
        assert!(local.contains(&"localhost".to_owned()) && !local.contains(&"evil.example".to_owned()));
        assert!(at("0.0.0.0:8080", &[]).is_none());
        assert!(at("0.0.0.0:8080", &["Traces.Example"]).unwrap().contains(&"traces.example".to_owned()));
        assert!(at("[::1]:8080", &["traces.example"]).unwrap().contains(&"traces.example".to_owned()));
    }

    #[test]
    fn a_token_is_known_as_a_bearers_or_as_a_password() {
        let token = Token::new(" 0123456789abcdef\n").unwrap();
        let knows = |said: &str| {
            token.is_known(&[(header::AUTHORIZATION, HeaderValue::from_str(said).unwrap())].into_iter().collect())
        };
        assert!(knows("Bearer 0123456789abcdef"));
        assert!(knows(&format!("Basic {}", STANDARD.encode("anybody:0123456789abcdef"))));
        assert!(knows(&format!("basic {}", STANDARD.encode(":0123456789abcdef"))));
        for wrong in ["Bearer 0123456789abcde", "Bearer", "0123456789abcdef", "Basic 0123456789abcdef", "Basic !"] {
            assert!(!knows(wrong), "{wrong}");
        }
        assert!(!knows(&format!("Basic {}", STANDARD.encode("0123456789abcdef"))));
        assert!(Token::new("short").is_err());
    }
}
