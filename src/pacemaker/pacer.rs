//! One thread that calls the beat functions of many pacemakers when they are due.
//!
//! A pacemaker is either in the table of members, or out for its call, when `running` names it. So no lock is held while
//! code of the user's runs, and whoever stops a pacemaker waits only for its own call.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;

use fastrand::Rng;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::rhythm::Rhythm;
use super::{BoxError, Builder, Change, Connection, Listener, PaceError, PacemakerStats};
use crate::clock::Clock;
use crate::panic::survive;

/// So many entries of the heap may be stale before it is cleaned, beside as many as there are pacemakers.
const STALE_ENTRIES: usize = 64;

/// A beat function, its errors boxed.
type BeatFn = Box<dyn FnMut() -> Result<(), BoxError> + Send>;

/// One thread for many pacemakers, for beat functions that do not take long: they run one after the other. Clones share
/// the thread; it ends with the last clone and the last of its pacemakers.
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
/// drop(pacemakers); // and with them the hearts, so their keys are removed
/// watcher.flush()?;
/// assert_eq!(watcher.len(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Pacer {
    /// The thread, joined with the last handle.
    handle: Arc<Handle>,
}

impl Pacer {
    /// Spawns the thread.
    ///
    /// # Errors
    ///
    /// What the operating system says where it cannot be spawned.
    pub fn spawn() -> io::Result<Self> {
        let core = Arc::new(Core {
            clock: Clock::monotonic(),
            state: Mutex::default(),
            due_changed: Condvar::new(),
            call_ended: Condvar::new(),
        });
        let body = core.clone();
        let thread = thread::Builder::new()
            .name("pacemaker".into())
            .spawn(move || body.run())?;
        Ok(Pacer {
            handle: Arc::new(Handle {
                core,
                id: thread.thread().id(),
                thread: Some(thread),
            }),
        })
    }

    /// Starts a pacemaker with `options` that calls `beat`.
    ///
    /// # Errors
    ///
    /// [`PaceError`] if an option makes no sense.
    pub fn start<F, E>(&self, options: Builder, mut beat: F) -> Result<Pacemaker, PaceError>
    where
        F: FnMut() -> Result<(), E> + Send + 'static,
        E: Into<BoxError>,
    {
        let pace = options.pace()?;
        let rng = options.seed.map_or_else(Rng::new, Rng::with_seed);
        let core = &self.handle.core;
        let shared = Arc::new(Shared {
            has_work: AtomicBool::new(!options.is_idle),
            wants_progress: AtomicBool::new(false),
            progressed: AtomicBool::new(false),
            seen: Mutex::new((Connection::Unknown, PacemakerStats::default())),
        });
        let member = Member {
            rhythm: Rhythm::new(pace, core.clock.now_ns(), rng),
            beat: Box::new(move || beat().map_err(Into::into)),
            on_change: options.on_change,
            shared: shared.clone(),
        };
        Ok(Pacemaker {
            id: core.add(member),
            shared,
            goodbye: options.goodbye,
            handle: self.handle.clone(),
        })
    }
}

impl fmt::Debug for Pacer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pacer")
            .field("pacemakers", &self.handle.core.state.lock().members.len())
            .finish_non_exhaustive()
    }
}

/// Calls a function at an interval; see the [module](super). Stops when it is dropped.
pub struct Pacemaker {
    /// Its number at its thread.
    id: u64,
    /// What it shares with the thread.
    shared: Arc<Shared>,
    /// Called at the end.
    goodbye: Option<Box<dyn FnOnce() + Send>>,
    /// The thread.
    handle: Arc<Handle>,
}

impl Pacemaker {
    /// Options for a beat each `interval`.
    pub fn every(interval: Duration) -> Builder {
        Builder::new(interval)
    }

    /// Options for beats to somebody who waits `timeout` for them: an interval of a third of it. One beat may be lost
    /// without harm; after two in a row, the third comes at the very end of the timeout, and with the jitter and its way may
    /// be late.
    pub fn for_timeout(timeout: Duration) -> Builder {
        Builder::new(timeout / 3)
    }

    /// What it has seen of its peer.
    #[must_use]
    pub fn connection(&self) -> Connection {
        self.shared.seen.lock().0
    }

    /// What it has counted.
    #[must_use]
    pub fn stats(&self) -> PacemakerStats {
        self.shared.seen.lock().1
    }

    /// Beats while `work` runs, at once (unless it did so within the last interval) and then at the interval, and no more
    /// when the work has returned or panicked: the last call has ended by then. From now on this pacemaker beats for work
    /// only; one that is [`idle`](Builder::idle) has not beaten before either.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::pacemaker::Pacemaker;
    ///
    /// let (sender, beats) = crossbeam_channel::unbounded();
    /// let mut pacemaker = Pacemaker::every(Duration::from_millis(1))
    ///     .idle()
    ///     .start(move || sender.send(()))?;
    /// let answer = pacemaker.during(|| beats.iter().take(3).count());
    /// assert_eq!(answer, 3);
    /// let late = beats.len(); // those that were sent before the work had returned
    /// std::thread::sleep(Duration::from_millis(5));
    /// assert_eq!(beats.len(), late);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn during<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let _guard = Guard::begin(self, false);
        work()
    }

    /// As [`during`](Pacemaker::during), but a beat is only made if the work said since the last one that it got on. So a
    /// thread that hangs falls silent.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::pacemaker::Pacemaker;
    ///
    /// let (sender, beats) = crossbeam_channel::unbounded();
    /// let mut pacemaker = Pacemaker::every(Duration::from_millis(1))
    ///     .idle()
    ///     .start(move || sender.send(()))?;
    /// pacemaker.during_progress(|progress| {
    ///     for _ in 0..10 {
    ///         progress.made();
    ///         beats.recv().unwrap();
    ///     }
    /// });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn during_progress<T>(&mut self, work: impl FnOnce(&Progress) -> T) -> T {
        let progress = Progress(self.shared.clone());
        progress.made();
        let _guard = Guard::begin(self, true);
        work(&progress)
    }

    /// Stops it: no call begins any more, one that runs is waited for (unless it is the caller's own), and
    /// [`goodbye`](Builder::goodbye) is called. Dropping does the same.
    pub fn stop(self) {}

    /// Waits until no call of it runs, unless this is its own thread.
    fn wait_for_call(&self) {
        self.handle.core.wait_for_call(self.id, self.handle.id);
    }
}

impl Drop for Pacemaker {
    fn drop(&mut self) {
        drop(self.handle.core.remove(self.id));
        self.wait_for_call();
        if let Some(goodbye) = self.goodbye.take().filter(|_| !thread::panicking()) {
            let _ = survive(goodbye);
        }
    }
}

impl fmt::Debug for Pacemaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pacemaker")
            .field("connection", &self.connection())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// How work says that it gets on; see [`Pacemaker::during_progress`]. Clones speak for the same work.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Shared>);

impl Progress {
    /// The work got on. Costs one atomic store.
    pub fn made(&self) {
        self.0.progressed.store(true, Ordering::Release);
    }
}

/// Lets a pacemaker beat until it is dropped.
struct Guard<'a>(&'a Pacemaker);

impl<'a> Guard<'a> {
    /// Lets `pacemaker` beat, at once.
    fn begin(pacemaker: &'a mut Pacemaker, wants_progress: bool) -> Self {
        let shared = &pacemaker.shared;
        shared
            .wants_progress
            .store(wants_progress, Ordering::Release);
        shared.has_work.store(true, Ordering::Release);
        pacemaker.handle.core.restart(pacemaker.id);
        Guard(pacemaker)
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let shared = &self.0.shared;
        shared.has_work.store(false, Ordering::Release);
        shared.wants_progress.store(false, Ordering::Release);
        self.0.wait_for_call();
    }
}

/// What a pacemaker shares with its thread.
#[derive(Debug)]
struct Shared {
    /// Whether there is anything to beat for.
    has_work: AtomicBool,
    /// Whether a beat needs progress.
    wants_progress: AtomicBool,
    /// Whether there was progress since the last beat.
    progressed: AtomicBool,
    /// What the thread last showed.
    seen: Mutex<(Connection, PacemakerStats)>,
}

/// A pacemaker as its thread has it.
struct Member {
    /// When it is due.
    rhythm: Rhythm,
    /// Called when it is.
    beat: BeatFn,
    /// Told of changes.
    on_change: Option<Listener>,
    /// What it shares with the handle.
    shared: Arc<Shared>,
}

impl Member {
    /// It is due: beats, if there is anything to beat for.
    fn call(&mut self, clock: &Clock) {
        let shared = &self.shared;
        let has_progressed = || {
            !shared.wants_progress.load(Ordering::Acquire)
                || shared.progressed.swap(false, Ordering::AcqRel)
        };
        if shared.has_work.load(Ordering::Acquire) && has_progressed() {
            let outcome =
                survive(&mut self.beat).unwrap_or_else(|| Err("the beat function panicked".into()));
            let changed = self.rhythm.called(clock.now_ns(), outcome.is_ok());
            self.show();
            if let (Some(connection), Some(listener)) = (changed, &mut self.on_change) {
                let error = outcome.err();
                let _ = survive(|| listener(Change { connection, error }));
            }
        } else {
            self.rhythm.withheld(clock.now_ns());
            self.show();
        }
    }

    /// Shows the handle what there is to see.
    fn show(&self) {
        *self.shared.seen.lock() = (self.rhythm.connection(), self.rhythm.stats());
    }
}

/// The thread and its end.
struct Handle {
    /// What is shared with the thread.
    core: Arc<Core>,
    /// The thread's.
    id: ThreadId,
    /// The thread, until it is joined.
    thread: Option<JoinHandle<()>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.state.lock().is_closing = true;
        self.core.due_changed.notify_one();
        // The last handle may go in a beat function; then the thread ends by itself.
        if let Some(thread) = self
            .thread
            .take()
            .filter(|_| self.id != thread::current().id())
        {
            let _ = thread.join();
        }
    }
}

/// What the thread and its handles share.
struct Core {
    /// The time.
    clock: Clock,
    /// The pacemakers.
    state: Mutex<State>,
    /// Told when an earlier call may be due, or the thread is to end.
    due_changed: Condvar,
    /// Told when a call has ended.
    call_ended: Condvar,
}

/// The pacemakers of a thread.
#[derive(Default)]
struct State {
    /// Those that are not out for a call, by number.
    members: HashMap<u64, Member>,
    /// When each is due, ns, and its number. An entry is stale if its member is due at another time, or gone.
    due: BinaryHeap<Reverse<(u64, u64)>>,
    /// The one that is out for its call.
    running: Option<u64>,
    /// What that one has to do afterwards.
    after: After,
    /// The number of the next pacemaker.
    next_id: u64,
    /// Whether the thread is to end.
    is_closing: bool,
}

/// What happens to a pacemaker after the call it is out for.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum After {
    /// It waits for its next.
    #[default]
    GoOn,
    /// It begins anew.
    Restart,
    /// It is no more.
    Retire,
}

impl State {
    /// Puts `member` back among the others.
    fn put(&mut self, id: u64, member: Member) {
        self.due.push(Reverse((member.rhythm.due(), id)));
        self.members.insert(id, member);
        if self.due.len() > 2 * self.members.len() + STALE_ENTRIES {
            let members = &self.members;
            self.due.retain(|Reverse((due, id))| {
                let member = members.get(id);
                member.is_some_and(|member| member.rhythm.due() == *due)
            });
        }
    }
}

impl Core {
    /// Adds a pacemaker, and returns its number.
    fn add(&self, member: Member) -> u64 {
        let mut state = self.state.lock();
        let id = state.next_id;
        state.next_id += 1;
        state.put(id, member);
        drop(state);
        self.due_changed.notify_one();
        id
    }

    /// Lets pacemaker `id` begin anew, now.
    fn restart(&self, id: u64) {
        let mut state = self.state.lock();
        if let Some(mut member) = state.members.remove(&id) {
            member.rhythm.restart(self.clock.now_ns());
            state.put(id, member);
        } else if state.running == Some(id) {
            state.after = After::Restart;
        }
        drop(state);
        self.due_changed.notify_one();
    }

    /// Takes pacemaker `id` out; one that is out for its call does not come back from it.
    fn remove(&self, id: u64) -> Option<Member> {
        let mut state = self.state.lock();
        let member = state.members.remove(&id);
        if state.running == Some(id) {
            state.after = After::Retire;
        }
        member
    }

    /// Ends the call that `member` was out for.
    fn come_back(&self, id: u64, mut member: Member) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        if state.after == After::Retire {
            // What the beat function owns goes before whoever stopped it goes on, and not under the lock.
            drop(state);
            let _ = survive(|| drop(member));
            state = self.state.lock();
        } else {
            if state.after == After::Restart {
                member.rhythm.restart(self.clock.now_ns());
            }
            state.put(id, member);
        }
        state.after = After::GoOn;
        state.running = None;
        self.call_ended.notify_all();
        state
    }

    /// Waits until pacemaker `id` is not out for a call, unless this is the thread, whose id is `own`.
    fn wait_for_call(&self, id: u64, own: ThreadId) {
        let mut state = self.state.lock();
        while state.running == Some(id) && own != thread::current().id() {
            self.call_ended.wait(&mut state);
        }
    }

    /// The thread: calls whoever is due until it is to end.
    fn run(&self) {
        let mut state = self.state.lock();
        while !state.is_closing {
            let now = self.clock.now_ns();
            match state.due.peek() {
                None => self.due_changed.wait(&mut state),
                Some(&Reverse((due, _))) if due > now => {
                    let wait = Duration::from_nanos(due - now);
                    self.due_changed.wait_for(&mut state, wait);
                }
                Some(&Reverse((due, id))) => {
                    state.due.pop();
                    let is_current = |member: &Member| member.rhythm.due() == due;
                    if state.members.get(&id).is_some_and(is_current)
                        && let Some(mut member) = state.members.remove(&id)
                    {
                        state.running = Some(id);
                        drop(state);
                        member.call(&self.clock);
                        state = self.come_back(id, member);
                    }
                }
            }
        }
    }
}
