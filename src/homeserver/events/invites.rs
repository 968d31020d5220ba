//! Whose invites a user wants (Client-Server API, "Invite permission"; MSC4380, and the finer MSC4155).

use ruma::UserId;
use serde::Deserialize;

use super::Result;
use crate::homeserver::{
    store::{Reader, account_data},
    types::UserNid,
};

/// Entries of one list that are looked at.
const ENTRIES: usize = 1000;

/// Account data types of the setting that is stable, and of the one that MSC4155 has.
const SIMPLE: [&str; 2] = ["m.invite_permission_config", "org.matrix.msc4380.invite_permission_config"];
const DETAILED: &str = "org.matrix.msc4155.invite_permission_config";

/// A user's wishes about invites.
#[derive(Debug, Default)]
pub struct Invites {
    nobody: bool,
    detailed: Detailed,
    ignored: Vec<String>,
}

/// The content of MSC4155's account data. Entries are globs: `*` for any run of characters, `?` for one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Detailed {
    enabled: Option<bool>,
    allowed_users: Vec<String>,
    ignored_users: Vec<String>,
    blocked_users: Vec<String>,
    allowed_servers: Vec<String>,
    ignored_servers: Vec<String>,
    blocked_servers: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Simple {
    #[serde(default)]
    default_action: Option<String>,
}

#[derive(Debug, Deserialize)]
struct IgnoredUsers {
    ignored_users: serde_json::Map<String, serde_json::Value>,
}

/// What a local user wants. What a client stored in a wrong form wishes nothing.
///
/// # Errors
///
/// Store errors.
pub fn of(db: &Reader<'_>, user: UserNid) -> Result<Invites> {
    let mut invites = Invites::default();
    for kind in SIMPLE {
        if let Some(content) = account_data::get(db, user, None, kind)?
            && let Ok(Simple { default_action: Some(action) }) = serde_json::from_str(&content)
        {
            invites.nobody |= action == "block";
        }
    }
    if let Some(content) = account_data::get(db, user, None, DETAILED)? {
        invites.detailed = serde_json::from_str(&content).unwrap_or_default();
    }
    if let Some(content) = account_data::get(db, user, None, "m.ignored_user_list")?
        && let Ok(list) = serde_json::from_str::<IgnoredUsers>(&content)
    {
        invites.ignored = list.ignored_users.into_iter().map(|(user, _)| user).collect();
    }
    Ok(invites)
}

impl Invites {
    /// Is an invite of this user refused, and is the inviter told so?
    #[must_use]
    pub fn blocks(&self, sender: &UserId) -> bool {
        if self.nobody {
            return true;
        }
        if self.detailed.enabled == Some(false) {
            return false;
        }
        let (user, server) = (sender.as_str(), sender.server_name().host());
        let listed = |list: &[String], text: &str| list.iter().take(ENTRIES).any(|glob| matches(glob, text));
        // Users before servers; what is said first counts (MSC4155).
        if listed(&self.detailed.allowed_users, user) || listed(&self.detailed.ignored_users, user) {
            return false;
        }
        if listed(&self.detailed.blocked_users, user) {
            return true;
        }
        if listed(&self.detailed.allowed_servers, server) || listed(&self.detailed.ignored_servers, server) {
            return false;
        }
        listed(&self.detailed.blocked_servers, server)
    }

    /// Is an invite of this user hidden from its receiver, without the inviter being told? Whoever wants no invites at all is not
    /// shown those either that came before.
    #[must_use]
    pub fn hides(&self, sender: &UserId) -> bool {
        if self.nobody || self.ignored.iter().any(|user| user == sender.as_str()) {
            return true;
        }
        if self.detailed.enabled == Some(false) {
            return false;
        }
        let (user, server) = (sender.as_str(), sender.server_name().host());
        let listed = |list: &[String], text: &str| list.iter().take(ENTRIES).any(|glob| matches(glob, text));
        if listed(&self.detailed.allowed_users, user) {
            return false;
        }
        if listed(&self.detailed.ignored_users, user) {
            return true;
        }
        !listed(&self.detailed.blocked_users, user)
            && !listed(&self.detailed.allowed_servers, server)
            && listed(&self.detailed.ignored_servers, server)
    }
}

/// Glob match in time that is linear in the text for each star.
fn matches(glob: &str, text: &str) -> bool {
    let (glob, text): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
    let (mut g, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match glob.get(g) {
            Some('*') => {
                star = Some((g, t));
                g += 1;
            }
            Some(c) if *c == '?' || Some(c) == text.get(t) => {
                g += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    g = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    glob.iter().skip(g).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    #[test]
    fn globs_match_as_globs_do() {
        for (glob, text, expected) in [
            ("*", "", true),
            ("*", "x", true),
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("", "", true),
            ("", "x", false),
            ("*.example.org", "a.example.org", true),
            ("*.example.org", "example.org", false),
            ("@*:evil.test", "@x:evil.test", true),
            ("*a*b*", "xxaxxbxx", true),
        ] {
            assert_eq!(matches(glob, text), expected, "{glob} {text}");
        }
    }

    #[test]
    fn users_come_before_servers_and_allowing_before_blocking() {
        let detailed = Detailed {
            allowed_users: vec!["@good:evil.test".into()],
            blocked_users: vec!["@bad:*".into()],
            ignored_servers: vec!["quiet.test".into()],
            blocked_servers: vec!["evil.test".into()],
            ..Detailed::default()
        };
        let invites = Invites { detailed, ignored: vec!["@nag:home.test".into()], nobody: false };
        assert!(!invites.blocks(user_id!("@good:evil.test")));
        assert!(invites.blocks(user_id!("@other:evil.test")));
        assert!(invites.blocks(user_id!("@bad:home.test")));
        assert!(!invites.blocks(user_id!("@ann:home.test")));
        assert!(invites.hides(user_id!("@x:quiet.test")) && !invites.blocks(user_id!("@x:quiet.test")));
        assert!(invites.hides(user_id!("@nag:home.test")) && !invites.blocks(user_id!("@nag:home.test")));
        let nobody = Invites { nobody: true, ..Invites::default() };
        assert!(nobody.blocks(user_id!("@good:evil.test")) && nobody.hides(user_id!("@good:evil.test")));
    }
}
