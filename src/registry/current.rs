//! The list at one moment, as a reader borrows it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use arc_swap::Guard;

use super::available::{Available, Node, Nodes};

/// The list at one moment, returned by [`Registry::available`](super::Registry::available). It is meant for a few
/// picks. To keep the list longer, convert it with [`to_arc`](Current::to_arc).
pub struct Current<N, D>(pub(super) Guard<Arc<Available<N, D>>>);

impl<N, D> Current<N, D> {
    /// Returns the list as an [`Arc`], which may be kept for any length of time.
    ///
    /// ```
    /// use liveness::registry::Registry;
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// registry.register(7, "rack 4")?;
    /// registry.beat(&7)?;
    /// let list = registry.available().to_arc();
    /// registry.leave(&7)?;
    /// assert_eq!((list.len(), registry.available().len()), (1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn to_arc(&self) -> Arc<Available<N, D>> {
        Arc::clone(&self.0)
    }
}

impl<N, D> Deref for Current<N, D> {
    type Target = Available<N, D>;

    fn deref(&self) -> &Available<N, D> {
        &self.0
    }
}

/// Iterates over the nodes of the list.
impl<'a, N, D> IntoIterator for &'a Current<N, D> {
    type Item = &'a Node<N, D>;
    type IntoIter = Nodes<'a, N, D>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<N, D> fmt::Debug for Current<N, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
