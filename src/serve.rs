//! `tracefarm serve`: pages and APIs on a farm's store. It reads, and writes nothing; any number of servers may run, and
//! none need.
//!
//! | route | answer |
//! | --- | --- |
//! | `/` | leads to `/site/` |
//! | `/site/…`, `/latest/…` | the store's public objects ([`pages`]) |
//! | `/api/trace/{id}`, `/api/search` | a trace as OTLP/JSON; entries ([`api`]) |
//! | `/api/services`, `/api/traces`, `/api/v3/…` and others | Jaeger's query API ([`jaeger`]) |
//! | `/metrics` | handlers for Prometheus ([`metrics`]) |
//! | `/healthz` | the server lives |
//!
//! What connections may take stands in [`listen`], what requests may and who may make them in [`guard`]. Everything is
//! bounded: connections, requests at a time, queries at a time, their time, their answers. Nothing here knows a terminal.

pub mod api;
pub mod failure;
pub mod farm;
pub mod guard;
pub mod jaeger;
pub mod listen;
pub mod metrics;
pub mod pages;
pub mod parameters;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, Method};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tower_http::cors::{AllowOrigin, CorsLayer};

use failure::Failure;
use farm::Farm;
use guard::{Guard, Token};
use metrics::Most;

/// How many requests are answered at a time. Most wait for the store.
const AT_ONCE: usize = 256;

/// How long a request may take to be answered. A search stops by itself before.
const REQUEST_TIME: Duration = Duration::from_secs(30);

/// How long a client may take to read an answer.
const BODY_TIME: Duration = Duration::from_secs(300);

/// Answers below are not worth compressing.
const COMPRESSED_BYTES: u16 = 1024;

/// Who may ask, and for what.
#[derive(Clone, Default)]
pub struct Options {
    /// The names under which the server is known ([`guard::hosts`]).
    pub hosts: Option<Arc<[String]>>,
    /// What clients must know.
    pub token: Option<Token>,
    /// Origins of other pages that may read answers.
    pub origins: Vec<HeaderValue>,
    /// How many handlers `/metrics` tells apart.
    pub metrics_handlers: usize,
}

/// Every route, with what stands before it.
pub fn router(farm: &Farm, options: Options) -> Router {
    let guard = Guard {
        hosts: options.hosts,
        token: options.token,
        at_once: Arc::new(Semaphore::new(AT_ONCE)),
        time: REQUEST_TIME,
        body_time: BODY_TIME,
        clock: farm.clock().clone(),
    };
    // What is compressed already, or small, goes as it is.
    let worth = SizeAbove::new(COMPRESSED_BYTES)
        .and(NotForContentType::const_new("application/gzip"))
        .and(NotForContentType::IMAGES)
        .and(NotForContentType::const_new("font/"));
    let compressed = CompressionLayer::new().gzip(true).compress_when(worth);
    let cors = CorsLayer::new()
        .allow_origin(AllowOrigin::list(options.origins.clone()))
        .allow_methods([Method::GET, Method::HEAD])
        .allow_headers([axum::http::header::AUTHORIZATION]);
    let router = routes(farm, Most(options.metrics_handlers.max(1)))
        .layer(from_fn_with_state(guard.clone(), guard::bound))
        // Whoever watches the server is answered however busy it is.
        .route("/healthz", get(api::healthz))
        .layer(compressed)
        .layer(from_fn_with_state(guard, guard::admit));
    let router = if options.origins.is_empty() { router } else { router.layer(cors) };
    router.layer(CatchPanicLayer::custom(panicked)).layer(from_fn(guard::harden))
}

fn routes(farm: &Farm, most: Most) -> Router {
    Router::new()
        .route("/", get(pages::root))
        .route("/site", get(pages::site))
        .route("/site/{*path}", get(pages::object))
        .route("/site/", get(pages::object))
        .route("/latest/{*path}", get(pages::object))
        .route("/api/trace/{id}", get(api::trace))
        .route("/api/search", get(api::search))
        .route("/api/services", get(jaeger::services))
        // The names of services have slashes, and not every client writes them as %2F.
        .route("/api/services/{*service_operations}", get(jaeger::names))
        .route("/api/operations", get(jaeger::operations))
        .route("/api/traces", get(jaeger::traces))
        .route("/api/traces/{id}", get(jaeger::trace))
        .route("/api/dependencies", get(jaeger::dependencies))
        .route("/api/v3/services", get(jaeger::v3::services))
        .route("/api/v3/operations", get(jaeger::v3::operations))
        .route("/api/v3/traces", get(jaeger::v3::traces))
        .route("/api/v3/traces/{id}", get(jaeger::v3::trace))
        .route("/api/v3/trace-summaries", get(jaeger::v3::summaries))
        .route("/metrics", get(metrics::metrics).with_state((farm.clone(), most)))
        .fallback(async || Failure::missing("there is nothing at this address"))
        .with_state(farm.clone())
}

/// A panic is a bug, and one request's: the others go on.
pub(crate) fn tell_panic(panic: &(dyn std::any::Any + Send)) {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    tracing::error!("a request failed: a panic: {}", text.unwrap_or_default());
}

fn panicked(panic: Box<dyn std::any::Any + Send>) -> axum::response::Response {
    use axum::response::IntoResponse;
    tell_panic(&*panic);
    Failure::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "the request failed: the server's log says why")
        .into_response()
}
