//! The part of a worker's round that delivers events.

use super::{Delivery, Setup, Worker};
use crate::clock::{self, Timestamp};
use crate::event::Event;
use crate::panic::catch_panic;
use crate::sink::{Refused, Sink};
use crate::table::Offer;
use crate::watcher::outlet::Outlet;

/// How long a round offers events to a sink before the inbox is drained again, ns.
pub(super) const LIMIT: u64 = 1_000_000;

impl<K: Eq + Clone + 'static, V: Clone + 'static> Worker<K, V> {
    /// Delivers events to the sink, for a limited time.
    pub(super) fn deliver(&mut self) -> Delivery {
        let outlet = self.setup.outlet.clone();
        let delivery = match &outlet {
            _ if self.is_sink_gone => self.discard(),
            Outlet::Nowhere => self.discard(),
            Outlet::Direct(sink) => self.offer_to(&**sink),
            Outlet::Queued(outbox) => {
                let room = outbox.room(self.setup.index);
                let mut delivered = Some(false);
                while self.events.len() < room && delivered.is_some() {
                    delivered = self.setup.table.deliver(&mut |event| {
                        self.events.push_back(event);
                        Offer::Taken
                    });
                }
                if !self.events.is_empty() {
                    outbox.add(self.setup.index, &mut self.events);
                }
                match (delivered, room) {
                    (Some(_), 0) if self.setup.table.has_queued() => Delivery::Blocked,
                    (Some(_), 1..) => Delivery::More,
                    (None, _) | (Some(_), 0) => Delivery::Done,
                }
            }
        };
        self.setup.table.shrink();
        delivery
    }

    /// Discards the queue, because there is no sink.
    fn discard(&mut self) -> Delivery {
        self.setup.table.discard_pending();
        Delivery::Done
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
            let delivered = table.deliver(&mut |mut event| {
                now = clock.now_ns();
                event.set_delivered(Timestamp::from_nanos(now));
                let late = match &event {
                    Event::Expired(event) => Some(clock::nanos(event.lateness())),
                    _ => None,
                };
                let offer = match catch_panic(|| sink.offer(event)) {
                    Some(Ok(())) => Offer::Taken,
                    Some(Err(Refused::Full(event))) => Offer::Full(event),
                    Some(Err(Refused::Gone(event))) => {
                        event.dismantle();
                        crate::log::warn!(
                            "worker {index}: the sink is gone; events are discarded from now on"
                        );
                        self.is_sink_gone = true;
                        Offer::Gone
                    }
                    None => {
                        crate::log::error!("worker {index}: the sink panicked; delivery continues");
                        self.panics += 1;
                        Offer::Taken
                    }
                };
                if let (Offer::Taken, Some(late)) = (&offer, late) {
                    self.delivery.record(late);
                }
                offer
            });
            match delivered {
                None => return Delivery::Done,
                Some(true) => return Delivery::Blocked,
                Some(false) if self.is_sink_gone || now.saturating_sub(began) > LIMIT => {
                    return Delivery::More;
                }
                Some(false) => {}
            }
        }
    }
}
