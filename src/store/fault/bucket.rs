//! The objects themselves, and what is known of every call.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt::Write as _;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use jiff::Timestamp;
use object_store::path::Path;
use object_store::{Attributes, Error, ObjectMeta, PutMode, PutPayload, PutResult, Result};
use xxhash_rust::xxh3::xxh3_64;

use super::client::{Call, CallKind, Client};
use super::fate::Script;
use crate::clock::Clock;
use crate::store::Written;

/// Calls that are remembered for a failing test; the counts remember all.
const REMEMBERED: usize = 20_000;

/// The objects of one simulated store. Cheap to clone; clones are the same store.
#[derive(Clone)]
pub struct Bucket {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    page_size: usize,
    state: Mutex<State>,
    watcher: Mutex<Option<Watcher>>,
}

/// Sees all objects right after a call has changed some.
pub type Watcher = Box<dyn FnMut(&Call, &BTreeMap<String, Stored>) + Send>;

/// An object as it stands.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its bytes.
    pub body: Bytes,
    /// Last-modified, in whole seconds as S3 tells it.
    pub modified: Timestamp,
    /// A hash of its bytes: the same bytes written again have the same etag, as on S3.
    pub etag: String,
    /// Its headers, as they were given with it.
    pub attributes: Attributes,
}

#[derive(Default)]
pub(super) struct State {
    objects: BTreeMap<String, Stored>,
    uploads: HashMap<u64, Uploading>,
    next_upload: u64,
    /// Every name under `spans/` and `entries/` that was ever used.
    used: BTreeSet<String>,
    breaches: Vec<String>,
    log: VecDeque<String>,
    counts: BTreeMap<(CallKind, String), u64>,
}

struct Uploading {
    began: Timestamp,
    parts: BTreeMap<usize, PutPayload>,
}

impl Bucket {
    /// An empty store whose time is `clock`'s wall time. A page of a listing holds `page_size` keys (1,000 in clouds).
    pub fn new(clock: Clock, page_size: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                clock,
                page_size: page_size.max(1),
                state: Mutex::default(),
                watcher: Mutex::default(),
            }),
        }
    }

    /// A view of this store for one life of one logical worker. `name` stands in the log.
    pub fn client(&self, name: &str, script: Script) -> Client {
        Client::new(self.clone(), name, script)
    }

    /// The store's time.
    pub fn now(&self) -> Timestamp {
        self.shared.clock.wall()
    }

    /// The store's clock.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    pub(super) fn page_size(&self) -> usize {
        self.shared.page_size
    }

    /// Puts objects back as they stood, with their times: a state that was kept.
    pub fn restore(&self, objects: BTreeMap<String, Stored>) {
        self.state().objects.extend(objects);
    }

    /// Writes an object at once, over another if there is one, and counts no call: what a collector does, or a vandal.
    pub fn put(&self, path: &str, body: impl Into<Bytes>) {
        let now = self.now();
        let mut state = self.state();
        note(&mut state, now, format_args!("test  PUT {path}"));
        state.write(path, body.into(), Attributes::default(), now);
    }

    /// The object at `path`.
    pub fn read(&self, path: &str) -> Option<Stored> {
        self.state().objects.get(path).cloned()
    }

    /// Deletes the object at `path`; whether there was one.
    pub fn remove(&self, path: &str) -> bool {
        let now = self.now();
        let mut state = self.state();
        note(&mut state, now, format_args!("test  DELETE {path}"));
        state.objects.remove(path).is_some()
    }

    /// The paths under `prefix` (any text), in order.
    pub fn paths(&self, prefix: &str) -> Vec<String> {
        let state = self.state();
        let range = (Bound::Included(prefix.to_owned()), Bound::Unbounded);
        state.objects.range(range).map(|(path, _)| path).take_while(|path| path.starts_with(prefix)).cloned().collect()
    }

    /// All objects as they stand at this moment.
    pub fn objects(&self) -> BTreeMap<String, Stored> {
        self.state().objects.clone()
    }

    /// How often each kind of call was made, by the first two folders of its path (one below `inbox/` and `latest/`).
    pub fn counts(&self) -> BTreeMap<(CallKind, String), u64> {
        self.state().counts.clone()
    }

    /// What no correct farm does: a name under `spans/` or `entries/` used twice, an object there, a pin or a
    /// numbered document written without put-if-absent.
    pub fn breaches(&self) -> Vec<String> {
        self.state().breaches.clone()
    }

    /// The last calls, one a line, oldest first.
    pub fn log(&self) -> String {
        self.state().log.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        })
    }

    /// Shows `watcher` all objects right after each call that changed some: a test sees every state there ever was.
    pub fn watch(&self, watcher: impl FnMut(&Call, &BTreeMap<String, Stored>) + Send + 'static) {
        *self.shared.watcher.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(watcher));
    }

    pub(super) fn changed(&self, call: &Call) {
        let mut watcher = self.shared.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watcher) = watcher.as_mut() {
            let state = self.state();
            watcher(call, &state.objects);
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call that reaches the store.
    pub(super) fn count(&self, call: &Call) {
        let folders = if call.path.starts_with("inbox/") || call.path.starts_with("latest/") { 1 } else { 2 };
        let folder = call.path.split('/').take(folders).collect::<Vec<_>>().join("/");
        *self.state().counts.entry((call.kind, folder)).or_default() += 1;
    }

    pub(super) fn note(&self, call: &Call, what: &str) {
        let now = self.now();
        note(&mut self.state(), now, format_args!("{call} {what}"));
    }
}

fn note(state: &mut State, now: Timestamp, line: std::fmt::Arguments<'_>) {
    if state.log.len() == REMEMBERED {
        state.log.pop_front();
    }
    state.log.push_back(format!("{now:.3} {line}"));
}

impl State {
    fn write(&mut self, path: &str, body: Bytes, attributes: Attributes, now: Timestamp) -> String {
        let etag = format!("\"{:016x}\"", xxh3_64(&body));
        let stored = Stored { body, modified: whole_seconds(now), etag: etag.clone(), attributes };
        self.objects.insert(path.to_owned(), stored);
        etag
    }

    /// A worker's PUT, whole and at once.
    pub(super) fn put(
        &mut self,
        path: &str,
        body: Bytes,
        attributes: Attributes,
        mode: &PutMode,
        now: Timestamp,
    ) -> Result<PutResult> {
        let found = self.objects.get(path).map(|stored| stored.etag.clone());
        let refused = |source: String| source.into();
        match (mode, &found) {
            (PutMode::Create, Some(etag)) => {
                let source = refused(format!("it is there, with etag {etag}"));
                return Err(Error::AlreadyExists { path: path.to_owned(), source });
            }
            (PutMode::Update(expected), found) if expected.e_tag != *found => {
                let source = refused(format!("{:?} is there, not {:?}", found, expected.e_tag));
                return Err(Error::Precondition { path: path.to_owned(), source });
            }
            _ => {}
        }
        self.audit(path, matches!(mode, PutMode::Create), found.is_some());
        let etag = self.write(path, body, attributes, now);
        Ok(put_result(etag, now))
    }

    fn audit(&mut self, path: &str, create: bool, over: bool) {
        let is_block = path.starts_with("spans/") || path.starts_with("entries/");
        let create_only = is_block
            || ["latest/", "farm/settings/", "farm/handlers/", "farm/strikes/"].iter().any(|dir| path.starts_with(dir));
        if create_only && !create {
            self.breaches.push(format!("{path} was not written by put-if-absent"));
        }
        if create_only && over {
            self.breaches.push(format!("{path} was written over"));
        }
        if is_block && !self.used.insert(path.to_owned()) {
            self.breaches.push(format!("{path}: a name is used twice"));
        }
    }

    pub(super) fn begin(&mut self, now: Timestamp) -> u64 {
        self.next_upload += 1;
        self.uploads.insert(self.next_upload, Uploading { began: now, parts: BTreeMap::new() });
        self.next_upload
    }

    pub(super) fn part(&mut self, upload: u64, index: usize, part: PutPayload) -> Result<()> {
        self.uploads.get_mut(&upload).ok_or_else(|| generic("no such upload"))?.parts.insert(index, part);
        Ok(())
    }

    /// Makes an upload visible. Multipart uploads know no put-if-absent: the names must be unique. Last-modified is when
    /// it began, as on S3.
    pub(super) fn complete(
        &mut self,
        path: &str,
        upload: u64,
        attributes: Attributes,
        now: Timestamp,
    ) -> Result<PutResult> {
        let upload = self.uploads.remove(&upload).ok_or_else(|| generic("no such upload"))?;
        let body: Vec<u8> = upload.parts.into_values().flat_map(|part| Bytes::from(part).to_vec()).collect();
        let over = self.objects.contains_key(path);
        self.audit(path, true, over);
        let etag = self.write(path, body.into(), attributes, upload.began);
        Ok(put_result(etag, now))
    }

    pub(super) fn abort(&mut self, upload: u64) {
        self.uploads.remove(&upload);
    }

    /// As on S3, it is no error that there was nothing, unless there was a condition.
    pub(super) fn delete(&mut self, path: &str, condition: Option<String>) -> Result<()> {
        if let Some(expected) = condition {
            let found = self.objects.get(path).map(|stored| stored.etag.trim_matches('"'));
            if found != Some(expected.as_str()) {
                let source = format!("{found:?} is there, not {expected}").into();
                return Err(Error::Precondition { path: path.to_owned(), source });
            }
        }
        self.objects.remove(path);
        Ok(())
    }

    pub(super) fn find(&self, path: &str) -> Result<(ObjectMeta, Bytes, Attributes)> {
        let stored = self
            .objects
            .get(path)
            .ok_or_else(|| Error::NotFound { path: path.to_owned(), source: "no such object".into() })?;
        Ok((meta(path, stored), stored.body.clone(), stored.attributes.clone()))
    }

    /// A page of the objects below `folder` (all if empty) after `after`, and whether there are more.
    pub(super) fn page(&self, folder: &str, after: Option<&str>, size: usize) -> (Vec<ObjectMeta>, bool) {
        let below = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let from = match after {
            Some(after) if after >= below.as_str() => Bound::Excluded(after.to_owned()),
            _ => Bound::Included(below.clone()),
        };
        let mut found = self.objects.range((from, Bound::Unbounded)).take_while(|(path, _)| path.starts_with(&below));
        let page = found.by_ref().take(size).map(|(path, stored)| meta(path, stored)).collect();
        (page, found.next().is_some())
    }
}

/// S3 tells last-modified, and every server its `Date`, in whole seconds.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// The answer to a write carries its `Date`.
fn put_result(etag: String, now: Timestamp) -> PutResult {
    let mut extensions = object_store::Extensions::new();
    extensions.insert(Written(whole_seconds(now)));
    PutResult { e_tag: Some(etag), version: None, extensions }
}

fn meta(path: &str, stored: &Stored) -> ObjectMeta {
    ObjectMeta {
        location: Path::parse(path).unwrap_or_else(|_| Path::from(path)),
        last_modified: SystemTime::from(stored.modified).into(),
        size: stored.body.len() as u64,
        e_tag: Some(stored.etag.clone()),
        version: None,
    }
}

/// An error that can pass: a connection that broke.
pub(super) fn generic(what: &'static str) -> Error {
    let source = std::io::Error::new(std::io::ErrorKind::ConnectionReset, what);
    Error::Generic { store: "simulation", source: Box::new(source) }
}
