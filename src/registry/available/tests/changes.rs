//! Lists that change, against a vector, and owners against all lists there are.

use super::*;

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
    /// This many at once.
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
