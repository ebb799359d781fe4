//! What a table does, said as plainly as possible: every question is a scan over a map.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use super::super::{Beat, Config};
use crate::clock::{self, NEVER, Timestamp};
use crate::event::{Event, EventKind, Generation, KeyEvent, Stall};
use crate::options::Mode;
use crate::stats::{Counts, Histogram};
use crate::status::Status;
use crate::table::heart_cell::{HeartSide, HeartState};

/// An event that the sink is to be offered.
#[derive(Clone, Debug)]
struct Expected {
    /// The event; the misses of a report that a `Repeat` key missed are those of the moment it is taken.
    event: Event<u64, u64>,
    /// When it was due, grace counted and not counted: of those found together the least comes first.
    due: (u64, u64),
    /// Of a report that a `Repeat` key missed: its first missed deadline.
    since: Option<u64>,
}

impl Expected {
    /// Whether it ends an episode.
    fn is_terminal(&self) -> bool {
        self.event.kind() == EventKind::Expired && self.since.is_none()
    }

    /// What it is about, by key and generation.
    fn episode(&self) -> Option<(u64, Generation)> {
        let event = self.event.key_event()?;
        Some((event.key, event.generation))
    }
}

/// One live key.
#[derive(Clone, Debug)]
pub(super) struct Life {
    generation: Generation,
    joined: u64,
    last_beat: u64,
    timeout: u64,
    mode: Mode,
    extra: Option<u64>,
    pub(super) heart: Option<Arc<HeartSide>>,
    pub(super) down: Option<Down>,
    /// The silence whose report waits for the sink.
    reporting: Option<Silence>,
    /// How long it may be down.
    forget_after: u64,
}

/// A key that is silent and stays watched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Down {
    since: u64,
    /// The last beat before it.
    last_beat: u64,
    reported: u64,
    misses: u64,
    /// The mode when the report was queued, the deadline that it tells, and when that was found out.
    mode: Mode,
    deadline: u64,
    detected: u64,
}

/// What is to be told of a silence whose report waits.
#[derive(Clone, Copy, Debug)]
struct Silence {
    down: Down,
    /// The stamp of the beat that ended it, and when that was applied.
    recovery: Option<(u64, u64)>,
}

impl Life {
    /// The options of `beat` apply.
    fn set(&mut self, beat: &Beat<u64, u64>) {
        self.extra = beat.extra.or(self.extra);
        self.timeout = beat.timeout.map_or(self.timeout, NonZeroU64::get);
        self.mode = beat.mode.unwrap_or(self.mode);
    }

    /// When it expires, is reported again or is forgotten unless it beats, grace not counted.
    fn deadline(&self) -> u64 {
        let Some(down) = self.down else {
            return self.last_beat.saturating_add(self.timeout);
        };
        let again = match self.mode {
            Mode::Track => NEVER,
            Mode::Once | Mode::Repeat => down.reported.saturating_add(self.timeout),
        };
        again.min(self.forgotten())
    }

    /// When it is forgotten: after it has been down for so long, and its report is delivered.
    fn forgotten(&self) -> u64 {
        match self.down {
            Some(down) if self.reporting.is_none() => down.since.saturating_add(self.forget_after),
            _ => NEVER,
        }
    }

    /// The stamp of a beat of its heart at `now`: hearts never go back.
    pub(super) fn heart_stamp(&self, now: u64) -> u64 {
        now.max(self.last_beat)
    }

    /// What users are told of it.
    fn status(&self, now: u64) -> Status<u64> {
        Status {
            extra: self.extra,
            as_of: Timestamp::from_nanos(now.max(self.last_beat)),
            generation: self.generation,
            mode: self.mode,
            joined: Timestamp::from_nanos(self.joined),
            last_beat: Timestamp::from_nanos(self.last_beat),
            timeout: clock::duration(self.timeout),
            deadline: clock::deadline(self.deadline()),
            misses: self.down.map_or(0, |down| down.misses),
        }
    }

    /// What an event of `key` detected at `now` says of it.
    fn event(&self, key: u64, now: u64) -> KeyEvent<u64, u64> {
        let detected = Timestamp::from_nanos(now.max(self.last_beat));
        let status = self.status(now);
        KeyEvent {
            key,
            extra: self.extra,
            generation: status.generation,
            mode: status.mode,
            joined: status.joined,
            last_beat: status.last_beat,
            timeout: status.timeout,
            deadline: status.deadline,
            detected,
            delivered: detected,
            misses: 0,
            down_for: None,
        }
    }
}

/// The model of a table.
#[derive(Debug)]
pub(super) struct Model {
    config: Config,
    pub(super) now: u64,
    pub(super) lives: BTreeMap<u64, Life>,
    /// What the sink has not taken: each entry was found together.
    queue: VecDeque<Vec<Expected>>,
    counts: Counts,
    pub(super) detection: Histogram,
    /// When the last stall ended, and for how long expiry is held back from then on.
    hold: (u64, u64),
    /// How many slots are taken: told before each step, since a removed key keeps its slot until its turn in a queue
    /// that may not even show it.
    pub(super) taken: usize,
    /// The hearts whose episodes ended in this step, and how.
    pub(super) ended: Vec<(Arc<HeartSide>, HeartState)>,
}

impl Model {
    pub(super) fn new(config: Config, start: u64) -> Self {
        Model {
            config,
            now: start,
            lives: BTreeMap::new(),
            queue: VecDeque::new(),
            counts: Counts::default(),
            detection: Histogram::default(),
            hold: (0, 0),
            taken: 0,
            ended: Vec::new(),
        }
    }

    /// What is known of `key`.
    pub(super) fn status(&self, key: u64) -> Option<Status<u64>> {
        self.lives.get(&key).map(|life| life.status(self.now))
    }

    /// The accounting, the bytes left out.
    pub(super) fn counts(&self) -> Counts {
        let pending = self.queue.iter().flatten();
        Counts {
            live: self.lives.len() as u64,
            down: self
                .lives
                .values()
                .filter(|life| life.down.is_some())
                .count() as u64,
            pending: pending.filter(|expected| expected.is_terminal()).count() as u64,
            ..self.counts
        }
    }

    /// Whether nothing waits for the sink.
    pub(super) fn is_queue_empty(&self) -> bool {
        self.queue.iter().all(Vec::is_empty)
    }

    /// The most slots.
    pub(super) fn max_keys(&self) -> usize {
        self.config.max_keys
    }

    /// When `life` expires unless it beats, grace counted.
    fn due(&self, life: &Life) -> u64 {
        let held_until = self.hold.0.saturating_add(self.hold.1.min(life.timeout));
        match life.deadline() {
            NEVER => NEVER,
            deadline => deadline.max(held_until.min(NEVER - 1)),
        }
    }

    /// When `key` expires unless it beats.
    pub(super) fn due_of(&self, key: u64) -> Option<u64> {
        self.lives.get(&key).map(|life| self.due(life))
    }

    /// When the first key expires unless it beats.
    pub(super) fn next_due(&self) -> u64 {
        let due = self.lives.values().map(|life| self.due(life));
        due.min().unwrap_or(NEVER)
    }

    /// Whether expiry was ever held back.
    pub(super) fn was_stalled(&self) -> bool {
        self.counts.stalls > 0
    }

    /// Expects `event`, if its kind is wanted, by itself.
    fn expect(&mut self, event: Event<u64, u64>) {
        if self.config.wanted.has(event.kind()) {
            self.queue.push_back(vec![Expected {
                event,
                due: (0, 0),
                since: None,
            }]);
        }
    }

    /// One beat; returns whether there was room.
    pub(super) fn beat(&mut self, beat: &Beat<u64, u64>) -> bool {
        let key = beat.key;
        let Some(mut life) = self.lives.remove(&key) else {
            if beat.known_only {
                self.counts.unknown += 1;
                return true;
            }
            return self.join(beat);
        };
        life.set(beat);
        if beat.stamp < life.last_beat {
            self.counts.late_beats += 1;
            self.lives.insert(key, life);
            return true;
        }
        self.counts.beats += 1;
        life.last_beat = beat.stamp;
        if let Some(down) = life.down.take() {
            let recovery = (beat.stamp, self.now.max(beat.stamp));
            self.counts.recoveries += 1;
            if let Some(silence) = &mut life.reporting {
                silence.recovery = Some(recovery);
                silence.down = down;
            } else {
                self.expect(recovered(&life, key, down, recovery));
            }
        }
        self.expect(Event::Beat(life.event(key, self.now)));
        self.lives.insert(key, life);
        true
    }

    /// The options of `beat`, without its sign of life; returns whether its key lives.
    pub(super) fn set(&mut self, beat: &Beat<u64, u64>) -> bool {
        let life = self.lives.get_mut(&beat.key);
        self.counts.unknown += u64::from(life.is_none());
        life.map(|life| life.set(beat)).is_some()
    }

    /// The first beat of an absent key.
    fn join(&mut self, beat: &Beat<u64, u64>) -> bool {
        if self.taken >= self.config.max_keys {
            self.counts.refused += 1;
            return false;
        }
        self.taken += 1;
        self.counts.beats += 1;
        self.counts.started += 1;
        let life = Life {
            generation: Generation(self.counts.started),
            joined: beat.stamp,
            last_beat: beat.stamp,
            timeout: beat.timeout.map_or(self.config.timeout, NonZeroU64::get),
            mode: beat.mode.unwrap_or(self.config.mode),
            extra: beat.extra,
            heart: None,
            down: None,
            reporting: None,
            forget_after: self.config.forget_after,
        };
        self.expect(Event::Joined(life.event(beat.key, self.now)));
        self.lives.insert(beat.key, life);
        true
    }

    /// A beat of the heart of the live `key`, which is not down.
    pub(super) fn heart_beat(&mut self, key: u64, stamp: u64) {
        if let Some(life) = self.lives.get_mut(&key) {
            life.last_beat = stamp;
        }
    }

    /// Moves the time to `now`, never back, and expires what is due.
    pub(super) fn expire(&mut self, now: u64) {
        self.now = self.now.max(now);
        let mut batch = Vec::new();
        loop {
            let keys = self.lives.keys().copied();
            let due: Vec<(u64, u64)> = keys
                .filter_map(|key| Some((key, self.due_of(key)?)))
                .filter(|&(_, due)| due <= self.now && due != NEVER)
                .collect();
            if due.is_empty() {
                break;
            }
            for (key, due) in due {
                batch.extend(self.miss(key, due));
            }
        }
        let wanted = self.config.wanted;
        let unwanted = |expected: &mut Expected| !wanted.has(expected.event.kind());
        let unwanted = batch.extract_if(.., unwanted);
        let ended = unwanted.filter(Expected::is_terminal).count();
        self.counts.discarded += ended as u64;
        self.queue.push_back(batch);
    }

    /// The live `key` missed its deadline; the report of it, unless one waits already.
    fn miss(&mut self, key: u64, due: u64) -> Option<Expected> {
        let mut life = self.lives.remove(&key)?;
        let deadline = life.deadline();
        if life.forgotten() <= deadline {
            self.counts.removed += 1;
            self.ended
                .extend(life.heart.clone().map(|heart| (heart, HeartState::Expired)));
            let mut event = life.event(key, self.now);
            event.deadline = clock::deadline(deadline);
            return Some(Expected {
                event: Event::Removed(event),
                due: (due, deadline),
                since: None,
            });
        }
        self.counts.expiries += 1;
        self.detection.record(self.now - deadline);
        let mut event = life.event(key, self.now);
        event.misses = 1;
        event.deadline = clock::deadline(deadline);
        let mut since = None;
        let mut was_queued = false;
        if life.mode == Mode::Once {
            // Of a key that was down when it became one to forget, the report tells the first deadline.
            event.deadline = clock::deadline(life.last_beat.saturating_add(life.timeout));
            if let Some(heart) = life.heart {
                self.ended.push((heart, HeartState::Expired));
            }
            if let Some(silence) = life.reporting {
                self.counts.folded += u64::from(silence.recovery.is_some());
                self.forget_report(key, life.generation);
            }
        } else {
            let folded = life
                .reporting
                .and_then(|silence| silence.recovery.map(|_| silence.down));
            self.counts.folded += u64::from(folded.is_some());
            was_queued = life.reporting.is_some();
            let mut down = life.down.or(folded).unwrap_or(Down {
                since: deadline,
                last_beat: 0,
                reported: 0,
                misses: 0,
                mode: life.mode,
                deadline,
                detected: self.now,
            });
            if folded.is_some() || !was_queued {
                (down.mode, down.deadline, down.detected) = (life.mode, deadline, self.now);
            }
            down.misses += 1;
            down.reported = self.now;
            down.last_beat = life.last_beat;
            life.down = Some(down);
            if was_queued || self.config.wanted.has(EventKind::Expired) {
                life.reporting = Some(Silence {
                    down,
                    recovery: None,
                });
            }
            since = Some(down.since);
            self.lives.insert(key, life);
        }
        (!was_queued).then_some(Expected {
            event: Event::Expired(event),
            due: (due, deadline),
            since,
        })
    }

    /// Drops the waiting report that `key` is down.
    fn forget_report(&mut self, key: u64, generation: Generation) {
        for batch in &mut self.queue {
            batch.retain(|expected| {
                expected.since.is_none() || expected.episode() != Some((key, generation))
            });
        }
    }

    /// Ends every episode of `key` that has not been told; returns whether there was one.
    pub(super) fn remove(&mut self, key: u64) -> bool {
        let before = self.counts.removed;
        let mut removed = Vec::new();
        if let Some(life) = self.lives.remove(&key) {
            let recovery = life.reporting.and_then(|silence| silence.recovery);
            self.counts.folded += u64::from(recovery.is_some());
            self.counts.removed += 1;
            removed.push((key, life.generation));
            self.expect(Event::Removed(life.event(key, self.now)));
            self.ended
                .extend(life.heart.map(|heart| (heart, HeartState::Removed)));
        }
        let wants_removed = self.config.wanted.has(EventKind::Removed);
        for batch in &mut self.queue {
            for expected in batch.iter_mut().filter(|expected| expected.is_terminal()) {
                if let Event::Expired(event) = &expected.event
                    && event.key == key
                {
                    // It is told in its place.
                    self.counts.removed += 1;
                    removed.push((key, event.generation));
                    let mut event = event.clone();
                    event.misses = 0;
                    expected.event = Event::Removed(event);
                }
            }
            batch.retain(|expected| wants_removed || expected.event.kind() != EventKind::Removed);
        }
        for batch in &mut self.queue {
            batch.retain(|expected| {
                expected.since.is_none()
                    || expected
                        .episode()
                        .is_none_or(|episode| !removed.contains(&episode))
            });
        }
        self.counts.removed > before
    }

    /// Expiry is held back as `stall` says.
    pub(super) fn stall(&mut self, stall: Stall) {
        let nanos = |duration: Duration| duration.as_nanos() as u64;
        self.now = self.now.max(stall.resumed.as_nanos());
        let granted = stall.resumed - stall.last_alive;
        let left = (self.hold.0.saturating_add(self.hold.1)).saturating_sub(self.now);
        assert!(
            nanos(stall.held_for) <= nanos(granted).min(self.config.grace_cap).max(left),
            "{stall:?} grants more than the gap"
        );
        assert!(
            nanos(stall.held_for) >= left,
            "{stall:?} takes back what was granted"
        );
        self.hold = (self.now, nanos(stall.held_for));
        self.counts.stalls += 1;
        self.expect(Event::Stalled(stall));
    }

    /// Checks that `event` is what the sink is to be offered next.
    pub(super) fn check_offer(&mut self, event: &Event<u64, u64>) {
        let at = self.place_of(event);
        let Some(batch) = self.queue.front() else {
            unreachable!("a place is in a batch")
        };
        let least = batch.iter().map(|expected| expected.due).min();
        assert_eq!(Some(batch[at].due), least, "the order of deadlines");
        let expected = match (batch[at].since, &batch[at].event) {
            (Some(_), Event::Expired(queued)) => Event::Expired(self.report(queued)),
            (_, expected) => expected.clone(),
        };
        assert_eq!(*event, expected);
    }

    /// What the report `queued` says by now.
    fn report(&self, queued: &KeyEvent<u64, u64>) -> KeyEvent<u64, u64> {
        let life = &self.lives[&queued.key];
        let Some(Silence { down, .. }) = life.reporting else {
            panic!("{queued:?} is not of {life:?}")
        };
        let last_beat = Timestamp::from_nanos(down.last_beat);
        let detected = Timestamp::from_nanos(down.detected).max(last_beat);
        KeyEvent {
            mode: down.mode,
            misses: down.misses,
            last_beat,
            deadline: clock::deadline(down.deadline),
            detected,
            delivered: detected,
            ..life.event(queued.key, self.now)
        }
    }

    /// The sink took `event`, or will never take another one.
    pub(super) fn settle(&mut self, event: &Event<u64, u64>, taken: bool) {
        let at = self.place_of(event);
        let Some(settled) = self.queue.front_mut().map(|batch| batch.remove(at)) else {
            unreachable!("a place is in a batch")
        };
        if settled.is_terminal() {
            self.counts.delivered += u64::from(taken);
            self.counts.discarded += u64::from(!taken);
        }
        let Some(key) = event.key().filter(|_| settled.since.is_some()) else {
            return;
        };
        let life = self.lives.get_mut(key);
        if let Some(life) = life
            && let Some(silence) = life.reporting.take()
            && let Some(recovery) = silence.recovery
            && self.config.wanted.has(EventKind::Recovered)
        {
            let event = recovered(life, *key, silence.down, recovery);
            self.queue.push_front(vec![Expected {
                event,
                due: (0, 0),
                since: None,
            }]);
        }
    }

    /// Whatever waits will never be taken.
    pub(super) fn discard(&mut self) {
        while let Some(expected) = self.queue.iter().flatten().next().cloned() {
            self.settle(&expected.event, false);
        }
    }

    /// Where `event` stands in the first batch.
    fn place_of(&mut self, event: &Event<u64, u64>) -> usize {
        while self.queue.front().is_some_and(Vec::is_empty) {
            self.queue.pop_front();
        }
        let Some(batch) = self.queue.front() else {
            panic!("unexpected {event:?}")
        };
        let episode = |event: &Event<u64, u64>| {
            let about = event.key_event();
            (
                event.kind(),
                about.map(|event| (event.key, event.generation)),
            )
        };
        let is_it = |expected: &Expected| episode(&expected.event) == episode(event);
        let Some(at) = batch.iter().position(is_it) else {
            panic!("{event:?} instead of {batch:?}")
        };
        at
    }
}

/// The event that `recovery`, a stamp and when it was applied, ended the silence `down` of `life`.
fn recovered(life: &Life, key: u64, down: Down, (stamp, detected): (u64, u64)) -> Event<u64, u64> {
    let detected = Timestamp::from_nanos(detected);
    Event::Recovered(KeyEvent {
        last_beat: Timestamp::from_nanos(stamp),
        deadline: clock::deadline(stamp.saturating_add(life.timeout)),
        detected,
        delivered: detected,
        misses: down.misses,
        down_for: Some(Duration::from_nanos(stamp.saturating_sub(down.since))),
        ..life.event(key, 0)
    })
}
