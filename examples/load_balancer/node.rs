//! A node: a process of its own that answers requests, and beats over UDP as long as it lives.

use std::io::{self, BufRead};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fmt, thread};

use liveness::pacemaker::Pacemaker;

use crate::Failure;
use crate::wire::{self, Key, Kind, Message, Name};

/// What a node is to be: the first line of its input. Not its arguments, which everybody on the machine can read.
pub(crate) struct Role {
    /// What it is called.
    pub(crate) name: Name,
    /// What it signs with.
    pub(crate) key: Key,
    /// Where its keeper listens.
    pub(crate) keeper: SocketAddr,
    /// From beat to beat.
    pub(crate) interval: Duration,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interval = self.interval.as_millis();
        write!(f, "{} {} {interval} ", self.name, self.keeper)?;
        self.key
            .0
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Role {
    type Err = Failure;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[name, keeper, interval, hex] = &words[..] else {
            return Err("a node wants its name, its keeper, its interval and its key".into());
        };
        let mut key = [0; 32];
        for (at, byte) in key.iter_mut().enumerate() {
            let digits = hex.get(2 * at..2 * at + 2);
            *byte = u8::from_str_radix(digits.ok_or("the key is too short")?, 16)?;
        }
        Ok(Role {
            name: name.into(),
            key: Key(key),
            keeper: keeper.parse()?,
            interval: Duration::from_millis(interval.parse()?),
        })
    }
}

/// What a node tells its keeper.
struct Voice {
    /// Connected to the keeper, so that a send fails where nobody listens.
    socket: UdpSocket,
    /// Signs.
    key: Key,
    /// Said last, but for its number and kind.
    message: Message,
    /// The number of the next message.
    number: AtomicU64,
}

impl Voice {
    /// Says it.
    fn say(&self, kind: Kind) -> io::Result<()> {
        let message = Message {
            kind,
            number: self.number.fetch_add(1, Ordering::Relaxed),
            ..self.message.clone()
        };
        self.socket
            .send(&wire::encode(&message, &self.key))
            .map(drop)
    }
}

/// Is the node until its input ends.
pub(crate) fn run() -> Result<(), Failure> {
    // Should the keeper be killed while this process is stopped, its input could end for ever and it would not notice.
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    let mut lines = io::stdin().lock().lines();
    let role: Role = lines.next().ok_or("nobody says what to be")??.parse()?;
    let service = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(role.keeper)?;
    let message = Message {
        node: role.name,
        kind: Kind::Beat,
        // Must grow from start to start. Where the clock may be set back between two, count the starts in a file instead.
        epoch: SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64,
        number: 0,
        address: service.local_addr()?,
    };
    thread::spawn(move || answer(&service));
    let beats = Arc::new(Voice {
        socket,
        key: role.key,
        message,
        number: AtomicU64::new(0),
    });
    let goodbye = beats.clone();
    let pacemaker = Pacemaker::every(role.interval)
        // Wants its first request soon.
        .phase(Duration::ZERO)
        // Less than by default, so that who beats every 4 units stays well below 5, and who beats every 6 well above.
        .jitter(0.05)
        .goodbye(move || goodbye.say(Kind::Goodbye))
        .start(move || beats.say(Kind::Beat))?;
    match lines.next() {
        Some(Ok(line)) if line == "leave" => pacemaker.stop(),
        // The keeper is no more, and there is nobody to say goodbye to.
        _ => std::mem::forget(pacemaker),
    }
    Ok(())
}

/// Sends each request back.
fn answer(service: &UdpSocket) {
    let mut buffer = [0; 64];
    loop {
        // It fails if the one before was answered to nobody.
        if let Ok((length, client)) = service.recv_from(&mut buffer) {
            _ = service.send_to(&buffer[..length], client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_read_as_it_was_written() {
        let key = "00ff".repeat(16);
        let line = format!("ant 127.0.0.1:80 250 {key}");
        let role: Role = line.parse().unwrap();
        assert_eq!(role.interval, Duration::from_millis(250));
        assert_eq!(role.key.0[..3], [0, 255, 0]);
        assert_eq!(role.to_string(), line);
        for wrong in [
            "",
            "ant 127.0.0.1:80 250",
            "ant 127.0.0.1:80 250 00ff",
            "ant here 250 00",
        ] {
            assert!(wrong.parse::<Role>().is_err(), "{wrong}");
        }
    }
}
