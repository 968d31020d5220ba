//! The account's key, and what is signed with it (RFC 8555, section 6.2; RFC 7515, RFC 7638).

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::AcmeError;

/// Who signs: before there is an account the key itself says, afterwards the account's URL does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Signer<'a> {
    Key,
    Account(&'a str),
}

/// A P-256 key.
pub(super) struct AccountKey {
    pair: EcdsaKeyPair,
    x: String,
    y: String,
}

impl std::fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountKey").finish_non_exhaustive()
    }
}

impl AccountKey {
    /// Reads a key in PEM.
    pub(super) fn from_pem(pem: &[u8]) -> Option<Self> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).ok()?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der()).ok()?;
        // An uncompressed point: 4, x, y.
        let (x, y) = pair.public_key().as_ref().get(1..65)?.split_at_checked(32)?;
        let (x, y) = (BASE64.encode(x), BASE64.encode(y));
        Some(Self { pair, x, y })
    }

    fn jwk(&self) -> Value {
        json!({ "crv": "P-256", "kty": "EC", "x": self.x, "y": self.y })
    }

    /// What proves a challenge (RFC 8555, section 8.1).
    pub(super) fn authorisation(&self, token: &str) -> String {
        // RFC 7638, section 3: these members, in this order, without spaces.
        let jwk = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, self.x, self.y);
        format!("{token}.{}", BASE64.encode(Sha256::digest(jwk)))
    }

    /// A request's body. Without a payload it asks for what is there (RFC 8555, section 6.3).
    pub(super) fn sign(&self, signer: Signer<'_>, nonce: &str, url: &str, payload: Option<&Value>) -> Result<Vec<u8>, AcmeError> {
        let (name, who) = match signer {
            Signer::Key => ("jwk", self.jwk()),
            Signer::Account(account) => ("kid", account.into()),
        };
        let head = json!({ "alg": "ES256", "nonce": nonce, "url": url, name: who });
        let head = BASE64.encode(head.to_string());
        let payload = payload.map(|payload| BASE64.encode(payload.to_string())).unwrap_or_default();
        let signature = self.pair.sign(&SystemRandom::new(), format!("{head}.{payload}").as_bytes());
        let signature = signature.map_err(|_| AcmeError::Own("the account's key cannot sign".to_owned()))?;
        let body = json!({ "protected": head, "payload": payload, "signature": BASE64.encode(signature) });
        Ok(body.to_string().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

    use super::*;

    #[test]
    fn a_key_that_is_none_is_refused() {
        assert!(AccountKey::from_pem(b"").is_none());
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        assert!(AccountKey::from_pem(other.serialize_pem().as_bytes()).is_none());
    }

    #[test]
    fn the_debug_form_keeps_the_secret() {
        let pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let key = AccountKey::from_pem(pem.as_bytes()).unwrap();
        assert_eq!(format!("{key:?}"), "AccountKey { .. }");
        let thumbprint = key.authorisation("tok");
        assert!(thumbprint.starts_with("tok.") && thumbprint.len() == 4 + 43, "{thumbprint}");
    }
}
