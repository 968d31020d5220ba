//! Certificates from an authority that speaks ACME (RFC 8555): asked for, proven, kept, and renewed in time.
//!
//! [`Keeper`] takes one step at a time and says when the next one is due. An attempt counts as failed on disk before it begins
//! and until it is known to have succeeded, so that not even a node that crashes in the middle of each asks an authority more
//! often than it likes.

mod account;
mod authority;
mod certificates;
mod challenges;
mod disk;
mod order;
pub mod standing;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc, time::Duration};

use rustls::sign::CertifiedKey;

pub use self::{authority::AcmeError, challenges::Challenges};
pub(super) use self::{certificates::Certificates, challenges::TLS_ALPN};
use self::{
    disk::{Disk, State},
    order::Tools,
};
use crate::base::{Clock, Tasks};

/// The authority that is asked unless another is named: Let's Encrypt.
pub const DEFAULT_DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// Pause after a first failure.
const FIRST_PAUSE_MS: u64 = 10 * 60 * 1000;
/// Pause after a second one, doubled by each further one. Authorities allow a handful of failures an hour.
const SECOND_PAUSE_MS: u64 = 60 * 60 * 1000;
/// Longest pause that we choose ourselves.
const LONGEST_PAUSE_MS: u64 = 24 * 60 * 60 * 1000;
/// Longest pause that an authority may ask for: what is further off is a clock that was put back.
const LONGEST_WAIT_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// The clock is looked at again after this time, whatever is due: machines sleep.
const LOOK_AGAIN: Duration = Duration::from_secs(30 * 60);
/// How long one attempt may take: authorities check from several places, and some take their time.
const ATTEMPT: Duration = Duration::from_secs(10 * 60);

/// How it is proven that a name is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// By a certificate of its own on port 443 (RFC 8737).
    TlsAlpn01,
    /// By a page on port 80 (RFC 8555, section 8.3).
    Http01,
}

impl Challenge {
    /// As the protocol calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
        }
    }

    /// The port at which an authority looks.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::TlsAlpn01 => 443,
            Self::Http01 => 80,
        }
    }
}

/// What the owner has decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// URL of the authority's directory.
    pub directory: String,
    /// Where the authority may write to, should it have something to say.
    pub email: Option<String>,
    /// How names are proven.
    pub challenge: Challenge,
    /// The names that the certificate is for; at least one.
    pub domains: Vec<String>,
    /// A PEM file of authorities whose certificate the directory's server may have, beside the system's.
    pub extra_ca: Option<PathBuf>,
}

/// Keeps the node's certificate.
#[derive(Debug)]
pub(super) struct Keeper {
    settings: Settings,
    disk: Disk,
    certificates: Arc<Certificates>,
    clock: Arc<dyn Clock>,
    poll: Duration,
}

impl Keeper {
    /// Reads what is there. Asks nobody yet.
    pub(super) async fn open(settings: Settings, data_dir: PathBuf, challenges: Arc<Challenges>, clock: Arc<dyn Clock>) -> Self {
        let disk = Disk::new(&data_dir);
        let certificates = Arc::new(Certificates::new(challenges));
        match disk.certificate().await {
            Ok(Some(found)) => certificates.set(found),
            Ok(None) => {}
            // Another one is asked for; this one could not be shown anyway.
            Err(error) => tracing::warn!(%error, "the certificate that is there cannot be used"),
        }
        Self { settings, disk, certificates, clock, poll: Duration::from_secs(2) }
    }

    /// Asks an authority how far it is as often as this.
    #[cfg(test)]
    fn polling(mut self, poll: Duration) -> Self {
        self.poll = poll;
        self
    }

    /// What is shown to whoever connects.
    pub(super) fn certificates(&self) -> &Arc<Certificates> {
        &self.certificates
    }

    /// When a certificate is to be asked for next, in milliseconds since the Unix epoch.
    fn due_ms(&self, state: &State, now_ms: u64) -> u64 {
        let current = self.certificates.current();
        let fine = current.filter(|current| covers(current, &self.settings.domains));
        // One of another authority's (staging, as a rule) is not what the owner wants now.
        let fine = fine.filter(|_| state.issued_by.as_ref().is_none_or(|by| *by == self.settings.directory));
        let due_ms = fine.and_then(|current| renewal_ms(&current)).unwrap_or(0);
        match state.failed_with(&self.settings) && state.retry_at_ms <= now_ms.saturating_add(LONGEST_WAIT_MS) {
            true => due_ms.max(state.retry_at_ms),
            false => due_ms,
        }
    }

    /// Does what is due. Returns how long there is nothing to do.
    pub(super) async fn round(&self) -> Duration {
        let now_ms = self.clock.now_ms();
        let state = self.disk.state().await;
        let due_ms = self.due_ms(&state, now_ms);
        if due_ms > now_ms {
            return Duration::from_millis(due_ms - now_ms).min(LOOK_AGAIN);
        }
        let failures = if state.failed_with(&self.settings) { state.failures.saturating_add(1) } else { 1 };
        let mut attempt = State { failures, retry_at_ms: now_ms.saturating_add(pause_ms(failures)), ..state.attempting(&self.settings) };
        if let Err(error) = self.disk.set_state(&attempt).await {
            tracing::error!(%error, "no certificate is asked for, because the attempt cannot be written down");
            return LOOK_AGAIN;
        }
        let tools = Tools { settings: &self.settings, disk: &self.disk, challenges: self.certificates.challenges(), poll: self.poll };
        let issued = tokio::time::timeout(ATTEMPT, order::issue(tools)).await.unwrap_or(Err(AcmeError::TooSlow("the whole of it")));
        let kept = match issued {
            Ok(issued) => self.disk.set_certificate(issued.pem).await.map(|()| issued.certified),
            Err(error) => Err(error),
        };
        match kept {
            Ok(certified) => {
                self.certificates.set(certified);
                tracing::info!(domains = ?self.settings.domains, "there is a new certificate");
                attempt = State { issued_by: Some(self.settings.directory.clone()), ..State::default() };
            }
            Err(error) => {
                let asked_ms = error.retry_after().map_or(0, |after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
                let asked_ms = now_ms.saturating_add(asked_ms.min(LONGEST_WAIT_MS));
                attempt.retry_at_ms = attempt.retry_at_ms.max(asked_ms);
                tracing::warn!(%error, failures, retry_at_ms = attempt.retry_at_ms, "no certificate could be had");
                attempt.last_error = Some(error.to_string());
            }
        }
        if let Err(error) = self.disk.set_state(&attempt).await {
            tracing::error!(%error, "how the certificate stands cannot be written down");
        }
        // What was just decided, or the renewal of what was just issued.
        Duration::from_millis(self.due_ms(&attempt, now_ms).saturating_sub(now_ms)).clamp(Duration::from_secs(1), LOOK_AGAIN)
    }

    /// Takes an attempt back that was cut off by our own stopping: the next start goes on at once.
    async fn withdraw(&self, before: State) {
        if self.disk.state().await.last_error.is_none()
            && let Err(error) = self.disk.set_state(&before).await
        {
            tracing::warn!(%error, "the next start waits before it asks for a certificate again");
        }
    }
}

/// Starts the task. It ends with the node.
pub(super) fn start(keeper: Keeper, tasks: &Tasks) {
    let shutdown = tasks.shutdown().clone();
    tasks.spawn("node-certificate", async move {
        loop {
            let before = keeper.disk.state().await;
            // What is cut off here is begun anew by the next start.
            let pause = tokio::select! {
                () = shutdown.wait() => return keeper.withdraw(before).await,
                pause = keeper.round() => pause,
            };
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    });
}

/// The pause after so many failures one after the other.
fn pause_ms(failures: u32) -> u64 {
    match failures {
        0 | 1 => FIRST_PAUSE_MS,
        more => SECOND_PAUSE_MS.saturating_mul(1 << (more - 2).min(20)).min(LONGEST_PAUSE_MS),
    }
}

/// From when on a certificate is renewed: when a third of its life is left.
fn renewal_ms(certificate: &CertifiedKey) -> Option<u64> {
    let (from_ms, until_ms) = validity_ms(certificate)?;
    Some(until_ms.saturating_sub(until_ms.saturating_sub(from_ms) / 3))
}

/// From when to when it is valid, in milliseconds since the Unix epoch.
fn validity_ms(certificate: &CertifiedKey) -> Option<(u64, u64)> {
    let (from, until) = super::federation::doctor::certificate::validity(certificate.end_entity_cert().ok()?)?;
    let ms = |time: time::OffsetDateTime| u64::try_from(time.unix_timestamp()).unwrap_or(0).saturating_mul(1000);
    Some((ms(from), ms(until)))
}

/// Is the certificate good for all of these names?
fn covers(certificate: &CertifiedKey, domains: &[String]) -> bool {
    let Ok(shown) = certificate.end_entity_cert() else { return false };
    let Ok(parsed) = rustls::server::ParsedCertificate::try_from(shown) else { return false };
    domains.iter().all(|domain| {
        rustls::pki_types::ServerName::try_from(domain.as_str())
            .is_ok_and(|name| rustls::client::verify_server_name(&parsed, &name).is_ok())
    })
}
