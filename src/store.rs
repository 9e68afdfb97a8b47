//! The object store: its keys ([`layout`]), how it is opened ([`open`]), what is asked of it ([`meter`]), and the
//! only functions that write or delete ([`Store`]). Nothing else in the crate touches an object.

pub mod fault;
pub mod layout;
pub mod meter;

use std::ops::Range;

use bytes::Bytes;
use jiff::Timestamp;

pub use layout::{Key, Prefix};
pub use meter::{Meter, Stage};

/// A bucket (with an optional prefix) or a directory. Cheap to clone: clones share the connection and the counts.
#[derive(Clone)]
pub struct Store {}

/// How to open a store, beyond its URL.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Never write or delete: a reader's store.
    pub read_only: bool,
}

/// What is known of an object from a listing or an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it is; its path within the store is [`Key::path`].
    pub key: Key,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Its last-modified time, by the store's clock.
    pub modified: Timestamp,
    /// Tells one content of a name from another: the etag, else the generation, else size and time.
    pub etag: String,
}

/// What a listing found.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The objects whose keys parse, in key order.
    pub objects: Vec<Object>,
    /// Keys under the prefix that are none of ours. They are reported and left alone: what we do not understand we do
    /// not delete.
    pub foreign: Vec<String>,
    /// A time by the store's own clock, at or before the moment at which the listing began: what was written (last-
    /// modified) before it was certainly durable when the first page was taken. Learned from the `Date` of an earlier
    /// answer plus monotonic time (clouds), or from the machine's clock (local, memory). Not moved by `--now`.
    pub began: Timestamp,
    /// Whether more objects stand after the last one (a listing bounded in pages).
    pub more: bool,
}

/// Why a call to the store failed, and so what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// It is not there: list again (rule 4).
    NotFound,
    /// A create-only write found the name taken by other content.
    AlreadyExists,
    /// The object is no longer what was read.
    Changed,
    /// The credentials do not allow it, or are missing: a person must look.
    Denied,
    /// The disk or the quota is full.
    Full,
    /// It did not answer, or asked to slow down, beyond all retries: a later cycle tries again.
    Unavailable,
    /// Anything else.
    Other,
}

/// A failed call to the store: which object, what was tried.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {path}")]
pub struct StoreError {
    /// What to do about it.
    pub kind: StoreErrorKind,
    /// What was tried: a verb, eg `read`.
    pub operation: &'static str,
    /// The object or prefix, with the store's URL.
    pub path: String,
    /// What the store or its client said.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

type StoreResult<T> = Result<T, StoreError>;

impl Store {
    /// Opens the store at `url`: `s3://bucket/prefix`, `gs://…`, `az://…`, `file:///path`, a plain path, or
    /// `memory://` (for tests). Clouds take their usual environment variables, credential chains and custom endpoints.
    ///
    /// # Errors
    /// A [`crate::error::Mistake`] for a URL that names no store.
    pub async fn open(url: &str, options: &OpenOptions, clock: crate::clock::Clock) -> crate::error::Result<Self> {
        let _ = (url, options, clock);
        todo!()
    }

    /// A store over any [`object_store::ObjectStore`]: what simulations and fault injection use. `url` is only shown.
    pub fn over(inner: std::sync::Arc<dyn object_store::ObjectStore>, url: &str, clock: crate::clock::Clock) -> Self {
        let _ = (inner, url, clock);
        todo!()
    }

    /// The URL, as a person would give it to open the same store.
    pub fn url(&self) -> &str {
        todo!()
    }

    /// The same store, whose calls are counted under `stage`.
    pub fn for_stage(&self, stage: Stage) -> Self {
        let _ = stage;
        todo!()
    }

    /// Requests and bytes so far, by kind and stage.
    pub fn meter(&self) -> &Meter {
        todo!()
    }

    /// Every object under `prefix`, page by page, in key order.
    pub async fn list(&self, prefix: &Prefix) -> StoreResult<Listing> {
        let _ = prefix;
        todo!()
    }

    /// Objects under `prefix` whose path is greater than `after`, at most about `max` of them ([`Listing::more`] says
    /// whether there are others).
    pub async fn list_some(&self, prefix: &Prefix, after: Option<&Key>, max: usize) -> StoreResult<Listing> {
        let _ = (prefix, after, max);
        todo!()
    }

    /// A whole object, and what the answer said of it (its last-modified and etag are those of these very bytes).
    pub async fn get(&self, key: &Key) -> StoreResult<(Bytes, Object)> {
        let _ = key;
        todo!()
    }

    /// A whole object as a stream of chunks: for input of any size.
    pub async fn get_stream(
        &self,
        key: &Key,
    ) -> StoreResult<(futures::stream::BoxStream<'static, StoreResult<Bytes>>, Object)> {
        let _ = key;
        todo!()
    }

    /// Parts of an object; ranges that are near each other are one request.
    pub async fn get_ranges(&self, key: &Key, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        let _ = (key, ranges);
        todo!()
    }

    /// What is known of an object.
    pub async fn head(&self, key: &Key) -> StoreResult<Object> {
        let _ = key;
        todo!()
    }

    /// Writes a new object, never over another. An ambiguous failure (the answer was lost) is settled by reading back:
    /// if the object holds exactly these bytes, it was written.
    ///
    /// # Errors
    /// [`StoreErrorKind::AlreadyExists`] if the name holds other bytes.
    pub async fn create(&self, key: &Key, body: Bytes) -> StoreResult<Object> {
        let _ = (key, body);
        todo!()
    }

    /// Begins a new object that is too large for one request (multipart): create-only by its name, which is a ULID.
    /// Nothing is visible until [`Upload::finish`].
    pub async fn create_large(&self, key: &Key) -> StoreResult<Upload> {
        let _ = key;
        todo!()
    }

    /// Writes an object, over another if there is one: only for documents that can be made anew (`site/`, heartbeats).
    pub async fn overwrite(&self, key: &Key, body: Bytes) -> StoreResult<Object> {
        let _ = (key, body);
        todo!()
    }

    /// Deletes an object; that it was gone already is no error.
    pub async fn delete(&self, key: &Key) -> StoreResult<()> {
        let _ = key;
        todo!()
    }

    /// Deletes an object only if it is still what was seen: asked again right before, conditionally where the store
    /// can. `false` if it is another now, or is held open by a process (a local file that is still being written).
    pub async fn delete_if_unchanged(&self, seen: &Object) -> StoreResult<bool> {
        let _ = seen;
        todo!()
    }
}

/// A large object on its way; dropped without [`Upload::finish`], nothing of it is ever visible.
pub struct Upload {}

impl Upload {
    /// Adds bytes; parts are sent as they fill.
    pub async fn write(&mut self, bytes: Bytes) -> StoreResult<()> {
        let _ = bytes;
        todo!()
    }

    /// Makes the object visible, whole.
    pub async fn finish(self) -> StoreResult<Object> {
        todo!()
    }
}
