//! Which deadlines a session has, and which changes of them the owner's watcher has not seen.

use std::hash::Hash;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::local::LocalWatcher;
use crate::options::Options;

/// The kinds of deadline of a session. With the session's slot and generation, a kind is the key of a
/// [`LocalWatcher`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Kind {
    /// The whole handshake.
    Handshake,
    /// The next ping, or the drop.
    Silence,
    /// The rest of a message.
    Message,
    /// The next byte that the peer accepts.
    Drain,
    /// The end of a close.
    Closing,
    /// The next write, for proxies.
    Heartbeat,
    /// The next look whether the rate of messages allows to read on.
    Throttle,
}

impl Kind {
    /// All kinds.
    pub(crate) const ALL: [Kind; 7] = [
        Kind::Handshake,
        Kind::Silence,
        Kind::Message,
        Kind::Drain,
        Kind::Closing,
        Kind::Heartbeat,
        Kind::Throttle,
    ];

    /// The bit of this kind.
    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// What the owner's watcher must do with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Beat now with this timeout.
    Set(Duration),
    /// Beat now; the timeout is the last one.
    Beat,
    /// Remove the key.
    Clear,
}

impl Change {
    /// Makes the change to `key` of `watcher` at `now`.
    pub(crate) fn apply<K: Copy + Hash + Eq + Send + 'static>(
        self,
        watcher: &mut LocalWatcher<K>,
        key: K,
        now: Timestamp,
    ) {
        match self {
            Change::Set(timeout) => {
                // Timeouts are not zero, and the number of keys is not limited.
                let options = Options::new().timeout(timeout.max(Duration::from_nanos(1)));
                let _ = watcher.beat_with(key, now, options);
            }
            Change::Beat => {
                let _ = watcher.beat(key, now);
            }
            Change::Clear => {
                watcher.remove(&key, now);
            }
        }
    }
}

/// The deadlines of a session, a bit for each [`Kind`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deadlines {
    /// Those in force.
    armed: u8,
    /// Those that the watcher holds.
    held: u8,
    /// Those that begin again now.
    restarted: u8,
    /// Those whose timeout differs from the one that the watcher holds.
    retimed: u8,
    /// Those that the watcher has reported and that have not been judged.
    fired: u8,
}

impl Deadlines {
    /// Begins the deadline of `kind` now, again if it is in force.
    pub(crate) fn arm(&mut self, kind: Kind) {
        self.armed |= kind.bit();
        self.restarted |= kind.bit();
        self.fired &= !kind.bit();
    }

    /// Begins the deadline of `kind` now, with another timeout than before.
    pub(crate) fn rearm(&mut self, kind: Kind) {
        self.arm(kind);
        self.retimed |= kind.bit();
    }

    /// Ends the deadline of `kind`.
    pub(crate) fn disarm(&mut self, kind: Kind) {
        self.armed &= !kind.bit();
        self.restarted &= !kind.bit();
        self.fired &= !kind.bit();
    }

    /// Ends all deadlines.
    pub(crate) fn disarm_all(&mut self) {
        for kind in Kind::ALL {
            self.disarm(kind);
        }
    }

    /// Returns whether the deadline of `kind` is in force.
    pub(crate) fn is_armed(self, kind: Kind) -> bool {
        self.armed & kind.bit() != 0
    }

    /// Records that the watcher has reported the key of `kind`, which it no longer holds.
    pub(crate) fn fire(&mut self, kind: Kind) {
        self.held &= !kind.bit();
        self.fired |= self.armed & kind.bit();
    }

    /// Returns whether the reported deadline of `kind` is still missed: it has not begun again since the report.
    pub(crate) fn take_fired(&mut self, kind: Kind) -> bool {
        let is_fired = self.fired & kind.bit() != 0;
        if is_fired {
            self.disarm(kind);
        }
        is_fired
    }

    /// Takes the changes since the last call. `timeout` returns the timeout of a kind.
    pub(crate) fn take_changes(
        &mut self,
        timeout: impl Fn(Kind) -> Duration,
        mut apply: impl FnMut(Kind, Change),
    ) {
        // Most rounds change nothing, or only begin a silence again.
        let changed = self.restarted | (self.armed & !self.fired) ^ self.held;
        if changed == 0 {
            return;
        }
        for kind in Kind::ALL {
            let bit = kind.bit();
            if changed & bit == 0 {
                continue;
            }
            let (is_armed, is_held) = (self.armed & bit != 0, self.held & bit != 0);
            let is_due = self.fired & bit != 0;
            if is_armed && is_held && self.restarted & bit != 0 && self.retimed & bit == 0 {
                apply(kind, Change::Beat);
            } else if is_armed && !is_due && (!is_held || self.restarted & bit != 0) {
                apply(kind, Change::Set(timeout(kind)));
                self.held |= bit;
            } else if !is_armed && is_held {
                apply(kind, Change::Clear);
                self.held &= !bit;
            }
        }
        self.restarted = 0;
        self.retimed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn changes(deadlines: &mut Deadlines) -> Vec<(Kind, Change)> {
        let mut changes = Vec::new();
        deadlines.take_changes(|_| S, |kind, change| changes.push((kind, change)));
        changes
    }

    #[test]
    fn a_deadline_is_set_begun_again_and_cleared() {
        let mut it = Deadlines::default();
        it.arm(Kind::Silence);
        it.arm(Kind::Drain);
        it.disarm(Kind::Drain);
        assert_eq!(changes(&mut it), [(Kind::Silence, Change::Set(S))]);
        assert_eq!(changes(&mut it), []);
        it.arm(Kind::Silence);
        assert_eq!(changes(&mut it), [(Kind::Silence, Change::Beat)]);
        it.rearm(Kind::Silence);
        assert_eq!(changes(&mut it), [(Kind::Silence, Change::Set(S))]);
        it.disarm_all();
        assert_eq!(changes(&mut it), [(Kind::Silence, Change::Clear)]);
        assert_eq!(changes(&mut it), []);
    }

    #[test]
    fn a_report_counts_unless_the_deadline_began_again_before_it_is_judged() {
        let mut it = Deadlines::default();
        it.arm(Kind::Silence);
        changes(&mut it);
        it.fire(Kind::Silence);
        assert_eq!(changes(&mut it), []);
        it.arm(Kind::Silence);
        assert_eq!(changes(&mut it), [(Kind::Silence, Change::Set(S))]);
        assert!(!it.take_fired(Kind::Silence));
        it.fire(Kind::Silence);
        assert!(it.take_fired(Kind::Silence));
        assert!(!it.take_fired(Kind::Silence));
        assert_eq!(changes(&mut it), []);
    }

    #[test]
    fn a_report_of_a_deadline_that_ended_means_nothing() {
        let mut it = Deadlines::default();
        it.arm(Kind::Message);
        changes(&mut it);
        it.disarm(Kind::Message);
        it.fire(Kind::Message);
        assert!(!it.take_fired(Kind::Message));
        assert_eq!(changes(&mut it), []);
    }
}
