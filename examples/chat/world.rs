//! Who is where, and what was said.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use liveness::OptionError;
use liveness::server::{Agent, AgentId, Cause, Closed, Fault, Group, Json, Routes};
use serde::{Deserialize, Serialize};

/// The handle to a connection.
type Peer = Agent<Json, ()>;

/// The room that always exists.
const LOUNGE: &str = "lounge";

/// The most lines of a room that those who come later see.
const MAX_LINES: usize = 100;

/// The most rooms.
const MAX_ROOMS: usize = 50;

/// The most characters of a name.
const MAX_NAME: usize = 24;

/// The most characters of a line.
const MAX_TEXT: usize = 1_000;

/// How long an empty room is kept.
const KEEP_ROOM: Duration = Duration::from_secs(600);

/// The code with which a connection is closed that another one of the same person replaces.
const REPLACED: u16 = 4_000;

/// What the group owns.
#[derive(Default)]
pub(crate) struct World {
    /// The people by their connections.
    people: HashMap<AgentId, Person>,
    /// The rooms by name.
    rooms: BTreeMap<String, Room>,
}

/// Somebody who has entered.
struct Person {
    /// The name.
    name: String,
    /// What proves that another connection is of the same person.
    key: String,
    /// The room.
    room: String,
    /// The connection.
    agent: Peer,
}

/// A room.
struct Room {
    /// What was said, the oldest first.
    lines: VecDeque<Line>,
    /// When somebody was last there.
    used: Instant,
}

/// A line.
#[derive(Clone, Serialize)]
struct Line {
    /// Who said it. Nobody says notes.
    from: Option<String>,
    /// What was said.
    text: String,
    /// When, in milliseconds since 1970.
    at: u64,
}

/// The body of `Enter`.
#[derive(Deserialize)]
struct Enter {
    name: String,
    room: String,
    key: String,
}

/// The answer to `Enter` and `Go`: the room as it is.
#[derive(Serialize)]
struct View {
    room: String,
    lines: Vec<Line>,
    people: Vec<String>,
    rooms: Vec<(String, usize)>,
}

/// The routes of the world.
pub(crate) fn routes(world: &Group<World>) -> Result<Routes<Json, (), World>, OptionError> {
    Routes::builder(world)
        .on_request("Enter", World::enter)
        .on_request("Go", |world, agent, room: String| world.go(agent, &room))
        .on_request("Say", World::say)
        .closed(World::closed)
        .build()
}

/// A name without spaces around it, if it is one.
fn name(text: &str, what: &str) -> Result<String, Fault> {
    let text = text.trim();
    let is_name =
        (1..=MAX_NAME).contains(&text.chars().count()) && !text.contains(char::is_control);
    is_name.then(|| text.to_owned()).ok_or_else(|| {
        Fault::new(
            400,
            format!("{what} must have from 1 to {MAX_NAME} characters"),
        )
    })
}

impl World {
    /// Somebody enters.
    fn enter(&mut self, agent: &Peer, body: Enter) -> Result<View, Fault> {
        if self.people.contains_key(&agent.id()) {
            return Err(Fault::new(409, "you have entered already"));
        }
        let name = name(&body.name, "a name")?;
        let same = |person: &&Person| person.name.to_lowercase() == name.to_lowercase();
        if let Some(before) = self.people.values().find(same) {
            if before.key != body.key {
                return Err(Fault::new(
                    409,
                    format!("somebody is called {name} already"),
                ));
            }
            // The old connection may be dead without knowing it.
            before
                .agent
                .close(REPLACED, "you have come back on another connection");
            let id = before.agent.id();
            self.leave(id, "came back");
        }
        let person = Person {
            name,
            key: body.key,
            room: String::new(),
            agent: agent.clone(),
        };
        self.people.insert(agent.id(), person);
        let entered = self.go(agent, &body.room);
        if entered.is_err() {
            self.people.remove(&agent.id());
        }
        entered
    }

    /// Somebody goes to another room, which is made if there is none.
    fn go(&mut self, agent: &Peer, room: &str) -> Result<View, Fault> {
        let room = name(room, "a room")?;
        if !self.people.contains_key(&agent.id()) {
            return Err(Fault::new(401, "enter first"));
        }
        if !self.rooms.contains_key(&room) && self.rooms.len() >= MAX_ROOMS {
            return Err(Fault::new(429, "there are too many rooms"));
        }
        self.depart(agent.id(), "left the room");
        let person = self.people.get_mut(&agent.id());
        let person = person.ok_or_else(|| Fault::new(401, "enter first"))?;
        person.room.clone_from(&room);
        let came = format!("{} came", person.name);
        println!("agent {}: {came} to {room}", agent.id());
        agent.join(&room);
        self.add(agent, &room, None, came);
        self.show_people(agent, &room);
        Ok(View {
            lines: self.rooms[&room].lines.iter().cloned().collect(),
            people: self.people_in(&room),
            rooms: self.count_rooms(),
            room,
        })
    }

    /// Somebody says something.
    fn say(&mut self, agent: &Peer, text: String) -> Result<(), Fault> {
        let person = self.people.get(&agent.id());
        let person = person.ok_or_else(|| Fault::new(401, "enter first"))?;
        if !(1..=MAX_TEXT).contains(&text.chars().count()) {
            let why = format!("a line must have from 1 to {MAX_TEXT} characters");
            return Err(Fault::new(400, why));
        }
        let (from, room) = (person.name.clone(), person.room.clone());
        self.add(agent, &room, Some(from), text);
        Ok(())
    }

    /// A connection has ended.
    fn closed(&mut self, agent: &Peer, closed: &Closed) {
        let how = match closed.cause {
            Cause::Silence => "fell silent",
            Cause::Shutdown => "was sent home",
            _ => "left",
        };
        self.leave(agent.id(), how);
    }

    /// Removes a person.
    fn leave(&mut self, id: AgentId, how: &str) {
        self.depart(id, how);
        self.people.remove(&id);
    }

    /// Takes a person out of the room.
    fn depart(&mut self, id: AgentId, how: &str) {
        let Some(person) = self.people.get_mut(&id).filter(|it| !it.room.is_empty()) else {
            return;
        };
        let (agent, room) = (person.agent.clone(), std::mem::take(&mut person.room));
        let note = format!("{} {how}", person.name);
        println!("agent {id}: {note}");
        agent.leave(&room);
        self.add(&agent, &room, None, note);
        self.show_people(&agent, &room);
    }

    /// Adds a line to a room, and shows it to those who are there. Any agent of the server can publish.
    fn add(&mut self, by: &Peer, room: &str, from: Option<String>, text: String) {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        let line = Line {
            from,
            text,
            at: since_1970.map_or(0, |it| it.as_millis() as u64),
        };
        // A line has an encoding.
        let _ = by.publish(room, "Said", &line);
        let room = self.rooms.entry(room.to_owned()).or_insert_with(|| Room {
            lines: VecDeque::new(),
            used: Instant::now(),
        });
        room.used = Instant::now();
        room.lines.push_back(line);
        if room.lines.len() > MAX_LINES {
            room.lines.pop_front();
        }
    }

    /// Shows who is in a room to those who are there, and how many are where to all.
    fn show_people(&self, by: &Peer, room: &str) {
        // Names have an encoding.
        let _ = by.publish(room, "People", &self.people_in(room));
        let _ = by.broadcast("Rooms", &self.count_rooms());
    }

    /// The names of those who are in a room.
    fn people_in(&self, room: &str) -> Vec<String> {
        let people = self.people.values().filter(|person| person.room == room);
        let mut names: Vec<String> = people.map(|person| person.name.clone()).collect();
        names.sort_by_key(|name| name.to_lowercase());
        names
    }

    /// The rooms, and how many people are in each.
    fn count_rooms(&self) -> Vec<(String, usize)> {
        let count = |room: &str| self.people.values().filter(|it| it.room == room).count();
        let others = self.rooms.keys().filter(|room| *room != LOUNGE);
        let names = std::iter::once(LOUNGE).chain(others.map(String::as_str));
        names.map(|room| (room.to_owned(), count(room))).collect()
    }

    /// Forgets rooms that have been empty for long.
    pub(crate) fn forget_rooms(&mut self) {
        let people = &self.people;
        self.rooms.retain(|name, room| {
            let is_empty = !people.values().any(|person| person.room == *name);
            name == LOUNGE || !is_empty || room.used.elapsed() < KEEP_ROOM
        });
    }
}
