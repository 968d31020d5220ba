//! What we ask of our own users beyond the authorisation rules, which other servers cannot hold them to.

use ruma::{OwnedRoomAliasId, RoomAliasId, UserId};

use super::{Ctx, Draft, EventError, Result, append::Known, invites, redaction::power_levels};
use crate::homeserver::{
    rooms::{redact::client_may, relation},
    store::{Reader, accounts, aliases, events, relations, users},
    types::{RoomHandle, UserNid},
};

/// Checks a draft.
pub(super) fn check(db: &Reader<'_>, ctx: &Ctx, room: &RoomHandle, sender: UserNid, draft: &Draft, known: &Known) -> Result<()> {
    if accounts::is_suspended(db, sender)? && !while_suspended(db, sender, draft)? {
        return Err(EventError::Suspended);
    }
    match (draft.kind.as_str(), &draft.state_key) {
        ("m.room.redaction", None) => redaction(db, room, draft),
        ("m.room.canonical_alias", Some(key)) if key.is_empty() => canonical_alias(db, ctx, room, draft, known),
        ("m.room.member", Some(target)) => invitee(db, ctx, room, draft, target),
        ("m.room.power_levels", Some(key)) if key.is_empty() => levels(db, room, draft),
        (_, None) => related(db, sender, draft),
        _ => Ok(()),
    }
}

/// Checks the sender of a draft that is proposed and not yet sent.
pub(super) fn check_sender(db: &Reader<'_>, draft: &Draft) -> Result<()> {
    match users::find(db, &draft.sender)? {
        Some(sender) if accounts::is_suspended(db, sender)? && !while_suspended(db, sender, draft)? => Err(EventError::Suspended),
        _ => Ok(()),
    }
}

/// What a suspended user may still do in rooms (Client-Server API, "Account suspension"): go, take back what they said, and verify
/// devices. What is encrypted is not among it: nobody can see that it is a verification.
fn while_suspended(db: &Reader<'_>, sender: UserNid, draft: &Draft) -> Result<bool> {
    match (draft.kind.as_str(), &draft.state_key) {
        ("m.room.member", Some(target)) => {
            let leaves = draft.content.get("membership").and_then(|membership| membership.as_str()) == Some("leave");
            Ok(leaves && *target == draft.sender)
        }
        ("m.room.redaction", None) => match redacted(draft) {
            Some(target) => Ok(events::by_id(db, &target)?.is_some_and(|target| target.sender == sender)),
            None => Ok(false),
        },
        ("m.room.message", None) => Ok(asks_to_verify(draft)),
        (kind, None) => Ok(kind.starts_with("m.key.verification.")),
        _ => Ok(false),
    }
}

/// True for the message that begins a verification in a room (Client-Server API, "Key verification framework"), with all that makes
/// it one: not for what only calls itself so.
fn asks_to_verify(draft: &Draft) -> bool {
    let text = |field: &str| draft.content.get(field).and_then(|value| value.as_str());
    text("msgtype") == Some("m.key.verification.request")
        && text("to").is_some_and(|to| UserId::parse(to).is_ok())
        && text("from_device").is_some_and(|device| !device.is_empty())
        && draft.content.get("methods").and_then(|methods| methods.as_array()).is_some_and(|methods| !methods.is_empty())
        && ["formatted_body", "url", "file"].iter().all(|field| !draft.content.contains_key(*field))
}

/// What a redaction names.
fn redacted(draft: &Draft) -> Option<ruma::OwnedEventId> {
    let in_content = || draft.content.get("redacts").and_then(|id| id.as_str()).and_then(|id| ruma::EventId::parse(id).ok());
    draft.redacts.clone().or_else(in_content)
}

/// Users redact what they sent, and whatever the room's redact level lets them; the event must be known and in this room.
fn redaction(db: &Reader<'_>, room: &RoomHandle, draft: &Draft) -> Result<()> {
    let Some(target) = redacted(draft) else {
        return Err(EventError::InvalidParam("A redaction names the event that it redacts".into()));
    };
    let target = events::by_id(db, &target)?.filter(|target| target.room == room.nid);
    let target = target.ok_or_else(|| EventError::NotFound("There is no such event in this room".into()))?;
    if matches!(target.kind.as_str(), "m.room.create" | "m.room.server_acl") {
        return Err(EventError::Forbidden(format!("An {} event cannot be redacted", target.kind)));
    }
    let target_sender = users::user_id(db, target.sender)?;
    if client_may(&power_levels(db, room)?, &draft.sender, &target_sender).map_err(EventError::Forbidden)? {
        Ok(())
    } else {
        Err(EventError::Forbidden("You may not redact other people's messages in this room".into()))
    }
}

/// Where creators stand above everybody they have no level: whoever may set levels cannot set that one, so it is not a matter of
/// permission.
fn levels(db: &Reader<'_>, room: &RoomHandle, draft: &Draft) -> Result<()> {
    if !room.rules.authorization.explicitly_privilege_room_creators {
        return Ok(());
    }
    let users = draft.content.get("users").and_then(|users| users.as_object());
    let levels = power_levels(db, room)?;
    match levels.creators().iter().find(|creator| users.is_some_and(|users| users.contains_key(creator.as_str()))) {
        Some(creator) => Err(EventError::BadJson(format!("{creator} made the room and stands above all levels"))),
        None => Ok(()),
    }
}

/// Whoever is invited exists, as far as we can tell.
fn invitee(db: &Reader<'_>, ctx: &Ctx, room: &RoomHandle, draft: &Draft, target: &str) -> Result<()> {
    if draft.content.get("membership").and_then(|membership| membership.as_str()) != Some("invite") {
        return Ok(());
    }
    let target = UserId::parse(target).map_err(|_| EventError::InvalidParam(format!("{target} is not a user ID")))?;
    if !ctx.is_ours(&target) {
        // Their server signs it before it is part of the room: `federation::membership::invite`.
        return Err(EventError::Forbidden(format!("{target} is on another server, which has to be asked first")));
    }
    let user = match users::find(db, &target)? {
        Some(user) if users::is_local(db, user)? => user,
        _ => return Err(EventError::NotFound(format!("There is no user {target} on this server"))),
    };
    let sender = &draft.sender;
    if invites::of(db, user)?.blocks(sender) || ctx.caution.lists.against(db, sender, &room.room_id)?.is_some() {
        return Err(EventError::InviteBlocked(format!("{target} takes no invites from {sender}")));
    }
    Ok(())
}

/// One reaction of a kind per person, and no threads within threads.
fn related(db: &Reader<'_>, sender: UserNid, draft: &Draft) -> Result<()> {
    let Some(relation) = relation::of(&draft.content) else { return Ok(()) };
    if let (Some(key), "m.annotation") = (&relation.key, relation.rel_type.as_str())
        && relations::annotated(db, &relation.parent, sender, &draft.kind, key)?
    {
        return Err(EventError::DuplicateAnnotation("You have reacted with this already".into()));
    }
    if relation.rel_type == "m.thread"
        && let Some(root) = events::by_id(db, &relation.parent)?
        && relations::of_child(db, root.nid)?.is_some()
    {
        return Err(EventError::Unknown("A thread cannot start from an event that relates to another".into()));
    }
    Ok(())
}

/// Aliases that are new in the event must point to the room.
fn canonical_alias(db: &Reader<'_>, ctx: &Ctx, room: &RoomHandle, draft: &Draft, known: &Known) -> Result<()> {
    let before = match known.replaced().and_then(|pdu| pdu.json().get("content")).and_then(|content| content.as_object()) {
        Some(content) => named(content).unwrap_or_default(),
        None => Vec::new(),
    };
    for alias in named(&draft.content)? {
        if before.contains(&alias) {
            continue;
        }
        let ours = alias.server_name() == ctx.server_name;
        let points_here = ours && aliases::get(db, &alias)?.is_some_and(|(to, _)| to == room.nid);
        if !points_here {
            return Err(EventError::BadAlias(format!("{alias} does not point to this room")));
        }
    }
    Ok(())
}

/// The aliases in the content of an `m.room.canonical_alias`.
fn named(content: &ruma::CanonicalJsonObject) -> Result<Vec<OwnedRoomAliasId>> {
    let invalid = || EventError::InvalidParam("This is not a room alias".into());
    let main = content.get("alias").filter(|value| !matches!(value, ruma::CanonicalJsonValue::Null));
    let others = match content.get("alt_aliases") {
        None | Some(ruma::CanonicalJsonValue::Null) => &[],
        Some(value) => value.as_array().ok_or_else(invalid)?,
    };
    main.into_iter()
        .chain(others)
        .map(|value| value.as_str().filter(|text| text.len() <= 255).and_then(|text| RoomAliasId::parse(text).ok()).ok_or_else(invalid))
        .collect()
}
