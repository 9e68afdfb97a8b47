//! Made-up spans, and the OTLP objects that a collector would write of them.

use std::io::Write;

use jiff::Timestamp;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, TracesData};
use prost::Message;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The attribute that tells each content from every other, wherever it turns up.
pub const TAG: &str = "sim.tag";

pub const SECOND_NS: i64 = 1_000_000_000;
pub const HOUR_NS: i64 = 3600 * SECOND_NS;

/// What a span hits, or does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Does {
    /// SERVER with a route.
    Serve(String),
    /// SERVER without one, 404, of this path.
    Miss(String),
    /// CONSUMER of this queue.
    Consume(String),
    /// INTERNAL; without a parent a job of this name.
    Work(String),
}

/// One span. Two that are equal are the same record; one with another tag is a revision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Made {
    pub tag: u64,
    pub trace: [u8; 16],
    pub span: [u8; 8],
    pub parent: Option<[u8; 8]>,
    pub service: String,
    pub does: Does,
    pub start_ns: i64,
    pub end_ns: i64,
    pub error: bool,
}

impl Made {
    pub fn is_entry(&self) -> bool {
        self.parent.is_none() || !matches!(self.does, Does::Work(_))
    }

    /// What the handler's id is a function of.
    pub fn handler(&self) -> (String, Does) {
        match &self.does {
            Does::Miss(_) => (self.service.clone(), Does::Miss(String::new())),
            does => (self.service.clone(), does.clone()),
        }
    }

    fn proto(&self) -> Span {
        let text = |key: &str, value: &str| attribute(key, Value::StringValue(value.to_owned()));
        let mut attributes = vec![attribute(TAG, Value::IntValue(self.tag as i64))];
        let (kind, name) = match &self.does {
            Does::Serve(route) => {
                attributes.push(text("http.request.method", "GET"));
                attributes.push(text("http.route", route));
                attributes.push(attribute("http.response.status_code", Value::IntValue(200)));
                (2, format!("GET {route}"))
            }
            Does::Miss(path) => {
                attributes.push(text("http.request.method", "GET"));
                attributes.push(text("url.path", path));
                attributes.push(attribute("http.response.status_code", Value::IntValue(404)));
                (2, "GET".to_owned())
            }
            Does::Consume(queue) => {
                attributes.push(text("messaging.operation.name", "process"));
                attributes.push(text("messaging.operation.type", "process"));
                attributes.push(text("messaging.destination.name", queue));
                (5, format!("process {queue}"))
            }
            Does::Work(name) => (1, name.clone()),
        };
        Span {
            trace_id: self.trace.to_vec(),
            span_id: self.span.to_vec(),
            parent_span_id: self.parent.map(|id| id.to_vec()).unwrap_or_default(),
            name,
            kind,
            start_time_unix_nano: self.start_ns as u64,
            end_time_unix_nano: self.end_ns as u64,
            attributes,
            status: self.error.then(|| Status { code: 2, message: "failed".to_owned() }),
            ..Span::default()
        }
    }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// How an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Proto,
    GzipProto,
    Json,
    ZstdJson,
}

pub const FORMS: [Form; 4] = [Form::Proto, Form::GzipProto, Form::Json, Form::ZstdJson];

/// An object with these spans.
pub fn object(spans: &[Made], form: Form) -> Vec<u8> {
    let mut services: Vec<&str> = spans.iter().map(|span| span.service.as_str()).collect();
    services.sort_unstable();
    services.dedup();
    let resource_spans = services.into_iter().map(|service| ResourceSpans {
        resource: Some(Resource {
            attributes: vec![attribute("service.name", Value::StringValue(service.to_owned()))],
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans {
            spans: spans.iter().filter(|span| span.service == service).map(Made::proto).collect(),
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    });
    let data = TracesData { resource_spans: resource_spans.collect() };
    match form {
        Form::Proto => data.encode_to_vec(),
        Form::GzipProto => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(&data.encode_to_vec()).unwrap();
            gzip.finish().unwrap()
        }
        Form::Json => serde_json::to_vec(&data).unwrap(),
        Form::ZstdJson => zstd::encode_all(serde_json::to_vec(&data).unwrap().as_slice(), 1).unwrap(),
    }
}

/// Makes spans from a seed.
pub struct Maker {
    pub chance: StdRng,
    made: u64,
}

impl Maker {
    pub fn new(seed: u64) -> Self {
        Self { chance: StdRng::seed_from_u64(seed), made: 0 }
    }

    /// A number in `from..to`.
    pub fn pick(&mut self, from: i64, to: i64) -> i64 {
        self.chance.random_range(from..to)
    }

    /// Whether it falls, with this probability.
    pub fn falls(&mut self, probability: f64) -> bool {
        self.chance.random_bool(probability)
    }

    /// An entry span that begins at about `time`.
    pub fn entry(&mut self, service: &str, does: Does, time: Timestamp) -> Made {
        let trace = self.chance.random();
        self.span(trace, None, service, does, time.as_nanosecond() as i64)
    }

    /// A span below `parent`, `after_ns` after its start.
    pub fn child(&mut self, parent: &Made, service: &str, does: Does, after_ns: i64) -> Made {
        self.span(parent.trace, Some(parent.span), service, does, parent.start_ns + after_ns)
    }

    /// Another content of a span: the record as it was corrected later.
    pub fn revision(&mut self, of: &Made) -> Made {
        self.made += 1;
        Made { tag: self.made, error: !of.error, ..of.clone() }
    }

    fn span(&mut self, trace: [u8; 16], parent: Option<[u8; 8]>, service: &str, does: Does, at_ns: i64) -> Made {
        self.made += 1;
        // No two starts are equal: "newest" leaves no choice. The tag takes the last six digits.
        let start_ns = at_ns.div_euclid(1_000_000) * 1_000_000 + (self.made % 1_000_000) as i64;
        let end_ns = start_ns + self.chance.random_range(1..200) * 1_000_000;
        let (span, error) = (self.chance.random(), self.chance.random_bool(0.1));
        Made { tag: self.made, trace, span, parent, service: service.to_owned(), does, start_ns, end_ns, error }
    }

    /// A whole trace that begins at about `time`: an entry, and below it work, a call to another service, sometimes a
    /// message that is consumed up to some minutes later, in the next hour maybe.
    pub fn trace(&mut self, time: Timestamp, handlers: i64) -> Vec<Made> {
        let n = self.pick(0, handlers);
        let root = match self.pick(0, 10) {
            0 => self.entry("web", Does::Miss(format!("/wp-{}.php", n % 3)), time),
            1 => self.entry("jobs", Does::Work(format!("nightly {}", n % 2)), time),
            _ => self.entry("web", Does::Serve(format!("/r{n}/{{id}}")), time),
        };
        let mut spans = vec![root.clone()];
        for _ in 0..self.pick(0, 3) {
            let after = self.pick(0, SECOND_NS);
            let child = self.child(&root, "web", Does::Work("work".to_owned()), after);
            spans.push(child);
        }
        if self.falls(0.4) {
            let (after, n) = (self.pick(0, SECOND_NS), self.pick(0, handlers));
            let call = self.child(&root, "cart", Does::Serve(format!("/c{n}")), after);
            let below = self.child(&call, "cart", Does::Work("select".to_owned()), 2_000_000);
            spans.extend([call, below]);
        }
        if self.falls(0.2) {
            let after = self.pick(60, 1500) * SECOND_NS;
            let consumed = self.child(&root, "mail", Does::Consume("orders".to_owned()), after);
            spans.push(consumed);
        }
        spans
    }
}
