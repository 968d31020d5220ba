//! Single questions to other servers on behalf of our users: a profile, an alias, a directory.

use std::time::Duration;

use ruma::{OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, ServerName, UserId};
use serde_json::{Map, Value};

use super::request::{Limits, RequestError};
use crate::homeserver::{Node, store};

/// Somebody waits for the answer: they are told soon that there is none.
const ANSWER: Duration = Duration::from_secs(10);
/// Largest profile, with some room for its form.
const PROFILE_BYTES: usize = 128 * 1024;
/// Longest display name and avatar URL that are passed on.
const SHOWN_BYTES: usize = 1000;
/// Servers that are taken from an answer about an alias.
const SERVERS: usize = 100;

/// Text as part of a path or a query (RFC 3986, "Percent-Encoding").
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

fn limits(bytes: usize) -> Limits {
    Limits::ORDINARY.within(ANSWER).bytes(bytes).insisting()
}

/// The profile of another server's user, or one field of it.
///
/// # Errors
///
/// [`RequestError`].
pub async fn profile(node: &Node, user_id: &UserId, field: Option<&str>) -> Result<Map<String, Value>, RequestError> {
    let field = field.map(|field| format!("&field={}", escape(field))).unwrap_or_default();
    let path = format!("/_matrix/federation/v1/query/profile?user_id={}{field}", escape(user_id.as_str()));
    let body = node.federation.client.raw(user_id.server_name(), http::Method::GET, &path, None, limits(PROFILE_BYTES)).await?;
    let mut profile: Map<String, Value> =
        serde_json::from_slice(&body).map_err(|_| RequestError::Nonsense("a profile that is no object".into()))?;
    // Clients rely on the form of the two fields that everybody has.
    for field in ["displayname", "avatar_url"] {
        if profile.get(field).is_some_and(|value| value.as_str().is_none_or(|text| text.len() > SHOWN_BYTES)) {
            profile.remove(field);
        }
    }
    Ok(profile)
}

/// What the rooms that we know say of a user, where their own server does not answer.
///
/// # Errors
///
/// Store errors.
pub async fn profile_in_rooms(node: &Node, user_id: &UserId) -> Result<Option<Map<String, Value>>, store::StoreError> {
    let user_id = user_id.to_owned();
    let member = node.store.read(move |db| match store::users::find(db, &user_id)? {
        Some(user) => store::members::newest_joined(db, user),
        None => Ok(None),
    });
    Ok(member.await?.map(|member| {
        let fields = [("displayname", member.displayname), ("avatar_url", member.avatar_url)];
        fields.into_iter().filter_map(|(field, value)| Some((field.to_owned(), Value::from(value?)))).collect()
    }))
}

/// The room behind another server's alias, and servers that know it.
///
/// # Errors
///
/// [`RequestError`].
pub async fn alias(node: &Node, alias: &RoomAliasId) -> Result<(OwnedRoomId, Vec<OwnedServerName>), RequestError> {
    let path = format!("/_matrix/federation/v1/query/directory?room_alias={}", escape(alias.as_str()));
    let body = node.federation.client.raw(alias.server_name(), http::Method::GET, &path, None, limits(1 << 20)).await?;
    let nonsense = || RequestError::Nonsense("no room for the alias".into());
    let answer: Value = serde_json::from_slice(&body).map_err(|_| nonsense())?;
    let room_id = answer.get("room_id").and_then(Value::as_str).and_then(|id| RoomId::parse(id).ok()).ok_or_else(nonsense)?;
    let named = answer.get("servers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut servers: Vec<OwnedServerName> =
        named.iter().filter_map(Value::as_str).filter_map(|name| ServerName::parse(name).ok()).take(SERVERS).collect();
    if !servers.iter().any(|server| server == alias.server_name()) {
        servers.push(alias.server_name().to_owned());
    }
    Ok((room_id, servers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_means_something_in_a_url_is_escaped() {
        assert_eq!(escape("@a-b_c.d~:é/?#&%"), "%40a-b_c.d~%3A%C3%A9%2F%3F%23%26%25");
    }
}
