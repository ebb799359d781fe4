//! The metrics of a pacemaker.

use crate::observe::families::Samples;
use crate::pacemaker::{Connection, PacemakerStats};

/// Adds the metrics of a pacemaker.
pub(super) fn add(to: &mut Samples<'_>, stats: PacemakerStats, connection: Connection) {
    let is = |state| u64::from(connection == state);
    to.gauges(
        "liveness_pacemaker_connection",
        "1 for the state of the peer, 0 for the others",
        "state",
        [
            ("unknown", is(Connection::Unknown)),
            ("online", is(Connection::Online)),
            ("offline", is(Connection::Offline)),
        ],
    );
    to.counters(
        "liveness_pacemaker_calls",
        "Calls of the beat function that were due",
        "result",
        [
            ("ok", stats.beats),
            ("failed", stats.failures),
            ("withheld", stats.withheld),
        ],
    );
    to.counter(
        "liveness_pacemaker_skipped_ticks",
        "Ticks that passed while the process was suspended or a call ran",
        stats.skipped,
    );
}
