//! The options that a watcher with threads and one without have in common.

use std::time::Duration;

use crate::clock::{self, NEVER};
use crate::error::BuildError;
use crate::event::{EventKind, Kinds, Mode};
use crate::table::Config;

/// The most keys: slots are numbered with 32 bits.
const MAX_KEYS: usize = u32::MAX as usize - 1;

/// What both builders hold. Setters only store; [`validate`](Shared::validate) checks.
#[derive(Debug)]
pub(super) struct Shared {
    /// The default timeout.
    pub(super) timeout: Duration,
    /// The default mode.
    pub(super) mode: Mode,
    /// How long a key may be down before it is forgotten; never if not set.
    pub(super) forget_after: Option<Duration>,
    /// The kinds of event wanted.
    pub(super) wanted: Kinds,
    /// The most keys, if there is a most.
    pub(super) max_keys: Option<usize>,
    /// The keys to make room for.
    pub(super) expected_keys: usize,
    /// What the hash of keys is seeded with; random if not set.
    pub(super) seed: Option<u64>,
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
    /// Checks every option.
    pub(super) fn validate(&self) -> Result<(), BuildError> {
        if self.timeout.is_zero() {
            return Err(BuildError::ZeroTimeout);
        }
        in_range("max_keys", self.max_keys.unwrap_or(1), MAX_KEYS)?;
        in_range("expected_keys", self.expected_keys.max(1), MAX_KEYS)
    }

    /// The configuration of the table of one of `workers` workers, which grants at most `grace_cap` after stalls.
    pub(super) fn config(&self, workers: usize, grace_cap: Duration) -> Config {
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
    pub(super) fn too_many_expected(&self) -> BuildError {
        BuildError::OutOfMemory {
            option: "expected_keys",
            given: self.expected_keys,
        }
    }
}

/// Checks that `given` is from 1 to `max`.
pub(super) fn in_range(option: &'static str, given: usize, max: usize) -> Result<(), BuildError> {
    if (1..=max).contains(&given) {
        Ok(())
    } else {
        Err(BuildError::OutOfRange { option, given, max })
    }
}
