//! Invites of our users by users of other servers, and their withdrawal.

use std::sync::Arc;

use ruma::{
    CanonicalJsonObject, OwnedEventId, OwnedRoomId, RoomVersionId, ServerName, UserId, api::federation::membership::RawStrippedState,
    room_version_rules::RoomVersionRules, signatures::Verified,
};

use super::{MembershipError, Result, knock::told, resident::admitted};
use crate::homeserver::{
    Node,
    events::{
        Ctx, EventError, invites,
        outside::{self, Outside},
    },
    rooms::{
        build, versions,
        wire::{self, Purpose},
    },
    store::{Reader, events, members, rooms, servers, users},
    types::{Pdu, RoomHandle},
};

/// An invite as another server sends it.
#[derive(Debug)]
pub struct Invitation {
    /// The room, as the path has it.
    pub room_id: OwnedRoomId,
    /// The event, as the path has it.
    pub event_id: OwnedEventId,
    /// The room's version.
    pub version: RoomVersionId,
    /// The event.
    pub event: String,
    /// What is told of the room.
    pub told: Vec<RawStrippedState>,
}

/// Takes an invite: checks it, signs it, and tells the user if nobody of ours is in the room. (If somebody is, the event comes
/// as any other of the room does.) Returns the signed event.
///
/// # Errors
///
/// [`MembershipError`].
pub async fn invited(node: &Arc<Node>, origin: &ServerName, invitation: Invitation) -> Result<String> {
    let rules = versions::rules(&invitation.version).ok_or_else(|| MembershipError::Incompatible(invitation.version.clone()))?;
    let pdu = wire::read(&invitation.event, &rules, Purpose::Live).map_err(|e| MembershipError::Invalid(e.to_string()))?;
    let target = check(node, origin, &invitation, &pdu, &rules)?;
    check_told(&invitation, &rules)?;
    match node.federation.keys.verify_event(pdu.json(), &rules).await {
        Ok(Verified::All) => {}
        Ok(Verified::Signatures) => return Err(MembershipError::Invalid("The content hash of the invite is wrong".into())),
        Err(fault) => return Err(MembershipError::forbidden(format!("The invite is not signed by {origin}: {fault}"))),
    }
    let ctx = Ctx::of(node);
    let mut signed = pdu.json().clone();
    ctx.key.sign_event(ctx.server_name.as_str(), &mut signed, &rules.redaction).map_err(MembershipError::internal)?;
    let pdu = Pdu::from_json(pdu.event_id().to_owned(), signed.clone(), &rules).map_err(MembershipError::internal)?;
    let (told, origin) = (told(invitation.told)?, origin.to_owned());
    let stored = node.store.write(move |tx| -> Result<(), MembershipError> {
        welcome(&tx.reader(), &ctx, &invitation.room_id, &pdu, &target)?;
        if let Some(room) = rooms::by_id(&tx.reader(), &invitation.room_id)? {
            admitted(&tx.reader(), &room, &origin)?;
            if servers::is_in_room(&tx.reader(), room.nid, &ctx.server_name)? {
                return Ok(());
            }
        }
        let came_from = Some(origin.as_str());
        let outside = Outside { room_id: &invitation.room_id, version: &invitation.version, pdu: &pdu, told: Some(told), came_from };
        outside::put(tx, &ctx, outside)?;
        Ok(())
    });
    stored.await?;
    Ok(build::canonical(&signed).map_err(EventError::from)?)
}

/// Is this an invite of a user of ours, by a user of the server that sends it?
fn check(node: &Node, origin: &ServerName, invitation: &Invitation, pdu: &Pdu, rules: &RoomVersionRules) -> Result<ruma::OwnedUserId> {
    let invalid = |why: &str| Err(MembershipError::Invalid(why.to_owned()));
    if *pdu.event_id() != invitation.event_id {
        return invalid("The event is not the one that the path names");
    }
    if !wire::belongs(pdu, &invitation.room_id, rules) {
        return invalid("The event belongs to another room");
    }
    if pdu.kind().to_string() != "m.room.member" || pdu.membership() != Some("invite") {
        return invalid("The event is no invite");
    }
    if pdu.sender().server_name() != origin {
        return Err(MembershipError::forbidden("The inviter is a user of another server"));
    }
    let target = UserId::parse(pdu.state_key().unwrap_or_default()).map_err(|_| MembershipError::Invalid("Nobody is invited".into()))?;
    if target.server_name() != node.config.server_name {
        return invalid("The invited user is not on this server");
    }
    Ok(target)
}

/// What is told of the room holds its create event in full, so that the room is the one that it is said to be (MSC4311). Older
/// rooms' servers do not all do this yet.
fn check_told(invitation: &Invitation, rules: &RoomVersionRules) -> Result<()> {
    let must = !rules.event_format.require_room_create_room_id;
    let mut created = false;
    for event in &invitation.told {
        let RawStrippedState::Pdu(json) = event else { continue };
        let pdu = wire::read(json.get(), rules, Purpose::History);
        let belongs = pdu.as_ref().is_ok_and(|pdu| wire::belongs(pdu, &invitation.room_id, rules));
        if must && !belongs {
            return Err(MembershipError::Invalid("`invite_room_state` holds what is no event of this room".into()));
        }
        created |= belongs && pdu.is_ok_and(|pdu| pdu.kind().to_string() == "m.room.create");
    }
    if must && !created {
        return Err(MembershipError::Missing("`invite_room_state` lacks the room's create event".into()));
    }
    Ok(())
}

/// Does the user exist, and do they take this invite?
fn welcome(db: &Reader<'_>, ctx: &Ctx, room_id: &ruma::RoomId, pdu: &Pdu, target: &UserId) -> Result<()> {
    let unknown = || MembershipError::not_found(format!("There is no user {target} on this server"));
    let user = users::find(db, target)?.ok_or_else(unknown)?;
    if !users::is_local(db, user)? {
        return Err(unknown());
    }
    if invites::of(db, user)?.blocks(pdu.sender()) || ctx.caution.lists.against(db, pdu.sender(), room_id)?.is_some() {
        return Err(EventError::InviteBlocked(format!("{target} takes no invites from {}", pdu.sender())).into());
    }
    Ok(())
}

/// Takes an event of a room that nobody of ours is in: the end of an invite or a knock of a user of ours. True when it was one.
///
/// # Errors
///
/// [`MembershipError`].
pub async fn withdrawn(node: &Arc<Node>, origin: &ServerName, room_id: &ruma::RoomId, raw: &str) -> Result<bool> {
    let (wanted, ours) = (room_id.to_owned(), node.config.server_name.clone());
    let room = node.store.read(move |db| -> Result<Option<RoomHandle>, MembershipError> {
        let Some(room) = rooms::by_id(db, &wanted)? else { return Ok(None) };
        Ok((!servers::is_in_room(db, room.nid, &ours)?).then_some(room))
    });
    let Some(room) = room.await? else { return Ok(false) };
    let pdu = wire::read(raw, &room.rules, Purpose::Live).map_err(|e| MembershipError::Invalid(e.to_string()))?;
    let ends = pdu.kind().to_string() == "m.room.member" && matches!(pdu.membership(), Some("leave" | "ban"));
    let target = pdu.state_key().and_then(|target| UserId::parse(target).ok());
    let target = target.filter(|target| ends && target.server_name() == node.config.server_name);
    let (Some(target), true) = (target, wire::belongs(&pdu, room_id, &room.rules)) else { return Ok(false) };
    // First what costs nobody anything: for the signatures, keys are fetched from wherever the event says.
    let asked = (room.clone(), target.clone(), pdu.clone());
    if !node.store.read(move |db| may_end(db, &asked.0, &asked.1, &asked.2)).await? {
        return Ok(false);
    }
    if !matches!(node.federation.keys.verify_event(pdu.json(), &room.rules).await, Ok(Verified::All)) {
        return Ok(false);
    }
    let (ctx, origin) = (Ctx::of(node), origin.to_owned());
    let ended = node.store.write(move |tx| -> Result<bool, MembershipError> {
        if servers::is_in_room(&tx.reader(), room.nid, &ctx.server_name)? || !may_end(&tx.reader(), &room, &target, &pdu)? {
            return Ok(false);
        }
        let came_from = Some(origin.as_str());
        outside::put(tx, &ctx, Outside { room_id: &room.room_id, version: &room.version, pdu: &pdu, told: None, came_from })?;
        Ok(true)
    });
    ended.await
}

/// Without the room's state nobody can tell who may. Whoever invited may take it back, and whoever's server told us of the room
/// may turn us down: at worst somebody is spared an invite.
fn may_end(db: &Reader<'_>, room: &RoomHandle, target: &UserId, pdu: &Pdu) -> Result<bool> {
    let Some(user) = users::find(db, target)? else { return Ok(false) };
    let Some(member) = members::get(db, room.nid, user)? else { return Ok(false) };
    let by = pdu.sender().server_name();
    match member.membership.as_str() {
        "invite" => {
            let inviter = users::user_id(db, events::by_nid(db, member.event)?.sender)?;
            let told = super::leave::senders_of(member.invite_state.as_deref().unwrap_or_default());
            Ok(inviter.server_name() == by || told.iter().any(|server| server == by))
        }
        "knock" => Ok(super::leave::senders_of(member.invite_state.as_deref().unwrap_or_default()).iter().any(|server| server == by)),
        _ => Ok(false),
    }
}

/// The signatures that a server put on an event, as far as they have the form of signatures.
pub(super) fn signatures_of(json: &CanonicalJsonObject, server: &ServerName) -> Option<ruma::CanonicalJsonValue> {
    let of_server = json.get("signatures")?.as_object()?.get(server.as_str())?;
    let fine = |(id, signature): (&String, &ruma::CanonicalJsonValue)| {
        id.len() <= 255 && id.starts_with("ed25519:") && signature.as_str().is_some_and(|text| text.len() <= 100)
    };
    let object = of_server.as_object()?;
    (!object.is_empty() && object.len() <= 5 && object.iter().all(fine)).then(|| of_server.clone())
}
