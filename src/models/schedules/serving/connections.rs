//! Reactors with their real decisions, on sockets that are pipes in memory: connections that open, are sent to, close
//! and shut down from several threads at once. Each model names faults that it finds when they are put in.

mod model;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use shuttle::thread;

use self::model::{FRAME, Model, Options, Report, frame, messages, numbers};
use super::super::explore;
use crate::server::net::Door;
use crate::server::{Cause, Overflow, SendError};

/// Finds: jobs that are queued in another order; a cause that replaces an earlier one; a report after `Closed`; an
/// agent that accepts messages after its `close`.
#[test]
fn a_connection_opens_first_and_closes_last_for_its_first_cause() {
    explore(
        "a_connection_opens_first_and_closes_last_for_its_first_cause",
        || {
            let model = Model::start(&Options::default(), || ());
            let peer = Model::connect(&model.core, 0, 100);
            let agent = model.agent();
            let is_closed = Arc::new(AtomicBool::new(false));
            let closing = [4_001, 4_002].map(|code| {
                let (agent, is_closed) = (agent.clone(), is_closed.clone());
                thread::spawn(move || {
                    let is_first = !is_closed.load(Ordering::SeqCst);
                    agent.close(code, "");
                    assert!(matches!(agent.send("m", &1), Err(SendError::Closed)));
                    is_closed.store(true, Ordering::SeqCst);
                    is_first.then_some(code)
                })
            });
            (0..3).for_each(|number| peer.write(&frame(number)));
            peer.close();
            let closing = closing.into_iter().filter_map(|it| it.join().unwrap());
            let possible: Vec<u16> = closing.collect();
            let (log, stats) = model.end();
            let handled = messages(&log);
            assert!(
                handled.iter().copied().eq(0..handled.len() as u8),
                "{log:?}"
            );
            let Some((_, Report::Closed(cause, code))) = log.last() else {
                panic!("{log:?}");
            };
            match cause {
                Cause::Eof => assert_eq!(*code, 1_006),
                Cause::App => assert!(possible.contains(code), "{code}"),
                cause => panic!("{cause}"),
            }
            assert_eq!((stats.closed, stats.ended_by(*cause)), (1, 1));
        },
    );
}

/// Finds: commands that are applied whatever the generation of the slot, and frames for a connection that has gone
/// whose bytes are not given back.
#[test]
fn what_is_sent_too_late_reaches_no_other_connection_and_frees_its_bytes() {
    explore(
        "what_is_sent_too_late_reaches_no_other_connection_and_frees_its_bytes",
        || {
            let model = Model::start(&Options::default(), || ());
            let first = Model::connect(&model.core, 0, 100);
            let agent = model.agent();
            let sending = thread::spawn(move || {
                for number in 0..3 {
                    let _ = agent.send("m", &number);
                }
                agent.join("room");
                agent.close(4_001, "");
            });
            first.reset();
            // It gets the slot, unless the first has not been removed.
            let second = Model::connect(&model.core, 0, 100);
            sending.join().unwrap();
            second.write(&frame(7));
            while !model.log.lock().iter().any(|it| it.1 == Report::Message(7)) {
                thread::yield_now();
            }
            assert!(second.output().is_empty());
            let (log, _) = model.end();
            assert!(
                log.contains(&(2, Report::Closed(Cause::Shutdown, 1_001))),
                "{log:?}"
            );
        },
    );
}

/// Finds: an agent that accepts messages until the reactor has seen the overflow; a limit that is checked before the
/// bytes are reserved.
#[test]
fn nothing_is_accepted_after_the_first_refusal() {
    explore("nothing_is_accepted_after_the_first_refusal", || {
        let model = Model::start(&Options::default(), || ());
        let peer = Model::connect(&model.core, 0, 0);
        let agent = model.agent();
        let is_refused = Arc::new(AtomicBool::new(false));
        let sending = [0, 10].map(|first| {
            let (agent, is_refused) = (agent.clone(), is_refused.clone());
            thread::spawn(move || {
                let mut accepted = 0;
                for number in first..first + 4 {
                    let was_refused = is_refused.load(Ordering::SeqCst);
                    match agent.send("m", &number) {
                        Ok(()) => {
                            assert!(!was_refused, "{number} slipped in");
                            accepted += 1;
                        }
                        Err(SendError::Full) => {
                            assert!(!was_refused, "{number} was refused again");
                            is_refused.store(true, Ordering::SeqCst);
                        }
                        Err(error) => assert!(matches!(error, SendError::Closed)),
                    }
                    assert!(agent.queued() <= 3 * FRAME);
                }
                accepted
            })
        });
        let accepted: usize = sending.into_iter().map(|it| it.join().unwrap()).sum();
        // One more may be on its way while the other thread is refused.
        assert!(accepted <= 4, "{accepted} fit");
        assert!(is_refused.load(Ordering::SeqCst));
        peer.take(100);
        let (log, _) = model.end();
        assert!(
            log.contains(&(1, Report::Closed(Cause::SlowConsumer, 1_013))),
            "{log:?}"
        );
    });
}

/// Finds: room that is not announced after a write; an end that is not announced; a sender that counts itself as
/// waiting after it has looked for room.
#[test]
fn a_sender_that_waits_for_room_is_woken_by_a_write_or_by_the_end() {
    explore(
        "a_sender_that_waits_for_room_is_woken_by_a_write_or_by_the_end",
        || {
            let options = Options {
                overflow: Overflow::Block(Duration::MAX),
                ..Options::default()
            };
            let model = Model::start(&options, || ());
            let peer = Model::connect(&model.core, 0, 0);
            let agent = model.agent();
            let sending = [0, 10].map(|first| {
                let agent = agent.clone();
                thread::spawn(move || {
                    let sent = (first..first + 3).take_while(|it| agent.send("m", it).is_ok());
                    sent.count()
                })
            });
            // Three of six fit, the others wait. The peer takes one, and the end releases what waits then.
            let fill = || {
                while agent.queued() < 3 * FRAME {
                    thread::yield_now();
                }
            };
            fill();
            peer.take(FRAME);
            fill();
            agent.close(4_001, "");
            let sent: usize = sending.into_iter().map(|it| it.join().unwrap()).sum();
            peer.take(100);
            peer.close();
            let (log, _) = model.end();
            let output = numbers(&peer.output());
            assert!(output.len() <= sent, "{output:?}, {sent} sent, {log:?}");
            for first in [0, 10] {
                let of_one = output
                    .iter()
                    .filter(|&&it| (first..first + 3).contains(&it));
                assert!(
                    of_one
                        .copied()
                        .enumerate()
                        .all(|(at, it)| it == first + at as u8)
                );
            }
        },
    );
}

/// Finds: a resume that is obeyed although the strand has become full again, so that nothing bounds what is read; and a
/// full strand whose resume is never asked for.
#[test]
fn a_full_strand_is_read_again_and_never_far_beyond_its_room() {
    explore(
        "a_full_strand_is_read_again_and_never_far_beyond_its_room",
        || {
            const MESSAGES: u8 = 64;
            let options = Options {
                inbound: 4,
                ..Options::default()
            };
            let [handled, allowed] = [0; 2].map(|_| Arc::new(AtomicUsize::new(0)));
            let model = Model::start(&options, {
                let (handled, allowed) = (handled.clone(), allowed.clone());
                move || {
                    let number = handled.fetch_add(1, Ordering::SeqCst);
                    while number >= allowed.load(Ordering::SeqCst) {
                        thread::yield_now();
                    }
                }
            });
            let peer = Model::connect(&model.core, 0, 100);
            let all: Vec<u8> = (0..MESSAGES).flat_map(frame).collect();
            peer.write(&all);
            while handled.load(Ordering::SeqCst) < usize::from(MESSAGES) {
                // A handler stands still, and the reactor reads what it may.
                (0..50).for_each(|_| thread::yield_now());
                let taken = usize::from(MESSAGES) - peer.unread().div_ceil(FRAME);
                let done = handled.load(Ordering::SeqCst);
                // Three that wait, 16 that a round reads, and two that a thread has taken.
                assert!(taken <= done + 21, "{taken} read, {done} handled");
                allowed.fetch_add(7, Ordering::SeqCst);
            }
            allowed.store(usize::MAX, Ordering::SeqCst);
            let (log, _) = model.end();
            assert!(messages(&log).into_iter().eq(0..MESSAGES), "{log:?}");
        },
    );
}

/// Finds: a connection that ends with the direction of its peer; an end of a strand that is not reported, and one that
/// is reported before the last answer is sent.
#[test]
fn a_peer_that_ends_its_direction_gets_all_answers() {
    explore("a_peer_that_ends_its_direction_gets_all_answers", || {
        let options = Options {
            answers: true,
            ..Options::default()
        };
        let model = Model::start(&options, || ());
        let peer = Model::connect(&model.core, 0, 100);
        (0..3).for_each(|number| peer.write(&frame(number)));
        peer.close();
        // No deadline passes, because time stands still.
        let end = (1, Report::Closed(Cause::Eof, 1_006));
        while model.log.lock().last() != Some(&end) {
            thread::yield_now();
        }
        let log = model.log.lock().clone();
        assert_eq!(numbers(&peer.output()), [0, 1, 2], "{log:?}");
        let (log, _) = model.end();
        assert_eq!(messages(&log), [0, 1, 2]);
    });
}

/// Finds: a reactor that ends without closing its inbox, or without counting what is left in it.
#[test]
fn a_shutdown_meets_connections_sends_and_messages_to_all() {
    explore(
        "a_shutdown_meets_connections_sends_and_messages_to_all",
        || {
            let options = Options {
                reactors: 2,
                ..Options::default()
            };
            let mut model = Model::start(&options, || ());
            let _peer = Model::connect(&model.core, 0, 100);
            let agent = model.agent();
            let connecting = {
                let core = model.core.clone();
                thread::spawn(move || {
                    let peers = [1, 0].map(|index| Model::connect(&core, index, FRAME));
                    peers[0].write(&frame(1));
                })
            };
            let sending = {
                let agent = agent.clone();
                thread::spawn(move || {
                    for number in 0..2 {
                        let _ = agent.send("m", &number);
                        let _ = agent.broadcast("m", &number);
                    }
                })
            };
            model.stop();
            connecting.join().unwrap();
            sending.join().unwrap();
            assert!(matches!(agent.send("m", &9), Err(SendError::Closed)));
            assert!(matches!(agent.broadcast("m", &9), Err(SendError::Closed)));
            // What came after the end was refused.
            let (_, stats) = model.check();
            assert_eq!((stats.accepted, stats.refused + stats.closed), (3, 3));
        },
    );
}

/// Finds: reactors that are asked to close before the listener is closed, or before its end is known; a listener that
/// stays open.
#[test]
fn a_shutdown_meets_arrivals_and_leaves_none_to_a_reactor_that_has_ended() {
    explore(
        "a_shutdown_meets_arrivals_and_leaves_none_to_a_reactor_that_has_ended",
        || {
            let door = Door::default();
            let options = Options {
                reactors: 2,
                door: Some(door.clone()),
                ..Options::default()
            };
            let mut model = Model::start(&options, || ());
            let arriving = [0; 2].map(|_| {
                let door = door.clone();
                thread::spawn(move || {
                    let peers = (0..2).filter_map(|_| door.enter(100));
                    peers.collect::<Vec<_>>()
                })
            });
            model.stop();
            assert!(door.enter(100).is_none(), "it still listens");
            let peers = arriving.into_iter().flat_map(|it| it.join().unwrap());
            assert!(peers.into_iter().all(|peer| peer.is_over()));
            let (_, stats) = model.check();
            // What no reactor takes has no cause.
            let ended: u64 = Cause::ALL.iter().map(|it| stats.ended_by(*it)).sum();
            assert_eq!(ended, stats.accepted, "{stats:?}");
        },
    );
}
