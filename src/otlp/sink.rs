//! Where decoders put what they read, and how they say where they are.

use super::bad::Notes;
use super::rows::{Span, SpanRows};

/// Where decoded spans and bad parts go.
#[derive(Debug)]
pub(super) struct Sink<'r> {
    pub(super) rows: &'r mut SpanRows,
    pub(super) notes: &'r mut Notes,
    /// How deep values may nest.
    pub(super) depth: usize,
    /// Milliseconds since 1970, a whole second.
    pub(super) received_ms: i64,
}

impl Sink<'_> {
    /// The span in hand, whose text is written, is a row.
    #[inline]
    pub(super) fn commit(&mut self, span: &Span, context: u32) {
        self.rows.commit(span, context, self.received_ms);
    }
}

/// Where in an object we are, counted from 1; what is 0 is not told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) message: u64,
    pub(super) resource: u64,
    pub(super) scope: u64,
    pub(super) span: u64,
    /// How many bytes of the decompressed object stand before the message in hand; those of a frame that is compressed
    /// by itself before it in that frame.
    pub(super) before: u64,
}

impl Place {
    /// For a person; `byte` is counted from the beginning of the message in hand.
    pub(super) fn tell(&self, byte: Option<usize>) -> String {
        use std::fmt::Write as _;

        let mut text = String::new();
        let names = ["line", "message", "resource", "scope", "span"];
        let byte = byte.map(|byte| self.before + byte as u64);
        for (name, number) in names.into_iter().zip([self.line, self.message, self.resource, self.scope, self.span]) {
            if number > 0 {
                let _ = write!(text, "{name} {number}, ");
            }
        }
        match byte {
            Some(byte) => text + &format!("byte {byte}"),
            None => text.trim_end_matches(", ").to_owned(),
        }
    }
}
