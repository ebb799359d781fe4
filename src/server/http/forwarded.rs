//! Whose address a connection counts for, if proxies are in between.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses, such as `10.0.0.0/8` or `::1`.
///
/// ```
/// use liveness::server::Network;
///
/// let network: Network = "10.0.0.0/8".parse()?;
/// assert!(network.contains("10.1.2.3".parse()?));
/// assert!(!network.contains("11.1.2.3".parse()?));
/// assert!("10.0.0.0/33".parse::<Network>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    /// An address of the range; one of IPv4 is mapped to IPv6.
    address: Ipv6Addr,
    /// How many of its bits are fixed, of 128.
    prefix: u32,
}

impl Network {
    /// Returns whether `address` is in the range.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let differing = mapped(address).to_bits() ^ self.address.to_bits();
        differing.leading_zeros() >= self.prefix
    }
}

/// Returns `address` as one of IPv6.
fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

impl From<IpAddr> for Network {
    /// The range of this address alone.
    fn from(address: IpAddr) -> Self {
        Network {
            address: mapped(address),
            prefix: 128,
        }
    }
}

/// The error of a text that is no range of addresses.
///
/// ```
/// use liveness::server::Network;
///
/// let error = "10.0.0.0/200".parse::<Network>().unwrap_err();
/// assert_eq!(error.to_string(), "`10.0.0.0/200` is no range of addresses such as 10.0.0.0/8");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkError(String);

impl fmt::Display for NetworkError {
    /// Writes the text, and what would be right.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no range of addresses such as 10.0.0.0/8",
            self.0
        )
    }
}

impl Error for NetworkError {}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let wrong = || NetworkError(text.to_owned());
        let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let (bits, skipped) = if address.is_ipv4() {
            (32, 96)
        } else {
            (128, 0)
        };
        let prefix = match prefix {
            "" if !text.contains('/') => bits,
            prefix => prefix.parse().map_err(|_| wrong())?,
        };
        if prefix > bits {
            return Err(wrong());
        }
        Ok(Network {
            address: mapped(address),
            prefix: prefix + skipped,
        })
    }
}

/// Returns the address of the client behind the socket of `peer`, where `forwarded` is the list of `X-Forwarded-For`.
///
/// Each proxy appends the address that it saw. The list is therefore read from its end, as long as the one who wrote
/// the entry is trusted: what stands before the first untrusted address can be forged.
pub(super) fn client(peer: IpAddr, forwarded: &[&str], trusted: &[Network]) -> IpAddr {
    let mut client = peer.to_canonical();
    for entry in forwarded.iter().rev() {
        if !trusted.iter().any(|network| network.contains(client)) {
            break;
        }
        let Some(address) = address(entry) else {
            break;
        };
        client = address.to_canonical();
    }
    client
}

/// Reads an address, which may have a port.
fn address(text: &str) -> Option<IpAddr> {
    let socket = || text.parse::<std::net::SocketAddr>().ok().map(|it| it.ip());
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    bare.unwrap_or(text).parse().ok().or_else(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_the_word_of_trusted_proxies_is_taken() {
        let trusted = ["10.0.0.0/8", "::1"].map(|it| it.parse().unwrap());
        let client = |peer, list: &[&str]| client(ip(peer), list, &trusted).to_string();
        assert_eq!(client("1.2.3.4", &["5.6.7.8"]), "1.2.3.4");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["5.6.7.8"]), "5.6.7.8");
        assert_eq!(client("::ffff:10.0.0.1", &["5.6.7.8"]), "5.6.7.8");
        // The first entry is what the client claims.
        assert_eq!(
            client("10.0.0.1", &["9.9.9.9", "5.6.7.8", "10.3.3.3"]),
            "5.6.7.8"
        );
        assert_eq!(client("::1", &["[2001:db8::1]:80"]), "2001:db8::1");
        assert_eq!(client("::1", &["5.6.7.8:80"]), "5.6.7.8");
        assert_eq!(client("::1", &["5.6.7.8", "unknown"]), "::1");
    }

    #[test]
    fn ranges_are_read_with_and_without_a_length() {
        let contains =
            |range: &str, address| range.parse::<Network>().unwrap().contains(ip(address));
        assert!(contains("10.0.0.0/8", "::ffff:10.9.9.9"));
        assert!(contains("0.0.0.0/0", "1.2.3.4"));
        assert!(!contains("0.0.0.0/0", "2001:db8::1"));
        assert!(contains("::/0", "2001:db8::1"));
        assert!(contains("192.168.1.1", "192.168.1.1"));
        assert!(!contains("192.168.1.1", "192.168.1.2"));
        for wrong in ["", "/8", "10.0.0.0/", "10.0.0.0/33", "::/129", "ten"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
        let error = "ten".parse::<Network>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`ten` is no range of addresses such as 10.0.0.0/8"
        );
    }
}
