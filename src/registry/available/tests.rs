use std::cell::RefCell;
use std::collections::HashMap;

use fastrand::Rng;
use proptest::prelude::*;

use super::*;

/// A list of nodes named by their places, with these weights.
fn list(weights: impl IntoIterator<Item = u32>) -> Available<usize, ()> {
    let nodes = weights.into_iter().enumerate();
    nodes
        .map(|(id, weight)| Node::new(id, (), weight))
        .collect()
}

/// The sum of all weights of a list without slow starts.
fn weight_of(list: &Available<usize, ()>) -> u64 {
    list.points() / u64::from(SHARES)
}

/// The id of what was picked.
fn id(picked: Option<&Node<usize, ()>>) -> usize {
    *picked.expect("there is one to pick").id()
}

/// Pearson's chi-square of counts against what was expected of each, and how many they are beyond the first.
fn chi_square(counts: &[u32], expected: impl Fn(usize) -> f64) -> (f64, f64) {
    let sum = counts.iter().enumerate().map(|(i, &count)| {
        let expected = expected(i);
        assert!(expected > 10.0, "too few for chi-square: {expected}");
        (f64::from(count) - expected).powi(2) / expected
    });
    (sum.sum(), counts.len() as f64 - 1.0)
}

/// Counts are as chance would have them: chi-square is within five standard deviations of its mean, below and above.
#[track_caller]
fn assert_fair(counts: &[u32], expected: impl Fn(usize) -> f64) {
    let (sum, degrees) = chi_square(counts, expected);
    let deviation = (2.0 * degrees).sqrt();
    assert!(
        (sum - degrees).abs() < 5.0 * deviation,
        "chi-square {sum} at {degrees} degrees of freedom"
    );
}

/// How often each of `nodes` was picked.
fn counts(nodes: usize, picks: u32, mut pick: impl FnMut(u32) -> usize) -> Vec<u32> {
    let mut counts = vec![0; nodes];
    for nth in 0..picks {
        counts[pick(nth)] += 1;
    }
    counts
}

#[test]
fn nobody_is_picked_from_an_empty_list() {
    let list = list([]);
    assert!(list.is_empty() && list.iter().next().is_none() && list.get(0).is_none());
    assert!(list.round_robin().is_none());
    assert!(list.random().is_none());
    assert!(list.weighted().is_none());
    assert!(list.least_of_two(|_| 0).is_none());
    assert!(list.rendezvous("key").is_none());
}

#[test]
fn the_only_one_is_picked_by_all() {
    let list = list([3]);
    for _ in 0..100 {
        assert_eq!(id(list.round_robin()), 0);
        assert_eq!(id(list.random()), 0);
        assert_eq!(id(list.weighted()), 0);
        assert_eq!(id(list.least_of_two(|_| 0)), 0);
        assert_eq!(id(list.rendezvous("key")), 0);
    }
}

#[test]
fn without_weight_only_those_pick_that_heed_none() {
    let list = list([0, 0]);
    assert!(list.round_robin().is_some() && list.random().is_some());
    assert!(list.weighted().is_none());
    assert!(list.least_of_two(|_| 0).is_none());
    assert!(list.rendezvous("key").is_none());
}

#[test]
fn a_node_without_weight_is_never_picked_by_those_that_heed_weights() {
    for zero in [0, 1, 63, 64, 99] {
        let list = list((0..100).map(|place| u32::from(place != zero)));
        for key in 0..1_000 {
            assert_ne!(id(list.weighted()), zero);
            let two = list.two_drawn(fastrand::u64(..), fastrand::u64(..));
            assert!(two.expect("99 have weight").iter().all(|n| *n.id() != zero));
            assert_ne!(id(list.rendezvous(&key)), zero);
        }
    }
}

#[test]
fn round_robin_visits_each_once_a_turn_wherever_it_begins() {
    let mut rng = Rng::with_seed(7);
    for len in [1, 2, 3, 10, 63, 64, 65, 1_000, 10_000] {
        let list = list((0..len).map(|_| 1));
        for start in [0, rng.u64(..), rng.u64(..), rng.u64(..)] {
            list.cursor.0.store(start, Ordering::Relaxed);
            for _ in 0..3 {
                let visits = counts(len, len as u32, |_| id(list.round_robin()));
                assert!(visits.iter().all(|&visits| visits == 1), "{len} {start}");
            }
        }
    }
}

#[test]
fn round_robin_of_two_threads_together_visits_each_once_a_turn() {
    let list = list((0..1_000).map(|_| 1));
    let half = || -> Vec<usize> { (0..5_000).map(|_| id(list.round_robin())).collect() };
    let halves = std::thread::scope(|scope| {
        let other = scope.spawn(half);
        [half(), other.join().expect("it does not panic")]
    });
    let mut visits = vec![0; 1_000];
    for place in halves.into_iter().flatten() {
        visits[place] += 1;
    }
    assert!(visits.iter().all(|&visits| visits == 10));
}

#[test]
fn round_robin_goes_on_where_it_was_when_the_list_changes() {
    let mut listed = Listed::new();
    listed.cursor.0.store(0, Ordering::Relaxed);
    for place in 0..100 {
        listed.insert(Node::new(place, (), 1));
    }
    let before = listed.publish(1);
    for expected in 0..50 {
        assert_eq!(id(before.round_robin()), expected);
    }
    // Who is last now moves to where one has had its turn, and misses this one.
    listed.remove(Place(7));
    let after = listed.publish(2);
    // Half a turn is left of ninety-nine as of a hundred, so that of the half visited one is visited again.
    let visited: Vec<_> = (0..50).map(|_| id(after.round_robin())).collect();
    let rest: Vec<_> = (49..99).collect();
    assert_eq!(visited, rest);
    // Whoever still has the older list takes part in the rotation.
    let fraction = |list: &Available<_, _>| list.cursor.0.load(Ordering::Relaxed);
    assert_eq!(fraction(&before), fraction(&after));
}

#[test]
fn the_rotation_is_fair_while_the_list_changes_with_each_pick() {
    let mut listed = Listed::new();
    for place in 0..11 {
        listed.insert(Node::new(place, (), 1));
    }
    let visits = counts(11, 11_000, |nth| {
        if nth % 2 == 0 {
            listed.remove(Place(10));
        } else {
            listed.insert(Node::new(10, (), 1));
        }
        id(listed.publish(u64::from(nth)).round_robin())
    });
    assert!(
        visits[..10]
            .iter()
            .all(|visits| (950..=1_150).contains(visits)),
        "{visits:?}"
    );
}

#[test]
fn round_robin_begins_at_a_random_place() {
    fastrand::seed(7);
    let firsts = counts(10, 10_000, |_| id(list([1; 10]).round_robin()));
    assert_fair(&firsts, |_| 1_000.0);
}

#[test]
fn random_picks_each_as_often_whatever_the_weights() {
    fastrand::seed(7);
    for len in [2, 10, 1_000] {
        let list = list((0..len).map(|place| place as u32 % 3));
        let picks = 100 * len as u32;
        let picked = counts(len, picks, |_| id(list.random()));
        assert_fair(&picked, |_| 100.0);
    }
}

#[test]
fn weighted_picks_each_as_often_as_its_weight_says() {
    fastrand::seed(7);
    let weight = |place: usize| place as u32 % 16 + 1;
    for len in [2, 10, 1_000] {
        let list = list((0..len).map(weight));
        let share = 100_000.0 * len as f64 / weight_of(&list) as f64 / 10.0;
        let picked = counts(len, 10_000 * len as u32, |_| id(list.weighted()));
        assert_fair(&picked, |place| share * f64::from(weight(place)));
    }
}

#[test]
fn two_choices_are_two_and_drawn_by_weight_without_putting_back() {
    let weights = [1, 2, 3, 0, 4];
    let list = list(weights);
    let mut rng = Rng::with_seed(7);
    let pairs = counts(25, 200_000, |_| {
        let two = list.two_drawn(rng.u64(..), rng.u64(..));
        let [first, second] = two.expect("four have weight");
        first.id() * 5 + second.id()
    });
    let expected = |pair: usize| {
        let (first, second) = (pair / 5, pair % 5);
        let [first_weight, second_weight] = [first, second].map(|place| f64::from(weights[place]));
        let is_possible = first != second;
        let share = first_weight / 10.0 * second_weight / (10.0 - first_weight);
        200_000.0 * share * f64::from(u8::from(is_possible))
    };
    let (possible, impossible): (Vec<usize>, Vec<usize>) =
        (0..25).partition(|&pair| expected(pair) > 0.0);
    assert!(impossible.iter().all(|&pair| pairs[pair] == 0), "{pairs:?}");
    let possible_counts: Vec<_> = possible.iter().map(|&pair| pairs[pair]).collect();
    assert_fair(&possible_counts, |nth| expected(possible[nth]));
}

#[test]
fn the_more_loaded_of_two_is_never_picked_and_of_equals_the_first() {
    fastrand::seed(7);
    let list = list((0..200).map(|place| place % 5));
    for _ in 0..10_000 {
        let seen = RefCell::new(HashMap::new());
        let picked = list.least_of_two(|node| {
            let load = node.id() % 7;
            seen.borrow_mut().insert(*node.id(), load);
            load
        });
        let seen = seen.into_inner();
        assert_eq!(seen.len(), 2);
        assert_eq!(seen.values().min(), Some(&seen[&id(picked)]));
    }
    for (seed, load) in (0..100).flat_map(|seed| [(seed, 0.0), (seed, f64::NAN)]) {
        fastrand::seed(seed);
        let first = id(list.weighted());
        fastrand::seed(seed);
        assert_eq!(id(list.least_of_two(|_| load)), first);
    }
}

#[test]
fn two_choices_keep_the_greatest_load_low() {
    fastrand::seed(7);
    let list = list(vec![1; 10_000]);
    let loads = RefCell::new(vec![0; 10_000]);
    for _ in 0..10_000 {
        let picked = id(list.least_of_two(|node| loads.borrow()[*node.id()]));
        loads.borrow_mut()[picked] += 1;
    }
    let random = counts(10_000, 10_000, |_| id(list.random()));
    // About log log n / log 2, and log n / log log n.
    assert_eq!(loads.borrow().iter().max(), Some(&3));
    assert!(random.iter().max() >= Some(&6));
}

#[test]
fn rendezvous_gives_each_a_share_of_the_keys_as_its_weight_says() {
    let weight = |place: usize| [1, 2, 8, 0, 5][place % 5];
    for len in [5, 50, 500] {
        let list = list((0..len).map(weight));
        let share = 400.0 * len as f64 / weight_of(&list) as f64;
        let picked = counts(len, 400 * len as u32, |key| id(list.rendezvous(&key)));
        let places: Vec<_> = (0..len).filter(|&place| weight(place) > 0).collect();
        let picked: Vec<_> = places.iter().map(|&place| picked[place]).collect();
        assert_fair(&picked, |nth| share * f64::from(weight(places[nth])));
    }
}

#[test]
fn rendezvous_spreads_the_keys_of_a_node_that_left_over_all_others() {
    let (all, fewer) = (list([1; 10]), list([1; 9]));
    let moved: Vec<_> = (0..90_000)
        .filter(|key| id(all.rendezvous(key)) == 9)
        .collect();
    let heirs = counts(9, moved.len() as u32, |nth| {
        id(fewer.rendezvous(&moved[nth as usize]))
    });
    assert_fair(&heirs, |_| moved.len() as f64 / 9.0);
}

/// If this changes, balancers of two versions disagree: a breaking change.
#[test]
fn owners_are_the_same_for_ever() {
    let nodes = (0..10).map(|i| Node::new(format!("node-{i}"), (), i % 4));
    let list: Available<String, ()> = nodes.collect();
    let owners: Vec<_> = ["", "a", "user-1", "user-2", "user-3", "Zürich"]
        .iter()
        .map(|key| {
            list.rendezvous(*key)
                .expect("they have weight")
                .id()
                .clone()
        })
        .collect();
    let expected = ["node-3", "node-1", "node-6", "node-7", "node-7", "node-9"];
    assert_eq!(owners, expected);
}

#[test]
fn weights_as_great_as_they_get_do_no_harm() {
    let list = list([u32::MAX; 1_000]);
    assert_eq!(weight_of(&list), 1_000 * u64::from(u32::MAX));
    for fraction in [0, 1, u64::MAX / 2, u64::MAX] {
        assert!(list.drawn(fraction).is_some());
        for second in [0, u64::MAX] {
            let [first, second] = list.two_drawn(fraction, second).expect("they have weight");
            assert_ne!(first.id(), second.id());
        }
    }
    assert_eq!(id(list.drawn(0).map(|drawn| drawn.0)), 0);
    assert_eq!(id(list.drawn(u64::MAX).map(|drawn| drawn.0)), 999);
}

/// What a snapshot holds, as `expected` says, and what pickers read of it.
fn check(list: &Available<usize, ()>, version: u64, expected: &[(usize, u32)]) {
    let seen: Vec<_> = list.iter().map(|n| (*n.id(), n.weight())).collect();
    assert_eq!(seen, expected);
    assert_eq!((list.version(), list.len()), (version, expected.len()));
    let mut start = 0;
    for (place, &(id, weight)) in expected.iter().enumerate() {
        assert_eq!(list.get(place).map(|n| *n.id()), Some(id));
        let points = u64::from(weight) * u64::from(SHARES);
        for point in start..start + points.min(2) {
            let (node, before) = list.covering(point).expect("it is below the sum");
            assert_eq!((*node.id(), before), (id, start));
        }
        start += points;
    }
    assert_eq!(list.points(), start);
    assert!(list.covering(start).is_none() && list.get(expected.len()).is_none());
    for (part, nodes) in list.parts.iter().zip(expected.chunks(CHUNK)) {
        let heaviest = nodes
            .iter()
            .map(|node| u64::from(node.1) * u64::from(SHARES))
            .max();
        assert_eq!(Some(part.heaviest), heaviest);
    }
    assert_eq!(list.parts.len(), expected.len().div_ceil(CHUNK));
}

/// One change of a list.
#[derive(Clone, Debug)]
enum Change {
    Insert(u32),
    /// So many at once.
    Fill(usize),
    /// At so much of the list, in units of 2^-64.
    Remove(u64),
    Replace(u64, u32),
    Publish,
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        3 => (0u32..5).prop_map(Change::Insert),
        1 => (0usize..150).prop_map(Change::Fill),
        4 => any::<u64>().prop_map(Change::Remove),
        2 => (any::<u64>(), 0u32..5).prop_map(|(at, weight)| Change::Replace(at, weight)),
        2 => Just(Change::Publish),
    ];
    prop::collection::vec(change, 0..150)
}

/// Weights, zero and extreme ones among them.
fn weights(least: usize) -> impl Strategy<Value = Vec<u32>> {
    let weight = prop_oneof![
        1 => Just(0u32),
        4 => 1u32..20,
        1 => Just(u32::MAX),
    ];
    prop::collection::vec(weight, least..150)
}

proptest! {
    #[test]
    fn a_list_is_what_a_vector_would_be_and_its_snapshots_stay_as_they_were(changes in changes()) {
        let mut listed = Listed::new();
        let mut naive: Vec<(usize, u32)> = Vec::new();
        let mut snapshots = Vec::new();
        let mut next = 0;
        let mut insert = |listed: &mut Listed<_, _>, naive: &mut Vec<_>, weight| {
            next += 1;
            let place = listed.insert(Node::new(next, (), weight));
            assert_eq!(place, Place(naive.len()));
            naive.push((next, weight));
        };
        for change in changes {
            match change {
                Change::Insert(weight) => insert(&mut listed, &mut naive, weight),
                Change::Fill(count) => {
                    for nth in 0..count {
                        insert(&mut listed, &mut naive, nth as u32 % 4);
                    }
                }
                Change::Remove(at) if !naive.is_empty() => {
                    let place = scaled(at, naive.len() as u64) as usize;
                    let moved = listed.remove(Place(place)).map(|n| *n.id());
                    naive.swap_remove(place);
                    prop_assert_eq!(moved, naive.get(place).map(|node| node.0));
                }
                Change::Replace(at, weight) if !naive.is_empty() => {
                    let place = scaled(at, naive.len() as u64) as usize;
                    naive[place].1 = weight;
                    listed.replace(Place(place), Node::new(naive[place].0, (), weight));
                }
                Change::Publish => {
                    let version = snapshots.len() as u64;
                    snapshots.push((listed.publish(version), naive.clone()));
                }
                Change::Remove(_) | Change::Replace(..) => {}
            }
            check(&listed.publish(77), 77, &naive);
        }
        for (version, (list, expected)) in snapshots.iter().enumerate() {
            check(list, version as u64, expected);
        }
    }

    #[test]
    fn the_owner_is_the_same_whatever_order_the_nodes_came_in(
        nodes in weights(1).prop_map(|weights| weights.into_iter().enumerate().collect::<Vec<_>>()),
        seed: u64,
    ) {
        let mut shuffled = nodes.clone();
        Rng::with_seed(seed).shuffle(&mut shuffled);
        let [one, other]: [Available<usize, ()>; 2] = [nodes, shuffled].map(|nodes| {
            nodes.into_iter().map(|(id, weight)| Node::new(id, (), weight)).collect()
        });
        for key in 0..50u64 {
            let [one, other] = [&one, &other].map(|list| list.rendezvous(&(seed ^ key)).map(|n| *n.id()));
            prop_assert_eq!(one, other);
        }
    }

    /// The owner is the best of all, also of those that were not looked at closely.
    #[test]
    fn the_bound_leaves_out_none_that_would_have_won(weights in weights(1), seed: u64) {
        let list = list(weights);
        for key in 0..50u64 {
            let key = seed ^ key;
            let mut contest = Contest::new(rendezvous::hash(&key));
            let mut owner = None;
            for node in &list {
                if contest.enter(node.hash, node.points(), contest.draw(node.hash)) {
                    owner = Some(*node.id());
                }
            }
            prop_assert_eq!(list.rendezvous(&key).map(|n| *n.id()), owner);
        }
    }

    /// A change of one node's weight moves keys only to it or only away from it; down to zero, that is a removal.
    #[test]
    fn only_keys_of_the_node_that_changed_move(
        weights in weights(2), at: u64, weight in 0u32..40, seed: u64,
    ) {
        let changed = scaled(at, weights.len() as u64) as usize;
        let before = list(weights.iter().copied());
        let mut after = weights.clone();
        after[changed] = weight;
        let after = list(after);
        let mut removed = Listed::new();
        for node in &before {
            removed.insert(node.clone());
        }
        removed.remove(Place(changed));
        let removed = removed.publish(0);
        for key in 0..200u64 {
            let key = seed ^ key;
            let owner = |list: &Available<usize, ()>| list.rendezvous(&key).map(|n| *n.id());
            let [before, after, removed] = [&before, &after, &removed].map(owner);
            if weight >= weights[changed] {
                prop_assert!(after == before || after == Some(changed));
            }
            if weight <= weights[changed] {
                prop_assert!(after == before || before == Some(changed));
            }
            if before == Some(changed) {
                prop_assert!(removed != before);
            } else {
                prop_assert_eq!(removed, before);
            }
        }
    }
}
