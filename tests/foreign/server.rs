//! The server that programs in other languages drive: see `run` in this folder. It is no test by itself.
//!
//! It writes a line in JSON for its start, for each connection that opens or ends, and for its own end, which begins when
//! its input ends. It fails if its counters do not balance then.

mod raw;

use std::error::Error;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lexopt::prelude::{Long, ValueExt};
use liveness::server::{
    Agent, Codec, Decode, Either, Encode, Fault, Framing, Json, Keepalive, MsgPack, Network,
    Origins, Ping, Protobuf, Reject, Request, Server, ServerBuilder, Shutdown, Tls,
};
use raw::{BYTES, Bytes, Raw, TEXT};
use serde::{Deserialize, Serialize};
use serde_json::json;

type Failure = Box<dyn Error + Send + Sync>;

/// The codec of a server without `--codec`: JSON, or what the peer asks for.
type Any = Either<Json, Either<MsgPack, Protobuf>>;

/// The body of hotpot's example.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
struct Echo {
    #[prost(string, tag = "1")]
    #[serde(rename = "Message")]
    message: String,
}

/// A number.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
struct Number {
    #[prost(uint32, tag = "1")]
    value: u32,
}

/// The data of an agent: the address of the client, as the server sees it.
type Client = String;

/// What the arguments say of the server.
struct Options {
    codec: String,
    address: String,
    framing: Framing,
    keepalive: Keepalive,
    token: Option<Arc<str>>,
    paths: Vec<String>,
    proxies: Vec<Network>,
    max_message: usize,
    outbound: usize,
    write_within: Duration,
    tls: Option<Tls>,
}

impl Options {
    /// Reads the arguments.
    fn parse() -> Result<Self, Failure> {
        let mut options = Options {
            codec: "any".to_owned(),
            address: "127.0.0.1".to_owned(),
            framing: Framing::U16,
            keepalive: Keepalive::default(),
            token: None,
            paths: Vec::new(),
            proxies: Vec::new(),
            max_message: 64 << 10,
            outbound: 256 << 10,
            write_within: Duration::from_secs(20),
            tls: None,
        };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            let Long(name) = argument else {
                return Err(argument.unexpected().into());
            };
            let name = name.to_owned();
            let value = arguments.value()?.string()?;
            let milliseconds = |text: &str| text.parse().map(Duration::from_millis);
            match &*name {
                "codec" => options.codec = value,
                "address" => options.address = value,
                "framing" => {
                    options.framing = match &*value {
                        "u16" => Framing::U16,
                        "u32" => Framing::U32,
                        "lines" => Framing::Lines,
                        other => return Err(format!("unknown framing `{other}`").into()),
                    }
                }
                "keepalive" => {
                    let (ping, drop) = value.split_once(',').ok_or("PING,DROP in ms")?;
                    options.keepalive = Keepalive::new(milliseconds(ping)?, milliseconds(drop)?);
                }
                // After `--keepalive`.
                "ping" => {
                    options.keepalive = options.keepalive.ping(match &*value {
                        "message" => Ping::Message,
                        "off" => Ping::Off,
                        other => return Err(format!("unknown ping `{other}`").into()),
                    });
                }
                "heartbeat-out" => {
                    options.keepalive = options.keepalive.heartbeat_out(milliseconds(&value)?);
                }
                "token" => options.token = Some(format!("Bearer {value}").into()),
                "path" => options.paths.push(value),
                "trust" => options.proxies.push(value.parse()?),
                "max-message" => options.max_message = value.parse()?,
                "write-within" => options.write_within = milliseconds(&value)?,
                "outbound" => options.outbound = value.parse()?,
                "tls" => {
                    let (chain, key) = value.split_once(',').ok_or("CHAIN,KEY")?;
                    options.tls = Some(Tls::from_files(chain, key)?);
                }
                other => return Err(format!("unknown option `{other}`").into()),
            }
        }
        Ok(options)
    }
}

/// Runs the server with `routes` until the input ends.
fn run<C: Codec>(
    options: Options,
    routes: impl FnOnce(ServerBuilder<C, Client>) -> ServerBuilder<C, Client>,
) -> Result<(), Failure> {
    let token = options.token;
    let mut builder = Server::<C, Client>::builder()
        .tcp(format!("{}:0", options.address))
        .websocket(format!("{}:0", options.address))
        .framing(options.framing)
        .keepalive(options.keepalive)
        .origins(Origins::Same)
        .trusted_proxies(options.proxies)
        .max_message(options.max_message)
        .outbound(options.outbound)
        .write_within(options.write_within)
        .authorize(move |request: &Request| {
            let is_known = token.is_none() || request.header("authorization") == token.as_deref();
            let client = request.client().to_string();
            is_known.then_some(client).ok_or_else(|| Reject::new(401))
        })
        .opened(|agent| {
            let (id, transport) = (agent.id().get(), agent.transport().to_string());
            let client = agent.data();
            println!(
                "{}",
                json!({ "event": "opened", "agent": id, "transport": transport, "client": client })
            );
        })
        .closed(|agent, closed| {
            println!(
                "{}",
                json!({
                    "event": "closed",
                    "agent": agent.id().get(),
                    "cause": closed.cause.to_string(),
                    "code": closed.code,
                    "silent": closed.silent.as_secs_f64(),
                    "late": closed.late.as_secs_f64(),
                })
            );
        });
    for path in options.paths {
        builder = builder.path(path);
    }
    if let Some(tls) = &options.tls {
        let any = format!("{}:0", options.address);
        builder = builder.tcp_tls(&any, tls).websocket_tls(any, tls);
    }
    let server = routes(builder).start()?;
    let ports: Vec<_> = server.local_addrs().iter().map(SocketAddr::port).collect();
    println!(
        "{}",
        json!({ "event": "listening", "tcp": ports[0], "websocket": ports[1], "tls": &ports[2..] })
    );
    std::io::stdin().read_to_end(&mut Vec::new())?;
    let report = server.shutdown(Shutdown::within(Duration::from_secs(5)));
    let stats = server.stats();
    let is_right = stats.is_balanced() && stats.open == 0 && report.still_running.is_empty();
    println!("{}", json!({ "event": "ended", "is_right": is_right }));
    if is_right {
        Ok(())
    } else {
        Err(format!("{report:?} {stats:?}").into())
    }
}

/// The routes of a server whose messages are envelopes.
fn envelopes<C: Codec>(builder: ServerBuilder<C, Client>) -> ServerBuilder<C, Client>
where
    Echo: Encode<C> + Decode<C>,
    Number: Encode<C> + Decode<C>,
    Bytes: Encode<C> + Decode<C>,
{
    builder
        .on("Echo", |agent, echo: Echo| agent.send("Echo", &echo))
        .on_inline("Any", |agent, body: Bytes| agent.send("Any", &body))
        .on_request("Length", |_, echo: Echo| {
            let value = u32::try_from(echo.message.len());
            let value = value.map_err(|_| Fault::new(7, "too long"))?;
            if value == 0 {
                return Err(Fault::new(4, "nothing to measure"));
            }
            Ok(Number { value })
        })
        // Asks the peer in turn, and sends it its answer.
        .on("Ask", |agent: &Agent<C, Client>, echo: Echo| {
            let answer = agent.request::<_, Number>("Length", &echo, Duration::from_secs(5));
            let message = match answer {
                Ok(number) => number.value.to_string(),
                Err(error) => error.to_string(),
            };
            agent.send("Asked", &Echo { message })
        })
        .on("Close", |agent, code: Number| {
            agent.close(code.value as u16, "as you asked");
        })
}

fn main() -> Result<(), Failure> {
    let options = Options::parse()?;
    match &*options.codec {
        "any" => run(options, envelopes::<Any>),
        "json" => run(options, envelopes::<Json>),
        "msgpack" => run(options, envelopes::<MsgPack>),
        "protobuf" => run(options, envelopes::<Protobuf>),
        "raw" => run(options, |builder: ServerBuilder<Raw, Client>| {
            builder
                .on_inline(TEXT, |agent, body: Bytes| agent.send(TEXT, &body))
                .on_inline(BYTES, |agent, body: Bytes| agent.send(BYTES, &body))
        }),
        other => Err(format!("unknown codec `{other}`").into()),
    }
}
