//! The options of a client, its handlers, and its start.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ahash::HashMap;

use super::address::Address;
use super::course::Backoff;
use super::error::StartError;
use super::greeting::Greeting;
use super::handle::Client;
use super::job::Asked;
use super::line::{Line, Plan};
use super::reactor;
use super::shared::{Greet, Handle, OnState, Owner, Program, Room, Route, Shared, WhenFull};
use super::state::State;
#[cfg(feature = "tls")]
use super::trust::{Identity, Trust};
use crate::error::OptionError;
use crate::server::codec::{Codec, Decode, Encode};
use crate::server::limits::{Limits, Overflow};
use crate::server::session::{self, Settings};
use crate::server::websocket::{self, Role};
use crate::server::wire::{Link, Wire};
use crate::server::{DecodeError, Fault, Framing, Keepalive};

/// What the session may hold besides the whole queue, bytes.
const SESSION_ROOM: usize = 256 << 10;

/// Options and handlers of a [`Client`], created by [`Client::builder`].
///
/// Setters never fail; [`start`](ClientBuilder::start) returns an error that names the invalid option.
#[must_use]
pub struct ClientBuilder<C> {
    /// Where the server is.
    url: String,
    /// The authorities that are trusted under TLS; `None` for those of the system.
    #[cfg(feature = "tls")]
    trust: Option<Trust>,
    /// Further headers of the upgrade request.
    headers: Vec<(String, String)>,
    /// How messages on TCP are delimited.
    framing: Framing,
    /// When a silent server is pinged and given up.
    keepalive: Keepalive,
    /// The longest message that is accepted, bytes.
    max_message: usize,
    /// How long an attempt may take.
    connect_within: Duration,
    /// The waits between attempts.
    backoff: Backoff,
    /// How much waits at most.
    room: Room,
    /// The handlers by name.
    routes: HashMap<Arc<str>, Route<C>>,
    /// Is called with each state.
    state: Option<OnState<C>>,
    /// Makes the first messages of a connection.
    greet: Option<Greet<C>>,
    /// The first handler that is not possible.
    bad_route: Option<OptionError>,
}

impl<C: Codec> Client<C> {
    /// Returns the options of a client of the server at `url`: `tcp://host:port` or `ws://host:port/path`, or the same
    /// under TLS with `tcps://` or `wss://` and the feature `tls`. The port of `ws://` is 80 by default, that of
    /// `wss://` 443.
    pub fn builder(url: impl Into<String>) -> ClientBuilder<C> {
        ClientBuilder::new(url.into())
    }
}

impl<C: Codec> ClientBuilder<C> {
    /// Creates the default options.
    fn new(url: String) -> Self {
        ClientBuilder {
            url,
            #[cfg(feature = "tls")]
            trust: None,
            headers: Vec::new(),
            framing: Framing::default(),
            keepalive: Keepalive::default(),
            max_message: 64 << 10,
            connect_within: Duration::from_secs(5),
            backoff: Backoff {
                first: Duration::from_millis(250),
                longest: Duration::from_secs(30),
                spread: Duration::from_secs(10),
            },
            room: Room {
                messages: 256,
                bytes: 1 << 20,
                when_full: WhenFull::Refuse,
            },
            routes: HashMap::default(),
            state: None,
            greet: None,
            bad_route: None,
        }
    }

    /// Sets which certificate authorities are trusted. Only for `tcps://` and `wss://`. Default: [`Trust::system`].
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn trust(mut self, trust: &Trust) -> Self {
        self.trust = Some(trust.clone());
        self
    }

    /// Adds a header to the upgrade request, such as `Authorization`. Only for `ws://` and `wss://`.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets how messages are delimited on TCP, as the server does. Default: [`Framing::U16`].
    pub fn framing(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// Sets when a silent server is pinged, and when it is given up. Default: after 25 and 45 seconds. See
    /// [`unanswered`](ClientBuilder::unanswered) for the same by a number of pings.
    pub fn keepalive(mut self, keepalive: Keepalive) -> Self {
        self.keepalive = keepalive;
        self
    }

    /// Pings a server that was silent for `ping_after`, again each `ping_after` of further silence, and gives it up
    /// when `pings` pings in a row had no answer for `ping_after`: `(pings + 1) * ping_after` after its last byte.
    pub fn unanswered(self, ping_after: Duration, pings: u32) -> Self {
        let drop_after = ping_after.saturating_mul(pings.saturating_add(1));
        self.keepalive(Keepalive::new(ping_after, drop_after))
    }

    /// Sets how many bytes a received message may have. Default: 64 KiB. Zero is an error.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// Sets how long the look-up of the host's name and the connection may take, and again how long the handshake of
    /// TLS with the upgrade may. Default: 5 seconds. Zero is an error.
    pub fn connect_within(mut self, within: Duration) -> Self {
        self.connect_within = within;
        self
    }

    /// Sets the waits between attempts. Each is a random part of a span, which is `first` at first and doubles up to
    /// `longest`. It is `first` again after a connection that lasted for at least the span or, if the server closed it
    /// with code 1013, for `longest`. Default: 250 ms and 30 s. Zero, or a `first` above `longest`, is an error.
    pub fn retry(mut self, first: Duration, longest: Duration) -> Self {
        self.backoff.first = first;
        self.backoff.longest = longest;
        self
    }

    /// Sets the span of the first wait after the server has closed with code 1001 or 1012, because it is shut down: all
    /// of its clients lose their connections, and come back evenly over this time. Default: 10 s.
    pub fn spread(mut self, spread: Duration) -> Self {
        self.backoff.spread = spread;
        self
    }

    /// Sets how many messages wait at most while there is no connection, and how many bytes at any time. Default: 256
    /// messages and 1 MiB. Zero is an error.
    pub fn queue(mut self, messages: usize, bytes: usize) -> Self {
        self.room.messages = messages;
        self.room.bytes = bytes;
        self
    }

    /// Sets what happens to a message that finds the queue full. Default: [`WhenFull::Refuse`].
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.room.when_full = when_full;
        self
    }

    /// Calls `code` for each message named `name`, in their order, on one of the few threads for the handlers of all
    /// clients of the process. A handler that blocks delays the other handlers of this client; when its messages fill
    /// 64 places or 256 KiB, the socket is not read until it goes on.
    ///
    /// Messages whose body cannot be decoded are counted in [`ClientStats::bad`](super::ClientStats::bad).
    pub fn on<M: Decode<C>, R>(
        self,
        name: &str,
        code: impl Fn(&Client<C>, M) -> R + Send + Sync + 'static,
    ) -> Self {
        self.route(name, false, Self::handle(code))
    }

    /// Calls `code` for each message named `name` like [`on`](ClientBuilder::on), but on the thread that owns the
    /// sockets of all clients of the process, which all wait for it. It may overtake messages with other handlers.
    pub fn on_inline<M: Decode<C>, R>(
        self,
        name: &str,
        code: impl Fn(&Client<C>, M) -> R + Send + Sync + 'static,
    ) -> Self {
        self.route(name, true, Self::handle(code))
    }

    /// Answers each request of the server named `name` with what `code` returns, on a thread like
    /// [`on`](ClientBuilder::on). An answer whose connection has ended is dropped.
    pub fn on_request<M: Decode<C>, A: Encode<C>>(
        self,
        name: &str,
        code: impl Fn(&Client<C>, M) -> Result<A, Fault> + Send + Sync + 'static,
    ) -> Self {
        let answer = name.to_owned();
        let handle: Handle<C> = Box::new(move |shared, codec, body, asked| {
            let client = Client::of(shared);
            let answered = code(&client, M::decode(codec, body)?);
            if let Some(asked) = asked {
                // A server that has gone needs no answer.
                let _ = client.answer(&answer, answered, asked);
            }
            Ok(())
        });
        self.route(name, false, handle)
    }

    /// Sends what `code` adds to the greeting first on each connection, before anything that waits: for example a login
    /// and subscriptions. It is called for each connection, on the thread that owns the sockets of all clients, and
    /// must not block. If it panics, or a message cannot be encoded, the connection is closed and made again.
    pub fn greet(mut self, code: impl Fn(&mut Greeting<C>) + Send + Sync + 'static) -> Self {
        self.greet = Some(Box::new(code));
        self
    }

    /// Calls `code` with each [`State`] in their order, on a thread like [`on`](ClientBuilder::on).
    pub fn state(mut self, code: impl Fn(&Client<C>, &State) + Send + Sync + 'static) -> Self {
        self.state = Some(Box::new(move |shared, state| {
            code(&Client::of(shared), state);
        }));
        self
    }

    /// Makes a handler of `code`.
    fn handle<M: Decode<C>, R>(
        code: impl Fn(&Client<C>, M) -> R + Send + Sync + 'static,
    ) -> Handle<C> {
        Box::new(
            move |client, codec, body, _: Option<Asked>| -> Result<(), DecodeError> {
                code(&Client::of(client), M::decode(codec, body)?);
                Ok(())
            },
        )
    }

    /// Adds a handler.
    fn route(mut self, name: &str, is_inline: bool, handle: Handle<C>) -> Self {
        let is_reserved = [session::PING, session::PONG, Fault::NAME].contains(&name);
        let route = Route { is_inline, handle };
        if is_reserved || self.routes.insert(name.into(), route).is_some() {
            let must = format!(
                "have one handler for each name other than Ping, Pong and Error, not `{name}`"
            );
            self.bad_route
                .get_or_insert_with(|| OptionError::new("on", must));
        }
        self
    }

    /// Checks the options.
    fn validate(&mut self, address: &Address, codec: C) -> Result<(), OptionError> {
        if let Some(error) = self.bad_route.take() {
            return Err(error);
        }
        self.keepalive.validate()?;
        OptionError::positive("max_message", self.max_message > 0)?;
        OptionError::positive("connect_within", !self.connect_within.is_zero())?;
        OptionError::positive("retry", !self.backoff.first.is_zero())?;
        let is_rising = self.backoff.first <= self.backoff.longest;
        OptionError::check(
            "retry",
            "have a first wait of at most the longest",
            is_rising,
        )?;
        OptionError::positive("queue", self.room.messages > 0 && self.room.bytes > 0)?;
        let is_websocket = address.target.is_some();
        let has_headers = !self.headers.is_empty();
        let must = "be used with `ws://` or `wss://` only, for a TCP connection has no headers";
        OptionError::check("header", must, is_websocket || !has_headers)?;
        for (name, value) in &self.headers {
            check_header(name, value)?;
        }
        #[cfg(feature = "tls")]
        OptionError::check(
            "trust",
            "be used with `tcps://` or `wss://` only",
            address.is_secure || self.trust.is_none(),
        )?;
        let is_possible = is_websocket || self.framing != Framing::Lines || codec.is_text();
        OptionError::check(
            "framing",
            "be `Lines` only for a codec of text",
            is_possible,
        )
    }

    /// Returns what the server must prove, if the connection is under TLS.
    #[cfg(feature = "tls")]
    fn identity(&mut self, address: &Address) -> Result<Option<Identity>, StartError> {
        if !address.is_secure {
            return Ok(None);
        }
        let trust = match self.trust.take() {
            Some(trust) => trust,
            None => Trust::system().map_err(StartError::Tls)?,
        };
        let identity = Identity::new(trust, &address.host).ok_or_else(|| StartError::Url {
            url: self.url.clone(),
            must: "contain a host that a certificate can be for, which is a name or an IP address",
        })?;
        Ok(Some(identity))
    }

    /// Starts the client, and with it the threads of all clients if it is the first one. It begins to connect at once;
    /// what is sent meanwhile waits.
    ///
    /// # Errors
    ///
    /// Returns a [`StartError`] that says what is wrong with the URL or an option, that the system has no certificates
    /// of authorities, or that a thread cannot be created.
    pub fn start(mut self) -> Result<Client<C>, StartError> {
        let address = Address::parse(&self.url).map_err(|must| StartError::Url {
            url: self.url.clone(),
            must,
        })?;
        let codec = C::default();
        self.validate(&address, codec)?;
        #[cfg(feature = "tls")]
        let identity = self.identity(&address)?;
        let link = if address.target.is_some() {
            Link::WebSocket
        } else {
            Link::Tcp(self.framing)
        };
        let role = Role::Client;
        let wire = Wire { link, codec, role };
        let settings = Settings {
            keepalive: self.keepalive,
            limits: Limits {
                max_message: self.max_message,
                handshake_within: self.connect_within,
                outbound: self.room.bytes.saturating_add(SESSION_ROOM),
                overflow: Overflow::DropNew,
                ..Limits::default()
            },
            salt: websocket::unforeseen(),
            ..Settings::default()
        };
        let plan = Plan {
            address,
            #[cfg(feature = "tls")]
            identity,
            headers: self.headers,
            settings: Arc::new(settings),
            connect_within: self.connect_within,
            backoff: self.backoff,
        };
        let program = Program {
            routes: self.routes,
            state: self.state,
            greet: self.greet,
        };
        let room = self.room;
        let owner = reactor::add(|id, hub| {
            let shared = Arc::new(Shared::new(id, wire, hub, room, program));
            let owner = Arc::new(Owner(shared.clone()));
            shared.set_owner(Arc::downgrade(&owner));
            (Box::new(Line::new(shared, plan)), owner)
        })?;
        Ok(Client::new(owner))
    }
}

/// Checks that a header can be sent, and is none that the upgrade has by itself.
fn check_header(name: &str, value: &str) -> Result<(), OptionError> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_name = !name.is_empty() && name.bytes().all(is_letter);
    let lower = name.to_ascii_lowercase();
    let is_own = [
        "host",
        "upgrade",
        "connection",
        "content-length",
        "transfer-encoding",
    ]
    .contains(&&*lower)
        || lower.starts_with("sec-websocket-");
    let is_value = value
        .bytes()
        .all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7F));
    if !is_name || is_own {
        let must = format!(
            "have a name of letters and dashes that the upgrade does not set itself, not `{}`",
            name.escape_debug()
        );
        return Err(OptionError::new("header", must));
    }
    let must = "have a value without line breaks and control characters";
    OptionError::check("header", must, is_value)
}

impl<C> fmt::Debug for ClientBuilder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("url", &self.url)
            .field("keepalive", &self.keepalive)
            .finish_non_exhaustive()
    }
}
