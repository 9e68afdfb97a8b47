//! OTLP over HTTP: `POST /v1/traces`, protobuf or JSON, plain, gzip or zstd. Every answer is in the encoding of its
//! request; one that says no has a `google.rpc.Status` in it.

use std::any::Any;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use http_body_util::BodyExt;
use prost::Message;
use serde_json::json;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::body::Taken;
use super::refusal::{COME_AGAIN, PartialSuccess, Response as Answer};
use super::{Receiver, Refusal};
use crate::otlp::request::{Checked, Compression, Encoding};
use crate::serve::{guard, tell_panic};

/// The one address.
pub const PATH: &str = "/v1/traces";

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// [`PATH`] alone: to be merged with the routes of another server, whose layers do not concern it.
pub fn routes(receiver: &Receiver) -> Router {
    let panicked = |panic: Box<dyn Any + Send>| {
        tell_panic(&*panic);
        refused(&Refusal::Failed, Encoding::Json)
    };
    let options = receiver.options();
    let (origins, is_local) = (options.origins.clone(), options.hosts.is_some());
    let allowed =
        AllowOrigin::predicate(move |origin, _| origins.contains(origin) || (is_local && is_localhost(origin)));
    // A browser asks before it sends what is no form: then it may send whatever headers.
    let cors = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::POST])
        .allow_headers(AllowHeaders::mirror_request());
    Router::new()
        .route(PATH, any(export))
        .with_state(receiver.clone())
        .layer(CatchPanicLayer::custom(panicked))
        .layer(cors)
}

/// A server for OTLP and nothing else; `/healthz` says that it lives.
pub fn router(receiver: &Receiver) -> Router {
    let elsewhere = Refusal::Elsewhere(
        StatusCode::NOT_FOUND,
        "nothing is here: traces are taken at /v1/traces, and neither metrics nor logs are taken at all",
    );
    routes(receiver)
        .route("/healthz", get(async || "ok\n"))
        .fallback(async move |headers: HeaderMap| refused(&elsewhere, encoding(&headers).unwrap_or(Encoding::Json)))
}

/// Whether a page is this machine's.
fn is_localhost(origin: &HeaderValue) -> bool {
    let host = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
    let name = host.map(|host| {
        host.rsplit_once(':')
            .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
            .map_or(host, |(name, _)| name)
    });
    name.is_some_and(|name| ["localhost", "127.0.0.1", "[::1]"].contains(&name))
}

async fn export(State(receiver): State<Receiver>, request: Request) -> Response {
    // Whoever names no encoding that we know is answered in one that people can read.
    let encoding = encoding(request.headers());
    let answers_in = encoding.clone().unwrap_or(Encoding::Json);
    let taken = match encoding {
        Ok(encoding) => take(&receiver, request, encoding).await,
        Err(why) => admit(&receiver, &request).and(Err(why)),
    };
    match taken {
        Ok(checked) => answer(&checked, answers_in),
        Err(refusal) => {
            receiver.counts().refused(&refusal);
            refused(&refusal, answers_in)
        }
    }
}

async fn take(receiver: &Receiver, request: Request, encoding: Encoding) -> Result<Checked, Refusal> {
    admit(receiver, &request)?;
    let compression = compression(request.headers())?;
    let (body, holds) = Taken::new(request.into_body(), receiver, 0)?;
    let body = body.collect().await?.to_bytes();
    let held = holds.take().ok_or(Refusal::Cut)?;
    receiver.take(body, compression, encoding, held).await
}

/// Whether this may be asked, by whoever asks it.
fn admit(receiver: &Receiver, request: &Request) -> Result<(), Refusal> {
    let options = receiver.options();
    if let Some(hosts) = &options.hosts
        && !guard::host(request.headers()).is_some_and(|host| hosts.contains(&host))
    {
        let why = "the receiver is not known by this name: --host NAME makes it so";
        return Err(Refusal::Elsewhere(StatusCode::MISDIRECTED_REQUEST, why));
    }
    if request.method() != Method::POST {
        return Err(Refusal::Elsewhere(StatusCode::METHOD_NOT_ALLOWED, "spans are sent here with POST"));
    }
    match &options.token {
        Some(token) if !token.is_known(request.headers()) => Err(Refusal::Stranger),
        _ => Ok(()),
    }
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/x-protobuf" => Ok(Encoding::Protobuf),
        "application/json" => Ok(Encoding::Json),
        _ => Err(Refusal::Foreign("the content type of OTLP is application/x-protobuf or application/json".to_owned())),
    }
}

fn compression(headers: &HeaderMap) -> Result<Option<Compression>, Refusal> {
    let foreign = || Refusal::Foreign("a body may be gzip or zstd, or as it is".to_owned());
    let mut all = headers.get_all(header::CONTENT_ENCODING).iter();
    let (said, None) = (all.next(), all.next()) else { return Err(foreign()) };
    match said.map_or(Ok(""), HeaderValue::to_str).map_err(|_| foreign())?.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(None),
        "gzip" => Ok(Some(Compression::Gzip)),
        "zstd" => Ok(Some(Compression::Zstd)),
        _ => Err(foreign()),
    }
}

/// The answer of protobuf, which gRPC has, too.
pub(super) fn response(checked: &Checked) -> Vec<u8> {
    let partly = (checked.refused > 0)
        .then(|| PartialSuccess { rejected_spans: checked.refused.cast_signed(), error_message: checked.why.clone() });
    Answer { partial_success: partly }.encode_to_vec()
}

fn answer(checked: &Checked, encoding: Encoding) -> Response {
    match encoding {
        Encoding::Protobuf => ([(header::CONTENT_TYPE, PROTOBUF)], response(checked)).into_response(),
        Encoding::Json => {
            let body = match checked.refused {
                0 => json!({}),
                // A 64-bit number is text in the JSON of protobuf.
                refused => {
                    json!({ "partialSuccess": { "rejectedSpans": refused.to_string(), "errorMessage": checked.why } })
                }
            };
            ([(header::CONTENT_TYPE, JSON)], body.to_string()).into_response()
        }
    }
}

fn refused(refusal: &Refusal, encoding: Encoding) -> Response {
    let body = refusal.body();
    let (kind, body) = match encoding {
        Encoding::Protobuf => (PROTOBUF, body.encode_to_vec()),
        Encoding::Json => (JSON, json!({ "code": body.code, "message": body.message }).to_string().into_bytes()),
    };
    let mut answer = (refusal.status(), [(header::CONTENT_TYPE, kind)], body).into_response();
    let headers = answer.headers_mut();
    if refusal.passes() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(COME_AGAIN.as_secs()));
    }
    match refusal {
        Refusal::Elsewhere(StatusCode::METHOD_NOT_ALLOWED, _) => {
            headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        Refusal::Stranger => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        _ => {}
    }
    answer
}
