//! Options for a durable dispatcher.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::check::{self, Access};
use super::dispatcher::Dispatcher;
use super::engine::{DurableSettings, Engine};
use super::envelope::Codec;
use super::error::BuildError;
use super::keeper::Options;
use super::keeper::claims::Times;
use crate::dispatch::local::settings::Settings;
use crate::dispatch::{BuildError as WorkersError, Notice};
use crate::error::OptionError;
use crate::panic::catch_panic;

/// The most bytes that an event may be allowed to have: its argument is one string of Redis.
const MAX_EVENT: usize = 64 << 20;

/// The longest lease.
const MAX_LEASE: Duration = Duration::from_secs(24 * 3_600);

/// The shortest lease. A renewal must fit into a third of it.
const MIN_LEASE: Duration = Duration::from_millis(100);

/// How often a topic is looked at, at least, in case that a process ended with a token it had taken.
const LOOK: Duration = Duration::from_secs(5);

/// How many notices wait for the callback.
const WAITING_NOTICES: usize = 1_024;

/// The commands that the scripts of the dispatcher run.
const COMMANDS: [&str; 19] = [
    "HGET",
    "HMGET",
    "HSET",
    "HDEL",
    "HLEN",
    "HEXISTS",
    "TIME",
    "HSCAN",
    "ZADD",
    "ZREM",
    "ZCARD",
    "ZCOUNT",
    "ZSCORE",
    "ZRANGE",
    "ZRANGEBYSCORE",
    "ZREMRANGEBYRANK",
    "RPUSH",
    "LLEN",
    "BLPOP",
];

/// Options for a [`Dispatcher`], created by [`Dispatcher::builder`].
///
/// Setters never fail; [`build`](Builder::build) returns an error that names the invalid option, or says why the server
/// cannot be used.
///
/// ```
/// use liveness::redis::Dispatcher;
///
/// let error = Dispatcher::builder("redis://127.0.0.1/").threads(0).build().unwrap_err();
/// assert_eq!(error.to_string(), "`threads` must be from 1 to 1,024");
/// let error = Dispatcher::builder("http://127.0.0.1/").build().unwrap_err();
/// assert!(error.to_string().starts_with("the URL cannot be read"));
/// ```
#[must_use]
pub struct Builder {
    /// The server.
    access: Access,
    /// The options of the workers.
    workers: Settings,
    /// Called with each notice.
    on_notice: Option<Box<dyn Fn(Notice) + Send + Sync>>,
    /// The encoding of events.
    codec: Codec,
    /// The largest event, in bytes.
    max_event_bytes: usize,
    /// The lease.
    lease: Duration,
    /// How often the lease of an event may end.
    max_lapses: u32,
    /// For how long an emit is repeated.
    emit_timeout: Duration,
}

impl Dispatcher {
    /// Returns the options for a new dispatcher on the server at `url`, such as `redis://user:password@host:6379/0` or
    /// `redis+unix:///run/redis.sock`.
    pub fn builder(url: &str) -> Builder {
        Builder::new(url)
    }
}

impl Builder {
    /// Creates the default options.
    fn new(url: &str) -> Self {
        Builder {
            access: Access::new(url.to_owned(), Duration::from_secs(5)),
            workers: Settings::new(),
            on_notice: None,
            codec: Codec::default(),
            max_event_bytes: 256 << 10,
            lease: Duration::from_secs(30),
            max_lapses: 10,
            emit_timeout: Duration::from_secs(5),
        }
    }

    /// Sets the number of worker threads, from 1 to 1,024. Default: the number of cores, but at least 4. As many
    /// handlers run at the same time in this process. There are two more threads, which reach Redis.
    pub fn threads(mut self, threads: usize) -> Self {
        self.workers.threads = threads;
        self
    }

    /// Sets how many events of one topic may be unfinished, which means that they wait or run, from 1 to 10,000,000.
    /// Default: 1,000,000. Further events are refused with [`Full`](crate::dispatch::EmitErrorKind::Full). Each process
    /// applies its own limit to the events that it emits.
    pub fn max_unfinished(mut self, events: usize) -> Self {
        self.workers.max_unfinished = events;
        self
    }

    /// Sets how many dead events a topic keeps, at most 100,000. Default: 1,000. A further dead event replaces the
    /// oldest one, which is counted as purged. With zero, no dead event is kept.
    pub fn max_dead(mut self, events: usize) -> Self {
        self.workers.max_dead = events;
        self
    }

    /// Sets how long an event stays with a process that does not renew its lease, from 100 ms to a day. Default: 30 s.
    ///
    /// Leases are renewed after a third of this, so a handler may run for longer. If a process ends or stops, its
    /// events start elsewhere after this time. A process that is suspended for longer runs an event that another one
    /// runs too; its outcome is then ignored.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets how often the lease of an event may end while it runs before the event is moved to the dead list. Default:
    /// 10. Zero is an error. An event that ends its process is found by this. From the second time on, the event waits
    /// for a random time of up to 2^n s, so that it does not end the same neighbours again.
    pub fn max_lapses(mut self, lapses: u32) -> Self {
        self.max_lapses = lapses;
        self
    }

    /// Sets the encoding of the events that this dispatcher emits. Default: [`Codec::Json`].
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Sets how many bytes an encoded event with its headers may have, at most 64 MiB. Default: 256 KiB. Zero is an
    /// error. Larger events are refused with [`TooLarge`](crate::dispatch::EmitErrorKind::TooLarge).
    pub fn max_event_bytes(mut self, bytes: usize) -> Self {
        self.max_event_bytes = bytes;
        self
    }

    /// Sets for how long, at most, `emit` and the other calls are repeated while Redis does not answer. Default: 5 s. A
    /// call blocks for up to this time, the time for a connection and the time for a response.
    pub fn emit_timeout(mut self, timeout: Duration) -> Self {
        self.emit_timeout = timeout;
        self
    }

    /// Sets how long connecting may take. Default: 5 s. Zero is an error. The time to resolve a host name is not
    /// limited. [`build`](Builder::build) waits this long for a server that does not listen yet, or that loads its
    /// data.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.access.connect_timeout = timeout;
        self
    }

    /// Sets how long a reply of Redis may take. Default: 2 s. Zero is an error. A connection that does not answer in
    /// time is made anew.
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.access.response_timeout = timeout;
        self
    }

    /// Sets whether a server is used whose `maxmemory-policy` evicts keys. Default: `false`, because such a server
    /// loses events when its memory is full. Lost events are counted in [`lost`](crate::dispatch::TopicStats::lost).
    pub fn allow_eviction(mut self, allows: bool) -> Self {
        self.access.allows_eviction = allows;
        self
    }

    /// Sets how long a call may continue after it was cancelled with
    /// [`Cause::TooLong`](crate::dispatch::Cause::TooLong) before it is reported as stuck. Default: 10 s. Zero is an
    /// error.
    pub fn stuck_after(mut self, duration: Duration) -> Self {
        self.workers.stuck_after = duration;
        self
    }

    /// Sets how many stuck threads may be replaced by new ones at the same time. Default: 16.
    pub fn max_stuck(mut self, threads: usize) -> Self {
        self.workers.max_stuck = threads;
        self
    }

    /// Sets what the names of the threads begin with; `dispatch` by default, must not contain a zero byte.
    pub fn thread_name(mut self, prefix: impl Into<String>) -> Self {
        self.workers.thread_name = prefix.into();
        self
    }

    /// Sets a callback for notices. Default: none. It runs on a thread of its own. If 1,024 notices wait for it,
    /// further ones are dropped and counted. A panic is caught. A second call of this method replaces the callback.
    pub fn on_notice(mut self, callback: impl Fn(Notice) + Send + Sync + 'static) -> Self {
        self.on_notice = Some(Box::new(callback));
        self
    }

    /// Checks the server, and creates the dispatcher with its threads.
    ///
    /// # Errors
    ///
    /// Returns [`BuildError::Option`] if an option is out of range, [`BuildError::Connect`] if the server cannot be
    /// reached or used, or [`BuildError::Spawn`] if the operating system cannot spawn a thread.
    pub fn build(mut self) -> Result<Dispatcher, BuildError> {
        if let Some(callback) = self.on_notice.take() {
            let receiver = self.workers.channel(WAITING_NOTICES, false)?;
            let body = move || {
                for notice in receiver {
                    let _ = catch_panic(|| callback(notice));
                }
            };
            let name = format!("{}-notices", self.workers.thread_name);
            // It ends when the threads that emit notices have ended.
            let built = self.start()?;
            thread::Builder::new()
                .name(name)
                .spawn(body)
                .map_err(BuildError::Spawn)?;
            return Ok(built);
        }
        self.start()
    }

    /// Creates the dispatcher, and returns it with the receiver of its notices. The channel is bounded: it holds
    /// `capacity` notices, from 1 to 65,536. See
    /// [`build_with_notices`](crate::dispatch::Builder::build_with_notices) of the local dispatcher.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`build`](Builder::build). It is also an error if the capacity is out of range, or
    /// [`on_notice`](Builder::on_notice) is set.
    pub fn build_with_notices(
        mut self,
        capacity: usize,
    ) -> Result<(Dispatcher, Receiver<Notice>), BuildError> {
        let receiver = self.workers.channel(capacity, self.on_notice.is_some())?;
        Ok((self.start()?, receiver))
    }

    /// Checks everything and creates the dispatcher.
    fn start(self) -> Result<Dispatcher, BuildError> {
        self.workers.check()?;
        let lease = (MIN_LEASE..=MAX_LEASE).contains(&self.lease);
        OptionError::check("lease", "be from 100 ms to a day", lease)?;
        OptionError::positive("max_lapses", self.max_lapses > 0)?;
        let bytes = (1..=MAX_EVENT).contains(&self.max_event_bytes);
        OptionError::check("max_event_bytes", "be from 1 to 64 MiB", bytes)?;
        self.access.check()?;
        let (endpoint, mut link) = self.access.connect()?;
        let session = format!("{:016x}", fastrand::u64(..));
        check::permissions(&mut link, &format!("{{lv:check-{session}}}:q"), &COMMANDS)?;
        let keeper = Options {
            session,
            threads: self.workers.threads,
            times: Times {
                lease: self.lease,
                look: LOOK.min(self.lease / 3),
            },
            max_dead: self.workers.max_dead,
            max_lapses: self.max_lapses.into(),
        };
        let settings = DurableSettings {
            codec: self.codec,
            max_event_bytes: self.max_event_bytes,
            emit_timeout: self.emit_timeout,
            keeper,
        };
        let engine =
            Engine::start(&endpoint, self.workers, settings).map_err(|error| match error {
                WorkersError::Option(error) => BuildError::Option(error),
                WorkersError::Spawn(error) => BuildError::Spawn(error),
            })?;
        Ok(Dispatcher::new(Arc::new(engine)))
    }
}

impl fmt::Debug for Builder {
    /// Leaves out the URL, which may have a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("threads", &self.workers.threads)
            .field("max_unfinished", &self.workers.max_unfinished)
            .field("max_dead", &self.workers.max_dead)
            .field("lease", &self.lease)
            .field("codec", &self.codec)
            .finish_non_exhaustive()
    }
}
