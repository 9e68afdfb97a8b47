//! The merge without its I/O.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::gather::{Dictionaries, Gather};
use super::input::{Head, Input, State};
use super::share::Share;
use super::{MergeSpec, OUTPUT_BYTES};
use crate::error::Result;
use crate::model::{Shard, Table, TraceId};
use crate::table::appendix;
use crate::table::block::Words;
use crate::table::digest::{Builder, CallsBuilder};
use crate::table::footer::Footer;
use crate::table::write::Level1;

/// Rows of a batch that is handed to the encoder.
const BATCH_ROWS: usize = 16 << 10;
/// Dictionaries larger than this begin anew: values that came once and never again must not fill the memory.
const DICTIONARY_BYTES: usize = 16 << 20;

/// A merge under way: [`Machine::run`] until it wants something, give it that, and again.
pub(super) struct Machine {
    table: Table,
    shard: Shard,
    file_bytes: u64,
    /// Rows are handed to the encoder so many at a time.
    batch_rows: usize,
    forget: HashSet<TraceId>,
    inputs: Vec<Input>,
    /// Inputs that need bytes, or were not looked at yet.
    waiting: Vec<usize>,
    /// Inputs with a head, the least last.
    order: Vec<usize>,
    dictionaries: Dictionaries,
    gather: Gather,
    /// The row taken last: a copy of it is dropped.
    last: Option<Head>,
    file: File,
    group_rows: usize,
    /// The file is large enough: it ends with the trace or handler in hand.
    ending: bool,
    rows_out: u64,
}

/// A file being encoded.
struct File {
    level1: Level1,
    digest: Builder,
    calls: CallsBuilder,
}

impl File {
    fn new(table: Table, group_rows: usize) -> Result<Self> {
        Ok(Self { level1: Level1::new(table, group_rows)?, digest: Builder::default(), calls: CallsBuilder::default() })
    }
}

/// What a merge wants next.
pub(super) enum Want {
    /// Bytes of inputs: hand them to [`Machine::supply`].
    Input(Vec<Need>),
    /// Bytes to be written to the file in hand.
    Write(Bytes),
    /// The file in hand is at its end, and so are the inputs if it is the `last`: call [`Machine::end_file`].
    Ended { last: bool },
}

/// Bytes that an input needs.
pub(super) struct Need {
    input: usize,
    pub footer: Arc<Footer>,
    pub ranges: Vec<Range<u64>>,
}

impl Machine {
    /// Of `inputs` that fit ([`Share::fitting`]); what memory is left is divided among them.
    pub fn new(spec: &MergeSpec, inputs: Vec<Share>, group_rows: usize) -> Result<Self> {
        let memory = spec.memory_bytes.saturating_sub(OUTPUT_BYTES).max(spec.memory_bytes / 2);
        let least: usize = inputs.iter().map(|input| input.takes().always).sum();
        let each = memory.saturating_sub(least) / inputs.len().max(1);
        let inputs = inputs.into_iter().map(|share| Input::new(spec.table, share, each));
        let inputs: Vec<Input> = inputs.collect();
        Ok(Self {
            table: spec.table,
            shard: spec.shard,
            file_bytes: spec.file_bytes,
            // A row takes at least a byte: so even the smallest files end where they should.
            batch_rows: usize::try_from(spec.file_bytes).unwrap_or(BATCH_ROWS).clamp(1, BATCH_ROWS),
            forget: spec.forget.clone(),
            waiting: (0..inputs.len()).collect(),
            order: Vec::with_capacity(inputs.len()),
            inputs,
            dictionaries: Dictionaries::new(spec.table),
            gather: Gather::default(),
            last: None,
            file: File::new(spec.table, group_rows)?,
            group_rows,
            ending: false,
            rows_out: 0,
        })
    }

    /// Rows read so far.
    pub fn rows_in(&self) -> u64 {
        self.inputs.iter().map(|input| input.rows_read).sum()
    }

    /// Rows written so far.
    pub fn rows_out(&self) -> u64 {
        self.rows_out
    }

    /// Goes on until it wants something.
    pub fn run(&mut self) -> Result<Want> {
        loop {
            let needs = self.ready_inputs()?;
            if !needs.is_empty() {
                return Ok(Want::Input(needs));
            }
            let Some(least) = self.order.pop() else {
                self.flush()?;
                return Ok(Want::Ended { last: true });
            };
            if self.ending && self.begins_anew(least) {
                self.order.push(least);
                self.flush()?;
                return Ok(Want::Ended { last: false });
            }
            self.take_from(least);
            self.waiting.push(least);
            if self.gather.rows() >= self.batch_rows || self.gather.batches() > 2 * self.inputs.len() + 8 {
                self.flush()?;
                let ready = self.file.level1.ready()?;
                if !ready.is_empty() {
                    return Ok(Want::Write(ready));
                }
            }
        }
    }

    /// Hands over bytes that [`Machine::run`] wanted.
    pub fn supply(&mut self, fetched: Vec<(Need, Vec<Bytes>)>) -> Result<()> {
        fetched.into_iter().try_for_each(|(need, bytes)| self.inputs[need.input].push(need.ranges, bytes))
    }

    /// Ends the file in hand and begins another: what is left of its bytes.
    pub fn end_file(&mut self, mut words: Words) -> Result<Vec<Bytes>> {
        let File { level1, digest, calls } = std::mem::replace(&mut self.file, File::new(self.table, self.group_rows)?);
        self.ending = false;
        words.rows = level1.rows();
        words.shards = vec![(self.shard, words.rows)];
        match self.table {
            Table::Spans => level1.finish(words, None, Some(&appendix::write(&calls.finish())?)),
            Table::Entries => level1.finish(words, Some(&appendix::write(&digest.finish()?)?), None),
        }
    }

    /// Brings the inputs that have no head into order; those that need bytes for it.
    fn ready_inputs(&mut self) -> Result<Vec<Need>> {
        let mut needs = Vec::new();
        for input in std::mem::take(&mut self.waiting) {
            match self.inputs[input].advance(&mut self.dictionaries)? {
                State::Ready => self.insert(input),
                State::Ended => {}
                State::Need(ranges) => {
                    needs.push(Need { input, footer: self.inputs[input].footer.clone(), ranges });
                    self.waiting.push(input);
                }
            }
        }
        Ok(needs)
    }

    /// Puts an input into its place: a few comparisons, and a shift of a few machine words.
    fn insert(&mut self, input: usize) {
        let place = self.order.partition_point(|other| self.compare(*other, input).is_gt());
        self.order.insert(place, input);
    }

    fn compare(&self, a: usize, b: usize) -> Ordering {
        match (&self.inputs[a].head, &self.inputs[b].head) {
            (Some(ours), Some(theirs)) => ours.compare(theirs).then(a.cmp(&b)),
            _ => a.cmp(&b),
        }
    }

    /// Whether an input's head is of another trace or handler than the row taken last.
    fn begins_anew(&self, input: usize) -> bool {
        match (&self.last, &self.inputs[input].head) {
            (Some(last), Some(head)) => match self.table {
                Table::Spans => last.rows.keys.trace(last.row) != head.rows.keys.trace(head.row),
                Table::Entries => last.rows.keys.handler(last.row) != head.rows.keys.handler(head.row),
            },
            _ => false,
        }
    }

    /// Takes the rows of `least` that stand before every other input's head, without copies of what was taken.
    fn take_from(&mut self, least: usize) {
        let input = &self.inputs[least];
        let (Some(head), Some(columns)) = (input.head.clone(), input.columns.clone()) else { return };
        // A copy of the row taken last has the same content and was received no earlier.
        if self.last.as_ref().is_some_and(|last| last.compare_content(&head).is_eq()) {
            self.inputs[least].skip_to(head.row + 1);
            return;
        }
        let end = match self.order.last().and_then(|other| self.inputs[*other].head.as_ref()) {
            Some(other) => before(&head, other),
            None => head.rows.keys.len(),
        };
        // The end of a file must be noticed where a trace or handler ends.
        let end = if self.ending { head.row + 1 } else { end.min(head.row + self.batch_rows - self.gather.rows()) };
        if self.forget.is_empty() {
            self.gather.add(&columns, head.row..end);
            self.rows_out += (end - head.row) as u64;
        } else {
            for row in (head.row..end).filter(|row| !self.forget.contains(&head.rows.keys.trace(*row))) {
                self.gather.add(&columns, row..row + 1);
                self.rows_out += 1;
            }
        }
        self.last = Some(Head { row: end - 1, rows: head.rows });
        self.inputs[least].skip_to(end);
    }

    /// Hands the rows gathered so far to the encoder.
    fn flush(&mut self) -> Result<()> {
        if self.gather.rows() > 0 {
            let rows = self.gather.take(self.table, &mut self.dictionaries)?;
            match self.table {
                Table::Spans => self.file.calls.add(&rows)?,
                Table::Entries => self.file.digest.add(&rows)?,
            }
            self.file.level1.write(&rows)?;
        }
        self.ending = self.file.level1.size_bytes() >= self.file_bytes;
        if self.dictionaries.memory_bytes() > DICTIONARY_BYTES {
            self.dictionaries = Dictionaries::new(self.table);
            for input in &mut self.inputs {
                input.forget_dictionaries();
                input.prepare(&mut self.dictionaries);
            }
        }
        Ok(())
    }
}

/// The end of the rows of `head`'s batch, from `head` on, that stand before `other`: at least one. Found by doubling
/// steps: where runs interleave a few comparisons, where they do not a few more for a whole batch.
fn before(head: &Head, other: &Head) -> usize {
    let len = head.rows.keys.len();
    let is_before = |row: usize| head.rows.compare(row, &other.rows, other.row).is_lt();
    let (mut from, mut step) = (head.row + 1, 1);
    while from < len && is_before((from + step - 1).min(len - 1)) {
        from = (from + step).min(len);
        step *= 2;
    }
    let (mut low, mut high) = (from, (from + step - 1).min(len));
    while low < high {
        let middle = usize::midpoint(low, high);
        if is_before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
