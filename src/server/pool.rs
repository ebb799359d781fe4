//! The threads that run strands, and what has a strand.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::strand::{Load, Place, Pushed, Ran, Room, Strand};
use crate::sync::{Condvar, Instant, Mutex};

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

    /// Reports the end of what was in the strand, whose reactor [waits](Strand::await_end) for it.
    fn handled(&self) {}

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
            load: Load::new(room, most),
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
            strand.hold();
        }
        is_over
    }

    /// Clears the mark of a strand that is no longer full. Returns whether the reactor must read on.
    pub(crate) fn relent(&self, strand: &Strand<O::Job, O::Home>) -> bool {
        strand.relent(&self.load)
    }

    /// Returns the bytes in all strands.
    pub(crate) fn bytes(&self) -> usize {
        self.load.bytes()
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
            if strand.has_moved(&taken) {
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
        if passed.has_ended {
            owner.handled();
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
