//! The least work that each scenario requires, by plain calls.

use std::thread;
use std::time::{Duration, Instant};

use peers::Failure;
use peers::frame::Named;
use redis::{Connection, Script};

use crate::candidate::Candidate;
use crate::ledger::{Ledger, now_micros};
use crate::parent;
use crate::task::{Answer, Role, Task, delay, gap, payload};

/// How many commands are in flight where several are.
const PIPELINE: u64 = 100;

/// Moves up to 200 ids from one sorted set to another.
const MOVE: &str = "\
local found = redis.call('ZRANGE', KEYS[1], 0, 199)
if #found == 0 then return 0 end
local args = {}
for i = 1, #found do
  args[2 * i - 1] = ARGV[1]
  args[2 * i] = found[i]
end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, #found - 1)
redis.call('ZADD', KEYS[2], unpack(args))
return #found";

/// Is the child process of `task`.
pub(crate) fn run(task: &Task) -> Result<(), Failure> {
    let connect = || redis::Client::open(task.url())?.get_connection();
    match (task.candidate, task.role) {
        (Candidate::FloorHashSet, _) => hash_and_set(task, &mut connect()?),
        (Candidate::FloorMove, Role::EmitMany) => fill(task, &mut connect()?),
        (Candidate::FloorMove, _) => move_ids(&mut connect()?),
        (Candidate::FloorSleep, _) => sleep(task),
        (Candidate::FloorPing, _) => ping(task, &mut connect()?),
        (Candidate::FloorPop, Role::Work) => pop(task, &mut connect()?),
        (Candidate::FloorPop, _) => push(task, &mut connect()?),
        (candidate, _) => Err(format!("{} is another program", candidate.name()).into()),
    }
}

/// Stores payloads and due times.
fn hash_and_set(task: &Task, connection: &mut Connection) -> Result<(), Failure> {
    parent::ready()?;
    let began = Instant::now();
    let events = PIPELINE / 2;
    for first in (0..task.count).step_by(events as usize) {
        let mut pipe = redis::pipe();
        for number in first..(first + events).min(task.count) {
            let id = format!("{number:011x}");
            pipe.hset("p", &id, payload(number, 0)).ignore();
            pipe.zadd("q", &id, now_micros()).ignore();
        }
        pipe.exec(connection)?;
    }
    end(task.count, began, Vec::new())
}

/// Fills the sorted set that [`move_ids`] empties.
fn fill(task: &Task, connection: &mut Connection) -> Result<(), Failure> {
    parent::ready()?;
    let began = Instant::now();
    for first in (0..task.count).step_by(task.batch as usize) {
        let numbers = first..(first + task.batch).min(task.count);
        let items: Vec<_> = numbers
            .map(|number| (now_micros(), format!("{number:011x}")))
            .collect();
        redis::Cmd::zadd_multiple("q", &items).exec(connection)?;
    }
    end(task.count, began, Vec::new())
}

/// Moves ids from one sorted set to the other.
fn move_ids(connection: &mut Connection) -> Result<(), Failure> {
    let script = Script::new(MOVE);
    let mut call = script.prepare_invoke();
    call.key("q").key("l").arg(now_micros());
    call.load(connection)?;
    parent::ready()?;
    let began = Instant::now();
    let mut count = 0;
    loop {
        let moved: u64 = call.invoke(connection)?;
        count += moved;
        if moved == 0 {
            return end(count, began, Vec::new());
        }
    }
}

/// Sleeps until the due times of [`Role::Delay`].
fn sleep(task: &Task) -> Result<(), Failure> {
    let ledger = Ledger::new(task);
    parent::ready()?;
    let began = Instant::now();
    let start = now_micros();
    let due = |number| start + delay(number, task.count, task.millis);
    let mut dues: Vec<_> = (0..task.count)
        .map(|number| (due(number), number))
        .collect();
    dues.sort_unstable();
    for (due, number) in dues {
        thread::sleep(Duration::from_micros(due.saturating_sub(now_micros())));
        ledger.note(&payload(number, due));
    }
    parent::answer(&ledger.wait(began))?;
    parent::until_end()
}

/// Makes a round trip at each instant of [`Role::Pace`].
fn ping(task: &Task, connection: &mut Connection) -> Result<(), Failure> {
    parent::ready()?;
    let (began, mut micros) = (Instant::now(), Vec::new());
    for number in 0..task.count {
        wait(task, number);
        let began = Instant::now();
        redis::cmd("PING").exec(connection)?;
        micros.push(began.elapsed().as_secs_f64() * 1e6);
    }
    end(task.count, began, micros)
}

/// Pushes at each instant of [`Role::Pace`].
fn push(task: &Task, connection: &mut Connection) -> Result<(), Failure> {
    parent::ready()?;
    let began = Instant::now();
    for number in 0..task.count {
        wait(task, number);
        redis::Cmd::rpush("w", payload(number, now_micros())).exec(connection)?;
    }
    end(task.count, began, Vec::new())
}

/// Pops what [`push`] pushed.
fn pop(task: &Task, connection: &mut Connection) -> Result<(), Failure> {
    let ledger = Ledger::new(task);
    parent::ready()?;
    let began = Instant::now();
    for _ in 0..task.count {
        let popped: Option<(String, String)> =
            redis::cmd("BLPOP").arg("w").arg(40).query(connection)?;
        let Some((_, payload)) = popped else { break };
        ledger.note(&payload);
    }
    parent::answer(&ledger.wait(began))?;
    parent::until_end()
}

/// Waits until event `number` is to be sent.
fn wait(task: &Task, number: u64) {
    let gap = gap(number, task.millis * 1_000 / task.count);
    thread::sleep(Duration::from_micros(gap));
}

/// Answers, and waits for the end.
fn end(count: u64, began: Instant, micros: Vec<f64>) -> Result<(), Failure> {
    parent::answer(&Answer {
        count,
        repeated: 0,
        seconds: began.elapsed().as_secs_f64(),
        micros,
    })?;
    parent::until_end()
}
