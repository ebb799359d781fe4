//! The processes, what happens to them, and whether the ledger is as it must be.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use liveness::redis::Dispatcher;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ledger::{Fate, Ledger, judge};
use crate::redis_server::RedisServer;
use crate::role::{Job, LEASE, Role};

/// How long a step may take. Only a fault lets it pass.
const PATIENCE: Duration = Duration::from_secs(60);

/// The options of the private server. It saves each write before it answers, so what it has accepted survives its end.
const OPTIONS: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// A copy of this program.
struct Copy(Child);

impl Copy {
    /// Ends it in order, by the end of its input.
    fn end(mut self, kind: &str) -> Result<(), String> {
        self.0.stdin = None;
        let mut status = None;
        wait_until(&format!("a {kind} ends"), || {
            status = self.0.try_wait().ok().flatten();
            status.is_some()
        })?;
        match status {
            Some(status) if status.success() => Ok(()),
            status => Err(format!("a {kind} failed: {status:?}")),
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The beginning of a call, from the ledger.
#[derive(Clone, Copy, Debug)]
struct Begun {
    /// The fence, which is when the event was claimed, us since 1970.
    fence: u64,
    /// The process.
    pid: u32,
    /// When it began, ns since 1970.
    at: u64,
}

/// The story.
pub(crate) struct Story {
    /// When it began.
    began: Instant,
    /// The private server, if it is used.
    server: Option<RedisServer>,
    /// Where the ledger is.
    folder: PathBuf,
    /// What the copies are given.
    role: Role,
    /// The ledger.
    ledger: Ledger,
    /// A dispatcher without handlers.
    dispatcher: Dispatcher,
}

impl Story {
    /// Connects to the server, or starts one.
    pub(crate) fn begin(redis: Option<String>) -> Result<Self, String> {
        let server = match redis {
            None => Some(RedisServer::start_with(&OPTIONS)?),
            Some(_) => None,
        };
        let url = redis
            .or(server.as_ref().map(RedisServer::url))
            .unwrap_or_default();
        let topic = format!("durable-jobs-{}", process::id());
        let folder = env::temp_dir().join(&topic);
        let path = folder.join("ledger");
        let role = Role::new("", &url, &topic, path).ok_or("the topic has no name")?;
        let dispatcher = role.builder().build().map_err(|error| error.to_string())?;
        let text = |error: std::io::Error| format!("{}: {error}", folder.display());
        fs::create_dir_all(&folder).map_err(text)?;
        let ledger = Ledger::open(role.ledger()).map_err(text)?;
        Ok(Story {
            began: Instant::now(),
            server,
            folder,
            role,
            ledger,
            dispatcher,
        })
    }

    /// Prints a line.
    fn say(&self, text: &str) {
        println!("{:6.2} s  {text}", self.began.elapsed().as_secs_f64());
    }

    /// Starts a copy.
    fn copy(&self, kind: &str) -> Result<Copy, String> {
        let program = env::current_exe().map_err(|error| error.to_string())?;
        let child = Command::new(program)
            .arg("--role")
            .args(self.role.words(kind))
            .stdin(Stdio::piped())
            .spawn();
        Ok(Copy(child.map_err(|error| error.to_string())?))
    }

    /// How many lines of the ledger begin with `kind`.
    fn lines(&self, kind: &str) -> usize {
        let text = fs::read_to_string(self.role.ledger()).unwrap_or_default();
        text.lines().filter(|line| line.starts_with(kind)).count()
    }

    /// The calls for the event `id` that have begun.
    fn begun(&self, id: u64) -> Vec<Begun> {
        let text = fs::read_to_string(self.role.ledger()).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.strip_prefix("begin "));
        let numbers = |line: &str| -> Vec<u64> {
            line.split(' ')
                .map_while(|word| word.parse().ok())
                .collect()
        };
        lines
            .filter_map(|line| match numbers(line)[..] {
                [of, fence, pid, at, _] if of == id => Some(Begun {
                    fence,
                    pid: pid as u32,
                    at,
                }),
                _ => None,
            })
            .collect()
    }

    /// Emits a job that runs for `runs`, and waits until a worker has begun it.
    fn begin_job(&self, runs: Duration) -> Result<(u64, Begun), String> {
        let job = Job {
            runs_ms: runs.as_millis() as u64,
            fails: 0,
        };
        let emitted = self.dispatcher.emit(self.role.topic(), job);
        let id = emitted.map_err(|error| error.to_string())?.get();
        self.ledger.accepted(id);
        Ok((id, self.wait_for(id, 1)?))
    }

    /// Waits until the event `id` was begun for the `times`-th time.
    fn wait_for(&self, id: u64, times: usize) -> Result<Begun, String> {
        let mut begun = None;
        wait_until(&format!("event {id} begins {times} times"), || {
            begun = self.begun(id).into_iter().nth(times - 1);
            begun.is_some()
        })?;
        begun.ok_or_else(|| format!("event {id} did not begin"))
    }

    /// Waits until the call `begun` of the event `id` has ended.
    fn wait_for_end(&self, id: u64, begun: Begun) -> Result<(), String> {
        let end = format!("end {id} {} {} ", begun.fence, begun.pid);
        wait_until("a handler ends", || self.lines(&end) == 1)
    }

    /// Runs the story, and judges it.
    pub(crate) fn tell(mut self) -> Result<(), String> {
        let mut workers = Vec::new();
        for _ in 0..3 {
            workers.push(self.copy("worker")?);
        }
        let producers = [self.copy("producer")?, self.copy("producer")?];
        wait_until("a thousand events are handled", || {
            self.lines("end ") > 1_000
        })?;
        self.say("two processes emit, three handle; a thousand events are handled");

        let (id, first) = self.begin_job(LEASE / 2)?;
        let at = workers.iter().position(|worker| worker.0.id() == first.pid);
        self.ledger.fate(Fate::Killed, first.pid);
        drop(workers.remove(at.ok_or("no worker began the event")?));
        self.say(&format!(
            "killed worker {} in the handler of event {id}",
            first.pid
        ));
        let second = self.wait_for(id, 2)?;
        let after =
            Duration::from_nanos(second.at).saturating_sub(Duration::from_micros(first.fence));
        self.say(&format!(
            "worker {} began event {id} {after:.3?} after its first claim; the lease is {LEASE:?}",
            second.pid
        ));

        let (id, first) = self.begin_job(LEASE / 2)?;
        let pid = Pid::from_raw(first.pid.cast_signed());
        let signal = |signal| kill(pid, signal).map_err(|error| error.to_string());
        signal(Signal::SIGSTOP)?;
        self.ledger.fate(Fate::Stopped, first.pid);
        self.say(&format!(
            "stopped worker {} in the handler of event {id}",
            first.pid
        ));
        let second = self.wait_for(id, 2)?;
        self.wait_for_end(id, second)?;
        self.say(&format!(
            "worker {} handled it, with fence {} after {}",
            second.pid, second.fence, first.fence
        ));
        self.ledger.fate(Fate::Continued, first.pid);
        signal(Signal::SIGCONT)?;
        self.wait_for_end(id, first)?;
        self.say("continued the worker; its call ended, and its outcome comes too late");

        if self.server.is_some() {
            self.restart()?;
        } else {
            self.say("the server is not restarted, since others may use it");
        }

        for producer in producers {
            producer.end("producer")?;
        }
        self.say("the producers have ended");
        let topic = self.role.topic().clone();
        wait_until("all events are handled", || {
            let counts = self.dispatcher.counts(&topic);
            counts.is_ok_and(|counts| counts.scheduled + counts.ready + counts.running == 0)
        })?;
        for worker in workers {
            worker.end("worker")?;
        }
        self.judge()
    }

    /// Kills the server while a handler runs, and starts it again when the lease would be over.
    fn restart(&mut self) -> Result<(), String> {
        let (id, begun) = self.begin_job(3 * LEASE)?;
        if let Some(server) = &mut self.server {
            server.kill();
        }
        self.say(&format!("killed the server while event {id} ran"));
        thread::sleep(LEASE * 5 / 4);
        if let Some(server) = &mut self.server {
            server.restart()?;
        }
        let accepted = self.lines("ok ");
        self.say("restarted the server after more than a lease");
        self.wait_for_end(id, begun)?;
        if self.begun(id).len() > 1 {
            return Err(format!("event {id} ran twice because the server was away"));
        }
        if self.lines("ok ") == accepted {
            return Err("no event was accepted after the restart".to_owned());
        }
        self.say("the handler has ended, and ran once");
        Ok(())
    }

    /// Prints the account, and judges it.
    fn judge(self) -> Result<(), String> {
        let stats = self.dispatcher.stats().map_err(|error| error.to_string())?;
        let account = stats.total();
        let verdict = judge(self.role.ledger(), LEASE).map_err(|error| error.to_string())?;
        let rows = [
            ("accepted", verdict.accepted.to_string()),
            ("handled", verdict.handled.to_string()),
            ("outcomes that counted", account.done.to_string()),
            ("attempts", verdict.attempts.to_string()),
            ("of these after a failure", account.retried.to_string()),
            (
                "of these after a lapse, explained",
                verdict.explained.to_string(),
            ),
            ("leases that lapsed", account.lapsed.to_string()),
            (
                "stale outcomes that came to the server",
                account.stale.to_string(),
            ),
            ("lateness p50", format!("{:.3?}", verdict.late(50))),
            ("lateness p99", format!("{:.3?}", verdict.late(99))),
        ];
        println!();
        for (name, value) in rows {
            println!("{name:<40} {value:>12}");
        }
        println!();
        if let Some(fault) = verdict.faults.first() {
            let count = verdict.faults.len();
            return Err(format!("{count} faults in the ledger, the first: {fault}"));
        }
        let handled = verdict.handled as u64;
        if !stats.is_balanced() || account.emitted != handled || account.done != handled {
            return Err(format!("the account is wrong: {account}"));
        }
        if verdict.explained == 0 {
            return Err("nothing was repeated, so nothing was shown".to_owned());
        }
        if self.server.is_none() {
            let topic = self.role.topic().name();
            println!("the keys {{lv:{topic}}}:* may be deleted");
        }
        let _ = fs::remove_dir_all(&self.folder);
        Ok(())
    }
}

/// Waits until `is_so`.
///
/// # Errors
///
/// Returns `what` if that takes too long.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<(), String> {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > PATIENCE {
            return Err(format!("not within {PATIENCE:?}: {what}"));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
