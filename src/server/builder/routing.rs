//! The routes and callbacks of a server.

use std::sync::Arc;

use super::super::agent::Agent;
use super::super::close::Closed;
use super::super::codec::{Codec, Decode, Encode, Fault};
use super::super::core::{self, Handle, Reject, Route};
use super::super::desk::Blocked;
use super::super::http::{Request, Response};
use super::super::session;
use super::ServerBuilder;

impl<C: Codec, T: Send + Sync + 'static> ServerBuilder<C, T> {
    /// Answers `GET` and `HEAD` requests for `path` on the addresses of [`websocket`](ServerBuilder::websocket) with
    /// what `code` returns, on a handler thread. The path is that of the request without its query. Requests are
    /// answered while the server [drains](super::super::Server::drain), too, and each takes a connection. A later call
    /// for the same path replaces an earlier one, also that of `/healthz`.
    ///
    /// The rest of HTTP is missing: no other method, no body of a request, no second request on a connection.
    ///
    #[cfg_attr(feature = "json", doc = "```")]
    #[cfg_attr(not(feature = "json"), doc = "```ignore")]
    /// use std::io::{Read, Write};
    /// use liveness::server::{Json, Response, Server};
    ///
    /// let server = Server::<Json, ()>::builder()
    ///     .websocket("127.0.0.1:0")
    ///     .get("/hello", |request| Response::new("text/plain", format!("hello {:?}", request.query())))
    ///     .start()?;
    ///
    /// let mut browser = std::net::TcpStream::connect(server.local_addrs()[0])?;
    /// browser.write_all(b"GET /hello?you HTTP/1.1\r\nHost: here\r\n\r\n")?;
    /// let mut answer = String::new();
    /// browser.read_to_string(&mut answer)?;
    /// assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello Some(\"you\")"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get(
        mut self,
        path: impl Into<String>,
        code: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Self {
        let path = path.into();
        let pages = &mut self.program.pages;
        pages.insert(path.as_str().into(), Box::new(code));
        self.policy.pages.push(path);
        self
    }

    /// Decides about each upgrade request, on a handler thread. What `code` returns is the [data](Agent::data) of the
    /// agent. Without it, and on TCP, the data is the default value, or what
    /// [`builder_with`](super::super::Server::builder_with) was given.
    pub fn authorize(
        mut self,
        code: impl Fn(&Request) -> Result<T, Reject> + Send + Sync + 'static,
    ) -> Self {
        self.program.authorize = Some(Box::new(code));
        self
    }

    /// Calls `code` for each message named `name`, on a handler thread. The messages of one connection are handled one
    /// after the other in their order, those of different connections at the same time. What `code` returns is ignored.
    ///
    /// A message whose body is no `M` closes its connection with
    /// [`Cause::BadMessage`](super::super::Cause::BadMessage), and a panic of `code` with
    /// [`Cause::Handler`](super::super::Cause::Handler).
    pub fn on<M: Decode<C>, R>(
        self,
        name: &str,
        code: impl Fn(&Agent<C, T>, M) -> R + Send + Sync + 'static,
    ) -> Self {
        self.route(name, false, Self::handle(code))
    }

    /// Calls `code` for each message named `name` like [`on`](ServerBuilder::on), but on the thread that owns the
    /// connection, which saves the change of threads. `code` must not block: all connections of the thread wait for it.
    /// Calls of more than 10 ms are counted in [`ServerStats::slow_inline`](super::super::ServerStats::slow_inline). An
    /// inline message may overtake messages of other routes.
    pub fn on_inline<M: Decode<C>, R>(
        self,
        name: &str,
        code: impl Fn(&Agent<C, T>, M) -> R + Send + Sync + 'static,
    ) -> Self {
        self.route(name, true, Self::handle(code))
    }

    /// Answers each request named `name` with what `code` returns, on a handler thread like [`on`](ServerBuilder::on).
    /// A fault is sent as the message `Error`. A message without a number is handled, and gets no answer.
    pub fn on_request<M: Decode<C>, A: Encode<C>>(
        self,
        name: &str,
        code: impl Fn(&Agent<C, T>, M) -> Result<A, Fault> + Send + Sync + 'static,
    ) -> Self {
        let answer = name.to_owned();
        let handle: Handle<C, T> = Box::new(move |agent, codec, body, id| {
            agent.answer(&answer, id, code(agent, M::decode(codec, body)?));
            Ok(())
        });
        self.route(name, false, handle)
    }

    /// Calls `code` when a connection has opened, before any of its messages are handled.
    pub fn opened(mut self, code: impl Fn(&Agent<C, T>) + Send + Sync + 'static) -> Self {
        self.program.opened = Some(Box::new(code));
        self
    }

    /// Calls `code` once for each connection that was opened, after all of its messages were handled.
    pub fn closed(mut self, code: impl Fn(&Agent<C, T>, &Closed) + Send + Sync + 'static) -> Self {
        self.program.closed = Some(Box::new(code));
        self
    }

    /// Calls `code` when a thread of the server is blocked in user code, once for each call of that code.
    pub fn on_stall(mut self, code: impl Fn(&Blocked) + Send + Sync + 'static) -> Self {
        self.on_stall = Some(Box::new(code));
        self
    }

    /// Makes a handler of `code`.
    fn handle<M: Decode<C>, R>(
        code: impl Fn(&Agent<C, T>, M) -> R + Send + Sync + 'static,
    ) -> Handle<C, T> {
        Box::new(move |agent, codec, body, _| {
            drop(code(agent, M::decode(codec, body)?));
            Ok(())
        })
    }

    /// Adds a route.
    fn route(mut self, name: &str, is_inline: bool, handle: Handle<C, T>) -> Self {
        let name: Arc<str> = name.into();
        if session::is_reserved(&name) || self.program.by_name.contains_key(&name) {
            self.bad_route.get_or_insert(core::bad_route(&name));
            return self;
        }
        let index = self.program.routes.len();
        self.program.by_name.insert(name.clone(), index);
        self.program.routes.push(Route {
            name,
            is_inline,
            handle,
        });
        self
    }
}
