//! Why a request is refused: what it is told over HTTP, and over gRPC.

use std::time::Duration;

use axum::http::StatusCode;
use prost::Message;
use tonic::{Code, Status};

/// When a client that was put off is to come again.
pub(super) const COME_AGAIN: Duration = Duration::from_secs(2);

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It cannot be read, or holds no traces.
    #[error("{0}")]
    Unreadable(String),
    /// A content type or encoding that OTLP does not have.
    #[error("{0}")]
    Foreign(String),
    /// It is larger than this, unpacked.
    #[error("the request is larger than {0} bytes: send fewer spans at a time")]
    TooLarge(usize),
    /// Its body took too long.
    #[error("the body came too slowly")]
    Slow,
    /// Its body broke off.
    #[error("the body broke off")]
    Cut,
    /// Nothing is at this address, or not for this method.
    #[error("{1}")]
    Elsewhere(StatusCode, &'static str),
    /// It does not know the token.
    #[error("the token is missing or wrong")]
    Stranger,
    /// What waits holds all the memory that it may.
    #[error("too much waits for the store: come again")]
    Busy,
    /// The store took nothing.
    #[error("the store does not take it right now: come again")]
    Unwritten,
    /// The store has not taken it in time.
    #[error("the store has not answered in time: come again")]
    Late,
    /// The receiver ends.
    #[error("the receiver ends: come again")]
    Stopping,
    /// A bug.
    #[error("the request failed: the receiver's log says why")]
    Failed,
}

impl Refusal {
    /// In a word, for metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::Foreign(_) => "foreign",
            Self::TooLarge(_) => "too-large",
            Self::Slow => "slow",
            Self::Cut => "cut",
            Self::Elsewhere(..) => "elsewhere",
            Self::Stranger => "stranger",
            Self::Busy => "busy",
            Self::Unwritten => "unwritten",
            Self::Late => "late",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
        }
    }

    /// Every [`Refusal::word`].
    pub const WORDS: [&'static str; 12] = [
        "unreadable",
        "foreign",
        "too-large",
        "slow",
        "cut",
        "elsewhere",
        "stranger",
        "busy",
        "unwritten",
        "late",
        "stopping",
        "failed",
    ];

    /// Over HTTP. Clients of OTLP send again what was answered with 429, 502, 503 or 504, and nothing else.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unreadable(_) | Self::Cut => StatusCode::BAD_REQUEST,
            Self::Foreign(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Elsewhere(status, _) => *status,
            Self::Stranger => StatusCode::UNAUTHORIZED,
            Self::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::Unwritten | Self::Late | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Over gRPC, and as `code` of the body over HTTP.
    pub(super) fn code(&self) -> Code {
        match self {
            Self::Unreadable(_) | Self::Foreign(_) => Code::InvalidArgument,
            // Without a time to come again clients give it up: it would be as large again.
            Self::TooLarge(_) => Code::ResourceExhausted,
            Self::Slow => Code::DeadlineExceeded,
            Self::Cut => Code::Cancelled,
            Self::Elsewhere(..) => Code::NotFound,
            Self::Stranger => Code::Unauthenticated,
            Self::Busy | Self::Unwritten | Self::Late | Self::Stopping => Code::Unavailable,
            Self::Failed => Code::Internal,
        }
    }

    /// Whether the same may be taken another time.
    pub fn passes(&self) -> bool {
        self.code() == Code::Unavailable
    }

    /// `google.rpc.Status`: the body of an answer over HTTP, and the details of one over gRPC.
    pub(super) fn body(&self) -> RpcStatus {
        let again = RetryInfo { delay: Some(Delay { seconds: COME_AGAIN.as_secs().cast_signed() }) };
        let again =
            Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(), value: again.encode_to_vec() };
        let details = if self.passes() { vec![again] } else { Vec::new() };
        RpcStatus { code: self.code() as i32, message: self.to_string(), details }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let body = refusal.body();
        Self::with_details(refusal.code(), body.message.clone(), body.encode_to_vec().into())
    }
}

/// `google.rpc.Status`
#[derive(Message)]
pub(super) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// `google.protobuf.Any`
#[derive(Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// `google.rpc.RetryInfo`
#[derive(Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    delay: Option<Delay>,
}

/// `google.protobuf.Duration`
#[derive(Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

/// `ExportTraceServiceResponse`
#[derive(Message)]
pub(super) struct Response {
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<PartialSuccess>,
}

/// `ExportTracePartialSuccess`
#[derive(Message)]
pub(super) struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub rejected_spans: i64,
    #[prost(string, tag = "2")]
    pub error_message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_what_clients_send_again() {
        let all = [
            Refusal::Unreadable(String::new()),
            Refusal::Foreign(String::new()),
            Refusal::TooLarge(1),
            Refusal::Slow,
            Refusal::Cut,
            Refusal::Elsewhere(StatusCode::NOT_FOUND, ""),
            Refusal::Stranger,
            Refusal::Busy,
            Refusal::Unwritten,
            Refusal::Late,
            Refusal::Stopping,
            Refusal::Failed,
        ];
        for (refusal, word) in all.iter().zip(Refusal::WORDS) {
            assert_eq!(refusal.word(), word);
            let again = matches!(refusal.status().as_u16(), 429 | 502 | 503 | 504);
            assert_eq!(refusal.passes(), again, "{refusal:?}");
            assert_eq!(refusal.body().details.len(), usize::from(again), "{refusal:?}");
        }
    }
}
