//! The page with live pictures, and the endpoints beside it.

mod access;
mod feed;
mod members;
mod summary;

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use super::observer::Observer;
use crate::error::OptionError;
use crate::server::{Json, Reject, Request, Response, Server, ServerBuilder, Shutdown, StartError};
use access::Access;
use feed::{Command, Feed};

/// The most pages that are open at once.
const MAX_PAGES: usize = 100;

/// The most bytes that wait for one page: all members of the largest part that is shown, several times over.
const OUTBOUND: usize = 8 << 20;

/// The page itself, which needs nothing else.
const PAGE: &str = include_str!("page/page.html");

/// Options of a [`Page`], created by [`Page::builder`].
#[must_use]
pub struct PageBuilder {
    /// What is shown.
    observer: Observer,
    /// Where.
    address: String,
    /// The title.
    title: String,
    /// The token, if one is asked for.
    token: Option<String>,
    /// Whether pages may change something.
    is_writable: bool,
}

impl PageBuilder {
    /// Sets the address. Default: `127.0.0.1:0`, which is a free port for this machine only. Other addresses than those
    /// of this machine need a [token](PageBuilder::token).
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = address.into();
        self
    }

    /// Sets the title. Default: the name of the program.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Asks for a token: in the header `Authorization: Bearer …`, as Prometheus sends it, or in the query as
    /// `?token=…`, which is what a browser needs. Default: none. An empty token is an error.
    ///
    /// The connection is not encrypted. A proxy in front can do that.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Lets people replay and purge dead events. Default: `false`.
    pub fn writable(mut self, is_writable: bool) -> Self {
        self.is_writable = is_writable;
        self
    }

    /// Starts to serve.
    ///
    /// # Errors
    ///
    /// Returns a [`StartError`] if there is no token although others than this machine can reach the address, if the
    /// address cannot be listened on, or if a thread cannot be created.
    pub fn start(self) -> Result<Page, StartError> {
        let PageBuilder {
            observer,
            address,
            title,
            token,
            is_writable,
        } = self;
        let failed = |error| StartError::Listen {
            address: address.clone(),
            error,
        };
        let mut resolved = address.to_socket_addrs().map_err(failed)?;
        let is_local = resolved.all(|address| address.ip().is_loopback());
        let is_guarded = token.as_ref().map_or(is_local, |token| !token.is_empty());
        if !is_guarded {
            let must = "be set and not be empty for an address that other machines can reach";
            return Err(StartError::Option(OptionError::new(
                "token",
                must.to_owned(),
            )));
        }
        let access = Arc::new(Access { token, is_local });
        let (commands, orders) = crossbeam_channel::unbounded();
        let latest = Arc::new(Mutex::new(String::from("{}")));
        let mut builder = Server::<Json, ()>::builder()
            .websocket(address)
            .reactors(1)
            .handlers(2)
            .max_connections(MAX_PAGES)
            .outbound(OUTBOUND)
            .thread_name("observe");
        builder = pages(builder, &observer, &access, &latest);
        builder = live(builder, access, commands.clone());
        if is_writable {
            builder = writes(builder, &observer);
        }
        let server = Arc::new(builder.start()?);
        let feed = Feed::new(observer, server.clone(), latest, title, is_writable);
        let thread = std::thread::Builder::new()
            .name("observe-feed".to_owned())
            .spawn(move || feed.run(&orders))
            .map_err(StartError::System)?;
        Ok(Page {
            server,
            commands,
            thread: Some(thread),
        })
    }
}

/// Adds what is answered to single requests.
fn pages(
    builder: ServerBuilder<Json, ()>,
    observer: &Observer,
    access: &Arc<Access>,
    latest: &Arc<Mutex<String>>,
) -> ServerBuilder<Json, ()> {
    let guarded = |answer: Box<dyn Fn() -> Response + Send + Sync>| {
        let access = access.clone();
        move |request: &Request| match access.check(request) {
            Ok(()) => answer(),
            Err(status) => Response::new("text/plain", "a token is needed\n").status(status),
        }
    };
    let (metrics, health, status) = (observer.clone(), observer.clone(), latest.clone());
    let may_see = access.clone();
    builder
        .path("/live")
        .get(
            "/",
            guarded(Box::new(|| Response::new("text/html; charset=utf-8", PAGE))),
        )
        .get(
            "/metrics",
            guarded(Box::new(move || {
                Response::new(super::CONTENT_TYPE, metrics.render())
            })),
        )
        .get(
            "/status.json",
            guarded(Box::new(move || {
                Response::new("application/json", status.lock().clone())
            })),
        )
        // A load balancer has no token, and learns only what it needs.
        .get("/healthz", move |request| {
            let problems = health.problems();
            let status = if problems.is_empty() { 200 } else { 503 };
            let text = match access::text(status) {
                _ if status == 503 && may_see.check(request).is_ok() => problems.join("\n"),
                text => text.to_owned(),
            };
            Response::new("text/plain; charset=utf-8", text + "\n").status(status)
        })
}

/// Adds the connections of pages.
fn live(
    builder: ServerBuilder<Json, ()>,
    access: Arc<Access>,
    commands: Sender<Command>,
) -> ServerBuilder<Json, ()> {
    builder
        .authorize(move |request| access.check(request).map_err(Reject::new))
        // The feed has ended only if the page is closed.
        .opened(move |agent| drop(commands.send(Command::Opened(agent.clone()))))
}

/// Adds what pages may change.
fn writes(builder: ServerBuilder<Json, ()>, observer: &Observer) -> ServerBuilder<Json, ()> {
    #[cfg(feature = "dispatch")]
    {
        use crate::server::Agent;

        /// Which topic of which dispatcher.
        #[derive(serde::Deserialize)]
        struct Target {
            /// The name of the dispatcher.
            dispatcher: String,
            /// The name of the topic.
            topic: String,
        }

        let find = |observer: &Observer, target: &Target| {
            let topics = observer.topics().into_iter();
            let mut topics = topics.filter(|it| *it.dispatcher == *target.dispatcher);
            topics.find(|it| *it.topic == *target.topic)
        };
        let (to_replay, to_purge) = (observer.clone(), observer.clone());
        builder
            .on("Replay", move |_: &Agent<Json, ()>, target: Target| {
                find(&to_replay, &target).map(|found| found.dead.replay())
            })
            .on("Purge", move |_: &Agent<Json, ()>, target: Target| {
                find(&to_purge, &target).map(|found| found.dead.purge())
            })
    }
    #[cfg(not(feature = "dispatch"))]
    {
        let _ = observer;
        builder
    }
}

/// A page with live pictures of what an [`Observer`] knows, with the endpoints `/metrics`, `/healthz` and
/// `/status.json` beside it.
///
/// ```
/// use std::io::{Read, Write};
/// use liveness::observe::{Observer, Page};
///
/// let page = Page::builder(&Observer::new()).start()?;
/// println!("look at {}", page.url());
///
/// let mut client = std::net::TcpStream::connect(page.local_addr())?;
/// client.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
/// let mut answer = String::new();
/// client.read_to_string(&mut answer)?;
/// assert!(answer.starts_with("HTTP/1.1 200 OK"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The page is one file that loads nothing else. It is fed over WebSocket, every half second with what changed, and
/// looks at keys and nodes only while someone looks at it. Its threads are those of a [`Server`] of its own, with one
/// reactor, and one more. Dropping it closes all pages and ends the threads, which may block for about a second.
#[must_use = "the page is closed when this is dropped"]
pub struct Page {
    /// The server.
    server: Arc<Server<Json, ()>>,
    /// What the feed is asked for.
    commands: Sender<Command>,
    /// The thread of the feed.
    thread: Option<JoinHandle<()>>,
}

impl Page {
    /// Returns the options of a page that shows what `observer` knows, also what it will know later.
    pub fn builder(observer: &Observer) -> PageBuilder {
        let program = std::env::args_os().next().unwrap_or_default();
        let name = std::path::Path::new(&program).file_name();
        PageBuilder {
            observer: observer.clone(),
            address: "127.0.0.1:0".to_owned(),
            title: name.unwrap_or_default().to_string_lossy().into_owned(),
            token: None,
            is_writable: false,
        }
    }

    /// Returns the address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addrs()[0]
    }

    /// Returns the address for a browser, without the token.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.local_addr())
    }

    /// Returns the server of the page, which can be observed like any other.
    #[must_use]
    pub fn server(&self) -> &Arc<Server<Json, ()>> {
        &self.server
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // It has ended only after a panic, which is not possible in its own code.
        let _ = self.commands.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = self
            .server
            .shutdown(Shutdown::within(Duration::from_secs(1)));
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page")
            .field("url", &self.url())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PageBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageBuilder")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
