//! The handlers of the topics: registering them, calling them, and removing them while they are called.

use std::any::{Any, TypeId};
use std::sync::Arc;

use super::core::{Core, State};
use super::entry::{Registered, TopicEntry, View};
use crate::dispatch::context::Context;
use crate::dispatch::error::RegisterError;
use crate::dispatch::handler::Handler;
use crate::dispatch::options::On;
use crate::dispatch::plan::{Token, TopicId};
use crate::dispatch::topic::{self, Topic};
use crate::panic::discard;
use crate::stats::Histogram;

impl State {
    /// The number of `topic`, which is added if it is new.
    pub(super) fn declare<T: 'static>(
        &mut self,
        topic: &Topic<T>,
        max_per_topic: usize,
    ) -> Result<TopicId, RegisterError> {
        if self.is_stopped {
            return Err(RegisterError::Stopped);
        }
        let event = (TypeId::of::<T>(), std::any::type_name::<T>());
        if let Some(&id) = self.names.get(topic.name()) {
            let entry = &self.topics[id.at()];
            return if entry.event.0 == event.0 {
                Ok(id)
            } else {
                Err(RegisterError::OtherType {
                    topic: topic.name().to_owned(),
                    registered: entry.event.1,
                })
            };
        }
        let id = self.plan.add_topic(max_per_topic);
        let name: Arc<str> = topic.name().into();
        self.names.insert(name.clone(), id);
        self.topics.push(TopicEntry {
            view: Arc::new(View {
                name,
                handlers: Vec::new(),
            }),
            event,
            lateness: Histogram::default(),
            run_time: Histogram::default(),
            panics: 0,
            stale: 0,
        });
        Ok(id)
    }

    /// Replaces the handlers of topic `id`. Returns the views that are no longer needed, which the caller drops without
    /// the lock.
    fn set_handlers(&mut self, id: TopicId, handlers: Vec<Arc<Registered>>) -> Vec<Arc<View>> {
        let entry = &mut self.topics[id.at()];
        let name = entry.view.name.clone();
        let old = std::mem::replace(&mut entry.view, Arc::new(View { name, handlers }));
        let limits = entry.limits(self.is_paced);
        self.plan.set_limits(id, limits);
        let workers = self.crew.workers.iter_mut();
        let kept = workers.filter_map(|worker| worker.take_view(id));
        kept.chain([old]).collect()
    }
}

impl Core {
    /// Registers a handler.
    pub(crate) fn on<T: Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        name: &str,
        options: On,
        handler: impl Handler<T>,
    ) -> Result<(), RegisterError> {
        topic::check(name)?;
        options.check()?;
        if options.max_duration.is_some() || options.progress_within.is_some() {
            self.start_monitor()?;
        }
        let call = Box::new(move |context: &Context, event: &(dyn Any + Send + Sync)| {
            let event = event.downcast_ref().expect("the topic has one type");
            handler.handle(context, event)
        });
        let registered = Arc::new(Registered::new(name, options, call));
        let mut state = self.state.lock();
        let declared = state.declare(topic, self.settings.max_per_topic);
        let result = declared.and_then(|id| {
            let mut handlers = state.topics[id.at()].view.handlers.clone();
            if handlers.iter().any(|other| *other.name == *name) {
                return Err(RegisterError::Duplicate {
                    topic: topic.name().to_owned(),
                    name: name.to_owned(),
                });
            }
            handlers.push(registered.clone());
            Ok(state.set_handlers(id, handlers))
        });
        self.wake(state, self.clock.now_ns());
        // Outdated views, and a handler that is refused, are dropped here, without the lock.
        discard(registered);
        result.map(discard)
    }

    /// Removes a handler: no further call of it begins. If `waits`, blocks until the attempts that have begun have
    /// ended, unless the current thread is a worker: two handlers might wait for each other. Returns whether there was
    /// such a handler.
    pub(crate) fn remove<T: 'static>(&self, topic: &Topic<T>, name: &str, waits: bool) -> bool {
        let mut state = self.state.lock();
        let Some(id) = state.known(topic) else {
            return false;
        };
        let mut handlers = state.topics[id.at()].view.handlers.clone();
        let Some(at) = handlers.iter().position(|handler| *handler.name == *name) else {
            return false;
        };
        let removed = handlers.remove(at);
        removed.remove();
        let outdated = state.set_handlers(id, handlers);
        // The limits of the remaining handlers may allow more starts.
        let idle = state.call_idle(self.clock.now_ns());
        self.notify_idle(idle);
        if waits && !self.runs_here() {
            let last = state.plan.last_fence();
            let is_before = |token: Token| token.topic == id && token.fence <= last;
            state.removers += 1;
            while state
                .crew
                .workers
                .iter()
                .any(|worker| worker.runs.is_some_and(is_before))
            {
                self.call_ended.wait(&mut state);
            }
            state.removers -= 1;
        }
        drop(state);
        // This may drop the handler's state.
        discard((removed, outdated));
        true
    }

    /// Takes all handlers out, because the dispatcher stops. The caller drops them without the lock.
    pub(super) fn take_handlers(&self) -> Vec<Arc<View>> {
        let mut state = self.state.lock();
        let ids: Vec<_> = state.names.values().copied().collect();
        let outdated = ids.into_iter().map(|id| state.set_handlers(id, Vec::new()));
        outdated.flatten().collect()
    }
}
