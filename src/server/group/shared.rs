//! The state that callers, the thread of a group and its slow threads share: one lock, and who wakes whom.
//!
//! | who sleeps | on | woken by |
//! |---|---|---|
//! | the group's thread, without receivers | `work_came` | [`wake`](Shared::wake) |
//! | the group's thread, with attached receivers | a `Select` over them and `bell` | the same, or an item |
//! | callers that wait for room | `room_came` | the thread, when it takes a job; a stop |
//! | slow threads | `slow_came` | a slow call; a stop |
//! | callers that stop the group | `thread_ended` | each thread that ends |
//!
//! *No wake-up is lost.* The group's thread publishes under the lock that it is going to sleep, and until when. A
//! thread that changes what the group looks at does so under the lock, takes the note, and wakes the thread if there
//! was one. With `work_came`, the lock is held until the thread sleeps. With `bell`, the wake-up is stored in a
//! channel.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::deadlock::{self, Wait};
use super::error::PostErrorKind;
use super::settings::Settings;
use super::slow::Slow;
use super::sources::Source;
use super::stopping::Stopping;
use super::timers::Timers;
use super::work::{Kind, Work};
use crate::clock::Clock;
use crate::stats::Histogram;
use crate::sync::{Condvar, Instant, Mutex, MutexGuard};
use crate::wakeup::Ring;

/// State that callers, the thread of a group and its slow threads share.
pub(super) struct Shared<S> {
    /// The id of the group in this process.
    pub(super) id: u64,
    /// The options.
    pub(super) settings: Settings,
    /// The time.
    pub(super) clock: Clock,
    /// The state under the lock.
    pub(super) state: Mutex<State<S>>,
    /// The group's thread sleeps here.
    pub(super) work_came: Condvar,
    /// Wakes the group's thread while it selects from attached receivers.
    pub(super) bell: (Sender<()>, Receiver<()>),
    /// Callers that wait for room sleep here.
    pub(super) room_came: Condvar,
    /// Slow threads sleep here.
    pub(super) slow_came: Condvar,
    /// Callers that wait for the end of threads sleep here.
    pub(super) thread_ended: Condvar,
    /// A reference to itself.
    pub(super) this: Weak<Shared<S>>,
}

/// The state under the lock.
pub(super) struct State<S> {
    /// The jobs that wait, in the order in which they were accepted.
    pub(super) inbox: VecDeque<Job<S>>,
    /// The number of jobs in the inbox that are callbacks of slow calls, which have places of their own.
    pub(super) callbacks: usize,
    /// The number of jobs in the inbox that are turns of agents, which need no place.
    pub(super) turns: usize,
    /// How the group's thread sleeps, unless it has been woken.
    pub(super) asleep: Option<Asleep>,
    /// The number of callers that wait for room.
    pub(super) room_waiters: usize,
    /// The call of user code that runs: where it comes from, and since when, ns.
    pub(super) running: Option<(Kind, u64)>,
    /// The timers.
    pub(super) timers: Timers<S>,
    /// The slow calls.
    pub(super) slow: Slow<S>,
    /// Receivers that the thread has not yet taken over.
    pub(super) arriving: Vec<Box<dyn Source<S>>>,
    /// Whether a receiver was detached, and the thread has not looked yet.
    pub(super) was_detached: bool,
    /// The number of attached receivers.
    pub(super) attached: usize,
    /// The stop, and the threads that it waits for.
    pub(super) stopping: Stopping<S>,
    /// The account.
    pub(super) counts: Counts,
}

/// A job with the place that it comes from.
pub(super) type Job<S> = (Kind, Box<dyn Work<S>>);

/// How the group's thread sleeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asleep {
    /// Until when, ns.
    pub(super) until: u64,
    /// Whether it selects from receivers.
    pub(super) selects: bool,
}

/// The account of jobs and calls of user code.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Jobs that were accepted.
    pub(super) accepted: u64,
    /// Jobs that ran to their end.
    pub(super) done: u64,
    /// Jobs that panicked.
    pub(super) panicked: u64,
    /// Calls that were withdrawn before they started.
    pub(super) withdrawn: u64,
    /// Jobs that a stop discarded.
    pub(super) discarded: u64,
    /// Closures, values, timers and receivers that were refused.
    pub(super) refused: u64,
    /// Items of attached receivers that were handled.
    pub(super) items: u64,
    /// Panics of user code on the group's thread: of jobs, timers and items.
    pub(super) panics: u64,
    /// How late timers were.
    pub(super) lateness: Histogram,
    /// How long calls of user code took.
    pub(super) run_time: Histogram,
}

/// How long a caller waits for room.
#[derive(Clone, Copy, Debug)]
pub(super) enum Patience {
    /// Not at all.
    None,
    /// Until a deadline, or without a limit.
    Until(Option<Instant>),
}

impl Patience {
    /// Waits for at most `duration`.
    pub(super) fn of(duration: Duration) -> Self {
        Patience::Until(Instant::now().checked_add(duration))
    }
}

impl<S: Send + 'static> Shared<S> {
    /// The state of a group without threads.
    pub(super) fn new(settings: Settings) -> Arc<Self> {
        let clock = settings.clock.clone().unwrap_or_default();
        let shared = Arc::new_cyclic(|this| Shared {
            id: deadlock::next_id(),
            clock: clock.clone(),
            settings,
            state: Mutex::new(State {
                inbox: VecDeque::new(),
                callbacks: 0,
                turns: 0,
                asleep: None,
                room_waiters: 0,
                running: None,
                timers: Timers::new(),
                slow: Slow::new(),
                arriving: Vec::new(),
                was_detached: false,
                attached: 0,
                stopping: Stopping::new(),
                counts: Counts::default(),
            }),
            work_came: Condvar::new(),
            bell: crossbeam_channel::bounded(1),
            room_came: Condvar::new(),
            slow_came: Condvar::new(),
            thread_ended: Condvar::new(),
            this: this.clone(),
        });
        let ringer: Weak<dyn Ring> = shared.this.clone();
        clock.ring_on_advance(ringer);
        shared
    }

    /// Puts `work` into the inbox.
    ///
    /// # Errors
    ///
    /// Returns the work and the reason.
    pub(super) fn push<W: Work<S> + 'static>(
        &self,
        kind: Kind,
        work: W,
        patience: Patience,
    ) -> Result<(), (PostErrorKind, W)> {
        // Allocated before the lock is taken.
        let place = Box::<W>::new_uninit();
        let mut state = self.state.lock();
        let admitted = self.wait_for_room(&mut state, kind, patience);
        if let Err(reason) = admitted {
            state.counts.refused += 1;
            return Err((reason, work));
        }
        let work: Box<W> = Box::write(place, work);
        state.accept(kind, work);
        self.wake(state);
        Ok(())
    }

    /// Waits until the inbox has room for a job of `kind`.
    fn wait_for_room(
        &self,
        state: &mut MutexGuard<'_, State<S>>,
        kind: Kind,
        patience: Patience,
    ) -> Result<(), PostErrorKind> {
        let mut wait = None;
        loop {
            if state.stopping.is_stopped {
                return Err(PostErrorKind::Stopped);
            }
            let counted = state.inbox.len() - state.callbacks - state.turns;
            if kind == Kind::Agent || counted < self.settings.capacity {
                return Ok(());
            }
            let Patience::Until(deadline) = patience else {
                return Err(PostErrorKind::Full);
            };
            if wait.is_none() {
                wait = Some(Wait::begin(self.id).ok_or(PostErrorKind::WouldDeadlock)?);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(PostErrorKind::Full);
            }
            state.room_waiters += 1;
            match deadline {
                None => self.room_came.wait(state),
                Some(deadline) => drop(self.room_came.wait_until(state, deadline)),
            }
            state.room_waiters -= 1;
        }
    }
}

impl<S> Shared<S> {
    /// Wakes the group's thread if it sleeps, after the state was changed.
    pub(super) fn wake(&self, mut state: MutexGuard<'_, State<S>>) {
        let asleep = state.asleep.take();
        drop(state);
        match asleep {
            None => {}
            // If the bell is full, it has been rung.
            Some(Asleep { selects: true, .. }) => drop(self.bell.0.try_send(())),
            Some(_) => drop(self.work_came.notify_one()),
        }
    }
}

impl<S> State<S> {
    /// Puts a job into the inbox.
    pub(super) fn accept(&mut self, kind: Kind, work: Box<dyn Work<S>>) {
        if kind == Kind::Slow {
            self.callbacks += 1;
        } else {
            self.counts.accepted += 1;
        }
        self.turns += usize::from(kind == Kind::Agent);
        self.inbox.push_back((kind, work));
    }

    /// Takes the first job out of the inbox.
    pub(super) fn take_job(&mut self) -> Option<Job<S>> {
        let job = self.inbox.pop_front()?;
        self.callbacks -= usize::from(job.0 == Kind::Slow);
        self.turns -= usize::from(job.0 == Kind::Agent);
        Some(job)
    }
}

/// A manual clock was moved.
impl<S: Send + 'static> Ring for Shared<S> {
    fn ring(&self, now: u64) {
        let state = self.state.lock();
        if state.asleep.is_some_and(|asleep| asleep.until <= now) {
            self.wake(state);
        }
    }
}
