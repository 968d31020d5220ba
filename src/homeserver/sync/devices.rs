//! Whose device keys a client has to look at again, and whose it can forget (Client-Server API, "Tracking the device list").

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ruma::{OwnedUserId, UserId, events::room::member::MembershipState};

use super::{format, viewer::Viewer};
use crate::homeserver::{
    store::{
        Reader, Result, device_lists, events, members, one_time_keys,
        sync_rooms::{self, MembershipChange},
        users,
    },
    types::{EventNid, RoomNid, StreamPos, UserNid},
};

/// Changes since a position.
#[derive(Debug, Default, Clone, serde::Serialize)]
pub(super) struct DeviceLists {
    /// Users with new keys, or with whom a room is now shared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<OwnedUserId>,
    /// Users with whom no room is shared any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<OwnedUserId>,
    /// Users with whom a room is shared that was not before, whether or not another one was. Not told: others of their facts are.
    #[serde(skip)]
    pub came: BTreeSet<UserNid>,
}

impl DeviceLists {
    /// Nothing changed.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.left.is_empty()
    }
}

/// What [`since`] looks at.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub viewer: &'a Viewer,
    /// The rooms that the user is in.
    pub joined: &'a BTreeSet<RoomNid>,
    /// How the user's own memberships changed in the meantime.
    pub own_changes: &'a HashMap<RoomNid, Vec<MembershipChange>>,
    /// Rooms with events in the meantime.
    pub changed_rooms: &'a BTreeSet<RoomNid>,
    pub after: StreamPos,
    pub now: StreamPos,
}

/// Works out the changes.
pub(super) fn since(db: &Reader<'_>, q: &Question<'_>) -> Result<DeviceLists> {
    let mut changed: BTreeSet<OwnedUserId> = device_lists::changed_between(db, q.viewer.user, q.after, q.now)?.into_iter().collect();
    let mut came = BTreeSet::new();
    let mut gone = BTreeSet::new();
    for (room, changes) in q.own_changes {
        let joined = changes.iter().any(|c| c.membership == MembershipState::Join);
        let (was_joined, is_joined) = (before(db, *room, q)? == Some(MembershipState::Join), q.joined.contains(room));
        if joined && is_joined && !was_joined {
            came.extend(sync_rooms::joined_members(db, *room)?);
        }
        // Turning down an invite ends nothing: the room was not shared yet.
        if (joined || was_joined) && !is_joined {
            gone.extend(sync_rooms::joined_members(db, *room)?);
            moved(db, *room, q, &mut BTreeSet::new(), &mut gone)?;
        }
    }
    for room in q.changed_rooms {
        if q.joined.contains(room) {
            moved(db, *room, q, &mut came, &mut gone)?;
        }
    }
    let mut left = Vec::new();
    for user in gone {
        if !device_lists::share_a_room(db, q.viewer.user, user)? {
            came.remove(&user);
            left.push(users::user_id(db, user)?);
        }
    }
    came.remove(&q.viewer.user);
    for user in &came {
        changed.insert(users::user_id(db, *user)?);
    }
    Ok(DeviceLists { changed: changed.into_iter().collect(), left, came })
}

/// The user's own membership at the start.
fn before(db: &Reader<'_>, room: RoomNid, q: &Question<'_>) -> Result<Option<MembershipState>> {
    let history = members::changes(db, room, q.viewer.user)?;
    Ok(history.into_iter().rev().find(|c| c.pos <= q.after).map(|c| c.membership.into()))
}

/// Who came to a room and who went.
fn moved(db: &Reader<'_>, room: RoomNid, q: &Question<'_>, came: &mut BTreeSet<UserNid>, went: &mut BTreeSet<UserNid>) -> Result<()> {
    for change in sync_rooms::state_changes(db, room, q.after, q.now)?.into_values() {
        if change.entry.kind != "m.room.member" {
            continue;
        }
        let (was, is) = (is_join(db, change.before)?, is_join(db, change.entry.event)?);
        if was == is {
            continue;
        }
        let Ok(user_id) = UserId::parse(&change.entry.state_key) else { continue };
        let Some(user) = users::find(db, &user_id)? else { continue };
        if is {
            came.insert(user)
        } else {
            went.insert(user)
        };
    }
    Ok(())
}

fn is_join(db: &Reader<'_>, event: Option<EventNid>) -> Result<bool> {
    let Some(event) = event else { return Ok(false) };
    Ok(format::content_str(&events::by_nid(db, event)?, "membership")?.as_deref() == Some("join"))
}

/// How many one-time keys of each algorithm are left for the viewer's device.
pub(super) fn key_counts(db: &Reader<'_>, viewer: &Viewer) -> Result<BTreeMap<String, u64>> {
    let mut counts = one_time_keys::counts(db, viewer.user, &viewer.device)?;
    // Clients upload keys when they see a number; a missing one they may take for "unknown".
    counts.entry("signed_curve25519".to_owned()).or_insert(0);
    Ok(counts)
}
