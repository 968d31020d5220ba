//! Where clients and browsers reach the node, which it cannot know by itself when a proxy is in front.

use std::{
    net::{IpAddr, SocketAddr},
    sync::OnceLock,
};

use http::{HeaderMap, Version, header};

use super::outbound::Network;

/// Headers that a proxy adds.
const PROXIED: [&str; 6] = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];

/// The node's base URL, without a slash at the end.
#[derive(Debug, Default)]
pub struct BaseUrl {
    configured: Option<String>,
    /// Whoever comes from there is a proxy, whatever it says.
    proxies: Vec<Network>,
    /// Without a setting: a listener on this machine, which serves this machine only.
    local: OnceLock<SocketAddr>,
    local_url: OnceLock<String>,
}

impl BaseUrl {
    /// As configured, with the proxies that are believed.
    #[must_use]
    pub fn new(configured: Option<&str>, proxies: &[Network]) -> Self {
        Self { configured: configured.map(|url| url.trim_end_matches('/').to_owned()), proxies: proxies.to_vec(), ..Self::default() }
    }

    /// Notes where the node listens. The first address of this machine counts.
    pub fn listens_on(&self, addresses: &[SocketAddr]) {
        if let Some(address) = addresses.iter().find(|address| address.ip().is_loopback()) {
            let _ = self.local_url.set(format!("http://{address}"));
            let _ = self.local.set(*address);
        }
    }

    /// The base URL, for whoever has been using it.
    #[must_use]
    pub fn any(&self) -> Option<&str> {
        self.configured.as_deref().or_else(|| self.local_url.get().map(String::as_str))
    }

    /// The base URL that serves whoever makes this request. An address of this machine is of use on this machine only, and
    /// whoever came through a proxy or by another name may be anywhere.
    ///
    /// A proxy on this machine that neither adds a header nor passes the name on looks like this machine itself. nginx without
    /// further settings is known by its HTTP/1.0; against all others there is `node.public_base_url` (README).
    #[must_use]
    pub fn for_request(&self, peer: Option<SocketAddr>, version: Version, headers: &HeaderMap) -> Option<&str> {
        if let Some(url) = &self.configured {
            return Some(url);
        }
        let local = self.local.get()?;
        let here = |peer: SocketAddr| peer.ip().is_loopback() && !self.proxies.iter().any(|proxy| proxy.contains(peer.ip()));
        let direct = peer.is_some_and(here) && version >= Version::HTTP_11 && !PROXIED.iter().any(|name| headers.contains_key(*name));
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok())?;
        (direct && is_host(host, *local)).then(|| self.local_url.get().map(String::as_str))?
    }
}

/// `localhost` or an address of this machine, with the port that we listen on.
fn is_host(host: &str, local: SocketAddr) -> bool {
    let Some((name, port)) = host.rsplit_once(':') else { return false };
    let here = name == "localhost" || name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    here && port.parse() == Ok(local.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_is_configured_counts_for_everybody() {
        let base = BaseUrl::new(Some("https://m.home.test/"), &[]);
        base.listens_on(&[([127, 0, 0, 1], 8008).into()]);
        assert_eq!(base.for_request(None, Version::HTTP_11, &headers(&[])), Some("https://m.home.test"));
        assert_eq!(base.any(), Some("https://m.home.test"));
    }

    #[test]
    fn an_address_of_this_machine_serves_this_machine_only() {
        let base = BaseUrl::new(None, &[]);
        let here = Some(([127, 0, 0, 1], 40_000).into());
        let asked = |peer, pairs: &[(&'static str, &'static str)]| base.for_request(peer, Version::HTTP_11, &headers(pairs));
        assert_eq!(asked(here, &[("host", "127.0.0.1:8008")]), None, "nobody listens");
        base.listens_on(&[([192, 168, 0, 9], 8008).into(), ([127, 0, 0, 1], 8008).into()]);
        for host in ["127.0.0.1:8008", "localhost:8008", "[::1]:8008"] {
            assert_eq!(asked(here, &[("host", host)]), Some("http://127.0.0.1:8008"), "{host}");
        }
        for host in ["home.test", "home.test:8008", "127.0.0.1", "127.0.0.1:8009", "evil.test:8008"] {
            assert_eq!(asked(here, &[("host", host)]), None, "{host}");
        }
        assert_eq!(asked(here, &[("host", "127.0.0.1:8008"), ("x-forwarded-for", "1.2.3.4")]), None);
        assert_eq!(asked(None, &[("host", "127.0.0.1:8008")]), None, "the Unix socket has no browser");
        assert_eq!(asked(Some(([192, 168, 0, 7], 5).into()), &[("host", "127.0.0.1:8008")]), None);
    }

    #[test]
    fn a_proxy_on_this_machine_is_not_taken_for_this_machine() -> Result<(), Box<dyn std::error::Error>> {
        let here = Some(([127, 0, 0, 1], 40_000).into());
        let host = headers(&[("host", "127.0.0.1:8008")]);
        let base = BaseUrl::new(None, &[]);
        base.listens_on(&[([127, 0, 0, 1], 8008).into()]);
        assert_eq!(base.for_request(here, Version::HTTP_10, &host), None, "nginx as it is installed");
        let base = BaseUrl::new(None, &["127.0.0.0/8".parse()?]);
        base.listens_on(&[([127, 0, 0, 1], 8008).into()]);
        assert_eq!(base.for_request(here, Version::HTTP_11, &host), None, "the owner has said that a proxy is there");
        Ok(())
    }
}
