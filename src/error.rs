//! Reports: the chain of causes together with the way through async tasks. The only file that names the report crate.
//!
//! A [`Report`] is for people; code decides by a [`StoreError`](crate::store::StoreError)'s kind or by [`Mistake`],
//! which can be found anywhere in a report ([`find`]). Context is a present-tense verb and its object
//! (`.context("read the footer of spans/…")`), so that a chain reads as a sentence. An error is logged once, where it
//! is handled.

pub use rootcause::prelude::{Report, ResultExt, bail, report};

use rootcause::ReportRef;
use rootcause::handlers::{ContextFormattingStyle, FormattingFunction};
use rootcause::hooks::Hooks;
use rootcause::hooks::context_formatter::ContextFormatterHook;
use rootcause::markers::{Local, Uncloneable};
use rootcause_tracing::SpanCollector;

use crate::store::{StoreError, StoreErrorKind};

/// What functions of this crate return when their errors are for people.
pub type Result<T, E = Report> = std::result::Result<T, E>;

/// A user's mistake: one clear sentence, no chain, exit code 2.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Mistake(pub String);

/// Makes reports tell more: the spans they were made in, once at each root ([`crate::telemetry`] must have been started),
/// and the causes inside the errors of other crates, which are hidden otherwise.
pub fn install() {
    let spans = SpanCollector { capture_span_for_reports_with_children: false };
    let hooks = Hooks::new()
        .report_creation_hook(spans)
        .context_formatter::<StoreError, _>(FollowSource)
        .context_formatter::<object_store::Error, _>(FollowSource)
        .context_formatter::<parquet::errors::ParquetError, _>(FollowSource)
        .context_formatter::<arrow::error::ArrowError, _>(FollowSource);
    // A second call (tests in one process) keeps the first hooks.
    let _ = hooks.install();
}

/// Shows an error with its chain of causes.
struct FollowSource;

impl<E: std::error::Error + 'static> ContextFormatterHook<E> for FollowSource {
    fn preferred_context_formatting_style(
        &self,
        _report: ReportRef<'_, E, Uncloneable, Local>,
        function: FormattingFunction,
    ) -> ContextFormattingStyle {
        ContextFormattingStyle { function, follow_source: true, follow_source_depth: None }
    }
}

/// The first error of type `E` anywhere in `report`, from the newest context down to the causes.
pub fn find<E: std::error::Error + Send + Sync + 'static>(report: &Report) -> Option<&E> {
    report.iter_reports().find_map(|node| node.downcast_current_context::<E>())
}

/// The kind of store error at the bottom of `report`, if there is one.
pub fn store_kind(report: &Report) -> Option<StoreErrorKind> {
    find::<StoreError>(report).map(|error| error.kind)
}

/// Whether `report` says that a listed object is gone: rule 4 of the store, "list again".
pub fn is_not_found(report: &Report) -> bool {
    store_kind(report) == Some(StoreErrorKind::NotFound)
}
