//! Bodies that come too slowly.
//!
//! A pause in a body is limited by the client's read time-out, but a body of which a byte comes now and then would keep
//! an item for days. Only the time in which somebody waits for it counts: a reader may take as long as it likes.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::client::{HttpError, HttpErrorKind, HttpResponseBody};

use crate::clock::Clock;

/// A body that fails, as if its time were out, when it has been waited for longer than a reasonable network needs: the
/// client then asks for the rest, as often as it repeats a request.
pub(super) struct Paced {
    body: HttpResponseBody,
    clock: Clock,
    /// How long may be waited, beside the time that what came takes at the least rate.
    patience: Duration,
    bytes_per_sec: u64,
    came_bytes: u64,
    waited: Duration,
    /// Since when somebody waits for the next piece.
    since: Option<Duration>,
}

impl Paced {
    pub(super) fn new(body: HttpResponseBody, clock: Clock, patience: Duration, bytes_per_sec: u64) -> Self {
        Self { body, clock, patience, bytes_per_sec, came_bytes: 0, waited: Duration::ZERO, since: None }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        let now = self.clock.monotonic();
        let Poll::Ready(frame) = frame else {
            self.since.get_or_insert(now);
            return Poll::Pending;
        };
        if let Some(since) = self.since.take() {
            self.waited += now.saturating_sub(since);
        }
        if let Some(Ok(frame)) = &frame {
            self.came_bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
            let allowed = self.patience + Duration::from_secs(self.came_bytes / self.bytes_per_sec);
            if self.waited > allowed {
                let slow = format!("too slow: {} bytes in {:.0} s", self.came_bytes, self.waited.as_secs_f64());
                return Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Timeout, std::io::Error::other(slow)))));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
