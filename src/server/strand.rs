//! Strands, which run the jobs of a connection one after the other, and the threads that run strands.
//!
//! A strand with jobs is in the queue of the [`Pool`] or held by one thread, never both, so its jobs run in their order.
//! The thread runs a batch of them, and then puts the strand behind the others.
//!
//! *Pause and resume.* The push that fills a strand marks it as full, and its reactor stops reading. The thread that has
//! brought a full strand below half clears the mark and asks the reactor to read on. Both happen under the lock of the
//! strand, so one of them sees the other: a strand that is marked as full is scheduled, and ends a turn later.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crate::sync::{Condvar, Instant, Mutex, sized};

/// The most jobs of one strand that run before other strands have their turn.
const BATCH: usize = sized(16, 2);

/// The jobs of one connection.
pub(crate) struct Strand<J> {
    /// What waits.
    state: Mutex<State<J>>,
}

/// What waits in a strand.
struct State<J> {
    /// The jobs with their sizes in bytes, the oldest first.
    jobs: VecDeque<(J, usize)>,
    /// The sum of the sizes.
    bytes: usize,
    /// Whether the strand is in the queue of the pool, or held by a thread.
    is_scheduled: bool,
    /// Whether the reactor has stopped reading.
    is_full: bool,
}

/// How many jobs and bytes a strand holds before it is full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// The jobs.
    pub(crate) jobs: usize,
    /// The bytes.
    pub(crate) bytes: usize,
}

/// What a push leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pushed {
    /// The strand must be given to the pool.
    pub(crate) must_schedule: bool,
    /// The strand has become full.
    pub(crate) is_full: bool,
}

/// What follows the turn of a strand.
struct Passed {
    /// It has more jobs, and must be given to the pool again.
    is_scheduled: bool,
    /// The reactor must read on.
    must_resume: bool,
}

impl<J> Strand<J> {
    /// Creates an empty strand.
    pub(crate) fn new() -> Self {
        Strand {
            state: Mutex::new(State {
                jobs: VecDeque::new(),
                bytes: 0,
                is_scheduled: false,
                is_full: false,
            }),
        }
    }

    /// Appends `job` of `size` bytes, also to a full strand: the limit is a matter of who reads.
    pub(crate) fn push(&self, job: J, size: usize, room: Room) -> Pushed {
        let mut state = self.state.lock();
        state.jobs.push_back((job, size));
        state.bytes += size;
        let is_over = state.jobs.len() >= room.jobs || state.bytes >= room.bytes;
        let was_full = state.is_full;
        state.is_full |= is_over;
        Pushed {
            must_schedule: !std::mem::replace(&mut state.is_scheduled, true),
            is_full: is_over && !was_full,
        }
    }

    /// Takes the next jobs.
    fn take(&self) -> Vec<J> {
        let mut state = self.state.lock();
        let count = state.jobs.len().min(BATCH);
        let taken: Vec<(J, usize)> = state.jobs.drain(..count).collect();
        let bytes: usize = taken.iter().map(|(_, size)| size).sum();
        state.bytes -= bytes;
        taken.into_iter().map(|(job, _)| job).collect()
    }

    /// Ends the turn of the strand, after the jobs that were taken have run.
    fn pass(&self, room: Room) -> Passed {
        let mut state = self.state.lock();
        state.is_scheduled = !state.jobs.is_empty();
        if !state.is_scheduled {
            state.jobs = VecDeque::new();
        }
        let is_low = state.jobs.len() <= room.jobs / 2 && state.bytes <= room.bytes / 2;
        let must_resume = state.is_full && is_low;
        state.is_full &= !is_low;
        Passed {
            is_scheduled: state.is_scheduled,
            must_resume,
        }
    }
}

impl<J> fmt::Debug for Strand<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Strand")
    }
}

/// What has a strand.
pub(crate) trait Owner: Send + 'static {
    /// What runs on it.
    type Job: Send;

    /// Its strand.
    fn strand(&self) -> &Strand<Self::Job>;

    /// Runs `job`. Must not panic.
    fn run(&self, job: Self::Job);

    /// Asks the reactor to read on.
    fn resume(&self);
}

/// The strands that wait for a thread.
pub(crate) struct Pool<O> {
    /// What waits.
    state: Mutex<Waiting<O>>,
    /// Notified when a strand is added or the pool is closed.
    added: Condvar,
    /// Notified when a thread ends.
    ended: Condvar,
    /// The size of strands.
    room: Room,
}

/// The strands that wait, and the threads.
struct Waiting<O> {
    /// The strands, the next one first.
    strands: VecDeque<O>,
    /// The threads that wait for one.
    idle: usize,
    /// The threads that have not ended.
    threads: usize,
    /// Whether threads end when no strand waits.
    is_closed: bool,
    /// Whether threads end although strands wait.
    is_cut: bool,
}

impl<O: Owner> Pool<O> {
    /// Creates a pool without threads; `threads` of them will call [`work`](Pool::work).
    pub(crate) fn new(threads: usize, room: Room) -> Self {
        Pool {
            state: Mutex::new(Waiting {
                strands: VecDeque::new(),
                idle: 0,
                threads,
                is_closed: false,
                is_cut: false,
            }),
            added: Condvar::new(),
            ended: Condvar::new(),
            room,
        }
    }

    /// The size of strands.
    pub(crate) fn room(&self) -> Room {
        self.room
    }

    /// Lets threads run `strands`, each of which must be scheduled. Wakes at most as many threads.
    pub(crate) fn schedule(&self, strands: &mut Vec<O>) {
        if strands.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        let wake = strands.len().min(state.idle);
        state.strands.extend(strands.drain(..));
        drop(state);
        for _ in 0..wake {
            self.added.notify_one();
        }
    }

    /// Runs strands until the pool is closed.
    pub(crate) fn work(&self) {
        while let Some(owner) = self.next() {
            for job in owner.strand().take() {
                owner.run(job);
            }
            let passed = owner.strand().pass(self.room);
            if passed.must_resume {
                owner.resume();
            }
            if passed.is_scheduled {
                self.schedule(&mut vec![owner]);
            }
        }
        self.state.lock().threads -= 1;
        self.ended.notify_all();
    }

    /// Waits for the next strand. Returns `None` if the pool is closed.
    fn next(&self) -> Option<O> {
        let mut state = self.state.lock();
        loop {
            if state.is_cut {
                return None;
            }
            if let Some(strand) = state.strands.pop_front() {
                return Some(strand);
            }
            if state.is_closed {
                return None;
            }
            state.idle += 1;
            self.added.wait(&mut state);
            state.idle -= 1;
        }
    }

    /// Lets threads end when no strand waits, and waits for them for at most `within`; what waits then does not run.
    /// Returns the number of threads that have not ended.
    pub(crate) fn close(&self, within: Duration) -> usize {
        let until = Instant::now().checked_add(within);
        let mut state = self.state.lock();
        state.is_closed = true;
        self.added.notify_all();
        while state.threads > 0 {
            let Some(until) = until else {
                self.ended.wait(&mut state);
                continue;
            };
            if self.ended.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        state.is_cut = true;
        state.threads
    }
}

impl<O> fmt::Debug for Pool<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pool")
    }
}
