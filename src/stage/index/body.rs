//! An object's bytes for a decoder, which reads as if from a file.

use std::io::{self, Cursor, Read};

use bytes::Bytes;
use futures::StreamExt;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::mpsc;

use crate::error::Report;
use crate::store::{Object, Store, StoreError};
use crate::task::{self, Task};

/// Objects up to this size are fetched whole, larger ones as a stream.
pub(super) const WHOLE_BYTES: u64 = 8 << 20;

/// How many chunks of a stream wait for the decoder: enough that neither waits for the other.
const CHUNKS_AHEAD: usize = 4;

/// The bytes of an object, whole or as they come.
pub(super) enum Body {
    Whole(Cursor<Bytes>),
    Stream(Stream),
}

/// Bytes that a task fetches while a decoder on another thread reads them.
pub(super) struct Stream {
    chunks: mpsc::Receiver<Chunk>,
    current: Bytes,
    /// How it ended: that is said at every further read, so that a cut body never looks whole.
    ended: Option<Result<(), String>>,
    _pump: Task<()>,
}

enum Chunk {
    Bytes(Bytes),
    Failed(StoreError),
    Cut(String),
    /// All of it has come: without this word the object was cut.
    End,
}

impl Body {
    /// Fetches an object; what the answer said of it, and its bytes once more if they are whole.
    ///
    /// # Errors
    /// Those of the store. That a body was cut shows when it is read.
    pub(super) async fn fetch(store: &Store, listed: &Object) -> Result<(Self, Object, Option<Bytes>), Report> {
        // A runtime of one thread decodes in place (`task::cpu`): nobody would fill the channel.
        let one_thread = Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread;
        if listed.size_bytes <= WHOLE_BYTES || one_thread {
            let (bytes, object) = store.get(&listed.key).await?;
            if bytes.len() as u64 != object.size_bytes {
                return Ok((Self::cut(object.size_bytes, bytes.len() as u64), object, None));
            }
            return Ok((Self::Whole(Cursor::new(bytes.clone())), object, Some(bytes)));
        }
        let (mut body, object) = store.get_stream(&listed.key).await?;
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let size_bytes = object.size_bytes;
        let pump = task::spawn(async move {
            let mut came_bytes = 0;
            while let Some(chunk) = body.next().await {
                let chunk = match chunk {
                    Ok(bytes) => {
                        came_bytes += bytes.len() as u64;
                        Chunk::Bytes(bytes)
                    }
                    Err(error) => Chunk::Failed(error),
                };
                // Nobody reads any more: the object was given up.
                if sender.send(chunk).await.is_err() {
                    return Ok(());
                }
            }
            let last = if came_bytes == size_bytes { Chunk::End } else { Chunk::Cut(cut(size_bytes, came_bytes)) };
            // Nobody reads any more, or nobody ever will.
            drop(sender.send(last).await);
            Ok(())
        });
        Ok((Self::stream(chunks, pump), object, None))
    }

    /// A body of which only a part came: reading it fails, so that the object is left for later.
    fn cut(size_bytes: u64, came_bytes: u64) -> Self {
        let (sender, chunks) = mpsc::channel(1);
        // There is room for one.
        drop(sender.try_send(Chunk::Cut(cut(size_bytes, came_bytes))));
        Self::stream(chunks, task::spawn(async { Ok(()) }))
    }

    fn stream(chunks: mpsc::Receiver<Chunk>, pump: Task<()>) -> Self {
        Self::Stream(Stream { chunks, current: Bytes::new(), ended: None, _pump: pump })
    }
}

fn cut(size_bytes: u64, came_bytes: u64) -> String {
    format!("the body was cut: {came_bytes} of {size_bytes} bytes came")
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Whole(bytes) => bytes.read(buffer),
            Self::Stream(stream) => stream.read(buffer),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            if let Some(ended) = &self.ended {
                return ended.clone().map(|()| 0).map_err(io::Error::other);
            }
            // A cut body fails without waiting, also where decoding happens in place.
            let chunk = self.chunks.try_recv().ok().or_else(|| task::wait(self.chunks.recv())?);
            match chunk {
                Some(Chunk::Bytes(bytes)) => self.current = bytes,
                Some(Chunk::Failed(error)) => {
                    self.ended = Some(Err(error.to_string()));
                    // Once with all that is known of it.
                    return Err(io::Error::other(error));
                }
                Some(Chunk::Cut(why)) => self.ended = Some(Err(why)),
                Some(Chunk::End) => self.ended = Some(Ok(())),
                None => self.ended = Some(Err("the download was stopped".to_owned())),
            }
        }
        let count = self.current.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Clock;
    use crate::store::fault::{Bucket, Fate};
    use crate::store::{Key, Prefix};

    /// A store with one object of `size_bytes` that counts up, of whose bodies `cut` comes.
    async fn fetched(size_bytes: usize, cut: Option<f64>) -> (Body, Vec<u8>, bool) {
        let clock = Clock::simulated("2026-11-22T14:30:00Z".parse().unwrap(), 1);
        let bucket = Bucket::new(clock.clone(), 1_000);
        let bytes: Vec<u8> = (0..size_bytes).map(|at| (at / 7) as u8).collect();
        bucket.put("inbox/a", bytes.clone());
        let client = bucket.client("test", Box::new(move |_| Fate { cut, ..Fate::calm() }));
        let store = Store::over(Arc::new(client), "memory://", clock);
        let listed = store.list(&Prefix::Inbox).await.unwrap().objects.remove(0);
        assert_eq!(listed.key, Key::Inbox("a".to_owned()));
        let (body, object, whole) = Body::fetch(&store, &listed).await.unwrap();
        assert_eq!(object.size_bytes, size_bytes as u64);
        (body, bytes, whole.is_some())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_large_object_is_read_as_it_comes_and_a_small_one_is_held_whole() {
        for size_bytes in [0, 1, 100_000, WHOLE_BYTES as usize, WHOLE_BYTES as usize + 1, 3 * WHOLE_BYTES as usize] {
            let (mut body, bytes, whole) = fetched(size_bytes, None).await;
            assert_eq!(whole, size_bytes as u64 <= WHOLE_BYTES);
            let read = task::cpu(move || {
                let mut read = Vec::new();
                body.read_to_end(&mut read)?;
                Ok(read)
            });
            assert!(read.await.unwrap() == bytes, "{size_bytes}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_stream_that_was_cut_never_looks_whole() {
        let (mut body, bytes, _) = fetched(2 * WHOLE_BYTES as usize, Some(0.7)).await;
        let read = task::cpu(move || {
            let mut read = Vec::new();
            let errors = [body.read_to_end(&mut read).is_err(), body.read(&mut [0; 10]).is_err()];
            Ok((read, errors))
        });
        let (read, errors) = read.await.unwrap();
        assert_eq!(errors, [true, true], "also when it is asked again");
        assert!(read.len() < bytes.len() && bytes.starts_with(&read));
    }
}
