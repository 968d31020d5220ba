//! Requests to addresses that users name: push gateways, previewed pages.
//!
//! Whoever may make the node open connections must not reach what only the node's own network reaches. Names are resolved by
//! us, each address is checked, and the connection goes to an address that was checked: a name that changes between check
//! and use (DNS rebinding) gains nothing. Redirects are never followed here; who wants to follow one asks again.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use http::HeaderValue;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// A range of addresses, as `192.168.1.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Text that is no [`Network`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an address range such as 192.168.1.0/24 or fd00::/8")]
pub struct InvalidNetwork;

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| InvalidNetwork)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), str::parse).map_err(|_| InvalidNetwork)?;
        if prefix > longest { Err(InvalidNetwork) } else { Ok(Self { address, prefix }) }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Network {
    /// Is the address in the range?
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(range), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                range.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(range), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                range.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }
}

/// Is this an address of the public internet? (IANA special-purpose address registries)
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(a == 0
        || a == 10
        || (a == 100 && (64..128).contains(&b))
        || a == 127
        || (a == 169 && b == 254)
        || (a == 172 && (16..32).contains(&b))
        || (a == 192 && b == 0 && (c == 0 || c == 2))
        || (a == 192 && b == 88 && c == 99)
        || (a == 192 && b == 168)
        || (a == 198 && (18..20).contains(&b))
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113)
        || a >= 224)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, ..] = address.segments();
    // Global unicast, without what tunnels to IPv4 (Teredo, 6to4: the inner address would go unchecked) and documentation.
    a & 0xe000 == 0x2000
        && !(a == 0x2001 && (b < 0x0200 || b == 0x0db8))
        && a != 0x2002
        && !(a == 0x3fff && b < 0x1000)
        && (a, b, c) != (0x2620, 0x4f, 0x8000)
}

/// Which addresses may be connected to.
#[derive(Debug, Clone, Default)]
pub struct Guard(Arc<Vec<Network>>);

impl Guard {
    /// The public internet and these networks.
    #[must_use]
    pub fn new(allowed: Vec<Network>) -> Self {
        Self(Arc::new(allowed))
    }

    /// Any address at all.
    #[must_use]
    pub fn everything() -> Self {
        let all = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        Self::new(all.map(|address| Network { address, prefix: 0 }).to_vec())
    }

    /// May this address be connected to?
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        is_public(address) || self.0.iter().any(|network| network.contains(address))
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| guard.allows(address.ip())).collect();
            if allowed.is_empty() {
                return Err("the name leads to no public address".into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// Not an address that this node connects to.
    #[error("{0}")]
    Refused(&'static str),
    /// The other side, or the way to it.
    #[error("{0}")]
    Failed(String),
    /// More than was wanted.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Location`, of a redirect.
    pub location: Option<String>,
    /// The body, or its beginning.
    pub body: Vec<u8>,
}

/// What to do with a body that is longer than wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// It is an error.
    Refuse,
    /// The beginning is enough.
    Cut,
}

/// Makes such requests. Clones share connections.
#[derive(Debug, Clone)]
pub struct Outbound {
    client: reqwest::Client,
    guard: Guard,
}

impl Outbound {
    /// With these networks allowed beside the public internet.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub fn new(allowed: Vec<Network>) -> Result<Self, String> {
        let guard = Guard::new(allowed);
        let client = reqwest::Client::builder()
            .dns_resolver(guard.clone())
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .timeout(Duration::from_secs(30))
            .no_proxy()
            .referer(false)
            .pool_max_idle_per_host(2)
            .user_agent(concat!("homeroom/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { client, guard })
    }

    /// True for an IP address that the owner allowed by name, where plain HTTP is good enough.
    #[must_use]
    pub fn is_allowed_by_name(&self, url: &Url) -> bool {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            _ => return false,
        };
        self.guard.0.iter().any(|network| network.contains(address))
    }

    /// Checks what can be seen of a URL before a name is resolved. An address in the URL is not resolved, so it is checked here.
    fn check(&self, url: &Url) -> Result<(), OutboundError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(OutboundError::Refused("only http and https are spoken"));
        }
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) => return Ok(()),
            None => return Err(OutboundError::Refused("there is no host in the URL")),
        };
        if self.guard.allows(address) { Ok(()) } else { Err(OutboundError::Refused("not an address of the public internet")) }
    }

    /// Posts JSON.
    ///
    /// # Errors
    ///
    /// [`OutboundError`].
    pub async fn post_json(&self, url: &Url, body: Vec<u8>, limit: usize) -> Result<Answer, OutboundError> {
        self.check(url)?;
        let request = self.client.post(url.clone()).header(http::header::CONTENT_TYPE, "application/json").body(body);
        self.send(request, limit, Excess::Refuse).await
    }

    /// Posts a form, with an `Authorization` header if there is one.
    ///
    /// # Errors
    ///
    /// [`OutboundError`].
    pub async fn post_form(
        &self,
        url: &Url,
        form: String,
        authorization: Option<HeaderValue>,
        limit: usize,
    ) -> Result<Answer, OutboundError> {
        self.check(url)?;
        let mut request = self.client.post(url.clone()).header(http::header::ACCEPT, "application/json");
        request = request.header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        if let Some(authorization) = authorization {
            request = request.header(http::header::AUTHORIZATION, authorization);
        }
        self.send(request, limit, Excess::Refuse).await
    }

    /// Gets JSON, with an `Authorization` header if there is one.
    ///
    /// # Errors
    ///
    /// [`OutboundError`].
    pub async fn get_json(&self, url: &Url, authorization: Option<HeaderValue>, limit: usize) -> Result<Answer, OutboundError> {
        self.check(url)?;
        let mut request = self.client.get(url.clone()).header(http::header::ACCEPT, "application/json");
        if let Some(authorization) = authorization {
            request = request.header(http::header::AUTHORIZATION, authorization);
        }
        self.send(request, limit, Excess::Refuse).await
    }

    /// Gets a page.
    ///
    /// # Errors
    ///
    /// [`OutboundError`].
    pub async fn get(&self, url: &Url, accept: &str, limit: usize, excess: Excess) -> Result<Answer, OutboundError> {
        self.check(url)?;
        self.send(self.client.get(url.clone()).header(http::header::ACCEPT, accept), limit, excess).await
    }

    /// Gets something that is read piece by piece. The answer is a good one.
    ///
    /// # Errors
    ///
    /// [`OutboundError`].
    pub async fn open(&self, url: &Url) -> Result<reqwest::Response, OutboundError> {
        self.check(url)?;
        let response = self.client.get(url.clone()).send().await.map_err(|error| OutboundError::Failed(error.without_url().to_string()))?;
        match response.status().is_success() {
            true => Ok(response),
            false => Err(OutboundError::Failed(format!("status {}", response.status().as_u16()))),
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder, limit: usize, excess: Excess) -> Result<Answer, OutboundError> {
        // The URL may hold a secret; the cause says enough.
        let failed = |error: reqwest::Error| {
            let error = error.without_url();
            let cause = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            OutboundError::Failed(format!("{error}{cause}"))
        };
        let mut response = request.send().await.map_err(failed)?;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
        let mut answer = Answer {
            status: response.status().as_u16(),
            content_type: header(http::header::CONTENT_TYPE),
            location: header(http::header::LOCATION),
            body: Vec::new(),
        };
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            let room = limit - answer.body.len();
            if chunk.len() > room {
                if excess == Excess::Refuse {
                    return Err(OutboundError::TooLarge(limit));
                }
                answer.body.extend(chunk.iter().take(room));
                break;
            }
            answer.body.extend_from_slice(&chunk);
        }
        Ok(answer)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        for public in ["1.1.1.1", "8.8.8.8", "172.15.0.1", "172.32.0.1", "100.63.0.1", "2606:4700::1111", "2a01:4f8::1", "198.20.0.1"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.168.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        let holds = |network: &str, address: &str| network.parse::<Network>().unwrap().contains(address.parse().unwrap());
        assert!(holds("192.168.1.0/24", "192.168.1.200"));
        assert!(!holds("192.168.1.0/24", "192.168.2.1"));
        assert!(holds("127.0.0.1", "::ffff:127.0.0.1"));
        assert!(!holds("127.0.0.1", "127.0.0.2"));
        assert!(holds("0.0.0.0/0", "9.9.9.9"));
        assert!(!holds("0.0.0.0/0", "::1"));
        for address in ["127.0.0.1", "::1", "::ffff:10.0.0.1", "fe80::1"] {
            assert!(Guard::everything().allows(address.parse().unwrap()), "{address}");
            assert!(!Guard::default().allows(address.parse().unwrap()), "{address}");
        }
        assert!(holds("fd00::/8", "fdff::1"));
        for wrong in ["", "x", "1.2.3.4/33", "1.2.3.4/-1", "::/129", "1.2.3/8"] {
            assert_eq!(wrong.parse::<Network>(), Err(InvalidNetwork), "{wrong}");
        }
    }

    #[tokio::test]
    async fn private_addresses_are_refused_however_they_are_written() {
        let outbound = Outbound::new(Vec::new()).unwrap();
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://169.254.169.254/latest/meta-data",
            "http://localhost/",
            "https://localhost:1/",
            "ftp://1.1.1.1/",
            "file:///etc/passwd",
        ] {
            let url = Url::parse(url).unwrap();
            assert!(outbound.get(&url, "*/*", 100, Excess::Refuse).await.is_err(), "{url}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_a_private_address_is_not_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://localhost:{}/", listener.local_addr().unwrap().port())).unwrap();
        let error = Outbound::new(Vec::new()).unwrap().get(&url, "*/*", 100, Excess::Refuse).await.unwrap_err();
        assert!(matches!(error, OutboundError::Failed(_)), "{error}");
        let nobody = tokio::time::timeout(Duration::from_millis(1), listener.accept()).await;
        assert!(nobody.is_err(), "somebody connected");
    }
}
