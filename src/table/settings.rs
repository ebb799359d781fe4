//! The options that a watcher with threads and one without have in common.

use std::time::Duration;

use ahash::RandomState;

use super::Config;
use crate::clock::{self, NEVER};
use crate::error::{BuildError, OptionError};
use crate::event::{EventKind, Kinds};
use crate::options::Mode;

/// The most keys: slots are numbered with 32 bits.
const MAX_KEYS: usize = u32::MAX as usize - 1;

/// What both builders hold. Setters only store; [`validate`](Shared::validate) checks.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The default timeout.
    pub(crate) timeout: Duration,
    /// The default mode.
    pub(crate) mode: Mode,
    /// How long a key may be down before it is forgotten; never if not set.
    pub(crate) forget_after: Option<Duration>,
    /// The kinds of event wanted.
    pub(crate) wanted: Kinds,
    /// The most keys, if there is a most.
    pub(crate) max_keys: Option<usize>,
    /// The keys to make room for.
    pub(crate) expected_keys: usize,
    /// What the hash of keys is seeded with; random if not set.
    pub(crate) seed: Option<u64>,
}

impl Default for Shared {
    fn default() -> Self {
        Shared {
            timeout: Duration::from_secs(10),
            mode: Mode::Once,
            forget_after: None,
            wanted: [EventKind::Expired, EventKind::Recovered]
                .into_iter()
                .collect(),
            max_keys: None,
            expected_keys: 0,
            seed: None,
        }
    }
}

impl Shared {
    /// The hasher of keys.
    pub(crate) fn hasher(&self) -> RandomState {
        hasher(self.seed)
    }

    /// Checks every option.
    pub(crate) fn validate(&self) -> Result<(), OptionError> {
        OptionError::positive("timeout", !self.timeout.is_zero())?;
        in_range("max_keys", self.max_keys.unwrap_or(1), MAX_KEYS)?;
        in_range("expected_keys", self.expected_keys.max(1), MAX_KEYS)
    }

    /// The configuration of the table of one of `workers` workers, which grants at most `grace_cap` after stalls.
    pub(crate) fn config(&self, workers: usize, grace_cap: Duration) -> Config {
        // An even spread is never quite even: four standard deviations more than the share save the growing.
        let share = self.expected_keys / workers;
        let slack = if workers == 1 { 0 } else { 4 * share.isqrt() };
        Config {
            timeout: clock::nanos(self.timeout),
            mode: self.mode,
            wanted: self.wanted,
            max_keys: self.max_keys.unwrap_or(MAX_KEYS),
            expected_keys: share + slack,
            forget_after: self.forget_after.map_or(NEVER, clock::nanos),
            grace_cap: clock::nanos(grace_cap),
        }
    }

    /// There is no memory for the keys that are expected.
    pub(crate) fn too_many_expected(&self) -> BuildError {
        BuildError::OutOfMemory {
            option: "expected_keys",
            given: self.expected_keys,
        }
    }
}

/// The hasher of a watcher: random, or made from `seed`.
pub(crate) fn hasher(seed: Option<u64>) -> RandomState {
    seed.map_or_else(RandomState::new, |seed| {
        let step = |n: u64| seed.wrapping_add(n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        RandomState::with_seeds(step(1), step(2), step(3), step(4))
    })
}

/// Checks that `given` is from 1 to `max`.
pub(crate) fn in_range(option: &'static str, given: usize, max: usize) -> Result<(), OptionError> {
    OptionError::positive(option, given > 0)?;
    if given > max {
        let must = format!("be at most {max}, not {given}");
        return Err(OptionError::new(option, must));
    }
    Ok(())
}
