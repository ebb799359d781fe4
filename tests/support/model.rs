//! What a watcher does, as plainly as possible: a map of keys, a queue of events, and a scan for every question.
//!
//! One model for the table's unit tests, the integration test of a whole watcher, and the fuzzer of the watcher without
//! threads. Points in time and durations are nanoseconds.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use liveness::{
    Event, EventKind, Generation, HeartError, KeyEvent, Mode, Stall, Stats, Status, Timestamp,
};

/// The deadline, timeout or time to forget that never comes.
pub(crate) const NEVER: u64 = u64::MAX;

/// The uptimes at which earlier systems broke, the beginning, and the end.
pub(crate) const STARTS: [u64; 7] = [
    0,
    (1 << 31) * 1_000_000,
    (1 << 32) * 1_000_000,
    (1 << 36) * 1_000_000,
    (1 << 42) * 1_000_000,
    NEVER - 1_000_000,
    NEVER - 500,
];

/// The options of a watcher.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) timeout: u64,
    pub(crate) mode: Mode,
    /// The kinds of event to expect.
    pub(crate) wanted: Vec<EventKind>,
    pub(crate) max_keys: usize,
    /// How long a key may be down before it is forgotten.
    pub(crate) forget_after: u64,
    /// The most grace granted in a row after stalls.
    pub(crate) grace_cap: u64,
    /// Whether one table holds all keys. With several, each counts generations by itself, and only the events of one
    /// key are in order.
    pub(crate) one_table: bool,
}

/// One beat.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Beat {
    pub(crate) key: u64,
    pub(crate) stamp: u64,
    pub(crate) timeout: Option<u64>,
    pub(crate) mode: Option<Mode>,
    pub(crate) extra: Option<u64>,
    /// Whether it begins no episode.
    pub(crate) known_only: bool,
}

/// A beat of a heart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeartBeat {
    /// The number of the heart.
    pub(crate) heart: usize,
    pub(crate) stamp: u64,
    /// Whether it found its key down, so that it is followed by an ordinary beat.
    pub(crate) is_down: bool,
}

/// One live key.
#[derive(Clone, Debug)]
struct Life {
    generation: u64,
    joined: u64,
    last_beat: u64,
    timeout: u64,
    mode: Mode,
    extra: Option<u64>,
    heart: Option<usize>,
    down: Option<Down>,
    /// The silence whose report waits for the sink; there is at most one.
    reporting: Option<Silence>,
    forget_after: u64,
}

/// A key that is silent and stays watched.
#[derive(Clone, Copy, Debug)]
struct Down {
    since: u64,
    /// The last beat before it.
    last_beat: u64,
    reported: u64,
    misses: u64,
    /// The mode and the deadline when the report was queued, and when it was.
    mode: Mode,
    deadline: u64,
    detected: u64,
}

/// What is to be reported of a silence whose report waits.
#[derive(Clone, Copy, Debug)]
struct Silence {
    down: Down,
    /// The stamp of the beat that ended it, and when that was applied.
    recovery: Option<(u64, u64)>,
}

/// An event that the sink is to be offered.
#[derive(Clone, Debug)]
struct Expected {
    /// The event. What the report of a key that stays watched says is known when it is taken.
    event: Event<u64, u64>,
    /// When it was due, grace counted and not counted: of those found together the least comes first.
    due: (u64, u64),
    /// Whether it reports that a key which stays watched is down.
    is_report: bool,
}

impl Life {
    /// The options of `beat` apply.
    fn set(&mut self, beat: &Beat) {
        self.extra = beat.extra.or(self.extra);
        self.timeout = beat.timeout.unwrap_or(self.timeout);
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

    /// What an event of `key` detected at `now` says of it.
    fn event(&self, key: u64, now: u64) -> KeyEvent<u64, u64> {
        let mut event = KeyEvent::new(key);
        event.extra = self.extra;
        event.generation = Generation::from(self.generation);
        event.mode = self.mode;
        event.joined = at(self.joined);
        event.last_beat = at(self.last_beat);
        event.timeout = duration(self.timeout);
        event.deadline = deadline(self.deadline());
        event.detected = at(now.max(self.last_beat));
        event.delivered = event.detected;
        event
    }

    /// The event that `recovery`, a stamp and when it was applied, ended the silence `down`.
    fn recovered(&self, key: u64, down: Down, (stamp, applied): (u64, u64)) -> Event<u64, u64> {
        let mut event = self.event(key, applied);
        event.last_beat = at(stamp);
        event.deadline = deadline(stamp.saturating_add(self.timeout));
        event.detected = at(applied);
        event.delivered = event.detected;
        event.misses = down.misses;
        event.down_for = Some(Duration::from_nanos(stamp.saturating_sub(down.since)));
        Event::Recovered(event)
    }
}

impl Expected {
    /// Whether it ends an episode.
    fn is_terminal(&self) -> bool {
        self.event.kind() == EventKind::Expired && !self.is_report
    }
}

/// The kind, key and generation of `event`.
fn identity(event: &Event<u64, u64>) -> (EventKind, Option<(u64, Generation)>) {
    let about = event.key_event();
    (
        event.kind(),
        about.map(|event| (event.key, event.generation)),
    )
}

/// A watcher, its table or its tables.
#[derive(Debug)]
pub(crate) struct Model {
    config: Config,
    pub(crate) now: u64,
    lives: BTreeMap<u64, Life>,
    /// What the sink has not taken: each entry was found together.
    queue: VecDeque<Vec<Expected>>,
    stats: Stats,
    /// How late each expiry was detected.
    pub(crate) lateness: Vec<u64>,
    /// When the last stall ended, and for how long expiry is held back from then on.
    hold: (u64, u64),
    /// How many places are taken. Given before each step, since an expired key keeps its place until the sink takes it,
    /// and a removed one until its turn in a queue which the sink may not even see.
    pub(crate) taken: usize,
    /// The hearts that ended since this was last emptied, and how.
    pub(crate) ended: Vec<(usize, HeartError)>,
}

impl Model {
    pub(crate) fn new(config: Config, start: u64) -> Self {
        Model {
            config,
            now: start,
            lives: BTreeMap::new(),
            queue: VecDeque::new(),
            stats: Stats::default(),
            lateness: Vec::new(),
            hold: (0, 0),
            taken: 0,
            ended: Vec::new(),
        }
    }

    /// The accounting; of what only the watcher knows, nothing.
    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.stats.clone();
        stats.live = self.lives.len() as u64;
        stats.down = self.down_keys().count() as u64;
        let waiting = self.queue.iter().flatten();
        stats.pending = waiting.filter(|expected| expected.is_terminal()).count() as u64;
        stats
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = u64> {
        self.lives.keys().copied()
    }

    pub(crate) fn down_keys(&self) -> impl Iterator<Item = u64> {
        let down = self.lives.iter().filter(|(_, life)| life.down.is_some());
        down.map(|(&key, _)| key)
    }

    /// The number of the heart of `key`.
    pub(crate) fn heart(&self, key: u64) -> Option<usize> {
        self.lives.get(&key)?.heart
    }

    /// Whether nothing waits for the sink.
    pub(crate) fn is_queue_empty(&self) -> bool {
        self.queue.iter().all(Vec::is_empty)
    }

    /// Panics unless `status` is that of `key`.
    pub(crate) fn check_status(&self, key: u64, status: Option<&Status<u64>>) {
        let Some(life) = self.lives.get(&key) else {
            return assert_eq!(status, None, "key {key}");
        };
        let Some(status) = status else {
            panic!("key {key} is watched: {life:?}")
        };
        let mut expected = life.event(key, self.now);
        if !self.config.one_table {
            expected.generation = status.generation;
        }
        expected.misses = life.down.map_or(0, |down| down.misses);
        let mut actual = KeyEvent::new(key);
        actual.extra = status.extra;
        actual.generation = status.generation;
        actual.mode = status.mode;
        actual.joined = status.joined;
        actual.last_beat = status.last_beat;
        actual.timeout = status.timeout;
        actual.deadline = status.deadline;
        actual.misses = status.misses;
        (actual.detected, actual.delivered) = (status.as_of, status.as_of);
        assert_eq!(actual, expected, "status of key {key}");
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
    pub(crate) fn due_of(&self, key: u64) -> Option<u64> {
        self.lives.get(&key).map(|life| self.due(life))
    }

    /// When the first key expires unless it beats; [`NEVER`] if none does.
    pub(crate) fn next_due(&self) -> u64 {
        let due = self.lives.values().map(|life| self.due(life));
        due.min().unwrap_or(NEVER)
    }

    /// Expects `event`, if its kind is wanted, by itself.
    fn expect(&mut self, event: Event<u64, u64>) {
        if self.config.wanted.contains(&event.kind()) {
            self.queue.push_back(vec![Expected {
                event,
                due: (0, 0),
                is_report: false,
            }]);
        }
    }

    /// One beat; returns whether there was room.
    pub(crate) fn beat(&mut self, beat: &Beat) -> bool {
        let key = beat.key;
        let Some(mut life) = self.lives.remove(&key) else {
            if beat.known_only {
                self.stats.unknown += 1;
                return true;
            }
            return self.join(beat);
        };
        life.set(beat);
        if beat.stamp < life.last_beat {
            self.stats.late_beats += 1;
            self.lives.insert(key, life);
            return true;
        }
        self.stats.applied_beats += 1;
        life.last_beat = beat.stamp;
        if let Some(down) = life.down.take() {
            let recovery = (beat.stamp, self.now.max(beat.stamp));
            self.stats.recoveries += 1;
            if let Some(silence) = &mut life.reporting {
                // The silence is reported first, and then its end.
                silence.recovery = Some(recovery);
                silence.down = down;
            } else {
                self.expect(life.recovered(key, down, recovery));
            }
        }
        self.expect(Event::Beat(life.event(key, self.now)));
        self.lives.insert(key, life);
        true
    }

    /// The options of `beat`, without its sign of life; returns whether its key lives.
    pub(crate) fn set(&mut self, beat: &Beat) -> bool {
        let life = self.lives.get_mut(&beat.key);
        self.stats.unknown += u64::from(life.is_none());
        life.map(|life| life.set(beat)).is_some()
    }

    /// The first beat of an absent key.
    fn join(&mut self, beat: &Beat) -> bool {
        if self.taken >= self.config.max_keys {
            self.stats.refused_beats += 1;
            return false;
        }
        self.taken += 1;
        self.stats.applied_beats += 1;
        self.stats.started += 1;
        let life = Life {
            generation: self.stats.started,
            joined: beat.stamp,
            last_beat: beat.stamp,
            timeout: beat.timeout.unwrap_or(self.config.timeout),
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

    /// A beat that gives its key the heart of number `heart`; returns whether there was room.
    pub(crate) fn watch(&mut self, beat: &Beat, heart: usize) -> bool {
        let has_room = self.beat(beat);
        let Some(life) = self.lives.get_mut(&beat.key) else {
            let end = if has_room {
                HeartError::Removed
            } else {
                HeartError::Closed
            };
            self.ended.push((heart, end));
            return has_room;
        };
        let old = life.heart.replace(heart);
        self.ended
            .extend(old.map(|old| (old, HeartError::Replaced)));
        true
    }

    /// The heart of `key` beats, if there is one. Hearts never go back.
    pub(crate) fn heart_beat(&mut self, key: u64) -> Option<HeartBeat> {
        let life = self.lives.get_mut(&key)?;
        let beat = HeartBeat {
            heart: life.heart?,
            stamp: self.now.max(life.last_beat),
            is_down: life.down.is_some(),
        };
        if beat.is_down {
            self.beat(&Beat {
                key,
                stamp: beat.stamp,
                ..Beat::default()
            });
        } else {
            life.last_beat = beat.stamp;
        }
        Some(beat)
    }

    /// The heart of `key` goes, and leaves the key or takes it along.
    pub(crate) fn release(&mut self, key: u64, leave: bool) {
        let life = self.lives.get_mut(&key);
        let heart = life.and_then(|life| life.heart.take());
        if let Some(heart) = heart.filter(|_| !leave) {
            self.remove(key);
            self.ended.push((heart, HeartError::Removed));
        }
    }

    /// Moves the time to `now`, never back, and expires what is due.
    pub(crate) fn expire(&mut self, now: u64) {
        self.now = self.now.max(now);
        let mut batch = Vec::new();
        while self.next_due() <= self.now && self.next_due() != NEVER {
            for key in self.lives.keys().copied().collect::<Vec<_>>() {
                let due = self
                    .due_of(key)
                    .filter(|&due| due <= self.now && due != NEVER);
                if let Some(due) = due {
                    batch.extend(self.miss(key, due));
                }
            }
        }
        let ended = batch.extract_if(.., |expected| {
            !self.config.wanted.contains(&expected.event.kind())
        });
        self.stats.discarded += ended.filter(Expected::is_terminal).count() as u64;
        self.queue.push_back(batch);
    }

    /// The live `key` missed its deadline; the report of it, unless one waits already.
    fn miss(&mut self, key: u64, due: u64) -> Option<Expected> {
        let mut life = self.lives.remove(&key)?;
        let missed = life.deadline();
        let mut event = life.event(key, self.now);
        if life.forgotten() <= missed {
            self.stats.removed += 1;
            self.end_heart(&life, HeartError::Expired);
            return Some(Expected {
                event: Event::Removed(event),
                due: (due, missed),
                is_report: false,
            });
        }
        self.stats.expiries += 1;
        self.lateness.push(self.now - missed);
        event.misses = 1;
        let folded = life
            .reporting
            .and_then(|silence| silence.recovery.map(|_| silence.down));
        self.stats.folded_recoveries += u64::from(folded.is_some());
        let was_queued = life.reporting.is_some();
        let is_report = life.mode != Mode::Once;
        if is_report {
            let mut down = life.down.or(folded).unwrap_or(Down {
                since: missed,
                last_beat: 0,
                reported: 0,
                misses: 0,
                mode: life.mode,
                deadline: missed,
                detected: self.now,
            });
            if folded.is_some() || !was_queued {
                (down.mode, down.deadline, down.detected) = (life.mode, missed, self.now);
            }
            down.misses += 1;
            down.reported = self.now;
            down.last_beat = life.last_beat;
            life.down = Some(down);
            if was_queued || self.config.wanted.contains(&EventKind::Expired) {
                life.reporting = Some(Silence {
                    down,
                    recovery: None,
                });
            }
            self.lives.insert(key, life);
        } else {
            // Of a key that was down when it became one to forget, the report says the first deadline.
            event.deadline = deadline(life.last_beat.saturating_add(life.timeout));
            self.end_heart(&life, HeartError::Expired);
            self.drop_report(key);
        }
        (!is_report || !was_queued).then_some(Expected {
            event: Event::Expired(event),
            due: (due, missed),
            is_report,
        })
    }

    /// The heart of `life`, which ends, ends like this.
    fn end_heart(&mut self, life: &Life, end: HeartError) {
        self.ended.extend(life.heart.map(|heart| (heart, end)));
    }

    /// Drops the waiting report that `key` is down.
    fn drop_report(&mut self, key: u64) {
        for batch in &mut self.queue {
            batch.retain(|expected| !expected.is_report || expected.event.key() != Some(&key));
        }
    }

    /// Ends every episode of `key` that has not been reported; returns whether there was one.
    pub(crate) fn remove(&mut self, key: u64) -> bool {
        let before = self.stats.removed;
        self.drop_report(key);
        for expected in self.queue.iter_mut().flatten() {
            if expected.is_terminal()
                && let Event::Expired(event) = &mut expected.event
                && event.key == key
            {
                // It is reported in its place.
                self.stats.removed += 1;
                event.misses = 0;
                expected.event = Event::Removed(event.clone());
            }
        }
        if let Some(life) = self.lives.remove(&key) {
            let recovery = life.reporting.and_then(|silence| silence.recovery);
            self.stats.folded_recoveries += u64::from(recovery.is_some());
            self.stats.removed += 1;
            self.end_heart(&life, HeartError::Removed);
            self.expect(Event::Removed(life.event(key, self.now)));
        }
        let wants_removed = self.config.wanted.contains(&EventKind::Removed);
        for batch in &mut self.queue {
            batch.retain(|expected| wants_removed || expected.event.kind() != EventKind::Removed);
        }
        self.stats.removed > before
    }

    /// Expiry is held back as `stall` says.
    pub(crate) fn stall(&mut self, stall: Stall) {
        self.now = self.now.max(nanos(stall.resumed.since_origin()));
        let (gap, held_for) = (
            nanos(stall.resumed - stall.last_alive),
            nanos(stall.held_for),
        );
        let left = (self.hold.0.saturating_add(self.hold.1)).saturating_sub(self.now);
        assert!(
            held_for <= gap.min(self.config.grace_cap).max(left),
            "{stall:?} grants more than the gap"
        );
        assert!(held_for >= left, "{stall:?} takes back what was granted");
        self.hold = (self.now, held_for);
        self.stats.stalls += 1;
        self.expect(Event::Stalled(stall));
    }

    /// Panics unless the sink is to be offered `event` next, whenever that is delivered.
    pub(crate) fn check_offer(&self, event: &Event<u64, u64>) {
        let (batch, at) = self.place_of(event);
        let (batch, next) = (&self.queue[batch], &self.queue[batch][at]);
        if self.config.one_table {
            let least = batch.iter().map(|expected| expected.due).min();
            assert_eq!(Some(next.due), least, "the order of deadlines");
        }
        let mut expected = next.event.clone();
        if let (true, Event::Expired(report)) = (next.is_report, &mut expected) {
            *report = self.report(report.key);
        }
        if let (Some(expected), Some(event)) = (key_event_mut(&mut expected), event.key_event()) {
            assert!(event.detected <= event.delivered);
            expected.delivered = event.delivered;
            if !self.config.one_table {
                expected.generation = event.generation;
            }
        }
        assert_eq!(*event, expected);
    }

    /// What the report that `key` is down says by now.
    fn report(&self, key: u64) -> KeyEvent<u64, u64> {
        let life = &self.lives[&key];
        let Some(Silence { down, .. }) = life.reporting else {
            panic!("a report of key {key}, which is {life:?}")
        };
        let mut event = life.event(key, self.now);
        event.mode = down.mode;
        event.misses = down.misses;
        event.last_beat = at(down.last_beat);
        event.deadline = deadline(down.deadline);
        event.detected = at(down.detected.max(down.last_beat));
        event
    }

    /// The sink took `event`, or will never take another one.
    pub(crate) fn settle(&mut self, event: &Event<u64, u64>, taken: bool) {
        let (batch, at) = self.place_of(event);
        let settled = self.queue[batch].remove(at);
        if settled.is_terminal() {
            self.stats.delivered += u64::from(taken);
            self.stats.discarded += u64::from(!taken);
        }
        let Some(&key) = event.key().filter(|_| settled.is_report) else {
            return;
        };
        if let Some(life) = self.lives.get_mut(&key)
            && let Some(silence) = life.reporting.take()
            && let Some(recovery) = silence.recovery
            && self.config.wanted.contains(&EventKind::Recovered)
        {
            self.queue.push_front(vec![Expected {
                event: life.recovered(key, silence.down, recovery),
                due: (0, 0),
                is_report: false,
            }]);
        }
    }

    /// Whatever waits will never be taken.
    pub(crate) fn discard(&mut self) {
        while let Some(expected) = self.queue.iter().flatten().next().cloned() {
            self.settle(&expected.event, false);
        }
    }

    /// Where `event` stands: in the first batch that is left, or, with several tables, as the first event of its key.
    fn place_of(&self, event: &Event<u64, u64>) -> (usize, usize) {
        let waiting = self.queue.iter().enumerate().flat_map(|(batch, events)| {
            let places = events.iter().enumerate();
            places.map(move |(at, expected)| ((batch, at), &expected.event))
        });
        let mut waiting = waiting.peekable();
        let place = if self.config.one_table {
            let first = waiting.peek().map(|&((batch, _), _)| batch);
            waiting
                .find(|((batch, _), it)| Some(*batch) == first && identity(it) == identity(event))
        } else {
            let first = waiting.find(|(_, it)| it.key() == event.key());
            first.filter(|(_, it)| it.kind() == event.kind())
        };
        let Some((place, _)) = place else {
            panic!("{event:?} is not what comes next of {:?}", self.queue)
        };
        place
    }
}

/// What `event` says of its key.
fn key_event_mut(event: &mut Event<u64, u64>) -> Option<&mut KeyEvent<u64, u64>> {
    match event {
        Event::Joined(event)
        | Event::Beat(event)
        | Event::Expired(event)
        | Event::Recovered(event)
        | Event::Removed(event) => Some(event),
        _ => None,
    }
}

/// The point in time `ns` after the origin.
pub(crate) fn at(ns: u64) -> Timestamp {
    Duration::from_nanos(ns).into()
}

/// The deadline `ns`, unless it never comes.
pub(crate) fn deadline(ns: u64) -> Option<Timestamp> {
    (ns != NEVER).then(|| at(ns))
}

/// `duration` in nanoseconds.
pub(crate) fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

/// The timeout `ns`, unless it never ends.
fn duration(ns: u64) -> Duration {
    match ns {
        NEVER => Duration::MAX,
        ns => Duration::from_nanos(ns),
    }
}
