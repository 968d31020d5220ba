//! Where a client may have its answers sent (Client-Server API, "Redirect URI validation"; RFC 8252).

use url::{Host, Url};

use super::{OAuthError, client::ApplicationType};

/// Longest URI.
pub(super) const URI_BYTES: usize = 2048;

/// An https address with a host and without user or password.
pub(super) fn web_uri(text: &str) -> Option<Url> {
    if text.len() > URI_BYTES {
        return None;
    }
    let url = Url::parse(text).ok()?;
    let fits = url.scheme() == "https" && url.has_host() && url.username().is_empty() && url.password().is_none();
    // `https://user@host` with an empty user still has the sign in it.
    (fits && !text.split(['/', '?', '#']).nth(2).is_some_and(|authority| authority.contains('@'))).then_some(url)
}

/// On the same host or a host below it.
pub(super) fn below(url: &Url, base: &Url) -> bool {
    match (url.host(), base.host()) {
        (Some(Host::Domain(host)), Some(Host::Domain(base))) => {
            host == base || host.strip_suffix(base).is_some_and(|rest| rest.ends_with('.'))
        }
        (Some(host), Some(base)) => host == base,
        _ => false,
    }
}

/// Client-Server API, "Redirect URI validation".
pub(super) fn check_redirect_uri(uri: &str, base: &Url, kind: ApplicationType) -> Result<(), OAuthError> {
    let bad = |why: &str| Err(OAuthError::InvalidRedirectUri(format!("{why}: {uri:.200}")));
    if uri.len() > URI_BYTES || !uri.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte)) {
        return bad("a redirect URI is too long or has a character that URIs do not have");
    }
    if uri.contains('#') {
        return bad("a redirect URI has no fragment");
    }
    let Ok(url) = Url::parse(uri) else { return bad("this is not a URI") };
    match (url.scheme(), kind) {
        ("https", _) => match web_uri(uri) {
            Some(url) if below(&url, base) => Ok(()),
            _ => bad("a redirect URI is on the host of `client_uri`, without user and password"),
        },
        (_, ApplicationType::Web) => bad("a web client's redirect URI is https"),
        ("http", ApplicationType::Native) => match loopback(uri) {
            Some((_, None, _)) => Ok(()),
            _ => bad("an http redirect URI is on localhost, 127.0.0.1 or [::1], without a port"),
        },
        (scheme, ApplicationType::Native) => {
            let reversed = base.host_str().map(|host| host.split('.').rev().collect::<Vec<_>>().join(".")).unwrap_or_default();
            let own =
                reversed.contains('.') && scheme.strip_prefix(&*reversed).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
            let path = uri.split_once(':').map_or("", |(_, path)| path);
            if !own {
                bad("a private scheme is the host of `client_uri` backwards")
            } else if path.starts_with("//") {
                bad("a URI of a private scheme has no host")
            } else {
                Ok(())
            }
        }
    }
}

/// Host, port and rest of an http URI on the own machine, to the letter.
fn loopback(uri: &str) -> Option<(&str, Option<&str>, &str)> {
    let rest = uri.strip_prefix("http://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = (rest.get(..end)?, rest.get(end..)?);
    let host = ["localhost", "127.0.0.1", "[::1]"]
        .into_iter()
        .find(|host| authority.strip_prefix(host).is_some_and(|rest| rest.is_empty() || rest.starts_with(':')))?;
    let port = authority.get(host.len()..)?.strip_prefix(':');
    Some((host, port, path))
}

/// The same place on this machine, but for the port (RFC 8252, 7.3).
pub(super) fn same_but_port(known: &str, asked: &str) -> bool {
    match (loopback(known), loopback(asked)) {
        (Some((known_host, None, known_path)), Some((host, Some(port), path))) => {
            known_host == host && known_path == path && port.parse::<u16>().is_ok_and(|number| number > 0)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]

    use serde_json::{Value, json};

    use super::*;
    use crate::homeserver::users::oauth::ClientMetadata;

    fn parse(value: &Value) -> Result<ClientMetadata, OAuthError> {
        ClientMetadata::parse(value.as_object().unwrap())
    }

    fn with_redirect(kind: &str, uri: &str) -> Result<ClientMetadata, OAuthError> {
        parse(&json!({ "client_uri": "https://example.com/", "application_type": kind, "redirect_uris": [uri] }))
    }

    #[test]
    fn redirect_uris_of_web_clients_are_on_their_host() {
        for uri in ["https://example.com/callback", "https://app.example.com/callback", "https://example.com:5173/?query=value"] {
            assert!(with_redirect("web", uri).is_ok(), "{uri}");
        }
        for uri in [
            "https://example.com/callback#fragment",
            "https://example.com/callback#",
            "http://example.com/callback",
            "http://localhost/",
            "https://evil.com/",
            "https://example.com.evil.com/",
            "https://notexample.com/",
            "https://user:pass@example.com/",
            "https://@example.com/",
            "https://example.com@evil.com/",
            "com.example:/callback",
            "javascript:alert(1)",
            "data:text/html,x",
            "//example.com/",
            "/callback",
            "https://example.com/\r\nSet-Cookie: a=b",
            "https://example.com/\\evil",
            "",
        ] {
            assert!(matches!(with_redirect("web", uri), Err(OAuthError::InvalidRedirectUri(_))), "{uri}");
        }
    }

    #[test]
    fn redirect_uris_of_native_clients_are_private_or_on_the_own_machine_or_claimed() {
        for uri in [
            "com.example.app:/callback",
            "com.example:/",
            "com.example:callback",
            "http://localhost/callback",
            "http://127.0.0.1/callback",
            "http://[::1]/callback",
            "http://localhost",
            "https://app.example.com/callback",
        ] {
            assert!(with_redirect("native", uri).is_ok(), "{uri}");
        }
        for uri in [
            "example:/callback",
            "com.example.app://callback",
            "com.examples:/",
            "com.evil.com.example:/",
            "https://localhost/callback",
            "http://localhost:1234/callback",
            "http://localhost.evil.com/callback",
            "http://127.0.0.1.evil.com/",
            "http://127.0.0.1@evil.com/",
            "http://127.0.0.2/",
            "http://example.com/",
            "javascript:alert(1)",
            "com.example:/x#y",
        ] {
            assert!(matches!(with_redirect("native", uri), Err(OAuthError::InvalidRedirectUri(_))), "{uri}");
        }
    }

    #[test]
    fn a_redirect_uri_matches_to_the_letter_but_for_the_port_of_the_own_machine() {
        let native = parse(&json!({
            "client_uri": "https://example.com/", "application_type": "native",
            "redirect_uris": ["http://127.0.0.1/cb", "com.example:/cb", "https://example.com/cb"],
        }))
        .unwrap();
        for uri in
            ["http://127.0.0.1/cb", "http://127.0.0.1:1/cb", "http://127.0.0.1:65535/cb", "com.example:/cb", "https://example.com/cb"]
        {
            assert!(native.has_redirect_uri(uri), "{uri}");
        }
        for uri in [
            "http://localhost/cb",
            "http://127.0.0.1:/cb",
            "http://127.0.0.1:0/cb",
            "http://127.0.0.1:99999/cb",
            "http://127.0.0.1:80@evil.com/cb",
            "http://127.0.0.1:80/cb/../x",
            "http://127.0.0.1/cb?x",
            "https://example.com:8443/cb",
            "https://example.com/cb/",
            "https://EXAMPLE.com/cb",
            "com.example:/cb?x=y",
            "",
        ] {
            assert!(!native.has_redirect_uri(uri), "{uri}");
        }
        let web = with_redirect("web", "https://example.com/cb").unwrap();
        assert!(!web.has_redirect_uri("https://example.com:1/cb"));
    }
}
