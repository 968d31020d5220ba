//! Asking to be let into a room.

use std::sync::Arc;

use ruma::{
    OwnedRoomId, OwnedServerName, RoomOrAliasId,
    api::federation::membership::{RawStrippedState, create_knock_event::v1 as create_knock},
};
use serde_json::{Map, value::RawValue};

use super::{Kind, MembershipError, Result, ask, find, join::Best};
use crate::homeserver::{
    Node,
    events::{
        Ctx, EventError,
        membership::{self, content},
        outside::{self, Outside},
        policy,
    },
    federation::request::Limits,
    rooms::{format, proposal::Wanted},
    store::{rooms, servers},
    types::Requester,
};

/// State events that are kept of what another server tells of a room.
const MAX_TOLD: usize = 100;
/// Bytes that are kept of them.
const MAX_TOLD_BYTES: usize = 256 * 1024;

/// Knocks.
///
/// # Errors
///
/// [`MembershipError`].
pub async fn knock(
    node: &Arc<Node>,
    who: &Requester,
    id: &RoomOrAliasId,
    via: Vec<OwnedServerName>,
    reason: Option<String>,
) -> Result<OwnedRoomId> {
    let (room_id, named) = find::room(node, id, via).await?;
    let ctx = Ctx::of(node);
    let (wanted_room, user, why) = (room_id.clone(), who.user_id.clone(), reason.clone());
    let here = policy::writing(&node.store, ctx, move |tx, ctx| -> Result<_, EventError> {
        let Some(room) = rooms::by_id(&tx.reader(), &wanted_room)? else { return Ok(Some(Vec::new())) };
        let others: Vec<OwnedServerName> =
            servers::in_room(&tx.reader(), room.nid)?.into_iter().filter(|server| *server != ctx.server_name).collect();
        let known = rooms::current_group(&tx.reader(), room.nid)?.is_some();
        if servers::is_in_room(&tx.reader(), room.nid, &ctx.server_name)? || (known && others.is_empty()) {
            return membership::knock(tx, ctx, &room, &user, why.as_deref()).map(|()| None);
        }
        Ok(Some(others))
    });
    let Some(known) = here.await? else { return Ok(room_id) };
    let of_room = room_id.server_name().map(ToOwned::to_owned);
    let mut best = Best::default();
    for server in find::candidates(node, named.into_iter().chain(known).chain(of_room)) {
        match through(node, &server, who, &room_id, reason.as_deref()).await {
            Ok(()) => return Ok(room_id),
            Err(error) => {
                tracing::info!(peer = %server, room_id = %room_id, %error, "a server did not take a knock");
                best.note(error);
            }
        }
    }
    Err(best.error(&room_id))
}

async fn through(node: &Arc<Node>, server: &ruma::ServerName, who: &Requester, room_id: &ruma::RoomId, reason: Option<&str>) -> Result<()> {
    let wanted = Wanted { room_id, user_id: &who.user_id, membership: Kind::Knock.membership(), server };
    let proposal = ask::proposal(node, server, Kind::Knock, wanted).await?;
    if !proposal.rules.authorization.knocking {
        return Err(MembershipError::Nonsense("the room's version has no knocking".into()));
    }
    let (user, why) = (who.user, reason.map(ToOwned::to_owned));
    let content = node.store.read(move |db| content(db, Some(user), "knock", why.as_deref(), Map::new())).await?;
    let ctx = Ctx::of(node);
    let (pdu, json) = ask::event(&ctx, wanted, proposal.place, &proposal.rules, content)?;
    let request = create_knock::Request::new(room_id.to_owned(), pdu.event_id().to_owned(), ask::raw(&json)?);
    let answer = node.federation.client.request_within(server, request, Limits::ORDINARY.insisting()).await?;
    let told = told(answer.knock_room_state)?;
    let (room_id, version) = (room_id.to_owned(), proposal.version);
    let kept = node.store.write(move |tx| {
        outside::put(tx, &ctx, Outside { room_id: &room_id, version: &version, pdu: &pdu, told: Some(told), came_from: None }).map(drop)
    });
    Ok(kept.await?)
}

/// What another server tells of a room, in the form that clients are given, bounded. What is no state event is left out.
pub(super) fn told(state: Vec<RawStrippedState>) -> Result<String> {
    let mut bytes = 0;
    let mut kept: Vec<Box<RawValue>> = Vec::new();
    for event in state.into_iter().take(MAX_TOLD) {
        #[expect(deprecated, reason = "older servers send it")]
        let json = match &event {
            RawStrippedState::Stripped(event) => event.json().get(),
            RawStrippedState::Pdu(event) => event.get(),
            _ => continue,
        };
        let Ok(event) = format::stripped(json) else { continue };
        bytes += event.get().len();
        if bytes > MAX_TOLD_BYTES {
            break;
        }
        kept.push(event);
    }
    serde_json::to_string(&kept).map_err(MembershipError::internal)
}
