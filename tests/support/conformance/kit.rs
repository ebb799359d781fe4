//! What the tests share: a dispatcher with a topic of its own, and handlers that report their calls.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use liveness::dispatch::{
    Backoff, Context, Counts, Dispatch, Emit, EmitError, EventId, Failure, On, Topic, TopicStats,
};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How long a test waits for what must not come.
pub(crate) const WHILE: Duration = Duration::from_millis(60);

/// Creates the dispatchers of the tests.
pub(crate) trait Make {
    /// Creates a dispatcher with these options.
    fn make(&self, setup: &Setup) -> Arc<dyn Dispatch<String>>;
}

/// The options that tests need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// The number of worker threads.
    pub(crate) threads: usize,
    /// How many events of a topic may be unfinished.
    pub(crate) max_unfinished: usize,
    /// How many dead events a topic keeps.
    pub(crate) max_dead: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            threads: 4,
            max_unfinished: 100_000,
            max_dead: 1_000,
        }
    }
}

/// A dispatcher, and a topic that no other test uses.
pub(crate) struct Fixture {
    pub(crate) dispatcher: Arc<dyn Dispatch<String>>,
    pub(crate) topic: Topic<String>,
}

/// A call of a handler.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) event: String,
    pub(crate) id: EventId,
    pub(crate) attempt: u32,
    pub(crate) fence: u64,
    pub(crate) at: Instant,
}

/// A handler that stays in its call until it is let go.
pub(crate) struct Held {
    /// Receives each event whose call has begun.
    pub(crate) begun: Receiver<String>,
    /// Ends one call for each message, and all when it is dropped.
    pub(crate) gate: Sender<()>,
}

impl Fixture {
    pub(crate) fn new(make: &dyn Make) -> Self {
        Self::with(make, Setup::default())
    }

    pub(crate) fn with(make: &dyn Make, setup: Setup) -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let name = format!("conformance-{}-{number}", process::id());
        Fixture {
            dispatcher: make.make(&setup),
            topic: Topic::named(name).unwrap(),
        }
    }

    /// Registers a handler.
    pub(crate) fn on(
        &self,
        name: &str,
        options: On,
        handle: impl Fn(&Context, &String) -> Result<(), Failure> + Send + Sync + 'static,
    ) {
        let handler = Box::new(handle);
        let registered = self
            .dispatcher
            .on_handler(&self.topic, name, options, handler);
        registered.unwrap();
    }

    /// Registers a handler that reports each call and then answers.
    pub(crate) fn record(
        &self,
        name: &str,
        options: On,
        answer: impl Fn(&Context, &String) -> Result<(), Failure> + Send + Sync + 'static,
    ) -> Receiver<Call> {
        let (sender, calls) = unbounded();
        self.on(name, options, move |context, event| {
            let _ = sender.send(Call {
                event: event.clone(),
                id: context.id(),
                attempt: context.attempt(),
                fence: context.fence(),
                at: Instant::now(),
            });
            answer(context, event)
        });
        calls
    }

    /// Registers a handler that stays in its call until it is let go.
    pub(crate) fn hold(&self, options: On) -> Held {
        let (begin, begun) = unbounded();
        let (gate, opened) = bounded::<()>(0);
        self.on("hold", options, move |_, event| {
            let _ = begin.send(event.clone());
            let _ = opened.recv();
            Ok(())
        });
        Held { begun, gate }
    }

    /// Emits an event that is due at once.
    pub(crate) fn emit(&self, event: &str) -> EventId {
        self.emit_with(event, Emit::now()).unwrap()
    }

    pub(crate) fn emit_with(&self, event: &str, how: Emit) -> Result<EventId, EmitError<String>> {
        self.dispatcher
            .emit_with(&self.topic, event.to_owned(), how)
    }

    pub(crate) fn pause(&self) -> bool {
        self.dispatcher.pause(&self.topic).unwrap()
    }

    pub(crate) fn resume(&self) -> bool {
        self.dispatcher.resume(&self.topic).unwrap()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.dispatcher.counts(&self.topic).unwrap()
    }

    /// The statistics of the topic.
    pub(crate) fn stats(&self) -> TopicStats {
        let topics = self.dispatcher.stats().unwrap().topics.into_iter();
        let mut topics = topics.filter(|stats| stats.topic == self.topic.name());
        topics.next().unwrap_or_default()
    }

    /// Waits until the condition holds: outcomes reach a store later than the end of a call.
    #[track_caller]
    pub(crate) fn until(&self, condition: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(
                Instant::now() < end,
                "{:?}, {}",
                self.counts(),
                self.stats()
            );
            thread::sleep(2 * MS);
        }
    }

    /// Waits until no event of the topic waits or runs.
    #[track_caller]
    pub(crate) fn until_ended(&self) {
        self.until(|it| {
            let counts = it.counts();
            counts.scheduled + counts.ready + counts.running == 0
        });
    }

    /// Waits until so many events are dead.
    #[track_caller]
    pub(crate) fn until_dead(&self, events: usize) {
        self.until(|it| it.counts().dead == events);
    }

    /// Waits until the account of the topic balances and has these numbers of events that are done, cancelled and
    /// purged. Then stops.
    #[track_caller]
    pub(crate) fn end(self, done: u64, cancelled: u64, purged: u64) {
        self.until(|it| {
            let stats = it.stats();
            stats.is_balanced()
                && (stats.done, stats.cancelled, stats.purged) == (done, cancelled, purged)
        });
        let summary = self.dispatcher.stop(PATIENCE);
        assert!(summary.still_running.is_empty(), "{summary:?}");
    }
}

/// Options of a handler that has so many attempts, `delay` apart.
pub(crate) fn attempts(most: u32, delay: Duration) -> On {
    let backoff = Backoff::constant(delay).jitter(0.0);
    On::new().max_attempts(most).backoff(backoff)
}

/// Waits for a message.
#[track_caller]
pub(crate) fn get<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(PATIENCE).expect("a message")
}

/// Checks for a while that no message comes.
#[track_caller]
pub(crate) fn assert_silent<T>(receiver: &Receiver<T>) {
    assert!(receiver.recv_timeout(WHILE).is_err());
}
