//! The sources that have members, which a page shows: keys of watchers and nodes of registries.

use std::sync::Weak;

use super::measure::{Measure, Source};
use crate::watcher::Watcher;

#[cfg(feature = "registry")]
use crate::registry::Registry;

/// A watcher.
pub(crate) struct Keys<K, V, F> {
    /// The watcher.
    pub(crate) watcher: Weak<Watcher<K, V>>,
    /// How a key is shown.
    #[allow(dead_code, reason = "only a page shows keys")]
    pub(crate) label: F,
}

impl<K: Send, V: Send, F: Fn(&K) -> String + Send + Sync> Source for Keys<K, V, F>
where
    Watcher<K, V>: Send + Sync,
{
    fn measure(&self) -> Option<Measure> {
        let watcher = self.watcher.upgrade()?;
        Some(Measure::Watcher(Box::new(watcher.stats())))
    }
}

/// A registry.
#[cfg(feature = "registry")]
pub(crate) struct Nodes<N, D>(pub(crate) Weak<Registry<N, D>>);

#[cfg(feature = "registry")]
impl<N, D> Source for Nodes<N, D>
where
    N: std::fmt::Display + Eq + std::hash::Hash + Clone + Send + Sync + 'static,
    D: Send + Sync + 'static,
{
    fn measure(&self) -> Option<Measure> {
        Some(Measure::Registry(self.0.upgrade()?.stats()))
    }
}
