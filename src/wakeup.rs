//! Waking threads that sleep until a point in time of a clock, when a manual clock is moved.
//!
//! The time of other clocks passes while a thread sleeps, so the thread sleeps for the remaining time. The time of a
//! manual clock changes only when a thread moves it. A sleeper therefore registers as a [`Ring`] with the clock, and
//! each move rings it.
//!
//! | the thread that moves the clock | the sleeper |
//! |---|---|
//! | 1. stores the new time | 1. locks its lock |
//! | 2. for each sleeper: takes its lock | 2. reads the clock; if the time has come, it does not sleep |
//! | 3. and notifies it | 3. waits, which releases the lock |
//!
//! *Race.* The clock may be moved after the sleeper has read it and before it sleeps. The sleeper holds its lock from
//! reading the clock until it waits. If the mover takes the lock after that, the notification reaches the sleeper. If
//! the mover takes the lock first, it has already stored the new time, and the sleeper reads it. A sleeper that parks
//! instead of waiting on a condition first publishes under the lock that it sleeps, and then reads the clock.
//!
//! No lock of the clock is held while a sleeper is rung, so a clock may be moved wherever the locks of its sleepers are
//! not held: in callbacks on workers, for example. A sleeper that is dropped meanwhile is kept until its ring returns.

use std::fmt;
use std::sync::{Arc, Weak};

use crate::sync::Mutex;

/// A sleeper that waits for a point in time.
pub(crate) trait Ring: Send + Sync {
    /// Wakes the sleeper if it waits for `now`, ns, or earlier. Takes the lock under which it reads the clock before it
    /// sleeps.
    fn ring(&self, now: u64);
}

/// The sleepers that are rung when a manual clock is moved.
#[derive(Default)]
pub(crate) struct Ringers(Mutex<Vec<Weak<dyn Ring>>>);

impl Ringers {
    /// Adds `ringer`, until it is dropped.
    pub(crate) fn add(&self, ringer: Weak<dyn Ring>) {
        let mut ringers = self.0.lock();
        if ringers.len() == ringers.capacity() {
            ringers.retain(|ringer| ringer.strong_count() > 0);
        }
        ringers.push(ringer);
    }

    /// Rings all sleepers, after the clock was moved to `now`, ns.
    pub(crate) fn ring(&self, now: u64) {
        let ringers: Vec<Arc<dyn Ring>> = self.0.lock().iter().filter_map(Weak::upgrade).collect();
        for ringer in ringers {
            ringer.ring(now);
        }
    }
}

impl fmt::Debug for Ringers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ringers")
    }
}

#[cfg(all(feature = "pacemaker", not(any(shuttle, loom))))]
#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::clock::{Clock, ManualClock};
    use crate::sync::Condvar;

    /// A thread that sleeps until a time by `clock` is past, which is all that it does.
    struct Sleeper {
        /// Whether it is past.
        is_past: Mutex<bool>,
        /// Notified when the clock is moved.
        moved: Condvar,
    }

    impl Ring for Sleeper {
        fn ring(&self, _: u64) {
            drop(self.is_past.lock());
            self.moved.notify_all();
        }
    }

    impl Sleeper {
        /// A sleeper that `clock` rings.
        fn new(clock: &Clock) -> Arc<Self> {
            let sleeper = Arc::new(Sleeper {
                is_past: Mutex::new(false),
                moved: Condvar::new(),
            });
            let weak = Arc::downgrade(&sleeper);
            clock.ring_on_advance(weak);
            sleeper
        }

        /// Sleeps until `due` by `clock`.
        fn sleep(&self, clock: &Clock, due: u64) {
            let mut is_past = self.is_past.lock();
            while clock.now_ns() < due {
                clock.wait_until(&self.moved, &mut is_past, Some(due));
            }
            *is_past = true;
        }
    }

    #[test]
    fn moving_a_manual_clock_ends_a_sleep_on_it() {
        for round in 0..1_000 {
            let manual = ManualClock::new();
            let clock = Clock::from(manual.clone());
            let sleeper = Sleeper::new(&clock);
            let sleeping = thread::spawn({
                let sleeper = sleeper.clone();
                move || sleeper.sleep(&clock, 10)
            });
            if round % 2 == 0 {
                manual.advance(Duration::from_nanos(9));
                manual.advance(Duration::from_nanos(1));
            } else {
                manual.set(Duration::from_nanos(10));
            }
            sleeping.join().unwrap();
            assert!(*sleeper.is_past.lock());
        }
    }

    #[test]
    fn a_sleep_on_a_running_clock_ends_by_itself() {
        let clock = Clock::monotonic();
        let due = clock.now_ns() + 5_000_000;
        Sleeper::new(&clock).sleep(&clock, due);
        assert!(clock.now_ns() >= due);
    }

    #[test]
    fn sleepers_that_are_gone_leave_nothing_behind() {
        let ringers = Ringers::default();
        let clock = Clock::from(ManualClock::new());
        let stays: Arc<dyn Ring> = Sleeper::new(&clock);
        ringers.add(Arc::downgrade(&stays));
        for _ in 0..1_000 {
            let goes: Arc<dyn Ring> = Sleeper::new(&clock);
            ringers.add(Arc::downgrade(&goes));
        }
        assert!(ringers.0.lock().len() < 10);
        ringers.ring(1);
        assert_eq!(Arc::strong_count(&stays), 1);
    }
}
