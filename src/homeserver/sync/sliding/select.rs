//! Which rooms an answer is about.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use ruma::{api::client::sync::sync_events::v5::request, directory::RoomTypeFilter, events::room::member::MembershipState};

use super::{
    connections::{Entry, State},
    required::Required,
};
use crate::homeserver::{
    store::{
        Reader, Result, events, members, state,
        sync_rooms::{self, Membership, MembershipChange},
    },
    sync::{format, rooms, viewer::Viewer},
    types::{RoomNid, StreamPos},
};

/// Rooms that were left and are told of when a connection begins, at most.
const LEFT_ROOMS: usize = 200;
/// Events of one room in one answer, at most.
const LONGEST_TIMELINE: usize = 500;

/// The user's rooms, brought up to date.
#[derive(Debug)]
pub(super) struct Index {
    pub entries: Arc<HashMap<RoomNid, Arc<Entry>>>,
    /// Rooms with events since the connection's last answer.
    pub changed: BTreeSet<RoomNid>,
    /// The user's own changes since then.
    pub own_changes: HashMap<RoomNid, Vec<MembershipChange>>,
}

impl Index {
    /// Reads what changed since `base`, or everything.
    pub fn load(db: &Reader<'_>, viewer: &Viewer, base: Option<&State>, now: StreamPos, ignored: &BTreeSet<String>) -> Result<Self> {
        let Some(base) = base else {
            let mut entries = HashMap::new();
            for membership in sync_rooms::memberships(db, viewer.user)?.into_values() {
                put(db, viewer, &mut entries, membership, None, ignored)?;
            }
            return Ok(Self { entries: Arc::new(entries), changed: BTreeSet::new(), own_changes: HashMap::new() });
        };
        let own_changes = sync_rooms::membership_changes(db, viewer.user, base.pos)?;
        let mut entries = Arc::clone(&base.entries);
        let mut changed = sync_rooms::rooms_with_events(db, viewer.user, base.pos, now)?;
        changed.extend(own_changes.keys());
        for room in &changed {
            let entries = Arc::make_mut(&mut entries);
            match sync_rooms::membership(db, viewer.user, *room)? {
                Some(membership) => {
                    let old = entries.get(room).cloned();
                    put(db, viewer, entries, membership, old.as_deref(), ignored)?;
                }
                None => drop(entries.remove(room)),
            }
        }
        Ok(Self { entries, changed, own_changes })
    }
}

/// True for a room that the user was in until somebody else ended that.
fn thrown_out(db: &Reader<'_>, viewer: &Viewer, m: &Membership) -> Result<bool> {
    if !matches!(m.membership, MembershipState::Leave | MembershipState::Ban) {
        return Ok(false);
    }
    let by_others = format::sender(&events::by_nid(db, m.event)?)? != viewer.user_id.as_str();
    Ok(by_others && members::changes(db, m.room, viewer.user)?.iter().any(|change| change.membership == "join"))
}

fn put(
    db: &Reader<'_>,
    viewer: &Viewer,
    entries: &mut HashMap<RoomNid, Arc<Entry>>,
    m: Membership,
    old: Option<&Entry>,
    ignored: &BTreeSet<String>,
) -> Result<()> {
    if m.membership == MembershipState::Invite && rooms::invited_by_ignored(db, m.event, ignored)? {
        entries.remove(&m.room);
        return Ok(());
    }
    let joined = m.membership == MembershipState::Join;
    let active = if joined { events::newest_pos(db, m.room)?.unwrap_or(m.pos) } else { m.pos };
    let bump = if joined { sync_rooms::bump_stamp(db, m.room)?.unwrap_or(m.pos) } else { m.pos };
    let thrown_out = !m.forgotten && thrown_out(db, viewer, &m)?;
    let encrypted = match old {
        Some(old) if old.encrypted => true,
        _ => state::current(db, m.room, "m.room.encryption", "")?.is_some(),
    };
    let room_type = match old {
        Some(old) if old.room_type.is_some() => old.room_type.clone(),
        _ => match state::current(db, m.room, "m.room.create", "")? {
            Some(create) => format::content_str(&events::by_nid(db, create)?, "type")?,
            None => None,
        },
    };
    let entry = Entry {
        room: m.room,
        room_id: m.room_id,
        membership: m.membership,
        member_event: m.event,
        active,
        bump,
        thrown_out,
        encrypted,
        room_type,
        forgotten: m.forgotten,
    };
    entries.insert(m.room, Arc::new(entry));
    Ok(())
}

/// A room that the request asks for, and how.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub entry: Arc<Entry>,
    pub timeline_limit: usize,
    /// Shared by the rooms of a list, so that hundreds of rooms cost one.
    pub required: Arc<Required>,
    /// Lists that the room is in the window of.
    pub lists: Vec<&'a str>,
    /// The room is subscribed to by name.
    pub subscribed: bool,
}

/// The rooms asked for, and how long each list is.
#[derive(Debug, Default)]
pub(super) struct Selection<'a> {
    pub rooms: BTreeMap<RoomNid, Wanted<'a>>,
    pub lists: BTreeMap<String, usize>,
}

/// What [`select`] looks at.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub viewer: &'a Viewer,
    pub lists: &'a BTreeMap<String, request::List>,
    pub subscriptions: &'a BTreeMap<ruma::OwnedRoomId, request::RoomSubscription>,
    pub direct: &'a BTreeSet<String>,
    pub base: Option<&'a State>,
}

/// Works out the rooms.
pub(super) fn select<'a>(index: &Index, asked: &Asked<'a>) -> Selection<'a> {
    let mut selection = Selection::default();
    let me = &asked.viewer.user_id;
    let mut current: Vec<&Arc<Entry>> = index.entries.values().filter(|e| is_current(e)).collect();
    current.sort_by(|a, b| b.active.cmp(&a.active).then(b.room.cmp(&a.room)));
    for (name, list) in asked.lists {
        let matching: Vec<&Arc<Entry>> =
            current.iter().copied().filter(|e| list.filters.as_ref().is_none_or(|f| passes(f, e, asked.direct))).collect();
        selection.lists.insert(name.clone(), matching.len());
        let required = Arc::new(Required::new(&list.room_details.required_state, me));
        let limit = bounded(list.room_details.timeline_limit);
        for (from, to) in &list.ranges {
            let (from, to) = (index_of(*from), index_of(*to));
            for entry in matching.iter().skip(from).take(to.saturating_add(1).saturating_sub(from)) {
                want(&mut selection.rooms, entry, limit, &required).lists.push(name);
            }
        }
    }
    for (room_id, subscription) in asked.subscriptions {
        let Some(entry) = current.iter().find(|e| e.room_id == *room_id) else { continue };
        let required = Arc::new(Required::new(&subscription.required_state, me));
        want(&mut selection.rooms, entry, bounded(subscription.timeline_limit), &required).subscribed = true;
    }
    left_rooms(index, asked, &mut selection);
    selection
}

/// Rooms that a client may still think it is in.
fn left_rooms(index: &Index, asked: &Asked<'_>, selection: &mut Selection<'_>) {
    let required = Arc::new(Required::own_membership(&asked.viewer.user_id));
    let left = index.entries.values().filter(|e| is_over(e));
    match asked.base {
        // Those that this connection was told of as something else.
        Some(base) => {
            for entry in left {
                if let Some(told) = base.rooms.get(&entry.room)
                    && told.membership != entry.membership
                {
                    want(&mut selection.rooms, entry, told.timeline_limit, &told.required);
                    want(&mut selection.rooms, entry, 0, &required);
                }
            }
        }
        // A new connection of a client that may have been here before.
        None if !asked.lists.is_empty() => {
            let mut left: Vec<_> = left.filter(|e| !e.forgotten && !e.thrown_out).collect();
            left.sort_by_key(|e| std::cmp::Reverse(e.active));
            for entry in left.into_iter().take(LEFT_ROOMS) {
                want(&mut selection.rooms, entry, 0, &required);
            }
        }
        None => {}
    }
}

fn want<'w, 'a>(
    rooms: &'w mut BTreeMap<RoomNid, Wanted<'a>>,
    entry: &Arc<Entry>,
    limit: usize,
    required: &Arc<Required>,
) -> &'w mut Wanted<'a> {
    let wanted = rooms.entry(entry.room).or_insert_with(|| Wanted {
        entry: Arc::clone(entry),
        timeline_limit: 0,
        required: Arc::clone(required),
        lists: Vec::new(),
        subscribed: false,
    });
    wanted.timeline_limit = wanted.timeline_limit.max(limit);
    if !Arc::ptr_eq(&wanted.required, required) {
        Arc::make_mut(&mut wanted.required).add(required);
    }
    wanted
}

/// In the server's list of the user's rooms.
fn is_current(entry: &Entry) -> bool {
    entry.thrown_out || !is_over(entry)
}

fn is_over(entry: &Entry) -> bool {
    !matches!(entry.membership, MembershipState::Join | MembershipState::Invite | MembershipState::Knock)
}

fn index_of(number: ruma::UInt) -> usize {
    usize::try_from(u64::from(number)).unwrap_or(usize::MAX)
}

fn bounded(limit: ruma::UInt) -> usize {
    index_of(limit).min(LONGEST_TIMELINE)
}

fn passes(filters: &request::ListFilters, entry: &Entry, direct: &BTreeSet<String>) -> bool {
    let is = |wanted: Option<bool>, fact: bool| wanted.is_none_or(|wanted| wanted == fact);
    let of_type = |types: &[RoomTypeFilter]| {
        types.iter().any(|t| match t {
            RoomTypeFilter::Default => entry.room_type.is_none(),
            other => entry.room_type.as_deref() == other.as_str(),
        })
    };
    is(filters.is_dm, direct.contains(entry.room_id.as_str()))
        && is(filters.is_encrypted, entry.encrypted)
        && is(filters.is_invite, entry.membership == MembershipState::Invite)
        && (filters.room_types.is_empty() || of_type(&filters.room_types))
        && !of_type(&filters.not_room_types)
}
