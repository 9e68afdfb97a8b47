//! Jaeger's query API, so that Jaeger's interface and Grafana's Jaeger data source work on a farm's store.
//!
//! | route | answer |
//! | --- | --- |
//! | `/api/services` | the services that have spans |
//! | `/api/operations?service=&spanKind=`, `/api/services/{service}/operations` | what their spans are called |
//! | `/api/traces?service=&operation=&tags=&minDuration=&…` | traces of which one span fits all that is said |
//! | `/api/traces?traceID=…&traceID=…`, `/api/traces/{id}` | traces |
//! | `/api/dependencies?endTs=&lookback=` | which service calls which |
//! | `/api/v3/…` ([`v3`]) | the same as OTLP |
//!
//! Answers have the fields of Jaeger 2's own (`cmd/query/app/http_handler.go`, `internal/uimodel/model.go`). Where there
//! is a choice they differ so:
//! - A service without a name is `unknown_service`, and can be asked for by that name.
//! - A search says under the additional key `tracefarm` what it left out: there may be traces that fit beyond the time
//!   or size that one answer has, or in blocks that cannot be read, which are an item of `errors`, too.
//! - Dependencies are calls between services as their spans' kinds tell, and not every span below one of another
//!   service; they are told by the hour, and after compaction.

mod duration;
mod query;
pub mod v3;

use std::collections::BTreeSet;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value as Json_, json};

use super::failure::Failure;
use super::farm::Farm;
use super::parameters::Parameters;
use crate::error::{Result, ResultExt};
use crate::handler::id::shown_service;
use crate::model::{Hour, TraceId};
use crate::query::skipped::Lacks;
use crate::query::spans::{self, Found, Limits, Wanted};
use crate::query::trace::{self, Lookup, Trace};
use crate::query::{dependencies, trace::jaeger};
use crate::task;
use duration::Duration;

/// A failure in the shape that Jaeger gives it.
#[derive(Debug)]
pub struct JaegerFailure(Failure);

impl<T: Into<Failure>> From<T> for JaegerFailure {
    fn from(failure: T) -> Self {
        Self(failure.into())
    }
}

impl IntoResponse for JaegerFailure {
    fn into_response(self) -> Response {
        let error = json!({ "code": self.0.status.as_u16(), "msg": self.0.message });
        let body = json!({ "data": null, "total": 0, "limit": 0, "offset": 0, "errors": [error] });
        self.0.with_body(Json(body))
    }
}

type Answer<T = Json<Json_>> = Result<T, JaegerFailure>;

fn list<T: Serialize>(data: &[T], lacks: &Lacks) -> Json<Json_> {
    let errors = errors(&[], lacks);
    Json(json!({ "data": data, "total": data.len(), "limit": 0, "offset": 0, "errors": errors }))
}

/// Of names Jaeger has null where there is none.
fn list_of_names(names: &[String], lacks: &Lacks) -> Json<Json_> {
    let Json(mut answer) = list(names, lacks);
    if names.is_empty() {
        answer["data"] = Json_::Null;
    }
    Json(answer)
}

/// `/api/services`
pub async fn services(State(farm): State<Farm>) -> Answer {
    let (names, lacks) = service_names(&farm).await?;
    Ok(list_of_names(&names, &lacks))
}

async fn service_names(farm: &Farm) -> Result<(Vec<String>, Lacks), Failure> {
    let (known, lacks) = farm.operations().await.context("list the services")?;
    let names: BTreeSet<&str> = known.operations.iter().map(|operation| shown_service(&operation.service)).collect();
    Ok((names.into_iter().map(str::to_owned).collect(), lacks))
}

/// An operation's name and kind.
type Operation = (String, &'static str);

/// The operations of a service, of one kind unless that is empty.
async fn operations_of(farm: &Farm, service: &str, kind: &str) -> Result<(Vec<Operation>, Lacks), Failure> {
    let (known, lacks) = farm.operations().await.context("list the operations")?;
    let of_service = known.operations.iter().filter(|operation| shown_service(&operation.service) == service);
    let all = of_service.map(|operation| (operation.name.clone(), jaeger::kind(operation.kind)));
    Ok((all.filter(|(_, of)| kind.is_empty() || *of == kind).collect(), lacks))
}

/// `/api/operations`
pub async fn operations(State(farm): State<Farm>, parameters: Parameters) -> Answer {
    let service = parameters.get("service").ok_or_else(|| Failure::mistake("parameter 'service' is required"))?;
    let kind = parameters.get("spanKind").unwrap_or_default();
    let (operations, lacks) = operations_of(&farm, service, kind).await?;
    let shown: Vec<_> = operations.iter().map(|(name, kind)| json!({ "name": name, "spanKind": kind })).collect();
    Ok(list(&shown, &lacks))
}

/// `/api/services/{service}/operations`
pub async fn names(State(farm): State<Farm>, Path(path): Path<String>) -> Answer {
    let service =
        path.strip_suffix("/operations").ok_or_else(|| Failure::missing("there is nothing at this address"))?;
    let (operations, lacks) = operations_of(&farm, service, "").await?;
    let names: BTreeSet<String> = operations.into_iter().map(|(name, _)| name).collect();
    Ok(list_of_names(&names.into_iter().collect::<Vec<_>>(), &lacks))
}

/// `/api/traces/{id}`
pub async fn trace(State(farm): State<Farm>, Path(id): Path<String>) -> Answer<Response> {
    let id = query::trace_id(&id)?;
    let turn = farm.turn().await?;
    match found(&farm, id).await? {
        (Some(trace), lacks) => Ok(traces_json(vec![trace], &[], None, &lacks, turn).await?),
        (None, lacks) => Err(Failure::missing(lacks.beside(NOT_FOUND)).into()),
    }
}

/// What Jaeger says of a trace that is not there.
const NOT_FOUND: &str = "trace not found";

async fn found(farm: &Farm, id: TraceId) -> Result<(Option<Trace>, Lacks), Failure> {
    let find = move |reader| async move { trace::find(&reader, id).await };
    let (lookup, skipped) = farm.query(find).await.context_with(|| format!("look for {id}"))?;
    match lookup {
        Lookup::Found(trace) => Ok((Some(*trace), farm.lacks(&skipped, ..))),
        Lookup::Forgotten => Ok((None, Lacks::default())),
        Lookup::Missing => Ok((None, farm.lacks(&skipped, ..))),
    }
}

/// `/api/traces`
pub async fn traces(State(farm): State<Farm>, parameters: Parameters) -> Answer<Response> {
    let now = now(&farm);
    let ids = parameters.all("traceID").map(query::trace_id).collect::<Result<Vec<_>, _>>()?;
    if !ids.is_empty() {
        let turn = farm.turn().await?;
        let (mut traces, mut missing) = (Vec::new(), Vec::new());
        let mut spans = 0;
        let (mut cut, mut lacks) = (None, Lacks::default());
        for id in ids.iter().take(query::MOST_IDS) {
            let (found, lacking) = found(&farm, *id).await?;
            lacks.0.extend(lacking.0);
            match found {
                Some(trace) if spans > 0 && spans + trace.rows.num_rows() > spans::ANSWER_SPANS => {
                    cut = Some(format!("an answer has at most {} spans: ask for fewer traces", spans::ANSWER_SPANS));
                    break;
                }
                Some(trace) => {
                    spans += trace.rows.num_rows();
                    traces.push(trace);
                }
                None => missing.push(*id),
            }
        }
        if ids.len() > query::MOST_IDS {
            cut = Some(format!("an answer has at most {} traces by id", query::MOST_IDS));
        }
        return Ok(traces_json(traces, &missing, cut, &lacks, turn).await?);
    }
    let wanted = query::wanted(&parameters, now)?;
    let turn = farm.turn().await?;
    let (found, lacks) = searched(&farm, wanted).await?;
    Ok(traces_json(found.traces, &[], found.cut, &lacks, turn).await?)
}

async fn searched(farm: &Farm, wanted: Wanted) -> Result<(Found, Lacks), Failure> {
    let hours = Hour::of_ns(wanted.since_ns)..=Hour::of_ns(wanted.until_ns);
    let find = |reader| async move { spans::find(&reader, &wanted, Limits::default()).await };
    let (found, skipped) = farm.query(find).await.context("search traces")?;
    Ok((found, farm.lacks(&skipped, hours)))
}

/// What is said beside the traces, if anything: why there may be more.
fn remarks(cut: Option<String>, lacks: &Lacks) -> Option<Json_> {
    let mut remarks = serde_json::Map::new();
    remarks.extend(cut.map(|cut| ("cut".to_owned(), json!(cut))));
    remarks.extend((!lacks.0.is_empty()).then(|| ("skipped_blocks".to_owned(), json!(lacks.0))));
    (!remarks.is_empty()).then_some(Json_::Object(remarks))
}

/// `errors`: null where there are none.
fn errors(missing: &[TraceId], lacks: &Lacks) -> Json_ {
    let missing = missing.iter().map(|id| json!({ "msg": NOT_FOUND, "traceID": jaeger::shown(*id) }));
    let errors: Vec<_> = missing.chain(lacks.sentence().map(|msg| json!({ "msg": msg }))).collect();
    if errors.is_empty() { Json_::Null } else { json!(errors) }
}

/// What people mean by now: their own clock, moved as everything else is.
fn now(farm: &Farm) -> Timestamp {
    let now = farm.clock().wall();
    now.saturating_add(farm.clock().offset()).unwrap_or(now)
}

/// The answer with `traces`, each turned into text by itself, so that the tree of one is held at a time.
async fn traces_json(
    traces: Vec<Trace>,
    missing: &[TraceId],
    cut: Option<String>,
    lacks: &Lacks,
    turn: tokio::sync::OwnedSemaphorePermit,
) -> Result<Response, Failure> {
    let mut chunks = vec![Bytes::from_static(b"{\"data\":[")];
    for (at, trace) in traces.into_iter().enumerate() {
        let text = task::cpu(move || {
            let mut text = if at > 0 { b",".to_vec() } else { Vec::new() };
            serde_json::to_writer(&mut text, &jaeger::trace(&trace.current(false)?)?).context("write a trace")?;
            Ok(text)
        });
        chunks.push(text.await?.into());
    }
    let mut end = format!("],\"total\":0,\"limit\":0,\"offset\":0,\"errors\":{}", errors(missing, lacks));
    if let Some(remarks) = remarks(cut, lacks) {
        end.push_str(&format!(",\"tracefarm\":{remarks}"));
    }
    end.push('}');
    chunks.push(end.into());
    // The turn is over when the last chunk is taken: what waits for a slow reader counts.
    let chunks = stream::iter(chunks.into_iter().map(move |chunk| {
        let _ = &turn;
        Ok::<_, std::convert::Infallible>(chunk)
    }));
    let json = HeaderValue::from_static("application/json");
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, json)], Body::from_stream(chunks)).into_response())
}

/// `/api/dependencies`
pub async fn dependencies(State(farm): State<Farm>, parameters: Parameters) -> Answer {
    let end = match parameters.parsed::<i64>("endTs")? {
        Some(ms) => Timestamp::from_millisecond(ms).map_err(|why| Failure::mistake(format!("`endTs`: {why}")))?,
        None => now(&farm),
    };
    let lookback = Duration::from_millis(parameters.parsed("lookback")?.unwrap_or(24 * 3600 * 1000));
    let start = end.saturating_sub(lookback.0).map_err(|why| Failure::mistake(format!("`lookback`: {why}")))?;
    let service = parameters.get("service");
    let _turn = farm.turn().await?;
    let hours = Hour::of(start)..=Hour::of(end);
    let tell = {
        let hours = hours.clone();
        |reader| async move { dependencies::between(&reader, hours).await }
    };
    let (all, skipped) = farm.query(tell).await.context("tell which service calls which")?;
    let errors = errors(&[], &farm.lacks(&skipped, hours));
    let links =
        all.iter().filter(|link| service.is_none_or(|service| link.caller == service || link.callee == service));
    let shown: Vec<_> =
        links.map(|link| json!({ "parent": link.caller, "child": link.callee, "callCount": link.calls })).collect();
    Ok(Json(json!({ "data": shown, "total": 0, "limit": 0, "offset": 0, "errors": errors })))
}
