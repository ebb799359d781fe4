//! The path from a key to its worker: hash once, stamp, send. A worker thread never waits.

mod many;

use std::hash::Hash;
use std::num::NonZeroU64;
use std::sync::Arc;

use ahash::RandomState;

use super::inbox::{COUNTERS_LAG, Chunk, Command, Inbox, LOCK_WAIT, Message, Patience, Phase};
use super::role::{self, Role, WatcherId};
use crate::clock::Clock;
use crate::error::{BeatError, BeatErrorKind, CallError};
use crate::options::Options;
use crate::sync::{Mutex, answer};
use crate::table::heart_cell::{self, Common, HeartCell, HeartSide};
use crate::table::key_limit::{KeyLimit, Mark, Standing};
use crate::table::{Beat, Tag};

/// The route of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    /// The index of its worker, from the upper half of its hash.
    pub(crate) worker: usize,
    /// Its tag, the lower half of its hash.
    pub(crate) tag: Tag,
    /// Its mark, the whole hash.
    mark: Mark,
}

/// How a beat is sent if there is a maximum number of keys.
#[derive(Clone, Copy, Debug)]
enum Admission {
    /// As an ordinary message.
    Send,
    /// As a question: the caller waits for the worker to answer whether there was room.
    Ask,
}

/// The chunks of one worker, which `beat_many` fills.
#[derive(Debug)]
struct Chunks<K> {
    /// The keys that are sent as ordinary messages.
    sent: Box<[Chunk<K>]>,
    /// The keys that are not watched and are sent as questions, if there is a maximum number of keys.
    asked: Box<[Chunk<K>]>,
}

/// The callers' side of a watcher, which hearts share.
#[derive(Debug)]
pub(crate) struct Router<K, V> {
    /// The number of the watcher.
    id: WatcherId,
    /// The workers' inboxes.
    pub(crate) inboxes: Box<[Arc<Inbox<K, V>>]>,
    /// Hashes keys. Seeded at random for each watcher unless the user sets a seed.
    hasher: RandomState,
    /// The state that hearts share, including the watcher's clock.
    pub(crate) common: Arc<Common>,
    /// The timeout of a key for which none is set, ns.
    timeout: u64,
    /// The marks of the watched keys and the number of places taken, if there is a maximum number of keys.
    limit: Option<Arc<KeyLimit>>,
    /// Sets of chunks that no call of `beat_many` is using.
    chunks: Mutex<Vec<Chunks<K>>>,
}

impl<K, V> Router<K, V> {
    /// Creates a router to `inboxes`.
    pub(crate) fn new(
        id: WatcherId,
        inboxes: Box<[Arc<Inbox<K, V>>]>,
        hasher: RandomState,
        clock: Clock,
        timeout: u64,
        limit: Option<Arc<KeyLimit>>,
    ) -> Self {
        Router {
            id,
            inboxes,
            hasher,
            common: Common::new(clock),
            timeout,
            limit,
            chunks: Mutex::new(Vec::new()),
        }
    }

    /// Returns the watcher's clock.
    #[inline]
    pub(crate) fn clock(&self) -> &Clock {
        &self.common.clock
    }

    /// Returns the route of `key`. A beat hashes its key here, once.
    #[inline]
    pub(crate) fn route<Q: Hash + ?Sized>(&self, key: &Q) -> Route {
        let hash = self.hasher.hash_one(key);
        let worker = ((hash >> 32) * self.inboxes.len() as u64) >> 32;
        Route {
            worker: worker as usize,
            tag: Tag(hash as u32),
            mark: Mark(hash),
        }
    }

    /// Returns the role of the current thread for this watcher.
    #[inline]
    pub(crate) fn role(&self) -> Role {
        role::of_current_thread(self.id)
    }

    /// Refuses further messages, and notifies every worker to finish.
    pub(crate) fn close(&self) {
        self.inboxes.iter().for_each(|inbox| inbox.close());
    }

    /// Routes, stamps and sends a plain beat of `key`.
    #[inline]
    pub(crate) fn beat(&self, key: K, patience: Patience) -> Result<(), BeatError<K>>
    where
        K: Hash,
    {
        let route = self.route(&key);
        let stamp = self.clock().now_ns();
        self.send_beat(Beat::plain(route.tag, key, stamp), route, patience)
    }

    /// Routes, stamps and sends a beat like [`beat`](Router::beat), with options.
    pub(crate) fn beat_with(
        &self,
        key: K,
        options: Options<V>,
        patience: Patience,
    ) -> Result<(), BeatError<K>>
    where
        K: Hash,
    {
        let (beat, route) = self.beat_of(key, options)?;
        self.send_beat(beat, route, patience)
    }

    /// Routes and stamps a beat with options.
    fn beat_of(&self, key: K, options: Options<V>) -> Result<(Beat<K, V>, Route), BeatError<K>>
    where
        K: Hash,
    {
        let route = self.route(&key);
        let stamp = self.clock().now_ns();
        match Beat::with_options(route.tag, key, stamp, options) {
            Ok(beat) => Ok((beat, route)),
            Err(key) => Err(BeatError::new(BeatErrorKind::ZeroTimeout, key)),
        }
    }

    /// Sends one beat. If there is a maximum number of keys and the key is not watched, waits for its worker's answer
    /// if `patience` and the thread allow it.
    #[inline]
    pub(crate) fn send_beat(
        &self,
        beat: Beat<K, V>,
        route: Route,
        patience: Patience,
    ) -> Result<(), BeatError<K>> {
        if let Some(limit) = &self.limit
            && !beat.known_only
        {
            match self.admission(limit, route, patience) {
                Ok(Admission::Send) => {}
                Ok(Admission::Ask) => return self.ask_to_join(beat, route.worker),
                Err(kind) => return Err(BeatError::new(kind, beat.key)),
            }
        }
        let due = self.due(
            beat.stamp,
            beat.timeout.map_or(self.timeout, NonZeroU64::get),
        );
        self.send(route.worker, Message::Beat(beat), due, patience)
            .map_err(|(kind, message)| {
                let Message::Beat(beat) = message else {
                    unreachable!("the message comes back as it was")
                };
                BeatError::new(kind, beat.key)
            })
    }

    /// Returns how to send a beat if there is a maximum number of keys.
    ///
    /// # Errors
    ///
    /// Returns the reason for the refusal.
    fn admission(
        &self,
        limit: &KeyLimit,
        route: Route,
        patience: Patience,
    ) -> Result<Admission, BeatErrorKind> {
        let Route { worker, mark, .. } = route;
        let may_wait = matches!(patience, Patience::Forever) && !role::must_not_wait();
        let standing = match patience {
            Patience::Forever => limit.look(worker, mark),
            Patience::Never | Patience::Until(_) => limit
                .look_for(worker, mark, LOCK_WAIT)
                .ok_or(patience.end())?,
        };
        match standing {
            Standing::Watched => Ok(Admission::Send),
            _ if may_wait => Ok(Admission::Ask),
            Standing::Room => Ok(Admission::Send),
            Standing::Full => Err(match self.inboxes[worker].phase() {
                Phase::Open => BeatErrorKind::Full,
                Phase::Closing => BeatErrorKind::Closed,
                Phase::Failed => BeatErrorKind::WorkerFailed,
            }),
        }
    }

    /// Sends a beat of a key that was not watched, and waits until its worker has accepted or refused it. If a worker
    /// accepts a beat and fails before it answers, the beat is lost like every other beat that waits for that worker.
    #[cold]
    fn ask_to_join(&self, beat: Beat<K, V>, worker: usize) -> Result<(), BeatError<K>> {
        let (reply, answer) = answer::bounded(1);
        match self.command(worker, Command::Join(beat, reply)) {
            Ok(()) => match answer.recv() {
                Ok(Some(key)) => Err(BeatError::new(BeatErrorKind::Full, key)),
                Ok(None) | Err(_) => Ok(()),
            },
            Err((kind, command)) => {
                let Command::Join(beat, _) = command else {
                    unreachable!("the command comes back as it was")
                };
                Err(BeatError::new(kind, beat.key))
            }
        }
    }

    /// Sends a beat that ties `key` to a new heart. Returns the heart's side and the key's route.
    pub(crate) fn watch(
        &self,
        key: K,
        options: Options<V>,
    ) -> Result<(HeartSide, Route), BeatErrorKind>
    where
        K: Hash,
    {
        let (beat, route) = self.beat_of(key, options).map_err(|error| error.kind())?;
        let (heart_side, table_side) = heart_cell::pair(beat.stamp, &self.common);
        let admission = match &self.limit {
            Some(limit) if !beat.known_only => self.admission(limit, route, Patience::Forever)?,
            _ => Admission::Send,
        };
        let (reply, answer) = match admission {
            Admission::Send => (None, None),
            Admission::Ask => {
                let (reply, answer) = answer::bounded(1);
                (Some(reply), Some(answer))
            }
        };
        self.command(route.worker, Command::Watch(beat, table_side, reply))
            .map_err(|(kind, _)| kind)?;
        match answer.map(|answer| answer.recv()) {
            Some(Ok(false)) => Err(BeatErrorKind::Full),
            _ => Ok((heart_side, route)),
        }
    }

    /// Sends `options` for `key` without a beat.
    pub(crate) fn set(&self, key: K, options: Options<V>) -> Result<(), BeatError<K>>
    where
        K: Hash,
    {
        let (beat, route) = self.beat_of(key, options)?;
        self.send_options(beat, route, None)
    }

    /// Sends the options of `beat` for its key. If `cell` is given, they apply only while the key is tied to it.
    pub(crate) fn send_options(
        &self,
        beat: Beat<K, V>,
        route: Route,
        cell: Option<Arc<HeartCell>>,
    ) -> Result<(), BeatError<K>> {
        self.command(route.worker, Command::Set(beat, cell))
            .map_err(|(kind, command)| {
                let Command::Set(beat, _) = command else {
                    unreachable!("the command comes back as it was")
                };
                BeatError::new(kind, beat.key)
            })
    }

    /// Returns when a sleeping worker must apply a beat: at the deadline that the beat sets, or [`COUNTERS_LAG`] after
    /// the beat because of the published counters, whichever comes first. Under a manual clock it must apply the beat
    /// at once, because no time passes after which the worker would wake.
    #[inline]
    fn due(&self, stamp: u64, timeout: u64) -> u64 {
        if self.clock().is_manual() {
            0
        } else {
            stamp.saturating_add(timeout.min(COUNTERS_LAG))
        }
    }

    /// Sends a command to `worker`, waits for room, and wakes the worker.
    pub(crate) fn command(
        &self,
        worker: usize,
        command: Command<K, V>,
    ) -> Result<(), (BeatErrorKind, Command<K, V>)> {
        let sent = self.send(
            worker,
            Message::Command(Box::new(command)),
            0,
            Patience::Forever,
        );
        sent.map_err(|(kind, message)| {
            let Message::Command(command) = message else {
                unreachable!("the message comes back as it was")
            };
            (kind, *command)
        })
    }

    /// Returns why `worker` accepts no command or does not answer.
    pub(crate) fn why(&self, worker: usize) -> CallError {
        match self.inboxes[worker].verdict() {
            BeatErrorKind::WorkerFailed => CallError::WorkerFailed,
            _ => CallError::Closed,
        }
    }

    /// Sends a command to each of `workers` and collects their answers.
    pub(crate) fn ask<T>(
        &self,
        workers: impl Iterator<Item = usize>,
        mut question: impl FnMut(answer::Sender<T>) -> Command<K, V>,
    ) -> Result<Vec<T>, CallError> {
        if role::must_not_wait() {
            return Err(CallError::OnWorker);
        }
        let mut answers = Vec::new();
        for worker in workers {
            let (reply, answer) = answer::bounded(1);
            self.command(worker, question(reply))
                .map_err(|_| self.why(worker))?;
            answers.push((worker, answer));
        }
        answers
            .into_iter()
            .map(|(worker, answer)| answer.recv().map_err(|_| self.why(worker)))
            .collect()
    }

    /// Sends `message`, which must be applied by `due` ns. A worker thread never waits.
    #[inline]
    fn send(
        &self,
        worker: usize,
        message: Message<K, V>,
        due: u64,
        patience: Patience,
    ) -> Result<(), (BeatErrorKind, Message<K, V>)> {
        let inbox = &self.inboxes[worker];
        if role::must_not_wait() {
            return inbox.send_from_worker(message);
        }
        inbox.send(message, due, patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKERS: usize = 8;

    /// Creates a router to [`WORKERS`] workers.
    fn router(seed: u64) -> Router<u64, ()> {
        let inboxes = (0..WORKERS).map(|_| Arc::new(Inbox::new(1).0)).collect();
        let clock = Clock::default();
        Router::new(
            WatcherId::new(),
            inboxes,
            crate::table::settings::hasher(Some(seed)),
            clock,
            1,
            None,
        )
    }

    /// Returns in which of `parts` equal parts of the index `tag` has its home.
    fn part(tag: Tag, parts: usize) -> usize {
        ((u64::from(tag.0) * parts as u64) >> 32) as usize
    }

    /// Asserts that `counts` deviate from an even spread only as far as chance explains.
    fn assert_even(counts: &[usize]) {
        let mean = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
        for &count in counts {
            // Six standard deviations: exceeded less than once in a million counts.
            assert!(
                (count as f64 - mean).abs() < 6.0 * mean.sqrt(),
                "{counts:?}"
            );
        }
    }

    #[test]
    fn keys_crafted_against_the_workers_spread_in_the_index_and_the_reverse() {
        // Consecutive keys, keys that differ only in their upper half, and keys that differ in a byte in the middle.
        for shift in [0, 32, 20] {
            for seed in 0..4 {
                let router = router(seed);
                let keys = 0..1u64 << 16;
                let routes = keys.map(|key| router.route(&(key << shift)));
                let routes: Vec<Route> = routes.collect();

                let mut of_one_worker = [0; 64];
                let on_worker = |route: &&Route| route.worker == 3;
                for route in routes.iter().filter(on_worker) {
                    of_one_worker[part(route.tag, 64)] += 1;
                }
                assert_even(&of_one_worker);

                let mut of_one_part = [0; WORKERS];
                for route in routes.iter().filter(|route| part(route.tag, 64) == 5) {
                    of_one_part[route.worker] += 1;
                }
                assert_even(&of_one_part);
            }
        }
    }
}
