//! The calls of the scripts: their arguments and replies as types.
//!
//! Each script is a file in `scripts`, which describes its keys, arguments, reply and cost.

mod admin;
mod emit;
mod work;

use std::sync::LazyLock;
use std::time::Duration;

pub(crate) use admin::{Account, Audited, Seen, read_cancelled};
pub(crate) use emit::{Emission, EmitCall, GroupReply};
pub(crate) use work::{Again, Claimed, Outcomes, RenewReply, WorkCall, WorkReply};

use super::link::Script;

/// The most events, outcomes or ids that one call takes, so that no script runs for long.
pub(crate) const MOST: usize = 200;

/// How many bytes of payloads one call sends or returns, unless one event alone has more.
pub(crate) const MOST_BYTES: usize = 4 << 20;

/// The latest time, us since 1970, which is in the year 2540, and the longest duration. The numbers of a script are
/// exact up to half of it, and multiples of 2 us beyond.
const LATEST: u64 = 1 << 54;

/// The scripts of the dispatcher.
pub(crate) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts::new(str::to_owned));

/// The scripts of the dispatcher.
#[derive(Debug)]
pub(crate) struct Scripts {
    /// Accepts events.
    pub(crate) emit: Script,
    /// Takes outcomes and hands out events.
    pub(crate) work: Script,
    /// Renews leases.
    pub(crate) renew: Script,
    /// Cancels events.
    pub(crate) cancel: Script,
    /// Changes when an event is due.
    pub(crate) reschedule: Script,
    /// Lets dead events wait again.
    pub(crate) replay: Script,
    /// Removes dead events.
    pub(crate) purge: Script,
    /// Pauses and resumes a topic.
    pub(crate) pause: Script,
    /// Reads events that wait or are dead.
    pub(crate) view: Script,
    /// Reads the account.
    pub(crate) counts: Script,
    /// Repairs what was broken.
    pub(crate) audit: Script,
}

impl Scripts {
    /// The scripts, each as `edit` returns it.
    pub(crate) fn new(edit: impl Fn(&str) -> String) -> Self {
        let script = |name, text| Script::new(name, edit(text));
        Scripts {
            emit: script("emit", include_str!("scripts/emit.lua")),
            work: script("work", include_str!("scripts/work.lua")),
            renew: script("renew", include_str!("scripts/renew.lua")),
            cancel: script("cancel", include_str!("scripts/cancel.lua")),
            reschedule: script("reschedule", include_str!("scripts/reschedule.lua")),
            replay: script("replay", include_str!("scripts/replay.lua")),
            purge: script("purge", include_str!("scripts/purge.lua")),
            pause: script("pause", include_str!("scripts/pause.lua")),
            view: script("view", include_str!("scripts/view.lua")),
            counts: script("counts", include_str!("scripts/counts.lua")),
            audit: script("audit", include_str!("scripts/audit.lua")),
        }
    }
}

/// When an event is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// At once.
    Now,
    /// This many us after the call, by the clock of Redis.
    After(u64),
    /// At this time of the clock of Redis, us since 1970.
    At(u64),
}

impl When {
    /// Writes it as an argument.
    fn write(self) -> String {
        match self {
            When::Now => String::new(),
            When::After(us) => format!("+{}", us.min(LATEST)),
            When::At(us) => us.min(LATEST).to_string(),
        }
    }
}

/// A duration in microseconds, rounded up: nothing is early.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
