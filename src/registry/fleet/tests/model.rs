//! The naive list, which looks at every node at every second and remembers nothing else.

use super::super::*;
use super::machine::Id;
use super::s;

/// A penalty, when it was that, and whether the node is suppressed.
type Penalty = (f64, u64, bool);

/// What is seen of a node: id, data, weight, state, incarnation; whether it is listed, drained, suppressed, held.
pub(super) type Seen = (Id, u32, u32, State, u64, [bool; 4]);

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Unknown,
    Left,
    Full,
    Superseded(u64),
}

/// A node of the naive list.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is independent of the others and of the state"
)]
#[derive(Clone, Debug)]
struct Naive {
    id: Id,
    data: u32,
    weight: u32,
    own_timeout: Option<u64>,
    incarnation: u64,
    state: State,
    streak: u32,
    misses: u32,
    /// Since when the step of the silence that runs, unless it is not watched.
    silent_since: Option<u64>,
    is_drained: bool,
    is_held: bool,
    penalty: Penalty,
    /// When it went down or left.
    gone: Option<u64>,
    /// When it came into the list.
    listed_since: Option<u64>,
    /// When it went down while it was listed, and penalty and listing before that.
    death: Option<(u64, Penalty, Option<u64>)>,
    /// Whether it was up since it was registered as a new node.
    was_up: bool,
    /// Whether this silence has been counted as a death.
    is_counted: bool,
}

/// The naive list.
pub(super) struct Model {
    config: Config,
    nodes: Vec<Naive>,
    /// When the guard came up, and since when it is calm.
    guard: Option<(u64, Option<u64>)>,
    /// The last incarnation that was made up.
    last_incarnation: u64,
    now: u64,
    pub(super) deaths: u64,
    pub(super) recoveries: u64,
}

/// Whether `part` of `whole` is more than `fraction`, which is given in hundredths.
fn is_more(part: usize, whole: usize, fraction: f64) -> bool {
    let hundredths = (0..=100u32).find(|&it| (f64::from(it) / 100.0 - fraction).abs() < 1e-9);
    100 * part as u64 > u64::from(hundredths.expect("it is given so")) * whole as u64
}

impl Naive {
    fn is_listed(&self) -> bool {
        matches!(self.state, State::Up | State::Suspect) && !self.is_drained && !self.penalty.2
    }
}

impl Model {
    pub(super) fn new(config: Config) -> Self {
        Model {
            config,
            nodes: Vec::new(),
            guard: None,
            last_incarnation: 0,
            now: 0,
            deaths: 0,
            recoveries: 0,
        }
    }

    pub(super) fn is_guarded(&self) -> bool {
        self.guard.is_some()
    }

    /// The node, if it is the life of it that is meant.
    fn living(&self, id: Id, life: Option<u64>) -> Result<usize, Refusal> {
        let at = self.find(id).ok_or(Refusal::Unknown)?;
        let current = self.nodes[at].incarnation;
        match life {
            Some(life) if life < current => Err(Refusal::Superseded(current)),
            Some(life) if life > current => Err(Refusal::Unknown),
            _ => Ok(at),
        }
    }

    pub(super) fn leave(&mut self, id: Id, life: Option<u64>) -> Result<(), Refusal> {
        let now = self.now;
        let at = self.living(id, life)?;
        let node = &mut self.nodes[at];
        if node.state != State::Left {
            (node.state, node.is_held, node.silent_since) = (State::Left, false, None);
            (node.death, node.gone) = (None, Some(now));
        }
        Ok(())
    }

    pub(super) fn drain(&mut self, id: Id, is_drained: bool) {
        if let Some(at) = self.find(id)
            && self.nodes[at].is_drained != is_drained
        {
            self.nodes[at].is_drained = is_drained;
            if is_drained {
                self.nodes[at].death = None;
            }
            if self.nodes[at].is_held {
                self.down(at);
            }
        }
    }

    pub(super) fn forget(&mut self, id: Id) {
        self.nodes.retain(|node| node.id != id);
    }

    /// The order in which nodes that fall silent together do so.
    pub(super) fn order(&self) -> Vec<Id> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    fn find(&self, id: Id) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == id)
    }

    fn listed(&self) -> usize {
        self.nodes.iter().filter(|node| node.is_listed()).count()
    }

    fn held(&self) -> usize {
        self.nodes.iter().filter(|node| node.is_held).count()
    }

    /// After each call: since when who is listed, and what becomes of the guard.
    pub(super) fn settle(&mut self) {
        let now = self.now;
        for node in &mut self.nodes {
            if !node.is_listed() {
                node.listed_since = None;
            } else if node.listed_since.is_none() {
                node.listed_since = Some(now);
            }
        }
        if let (Some(guard), Some((up, calm))) = (self.config.guard, self.guard) {
            let is_calm = !is_more(self.held(), self.listed(), guard.fraction);
            self.guard = Some((up, is_calm.then(|| calm.unwrap_or(now))));
            if self.held() == 0 {
                self.guard = None;
            }
        }
    }

    pub(super) fn register(
        &mut self,
        id: Id,
        data: u32,
        own_timeout: Option<u64>,
        weight: u32,
        life: Option<u64>,
    ) -> Result<u64, Refusal> {
        let known = self.find(id);
        if known.is_none() && self.nodes.len() >= self.config.max_nodes {
            return Err(Refusal::Full);
        }
        let before = known.map(|at| (self.nodes[at].incarnation, self.nodes[at].state));
        let incarnation = match (before, life) {
            (Some((current, _)), Some(life)) if life < current => {
                return Err(Refusal::Superseded(current));
            }
            (Some((current, State::Left)), Some(life)) if life == current => {
                return Err(Refusal::Left);
            }
            (_, Some(life)) => life,
            (before, None) => {
                let current = before.map_or(0, |before| before.0);
                self.last_incarnation = self.last_incarnation.max(current) + 1;
                self.last_incarnation
            }
        };
        let fresh = Naive {
            id,
            data,
            weight,
            own_timeout,
            incarnation,
            state: State::Joining,
            streak: 0,
            misses: 0,
            silent_since: Some(self.now),
            is_drained: false,
            is_held: false,
            penalty: (0.0, self.now, false),
            gone: None,
            listed_since: None,
            death: None,
            was_up: false,
            is_counted: false,
        };
        let Some(at) = known else {
            self.nodes.push(fresh);
            return Ok(incarnation);
        };
        let node = &mut self.nodes[at];
        if node.state == State::Left {
            *node = Naive {
                is_drained: node.is_drained,
                penalty: node.penalty,
                ..fresh
            };
            return Ok(incarnation);
        }
        (node.data, node.weight, node.own_timeout) = (data, weight, own_timeout);
        if life.is_some() && incarnation > node.incarnation {
            node.streak = 0;
        }
        node.incarnation = incarnation;
        if node.state == State::Down {
            node.gone = Some(self.now);
        }
        self.settle();
        self.miss(at);
        Ok(incarnation)
    }

    pub(super) fn beat(&mut self, id: Id, life: Option<u64>) -> Result<(), Refusal> {
        let (now, rise) = (self.now, self.config.rise);
        let at = self.living(id, life)?;
        if self.nodes[at].state == State::Left {
            return Err(Refusal::Left);
        }
        let node = &mut self.nodes[at];
        node.misses = 0;
        node.is_counted = false;
        node.streak += 1;
        node.silent_since = Some(now);
        match node.state {
            State::Suspect => {
                node.state = State::Up;
                node.is_held = false;
            }
            State::Joining | State::Down => {
                node.death = None;
                node.gone = None;
                let is_up = node.streak >= rise;
                node.state = if is_up { State::Up } else { State::Joining };
                if is_up {
                    self.recoveries += u64::from(node.was_up);
                    node.was_up = true;
                }
            }
            State::Up | State::Left => {}
        }
        Ok(())
    }

    fn down(&mut self, at: usize) {
        let (now, damping) = (self.now, self.config.damping);
        let node = &mut self.nodes[at];
        if let (Some(damping), true) = (damping, node.state != State::Joining) {
            let (penalty, since, was) = node.penalty;
            let penalty = (damping.decayed(penalty, s(now - since)) + 1.0).min(damping.ceiling());
            node.penalty = (penalty, now, was || penalty > damping.suppress);
        }
        self.deaths += u64::from(!node.is_counted);
        node.is_counted = true;
        node.state = State::Down;
        node.is_held = false;
        node.streak = 0;
        node.gone = Some(now);
        node.silent_since = None;
    }

    fn hold(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.state = State::Suspect;
        node.is_held = true;
        node.streak = 0;
        node.gone = None;
        node.silent_since = None;
        if let Some((_, penalty, listed_since)) = node.death.take() {
            (node.penalty, node.listed_since) = (penalty, listed_since);
        }
    }

    fn fail(&mut self, at: usize) {
        let now = self.now;
        let Some(guard) = self.config.guard.filter(|_| self.nodes[at].is_listed()) else {
            return self.down(at);
        };
        if self.guard.is_some() {
            return self.hold(at);
        }
        let is_recent = |node: &Naive| {
            node.death
                .is_some_and(|death| now - death.0 < guard.window.as_secs())
        };
        let recent = self.nodes.iter().filter(|node| is_recent(node)).count();
        let is_mass = is_more(recent + 1, self.listed() + recent, guard.fraction);
        if recent + 1 < guard.at_least || !is_mass {
            let node = &self.nodes[at];
            let death = (now, node.penalty, node.listed_since);
            self.down(at);
            self.nodes[at].death = Some(death);
            return;
        }
        self.guard = Some((now, None));
        for other in 0..self.nodes.len() {
            if other == at || is_recent(&self.nodes[other]) {
                self.hold(other);
            }
            self.nodes[other].death = None;
        }
    }

    /// All timeouts that the node has missed by now.
    fn miss(&mut self, at: usize) {
        let deadline = |node: &Naive| Some(node.silent_since? + node.own_timeout.unwrap_or(10));
        while let Some(deadline) = deadline(&self.nodes[at]).filter(|&it| it <= self.now) {
            let node = &mut self.nodes[at];
            node.silent_since = Some(deadline);
            node.streak = 0;
            node.misses += 1;
            if node.misses >= self.config.fall {
                self.fail(at);
            } else if self.nodes[at].state == State::Up {
                self.nodes[at].state = State::Suspect;
            }
            self.settle();
        }
    }

    pub(super) fn tick(&mut self) {
        self.now += 1;
        let now = self.now;
        for at in 0..self.nodes.len() {
            self.miss(at);
        }
        let config = &self.config;
        self.nodes.retain(|node| {
            let forget_after = config.forget_after.as_secs();
            node.gone.is_none_or(|gone| now - gone < forget_after)
        });
        for node in &mut self.nodes {
            if let (Some(damping), (penalty, since, true)) = (&config.damping, node.penalty) {
                node.penalty.2 = s(now - since) < damping.time_to_reuse(penalty);
            }
        }
        if let (Some(guard), Some((up, calm))) = (self.config.guard, self.guard) {
            let is_over = |since: u64, length: Duration| now - since >= length.as_secs();
            if is_over(up, guard.longest) || calm.is_some_and(|calm| is_over(calm, guard.window)) {
                self.guard = None;
                for at in 0..self.nodes.len() {
                    if self.nodes[at].is_held {
                        self.down(at);
                    }
                }
            }
        }
        self.settle();
    }

    /// What must be seen of each node, sorted by id.
    pub(super) fn seen(&self) -> Vec<Seen> {
        let weight = |node: &Naive| {
            let length = self.config.slow_start.as_secs();
            let since = node.listed_since.filter(|_| length > 0);
            let step = since.map_or(16, |since| (1 + (self.now - since) * 15 / length).min(16));
            (u64::from(node.weight) * step).div_ceil(16) as u32
        };
        let seen = |node: &Naive| {
            let flags = [
                node.is_listed(),
                node.is_drained,
                node.penalty.2,
                node.is_held,
            ];
            (
                node.id,
                node.data,
                weight(node),
                node.state,
                node.incarnation,
                flags,
            )
        };
        let mut all: Vec<_> = self.nodes.iter().map(seen).collect();
        all.sort_unstable_by_key(|it| it.0);
        all
    }
}
