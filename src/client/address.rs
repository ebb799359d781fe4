//! Where a server is: `tcp://host:port` or `ws://host:port/path`, and `tcps://` or `wss://` under TLS.

use std::net::{IpAddr, SocketAddr};

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// The name or the number of the host, without brackets.
    pub(super) host: String,
    /// The port.
    pub(super) port: u16,
    /// The path with the query, on WebSocket.
    pub(super) target: Option<String>,
    /// Whether the connection is under TLS.
    pub(super) is_secure: bool,
}

/// How a URL begins.
const SCHEMES: &str = "begin with `tcp://`, `tcps://`, `ws://` or `wss://`";

impl Address {
    /// Reads `url`.
    ///
    /// # Errors
    ///
    /// Returns what is wrong, and what would be right.
    pub(super) fn parse(url: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = url.split_once("://").ok_or(SCHEMES)?;
        let (is_websocket, is_secure) = match &*scheme.to_ascii_lowercase() {
            "tcp" => (false, false),
            "tcps" => (false, true),
            "ws" => (true, false),
            "wss" => (true, true),
            _ => return Err(SCHEMES),
        };
        if is_secure && !cfg!(feature = "tls") {
            return Err(
                "begin with `tcp://` or `ws://`, unless the feature `tls` of the crate `liveness` is enabled",
            );
        }
        if url.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err("contain no spaces, control characters or letters beyond ASCII");
        }
        if url.contains('#') {
            return Err("contain no fragment");
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err("contain no user or password; use `header(\"Authorization\", …)`");
        }
        if !is_websocket && !target.is_empty() {
            return Err("contain no path after `tcp://host:port`");
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(inner) => {
                let (host, port) = inner
                    .split_once(']')
                    .ok_or("close the bracket of the host")?;
                host.parse::<std::net::Ipv6Addr>()
                    .map_err(|_| "contain an IPv6 address between brackets")?;
                (
                    host,
                    port.strip_prefix(':').or(port.is_empty().then_some("")),
                )
            }
            None => match authority.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    return Err("have brackets around an IPv6 address, such as `[::1]:7000`");
                }
                Some((host, port)) => (host, Some(port)),
                None => (authority, Some("")),
            },
        };
        if host.is_empty() {
            return Err("contain a host");
        }
        let port = match port {
            Some("") if is_websocket => default_port(is_secure),
            Some("") => return Err("contain a port, such as `tcp://host:7000`"),
            Some(port) => port
                .parse()
                .ok()
                .filter(|&port| port > 0)
                .ok_or("contain a port from 1 to 65535")?,
            None => return Err("contain a port after the bracket, such as `[::1]:7000`"),
        };
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Address {
            host: host.to_owned(),
            port,
            target: is_websocket.then(|| format!("{slash}{target}")),
            is_secure,
        })
    }

    /// Returns the value of the header `Host`.
    pub(super) fn host_header(&self) -> String {
        let Address {
            host,
            port,
            is_secure,
            ..
        } = self;
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        if *port == default_port(*is_secure) {
            host
        } else {
            format!("{host}:{port}")
        }
    }

    /// Returns the address, if the host is a number.
    pub(super) fn number(&self) -> Option<SocketAddr> {
        let ip: IpAddr = self.host.parse().ok()?;
        Some(SocketAddr::new(ip, self.port))
    }
}

/// Returns the port of WebSocket.
fn default_port(is_secure: bool) -> u16 {
    if is_secure { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let parse = |url| {
            let address = Address::parse(url).unwrap();
            (
                address.host,
                address.port,
                address.target.unwrap_or_default(),
            )
        };
        let is = |host: &str, port, target: &str| (host.to_owned(), port, target.to_owned());
        assert_eq!(parse("tcp://db.local:7000"), is("db.local", 7000, ""));
        assert_eq!(parse("TCP://127.0.0.1:1"), is("127.0.0.1", 1, ""));
        assert_eq!(parse("tcp://[::1]:7000"), is("::1", 7000, ""));
        assert_eq!(parse("ws://a"), is("a", 80, "/"));
        assert_eq!(parse("ws://[::1]/x"), is("::1", 80, "/x"));
        assert_eq!(parse("ws://a:81?q=1"), is("a", 81, "/?q=1"));
        assert_eq!(parse("ws://a:81/g/h?q=:@"), is("a", 81, "/g/h?q=:@"));
        let header = |url| Address::parse(url).unwrap().host_header();
        assert_eq!(header("ws://[::1]:81/"), "[::1]:81");
        assert_eq!(header("ws://a/"), "a");
        assert_eq!(Address::parse("ws://a").unwrap().number(), None);
        let number = Address::parse("tcp://[::1]:7").unwrap().number();
        assert_eq!(number, Some("[::1]:7".parse().unwrap()));
    }

    #[cfg(feature = "tls")]
    #[test]
    fn addresses_under_tls_have_a_port_of_their_own() {
        let address = Address::parse("WSS://a/x").unwrap();
        assert_eq!((address.port, &*address.host_header()), (443, "a"));
        assert!(address.is_secure);
        let header = |url| Address::parse(url).unwrap().host_header();
        assert_eq!(header("wss://a:80/"), "a:80");
        assert_eq!(header("ws://a:443/"), "a:443");
        let address = Address::parse("tcps://[::1]:7").unwrap();
        assert!(address.is_secure && address.target.is_none());
        let error = Address::parse("tcps://a").unwrap_err();
        assert!(error.contains("a port"), "{error}");
    }

    #[test]
    fn bad_addresses_are_refused_with_what_would_be_right() {
        for (url, why) in [
            ("localhost:7000", "begin with"),
            ("http://a", "begin with"),
            #[cfg(not(feature = "tls"))]
            ("wss://a", "the feature `tls`"),
            #[cfg(not(feature = "tls"))]
            ("tcps://a:1", "the feature `tls`"),
            ("tcp://a", "a port, such as"),
            ("tcp://a:", "a port, such as"),
            ("tcp://:7", "a host"),
            ("tcp://a:0", "1 to 65535"),
            ("tcp://a:65536", "1 to 65535"),
            ("tcp://a:x", "1 to 65535"),
            ("tcp://a:7/x", "no path"),
            ("tcp://::1:7", "brackets"),
            ("tcp://[::1:7", "bracket"),
            ("tcp://[::1]7", "after the bracket"),
            ("tcp://[a]:7", "IPv6"),
            ("ws://u:p@a/", "Authorization"),
            ("ws://a/b c", "spaces"),
            ("ws://a/\r\nX: y", "control"),
            ("ws://ä/", "ASCII"),
            ("ws://a/#b", "fragment"),
            ("ws://", "a host"),
        ] {
            let error = Address::parse(url).unwrap_err();
            assert!(error.contains(why), "{url}: {error}");
        }
    }
}
