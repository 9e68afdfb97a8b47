//! Reports: the chain of causes together with the way through async tasks. The only file that names the report crate.
//!
//! A [`Report`] is for people; code decides by a [`StoreError`]'s kind or by [`Mistake`],
//! which can be found anywhere in a report ([`find`]). Context is a present-tense verb and its object
//! (`.context("read the footer of spans/…")`), so that a chain reads as a sentence. An error is logged once, where it
//! is handled.

use std::error::Error;

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

/// Makes reports whole: each carries the spans in which it began (the async way, see [`crate::task`]), and shows the
/// causes below the errors that hide theirs. Called once, when the program starts; a second call changes nothing.
///
/// Spans are seen by `rootcause_tracing`'s layer alone, which [`crate::telemetry`] puts below all filters.
pub fn install() {
    // With the leaf only: every context above it lies on the same way.
    let spans = SpanCollector { capture_span_for_reports_with_children: false };
    let installed = Hooks::new()
        .report_creation_hook(spans)
        // What a store's client says holds its own causes.
        .context_formatter::<StoreError, _>(ShowCauses { depth: Some(1) })
        .context_formatter::<parquet::errors::ParquetError, _>(ShowCauses { depth: None })
        .context_formatter::<arrow::error::ArrowError, _>(ShowCauses { depth: None })
        .install();
    // Only if hooks are there already: these.
    drop(installed);
}

/// Shows what [`std::error::Error::source`] leads to, as the report crate does only when told.
struct ShowCauses {
    depth: Option<usize>,
}

impl<E: Error + 'static> ContextFormatterHook<E> for ShowCauses {
    fn preferred_context_formatting_style(
        &self,
        _report: ReportRef<'_, E, Uncloneable, Local>,
        function: FormattingFunction,
    ) -> ContextFormattingStyle {
        ContextFormattingStyle { function, follow_source: true, follow_source_depth: self.depth }
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
        let _guard =
            tracing::subscriber::set_default(tracing_subscriber::registry().with(rootcause_tracing::RootcauseLayer));
        let item = tracing::info_span!("compact", hour = "2026-11-22T14");
        let work = async {
            let fetch = crate::task::spawn(async {
                let span = tracing::info_span!("fetch", block = "x");
                async { Err::<(), Report>(gone().into()) }.instrument(span).await
            });
            fetch.join().await.context("read a block")
        };
        let report = work.instrument(item).await.unwrap_err();
        let text = format!("{report}");
        for part in [
            "read a block",
            "read s3://traces/spans/x.parquet",
            "404 NoSuchKey",
            "fetch{block=\"x\"}",
            "compact{hour=\"2026-11-22T14\"}",
        ] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
        assert_eq!(text.matches("Tracing spans").count(), 1, "{text}");
    }
}
