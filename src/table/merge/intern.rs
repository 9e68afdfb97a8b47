//! One dictionary for all inputs of a column.
//!
//! Every input has dictionaries of its own, one a row group. Each of their values is looked up once, not once a row;
//! the rows' keys are then mapped by index.

use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int32Array, StringArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::Int32Type;
use hashbrown::HashTable;

/// The shared dictionary of one column.
#[derive(Default)]
pub(super) struct Interner {
    table: HashTable<i32>,
    offsets: Vec<i32>,
    bytes: Vec<u8>,
    hash: foldhash::fast::FixedState,
    /// The values as an array, until there are more.
    array: Option<ArrayRef>,
}

/// Where the values of one of an input's dictionaries stand in the shared one.
#[derive(Default)]
pub(super) struct Remap {
    /// The dictionary that this is the map of.
    of: Option<ArrayRef>,
    /// -1: not looked up yet. A dictionary may have values that no row of this shard uses.
    map: Vec<i32>,
}

impl Interner {
    fn intern(&mut self, value: &[u8]) -> i32 {
        if self.offsets.is_empty() {
            self.offsets.push(0);
        }
        let Self { table, offsets, bytes, hash, array } = self;
        let at = |key: &i32| &bytes[offsets[*key as usize] as usize..offsets[*key as usize + 1] as usize];
        let hashed = hash.hash_one(value);
        if let Some(key) = table.find(hashed, |key| at(key) == value) {
            return *key;
        }
        let key = offsets.len() as i32 - 1;
        bytes.extend_from_slice(value);
        // Callers start anew long before 2 GiB.
        offsets.push(bytes.len() as i32);
        let at = |key: &i32| &bytes[offsets[*key as usize] as usize..offsets[*key as usize + 1] as usize];
        table.insert_unique(hashed, key, |key| hash.hash_one(at(key)));
        *array = None;
        key
    }

    /// The keys of `column`, mapped to the shared dictionary.
    pub fn map(&mut self, remap: &mut Remap, column: &DictionaryArray<Int32Type>) -> Int32Array {
        let values = column.values();
        // The batches of one row group share its dictionary.
        if !remap.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, values)) {
            remap.of = Some(values.clone());
            remap.map.clear();
            remap.map.resize(values.len(), -1);
        }
        let values = values.as_string::<i32>();
        let keys = column.keys();
        let mut mapped = Vec::with_capacity(keys.len());
        let (mut last, mut last_mapped) = (-1, 0);
        for (row, key) in keys.values().iter().enumerate() {
            if *key != last && keys.is_valid(row) {
                last = *key;
                let slot = &mut remap.map[*key as usize];
                if *slot < 0 {
                    *slot = self.intern(values.value(*key as usize).as_bytes());
                }
                last_mapped = *slot;
            }
            mapped.push(last_mapped);
        }
        Int32Array::new(mapped.into(), keys.nulls().cloned())
    }

    /// The shared dictionary as it is now.
    pub fn values(&mut self) -> ArrayRef {
        if let Some(array) = &self.array {
            return array.clone();
        }
        let offsets = if self.offsets.is_empty() { vec![0] } else { self.offsets.clone() };
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let array: ArrayRef = Arc::new(StringArray::new(offsets, Buffer::from_slice_ref(&self.bytes), None));
        self.array = Some(array.clone());
        array
    }

    /// About how much memory it takes.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.len() + self.offsets.len() * 16
    }
}
