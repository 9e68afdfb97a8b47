//! Small requests to clouds' own APIs: one place for their time-outs and retries.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, StatusCode};

use crate::clock::Clock;
use crate::error::{Result, ResultExt, bail, report};

/// No answer, or none to its end, after this: an attempt failed.
const TIMEOUT: Duration = Duration::from_secs(10);
/// About how long is waited before the second, third and fourth attempt.
const WAITS: [Duration; 3] = [Duration::from_secs(3), Duration::from_secs(5), Duration::from_secs(15)];
/// The longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// An answer is at most so long.
const MOST_BYTES: usize = 32 << 20;
/// So much of an answer that says no is shown.
const SHOWN_CHARS: usize = 300;

/// Sends requests, each with up to four attempts.
pub(super) struct Http {
    client: Client,
    clock: Clock,
    waits: [Duration; 3],
}

/// What a server answered.
pub(super) struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

/// An attempt that may go better the next time.
struct Failed {
    why: String,
    wait: Option<Duration>,
}

impl Http {
    /// A client that goes straight to its server: clouds' metadata servers are behind no proxy.
    pub fn direct(clock: &Clock) -> Result<Self> {
        Self::with(Client::builder().no_proxy(), clock)
    }

    /// A client with `certificates` (PEM) beside the system's, and the proxy of the environment.
    pub fn new(certificates: Option<&[u8]>, clock: &Clock) -> Result<Self> {
        let mut builder = Client::builder();
        if let Some(pem) = certificates {
            let bundle = reqwest::Certificate::from_pem_bundle(pem).context("read the certificates of the server")?;
            builder = builder.tls_certs_merge(bundle);
        }
        Self::with(builder, clock)
    }

    fn with(builder: reqwest::ClientBuilder, clock: &Clock) -> Result<Self> {
        let client = builder.timeout(TIMEOUT).build().context("set up a client for HTTP")?;
        Ok(Self { client, clock: clock.clone(), waits: WAITS })
    }

    /// As patient as a test.
    #[cfg(test)]
    pub fn hurry(&mut self) {
        self.client = Client::builder().timeout(Duration::from_millis(500)).build().unwrap();
        self.waits = [Duration::from_millis(10); 3];
    }

    /// Sends what `make` makes (anew for each attempt: tokens and signatures grow old) until there is an answer that
    /// does not pass: any but 408, 429 and 5xx. `what` is asked for, for messages.
    ///
    /// # Errors
    /// When four attempts failed, with how the last did.
    pub async fn send(&self, what: &str, make: impl AsyncFn(&Client) -> Result<RequestBuilder>) -> Result<Answer> {
        let mut waits = self.waits.into_iter();
        loop {
            let failed = match self.attempt(make(&self.client).await?).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            let Some(wait) = waits.next() else {
                bail!("{what} could not be asked for, {} times: {}", WAITS.len() + 1, failed.why);
            };
            let wait =
                failed.wait.unwrap_or_else(|| wait.mul_f64(0.75 + self.clock.fraction() / 2.0)).min(LONGEST_WAIT);
            tracing::debug!("{what}: {}; asking again in {wait:?}", failed.why);
            self.clock.sleep(wait).await;
        }
    }

    /// [`Http::send`], where only a 200 is an answer.
    pub async fn get(&self, what: &str, make: impl AsyncFn(&Client) -> Result<RequestBuilder>) -> Result<Bytes> {
        let answer = self.send(what, make).await?;
        match answer.status {
            StatusCode::OK => Ok(answer.body),
            status => Err(report!("{what}: {status}: {}", shown(&answer.body)).into_dynamic()),
        }
    }

    async fn attempt(&self, request: RequestBuilder) -> Result<Answer, Failed> {
        let failed = |error: reqwest::Error| Failed { why: causes(&error), wait: None };
        let mut response = request.send().await.map_err(failed)?;
        let (status, wait) = (response.status(), retry_after(response.headers()));
        let mut body = Vec::new();
        while let Some(bytes) = response.chunk().await.map_err(failed)? {
            if body.len() + bytes.len() > MOST_BYTES {
                return Err(Failed { why: format!("the answer is longer than {MOST_BYTES} bytes"), wait });
            }
            body.extend_from_slice(&bytes);
        }
        if status.is_server_error() || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status) {
            return Err(Failed { why: format!("{status}: {}", shown(&body)), wait });
        }
        Ok(Answer { status, body: body.into() })
    }
}

/// `Retry-After` in seconds; as a date it is left to our own waits.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The beginning of an answer, on one line.
pub(super) fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN_CHARS).collect()
}

/// An error of the client with the causes that it hides, without the address (which may hold secrets).
fn causes(error: &reqwest::Error) -> String {
    let mut text = match error {
        error if error.is_timeout() => format!("no answer within {} s", TIMEOUT.as_secs()),
        error if error.is_connect() => "no connection".to_owned(),
        _ => "the answer was cut".to_owned(),
    };
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
