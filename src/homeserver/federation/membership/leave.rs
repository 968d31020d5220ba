//! Leaving rooms, turning down invites, taking back knocks.

use std::sync::Arc;

use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomVersionId};
use serde_json::Map;

use super::{Kind, Result, ask, find};
use crate::homeserver::{
    Node,
    events::{
        Ctx, EventError,
        membership::{self, content},
        outside::{self, Outside},
        policy,
    },
    rooms::proposal::{Place, Wanted},
    store::{Reader, events, members, rooms, servers, users},
    types::RoomHandle,
};

/// A membership that can only be ended with the help of others.
#[derive(Debug)]
struct Elsewhere {
    room: RoomHandle,
    servers: Vec<OwnedServerName>,
    /// The invite or the knock.
    standing: Place,
}

/// Ends a user's membership. An invite that no server can be reached about is ended here alone: the user is rid of it.
///
/// # Errors
///
/// [`super::MembershipError`].
pub async fn leave(node: &Arc<Node>, user: OwnedUserId, room_id: OwnedRoomId, reason: Option<String>) -> Result<()> {
    let ctx = Ctx::of(node);
    let (wanted_room, who, why) = (room_id.clone(), user.clone(), reason.clone());
    // A room's policy server is asked about a leave as about everything; the user leaves whatever it says.
    let here = policy::writing(&node.store, ctx, move |tx, ctx| {
        let room = crate::homeserver::events::room(&tx.reader(), &wanted_room)?;
        match elsewhere(&tx.reader(), ctx, room.clone(), &who)? {
            Some(elsewhere) => Ok(Some(elsewhere)),
            None => membership::leave(tx, ctx, &room, &who, why.as_deref()).map(|()| None),
        }
    });
    let Some(elsewhere) = here.await? else { return Ok(()) };
    for server in find::candidates(node, elsewhere.servers.clone()) {
        match through(node, &server, &elsewhere.room, &user, reason.as_deref()).await {
            Ok(()) => return Ok(()),
            Err(error) => tracing::info!(peer = %server, room_id = %room_id, %error, "a server could not take a leave"),
        }
    }
    alone(node, elsewhere, user, reason).await
}

/// Nobody of ours is in the room, and the user has something to end there.
fn elsewhere(db: &Reader<'_>, ctx: &Ctx, room: RoomHandle, user: &ruma::UserId) -> Result<Option<Elsewhere>, EventError> {
    if servers::is_in_room(db, room.nid, &ctx.server_name)? {
        return Ok(None);
    }
    let Some(nid) = users::find(db, user)? else { return Ok(None) };
    let Some(member) = members::get(db, room.nid, nid)?.filter(|m| matches!(m.membership.as_str(), "invite" | "knock")) else {
        return Ok(None);
    };
    let event = events::by_nid(db, member.event)?;
    let sender = users::user_id(db, event.sender)?;
    let mut servers = vec![sender.server_name().to_owned()];
    // A knock is ours; who was asked is who told us of the room.
    servers.extend(senders_of(member.invite_state.as_deref().unwrap_or_default()));
    let standing = Place {
        prev_events: vec![event.event_id.clone()],
        auth_events: vec![event.event_id.clone()],
        depth: event.depth.saturating_add(1),
        authorised_via: None,
    };
    Ok(Some(Elsewhere { room, servers, standing }))
}

/// The servers of those who set the state that we were told of.
pub(super) fn senders_of(told: &str) -> Vec<OwnedServerName> {
    #[derive(serde::Deserialize)]
    struct Event {
        sender: OwnedUserId,
    }
    let events: Vec<Event> = serde_json::from_str(told).unwrap_or_default();
    events.into_iter().map(|event| event.sender.server_name().to_owned()).collect()
}

async fn through(node: &Arc<Node>, server: &ruma::ServerName, room: &RoomHandle, user: &ruma::UserId, reason: Option<&str>) -> Result<()> {
    let wanted = Wanted { room_id: &room.room_id, user_id: user, membership: Kind::Leave.membership(), server };
    let proposal = ask::proposal(node, server, Kind::Leave, wanted).await?;
    if proposal.version != room.version {
        return Err(super::MembershipError::Nonsense("the server gives the room another version".into()));
    }
    let ctx = Ctx::of(node);
    let content = leave_content(node, reason).await?;
    let (pdu, json) = ask::event(&ctx, wanted, proposal.place, &proposal.rules, content)?;
    ask::send_leave(node, server, wanted, &pdu, &json).await?;
    keep(node, room.room_id.clone(), room.version.clone(), pdu).await
}

/// Ends it here. Nobody else is told, and nobody else would believe it.
async fn alone(node: &Arc<Node>, elsewhere: Elsewhere, user: OwnedUserId, reason: Option<String>) -> Result<()> {
    let ctx = Ctx::of(node);
    let room = elsewhere.room;
    let server = ctx.server_name.clone();
    let wanted = Wanted { room_id: &room.room_id, user_id: &user, membership: Kind::Leave.membership(), server: &server };
    let content = leave_content(node, reason.as_deref()).await?;
    let (pdu, _) = ask::event(&ctx, wanted, elsewhere.standing, &room.rules, content)?;
    tracing::warn!(room_id = %room.room_id, "no server could be told that an invite or a knock has ended; it is ended here");
    keep(node, room.room_id.clone(), room.version.clone(), pdu).await
}

async fn leave_content(node: &Node, reason: Option<&str>) -> Result<ruma::CanonicalJsonObject> {
    let reason = reason.map(ToOwned::to_owned);
    Ok(node.store.read(move |db| content(db, None, "leave", reason.as_deref(), Map::new())).await?)
}

async fn keep(node: &Arc<Node>, room_id: OwnedRoomId, version: RoomVersionId, pdu: crate::homeserver::types::Pdu) -> Result<()> {
    let ctx = Ctx::of(node);
    let kept = node.store.write(move |tx| {
        // Somebody of ours may have joined meanwhile: then the event comes as any other of the room does.
        let inside = match rooms::by_id(&tx.reader(), &room_id)? {
            Some(room) => servers::is_in_room(&tx.reader(), room.nid, &ctx.server_name)?,
            None => false,
        };
        if inside {
            return Ok(());
        }
        outside::put(tx, &ctx, Outside { room_id: &room_id, version: &version, pdu: &pdu, told: None, came_from: None }).map(drop)
    });
    Ok(kept.await?)
}
