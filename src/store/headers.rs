//! What a bucket says of an object to whoever reads it over HTTP: the pages are read by browsers, straight from it.
//!
//! A directory keeps none of it; whoever serves one tells types by names.

use object_store::{Attribute, Attributes};

use super::Key;
use super::layout::SiteKey;

/// Asked for again each time; an unchanged one is not sent again. (GCS lets public objects be kept for an hour if it is
/// not told otherwise.)
const ASK_AGAIN: &str = "no-cache";

/// A name that holds one content for ever.
const KEEP: &str = "public, max-age=31536000, immutable";

/// Content-Type and Cache-Control of an object that browsers read; none of others.
pub(super) fn of(key: &Key) -> Attributes {
    let (kind, cache) = match key {
        Key::Site(SiteKey::Asset(_, file)) => (kind(file), KEEP),
        Key::Site(SiteKey::Index) => (kind("index.html"), ASK_AGAIN),
        // Without Content-Encoding: readers look at the bytes.
        Key::Site(SiteKey::Traces(_) | SiteKey::Trace(_)) | Key::Pin(_) => ("application/gzip", ASK_AGAIN),
        // Whatever a user's own program wrote.
        Key::Site(SiteKey::Extra(_, name)) => (media_type(name.as_str()), ASK_AGAIN),
        Key::Site(_) => ("application/json", ASK_AGAIN),
        _ => return Attributes::new(),
    };
    [(Attribute::ContentType, kind), (Attribute::CacheControl, cache)].into_iter().collect()
}

/// The media type of a file by its name.
pub(crate) fn media_type(name: &str) -> &'static str {
    mime_guess::from_path(name).first_raw().unwrap_or("application/octet-stream")
}

/// The media type of a file of the pages.
fn kind(file: &str) -> &'static str {
    match file.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}
