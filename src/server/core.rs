//! Routes, agents and handler threads of a server: what its reactors share besides the hub.

use std::sync::Arc;

use ahash::HashMap;
use parking_lot::Mutex;

use super::agent::{Agent, AgentId, Attend, Delegate, Jobs, Visit, Visitor};
use super::close::{Cause, Closed};
use super::codec::{Codec, DecodeError, Fault, RequestId};
use super::desk::{Blocked, Desk, Supervisor};
use super::http::{Answer, Request, Response};
use super::hub::{Command, Hub};
use super::job::{Job, Target};
use super::pool::{Home, Owner, Pool, Turn};
use super::strand::Ran;
use crate::error::OptionError;

/// The handler of a route: takes a body and the number of the request, and calls the program with what it decodes.
pub(crate) type Handle<C, T> =
    Box<dyn Fn(&Agent<C, T>, C, &[u8], Option<RequestId>) -> Result<(), DecodeError> + Send + Sync>;

/// A route.
pub(crate) struct Route<C, T> {
    /// The name of the messages.
    pub(crate) name: Arc<str>,
    /// Whether the handler runs on the reactor.
    pub(crate) is_inline: bool,
    /// The handler.
    pub(crate) handle: Handle<C, T>,
}

/// Returns the error of a route whose name is taken or reserved.
pub(crate) fn bad_route(name: &str) -> OptionError {
    let must =
        format!("have one handler for each name other than Ping, Pong and Error, not `{name}`");
    OptionError::new("on", must)
}

/// Decides about an upgrade request.
pub(crate) type Authorize<T> = Box<dyn Fn(&Request) -> Result<T, Reject> + Send + Sync>;

/// Answers a request for a page.
pub(crate) type OnGet = Box<dyn Fn(&Request) -> Response + Send + Sync>;

/// Is called when a connection opens.
pub(crate) type OnOpened<C, T> = Box<dyn Fn(&Agent<C, T>) + Send + Sync>;

/// Is called when a connection has ended.
pub(crate) type OnClosed<C, T> = Box<dyn Fn(&Agent<C, T>, &Closed) + Send + Sync>;

/// Is called when a thread is blocked.
pub(crate) type OnStall = Box<dyn Fn(&Blocked) + Send + Sync>;

/// The refusal of an upgrade request: an HTTP status and a text.
///
/// ```
/// use liveness::server::Reject;
///
/// assert_eq!(Reject::new(200), Reject::new(403)); // a refusal has the status of one
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The answer.
    answer: Answer,
}

impl Reject {
    /// Refuses with `status`, such as 401 or 403. A number that is not from 400 to 599 becomes 403.
    #[must_use]
    pub fn new(status: u16) -> Self {
        let status = if (400..600).contains(&status) {
            status
        } else {
            403
        };
        Reject {
            answer: Answer::new(status),
        }
    }

    /// Sets the text of the answer.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.answer.text = text.into().into();
        self
    }
}

/// The routes and callbacks of a server.
pub(crate) struct Program<C, T> {
    /// The routes.
    pub(crate) routes: Vec<Route<C, T>>,
    /// The indices of the routes by name.
    pub(crate) by_name: HashMap<Arc<str>, usize>,
    /// What answers requests for pages, by their paths.
    pub(crate) pages: HashMap<Arc<str>, OnGet>,
    /// Makes the data of agents that `authorize` makes none for.
    pub(crate) first_data: fn() -> T,
    /// Decides about upgrade requests.
    pub(crate) authorize: Option<Authorize<T>>,
    /// Is called when a connection opens.
    pub(crate) opened: Option<OnOpened<C, T>>,
    /// Is called when a connection has ended.
    pub(crate) closed: Option<OnClosed<C, T>>,
    /// Names of the callbacks: `authorize`, `opened`, `closed`.
    pub(crate) names: [Arc<str>; 3],
}

/// What the reactors and handler threads of a server share.
pub(crate) struct Core<C, T> {
    /// What agents share.
    pub(crate) hub: Arc<Hub<C>>,
    /// Routes and callbacks.
    pub(crate) program: Program<C, T>,
    /// The agents that have been reported as opened.
    pub(crate) agents: Mutex<HashMap<AgentId, Agent<C, T>>>,
    /// The handler threads.
    pub(crate) pool: Arc<Pool<Seated<C, T>>>,
    /// What threads are doing.
    pub(crate) supervisor: Arc<Supervisor>,
}

/// An agent with the core of its server: what the pool runs.
pub(crate) struct Seated<C, T> {
    /// The agent.
    pub(crate) agent: Agent<C, T>,
    /// The server.
    pub(crate) core: Arc<Core<C, T>>,
}

impl<C: Codec, T: Send + Sync + 'static> Owner for Seated<C, T> {
    type Job = Job;
    type Home = Arc<dyn Delegate<C, T>>;

    fn strand(&self) -> &Jobs<C, T> {
        self.agent.jobs()
    }

    fn pool(&self) -> Arc<Pool<Self>> {
        self.core.pool.clone()
    }

    fn belongs(&self, job: &Job, home: &Self::Home) -> bool {
        self.core.belongs(job, &**home)
    }

    fn run(&self, job: Job) {
        let desk = self.core.supervisor.desk_here();
        self.core.run(&self.agent, job, &desk);
    }

    fn handled(&self) {
        self.agent.ask(Command::Handled(self.agent.place()));
    }

    fn resume(&self) {
        self.agent.ask(Command::Resume(self.agent.place()));
    }

    fn resume_all(&self) {
        for inbox in &self.core.hub.inboxes {
            // A reactor that has ended reads nothing.
            let _ = inbox.push(Command::ResumeAll);
        }
    }

    fn lost(&self, home: &Self::Home) {
        let why = format!("the group `{}` is stopped", home.name());
        self.agent.end(Cause::Handler, None, why);
    }
}

impl<C: Codec, T: Send + Sync + 'static> Home<Seated<C, T>> for Arc<dyn Delegate<C, T>> {
    fn is(&self, other: &Self) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(self), Arc::as_ptr(other))
    }

    fn accept(&self, turn: Turn<Seated<C, T>>) {
        self.clone().accept(Box::new(turn));
    }
}

impl<C: Codec, T: Send + Sync + 'static> Visitor<C, T> for Turn<Seated<C, T>> {
    fn run(self: Box<Self>, code: &mut Attend<'_, C, T>) -> bool {
        let mut has_panicked = false;
        let home = self.home().clone();
        Turn::run(*self, |Seated { agent, core }, job| {
            let _lent = core.hub.lend_thread();
            let (ran, next) = core.visit(agent, job, &*home, code);
            has_panicked |= !ran;
            next
        });
        has_panicked
    }
}

impl<C: Codec, T: Send + Sync + 'static> Core<C, T> {
    /// Runs a job of `agent` on the thread of `desk`.
    fn run(&self, agent: &Agent<C, T>, job: Job, desk: &Desk) {
        let Core { hub, program, .. } = self;
        let [authorize, opened, closed] = &program.names;
        let id = agent.id();
        match job {
            Job::Authorize(request) => {
                let decided = program.authorize.as_ref().map(|code| {
                    let decided = desk.run(&hub.clock, authorize, id, || code(&request));
                    self.count_panic(agent, decided.is_none());
                    decided.unwrap_or_else(|| Err(Reject::new(500)))
                });
                let decided = match decided {
                    Some(Ok(data)) => {
                        agent.set_data(data);
                        Ok(())
                    }
                    Some(Err(reject)) => Err(reject.answer),
                    None => Ok(()),
                };
                agent.ask(Command::Decide(agent.place(), request, decided));
            }
            Job::Page(request) => {
                let answer = match program.pages.get_key_value(request.path()) {
                    Some((path, code)) => {
                        let answered = desk.run(&hub.clock, path, id, || code(&request));
                        self.count_panic(agent, answered.is_none());
                        answered.map_or_else(|| Answer::new(500), |response| response.answer)
                    }
                    None => Answer::new(404),
                };
                hub.stats.lock().pages += 1;
                agent.ask(Command::Decide(agent.place(), request, Err(answer)));
            }
            Job::Opened => {
                if let Some(code) = &program.opened {
                    let called = desk.run(&hub.clock, opened, id, || code(agent));
                    self.end_after_panic(agent, called.is_none());
                }
                let mut stats = hub.stats.lock();
                stats.opened_reports += 1;
                stats.reported += 1;
            }
            Job::Message(Target::Route(route), body, id) => {
                self.call(agent, route, &body, id, desk, hub.clock.now_ns());
            }
            Job::Message(Target::Other(_), _, id) => {
                hub.stats.lock().unknown += 1;
                if id.is_some() {
                    // Without room, the peer learns by its own timeout.
                    let _ = agent.send_fault(&Fault::new(404, "unknown message"), id);
                }
            }
            Job::Closed(report) => {
                if let Some(code) = &program.closed {
                    let called = desk.run(&hub.clock, closed, id, || code(agent, &report));
                    self.count_panic(agent, called.is_none());
                }
                self.agents.lock().remove(&id);
                let mut stats = hub.stats.lock();
                stats.closed_reports += 1;
                stats.reported -= 1;
            }
        }
    }

    /// Calls the handler of a route at `now`, ns.
    pub(crate) fn call(
        &self,
        agent: &Agent<C, T>,
        route: usize,
        body: &[u8],
        request: Option<RequestId>,
        desk: &Desk,
        now: u64,
    ) {
        let Some(wire) = agent.wire() else {
            return;
        };
        let route = &self.program.routes[route];
        let called = desk.run_at(now, &route.name, agent.id(), || {
            (route.handle)(agent, wire.codec, body, request)
        });
        self.conclude(agent, &route.name, called.as_ref());
    }

    /// Closes the connection if the handler of `route` panicked or refused the body. Returns whether it did not panic.
    fn conclude(
        &self,
        agent: &Agent<C, T>,
        route: &str,
        called: Option<&Result<(), DecodeError>>,
    ) -> bool {
        self.end_after_panic(agent, called.is_none());
        if let Some(Err(error)) = called {
            agent.end(Cause::BadMessage, None, format!("`{route}`: {error}"));
        }
        called.is_some()
    }

    /// Returns whether `job` belongs to the group `home`.
    pub(crate) fn belongs(&self, job: &Job, home: &dyn Delegate<C, T>) -> bool {
        match job {
            Job::Message(target, _, _) => home.route(self.name_of(target)).is_some(),
            Job::Closed(_) => home.has_closed(),
            Job::Authorize(_) | Job::Page(_) | Job::Opened => false,
        }
    }

    /// Returns the name of the messages for `target`.
    fn name_of<'a>(&'a self, target: &'a Target) -> &'a str {
        match target {
            Target::Route(route) => &self.program.routes[*route].name,
            Target::Other(name) => name,
        }
    }

    /// Runs a job of `agent` by the `code` of the group `home`, on its thread. Returns whether it did not panic.
    fn visit(
        &self,
        agent: &Agent<C, T>,
        job: Job,
        home: &dyn Delegate<C, T>,
        code: &mut Attend<'_, C, T>,
    ) -> (bool, Ran<Job>) {
        let Some(wire) = agent.wire() else {
            return (true, Ran::Settled(job));
        };
        let desk = self.supervisor.desk_here();
        let mut attend = |name: &Arc<str>, visit: &Visit<'_>| {
            desk.run(&self.hub.clock, name, agent.id(), || {
                code(agent, wire.codec, visit)
            })
        };
        match job {
            Job::Message(target, body, id) => {
                let Some(name) = home.route(self.name_of(&target)) else {
                    // It belongs to no group.
                    return (true, Ran::Done);
                };
                let called = attend(name, &Visit::Message(name, &body, id));
                let ran = self.conclude(agent, name, called.as_ref());
                (ran, if ran { Ran::Done } else { Ran::Last })
            }
            Job::Closed(report) => {
                let [.., closed] = &self.program.names;
                let called = attend(closed, &Visit::Closed(&report));
                self.count_panic(agent, called.is_none());
                (called.is_some(), Ran::Settled(Job::Closed(report)))
            }
            // These belong to no group.
            Job::Authorize(_) | Job::Page(_) | Job::Opened => (true, Ran::Done),
        }
    }

    /// Closes the connection if a handler panicked.
    fn end_after_panic(&self, agent: &Agent<C, T>, has_panicked: bool) {
        self.count_panic(agent, has_panicked);
        if has_panicked {
            agent.end(Cause::Handler, None, "a handler panicked".to_owned());
        }
    }

    /// Counts a panic.
    fn count_panic(&self, agent: &Agent<C, T>, has_panicked: bool) {
        if has_panicked {
            crate::log::error!("a handler of agent {} panicked", agent.id());
            self.hub.stats.lock().panics += 1;
        }
    }
}
