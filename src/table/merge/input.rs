//! One sorted run of a merge, read window by window.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;

use super::gather::{Columns, Dictionaries, Remaps};
use super::share::{OfGroup, Share};
use crate::error::Result;
use crate::model::Table;
use crate::table::block::BlockError;
use crate::table::canonical::Canonical;
use crate::table::footer::Footer;
use crate::table::key::KeyColumns;
use crate::table::scan::{Scan, Selected, Step};

/// Rows of a batch, at most.
const BATCH_ROWS: usize = 8 << 10;
/// Rows of a batch, at least: below that the cost of a batch is more than that of its rows.
pub(crate) const BATCH_LEAST_ROWS: usize = 128;
/// What a row takes in memory beside its texts: ids, times, keys, null bits.
pub(crate) const ROW_BYTES: usize = 200;

/// A row that is an input's next.
#[derive(Clone)]
pub(super) struct Head {
    pub rows: Arc<Rows>,
    pub row: usize,
}

/// A batch of an input, with what it is compared by.
pub(super) struct Rows {
    pub batch: RecordBatch,
    pub keys: KeyColumns,
    pub canonical: Canonical,
}

/// A run under way.
pub(super) struct Input {
    pub footer: Arc<Footer>,
    table: Table,
    /// What is still to be opened, in reverse.
    windows: Vec<Selected>,
    batch_rows: usize,
    scan: Option<Scan>,
    pub head: Option<Head>,
    /// The head's columns with shared keys.
    pub columns: Option<Arc<Columns>>,
    remaps: Remaps,
    /// The last row of the batch before, for the check that the run is sorted.
    before: Option<Head>,
    pub rows_read: u64,
}

/// How an input stands after [`Input::advance`].
pub(super) enum State {
    /// It has a head.
    Ready,
    /// It needs these bytes first.
    Need(Vec<Range<u64>>),
    /// It has no more rows.
    Ended,
}

impl Input {
    /// The run of a shard's rows in a block, with `memory_bytes` for what is read at a time.
    pub fn new(table: Table, share: Share, memory_bytes: usize) -> Self {
        let Share { footer, parts } = share;
        let mut windows = Vec::new();
        let mut largest = ROW_BYTES;
        for (group, ranges) in parts {
            let of_group = OfGroup::of(&footer, group);
            // Half of the memory for compressed pages, half for a decoded batch. To read less than a page at a time would
            // be to read each again and again.
            largest = largest.max(of_group.unpacked + ROW_BYTES);
            let window = (memory_bytes / 2 / of_group.stored).max(of_group.page_rows).max(BATCH_LEAST_ROWS);
            for range in ranges {
                let mut from = range.start;
                while from < range.end {
                    let to = from.saturating_add(window).min(range.end);
                    windows.push((group, std::iter::once(from..to).collect()));
                    from = to;
                }
            }
        }
        windows.reverse();
        let batch_rows = (memory_bytes / 2 / largest).clamp(BATCH_LEAST_ROWS, BATCH_ROWS);
        Self {
            footer,
            table,
            windows,
            batch_rows,
            scan: None,
            head: None,
            columns: None,
            remaps: Remaps::default(),
            before: None,
            rows_read: 0,
        }
    }

    /// Makes sure that there is a head, if there are rows left.
    pub fn advance(&mut self, dictionaries: &mut Dictionaries) -> Result<State> {
        if self.head.is_some() {
            return Ok(State::Ready);
        }
        loop {
            let Some(scan) = &mut self.scan else {
                let Some(window) = self.windows.pop() else { return Ok(State::Ended) };
                self.scan = Some(Scan::new(&self.footer, &[window], self.batch_rows, None, None)?);
                continue;
            };
            match scan.step()? {
                Step::Need(ranges) => return Ok(State::Need(ranges)),
                Step::Done => self.scan = None,
                Step::Rows(batch) if batch.num_rows() == 0 => {}
                Step::Rows(batch) => {
                    self.rows_read += batch.num_rows() as u64;
                    let keys = KeyColumns::of(self.table, &batch)?;
                    let rows = Arc::new(Rows { keys, canonical: Canonical::of(&batch), batch });
                    self.check_order(&rows)?;
                    self.head = Some(Head { rows, row: 0 });
                    self.prepare(dictionaries);
                    return Ok(State::Ready);
                }
            }
        }
    }

    /// Hands over bytes that it needed.
    pub fn push(&mut self, ranges: Vec<Range<u64>>, bytes: Vec<Bytes>) -> Result<()> {
        match &mut self.scan {
            Some(scan) => scan.push(ranges, bytes),
            None => Ok(()),
        }
    }

    /// Maps the head's batch to the shared dictionaries.
    pub fn prepare(&mut self, dictionaries: &mut Dictionaries) {
        let head = self.head.as_ref();
        self.columns = head.map(|head| Arc::new(dictionaries.columns(&mut self.remaps, &head.rows.batch)));
    }

    /// Forgets how its dictionaries map to shared ones that are no more.
    pub fn forget_dictionaries(&mut self) {
        self.remaps = Remaps::default();
    }

    /// Goes on to `row` of the head's batch.
    pub fn skip_to(&mut self, row: usize) {
        if let Some(head) = &mut self.head {
            head.row = row;
            if row >= head.rows.keys.len() {
                self.head = None;
                self.columns = None;
            }
        }
    }

    /// A run that is not sorted would make a merge that is not: rows would be found in no reader's pruned search.
    fn check_order(&mut self, rows: &Arc<Rows>) -> Result<()> {
        let last = Head { rows: rows.clone(), row: rows.keys.len() - 1 };
        let within = (1..rows.keys.len()).all(|row| rows.keys.compare(row - 1, &rows.keys, row).is_le());
        let across =
            self.before.as_ref().is_none_or(|before| before.rows.keys.compare(before.row, &rows.keys, 0).is_le());
        if !within || !across {
            return Err(BlockError::corrupt(&self.footer.key, "its rows are not in order").into());
        }
        self.before = Some(last);
        Ok(())
    }
}

impl Rows {
    /// The total order of rows (see [`crate::table::order`]) up to `received`; content is looked at only if keys agree.
    pub fn compare_content(&self, row: usize, other: &Self, other_row: usize) -> Ordering {
        self.keys.compare(row, &other.keys, other_row).then_with(|| {
            let (ours, theirs) = (&self.canonical, &other.canonical);
            ours.compare(row, ours.hash(row), theirs, other_row, theirs.hash(other_row))
        })
    }

    /// The total order of rows.
    pub fn compare(&self, row: usize, other: &Self, other_row: usize) -> Ordering {
        let received = || self.keys.received(row).cmp(&other.keys.received(other_row));
        self.compare_content(row, other, other_row).then_with(received)
    }
}

impl Head {
    /// [`Rows::compare_content`] of two inputs' next rows.
    pub fn compare_content(&self, other: &Self) -> Ordering {
        self.rows.compare_content(self.row, &other.rows, other.row)
    }

    /// [`Rows::compare`] of two inputs' next rows.
    pub fn compare(&self, other: &Self) -> Ordering {
        self.rows.compare(self.row, &other.rows, other.row)
    }
}
