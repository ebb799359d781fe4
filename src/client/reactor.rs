//! The thread that owns the sockets of all clients of a process, and the threads that run their handlers.
//!
//! They are started with the first client and end with the last one. As in a server, a round reads before it judges,
//! and the socket of a silent server is read once more before the verdict.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ahash::HashMap;
use crossbeam_channel::{Sender, unbounded};
use mio::{Events, Poll, Registry, Token, Waker};
use parking_lot::Mutex;

use super::job::Job;
use crate::clock::{Clock, Timestamp};
use crate::local::LocalWatcher;
use crate::server::channel::Scratch;
use crate::server::inbox::Inbox;
use crate::server::pool::{self, Owner, Pool, Turn};
use crate::server::session::Kind;
use crate::server::strand::{self, Place, Room};

/// The token of the waker.
const WAKER: Token = Token(usize::MAX);

/// The most events of the operating system in a round.
const EVENTS: usize = 1_024;

/// How many bytes are read from a socket in a round before others have their turn.
pub(super) const READ: usize = 64 << 10;

/// How late a round may be before expiry is held back.
const STALL: Duration = Duration::from_millis(100);

/// The longest sleep.
const LONGEST_SLEEP: Duration = Duration::from_secs(3_600);

/// The threads that run the handlers of all clients.
const HANDLERS: usize = 4;

/// How much of one client waits for them before its socket is no longer read.
const ROOM: Room = Room {
    jobs: 64,
    bytes: 256 << 10,
};

/// A time to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Timer {
    /// One of the session.
    Session(Kind),
    /// The end of a wait, or of an attempt.
    Dial,
}

/// The deadlines of all clients.
pub(super) type Deadlines = LocalWatcher<(u64, Timer)>;

/// What the reactor is asked for.
pub(super) enum Command {
    /// Take this client.
    Add(Box<dyn Member>),
    /// Look at the queue of a client.
    Look(u64),
    /// Close a client.
    Close(u64),
    /// Read on.
    Resume(u64),
    /// Go on with the addresses of a host.
    Resolved(u64, io::Result<Vec<SocketAddr>>),
}

/// What the clients of a process share.
pub(super) struct Hub {
    /// The queue of the reactor.
    pub(super) inbox: Inbox<Command>,
    /// The threads that run handlers.
    pub(super) pool: Arc<Pool<Seat>>,
    /// The time source.
    pub(super) clock: Clock,
}

/// The hub of the process, while there are clients. The reactor ends, and clients are added, under this lock.
static HUB: Mutex<Option<Arc<Hub>>> = Mutex::new(None);

/// The number of the next client.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

std::thread_local! {
    /// Whether this thread is a reactor of clients.
    static IS_REACTOR: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Returns whether this thread is the reactor, on which nothing may wait for it.
pub(super) fn is_reactor() -> bool {
    IS_REACTOR.get()
}

/// Gives the reactor the client that `make` makes with its number, and starts the reactor if there is none.
///
/// # Errors
///
/// Returns that a thread or the event queue cannot be created.
pub(super) fn add<R>(make: impl FnOnce(u64, Arc<Hub>) -> (Box<dyn Member>, R)) -> io::Result<R> {
    let mut current = HUB.lock();
    let hub = match &*current {
        Some(hub) => hub.clone(),
        None => current.insert(start()?).clone(),
    };
    let (member, result) = make(NEXT_ID.fetch_add(1, Ordering::Relaxed), hub.clone());
    // The reactor closes its inbox under the lock.
    let _ = hub.inbox.push(Command::Add(member));
    Ok(result)
}

/// Starts the threads.
fn start() -> io::Result<Arc<Hub>> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    let hub = Arc::new(Hub {
        inbox: Inbox::new(Box::new(waker)),
        pool: Arc::new(Pool::new(HANDLERS, ROOM, usize::MAX)),
        clock: Clock::default(),
    });
    let deadlines = LocalWatcher::builder().build().map_err(io::Error::other)?;
    for index in 0..HANDLERS {
        let work = hub.clone();
        let named = thread::Builder::new().name(format!("client-handler-{index}"));
        if let Err(error) = named.spawn(move || work.pool.work()) {
            // Those that run end at once.
            hub.pool.close(Duration::ZERO);
            return Err(error);
        }
    }
    let reactor = Reactor {
        poll,
        hub: hub.clone(),
        members: HashMap::default(),
        deadlines,
        names: None,
        dirty: Vec::new(),
        again: Vec::new(),
        runnable: Vec::new(),
        scratch: Scratch::new(READ),
        now: hub.clock.now(),
    };
    let named = thread::Builder::new().name("client-reactor".to_owned());
    if let Err(error) = named.spawn(move || reactor.run()) {
        hub.pool.close(Duration::ZERO);
        return Err(error);
    }
    Ok(hub)
}

/// What a member works with.
pub(super) struct Context<'a> {
    /// Where sockets are registered.
    pub(super) registry: &'a Registry,
    /// The deadlines.
    pub(super) deadlines: &'a mut Deadlines,
    /// The time of this round.
    pub(super) now: Timestamp,
    /// Where input is read to.
    pub(super) scratch: &'a mut Scratch,
    /// The strands that have something to do.
    pub(super) runnable: &'a mut Runnable,
    /// The thread that looks names up.
    names: &'a mut Option<Sender<(u64, String, u16)>>,
    /// The hub.
    hub: &'a Arc<Hub>,
}

impl Context<'_> {
    /// Looks the addresses of `host` up for the client `id`, on a thread of their own: names wait for one another, but
    /// nothing else waits for them. The answer is [`Command::Resolved`].
    pub(super) fn resolve(&mut self, id: u64, host: &str, port: u16) {
        let question = (id, host.to_owned(), port);
        let question = match self.names {
            Some(names) => match names.send(question) {
                Ok(()) => return,
                Err(error) => error.0,
            },
            None => question,
        };
        let (sender, questions) = unbounded::<(u64, String, u16)>();
        let hub = self.hub.clone();
        let named = thread::Builder::new().name("client-names".to_owned());
        let spawned = named.spawn(move || {
            for (id, host, port) in questions {
                let found = (&*host, port).to_socket_addrs().map(Iterator::collect);
                // A reactor that has ended has no client.
                let _ = hub.inbox.push(Command::Resolved(id, found));
            }
        });
        match spawned {
            Ok(_) => {
                // The other end was just created.
                let _ = sender.send(question);
                *self.names = Some(sender);
            }
            Err(error) => drop(self.hub.inbox.push(Command::Resolved(id, Err(error)))),
        }
    }
}

/// A client, as the reactor sees it.
pub(super) trait Member: Send {
    /// Its number.
    fn id(&self) -> u64;

    /// Begins the first attempt.
    fn begin(&mut self, cx: &mut Context<'_>);

    /// Takes an event of its socket.
    fn ready(&mut self, is_readable: bool, is_read_closed: bool, is_writable: bool);

    /// Reads, sends what waits, writes, and draws the conclusions. Returns whether more can be done at once.
    fn service(&mut self, cx: &mut Context<'_>) -> bool;

    /// Goes on with the addresses of the host.
    fn resolved(&mut self, found: io::Result<Vec<SocketAddr>>, cx: &mut Context<'_>);

    /// Closes it.
    fn close(&mut self, cx: &mut Context<'_>);

    /// Reads on.
    fn resume(&mut self);

    /// Judges a deadline that was missed at `deadline`.
    fn expired(&mut self, timer: Timer, deadline: Timestamp, cx: &mut Context<'_>);

    /// Returns whether there is nothing more to do.
    fn is_done(&self) -> bool;
}

/// The jobs of one client, which belong to the pool only.
pub(super) type Strand = strand::Strand<Job, Infallible>;

/// The strands that have something to do.
pub(super) type Runnable = Vec<(Seat, Place<Infallible>)>;

/// What has jobs for the handler threads.
pub(super) trait Runs: Send + Sync {
    /// Its jobs.
    fn strand(&self) -> &Strand;

    /// The threads.
    fn pool(&self) -> Arc<Pool<Seat>>;

    /// Runs a job.
    fn run(self: Arc<Self>, job: Job);

    /// Asks the reactor to read on.
    fn resume(&self);
}

/// A client, as the handler threads see it.
pub(super) struct Seat(pub(super) Arc<dyn Runs>);

impl Owner for Seat {
    type Job = Job;
    type Home = Infallible;

    fn strand(&self) -> &Strand {
        self.0.strand()
    }

    fn pool(&self) -> Arc<Pool<Seat>> {
        self.0.pool()
    }

    fn belongs(&self, _: &Job, home: &Infallible) -> bool {
        match *home {}
    }

    fn run(&self, job: Job) {
        self.0.clone().run(job);
    }

    fn resume(&self) {
        self.0.resume();
    }

    fn lost(&self, home: &Infallible) {
        match *home {}
    }
}

impl pool::Home<Seat> for Infallible {
    fn is(&self, _: &Self) -> bool {
        match *self {}
    }

    fn accept(&self, _: Turn<Seat>) {
        match *self {}
    }
}

/// The reactor.
struct Reactor {
    /// What it waits with.
    poll: Poll,
    /// What it shares.
    hub: Arc<Hub>,
    /// The clients by number.
    members: HashMap<u64, Box<dyn Member>>,
    /// The deadlines.
    deadlines: Deadlines,
    /// The thread that looks names up, if there is one.
    names: Option<Sender<(u64, String, u16)>>,
    /// The clients that have something to do in this round; may contain one twice.
    dirty: Vec<u64>,
    /// The clients that have something to do in the next round.
    again: Vec<u64>,
    /// The strands that have something to do.
    runnable: Runnable,
    /// Where input is read to.
    scratch: Scratch,
    /// The time of this round.
    now: Timestamp,
}

/// Returns a member with what it works with.
macro_rules! member_of {
    ($reactor:ident, $id:expr) => {
        $reactor.members.get_mut(&$id).map(|member| {
            let context = Context {
                registry: $reactor.poll.registry(),
                deadlines: &mut $reactor.deadlines,
                now: $reactor.now,
                scratch: &mut $reactor.scratch,
                runnable: &mut $reactor.runnable,
                names: &mut $reactor.names,
                hub: &$reactor.hub,
            };
            (member, context)
        })
    };
}

impl Reactor {
    /// Runs until there is no client.
    fn run(mut self) {
        IS_REACTOR.set(true);
        let mut events = Events::with_capacity(EVENTS);
        let mut commands = Vec::new();
        loop {
            let before = self.hub.clock.now();
            if before - self.now > STALL {
                self.deadlines.stalled(self.now, before);
            }
            let deadline = self.deadlines.next_deadline();
            let has_work = !self.again.is_empty() || !self.hub.inbox.may_sleep();
            let sleep = match deadline {
                _ if has_work => Duration::ZERO,
                Some(deadline) => deadline - before,
                None => LONGEST_SLEEP,
            };
            if let Err(error) = self.poll.poll(&mut events, Some(sleep))
                && error.kind() != io::ErrorKind::Interrupted
            {
                // The queue of the operating system is gone; a pause keeps the loop from using up the processor.
                thread::sleep(Duration::from_millis(10));
            }
            self.now = self.hub.clock.now();
            let alive = deadline.map_or(self.now, |deadline| deadline.max(before));
            if self.now - alive > STALL {
                self.deadlines.stalled(alive, self.now);
            }
            self.dirty.append(&mut self.again);
            for event in &events {
                let id = event.token().0 as u64;
                if let Some(member) = self.members.get_mut(&id) {
                    let is_closed = event.is_read_closed() || event.is_error();
                    let is_readable = event.is_readable() || is_closed;
                    member.ready(
                        is_readable,
                        is_closed,
                        event.is_writable() || event.is_error(),
                    );
                    self.dirty.push(id);
                }
            }
            self.obey(&mut commands);
            self.settle();
            self.expire();
            self.settle();
            self.hub.pool.schedule(&mut self.runnable);
            if self.members.is_empty() && self.try_end() {
                break;
            }
        }
        // Handlers that run are waited for by this thread alone.
        self.names = None;
        self.hub.pool.close(Duration::MAX);
    }

    /// Ends, unless a client has been added.
    fn try_end(&self) -> bool {
        let mut current = HUB.lock();
        if !self.hub.inbox.may_sleep() {
            return false;
        }
        self.hub.inbox.close();
        *current = None;
        true
    }

    /// Does what other threads ask for.
    fn obey(&mut self, commands: &mut Vec<Command>) {
        self.hub.inbox.take(commands);
        for command in commands.drain(..) {
            let id = match &command {
                Command::Add(member) => member.id(),
                Command::Look(id)
                | Command::Close(id)
                | Command::Resume(id)
                | Command::Resolved(id, _) => *id,
            };
            self.dirty.push(id);
            if let Command::Add(member) = command {
                self.members.insert(id, member);
                if let Some((member, mut cx)) = member_of!(self, id) {
                    member.begin(&mut cx);
                }
                continue;
            }
            let Some((member, mut cx)) = member_of!(self, id) else {
                continue;
            };
            match command {
                Command::Add(_) | Command::Look(_) => {}
                Command::Close(_) => member.close(&mut cx),
                Command::Resume(_) => member.resume(),
                Command::Resolved(_, found) => member.resolved(found, &mut cx),
            }
        }
    }

    /// Services the clients that have something to do.
    fn settle(&mut self) {
        while let Some(id) = self.dirty.pop() {
            let Some((member, mut cx)) = member_of!(self, id) else {
                continue;
            };
            if member.service(&mut cx) {
                self.again.push(id);
            }
            if member.is_done() {
                self.members.remove(&id);
            }
        }
    }

    /// Judges the deadlines that were missed.
    fn expire(&mut self) {
        let now = self.now;
        let mut overdue = Vec::new();
        self.deadlines.poll(now, |event| {
            if let Some(event) = event.into_key_event() {
                overdue.push((event.key, event.deadline.unwrap_or(now)));
            }
        });
        for ((id, timer), deadline) in overdue {
            if let Some((member, mut cx)) = member_of!(self, id) {
                member.expired(timer, deadline, &mut cx);
                self.dirty.push(id);
            }
        }
    }
}
