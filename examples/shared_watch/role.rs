//! What the copies of the program do.

use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use liveness::redis::{SharedBuilder, SharedWatcher};

use crate::ledger;

/// The timeout of the keys.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);

/// How often each key is beaten.
const INTERVAL: Duration = Duration::from_millis(400);

/// How many keys each of the two processes beats.
pub(crate) const KEYS: usize = 5_000;

/// For how long a keeper has a report.
const LEASE: Duration = Duration::from_secs(1);

/// A role, as it is given on the command line of a copy.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    /// `keeper`, `stuck-keeper`, `gather` or `batches`.
    kind: String,
    /// The server.
    url: String,
    /// The name of the watch.
    watch: String,
    /// The file to write into.
    ledger: PathBuf,
}

impl Role {
    /// Creates a role.
    pub(crate) fn new(kind: &str, url: &str, watch: &str, ledger: PathBuf) -> Self {
        Role {
            kind: kind.to_owned(),
            url: url.to_owned(),
            watch: watch.to_owned(),
            ledger,
        }
    }

    /// Reads what [`words`](Role::words) has written.
    pub(crate) fn parse(words: &[OsString]) -> Option<Self> {
        let [kind, url, watch, ledger] = words else {
            return None;
        };
        let (kind, url, watch) = (kind.to_str()?, url.to_str()?, watch.to_str()?);
        Some(Role::new(kind, url, watch, ledger.into()))
    }

    /// Writes it for a command line.
    pub(crate) fn words(&self) -> [OsString; 4] {
        let Role {
            kind,
            url,
            watch,
            ledger,
        } = self;
        [kind.into(), url.into(), watch.into(), ledger.into()]
    }

    /// The options of the watch.
    pub(crate) fn builder(&self) -> SharedBuilder {
        SharedWatcher::builder(&self.url, &self.watch)
            .timeout(TIMEOUT)
            .lease(LEASE)
    }

    /// Runs until the process is killed.
    pub(crate) fn run(&self) -> Result<(), Box<dyn Error>> {
        match &*self.kind {
            "keeper" => self.keep(false),
            "stuck-keeper" => self.keep(true),
            "gather" => self.gather(),
            "batches" => self.beat_in_batches(),
            other => Err(format!("unknown role {other}").into()),
        }
    }

    /// Writes each report into the ledger. A keeper that is stuck holds its first reports for ever, and writes none.
    fn keep(&self, is_stuck: bool) -> Result<(), Box<dyn Error>> {
        let mut ledger = ledger::append(&self.ledger)?;
        let _watch = self
            .builder()
            .on_expired(move |expired| {
                if is_stuck {
                    ledger::write(&mut ledger, &["stuck"]);
                    loop {
                        thread::park();
                    }
                }
                let (fence, attempt) = (expired.fence.to_string(), expired.attempt.to_string());
                let key = expired.key_text();
                ledger::write(&mut ledger, &["report", &key, &fence, &attempt]);
            })
            .build()?;
        loop {
            thread::park();
        }
    }

    /// Beats half of the keys through a [`Beater`](liveness::redis::Beater), more often than it sends them.
    fn gather(&self) -> Result<(), Box<dyn Error>> {
        let watch = self.builder().build()?;
        let beater = watch.beater(INTERVAL)?;
        let mut ledger = ledger::append(&self.ledger)?;
        let mut is_watched = false;
        loop {
            for key in 0..KEYS {
                beater.beat(format!("a{key}"))?;
            }
            if !is_watched {
                beater.flush()?;
                is_watched = true;
            }
            ledger::write(&mut ledger, &["beaten"]);
            thread::sleep(INTERVAL / 4);
        }
    }

    /// Beats the other half in batches.
    fn beat_in_batches(&self) -> Result<(), Box<dyn Error>> {
        let watch = self.builder().build()?;
        let mut ledger = ledger::append(&self.ledger)?;
        loop {
            let begin = ledger::now();
            // Fails while there is no server.
            if watch
                .beat_many((0..KEYS).map(|key| format!("b{key}")))
                .is_ok()
            {
                ledger::write(&mut ledger, &["beaten", &begin.to_string()]);
            }
            thread::sleep(INTERVAL);
        }
    }
}
