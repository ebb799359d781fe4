//! The worker threads, and which of them is the current thread.

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;

use super::entry::View;
use crate::dispatch::plan::{Token, TopicId};
use crate::dispatch::seat::Seat;
use crate::sync::thread::{self, JoinHandle};
use crate::sync::thread_local;

thread_local! {
    /// The dispatcher whose worker this thread is, by its address.
    pub(super) static CORE: Cell<*const ()> = const { Cell::new(ptr::null()) };
}

/// Whether the current thread is a worker of the dispatcher at address `core`.
pub(super) fn runs_here(core: *const ()) -> bool {
    CORE.with(|it| ptr::eq(it.get(), core))
}

/// The workers.
#[derive(Debug, Default)]
pub(super) struct Crew {
    /// All, by their numbers. A new one takes the place of one that has ended.
    pub(super) workers: Vec<Worker>,
    /// How many threads run.
    pub(super) running: usize,
    /// The number of threads that were given up and have not returned.
    pub(super) given_up: usize,
}

/// A worker.
#[derive(Debug)]
pub(super) struct Worker {
    /// The name of its thread.
    pub(super) name: String,
    /// The state that it shares with threads that may cancel its call.
    pub(super) seat: Arc<Seat>,
    /// Its thread, until it is joined.
    pub(super) thread: Option<JoinHandle<()>>,
    /// The start that it runs, unless that is given up.
    pub(super) runs: Option<Token>,
    /// Its own handles on the views of topics, so that workers do not contend for reference counts.
    views: Vec<Option<Arc<View>>>,
    /// Whether its thread has been given up, and has no work left if it returns.
    pub(super) is_given_up: bool,
    /// Whether its thread has ended.
    pub(super) has_ended: bool,
}

impl Worker {
    /// Creates a worker.
    pub(super) fn new(name: String, seat: Arc<Seat>, thread: Option<JoinHandle<()>>) -> Self {
        Worker {
            name,
            seat,
            thread,
            runs: None,
            views: Vec::new(),
            is_given_up: false,
            has_ended: false,
        }
    }

    /// Takes its handle on the view of `topic`, if it has one.
    pub(super) fn take_view(&mut self, topic: TopicId) -> Option<Arc<View>> {
        self.views.get_mut(topic.at())?.take()
    }

    /// Keeps a handle on the view of `topic`.
    pub(super) fn put_view(&mut self, topic: TopicId, view: Arc<View>) {
        if self.views.len() <= topic.at() {
            self.views.resize(topic.at() + 1, None);
        }
        self.views[topic.at()] = Some(view);
    }

    /// Whether it is the current thread.
    pub(super) fn is_current(&self) -> bool {
        let thread = self.thread.as_ref();
        thread.is_some_and(|thread| thread.thread().id() == thread::current().id())
    }
}

impl Crew {
    /// The seats of those that run.
    pub(super) fn seats(&self) -> Vec<Arc<Seat>> {
        let running = self.workers.iter().filter(|worker| !worker.has_ended);
        running.map(|worker| worker.seat.clone()).collect()
    }

    /// Worker `runner`.
    pub(super) fn worker(&mut self, runner: u32) -> &mut Worker {
        &mut self.workers[runner as usize]
    }
}
