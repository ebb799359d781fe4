//! The word a heart and its worker share: the last beat's stamp, and what became of the key.
//!
//! A beat is one store of the stamp, then one load of the state to learn whether anybody still listens. The worker
//! reads the stamp when the key's turn comes. Only the decision to expire needs care, and the worker pays for it: it
//! says that it is deciding, puts a fence, and reads the stamp once more ([`Pulse::end_if`]). A beat that finds the
//! decision open waits for it; that is a few instructions of the worker's, once per expiry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};

/// What a heart finds when it has stored its stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Vital {
    /// Watched: the stamp will be read.
    Alive,
    /// The worker is making up its mind whether the key has expired.
    Deciding,
    /// Watched, but expired at least once ([`Mode::Repeat`](crate::Mode::Repeat)): a beat must be sent as a message,
    /// so that the recovery is seen at once.
    Down,
    /// The episode ended by expiry.
    Expired,
    /// The episode ended by removal.
    Removed,
    /// A younger heart has taken the key over.
    Replaced,
    /// The watcher, or the worker, is gone.
    Closed,
}

impl Vital {
    /// Every state, in the order of its number.
    const ALL: [Vital; 7] = [
        Vital::Alive,
        Vital::Deciding,
        Vital::Down,
        Vital::Expired,
        Vital::Removed,
        Vital::Replaced,
        Vital::Closed,
    ];
}

/// The shared word.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// The stamp of the last beat, ns. Only the heart's owner stores; messages for the same key raise it.
    stamp: AtomicU64,
    /// A [`Vital`] by its number.
    vital: AtomicU8,
}

impl Pulse {
    /// A living pulse that beat at `stamp`.
    pub(crate) fn new(stamp: u64) -> Self {
        Pulse {
            stamp: AtomicU64::new(stamp),
            vital: AtomicU8::new(Vital::Alive as u8),
        }
    }

    /// One beat. Clones of a heart may beat from several threads; a stamp a few nanoseconds older may then win.
    #[inline]
    pub(crate) fn beat(&self, stamp: u64) -> Vital {
        self.stamp.store(stamp, Ordering::Release);
        let vital = self.vital();
        if vital == Vital::Deciding {
            self.decided()
        } else {
            vital
        }
    }

    /// Waits for the worker's decision.
    #[cold]
    fn decided(&self) -> Vital {
        loop {
            match self.vital() {
                Vital::Deciding => std::thread::yield_now(),
                vital => return vital,
            }
        }
    }

    /// The last stamp.
    pub(crate) fn stamp(&self) -> u64 {
        self.stamp.load(Ordering::Acquire)
    }

    /// Raises the stamp to that of a beat that came as a message.
    pub(crate) fn raise(&self, stamp: u64) {
        self.stamp.fetch_max(stamp, Ordering::AcqRel);
    }

    /// What became of the key.
    #[inline]
    pub(crate) fn vital(&self) -> Vital {
        Vital::ALL[usize::from(self.vital.load(Ordering::Acquire))]
    }

    /// Says what became of the key.
    pub(crate) fn set(&self, vital: Vital) {
        self.vital.store(vital as u8, Ordering::Release);
    }

    /// Ends the life as `end` if `is_silent` still says so of the stamp read after the heart could see the decision.
    pub(crate) fn end_if(&self, end: Vital, is_silent: impl FnOnce(u64) -> bool) -> bool {
        let before = self.vital();
        self.vital.store(Vital::Deciding as u8, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let ended = is_silent(self.stamp());
        self.set(if ended { end } else { before });
        ended
    }
}

/// The worker's share of a pulse. Dropped without a word (the worker closed or failed), it says so to the heart.
#[derive(Debug)]
pub(crate) struct Listener(pub(crate) Arc<Pulse>);

impl Drop for Listener {
    fn drop(&mut self) {
        if matches!(self.0.vital(), Vital::Alive | Vital::Down | Vital::Deciding) {
            self.0.set(Vital::Closed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_pulse_ends_and_a_beating_one_does_not() {
        let pulse = Pulse::new(5);
        assert!(!pulse.end_if(Vital::Expired, |stamp| stamp < 5));
        assert_eq!(pulse.beat(6), Vital::Alive);
        assert!(pulse.end_if(Vital::Expired, |stamp| stamp == 6));
        assert_eq!(pulse.beat(7), Vital::Expired);
    }

    #[test]
    fn a_listener_dropped_without_a_word_closes_but_never_overwrites_a_verdict() {
        let pulse = Arc::new(Pulse::new(0));
        drop(Listener(pulse.clone()));
        assert_eq!(pulse.vital(), Vital::Closed);
        pulse.set(Vital::Removed);
        drop(Listener(pulse.clone()));
        assert_eq!(pulse.vital(), Vital::Removed);
    }

    #[test]
    fn every_state_has_its_own_number() {
        for (number, vital) in Vital::ALL.into_iter().enumerate() {
            assert_eq!(vital as usize, number);
        }
    }
}
