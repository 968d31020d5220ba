//! Invites that are not shown to those whom they invite before the owner has let them through.
//!
//! Silently: whoever invites sees an invite that has not been answered.

use ruma::{UserId, events::TimelineEventType};

use super::{Ctx, Result, lists::Lists};
use crate::homeserver::{
    rooms::acl::Acl,
    store::{Reader, Tx, held_invites, users},
    types::{Pdu, RoomHandle, UserNid},
};

/// What the owner thinks of invites from elsewhere.
#[derive(Debug, Default)]
pub struct Caution {
    /// Hold those of users who share no room with whom they invite.
    pub strangers: bool,
    /// The servers that there is anything to do with.
    pub servers: Acl,
    /// Who is not wanted.
    pub lists: Lists,
}

/// Looks at a membership event that has just been stored: an invite of a user of ours may have to be held, and whatever else
/// becomes of the membership ends that.
///
/// # Errors
///
/// Store errors.
pub fn consider(tx: &Tx<'_>, ctx: &Ctx, room: &RoomHandle, pdu: &Pdu) -> Result<()> {
    if *pdu.kind() != TimelineEventType::RoomMember {
        return Ok(());
    }
    let target = pdu.state_key().and_then(|target| UserId::parse(target).ok()).filter(|target| ctx.is_ours(target));
    let Some(target) = target else { return Ok(()) };
    let Some(user) = users::find(&tx.reader(), &target)? else { return Ok(()) };
    held_invites::forget(tx, room.nid, user)?;
    // Bridges and bots are strangers by trade, and nobody looks at what they are invited to.
    if pdu.membership() != Some("invite") || ctx.appservices.user_is_reserved(&target, None) {
        return Ok(());
    }
    if let Some(reason) = reason(&tx.reader(), ctx, room, pdu.sender(), user)? {
        tracing::info!(room_id = %room.room_id, user_id = %target, inviter = %pdu.sender(), reason, "an invite is held");
        held_invites::hold(tx, room.nid, user, pdu.sender(), &reason, ctx.now_ms)?;
    }
    Ok(())
}

/// Why an invite is held, if it is.
fn reason(db: &Reader<'_>, ctx: &Ctx, room: &RoomHandle, sender: &UserId, user: UserNid) -> Result<Option<String>> {
    if ctx.is_ours(sender) {
        return Ok(None);
    }
    if !ctx.caution.servers.allows(sender.server_name()) {
        return Ok(Some(format!("{} is a server that this node has nothing to do with", sender.server_name())));
    }
    if let Some(list) = ctx.caution.lists.against(db, sender, &room.room_id)? {
        return Ok(Some(format!("the policy list {list} names the inviter or the room")));
    }
    if !ctx.caution.strangers {
        return Ok(None);
    }
    let known = match users::find(db, sender)? {
        Some(sender) => held_invites::share_a_room(db, sender, user)?,
        None => false,
    };
    Ok((!known).then(|| "a stranger: they share no room".to_owned()))
}
