//! One thread that calls the beat functions of many pacemakers when they are due.

use std::fmt;
use std::io;
use std::sync::{Arc, Weak};

use super::member::Member;
use super::plan::Plan;
use crate::callback::CallbackThread;
use crate::clock::Clock;
use crate::panic::catch_panic;
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::wakeup::Ring;

/// A thread that many pacemakers share.
///
/// Their beat functions run one after another, so a slow one delays the others. Clones share the thread. It ends when
/// the last clone and the last of its pacemakers are dropped. The last drop blocks until the thread has ended.
///
/// ```
/// use std::time::Duration;
/// use liveness::Watcher;
/// use liveness::pacemaker::{Pacemaker, Pacer};
///
/// let watcher = Watcher::<u64>::builder().timeout(Duration::from_secs(3)).build()?;
/// let pacer = Pacer::spawn()?;
/// let mut pacemakers = Vec::new();
/// for key in 0..100u64 {
///     let heart = watcher.watch(key)?;
///     let options = Pacemaker::for_timeout(Duration::from_secs(3));
///     pacemakers.push(pacer.start(options, move || heart.beat())?);
/// }
/// watcher.flush()?;
/// assert_eq!(watcher.len(), 100);
/// drop(pacemakers); // drops the hearts too, which removes their keys
/// watcher.flush()?;
/// assert_eq!(watcher.len(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "the thread ends when the `Pacer` and all its pacemakers are dropped"]
pub struct Pacer {
    /// The thread, which is joined by the last handle.
    pub(super) handle: Arc<Handle>,
}

impl Pacer {
    /// Spawns the thread.
    ///
    /// # Errors
    ///
    /// Returns the error of the operating system if the thread cannot be spawned.
    pub fn spawn() -> io::Result<Self> {
        Pacer::with_clock(Clock::monotonic())
    }

    /// Spawns the thread; its pacemakers go by `clock`. A [`ManualClock`](crate::ManualClock) makes tests
    /// deterministic: each call is made when the clock is advanced to its time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::ManualClock;
    /// use liveness::pacemaker::{Pacemaker, Pacer};
    ///
    /// let clock = ManualClock::new();
    /// let pacer = Pacer::with_clock(clock.clone())?;
    /// let (sender, beats) = crossbeam_channel::unbounded();
    /// let options = Pacemaker::every(Duration::from_secs(60)).phase(Duration::ZERO).jitter(0.0);
    /// let pacemaker = pacer.start(options, move || sender.send(()))?;
    /// beats.recv()?;
    /// clock.advance(Duration::from_secs(60));
    /// beats.recv()?;
    /// # pacemaker.stop();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The error of the operating system if the thread cannot be spawned.
    pub fn with_clock(clock: impl Into<Clock>) -> io::Result<Self> {
        let core = Arc::new(Core::new(clock.into()));
        let ringer: Weak<Core> = Arc::downgrade(&core);
        core.clock.ring_on_advance(ringer);
        let (running, stopping) = (core.clone(), core.clone());
        let body = move || running.run();
        let thread = CallbackThread::spawn("pacemaker", body, move || stopping.close())?;
        Ok(Pacer {
            handle: Arc::new(Handle { core, thread }),
        })
    }
}

impl fmt::Debug for Pacer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pacer")
            .field("pacemakers", &self.handle.core.state.lock().plan.waiting())
            .finish_non_exhaustive()
    }
}

/// The thread, which ends with its last handle.
pub(super) struct Handle {
    /// The state shared with the thread.
    pub(super) core: Arc<Core>,
    /// The thread.
    pub(super) thread: CallbackThread,
}

/// The state that the thread and its handles share.
pub(super) struct Core {
    /// The time source.
    clock: Clock,
    /// The pacemakers.
    state: Mutex<State>,
    /// Notified when an earlier call may be due, or the thread is to end.
    due_changed: Condvar,
    /// Notified when a call has ended.
    call_ended: Condvar,
}

/// The state under the lock.
#[derive(Default)]
struct State {
    /// The pacemakers.
    plan: Plan,
    /// Whether the thread is to end.
    is_closing: bool,
}

impl Core {
    /// Creates the state without pacemakers.
    fn new(clock: Clock) -> Self {
        Core {
            clock,
            state: Mutex::default(),
            due_changed: Condvar::new(),
            call_ended: Condvar::new(),
        }
    }

    /// Returns the time, ns.
    pub(super) fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// Adds a pacemaker, and returns its number.
    pub(super) fn add(&self, member: Member) -> u64 {
        let id = self.state.lock().plan.add(member);
        self.due_changed.notify_one();
        id
    }

    /// Restarts pacemaker `id` now, because work begins.
    pub(super) fn restart(&self, id: u64) {
        let mut state = self.state.lock();
        state.plan.restart(id, self.clock.now_ns());
        drop(state);
        self.due_changed.notify_one();
    }

    /// Removes pacemaker `id`. If a call of it runs, the pacemaker is dropped after that call.
    pub(super) fn remove(&self, id: u64) -> Option<Member> {
        self.state.lock().plan.remove(id)
    }

    /// Waits until pacemaker `id` is not out for a call, which must not be done on the thread.
    pub(super) fn wait_for_call(&self, id: u64) {
        let mut state = self.state.lock();
        while state.plan.is_running(id) {
            self.call_ended.wait(&mut state);
        }
    }

    /// Lets the thread end.
    fn close(&self) {
        self.state.lock().is_closing = true;
        self.due_changed.notify_one();
    }

    /// Makes the call that is due first, without the lock; returns whether one was due.
    fn call_due(&self, state: &mut MutexGuard<'_, State>) -> bool {
        let Some((id, mut member)) = state.plan.depart(self.clock.now_ns()) else {
            return false;
        };
        MutexGuard::unlocked(state, || member.call(&self.clock));
        if let Some(retired) = state.plan.come_back(id, member, self.clock.now_ns()) {
            // The beat function is dropped before the thread that stopped its pacemaker continues, and without the lock
            // held.
            MutexGuard::unlocked(state, || catch_panic(|| drop(retired)));
        }
        state.plan.call_ended();
        self.call_ended.notify_all();
        true
    }

    /// The thread's loop: makes the calls that are due until it is closed.
    fn run(&self) {
        let mut state = self.state.lock();
        while !state.is_closing {
            if self.call_due(&mut state) {
                continue;
            }
            let due = state.plan.next_due();
            self.clock.wait_until(&self.due_changed, &mut state, due);
        }
    }
}

impl Ring for Core {
    fn ring(&self, _: u64) {
        drop(self.state.lock());
        self.due_changed.notify_one();
    }
}

#[cfg(test)]
mod tests;
