//! Picks by chance: random, by weight, and of two.

use super::*;

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
