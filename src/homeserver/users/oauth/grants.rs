//! From a user's consent to tokens, from tokens to new ones, and their end (RFC 6749, RFC 7009, RFC 7636).

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ruma::OwnedDeviceId;
use sha2::{Digest as _, Sha256};

use super::{Client, OAuthError, Scope, client, device_code::Asked};
use crate::homeserver::{
    store::{
        self, StoreError, Tx,
        oauth::{Code, Grant},
        tokens::{NewTokens, TokenHash},
    },
    types::{Requester, UserNid},
    users::{Accounts, cross_signing, keys, tokens},
};

/// How long a code is good. It goes through the browser once.
const CODE_MS: i64 = 2 * 60 * 1000;
/// How long an access token is good (Client-Server API: "short-lived").
const ACCESS_MS: i64 = 5 * 60 * 1000;

/// What a user has consented to.
#[derive(Debug, Clone)]
pub struct CodeRequest {
    /// The client.
    pub client_id: String,
    /// The scope.
    pub scope: Scope,
    /// Where the code goes.
    pub redirect_uri: String,
    /// The PKCE challenge (S256).
    pub challenge: String,
}

/// What a client shows to have a code exchanged.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The code.
    pub code: String,
    /// The client.
    pub client_id: String,
    /// Where the code went.
    pub redirect_uri: String,
    /// The PKCE verifier.
    pub verifier: String,
}

/// What a client is given.
#[derive(Debug)]
pub struct Issued {
    /// The access token.
    pub access_token: String,
    /// What gets the next one.
    pub refresh_token: String,
    /// How long the access token is good.
    pub expires_in_ms: u64,
    /// What it is good for.
    pub scope: String,
}

/// How an exchange came out. A refusal is stored too: the code is used up.
enum Outcome {
    Issued(UserNid, String),
    Refused(&'static str),
    Replayed(UserNid),
}

/// A challenge: SHA-256 in base64url (RFC 7636, 4.2).
#[must_use]
pub fn is_challenge(text: &str) -> bool {
    text.len() == 43 && URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == 32)
}

/// RFC 7636, 4.1 and 4.6. What is compared are hashes of a secret that the client alone has.
fn verifies(verifier: &str, challenge: &str) -> bool {
    let well_formed = (43..=128).contains(&verifier.len()) && verifier.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
    well_formed && URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes())) == challenge
}

/// A device that a client signs in.
struct Arrival {
    user: UserNid,
    device_id: OwnedDeviceId,
    name: Option<String>,
    address: Option<IpAddr>,
    now_ms: i64,
}

/// Signs a device in for a client, in place of whoever had it. False when the client chose an ID that no device may have.
fn put(tx: &Tx<'_>, arrival: &Arrival, grant: &Grant, stored: &NewTokens) -> Result<bool, StoreError> {
    let Arrival { user, device_id, name, address, now_ms } = arrival;
    if cross_signing::is_key(&tx.reader(), *user, device_id)? {
        return Ok(false);
    }
    let ip = address.map(|ip| ip.to_string());
    store::tokens::revoke(tx, *user, device_id)?;
    store::devices::ensure(tx, *user, device_id, name.as_deref(), *now_ms, ip.as_deref())?;
    store::oauth::put_grant(tx, *user, device_id, grant, *now_ms)?;
    store::tokens::issue(tx, *user, device_id, stored, *now_ms)?;
    Ok(true)
}

/// True when somebody can sign in to the account now.
fn is_open(tx: &Tx<'_>, user: UserNid) -> Result<bool, StoreError> {
    let user_id = store::users::user_id(&tx.reader(), user)?;
    Ok(store::accounts::get(&tx.reader(), &user_id)?.is_some_and(|account| !account.deactivated && !account.locked))
}

impl Accounts {
    fn oauth_tokens(&self, supersedes: Option<TokenHash>) -> (NewTokens, Issued) {
        let (access_token, refresh_token) = (self.new_token("hra"), self.new_token("hrr"));
        let stored = NewTokens {
            access: tokens::hash(&access_token),
            expires_ms: Some(self.now_ms().saturating_add(ACCESS_MS)),
            refresh: Some(tokens::hash(&refresh_token)),
            supersedes,
        };
        (stored, Issued { access_token, refresh_token, expires_in_ms: ACCESS_MS.unsigned_abs(), scope: String::new() })
    }

    /// A code for what the user has consented to.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn issue_code(&self, user: UserNid, request: CodeRequest) -> Result<String, StoreError> {
        let code = self.new_token("hrc");
        let stored = Code {
            client_id: request.client_id,
            user,
            device_id: request.scope.device_id,
            scope: request.scope.granted,
            redirect_uri: request.redirect_uri,
            challenge: request.challenge,
            expires_ms: self.now_ms().saturating_add(CODE_MS),
            used: false,
        };
        let hash = tokens::hash(&code);
        self.store.write(move |tx| store::oauth::put_code(tx, &hash, &stored)).await?;
        Ok(code)
    }

    /// Tokens for a code. A code that is shown twice ends the session that was made with it (RFC 6749, 4.1.2).
    ///
    /// # Errors
    ///
    /// [`OAuthError::InvalidGrant`], [`OAuthError::UnauthorizedClient`].
    pub async fn exchange_code(&self, client: &Client, shown: Exchange, address: Option<IpAddr>) -> Result<Issued, OAuthError> {
        if !client.metadata.may(client::AUTHORIZATION_CODE) {
            return Err(OAuthError::UnauthorizedClient);
        }
        let (stored, issued) = self.oauth_tokens(None);
        let (hash, now_ms, name) = (tokens::hash(&shown.code), self.now_ms(), client.metadata.client_name.clone());
        let outcome = self.store.write(move |tx| {
            let Some(code) = store::oauth::use_code(tx, &hash)? else { return Ok(Outcome::Refused("the code is unknown")) };
            if code.used {
                let grant = store::oauth::grant(&tx.reader(), code.user, &code.device_id)?;
                if grant.is_some_and(|grant| grant.code_hash.as_deref() == Some(&hash[..])) {
                    keys::delete_devices(tx, code.user, &[code.device_id])?;
                }
                return Ok(Outcome::Replayed(code.user));
            }
            if code.client_id != shown.client_id {
                return Ok(Outcome::Refused("the code was given to another client"));
            }
            if code.redirect_uri != shown.redirect_uri {
                return Ok(Outcome::Refused("the redirect URI is not the one that the code was sent to"));
            }
            if !verifies(&shown.verifier, &code.challenge) {
                return Ok(Outcome::Refused("the code verifier does not fit the challenge"));
            }
            if code.expires_ms <= now_ms || !is_open(tx, code.user)? {
                return Ok(Outcome::Refused("the code has expired"));
            }
            let grant = Grant { client_id: code.client_id, scope: code.scope, code_hash: Some(hash.to_vec()) };
            let arrival = Arrival { user: code.user, device_id: code.device_id, name, address, now_ms };
            Ok::<_, StoreError>(match put(tx, &arrival, &grant, &stored)? {
                true => Outcome::Issued(code.user, grant.scope),
                false => Outcome::Refused("the device's ID is one of the user's cross-signing keys"),
            })
        });
        self.settle(client, outcome.await?, issued)
    }

    /// Tokens for what a user has allowed a device from another one.
    ///
    /// # Errors
    ///
    /// [`OAuthError::AccessDenied`] when the account has been closed or locked meanwhile, or no device may have the ID.
    pub async fn grant_device(&self, client: &Client, user: UserNid, asked: Asked, address: Option<IpAddr>) -> Result<Issued, OAuthError> {
        let (stored, issued) = self.oauth_tokens(None);
        let (now_ms, name) = (self.now_ms(), client.metadata.client_name.clone());
        let grant = Grant { client_id: asked.client_id, scope: asked.scope.granted, code_hash: None };
        let scope = grant.scope.clone();
        let arrival = Arrival { user, device_id: asked.scope.device_id, name, address, now_ms };
        let done = self.store.write(move |tx| {
            if !is_open(tx, user)? {
                return Ok::<_, StoreError>(false);
            }
            put(tx, &arrival, &grant, &stored)
        });
        if !done.await? {
            return Err(OAuthError::AccessDenied);
        }
        self.tokens.forget(user, None);
        Ok(Issued { scope, ..issued })
    }

    /// New tokens for a refresh token. The old ones stay good until one of the new is used; whoever shows an old one after
    /// that ends the session, because two have it (RFC 9700, 4.14.2).
    ///
    /// # Errors
    ///
    /// [`OAuthError::InvalidGrant`], [`OAuthError::UnauthorizedClient`].
    pub async fn refresh_oauth(&self, client: &Client, refresh_token: &str) -> Result<Issued, OAuthError> {
        if !client.metadata.may(client::REFRESH_TOKEN) {
            return Err(OAuthError::UnauthorizedClient);
        }
        let used = tokens::hash(refresh_token);
        let (stored, issued) = self.oauth_tokens(Some(used));
        let (now_ms, client_id) = (self.now_ms(), client.client_id.clone());
        let outcome = self.store.write(move |tx| {
            let Some((user, device_id, supersedes)) = store::tokens::refresh(&tx.reader(), &used)? else {
                let Some((user, device_id)) = store::tokens::spent(&tx.reader(), &used)? else {
                    return Ok(Outcome::Refused("the refresh token is unknown"));
                };
                keys::delete_devices(tx, user, &[device_id.into()])?;
                return Ok(Outcome::Replayed(user));
            };
            let device_id = OwnedDeviceId::from(device_id);
            let Some(grant) = store::oauth::grant(&tx.reader(), user, &device_id)? else {
                return Ok(Outcome::Refused("the refresh token belongs to the legacy API"));
            };
            if grant.client_id != client_id {
                return Ok(Outcome::Refused("the refresh token was given to another client"));
            }
            super::super::sessions::rotate(tx, user, &device_id, &used, supersedes.as_deref(), &stored, now_ms)?;
            Ok::<_, StoreError>(Outcome::Issued(user, grant.scope))
        });
        self.settle(client, outcome.await?, issued)
    }

    /// What a write came to: whatever it was, the tokens that are remembered for the user are no longer right.
    fn settle(&self, client: &Client, outcome: Outcome, issued: Issued) -> Result<Issued, OAuthError> {
        match outcome {
            Outcome::Issued(user, scope) => {
                self.tokens.forget(user, None);
                Ok(Issued { scope, ..issued })
            }
            Outcome::Refused(why) => Err(OAuthError::InvalidGrant(why)),
            Outcome::Replayed(user) => {
                self.tokens.forget(user, None);
                tracing::warn!(client_id = client.client_id, "a code or refresh token was used twice; its session was ended");
                Err(OAuthError::InvalidGrant("it has been used before; its session was ended"))
            }
        }
    }

    /// Ends the session that a token belongs to, whoever shows it (RFC 7009; Client-Server API, "Token revocation"). A token
    /// that is not known is as good as revoked.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn revoke_token(&self, token: &str, client_id: Option<String>) -> Result<(), StoreError> {
        let hash = tokens::hash(token);
        let ended = self.store.write(move |tx| {
            let Some((user, device_id)) = store::tokens::owner(&tx.reader(), &hash)? else { return Ok(None) };
            let device_id = OwnedDeviceId::from(device_id);
            let grant = store::oauth::grant(&tx.reader(), user, &device_id)?;
            keys::delete_devices(tx, user, &[device_id])?;
            let stranger = grant.is_none_or(|grant| client_id.is_none_or(|shown| shown != grant.client_id));
            Ok::<_, StoreError>(Some((user, stranger)))
        });
        if let Some((user, stranger)) = ended.await? {
            self.tokens.forget(user, None);
            if stranger {
                tracing::warn!("a session was ended by somebody who is not its client; its token may have leaked");
            }
        }
        Ok(())
    }

    /// What the requester's client was granted; `None` where it signed in by the legacy API.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn grant_of(&self, who: &Requester) -> Result<Option<Grant>, StoreError> {
        let (user, device_id) = (who.user, who.device_id.clone());
        self.store.read(move |db| store::oauth::grant(db, user, &device_id)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_verifier_of_a_challenge_fits_it() {
        // RFC 7636, appendix B.
        let (verifier, challenge) = ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert!(is_challenge(challenge) && verifies(verifier, challenge));
        assert!(!verifies(challenge, challenge), "the challenge itself, as the method `plain` would have it");
        for wrong in ["", &verifier[1..], &format!("{verifier}="), &"x".repeat(129), &verifier.to_lowercase()] {
            assert!(!verifies(wrong, challenge), "{wrong}");
        }
        for wrong in ["", &challenge[1..], &format!("{challenge}="), &challenge.replace('-', "+")] {
            assert!(!is_challenge(wrong), "{wrong}");
        }
    }
}
