//! What a bucket says of an object to whoever reads it over HTTP: the pages are read by browsers, straight from it.
//!
//! A directory keeps none of it; whoever serves one tells types by names ([`media_type`]).

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
    if !matches!(key, Key::Site(_) | Key::Pin(_)) {
        return Attributes::new();
    }
    let cache = if matches!(key, Key::Site(SiteKey::Asset(..))) { KEEP } else { ASK_AGAIN };
    [(Attribute::ContentType, media_type(key)), (Attribute::CacheControl, cache)].into_iter().collect()
}

/// The media type of an object that browsers read. Gzip'd ones are no more than that, without Content-Encoding: readers
/// look at the bytes.
pub fn media_type(key: &Key) -> &'static str {
    let path = key.path();
    let name = path.rsplit('/').next().unwrap_or_default();
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        // Licences, for one.
        Some("txt") | None => "text/plain; charset=utf-8",
        Some(_) => mime_guess::from_path(name).first_raw().unwrap_or("application/octet-stream"),
    }
}
