//! The object store: its keys ([`layout`]), how it is opened ([`open`]), what is asked of it ([`meter`]), and the
//! only functions that write or delete ([`Store`]). Nothing else in the crate touches an object.
//!
//! # Layout
//!
//! | key | what | written | deleted |
//! | --- | --- | --- | --- |
//! | `inbox/**` | raw OTLP, as collectors name it | by collectors | when all blocks made of it are durable |
//! | `spans/shard=<all or 003-of-016>/hour=<hour>/<ulid>.parquet` | spans, level 0 (`all`) and 1 | once | with its hour, or merged |
//! | `entries/shard=…/hour=…/<ulid>.parquet` | one row an entry span | once | likewise |
//! | `latest/<2 hex>/<handler>/<start>-<trace>-<rows>.json.gz` | pinned newest traces | once | when no longer newest |
//! | `site/index.html`, `site/assets/<version>/…` | the pages, and what they are made of | over; once | when no page names them |
//! | `site/farm.json` | who works, what waits, what fails | over and over | |
//! | `site/handlers.json`, `site/parts/<shard>.json` | the list of handlers | over and over | |
//! | `site/handlers/<handler>/{summary.json,traces.json.gz}` | a handler's page | over and over | |
//! | `site/traces/<trace>.json.gz`, `site/not-found/<service>.json` | large traces, 404 lists | over and over | |
//! | `quarantine/<reason>/<inbox key>@<etag>[.error.json]` | unreadable input, and why | once | never |
//! | `quarantine/blocks/<block>.error.json` | a block to skip | once | |
//! | `farm/settings/<sequence>.json`, `farm/handlers/<sequence>.json` | settings, catalogue; the highest counts | once each | |
//! | `farm/workers/<name>.<boot>.json` | heartbeats | over and over | when their strikes are durable |
//! | `farm/strikes/<object>/<boot>`, `farm/forget/<trace>` | strikes, tombstones | once | |
//! | `farm/pinned/<hour>/<shard>.json`, `farm/ledger/<day>/<ulid>.json` | what is pinned; what is indexed | | |
//!
//! # Limits
//!
//! - Keys have at most 1,024 bytes (S3, GCS, Azure), parts of a local path at most 255.
//! - A local store needs a file system with hard links and `fsync`; its time is the machine's clock. On a network file
//!   system several machines must have one time, as their files' dates are compared.
//! - S3 dates an object that was uploaded in parts by the *beginning* of the upload. So what must be durable before an
//!   object ([`Store::create_large`]) must be so before it is begun, not only before it is finished.
//! - Uploads that a process leaves unfinished cost storage until a lifecycle rule takes them away
//!   (`tracefarm lifecycle`); local ones are swept.

pub mod failure;
pub mod fault;
pub mod layout;
pub mod meter;
pub mod open;

mod connect;
mod headers;
mod local;
mod name;
mod pace;
mod renew;
mod sign;
mod unbatch;
pub(crate) mod upload;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use object_store::path::Path;
use object_store::{GetOptions, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutResult};

use crate::clock::Clock;
use crate::task;
use connect::{Call, Content, Wire};
use failure::Trail;
pub use failure::{Said, StoreError, StoreErrorKind, StoreResult};
pub use headers::media_type;
pub use layout::{Key, Prefix};
use local::Local;
pub use meter::{Counts, Meter, Request, Stage, Tally};
pub use open::OpenOptions;
pub use upload::Upload;

/// How many objects a page of a listing has (S3, GCS): what local and in-memory stores count a request for.
const PAGE: usize = 1000;

/// Ranges nearer than this are one request.
pub(crate) const NEAR_BYTES: u64 = object_store::OBJECT_STORE_COALESCE_DEFAULT;

/// How often a create-only write is tried that met another write of the same name in flight.
const CONFLICTS: u32 = 4;

/// A bucket (with an optional prefix) or a directory. Cheap to clone: clones share the connection and the counts.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    stage: Stage,
}

struct Shared {
    objects: Arc<dyn ObjectStore>,
    /// A directory: what object stores cannot do (is a file held open?) is asked of it directly.
    local: Option<Local>,
    /// As a person would give it; no slash at the end.
    url: String,
    /// What stands before every key: nothing, or a path with its closing slash.
    prefix: String,
    options: OpenOptions,
    clock: Clock,
    time: Time,
    meter: Meter,
}

/// Where the store's time comes from.
enum Time {
    /// The `Date` of its answers; these are also counted where they arrive, below the retries.
    Answers(Arc<Wire>),
    /// The clock that dates files and in-memory objects: the machine's.
    Machine,
    /// A simulation's.
    Given(Arc<dyn Fn() -> Timestamp + Send + Sync>),
}

/// What is known of an object from a listing or an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it is; its path within the store is [`Key::path`].
    pub key: Key,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Its last-modified time, by the store's clock. After a write: the time of the answer, which is at most a moment
    /// later.
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

impl Store {
    /// A store over any [`object_store::ObjectStore`]: what simulations and fault injection use. `url` is only shown.
    pub fn over(inner: Arc<dyn ObjectStore>, url: &str, clock: Clock) -> Self {
        Self::new(inner, None, url, "", OpenOptions::default(), clock, Time::Machine)
    }

    /// As [`Store::over`], with the store's own time, which a worker's clock may not agree with.
    pub fn over_with_time(
        inner: Arc<dyn ObjectStore>,
        url: &str,
        clock: Clock,
        now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    ) -> Self {
        Self::new(inner, None, url, "", OpenOptions::default(), clock, Time::Given(now))
    }

    fn new(
        objects: Arc<dyn ObjectStore>,
        local: Option<Local>,
        url: &str,
        prefix: &str,
        options: OpenOptions,
        clock: Clock,
        time: Time,
    ) -> Self {
        let meter = match &time {
            Time::Answers(wire) => wire.meter().clone(),
            Time::Machine | Time::Given(_) => Meter::default(),
        };
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let url = url.trim_end_matches('/').to_owned();
        let shared = Shared { objects, local, url, prefix, options, clock, time, meter };
        Self { shared: Arc::new(shared), stage: Stage::Farm }
    }

    /// The URL, as a person would give it to open the same store: a bucket's in one spelling (`s3a://b/` is `s3://b`), a
    /// directory's as it was given.
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// The same store, whose calls are counted under `stage`.
    pub fn for_stage(&self, stage: Stage) -> Self {
        Self { shared: self.shared.clone(), stage }
    }

    /// Requests and bytes so far, by kind and stage.
    pub fn meter(&self) -> &Meter {
        &self.shared.meter
    }

    /// Whether one of the two lies within the other (or they are one): then an object of one is an object of the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (&self.shared.local, &other.shared.local) {
            (Some(a), Some(b)) => a.overlaps(b),
            _ => {
                let (a, b) = (format!("{}/", self.url()), format!("{}/", other.url()));
                // In-memory stores share nothing.
                (a.starts_with(&b) || b.starts_with(&a))
                    && (self.is_cloud() || Arc::ptr_eq(&self.shared, &other.shared))
            }
        }
    }

    /// Whether its requests cost money.
    pub fn is_cloud(&self) -> bool {
        matches!(self.shared.time, Time::Answers(_))
    }

    /// Every object under `prefix`, page by page, in key order.
    ///
    /// # Errors
    /// Never [`StoreErrorKind::NotFound`]: nothing under a prefix is an empty listing.
    pub async fn list(&self, prefix: &Prefix) -> StoreResult<Listing> {
        let mut listing = self.list_some(prefix, None, usize::MAX).await?;
        // Azure sorts folders in its own way, and odd names stand elsewhere in a directory than in a bucket.
        listing.objects.sort_by_cached_key(|object| object.key.path());
        Ok(listing)
    }

    /// Objects under `prefix` whose path is greater than `after`, at most about `max` of them ([`Listing::more`] says
    /// whether there are others).
    pub async fn list_some(&self, prefix: &Prefix, after: Option<&Key>, max: usize) -> StoreResult<Listing> {
        // Before the first page is asked for: what is dated before now is in it.
        let mut listing = Listing { began: self.now().unwrap_or(Timestamp::MIN), ..Listing::default() };
        let within = if self.shared.options.as_inbox { String::new() } else { prefix.path() };
        let failed = |error: StoreError| match error.kind {
            // Nothing under a prefix is no error; a bucket or directory that is gone is one for a person.
            StoreErrorKind::NotFound => StoreError { kind: StoreErrorKind::Denied, ..error },
            _ => error,
        };
        let folder = name::to_path(format!("{}{within}", self.shared.prefix).trim_end_matches('/'));
        let mut entries = match after {
            Some(after) => self.shared.objects.list_with_offset(Some(&folder), &self.path(after)),
            None => self.shared.objects.list(Some(&folder)),
        };
        let mut seen = 0;
        self.count_many(Request::List, 1);
        while let Some(entry) = self.ask("list", &within, entries.try_next()).await.map_err(failed)? {
            if listing.objects.len() >= max {
                listing.more = true;
                break;
            }
            seen += 1;
            if seen % PAGE == 0 {
                self.count_many(Request::List, 1);
            }
            let name = name::of_path(&entry.location);
            let key = name.as_deref().and_then(|name| name.strip_prefix(&self.shared.prefix)).and_then(|n| self.key(n));
            match key {
                Some(key) => listing.objects.push(object(key, &entry)),
                None => {
                    let name = name.unwrap_or_else(|| entry.location.to_string());
                    listing.foreign.push(name.strip_prefix(&self.shared.prefix).unwrap_or(&name).to_owned());
                }
            }
        }
        Ok(listing)
    }

    /// A whole object, and what the answer said of it (its last-modified and etag are those of these very bytes).
    pub async fn get(&self, key: &Key) -> StoreResult<(Bytes, Object)> {
        self.count_many(Request::Get, 1);
        let whole = async {
            let answer = self.shared.objects.get(&self.path(key)).await?;
            let meta = answer.meta.clone();
            Ok((answer.bytes().await?, meta))
        };
        let (bytes, meta) = self.ask("read", &self.within(key), whole).await?;
        self.received(Request::Get, bytes.len());
        if bytes.len() as u64 != meta.size {
            return Err(self.cut("read", key, bytes.len() as u64, meta.size));
        }
        Ok((bytes, object(key.clone(), &meta)))
    }

    /// A whole object as a stream of chunks: for input of any size.
    pub async fn get_stream(&self, key: &Key) -> StoreResult<(BoxStream<'static, StoreResult<Bytes>>, Object)> {
        self.count_many(Request::Get, 1);
        let answer = self.ask("read", &self.within(key), self.shared.objects.get(&self.path(key))).await?;
        let object = object(key.clone(), &answer.meta);
        Ok((self.chunks("read", key, answer, object.size_bytes), object))
    }

    /// One part of an object that was seen before, as a stream of chunks.
    ///
    /// # Errors
    /// [`StoreErrorKind::Changed`] if it is another object now.
    pub async fn get_part(
        &self,
        seen: &Object,
        part: Range<u64>,
    ) -> StoreResult<BoxStream<'static, StoreResult<Bytes>>> {
        self.count_many(Request::Get, 1);
        let options = GetOptions { range: Some(part.clone().into()), ..GetOptions::default() };
        let path = self.path(&seen.key);
        let asked = self.shared.objects.get_opts(&path, options);
        let answer = self.ask("read a part of", &self.within(&seen.key), asked).await?;
        if object(seen.key.clone(), &answer.meta).etag != seen.etag {
            let path = format!("{}/{}", self.shared.url, self.within(&seen.key));
            return Err(StoreError { kind: StoreErrorKind::Changed, operation: "read a part of", path, source: None });
        }
        Ok(self.chunks("read a part of", &seen.key, answer, part.end - part.start))
    }

    /// The body of an answer that has `wanted` bytes.
    fn chunks(
        &self,
        operation: &'static str,
        key: &Key,
        answer: GetResult,
        wanted: u64,
    ) -> BoxStream<'static, StoreResult<Bytes>> {
        // A body that breaks off is asked for again by the client while it is being read: still this stage's request.
        let state = (answer.into_stream(), self.clone(), key.clone(), 0_u64);
        let chunks = futures::stream::try_unfold(state, move |(mut chunks, store, key, mut read)| async move {
            match store.ask(operation, &store.within(&key), chunks.try_next()).await? {
                Some(chunk) => {
                    read += chunk.len() as u64;
                    store.received(Request::Get, chunk.len());
                    Ok(Some((chunk, (chunks, store, key, read))))
                }
                None if read != wanted => Err(store.cut(operation, &key, read, wanted)),
                None => Ok(None),
            }
        });
        chunks.boxed()
    }

    /// Parts of an object; ranges that are near each other are one request.
    pub async fn get_ranges(&self, key: &Key, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        self.count_many(Request::Get, requests_for(ranges));
        let path = self.path(key);
        let parts =
            self.ask("read a part of", &self.within(key), self.shared.objects.get_ranges(&path, ranges)).await?;
        for (part, range) in parts.iter().zip(ranges) {
            self.received(Request::Get, part.len());
            let wanted = range.end - range.start;
            if part.len() as u64 != wanted {
                return Err(self.cut("read a part of", key, part.len() as u64, wanted));
            }
        }
        Ok(parts)
    }

    /// What is known of an object.
    pub async fn head(&self, key: &Key) -> StoreResult<Object> {
        Ok(object(key.clone(), &self.look(key).await?))
    }

    async fn look(&self, key: &Key) -> StoreResult<ObjectMeta> {
        self.count_many(Request::Head, 1);
        self.ask("look at", &self.within(key), self.shared.objects.head(&self.path(key))).await
    }

    /// Writes a new object, never over another. An ambiguous failure (the answer was lost) is settled by reading back:
    /// if the object holds exactly these bytes, it was written. So of two processes that create the same bytes under
    /// one name, both have.
    ///
    /// # Errors
    /// [`StoreErrorKind::AlreadyExists`] if the name holds other bytes.
    pub async fn create(&self, key: &Key, body: Bytes) -> StoreResult<Object> {
        let mut attempt = 1;
        loop {
            let error = match self.put("create", key, body.clone(), PutMode::Create).await {
                Ok(object) => return Ok(object),
                Err(error) => error,
            };
            if matches!(error.kind, StoreErrorKind::Denied | StoreErrorKind::Full) {
                return Err(error);
            }
            match self.get(key).await {
                Ok((there, object)) if there == body => return Ok(object),
                Ok(_) => return Err(StoreError { kind: StoreErrorKind::AlreadyExists, ..error }),
                // The name was taken, and is free: S3 answers 409 while another write of it is in flight
                // (ConditionalRequestConflict: try again), or the other has been deleted since.
                Err(there)
                    if there.kind == StoreErrorKind::NotFound
                        && error.kind == StoreErrorKind::AlreadyExists
                        && attempt < CONFLICTS =>
                {
                    let wait = 0.05 * f64::from(1 << attempt) * (0.5 + self.shared.clock.fraction());
                    self.shared.clock.sleep(Duration::from_secs_f64(wait)).await;
                    attempt += 1;
                }
                Err(_) => return Err(error),
            }
        }
    }

    /// Begins a new object that is too large for one request (multipart): create-only by its name, which is a ULID.
    /// Nothing is visible until [`Upload::finish`]. One that turns out small is a plain [`Store::create`].
    ///
    /// S3 dates it by the beginning of its upload; a grace is counted from there. What it relies on must be durable
    /// before this is called.
    pub async fn create_large(&self, key: &Key) -> StoreResult<Upload> {
        self.writable("create", key)?;
        Ok(Upload::new(self.clone(), key.clone()))
    }

    /// Writes an object, over another if there is one: only for documents that can be made anew (`site/`, heartbeats).
    pub async fn overwrite(&self, key: &Key, body: Bytes) -> StoreResult<Object> {
        self.put("write", key, body, PutMode::Overwrite).await
    }

    async fn put(&self, operation: &'static str, key: &Key, body: Bytes, mode: PutMode) -> StoreResult<Object> {
        self.writable(operation, key)?;
        let size_bytes = body.len() as u64;
        if !self.is_cloud() {
            self.shared.meter.add(self.stage, Request::Put, size_bytes);
        }
        let path = self.path(key);
        let options = PutOptions { mode, attributes: headers::of(key), ..PutOptions::default() };
        let put = self.shared.objects.put_opts(&path, body.into(), options);
        let put = self.ask(operation, &self.within(key), put).await?;
        task::moved(size_bytes);
        self.written(key, size_bytes, put).await
    }

    /// What is known of an object that has just been written.
    async fn written(&self, key: &Key, size_bytes: u64, put: PutResult) -> StoreResult<Object> {
        match (put.extensions.get::<Written>(), &put.e_tag) {
            (Some(&Written(modified)), Some(etag)) => {
                Ok(Object { key: key.clone(), size_bytes, modified, etag: bare(etag) })
            }
            _ => self.head(key).await,
        }
    }

    /// Deletes an object; that it was gone already is no error.
    pub async fn delete(&self, key: &Key) -> StoreResult<()> {
        self.writable("delete", key)?;
        self.count_many(Request::Delete, 1);
        match self.ask("delete", &self.within(key), self.shared.objects.delete(&self.path(key))).await {
            Err(error) if error.kind != StoreErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Deletes an object only if it is still what was seen: asked again right before, conditionally where the store
    /// can. `false` if it is another now, is gone, or is held open by a process (a local file that is still being
    /// written).
    ///
    /// S3, GCS and Azure delete on a condition, so nothing can come between. On other servers that speak S3, in a directory and in memory a write can
    /// fall between the question and the delete. That is harmless: collectors write a name once; only files that they
    /// append to change, and those are left alone while they are held open, and until they have settled.
    pub async fn delete_if_unchanged(&self, seen: &Object) -> StoreResult<bool> {
        self.writable("delete", &seen.key)?;
        let meta = match self.look(&seen.key).await {
            Ok(meta) => meta,
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let now = object(seen.key.clone(), &meta);
        if now.etag != seen.etag || now.size_bytes != seen.size_bytes {
            return Ok(false);
        }
        if let Some(local) = &self.shared.local
            && local
                .is_held_open(&self.path(&seen.key))
                .await
                .map_err(|error| self.failed("delete", &self.within(&seen.key), error, &Trail::default()))?
        {
            return Ok(false);
        }
        self.count_many(Request::Delete, 1);
        let path = self.path(&seen.key);
        let only = Content { etag: meta.e_tag, version: meta.version };
        let within = self.within(&seen.key);
        match self.ask_only("delete", &within, self.shared.objects.delete(&path), Some(only)).await {
            Ok(()) => Ok(true),
            Err(error) => match error.kind {
                // Gone already: by us, if an answer was lost on the way, or by another who did the same work.
                StoreErrorKind::NotFound => Ok(true),
                StoreErrorKind::Changed | StoreErrorKind::AlreadyExists => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// Whether a process has this object open: a local file that is still being written. Elsewhere never.
    pub async fn is_held_open(&self, key: &Key) -> StoreResult<bool> {
        let Some(local) = &self.shared.local else { return Ok(false) };
        let held = local.is_held_open(&self.path(key)).await;
        held.map_err(|error| self.failed("look at", &self.within(key), error, &Trail::default()))
    }

    /// The store's own time: a lower bound, as near as it can be told without asking. `None` as long as it has not
    /// answered anything.
    pub fn now(&self) -> Option<Timestamp> {
        match &self.shared.time {
            Time::Answers(wire) => wire.time(),
            Time::Machine => Some(self.shared.clock.files()),
            Time::Given(now) => Some(now()),
        }
    }

    /// The client's path of an object.
    fn path(&self, key: &Key) -> Path {
        name::to_path(&format!("{}{}", self.shared.prefix, self.within(key)))
    }

    /// The object's name within the store.
    fn within(&self, key: &Key) -> String {
        match key {
            Key::Inbox(path) if self.shared.options.as_inbox => path.clone(),
            key => key.path(),
        }
    }

    /// The key of a name within the store.
    fn key(&self, name: &str) -> Option<Key> {
        if self.is_cloud() && !connect::can_ask_for(name) {
            return None;
        }
        if self.shared.options.as_inbox {
            return (!name.is_empty() && !name.ends_with('/')).then(|| Key::Inbox(name.to_owned()));
        }
        Key::parse(name)
    }

    fn writable(&self, operation: &'static str, key: &Key) -> StoreResult<()> {
        if !self.shared.options.read_only {
            return Ok(());
        }
        let path = format!("{}/{}", self.shared.url, self.within(key));
        let source = Some("the store was opened for reading only".into());
        Err(StoreError { kind: StoreErrorKind::Denied, operation, path, source })
    }

    fn failed(&self, operation: &'static str, within: &str, error: object_store::Error, trail: &Trail) -> StoreError {
        let kind = failure::kind(&error);
        let path = format!("{}/{within}", self.shared.url);
        StoreError { kind, operation, path, source: Some(Box::new(Said::of(error, trail))) }
    }

    fn cut(&self, operation: &'static str, key: &Key, read: u64, wanted: u64) -> StoreError {
        let path = format!("{}/{}", self.shared.url, self.within(key));
        let source = Some(format!("the answer broke off: {read} bytes of {wanted}").into());
        StoreError { kind: StoreErrorKind::Unavailable, operation, path, source }
    }

    /// Runs a call of the client in the name of this store's stage: `operation` (a verb) on what is called `within`
    /// the store.
    async fn ask<T>(
        &self,
        operation: &'static str,
        within: &str,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> StoreResult<T> {
        self.ask_only(operation, within, call, None).await
    }

    async fn ask_only<T>(
        &self,
        operation: &'static str,
        within: &str,
        asked: impl Future<Output = object_store::Result<T>>,
        only: Option<Content>,
    ) -> StoreResult<T> {
        let trail = Trail::default();
        let _doing = task::doing(|| format!("{operation} {}/{within}", self.shared.url));
        let call = Call { stage: self.stage, only, trail: trail.clone() };
        call.scope(asked).await.map_err(|error| self.failed(operation, within, error, &trail))
    }

    /// Counts requests, unless they are counted where they are really made.
    fn count_many(&self, request: Request, requests: u64) {
        if !self.is_cloud() {
            self.shared.meter.add_many(self.stage, request, requests, 0);
        }
    }

    fn received(&self, request: Request, bytes: usize) {
        task::moved(bytes as u64);
        if !self.is_cloud() {
            self.shared.meter.received(self.stage, request, bytes as u64);
        }
    }
}

/// When an object was written, by the store's clock: stands in the extensions of a [`PutResult`] of stores that know.
#[derive(Clone, Copy, Debug)]
pub struct Written(pub Timestamp);

fn object(key: Key, meta: &ObjectMeta) -> Object {
    let modified = timestamp(meta);
    let etag = match (&meta.e_tag, &meta.version) {
        (Some(etag), _) => bare(etag),
        (None, Some(version)) => version.clone(),
        (None, None) => format!("{:x}-{:x}", meta.size, modified.as_nanosecond()),
    };
    Object { key, size_bytes: meta.size, modified, etag }
}

fn timestamp(meta: &ObjectMeta) -> Timestamp {
    let nanos = i32::try_from(meta.last_modified.timestamp_subsec_nanos()).unwrap_or(0);
    Timestamp::new(meta.last_modified.timestamp(), nanos).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// An etag without its quotes: Azure's listings have none, its other answers do.
fn bare(etag: &str) -> String {
    etag.trim_start_matches("W/").trim_matches('"').to_owned()
}

/// How many requests a cloud's client makes for `ranges`.
fn requests_for(ranges: &[Range<u64>]) -> u64 {
    let mut ranges: Vec<_> = ranges.to_vec();
    ranges.sort_unstable_by_key(|range| range.start);
    let mut requests = 0;
    let mut end = None;
    for range in ranges {
        if end.is_none_or(|end| range.start > end + NEAR_BYTES) {
            requests += 1;
        }
        end = end.max(Some(range.end));
    }
    requests
}

#[cfg(test)]
mod tests;
