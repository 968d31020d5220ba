//! A bounded map in memory whose entries expire: for what need not outlive the process.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use crate::base::Clock;

#[derive(Debug)]
struct Entry<V> {
    value: V,
    expires_ms: u64,
}

/// Entries that live for so long, and at most so many of them.
#[derive(Debug)]
pub(super) struct Expiring<K, V> {
    clock: Arc<dyn Clock>,
    capacity: usize,
    lifetime_ms: u64,
    entries: Mutex<HashMap<K, Entry<V>>>,
}

impl<K: Eq + Hash + Clone, V> Expiring<K, V> {
    pub(super) fn new(clock: Arc<dyn Clock>, capacity: usize, lifetime_ms: u64) -> Self {
        Self { clock, capacity, lifetime_ms, entries: Mutex::default() }
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<K, Entry<V>>, u64) -> T) -> T {
        let now_ms = self.clock.now_ms();
        work(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner), now_ms)
    }

    /// Adds an entry; when there is no place, the one that expires first makes room. For entries that only somebody who has
    /// proven who they are can add.
    pub(super) fn put(&self, key: K, value: V) {
        self.with(|entries, now_ms| self.put_in(entries, now_ms, key, value));
    }

    fn put_in(&self, entries: &mut HashMap<K, Entry<V>>, now_ms: u64, key: K, value: V) {
        Self::sweep(entries, self.capacity, now_ms);
        if entries.len() >= self.capacity
            && let Some(oldest) = entries.iter().min_by_key(|(_, entry)| entry.expires_ms).map(|(key, _)| key.clone())
        {
            entries.remove(&oldest);
        }
        entries.insert(key, Entry { value, expires_ms: now_ms + self.lifetime_ms });
    }

    /// Adds an entry like [`Self::put`], unless it is there already: true of the first who comes with it.
    pub(super) fn put_new(&self, key: K, value: V) -> bool {
        self.with(|entries, now_ms| {
            let new = entries.get(&key).is_none_or(|entry| entry.expires_ms <= now_ms);
            if new {
                self.put_in(entries, now_ms, key, value);
            }
            new
        })
    }

    /// Adds an entry if there is a place: strangers must not be able to push out each other's.
    pub(super) fn try_put(&self, key: K, value: V) -> bool {
        self.with(|entries, now_ms| {
            Self::sweep(entries, self.capacity, now_ms);
            if entries.len() >= self.capacity {
                return false;
            }
            entries.insert(key, Entry { value, expires_ms: now_ms + self.lifetime_ms });
            true
        })
    }

    fn sweep(entries: &mut HashMap<K, Entry<V>>, capacity: usize, now_ms: u64) {
        if entries.len() >= capacity {
            entries.retain(|_, entry| entry.expires_ms > now_ms);
        }
    }

    /// Looks at an entry, with the milliseconds that it has left.
    pub(super) fn look<T>(&self, key: &K, work: impl FnOnce(&mut V, u64) -> T) -> Option<T> {
        self.with(|entries, now_ms| {
            let entry = entries.get_mut(key).filter(|entry| entry.expires_ms > now_ms)?;
            Some(work(&mut entry.value, entry.expires_ms - now_ms))
        })
    }

    /// Takes an entry out: nobody gets it again.
    pub(super) fn take(&self, key: &K) -> Option<V> {
        self.with(|entries, now_ms| entries.remove(key).filter(|entry| entry.expires_ms > now_ms).map(|entry| entry.value))
    }

    /// Drops the entries for which this does not hold.
    pub(super) fn retain(&self, keep: impl Fn(&V) -> bool) {
        self.with(|entries, _| entries.retain(|_, entry| keep(&entry.value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ManualClock;

    #[test]
    fn entries_expire_are_taken_once_and_are_bounded() {
        let clock = ManualClock::at(1);
        let map = Expiring::new(Arc::new(clock.clone()), 2, 10);
        map.put("a", 1);
        assert_eq!(map.look(&"a", |value, left_ms| (*value, left_ms)), Some((1, 10)));
        assert_eq!((map.take(&"a"), map.take(&"a")), (Some(1), None));
        map.put("b", 2);
        clock.advance(1);
        map.put("c", 3);
        assert!(!map.try_put("d", 4), "full");
        map.put("d", 4);
        assert_eq!((map.take(&"b"), map.look(&"d", |v, _| *v)), (None, Some(4)), "the oldest made room");
        clock.advance(10);
        assert_eq!(map.look(&"d", |v, _| *v), None);
        assert!(map.try_put("e", 5), "expired entries take no place");
        assert_eq!((map.put_new("e", 6), map.put_new("f", 6)), (false, true));
        clock.advance(10);
        assert!(map.put_new("e", 7));
    }
}
