//! Who may see what of a room: entry to the room's data, and each event by itself.

use std::{cell::RefCell, collections::HashMap};

use ruma::{
    UserId,
    events::room::{history_visibility::HistoryVisibility, member::MembershipState},
};

use super::{EventError, Result};
use crate::homeserver::{
    rooms::{
        format,
        visibility::{DUMMY, visible},
    },
    store::{
        Reader,
        events::{self, StoredEvent},
        members,
        relations::{self, Audience},
        state,
    },
    types::{EventNid, RoomHandle, StateGroupId, StateKeyNid, StreamPos, UserNid},
};

/// How far a user may look into a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// They are in it.
    Member,
    /// They were: up to the event with which they went.
    Former {
        /// That event.
        left_by: EventNid,
        /// Its place.
        at: StreamPos,
    },
    /// Anybody may look in.
    World,
}

/// Lets a user read a room: members, former members as far as they were there, and everybody where it is world-readable.
///
/// # Errors
///
/// [`EventError::Forbidden`].
pub fn enter(db: &Reader<'_>, room: &RoomHandle, user: UserNid) -> Result<Access> {
    let member = members::get(db, room.nid, user)?;
    if member.as_ref().is_some_and(|member| member.membership == "join") {
        return Ok(Access::Member);
    }
    if current_visibility(db, room)? == HistoryVisibility::WorldReadable {
        return Ok(Access::World);
    }
    if member.is_some_and(|member| !member.forgotten) {
        let changes = members::changes(db, room.nid, user)?;
        let last_join = changes.iter().rposition(|change| change.membership == "join");
        // What ended their last stay counts, not what came after it, such as a ban.
        if let Some(end) = last_join.and_then(|join| changes.get(join + 1)) {
            return Ok(Access::Former { left_by: end.event, at: end.pos });
        }
    }
    Err(EventError::Forbidden("You are not in this room".into()))
}

/// The room's history visibility as it is now.
///
/// # Errors
///
/// Store errors.
pub fn current_visibility(db: &Reader<'_>, room: &RoomHandle) -> Result<HistoryVisibility> {
    match state::current(db, room.nid, "m.room.history_visibility", "")? {
        Some(nid) => visibility_in(&events::by_nid(db, nid)?),
        None => Ok(HistoryVisibility::Shared),
    }
}

fn visibility_in(event: &StoredEvent) -> Result<HistoryVisibility> {
    Ok(HistoryVisibility::from(field(event, "history_visibility")?.as_deref().unwrap_or("shared")))
}

fn membership_in(event: &StoredEvent) -> Result<MembershipState> {
    Ok(MembershipState::from(field(event, "membership")?.as_deref().unwrap_or("leave")))
}

fn field(event: &StoredEvent, name: &str) -> Result<Option<String>> {
    let internal = |e: serde_json::Error| EventError::Internal(e.to_string());
    let content = format::content(&event.json).map_err(internal)?;
    let content: serde_json::Map<String, serde_json::Value> = serde_json::from_str(content.get()).map_err(internal)?;
    Ok(content.get(name).and_then(|value| value.as_str()).map(ToOwned::to_owned))
}

/// Decides event by event what a user may see of a room's history. Made once per request: it remembers what it looked up.
#[derive(Debug)]
pub struct History<'a, 'db> {
    db: &'a Reader<'db>,
    /// Place of the user's last join.
    last_join: Option<StreamPos>,
    /// The user has been in the room since then.
    stayed: bool,
    visibility_key: Option<StateKeyNid>,
    member_key: Option<StateKeyNid>,
    /// By state group, because runs of messages share one.
    seen: RefCell<HashMap<StateGroupId, (HistoryVisibility, MembershipState)>>,
}

impl<'a, 'db> History<'a, 'db> {
    /// Looks up what concerns the user.
    ///
    /// # Errors
    ///
    /// Store errors.
    pub fn new(db: &'a Reader<'db>, room: &RoomHandle, user: UserNid, user_id: &UserId) -> Result<Self> {
        let changes = members::changes(db, room.nid, user)?;
        Ok(Self {
            db,
            last_join: changes.iter().rev().find(|c| c.membership == "join").map(|c| c.pos),
            stayed: changes.last().is_some_and(|c| c.membership == "join"),
            visibility_key: state::find_key(db, "m.room.history_visibility", "")?,
            member_key: state::find_key(db, "m.room.member", user_id.as_str())?,
            seen: RefCell::default(),
        })
    }

    /// May the user see this event?
    ///
    /// # Errors
    ///
    /// Store errors.
    pub fn shows(&self, event: &StoredEvent) -> Result<bool> {
        let shown = event.accepted() && event.kind != DUMMY;
        let (Some(group), Some(pos), true) = (event.state_before, event.pos, shown) else { return Ok(false) };
        let (visibility, membership) = self.at(group)?;
        let joined_later = self.last_join.is_some_and(|join| join > pos);
        if visible(&visibility, &membership, joined_later) {
            return Ok(true);
        }
        // An event that changes either is shown to whom the state before it or after it lets see.
        if event.state_key.is_some() && event.state_key == self.visibility_key {
            return Ok(visible(&visibility_in(event)?, &membership, joined_later));
        }
        if event.state_key.is_some() && event.state_key == self.member_key {
            return Ok(visible(&visibility, &membership_in(event)?, joined_later));
        }
        Ok(false)
    }

    /// Who the user is to events that relate to this one. State events aside, what they see depends on little more than the state
    /// before each: so relations can be counted without looking at them one by one.
    ///
    /// # Errors
    ///
    /// Store errors.
    pub fn audience(&self, parent: &StoredEvent, ignored: &str) -> Result<Audience> {
        let last_join = self.last_join.unwrap_or(StreamPos(i64::MIN));
        let from = if self.stayed { last_join } else { StreamPos(i64::MAX) };
        let mut stretches = Vec::new();
        for stretch in relations::stretches(self.db, parent.room, &parent.event_id, from, last_join)? {
            let (visibility, membership) = self.at(stretch.group)?;
            if visible(&visibility, &membership, stretch.joined_later) {
                stretches.push(stretch.number().to_string());
            }
        }
        Ok(Audience { from, last_join, stretches: format!("[{}]", stretches.join(",")), ignored: ignored.to_owned() })
    }

    fn at(&self, group: StateGroupId) -> Result<(HistoryVisibility, MembershipState)> {
        if let Some(found) = self.seen.borrow().get(&group) {
            return Ok(found.clone());
        }
        let event = |key: Option<StateKeyNid>| -> Result<Option<StoredEvent>> {
            let Some(key) = key else { return Ok(None) };
            let nid = state::key_of_group(self.db, group, key)?;
            Ok(nid.map(|nid| events::by_nid(self.db, nid)).transpose()?)
        };
        let visibility = event(self.visibility_key)?.map_or(Ok(HistoryVisibility::Shared), |e| visibility_in(&e))?;
        let membership = event(self.member_key)?.map_or(Ok(MembershipState::Leave), |e| membership_in(&e))?;
        self.seen.borrow_mut().insert(group, (visibility.clone(), membership.clone()));
        Ok((visibility, membership))
    }
}
