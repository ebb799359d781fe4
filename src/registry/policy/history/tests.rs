mod learning;
mod random;
mod timeouts;

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
