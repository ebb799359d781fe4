//! The options of a shared watch: defaults, units and validation.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::SharedWatcher;
use super::caller::{Caller, Watch, check_timeout, micros};
use super::keeper::{Keeper, OnExpired};
use super::layout::Settings;
use super::report::Expired;
use super::script::{COMMANDS, Calls, numbers};
use super::stats::Tally;
use crate::dispatch::Topic;
use crate::error::OptionError;
use crate::redis::check::{self, Access};
use crate::redis::error::{BuildError, ConnectError};
use crate::redis::link::{Link, LinkError};

/// The maximum number of shards.
const MAX_SHARDS: usize = 1_024;

/// The least `outage_after`, which bounds how often keepers look at each shard.
const MIN_OUTAGE: Duration = Duration::from_millis(20);

/// The longest `outage_after` that is chosen by default.
const LONGEST_OUTAGE: Duration = Duration::from_secs(5);

/// The shortest `outage_after` that is chosen by default, unless the timeout is shorter.
const SHORTEST_OUTAGE: Duration = Duration::from_millis(500);

/// The least lease.
const MIN_LEASE: Duration = Duration::from_millis(100);

/// Options for a [`SharedWatcher`], created by [`SharedWatcher::builder`].
///
/// Setters never fail; [`build`](SharedBuilder::build) returns an error that names the invalid option.
///
/// ```
/// use liveness::redis::SharedWatcher;
///
/// let builder = SharedWatcher::builder("redis://127.0.0.1/", "devices").shards(0);
/// let error = builder.build().unwrap_err(); // before it connects
/// assert_eq!(error.to_string(), "`shards` must be from 1 to 1,024");
/// ```
#[must_use]
pub struct SharedBuilder {
    /// The server.
    access: Access,
    /// The name of the watch.
    name: String,
    /// The number of shards.
    shards: usize,
    /// The timeout of keys without one of their own.
    timeout: Duration,
    /// How long a shard is out of reach before its deadlines are moved; by default chosen from the timeout.
    outage_after: Option<Duration>,
    /// Whether stored settings are replaced.
    replace_settings: bool,
    /// For how long a keeper has the reports that it takes.
    lease: Duration,
    /// The callback.
    on_expired: Option<OnExpired>,
    /// What the names of threads begin with.
    thread_name: String,
}

impl SharedWatcher {
    /// Returns the options for the watch `name` on the server at `url`, with default values.
    ///
    /// A URL is like `redis://user:password@host:6379/0` or `redis+unix:///run/redis.sock`. A name has the form of that
    /// of a [`Topic`]: 1 to 128 of the characters `A` to `Z`, `a` to `z`, `0` to `9`, `.`, `_`, `:`, `/` and `-`.
    pub fn builder(url: impl Into<String>, name: impl Into<String>) -> SharedBuilder {
        SharedBuilder {
            access: Access::new(url.into(), Duration::from_secs(2)),
            name: name.into(),
            shards: 16,
            timeout: Duration::from_secs(30),
            outage_after: None,
            replace_settings: false,
            lease: Duration::from_secs(10),
            on_expired: None,
            thread_name: "watch".to_owned(),
        }
    }
}

impl SharedBuilder {
    /// Sets how long a key may be silent, from 10 ms to 100 years. Default: 30 s. It is stored with the watch.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets over how many shards the keys are spread, from 1 to 1,024. Default: 16. It is stored with the watch and
    /// cannot be changed later.
    ///
    /// All keys of a shard are on the same node of a cluster. Keepers call each shard twice in each
    /// [`outage_after`](SharedBuilder::outage_after), so on a single server fewer shards mean less idle traffic.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    /// Sets for how long nobody calls a shard before that is taken for an outage, from 20 ms to the timeout. Default: a
    /// quarter of the timeout, but from 500 ms to 5 s, and at most the timeout. It is stored with the watch.
    ///
    /// After an outage, all deadlines of the shard are moved by its length and 3 s, in which others connect again. An
    /// outage that is shorter moves nothing, so beats must come often enough that a key outlives one: the timeout must
    /// be longer than the time between two beats and `outage_after` together.
    ///
    /// Keepers look at each shard twice in this time. A key whose timeout is shorter than a half of it may be reported
    /// that much late; others are reported within milliseconds.
    pub fn outage_after(mut self, duration: Duration) -> Self {
        self.outage_after = Some(duration);
        self
    }

    /// Replaces the timeout and `outage_after` that are stored with the watch, if they differ. Default: `false`, and
    /// [`build`](SharedBuilder::build) returns an error if they do. Processes that run follow the new ones.
    pub fn replace_settings(mut self, replace: bool) -> Self {
        self.replace_settings = replace;
        self
    }

    /// Makes this process a keeper: `callback` is called for each key that was silent for too long and that this
    /// process takes. Default: none. A second call of this method replaces the callback.
    ///
    /// Each report is delivered at least once, to one of the keepers. It is delivered when the callback returns. If the
    /// process ends before that, or the callback panics, the report is handed out again after the
    /// [lease](SharedBuilder::lease), with a higher [`fence`](Expired::fence). The callback runs on a thread of its
    /// own. It is called for one key after the other: while it is slow, this process takes few reports ahead, and other
    /// keepers take the rest.
    pub fn on_expired(mut self, callback: impl FnMut(Expired) + Send + 'static) -> Self {
        self.on_expired = Some(Box::new(callback));
        self
    }

    /// Sets for how long a keeper has a report before another one may take it, at least 100 ms. Default: 10 s. A keeper
    /// that runs prolongs its leases, so a slow callback needs no longer one.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets how long connecting may take, greater than zero. Default: 2 s. A server that loads its data set is waited
    /// for within this time.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.access.connect_timeout = timeout;
        self
    }

    /// Sets how long a reply may take, greater than zero. Default: 2 s.
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.access.response_timeout = timeout;
        self
    }

    /// Accepts a server that evicts keys when its memory is full. Default: `false`. An evicted shard is lost without a
    /// report.
    pub fn allow_eviction(mut self, allow: bool) -> Self {
        self.access.allows_eviction = allow;
        self
    }

    /// Sets what the names of the threads begin with; `watch` by default, must not contain a zero byte.
    pub fn thread_name(mut self, prefix: impl Into<String>) -> Self {
        self.thread_name = prefix.into();
        self
    }

    /// Connects to the server, checks it and the stored settings, and spawns the keeper's threads if there is a
    /// callback.
    ///
    /// # Errors
    ///
    /// Returns [`BuildError::Option`] if an option is out of range or differs from what is stored,
    /// [`BuildError::Connect`] if the server cannot be used, or [`BuildError::Spawn`] if the operating system cannot
    /// spawn a thread.
    pub fn build(self) -> Result<SharedWatcher, BuildError> {
        let settings = self.check()?;
        let name = self.name;
        let calls = Calls::new(&name, settings);
        let (endpoint, mut link) = self.access.connect()?;
        check::permissions(&mut link, &calls.layout.keys(0)[0], &COMMANDS)?;
        let shards = if self.replace_settings {
            settings.shards
        } else {
            1
        };
        for shard in 0..shards {
            agree(&mut link, &calls, shard, self.replace_settings)?;
        }
        let watch = Arc::new(Watch {
            name,
            calls,
            endpoint,
            tally: Tally::default(),
        });
        let spawn = |callback| Keeper::spawn(&watch, self.lease, &self.thread_name, callback);
        let keeper = self.on_expired.map(spawn);
        let keeper = keeper.transpose().map_err(BuildError::Spawn)?;
        let caller = Caller::new(watch.endpoint.clone());
        Ok(SharedWatcher::new(watch, caller, keeper, self.thread_name))
    }

    /// Checks the options, and returns those that are stored.
    fn check(&self) -> Result<Settings, OptionError> {
        if let Err(error) = Topic::<()>::named(&*self.name) {
            return Err(OptionError::new("name", format!("be valid: {error}")));
        }
        let shards = (1..=MAX_SHARDS).contains(&self.shards);
        OptionError::check("shards", "be from 1 to 1,024", shards)?;
        let timeout = check_timeout(self.timeout)?;
        let outage = self.outage_after.unwrap_or_else(|| {
            let quarter = self.timeout / 4;
            quarter
                .clamp(SHORTEST_OUTAGE, LONGEST_OUTAGE)
                .clamp(MIN_OUTAGE, self.timeout.max(MIN_OUTAGE))
        });
        let is_in_range = (MIN_OUTAGE..=self.timeout.max(MIN_OUTAGE)).contains(&outage);
        OptionError::check("outage_after", "be from 20 ms to the timeout", is_in_range)?;
        OptionError::check("lease", "be at least 100 ms", self.lease >= MIN_LEASE)?;
        self.access.check()?;
        let name = !self.thread_name.contains('\0');
        OptionError::check("thread_name", "contain no zero byte", name)?;
        Ok(Settings {
            shards: self.shards,
            timeout,
            outage: micros(outage),
        })
    }
}

/// Stores the settings of `calls` in a shard that has none, or replaces them, and checks that they are what is stored.
fn agree(link: &mut Link, calls: &Calls, shard: usize, replace: bool) -> Result<(), BuildError> {
    let call = calls.open(shard, replace);
    let stored = match link.run(call.script, &call.command).and_then(numbers::<3>) {
        Ok([_, timeout, outage]) => [timeout.unsigned_abs(), outage.unsigned_abs()],
        Err(LinkError::Server { code, text }) if code == "SHARDS" => {
            let must = format!("be {text}, as it is stored with the watch");
            return Err(OptionError::new("shards", must).into());
        }
        Err(error) => return Err(ConnectError::of_call(error).into()),
    };
    let own = [calls.settings.timeout, calls.settings.outage];
    for ((option, stored), own) in ["timeout", "outage_after"].into_iter().zip(stored).zip(own) {
        if stored != own {
            let stored = Duration::from_micros(stored);
            let must =
                format!("be {stored:?}, as it is stored with the watch; or set `replace_settings`");
            return Err(OptionError::new(option, must).into());
        }
    }
    Ok(())
}

impl fmt::Debug for SharedBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the URL, which may have a password.
        f.debug_struct("SharedBuilder")
            .field("name", &self.name)
            .field("shards", &self.shards)
            .field("timeout", &self.timeout)
            .field("outage_after", &self.outage_after)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}
