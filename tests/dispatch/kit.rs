//! What the tests share.

use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use liveness::dispatch::{Builder, Context, Dispatcher, Failure, Topic};
use liveness::{Clock, ManualClock};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const S: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
pub(crate) const NS: Duration = Duration::from_nanos(1);

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The topic of most tests.
pub(crate) const TOPIC: Topic<u64> = Topic::new("topic");

/// A dispatcher whose time is moved by the test.
pub(crate) struct Fixture {
    pub(crate) clock: ManualClock,
    pub(crate) dispatcher: Dispatcher,
}

/// A dispatcher of four threads under a manual clock.
pub(crate) fn manual() -> Fixture {
    manual_with(|builder| builder)
}

/// A dispatcher under a manual clock, with options.
pub(crate) fn manual_with(options: impl FnOnce(Builder) -> Builder) -> Fixture {
    let clock = ManualClock::new();
    let builder = Dispatcher::builder()
        .threads(4)
        .seed(7)
        .clock(clock.clone());
    let dispatcher = options(builder).build().unwrap();
    Fixture { clock, dispatcher }
}

impl Fixture {
    /// Runs all that is ready.
    pub(crate) fn flush(&self) {
        flush(&self.dispatcher);
    }

    /// Moves the clock, and runs all that is ready then.
    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.flush();
    }

    /// The time as wall-clock time.
    pub(crate) fn wall(&self) -> SystemTime {
        let clock = Clock::from(self.clock.clone());
        clock.system_time(clock.now())
    }
}

/// Runs all that is ready.
pub(crate) fn flush(dispatcher: &Dispatcher) {
    assert!(dispatcher.flush(PATIENCE), "{}", dispatcher.stats());
    assert_balanced(dispatcher);
}

/// The account balances.
#[track_caller]
pub(crate) fn assert_balanced(dispatcher: &Dispatcher) {
    let stats = dispatcher.stats();
    assert!(stats.is_balanced(), "{stats}");
}

/// What a handler is that passes its events to the test.
pub(crate) fn recorder<T: Clone + Send + 'static>() -> (
    impl Fn(&Context, &T) -> Result<(), Failure> + Send + Sync + Clone + 'static,
    Receiver<T>,
) {
    let (sender, receiver) = unbounded();
    let handle = move |_: &Context, event: &T| {
        let _ = sender.send(event.clone());
        Ok(())
    };
    (handle, receiver)
}

/// A handler that says that it is called, and then stays until it is let go: one call by each message, all when the
/// sender is dropped. It does not look whether it is cancelled.
#[expect(clippy::type_complexity, reason = "the type of a closure has no name")]
pub(crate) fn holder() -> (
    impl Fn(&Context, &u64) -> Result<(), Failure> + Send + Sync + Clone + 'static,
    Receiver<u64>,
    Sender<()>,
) {
    let (entered, is_held) = unbounded();
    let (gate, opened) = bounded::<()>(0);
    let handle = move |_: &Context, event: &u64| {
        let _ = entered.send(*event);
        let _ = opened.recv();
        Ok(())
    };
    (handle, is_held, gate)
}

/// Waits for a message.
#[track_caller]
pub(crate) fn get<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(PATIENCE).expect("a message")
}

/// All messages that are there.
pub(crate) fn all<T>(receiver: &Receiver<T>) -> Vec<T> {
    receiver.try_iter().collect()
}

/// Random numbers that are the same in each run (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next one below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}
