//! The options of a registry: defaults, units and validation.

use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use super::{Incarnation, Policy};
use crate::clock::Clock;
use crate::error::OptionError;

/// The weight of a node for which none is set. Large enough that other nodes can have less.
const DEFAULT_WEIGHT: u32 = 100;

/// Keeps the list as it is when many nodes fall silent at once, because the registry has then probably lost contact
/// with them.
///
/// The guard becomes active when more than a [`fraction`](Guard::fraction) of the list, and at least
/// [`at_least`](Guard::at_least) nodes, would go down within a [`window`](Guard::window). All of these nodes are then
/// *held*: they stay listed, or are listed again, as [`Suspect`](super::State::Suspect).
///
/// A node counts if it was listed when it went down and has not since beaten, left, been drained or been forgotten. The
/// fraction is of the listed nodes plus the nodes that count. While the guard is active, every further node that would
/// go down is held too. The guard ends by itself:
///
/// - at once when no node is held any longer;
/// - when at most the fraction of the list has been held for a whole window, so that all nodes have time to be heard
///   after a network comes back;
/// - in any case after [`longest`](Guard::longest).
///
/// Nodes that are still held then go down.
///
/// The rules are the same for small fleets. By default, one or two nodes are never held, because at least three must go
/// down.
///
/// ```
/// use std::time::Duration;
/// use liveness::ManualClock;
/// use liveness::registry::Registry;
///
/// let clock = ManualClock::new();
/// let registry = Registry::<u64, &str>::builder().clock(clock.clone()).build()?;
/// for id in 0..4 {
///     registry.register(id, "rack 4")?;
///     registry.beat(&id)?;
/// }
/// clock.advance(Duration::from_secs(10)); // the timeout of all four nodes
/// registry.flush()?;
/// assert_eq!(registry.available().len(), 4);
/// assert_eq!(registry.stats().held, 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct Guard {
    /// The largest fraction of the list that may go down within the window.
    pub(super) fraction: f64,
    /// The smallest number of deaths that activates the guard.
    pub(super) at_least: usize,
    /// How long a death counts, and how long the fleet must be calm before the guard ends.
    pub(super) window: Duration,
    /// The longest time for which the guard stays active.
    pub(super) longest: Duration,
}

impl Guard {
    /// Creates a guard with the default options: active when more than half of the list and at least 3 nodes go down
    /// within a minute, for at most 10 minutes.
    pub fn new() -> Self {
        Guard {
            fraction: 0.5,
            at_least: 3,
            window: Duration::from_secs(60),
            longest: Duration::from_secs(600),
        }
    }

    /// Sets the largest fraction of the list that may go down within the window, from 0 to 1, rounded to a billionth.
    /// Default: 0.5. With 1, the guard never becomes active. Values outside this range are refused by `build`.
    pub fn fraction(mut self, fraction: f64) -> Self {
        self.fraction = fraction;
        self
    }

    /// Sets the smallest number of deaths that activates the guard. Default: 3. Zero is treated as 1.
    pub fn at_least(mut self, nodes: usize) -> Self {
        self.at_least = nodes;
        self
    }

    /// Sets for how long a death counts, and how long the fleet must be calm before the guard ends. Default: 1 minute.
    /// It should be longer than the timeouts of the nodes. Zero is refused by `build`.
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets the longest time for which the guard stays active. The nodes that it still holds then go down. Default: 10
    /// minutes. With [`Duration::MAX`], the guard has no time limit. Zero is refused by `build`.
    pub fn longest(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }

    /// Returns the error of the first option that is out of range.
    pub(super) fn check(&self) -> Result<(), OptionError> {
        OptionError::check(
            "Guard::fraction",
            "be from 0 to 1",
            (0.0..=1.0).contains(&self.fraction),
        )?;
        OptionError::positive("Guard::window", !self.window.is_zero())?;
        OptionError::positive("Guard::longest", !self.longest.is_zero())
    }
}

impl Guard {
    /// Returns whether `part` of `whole` nodes exceeds the fraction. Computed in integers, because 0.29 × 100 is less
    /// than 29 in floating point.
    pub(super) fn is_more(&self, part: usize, whole: usize) -> bool {
        #[expect(clippy::cast_sign_loss, reason = "the fraction is from 0 to 1")]
        let billionths = (self.fraction * 1e9).round() as u128;
        part as u128 * 1_000_000_000 > billionths * whole as u128
    }
}

impl Default for Guard {
    fn default() -> Self {
        Guard::new()
    }
}

/// Removes a node that goes down repeatedly from the list for a while, although it beats. This is the route flap
/// damping of RFC 2439, applied to nodes.
///
/// Each time a node goes down, its *penalty* grows by 1. The penalty halves in each
/// [`half_life`](FlapDamping::half_life). When it exceeds [`suppress`](FlapDamping::suppress), the node is suppressed
/// until the penalty has fallen to [`reuse`](FlapDamping::reuse). The penalty is capped so that this takes at most
/// [`longest`](FlapDamping::longest).
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct FlapDamping {
    /// The time in which a penalty halves.
    pub(super) half_life: Duration,
    /// The penalty above which a node is suppressed.
    pub(super) suppress: f64,
    /// The penalty at which a node is no longer suppressed.
    pub(super) reuse: f64,
    /// The longest time for which a node is suppressed.
    pub(super) longest: Duration,
}

impl FlapDamping {
    /// Creates a damping with the default options: a half-life of 1 minute, suppression above a penalty of 2, reuse at
    /// 0.75, and at most 4 minutes of suppression. The two penalties are those that routers use; the times are a
    /// fifteenth of theirs.
    pub fn new() -> Self {
        FlapDamping {
            half_life: Duration::from_secs(60),
            suppress: 2.0,
            reuse: 0.75,
            longest: Duration::from_secs(240),
        }
    }

    /// Sets the time in which a penalty halves. Default: 1 minute. Zero is refused by `build`.
    pub fn half_life(mut self, half_life: Duration) -> Self {
        self.half_life = half_life;
        self
    }

    /// Sets the penalty above which a node is suppressed, a finite number. Default: 2, which a node exceeds when it
    /// goes down for the third time within a short while.
    pub fn suppress(mut self, penalty: f64) -> Self {
        self.suppress = penalty;
        self
    }

    /// Sets the penalty at which a node is no longer suppressed, greater than zero and at most `suppress`. Default:
    /// 0.75.
    pub fn reuse(mut self, penalty: f64) -> Self {
        self.reuse = penalty;
        self
    }

    /// Sets the longest time for which a node that stays up is suppressed. Default: 4 minutes. It must be longer than
    /// `suppress` takes to fall to `reuse`; otherwise no node could ever be suppressed.
    pub fn longest(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }

    /// Returns the error of the first option that is out of range.
    pub(super) fn check(&self) -> Result<(), OptionError> {
        OptionError::positive("FlapDamping::half_life", !self.half_life.is_zero())?;
        OptionError::check(
            "FlapDamping::suppress",
            "be a finite number",
            self.suppress.is_finite(),
        )?;
        OptionError::check(
            "FlapDamping::reuse",
            "be greater than zero, and at most `suppress`",
            self.reuse > 0.0 && self.reuse <= self.suppress,
        )?;
        OptionError::check(
            "FlapDamping::longest",
            "be longer than `suppress` takes to fall to `reuse`",
            self.ceiling() > self.suppress,
        )
    }

    /// The largest penalty, which takes `longest` to fall to `reuse`.
    pub(super) fn ceiling(&self) -> f64 {
        self.reuse * (self.longest.as_secs_f64() / self.half_life.as_secs_f64()).exp2()
    }

    /// The remainder of a penalty after a time.
    pub(super) fn decayed(&self, penalty: f64, after: Duration) -> f64 {
        penalty * (-after.as_secs_f64() / self.half_life.as_secs_f64()).exp2()
    }

    /// The time that a penalty takes to fall to `reuse`.
    pub(super) fn time_to_reuse(&self, penalty: f64) -> Duration {
        let half_lives = (penalty / self.reuse).log2().max(0.0);
        Duration::try_from_secs_f64(self.half_life.as_secs_f64() * half_lives)
            .unwrap_or(Duration::MAX)
    }
}

impl Default for FlapDamping {
    fn default() -> Self {
        FlapDamping::new()
    }
}

/// Options of one node that differ from those of the registry.
///
/// ```
/// use std::time::Duration;
/// use liveness::registry::{NodeOptions, Policy, Registry};
///
/// let registry = Registry::<&str, u16>::builder().build()?;
/// let slow = NodeOptions::new().policy(Policy::Fixed(Duration::from_secs(60))).weight(50);
/// registry.register_with("db-1", 5432, slow)?;
/// assert_eq!(registry.vitals(&"db-1").map(|it| it.timeout), Some(Duration::from_secs(60)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[must_use]
pub struct NodeOptions {
    /// The policy, if it is set.
    pub(super) policy: Option<Policy>,
    /// The full weight, if it is set.
    pub(super) weight: Option<u32>,
    /// The incarnation, if it is set.
    pub(super) incarnation: Option<Incarnation>,
}

impl NodeOptions {
    /// Creates options in which nothing is set.
    pub fn new() -> Self {
        NodeOptions::default()
    }

    /// Sets how long the node may be silent. Default: the policy of the registry. The registry's policy alone
    /// determines what counts as a stall of the registry; see [`Builder::policy`].
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Sets the full weight of the node, which the weighted pickers use. Default: 100. A node with a weight of zero is
    /// listed, and a weighted picker never picks it.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = Some(weight);
        self
    }

    /// Sets the incarnation that is registered: a number that the node sends and that grows each time it starts.
    /// Default: the registry assigns the next number. See [`Incarnation`].
    ///
    /// A newer incarnation needs [`rise`](Builder::rise) beats of its own if the node is not up. The gap between two
    /// incarnations is not an interval that an adaptive policy learns. An older incarnation is refused.
    pub fn incarnation(mut self, incarnation: impl Into<Incarnation>) -> Self {
        self.incarnation = Some(incarnation.into());
        self
    }

    /// Returns the full weight.
    pub(super) fn full_weight(&self) -> u32 {
        self.weight.unwrap_or(DEFAULT_WEIGHT)
    }

    /// Returns an error if the policy is out of range.
    pub(super) fn check(&self) -> Result<(), OptionError> {
        self.policy.map_or(Ok(()), |policy| policy.check())
    }
}

/// The options of the fleet.
#[derive(Clone, Debug)]
pub(super) struct Config {
    /// The policy of nodes that have none of their own.
    pub(super) policy: Policy,
    /// The number of beats in a row after which a node is up.
    pub(super) rise: u32,
    /// The number of timeouts missed in a row after which a node is down.
    pub(super) fall: u32,
    /// The flap damping, if there is any.
    pub(super) damping: Option<FlapDamping>,
    /// How long the weight of a listed node grows; zero for no slow start.
    pub(super) slow_start: Duration,
    /// How long a node that is down or has left is remembered.
    pub(super) forget_after: Duration,
    /// The guard, if there is one.
    pub(super) guard: Option<Guard>,
    /// The maximum number of nodes.
    pub(super) max_nodes: usize,
}

impl Config {
    /// Returns the default options.
    pub(super) fn new() -> Self {
        Config {
            policy: Policy::Fixed(Duration::from_secs(10)),
            rise: 1,
            fall: 1,
            damping: None,
            slow_start: Duration::ZERO,
            forget_after: Duration::from_secs(3_600),
            guard: Some(Guard::new()),
            max_nodes: usize::MAX,
        }
    }

    /// Returns the error of the first option that is out of range.
    pub(super) fn check(&self) -> Result<(), OptionError> {
        self.policy.check()?;
        OptionError::positive("rise", self.rise > 0)?;
        OptionError::positive("fall", self.fall > 0)?;
        OptionError::positive("max_nodes", self.max_nodes > 0)?;
        OptionError::positive("forget_after", !self.forget_after.is_zero())?;
        self.damping.map_or(Ok(()), |damping| damping.check())?;
        self.guard.map_or(Ok(()), |guard| guard.check())
    }
}

/// Creates a [`Registry`](super::Registry) from options. Options are validated by [`build`](Builder::build) only.
///
/// ```
/// use std::time::Duration;
/// use liveness::registry::{FlapDamping, Policy, Registry};
///
/// let registry = Registry::<u64, &str>::builder()
///     .policy(Policy::Fixed(Duration::from_secs(5)))
///     .rise(2)
///     .fall(3)
///     .flap_damping(FlapDamping::new())
///     .slow_start(Duration::from_secs(30))
///     .build()?;
/// # drop(registry);
///
/// let error = Registry::<u64, &str>::builder().rise(0).build().unwrap_err();
/// assert_eq!(error.to_string(), "`rise` must be greater than zero");
/// # Ok::<(), liveness::registry::RegistryError>(())
/// ```
#[must_use]
pub struct Builder<N, D> {
    /// The options of the fleet.
    pub(super) config: Config,
    /// The time source; a monotonic clock if not set.
    pub(super) clock: Option<Clock>,
    /// The prefix of the worker's thread name.
    pub(super) thread_name: String,
    /// The state to restore, and the grace for its nodes.
    #[cfg(feature = "serde")]
    pub(super) saved: Option<(super::Saved<N, D>, Duration)>,
    /// Binds the type parameters, which no other field uses.
    #[cfg(not(feature = "serde"))]
    pub(super) of: std::marker::PhantomData<fn() -> (N, D)>,
}

impl<N, D> Builder<N, D>
where
    N: Eq + Hash + Clone + Send + Sync + 'static,
    D: Send + Sync + 'static,
{
    /// Creates a builder with the default options.
    pub(super) fn new() -> Self {
        Builder {
            config: Config::new(),
            clock: None,
            thread_name: "registry".to_owned(),
            #[cfg(feature = "serde")]
            saved: None,
            #[cfg(not(feature = "serde"))]
            of: std::marker::PhantomData,
        }
    }

    /// Sets how long a node without a policy of its own may be silent. Default: 10 seconds, fixed. A policy that is out
    /// of range is refused by `build`.
    ///
    /// If the registry does not run for a quarter of that time, or for 100 ms if that is less, it has stalled. For a
    /// while, no node then misses a timeout. Nodes with much shorter policies of their own are not protected in this
    /// way.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.config.policy = policy;
        self
    }

    /// Sets how many beats in a row a node must make before it is up, at first and after it was down. Default: 1. Zero
    /// is refused by `build`. Registering is not a beat.
    pub fn rise(mut self, beats: u32) -> Self {
        self.config.rise = beats;
        self
    }

    /// Sets how many timeouts in a row a node must miss before it is down. Default: 1. Zero is refused by `build`. With
    /// more than 1, a node that is up is [`Suspect`](super::State::Suspect) after the first missed timeout, and still
    /// listed.
    pub fn fall(mut self, timeouts: u32) -> Self {
        self.config.fall = timeouts;
        self
    }

    /// Removes nodes that go down repeatedly from the list for a while. Default: no damping.
    pub fn flap_damping(mut self, damping: FlapDamping) -> Self {
        self.config.damping = Some(damping);
        self
    }

    /// Sets how long the weight of a node grows after it is listed, from a sixteenth to the full weight, in 16 equal
    /// steps. Any positive length is accepted. Default: zero, which gives the full weight at once.
    pub fn slow_start(mut self, length: Duration) -> Self {
        self.config.slow_start = length;
        self
    }

    /// Sets the time after which a node that is down or has left is forgotten, which frees its place. Default: 1 hour.
    /// With [`Duration::MAX`], nodes are never forgotten. Zero is refused by `build`.
    pub fn forget_after(mut self, time: Duration) -> Self {
        self.config.forget_after = time;
        self
    }

    /// Sets the guard that keeps the list when many nodes fall silent at once; `None` for no guard. Default:
    /// [`Guard::new`].
    pub fn mass_death_guard(mut self, guard: impl Into<Option<Guard>>) -> Self {
        self.config.guard = guard.into();
        self
    }

    /// Sets the maximum number of nodes, including those that are down or have left and are not yet forgotten. Default:
    /// no limit. A further node is refused and returned to the caller; no other node is evicted. Zero is refused by
    /// `build`.
    pub fn max_nodes(mut self, nodes: usize) -> Self {
        self.config.max_nodes = nodes;
        self
    }

    /// Sets the time source. Default: a monotonic clock whose origin is the call of `build`. With a
    /// [`ManualClock`](crate::ManualClock), tests are deterministic.
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = Some(clock.into());
        self
    }

    /// Sets the prefix of the worker's thread name. Default: `registry`. A prefix with a zero byte is refused by
    /// `build`.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = name.into();
        self
    }

    /// Starts with the nodes of a [saved](super::Registry::save) registry, with their states, incarnations, flags,
    /// penalties and remaining times.
    ///
    /// No node misses a timeout before `grace` is over, because beats were not received in the meantime. A suitable
    /// grace is the timeouts of a node plus the time in which it finds the new registry. A grace of zero leaves each
    /// node its remaining time. The time between saving and restoring does not count. Nodes that are down or have left
    /// are forgotten when their remaining time is over.
    #[cfg(feature = "serde")]
    pub fn restore(mut self, saved: super::Saved<N, D>, grace: Duration) -> Self {
        self.saved = Some((saved, grace));
        self
    }
}

/// Returns the time `length` after `now`, or `None` if it never comes.
pub(super) fn after(now: Duration, length: Duration) -> Option<Duration> {
    now.checked_add(length).filter(|_| length != Duration::MAX)
}

impl<N, D> fmt::Debug for Builder<N, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .field("thread_name", &self.thread_name)
            .finish_non_exhaustive()
    }
}
