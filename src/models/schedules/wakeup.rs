//! A worker that goes to sleep finds messages that arrive meanwhile, or is woken. A lost wake-up is a deadlock here,
//! because nothing else ends the sleep of a worker whose clock stands still.

use std::sync::{Arc, Weak};
use std::time::Duration;

use shuttle::sync::mpsc;
use shuttle::thread;

use super::{builder, explore, quiet};
use crate::clock::Clock;
use crate::table::{Beat, Tag};
use crate::watcher::inbox::{Inbox, Message, Patience};
use crate::{EventKind, ManualClock};

/// Senders and a worker's side of one inbox, without a worker: `sends` are the due times of the messages of each
/// sender, and the receiving side sleeps until 1,000 ns whenever it finds nothing, until it has all but `left` of them.
fn meet(capacity: usize, sends: &[&'static [u64]], left: usize) {
    let (inbox, receiver) = Inbox::<u64, ()>::new(capacity);
    let inbox = Arc::new(inbox);
    let sent: usize = sends.iter().map(|dues| dues.len()).sum();
    let expected = sent - left;
    let receiving = thread::spawn({
        let inbox = inbox.clone();
        move || {
            inbox.enter();
            let clock = Clock::from(ManualClock::new());
            let (mut taken, mut emptied) = (Vec::new(), Vec::new());
            let mut count = 0;
            while count < expected {
                inbox.take(&receiver, &mut taken, &mut emptied);
                count += taken.iter().map(Vec::len).sum::<usize>();
                for mut chunk in taken.drain(..) {
                    chunk.clear();
                    emptied.push(chunk);
                }
                if count < expected {
                    inbox.sleep(&receiver, &clock, 1_000, false, || false);
                }
            }
            // Senders may not have finished.
            receiver
        }
    });
    let senders: Vec<_> = sends
        .iter()
        .map(|&dues| {
            let inbox = inbox.clone();
            thread::spawn(move || {
                for &due in dues {
                    let beat = Message::Beat(Beat::plain(Tag(0), 0, due));
                    assert!(inbox.send(beat, due, Patience::Forever).is_ok());
                }
            })
        })
        .collect();
    let receiver = receiving.join().unwrap();
    for sender in senders {
        sender.join().unwrap();
    }
    drop(receiver);
}

#[test]
fn a_nearer_deadline_ends_the_sleep() {
    // The last message of each sender is due before the sleep ends; the others are not.
    explore("a_nearer_deadline_ends_the_sleep", || {
        meet(100, &[&[2_000, 999], &[2_000, 2_000, 500]], 0);
    });
}

#[test]
fn a_half_full_inbox_ends_the_sleep() {
    // Nothing is due before the sleep ends, but four are half of eight; fewer may wait.
    explore("a_half_full_inbox_ends_the_sleep", || {
        meet(8, &[&[2_000; 4], &[2_000; 4]], 3);
    });
}

#[test]
fn a_sender_without_room_ends_the_sleep() {
    explore("a_sender_without_room_ends_the_sleep", || {
        meet(1, &[&[2_000; 3], &[2_000; 3]], 0);
    });
}

#[test]
fn a_beat_that_somebody_waits_for_is_told() {
    explore("a_beat_that_somebody_waits_for_is_told", || {
        let (told, is_told) = mpsc::channel();
        let watcher = builder(&ManualClock::new(), 1, 16)
            .events([EventKind::Joined])
            .on_event_in_worker(move |event| told.send(event.key().copied()).unwrap())
            .build()
            .unwrap();
        let watcher = Arc::new(watcher);
        let beating = [1u64, 2].map(|key| {
            let watcher = watcher.clone();
            thread::spawn(move || {
                watcher.beat(key).unwrap();
                watcher.beat(key + 10).unwrap();
            })
        });
        let mut keys: Vec<_> = (0..4).map(|_| is_told.recv().unwrap()).collect();
        keys.sort_unstable();
        assert_eq!(keys, [Some(1), Some(2), Some(11), Some(12)]);
        for beating in beating {
            beating.join().unwrap();
        }
        assert_eq!(quiet(watcher.close()).started, 4);
    });
}

#[test]
fn moving_the_clock_ends_the_sleep() {
    // Few steps, so that the clock is moved at each place of the way to sleep.
    explore("moving_the_clock_ends_the_sleep", || {
        let manual = ManualClock::new();
        let (inbox, receiver) = Inbox::<u64, ()>::new(8);
        let inbox = Arc::new(inbox);
        let ringer: Weak<Inbox<u64, ()>> = Arc::downgrade(&inbox);
        let clock = Clock::from(manual.clone());
        clock.ring_on_advance(ringer);
        let sleeping = thread::spawn(move || {
            inbox.enter();
            while clock.now_ns() < 1_000 {
                inbox.sleep(&receiver, &clock, 1_000, false, || false);
            }
        });
        manual.advance(Duration::from_nanos(999));
        manual.advance(Duration::from_nanos(1));
        sleeping.join().unwrap();
    });
}

#[test]
fn moving_the_clock_alone_reports_what_is_due() {
    explore("moving_the_clock_alone_reports_what_is_due", || {
        let clock = ManualClock::new();
        let (told, is_told) = mpsc::channel();
        let watcher = builder(&clock, 2, 16)
            .on_event_in_worker({
                let clock = clock.clone();
                move |event| {
                    // On a worker: that one is rung too.
                    clock.advance(super::TIMEOUT);
                    told.send(event.key().copied()).unwrap();
                }
            })
            .build()
            .unwrap();
        watcher.beat_many([1u64, 2, 3]).unwrap();
        let moving = [super::TIMEOUT / 2, super::TIMEOUT / 2].map(|by| {
            let clock = clock.clone();
            thread::spawn(move || clock.advance(by))
        });
        let mut keys: Vec<_> = (0..3).map(|_| is_told.recv().unwrap()).collect();
        keys.sort_unstable();
        assert_eq!(keys, [Some(1), Some(2), Some(3)]);
        for moving in moving {
            moving.join().unwrap();
        }
        assert_eq!(quiet(watcher.close()).delivered, 3);
    });
}

#[test]
fn a_clock_may_be_moved_while_its_watcher_goes() {
    explore("a_clock_may_be_moved_while_its_watcher_goes", || {
        let clock = ManualClock::new();
        let watcher = builder(&clock, 1, 16).build().unwrap();
        watcher.beat(1u64).unwrap();
        let moving = thread::spawn({
            let clock = clock.clone();
            move || {
                clock.advance(super::TIMEOUT);
                clock.advance(super::TIMEOUT);
            }
        });
        quiet(watcher.close());
        moving.join().unwrap();
    });
}

#[test]
fn room_in_the_outbox_wakes_the_worker_that_waits_for_it() {
    explore(
        "room_in_the_outbox_wakes_the_worker_that_waits_for_it",
        || {
            let clock = ManualClock::new();
            let (told, is_told) = mpsc::channel();
            let watcher = builder(&clock, 1, 64)
                .on_event(move |event| told.send(event.key().copied()).unwrap())
                .build()
                .unwrap();
            // Three times as many as the outbox has room for in models.
            watcher.beat_many(0..6u64).unwrap();
            clock.advance(super::TIMEOUT);
            watcher.flush().unwrap();
            for _ in 0..6 {
                is_told.recv().unwrap();
            }
            assert_eq!(quiet(watcher.close()).delivered, 6);
        },
    );
}
