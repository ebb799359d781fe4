//! The processes, what happens to them, and whether the ledger is as it must be.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use liveness::redis::SharedWatcher;

use crate::ledger::{self, Line};
use crate::redis_server::RedisServer;
use crate::role::{KEYS, Role, TIMEOUT};

/// How long a step may take. Only a fault lets it pass.
const PATIENCE: Duration = Duration::from_secs(60);

/// The options of the private server. It saves each write before it answers, so that the acknowledgement of a report is
/// not forgotten.
const OPTIONS: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// A copy of this program, which is killed at the end.
struct Copy(Child);

impl Copy {
    /// Kills it by SIGKILL.
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The story.
pub(crate) struct Story {
    /// When it began.
    began: Instant,
    /// The private server, if it is used.
    server: Option<RedisServer>,
    /// The URL of the server.
    url: String,
    /// The name of the watch.
    name: String,
    /// Where the ledgers are.
    folder: PathBuf,
    /// The watch, as this process sees it.
    watch: SharedWatcher,
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
        let name = format!("example-{}", process::id());
        let folder = env::temp_dir().join(format!("shared-watch-{}", process::id()));
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let role = Role::new("", &url, &name, PathBuf::new());
        let watch = role.builder().build().map_err(|error| error.to_string())?;
        Ok(Story {
            began: Instant::now(),
            server,
            url,
            name,
            folder,
            watch,
        })
    }

    /// Prints a line.
    fn say(&self, text: &str) {
        println!("{:6.2} s  {text}", self.began.elapsed().as_secs_f64());
    }

    /// The path of a ledger.
    fn ledger(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Starts a copy.
    fn copy(&self, kind: &str, ledger: &str) -> Result<Copy, String> {
        let role = Role::new(kind, &self.url, &self.name, self.ledger(ledger));
        let program = env::current_exe().map_err(|error| error.to_string())?;
        let child = Command::new(program)
            .arg("--role")
            .args(role.words())
            .spawn();
        Ok(Copy(child.map_err(|error| error.to_string())?))
    }

    /// How many keys are watched, or zero while the server does not answer.
    fn watched(&self) -> u64 {
        self.watch.counts().map_or(0, |counts| counts.watched)
    }

    /// What the keepers have written.
    fn reports(&self) -> Vec<Line> {
        let mut lines = ledger::read(&self.ledger("reports"));
        lines.retain(|line| line.words[0] == "report");
        lines
    }

    /// Runs the story, and judges it.
    pub(crate) fn tell(mut self) -> Result<(), String> {
        let _keepers = [
            self.copy("keeper", "reports")?,
            self.copy("keeper", "reports")?,
        ];
        let mut stuck = self.copy("stuck-keeper", "stuck")?;
        let mut gather = self.copy("gather", "gather")?;
        let mut batches = self.copy("batches", "batches")?;
        let all = 2 * KEYS as u64;
        wait_until("all keys are watched", || self.watched() == all)?;
        self.say("three keepers watch 10,000 keys, which two processes beat");
        thread::sleep(TIMEOUT);

        batches.kill();
        self.say("killed a process with 5,000 keys");
        wait_until("the third keeper holds reports", || {
            !ledger::read(&self.ledger("stuck")).is_empty()
        })?;
        stuck.kill();
        self.say("killed a keeper while it held reports");
        wait_until("5,000 keys are reported", || self.reports().len() >= KEYS)?;
        self.say("the others have reported all 5,000");

        if self.server.is_some() {
            self.restart()?;
        } else {
            self.say("the server is not restarted, since others may use it");
            self.say(&format!(
                "the keys `{{lv:{}#*}}:*` may be deleted afterwards",
                self.name
            ));
        }

        gather.kill();
        self.say("killed the other process with 5,000 keys");
        wait_until("10,000 keys are reported", || {
            self.reports().len() >= 2 * KEYS
        })?;
        // Whatever is reported twice has the time to show.
        thread::sleep(TIMEOUT);
        self.judge()
    }

    /// Kills the server, and starts it again when all keys are overdue.
    fn restart(&mut self) -> Result<(), String> {
        let server = self.server.as_mut().ok_or("no private server")?;
        server.kill();
        self.say("killed the server");
        thread::sleep(TIMEOUT * 2);
        let server = self.server.as_mut().ok_or("no private server")?;
        server.restart()?;
        self.say("started the server again, after two timeouts");
        // Long enough for a key to be reported in spite of the 3 s in which others connect again.
        thread::sleep(TIMEOUT + Duration::from_secs(4));
        let reports = self.reports().len();
        if reports != KEYS {
            return Err(format!(
                "{} keys are reported for the outage",
                reports - KEYS
            ));
        }
        self.say("nobody was reported for that");
        Ok(())
    }

    /// Judges the ledgers and the account.
    fn judge(&self) -> Result<(), String> {
        let counts = self.watch.counts().map_err(|error| error.to_string())?;
        self.say(&format!("account: {counts}"));
        let reports = self.reports();
        let mut latest = 0;
        let mut again = 0;
        for (letter, process) in [('a', "gather"), ('b', "batches")] {
            let last = last_beat(&self.ledger(process)).ok_or("no beats")?;
            let mut times: HashMap<&str, u32> = HashMap::new();
            for line in &reports {
                let [_, key, _, attempt] = &*line.words else {
                    return Err(format!("a line that is none: {line:?}"));
                };
                if !key.starts_with(letter) {
                    continue;
                }
                *times.entry(key).or_default() += 1;
                again += u32::from(attempt != "1");
                let silent = line.at.saturating_sub(last);
                if silent < TIMEOUT.as_nanos() {
                    return Err(format!("{key} is reported early, after {silent} ns"));
                }
                if letter == 'b' {
                    latest = latest.max(silent - TIMEOUT.as_nanos());
                }
            }
            let missing = (0..KEYS).filter(|key| !times.contains_key(&*format!("{letter}{key}")));
            let (missing, twice) = (
                missing.count(),
                times.values().filter(|times| **times > 1).count(),
            );
            if times.len() != KEYS || missing > 0 || twice > 0 {
                let others = times.len() + missing - KEYS;
                return Err(format!(
                    "{missing} keys are missing, {twice} reported twice, {others} unknown"
                ));
            }
        }
        let mut by_keeper: HashMap<u32, u32> = HashMap::new();
        for line in &reports {
            *by_keeper.entry(line.process).or_default() += 1;
        }
        self.say(&format!(
            "each of 10,000 keys is reported once and none early, by {by_keeper:?} (process: reports); {again} were held by \
             the killed keeper"
        ));
        let latest = Duration::from_nanos(u64::try_from(latest).unwrap_or(u64::MAX));
        self.say(&format!(
            "of the first 5,000, the last one came {latest:.0?} after its deadline, a lease included"
        ));
        let is_right = counts.is_balanced() && counts.delivered == 2 * KEYS as u64 && again > 0;
        is_right
            .then_some(())
            .ok_or_else(|| "the account is wrong".to_owned())
    }
}

/// Waits until `is_so`.
fn wait_until(what: &str, is_so: impl Fn() -> bool) -> Result<(), String> {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > PATIENCE {
            return Err(format!("{what}: not within {PATIENCE:?}"));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

impl Drop for Story {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The time before which no key can have expired: all beats that the process knows to be recorded came after it.
fn last_beat(ledger: &Path) -> Option<u128> {
    let lines = ledger::read(ledger);
    let line = lines.last()?;
    match line.words.get(1) {
        // When the last round that succeeded began.
        Some(begin) => begin.parse().ok(),
        // A beater sends each key once in an interval, which is four lines; five times as many allow for a busy
        // machine.
        None => lines.len().checked_sub(20).map(|at| lines[at].at),
    }
}
