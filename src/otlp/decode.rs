//! One object → rows. The format is told by content, never by name.

use std::io::Read;

use arrow::record_batch::RecordBatch;
use jiff::Timestamp;

use super::redact::Redact;
use crate::error::Result;

/// What an object may ask of us.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest single message: a protobuf document, a JSON document, a line, a frame. Bytes, decompressed.
    pub message_bytes: usize,
    /// How deep values may nest.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes: 64 << 20, depth: 100 }
    }
}

/// Rows of the `spans` table in the order in which they came, growing: the columns that every decoder writes into.
#[derive(Debug)]
pub struct SpanRows {}

impl SpanRows {
    /// No rows yet. `redact` says which attributes lose their values before anything is stored.
    pub fn new(redact: Redact) -> Self {
        let _ = redact;
        todo!()
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how much memory they take.
    pub fn memory_bytes(&self) -> usize {
        todo!()
    }

    /// The rows as one batch of [`crate::table::spans::schema`], not sorted; leaves none behind.
    pub fn finish(&mut self) -> RecordBatch {
        todo!()
    }
}

/// A part of an object that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPart {
    /// A word for why, which is a folder of the quarantine, eg `truncated`, `bad-id`, `too-deep`, `not-traces`.
    pub reason: &'static str,
    /// Where in the object, for a person: `line 2`, `message 1, span 3, byte 120`.
    pub at: String,
    /// What is wrong, for a person.
    pub message: String,
}

/// How far [`ObjectDecoder::decode`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The rows are many enough; call again with new ones.
    Full,
    /// The object is at its end.
    Done,
}

/// Reads one object of any size, message by message.
pub struct ObjectDecoder<R> {
    _body: R,
}

impl<R: Read> ObjectDecoder<R> {
    /// Begins with an object's bytes. `received` is the object's last-modified, as the answer that delivers these
    /// bytes said.
    pub fn new(body: R, received: Timestamp, limits: Limits) -> Self {
        let _ = (received, limits);
        Self { _body: body }
    }

    /// Decodes into `rows` until the object ends or `rows` hold about `until_bytes` of decompressed input from this
    /// call. Bad parts are noted ([`ObjectDecoder::bad`]) and the good ones go on.
    ///
    /// # Errors
    /// Only if `body` fails to be read (a cut connection): the rows of this object are then not whole, and the object
    /// is to be read again.
    pub fn decode(&mut self, rows: &mut SpanRows, until_bytes: usize) -> Result<Progress> {
        let _ = (rows, until_bytes);
        todo!()
    }

    /// What could not be read so far, at most 100 of them.
    pub fn bad(&self) -> &[BadPart] {
        todo!()
    }

    /// How many parts could not be read, those beyond the hundredth included.
    pub fn bad_count(&self) -> u64 {
        todo!()
    }

    /// Bytes decompressed so far.
    pub fn decompressed_bytes(&self) -> u64 {
        todo!()
    }
}
