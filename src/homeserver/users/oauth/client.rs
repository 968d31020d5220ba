//! Clients and what they say about themselves (RFC 7591; Client-Server API, "Client registration").

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::{
    OAuthError,
    redirect::{URI_BYTES, below, check_redirect_uri, same_but_port, web_uri},
};
use crate::homeserver::{store, users::Accounts};

/// Registered clients at most. A record is a few hundred bytes.
const CLIENTS: i64 = 5_000;
/// Redirect URIs that one client can have.
const REDIRECT_URIS: usize = 16;
/// Longest name, in characters.
const NAME_CHARS: usize = 100;

/// Grants that we have.
pub const GRANTS: [&str; 3] = [AUTHORIZATION_CODE, REFRESH_TOKEN, DEVICE_CODE];
/// The grant by a browser's way back (RFC 6749, 4.1).
pub const AUTHORIZATION_CODE: &str = "authorization_code";
/// New tokens for old (RFC 6749, 6).
pub const REFRESH_TOKEN: &str = "refresh_token";
/// The grant from another device (RFC 8628).
pub const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// What a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApplicationType {
    /// A page in a browser.
    Web,
    /// A program.
    Native,
}

/// What a client has registered, as far as we understood and accepted it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientMetadata {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub client_name: Option<String>,
    /// Its page; all its other addresses are on this host.
    pub client_uri: String,
    /// Its picture. Never loaded by us.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub logo_uri: Option<String>,
    /// Its terms of service.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tos_uri: Option<String>,
    /// Its privacy policy.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub policy_uri: Option<String>,
    /// Where codes may be sent.
    pub redirect_uris: Vec<String>,
    /// `none`: what a client says about itself cannot be kept secret by a program that everybody has.
    pub token_endpoint_auth_method: String,
    /// What it may ask the authorisation endpoint for.
    pub response_types: Vec<String>,
    /// What it may ask the token endpoint for.
    pub grant_types: Vec<String>,
    /// What it is.
    pub application_type: ApplicationType,
}

/// A registered client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its ID.
    pub client_id: String,
    /// What it is.
    pub metadata: ClientMetadata,
}

fn metadata_error(why: impl Into<String>) -> OAuthError {
    OAuthError::InvalidClientMetadata(why.into())
}

fn text(body: &Map<String, Value>, name: &str) -> Result<Option<String>, OAuthError> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= URI_BYTES => Ok(Some(text.clone())),
        Some(Value::String(_)) => Err(metadata_error(format!("`{name}` is too long"))),
        Some(_) => Err(metadata_error(format!("`{name}` is not a string"))),
    }
}

/// A list of strings; what is not there is the default of RFC 7591.
fn list(body: &Map<String, Value>, name: &str, default: &[&str]) -> Result<Vec<String>, OAuthError> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(default.iter().map(ToString::to_string).collect()),
        Some(Value::Array(items)) if items.len() <= 64 => items
            .iter()
            .map(|item| {
                item.as_str().map(ToOwned::to_owned).ok_or_else(|| metadata_error(format!("`{name}` holds something other than strings")))
            })
            .collect(),
        Some(_) => Err(metadata_error(format!("`{name}` is not a list of strings"))),
    }
}

/// A name without what would let it pass for something else on a page: control and direction characters.
fn name(body: &Map<String, Value>) -> Result<Option<String>, OAuthError> {
    let shown = |c: &char| {
        !c.is_control() && !matches!(*c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let name = text(body, "client_name")?.map(|name| name.chars().filter(shown).take(NAME_CHARS).collect::<String>().trim().to_owned());
    Ok(name.filter(|name| !name.is_empty()))
}

impl ClientMetadata {
    /// Reads and checks what a client says about itself.
    ///
    /// # Errors
    ///
    /// [`OAuthError::InvalidClientMetadata`], [`OAuthError::InvalidRedirectUri`].
    pub fn parse(body: &Map<String, Value>) -> Result<Self, OAuthError> {
        let client_uri = text(body, "client_uri")?.ok_or_else(|| metadata_error("`client_uri` is missing"))?;
        let base = web_uri(&client_uri).ok_or_else(|| metadata_error("`client_uri` is not an https address"))?;
        let page = |field: &str| match text(body, field)? {
            Some(uri) if web_uri(&uri).is_some_and(|uri| below(&uri, &base)) => Ok(Some(uri)),
            Some(_) => Err(metadata_error(format!("`{field}` is not an https address on the host of `client_uri`"))),
            None => Ok(None),
        };
        let application_type = match text(body, "application_type")?.as_deref() {
            None | Some("web") => ApplicationType::Web,
            Some("native") => ApplicationType::Native,
            Some(_) => return Err(metadata_error("`application_type` is neither `web` nor `native`")),
        };
        if !matches!(text(body, "token_endpoint_auth_method")?.as_deref(), None | Some("none")) {
            return Err(metadata_error("only the `token_endpoint_auth_method` `none` is supported"));
        }
        let mut grant_types = list(body, "grant_types", &[AUTHORIZATION_CODE])?;
        grant_types.retain(|grant| GRANTS.contains(&grant.as_str()));
        let mut response_types = list(body, "response_types", &["code"])?;
        response_types.retain(|kind| kind == "code");
        let redirect_uris = list(body, "redirect_uris", &[])?;
        if redirect_uris.len() > REDIRECT_URIS {
            return Err(OAuthError::InvalidRedirectUri("too many redirect URIs".into()));
        }
        for uri in &redirect_uris {
            check_redirect_uri(uri, &base, application_type)?;
        }
        let by_browser = grant_types.iter().any(|grant| grant == AUTHORIZATION_CODE);
        if !by_browser && !grant_types.iter().any(|grant| grant == DEVICE_CODE) {
            return Err(metadata_error("`grant_types` holds no grant that signs in"));
        }
        if by_browser && redirect_uris.is_empty() {
            return Err(OAuthError::InvalidRedirectUri("`redirect_uris` is empty".into()));
        }
        if by_browser && response_types.is_empty() {
            return Err(metadata_error("`response_types` lacks `code`"));
        }
        Ok(Self {
            client_name: name(body)?,
            logo_uri: page("logo_uri")?,
            tos_uri: page("tos_uri")?,
            policy_uri: page("policy_uri")?,
            client_uri,
            redirect_uris,
            token_endpoint_auth_method: "none".into(),
            response_types,
            grant_types,
            application_type,
        }
        .with_refresh())
    }

    /// Every client may refresh: access tokens live for minutes, so without that its users would sign in again and again. RFC
    /// 7591 (3.2.1) lets a server register what it finds suitable, and tells the client.
    fn with_refresh(mut self) -> Self {
        if !self.may(REFRESH_TOKEN) {
            self.grant_types.push(REFRESH_TOKEN.to_owned());
        }
        self
    }

    /// What to call it.
    #[must_use]
    pub fn shown_name(&self) -> &str {
        self.client_name.as_deref().unwrap_or(&self.client_uri)
    }

    /// The host that speaks for it.
    #[must_use]
    pub fn host(&self) -> String {
        Url::parse(&self.client_uri).ok().and_then(|url| url.host_str().map(ToOwned::to_owned)).unwrap_or_default()
    }

    /// May it use this grant?
    #[must_use]
    pub fn may(&self, grant: &str) -> bool {
        self.grant_types.iter().any(|known| known == grant)
    }

    /// Is this one of its redirect URIs? To the letter, but for the port of the own machine (RFC 8252, 7.3).
    #[must_use]
    pub fn has_redirect_uri(&self, uri: &str) -> bool {
        self.redirect_uris
            .iter()
            .any(|known| known == uri || (self.application_type == ApplicationType::Native && same_but_port(known, uri)))
    }
}

impl Accounts {
    /// Registers a client, or finds the one that has registered the same.
    ///
    /// # Errors
    ///
    /// [`OAuthError::Full`], [`OAuthError::Store`].
    pub async fn register_client(&self, metadata: ClientMetadata) -> Result<Client, OAuthError> {
        let json = serde_json::to_string(&metadata).map_err(|e| metadata_error(e.to_string()))?;
        let (new_id, now_ms) = (self.randomness.alphanumeric(24), self.now_ms());
        let registered = self.store.write(move |tx| {
            let hash = Sha256::digest(json.as_bytes()).into();
            store::oauth::register(tx, &new_id, &json, &hash, CLIENTS, now_ms)
        });
        let client_id = registered.await?.ok_or(OAuthError::Full)?;
        Ok(Client { client_id, metadata })
    }

    /// The client of this ID.
    ///
    /// # Errors
    ///
    /// [`OAuthError::InvalidClient`].
    pub async fn client(&self, client_id: &str) -> Result<Client, OAuthError> {
        let wanted = client_id.to_owned();
        let found = self.store.read(move |db| store::oauth::client(db, &wanted)).await?.ok_or(OAuthError::InvalidClient)?;
        let metadata: ClientMetadata =
            serde_json::from_str(&found).map_err(|e| store::StoreError::Data(format!("client metadata: {e}")))?;
        // Those that registered before this was so.
        Ok(Client { client_id: client_id.to_owned(), metadata: metadata.with_refresh() })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops where its set-up fails")]

    use serde_json::json;

    use super::*;

    fn parse(value: &Value) -> Result<ClientMetadata, OAuthError> {
        ClientMetadata::parse(value.as_object().unwrap())
    }

    fn with_redirect(kind: &str, uri: &str) -> Result<ClientMetadata, OAuthError> {
        parse(&json!({ "client_uri": "https://example.com/", "application_type": kind, "redirect_uris": [uri] }))
    }

    #[test]
    fn what_is_not_understood_is_left_out_and_defaults_are_those_of_the_rfc() {
        let client = parse(&json!({
            "client_uri": "https://example.com/", "client_name": " A\u{202e}\n B ", "client_name#fr": "C", "contacts": ["x@y"],
            "redirect_uris": ["https://example.com/cb"], "grant_types": ["authorization_code", "refresh_token", "magic"],
            "response_types": ["code", "token"], "tos_uri": "https://www.example.com/tos",
        }))
        .unwrap();
        assert_eq!(
            serde_json::to_value(&client).unwrap(),
            json!({
                "client_uri": "https://example.com/", "client_name": "A B", "redirect_uris": ["https://example.com/cb"],
                "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
                "tos_uri": "https://www.example.com/tos", "application_type": "web", "token_endpoint_auth_method": "none",
            })
        );
        assert_eq!(with_redirect("web", "https://example.com/").unwrap().grant_types, [AUTHORIZATION_CODE, REFRESH_TOKEN]);
        let device = parse(&json!({ "client_uri": "https://example.com/", "grant_types": [DEVICE_CODE, REFRESH_TOKEN] })).unwrap();
        assert!(device.redirect_uris.is_empty() && device.may(DEVICE_CODE) && !device.may(AUTHORIZATION_CODE));
    }

    #[test]
    fn metadata_that_cannot_be_honoured_is_refused() {
        let good = json!({ "client_uri": "https://example.com/", "redirect_uris": ["https://example.com/cb"] });
        for (field, value) in [
            ("client_uri", Value::Null),
            ("client_uri", json!("http://example.com/")),
            ("client_uri", json!("https://user@example.com/")),
            ("client_uri", json!(7)),
            ("client_name", json!(7)),
            ("client_name", json!("x".repeat(5000))),
            ("application_type", json!("desktop")),
            ("token_endpoint_auth_method", json!("client_secret_basic")),
            ("tos_uri", json!("https://evil.com/")),
            ("logo_uri", json!("javascript:alert(1)")),
            ("grant_types", json!(["refresh_token"])),
            ("grant_types", json!("authorization_code")),
            ("response_types", json!(["token"])),
            ("response_types", json!([7])),
        ] {
            let mut body = good.clone();
            body[field] = value.clone();
            assert!(matches!(parse(&body), Err(OAuthError::InvalidClientMetadata(_))), "{field}: {value:.100}");
        }
        let mut many = good.clone();
        many["redirect_uris"] = json!(vec!["https://example.com/cb"; 17]);
        assert!(matches!(parse(&many), Err(OAuthError::InvalidRedirectUri(_))));
        many["redirect_uris"] = json!([]);
        assert!(matches!(parse(&many), Err(OAuthError::InvalidRedirectUri(_))));
    }
}
