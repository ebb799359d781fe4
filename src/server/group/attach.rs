//! Attaching and detaching receivers from any thread.

use std::fmt;
use std::sync::{Arc, Weak};

use crossbeam_channel::Receiver;

use super::error::{PostError, PostErrorKind};
use super::shared::Shared;
use super::sources::Attached;
use crate::sync::atomic::{AtomicBool, Ordering};

/// How many receivers may be attached to a group. Each sleep and each look at the receivers costs O(n).
const MAX_ATTACHED: usize = 32;

impl<S: Send + 'static> Shared<S> {
    /// Attaches `receiver`.
    pub(super) fn attach<T: Send + 'static, F: FnMut(&mut S, T) + Send + 'static>(
        &self,
        receiver: Receiver<T>,
        handle: F,
    ) -> Result<Attachment, PostError<(Receiver<T>, F)>> {
        let mut state = self.state.lock();
        let reason = if state.stopping.is_stopped {
            PostErrorKind::Stopped
        } else if state.attached >= MAX_ATTACHED {
            PostErrorKind::Full
        } else {
            let is_detached = Arc::<AtomicBool>::default();
            state.attached += 1;
            let source = Attached::new(receiver, handle, is_detached.clone());
            state.arriving.push(Box::new(source));
            self.wake(state);
            let group: Weak<dyn LookAgain> = self.this.clone();
            return Ok(Attachment { group, is_detached });
        };
        state.counts.refused += 1;
        drop(state);
        Err(PostError::new(reason, (receiver, handle)))
    }
}

/// Makes the thread of a group look at its receivers.
trait LookAgain: Send + Sync {
    /// Makes the thread look.
    fn look_again(&self);
}

impl<S: Send + 'static> LookAgain for Shared<S> {
    fn look_again(&self) {
        let mut state = self.state.lock();
        state.was_detached = true;
        self.wake(state);
    }
}

/// A handle to an attached receiver, returned by [`attach`](super::Group::attach).
///
/// Dropping it does not detach the receiver, and it does not keep the group alive.
///
/// ```
/// use crossbeam_channel::unbounded;
/// use liveness::server::Group;
///
/// let world = Group::builder("world").spawn(0)?;
/// let (send, receiver) = unbounded();
/// let attachment = world.attach(receiver.clone(), |sum, n: u32| *sum += n)?;
/// attachment.detach();
/// assert_eq!(world.call(|sum| *sum)?, 0);
/// send.send(1)?;
/// assert_eq!(receiver.recv()?, 1); // the group no longer takes items
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Attachment {
    /// The group.
    group: Weak<dyn LookAgain>,
    /// Whether the receiver is detached.
    is_detached: Arc<AtomicBool>,
}

impl Attachment {
    /// Detaches the receiver. The group's thread drops it and its handler as soon as it looks at its receivers.
    ///
    /// No item is lost: at most one that the thread is taking at this moment is still handled, and the others stay in
    /// the channel. Keep a clone of the receiver to receive them. Does not block.
    pub fn detach(&self) {
        self.is_detached.store(true, Ordering::Release);
        if let Some(group) = self.group.upgrade() {
            group.look_again();
        }
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment")
            .field("is_detached", &self.is_detached)
            .finish_non_exhaustive()
    }
}
