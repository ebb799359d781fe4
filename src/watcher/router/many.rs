//! Beats of many keys at once, in chunks for each worker.

use std::hash::Hash;

use super::{Admission, Chunks, Route, Router};
use crate::error::{BeatError, BeatErrorKind, BeatManyError};
use crate::options::Options;
use crate::sync::answer;
use crate::table::Beat;
use crate::watcher::inbox::{Chunk, Command, Message, Patience};

/// The maximum number of keys in one message.
const CHUNK: usize = 256;

/// The maximum number of questions that wait for answers at a time.
const MOST_QUESTIONS: usize = 16;

/// The state of one call.
struct Call<'a, K, V> {
    /// The router to the workers.
    router: &'a Router<K, V>,
    /// When the call was made, ns.
    stamp: u64,
    /// The questions that were sent. An answer contains the keys for which there is no room.
    questions: Vec<answer::Receiver<Vec<K>>>,
    /// The reason why the first refused beat was refused.
    kind: Option<BeatErrorKind>,
    /// The keys that have been refused so far.
    refused: Vec<K>,
}

impl<K: Hash, V> Router<K, V> {
    /// Sends a beat of each of `keys`, all stamped now, and returns the number of keys.
    ///
    /// # Errors
    ///
    /// Returns the keys that were refused.
    pub(crate) fn beat_many(
        &self,
        keys: impl Iterator<Item = K>,
    ) -> Result<usize, BeatManyError<K>> {
        let mut call = Call::new(self);
        let mut chunks = self.take_chunks();
        let mut count = 0;
        // Nothing is reserved for a key before its worker has it, so a panic in `keys` or in a hash leaves nothing
        // behind.
        for key in keys {
            count += 1;
            let route = self.route(&key);
            let admission = match &self.limit {
                Some(limit) => self.admission(limit, route, Patience::Forever),
                None => Ok(Admission::Send),
            };
            let Route { worker, tag, .. } = route;
            match admission {
                Ok(Admission::Send) => {
                    let chunk = &mut chunks.sent[worker];
                    chunk.push((tag, key));
                    if chunk.len() == CHUNK {
                        call.send(worker, chunk);
                    }
                }
                Ok(Admission::Ask) => {
                    let chunk = &mut chunks.asked[worker];
                    chunk.push((tag, key));
                    if chunk.len() == CHUNK {
                        call.ask(worker, chunk);
                    }
                }
                Err(kind) => call.refuse(kind, [key]),
            }
        }
        for (worker, chunk) in chunks.sent.iter_mut().enumerate() {
            call.send(worker, chunk);
        }
        for (worker, chunk) in chunks.asked.iter_mut().enumerate() {
            call.ask(worker, chunk);
        }
        self.chunks.lock().push(chunks);
        call.hear();
        call.end(count)
    }

    /// Sends the beats like [`beat_many`](Router::beat_many), with `options` for each key, in one message per key.
    ///
    /// # Errors
    ///
    /// Returns the keys that were refused.
    pub(crate) fn beat_many_with(
        &self,
        keys: impl Iterator<Item = K>,
        options: &Options<V>,
    ) -> Result<usize, BeatManyError<K>>
    where
        V: Clone,
    {
        let mut call = Call::new(self);
        let mut count = 0;
        for key in keys {
            count += 1;
            let route = self.route(&key);
            let sent = match Beat::with_options(route.tag, key, call.stamp, options.clone()) {
                Ok(beat) => self.send_beat(beat, route, Patience::Forever),
                Err(key) => Err(BeatError::new(BeatErrorKind::ZeroTimeout, key)),
            };
            if let Err(error) = sent {
                call.refuse(error.kind(), [error.into_key()]);
            }
        }
        call.end(count)
    }

    /// Returns empty chunks. There are never more sets than concurrent callers of `beat_many`.
    fn take_chunks(&self) -> Chunks<K> {
        let spare = self.chunks.lock().pop();
        let empty = || self.inboxes.iter().map(|_| Vec::new()).collect();
        spare.unwrap_or_else(|| Chunks {
            sent: empty(),
            asked: empty(),
        })
    }
}

impl<'a, K: Hash, V> Call<'a, K, V> {
    /// Starts a call at the current time.
    fn new(router: &'a Router<K, V>) -> Self {
        Call {
            router,
            stamp: router.clock().now_ns(),
            questions: Vec::new(),
            kind: None,
            refused: Vec::new(),
        }
    }

    /// Returns the result of a call with `count` keys.
    fn end(self, count: usize) -> Result<usize, BeatManyError<K>> {
        match self.kind {
            None => Ok(count),
            Some(kind) => Err(BeatManyError::new(kind, self.refused)),
        }
    }

    /// Sends a chunk, waits for room, and replaces the chunk with an empty one.
    fn send(&mut self, worker: usize, chunk: &mut Chunk<K>) {
        if chunk.is_empty() {
            return;
        }
        let (router, stamp) = (self.router, self.stamp);
        let keys = std::mem::replace(chunk, router.inboxes[worker].take_buffer());
        let due = router.due(stamp, router.timeout);
        let message = Message::Batch { stamp, keys };
        if let Err((kind, message)) = router.send(worker, message, due, Patience::Forever) {
            let Message::Batch { keys, .. } = message else {
                unreachable!("the message comes back as it was")
            };
            self.refuse(kind, keys.into_iter().map(|(_, key)| key));
        }
    }

    /// Sends a chunk like [`send`](Call::send), and asks the worker for which keys there is no room.
    fn ask(&mut self, worker: usize, chunk: &mut Chunk<K>) {
        if chunk.is_empty() {
            return;
        }
        if self.questions.len() == MOST_QUESTIONS {
            self.hear();
        }
        let (router, stamp) = (self.router, self.stamp);
        let keys = std::mem::replace(chunk, router.inboxes[worker].take_buffer());
        let (reply, answer) = answer::bounded(1);
        let command = Command::JoinMany { stamp, keys, reply };
        match router.command(worker, command) {
            Ok(()) => self.questions.push(answer),
            Err((kind, command)) => {
                let Command::JoinMany { keys, .. } = command else {
                    unreachable!("the command comes back as it was")
                };
                self.refuse(kind, keys.into_iter().map(|(_, key)| key));
            }
        }
    }

    /// Waits for the answers to the questions that were sent. A worker that fails does not answer, and the beats that
    /// it had accepted are lost like others.
    fn hear(&mut self) {
        for question in std::mem::take(&mut self.questions) {
            let refused = question.recv().unwrap_or_default();
            if !refused.is_empty() {
                self.refuse(BeatErrorKind::Full, refused);
            }
        }
    }

    /// Stores `keys`, which were refused.
    fn refuse(&mut self, kind: BeatErrorKind, keys: impl IntoIterator<Item = K>) {
        self.kind.get_or_insert(kind);
        self.refused.extend(keys);
    }
}
