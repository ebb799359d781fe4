use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Without a pause, and with a deviation that counts from a microsecond on.
fn bare() -> PhiAccrual {
    PhiAccrual::new()
        .acceptable_pause(Duration::ZERO)
        .min_deviation(Duration::from_micros(1))
}

/// A history of beats, the first at one second, then one after each of `gaps`.
fn history(phi: PhiAccrual, gaps: impl IntoIterator<Item = Duration>) -> History {
    let (mut history, mut now) = (History::new(), SECOND);
    history.beat(&Policy::Adaptive(phi), None, now);
    for gap in gaps {
        history.beat(&Policy::Adaptive(phi), Some(now), now + gap);
        now += gap;
    }
    history
}

/// What `history` remembers, ms.
fn remembered(history: &History) -> Vec<u64> {
    let window = history.window.as_ref();
    window.map_or(Vec::new(), |window| {
        window.intervals.iter().map(|us| us / 1_000).collect()
    })
}

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
    // Told of a beat that this history never saw.
    history.beat(&policy, Some(ms(1)), ms(900));
    assert!(remembered(&history).is_empty());
    // A clock that went back, and a beat that nobody told of.
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
    // What came before it stays, and what lost no more than a quarter.
    history.unlearn(last + SECOND, back);
    assert_eq!(remembered(&history), kept);
    history.unlearn(last - ms(600), last - ms(350));
    assert_eq!(remembered(&history), kept);
    // With nothing left it begins anew.
    history.unlearn(Duration::ZERO, back);
    assert_eq!(history.timeout(&policy), policy.initial_timeout());
}

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

/// The first silence at which φ reaches the threshold, s, by trying, from the raw intervals in seconds.
fn found_by_trying(intervals: &[f64], threshold: f64, least: f64, pause: f64) -> f64 {
    let count = intervals.len() as f64;
    let mean = intervals.iter().sum::<f64>() / count;
    let squares = intervals.iter().map(|interval| (interval - mean).powi(2));
    let deviation = (squares.sum::<f64>() / count).sqrt().max(least);
    let is_reached = |silence: f64| {
        let score = (silence - mean - pause) / deviation;
        -normal::ln_tail_by_integration(score, 2_000) / LN_10 >= threshold
    };
    let (mut below, mut above) = (-40.0 * deviation, mean + pause + 40.0 * deviation);
    while above - below > 1e-12 * above.abs().max(1.0) {
        let middle = 0.5 * (below + above);
        *(if is_reached(middle) {
            &mut above
        } else {
            &mut below
        }) = middle;
    }
    above
}

proptest! {
    #[test]
    fn the_deadline_is_where_phi_is_found_to_reach_the_threshold(
        gaps in vec(0_u64..20_000_000, 1..60),
        window in 1_u32..40,
        threshold in 0.05_f64..100.0,
        least in 1_u64..2_000_000,
        pause in 0_u64..10_000_000,
        first in 1_u64..5_000_000,
    ) {
        let us = Duration::from_micros;
        let phi = PhiAccrual::new()
            .threshold(threshold)
            .window(window)
            .min_deviation(us(least))
            .acceptable_pause(us(pause))
            .first_interval(us(first));
        let history = history(phi, gaps.iter().copied().map(us));
        let seconds = |us: u64| us as f64 / 1e6;
        let mut naive = Naive::new(first, window);
        for &us in &gaps {
            naive.beat(us, Gap::Ordinary);
        }
        if naive.kept.is_empty() {
            naive.kept = around(first).to_vec(); // a burst, and nothing else
        }
        let all: Vec<f64> = naive.kept.into_iter().map(seconds).collect();
        let expected = found_by_trying(&all, threshold, seconds(least), seconds(pause));

        let deadline = history.distribution(&phi).deadline(phi.score);
        prop_assert!((deadline as f64 - (expected * 1e9).max(0.0)).abs() <= 10.0 + 1e-9 * deadline as f64,
            "{deadline} {expected}");
        let timeout = history.timeout(&Policy::Adaptive(phi)).as_nanos() as u64;
        let exact = deadline.max(FLOOR_NS);
        prop_assert!(timeout >= exact && timeout - exact <= exact / 64, "{timeout} {exact}");
    }

    #[test]
    fn sums_are_those_of_the_intervals_in_the_window_whatever_came_and_went(
        beats in vec((any::<u64>(), 0_u32..64, 0_u8..8), 1..200),
        window in 1_u32..20,
    ) {
        let policy = Policy::Adaptive(bare().window(window));
        let mut history = History::new();
        let mut naive = Naive::new(micros(bare().first_interval), window);
        for (nth, (number, shift, gap)) in beats.into_iter().enumerate() {
            // From zero to beyond the longest that is remembered, and often alike.
            let us = if number % 4 == 0 { 3_000_000 + (number >> 44) } else { number >> shift };
            let gap = match gap {
                0..3 => Gap::Death,
                3 => Gap::Foreign,
                _ => Gap::Ordinary,
            };
            history.forget(gap);
            history.beat(&policy, Some(Duration::ZERO), Duration::from_micros(us));
            if nth > 0 {
                naive.beat(us, gap);
            }
            let kept = history.window.as_ref().expect("a window");
            prop_assert_eq!(&kept.intervals, &naive.kept);
            prop_assert_eq!(kept.sums, naive.kept.iter().copied().collect());
        }
    }
}

/// What is to be remembered, from all intervals and nothing summed up.
struct Naive {
    first: u64,
    window: usize,
    kept: Vec<u64>,
    /// The short intervals since the last other one.
    short: Vec<u64>,
    /// The outages in a row.
    outages: Vec<u64>,
}

impl Naive {
    fn new(first: u64, window: u32) -> Self {
        let window = window as usize;
        let (kept, short, outages) = (Vec::new(), Vec::new(), Vec::new());
        Naive {
            first,
            window,
            kept,
            short,
            outages,
        }
    }

    fn keep(&mut self, all: &[u64]) {
        self.kept.extend(all);
        let too_many = self.kept.len().saturating_sub(self.window);
        self.kept.drain(..too_many);
    }

    fn beat(&mut self, us: u64, gap: Gap) {
        let us = us.min(1 << 44);
        if gap != Gap::Death {
            self.outages.clear();
        }
        match gap {
            Gap::Foreign => {}
            Gap::Death => {
                self.outages.push(us);
                let (least, most) = (self.outages.iter().min(), self.outages.iter().max());
                let (least, most) = (*least.expect("one"), *most.expect("one"));
                if most > 2 * least {
                    self.outages = vec![us];
                } else if self.outages.len() == 3 {
                    self.outages.clear();
                    self.kept.clear();
                    self.short.clear();
                    self.keep(&around(least.midpoint(most)));
                }
            }
            Gap::Ordinary => {
                let sum = |all: &[u64]| all.iter().map(|&it| u128::from(it)).sum::<u128>();
                let (total, count) = match self.kept.len() {
                    0 => (u128::from(self.first), 1),
                    count => (sum(&self.kept), count as u128),
                };
                if u128::from(us) * 10 * count >= total {
                    self.short.clear();
                } else {
                    self.short.push(us);
                    if sum(&self.short) * count < total {
                        return;
                    }
                }
                if self.kept.is_empty() {
                    self.keep(&around(self.first));
                }
                self.keep(&[us]);
            }
        }
    }
}
