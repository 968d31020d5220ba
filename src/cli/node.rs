//! The profile's own node in this process: started from the settings, asked for accounts through its admin socket, stopped
//! in order.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ruma::OwnedServerName;
use serde_json::json;

use super::{
    context::Context,
    control::{self, Request},
    exit::{Exit, Failure},
    owner::Owner,
    profile::Profile,
};
use crate::{
    base::{Secret, Shutdown, SystemClock, SystemRandomness, Tasks, sockets},
    config::{
        Origin,
        types::{Challenge, Days, Registration},
    },
    homeserver::{self, AccountError, CertificateSource, Homeserver, Listeners, StartError, TlsListeners, acme},
};

/// The name of a node that nobody but its owner talks to. The top-level domain is reserved for private use: no server on
/// the network can ever have it.
pub const LOCAL_SERVER_NAME: &str = "home.internal";

/// How long credentials for a TURN server are good: longer than most calls; clients ask again in time.
const TURN_TTL_S: u64 = 24 * 60 * 60;
const STOP_CONTROL: Duration = Duration::from_secs(2);

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where its data is.
    pub dir: PathBuf,
    /// The name that somebody decided on; without one the data says it, or it becomes a local node.
    pub server_name: Option<OwnedServerName>,
    /// True when the directory is the one that the screen of this profile finds as well.
    pub of_profile: bool,
    settings: crate::config::keys::Node,
    turn: Option<homeserver::config::Turn>,
    tls: Option<TlsListeners>,
    /// Whoever knows it can make accounts.
    shared_secret: Option<Secret>,
    appservices: Vec<homeserver::appservice::Registration>,
    sso: Vec<homeserver::users::sso::Provider>,
}

/// The secret in a file, without the end of its line.
fn read_secret(path: &Path) -> Result<Secret, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::file(path, &error))?;
    match text.trim() {
        "" => Err(Failure::usage(format!("{}: the file with the secret is empty", path.display()))),
        secret => Ok(Secret::new(secret.to_owned())),
    }
}

impl Plan {
    /// The node of a profile, as the settings have it.
    ///
    /// # Errors
    /// When the profile's record names no server.
    pub fn new(context: &Context, profile: &Profile) -> Result<Self, Failure> {
        let settings = context.config().node.clone();
        let of_profile = !matches!(context.effective.origin("node.data_dir"), Origin::Flag(_));
        let dir = settings.data_dir.clone().unwrap_or_else(|| profile.dirs().data.join("node"));
        let remembered = profile.home().filter(|_| of_profile).map(|home| parse_name(&home.server_name)).transpose()?;
        let server_name = settings.server_name.clone().or(remembered);
        let turn = turn(&settings)?;
        let shared_secret = settings.registration_shared_secret_file.as_deref().map(read_secret).transpose()?;
        let tls = tls(context.config(), server_name.as_deref())?;
        let appservices = settings.appservices.iter().map(|path| homeserver::appservice::Registration::load(path).map_err(Failure::usage));
        let appservices = appservices.collect::<Result<_, _>>()?;
        let sso = providers(&settings)?;
        Ok(Self { dir, server_name, of_profile, settings, turn, tls, shared_secret, appservices, sso })
    }

    /// The node's Unix socket for clients.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("node.sock")
    }

    /// The socket for the owner's commands.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.dir.join("admin.sock")
    }

    /// The same node, for its socket alone: a command that opens it for a moment serves nobody else.
    #[must_use]
    pub fn without_network(&self) -> Self {
        let mut plan = self.clone();
        plan.settings.listen.clear();
        plan.tls = None;
        plan
    }

    /// What the certificate authority is asked for, where the node has its certificate from one.
    #[must_use]
    pub fn acme(&self) -> Option<&acme::Settings> {
        match &self.tls.as_ref()?.certificate {
            CertificateSource::Acme(settings) => Some(settings),
            CertificateSource::Files { .. } => None,
        }
    }

    /// True when there is data of a node.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.dir.join("node.db").exists()
    }

    /// How other servers are talked to, and the networks that count as public.
    #[must_use]
    pub fn federation(&self) -> (homeserver::config::Federation, Vec<homeserver::config::Network>) {
        let federation = homeserver::config::Federation {
            enabled: self.settings.federation,
            extra_ca: self.settings.extra_ca.clone(),
            delegate: self.settings.delegate.as_ref().map(ToString::to_string),
            notaries: self.settings.notaries.clone(),
            block_servers: self.settings.block_servers.clone(),
            allow_servers: self.settings.allow_servers.clone(),
            allow_private_networks: self.settings.allow_private_networks,
        };
        (federation, self.settings.allow_networks.clone())
    }

    /// The name under which the node is known to other servers; `None` for a local one.
    #[must_use]
    pub fn federation_name(&self) -> Option<OwnedServerName> {
        self.server_name.clone().filter(|name| self.settings.federation && name.as_str() != LOCAL_SERVER_NAME)
    }

    /// True when others would look for the node at port 8448 and it is at 443, the port of HTTPS, where they ask for
    /// `.well-known` first.
    fn only_on_https(&self, name: &ruma::ServerName) -> bool {
        let has = |port| self.settings.listen_tls.iter().any(|address| address.port() == port);
        name.port().is_none() && has(443) && !has(8448)
    }

    fn config(&self, server_name: OwnedServerName) -> homeserver::Config {
        let mut config = homeserver::Config::new(server_name, self.dir.clone());
        config.registration = match self.settings.registration {
            Registration::Closed => homeserver::Registration::Closed,
            Registration::Token => homeserver::Registration::Token,
            Registration::Open => homeserver::Registration::Open,
        };
        config.rate_limits = self.settings.rate_limits;
        config.max_upload_bytes = self.settings.max_upload.0;
        config.outbound_networks.clone_from(&self.settings.allow_networks);
        // Nobody could reach a local node, nor believe what it says.
        let enabled = self.settings.federation && config.server_name.as_str() != LOCAL_SERVER_NAME;
        config.federation = homeserver::config::Federation { enabled, ..self.federation().0 };
        if config.federation.delegate.is_none() && self.only_on_https(&config.server_name) {
            config.federation.delegate = Some(format!("{}:443", config.server_name.host()));
        }
        config.policy_lists.clone_from(&self.settings.policy_lists);
        config.hold_strangers = self.settings.hold_strangers;
        config.trusted_proxies.clone_from(&self.settings.trusted_proxies);
        config.support_email.clone_from(&self.settings.support_email);
        config.support_page.clone_from(&self.settings.support_page);
        config.url_previews = self.settings.previews;
        config.turn.clone_from(&self.turn);
        config.livekit_urls.clone_from(&self.settings.livekit);
        config.public_base_url = self.settings.public_base_url.as_ref().map(|url| url.0.clone());
        config.registration_shared_secret = self.shared_secret.clone();
        config.appservices.clone_from(&self.appservices);
        config.sso.clone_from(&self.sso);
        config.media_user_bytes = self.settings.media_per_user.map(|size| size.0);
        config.media_total_bytes = self.settings.media_total.map(|size| size.0);
        config.media_retention = homeserver::media::Retention {
            age_ms: self.settings.media_age.map(Days::as_ms),
            unused_ms: self.settings.media_unused.map(Days::as_ms),
        };
        let version = &self.settings.terms_version;
        config.terms = self.settings.terms_url.clone().map(|url| homeserver::config::Terms { url, version: version.clone() });
        config
    }
}

/// The addresses with TLS, and where their certificate comes from.
fn tls(config: &crate::config::Config, server_name: Option<&ruma::ServerName>) -> Result<Option<TlsListeners>, Failure> {
    let node = &config.node;
    if node.listen_tls.is_empty() {
        return Ok(None);
    }
    let certificate = match (node.tls_cert.clone(), node.tls_key.clone()) {
        (Some(certificate), Some(key)) => CertificateSource::Files { certificate, key },
        (None, None) if config.acme.agree_terms => CertificateSource::Acme(authority(config, server_name)?),
        (None, None) => {
            return Err(Failure::usage(
                "node.listen_tls needs a certificate: either node.tls_cert and node.tls_key, files with one and its key, or \
                 acme.agree_terms = true, which says that you agree to the terms of the certificate authority (Let's Encrypt, unless \
                 acme.directory names another) and has the node get one by itself",
            ));
        }
        _ => return Err(Failure::usage("node.listen_tls needs node.tls_cert and node.tls_key, files with a certificate and its key")),
    };
    Ok(Some(TlsListeners { addresses: node.listen_tls.clone(), certificate }))
}

/// What a certificate authority is asked for.
fn authority(config: &crate::config::Config, server_name: Option<&ruma::ServerName>) -> Result<acme::Settings, Failure> {
    let (node, wanted) = (&config.node, &config.acme);
    let mut domains: Vec<String> = wanted.domains.iter().map(|domain| domain.to_ascii_lowercase()).collect();
    if domains.is_empty() {
        let names = server_name.into_iter().chain(node.delegate.as_deref());
        domains = names.map(|name| name.host().to_ascii_lowercase()).collect();
        domains.dedup();
    }
    if domains.is_empty() {
        return Err(Failure::usage("a certificate is for a name: set node.server_name, or acme.domains"));
    }
    for domain in &domains {
        let is_name = domain.len() <= 253 && domain.split('.').all(is_label) && domain.parse::<std::net::IpAddr>().is_err();
        if !is_name {
            return Err(Failure::usage(format!(
                "a certificate authority is asked for certificates of names, and `{domain}` is none; set acme.domains"
            )));
        }
    }
    if wanted.challenge == Challenge::Http01 && node.listen.is_empty() {
        return Err(Failure::usage("acme.challenge = \"http-01\" needs an address in node.listen to which port 80 of the names leads"));
    }
    if !wanted.directory.starts_with("https://") {
        return Err(Failure::usage("acme.directory has to be an https address"));
    }
    Ok(acme::Settings {
        directory: wanted.directory.clone(),
        email: wanted.email.clone(),
        challenge: match wanted.challenge {
            Challenge::TlsAlpn01 => acme::Challenge::TlsAlpn01,
            Challenge::Http01 => acme::Challenge::Http01,
        },
        domains,
        extra_ca: node.extra_ca.clone(),
    })
}

/// A part of a domain name.
fn is_label(label: &str) -> bool {
    let dashed = label.starts_with('-') || label.ends_with('-');
    (1..=63).contains(&label.len()) && !dashed && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// The providers at which people sign in, each with an ID of its own.
fn providers(settings: &crate::config::keys::Node) -> Result<Vec<homeserver::users::sso::Provider>, Failure> {
    let mut providers: Vec<homeserver::users::sso::Provider> = Vec::new();
    for path in &settings.sso {
        let provider = homeserver::users::sso::Provider::load(path).map_err(Failure::usage)?;
        if providers.iter().any(|other| other.id == provider.id || other.issuer == provider.issuer) {
            return Err(Failure::usage(format!("{}: another provider has this `id` or `issuer`", path.display())));
        }
        providers.push(provider);
    }
    Ok(providers)
}

/// The TURN servers with the secret that they share with the node.
fn turn(settings: &crate::config::keys::Node) -> Result<Option<homeserver::config::Turn>, Failure> {
    if settings.turn.is_empty() {
        return Ok(None);
    }
    let path = settings.turn_secret.as_ref().ok_or_else(|| Failure::usage("node.turn needs node.turn_secret, a file with the secret"))?;
    Ok(Some(homeserver::config::Turn { uris: settings.turn.clone(), secret: read_secret(path)?, ttl_s: TURN_TTL_S }))
}

/// Checks a server name.
///
/// # Errors
/// `Usage` with what is wrong.
pub fn parse_name(name: &str) -> Result<OwnedServerName, Failure> {
    ruma::ServerName::parse(name).map_err(|error| Failure::usage(format!("`{name}` is not a server name: {error}")))
}

/// The node, running in this process.
#[derive(Debug)]
pub struct OwnNode {
    homeserver: Homeserver,
    control: Tasks,
}

impl OwnNode {
    /// Starts the node and serves its admin socket. Ready to answer when this returns.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub async fn start(plan: &Plan, shutdown: &Shutdown) -> Result<Self, StartError> {
        let listeners = Listeners { socket: Some(plan.socket()), tcp: plan.settings.listen.clone(), tls: plan.tls.clone() };
        let start = |name: OwnedServerName| {
            let (clock, randomness) = (Arc::new(SystemClock), Arc::new(SystemRandomness));
            Homeserver::start(plan.config(name), listeners.clone(), clock, randomness, shutdown.child())
        };
        let homeserver = match &plan.server_name {
            Some(name) => start(name.clone()).await?,
            None => match start(local_name()).await {
                // Nobody asked for a name, so the one that the node has is right.
                Err(StartError::ServerNameChanged { found, path, wanted }) => match ruma::ServerName::parse(&found) {
                    Ok(name) => start(name).await?,
                    Err(_) => return Err(StartError::ServerNameChanged { found, path, wanted }),
                },
                other => other?,
            },
        };
        let control = Tasks::new(shutdown.child());
        let about = json!({ "server_name": homeserver.server_name().as_str(), "process": std::process::id() });
        let handler = Arc::new(Owner::new(about, Arc::clone(homeserver.node())));
        if let Err(error) = control::server::serve(&plan.admin_socket(), handler, &control) {
            homeserver.stop().await;
            return Err(StartError::Listen { address: plan.admin_socket().display().to_string(), error });
        }
        tracing::info!(server_name = %homeserver.server_name(), "the node runs");
        Ok(Self { homeserver, control })
    }

    /// Its services, for what runs in the same process.
    #[must_use]
    pub fn node(&self) -> &Arc<homeserver::Node> {
        self.homeserver.node()
    }

    /// Its server name.
    #[must_use]
    pub fn server_name(&self) -> String {
        self.homeserver.server_name().to_string()
    }

    /// Where it listens, for a person: URLs of the TCP addresses, then the socket.
    #[must_use]
    pub fn places(&self) -> Vec<String> {
        let socket = self.homeserver.socket().map(|path| format!("unix:{}", sockets::find(path).display()));
        let open = self.homeserver.addresses().iter().map(|address| format!("http://{address}"));
        let encrypted = self.homeserver.tls_addresses().iter().map(|address| format!("https://{address}"));
        open.chain(encrypted).chain(socket).collect()
    }

    /// Resolves when a part of it has failed, so that all of it stops. Cancel-safe.
    pub async fn failed(&self) {
        self.homeserver.stopped().await;
    }

    /// Makes an account.
    ///
    /// # Errors
    /// When the name is taken or is no name, or the store fails.
    pub async fn create_account(&self, name: &str, password: &Secret, admin: bool) -> Result<String, AccountError> {
        self.homeserver.create_account(name, password.expose(), admin).await.map(|user_id| user_id.to_string())
    }

    /// Stops it: requests in flight end, the store is closed last.
    pub async fn stop(self) {
        self.control.shutdown().trigger();
        if !self.control.finish(STOP_CONTROL).await {
            tracing::warn!("a control connection did not end in time");
        }
        self.homeserver.stop().await;
        tracing::info!("the node has stopped");
    }
}

fn local_name() -> OwnedServerName {
    ruma::ServerName::parse(LOCAL_SERVER_NAME).expect("the constant is a server name")
}

/// A node that another process runs.
#[derive(Debug)]
pub struct Attached {
    /// Its server name.
    pub server_name: String,
    watch: control::client::Answers,
}

impl Attached {
    /// Finds the process that runs the node.
    pub async fn find(admin_socket: &Path) -> Option<Self> {
        let mut watch = control::client::connect(admin_socket).await?.start(&Request::Watch).await.ok()?;
        let about = tokio::time::timeout(Duration::from_secs(5), watch.next()).await.ok()?.ok()??;
        let server_name = about.get("server_name")?.as_str()?.to_owned();
        Some(Self { server_name, watch })
    }

    /// Resolves when that process has ended. Cancel-safe as far as it matters: whatever arrives means the end.
    pub async fn ended(&mut self) {
        while let Ok(Some(_)) = self.watch.next().await {}
    }
}

/// An account error with its exit code.
#[must_use]
pub fn account_failure(error: &AccountError) -> Failure {
    let exit = match error {
        AccountError::InvalidUsername(_) | AccountError::WeakPassword(_) => Exit::Usage,
        AccountError::InUse | AccountError::Reserved | AccountError::RegistrationToken => Exit::Refused,
        AccountError::Hash(_) | AccountError::Store(_) => Exit::Failure,
    };
    Failure::new(exit, error.to_string())
}

/// A start error with its exit code.
#[must_use]
pub fn failure(error: &StartError) -> Failure {
    let exit = match error {
        StartError::InUse(_) => Exit::Busy,
        StartError::ServerNameChanged { .. } | StartError::AppServices(_) => Exit::Usage,
        StartError::Listen { error, .. } if error.kind() == std::io::ErrorKind::AddrInUse => Exit::Busy,
        _ => Exit::Failure,
    };
    Failure::new(exit, error.to_string())
}
