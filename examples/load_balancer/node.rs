//! A node: a process that answers requests and beats over UDP.

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

/// The role of a node, which is the first line of its input. It is not passed as an argument, because every user of the
/// machine can read arguments.
pub(crate) struct Role {
    /// The name.
    pub(crate) name: Name,
    /// The key with which it signs.
    pub(crate) key: Key,
    /// The address of its keeper.
    pub(crate) keeper: SocketAddr,
    /// The time between two beats.
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
            return Err("a role consists of name, keeper, interval and key".into());
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

/// The messages of a node to its keeper.
struct Voice {
    /// Connected to the keeper, so that a send fails if the keeper's port is closed.
    socket: UdpSocket,
    /// The key that signs the messages.
    key: Key,
    /// The last message, except for its number and kind.
    message: Message,
    /// The number of the next message.
    number: AtomicU64,
}

impl Voice {
    /// Sends a message.
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

/// Runs the node until its input ends.
pub(crate) fn run() -> Result<(), Failure> {
    // If the keeper is killed while this process is suspended, the process would never notice the end of its input.
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    let mut lines = io::stdin().lock().lines();
    let role: Role = lines.next().ok_or("the role is missing")??.parse()?;
    let service = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(role.keeper)?;
    let message = Message {
        node: role.name,
        kind: Kind::Beat,
        // Must grow from start to start. If the clock may be set back, count the starts in a file instead.
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
        // The first beat at once, so that requests arrive soon.
        .phase(Duration::ZERO)
        // Less than the default, so that intervals of 4 units stay well below the timeout of 5, and intervals of 6 well
        // above.
        .jitter(0.05)
        .goodbye(move || goodbye.say(Kind::Goodbye))
        .start(move || beats.say(Kind::Beat))?;
    match lines.next() {
        Some(Ok(line)) if line == "leave" => pacemaker.stop(),
        // The keeper has ended, so no goodbye is sent.
        _ => std::mem::forget(pacemaker),
    }
    Ok(())
}

/// Answers each request with its own content.
fn answer(service: &UdpSocket) {
    let mut buffer = [0; 64];
    loop {
        // This fails if the previous answer went to a closed port.
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
