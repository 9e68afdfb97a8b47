//! `tracefarm forget`

use serde::Serialize;

use super::{Exit, Session, out};
use crate::error::Result;
use crate::model::TraceId;
use crate::store::{Key, StoreErrorKind};

/// Remove a trace everywhere: hidden at once, gone within the hour
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The trace's id, 32 hexadecimal digits
    #[arg(value_name = "TRACE_ID")]
    trace: TraceId,
    #[command(flatten)]
    output: out::Output,
}

/// What is printed. The fields are stable.
#[derive(Serialize)]
struct Report {
    /// The trace.
    trace_id: String,
    /// The object that says so.
    tombstone: String,
    /// Whether somebody had said so before.
    again: bool,
}

impl Args {
    /// Writes the tombstone; everything else follows from it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let store = session.writer().await?;
        let key = Key::Forget(self.trace);
        let body = format!("{{\"asked\":\"{}\"}}\n", session.clock.wall());
        // Dying before the write changes nothing, dying after it is as good as ending: workers read the tombstone.
        let again = match store.create(&key, body.into()).await {
            Ok(_) => false,
            Err(error) if error.kind == StoreErrorKind::AlreadyExists => true,
            Err(error) => return Err(error.into()),
        };
        let report = Report { trace_id: self.trace.to_string(), tombstone: key.path(), again };
        self.output.show(&report, |report| {
            format!(
                "Trace {} is hidden from now on. A worker removes what is left of it from blocks, pins, pages and the \
                 quarantine, and looks again every hour until keep_for and 14 days have passed.\n\
                 Old versions and soft-deleted objects that the bucket itself keeps are out of its reach.\n",
                report.trace_id
            )
        })?;
        Ok(Exit::Done)
    }
}
