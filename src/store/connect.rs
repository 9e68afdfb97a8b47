//! What stands between the clouds' clients and the network: below their retries, so every attempt passes here.
//!
//! It counts requests and bytes, learns the store's time from the `Date` of its answers, limits how long a request may
//! take, heeds `Retry-After`, and says what the client cannot say: names that it cannot hold ([`super::name`]) and
//! deletes on a condition. A request that is changed for that is signed again ([`Signer`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    ReqwestConnector,
};
use object_store::{ClientOptions, HeaderValue};

use super::failure::{OtherRegion, Trail};
use super::name;
use super::pace::Paced;
use super::sign::Signer;
use super::unbatch::{batched, unbatch};
use super::{Meter, Request, Stage, Written};
use crate::clock::Clock;

tokio::task_local! {
    /// What the client is at work on.
    static CALL: Call;
}

/// What the client is at work on, and what it cannot be told otherwise.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// In whose name.
    pub(super) stage: Stage,
    /// Delete only this content.
    pub(super) only: Option<Content>,
    /// Where its attempts are noted.
    pub(super) trail: Trail,
}

/// One content of a name, as the clouds know it.
#[derive(Clone, Debug)]
pub(super) struct Content {
    /// With its quotes.
    pub(super) etag: Option<String>,
    /// GCS: the generation.
    pub(super) version: Option<String>,
}

impl Call {
    /// The etag, without quotes, of the content that alone may be deleted by the call that is being made.
    pub(super) fn condition() -> Option<String> {
        CALL.try_with(|call| call.only.as_ref()?.etag.as_deref().map(super::bare)).ok().flatten()
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
    /// For an upload, and for the body of an answer, beside its size at 1 MB/s.
    pub transfer: Duration,
    /// The first wait between two attempts; the next are longer, with jitter.
    pub first_wait: Duration,
    /// The longest such wait.
    pub longest_wait: Duration,
    /// How often a request is repeated. Only what can pass is: time-outs, broken connections, 408, 429, 5xx.
    pub retries: usize,
}

impl Default for Patience {
    /// Five attempts with 1 s and then about 2, 4 and 6 s between them: what only hiccups is asked again soon. (A worker that
    /// dies while it waits leaves half a batch behind, which is indexed once more.)
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            transfer: Duration::from_secs(30),
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(15),
            retries: 4,
        }
    }
}

impl Patience {
    /// So many times as long, of everything.
    pub fn times(self, factor: f64) -> Self {
        let times = |time: Duration| time.mul_f64(factor);
        Self {
            answer: times(self.answer),
            transfer: times(self.transfer),
            first_wait: times(self.first_wait),
            longest_wait: times(self.longest_wait),
            retries: self.retries,
        }
    }
}

/// An upload, and what comes of an answer, is given a second more for so many bytes.
const BYTES_PER_SEC: u64 = 1_000_000;

/// The longest that a store may ask us to wait (`Retry-After`): beyond, a later cycle tries again.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);

/// What is known of a store beside its client, shared between its connection and [`super::Store`].
#[derive(Debug)]
pub(super) struct Wire {
    clock: Clock,
    meter: Meter,
    patience: Patience,
    signer: OnceLock<Signer>,
    /// The server knows no delete on a condition (one that speaks S3 and is not AWS's).
    unconditional: AtomicBool,
    /// The newest `Date`, and when it arrived by [`Clock::monotonic`].
    date: Mutex<Option<(Timestamp, Duration)>>,
}

impl Wire {
    pub(super) fn new(clock: Clock, patience: Patience) -> Arc<Self> {
        let (meter, signer, unconditional, date) = Default::default();
        Arc::new(Self { clock, meter, patience, signer, unconditional, date })
    }

    pub(super) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Tells how to sign: the client, which has the credentials, is made after its connection.
    pub(super) fn sign_with(&self, signer: Signer) {
        // Set once, when the store is opened.
        let _ = self.signer.set(signer);
    }

    /// The store's time: a `Date` is cut to seconds and was written before it arrived, so this is at or before the true
    /// one. A machine that sleeps is behind for as long, until the next answer.
    pub(super) fn time(&self) -> Option<Timestamp> {
        let (date, arrived) = (*self.date.lock().unwrap_or_else(PoisonError::into_inner))?;
        let since = self.clock.monotonic().saturating_sub(arrived);
        Some(date + SignedDuration::try_from(since).unwrap_or(SignedDuration::ZERO))
    }

    fn learn_time(&self, response: &mut HttpResponse) -> Option<Timestamp> {
        let date = response.headers().get("date").and_then(|date| date.to_str().ok()).and_then(http_date);
        if let Some(date) = date {
            *self.date.lock().unwrap_or_else(PoisonError::into_inner) = Some((date, self.clock.monotonic()));
            response.extensions_mut().insert(Written(date));
        }
        date
    }

    /// Says what the client could not. `changed`: the request is not the one that the client signed.
    async fn amend(
        &self,
        request: &mut HttpRequest,
        kind: Request,
        only: Option<&Content>,
        mut changed: bool,
    ) -> Result<(), HttpError> {
        let uri = request.uri().to_string();
        let (path, query) = uri.split_once('?').map_or((&uri[..], None), |(path, query)| (path, Some(query)));
        if let Some(named) = name::unmark_uri(path, query) {
            // Every HTTP client takes such parts out of a path, as RFC 3986 (section 5.2.4) has it, and would ask for
            // another object. (In a URL of GCS the slashes are escaped, so a name is one part.)
            if named.split(['/', '?']).any(|part| matches!(part, "%2E" | "%2E%2E")) {
                return Err(refused("a name that no URL can hold", "`.` and `..` are folders there"));
            }
            *request.uri_mut() = named.parse().map_err(|error| refused("a name that no URL can hold", error))?;
            changed = true;
        }
        if kind == Request::Delete
            && !self.unconditional.load(Ordering::Relaxed)
            && let Some(Content { etag, version }) = only
        {
            let condition = match (self.signer.get(), etag, version) {
                (Some(Signer::Bearer), _, Some(generation)) => Some(("x-goog-if-generation-match", generation)),
                (Some(_), Some(etag), _) => Some(("if-match", etag)),
                _ => None,
            };
            if let Some((header, value)) = condition
                && let Ok(value) = HeaderValue::from_str(value)
            {
                request.headers_mut().insert(header, value);
                changed = true;
            }
        }
        if changed && let Some(signer) = self.signer.get() {
            signer.sign(request).await.map_err(|error| refused("a request that cannot be signed", error))?;
        }
        Ok(())
    }
}

/// Whether a request can name the object: a URL holds no part that is `.` or `..`.
pub(super) fn can_ask_for(name: &str) -> bool {
    !name.split('/').any(|part| matches!(part, "." | ".."))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

/// A failure that no repetition mends.
fn refused(what: &str, error: impl std::fmt::Display) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, std::io::Error::other(format!("{what}: {error}")))
}

/// Makes the clients' connections.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    wire: Arc<Wire>,
    /// In place of the network, in tests.
    network: Option<HttpClient>,
}

impl Connector {
    pub(super) fn new(wire: &Arc<Wire>) -> Self {
        Self { wire: wire.clone(), network: None }
    }

    #[cfg(test)]
    pub(super) fn over(wire: &Arc<Wire>, network: HttpClient) -> Self {
        Self { wire: wire.clone(), network: Some(network) }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let patience = &self.wire.patience;
        let options = options
            .clone()
            // A limit for the whole answer would cut large objects; pieces have one each.
            .with_timeout_disabled()
            .with_read_timeout(patience.answer)
            .with_connect_timeout(patience.answer.min(Duration::from_secs(5)));
        let network = match &self.network {
            Some(network) => network.clone(),
            None => ReqwestConnector::default().connect(&options)?,
        };
        Ok(HttpClient::new(Connection { network, wire: self.wire.clone() }))
    }
}

#[derive(Debug)]
struct Connection {
    network: HttpClient,
    wire: Arc<Wire>,
}

impl Connection {
    /// Sends a request once, for as long as its size allows.
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let patience = &self.wire.patience;
        let limit = match request.body().content_length() as u64 {
            0 => patience.answer,
            bytes => patience.transfer + Duration::from_secs(bytes / BYTES_PER_SEC),
        };
        match tokio::time::timeout(limit, self.network.execute(request)).await {
            Ok(response) => response,
            Err(_) => {
                let late = format!("none within {limit:?}");
                Err(HttpError::new(HttpErrorKind::Timeout, std::io::Error::other(late)))
            }
        }
    }

    /// Sends a request, and once more if it was refused because its credentials have expired and there are others by
    /// now: the client would repeat neither. The answer, whose body of a failure has been read.
    async fn send_with_fresh_credentials(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let again = request.clone();
        let response = self.send(request).await?;
        if !matches!(response.status().as_u16(), 400 | 401 | 403) {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = body.bytes().await?;
        let is_expired = EXPIRED.iter().any(|code| memchr::memmem::find(&body, code.as_bytes()).is_some());
        if let (true, Some(signer)) = (is_expired, self.wire.signer.get()) {
            let mut again = again;
            let renewed = signer.renew(&mut again).await;
            if renewed.map_err(|error| refused("the credentials have expired, and there are no others", error))? {
                return self.send(again).await;
            }
        }
        Ok(HttpResponse::from_parts(parts, body.into()))
    }
}

/// How S3 says that credentials are no longer good.
const EXPIRED: [&str; 3] = ["ExpiredToken", "InvalidToken", "TokenRefreshRequired"];

#[async_trait]
impl HttpService for Connection {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Wire { clock, meter, patience, .. } = &*self.wire;
        let call = CALL.try_with(Clone::clone).ok();
        let Call { stage, only, trail } =
            call.unwrap_or_else(|| Call { stage: Stage::Farm, only: None, trail: Trail::default() });
        let host = request.uri().host().unwrap_or_default();
        if is_metadata_server(host) {
            // Credentials of a role. Where there is no such server, asking again does not help.
            meter.add(stage, Request::Other, 0);
            let asked =
                tokio::time::timeout(patience.answer.min(Duration::from_secs(5)), self.network.execute(request));
            return asked.await.map_err(|elapsed| refused("no answer from the metadata server", elapsed))?.map_err(
                |error| match error.kind() {
                    HttpErrorKind::Connect | HttpErrorKind::Timeout => refused("no metadata server", error),
                    _ => error,
                },
            );
        }
        let batch = unbatch(&request);
        let is_batch = batch.is_some();
        let mut request = batch.unwrap_or(request);
        let kind = kind(request.method().as_str(), request.uri().query().unwrap_or_default());
        self.wire.amend(&mut request, kind, only.as_ref(), is_batch).await?;
        meter.add(stage, kind, request.body().content_length() as u64);
        trail.attempt();
        let answered = self.send_with_fresh_credentials(request).await;
        let status = answered.as_ref().ok().map(|response| response.status().as_u16());
        if status.is_none_or(|status| matches!(status, 408 | 429 | 500.. if status != 501)) {
            meter.failed(stage, kind);
        }
        let mut response = answered?;
        let date = self.wire.learn_time(&mut response);
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let request_id = REQUEST_IDS.iter().find_map(|name| header(name));
        trail.answered(request_id.map(str::to_owned), date);
        let status = response.status().as_u16();
        if let (301 | 307, Some(region)) = (status, header("x-amz-bucket-region")) {
            // The client follows no redirects, and would not say where to.
            return Err(HttpError::new(HttpErrorKind::Unknown, OtherRegion(region.to_owned())));
        }
        if status == 501 && kind == Request::Delete && only.is_some() {
            // Then the question right before has to do. The client asks again, and from now on without a condition.
            self.wire.unconditional.store(true, Ordering::Relaxed);
            return Err(HttpError::new(HttpErrorKind::Request, std::io::Error::other("no deletes on a condition")));
        }
        if matches!(status, 429 | 503)
            && let Some(wait) = header("retry-after").and_then(|secs| secs.parse().ok()).map(Duration::from_secs)
        {
            // The client adds its own wait to this one.
            clock.sleep(wait.min(LONGEST_RETRY_AFTER)).await;
        }
        let length = header("content-length").and_then(|bytes| bytes.parse().ok());
        let (parts, body) = response.into_parts();
        let body = HttpResponseBody::new(Paced::new(body, clock.clone(), patience.transfer, BYTES_PER_SEC));
        if kind == Request::List && parts.status.is_success() {
            let page = body.bytes().await?;
            meter.received(stage, kind, page.len() as u64);
            return Ok(HttpResponse::from_parts(parts, name::mark_page(page).into()));
        }
        if let Some(bytes) = length
            && kind != Request::Head
        {
            meter.received(stage, kind, bytes);
        }
        let response = HttpResponse::from_parts(parts, body);
        Ok(if is_batch { batched(response) } else { response })
    }
}

/// Where the clouds put the name by which their support finds a request.
const REQUEST_IDS: [&str; 3] = ["x-amz-request-id", "x-guploader-uploadid", "x-ms-request-id"];

/// The addresses of the clouds' metadata servers: instances (all three), and ECS and EKS pods.
pub(super) const METADATA_SERVERS: [&str; 4] =
    ["169.254.169.254", "metadata.google.internal", "169.254.170.2", "169.254.170.23"];

fn is_metadata_server(host: &str) -> bool {
    METADATA_SERVERS.contains(&host)
}

/// What a request asks, of S3 and GCS (both by the XML API) or Azure.
fn kind(method: &str, query: &str) -> Request {
    let asks = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    let is = |pair: &str| query.split('&').any(|other| other == pair);
    let in_parts = asks("uploadId") || asks("uploads") || is("comp=block") || is("comp=blocklist");
    match method {
        "GET" if asks("list-type") || is("comp=list") => Request::List,
        "GET" => Request::Get,
        "HEAD" => Request::Head,
        "PUT" | "POST" | "DELETE" if in_parts => Request::Part,
        "PUT" => Request::Put,
        "DELETE" => Request::Delete,
        _ => Request::Other,
    }
}

#[cfg(test)]
mod tests;
