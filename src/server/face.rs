//! The server as its program sees it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::agent::sending::publish;
use super::agent::{Agent, AgentId};
use super::codec::{Codec, Encode};
use super::core::Core;
use super::error::SendError;
use super::hub::{Command, Hub, later};
use super::stats::ServerStats;
use crate::sync::answer;

/// How a server is shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Shutdown {
    /// How long it may take.
    within: Duration,
    /// Over which time the closes are spread.
    spread: Duration,
}

impl Shutdown {
    /// Shuts down within this time: what is not closed after four fifths of it is cut, and handlers have the rest.
    pub fn within(within: Duration) -> Self {
        Shutdown {
            within,
            spread: Duration::ZERO,
        }
    }

    /// Spreads the closes evenly over this time, at most half of the whole, so that the peers do not all connect to
    /// another server at once. Default: zero.
    pub fn spread(mut self, spread: Duration) -> Self {
        self.spread = spread;
        self
    }
}

/// What a shutdown came to.
///
#[cfg_attr(feature = "json", doc = "```")]
#[cfg_attr(not(feature = "json"), doc = "```ignore")]
/// use std::time::Duration;
/// use liveness::server::{Json, SendError, Server, Shutdown};
///
/// let server = Server::<Json, ()>::builder().tcp("127.0.0.1:0").start()?;
/// let report = server.shutdown(Shutdown::within(Duration::from_secs(5)));
/// assert!(report.cut.is_empty() && report.still_running.is_empty());
/// assert!(matches!(server.broadcast("News", "late"), Err(SendError::Closed)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// The connections that were open when it began.
    pub open: u64,
    /// The agents whose connections were cut, because they were not closed after four fifths of the time: their peers
    /// took or answered no close.
    pub cut: Vec<AgentId>,
    /// The agents whose `closed` was not called, because their handlers did not return in time.
    pub unreported: Vec<AgentId>,
    /// The threads that still run, because user code blocks them.
    pub still_running: Vec<String>,
}

/// The threads of a server, but for those of its supervisor.
#[derive(Default)]
pub(crate) struct Running {
    /// The threads that own connections.
    pub(crate) reactors: Vec<JoinHandle<()>>,
    /// The threads that run handlers.
    pub(crate) handlers: Vec<JoinHandle<()>>,
}

impl Running {
    /// Returns the threads.
    fn threads(&self) -> impl Iterator<Item = &JoinHandle<()>> {
        self.reactors.iter().chain(&self.handlers)
    }
}

/// Connections over TCP and WebSocket that are kept alive, and the handlers of their messages. See the
/// [module](super) for an introduction.
///
/// Dropping the server shuts it down like [`shutdown`](Server::shutdown) within one second, which may block for that
/// long.
pub struct Server<C: Codec, T: Send + Sync + 'static> {
    /// What the threads share.
    core: Arc<Core<C, T>>,
    /// The addresses of the listeners.
    addresses: Vec<SocketAddr>,
    /// The threads; `None` after the shutdown.
    running: Mutex<Option<Running>>,
}

impl<C: Codec, T: Default + Send + Sync + 'static> Server<C, T> {
    /// Returns the options and routes of a new server, with default values. `C` encodes messages, and `T` is the data
    /// of the program for each agent.
    pub fn builder() -> super::ServerBuilder<C, T> {
        super::ServerBuilder::new(T::default)
    }
}

impl<C: Codec, T: Send + Sync + 'static> Server<C, T> {
    /// Returns the options and routes of a new server like [`builder`](Server::builder). `first_data` makes the data of
    /// each agent for which `authorize` makes none, when it is first asked for, if the type has no default value.
    ///
    #[cfg_attr(feature = "json", doc = "```")]
    #[cfg_attr(not(feature = "json"), doc = "```ignore")]
    /// use std::num::NonZeroU32;
    /// use liveness::server::{Json, Server};
    ///
    /// let server = Server::<Json, NonZeroU32>::builder_with(|| NonZeroU32::MIN)
    ///     .tcp("127.0.0.1:0")
    ///     .on("Echo", |agent, _: String| agent.send("Echo", &agent.data().get()))
    ///     .start()?;
    /// assert_eq!(server.agents().len(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder_with(first_data: fn() -> T) -> super::ServerBuilder<C, T> {
        super::ServerBuilder::new(first_data)
    }

    /// Creates the handle.
    pub(crate) fn new(core: Arc<Core<C, T>>, addresses: Vec<SocketAddr>, running: Running) -> Self {
        Server {
            core,
            addresses,
            running: Mutex::new(Some(running)),
        }
    }

    /// Returns the addresses of the listeners, in the order in which they were given.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns the statistics.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        let hub = &self.core.hub;
        let mut stats = hub.stats.lock().clone();
        let publishing = hub.publishing.load(Ordering::Acquire);
        stats.unhandled_bytes = self.core.pool.bytes() as u64;
        stats.queued_bytes = (hub.buffered.load(Ordering::Acquire) + publishing) as u64;
        stats
    }

    /// Returns the agents that are open or whose end has not been reported, in no particular order.
    #[must_use]
    pub fn agents(&self) -> Vec<Agent<C, T>> {
        self.core.agents.lock().values().cloned().collect()
    }

    /// Returns the agent with this number, as [`agents`](Server::agents) would.
    #[must_use]
    pub fn get(&self, id: AgentId) -> Option<Agent<C, T>> {
        self.core.agents.lock().get(&id).cloned()
    }

    /// Sends a message to all connections. It is encoded once for each kind of connection. `Ok` means that it is
    /// queued: what happens at a connection that has no room is up to [`Overflow`](super::Overflow).
    ///
    /// # Errors
    ///
    /// Returns [`Full`](SendError::Full) if the frames that the threads have not taken exceed
    /// [`max_buffered`](super::ServerBuilder::max_buffered), [`TooBig`](SendError::TooBig) if the message exceeds
    /// [`outbound`](super::ServerBuilder::outbound), [`Closed`](SendError::Closed) after a shutdown, and otherwise that
    /// the body has no encoding.
    pub fn broadcast<B: Encode<C> + ?Sized>(&self, name: &str, body: &B) -> Result<(), SendError> {
        publish(&self.core.hub, None, name, body)
    }

    /// Sends a message to all members of a [room](Agent::join). It is encoded once for each kind of connection.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](SendError::Full) if the frames that the threads have not taken exceed
    /// [`max_buffered`](super::ServerBuilder::max_buffered), [`TooBig`](SendError::TooBig) if the message exceeds
    /// [`outbound`](super::ServerBuilder::outbound), [`Closed`](SendError::Closed) after a shutdown, and otherwise that
    /// the body has no encoding.
    pub fn publish<B: Encode<C> + ?Sized>(
        &self,
        room: &str,
        name: &str,
        body: &B,
    ) -> Result<(), SendError> {
        publish(&self.core.hub, Some(room), name, body)
    }

    /// Takes no further connections, and keeps those that are open. `GET /healthz` is answered with 503, so that a load
    /// balancer looks elsewhere.
    pub fn drain(&self) {
        self.core.hub.is_draining.store(true, Ordering::Release);
    }

    /// Returns whether [`drain`](Server::drain) or [`shutdown`](Server::shutdown) was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.core.hub.is_draining.load(Ordering::Acquire)
    }

    /// Returns the names of the threads that were reported as blocked in user code and still are.
    #[must_use]
    pub fn blocked(&self) -> Vec<String> {
        self.core.supervisor.blocked()
    }

    /// Closes all connections with code 1001, waits for the handlers, and ends the threads. Blocks for at most the time
    /// of `how`, and returns what was not done in it. A second call returns an empty report.
    ///
    /// A thread of the server itself, which cannot wait for its own end, gets a report of what there is to end; another
    /// thread then carries the shutdown out.
    pub fn shutdown(&self, how: Shutdown) -> ShutdownReport {
        let Some(running) = self.running.lock().take() else {
            return ShutdownReport::default();
        };
        if !self.core.hub.is_own_thread() {
            return end(&self.core, running, how);
        }
        let report = ShutdownReport {
            cut: Vec::new(),
            open: self.core.hub.stats.lock().open,
            unreported: self.core.agents.lock().keys().copied().collect(),
            still_running: running.threads().map(name).collect(),
        };
        self.drain();
        let (give, take) = crossbeam_channel::bounded(1);
        let core = self.core.clone();
        let ending = move || drop(take.recv().map(|running| end(&core, running, how)));
        match std::thread::Builder::new().spawn(ending) {
            // It takes what there is to end.
            Ok(_) => drop(give.send(running)),
            // Without a thread that could wait, everything is cut.
            Err(_) => drop(end(&self.core, running, Shutdown::within(Duration::ZERO))),
        }
        report
    }
}

/// Returns the name of a thread.
fn name(thread: &JoinHandle<()>) -> String {
    thread.thread().name().unwrap_or_default().to_owned()
}

/// Closes the listeners, and then lets each reactor close its connections, so that no connection is given to a reactor
/// that has ended.
pub(crate) fn close_all<C>(hub: &Hub<C>, how: Shutdown, began: Instant) {
    let Shutdown { within, spread } = how;
    hub.is_draining.store(true, Ordering::Release);
    let (sender, stopped) = answer::bounded(1);
    // The first reactor has the listeners, so after its answer nothing is accepted.
    if let Some(first) = hub.inboxes.first()
        && first.push(Command::StopListening(sender)).is_ok()
    {
        let _ = stopped.recv_timeout(within / 5);
    }
    let cut = later(began, within / 5 * 4);
    for inbox in &hub.inboxes {
        // A reactor that has ended has nothing to close.
        let _ = inbox.push(Command::Shutdown(spread.min(within / 2), cut));
    }
}

/// Shuts the server of `core` down. Returns what was not done in the time of `how`.
fn end<C: Codec, T: Send + Sync + 'static>(
    core: &Core<C, T>,
    running: Running,
    how: Shutdown,
) -> ShutdownReport {
    let mut report = ShutdownReport::default();
    let within = how.within;
    let hub = &core.hub;
    let began = Instant::now();
    let after = |duration| later(began, duration);
    report.open = hub.stats.lock().open;
    close_all(hub, how, began);
    let Running { reactors, handlers } = running;
    let end = after(within);
    while Instant::now() < end && !reactors.iter().all(JoinHandle::is_finished) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = core
        .pool
        .close(end.saturating_duration_since(Instant::now()));
    for thread in reactors.into_iter().chain(handlers) {
        // A handler that has left the pool ends at once, which may take a moment on a busy machine.
        let moment = Duration::from_millis(50);
        let soon = (Instant::now() + moment).max(end);
        let soon = soon.min(after(within.saturating_add(moment)));
        while Instant::now() < soon && !thread.is_finished() {
            std::thread::sleep(Duration::from_micros(200));
        }
        if thread.is_finished() {
            // Handlers' panics are caught.
            let _ = thread.join();
        } else {
            report.still_running.push(name(&thread));
        }
    }
    report.cut = hub.cut.lock().drain(..).map(AgentId).collect();
    report.unreported = core.agents.lock().keys().copied().collect();
    let blocked = core.supervisor.close(Duration::from_millis(100));
    report.still_running.extend(blocked);
    report
}

impl<C: Codec, T: Send + Sync + 'static> Drop for Server<C, T> {
    fn drop(&mut self) {
        let _ = self.shutdown(Shutdown::within(Duration::from_secs(1)));
    }
}

impl<C: Codec, T: Send + Sync + 'static> fmt::Debug for Server<C, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}
