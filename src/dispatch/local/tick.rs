//! Emitting events at an interval or by the calendar.

use std::sync::Arc;

use super::core::Core;
use super::entry::Payload;
use super::schedules::{Emit, Entry, Tick};
use crate::dispatch::error::RegisterError;
use crate::dispatch::options::OnDuplicate;
use crate::dispatch::schedule::Schedule;
use crate::dispatch::topic::{self, Topic};
use crate::panic::{catch_panic, discard};

impl Core {
    /// Adds a schedule.
    pub(crate) fn schedule<T: Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        name: &str,
        mut schedule: Schedule,
        make: impl Fn() -> T + Send + Sync + 'static,
    ) -> Result<(), RegisterError> {
        topic::check(name)?;
        schedule.check()?;
        let now = self.clock.now_ns();
        let due = schedule.start(now, self.wall(now));
        // No user key begins like this, because the name of the topic would be invalid.
        let key = format!("\0{name}");
        let emitted = topic.clone();
        let core = self.this.clone();
        let emit: Arc<Emit> = Arc::new(move |due| {
            let event = make();
            core.upgrade()
                .is_some_and(|core| core.emit_tick(&emitted, event, &key, due))
        });
        let mut state = self.state.lock();
        let declared = state.declare(topic, self.settings.max_per_topic);
        let id = match declared {
            Ok(id) => id,
            Err(error) => {
                drop(state);
                discard(emit);
                return Err(error);
            }
        };
        let name = (state.topics[id.at()].view.name.clone(), Arc::from(name));
        let entries = &mut state.schedules.entries;
        if entries.iter().flatten().any(|other| other.name == name) {
            drop(state);
            discard(emit);
            return Err(RegisterError::Duplicate {
                topic: topic.name().to_owned(),
                name: name.1.to_string(),
            });
        }
        let at = entries.iter().position(Option::is_none).unwrap_or_else(|| {
            entries.push(None);
            entries.len() - 1
        });
        entries[at] = Some(Entry {
            name,
            schedule,
            due,
            emit,
        });
        state.schedules.look_at(at, due);
        self.wake(state, now);
        Ok(())
    }

    /// Removes a schedule. Returns whether there was one.
    pub(crate) fn unschedule<T>(&self, topic: &Topic<T>, name: &str) -> bool {
        let mut state = self.state.lock();
        let entries = state.schedules.entries.iter_mut();
        let is_it = |entry: &Entry| *entry.name.0 == *topic.name() && *entry.name.1 == *name;
        let found = entries
            .into_iter()
            .find(|entry| entry.as_ref().is_some_and(is_it));
        let removed = found.and_then(Option::take);
        drop(state);
        let was_there = removed.is_some();
        discard(removed);
        was_there
    }

    /// Takes all schedules out because the dispatcher stops. They are dropped without the lock.
    pub(super) fn take_schedules(&self) -> Vec<Entry> {
        let mut state = self.state.lock();
        let entries = state.schedules.entries.iter_mut();
        entries.filter_map(Option::take).collect()
    }

    /// Emits the event of `tick`.
    pub(super) fn tick(&self, tick: Tick) {
        let emitted = catch_panic(|| (tick.emit)(tick.due));
        discard(tick);
        let mut state = self.state.lock();
        state.ticking -= 1;
        match emitted {
            Some(true) => {}
            Some(false) => state.schedules.skipped += 1,
            None => state.panics += 1,
        }
    }

    /// Emits `event`, unless the event of an earlier tick is unfinished. Returns whether it was emitted.
    fn emit_tick<T: Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        event: T,
        key: &str,
        due: u64,
    ) -> bool {
        let payload = Payload {
            event: Arc::new(event),
            headers: None,
            lease: None,
        };
        let mut state = self.state.lock();
        let Ok(id) = state.topic_of(topic) else {
            drop(state);
            discard(payload);
            return false;
        };
        let now = self.clock.now_ns();
        let unique = Some((key, OnDuplicate::Error));
        let emitted = state.plan.emit(id, payload, Some(due), unique, now);
        self.wake(state, now);
        emitted.map_err(|(_, payload)| discard(payload)).is_ok()
    }
}
