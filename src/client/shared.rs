//! What the handle of a client, the reactor and the handler threads share: one lock for the queue, the requests and the
//! counters, so that every message and every request has one fate.
//!
//! | race | closed by |
//! |---|---|
//! | send and going online | the sender pushes and reads `is_online` under the lock; the reactor sets it there and then takes the queue |
//! | send and drop | what was not taken waits for the next connection; what was taken is sent once, or counted as lost |
//! | request and drop | a request in the queue waits for the next connection; one that was taken is ended with `Lost` |
//! | answer and timeout | who removes the request from the map decides; the other finds nothing |
//! | answer of a handler and drop | an answer carries the number of its connection, and is dropped after its end |
//! | close and reconnect | one thread does both, in the order of its inbox; nothing is accepted after `close` is called |

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, Weak};

use ahash::HashMap;
use bytes::Bytes;
use crossbeam_channel::Sender;
use parking_lot::{Condvar, Mutex};

use super::greeting::Greeting;
use super::job::{Asked, Epoch, Job};
use super::reactor::{Command, Hub, Runnable, Runs, Seat, Strand};
use super::state::State;
use super::stats::ClientStats;
use crate::panic::catch_panic;
use crate::server::codec::{Codec, RequestId};
use crate::server::pool::Pool;
use crate::server::wire::Wire;
use crate::server::{DecodeError, Fault, RequestError, SendError};

/// What happens to a message that finds the queue of a client full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// It is refused with [`SendError::Full`].
    #[default]
    Refuse,
    /// The oldest messages make room, and are counted as dropped.
    DropOldest,
}

/// How much waits at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// The messages while there is no connection.
    pub(super) messages: usize,
    /// The bytes.
    pub(super) bytes: usize,
    /// What happens beyond that.
    pub(super) when_full: WhenFull,
}

/// The handler of a route.
pub(super) type Handle<C> =
    Box<dyn Fn(&Arc<Shared<C>>, C, &[u8], Option<Asked>) -> Result<(), DecodeError> + Send + Sync>;

/// A route.
pub(super) struct Route<C> {
    /// Whether the handler runs on the reactor.
    pub(super) is_inline: bool,
    /// The handler.
    pub(super) handle: Handle<C>,
}

/// Is called with each state.
pub(super) type OnState<C> = Box<dyn Fn(&Arc<Shared<C>>, &State) + Send + Sync>;

/// Makes the first messages of a connection.
pub(super) type Greet<C> = Box<dyn Fn(&mut Greeting<C>) + Send + Sync>;

/// The code of the program.
pub(super) struct Program<C> {
    /// The routes by name.
    pub(super) routes: HashMap<Arc<str>, Route<C>>,
    /// Is called with each state.
    pub(super) state: Option<OnState<C>>,
    /// Makes the first messages of a connection.
    pub(super) greet: Option<Greet<C>>,
}

/// A message that waits.
struct Waiting {
    /// The whole frame.
    frame: Bytes,
    /// The request that it is.
    request: Option<RequestId>,
    /// The only connection over which it may be sent.
    only: Option<Epoch>,
}

/// The answer to a request.
pub(super) type Answered = Result<Vec<u8>, RequestError>;

/// What is under the lock.
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent of each other"
)]
struct Desk {
    /// The messages that wait, the oldest first.
    queue: VecDeque<Waiting>,
    /// The sum of their bytes.
    bytes: usize,
    /// Whether the reactor takes messages.
    is_online: bool,
    /// Whether the reactor will look at the queue.
    is_called: bool,
    /// Whether the program has closed the client, or the server has.
    is_closed: bool,
    /// Whether the reactor has dropped it.
    is_gone: bool,
    /// The requests that wait: where their answers go, and whether they were taken from the queue.
    requests: HashMap<RequestId, (Sender<Answered>, bool)>,
    /// The last request.
    last_request: u64,
    /// Where the client stands.
    state: State,
    /// The messages that the session has taken and not written.
    in_session: u64,
    /// The counters, but for those of what waits.
    stats: ClientStats,
}

/// What the handle of a client, the reactor and the handler threads share.
pub(super) struct Shared<C> {
    /// The number of the client.
    pub(super) id: u64,
    /// How messages are written.
    pub(super) wire: Wire<C>,
    /// The reactor.
    pub(super) hub: Arc<Hub>,
    /// How much waits at most.
    room: Room,
    /// What is under the lock.
    desk: Mutex<Desk>,
    /// Notified when the reactor has dropped the client.
    gone: Condvar,
    /// The jobs of the handler threads.
    pub(super) strand: Strand,
    /// The code of the program.
    pub(super) program: Program<C>,
    /// What the handles own.
    owner: OnceLock<Weak<Owner<C>>>,
}

/// What the handles of a client own. The client is closed when it is dropped.
pub(super) struct Owner<C>(pub(super) Arc<Shared<C>>);

impl<C> Drop for Owner<C> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<C> Shared<C> {
    /// Creates the shared part of client `id`.
    pub(super) fn new(
        id: u64,
        wire: Wire<C>,
        hub: Arc<Hub>,
        room: Room,
        program: Program<C>,
    ) -> Self {
        let desk = Desk {
            queue: VecDeque::new(),
            bytes: 0,
            is_online: false,
            is_called: false,
            is_closed: false,
            is_gone: false,
            requests: HashMap::default(),
            last_request: 0,
            state: State::Connecting,
            in_session: 0,
            stats: ClientStats::default(),
        };
        Shared {
            id,
            wire,
            hub,
            room,
            desk: Mutex::new(desk),
            gone: Condvar::new(),
            strand: Strand::new(),
            program,
            owner: OnceLock::new(),
        }
    }

    /// Sets what the handles own, once.
    pub(super) fn set_owner(&self, owner: Weak<Owner<C>>) {
        let _ = self.owner.set(owner);
    }

    /// Returns what the handles own, or the same for a call of the program that has dropped them all.
    pub(super) fn owner(self: &Arc<Self>) -> Arc<Owner<C>> {
        let owner = self.owner.get().and_then(Weak::upgrade);
        owner.unwrap_or_else(|| Arc::new(Owner(self.clone())))
    }

    /// Asks the reactor to close the client.
    pub(super) fn close(&self) {
        let was_closed = std::mem::replace(&mut self.desk.lock().is_closed, true);
        if !was_closed {
            // A reactor that has ended has no client.
            let _ = self.hub.inbox.push(Command::Close(self.id));
        }
    }

    /// Waits until the reactor has dropped the client. Returns whether it has.
    pub(super) fn wait_until_gone(&self, within: std::time::Duration) -> bool {
        let until = std::time::Instant::now().checked_add(within);
        let mut desk = self.desk.lock();
        while !desk.is_gone {
            match until {
                None => self.gone.wait(&mut desk),
                Some(until) if self.gone.wait_until(&mut desk, until).timed_out() => break,
                Some(_) => {}
            }
        }
        desk.is_gone
    }

    /// Returns the state.
    pub(super) fn state(&self) -> State {
        self.desk.lock().state.clone()
    }

    /// Returns the statistics.
    pub(super) fn stats(&self) -> ClientStats {
        let desk = self.desk.lock();
        let mut stats = desk.stats.clone();
        stats.queued = desk.queue.len() as u64 + desk.in_session;
        stats.waiting = desk.requests.len() as u64;
        stats
    }

    /// Changes the counters.
    pub(super) fn count(&self, change: impl FnOnce(&mut ClientStats)) {
        change(&mut self.desk.lock().stats);
    }

    /// Returns the number of the next request.
    pub(super) fn next_request(&self) -> RequestId {
        let mut desk = self.desk.lock();
        desk.last_request += 1;
        RequestId::new(desk.last_request).unwrap_or(RequestId::MIN)
    }

    /// Queues a frame. The answer to a `request` goes to its sender. A frame for one connection `only` is not sent over
    /// another one.
    pub(super) fn push(
        &self,
        frame: Bytes,
        request: Option<(RequestId, Sender<Answered>)>,
        only: Option<Epoch>,
    ) -> Result<(), SendError> {
        let mut desk = self.desk.lock();
        if desk.is_closed {
            return Err(SendError::Closed);
        }
        if only.is_some_and(|epoch| !desk.is_online || epoch != desk.stats.opened) {
            return Err(SendError::Closed);
        }
        if frame.len() > self.room.bytes {
            return Err(SendError::TooBig);
        }
        while !desk.has_room(frame.len(), &self.room) {
            if self.room.when_full == WhenFull::Refuse || !desk.drop_oldest() {
                return Err(SendError::Full);
            }
        }
        desk.bytes += frame.len();
        desk.stats.accepted += 1;
        let number = request.as_ref().map(|it| it.0);
        if let Some((id, sender)) = request {
            desk.stats.requests += 1;
            desk.requests.insert(id, (sender, false));
        }
        desk.queue.push_back(Waiting {
            frame,
            request: number,
            only,
        });
        let must_call = desk.is_online && !std::mem::replace(&mut desk.is_called, true);
        drop(desk);
        if must_call {
            // A reactor that has ended has dropped the client.
            let _ = self.hub.inbox.push(Command::Look(self.id));
        }
        Ok(())
    }

    /// Ends a request whose time is over. Returns whether it waited for its answer.
    pub(super) fn give_up(&self, id: RequestId) -> bool {
        let mut desk = self.desk.lock();
        let Some((_, was_taken)) = desk.requests.remove(&id) else {
            return false;
        };
        desk.stats.timed_out += 1;
        if !was_taken {
            // It is not sent later.
            desk.remove_waiting(|it| it.request == Some(id));
        }
        true
    }

    /// Passes on the answer to a request, unless its time is over.
    pub(super) fn answered(&self, id: RequestId, answer: Answered) {
        let mut desk = self.desk.lock();
        if let Some((sender, _)) = desk.requests.remove(&id) {
            desk.stats.answered += 1;
            drop(desk);
            // It has room for one.
            let _ = sender.try_send(answer);
        }
    }

    /// Returns whether the client was closed.
    pub(super) fn is_closed(&self) -> bool {
        self.desk.lock().is_closed
    }

    /// Takes the next message for the connection, or `None` if none waits.
    pub(super) fn take(&self) -> Option<Bytes> {
        let mut desk = self.desk.lock();
        let next = desk.queue.pop_front();
        let Some(Waiting { frame, request, .. }) = next else {
            desk.is_called = false;
            if desk.queue.capacity() > 1_024 {
                desk.queue = VecDeque::new();
            }
            return None;
        };
        desk.bytes -= frame.len();
        desk.in_session += 1;
        if let Some((_, was_taken)) = request.and_then(|id| desk.requests.get_mut(&id)) {
            *was_taken = true;
        }
        Some(frame)
    }

    /// Counts a message that the session has taken without the queue.
    pub(super) fn took_extra(&self) {
        let mut desk = self.desk.lock();
        desk.stats.accepted += 1;
        desk.in_session += 1;
    }

    /// Counts messages that were written.
    pub(super) fn wrote(&self, messages: u64) {
        let mut desk = self.desk.lock();
        desk.stats.sent += messages;
        desk.in_session -= messages;
    }

    /// Counts an attempt.
    pub(super) fn dialing(&self) {
        let mut desk = self.desk.lock();
        desk.stats.attempts += 1;
        desk.stats.dialing = 1;
    }

    /// Counts a connection that has opened. Returns its number.
    pub(super) fn opened(&self) -> Epoch {
        let mut desk = self.desk.lock();
        desk.stats.dialing = 0;
        desk.stats.opened += 1;
        desk.stats.online = 1;
        desk.stats.opened
    }

    /// Lets messages be taken, after the greeting.
    pub(super) fn take_messages(&self) {
        self.desk.lock().is_online = true;
    }

    /// Ends what depends on the connection or the attempt that has ended.
    pub(super) fn dropped(&self) {
        let mut desk = self.desk.lock();
        let stats = &mut desk.stats;
        stats.failed += std::mem::take(&mut stats.dialing);
        stats.ended += std::mem::take(&mut stats.online);
        desk.is_online = false;
        desk.is_called = false;
        desk.remove_waiting(|it| it.only.is_some());
        desk.lose_requests(|was_taken| was_taken);
    }

    /// Counts the messages that were being written when the socket was closed.
    pub(super) fn unsent(&self) {
        let mut desk = self.desk.lock();
        desk.stats.lost += std::mem::take(&mut desk.in_session);
    }

    /// Records that the reactor has dropped the client.
    pub(super) fn set_gone(&self) {
        self.desk.lock().is_gone = true;
        self.gone.notify_all();
    }
}

impl Desk {
    /// Returns whether `len` more bytes may wait.
    fn has_room(&self, len: usize, room: &Room) -> bool {
        let is_short = self.is_online || self.queue.len() < room.messages;
        is_short && self.bytes + len <= room.bytes
    }

    /// Drops the oldest message. Returns whether there was one.
    fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.queue.pop_front() else {
            return false;
        };
        self.bytes -= oldest.frame.len();
        self.stats.dropped += 1;
        if let Some((sender, _)) = oldest.request.and_then(|id| self.requests.remove(&id)) {
            self.stats.lost_requests += 1;
            // It has room for one.
            let _ = sender.try_send(Err(RequestError::Send(SendError::Full)));
        }
        true
    }

    /// Drops the messages that are `unwanted`.
    fn remove_waiting(&mut self, unwanted: impl Fn(&Waiting) -> bool) {
        let (before, bytes) = (self.queue.len(), &mut self.bytes);
        self.queue.retain(|it| {
            let is_unwanted = unwanted(it);
            *bytes -= if is_unwanted { it.frame.len() } else { 0 };
            !is_unwanted
        });
        self.stats.dropped += (before - self.queue.len()) as u64;
    }

    /// Ends the requests that are `lost`, which depends on whether they were taken from the queue.
    fn lose_requests(&mut self, lost: impl Fn(bool) -> bool) {
        let before = self.requests.len();
        self.requests.retain(|_, (sender, was_taken)| {
            let is_lost = lost(*was_taken);
            if is_lost {
                // It has room for one.
                let _ = sender.try_send(Err(RequestError::Lost));
            }
            !is_lost
        });
        self.stats.lost_requests += (before - self.requests.len()) as u64;
    }
}

impl<C: Codec> Shared<C> {
    /// Answers a request of the server with a fault, over the connection that it came over.
    pub(super) fn refuse(&self, fault: &Fault, (id, epoch): Asked) -> Result<(), SendError> {
        let mut frame = Vec::new();
        self.wire.encode_fault(fault, Some(id), &mut frame)?;
        self.push(frame.into(), None, Some(epoch))
    }

    /// Sets and reports a state. Nothing is accepted, and nothing waits, after [`State::Closed`].
    pub(super) fn report(self: &Arc<Self>, state: State, runnable: &mut Runnable) {
        let mut desk = self.desk.lock();
        desk.state = state.clone();
        if state.is_closed() {
            desk.is_closed = true;
            desk.remove_waiting(|_| true);
            desk.lose_requests(|_| true);
        }
        drop(desk);
        if self.program.state.is_some() {
            // The last job of a strand that is full, or one that the next connection finds so.
            self.push_job(Job::State(state), 0, runnable);
        }
    }

    /// Calls the handler of a route.
    pub(super) fn call(self: &Arc<Self>, route: &Route<C>, body: &[u8], asked: Option<Asked>) {
        let called = catch_panic(|| (route.handle)(self, self.wire.codec, body, asked));
        match called {
            Some(Ok(())) => {}
            Some(Err(_)) => self.count(|stats| stats.bad += 1),
            None => self.count(|stats| stats.panics += 1),
        }
    }

    /// Lets a job run on a handler thread. Returns whether the strand is full.
    pub(super) fn push_job(
        self: &Arc<Self>,
        job: Job,
        size: usize,
        runnable: &mut Runnable,
    ) -> bool {
        let pushed = self
            .hub
            .pool
            .push(&self.strand, job, size, |_, home| match *home {});
        if let Some(place) = pushed.turn {
            runnable.push((Seat(self.clone()), place));
        }
        pushed.is_full
    }
}

impl<C: Codec> Runs for Shared<C> {
    fn strand(&self) -> &Strand {
        &self.strand
    }

    fn pool(&self) -> Arc<Pool<Seat>> {
        self.hub.pool.clone()
    }

    fn run(self: Arc<Self>, job: Job) {
        match job {
            Job::State(state) => {
                if let Some(code) = &self.program.state
                    && catch_panic(|| code(&self, &state)).is_none()
                {
                    self.count(|stats| stats.panics += 1);
                }
            }
            Job::Message(name, body, asked) => {
                if let Some(route) = self.program.routes.get(&name) {
                    self.call(route, &body, asked);
                }
            }
        }
    }

    fn resume(&self) {
        // A reactor that has ended has no connections.
        let _ = self.hub.inbox.push(Command::Resume(self.id));
    }
}
