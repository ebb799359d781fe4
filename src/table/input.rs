//! What goes into a table.

use std::num::NonZeroU64;

use super::ids::Tag;
use crate::clock;
use crate::options::{Mode, Options};
use crate::panic::drop_both;

/// One sign of life on its way into a table.
#[derive(Debug)]
pub(crate) struct Beat<K, V> {
    /// The tag of the key.
    pub(crate) tag: Tag,
    /// When the caller made it, ns.
    pub(crate) stamp: u64,
    /// The key.
    pub(crate) key: K,
    /// The key's timeout from now on, ns, where it is given.
    pub(crate) timeout: Option<NonZeroU64>,
    /// The key's mode from now on, where it is given.
    pub(crate) mode: Option<Mode>,
    /// The key's value from now on, where it is given.
    pub(crate) extra: Option<V>,
    /// Whether it is for a watched key only, and begins no episode.
    pub(crate) known_only: bool,
}

impl<K, V> Beat<K, V> {
    /// A beat that carries nothing.
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

    /// A beat that carries `options`; `Err` with the key if their timeout is zero.
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
