//! What a node needs to know before it starts.

use std::path::PathBuf;

use ruma::OwnedServerName;

pub use super::{acme::DEFAULT_DIRECTORY as ACME_DIRECTORY, outbound::Network};
use crate::base::Secret;

/// Who may create accounts with `POST /register`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Registration {
    /// Nobody: accounts are made by the owner.
    #[default]
    Closed,
    /// Whoever shows a registration token.
    Token,
    /// Everybody.
    Open,
}

/// A TURN server that shares a secret with the node (coturn's `use-auth-secret`).
#[derive(Debug, Clone)]
pub struct Turn {
    /// Its addresses, such as `turn:turn.example.org?transport=udp`.
    pub uris: Vec<String>,
    /// The shared secret.
    pub secret: Secret,
    /// How long credentials are good, in seconds.
    pub ttl_s: u64,
}

/// How a node talks to other servers.
#[derive(Debug, Clone, Default)]
pub struct Federation {
    /// Whether it does at all. A node that does not asks nobody, answers nobody, and pays nothing for it.
    pub enabled: bool,
    /// A PEM file of certificate authorities that are trusted beside the system's, for closed federations and tests.
    pub extra_ca: Option<PathBuf>,
    /// Where the server is, as `.well-known/matrix/server` tells it: a host, with a port or without.
    pub delegate: Option<String>,
    /// Servers that are asked for the keys of others which do not answer themselves. Their word is taken.
    pub notaries: Vec<OwnedServerName>,
    /// Servers that there is nothing to do with, as patterns: `*` for any run of characters, `?` for one.
    pub block_servers: Vec<String>,
    /// The only ones that there is anything to do with; with none, all others.
    pub allow_servers: Vec<String>,
    /// Connect to servers at private addresses as well.
    pub allow_private_networks: bool,
}

/// Terms that a new user has to accept.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The page that has them.
    pub url: String,
    /// Which version that is.
    pub version: String,
}

/// A node's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The part after the colon in this node's user IDs. Cannot be changed once the node has data.
    pub server_name: OwnedServerName,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Who may create accounts.
    pub registration: Registration,
    /// Answer `M_LIMIT_EXCEEDED` to clients that ask too often.
    pub rate_limits: bool,
    /// Largest media file that may be uploaded, in bytes.
    pub max_upload_bytes: u64,
    /// Base URL at which clients reach the node, for `.well-known/matrix/client` and the pages of OAuth; `None` where it has none.
    pub public_base_url: Option<String>,
    /// Networks that requests on behalf of users (push gateways, previews) may reach although they are not public.
    pub outbound_networks: Vec<Network>,
    /// Talking to other servers.
    pub federation: Federation,
    /// Who answers for the node: an e-mail address, for `.well-known/matrix/support`.
    pub support_email: Option<String>,
    /// A page for those who need help with the node.
    pub support_page: Option<String>,
    /// Fetch pages for previews of links.
    pub url_previews: bool,
    /// Reverse proxies whose `X-Forwarded-For` is believed. None by default: anybody could send that header.
    pub trusted_proxies: Vec<Network>,
    /// A TURN server for calls.
    pub turn: Option<Turn>,
    /// Base URLs of LiveKit authorisation services for group calls (MSC4195).
    pub livekit_urls: Vec<String>,
    /// Longest delay of a delayed event, in milliseconds; 0 switches them off.
    pub max_event_delay_ms: u64,
    /// Whoever knows it can make accounts at `/_synapse/admin/v1/register`.
    pub registration_shared_secret: Option<Secret>,
    /// Room for all files of one user, in bytes.
    pub media_user_bytes: Option<u64>,
    /// Room for all files that users have uploaded, in bytes.
    pub media_total_bytes: Option<u64>,
    /// How long files are kept.
    pub media_retention: super::media::Retention,
    /// What a new user has to accept.
    pub terms: Option<Terms>,
    /// Application services.
    pub appservices: Vec<super::appservice::Registration>,
    /// OpenID Connect providers at which people sign in.
    pub sso: Vec<super::users::sso::Provider>,
    /// Rooms that say who is not wanted.
    pub policy_lists: Vec<ruma::OwnedRoomId>,
    /// Hold invites of users of other servers who share no room with whom they invite, until the owner lets them through.
    pub hold_strangers: bool,
}

impl Config {
    /// Default for [`Config::max_upload_bytes`]: 100 MiB.
    pub const MAX_UPLOAD_BYTES: u64 = 100 * 1024 * 1024;

    /// How much room files may take.
    #[must_use]
    pub fn media_limits(&self) -> super::media::Limits {
        super::media::Limits { file: self.max_upload_bytes, user: self.media_user_bytes, total: self.media_total_bytes }
    }

    /// Default settings for a name and a directory.
    #[must_use]
    pub fn new(server_name: OwnedServerName, data_dir: PathBuf) -> Self {
        Self {
            server_name,
            data_dir,
            registration: Registration::Closed,
            rate_limits: true,
            max_upload_bytes: Self::MAX_UPLOAD_BYTES,
            public_base_url: None,
            outbound_networks: Vec::new(),
            federation: Federation::default(),
            support_email: None,
            support_page: None,
            url_previews: true,
            trusted_proxies: Vec::new(),
            turn: None,
            livekit_urls: Vec::new(),
            max_event_delay_ms: 24 * 60 * 60 * 1000,
            registration_shared_secret: None,
            media_user_bytes: None,
            media_total_bytes: None,
            media_retention: super::media::Retention::default(),
            terms: None,
            appservices: Vec::new(),
            sso: Vec::new(),
            policy_lists: Vec::new(),
            hold_strangers: false,
        }
    }
}
