//! `liveness::redis`.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use liveness::dispatch::{Emit, On, Topic};
use liveness::redis::Dispatcher;
use peers::Failure;

use crate::ledger::{Ledger, now_micros};
use crate::parent;
use crate::task::{Answer, Role, Task, delay, gap, payload};

/// The events.
const EVENT: Topic<String> = Topic::new(crate::task::TOPIC);

/// How many events are emitted before the measurement.
const WARM_UP: u64 = 100;

/// How many events may wait: more than any measurement needs.
const MOST: usize = 10_000_000;

/// How long a worker may take to stop.
const STOP: Duration = Duration::from_secs(5);

/// Is the child process of `task`.
pub(crate) fn run(task: &Task) -> Result<(), Failure> {
    match task.role {
        Role::Work => work(task),
        _ => emit(task),
    }
}

/// Emits.
fn emit(task: &Task) -> Result<(), Failure> {
    let dispatcher = Dispatcher::builder(&task.url())
        .threads(1)
        .max_unfinished(MOST)
        .build()?;
    if task.role == Role::Emit {
        for number in 0..WARM_UP {
            dispatcher.emit(&EVENT, payload(number, 0))?;
        }
    }
    parent::ready()?;
    let began = Instant::now();
    let mut answer = Answer::default();
    match task.role {
        Role::Emit => {
            answer = emit_for(task, &dispatcher)?;
            answer.count += WARM_UP;
        }
        Role::EmitMany => {
            for first in (0..task.count).step_by(task.batch as usize) {
                let numbers = first..(first + task.batch).min(task.count);
                let events = numbers.map(|number| payload(number, 0));
                answer.count += dispatcher.emit_many(&EVENT, events)?.len() as u64;
            }
        }
        Role::Delay => {
            for number in 0..task.count {
                let due = now_micros() + delay(number, task.count, task.millis);
                let at = UNIX_EPOCH + Duration::from_micros(due);
                dispatcher.emit_with(&EVENT, payload(number, due), Emit::at(at))?;
                answer.count += 1;
            }
        }
        Role::Pace => {
            for number in 0..task.count {
                thread::sleep(Duration::from_micros(gap(
                    number,
                    task.millis * 1_000 / task.count,
                )));
                dispatcher.emit(&EVENT, payload(number, now_micros()))?;
                answer.count += 1;
            }
        }
        Role::Work => {}
    }
    answer.seconds = began.elapsed().as_secs_f64();
    parent::answer(&answer)?;
    parent::until_end()?;
    let _ = dispatcher.stop(STOP);
    Ok(())
}

/// Emits one event a call until the time is over.
fn emit_for(task: &Task, dispatcher: &Dispatcher) -> Result<Answer, Failure> {
    let end = Instant::now() + Duration::from_millis(task.millis);
    let is_timed = task.at_once == 1;
    let emit = |at: u64| {
        let mut answer = Answer::default();
        loop {
            let began = Instant::now();
            if began >= end {
                return Ok::<_, Failure>(answer);
            }
            let number = at * 10_000_000 + answer.count;
            dispatcher.emit(&EVENT, payload(number, 0))?;
            answer.count += 1;
            if is_timed {
                answer.micros.push(began.elapsed().as_secs_f64() * 1e6);
            }
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..task.at_once as u64)
            .map(|at| scope.spawn(move || emit(at)))
            .collect();
        let mut all = Answer::default();
        for thread in threads {
            let answer = thread.join().expect("no thread panics")?;
            all.count += answer.count;
            all.micros.extend(answer.micros);
        }
        Ok(all)
    })
}

/// Handles events.
fn work(task: &Task) -> Result<(), Failure> {
    let ledger = Arc::new(Ledger::new(task));
    let noted = ledger.clone();
    let dispatcher = Dispatcher::builder(&task.url())
        .threads(task.at_once)
        .build()?;
    parent::ready()?;
    let began = Instant::now();
    dispatcher.on(&EVENT, "note", On::new(), move |_, event: &String| {
        noted.note(event);
        Ok(())
    })?;
    parent::answer(&ledger.wait(began))?;
    parent::until_end()?;
    let _ = dispatcher.stop(STOP);
    Ok(())
}
