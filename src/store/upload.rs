//! Large objects on their way.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use object_store::{MultipartUpload, ObjectStore, PutMultipartOptions};

use super::{Key, Object, Request, Store, StoreError, StoreErrorKind, StoreResult};
use crate::task::{self, Task};

/// Parts are of this size, but the last: S3 wants at least 5 MiB and at most 10,000 of them, so an object may have
/// 80 GB.
pub(crate) const PART_BYTES: usize = 8 << 20;

/// Parts on their way at once. Memory for them is at most this many and the one being filled: 40 MiB.
const PARTS_AT_ONCE: usize = 4;

/// A large object on its way; dropped without [`Upload::finish`], nothing of it is ever visible.
pub struct Upload {
    store: Store,
    key: Key,
    /// What does not fill a part yet.
    rest: BytesMut,
    size_bytes: u64,
    /// Begun with the first whole part: an object smaller than that is one plain request.
    parts: Option<Box<dyn MultipartUpload>>,
    on_their_way: VecDeque<Task<StoreResult<()>>>,
}

impl Upload {
    pub(super) fn new(store: Store, key: Key) -> Self {
        let rest = BytesMut::new();
        Self { store, key, rest, size_bytes: 0, parts: None, on_their_way: VecDeque::new() }
    }

    /// Bytes written so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Adds bytes; parts are sent as they fill.
    ///
    /// # Errors
    /// A failure of an earlier part shows here, or in [`Upload::finish`].
    pub async fn write(&mut self, bytes: Bytes) -> StoreResult<()> {
        self.size_bytes += bytes.len() as u64;
        self.rest.extend_from_slice(&bytes);
        while self.rest.len() >= PART_BYTES {
            let part = self.rest.split_to(PART_BYTES).freeze();
            self.send(part).await?;
        }
        Ok(())
    }

    async fn send(&mut self, part: Bytes) -> StoreResult<()> {
        while self.on_their_way.len() >= PARTS_AT_ONCE {
            self.arrive().await?;
        }
        let parts = match &mut self.parts {
            Some(parts) => parts,
            none => {
                let store = &self.store;
                store.count_many(Request::Part, 1);
                let path = store.path(&self.key);
                let begin = store.shared.objects.put_multipart_opts(&path, PutMultipartOptions::default());
                none.insert(store.ask("create", &store.within(&self.key), begin).await?)
            }
        };
        if !self.store.is_cloud() {
            self.store.shared.meter.add(self.store.stage, Request::Part, part.len() as u64);
        }
        let bytes = part.len() as u64;
        let sent = parts.put_part(part.into());
        let (store, key) = (self.store.clone(), self.key.clone());
        // A task of its own: parts go on while the next one is being encoded.
        self.on_their_way.push_back(task::spawn(async move {
            let sent = store.ask("send a part of", &store.within(&key), sent).await;
            task::moved(bytes);
            Ok(sent)
        }));
        Ok(())
    }

    /// Waits for the oldest part on its way.
    async fn arrive(&mut self) -> StoreResult<()> {
        let Some(part) = self.on_their_way.pop_front() else { return Ok(()) };
        match part.join().await {
            Ok(sent) => sent,
            Err(_) => {
                let path = format!("{}/{}", self.store.url(), self.store.within(&self.key));
                let source = Some("the program is stopping".into());
                Err(StoreError { kind: StoreErrorKind::Unavailable, operation: "create", path, source })
            }
        }
    }

    /// Makes the object visible, whole. An ambiguous failure is settled by looking: the name was ours alone.
    pub async fn finish(mut self) -> StoreResult<Object> {
        if self.parts.is_none() {
            return self.store.create(&self.key, self.rest.split().freeze()).await;
        }
        let outcome = self.complete().await;
        if outcome.is_err()
            && let Some(mut parts) = self.parts.take()
        {
            // Parts already sent would cost storage. If this fails too, or the process dies first, the bucket's rule for
            // unfinished uploads takes them.
            let _ = self.store.ask("give up", &self.store.within(&self.key), parts.abort()).await;
        }
        outcome
    }

    async fn complete(&mut self) -> StoreResult<Object> {
        if !self.rest.is_empty() {
            let last = self.rest.split().freeze();
            self.send(last).await?;
        }
        while !self.on_their_way.is_empty() {
            self.arrive().await?;
        }
        let (store, key) = (&self.store, &self.key);
        let Some(parts) = &mut self.parts else { return store.head(key).await };
        store.count_many(Request::Part, 1);
        let completed = store.ask("create", &store.within(key), parts.complete()).await;
        // Asked in either case: not every store says when it dated the object, and the answer may have been lost.
        match (store.head(key).await, completed) {
            (Ok(object), _) if object.size_bytes == self.size_bytes => Ok(object),
            (_, Err(error)) => Err(error),
            (Ok(object), Ok(_)) => Err(store.cut("create", key, object.size_bytes, self.size_bytes)),
            (Err(error), Ok(_)) => Err(error),
        }
    }
}
