//! The input of a table.

use std::num::NonZeroU64;

use super::ids::Tag;
use crate::clock;
use crate::options::{Mode, Options};
use crate::panic::drop_both;

/// A beat that a table applies.
#[derive(Debug)]
pub(crate) struct Beat<K, V> {
    /// The tag of the key.
    pub(crate) tag: Tag,
    /// When the caller made it, ns.
    pub(crate) stamp: u64,
    /// The key.
    pub(crate) key: K,
    /// The new timeout of the key, ns, if it is set.
    pub(crate) timeout: Option<NonZeroU64>,
    /// The new mode of the key, if it is set.
    pub(crate) mode: Option<Mode>,
    /// The new value of the key, if it is set.
    pub(crate) extra: Option<V>,
    /// Whether it applies to a watched key only and begins no episode.
    pub(crate) known_only: bool,
}

impl<K, V> Beat<K, V> {
    /// Creates a beat without options.
    #[inline]
    pub(crate) fn plain(tag: Tag, key: K, stamp: u64) -> Self {
        Beat {
            tag,
            stamp,
            key,
            timeout: None,
            mode: None,
            extra: None,
            known_only: false,
        }
    }

    /// Creates a beat with `options`, or returns the key as an error if their timeout is zero.
    pub(crate) fn with_options(
        tag: Tag,
        key: K,
        stamp: u64,
        options: Options<V>,
    ) -> Result<Self, K> {
        let timeout = match options.timeout.map(clock::nanos).map(NonZeroU64::new) {
            Some(None) => return Err(key),
            given => given.flatten(),
        };
        Ok(Beat {
            tag,
            stamp,
            key,
            timeout,
            mode: options.mode,
            extra: options.extra,
            known_only: options.known_only,
        })
    }
}

impl<K, V> Beat<K, V> {
    /// Drops the key and then the value, each of which may panic.
    pub(crate) fn dismantle(self) {
        drop_both(self.key, self.extra);
    }
}
