//! The scripts of a watch: their calls and replies.

use std::sync::LazyLock;

use super::counts::SharedCounts;
use super::layout::{Layout, Settings};
use super::report::Report;
use crate::redis::link::{Cmd, LinkError, Script, Value};
use crate::redis::reply::Reply;

/// The most keys or reports that one call takes.
pub(crate) const BATCH: usize = 200;

/// The commands that the scripts use.
pub(crate) const COMMANDS: [&str; 14] = [
    "TIME",
    "EXISTS",
    "HGET",
    "HMGET",
    "HSET",
    "HDEL",
    "HINCRBY",
    "ZADD",
    "ZCARD",
    "ZCOUNT",
    "ZRANGE",
    "ZREM",
    "ZREMRANGEBYRANK",
    "ZSCORE",
];

/// The scripts as they are used.
static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts::new(str::to_owned));

/// The scripts.
#[derive(Debug)]
pub(crate) struct Scripts {
    /// Reads and replaces the settings.
    open: Script,
    /// Records signs of life.
    beat: Script,
    /// Hands out reports, and takes back what became of them.
    look: Script,
    /// Ends the watch over keys.
    remove: Script,
    /// Reads how a key stands.
    status: Script,
    /// Reads the account.
    counts: Script,
}

impl Scripts {
    /// Creates the scripts. `edit` changes the text that they have in common, for tests.
    pub(crate) fn new(edit: impl Fn(&str) -> String) -> Self {
        let time = edit(include_str!("../scripts/watch_time.lua"));
        let script = |name, text: &str| Script::new(name, format!("{time}{text}"));
        Scripts {
            open: script("watch_open", include_str!("../scripts/watch_open.lua")),
            beat: script("watch_beat", include_str!("../scripts/watch_beat.lua")),
            look: script("watch_look", include_str!("../scripts/watch_look.lua")),
            remove: script("watch_remove", include_str!("../scripts/watch_remove.lua")),
            status: script("watch_status", include_str!("../scripts/watch_status.lua")),
            counts: script("watch_counts", include_str!("../scripts/watch_counts.lua")),
        }
    }
}

/// A call that is ready to be made.
pub(crate) struct Call {
    /// The script.
    pub(crate) script: &'static Script,
    /// The call.
    pub(crate) command: Cmd,
}

/// The calls of one watch.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    /// The names of the keys.
    pub(crate) layout: Layout,
    /// The settings.
    pub(crate) settings: Settings,
    /// The scripts.
    scripts: &'static Scripts,
}

/// What a keeper has to say of reports that it holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held<'a> {
    /// Those that are delivered.
    pub(crate) delivered: &'a [Report],
    /// Those that are not yet, whose leases are prolonged.
    pub(crate) kept: &'a [Report],
    /// Those that it will not deliver.
    pub(crate) returned: &'a [Report],
}

/// The reply to a keeper.
#[derive(Debug)]
pub(crate) struct Looked {
    /// By how much the deadlines were moved, us.
    pub(crate) moved: u64,
    /// How long the shard may be out of reach before that, us, as it is stored.
    pub(crate) outage: u64,
    /// The time until the next report is due, us, if there is one.
    pub(crate) wait: Option<u64>,
    /// How many of the delivered reports were still held by this keeper.
    pub(crate) delivered: u64,
    /// The reports that are handed out.
    pub(crate) reports: Vec<Report>,
}

impl Calls {
    /// Returns the calls for the watch `name`.
    pub(crate) fn new(name: &str, settings: Settings) -> Self {
        Calls::with(name, settings, &SCRIPTS)
    }

    /// Returns the calls with other scripts, for tests.
    pub(crate) fn with(name: &str, settings: Settings, scripts: &'static Scripts) -> Self {
        Calls {
            layout: Layout::new(name, settings.shards),
            settings,
            scripts,
        }
    }

    /// Begins a call of `script` for a shard.
    fn call(&self, script: &'static Script, shard: usize) -> Call {
        let mut command = script.call(self.layout.keys(shard));
        command
            .arg(self.settings.shards)
            .arg(self.settings.timeout)
            .arg(self.settings.outage);
        Call { script, command }
    }

    /// Reads the settings of a shard, and replaces timeout and outage if asked to.
    pub(crate) fn open(&self, shard: usize, replace: bool) -> Call {
        let mut call = self.call(&self.scripts.open, shard);
        call.command.arg(u8::from(replace));
        call
    }

    /// Beats keys of a shard, at most [`BATCH`]; `timeout` us is zero for that of the watch.
    pub(crate) fn beat<K: AsRef<[u8]>>(&self, shard: usize, timeout: u64, keys: &[K]) -> Call {
        debug_assert!((1..=BATCH).contains(&keys.len()));
        let mut call = self.call(&self.scripts.beat, shard);
        call.command.arg(timeout);
        for key in keys {
            call.command.arg(key.as_ref());
        }
        call
    }

    /// Returns reports to a shard and asks for `want` new ones with a lease of `lease` us.
    pub(crate) fn look(&self, shard: usize, lease: u64, want: usize, held: Held<'_>) -> Call {
        let Held {
            delivered,
            kept,
            returned,
        } = held;
        debug_assert!(delivered.len() + kept.len() + returned.len() <= BATCH);
        let mut call = self.call(&self.scripts.look, shard);
        call.command
            .arg(lease)
            .arg(want)
            .arg(delivered.len())
            .arg(kept.len());
        for report in delivered.iter().chain(kept).chain(returned) {
            call.command.arg(report.text());
        }
        call
    }

    /// Removes keys of a shard, at most [`BATCH`].
    pub(crate) fn remove<K: AsRef<[u8]>>(&self, shard: usize, keys: &[K]) -> Call {
        debug_assert!((1..=BATCH).contains(&keys.len()));
        let mut call = self.call(&self.scripts.remove, shard);
        for key in keys {
            call.command.arg(key.as_ref());
        }
        call
    }

    /// Reads how a key stands.
    pub(crate) fn status(&self, shard: usize, key: &[u8]) -> Call {
        let mut call = self.call(&self.scripts.status, shard);
        call.command.arg(key);
        call
    }

    /// Reads the account of a shard.
    pub(crate) fn counts(&self, shard: usize) -> Call {
        self.call(&self.scripts.counts, shard)
    }
}

/// Reads a reply of `N` numbers, the first of which is by how much the deadlines were moved, us.
pub(crate) fn numbers<const N: usize>(value: Value) -> Result<[i64; N], LinkError> {
    let mut reply = Reply::new(value)?;
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = reply.signed()?;
    }
    Ok(numbers)
}

/// Reads the reply to a keeper.
pub(crate) fn looked(value: Value) -> Result<Looked, LinkError> {
    let mut reply = Reply::new(value)?;
    let moved = reply.number()?;
    let outage = reply.number()?;
    let now = reply.number()?;
    let wait = u64::try_from(reply.signed()?).ok();
    let delivered = reply.number()?;
    let mut texts = reply.array()?;
    let mut reports = Vec::with_capacity(texts.len());
    while texts.len() > 0 {
        let text = texts.bytes()?.ok_or(LinkError::Shape)?;
        reports.push(Report::new(text, now).ok_or(LinkError::Shape)?);
    }
    Ok(Looked {
        moved,
        outage,
        wait,
        delivered,
        reports,
    })
}

/// Reads the account of a shard, and by how much its deadlines were moved, us.
pub(crate) fn counted(value: Value) -> Result<(i64, SharedCounts), LinkError> {
    let mut reply = Reply::new(value)?;
    let moved = reply.signed()?;
    let counts = SharedCounts {
        watched: reply.number()?,
        overdue: reply.number()?,
        pending: reply.number()?,
        started: reply.number()?,
        delivered: reply.number()?,
        removed: reply.number()?,
        redelivered: reply.number()?,
        outages: reply.number()?,
    };
    Ok((moved, counts))
}

#[cfg(test)]
mod tests;
