//! A connection to Redis: one call at a time, every wait bounded, and any doubt ends the connection.
//!
//! The rest of the module sees no type of the `redis` crate but [`Value`] and [`Cmd`].

use std::fmt;
use std::time::Duration;

use redis::{Arg, Client, Connection, ConnectionLike, ErrorKind, IntoConnectionInfo, RedisError};
pub(crate) use redis::{Cmd, Value, cmd};

/// The first wait before a new attempt to connect. Each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// The longest wait before a new attempt to connect.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Where the server is, and how long a call may take.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// The server, with the credentials.
    client: Client,
    /// How long connecting may take.
    connect: Duration,
    /// How long a reply may take.
    response: Duration,
}

impl Endpoint {
    /// Reads `url`, such as `redis://user:password@host:6379/0` or `redis+unix:///run/redis.sock`.
    ///
    /// # Errors
    ///
    /// Returns the error of a URL that cannot be read.
    pub(crate) fn new(url: &str, connect: Duration, response: Duration) -> Result<Self, LinkError> {
        let info = url.into_connection_info()?;
        // The default of the crate is to gather small writes, which delays each call by up to 40 ms.
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        let client = Client::open(info.set_tcp_settings(tcp))?;
        Ok(Endpoint {
            client,
            connect,
            response,
        })
    }

    /// Returns how long connecting may take.
    pub(crate) fn connect_timeout(&self) -> Duration {
        self.connect
    }

    /// Connects. Blocks for at most the time to connect, and longer if the name of the host takes longer to resolve.
    ///
    /// # Errors
    ///
    /// Returns the error of the connection.
    pub(crate) fn connect(&self) -> Result<Link, LinkError> {
        let connection = self.client.get_connection_with_timeout(self.connect)?;
        // Connecting ends with both timeouts taken away again.
        connection.set_read_timeout(Some(self.response))?;
        connection.set_write_timeout(Some(self.response))?;
        Ok(Link {
            connection: Box::new(connection),
        })
    }

    /// Connects for calls that block for up to `longest` on the server.
    ///
    /// # Errors
    ///
    /// Returns the error of the connection.
    pub(crate) fn connect_blocking(&self, longest: Duration) -> Result<Link, LinkError> {
        let connection: Connection = self.client.get_connection_with_timeout(self.connect)?;
        connection.set_read_timeout(Some(longest + self.response))?;
        connection.set_write_timeout(Some(self.response))?;
        Ok(Link {
            connection: Box::new(connection),
        })
    }
}

/// A script of the folder `scripts`.
pub(crate) struct Script {
    /// Its name, for errors.
    name: &'static str,
    /// Its text.
    text: String,
    /// The hash of the text, by which it is called.
    hash: String,
}

impl Script {
    /// Creates the script `name` with `text`.
    pub(crate) fn new(name: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        let hash = redis::Script::new(&text).get_hash().to_owned();
        Script { name, text, hash }
    }

    /// Begins a call of the script with `keys`, to which its arguments are then added.
    pub(crate) fn call<K: AsRef<[u8]>>(&self, keys: &[K]) -> Cmd {
        let mut call = cmd("EVALSHA");
        call.arg(&self.hash).arg(keys.len());
        for key in keys {
            call.arg(key.as_ref());
        }
        call
    }

    /// The call `call` of the script with its text, which the server keeps for the next calls.
    fn with_text(&self, call: &Cmd) -> Cmd {
        let mut with_text = cmd("EVAL");
        with_text.arg(&self.text);
        for argument in call.args_iter().skip(2) {
            if let Arg::Simple(argument) = argument {
                with_text.arg(argument);
            }
        }
        with_text
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Script").field(&self.name).finish()
    }
}

/// An open connection.
pub(crate) struct Link {
    /// The connection. A cluster connection has the same interface.
    connection: Box<dyn ConnectionLike + Send>,
}

impl Link {
    /// A link over `connection`.
    #[cfg(test)]
    pub(crate) fn over(connection: impl ConnectionLike + Send + 'static) -> Self {
        Link {
            connection: Box::new(connection),
        }
    }

    /// Makes one call and returns the reply.
    ///
    /// # Errors
    ///
    /// Returns the error of the server, or that of the connection, which the caller then drops: a late reply would be
    /// taken for that of the next call.
    pub(crate) fn query(&mut self, call: &Cmd) -> Result<Value, LinkError> {
        Ok(call.query(&mut *self.connection)?)
    }

    /// Makes the call `call` of `script`. If the server does not have the script, which it may drop at any moment, the
    /// call is made with the text.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`query`](Link::query).
    pub(crate) fn run(&mut self, script: &Script, call: &Cmd) -> Result<Value, LinkError> {
        match self.query(call) {
            Err(LinkError::Server { code, .. }) if code == "NOSCRIPT" => {
                self.query(&script.with_text(call))
            }
            reply => reply,
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

/// Why a call has no reply.
#[derive(Clone, Debug)]
pub(crate) enum LinkError {
    /// The connection could not be made. The call was not sent.
    Unreachable(String),
    /// The connection was lost, or the server did not answer in time. The call may have been executed.
    Lost(String),
    /// The server refused the call, which had no effect.
    Server {
        /// The first word of the error.
        code: String,
        /// The rest.
        text: String,
    },
    /// The call was executed, and the reply has not the shape that was expected.
    Shape,
}

impl LinkError {
    /// Whether the same call may succeed later, without any change by the operator.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            LinkError::Unreachable(_) | LinkError::Lost(_) => true,
            LinkError::Shape => false,
            LinkError::Server { code, .. } => matches!(
                &**code,
                "LOADING"
                    | "READONLY"
                    | "MASTERDOWN"
                    | "TRYAGAIN"
                    | "BUSY"
                    | "CLUSTERDOWN"
                    | "UNBLOCKED"
            ),
        }
    }
}

impl From<RedisError> for LinkError {
    fn from(error: RedisError) -> Self {
        match (error.kind(), error.code()) {
            (ErrorKind::Server(_) | ErrorKind::Extension, Some(code)) => LinkError::Server {
                code: code.to_owned(),
                text: error.detail().unwrap_or_default().to_owned(),
            },
            // Waiting does not mend it.
            _ if error.kind() == ErrorKind::AuthenticationFailed => LinkError::Server {
                code: "WRONGPASS".to_owned(),
                text: one_line(&error),
            },
            _ if error.is_timeout() => LinkError::Lost("no reply in time".to_owned()),
            _ => LinkError::Lost(one_line(&error)),
        }
    }
}

/// The text of an error on one line, for logs.
fn one_line(error: &RedisError) -> String {
    let text = error.to_string();
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    lines.join(" ").trim_end().to_owned()
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::Unreachable(text) | LinkError::Lost(text) => f.write_str(text),
            LinkError::Shape => f.write_str("the reply has an unexpected shape"),
            LinkError::Server { code, text } => write!(f, "{code} {text}"),
        }
    }
}

impl std::error::Error for LinkError {}

/// A connection that is made anew after it was lost.
#[derive(Debug)]
pub(crate) struct Line {
    /// The server.
    endpoint: Endpoint,
    /// For how long a call may block on the server, if it may.
    blocks: Option<Duration>,
    /// The connection, if there is one.
    link: Option<Link>,
    /// How many calls in a row have lost their connection or were refused for the moment.
    failures: u32,
}

impl Line {
    /// Creates a line that connects at the first call.
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Line {
            endpoint,
            blocks: None,
            link: None,
            failures: 0,
        }
    }

    /// Creates a line for calls that block for up to `longest` on the server.
    pub(crate) fn blocking(endpoint: Endpoint, longest: Duration) -> Self {
        Line {
            blocks: Some(longest),
            ..Line::new(endpoint)
        }
    }

    /// Makes the call `call` of `script`, once. Connects first if there is no connection.
    ///
    /// # Errors
    ///
    /// Returns the error. After one that [passes](LinkError::is_passing) there is no connection, and the caller waits
    /// for [`backoff`](Line::backoff) before its next call.
    pub(crate) fn run(&mut self, script: &Script, call: &Cmd) -> Result<Value, LinkError> {
        self.with(|link| link.run(script, call))
    }

    /// Makes `call`, once. Connects first if there is no connection.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`run`](Line::run).
    pub(crate) fn query(&mut self, call: &Cmd) -> Result<Value, LinkError> {
        self.with(|link| link.query(call))
    }

    /// Makes a call on the connection.
    fn with(
        &mut self,
        call: impl FnOnce(&mut Link) -> Result<Value, LinkError>,
    ) -> Result<Value, LinkError> {
        let made = self.link().and_then(call);
        match &made {
            Err(error) if error.is_passing() => {
                self.link = None;
                self.failures = self.failures.saturating_add(1);
            }
            _ => self.failures = 0,
        }
        made
    }

    /// The connection, which is made if there is none.
    fn link(&mut self) -> Result<&mut Link, LinkError> {
        let link = match (self.link.take(), self.blocks) {
            (Some(link), _) => Ok(link),
            (None, None) => self.endpoint.connect(),
            (None, Some(longest)) => self.endpoint.connect_blocking(longest),
        };
        let link = link.map_err(|error| match error {
            LinkError::Lost(text) => LinkError::Unreachable(text),
            other => other,
        })?;
        Ok(self.link.insert(link))
    }

    /// How long to wait before the next call: nothing after a success and after the first failure, then 50 ms, which
    /// doubles up to 1 s, each less up to a half at random. Processes that lost the server together do not come back
    /// together.
    pub(crate) fn backoff(&self) -> Duration {
        let Some(doublings) = self.failures.checked_sub(2) else {
            return Duration::ZERO;
        };
        let wait = FIRST_WAIT
            .saturating_mul(1 << doublings.min(16))
            .min(LONGEST_WAIT);
        wait.mul_f64(1.0 - fastrand::f64() / 2.0)
    }
}
