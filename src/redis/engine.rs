//! A durable dispatcher: the workers, which are those of a local dispatcher, and the threads that reach Redis.

use std::any::TypeId;
use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::calls::{Emission, GroupReply, When, micros};
use super::emitter::{EmitFailure, Emitter};
use super::envelope::{Codec, Encoded, decode};
use super::keeper::claims::Limits;
use super::keeper::inbox::{Inbox, Order};
use super::keeper::{Keeper, LAST_CALLS, Options};
use super::layout::Keys;
use super::link::{Endpoint, Line};
use super::listener::{Ears, LISTEN, listen};
use crate::clock::Clock;
use crate::dispatch::local::Core;
use crate::dispatch::local::settings::Settings;
use crate::dispatch::local::stop::Summary;
use crate::dispatch::options::Due;
use crate::dispatch::{
    BuildError, Context, Emit, EmitErrorKind, EventId, Handler, On, RegisterError, Topic,
};

/// The latest due time from now: 500 years.
const FARTHEST: Duration = Duration::from_secs(500 * 365 * 24 * 3_600);

/// How long before the start of this process an event may have been due for its lateness to be exact.
const PAST: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// The most events that one call accepts together.
pub(super) const CHUNK: usize = super::calls::MOST;

/// How often `flush` looks.
const FLUSH_LOOK: Duration = Duration::from_millis(2);

/// The options of a durable dispatcher that are not those of its workers.
#[derive(Clone, Debug)]
pub(super) struct DurableSettings {
    /// The encoding of new events.
    pub(super) codec: Codec,
    /// The largest envelope, in bytes.
    pub(super) max_event_bytes: usize,
    /// For how long an emit is repeated.
    pub(super) emit_timeout: Duration,
    /// The options of the keeper.
    pub(super) keeper: Options,
}

/// A durable dispatcher.
pub(super) struct Engine {
    /// The workers and handlers.
    pub(super) core: Arc<Core>,
    /// The connection of callers.
    pub(super) emitter: Emitter,
    /// The options.
    pub(super) settings: DurableSettings,
    /// How many events of a topic may be unfinished.
    pub(super) max_unfinished: u64,
    /// The topics that were used, by name.
    topics: Mutex<HashMap<String, Arc<KnownTopic>, ahash::RandomState>>,
    /// The inbox of the keeper.
    pub(super) inbox: Arc<Inbox>,
    /// The keeper and the listener, until they are joined, and whether the dispatcher is stopped.
    threads: Mutex<Threads>,
    /// How many events this process did not get accepted.
    pub(super) refused: AtomicU64,
}

/// The threads that reach Redis.
#[derive(Debug, Default)]
struct Threads {
    /// Whether the dispatcher is stopped.
    is_stopped: bool,
    /// The keeper.
    keeper: Option<Spawned>,
    /// The listener.
    listener: Option<Spawned>,
}

/// A thread that was spawned.
#[derive(Debug)]
struct Spawned {
    /// The thread.
    handle: JoinHandle<()>,
    /// Disconnected when it has ended.
    ended: Receiver<Infallible>,
}

impl Spawned {
    /// Joins the thread, unless it has not ended by `deadline`.
    fn join_until(self, deadline: Instant) {
        if self.ended.recv_deadline(deadline) == Err(RecvTimeoutError::Disconnected) {
            let _ = self.handle.join();
        }
    }
}

/// A topic that was used.
#[derive(Debug)]
pub(super) struct KnownTopic {
    /// Its keys.
    pub(super) keys: Arc<Keys>,
    /// Its name.
    pub(super) name: Arc<str>,
    /// The type of its events, once one was emitted or a handler registered here.
    event: OnceLock<(TypeId, &'static str)>,
}

impl Engine {
    /// Creates a dispatcher and its threads. The server was checked.
    pub(super) fn start(
        endpoint: &Endpoint,
        mut workers: Settings,
        settings: DurableSettings,
    ) -> Result<Self, BuildError> {
        let inbox = Arc::<Inbox>::default();
        let session = settings.keeper.session.clone();
        let max_unfinished = workers.max_unfinished.min(workers.max_per_topic) as u64;
        let name = workers.thread_name.clone();
        workers.lender = Some(inbox.clone());
        workers.clock = Some(Clock::monotonic_since(PAST));
        let core = Core::start(workers)?;
        let line = || Line::new(endpoint.clone());
        let options = settings.keeper.clone();
        let emitter = Emitter::new(session, line(), settings.emit_timeout, max_unfinished);
        let engine = Engine {
            core,
            emitter,
            settings,
            max_unfinished,
            topics: Mutex::default(),
            inbox,
            threads: Mutex::default(),
            refused: AtomicU64::new(0),
        };
        if let Err(error) = engine.spawn(&name, options, endpoint) {
            let _ = engine.stop(Duration::ZERO);
            return Err(BuildError::Spawn(error));
        }
        Ok(engine)
    }

    /// Spawns the keeper and the listener.
    fn spawn(&self, name: &str, options: Options, endpoint: &Endpoint) -> io::Result<()> {
        let (inbox, ears) = (self.inbox.clone(), Ears::new(&options.session));
        let line = Line::new(endpoint.clone());
        let keeper = Keeper::new(
            options,
            self.core.clone(),
            inbox.clone(),
            ears.clone(),
            line,
        );
        let spawn = |kind: &str, body: Box<dyn FnOnce() + Send>| {
            let (alive, ended) = crossbeam_channel::bounded(0);
            let body = move || {
                let _alive: Sender<Infallible> = alive;
                body();
            };
            let thread = thread::Builder::new().name(format!("{name}-{kind}"));
            let handle = thread.spawn(body)?;
            io::Result::Ok(Spawned { handle, ended })
        };
        let mut threads = self.threads.lock();
        threads.keeper = Some(spawn("keeper", Box::new(move || keeper.run()))?);
        let mut line = Line::blocking(endpoint.clone(), LISTEN);
        let body = Box::new(move || listen(&ears, &inbox, &mut line));
        threads.listener = Some(spawn("listener", body)?);
        Ok(())
    }

    /// The topic, which is remembered with its type.
    ///
    /// # Errors
    ///
    /// Returns the type with which the topic is used, if it is another one.
    fn typed<T: 'static>(&self, topic: &Topic<T>) -> Result<Arc<KnownTopic>, &'static str> {
        let known = self.topic(topic);
        let event = (TypeId::of::<T>(), std::any::type_name::<T>());
        let used = known.event.get_or_init(|| event);
        if used.0 == event.0 {
            Ok(known)
        } else {
            Err(used.1)
        }
    }

    /// The topic, whatever the type of its events is.
    pub(super) fn topic<T>(&self, topic: &Topic<T>) -> Arc<KnownTopic> {
        let mut topics = self.topics.lock();
        if let Some(known) = topics.get(topic.name()) {
            return known.clone();
        }
        let known = Arc::new(KnownTopic {
            keys: Arc::new(Keys::new(topic.name())),
            name: topic.name().into(),
            event: OnceLock::new(),
        });
        topics.insert(topic.name().to_owned(), known.clone());
        known
    }

    /// All topics that were used, in the order of their names.
    pub(super) fn topics(&self) -> Vec<Arc<KnownTopic>> {
        let mut topics: Vec<_> = self.topics.lock().values().cloned().collect();
        topics.sort_by(|one, other| one.name.cmp(&other.name));
        topics
    }

    /// Whether the dispatcher is stopped.
    pub(super) fn is_stopped(&self) -> bool {
        self.threads.lock().is_stopped
    }

    /// Writes an event with its options, ready to be sent.
    pub(super) fn emission<T: Serialize>(&self, event: &T, how: Emit) -> Result<Emission, Unsent> {
        let Emit {
            due,
            unique,
            on_duplicate,
            headers,
            ..
        } = how;
        let due = when(due)?;
        let payload = self
            .settings
            .codec
            .encode(event, &headers)
            .map_err(|error| {
                let source = Some(error);
                Unsent {
                    kind: EmitErrorKind::Encode,
                    source,
                }
            })?;
        let (len, max) = (payload.len(), self.settings.max_event_bytes);
        if len > max {
            return Err(EmitErrorKind::TooLarge { len, max }.into());
        }
        Ok(Emission {
            due,
            unique: unique.map(|key| (key, on_duplicate)),
            payload,
        })
    }

    /// Accepts events of `topic` together, or none of them.
    pub(super) fn emit<T: 'static>(
        &self,
        topic: &Topic<T>,
        events: Vec<Emission>,
    ) -> Result<u64, Unsent> {
        if self.is_stopped() {
            return Err(EmitErrorKind::Stopped.into());
        }
        let known = self.typed(topic).map_err(|_| EmitErrorKind::OtherType)?;
        match self.emitter.emit(&known.keys, events)? {
            GroupReply::Accepted(id) | GroupReply::Kept(id) => Ok(id),
            GroupReply::Duplicate(id) => Err(EmitErrorKind::Duplicate(EventId::new(id)).into()),
            GroupReply::Full => Err(EmitErrorKind::Full.into()),
        }
    }

    /// Registers a handler.
    pub(super) fn on<T: DeserializeOwned + 'static>(
        &self,
        topic: &Topic<T>,
        name: &str,
        options: On,
        handler: impl Handler<T>,
    ) -> Result<(), RegisterError> {
        let known = self
            .typed(topic)
            .map_err(|registered| RegisterError::OtherType {
                topic: topic.name().to_owned(),
                registered,
            })?;
        let encoded = Topic::<Encoded>::named(topic.name())?;
        let handle =
            move |context: &Context, event: &Encoded| handler.handle(context, &decode(&event.0)?);
        self.core.on(&encoded, name, options, handle)?;
        self.limit(&known);
        Ok(())
    }

    /// Removes a handler.
    pub(super) fn remove<T: 'static>(&self, topic: &Topic<T>, name: &str, waits: bool) -> bool {
        let (Ok(known), Ok(encoded)) = (self.typed(topic), Topic::<Encoded>::named(topic.name()))
        else {
            return false;
        };
        let is_removed = self.core.remove(&encoded, name, waits);
        if is_removed {
            self.limit(&known);
        }
        is_removed
    }

    /// Passes the limits of a topic on to the keeper.
    fn limit(&self, known: &KnownTopic) {
        let Some(topic) = self.core.topic(&known.name) else {
            return;
        };
        let limits = self.core.combined(topic).map(|combined| Limits {
            parallel: combined.parallel.unwrap_or(usize::MAX),
            everywhere: combined.parallel_everywhere.unwrap_or(0),
            interval: combined.rate.map_or(0, |(events, period)| {
                micros(period).div_ceil(u64::from(events.max(1))).max(1)
            }),
        });
        let (name, keys) = (known.name.clone(), known.keys.clone());
        self.inbox.order(Order::Limits(topic, name, keys, limits));
    }

    /// Ends the call of an event that was cancelled, if it runs here.
    pub(super) fn cancelled(&self, known: &KnownTopic, id: EventId) {
        if let Some(topic) = self.core.topic(&known.name) {
            self.inbox.order(Order::Cancelled(topic, id.get()));
        }
    }

    /// Stops the dispatcher. What waits stays in Redis.
    pub(super) fn stop(&self, within: Duration) -> Summary {
        let mut threads = self.threads.lock();
        let was_stopped = std::mem::replace(&mut threads.is_stopped, true);
        let (keeper, listener) = (threads.keeper.take(), threads.listener.take());
        drop(threads);
        if was_stopped && keeper.is_none() {
            return Summary::default();
        }
        self.inbox.order(Order::Stop);
        let mut summary = self.core.stop(within);
        let undone = std::mem::take(&mut summary.undone).into_iter();
        let undone = undone.map(|event| (event.topic.into(), event.id));
        let undone = undone.collect();
        // A handler that stops its own dispatcher ends after this, and its outcome counts.
        let waits = self.core.runs_here();
        self.inbox.order(Order::End { undone, waits });
        if !waits {
            // While the server does not answer, a call may take longer. The threads own nothing then, and end after it.
            let deadline = Instant::now() + LAST_CALLS;
            let threads = [keeper, listener].into_iter().flatten();
            threads.for_each(|thread| thread.join_until(deadline));
        }
        summary
    }

    /// Blocks until `is_quiet`, for at most `wait`.
    pub(super) fn wait_until<E>(
        &self,
        wait: Duration,
        mut is_quiet: impl FnMut() -> Result<bool, E>,
    ) -> Result<bool, E> {
        let deadline = Instant::now().checked_add(wait);
        loop {
            if is_quiet()? {
                return Ok(true);
            }
            if self.is_stopped() || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(false);
            }
            thread::sleep(FLUSH_LOOK);
        }
    }
}

/// When an event is due, for Redis.
pub(super) fn when(due: Due) -> Result<When, EmitErrorKind> {
    match due {
        Due::Now => Ok(When::Now),
        Due::After(delay) if delay <= FARTHEST => Ok(When::After(micros(delay))),
        Due::After(_) => Err(EmitErrorKind::TooLate),
        Due::At(time) => {
            let delay = time.duration_since(SystemTime::now()).unwrap_or_default();
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            let is_near = delay <= FARTHEST;
            is_near
                .then(|| When::At(micros(since)))
                .ok_or(EmitErrorKind::TooLate)
        }
    }
}

/// Why an event was not accepted.
#[derive(Debug)]
pub(super) struct Unsent {
    /// The reason.
    pub(super) kind: EmitErrorKind,
    /// The cause.
    pub(super) source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl From<EmitErrorKind> for Unsent {
    fn from(kind: EmitErrorKind) -> Self {
        Unsent { kind, source: None }
    }
}

impl From<EmitFailure> for Unsent {
    fn from(failure: EmitFailure) -> Self {
        Unsent {
            kind: failure.kind,
            source: failure.source.map(Into::into),
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher")
            .field("session", &self.settings.keeper.session)
            .field("topics", &self.topics.lock().len())
            .field("is_stopped", &self.is_stopped())
            .finish_non_exhaustive()
    }
}
