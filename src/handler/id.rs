//! How a handler's id is made: part of the format, as blocks are sharded by it and pins are named by it.
//!
//! `<service>/<slug>-<8 hex>`: the first two are for people, the third is the truth. It is the upper half of the XXH3-64
//! (seed 0) of `service.namespace`, `service.name`, the kind of handler and its canonical name, in UTF-8, each preceded
//! by its length in bytes as 8 bytes, little-endian: so no two of them run together. Services or names that look the same
//! once they are made readable thus have different ids.

use xxhash_rust::xxh3::Xxh3;

use super::Kind;
use crate::model::HandlerId;

/// The service part and the slug are at most so long, in bytes.
const MAX_SERVICE_BYTES: usize = 100;
/// See [`MAX_SERVICE_BYTES`].
const MAX_SLUG_BYTES: usize = 80;

/// What lists show of a service without a name: what SDKs say that were given none.
const UNKNOWN_SERVICE: &str = "unknown_service";

/// A service as lists show it.
pub fn shown_service(service: &str) -> &str {
    if service.is_empty() { UNKNOWN_SERVICE } else { service }
}

/// The id of the handler of `kind` named `name` (canonical) in a service.
pub fn handler_id(namespace: &str, service: &str, kind: Kind, name: &str) -> HandlerId {
    let mut hash = Xxh3::new();
    for part in [namespace, service, kind.as_str(), name] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let hash = hash.digest() >> 32;
    let slug = if kind == Kind::NotFound { "404".to_owned() } else { slug(name) };
    let id = format!("{}/{slug}-{hash:08x}", service_part(service));
    #[expect(clippy::expect_used, reason = "a property test shows that every such id parses")]
    id.parse().expect("a handler's id is made of safe characters")
}

/// The id of a service's list of requests that hit no handler.
pub fn not_found_id(namespace: &str, service: &str) -> HandlerId {
    handler_id(namespace, service, Kind::NotFound, super::NOT_FOUND)
}

/// A service's name so that it is safe in keys and URLs; not reversible.
pub(crate) fn service_part(service: &str) -> String {
    if service.is_empty() {
        return UNKNOWN_SERVICE.to_owned();
    }
    let mut part = String::new();
    for character in service.chars() {
        if part.len() == MAX_SERVICE_BYTES {
            break;
        }
        let safe = character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '~');
        // A dot at the beginning would hide the folder, or be `..`.
        part.push(if safe || character == '.' && !part.is_empty() { character } else { '_' });
    }
    part
}

/// A name in small letters, digits and single dashes.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for character in name.chars() {
        if slug.len() == MAX_SLUG_BYTES {
            break;
        }
        if character.is_ascii_alphanumeric() {
            slug.push(character.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(slug.trim_end_matches('-').len());
    match slug.as_str() {
        "" => "unnamed".to_owned(),
        // Only a service's list of 404s is called that way: ids are told apart by it.
        "404" => "name-404".to_owned(),
        _ => slug,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_are_part_of_the_format_and_never_change() {
        let id = |service, kind, name| handler_id("", service, kind, name);
        let ids = [
            id("web", Kind::Http, "GET /products/{id}"),
            id("web", Kind::Http, "GET /"),
            id("", Kind::Job, "job no-service"),
            id("Größe", Kind::Job, "import 📦 Größe ☃"),
            id("..", Kind::Other, "404"),
            id("日本", Kind::Other, "日本"),
            not_found_id("", "web"),
            not_found_id("shop", "web"),
        ];
        assert_eq!(
            ids.map(|id| id.to_string()),
            [
                "web/get-products-id-77dd7bf1",
                "web/get-66e3ca75",
                "unknown_service/job-no-service-23cff200",
                "Gr__e/import-gr-e-ad71161f",
                "_./name-404-6b8a9d4e",
                "__/unnamed-7acc9b83",
                "web/404-ab364a5e",
                "web/404-81a81e23",
            ]
        );
    }

    #[test]
    fn the_hash_is_of_length_prefixed_parts() {
        let mut bytes = Vec::new();
        for part in ["shop", "web", "http", "GET /"] {
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend(part.as_bytes());
        }
        let hash = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&bytes));
        assert!(handler_id("shop", "web", Kind::Http, "GET /").as_str().ends_with(&hash[..8]));
    }

    proptest! {
        #[test]
        fn every_id_parses(service in ".{0,300}|[./~_-]{0,4}", name in ".{0,300}|[-/404]{0,5}", kind in 0..Kind::ALL.len()) {
            let kind = Kind::ALL[kind];
            let id = handler_id("", &service, kind, &name);
            prop_assert_eq!(id.is_not_found(), kind == Kind::NotFound);
            prop_assert_eq!(id.service(), service_part(&service));
        }

        #[test]
        fn services_that_look_the_same_have_ids_of_their_own(a in ".{0,4}", b in ".{0,4}") {
            prop_assume!(a != b);
            let id = |namespace: &str, service: &str| handler_id(namespace, service, Kind::Http, "GET /");
            prop_assert_ne!(id("", &a), id("", &b));
            prop_assert_ne!(id(&a, &b), id(&b, &a));
        }
    }
}
