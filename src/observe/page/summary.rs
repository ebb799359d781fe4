//! What the page shows of one part: numbers of now, and rates since the last look.

use serde_json::{Map, Value, json};

use crate::observe::measure::Measure;
use crate::stats::Histogram;

/// Returns the median, the 99th percentile and the maximum of the values that `now` has beyond `before`, in ms. The
/// maximum is that of its bucket.
pub(crate) fn spread(now: &Histogram, before: Option<&Histogram>) -> Option<[f64; 3]> {
    let count = now.count() - before.map_or(0, Histogram::count).min(now.count());
    let mut old = before.into_iter().flat_map(Histogram::buckets).peekable();
    let mut new = Vec::new();
    for (upper, many) in now.buckets() {
        let was = old
            .next_if(|&(bound, _)| bound == upper)
            .map_or(0, |(_, was)| was);
        if many > was {
            new.push((upper, many - was));
        }
    }
    let last = new.last()?.0;
    let quantile = |q: f64| {
        let mut left = q * count as f64;
        let found = new.iter().find(|&&(_, many)| {
            left -= many as f64;
            left <= 0.0
        });
        found.map_or(last, |&(upper, _)| upper)
    };
    let ms = [quantile(0.5), quantile(0.99), last];
    Some(ms.map(|time| (time.as_secs_f64() * 1e6).round() / 1e3))
}

/// Rates of counters.
struct Rates {
    /// The time between the looks, seconds.
    seconds: f64,
}

impl Rates {
    /// Returns by how much a counter rose each second.
    fn of(&self, now: u64, before: Option<u64>) -> f64 {
        let risen = before.map_or(0, |before| now.saturating_sub(before));
        (risen as f64 / self.seconds * 100.0).round() / 100.0
    }
}

/// Returns the fields that the page shows of a part, `seconds` after `before` was measured.
#[expect(clippy::too_many_lines, reason = "one arm for each kind of part")]
pub(crate) fn summary(name: &str, now: &Measure, before: Option<&Measure>, seconds: f64) -> Value {
    let rates = Rates { seconds };
    let mut value = match now {
        Measure::Watcher(now) => {
            let old = match before {
                Some(Measure::Watcher(old)) => Some(old),
                _ => None,
            };
            json!({
                "up": now.live.saturating_sub(now.down),
                "down": now.down,
                "pending": now.pending,
                "failed_workers": now.failed_workers,
                "stalls": now.stalls,
                "panics": now.panics,
                "bytes": now.bytes,
                "beats": rates.of(now.applied_beats, old.map(|old| old.applied_beats)),
                "expiries": rates.of(now.expiries, old.map(|old| old.expiries)),
                "recoveries": rates.of(now.recoveries, old.map(|old| old.recoveries)),
                "late": spread(&now.detection, old.map(|old| &old.detection)),
            })
        }
        #[cfg(feature = "registry")]
        Measure::Registry(now) => {
            let old = match before {
                Some(Measure::Registry(old)) => Some(old),
                _ => None,
            };
            json!({
                "joining": now.joining,
                "up": now.up,
                "suspect": now.suspect,
                "down": now.down,
                "left": now.left,
                "listed": now.listed,
                "held": now.held,
                "drained": now.drained,
                "suppressed": now.suppressed,
                "deaths": rates.of(now.deaths, old.map(|old| old.deaths)),
                "recoveries": rates.of(now.recoveries, old.map(|old| old.recoveries)),
            })
        }
        #[cfg(feature = "pacemaker")]
        Measure::Pacemaker(now, connection) => {
            let old = match before {
                Some(Measure::Pacemaker(old, _)) => Some(old),
                _ => None,
            };
            json!({
                "connection": connection.to_string(),
                "ok": rates.of(now.beats, old.map(|old| old.beats)),
                "failed": rates.of(now.failures, old.map(|old| old.failures)),
                "withheld": rates.of(now.withheld, old.map(|old| old.withheld)),
            })
        }
        #[cfg(feature = "dispatch")]
        Measure::Dispatcher(Err(_)) => json!({ "available": false, "topics": [] }),
        #[cfg(feature = "dispatch")]
        Measure::Dispatcher(Ok(now)) => {
            let old = match before {
                Some(Measure::Dispatcher(Ok(old))) => Some(old),
                _ => None,
            };
            let topics = now.topics.iter().take(100).map(|now| {
                let old = old.and_then(|old| old.topics.iter().find(|it| it.topic == now.topic));
                let failed = |it: &crate::dispatch::TopicStats| it.retried + it.died + it.lapsed;
                json!({
                    "topic": now.topic,
                    "waiting": now.waiting,
                    "running": now.running,
                    "dead": now.dead,
                    "emitted": rates.of(now.emitted, old.map(|old| old.emitted)),
                    "done": rates.of(now.done, old.map(|old| old.done)),
                    "failed": rates.of(failed(now), old.map(failed)),
                    "late": spread(&now.lateness, old.map(|old| &old.lateness)),
                    "run": spread(&now.run_time, old.map(|old| &old.run_time)),
                })
            });
            json!({ "available": true, "topics": topics.collect::<Vec<_>>() })
        }
        #[cfg(feature = "redis")]
        Measure::SharedWatcher(now) => {
            let old = match before {
                Some(Measure::SharedWatcher(old)) => Some(old),
                _ => None,
            };
            json!({
                "outages": now.outages,
                "failed": now.failed_calls,
                "beats": rates.of(now.beats, old.map(|old| old.beats)),
                "delivered": rates.of(now.delivered, old.map(|old| old.delivered)),
                "late": spread(&now.lateness, old.map(|old| &old.lateness)),
            })
        }
        Measure::Server {
            stats: now,
            is_draining,
            blocked,
        } => {
            let old = match before {
                Some(Measure::Server { stats, .. }) => Some(stats),
                _ => None,
            };
            let causes = crate::server::Cause::ALL.into_iter().filter_map(|cause| {
                let ended = now.ended_by(cause);
                (ended > 0).then(|| (cause.to_string(), json!(ended)))
            });
            json!({
                "handshaking": now.handshaking,
                "open": now.open,
                "closing": now.closing,
                "reported": now.reported,
                "queued": now.queued_bytes,
                "is_draining": is_draining,
                "blocked": blocked,
                "received": rates.of(now.received, old.map(|old| old.received)),
                "sent": rates.of(now.sent, old.map(|old| old.sent)),
                "bytes_in": rates.of(now.bytes_in, old.map(|old| old.bytes_in)),
                "bytes_out": rates.of(now.bytes_out, old.map(|old| old.bytes_out)),
                "causes": causes.collect::<Map<_, _>>(),
            })
        }
        #[cfg(feature = "client")]
        Measure::Client(now, state) => {
            let old = match before {
                Some(Measure::Client(old, _)) => Some(old),
                _ => None,
            };
            let failed = |it: &crate::client::ClientStats| it.timed_out + it.lost_requests;
            json!({
                "online": state.is_online(),
                "closed": state.is_closed(),
                "state": state.to_string(),
                "opened": now.opened,
                "failed_attempts": now.failed,
                "queued": now.queued,
                "unsent": now.dropped + now.lost,
                "waiting": now.waiting,
                "received": rates.of(now.received, old.map(|old| old.received)),
                "sent": rates.of(now.sent, old.map(|old| old.sent)),
                "bytes_in": rates.of(now.bytes_in, old.map(|old| old.bytes_in)),
                "bytes_out": rates.of(now.bytes_out, old.map(|old| old.bytes_out)),
                "answered": rates.of(now.answered, old.map(|old| old.answered)),
                "failed": rates.of(failed(now), old.map(|old| failed(old))),
            })
        }
        Measure::Group(now, busy) => {
            let old = match before {
                Some(Measure::Group(old, _)) => Some(old),
                _ => None,
            };
            json!({
                "waiting": now.waiting,
                "running": now.running,
                "slow": now.slow_waiting + now.slow_running,
                "timers": now.timers_pending,
                "busy": busy.as_ref().map(|busy| busy.duration.as_secs_f64()),
                "done": rates.of(now.done, old.map(|old| old.done)),
                "timer_calls": rates.of(now.timer_calls, old.map(|old| old.timer_calls)),
                "run": spread(&now.run_time, old.map(|old| &old.run_time)),
            })
        }
    };
    if let Value::Object(fields) = &mut value {
        fields.insert("kind".to_owned(), json!(now.kind()));
        fields.insert("name".to_owned(), json!(name));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_is_new() {
        let mut before = Histogram::default();
        assert_eq!(spread(&before, None), None);
        (0..1_000).for_each(|_| before.record(5_000_000_000));
        let mut now = before.clone();
        assert_eq!(spread(&now, Some(&before)), None);
        (0..99).for_each(|_| now.record(1_000_000));
        now.record(100_000_000);
        let [median, high, most] = spread(&now, Some(&before)).unwrap();
        assert!((1.0..1.07).contains(&median) && (1.0..1.07).contains(&high));
        assert!((100.0..107.0).contains(&most));
        let [median, ..] = spread(&now, None).unwrap();
        assert!(median > 4_999.0);
    }
}
