//! Names to addresses: a caching resolver of our own, because the system's knows neither SRV records nor times to live.

use std::{
    fmt::Debug,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use hickory_resolver::{
    TokioResolver,
    net::NetError,
    proto::rr::{RData, RecordType},
};
use tokio::time::Instant;

/// Answers that are kept.
const CACHED: u64 = 4096;
/// How long a failure, or an answer of "no such name", is believed at most.
const NEGATIVE: Duration = Duration::from_secs(5 * 60);
/// How long an answer is believed at most, whatever its time to live.
const POSITIVE: Duration = Duration::from_secs(24 * 60 * 60);
/// Where the machine's name servers are written.
const CONFIGURATION: &str = "/etc/resolv.conf";
/// How often that is looked at: a laptop moves from one network to another.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// Addresses and services that one name may have.
const MAX_ANSWERS: usize = 16;

/// Why a name was not resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// The name does not exist, or has no records of the kind.
    #[error("the name {0} has no address")]
    NoRecords(String),
    /// It could not be found out.
    #[error("the name {name} could not be looked up: {why}")]
    Failed {
        /// The name.
        name: String,
        /// What the resolver says.
        why: String,
    },
}

/// One SRV record (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Lower ones first.
    pub priority: u16,
    /// Among the same priority: how often this one is to be chosen.
    pub weight: u16,
    /// Where it is.
    pub port: u16,
    /// On which host; empty when the service is decidedly not offered.
    pub target: String,
}

/// Looks names up.
#[async_trait]
pub trait Dns: Debug + Send + Sync + 'static {
    /// A and AAAA records, CNAMEs followed. At least one, at most sixteen.
    ///
    /// # Errors
    ///
    /// [`DnsError`].
    async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsError>;

    /// SRV records; none is no error.
    ///
    /// # Errors
    ///
    /// [`DnsError::Failed`].
    async fn services(&self, name: &str) -> Result<Vec<Service>, DnsError>;
}

/// The name servers of `/etc/resolv.conf`, and `/etc/hosts`.
#[derive(Default)]
pub struct SystemDns {
    /// Read when the first name is looked up: a node that never federates does not pay for it.
    current: Mutex<Option<Current>>,
}

/// A resolver and the configuration that it was made from.
struct Current {
    resolver: TokioResolver,
    modified: Option<SystemTime>,
    next_look: Instant,
}

impl Debug for SystemDns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SystemDns").finish_non_exhaustive()
    }
}

impl SystemDns {
    /// The resolver, made anew when the machine has moved to another network.
    async fn resolver(&self, name: &str) -> Result<TokioResolver, DnsError> {
        let failed = |why: String| DnsError::Failed { name: name.to_owned(), why };
        let known = |at: Option<SystemTime>| {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            let current = current.as_mut()?;
            if at.is_some() && at == current.modified {
                current.next_look = Instant::now() + LOOK_AGAIN;
            }
            (Instant::now() < current.next_look).then(|| current.resolver.clone())
        };
        if let Some(resolver) = known(None) {
            return Ok(resolver);
        }
        let modified = tokio::fs::metadata(CONFIGURATION).await.and_then(|file| file.modified()).ok();
        if let Some(resolver) = known(modified) {
            return Ok(resolver);
        }
        let made = tokio::task::spawn_blocking(make).await.map_err(|error| failed(error.to_string()))?;
        let resolver = made.map_err(|error| failed(error.to_string()))?;
        let current = Current { resolver: resolver.clone(), modified, next_look: Instant::now() + LOOK_AGAIN };
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(current);
        Ok(resolver)
    }
}

fn make() -> Result<TokioResolver, NetError> {
    let mut builder = TokioResolver::builder_tokio()?;
    let options = builder.options_mut();
    options.cache_size = CACHED;
    options.negative_max_ttl = Some(NEGATIVE);
    options.positive_max_ttl = Some(POSITIVE);
    builder.build()
}

#[async_trait]
impl Dns for SystemDns {
    async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsError> {
        // With its dot the name is whole: no search domain of the machine is tried.
        let absolute = format!("{name}.");
        let resolver = self.resolver(name).await?;
        // Both kinds, whatever of the two the machine prefers; one may fail as long as the other has an answer.
        let (v4, v6) =
            tokio::join!(resolver.lookup(absolute.as_str(), RecordType::A), resolver.lookup(absolute.as_str(), RecordType::AAAA));
        let mut found = Vec::new();
        let mut failure = None;
        for answer in [v6, v4] {
            match answer {
                Ok(lookup) => found.extend(lookup.answers().iter().filter_map(|record| match &record.data {
                    RData::A(address) => Some(IpAddr::V4(address.0)),
                    RData::AAAA(address) => Some(IpAddr::V6(address.0)),
                    _ => None,
                })),
                Err(error) if is_nothing(&error) => {}
                Err(error) => failure = Some(error.to_string()),
            }
        }
        found.truncate(MAX_ANSWERS);
        match failure {
            _ if !found.is_empty() => Ok(found),
            Some(why) => Err(DnsError::Failed { name: name.to_owned(), why }),
            None => Err(DnsError::NoRecords(name.to_owned())),
        }
    }

    async fn services(&self, name: &str) -> Result<Vec<Service>, DnsError> {
        let lookup = match self.resolver(name).await?.lookup(format!("{name}."), RecordType::SRV).await {
            Ok(lookup) => lookup,
            Err(error) if is_nothing(&error) => return Ok(Vec::new()),
            Err(error) => return Err(DnsError::Failed { name: name.to_owned(), why: error.to_string() }),
        };
        let service = |record: &RData| match record {
            RData::SRV(srv) => Some(Service {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_ascii().trim_end_matches('.').to_ascii_lowercase(),
            }),
            _ => None,
        };
        Ok(lookup.answers().iter().filter_map(|record| service(&record.data)).take(MAX_ANSWERS).collect())
    }
}

fn is_nothing(error: &NetError) -> bool {
    error.is_no_records_found() || error.is_nx_domain()
}
