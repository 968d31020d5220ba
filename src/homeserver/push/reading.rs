//! Moving read markers: receipts and what they clear (Client-Server API, "Receipts" and "Read and unread markers").

use ruma::{EventId, RoomId, events::receipt::ReceiptThread};
use serde_json::json;

use super::{MAIN, thread_of_event};
use crate::homeserver::{
    store::{
        Reader, StoreError, Tx, account_data,
        events::{self, StoredEvent},
        members, push,
        receipts::{self, NewReceipt},
        rooms,
    },
    types::{Requester, RoomHandle, StreamPos, UserNid},
};

/// Type of the account data that holds the fully-read marker.
pub const FULLY_READ: &str = "m.fully_read";

/// Why a marker does not move.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Only members read.
    #[error("You are not in this room")]
    NotInRoom,
    /// Not an event of this room.
    #[error("This room has no such event")]
    NoSuchEvent,
    /// The event belongs to another thread.
    #[error("The event does not belong to that thread")]
    WrongThread,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A kind of receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Everybody in the room sees it.
    Public,
    /// Only the user's own devices see it.
    Private,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Public => "m.read",
            Self::Private => "m.read.private",
        }
    }
}

/// A room that the user is in.
fn enter(db: &Reader<'_>, room_id: &RoomId, user: UserNid) -> Result<RoomHandle, ReadError> {
    let room = rooms::by_id(db, room_id)?.ok_or(ReadError::NotInRoom)?;
    match members::get(db, room.nid, user)? {
        Some(member) if member.membership == "join" => Ok(room),
        _ => Err(ReadError::NotInRoom),
    }
}

/// An event of the room's timeline.
fn find(db: &Reader<'_>, room: &RoomHandle, event_id: &EventId) -> Result<(StoredEvent, StreamPos), ReadError> {
    let event = events::by_id(db, event_id)?.filter(|event| event.room == room.nid).ok_or(ReadError::NoSuchEvent)?;
    let pos = event.pos.ok_or(ReadError::NoSuchEvent)?;
    Ok((event, pos))
}

/// Moves a receipt forward and clears the notifications that it covers.
///
/// # Errors
///
/// [`ReadError`].
pub fn receipt(
    tx: &mut Tx<'_>,
    who: &Requester,
    room_id: &RoomId,
    event_id: &EventId,
    kind: Kind,
    thread: &ReceiptThread,
    now_ms: u64,
) -> Result<(), ReadError> {
    let room = enter(&tx.reader(), room_id, who.user)?;
    let (event, pos) = find(&tx.reader(), &room, event_id)?;
    let thread_id = thread.as_str();
    if let Some(thread_id) = thread_id {
        // A thread's root is in the main timeline and in its thread.
        let belongs = event.event_id == thread_id || thread_of_event(&tx.reader(), event_id)? == thread_id;
        if !belongs || (thread_id == MAIN && event.event_id == MAIN) {
            return Err(ReadError::WrongThread);
        }
    }
    let new = NewReceipt {
        room: room.nid,
        user: who.user,
        kind: kind.as_str(),
        thread_id: thread_id.unwrap_or_default(),
        event_id: event_id.as_str(),
        event_pos: pos,
        ts_ms: i64::try_from(now_ms).unwrap_or(i64::MAX),
    };
    if !receipts::advance(tx, &new)? {
        return Ok(());
    }
    push::clear(tx, who.user, room.nid, thread_id, pos)?;
    tx.touch(who.user);
    if kind == Kind::Public {
        for user in members::local_joined(&tx.reader(), room.nid)? {
            tx.touch(user);
        }
    }
    Ok(())
}

/// Moves the fully-read marker forward.
///
/// # Errors
///
/// [`ReadError`].
pub fn fully_read(tx: &mut Tx<'_>, who: &Requester, room_id: &RoomId, event_id: &EventId) -> Result<(), ReadError> {
    let room = enter(&tx.reader(), room_id, who.user)?;
    let (_, pos) = find(&tx.reader(), &room, event_id)?;
    if let Some(old) = account_data::get(&tx.reader(), who.user, Some(room.nid), FULLY_READ)?
        && let Ok(old) = serde_json::from_str::<serde_json::Value>(&old)
        && let Some(old) = old.get("event_id").and_then(|id| id.as_str()).and_then(|id| EventId::parse(id).ok())
        && let Some(old) = events::by_id(&tx.reader(), &old)?
        && old.pos.is_some_and(|old| old >= pos)
    {
        return Ok(());
    }
    account_data::set(tx, who.user, Some(room.nid), FULLY_READ, &json!({ "event_id": event_id }).to_string())?;
    Ok(())
}
