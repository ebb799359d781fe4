//! Foreign receivers that the thread of a group looks at beside its inbox.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Select};

use crate::clock::Clock;
use crate::sync::atomic::{AtomicBool, Ordering};

/// An attached receiver with its handler.
pub(super) trait Source<S>: Send {
    /// Receives an item and keeps it. Returns `false` if there is none.
    fn fill(&mut self) -> bool;

    /// Handles the item that was received.
    fn handle(&mut self, state: &mut S);

    /// Adds the receiver to `select`.
    fn select<'a>(&'a self, select: &mut Select<'a>);

    /// Returns whether it is disconnected, detached, or drained at a stop.
    fn has_ended(&self) -> bool;

    /// Limits it to the items that it has now, because the group stops.
    fn drain(&mut self);
}

/// A [`Source`] of items of type `T`.
pub(super) struct Attached<T, F> {
    /// The receiver.
    receiver: Receiver<T>,
    /// The handler.
    handle: F,
    /// The item between its receipt and its handling.
    item: Option<T>,
    /// How many items it may receive, once the group stops.
    quota: Option<usize>,
    /// Whether the receiver is disconnected.
    is_disconnected: bool,
    /// Set when the receiver is detached.
    is_detached: Arc<AtomicBool>,
}

impl<T, F> Attached<T, F> {
    /// Attaches `receiver`, until it is disconnected or `is_detached` is set.
    pub(super) fn new(receiver: Receiver<T>, handle: F, is_detached: Arc<AtomicBool>) -> Self {
        Attached {
            receiver,
            handle,
            item: None,
            quota: None,
            is_disconnected: false,
            is_detached,
        }
    }
}

impl<S, T: Send, F: FnMut(&mut S, T) + Send> Source<S> for Attached<T, F> {
    fn fill(&mut self) -> bool {
        if self.item.is_none() && !Source::<S>::has_ended(self) {
            match self.receiver.try_recv() {
                Ok(item) => {
                    self.quota = self.quota.map(|quota| quota - 1);
                    self.item = Some(item);
                }
                Err(error) => {
                    // A quota ends with the items, if somebody else received some.
                    self.quota = self.quota.map(|_| 0);
                    self.is_disconnected = error.is_disconnected();
                }
            }
        }
        self.item.is_some()
    }

    fn handle(&mut self, state: &mut S) {
        if let Some(item) = self.item.take() {
            (self.handle)(state, item);
        }
    }

    fn select<'a>(&'a self, select: &mut Select<'a>) {
        select.recv(&self.receiver);
    }

    fn has_ended(&self) -> bool {
        self.is_disconnected || self.quota == Some(0) || self.is_detached.load(Ordering::Acquire)
    }

    fn drain(&mut self) {
        self.quota = Some(self.receiver.len());
    }
}

/// The receivers of a group, owned by its thread.
pub(super) struct Sources<S> {
    /// In the order in which they were attached.
    list: Vec<Box<dyn Source<S>>>,
    /// The one whose turn is next.
    cursor: usize,
    /// Whether they are limited to what they have, because the group stops.
    are_draining: bool,
}

impl<S> Sources<S> {
    /// No receivers.
    pub(super) fn new() -> Self {
        Sources {
            list: Vec::new(),
            cursor: 0,
            are_draining: false,
        }
    }

    /// Returns whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Takes over `arriving` receivers. If the group `stops`, all are limited to what they have. Returns whether
    /// anything is new.
    pub(super) fn take_over(
        &mut self,
        arriving: &mut Vec<Box<dyn Source<S>>>,
        stops: bool,
    ) -> bool {
        let stops_now = stops && !self.are_draining;
        let is_changed = !arriving.is_empty() || stops_now;
        self.list.append(arriving);
        if stops_now {
            self.are_draining = true;
            self.list.iter_mut().for_each(|source| source.drain());
        }
        is_changed
    }

    /// Takes out all receivers.
    pub(super) fn take_all(&mut self) -> Vec<Box<dyn Source<S>>> {
        std::mem::take(&mut self.list)
    }

    /// Finds the next receiver that has an item, and passes the turn on.
    pub(super) fn find_filled(&mut self) -> Option<usize> {
        let count = self.list.len();
        let mut order = (self.cursor..count).chain(0..self.cursor.min(count));
        let found = order.find(|&at| self.list[at].fill())?;
        self.cursor = found + 1;
        Some(found)
    }

    /// Receives an item from receiver `at`. Returns `false` if there is none.
    pub(super) fn fill(&mut self, at: usize) -> bool {
        self.list[at].fill()
    }

    /// Handles the item that was received from receiver `at`.
    pub(super) fn handle(&mut self, at: usize, state: &mut S) {
        self.list[at].handle(state);
    }

    /// Takes out the receivers that have ended.
    pub(super) fn take_ended(&mut self) -> Vec<Box<dyn Source<S>>> {
        let sources = std::mem::take(&mut self.list).into_iter();
        let (ended, left) = sources.partition(|source| source.has_ended());
        self.list = left;
        ended
    }

    /// Sleeps until a receiver has something, the bell rings, or `due` ns has come.
    pub(super) fn select(&self, bell: &Receiver<()>, clock: &Clock, due: Option<u64>) {
        let mut select = Select::new();
        let rung = select.recv(bell);
        for source in &self.list {
            source.select(&mut select);
        }
        let ready = match due {
            Some(due) if !clock.is_manual() => {
                let left = due.saturating_sub(clock.now_ns());
                select.ready_timeout(Duration::from_nanos(left)).ok()
            }
            _ => Some(select.ready()),
        };
        if ready == Some(rung) {
            let _ = bell.try_recv();
        }
    }
}
