//! What many clients in one process cost: memory, processor time when idle, and how late each finds its server offline.
//!
//! ```text
//! cargo bench --features client,json --bench clients          # 1,000 clients, about half a minute
//! cargo bench --features client,json --bench clients -- 5000  # another number of clients
//! ```
//!
//! The server is another process, which is stopped by a signal for the last part.

use std::error::Error;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, fs, thread};

use liveness::client::{Client, LinkError, State};
use liveness::server::{Json, Server};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

type Failure = Box<dyn Error + Send + Sync>;

/// What makes this program the server.
const ROLE: &str = "LIVENESS_BENCH_SERVER";

/// After how much silence a client pings.
const PING_AFTER: Duration = Duration::from_secs(1);

/// How many pings are not answered before a server is offline.
const PINGS: u32 = 3;

/// How long the processor time of idle clients is measured.
const IDLE: Duration = Duration::from_secs(10);

/// Ticks of the processor time in `/proc/self/stat` in a second.
const TICKS: f64 = 100.0;

/// The memory of this process in bytes: its own pages, and its part of shared ones.
fn memory() -> Result<f64, Failure> {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib: f64 = line
        .and_then(|line| line.split_whitespace().next())
        .ok_or("no Pss")?
        .parse()?;
    Ok(kib * 1_024.0)
}

/// The processor time of this process in seconds.
fn cpu() -> Result<f64, Failure> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(") ").next().ok_or("no fields")?;
    let mut fields = fields.split_whitespace().skip(11);
    let (user, system) = (
        fields.next().ok_or("no user")?,
        fields.next().ok_or("no system")?,
    );
    Ok((user.parse::<f64>()? + system.parse::<f64>()?) / TICKS)
}

/// Is a server until the standard input ends.
fn serve() -> Result<(), Failure> {
    let server = Server::<Json, ()>::builder()
        .websocket("127.0.0.1:0")
        .start()?;
    println!("{}", server.local_addrs()[0]);
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Measures `count` clients of the server at `address`, whose process is `server`.
fn measure(count: usize, address: &str, server: Pid) -> Result<(), Failure> {
    let (online, came) = mpsc::channel();
    let (offline, gone) = mpsc::channel();
    let start = || {
        let (online, offline) = (online.clone(), offline.clone());
        Client::<Json>::builder(format!("ws://{address}/"))
            .unanswered(PING_AFTER, PINGS)
            .state(move |_, state| {
                // The receiver is gone at the end.
                let _ = match state {
                    State::Online { .. } => online.send(()).is_ok(),
                    State::Offline {
                        error: LinkError::Ended(closed),
                        ..
                    } => offline.send((closed.silent, closed.late)).is_ok(),
                    _ => true,
                };
            })
            .start()
    };
    // The threads of the process are not counted.
    let mut clients = vec![start()?];
    came.recv()?;
    let before = memory()?;
    for _ in 0..count {
        clients.push(start()?);
    }
    for _ in 0..count {
        came.recv()?;
    }
    let each = (memory()? - before) / count as f64;
    println!("memory: {each:.0} bytes each, beside those of the kernel");

    let before = cpu()?;
    thread::sleep(IDLE);
    let share = (cpu()? - before) / IDLE.as_secs_f64();
    println!(
        "idle, each pings every {PING_AFTER:?}: {:.1} % of a core",
        share * 100.0
    );

    kill(server, Signal::SIGSTOP)?;
    let deadline = PING_AFTER * (PINGS + 1);
    let mut late = Vec::new();
    for _ in 0..=count {
        let (silent, by) = gone.recv_timeout(deadline * 4)?;
        if silent < deadline {
            return Err(format!("a verdict after {silent:?}, which is early").into());
        }
        late.push(by);
    }
    late.sort();
    let at = |percent: usize| late[(late.len() - 1) * percent / 100];
    println!(
        "verdict {deadline:?} after the last byte, late by {:.3?} at p50, {:.3?} at p99, {:.3?} at most",
        at(50),
        at(99),
        at(100)
    );
    Ok(())
}

fn main() -> Result<(), Failure> {
    if env::var_os(ROLE).is_some() {
        return serve();
    }
    // `cargo bench` adds arguments of its own.
    let count = env::args().find_map(|it| it.parse().ok()).unwrap_or(1_000);
    let mut server = Command::new(env::current_exe()?)
        .env(ROLE, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut address = String::new();
    BufReader::new(server.stdout.take().ok_or("no output")?).read_line(&mut address)?;
    let measured = measure(
        count,
        address.trim(),
        Pid::from_raw(server.id().cast_signed()),
    );
    // It may have ended.
    let _ = server.kill();
    server.wait()?;
    measured
}
