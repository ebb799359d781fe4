//! A list of the nodes that may receive traffic, maintained from heartbeats and read without a lock.
//!
//! Nodes are [registered](Registry::register), [beat](Registry::beat) and [leave](Registry::leave). A node that falls
//! silent goes down and is removed from the list. It is listed again after it has made [`rise`](Builder::rise) beats.
//! Readers take the current list, an immutable [`Available`], without blocking, and pick nodes from it:
//!
//! ```
//! use std::net::SocketAddr;
//! use std::time::Duration;
//! use liveness::ManualClock;
//! use liveness::registry::{Policy, Registry};
//!
//! let clock = ManualClock::new(); // for this example; by default the system's clock is used
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
//! let picked = list.round_robin().expect("one node is left");
//! assert_eq!(*picked.id(), "web-1");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Watcher or registry?
//!
//! A [`Watcher`] reports *keys* that fall silent. A registry knows which *nodes* are online.
//!
//! Use the watcher if silence triggers an action, such as closing a connection, requeuing a job or raising an alarm,
//! and no list of nodes is needed. It stores only the key and its deadline, and a beat costs tens of nanoseconds.
//!
//! Use the registry if the program needs to know which nodes are online. It stores data, state and weight of each node,
//! provides a list to pick from, and reports each change to subscribers. When the registry itself has probably lost
//! contact, it does not empty the list. A beat costs a short lock in addition to the watcher's beat.
//!
//! In a gateway for devices, for example, a watcher of device ids can end the sessions of silent devices. To show which
//! devices are online, or to route commands to them, register the devices:
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
//! // A connection begins. The thread that serves it keeps `connection`.
//! let connection = devices.register(7, "10.0.0.7:4000".parse()?)?;
//! // For each message:
//! devices.beat_as(&7, connection)?;
//! // For a command to the device:
//! let route = devices.status(&7).filter(|status| status.is_listed());
//! assert!(route.is_some_and(|status| status.node.data().port() == 4000));
//! // When the connection ends. If the device has connected again meanwhile, it stays listed.
//! devices.leave_as(&7, connection)?;
//! assert!(devices.available().is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A gateway that receives datagrams needs a single call, [`beat_or_register_with`](Registry::beat_or_register_with).
//!
//! # States
//!
//! | state | entered when | listed |
//! |---|---|---|
//! | [`Joining`](State::Joining) | the node is registered | no |
//! | [`Up`](State::Up) | it has made [`rise`](Builder::rise) beats in a row; from `Suspect`, one beat | yes |
//! | [`Suspect`](State::Suspect) | it misses its first timeout, if [`fall`](Builder::fall) is more than 1 | yes |
//! | [`Down`](State::Down) | it has missed `fall` timeouts in a row | no |
//! | [`Left`](State::Left) | [`leave`](Registry::leave) is called | no |
//!
//! A node that has been down, or has left, for [`forget_after`](Builder::forget_after) is forgotten. A node that an
//! operator [drains](Registry::drain) is watched but not listed, whatever its state.
//!
//! A node that restarts is registered again. Its [`Incarnation`] distinguishes the new process from the old one, so
//! late messages of the old process have no effect.
//!
//! # Many nodes that fall silent at once
//!
//! If many nodes fall silent at once, the registry has probably lost contact with them. A [`Guard`] then keeps the list
//! as it is. [`FlapDamping`] removes nodes that go up and down repeatedly. With a [slow start](Builder::slow_start),
//! the weight of a node that comes back grows gradually.
//!
//! # Updates
//!
//! [`subscribe`](Registry::subscribe) returns a snapshot of all nodes and every [`Update`] that follows it, without a
//! gap between the two.

mod available;
mod current;
mod error;
mod feed;
mod fleet;
mod incarnation;
mod options;
mod policy;
#[cfg(feature = "serde")]
mod saved;
mod shared;
mod stats;
mod update;

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::clock::{Clock, Timestamp};
use crate::event::EventKind;
use crate::feed::Feed;
use crate::options::{DEFAULT_STALL_THRESHOLD, stall_tolerance};
use crate::watcher::Watcher;
pub use available::{Available, Node, Nodes};
pub use current::Current;
pub use error::{RegisterError, RegistryError};
pub use feed::{IntoIter, Iter, Subscription, TryIter, Updates};
use fleet::{Keeper, Watched};
pub use incarnation::Incarnation;
pub use options::{Builder, FlapDamping, Guard, NodeOptions};
pub use policy::{PhiAccrual, Policy};
#[cfg(feature = "serde")]
pub use saved::Saved;
use shared::{Inner, Shared};
pub use stats::RegistryStats;
pub use update::{Change, Fleet, Gap, GuardChange, NodeStatus, State, Transition, Update, Vitals};

/// A set of nodes and the list of those that may receive traffic; see the [module documentation](self).
///
/// A registry is created by a [`Builder`] and shared by reference or in an [`Arc`]; every method takes `&self`.
/// Dropping it closes it, which blocks until the worker thread has ended.
///
/// An id is cloned when its node is registered and for each [`Fleet`]. Data is cloned only by `save`.
pub struct Registry<N, D> {
    /// The state that callers and the worker share.
    shared: Arc<Shared<N, D>>,
}

impl<N, D> Builder<N, D>
where
    N: Eq + Hash + Clone + Send + Sync + 'static,
    D: Send + Sync + 'static,
{
    /// Creates the registry and starts its worker thread.
    ///
    /// # Errors
    ///
    /// Returns a [`RegistryError`] that names the option that is out of range, or
    ///
    /// * [`Watcher`](RegistryError::Watcher) if the thread cannot be spawned,
    /// * [`Full`](RegistryError::Full) if the state to restore has more than [`max_nodes`](Builder::max_nodes) nodes,
    /// * [`Option`](RegistryError::Option) if the policy of a node in that state is out of range.
    ///
    /// ```
    /// use liveness::registry::Registry;
    ///
    /// assert!(Registry::<u64, &str>::builder().build().is_ok());
    /// assert!(Registry::<u64, &str>::builder().fall(0).build().is_err());
    /// ```
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
    /// Returns a [`Builder`] with the default options.
    ///
    /// ```
    /// use liveness::registry::Registry;
    ///
    /// let registry = Registry::<u64, &str>::builder().max_nodes(1_000).build()?;
    /// assert!(registry.available().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder() -> Builder<N, D> {
        Builder::new()
    }

    /// Starts the registry that `options` describes.
    fn start(options: Builder<N, D>) -> Result<Self, RegistryError> {
        // The worker may run before `link` is set. There is nothing to report then.
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

    /// Registers the node `id` with `data`, which picks return, and returns the [`Incarnation`] of the node.
    ///
    /// A new node is [`Joining`](State::Joining) until it beats. A node that is already known gets the new data and
    /// options, and keeps its state. Registering is not a beat and does not end a silence. A node that has left starts
    /// again as `Joining`.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](RegistryError::Full) if the registry holds [`max_nodes`](Builder::max_nodes) nodes, and
    /// [`Closed`](RegistryError::Closed) if it is closed. The error returns `id` and `data`.
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

    /// Registers the node `id` like [`register`](Registry::register), with options for this node.
    ///
    /// # Errors
    ///
    /// Returns the errors of `register`, and [`Option`](RegistryError::Option) if the policy is out of range. If the
    /// options name an [incarnation](NodeOptions::incarnation), returns [`Superseded`](RegistryError::Superseded) if a
    /// newer one is registered, and [`Left`](RegistryError::Left) if this one has left. The error returns `id` and
    /// `data`.
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
            // The node is registered but not watched, because the worker has failed meanwhile.
            (Err(_), None) => Ok(incarnation),
        }
    }

    /// Records a beat of the node `id`, whatever its incarnation. If messages may arrive late, use
    /// [`beat_as`](Registry::beat_as) instead.
    ///
    /// Costs a short lock, a lookup, two clock readings and a beat of a [`Watcher`]. Blocks while the inbox of the
    /// registry's worker is full.
    ///
    /// # Errors
    ///
    /// Returns [`Unknown`](RegistryError::Unknown) if the node is not registered, [`Left`](RegistryError::Left) if it
    /// has left, and [`Closed`](RegistryError::Closed) if the registry is closed.
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

    /// Records a beat of one [incarnation](Incarnation) of the node `id`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`beat`](Registry::beat), and [`Superseded`](RegistryError::Superseded) if a newer
    /// incarnation is registered. If `incarnation` is newer than the registered one, returns
    /// [`Unknown`](RegistryError::Unknown): register it first.
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

    /// Records a beat, of one incarnation if it is named.
    fn beat_of<Q>(&self, id: &Q, incarnation: Option<Incarnation>) -> Result<(), RegistryError>
    where
        N: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let beat = |keeper: &mut Keeper<N, D>, now| keeper.beat(id, incarnation, now);
        self.shared.act_first(beat, |order| order.as_ref().ok())??;
        Ok(())
    }

    /// Records a beat of the node `id`, and registers the node first if it is unknown, for example after a restart of
    /// the registry. `data` is called only if the node is unknown, and no lock is held during the call.
    ///
    /// # Errors
    ///
    /// Returns [`Left`](RegistryError::Left) if the node has left, since a late beat must not bring it back;
    /// [`Full`](RegistryError::Full) if the registry holds [`max_nodes`](Builder::max_nodes) nodes; and
    /// [`Closed`](RegistryError::Closed) if it is closed.
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

    /// Records a beat like [`beat_or_register`](Registry::beat_or_register), with options for the registration. If they
    /// name an [incarnation](NodeOptions::incarnation), the beat is a beat of that incarnation, and a newer one is
    /// registered first. A server that receives datagrams needs no other call.
    ///
    /// # Errors
    ///
    /// Returns the errors of `beat_or_register`, [`Option`](RegistryError::Option) if the policy is out of range, and
    /// [`Superseded`](RegistryError::Superseded) if a newer incarnation is registered.
    ///
    /// ```
    /// use liveness::registry::{NodeOptions, Registry, RegistryError};
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// let of = |start: u64| NodeOptions::new().incarnation(start);
    /// registry.beat_or_register_with(&7, of(1_700), || "10.0.0.1:80")?;
    /// registry.beat_or_register_with(&7, of(1_800), || "10.0.0.2:80")?; // the node has restarted
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

    /// Removes the node `id` from the list at once, whatever its incarnation, because it shuts down in an orderly way.
    /// If messages may arrive late, use [`leave_as`](Registry::leave_as) instead.
    ///
    /// The node is remembered for [`forget_after`](Builder::forget_after), so a late beat does not bring it back. A
    /// node that has already left is left unchanged.
    ///
    /// # Errors
    ///
    /// Returns [`Unknown`](RegistryError::Unknown) if the node is not registered, and [`Closed`](RegistryError::Closed)
    /// if the registry is closed.
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

    /// Removes one [incarnation](Incarnation) of the node `id` from the list, like [`leave`](Registry::leave). If a
    /// newer one is registered, nothing changes.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`leave`](Registry::leave), and [`Superseded`](RegistryError::Superseded) if a newer
    /// incarnation is registered. A thread that serves an old connection may ignore the latter.
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

    /// Removes the node `id` from the list and continues to watch it. It stays drained if it goes down and comes back,
    /// and if it leaves and is registered again. A node that is already drained is left unchanged.
    ///
    /// # Errors
    ///
    /// Returns [`Unknown`](RegistryError::Unknown) if the node is not registered, and [`Closed`](RegistryError::Closed)
    /// if the registry is closed.
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

    /// Ends the draining of the node `id`. It is listed again as soon as its state allows.
    ///
    /// # Errors
    ///
    /// Returns [`Unknown`](RegistryError::Unknown) if the node is not registered, and [`Closed`](RegistryError::Closed)
    /// if the registry is closed.
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

    /// Forgets the node `id` at once, whatever its state. Later beats return [`Unknown`](RegistryError::Unknown).
    ///
    /// # Errors
    ///
    /// Returns [`Unknown`](RegistryError::Unknown) if the node is not registered, and [`Closed`](RegistryError::Closed)
    /// if the registry is closed.
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

    /// Returns the current list. Never blocks, neither on a lock nor on a change in progress.
    ///
    /// ```
    /// use liveness::registry::Registry;
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// registry.register(7, "rack 4")?;
    /// registry.beat(&7)?;
    /// let list = registry.available();
    /// registry.leave(&7)?;
    /// assert_eq!(list.random().map(|node| *node.id()), Some(7)); // this list is unchanged
    /// assert!(registry.available().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn available(&self) -> Current<N, D> {
        Current(self.shared.available.load())
    }

    /// Returns the state, data and counters of the node `id`, or `None` if it is unknown. Costs a short lock.
    ///
    /// ```
    /// use liveness::registry::{Registry, State};
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// registry.register(7, "rack 4")?;
    /// let status = registry.status(&7).expect("node 7 is registered");
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

    /// Returns the last beat and the timeout of the node `id`, or `None` if it is unknown. Costs a short lock.
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
    /// let vitals = registry.vitals(&7).expect("node 7 is registered");
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

    /// Returns a snapshot of all nodes. Holds the lock while it clones a handle to each node, about a millisecond for
    /// 100,000 nodes. The ids are cloned after that.
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

    /// Returns a snapshot of all nodes and a subscription to every update that follows it.
    ///
    /// Up to `capacity` updates wait in the subscription's queue; zero is treated as 1. The registry never blocks on a
    /// subscriber. An update that finds the queue full is dropped, and [`Fleet::apply`] returns an error at the gap:
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
    /// fleet = registry.fleet(); // updates were lost; later updates apply to this snapshot
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

    /// Subscribes like [`subscribe`](Registry::subscribe), and calls `callback` with each update on a new thread. The
    /// callback may block, panic and call the registry.
    ///
    /// # Errors
    ///
    /// Returns the error of the operating system if the thread cannot be spawned.
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

    /// Returns the nodes and what was learned about them, for [`Builder::restore`]. Holds the lock while it clones all
    /// ids and data.
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

    /// Returns the current time of the registry's clock.
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
    /// let since = registry.status(&7).expect("node 7 is registered").since;
    /// assert_eq!(registry.now() - since, Duration::from_secs(3));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.watcher.now()
    }

    /// Returns the registry's clock, which converts the registry's timestamps to system time.
    ///
    /// ```
    /// use liveness::registry::Registry;
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// registry.register(7, "rack 4")?;
    /// let since = registry.status(&7).expect("node 7 is registered").since;
    /// let wall = registry.clock().system_time(since);
    /// assert!(wall <= std::time::SystemTime::now());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn clock(&self) -> &Clock {
        self.shared.watcher.clock()
    }

    /// Returns the current time in the unit of the fleet.
    fn elapsed(&self) -> Duration {
        self.now().since_origin()
    }

    /// Blocks until every earlier call of this thread is applied and everything that is due by now has happened. That
    /// includes several timeouts of one node, if the clock has jumped over them. The resulting updates are in the
    /// queues of the subscribers when this returns.
    ///
    /// This method is meant for tests with a [`ManualClock`](crate::ManualClock).
    ///
    /// # Errors
    ///
    /// Returns [`Closed`](RegistryError::Closed) if the registry is closed, and on a worker thread of this registry or
    /// of any [`Watcher`], which must not block.
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

    /// Closes the registry and blocks until its worker has ended, unless it is called on that worker.
    ///
    /// The list stays as it is. Subscribers receive the updates that wait for them and are then disconnected. Dropping
    /// the registry does the same. Closing a closed registry has no effect.
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

    /// Closes the registry like [`close`](Registry::close), but blocks for at most `wait`. With a `wait` of zero it
    /// does not block.
    ///
    /// The registry is closed in any case, and the worker ends as soon as it can. Dropping the registry blocks until
    /// then. A worker that does not end is running user code: the `Drop` of an id or of data, or the `Eq`, `Hash` or
    /// `Clone` of an id.
    ///
    /// # Errors
    ///
    /// Returns [`StillRunning`](RegistryError::StillRunning) with the names of the threads that have not ended within
    /// `wait`.
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

/// The threshold of a stall, computed like the watcher's default. The watcher would derive its own from the shortest
/// timeout, and an entry of the agenda can be a nanosecond away.
fn stall_threshold(policy: &Policy) -> Duration {
    stall_tolerance(DEFAULT_STALL_THRESHOLD, policy.initial_timeout())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    /// One thread registers a node and another beats it. The order of the first never reaches the watcher. Reaching it
    /// last with an older stamp has the same effect.
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
