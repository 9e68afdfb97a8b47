//! What cannot be read: where it is, what is wrong with it, and where to write that down.

/// A part of an object that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPart {
    /// A word for why, one of [`reason`], which is a folder of the quarantine.
    pub reason: &'static str,
    /// Where in the object, for a person: `line 2, byte 120`, `resource 1, scope 1, span 3, byte 120`. Bytes are
    /// counted from 0 in the decompressed object, everything else from 1.
    pub at: String,
    /// What is wrong, for a person.
    pub message: String,
}

/// The words for why.
pub mod reason {
    /// Workers that had it, and nothing else, in hand died.
    pub const DEADLY: &str = "deadly";
    /// It ends in the middle.
    pub const TRUNCATED: &str = "truncated";
    /// It is compressed, and what is compressed is damaged: the checksum is wrong, or there is junk behind it.
    pub const CORRUPT: &str = "corrupt";
    /// It is not valid protobuf or JSON.
    pub const MALFORMED: &str = "malformed";
    /// A trace or span id of a wrong length, zero, or not in hex.
    pub const BAD_ID: &str = "bad-id";
    /// A value of a wrong type or out of its range.
    pub const BAD_VALUE: &str = "bad-value";
    /// Text that is not UTF-8, or half of a surrogate pair.
    pub const BAD_TEXT: &str = "bad-text";
    /// Values that nest deeper than [`Limits::depth`](crate::otlp::Limits::depth).
    pub const TOO_DEEP: &str = "too-deep";
    /// A message above [`Limits::message_bytes`](crate::otlp::Limits::message_bytes).
    pub const TOO_LARGE: &str = "too-large";
    /// It can be read, but holds no traces: logs, metrics, other JSON.
    pub const NOT_TRACES: &str = "not-traces";
    /// Neither gzip, zstd, protobuf nor JSON.
    pub const UNKNOWN_FORMAT: &str = "unknown-format";
}

/// What is wrong with the thing in hand. Boxed: it is rare, and results stay small.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// Where: the address of a byte of the message in hand (protobuf), or a place in it (JSON).
    pub(super) at: usize,
}

pub(super) type Read<T> = Result<T, Box<Problem>>;

#[cold]
pub(super) fn problem(reason: &'static str, at: usize, message: impl Into<String>) -> Box<Problem> {
    Box::new(Problem { reason, message: message.into(), at })
}

/// How many bad parts are told one by one.
const TOLD: usize = 100;

/// The bad parts of one object.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) parts: Vec<BadPart>,
    pub(super) count: u64,
}

impl Notes {
    #[cold]
    pub(super) fn add(&mut self, reason: &'static str, at: impl Into<String>, message: impl Into<String>) {
        self.count += 1;
        if self.parts.len() < TOLD {
            self.parts.push(BadPart { reason, at: at.into(), message: message.into() });
        }
    }
}
