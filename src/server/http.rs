//! The upgrade request of a WebSocket connection, and the answers to it.

mod forwarded;
mod origin;
#[cfg(feature = "client")]
pub(crate) mod upgrade;

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::str;

pub use forwarded::{Network, NetworkError};
pub use origin::Origins;

use super::codec::Codec;

/// The most headers of a request.
const MAX_HEADERS: usize = 64;

/// What RFC 6455 appends to the key of a request before it takes the digest.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The path of the answer for load balancers.
const HEALTH: &str = "/healthz";

/// What is asked of upgrade requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy {
    /// The paths that exist; any if empty.
    pub(crate) paths: Vec<String>,
    /// The paths of requests that are answered.
    pub(crate) pages: Vec<String>,
    /// The pages that may connect.
    pub(crate) origins: Origins,
    /// The proxies whose word about the peer's address is taken.
    pub(crate) trusted_proxies: Vec<Network>,
}

/// The upgrade request of a WebSocket connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The path, without the query.
    path: String,
    /// The query.
    query: Option<String>,
    /// The headers, in their order, with names in lower case.
    headers: Vec<(String, String)>,
    /// The other end of the socket.
    peer: SocketAddr,
    /// The address of the client.
    client: IpAddr,
}

impl Request {
    /// Returns the path, without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns what follows the question mark.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Returns the value of the first header `name`, whose case does not matter. Values that are not UTF-8 contain
    /// replacement characters.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// Returns the headers in their order, with names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns the other end of the socket, which may be a proxy.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Returns the address of the client: that of the socket, or what a trusted proxy says in `X-Forwarded-For`.
    #[must_use]
    pub fn client(&self) -> IpAddr {
        self.client
    }

    /// Returns the subprotocols that the client offers, the preferred one first.
    pub fn subprotocols(&self) -> impl Iterator<Item = &str> {
        self.tokens("sec-websocket-protocol")
    }

    /// Returns the values of the headers `name`, whose case does not matter.
    fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let headers = self.headers.iter();
        let named = headers.filter(move |(it, _)| it.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    /// Returns the elements of the lists in the headers `name`.
    fn tokens(&self, name: &str) -> impl Iterator<Item = &str> {
        let elements = self.values(name).flat_map(|value| value.split(','));
        elements.map(str::trim).filter(|token| !token.is_empty())
    }

    /// Returns whether a list in the headers `name` has the element `token`, whose case does not matter.
    fn has_token(&self, name: &str, token: &str) -> bool {
        self.tokens(name).any(|it| it.eq_ignore_ascii_case(token))
    }

    /// Returns the codec of the first subprotocol that stands for one, and its name.
    pub(crate) fn pick<C: Codec>(&self) -> Option<(C, &'static str)> {
        let codec = self.subprotocols().find_map(C::pick)?;
        Some((codec, codec.subprotocol()))
    }
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A connection.
    Upgrade(Box<Request>),
    /// The answer of the program.
    Page(Box<Request>),
    /// Whether the server takes connections.
    Health,
}

/// Reads the request at the front of `bytes`. Returns it with its length, or `None` if it is incomplete.
///
/// # Errors
///
/// Returns the HTTP status that refuses it.
pub(crate) fn parse(
    bytes: &[u8],
    max: usize,
    peer: SocketAddr,
    policy: &Policy,
) -> Result<Option<(Asked, usize)>, u16> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(&bytes[..bytes.len().min(max)]) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() >= max => return Err(431),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(431),
        Err(_) => return Err(400),
    };
    let is_head = parsed.method == Some("HEAD");
    if !is_head && parsed.method != Some("GET") {
        return Err(405);
    }
    let target = parsed.path.unwrap_or_default();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    let text = |value| String::from_utf8_lossy(value).trim().to_owned();
    let headers = parsed.headers.iter();
    let headers = headers.map(|it| (it.name.to_ascii_lowercase(), text(it.value)));
    let mut request = Request {
        path: path.to_owned(),
        query,
        headers: headers.collect(),
        peer,
        client: peer.ip(),
    };
    request.client = forwarded::client(
        peer.ip(),
        &request.tokens("x-forwarded-for").collect::<Vec<_>>(),
        &policy.trusted_proxies,
    );
    let is_upgrade = request.has_token("upgrade", "websocket");
    if !is_upgrade && policy.pages.iter().any(|it| it == path) {
        return Ok(Some((Asked::Page(Box::new(request)), length)));
    }
    if path == HEALTH && !is_upgrade {
        return Ok(Some((Asked::Health, length)));
    }
    if !policy.paths.is_empty() && !policy.paths.iter().any(|it| it == path) {
        return Err(404);
    }
    if !is_upgrade || !request.has_token("connection", "upgrade") {
        return Err(426);
    }
    if is_head {
        return Err(405);
    }
    if parsed.version != Some(1) || request.values("host").count() != 1 {
        return Err(400);
    }
    if request.header("sec-websocket-version") != Some("13") {
        return Err(426);
    }
    let keys: Vec<&str> = request.values("sec-websocket-key").collect();
    if keys.len() != 1 || !is_key(keys[0]) {
        return Err(400);
    }
    if !policy.origins.admit(
        request.header("origin"),
        request.header("host").unwrap_or_default(),
    ) {
        return Err(403);
    }
    Ok(Some((Asked::Upgrade(Box::new(request)), length)))
}

/// Returns whether `key` is 16 bytes in base64.
fn is_key(key: &str) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    key.len() == 24 && key.ends_with("==") && key.as_bytes()[..22].iter().all(is_letter)
}

/// Returns the answer that accepts `request`.
pub(crate) fn accepted(request: &Request, subprotocol: Option<&str>) -> Vec<u8> {
    let key = request.header("sec-websocket-key").unwrap_or_default();
    let mut answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\n\
         Upgrade: websocket\r\n\
         Connection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n",
        accept_of(key)
    );
    if let Some(subprotocol) = subprotocol {
        answer.push_str("Sec-WebSocket-Protocol: ");
        answer.push_str(subprotocol);
        answer.push_str("\r\n");
    }
    answer.push_str("\r\n");
    answer.into_bytes()
}

/// Returns what proves that the request with `key` was read.
fn accept_of(key: &str) -> String {
    let digest = sha1_smol::Sha1::from(format!("{key}{GUID}")).digest();
    base64(&digest.bytes())
}

/// Returns `bytes` in base64.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let group = u32::from_be_bytes(group);
        for index in 0..4 {
            let letter = LETTERS[(group >> (18 - 6 * index)) as usize & 63];
            text.push(if index > chunk.len() {
                '='
            } else {
                letter.into()
            });
        }
    }
    text
}

/// An answer other than 101, after which the connection is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// What the body says.
    pub(crate) text: Cow<'static, str>,
    /// When the client may come again, seconds.
    pub(crate) retry_after: Option<u32>,
    /// The content type and the body that come in place of the text.
    pub(crate) content: Option<(Cow<'static, str>, Vec<u8>)>,
}

impl Answer {
    /// Creates the answer with this status.
    pub(crate) fn new(status: u16) -> Self {
        Answer {
            status,
            text: phrase(status).into(),
            retry_after: matches!(status, 429 | 503).then_some(1),
            content: None,
        }
    }

    /// Returns the bytes of the answer. The answer to a `HEAD` request has no body, but its length.
    pub(crate) fn to_bytes(&self, is_head: bool) -> Vec<u8> {
        let status = self.status;
        let text = format!("{}\n", self.text).into_bytes();
        let (kind, body) = match &self.content {
            Some((kind, body)) => (&**kind, body),
            None => ("text/plain; charset=utf-8", &text),
        };
        let mut answer = format!(
            "HTTP/1.1 {status} {}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n",
            phrase(status),
            body.len()
        );
        if self.content.is_some() {
            answer.push_str("Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n");
        }
        match status {
            405 => answer.push_str("Allow: GET, HEAD\r\n"),
            426 => answer.push_str("Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"),
            _ => {}
        }
        let retry = self.retry_after;
        let retry = retry.map(|seconds| format!("Retry-After: {seconds}\r\n"));
        answer.push_str(&retry.unwrap_or_default());
        answer.push_str("\r\n");
        let mut answer = answer.into_bytes();
        if !is_head {
            answer.extend_from_slice(body);
        }
        answer
    }
}

/// The answer to a request of [`ServerBuilder::get`](super::ServerBuilder::get): a status, a content type and a body.
///
/// ```
/// use liveness::server::Response;
///
/// let page = Response::new("text/html; charset=utf-8", "<!doctype html><p>Hello");
/// let missing = Response::new("text/plain", "no such thing").status(404);
/// # drop((page, missing));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Response {
    /// The answer.
    pub(crate) answer: Answer,
}

impl Response {
    /// Creates a response with status 200, which caches do not keep. Characters of `content_type` that a header cannot
    /// have are left out.
    pub fn new(content_type: impl Into<Cow<'static, str>>, body: impl Into<Vec<u8>>) -> Self {
        let mut content_type = content_type.into();
        if content_type.contains(|letter: char| letter.is_control()) {
            content_type.to_mut().retain(|letter| !letter.is_control());
        }
        let mut answer = Answer::new(200);
        answer.content = Some((content_type, body.into()));
        Response { answer }
    }

    /// Sets the status, such as 404. A number that is not from 200 to 599 becomes 500.
    pub fn status(mut self, status: u16) -> Self {
        let status = if (200..600).contains(&status) {
            status
        } else {
            500
        };
        self.answer = Answer {
            content: self.answer.content,
            ..Answer::new(status)
        };
        self
    }
}

/// Returns the words of a status.
fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        201..400 => "Done",
        _ => "Refused",
    }
}

#[cfg(test)]
mod tests;
