//! Taking membership events of users of other servers into rooms of ours.

use std::{collections::BTreeSet, sync::Arc};

use ruma::{
    CanonicalJsonObject, OwnedEventId, OwnedRoomId, OwnedServerName, ServerName, UserId, room_version_rules::RoomVersionRules,
    signatures::Verified,
};

use super::{
    Kind, MembershipError, Result,
    answer::{self, Told},
    resident,
};
use crate::homeserver::{
    Node,
    events::{self, Ctx, EventError, outside, policy},
    rooms::{
        build,
        wire::{self, Purpose},
    },
    store::{Tx, events as stored, rooms, servers},
    types::{Pdu, RoomHandle},
};

/// An event that another server gives us.
#[derive(Debug)]
pub struct Given {
    /// Which membership the endpoint is for.
    pub kind: Kind,
    /// The room, as the path has it.
    pub room_id: OwnedRoomId,
    /// The event, as the path has it.
    pub event_id: OwnedEventId,
    /// The event.
    pub event: String,
    /// A join may be answered without the members.
    pub omit_members: bool,
}

/// What the other server is told.
#[derive(Debug, Default)]
pub struct Joined {
    /// The event with our signature, where we had to let the user in.
    pub event: String,
    /// For a knock, what those outside are told of the room.
    pub stripped: Vec<String>,
    /// For a join, the room's state before it.
    pub told: Told,
    /// Servers in the room before the join.
    pub servers: Vec<OwnedServerName>,
}

/// Checks a join, a leave or a knock, takes it into the room and passes it on to the other servers in it. The same event again
/// is answered the same.
///
/// # Errors
///
/// [`MembershipError`].
pub async fn accept(node: &Arc<Node>, origin: &ServerName, given: Given) -> Result<Joined> {
    let (ctx, from, room_id) = (Ctx::of(node), origin.to_owned(), given.room_id.clone());
    let room = node.store.read(move |db| resident::open(db, &ctx, &room_id, &from)).await?;
    let pdu = wire::read(&given.event, &room.rules, Purpose::Live).map_err(|e| MembershipError::Invalid(e.to_string()))?;
    check(origin, &given, &pdu, &room)?;
    let pdu = with_our_signature(node, &room, pdu).await?;
    match node.federation.keys.verify_event(pdu.json(), &room.rules).await {
        Ok(Verified::All) => {}
        Ok(Verified::Signatures) => return Err(MembershipError::Invalid("The content hash of the event is wrong".into())),
        Err(fault) => return Err(MembershipError::forbidden(format!("The event is not signed as it must be: {fault}"))),
    }
    // Before it takes a place in the writer's queue.
    let (handle, asked) = (room.clone(), pdu.clone());
    node.store.read(move |db| events::worthwhile(db, &handle, &asked)).await?;
    let pdu = with_leave(node, &room, pdu, given.kind).await?;
    let (ctx, origin) = (Ctx::of(node), origin.to_owned());
    let (handle, kind, omit_members) = (room.clone(), given.kind, given.omit_members);
    let (mut joined, pdu) =
        node.store.write(move |tx| Ok::<_, MembershipError>((take(tx, &ctx, &origin, &room, &pdu, kind)?, pdu))).await?;
    if kind == Kind::Join {
        // The state before the join does not change any more, and others write while it is collected.
        joined.told = node.store.read(move |db| answer::state(db, &handle, &pdu, omit_members)).await?;
    }
    Ok(joined)
}

fn check(origin: &ServerName, given: &Given, pdu: &Pdu, room: &RoomHandle) -> Result<()> {
    let invalid = |why: &str| Err(MembershipError::Invalid(why.to_owned()));
    if *pdu.event_id() != given.event_id {
        return invalid("The event is not the one that the path names");
    }
    if !wire::belongs(pdu, &room.room_id, &room.rules) {
        return invalid("The event belongs to another room");
    }
    if pdu.kind().to_string() != "m.room.member" || pdu.membership() != Some(given.kind.membership()) {
        return invalid("The event is not of the membership that this endpoint is for");
    }
    if pdu.state_key() != Some(pdu.sender().as_str()) {
        return invalid("The event is about somebody else than its sender");
    }
    if pdu.sender().server_name() != origin {
        return Err(MembershipError::forbidden("The sender is a user of another server"));
    }
    if given.kind == Kind::Knock && !room.rules.authorization.knocking {
        return Err(MembershipError::forbidden("Rooms of this version take no knocks"));
    }
    Ok(())
}

/// Who is let into a restricted room by a user of ours needs our signature: given only if we would propose the same now.
async fn with_our_signature(node: &Arc<Node>, room: &RoomHandle, pdu: Pdu) -> Result<Pdu> {
    let named = authorised_via(&pdu, &room.rules);
    let ctx = Ctx::of(node);
    let Some(named) = named.filter(|user| ctx.is_ours(user)) else { return Ok(pdu) };
    let (room, user) = (room.clone(), pdu.sender().to_owned());
    let (for_check, rules) = (ctx.clone(), room.rules.clone());
    let needed = node.store.write(move |tx| resident::authoriser(tx, &for_check, &room, &user)).await?;
    if needed.is_none() {
        tracing::debug!(user_id = %pdu.sender(), authoriser = %named, "a join names somebody who lets it in without need");
    }
    let mut json: CanonicalJsonObject = pdu.json().clone();
    ctx.key.sign_event(ctx.server_name.as_str(), &mut json, &rules.redaction).map_err(MembershipError::Invalid)?;
    // The content hash is worked out anew by signing: a wrong one shows in the other server's signature, which is over it.
    Pdu::from_json(pdu.event_id().to_owned(), json, &rules).map_err(MembershipError::internal)
}

/// Whoever asks to be let in does not know the room yet: where it has a policy server that has not seen the event, we ask it. Who
/// leaves does so whatever it says.
async fn with_leave(node: &Node, room: &RoomHandle, pdu: Pdu, kind: Kind) -> Result<Pdu> {
    let (of, event) = (room.clone(), pdu.clone());
    match node.store.read(move |db| policy::missing(db, &of, &event)).await? {
        Some(by) if by.name != node.config.server_name => match policy::sign(node.federation.policy.as_ref(), room, &pdu, &by).await {
            Err(_) if kind == Kind::Leave => Ok(pdu),
            signed => signed.map_err(|refusal| EventError::NotApproved(refusal).into()),
        },
        _ => Ok(pdu),
    }
}

fn authorised_via(pdu: &Pdu, rules: &RoomVersionRules) -> Option<ruma::OwnedUserId> {
    let content = pdu.json().get("content")?.as_object()?;
    let user = content.get("join_authorised_via_users_server")?.as_str()?;
    rules.authorization.restricted_join_rule.then(|| UserId::parse(user).ok()).flatten()
}

fn take(tx: &mut Tx<'_>, ctx: &Ctx, origin: &ServerName, room: &RoomHandle, pdu: &Pdu, kind: Kind) -> Result<Joined> {
    // What was checked before the signature was may have changed since.
    let room = match rooms::by_id(&tx.reader(), &room.room_id)? {
        Some(room) if servers::is_in_room(&tx.reader(), room.nid, &ctx.server_name)? => room,
        _ => return Err(MembershipError::not_found("This server is not in that room")),
    };
    resident::admitted(&tx.reader(), &room, origin)?;
    let before: BTreeSet<OwnedServerName> = servers::in_room(&tx.reader(), room.nid)?.into_iter().collect();
    let known = stored::by_id(&tx.reader(), pdu.event_id())?.is_some_and(|known| known.pos.is_some());
    events::place(tx, ctx, &room, pdu, &events::Source::Server(origin))?;
    let mut told = Joined { event: build::canonical(pdu.json()).map_err(EventError::from)?, ..Joined::default() };
    match kind {
        Kind::Leave => {}
        Kind::Knock => told.stripped = outside::told_in_full(&tx.reader(), &room, pdu)?,
        Kind::Join => {
            // Asked again, their server is there because of the first time.
            told.servers = before.into_iter().filter(|server| !known || server != origin).collect();
        }
    }
    Ok(told)
}
