//! Random operations on a fleet and on a naive list, compared after each.

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;

use super::super::*;
use super::model::{Model, Refusal, Seen};
use super::s;
use crate::registry::options::{FlapDamping, Guard, NodeOptions};
use crate::registry::policy::Policy;
use crate::registry::update::Fleet;

/// Ids are few, so that nodes come back.
pub(super) type Id = u8;

/// What may be done to a fleet.
#[derive(Clone, Debug)]
enum Op {
    Register(Id, Option<u64>, u32, Option<u64>),
    Beat(Id, Option<u64>),
    BeatAll(u8),
    Leave(Id, Option<u64>),
    Drain(Id, bool),
    Forget(Id),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let id = 0..12u8;
    let timeout = prop::option::weighted(0.2, 1..30u64);
    // Few, so that they are older, newer and the same.
    let incarnation = prop::option::weighted(0.3, 0..12u64);
    prop_oneof![
        4 => (id.clone(), timeout, 0..200u32, incarnation.clone())
            .prop_map(|(id, timeout, weight, life)| Op::Register(id, timeout, weight, life)),
        8 => (id.clone(), incarnation.clone()).prop_map(|(id, life)| Op::Beat(id, life)),
        6 => any::<u8>().prop_map(Op::BeatAll),
        1 => (id.clone(), incarnation).prop_map(|(id, life)| Op::Leave(id, life)),
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
            // A part of 100 that floating point does not hold exactly, too.
            (0..4usize, prop_oneof![Just(0.5), Just(0.29)])
                .prop_map(move |(least, fraction)| guard.at_least(least).fraction(fraction)),
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
    /// What is watched, and until when.
    watched: HashMap<Watched, u64>,
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
                self.watched.insert(watched, self.now.saturating_add(wait));
            }
            Order::Unwatch(watched) => drop(self.watched.remove(&watched)),
        }
    }

    /// A second passes: first the silent are reported, in this order, which decides whom the guard has to take back;
    /// then the time.
    fn tick(&mut self, order: &[Id]) {
        self.now += 1;
        let now = s(self.now);
        let is_due = |it: &(&Watched, &u64)| *it.1 <= self.now;
        let mut due: Vec<Watched> = self.watched.iter().filter(is_due).map(|it| *it.0).collect();
        due.sort_by_key(|watched| match watched {
            Watched::Node(slot, _) => {
                let id = self.keeper.entry(*slot).map(|entry| *entry.node.id());
                order.iter().position(|&it| Some(it) == id)
            }
            Watched::Until(_) => None,
        });
        for watched in &due {
            if let Watched::Node(slot, watch) = *watched {
                self.watched.remove(watched);
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
    pub(super) fn fleet(&self) -> Fleet<Id, u32> {
        Fleet::new(self.picture())
    }

    /// Everything that is kept twice is the same, and everything that needs time will get it.
    fn validate(&mut self) {
        let agenda: BTreeSet<(Duration, Task)> = {
            let (agenda, is_live) = self.agenda();
            let live = agenda.iter().filter(|(due, task)| is_live(*due, task));
            live.map(|(due, &task)| (due, task)).collect()
        };
        let entries = || {
            self.slots
                .iter()
                .enumerate()
                .filter_map(|(slot, it)| Some((slot as u32, it.as_deref()?)))
        };
        assert_eq!(entries().count(), self.ids.len());
        assert_eq!(self.free.len() + self.ids.len(), self.slots.len());
        let list = self.list.publish(0);
        let (mut counted, mut learned) = (RegistryStats::default(), 0);
        for (slot, entry) in entries() {
            assert_eq!(self.ids[entry.node.id()], slot);
            let is_overdue = entry.due.is_some_and(|due| due <= self.now);
            assert!(is_overdue || entry.due == entry.next_due(&self.config, self.now));
            assert!(
                entry
                    .due
                    .is_none_or(|due| agenda.contains(&(due, Task::Node(slot))))
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
            learned += usize::from(entry.is_learned(&self.config));
            counted.listed += usize::from(entry.is_listed());
            counted.held += usize::from(entry.is_held);
            counted.down += usize::from(entry.state == State::Down);
            counted.drained += usize::from(entry.is_drained);
            counted.suppressed += usize::from(entry.is_suppressed);
        }
        assert_eq!((list.len(), self.learned), (counted.listed, learned));
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
        let others = usize::from(self.guard.is_scheduled()) + usize::from(self.tick.is_some());
        assert_eq!(agenda.len(), tasks + others);
        if let Some(&(due, _)) = agenda.first() {
            assert!(self.armed.is_some_and(|armed| armed <= due));
        }
        assert_eq!(
            self.guard.recent(),
            entries().filter(|(_, entry)| entry.death.is_some()).count()
        );
    }
}

/// Why a call was refused.
fn refusal(error: &RegistryError) -> Refusal {
    match error {
        RegistryError::Unknown => Refusal::Unknown,
        RegistryError::Left => Refusal::Left,
        RegistryError::Full { .. } => Refusal::Full,
        RegistryError::Superseded { current } => Refusal::Superseded(current.get()),
        other => panic!("{other}"),
    }
}

/// What is seen of each node, sorted by id.
fn seen(fleet: &Fleet<Id, u32>) -> Vec<Seen> {
    let seen = |it: &NodeStatus<Id, u32>| {
        let flags = [it.is_listed(), it.is_drained, it.is_suppressed, it.is_held];
        (
            *it.node.id(),
            *it.node.data(),
            it.node.weight(),
            it.state,
            it.incarnation.get(),
            flags,
        )
    };
    let mut all: Vec<_> = fleet.iter().map(seen).collect();
    all.sort_unstable_by_key(|it| it.0);
    all
}

/// Does everything in `ops` to both, and compares them each time.
fn run(config: Config, ops: Vec<Op>) -> RegistryStats {
    let mut model = Model::new(config.clone());
    let mut real = Real::new(config);
    for (data, op) in (0..).zip(ops) {
        let now = s(real.now);
        let beat = |real: &mut Real, model: &mut Model, id, life: Option<u64>| {
            let done = real.keeper.beat(&id, life.map(Incarnation::new), now);
            let done = done.map(|order| real.carry_out(order));
            real.settle();
            assert_eq!(done.map_err(|it| refusal(&it)), model.beat(id, life));
            model.settle();
        };
        match op {
            Op::Register(id, timeout, weight, life) => {
                let mut options = NodeOptions::new().weight(weight);
                options.policy = timeout.map(|timeout| Policy::Fixed(s(timeout)));
                options.incarnation = life.map(Incarnation::new);
                let done = real.keeper.register(id, data, &options, now);
                let done = done.map(Incarnation::get).map_err(|it| refusal(&it.error));
                assert_eq!(done, model.register(id, data, timeout, weight, life));
            }
            Op::Beat(id, life) => beat(&mut real, &mut model, id, life),
            Op::BeatAll(but) => (0..12)
                .filter(|&id| id != but % 16)
                .for_each(|id| beat(&mut real, &mut model, id, None)),
            Op::Leave(id, life) => {
                let done = real.keeper.leave(&id, life.map(Incarnation::new), now);
                assert_eq!(done.map_err(|it| refusal(&it)), model.leave(id, life));
            }
            Op::Drain(id, is_drained) => {
                let _ = real.keeper.drain(&id, is_drained, now);
                model.drain(id, is_drained);
            }
            Op::Forget(id) => {
                let _ = real.keeper.forget(&id, now);
                model.forget(id);
            }
            Op::Pass(seconds) => {
                for _ in 1..seconds {
                    real.tick(&model.order());
                    model.tick();
                    assert_eq!(seen(&real.keeper.fleet()), model.seen());
                }
                real.tick(&model.order());
                model.tick();
            }
        }
        real.settle();
        model.settle();
        assert_eq!(seen(&real.keeper.fleet()), model.seen());
        // The reported changes, replayed, give the same result, and so does the list.
        assert_eq!(seen(&real.picture), model.seen());
        assert_eq!(real.picture.version(), real.keeper.stats().version);
        let mut listed: Vec<_> = real.list.iter().map(|it| (*it.id(), it.weight())).collect();
        listed.sort_unstable();
        let expected: Vec<_> = model
            .seen()
            .iter()
            .filter(|it| it.5[0])
            .map(|it| (it.0, it.2))
            .collect();
        assert_eq!(listed, expected);
        assert_eq!(model.is_guarded(), real.keeper.guard.is_active());
        let stats = real.keeper.stats();
        assert_eq!(
            (stats.deaths, stats.recoveries),
            (model.deaths, model.recoveries)
        );
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
    assert!(sum.deaths > 1_000 && sum.recoveries > 500, "{sum:?}");
    assert!(sum.guards > 50 && sum.refused > 0, "{sum:?}");
    assert!(sum.suppressed > 10 && sum.held > 10, "{sum:?}");
}
