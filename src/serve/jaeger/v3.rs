//! `/api/v3/…`: Jaeger's newer API, with traces as OTLP/JSON.
//!
//! Source: jaegertracing/jaeger, `apiv3/http_gateway.go` and `query_parser.go`. Parameters are known by their names of
//! today (`query.serviceName`) and of before (`query.service_name`).

use std::collections::{BTreeMap, HashSet};

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Value as Json_, json};

use super::query::{self, nanos};
use super::{found, operations_of, remarks, searched, service_names};
use crate::error::Result;
use crate::handler::id::shown_service;
use crate::model::TraceId;
use crate::otlp::encode;
use crate::query::columns::Spans;
use crate::query::skipped::Lacks;
use crate::query::spans::Wanted;
use crate::query::trace::Trace;
use crate::serve::api::json_text;
use crate::serve::failure::Failure;
use crate::serve::farm::Farm;
use crate::serve::parameters::Parameters;
use crate::task;

/// A failure in the shape of gRPC's gateway.
#[derive(Debug)]
pub struct GatewayFailure(Failure);

impl<T: Into<Failure>> From<T> for GatewayFailure {
    fn from(failure: T) -> Self {
        Self(failure.into())
    }
}

impl IntoResponse for GatewayFailure {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "httpCode": self.0.status.as_u16(), "message": self.0.message } });
        self.0.with_body(Json(body))
    }
}

/// What Jaeger says where there is none.
const NONE_FOUND: &str = "No traces found";

type Answer<T = Json<Json_>> = Result<T, GatewayFailure>;

/// `/api/v3/services`
pub async fn services(State(farm): State<Farm>) -> Answer {
    let (names, lacks) = service_names(&farm).await?;
    Ok(remarked(json!({ "services": names }), None, &lacks))
}

/// `/api/v3/operations?service=&spanKind=`
pub async fn operations(State(farm): State<Farm>, parameters: Parameters) -> Answer {
    let service = parameters.get("service").unwrap_or_default();
    let kind = parameters.get_any(&["spanKind", "span_kind"]).map_or("", |(_, kind)| kind);
    let (operations, lacks) = operations_of(&farm, service, kind).await?;
    let shown: Vec<_> = operations.iter().map(|(name, kind)| json!({ "name": name, "spanKind": kind })).collect();
    Ok(remarked(json!({ "operations": shown }), None, &lacks))
}

/// `answer`, with what is said beside it.
fn remarked(mut answer: Json_, cut: Option<String>, lacks: &Lacks) -> Json<Json_> {
    if let Some(remarks) = remarks(cut, lacks) {
        answer["tracefarm"] = remarks;
    }
    Json(answer)
}

/// `/api/v3/traces/{id}`
pub async fn trace(State(farm): State<Farm>, Path(id): Path<String>) -> Answer<Response> {
    let id = trace_id(&id)?;
    let _turn = farm.turn().await?;
    match found(&farm, id).await? {
        (Some(trace), lacks) => Ok(result(vec![trace], remarks(None, &lacks)).await?),
        (None, lacks) => Err(Failure::missing(lacks.beside(NONE_FOUND)).into()),
    }
}

/// `/api/v3/traces?query.serviceName=…`
pub async fn traces(State(farm): State<Farm>, parameters: Parameters) -> Answer<Response> {
    let wanted = wanted(&parameters)?;
    let _turn = farm.turn().await?;
    let (found, lacks) = searched(&farm, wanted).await?;
    if found.traces.is_empty() && found.cut.is_none() {
        return Err(Failure::missing(lacks.beside(NONE_FOUND)).into());
    }
    Ok(result(found.traces, remarks(found.cut, &lacks)).await?)
}

/// `/api/v3/trace-summaries?query.serviceName=…`
pub async fn summaries(State(farm): State<Farm>, parameters: Parameters) -> Answer {
    let wanted = wanted(&parameters)?;
    let _turn = farm.turn().await?;
    let (found, lacks) = searched(&farm, wanted).await?;
    let summaries = found.traces.iter().map(|trace| Ok(summary(trace)?)).collect::<Result<Vec<_>, Failure>>()?;
    Ok(remarked(json!({ "summaries": summaries }), found.cut, &lacks))
}

/// Hexadecimal digits, or as protobuf's JSON has bytes.
fn trace_id(text: &str) -> Result<TraceId, Failure> {
    query::trace_id(text).or_else(|failure| {
        let encodings = [STANDARD, URL_SAFE, STANDARD_NO_PAD, URL_SAFE_NO_PAD];
        let bytes = encodings.iter().find_map(|encoding| encoding.decode(text).ok());
        bytes.and_then(|bytes| TraceId::from_slice(&bytes)).ok_or(failure)
    })
}

fn wanted(parameters: &Parameters) -> Result<Wanted, Failure> {
    let get = |names: [&'static str; 2]| parameters.get_any(&names).map(|(_, value)| value.to_owned());
    let time = |names: [&'static str; 2]| -> Result<i64, Failure> {
        let (name, value) = parameters
            .get_any(&names)
            .ok_or_else(|| Failure::mistake("query.startTimeMin and query.startTimeMax are required"))?;
        let time: Timestamp =
            value.parse().map_err(|why| Failure::mistake(format!("malformed parameter {name}: {why}")))?;
        Ok(nanos(time))
    };
    let length = |names: [&'static str; 2]| match parameters.get_any(&names) {
        Some((name, _)) => query::length(parameters, name),
        None => Ok(None),
    };
    let depth = ["query.searchDepth", "query.search_depth", "query.num_traces"];
    let depth = parameters.get_any(&depth).map(|(name, _)| parameters.parsed(name)).transpose()?.flatten();
    let attributes = match parameters.get("query.attributes") {
        Some(json) => query::object(json)
            .map_err(|why| Failure::mistake(format!("malformed parameter query.attributes: {why}")))?,
        None => BTreeMap::new(),
    };
    if parameters.get("query.filter").is_some() {
        return Err(Failure::mistake("query.filter is not known here: say query.attributes"));
    }
    let wanted = Wanted {
        service: get(["query.serviceName", "query.service_name"]),
        operation: get(["query.operationName", "query.operation_name"]),
        attributes: attributes.into_iter().collect(),
        since_ns: time(["query.startTimeMin", "query.start_time_min"])?,
        until_ns: time(["query.startTimeMax", "query.start_time_max"])?,
        min_duration_ns: length(["query.durationMin", "query.duration_min"])?,
        max_duration_ns: length(["query.durationMax", "query.duration_max"])?,
        limit: query::limit(depth)?,
    };
    if wanted.since_ns >= wanted.until_ns {
        return Err(Failure::mistake("query.startTimeMin must be before query.startTimeMax"));
    }
    wanted.checked()
}

/// `{"result": <OTLP/JSON>}`
async fn result(traces: Vec<Trace>, remarks: Option<Json_>) -> Result<Response, Failure> {
    let text = task::cpu(move || {
        let rows = traces.iter().map(|trace| trace.current(false)).collect::<Result<Vec<_>>>()?;
        let mut text = format!("{{\"result\":{}", encode::traces_data(&rows)?);
        if let Some(remarks) = remarks {
            text.push_str(&format!(",\"tracefarm\":{remarks}"));
        }
        text.push('}');
        Ok(text)
    });
    Ok(json_text(text.await?))
}

/// What is empty or zero is left out, as protobuf's JSON does; 64-bit numbers are text.
fn summary(trace: &Trace) -> Result<Json_> {
    let rows = trace.current(false)?;
    let spans = Spans::of(&rows)?;
    let all = 0..spans.len();
    let is_error = |row: usize| spans.status(row) == 2;
    let ids: HashSet<_> = all.clone().map(|row| spans.span(row)).collect();
    let root = all.clone().filter(|row| spans.parent(*row).is_none()).min_by_key(|row| spans.start(*row));
    let mut services: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for row in all.clone() {
        let counts = services.entry(shown_service(spans.service.or_empty(row))).or_default();
        counts.0 += 1;
        counts.1 += u64::from(is_error(row));
    }
    let counted = |name: &str, errors: u64| if errors == 0 { Json_::Null } else { json!({ name: errors }) };
    let mut summary = json!({
        "traceId": trace.id.to_string(),
        "minStartTimeUnixNano": all.clone().map(|row| spans.start(row)).min().unwrap_or(0).to_string(),
        "maxEndTimeUnixNano": all.clone().map(|row| spans.end(row)).max().unwrap_or(0).to_string(),
        "spanCount": spans.len(),
        "services": services.iter().map(|(name, (spans, errors))| {
            joined(json!({ "name": name, "spanCount": spans }), counted("errorSpanCount", *errors))
        }).collect::<Vec<_>>(),
    });
    if let Some(root) = root {
        let service = shown_service(spans.service.or_empty(root));
        summary =
            joined(summary, json!({ "rootServiceName": service, "rootOperationName": spans.name.or_empty(root) }));
    }
    let errors = all.clone().filter(|row| is_error(*row)).count() as u64;
    let orphans = all.filter(|row| spans.parent(*row).is_some_and(|parent| !ids.contains(&parent))).count() as u64;
    Ok(joined(joined(summary, counted("errorSpanCount", errors)), counted("orphanSpanCount", orphans)))
}

/// The members of both.
fn joined(mut object: Json_, more: Json_) -> Json_ {
    if let (Some(object), Json_::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::testing::{self, Span};

    #[test]
    fn a_search_is_known_by_names_of_today_and_of_before() {
        let of = |query: &str| wanted(&Parameters::from(query)).map_err(|failure| failure.message);
        let time = "query.startTimeMin=2026-11-22T00:00:00Z&query.startTimeMax=2026-11-22T01:00:00.5Z";
        let now = of(&format!("{time}&query.serviceName=web&query.searchDepth=5&query.durationMin=1ms")).unwrap();
        assert_eq!((now.service.as_deref(), now.limit, now.min_duration_ns), (Some("web"), 5, Some(1_000_000)));
        assert_eq!(now.until_ns - now.since_ns, 3_600_500_000_000);
        let before = "query.start_time_min=2026-11-22T00:00:00Z&query.start_time_max=2026-11-22T01:00:00.5Z\
                      &query.service_name=web&query.num_traces=5&query.duration_min=1ms";
        assert_eq!(format!("{:?}", of(before).unwrap()), format!("{now:?}"));
        let tags = of(&format!("{time}&query.attributes=%7B%22a%22%3A%22b%22%7D")).unwrap().attributes;
        assert_eq!(tags, [("a".to_owned(), "b".to_owned())]);
        for (query, part) in [
            ("query.serviceName=web", "are required"),
            ("query.startTimeMin=x&query.startTimeMax=y", "malformed parameter query.startTimeMin"),
            (&format!("{time}&query.searchDepth=x"), "query.searchDepth"),
            ("query.startTimeMin=2026-11-22T00:00:00Z&query.startTimeMax=2026-11-22T00:00:00Z", "must be before"),
        ] {
            assert!(of(query).unwrap_err().contains(part), "{query}");
        }
    }

    #[test]
    fn ids_are_hex_or_base64() {
        let id = trace_id("0102030405060708090a0b0c0d0e0f10").unwrap();
        assert_eq!(trace_id("AQIDBAUGBwgJCgsMDQ4PEA==").unwrap(), id);
        assert_eq!(trace_id("AQIDBAUGBwgJCgsMDQ4PEA").unwrap(), id);
        assert!(trace_id("AQID").is_err() && trace_id("!").is_err());
    }

    #[test]
    fn a_summary_counts_spans_errors_and_orphans() {
        let rows = testing::rows(&[
            Span::new(1, 0, "GET /").at(1_000).lasting(90).kind(2).service("web"),
            Span::new(2, 1, "query").at(1_010).lasting(20).service("db").error("no luck"),
            Span::new(3, 9, "late").at(1_050).lasting(100).service("db"),
        ]);
        let trace = Trace { id: TraceId([7; 16]), rows, blocks: Vec::new(), pins: Vec::new() };
        let expected = json!({
            "traceId": "07070707070707070707070707070707",
            "rootServiceName": "web",
            "rootOperationName": "GET /",
            "minStartTimeUnixNano": "1000",
            "maxEndTimeUnixNano": "1150",
            "spanCount": 3,
            "errorSpanCount": 1,
            "orphanSpanCount": 1,
            "services": [{ "name": "db", "spanCount": 2, "errorSpanCount": 1 }, { "name": "web", "spanCount": 1 }],
        });
        assert_eq!(summary(&trace).unwrap(), expected);
    }
}
