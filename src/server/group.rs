//! Groups: one thread owns a state, and everybody else sends it closures.
//!
//! State that many threads use is usually put behind a lock, and each user takes care of the order of locks, of what
//! runs under them, and of who waits for whom. A [`Group`] moves the state to a thread of its own instead. A closure
//! that is sent there gets `&mut S`, so the compiler checks what would be discipline with locks: only one thread ever
//! touches the state, and every closure finds it as the one before has left it.
//!
//! ```
//! use std::time::Duration;
//! use liveness::server::Group;
//!
//! #[derive(Default)]
//! struct World {
//!     players: Vec<String>,
//!     ticks: u64,
//! }
//!
//! let world = Group::builder("world").spawn(World::default())?;
//! world.post(|world| world.players.push("ada".to_owned()))?; // does not wait
//! let count = world.call(|world| world.players.len())?; // waits for the result
//! assert_eq!(count, 1);
//!
//! let join = world.event(|world: &mut World, name: &str| world.players.push(name.to_owned()));
//! join.emit("bob")?; // a typed handle, which does not name `World`
//!
//! let timer = world.every(Duration::from_millis(50), |world| world.ticks += 1)?;
//! timer.cancel();
//!
//! let load = || "eve".to_owned(); // blocks on a disk or a network
//! world.slow(load, |world, name| world.players.extend(name))?; // `name` is a `Result`
//!
//! let report = world.stop(Duration::from_secs(5)); // runs what was accepted, and joins the threads
//! let world = report.state.expect("the thread has ended");
//! assert_eq!(world.players, ["ada", "bob", "eve"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Ways in
//!
//! | | waits | for |
//! |---|---|---|
//! | [`post`](Group::post) | no | a closure; returned if the group is full or stopped |
//! | [`post_wait`](Group::post_wait), [`post_timeout`](Group::post_timeout) | for room | a closure |
//! | [`call`](Group::call), [`call_timeout`](Group::call_timeout) | for the result | a closure with a result |
//! | [`event`](Group::event) | no | one kind of value, by a handle that does not name `S` |
//! | [`port`](Group::port) | as its methods say | the same, for senders that may wait for room |
//! | [`chain`](Group::chain) | as a port | values that pass named processors, which can be changed at run time |
//! | [`slow`](Group::slow) | no | work that blocks: it runs on another thread, and its result comes back |
//! | [`after`](Group::after), [`every`](Group::every) | no | a closure at a later time |
//! | [`attach`](Group::attach) | no | items of a channel that belongs to somebody else |
//! | [`Agent::delegate`](super::Agent::delegate) | no | messages of a connection |
//!
//! All but attached receivers and timers go through one inbox, whose [capacity](Builder::capacity) is bounded. Each
//! costs an allocation and a short lock. Agents and results of slow calls do not count for the capacity; they have
//! limits of their own.
//!
//! # Order
//!
//! * What one thread sends runs in the order in which it was sent, whichever ways in it uses.
//! * A timer that is due when a job is accepted runs before that job. Timers that are due at the same time run in the
//!   order in which they were set.
//! * Timers come before the inbox, and the inbox before attached receivers. At most 64 of one kind, or of one receiver,
//!   run in a row while another kind has something, so none is starved.
//! * The result of a slow call takes its place in the inbox when the call has ended.
//!
//! # Waiting
//!
//! A group never waits for itself. On its own thread, [`call`](Group::call) returns
//! [`WouldDeadlock`](CallError::WouldDeadlock), and what would wait for room returns
//! [`WouldDeadlock`](PostErrorKind::WouldDeadlock) if there is none. The same holds for a circle: a group that calls
//! another group, whose closure calls the first one, gets the error too, however many groups the circle has. Waits by
//! other means, such as channels, are not seen.
//!
//! # Panics
//!
//! A panic of a closure is caught, counted, and logged with the feature `log`. A caller that waits for it gets
//! [`Panicked`](CallError::Panicked). Then the group goes on or stops, as [`OnPanic`] says. A slow call that panics
//! reports the text to its callback.
//!
//! # Stop
//!
//! [`stop`](Group::stop) refuses whatever comes after it, drops the timers, runs what was accepted, waits for slow
//! calls and their results, and ends the threads. At its deadline, the rest is discarded: callers that wait get
//! [`Stopped`](CallError::Stopped). A thread that does not return from user code is reported by name. `stop` is sticky,
//! may be called several times and from every thread, and returns the state.
//!
//! Clones of a group are handles on it. Dropping the last one stops the group like `stop` with one second. A closure
//! inside the group that owns a handle keeps the group alive; use [`downgrade`](Group::downgrade) there. Events, ports,
//! chains, timers and attachments do not keep it alive.
//!
//! # A group that is blocked
//!
//! A closure that blocks holds up everything else in its group. [`busy`](Group::busy) returns since when the current
//! closure has been running, and where it came from, without asking the thread. To get a report, let a timer beat a
//! [`Heart`](crate::Heart): a blocked thread calls no timers, so a watcher reports it as silent.
//!
//! ```
//! use std::time::Duration;
//! use liveness::{EventKind, Watcher, server::Group};
//!
//! let (watcher, events) = Watcher::<&str>::builder()
//!     .timeout(Duration::from_millis(100))
//!     .events([EventKind::Expired])
//!     .build_with_channel(16)?;
//! let world = Group::builder("world").spawn(())?;
//! let heart = watcher.watch("world")?;
//! world.every(Duration::from_millis(10), move |()| {
//!     let _ = heart.beat(); // an error once it was reported
//! })?;
//! world.post(|()| std::thread::sleep(Duration::from_millis(500)))?;
//! assert_eq!(events.recv()?.key(), Some(&"world"));
//! assert!(world.busy().is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod attach;
mod builder;
mod chain;
mod deadlock;
mod error;
mod gate;
mod pool;
mod port;
mod reply;
mod settings;
mod shared;
mod slow;
mod sources;
mod stats;
mod stop;
mod stopping;
mod timers;
mod timing;
mod work;
mod worker;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::Receiver;

pub use attach::Attachment;
pub use builder::Builder;
pub use chain::Chain;
pub use error::{CallError, ChainError, Panicked, PostError, PostErrorKind, SpawnError};
pub(crate) use gate::Gate;
pub use port::{Event, Port};
pub use settings::OnPanic;
pub use stats::{Busy, GroupStats};
pub use stop::Report;
pub use timing::Timer;
pub use work::Kind;

use port::Entrance;
use shared::{Patience, Shared};
use work::Once;

/// How long the drop of the last handle waits for what was accepted.
const DROP_WITHIN: Duration = Duration::from_secs(1);

/// A thread that owns a state of type `S`. See the [module](self) for an introduction.
///
/// Clones are handles on the same group. Dropping the last handle stops the group like [`stop`](Group::stop) with a
/// `within` of one second, so it may block for that long; on the group's own thread it does not block.
pub struct Group<S> {
    /// Stops the group when the last handle is dropped.
    handle: Arc<Handle<S>>,
}

/// Stops the group when it is dropped.
struct Handle<S> {
    /// The state that callers and threads share.
    shared: Arc<Shared<S>>,
}

impl<S> Drop for Handle<S> {
    fn drop(&mut self) {
        self.shared.abandon(DROP_WITHIN);
    }
}

impl<S> Group<S> {
    /// Creates the first handle.
    fn new(shared: Arc<Shared<S>>) -> Self {
        Group {
            handle: Arc::new(Handle { shared }),
        }
    }

    /// The state that callers and threads share.
    fn shared(&self) -> &Shared<S> {
        &self.handle.shared
    }

    /// Returns the name of the group.
    ///
    /// ```
    /// # use liveness::server::Group;
    /// assert_eq!(Group::builder("world").spawn(())?.name(), "world");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared().settings.name
    }

    /// Returns whether the caller runs on the group's thread.
    ///
    /// ```
    /// # use liveness::server::Group;
    /// let world = Group::builder("world").spawn(())?;
    /// let inside = world.clone();
    /// assert!(!world.is_current());
    /// assert!(world.call(move |()| inside.is_current())?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_current(&self) -> bool {
        deadlock::is_current(self.shared().id)
    }

    /// Returns whether the group is stopped: by [`stop`](Group::stop) or after a panic.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::server::Group;
    /// let world = Group::builder("world").spawn(())?;
    /// assert!(!world.is_stopped());
    /// drop(world.stop(Duration::from_secs(1)));
    /// assert!(world.is_stopped());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.shared().state.lock().stopping.is_stopped
    }

    /// Returns a handle that does not keep the group alive.
    ///
    /// ```
    /// # use liveness::server::Group;
    /// let world = Group::builder("world").spawn(0)?;
    /// let weak = world.downgrade();
    /// world.post(move |_| {
    ///     if let Some(world) = weak.upgrade() {
    ///         let _ = world.post(|n| *n += 1); // runs after this closure
    ///     }
    /// })?;
    /// world.call(|_| ())?; // after the first closure
    /// assert_eq!(world.call(|n| *n)?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn downgrade(&self) -> WeakGroup<S> {
        WeakGroup {
            handle: Arc::downgrade(&self.handle),
        }
    }

    /// Stops the group, and blocks for at most about `within` until its threads have ended.
    ///
    /// Nothing is accepted from now on, and timers are dropped. Jobs that were accepted run, receivers that are
    /// attached are emptied of what they hold at this moment, and slow calls and their callbacks run. What has not run
    /// after `within` is discarded. The threads are joined. A thread that does not return from user code within another
    /// 100 ms is reported by name, and ends when it returns.
    ///
    /// On a thread of the group, or of a group for which this one waits, the call does not block, and the group stops
    /// after the current closure. A second call waits again, and can only shorten the first one's time. See [`Report`]
    /// for an example.
    pub fn stop(&self, within: Duration) -> Report<S> {
        self.shared().stop(within)
    }
}

impl<S: Send + 'static> Group<S> {
    /// Accepts a closure, without waiting. It runs once, on the group's thread. Costs an allocation and a lock.
    ///
    /// # Errors
    ///
    /// Returns the closure with [`Full`](PostErrorKind::Full) or [`Stopped`](PostErrorKind::Stopped).
    ///
    /// ```
    /// # use liveness::server::Group;
    /// let world = Group::builder("world").spawn(0)?;
    /// world.post(|n| *n += 1)?;
    /// assert_eq!(world.call(|n| *n)?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn post<F>(&self, code: F) -> Result<(), PostError<F>>
    where
        F: FnOnce(&mut S) + Send + 'static,
    {
        self.post_patiently(code, Patience::None)
    }

    /// Accepts a closure like [`post`](Group::post), and blocks until the inbox has room for it.
    ///
    /// # Errors
    ///
    /// Returns the closure with [`Stopped`](PostErrorKind::Stopped), or with
    /// [`WouldDeadlock`](PostErrorKind::WouldDeadlock) if the wait would not end.
    ///
    /// ```
    /// # use liveness::server::Group;
    /// let sum = Group::builder("sum").capacity(1).spawn(0)?;
    /// for n in 1..=100 {
    ///     sum.post_wait(move |sum| *sum += n)?;
    /// }
    /// assert_eq!(sum.call(|sum| *sum)?, 5_050);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn post_wait<F>(&self, code: F) -> Result<(), PostError<F>>
    where
        F: FnOnce(&mut S) + Send + 'static,
    {
        self.post_patiently(code, Patience::Until(None))
    }

    /// Accepts a closure like [`post`](Group::post), and blocks for at most `timeout` until the inbox has room for it.
    ///
    /// # Errors
    ///
    /// Returns the closure with [`Full`](PostErrorKind::Full) if there was no room in time, and the errors of
    /// [`post_wait`](Group::post_wait).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::server::Group;
    /// let world = Group::builder("world").spawn(0)?;
    /// world.post_timeout(|n| *n += 1, Duration::from_secs(5))?;
    /// assert_eq!(world.call(|n| *n)?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn post_timeout<F>(&self, code: F, timeout: Duration) -> Result<(), PostError<F>>
    where
        F: FnOnce(&mut S) + Send + 'static,
    {
        self.post_patiently(code, Patience::of(timeout))
    }

    /// Accepts a closure.
    fn post_patiently<F>(&self, code: F, patience: Patience) -> Result<(), PostError<F>>
    where
        F: FnOnce(&mut S) + Send + 'static,
    {
        let pushed = self.shared().push(Kind::Post, Once::new(code), patience);
        pushed.map_err(|(kind, once)| PostError::new(kind, once.into_code()))
    }

    /// Runs a closure on the group's thread, and blocks until it has returned. Returns its result.
    ///
    /// Everything that the caller sent before has run then.
    ///
    /// # Errors
    ///
    /// Returns a [`CallError`] if the wait would not end, the group is stopped, or the closure panicked.
    ///
    /// ```
    /// use liveness::server::{Group, group::CallError};
    ///
    /// let world = Group::builder("world").spawn(vec![3, 1, 2])?;
    /// assert_eq!(world.call(|list| list.iter().sum::<u32>())?, 6);
    ///
    /// let inside = world.clone();
    /// let result = world.call(move |_| inside.call(|list| list.len()))?;
    /// assert_eq!(result, Err(CallError::WouldDeadlock));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn call<T, F>(&self, code: F) -> Result<T, CallError>
    where
        T: Send + 'static,
        F: FnOnce(&mut S) -> T + Send + 'static,
    {
        self.shared().call(code, Patience::Until(None))
    }

    /// Runs a closure like [`call`](Group::call), and blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::NotStarted`] if the closure did not start in time, and then it never runs. Returns
    /// [`CallError::Unfinished`] if it started and did not return in time. Returns the errors of [`call`](Group::call).
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::server::{Group, group::CallError};
    ///
    /// let world = Group::builder("world").spawn(7)?;
    /// let slow = |_: &mut u32| std::thread::sleep(Duration::from_millis(200));
    /// world.post(slow)?;
    /// let late = world.call_timeout(|n| *n += 1, Duration::from_millis(1));
    /// assert_eq!(late, Err(CallError::NotStarted));
    /// assert_eq!(world.call_timeout(|n| *n, Duration::from_secs(60))?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn call_timeout<T, F>(&self, code: F, timeout: Duration) -> Result<T, CallError>
    where
        T: Send + 'static,
        F: FnOnce(&mut S) -> T + Send + 'static,
    {
        self.shared().call(code, Patience::of(timeout))
    }

    /// Runs `work`, which may block, on a thread for slow calls, and passes its result to `then` on the group's thread.
    /// Does not wait.
    ///
    /// `then` gets [`Panicked`] if `work` panicked. It is called exactly once, unless a stop discards it. Slow calls
    /// start in the order in which they were accepted, and each holds a place of
    /// [`slow_capacity`](Builder::slow_capacity) until `then` has returned.
    ///
    /// # Errors
    ///
    /// Returns both closures with [`Full`](PostErrorKind::Full) or [`Stopped`](PostErrorKind::Stopped), or with
    /// [`NoThread`](PostErrorKind::NoThread) if the operating system spawns no thread.
    ///
    /// ```
    /// use std::{sync::mpsc::channel, thread};
    /// use liveness::server::{Group, group::Panicked};
    ///
    /// let world = Group::builder("world").slow_threads(2).spawn(String::new())?;
    /// let (send, sent) = channel();
    /// let load = || thread::current().name().map(str::to_owned);
    /// world.slow(load, move |_, name: Result<_, Panicked>| drop(send.send(name)))?;
    /// assert_eq!(sent.recv()??.as_deref(), Some("world-slow-0"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn slow<T, W, F>(&self, work: W, then: F) -> Result<(), PostError<(W, F)>>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
        F: FnOnce(&mut S, Result<T, Panicked>) + Send + 'static,
    {
        self.shared().slow(work, then)
    }

    /// Calls a closure after `delay`, on the group's thread. A delay beyond what the clock can represent never comes.
    /// Costs O(log n) in the number of timers.
    ///
    /// # Errors
    ///
    /// Returns the closure with [`Full`](PostErrorKind::Full) or [`Stopped`](PostErrorKind::Stopped).
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::{ManualClock, server::Group};
    ///
    /// let clock = ManualClock::new();
    /// let world = Group::builder("world").clock(clock.clone()).spawn(0)?;
    /// world.after(Duration::from_secs(5), |n| *n += 1)?;
    /// clock.advance(Duration::from_secs(4));
    /// assert_eq!(world.call(|n| *n)?, 0);
    /// clock.advance(Duration::from_secs(1));
    /// assert_eq!(world.call(|n| *n)?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn after<F>(&self, delay: Duration, code: F) -> Result<Timer, PostError<F>>
    where
        F: FnOnce(&mut S) + Send + 'static,
    {
        self.shared().after(delay, code)
    }

    /// Calls a closure each `interval`, on the group's thread, for the first time after one interval. An interval of
    /// zero is one of a nanosecond.
    ///
    /// The times are multiples of the interval from now, however long the calls take. If the group is late by more than
    /// an interval, it skips the calls that it missed, and counts them.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`after`](Group::after).
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::{ManualClock, server::Group};
    ///
    /// let clock = ManualClock::new();
    /// let world = Group::builder("world").clock(clock.clone()).spawn(0)?;
    /// let timer = world.every(Duration::from_secs(5), |n| *n += 1)?;
    /// clock.advance(Duration::from_secs(5));
    /// assert_eq!(world.call(|n| *n)?, 1);
    /// clock.advance(Duration::from_secs(17)); // three intervals: one call, two skipped
    /// assert_eq!(world.call(|n| *n)?, 2);
    /// assert_eq!(world.stats().skipped_ticks, 2);
    /// assert!(timer.cancel());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn every<F>(&self, interval: Duration, code: F) -> Result<Timer, PostError<F>>
    where
        F: FnMut(&mut S) + Send + 'static,
    {
        self.shared().every(interval, code)
    }

    /// Calls a closure each `interval` like [`every`](Group::every), as long as it returns `true`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`after`](Group::after).
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::{ManualClock, server::Group};
    ///
    /// let clock = ManualClock::new();
    /// let world = Group::builder("world").clock(clock.clone()).spawn(3)?;
    /// let timer = world.every_while(Duration::from_secs(1), |left| {
    ///     *left -= 1;
    ///     *left > 0
    /// })?;
    /// for left in [2, 1, 0, 0] {
    ///     clock.advance(Duration::from_secs(1));
    ///     assert_eq!(world.call(|left| *left)?, left);
    /// }
    /// assert!(!timer.is_pending());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn every_while<F>(&self, interval: Duration, code: F) -> Result<Timer, PostError<F>>
    where
        F: FnMut(&mut S) -> bool + Send + 'static,
    {
        self.shared().every_while(interval, code)
    }

    /// Creates a kind of event with its handler. See [`Event`] for an example.
    #[must_use]
    pub fn event<T, F>(&self, handle: F) -> Event<T>
    where
        T: Send + 'static,
        F: Fn(&mut S, T) + Send + Sync + 'static,
    {
        let shared = self.handle.shared.clone();
        Event::new(Entrance::new(shared, Kind::Message, handle))
    }

    /// Creates a sender of values with their handler. See [`Port`] for an example.
    #[must_use]
    pub fn port<T, F>(&self, handle: F) -> Port<T>
    where
        T: Send + 'static,
        F: Fn(&mut S, T) + Send + Sync + 'static,
    {
        let shared = self.handle.shared.clone();
        Port::new(Entrance::new(shared, Kind::Message, handle))
    }

    /// Creates a way in for turns of agents.
    pub(crate) fn gate(&self) -> Gate<S> {
        Gate::new(self.handle.shared.clone())
    }

    /// Creates a chain of processors for messages of type `M`, without processors. See [`Chain`] for an example.
    #[must_use]
    pub fn chain<M: Send + 'static>(&self) -> Chain<S, M> {
        Chain::new(self.handle.shared.clone())
    }

    /// Passes the items of a foreign channel to `handle`, on the group's thread. Does not wait, and may be called
    /// there.
    ///
    /// At most 32 receivers may be attached, because each look at them and each sleep costs O(n). Where the senders can
    /// be changed, a [`port`](Group::port) costs less and has no such limit. A receiver that is disconnected is
    /// detached once it is empty.
    ///
    /// # Errors
    ///
    /// Returns the receiver and the handler with [`Full`](PostErrorKind::Full) or [`Stopped`](PostErrorKind::Stopped).
    ///
    /// ```
    /// use crossbeam_channel::bounded;
    /// use liveness::server::Group;
    ///
    /// let world = Group::builder("world").spawn(0)?;
    /// let (numbers, receiver) = bounded(16);
    /// let (done, is_done) = bounded(1);
    /// world.attach(receiver, move |sum, n: u32| {
    ///     *sum += n;
    ///     if n == 0 {
    ///         let _ = done.send(*sum);
    ///     }
    /// })?;
    /// for n in [1, 2, 3, 0] {
    ///     numbers.send(n)?;
    /// }
    /// assert_eq!(is_done.recv()?, 6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn attach<T, F>(
        &self,
        receiver: Receiver<T>,
        handle: F,
    ) -> Result<Attachment, PostError<(Receiver<T>, F)>>
    where
        T: Send + 'static,
        F: FnMut(&mut S, T) + Send + 'static,
    {
        self.shared().attach(receiver, handle)
    }

    /// Returns the statistics, exact at the moment of the call. Costs a lock and two copies of histograms. See
    /// [`GroupStats`] for an example.
    #[must_use]
    pub fn stats(&self) -> GroupStats {
        self.shared().stats()
    }

    /// Returns the call of user code that the group's thread is in, or `None` if it is in none. Costs a lock, and never
    /// waits for the thread.
    ///
    /// ```
    /// # use std::{sync::mpsc::channel, time::Duration};
    /// use liveness::{ManualClock, server::{Group, group::Kind}};
    ///
    /// let clock = ManualClock::new();
    /// let world = Group::builder("world").clock(clock.clone()).spawn(())?;
    /// let ((started, starts), (end, ended)) = (channel(), channel());
    /// world.post(move |()| {
    ///     let _ = started.send(());
    ///     let _ = ended.recv();
    /// })?;
    /// starts.recv()?;
    /// clock.advance(Duration::from_secs(3));
    /// let busy = world.busy().expect("the closure runs");
    /// assert_eq!((busy.kind, busy.duration), (Kind::Post, Duration::from_secs(3)));
    /// end.send(())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn busy(&self) -> Option<Busy> {
        self.shared().busy()
    }
}

impl<S> Clone for Group<S> {
    fn clone(&self) -> Self {
        Group {
            handle: self.handle.clone(),
        }
    }
}

impl<S> fmt::Debug for Group<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

/// A handle that does not keep a [`Group`] alive, returned by [`Group::downgrade`].
pub struct WeakGroup<S> {
    /// The handle, while there is one.
    handle: Weak<Handle<S>>,
}

impl<S> WeakGroup<S> {
    /// Returns a handle on the group, or `None` if the last one was dropped.
    ///
    /// ```
    /// # use liveness::server::Group;
    /// let world = Group::builder("world").spawn(())?;
    /// let weak = world.downgrade();
    /// assert!(weak.upgrade().is_some());
    /// drop(world);
    /// assert!(weak.upgrade().is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn upgrade(&self) -> Option<Group<S>> {
        let handle = self.handle.upgrade()?;
        Some(Group { handle })
    }
}

impl<S> Clone for WeakGroup<S> {
    fn clone(&self) -> Self {
        WeakGroup {
            handle: self.handle.clone(),
        }
    }
}

impl<S> fmt::Debug for WeakGroup<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakGroup").finish_non_exhaustive()
    }
}
