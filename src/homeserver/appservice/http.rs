//! Requests to application services. Where they listen is the owner's word, so private addresses are fine.

use std::time::Duration;

use http::Method;
use url::Url;

use super::Service;

/// Largest answer that is read.
const ANSWER_BYTES: usize = 4 << 20;
/// An old endpoint is tried where the new one is unknown.
const UNKNOWN: [u16; 3] = [404, 405, 501];

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body, or its beginning.
    pub body: Vec<u8>,
}

impl Answer {
    /// True when the service does not know the path. One that knows it and what it asks for has an error code of its own.
    fn is_unknown_path(&self) -> bool {
        let code = || serde_json::from_slice::<serde_json::Value>(&self.body).ok()?.get("errcode")?.as_str().map(str::to_owned);
        UNKNOWN.contains(&self.status) && code().is_none_or(|code| code == "M_UNRECOGNIZED")
    }

    /// True for 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The service wants no traffic.
    #[error("the application service has no URL")]
    NoUrl,
    /// It did not answer in time.
    #[error("the application service did not answer in time")]
    Timeout,
    /// It could not be reached, or broke off.
    #[error("{0}")]
    Failed(String),
}

/// What to ask.
#[derive(Debug)]
pub struct Question<'a> {
    /// HTTP method.
    pub method: Method,
    /// The path's parts below the service's URL.
    pub path: &'a [&'a str],
    /// The same of the path that it had before version 1, where it had one.
    pub old_path: Option<&'a [&'a str]>,
    /// The query.
    pub query: &'a [(String, String)],
    /// JSON to send.
    pub body: Option<&'a str>,
    /// How long it may take.
    pub timeout: Duration,
}

/// Makes such requests.
#[derive(Debug, Clone)]
pub struct Http(reqwest::Client);

impl Http {
    pub(super) fn new() -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .no_proxy()
            .referer(false)
            .user_agent(concat!("homeroom/", env!("CARGO_PKG_VERSION")))
            .build();
        client.map(Self).map_err(|error| error.to_string())
    }

    /// Asks a service; where it does not know the path, under the old one.
    ///
    /// # Errors
    ///
    /// [`HttpError`].
    pub async fn ask(&self, service: &Service, question: &Question<'_>) -> Result<Answer, HttpError> {
        let answer = self.once(service, question, question.path, false).await?;
        match question.old_path {
            Some(old) if answer.is_unknown_path() => self.once(service, question, old, true).await,
            _ => Ok(answer),
        }
    }

    async fn once(&self, service: &Service, question: &Question<'_>, path: &[&str], old: bool) -> Result<Answer, HttpError> {
        let mut url: Url = service.url.clone().ok_or(HttpError::NoUrl)?;
        url.path_segments_mut().map_err(|()| HttpError::NoUrl)?.pop_if_empty().extend(path);
        if old || !question.query.is_empty() {
            let mut pairs = url.query_pairs_mut();
            pairs.extend_pairs(question.query);
            if old {
                // Who knows only the old paths may know only the old way to show a token.
                pairs.append_pair("access_token", service.hs_token.expose());
            }
        }
        let mut request = self.0.request(question.method.clone(), url).timeout(question.timeout).bearer_auth(service.hs_token.expose());
        if let Some(body) = question.body {
            request = request.header(http::header::CONTENT_TYPE, "application/json").body(body.to_owned());
        }
        let failed = |error: reqwest::Error| {
            if error.is_timeout() {
                return HttpError::Timeout;
            }
            let error = error.without_url();
            let cause = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            HttpError::Failed(format!("{error}{cause}"))
        };
        let mut response = request.send().await.map_err(failed)?;
        let mut answer = Answer { status: response.status().as_u16(), body: Vec::new() };
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            let room = ANSWER_BYTES - answer.body.len();
            answer.body.extend(chunk.iter().take(room));
            if chunk.len() > room {
                break;
            }
        }
        Ok(answer)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::{super::Registration, *};

    #[tokio::test]
    async fn a_service_that_is_silent_has_timed_out() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let file = format!(
            "{{id: s, url: 'http://{}', as_token: t, hs_token: h, sender_localpart: s, namespaces: {{}}}}",
            listener.local_addr().unwrap()
        );
        let service = Service {
            registration: Registration::read(&file).unwrap(),
            sender: ruma::owned_user_id!("@s:home.test"),
            heard_of: tokio::sync::Notify::new(),
        };
        // Nobody ever takes the connection.
        let question = Question {
            method: Method::POST,
            path: &["_matrix", "app", "v1", "ping"],
            old_path: None,
            query: &[],
            body: Some("{}"),
            timeout: Duration::from_millis(50),
        };
        assert!(matches!(Http::new().unwrap().ask(&service, &question).await, Err(HttpError::Timeout)));
    }
}
