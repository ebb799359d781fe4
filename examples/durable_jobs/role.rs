//! What the copies of the program do.

use std::error::Error;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use liveness::dispatch::{Backoff, Emit, EventId, On, Topic};
use liveness::redis::{Builder, Dispatcher};
use serde::{Deserialize, Serialize};

use crate::ledger::{Ledger, Stage};

/// For how long an event stays with a process that does not renew its lease.
pub(crate) const LEASE: Duration = Duration::from_secs(2);

/// For how long an emit is repeated while the server is out of reach.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a producer waits between two emits.
const PACE: Duration = Duration::from_millis(2);

/// A job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// For how long its handler runs, ms.
    pub(crate) runs_ms: u64,
    /// How many of its attempts fail.
    pub(crate) fails: u32,
}

/// A role, as it is given on the command line of a copy.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    /// `producer` or `worker`.
    kind: String,
    /// The server.
    url: String,
    /// The topic.
    topic: Topic<Job>,
    /// The file to write into.
    ledger: PathBuf,
}

impl Role {
    /// Creates a role. Returns `None` if the topic has a name that cannot be used.
    pub(crate) fn new(kind: &str, url: &str, topic: &str, ledger: PathBuf) -> Option<Self> {
        Some(Role {
            kind: kind.to_owned(),
            url: url.to_owned(),
            topic: Topic::named(topic).ok()?,
            ledger,
        })
    }

    /// Reads what [`words`](Role::words) has written.
    pub(crate) fn parse(words: &[OsString]) -> Option<Self> {
        let [kind, url, topic, ledger] = words else {
            return None;
        };
        Role::new(
            kind.to_str()?,
            url.to_str()?,
            topic.to_str()?,
            ledger.into(),
        )
    }

    /// Writes it for a command line, as a copy of the given kind.
    pub(crate) fn words(&self, kind: &str) -> [OsString; 4] {
        let topic = self.topic.name();
        [
            kind.into(),
            (&self.url).into(),
            topic.into(),
            (&self.ledger).into(),
        ]
    }

    /// The topic.
    pub(crate) fn topic(&self) -> &Topic<Job> {
        &self.topic
    }

    /// The file.
    pub(crate) fn ledger(&self) -> &PathBuf {
        &self.ledger
    }

    /// The options of its dispatcher.
    pub(crate) fn builder(&self) -> Builder {
        let builder = Dispatcher::builder(&self.url).threads(4);
        builder.lease(LEASE).emit_timeout(PATIENCE)
    }

    /// Runs until the standard input is closed.
    pub(crate) fn run(&self) -> Result<(), Box<dyn Error>> {
        let ledger = Ledger::open(&self.ledger)?;
        let dispatcher = self.builder().build()?;
        let is_over = Arc::new(AtomicBool::new(false));
        let own = is_over.clone();
        thread::spawn(move || {
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            own.store(true, Ordering::Relaxed);
        });
        if self.kind == "worker" {
            self.handle(&dispatcher, ledger)?;
            while !is_over.load(Ordering::Relaxed) {
                thread::sleep(PACE);
            }
        } else {
            while !is_over.load(Ordering::Relaxed) {
                self.emit(&dispatcher, &ledger)?;
                thread::sleep(PACE);
            }
        }
        let _ = dispatcher.stop(PATIENCE);
        Ok(())
    }

    /// Handles jobs.
    fn handle(&self, dispatcher: &Dispatcher, ledger: Ledger) -> Result<(), Box<dyn Error>> {
        let options = On::new().backoff(Backoff::constant(Duration::from_millis(50)));
        dispatcher.on(&self.topic, "work", options, move |context, job| {
            let (id, fence) = (context.id().get(), context.fence());
            let note = |stage| ledger.call(stage, id, fence, context.lateness());
            note(Stage::Begin);
            thread::sleep(Duration::from_millis(job.runs_ms));
            if context.attempt() <= job.fails {
                note(Stage::Fail);
                return Err("not yet".into());
            }
            note(Stage::End);
            Ok(())
        })?;
        Ok(())
    }

    /// Emits a job, or several.
    fn emit(&self, dispatcher: &Dispatcher, ledger: &Ledger) -> Result<(), Box<dyn Error>> {
        let note = |id: EventId| ledger.accepted(id.get());
        let job = Job {
            runs_ms: fastrand::u64(..4),
            fails: u32::from(fastrand::u32(..50) == 0),
        };
        match fastrand::u32(..20) {
            0 => {
                let jobs = vec![job; fastrand::usize(1..20)];
                let ids = dispatcher.emit_many(&self.topic, jobs)?;
                ids.into_iter().for_each(note);
            }
            1 | 2 => {
                let delay = Duration::from_millis(fastrand::u64(..500));
                note(dispatcher.emit_with(&self.topic, job, Emit::after(delay))?);
            }
            _ => note(dispatcher.emit(&self.topic, job)?),
        }
        Ok(())
    }
}
