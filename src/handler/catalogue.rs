//! What people say of handlers: aliases, explicit routes, names, how many traces to keep. Applied when publishing and
//! reading, never when indexing.

use std::collections::BTreeMap;

use crate::model::HandlerId;

/// A version of the catalogue: `farm/handlers/<sequence>.json`.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Catalogue {
    /// Renames: the old or extra id → the id under which its entries count. Chains are followed; a cycle is refused.
    pub aliases: BTreeMap<HandlerId, HandlerId>,
    /// Routes written by people for requests that a framework names by path alone.
    pub routes: Vec<ExplicitRoute>,
    /// `keep_last` of single handlers.
    pub keep_last: BTreeMap<HandlerId, u32>,
    /// Handlers that were removed: their pins go, and they leave the list unless they are hit again after this time.
    pub removed: BTreeMap<HandlerId, jiff::Timestamp>,
}

/// A route of one service.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplicitRoute {
    /// `service.name`
    pub service: String,
    /// `service.namespace`, empty if none.
    #[serde(default)]
    pub namespace: String,
    /// A method, or `*`.
    pub method: String,
    /// A route in any framework's spelling.
    pub route: String,
}
