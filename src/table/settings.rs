//! The options that watchers with and without threads have in common.

use std::time::Duration;

use ahash::RandomState;

use super::Config;
use crate::clock::{self, NEVER};
use crate::error::{BuildError, OptionError};
use crate::event::{EventKind, Kinds};
use crate::options::{DEFAULT_TIMEOUT, Mode};

/// The maximum number of keys: slots are numbered with 32 bits.
const MAX_KEYS: usize = u32::MAX as usize - 1;

/// The options that both builders hold. Setters only store; [`validate`](Shared::validate) checks.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The default timeout.
    pub(crate) timeout: Duration,
    /// The default mode.
    pub(crate) mode: Mode,
    /// How long a key may be down before it is forgotten; without a limit if not set.
    pub(crate) forget_after: Option<Duration>,
    /// The kinds of event that are wanted.
    pub(crate) wanted: Kinds,
    /// The maximum number of keys, if there is one.
    pub(crate) max_keys: Option<usize>,
    /// The number of keys for which memory is allocated ahead of time.
    pub(crate) expected_keys: usize,
    /// The seed of the hash of keys; random if not set.
    pub(crate) seed: Option<u64>,
}

impl Default for Shared {
    fn default() -> Self {
        Shared {
            timeout: DEFAULT_TIMEOUT,
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
    /// Returns the hasher of keys.
    pub(crate) fn hasher(&self) -> RandomState {
        hasher(self.seed)
    }

    /// Checks every option.
    pub(crate) fn validate(&self) -> Result<(), OptionError> {
        OptionError::positive("timeout", !self.timeout.is_zero())?;
        in_range("max_keys", self.max_keys.unwrap_or(1), MAX_KEYS)?;
        in_range("expected_keys", self.expected_keys.max(1), MAX_KEYS)
    }

    /// Returns the options of the table of one of `workers` workers, with a grace of at most `grace_cap`.
    pub(crate) fn config(&self, workers: usize, grace_cap: Duration) -> Config {
        // An even spread is never exactly even. Four standard deviations more than the share avoid growing.
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

    /// Returns the error that there is not enough memory for the expected keys.
    pub(crate) fn too_many_expected(&self) -> BuildError {
        BuildError::OutOfMemory {
            option: "expected_keys",
            given: self.expected_keys,
        }
    }
}

/// Returns the hasher of a watcher: random, or created from `seed`.
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
