//! Policy lists (Client-Server API, "Moderation policy lists"): rooms whose state says who is not wanted.
//!
//! Only the owner says which rooms are such lists. Their rules decide about invites and about nothing else.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use ruma::{OwnedRoomId, RoomId, UserId};
use serde::Deserialize;

use super::{EventError, Result};
use crate::homeserver::{
    rooms::{acl::matches, format},
    store::{Reader, events, rooms, state},
    types::{RoomHandle, RoomNid, StateGroupId},
};

/// Rules of one kind that are read of one list.
const RULES: usize = 50_000;
/// Longest pattern that counts: no ID is longer.
const PATTERN: usize = 255;

/// The types of rules about users, rooms and servers: today's, and those of the time before they were in the specification.
const USERS: [&str; 3] = ["m.policy.rule.user", "m.room.rule.user", "org.matrix.mjolnir.rule.user"];
const ROOMS: [&str; 3] = ["m.policy.rule.room", "m.room.rule.room", "org.matrix.mjolnir.rule.room"];
const SERVERS: [&str; 3] = ["m.policy.rule.server", "m.room.rule.server", "org.matrix.mjolnir.rule.server"];
/// What they recommend that concerns us: to keep somebody out, and that all of theirs be taken down (MSC4204).
const KEEP_OUT: [&str; 4] = ["m.ban", "org.matrix.mjolnir.ban", "m.takedown", "org.matrix.msc4204.takedown"];

#[derive(Debug, Deserialize)]
struct Content {
    entity: String,
    recommendation: String,
}

/// The patterns of one list.
#[derive(Debug, Default)]
struct Rules {
    users: Vec<String>,
    rooms: Vec<String>,
    servers: Vec<String>,
}

/// The lists that the owner trusts. What was read of a list is kept until its state changes.
#[derive(Debug, Default)]
pub struct Lists {
    rooms: Vec<OwnedRoomId>,
    read: Mutex<HashMap<RoomNid, (StateGroupId, Arc<Rules>)>>,
}

impl Lists {
    /// The lists in these rooms.
    #[must_use]
    pub fn new(rooms: Vec<OwnedRoomId>) -> Self {
        Self { rooms, read: Mutex::default() }
    }

    /// The list by which an invite of this user to this room is not wanted, if there is one. A list that nobody here is in says
    /// nothing.
    ///
    /// # Errors
    ///
    /// Store errors.
    pub fn against(&self, db: &Reader<'_>, sender: &UserId, room_id: &RoomId) -> Result<Option<&RoomId>> {
        let server = sender.server_name().host().to_ascii_lowercase();
        for list in &self.rooms {
            let Some(room) = rooms::by_id(db, list)? else { continue };
            let Some(group) = rooms::current_group(db, room.nid)? else { continue };
            let rules = self.rules(db, &room, group)?;
            let any = |patterns: &[String], text: &str| patterns.iter().any(|pattern| matches(pattern, text));
            if any(&rules.users, sender.as_str()) || any(&rules.servers, &server) || any(&rules.rooms, room_id.as_str()) {
                return Ok(Some(list));
            }
        }
        Ok(None)
    }

    fn rules(&self, db: &Reader<'_>, room: &RoomHandle, group: StateGroupId) -> Result<Arc<Rules>> {
        let known = self.read.lock().unwrap_or_else(PoisonError::into_inner).get(&room.nid).cloned();
        if let Some((of, rules)) = known
            && of == group
        {
            return Ok(rules);
        }
        let mut rules = Rules { users: read(db, room, &USERS)?, rooms: read(db, room, &ROOMS)?, servers: read(db, room, &SERVERS)? };
        rules.servers.iter_mut().for_each(|pattern| pattern.make_ascii_lowercase());
        let rules = Arc::new(rules);
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(room.nid, (group, Arc::clone(&rules)));
        Ok(rules)
    }
}

/// The patterns of the rules of these types. What is malformed, taken back or recommends something else is none.
fn read(db: &Reader<'_>, room: &RoomHandle, kinds: &[&str]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for kind in kinds {
        for (_, event) in state::current_of_type(db, room.nid, kind)?.into_iter().take(RULES) {
            let content = format::content(&events::by_nid(db, event)?.json).map_err(|e| EventError::Internal(e.to_string()))?;
            if let Ok(Content { entity, recommendation }) = serde_json::from_str(content.get())
                && KEEP_OUT.contains(&recommendation.as_str())
                && entity.len() <= PATTERN
            {
                found.push(entity);
            }
        }
    }
    Ok(found)
}
