//! Handlers: which one an entry span hit. A pure function of the span and of the rules' number.

pub mod catalogue;
pub mod route;
pub mod rules;

use arrow::record_batch::RecordBatch;

use crate::error::Result;
use crate::model::HandlerId;

/// The number of the handler rules that this program knows.
pub const RULES: u32 = 1;

/// What the rules are told of beyond the span.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// The rules' number ([`RULES`]).
    pub number: u32,
    /// `handler_attribute`: the attribute that names the handler, if a span has it.
    pub handler_attribute: String,
}

impl Default for Rules {
    fn default() -> Self {
        Self { number: RULES, handler_attribute: "tracefarm.handler".to_owned() }
    }
}

/// What an entry span hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The id.
    pub id: HandlerId,
    /// http, rpc, messaging, faas, graphql, job, client, other, custom or not-found.
    pub kind: &'static str,
    /// The canonical name, eg `GET /products/{id}`.
    pub name: String,
    /// The request's method, known ones and `_OTHER`.
    pub method: Option<String>,
    /// The route in the framework's own spelling.
    pub route: Option<String>,
    /// The path without its query: only without a route.
    pub path: Option<String>,
    /// The number of the rule that applied, and its name: for `explain`.
    pub rule: &'static str,
}

/// The entries among `spans` (a batch of [`crate::table::spans::schema`]) as a batch of
/// [`crate::table::entries::schema`], in the same order. An entry is a span of kind SERVER or CONSUMER, or without a
/// parent.
pub fn entries(spans: &RecordBatch, rules: &Rules) -> Result<RecordBatch> {
    let _ = (spans, rules);
    todo!()
}
