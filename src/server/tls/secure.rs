//! TLS of one connection, without its socket: a thin layer over `rustls`.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::time::Duration;

use rustls::{CertificateError, Connection, Error, InvalidMessage};

use super::super::net::Input;

/// The most bytes of a record, which are encrypted at once: a ping waits for at most this much, as it does without TLS.
const RECORD: usize = 16 << 10;

/// TLS of one connection.
pub(crate) struct Secure {
    /// The state machine.
    connection: Connection,
    /// Where the records end that the peer sends.
    records: Records,
    /// How many bytes wait for the socket.
    held: usize,
    /// What the next read yields, after the bytes that came before it.
    next: Option<Input>,
    /// Whether nothing that still comes is of interest.
    is_deaf: bool,
    /// Whether the peer broke the rules.
    is_broken: bool,
    /// Whether this direction was ended.
    is_ended: bool,
}

impl Secure {
    /// Creates the layer of a new connection.
    pub(crate) fn new(mut connection: Connection) -> Self {
        connection.set_buffer_limit(Some(RECORD));
        let mut secure = Secure {
            connection,
            records: Records::default(),
            held: 0,
            next: None,
            is_deaf: false,
            is_broken: false,
            is_ended: false,
        };
        // A client speaks first.
        secure.count_held();
        secure
    }

    /// Returns whether the handshake is complete.
    pub(crate) fn is_ready(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// Returns how many bytes wait for the socket.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Returns whether a record has come in part.
    pub(crate) fn is_partial(&self) -> bool {
        self.records.header_len > 0 || self.records.left > 0
    }

    /// Returns whether this direction was ended, and everything is written.
    pub(crate) fn is_over(&self) -> bool {
        self.is_ended && self.held == 0
    }

    /// Reads once from `socket`, by way of `sealed`, and decrypts to `clear`, which is longer by one record because the
    /// first part of one may have come before.
    pub(crate) fn read(
        &mut self,
        socket: &mut impl Read,
        clear: &mut [u8],
        sealed: &mut Box<[u8]>,
    ) -> io::Result<Input> {
        if let Some(input) = self.next.take() {
            return Ok(input);
        }
        if sealed.is_empty() {
            *sealed = vec![0; clear.len() - RECORD].into_boxed_slice();
        }
        let taken = socket.read(sealed)?;
        if taken == 0 {
            return Ok(Input::End);
        }
        self.records.pass(&sealed[..taken]);
        let mut count = 0;
        let mut rest = &sealed[..taken];
        while !rest.is_empty() && !self.is_deaf {
            let step = self.decrypt(&mut rest);
            // Also after an error there may be bytes that came before it.
            while let Ok(some @ 1..) = self.connection.reader().read(&mut clear[count..]) {
                count += some;
            }
            self.next = match step {
                Ok(false) => None,
                Ok(true) => Some(Input::End),
                Err(why) => {
                    self.is_broken = true;
                    Some(Input::Broken(why))
                }
            };
            self.is_deaf = self.next.is_some();
        }
        // An empty read gives the buffer of a long record back.
        let _ = self.connection.read_tls(&mut Blocked);
        self.count_held();
        Ok(Input::Bytes {
            count,
            taken,
            is_short: taken < sealed.len() && self.next.is_none(),
        })
    }

    /// Takes some of `input`. Returns whether the peer has ended its direction, or how it broke the rules.
    fn decrypt(&mut self, input: &mut &[u8]) -> Result<bool, String> {
        self.connection
            .read_tls(input)
            .map_err(|error| error.to_string())?;
        match self.connection.process_new_packets() {
            Ok(state) => Ok(state.peer_has_closed()),
            Err(Error::InvalidMessage(InvalidMessage::InvalidContentType))
                if self.connection.is_handshaking() =>
            {
                Err("the peer does not use TLS".to_owned())
            }
            Err(Error::InvalidCertificate(error)) => Err(refusal(&error)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Writes to `socket` what is held, then encrypts and writes some of `slices`. Returns how many of their bytes were
    /// taken. Those that nobody can read, because there is no TLS, are taken and dropped.
    pub(crate) fn write(
        &mut self,
        socket: &mut impl Write,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        self.flush(socket)?;
        if self.is_broken || !self.is_ready() {
            return Ok(slices.iter().map(|slice| slice.len()).sum());
        }
        let taken = self.connection.writer().write_vectored(slices)?;
        match self.flush(socket) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    /// Ends this direction, after what is held.
    pub(crate) fn end(&mut self, socket: &mut impl Write) {
        self.is_ended = true;
        // The session drops what still comes, and the state machine must not answer it: nothing follows the notice.
        self.is_deaf = true;
        self.connection.send_close_notify();
        // What is left is tried again by `write`, and an error is seen by the next read.
        let _ = self.flush(socket);
    }

    /// Writes what is held, as far as `socket` accepts it.
    fn flush(&mut self, socket: &mut impl Write) -> io::Result<()> {
        let mut result = Ok(());
        while self.connection.wants_write() && result.is_ok() {
            result = match self.connection.write_tls(socket) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                written => written.map(drop),
            };
        }
        self.count_held();
        result
    }

    /// Counts what waits for the socket.
    fn count_held(&mut self) {
        self.held = if self.connection.wants_write() {
            // Without new input this only counts. After an error it does not, and what waits is a short alert.
            let state = self.connection.process_new_packets();
            state.map_or(1, |state| state.tls_bytes_to_write())
        } else {
            0
        };
    }
}

/// Returns why a certificate is refused, in words.
fn refusal(error: &CertificateError) -> String {
    let between = |from: u64, to: u64| Duration::from_secs(to.saturating_sub(from));
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the certificate was issued by no authority that is trusted here".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, .. } => {
            format!("the certificate is not for `{}`", expected.to_str())
        }
        CertificateError::ExpiredContext { time, not_after } => {
            let since = between(not_after.as_secs(), time.as_secs());
            format!("the certificate expired {since:?} ago")
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            let until = between(time.as_secs(), not_before.as_secs());
            format!("the certificate is not valid yet, but in {until:?}")
        }
        other => {
            let other = other.to_string();
            // The type of this error is that of another crate.
            let hint = if other.contains("CaUsedAsEndEntity") {
                ": a certificate that signs itself needs `basicConstraints=CA:FALSE`"
            } else {
                ""
            };
            format!("the certificate cannot be used: {other}{hint}")
        }
    }
}

/// Where records end: each is a header of five bytes, of which the last two are the length of the rest.
#[derive(Debug, Default)]
struct Records {
    /// What has come of a header.
    header: [u8; 5],
    /// How many bytes of it.
    header_len: usize,
    /// How many bytes of the record are still to come.
    left: usize,
}

impl Records {
    /// Takes the next bytes.
    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let step = self.left.min(bytes.len());
                self.left -= step;
                bytes = &bytes[step..];
                continue;
            }
            let step = (self.header.len() - self.header_len).min(bytes.len());
            self.header[self.header_len..][..step].copy_from_slice(&bytes[..step]);
            self.header_len += step;
            bytes = &bytes[step..];
            if self.header_len == self.header.len() {
                self.left = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
                self.header_len = 0;
            }
        }
    }
}

/// Yields nothing.
struct Blocked;

impl Read for Blocked {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl fmt::Debug for Secure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secure")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_end_where_their_lengths_say_however_they_come() {
        let mut stream = Vec::new();
        let mut ends = Vec::new();
        for len in [0_u16, 1, 5, 300, 0, 16_640] {
            stream.extend_from_slice(&[23, 3, 3]);
            stream.extend_from_slice(&len.to_be_bytes());
            stream.resize(stream.len() + usize::from(len), 7);
            ends.push(stream.len());
        }
        for size in [1, 2, 3, 7, 4_096, stream.len()] {
            let mut records = Records::default();
            let mut passed = 0;
            for bytes in stream.chunks(size) {
                records.pass(bytes);
                passed += bytes.len();
                let is_partial = records.header_len > 0 || records.left > 0;
                assert_eq!(is_partial, !ends.contains(&passed), "{passed} by {size}");
            }
        }
    }
}
