//! The client's side of the upgrade: the request, and what the answer must say.

use std::fmt::Write;

use super::{MAX_HEADERS, accept_of, base64};

/// The longest text of a refusal that is kept, bytes.
const MAX_TEXT: usize = 120;

/// What the answer to an upgrade request must prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upgrade {
    /// The key of the request.
    key: String,
    /// The subprotocol that is offered.
    subprotocol: &'static str,
}

/// Why an answer opens no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// The server answered with another status than 101, and with this text.
    Status(u16, String),
    /// The answer is none to this request.
    Broken(&'static str),
}

impl Upgrade {
    /// Creates the upgrade with a random `nonce`.
    pub(crate) fn new(nonce: [u8; 16], subprotocol: &'static str) -> Self {
        Upgrade {
            key: base64(&nonce),
            subprotocol,
        }
    }

    /// Returns the request for `target` at `host`, with further headers, which must be valid.
    pub(crate) fn request(
        &self,
        host: &str,
        target: &str,
        headers: &[(String, String)],
    ) -> Vec<u8> {
        let Upgrade { key, subprotocol } = self;
        let mut request = format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: {subprotocol}\r\n"
        );
        for (name, value) in headers {
            // Writing to a string does not fail.
            let _ = write!(request, "{name}: {value}\r\n");
        }
        request.push_str("\r\n");
        request.into_bytes()
    }

    /// Reads the answer at the front of `bytes`. Returns its length if the connection is open, or `None` if it is
    /// incomplete. At most `max` bytes of it are read.
    ///
    /// # Errors
    ///
    /// Returns why it opens no connection.
    pub(crate) fn check(&self, bytes: &[u8], max: usize) -> Result<Option<usize>, Rejected> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut answer = httparse::Response::new(&mut headers);
        let length = match answer.parse(&bytes[..bytes.len().min(max)]) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() >= max => {
                return Err(Rejected::Broken("the answer to the upgrade is too long"));
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => {
                return Err(Rejected::Broken(
                    "the answer is not HTTP; does the port speak WebSocket?",
                ));
            }
        };
        let values = |name: &'static str| {
            let headers = answer.headers.iter();
            let named = headers.filter(move |it| it.name.eq_ignore_ascii_case(name));
            named.map(|it| str::from_utf8(it.value).unwrap_or_default().trim())
        };
        let status = answer.code.unwrap_or_default();
        if status != 101 {
            let text = match values("location").next() {
                Some(location) if (300..400).contains(&status) => {
                    format!("redirects are not followed; the server names {location}")
                }
                _ => text_of(
                    &bytes[length.min(bytes.len())..],
                    answer.reason.unwrap_or_default(),
                ),
            };
            return Err(Rejected::Status(status, text));
        }
        let has = |name, token: &str| {
            let mut tokens = values(name).flat_map(|value| value.split(','));
            tokens.any(|it| it.trim().eq_ignore_ascii_case(token))
        };
        if !has("upgrade", "websocket") || !has("connection", "upgrade") {
            return Err(Rejected::Broken("the answer upgrades to no WebSocket"));
        }
        let mut accepts = values("sec-websocket-accept");
        if accepts.next() != Some(&accept_of(&self.key)) || accepts.next().is_some() {
            return Err(Rejected::Broken(
                "`Sec-WebSocket-Accept` does not fit the key of the request",
            ));
        }
        if values("sec-websocket-extensions").any(|it| !it.is_empty()) {
            return Err(Rejected::Broken(
                "the server uses an extension that was not offered",
            ));
        }
        if values("sec-websocket-protocol").any(|it| it != self.subprotocol) {
            return Err(Rejected::Broken(
                "the server chose a subprotocol that was not offered",
            ));
        }
        Ok(Some(length))
    }
}

/// Returns the first line of `body`, if it has come, or `reason`.
fn text_of(body: &[u8], reason: &str) -> String {
    let line = body.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = str::from_utf8(line).map(str::trim).unwrap_or_default();
    let text = if line.is_empty() { reason } else { line };
    text.chars()
        .filter(|it| !it.is_control())
        .take(MAX_TEXT)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The upgrade of the standard's example.
    fn upgrade() -> Upgrade {
        Upgrade::new(*b"the sample nonce", "liveness.json")
    }

    /// An answer with these lines.
    fn answer(lines: &[&str]) -> Vec<u8> {
        format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes()
    }

    const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    #[test]
    fn the_request_is_what_the_servers_side_accepts() {
        let headers = [("Authorization".to_owned(), "Bearer x".to_owned())];
        let request = upgrade().request("host:1", "/game?a=b", &headers);
        let peer = "192.0.2.1:1".parse().unwrap();
        let policy = super::super::Policy::default();
        let parsed = super::super::parse(&request, 8_192, peer, &policy);
        let Ok(Some((super::super::Asked::Upgrade(parsed), length))) = parsed else {
            panic!("{parsed:?}");
        };
        assert_eq!(length, request.len());
        assert_eq!((parsed.path(), parsed.query()), ("/game", Some("a=b")));
        assert_eq!(parsed.header("authorization"), Some("Bearer x"));
        assert_eq!(
            parsed.header("sec-websocket-key"),
            Some("dGhlIHNhbXBsZSBub25jZQ==")
        );
        let answer = super::super::accepted(&parsed, Some("liveness.json"));
        assert_eq!(upgrade().check(&answer, 8_192), Ok(Some(answer.len())));
        for end in 0..answer.len() {
            assert_eq!(upgrade().check(&answer[..end], 8_192), Ok(None), "{end}");
        }
    }

    #[test]
    fn an_answer_must_prove_that_the_request_was_read() {
        let good = [
            "HTTP/1.1 101 Switching",
            "Upgrade: WebSocket",
            "Connection: keep-alive, upgrade",
            ACCEPT,
        ];
        let check = |lines: &[&str]| upgrade().check(&answer(lines), 8_192);
        assert!(matches!(check(&good), Ok(Some(_))));
        for left_out in 1..good.len() {
            let mut lines = good.to_vec();
            lines.remove(left_out);
            assert!(matches!(check(&lines), Err(Rejected::Broken(_))));
        }
        for more in [
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            "Sec-WebSocket-Extensions: permessage-deflate",
            "Sec-WebSocket-Protocol: liveness.msgpack",
        ] {
            let lines = [&good[..], &[more]].concat();
            assert!(matches!(check(&lines), Err(Rejected::Broken(_))), "{more}");
        }
        let other = good.map(|it| {
            if it == ACCEPT {
                "Sec-WebSocket-Accept: x"
            } else {
                it
            }
        });
        assert!(matches!(check(&other), Err(Rejected::Broken(_))));
        let broken = upgrade().check(b"\0\x19{\"type\":\"Ping\"}", 8_192);
        assert!(matches!(broken, Err(Rejected::Broken(why)) if why.contains("not HTTP")));
        let long = [&answer(&good)[..20], &[b'a'; 200]].concat();
        assert!(matches!(
            upgrade().check(&long, 200),
            Err(Rejected::Broken(_))
        ));
    }

    #[test]
    fn a_refusal_says_its_status_and_a_text() {
        let refused = super::super::Answer::new(401).to_bytes(false);
        let expected = Err(Rejected::Status(401, "Unauthorized".to_owned()));
        assert_eq!(upgrade().check(&refused, 8_192), expected);
        let moved = answer(&["HTTP/1.1 302 Found", "Location: ws://other/"]);
        let Err(Rejected::Status(302, text)) = upgrade().check(&moved, 8_192) else {
            panic!("a redirect is a refusal");
        };
        assert_eq!(
            text,
            "redirects are not followed; the server names ws://other/"
        );
        let bare = answer(&["HTTP/1.1 503 Busy"]);
        let expected = Err(Rejected::Status(503, "Busy".to_owned()));
        assert_eq!(upgrade().check(&bare, 8_192), expected);
    }
}
