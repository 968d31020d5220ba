//! A person's hand on the node's API, without a socket in between.

use std::{fmt, sync::Arc};

use http::{Method, Request};
use serde_json::{Value, json};

use super::stage::StageError;
use crate::{
    base::Secret,
    homeserver::{Node, api::inside::Inside},
};

/// Somebody signed in.
#[derive(Clone)]
pub struct Hand {
    node: Inside,
    token: Secret,
}

impl fmt::Debug for Hand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hand")
    }
}

impl Hand {
    /// Signs in.
    ///
    /// # Errors
    /// When the node refuses.
    pub async fn login(node: &Arc<Node>, user: &str, password: &Secret) -> Result<Self, StageError> {
        let nobody = Self { node: Inside::new(node), token: Secret::new(String::new()) };
        let identifier = json!({ "type": "m.id.user", "user": user });
        let body = json!({ "type": "m.login.password", "identifier": identifier, "password": password.expose() });
        let answer = nobody.call(Method::POST, "/_matrix/client/v3/login", &body).await?;
        let token = answer.get("access_token").and_then(Value::as_str).ok_or_else(|| StageError::Api("no access token".into()))?;
        Ok(Self { node: nobody.node, token: Secret::new(token.to_owned()) })
    }

    /// A JSON request.
    ///
    /// # Errors
    /// When the node refuses.
    pub async fn call(&self, method: Method, path: &str, body: &Value) -> Result<Value, StageError> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.request(method, path, "application/json", body).await
    }

    /// Uploads a file.
    ///
    /// # Errors
    /// When the node refuses.
    pub async fn upload(&self, filename: &str, content_type: &str, bytes: Vec<u8>) -> Result<Value, StageError> {
        self.request(Method::POST, &format!("/_matrix/media/v3/upload?filename={filename}"), content_type, bytes).await
    }

    async fn request(&self, method: Method, path: &str, content_type: &str, body: Vec<u8>) -> Result<Value, StageError> {
        let failed = |what: &dyn fmt::Display| StageError::Api(format!("{method} {path}: {what}"));
        let mut request = Request::builder().method(&method).uri(path).header(http::header::CONTENT_TYPE, content_type);
        if !self.token.expose().is_empty() {
            request = request.header(http::header::AUTHORIZATION, format!("Bearer {}", self.token.expose()));
        }
        let request = request.body(body).map_err(|error| failed(&error))?;
        let response = self.node.request(request).await.map_err(|error| failed(&error))?;
        let status = response.status();
        let answer: Value = serde_json::from_slice(response.body()).unwrap_or_default();
        if status.is_success() {
            Ok(answer)
        } else {
            Err(failed(&format_args!("{status} {}", answer.get("error").unwrap_or(&Value::Null))))
        }
    }
}

/// A path segment, percent-encoded.
#[must_use]
pub fn encoded(segment: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    segment.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
