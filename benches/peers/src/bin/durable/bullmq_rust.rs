//! `bullmq-official`, the Rust port of `BullMQ`, on tokio.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bullmq::options::RedisConnectionOptions;
use bullmq::types::RemoveOnFinish;
use bullmq::{BulkJob, Job, Queue, QueueOptions, Worker, WorkerOptions};
use peers::Failure;

use crate::ledger::{Ledger, now_micros};
use crate::parent;
use crate::task::{Answer, Role, TOPIC, Task, delay, gap, payload};

/// How many events are emitted before the measurement.
const WARM_UP: u64 = 100;

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
    let options = QueueOptions::new().connection(connection(task));
    let queue = Arc::new(Queue::with_options(TOPIC, options).await?);
    if task.role == Role::Emit {
        for number in 0..WARM_UP {
            queue.add("event", payload(number, 0)).await?;
        }
    }
    parent::ready()?;
    let began = Instant::now();
    let mut answer = Answer::default();
    match task.role {
        Role::Emit => {
            answer = emit_for(task, &queue).await?;
            answer.count += WARM_UP;
        }
        Role::EmitMany => {
            for first in (0..task.count).step_by(task.batch as usize) {
                let numbers = first..(first + task.batch).min(task.count);
                let jobs = numbers.map(|number| BulkJob::new("event", payload(number, 0)));
                answer.count += queue.add_bulk(jobs.collect()).await?.len() as u64;
            }
        }
        Role::Delay => {
            for number in 0..task.count {
                let delay = delay(number, task.count, task.millis);
                // The job is due by the clock of the client, in whole milliseconds.
                let due = now_micros() / 1_000 * 1_000 + delay;
                let add = queue.add("event", payload(number, due));
                add.delay(Duration::from_micros(delay)).await?;
                answer.count += 1;
            }
        }
        Role::Pace => {
            for number in 0..task.count {
                let gap = gap(number, task.millis * 1_000 / task.count);
                tokio::time::sleep(Duration::from_micros(gap)).await;
                queue.add("event", payload(number, now_micros())).await?;
                answer.count += 1;
            }
        }
        Role::Work => {}
    }
    answer.seconds = began.elapsed().as_secs_f64();
    parent::answer(&answer)?;
    parent::until_end()
}

/// Emits one event a call until the time is over.
async fn emit_for(task: &Task, queue: &Arc<Queue>) -> Result<Answer, Failure> {
    let end = Instant::now() + Duration::from_millis(task.millis);
    let is_timed = task.at_once == 1;
    let tasks = (0..task.at_once as u64).map(|at| {
        let queue = queue.clone();
        tokio::spawn(async move {
            let mut answer = Answer::default();
            loop {
                let began = Instant::now();
                if began >= end {
                    return Ok::<_, Failure>(answer);
                }
                let number = at * 10_000_000 + answer.count;
                queue.add("event", payload(number, 0)).await?;
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
    let handler = move |job: Job, _| {
        noted.note(job.data().as_str().unwrap_or_default());
        async { Ok(serde_json::Value::Null) }
    };
    let options = WorkerOptions::new()
        .connection(connection(task))
        .concurrency(task.at_once)
        .remove_on_complete(RemoveOnFinish::Bool(true))
        .autorun(false);
    let worker = Worker::with_options(TOPIC, handler, options).await?;
    parent::ready()?;
    let began = Instant::now();
    worker.run().await?;
    // The runtime's threads go on while this one waits.
    parent::answer(&tokio::task::block_in_place(|| ledger.wait(began)))?;
    tokio::task::block_in_place(parent::until_end)?;
    worker.close(5_000).await?;
    Ok(())
}

/// Where the server is.
fn connection(task: &Task) -> RedisConnectionOptions {
    RedisConnectionOptions::new().url(task.url())
}
