//! A list of the nodes that may receive traffic, kept by beats and read without a lock.
//!
//! Nodes are [registered](Registry::register), [beat](Registry::beat) and [leave](Registry::leave). A node that falls silent
//! goes down and is no longer listed; one that beats again comes back. Readers take the list as of now, an immutable
//! [`Available`], without blocking, and pick from it:
//!
//! ```
//! use std::net::SocketAddr;
//! use std::time::Duration;
//! use liveness::ManualClock;
//! use liveness::registry::{Policy, Registry};
//!
//! let clock = ManualClock::new(); // in a test; else leave it out
//! let registry = Registry::<&str, SocketAddr>::builder()
//!     .policy(Policy::Fixed(Duration::from_secs(5)))
//!     .clock(clock.clone())
//!     .build()?;
//! registry.register("web-1", "10.0.0.1:80".parse()?)?;
//! registry.register("web-2", "10.0.0.2:80".parse()?)?;
//! registry.beat(&"web-1")?;
//! registry.beat(&"web-2")?;
//! assert_eq!(registry.available().len(), 2);
//!
//! clock.advance(Duration::from_secs(3));
//! registry.beat(&"web-1")?;
//! clock.advance(Duration::from_secs(2));
//! registry.flush()?;
//! let list = registry.available();
//! let picked = list.round_robin().expect("one is left");
//! assert_eq!(*picked.id(), "web-1");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Which of the two?
//!
//! A [`Watcher`] reports which *key* fell silent; a registry knows which *nodes are online*. Take the watcher where silence
//! calls for an action and nobody asks for a list: close the connection, requeue the job, raise an alarm. It keeps nothing
//! but the key and its deadline, and a beat costs tens of nanoseconds. Take the registry where somebody asks who is there:
//! it keeps data, state and weight of each node, has a list to pick from, tells subscribers of each change, and does not
//! empty the list when it is likely that the registry itself is deaf. A beat costs a short lock on top of the watcher's.
//!
//! Take a gateway for devices. To drop the sessions of devices that fell silent, watch the device ids with a watcher. To
//! show which devices are online, or to route commands to them, register the devices:
//!
//! ```
//! use std::net::SocketAddr;
//! use std::time::Duration;
//! use liveness::registry::{Policy, Registry};
//!
//! let devices = Registry::<u64, SocketAddr>::builder()
//!     .policy(Policy::Fixed(Duration::from_secs(90)))
//!     .mass_death_guard(None) // devices may fall silent together
//!     .build()?;
//!
//! // A connection begins; the thread that serves it keeps `connection`.
//! let connection = devices.register(7, "10.0.0.7:4000".parse()?)?;
//! // With each message:
//! devices.beat_as(&7, connection)?;
//! // A command for the device:
//! let route = devices.status(&7).filter(|status| status.is_listed());
//! assert!(route.is_some_and(|status| status.node.data().port() == 4000));
//! // The connection ends. If the device has connected again meanwhile, it stays listed.
//! devices.leave_as(&7, connection)?;
//! assert!(devices.available().is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A gateway for datagrams needs one call:
//! [`beat_or_register_with`](Registry::beat_or_register_with).
//!
//! # States
//!
//! A node is [`Joining`](State::Joining) until it has made [`rise`](Builder::rise) beats in a row, then [`Up`](State::Up). It
//! is [`Suspect`](State::Suspect) from the first timeout that it misses, [`Down`](State::Down) when it has missed
//! [`fall`](Builder::fall) in a row, and [`Left`](State::Left) when it said goodbye. Nodes that are up or suspect are listed.
//! A node that is down comes back by `rise` beats, a suspect one by a single beat. A node that is down or has left for
//! [`forget_after`](Builder::forget_after) is forgotten. An operator may [`drain`](Registry::drain) a node: it is watched but
//! not listed, whatever its state.
//!
//! A node that starts again is registered again. An [`Incarnation`] tells its lives apart, so that late messages of the old
//! process do nothing to the new one.
//!
//! # When many nodes fall silent at once
//!
//! Then it is likely that the registry does not hear them. A [`Guard`] keeps the list as it is. [`FlapDamping`] keeps out
//! nodes that go up and down, and a [slow start](Builder::slow_start) lets the weight of a node that comes back grow.
//!
//! # Updates
//!
//! [`subscribe`](Registry::subscribe) returns a picture of the whole fleet and every [`Update`] since, without a gap between
//! the two.

mod available;
mod error;
mod feed;
mod fleet;
mod incarnation;
mod options;
mod policy;
#[cfg(feature = "serde")]
mod saved;
mod stats;
mod update;

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::ops::Deref;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard as Loaded};
use parking_lot::Mutex;

use crate::clock::{Clock, Timestamp};
use crate::event::{Event, EventKind};
use crate::feed::Feed;
use crate::options::{Mode, Options};
use crate::watcher::Watcher;
pub use available::{Available, Node, Nodes};
pub use error::{RegisterError, RegistryError};

pub use feed::{IntoIter, Iter, Subscription, TryIter, Updates};
use fleet::{Keeper, Order, Watched};
pub use incarnation::Incarnation;
pub use options::{Builder, FlapDamping, Guard, NodeOptions};
pub use policy::{PhiAccrual, Policy};
#[cfg(feature = "serde")]
pub use saved::Saved;
pub use stats::RegistryStats;
pub use update::{Change, Fleet, Gap, GuardChange, NodeStatus, State, Transition, Update, Vitals};

/// Keeps the nodes that may receive traffic; see the [module](self).
///
/// Shared by reference or in an [`Arc`]; every method takes `&self`. Built by a [`Builder`]. Dropping it closes it, which
/// blocks until the worker thread has ended.
///
/// An id is cloned when its node is registered and for each [`Fleet`]. Data is not cloned by any of this.
pub struct Registry<N, D> {
    /// What is shared with the worker.
    shared: Arc<Shared<N, D>>,
}

/// What the callers and the worker share.
struct Shared<N, D> {
    /// The fleet and those who are told of it. Held neither while a message waits for room in the watcher's inbox, nor
    /// while code of the user's runs, but for `Eq`, `Hash` and `Clone` of ids and the `Clone` of data that is saved. None of
    /// these is called halfway through a change, so that one that panics leaves everything as it was.
    state: Mutex<Inner<N, D>>,
    /// The list that readers get.
    available: ArcSwap<Available<N, D>>,
    /// Reports silence, and that a time has come.
    watcher: Watcher<Watched>,
}

/// The part of a registry under its lock.
struct Inner<N, D> {
    /// All nodes.
    keeper: Keeper<N, D>,
    /// Those who are told.
    feed: Feed<Update<N, D>>,
    /// Whether the registry is closed.
    is_closed: bool,
}

/// The list as of one moment; returned by [`Registry::available`]. It is meant for a few picks: to keep the list for longer,
/// take it with [`to_arc`](Current::to_arc).
pub struct Current<N, D>(Loaded<Arc<Available<N, D>>>);

impl<N, D> Builder<N, D>
where
    N: Eq + Hash + Clone + Send + Sync + 'static,
    D: Send + Sync + 'static,
{
    /// Starts the registry's worker thread.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] names the option that makes no sense. Otherwise it says that the thread could not be spawned, or that
    /// what is to be restored has more nodes than [`max_nodes`](Builder::max_nodes) or a policy that makes no sense.
    pub fn build(self) -> Result<Registry<N, D>, RegistryError> {
        self.config.check()?;
        Registry::start(self)
    }
}

impl<N, D> Registry<N, D>
where
    N: Eq + Hash + Clone + Send + Sync + 'static,
    D: Send + Sync + 'static,
{
    /// Returns the options of a new registry, to be set and built.
    pub fn builder() -> Builder<N, D> {
        Builder::new()
    }

    /// Starts the registry that `options` describe.
    fn start(options: Builder<N, D>) -> Result<Self, RegistryError> {
        // The worker may report before there is anything to report to; then there is nothing to report.
        let link: Arc<OnceLock<Weak<Shared<N, D>>>> = Arc::default();
        let way = link.clone();
        let builder = Watcher::<Watched>::builder()
            .workers(1)
            .thread_name(options.thread_name)
            .stall_threshold(stall_threshold(&options.config.policy))
            .events([EventKind::Expired, EventKind::Stalled])
            .on_event_in_worker(move |event| {
                if let Some(shared) = way.get().and_then(Weak::upgrade) {
                    shared.heed(&event);
                }
            });
        let builder = match options.clock {
            Some(clock) => builder.clock(clock),
            None => builder,
        };
        let watcher = builder.build().map_err(RegistryError::Watcher)?;
        let keeper = Keeper::new(options.config);
        let list = Arc::new(keeper.list());
        let shared = Arc::new(Shared {
            state: Mutex::new(Inner {
                keeper,
                feed: Feed::new(),
                is_closed: false,
            }),
            available: ArcSwap::new(list),
            watcher,
        });
        let _ = link.set(Arc::downgrade(&shared));
        let registry = Registry { shared };
        #[cfg(feature = "serde")]
        if let Some((saved, grace)) = options.saved {
            registry
                .shared
                .act(|keeper, now| keeper.restore(saved, grace, now))??;
        }
        Ok(registry)
    }

    /// Makes the node `id` known, with `data` that comes back from picks, and returns which life of the node this is.
    ///
    /// The node is [`Joining`](State::Joining) until it beats. A node that is known gets the new data and options, and keeps
    /// its state: registering is no sign of life, and does not end a silence. A node that has left begins anew.
    ///
    /// # Errors
    ///
    /// [`Full`](RegistryError::Full) and [`Closed`](RegistryError::Closed). Id and data come back.
    ///
    /// ```
    /// use liveness::registry::Registry;
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// registry.register(7, "rack 4")?;
    /// assert_eq!(registry.stats().joining, 1);
    /// registry.register(7, "rack 5")?; // it has moved
    /// assert_eq!(registry.status(&7).map(|it| *it.node.data()), Some("rack 5"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn register(&self, id: N, data: D) -> Result<Incarnation, RegisterError<N, D>> {
        self.register_with(id, data, NodeOptions::new())
    }

    /// As [`register`](Registry::register), with options of the node's own.
    ///
    /// # Errors
    ///
    /// Those of `register`; [`Option`](RegistryError::Option) if the policy makes no sense; and if the options name an
    /// [incarnation](NodeOptions::incarnation), [`Superseded`](RegistryError::Superseded) if the node was registered as a
    /// newer one, and [`Left`](RegistryError::Left) if this one has left. Id and data come back.
    ///
    /// ```
    /// use liveness::registry::{NodeOptions, Registry};
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// registry.register(7, "rack 4")?;
    /// registry.register_with(8, "rack 4", NodeOptions::new().weight(50))?;
    /// assert_eq!(registry.status(&8).map(|it| it.node.weight()), Some(50));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn register_with(
        &self,
        id: N,
        data: D,
        options: NodeOptions,
    ) -> Result<Incarnation, RegisterError<N, D>> {
        let mut incarnation = options.incarnation.unwrap_or(Incarnation::new(0));
        let mut node = Some((id, data));
        let result = self.shared.act(|keeper, now| match node.take() {
            Some((id, data)) => {
                let registered = keeper.register(id, data, &options, now);
                registered.map(|it| incarnation = it)
            }
            None => Ok(()),
        });
        match (result, node) {
            (Ok(result), _) => result.map(|()| incarnation),
            (Err(error), Some((id, data))) => Err(RegisterError { error, id, data }),
            // Known, and never to be watched: the worker has failed meanwhile.
            (Err(_), None) => Ok(incarnation),
        }
    }

    /// Counts a sign of life of the node `id`, whichever life of it: where messages may be late, use
    /// [`beat_as`](Registry::beat_as).
    ///
    /// Costs a short lock, a look-up, two clock readings and a beat of a [`Watcher`].
    ///
    /// # Errors
    ///
    /// [`Unknown`](RegistryError::Unknown), [`Left`](RegistryError::Left) and [`Closed`](RegistryError::Closed).
    ///
    /// ```
    /// use liveness::registry::Registry;
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// registry.register(7, "rack 4")?;
    /// registry.beat(&7)?;
    /// assert_eq!(registry.available().len(), 1);
    /// assert!(registry.beat(&8).is_err()); // never registered
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn beat<Q>(&self, id: &Q) -> Result<(), RegistryError>
    where
        N: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.beat_of(id, None)
    }

    /// Counts a sign of life of one [incarnation](Incarnation) of the node `id`.
    ///
    /// # Errors
    ///
    /// Those of [`beat`](Registry::beat), and [`Superseded`](RegistryError::Superseded) if the node was registered again
    /// since. [`Unknown`](RegistryError::Unknown) also if this incarnation is newer than the one that is registered: register
    /// it first.
    ///
    /// ```
    /// use liveness::registry::{NodeOptions, Registry};
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// registry.register_with(7, "rack 4", NodeOptions::new().incarnation(2))?;
    /// assert!(registry.beat_as(&7, 1).is_err()); // of the process before
    /// registry.beat_as(&7, 2)?;
    /// assert_eq!(registry.available().len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn beat_as<Q>(
        &self,
        id: &Q,
        incarnation: impl Into<Incarnation>,
    ) -> Result<(), RegistryError>
    where
        N: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.beat_of(id, Some(incarnation.into()))
    }

    /// Counts a sign of life, of one incarnation if it is named.
    fn beat_of<Q>(&self, id: &Q, incarnation: Option<Incarnation>) -> Result<(), RegistryError>
    where
        N: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let beat = |keeper: &mut Keeper<N, D>, now| keeper.beat(id, incarnation, now);
        self.shared.act_first(beat, |order| order.as_ref().ok())??;
        Ok(())
    }

    /// Counts a sign of life of the node `id`, and registers the node first if it is not known: after a restart of the
    /// registry, or when it was forgotten. Then `data` is called, while no lock is held.
    ///
    /// # Errors
    ///
    /// [`Left`](RegistryError::Left), because a late beat does not bring back a node that said goodbye;
    /// [`Full`](RegistryError::Full) and [`Closed`](RegistryError::Closed).
    ///
    /// ```
    /// use liveness::registry::Registry;
    ///
    /// let registry = Registry::<String, u16>::builder().build()?;
    /// for _ in 0..3 {
    ///     registry.beat_or_register("web-1", || 80)?; // makes a `String` once
    /// }
    /// assert_eq!(registry.available().len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn beat_or_register<Q>(&self, id: &Q, data: impl FnOnce() -> D) -> Result<(), RegistryError>
    where
        N: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = N> + ?Sized,
    {
        self.beat_or_register_with(id, NodeOptions::new(), data)
    }

    /// As [`beat_or_register`](Registry::beat_or_register), with options for the registration. If they name an
    /// [incarnation](NodeOptions::incarnation), the beat is of that one, and registers it if it is a new one. That is all
    /// that a server of datagrams has to call.
    ///
    /// # Errors
    ///
    /// Those of `beat_or_register`; [`Option`](RegistryError::Option); and [`Superseded`](RegistryError::Superseded) if the
    /// node was registered as a newer incarnation.
    ///
    /// ```
    /// use liveness::registry::{NodeOptions, Registry, RegistryError};
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// let of = |start: u64| NodeOptions::new().incarnation(start);
    /// registry.beat_or_register_with(&7, of(1_700), || "10.0.0.1:80")?;
    /// registry.beat_or_register_with(&7, of(1_800), || "10.0.0.2:80")?; // the node has started again
    /// let late = registry.beat_or_register_with(&7, of(1_700), || "10.0.0.1:80");
    /// assert!(matches!(late, Err(RegistryError::Superseded { .. })));
    /// assert_eq!(registry.status(&7).map(|it| *it.node.data()), Some("10.0.0.2:80"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn beat_or_register_with<Q>(
        &self,
        id: &Q,
        options: NodeOptions,
        data: impl FnOnce() -> D,
    ) -> Result<(), RegistryError>
    where
        N: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = N> + ?Sized,
    {
        match self.beat_of(id, options.incarnation) {
            Err(RegistryError::Unknown) => {
                let registered = self.register_with(id.to_owned(), data(), options);
                registered.map_err(|refused| refused.error)?;
                self.beat_of(id, options.incarnation)
            }
            done => done,
        }
    }

    /// Takes the node `id` out of the list at once because it said goodbye, whichever life of it this is. Where messages may be
    /// late, use [`leave_as`](Registry::leave_as). The node is remembered for [`forget_after`](Builder::forget_after), so that a late
    /// beat does not bring it back.
    ///
    /// # Errors
    ///
    /// [`Unknown`](RegistryError::Unknown) and [`Closed`](RegistryError::Closed). Leaving twice is no error.
    ///
    /// ```
    /// use liveness::registry::{Registry, RegistryError};
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// registry.register(7, "rack 4")?;
    /// registry.beat(&7)?;
    /// registry.leave(&7)?;
    /// assert!(registry.available().is_empty());
    /// assert!(matches!(registry.beat(&7), Err(RegistryError::Left)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn leave<Q>(&self, id: &Q) -> Result<(), RegistryError>
    where
        N: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.shared.act(|keeper, now| keeper.leave(id, None, now))?
    }

    /// As [`leave`](Registry::leave), for one [incarnation](Incarnation) of the node `id`. If the node was registered again
    /// since, nothing changes.
    ///
    /// # Errors
    ///
    /// Those of [`leave`](Registry::leave), and [`Superseded`](RegistryError::Superseded) if the node was registered again
    /// since, which the thread of an old connection may ignore.
    ///
    /// ```
    /// use liveness::registry::Registry;
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// let old = registry.register(7, "connection 1")?;
    /// let new = registry.register(7, "connection 2")?;
    /// registry.beat_as(&7, new)?;
    /// assert!(registry.leave_as(&7, old).is_err());
    /// assert_eq!(registry.available().len(), 1);
    /// registry.leave_as(&7, new)?;
    /// assert!(registry.available().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn leave_as<Q>(
        &self,
        id: &Q,
        incarnation: impl Into<Incarnation>,
    ) -> Result<(), RegistryError>
    where
        N: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let incarnation = Some(incarnation.into());
        self.shared
            .act(|keeper, now| keeper.leave(id, incarnation, now))?
    }

    /// Takes the node `id` out of the list, and goes on watching it. It stays drained if it goes down, comes back, or leaves
    /// and is registered again.
    ///
    /// # Errors
    ///
    /// [`Unknown`](RegistryError::Unknown) and [`Closed`](RegistryError::Closed). Draining twice is no error.
    ///
    /// ```
    /// use liveness::registry::{Registry, State};
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// registry.register(7, "rack 4")?;
    /// registry.beat(&7)?;
    /// registry.drain(&7)?;
    /// assert!(registry.available().is_empty());
    /// assert_eq!(registry.status(&7).map(|it| it.state), Some(State::Up));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn drain<Q>(&self, id: &Q) -> Result<(), RegistryError>
    where
        N: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.shared.act(|keeper, now| keeper.drain(id, true, now))?
    }

    /// Lets the node `id` back into the list, as far as its state allows.
    ///
    /// # Errors
    ///
    /// [`Unknown`](RegistryError::Unknown) and [`Closed`](RegistryError::Closed).
    ///
    /// ```
    /// use liveness::registry::Registry;
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// registry.register(7, "rack 4")?;
    /// registry.drain(&7)?;
    /// registry.beat(&7)?;
    /// registry.undrain(&7)?;
    /// assert_eq!(registry.available().len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn undrain<Q>(&self, id: &Q) -> Result<(), RegistryError>
    where
        N: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.shared
            .act(|keeper, now| keeper.drain(id, false, now))?
    }

    /// Forgets the node `id` at once, whatever its state. A late beat then returns [`Unknown`](RegistryError::Unknown).
    ///
    /// # Errors
    ///
    /// [`Unknown`](RegistryError::Unknown) and [`Closed`](RegistryError::Closed).
    ///
    /// ```
    /// use liveness::registry::Registry;
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// registry.register(7, "rack 4")?;
    /// registry.forget(&7)?;
    /// assert!(registry.status(&7).is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn forget<Q>(&self, id: &Q) -> Result<(), RegistryError>
    where
        N: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.shared.act(|keeper, now| keeper.forget(id, now))?
    }

    /// Returns the list as of now. Never blocks, neither on a lock nor on a change that is being made.
    ///
    /// ```
    /// use liveness::registry::Registry;
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// registry.register(7, "rack 4")?;
    /// registry.beat(&7)?;
    /// let list = registry.available();
    /// registry.leave(&7)?;
    /// assert_eq!(list.random().map(|node| *node.id()), Some(7)); // as it was
    /// assert!(registry.available().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn available(&self) -> Current<N, D> {
        Current(self.shared.available.load())
    }

    /// Returns the state of the node `id` and what belongs to it, or `None` if it is not known. Costs a short lock.
    ///
    /// ```
    /// use liveness::registry::{Registry, State};
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// registry.register(7, "rack 4")?;
    /// let status = registry.status(&7).expect("it is known");
    /// assert_eq!((status.state, status.is_listed()), (State::Joining, false));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn status<Q>(&self, id: &Q) -> Option<NodeStatus<N, D>>
    where
        N: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.shared.state.lock().keeper.status(id)
    }

    /// Returns what is known of the beats of the node `id`, or `None` if it is not known. Costs a short lock.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::ManualClock;
    /// use liveness::registry::Registry;
    ///
    /// let clock = ManualClock::new();
    /// let registry = Registry::<u64, &str>::builder().clock(clock.clone()).build()?;
    /// registry.register(7, "rack 4")?;
    /// clock.advance(Duration::from_secs(3));
    /// registry.beat(&7)?;
    /// let vitals = registry.vitals(&7).expect("it is known");
    /// assert_eq!(vitals.last_beat, Some(Duration::from_secs(3).into()));
    /// assert_eq!(vitals.timeout, Duration::from_secs(10));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn vitals<Q>(&self, id: &Q) -> Option<Vitals>
    where
        N: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let state = self.shared.state.lock();
        state.keeper.vitals(id, self.elapsed())
    }

    /// Returns all nodes as of now. Holds the lock for as long as it takes to clone a handle of each, a millisecond or so for
    /// 100,000, and clones every id after that.
    ///
    /// ```
    /// use liveness::registry::Registry;
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// registry.register(7, "rack 4")?;
    /// let fleet = registry.fleet();
    /// assert_eq!((fleet.len(), fleet.listed().count()), (1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn fleet(&self) -> Fleet<N, D> {
        let picture = self.shared.state.lock().keeper.picture();
        Fleet::new(picture)
    }

    /// Returns all nodes as of now, and a subscription to every update since. Up to `capacity` updates wait in its queue; zero
    /// is taken as 1. The registry never blocks on a subscriber: what does not fit is dropped, and the loop below notices.
    ///
    /// ```
    /// use liveness::registry::{Registry, Update};
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// registry.register(7, "rack 4")?;
    /// let (mut fleet, updates) = registry.subscribe(1_024);
    /// assert_eq!(fleet.listed().count(), 0);
    /// registry.beat(&7)?;
    /// for update in updates.try_iter() {
    ///     println!("{update}"); // up 7 version=2 state=up weight=100
    ///     if fleet.apply(&update).is_err() {
    ///         fleet = registry.fleet(); // some were missed; the next updates apply to this one
    ///     }
    /// }
    /// assert_eq!(fleet.listed().count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn subscribe(&self, capacity: usize) -> (Fleet<N, D>, Updates<N, D>) {
        let mut state = self.shared.state.lock();
        // Both under one lock: nothing happens between them.
        let (picture, reader) = (state.keeper.picture(), state.feed.subscribe(capacity));
        if state.is_closed {
            state.feed.close();
        }
        drop(state);
        (Fleet::new(picture), Updates::new(reader))
    }

    /// As [`subscribe`](Registry::subscribe), but calls `callback` with each update on a thread of its own. The callback may
    /// block, panic and call the registry.
    ///
    /// # Errors
    ///
    /// The error of the operating system if the thread cannot be spawned.
    ///
    /// ```
    /// use liveness::registry::Registry;
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// registry.register(7, "rack 4")?;
    /// let (sender, updates) = std::sync::mpsc::channel();
    /// let (fleet, subscription) = registry.subscribe_with(1_024, move |update| {
    ///     let _ = sender.send(update.to_string());
    /// })?;
    /// registry.beat(&7)?;
    /// assert_eq!(updates.recv()?, "up 7 version=2 state=up weight=100");
    /// assert_eq!(fleet.version(), 1);
    /// drop(subscription);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn subscribe_with(
        &self,
        capacity: usize,
        callback: impl FnMut(Update<N, D>) + Send + 'static,
    ) -> std::io::Result<(Fleet<N, D>, Subscription)> {
        let (fleet, updates) = self.subscribe(capacity);
        let subscription = Subscription::spawn(updates, callback)?;
        Ok((fleet, subscription))
    }

    /// Returns what the registry knows, to be written down; see [`Builder::restore`]. Holds the lock for as long as it takes to
    /// clone all ids and data.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::registry::Registry;
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// registry.register(7, "rack 4")?;
    /// let saved = registry.save();
    /// let next = Registry::builder().restore(saved, Duration::from_secs(60)).build()?;
    /// assert_eq!(next.status(&7).map(|it| *it.node.data()), Some("rack 4"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "serde")]
    #[must_use]
    pub fn save(&self) -> Saved<N, D>
    where
        D: Clone,
    {
        let state = self.shared.state.lock();
        state.keeper.save(self.elapsed())
    }

    /// Returns the gauges and counters of the registry.
    ///
    /// ```
    /// use liveness::registry::Registry;
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// registry.register(7, "rack 4")?;
    /// registry.beat(&7)?;
    /// let stats = registry.stats();
    /// assert_eq!((stats.up, stats.listed, stats.deaths), (1, 1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> RegistryStats {
        let state = self.shared.state.lock();
        RegistryStats {
            subscribers: state.feed.len(),
            missed_updates: state.feed.dropped(),
            ..state.keeper.stats()
        }
    }

    /// Returns the time by the registry's clock.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::ManualClock;
    /// use liveness::registry::Registry;
    ///
    /// let clock = ManualClock::new();
    /// let registry = Registry::<u64, &str>::builder().clock(clock.clone()).build()?;
    /// registry.register(7, "rack 4")?;
    /// clock.advance(Duration::from_secs(3));
    /// let since = registry.status(&7).expect("it is known").since;
    /// assert_eq!(registry.now() - since, Duration::from_secs(3));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.watcher.now()
    }

    /// Returns the registry's clock, which converts its points in time for a log.
    ///
    /// ```
    /// use liveness::registry::Registry;
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// registry.register(7, "rack 4")?;
    /// let since = registry.status(&7).expect("it is known").since;
    /// let wall = registry.clock().system_time(since);
    /// assert!(wall <= std::time::SystemTime::now());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn clock(&self) -> &Clock {
        self.shared.watcher.clock()
    }

    /// The time as the fleet counts it.
    fn elapsed(&self) -> Duration {
        self.now().since_origin()
    }

    /// Blocks until everything that the calling thread did before is applied, and all that is due by now has happened: several
    /// timeouts of a node if the clock has jumped over them. The updates are then in the queues of the subscribers. For tests
    /// with a [`ManualClock`](crate::ManualClock).
    ///
    /// # Errors
    ///
    /// [`Closed`](RegistryError::Closed), also on a worker thread of this registry or of any [`Watcher`], which must not
    /// block.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::ManualClock;
    /// use liveness::registry::Registry;
    ///
    /// let clock = ManualClock::new();
    /// let registry = Registry::<u64, &str>::builder().clock(clock.clone()).build()?;
    /// registry.register(7, "rack 4")?;
    /// clock.advance(Duration::from_secs(10));
    /// registry.flush()?;
    /// assert_eq!(registry.stats().down, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush(&self) -> Result<(), RegistryError> {
        self.shared
            .watcher
            .flush()
            .map_err(|_| RegistryError::Closed)
    }

    /// Stops the worker, and blocks until it has ended, unless called there. The list stays as it is. Subscribers receive what
    /// waits for them and are then disconnected. Dropping the registry does the same; closing twice is no error.
    ///
    /// ```
    /// use liveness::registry::Registry;
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// registry.register(7, "rack 4")?;
    /// registry.beat(&7)?;
    /// registry.close();
    /// assert!(registry.beat(&7).is_err());
    /// assert_eq!(registry.available().len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(&self) {
        self.shared.close();
    }

    /// As [`close`](Registry::close), but blocks for no longer than `wait`, zero for not at all. The registry is closed in any
    /// case, and the worker ends as soon as it can. Dropping the registry blocks until it has.
    ///
    /// A worker that does not end runs code of yours: the `Drop` of ids or data, or the `Eq`, `Hash` or `Clone` of an id.
    ///
    /// # Errors
    ///
    /// [`StillRunning`](RegistryError::StillRunning) names the threads that have not ended.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::registry::Registry;
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// registry.register(7, "rack 4")?;
    /// registry.close_timeout(Duration::from_secs(60))?;
    /// assert!(registry.beat(&7).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close_timeout(&self, wait: Duration) -> Result<(), RegistryError> {
        self.shared.refuse();
        match self.shared.watcher.close_timeout(wait) {
            Ok(_) => Ok(()),
            Err(error) => Err(RegistryError::StillRunning {
                threads: error.threads().to_vec(),
            }),
        }
    }
}

impl<N, D> Shared<N, D> {
    /// Takes no more calls, and ends the subscriptions.
    fn refuse(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.feed.close();
    }

    /// Takes no more calls, and stops the worker.
    fn close(&self) {
        self.refuse();
        self.watcher.close();
    }

    /// Has the watcher carry out an order.
    fn carry_out(&self, order: Order) -> Result<(), RegistryError> {
        let is_done = match order {
            Order::Watch(watched, timeout) => {
                let options = Options::new().timeout(timeout).mode(Mode::Once);
                self.watcher.beat_with(watched, options).is_ok()
            }
            Order::Unwatch(watched) => self.watcher.remove(&watched).is_ok(),
        };
        is_done.then_some(()).ok_or(RegistryError::Closed)
    }
}

impl<N: Eq + Hash + Clone, D> Shared<N, D> {
    /// Does `action` to the fleet at the time of now, and all that follows from it.
    fn act<T>(
        &self,
        action: impl FnOnce(&mut Keeper<N, D>, Duration) -> T,
    ) -> Result<T, RegistryError> {
        self.act_first(action, |_| None)
    }

    /// As [`act`](Shared::act), and carries out an order that is part of the result before all others.
    fn act_first<T>(
        &self,
        action: impl FnOnce(&mut Keeper<N, D>, Duration) -> T,
        order: impl FnOnce(&T) -> Option<&Order>,
    ) -> Result<T, RegistryError> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(RegistryError::Closed);
        }
        // Read under the lock, so that it goes forward from call to call.
        let now = self.watcher.now().since_origin();
        let result = action(&mut state.keeper, now);
        let outcome = state.keeper.take();
        let old = outcome.list.map(|list| self.available.swap(Arc::new(list)));
        for update in &outcome.updates {
            state.feed.send(update, update.version());
        }
        drop(state);
        let mut orders = order(&result).into_iter().chain(&outcome.orders);
        let done = orders.try_for_each(|&order| self.carry_out(order));
        // What may be the last of a user's data goes only now: not under the lock, which its `Drop` may take, and after
        // the orders, which one that panics must not take with it.
        drop((old, outcome.updates, outcome.garbage));
        done.map(|()| result)
    }

    /// The watcher reports, on its worker.
    fn heed(&self, event: &Event<Watched>) {
        let _ = self.act(|keeper, now| match event {
            Event::Expired(expired) => match expired.key {
                Watched::Node(slot, watch) => keeper.silent(slot, watch, now),
                Watched::Until(_) => keeper.tend(now),
            },
            Event::Stalled(stall) => keeper.stalled(*stall),
            _ => {}
        });
    }
}

impl<N, D> Drop for Registry<N, D> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl<N, D> fmt::Debug for Registry<N, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("available", &self.shared.available.load())
            .finish_non_exhaustive()
    }
}

/// What counts as a stall, by the rule of the watcher. Its own would take the times of the agenda for timeouts of keys,
/// which may be a nanosecond.
fn stall_threshold(policy: &Policy) -> Duration {
    let quarter = policy.initial_timeout() / 4;
    quarter.clamp(Duration::from_millis(2), Duration::from_millis(100))
}

impl<N, D> Current<N, D> {
    /// Returns the list, to be kept for any length of time.
    ///
    /// ```
    /// use liveness::registry::Registry;
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// registry.register(7, "rack 4")?;
    /// registry.beat(&7)?;
    /// let list = registry.available().to_arc();
    /// registry.leave(&7)?;
    /// assert_eq!((list.len(), registry.available().len()), (1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn to_arc(&self) -> Arc<Available<N, D>> {
        Arc::clone(&self.0)
    }
}

impl<N, D> Deref for Current<N, D> {
    type Target = Available<N, D>;

    fn deref(&self) -> &Available<N, D> {
        &self.0
    }
}

/// The nodes of the list, as of the moment that it was taken.
impl<'a, N, D> IntoIterator for &'a Current<N, D> {
    type Item = &'a Node<N, D>;
    type IntoIter = Nodes<'a, N, D>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<N, D> fmt::Debug for Current<N, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    /// Registering and beating are done by two threads, and the watcher never gets the order of the first, or gets it last,
    /// with a stamp that is older than the other's, which comes to the same.
    #[test]
    fn a_beat_whose_order_overtakes_that_to_watch_is_enough() -> Result<(), RegistryError> {
        for seconds in [3, 60] {
            let (timeout, clock) = (Duration::from_secs(seconds), ManualClock::new());
            let registry = Registry::<u32, ()>::builder()
                .policy(Policy::Fixed(timeout))
                .fall(2)
                .clock(clock.clone())
                .build()?;
            let mut state = registry.shared.state.lock();
            let options = NodeOptions::new();
            let registered = state.keeper.register(7, (), &options, Duration::ZERO);
            assert!(registered.is_ok() && !state.keeper.take().orders.is_empty());
            drop(state);
            registry.beat(&7)?;
            for state in [State::Suspect, State::Down] {
                registry.flush()?;
                clock.advance(timeout);
                registry.flush()?;
                assert_eq!(registry.status(&7).map(|it| it.state), Some(state));
            }
        }
        Ok(())
    }
}
