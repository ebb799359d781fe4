//! Random intervals, against a formula that is searched and sums that are taken anew.

use super::*;

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
