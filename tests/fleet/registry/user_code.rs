//! Ids and data that panic, take their time, or call the registry.

use std::sync::mpsc;
use std::time::Duration;

use liveness::ManualClock;
use liveness::registry::{Policy, Registry, RegistryError, State};

use super::{Error, TIMEOUT, s};
use crate::in_time::in_time;

/// Data that takes its time to go.
struct Slow;

impl Drop for Slow {
    fn drop(&mut self) {
        std::thread::sleep(Duration::from_millis(150));
    }
}

#[test]
fn a_worker_that_was_kept_from_running_is_noticed() -> Result<(), Error> {
    let registry = Registry::<u32, Slow>::builder()
        .policy(Policy::Fixed(Duration::from_millis(1)))
        .forget_after(Duration::from_millis(1))
        .build()?;
    // It is forgotten in the worker, and its data goes there.
    registry.register(7, Slow)?;
    let begin = std::time::Instant::now();
    while registry.stats().stalls == 0 {
        assert!(begin.elapsed() < s(30), "{:?}", registry.stats());
        std::thread::yield_now();
    }
    Ok(())
}

/// Data that does something as it goes.
struct Last(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Last {
    fn new(last: impl FnOnce() + Send + Sync + 'static) -> Self {
        Last(Some(Box::new(last)))
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        if let Some(last) = self.0.take() {
            last();
        }
    }
}

/// Runs `code` as a caller who survives its panics does.
fn survive<T>(code: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(code)).ok()
}

#[test]
fn a_close_that_waits_no_longer_names_the_worker_that_runs_data_s_drop() -> Result<(), Error> {
    let clock = ManualClock::new();
    let registry = Registry::<u32, Last>::builder()
        .policy(Policy::Fixed(TIMEOUT))
        .forget_after(TIMEOUT)
        .thread_name("fleet")
        .clock(clock.clone())
        .build()?;
    let (busy, is_busy) = mpsc::channel();
    let (release, hold) = mpsc::channel::<()>();
    let hold = std::sync::Mutex::new(hold);
    let last = Last::new(move || {
        busy.send(()).expect("the test listens");
        let _ = hold.lock().expect("nobody else does").recv();
    });
    registry.register(7, last)?;
    registry.leave(&7)?;
    clock.advance(TIMEOUT);
    // It is forgotten in the worker, and its data goes there. Nobody waits for that.
    std::thread::scope(|scope| {
        scope.spawn(|| registry.flush());
        is_busy.recv().expect("it goes");
        let error = registry
            .close_timeout(Duration::ZERO)
            .expect_err("the worker is held");
        assert_eq!(
            error.to_string(),
            "the registry is closed, but a thread still runs: fleet-0"
        );
        assert!(matches!(registry.beat(&7), Err(RegistryError::Closed)));
        drop(release);
    });
    registry.close_timeout(s(60))?;
    registry.close();
    Ok(())
}

#[test]
fn data_that_panics_as_it_goes_takes_nothing_with_it() -> Result<(), Error> {
    let clock = ManualClock::new();
    let registry = Registry::<u32, Last>::builder()
        .policy(Policy::Fixed(TIMEOUT))
        .forget_after(s(15))
        .clock(clock.clone())
        .build()?;
    let pass = |time| {
        clock.advance(time);
        registry.flush()
    };
    let bomb = || Last::new(|| panic!("the test wants it so"));
    // In a caller: the node is watched all the same.
    registry.register(1, bomb())?;
    registry.leave(&1)?;
    assert!(survive(|| registry.register(1, Last(None))).is_none());
    // In the worker: the nodes after it are forgotten all the same.
    registry.register(2, bomb())?;
    registry.leave(&2)?;
    pass(s(5))?;
    registry.register(3, Last(None))?;
    registry.leave(&3)?;
    pass(s(5))?;
    assert_eq!(registry.status(&1).map(|it| it.state), Some(State::Down));
    pass(s(5))?;
    assert!(registry.status(&2).is_none() && registry.status(&3).is_some());
    pass(s(5))?;
    assert!(registry.status(&3).is_none() && registry.status(&1).is_some());
    pass(s(5))?;
    assert_eq!(registry.fleet().len(), 0);
    Ok(())
}

/// An id that asks the registry something as it goes, and panics in `Hash` where a test wants it.
#[derive(Clone)]
struct Asking(u32, std::sync::Weak<Registry<Asking, Last>>);

thread_local! {
    /// After so many calls of `Hash`, one panics.
    static GOOD_HASHES: std::cell::Cell<u32> = const { std::cell::Cell::new(u32::MAX) };
}

impl PartialEq for Asking {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Asking {}

impl std::hash::Hash for Asking {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let left = GOOD_HASHES.get().checked_sub(1);
        GOOD_HASHES.set(left.expect("the test wants it so"));
        self.0.hash(state);
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(registry) = self.1.upgrade() {
            let _ = registry.stats();
        }
    }
}

#[test]
fn ids_and_data_may_call_the_registry_as_they_go() {
    in_time(|| {
        let registry = std::sync::Arc::new(Registry::<Asking, Last>::builder().build().unwrap());
        let asking = |id| Asking(id, std::sync::Arc::downgrade(&registry));
        let last = || {
            let registry = std::sync::Arc::downgrade(&registry);
            Last::new(move || {
                let _ = registry.upgrade().map(|registry| registry.stats());
            })
        };
        for is_listed in [false, true] {
            for _ in 0..2 {
                registry.register(asking(1), last()).unwrap();
                if is_listed {
                    registry.beat(&asking(1)).unwrap();
                }
            }
            assert_eq!(registry.fleet().len(), 1);
            registry.leave(&asking(1)).unwrap();
            registry.register(asking(1), last()).unwrap();
            registry.forget(&asking(1)).unwrap();
        }
        assert_eq!(registry.fleet().len(), 0);
    });
}

#[test]
fn an_id_that_panics_in_a_call_leaves_everything_as_it_was() -> Result<(), Error> {
    let registry = Registry::<Asking, Last>::builder().build()?;
    let asking = |id| Asking(id, std::sync::Weak::new());
    let ids: Vec<Asking> = (0..100).map(asking).collect();
    for id in &ids {
        registry.register(id.clone(), Last(None))?;
        registry.beat(id)?;
    }
    let counts = || {
        let stats = registry.stats();
        [
            stats.up,
            stats.joining,
            stats.listed,
            registry.fleet().len(),
        ]
    };
    for good in 0..4 {
        let new = asking(100);
        GOOD_HASHES.set(good);
        let registered = survive(|| registry.register(new, Last(None)));
        let forgotten = registered.is_none() && {
            GOOD_HASHES.set(good);
            survive(|| registry.forget(&ids[7])).is_some()
        };
        GOOD_HASHES.set(u32::MAX);
        assert_eq!(registry.forget(&asking(100)).is_ok(), registered.is_some());
        assert_eq!(registry.status(&ids[7]).is_none(), forgotten);
        registry.register(ids[7].clone(), Last(None))?;
        registry.beat(&ids[7])?;
        assert_eq!(counts(), [100, 0, 100, 100], "{good}");
    }
    for id in &ids {
        registry.beat(id)?;
        registry.leave(id)?;
        registry.forget(id)?;
    }
    assert_eq!((registry.fleet().len(), registry.available().len()), (0, 0));
    Ok(())
}
