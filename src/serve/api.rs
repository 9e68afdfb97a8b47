//! tracefarm's own API: what `get -o otlp-json` and `search -o json` print.

use std::ops::Bound;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use jiff::SignedDuration;
use serde_json::json;

use super::failure::Failure;
use super::farm::Farm;
use super::parameters::Parameters;
use crate::error::ResultExt;
use crate::model::{HandlerId, Hour, TraceId};
use crate::query::search::{self, Hit, Search, When};
use crate::query::trace::{self, Lookup};
use crate::task;

/// How many blocks an answer lacks, if any.
const SKIPPED_BLOCKS: HeaderName = HeaderName::from_static("tracefarm-skipped-blocks");

/// The most hits of a search.
const MOST_HITS: usize = 1_000;

/// What a search may say.
const SEARCH: [&str; 9] = ["handler", "service", "since", "until", "min_duration", "error", "status", "attr", "limit"];

/// `/healthz`: the server lives, whatever the store does.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// `/api/trace/{id}`: a trace as OTLP/JSON, from the blocks and the pins together. As in a pin all revisions of its spans
/// are there, and when each was received: the top-level key `tracefarm`. With `revisions=newest` or `revisions=first`
/// it is what `get -o otlp-json` prints, without and with `--base`. The header `tracefarm-skipped-blocks` counts the blocks
/// that may hold more of it and cannot be read.
pub async fn trace(
    State(farm): State<Farm>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Response, Failure> {
    parameters.only(&["revisions"])?;
    let base = match parameters.get("revisions") {
        None | Some("all") => None,
        Some("newest") => Some(false),
        Some("first") => Some(true),
        Some(_) => return Err(Failure::mistake("`revisions` is all, newest or first")),
    };
    let id: TraceId = id.parse().map_err(|why| Failure::mistake(format!("{why}")))?;
    let turn = farm.turn().await?;
    let find = move |reader| async move { trace::find(&reader, id).await };
    let (lookup, skipped) = farm.query(find).await.context_with(|| format!("look for {id}"))?;
    let lacks = farm.lacks(&skipped, ..);
    let trace = match lookup {
        Lookup::Found(trace) => trace,
        Lookup::Forgotten => return Err(Failure::missing(format!("trace {id} is to be forgotten"))),
        Lookup::Missing => return Err(Failure::missing(lacks.beside(&format!("trace {id} is not in this store")))),
    };
    let text = task::cpu(move || base.map_or_else(|| trace.pin_json(), |base| trace.otlp_json(base))).await?;
    drop(turn);
    let mut answer = json_text(text);
    if !lacks.0.is_empty() {
        answer.headers_mut().insert(SKIPPED_BLOCKS, lacks.0.len().into());
    }
    Ok(answer)
}

/// `/api/search?…`: `{"hits": […]}` with the fields of `search -o json`, and its options as parameters. Where blocks of its
/// time cannot be read `skipped_blocks` names them.
pub async fn search(State(farm): State<Farm>, parameters: Parameters) -> Result<Json<serde_json::Value>, Failure> {
    parameters.only(&SEARCH)?;
    let (clock, now) = (farm.clock(), farm.clock().wall());
    let now = now.saturating_add(clock.offset()).unwrap_or(now);
    let when = |name: &str| -> Result<_, Failure> {
        let when: Option<When> = parameters.parsed(name)?;
        when.map(|when| when.before(now)).transpose().map_err(|why| Failure::mistake(format!("`{name}`: {why}")))
    };
    let duration = |text: &str| {
        let duration = humantime::parse_duration(text).ok().and_then(|length| SignedDuration::try_from(length).ok());
        duration
            .map(|length| i64::try_from(length.as_nanos()).unwrap_or(i64::MAX))
            .ok_or_else(|| Failure::mistake("`min_duration` is a length of time: 250ms, 2s"))
    };
    let attribute = |text: &str| {
        let (key, value) = text.split_once('=').ok_or_else(|| Failure::mistake("`attr` is written KEY=VALUE"))?;
        Ok::<_, Failure>((key.to_owned(), value.to_owned()))
    };
    let search = Search {
        handler: parameters.parsed::<HandlerId>("handler")?,
        service: parameters.get("service").map(str::to_owned),
        since: when("since")?,
        until: when("until")?,
        min_duration_ns: parameters.get("min_duration").map(duration).transpose()?,
        error: parameters.flag("error")?.then_some(true),
        status: parameters.parsed("status")?,
        attributes: parameters.all("attr").map(attribute).collect::<Result<_, _>>()?,
        limit: parameters.parsed::<usize>("limit")?.unwrap_or(20).clamp(1, MOST_HITS),
        ..Search::default()
    };
    let hours = (
        search.since.map_or(Bound::Unbounded, |since| Bound::Included(Hour::of(since))),
        search.until.map_or(Bound::Unbounded, |until| Bound::Included(Hour::of(until))),
    );
    let _turn = farm.turn().await?;
    let find = |reader| async move { search::search(&reader, &search).await };
    let (hits, skipped): (Vec<Hit>, _) = farm.query(find).await.context("search")?;
    let mut answer = json!({ "hits": hits });
    let lacks = farm.lacks(&skipped, hours);
    if !lacks.0.is_empty() {
        answer["skipped_blocks"] = json!(lacks.0);
    }
    Ok(Json(answer))
}

/// An answer that is JSON already.
pub fn json_text(text: String) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response()
}
