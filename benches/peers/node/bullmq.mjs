// BullMQ on Node.js as a child process of `--bin durable`. Its only argument is the task, as JSON (src/bin/durable/task.rs).
// Lines of the standard output: `ready`, then the answer; of the standard input: begin, then end.

import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { Queue, Worker } from 'bullmq';
import Redis from 'ioredis';

const TOPIC = 'bench';
const PAYLOAD = 100;
const WARM_UP = 100;
const STALL_MS = 40_000;

const task = JSON.parse(process.argv[2]);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Connections of their own for queue and worker, as BullMQ recommends; a blocking call may not have a limit of retries. */
const connect = () => new Redis({ path: task.socket, maxRetriesPerRequest: null });

/**
 * The offset between the steady clock and the time since 1970, in microseconds. It is taken at ticks of the latter: at the one
 * that was seen soonest, as this process may be interrupted between the two readings.
 */
const OFFSET = (() => {
  const offset = () => {
    const before = Date.now();
    let now = before;
    while (now === before) now = Date.now();
    return now * 1e3 - Number(process.hrtime.bigint()) / 1e3;
  };
  return Math.max(...Array.from({ length: 20 }, offset));
})();

/** The time in microseconds since 1970. */
const nowMicros = () => Math.round(OFFSET + Number(process.hrtime.bigint()) / 1e3);

/** The time in seconds since an arbitrary one. */
const nowSeconds = () => Number(process.hrtime.bigint()) / 1e9;

const PADDING = 'x'.repeat(PAYLOAD - 30);
const payload = (number, due) =>
  String(number).padStart(10, '0') + String(due).padStart(20, '0') + PADDING;

// The same instants as in task.rs.
const PRIME = 7919;
const delayMillis = (number) => {
  const place = (number * PRIME) % task.count;
  return 1000 + Math.floor((task.millis * place) / task.count);
};
const gapMillis = (number) => {
  const mean = task.millis / task.count;
  return mean / 2 + (mean * ((number * PRIME) % 1000)) / 1000;
};

const say = (line) => process.stdout.write(`${line}\n`);
const ready = async () => {
  say('ready');
  await lines.next();
};

async function emit() {
  const queue = new Queue(TOPIC, { connection: connect() });
  await queue.waitUntilReady();
  if (task.role === 'emit') {
    for (let number = 0; number < WARM_UP; number++) await queue.add('event', payload(number, 0));
  }
  await ready();
  const answer = { count: 0, seconds: 0, micros: [] };
  const began = nowSeconds();
  switch (task.role) {
    case 'emit': {
      const end = began + task.millis / 1e3;
      const isTimed = task.at_once === 1;
      const one = async (at) => {
        for (let number = at * 10_000_000; ; number++) {
          const called = nowSeconds();
          if (called >= end) return;
          await queue.add('event', payload(number, 0));
          answer.count++;
          if (isTimed) answer.micros.push((nowSeconds() - called) * 1e6);
        }
      };
      await Promise.all(Array.from({ length: task.at_once }, (_, at) => one(at)));
      answer.count += WARM_UP;
      break;
    }
    case 'emit_many':
      for (let first = 0; first < task.count; first += task.batch) {
        const last = Math.min(first + task.batch, task.count);
        const jobs = [];
        for (let number = first; number < last; number++) {
          jobs.push({ name: 'event', data: payload(number, 0) });
        }
        answer.count += (await queue.addBulk(jobs)).length;
      }
      break;
    case 'delay':
      for (let number = 0; number < task.count; number++) {
        // The job is due by the clock of the client, in whole milliseconds.
        const [timestamp, delay] = [Date.now(), delayMillis(number)];
        const data = payload(number, (timestamp + delay) * 1000);
        await queue.add('event', data, { timestamp, delay });
        answer.count++;
      }
      break;
    case 'pace':
      for (let number = 0; number < task.count; number++) {
        await sleep(gapMillis(number));
        await queue.add('event', payload(number, nowMicros()));
        answer.count++;
      }
      break;
  }
  answer.seconds = nowSeconds() - began;
  say(JSON.stringify(answer));
  await lines.next();
  await queue.close();
}

async function work() {
  const seen = new Uint8Array(task.count);
  const answer = { count: 0, repeated: 0, seconds: 0, micros: [] };
  let began = 0;
  let progress = Date.now();
  let finish;
  const finished = new Promise((resolve) => (finish = resolve));
  const handler = async (job) => {
    const number = Number(job.data.slice(0, 10));
    const due = Number(job.data.slice(10, 30));
    if (due > 0) answer.micros.push(nowMicros() - due);
    if (seen[number]) {
      answer.repeated++;
      return;
    }
    seen[number] = 1;
    answer.count++;
    if (answer.count === task.count) {
      answer.seconds = nowSeconds() - began;
      finish();
    }
  };
  const worker = new Worker(TOPIC, handler, {
    connection: connect(),
    concurrency: task.at_once,
    removeOnComplete: { count: 0 },
    autorun: false,
  });
  await worker.waitUntilReady();
  await ready();
  began = nowSeconds();
  const running = worker.run();
  if (task.count === 0) finish();
  let before = 0;
  const watch = setInterval(() => {
    if (answer.count !== before) {
      before = answer.count;
      progress = Date.now();
    } else if (Date.now() - progress > STALL_MS) {
      answer.seconds = nowSeconds() - began;
      finish();
    }
  }, 1000);
  await finished;
  clearInterval(watch);
  say(JSON.stringify(answer));
  await lines.next();
  await worker.close();
  await running;
}

await (task.role === 'work' ? work() : emit());
process.exit(0);
