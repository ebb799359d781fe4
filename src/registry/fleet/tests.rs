//! The fleet against a naive list, which looks at every node at every second and remembers nothing else.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::registry::options::{FlapDamping, Guard};
use crate::registry::policy::{PhiAccrual, Policy};
use crate::registry::update::Fleet;

/// Ids are few, so that nodes come back.
type Id = u8;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What may be done to a fleet.
#[derive(Clone, Debug)]
enum Op {
    Register(Id, Option<u64>, u32),
    Beat(Id),
    BeatAll(u8),
    Leave(Id),
    Drain(Id, bool),
    Forget(Id),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let id = 0..12u8;
    let timeout = prop::option::weighted(0.2, 1..30u64);
    prop_oneof![
        4 => (id.clone(), timeout, 0..200u32).prop_map(|(id, timeout, weight)| Op::Register(id, timeout, weight)),
        8 => id.clone().prop_map(Op::Beat),
        6 => any::<u8>().prop_map(Op::BeatAll),
        1 => id.clone().prop_map(Op::Leave),
        2 => (id.clone(), any::<bool>()).prop_map(|(id, is_drained)| Op::Drain(id, is_drained)),
        1 => id.prop_map(Op::Forget),
        8 => (1..25u64).prop_map(Op::Pass),
    ]
}

fn config() -> impl Strategy<Value = Config> {
    let damping = FlapDamping::new()
        .half_life(s(60))
        .suppress(1.5)
        .longest(s(150));
    let guard = Guard::new().window(s(37)).longest(s(90));
    (
        1..4u32,
        1..4u32,
        prop::option::of(Just(damping)),
        prop::option::weighted(
            0.8,
            (0..4usize).prop_map(move |least| guard.at_least(least)),
        ),
        prop_oneof![Just(s(0)), Just(s(45))],
        prop_oneof![Just(s(53)), Just(Duration::MAX)],
        prop_oneof![Just(9usize), Just(usize::MAX)],
    )
        .prop_map(
            |(rise, fall, damping, guard, slow_start, forget_after, max_nodes)| Config {
                policy: Policy::Fixed(s(10)),
                rise,
                fall,
                damping,
                slow_start,
                forget_after,
                guard,
                max_nodes,
            },
        )
}

/// A fleet under a watcher that is a plain map, and a subscriber.
struct Real {
    keeper: Keeper<Id, u32>,
    /// What is watched: until when, for how long, and whether it is watched on after that.
    watched: HashMap<Watched, (u64, u64)>,
    picture: Fleet<Id, u32>,
    list: Available<Id, u32>,
    now: u64,
}

impl Real {
    fn new(config: Config) -> Self {
        let keeper = Keeper::new(config);
        Real {
            picture: keeper.fleet(),
            list: keeper.list(),
            keeper,
            watched: HashMap::new(),
            now: 0,
        }
    }

    /// What the registry does after each call.
    fn settle(&mut self) {
        let outcome = self.keeper.take();
        outcome
            .orders
            .into_iter()
            .for_each(|order| self.carry_out(order));
        for update in &outcome.updates {
            let before = self.picture.version();
            self.picture.apply(update).expect("there is no gap");
            assert_eq!(self.picture.version(), before + 1);
        }
        if let Some(list) = outcome.list {
            self.list = list;
        }
        self.keeper.validate();
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Watch(watched, wait) => {
                let wait = wait
                    .as_secs()
                    .saturating_add(u64::from(wait.subsec_nanos() > 0));
                self.watched
                    .insert(watched, (self.now.saturating_add(wait), wait));
            }
            Order::Unwatch(watched) => drop(self.watched.remove(&watched)),
        }
    }

    /// A second passes: first the silent are reported, then the time.
    fn tick(&mut self) {
        self.now += 1;
        let now = s(self.now);
        let is_due = |it: &(&Watched, &(u64, u64))| it.1.0 <= self.now;
        let due: Vec<Watched> = self.watched.iter().filter(is_due).map(|it| *it.0).collect();
        for watched in &due {
            if let Watched::Node(slot, watch) = *watched {
                if let Some((end, wait)) = self.watched.get_mut(watched) {
                    *end += *wait;
                }
                self.keeper.silent(slot, watch, now);
                self.settle();
            }
        }
        for watched in due {
            if let Watched::Until(_) = watched {
                self.watched.remove(&watched);
                self.keeper.tend(now);
                self.settle();
            }
        }
    }
}

impl Keeper<Id, u32> {
    /// All nodes.
    fn fleet(&self) -> Fleet<Id, u32> {
        Fleet::new(self.picture())
    }

    /// Everything that is kept twice is the same, and everything that needs time will get it.
    fn validate(&self) {
        let entries = || {
            self.slots
                .iter()
                .enumerate()
                .filter_map(|(slot, it)| Some((slot as u32, it.as_deref()?)))
        };
        assert_eq!(entries().count(), self.ids.len());
        assert_eq!(self.free.len() + self.ids.len(), self.slots.len());
        let list = self.list.publish(0);
        let mut counted = RegistryStats::default();
        for (slot, entry) in entries() {
            assert_eq!(self.ids[entry.node.id()], slot);
            let is_overdue = entry.due.is_some_and(|due| due <= self.now);
            assert!(is_overdue || entry.due == entry.next_due(&self.config, self.now));
            assert!(
                entry
                    .due
                    .is_none_or(|due| self.agenda.contains(&(due, Task::Node(slot))))
            );
            assert_eq!(entry.place.is_some(), entry.is_listed());
            assert_eq!(
                entry.watch.is_none(),
                entry.is_held || matches!(entry.state, State::Down | State::Left)
            );
            if entry.is_listed() {
                let listed = list
                    .iter()
                    .find(|node| node.id() == entry.node.id())
                    .expect("it is listed");
                assert_eq!(
                    (listed.data(), listed.weight()),
                    (entry.node.data(), entry.node.weight())
                );
            }
            counted.listed += usize::from(entry.is_listed());
            counted.held += usize::from(entry.is_held);
            counted.down += usize::from(entry.state == State::Down);
            counted.drained += usize::from(entry.is_drained);
            counted.suppressed += usize::from(entry.is_suppressed);
        }
        assert_eq!(list.len(), counted.listed);
        let stats = &self.stats;
        assert_eq!(
            (
                stats.listed,
                stats.held,
                stats.down,
                stats.drained,
                stats.suppressed
            ),
            (
                counted.listed,
                counted.held,
                counted.down,
                counted.drained,
                counted.suppressed
            )
        );
        let tasks = entries().filter(|(_, entry)| entry.due.is_some()).count();
        assert_eq!(
            self.agenda.len() - usize::from(self.guard.is_scheduled()),
            tasks
        );
        if let Some(&(due, _)) = self.agenda.first() {
            assert!(self.armed.is_some_and(|armed| armed <= due));
        }
        assert_eq!(
            self.guard.recent(),
            entries().filter(|(_, entry)| entry.death.is_some()).count()
        );
    }
}

/// A penalty, when it was that, and whether the node is suppressed.
type Penalty = (f64, u64, bool);

/// A node of the naive list.
#[derive(Clone, Debug)]
struct Naive {
    id: Id,
    data: u32,
    weight: u32,
    own_timeout: Option<u64>,
    state: State,
    streak: u32,
    misses: u32,
    /// When it misses a timeout next.
    deadline: Option<u64>,
    is_drained: bool,
    is_held: bool,
    penalty: Penalty,
    /// When it went down or left.
    gone: Option<u64>,
    /// When it came into the list.
    listed_since: Option<u64>,
    /// When it went down while it was listed, and penalty and listing before that.
    death: Option<(u64, Penalty, Option<u64>)>,
}

/// The naive list.
struct Model {
    config: Config,
    nodes: Vec<Naive>,
    /// When the guard came up, and since when it is calm.
    guard: Option<(u64, Option<u64>)>,
    now: u64,
}

impl Naive {
    fn is_listed(&self) -> bool {
        matches!(self.state, State::Up | State::Suspect) && !self.is_drained && !self.penalty.2
    }
}

impl Model {
    fn find(&mut self, id: Id) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == id)
    }

    fn listed(&self) -> usize {
        self.nodes.iter().filter(|node| node.is_listed()).count()
    }

    fn held(&self) -> usize {
        self.nodes.iter().filter(|node| node.is_held).count()
    }

    /// After each call: since when who is listed, and what becomes of the guard.
    fn settle(&mut self) {
        let now = self.now;
        for node in &mut self.nodes {
            if !node.is_listed() {
                node.listed_since = None;
            } else if node.listed_since.is_none() {
                node.listed_since = Some(now);
            }
        }
        if let (Some(guard), Some((up, calm))) = (self.config.guard, self.guard) {
            let is_calm = self.held() as f64 <= guard.fraction * self.listed() as f64;
            self.guard = Some((up, is_calm.then(|| calm.unwrap_or(now))));
            if self.held() == 0 {
                self.guard = None;
            }
        }
    }

    fn register(&mut self, id: Id, data: u32, own_timeout: Option<u64>, weight: u32) {
        let deadline = Some(self.now + own_timeout.unwrap_or(10));
        let fresh = Naive {
            id,
            data,
            weight,
            own_timeout,
            state: State::Joining,
            streak: 0,
            misses: 0,
            deadline,
            is_drained: false,
            is_held: false,
            penalty: (0.0, self.now, false),
            gone: None,
            listed_since: None,
            death: None,
        };
        match self.find(id) {
            None if self.nodes.len() >= self.config.max_nodes => {}
            None => self.nodes.push(fresh),
            Some(at) => {
                let node = &mut self.nodes[at];
                if node.state == State::Left {
                    *node = Naive {
                        is_drained: node.is_drained,
                        penalty: node.penalty,
                        ..fresh
                    };
                    return;
                }
                (node.data, node.weight) = (data, weight);
                if node.own_timeout != own_timeout {
                    node.own_timeout = own_timeout;
                    node.deadline = node.deadline.and(deadline);
                }
            }
        }
    }

    fn beat(&mut self, id: Id) {
        let (now, rise) = (self.now, self.config.rise);
        let Some(at) = self
            .find(id)
            .filter(|&at| self.nodes[at].state != State::Left)
        else {
            return;
        };
        let node = &mut self.nodes[at];
        node.misses = 0;
        node.streak += 1;
        node.deadline = Some(now + node.own_timeout.unwrap_or(10));
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
            }
            State::Up | State::Left => {}
        }
    }

    fn down(&mut self, at: usize) {
        let (now, damping) = (self.now, self.config.damping);
        let node = &mut self.nodes[at];
        if let (Some(damping), true) = (damping, node.state != State::Joining) {
            let (penalty, since, was) = node.penalty;
            let penalty = (damping.decayed(penalty, s(now - since)) + 1.0).min(damping.ceiling());
            node.penalty = (penalty, now, was || penalty > damping.suppress);
        }
        node.state = State::Down;
        node.is_held = false;
        node.streak = 0;
        node.gone = Some(now);
        node.deadline = None;
    }

    fn hold(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.state = State::Suspect;
        node.is_held = true;
        node.streak = 0;
        node.gone = None;
        node.deadline = None;
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
        let is_mass = (recent + 1) as f64 > guard.fraction * (self.listed() + recent) as f64;
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

    fn tick(&mut self) {
        self.now += 1;
        let now = self.now;
        for at in 0..self.nodes.len() {
            if self.nodes[at].deadline == Some(now) {
                let node = &mut self.nodes[at];
                node.deadline = Some(now + node.own_timeout.unwrap_or(10));
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
    fn seen(&self) -> Vec<(Id, u32, u32, State, [bool; 4])> {
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
            (node.id, node.data, weight(node), node.state, flags)
        };
        let mut all: Vec<_> = self.nodes.iter().map(seen).collect();
        all.sort_unstable_by_key(|it| it.0);
        all
    }
}

/// What is seen of each node, sorted by id.
fn seen(fleet: &Fleet<Id, u32>) -> Vec<(Id, u32, u32, State, [bool; 4])> {
    let seen = |it: &NodeStatus<Id, u32>| {
        let flags = [it.is_listed(), it.is_drained, it.is_suppressed, it.is_held];
        (
            *it.node.id(),
            *it.node.data(),
            it.node.weight(),
            it.state,
            flags,
        )
    };
    let mut all: Vec<_> = fleet.iter().map(seen).collect();
    all.sort_unstable_by_key(|it| it.0);
    all
}

/// Does everything in `ops` to both, and compares them each time.
fn run(config: Config, ops: Vec<Op>) -> RegistryStats {
    let mut model = Model {
        config: config.clone(),
        nodes: Vec::new(),
        guard: None,
        now: 0,
    };
    let mut real = Real::new(config);
    for (data, op) in (0..).zip(ops) {
        let now = s(real.now);
        let beat = |real: &mut Real, model: &mut Model, id| {
            if let Ok(order) = real.keeper.beat(&id, now) {
                real.carry_out(order);
            }
            real.settle();
            model.beat(id);
            model.settle();
        };
        match op {
            Op::Register(id, timeout, weight) => {
                let mut options = NodeOptions::new().weight(weight);
                options.policy = timeout.map(|timeout| Policy::Fixed(s(timeout)));
                let _ = real.keeper.register(id, data, &options, now);
                model.register(id, data, timeout, weight);
            }
            Op::Beat(id) => beat(&mut real, &mut model, id),
            Op::BeatAll(but) => (0..12)
                .filter(|&id| id != but % 16)
                .for_each(|id| beat(&mut real, &mut model, id)),
            Op::Leave(id) => {
                let _ = real.keeper.leave(&id, now);
                let found = model
                    .find(id)
                    .filter(|&at| model.nodes[at].state != State::Left);
                if let Some(at) = found {
                    let node = &mut model.nodes[at];
                    (node.state, node.is_held, node.deadline) = (State::Left, false, None);
                    (node.death, node.gone) = (None, Some(real.now));
                }
            }
            Op::Drain(id, is_drained) => {
                let _ = real.keeper.drain(&id, is_drained, now);
                if let Some(at) = model
                    .find(id)
                    .filter(|&at| model.nodes[at].is_drained != is_drained)
                {
                    model.nodes[at].is_drained = is_drained;
                    if is_drained {
                        model.nodes[at].death = None;
                    }
                    if model.nodes[at].is_held {
                        model.down(at);
                    }
                }
            }
            Op::Forget(id) => {
                let _ = real.keeper.forget(&id, now);
                model.nodes.retain(|node| node.id != id);
            }
            Op::Pass(seconds) => {
                for _ in 1..seconds {
                    real.tick();
                    model.tick();
                    assert_eq!(seen(&real.keeper.fleet()), model.seen());
                }
                real.tick();
                model.tick();
            }
        }
        real.settle();
        model.settle();
        assert_eq!(seen(&real.keeper.fleet()), model.seen());
        // Who replays what is told comes to the same, and so does who reads the list.
        assert_eq!(seen(&real.picture), model.seen());
        assert_eq!(real.picture.version(), real.keeper.stats().version);
        let mut listed: Vec<_> = real.list.iter().map(|it| (*it.id(), it.weight())).collect();
        listed.sort_unstable();
        let expected: Vec<_> = model
            .seen()
            .iter()
            .filter(|it| it.4[0])
            .map(|it| (it.0, it.2))
            .collect();
        assert_eq!(listed, expected);
        assert_eq!(model.guard.is_some(), real.keeper.guard.is_active());
    }
    real.keeper.stats()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_fleet_does_as_a_naive_list_would(
        config in config(),
        ops in prop::collection::vec(op(), 1..150),
    ) {
        run(config, ops);
    }
}

#[test]
fn the_random_operations_get_everywhere() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let cases = (config(), prop::collection::vec(op(), 150));
    let mut sum = RegistryStats::default();
    for _ in 0..100 {
        let (config, ops) = cases.new_tree(&mut runner).expect("there is one").current();
        let stats = run(config, ops);
        sum.deaths += stats.deaths;
        sum.recoveries += stats.recoveries;
        sum.guards += stats.guards;
        sum.refused += stats.refused;
        sum.suppressed += stats.suppressed;
        sum.held += stats.held;
    }
    assert!(sum.deaths > 1_000 && sum.recoveries > 1_000, "{sum:?}");
    assert!(sum.guards > 50 && sum.refused > 0, "{sum:?}");
    assert!(sum.suppressed > 10 && sum.held > 10, "{sum:?}");
}

#[test]
fn a_report_that_a_beat_overtook_counts_for_nothing() {
    let mut keeper = Keeper::new(Config::new());
    let options = NodeOptions::new();
    keeper
        .register(7u8, 0u32, &options, s(0))
        .expect("there is room");
    let Ok(Order::Watch(Watched::Node(slot, watch), _)) = keeper.beat(&7, s(1)) else {
        panic!("it is watched since it was registered");
    };
    keeper.take();
    // The watcher saw the silence after the registration, and the beat came before its report. It is to wait for the
    // rest, should the beat never reach it, or with another timeout.
    keeper.silent(slot, watch, s(10));
    assert_eq!(keeper.status(&7).map(|it| it.state), Some(State::Up));
    assert_eq!(
        keeper.take().orders,
        [Order::Watch(Watched::Node(slot, watch), s(1))]
    );
    keeper.silent(slot, watch, s(11));
    assert_eq!(keeper.status(&7).map(|it| it.state), Some(State::Down));
    assert_eq!(
        keeper.take().orders[0],
        Order::Unwatch(Watched::Node(slot, watch))
    );
    // Nor does one of a watch that is over, which is answered by the order to forget it.
    assert!(matches!(keeper.beat(&7, s(12)), Ok(Order::Watch(..))));
    keeper.take();
    keeper.silent(slot, watch, s(60));
    assert_eq!(keeper.status(&7).map(|it| it.state), Some(State::Up));
    assert_eq!(
        keeper.take().orders,
        [Order::Unwatch(Watched::Node(slot, watch))]
    );
}

#[test]
fn a_late_look_counts_every_timeout_that_has_passed_but_none_of_a_stall() {
    let config = || Config {
        policy: Policy::Fixed(s(2)),
        fall: 3,
        ..Config::new()
    };
    let watched = |keeper: &mut Keeper<u8, u32>| {
        keeper
            .register(7u8, 0u32, &NodeOptions::new(), s(0))
            .expect("there is room");
        match keeper.beat(&7, s(0)) {
            Ok(Order::Watch(Watched::Node(slot, watch), _)) => (slot, watch),
            other => panic!("{other:?}"),
        }
    };
    let stall = Stall {
        worker: 0,
        last_alive: s(1),
        resumed: s(100),
        held_for: s(2),
    };
    for (looks, state) in [
        (1, State::Up),
        (2, State::Suspect),
        (5, State::Suspect),
        (6, State::Down),
        (100, State::Down),
    ] {
        let mut keeper = Keeper::new(config());
        let (slot, watch) = watched(&mut keeper);
        keeper.take();
        keeper.silent(slot, watch, s(looks));
        assert_eq!(keeper.status(&7).map(|it| it.state), Some(state), "{looks}");
        // The next look is at the end of the timeout that runs, not a whole one from now.
        if state != State::Down {
            let wait = s(looks / 2 * 2 + 2 - looks);
            let order = Order::Watch(Watched::Node(slot, watch), wait);
            let is_steady = looks == 2;
            assert_eq!(keeper.take().orders.contains(&order), !is_steady, "{looks}");
        }
    }
    let mut keeper = Keeper::new(config());
    let (slot, watch) = watched(&mut keeper);
    keeper.stalled(stall);
    for (now, state) in [
        (102, State::Suspect),
        (104, State::Suspect),
        (106, State::Down),
    ] {
        keeper.silent(slot, watch, s(now));
        assert_eq!(keeper.status(&7).map(|it| it.state), Some(state), "{now}");
    }
}

#[test]
fn a_silence_in_which_the_registry_did_not_run_is_not_learned() {
    let policy = Policy::Adaptive(PhiAccrual::new());
    for (is_reported, is_learned) in [(false, false), (true, true)] {
        let mut keeper = Keeper::new(Config {
            policy,
            fall: 2,
            ..Config::new()
        });
        keeper
            .register(7u8, 0u32, &NodeOptions::new(), s(0))
            .expect("there is room");
        let mut watched = None;
        for second in 1..=20 {
            let Ok(Order::Watch(node, _)) = keeper.beat(&7, s(second)) else {
                panic!("it is known");
            };
            watched = Some(node);
        }
        let before = keeper.vitals(&7, s(20)).expect("it is known").timeout;
        if let (true, Some(Watched::Node(slot, watch))) = (is_reported, watched) {
            keeper.silent(slot, watch, s(20) + before);
        }
        // Beyond the timeout, and within two of them.
        keeper.beat(&7, s(20) + before + s(1)).expect("it is known");
        let after = keeper.vitals(&7, s(27)).expect("it is known").timeout;
        assert_eq!(after > before, is_learned, "{before:?} {after:?}");
    }
}

#[test]
fn a_fleet_that_was_large_gives_its_memory_back() {
    let mut keeper = Keeper::<u32, ()>::new(Config::new());
    let options = NodeOptions::new();
    let join = |keeper: &mut Keeper<u32, ()>, ids: std::ops::Range<u32>| {
        for id in ids {
            assert!(keeper.register(id, (), &options, s(0)).is_ok());
            assert!(keeper.beat(&id, s(0)).is_ok());
            keeper.take();
        }
    };
    join(&mut keeper, 0..20_000);
    for id in 10..20_000 {
        keeper.forget(&id, s(0)).expect("it is known");
        keeper.take();
    }
    let capacities = |it: &Keeper<u32, ()>| [it.ids.capacity(), it.listed.capacity()];
    assert!(capacities(&keeper).iter().all(|&it| it < 2_000));
    assert!(size_of_val(&keeper.slots[0]) == size_of::<usize>());
    for id in 0..10 {
        keeper.forget(&id, s(0)).expect("it is known");
        keeper.take();
    }
    assert!(keeper.slots.capacity() + keeper.free.capacity() < 2_000);
    // Slots begin anew; numbers of watches do not.
    let last_watch = keeper.last_watch;
    join(&mut keeper, 0..3);
    assert_eq!((keeper.slots.len(), keeper.stats().listed), (3, 3));
    assert!(keeper.last_watch > last_watch);
}

#[test]
fn deaths_of_nodes_that_came_back_are_not_kept_however_long_the_window() {
    let mut keeper = Keeper::new(Config {
        guard: Some(Guard::new().window(Duration::MAX)),
        ..Config::new()
    });
    for id in 0..10u8 {
        assert!(keeper.register(id, 0u32, &NodeOptions::new(), s(0)).is_ok());
        keeper.beat(&id, s(0)).expect("it is known");
    }
    for nth in 1..1_000 {
        let Ok(Order::Watch(Watched::Node(slot, watch), _)) = keeper.beat(&7, s(20 * nth)) else {
            panic!("it is known");
        };
        keeper.silent(slot, watch, s(20 * nth + 10));
        keeper.take();
    }
    assert_eq!(keeper.stats().deaths, 999);
    assert!(keeper.guard.remembered() < 10);
}

#[test]
fn a_stall_is_told_with_a_version_of_its_own() {
    let stall = Stall {
        worker: 0,
        last_alive: s(1),
        resumed: s(3),
        held_for: s(2),
    };
    let mut keeper = Keeper::<u8, u32>::new(Config::new());
    let mut picture = keeper.fleet();
    keeper.stalled(stall);
    let outcome = keeper.take();
    let [update] = &outcome.updates[..] else {
        panic!("it is told once");
    };
    assert_eq!(update.to_string(), "stalled version=1 gap=2s held_for=2s");
    assert_eq!(picture.apply(update), Ok(()));
    assert_eq!((picture.version(), keeper.stats().stalls), (1, 1));
    assert!(outcome.list.is_none());
}
