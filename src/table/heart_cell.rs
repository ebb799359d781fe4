//! The word a heart and its worker share: the last beat's stamp, and what became of the key.
//!
//! The thread whose heart beats first owns a stamp of its own, which it stores; beats on other threads raise a second one,
//! which costs an atomic maximum. The last beat is the later of the two, so a thread that is preempted between reading the
//! clock and storing never moves a deadline back.
//!
//! A beat is one store of the stamp, then a look whether the worker has told any heart anything since this one last
//! looked; only then the heart loads its own state. So a beat never waits for its cell to come out of memory: the store
//! waits in the core's store buffer, and the count of what was told is in the cache. The worker reads the stamp when the
//! key's turn comes. Only the decision to expire needs care, and the worker pays for it: it says that it is deciding,
//! puts a fence, and reads the stamp once more ([`TableSide::end_if`]). A beat that finds the decision open waits for it; that
//! is a few instructions of the worker's, once per expiry.

use std::sync::Arc;

use crate::clock::Clock;
use crate::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use crate::sync::thread;

/// What a heart finds when it has stored its stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum HeartState {
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

impl HeartState {
    /// Every state, in the order of its number.
    const ALL: [HeartState; 7] = [
        HeartState::Alive,
        HeartState::Deciding,
        HeartState::Down,
        HeartState::Expired,
        HeartState::Removed,
        HeartState::Replaced,
        HeartState::Closed,
    ];
}

/// What all hearts of a watcher share.
#[derive(Debug, Default)]
pub(crate) struct Common {
    /// The watcher's clock.
    pub(crate) clock: Clock,
    /// How often the workers told a heart anything: raised after each change of a [`HeartState`].
    verdicts: AtomicU32,
}

impl Common {
    /// What hearts that beat by `clock` share.
    pub(crate) fn new(clock: Clock) -> Arc<Self> {
        let verdicts = AtomicU32::new(0);
        Arc::new(Common { clock, verdicts })
    }

    /// How many verdicts there were, modulo 2^32: a heart that has not looked for exactly so many takes itself for alive
    /// once more.
    #[inline]
    fn verdicts(&self) -> u32 {
        self.verdicts.load(Ordering::Acquire)
    }
}

/// A heart's share of a cell. As small as it can be: what many hearts beat through has to come out of memory.
#[derive(Debug)]
pub(crate) struct HeartSide {
    /// The shared word.
    cell: Arc<HeartCell>,
    /// What all hearts of the watcher share; the cell does not know it.
    common: Arc<Common>,
    /// How many verdicts there had been when the cell was last found alive, modulo 2^32.
    seen: AtomicU32,
    /// The thread that owns [`HeartCell::stamp`], once this share has found that it beats on it and is alive; [`NOBODY`] before.
    owner: AtomicU32,
}

/// A [token](thread::token) that no thread has.
const NOBODY: u32 = u32::MAX;

impl HeartSide {
    /// A share of `cell`, which belongs to `common`.
    fn new(cell: Arc<HeartCell>, common: Arc<Common>) -> Self {
        HeartSide {
            cell,
            common,
            seen: AtomicU32::new(0),
            owner: AtomicU32::new(NOBODY),
        }
    }

    /// The shared word.
    pub(crate) fn cell(&self) -> &Arc<HeartCell> {
        &self.cell
    }

    /// The watcher's clock.
    pub(crate) fn clock(&self) -> &Clock {
        &self.common.clock
    }

    /// One beat. The thread that beat first stores its stamps, all others raise theirs: no stamp replaces a newer one.
    #[inline]
    pub(crate) fn beat(&self, stamp: u64) -> HeartState {
        if self.owner.load(Ordering::Relaxed) != thread::token() {
            return self.beat_elsewhere(stamp);
        }
        self.cell.stamp.store(stamp, Ordering::Release);
        let verdicts = self.common.verdicts();
        if verdicts == self.seen.load(Ordering::Relaxed) {
            HeartState::Alive
        } else {
            self.look(verdicts)
        }
    }

    /// As [`beat`](HeartSide::beat), where this share has not yet found that the current thread owns the cell's stamp.
    #[cold]
    fn beat_elsewhere(&self, stamp: u64) -> HeartState {
        let me = thread::take_token();
        let is_owner = me != 0 && self.cell.claim(me);
        if is_owner {
            self.cell.stamp.store(stamp, Ordering::Release);
        } else {
            self.cell.raise(stamp);
        }
        let state = self.look(self.common.verdicts());
        if is_owner && state == HeartState::Alive {
            self.owner.store(me, Ordering::Relaxed);
        }
        state
    }

    /// What became of the key, where there were `verdicts` before. The state was written before its verdict was counted.
    #[cold]
    fn look(&self, verdicts: u32) -> HeartState {
        let state = self.cell.decided();
        if state == HeartState::Alive {
            self.seen.store(verdicts, Ordering::Relaxed);
        }
        state
    }
}

impl Clone for HeartSide {
    fn clone(&self) -> Self {
        HeartSide::new(self.cell.clone(), self.common.clone())
    }
}

/// The two sides of a new cell that beat at `stamp`, ns: the heart's and the worker's.
pub(crate) fn pair(stamp: u64, common: &Arc<Common>) -> (HeartSide, TableSide) {
    let cell = Arc::new(HeartCell::new(stamp));
    let table_side = TableSide {
        cell: cell.clone(),
        common: common.clone(),
    };
    (HeartSide::new(cell, common.clone()), table_side)
}

/// The shared word.
#[derive(Debug)]
pub(crate) struct HeartCell {
    /// The stamp of the last beat on the thread that owns it, ns. Only that thread stores, and its stamps only grow.
    stamp: AtomicU64,
    /// The latest stamp of all other beats, ns: those of hearts on other threads, and those that came as messages.
    raised: AtomicU64,
    /// The token of the thread whose heart beat first, or [`NOBODY`]. Set once: another thread that took over could be
    /// overtaken by an older stamp that the first is about to store.
    owner: AtomicU32,
    /// A [`HeartState`] by its number.
    state: AtomicU8,
}

impl HeartCell {
    /// A living cell that beat at `stamp`.
    fn new(stamp: u64) -> Self {
        HeartCell {
            stamp: AtomicU64::new(stamp),
            raised: AtomicU64::new(stamp),
            owner: AtomicU32::new(NOBODY),
            state: AtomicU8::new(HeartState::Alive as u8),
        }
    }

    /// Makes the thread of the token `me` the owner of the stamp if no other is. Returns whether it is.
    fn claim(&self, me: u32) -> bool {
        let claimed = self
            .owner
            .compare_exchange(NOBODY, me, Ordering::Relaxed, Ordering::Relaxed);
        claimed.is_ok() || claimed == Err(me)
    }

    /// What became of the key, after the worker's decision if it is just deciding.
    fn decided(&self) -> HeartState {
        loop {
            match self.state() {
                HeartState::Deciding => thread::yield_now(),
                state => return state,
            }
        }
    }

    /// The latest stamp.
    pub(crate) fn stamp(&self) -> u64 {
        let raised = self.raised.load(Ordering::Acquire);
        self.stamp.load(Ordering::Acquire).max(raised)
    }

    /// Raises the latest stamp to `stamp`, from any thread.
    pub(crate) fn raise(&self, stamp: u64) {
        self.raised.fetch_max(stamp, Ordering::AcqRel);
    }

    /// What became of the key.
    pub(crate) fn state(&self) -> HeartState {
        HeartState::ALL[usize::from(self.state.load(Ordering::Acquire))]
    }
}

/// The worker's share of a cell. Dropped without a word (the worker closed or failed), it says so to the heart.
#[derive(Debug)]
pub(crate) struct TableSide {
    /// The shared word.
    pub(crate) cell: Arc<HeartCell>,
    /// What all hearts of the watcher share.
    common: Arc<Common>,
}

impl TableSide {
    /// Says what became of the key.
    pub(crate) fn set(&self, state: HeartState) {
        self.cell.state.store(state as u8, Ordering::Release);
        self.common.verdicts.fetch_add(1, Ordering::Release);
    }

    /// Ends the life as `end` if `is_silent` still says so of the stamp read after the heart could see the decision, and
    /// returns that stamp: the heart may store another at any moment, which is none of the life that ended.
    pub(crate) fn end_if(
        &self,
        end: HeartState,
        is_silent: impl FnOnce(u64) -> bool,
    ) -> Option<u64> {
        let before = self.cell.state();
        self.set(HeartState::Deciding);
        fence(Ordering::SeqCst);
        let last = self.cell.stamp();
        let ended = is_silent(last);
        self.set(if ended { end } else { before });
        ended.then_some(last)
    }
}

impl Drop for TableSide {
    fn drop(&mut self) {
        if matches!(
            self.cell.state(),
            HeartState::Alive | HeartState::Down | HeartState::Deciding
        ) {
            self.set(HeartState::Closed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_pulse_ends_and_a_beating_one_does_not() {
        let (heart_side, table_side) = pair(5, &Arc::default());
        assert_eq!(
            table_side.end_if(HeartState::Expired, |stamp| stamp < 5),
            None
        );
        for stamp in [6, 7] {
            assert_eq!(heart_side.beat(stamp), HeartState::Alive);
            assert_eq!(table_side.cell.stamp(), stamp);
        }
        assert_eq!(
            table_side.end_if(HeartState::Expired, |stamp| stamp == 7),
            Some(7)
        );
        for _ in 0..2 {
            assert_eq!(heart_side.beat(8), HeartState::Expired);
            assert_eq!(heart_side.clone().beat(8), HeartState::Expired);
        }
    }

    #[test]
    fn an_older_stamp_of_another_thread_never_replaces_a_newer_one() {
        for raised_by_message in [false, true] {
            let (heart_side, table_side) = pair(0, &Arc::default());
            let clone = heart_side.clone();
            assert_eq!(clone.beat(1), HeartState::Alive);
            // This thread read its clock first, was preempted, and stores last.
            if raised_by_message {
                table_side.cell.raise(10);
            } else {
                std::thread::scope(|scope| {
                    scope.spawn(|| assert_eq!(heart_side.beat(10), HeartState::Alive));
                });
            }
            assert_eq!(clone.beat(5), HeartState::Alive);
            assert_eq!(table_side.cell.stamp(), 10);
        }
    }

    #[test]
    fn a_beat_is_told_of_every_change_and_untouched_by_those_of_others() {
        let common = Arc::default();
        let (heart_side, mine) = pair(0, &common);
        let (_, other) = pair(0, &common);
        for state in HeartState::ALL
            .into_iter()
            .filter(|&state| state != HeartState::Deciding)
        {
            assert_eq!(heart_side.beat(1), HeartState::Alive);
            other.set(state);
            assert_eq!(heart_side.beat(1), HeartState::Alive);
            mine.set(state);
            assert_eq!(heart_side.beat(1), state);
            mine.set(HeartState::Alive);
        }
    }

    #[test]
    fn a_heart_whose_first_beat_finds_a_verdict_hears_of_it_again() {
        let (heart_side, table_side) = pair(0, &Arc::default());
        table_side.set(HeartState::Down);
        // As many verdicts as a share has seen that has not looked.
        table_side.common.verdicts.store(0, Ordering::Relaxed);
        for _ in 0..2 {
            assert_eq!(heart_side.beat(1), HeartState::Down);
        }
    }

    #[test]
    fn a_listener_dropped_without_a_word_closes_but_never_overwrites_a_verdict() {
        for (state, end) in [
            (HeartState::Alive, HeartState::Closed),
            (HeartState::Removed, HeartState::Removed),
        ] {
            let (heart_side, table_side) = pair(0, &Arc::default());
            table_side.set(state);
            drop(table_side);
            assert_eq!(heart_side.cell().state(), end);
        }
    }

    #[test]
    fn what_many_hearts_beat_through_is_small() {
        assert_eq!(size_of::<HeartSide>(), 24);
        assert_eq!(size_of::<HeartCell>(), 24);
    }

    #[test]
    fn every_state_has_its_own_number() {
        for (number, state) in HeartState::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, number);
        }
    }
}
