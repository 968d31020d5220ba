//! What proves that a name is ours, for as long as an authority looks.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};
use sha2::{Digest as _, Sha256};

use super::AcmeError;
use crate::homeserver::tls;

/// The protocol by which an authority asks for the proof while shaking hands (RFC 8737, section 6.2).
pub(in crate::homeserver) const TLS_ALPN: &[u8] = b"acme-tls/1";

/// The proofs that are shown at the moment. Without an attempt under way there are none.
#[derive(Debug, Default)]
pub struct Challenges {
    pages: Mutex<HashMap<String, String>>,
    certificates: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl Challenges {
    /// The page with this token (RFC 8555, section 8.3).
    #[must_use]
    pub fn page(&self, token: &str) -> Option<String> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }

    /// The certificate that proves this name (RFC 8737, section 3).
    pub(super) fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.certificates.lock().unwrap_or_else(PoisonError::into_inner).get(&name.to_ascii_lowercase()).cloned()
    }

    /// Shows a page until the value that is returned is dropped.
    pub(super) fn show_page(&self, token: &str, authorisation: &str) -> Shown<'_> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).insert(token.to_owned(), authorisation.to_owned());
        Shown { challenges: self, what: What::Page(token.to_owned()) }
    }

    /// Shows a certificate until the value that is returned is dropped.
    pub(super) fn show_certificate(&self, name: &str, authorisation: &str) -> Result<Shown<'_>, AcmeError> {
        let made = proof(name, authorisation)?;
        let name = name.to_ascii_lowercase();
        self.certificates.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), Arc::new(made));
        Ok(Shown { challenges: self, what: What::Certificate(name) })
    }
}

#[derive(Debug)]
enum What {
    Page(String),
    Certificate(String),
}

/// A proof that is shown.
#[derive(Debug)]
pub(super) struct Shown<'a> {
    challenges: &'a Challenges,
    what: What,
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        match &self.what {
            What::Page(token) => drop(self.challenges.pages.lock().unwrap_or_else(PoisonError::into_inner).remove(token)),
            What::Certificate(name) => drop(self.challenges.certificates.lock().unwrap_or_else(PoisonError::into_inner).remove(name)),
        }
    }
}

/// A certificate for the name alone, with the digest of the authorisation in `id-pe-acmeIdentifier`.
fn proof(name: &str, authorisation: &str) -> Result<CertifiedKey, AcmeError> {
    let own = |error: &dyn std::fmt::Display| AcmeError::Own(format!("the proof for {name} could not be made: {error}"));
    let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(|error| own(&error))?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&Sha256::digest(authorisation))];
    let key = KeyPair::generate().map_err(|error| own(&error))?;
    let certificate = params.self_signed(&key).map_err(|error| own(&error))?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let private = tls::provider().key_provider.load_private_key(private).map_err(|error| own(&error))?;
    // Made as it is: what looks into certificates refuses an extension that is critical and unknown to it, as this one is.
    Ok(CertifiedKey::new(vec![certificate.der().clone()], private))
}
