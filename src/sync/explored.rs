//! The same primitives of a schedule explorer, which chooses at each operation which thread continues: of shuttle for
//! whole watchers, of loom for single protocols.
//!
//! Time is a message in the models. Deadlines of keys use a [`ManualClock`](crate::ManualClock), which a thread of the
//! model moves. The few deadlines that use an [`Instant`] can come at any moment that the schedule chooses.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;

#[cfg(loom)]
use loom::sync as explorer;
#[cfg(shuttle)]
use shuttle::sync as explorer;

#[cfg(loom)]
pub(crate) use std::thread_local;
#[cfg(loom)]
pub(crate) use std::time::Instant;

#[cfg(shuttle)]
pub(crate) use shuttle::thread_local;

/// The channel of a worker's answer to a caller. Not used by loom models.
pub(crate) mod answer {
    #[cfg(loom)]
    pub(crate) use crossbeam_channel::{Receiver, Sender, bounded};
    #[cfg(shuttle)]
    pub(crate) use shuttle::sync::mpsc::{Receiver, SyncSender as Sender, sync_channel as bounded};
}

/// Atomics. Those of loom have no `get_mut`; the types that need it are in no loom model.
pub(crate) mod atomic {
    #[cfg(loom)]
    pub(crate) use loom::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, fence};
    #[cfg(shuttle)]
    pub(crate) use shuttle::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, fence,
    };
    pub(crate) use std::sync::atomic::Ordering;
    #[cfg(loom)]
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize};
}

/// Threads.
pub(crate) mod thread {
    #[cfg(loom)]
    pub(crate) use loom::thread::{Builder, JoinHandle, Thread, current, park, yield_now};
    #[cfg(shuttle)]
    pub(crate) use shuttle::thread::{Builder, JoinHandle, Thread, current, park, yield_now};
    pub(crate) use std::thread::available_parallelism;

    /// Returns the number of the current thread, or zero if it has not [taken](take_token) one yet.
    pub(crate) fn token() -> u32 {
        super::tokens::TOKEN.with(std::cell::Cell::get)
    }

    /// Returns a number greater than zero that no other thread has.
    pub(crate) fn take_token() -> u32 {
        use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

        static LAST: AtomicU32 = AtomicU32::new(0);
        super::tokens::TOKEN.with(|token| {
            if token.get() == 0 {
                token.set(LAST.fetch_add(1, Relaxed) + 1);
            }
            token.get()
        })
    }

    /// Parks without a limit. Only a monotonic clock could end it, and no model has one.
    pub(crate) fn park_timeout(_: std::time::Duration) {
        park();
    }
}

/// The token of each thread of a model.
mod tokens {
    use std::cell::Cell;

    #[cfg(loom)]
    use loom::thread_local;
    #[cfg(shuttle)]
    use shuttle::thread_local;

    thread_local! {
        pub(super) static TOKEN: Cell<u32> = Cell::new(0);
    }
}

/// The explorer's mutex with the interface of `parking_lot`'s: a panic poisons nothing.
#[derive(Default)]
pub(crate) struct Mutex<T>(explorer::Mutex<T>);

impl<T> Mutex<T> {
    /// Creates a mutex around `value`.
    pub(crate) fn new(value: T) -> Self {
        Mutex(explorer::Mutex::new(value))
    }

    /// Locks it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let mutex = &self.0;
        let inner = Some(mutex.lock().unwrap_or_else(PoisonError::into_inner));
        MutexGuard { mutex, inner }
    }

    /// Locks it. The holder releases it before any deadline.
    #[expect(clippy::unnecessary_wraps, reason = "the interface of `parking_lot`'s")]
    pub(crate) fn try_lock_for(&self, _: std::time::Duration) -> Option<MutexGuard<'_, T>> {
        Some(self.lock())
    }

    /// Locks it. The holder releases it before any deadline.
    #[expect(clippy::unnecessary_wraps, reason = "the interface of `parking_lot`'s")]
    pub(crate) fn try_lock_until(&self, _: Instant) -> Option<MutexGuard<'_, T>> {
        Some(self.lock())
    }

    /// Locks it unless it is locked.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let mutex = &self.0;
        let inner = Some(mutex.try_lock().ok()?);
        Some(MutexGuard { mutex, inner })
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

/// A locked [`Mutex`].
pub(crate) struct MutexGuard<'a, T> {
    /// The mutex.
    mutex: &'a explorer::Mutex<T>,
    /// The explorer's own guard; `None` only during a wait.
    inner: Option<explorer::MutexGuard<'a, T>>,
}

impl<T> MutexGuard<'_, T> {
    /// Runs `code` without the lock.
    pub(crate) fn unlocked<U>(guard: &mut Self, code: impl FnOnce() -> U) -> U {
        guard.inner = None;
        let result = code();
        let locked = guard.mutex.lock();
        guard.inner = Some(locked.unwrap_or_else(PoisonError::into_inner));
        result
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.inner.as_ref().expect("it is locked")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.inner.as_mut().expect("it is locked")
    }
}

/// The explorer's condition variable with the interface of `parking_lot`'s.
#[derive(Debug, Default)]
pub(crate) struct Condvar(explorer::Condvar);

impl Condvar {
    /// Creates a condition variable.
    pub(crate) fn new() -> Self {
        Condvar::default()
    }

    /// Waits for a notification.
    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let inner = guard.inner.take().expect("it is locked");
        let woken = self.0.wait(inner);
        guard.inner = Some(woken.unwrap_or_else(PoisonError::into_inner));
    }

    /// Lets the other threads run for a moment, which may be the one in which `deadline` comes. A wait may end
    /// spuriously, so it need not continue until a notification; the caller checks its condition again.
    #[expect(clippy::unused_self, reason = "the interface of `parking_lot`'s")]
    pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Instant) -> Waited {
        MutexGuard::unlocked(guard, thread::yield_now);
        Waited(Instant::now() >= deadline)
    }

    /// Waits like [`wait_until`](Condvar::wait_until), for users of a running clock.
    #[cfg(any(feature = "dispatch", feature = "pacemaker", feature = "server"))]
    #[expect(clippy::unused_self, reason = "the interface of `parking_lot`'s")]
    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: std::time::Duration) {
        MutexGuard::unlocked(guard, thread::yield_now);
    }

    /// Wakes one waiting thread.
    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all waiting threads.
    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// The result of a wait with a deadline.
pub(crate) struct Waited(bool);

impl Waited {
    /// Returns whether the deadline came.
    pub(crate) fn timed_out(&self) -> bool {
        self.0
    }
}

/// A reading of a clock that stands still except for jumps of an hour, which come when the schedule chooses.
#[cfg(shuttle)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(std::time::Duration);

#[cfg(shuttle)]
impl Instant {
    /// Returns the present time. One reading in four comes after a jump.
    pub(crate) fn now() -> Self {
        use shuttle::rand::Rng;
        use std::cell::Cell;
        use std::time::Duration;

        std::thread_local! {
            /// The time of all models that this thread of the machine explores. Only differences matter.
            static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
        }
        if shuttle::rand::thread_rng().gen_ratio(1, 4) {
            NOW.set(NOW.get() + Duration::from_secs(3_600));
        }
        Instant(NOW.get())
    }

    /// Returns the time since this reading.
    pub(crate) fn elapsed(&self) -> std::time::Duration {
        Instant::now().0 - self.0
    }

    /// Returns this reading plus `wait`, if it can be represented.
    pub(crate) fn checked_add(&self, wait: std::time::Duration) -> Option<Self> {
        self.0.checked_add(wait).map(Instant)
    }
}
