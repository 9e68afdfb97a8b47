//! One logical worker's view of the bucket.

use std::collections::BTreeSet;
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use jiff::Timestamp;
use object_store::path::Path;
use object_store::{
    Attributes, CopyMode, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use super::bucket::{Bucket, State, generic};
use super::fate::{Fate, Gate, Incident, Script};

/// What is asked of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallKind {
    /// A page of a listing.
    List,
    /// An object or a part of one.
    Get,
    /// What is known of an object.
    Head,
    /// A whole object.
    Put,
    /// The begin of a multipart upload.
    Begin,
    /// A part of one.
    Part,
    /// Its end.
    Complete,
    /// It is given up.
    Abort,
    /// An object goes.
    Delete,
    /// A copy within the store.
    Copy,
}

/// One call, as it is made.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which call of its client it is, from 1.
    pub number: u64,
    /// The client's name.
    pub client: Arc<str>,
    /// What is asked.
    pub kind: CallKind,
    /// Of which object, or below which folder.
    pub path: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = format!("{:?}", self.kind).to_uppercase();
        write!(f, "{:<5} #{} {kind} {}", self.client, self.number, self.path)
    }
}

/// One life of one logical worker: an [`ObjectStore`]. Cheap to clone; clones are the same life.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    bucket: Bucket,
    name: Arc<str>,
    script: Mutex<Script>,
    life: Mutex<Life>,
}

#[derive(Default)]
struct Life {
    calls: u64,
    dead: bool,
    /// Stands still until then, by the bucket's monotonic time.
    frozen_until: Duration,
    /// Stands still until this is open.
    frozen_by: Option<Gate>,
    /// Of the task in [`Client::live`].
    waker: Option<Waker>,
}

enum Condition {
    Dead,
    Frozen(Thaw),
    Well,
}

/// Ends when a frozen life may go on.
type Thaw = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Life {
    /// Its condition has changed: [`Client::live`] looks at it.
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

impl Client {
    pub(super) fn new(bucket: Bucket, name: &str, script: Script) -> Self {
        let inner = Inner { bucket, name: name.into(), script: Mutex::new(script), life: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// The bucket.
    pub fn bucket(&self) -> &Bucket {
        &self.inner.bucket
    }

    /// How many calls it has made.
    pub fn calls(&self) -> u64 {
        self.life().calls
    }

    /// Whether it has died.
    pub fn is_dead(&self) -> bool {
        self.life().dead
    }

    /// Decides the fates of its calls from now on.
    pub fn follow(&self, script: Script) {
        *self.inner.script.lock().unwrap_or_else(PoisonError::into_inner) = script;
    }

    /// Dies at this moment, between two calls.
    pub fn kill(&self) {
        let mut life = self.life();
        life.dead = true;
        life.wake();
    }

    /// Runs a worker's work to its end, or until this life ends: then `work` is dropped where it stands, as a killed
    /// process is, and there is `None`. While the life is frozen, `work` does not move.
    pub async fn live<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut thaw: Option<Thaw> = None;
        poll_fn(move |context| {
            loop {
                self.life().waker = Some(context.waker().clone());
                match self.condition() {
                    Condition::Dead => return Poll::Ready(None),
                    Condition::Well => return work.as_mut().poll(context).map(Some),
                    Condition::Frozen(until) => {
                        if thaw.insert(until).as_mut().poll(context).is_pending() {
                            return Poll::Pending;
                        }
                    }
                }
            }
        })
        .await
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.inner.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn condition(&self) -> Condition {
        let life = self.life();
        let now = self.inner.bucket.clock().monotonic();
        if life.dead {
            Condition::Dead
        } else if let Some(gate) = life.frozen_by.clone().filter(|gate| !gate.is_open()) {
            Condition::Frozen(Box::pin(async move { gate.pass().await }))
        } else if life.frozen_until > now {
            // Tokio's timer has whole milliseconds.
            let (clock, rest) = (self.inner.bucket.clock().clone(), life.frozen_until - now + Duration::from_millis(1));
            Condition::Frozen(Box::pin(async move { clock.sleep(rest).await }))
        } else {
            Condition::Well
        }
    }

    /// Waits while this life is frozen; for ever once it has ended.
    async fn well(&self) {
        loop {
            match self.condition() {
                Condition::Well => return,
                Condition::Frozen(until) => until.await,
                Condition::Dead => pending().await,
            }
        }
    }

    async fn call<T>(
        &self,
        kind: CallKind,
        path: &str,
        effect: impl FnOnce(&mut State, Timestamp) -> Result<T> + Send,
    ) -> Result<T> {
        self.call_and_cut(kind, path, effect).await.map(|(answer, _)| answer)
    }

    /// One call through its fate; also where the body of its answer breaks off.
    async fn call_and_cut<T>(
        &self,
        kind: CallKind,
        path: &str,
        effect: impl FnOnce(&mut State, Timestamp) -> Result<T> + Send,
    ) -> Result<(T, Option<f64>)> {
        self.well().await;
        let number = {
            let mut life = self.life();
            life.calls += 1;
            life.calls
        };
        let call = Call { number, client: self.inner.name.clone(), kind, path: path.to_owned() };
        let Fate { before, after, cut } = (self.inner.script.lock().unwrap_or_else(PoisonError::into_inner))(&call);

        let bucket = &self.inner.bucket;
        self.meet(&call, before, "before").await?;
        bucket.count(&call);
        let now = bucket.now();
        let answer = effect(&mut bucket.state(), now);
        bucket.note(&call, if answer.is_ok() { "" } else { "refused" });
        if answer.is_ok() && matches!(kind, CallKind::Put | CallKind::Complete | CallKind::Delete | CallKind::Copy) {
            bucket.changed(&call);
        }
        self.meet(&call, after, "after").await?;
        answer.map(|answer| (answer, cut))
    }

    async fn meet(&self, call: &Call, incidents: Vec<Incident>, side: &str) -> Result<()> {
        let bucket = &self.inner.bucket;
        for incident in incidents {
            match incident {
                Incident::Wait(time) => bucket.clock().sleep(time).await,
                Incident::Fail => {
                    bucket.note(call, &format!("FAILS {side} its effect"));
                    return Err(generic("the connection broke (simulated)"));
                }
                Incident::Crash => {
                    bucket.note(call, &format!("CRASH {side} its effect"));
                    self.kill();
                }
                Incident::Freeze(time) => {
                    bucket.note(call, &format!("FREEZE {side} its effect for {time:?}"));
                    let until = bucket.clock().monotonic() + time;
                    let mut life = self.life();
                    life.frozen_until = life.frozen_until.max(until);
                    life.wake();
                }
                Incident::FreezeUntil(gate) => {
                    bucket.note(call, &format!("FREEZE {side} its effect"));
                    let mut life = self.life();
                    life.frozen_by = Some(gate);
                    life.wake();
                }
                Incident::Hold(gate) => {
                    bucket.note(call, &format!("HOLD {side} its effect"));
                    gate.pass().await;
                }
            }
            self.well().await;
        }
        Ok(())
    }

    fn pages(&self, prefix: Option<&Path>, offset: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let folder = prefix.map(|prefix| prefix.as_ref().to_owned()).unwrap_or_default();
        let after = offset.map(|offset| offset.as_ref().to_owned());
        let client = self.clone();
        stream::try_unfold(Some(after), move |after| {
            let (client, folder) = (client.clone(), folder.clone());
            async move {
                let Some(after) = after else { return Ok(None) };
                let size = client.inner.bucket.page_size();
                let page = |state: &mut State, _| Ok(state.page(&folder, after.as_deref(), size));
                let (page, more) = client.call(CallKind::List, &folder, page).await?;
                let next = page.last().map(|last| last.location.as_ref().to_owned()).filter(|_| more).map(Some);
                Ok::<_, Error>(Some((stream::iter(page.into_iter().map(Ok)), next)))
            }
        })
        .try_flatten()
        .boxed()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.inner.name)
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "simulation as {}", self.inner.name)
    }
}

#[async_trait]
impl ObjectStore for Client {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let PutOptions { mode, attributes, .. } = options;
        let path = location.as_ref();
        let body = Bytes::from(payload);
        self.call(CallKind::Put, path, |state, now| state.put(path, body, attributes, &mode, now)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let path = location.as_ref().to_owned();
        let id = self.call(CallKind::Begin, &path, |state, now| Ok(state.begin(now))).await?;
        Ok(Box::new(Upload { client: self.clone(), path, id, parts: 0, attributes: options.attributes }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let path = location.as_ref();
        let kind = if options.head { CallKind::Head } else { CallKind::Get };
        let (answer, cut) = self.call_and_cut(kind, path, |state, _| state.find(path)).await?;
        let (meta, body, attributes) = answer;
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            Some(range) => range
                .as_range(meta.size)
                .map_err(|source| Error::Generic { store: "simulation", source: Box::new(source) })?,
            None => 0..meta.size,
        };
        // Both ends lie within a body that is in memory.
        let body = if options.head { Bytes::new() } else { body.slice(range.start as usize..range.end as usize) };
        let chunks = match cut {
            Some(part) => {
                let whole = body.slice(..(body.len() as f64 * part) as usize);
                vec![Ok(whole), Err(generic("the body was cut (simulated)"))]
            }
            None => vec![Ok(body)],
        };
        let payload = GetResultPayload::Stream(stream::iter(chunks).boxed());
        Ok(GetResult { payload, meta, range, attributes, extensions: Default::default() })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let client = self.clone();
        locations
            .and_then(move |location| {
                let client = client.clone();
                async move {
                    let path = location.as_ref();
                    // Clouds delete on a condition; the client's interface has no word for it.
                    let condition = crate::store::connect::Call::condition();
                    client.call(CallKind::Delete, path, |state, _| state.delete(path, condition)).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.pages(prefix, None)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.pages(prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let folder = prefix.map(|prefix| prefix.as_ref().to_owned()).unwrap_or_default();
        let below: Vec<ObjectMeta> = self.pages(prefix, None).try_collect().await?;
        let mut result =
            ListResult { common_prefixes: Vec::new(), objects: Vec::new(), extensions: Default::default() };
        let mut folders = BTreeSet::new();
        for object in below {
            let rest = object.location.as_ref()[folder.len()..].trim_start_matches('/');
            match rest.split_once('/') {
                Some((name, _)) => {
                    let parent = Path::parse(&folder).unwrap_or_default();
                    folders.insert(parent.join(name));
                }
                None => result.objects.push(object),
            }
        }
        result.common_prefixes = folders.into_iter().collect();
        Ok(result)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let mode = match options.mode {
            CopyMode::Create => PutMode::Create,
            CopyMode::Overwrite => PutMode::Overwrite,
        };
        let copy = |state: &mut State, now| {
            let (_, body, attributes) = state.find(from.as_ref())?;
            state.put(to.as_ref(), body, attributes, &mode, now)
        };
        self.call(CallKind::Copy, to.as_ref(), copy).await.map(|_| ())
    }
}

struct Upload {
    client: Client,
    path: String,
    id: u64,
    parts: usize,
    attributes: Attributes,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({})", self.path)
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, part: PutPayload) -> UploadPart {
        let (client, path, id, index) = (self.client.clone(), self.path.clone(), self.id, self.parts);
        self.parts += 1;
        Box::pin(async move { client.call(CallKind::Part, &path, |state, _| state.part(id, index, part)).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (id, attributes) = (self.id, std::mem::take(&mut self.attributes));
        let path = self.path.clone();
        self.client.call(CallKind::Complete, &path, |state, now| state.complete(&path, id, attributes, now)).await
    }

    async fn abort(&mut self) -> Result<()> {
        let id = self.id;
        let path = self.path.clone();
        let abort = |state: &mut State, _| {
            state.abort(id);
            Ok(())
        };
        self.client.call(CallKind::Abort, &path, abort).await
    }
}
