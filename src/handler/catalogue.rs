//! What people say of handlers: aliases, explicit routes, names, how many traces to keep. Applied when publishing and
//! reading, never when indexing.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::id::handler_id;
use super::route::Route;
use super::rules::{METHODS, OTHER, http_handler_name};
use super::{Kind, Told};
use crate::error::Result;
use crate::farm::documents::{self, Document};
use crate::model::HandlerId;
use crate::store::{Key, Prefix, Store};
use crate::table::digest::NEWEST_KEPT;

/// A version of the catalogue: `farm/handlers/<sequence>.json`.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Catalogue {
    /// Renames: the new or extra id → the id under which its entries count. Chains are followed; a cycle is refused.
    pub aliases: BTreeMap<HandlerId, HandlerId>,
    /// Routes written by people for requests that a framework names by path alone.
    pub routes: Vec<ExplicitRoute>,
    /// `keep_last` of single handlers.
    pub keep_last: BTreeMap<HandlerId, u32>,
    /// Handlers that were removed: their pins go, and they leave the list unless they are hit again after this time.
    pub removed: BTreeMap<HandlerId, Timestamp>,
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
    /// When it was written, by the store's clock; none if nobody noted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added: Option<Timestamp>,
}

impl ExplicitRoute {
    /// The handler of this route: for one method the same that a framework's own `http.route` would give, so that its
    /// spans join it when the framework learns to name the route; for `*` one of its own.
    pub fn told(&self) -> Told {
        let name = http_handler_name(&self.method, &Route::parse(&self.route));
        Told {
            id: handler_id(&self.namespace, &self.service, Kind::Http, &name),
            kind: Kind::Http.as_str(),
            name,
            method: Some(self.method.clone()),
            route: Some(self.route.clone()),
            path: None,
            rule: "explicit route",
        }
    }

    /// Whether it takes a request.
    pub fn matches(&self, method: &str, path: &str) -> bool {
        (self.method == "*" || self.method == method) && Route::parse(&self.route).matches(path)
    }

    /// Whether this is the same route: one service, one method, one canonical spelling.
    fn is_same(&self, other: &Self) -> bool {
        self.told().id == other.told().id
    }
}

impl Catalogue {
    /// The newest catalogue and its number; number 0 and an empty one if there is none yet.
    pub async fn load(store: &Store) -> Result<(u64, Self)> {
        documents::load_newest(store).await
    }

    /// The id under which the entries of `id` count. Chains are followed to their end.
    pub fn canonical<'a>(&'a self, id: &'a HandlerId) -> &'a HandlerId {
        let mut at = id;
        // A catalogue with a cycle is refused when it is read or written; one made by hand must not hang all the same.
        for _ in 0..=self.aliases.len() {
            match self.aliases.get(at) {
                Some(next) => at = next,
                None => return at,
            }
        }
        id
    }

    /// The ids that count under `id`, in order, itself included: those with which rows may have been indexed. Nothing
    /// counts under an id that is itself an alias.
    pub fn sources(&self, id: &HandlerId) -> Vec<HandlerId> {
        let mut sources: Vec<HandlerId> =
            self.aliases.keys().chain([id]).filter(|source| self.canonical(source) == id).cloned().collect();
        sources.sort_unstable();
        sources.dedup();
        sources
    }

    /// How many of the newest traces of a handler stay, if somebody said so of it. `id` may be one of its aliases: the
    /// word of the handler it counts as goes before its own.
    pub fn keep_last(&self, id: &HandlerId) -> Option<u32> {
        self.keep_last.get(self.canonical(id)).or_else(|| self.keep_last.get(id)).copied()
    }

    /// Whether a handler counts as removed whose newest entry is of `newest_ns` (nanoseconds since 1970): it was removed
    /// and has not been hit since.
    pub fn is_removed(&self, id: &HandlerId, newest_ns: i64) -> bool {
        self.removed.get(id).is_some_and(|at| i128::from(newest_ns) <= at.as_nanosecond())
    }

    /// A route was renamed: what hit `new` counts as the old handler, which stays, before and after.
    ///
    /// # Errors
    /// A sentence, if `old` already counts as `new`.
    pub fn rename(&mut self, old: &HandlerId, new: &HandlerId) -> Result<(), String> {
        self.alias(new, old)
    }

    /// Makes `id` count as `other`, before and after.
    ///
    /// # Errors
    /// A sentence, if `other` already counts as `id`.
    pub fn alias(&mut self, id: &HandlerId, other: &HandlerId) -> Result<(), String> {
        if id == other {
            return Err(format!("{id} counts as itself already"));
        }
        // What `id` counted as until now does not count any more.
        let previous = self.aliases.remove(id);
        if self.canonical(other) == id {
            self.aliases.extend(previous.map(|previous| (id.clone(), previous)));
            return Err(format!("{other} counts as {id} already; the other way round it would be a circle"));
        }
        self.aliases.insert(id.clone(), other.clone());
        Ok(())
    }

    /// Adds a route, if the service does not have it yet in some spelling.
    ///
    /// # Errors
    /// A sentence, if its method is none, or it would take every request.
    pub fn add(&mut self, route: ExplicitRoute) -> Result<Told, String> {
        route.check()?;
        if !self.routes.iter().any(|known| known.is_same(&route)) {
            self.routes.push(route.clone());
        }
        Ok(route.told())
    }

    /// Drops what the catalogue says of a handler, and notes the time (the store's): it leaves the list until it is hit
    /// again, and its pins go. Ids that count as it are removed with it.
    pub fn remove(&mut self, id: &HandlerId, now: Timestamp) {
        for source in self.sources(id) {
            self.removed.insert(source, now);
        }
        self.removed.insert(id.clone(), now);
        self.keep_last.remove(id);
        self.routes.retain(|route| route.told().id != *id);
    }

    /// When the route of a handler was written by a person, if it was; `id` counts as no other.
    pub fn added(&self, id: &HandlerId) -> Option<Timestamp> {
        let of_handler = self.routes.iter().filter(|route| self.canonical(&route.told().id) == id);
        of_handler.filter_map(|route| route.added).min()
    }

    /// The explicit route that takes a request of a service; of several the least vague one, a method before `*`, then
    /// the one whose handler's id sorts first.
    pub fn route_of(&self, namespace: &str, service: &str, method: &str, path: &str) -> Option<&ExplicitRoute> {
        let of_service = |route: &&ExplicitRoute| route.namespace == namespace && route.service == service;
        let routes = self.routes.iter().filter(of_service).filter(|route| route.matches(method, path));
        routes.min_by_key(|route| (Route::parse(&route.route).vagueness(), route.method == "*", route.told().id))
    }
}

impl ExplicitRoute {
    fn check(&self) -> Result<(), String> {
        if self.method != "*" && self.method != OTHER && !METHODS.contains(&self.method.as_str()) {
            return Err(format!("`{}` is no method: it is * or one of {}", self.method, METHODS.join(", ")));
        }
        if Route::parse(&self.route).is_catch_all() {
            return Err(format!("the route `{}` of {} would take every request", self.route, self.service));
        }
        Ok(())
    }
}

impl Document for Catalogue {
    const NOUN: &'static str = "handlers' catalogue";

    fn prefix() -> Prefix {
        Prefix::Catalogue
    }

    fn key(number: u64) -> Key {
        Key::Catalogue(number)
    }

    fn number(key: &Key) -> Option<u64> {
        if let Key::Catalogue(number) = key { Some(*number) } else { None }
    }

    fn check(&self) -> Result<(), String> {
        if let Some(id) = self.aliases.keys().find(|id| self.aliases.contains_key(self.canonical(id))) {
            return Err(format!("{id} is an alias that leads round in a circle"));
        }
        if let Some((id, keep)) = self.keep_last.iter().find(|(_, keep)| !(1..=NEWEST_KEPT as u32).contains(keep)) {
            return Err(format!("of {id} between 1 and {NEWEST_KEPT} traces can be kept, not {keep}"));
        }
        self.routes.iter().try_for_each(ExplicitRoute::check)
    }
}

/// The handlers that a service shows: the `most` busiest, and how many entries those have together that are left out.
/// `counts` are (id, entries); of two that are equally busy the first id is shown. What is shown stands in order of id.
pub fn busiest(counts: &[(HandlerId, u64)], most: usize) -> (Vec<HandlerId>, u64) {
    let mut order: Vec<&(HandlerId, u64)> = counts.iter().collect();
    order.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let (shown, rest) = order.split_at(most.min(order.len()));
    let mut shown: Vec<HandlerId> = shown.iter().map(|(id, _)| id.clone()).collect();
    shown.sort_unstable();
    (shown, rest.iter().map(|(_, count)| count).sum())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> HandlerId {
        format!("web/{text}-00000000").parse().unwrap()
    }

    fn route(method: &str, route: &str) -> ExplicitRoute {
        ExplicitRoute {
            service: "web".to_owned(),
            namespace: String::new(),
            method: method.to_owned(),
            route: route.to_owned(),
            added: None,
        }
    }

    #[test]
    fn a_chain_of_aliases_is_followed_to_its_end() {
        let mut catalogue = Catalogue::default();
        catalogue.alias(&id("a"), &id("b")).unwrap();
        catalogue.alias(&id("b"), &id("c")).unwrap();
        catalogue.alias(&id("x"), &id("b")).unwrap();
        assert_eq!(*catalogue.canonical(&id("a")), id("c"));
        assert_eq!(*catalogue.canonical(&id("z")), id("z"));
        assert_eq!(catalogue.sources(&id("c")), [id("a"), id("b"), id("c"), id("x")]);
        assert_eq!(catalogue.sources(&id("z")), [id("z")]);
        assert_eq!(catalogue.sources(&id("b")), [], "it counts as another");
        assert_eq!(catalogue.check(), Ok(()));
    }

    #[test]
    fn a_circle_of_aliases_is_refused_and_hangs_nobody() {
        let mut catalogue = Catalogue::default();
        catalogue.alias(&id("a"), &id("b")).unwrap();
        catalogue.alias(&id("b"), &id("c")).unwrap();
        assert!(catalogue.alias(&id("c"), &id("a")).is_err());
        assert!(catalogue.alias(&id("c"), &id("c")).is_err());
        assert_eq!(catalogue.check(), Ok(()));
        catalogue.aliases.insert(id("c"), id("a"));
        assert!(catalogue.check().is_err());
        assert_eq!(*catalogue.canonical(&id("b")), id("b"));
        catalogue.aliases.insert(id("outside"), id("a"));
        assert_eq!(*catalogue.canonical(&id("outside")), id("outside"));
    }

    #[test]
    fn a_handler_is_removed_until_it_is_hit_again() {
        let mut catalogue = Catalogue::default();
        catalogue.alias(&id("a"), &id("b")).unwrap();
        catalogue.keep_last.insert(id("b"), 5);
        assert_eq!((catalogue.keep_last(&id("a")), catalogue.keep_last(&id("z"))), (Some(5), None));
        let now: Timestamp = "2026-11-22T14:00:00Z".parse().unwrap();
        catalogue.remove(&id("b"), now);
        let ns = i64::try_from(now.as_nanosecond()).unwrap();
        assert!(catalogue.is_removed(&id("a"), ns) && catalogue.is_removed(&id("b"), ns));
        assert!(!catalogue.is_removed(&id("b"), ns + 1) && !catalogue.is_removed(&id("c"), ns));
        assert_eq!(catalogue.keep_last(&id("b")), None);
    }

    #[test]
    fn the_explicit_route_that_says_the_most_takes_a_request() {
        let mut catalogue = Catalogue::default();
        for (method, path) in [("*", "/users/*rest"), ("*", "/users/:id"), ("GET", "/users/:id"), ("GET", "/users/me")]
        {
            catalogue.add(route(method, path)).unwrap();
        }
        let taken = |method, path| {
            let route = catalogue.route_of("", "web", method, path)?;
            Some(route.told().name)
        };
        assert_eq!(taken("GET", "/users/me").as_deref(), Some("GET /users/me"));
        assert_eq!(taken("GET", "/users/7").as_deref(), Some("GET /users/{id}"));
        assert_eq!(taken("PUT", "/users/7").as_deref(), Some("* /users/{id}"));
        assert_eq!(taken("PUT", "/users/7/posts").as_deref(), Some("* /users/{rest*}"));
        assert_eq!(taken("GET", "/posts"), None);
        assert!(catalogue.route_of("other", "web", "GET", "/users/7").is_none());
    }

    #[test]
    fn a_route_is_added_once_in_whatever_spelling_and_never_takes_everything() {
        let mut catalogue = Catalogue::default();
        let told = catalogue.add(route("GET", "/users/:id")).unwrap();
        assert_eq!(catalogue.add(route("GET", "users/<id>/")).unwrap().id, told.id);
        assert_eq!(catalogue.routes.len(), 1);
        assert_eq!(catalogue.added(&told.id), None);
        let now = "2026-11-22T14:00:00Z".parse().unwrap();
        let noted = catalogue.add(ExplicitRoute { added: Some(now), ..route("GET", "/carts/:id") }).unwrap();
        assert_eq!(catalogue.added(&noted.id), Some(now));
        catalogue.alias(&noted.id, &id("old")).unwrap();
        assert_eq!(
            (catalogue.added(&noted.id), catalogue.added(&id("old"))),
            (None, Some(now)),
            "it counts as the old one"
        );
        catalogue.remove(&noted.id, now);
        assert_eq!(told.id, handler_id("", "web", Kind::Http, "GET /users/{id}"));
        insta::assert_snapshot!(catalogue.add(route("get", "/a")).unwrap_err(), @"`get` is no method: it is * or one of GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH, QUERY");
        insta::assert_snapshot!(catalogue.add(route("*", "/**")).unwrap_err(), @"the route `/**` of web would take every request");
        catalogue.remove(&told.id, Timestamp::UNIX_EPOCH);
        assert_eq!(catalogue.routes, []);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mut catalogue = Catalogue::default();
        catalogue.keep_last.insert(id("a"), 0);
        insta::assert_snapshot!(catalogue.check().unwrap_err(), @"of web/a-00000000 between 1 and 100 traces can be kept, not 0");
    }

    #[tokio::test]
    async fn a_catalogue_is_written_and_read() {
        let clock = crate::clock::Clock::simulated("2026-11-22T14:00:00Z".parse().unwrap(), 1);
        let store = Store::open("memory://", &crate::store::OpenOptions::default(), clock).await.unwrap();
        let (number, written) = documents::change(&store, |_, old: &Catalogue| {
            let mut new = old.clone();
            new.alias(&id("a"), &id("b")).map_err(|sentence| crate::error::report!("{sentence}"))?;
            new.routes.push(route("GET", "/users/:id"));
            new.remove(&id("c"), "2026-11-22T14:00:00Z".parse().unwrap());
            Ok(new)
        })
        .await
        .unwrap();
        assert_eq!(number, 1);
        assert_eq!(Catalogue::load(&store).await.unwrap(), (1, written));
    }

    #[test]
    fn the_busiest_handlers_are_shown_and_the_rest_is_summed_up() {
        let counts = [(id("a"), 3), (id("b"), 9), (id("c"), 3), (id("d"), 1)];
        assert_eq!(busiest(&counts, 2), (vec![id("a"), id("b")], 4));
        assert_eq!(busiest(&counts, 9), (vec![id("a"), id("b"), id("c"), id("d")], 0));
        assert_eq!(busiest(&[], 9), (vec![], 0));
    }

    proptest! {
        #[test]
        fn every_id_counts_under_exactly_one(aliases in prop::collection::vec((0..9u8, 0..9u8), 0..20)) {
            let name = |n: u8| id(&format!("h{n}"));
            let mut catalogue = Catalogue::default();
            for (id, other) in aliases {
                let _ = catalogue.alias(&name(id), &name(other));
                prop_assert_eq!(catalogue.check(), Ok(()));
            }
            let owners: Vec<Vec<HandlerId>> = (0..9).map(|n| catalogue.sources(&name(n))).collect();
            for n in 0..9 {
                prop_assert_eq!(owners.iter().filter(|sources| sources.contains(&name(n))).count(), 1);
                prop_assert!(catalogue.sources(catalogue.canonical(&name(n))).contains(&name(n)));
            }
        }
    }
}
