//! A server without listeners: real reactors, handler threads and agents, on sockets that are pipes in memory.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ahash::HashMap;
use parking_lot::Mutex as Plain;
use shuttle::thread::{self, JoinHandle};

use crate::ManualClock;
use crate::clock::Clock;
use crate::server::agent::Agent;
use crate::server::channel::Layer;
use crate::server::core::{Core, Handle, Program, Route};
use crate::server::desk::Supervisor;
use crate::server::face::close_all;
use crate::server::hub::{Command, Hub, HubOptions, Port};
use crate::server::inbox::Wake;
use crate::server::net::{Door, Peer, Poll, TcpStream, Waker};
use crate::server::pool::Pool;
use crate::server::reactor::{ConnectionLimits, Listener, Reactor, Start, WAKER};
use crate::server::session::Settings;
use crate::server::strand::Room;
use crate::server::{
    Cause, Codec, Decode, DecodeError, Encode, EncodeError, Envelope, Fault, Framing, Head,
    Overflow, ServerStats, Shutdown,
};

/// Messages of a letter and a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Tiny;

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
pub(super) const FRAME: usize = 4;

/// Returns the frame of the message `m` with `number`.
pub(super) fn frame(number: u8) -> [u8; FRAME] {
    [0, 2, b'm', number]
}

/// What was reported of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Report {
    Opened,
    Message(u8),
    Closed(Cause, u16),
}

/// What was reported, with the numbers of the agents.
pub(super) type Log = Arc<Plain<Vec<(u64, Report)>>>;

/// A server without listeners.
pub(super) struct Model {
    pub(super) core: Arc<Core<Tiny, ()>>,
    pub(super) log: Log,
    pub(super) reactors: Vec<JoinHandle<()>>,
    pub(super) handlers: Vec<JoinHandle<()>>,
}

/// Options of a model.
pub(super) struct Options {
    pub(super) reactors: usize,
    pub(super) outbound: usize,
    pub(super) overflow: Overflow,
    pub(super) inbound: usize,
    /// The way to the listener of WebSockets, if there is one.
    pub(super) door: Option<Door>,
    pub(super) answers: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            reactors: 1,
            outbound: 3 * FRAME,
            overflow: Overflow::Close,
            inbound: 8,
            door: None,
            answers: false,
        }
    }
}

impl Model {
    /// Starts the reactors and two handler threads. `handled` is called after each message.
    pub(super) fn start(options: &Options, handled: impl Fn() + Send + Sync + 'static) -> Self {
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
        let answers = options.answers;
        let handle: Handle<Tiny, ()> = Box::new(move |agent, codec, body, _| {
            let number = u8::decode(codec, body)?;
            message(agent, Report::Message(number));
            if answers {
                agent.send("m", &number).unwrap();
            }
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
        let listener = options.door.as_ref().map(Door::listener);
        let mut listeners = listener
            .map(|it| Listener::of(it, Port::WebSocket))
            .into_iter();
        let reactors = polls.into_iter().enumerate().map(|(index, poll)| {
            let start = Start {
                index,
                poll,
                core: core.clone(),
                settings: settings.clone(),
                listeners: listeners.next().into_iter().collect(),
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
    pub(super) fn connect(core: &Core<Tiny, ()>, index: usize, room: usize) -> Peer {
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
    pub(super) fn agent(&self) -> Agent<Tiny, ()> {
        loop {
            if let Some(agent) = self.core.agents.lock().values().next() {
                return agent.clone();
            }
            thread::yield_now();
        }
    }

    /// Cuts what is open, ends the threads, and checks what holds of every server at its end.
    pub(super) fn end(mut self) -> (Vec<(u64, Report)>, ServerStats) {
        self.stop();
        self.check()
    }

    /// Cuts what is open, and ends the threads.
    pub(super) fn stop(&mut self) {
        let at_once = Shutdown::within(Duration::ZERO);
        close_all(&self.core.hub, at_once, Instant::now());
        self.reactors.drain(..).for_each(|it| it.join().unwrap());
        assert_eq!(self.core.pool.close(Duration::MAX), 0);
        self.handlers.drain(..).for_each(|it| it.join().unwrap());
    }

    /// Returns what was reported, and checks what holds of every server at its end.
    pub(super) fn check(&self) -> (Vec<(u64, Report)>, ServerStats) {
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
pub(super) fn messages(log: &[(u64, Report)]) -> Vec<u8> {
    let number = |it: &(u64, Report)| match it.1 {
        Report::Message(number) => Some(number),
        _ => None,
    };
    log.iter().filter_map(number).collect()
}

/// Returns the numbers of the messages `m` in `output`.
pub(super) fn numbers(output: &[u8]) -> Vec<u8> {
    let frames = output.chunks(FRAME).filter(|it| it[2] == b'm');
    frames.map(|it| it[3]).collect()
}
