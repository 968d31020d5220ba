//! What a user name may look like.

use ruma::{OwnedUserId, ServerName, UserId};

/// Longest user ID, in bytes, with sigil, colon and server name (Appendices, "User identifiers").
const USER_ID_BYTES: usize = 255;

/// The text is no name for an account here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a user name has only the characters a-z, 0-9 and ._=-/+, and is not too long")]
pub struct InvalidUsername;

/// The user ID of a new account: upper case becomes lower case, everything else must fit the grammar.
///
/// # Errors
///
/// [`InvalidUsername`].
pub fn new_user_id(localpart: &str, server: &ServerName) -> Result<OwnedUserId, InvalidUsername> {
    let localpart = localpart.to_ascii_lowercase();
    let fits = !localpart.is_empty() && localpart.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._=-/+".contains(&b));
    if !fits {
        return Err(InvalidUsername);
    }
    let user_id = format!("@{localpart}:{server}");
    if user_id.len() > USER_ID_BYTES {
        return Err(InvalidUsername);
    }
    UserId::parse(&user_id).map_err(|_| InvalidUsername)
}

/// The user ID that somebody means who signs in as `name`, a localpart or a full user ID. `None` for other servers' users and
/// for what can be no account's name.
#[must_use]
pub fn local_user_id(name: &str, server: &ServerName) -> Option<OwnedUserId> {
    let localpart = match name.strip_prefix('@') {
        Some(rest) => {
            let (localpart, of) = rest.split_once(':')?;
            if of != server.as_str() {
                return None;
            }
            localpart
        }
        None => name,
    };
    new_user_id(localpart, server).ok()
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn folds_case_and_refuses_what_the_grammar_lacks() {
        let server = server_name!("home.test");
        assert_eq!(new_user_id("Ann", server).as_deref().map(UserId::as_str), Ok("@ann:home.test"));
        assert_eq!(new_user_id("q3._=-/+", server).as_deref().map(UserId::as_str), Ok("@q3._=-/+:home.test"));
        for bad in ["", "a b", "a:b", "@a", "ä", "a\"b", "a\n", &"x".repeat(250)] {
            assert_eq!(new_user_id(bad, server), Err(InvalidUsername), "{bad:?}");
        }
    }

    #[test]
    fn the_longest_user_id_has_255_bytes() {
        let server = server_name!("home.test");
        assert!(new_user_id(&"x".repeat(244), server).is_ok());
        assert!(new_user_id(&"x".repeat(245), server).is_err());
    }

    #[test]
    fn another_servers_user_cannot_sign_in_here() {
        let server = server_name!("home.test");
        assert_eq!(local_user_id("@Ann:home.test", server).as_deref().map(UserId::as_str), Some("@ann:home.test"));
        assert_eq!(local_user_id("ann", server).as_deref().map(UserId::as_str), Some("@ann:home.test"));
        assert_eq!(local_user_id("@ann:other.test", server), None);
        assert_eq!(local_user_id("@ann", server), None);
    }
}
