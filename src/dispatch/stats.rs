//! The statistics of a dispatcher.

use std::fmt;

use crate::stats::Histogram;

/// The statistics of the events of one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TopicStats {
    /// The name of the topic; empty for the sum of all.
    pub topic: String,
    /// Events that were accepted.
    pub emitted: u64,
    /// Events that wait now.
    pub waiting: u64,
    /// Events that run now.
    pub running: u64,
    /// Events in the dead list now.
    pub dead: u64,
    /// Events that all handlers have handled.
    pub done: u64,
    /// Events that were cancelled.
    pub cancelled: u64,
    /// Events that were removed from the dead list, by a purge or because the list was full.
    pub purged: u64,
    /// Events that waited when the dispatcher stopped. `stop` returns them.
    pub discarded: u64,
    /// Events whose payload the store no longer has, for example after an eviction. Always zero for a local dispatcher.
    pub lost: u64,
    /// The number of times that an event was moved to the dead list. An event that is replayed may be counted again.
    pub died: u64,
    /// The number of times that an event was replayed from the dead list.
    pub replayed: u64,
    /// Attempts that failed and were followed by another attempt.
    pub retried: u64,
    /// Attempts that do not count, because a handler snoozed or the dispatcher stopped.
    pub put_off: u64,
    /// Attempts whose lease lapsed, for example because their process ended. They do not count as attempts. Always zero
    /// for a local dispatcher.
    pub lapsed: u64,
    /// Outcomes that were ignored because the event was cancelled or the attempt was given up.
    pub stale: u64,
    /// Calls of handlers that panicked. Each is a failed attempt.
    pub panics: u64,
    /// The time from an event's due time to its start.
    pub lateness: Histogram,
    /// The time from an event's start to the end of the attempt.
    pub run_time: Histogram,
}

impl TopicStats {
    /// Returns whether the account balances: every event that was accepted waits, runs, is dead, or has ended.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let now = self.waiting + self.running + self.dead;
        let ended = self.done + self.cancelled + self.purged + self.discarded + self.lost;
        self.emitted == now + ended
    }

    /// Adds the numbers of `other`.
    fn add(&mut self, other: &TopicStats) {
        self.emitted += other.emitted;
        self.waiting += other.waiting;
        self.running += other.running;
        self.dead += other.dead;
        self.done += other.done;
        self.cancelled += other.cancelled;
        self.purged += other.purged;
        self.discarded += other.discarded;
        self.lost += other.lost;
        self.died += other.died;
        self.replayed += other.replayed;
        self.retried += other.retried;
        self.put_off += other.put_off;
        self.lapsed += other.lapsed;
        self.stale += other.stale;
        self.panics += other.panics;
        self.lateness.merge(&other.lateness);
        self.run_time.merge(&other.run_time);
    }
}

impl fmt::Display for TopicStats {
    /// Writes the numbers on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.topic.is_empty() {
            "all"
        } else {
            &self.topic
        };
        write!(
            f,
            "{name}: {} emitted = {} waiting + {} running + {} dead + {} done + {} cancelled + {} purged + {} discarded + {} \
             lost; {} retried, {} lapsed, {} panics, late p50 {:.3?} p99 {:.3?}, run p50 {:.3?} p99 {:.3?}",
            self.emitted,
            self.waiting,
            self.running,
            self.dead,
            self.done,
            self.cancelled,
            self.purged,
            self.discarded,
            self.lost,
            self.retried,
            self.lapsed,
            self.panics,
            self.lateness.quantile(0.5),
            self.lateness.quantile(0.99),
            self.run_time.quantile(0.5),
            self.run_time.quantile(0.99),
        )
    }
}

/// The statistics of a dispatcher, returned by [`Dispatcher::stats`](super::Dispatcher::stats). They are exact at the
/// moment of the call.
///
/// ```
/// use std::time::Duration;
/// use liveness::dispatch::{Dispatcher, Emit, On, Topic};
///
/// const MAIL: Topic<String> = Topic::new("mail");
/// let dispatcher = Dispatcher::builder().build()?;
/// dispatcher.on(&MAIL, "send", On::new(), |_, _| Ok(()))?;
/// for minutes in 1..=3 {
///     dispatcher.emit_with(&MAIL, "hello".to_owned(), Emit::after(Duration::from_secs(60 * minutes)))?;
/// }
/// let stats = dispatcher.stats();
/// assert!(stats.is_balanced());
/// assert_eq!((stats.total().emitted, stats.topics[0].waiting), (3, 3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct DispatchStats {
    /// The topics, in the order in which the dispatcher first saw them.
    pub topics: Vec<TopicStats>,
    /// Events that were refused, and those of a durable dispatcher for which it is uncertain.
    pub refused: u64,
    /// Calls of handlers that did not return after their time limit and were given up.
    pub stuck: u64,
    /// Ticks of schedules that were skipped. Ticks are skipped if several become due while all workers are busy or the
    /// process is suspended, if the event of an earlier tick is unfinished, or if the event is refused.
    pub skipped_ticks: u64,
    /// Panics of schedules and of the callback for notices.
    pub panics: u64,
    /// Notices that were dropped because the channel of
    /// [`build_with_notices`](super::Builder::build_with_notices) was full or its receiver was gone.
    pub lost_notices: u64,
}

impl DispatchStats {
    /// Returns the sum over all topics.
    #[must_use]
    pub fn total(&self) -> TopicStats {
        let mut total = TopicStats::default();
        self.topics.iter().for_each(|topic| total.add(topic));
        total
    }

    /// Returns whether the account of every topic balances.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.topics.iter().all(TopicStats::is_balanced)
    }
}

impl fmt::Display for DispatchStats {
    /// Writes one line per topic, and one for all.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for topic in &self.topics {
            writeln!(f, "{topic}")?;
        }
        write!(
            f,
            "{}; {} refused, {} stuck, {} ticks skipped, {} notices lost",
            self.total(),
            self.refused,
            self.stuck,
            self.skipped_ticks,
            self.lost_notices
        )
    }
}
