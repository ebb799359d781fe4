//! A simulated fleet, and a page that shows it live.
//!
//! ```text
//! cargo run --release --all-features --example dashboard
//! cargo run --release --all-features --example dashboard -- --keys 10000 --address 127.0.0.1:9187
//! ```
//!
//! It prints the address of the page. Keys and nodes fall silent and come back, jobs fail and die, connections open and
//! end. Everything is simulated in this process; what looks at it is real. Prometheus scrapes `/metrics`.

mod fleet;
mod traffic;

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lexopt::prelude::{Long, ValueExt};
use liveness::observe::{Observer, Page};

type Failure = Box<dyn Error + Send + Sync>;

const HELP: &str = "\
Usage: dashboard [options]

  --keys N          keys of the watcher (default: 600)
  --clients N       connections of the server (default: 40)
  --address A       address of the page (default: 127.0.0.1:0, a free port)
  --token T         ask for this token
  --seconds N       end after that time (default: when it is stopped)
  --quiet           let nothing die by itself
  --stdin           take lines such as `down web-007` and `up web-007`, and end with the input
  --read-only       let the page replay and purge nothing
";

/// The options.
struct Options {
    keys: usize,
    clients: usize,
    address: String,
    token: Option<String>,
    seconds: Option<u64>,
    is_quiet: bool,
    has_stdin: bool,
    is_writable: bool,
}

impl Options {
    /// Reads the options, or prints the help.
    fn read() -> Result<Option<Self>, Failure> {
        let mut options = Options {
            keys: 600,
            clients: 40,
            address: "127.0.0.1:0".to_owned(),
            token: None,
            seconds: None,
            is_quiet: false,
            has_stdin: false,
            is_writable: true,
        };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("keys") => options.keys = arguments.value()?.parse()?,
                Long("clients") => options.clients = arguments.value()?.parse()?,
                Long("address") => options.address = arguments.value()?.parse()?,
                Long("token") => options.token = Some(arguments.value()?.parse()?),
                Long("seconds") => options.seconds = Some(arguments.value()?.parse()?),
                Long("quiet") => options.is_quiet = true,
                Long("stdin") => options.has_stdin = true,
                Long("read-only") => options.is_writable = false,
                Long("help") => {
                    print!("{HELP}");
                    return Ok(None);
                }
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(Some(options))
    }
}

fn main() -> Result<(), Failure> {
    let Some(options) = Options::read()? else {
        return Ok(());
    };
    let observer = Observer::new();
    let fleet = Arc::new(fleet::Fleet::start(
        &observer,
        options.keys,
        options.is_quiet,
    )?);
    let _nodes = fleet::Nodes::start(&observer, options.is_quiet)?;
    let _jobs = traffic::Jobs::start(&observer)?;
    let _server = traffic::Connections::start(&observer, options.clients)?;

    let mut page = Page::builder(&observer)
        .title("dashboard")
        .address(&options.address)
        .writable(options.is_writable);
    if let Some(token) = &options.token {
        page = page.token(token);
    }
    let page = page.start()?;
    let query = options.token.map(|token| format!("?token={token}"));
    println!("look at {}{}", page.url(), query.unwrap_or_default());
    println!("metrics at {}metrics", page.url());

    let end = options
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    if options.has_stdin {
        for line in std::io::stdin().lines() {
            match line?.split_once(' ') {
                Some(("down", key)) => fleet.set(key, true),
                Some(("up", key)) => fleet.set(key, false),
                _ => eprintln!("write `down KEY` or `up KEY`"),
            }
        }
        return Ok(());
    }
    while end.is_none_or(|end| Instant::now() < end) {
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
