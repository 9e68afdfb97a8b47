//! Copies of recorded traces with fresh ids and later times, in the order and company in which they were recorded, as
//! gzip'd OTLP protobuf in objects as `awss3exporter` writes them. The same seed and arguments give the same bytes.
#![allow(dead_code, reason = "each example that includes this file uses a part of it")]

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::Path;

use jiff::Timestamp;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span, TracesData};
use prost::Message;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use super::official;

/// The distinct spans of a folder, in the order of its objects.
pub struct Recording {
    pub documents: Vec<TracesData>,
    /// Spans of each trace, in the order in which traces appear.
    pub traces: Vec<(Vec<u8>, usize)>,
    pub spans: usize,
    pub earliest_ns: i64,
    latest_ns: i64,
}

impl Recording {
    /// Reads every object of a folder.
    pub fn read(folder: &Path) -> Self {
        let mut seen = HashSet::new();
        let mut documents = Vec::new();
        for path in official::files(folder) {
            let bytes = std::fs::read(&path).unwrap();
            for mut document in official::decode(&bytes).unwrap_or_else(|why| panic!("{}: {why}", path.display())) {
                official::keep_new(&mut document, &mut seen);
                documents.push(document);
            }
        }
        // Objects in the order in which they were written, whatever their names: by their newest span.
        let newest = |data: &TracesData| official::spans(data).map(|span| span.end_time_unix_nano).max();
        documents.retain(|data| newest(data).is_some());
        documents.sort_by_key(newest);

        let mut places = HashMap::new();
        let mut traces: Vec<(Vec<u8>, usize)> = Vec::new();
        for span in documents.iter().flat_map(official::spans) {
            let place = *places.entry(span.trace_id.clone()).or_insert_with(|| {
                traces.push((span.trace_id.clone(), 0));
                traces.len() - 1
            });
            traces[place].1 += 1;
        }
        let start = |span: &Span| span.start_time_unix_nano as i64;
        let starts = || documents.iter().flat_map(official::spans).map(start);
        Self {
            spans: starts().count(),
            earliest_ns: starts().min().expect("spans"),
            latest_ns: starts().max().expect("spans"),
            documents,
            traces,
        }
    }

    /// From its first span to its last.
    pub fn length_ns(&self) -> i64 {
        self.latest_ns - self.earliest_ns
    }

    /// A copy of the first traces that have `at_least` spans together, or of all: document by document, and how many
    /// traces it has.
    pub fn copy(&self, seed: u64, shift_ns: i64, at_least: usize) -> (impl Iterator<Item = TracesData>, usize) {
        let mut chance = StdRng::seed_from_u64(seed);
        let mut wanted = HashMap::new();
        let mut spans = 0;
        for (trace, count) in &self.traces {
            if spans >= at_least {
                break;
            }
            wanted.insert(&trace[..], chance.random::<u128>().to_be_bytes());
            spans += count;
        }
        let traces = wanted.len();
        // A span id is unique within its trace: one mask for the whole copy keeps parents and links right.
        let mask = chance.next_u64().to_be_bytes();
        let fresh = move |id: &mut Vec<u8>| id.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        let later = move |ns: &mut u64| *ns = ns.wrapping_add_signed(shift_ns);
        let documents = self.documents.iter().map(move |document| {
            let mut document = document.clone();
            for resource in &mut document.resource_spans {
                for scope in &mut resource.scope_spans {
                    scope.spans.retain(|span| wanted.contains_key(&span.trace_id[..]));
                    for span in &mut scope.spans {
                        span.trace_id = wanted[&span.trace_id[..]].to_vec();
                        fresh(&mut span.span_id);
                        if span.parent_span_id.iter().any(|byte| *byte != 0) {
                            fresh(&mut span.parent_span_id);
                        }
                        later(&mut span.start_time_unix_nano);
                        later(&mut span.end_time_unix_nano);
                        span.events.iter_mut().for_each(|event| later(&mut event.time_unix_nano));
                        for link in &mut span.links {
                            if let Some(trace) = wanted.get(&link.trace_id[..]) {
                                link.trace_id = trace.to_vec();
                                fresh(&mut link.span_id);
                            }
                        }
                    }
                }
                resource.scope_spans.retain(|scope| !scope.spans.is_empty());
            }
            document.resource_spans.retain(|resource| !resource.scope_spans.is_empty());
            document
        });
        (documents, traces)
    }
}

/// Documents become objects as they fill. As in a collector's batch, the requests of an object stand behind each other,
/// and nothing of them is merged.
pub struct Batcher {
    object_spans: usize,
    chance: StdRng,
    pending: Vec<ResourceSpans>,
    pending_spans: usize,
}

/// An object of an inbox.
pub struct Written {
    /// Its name below the inbox.
    pub name: String,
    /// Its bytes.
    pub gzip: Vec<u8>,
    /// What they hold.
    pub data: TracesData,
    /// Their length before they were compressed.
    pub protobuf_bytes: usize,
}

impl Batcher {
    /// Objects have at least `object_spans` spans.
    pub fn new(object_spans: usize, seed: u64) -> Self {
        Self { object_spans, chance: StdRng::seed_from_u64(seed), pending: Vec::new(), pending_spans: 0 }
    }

    /// Takes a document; an object, if one is full.
    pub fn add(&mut self, document: TracesData) -> Option<Written> {
        self.pending_spans += official::spans(&document).count();
        self.pending.extend(document.resource_spans);
        (self.pending_spans >= self.object_spans).then(|| self.end()).flatten()
    }

    /// What is left, if anything is.
    pub fn end(&mut self) -> Option<Written> {
        self.pending_spans = 0;
        let data = TracesData { resource_spans: std::mem::take(&mut self.pending) };
        let newest = official::spans(&data).map(|span| span.end_time_unix_nano).max()?;
        let bytes = data.encode_to_vec();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&bytes).unwrap();
        let gzip = encoder.finish().unwrap();
        let written = Timestamp::from_nanosecond(newest.into()).unwrap();
        let folder = written.strftime("year=%Y/month=%m/day=%d/hour=%H/minute=%M");
        let name = format!("{folder}/traces_{}.binpb.gz", self.chance.random_range(100_000_000..999_999_999u32));
        Some(Written { name, gzip, data, protobuf_bytes: bytes.len() })
    }
}
