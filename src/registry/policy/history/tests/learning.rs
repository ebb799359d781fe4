//! What is learned of the intervals, and what is not.

use super::*;

#[test]
fn mean_and_deviation_are_those_of_akka_s_own_test() {
    // AccrualFailureDetectorSpec.scala: the intervals, their mean and variance; then a window of three that slides.
    let stats = |intervals: &[u64]| {
        let sums: Sums = intervals.iter().copied().collect();
        sums.mean_and_deviation()
    };
    let expected = [
        (&[100, 200, 125, 340, 130][..], 179.0, 7584.0),
        (&[1000], 1000.0, 0.0),
        (&[100, 110, 90], 100.0, 66.666_666_7),
        (&[110, 90, 140], 113.333_333, 422.222_222),
        (&[90, 140, 80], 103.333_333, 688.888_888_89),
    ];
    for (intervals, mean, variance) in expected {
        let (found, deviation) = stats(intervals);
        assert!((found - mean).abs() < 1e-5, "{intervals:?}");
        assert!(
            (deviation * deviation - variance).abs() < 1e-5,
            "{intervals:?}"
        );
    }
}

#[test]
fn a_small_deviation_of_large_intervals_keeps_its_digits() {
    // An f64 of the squares is good to a million, and their difference is one.
    let day = 86_400_000_000;
    let sums: Sums = [day - 1, day + 1].into_iter().collect();
    assert_eq!(sums.mean_and_deviation(), (day as f64, 1.0));
    let longest = LONGEST_US as u64;
    let sums: Sums = [longest, longest - 2, longest - 4].into_iter().collect();
    let (mean, deviation) = sums.mean_and_deviation();
    assert_eq!(
        (mean, deviation),
        ((longest - 2) as f64, (8.0_f64 / 3.0).sqrt())
    );
}

#[test]
fn a_node_starts_with_the_first_interval_and_a_quarter_of_it() {
    let phi = PhiAccrual::new();
    let (mean, deviation) = (4e9, 0.25e9); // the pause of 3 s included
    let before = history(phi, []).distribution(&phi);
    assert_eq!((before.mean, before.deviation), (mean, deviation));
    let after = history(phi, [SECOND]);
    assert_eq!(remembered(&after), [750, 1_250, 1_000]);
    let after = after.distribution(&phi);
    assert!((after.mean - mean).abs() < 1.0);
    assert!((after.deviation - 0.25e9 * (2.0_f64 / 3.0).sqrt()).abs() < 1.0);
}

#[test]
fn the_window_slides_and_what_left_it_counts_no_more() {
    let phi = bare().window(3);
    let slow = history(phi, [100, 100, 100, 600, 500, 500, 500].map(ms));
    assert_eq!(remembered(&slow), [500, 500, 500]);
    let fresh = history(phi, [500, 500, 500].map(ms));
    let policy = Policy::Adaptive(phi);
    assert_eq!(slow.timeout(&policy), fresh.timeout(&policy));
    assert_eq!(
        remembered(&history(phi.window(1), [ms(500), ms(600)])),
        [600]
    );
}

#[test]
fn a_window_that_was_made_smaller_lets_go_of_the_oldest() {
    let mut history = history(bare(), [100, 200, 300, 400].map(ms));
    let small = Policy::Adaptive(bare().window(2));
    history.beat(&small, Some(SECOND), SECOND + ms(500));
    assert_eq!(remembered(&history), [400, 500]);
    history.beat(&Policy::Fixed(SECOND), None, SECOND);
    assert!(history.window.is_none());
}

#[test]
fn an_outage_is_not_an_interval_and_what_was_learned_before_is_kept() {
    let policy = Policy::Adaptive(bare());
    let mut history = history(bare(), [ms(100)]);
    let (kept, timeout) = (remembered(&history), history.timeout(&policy));
    history.forget(Gap::Death);
    assert_eq!(history.timeout(&policy), timeout);
    let back = 600 * SECOND;
    assert_eq!(history.beat(&policy, Some(SECOND), back), timeout);
    assert_eq!(remembered(&history), kept);
    history.beat(&policy, Some(back), back + ms(110));
    assert_eq!(remembered(&history).last(), Some(&110));
}

#[test]
fn what_is_no_interval_of_the_node_s_own_is_not_remembered() {
    let policy = Policy::Adaptive(bare());
    let mut history = History::new();
    history.forget(Gap::Death); // nothing to forget yet
    // It is given a beat that this history never saw.
    history.beat(&policy, Some(ms(1)), ms(900));
    assert!(remembered(&history).is_empty());
    // A clock that went back, and a beat that was not reported.
    history.beat(&policy, Some(ms(900)), ms(100));
    history.beat(&policy, None, ms(5_000));
    assert!(remembered(&history).is_empty());
    // Down before the second beat came.
    history.forget(Gap::Death);
    history.beat(&policy, Some(ms(5_000)), ms(9_000));
    assert!(remembered(&history).is_empty());
    // Two at once.
    history.beat(&policy, Some(ms(9_000)), ms(9_000));
    assert!(remembered(&history).is_empty());
}

/// A node whose beats come after `gaps`, and goes down at each timeout: how often it did.
fn deaths(phi: PhiAccrual, gaps: impl IntoIterator<Item = Duration>) -> usize {
    let policy = Policy::Adaptive(phi);
    let (mut history, mut now) = (History::new(), SECOND);
    let (mut timeout, mut deaths) = (history.beat(&policy, None, now), 0);
    for gap in gaps {
        if gap >= timeout {
            deaths += 1;
            history.forget(Gap::Death);
        }
        timeout = history.beat(&policy, Some(now), now + gap);
        now += gap;
    }
    deaths
}

#[test]
fn a_node_that_slows_down_for_good_is_learned_after_three_deaths() {
    for (fast, slow) in [
        (1_000, 10_000),
        (1_000, 60_000),
        (100, 5_000),
        (1_000, 4_600),
    ] {
        let gaps = [vec![ms(fast); 300], vec![ms(slow); 50]].concat();
        let deaths = deaths(PhiAccrual::new(), gaps);
        assert!((1..=3).contains(&deaths), "{fast} {slow}: {deaths}");
    }
    // Also one that was never as fast as it was expected to be, and is a little uneven.
    let uneven = (0..50).map(|nth| ms(9_000 + nth * 777 % 2_000));
    assert_eq!(deaths(PhiAccrual::new(), uneven), 3);
}

#[test]
fn outages_that_are_not_alike_or_not_in_a_row_are_not_learned() {
    let steady = || vec![SECOND; 50];
    let with = |gaps: Vec<Duration>| {
        let policy = Policy::Adaptive(PhiAccrual::new());
        let (mut history, mut now) = (History::new(), SECOND);
        history.beat(&policy, None, now);
        for gap in [steady(), gaps].concat() {
            if gap > 10 * SECOND {
                history.forget(Gap::Death);
            }
            history.beat(&policy, Some(now), now + gap);
            now += gap;
        }
        history.timeout(&policy)
    };
    let before = with(Vec::new());
    let (long, longer) = (30 * SECOND, 70 * SECOND);
    assert_eq!(with(vec![long, long]), before);
    assert_eq!(with(vec![long, longer, long, longer]), before);
    assert_eq!(with(vec![long, long, SECOND, long, long, SECOND]), before);
    assert!(with(vec![long, long, long]) > long);
}

#[test]
fn gaps_between_lives_are_not_learned_however_alike() {
    let policy = Policy::Adaptive(PhiAccrual::new());
    let (mut history, mut now) = (history(PhiAccrual::new(), [SECOND; 50]), 51 * SECOND);
    let before = history.timeout(&policy);
    for _ in 0..10 {
        // It goes down, starts again and registers, and beats.
        history.forget(Gap::Death);
        history.forget(Gap::Foreign);
        history.forget(Gap::Death);
        let beat = history.beat(&policy, Some(now), now + 30 * SECOND);
        assert_eq!(beat, before);
        now += 30 * SECOND;
    }
}

#[test]
fn a_burst_is_not_learned_and_a_faster_pace_is() {
    let phi = PhiAccrual::new().first_interval(10 * SECOND);
    let policy = Policy::Adaptive(phi);
    let steady = vec![10 * SECOND; 50];
    // After an outage what was under way comes at once; the node goes on as before.
    for burst in [vec![Duration::ZERO; 1_000], vec![ms(2); 400]] {
        let gaps = [
            steady.clone(),
            vec![60 * SECOND],
            burst.clone(),
            steady.clone(),
        ]
        .concat();
        assert_eq!(deaths(phi, gaps), 1);
        // Nor if these are the first that are heard.
        assert_eq!(deaths(phi, [burst, steady.clone()].concat()), 0);
    }
    // Who beats in pairs is known by the pairs.
    let pairs = (0..200).map(|nth| if nth % 2 == 0 { ms(1) } else { 10 * SECOND });
    assert_eq!(deaths(phi, pairs), 0);
    // A pace that lasts is learned, however fast.
    let gaps = [steady, vec![ms(100); 400]].concat();
    let history = history(phi, gaps);
    assert!(history.timeout(&policy) < 4 * SECOND, "{history:?}");
}

#[test]
fn what_was_learned_of_a_pause_of_the_registry_is_unlearned() {
    let phi = PhiAccrual::new().acceptable_pause(SECOND);
    let policy = Policy::Adaptive(phi);
    let mut history = history(phi, [SECOND; 100]);
    let (before, kept, last) = (history.timeout(&policy), remembered(&history), 101 * SECOND);
    // It did not run from half a second after that beat on, for two seconds; the next two beats came at once.
    let back = last + ms(2_500);
    assert!(history.beat(&policy, Some(last), back) > before);
    history.beat(&policy, Some(back), back);
    history.unlearn(last + ms(400), back + ms(1));
    assert_eq!(remembered(&history), kept);
    assert_eq!(history.timeout(&policy), before);
    // What came before it stays, and what lost at most a quarter.
    history.unlearn(last + SECOND, back);
    assert_eq!(remembered(&history), kept);
    history.unlearn(last - ms(600), last - ms(350));
    assert_eq!(remembered(&history), kept);
    // With nothing left it begins anew.
    history.unlearn(Duration::ZERO, back);
    assert_eq!(history.timeout(&policy), policy.initial_timeout());
}
