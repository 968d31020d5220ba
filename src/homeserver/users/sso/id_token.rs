//! ID tokens (OpenID Connect Core 1.0, 3.1.3.7): whose signature, for whom, until when.
//!
//! The signature is checked, although the code flow would let us trust the connection to the token endpoint instead: it costs
//! little, and a proxy in between gains nothing. RS256, which every provider has to have, and ES256.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Keys of one provider that are looked at.
const KEYS: usize = 64;
/// Longest ID token.
const TOKEN_BYTES: usize = 64 * 1024;
/// Longest subject (OpenID Connect Core 1.0, 2).
const SUBJECT_BYTES: usize = 255;
/// How far apart clocks may be, in seconds.
const SLACK_S: i64 = 120;

/// Why a token is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdTokenError {
    /// It is no token of the kind that we read.
    #[error("the ID token cannot be read: {0}")]
    Malformed(&'static str),
    /// It is signed with a key that the provider does not publish.
    #[error("the ID token is signed with an unknown key")]
    UnknownKey,
    /// The signature is not the key's.
    #[error("the signature of the ID token is wrong")]
    Signature,
    /// The person has not shown anew who they are.
    #[error("the provider has not asked anew who is there")]
    NotFresh,
    /// A claim is not what it has to be.
    #[error("the claim `{0}` of the ID token is missing or wrong")]
    Claim(&'static str),
}

/// What a token has to say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    /// The person has to have shown who they are since then.
    pub(super) since_ms: Option<u64>,
    pub(super) now_ms: u64,
}

#[derive(Debug)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
}

#[derive(Debug)]
struct Key {
    id: Option<String>,
    material: Material,
}

/// A provider's keys (RFC 7517, 5).
#[derive(Debug)]
pub(super) struct Keys(Vec<Key>);

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

fn integer(text: Option<&String>) -> Option<Vec<u8>> {
    let bytes = decode(text?)?;
    let from = bytes.iter().position(|byte| *byte != 0)?;
    bytes.get(from..).map(<[u8]>::to_vec)
}

impl Key {
    /// A key that we can use; what else is in the set is for others.
    fn read(jwk: &Jwk) -> Option<Self> {
        if jwk.used_for.as_deref().is_some_and(|used_for| used_for != "sig") {
            return None;
        }
        let alg = jwk.alg.as_deref();
        let material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) if matches!(alg, None | Some("RS256")) => Material::Rsa { n: integer(jwk.n.as_ref())?, e: integer(jwk.e.as_ref())? },
            ("EC", Some("P-256")) if matches!(alg, None | Some("ES256")) => {
                let (x, y) = (decode(jwk.x.as_ref()?)?, decode(jwk.y.as_ref()?)?);
                if x.len() != 32 || y.len() != 32 {
                    return None;
                }
                // An uncompressed point (SEC 1, 2.3.3).
                Material::P256([&[4], x.as_slice(), y.as_slice()].concat())
            }
            _ => return None,
        };
        Some(Self { id: jwk.kid.clone(), material })
    }

    const fn fits(&self, alg: &str) -> bool {
        matches!((&self.material, alg.as_bytes()), (Material::Rsa { .. }, b"RS256") | (Material::P256(_), b"ES256"))
    }

    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Rsa { n, e } => RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok(),
            Material::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok(),
        }
    }
}

impl Keys {
    /// Reads a JWK set; keys of other kinds are passed over. `None` when it is none.
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        let set: JwkSet = serde_json::from_slice(json).ok()?;
        let keys = set.keys.into_iter().take(KEYS).filter_map(|jwk| Key::read(&serde_json::from_value(jwk).ok()?));
        Some(Self(keys.collect()))
    }

    /// Checks a token, and returns its claims and subject.
    pub(super) fn check(&self, token: &str, expected: Expected<'_>) -> Result<(String, Map<String, Value>), IdTokenError> {
        if token.len() > TOKEN_BYTES {
            return Err(IdTokenError::Malformed("it is too long"));
        }
        let (message, signature) = token.rsplit_once('.').ok_or(IdTokenError::Malformed("it has no signature"))?;
        let (header, payload) = message.split_once('.').ok_or(IdTokenError::Malformed("it has no header"))?;
        let header = decode(header).and_then(|json| serde_json::from_slice::<Header>(&json).ok());
        let header = header.ok_or(IdTokenError::Malformed("its header is no JSON"))?;
        if header.crit.is_some() {
            return Err(IdTokenError::Malformed("it has extensions that have to be understood"));
        }
        // `none` and the HMACs are among what is not in this list (RFC 8725, 3.1).
        if !matches!(header.alg.as_str(), "RS256" | "ES256") {
            return Err(IdTokenError::Malformed("its algorithm is neither RS256 nor ES256"));
        }
        let signature = decode(signature).ok_or(IdTokenError::Malformed("its signature is no base64"))?;
        let named = |key: &&Key| header.kid.is_none() || key.id == header.kid;
        let keys: Vec<&Key> = self.0.iter().filter(|key| key.fits(&header.alg)).filter(named).collect();
        if keys.is_empty() {
            return Err(IdTokenError::UnknownKey);
        }
        if !keys.iter().any(|key| key.has_signed(message.as_bytes(), &signature)) {
            return Err(IdTokenError::Signature);
        }
        let claims = decode(payload).and_then(|json| serde_json::from_slice::<Map<String, Value>>(&json).ok());
        let claims = claims.ok_or(IdTokenError::Malformed("its claims are no JSON"))?;
        let subject = check_claims(&claims, expected)?;
        Ok((subject, claims))
    }
}

/// Checks the claims (OpenID Connect Core 1.0, 3.1.3.7, steps 2 to 11). The subject.
fn check_claims(claims: &Map<String, Value>, expected: Expected<'_>) -> Result<String, IdTokenError> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("iss") != Some(expected.issuer) {
        return Err(IdTokenError::Claim("iss"));
    }
    let audiences: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !audiences.contains(&expected.client_id) {
        return Err(IdTokenError::Claim("aud"));
    }
    let party = text("azp");
    if party.map_or(audiences.len() > 1, |party| party != expected.client_id) {
        return Err(IdTokenError::Claim("azp"));
    }
    // Some write times with a fraction.
    let time = |name: &str| claims.get(name).and_then(|value| value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64)));
    let now_s = i64::try_from(expected.now_ms / 1000).unwrap_or(i64::MAX);
    if time("exp").is_none_or(|exp| exp <= now_s.saturating_sub(SLACK_S)) {
        return Err(IdTokenError::Claim("exp"));
    }
    if time("iat").is_none_or(|iat| iat > now_s.saturating_add(SLACK_S)) {
        return Err(IdTokenError::Claim("iat"));
    }
    if time("nbf").is_some_and(|nbf| nbf > now_s.saturating_add(SLACK_S)) {
        return Err(IdTokenError::Claim("nbf"));
    }
    if text("nonce") != Some(expected.nonce) {
        return Err(IdTokenError::Claim("nonce"));
    }
    // Step 13: after a request with `max_age`, the claim has to be there (OpenID Connect Core 1.0, 2).
    if let Some(since_ms) = expected.since_ms {
        let since_s = i64::try_from(since_ms / 1000).unwrap_or(i64::MAX).saturating_sub(SLACK_S);
        if time("auth_time").is_none_or(|at| at < since_s || at > now_s.saturating_add(SLACK_S)) {
            return Err(IdTokenError::NotFresh);
        }
    }
    text("sub").filter(|sub| !sub.is_empty() && sub.len() <= SUBJECT_BYTES).map(ToOwned::to_owned).ok_or(IdTokenError::Claim("sub"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
pub(in crate::homeserver) mod tests {
    use aws_lc_rs::{
        rand::SystemRandom,
        rsa::{KeyPair as RsaKeyPair, KeySize},
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256},
    };
    use serde_json::json;

    use super::*;

    /// A key that signs ES256, as a provider has it.
    pub(in crate::homeserver) struct Signer {
        id: &'static str,
        pair: EcdsaKeyPair,
    }

    fn jws(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    impl Signer {
        pub(in crate::homeserver) fn new(id: &'static str) -> Self {
            Self { id, pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap() }
        }

        pub(in crate::homeserver) fn jwk(&self) -> Value {
            let point = self.pair.public_key().as_ref();
            let (x, y) = point.get(1..).unwrap().split_at(32);
            let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
            json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": self.id, "x": x, "y": y })
        }

        pub(in crate::homeserver) fn sign(&self, claims: &Value) -> String {
            jws(&json!({ "alg": "ES256", "kid": self.id }), claims, |message| {
                self.pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
            })
        }
    }

    const NOW_S: u64 = 1_790_000_000;
    const EXPECTED: Expected<'_> =
        Expected { issuer: "https://id.test", client_id: "us", nonce: "n", since_ms: None, now_ms: NOW_S * 1000 };

    fn good() -> Value {
        json!({ "iss": "https://id.test", "aud": "us", "nonce": "n", "sub": "42", "exp": NOW_S + 60, "iat": NOW_S })
    }

    fn keys(signer: &Signer) -> Keys {
        let other = json!({ "kty": "OKP", "crv": "Ed25519", "x": "AA" });
        Keys::read(json!({ "keys": [other, 7, signer.jwk()] }).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_token_of_the_provider_for_us_is_believed() {
        let signer = Signer::new("k");
        let (subject, claims) = keys(&signer).check(&signer.sign(&good()), EXPECTED).unwrap();
        assert_eq!((subject.as_str(), claims.get("aud")), ("42", Some(&json!("us"))));
        let mut many = good();
        many.as_object_mut().unwrap().extend([("aud".into(), json!(["them", "us"])), ("azp".into(), json!("us"))]);
        assert!(keys(&signer).check(&signer.sign(&many), EXPECTED).is_ok());
    }

    #[test]
    fn every_claim_counts() {
        let signer = Signer::new("k");
        for (name, value) in [
            ("iss", json!("https://id.test/")),
            ("iss", Value::Null),
            ("aud", json!("them")),
            ("aud", json!([])),
            ("aud", json!({ "us": 1 })),
            ("nonce", json!("m")),
            ("nonce", Value::Null),
            ("sub", json!("")),
            ("sub", json!(42)),
            ("sub", json!("x".repeat(256))),
            ("exp", json!(NOW_S - 121)),
            ("exp", Value::Null),
            ("iat", json!(NOW_S + 121)),
            ("nbf", json!(NOW_S + 121)),
            ("azp", json!("them")),
        ] {
            let mut claims = good();
            claims.as_object_mut().unwrap().insert(name.into(), value.clone());
            assert_eq!(keys(&signer).check(&signer.sign(&claims), EXPECTED), Err(IdTokenError::Claim(name)), "{name} {value}");
        }
        let mut claims = good();
        claims.as_object_mut().unwrap().insert("aud".into(), json!(["us", "them"]));
        assert_eq!(keys(&signer).check(&signer.sign(&claims), EXPECTED), Err(IdTokenError::Claim("azp")));
    }

    #[test]
    fn a_confirmation_needs_somebody_who_has_just_been_asked() {
        let signer = Signer::new("k");
        let check = |at: Value, expected: Expected<'_>| {
            let mut claims = good();
            claims.as_object_mut().unwrap().insert("auth_time".into(), at);
            keys(&signer).check(&signer.sign(&claims), expected).map(|_| ())
        };
        let since = Expected { since_ms: Some((NOW_S - 30) * 1000), ..EXPECTED };
        for good in [json!(NOW_S), json!(NOW_S - 30), json!(NOW_S as f64 - 0.5), json!(NOW_S - 150), json!(NOW_S + 120)] {
            assert_eq!(check(good.clone(), since), Ok(()), "{good}");
        }
        for bad in [json!(NOW_S - 151), json!(NOW_S + 121), json!(0), json!(NOW_S.to_string()), Value::Null] {
            assert_eq!(check(bad.clone(), since), Err(IdTokenError::NotFresh), "{bad}");
            assert_eq!(check(bad, EXPECTED), Ok(()), "to sign in, it does not matter");
        }
    }

    #[test]
    fn a_token_that_the_providers_key_has_not_signed_is_refused() {
        let (signer, other) = (Signer::new("k"), Signer::new("k"));
        let check = |token: &str| keys(&signer).check(token, EXPECTED).map(|_| ());
        assert_eq!(check(&other.sign(&good())), Err(IdTokenError::Signature));
        assert_eq!(check(&Signer::new("l").sign(&good())), Err(IdTokenError::UnknownKey));
        let (message, signature) = signer.sign(&good()).rsplit_once('.').map(|(m, s)| (m.to_owned(), s.to_owned())).unwrap();
        let header = message.split_once('.').unwrap().0;
        let forged = format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(good().to_string().replace("42", "43")));
        assert_eq!(check(&forged), Err(IdTokenError::Signature));
        for alg in ["none", "HS256", "RS512"] {
            let token = jws(&json!({ "alg": alg, "kid": "k" }), &good(), |_| Vec::new());
            assert!(matches!(check(&token), Err(IdTokenError::Malformed(_))), "{alg}");
        }
        // A key is used with its own algorithm only.
        assert_eq!(check(&jws(&json!({ "alg": "RS256", "kid": "k" }), &good(), |_| vec![0; 256])), Err(IdTokenError::UnknownKey));
        let critical = jws(&json!({ "alg": "ES256", "kid": "k", "crit": ["x"] }), &good(), |_| vec![0; 64]);
        assert!(matches!(check(&critical), Err(IdTokenError::Malformed(_))));
        for wrong in ["", ".", "..", "a.b", "a.b.c", &message, &format!("{message}."), &"x".repeat(TOKEN_BYTES + 1)] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rs256_is_understood() {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let sign = |message: &[u8]| {
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
            signature
        };
        let token = jws(&json!({ "alg": "RS256" }), &good(), sign);
        let (n, e) = components(pair.public_key().as_ref());
        let jwk = json!({ "kty": "RSA", "alg": "RS256", "n": URL_SAFE_NO_PAD.encode(n), "e": URL_SAFE_NO_PAD.encode(e) });
        let keys = Keys::read(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap();
        assert_eq!(keys.check(&token, EXPECTED).unwrap().0, "42");
        let broken = format!("{}.{}", token.rsplit_once('.').unwrap().0, URL_SAFE_NO_PAD.encode([1; 256]));
        assert_eq!(keys.check(&broken, EXPECTED), Err(IdTokenError::Signature));
    }

    /// Modulus and exponent of an `RSAPublicKey` (RFC 8017, A.1.1) of 2048 bits.
    fn components(der: &[u8]) -> (&[u8], &[u8]) {
        // SEQUENCE (4 bytes of header), INTEGER (4 bytes of header, 257 of content), INTEGER (2 bytes of header).
        let (n, rest) = der.get(8..).unwrap().split_at(257);
        (n, rest.get(2..).unwrap())
    }
}
