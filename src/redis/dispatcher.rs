//! The durable dispatcher.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::engine::{CHUNK, Engine, Unsent};
use crate::dispatch::local::stop::Summary;
use crate::dispatch::{
    Cancelled, Context, Counts, Dead, Dispatch, DispatchStats, Emit, EmitError, EmitErrorKind,
    EmitManyError, EventId, Failure, Handler, On, RegisterError, Topic, Unavailable, Waiting,
};

/// Runs handlers for events that are stored in Redis. See the [module](super) for an introduction.
///
/// Clones are handles on the same dispatcher. Dropping the last handle stops the dispatcher like
/// [`stop`](Dispatcher::stop) with a `within` of zero.
///
/// Every process that uses the same server and the same topic works on the same events. A process that only emits needs
/// no handler.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    /// Stops the dispatcher when the last handle is dropped.
    handle: Arc<Handle>,
}

/// Stops the dispatcher when it is dropped.
#[derive(Debug)]
struct Handle {
    /// The dispatcher.
    engine: Arc<Engine>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _ = self.engine.stop(Duration::ZERO);
    }
}

impl Dispatcher {
    /// Creates a handle on `engine`.
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        Dispatcher {
            handle: Arc::new(Handle { engine }),
        }
    }

    /// The dispatcher.
    fn engine(&self) -> &Engine {
        &self.handle.engine
    }

    /// Registers the closure `handle` under `name` for the events of `topic`, like
    /// [`on`](crate::dispatch::Dispatcher::on) of the local dispatcher.
    ///
    /// From now on, this process claims events of the topic.
    ///
    /// # Errors
    ///
    /// Returns a [`RegisterError`] if the dispatcher is stopped, the topic already has a handler of that name in this
    /// process, the name is invalid, the topic is used with another type, an option is out of range, or the thread that
    /// enforces time limits cannot be spawned.
    pub fn on<T: DeserializeOwned + 'static>(
        &self,
        topic: &Topic<T>,
        name: &str,
        options: On,
        handle: impl Fn(&Context, &T) -> Result<(), Failure> + Send + Sync + 'static,
    ) -> Result<(), RegisterError> {
        self.engine().on(topic, name, options, handle)
    }

    /// Registers a value that implements [`Handler`] under `name` for the events of `topic`, like
    /// [`on`](Dispatcher::on).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`on`](Dispatcher::on).
    pub fn on_handler<T: DeserializeOwned + 'static>(
        &self,
        topic: &Topic<T>,
        name: &str,
        options: On,
        handler: impl Handler<T>,
    ) -> Result<(), RegisterError> {
        self.engine().on(topic, name, options, handler)
    }

    /// Removes the handler `name` of `topic` in this process, and blocks until the attempts that have begun have ended.
    /// Returns whether there was such a handler. See [`remove`](crate::dispatch::Dispatcher::remove) of the local
    /// dispatcher.
    #[expect(
        clippy::must_use_candidate,
        reason = "what an operation returns is often of no interest"
    )]
    pub fn remove<T: 'static>(&self, topic: &Topic<T>, name: &str) -> bool {
        self.engine().remove(topic, name, true)
    }

    /// Removes a handler like [`remove`](Dispatcher::remove), and does not block.
    #[expect(
        clippy::must_use_candidate,
        reason = "what an operation returns is often of no interest"
    )]
    pub fn remove_now<T: 'static>(&self, topic: &Topic<T>, name: &str) -> bool {
        self.engine().remove(topic, name, false)
    }

    /// Stores an event that is due at once, and returns its id. Blocks until Redis has answered.
    ///
    /// # Errors
    ///
    /// Returns the event and the reason for the refusal. See [`emit_with`](Dispatcher::emit_with).
    pub fn emit<T: Serialize + 'static>(
        &self,
        topic: &Topic<T>,
        event: T,
    ) -> Result<EventId, EmitError<T>> {
        self.emit_with(topic, event, Emit::now())
    }

    /// Stores an event with the given options, and returns its id. Blocks until Redis has answered.
    ///
    /// An event that was accepted is handled at least once, or ends cancelled or dead. Callers on several threads share
    /// calls to Redis. A call whose reply is lost is repeated, and the event is accepted once.
    ///
    /// # Errors
    ///
    /// Returns the event and the reason: [`Full`](EmitErrorKind::Full), [`Duplicate`](EmitErrorKind::Duplicate),
    /// [`TooLarge`](EmitErrorKind::TooLarge), [`Encode`](EmitErrorKind::Encode), [`TooLate`](EmitErrorKind::TooLate),
    /// [`OtherType`](EmitErrorKind::OtherType), [`Stopped`](EmitErrorKind::Stopped),
    /// [`Unavailable`](EmitErrorKind::Unavailable) or [`Refused`](EmitErrorKind::Refused) if the event was not
    /// accepted, and [`Uncertain`](EmitErrorKind::Uncertain) if it may have been.
    pub fn emit_with<T: Serialize + 'static>(
        &self,
        topic: &Topic<T>,
        event: T,
        how: Emit,
    ) -> Result<EventId, EmitError<T>> {
        let engine = self.engine();
        let emission = engine.emission(&event, how);
        let emitted = emission.and_then(|emission| engine.emit(topic, vec![emission]));
        emitted
            .map(EventId::new)
            .map_err(|Unsent { kind, source }| {
                engine.refused.fetch_add(1, Ordering::Relaxed);
                let error = EmitError::new(kind, event);
                match source {
                    Some(source) => error.because(source),
                    None => error,
                }
            })
    }

    /// Stores events that are due at once, in the given order, and returns their ids.
    ///
    /// The events are accepted in chunks of 200. Each chunk is one call, and is accepted as a whole or not at all.
    ///
    /// # Errors
    ///
    /// Returns the refused events, the ids of the accepted events before them, and the reason. If the reason is
    /// [`Uncertain`](EmitErrorKind::Uncertain), the first 200 of the refused events may have been accepted.
    pub fn emit_many<T: Serialize + 'static>(
        &self,
        topic: &Topic<T>,
        events: impl IntoIterator<Item = T>,
    ) -> Result<Vec<EventId>, EmitManyError<T>> {
        let engine = self.engine();
        let mut events = events.into_iter();
        let mut ids = Vec::with_capacity(events.size_hint().0);
        loop {
            let chunk: Vec<T> = events.by_ref().take(CHUNK).collect();
            if chunk.is_empty() {
                return Ok(ids);
            }
            let written = chunk
                .iter()
                .map(|event| engine.emission(event, Emit::now()));
            let written = written.collect::<Result<Vec<_>, _>>();
            match written.and_then(|written| engine.emit(topic, written)) {
                Ok(first) => {
                    let end = first + chunk.len() as u64;
                    ids.extend((first..end).map(EventId::new));
                }
                Err(Unsent { kind, source }) => {
                    let rest: Vec<T> = chunk.into_iter().chain(events).collect();
                    engine
                        .refused
                        .fetch_add(rest.len() as u64, Ordering::Relaxed);
                    let error = EmitManyError::new(kind, ids, rest);
                    return Err(match source {
                        Some(source) => error.because(source),
                        None => error,
                    });
                }
            }
        }
    }

    /// Cancels the event `id` of `topic`, and returns the state in which it was.
    ///
    /// A waiting event does not start. If the event runs in this process, its call is requested to end with
    /// [`Cause::Cancelled`](crate::dispatch::Cause::Cancelled); in another process this happens when its lease is
    /// renewed, after at most a third of the [lease](super::Builder::lease). The result of the call is ignored. Costs
    /// O(log n).
    ///
    /// # Errors
    ///
    /// Returns [`Unavailable`] if Redis did not answer.
    pub fn cancel<T: 'static>(
        &self,
        topic: &Topic<T>,
        id: EventId,
    ) -> Result<Cancelled, Unavailable> {
        self.engine().cancel(topic, id)
    }

    /// Changes the due time of the event `id` of `topic` to that of `when`. Returns `false` if the event does not wait.
    /// The other options of `when` are ignored. Costs O(log n).
    ///
    /// # Errors
    ///
    /// Returns [`EmitErrorKind::Stopped`] if the dispatcher is stopped, [`EmitErrorKind::TooLate`] if the time is more
    /// than 500 years away, or [`EmitErrorKind::Unavailable`] if Redis did not answer.
    pub fn reschedule<T: 'static>(
        &self,
        topic: &Topic<T>,
        id: EventId,
        when: &Emit,
    ) -> Result<bool, EmitErrorKind> {
        self.engine().reschedule(topic, id, when)
    }

    /// Pauses `topic` in all processes: none of its events starts until the topic is [resumed](Dispatcher::resume).
    /// Running events continue, and so do those that a process has claimed ahead of its workers, which are as many as
    /// run in about 10 ms. Returns `false` if the topic was already paused.
    ///
    /// # Errors
    ///
    /// Returns [`Unavailable`] if Redis did not answer.
    pub fn pause<T: 'static>(&self, topic: &Topic<T>) -> Result<bool, Unavailable> {
        self.engine().set_paused(topic, true)
    }

    /// Lets events of `topic` start again after a [pause](Dispatcher::pause). Returns whether it was paused.
    ///
    /// # Errors
    ///
    /// Returns [`Unavailable`] if Redis did not answer.
    pub fn resume<T: 'static>(&self, topic: &Topic<T>) -> Result<bool, Unavailable> {
        self.engine().set_paused(topic, false)
    }

    /// Returns up to `max` waiting events of `topic`, in the order in which they start. Events that cannot be decoded
    /// as a `T` are left out. A `Topic<serde_json::Value>` of the same name reads every event in JSON. Due times are
    /// those of the clock of Redis.
    ///
    /// # Errors
    ///
    /// Returns [`Unavailable`] if Redis did not answer.
    pub fn peek<T: DeserializeOwned + 'static>(
        &self,
        topic: &Topic<T>,
        max: usize,
    ) -> Result<Vec<Waiting<T>>, Unavailable> {
        self.engine().peek(topic, max)
    }

    /// Returns how many events of `topic` are scheduled, ready, running and dead, in all processes.
    ///
    /// # Errors
    ///
    /// Returns [`Unavailable`] if Redis did not answer.
    pub fn counts<T: 'static>(&self, topic: &Topic<T>) -> Result<Counts, Unavailable> {
        self.engine().counts(topic)
    }

    /// Returns up to `max` events in the dead list of `topic`, the oldest first. Events that cannot be decoded as a `T`
    /// are left out. A `Topic<serde_json::Value>` of the same name reads every event in JSON, so it shows what is wrong
    /// with them.
    ///
    /// # Errors
    ///
    /// Returns [`Unavailable`] if Redis did not answer.
    pub fn dead<T: DeserializeOwned + 'static>(
        &self,
        topic: &Topic<T>,
        max: usize,
    ) -> Result<Vec<Dead<T>>, Unavailable> {
        self.engine().dead(topic, max)
    }

    /// Replays up to `max` events from the dead list of `topic`, the oldest first, and returns their number. See
    /// [`replay`](crate::dispatch::Dispatcher::replay) of the local dispatcher.
    ///
    /// # Errors
    ///
    /// Returns [`Unavailable`] if Redis did not answer. Some events may have been replayed.
    pub fn replay<T: 'static>(&self, topic: &Topic<T>, max: usize) -> Result<usize, Unavailable> {
        self.engine().replay(topic, max)
    }

    /// Removes all events from the dead list of `topic`, and returns their number.
    ///
    /// # Errors
    ///
    /// Returns [`Unavailable`] if Redis did not answer. Some events may have been removed.
    pub fn purge<T: 'static>(&self, topic: &Topic<T>) -> Result<usize, Unavailable> {
        self.engine().purge(topic)
    }

    /// Returns the statistics of the topics that this dispatcher has used, for which a call such as
    /// [`counts`](Dispatcher::counts) is enough. The accounts are those of all processes. The times, panics and
    /// refusals are those of this one.
    ///
    /// # Errors
    ///
    /// Returns [`Unavailable`] if Redis did not answer.
    pub fn stats(&self) -> Result<DispatchStats, Unavailable> {
        self.engine().stats()
    }

    /// Blocks until no event of the topics that this dispatcher has used is ready or runs in any process, for at most
    /// `wait`. Returns `false` if one still is. It does not wait for ready events of paused topics. It asks Redis every
    /// few milliseconds, so it is meant for tests.
    ///
    /// # Errors
    ///
    /// Returns [`Unavailable`] if Redis did not answer.
    pub fn flush(&self, wait: Duration) -> Result<bool, Unavailable> {
        self.engine().flush(wait)
    }

    /// Stops the dispatcher permanently. Events that wait stay in Redis.
    ///
    /// No further event starts in this process. Every later call that emits or registers returns `Stopped`, other
    /// changes return [`Unavailable`], and inspection still works. Running handlers may take up to `within` to return.
    /// Handlers that still run then are cancelled with [`Cause::Interrupted`](crate::dispatch::Cause::Interrupted), and
    /// may take another 100 ms. Their events are given back, and the attempts do not count. The event of a handler that
    /// does not return starts elsewhere when its lease ends. If Redis does not answer, the call takes up to 2 s longer,
    /// and the events are run again.
    pub fn stop(&self, within: Duration) -> Summary {
        self.engine().stop(within)
    }
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Dispatch<T> for Dispatcher {
    fn emit_with(&self, topic: &Topic<T>, event: T, how: Emit) -> Result<EventId, EmitError<T>> {
        self.emit_with(topic, event, how)
    }

    fn emit_many(
        &self,
        topic: &Topic<T>,
        events: Vec<T>,
    ) -> Result<Vec<EventId>, EmitManyError<T>> {
        self.emit_many(topic, events)
    }

    fn on_handler(
        &self,
        topic: &Topic<T>,
        name: &str,
        options: On,
        handler: Box<dyn Handler<T>>,
    ) -> Result<(), RegisterError> {
        self.on_handler(topic, name, options, handler)
    }

    fn remove(&self, topic: &Topic<T>, name: &str) -> bool {
        self.remove(topic, name)
    }

    fn cancel(&self, topic: &Topic<T>, id: EventId) -> Result<Cancelled, Unavailable> {
        self.cancel(topic, id)
    }

    fn reschedule(
        &self,
        topic: &Topic<T>,
        id: EventId,
        when: &Emit,
    ) -> Result<bool, EmitErrorKind> {
        self.reschedule(topic, id, when)
    }

    fn pause(&self, topic: &Topic<T>) -> Result<bool, Unavailable> {
        self.pause(topic)
    }

    fn resume(&self, topic: &Topic<T>) -> Result<bool, Unavailable> {
        self.resume(topic)
    }

    fn peek(&self, topic: &Topic<T>, max: usize) -> Result<Vec<Waiting<T>>, Unavailable> {
        self.peek(topic, max)
    }

    fn counts(&self, topic: &Topic<T>) -> Result<Counts, Unavailable> {
        self.counts(topic)
    }

    fn dead(&self, topic: &Topic<T>, max: usize) -> Result<Vec<Dead<T>>, Unavailable> {
        self.dead(topic, max)
    }

    fn replay(&self, topic: &Topic<T>, max: usize) -> Result<usize, Unavailable> {
        self.replay(topic, max)
    }

    fn purge(&self, topic: &Topic<T>) -> Result<usize, Unavailable> {
        self.purge(topic)
    }

    fn flush(&self, wait: Duration) -> Result<bool, Unavailable> {
        self.flush(wait)
    }

    fn stats(&self) -> Result<DispatchStats, Unavailable> {
        self.stats()
    }

    fn stop(&self, within: Duration) -> Summary {
        self.stop(within)
    }
}
