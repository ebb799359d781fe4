//! Jobs that succeed, fail and die, and connections that talk, fall silent and end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use liveness::client::Client;
use liveness::dispatch::{Backoff, Dispatcher, Emit, On, Topic};
use liveness::observe::Observer;
use liveness::server::{Agent, Group, Json, Keepalive, Server};

use crate::Failure;
use crate::fleet::Worker;

const MAIL: Topic<u64> = Topic::new("mail");
const INVOICE: Topic<u64> = Topic::new("invoice");
const PICTURE: Topic<u64> = Topic::new("picture");

/// A dispatcher and what emits.
pub(crate) struct Jobs {
    jobs: Dispatcher,
    _emits: Worker,
}

impl Jobs {
    /// Starts three topics: a quick one, one that fails at times and dies rarely, and a slow one.
    pub(crate) fn start(observer: &Observer) -> Result<Self, Failure> {
        let jobs = Dispatcher::builder().threads(4).build()?;
        let quickly = Backoff::exponential(Duration::from_millis(200), Duration::from_secs(1));
        jobs.on(&MAIL, "send", On::new().parallel(2), |_, _| {
            std::thread::sleep(Duration::from_millis(5));
            Ok(())
        })?;
        let invoice = On::new().max_attempts(3).backoff(quickly);
        jobs.on(&INVOICE, "bill", invoice, |_, number| {
            if number % 97 == 0 {
                return Err(format!("customer {number} has no address").into());
            }
            if fastrand::u8(..) < 20 {
                return Err("the bank is busy".into());
            }
            Ok(())
        })?;
        jobs.on(&PICTURE, "shrink", On::new().parallel(1), |_, _| {
            std::thread::sleep(Duration::from_millis(40));
            Ok(())
        })?;
        observer.dispatcher("jobs", jobs.clone());
        for topic in [&MAIL, &INVOICE, &PICTURE] {
            observer.dead_events("jobs", jobs.clone(), topic);
        }
        let emitter = jobs.clone();
        let emits = Worker::spawn(Duration::from_millis(20), move |call| {
            // A full queue is seen on the page.
            let _ = emitter.emit(&MAIL, call);
            let _ = emitter.emit(&INVOICE, call);
            if call % 500 == 0 {
                for picture in 0..60 {
                    let soon = Duration::from_millis(fastrand::u64(..1_000));
                    let _ = emitter.emit_with(&PICTURE, picture, Emit::after(soon));
                }
            }
        });
        Ok(Jobs {
            jobs,
            _emits: emits,
        })
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        let _ = self.jobs.stop(Duration::from_secs(1));
    }
}

/// A server, its clients, and a group.
pub(crate) struct Connections {
    _clients: Worker,
    _asks: Worker,
    _server: Arc<Server<Json, ()>>,
    _world: Group<u64>,
}

impl Connections {
    /// Starts a server with `count` clients. Some end and come again, some say nothing and are dropped.
    pub(crate) fn start(observer: &Observer, count: usize) -> Result<Self, Failure> {
        let world = Group::builder("world").spawn(0_u64)?;
        world.every(Duration::from_millis(50), |ticks| *ticks += 1)?;
        observer.group("world", &world);
        let said = world.event(|said: &mut u64, number: u64| *said += number);
        let server = Server::<Json, ()>::builder()
            .tcp("127.0.0.1:0")
            .reactors(1)
            .handlers(2)
            .keepalive(Keepalive::new(
                Duration::from_secs(4),
                Duration::from_secs(6),
            ))
            .on("Echo", move |agent: &Agent<_, _>, number: u64| {
                // A group that is behind is seen on the page.
                let _ = said.emit(number);
                agent.send("Echo", &number)
            })
            .on_request("Double", |_: &Agent<_, _>, number: u64| Ok(number * 2))
            .start()?;
        let server = Arc::new(server);
        observer.server("game", &server);
        let address = server.local_addrs()[0];
        let client = Client::<Json>::builder(format!("tcp://{address}")).start()?;
        observer.client("to game", &client);
        let asks = Worker::spawn(Duration::from_millis(50), move |call| {
            // A request without an answer is seen on the page.
            let _: Result<u64, _> = client.request("Double", &call, Duration::from_secs(1));
        });
        let mut clients: Vec<Option<TcpStream>> = (0..count).map(|_| None).collect();
        let mut scratch = [0; 4096];
        let clients = Worker::spawn(Duration::from_millis(50), move |call| {
            for (index, client) in clients.iter_mut().enumerate() {
                let is_talking = index % 8 != 0;
                if fastrand::u32(..20_000) == 0 {
                    *client = None;
                }
                if client.is_none() && call % 20 == index as u64 % 20 {
                    *client = connect(address).ok();
                }
                if let Some(stream) = client
                    && talk(
                        stream,
                        is_talking && fastrand::u8(..) < 40,
                        call,
                        &mut scratch,
                    )
                    .is_err()
                {
                    *client = None;
                }
            }
        });
        Ok(Connections {
            _clients: clients,
            _asks: asks,
            _server: server,
            _world: world,
        })
    }
}

/// Connects a client that does not block.
fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Reads what has come, and says something if the client `speaks`.
fn talk(
    stream: &mut TcpStream,
    speaks: bool,
    number: u64,
    scratch: &mut [u8],
) -> std::io::Result<()> {
    match stream.read(scratch) {
        Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
        Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return Err(error),
        _ => {}
    }
    if speaks {
        let message = format!(r#"{{"type":"Echo","data":{number}}}"#);
        stream.write_all(&[0, message.len() as u8])?;
        stream.write_all(message.as_bytes())?;
    }
    Ok(())
}
