//! Rooms come and go: create, join, invite, leave; their name and topic.

use std::time::Duration;

use matrix_sdk::{Client, Room, RoomState};
use ruma::{
    OwnedRoomId, OwnedServerName, RoomOrAliasId, UserId,
    api::client::{
        alias::get_alias,
        room::{
            Visibility,
            create_room::v3::{CreationContent, Request as CreateRequest, RoomPreset},
        },
    },
    events::{InitialStateEvent, room::encryption::RoomEncryptionEventContent},
    room::{JoinRuleSummary, RoomType},
    serde::Raw,
};

use super::{
    context::{Context, within},
    words::Trouble,
};
use crate::client::{
    command::{NewRoom, Ticket},
    update::Update,
};

/// Longest wait for an ordinary request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait for joining: a large federated room takes its server minutes.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// An invitation can arrive before the inviter's server has stored it: joining at once is refused, a moment later it works.
const JOIN_RETRY: Duration = Duration::from_secs(2);

/// Creates a room.
pub(super) async fn create(client: &Client, room: NewRoom) -> Result<OwnedRoomId, Trouble> {
    let request = request(room)?;
    let created = within(REQUEST_TIMEOUT, client.create_room(request)).await.map_err(alias_taken)?;
    Ok(created.room_id().to_owned())
}

fn alias_taken(trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Refused { code, .. } if code == "M_ROOM_IN_USE" => Trouble::Other("that address is taken by another room".to_owned()),
        other => other,
    }
}

fn request(room: NewRoom) -> Result<CreateRequest, Trouble> {
    let mut request = CreateRequest::new();
    request.name = room.name.filter(|name| !name.trim().is_empty());
    request.topic = room.topic.filter(|topic| !topic.trim().is_empty());
    request.room_alias_name = room.alias.filter(|alias| !alias.trim().is_empty());
    request.invite = room.invite;
    request.preset = Some(if room.public { RoomPreset::PublicChat } else { RoomPreset::PrivateChat });
    request.visibility = if room.public { Visibility::Public } else { Visibility::Private };
    if room.space {
        let mut content = CreationContent::new();
        content.room_type = Some(RoomType::Space);
        request.creation_content = Some(Raw::new(&content).map_err(|error| Trouble::Other(error.to_string()))?);
    }
    if room.encrypted && !room.space {
        let encryption = InitialStateEvent::with_empty_state_key(RoomEncryptionEventContent::with_recommended_defaults());
        request.initial_state.push(encryption.to_raw_any());
    }
    Ok(request)
}

/// The direct conversation with somebody: the one that exists, or a new encrypted one.
pub(super) async fn direct(client: &Client, user_id: &UserId) -> Result<OwnedRoomId, Trouble> {
    if client.user_id() == Some(user_id) {
        return Err(Trouble::Other("that is you".to_owned()));
    }
    let invited = client.invited_rooms();
    for room in invited {
        // They have asked already: that is the conversation.
        if let Ok(invite) = room.invite_details().await
            && invite.inviter_id == user_id
            && room.is_direct().await.unwrap_or(false)
        {
            return join_known(&room).await;
        }
    }
    if let Some(room) = client.get_dm_rooms(user_id).next() {
        return Ok(room.room_id().to_owned());
    }
    let room = within(REQUEST_TIMEOUT, client.create_dm(user_id)).await?;
    Ok(room.room_id().to_owned())
}

/// Joins by ID or alias.
pub(super) async fn join(client: &Client, room: &RoomOrAliasId) -> Result<OwnedRoomId, Trouble> {
    match way(client, room).await? {
        Way::There(room_id) => Ok(room_id),
        Way::By(via) => join_by(client, room, via).await,
    }
}

/// Joins, or says that one may ask to be let in.
pub(super) async fn join_or_ask(client: &Client, ticket: Ticket, room: &RoomOrAliasId) -> Result<Update, Trouble> {
    let via = match way(client, room).await? {
        Way::There(room_id) => return Ok(Update::RoomReady(ticket, room_id)),
        Way::By(via) => via,
    };
    match join_by(client, room, via.clone()).await {
        Ok(room_id) => Ok(Update::RoomReady(ticket, room_id)),
        Err(Trouble::Refused { status: 403, .. }) if may_knock(client, room, via).await => Ok(Update::MayKnock(ticket, room.to_owned())),
        Err(trouble) => Err(trouble),
    }
}

/// True where the room says that one may ask to be let in.
async fn may_knock(client: &Client, room: &RoomOrAliasId, via: Vec<OwnedServerName>) -> bool {
    match within(REQUEST_TIMEOUT, client.get_room_preview(room, via)).await {
        Ok(preview) => matches!(preview.join_rule, Some(JoinRuleSummary::Knock | JoinRuleSummary::KnockRestricted(_))),
        Err(trouble) => {
            tracing::debug!(%room, %trouble, "a room that refused us does not say who may join it");
            false
        }
    }
}

/// Asks to be let into a room.
pub(super) async fn knock(client: &Client, room: &RoomOrAliasId, reason: Option<String>) -> Result<(), Trouble> {
    let via = match way(client, room).await? {
        Way::There(_) => return Err(Trouble::Other("you are in that room already".to_owned())),
        Way::By(via) => via,
    };
    within(JOIN_TIMEOUT, client.knock(room.to_owned(), reason, via)).await.map(drop)
}

/// How to get into a room.
enum Way {
    /// We are in it.
    There(OwnedRoomId),
    /// Through these servers.
    By(Vec<OwnedServerName>),
}

async fn way(client: &Client, room: &RoomOrAliasId) -> Result<Way, Trouble> {
    Ok(Way::By(match <&ruma::RoomAliasId>::try_from(room) {
        Ok(alias) => {
            let found = within(REQUEST_TIMEOUT, client.send(get_alias::v3::Request::new(alias.to_owned()))).await;
            let found = found.map_err(|trouble| match trouble {
                Trouble::Refused { status: 404, .. } => Trouble::Other(format!("there is no room {alias}")),
                other => other,
            })?;
            if let Some(known) = client.get_room(&found.room_id).filter(|known| known.state() == RoomState::Joined) {
                return Ok(Way::There(known.room_id().to_owned()));
            }
            found.servers.into_iter().take(5).collect()
        }
        Err(room_id) => room_id.server_name().map(|server| vec![server.to_owned()]).unwrap_or_default(),
    }))
}

async fn join_by(client: &Client, room: &RoomOrAliasId, via: Vec<OwnedServerName>) -> Result<OwnedRoomId, Trouble> {
    let joined = within(JOIN_TIMEOUT, client.join_room_by_id_or_alias(room, &via)).await.map_err(|trouble| match trouble {
        Trouble::Refused { status: 404, .. } => Trouble::Other("there is no such room, or no server in it can be reached".to_owned()),
        other => other,
    })?;
    Ok(joined.room_id().to_owned())
}

/// Accepts an invitation.
pub(super) async fn accept(room: &Room) -> Result<OwnedRoomId, Trouble> {
    match room.state() {
        RoomState::Joined => Ok(room.room_id().to_owned()),
        _ => join_known(room).await,
    }
}

async fn join_known(room: &Room) -> Result<OwnedRoomId, Trouble> {
    let was_direct = room.is_direct().await.unwrap_or(false);
    match within(JOIN_TIMEOUT, room.join()).await {
        Ok(()) => {}
        Err(Trouble::Refused { status: 403, .. }) => {
            tokio::time::sleep(JOIN_RETRY).await;
            within(JOIN_TIMEOUT, room.join()).await?;
        }
        Err(trouble) => return Err(trouble),
    }
    if was_direct
        && room.direct_targets_length() == 0
        && let Err(trouble) = within(REQUEST_TIMEOUT, room.set_is_direct(true)).await
    {
        tracing::warn!(%trouble, "a direct conversation could not be marked as one");
    }
    Ok(room.room_id().to_owned())
}

/// Leaves a room or declines an invitation, and forgets it.
pub(super) async fn leave(room: &Room) -> Result<(), Trouble> {
    if matches!(room.state(), RoomState::Joined | RoomState::Invited | RoomState::Knocked) {
        within(REQUEST_TIMEOUT, room.leave()).await?;
    }
    // Left is left; a server that will not forget changes nothing for the person.
    if let Err(trouble) = within(REQUEST_TIMEOUT, room.forget()).await {
        tracing::debug!(%trouble, "a left room was not forgotten");
    }
    Ok(())
}

/// Invites somebody.
pub(super) async fn invite(room: &Room, user_id: &UserId) -> Result<(), Trouble> {
    within(REQUEST_TIMEOUT, room.invite_user_by_id(user_id)).await
}

/// Sets the name.
pub(super) async fn set_name(room: &Room, name: String) -> Result<(), Trouble> {
    within(REQUEST_TIMEOUT, room.set_name(name)).await.map(|_| ())
}

/// Sets the topic.
pub(super) async fn set_topic(room: &Room, topic: &str) -> Result<(), Trouble> {
    within(REQUEST_TIMEOUT, room.set_room_topic(topic)).await.map(|_| ())
}

/// Sets our own display name, everywhere.
pub(super) async fn set_display_name(context: &Context, name: &str) -> Result<(), Trouble> {
    let name = name.trim();
    within(REQUEST_TIMEOUT, context.client.account().set_display_name(Some(name).filter(|name| !name.is_empty()))).await?;
    let shown = super::words::one_line(name, 64);
    context.session(|view| view.display_name = Some(shown).filter(|name| !name.is_empty()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> NewRoom {
        NewRoom {
            name: Some("Garden".to_owned()),
            topic: None,
            alias: None,
            public: false,
            encrypted: true,
            space: false,
            invite: Vec::new(),
        }
    }

    #[test]
    fn an_encrypted_room_is_encrypted_from_its_first_event() {
        let request = request(room()).expect("a request");
        let types: Vec<String> = request.initial_state.iter().filter_map(|event| event.get_field("type").ok().flatten()).collect();
        assert_eq!(types, ["m.room.encryption"]);
        assert_eq!(request.preset, Some(RoomPreset::PrivateChat));
    }

    #[test]
    fn a_space_is_a_space_and_is_not_encrypted() {
        let request = request(NewRoom { space: true, ..room() }).expect("a request");
        assert!(request.initial_state.is_empty());
        assert!(request.creation_content.is_some_and(|content| content.json().get().contains("m.space")));
    }
}
