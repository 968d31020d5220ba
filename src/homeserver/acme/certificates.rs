//! Which certificate is shown to whoever connects: the node's own, or a proof for an authority that looks.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::challenges::{Challenges, TLS_ALPN};

/// The certificate in force. It is replaced while connections go on.
#[derive(Debug, Default)]
pub(in crate::homeserver) struct Certificates {
    current: RwLock<Option<Arc<CertifiedKey>>>,
    challenges: Arc<Challenges>,
}

impl Certificates {
    pub(super) fn new(challenges: Arc<Challenges>) -> Self {
        Self { current: RwLock::new(None), challenges }
    }

    pub(super) fn challenges(&self) -> &Challenges {
        &self.challenges
    }

    pub(super) fn current(&self) -> Option<Arc<CertifiedKey>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, certificate: CertifiedKey) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(certificate));
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // An authority offers this protocol and no other (RFC 8737, section 3).
        let looks = hello.alpn().is_some_and(|mut offered| offered.next() == Some(TLS_ALPN) && offered.next().is_none());
        match looks {
            true => self.challenges.certificate(hello.server_name()?),
            false => self.current(),
        }
    }
}
