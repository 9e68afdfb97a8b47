//! What was used last stays, within a budget of bytes.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// A map that forgets what has not been used for longest when its values outgrow `budget_bytes`.
#[derive(Debug)]
pub(crate) struct Lru<K, V> {
    budget_bytes: usize,
    bytes: usize,
    used: u64,
    kept: HashMap<K, Kept<V>>,
    by_use: BTreeMap<u64, K>,
}

#[derive(Debug)]
struct Kept<V> {
    value: V,
    bytes: usize,
    used: u64,
}

impl<K: Hash + Eq + Clone, V: Clone> Lru<K, V> {
    pub fn new(budget_bytes: usize) -> Self {
        Self { budget_bytes, bytes: 0, used: 0, kept: HashMap::new(), by_use: BTreeMap::new() }
    }

    pub fn get(&mut self, key: &K) -> Option<V> {
        let kept = self.kept.get_mut(key)?;
        self.by_use.remove(&kept.used);
        self.used += 1;
        kept.used = self.used;
        self.by_use.insert(self.used, key.clone());
        Some(kept.value.clone())
    }

    /// Keeps `value`, which takes about `bytes`, instead of what `key` had before. A value larger than the whole budget
    /// is not kept.
    pub fn put(&mut self, key: K, value: V, bytes: usize) {
        if let Some(before) = self.kept.remove(&key) {
            self.by_use.remove(&before.used);
            self.bytes -= before.bytes;
        }
        if bytes > self.budget_bytes {
            return;
        }
        self.used += 1;
        self.bytes += bytes;
        self.by_use.insert(self.used, key.clone());
        self.kept.insert(key, Kept { value, bytes, used: self.used });
        while self.bytes > self.budget_bytes {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            if let Some(gone) = self.kept.remove(&oldest) {
                self.bytes -= gone.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_goes_first() {
        let mut lru = Lru::new(10);
        lru.put("a", 1, 4);
        lru.put("b", 2, 4);
        assert_eq!(lru.get(&"a"), Some(1));
        lru.put("c", 3, 4);
        assert_eq!((lru.get(&"a"), lru.get(&"b"), lru.get(&"c")), (Some(1), None, Some(3)));
        lru.put("a", 4, 10);
        assert_eq!((lru.get(&"a"), lru.get(&"c"), lru.bytes), (Some(4), None, 10));
        lru.put("huge", 5, 11);
        assert_eq!((lru.get(&"huge"), lru.get(&"a")), (None, Some(4)));
    }
}
