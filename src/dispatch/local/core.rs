//! State that callers, workers and the monitor share: the lock, the state under it, and the wake-ups.

use std::collections::HashMap;
use std::fmt;
use std::ptr;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use super::crew::{self, Crew};
use super::entry::{Payload, TopicEntry};
use super::schedules::Schedules;
use super::settings::Settings;
use super::watched::Monitor;
use crate::clock::{Clock, nanos};
use crate::dispatch::error::{BuildError, EmitErrorKind};
use crate::dispatch::id::EventId;
use crate::dispatch::notice::Notice;
use crate::dispatch::options::{Due, Emit};
use crate::dispatch::plan::{Plan, Refusal, TopicId};
use crate::dispatch::topic::Topic;
use crate::panic::{catch_panic, discard};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Condvar, Instant, Mutex, MutexGuard};
use crate::wakeup::Ring;

/// The maximum time from now to a due time, ns: 500 years.
const FARTHEST: u64 = 500 * 365 * 24 * 3_600 * 1_000_000_000;

/// How many events of `emit_many` are accepted together.
pub(crate) const CHUNK: usize = 200;

/// State that callers, workers and the monitor share.
pub(crate) struct Core {
    /// The time.
    pub(super) clock: Clock,
    /// The options.
    pub(super) settings: Settings,
    /// The state under the lock.
    pub(super) state: Mutex<State>,
    /// The leader sleeps here until the next event is due. Notified when an event may be due earlier.
    pub(super) due_changed: Condvar,
    /// The other idle workers sleep here. Notified when there is work, or no leader.
    pub(super) work_came: Condvar,
    /// Whether there is work for a worker that searches.
    pub(super) has_work: AtomicBool,
    /// Callers that wait for room sleep here.
    pub(super) room_came: Condvar,
    /// Callers that wait for the end of calls or threads sleep here.
    pub(super) call_ended: Condvar,
    /// Watches the calls whose time is limited, once there is such a handler.
    pub(super) monitor: OnceLock<Monitor>,
    /// A reference to itself, for the monitor.
    pub(super) this: Weak<Core>,
}

/// The state under the lock.
pub(super) struct State {
    /// The plan.
    pub(super) plan: Plan<Payload>,
    /// The topics by their names.
    pub(super) names: HashMap<Arc<str>, TopicId, ahash::RandomState>,
    /// The name, handlers and statistics of each topic.
    pub(super) topics: Vec<TopicEntry>,
    /// Whether another store, which lends the events, keeps their rates.
    pub(super) is_paced: bool,
    /// The schedules.
    pub(super) schedules: Schedules,
    /// The workers.
    pub(super) crew: Crew,
    /// Until when the leader sleeps, ns, and which worker it is, if there is one.
    pub(super) leader: Option<(u64, u32)>,
    /// The number of workers that sleep without a deadline and have not been notified.
    pub(super) followers: usize,
    /// The number of followers that were notified and have not woken yet.
    pub(super) called: usize,
    /// How many callers wait until nothing is ready or runs.
    pub(super) flush_waiters: usize,
    /// How many callers wait for the end of attempts, to remove a handler.
    pub(super) removers: usize,
    /// The number of workers that have just run out of work and search for more before they sleep.
    pub(super) searching: usize,
    /// How many workers emit the event of a schedule.
    pub(super) ticking: usize,
    /// How many callers wait for room.
    pub(super) room_waiters: usize,
    /// Whether the dispatcher is stopped.
    pub(super) is_stopped: bool,
    /// Whether a stop has taken the events that wait.
    pub(super) is_drained: bool,
    /// Events that were refused.
    pub(super) refused: u64,
    /// Handlers that were given up.
    pub(super) stuck: u64,
    /// Panics in schedules and in the callback for notices.
    pub(super) panics: u64,
    /// Notices that the channel did not take.
    pub(super) lost_notices: u64,
}

/// An event that was refused.
type Refused<T> = (EmitErrorKind, T);

impl Core {
    /// A dispatcher with its workers.
    ///
    /// # Errors
    ///
    /// Returns an error if a setting is out of range, or a worker cannot be spawned.
    pub(crate) fn start(settings: Settings) -> Result<Arc<Self>, BuildError> {
        settings.check()?;
        let threads = settings.threads;
        let core = Core::new(settings);
        for _ in 0..threads {
            if let Err(error) = core.spawn_worker() {
                drop(core.stop(Duration::ZERO));
                return Err(BuildError::Spawn(error));
            }
        }
        Ok(core)
    }

    /// A dispatcher without workers.
    pub(crate) fn new(mut settings: Settings) -> Arc<Self> {
        if settings.lender.is_some() {
            // The store has accepted the events that it lends, so there is no limit to refuse them.
            settings.max_unfinished = usize::MAX;
            settings.max_per_topic = usize::MAX;
        }
        let clock = settings.clock.clone().unwrap_or_default();
        let core = Arc::new_cyclic(|this| Core {
            clock: clock.clone(),
            state: Mutex::new(State {
                plan: Plan::new(settings.max_unfinished, settings.max_dead),
                names: HashMap::default(),
                topics: Vec::new(),
                is_paced: settings.lender.is_some(),
                schedules: Schedules::default(),
                crew: Crew::default(),
                leader: None,
                followers: 0,
                called: 0,
                flush_waiters: 0,
                removers: 0,
                searching: 0,
                ticking: 0,
                room_waiters: 0,
                is_stopped: false,
                is_drained: false,
                refused: 0,
                stuck: 0,
                panics: 0,
                lost_notices: 0,
            }),
            settings,
            due_changed: Condvar::new(),
            work_came: Condvar::new(),
            has_work: AtomicBool::new(false),
            room_came: Condvar::new(),
            call_ended: Condvar::new(),
            monitor: OnceLock::new(),
            this: this.clone(),
        });
        let ringer: Weak<dyn Ring> = core.this.clone();
        clock.ring_on_advance(ringer);
        core
    }

    /// Accepts an event.
    ///
    /// # Errors
    ///
    /// Returns the event and the reason.
    pub(crate) fn emit<T: Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        event: T,
        how: Emit,
        wait: Option<Duration>,
    ) -> Result<EventId, Refused<T>> {
        let Emit {
            due,
            unique,
            on_duplicate,
            headers,
        } = how;
        let due = match self.due_ns(due) {
            Ok(due) => due,
            Err(kind) => return Err(self.refuse(kind, event)),
        };
        let mut payload = Payload {
            event: Arc::new(event),
            headers: (!headers.is_empty()).then(|| headers.into()),
            lease: None,
        };
        let unique = unique.as_deref().map(|key| (key, on_duplicate));
        let mut deadline = None;
        let mut now = self.clock.now_ns();
        let mut state = self.state.lock();
        loop {
            let accepted = match state.topic_of(topic) {
                Err(kind) => Err((kind, payload)),
                Ok(id) => {
                    let accepted = state.plan.emit(id, payload, due, unique, now);
                    accepted.map_err(|(refusal, payload)| (refusal.into(), payload))
                }
            };
            match accepted {
                Ok(emitted) => {
                    self.wake(state, now);
                    if let Some(unneeded) = emitted.unneeded {
                        discard(unneeded);
                    }
                    return Ok(emitted.id);
                }
                Err((EmitErrorKind::Full, back))
                    if self.wait_for_room(&mut state, wait, &mut deadline) =>
                {
                    payload = back;
                    now = self.clock.now_ns();
                }
                Err((kind, payload)) => {
                    state.refused += 1;
                    drop(state);
                    return Err((kind, unwrap(payload)));
                }
            }
        }
    }

    /// Accepts events that are due at once, one chunk at a time. Each chunk is accepted as a whole or not at all.
    ///
    /// # Errors
    ///
    /// Returns the reason why a chunk was not accepted, the ids of the events before it, and the events from this chunk
    /// on.
    pub(crate) fn emit_many<T: Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        events: impl IntoIterator<Item = T>,
    ) -> Result<Vec<EventId>, (EmitErrorKind, Vec<EventId>, Vec<T>)> {
        let mut events = events.into_iter().map(|event| Payload {
            event: Arc::new(event),
            headers: None,
            lease: None,
        });
        let mut ids = Vec::with_capacity(events.size_hint().0);
        let mut chunk = Vec::with_capacity(CHUNK);
        loop {
            chunk.extend(events.by_ref().take(CHUNK));
            if chunk.is_empty() {
                return Ok(ids);
            }
            if let Err(kind) = self.emit_chunk(topic, &mut chunk, &mut ids) {
                let rest: Vec<T> = chunk.into_iter().chain(events).map(unwrap).collect();
                self.state.lock().refused += rest.len() as u64;
                return Err((kind, ids, rest));
            }
        }
    }

    /// Accepts the events of `chunk`, empties it, and adds their ids to `ids`. On an error, both are unchanged.
    fn emit_chunk<T: 'static>(
        &self,
        topic: &Topic<T>,
        chunk: &mut Vec<Payload>,
        ids: &mut Vec<EventId>,
    ) -> Result<(), EmitErrorKind> {
        let mut state = self.state.lock();
        let id = state.topic_of(topic)?;
        if !state.plan.has_handler(id) {
            return Err(EmitErrorKind::NoHandler);
        }
        if !state.plan.has_room(id, chunk.len()) {
            return Err(EmitErrorKind::Full);
        }
        let now = self.clock.now_ns();
        for payload in chunk.drain(..) {
            let emitted = state.plan.emit(id, payload, None, None, now);
            ids.push(emitted.expect("there is a handler and room").id);
        }
        self.wake(state, now);
        Ok(())
    }

    /// When an event is due, ns; `None` if it is due when it is emitted.
    pub(super) fn due_ns(&self, due: Due) -> Result<Option<u64>, EmitErrorKind> {
        let (delay, now) = match due {
            Due::Now => return Ok(None),
            Due::After(delay) => (nanos(delay), self.clock.now_ns()),
            Due::At(time) => {
                // One reading for both: the clock may move between two.
                let now = self.clock.now_ns();
                let delay = time.duration_since(self.wall(now)).unwrap_or_default();
                (nanos(delay), now)
            }
        };
        let due = now.checked_add(delay).filter(|_| delay <= FARTHEST);
        due.map(Some).ok_or(EmitErrorKind::TooLate)
    }

    /// Counts a refusal.
    fn refuse<T>(&self, kind: EmitErrorKind, event: T) -> Refused<T> {
        self.state.lock().refused += 1;
        (kind, event)
    }

    /// Waits until there may be room, for at most `wait` in all. Returns whether another attempt may succeed. A worker
    /// does not wait, because the only room may be the room that its own event occupies.
    fn wait_for_room(
        &self,
        state: &mut MutexGuard<'_, State>,
        wait: Option<Duration>,
        deadline: &mut Option<Instant>,
    ) -> bool {
        let Some(wait) = wait else {
            return false;
        };
        if self.runs_here() || state.is_stopped {
            return false;
        }
        state.room_waiters += 1;
        let is_in_time = match deadline.or_else(|| Instant::now().checked_add(wait)) {
            None => {
                self.room_came.wait(state);
                true
            }
            Some(end) => {
                let is_first = deadline.replace(end).is_none();
                // One more attempt after the wait, because room may have become available at the last moment.
                let has_left = is_first || Instant::now() < end;
                has_left && {
                    self.room_came.wait_until(state, end);
                    true
                }
            }
        };
        state.room_waiters -= 1;
        is_in_time
    }

    /// Whether the current thread is a worker of this dispatcher.
    pub(crate) fn runs_here(&self) -> bool {
        crew::runs_here(ptr::from_ref(self).cast())
    }

    /// Releases the lock, and wakes the idle worker that is needed now, if one is.
    pub(super) fn wake(&self, mut state: MutexGuard<'_, State>, now: u64) {
        let idle = state.call_idle(now);
        if let Some(Idle::Leader) = idle {
            // Under the lock. Otherwise another worker could become the leader first, and be woken instead.
            self.notify_idle(idle);
            return;
        }
        drop(state);
        self.notify_idle(idle);
    }

    /// Wakes the selected worker.
    pub(super) fn notify_idle(&self, idle: Option<Idle>) {
        match idle {
            Some(Idle::Leader) => drop(self.due_changed.notify_one()),
            Some(Idle::Follower) => drop(self.work_came.notify_one()),
            Some(Idle::Searcher) => self.has_work.store(true, Ordering::Release),
            None => {}
        }
    }

    /// The time source.
    #[cfg(feature = "redis")]
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Passes a notice on, without a lock.
    pub(crate) fn notify(&self, notice: Notice) {
        crate::log::warn!("{notice}");
        if let Some(callback) = &self.settings.on_notice
            && let outcome = catch_panic(|| callback(notice))
            && outcome != Some(true)
        {
            let mut state = self.state.lock();
            match outcome {
                None => state.panics += 1,
                Some(_) => state.lost_notices += 1,
            }
        }
    }
}

impl State {
    /// The number of `topic`.
    pub(super) fn topic_of<T: 'static>(&self, topic: &Topic<T>) -> Result<TopicId, EmitErrorKind> {
        if self.is_stopped {
            return Err(EmitErrorKind::Stopped);
        }
        let id = *self
            .names
            .get(topic.name())
            .ok_or(EmitErrorKind::NoHandler)?;
        if self.topics[id.at()].has_type::<T>() {
            Ok(id)
        } else {
            Err(EmitErrorKind::OtherType)
        }
    }

    /// When there is something to do next, ns.
    pub(super) fn next_due(&mut self) -> Option<u64> {
        let event = self.plan.next_due();
        event.into_iter().chain(self.schedules.next_due()).min()
    }

    /// Selects an idle worker, if there is one, to run a ready event, or to lead until the next event is due. The
    /// worker no longer counts as idle, so the next call selects another one.
    pub(super) fn call_idle(&mut self, now: u64) -> Option<Idle> {
        if self.leader.is_none() && self.followers == 0 && self.searching == 0 {
            return None;
        }
        // The order matters: a topic in the ring whose next event is due later is included in `next_due` only after
        // this check.
        let is_ready = self.plan.is_ready(now);
        let due = self.next_due();
        let is_ready = is_ready || due.is_some_and(|due| due <= now);
        let is_leaderless = match (due, self.leader) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(due), Some((until, _))) => due < until,
        };
        if is_ready && self.searching > 0 {
            // It wakes another worker if there are more events.
            Some(Idle::Searcher)
        } else if self.leader.is_some() && (is_leaderless || is_ready && self.followers == 0) {
            self.leader = None;
            Some(Idle::Leader)
        } else if self.followers > 0 && (is_ready || is_leaderless) {
            self.followers -= 1;
            self.called += 1;
            Some(Idle::Follower)
        } else {
            None
        }
    }
}

/// An idle worker.
#[derive(Clone, Copy, Debug)]
pub(super) enum Idle {
    /// The leader, which sleeps until the next event is due.
    Leader,
    /// A follower, which sleeps without a deadline.
    Follower,
    /// A worker that has just run out of work and does not sleep yet.
    Searcher,
}

impl From<Refusal> for EmitErrorKind {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoHandler => EmitErrorKind::NoHandler,
            Refusal::Full => EmitErrorKind::Full,
            Refusal::Duplicate(id) => EmitErrorKind::Duplicate(id),
        }
    }
}

/// The event of `payload`, which is of type `T` and has no other owner.
fn unwrap<T: Send + Sync + 'static>(payload: Payload) -> T {
    let event = payload.event.downcast::<T>().ok();
    event
        .and_then(Arc::into_inner)
        .expect("it was not accepted, so it has one owner and its type")
}

/// The remaining events are dropped one by one, because each drop may panic.
impl Drop for Core {
    fn drop(&mut self) {
        let left = self.state.lock().plan.clear();
        left.into_iter().for_each(discard);
        discard(self.settings.on_notice.take());
    }
}

/// A manual clock was moved.
impl Ring for Core {
    fn ring(&self, now: u64) {
        let state = self.state.lock();
        let is_due = state.leader.is_some_and(|(until, _)| until <= now);
        let seats = state.crew.seats();
        drop(state);
        if is_due {
            self.due_changed.notify_all();
        }
        for seat in seats {
            seat.ring();
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
pub(super) mod tests;
