//! The client that servers in other languages drive: see `run` in this folder. It is no test by itself.
//!
//! It writes a line in JSON for each state, message, request and answer, and for its own end, which begins when its input
//! ends. Each line of its input is a message or a request. It fails if its counters do not balance at the end.

mod raw;

use std::error::Error;
use std::io::BufRead;
use std::sync::mpsc;
use std::time::Duration;

use lexopt::prelude::{Long, Value, ValueExt};
use liveness::client::{Client, ClientBuilder, ClosedBy, LinkError, State, Trust};
use liveness::server::{Closed, Codec, Fault, Json};
use raw::{BYTES, Bytes, Raw, TEXT};
use serde::Deserialize;
use serde_json::json;

type Failure = Box<dyn Error + Send + Sync>;

/// Longer than any program runs.
const HOUR: Duration = Duration::from_secs(3_600);

/// The body of a message.
type Body = serde_json::Value;

/// What the arguments say of the client.
struct Options {
    codec: String,
    url: String,
    unanswered: (Duration, u32),
    retry: Duration,
    spread: Duration,
    trust: Option<Trust>,
}

impl Options {
    /// Reads the arguments.
    fn parse() -> Result<Self, Failure> {
        let mut options = Options {
            codec: "json".to_owned(),
            url: String::new(),
            unanswered: (Duration::from_secs(15), 2),
            retry: Duration::from_millis(250),
            spread: Duration::from_secs(10),
            trust: None,
        };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            if let Value(url) = argument {
                options.url = url.string()?;
                continue;
            }
            let Long(name) = argument else {
                return Err(argument.unexpected().into());
            };
            let name = name.to_owned();
            let value = arguments.value()?.string()?;
            let milliseconds = |text: &str| text.parse().map(Duration::from_millis);
            match &*name {
                "codec" => options.codec = value,
                "unanswered" => {
                    let (after, pings) = value.split_once(',').ok_or("AFTER in ms,PINGS")?;
                    options.unanswered = (milliseconds(after)?, pings.parse()?);
                }
                "retry" => options.retry = milliseconds(&value)?,
                "spread" => options.spread = milliseconds(&value)?,
                "trust" => options.trust = Some(Trust::from_file(value)?),
                other => return Err(format!("unknown option `{other}`").into()),
            }
        }
        Ok(options)
    }

    /// Returns the client that they describe.
    fn builder<C: Codec>(&self) -> ClientBuilder<C> {
        let (ping_after, pings) = self.unanswered;
        let builder = Client::builder(&self.url)
            .unanswered(ping_after, pings)
            .retry(self.retry, self.retry.max(Duration::from_secs(1)))
            .spread(self.spread);
        match &self.trust {
            Some(trust) => builder.trust(trust),
            None => builder,
        }
    }
}

/// Writes a line for the end of a connection.
fn report(event: &str, closed: &Closed) {
    println!(
        "{}",
        json!({
            "event": event,
            "cause": closed.cause.to_string(),
            "code": closed.code,
            "silent": closed.silent.as_secs_f64(),
            "late": closed.late.as_secs_f64(),
        })
    );
}

/// Writes a line for a state.
fn report_state(state: &State) {
    match state {
        State::Online { attempt } => {
            println!("{}", json!({ "event": "online", "attempt": attempt }));
        }
        State::Offline { error, .. } => match error {
            LinkError::Ended(closed) => report("offline", closed),
            other => {
                println!(
                    "{}",
                    json!({ "event": "offline", "cause": other.to_string() })
                );
            }
        },
        State::Closed(ClosedBy::Server(closed)) => report("closed", closed),
        _ => {}
    }
}

/// A line of the input.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Command {
    /// Sends a message of this name with this body.
    Send(String, Body),
    /// Sends a request, and writes a line for its answer.
    Request(String, Body),
}

/// Runs a client that does what its input says.
fn run(options: &Options) -> Result<Client<Json>, Failure> {
    let client = options
        .builder::<Json>()
        .greet(|greeting| {
            greeting.send("Hello", &"again");
        })
        .on("Echo", |_, body: Body| {
            println!("{}", json!({ "event": "echo", "body": body }));
        })
        .on_request("Length", |_, text: String| {
            let is_short = text.len() < 100;
            is_short
                .then_some(text.len())
                .ok_or_else(|| Fault::new(7, "too long"))
        })
        .state(|_, state| report_state(state))
        .start()?;
    for line in std::io::stdin().lock().lines() {
        match serde_json::from_str(&line?)? {
            Command::Send(name, body) => client.send(&name, &body)?,
            Command::Request(name, body) => {
                let answer = client.request::<_, Body>(&name, &body, Duration::from_secs(5));
                let (body, error) = match answer {
                    Ok(body) => (Some(body), None),
                    Err(error) => (None, Some(error.to_string())),
                };
                println!(
                    "{}",
                    json!({ "event": "answer", "body": body, "error": error })
                );
            }
        }
    }
    Ok(client)
}

/// Runs a client that sends messages back as they are, until its first connection ends.
fn echo(options: &Options) -> Result<Client<Raw>, Failure> {
    let (sender, ended) = mpsc::channel();
    let client = options
        .builder::<Raw>()
        .max_message(16 << 20)
        .queue(1_000, 64 << 20)
        // A second connection would begin the case again, and be closed in the middle of it.
        .retry(HOUR, HOUR)
        .on_inline(TEXT, |client, body: Bytes| client.send(TEXT, &body))
        .on_inline(BYTES, |client, body: Bytes| client.send(BYTES, &body))
        .state(move |_, state| {
            if matches!(state, State::Offline { .. } | State::Closed(_)) {
                // Only the first one is waited for.
                let _ = sender.send(());
            }
        })
        .start()?;
    ended.recv()?;
    Ok(client)
}

/// Closes the client, and checks its counters.
fn end<C: Codec>(client: &Client<C>) -> Result<(), Failure> {
    let is_closed = client.close_timeout(Duration::from_secs(5));
    let stats = client.stats();
    if is_closed && stats.is_balanced() && stats.online == 0 {
        Ok(())
    } else {
        Err(format!("{is_closed} {stats:?}").into())
    }
}

fn main() -> Result<(), Failure> {
    let options = Options::parse()?;
    match &*options.codec {
        "json" => end(&run(&options)?),
        "raw" => end(&echo(&options)?),
        other => Err(format!("unknown codec `{other}`").into()),
    }
}
