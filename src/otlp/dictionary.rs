//! Strings that repeat, each kept once: interned by a hash computed once, and handed to Arrow as they lie.

use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Int32Array, StringArray};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::Int32Type;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::typed_json::write::{NotUtf8, utf8};

/// The key of no value.
pub(super) const NONE: i32 = -1;

/// Byte strings, numbered in the order in which they first came.
#[derive(Debug, Default)]
pub(super) struct Interner {
    bytes: Vec<u8>,
    /// Where each one ends.
    ends: Vec<u32>,
    table: HashTable<u32>,
    hasher: RandomState,
}

impl Interner {
    /// The number of `bytes`, and whether they are new. `check` may refuse new ones.
    pub(super) fn intern<E>(
        &mut self,
        bytes: &[u8],
        check: impl FnOnce(&[u8]) -> Result<(), E>,
    ) -> Result<(u32, bool), E> {
        let Self { bytes: all, ends, table, hasher } = self;
        let hash = hasher.hash_one(bytes);
        match table.entry(hash, |at| get(all, ends, *at) == bytes, |at| hasher.hash_one(get(all, ends, *at))) {
            Entry::Occupied(found) => Ok((*found.get(), false)),
            Entry::Vacant(place) => {
                check(bytes)?;
                let number = ends.len() as u32;
                place.insert(number);
                all.extend_from_slice(bytes);
                ends.push(all.len() as u32);
                Ok((number, true))
            }
        }
    }

    /// About how much memory it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * 4 + self.table.capacity() * 5
    }

    /// How long all strings are together.
    pub(super) fn text_bytes(&self) -> usize {
        self.bytes.len()
    }
}

fn get<'a>(all: &'a [u8], ends: &[u32], at: u32) -> &'a [u8] {
    let at = at as usize;
    let start = at.checked_sub(1).map_or(0, |before| ends[before] as usize);
    &all[start..ends[at] as usize]
}

/// The values of one dictionary column. The empty string is no value.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    values: Interner,
}

impl Dictionary {
    /// The key of `text`, [`NONE`] if it is empty.
    ///
    /// # Errors
    /// If it is not UTF-8: that is looked at only when it is new.
    #[inline]
    pub(super) fn key(&mut self, text: &[u8]) -> Result<i32, NotUtf8> {
        if text.is_empty() {
            return Ok(NONE);
        }
        let (number, _) = self.values.intern(text, |new| utf8(new).map(|_| ()))?;
        Ok(number as i32)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.values.memory_bytes()
    }

    pub(super) fn text_bytes(&self) -> usize {
        self.values.text_bytes()
    }

    /// The column with these keys; the dictionary begins anew.
    pub(super) fn column(&mut self, keys: impl Iterator<Item = i32>) -> ArrayRef {
        let Interner { bytes, ends, .. } = std::mem::take(&mut self.values);
        let offsets = std::iter::once(0).chain(ends.iter().map(|end| *end as i32)).collect();
        let values = strings(bytes, offsets, None);
        let mut keys: Vec<i32> = keys.collect();
        let nulls = nulls(keys.len(), |row| keys[row] != NONE);
        keys.iter_mut().for_each(|key| *key = (*key).max(0));
        let keys = Int32Array::new(keys.into(), nulls);
        Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(values)))
    }
}

/// Which of so many rows have a value; none if all have.
pub(super) fn nulls(rows: usize, has_value: impl FnMut(usize) -> bool) -> Option<NullBuffer> {
    let nulls = NullBuffer::new(BooleanBuffer::collect_bool(rows, has_value));
    (nulls.null_count() > 0).then_some(nulls)
}

/// A string array of text that was checked when it was written.
pub(super) fn strings(bytes: Vec<u8>, offsets: Vec<i32>, nulls: Option<NullBuffer>) -> StringArray {
    StringArray::new(OffsetBuffer::new(ScalarBuffer::from(offsets)), Buffer::from_vec(bytes), nulls)
}

/// A column of long texts that seldom repeat: one buffer. Empty is no value.
#[derive(Debug, Default)]
pub(super) struct Texts {
    /// All texts; what stands behind the last end belongs to the row in hand.
    pub(super) bytes: Vec<u8>,
    ends: Vec<i32>,
}

impl Texts {
    /// Where the row in hand begins.
    pub(super) fn mark(&self) -> usize {
        self.ends.last().map_or(0, |end| *end as usize)
    }

    /// An element of the array in hand begins.
    pub(super) fn element(&mut self) -> &mut Vec<u8> {
        let first = self.bytes.len() == self.mark();
        self.bytes.push(if first { b'[' } else { b',' });
        &mut self.bytes
    }

    /// The array or object in hand has no more elements; without any there is none.
    pub(super) fn close(&mut self, end: u8) {
        let start = self.mark();
        super::elements::close(&mut self.bytes, start, end);
    }

    /// The row in hand is complete.
    pub(super) fn commit(&mut self) {
        self.ends.push(self.bytes.len() as i32);
    }

    /// Forgets the row in hand, and all but the first `rows`.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        self.bytes.truncate(self.mark());
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * 4
    }

    /// The column; begins anew.
    pub(super) fn column(&mut self) -> ArrayRef {
        let Self { mut bytes, ends } = std::mem::take(self);
        bytes.truncate(ends.last().map_or(0, |end| *end as usize));
        let mut offsets = Vec::with_capacity(ends.len() + 1);
        offsets.push(0);
        offsets.extend_from_slice(&ends);
        let nulls = nulls(ends.len(), |row| offsets[row] != offsets[row + 1]);
        Arc::new(strings(bytes, offsets, nulls))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray};

    #[test]
    fn equal_strings_have_one_key_and_bad_ones_none() {
        let mut dictionary = Dictionary::default();
        let keys: Vec<i32> = ["b", "", "a", "b"].iter().map(|text| dictionary.key(text.as_bytes()).unwrap()).collect();
        assert_eq!(keys, [0, NONE, 1, 0]);
        assert_eq!(dictionary.key(b"ab\xff"), Err(NotUtf8(2)));
        let column = dictionary.column(keys.into_iter());
        let column = column.as_dictionary::<Int32Type>();
        assert_eq!(column.values().len(), 2);
        let texts = column.downcast_dict::<StringArray>().unwrap();
        assert_eq!(texts.into_iter().collect::<Vec<_>>(), [Some("b"), None, Some("a"), Some("b")]);
        assert_eq!(dictionary.key(b"a"), Ok(0), "begun anew");
    }

    #[test]
    fn texts_forget_the_row_in_hand() {
        let mut texts = Texts::default();
        texts.bytes.extend_from_slice(b"{}");
        texts.commit();
        texts.commit();
        texts.bytes.extend_from_slice(b"half");
        texts.truncate(2);
        texts.bytes.extend_from_slice(b"{\"a\":1}");
        texts.commit();
        let column = texts.column();
        assert_eq!(column.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("{}"), None, Some("{\"a\":1}")]);
    }
}
