//! A chat with rooms, and its page. Everything that the people share belongs to one thread, a `Group`; their messages
//! run there, so no lock is needed.
//!
//! ```text
//! cargo run --release --features server,json --example chat
//! ```
//!
//! Then open <http://127.0.0.1:7010> in two tabs. `world.rs` is what happens in the chat, and `page.html` is what a
//! browser shows.

mod world;

use std::error::Error;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use lexopt::prelude::{Long, ValueExt};
use liveness::server::{Group, Json, Keepalive, Ping, Rate, Response, Server};
use world::World;

/// Any error.
type Failure = Box<dyn Error + Send + Sync>;

/// The output of `--help`.
const HELP: &str = "\
Serves a chat with rooms to browsers, and to programs that speak JSON over WebSocket or TCP.

Usage: chat [--address ADDRESS] [--tcp ADDRESS] [--keepalive PING,DROP]

    --address ADDRESS        where the page and WebSocket (at /chat) are [default: 127.0.0.1:7010]
    --tcp ADDRESS            listen for TCP as well: a length in two bytes precedes each message
    --keepalive PING,DROP    after how many seconds of silence a peer is pinged and dropped [default: 15,30]
    --help                   print this help
";

/// The page.
const PAGE: &str = include_str!("page.html");

/// What the arguments say.
struct Arguments {
    /// The address of the page and of WebSocket.
    address: String,
    /// The address of TCP.
    tcp: Option<String>,
    /// After how much silence a peer is pinged and dropped.
    keepalive: [Duration; 2],
}

/// Parses the arguments. Returns `None` if help is asked for.
fn parse() -> Result<Option<Arguments>, lexopt::Error> {
    let mut arguments = Arguments {
        address: "127.0.0.1:7010".to_owned(),
        tcp: None,
        keepalive: [15, 30].map(Duration::from_secs),
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("address") => arguments.address = parser.value()?.string()?,
            Long("tcp") => arguments.tcp = Some(parser.value()?.string()?),
            Long("keepalive") => {
                arguments.keepalive = parser.value()?.parse_with(|text| {
                    let (ping, drop) = text.split_once(',').ok_or("two numbers are needed")?;
                    let seconds = |text: &str| {
                        let seconds = text.parse().ok().map(Duration::try_from_secs_f64);
                        seconds
                            .and_then(Result::ok)
                            .ok_or("not a number of seconds")
                    };
                    Ok::<_, &str>([seconds(ping)?, seconds(drop)?])
                })?;
            }
            Long("help") => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(arguments))
}

/// Serves until the process is ended.
fn serve(arguments: Arguments) -> Result<(), Failure> {
    let Arguments {
        address,
        tcp,
        keepalive: [ping, drop],
    } = arguments;
    let world = Group::builder("world").spawn(World::default())?;
    let routes = world::routes(&world)?;
    world.every(Duration::from_secs(60), World::forget_rooms)?;

    let mut server = Server::<Json, ()>::builder()
        .websocket(address)
        .path("/chat")
        .get("/", |_| Response::new("text/html; charset=utf-8", PAGE))
        // Answered by the page's script, so a page that hangs is silent. A browser answers control pings by itself.
        .keepalive(Keepalive::new(ping, drop).ping(Ping::Message))
        .max_message(8 << 10)
        .rate(Rate::new(10).burst(40))
        // From its first message on, an agent belongs to the world.
        .opened(move |agent| agent.delegate(&routes))
        .closed(|agent, closed| println!("agent {}: {closed}", agent.id()))
        .on_stall(|blocked| println!("{blocked}"));
    if let Some(tcp) = tcp {
        server = server.tcp(tcp);
    }
    let server = server.start()?;
    println!("the page is at http://{}", server.local_addrs()[0]);
    loop {
        thread::park();
    }
}

fn main() -> ExitCode {
    match parse() {
        Ok(None) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(Some(arguments)) => match serve(arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            eprintln!("error: {error}; see `--help`");
            ExitCode::from(2)
        }
    }
}
