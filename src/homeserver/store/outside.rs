//! Membership events of rooms that are not here: invites and knocks, and how they ended.
//!
//! They are ordinary outliers, except that what authorises them is not here. When the room comes, they make way for themselves:
//! the event is stored again in its proper order, and whatever pointed to the old row points to the new one.

use ruma::EventId;
use rusqlite::OptionalExtension;

use super::{Reader, Result, Tx, search};
use crate::homeserver::types::{EventNid, RoomNid};

/// What takes the place of an event's ID while its room comes: no event ID has a space in it.
const ASIDE: &str = " aside";

/// Notes that a stored event came without its room.
///
/// # Errors
///
/// Database errors.
pub fn add(tx: &Tx<'_>, room: RoomNid, event: EventNid, event_id: &EventId) -> Result<()> {
    tx.prepare_cached("INSERT OR IGNORE INTO outside_events (event_nid, room_nid, event_id) VALUES (?1, ?2, ?3)")?.execute((
        event.0,
        room.0,
        event_id.as_str(),
    ))?;
    Ok(())
}

/// Did a stored event come without its room?
///
/// # Errors
///
/// Database errors.
pub fn is_outside(db: &Reader<'_>, event: EventNid) -> Result<bool> {
    Ok(db.prepare_cached("SELECT 1 FROM outside_events WHERE event_nid = ?1")?.exists([event.0])?)
}

fn of_room(db: &Reader<'_>, room: RoomNid) -> Result<Vec<(EventNid, String)>> {
    let mut query = db.prepare_cached("SELECT event_nid, event_id FROM outside_events WHERE room_nid = ?1")?;
    let rows = query.query_map([room.0], |row| Ok((EventNid(row.get(0)?), row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Before a room comes: its outside events give up their IDs.
///
/// # Errors
///
/// Database errors.
pub fn put_aside(tx: &Tx<'_>, room: RoomNid) -> Result<()> {
    for (event, event_id) in of_room(&tx.reader(), room)? {
        tx.prepare_cached("UPDATE events SET event_id = ?2 WHERE event_nid = ?1")?.execute((event.0, format!("{event_id}{ASIDE}")))?;
    }
    Ok(())
}

/// After a room has come, or has not: what pointed to its outside events points to the events that came, and those that did
/// not come have their IDs back.
///
/// # Errors
///
/// Database errors.
pub fn put_back(tx: &Tx<'_>, room: RoomNid) -> Result<()> {
    for (old, event_id) in of_room(&tx.reader(), room)? {
        let mut query = tx.prepare_cached("SELECT event_nid FROM events WHERE event_id = ?1")?;
        let new: Option<i64> = query.query_row([&event_id], |row| row.get(0)).optional()?;
        match new.map(EventNid) {
            Some(new) if new == old => {}
            Some(new) => replace(tx, old, new)?,
            None => {
                tx.prepare_cached("UPDATE events SET event_id = ?2 WHERE event_nid = ?1")?.execute((old.0, event_id))?;
            }
        }
    }
    Ok(())
}

fn replace(tx: &Tx<'_>, old: EventNid, new: EventNid) -> Result<()> {
    for table in ["members", "membership_changes", "notifications", "push_actions"] {
        tx.prepare_cached(&format!("UPDATE {table} SET event_nid = ?2 WHERE event_nid = ?1"))?.execute((old.0, new.0))?;
    }
    for table in ["outside_events", "event_edges", "event_auth"] {
        tx.prepare_cached(&format!("DELETE FROM {table} WHERE event_nid = ?1"))?.execute([old.0])?;
    }
    search::remove(tx, old)?;
    tx.prepare_cached("DELETE FROM events WHERE event_nid = ?1")?.execute([old.0])?;
    Ok(())
}
