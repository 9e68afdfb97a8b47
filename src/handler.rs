//! Handlers: which one an entry span hit. A pure function of the span and of the rules' number.
//!
//! ```text
//! span ─▶ facts ─▶ rules (the first that applies) ─▶ kind, canonical name ─▶ id
//! ```
//!
//! [`entries()`] does that for a batch, [`explain`] says of each entry which rule applied. What people change about
//! handlers afterwards (aliases, explicit routes) is in [`catalogue`] and moves no row.

pub mod catalogue;
mod entries;
mod facts;
pub mod id;
pub mod route;
pub mod rules;
mod template;

pub use entries::{entries, explain};
pub use facts::SpanFacts;
pub use rules::tell;

use crate::model::HandlerId;

/// The number of the handler rules that this program knows. Whatever gives a span another id than before (a rule, the
/// canonical spelling of a route, a template) is a new number.
pub const RULES: u32 = 1;

/// The canonical name of every service's list of requests that hit no handler.
pub const NOT_FOUND: &str = "404";

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

/// What sort of thing a handler is. Part of the hash in its id, so that a job and a route of one name are two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Named by an attribute of the user's own.
    Custom,
    /// A type of GraphQL operation.
    Graphql,
    /// An HTTP route, or what stands for one.
    Http,
    /// A method of a service.
    Rpc,
    /// A service's list of requests that hit no handler.
    NotFound,
    /// A function.
    Faas,
    /// A consumer of a queue or topic.
    Messaging,
    /// A root span of kind INTERNAL.
    Job,
    /// A root span of kind CLIENT or PRODUCER: a trace that begins outside a server.
    Client,
    /// Anything else.
    Other,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Custom,
        Self::Graphql,
        Self::Http,
        Self::Rpc,
        Self::NotFound,
        Self::Faas,
        Self::Messaging,
        Self::Job,
        Self::Client,
        Self::Other,
    ];

    /// As it stands in tables, pages and the hash.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Custom => "custom",
            Self::Graphql => "graphql",
            Self::Http => "http",
            Self::Rpc => "rpc",
            Self::NotFound => "not-found",
            Self::Faas => "faas",
            Self::Messaging => "messaging",
            Self::Job => "job",
            Self::Client => "client",
            Self::Other => "other",
        }
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
    /// The name of the rule that applied: for `explain`.
    pub rule: &'static str,
}
