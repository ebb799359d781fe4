//! A bare loop that writes the bytes back as they came.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use peers::Failure;

/// The token of the listener.
const LISTENER: Token = Token(usize::MAX);

/// Is the server.
pub(super) fn run() -> Result<(), Failure> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        if let Err(error) = serve(listener) {
            eprintln!("{error}");
        }
    });
    super::ready(port, |_| Ok(()))
}

/// Accepts and echoes.
fn serve(mut listener: TcpListener) -> io::Result<()> {
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1_024);
    // With what could not be written yet.
    let mut streams: Vec<Option<(TcpStream, Vec<u8>)>> = Vec::new();
    let mut scratch = vec![0; 64 << 10];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    let token = Token(streams.len());
                    poll.registry().register(&mut stream, token, interest)?;
                    streams.push(Some((stream, Vec::new())));
                }
                continue;
            }
            let slot = &mut streams[event.token().0];
            let is_over = slot.as_mut().is_some_and(|(stream, rest)| {
                let has_ended = event.is_readable() && echo(stream, rest, &mut scratch).is_err();
                has_ended || event.is_writable() && flush(stream, rest).is_err()
            });
            if is_over {
                *slot = None;
            }
        }
    }
}

/// Reads what there is, and writes it back.
fn echo(stream: &mut TcpStream, rest: &mut Vec<u8>, scratch: &mut [u8]) -> io::Result<()> {
    loop {
        let count = match stream.read(scratch) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut written = 0;
        if rest.is_empty() {
            match stream.write(&scratch[..count]) {
                Ok(some) => written = some,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        rest.extend_from_slice(&scratch[written..count]);
        if count < scratch.len() {
            return Ok(());
        }
    }
}

/// Writes what could not be written before.
fn flush(stream: &mut TcpStream, rest: &mut Vec<u8>) -> io::Result<()> {
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(count) => drop(rest.drain(..count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    *rest = Vec::new();
    Ok(())
}
