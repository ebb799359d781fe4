//! Rendezvous hashing.

use super::*;

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
