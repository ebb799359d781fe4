//! The bytes of messages, as clients write and read them.

/// What is between client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// TCP, with a length of two bytes before each message.
    Tcp,
    /// WebSocket.
    WebSocket,
}

/// The upgrade request of a client.
const UPGRADE: &[u8] =
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// What a client masks its messages with.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

impl Wire {
    /// What a client says first: an upgrade request, or a message whose echo shows that it was accepted.
    pub(crate) fn hello(self) -> Vec<u8> {
        match self {
            Wire::Tcp => self.request(&envelope("Echo", 2)),
            Wire::WebSocket => UPGRADE.to_vec(),
        }
    }

    /// Returns whether `answer` to the hello is complete.
    ///
    /// # Errors
    ///
    /// Returns an answer that is another one.
    pub(crate) fn is_welcome(self, answer: &[u8]) -> Result<bool, String> {
        let is_right = match self {
            Wire::Tcp => self.hello().starts_with(answer),
            Wire::WebSocket => b"HTTP/1.1 101 "
                .iter()
                .zip(answer)
                .all(|(right, byte)| right == byte),
        };
        if !is_right {
            return Err(format!("it answered {:?}", String::from_utf8_lossy(answer)));
        }
        Ok(match self {
            Wire::Tcp => answer.len() == self.hello().len(),
            Wire::WebSocket => answer.ends_with(b"\r\n\r\n"),
        })
    }

    /// A message of a client.
    pub(crate) fn request(self, text: &str) -> Vec<u8> {
        match self {
            Wire::Tcp => self.reply(text),
            Wire::WebSocket => {
                let mut frame = header(0x81, 0x80, text.len());
                frame.extend_from_slice(&MASK);
                let masked = text.bytes().zip(MASK.iter().cycle());
                frame.extend(masked.map(|(byte, mask)| byte ^ mask));
                frame
            }
        }
    }

    /// A message of the server.
    pub(crate) fn reply(self, text: &str) -> Vec<u8> {
        let mut frame = match self {
            Wire::Tcp => (text.len() as u16).to_be_bytes().to_vec(),
            Wire::WebSocket => header(0x81, 0, text.len()),
        };
        frame.extend_from_slice(text.as_bytes());
        frame
    }
}

/// The beginning of a frame of WebSocket.
fn header(first: u8, mask: u8, len: usize) -> Vec<u8> {
    if len < 126 {
        vec![first, mask + len as u8]
    } else {
        let [high, low] = (len as u16).to_be_bytes();
        vec![first, mask + 126, high, low]
    }
}

/// A pong, which is a sign of life at any time.
pub(crate) fn pong(payload: &[u8]) -> Vec<u8> {
    let mut frame = header(0x8A, 0x80, payload.len());
    // A mask of zeros is one.
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// A message named `name` whose body is `len` bytes of JSON.
pub(crate) fn envelope(name: &str, len: usize) -> String {
    let text: String = ('a'..='z').cycle().take(len - 2).collect();
    format!(r#"{{"type":"{name}","data":"{text}"}}"#)
}

/// The body of an envelope of `len` bytes.
pub(crate) fn body(name: &str, len: usize) -> String {
    "x".repeat(len - envelope(name, 2).len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_length_and_the_mask_of_the_protocol() {
        assert_eq!(Wire::Tcp.request("ab"), b"\0\x02ab");
        assert_eq!(Wire::WebSocket.reply("ab"), b"\x81\x02ab");
        let masked = [b'H' ^ MASK[0], b'e' ^ MASK[1]];
        let frame = [&[0x81, 0x82][..], &MASK, &masked].concat();
        assert_eq!(Wire::WebSocket.request("He"), frame);
        let long = Wire::WebSocket.reply(&"x".repeat(252));
        assert_eq!((&long[..4], long.len()), (&[0x81, 126, 0, 252][..], 256));
        assert_eq!(pong(&[7]), [0x8A, 0x81, 0, 0, 0, 0, 7]);
    }

    #[test]
    fn a_hello_is_answered_completely_or_wrongly() {
        let wire = Wire::WebSocket;
        assert_eq!(wire.is_welcome(b"HTTP/1.1 101 Switching"), Ok(false));
        assert_eq!(wire.is_welcome(b"HTTP/1.1 101 S\r\na: b\r\n\r\n"), Ok(true));
        assert!(wire.is_welcome(b"HTTP/1.1 503").is_err());
        let hello = Wire::Tcp.hello();
        assert_eq!(Wire::Tcp.is_welcome(&hello[..5]), Ok(false));
        assert_eq!(Wire::Tcp.is_welcome(&hello), Ok(true));
        assert_eq!(envelope("News", 2).len() + body("News", 252).len(), 252);
    }
}
