//! Reactors with their real decisions, on sockets that are pipes in memory: connections that open, are sent to, close
//! and shut down from several threads at once. Each model names faults that it finds when they are put in.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ahash::HashMap;
use parking_lot::Mutex as Plain;
use shuttle::thread::{self, JoinHandle};

use super::super::explore;
use crate::ManualClock;
use crate::clock::Clock;
use crate::server::agent::Agent;
use crate::server::channel::Layer;
use crate::server::core::{Core, Handle, Program, Route};
use crate::server::desk::Supervisor;
use crate::server::hub::{Command, Hub, HubOptions, Port};
use crate::server::inbox::Wake;
use crate::server::net::{Peer, Poll, TcpStream, Waker};
use crate::server::pool::Pool;
use crate::server::reactor::{ConnectionLimits, Reactor, Start, WAKER};
use crate::server::session::Settings;
use crate::server::strand::Room;
use crate::server::{
    Cause, Codec, Decode, DecodeError, Encode, EncodeError, Envelope, Fault, Framing, Head,
    Overflow, SendError, ServerStats,
};

/// Messages of a letter and a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Tiny;

impl Codec for Tiny {
    fn subprotocol(self) -> &'static str {
        "tiny"
    }

    fn is_text(self) -> bool {
        false
    }

    fn split(self, message: &[u8]) -> Result<Envelope<'_>, DecodeError> {
        let (name, body) = message.split_at(1);
        Ok(Envelope {
            name: String::from_utf8_lossy(name),
            body,
            id: None,
            re: None,
        })
    }

    fn join(
        self,
        head: Head<'_>,
        out: &mut Vec<u8>,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        out.push(head.name.as_bytes()[0]);
        body(out)
    }

    fn empty(self) -> &'static [u8] {
        b"\0"
    }

    fn join_fault(
        self,
        _: &Fault,
        _: Option<NonZeroU64>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        out.extend_from_slice(b"E\0");
        Ok(())
    }

    fn split_fault(self, _: &[u8]) -> Option<Fault> {
        None
    }
}

impl Encode<Tiny> for u8 {
    fn encode(&self, _: Tiny, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.push(*self);
        Ok(())
    }
}

impl Decode<Tiny> for u8 {
    fn decode(_: Tiny, body: &[u8]) -> Result<Self, DecodeError> {
        body.first()
            .copied()
            .ok_or_else(|| DecodeError::new("empty"))
    }
}

/// A frame: its length, a letter, and a number.
const FRAME: usize = 4;

/// Returns the frame of the message `m` with `number`.
fn frame(number: u8) -> [u8; FRAME] {
    [0, 2, b'm', number]
}

/// What was reported of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Report {
    Opened,
    Message(u8),
    Closed(Cause, u16),
}

/// What was reported, with the numbers of the agents.
type Log = Arc<Plain<Vec<(u64, Report)>>>;

/// A server without listeners.
struct Model {
    core: Arc<Core<Tiny, ()>>,
    log: Log,
    reactors: Vec<JoinHandle<()>>,
    handlers: Vec<JoinHandle<()>>,
}

/// Options of a model.
struct Options {
    reactors: usize,
    outbound: usize,
    overflow: Overflow,
    inbound: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            reactors: 1,
            outbound: 3 * FRAME,
            overflow: Overflow::Close,
            inbound: 8,
        }
    }
}

impl Model {
    /// Starts the reactors and two handler threads. `handled` is called after each message.
    fn start(options: &Options, handled: impl Fn() + Send + Sync + 'static) -> Self {
        let clock = Clock::from(ManualClock::new());
        let log = Log::default();
        let polls: Vec<_> = (0..options.reactors)
            .map(|_| Poll::new().unwrap())
            .collect();
        let waker = |poll: &Poll| -> Box<dyn Wake> {
            Box::new(Waker::new(poll.registry(), WAKER).unwrap())
        };
        let hub = Hub::new(
            polls.iter().map(waker).collect(),
            HubOptions {
                clock,
                max_buffered: 1 << 10,
                outbound: options.outbound,
                overflow: options.overflow,
            },
        );
        let entry = |log: &Log| {
            let log = log.clone();
            move |agent: &Agent<Tiny, ()>, report| log.lock().push((agent.id().get(), report))
        };
        let [message, opened, closed] = [0; 3].map(|_| entry(&log));
        let handle: Handle<Tiny, ()> = Box::new(move |agent, codec, body, _| {
            message(agent, Report::Message(u8::decode(codec, body)?));
            handled();
            Ok(())
        });
        let name: Arc<str> = "m".into();
        let program = Program {
            routes: vec![Route {
                name: name.clone(),
                is_inline: false,
                handle,
            }],
            by_name: HashMap::from_iter([(name, 0)]),
            pages: HashMap::default(),
            first_data: || (),
            authorize: None,
            opened: Some(Box::new(move |agent| opened(agent, Report::Opened))),
            closed: Some(Box::new(move |agent, it| {
                closed(agent, Report::Closed(it.cause, it.code));
            })),
            names: ["authorize", "opened", "closed"].map(Into::into),
        };
        let room = Room {
            jobs: options.inbound,
            bytes: 1 << 10,
        };
        let core = Arc::new(Core {
            hub: Arc::new(hub),
            program,
            agents: Plain::default(),
            pool: Arc::new(Pool::new(2, room, usize::MAX)),
            supervisor: Supervisor::idle(),
        });
        let handlers = [0; 2].map(|_| {
            let core = core.clone();
            thread::spawn(move || {
                core.hub.mark_thread(false);
                core.supervisor.sit_at(core.supervisor.seat(String::new()));
                core.pool.work();
            })
        });
        let mut settings = Settings::default();
        settings.limits.outbound = options.outbound;
        settings.limits.overflow = options.overflow;
        let settings = Arc::new(settings);
        let reactors = polls.into_iter().enumerate().map(|(index, poll)| {
            let start = Start {
                index,
                poll,
                core: core.clone(),
                settings: settings.clone(),
                listeners: Vec::new(),
                limits: ConnectionLimits {
                    max_connections: 100,
                    max_handshaking: 100,
                    per_ip: None,
                    nodelay: true,
                },
                desk: core.supervisor.seat(String::new()),
            };
            let reactor = Reactor::new(start).unwrap();
            thread::spawn(move || reactor.run())
        });
        Model {
            reactors: reactors.collect(),
            handlers: handlers.into(),
            core,
            log,
        }
    }

    /// Connects to the reactor `index`, as its listener would let.
    fn connect(core: &Core<Tiny, ()>, index: usize, room: usize) -> Peer {
        let (stream, peer) = TcpStream::pair(room);
        let address: SocketAddr = "192.0.2.1:50000".parse().unwrap();
        let mut stats = core.hub.stats.lock();
        stats.accepted += 1;
        stats.handshaking += 1;
        drop(stats);
        core.hub.loads[index].fetch_add(1, Ordering::Relaxed);
        let channel = Layer::default().wrap(stream);
        let adopt = Command::Adopt(channel, address, Port::Tcp(Framing::U16));
        if core.hub.inboxes[index].push(adopt).is_err() {
            let mut stats = core.hub.stats.lock();
            stats.handshaking -= 1;
            stats.refused += 1;
        }
        peer
    }

    /// Waits for the only agent.
    fn agent(&self) -> Agent<Tiny, ()> {
        loop {
            if let Some(agent) = self.core.agents.lock().values().next() {
                return agent.clone();
            }
            thread::yield_now();
        }
    }

    /// Cuts what is open, ends the threads, and checks what holds of every server at its end.
    fn end(mut self) -> (Vec<(u64, Report)>, ServerStats) {
        self.stop();
        self.check()
    }

    /// Cuts what is open, and ends the threads.
    fn stop(&mut self) {
        for inbox in &self.core.hub.inboxes {
            inbox
                .push(Command::Shutdown(Duration::ZERO, Instant::now()))
                .unwrap();
        }
        self.reactors.drain(..).for_each(|it| it.join().unwrap());
        assert_eq!(self.core.pool.close(Duration::MAX), 0);
        self.handlers.drain(..).for_each(|it| it.join().unwrap());
    }

    /// Returns what was reported, and checks what holds of every server at its end.
    fn check(&self) -> (Vec<(u64, Report)>, ServerStats) {
        let hub = &self.core.hub;
        let stats = hub.stats.lock().clone();
        assert!(stats.is_balanced(), "{stats:?}");
        assert_eq!(
            (stats.handshaking, stats.open, stats.closing, stats.reported),
            (0, 0, 0, 0)
        );
        assert_eq!((stats.panics, hub.buffered.load(Ordering::SeqCst)), (0, 0));
        assert_eq!(hub.publishing.load(Ordering::SeqCst), 0);
        assert!(self.core.agents.lock().is_empty());
        let log = self.log.lock().clone();
        for agent in log.iter().map(|it| it.0) {
            let reports = log.iter().filter(|it| it.0 == agent).map(|it| &it.1);
            let reports: Vec<_> = reports.collect();
            let is = |what: fn(&Report) -> bool| reports.iter().filter(|it| what(it)).count();
            let is_closed = |it: &Report| matches!(it, Report::Closed(..));
            assert_eq!(*reports[0], Report::Opened, "{log:?}");
            assert!(is_closed(reports[reports.len() - 1]), "{log:?}");
            assert_eq!(is(|it| *it == Report::Opened), 1, "{log:?}");
            assert_eq!(is(|it| matches!(it, Report::Closed(..))), 1, "{log:?}");
        }
        (log, stats)
    }
}

/// Returns the numbers of the messages that were handled, in their order.
fn messages(log: &[(u64, Report)]) -> Vec<u8> {
    let number = |it: &(u64, Report)| match it.1 {
        Report::Message(number) => Some(number),
        _ => None,
    };
    log.iter().filter_map(number).collect()
}

/// Returns the numbers of the messages `m` in `output`.
fn numbers(output: &[u8]) -> Vec<u8> {
    let frames = output.chunks(FRAME).filter(|it| it[2] == b'm');
    frames.map(|it| it[3]).collect()
}

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
            assert_eq!(second.output(), []);
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
