//! Strands, which run the jobs of a connection one after the other, and the threads that run strands.
//!
//! A strand with jobs has one *turn*: it is in the queue of the [`Pool`], on its way to the thread of a [`Home`], or
//! held by one thread, and never two of these, so its jobs run in their order. The thread runs a batch of them, as long
//! as they belong there, and then passes the turn on to where the next job belongs.
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
//! *The limit of all.* The pool counts the bytes in all its strands. A reactor that finds them beyond the limit before
//! it reads [holds](Pool::hold) the strand, which marks it as full, whatever is in it. No mark is cleared while they
//! are beyond. The thread that brings them back below asks all reactors to let their strands [relent](Pool::relent). A
//! reactor that has found them beyond is asked after that, and does what it is asked after it has set the mark.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use crate::sync::{Condvar, Instant, Mutex, sized};

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

/// What waits in a strand.
struct State<J, H> {
    /// The jobs, the oldest first.
    jobs: Jobs<J>,
    /// The sum of the sizes.
    bytes: usize,
    /// Whether the strand has a turn.
    is_scheduled: bool,
    /// Whether the reactor has stopped reading.
    is_full: bool,
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
struct Load {
    /// The limits of each.
    room: Room,
    /// The bytes in all of them.
    bytes: AtomicUsize,
    /// The most of them.
    most: usize,
}

impl Load {
    /// Counts `bytes` more.
    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Counts `bytes` less. Returns whether the strands held too much, and no longer do.
    fn remove(&self, bytes: usize) -> bool {
        let before = self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        before > self.most && before - bytes <= self.most
    }

    /// Returns whether the strands hold too much.
    fn is_over(&self) -> bool {
        self.bytes.load(Ordering::Acquire) > self.most
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
struct Taken<J, H> {
    /// The jobs.
    jobs: Jobs<J>,
    /// The home at that time.
    home: Option<H>,
    /// How often it had changed.
    moves: u32,
}

/// What follows the turn of a strand.
struct Passed<H> {
    /// It has more jobs, and must be scheduled there.
    turn: Option<Place<H>>,
    /// The reactor must read on.
    must_resume: bool,
}

impl<J, H: Clone> Strand<J, H> {
    /// Creates an empty strand.
    pub(crate) fn new() -> Self {
        Strand {
            state: Mutex::new(State {
                jobs: VecDeque::new(),
                bytes: 0,
                is_scheduled: false,
                is_full: false,
                home: None,
                is_settled: false,
            }),
            moves: AtomicU32::new(0),
        }
    }

    /// Appends `job` of `size` bytes, also to a full strand: the limit is a matter of who reads. `belongs` returns
    /// whether a job belongs to a home.
    fn push(
        &self,
        job: J,
        size: usize,
        load: &Load,
        belongs: impl FnOnce(&J, &H) -> bool,
    ) -> Pushed<H> {
        let mut state = self.state.lock();
        state.jobs.push_back((job, size));
        state.bytes += size;
        load.add(size);
        let Room { jobs, bytes } = load.room;
        let is_over = state.jobs.len() >= jobs || state.bytes >= bytes;
        let was_full = state.is_full;
        state.is_full |= is_over;
        let was_scheduled = std::mem::replace(&mut state.is_scheduled, true);
        Pushed {
            turn: (!was_scheduled).then(|| state.place(belongs)),
            is_full: is_over && !was_full,
        }
    }

    /// Returns whether the reactor has stopped reading, or must.
    pub(crate) fn is_full(&self) -> bool {
        self.state.lock().is_full
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
    fn leave(&self, is: impl FnOnce(&H) -> bool) {
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
    fn settle(&self) {
        let mut state = self.state.lock();
        state.is_settled = true;
        let before = state.home.take();
        drop(state);
        drop(before);
    }

    /// Takes the next jobs, which count until the end of the turn for what all strands hold.
    fn take(&self) -> Taken<J, H> {
        let mut state = self.state.lock();
        let count = state.jobs.len().min(BATCH);
        let jobs: Jobs<J> = state.jobs.drain(..count).collect();
        state.bytes -= jobs.iter().map(|(_, size)| size).sum::<usize>();
        Taken {
            jobs,
            home: state.home.clone(),
            moves: self.moves.load(Ordering::Relaxed),
        }
    }

    /// Ends the turn of the strand. `rest` was taken and has not run.
    fn pass(
        &self,
        mut rest: Jobs<J>,
        load: &Load,
        belongs: impl FnOnce(&J, &H) -> bool,
    ) -> Passed<H> {
        let mut state = self.state.lock();
        state.bytes += rest.iter().map(|(_, size)| size).sum::<usize>();
        if !rest.is_empty() {
            rest.append(&mut state.jobs);
            state.jobs = rest;
        }
        state.is_scheduled = !state.jobs.is_empty();
        if !state.is_scheduled {
            state.jobs = VecDeque::new();
        }
        let must_resume = state.relent(load);
        Passed {
            turn: state.is_scheduled.then(|| state.place(belongs)),
            must_resume,
        }
    }
}

impl<J, H: Clone> State<J, H> {
    /// Clears the mark of a strand that is below half, unless all strands together hold too much. Returns whether it
    /// was set.
    fn relent(&mut self, load: &Load) -> bool {
        let Room { jobs, bytes } = load.room;
        let is_low = self.jobs.len() <= jobs / 2 && self.bytes <= bytes / 2 && !load.is_over();
        let was_full = self.is_full;
        self.is_full &= !is_low;
        was_full && is_low
    }

    /// Returns where the first job belongs.
    fn place(&self, belongs: impl FnOnce(&J, &H) -> bool) -> Place<H> {
        match (&self.home, self.jobs.front()) {
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

/// What has a strand.
pub(crate) trait Owner: Send + Sized + 'static {
    /// What runs on it.
    type Job: Send;

    /// Where jobs may run, other than on the pool.
    type Home: Home<Self>;

    /// Its strand.
    fn strand(&self) -> &Strand<Self::Job, Self::Home>;

    /// The pool of its strand.
    fn pool(&self) -> Arc<Pool<Self>>;

    /// Returns whether `job` belongs to `home`. Must not panic.
    fn belongs(&self, job: &Self::Job, home: &Self::Home) -> bool;

    /// Runs `job` on a thread of the pool. Must not panic.
    fn run(&self, job: Self::Job);

    /// Asks the reactor to read on.
    fn resume(&self);

    /// Asks all reactors to let their strands [relent](Pool::relent). Called only if the pool has a limit of all
    /// strands.
    fn resume_all(&self) {}

    /// The home has dropped the turn, because it has ended.
    fn lost(&self, home: &Self::Home);
}

/// Where jobs may run, other than on the pool.
pub(crate) trait Home<O: Owner<Home = Self>>: Clone + Send + Sized {
    /// Returns whether this is `other`.
    fn is(&self, other: &Self) -> bool;

    /// Lets `turn` [run](Turn::run) on its thread, or drops it if it has ended. Does not wait.
    fn accept(&self, turn: Turn<O>);
}

/// The turn of a strand on its way to a home. If it is dropped, the strand goes on in the pool.
pub(crate) struct Turn<O: Owner> {
    /// What has the strand, until the turn begins.
    owner: Option<O>,
    /// The home.
    home: O::Home,
}

impl<O: Owner> Turn<O> {
    /// The home.
    pub(crate) fn home(&self) -> &O::Home {
        &self.home
    }

    /// Runs jobs that belong to the home, each by `run`, which must not panic, and passes the turn on.
    pub(crate) fn run(mut self, run: impl FnMut(&O, O::Job) -> Ran<O::Job>) {
        if let Some(owner) = self.owner.take() {
            let pool = owner.pool();
            pool.turn(owner, Some(&self.home), run);
            pool.returned();
        }
    }
}

impl<O: Owner> Drop for Turn<O> {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.take() {
            owner.strand().leave(|home| home.is(&self.home));
            owner.lost(&self.home);
            let pool = owner.pool();
            pool.schedule_one(owner, Place::Pool);
            pool.returned();
        }
    }
}

impl<O: Owner> fmt::Debug for Turn<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turn")
    }
}

/// The strands that wait for a thread.
pub(crate) struct Pool<O> {
    /// What waits.
    state: Mutex<Waiting<O>>,
    /// Notified when a strand is added or the pool is closed.
    added: Condvar,
    /// Notified when a thread ends.
    ended: Condvar,
    /// What the strands hold.
    load: Load,
}

/// The strands that wait, and the threads.
struct Waiting<O> {
    /// The strands, the next one first.
    strands: VecDeque<O>,
    /// The turns that are with homes, and may come back.
    away: usize,
    /// The threads that wait for one.
    idle: usize,
    /// The threads that have not ended.
    threads: usize,
    /// Whether threads end when no strand waits.
    is_closed: bool,
    /// Whether threads end although strands wait.
    is_cut: bool,
}

/// Strands that must be scheduled, each with the place of its first job.
pub(crate) type Turns<O, H> = Vec<(O, Place<H>)>;

impl<O: Owner> Pool<O> {
    /// Creates a pool without threads; `threads` of them will call [`work`](Pool::work). Its strands hold `most` bytes
    /// together.
    pub(crate) fn new(threads: usize, room: Room, most: usize) -> Self {
        Pool {
            state: Mutex::new(Waiting {
                strands: VecDeque::new(),
                away: 0,
                idle: 0,
                threads,
                is_closed: false,
                is_cut: false,
            }),
            added: Condvar::new(),
            ended: Condvar::new(),
            load: Load {
                room,
                bytes: AtomicUsize::new(0),
                most,
            },
        }
    }

    /// Appends `job` of `size` bytes to `strand`, which belongs to this pool. `belongs` returns whether a job belongs
    /// to a home.
    pub(crate) fn push(
        &self,
        strand: &Strand<O::Job, O::Home>,
        job: O::Job,
        size: usize,
        belongs: impl FnOnce(&O::Job, &O::Home) -> bool,
    ) -> Pushed<O::Home> {
        strand.push(job, size, &self.load, belongs)
    }

    /// Marks `strand` as full if all strands together hold too much. Returns whether they do.
    pub(crate) fn hold(&self, strand: &Strand<O::Job, O::Home>) -> bool {
        let is_over = self.load.is_over();
        if is_over {
            strand.state.lock().is_full = true;
        }
        is_over
    }

    /// Clears the mark of a strand that is no longer full. Returns whether the reactor must read on.
    pub(crate) fn relent(&self, strand: &Strand<O::Job, O::Home>) -> bool {
        strand.state.lock().relent(&self.load)
    }

    /// Returns the bytes in all strands.
    pub(crate) fn bytes(&self) -> usize {
        self.load.bytes.load(Ordering::Acquire)
    }

    /// Lets threads and homes run `turns`. Wakes at most as many threads.
    pub(crate) fn schedule(&self, turns: &mut Turns<O, O::Home>) {
        if turns.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        let (before, idle) = (state.strands.len(), state.idle);
        let away: Vec<Turn<O>> = turns
            .drain(..)
            .filter_map(|(owner, place)| state.add(owner, place))
            .collect();
        let wake = (state.strands.len() - before).min(idle);
        let rest = state.take_if_cut();
        drop(state);
        drop(rest);
        for _ in 0..wake {
            self.added.notify_one();
        }
        for turn in away {
            turn.home.clone().accept(turn);
        }
    }

    /// Lets a thread or a home run a strand.
    fn schedule_one(&self, owner: O, place: Place<O::Home>) {
        let mut state = self.state.lock();
        let away = state.add(owner, place);
        let wakes = away.is_none() && state.idle > 0;
        let rest = state.take_if_cut();
        drop(state);
        drop(rest);
        if wakes {
            self.added.notify_one();
        }
        if let Some(turn) = away {
            turn.home.clone().accept(turn);
        }
    }

    /// A turn that was with a home has ended, or was scheduled again.
    fn returned(&self) {
        let mut state = self.state.lock();
        state.away -= 1;
        let is_last = state.away == 0 && state.is_closed;
        drop(state);
        if is_last {
            self.added.notify_all();
        }
    }

    /// Runs strands until the pool is closed.
    pub(crate) fn work(&self) {
        while let Some(owner) = self.next() {
            self.turn(owner, None, |owner, job| {
                owner.run(job);
                Ran::Done
            });
        }
        self.state.lock().threads -= 1;
        self.ended.notify_all();
    }

    /// Runs jobs of `owner` as long as they belong `here`, which is the pool if it is `None`, and passes the turn on.
    fn turn(
        &self,
        owner: O,
        here: Option<&O::Home>,
        mut run: impl FnMut(&O, O::Job) -> Ran<O::Job>,
    ) {
        let strand = owner.strand();
        let mut taken = strand.take();
        let mut done = 0;
        while let Some((job, _)) = taken.jobs.front() {
            if strand.moves.load(Ordering::Relaxed) != taken.moves {
                break;
            }
            let home = taken.home.as_ref();
            let home = home.filter(|home| owner.belongs(job, home));
            let is_here = match (home, here) {
                (Some(home), Some(here)) => home.is(here),
                (home, here) => home.is_none() && here.is_none(),
            };
            if !is_here {
                break;
            }
            let Some((job, size)) = taken.jobs.pop_front() else {
                break;
            };
            done += size;
            match run(&owner, job) {
                Ran::Done => {}
                Ran::Last => break,
                Ran::Settled(job) => {
                    strand.settle();
                    taken.jobs.push_front((job, 0));
                    break;
                }
            }
        }
        let belongs = |job: &O::Job, home: &O::Home| owner.belongs(job, home);
        let is_crossed = self.load.remove(done);
        let passed = strand.pass(taken.jobs, &self.load, belongs);
        if is_crossed {
            owner.resume_all();
        }
        if passed.must_resume {
            owner.resume();
        }
        if let Some(place) = passed.turn {
            self.schedule_one(owner, place);
        }
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
            if state.is_closed && state.away == 0 {
                return None;
            }
            state.idle += 1;
            self.added.wait(&mut state);
            state.idle -= 1;
        }
    }

    /// Lets threads end when no strand waits or is with a home, and waits for them for at most `within`; what waits
    /// then does not run. Returns the number of threads that have not ended.
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
        self.added.notify_all();
        let rest = state.take_if_cut();
        let threads = state.threads;
        drop(state);
        drop(rest);
        threads
    }
}

impl<O: Owner> Waiting<O> {
    /// Takes the strands that no thread will run, which are dropped outside the lock.
    fn take_if_cut(&mut self) -> VecDeque<O> {
        if self.is_cut {
            std::mem::take(&mut self.strands)
        } else {
            VecDeque::new()
        }
    }

    /// Adds a strand to the queue, or returns its turn in a home.
    fn add(&mut self, owner: O, place: Place<O::Home>) -> Option<Turn<O>> {
        match place {
            Place::Pool => {
                self.strands.push_back(owner);
                None
            }
            Place::Home(home) => {
                self.away += 1;
                Some(Turn {
                    owner: Some(owner),
                    home,
                })
            }
        }
    }
}

impl<O> fmt::Debug for Pool<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pool")
    }
}
