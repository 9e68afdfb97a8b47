//! Which requests without a handler a route would have taken: 404s of before the route existed, and requests of
//! frameworks that name no route.
//!
//! This is worked out when publishing and reading; no row moves. Both sides show it: the 404 list says which handlers
//! match a path, the handler shows the requests before its own.

use std::collections::{BTreeMap, HashMap};

use super::Handlers;
use crate::handler::catalogue::Catalogue;
use crate::handler::route::Route;
use crate::model::HandlerId;
use crate::stage::publish::document::Row;
use crate::table::digest::{HandlerDigest, PathDigest};

/// Requests that a handler adopts, the newest first.
pub type Adopted = Vec<PathDigest>;

/// Who adopts what.
#[derive(Clone, Debug, Default)]
pub struct Adoption {
    by_handler: BTreeMap<HandlerId, Adopted>,
    by_list: BTreeMap<HandlerId, HashMap<(String, String), Vec<HandlerId>>>,
    explicit: BTreeMap<HandlerId, HandlerDigest>,
}

/// A route that requests may match.
#[derive(Clone, Debug)]
struct Candidate {
    handler: HandlerId,
    /// `*` takes every method.
    method: String,
    route: Route,
}

/// `service.namespace` and `service.name`.
type Service = (String, String);

impl Adoption {
    /// Among `handlers` (with their 404 lists), the catalogue's explicit routes, and `elsewhere`: handlers that other
    /// parts have published. Pure.
    pub fn of(handlers: &Handlers, catalogue: &Catalogue, elsewhere: &[Row]) -> Self {
        let mut adoption = Self::default();
        let mut routes: HashMap<Service, Vec<Candidate>> = HashMap::new();
        let mut add = |service: Service, handler: &HandlerId, method: &str, route: &str| {
            let route = Route::parse(route);
            // A catch-all would take every 404 there is.
            if route.is_catch_all() {
                return;
            }
            let candidates = routes.entry(service).or_default();
            if !candidates.iter().any(|known| known.handler == *handler && known.route == route) {
                candidates.push(Candidate { handler: handler.clone(), method: method.to_owned(), route });
            }
        };
        for (id, known) in &handlers.0 {
            let digest = &known.digest;
            if let (Some(method), Some(route)) = (&digest.method, &digest.route) {
                add((digest.namespace.clone(), digest.service.clone()), id, method, route);
            }
        }
        for row in elsewhere {
            if let (Some(method), Some(route)) = (&row.method, &row.route) {
                add((row.namespace.clone(), row.service.clone()), &row.id, method, route);
            }
        }
        for route in &catalogue.routes {
            let told = route.told();
            add((route.namespace.clone(), route.service.clone()), &told.id, &route.method, &route.route);
            let digest = HandlerDigest {
                kind: told.kind.to_owned(),
                name: told.name,
                service: route.service.clone(),
                namespace: route.namespace.clone(),
                method: told.method,
                route: Some(route.route.clone()),
                ..HandlerDigest::default()
            };
            adoption.explicit.insert(told.id, digest);
        }
        for (list, known) in &handlers.0 {
            let digest = &known.digest;
            let Some(candidates) = routes.get(&(digest.namespace.clone(), digest.service.clone())) else { continue };
            let not_found = list.is_not_found();
            // Of a handler without a route only routes that people wrote take requests: it served them.
            if !not_found && (digest.kind != "http" || digest.route.is_some()) {
                continue;
            }
            for request in &digest.paths {
                let takes = |candidate: &&Candidate| {
                    (candidate.method == "*" || candidate.method == request.method)
                        && (not_found || adoption.explicit.contains_key(&candidate.handler))
                        && candidate.route.matches(&request.path)
                };
                let mut matching: Vec<&Candidate> = candidates.iter().filter(takes).collect();
                matching.sort_by_key(|candidate| (candidate.route.vagueness(), candidate.handler.clone()));
                // The route that says the most about the path would have taken it.
                if let Some(first) = matching.first() {
                    adoption.by_handler.entry(first.handler.clone()).or_default().push(request.clone());
                    let names = matching.iter().map(|candidate| candidate.handler.clone()).collect();
                    let request = (request.method.clone(), request.path.clone());
                    adoption.by_list.entry(list.clone()).or_default().insert(request, names);
                }
            }
        }
        for requests in adoption.by_handler.values_mut() {
            requests.sort_by(|a, b| (&b.newest, &b.path).cmp(&(&a.newest, &a.path)));
        }
        adoption
    }

    /// What `handler` adopts, the newest first.
    pub fn of_handler(&self, handler: &HandlerId) -> &[PathDigest] {
        self.by_handler.get(handler).map_or(&[], Vec::as_slice)
    }

    /// The handlers whose routes match a request on a 404 list: the first would have taken it.
    pub fn matches(&self, list: &HandlerId, method: &str, path: &str) -> &[HandlerId] {
        let requests = self.by_list.get(list);
        requests.and_then(|requests| requests.get(&(method.to_owned(), path.to_owned()))).map_or(&[], Vec::as_slice)
    }

    /// The handlers of the catalogue's explicit routes, with their names: they are shown even if nothing but requests of
    /// other lists hit them.
    pub fn explicit(&self) -> &BTreeMap<HandlerId, HandlerDigest> {
        &self.explicit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::handlers::Handler;
    use crate::table::digest::EntryRef;

    fn id(text: &str) -> HandlerId {
        text.parse().unwrap()
    }

    fn request(method: &str, path: &str, time_ns: i64) -> PathDigest {
        let newest =
            EntryRef { time_ns, trace_id: String::new(), span_id: String::new(), duration_ns: 0, error: false };
        PathDigest { method: method.to_owned(), path: path.to_owned(), count: 1, errors: 0, newest }
    }

    fn http(route: Option<&str>, paths: Vec<PathDigest>) -> Handler {
        let digest = HandlerDigest {
            kind: "http".to_owned(),
            service: "web".to_owned(),
            method: Some("GET".to_owned()),
            route: route.map(str::to_owned),
            paths,
            ..HandlerDigest::default()
        };
        Handler { digest, ..Handler::default() }
    }

    #[test]
    fn a_route_adopts_the_404s_that_it_would_have_taken() {
        let (list, users, me, all) =
            (id("web/404-00000001"), id("web/u-00000002"), id("web/m-00000003"), id("web/a-00000004"));
        let paths = vec![
            request("GET", "/users/7", 1),
            request("GET", "/users/me", 2),
            request("POST", "/users/7", 3),
            request("GET", "/x", 4),
        ];
        let handlers = Handlers(
            [
                (list.clone(), http(None, paths)),
                (users.clone(), http(Some("/users/:id"), Vec::new())),
                (me.clone(), http(Some("/users/me"), Vec::new())),
                (all, http(Some("/*"), Vec::new())),
            ]
            .into(),
        );
        let adoption = Adoption::of(&handlers, &Catalogue::default(), &[]);
        assert_eq!(adoption.of_handler(&users), [request("GET", "/users/7", 1)]);
        assert_eq!(adoption.of_handler(&me), [request("GET", "/users/me", 2)], "the route that says more takes it");
        assert_eq!(adoption.matches(&list, "GET", "/users/me"), [me, users]);
        assert!(adoption.matches(&list, "POST", "/users/7").is_empty());
        assert!(adoption.matches(&list, "GET", "/x").is_empty(), "a catch-all adopts nothing");
    }
}
