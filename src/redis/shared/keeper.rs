//! A keeper: a thread that takes reports from the server, and one that passes them to the callback.
//!
//! The keeper's thread owns the [`Plan`]. The two threads share a desk:
//!
//! | keeper | delivery |
//! |---|---|
//! | sleeps until the next look, or until outcomes are to be sent | sleeps until the queue has a report |
//! | sends outcomes, prolongs leases, takes reports | calls the callback, without a lock |
//! | adds the reports to the queue | adds the outcome to the desk |
//!
//! A slow callback delays only the queue: the keeper goes on to prolong the leases of what is held. When the watcher is
//! closed, the delivery thread ends after the current call and gives the queue back; then the keeper sends the last
//! outcomes, in one attempt, and ends.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};

use super::caller::{Watch, micros};
use super::plan::{Outcome, Plan};
use super::report::{Expired, Report};
use super::script::{BATCH, looked};
use crate::log::{debug, error, warn};
use crate::panic::catch_panic;
use crate::redis::link::{Line, LinkError};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Condvar, Instant, Mutex, MutexGuard};

/// How long to wait after the server refused a call, which an operator must mend.
const REFUSED_WAIT: Duration = Duration::from_secs(1);

/// The callback.
pub(crate) type OnExpired = Box<dyn FnMut(Expired) + Send>;

/// The threads of a keeper.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// What they share.
    desk: Arc<Desk>,
    /// The threads, until they are joined.
    threads: Mutex<Vec<Thread>>,
}

/// A thread, and a channel that is disconnected when it ends.
#[derive(Debug)]
struct Thread {
    /// The thread.
    handle: JoinHandle<()>,
    /// Receives nothing.
    ended: Receiver<()>,
}

/// What the two threads share.
#[derive(Debug, Default)]
struct Desk {
    /// The reports on their way.
    state: Mutex<State>,
    /// Notified when the keeper has something to send, and when the watcher is closed.
    keeper: Condvar,
    /// Notified when the queue has a report, and when the watcher is closed.
    delivery: Condvar,
}

/// The reports on their way.
#[derive(Debug, Default)]
struct State {
    /// Reports for the callback, each with its shard and when it was taken.
    queue: VecDeque<(usize, Report, Instant)>,
    /// What became of reports, until the keeper's next round.
    outcomes: Vec<(usize, Report, Outcome)>,
    /// The mean time of a call of the callback, of which each call is an eighth.
    mean: Duration,
    /// Whether the watcher is closed.
    stops: bool,
    /// Whether the delivery thread has ended.
    has_ended: bool,
}

impl State {
    /// Returns whether outcomes are to be sent now, of which the keeper has `more`: there are many of them, or there is
    /// nothing else to do.
    fn settles(&self, more: usize) -> bool {
        self.queue.is_empty() || self.outcomes.len() + more >= BATCH / 2
    }
}

impl Keeper {
    /// Spawns the threads.
    pub(crate) fn spawn(
        watch: &Arc<Watch>,
        lease: Duration,
        thread_name: &str,
        callback: OnExpired,
    ) -> io::Result<Self> {
        let desk: Arc<Desk> = Arc::default();
        let keeper = Keeper {
            desk: desk.clone(),
            threads: Mutex::default(),
        };
        let delivery = Delivery {
            watch: watch.clone(),
            desk: desk.clone(),
            callback,
        };
        keeper.spawn_one(format!("{thread_name}-expired"), || delivery.run())?;
        let rounds = Rounds::new(watch.clone(), desk, lease);
        keeper.spawn_one(format!("{thread_name}-keeper"), || rounds.run())?;
        Ok(keeper)
    }

    /// Spawns a thread.
    fn spawn_one(&self, name: String, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let (alive, ended) = crossbeam_channel::bounded(0);
        let body = move || {
            let _alive: Sender<()> = alive;
            body();
        };
        let handle = thread::Builder::new().name(name).spawn(body)?;
        self.threads.lock().push(Thread { handle, ended });
        Ok(())
    }

    /// Orders the threads to end.
    pub(crate) fn stop(&self) {
        self.desk.state.lock().stops = true;
        self.desk.keeper.notify_all();
        self.desk.delivery.notify_all();
    }

    /// Waits until the threads have ended, at the latest until `deadline`. Returns the names of those that still run.
    /// The callback's own thread does not wait.
    pub(crate) fn join(&self, deadline: Option<Instant>) -> Vec<String> {
        let me = thread::current().id();
        let channels: Vec<_> = {
            let threads = self.threads.lock();
            if threads.iter().any(|it| it.handle.thread().id() == me) {
                return Vec::new();
            }
            threads.iter().map(|it| it.ended.clone()).collect()
        };
        for ended in channels {
            // Disconnected by the end of the thread; or the time is over, and the next one is not waited for.
            let _ = match deadline {
                Some(deadline) => ended.recv_deadline(deadline),
                None => ended.recv().map_err(RecvTimeoutError::from),
            };
        }
        let mut threads = self.threads.lock();
        let (late, ended): (Vec<Thread>, Vec<Thread>) = std::mem::take(&mut *threads)
            .into_iter()
            .partition(|it| it.ended.try_recv() == Err(TryRecvError::Empty));
        for it in ended {
            // Panics of the callback were caught.
            let _ = it.handle.join();
        }
        let name = |it: &Thread| it.handle.thread().name().unwrap_or_default().to_owned();
        let names = late.iter().map(name).collect();
        *threads = late;
        names
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The delivery thread.
struct Delivery {
    /// The watch.
    watch: Arc<Watch>,
    /// What the threads share.
    desk: Arc<Desk>,
    /// The callback.
    callback: OnExpired,
}

impl Delivery {
    /// Passes reports to the callback until the watcher is closed, and then gives the rest back.
    fn run(mut self) {
        while let Some((shard, report, taken)) = self.next() {
            let expired = report.expired(taken.elapsed());
            let late = u64::try_from(expired.lateness.as_nanos()).unwrap_or(u64::MAX);
            let start = Instant::now();
            let outcome = match catch_panic(|| (self.callback)(expired)) {
                Some(()) => Outcome::Delivered,
                None => Outcome::Failed,
            };
            let took = start.elapsed();
            self.watch.tally.count(|stats| {
                stats.lateness.record(late);
                match outcome {
                    Outcome::Delivered => stats.delivered += 1,
                    _ => stats.panics += 1,
                }
            });
            if outcome == Outcome::Failed {
                error!(
                    "a callback of the watch `{}` panicked; its report is handed out again",
                    self.watch.name
                );
            }
            let mut state = self.desk.state.lock();
            state.mean = state.mean - state.mean / 8 + took / 8;
            state.outcomes.push((shard, report, outcome));
            if state.settles(0) {
                self.desk.keeper.notify_one();
            }
        }
        // The callback may be the last owner of something that panics when it is dropped.
        let Delivery {
            watch,
            desk,
            callback,
        } = self;
        catch_panic(|| drop(callback));
        let mut state = desk.state.lock();
        let State {
            queue, outcomes, ..
        } = &mut *state;
        let returned = queue
            .drain(..)
            .map(|(shard, report, _)| (shard, report, Outcome::Returned));
        let before = outcomes.len();
        outcomes.extend(returned);
        let count = (outcomes.len() - before) as u64;
        state.has_ended = true;
        drop(state);
        watch.tally.count(|stats| stats.returned += count);
        desk.keeper.notify_one();
    }

    /// Waits for the next report. Returns `None` when the watcher is closed.
    fn next(&self) -> Option<(usize, Report, Instant)> {
        let mut state = self.desk.state.lock();
        loop {
            if state.stops {
                return None;
            }
            if let Some(next) = state.queue.pop_front() {
                return Some(next);
            }
            self.desk.delivery.wait(&mut state);
        }
    }
}

/// The keeper's thread.
struct Rounds {
    /// The watch.
    watch: Arc<Watch>,
    /// What the threads share.
    desk: Arc<Desk>,
    /// The connection.
    line: Line,
    /// When to look at which shard.
    plan: Plan,
    /// The lease, us.
    lease: u64,
    /// Since when the server does not answer, if so.
    lost: Option<Instant>,
}

impl Rounds {
    /// Creates the state of the thread.
    fn new(watch: Arc<Watch>, desk: Arc<Desk>, lease: Duration) -> Self {
        let settings = watch.calls.settings;
        let outage = Duration::from_micros(settings.outage);
        Rounds {
            line: Line::new(watch.endpoint.clone()),
            plan: Plan::new(settings.shards, outage, lease, Instant::now()),
            lease: micros(lease),
            lost: None,
            watch,
            desk,
        }
    }

    /// Looks at the shards until the watcher is closed.
    fn run(mut self) {
        while let Some((shard, mean, stops)) = self.next() {
            let want = if stops {
                0
            } else {
                self.plan.want(shard, mean)
            };
            if let Err(error) = self.look(shard, want) {
                self.wait_after(&error);
            }
        }
        self.end();
        debug!("the keeper of the watch `{}` ended", self.watch.name);
    }

    /// Waits until a shard is to be looked at. Returns it with the mean time of the callback, and whether the watcher
    /// is closed; or `None` if the delivery thread has ended.
    fn next(&mut self) -> Option<(usize, Duration, bool)> {
        let desk = self.desk.clone();
        let mut state = desk.state.lock();
        loop {
            let settles = state.settles(self.plan.unsettled());
            for (shard, report, outcome) in state.outcomes.drain(..) {
                self.plan.settle(shard, &report, outcome);
            }
            if state.has_ended {
                return None;
            }
            let now = Instant::now();
            let wants = !state.stops && self.plan.wants(state.mean);
            let (shard, at) = self.plan.next(now, wants, settles);
            if at <= now {
                return Some((shard, state.mean, state.stops));
            }
            desk.keeper.wait_until(&mut state, at);
        }
    }

    /// Looks at `shard`, and queues the reports that it takes.
    fn look(&mut self, shard: usize, want: usize) -> Result<(), LinkError> {
        let held = self.plan.held(shard);
        let sent = held.delivered.len() as u64;
        let call = self.watch.calls.look(shard, self.lease, want, held);
        let start = Instant::now();
        let reply = self.line.run(call.script, &call.command).and_then(looked)?;
        let now = Instant::now();
        let was_lost = self.lost.take();
        if let Some(since) = was_lost {
            let (name, since) = (&self.watch.name, now - since);
            warn!("the keeper of the watch `{name}` reaches the server again, after {since:?}");
        }
        self.watch.tally.moved(&self.watch.name, reply.moved);
        let taken = reply.reports.len() as u64;
        // After a lost reply it is not known which outcomes had been accepted.
        let stale = if was_lost.is_some() {
            0
        } else {
            sent - reply.delivered.min(sent)
        };
        if taken + stale > 0 {
            self.watch.tally.count(|stats| {
                stats.taken += taken;
                stats.stale += stale;
            });
        }
        self.plan.looked(shard, &reply, start, now);
        if taken > 0 {
            let reports = reply.reports.into_iter();
            let queued = reports.map(|report| (shard, report, now));
            self.desk.state.lock().queue.extend(queued);
            self.desk.delivery.notify_one();
        }
        Ok(())
    }

    /// Waits after a call that failed, until the next attempt or until the watcher is closed.
    fn wait_after(&mut self, error: &LinkError) {
        self.watch.tally.count(|stats| stats.failed_calls += 1);
        let name = &self.watch.name;
        if self.lost.is_none() {
            self.lost = Some(Instant::now());
            if error.is_passing() {
                warn!("the keeper of the watch `{name}` cannot reach the server: {error}");
            } else {
                error!("the server refuses the keeper of the watch `{name}`: {error}");
            }
        }
        let wait = if error.is_passing() {
            self.line.backoff()
        } else {
            REFUSED_WAIT
        };
        let until = Instant::now() + wait;
        let mut state: MutexGuard<'_, State> = self.desk.state.lock();
        while !state.has_ended && !self.desk.keeper.wait_until(&mut state, until).timed_out() {}
    }

    /// Sends the last outcomes. If the server does not answer, the leases lapse.
    fn end(&mut self) {
        while self.plan.unsettled() > 0 {
            let (shard, _) = self.plan.next(Instant::now(), false, true);
            if let Err(error) = self.look(shard, 0) {
                warn!(
                    "the keeper of the watch `{}` could not send its last outcomes: {error}",
                    self.watch.name
                );
                return;
            }
        }
    }
}
