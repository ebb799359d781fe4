//! Who may look.

use crate::server::Request;

/// Who may look.
#[derive(Debug)]
pub(crate) struct Access {
    /// The token that is asked for.
    pub(crate) token: Option<String>,
    /// Whether only this machine can reach the address.
    pub(crate) is_local: bool,
}

impl Access {
    /// Returns the status of the refusal, if `request` is refused.
    pub(crate) fn check(&self, request: &Request) -> Result<(), u16> {
        let host = request.header("host").unwrap_or_default();
        let given = request
            .header("authorization")
            .and_then(|value| value.strip_prefix("Bearer "))
            .or_else(|| token_of(request.query()?));
        self.judge(host, given)
    }

    /// Returns the status of the refusal, if a request to `host` with the token `given` is refused.
    fn judge(&self, host: &str, given: Option<&str>) -> Result<(), u16> {
        match &self.token {
            Some(token) if !is_same(token, given.unwrap_or_default()) => Err(401),
            // A page of another site whose name leads here could read everything otherwise.
            None if self.is_local && !is_this_machine(host) => Err(403),
            _ => Ok(()),
        }
    }
}

/// Returns the token in a query.
fn token_of(query: &str) -> Option<&str> {
    query.split('&').find_map(|it| it.strip_prefix("token="))
}

/// Returns whether the texts are the same, in a time that does not tell where they differ.
fn is_same(one: &str, other: &str) -> bool {
    let pairs = one.bytes().zip(other.bytes());
    one.len() == other.len() && pairs.fold(0, |seen, (one, other)| seen | (one ^ other)) == 0
}

/// Returns whether `host` is a name of this machine.
fn is_this_machine(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        let is_port = port.bytes().all(|digit| digit.is_ascii_digit());
        if is_port { name } else { host }
    });
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let address = address.parse::<std::net::IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|it| it.is_loopback())
}

/// Returns what a health check says.
pub(crate) fn text(status: u16) -> &'static str {
    if status == 200 { "ok" } else { "unavailable" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_token_only_names_of_this_machine_are_answered() {
        let access = Access {
            token: None,
            is_local: true,
        };
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:9000",
            "127.1.2.3",
            "[::1]:1",
            "[::1]",
        ] {
            assert_eq!(access.judge(host, None), Ok(()), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example:80",
            "10.0.0.1",
            "evil:127.0.0.1",
        ] {
            assert_eq!(access.judge(host, Some("x")), Err(403), "{host}");
        }
    }

    #[test]
    fn a_token_must_be_the_same() {
        let access = Access {
            token: Some("secret".to_owned()),
            is_local: true,
        };
        assert_eq!(access.judge("any.example", Some("secret")), Ok(()));
        for given in [
            None,
            Some(""),
            Some("secre"),
            Some("secrets"),
            Some("Secret"),
        ] {
            assert_eq!(access.judge("localhost", given), Err(401), "{given:?}");
        }
        assert_eq!(token_of("a=b&token=x&c"), Some("x"));
        assert_eq!(token_of("a=b&xtoken=x"), None);
    }
}
