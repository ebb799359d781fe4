//! The engine against its promises, by a virtual clock.

use super::*;

impl<K: Eq + Clone, V: Clone> Table<K, V> {
    /// Panics unless every part of the table agrees with every other.
    pub(crate) fn validate(&self) {
        self.lists.validate(&self.slab, &self.grace);
        self.queue.validate(&self.slab);
        let mut live = 0;
        let mut pending = 0;
        let mut indexed = 0;
        for (at, body) in self.slab.iter() {
            let entry = self.index.find(self.slab[at].tag, |slot| slot == at);
            assert_eq!(
                entry.is_some(),
                is_live(body.state) || body.state == State::Pending,
                "index of slot {at}"
            );
            indexed += usize::from(entry.is_some());
            live += u64::from(is_live(body.state));
            pending += u64::from(matches!(body.state, State::Pending | State::Superseded));
            let linked = self
                .lists
                .iter(&self.slab, self.slab[at].list)
                .any(|slot| slot == at);
            assert_eq!(
                linked,
                body.state == State::Listed,
                "slot {at} is {:?}",
                body.state
            );
            assert_eq!(
                self.policy(at).hearts && is_live(body.state),
                self.pulse(at).is_some(),
                "heart of slot {at}"
            );
            if body.state == State::Aside && self.deadline(at) != NEVER {
                let is_known =
                    |&Reverse(stray): &Reverse<Stray>| stray.slot == at && self.is_current(stray);
                assert!(
                    self.strays.iter().any(is_known),
                    "slot {at} is aside and forgotten"
                );
            }
        }
        assert_eq!(self.index.len(), indexed, "entries of the index");
        assert_eq!((self.counts.live, self.counts.pending), (live, pending));
        assert!(self.counts.is_balanced(), "{:?}", self.counts);
        for &at in self.downs.keys() {
            assert!(
                self.is_live(at) && self.policy(at).mode == Mode::Repeat,
                "slot {at} is down"
            );
        }
    }
}
