//! The collectors: copies of the recording, written to the inbox while the farm works, and what must come of them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::SignedDuration;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::TracesData;
use tracefarm::clock::Clock;
use tracefarm::error::{Result, ResultExt};
use tracefarm::store::{Key, Store};
use xxhash_rust::xxh3::xxh3_128;

use super::copies::{Batcher, Recording, Written};
use super::official;
use super::recording::{Truth, hex};

/// How old the old traces are: past `keep_for` when they arrive, so that their hours go and only pins stay.
pub const OLD: SignedDuration = SignedDuration::from_hours(8 * 24);
/// Services of old traces have names of their own, so that theirs are the newest of their handlers.
pub const OLD_PREFIX: &str = "old-";

/// What was written so far.
#[derive(Default)]
pub struct Fed {
    pub objects: u64,
    /// What must be counted in the end.
    pub recent: Truth,
    /// What must be gone in the end, but for the newest traces of each handler.
    pub old: Truth,
    /// Old traces that came in more than one object: what of them has no entry may go before the rest arrives.
    pub scattered: HashSet<String>,
}

impl Fed {
    pub fn spans(&self) -> u64 {
        self.recent.spans + self.old.spans
    }
}

/// Writes to the inbox at a steady rate.
pub struct Feed {
    pub store: Store,
    pub clock: Clock,
    pub recording: Recording,
    pub seed: u64,
    /// Spans in an object.
    pub object_spans: usize,
    /// Spans a second.
    pub rate: usize,
    pub fed: Arc<Mutex<Fed>>,
}

impl Feed {
    /// Writes for so long.
    pub async fn run(self, time: Duration) -> Result<()> {
        let end = self.clock.monotonic() + time;
        for copy in 0u64.. {
            // Old ones first, so that a short run has some, too.
            for (old, at_least) in [(true, self.object_spans * 2), (false, self.object_spans * 20)] {
                if !self.copy(copy, old, at_least, end).await? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Writes one copy; whether there is time for more.
    async fn copy(&self, copy: u64, old: bool, at_least: usize, end: Duration) -> Result<bool> {
        let now = self.clock.wall().as_nanosecond() as i64;
        let age_ns = self.recording.length_ns() + if old { OLD.as_nanos() as i64 } else { 0 };
        let seed = self.seed.wrapping_mul(1_000_003).wrapping_add(copy * 2 + u64::from(old));
        let shift_ns = now - age_ns - self.recording.earliest_ns;
        let (documents, _) = self.recording.copy(seed, shift_ns, at_least);
        let mut batcher = Batcher::new(self.object_spans, seed);
        let mut written = Vec::new();
        for mut document in documents {
            if old {
                rename_services(&mut document);
            }
            written.extend(batcher.add(document));
        }
        written.extend(batcher.end());
        for object in written {
            if self.clock.monotonic() >= end {
                return Ok(false);
            }
            let spans = self.write(object, old).await?;
            self.clock.sleep(Duration::from_secs_f64(spans as f64 / self.rate as f64)).await;
        }
        Ok(true)
    }

    async fn write(&self, object: Written, old: bool) -> Result<u64> {
        let key = Key::Inbox(object.name);
        self.store.create(&key, object.gzip.into()).await.context("feed the inbox")?;
        let mut fed = self.fed.lock().unwrap_or_else(PoisonError::into_inner);
        let before = fed.spans();
        fed.objects += 1;
        // Hashes: all spans of half an hour are too many to hold.
        let kept = |whole: Vec<u8>| hashed(&whole);
        if old {
            let traces: HashSet<String> = official::spans(&object.data).map(|span| hex(&span.trace_id)).collect();
            let scattered: Vec<_> = traces.into_iter().filter(|trace| fed.old.traces.contains_key(trace)).collect();
            fed.scattered.extend(scattered);
        }
        if old { &mut fed.old } else { &mut fed.recent }.take(&object.data, kept);
        Ok(fed.spans() - before)
    }
}

/// What is kept of a span.
pub fn hashed(whole: &[u8]) -> Vec<u8> {
    xxh3_128(whole).to_be_bytes().to_vec()
}

/// Puts [`OLD_PREFIX`] before the name of every service, also of one that has none.
fn rename_services(document: &mut TracesData) {
    for resource in &mut document.resource_spans {
        let attributes = &mut resource.resource.get_or_insert_default().attributes;
        let named = attributes.iter().position(|pair| pair.key == "service.name");
        let at = named.unwrap_or_else(|| {
            attributes.push(KeyValue { key: "service.name".to_owned(), ..KeyValue::default() });
            attributes.len() - 1
        });
        let value = attributes[at].value.get_or_insert_default().value.take();
        let name = if let Some(Value::StringValue(name)) = value { name } else { String::new() };
        attributes[at].value = Some(AnyValue { value: Some(Value::StringValue(format!("{OLD_PREFIX}{name}"))) });
    }
}
