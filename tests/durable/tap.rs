//! A tap on the connections of one process: it passes calls and replies on, knows which call is which, and kills the
//! process at a named point, cuts a connection, or edits the scripts.
//!
//! So a process is killed between two steps of the protocol without any mark in the code under test.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ledger::{Fate, Ledger};

/// Where a process can be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// A call that claims events is not sent.
    BeforeClaim,
    /// The reply with claimed events is not read.
    Claimed,
    /// A handler runs. This point is not on the wire: the handler itself ends its process.
    InHandler,
    /// The call with the outcome of a handled event is not sent.
    Handled,
    /// The call with an outcome is executed, and its reply is not read.
    OutcomeSent,
    /// The call that renews leases is not sent.
    BeforeRenewal,
    /// The call that renews leases is executed, and its reply is not read.
    Renewed,
    /// The call that emits is executed, and its reply is not read.
    Emitted,
}

/// How the scripts are broken, to show that a test notices it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// An event counts as done when it is claimed.
    FinishBeforeHandling,
    /// A claim takes two calls: one that takes the event from those that wait, and one that notes that it runs.
    ClaimInTwoCalls,
    /// The fence of an outcome is not compared.
    NoFence,
}

/// A value of the protocol.
#[derive(Debug)]
enum Wire {
    /// A simple string, an error or a number, with its first byte.
    Line(String),
    /// A string, or nothing.
    Bulk(Option<Vec<u8>>),
    /// An array.
    Array(Vec<Wire>),
}

/// What a call is.
#[derive(Clone, Debug, Default)]
struct Call {
    /// The words.
    words: Vec<Vec<u8>>,
    /// Which script it calls, if it is one of those that are distinguished.
    script: Option<Kind>,
}

/// The scripts that are distinguished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `work`
    Work,
    /// `emit`
    Emit,
    /// `renew`
    Renew,
}

/// The tap of one process.
#[derive(Debug)]
pub(crate) struct Tap {
    /// Its socket, which is removed at the end.
    socket: PathBuf,
    /// What its threads share.
    shared: Arc<Shared>,
}

/// What the threads of a tap share.
#[derive(Debug)]
struct Shared {
    /// The socket of the server.
    server: PathBuf,
    /// Where the end of the process is noted.
    ledger: Arc<Ledger>,
    /// The process.
    pid: AtomicU32,
    /// Where the process is killed next.
    armed: Mutex<Option<Point>>,
    /// After how many calls a connection is cut; 0 means never.
    cuts: AtomicUsize,
    /// How many connections were cut.
    cut: AtomicUsize,
    /// How many calls were made.
    calls: AtomicUsize,
    /// How the scripts are edited.
    mutation: Option<Mutation>,
    /// Whether connections are no longer accepted.
    is_over: AtomicBool,
}

impl Tap {
    /// Creates a tap in front of `server`, which listens on `socket`.
    pub(crate) fn new(
        server: &Path,
        socket: PathBuf,
        ledger: &Arc<Ledger>,
        mutation: Option<Mutation>,
    ) -> Self {
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            ledger: ledger.clone(),
            pid: AtomicU32::new(0),
            armed: Mutex::new(None),
            cuts: AtomicUsize::new(0),
            cut: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            mutation,
            is_over: AtomicBool::new(false),
        });
        let tap = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if tap.is_over.load(Ordering::Relaxed) {
                    break;
                }
                if let Ok(server) = UnixStream::connect(&tap.server) {
                    pass(&tap, stream, server);
                }
            }
        });
        Tap { socket, shared }
    }

    /// Returns the URL for the process.
    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket.display())
    }

    /// Notes which process it is.
    pub(crate) fn watch(&self, pid: u32) {
        self.shared.pid.store(pid, Ordering::Relaxed);
    }

    /// Kills the process when it is at `point` next.
    pub(crate) fn arm(&self, point: Point) {
        *self.shared.armed.lock().unwrap() = Some(point);
    }

    /// Cuts each connection after about `calls` calls, before or after a call is executed.
    pub(crate) fn cut_after(&self, calls: usize) {
        self.shared.cuts.store(calls, Ordering::Relaxed);
    }

    /// Returns how many calls were made.
    pub(crate) fn calls(&self) -> usize {
        self.shared.calls.load(Ordering::Relaxed)
    }

    /// Returns how many connections were cut.
    pub(crate) fn cut(&self) -> usize {
        self.shared.cut.load(Ordering::Relaxed)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let _ = UnixStream::connect(&self.socket);
        let _ = fs::remove_file(&self.socket);
    }
}

/// Passes the calls and replies of one connection on, on two threads.
fn pass(tap: &Arc<Shared>, client: UnixStream, server: UnixStream) {
    let asked: Arc<Mutex<VecDeque<Call>>> = Arc::default();
    let end = |one: &UnixStream, other: &UnixStream| {
        let _ = one.shutdown(Shutdown::Both);
        let _ = other.shutdown(Shutdown::Both);
    };
    let (own, questions) = (tap.clone(), asked.clone());
    let (to_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        let mut from_client = BufReader::new(to_client.try_clone().unwrap());
        let mut before_cut = own.next_cut();
        while let Ok((call, mut raw)) = read(&mut from_client) {
            own.calls.fetch_add(1, Ordering::Relaxed);
            let call = Call::new(call);
            before_cut = before_cut.map(|calls| calls.saturating_sub(1));
            if own.is_at(&call, None) || (before_cut == Some(0) && own.is_cut()) {
                break;
            }
            own.edit(&call, &mut raw);
            questions.lock().unwrap().push_back(call);
            if to_server.write_all(&raw).is_err() {
                break;
            }
        }
        end(&to_client, &to_server);
    });
    let own = tap.clone();
    thread::spawn(move || {
        let (mut to_client, mut to_server) = (client, server);
        let mut from_server = BufReader::new(to_server.try_clone().unwrap());
        let mut before_cut = own.next_cut();
        while let Ok((reply, raw)) = read(&mut from_server) {
            let Some(call) = asked.lock().unwrap().pop_front() else {
                break;
            };
            before_cut = before_cut.map(|calls| calls.saturating_sub(1));
            if own.is_at(&call, Some(&reply)) || (before_cut == Some(0) && own.is_cut()) {
                break;
            }
            if own.mutation == Some(Mutation::ClaimInTwoCalls)
                && claim_again(&call, &reply, &mut to_server, &mut from_server).is_err()
            {
                break;
            }
            if to_client.write_all(&raw).is_err() {
                break;
            }
        }
        end(&to_client, &to_server);
    });
}

impl Shared {
    /// After how many calls the next cut is made.
    fn next_cut(&self) -> Option<usize> {
        let calls = self.cuts.load(Ordering::Relaxed);
        // A dispatcher that is being built does not repeat a call.
        (calls > 0).then(|| 8 + fastrand::usize(..2 * calls))
    }

    /// Whether a connection is cut now.
    fn is_cut(&self) -> bool {
        self.cut.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Kills the process if it is at the point where it is to be killed: before `call`, or before it reads `reply`.
    fn is_at(&self, call: &Call, reply: Option<&Wire>) -> bool {
        let mut armed = self.armed.lock().unwrap();
        let claims = || call.argument(2) != Some(b"0");
        let reports = || call.argument(9) != Some(b"0");
        let has_events = || matches!(reply, Some(Wire::Array(values)) if values.len() > 7);
        let is_at = match (*armed, call.script, reply.is_some()) {
            (Some(Point::BeforeClaim), Some(Kind::Work), false) => claims(),
            (Some(Point::Claimed), Some(Kind::Work), true) => has_events(),
            (Some(Point::Handled), Some(Kind::Work), false)
            | (Some(Point::OutcomeSent), Some(Kind::Work), true) => reports(),
            (Some(Point::BeforeRenewal), Some(Kind::Renew), false)
            | (Some(Point::Renewed), Some(Kind::Renew), true)
            | (Some(Point::Emitted), Some(Kind::Emit), true) => true,
            _ => false,
        };
        // A script that the server does not have was not executed.
        let is_executed = !matches!(reply, Some(Wire::Line(error)) if error.starts_with('-'));
        if is_at && is_executed {
            *armed = None;
            let pid = self.pid.load(Ordering::Relaxed);
            // On a busy machine it may take long until its end is seen.
            self.ledger.fate(Fate::Killed, pid);
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
        }
        is_at && is_executed
    }

    /// Edits a script whose text is sent. The server then has no other, so the text is sent with each call.
    fn edit(&self, call: &Call, raw: &mut Vec<u8>) {
        if let (Some(mutation), [name, text, ..]) = (self.mutation, &call.words[..])
            && name == b"EVAL"
        {
            let mut words = call.words.clone();
            words[1] = mutate(text, mutation);
            *raw = write(&words);
        }
    }
}

/// Makes the second call of a claim that takes two.
fn claim_again(
    call: &Call,
    reply: &Wire,
    to_server: &mut UnixStream,
    from_server: &mut impl BufRead,
) -> io::Result<()> {
    let (Some(Kind::Work), Wire::Array(values)) = (call.script, reply) else {
        return Ok(());
    };
    let number = |at: usize| match values.get(at) {
        Some(Wire::Line(line)) => line[1..].trim().parse::<u64>().unwrap_or_default(),
        _ => 0,
    };
    let lease: u64 = call.number(3);
    let ends = (number(0) + lease).to_string();
    let fence = number(5).to_string();
    for event in values.get(7..).unwrap_or_default().chunks(5) {
        if let [Wire::Bulk(Some(id)), ..] = event {
            let (running, tokens) = (call.words[4].clone(), call.words[6].clone());
            let lend = [b"ZADD".to_vec(), running, ends.clone().into(), id.clone()];
            let token = [b"HSET".to_vec(), tokens, id.clone(), fence.clone().into()];
            for words in [lend, token] {
                to_server.write_all(&write(&words))?;
                read(from_server)?;
            }
        }
    }
    Ok(())
}

/// Breaks a script.
///
/// # Panics
///
/// Panics if the script has changed, so that what is to be broken is not there.
fn mutate(text: &[u8], mutation: Mutation) -> Vec<u8> {
    let text = String::from_utf8(text.to_vec()).unwrap();
    let is_work = text.contains("hands out events that are due");
    let is_renew = text.contains("Renews the leases");
    let edits: &[(&str, &str)] = match mutation {
        Mutation::FinishBeforeHandling if is_work => &[
            ("redis.call('ZADD', l, unpack(leases))", "count('done', n)"),
            (
                "redis.call('HSET', t, unpack(tokens))",
                "redis.call('HDEL', p, unpack(claimed))",
            ),
        ],
        Mutation::ClaimInTwoCalls if is_work => &[
            ("redis.call('ZADD', l, unpack(leases))", ""),
            ("redis.call('HSET', t, unpack(tokens))", ""),
        ],
        Mutation::NoFence if is_work => &[("if fences[i] == ARGV[from + 1] then", "if true then")],
        Mutation::NoFence if is_renew => {
            &[("if fences[i] == ARGV[2 * i + 1] then", "if true then")]
        }
        _ => &[],
    };
    let edited = edits.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "the script has no `{from}`");
        text.replace(from, to)
    });
    edited.into_bytes()
}

impl Call {
    /// Reads what a call is.
    fn new(call: Wire) -> Self {
        let Wire::Array(words) = call else {
            return Call::default();
        };
        let words: Vec<Vec<u8>> = words
            .into_iter()
            .map(|word| match word {
                Wire::Bulk(Some(word)) => word,
                _ => Vec::new(),
            })
            .collect();
        let is_script = words
            .first()
            .is_some_and(|name| name == b"EVALSHA" || name == b"EVAL");
        let keys = || words.get(2).and_then(|keys| str::from_utf8(keys).ok());
        let first = || words.get(3).and_then(|key| key.last().copied());
        let script = match (is_script, is_script.then(keys).flatten()) {
            (true, Some("9")) => Some(Kind::Work),
            // `cancel` has as many keys, the last of which are others.
            (true, Some("8")) if words[10].ends_with(b":w") => Some(Kind::Emit),
            (true, Some("4")) if first() == Some(b'l') => Some(Kind::Renew),
            _ => None,
        };
        Call { words, script }
    }

    /// The argument of a script.
    fn argument(&self, at: usize) -> Option<&[u8]> {
        let keys: usize = str::from_utf8(self.words.get(2)?).ok()?.parse().ok()?;
        self.words.get(3 + keys + at).map(Vec::as_slice)
    }

    /// The argument of a script as a number.
    fn number(&self, at: usize) -> u64 {
        let text = self.argument(at).and_then(|text| str::from_utf8(text).ok());
        text.and_then(|text| text.parse().ok()).unwrap_or_default()
    }
}

/// Writes a call.
fn write(words: &[Vec<u8>]) -> Vec<u8> {
    let mut raw = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        raw.extend(format!("${}\r\n", word.len()).bytes());
        raw.extend(word);
        raw.extend(b"\r\n");
    }
    raw
}

/// Reads one value, and the bytes that it was.
fn read(from: &mut impl BufRead) -> io::Result<(Wire, Vec<u8>)> {
    let mut raw = Vec::new();
    let value = read_value(from, &mut raw)?;
    Ok((value, raw))
}

/// Reads one value.
fn read_value(from: &mut impl BufRead, raw: &mut Vec<u8>) -> io::Result<Wire> {
    let start = raw.len();
    if from.read_until(b'\n', raw)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let line = String::from_utf8_lossy(&raw[start..]).trim_end().to_owned();
    let count = || line[1..].parse::<i64>().unwrap_or(-1);
    match line.as_bytes().first() {
        Some(b'$') => match usize::try_from(count()) {
            Ok(length) => {
                let start = raw.len();
                raw.resize(start + length + 2, 0);
                from.read_exact(&mut raw[start..])?;
                Ok(Wire::Bulk(Some(raw[start..start + length].to_vec())))
            }
            Err(_) => Ok(Wire::Bulk(None)),
        },
        Some(b'*') => {
            let count = usize::try_from(count()).unwrap_or(0);
            let values = (0..count).map(|_| read_value(from, raw));
            Ok(Wire::Array(values.collect::<io::Result<_>>()?))
        }
        _ => Ok(Wire::Line(line)),
    }
}
