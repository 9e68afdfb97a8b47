//! Slices of many batches brought together into one.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, DictionaryArray, MutableArrayData, RecordBatch, make_array};
use arrow::datatypes::{DataType, Int32Type};

use super::intern::{Interner, Remap};
use crate::error::{Result, ResultExt};
use crate::model::Table;

/// The columns of an input's batch, ready to be gathered: keys of dictionaries are those of the shared ones.
pub(super) struct Columns(Vec<ArrayData>);

/// The shared dictionaries, by column; none for columns without.
pub(super) struct Dictionaries(Vec<Option<Interner>>);

/// The maps of one input, by column.
#[derive(Default)]
pub(super) struct Remaps(Vec<Remap>);

impl Dictionaries {
    pub fn new(table: Table) -> Self {
        let schema = crate::table::schema(table);
        let columns = schema.fields().iter();
        let dictionary = |data_type: &DataType| matches!(data_type, DataType::Dictionary(_, _));
        Self(columns.map(|field| dictionary(field.data_type()).then(Interner::default)).collect())
    }

    pub fn columns(&mut self, remaps: &mut Remaps, rows: &RecordBatch) -> Columns {
        remaps.0.resize_with(rows.num_columns(), Remap::default);
        let columns = rows.columns().iter().zip(&mut self.0).zip(&mut remaps.0);
        Columns(
            columns
                .map(|((column, interner), remap)| match interner {
                    Some(interner) => interner.map(remap, column.as_dictionary::<Int32Type>()).into_data(),
                    None => column.to_data(),
                })
                .collect(),
        )
    }

    /// About how much memory they take.
    pub fn memory_bytes(&self) -> usize {
        self.0.iter().flatten().map(Interner::memory_bytes).sum()
    }
}

/// Slices in order, and the batches that they are of.
#[derive(Default)]
pub(super) struct Gather {
    batches: Vec<Arc<Columns>>,
    slices: Vec<(usize, Range<usize>)>,
    rows: usize,
}

impl Gather {
    pub fn add(&mut self, columns: &Arc<Columns>, range: Range<usize>) {
        self.rows += range.len();
        if let Some((batch, last)) = self.slices.last_mut()
            && last.end == range.start
            && Arc::ptr_eq(&self.batches[*batch], columns)
        {
            last.end = range.end;
            return;
        }
        // The batches in hand are as many as inputs; that of the last slices is mostly near the end.
        let batch = self.batches.iter().rposition(|batch| Arc::ptr_eq(batch, columns)).unwrap_or_else(|| {
            self.batches.push(columns.clone());
            self.batches.len() - 1
        });
        self.slices.push((batch, range));
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many batches it holds on to.
    pub fn batches(&self) -> usize {
        self.batches.len()
    }

    /// The rows as one batch; begins anew.
    pub fn take(&mut self, table: Table, dictionaries: &mut Dictionaries) -> Result<RecordBatch> {
        let Self { batches, slices, rows } = std::mem::take(self);
        let schema = crate::table::schema(table);
        let columns = dictionaries.0.iter_mut().enumerate().map(|(column, interner)| -> Result<ArrayRef> {
            let parts: Vec<&ArrayData> = batches.iter().map(|batch| &batch.0[column]).collect();
            let gathered = if let ([part], [(_, range)]) = (parts.as_slice(), slices.as_slice()) {
                part.slice(range.start, range.len())
            } else {
                let mut gathered = MutableArrayData::new(parts, false, rows);
                for (batch, range) in &slices {
                    gathered.try_extend(*batch, range.start, range.end).context("gather merged rows")?;
                }
                gathered.freeze()
            };
            let gathered = make_array(gathered);
            Ok(match interner {
                Some(interner) => {
                    let keys = gathered.as_primitive::<Int32Type>().clone();
                    Arc::new(DictionaryArray::try_new(keys, interner.values()).context("join dictionaries")?)
                }
                None => gathered,
            })
        });
        let columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
        Ok(RecordBatch::try_new(schema, columns).context("gather merged rows")?)
    }
}
