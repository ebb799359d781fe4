mod chance;
mod changes;
mod owners;
mod rotation;

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

/// Weights, zero and extreme ones among them.
fn weights(least: usize) -> impl Strategy<Value = Vec<u32>> {
    let weight = prop_oneof![
        1 => Just(0u32),
        4 => 1u32..20,
        1 => Just(u32::MAX),
    ];
    prop::collection::vec(weight, least..150)
}
