//! Server names as they come from the network (Matrix specification, Appendices, "Server Name").
//!
//! ruma's parser lets names of any length through, because of a feature that the SDK switches on; everything here is bounded.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ruma::{OwnedServerName, ServerName};

/// Longest server name, in bytes: an ID of a user there has to fit into 255 with its sigil, its colon and a local part.
/// Room left for those is what the specification recommends.
pub const MAX_NAME_BYTES: usize = 230;
/// Longest domain name, in bytes (RFC 1035, section 2.3.4, without the root's dot).
const MAX_HOST_BYTES: usize = 253;
/// Longest label of a domain name, in bytes (RFC 1035, section 2.3.4).
const MAX_LABEL_BYTES: usize = 63;
/// The port where servers listen unless they say otherwise.
pub const DEFAULT_PORT: u16 = 8448;

/// Text that is no server name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Longer than [`MAX_NAME_BYTES`], or a domain name that DNS cannot hold.
    #[error("the server name is too long")]
    TooLong,
    /// Against the grammar.
    #[error("not a server name")]
    Malformed,
}

/// The host of a server name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// A domain name, in lower case: DNS and certificates do not tell cases apart.
    Dns(String),
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Ip(address) => write!(f, "{address}"),
            Self::Dns(name) => f.write_str(name),
        }
    }
}

/// A server name in its parts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Parts {
    /// The host.
    pub host: Host,
    /// The port, where the name has one.
    pub port: Option<u16>,
}

/// Takes a server name apart.
///
/// # Errors
///
/// [`InvalidName`].
pub fn parts(name: &str) -> Result<Parts, InvalidName> {
    if name.len() > MAX_NAME_BYTES {
        return Err(InvalidName::TooLong);
    }
    let (host, port) = if let Some(rest) = name.strip_prefix('[') {
        let (address, after) = rest.split_once(']').ok_or(InvalidName::Malformed)?;
        let address: Ipv6Addr = address.parse().map_err(|_| InvalidName::Malformed)?;
        let port = match after {
            "" => None,
            after => Some(after.strip_prefix(':').ok_or(InvalidName::Malformed)?),
        };
        (Host::Ip(IpAddr::V6(address)), port)
    } else {
        let (host, port) = name.split_once(':').map_or((name, None), |(host, port)| (host, Some(port)));
        let host = match host.parse::<Ipv4Addr>() {
            Ok(address) => Host::Ip(IpAddr::V4(address)),
            Err(_) => Host::Dns(domain(host)?),
        };
        (host, port)
    };
    Ok(Parts { host, port: port.map(parse_port).transpose()? })
}

/// A name that passes [`parts`], as ruma has it.
///
/// # Errors
///
/// [`InvalidName`].
pub fn parse(name: &str) -> Result<OwnedServerName, InvalidName> {
    parts(name)?;
    ServerName::parse(name).map_err(|_| InvalidName::Malformed)
}

fn parse_port(port: &str) -> Result<u16, InvalidName> {
    // `u16::from_str` takes a sign, and no server listens on port 0.
    if port.is_empty() || port.len() > 5 || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidName::Malformed);
    }
    port.parse().ok().filter(|port| *port != 0).ok_or(InvalidName::Malformed)
}

fn domain(host: &str) -> Result<String, InvalidName> {
    if host.len() > MAX_HOST_BYTES || host.split('.').any(|label| label.len() > MAX_LABEL_BYTES) {
        return Err(InvalidName::TooLong);
    }
    // What looks like an IPv4 address to some resolvers (`127.1`, `0x7f.1`) is not let near one.
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit()) || last.to_ascii_lowercase().starts_with("0x");
    let plain = |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if numeric || !host.split('.').all(plain) { Err(InvalidName::Malformed) } else { Ok(host.to_ascii_lowercase()) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    #[test]
    fn names_come_apart() {
        let dns = |host: &str, port| Parts { host: Host::Dns(host.to_owned()), port };
        assert_eq!(parts("matrix.org"), Ok(dns("matrix.org", None)));
        assert_eq!(parts("Matrix.Org:8080"), Ok(dns("matrix.org", Some(8080))));
        assert_eq!(parts("localhost:1"), Ok(dns("localhost", Some(1))));
        assert_eq!(parts("1.2.3.4").unwrap(), Parts { host: Host::Ip("1.2.3.4".parse().unwrap()), port: None });
        assert_eq!(parts("[::1]:80").unwrap(), Parts { host: Host::Ip("::1".parse().unwrap()), port: Some(80) });
        assert_eq!(parts("[1234:5678::abcd]").unwrap().host.to_string(), "[1234:5678::abcd]");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for name in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:+80",
            "a:80:80",
            "a:008080",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[1.2.3.4]",
            "::1",
            "a b",
            "a/b",
            "a@b",
            "a..b",
            ".a",
            "a.",
            "a?b",
            "a#b",
            "a%2fb",
            "ä.example",
            "127.1",
            "2130706433",
            "0x7f.1",
            "127.0.0.0x1",
            "a\r\nb",
            "a\0",
        ] {
            assert_eq!(parts(name), Err(InvalidName::Malformed), "{name:?}");
        }
    }

    #[test]
    fn lengths_are_bounded() {
        assert_eq!(parts(&format!("{}.example", "a".repeat(64))), Err(InvalidName::TooLong));
        assert!(parts(&format!("{}.example", "a".repeat(63))).is_ok());
        let long = ["a".repeat(60), "b".repeat(60), "c".repeat(60), "d".repeat(50)].join(".");
        assert_eq!(parts(&long), Err(InvalidName::TooLong));
        assert!(parse(&"a.".repeat(100_000)).is_err());
    }
}
