//! The one place where other parts of the node look at each new event, inside the transaction that stores it.

use ruma::{UserId, events::TimelineEventType};

use super::{Ctx, Result, held, successor};
use crate::homeserver::{
    appservice, push,
    rooms::visibility::DUMMY,
    store::{Tx, delayed, outbox},
    types::{EventNid, Pdu, RoomHandle, StreamPos, UserNid},
};

/// A new event, as those who act on it see it.
#[derive(Debug)]
pub struct NewEvent<'a> {
    /// Its room.
    pub room: &'a RoomHandle,
    /// The event.
    pub pdu: &'a Pdu,
    /// In the store.
    pub nid: EventNid,
    /// Its place.
    pub pos: StreamPos,
    /// Its sender.
    pub sender: UserNid,
    /// Local users who are joined to the room once it has been applied, and the local user whom it invites.
    pub audience: &'a [UserNid],
}

/// Wakes those concerned and counts what their push rules say.
pub(super) fn after_append(tx: &mut Tx<'_>, ctx: &Ctx, event: &NewEvent<'_>) -> Result<()> {
    for user in event.audience {
        tx.touch(*user);
    }
    held::consider(tx, ctx, event.room, event.pdu)?;
    successor::consider(tx, ctx, event.room, event.pdu)?;
    // It says nothing, whatever somebody's rules make of events in general.
    if event.pdu.kind().to_string() != DUMMY {
        tell(tx, ctx, event)?;
    }
    if let Some(state_key) = event.pdu.state_key() {
        delayed::superseded(tx, event.room.nid, &event.pdu.kind().to_string(), state_key, event.sender)?;
    }
    // What another server let our user do, such as a join, it passes on itself.
    if ctx.is_ours(event.pdu.sender()) && !outbox::came_from_elsewhere(&tx.reader(), event.nid)? {
        send_out(tx, ctx, event)?;
    }
    Ok(())
}

/// What the event is to those in the room.
fn tell(tx: &mut Tx<'_>, ctx: &Ctx, event: &NewEvent<'_>) -> Result<()> {
    push::on_event(
        tx,
        &push::NewEvent { room: event.room, pdu: event.pdu, nid: event.nid, pos: event.pos, sender: event.sender, now_ms: ctx.now_ms },
    )?;
    Ok(appservice::on_event(tx, &ctx.appservices, event)?)
}

/// Our own events go to every server in the room. The member list is already what the event makes of it: a server whose last
/// user has been removed, or whose user's invite or knock has been withdrawn, is told as well. (Invites go their own way.)
fn send_out(tx: &mut Tx<'_>, ctx: &Ctx, event: &NewEvent<'_>) -> Result<()> {
    let target = event.pdu.state_key().filter(|_| *event.pdu.kind() == TimelineEventType::RoomMember);
    let ends = matches!(event.pdu.membership(), Some("leave" | "ban"));
    let target = target.filter(|_| ends).and_then(|target| UserId::parse(target).ok());
    outbox::queue_pdu(
        tx,
        &outbox::OutgoingPdu {
            room: event.room.nid,
            event: event.nid,
            pos: event.pos,
            also: target.as_ref().map(|target| target.server_name()),
            except: &[&ctx.server_name],
        },
    )?;
    Ok(())
}
