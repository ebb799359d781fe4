//! A linked hash map in the order of beats: what two of the peers keep their keys in.

use ahash::RandomState;
use hashlink::LinkedHashMap;

use crate::candidate::Patience;

/// The keys, the one silent for longest in front.
pub(crate) struct Lru<K, P> {
    /// The last beat of each key in nanoseconds, and its patience.
    map: LinkedHashMap<K, (u64, P), RandomState>,
    /// The timeout of a key that has none of its own.
    default_ns: u64,
}

impl<K: Clone + Eq + std::hash::Hash, P: Patience> Lru<K, P> {
    /// An empty one with room for `keys`.
    pub(crate) fn new(keys: usize, default_ns: u64) -> Self {
        Lru {
            map: LinkedHashMap::with_capacity_and_hasher(keys, RandomState::new()),
            default_ns,
        }
    }

    /// `key` beat at `stamp_ns`; it goes to the back. If it is new, or `patience` is given, that is its timeout.
    #[inline]
    pub(crate) fn touch(&mut self, key: &K, stamp_ns: u64, patience: Option<P>) {
        match self.map.to_back(key) {
            Some((last_ns, its)) => {
                *last_ns = stamp_ns.max(*last_ns);
                *its = patience.unwrap_or(*its);
            }
            None => self.insert(key.clone(), stamp_ns, patience),
        }
    }

    /// As [`touch`](Lru::touch) of a key that is given away.
    #[inline]
    pub(crate) fn touch_owned(&mut self, key: K, stamp_ns: u64, patience: Option<P>) {
        match self.map.to_back(&key) {
            Some((last_ns, its)) => {
                *last_ns = stamp_ns.max(*last_ns);
                *its = patience.unwrap_or(*its);
            }
            None => self.insert(key, stamp_ns, patience),
        }
    }

    /// Begins to watch `key`.
    fn insert(&mut self, key: K, stamp_ns: u64, patience: Option<P>) {
        let default = P::of(std::time::Duration::from_nanos(self.default_ns));
        self.map
            .insert(key, (stamp_ns, patience.unwrap_or(default)));
    }

    /// Moves those silent at `now_ns` to `silent`, at most `limit` of them where all have the same timeout. Then only
    /// the front is looked at; with timeouts of their own, everybody.
    pub(crate) fn take_silent(&mut self, now_ns: u64, limit: usize, silent: &mut Vec<K>) {
        let default_ns = self.default_ns;
        let is_silent =
            |&(last_ns, its): &(u64, P)| now_ns.saturating_sub(last_ns) >= its.ns(default_ns);
        if P::UNIFORM {
            while silent.len() < limit
                && let Some((_, entry)) = self.map.front()
                && is_silent(entry)
            {
                silent.extend(self.map.pop_front().map(|(key, _)| key));
            }
        } else {
            let found = self.map.iter().filter(|(_, entry)| is_silent(entry));
            silent.extend(found.map(|(key, _)| key.clone()));
            for key in silent {
                self.map.remove(key);
            }
        }
    }

    /// When the front is due, in nanoseconds; without keys, when one that beats at `now_ns` will be. Where all have the
    /// same timeout, nobody is due earlier.
    pub(crate) fn next_ns(&self, now_ns: u64) -> u64 {
        let front_ns = self
            .map
            .front()
            .map_or(now_ns, |(_, &(last_ns, _))| last_ns);
        front_ns.saturating_add(self.default_ns)
    }
}
