//! The options of a group: defaults, units and validation.

use std::fmt;
use std::marker::PhantomData;

use super::Group;
use super::error::SpawnError;
use super::settings::{OnPanic, Settings};
use super::shared::Shared;
use super::worker::Worker;
use crate::clock::Clock;
use crate::sync::thread;

/// Options for a [`Group`], created by [`Group::builder`].
///
/// Setters never fail; [`spawn`](Builder::spawn) returns an error that names the invalid option.
///
/// ```
/// use std::num::NonZeroU32;
/// use liveness::server::{Group, group::OnPanic};
///
/// let ten = NonZeroU32::new(10).expect("it is not zero");
/// let world = Group::builder("world")
///     .capacity(4_096)
///     .slow_threads(8)
///     .on_panic(OnPanic::StopAfter(ten))
///     .spawn(String::from("the state"))?;
/// assert_eq!(world.call(|state| state.len())?, 9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub struct Builder<S> {
    /// The options.
    settings: Settings,
    /// The type of the state, which is inferred from `spawn`.
    state: PhantomData<fn(S)>,
}

impl<S> Group<S> {
    /// Returns the options for a new group, with default values. Its threads are named `name`, and `name-slow-0` and so
    /// on.
    pub fn builder(name: impl Into<String>) -> Builder<S> {
        Builder {
            settings: Settings::new(name.into()),
            state: PhantomData,
        }
    }
}

impl<S> Builder<S> {
    /// Sets how many jobs may wait in the inbox, from 1 to 1,048,576. Default: 1,024. The limit is strict; only results
    /// of slow calls, which have a limit of their own, do not count. Each job takes an allocation and 24 bytes.
    pub fn capacity(mut self, jobs: usize) -> Self {
        self.settings.capacity = jobs;
        self
    }

    /// Sets the maximum number of threads for slow calls, from 1 to 1,024. Default: 4. A thread is spawned when a slow
    /// call finds none idle, so a group without slow calls has none.
    pub fn slow_threads(mut self, threads: usize) -> Self {
        self.settings.slow_threads = threads;
        self
    }

    /// Sets how many slow calls may be unfinished, from 1 to 1,048,576. Default: 1,024. A slow call is unfinished until
    /// its callback has returned.
    pub fn slow_capacity(mut self, calls: usize) -> Self {
        self.settings.slow_capacity = calls;
        self
    }

    /// Sets how many timers may be pending, from 1 to 1,048,576. Default: 65,536.
    pub fn max_timers(mut self, timers: usize) -> Self {
        self.settings.max_timers = timers;
        self
    }

    /// Sets what happens after a panic of a closure on the group's thread. Default: [`OnPanic::Continue`].
    pub fn on_panic(mut self, on_panic: OnPanic) -> Self {
        self.settings.on_panic = on_panic;
        self
    }

    /// Sets the time source of timers. Default: a monotonic clock. With a [`ManualClock`](crate::ManualClock), a timer
    /// is called as soon as the clock is moved to its due time, and before any job that is accepted after that.
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.settings.clock = Some(clock.into());
        self
    }
}

impl<S: Send + 'static> Builder<S> {
    /// Spawns the thread, and moves `state` to it.
    ///
    /// # Errors
    ///
    /// Returns [`SpawnError::Option`] if an option is out of range, or [`SpawnError::Thread`] if the operating system
    /// cannot spawn the thread. The state is dropped.
    pub fn spawn(self, state: S) -> Result<Group<S>, SpawnError> {
        self.settings.check()?;
        let shared = Shared::new(self.settings);
        let name = shared.settings.name.clone();
        // The lock is held until the thread is known to those who wait for its end.
        let mut locked = shared.state.lock();
        let body = {
            let shared = shared.clone();
            move || Worker::run(shared, state)
        };
        let thread = thread::Builder::new().name(name.clone()).spawn(body);
        locked
            .stopping
            .add(name, thread.map_err(SpawnError::Thread)?);
        drop(locked);
        Ok(Group::new(shared))
    }
}

impl<S> fmt::Debug for Builder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Builder").field(&self.settings).finish()
    }
}
