//! What stands between the clouds' clients and the network: below their retries, so every attempt passes here.
//!
//! It counts requests and bytes, learns the store's time from the `Date` of its answers, and limits how long a request
//! may take.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

use super::{Meter, Request, Stage, Written};
use crate::clock::Clock;

tokio::task_local! {
    /// In whose name the client is at work.
    static CALL: Call;
}

/// In whose name the client is at work, and what it cannot be told otherwise.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) stage: Stage,
    /// Delete only this content.
    pub(super) if_match: Option<String>,
}

impl Call {
    /// The content that alone may be deleted by the call that is being made.
    pub(super) fn condition() -> Option<String> {
        CALL.try_with(|call| call.if_match.clone()).ok().flatten()
    }

    pub(super) async fn scope<T>(self, call: impl Future<Output = T>) -> T {
        CALL.scope(self, call).await
    }
}

/// How long requests may take, and how often they are tried.
#[derive(Clone, Debug)]
pub struct Patience {
    /// For the answer to a small request to begin, and for each next piece of it to come.
    pub answer: Duration,
    /// For an upload, beside its size at 1 MB/s.
    pub upload: Duration,
    /// The first wait between two attempts; the next are longer, with jitter.
    pub first_wait: Duration,
    /// The longest such wait.
    pub longest_wait: Duration,
    /// How often a request is repeated. Only what can pass is: time-outs, broken connections, 408, 429, 5xx.
    pub retries: usize,
}

impl Default for Patience {
    /// Four attempts with about 3, 5 and 15 s between them.
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            upload: Duration::from_secs(30),
            first_wait: Duration::from_secs(3),
            longest_wait: Duration::from_secs(15),
            retries: 3,
        }
    }
}

/// An upload is given a second more for so many bytes.
const UPLOAD_BYTES_PER_SEC: u64 = 1_000_000;

/// The longest that a store may ask us to wait (`Retry-After`): beyond, a later cycle tries again.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);

/// What the answers of a store told.
#[derive(Debug)]
pub(super) struct Answers {
    clock: Clock,
    meter: Meter,
    patience: Patience,
    /// The newest `Date`, and when it arrived by [`Clock::monotonic`].
    date: Mutex<Option<(Timestamp, Duration)>>,
    foreign: Mutex<Vec<String>>,
}

impl Answers {
    pub(super) fn new(clock: Clock, patience: Patience) -> Arc<Self> {
        let (meter, date, foreign) = (Meter::default(), Mutex::default(), Mutex::default());
        Arc::new(Self { clock, meter, patience, date, foreign })
    }

    pub(super) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// The store's time: a `Date` is cut to seconds and was written before it arrived, so this is at or before the true
    /// one.
    pub(super) fn time(&self) -> Option<Timestamp> {
        let (date, arrived) = (*self.date.lock().unwrap_or_else(PoisonError::into_inner))?;
        let since = self.clock.monotonic().saturating_sub(arrived);
        Some(date + SignedDuration::try_from(since).unwrap_or(SignedDuration::ZERO))
    }

    fn learn(&self, response: &mut HttpResponse) {
        let date = response.headers().get("date").and_then(|date| date.to_str().ok()).and_then(http_date);
        if let Some(date) = date {
            *self.date.lock().unwrap_or_else(PoisonError::into_inner) = Some((date, self.clock.monotonic()));
            response.extensions_mut().insert(Written(date));
        }
    }

    /// Names in listings that the client cannot hold.
    pub(super) fn take_foreign(&self, _prefix: &str) -> Vec<String> {
        std::mem::take(&mut self.foreign.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

/// Makes the clients' connections.
#[derive(Debug, Clone)]
pub(super) struct Connector(pub(super) Arc<Answers>);

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let patience = &self.0.patience;
        let options = options
            .clone()
            // A limit for the whole answer would cut large objects; pieces have one each.
            .with_timeout_disabled()
            .with_read_timeout(patience.answer)
            .with_connect_timeout(patience.answer.min(Duration::from_secs(5)));
        let inner = ReqwestConnector::default().connect(&options)?;
        Ok(HttpClient::new(Wire { inner, answers: self.0.clone() }))
    }
}

#[derive(Debug)]
struct Wire {
    inner: HttpClient,
    answers: Arc<Answers>,
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Answers { clock, meter, patience, .. } = &*self.answers;
        let stage = CALL.try_with(|call| call.stage).unwrap_or(Stage::Farm);
        let kind = kind(request.method().as_str(), request.uri().path(), request.uri().query().unwrap_or_default());
        let size_bytes = request.body().content_length() as u64;
        let limit = match size_bytes {
            0 => patience.answer,
            bytes => patience.upload + Duration::from_secs(bytes / UPLOAD_BYTES_PER_SEC),
        };
        meter.add(stage, kind, size_bytes);
        let mut response = match tokio::time::timeout(limit, self.inner.execute(request)).await {
            Ok(response) => response?,
            Err(elapsed) => return Err(HttpError::new(HttpErrorKind::Timeout, elapsed)),
        };
        self.answers.learn(&mut response);
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        if let Some(bytes) = header("content-length").and_then(|bytes| bytes.parse().ok())
            && kind != Request::Head
        {
            meter.received(stage, kind, bytes);
        }
        if matches!(response.status().as_u16(), 429 | 503)
            && let Some(wait) = header("retry-after").and_then(|secs| secs.parse().ok()).map(Duration::from_secs)
        {
            // The client adds its own wait to this one.
            clock.sleep(wait.min(LONGEST_RETRY_AFTER)).await;
        }
        Ok(response)
    }
}

/// What a request asks, of S3 and GCS (both by the XML API) or Azure.
fn kind(method: &str, path: &str, query: &str) -> Request {
    let asks = |name: &str| query.split('&').any(|pair| pair == name || pair.split('=').next() == Some(name));
    let is = |pair: &str| query.split('&').any(|other| other == pair);
    let in_parts = asks("uploadId") || asks("uploads") || is("comp=block") || is("comp=blocklist");
    match method {
        _ if path.starts_with("/computeMetadata/") || path.starts_with("/latest/") => Request::Other,
        "GET" if asks("list-type") || is("comp=list") => Request::List,
        "GET" => Request::Get,
        "HEAD" => Request::Head,
        "PUT" | "POST" | "DELETE" if in_parts => Request::Part,
        "PUT" => Request::Put,
        "DELETE" => Request::Delete,
        _ => Request::Other,
    }
}
