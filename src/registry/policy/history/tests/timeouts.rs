//! The timeouts that follow.

use super::*;

#[test]
fn silences_are_judged_as_in_akka_s_own_test() {
    // AccrualFailureDetectorSpec.scala: when the beats came, how long the silence was, and whether that was too long.
    let quick = PhiAccrual::new().acceptable_pause(Duration::ZERO);
    let cases = [
        (quick.threshold(3.0), &[1000, 100][..], 100, 7100),
        (PhiAccrual::new(), &[1000; 3], 4000, 7000),
        (PhiAccrual::new(), &[1000; 6], 500, 5000),
        (PhiAccrual::new(), &[1000; 999], 100, 7000),
    ];
    for (phi, gaps, fine, too_long) in cases {
        let history = history(phi, gaps.iter().copied().map(ms));
        let timeout = history.timeout(&Policy::Adaptive(phi));
        assert!((ms(fine)..ms(too_long)).contains(&timeout), "{timeout:?}");
    }
}

#[test]
fn phi_reaches_the_threshold_at_the_deadline_and_rises_all_the_way() {
    for threshold in [0.1, 0.301, 1.0, 8.0, 12.0, 30.0, 300.0] {
        let phi = PhiAccrual::new().threshold(threshold);
        let policy = Policy::Adaptive(phi);
        let history = history(phi, [900, 1_100, 1_300].map(ms));
        let at = |silence| history.phi(&policy, silence).unwrap();
        let deadline = Duration::from_nanos(history.distribution(&phi).deadline(phi.score));
        assert!((at(deadline) - threshold).abs() < 1e-6 * threshold);
        let (mut last, mut silence) = (0.0, Duration::ZERO);
        while silence < 2 * deadline {
            assert!(at(silence) >= last && at(silence) >= 0.0);
            (last, silence) = (at(silence), silence + ms(7));
        }
    }
    let history = history(bare(), []);
    let at = |policy| history.phi(&policy, SECOND);
    assert_eq!(at(Policy::Fixed(SECOND)), None);
    assert!((at(Policy::Adaptive(bare())).unwrap() - 0.301).abs() < 1e-3);
}

#[test]
fn a_steady_node_keeps_its_timeout_from_beat_to_beat() {
    let policy = Policy::Adaptive(PhiAccrual::new());
    let (mut history, mut now) = (History::new(), SECOND);
    let mut timeouts = vec![history.beat(&policy, None, now)];
    for nth in 0..10_000 {
        let gap = ms(950 + nth * 37 % 100);
        timeouts.push(history.beat(&policy, Some(now), now + gap));
        now += gap;
    }
    // It settles while the window fills, and then there is one, or two where it lies between them.
    timeouts.drain(..200);
    timeouts.sort();
    timeouts.dedup();
    assert!(timeouts.len() <= 2, "{timeouts:?}");
}

#[test]
fn timeouts_are_rounded_up_to_a_few() {
    let examples = [
        (1, 1),
        (127, 127),
        (129, 130),
        (1_000_000_000, 1_006_632_960),
        (u64::MAX - 1, clock::NEVER),
        (clock::NEVER, clock::NEVER),
    ];
    for (ns, rounded) in examples {
        assert_eq!(round_up(ns), rounded);
    }
    let mut used: Vec<u64> = (1 << 20..1 << 21).map(round_up).collect();
    used.dedup();
    assert_eq!(used.len(), 65); // both ends
}

#[test]
fn a_fixed_policy_needs_no_memory_and_a_window_grows_with_the_beats() {
    assert_eq!(size_of::<History>(), size_of::<usize>());
    #[cfg(target_pointer_width = "64")]
    assert_eq!(size_of::<Window>(), 128);
    let mut history = History::new();
    history.beat(&Policy::Fixed(SECOND), Some(SECOND), 2 * SECOND);
    assert!(history.window.is_none());
    let policy = Policy::Adaptive(PhiAccrual::new());
    for nth in 0..1_000 {
        history.beat(&policy, Some(SECOND * nth), SECOND * (nth + 1));
        let window = history.window.as_ref().expect("a window");
        let (len, room) = (window.intervals.len(), window.intervals.capacity());
        assert!(len <= 200 && room <= (2 * len).clamp(4 * len.min(1), 200));
        // The first beat is no interval, and two come with the second.
        assert_eq!(
            len,
            if nth == 0 {
                0
            } else {
                (nth as usize + 2).min(200)
            }
        );
    }
}

#[test]
fn no_interval_and_no_option_is_too_extreme() {
    let times = [
        Duration::ZERO,
        Duration::from_nanos(1),
        SECOND,
        Duration::MAX,
    ];
    let scores = [
        f64::MIN_POSITIVE,
        0.3,
        8.0,
        1e300,
        f64::MAX,
        f64::NAN,
        f64::INFINITY,
    ];
    for nth in 0..scores.len() * times.len().pow(3) {
        let (score, rest) = (scores[nth % scores.len()], nth / scores.len());
        let phi = PhiAccrual::new()
            .threshold(score)
            .window(3)
            .min_deviation(times[rest % 4])
            .acceptable_pause(times[rest / 4 % 4])
            .first_interval(times[rest / 16]);
        let policy = Policy::Adaptive(phi);
        let mut history = History::new();
        for before in times {
            for now in times {
                let timeout = history.beat(&policy, Some(before), now);
                assert!(timeout >= Duration::from_millis(1), "{policy:?}");
                history.phi(&policy, now);
            }
        }
    }
    // The shortest intervals, with all that there is to reckon with at nothing: the floor.
    let phi = bare().min_deviation(Duration::from_nanos(1)).window(2);
    let phi = phi.first_interval(Duration::from_micros(1));
    let history = history(phi, [Duration::from_micros(1); 5]);
    let floor = Duration::from_nanos(round_up(FLOOR_NS));
    assert_eq!(history.timeout(&Policy::Adaptive(phi)), floor);
    assert!(floor < Duration::from_micros(1_016));
}
