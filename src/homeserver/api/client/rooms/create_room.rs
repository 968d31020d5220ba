//! Creation of rooms.

use std::sync::Arc;

use futures_util::StreamExt;
use ruma::{
    OwnedServerName, OwnedUserId, RoomAliasId, RoomId, UserId,
    api::client::room::{
        Visibility,
        create_room::v3::{self as create_room, RoomPreset},
    },
};
use serde_json::{Map, Value};

use super::{
    super::super::{
        call::{Call, Routes},
        error::{ApiError, ApiResult},
    },
    aliases::may_name,
    change,
};
use crate::homeserver::{
    Node,
    appservice::query,
    events::create,
    federation::membership::{self, Invite},
    rooms::{
        template::{Initial, NewRoom, Preset},
        versions,
    },
    types::Requester,
};

/// Users that may be invited with a room's creation.
const MAX_INVITES: usize = 500;
/// Other servers that are asked at one time.
const INVITES_AT_ONCE: usize = 8;
/// State events that a caller may give a room to begin with.
const MAX_INITIAL_STATE: usize = 500;

pub(super) fn add(routes: Routes) -> Routes {
    routes.add::<create_room::Request, _, _>(create_room)
}

/// `POST /_matrix/client/v3/createRoom`
async fn create_room(node: Arc<Node>, call: Call<create_room::Request>) -> ApiResult<create_room::Response> {
    let published = call.request.visibility == Visibility::Public;
    let is_direct = call.request.is_direct;
    let new = new_room(&call.who, &node.config.server_name, call.request)?;
    if let Some(alias) = &new.alias {
        let alias = RoomAliasId::parse(alias).map_err(|_| ApiError::invalid_param("This is not a room alias"))?;
        may_name(&node, &call.who, &alias)?;
    }
    for user_id in &new.invite {
        query::user(&node, user_id).await?;
    }
    let elsewhere: Vec<OwnedUserId> = new.invite.iter().filter(|user| user.server_name() != node.config.server_name).cloned().collect();
    if !elsewhere.is_empty() && !node.federation.is_enabled() {
        return Err(ApiError::forbidden("This server does not talk to others: only its own users can be invited"));
    }
    let sender = new.creator.clone();
    let room = change(&node, move |tx, ctx| create::room(tx, ctx, &new, published, is_direct)).await?;
    invite_elsewhere(&node, &room.room_id, &sender, elsewhere, is_direct).await;
    Ok(create_room::Response::new(room.room_id))
}

/// Invites users of other servers, whose servers have to be asked. The room exists by then: one that cannot be reached is
/// missing from it, which its maker sees, and can be invited again.
async fn invite_elsewhere(node: &Arc<Node>, room_id: &RoomId, sender: &UserId, users: Vec<OwnedUserId>, is_direct: bool) {
    let invites = users.into_iter().map(|target| {
        let extra = if is_direct { Map::from_iter([("is_direct".to_owned(), Value::Bool(true))]) } else { Map::new() };
        let invite = Invite { room_id: room_id.to_owned(), sender: sender.to_owned(), target, reason: None, extra };
        async move {
            let target = invite.target.clone();
            if let Err(error) = membership::invite(node, invite).await {
                tracing::warn!(room_id = %room_id, user_id = %target, %error, "somebody could not be invited to a new room");
            }
        }
    });
    futures_util::stream::iter(invites).buffer_unordered(INVITES_AT_ONCE).collect::<()>().await;
}

fn new_room(who: &Requester, server: &OwnedServerName, request: create_room::Request) -> ApiResult<NewRoom> {
    if !request.invite_3pid.is_empty() {
        return Err(ApiError::forbidden("This server sends no invitations by e-mail or telephone"));
    }
    if request.invite.len() > MAX_INVITES || request.initial_state.len() > MAX_INITIAL_STATE {
        return Err(ApiError::invalid_param("Too many invitations or too much initial state"));
    }
    let preset = match &request.preset {
        Some(RoomPreset::PrivateChat) => Preset::Private,
        Some(RoomPreset::TrustedPrivateChat) => Preset::TrustedPrivate,
        Some(RoomPreset::PublicChat) => Preset::Public,
        Some(other) => return Err(ApiError::invalid_param(format!("There is no preset {other}"))),
        None if request.visibility == Visibility::Public => Preset::Public,
        None => Preset::Private,
    };
    let initial_state = request.initial_state.iter().map(|event| initial(event.json().get())).collect::<ApiResult<Vec<_>>>()?;
    let alias = request.room_alias_name.map(|name| alias(&name, server)).transpose()?;
    Ok(NewRoom {
        creator: who.user_id.clone(),
        version: request.room_version.unwrap_or(versions::DEFAULT),
        preset,
        creation_content: request.creation_content.map_or_else(|| Ok(Map::new()), |raw| object(raw.json().get(), "creation_content"))?,
        power_level_override: request
            .power_level_content_override
            .map_or_else(|| Ok(Map::new()), |raw| object(raw.json().get(), "power_level_content_override"))?,
        initial_state,
        name: request.name,
        topic: request.topic,
        alias,
        invite: request.invite,
    })
}

fn object(json: &str, name: &str) -> ApiResult<Map<String, Value>> {
    serde_json::from_str(json).map_err(|_| ApiError::bad_json(format!("`{name}` is not an object")))
}

fn initial(json: &str) -> ApiResult<Initial> {
    let mut event = object(json, "initial_state")?;
    let Some(Value::String(kind)) = event.remove("type") else {
        return Err(ApiError::bad_json("An initial state event has no `type`"));
    };
    let Some(Value::Object(content)) = event.remove("content") else {
        return Err(ApiError::bad_json("An initial state event has no `content`"));
    };
    let state_key = match event.remove("state_key") {
        None => String::new(),
        Some(Value::String(key)) => key,
        Some(_) => return Err(ApiError::bad_json("The `state_key` of an initial state event is not a string")),
    };
    Ok(Initial { kind, state_key, content })
}

/// The full alias for a local part.
fn alias(name: &str, server: &OwnedServerName) -> ApiResult<String> {
    if name.is_empty() || name.contains([':', '\0', '#']) || name.chars().any(char::is_whitespace) {
        return Err(ApiError::invalid_param("The alias name contains characters that aliases cannot have"));
    }
    let alias = format!("#{name}:{server}");
    if alias.len() > 255 {
        return Err(ApiError::invalid_param("The alias is longer than 255 bytes"));
    }
    Ok(alias)
}
