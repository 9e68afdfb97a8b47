//! The table of rules, the first that applies counts.
//!
//! Where spans carry several sets of attributes, the order decides. Two places in it need a reason. An HTTP route goes
//! before RPC: a gateway or a framework that names a route is what was hit first. But RPC goes before HTTP without a
//! route: gRPC and Connect on an HTTP server record the request's method, too, and `POST (no route)` would say nothing
//! where `shop.Cart/GetItem` is known.
//!
//! An unknown RPC method is only told in the new form (`_OTHER`). In the old form a client's invented methods stand
//! there as they came, and are handlers like others (`max_handlers` bounds them): status UNIMPLEMENTED also comes from
//! methods that exist.

use std::borrow::Cow;

use super::id::{handler_id, not_found_id};
use super::route::Route;
use super::template::{self, template};
use super::{Kind, NOT_FOUND, SpanFacts, Told};

/// The methods that are known: RFC 9110, PATCH (RFC 5789) and QUERY, as the semantic conventions list them. Clients can
/// send anything, so others are `_OTHER`.
pub const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"];
/// What the conventions say instead of a name that is not known.
pub const OTHER: &str = "_OTHER";

pub(super) const INTERNAL: i32 = 1;
pub(super) const SERVER: i32 = 2;
pub(super) const CLIENT: i32 = 3;
pub(super) const PRODUCER: i32 = 4;
pub(super) const CONSUMER: i32 = 5;

/// A rule: its name, and what it makes of a span if it applies.
struct Rule {
    name: &'static str,
    tell: fn(&SpanFacts<'_>) -> Option<Name>,
}

/// A handler within its service.
type Name = (Kind, String);

/// In this order.
const TABLE: [Rule; 11] = [
    Rule { name: "handler attribute", tell: handler_attribute },
    Rule { name: "graphql operation", tell: graphql },
    Rule { name: "http route", tell: http_route },
    Rule { name: "rpc method", tell: rpc },
    Rule { name: "http 404 without a route", tell: http_not_found },
    Rule { name: "http span name", tell: http_name },
    Rule { name: "function", tell: faas },
    Rule { name: "messaging destination", tell: messaging },
    Rule { name: "job", tell: job },
    Rule { name: "client", tell: client },
    Rule { name: "span name", tell: span_name },
];

/// Tells which handler an entry span hit: a pure function.
pub fn tell(facts: &SpanFacts<'_>) -> Told {
    // The last rule always applies.
    let (rule, (kind, name)) = TABLE
        .iter()
        .find_map(|rule| Some((rule.name, (rule.tell)(facts)?)))
        .unwrap_or_else(|| ("span name", (Kind::Other, UNNAMED.to_owned())));
    let id = match kind {
        Kind::NotFound => not_found_id(facts.namespace, facts.service),
        _ => handler_id(facts.namespace, facts.service, kind, &name),
    };
    // What a request was is said of whatever served it, but not of requests that went out.
    let is_request = facts.is_http_server();
    let unknown_rpc = kind == Kind::NotFound && !is_request;
    let route = facts.http_route.as_deref().filter(|_| is_request && kind != Kind::NotFound);
    Told {
        id,
        kind: kind.as_str(),
        name,
        method: if unknown_rpc { Some(OTHER) } else { facts.method().filter(|_| is_request).map(known_method) }
            .map(str::to_owned),
        path: if route.is_none() && (is_request || unknown_rpc) { facts.path().map(Cow::into_owned) } else { None },
        route: route.map(|route| shortened(route).to_owned()),
        rule,
    }
}

/// The name of the handler of requests to `route` (in any spelling); `method` as a request's, or `*` for all.
pub(super) fn http_handler_name(method: &str, route: &Route) -> String {
    format!("{method} {route}")
}

/// The method if it is known, else `_OTHER`.
pub(super) fn known_method(method: &str) -> &'static str {
    METHODS.into_iter().find(|known| *known == method).unwrap_or(OTHER)
}

const UNNAMED: &str = "(unnamed)";

fn handler_attribute(facts: &SpanFacts<'_>) -> Option<Name> {
    Some((Kind::Custom, shortened(facts.custom.as_deref()?).to_owned()))
}

/// The type only: the operation's name is the client's to choose.
fn graphql(facts: &SpanFacts<'_>) -> Option<Name> {
    let operation = facts.graphql_type.as_deref()?;
    let known = ["query", "mutation", "subscription"].into_iter().find(|known| *known == operation);
    Some((Kind::Graphql, format!("graphql {}", known.unwrap_or(OTHER))))
}

/// A catch-all is a route unless the answer is that there is no such thing: then nobody knows what was meant.
fn http_route(facts: &SpanFacts<'_>) -> Option<Name> {
    let route = facts.http_route.as_deref().filter(|_| facts.kind == SERVER)?;
    let route = Route::parse(route);
    if facts.is_missing() && route.is_catch_all() {
        return None;
    }
    // Without a method as the conventions name such a span.
    let method = facts.method().map_or("HTTP", known_method);
    Some((Kind::Http, http_handler_name(method, &route)))
}

/// `package.Service/Method`, whether in one attribute (new) or in two (old): an upgrade renames nothing.
fn rpc(facts: &SpanFacts<'_>) -> Option<Name> {
    let method = facts.rpc_method.as_deref().filter(|_| facts.kind == SERVER)?;
    if method == OTHER {
        return Some((Kind::NotFound, NOT_FOUND.to_owned()));
    }
    let method = method.trim_start_matches('/');
    let name = match facts.rpc_service.as_deref() {
        Some(service) if !method.contains('/') => format!("{}/{method}", service.trim_start_matches('/')),
        _ => method.to_owned(),
    };
    Some((Kind::Rpc, shortened(&name).to_owned()))
}

fn http_not_found(facts: &SpanFacts<'_>) -> Option<Name> {
    (facts.is_http_server() && facts.is_missing()).then(|| (Kind::NotFound, NOT_FOUND.to_owned()))
}

/// Frameworks that set no route: some put it into the span's name. `GET /users/:id` there is the handler that it would
/// be with `http.route`, so that an upgrade which sets that renames nothing.
fn http_name(facts: &SpanFacts<'_>) -> Option<Name> {
    if !facts.is_http_server() {
        return None;
    }
    let method = facts.method().map_or("HTTP", known_method);
    let raw = facts.method().unwrap_or_default();
    let mut rest = facts.name.trim();
    // `HTTP GET` (Rack, older Node.js), `GET`, `HTTP` alone say no more than the method.
    for prefix in ["HTTP", raw, method] {
        if let Some(behind) = rest.strip_prefix(prefix)
            && !prefix.is_empty()
            && (behind.is_empty() || behind.starts_with(' '))
        {
            rest = behind.trim_start();
        }
    }
    if rest.is_empty() {
        return Some((Kind::Http, format!("{method} (no route)")));
    }
    let is_path = rest.starts_with('/') || rest.len() < facts.name.trim().len() && rest.contains('/');
    if is_path && !rest.contains(' ') {
        return Some((Kind::Http, http_handler_name(method, &Route::parse(&template(rest)))));
    }
    Some((Kind::Http, template(facts.name.trim()).into_owned()))
}

fn faas(facts: &SpanFacts<'_>) -> Option<Name> {
    let is_invocation = facts.is_faas || facts.faas_trigger.is_some() || facts.faas_name.is_some();
    if !is_invocation || matches!(facts.kind, CLIENT | PRODUCER) {
        return None;
    }
    let name = facts.faas_name.as_deref().or(facts.resource_faas_name).unwrap_or(facts.name);
    let name = if name.is_empty() { UNNAMED } else { shortened(name) };
    let trigger = facts.faas_trigger.as_deref().map(|trigger| {
        // A closed list in the conventions.
        ["datasource", "http", "pubsub", "timer"].into_iter().find(|known| *known == trigger).unwrap_or("other")
    });
    Some((Kind::Faas, trigger.map_or_else(|| name.to_owned(), |trigger| format!("{trigger} {name}"))))
}

/// The operation's type first: old and new conventions and all systems name the types alike (`process`, `receive`), the
/// names (`poll`, `consume`, `ack`) differ. Without an operation the span's name says more: Celery puts the task there.
fn messaging(facts: &SpanFacts<'_>) -> Option<Name> {
    if facts.kind != CONSUMER {
        return None;
    }
    let operations = [&facts.messaging_type, &facts.messaging_operation_old, &facts.messaging_operation];
    let operation = operations.into_iter().find_map(Option::as_deref)?;
    let named = facts.destination.as_deref().or(facts.destination_old.as_deref());
    let destination = match &facts.destination_template {
        Some(template) => Cow::Borrowed(&**template),
        None if facts.destination_is_temporary => Cow::Borrowed("(temporary)"),
        None => template(named?),
    };
    Some((Kind::Messaging, shortened(&format!("{operation} {destination}")).to_owned()))
}

fn job(facts: &SpanFacts<'_>) -> Option<Name> {
    (facts.is_root && facts.kind == INTERNAL).then(|| (Kind::Job, format!("job {}", templated_name(facts))))
}

/// Traces that begin outside a server: a browser, a script, a worker that polls.
fn client(facts: &SpanFacts<'_>) -> Option<Name> {
    if !facts.is_root || !matches!(facts.kind, CLIENT | PRODUCER) {
        return None;
    }
    let name = match (facts.method(), facts.url_template.as_deref()) {
        (Some(method), Some(route)) => http_handler_name(known_method(method), &Route::parse(route)),
        _ => templated_name(facts),
    };
    Some((Kind::Client, format!("client {name}")))
}

fn span_name(facts: &SpanFacts<'_>) -> Option<Name> {
    Some((Kind::Other, templated_name(facts)))
}

fn templated_name(facts: &SpanFacts<'_>) -> String {
    let name = template(facts.name.trim());
    if name.is_empty() { UNNAMED.to_owned() } else { name.into_owned() }
}

/// Names are cut before they are hashed, so that what is shown is what is meant.
fn shortened(name: &str) -> &str {
    &name[..name.floor_char_boundary(template::MAX_BYTES)]
}

#[cfg(test)]
mod tests;
