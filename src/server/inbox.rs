//! What other threads want of a reactor, in their order.
//!
//! | a sender | the reactor |
//! |---|---|
//! | 1. locks, and pushes | 1. locks, and takes everything; it now counts as awake |
//! | 2. if the reactor does not count as awake: it does now, and the sender wakes it | 2. works |
//! | | 3. locks; if nothing waits, it no longer counts as awake, and sleeps |
//!
//! *Race.* A push between the last look of the reactor and its sleep. Both take the lock: either the reactor sees the
//! item in step 3 and does not sleep, or the sender sees that the reactor does not count as awake and wakes it. A
//! wake-up that comes before the sleep is kept by the waker, and ends that sleep at once. A burst costs one wake-up,
//! and a reactor that works costs none.

use std::fmt;

use crate::sync::Mutex;

/// Wakes a reactor. A wake-up that comes before the sleep ends it at once.
pub(crate) trait Wake: Send + Sync {
    /// Wakes it.
    fn wake(&self);
}

/// The queue of a reactor.
pub(crate) struct Inbox<I> {
    /// What waits.
    state: Mutex<State<I>>,
    /// Wakes the reactor.
    waker: Box<dyn Wake>,
}

/// What waits.
struct State<I> {
    /// The items, the oldest first.
    items: Vec<I>,
    /// Whether the reactor looks at the items before it sleeps.
    is_awake: bool,
    /// Whether nothing is accepted now or later.
    is_closed: bool,
}

impl<I> Inbox<I> {
    /// Creates an empty inbox, whose reactor is woken by `waker`.
    pub(crate) fn new(waker: Box<dyn Wake>) -> Self {
        let state = State {
            items: Vec::new(),
            is_awake: false,
            is_closed: false,
        };
        Inbox {
            state: Mutex::new(state),
            waker,
        }
    }

    /// Appends `item`.
    ///
    /// # Errors
    ///
    /// Returns it if the reactor has ended.
    pub(crate) fn push(&self, item: I) -> Result<(), I> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(item);
        }
        state.items.push(item);
        let was_awake = std::mem::replace(&mut state.is_awake, true);
        drop(state);
        if !was_awake {
            self.waker.wake();
        }
        Ok(())
    }

    /// Takes all items, in exchange for the empty `into`. The reactor counts as awake from now on.
    pub(crate) fn take(&self, into: &mut Vec<I>) {
        let mut state = self.state.lock();
        state.is_awake = true;
        std::mem::swap(&mut state.items, into);
    }

    /// Returns whether the reactor may sleep, because nothing waits.
    pub(crate) fn may_sleep(&self) -> bool {
        let mut state = self.state.lock();
        state.is_awake = !state.items.is_empty();
        !state.is_awake
    }

    /// Refuses what is pushed from now on, and returns what waits.
    pub(crate) fn close(&self) -> Vec<I> {
        let mut state = self.state.lock();
        state.is_closed = true;
        std::mem::take(&mut state.items)
    }
}

impl<I> fmt::Debug for Inbox<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox")
    }
}
