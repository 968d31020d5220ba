//! Which rooms an answer is about.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use ruma::{RoomId, events::room::member::MembershipState};

use super::{
    Form,
    connections::{Entry, State},
    request::{Details, Filters, List, Scope},
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
}

/// The rooms to look at for news, and how long each list is.
///
/// Of a list with hundreds of rooms, nearly all have nothing to tell. Those are not in `rooms`; [`Self::covers`] knows of them.
#[derive(Debug)]
pub(super) struct Selection<'a> {
    pub rooms: BTreeMap<RoomNid, Wanted<'a>>,
    pub lists: BTreeMap<String, usize>,
    asked: &'a Asked<'a>,
    facts: Facts,
    windows: Vec<Window<'a>>,
}

/// The part of a list that is asked for.
#[derive(Debug)]
struct Window<'a> {
    name: &'a str,
    list: &'a List,
    /// `None` for all of the list.
    part: Option<HashSet<RoomNid>>,
}

impl<'a> Window<'a> {
    /// Finds the rooms of the window, in no order, and the length of the list.
    fn open<'e>(
        name: &'a str,
        list: &'a List,
        asked: &Asked<'_>,
        facts: &Facts,
        current: &[&'e Arc<Entry>],
    ) -> (Self, Vec<&'e Arc<Entry>>, usize) {
        let mut matching: Vec<&Arc<Entry>> = current.iter().copied().filter(|e| passes(&list.filters, e, asked.direct, facts)).collect();
        let count = matching.len();
        let whole = |ranges: &[(usize, usize)]| ranges.iter().any(|(from, to)| *from == 0 && to.saturating_add(1) >= count);
        let ranges = match list.ranges.as_deref() {
            Some(ranges) if !whole(ranges) => ranges,
            _ => return (Self { name, list, part: None }, matching, count),
        };
        matching.sort_by(|a, b| b.active.cmp(&a.active).then(b.room.cmp(&a.room)));
        let places = ranges.iter().flat_map(|(from, to)| matching.iter().skip(*from).take(to.saturating_add(1).saturating_sub(*from)));
        let part: HashSet<RoomNid> = places.map(|entry| entry.room).collect();
        // Ranges may overlap.
        matching.retain(|entry| part.contains(&entry.room));
        (Self { name, list, part: Some(part) }, matching, count)
    }

    fn has(&self, entry: &Entry, asked: &Asked<'_>, facts: &Facts) -> bool {
        match &self.part {
            Some(part) => part.contains(&entry.room),
            None => is_current(entry) && passes(&self.list.filters, entry, asked.direct, facts),
        }
    }
}

impl<'a> Selection<'a> {
    /// The lists whose windows a room is in.
    fn lists_of<'s>(&'s self, entry: &'s Entry) -> impl Iterator<Item = &'s Window<'a>> {
        self.windows.iter().filter(move |window| window.has(entry, self.asked, &self.facts))
    }

    /// True for a room that an extension is asked for.
    pub fn covers(&self, scope: &Scope, entry: &Entry) -> bool {
        if scope.lists.is_none() && scope.rooms.is_none() {
            return true;
        }
        let by_list = match &scope.lists {
            None => self.lists_of(entry).next().is_some(),
            Some(lists) => self.lists_of(entry).any(|window| lists.iter().any(|list| list == "*" || list == window.name)),
        };
        let subscribed = || is_current(entry) && self.asked.subscriptions.contains_key(&entry.room_id);
        let named = || scope.rooms.as_ref().is_none_or(|rooms| rooms.iter().any(|id| id == "*" || *id == entry.room_id));
        by_list || (subscribed() && named())
    }

    /// Wants all that is asked for of a room.
    fn want(&mut self, entry: &Arc<Entry>) {
        let (asked, mut rooms) = (self.asked, std::mem::take(&mut self.rooms));
        for window in self.lists_of(entry) {
            want(&mut rooms, entry, &window.list.details).lists.push(window.name);
        }
        if let Some(details) = asked.subscriptions.get(&entry.room_id) {
            want(&mut rooms, entry, details);
        }
        self.rooms = rooms;
    }
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
    /// Rooms in which the user's own receipts moved since the connection's last answer.
    pub read: &'a BTreeSet<RoomNid>,
    pub within: &'a Within,
}

impl Asked<'_> {
    /// True for a room of which the connection knows all that these details ask for.
    fn is_quiet(&self, index: &Index, entry: &Entry, details: &Details) -> bool {
        let Some(told) = self.base.and_then(|base| base.rooms.get(&entry.room)) else { return false };
        told.is_still(entry, self.direct.contains(entry.room_id.as_str()))
            && details.timeline_limit <= told.timeline_limit
            && self.within.check(&details.required, &told.required)
            && !index.changed.contains(&entry.room)
            && !self.read.contains(&entry.room)
    }
}

/// Which sets of required state lie within which: rooms share them, so few pairs are ever compared.
#[derive(Debug, Default)]
pub(super) struct Within(RefCell<HashMap<(usize, usize), bool>>);

impl Within {
    /// True when `told` has all of `wanted`. Both outlive the answer.
    pub fn check(&self, wanted: &Arc<Required>, told: &Arc<Required>) -> bool {
        // The addresses are those of sets that outlive this answer.
        let pair = (Arc::as_ptr(wanted).addr(), Arc::as_ptr(told).addr());
        pair.0 == pair.1 || *self.0.borrow_mut().entry(pair).or_insert_with(|| wanted.is_within(told))
    }
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
pub(super) fn select<'a>(db: &Reader<'_>, index: &Index, asked: &'a Asked<'a>) -> Result<Selection<'a>> {
    let facts = Facts::load(db, index, asked)?;
    let mut selection = Selection { rooms: BTreeMap::new(), lists: BTreeMap::new(), asked, facts, windows: Vec::new() };
    let current: Vec<&Arc<Entry>> = index.entries.values().filter(|e| is_current(e)).collect();
    let mut loud: BTreeMap<RoomNid, &Arc<Entry>> = BTreeMap::new();
    for (name, list) in asked.lists {
        let (window, rooms, count) = Window::open(name, list, asked, &selection.facts, &current);
        loud.extend(rooms.into_iter().filter(|e| !asked.is_quiet(index, e, &list.details)).map(|e| (e.room, e)));
        selection.windows.push(window);
        selection.lists.insert(name.clone(), count);
    }
    if !asked.subscriptions.is_empty() {
        for entry in current {
            if asked.subscriptions.get(&entry.room_id).is_some_and(|details| !asked.is_quiet(index, entry, details)) {
                loud.insert(entry.room, entry);
            }
        }
    }
    for entry in loud.into_values() {
        selection.want(entry);
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
