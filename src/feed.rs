//! A feed passes every item to each reader through the reader's own bounded queue, so a slow reader does not affect the
//! others.
//!
//! Sending never blocks. If a queue is full, the item is dropped and counted. A [`Gap`] marks the place where items are
//! missing, and does not use the capacity for items. A queue is locked only while an item is added or taken. No user
//! code runs and no item is dropped under the lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{RecvError, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use crate::sync::{Condvar, Instant, Mutex, MutexGuard};

/// Items that were dropped one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gap {
    /// The number of items.
    pub(crate) count: u64,
    /// The version of the last one.
    pub(crate) version: u64,
}

impl Gap {
    /// Takes the gap, if there is one.
    fn take(&mut self) -> Option<Gap> {
        let gap = std::mem::take(self);
        (gap.count > 0).then_some(gap)
    }
}

/// An item or a gap, as received by a reader.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received<T> {
    /// An item.
    Item(T),
    /// Items are missing here.
    Gap(Gap),
}

/// The queue of one reader.
struct Queue<T> {
    /// The waiting items.
    inner: Mutex<Inner<T>>,
    /// Notified when there is an item, or the end.
    filled: Condvar,
}

/// The part of a queue under its lock.
struct Inner<T> {
    /// The waiting items and gaps, the oldest first. A gap is followed by an item, so there are never more gaps than
    /// items.
    waiting: VecDeque<Received<T>>,
    /// The number of gaps.
    gaps: usize,
    /// The capacity for items, without gaps.
    capacity: usize,
    /// The items that were dropped since the last item was added.
    missed: Gap,
    /// Whether the sender or the reader has ended the queue.
    is_closed: bool,
}

impl<T> Inner<T> {
    /// Takes the next item, or the gap before it.
    fn pop(&mut self) -> Result<Received<T>, TryRecvError> {
        if let Some(received) = self.waiting.pop_front() {
            self.gaps -= usize::from(matches!(received, Received::Gap(_)));
            return Ok(received);
        }
        match self.missed.take() {
            Some(gap) => Ok(Received::Gap(gap)),
            None if self.is_closed => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }
}

/// The sending side.
pub(crate) struct Feed<T> {
    /// The queues of the readers.
    queues: Vec<Arc<Queue<T>>>,
    /// The number of dropped items of all readers.
    dropped: u64,
}

impl<T> Feed<T> {
    /// Creates a feed without readers.
    pub(crate) fn new() -> Self {
        Feed {
            queues: Vec::new(),
            dropped: 0,
        }
    }

    /// Returns the number of items that were dropped because a queue was full.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Returns the number of readers.
    pub(crate) fn len(&self) -> usize {
        let is_here = |queue: &&Arc<Queue<T>>| !queue.inner.lock().is_closed;
        self.queues.iter().filter(is_here).count()
    }

    /// Adds a reader that gets everything from now on, and has room for `capacity` items, at least one.
    pub(crate) fn subscribe(&mut self, capacity: usize) -> Reader<T> {
        let inner = Inner {
            waiting: VecDeque::new(),
            gaps: 0,
            capacity: capacity.max(1),
            missed: Gap::default(),
            is_closed: false,
        };
        let queue = Arc::new(Queue {
            inner: Mutex::new(inner),
            filled: Condvar::new(),
        });
        if self.queues.len() == self.queues.capacity() {
            // Removes readers that were dropped since the last item. Many may accumulate while nothing is sent.
            self.queues.retain(|queue| !queue.inner.lock().is_closed);
        }
        self.queues.push(queue.clone());
        Reader { queue }
    }

    /// Puts `item`, whose version is `version`, into each queue, and drops the queues of readers that are gone.
    pub(crate) fn send(&mut self, item: &T, version: u64)
    where
        T: Clone,
    {
        let dropped = &mut self.dropped;
        self.queues.retain(|queue| {
            let mut inner = queue.inner.lock();
            if inner.is_closed {
                return false;
            }
            if inner.waiting.len() - inner.gaps >= inner.capacity {
                inner.missed.count += 1;
                inner.missed.version = version;
                *dropped += 1;
                return true;
            }
            if let Some(gap) = inner.missed.take() {
                inner.waiting.push_back(Received::Gap(gap));
                inner.gaps += 1;
            }
            inner.waiting.push_back(Received::Item(item.clone()));
            drop(inner);
            queue.filled.notify_one();
            true
        });
    }

    /// Ends all queues: there will be no further item.
    pub(crate) fn close(&mut self) {
        for queue in self.queues.drain(..) {
            queue.inner.lock().is_closed = true;
            queue.filled.notify_all();
        }
    }
}

/// The reading side of one queue. Dropping it ends the queue.
pub(crate) struct Reader<T> {
    /// The waiting items.
    queue: Arc<Queue<T>>,
}

impl<T> Reader<T> {
    /// Blocks until there is an item.
    pub(crate) fn recv(&self) -> Result<Received<T>, RecvError> {
        self.wait(|filled, inner| {
            filled.wait(inner);
            true
        })
        .map_err(|_| RecvError)
    }

    /// Returns the next item, if there is one.
    pub(crate) fn try_recv(&self) -> Result<Received<T>, TryRecvError> {
        self.queue.inner.lock().pop()
    }

    /// Blocks until there is an item, for at most `wait`.
    pub(crate) fn recv_timeout(&self, wait: Duration) -> Result<Received<T>, RecvTimeoutError> {
        let Some(end) = Instant::now().checked_add(wait) else {
            return self.recv().map_err(|_| RecvTimeoutError::Disconnected);
        };
        self.wait(|filled, inner| !filled.wait_until(inner, end).timed_out())
            .map_err(|error| match error {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            })
    }

    /// Takes the next item; waits by `wait` while there is none, until that returns `false`.
    fn wait(
        &self,
        wait: impl Fn(&Condvar, &mut MutexGuard<'_, Inner<T>>) -> bool,
    ) -> Result<Received<T>, TryRecvError> {
        let mut inner = self.queue.inner.lock();
        loop {
            match inner.pop() {
                Err(TryRecvError::Empty) if wait(&self.queue.filled, &mut inner) => {}
                // An item may have arrived at the last moment.
                Err(TryRecvError::Empty) => return inner.pop(),
                done => return done,
            }
        }
    }

    /// Returns how many items and gaps wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.inner.lock().waiting.len()
    }

    /// Returns a function that ends the queue like dropping the reader: waiting items are dropped, and a blocked reader
    /// returns.
    pub(crate) fn end(&self) -> impl Fn() + Send + Sync + use<T>
    where
        T: Send,
    {
        let queue = self.queue.clone();
        move || end(&queue)
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        end(&self.queue);
    }
}

/// Ends a queue, and drops its items.
fn end<T>(queue: &Queue<T>) {
    let mut inner = queue.inner.lock();
    inner.is_closed = true;
    inner.missed = Gap::default();
    inner.gaps = 0;
    let waiting = std::mem::take(&mut inner.waiting);
    drop(inner);
    queue.filled.notify_all();
    // Dropped without the lock, because this may run the `Drop` of user data.
    drop(waiting);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_that_come_and_go_while_nothing_happens_leave_nothing_behind() {
        let mut feed = Feed::<u32>::new();
        let stays = feed.subscribe(1);
        for _ in 0..1_000 {
            drop(feed.subscribe(1));
        }
        assert_eq!(feed.len(), 1);
        assert!(feed.queues.len() < 10, "{}", feed.queues.len());
        feed.close();
        assert_eq!(stays.try_recv().err(), Some(TryRecvError::Disconnected));
    }

    #[test]
    fn a_gap_stands_where_items_are_missing_and_takes_no_room() {
        let mut feed = Feed::new();
        let (slow, quick) = (feed.subscribe(2), feed.subscribe(10));
        for item in 1..=4 {
            feed.send(&item, 10 * item);
        }
        assert_eq!(slow.try_recv(), Ok(Received::Item(1)));
        feed.send(&5, 50);
        feed.send(&6, 60);
        feed.close();
        let gap = |count, version| Ok(Received::Gap(Gap { count, version }));
        let expected = [
            Ok(Received::Item(2)),
            gap(2, 40),
            Ok(Received::Item(5)),
            gap(1, 60),
            Err(TryRecvError::Disconnected),
        ];
        assert_eq!(expected.each_ref().map(|_| slow.try_recv()), expected);
        assert_eq!((feed.dropped(), quick.len()), (3, 6));
    }
}
