//! Log records as Google Cloud Logging reads them from standard output or error: `severity`, `message`, `time`,
//! `logging.googleapis.com/labels` and `…/sourceLocation`; an error also carries what Error Reporting groups by.
//!
//! Fields of the event and of the spans around it stand at the top level, the innermost winning; `spans` says the way
//! (`["run", "stage", "item"]`). A record that tells of a failure ([`Account`]) has what failed in the first lines of its
//! message, and as fields: `causes` (from what was to be done down to what happened), `way` (the spans, with their
//! fields, in which it began), `object`, `item`, `items`, `attempts`, `request_id`, `advice`; of several failures these
//! are the most frequent one's, and all are in `failures`. Error Reporting groups by the place and by the message: its
//! first line says nothing that differs from one occurrence to the next. Source: Cloud Logging's "special fields in
//! structured payloads", Error Reporting's "format errors in a log entry".

use std::io::Write;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::human::Record;
use crate::error::{Account, Failing, Fields, text};

/// Fields that become labels, by which log views are filtered: they are few and of few values.
const LABELS: [&str; 3] = ["worker", "rank", "stage"];

/// What makes Error Reporting take a record whose message has no stack trace of a language it knows.
const REPORTED: &str = "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent";

/// Writes each event as one line of JSON.
pub(super) struct CloudLayer<W> {
    writer: W,
}

impl<W> CloudLayer<W> {
    pub(super) fn new(writer: W) -> Self {
        Self { writer }
    }
}

impl<S, W> Layer<S> for CloudLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Map::new();
        let mut spans = Vec::new();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            spans.push(Value::from(span.name()));
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.extend(outer.0.clone());
            }
        }
        let mut said = Record::default();
        event.record(&mut said);
        fields.extend(said.fields.0);
        let mut line = record(event.metadata(), fields, spans, said.failure.as_ref(), super::wall()).to_string();
        line.push('\n');
        // Where should a failure to log be logged? The work goes on.
        let _ = self.writer.make_writer_for(event.metadata()).write_all(line.as_bytes());
    }
}

fn record(
    metadata: &tracing::Metadata<'_>,
    fields: Map<String, Value>,
    spans: Vec<Value>,
    failure: Option<&Account>,
    time: Timestamp,
) -> Value {
    let mut record = fields;
    record.entry("message").or_insert_with(|| metadata.name().into());
    if let Some(account) = failure {
        tell(account, &mut record);
    }
    let labels: Map<String, Value> = LABELS
        .iter()
        .filter_map(|label| record.get(*label).map(|value| ((*label).to_owned(), text(value).into())))
        .collect();
    let severity = match *metadata.level() {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        Level::DEBUG | Level::TRACE => "DEBUG",
    };
    let file = metadata.file().unwrap_or_default();
    let line = metadata.line().unwrap_or_default();
    record.insert("severity".into(), severity.into());
    record.insert("time".into(), time.to_string().into());
    record.insert("target".into(), metadata.target().into());
    if !spans.is_empty() {
        record.insert("spans".into(), spans.into());
    }
    if !labels.is_empty() {
        record.insert("logging.googleapis.com/labels".into(), labels.into());
    }
    let location = json!({ "file": file, "line": line.to_string(), "function": metadata.target() });
    record.insert("logging.googleapis.com/sourceLocation".into(), location);
    if *metadata.level() == Level::ERROR {
        record.insert("@type".into(), REPORTED.into());
        record.insert(
            "serviceContext".into(),
            json!({ "service": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") }),
        );
        // Where the error was made, if that is known, rather than where it is logged.
        let made = failure.and_then(|account| account.failures.first()?.place);
        let (file, line) = made.map_or((file, line), |place| (place.file, place.line));
        let place = json!({ "filePath": file, "lineNumber": line, "functionName": metadata.target() });
        record.insert("context".into(), json!({ "reportLocation": place }));
    }
    Value::Object(record)
}

/// Adds what failed to the record.
fn tell(account: &Account, record: &mut Map<String, Value>) {
    let message = record.get("message").map(text).unwrap_or_default();
    let scope = account.scope.iter().map(|scope| format!("  {scope}\n")).collect::<String>();
    record.insert("message".into(), format!("{message}: {}\n{scope}{account}", account.title()).trim_end().into());
    let Some(first) = account.failures.first() else { return };
    // What the spans of the failure knew and those of the log record do not.
    for step in &first.way.0 {
        for (name, value) in &step.fields {
            record.entry(name).or_insert_with(|| value.clone());
        }
    }
    if let Some(item) = first.items.first() {
        record.insert("item".into(), item.clone().into());
    }
    record.extend(fields(first));
    if account.failures.len() > 1 {
        record.insert("failures".into(), account.failures.iter().map(|one| Value::Object(fields(one))).collect());
    }
}

fn fields(failing: &Failing) -> Map<String, Value> {
    // Types of our own, whose maps have names as keys: they are always JSON.
    match serde_json::to_value(failing) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_record_has_what_cloud_logging_and_error_reporting_read() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = CloudLayer::new(move || writer.clone());
        tracing::subscriber::with_default(
            tracing_subscriber::registry().with(crate::error::Recorder).with(layer),
            || {
                let _run = tracing::info_span!("run", worker = "w-2", rank = 0).entered();
                let _stage = tracing::info_span!("compact", stage = "compact", hour = "2026-11-22T14").entered();
                tracing::info!(rows = 12, "merged \"everything\"\nin two lines");
                tracing::error!("cannot read spans/x");
            },
        );
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(records.len(), 2, "one line a record: {text}");
        assert_eq!(records[0]["severity"], "INFO");
        assert_eq!(records[0]["message"], "merged \"everything\"\nin two lines");
        assert_eq!(records[0]["rows"], 12);
        assert_eq!(records[0]["hour"], "2026-11-22T14");
        assert_eq!(records[0]["spans"], json!(["run", "compact"]));
        assert_eq!(
            records[0]["logging.googleapis.com/labels"],
            json!({ "worker": "w-2", "rank": "0", "stage": "compact" })
        );
        assert!(records[0]["logging.googleapis.com/sourceLocation"]["line"].is_string());
        assert!(records[0]["time"].as_str().unwrap().parse::<Timestamp>().is_ok());
        assert_eq!(records[0].get("@type"), None);
        assert_eq!(records[1]["@type"], REPORTED);
        assert_eq!(records[1]["serviceContext"]["service"], "tracefarm");
        assert!(records[1]["context"]["reportLocation"]["lineNumber"].is_number());
    }
}
