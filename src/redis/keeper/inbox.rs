//! What other threads leave for the keeper: outcomes of attempts, and orders.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::super::layout::Keys;
use super::claims::{Limits, Settled};
use crate::dispatch::EventId;
use crate::dispatch::attempt::Outcome;
use crate::dispatch::lease::{Lease, Lender};
use crate::dispatch::plan::TopicId;

/// What the keeper is to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Claim events of this topic within these limits; with `None`, claim none.
    Limits(TopicId, Arc<str>, Arc<Keys>, Option<Limits>),
    /// Look at the topic in this place: the listener took its token.
    Token(usize),
    /// End the call of this event, if it runs here: it was cancelled.
    Cancelled(TopicId, u64),
    /// Stop claiming events.
    Stop,
    /// End: give back the events that never started, and report all outcomes.
    End {
        /// The events that never started: the name of the topic of each, and its id in the plan of the executor.
        undone: Vec<(Arc<str>, EventId)>,
        /// Whether to wait for attempts that still run, because the one that ordered this is among them.
        waits: bool,
    },
}

/// What the keeper takes out.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// Outcomes of attempts.
    pub(crate) settled: Vec<Settled>,
    /// Orders.
    pub(crate) orders: Vec<Order>,
}

/// The inbox of the keeper.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// What is in it.
    state: Mutex<State>,
    /// Notified when the keeper has enough to do.
    enough: Condvar,
}

/// What is in the inbox.
#[derive(Debug, Default)]
struct State {
    /// What the keeper takes out.
    received: Received,
    /// How many outcomes wake the keeper, if it sleeps.
    sleeps_for: Option<usize>,
}

impl Inbox {
    /// Gives an order.
    pub(crate) fn order(&self, order: Order) {
        let mut state = self.state.lock();
        state.received.orders.push(order);
        state.sleeps_for = None;
        drop(state);
        self.enough.notify_one();
    }

    /// Takes everything out.
    pub(crate) fn take(&self) -> Received {
        std::mem::take(&mut self.state.lock().received)
    }

    /// Blocks until `deadline`, or until there is an order or `outcomes` outcomes.
    pub(crate) fn wait(&self, deadline: Option<Instant>, outcomes: usize) {
        let mut state = self.state.lock();
        state.sleeps_for = Some(outcomes);
        while state.received.orders.is_empty() && state.received.settled.len() < outcomes {
            match deadline {
                None => self.enough.wait(&mut state),
                Some(deadline) => {
                    if self.enough.wait_until(&mut state, deadline).timed_out() {
                        break;
                    }
                }
            }
        }
        state.sleeps_for = None;
    }
}

impl Lender for Inbox {
    fn settle(&self, topic: TopicId, lease: &Lease, outcome: Outcome, started: u64, now: u64) {
        let settled = Settled {
            topic,
            id: lease.id.get(),
            fence: lease.fence,
            attempts: lease.attempts,
            outcome,
            run_time: now.saturating_sub(started),
        };
        let mut state = self.state.lock();
        state.received.settled.push(settled);
        let is_enough = state
            .sleeps_for
            .is_some_and(|enough| state.received.settled.len() >= enough);
        if is_enough {
            state.sleeps_for = None;
            drop(state);
            self.enough.notify_one();
        }
    }
}
