//! A watch that seven processes share, while some of them are killed and the server is restarted.
//!
//! ```text
//! cargo run --release --features redis --example shared_watch
//! ```

mod ledger;
#[expect(
    dead_code,
    unreachable_pub,
    reason = "tests have this file as a module, too"
)]
#[path = "../../tests/support/redis_server.rs"]
mod redis_server;
mod role;
#[path = "../durable_jobs/start.rs"]
mod start;
mod story;

use std::process::ExitCode;

/// What `--help` prints.
const HELP: &str = "\
Watches 10,000 keys on a Redis server by three keeper processes, while two other processes beat the keys, all of them
copies of this program. Then

  1. one of the beating processes is killed (SIGKILL): its 5,000 keys fall silent;
  2. one of the keepers is killed while it holds reports of them: the others take these over;
  3. the server is killed, and restarted after longer than the timeout: nobody may be reported for that;
  4. the other beating process is killed, and its 5,000 keys are reported, too.

Each keeper writes each report into a file before it acknowledges it. At the end the file must hold each dead key once,
none too early, and none that lived. Takes about 20 seconds.

Usage: shared_watch [--redis URL] [--help]

  --redis URL   Use this server, such as redis://127.0.0.1/, and leave out step 3. Without it, a private server is
                started in a temporary folder.

Exit code: 0 if all of that holds, 1 if not, 2 if an argument is wrong or there is no server.
";

fn main() -> ExitCode {
    start::run(HELP)
}
