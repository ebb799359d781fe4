//! Whether a server can be used, before anything is stored in it.

use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use super::error::ConnectError;
use super::link::{Endpoint, Link, LinkError, Script, Value, cmd};
use crate::error::OptionError;
use crate::log::warn;

/// How long to wait before a server that loads its data set is asked again.
const LOADING_WAIT: Duration = Duration::from_millis(50);

/// Asks which commands the user may run.
static PERMISSIONS: LazyLock<Script> =
    LazyLock::new(|| Script::new("check", include_str!("scripts/check.lua")));

/// A server and its limits, as they are given to a builder.
pub(crate) struct Access {
    /// The URL, which may have a password.
    pub(crate) url: String,
    /// How long connecting may take.
    pub(crate) connect_timeout: Duration,
    /// How long a reply may take.
    pub(crate) response_timeout: Duration,
    /// Whether a server that evicts keys is used.
    pub(crate) allows_eviction: bool,
}

impl Access {
    /// Creates the default options.
    pub(crate) fn new(url: String, connect_timeout: Duration) -> Self {
        Access {
            url,
            connect_timeout,
            response_timeout: Duration::from_secs(2),
            allows_eviction: false,
        }
    }

    /// Checks the limits of time.
    pub(crate) fn check(&self) -> Result<(), OptionError> {
        OptionError::positive("connect_timeout", !self.connect_timeout.is_zero())?;
        OptionError::positive("response_timeout", !self.response_timeout.is_zero())
    }

    /// Connects to the server if it can be used.
    pub(crate) fn connect(&self) -> Result<(Endpoint, Link), ConnectError> {
        let endpoint = Endpoint::new(&self.url, self.connect_timeout, self.response_timeout)
            .map_err(|error| ConnectError::url(&self.url, &error))?;
        let link = connect(&endpoint, self.allows_eviction)?;
        Ok((endpoint, link))
    }
}

/// Connects to a server that can be used. A server that loads its data set, and one that does not listen yet, is waited
/// for within the time to connect.
///
/// # Errors
///
/// Returns why the server cannot be used.
fn connect(endpoint: &Endpoint, allows_eviction: bool) -> Result<Link, ConnectError> {
    let start = Instant::now();
    loop {
        let connected = endpoint.connect();
        // What the server refuses, such as a password, it refuses again.
        let is_refused = matches!(connected, Err(LinkError::Server { .. }));
        let checked = connected
            .map_err(ConnectError::of_call)
            .and_then(|mut link| check(&mut link, allows_eviction).map(|()| link));
        match checked {
            Err(ConnectError::Loading) => {}
            Err(ConnectError::Connect { .. }) if !is_refused => {}
            checked => return checked,
        }
        if start.elapsed() + LOADING_WAIT >= endpoint.connect_timeout() {
            return checked;
        }
        thread::sleep(LOADING_WAIT);
    }
}

/// Checks the version, the eviction policy and the role of the server. A policy that evicts only keys with an expiry is
/// a warning in the log.
///
/// # Errors
///
/// Returns why the server cannot be used.
pub(crate) fn check(link: &mut Link, allows_eviction: bool) -> Result<(), ConnectError> {
    // All sections: servers that are too old refuse a list of several.
    let info = match link.query(&cmd("INFO")).map_err(ConnectError::of_call)? {
        Value::BulkString(text) => String::from_utf8_lossy(&text).into_owned(),
        Value::VerbatimString { text, .. } => text,
        _ => return Err(ConnectError::of_call(LinkError::Shape)),
    };
    judge(&info, allows_eviction)
}

/// Checks that the user of the connection may run `commands` on `key`.
///
/// # Errors
///
/// Returns the first command that is refused.
pub(crate) fn permissions(
    link: &mut Link,
    key: &str,
    commands: &[&str],
) -> Result<(), ConnectError> {
    let mut call = PERMISSIONS.call(&[key]);
    for command in commands {
        call.arg(*command);
    }
    match link
        .run(&PERMISSIONS, &call)
        .map_err(ConnectError::of_call)?
    {
        Value::Nil => Ok(()),
        Value::BulkString(command) => Err(ConnectError::Permission {
            refused: format!(
                "it may not run {} on keys such as {key}",
                String::from_utf8_lossy(&command)
            ),
        }),
        _ => Err(ConnectError::of_call(LinkError::Shape)),
    }
}

/// Judges what the server says of itself.
fn judge(info: &str, allows_eviction: bool) -> Result<(), ConnectError> {
    let field = |name: &str| {
        let mut lines = info.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    };
    // Valkey names the version of Redis with which it is compatible, too.
    let (name, version, needed, least) = match field("valkey_version") {
        Some(version) => ("Valkey", Some(version), "Valkey 7.2 or newer", (7, 2)),
        None => (
            "Redis",
            field("redis_version"),
            "Redis 7.0 or newer",
            (7, 0),
        ),
    };
    if version.and_then(parse).is_none_or(|found| found < least) {
        return Err(ConnectError::Version {
            found: format!("{name} {}", version.unwrap_or("of an unknown version")),
            needed,
        });
    }
    if field("loading") == Some("1") {
        return Err(ConnectError::Loading);
    }
    if field("cluster_enabled") == Some("1") || field("redis_mode") == Some("cluster") {
        return Err(ConnectError::Cluster);
    }
    if field("role") == Some("slave") {
        let address = field("master_host").zip(field("master_port"));
        return Err(ConnectError::Replica {
            master: address.map(|(host, port)| format!("{host}:{port}")),
        });
    }
    match field("maxmemory_policy") {
        Some(policy) if policy.starts_with("allkeys") && !allows_eviction => {
            Err(ConnectError::Eviction {
                policy: policy.to_owned(),
            })
        }
        Some(policy) if policy != "noeviction" => {
            warn!("the server may evict keys: its maxmemory-policy is {policy}, not noeviction");
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Reads the first two numbers of a version.
fn parse(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::redis_server::for_test;

    /// What a server of `version` says, and `lines`.
    fn info(version: &str, lines: &str) -> String {
        format!("# Server\r\nredis_version:{version}\r\nredis_mode:standalone\r\n{lines}\r\n")
    }

    #[test]
    fn old_servers_are_refused() {
        for good in ["7.0.0", "7.4.1", "8.0.2", "10.0.0", "255.255.255"] {
            assert_eq!(judge(&info(good, ""), false), Ok(()), "{good}");
        }
        for bad in ["6.2.14", "5.0.7", "x", ""] {
            let error = judge(&info(bad, ""), false).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("the server is Redis {bad}; it must be Redis 7.0 or newer")
            );
        }
        let valkey = |version: &str| info("7.2.4", &format!("valkey_version:{version}"));
        assert_eq!(judge(&valkey("7.2.5"), false), Ok(()));
        assert_eq!(judge(&valkey("8.0.1"), false), Ok(()));
        assert!(judge(&valkey("7.1.0"), false).is_err());
        assert!(judge("", false).is_err());
    }

    #[test]
    fn servers_that_lose_keys_or_take_no_writes_are_refused() {
        let judge = |lines: &str, allows| judge(&info("7.0.15", lines), allows);
        for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-random"] {
            let line = format!("maxmemory_policy:{policy}");
            assert!(matches!(
                judge(&line, false),
                Err(ConnectError::Eviction { .. })
            ));
            assert_eq!(judge(&line, true), Ok(()));
        }
        assert_eq!(judge("maxmemory_policy:volatile-lru", false), Ok(()));
        assert_eq!(judge("maxmemory_policy:noeviction", false), Ok(()));
        assert_eq!(judge("loading:1", false), Err(ConnectError::Loading));
        assert_eq!(
            judge("cluster_enabled:1", false),
            Err(ConnectError::Cluster)
        );
        let replica = judge(
            "role:slave\r\nmaster_host:10.0.0.1\r\nmaster_port:6379",
            false,
        );
        assert!(
            replica
                .unwrap_err()
                .to_string()
                .ends_with("connect to its master 10.0.0.1:6379")
        );
    }

    #[test]
    fn a_server_as_it_is_installed_can_be_used() {
        let Some(server) = for_test(&[]) else { return };
        let second = Duration::from_secs(1);
        let endpoint = Endpoint::new(&server.url(), second * 5, second).unwrap();
        let mut link = connect(&endpoint, false).unwrap();
        permissions(&mut link, "{lv:t}:q", &["ZADD", "HMGET", "TIME"]).unwrap();
        server
            .command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])
            .unwrap();
        assert!(matches!(
            check(&mut link, false),
            Err(ConnectError::Eviction { .. })
        ));
        assert_eq!(check(&mut link, true), Ok(()));
        server.command(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
        let replica = check(&mut link, true).unwrap_err();
        assert!(replica.to_string().contains("127.0.0.1:1"), "{replica}");
    }

    #[test]
    fn a_missing_permission_is_named() {
        let Some(server) = for_test(&[]) else { return };
        let user = |rules: &[&str]| {
            let mut words = vec![
                "ACL", "SETUSER", "worker", "reset", "on", ">secret", "~{lv:*",
            ];
            words.extend(rules);
            assert_eq!(server.command(&words).unwrap(), "+OK\r\n");
        };
        let second = Duration::from_secs(1);
        let url = format!("{}?user=worker&pass=secret", server.url());
        let endpoint = Endpoint::new(&url, second, second).unwrap();
        let probe = |key: &str| {
            let mut link = connect(&endpoint, false)?;
            permissions(&mut link, key, &["HMGET", "ZADD"])
        };
        let refused = |key: &str, part: &str| {
            let error = probe(key).unwrap_err();
            assert!(
                matches!(error, ConnectError::Permission { .. })
                    && error.to_string().contains(part),
                "{error}"
            );
        };
        user(&["+ping"]);
        refused("{lv:t}:q", "info");
        user(&["+ping", "+info"]);
        refused("{lv:t}:q", "evalsha");
        user(&["+info", "+evalsha"]);
        refused("{lv:t}:q", "eval");
        user(&["+info", "+evalsha", "+eval", "+hmget"]);
        refused("{lv:t}:q", "ZADD on keys such as {lv:t}:q");
        user(&["+info", "+evalsha", "+eval", "+hmget", "+zadd"]);
        assert_eq!(probe("{lv:t}:q"), Ok(()));
        refused("other", "keys");
    }

    #[test]
    fn a_server_that_is_not_there_is_an_error_in_time() {
        let wait = Duration::from_millis(200);
        let endpoint = Endpoint::new("redis+unix:///nowhere/s", wait, wait).unwrap();
        let start = Instant::now();
        let error = connect(&endpoint, false).unwrap_err();
        assert!(matches!(error, ConnectError::Connect { .. }), "{error}");
        assert!(start.elapsed() < wait * 10);
    }
}
