//! What the owner says of an OpenID Connect provider: one TOML file for each.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use crate::base::Secret;

/// Longest value of a claim that becomes part of a user name.
const CLAIM_BYTES: usize = 255;
/// Where the user name comes from, if the file does not say.
const LOCALPART: &str = "{preferred_username}";

/// The file as it is written. A key that is not ours is an error: it may be one that was meant to protect somebody.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: String,
    name: String,
    issuer: String,
    client_id: String,
    client_secret_file: Option<PathBuf>,
    scopes: Option<Vec<String>>,
    icon: Option<String>,
    brand: Option<String>,
    localpart: Option<String>,
    #[serde(default)]
    choose_localpart: bool,
    #[serde(default)]
    registration: bool,
    #[serde(default)]
    link_existing: bool,
    reauthenticates: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Claim(String),
}

/// A provider of identities.
#[derive(Debug, Clone)]
pub struct Provider {
    /// Its ID in paths, which never changes.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// Its issuer identifier, letter for letter.
    pub issuer: String,
    /// Who we are to it.
    pub client_id: String,
    /// How we show that; `None` for a public client, which has PKCE alone.
    pub client_secret: Option<Secret>,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// Its picture, an `mxc:` URI.
    pub icon: Option<String>,
    /// Which well-known brand it is (Client-Server API, "Client login via SSO").
    pub brand: Option<String>,
    /// A new user may change the name that the claims give.
    pub choose_localpart: bool,
    /// People without an account get one.
    pub registration: bool,
    /// An account that has the name which the claims give is theirs, although it was made otherwise.
    pub link_existing: bool,
    /// It asks anew who somebody is when it is told to, and says when it did (OpenID Connect Core 1.0, `prompt`, `max_age`,
    /// `auth_time`).
    pub reauthenticates: bool,
    localpart: Vec<Piece>,
}

/// A template such as `{preferred_username}` or `staff-{employee_id}`.
fn template(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (claim, after) = after.split_once('}').ok_or("`localpart` has a `{` without its `}`")?;
        if claim.is_empty() {
            return Err("`localpart` has a claim without a name".into());
        }
        pieces.extend([Piece::Text(before.to_owned()), Piece::Claim(claim.to_owned())]);
        rest = after;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    pieces.retain(|piece| *piece != Piece::Text(String::new()));
    let fits = |text: &String| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._=-/+".contains(&b));
    if pieces.iter().any(|piece| matches!(piece, Piece::Text(text) if !fits(text))) {
        return Err("`localpart` has characters that a user name cannot have".into());
    }
    if !pieces.iter().any(|piece| matches!(piece, Piece::Claim(_))) {
        return Err("`localpart` has no claim in it, such as `{preferred_username}`".into());
    }
    Ok(pieces)
}

/// Text from elsewhere with the characters that user names have (Appendices, "Mapping from other character sets").
fn mapped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.to_ascii_lowercase().bytes() {
        if byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("={byte:02x}"));
        }
    }
    out
}

impl Provider {
    /// Reads a provider's file and that with its secret. Blocks.
    ///
    /// # Errors
    ///
    /// What is wrong, for the owner.
    pub fn load(path: &Path) -> Result<Self, String> {
        let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| told(&error))?;
        Self::read(&text, path.parent().unwrap_or(Path::new(""))).map_err(|error| told(&error))
    }

    /// Reads a provider's settings; the file with its secret is searched in `dir`, if it has no absolute path. Blocks.
    ///
    /// # Errors
    ///
    /// What is wrong, for the owner.
    pub fn read(text: &str, dir: &Path) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if file.id.is_empty() || file.id.len() > 255 || !file.id.bytes().all(unreserved) {
            return Err("`id` has other characters than A-Z, a-z, 0-9 and -._~, or is empty or too long".into());
        }
        if file.name.trim().is_empty() || file.client_id.is_empty() {
            return Err("`name` or `client_id` is empty".into());
        }
        let issuer = Url::parse(&file.issuer).map_err(|error| format!("`issuer`: {error}"))?;
        let plain = issuer.query().is_none() && issuer.fragment().is_none() && issuer.username().is_empty() && issuer.password().is_none();
        if !matches!(issuer.scheme(), "https" | "http") || issuer.host().is_none() || !plain {
            return Err("`issuer` is no https URL without a query".into());
        }
        if file.icon.as_deref().is_some_and(|icon| <&ruma::MxcUri>::from(icon).validate().is_err()) {
            return Err("`icon` is no mxc: URI, such as an upload to this server has".into());
        }
        let client_secret = file.client_secret_file.map(|secret| secret_in(&dir.join(secret))).transpose()?;
        let mut scopes = file.scopes.unwrap_or_else(|| vec!["openid".into(), "profile".into()]);
        if !scopes.iter().any(|scope| scope == "openid") {
            scopes.insert(0, "openid".into());
        }
        Ok(Self {
            localpart: template(file.localpart.as_deref().unwrap_or(LOCALPART))?,
            id: file.id,
            name: file.name,
            issuer: file.issuer,
            client_id: file.client_id,
            client_secret,
            scopes,
            icon: file.icon,
            brand: file.brand,
            choose_localpart: file.choose_localpart,
            registration: file.registration,
            link_existing: file.link_existing,
            reauthenticates: file.reauthenticates.unwrap_or(true),
        })
    }

    /// The localpart that these claims give; `None` where one is missing or is no text or number.
    #[must_use]
    pub fn localpart(&self, claims: &Map<String, Value>) -> Option<String> {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => Some(text.clone()),
            Piece::Claim(name) => {
                let text = match claims.get(name)? {
                    Value::String(text) => text.clone(),
                    Value::Number(number) => number.to_string(),
                    _ => return None,
                };
                (!text.is_empty() && text.len() <= CLAIM_BYTES).then(|| mapped(&text))
            }
        };
        self.localpart.iter().map(piece).collect()
    }
}

fn secret_in(path: &Path) -> Result<Secret, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("client_secret_file {}: {error}", path.display()))?;
    match text.trim() {
        "" => Err(format!("client_secret_file {} is empty", path.display())),
        secret => Ok(Secret::new(secret.to_owned())),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use serde_json::json;

    use super::*;

    const FILE: &str = "id = \"work\"\nname = \"Work\"\nissuer = \"https://id.example.org/realms/x\"\nclient_id = \"homeroom\"\n";

    fn read(more: &str) -> Result<Provider, String> {
        Provider::read(&format!("{FILE}{more}\n"), Path::new("/nowhere"))
    }

    #[test]
    fn a_file_says_little_and_the_rest_is_careful() {
        let provider = read("").unwrap();
        assert_eq!(provider.scopes, ["openid", "profile"]);
        assert!(provider.reauthenticates && !read("reauthenticates = false").unwrap().reauthenticates);
        assert!(!provider.registration && !provider.link_existing && !provider.choose_localpart && provider.client_secret.is_none());
        assert_eq!(read("scopes = [\"email\"]").unwrap().scopes, ["openid", "email"]);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told() {
        for (more, told) in [
            ("registraton = true", "registraton"),
            ("icon = \"https://example.org/x.png\"", "mxc"),
            ("localpart = \"everybody\"", "no claim"),
            ("localpart = \"{sub\"", "without its"),
            ("localpart = \"Staff {sub}\"", "characters"),
            ("localpart = \"{}\"", "without a name"),
            ("client_secret_file = \"secret\"", "/nowhere/secret"),
        ] {
            let error = read(more).unwrap_err();
            assert!(error.contains(told), "{more}: {error}");
        }
        for (from, to) in [
            ("\"work\"", "\"wo/rk\""),
            ("https://id.example.org/realms/x", "ftp://id.example.org"),
            ("https://id.example.org/realms/x", "https://id.example.org/?a=b"),
            ("\"homeroom\"", "\"\""),
        ] {
            assert!(Provider::read(&FILE.replace(from, to), Path::new("/")).is_err(), "{to}");
        }
    }

    #[test]
    fn a_secret_is_read_from_its_file_and_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("s"), "hunter2\n").unwrap();
        let provider = Provider::read(&format!("{FILE}client_secret_file = \"s\"\n"), dir.path()).unwrap();
        assert_eq!(provider.client_secret.as_ref().unwrap().expose(), "hunter2");
        assert!(!format!("{provider:?}").contains("hunter2"));
    }

    #[test]
    fn claims_become_a_user_name_that_no_other_claim_gives() {
        let provider = read("localpart = \"x-{preferred_username}\"").unwrap();
        let of = |claims: Value| provider.localpart(claims.as_object().unwrap());
        assert_eq!(of(json!({ "preferred_username": "Ann.B" })).unwrap(), "x-ann.b");
        assert_eq!(of(json!({ "preferred_username": "ann@example.org" })).unwrap(), "x-ann=40example.org");
        assert_eq!(of(json!({ "preferred_username": "a=40" })).unwrap(), "x-a=3d40");
        assert_eq!(of(json!({ "preferred_username": "Ä" })).unwrap(), "x-=c3=84");
        assert_eq!(of(json!({ "preferred_username": 7 })).unwrap(), "x-7");
        for none in [json!({}), json!({ "preferred_username": "" }), json!({ "preferred_username": ["a"] })] {
            assert_eq!(of(none), None);
        }
    }
}
