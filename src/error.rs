//! Reports: the chain of causes together with the way through async tasks. The only file that names the report crate.
//!
//! A [`Report`] is for people; code decides by a [`StoreError`](crate::store::StoreError)'s kind or by [`Mistake`],
//! which can be found anywhere in a report ([`find`]). Context is a present-tense verb and its object
//! (`.context("read the footer of spans/…")`), so that a chain reads as a sentence. An error is logged once, where it
//! is handled.

pub use rootcause::prelude::{Report, ResultExt, bail, report};

use crate::store::{StoreError, StoreErrorKind};

/// What functions of this crate return when their errors are for people.
pub type Result<T, E = Report> = std::result::Result<T, E>;

/// A user's mistake: one clear sentence, no chain, exit code 2.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Mistake(pub String);

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
