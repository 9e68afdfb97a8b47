//! An object's bytes for a decoder, which reads as if from a file.

use std::io::{self, Cursor, Read};

use bytes::Bytes;
use futures::StreamExt;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::mpsc;

use crate::error::Report;
use crate::store::{Object, Store};
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
    Failed(String),
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
                    Err(error) => Chunk::Failed(error.to_string()),
                };
                // Nobody reads any more: the object was given up.
                if sender.send(chunk).await.is_err() {
                    return Ok(());
                }
            }
            let last = if came_bytes == size_bytes { Chunk::End } else { Chunk::Failed(cut(size_bytes, came_bytes)) };
            let _ = sender.send(last).await;
            Ok(())
        });
        Ok((Self::stream(chunks, pump), object, None))
    }

    /// A body of which only a part came: reading it fails, so that the object is left for later.
    fn cut(size_bytes: u64, came_bytes: u64) -> Self {
        let (sender, chunks) = mpsc::channel(1);
        let _ = sender.try_send(Chunk::Failed(cut(size_bytes, came_bytes)));
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
            let chunk = self.chunks.try_recv().ok().or_else(|| self.chunks.blocking_recv());
            match chunk {
                Some(Chunk::Bytes(bytes)) => self.current = bytes,
                Some(Chunk::Failed(why)) => self.ended = Some(Err(why)),
                Some(Chunk::End) => self.ended = Some(Ok(())),
                None => self.ended = Some(Err("the download was stopped".to_owned())),
            }
        }
        let count = self.current.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}
