//! Panics: in a callback they cost that call, in a key they end its worker, and nobody is left without an answer.

use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use liveness::{
    BeatErrorKind, CallError, Event, EventKind, Heart, HeartError, ManualClock, Options, Refused,
    Sink, Watcher,
};

use crate::in_time::{GENEROUS, in_time};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the payload of a panic panics");
    }
}

/// A watcher of 30 keys that are due at once, whose callback does `body` and then tells its key.
fn dying(
    in_worker: bool,
    body: impl Fn(u64) + Send + Sync + 'static,
) -> (Watcher<u64>, Receiver<u64>) {
    let clock = ManualClock::new();
    let (told, keys) = unbounded();
    let callback = move |event: Event<u64>| {
        let key = *event.key().unwrap();
        body(key);
        told.send(key).unwrap();
    };
    let builder = Watcher::builder()
        .timeout(TIMEOUT)
        .workers(1)
        .clock(clock.clone());
    let builder = if in_worker {
        builder.on_event_in_worker(callback)
    } else {
        builder.on_event(callback)
    };
    let watcher = builder.build().unwrap();
    watcher.beat_many(0..30u64).unwrap();
    watcher.flush().unwrap();
    clock.advance(TIMEOUT);
    watcher.flush().unwrap();
    (watcher, keys)
}

#[test]
fn a_panic_in_a_callback_costs_that_call_only() {
    for in_worker in [false, true] {
        let (watcher, keys) = dying(in_worker, |key| assert_ne!(key % 3, 0));
        let told: Vec<u64> = (0..20)
            .map(|_| keys.recv_timeout(GENEROUS).unwrap())
            .collect();
        assert!(told.iter().all(|key| key % 3 != 0));
        let stats = watcher.close();
        assert_eq!((stats.panics, stats.failed_workers), (10, 0));
        assert_eq!((stats.delivered, stats.discarded), (30, 0));
        assert!(stats.is_balanced());
    }
}

#[test]
fn a_panic_whose_payload_panics_too_costs_that_call_only() {
    for in_worker in [false, true] {
        let (watcher, keys) = dying(in_worker, |key| {
            if key % 3 == 0 {
                panic_any(Bomb);
            }
        });
        for _ in 0..20 {
            keys.recv_timeout(GENEROUS).expect("delivery goes on");
        }
        let stats = watcher.close();
        assert_eq!((stats.panics, stats.failed_workers), (10, 0));
        assert!(stats.is_balanced());
    }
}

/// Panics with every event but takes those of the key 1.
struct Hostile(Sender<u64>);

impl Sink<u64, ()> for Hostile {
    fn offer(&self, event: Event<u64>) -> Result<(), Refused<u64, ()>> {
        assert_eq!(event.key(), Some(&1));
        self.0.send(1).unwrap();
        Ok(())
    }
}

#[test]
fn a_sink_that_panics_is_offered_the_next_event() {
    let clock = ManualClock::new();
    let (told, keys) = unbounded();
    let watcher = Watcher::<u64>::builder()
        .timeout(TIMEOUT)
        .events([EventKind::Joined, EventKind::Expired])
        .clock(clock.clone())
        .sink(Hostile(told))
        .build()
        .unwrap();
    watcher.beat_many(0..3u64).unwrap();
    watcher.flush().unwrap();
    clock.advance(TIMEOUT);
    watcher.flush().unwrap();
    assert_eq!(keys.len(), 2);
    assert_eq!((watcher.stats().panics, watcher.stats().delivered), (4, 3));
}

/// What a key does on request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Hash,
    Eq,
    Clone,
    Drop,
}

/// A key with a fault, once it is armed.
#[derive(Debug)]
struct Key {
    /// What distinguishes it.
    id: u64,
    /// What it does.
    fault: Fault,
    /// Whether it does so; shared by its clones.
    armed: Arc<AtomicBool>,
}

impl Key {
    /// A key without a fault, as long as nobody arms it.
    fn new(id: u64, fault: Fault) -> Self {
        Key {
            id,
            fault,
            armed: Arc::default(),
        }
    }

    /// Panics once if it is armed and `fault` is its fault.
    fn check(&self, fault: Fault) {
        let goes_off = self.fault == fault && self.armed.swap(false, Ordering::SeqCst);
        assert!(!goes_off, "{fault:?} panics");
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.check(Fault::Hash);
        self.id.hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.check(Fault::Eq);
        other.check(Fault::Eq);
        self.id == other.id
    }
}

impl Eq for Key {}

impl Clone for Key {
    fn clone(&self) -> Self {
        self.check(Fault::Clone);
        Key {
            id: self.id,
            fault: self.fault,
            armed: self.armed.clone(),
        }
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.check(Fault::Drop);
    }
}

#[test]
fn a_panic_in_a_keys_hash_is_the_callers_and_the_watcher_goes_on() {
    let watcher = Watcher::<Key>::builder().build().unwrap();
    let key = Key::new(1, Fault::Hash);
    key.armed.store(true, Ordering::SeqCst);
    assert!(catch_unwind(AssertUnwindSafe(|| watcher.beat(key))).is_err());
    watcher.beat(Key::new(2, Fault::Hash)).unwrap();
    watcher.flush().unwrap();
    assert_eq!((watcher.len(), watcher.stats().failed_workers), (1, 0));
}

/// The keys with numbers below 100, by worker.
fn keys_by_worker(watcher: &Watcher<Key>, joined: &Receiver<(u64, String)>) -> [Vec<u64>; 2] {
    watcher
        .beat_many((0..100).map(|id| Key::new(id, Fault::Eq)))
        .unwrap();
    watcher.flush().unwrap();
    let mut keys = [Vec::new(), Vec::new()];
    for (id, worker) in joined.try_iter() {
        keys[usize::from(worker == "liveness-1")].push(id);
    }
    assert!(keys.iter().all(|keys| keys.len() > 5));
    keys
}

#[test]
fn a_panic_in_a_key_fails_its_worker_visibly_and_the_others_go_on() {
    for fault in [Fault::Eq, Fault::Clone, Fault::Drop] {
        let (tell, joined) = unbounded();
        let watcher = Watcher::<Key>::builder()
            .workers(2)
            .events([EventKind::Joined])
            .on_event_in_worker(move |event: Event<Key>| {
                let worker = thread::current().name().unwrap().to_owned();
                tell.send((event.key().unwrap().id, worker)).unwrap();
            })
            .build()
            .unwrap();
        let [failing, healthy] = keys_by_worker(&watcher, &joined);
        let heart = watcher.watch(Key::new(failing[0], fault)).unwrap();
        let healthy_heart = watcher.watch(Key::new(healthy[0], fault)).unwrap();
        watcher.flush().unwrap();

        // `Eq` panics when the worker looks the key up, `Drop` when it drops the copy that it was sent, `Clone` when a
        // snapshot copies a watched one.
        let key = Key::new(failing[1], fault);
        let armed = key.armed.clone();
        if fault == Fault::Clone {
            watcher.remove(&Key::new(failing[1], fault)).unwrap();
            watcher.beat(key).unwrap();
            watcher.flush().unwrap();
            armed.store(true, Ordering::SeqCst);
            assert_eq!(watcher.snapshot(), Err(CallError::WorkerFailed));
        } else {
            armed.store(true, Ordering::SeqCst);
            watcher.beat(key).unwrap();
            assert_eq!(watcher.flush(), Err(CallError::WorkerFailed));
        }

        let id = failing[2];
        let key = || Key::new(id, fault);
        let refused = [
            watcher.beat(key()).unwrap_err(),
            watcher.try_beat(key()).unwrap_err(),
            watcher.beat_timeout(key(), GENEROUS).unwrap_err(),
            watcher.beat_with(key(), Options::new()).unwrap_err(),
            watcher.watch(key()).unwrap_err(),
        ];
        for error in refused {
            assert_eq!(error.kind(), BeatErrorKind::WorkerFailed);
            assert_eq!(error.into_key().id, id);
        }
        assert_eq!(watcher.remove(&key()), Err(CallError::WorkerFailed));
        let both = [Key::new(id, fault), Key::new(healthy[1], fault)];
        let error = watcher.beat_many(both).unwrap_err();
        assert_eq!(error.kind(), BeatErrorKind::WorkerFailed);
        assert_eq!(error.into_keys().len(), 1);
        assert_eq!(watcher.contains(&key()), Err(CallError::WorkerFailed));
        // The heart learns of it as the worker's state goes, a moment later.
        let began = Instant::now();
        while heart.beat() != Err(HeartError::Closed) {
            assert!(began.elapsed() < GENEROUS);
            thread::yield_now();
        }

        assert_eq!(healthy_heart.beat(), Ok(()));
        assert_eq!(watcher.contains(&Key::new(healthy[1], fault)), Ok(true));
        assert_eq!(watcher.stats().failed_workers, 1);
        let stats = watcher.close();
        assert!(stats.is_balanced());
        assert_eq!(
            watcher.beat(key()).unwrap_err().kind(),
            BeatErrorKind::WorkerFailed
        );
        let other = watcher.beat(Key::new(healthy[1], fault)).unwrap_err();
        assert_eq!(other.kind(), BeatErrorKind::Closed);
    }
}

#[test]
fn whoever_waits_for_a_worker_that_fails_is_told() {
    let (entered, is_held) = bounded(1);
    let (gate, opened) = bounded::<()>(0);
    let watcher = Watcher::<Key>::builder()
        .timeout(Duration::from_secs(3_600))
        .workers(1)
        .inbox_capacity(2)
        .on_event_in_worker(move |_| {
            entered.send(()).unwrap();
            let _ = opened.recv();
        })
        .build()
        .unwrap();
    let gate = gate; // goes before the watcher, also when an assertion fails
    watcher.beat(Key::new(1, Fault::Eq)).unwrap();
    watcher.flush().unwrap();
    let mortal = Options::new().timeout(Duration::from_nanos(1));
    watcher.beat_with(Key::new(0, Fault::Eq), mortal).unwrap();
    is_held.recv_timeout(GENEROUS).unwrap();
    // In the inbox: the key that will end the worker, and a heart behind it.
    let bomb = Key::new(1, Fault::Eq);
    bomb.armed.store(true, Ordering::SeqCst);
    watcher.beat(bomb).unwrap();
    let heart = watcher.watch(Key::new(2, Fault::Eq)).unwrap();
    thread::scope(|scope| {
        let watcher = &watcher;
        let key = || Key::new(9, Fault::Eq);
        let failed = |error: BeatErrorKind| assert_eq!(error, BeatErrorKind::WorkerFailed);
        scope.spawn(move || failed(beat_until_refused(|| watcher.beat(key()))));
        scope.spawn(move || {
            let error = std::iter::repeat_with(|| watcher.remove(&key())).find_map(Result::err);
            assert_eq!(error, Some(CallError::WorkerFailed));
        });
        scope.spawn(move || {
            failed(beat_until_refused(|| {
                watcher.beat_timeout(key(), Duration::MAX)
            }));
        });
        scope.spawn(move || failed(beat_until_refused(|| watcher.watch(key()).map(drop))));
        scope.spawn(move || {
            let error = std::iter::repeat_with(|| watcher.flush()).find_map(Result::err);
            assert_eq!(error, Some(CallError::WorkerFailed));
        });
        drop(gate);
    });
    assert_eq!(heart.beat(), Err(HeartError::Closed), "nobody ever saw it");
    assert!(!heart.is_watched());
}

/// Calls until there is an error.
fn beat_until_refused(call: impl Fn() -> Result<(), liveness::BeatError<Key>>) -> BeatErrorKind {
    std::iter::repeat_with(call)
        .find_map(Result::err)
        .map(|error| error.kind())
        .unwrap()
}

/// A value that asks its watcher as it is dropped.
#[derive(Clone, Default)]
struct Curious(Arc<OnceLock<Weak<Watcher<u64, Curious>>>>);

impl Drop for Curious {
    fn drop(&mut self) {
        if let Some(watcher) = self.0.get().and_then(Weak::upgrade) {
            let _ = (watcher.stats(), watcher.len());
            let _ = (watcher.beat(1_000u64), watcher.flush());
        }
    }
}

#[test]
fn values_that_ask_their_watcher_as_they_go_are_answered() {
    in_time(|| {
        let clock = ManualClock::new();
        let (entered, is_held) = bounded(1);
        let (gate, opened) = bounded::<()>(0);
        let watcher = Watcher::<u64, Curious>::builder()
            .timeout(TIMEOUT)
            .workers(1)
            .clock(clock.clone())
            .on_event(move |_| {
                let _ = entered.try_send(());
                let _ = opened.recv();
                thread::sleep(Duration::from_millis(200));
            })
            .build()
            .unwrap();
        let watcher = Arc::new(watcher);
        let value = Curious::default();
        value.0.set(Arc::downgrade(&watcher)).unwrap();
        for key in 0..10u64 {
            let options = Options::new().extra(value.clone());
            watcher.beat_with(key, options).unwrap();
        }
        watcher.flush().unwrap();
        clock.advance(TIMEOUT);
        // One event is at the callback, nine wait in the outbox, of which one is taken back.
        while watcher.stats().pending != 9 {
            assert!(watcher.contains(&1_000).is_ok());
        }
        is_held.recv_timeout(GENEROUS).unwrap();
        watcher.remove(&7).unwrap();
        assert!(watcher.contains(&1_000).is_ok());
        assert_eq!(watcher.stats().removed, 1);
        let closing = thread::spawn({
            let watcher = watcher.clone();
            move || watcher.close()
        });
        while watcher.try_beat(1_000u64).is_ok() {
            thread::yield_now();
        }
        drop(gate);
        // The first call outlasts the grace for the others, which are discarded.
        let stats = closing.join().unwrap();
        assert!(stats.is_balanced() && stats.discarded > 0, "{stats:?}");
    });
}

#[test]
fn an_eq_that_panics_on_a_look_through_the_outbox_leaves_its_events_and_the_accounting() {
    for fault in [Fault::Eq, Fault::Clone, Fault::Drop] {
        in_time(move || {
            let clock = ManualClock::new();
            let (entered, is_held) = bounded(1);
            let (gate, opened) = bounded::<()>(0);
            let called = Arc::new(AtomicU64::new(0));
            let count = called.clone();
            let watcher = Watcher::<Key>::builder()
                .timeout(TIMEOUT)
                .workers(1)
                .events([EventKind::Expired, EventKind::Removed])
                .clock(clock.clone())
                .on_event(move |event| {
                    let _ = entered.try_send(());
                    let _ = opened.recv();
                    count.fetch_add(1, Ordering::SeqCst);
                    drop(event);
                })
                .build()
                .unwrap();
            let gate = gate; // goes before the watcher, also when an assertion fails
            let keys: Vec<Key> = (0..10).map(|id| Key::new(id, fault)).collect();
            let armed: Vec<_> = keys.iter().map(|key| key.armed.clone()).collect();
            watcher.beat_many(keys).unwrap();
            watcher.flush().unwrap();
            clock.advance(TIMEOUT);
            while watcher.stats().pending != 9 {
                assert!(watcher.contains(&Key::new(99, fault)).is_ok());
            }
            is_held.recv_timeout(GENEROUS).unwrap();
            for armed in &armed {
                armed.store(true, Ordering::SeqCst);
            }
            watcher.remove(&Key::new(20, fault)).unwrap();
            // The first has failed the worker where it compares keys.
            let _ = watcher.remove(&Key::new(7, fault));
            let is_failing = fault == Fault::Eq;
            assert_eq!(
                watcher.contains(&Key::new(99, fault)).is_err(),
                is_failing,
                "only a look at a key compares it"
            );
            let stats = watcher.stats();
            assert!(stats.is_balanced(), "{stats:?}");
            assert_eq!(stats.pending + stats.removed, 9, "{stats:?}");
            drop(gate);
            // Delivery goes on.
            let began = Instant::now();
            while called.load(Ordering::SeqCst) < 10 {
                assert!(began.elapsed() < GENEROUS);
                thread::yield_now();
            }
            let stats = watcher.close();
            assert!(stats.is_balanced(), "{stats:?}");
            assert_eq!(stats.delivered + stats.removed, 10, "{stats:?}");
            assert_eq!(stats.failed_workers, u64::from(is_failing));
        });
    }
}

/// What all [`Mine`]s of a test share.
#[derive(Debug, Default)]
struct Pins {
    /// Whether every one that is dropped panics.
    drop: AtomicBool,
    /// Whether the 20th clone from now on panics.
    clone: AtomicBool,
    /// How many clones were made while that was on.
    clones: AtomicU64,
}

/// A key that panics each time.
#[derive(Debug)]
struct Mine {
    /// What distinguishes it.
    id: u64,
    /// When it panics.
    pins: Arc<Pins>,
}

impl Mine {
    /// Keys with these numbers.
    fn many(pins: &Arc<Pins>, ids: std::ops::Range<u64>) -> Vec<Mine> {
        let pins = || pins.clone();
        ids.map(|id| Mine { id, pins: pins() }).collect()
    }
}

impl Hash for Mine {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl PartialEq for Mine {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Mine {}

impl Clone for Mine {
    fn clone(&self) -> Self {
        let Mine { id, ref pins } = *self;
        let is_on = pins.clone.load(Ordering::SeqCst);
        let panics = is_on && pins.clones.fetch_add(1, Ordering::SeqCst) == 20;
        assert!(!panics, "Clone panics");
        let pins = pins.clone();
        Mine { id, pins }
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        assert!(!self.pins.drop.load(Ordering::SeqCst), "Drop panics");
    }
}

/// What is done to a worker before its keys panic.
type Step = fn(&Watcher<Mine>, &Arc<Pins>);

/// Beats one after the other, more than are applied together.
fn send_one_by_one(watcher: &Watcher<Mine>, pins: &Arc<Pins>) {
    for key in Mine::many(pins, 0..240) {
        watcher.beat(key).unwrap();
    }
}

/// Beats in batches.
fn send_together(watcher: &Watcher<Mine>, pins: &Arc<Pins>) {
    for _ in 0..3 {
        watcher.beat_many(Mine::many(pins, 0..240)).unwrap();
    }
}

/// Sends something rarer.
fn send_command(watcher: &Watcher<Mine>, pins: &Arc<Pins>) {
    let key = Mine::many(pins, 3..4).remove(0);
    watcher.watch(key).map(Heart::detach).unwrap();
}

/// Makes a snapshot panic on its way.
fn let_clones_panic(_: &Watcher<Mine>, pins: &Arc<Pins>) {
    pins.clone.store(true, Ordering::SeqCst);
}

#[test]
fn many_keys_that_panic_in_drop_fail_their_worker_and_the_process_lives() {
    let rounds: [&'static [Step]; 6] = [
        &[send_one_by_one],
        &[send_together],
        &[send_one_by_one, send_together, send_command],
        &[send_together, send_one_by_one, send_together],
        &[send_one_by_one, send_command, send_one_by_one],
        &[let_clones_panic],
    ];
    for steps in rounds {
        in_time(move || {
            let pins = Arc::<Pins>::default();
            let (entered, is_held) = bounded(1);
            let (gate, opened) = bounded::<()>(0);
            let watcher = Watcher::<Mine>::builder()
                .timeout(Duration::from_secs(3_600))
                .workers(1)
                .on_event_in_worker(move |event| {
                    drop(event);
                    entered.send(()).unwrap();
                    let _ = opened.recv();
                })
                .build()
                .unwrap();
            let gate = gate; // goes before the watcher, also when an assertion fails
            watcher.beat_many(Mine::many(&pins, 0..250)).unwrap();
            watcher.flush().unwrap();
            let mortal = Options::new().timeout(Duration::from_nanos(1));
            let key = Mine::many(&pins, 999..1_000).remove(0);
            watcher.beat_with(key, mortal).unwrap();
            is_held.recv_timeout(GENEROUS).unwrap();
            for step in steps {
                step(&watcher, &pins);
            }
            pins.drop.store(true, Ordering::SeqCst);
            drop(gate);
            assert_eq!(watcher.snapshot(), Err(CallError::WorkerFailed));
            let stats = watcher.close();
            assert!(stats.is_balanced(), "{stats:?}");
            assert_eq!(stats.failed_workers, 1);
            pins.drop.store(false, Ordering::SeqCst);
            drop(watcher);
            assert_eq!(Arc::strong_count(&pins), 1, "each key was dropped");
        });
    }
}

/// Closes a watcher of keys that panic as they are dropped: live ones, and behind a sink that takes none of them.
fn close_over_mines(with_channel: bool) {
    let pins = Arc::<Pins>::default();
    let clock = ManualClock::new();
    let builder = Watcher::<Mine>::builder()
        .timeout(TIMEOUT)
        .workers(1)
        .clock(clock.clone());
    let (entered, is_held) = bounded(1);
    let (gate, opened) = bounded::<()>(0);
    let (watcher, events) = if with_channel {
        builder.build_with_channel(1).unwrap()
    } else {
        let builder = builder.on_event(move |event| {
            std::mem::forget(event);
            let _ = entered.try_send(());
            let _ = opened.recv();
            // Longer than delivery goes on at the close.
            thread::sleep(Duration::from_millis(200));
        });
        (builder.build().unwrap(), bounded(1).1)
    };
    let gate = gate; // goes before the watcher, also when an assertion fails
    watcher.beat_many(Mine::many(&pins, 0..50)).unwrap();
    watcher.flush().unwrap();
    clock.advance(TIMEOUT);
    watcher.beat_many(Mine::many(&pins, 100..150)).unwrap();
    if with_channel {
        watcher.flush().unwrap();
    } else {
        watcher.snapshot().unwrap();
        is_held.recv_timeout(GENEROUS).unwrap();
    }
    if !with_channel {
        // Until only the delivery thread is left.
        while watcher.close_timeout(Duration::ZERO).unwrap_err().threads() != ["liveness-delivery"]
        {
            thread::yield_now();
        }
    }
    pins.drop.store(true, Ordering::SeqCst);
    drop(gate);
    let stats = watcher.close();
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!((stats.live, stats.delivered, stats.discarded), (50, 1, 49));
    assert_eq!(stats.failed_workers, 0);
    pins.drop.store(false, Ordering::SeqCst);
    drop((watcher, events));
    let left = 1 + usize::from(!with_channel);
    assert_eq!(Arc::strong_count(&pins), left, "each key was dropped");
}

#[test]
fn keys_that_panic_in_drop_at_the_close_cost_nothing_but_themselves() {
    in_time(|| close_over_mines(true));
    in_time(|| close_over_mines(false));
}
