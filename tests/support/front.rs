//! A server that stands before S3 and fails as S3 does: answers in its own shapes, or none, or the beginning of one.
//! What no rule is for goes on to the real server behind it, if there is one.
#![allow(clippy::disallowed_methods, reason = "a server beside the program has a time of its own")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse;
use axum::serve::Listener;
use futures::StreamExt;
use tokio::net::{TcpListener, TcpStream};

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// With the bucket.
    pub path: String,
    pub query: String,
    /// The key id of the signature.
    pub key: String,
}

impl Asked {
    pub fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.path.contains(part)
    }

    pub fn is_list(&self, prefix: &str) -> bool {
        self.query.contains("list-type=2") && self.query.contains(&format!("%2F{}", prefix.replace('/', "%2F")))
    }

    /// It writes, or deletes.
    pub fn changes(&self) -> bool {
        self.method != "GET" && self.method != "HEAD"
    }
}

/// How it is failed.
pub enum Reply {
    /// An answer as S3's: a status, a code and a sentence, and headers.
    Error(u16, &'static str, &'static str, Vec<(&'static str, String)>),
    /// A document, of a credentials endpoint.
    Document(String),
    /// No answer.
    Hang,
    /// The beginning of the real answer; then the connection is cut.
    Cut(usize),
    /// The real answer, a byte at a time.
    Trickle(Duration),
}

/// [`Reply::Error`] without headers.
pub fn error(status: u16, code: &'static str, message: &'static str) -> Option<Reply> {
    Some(Reply::Error(status, code, message, Vec::new()))
}

type Rule = dyn Fn(&Asked) -> Option<Reply> + Send + Sync;

/// The server; goes away with its runtime.
pub struct Front {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Front {
    /// Begins to listen. `behind`: the real server's URL.
    pub fn new(behind: Option<String>, rule: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static) -> Self {
        Self::begin(behind, rule, |listener| (format!("http://{}", listener.local_addr().unwrap()), listener))
    }

    /// The same over TLS, with nothing behind, and the certificate (PEM) that says that it is this one.
    pub fn over_tls(rule: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static) -> (Self, String) {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = tokio_rustls::rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der());
        let config = tokio_rustls::rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key.unwrap());
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config.unwrap()));
        let front = Self::begin(None, rule, |listener| {
            (format!("https://localhost:{}", listener.local_addr().unwrap().port()), Tls { listener, acceptor })
        });
        (front, certified.cert.pem())
    }

    fn begin<L: Listener<Addr = SocketAddr>>(
        behind: Option<String>,
        rule: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static,
        listens: impl FnOnce(TcpListener) -> (String, L),
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let state = Arc::new(State {
            behind,
            rule: Box::new(rule),
            asked: asked.clone(),
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
        });
        let app = Router::new().fallback(move |request: Request| {
            let state = state.clone();
            async move { state.answer(request).await }
        });
        let (url, listener) = listens(runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap());
        runtime.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, asked, _runtime: runtime }
    }

    /// All that was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// Takes connections in that speak TLS.
struct Tls {
    listener: TcpListener,
    acceptor: tokio_rustls::TlsAcceptor,
}

impl Listener for Tls {
    type Io = tokio_rustls::server::TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, peer) = Listener::accept(&mut self.listener).await;
            // Who does not like the certificate hangs up.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct State {
    behind: Option<String>,
    rule: Box<Rule>,
    asked: Arc<Mutex<Vec<Asked>>>,
    client: reqwest::Client,
}

impl State {
    async fn answer(&self, request: Request) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
        let authorization =
            parts.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let key = authorization.split_once("Credential=").and_then(|(_, rest)| rest.split('/').next());
        let asked = Asked {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            key: key.unwrap_or_default().to_owned(),
        };
        self.asked.lock().unwrap().push(asked.clone());
        let reply = (self.rule)(&asked);
        match reply {
            Some(Reply::Error(status, code, message, headers)) => refusal(status, code, message, &headers, &asked),
            Some(Reply::Document(body)) => body.into_response(),
            Some(Reply::Hang) => std::future::pending().await,
            Some(Reply::Cut(bytes)) => {
                let (head, body) = self.forward(&parts.method, &parts.uri, &parts.headers, body).await.into_parts();
                let whole = axum::body::to_bytes(body, usize::MAX).await.unwrap();
                let part = whole.slice(..bytes.min(whole.len()));
                let broken = Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
                let chunks = futures::stream::iter([Ok(part)]).chain(futures::stream::once(async {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    broken
                }));
                Response::from_parts(head, Body::from_stream(chunks))
            }
            Some(Reply::Trickle(gap)) => {
                let (head, body) = self.forward(&parts.method, &parts.uri, &parts.headers, body).await.into_parts();
                let whole = axum::body::to_bytes(body, usize::MAX).await.unwrap();
                let bytes = (0..whole.len()).map(move |at| whole.slice(at..=at));
                let chunks = futures::stream::iter(bytes).then(move |byte| async move {
                    tokio::time::sleep(gap).await;
                    Ok::<Bytes, std::io::Error>(byte)
                });
                Response::from_parts(head, Body::from_stream(chunks))
            }
            None => self.forward(&parts.method, &parts.uri, &parts.headers, body).await,
        }
    }

    /// The answer of the real server to the very same request: its signature says which host it is for.
    async fn forward(
        &self,
        method: &axum::http::Method,
        uri: &axum::http::Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Response<Body> {
        let Some(behind) = &self.behind else { return StatusCode::NOT_IMPLEMENTED.into_response() };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let request =
            self.client.request(method.clone(), format!("{behind}{path}")).headers(headers.clone()).body(body);
        let answer = request.send().await.unwrap();
        let mut response = Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            response = response.header(name, value);
        }
        response.body(Body::from(answer.bytes().await.unwrap())).unwrap()
    }
}

/// As S3 says no. Source: "Error responses" of the Amazon S3 API reference.
fn refusal(
    status: u16,
    code: &str,
    message: &str,
    headers: &[(&'static str, String)],
    asked: &Asked,
) -> Response<Body> {
    let mut response = Response::builder()
        .status(status)
        .header("content-type", "application/xml")
        .header("x-amz-request-id", "4442587FB7D0A2F9");
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    let region = headers.iter().find(|(name, _)| *name == "x-amz-bucket-region");
    let region = region.map(|(_, region)| format!("<Region>{region}</Region>")).unwrap_or_default();
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>{region}\
         <Resource>{}</Resource><RequestId>4442587FB7D0A2F9</RequestId></Error>",
        asked.path
    );
    // A HEAD is answered without a body, whatever happened.
    response.body(if asked.method == "HEAD" { Body::empty() } else { Body::from(body) }).unwrap()
}
