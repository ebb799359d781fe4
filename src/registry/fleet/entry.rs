//! The state of one node in the fleet.

use std::time::Duration;

use super::super::available::{Node, Place, SHARES};
use super::super::incarnation::Incarnation;
use super::super::options::{Config, NodeOptions, after};
use super::super::policy::{Gap, History, Policy};
use super::super::update::{NodeStatus, State};

/// A node.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is independent of the others and of the state"
)]
pub(in crate::registry) struct Entry<N, D> {
    /// Id, data and present weight.
    pub(in crate::registry) node: Node<N, D>,
    /// The incarnation that is registered.
    pub(in crate::registry) incarnation: Incarnation,
    /// Its own policy, if it has one.
    pub(in crate::registry) policy: Option<Policy>,
    /// What the policy has learned from its beats.
    pub(in crate::registry) history: History,
    /// The silence that is allowed from `silent_since` on. The same for all beats under one number of the watcher.
    pub(in crate::registry) timeout: Duration,
    /// The start of the present step of the silence: the last beat, the last missed timeout, or the start of the watch.
    pub(in crate::registry) silent_since: Duration,
    /// Its last beat.
    pub(in crate::registry) last_beat: Option<Duration>,
    /// The number of beats in a row, while it is joining or down.
    pub(in crate::registry) streak: u32,
    /// The number of timeouts missed in a row.
    pub(in crate::registry) misses: u32,
    /// The number under which the watcher watches it; `None` if it is not watched because it is down, held or has left.
    pub(in crate::registry) watch: Option<u64>,
    /// Its state.
    pub(in crate::registry) state: State,
    /// When it entered that state.
    pub(in crate::registry) since: Duration,
    /// How long it had been down at a moment, and that moment. `None` if it was never up, or has been up since.
    pub(in crate::registry) down: Option<(Duration, Duration)>,
    /// Whether it is drained.
    pub(in crate::registry) is_drained: bool,
    /// Whether it is suppressed.
    pub(in crate::registry) is_suppressed: bool,
    /// Whether it is held.
    pub(in crate::registry) is_held: bool,
    /// Its penalty at a moment, and that moment.
    pub(in crate::registry) penalty: (f64, Duration),
    /// When it is no longer suppressed; only used while it is suppressed.
    pub(in crate::registry) reuse_at: Duration,
    /// When its slow start ends, if it is in one.
    pub(in crate::registry) ramp_end: Option<Duration>,
    /// When it is forgotten, if it is to be forgotten.
    pub(in crate::registry) forget_at: Option<Duration>,
    /// Whether it went down in this silence and the guard then held it. Going down again is not counted as another
    /// death.
    pub(in crate::registry) was_taken_back: bool,
    /// Its state before it went down, while its death counts for the guard.
    pub(in crate::registry) death: Option<Death>,
    /// Its place in the list, if it is listed.
    pub(in crate::registry) place: Option<Place>,
    /// The time of its entry in the agenda, if there is one.
    pub(in crate::registry) due: Option<Duration>,
}

/// The state of a listed node before it went down, which the guard restores when it holds the node.
#[derive(Clone, Copy, Debug)]
pub(in crate::registry) struct Death {
    /// When it went down.
    pub(in crate::registry) at: Duration,
    /// Its penalty before that.
    pub(in crate::registry) penalty: (f64, Duration),
    /// The end of its slow start, if it was in one.
    pub(in crate::registry) ramp_end: Option<Duration>,
}

impl<N, D> Entry<N, D> {
    /// Creates a node that joins at `now`.
    pub(in crate::registry) fn new(
        node: Node<N, D>,
        incarnation: Incarnation,
        options: &NodeOptions,
        now: Duration,
    ) -> Self {
        Entry {
            node,
            incarnation,
            policy: options.policy,
            history: History::new(),
            timeout: Duration::MAX,
            silent_since: now,
            last_beat: None,
            streak: 0,
            misses: 0,
            watch: None,
            state: State::Joining,
            since: now,
            down: None,
            is_drained: false,
            is_suppressed: false,
            is_held: false,
            penalty: (0.0, now),
            reuse_at: now,
            ramp_end: None,
            forget_at: None,
            was_taken_back: false,
            death: None,
            place: None,
            due: None,
        }
    }

    /// Returns its status.
    pub(in crate::registry) fn status(&self) -> NodeStatus<N, D> {
        NodeStatus {
            node: self.node.clone(),
            incarnation: self.incarnation,
            state: self.state,
            since: self.since.into(),
            is_drained: self.is_drained,
            is_suppressed: self.is_suppressed,
            is_held: self.is_held,
        }
    }

    /// Returns whether its timeout is learned from its beats and it is expected to beat.
    pub(in crate::registry) fn is_learned(&self, config: &Config) -> bool {
        let policy = self.policy.unwrap_or(config.policy);
        matches!(policy, Policy::Adaptive(_)) && !matches!(self.state, State::Down | State::Left)
    }

    /// Returns when it misses a timeout unless it beats. An earlier report of silence has no effect.
    pub(in crate::registry) fn deadline(&self) -> Duration {
        self.silent_since.saturating_add(self.timeout)
    }

    /// Returns whether it belongs in the list.
    pub(in crate::registry) fn is_listed(&self) -> bool {
        matches!(self.state, State::Up | State::Suspect) && !self.is_drained && !self.is_suppressed
    }

    /// Records a beat at `now`, and returns the timeout from now on. The last stall of the registry ended at `resumed`
    /// after `deaf_for`.
    pub(in crate::registry) fn beat(
        &mut self,
        config: &Config,
        (resumed, deaf_for): (Duration, Duration),
        now: Duration,
    ) -> Duration {
        // If a timeout passed without a report, the registry did not run, and this is not an interval of the node.
        let is_interval = now < self.deadline() || self.misses > 0;
        let before = self.last_beat.replace(now);
        let is_heard = |before| before >= resumed || !History::is_spoiled(now - before, deaf_for);
        let before = before.filter(|&before| is_interval && (before > now || is_heard(before)));
        self.misses = 0;
        self.was_taken_back = false;
        self.streak = self.streak.saturating_add(1);
        let policy = self.policy.unwrap_or(config.policy);
        self.history.beat(&policy, before, now)
    }

    /// Marks it as down at `now`, adds the penalty, and sets how long it is remembered.
    pub(in crate::registry) fn go_down(&mut self, config: &Config, now: Duration) {
        if let Some(damping) = &config.damping
            && self.state != State::Joining
        {
            let (penalty, at) = self.penalty;
            let penalty = damping.decayed(penalty, now.saturating_sub(at)) + 1.0;
            let penalty = penalty.min(damping.ceiling());
            self.penalty = (penalty, now);
            self.is_suppressed |= penalty > damping.suppress;
            self.reuse_at = now.saturating_add(damping.time_to_reuse(penalty));
        }
        if self.state != State::Joining {
            self.down.get_or_insert((Duration::ZERO, now));
        }
        self.state = State::Down;
        self.is_held = false;
        self.streak = 0;
        self.forget_at = after(now, config.forget_after);
        self.history.forget(Gap::Death);
    }

    /// Returns the share of its weight at `now`: a sixteenth at the start of a slow start, all of it at the end.
    pub(in crate::registry) fn share(&self, config: &Config, now: Duration) -> u8 {
        let length = config.slow_start.as_nanos();
        let Some(end) = self.ramp_end.filter(|&end| end > now) else {
            return SHARES;
        };
        if self.node.full_weight() == 0 {
            return SHARES; // of nothing
        }
        let elapsed = length.saturating_sub((end - now).as_nanos());
        let step = 1 + elapsed * u128::from(SHARES - 1) / length.max(1);
        u8::try_from(step).map_or(SHARES, |step| step.min(SHARES))
    }

    /// Returns the next step of its slow start after `now`, if there is one.
    fn next_step(&self, config: &Config, now: Duration) -> Option<Duration> {
        let end = self.ramp_end.filter(|&end| end > now)?;
        let length = config.slow_start.as_nanos();
        let elapsed = length.saturating_sub((end - now).as_nanos());
        let steps = u128::from(SHARES - 1);
        let next = ((elapsed * steps / length.max(1) + 1) * length).div_ceil(steps);
        let left = u64::try_from(length.saturating_sub(next)).unwrap_or(u64::MAX);
        Some(end.saturating_sub(Duration::from_nanos(left)))
    }

    /// Returns when the fleet must check it next, apart from silence.
    pub(in crate::registry) fn next_due(&self, config: &Config, now: Duration) -> Option<Duration> {
        let reuse = self.is_suppressed.then_some(self.reuse_at);
        let step = self.next_step(config, now);
        [self.forget_at, reuse, step].into_iter().flatten().min()
    }
}
