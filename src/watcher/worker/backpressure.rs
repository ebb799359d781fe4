//! The part of a round in which events leave the worker, and what happens when the sink is full or gone.
//!
//! A full sink blocks nothing: the event returns to its slot or to the queue, and is offered again a little later. For
//! `on_event`, the worker takes only as many events from the table as the outbox has room for.

use super::{Delivery, Setup, Worker};
use crate::clock::{self, NEVER, Timestamp};
use crate::event::Event;
use crate::panic::{catch_panic, discard};
use crate::sink::{Refused, Sink};
use crate::watcher::outbox::{Outbox, Outlet};

/// How long a round offers events to a sink before the inbox is drained again, ns.
const LIMIT: u64 = 1_000_000;

/// How soon an event is offered again to a sink that was full, ns. A sink does not report when it has room.
const RETRY: u64 = 1_000_000;

impl<K: Eq + Clone + 'static, V: Clone + 'static> Worker<K, V> {
    /// Delivers events to the sink, for a limited time. Without a sink, discards the queue.
    pub(super) fn deliver(&mut self) -> Delivery {
        let outlet = self.setup.outlet.clone();
        let delivery = match &outlet {
            Some(Outlet::Sink(sink)) => self.offer_to(&**sink),
            Some(Outlet::Outbox(outbox)) => self.add_to(outbox),
            None => {
                self.setup.table.discard_pending();
                Delivery::Done
            }
        };
        // A sink that is gone is dropped here, by the last worker.
        discard(outlet);
        delivery
    }

    /// Returns when to offer again after `delivery`. Returns [`NEVER`] if the outbox wakes the worker.
    pub(super) fn retry_at(&self, delivery: Delivery, now: u64) -> u64 {
        match (&self.setup.outlet, delivery) {
            (Some(Outlet::Sink(_)), Delivery::Blocked) => now.saturating_add(RETRY),
            _ => NEVER,
        }
    }

    /// Moves events to the outbox while that has room.
    fn add_to(&mut self, outbox: &Outbox<K, V>) -> Delivery {
        let Worker { setup, events, .. } = self;
        let room = outbox.room(setup.index);
        let mut take = |event| {
            events.push_back(event);
            Ok(())
        };
        let mut left = room;
        while left > 0 && setup.table.deliver(&mut take).is_some() {
            left -= 1;
        }
        if !events.is_empty() {
            outbox.add(setup.index, events);
        }
        match (setup.table.has_queued(), room) {
            (false, _) => Delivery::Done,
            (true, 0) => Delivery::Blocked,
            (true, _) => Delivery::More,
        }
    }

    /// Offers events to a sink on this thread until the sink is full or the time is over.
    fn offer_to(&mut self, sink: &dyn Sink<K, V>) -> Delivery {
        let Setup {
            table,
            clock,
            index,
            ..
        } = &mut self.setup;
        let began = clock.now_ns();
        let mut now = began;
        loop {
            let mut is_gone = false;
            let delivered = table.deliver(&mut |mut event| {
                now = clock.now_ns();
                event.set_delivered(Timestamp::from_nanos(now));
                let late = match &event {
                    Event::Expired(event) => Some(clock::nanos(event.lateness())),
                    _ => None,
                };
                let offered = catch_panic(|| sink.offer(event)).unwrap_or_else(|| {
                    crate::log::error!("worker {index}: the sink panicked; delivery continues");
                    self.panics += 1;
                    Ok(())
                });
                if let (Ok(()), Some(late)) = (&offered, late) {
                    self.delivery.record(late);
                }
                is_gone = matches!(offered, Err(Refused::Gone(_)));
                offered
            });
            if is_gone {
                crate::log::warn!(
                    "worker {index}: the sink is gone; events are discarded from now on"
                );
                self.setup.outlet = None;
                return Delivery::More;
            }
            match delivered {
                None => return Delivery::Done,
                Some(true) => return Delivery::Blocked,
                Some(false) if now.saturating_sub(began) > LIMIT => return Delivery::More,
                Some(false) => {}
            }
        }
    }
}
