//! The options of a registry: defaults, units, validation.

use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use super::{Incarnation, Policy};
use crate::clock::Clock;
use crate::error::OptionError;

/// The weight of a node that is given none: large enough that others may have less.
const DEFAULT_WEIGHT: u32 = 100;

/// Keeps the list as it is when many nodes fall silent at once, because then it is likely that the registry does not hear
/// them. If more than a fraction of the list, and at least a number of nodes, would go down within a window, all of them are
/// *held*: they stay listed as [`Suspect`](super::State::Suspect), or are listed again.
///
/// A node counts if it was listed when it went down, and has not beaten, left, been drained or forgotten since; the
/// fraction is of all that are listed and those. While the guard is active every further node that would go down is held
/// too. It ends by itself:
///
/// - at once when no node is held any longer;
/// - when no more than the fraction of the list was held for a whole window, so that all nodes have time to be heard when a
///   network comes back;
/// - in any case after [`longest`](Guard::longest).
///
/// The nodes that are held by then go down. In small fleets the rules are the same: fewer than
/// [`at_least`](Guard::at_least) deaths never bring the guard up, so by default one or two nodes are never held.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct Guard {
    /// The largest fraction of the list that may go down within the window.
    pub(super) fraction: f64,
    /// So many deaths at the least bring it up.
    pub(super) at_least: usize,
    /// How long a death counts, and how long it must be calm for the end.
    pub(super) window: Duration,
    /// How long it lasts at the most.
    pub(super) longest: Duration,
}

impl Guard {
    /// Creates a guard with the defaults: more than half of the list and at least 3 nodes within a minute, for at most 10
    /// minutes.
    pub fn new() -> Self {
        Guard {
            fraction: 0.5,
            at_least: 3,
            window: Duration::from_secs(60),
            longest: Duration::from_secs(600),
        }
    }

    /// Sets the largest fraction of the list that may go down within the window, from 0 to 1, rounded to a billionth.
    /// Default: 0.5. With 1 the guard never comes into force. Any other value is an error.
    pub fn fraction(mut self, fraction: f64) -> Self {
        self.fraction = fraction;
        self
    }

    /// Sets the least number of deaths that bring the guard into force. Default: 3. Zero is taken as 1.
    pub fn at_least(mut self, nodes: usize) -> Self {
        self.at_least = nodes;
        self
    }

    /// Sets how long a death counts, and how long it must be calm before the guard ends. Default: a minute. It should be
    /// longer than the timeouts. Zero is an error.
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets how long the guard lasts at most; then the nodes that it holds go down. Default: 10 minutes. Zero is an error;
    /// [`Duration::MAX`] means that only beats end it.
    pub fn longest(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }

    /// Whether it makes sense.
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
    /// Whether `part` of `whole` nodes is more than the fraction. In integers, since 0.29 × 100 is less than 29 in floating
    /// point.
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

/// Keeps a node that goes down again and again out of the list for a while, although it beats: the route flap damping of RFC
/// 2439 for nodes.
///
/// Each time a node goes down its *penalty* grows by 1; it halves in each [`half_life`](FlapDamping::half_life). Above
/// [`suppress`](FlapDamping::suppress) the node is suppressed, until the penalty has fallen to
/// [`reuse`](FlapDamping::reuse), however well it beats. The penalty never exceeds what takes
/// [`longest`](FlapDamping::longest) to fall that far.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct FlapDamping {
    /// In which time a penalty halves.
    pub(super) half_life: Duration,
    /// The penalty above which a node is suppressed.
    pub(super) suppress: f64,
    /// The penalty at which it is no more.
    pub(super) reuse: f64,
    /// The longest that it is.
    pub(super) longest: Duration,
}

impl FlapDamping {
    /// Creates a damping with the defaults: half of the penalty goes in a minute; a node is suppressed above 2 and reused at
    /// 0.75, after 4 minutes at most. The limits are those that routers use, the times are a fifteenth of theirs.
    pub fn new() -> Self {
        FlapDamping {
            half_life: Duration::from_secs(60),
            suppress: 2.0,
            reuse: 0.75,
            longest: Duration::from_secs(240),
        }
    }

    /// Sets the time in which a penalty halves. Default: a minute. Zero is an error.
    pub fn half_life(mut self, half_life: Duration) -> Self {
        self.half_life = half_life;
        self
    }

    /// Sets the penalty above which a node is suppressed, a finite number. The default, 2, is exceeded when a node goes down
    /// for the third time in a short while.
    pub fn suppress(mut self, penalty: f64) -> Self {
        self.suppress = penalty;
        self
    }

    /// Sets the penalty at which a node is no longer suppressed: above zero, and no more than `suppress`. Default: 0.75.
    pub fn reuse(mut self, penalty: f64) -> Self {
        self.reuse = penalty;
        self
    }

    /// Sets for how long a node is suppressed at most, once it stays up. Default: 4 minutes. It must be longer than it takes
    /// `suppress` to fall to `reuse`, or nothing would ever be suppressed.
    pub fn longest(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }

    /// Whether it makes sense.
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

    /// The largest penalty: one that takes `longest` to fall to `reuse`.
    pub(super) fn ceiling(&self) -> f64 {
        self.reuse * (self.longest.as_secs_f64() / self.half_life.as_secs_f64()).exp2()
    }

    /// What is left of a penalty after a time.
    pub(super) fn decayed(&self, penalty: f64, after: Duration) -> f64 {
        penalty * (-after.as_secs_f64() / self.half_life.as_secs_f64()).exp2()
    }

    /// How long a penalty takes to fall to `reuse`.
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

/// The options of one node, where they differ from the registry's.
///
/// ```
/// use std::time::Duration;
/// use liveness::registry::{NodeOptions, Policy, Registry};
///
/// let registry = Registry::<&str, u16>::builder().build()?;
/// let slow = NodeOptions::new().policy(Policy::Fixed(Duration::from_secs(60))).weight(50);
/// registry.register_with("db-1", 5432, slow)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[must_use]
pub struct NodeOptions {
    /// Its policy, if it is set.
    pub(super) policy: Option<Policy>,
    /// Its full weight, if it is set.
    pub(super) weight: Option<u32>,
    /// Which life of it this is, if it is set.
    pub(super) incarnation: Option<Incarnation>,
}

impl NodeOptions {
    /// Creates options with nothing set.
    pub fn new() -> Self {
        NodeOptions::default()
    }

    /// Sets how long the node may be silent. Default: the registry's policy. That one also decides what counts as a stall of
    /// the registry; see [`Builder::policy`].
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Sets the node's full weight, for pickers that go by weight. Default: 100. A node of weight zero is listed, and these
    /// never pick it.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = Some(weight);
        self
    }

    /// Sets which life of the node registers: a number that the node sends, and that grows each time it starts. Default: the
    /// registry gives the next one. See [`Incarnation`].
    ///
    /// A newer one than before begins a new life: the node needs [`rise`](Builder::rise) beats of its own if it is not up,
    /// and the gap between the two lives is no interval that an adaptive policy learns. An older one is refused.
    pub fn incarnation(mut self, incarnation: impl Into<Incarnation>) -> Self {
        self.incarnation = Some(incarnation.into());
        self
    }

    /// The full weight.
    pub(super) fn full_weight(&self) -> u32 {
        self.weight.unwrap_or(DEFAULT_WEIGHT)
    }

    /// Whether they make sense.
    pub(super) fn check(&self) -> Result<(), OptionError> {
        self.policy.map_or(Ok(()), |policy| policy.check())
    }
}

/// What the fleet is told once.
#[derive(Clone, Debug)]
pub(super) struct Config {
    /// How long a node may be silent that has no policy of its own.
    pub(super) policy: Policy,
    /// Beats in a row before a node is up.
    pub(super) rise: u32,
    /// Timeouts missed in a row before it is down.
    pub(super) fall: u32,
    /// What is done about flapping.
    pub(super) damping: Option<FlapDamping>,
    /// How long the weight grows; zero for not at all.
    pub(super) slow_start: Duration,
    /// How long who is down or has left is remembered.
    pub(super) forget_after: Duration,
    /// What is done about mass death.
    pub(super) guard: Option<Guard>,
    /// The most nodes.
    pub(super) max_nodes: usize,
}

impl Config {
    /// The defaults.
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

    /// Whether it makes sense.
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

/// The options of a [`Registry`](super::Registry). Only [`build`](Builder::build) fails.
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
    /// What the fleet is told.
    pub(super) config: Config,
    /// The time source; a monotonic clock if not set.
    pub(super) clock: Option<Clock>,
    /// What the name of the worker begins with.
    pub(super) thread_name: String,
    /// What another registry knew.
    #[cfg(feature = "serde")]
    pub(super) saved: Option<(super::Saved<N, D>, Duration)>,
    /// What it builds a registry of.
    #[cfg(not(feature = "serde"))]
    pub(super) of: std::marker::PhantomData<fn() -> (N, D)>,
}

impl<N, D> Builder<N, D>
where
    N: Eq + Hash + Clone + Send + Sync + 'static,
    D: Send + Sync + 'static,
{
    /// The defaults.
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

    /// Sets how long a node without a policy of its own may be silent. Default: 10 seconds, fixed. A policy that makes no
    /// sense is an error.
    ///
    /// If the registry itself does not run for a quarter of that time, or for 100 ms if that is less, it has stalled, and no
    /// node misses a timeout for a while. Nodes with much shorter policies of their own do not have that protection.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.config.policy = policy;
        self
    }

    /// Sets how many beats in a row a node makes before it is up, at first and after it was down. Default: 1. Zero is an
    /// error. Registering is no beat.
    pub fn rise(mut self, beats: u32) -> Self {
        self.config.rise = beats;
        self
    }

    /// Sets how many timeouts in a row a node misses before it is down. Default: 1. Zero is an error. A node that is up is
    /// [`Suspect`](super::State::Suspect) after the first, and still listed.
    pub fn fall(mut self, timeouts: u32) -> Self {
        self.config.fall = timeouts;
        self
    }

    /// Keeps nodes that go down again and again out of the list for a while. Default: not.
    pub fn flap_damping(mut self, damping: FlapDamping) -> Self {
        self.config.damping = Some(damping);
        self
    }

    /// Sets how long the weight of a node that comes into the list grows, from a sixteenth to its full one, in 16 steps, however
    /// small that is. Default, and zero: not at all.
    pub fn slow_start(mut self, length: Duration) -> Self {
        self.config.slow_start = length;
        self
    }

    /// Sets after how long a node that is down or has left is forgotten, and its place is free. Default: an hour. Zero is an
    /// error; [`Duration::MAX`] means never.
    pub fn forget_after(mut self, time: Duration) -> Self {
        self.config.forget_after = time;
        self
    }

    /// Sets the guard against mass death; `None` for no guard. Default: [`Guard::new`].
    pub fn mass_death_guard(mut self, guard: impl Into<Option<Guard>>) -> Self {
        self.config.guard = guard.into();
        self
    }

    /// Sets the largest number of nodes. Those that are down or have left count until they are forgotten. Default: no limit.
    /// Zero is an error. A node beyond it is refused and handed back; no other node has to go.
    pub fn max_nodes(mut self, nodes: usize) -> Self {
        self.config.max_nodes = nodes;
        self
    }

    /// Sets the time source. Default: a monotonic clock whose origin is the call of `build`. A
    /// [`ManualClock`](crate::ManualClock) makes tests deterministic.
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = Some(clock.into());
        self
    }

    /// Sets what the name of the worker thread begins with. Default: `registry`. A name with a zero byte is an error.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = name.into();
        self
    }

    /// Begins with the nodes of a registry that was saved: listed as they were, with their states, incarnations, flags and
    /// penalties, and the time that each had left. No node misses a timeout before `grace` is over, because beats went unheard
    /// meanwhile: give the timeouts of a node plus the time in which it finds the new registry. Nodes that were down or had
    /// left are forgotten when their time is over. The time between saving and restoring does not count.
    #[cfg(feature = "serde")]
    pub fn restore(mut self, saved: super::Saved<N, D>, grace: Duration) -> Self {
        self.saved = Some((saved, grace));
        self
    }
}

/// The time `length` after `now`; `None` if that is never.
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
