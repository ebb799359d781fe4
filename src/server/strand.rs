//! Strands, which hold the jobs of a connection that run one after the other.
//!
//! A strand with jobs has one *turn*: it is in the queue of the [`Pool`](super::pool::Pool), on its way to the thread
//! of a [`Home`](super::pool::Home), or held by one thread, and never two of these, so its jobs run in their order. The
//! thread runs a batch of them, as long as they belong there, and then passes the turn on to where the next job
//! belongs.
//!
//! *Delegation.* [`set_home`](Strand::set_home) moves no job and no turn. The thread that has the turn decides about
//! each job before it runs it, and looks whether the home has changed since it took the job. Whatever it has taken and
//! not run goes back to the front of the strand before it passes the turn on. So nothing is lost, and nothing
//! overtakes. A turn that its home drops, because it has ended, goes on in the pool.
//!
//! *Pause and resume.* The push that fills a strand marks it as full, and its reactor stops reading. The thread that
//! has brought a full strand below half clears the mark and asks the reactor to read on. Both happen under the lock of
//! the strand, so one of them sees the other: a strand that is marked as full is scheduled, and ends a turn later.
//!
//! *The end of what waits.* A reactor whose peer has said everything asks for the end of the turn, under the lock of
//! the strand. There is none if nothing waits and nothing runs; otherwise the thread that ends the last turn says so.
//!
//! *The limit of all.* The pool counts the bytes in all its strands. A reactor that finds them beyond the limit before
//! it reads [holds](super::pool::Pool::hold) the strand, which marks it as full, whatever is in it. No mark is cleared
//! while they are beyond. The thread that brings them back below asks all reactors to let their strands
//! [relent](super::pool::Pool::relent). A reactor that has found them beyond is asked after that, and does what it is
//! asked after it has set the mark.

use std::collections::VecDeque;
use std::fmt;

use crate::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use crate::sync::{Mutex, sized};

/// The most jobs of one strand that run before other strands have their turn.
const BATCH: usize = sized(16, 2);

/// The jobs of one connection, with their sizes in bytes.
type Jobs<J> = VecDeque<(J, usize)>;

/// The jobs of one connection. Some of them may belong to a home of type `H`.
pub(crate) struct Strand<J, H> {
    /// What waits.
    state: Mutex<State<J, H>>,
    /// How often the home has changed; changes under the lock.
    moves: AtomicU32,
}

/// What waits in a strand that has a turn.
struct Backlog<J> {
    /// The jobs, the oldest first.
    jobs: Jobs<J>,
    /// The sum of the sizes.
    bytes: usize,
}

impl<J> Default for Backlog<J> {
    fn default() -> Self {
        Backlog {
            jobs: VecDeque::new(),
            bytes: 0,
        }
    }
}

/// The state of a strand.
struct State<J, H> {
    /// What waits; `None` if the strand has no turn.
    backlog: Option<Box<Backlog<J>>>,
    /// Whether the reactor has stopped reading.
    is_full: bool,
    /// Whether the reactor waits for the end of what is in the strand.
    is_awaited: bool,
    /// Where jobs may belong, other than to the pool.
    home: Option<H>,
    /// Whether the home can no longer change.
    is_settled: bool,
}

/// How many jobs and bytes a strand holds before it is full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// The jobs.
    pub(crate) jobs: usize,
    /// The bytes.
    pub(crate) bytes: usize,
}

/// What strands hold, each and together.
#[derive(Debug)]
pub(super) struct Load {
    /// The limits of each.
    room: Room,
    /// The bytes in all of them.
    bytes: AtomicUsize,
    /// The most of them.
    most: usize,
}

impl Load {
    /// Creates the count of strands that hold nothing: each may hold as much as `room` says, all together `most` bytes.
    pub(super) fn new(room: Room, most: usize) -> Self {
        Load {
            room,
            bytes: AtomicUsize::new(0),
            most,
        }
    }

    /// Returns the bytes in all of them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// Counts `bytes` more.
    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Counts `bytes` less. Returns whether the strands held too much, and no longer do.
    pub(super) fn remove(&self, bytes: usize) -> bool {
        let before = self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        before > self.most && before - bytes <= self.most
    }

    /// Returns whether the strands hold too much.
    pub(super) fn is_over(&self) -> bool {
        self.bytes() > self.most
    }
}

/// What a push leads to.
#[derive(Debug)]
pub(crate) struct Pushed<H> {
    /// The strand must be scheduled there.
    pub(crate) turn: Option<Place<H>>,
    /// The strand has become full.
    pub(crate) is_full: bool,
}

/// Where a job runs.
#[derive(Debug)]
pub(crate) enum Place<H> {
    /// On a thread of the pool.
    Pool,
    /// On the thread of a home.
    Home(H),
}

/// What follows a job.
#[derive(Debug)]
pub(crate) enum Ran<J> {
    /// The next job.
    Done,
    /// The end of the turn.
    Last,
    /// This job on the pool, and all that come after it.
    Settled(J),
}

/// What a thread has taken from a strand.
pub(super) struct Taken<J, H> {
    /// The jobs.
    pub(super) jobs: Jobs<J>,
    /// The home at that time.
    pub(super) home: Option<H>,
    /// How often it had changed.
    moves: u32,
}

/// What follows the turn of a strand.
pub(super) struct Passed<H> {
    /// It has more jobs, and must be scheduled there.
    pub(super) turn: Option<Place<H>>,
    /// The reactor must read on.
    pub(super) must_resume: bool,
    /// The reactor waits for this end.
    pub(super) has_ended: bool,
}

impl<J, H: Clone> Strand<J, H> {
    /// Creates an empty strand.
    pub(crate) fn new() -> Self {
        Strand {
            state: Mutex::new(State {
                backlog: None,
                is_full: false,
                is_awaited: false,
                home: None,
                is_settled: false,
            }),
            moves: AtomicU32::new(0),
        }
    }

    /// Appends `job` of `size` bytes, also to a full strand: the limit is a matter of who reads. `belongs` returns
    /// whether a job belongs to a home.
    pub(super) fn push(
        &self,
        job: J,
        size: usize,
        load: &Load,
        belongs: impl FnOnce(&J, &H) -> bool,
    ) -> Pushed<H> {
        let mut state = self.state.lock();
        let was_scheduled = state.backlog.is_some();
        let backlog = state.backlog.get_or_insert_default();
        backlog.jobs.push_back((job, size));
        backlog.bytes += size;
        load.add(size);
        let Room { jobs, bytes } = load.room;
        let is_over = backlog.jobs.len() >= jobs || backlog.bytes >= bytes;
        let was_full = state.is_full;
        state.is_full |= is_over;
        Pushed {
            turn: (!was_scheduled).then(|| state.place(belongs)),
            is_full: is_over && !was_full,
        }
    }

    /// Returns whether the reactor has stopped reading, or must.
    pub(crate) fn is_full(&self) -> bool {
        self.state.lock().is_full
    }

    /// Lets the end of what waits and runs be [reported](super::pool::Owner::handled). Returns whether there is
    /// anything.
    pub(crate) fn await_end(&self) -> bool {
        let mut state = self.state.lock();
        state.is_awaited = state.backlog.is_some();
        state.is_awaited
    }

    /// Lets the strand be full, whatever is in it.
    pub(super) fn hold(&self) {
        self.state.lock().is_full = true;
    }

    /// Clears the mark of a strand that is no longer full. Returns whether it was set, and the reactor must read on.
    pub(super) fn relent(&self, load: &Load) -> bool {
        self.state.lock().relent(load)
    }

    /// Returns whether the home has changed since `taken`.
    pub(super) fn has_moved(&self, taken: &Taken<J, H>) -> bool {
        self.moves.load(Ordering::Relaxed) != taken.moves
    }

    /// Sets where jobs may belong from now on, other than to the pool.
    pub(crate) fn set_home(&self, home: Option<H>) {
        let mut state = self.state.lock();
        let before = if state.is_settled {
            home
        } else {
            self.moves.fetch_add(1, Ordering::Relaxed);
            std::mem::replace(&mut state.home, home)
        };
        drop(state);
        drop(before);
    }

    /// Removes the home if it `is` this one.
    pub(super) fn leave(&self, is: impl FnOnce(&H) -> bool) {
        let mut state = self.state.lock();
        let before = if state.home.as_ref().is_some_and(is) {
            self.moves.fetch_add(1, Ordering::Relaxed);
            state.home.take()
        } else {
            None
        };
        drop(state);
        drop(before);
    }

    /// Lets all jobs belong to the pool, for good.
    pub(super) fn settle(&self) {
        let mut state = self.state.lock();
        state.is_settled = true;
        let before = state.home.take();
        drop(state);
        drop(before);
    }

    /// Takes the next jobs, which count until the end of the turn for what all strands hold.
    pub(super) fn take(&self) -> Taken<J, H> {
        let mut state = self.state.lock();
        let mut jobs = VecDeque::new();
        if let Some(backlog) = &mut state.backlog {
            let rest = backlog.jobs.split_off(backlog.jobs.len().min(BATCH));
            jobs = std::mem::replace(&mut backlog.jobs, rest);
            backlog.bytes -= sum(&jobs);
        }
        Taken {
            jobs,
            home: state.home.clone(),
            moves: self.moves.load(Ordering::Relaxed),
        }
    }

    /// Ends the turn of the strand. `rest` was taken and has not run.
    pub(super) fn pass(
        &self,
        mut rest: Jobs<J>,
        load: &Load,
        belongs: impl FnOnce(&J, &H) -> bool,
    ) -> Passed<H> {
        let mut state = self.state.lock();
        if !rest.is_empty() {
            let backlog = state.backlog.get_or_insert_default();
            backlog.bytes += sum(&rest);
            rest.append(&mut backlog.jobs);
            backlog.jobs = rest;
        }
        state.backlog.take_if(|backlog| backlog.jobs.is_empty());
        let must_resume = state.relent(load);
        let has_ended = state.backlog.is_none() && std::mem::take(&mut state.is_awaited);
        Passed {
            has_ended,
            turn: state.backlog.is_some().then(|| state.place(belongs)),
            must_resume,
        }
    }
}

/// Returns the sum of the sizes.
fn sum<J>(jobs: &Jobs<J>) -> usize {
    jobs.iter().map(|(_, size)| size).sum()
}

impl<J, H: Clone> State<J, H> {
    /// Clears the mark of a strand that is below half, unless all strands together hold too much. Returns whether it
    /// was set.
    fn relent(&mut self, load: &Load) -> bool {
        let Room { jobs, bytes } = load.room;
        let is_half = |it: &Backlog<J>| it.jobs.len() <= jobs / 2 && it.bytes <= bytes / 2;
        let is_low = self.backlog.as_deref().is_none_or(is_half) && !load.is_over();
        let was_full = self.is_full;
        self.is_full &= !is_low;
        was_full && is_low
    }

    /// Returns where the first job belongs.
    fn place(&self, belongs: impl FnOnce(&J, &H) -> bool) -> Place<H> {
        let first = self.backlog.as_ref().and_then(|it| it.jobs.front());
        match (&self.home, first) {
            (Some(home), Some((job, _))) if belongs(job, home) => Place::Home(home.clone()),
            _ => Place::Pool,
        }
    }
}

impl<J, H> fmt::Debug for Strand<J, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Strand")
    }
}
