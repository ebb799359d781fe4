//! The cell that a heart and its worker share: the stamp of the last beat, and the state of the key.
//!
//! The thread whose heart beats first owns a stamp, which it stores. Beats on other threads raise a second stamp, which
//! costs an atomic maximum. The last beat is the later of the two, so a thread that is preempted between reading the
//! clock and storing never moves a deadline back.
//!
//! A beat is one store of the stamp, followed by a check whether the workers have changed any state since this heart
//! last checked. Only then does the heart load its own state. A beat therefore never waits for its cell to be loaded
//! from memory: the store waits in the core's store buffer, and the count of changes is in the cache. The worker reads
//! the stamp when the key is due. Only the decision to expire needs care, and the worker pays for it: it publishes that
//! it is deciding, executes a fence, and reads the stamp again ([`TableSide::end_if`]). A beat that finds the decision
//! open waits for it, which takes a few instructions of the worker, once per expiry.

use std::sync::Arc;

use crate::clock::Clock;
use crate::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use crate::sync::thread;

/// The state of a key, as a heart finds it after it has stored its stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum HeartState {
    /// Watched; the stamp will be read.
    Alive,
    /// The worker is deciding whether the key has expired.
    Deciding,
    /// Watched, but expired at least once and not beaten since ([`Mode::Repeat`](crate::Mode::Repeat)). A beat must be
    /// sent as a message, so that the recovery is reported at once.
    Down,
    /// The episode ended by expiry.
    Expired,
    /// The episode ended by removal.
    Removed,
    /// A later heart has replaced this one.
    Replaced,
    /// The watcher is closed, or the worker has ended.
    Closed,
}

impl HeartState {
    /// All states, in the order of their numbers.
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

/// The state that all hearts of a watcher share.
#[derive(Debug, Default)]
pub(crate) struct Common {
    /// The watcher's clock.
    pub(crate) clock: Clock,
    /// The number of changes of a [`HeartState`] by the workers.
    verdicts: AtomicU32,
}

impl Common {
    /// Creates the shared state of hearts that beat by `clock`.
    pub(crate) fn new(clock: Clock) -> Arc<Self> {
        let verdicts = AtomicU32::new(0);
        Arc::new(Common { clock, verdicts })
    }

    /// Returns the number of changes, modulo 2^32. A heart that misses exactly 2^32 changes considers itself alive once
    /// more.
    #[inline]
    fn verdicts(&self) -> u32 {
        self.verdicts.load(Ordering::Acquire)
    }
}

/// A heart's side of a cell. It is kept as small as possible, because each of many hearts must be loaded from memory to
/// beat.
#[derive(Debug)]
pub(crate) struct HeartSide {
    /// The shared cell.
    cell: Arc<HeartCell>,
    /// The state that all hearts of the watcher share; the cell does not refer to it.
    common: Arc<Common>,
    /// The number of changes when the cell was last found alive, modulo 2^32.
    seen: AtomicU32,
    /// The thread that owns [`HeartCell::stamp`], once this side has found that it beats on that thread and is alive;
    /// [`NOBODY`] before.
    owner: AtomicU32,
}

/// A [token](thread::token) that no thread has.
const NOBODY: u32 = u32::MAX;

impl HeartSide {
    /// Creates a side of `cell`, which belongs to `common`.
    fn new(cell: Arc<HeartCell>, common: Arc<Common>) -> Self {
        HeartSide {
            cell,
            common,
            seen: AtomicU32::new(0),
            owner: AtomicU32::new(NOBODY),
        }
    }

    /// Returns the shared cell.
    pub(crate) fn cell(&self) -> &Arc<HeartCell> {
        &self.cell
    }

    /// Returns the watcher's clock.
    pub(crate) fn clock(&self) -> &Clock {
        &self.common.clock
    }

    /// Records a beat. The thread that beat first stores its stamps, and all others raise theirs, so no stamp replaces
    /// a newer one.
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

    /// Records a beat like [`beat`](HeartSide::beat), if this side has not yet found that the current thread owns the
    /// cell's stamp.
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

    /// Returns the state of the key, if there were `verdicts` changes before. The state was written before its change
    /// was counted.
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

/// Creates a cell that beat at `stamp`, ns, and returns its two sides: the heart's and the worker's.
pub(crate) fn pair(stamp: u64, common: &Arc<Common>) -> (HeartSide, TableSide) {
    let cell = Arc::new(HeartCell::new(stamp));
    let table_side = TableSide {
        cell: cell.clone(),
        common: common.clone(),
    };
    (HeartSide::new(cell, common.clone()), table_side)
}

/// The shared cell.
#[derive(Debug)]
pub(crate) struct HeartCell {
    /// The stamp of the last beat on the thread that owns it, ns. Only that thread stores to it, and its stamps only
    /// grow.
    stamp: AtomicU64,
    /// The latest stamp of all other beats, ns: those of hearts on other threads, and those that arrived as messages.
    raised: AtomicU64,
    /// The token of the thread whose heart beat first, or [`NOBODY`]. It is set once. If another thread could take
    /// over, the first one might still store an older stamp over a newer one.
    owner: AtomicU32,
    /// A [`HeartState`] by its number.
    state: AtomicU8,
}

impl HeartCell {
    /// Creates a cell of a watched key that beat at `stamp`.
    fn new(stamp: u64) -> Self {
        HeartCell {
            stamp: AtomicU64::new(stamp),
            raised: AtomicU64::new(stamp),
            owner: AtomicU32::new(NOBODY),
            state: AtomicU8::new(HeartState::Alive as u8),
        }
    }

    /// Makes the thread with the token `me` the owner of the stamp if there is none. Returns whether it is the owner.
    fn claim(&self, me: u32) -> bool {
        let claimed = self
            .owner
            .compare_exchange(NOBODY, me, Ordering::Relaxed, Ordering::Relaxed);
        claimed.is_ok() || claimed == Err(me)
    }

    /// Returns the state of the key, and waits for the worker's decision if one is open.
    fn decided(&self) -> HeartState {
        loop {
            match self.state() {
                HeartState::Deciding => thread::yield_now(),
                state => return state,
            }
        }
    }

    /// Returns the latest stamp.
    pub(crate) fn stamp(&self) -> u64 {
        let raised = self.raised.load(Ordering::Acquire);
        self.stamp.load(Ordering::Acquire).max(raised)
    }

    /// Raises the latest stamp to `stamp`, from any thread.
    pub(crate) fn raise(&self, stamp: u64) {
        self.raised.fetch_max(stamp, Ordering::AcqRel);
    }

    /// Returns the state of the key.
    pub(crate) fn state(&self) -> HeartState {
        HeartState::ALL[usize::from(self.state.load(Ordering::Acquire))]
    }
}

/// The worker's side of a cell. If it is dropped without a state having been set, because the worker closed or failed,
/// it sets the heart to closed.
#[derive(Debug)]
pub(crate) struct TableSide {
    /// The shared cell.
    pub(crate) cell: Arc<HeartCell>,
    /// The state that all hearts of the watcher share.
    common: Arc<Common>,
}

impl TableSide {
    /// Sets the state of the key.
    pub(crate) fn set(&self, state: HeartState) {
        self.cell.state.store(state as u8, Ordering::Release);
        self.common.verdicts.fetch_add(1, Ordering::Release);
    }

    /// Ends the episode with the state `end` if `is_silent` is still true of the stamp that is read after the heart can
    /// see the decision. Returns that stamp. The heart may store another stamp at any moment, which no longer belongs
    /// to the ended episode.
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
