//! Inviting users, of this server and of others.

use std::sync::Arc;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, OwnedRoomId, OwnedUserId,
    api::federation::membership::{RawStrippedState, create_invite::v2 as create_invite},
};
use serde_json::{Map, Value};

use super::{MembershipError, Result, ask::raw, invited::signatures_of};
use crate::homeserver::{
    Node,
    events::{
        self, Ctx, Draft, EventError,
        membership::{self, content},
        outside, policy,
    },
    federation::request::Limits,
    types::{Pdu, RoomHandle},
};

/// Whom to invite.
#[derive(Debug, Clone)]
pub struct Invite {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Who invites.
    pub sender: OwnedUserId,
    /// Whom.
    pub target: OwnedUserId,
    /// Why.
    pub reason: Option<String>,
    /// Further content, such as `is_direct`.
    pub extra: Map<String, Value>,
}

/// Invites a user. A user of another server is invited through that server, which has to sign the event first: it is part of
/// the room only then. Returns the event.
///
/// # Errors
///
/// [`MembershipError`].
pub async fn invite(node: &Arc<Node>, invite: Invite) -> Result<OwnedEventId> {
    let ctx = Ctx::of(node);
    if ctx.is_ours(&invite.target) {
        let local = policy::writing(&node.store, ctx, move |tx, ctx| {
            let room = events::room(&tx.reader(), &invite.room_id)?;
            membership::invite(tx, ctx, &room, &invite.sender, &invite.target, invite.reason.as_deref(), invite.extra)
        });
        return Ok(local.await?.event_id);
    }
    if !node.federation.is_enabled() {
        return Err(MembershipError::forbidden(format!("{} is on another server, and this one does not talk to others", invite.target)));
    }
    let server = invite.target.server_name().to_owned();
    let proposed = policy::writing(&node.store, ctx, move |tx, ctx| -> Result<_, EventError> {
        let room = events::room(&tx.reader(), &invite.room_id)?;
        let content = content(&tx.reader(), None, "invite", invite.reason.as_deref(), invite.extra)?;
        let draft = Draft::state(invite.sender, "m.room.member", invite.target.as_str(), content);
        let pdu = events::propose(tx, ctx, &room, &draft)?;
        let told = outside::told_in_full(&tx.reader(), &room, &pdu)?;
        Ok((room, pdu, told))
    });
    let (room, pdu, told) = proposed.await?;
    let signed = signed_by(node, &server, &room, &pdu, told).await?;
    let ctx = Ctx::of(node);
    let kept = node.store.write(move |tx| events::place(tx, &ctx, &room, &signed, &events::Source::Ours));
    Ok(kept.await?.event_id)
}

/// Has the invited user's server sign the event. Nothing but its signatures is taken from the answer.
async fn signed_by(node: &Node, server: &ruma::ServerName, room: &RoomHandle, pdu: &Pdu, told: Vec<String>) -> Result<Pdu> {
    let json = serde_json::to_string(pdu.json()).map_err(MembershipError::internal)?;
    let told = told.iter().map(|event| raw(event).map(RawStrippedState::Pdu)).collect::<Result<Vec<_>>>()?;
    let request = create_invite::Request::new(room.room_id.clone(), pdu.event_id().to_owned(), room.version.clone(), raw(&json)?, told);
    let answer = node.federation.client.request_within(server, request, Limits::ORDINARY.insisting()).await?;
    let answer: CanonicalJsonObject =
        serde_json::from_str(answer.event.get()).map_err(|e| MembershipError::Nonsense(format!("{server} returns no event: {e}")))?;
    let theirs = signatures_of(&answer, server).ok_or_else(|| MembershipError::Nonsense(format!("{server} has not signed the invite")))?;
    let mut signed = pdu.json().clone();
    if let Some(CanonicalJsonValue::Object(signatures)) = signed.get_mut("signatures") {
        let known = signatures.entry(server.to_string()).or_insert_with(|| theirs.clone());
        // It may have signed as the room's policy server before.
        if let (CanonicalJsonValue::Object(known), CanonicalJsonValue::Object(theirs)) = (known, theirs) {
            known.extend(theirs);
        }
    }
    Pdu::from_json(pdu.event_id().to_owned(), signed, &room.rules).map_err(MembershipError::internal)
}
