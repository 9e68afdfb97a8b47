//! The documents of `site/`: what browsers and programs read without tracefarm.
//!
//! | object | document |
//! | --- | --- |
//! | `site/handlers.json` | [`Handlers`]: every handler with its numbers, every 404 list |
//! | `site/handlers/<handler>/summary.json` | [`Summary`]: one handler in full |
//! | `site/handlers/<handler>/traces.json.gz` | gzip'd OTLP/JSON: the traces that the summary names |
//! | `site/traces/<trace id>.json.gz` | likewise, one trace that is too large to stand with others |
//! | `site/handlers/<handler>/extra/**` | whatever the store's `publish_command` made of the handler: see [`Extra`] |
//! | `site/not-found/<list>.json` | [`NotFound`]: requests of a service that hit no handler |
//! | `site/farm.json` | [`Farm`](super::farm::Farm): who works, what waits, what fails |
//! | `site/parts/<entries shard>.json` | [`Part`]: one shard's part of the list, and what it was made from |
//!
//! The fields are stable: they are added to, and [`SUMMARY_VERSION`] says when a meaning changed. Times that people look
//! at are milliseconds since 1970, durations milliseconds with a fraction: both are exact enough in a browser's numbers.
//! `schema/` beside this file holds a JSON Schema of each, made from these types by a test.
//!
//! The gzip'd ones are stored without Content-Encoding: readers look at the bytes. Beside the OTLP they have the
//! top-level key `tracefarm` that pins have, too ([`crate::query::pin`]).

use std::collections::BTreeMap;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::HandlerId;

/// The version of the documents that this program writes. Another one in a document makes it stale.
pub const SUMMARY_VERSION: u32 = 1;

/// `site/handlers.json`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Handlers {
    /// [`SUMMARY_VERSION`]
    pub version: u32,
    /// The parts that this list was made from: shard → etag of `site/parts/<shard>.json`.
    pub parts: BTreeMap<String, String>,
    /// The handlers, by service, then the busiest first.
    pub handlers: Vec<Row>,
    /// What handlers beyond `max_handlers` of a service come to.
    pub others: Vec<Others>,
    /// The 404 lists.
    pub not_found: Vec<NotFoundRow>,
}

/// A handler with its numbers: of everything that is kept in blocks (`keep_for`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Row {
    /// Its id, eg `web/get-products-id-5b1f0c3a`.
    #[cfg_attr(test, schemars(with = "String"))]
    pub id: HandlerId,
    /// Ids whose entries count here, too (renames).
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub aliases: Vec<HandlerId>,
    /// `service.name`; `unknown_service` if there is none.
    pub service: String,
    /// `service.namespace`, empty if there is none.
    pub namespace: String,
    /// http, rpc, messaging, faas, graphql, job, client, other, custom or not-found.
    pub kind: String,
    /// The canonical name, eg `GET /products/{id}`.
    pub name: String,
    /// The request's method, if the handler is one of requests.
    pub method: Option<String>,
    /// The route in the framework's own spelling.
    pub route: Option<String>,
    /// Entries.
    pub count: u64,
    /// Those with status error, or HTTP status 5xx.
    pub errors: u64,
    /// When the newest entry started, pinned ones included; milliseconds since 1970.
    pub last_ms: Option<i64>,
    /// Half of the entries took at most so many milliseconds (within 1 %), and so on.
    pub p50_ms: Option<f64>,
    /// See `p50_ms`.
    pub p95_ms: Option<f64>,
    /// See `p50_ms`.
    pub p99_ms: Option<f64>,
    /// Entries an hour, oldest first, of the last hours that have any: for a spark line.
    pub spark: Vec<u64>,
    /// Requests of the 404 list whose paths this handler's route matches.
    pub adopted: u64,
}

/// Handlers of one service that are too many to be shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Others {
    /// `service.name`; `unknown_service` if there is none.
    pub service: String,
    /// How many.
    pub handlers: u64,
    /// Their entries.
    pub count: u64,
    /// Those with an error.
    pub errors: u64,
}

/// A 404 list in the list of handlers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct NotFoundRow {
    /// `service.name`; `unknown_service` if there is none.
    pub service: String,
    /// `service.namespace`, empty if there is none.
    pub namespace: String,
    /// The id under which its requests are indexed.
    #[cfg_attr(test, schemars(with = "String"))]
    pub handler: HandlerId,
    /// The document: `site/not-found/<list>.json`.
    pub list: String,
    /// Requests.
    pub count: u64,
    /// How many methods and paths the document lists.
    pub paths: u64,
    /// When the newest started; milliseconds since 1970.
    pub last_ms: Option<i64>,
}

/// `site/handlers/<handler>/summary.json`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Summary {
    /// [`SUMMARY_VERSION`]
    pub version: u32,
    /// The number of the catalogue that was applied.
    pub catalogue: u64,
    /// The numbers of the list of handlers.
    pub handler: Row,
    /// When the oldest entry that is still in a block started; milliseconds since 1970.
    pub first_ms: Option<i64>,
    /// How long entries took.
    pub latency: Vec<Quantile>,
    /// The same as a histogram.
    pub histogram: Vec<Bucket>,
    /// Entries by HTTP status.
    pub statuses: BTreeMap<String, u64>,
    /// Errors by type, the most frequent first.
    pub error_types: Vec<ErrorType>,
    /// Entries over time, oldest first: by minute for the newest hours, by hour before.
    pub history: Vec<Point>,
    /// The newest traces, newest first: `keep_last` of them.
    pub newest: Vec<Entry>,
    /// The newest traces with an error, newest first.
    pub newest_errors: Vec<Entry>,
    /// The slowest traces, slowest first.
    pub slowest: Vec<Entry>,
    /// Where else newest traces lie: a page cannot list `latest/`.
    pub pins: Vec<Pin>,
    /// What the handler calls, the most frequent first; known once spans are compacted.
    pub calls: Vec<Call>,
    /// Requests of the 404 list whose paths this handler's route matches: they came before the route did.
    pub adopted: Vec<Path>,
    /// When a person wrote its route (`handlers add`); milliseconds since 1970, by the store's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_added_ms: Option<i64>,
    /// Of a handler of requests without a route: its paths, the newest first.
    pub paths: Vec<Path>,
    /// What the store's `publish_command` made of the handler, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extras: Vec<Extra>,
    /// Why that command failed when it was last run; the extras are older then, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_error: Option<String>,
}

/// A file that a user's own program wrote: whatever it holds, traces have a part in it. Hostile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Extra {
    /// Its name as the program wrote it, eg `img/flame.svg`.
    pub name: String,
    /// The object, within the store: `site/handlers/<handler>/extra/<name>`, the name escaped.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// What its name says that it is, eg `image/svg+xml`.
    pub content_type: String,
}

/// A quantile of latency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Quantile {
    /// 0 to 1.
    pub quantile: f64,
    /// That part of the entries took at most so many milliseconds (within 1 %).
    pub ms: f64,
}

/// A bar of the latency histogram.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Bucket {
    /// Milliseconds: the bar's upper end; none for the last.
    pub le_ms: Option<f64>,
    /// Entries above the bar before and up to this end.
    pub count: u64,
}

/// Errors of one type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct ErrorType {
    /// `error.type`, empty if the spans say none.
    #[serde(rename = "type")]
    pub kind: String,
    /// How many.
    pub count: u64,
    /// The newest.
    pub example: Option<Entry>,
}

/// Entries of one minute or hour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Point {
    /// When it begins; milliseconds since 1970.
    pub start_ms: i64,
    /// How long it is: 60 or 3600.
    pub seconds: u32,
    /// Entries.
    pub count: u64,
    /// Those with an error.
    pub errors: u64,
}

/// A trace by one of its entries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Entry {
    /// The trace, in hex.
    pub trace_id: String,
    /// The entry span, in hex.
    pub span_id: String,
    /// When it started; milliseconds since 1970.
    pub start_ms: i64,
    /// How long it took.
    pub duration_ms: f64,
    /// Whether it is an error.
    pub error: bool,
}

/// A pinned trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Pin {
    /// The trace, in hex.
    pub trace_id: String,
    /// When its newest entry of this handler started; milliseconds since 1970.
    pub start_ms: i64,
    /// The object, within the store.
    pub key: String,
}

/// What a handler calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Call {
    /// The service called, or a database system (`sqlite`, `redis`), or empty if nobody told.
    pub service: String,
    /// The name of the span at the other end, or of the calling span if there is none.
    pub operation: String,
    /// How often.
    pub count: u64,
    /// Those with an error.
    pub errors: u64,
    /// Half of the calls took at most so many milliseconds, seen by the caller (within 1 %).
    pub p50_ms: Option<f64>,
    /// See `p50_ms`.
    pub p95_ms: Option<f64>,
}

/// Requests of one method and path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Path {
    /// The method.
    pub method: String,
    /// The path, without its query. Whatever a client sent: hostile text.
    pub path: String,
    /// How many.
    pub count: u64,
    /// When the newest started; milliseconds since 1970.
    pub last_ms: i64,
    /// The newest.
    pub newest: Entry,
    /// Of a 404 list: the handlers whose routes match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub matches: Vec<HandlerId>,
}

/// `site/not-found/<list>.json`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct NotFound {
    /// [`SUMMARY_VERSION`]
    pub version: u32,
    /// The number of the catalogue that was applied.
    pub catalogue: u64,
    /// The list's line in the list of handlers.
    pub list: NotFoundRow,
    /// The newest methods and paths, newest first; at most 1,000.
    pub requests: Vec<Path>,
}

/// `site/parts/<entries shard>.json`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Part {
    /// What it was made from: another answer of the store makes it stale.
    pub made_from: MadeFrom,
    /// Spans that were written later may belong to a trace that is shown; the store's clock, milliseconds since 1970.
    pub spans_until_ms: i64,
    /// The handlers of this shard.
    pub handlers: Vec<PartRow>,
    /// What handlers beyond `max_handlers` come to.
    pub others: Vec<Others>,
    /// The 404 lists of this shard.
    pub not_found: Vec<PartList>,
}

/// What a part was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct MadeFrom {
    /// [`SUMMARY_VERSION`]
    pub version: u32,
    /// The catalogue's number.
    pub catalogue: u64,
    /// A hash of what the settings say of publishing.
    pub settings: String,
    /// A hash of the names of the blocks of entries that were visible.
    pub entries: String,
    /// A hash of the names of the blocks of spans that were visible.
    pub spans: String,
    /// A hash of the names of the pins of these handlers.
    pub pins: String,
    /// A hash of the tombstones.
    pub forgotten: String,
    /// A hash of the routes that other parts' handlers have: a 404 list says which match.
    pub routes: String,
}

/// A handler in its part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct PartRow {
    /// Its line in the list of handlers.
    pub row: Row,
    /// A hash of all that its summary is made of: digests, pins, what the catalogue and the settings say of it.
    pub inputs: String,
    /// The etag of its summary.
    pub summary_etag: String,
    /// A hash of the names of the traces (with the hours in which they are looked for, and their pins) that its
    /// `traces.json.gz` shows.
    pub traces: String,
    /// A hash of its bytes: compaction moves rows to new blocks without changing them.
    pub traces_body: String,
    /// The etag of that.
    pub traces_etag: String,
    /// Traces that are objects of their own, in hex.
    pub large: Vec<String>,
    /// What the store's `publish_command` made of it, or failed to make.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extras: Option<Extras>,
}

/// A handler's extras in its part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Extras {
    /// A hash of what the files were made of: the command, and what it was given. Empty if there are none yet.
    pub made_from: String,
    /// [`MadeFrom::forgotten`] of then: files that are older than a tombstone may hold what is to be forgotten.
    pub forgotten: String,
    /// The files, by name.
    pub files: Vec<ExtraFile>,
    /// Why the command failed when it was last run; the files are those of before then.
    pub error: Option<String>,
}

/// An extra in its part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct ExtraFile {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// A hash of its bytes.
    pub body: String,
    /// Its etag.
    pub etag: String,
}

/// A 404 list in its part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct PartList {
    /// Its line in the list of handlers.
    pub row: NotFoundRow,
    /// A hash of its document's bytes.
    pub inputs: String,
    /// The etag of its document.
    pub etag: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The schemas in the repository are those of the types. `UPDATE_SCHEMAS=1 cargo test schemas` writes them.
    #[test]
    fn the_schemas_are_those_of_the_types() {
        let schemas = [
            ("handlers", schemars::schema_for!(Handlers)),
            ("summary", schemars::schema_for!(Summary)),
            ("not-found", schemars::schema_for!(NotFound)),
            ("part", schemars::schema_for!(Part)),
            ("farm", schemars::schema_for!(crate::stage::publish::farm::Farm)),
        ];
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/stage/publish/schema");
        for (name, schema) in schemas {
            let made = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
            let file = folder.join(format!("{name}.json"));
            if std::env::var_os("UPDATE_SCHEMAS").is_some() {
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&file, &made).unwrap();
            }
            let there = std::fs::read_to_string(&file).unwrap_or_default();
            assert!(there == made, "{} is not what the types say: UPDATE_SCHEMAS=1 cargo test schemas", file.display());
        }
    }
}
