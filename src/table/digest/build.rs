//! A digest built from rows, batch by batch.

use std::collections::HashMap;

use arrow::array::{Array, AsArray, DictionaryArray, Int32Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::Int32Type;

use super::newest::{NEWEST, SLOWEST, has_room, keep};
use super::{
    Digest, EXAMPLES_KEPT, EntryRef, ErrorDigest, HandlerDigest, NEWEST_KEPT, PATHS_KEPT, PathDigest, TYPES_KEPT,
    keep_paths, keep_types,
};
use crate::error::{Result, ResultExt, report};
use crate::model::Table;
use crate::table::canonical::Canonical;
use crate::table::key::KeyColumns;
use crate::table::order::revision;
use crate::table::place::Placed;

/// `STATUS_CODE_ERROR`.
const ERROR: i32 = 2;
const MINUTE_NS: i64 = 60_000_000_000;

/// Builds a [`Digest`] from the rows of a sorted run of entries, batch by batch.
#[derive(Default)]
pub(crate) struct Builder {
    digest: Digest,
    /// The handler in hand: a run has its entries together.
    current: Option<Current>,
    /// The last record's rows so far: revisions of it may follow in the next batch.
    held: Option<RecordBatch>,
}

/// A handler under way: what is a list in its digest is a map here.
#[derive(Default)]
struct Current {
    id: String,
    digest: HandlerDigest,
    paths: HashMap<(String, String), PathDigest>,
    types: HashMap<String, ErrorDigest>,
}

impl Builder {
    /// Adds the run's next rows.
    ///
    /// # Errors
    /// If they are not of the entries table.
    pub fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        let rows = match self.held.take() {
            Some(held) => concat_batches(rows.schema_ref(), [&held, rows]).context("join entries of two batches")?,
            None => rows.clone(),
        };
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let entries = Entries::of(&rows)?;
        let last = entries.groups(&rows).try_fold(0, |_, group| {
            if group.end == rows.num_rows() {
                return Ok(group.start);
            }
            self.count(&entries, entries.newest(group)).map(|()| 0)
        })?;
        self.held = Some(rows.slice(last, rows.num_rows() - last));
        Ok(())
    }

    /// The digest of all rows.
    ///
    /// # Errors
    /// If a handler of theirs is none.
    pub fn finish(mut self) -> Result<Digest> {
        if let Some(rows) = self.held.take() {
            let entries = Entries::of(&rows)?;
            self.count(&entries, entries.newest(0..rows.num_rows()))?;
        }
        self.close()?;
        Ok(self.digest)
    }

    fn count(&mut self, entries: &Entries, row: usize) -> Result<()> {
        let id = entries.keys.handler(row);
        if self.current.as_ref().is_none_or(|current| current.id != id) {
            self.close()?;
            self.current = Some(Current { id: id.to_owned(), ..Current::default() });
        }
        if let Some(current) = &mut self.current {
            current.count(entries, row);
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let Some(mut current) = self.current.take() else { return Ok(()) };
        (current.digest.paths, current.digest.paths_dropped) = keep_paths(current.paths, current.digest.paths_dropped);
        (current.digest.error_types, current.digest.error_types_dropped) =
            keep_types(current.types, current.digest.error_types_dropped);
        let id = current.id.parse().context("digest entries")?;
        self.digest.handlers.entry(id).or_default().merge(&current.digest);
        Ok(())
    }
}

impl Current {
    fn count(&mut self, entries: &Entries, row: usize) {
        let Placed { time_ns, .. } = entries.keys.placed(row);
        let duration_ns = entries.keys.duration(row);
        let error = entries.is_error(row);
        let digest = &mut self.digest;
        // Texts are made only for the few entries that are kept.
        let mut made = None;
        let reference = || EntryRef {
            time_ns,
            trace_id: entries.keys.trace(row).to_string(),
            span_id: entries.keys.span(row).to_string(),
            duration_ns,
            error,
        };
        let mut offer = |list: &mut Vec<EntryRef>, most, by, than_last: &dyn Fn(&EntryRef) -> std::cmp::Ordering| {
            // An equal time may still be newer by trace id: only what is certainly older is left out unmade.
            if has_room(list, most, |last| than_last(last).then(std::cmp::Ordering::Greater)) {
                keep(list, most, made.get_or_insert_with(reference), by);
            }
        };
        // Rows come newest first: the names are those of a handler's first rows.
        let was_newest = digest.newest.first().filter(|first| first.time_ns <= time_ns).cloned();
        let may_be_newest = was_newest.is_some() || digest.newest.is_empty();
        offer(&mut digest.newest, NEWEST_KEPT, NEWEST, &|last| time_ns.cmp(&last.time_ns));
        offer(&mut digest.slowest, EXAMPLES_KEPT, SLOWEST, &|last| duration_ns.cmp(&last.duration_ns));
        if error {
            offer(&mut digest.newest_errors, EXAMPLES_KEPT, NEWEST, &|last| time_ns.cmp(&last.time_ns));
        }
        if may_be_newest && digest.newest.first() != was_newest.as_ref() {
            entries.name(row, digest);
        }
        if let Some(route) = entries.route.get(row)
            && digest.routed.as_ref().is_none_or(|routed| routed.time_ns <= time_ns)
        {
            let entry = made.get_or_insert_with(reference);
            if digest.routed.as_ref().is_none_or(|routed| routed < entry) {
                digest.route = Some(route.to_owned());
                digest.routed = Some(entry.clone());
            }
        }
        let name = entries.span_name.get(row).unwrap_or_default();
        let known = digest.span_names.get(name);
        let full = digest.span_names.len() == EXAMPLES_KEPT;
        let too_old = || digest.span_names.values().all(|other| other.time_ns > time_ns);
        if known.is_some_and(|newest| newest.time_ns <= time_ns) || known.is_none() && !(full && too_old()) {
            digest.name_span(name, made.get_or_insert_with(reference));
        }
        digest.count += 1;
        digest.errors += u64::from(error);
        digest.first_ns = if digest.count == 1 { time_ns } else { digest.first_ns.min(time_ns) };
        digest.last_ns = if digest.count == 1 { time_ns } else { digest.last_ns.max(time_ns) };
        digest.duration_sum_ns = digest.duration_sum_ns.saturating_add(duration_ns.max(0) as u64);
        digest.latency.add(duration_ns, 1);
        if entries.http_status.is_valid(row) {
            let status = entries.http_status.value(row);
            *digest.http_statuses.entry(if (100..600).contains(&status) { status } else { 0 }).or_default() += 1;
        }
        if entries.status_code.is_valid(row) {
            let code = entries.status_code.value(row);
            *digest.status_codes.entry(if (0..3).contains(&code) { code } else { -1 }).or_default() += 1;
        }
        let minute = digest.minutes.entry(time_ns.div_euclid(MINUTE_NS)).or_default();
        minute.count += 1;
        minute.errors += u64::from(error);
        let hour = digest.hours.entry(time_ns.div_euclid(60 * MINUTE_NS)).or_default();
        hour.count += 1;
        hour.errors += u64::from(error);
        digest.trim();
        if error {
            let entry = made.get_or_insert_with(reference);
            let kind = entries.error_type.get(row).unwrap_or_default();
            let of_type = match self.types.get_mut(kind) {
                Some(of_type) => of_type,
                None => self.types.entry(kind.to_owned()).or_default(),
            };
            of_type.count += 1;
            if of_type.example.as_ref().is_none_or(|example| example < entry) {
                of_type.example = Some(entry.clone());
            }
            if self.types.len() > 4 * TYPES_KEPT {
                let (types, dropped) = keep_types(std::mem::take(&mut self.types), digest.error_types_dropped);
                (self.types, digest.error_types_dropped) = (types.into_iter().collect(), dropped);
            }
        }
        if entries.path.is_valid(row) {
            let entry = made.get_or_insert_with(reference);
            let path = entries.path.value(row).to_owned();
            let method = entries.method.get(row).unwrap_or_default().to_owned();
            let fresh = |(method, path): &(String, String)| PathDigest {
                method: method.clone(),
                path: path.clone(),
                count: 0,
                errors: 0,
                newest: entry.clone(),
            };
            let of_path = self.paths.entry((method, path)).or_insert_with_key(fresh);
            of_path.count += 1;
            of_path.errors += u64::from(error);
            if of_path.newest < *entry {
                of_path.newest = entry.clone();
            }
            if self.paths.len() > 4 * PATHS_KEPT {
                let (paths, dropped) = keep_paths(std::mem::take(&mut self.paths), digest.paths_dropped);
                self.paths = paths.into_iter().map(|path| ((path.method.clone(), path.path.clone()), path)).collect();
                digest.paths_dropped = dropped;
            }
        }
    }
}

/// The columns of a batch of entries.
struct Entries {
    keys: KeyColumns,
    canonical: Canonical,
    status_code: Int32Array,
    http_status: Int32Array,
    error_type: Texts,
    kind: Texts,
    name: Texts,
    span_name: Texts,
    service: Texts,
    namespace: Texts,
    method: Texts,
    route: Texts,
    path: StringArray,
}

/// A dictionary column.
struct Texts(DictionaryArray<Int32Type>);

impl Texts {
    fn get(&self, row: usize) -> Option<&str> {
        self.0.is_valid(row).then(|| self.0.values().as_string::<i32>().value(self.0.keys().value(row) as usize))
    }
}

impl Entries {
    fn of(rows: &RecordBatch) -> Result<Self> {
        let column = |name: &str| rows.column_by_name(name).ok_or_else(|| report!("entries have no column `{name}`"));
        let texts = |name: &str| {
            let texts = column(name)?.as_dictionary_opt::<Int32Type>();
            let texts = texts.filter(|texts| texts.values().as_string_opt::<i32>().is_some());
            texts.cloned().map(Texts).ok_or_else(|| report!("column `{name}` of entries is no text"))
        };
        let numbers = |name: &str| {
            let numbers = column(name)?.as_primitive_opt::<Int32Type>();
            numbers.cloned().ok_or_else(|| report!("column `{name}` of entries is no number"))
        };
        let path = column("path")?.as_string_opt::<i32>().ok_or_else(|| report!("column `path` is no text"))?;
        Ok(Self {
            keys: KeyColumns::of(Table::Entries, rows)?,
            canonical: Canonical::of(rows),
            status_code: numbers("status_code")?,
            http_status: numbers("http_status")?,
            error_type: texts("error_type")?,
            kind: texts("handler_kind")?,
            name: texts("handler_name")?,
            span_name: texts("span_name")?,
            service: texts("service")?,
            namespace: texts("service_namespace")?,
            method: texts("method")?,
            route: texts("route")?,
            path: path.clone(),
        })
    }

    /// Rows that stand together and are revisions of one record.
    fn groups(&self, rows: &RecordBatch) -> impl Iterator<Item = std::ops::Range<usize>> {
        let (mut from, end) = (0, rows.num_rows());
        std::iter::from_fn(move || {
            let start = from;
            (start < end).then(|| {
                from += 1;
                while from < end && self.keys.compare(start, &self.keys, from).is_eq() {
                    from += 1;
                }
                start..from
            })
        })
    }

    /// Of revisions of one record the one that counts.
    fn newest(&self, group: std::ops::Range<usize>) -> usize {
        let first = group.start;
        if group.len() == 1 {
            first
        } else {
            group.max_by_key(|row| revision(&self.keys, &self.canonical, *row)).unwrap_or(first)
        }
    }

    fn is_error(&self, row: usize) -> bool {
        let failed = self.status_code.is_valid(row) && self.status_code.value(row) == ERROR;
        failed || self.http_status.is_valid(row) && (500..600).contains(&self.http_status.value(row))
    }

    fn name(&self, row: usize, digest: &mut HandlerDigest) {
        digest.kind = self.kind.get(row).unwrap_or_default().to_owned();
        digest.name = self.name.get(row).unwrap_or_default().to_owned();
        digest.service = self.service.get(row).unwrap_or_default().to_owned();
        digest.namespace = self.namespace.get(row).unwrap_or_default().to_owned();
        digest.method = self.method.get(row).map(str::to_owned);
    }
}
