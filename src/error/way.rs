//! The way through async tasks: the spans that were open where a report was made, with their fields.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Span, Subscriber};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

/// Fields of a span or an event.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(pub Map<String, Value>);

/// Keeps the fields of every span with it: for reports, and for log records. Stands below all filters, or reports lose
/// the way they came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recorder;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            record.record(fields);
        }
    }
}

/// A span on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Step {
    pub span: &'static str,
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// The spans that are open here, the outermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Way(pub Vec<Step>);

impl Way {
    /// The way to here; empty without a subscriber that has the [`Recorder`].
    pub fn here() -> Self {
        let steps = Span::current().with_subscriber(|(id, dispatch)| {
            let span = dispatch.downcast_ref::<Registry>()?.span(id)?;
            let steps = span.scope().from_root().map(|span| Step {
                span: span.name(),
                fields: span.extensions().get::<Fields>().map(|fields| fields.0.clone()).unwrap_or_default(),
            });
            Some(steps.collect())
        });
        Self(steps.flatten().unwrap_or_default())
    }
}

/// `run worker=w-2 rank=0 › stage=index › object=inbox/a.json`: a span that has a field of its own name is that.
impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(" › ")?;
            }
            let mut gap = "";
            if !step.fields.contains_key(step.span) {
                f.write_str(step.span)?;
                gap = " ";
            }
            for (name, value) in &step.fields {
                write!(f, "{gap}{name}={}", text(value))?;
                gap = " ";
            }
        }
        Ok(())
    }
}

/// A value without the quotes of JSON.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}
