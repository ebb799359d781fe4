//! What pages are sent: everything when they open, and then what changes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::members::{Fate, Roll};
use super::summary::summary;
use crate::observe::measure::{Measure, Member, State};
use crate::observe::observer::{Named, Observer};
use crate::observe::sources::millis;
use crate::observe::stories::Story;
use crate::server::{Agent, Json, Server};

/// The time between looks at members.
const TICK: Duration = Duration::from_millis(500);

/// How many ticks there are between points of the charts.
const TICKS_A_POINT: u32 = 2;

/// How many points are kept for pages that open: five minutes.
const POINTS: usize = 300;

/// How many events are kept for pages that open.
const EVENTS: usize = 200;

/// The most events of one look.
const EVENTS_A_LOOK: usize = 40;

/// The most members of one part. Of a watcher with more keys, those that are down are shown.
const MAX_MEMBERS: usize = 20_000;

/// The most members or points in one message.
const CHUNK: usize = 1_000;

/// The most connections that are listed.
const MAX_AGENTS: usize = 200;

/// The most dead events of a topic that are listed.
#[cfg(feature = "dispatch")]
const MAX_DEAD: usize = 50;

/// The room of the pages that are up to date.
const ROOM: &str = "live";

/// What the feed is asked for.
pub(crate) enum Command {
    /// To show everything to a page that has opened.
    Opened(Agent<Json, ()>),
    /// To end.
    Stop,
}

/// The state of the feed.
pub(crate) struct Feed {
    /// What is shown.
    observer: Observer,
    /// The server of the pages.
    server: Arc<Server<Json, ()>>,
    /// What `/status.json` answers.
    latest: Arc<Mutex<String>>,
    /// The title.
    title: String,
    /// Whether pages may change something.
    is_writable: bool,
    /// What was measured at the last point.
    before: HashMap<(&'static str, Arc<str>), Measure>,
    /// When that was.
    measured: Option<Instant>,
    /// The last points.
    points: VecDeque<Value>,
    /// The last events.
    events: VecDeque<Value>,
    /// How much of what happened to the members of each part is in `events`.
    reported: HashMap<(&'static str, Arc<str>), u64>,
    /// The members of each part at the last look.
    rolls: HashMap<(&'static str, Arc<str>), Roll>,
    /// The dead events that pages know.
    #[cfg(feature = "dispatch")]
    dead: HashMap<(Arc<str>, Arc<str>), Value>,
}

impl Feed {
    /// Creates a feed.
    pub(crate) fn new(
        observer: Observer,
        server: Arc<Server<Json, ()>>,
        latest: Arc<Mutex<String>>,
        title: String,
        is_writable: bool,
    ) -> Self {
        Feed {
            observer,
            server,
            latest,
            title,
            is_writable,
            before: HashMap::new(),
            measured: None,
            points: VecDeque::new(),
            events: VecDeque::new(),
            reported: HashMap::new(),
            rolls: HashMap::new(),
            #[cfg(feature = "dispatch")]
            dead: HashMap::new(),
        }
    }

    /// Feeds pages until it is asked to end.
    pub(crate) fn run(mut self, orders: &Receiver<Command>) {
        let mut next = Instant::now();
        let mut ticks = 0;
        loop {
            match orders.recv_deadline(next) {
                Ok(Command::Opened(page)) => self.show(&page),
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    // A late tick is not made up for.
                    next = (next + TICK).max(Instant::now());
                    self.tick(ticks % TICKS_A_POINT == 0);
                    ticks += 1;
                }
            }
        }
    }

    /// Looks at everything, and sends what changed to the pages.
    fn tick(&mut self, is_point: bool) {
        if is_point {
            let point = self.point();
            self.publish("Points", &json!([point]));
        }
        if self.server.stats().open == 0 {
            // The next page that is opened gets everything anew.
            self.rolls.clear();
            return;
        }
        self.look(true);
        if is_point {
            self.details(true);
        }
    }

    /// Sends everything to a page that has opened. Changes follow.
    fn show(&mut self, page: &Agent<Json, ()>) {
        // Pages that are open get the changes that this look finds.
        self.look(true);
        let hello = json!({
            "title": self.title,
            "now": millis(SystemTime::now()),
            "is_writable": self.is_writable,
        });
        // A page that has gone needs nothing.
        let send = |name: &str, body: &Value| drop(page.send(name, body));
        send("Hello", &hello);
        if self.points.is_empty() {
            self.point();
        }
        for points in self.points.make_contiguous().chunks(CHUNK / 10) {
            send("Points", &json!(points));
        }
        for ((kind, name), roll) in &self.rolls {
            let all = roll.all();
            for (index, chunk) in chunks(&all).into_iter().enumerate() {
                send("Members", &members(kind, name, index == 0, chunk, &[]));
            }
        }
        send("Events", &json!(self.events));
        page.join(ROOM);
        self.details(false);
    }

    /// Measures all parts, and keeps what charts show.
    fn point(&mut self) -> Value {
        let now = Instant::now();
        let since = self.measured.map_or(TICK, |before| now - before);
        self.measured = Some(now);
        let measures = self.observer.measure();
        let problems = measures.iter();
        let problems: Vec<_> = problems
            .filter_map(|(name, measure)| measure.problem(name))
            .collect();
        let mut parts = Vec::new();
        let mut next = HashMap::new();
        for (name, measure) in measures {
            let key = (measure.kind(), name);
            let before = self.before.get(&key);
            // A clock of low resolution must not make rates infinite.
            let seconds = since.as_secs_f64().max(0.001);
            parts.push(summary(&key.1, &measure, before, seconds));
            next.insert(key, measure);
        }
        self.before = next;
        let t = millis(SystemTime::now());
        let point = json!({ "t": t, "parts": parts, "problems": problems });
        let mut status = point.clone();
        if let Value::Object(fields) = &mut status {
            fields.insert("title".to_owned(), json!(self.title));
        }
        *self.latest.lock() = status.to_string();
        if self.points.len() == POINTS {
            self.points.pop_front();
        }
        self.points.push_back(point.clone());
        point
    }

    /// Looks at the members of all parts, and sends what changed if asked to.
    fn look(&mut self, sends: bool) {
        let now = millis(SystemTime::now());
        let mut stories = Vec::new();
        let mut seen = HashMap::new();
        for Named { kind, name, source } in self.observer.sources() {
            let Some(found) = source.members(MAX_MEMBERS) else {
                continue;
            };
            let key = (kind, name);
            let mut roll = self.rolls.remove(&key).unwrap_or_default();
            let is_first = roll.is_new();
            let changes = roll.update(found, now);
            let name = &key.1;
            if sends && !(changes.set.is_empty() && changes.gone.is_empty()) {
                let mut gone = &changes.gone[..];
                for (index, chunk) in chunks(&changes.set).into_iter().enumerate() {
                    let full = is_first && index == 0;
                    self.publish("Members", &members(kind, name, full, chunk, gone));
                    gone = &[];
                }
            }
            if let Some(ring) = self.observer.reports().of(kind, name) {
                // What was reported also has what came and went between two looks.
                let reported = self.reported.entry(key.clone()).or_default();
                let (found, dropped, count) = ring.since(*reported);
                *reported = count;
                tell_reported(&mut stories, name, found, dropped);
            } else {
                tell(&mut stories, name, &changes.fates, now);
            }
            seen.insert(key, roll);
        }
        self.rolls = seen;
        stories.sort_by_key(|story| story["t"].as_u64());
        if !stories.is_empty() {
            self.publish("Events", &json!(stories));
            self.events.extend(stories);
            let surplus = self.events.len().saturating_sub(EVENTS);
            self.events.drain(..surplus);
        }
    }

    /// Sends connections, and dead events if they are others than before or `only_changes` is not set.
    fn details(&mut self, only_changes: bool) {
        for Named { name, source, .. } in self.observer.sources() {
            let Some((agents, total)) = source.connected(MAX_AGENTS) else {
                continue;
            };
            let agents = agents.into_iter().map(|it| {
                let rtt = it.rtt.map(|rtt| rtt.as_secs_f64() * 1e3);
                json!([
                    it.id,
                    it.peer,
                    it.transport,
                    rtt,
                    it.quiet.as_secs(),
                    it.queued
                ])
            });
            let agents: Vec<_> = agents.collect();
            let found = json!({ "name": *name, "total": total, "agents": agents });
            self.publish("Agents", &found);
        }
        #[cfg(feature = "dispatch")]
        for shown in self.observer.topics() {
            // A store that does not answer is seen in the numbers.
            let Ok(found) = shown.dead.list(MAX_DEAD) else {
                continue;
            };
            let events = found.into_iter().map(|it| {
                json!({ "id": it.id, "died": it.died, "attempts": it.attempts, "error": it.error })
            });
            let events = Value::Array(events.collect());
            let found = json!({
                "dispatcher": *shown.dispatcher,
                "topic": *shown.topic,
                "events": events,
            });
            let key = (shown.dispatcher, shown.topic);
            if !only_changes || self.dead.get(&key) != Some(&events) {
                self.dead.insert(key, events);
                self.publish("Dead", &found);
            }
        }
        #[cfg(not(feature = "dispatch"))]
        let _ = only_changes;
    }

    /// Sends a message to all pages that are up to date.
    fn publish(&self, name: &str, body: &Value) {
        // Every value has an encoding.
        let _ = self.server.publish(ROOM, name, body);
    }
}

/// Returns `members` in parts, at least one.
fn chunks(members: &[Member]) -> Vec<&[Member]> {
    if members.is_empty() {
        return vec![&[]];
    }
    members.chunks(CHUNK).collect()
}

/// Returns a message about members.
fn members(kind: &str, name: &str, full: bool, set: &[Member], gone: &[String]) -> Value {
    let set = set.iter();
    let set: Vec<_> = set
        .map(|it| json!([it.label, it.state as u8, it.since]))
        .collect();
    json!({ "kind": kind, "name": name, "full": full, "set": set, "gone": gone })
}

/// Adds what was reported of members of the part `name` to `stories`, and that as many as `dropped` are missing.
fn tell_reported(stories: &mut Vec<Value>, name: &str, found: Vec<Story>, dropped: u64) {
    if let (Some(first), 1..) = (found.first(), dropped) {
        let what = format!("{dropped} earlier changes in {name} are not shown");
        stories.push(
            json!({ "t": first.at, "part": name, "label": "", "what": what, "state": State::Left as u8 }),
        );
    }
    stories.extend(found.into_iter().map(|it| {
        json!({ "t": it.at, "part": name, "label": it.label, "what": it.what, "state": it.state as u8 })
    }));
}

/// Adds what became of members of the part `name` to `stories`.
fn tell(stories: &mut Vec<Value>, name: &str, fates: &[(String, Fate)], now: u64) {
    for (label, fate) in fates.iter().take(EVENTS_A_LOOK) {
        let (state, what) = match fate {
            Fate::Joined => (State::Up, "is new"),
            Fate::Gone => (State::Left, "is no longer there"),
            Fate::Now(State::Up) => (State::Up, "is up"),
            Fate::Now(State::Joining) => (State::Joining, "is joining"),
            Fate::Now(State::Suspect) => (State::Suspect, "is suspect"),
            Fate::Now(State::Drained) => (State::Drained, "gets no new work"),
            Fate::Now(State::Down) => (State::Down, "is down"),
            Fate::Now(State::Left) => (State::Left, "has left"),
        };
        let state = state as u8;
        stories
            .push(json!({ "t": now, "part": name, "label": label, "what": what, "state": state }));
    }
    if let Some(more) = fates.len().checked_sub(EVENTS_A_LOOK + 1) {
        let what = format!("and {} more in {name} have changed", more + 1);
        stories.push(json!({ "t": now, "part": name, "label": "", "what": what, "state": 5 }));
    }
}
