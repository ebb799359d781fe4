//! The protocol of sleep and wake-up, and of the close. A thread that is never woken is a deadlock.

use std::sync::Arc;

use crossbeam_channel::Receiver;
use loom::thread;

use super::explore;
use crate::ManualClock;
use crate::clock::{Clock, NEVER};
use crate::error::BeatErrorKind;
use crate::table::{Beat, Tag};
use crate::watcher::inbox::{Inbox, Message, Messages, Patience, Phase};

/// Sends a beat that is due at `due`, with unlimited patience.
fn send(inbox: &Inbox<u64, ()>, due: u64) -> Result<(), BeatErrorKind> {
    let beat = Message::Beat(Beat::plain(Tag(0), 0, due));
    let sent = inbox.send(beat, due, Patience::Forever);
    sent.map_err(|(kind, _)| kind)
}

/// Takes and sleeps until `until` as a worker does, until `is_over` says so of the number of messages taken, and
/// returns that.
fn receive(
    inbox: &Inbox<u64, ()>,
    receiver: &Receiver<Messages<u64, ()>>,
    until: u64,
    is_over: impl Fn(usize) -> bool,
) -> usize {
    inbox.enter();
    let clock = Clock::from(ManualClock::new());
    let (mut taken, mut emptied) = (Vec::new(), Vec::new());
    let mut count = 0;
    loop {
        // As the worker: what was accepted before the phase changed is there by the time that this is seen.
        let is_closing = inbox.phase() != Phase::Open;
        inbox.take(receiver, &mut taken, &mut emptied);
        count += taken.iter().map(Vec::len).sum::<usize>();
        taken.clear();
        if is_closing || is_over(count) {
            return count;
        }
        inbox.sleep(receiver, &clock, until, false, || false);
    }
}

#[test]
fn a_nearer_deadline_ends_the_sleep() {
    explore(2, || {
        let (inbox, receiver) = Inbox::new(100);
        let inbox = Arc::new(inbox);
        let senders = [999, 500].map(|due| {
            let inbox = inbox.clone();
            thread::spawn(move || send(&inbox, due).unwrap())
        });
        assert_eq!(receive(&inbox, &receiver, 1_000, |count| count == 2), 2);
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

#[test]
fn a_sender_without_room_ends_the_sleep_and_is_let_go() {
    explore(2, || {
        let (inbox, receiver) = Inbox::new(1);
        let inbox = Arc::new(inbox);
        let sender = thread::spawn({
            let inbox = inbox.clone();
            move || {
                for _ in 0..2 {
                    send(&inbox, NEVER).unwrap();
                }
            }
        });
        assert_eq!(receive(&inbox, &receiver, 1_000, |count| count == 2), 2);
        sender.join().unwrap();
    });
}

#[test]
fn close_ends_every_wait_and_what_was_accepted_is_taken() {
    explore(2, || {
        let (inbox, receiver) = Inbox::new(1);
        let inbox = Arc::new(inbox);
        let sender = thread::spawn({
            let inbox = inbox.clone();
            move || {
                let sent = [send(&inbox, NEVER), send(&inbox, NEVER)];
                let refused = sent.iter().filter_map(|sent| sent.err());
                assert!(refused.clone().all(|kind| kind == BeatErrorKind::Closed));
                2 - refused.count()
            }
        });
        let closer = thread::spawn({
            let inbox = inbox.clone();
            move || inbox.close()
        });
        let taken = receive(&inbox, &receiver, NEVER, |_| false);
        closer.join().unwrap();
        assert_eq!(sender.join().unwrap(), taken);
    });
}
