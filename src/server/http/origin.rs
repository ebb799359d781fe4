//! Which pages may connect from a browser.

/// Which pages may connect from a browser. A browser sends the origin of the page, which a page cannot change; other
/// programs send none, or any.
///
/// Without a check, any page that a user opens can connect with the user's cookies, and to servers that only the user
/// can reach. Origins are compared as a whole: scheme, host and port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origins {
    /// Pages whose host and port are those of the request, and programs that send no origin.
    #[default]
    Same,
    /// Like `Same`, but a request without an origin is refused.
    Required,
    /// These origins, such as `https://example.org`, and programs that send none.
    List(Vec<String>),
    /// All.
    Any,
}

impl Origins {
    /// Returns whether a page of `origin` may connect to `host`.
    pub(super) fn admit(&self, origin: Option<&str>, host: &str) -> bool {
        let Some(origin) = origin else {
            return *self != Origins::Required;
        };
        match self {
            Origins::Any => true,
            Origins::Same | Origins::Required => split(origin).is_some_and(|origin| {
                let of_host = authority(host, origin.default_port);
                // Behind a proxy the scheme of the request is not known here.
                of_host.is_some_and(|(host, port)| {
                    host.eq_ignore_ascii_case(origin.host) && port == origin.port
                })
            }),
            Origins::List(list) => list.iter().any(|allowed| {
                let (Some(allowed), Some(origin)) = (split(allowed), split(origin)) else {
                    return false;
                };
                allowed.scheme.eq_ignore_ascii_case(origin.scheme)
                    && allowed.host.eq_ignore_ascii_case(origin.host)
                    && allowed.port == origin.port
            }),
        }
    }
}

/// The parts of an origin.
struct Origin<'a> {
    /// The scheme.
    scheme: &'a str,
    /// The host.
    host: &'a str,
    /// The port, or that of the scheme.
    port: u16,
    /// The port of the scheme.
    default_port: u16,
}

/// Takes an origin apart; `None` for `null` and for what is no origin.
fn split(origin: &str) -> Option<Origin<'_>> {
    let (scheme, rest) = origin.split_once("://")?;
    let default_port = if scheme.eq_ignore_ascii_case("https") {
        443
    } else {
        80
    };
    let (host, port) = authority(rest, default_port)?;
    Some(Origin {
        scheme,
        host,
        port,
        default_port,
    })
}

/// Takes a host and a port apart.
fn authority(text: &str, default_port: u16) -> Option<(&str, u16)> {
    // An address of IPv6 stands in brackets and has colons of its own.
    let after_host = text.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match text[after_host..].find(':') {
        Some(at) => {
            let (host, port) = text.split_at(after_host + at);
            (host, port[1..].parse().ok()?)
        }
        None => (text, default_port),
    };
    (!host.is_empty() && !host.contains('/')).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_origin_is_the_same_host_and_port() {
        let same = |origin, host| Origins::Same.admit(Some(origin), host);
        assert!(same("http://example.org", "example.org"));
        assert!(same("https://Example.org", "example.org"));
        assert!(same("https://example.org", "example.org:443"));
        assert!(same("http://example.org:7001", "example.org:7001"));
        assert!(same("http://[::1]:7001", "[::1]:7001"));
        assert!(!same("http://example.org", "example.org:7001"));
        assert!(!same("http://example.org:7002", "example.org:7001"));
        // Neither a suffix, nor a prefix, nor a part.
        assert!(!same("http://evil-example.org", "example.org"));
        assert!(!same("http://example.org.evil.net", "example.org"));
        assert!(!same("http://example.org/", "example.org"));
        assert!(!same("null", "example.org"));
        assert!(!same("", ""));
        assert!(!same("http://", ""));
    }

    #[test]
    fn programs_without_an_origin_are_let_in_unless_it_is_required() {
        assert!(Origins::Same.admit(None, "example.org"));
        assert!(!Origins::Required.admit(None, "example.org"));
        assert!(Origins::Required.admit(Some("http://example.org"), "example.org"));
        assert!(Origins::Any.admit(Some("null"), "example.org"));
    }

    #[test]
    fn a_list_has_whole_origins() {
        let list = Origins::List(vec!["https://example.org".to_owned()]);
        assert!(list.admit(Some("https://example.org:443"), "other"));
        assert!(!list.admit(Some("http://example.org"), "other"));
        assert!(!list.admit(Some("https://sub.example.org"), "example.org"));
        assert!(list.admit(None, "other"));
    }
}
