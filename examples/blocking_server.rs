//! A blocking echo server with a thread for each connection, which closes connections that send no complete line in
//! time.
//!
//! Each connection has a heart that beats with every line. The callback shuts the socket of an expired connection down,
//! which wakes the thread that blocks on it. No read timeouts and no polling are needed. The example also runs clients.
//!
//! ```text
//! cargo run --release --example blocking_server
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use liveness::{BuildError, Event, Heart, Options, Watcher};

/// The output of `--help`.
const HELP: &str = "\
Runs a blocking echo server and its clients on the loopback interface for about two seconds.

Usage: blocking_server [--help]

A connection must send a line at least every 500 ms. There are three clients of each of five kinds. Healthy clients send
their lines in time. Silent clients stop sending. Stalled clients stop within a line. Trickling clients send a line byte by
byte and never end it. Resetting clients disconnect with a TCP reset.

Exit code: 0 if exactly the silent, stalled and trickling clients expired, 1 if not, 2 if an argument is invalid.
";

/// The longest time between two lines of a connection.
const TIMEOUT: Duration = Duration::from_millis(500);

/// The longest line, bytes, so that a line that never ends cannot fill the memory.
const MAX_LINE: u64 = 1_024;

/// The sockets of the open connections, by their numbers. Numbers are never used twice, so a late expiry cannot hit the
/// wrong connection.
#[derive(Default)]
struct Connections(Mutex<HashMap<u64, TcpStream>>);

impl Connections {
    /// Locks the map. No code panics under the lock, so a poisoned map would be intact.
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, TcpStream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends every read and write on connection `id`, including those that are blocked.
    fn shut_down(&self, id: u64) {
        if let Some(stream) = self.lock().get(&id) {
            // This fails if the peer has closed the connection first.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// The state that the threads of the server share.
struct Server {
    /// Watches the connections, and stores the address of each.
    watcher: Watcher<u64, SocketAddr>,
    /// The sockets, shared with the callback.
    connections: Arc<Connections>,
}

impl Server {
    /// Creates a server that closes expired connections and sends their addresses to `expired`.
    fn new(expired: Sender<SocketAddr>) -> Result<Self, BuildError> {
        let connections = Arc::new(Connections::default());
        let sockets = connections.clone();
        let watcher = Watcher::builder()
            .timeout(TIMEOUT)
            .on_event(move |event| {
                if let Event::Expired(expiry) = &event {
                    sockets.shut_down(expiry.key);
                    // It fails if the receiver is gone.
                    let _ = expiry.extra.map(|peer| expired.send(peer));
                }
                eprintln!("{event}");
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
        // Not per read: a client that sends bytes but never a whole line is not alive. A client that takes no answers
        // is caught as well, since the write below then blocks and no beat follows.
        heart.beat()?;
        writer.write_all(&line)?;
    }
}

/// A kind of client: what it does after its first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    /// Sends a line every 50 ms for three timeouts, then says goodbye.
    Healthy,
    /// Sends nothing.
    Silent,
    /// Sends half a line, then nothing.
    Stalled,
    /// Sends a line without end, byte by byte.
    Trickling,
    /// Drops the socket with an answer unread, which resets the connection.
    Resetting,
}

/// Every kind of client, and whether its connections are to expire.
const KINDS: [(Client, bool); 5] = [
    (Client::Healthy, false),
    (Client::Silent, true),
    (Client::Stalled, true),
    (Client::Trickling, true),
    (Client::Resetting, false),
];

/// How many clients there are of each kind.
const EACH: usize = 3;

/// The time between two messages of a client that sends several.
const PACE: Duration = Duration::from_millis(50);

impl Client {
    /// Plays the client on `stream`, to its own end or the server's.
    fn play(self, mut stream: TcpStream) -> io::Result<()> {
        // A server that does not close the connection makes an error of this, not a program that hangs.
        stream.set_read_timeout(Some(10 * TIMEOUT))?;
        exchange(&mut stream)?;
        match self {
            Client::Healthy => (0..30).try_for_each(|_| {
                thread::sleep(PACE);
                exchange(&mut stream)
            }),
            Client::Silent => wait_for_end(&mut stream),
            Client::Stalled => {
                stream.write_all(b"half a li")?;
                wait_for_end(&mut stream)
            }
            Client::Trickling => {
                while stream.write_all(b".").is_ok() {
                    thread::sleep(PACE);
                }
                Ok(())
            }
            Client::Resetting => {
                stream.write_all(b"unread\n")?;
                stream.peek(&mut [0]).map(drop)
            }
        }
    }
}

/// Sends a line and reads the answer.
fn exchange(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"hello\n")?;
    stream.read_exact(&mut [0; 6])
}

/// Waits for the server to end the connection.
fn wait_for_end(stream: &mut TcpStream) -> io::Result<()> {
    match stream.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(io::Error::other(
            "the server replied with an incomplete line",
        )),
        // The server closed it before it had read all.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error),
    }
}

fn main() -> ExitCode {
    match lexopt::Parser::from_env().next() {
        Ok(None) => {}
        Ok(Some(lexopt::Arg::Long("help"))) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Ok(Some(other)) => {
            eprintln!("error: {}; see `--help`", other.unexpected());
            return ExitCode::from(2);
        }
        Err(error) => {
            eprintln!("error: {error}; see `--help`");
            return ExitCode::from(2);
        }
    }
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the server and its clients; returns whether the right connections expired.
fn run() -> Result<bool, Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let (sender, expired) = mpsc::channel();
    let server = Server::new(sender)?;

    let mut kind_of = HashMap::new();
    let mut clients = Vec::new();
    for (kind, _) in KINDS.into_iter().flat_map(|kind| [kind; EACH]) {
        // Nobody accepts yet; the listener's backlog has room for them all.
        let stream = TcpStream::connect(listener.local_addr()?)?;
        kind_of.insert(stream.local_addr()?, kind);
        clients.push((kind, stream));
    }
    thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        let accepting = scope.spawn(|| server.accept(&listener, kind_of.len()));
        let playing: Vec<_> = clients
            .into_iter()
            .map(|(kind, stream)| (kind, scope.spawn(move || kind.play(stream))))
            .collect();
        for (kind, client) in playing {
            let result = client.join().map_err(|_| "a client panicked")?;
            result.map_err(|error| format!("{kind:?} client: {error}"))?;
        }
        Ok(accepting.join().map_err(|_| "the server panicked")??)
    })?;

    // Returns after the callback has received every event.
    let stats = server.watcher.close();
    let expired: Vec<Client> = expired
        .try_iter()
        .filter_map(|peer| kind_of.get(&peer).copied())
        .collect();
    let mut is_right = stats.live == 0 && stats.is_balanced();
    for (kind, is_to_expire) in KINDS {
        let count = expired.iter().filter(|&&other| other == kind).count();
        let expected = if is_to_expire { EACH } else { 0 };
        is_right &= count == expected;
        println!("{:<10} {count} of {EACH} expired", format!("{kind:?}"));
    }
    println!(
        "{} connections = {} expired + {} ended by the client; lateness at most {:?}",
        stats.started,
        stats.delivered,
        stats.removed,
        stats.delivery.max()
    );
    Ok(is_right)
}
