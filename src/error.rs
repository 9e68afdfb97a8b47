//! Reports: the chain of causes together with the way through async tasks. The only file that names the report crate.
//!
//! A [`Report`] is for people; code decides by a [`StoreError`]'s kind or by [`Mistake`],
//! which can be found anywhere in a report ([`find`]). Context is a present-tense verb and its object
//! (`.context("read the footer of spans/…")`), so that a chain reads as a sentence. An error is logged once, where it
//! is handled: `tracing::error!(failure = told(&report), "index failed")`. Whoever prints the record lays the
//! [`Account`] out, in lines on a terminal, else as fields. Elsewhere (`{report}`) a report is its chain in one line.
//!
//! Where in the program it happened is told in JSON; on a terminal only with `RUST_BACKTRACE` or logs of the level
//! `debug`: who runs a farm knows its objects, not our files.

mod account;
mod way;

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

pub use rootcause::prelude::{Report, ResultExt, bail, report};

use rootcause::handlers::{AttachmentHandler, FormattingFunction};
use rootcause::hooks::Hooks;
use rootcause::hooks::builtin_hooks::report_formatter::DefaultReportFormatter;
use rootcause::hooks::report_creation::ReportCreationHook;
use rootcause::hooks::report_formatter::ReportFormatter;
use rootcause::markers::{Dynamic, Local, SendSync, Uncloneable};
use rootcause::report_attachment::ReportAttachment;
use rootcause::{ReportMut, ReportRef};

pub use account::Account;
pub(crate) use account::Failing;
use way::Way;
pub(crate) use way::{Fields, Recorder, text};

use crate::store::{StoreError, StoreErrorKind};

/// What functions of this crate return when their errors are for people.
pub type Result<T, E = Report> = std::result::Result<T, E>;

/// A user's mistake: one clear sentence, no chain, exit code 2.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Mistake(pub String);

/// Makes reports whole: each carries the spans in which it began (the async way, see [`crate::task`]), as
/// [`crate::telemetry`] notes them. Called once, when the program starts; a second call changes nothing.
pub fn install() {
    let installed = Hooks::new().report_creation_hook(Ways).report_formatter(OneLine).install();
    // Only if hooks are there already: these.
    drop(installed);
}

/// A failure as the field `failure` of a log record.
pub fn told(report: &Report) -> Box<dyn Error> {
    Box::new(Account::of(report))
}

static PLACES: AtomicBool = AtomicBool::new(false);

/// Shows on a terminal where in the program errors were made, also without `RUST_BACKTRACE`.
pub(crate) fn show_places() {
    PLACES.store(true, Ordering::Relaxed);
}

fn places_are_shown() -> bool {
    PLACES.load(Ordering::Relaxed)
        || std::env::var_os("RUST_BACKTRACE").is_some_and(|set| set != "0" && !set.is_empty())
}

/// Notes the way in the innermost report: every context above it lies on the same one.
struct Ways;

impl ReportCreationHook for Ways {
    fn on_local_creation(&self, mut report: ReportMut<'_, Dynamic, Local>) {
        if report.children().is_empty() {
            report.attachments_mut().push(ReportAttachment::new_custom::<Untold>(Way::here()).into_dynamic());
        }
    }

    fn on_sendsync_creation(&self, mut report: ReportMut<'_, Dynamic, SendSync>) {
        if report.children().is_empty() {
            report.attachments_mut().push(ReportAttachment::new_custom::<Untold>(Way::here()).into_dynamic());
        }
    }
}

/// Ways are shown by [`Account`]s, and in the reports of panics.
struct Untold;

impl AttachmentHandler<Way> for Untold {
    fn display(way: &Way, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in {way}")
    }

    fn debug(way: &Way, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in {way}")
    }
}

/// How reports are shown in the middle of other texts.
#[derive(Debug)]
struct OneLine;

impl ReportFormatter for OneLine {
    fn format_reports(
        &self,
        reports: &[ReportRef<'_, Dynamic, Uncloneable, Local>],
        f: &mut fmt::Formatter<'_>,
        function: FormattingFunction,
    ) -> fmt::Result {
        if function == FormattingFunction::Debug {
            // A panic of a test: all there is to know.
            return DefaultReportFormatter::DEFAULT.format_reports(reports, f, function);
        }
        let lines: Vec<String> = reports.iter().map(|report| account::line(*report)).collect();
        f.write_str(&lines.join("; "))
    }
}

/// The first error of type `E` anywhere in `report`, from the newest context down to the causes, and in the causes
/// that errors carry within (a [`StoreError`] on its way through the Parquet reader).
pub fn find<E: Error + Send + Sync + 'static>(report: &Report) -> Option<&E> {
    report.iter_reports().find_map(|node| {
        node.downcast_current_context::<E>().or_else(|| {
            std::iter::successors(node.current_context_error_source(), |&error| error.source())
                .find_map(|error| error.downcast_ref::<E>())
        })
    })
}

/// The kind of store error at the bottom of `report`, if there is one.
pub fn store_kind(report: &Report) -> Option<StoreErrorKind> {
    find::<StoreError>(report).map(|error| error.kind)
}

/// Whether `report` says that a listed object is gone: rule 4 of the store, "list again".
pub fn is_not_found(report: &Report) -> bool {
    store_kind(report) == Some(StoreErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone() -> StoreError {
        StoreError {
            kind: StoreErrorKind::NotFound,
            operation: "read",
            path: "s3://traces/spans/x.parquet".to_owned(),
            source: Some("404 NoSuchKey".into()),
        }
    }

    #[test]
    fn an_error_is_found_below_contexts_and_within_other_errors() {
        let report = Err::<(), _>(gone()).context("compact an hour").unwrap_err().into_dynamic();
        assert!(is_not_found(&report));
        let within = parquet::errors::ParquetError::External(Box::new(gone()));
        let report = Err::<(), _>(within).context("read a footer").unwrap_err().into_dynamic();
        assert!(is_not_found(&report));
        assert!(!is_not_found(&report!("anything else")));
        assert!(find::<Mistake>(&report!(Mistake("no".to_owned())).into_dynamic()).is_some());
    }

    #[tokio::test]
    async fn a_report_shows_causes_and_the_way_through_tasks() {
        use tracing::Instrument;
        use tracing_subscriber::layer::SubscriberExt;

        install();
        install();
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(Recorder));
        let item = tracing::info_span!("compact", hour = "2026-11-22T14");
        let work = async {
            let fetch = crate::task::spawn(async {
                let span = tracing::info_span!("fetch", block = "x");
                async { Err::<(), Report>(gone().into()) }.instrument(span).await
            });
            fetch.join().await.context("read a block")
        };
        let report = work.instrument(item).await.unwrap_err().into_dynamic();
        let places = regex::Regex::new(r"  \(src/.*\)").unwrap();
        let account = Account::of(&report).to_string();
        insta::assert_snapshot!(places.replace_all(&account, ""), @"
          read a block
          read s3://traces/spans/x.parquet
          404 NoSuchKey
          in compact hour=2026-11-22T14 › fetch block=x
        ");
        assert_eq!(report.to_string(), "read a block: read s3://traces/spans/x.parquet: 404 NoSuchKey");
    }
}
