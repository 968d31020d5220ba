//! The services of one running node, as handlers see them.

use std::sync::Arc;

use super::{
    Config, StartError,
    acme::Challenges,
    appservice::AppServices,
    base_url::BaseUrl,
    events::{Ctx, held::Caution, lists::Lists, policy::Approval},
    federation::{Federation, Given},
    key::SigningKey,
    media::{Media, places::Places},
    outbound::Outbound,
    rooms::acl::Acl,
    store::Store,
    sync::{Notifier, Sync},
    users::{Accounts, limits::Limits, rendezvous::Rendezvous, shared_secret::SharedSecret, sso::Sso, uia::UiaSessions},
};
use crate::base::{Clock, Randomness, Tasks};

/// Everything that a request may need. Parts are passed on to those who need them; nobody but the HTTP layer and the sync
/// engine takes the whole.
#[derive(Debug)]
pub struct Node {
    /// Settings.
    pub config: Config,
    /// The store.
    pub store: Store,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub randomness: Arc<dyn Randomness>,
    /// The node's signing key.
    pub key: Arc<SigningKey>,
    /// Local accounts and who is signed in to them.
    pub accounts: Accounts,
    /// Providers at which people sign in.
    pub sso: Sso,
    /// User-interactive authentication that is under way.
    pub uia: UiaSessions,
    /// Rate limits.
    pub limits: Limits,
    /// Where clients and browsers reach the node.
    pub base: BaseUrl,
    /// Sign-ins by QR code that are under way.
    pub rendezvous: Rendezvous,
    /// Registration by a secret of the owner's, where there is one.
    pub shared_secret: Option<SharedSecret>,
    /// Files.
    pub media: Media,
    /// Requests to addresses that users name.
    pub outbound: Outbound,
    /// Other servers.
    pub federation: Federation,
    /// Places for previews that are being made.
    pub previewing: Places,
    /// The turn of the search that is under way.
    pub searching: tokio::sync::Semaphore,
    /// Told when a delayed event is to be sent earlier than was known.
    pub delayed: tokio::sync::Notify,
    /// Wakes those who wait for news.
    pub notifier: Notifier,
    /// What sync keeps in memory.
    pub sync: Sync,
    /// Bridges and bots that act for many users.
    pub appservices: Arc<AppServices>,
    /// What the owner thinks of invites from elsewhere.
    pub caution: Arc<Caution>,
    /// What proves to a certificate authority that the node's names are ours.
    pub challenges: Arc<Challenges>,
    /// Owns background work.
    pub tasks: Tasks,
}

impl Node {
    pub(super) async fn open(
        config: Config,
        clock: Arc<dyn Clock>,
        randomness: Arc<dyn Randomness>,
        tasks: Tasks,
    ) -> Result<Self, StartError> {
        let notifier = Notifier::default();
        let dir = config.data_dir.clone();
        let path = dir.join("node.db");
        let observer = notifier.observer();
        let (for_key, for_media) = (Arc::clone(&randomness), (Arc::clone(&clock), Arc::clone(&randomness), config.media_limits()));
        let opened = tokio::task::spawn_blocking(move || {
            let store = Store::open(&path, observer).map_err(|error| StartError::Store { path, error })?;
            let key = SigningKey::load_or_create(&dir, for_key.as_ref())?;
            let (clock, randomness, limits) = for_media;
            let media =
                Media::open(&dir, store.clone(), clock, randomness, limits).map_err(|(path, error)| StartError::Io { path, error })?;
            Ok::<_, StartError>((store, key, media))
        });
        let (store, key, media) =
            opened.await.map_err(|e| StartError::Io { path: config.data_dir.clone(), error: std::io::Error::other(e) })??;
        claim_server_name(&store, &config).await?;
        let key = Arc::new(key);
        let appservices = AppServices::new(config.appservices.clone(), &config.server_name).map_err(StartError::AppServices)?;
        let appservices = Arc::new(appservices);
        let caution = Arc::new(Caution {
            strangers: config.hold_strangers,
            servers: Acl::of_owner(&config.federation.allow_servers, &config.federation.block_servers),
            lists: Lists::new(config.policy_lists.clone()),
        });
        let ctx = Ctx {
            server_name: config.server_name.clone(),
            key: Arc::clone(&key),
            now_ms: clock.now_ms(),
            randomness: Arc::clone(&randomness),
            appservices: Arc::clone(&appservices),
            caution: Arc::clone(&caution),
            // Whoever takes the events of others makes none.
            approval: Approval::default(),
        };
        let given = Given { config: &config, key: &key, store: &store, ctx: &ctx, clock: &clock, randomness: &randomness, tasks: &tasks };
        let failed = |error| StartError::Store { path: config.data_dir.join("node.db"), error };
        let federation = Federation::open(given).await.map_err(failed)?;
        let outbound = Outbound::new(config.outbound_networks.clone())
            .map_err(|error| StartError::Io { path: config.data_dir.clone(), error: std::io::Error::other(error) })?;
        let accounts =
            Accounts::new(store.clone(), Arc::clone(&clock), Arc::clone(&randomness), config.server_name.clone(), Arc::clone(&appservices));
        if let Some(base) = config.public_base_url.as_deref().map(|base| base.trim_end_matches('/')) {
            for provider in &config.sso {
                let redirect_uri = format!("{base}/_homeroom/sso/callback/{}", provider.id);
                tracing::info!(provider = provider.id, redirect_uri, "people sign in at a provider, which has to know this redirect URI");
            }
        }
        accounts.register_services().await.map_err(|error| StartError::AppServices(error.to_string()))?;
        Ok(Self {
            accounts,
            caution,
            challenges: Arc::default(),
            appservices,
            sso: Sso::new(config.sso.clone(), outbound.clone(), Arc::clone(&clock), Arc::clone(&randomness)),
            uia: UiaSessions::new(Arc::clone(&clock), Arc::clone(&randomness)),
            limits: Limits::new(Arc::clone(&clock), config.rate_limits),
            base: BaseUrl::new(config.public_base_url.as_deref(), &config.trusted_proxies),
            rendezvous: Rendezvous::new(Arc::clone(&clock), Arc::clone(&randomness)),
            shared_secret: (config.registration_shared_secret.clone())
                .map(|secret| SharedSecret::new(secret, Arc::clone(&clock), Arc::clone(&randomness))),
            federation,
            key,
            sync: Sync::new(clock.now_ms(), randomness.as_ref()),
            media,
            outbound,
            previewing: Places::default(),
            searching: tokio::sync::Semaphore::new(1),
            delayed: tokio::sync::Notify::new(),
            config,
            store,
            clock,
            randomness,
            notifier,
            tasks,
        })
    }
}

/// Writes the server name into a new store, and refuses a store that belongs to another.
async fn claim_server_name(store: &Store, config: &Config) -> Result<(), StartError> {
    let wanted = config.server_name.to_string();
    let name = wanted.clone();
    let found = store.write(move |tx| super::store::meta::claim(tx, "server_name", &name)).await;
    let found = found.map_err(|error| StartError::Store { path: config.data_dir.join("node.db"), error })?;
    if found == wanted { Ok(()) } else { Err(StartError::ServerNameChanged { path: config.data_dir.clone(), found, wanted }) }
}
