//! Bodies of requests: counted, bounded and timed while they are read.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Sleep;

use super::{Held, Receiver, Refusal};

/// How long a body may take: what a slow line needs for the largest one.
const BODY_TIME: Duration = Duration::from_secs(30);

/// A body that fails if it is too large, too slow, or more than there is memory for.
pub(super) struct Taken {
    body: Body,
    read_bytes: usize,
    most_bytes: usize,
    until: Pin<Box<Sleep>>,
    holds: Holds,
}

/// What a request holds, while its body is read and after.
#[derive(Clone)]
pub(super) struct Holds(Arc<Mutex<Option<Held>>>);

impl Holds {
    /// Takes it out of the body.
    pub fn take(&self) -> Option<Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Taken {
    /// The body of a request that `receiver` may take. `frame_bytes` may stand around the message.
    ///
    /// # Errors
    /// If it says that it is too large, or there is no memory for it.
    pub fn new(body: Body, receiver: &Receiver, frame_bytes: usize) -> Result<(Self, Holds), Refusal> {
        let most_bytes = receiver.options().request_bytes;
        if body.size_hint().lower() > (most_bytes + frame_bytes) as u64 {
            return Err(Refusal::TooLarge(most_bytes));
        }
        let holds = Holds(Arc::new(Mutex::new(Some(receiver.0.memory.enter()?))));
        let (until, most_bytes) = (Box::pin(deadline(BODY_TIME)), most_bytes + frame_bytes);
        Ok((Self { body, read_bytes: 0, most_bytes, until, holds: holds.clone() }, holds))
    }

    fn count(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.read_bytes += bytes;
        if self.read_bytes > self.most_bytes {
            return Err(Refusal::TooLarge(self.most_bytes));
        }
        match &mut *self.holds.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(held) => held.hold(self.read_bytes),
            None => Err(Refusal::Cut),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a client's time, which no simulation needs to hold")]
fn deadline(time: Duration) -> Sleep {
    tokio::time::sleep(time)
}

impl http_body::Body for Taken {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            ready!(self.until.as_mut().poll(cx));
            return Poll::Ready(Some(Err(Refusal::Slow)));
        };
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(|_| Refusal::Cut)?;
            self.count(frame.data_ref().map_or(0, Bytes::len))?;
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
