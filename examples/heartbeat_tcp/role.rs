//! What the copies of the program do. Each prints its events, and runs until its standard input ends.

use std::io::{self, Read};
use std::sync::OnceLock;
use std::time::Duration;

use liveness::client::{Client, LinkError, State};
use liveness::server::{Agent, Closed, Json, Keepalive, Server, Shutdown};

use crate::story::Failure;

/// The silence after which a client pings the server, and pings it again.
pub(crate) const PING_AFTER: Duration = Duration::from_millis(400);

/// How many pings in a row have no answer when a client judges the server to be offline.
const PINGS: u32 = 4;

/// The silence after which a client judges the server to be offline.
pub(crate) const SERVER_OFFLINE: Duration = Duration::from_secs(2);

/// The silence after which the server judges a client to be offline.
pub(crate) const CLIENT_OFFLINE: Duration = Duration::from_secs(3);

/// How long a copy takes to end at most.
const END: Duration = Duration::from_secs(5);

/// A role, as it is given on the command line of a copy.
#[derive(Debug)]
pub(crate) enum Role {
    /// A server that listens on the address.
    Server(String),
    /// A client with a name, of the server at an address.
    Client(String, String),
}

impl Role {
    /// Reads the words of a command line.
    pub(crate) fn parse(words: &[String]) -> Option<Self> {
        match words {
            [kind, address] if kind == "server" => Some(Role::Server(address.clone())),
            [kind, name, address] if kind == "client" => {
                Some(Role::Client(name.clone(), address.clone()))
            }
            _ => None,
        }
    }

    /// Returns the words of a command line.
    pub(crate) fn words(&self) -> Vec<&str> {
        match self {
            Role::Server(address) => vec!["server", address],
            Role::Client(name, address) => vec!["client", name, address],
        }
    }

    /// Runs until the standard input ends, which it also does with the process that has started this one.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        match self {
            Role::Server(address) => serve(address),
            Role::Client(name, address) => beat(name, address),
        }
    }
}

/// Is the server. It learns the name of a client from the client's greeting.
fn serve(address: &str) -> Result<(), Failure> {
    let server = Server::<Json, OnceLock<String>>::builder()
        .tcp(address)
        .keepalive(Keepalive::new(CLIENT_OFFLINE / 2, CLIENT_OFFLINE))
        .on(
            "Hello",
            |agent: &Agent<_, OnceLock<String>>, name: String| {
                println!("joined {name}");
                agent.data().set(name)
            },
        )
        .closed(|agent, closed| {
            let name = agent.data().get().map_or("a stranger", String::as_str);
            println!("gone {name} {}", ending(closed));
        })
        .start()?;
    println!("listens {}", server.local_addrs()[0]);
    wait_for_end()?;
    let report = server.shutdown(Shutdown::within(END));
    let stats = server.stats();
    if !report.still_running.is_empty() || !stats.is_balanced() || stats.open != 0 {
        return Err(format!("{report:?} {stats:?}").into());
    }
    println!("balanced");
    Ok(())
}

/// Is a client.
fn beat(name: &str, address: &str) -> Result<(), Failure> {
    let hello = name.to_owned();
    let client = Client::<Json>::builder(format!("tcp://{address}"))
        .unanswered(PING_AFTER, PINGS)
        .retry(Duration::from_millis(50), Duration::from_millis(400))
        .greet(move |greeting| {
            greeting.send("Hello", &hello);
        })
        .state(|_, state| match state {
            State::Online { .. } => println!("online"),
            State::Offline { failures, error } => match error {
                LinkError::Ended(closed) => println!("offline {failures} {}", ending(closed)),
                _ => println!("offline {failures} Unreachable"),
            },
            _ => (),
        })
        .start()?;
    wait_for_end()?;
    let is_closed = client.close_timeout(END);
    let stats = client.stats();
    if !is_closed || !stats.is_balanced() {
        return Err(format!("{is_closed} {stats:?}").into());
    }
    println!("balanced");
    Ok(())
}

/// Returns the cause of an end, the silence before it and its lateness in nanoseconds.
fn ending(closed: &Closed) -> String {
    let (silent, late) = (closed.silent.as_nanos(), closed.late.as_nanos());
    format!("{:?} {silent} {late}", closed.cause)
}

/// Waits until the standard input ends.
fn wait_for_end() -> io::Result<usize> {
    io::stdin().read(&mut [0])
}
