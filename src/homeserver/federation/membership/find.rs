//! Where a room is: which room an alias names, and which servers may let us in.

use ruma::{
    OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, RoomOrAliasId,
    api::federation::query::get_room_information::v1 as get_room_information,
};

use super::{MembershipError, Result};
use crate::homeserver::{
    Node,
    federation::{names, request::Limits},
    store::{aliases, rooms},
};

/// Servers that are tried for one room at most.
pub(super) const MAX_SERVERS: usize = 25;

/// The room behind an alias and servers that are in it, asked of the alias's own server.
///
/// # Errors
///
/// `M_NOT_FOUND` where there is no such alias; [`MembershipError::Unreachable`].
pub async fn alias(node: &Node, alias: &RoomAliasId) -> Result<(OwnedRoomId, Vec<OwnedServerName>)> {
    let unknown = || MembershipError::not_found(format!("There is no room {alias}"));
    if alias.server_name() == node.config.server_name {
        let alias = alias.to_owned();
        let found = node.store.read(move |db| -> Result<_> {
            let Some((room, _)) = aliases::get(db, &alias)? else { return Ok(None) };
            Ok(Some(rooms::by_nid(db, room)?.room_id))
        });
        return Ok((found.await?.ok_or_else(unknown)?, Vec::new()));
    }
    let request = get_room_information::Request::new(alias.to_owned());
    let found = match node.federation.client.request_within(alias.server_name(), request, Limits::ORDINARY.insisting()).await {
        Ok(found) => found,
        Err(error) if error.status() == Some(404) => return Err(unknown()),
        Err(error) => return Err(error.into()),
    };
    let mut servers = vec![alias.server_name().to_owned()];
    servers.extend(found.servers);
    Ok((found.room_id, servers))
}

/// The room that is meant, and servers to ask, those that the user names first.
pub(super) async fn room(node: &Node, id: &RoomOrAliasId, via: Vec<OwnedServerName>) -> Result<(OwnedRoomId, Vec<OwnedServerName>)> {
    let (room_id, more) = match <&RoomId>::try_from(id) {
        Ok(room_id) => (room_id.to_owned(), Vec::new()),
        Err(alias) => self::alias(node, alias).await?,
    };
    Ok((room_id, via.into_iter().chain(more).collect()))
}

/// Each server once, without ourselves and without what is no server name.
pub(super) fn candidates(node: &Node, servers: impl IntoIterator<Item = OwnedServerName>) -> Vec<OwnedServerName> {
    let mut found: Vec<OwnedServerName> = Vec::new();
    for server in servers {
        if found.len() < MAX_SERVERS
            && server != node.config.server_name
            && !found.contains(&server)
            && names::parts(server.as_str()).is_ok()
        {
            found.push(server);
        }
    }
    found
}
