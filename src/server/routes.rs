//! Routes on the thread of a group, and the agents whose messages run there.

use std::fmt;
use std::sync::Arc;

use ahash::HashMap;

use super::agent::{Agent, Delegate, Visit, Visitor};
use super::close::Closed;
use super::codec::{Codec, Decode, DecodeError, Encode, Fault, RequestId};
use super::core;
use super::group::{Gate, Group};
use super::session;
use crate::error::OptionError;

/// The handler of a route: takes the state, a body and the number of the request.
type Handle<C, T, S> = Box<
    dyn Fn(&mut S, &Agent<C, T>, C, &[u8], Option<RequestId>) -> Result<(), DecodeError>
        + Send
        + Sync,
>;

/// Is called when a connection has ended.
type OnClosed<C, T, S> = Box<dyn Fn(&mut S, &Agent<C, T>, &Closed) + Send + Sync>;

/// Routes whose handlers run on the thread of a [`Group`] and get `&mut S`. Messages of an agent go there after
/// [`Agent::delegate`].
///
/// Clones are handles to the same routes. They do not keep the group alive.
///
#[cfg_attr(feature = "json", doc = "```")]
#[cfg_attr(not(feature = "json"), doc = "```ignore")]
/// use liveness::server::{Agent, Group, Json, Routes, Server};
/// # use std::{io::{Read, Write}, time::Duration};
///
/// #[derive(Default)]
/// struct World {
///     lines: Vec<String>,
/// }
///
/// let world = Group::builder("world").spawn(World::default())?;
/// let routes = Routes::builder(&world)
///     .on("Say", |world, agent: &Agent<_, _>, line: String| {
///         world.lines.push(line); // no lock: only this thread has the world
///         agent.broadcast("Count", &world.lines.len())
///     })
///     .on_request("Lines", |world, _, ()| Ok(world.lines.clone()))
///     .closed(|world, agent, _| world.lines.push(format!("agent {} left", agent.id())))
///     .build()?;
///
/// let server = Server::<Json, ()>::builder()
///     .tcp("127.0.0.1:0")
///     .on("Login", move |agent: &Agent<_, _>, name: String| agent.delegate(&routes))
///     .start()?;
/// # let mut peer = std::net::TcpStream::connect(server.local_addrs()[0])?;
/// # for message in [r#"{"type":"Login","data":"ada"}"#, r#"{"type":"Say","data":"hello"}"#] {
/// #     peer.write_all(&[0, message.len() as u8])?;
/// #     peer.write_all(message.as_bytes())?;
/// # }
/// # let mut answer = [0; 27];
/// # peer.read_exact(&mut answer)?;
/// # assert_eq!(&answer[2..], br#"{"type":"Count","data":1}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Routes<C, T, S> {
    /// What all handles share.
    inner: Arc<Inner<C, T, S>>,
}

/// Routes of a group.
struct Inner<C, T, S> {
    /// The way into the group.
    gate: Gate<S>,
    /// The handlers by name.
    by_name: HashMap<Arc<str>, Handle<C, T, S>>,
    /// Is called when a connection has ended.
    closed: Option<OnClosed<C, T, S>>,
}

impl<C: Codec, T: Send + Sync + 'static, S: Send + 'static> Routes<C, T, S> {
    /// Returns the builder of routes on the thread of `group`.
    pub fn builder(group: &Group<S>) -> RoutesBuilder<C, T, S> {
        RoutesBuilder {
            inner: Inner {
                gate: group.gate(),
                by_name: HashMap::default(),
                closed: None,
            },
            bad_route: None,
        }
    }
}

impl<C, T, S> Clone for Routes<C, T, S> {
    fn clone(&self) -> Self {
        Routes {
            inner: self.inner.clone(),
        }
    }
}

impl<C, T, S> fmt::Debug for Routes<C, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes")
            .field("group", &self.inner.gate.name())
            .finish_non_exhaustive()
    }
}

/// Builds [`Routes`]; created by [`Routes::builder`].
///
/// Setters never fail; [`build`](RoutesBuilder::build) returns an error that names the invalid route.
#[must_use]
pub struct RoutesBuilder<C, T, S> {
    /// The routes.
    inner: Inner<C, T, S>,
    /// The first route that is not possible.
    bad_route: Option<OptionError>,
}

impl<C: Codec, T: Send + Sync + 'static, S: Send + 'static> RoutesBuilder<C, T, S> {
    /// Calls `code` for each message named `name` of agents that are delegated here, on the thread of the group. What
    /// `code` returns is ignored.
    ///
    /// A message whose body is no `M` closes its connection with [`Cause::BadMessage`](super::Cause::BadMessage), and a
    /// panic of `code` with [`Cause::Handler`](super::Cause::Handler). The group then goes on or stops, as its
    /// [`OnPanic`](super::group::OnPanic) says.
    pub fn on<M: Decode<C>, R>(
        self,
        name: &str,
        code: impl Fn(&mut S, &Agent<C, T>, M) -> R + Send + Sync + 'static,
    ) -> Self {
        self.route(name, move |state, agent, codec, body, _| {
            drop(code(state, agent, M::decode(codec, body)?));
            Ok(())
        })
    }

    /// Answers each request named `name` with what `code` returns, on the thread of the group like
    /// [`on`](RoutesBuilder::on). A fault is sent as the message `Error`. A message without a number is handled, and
    /// gets no answer.
    pub fn on_request<M: Decode<C>, A: Encode<C>>(
        self,
        name: &str,
        code: impl Fn(&mut S, &Agent<C, T>, M) -> Result<A, Fault> + Send + Sync + 'static,
    ) -> Self {
        let answer = name.to_owned();
        self.route(name, move |state, agent, codec, body, id| {
            let answered = code(state, agent, M::decode(codec, body)?);
            agent.answer(&answer, id, answered);
            Ok(())
        })
    }

    /// Calls `code` once for each connection that ends while it is delegated here, after all of its messages were
    /// handled and before the `closed` of the server. It is not called if the group is stopped.
    pub fn closed(
        mut self,
        code: impl Fn(&mut S, &Agent<C, T>, &Closed) + Send + Sync + 'static,
    ) -> Self {
        self.inner.closed = Some(Box::new(code));
        self
    }

    /// Adds a route.
    fn route(
        mut self,
        name: &str,
        handle: impl Fn(&mut S, &Agent<C, T>, C, &[u8], Option<RequestId>) -> Result<(), DecodeError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        if session::is_reserved(name) || self.inner.by_name.contains_key(name) {
            self.bad_route.get_or_insert(core::bad_route(name));
        } else {
            self.inner.by_name.insert(name.into(), Box::new(handle));
        }
        self
    }

    /// Builds the routes.
    ///
    /// # Errors
    ///
    /// Returns an error if a name has two handlers, or is one of `Ping`, `Pong` and `Error`.
    pub fn build(self) -> Result<Routes<C, T, S>, OptionError> {
        match self.bad_route {
            Some(error) => Err(error),
            None => Ok(Routes {
                inner: Arc::new(self.inner),
            }),
        }
    }
}

impl<C, T, S> fmt::Debug for RoutesBuilder<C, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutesBuilder")
            .field("group", &self.inner.gate.name())
            .finish_non_exhaustive()
    }
}

impl<C: Codec, T: Send + Sync + 'static, S: Send + 'static> Inner<C, T, S> {
    /// Runs the turn of an agent.
    fn visit(&self, turn: Box<dyn Visitor<C, T>>, state: &mut S) {
        let has_panicked = turn.run(&mut |agent, codec, visit| match *visit {
            Visit::Message(name, body, id) => match self.by_name.get(name) {
                Some(handle) => handle(state, agent, codec, body, id),
                None => Ok(()),
            },
            Visit::Closed(report) => {
                if let Some(code) = &self.closed {
                    code(state, agent, report);
                }
                Ok(())
            }
        });
        if has_panicked {
            // The turn was passed on. The group decides about itself, as after any panic; it was reported already.
            std::panic::resume_unwind(Box::new("a route of an agent panicked"));
        }
    }
}

impl<C: Codec, T: Send + Sync + 'static, S: Send + 'static> Delegate<C, T> for Inner<C, T, S> {
    fn name(&self) -> &str {
        self.gate.name()
    }

    fn route(&self, name: &str) -> Option<&Arc<str>> {
        self.by_name.get_key_value(name).map(|(name, _)| name)
    }

    fn has_closed(&self) -> bool {
        self.closed.is_some()
    }

    fn accept(self: Arc<Self>, turn: Box<dyn Visitor<C, T>>) {
        self.clone()
            .gate
            .admit((self, turn), |(inner, turn), state| {
                inner.visit(turn, state);
            });
    }
}

impl<C: Codec, T: Send + Sync + 'static> Agent<C, T> {
    /// Lets the messages of this agent run in `routes`, on the thread of their group, from now on. A message that the
    /// group has no route for is handled by the server's route as before, in its order; so are the inline routes of the
    /// server, and `Ping`. Another call replaces the group.
    ///
    /// No message is lost, and none overtakes another one. In a handler of this agent, the call applies to all messages
    /// after the current one, also to those that have been received. On other threads, it applies from the next message
    /// that begins to be handled; one that is about to begin may still be handled as before. What is posted to a group
    /// before the call runs there before the messages.
    ///
    /// If the group is stopped, the connection is closed with [`Cause::Handler`](super::Cause::Handler) when the next
    /// message for it comes. To keep the connection, [`undelegate`](Agent::undelegate) it before. A group that is
    /// blocked delays its agents, and nobody else. After the connection has ended, the call does nothing.
    ///
    /// See [`Routes`] for an example.
    pub fn delegate<S: Send + 'static>(&self, routes: &Routes<C, T, S>) {
        self.jobs().set_home(Some(routes.inner.clone()));
    }

    /// Lets the messages of this agent run in the routes of the server again, from the next one as with
    /// [`delegate`](Agent::delegate). Does nothing if the agent is not delegated.
    pub fn undelegate(&self) {
        self.jobs().set_home(None);
    }
}
