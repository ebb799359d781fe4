//! Round robin.

use super::*;

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
    // A reader that still has the older list takes part in the rotation.
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
