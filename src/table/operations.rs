//! Which operations a block of spans holds: service, span name and kind.

use std::collections::{BTreeSet, HashSet};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int32Type;

use crate::error::{Result, report};

/// What is read for it: three columns whose values repeat, a byte or two a row.
pub(super) const COLUMNS: [&str; 3] = ["service", "name", "kind"];

/// How many operations of a block are told apart. Names that are really paths or ids are beyond anybody's list.
const MOST: usize = 10_000;

/// What spans of one service, name and kind do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Operation {
    /// `service.name`, empty if there is none.
    pub service: String,
    /// The span's name.
    pub name: String,
    /// SpanKind: 0 if not set, 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub kind: i32,
}

/// The operations of a set of spans, at most [`MOST`] and one for each service besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operations(pub BTreeSet<Operation>);

impl Operations {
    /// Adds those of `rows`, which have the columns [`COLUMNS`].
    ///
    /// # Errors
    /// If these are not of the spans table.
    pub(super) fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        let wrong = || report!("spans have columns of other types than the table's");
        let column = |name: &str| rows.column_by_name(name).ok_or_else(wrong);
        let texts = |name: &str| column(name)?.as_dictionary_opt::<Int32Type>().ok_or_else(wrong);
        let (services, names) = (texts("service")?, texts("name")?);
        let kinds = column("kind")?.as_primitive_opt::<Int32Type>().ok_or_else(wrong)?;
        let text = |column: &arrow::array::DictionaryArray<Int32Type>, key: Option<usize>| -> Result<String> {
            let values = column.values().as_string_opt::<i32>().ok_or_else(wrong)?;
            Ok(key.map(|key| values.value(key).to_owned()).unwrap_or_default())
        };
        // By number first: a batch has thousands of rows and a few operations.
        let mut seen = HashSet::with_hasher(foldhash::fast::RandomState::default());
        for row in 0..rows.num_rows() {
            let kind = if kinds.is_null(row) { 0 } else { kinds.value(row) };
            if !seen.insert((services.key(row), names.key(row), kind)) {
                continue;
            }
            let service = text(services, services.key(row))?;
            if self.0.len() < MOST || !self.knows(&service) {
                self.0.insert(Operation { service, name: text(names, names.key(row))?, kind });
            }
        }
        Ok(())
    }

    /// Whether there may be others.
    pub fn is_full(&self) -> bool {
        self.0.len() >= MOST
    }

    fn knows(&self, service: &str) -> bool {
        let first = Operation { service: service.to_owned(), name: String::new(), kind: i32::MIN };
        self.0.range(first..).next().is_some_and(|operation| operation.service == service)
    }

    /// About how much memory they take.
    pub(super) fn memory_bytes(&self) -> usize {
        self.0.iter().map(|operation| operation.service.len() + operation.name.len() + 96).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::testing::{self, Span};

    #[test]
    fn an_operation_is_told_once() {
        let rows = testing::rows(&[
            Span::new(1, 0, "GET /").kind(2).service("web"),
            Span::new(2, 1, "query").kind(3).service("web"),
            Span::new(3, 0, "GET /").kind(2).service("web"),
            Span::new(4, 0, "tick"),
        ]);
        let mut operations = Operations::default();
        operations.add(&rows).unwrap();
        let told: Vec<_> = operations.0.iter().map(|o| (o.service.as_str(), o.name.as_str(), o.kind)).collect();
        assert_eq!(told, [("", "tick", 0), ("web", "GET /", 2), ("web", "query", 3)]);
    }

    #[test]
    fn a_service_is_told_however_many_names_another_makes_up() {
        let mut spans: Vec<Span> =
            (0..MOST as u64 + 5).map(|n| Span::new(1 + n, 0, &format!("/{n}")).service("a")).collect();
        spans.push(Span::new(1, 0, "x").service("z"));
        let mut operations = Operations::default();
        operations.add(&testing::rows(&spans)).unwrap();
        assert_eq!(operations.0.len(), MOST + 1);
        assert_eq!(operations.0.last().unwrap().service, "z");
    }
}
