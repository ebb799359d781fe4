//! A server and its clients in processes of their own, some of which are killed or stopped.
//!
//! ```text
//! cargo run --release --features client,json --example heartbeat_tcp
//! ```

mod copy;
mod role;
mod story;

use std::ffi::OsString;
use std::process::ExitCode;

use lexopt::prelude::{Long, ValueExt};

use crate::role::Role;
use crate::story::Story;

/// What `--help` prints.
const HELP: &str = "\
Starts a server and three clients on TCP, all of them copies of this program. The clients ping the server after 400 ms of
silence, and judge it to be offline when four pings in a row have no answer: 2 s after its last byte. The server judges a
client to be offline 3 s after the client's last byte. Then

  1. a client is killed (SIGKILL): the server notices the end of its connection at once;
  2. a client is stopped (SIGSTOP): the server drops it after 3 s of silence. It is continued, and connects again;
  3. the server is killed, and restarted a second later: the clients notice it at once, and connect again;
  4. the server is stopped: each client drops it after 2 s of silence. It is killed and restarted, and the clients connect
     again;
  5. the clients and the server end by themselves, with accounts that balance.

Each event is compared with this story. A verdict on a silent peer must not come early, and not more than a second late.
Takes about 10 seconds.

Usage: heartbeat_tcp [--help]

Exit code: 0 if all of that holds, 1 if not, 2 if an argument is wrong.
";

/// What this process does.
enum Task {
    /// Prints the help.
    Help,
    /// Starts the copies, and checks what they say.
    Story,
    /// Is a copy.
    Copy(Role),
}

fn main() -> ExitCode {
    let done = match parse() {
        Ok(Task::Help) => {
            print!("{HELP}");
            Ok(())
        }
        Ok(Task::Story) => Story::default().tell(),
        Ok(Task::Copy(role)) => role.run(),
        Err(error) => {
            eprintln!("{error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the arguments.
fn parse() -> Result<Task, lexopt::Error> {
    let mut task = Task::Story;
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("role") => {
                let words: Result<Vec<String>, _> =
                    parser.values()?.map(OsString::string).collect();
                task = Task::Copy(Role::parse(&words?).ok_or("unknown role")?);
            }
            Long("help") => return Ok(Task::Help),
            other => return Err(other.unexpected()),
        }
    }
    Ok(task)
}
