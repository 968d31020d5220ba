//! Registration files of application services (Application Service API, "Registration").

use std::{fmt, path::Path};

use regex::{Regex, RegexBuilder};
use ruma::{OwnedUserId, RoomAliasId, RoomId, ServerName, UserId};
use serde::Deserialize;
use url::Url;

use crate::{base::Secret, homeserver::users::new_user_id};

/// What a compiled expression may take.
const EXPRESSION_BYTES: usize = 1 << 20;

/// The file as it is written. What else is in it is for others.
#[derive(Deserialize)]
struct File {
    id: String,
    url: Option<String>,
    as_token: String,
    hs_token: String,
    sender_localpart: String,
    namespaces: FileNamespaces,
    rate_limited: Option<bool>,
    #[serde(default)]
    protocols: Option<Vec<String>>,
    #[serde(default)]
    receive_ephemeral: bool,
    #[serde(default, rename = "de.sorunome.msc2409.push_ephemeral")]
    unstable_ephemeral: bool,
    #[serde(default, rename = "org.matrix.msc3202")]
    encryption: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FileNamespaces {
    users: Vec<FileNamespace>,
    aliases: Vec<FileNamespace>,
    rooms: Vec<FileNamespace>,
}

#[derive(Deserialize)]
struct FileNamespace {
    regex: String,
    #[serde(default)]
    exclusive: bool,
}

/// A set of names.
#[derive(Debug, Clone)]
struct Namespace {
    regex: Regex,
    exclusive: bool,
}

/// What the owner has said of an application service.
#[derive(Clone)]
pub struct Registration {
    /// Its ID, which never changes.
    pub id: String,
    /// Where it listens; `None` when it wants to hear nothing.
    pub url: Option<Url>,
    /// What it shows to us.
    pub as_token: Secret,
    /// What we show to it.
    pub hs_token: Secret,
    /// Its own user.
    pub sender_localpart: String,
    /// Its users are limited like others.
    pub rate_limited: bool,
    /// Networks that it can look things up in.
    pub protocols: Vec<String>,
    /// It is told of typing, receipts and presence.
    pub ephemeral: bool,
    /// It reads them under the name that they had before.
    pub unstable_ephemeral: bool,
    /// It keeps keys for its users (MSC3202): it is given their messages to devices and what changes about keys.
    pub encryption: bool,
    users: Vec<Namespace>,
    aliases: Vec<Namespace>,
    rooms: Vec<Namespace>,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("id", &self.id).finish_non_exhaustive()
    }
}

fn namespaces(list: Vec<FileNamespace>) -> Result<Vec<Namespace>, String> {
    let compile = |namespace: FileNamespace| {
        // From the start, and as far as it goes: that is how other servers read them.
        let regex = RegexBuilder::new(&format!("^(?:{})", namespace.regex)).size_limit(EXPRESSION_BYTES).build();
        let regex = regex.map_err(|error| format!("the expression `{}` cannot be read: {error}", namespace.regex))?;
        Ok(Namespace { regex, exclusive: namespace.exclusive })
    };
    list.into_iter().map(compile).collect()
}

impl Registration {
    /// Reads a registration file. Blocks.
    ///
    /// # Errors
    ///
    /// What is wrong, for the owner.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::read(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Reads a registration.
    ///
    /// # Errors
    ///
    /// What is wrong, for the owner.
    pub fn read(yaml: &str) -> Result<Self, String> {
        let file: File = serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
        for (name, value) in [("id", &file.id), ("as_token", &file.as_token), ("hs_token", &file.hs_token)] {
            if value.is_empty() {
                return Err(format!("`{name}` is empty"));
            }
        }
        let url =
            file.url.filter(|url| !url.is_empty()).map(|url| Url::parse(&url).map_err(|error| format!("`url`: {error}"))).transpose()?;
        if url.as_ref().is_some_and(|url| !matches!(url.scheme(), "http" | "https") || url.host().is_none()) {
            return Err("`url` is neither http nor https".to_owned());
        }
        Ok(Self {
            id: file.id,
            url,
            as_token: Secret::new(file.as_token),
            hs_token: Secret::new(file.hs_token),
            sender_localpart: file.sender_localpart,
            rate_limited: file.rate_limited.unwrap_or(true),
            protocols: file.protocols.unwrap_or_default(),
            ephemeral: file.receive_ephemeral || file.unstable_ephemeral,
            unstable_ephemeral: file.unstable_ephemeral,
            encryption: file.encryption,
            users: namespaces(file.namespaces.users)?,
            aliases: namespaces(file.namespaces.aliases)?,
            rooms: namespaces(file.namespaces.rooms)?,
        })
    }

    /// Its own user on this server.
    ///
    /// # Errors
    ///
    /// When the localpart is no user's name.
    pub fn sender(&self, server: &ServerName) -> Result<OwnedUserId, String> {
        new_user_id(&self.sender_localpart, server).map_err(|error| format!("`sender_localpart` of {}: {error}", self.id))
    }

    /// True for a user ID in its namespaces.
    #[must_use]
    pub fn has_user(&self, user_id: &UserId) -> bool {
        self.users.iter().any(|namespace| namespace.regex.is_match(user_id.as_str()))
    }

    /// True for a user ID that is its alone.
    #[must_use]
    pub fn has_user_alone(&self, user_id: &UserId) -> bool {
        self.users.iter().any(|namespace| namespace.exclusive && namespace.regex.is_match(user_id.as_str()))
    }

    /// True for an alias in its namespaces.
    #[must_use]
    pub fn has_alias(&self, alias: &RoomAliasId) -> bool {
        self.aliases.iter().any(|namespace| namespace.regex.is_match(alias.as_str()))
    }

    /// True for an alias that is its alone.
    #[must_use]
    pub fn has_alias_alone(&self, alias: &RoomAliasId) -> bool {
        self.aliases.iter().any(|namespace| namespace.exclusive && namespace.regex.is_match(alias.as_str()))
    }

    /// True for a room in its namespaces.
    #[must_use]
    pub fn has_room(&self, room_id: &RoomId) -> bool {
        self.rooms.iter().any(|namespace| namespace.regex.is_match(room_id.as_str()))
    }

    /// True when aliases say whether it is interested in a room.
    #[must_use]
    pub fn wants_aliases(&self) -> bool {
        !self.aliases.is_empty()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use ruma::{room_alias_id, server_name, user_id};

    use super::*;

    const IRC: &str = r##"
# An IRC bridge.
id: "IRC Bridge"
url: "http://127.0.0.1:1234/irc"
as_token: "as-secret"
hs_token: hs-secret
sender_localpart: "_irc_bot"
namespaces:
  users:
    - exclusive: true
      regex: "@_irc_.*:home\\.test"
  aliases:
    - exclusive: false
      regex: '#_irc_.*'
  rooms: []
rate_limited: false
protocols: [irc]
receive_ephemeral: true
something_else: { of: [somebody] }
"##;

    #[test]
    fn a_file_is_read_with_its_namespaces() {
        let irc = Registration::read(IRC).unwrap();
        assert_eq!(
            (irc.id.as_str(), irc.url.as_ref().unwrap().path(), irc.protocols.as_slice()),
            ("IRC Bridge", "/irc", &["irc".to_owned()][..])
        );
        assert!(irc.ephemeral && !irc.rate_limited && !irc.encryption);
        assert_eq!(irc.sender(server_name!("home.test")).unwrap(), user_id!("@_irc_bot:home.test"));
        assert!(irc.has_user(user_id!("@_irc_ann:home.test")) && irc.has_user_alone(user_id!("@_irc_ann:home.test")));
        assert!(!irc.has_user(user_id!("@ann_irc_:home.test")) && !irc.has_user(user_id!("@_irc_ann:elsewhere.test")));
        let alias = room_alias_id!("#_irc_x:home.test");
        assert!(irc.has_alias(alias) && !irc.has_alias_alone(alias));
    }

    #[test]
    fn a_file_never_shows_its_secrets() {
        let irc = Registration::read(IRC).unwrap();
        assert!(!format!("{irc:?}").contains("secret"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (from, to, said) in [
            ("id: \"IRC Bridge\"", "id: \"\"", "`id` is empty"),
            ("hs_token: hs-secret", "", "hs_token"),
            ("http://127.0.0.1:1234/irc", "ftp://x", "neither http nor https"),
            ("'#_irc_.*'", "'#_irc_(.*'", "cannot be read"),
            ("namespaces:", "namespaces: [", ""),
        ] {
            let error = Registration::read(&IRC.replace(from, to)).unwrap_err();
            assert!(error.contains(said), "{said}: {error}");
        }
        let silent = Registration::read(&IRC.replace("\"http://127.0.0.1:1234/irc\"", "null")).unwrap();
        assert!(silent.url.is_none());
    }
}
