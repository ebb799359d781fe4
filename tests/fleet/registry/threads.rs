//! What many threads do at once adds up.

use liveness::ManualClock;
use liveness::registry::{Fleet, Policy, Registry};

use super::{Error, s};

/// Many threads beat, register and leave while the clock runs on; what is reported, replayed, gives the same result,
/// and readers never see a list that goes back.
#[test]
fn what_is_told_adds_up_whatever_threads_do() -> Result<(), Error> {
    let clock = ManualClock::new();
    let registry = Registry::<u32, ()>::builder()
        .policy(Policy::Fixed(s(3)))
        .fall(2)
        .forget_after(s(20))
        .clock(clock.clone())
        .build()?;
    let done = std::sync::atomic::AtomicBool::new(false);
    let (mut fleet, updates) = registry.subscribe(1_000_000);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4u32)
            .map(|seed| {
                let registry = &registry;
                scope.spawn(move || {
                    let mut random = fastrand_like(seed);
                    for _ in 0..5_000 {
                        let id = random() % 50;
                        let _ = match random() % 10 {
                            0 => registry.register(id, ()).map(drop).map_err(|it| it.error),
                            1 => registry.leave(&id),
                            2 => registry.drain(&id),
                            3 => registry.undrain(&id),
                            _ => registry.beat(&id),
                        };
                    }
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            let mut version = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let list = registry.available();
                assert!(list.version() >= version, "the list goes back");
                version = list.version();
            }
        });
        for _ in 0..100 {
            clock.advance(s(1));
            registry.flush().expect("it is open");
        }
        for worker in workers {
            worker.join().expect("no panic");
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        reader.join().expect("no panic");
    });
    let picture = |fleet: &Fleet<u32, ()>| {
        let mut nodes: Vec<String> = fleet.iter().map(|it| format!("{it:?}")).collect();
        nodes.sort();
        (fleet.version(), nodes)
    };
    for update in updates.try_iter() {
        fleet.apply(&update)?;
    }
    assert_eq!(picture(&fleet), picture(&registry.fleet()));
    assert_eq!(fleet.listed().count(), registry.available().len());
    // Every watched node goes down: nobody was lost between the threads.
    for _ in 0..700 {
        clock.advance(s(1));
        registry.flush()?;
        registry.flush()?;
    }
    assert_eq!(registry.fleet().len(), 0, "{:?}", registry.stats());
    Ok(())
}

/// Numbers that look random (George Marsaglia, "Xorshift RNGs", 2003).
fn fastrand_like(seed: u32) -> impl FnMut() -> u32 {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state >> 4
    }
}
