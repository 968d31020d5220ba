//! The settings themselves: the one table that the reader, `homeroom config` and the manual are made from.
//!
//! A setting's documentation comment is its text in the manual, so a key cannot exist without one.

use std::{net::SocketAddr, path::PathBuf};

use ruma::{OwnedRoomId, OwnedServerName};

use super::{
    types::{BaseUrl, Challenge, Colour, Days, LogFilter, Network, Notifications, Registration, Size},
    value::{Setting, Value},
};

/// A setting, as the table knows it.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Section, `ui` in `ui.theme`.
    pub section: &'static str,
    /// Name within the section.
    pub name: &'static str,
    /// Lines of its documentation, each with the space that a doc comment leaves in front.
    pub doc: &'static [&'static str],
    /// What a person may write.
    pub expects: fn() -> String,
    /// Value where nothing is configured.
    pub default: fn() -> Value,
    pub(super) apply: fn(&mut Config, &Value) -> Result<(), Option<String>>,
    pub(super) show: fn(&Config) -> Value,
}

impl Key {
    /// `section.name`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// The environment variable that sets it.
    #[must_use]
    pub fn variable(&self) -> String {
        if (self.section, self.name) == ("log", "level") {
            return "HOMEROOM_LOG".to_owned();
        }
        format!("HOMEROOM_{}_{}", self.section, self.name).to_uppercase()
    }

    /// The documentation as one paragraph.
    #[must_use]
    pub fn text(&self) -> String {
        self.doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }
}

macro_rules! settings {
    ($( $(#[doc = $section_doc:literal])* $section:ident : $Section:ident {
        $( $(#[doc = $doc:literal])* $key:ident : $ty:ty = $default:expr; )*
    } )*) => {
        $(
            $(#[doc = $section_doc])*
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $Section { $( $(#[doc = $doc])* pub $key: $ty, )* }

            impl Default for $Section {
                fn default() -> Self {
                    Self { $( $key: $default, )* }
                }
            }
        )*

        /// Every setting.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Config { $( $(#[doc = $section_doc])* pub $section: $Section, )* }

        /// The sections and what they are about.
        pub const SECTIONS: &[(&str, &[&str])] = &[$( (stringify!($section), &[$($section_doc),*]), )*];

        /// The table of settings, in the order of the manual.
        pub const KEYS: &[Key] = &[$($(
            Key {
                section: stringify!($section),
                name: stringify!($key),
                doc: &[$($doc),*],
                expects: <$ty as Setting>::expects,
                default: || <$ty as Setting>::show(&$Section::default().$key),
                apply: |config, value| <$ty as Setting>::read(value).map(|read| config.$section.$key = read),
                show: |config| <$ty as Setting>::show(&config.$section.$key),
            },
        )*)*];
    };
}

settings! {
    /// The screen.
    ui: Ui {
        /// Key bindings: "default", "vim" or "emacs". A file `keymap.toml` beside the configuration file changes single
        /// bindings.
        keymap: String = "default".to_owned();
        /// Colours: "dark", "light", "ansi16" (the terminal's own sixteen), or the name of a file in the directory `themes`
        /// beside the configuration file, without `.toml`.
        theme: String = "dark".to_owned();
        /// How many colours to use. "auto" goes by what `COLORTERM` and `TERM` say, and uses none when
        /// `NO_COLOR` is set.
        colour: Colour = Colour::Auto;
        /// What to do about messages that mention you or are in a direct chat, while the terminal's window has not the focus:
        /// "osc" has the terminal show a notification of the desktop (OSC 9, 777 or 99, also over SSH) and rings its bell where
        /// it cannot; "bell" rings the bell.
        notifications: Notifications = Notifications::Osc;
        /// Let the mouse scroll and select. Without it, the terminal's own selection works as usual.
        mouse: bool = false;
    }
    /// The client, whichever homeserver it talks to.
    client: Client {
        /// Keep passwords and tokens in the system's keyring where there is one. Otherwise, or without one, they are in a
        /// file that only you can read. Decided when a profile is created.
        keyring: bool = true;
    }
    /// The profile's own node, for `homeroom serve` and for the node inside the terminal program alike.
    node: Node {
        /// The name behind the colon in every user ID of the node. Fixed for the lifetime of a node: it cannot change once
        /// the node has been created. Without one a node is local only.
        server_name: Option<OwnedServerName> = None;
        /// Where the node keeps its data. The default is a directory of the profile's own.
        data_dir: Option<PathBuf> = None;
        /// Addresses on which other programs reach the node over plain HTTP; for the network, put a TLS proxy in front, or use
        /// node.listen_tls. The node's Unix socket is always there.
        listen: Vec<SocketAddr> = Vec::new();
        /// Addresses on which clients and other servers reach the node over TLS, such as "[::]:8448" and "[::]:443". Needs
        /// node.tls_cert and node.tls_key, or acme.agree_terms.
        listen_tls: Vec<SocketAddr> = Vec::new();
        /// A PEM file with the node's certificate and those that vouch for it. It is read again when it changes.
        tls_cert: Option<PathBuf> = None;
        /// A PEM file with the certificate's private key.
        tls_key: Option<PathBuf> = None;
        /// Talk to other servers. A node without a server name of its own never does.
        federation: bool = true;
        /// Where other servers reach the node when that is not port 8448 of its server name: a host such as
        /// "matrix.example.org:443", told at `/.well-known/matrix/server`.
        delegate: Option<OwnedServerName> = None;
        /// A PEM file of certificate authorities that are trusted beside the system's when connecting to other servers.
        extra_ca: Option<PathBuf> = None;
        /// Servers that are asked for the keys of others which do not answer themselves, or of many at once. Their word is taken.
        notaries: Vec<OwnedServerName> = vec!["matrix.org".try_into().expect("a server name")];
        /// Servers that the node has nothing to do with, as patterns such as "*.example.org" (`*` for any run of characters, `?` for
        /// one, ports do not count): their requests are refused, nothing is sent to them, and nobody joins through them. What their
        /// users say in rooms that others are in as well still comes from those; a room's own list keeps them out of the room.
        block_servers: Vec<String> = Vec::new();
        /// The only servers that the node has anything to do with, as patterns. Without any, all that are not blocked.
        allow_servers: Vec<String> = Vec::new();
        /// Rooms that are policy lists (`m.policy.rule.user`, `.server` and `.room`, also in their older forms): invites by whom they
        /// ban, and to rooms that they ban, are refused. Somebody of the node has to be in such a room.
        policy_lists: Vec<OwnedRoomId> = Vec::new();
        /// Hold invites by users of other servers who share no room with whom they invite: nobody is shown them, and whoever invites
        /// is not told. `homeroom account invites` lists them and lets them through.
        hold_strangers: bool = false;
        /// Connect to other servers at private addresses as well, for a federation within a network.
        allow_private_networks: bool = false;
        /// The address at which other machines reach the node through a proxy, which has to pass on `/_matrix` and
        /// `/_homeroom`. Modern clients sign in with OAuth 2.0 on a page there. Without it they do so on this computer only, and
        /// from elsewhere with a password.
        public_base_url: Option<BaseUrl> = None;
        /// Who may create an account.
        registration: Registration = Registration::Closed;
        /// A file with a secret. Whoever knows it can make accounts at `/_synapse/admin/v1/register`, as scripts and bridges do
        /// that were made for Synapse.
        registration_shared_secret_file: Option<PathBuf> = None;
        /// Limit how often one client may try passwords, send and register.
        rate_limits: bool = true;
        /// The largest file that can be uploaded.
        max_upload: Size = Size(50 << 20);
        /// Room for all files that one user has uploaded. Without it there is no limit but the disk.
        media_per_user: Option<Size> = None;
        /// Room for all files that users of the node have uploaded. Files of other servers count for nobody: those that were fetched
        /// are kept beside these, at most 1 GiB of them, and those that nobody has used for longest go first.
        media_total: Option<Size> = None;
        /// Remove uploaded files when they are this old. Pictures of people and rooms stay.
        media_age: Option<Days> = None;
        /// Remove uploaded files that nobody has fetched for so long. Pictures of people and rooms stay.
        media_unused: Option<Days> = None;
        /// A web page with terms that whoever registers has to accept.
        terms_url: Option<String> = None;
        /// The version of these terms, as it is told to clients.
        terms_version: String = "1".to_owned();
        /// Networks such as "192.168.1.0/24" that push gateways and previews of links may lead to. Without any, the node
        /// connects to public addresses only when it does so on behalf of a user.
        allow_networks: Vec<Network> = Vec::new();
        /// Reverse proxies, as addresses or networks, whose `X-Forwarded-For` header is believed. Limits then count for each
        /// client instead of for the proxy.
        trusted_proxies: Vec<Network> = Vec::new();
        /// An e-mail address for those who need to reach you about the node. It is told to everybody.
        support_email: Option<String> = None;
        /// A web page for those who need help with the node.
        support_page: Option<String> = None;
        /// Fetch pages that users link to, for previews.
        previews: bool = true;
        /// TURN servers for calls, such as "turn:turn.example.org?transport=udp", that share a secret with the node (coturn's
        /// `use-auth-secret`).
        turn: Vec<String> = Vec::new();
        /// A file that holds the secret of the TURN servers.
        turn_secret: Option<PathBuf> = None;
        /// Authorisation services of LiveKit servers for group calls, such as "https://rtc.example.org".
        livekit: Vec<String> = Vec::new();
        /// Registration files of application services: bridges to other networks, and bots that act for many users. A bridge
        /// makes its file itself; it has to be able to read it, and so does the node.
        appservices: Vec<PathBuf> = Vec::new();
        /// Files that describe OpenID Connect providers at which people sign in, one each, in TOML: `id`, `name`, `issuer`,
        /// `client_id` and, if the provider gave one, `client_secret_file`; also `scopes` (["openid", "profile"]), `localpart`
        /// (how a user name is made from claims: "{preferred_username}"), `choose_localpart` (new users may change it),
        /// `registration` (people without an account get one: false), `link_existing` (the account that has the name already is
        /// theirs, unless it is an administrator's: false; only for a provider whose users cannot choose names), `icon` (mxc:) and
        /// `brand`. What needs a password otherwise is confirmed by a provider that asks anew who somebody is (`prompt=login`,
        /// `max_age=0`, `auth_time`); `reauthenticates` = false takes a visit there instead, for a provider that cannot do that. At
        /// each provider, register `/_homeroom/sso/callback/ID` of node.public_base_url as redirect URI, with the `id` of its file;
        /// the node logs it when it starts. That URL should be https: with plain http, whoever is on the way, or has another site of
        /// the same domain, can get in between. A provider that is not at a public address needs node.allow_networks.
        sso: Vec<PathBuf> = Vec::new();
    }
    /// Certificates that the node gets and renews by itself, for node.listen_tls without node.tls_cert: by ACME (RFC 8555), from
    /// Let's Encrypt unless another authority is named. `homeroom doctor` says how it stands.
    acme: Acme {
        /// You agree to the terms of the certificate authority. Nothing is asked of it before.
        agree_terms: bool = false;
        /// The authority's directory.
        directory: String = crate::homeserver::config::ACME_DIRECTORY.to_owned();
        /// An e-mail address at which the authority may reach you.
        email: Option<String> = None;
        /// How the authority is shown that the names are the node's: "tls-alpn-01" needs port 443 of the names to lead to an address
        /// of node.listen_tls, "http-01" needs port 80 to lead to one of node.listen.
        challenge: Challenge = Challenge::TlsAlpn01;
        /// The names that the certificate is for. Without any, the host in node.server_name and the one in node.delegate.
        domains: Vec<String> = Vec::new();
    }
    /// The log file in the state directory.
    log: Log {
        /// Which lines to write. Message texts, passwords and keys are never among them.
        level: LogFilter = LogFilter("info,matrix_sdk=warn,matrix_sdk_base=warn,matrix_sdk_crypto=warn,matrix_sdk_ui=warn,ruma_state_res=warn".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_documented_and_takes_its_own_default() {
        for key in KEYS {
            assert!(key.text().len() > 10, "{} has no documentation", key.path());
            let default = (key.default)();
            if default != Value::Unset {
                let mut config = Config::default();
                assert_eq!((key.apply)(&mut config, &default), Ok(()), "{}", key.path());
                assert_eq!(config, Config::default());
            }
        }
    }
}
