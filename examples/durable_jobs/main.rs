//! Jobs that survive: producers and workers are processes, one worker is killed, one is stopped, and Redis is killed,
//! too.
//!
//! ```text
//! cargo run --release --features redis --example durable_jobs
//! ```

#[expect(unreachable_pub, reason = "tests have this file as a module, too")]
#[path = "../../tests/support/ledger.rs"]
mod ledger;
#[expect(
    dead_code,
    unreachable_pub,
    reason = "tests have this file as a module, too"
)]
#[path = "../../tests/support/redis_server.rs"]
mod redis_server;
mod role;
mod start;
mod story;

use std::process::ExitCode;

/// What `--help` prints.
const HELP: &str = "\
Two processes emit jobs to a Redis server and three others handle them, all of them copies of this program. Then

  1. a worker is killed (SIGKILL) in the middle of a handler: another one handles the event when its lease ends;
  2. a worker is stopped (SIGSTOP) for longer than its lease, and continued: its outcome no longer counts;
  3. the server is killed, and restarted after longer than the lease: a handler that ran through this runs once.

Each producer writes each accepted event into a file, and each worker when it begins and ends one. At the end the file
must hold the end of each accepted event. An event may have begun twice only where its worker was killed or stopped and
its lease was over, and exactly one outcome of each event may have counted. Takes about 20 seconds.

Usage: durable_jobs [--redis URL] [--help]

  --redis URL   Use this server, such as redis://127.0.0.1/, and leave out step 3. Without it, a private server is
                started in a temporary folder.

Exit code: 0 if all of that holds, 1 if not, 2 if an argument is wrong or there is no server.
";

fn main() -> ExitCode {
    start::run(HELP)
}
