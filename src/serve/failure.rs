//! What goes wrong, as an answer: a status and a sentence for the client; the whole story goes to the log.

use std::sync::Arc;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::error::{Mistake, Report, find, store_kind};
use crate::store::StoreErrorKind;

/// Why a request is not answered.
#[derive(Debug)]
pub struct Failure {
    /// The status.
    pub status: StatusCode,
    /// A sentence for the client.
    pub message: String,
    /// What the log tells; not the client, who may be anybody.
    pub report: Option<Report>,
}

/// What the log tells of an answer that failed: stands in its extensions.
#[derive(Clone)]
pub struct Why(pub Arc<Report>);

impl Failure {
    /// The client's mistake.
    pub fn mistake(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Nothing there.
    pub fn missing(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// This status with this sentence.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), report: None }
    }

    /// The answer with `body` for it, whatever shape the API gives its errors.
    pub fn with_body(self, body: impl IntoResponse) -> Response {
        let mut answer = (self.status, body).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        // An error of now says nothing about later.
        answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(report) = self.report {
            answer.extensions_mut().insert(Why(Arc::new(report)));
        }
        answer
    }
}

impl<C: Send + Sync + 'static> From<Report<C>> for Failure {
    fn from(report: Report<C>) -> Self {
        Self::from(report.into_dynamic())
    }
}

impl From<Report> for Failure {
    fn from(report: Report) -> Self {
        if let Some(Mistake(sentence)) = find(&report) {
            return Self::mistake(sentence.clone());
        }
        let (status, message) = match store_kind(&report) {
            Some(StoreErrorKind::Unavailable) => {
                (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer right now: try again")
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "the request failed: the server's log says why"),
        };
        Self { status, message: message.to_owned(), report: Some(report) }
    }
}

impl From<crate::store::StoreError> for Failure {
    fn from(error: crate::store::StoreError) -> Self {
        let report: Report = error.into();
        Self::from(report)
    }
}

/// `{"error": "…"}`
impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": self.message }));
        self.with_body(body)
    }
}
