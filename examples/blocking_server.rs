//! A blocking echo server, a thread for each connection, that closes connections which send no whole line in time.
//!
//! Each connection has a heart that beats with every line. The callback shuts the socket of an expired connection down,
//! which wakes the thread that blocks on it: no read timeouts, no polling. Clients of every kind are in here too.
//!
//! ```text
//! cargo run --release --example blocking_server
//! ```

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::iter;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use liveness::{BuildError, Event, Heart, Options, Watcher};

/// What `--help` prints.
const HELP: &str = "\
Runs a blocking echo server and clients for it on loopback, and ends after about two seconds.

Usage: blocking_server [--clients N]

    --clients N   how many clients there are of each kind, 1 to 20 [default: 3]
    --help        print this and end

A connection must send a line at least every 500 ms. Healthy clients do; silent ones stop; stalled ones stop within a
line; trickling ones send byte after byte of a line that does not end; resetting ones vanish with a TCP reset.

Exit code: 0 if exactly the silent, stalled and trickling ones expired, 1 if not, 2 if an argument is wrong.
";

/// The longest time between two lines of a connection.
const TIMEOUT: Duration = Duration::from_millis(500);

/// The longest line, bytes: nobody may fill the memory with one that does not end.
const MAX_LINE: u64 = 1_024;

/// The sockets of the open connections, by their numbers. Numbers are never used twice, so a late expiry cannot hit the
/// wrong connection.
#[derive(Default)]
struct Connections(Mutex<HashMap<u64, TcpStream>>);

impl Connections {
    /// The map. A panic under the lock, of which there is none, would leave it whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, TcpStream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends every read and write on connection `id`, those that block just now too.
    fn shut_down(&self, id: u64) {
        if let Some(stream) = self.lock().get(&id) {
            // It fails if the peer was faster.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// What the threads of the server share.
struct Server {
    /// Watches the connections; carries the address of each.
    watcher: Watcher<u64, SocketAddr>,
    /// The sockets, shared with the callback.
    connections: Arc<Connections>,
}

impl Server {
    /// A server that closes the connections that expire, and tells `expired` of them.
    fn new(expired: Sender<SocketAddr>) -> Result<Self, BuildError> {
        let connections = Arc::new(Connections::default());
        let sockets = connections.clone();
        let watcher = Watcher::builder()
            .timeout(TIMEOUT)
            .on_event(move |event| {
                eprintln!("{event}");
                if let Event::Expired(event) = event {
                    sockets.shut_down(event.key);
                    // It fails if nobody wants to know any more.
                    let _ = event.extra.map(|peer| expired.send(peer));
                }
            })
            .build()?;
        Ok(Server {
            watcher,
            connections,
        })
    }

    /// Serves the next `count` connections, each on a thread of its own; a real server would go on for ever.
    fn accept(&self, listener: &TcpListener, count: usize) -> io::Result<()> {
        thread::scope(|scope| {
            for (id, stream) in (0..).zip(listener.incoming().take(count)) {
                let stream = stream?;
                thread::Builder::new()
                    .name(format!("connection-{id}"))
                    .spawn_scoped(scope, move || match self.serve(id, &stream) {
                        Ok(()) => eprintln!("connection {id} ended"),
                        Err(error) => eprintln!("connection {id} failed: {error}"),
                    })?;
            }
            Ok(())
        })
    }

    /// Serves connection `id` to its end.
    fn serve(&self, id: u64, stream: &TcpStream) -> Result<(), Box<dyn Error>> {
        let options = Options::new().extra(stream.peer_addr()?);
        // The callback must find the socket, so it is there before the heart is.
        self.connections.lock().insert(id, stream.try_clone()?);
        let result = match self.watcher.watch_with(id, options) {
            Ok(heart) => echo(stream, &heart),
            Err(error) => Err(error.into()),
        };
        // The heart is dropped: the key is no longer watched.
        self.connections.lock().remove(&id);
        result
    }
}

/// Sends each line back, until the connection ends or is shut down by the callback.
fn echo(stream: &TcpStream, heart: &Heart<u64, SocketAddr>) -> Result<(), Box<dyn Error>> {
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        reader
            .by_ref()
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Ok(());
        }
        // Not per read: whoever sends bytes but never a whole line is not alive. A client that takes no answers is
        // caught as well, since the write below then blocks and no beat follows.
        heart.beat()?;
        writer.write_all(&line)?;
    }
}

/// What a client does after its first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    /// Sends a line every 50 ms for three timeouts, then says goodbye.
    Healthy,
    /// Sends nothing.
    Silent,
    /// Sends half a line.
    Stalled,
    /// Sends a line without end, byte by byte.
    Trickling,
    /// Drops the socket with an answer unread, which resets the connection.
    Resetting,
}

impl Client {
    /// Every kind.
    const ALL: [Self; 5] = [
        Client::Healthy,
        Client::Silent,
        Client::Stalled,
        Client::Trickling,
        Client::Resetting,
    ];

    /// Whether its connection is to expire.
    fn is_to_expire(self) -> bool {
        matches!(self, Client::Silent | Client::Stalled | Client::Trickling)
    }

    /// Plays the client on `stream`; returns whether the server ended the connection.
    fn play(self, mut stream: TcpStream) -> io::Result<bool> {
        const PACE: Duration = Duration::from_millis(50);

        // A server that fails to close a connection makes an error of this, not a program that hangs.
        stream.set_read_timeout(Some(10 * TIMEOUT))?;
        exchange(&mut stream)?;
        match self {
            Client::Healthy => {
                for _ in 0..30 {
                    thread::sleep(PACE);
                    exchange(&mut stream)?;
                }
                Ok(false)
            }
            Client::Silent => is_ended(&mut stream),
            Client::Stalled => {
                stream.write_all(b"half a li")?;
                is_ended(&mut stream)
            }
            Client::Trickling => {
                while stream.write_all(b".").is_ok() {
                    thread::sleep(PACE);
                }
                Ok(true)
            }
            Client::Resetting => {
                stream.write_all(b"unread\n")?;
                stream.peek(&mut [0])?;
                Ok(false)
            }
        }
    }
}

/// Sends a line and reads the answer.
fn exchange(stream: &mut TcpStream) -> io::Result<()> {
    let mut answer = [0; 6];
    stream.write_all(b"hello\n")?;
    stream.read_exact(&mut answer)
}

/// Waits for the server to end the connection.
fn is_ended(stream: &mut TcpStream) -> io::Result<bool> {
    match stream.read(&mut [0]) {
        Ok(length) => Ok(length == 0),
        // The server closed it with bytes of ours unread.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(true),
        Err(error) => Err(error),
    }
}

/// What became of a client.
struct Outcome {
    /// Its kind.
    client: Client,
    /// Its own address, which the server knows it by.
    address: SocketAddr,
    /// Whether the server ended the connection.
    is_closed: bool,
}

impl Outcome {
    /// Plays `client` to its end.
    fn of(client: Client, stream: TcpStream) -> io::Result<Self> {
        Ok(Outcome {
            client,
            address: stream.local_addr()?,
            is_closed: client.play(stream)?,
        })
    }
}

fn main() -> ExitCode {
    let clients = match parse_clients() {
        Ok(Some(clients)) => clients,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("error: {error}; `--help` explains the arguments");
            return ExitCode::from(2);
        }
    };
    match run(clients) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the arguments: how many clients of each kind, or `None` to ask for help.
fn parse_clients() -> Result<Option<usize>, lexopt::Error> {
    use lexopt::prelude::*;

    let mut clients = 3;
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("clients") => clients = parser.value()?.parse()?,
            Long("help") => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    if (1..=20).contains(&clients) {
        Ok(Some(clients))
    } else {
        Err(format!("`--clients` is {clients}; it must be from 1 to 20").into())
    }
}

/// Runs the server and `count` clients of each kind; returns whether the right connections expired.
fn run(count: usize) -> Result<bool, Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let (sender, expired) = mpsc::channel();
    let server = Server::new(sender)?;

    // They connect before anybody accepts: the listener's backlog holds them all.
    let clients = Client::ALL
        .into_iter()
        .flat_map(|client| iter::repeat_n(client, count))
        .map(|client| Ok((client, TcpStream::connect(address)?)))
        .collect::<io::Result<Vec<_>>>()?;
    let outcomes = thread::scope(|scope| {
        let (server, listener, number) = (&server, &listener, clients.len());
        let accepting = scope.spawn(move || server.accept(listener, number));
        let playing: Vec<_> = clients
            .into_iter()
            .map(|(client, stream)| scope.spawn(move || Outcome::of(client, stream)))
            .collect();
        let outcomes = playing
            .into_iter()
            .map(|client| {
                client
                    .join()
                    .map_err(|_| "a client panicked")?
                    .map_err(Into::into)
            })
            .collect::<Result<Vec<_>, Box<dyn Error>>>();
        accepting.join().map_err(|_| "the server panicked")??;
        outcomes
    })?;

    let stats = server.watcher.close();
    let expired: HashSet<SocketAddr> = expired.try_iter().collect();
    println!(
        "{:<10} {:>8} {:>8} {:>8}",
        "kind", "clients", "expired", "closed"
    );
    for kind in Client::ALL {
        let of_kind = || outcomes.iter().filter(|outcome| outcome.client == kind);
        println!(
            "{:<10} {:>8} {:>8} {:>8}",
            format!("{kind:?}"),
            of_kind().count(),
            of_kind()
                .filter(|outcome| expired.contains(&outcome.address))
                .count(),
            of_kind().filter(|outcome| outcome.is_closed).count()
        );
    }
    println!(
        "{} connections = {} expired + {} ended, lateness at most {:?}",
        stats.started,
        stats.delivered,
        stats.removed,
        stats.delivery.max()
    );
    let is_right = |outcome: &Outcome| {
        let is_expired = expired.contains(&outcome.address);
        let is_to_expire = outcome.client.is_to_expire();
        is_expired == is_to_expire && outcome.is_closed == is_to_expire
    };
    Ok(outcomes.iter().all(is_right) && stats.live == 0 && stats.is_balanced())
}
