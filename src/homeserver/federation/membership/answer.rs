//! What a server that joins is told of a room.

use std::collections::BTreeSet;

use super::{MembershipError, Result, accept::Joined};
use crate::homeserver::{
    events::EventError,
    store::{Reader, events, graph, state, sync_rooms, users},
    types::{EventNid, Pdu, RoomHandle},
};

/// Events of an auth chain that are sent at most.
const MAX_CHAIN: usize = 500_000;

/// The state before the join and what authorises it. Without members, those stay who give a room without a name its name.
pub(super) fn state(db: &Reader<'_>, room: &RoomHandle, join: &Pdu, omit_members: bool, told: &mut Joined) -> Result<()> {
    let event = events::by_id(db, join.event_id())?.ok_or_else(|| MembershipError::internal("a join vanished"))?;
    let group = event.state_before.ok_or_else(|| MembershipError::internal("a join has no place"))?;
    let mut named = None;
    let mut shown: BTreeSet<EventNid> = BTreeSet::new();
    let mut members = 0_usize;
    for (key, nid) in state::of_group(db, group)? {
        if omit_members {
            let (kind, _) = state::key(db, key)?;
            if kind == "m.room.member" {
                members += 1;
                continue;
            }
            if matches!(kind.as_str(), "m.room.name" | "m.room.canonical_alias") {
                named = Some(nid);
            }
        }
        shown.insert(nid);
    }
    if omit_members {
        let mut kept = BTreeSet::new();
        if named.is_none() {
            let user = users::find(db, join.sender())?.ok_or_else(|| MembershipError::internal("a user vanished"))?;
            for hero in sync_rooms::heroes(db, room.nid, user)? {
                kept.extend(sync_rooms::member_entry(db, room.nid, &hero.user_id)?.and_then(|entry| entry.event));
            }
        }
        told.members_omitted = members > kept.len();
        shown.extend(kept);
    }
    let mut chain = graph::auth_chain(db, shown.iter().copied(), MAX_CHAIN)?;
    let of_join = join.auth_events().iter().filter_map(|id| graph::find(db, id).transpose());
    for auth in of_join.collect::<Result<Vec<_>, _>>()? {
        chain.insert(auth.nid);
        chain.extend(graph::auth_chain(db, [auth.nid], MAX_CHAIN)?);
    }
    if omit_members {
        chain.retain(|nid| !shown.contains(nid));
    }
    told.state = texts(db, shown)?;
    told.auth_chain = texts(db, chain)?;
    Ok(())
}

fn texts(db: &Reader<'_>, nids: BTreeSet<EventNid>) -> Result<Vec<String>> {
    nids.into_iter().map(|nid| Ok(events::by_nid(db, nid).map_err(EventError::from)?.json)).collect()
}
