//! `apalis` with `apalis-redis`, on tokio.

use std::sync::Arc;
use std::time::{Duration, Instant};

use apalis::layers::WorkerBuilderExt;
use apalis::prelude::{BackendExt, BoxDynError, TaskSink, WorkerBuilder};
use apalis_redis::{Config, RedisStorage};
use peers::Failure;

use crate::ledger::{Ledger, now_micros};
use crate::parent;
use crate::task::{Answer, Role, TOPIC, Task, gap, payload};

/// How many events are emitted before the measurement.
const WARM_UP: u64 = 100;

/// How many events its worker fetches at once: ten times the default, which is faster.
const FETCHED: usize = 100;

/// How often its worker looks for events when it had none. Polling is its only way to find them.
const POLL: Duration = Duration::from_millis(10);

/// Is the child process of `task`.
pub(crate) fn run(task: &Task) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match task.role {
            Role::Work => work(task).await,
            _ => emit(task).await,
        }
    })
}

/// Emits.
async fn emit(task: &Task) -> Result<(), Failure> {
    let mut storage = storage(task).await?;
    if task.role == Role::Emit {
        for number in 0..WARM_UP {
            storage.push(payload(number, 0)).await?;
        }
    }
    parent::ready()?;
    let began = Instant::now();
    let mut answer = Answer::default();
    match task.role {
        Role::Emit => {
            answer = emit_for(task, &storage).await?;
            answer.count += WARM_UP;
        }
        Role::EmitMany => {
            for first in (0..task.count).step_by(task.batch as usize) {
                let numbers = first..(first + task.batch).min(task.count);
                let events: Vec<_> = numbers.map(|number| payload(number, 0)).collect();
                answer.count += events.len() as u64;
                storage.push_bulk(events).await?;
            }
        }
        Role::Pace => {
            for number in 0..task.count {
                let gap = gap(number, task.millis * 1_000 / task.count);
                tokio::time::sleep(Duration::from_micros(gap)).await;
                storage.push(payload(number, now_micros())).await?;
                answer.count += 1;
            }
        }
        Role::Delay | Role::Work => {}
    }
    answer.seconds = began.elapsed().as_secs_f64();
    parent::answer(&answer)?;
    parent::until_end()
}

/// Emits one event a call until the time is over.
async fn emit_for(task: &Task, storage: &RedisStorage<String>) -> Result<Answer, Failure> {
    let end = Instant::now() + Duration::from_millis(task.millis);
    let is_timed = task.at_once == 1;
    let tasks = (0..task.at_once as u64).map(|at| {
        let mut storage = storage.clone();
        tokio::spawn(async move {
            let mut answer = Answer::default();
            loop {
                let began = Instant::now();
                if began >= end {
                    return Ok::<_, Failure>(answer);
                }
                let number = at * 10_000_000 + answer.count;
                storage.push(payload(number, 0)).await?;
                answer.count += 1;
                if is_timed {
                    answer.micros.push(began.elapsed().as_secs_f64() * 1e6);
                }
            }
        })
    });
    let mut all = Answer::default();
    for task in tasks.collect::<Vec<_>>() {
        let answer = task.await??;
        all.count += answer.count;
        all.micros.extend(answer.micros);
    }
    Ok(all)
}

/// Handles events.
async fn work(task: &Task) -> Result<(), Failure> {
    let ledger = Arc::new(Ledger::new(task));
    let noted = ledger.clone();
    let handler = move |event: String| {
        noted.note(&event);
        async { Ok::<(), BoxDynError>(()) }
    };
    let worker = WorkerBuilder::new("worker")
        .backend(storage(task).await?.poll_with_interval(POLL))
        .concurrency(task.at_once)
        .build(handler);
    parent::ready()?;
    let began = Instant::now();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(worker.run_until(async move {
        let _ = stopped.await;
        Ok::<(), std::io::Error>(())
    }));
    // The runtime's threads go on while this one waits.
    parent::answer(&tokio::task::block_in_place(|| ledger.wait(began)))?;
    tokio::task::block_in_place(parent::until_end)?;
    let _ = stop.send(());
    running.await??;
    Ok(())
}

/// Connects.
async fn storage(task: &Task) -> Result<RedisStorage<String>, Failure> {
    let connection = apalis_redis::connect(task.url()).await?;
    let config = Config::default()
        .queue(TOPIC)
        .batch_size(FETCHED)
        .persist_results(false);
    Ok(RedisStorage::new(connection).with_config(config))
}
