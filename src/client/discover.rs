//! From what a person typed to the base URL of a homeserver (Client-Server API, "Server discovery").
//!
//! Does its own requests rather than the SDK's so that each way of failing can be named. Knows nothing of accounts.

use std::time::Duration;

use serde::Deserialize;
use url::Url;

use super::words::Trouble;

/// No discovery answer is larger than this.
const BODY_LIMIT_BYTES: usize = 64 * 1024;
/// Longest wait for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Why no homeserver was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoverError {
    /// What was typed is neither a server name nor a URL.
    #[error("\"{0}\" is not a server name")]
    BadName(String),
    /// The server could not be used.
    #[error("{server}: {trouble}")]
    Trouble {
        /// The server asked.
        server: String,
        /// What happened.
        trouble: Trouble,
    },
}

/// A homeserver's base URL, and whether the name itself was seen to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Base URL of the Client-Server API.
    pub base_url: Url,
}

#[derive(Deserialize)]
struct WellKnown {
    #[serde(rename = "m.homeserver")]
    homeserver: WellKnownServer,
}

#[derive(Deserialize)]
struct WellKnownServer {
    base_url: String,
}

#[derive(Deserialize)]
struct Versions {
    versions: Vec<String>,
}

/// Finds the homeserver for a server name (`example.org`, `localhost:8008`) or URL.
///
/// Plain HTTP is used for an explicit `http://` URL and for loopback names only.
pub async fn discover(http: &reqwest::Client, name_or_url: &str) -> Result<Found, DiscoverError> {
    let typed = name_or_url.trim();
    if typed.starts_with("http://") || typed.starts_with("https://") {
        let url = Url::parse(typed).map_err(|_| DiscoverError::BadName(typed.to_owned()))?;
        if url.host_str().is_none() {
            return Err(DiscoverError::BadName(typed.to_owned()));
        }
        return match check(http, &url).await {
            Ok(()) => Ok(Found { base_url: url }),
            // People paste the address of a web page: https://matrix.org is a server name, not a base URL.
            Err(DiscoverError::Trouble { trouble: Trouble::NotMatrix | Trouble::Unrecognized, .. }) if url.scheme() == "https" => {
                by_well_known(http, &url).await
            }
            Err(error) => Err(error),
        };
    }
    let name = ruma::ServerName::parse(typed).map_err(|_| DiscoverError::BadName(typed.to_owned()))?;
    let scheme = if is_loopback(name.host()) { "http" } else { "https" };
    let url = Url::parse(&format!("{scheme}://{name}/")).map_err(|_| DiscoverError::BadName(typed.to_owned()))?;
    if scheme == "http" {
        check(http, &url).await?;
        return Ok(Found { base_url: url });
    }
    by_well_known(http, &url).await
}

async fn by_well_known(http: &reqwest::Client, url: &Url) -> Result<Found, DiscoverError> {
    let server = host_of(url);
    let answer = fetch(http, url, ".well-known/matrix/client").await;
    let base_url = match answer {
        Ok((200, body)) => {
            let well_known: WellKnown = serde_json::from_slice(&body).map_err(|_| not_matrix(&server))?;
            Url::parse(&well_known.homeserver.base_url).map_err(|_| not_matrix(&server))?
        }
        // No well-known file: the server name is its own base URL.
        Ok(_) => url.clone(),
        Err(trouble) => return Err(DiscoverError::Trouble { server, trouble }),
    };
    check(http, &base_url).await?;
    Ok(Found { base_url })
}

/// Asks `GET /_matrix/client/versions`, which every homeserver answers.
async fn check(http: &reqwest::Client, base_url: &Url) -> Result<(), DiscoverError> {
    let server = host_of(base_url);
    match fetch(http, base_url, "_matrix/client/versions").await {
        Ok((200, body)) => {
            let versions: Versions = serde_json::from_slice(&body).map_err(|_| not_matrix(&server))?;
            if versions.versions.is_empty() { Err(not_matrix(&server)) } else { Ok(()) }
        }
        Ok((429, _)) => Err(DiscoverError::Trouble { server, trouble: Trouble::RateLimited { retry_after: None } }),
        Ok((status, _)) if status >= 500 => Err(DiscoverError::Trouble {
            server,
            trouble: Trouble::Refused { status, code: status.to_string(), message: format!("it answers with error {status}") },
        }),
        Ok(_) => Err(not_matrix(&server)),
        Err(trouble) => Err(DiscoverError::Trouble { server, trouble }),
    }
}

async fn fetch(http: &reqwest::Client, base: &Url, path: &str) -> Result<(u16, Vec<u8>), Trouble> {
    let base = base.as_str().trim_end_matches('/');
    let exchange = async {
        let mut response = http.get(format!("{base}/{path}")).send().await.map_err(|error| Trouble::of_reqwest(&error))?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| Trouble::of_reqwest(&error))? {
            if body.len().saturating_add(chunk.len()) > BODY_LIMIT_BYTES {
                return Err(Trouble::NotMatrix);
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, body))
    };
    tokio::time::timeout(ANSWER_TIMEOUT, exchange).await.unwrap_or(Err(Trouble::Timeout))
}

fn not_matrix(server: &str) -> DiscoverError {
    DiscoverError::Trouble { server: server.to_owned(), trouble: Trouble::NotMatrix }
}

fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_go_without_tls() {
        assert!(is_loopback("localhost") && is_loopback("127.0.0.1") && is_loopback("[::1]"));
        assert!(!is_loopback("localhost.example.org") && !is_loopback("10.0.0.1"));
    }

    async fn server(status: u16, body: &str) -> wiremock::MockServer {
        let server = wiremock::MockServer::start().await;
        let answer = wiremock::ResponseTemplate::new(status).set_body_string(body);
        wiremock::Mock::given(wiremock::matchers::path("/_matrix/client/versions")).respond_with(answer).mount(&server).await;
        server
    }

    #[tokio::test]
    async fn a_server_that_answers_garbage_is_not_a_matrix_server() {
        let server = server(200, "<html>hello</html>").await;
        let error = discover(&reqwest::Client::new(), &server.uri()).await.expect_err("garbage is refused");
        assert!(matches!(error, DiscoverError::Trouble { trouble: Trouble::NotMatrix, .. }), "{error}");
    }

    #[tokio::test]
    async fn a_loopback_name_with_a_port_is_used_without_tls() {
        let server = server(200, r#"{"versions":["v1.11"]}"#).await;
        let name = server.address().to_string();
        let found = discover(&reqwest::Client::new(), &name).await.expect("found");
        assert_eq!(found.base_url.as_str(), format!("http://{name}/"));
    }

    #[tokio::test]
    async fn a_closed_port_is_unreachable() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("bound");
        drop(listener);
        let error = discover(&reqwest::Client::new(), &address.to_string()).await.expect_err("refused");
        assert!(matches!(error, DiscoverError::Trouble { trouble: Trouble::Unreachable, .. }), "{error}");
    }

    #[tokio::test]
    async fn nonsense_is_not_looked_up() {
        assert!(matches!(discover(&reqwest::Client::new(), "not a name").await, Err(DiscoverError::BadName(_))));
    }
}
