//! A socket, plain or under TLS, between a reactor and a session. The session sees the same bytes in both cases.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use super::net::{Input, TcpStream};
#[cfg(feature = "tls")]
use super::tls::{Secure, Tls};

/// What the connections of a listener are put under.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layer {
    /// TLS, unless they are plain.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Tls>,
}

#[cfg_attr(
    not(feature = "tls"),
    expect(
        clippy::unused_self,
        reason = "without the feature all channels are plain"
    )
)]
impl Layer {
    /// Returns the channel of a connection that was accepted.
    pub(crate) fn wrap(&self, stream: TcpStream) -> Channel {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return Channel::secure(stream, tls.accept());
        }
        Channel::plain(stream)
    }
}

/// Where a channel reads to: the buffers that the connections of a reactor share.
pub(crate) struct Scratch {
    /// What the session is given.
    pub(crate) clear: Box<[u8]>,
    /// What a socket under TLS yields; empty before the first.
    #[cfg(feature = "tls")]
    sealed: Box<[u8]>,
}

impl Scratch {
    /// Creates buffers for reads of at most `len` bytes.
    pub(crate) fn new(len: usize) -> Self {
        Scratch {
            clear: vec![0; len].into_boxed_slice(),
            #[cfg(feature = "tls")]
            sealed: Box::default(),
        }
    }
}

/// A socket, plain or under TLS.
#[derive(Debug)]
pub(crate) struct Channel {
    /// The socket.
    pub(crate) stream: TcpStream,
    /// TLS.
    #[cfg(feature = "tls")]
    secure: Option<Box<Secure>>,
}

#[cfg_attr(
    not(feature = "tls"),
    expect(
        clippy::unused_self,
        reason = "without the feature all channels are plain"
    )
)]
impl Channel {
    /// Creates the channel of a socket without TLS.
    pub(crate) fn plain(stream: TcpStream) -> Self {
        Channel {
            stream,
            #[cfg(feature = "tls")]
            secure: None,
        }
    }

    /// Creates the channel of a socket under TLS, whose handshake follows.
    #[cfg(feature = "tls")]
    pub(crate) fn secure(stream: TcpStream, secure: Secure) -> Self {
        Channel {
            stream,
            secure: Some(Box::new(secure)),
        }
    }

    /// Returns whether the channel is under TLS.
    pub(crate) fn is_secure(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.secure.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    /// Returns whether bytes of the session can pass: not before the handshake of TLS is complete.
    pub(crate) fn is_ready(&self) -> bool {
        #[cfg(feature = "tls")]
        if let Some(secure) = &self.secure {
            return secure.is_ready();
        }
        true
    }

    /// Returns how many bytes wait for the socket that the session has given, or that TLS adds.
    pub(crate) fn held(&self) -> usize {
        #[cfg(feature = "tls")]
        if let Some(secure) = &self.secure {
            return secure.held();
        }
        0
    }

    /// Returns whether a record of TLS has come in part.
    pub(crate) fn is_partial(&self) -> bool {
        #[cfg(feature = "tls")]
        if let Some(secure) = &self.secure {
            return secure.is_partial();
        }
        false
    }

    /// Reads once.
    pub(crate) fn read(&mut self, scratch: &mut Scratch) -> io::Result<Input> {
        #[cfg(feature = "tls")]
        if let Some(secure) = &mut self.secure {
            let Scratch { clear, sealed } = scratch;
            return secure.read(&mut self.stream, clear, sealed);
        }
        let count = self.stream.read(&mut scratch.clear)?;
        if count == 0 {
            return Ok(Input::End);
        }
        Ok(Input::Bytes {
            count,
            taken: count,
            is_short: count < scratch.clear.len(),
        })
    }

    /// Writes what is held, then some of `slices`. Returns how many bytes of `slices` were taken, which may be held.
    pub(crate) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Some(secure) = &mut self.secure {
            let taken = secure.write(&mut self.stream, slices)?;
            if secure.is_over() {
                let _ = self.stream.shutdown(Shutdown::Write);
            }
            return Ok(taken);
        }
        match slices {
            // Most often, and cheaper.
            [one] => self.stream.write(one),
            several => self.stream.write_vectored(several),
        }
    }

    /// Ends this direction, after what is held and the notice of TLS. A socket that is gone is seen by the next read.
    pub(crate) fn end(&mut self) {
        #[cfg(feature = "tls")]
        if let Some(secure) = &mut self.secure {
            secure.end(&mut self.stream);
            if !secure.is_over() {
                return;
            }
        }
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}
