//! What a store said, in few words, and what a person can do about it.
//!
//! The client's own errors name URLs, times and limits of every attempt in one long line. A person needs the status, the
//! store's word for it and its sentence; what differs from one occurrence to the next ([`Said::request_id`]) stands in
//! fields of its own.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use object_store::client::{HttpError, HttpErrorKind};

use super::bad_answer;

/// So much of an answer is shown that is not in the shape of the clouds'.
const SHOWN_CHARS: usize = 300;

/// What the store answered in the end, or why there was no answer.
#[derive(Debug)]
pub struct Said {
    /// The answer's status; none if there was no answer.
    pub status: Option<u16>,
    /// The store's own word, eg `SlowDown`.
    pub code: Option<String>,
    /// What happened, eg `503 SlowDown: Please reduce your request rate.`
    pub what: String,
    /// How often it was asked; 0 for stores that are not on a network.
    pub attempts: u32,
    /// By which the cloud's support finds the request.
    pub request_id: Option<String>,
    /// What a person can do, if anything.
    pub advice: Option<String>,
    /// What the client said.
    source: Box<dyn StdError + Send + Sync>,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.attempts > 1 {
            write!(f, " ({} attempts)", self.attempts)?;
        }
        Ok(())
    }
}

impl StdError for Said {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.source.as_ref())
    }
}

/// The attempts of one call, noted where they are made.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Trail(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    attempts: u32,
    request_id: Option<String>,
    date: Option<Timestamp>,
}

impl Trail {
    /// Another attempt is made.
    pub(in crate::store) fn attempt(&self) {
        self.lock().attempts += 1;
    }

    /// It was answered.
    pub(in crate::store) fn answered(&self, request_id: Option<String>, date: Option<Timestamp>) {
        let mut noted = self.lock();
        (noted.request_id, noted.date) = (request_id, date);
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Said {
    /// What `error` says, after the attempts on `trail`.
    pub(in crate::store) fn of(error: object_store::Error, trail: &Trail) -> Self {
        let noted = trail.lock();
        let answer = chain(&error).find_map(|cause| Answer::of(&cause.to_string()));
        let (status, code) =
            (answer.as_ref().map(|answer| answer.status), answer.as_ref().and_then(|a| a.code.clone()));
        let request_id = answer.as_ref().and_then(|answer| answer.request_id.clone()).or(noted.request_id.clone());
        let advice = advice(&error, answer.as_ref(), noted.date);
        let what = answer.map_or_else(|| without_answer(&error), |answer| answer.to_string());
        let attempts = noted.attempts;
        drop(noted);
        Self { status, code, what, attempts, request_id, advice, source: Box::new(error) }
    }
}

/// An error and its causes.
fn chain<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// An answer that was no success.
struct Answer {
    status: u16,
    /// `503 SlowDown`, or `503 Service Unavailable` without a code.
    head: String,
    code: Option<String>,
    message: Option<String>,
    region: Option<String>,
    request_id: Option<String>,
}

impl Answer {
    /// Reads the client's text for it: status, reason phrase, colon, body.
    fn of(text: &str) -> Option<Self> {
        let (status, answer) = bad_answer(text)?;
        let (reason, body) = answer.split_once(": ").unwrap_or((answer.trim_end_matches(':'), ""));
        let code = element(body, "Code");
        let other = || Some(one_line(body)).filter(|body| !body.is_empty());
        Some(Self {
            status,
            head: code.as_ref().map_or_else(|| reason.trim().to_owned(), |code| format!("{status} {code}")),
            message: element(body, "Message").or_else(|| if code.is_none() { other() } else { None }),
            region: element(body, "Region"),
            request_id: element(body, "RequestId"),
            code,
        })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head)?;
        self.message.iter().try_for_each(|message| write!(f, ": {message}"))
    }
}

/// The text of an element that stands once in a small document, as S3, GCS and Azure answer failures.
fn element(body: &str, name: &str) -> Option<String> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let text = quick_xml::escape::unescape(text).map_or_else(|_| text.to_owned(), |text| text.into_owned());
    Some(one_line(&text)).filter(|text| !text.is_empty())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN_CHARS).collect()
}

/// Why there was no answer, in the words of the last cause.
fn without_answer(error: &object_store::Error) -> String {
    let innermost = chain(error).last().map(|cause| one_line(&cause.to_string())).unwrap_or_default();
    let kind = chain(error).find_map(|cause| cause.downcast_ref::<HttpError>().map(HttpError::kind));
    match kind {
        Some(HttpErrorKind::Connect) => format!("no connection: {innermost}"),
        Some(HttpErrorKind::Timeout) => format!("no answer in time: {innermost}"),
        Some(HttpErrorKind::Interrupted | HttpErrorKind::Request) => format!("the connection was cut: {innermost}"),
        _ => innermost,
    }
}

/// The bucket is in another region than it was asked in.
#[derive(Debug, thiserror::Error)]
#[error("301 PermanentRedirect: the bucket is in region {0}")]
pub(in crate::store) struct OtherRegion(pub String);

fn advice(error: &object_store::Error, answer: Option<&Answer>, date: Option<Timestamp>) -> Option<String> {
    let region = |region: &str| format!("name the bucket's region: AWS_REGION={region}");
    if let Some(OtherRegion(name)) = chain(error).find_map(other_region) {
        return Some(region(name));
    }
    if chain(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    {
        return Some("make room; what is past goes meanwhile, if it needs no pin".to_owned());
    }
    let answer = answer?;
    let advice = match (answer.code.as_deref(), answer.status) {
        (Some("ExpiredToken" | "InvalidToken" | "TokenRefreshRequired"), _) => {
            "the credentials have expired: give new ones (those of a role are fetched anew by themselves)"
        }
        (Some("InvalidAccessKeyId" | "SignatureDoesNotMatch"), _) => {
            "the store does not know these credentials: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        }
        (Some("RequestTimeTooSkewed"), _) => {
            let store = date.map(|date| format!(" (the store says it is {date})")).unwrap_or_default();
            return Some(format!("set this machine's clock{store}"));
        }
        (Some("AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException"), _) => {
            return Some(region(answer.region.as_deref().unwrap_or("…")));
        }
        (Some("NoSuchBucket" | "ContainerNotFound"), _) => "make the bucket, or correct its name",
        (_, 507) => "make room; what is past goes meanwhile, if it needs no pin",
        // The store was not asked yet: STS gives no credentials for the token of a service account.
        (_, 400 | 403) if answer.message.as_deref().is_some_and(|said| said.contains("AssumeRoleWithWebIdentity")) => {
            "let the role (AWS_ROLE_ARN) trust this service account: its trust policy names issuer, namespace and account"
        }
        (_, 401 | 403) => {
            "let these credentials list, read, write and delete in the store (an inbox that is kept: list and read)"
        }
        (_, 429 | 503) => "it is tried again later, less and less often; if this goes on, fewer workers help",
        _ => return None,
    };
    Some(advice.to_owned())
}

fn other_region<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e OtherRegion> {
    error.downcast_ref().or_else(|| error.downcast_ref::<HttpError>()?.source()?.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &'static str) -> Said {
        Said::of(object_store::Error::Generic { store: "S3", source: text.into() }, &Trail::default())
    }

    #[test]
    fn an_answer_is_told_in_the_words_of_the_store() {
        let slow = said(
            "Error performing GET http://s3/b/k in 3s, after 3 retries  - Server returned non-2xx status code: 503 \
             Service Unavailable: <?xml version=\"1.0\"?>\n<Error><Code>SlowDown</Code><Message>Please reduce\nyour \
             request rate.</Message><RequestId>4442587FB7D0A2F9</RequestId></Error>",
        );
        assert_eq!(slow.to_string(), "503 SlowDown: Please reduce your request rate.");
        assert_eq!((slow.status, slow.request_id.as_deref()), (Some(503), Some("4442587FB7D0A2F9")));
        let head = said("Server returned non-2xx status code: 403 Forbidden: ");
        assert_eq!((head.to_string().as_str(), head.advice.is_some()), ("403 Forbidden", true));
        let odd = said("Server returned non-2xx status code: 502 Bad Gateway: <html>nginx</html>");
        assert_eq!(odd.to_string(), "502 Bad Gateway: <html>nginx</html>");
    }

    #[test]
    fn without_an_answer_the_last_cause_is_told() {
        let error = io::Error::from(io::ErrorKind::StorageFull);
        let full = Said::of(object_store::Error::Generic { store: "local", source: error.into() }, &Trail::default());
        assert_eq!(full.to_string(), "no storage space");
        assert!(full.advice.is_some_and(|advice| advice.starts_with("make room")));
    }
}
