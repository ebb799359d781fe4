//! Pacemakers on real threads: what they call, when they stop, and who falls silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use liveness::pacemaker::{BoxError, Builder, Connection, PaceError, Pacemaker, Pacer};
use parking_lot::Mutex;

/// A beat so rare that none but the first comes while a test runs.
const RARELY: Duration = Duration::from_secs(3_600);

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A beat each millisecond, the first at once.
fn quick() -> Builder {
    Pacemaker::every(Duration::from_millis(1)).phase(Duration::ZERO)
}

/// Waits for `count` messages.
fn wait_for<T>(messages: &Receiver<T>, count: usize) {
    for _ in 0..count {
        messages.recv_timeout(PATIENCE).expect("a beat");
    }
}

#[test]
fn beats_come_and_none_after_stop_has_returned() {
    let (sender, beats) = unbounded();
    let pacemaker = quick().start(move || sender.send(())).unwrap();
    wait_for(&beats, 5);
    assert_eq!(pacemaker.connection(), Connection::Online);
    pacemaker.stop();
    // The beat function is gone, and what it owned.
    while beats.try_recv().is_ok() {}
    assert!(beats.recv().is_err());
}

#[test]
fn beats_are_never_closer_than_the_rhythm_says() {
    let interval = Duration::from_millis(20);
    let (sender, beats) = unbounded();
    let pacemaker = Pacemaker::every(interval)
        .jitter(0.0)
        .phase(Duration::ZERO)
        .start(move || sender.send(Instant::now()))
        .unwrap();
    let first = beats.recv_timeout(PATIENCE).unwrap();
    for nth in 1..10 {
        // However late the first was, the others keep to the ticks.
        let at = beats.recv_timeout(PATIENCE).unwrap();
        assert!(at + interval > first + interval * nth, "beat {nth}");
    }
    drop(pacemaker);
}

#[test]
fn a_peer_that_fails_is_offline_once_and_online_again_once() {
    let (told, changes) = unbounded();
    let is_down = Arc::new(AtomicBool::new(true));
    let down = is_down.clone();
    let beat = move || {
        let is_up = !down.load(Ordering::SeqCst);
        is_up.then_some(()).ok_or("connection refused")
    };
    let pacemaker = quick()
        .offline_after(2)
        .on_change(move |change| drop(told.send(change)))
        .start(beat)
        .unwrap();
    let change = changes.recv_timeout(PATIENCE).unwrap();
    assert_eq!(change.connection, Connection::Offline);
    assert_eq!(change.error.unwrap().to_string(), "connection refused");
    is_down.store(false, Ordering::SeqCst);
    let change = changes.recv_timeout(PATIENCE).unwrap();
    assert_eq!(
        (change.connection, change.error.is_none()),
        (Connection::Online, true)
    );
    assert!(pacemaker.stats().failures >= 2);
    pacemaker.stop();
    assert!(changes.recv().is_err(), "each was told once");
}

#[test]
fn a_beat_function_that_panics_has_failed_and_is_called_again() {
    let (sender, calls) = unbounded();
    let pacemaker = quick()
        .offline_after(1)
        .start(move || -> Result<(), BoxError> {
            let _ = sender.send(());
            // Unwinds without the noise of the panic hook.
            std::panic::resume_unwind(Box::new("for the test"))
        })
        .unwrap();
    wait_for(&calls, 3);
    assert_eq!(pacemaker.connection(), Connection::Offline);
    assert_eq!(pacemaker.stats().beats, 0);
}

#[test]
fn work_that_panics_falls_silent_and_says_no_goodbye() {
    let (sender, beats) = unbounded();
    let said = Arc::new(AtomicBool::new(false));
    let goodbye = said.clone();
    let crashed = thread::spawn(move || {
        let seen = beats.clone();
        let mut pacemaker = quick()
            .idle()
            .goodbye(move || goodbye.store(true, Ordering::SeqCst))
            .start(move || sender.send(()))
            .unwrap();
        pacemaker.during(|| {
            wait_for(&seen, 3);
            std::panic::resume_unwind(Box::new("for the test"))
        })
    });
    assert!(crashed.join().is_err());
    assert!(!said.load(Ordering::SeqCst));
}

#[test]
fn beats_are_made_while_work_runs_and_not_between() {
    let (sender, beats) = unbounded();
    let mut pacemaker = quick().idle().start(move || sender.send(())).unwrap();
    let withheld = |pacemaker: &Pacemaker, count: u64| {
        let until = pacemaker.stats().withheld + count;
        let began = Instant::now();
        while pacemaker.stats().withheld < until {
            assert!(began.elapsed() < PATIENCE);
            thread::yield_now();
        }
    };
    for _ in 0..3 {
        withheld(&pacemaker, 3);
        assert!(beats.is_empty());
        assert_eq!(
            pacemaker.during(|| {
                wait_for(&beats, 3);
                7
            }),
            7
        );
        while beats.try_recv().is_ok() {}
    }
}

#[test]
fn from_the_first_work_on_it_beats_for_work_only() {
    let (sender, beats) = unbounded();
    let mut pacemaker = quick().start(move || sender.send(())).unwrap();
    wait_for(&beats, 2);
    pacemaker.during(|| wait_for(&beats, 2));
    let withheld = pacemaker.stats().withheld;
    beats.try_iter().count();
    while pacemaker.stats().withheld < withheld + 3 {
        thread::yield_now();
    }
    assert_eq!(beats.len(), 0);
}

#[test]
fn work_that_hangs_falls_silent() {
    let (sender, beats) = unbounded();
    let mut pacemaker = quick().idle().start(move || sender.send(())).unwrap();
    pacemaker.during_progress(|progress| {
        for _ in 0..5 {
            progress.made();
            wait_for(&beats, 1);
        }
    });
    let made = pacemaker.stats().beats;
    let withheld = pacemaker.stats().withheld;
    let pacemaker = Mutex::new(pacemaker);
    // No progress after the first beat: only that one is made, however long it takes.
    let began = Instant::now();
    let shown = pacemaker.lock().during_progress(|_| {
        wait_for(&beats, 1);
        while began.elapsed() < Duration::from_millis(50) {
            thread::yield_now();
        }
        beats.len()
    });
    assert_eq!(shown, 0);
    let stats = pacemaker.lock().stats();
    assert_eq!(stats.beats, made + 1);
    assert!(stats.withheld > withheld);
}

#[test]
fn many_share_a_thread_and_each_stops_by_itself() {
    let pacer = Pacer::spawn().unwrap();
    let (sender, beats) = unbounded();
    let mut pacemakers: Vec<Pacemaker> = (0..1_000_u32)
        .map(|number| {
            let sender = sender.clone();
            let beat = move || sender.send((number, thread::current().id()));
            pacer.start(quick(), beat).unwrap()
        })
        .collect();
    let mut seen = vec![false; 1_000];
    let mut threads = Vec::new();
    while seen.contains(&false) {
        let (number, thread) = beats.recv_timeout(PATIENCE).unwrap();
        seen[number as usize] = true;
        threads.push(thread);
    }
    threads.dedup();
    assert_eq!(threads.len(), 1);
    drop(pacemakers.split_off(1));
    while beats.try_recv().is_ok() {}
    for _ in 0..5 {
        assert_eq!(beats.recv_timeout(PATIENCE).unwrap().0, 0);
    }
}

#[test]
fn a_pacemaker_may_be_stopped_by_its_own_beat() {
    let slot: Arc<Mutex<Option<Pacemaker>>> = Arc::default();
    let (sender, beats) = unbounded();
    let own = slot.clone();
    let beat = move || {
        let it = own.lock().take();
        sender.send(it.is_some()).map(|()| drop(it))
    };
    *slot.lock() = Some(quick().start(beat).unwrap());
    // Before that, beats may find the slot empty.
    while !beats.recv_timeout(PATIENCE).unwrap() {}
    assert!(beats.recv_timeout(PATIENCE).is_err(), "it stopped");
}

#[test]
fn a_stop_waits_for_the_call_that_runs_and_for_no_tick() {
    let (entered, calls) = unbounded();
    let (release, released) = unbounded::<()>();
    let pacemaker = Pacemaker::every(RARELY)
        .phase(Duration::ZERO)
        .start(move || {
            entered.send(()).unwrap();
            released.recv()
        })
        .unwrap();
    wait_for(&calls, 1);
    let stopping = thread::spawn(move || pacemaker.stop());
    release.send(()).unwrap();
    stopping.join().unwrap();
    assert!(calls.recv().is_err());
}

#[test]
fn options_that_make_no_sense_are_refused_and_named() {
    let start = |options: Builder| options.start(|| Ok::<(), BoxError>(())).map(drop);
    let second = Duration::from_secs(1);
    let refused = |result: Result<(), PaceError>| match result {
        Err(PaceError::Option(error)) => error.option(),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(start(Pacemaker::every(Duration::ZERO))), "every");
    let every = || Pacemaker::every(second);
    let too_short = Duration::from_nanos(2);
    assert_eq!(
        refused(start(Pacemaker::for_timeout(too_short))),
        "for_timeout"
    );
    assert_eq!(
        refused(start(every().retry(Duration::ZERO, second))),
        "retry"
    );
    assert_eq!(
        refused(start(every().retry(second, Duration::ZERO))),
        "retry"
    );
    assert_eq!(refused(start(every().offline_after(0))), "offline_after");
    for jitter in [-0.1, 0.51, f64::NAN, f64::INFINITY] {
        assert_eq!(refused(start(every().jitter(jitter))), "jitter");
    }
    for jitter in [0.0, 0.5] {
        assert!(start(every().jitter(jitter)).is_ok());
    }
}

#[test]
fn errors_name_the_option_that_was_written_and_its_range() {
    let second = Duration::from_secs(1);
    let zero = Duration::ZERO;
    let every = || Pacemaker::every(second);
    let texts = [
        Pacemaker::every(zero),
        Pacemaker::for_timeout(zero),
        every().retry(zero, second),
        every().offline_after(0),
        every().jitter(0.7),
    ]
    .map(|options| {
        let result = options.start(|| Ok::<(), BoxError>(()));
        result.map(drop).unwrap_err().to_string()
    });
    assert_eq!(
        texts,
        [
            "`every` must be greater than zero",
            "`for_timeout` must be at least 3 ns",
            "`retry` must be two waits greater than zero",
            "`offline_after` must be greater than zero",
            "`jitter` must be from 0 to 0.5, not 0.7",
        ]
    );
}

#[test]
fn counters_are_logged_in_singular_and_plural() {
    let (sender, beats) = unbounded();
    let options = Pacemaker::every(RARELY).phase(Duration::ZERO);
    let pacemaker = options.start(move || sender.send(())).unwrap();
    wait_for(&beats, 1);
    let began = Instant::now();
    while pacemaker.connection() != Connection::Online {
        assert!(began.elapsed() < PATIENCE);
        thread::yield_now();
    }
    let line = pacemaker.stats().to_string();
    assert_eq!(line, "1 beat, 0 failures, 0 skipped, 0 withheld");
}
