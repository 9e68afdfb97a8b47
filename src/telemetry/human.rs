//! Log records for people: `14:02:03 WARN  what happened  object=inbox/a.json`, and below it how a failure came about.

use std::error::Error;
use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::error::{Account, Fields, text};

/// Lays a record out. Spans are left out: a message is to be read alone, and a failure shows its way.
pub(super) struct Lines;

/// What a record has.
#[derive(Default)]
pub(super) struct Record {
    /// Its fields, the message among them.
    pub fields: Fields,
    /// What failed, if it tells of that.
    pub failure: Option<Account>,
}

impl Visit for Record {
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        match value.downcast_ref::<Account>() {
            Some(account) => self.failure = Some(account.clone()),
            None => self.fields.record_str(field, &value.to_string()),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.record_debug(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.record_str(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.record_i64(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.record_u64(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.fields.record_f64(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.record_bool(field, value);
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut record = Record::default();
        event.record(&mut record);
        let (level, colour) = match *event.metadata().level() {
            Level::ERROR => ("ERROR", 31),
            Level::WARN => ("WARN ", 33),
            Level::INFO => ("INFO ", 32),
            Level::DEBUG => ("DEBUG", 34),
            Level::TRACE => ("TRACE", 35),
        };
        let (dim, coloured, plain) = match writer.has_ansi_escapes() {
            true => ("\x1b[2m".to_owned(), format!("\x1b[{colour}m"), "\x1b[0m"),
            false => Default::default(),
        };
        let message = record.fields.0.remove("message").map_or_else(String::new, |message| text(&message));
        write!(writer, "{dim}{}{plain} {coloured}{level}{plain} {message}", super::wall().strftime("%T"))?;
        if let Some(scope) = record.failure.as_ref().and_then(|account| account.scope.as_ref()) {
            write!(writer, " ({scope})")?;
        }
        for (name, value) in &record.fields.0 {
            // What the message says already.
            let value = text(value);
            if !message.contains(&value) {
                write!(writer, "  {dim}{name}={plain}{value}")?;
            }
        }
        writeln!(writer)?;
        record.failure.map_or(Ok(()), |account| write!(writer, "{account}"))
    }
}
