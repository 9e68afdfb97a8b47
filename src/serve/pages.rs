//! `/site/…` and `/latest/…`: the store's own public objects, as a bucket would serve them.
//!
//! Nothing else of the store can be named: what is asked for must be a key that [`crate::store::layout`] parses as a
//! document of the site or as a pin, spelled as it spells it. Gzip'd objects go as they are, with no Content-Encoding:
//! the pages look at the bytes.

mod condition;
mod range;

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use bytes::Bytes;
use futures::TryStreamExt;
use percent_encoding::percent_decode_str;

use super::failure::Failure;
use super::farm::Farm;
use crate::site::Site;
use crate::store::layout::SiteKey;
use crate::store::{Key, Object, Store, StoreErrorKind, media_type};
use condition::Etag;
use range::Asked;

/// How often an object that is written over while it is read is asked for again.
const TRIES: usize = 3;

/// How long browsers may keep what never changes: a year.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// `/`
pub async fn root() -> Redirect {
    // Relative, so that a proxy may serve all of this under a path of its own.
    Redirect::temporary("site/")
}

/// `/site`
pub async fn site() -> Redirect {
    Redirect::permanent("site/")
}

/// `/site/…`, `/latest/…`
pub async fn object(State(farm): State<Farm>, request: Request) -> Result<Response, Failure> {
    let (method, headers) = (request.method(), request.headers());
    let missing = || Failure::missing("there is no such page or document");
    let path = key_path(request.uri().path())?;
    let Some(key) = Key::parse(&path) else { return Err(missing()) };
    if !matches!(key, Key::Site(_) | Key::Pin(_)) {
        return Err(missing());
    }
    let content = Content::of(&key);
    for _ in 0..TRIES {
        match answer(farm.store(), &key, &content, method, headers).await {
            // Written over between two questions: the newer one, then.
            Err(error) if error.kind == StoreErrorKind::Changed => {}
            Err(error) if error.kind == StoreErrorKind::NotFound => return embedded(&key).ok_or_else(missing),
            Err(error) => return Err(error.into()),
            Ok(answer) => return Ok(answer),
        }
    }
    Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "the document keeps changing: try again"))
}

/// The path within the store that a request's path means; a folder is its index.
fn key_path(path: &str) -> Result<String, Failure> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let decoded = percent_decode_str(path).decode_utf8().map_err(|_| Failure::mistake("the path is not UTF-8"))?;
    // A slash that was escaped is no folder's, and no name has one; nor control characters, nor a backslash.
    let odd = |text: &str| text.chars().any(|c| c.is_control() || c == '\\');
    if decoded.matches('/').count() != path.matches('/').count() || odd(&decoded) {
        return Err(Failure::mistake("the path has characters that no name here has"));
    }
    if decoded.split('/').any(|part| part == "." || part == "..") {
        return Err(Failure::mistake("the path leads out of its folder"));
    }
    Ok(if decoded == "site/" { "site/index.html".to_owned() } else { decoded.into_owned() })
}

async fn answer(
    store: &Store,
    key: &Key,
    content: &Content,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, crate::store::StoreError> {
    let is_conditional = condition::is_said(headers) || headers.contains_key(header::RANGE);
    if method != Method::HEAD && !is_conditional {
        let (chunks, object) = store.get_stream(key).await?;
        let body = Body::from_stream(chunks.inspect_err(broke_off(&object)));
        return Ok(content.headed(&object, StatusCode::OK, object.size_bytes, body));
    }
    let object = store.head(key).await?;
    if condition::is_known(headers, &content.etag(&object), object.modified) {
        return Ok(content.headed(&object, StatusCode::NOT_MODIFIED, 0, Body::empty()));
    }
    if method == Method::HEAD {
        return Ok(content.headed(&object, StatusCode::OK, object.size_bytes, Body::empty()));
    }
    // A range of what a client had before counts only if that is still what there is.
    let asked = if condition::range_counts(headers, &content.etag(&object), object.modified) {
        range::asked(headers, object.size_bytes)
    } else {
        Asked::Whole
    };
    let whole = 0..object.size_bytes;
    let (status, part) = match asked {
        Asked::Whole => (StatusCode::OK, whole),
        Asked::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Asked::Nothing => {
            let mut answer = content.headed(&object, StatusCode::RANGE_NOT_SATISFIABLE, 0, Body::empty());
            answer.headers_mut().insert(header::CONTENT_RANGE, number(format!("bytes */{}", object.size_bytes)));
            return Ok(answer);
        }
    };
    if part.is_empty() {
        return Ok(content.headed(&object, status, 0, Body::empty()));
    }
    let chunks = store.get_part(&object, part.clone()).await?;
    let body = Body::from_stream(chunks.inspect_err(broke_off(&object)));
    let mut answer = content.headed(&object, status, part.end - part.start, body);
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {}-{}/{}", part.start, part.end - 1, object.size_bytes);
        answer.headers_mut().insert(header::CONTENT_RANGE, number(range));
    }
    Ok(answer)
}

/// The client sees a connection that breaks off; the log says why.
fn broke_off(object: &Object) -> impl Fn(&crate::store::StoreError) + use<> {
    let path = object.key.path();
    move |error| tracing::error!(path, "an answer broke off: {error}")
}

fn number(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

/// What a browser that opens an extra may do with it: show it, as a page of no origin, that runs nothing and reads nothing
/// of this one. (It is told in place of the pages' own policy, by which a file of `extra/` could be another's script.)
const FOREIGN_POLICY: &str = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
                              font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What kind of thing an object is.
struct Content {
    kind: &'static str,
    /// Whether it never changes under its name.
    forever: bool,
    /// Whether it may go compressed, or not: one etag then stands for several bodies.
    compressible: bool,
    /// Whether a program of somebody's wrote it, and traces have a part in it.
    foreign: bool,
}

impl Content {
    fn of(key: &Key) -> Self {
        let kind = media_type(key);
        let compressible = ["text/", "application/json", "image/svg"].iter().any(|text| kind.starts_with(text));
        // A pin's name says what is in it.
        let forever = match key {
            Key::Pin(_) => true,
            Key::Site(key) => never_changes(key),
            _ => false,
        };
        Self { kind, forever, compressible, foreign: matches!(key, Key::Site(SiteKey::Extra(..))) }
    }

    fn cache(&self) -> String {
        match self.forever {
            true => format!("public, max-age={}, immutable", FOREVER.as_secs()),
            false => "no-cache".to_owned(),
        }
    }

    fn etag(&self, object: &Object) -> Etag {
        Etag { text: object.etag.clone(), is_weak: self.compressible }
    }

    fn headed(&self, object: &Object, status: StatusCode, length: u64, body: Body) -> Response {
        let mut answer = (status, body).into_response();
        let headers = answer.headers_mut();
        headers.insert(header::ETAG, number(self.etag(object).to_string()));
        headers.insert(header::LAST_MODIFIED, number(condition::date(object.modified)));
        headers.insert(header::CACHE_CONTROL, number(self.cache()));
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if self.foreign {
            headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(FOREIGN_POLICY));
        }
        if status != StatusCode::NOT_MODIFIED {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
            headers.insert(header::CONTENT_LENGTH, number(length.to_string()));
        }
        answer
    }
}

/// The files of the pages are named by a hash; documents are written over.
fn never_changes(key: &SiteKey) -> bool {
    matches!(key, SiteKey::Asset(..))
}

/// The pages of this program, for a store into which no worker has written any yet.
fn embedded(key: &Key) -> Option<Response> {
    let site = Site::of_this_program();
    let body = match key {
        Key::Site(SiteKey::Index) => site.index.clone(),
        Key::Site(SiteKey::Asset(version, name)) if *version == site.version => {
            Bytes::from_static(site.assets.iter().find(|asset| asset.name == name)?.body)
        }
        _ => return None,
    };
    let content = Content::of(key);
    let headers = [(header::CONTENT_TYPE, content.kind.to_owned()), (header::CACHE_CONTROL, content.cache())];
    Some((headers, body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_keys_can_be_named() {
        let key = |path: &str| key_path(path).map(|path| Key::parse(&path)).ok().flatten();
        assert_eq!(key("/site/handlers.json"), Some(Key::Site(SiteKey::Handlers)));
        assert_eq!(key("/site/%68andlers.json"), Some(Key::Site(SiteKey::Handlers)));
        for path in [
            "/site/../farm/settings/0000000001.json",
            "/site/%2e%2e/farm/settings/0000000001.json",
            "/site/..%2ffarm/settings/0000000001.json",
            "/site%2fhandlers.json",
            "/site/handlers.json%00",
            "/site/handlers.json%0a",
            "/site/.%5chandlers.json",
            "/site/./handlers.json",
            "/site/%ff",
        ] {
            assert!(key_path(path).is_err(), "{path}");
        }
        for path in ["/site/x", "//site/handlers.json", "/site//handlers.json", "/latest/", "/site/%2568andlers.json"] {
            assert_eq!(key(path), None, "{path}");
        }
    }
}
