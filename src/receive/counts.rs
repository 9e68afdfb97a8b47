//! What came and what became of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Refusal;
use crate::otlp::request::Checked;

/// Counts since the receiver began.
#[derive(Debug, Default)]
pub struct Counts {
    accepted: AtomicU64,
    partly: AtomicU64,
    refused: [AtomicU64; Refusal::WORDS.len()],
    spans: AtomicU64,
    refused_spans: AtomicU64,
    message_bytes: AtomicU64,
    objects: AtomicU64,
    object_bytes: AtomicU64,
    failed_objects: AtomicU64,
    /// Whether the last object could not be written.
    failing: AtomicBool,
}

/// The counts at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Requests that were taken whole.
    pub accepted: u64,
    /// Requests of which some spans were refused.
    pub partly: u64,
    /// Requests that were refused, by reason.
    pub refused: Vec<(&'static str, u64)>,
    /// Spans taken: durable and answered.
    pub spans: u64,
    /// Spans refused for themselves.
    pub refused_spans: u64,
    /// Bytes of messages taken, unpacked.
    pub message_bytes: u64,
    /// Objects written into the inbox.
    pub objects: u64,
    /// Their bytes.
    pub object_bytes: u64,
    /// Objects that could not be written.
    pub failed_objects: u64,
    /// Whether the last one could not.
    pub failing: bool,
}

impl Counts {
    pub(super) fn took(&self, checked: &Checked) {
        let requests = if checked.refused > 0 { &self.partly } else { &self.accepted };
        add(requests, 1);
        add(&self.spans, checked.spans);
        add(&self.refused_spans, checked.refused);
        add(&self.message_bytes, checked.message.len() as u64);
    }

    pub(super) fn refused(&self, refusal: &Refusal) {
        let place = Refusal::WORDS.iter().position(|word| *word == refusal.word());
        if let Some(place) = place {
            add(&self.refused[place], 1);
        }
    }

    pub(super) fn wrote(&self, bytes: usize) {
        add(&self.objects, 1);
        add(&self.object_bytes, bytes as u64);
        self.failing.store(false, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        add(&self.failed_objects, 1);
        self.failing.store(true, Ordering::Relaxed);
    }

    /// As they are now.
    pub fn told(&self) -> Told {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Told {
            accepted: get(&self.accepted),
            partly: get(&self.partly),
            refused: Refusal::WORDS.into_iter().zip(self.refused.iter().map(get)).collect(),
            spans: get(&self.spans),
            refused_spans: get(&self.refused_spans),
            message_bytes: get(&self.message_bytes),
            objects: get(&self.objects),
            object_bytes: get(&self.object_bytes),
            failed_objects: get(&self.failed_objects),
            failing: self.failing.load(Ordering::Relaxed),
        }
    }
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}
