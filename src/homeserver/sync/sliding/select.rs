//! Which rooms an answer is about.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use ruma::{RoomId, events::room::member::MembershipState};

use super::{
    Form,
    connections::{Entry, State},
    request::{Details, Filters, List},
    required::Required,
};
use crate::homeserver::{
    store::{
        Reader, Result, account_data, events, members, rooms as store_rooms, state,
        sync_rooms::{self, Membership, MembershipChange},
    },
    sync::{format, rooms, viewer::Viewer},
    types::{RoomNid, StreamPos},
};

/// Rooms that were left and are told of when a connection begins, at most.
const LEFT_ROOMS: usize = 200;

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
        // A connection from before a restart has no entries yet.
        let mut entries = match &base.entries {
            Some(entries) => Arc::clone(entries),
            None => Self::load(db, viewer, None, now, ignored)?.entries,
        };
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
    pub form: Form,
    pub viewer: &'a Viewer,
    pub lists: &'a BTreeMap<String, List>,
    pub subscriptions: &'a BTreeMap<ruma::OwnedRoomId, Details>,
    pub direct: &'a BTreeSet<String>,
    pub base: Option<&'a State>,
}

/// What filters look at beside the list of rooms, read as far as a filter asks for it.
#[derive(Debug, Default)]
struct Facts {
    tags: BTreeMap<RoomNid, BTreeSet<String>>,
    spaces: BTreeMap<String, BTreeSet<String>>,
}

impl Facts {
    fn load(db: &Reader<'_>, index: &Index, asked: &Asked<'_>) -> Result<Self> {
        let mut facts = Self::default();
        let filters = || asked.lists.values().map(|list| &list.filters);
        if filters().any(|f| f.tags.is_some() || !f.not_tags.is_empty()) {
            for data in account_data::of_kind(db, asked.viewer.user, "m.tag")? {
                let tags = serde_json::from_str::<serde_json::Value>(&data.content).unwrap_or_default();
                let names = tags.get("tags").and_then(serde_json::Value::as_object).map(|tags| tags.keys().cloned().collect());
                facts.tags.extend(data.room.zip(names));
            }
        }
        for space in filters().filter_map(|f| f.spaces.as_ref()).flatten() {
            if !facts.spaces.contains_key(space) {
                facts.spaces.insert(space.clone(), children(db, index, space)?);
            }
        }
        Ok(facts)
    }
}

/// The rooms of a space that the user is in. Of others nothing is said.
fn children(db: &Reader<'_>, index: &Index, space: &str) -> Result<BTreeSet<String>> {
    let Some(room) = <&RoomId>::try_from(space).ok().map(|id| store_rooms::by_id(db, id)).transpose()?.flatten() else {
        return Ok(BTreeSet::new());
    };
    if index.entries.get(&room.nid).is_none_or(|entry| entry.membership != MembershipState::Join) {
        return Ok(BTreeSet::new());
    }
    let mut found = BTreeSet::new();
    for child in sync_rooms::current_state(db, room.nid, false)?.into_iter().filter(|e| e.kind == "m.space.child") {
        if let Some(event) = child.event
            && format::content_has_array(&events::by_nid(db, event)?, "via")?
        {
            found.insert(child.state_key);
        }
    }
    Ok(found)
}

/// Works out the rooms.
pub(super) fn select<'a>(db: &Reader<'_>, index: &Index, asked: &Asked<'a>) -> Result<Selection<'a>> {
    let mut selection = Selection::default();
    let facts = Facts::load(db, index, asked)?;
    let mut current: Vec<&Arc<Entry>> = index.entries.values().filter(|e| is_current(e)).collect();
    current.sort_by(|a, b| b.active.cmp(&a.active).then(b.room.cmp(&a.room)));
    for (name, list) in asked.lists {
        let matching: Vec<&Arc<Entry>> = current.iter().copied().filter(|e| passes(&list.filters, e, asked.direct, &facts)).collect();
        selection.lists.insert(name.clone(), matching.len());
        let all = [(0, usize::MAX)];
        for (from, to) in list.ranges.as_deref().unwrap_or(&all) {
            for entry in matching.iter().skip(*from).take(to.saturating_add(1).saturating_sub(*from)) {
                let lists = &mut want(&mut selection.rooms, entry, &list.details).lists;
                // Ranges may overlap.
                if lists.last() != Some(&name.as_str()) {
                    lists.push(name);
                }
            }
        }
    }
    for (room_id, details) in asked.subscriptions {
        let Some(entry) = current.iter().find(|e| e.room_id == *room_id) else { continue };
        want(&mut selection.rooms, entry, details).subscribed = true;
    }
    left_rooms(index, asked, &mut selection);
    Ok(selection)
}

/// Rooms that a client may still think it is in.
fn left_rooms(index: &Index, asked: &Asked<'_>, selection: &mut Selection<'_>) {
    let own = Details { timeline_limit: 0, required: Arc::new(Required::own_membership(&asked.viewer.user_id)) };
    let left = index.entries.values().filter(|e| is_over(e));
    match asked.base {
        // Those that this connection was told of as something else.
        Some(base) => {
            for entry in left {
                if let Some(told) = base.rooms.get(&entry.room)
                    && told.membership != entry.membership
                {
                    let as_told = Details { timeline_limit: told.timeline_limit, required: Arc::clone(&told.required) };
                    want(&mut selection.rooms, entry, &as_told);
                    want(&mut selection.rooms, entry, &own);
                }
            }
        }
        // A new connection of a client that may have been here before. `v4` leaves them out.
        None if !asked.lists.is_empty() && asked.form == Form::Unstable => {
            let mut left: Vec<_> = left.filter(|e| !e.forgotten && !e.thrown_out).collect();
            left.sort_by_key(|e| std::cmp::Reverse(e.active));
            for entry in left.into_iter().take(LEFT_ROOMS) {
                want(&mut selection.rooms, entry, &own);
            }
        }
        None => {}
    }
}

fn want<'w, 'a>(rooms: &'w mut BTreeMap<RoomNid, Wanted<'a>>, entry: &Arc<Entry>, details: &Details) -> &'w mut Wanted<'a> {
    let wanted = rooms.entry(entry.room).or_insert_with(|| Wanted {
        entry: Arc::clone(entry),
        timeline_limit: 0,
        required: Arc::clone(&details.required),
        lists: Vec::new(),
        subscribed: false,
    });
    wanted.timeline_limit = wanted.timeline_limit.max(details.timeline_limit);
    if !Arc::ptr_eq(&wanted.required, &details.required) {
        Arc::make_mut(&mut wanted.required).add(&details.required);
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

fn passes(filters: &Filters, entry: &Entry, direct: &BTreeSet<String>, facts: &Facts) -> bool {
    let is = |wanted: Option<bool>, fact: bool| wanted.is_none_or(|wanted| wanted == fact);
    let tagged = |tags: &[String]| facts.tags.get(&entry.room).is_some_and(|known| tags.iter().any(|tag| known.contains(tag)));
    let within =
        |spaces: &[String]| spaces.iter().any(|space| facts.spaces.get(space).is_some_and(|rooms| rooms.contains(entry.room_id.as_str())));
    is(filters.is_dm, direct.contains(entry.room_id.as_str()))
        && is(filters.is_encrypted, entry.encrypted)
        && is(filters.is_invited, entry.membership == MembershipState::Invite)
        && filters.room_types.as_ref().is_none_or(|types| types.contains(&entry.room_type))
        && !filters.not_room_types.contains(&entry.room_type)
        && filters.spaces.as_deref().is_none_or(within)
        && filters.tags.as_deref().is_none_or(tagged)
        && !tagged(&filters.not_tags)
}
