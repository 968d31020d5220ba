//! What is told of one room.

use std::{collections::BTreeSet, sync::Arc};

use ruma::events::room::member::MembershipState;

use super::{
    Form,
    connections::{State, Told},
    required::Required,
    response::{Hero, Room},
    select::{Wanted, Within},
};
use crate::homeserver::{
    events::view::View,
    store::{
        Reader, Result, events as store_events, members, push,
        push::Counts,
        rooms as store_rooms,
        sync_rooms::{self, StateChange, StateEntry},
    },
    sync::{
        Raw, format, raw, rooms,
        timeline::{self, Slice},
        viewer::Viewer,
        visibility::History,
    },
    types::{RoomNid, StreamPos},
};

/// Members that a connection is known to have, for each room. Past this many the record starts anew and some are sent again.
const MEMBERS: usize = 1000;

/// What holds for all rooms of one answer.
#[derive(Debug)]
pub(super) struct Ctx<'a> {
    pub form: Form,
    pub viewer: &'a Viewer,
    pub base: Option<&'a State>,
    pub now: StreamPos,
    /// Rooms with events since the connection's last answer.
    pub changed: &'a BTreeSet<RoomNid>,
    /// Rooms in which the user's own receipts moved since then.
    pub read: &'a BTreeSet<RoomNid>,
    pub direct: &'a BTreeSet<String>,
    pub ignored: &'a BTreeSet<String>,
    pub within: &'a Within,
}

/// The news of a wanted room and the record of having told it; `None` when there is none.
pub(super) fn build(db: &Reader<'_>, ctx: &Ctx<'_>, wanted: &Wanted<'_>) -> Result<Option<(Room, Told)>> {
    let room = wanted.entry.room;
    let told = ctx.base.and_then(|base| base.rooms.get(&room)).map(Arc::as_ref);
    let is_dm = ctx.direct.contains(wanted.entry.room_id.as_str());
    if let Some(told) = told {
        let grown = wanted.timeline_limit > told.timeline_limit || !ctx.within.check(&wanted.required, &told.required);
        if told.is_still(&wanted.entry, is_dm) && !grown && !ctx.changed.contains(&room) && !ctx.read.contains(&room) {
            return Ok(None);
        }
    }
    let (mut out, members, counts) = match wanted.entry.membership {
        MembershipState::Join => joined(db, ctx, wanted, told)?,
        MembershipState::Invite | MembershipState::Knock => {
            let stripped = rooms::stripped_state(db, room, ctx.viewer.user, wanted.entry.member_event)?;
            let initial = told.is_none_or(|told| told.membership != wanted.entry.membership);
            (Room { invite_state: Some(stripped), initial, ..Room::default() }, Arc::default(), Counts::default())
        }
        _ => (left(db, ctx, wanted, told)?, Arc::default(), Counts::default()),
    };
    out.bump_stamp = wanted.entry.bump.0;
    out.membership = Some(wanted.entry.membership.clone());
    out.lists = wanted.lists.iter().map(|list| (*list).to_owned()).collect();
    out.notification_count = Some(counts.notify);
    out.highlight_count = Some(counts.highlight);
    if told.map_or(is_dm, |told| told.is_dm != is_dm) || (out.initial && is_dm) {
        out.is_dm = Some(is_dm);
    }
    let told = Told {
        pos: ctx.now,
        behind: false,
        membership: wanted.entry.membership.clone(),
        timeline_limit: wanted.timeline_limit,
        required: Arc::clone(&wanted.required),
        is_dm,
        members,
    };
    Ok(Some((out, told)))
}

type Members = Arc<BTreeSet<String>>;

/// What changed in a room's state since a connection was told of it.
struct Changes<'a> {
    entries: &'a [StateChange],
    /// The timeline that goes with them has a gap: a client cannot keep track of members then.
    limited: bool,
}

/// State events, and in `v4` stubs for what is gone.
fn state_events(ctx: &Ctx<'_>, view: &View<'_, '_>, entries: &[StateEntry]) -> Result<Vec<Raw>> {
    let mut found = rooms::state_events(view, entries)?;
    if ctx.form == Form::V4 {
        for gone in entries.iter().filter(|entry| entry.event.is_none()) {
            found.push(raw(&serde_json::json!({ "type": gone.kind, "state_key": gone.state_key }))?);
        }
    }
    Ok(found)
}

fn joined(db: &Reader<'_>, ctx: &Ctx<'_>, wanted: &Wanted<'_>, told: Option<&Told>) -> Result<(Room, Members, Counts)> {
    let room = wanted.entry.room;
    let known = told.filter(|told| told.membership == MembershipState::Join);
    let expanded = known.is_some_and(|known| wanted.timeline_limit > known.timeline_limit);
    let after = if expanded { StreamPos(0) } else { known.map_or(StreamPos(0), |known| known.pos) };
    let history = History::load(db, room, ctx.viewer, after)?;
    let request = timeline::Request { room, after, up_to: ctx.now, limit: wanted.timeline_limit, history: &history, ignored: ctx.ignored };
    let slice = Slice::read(db, &request, |_| true)?;
    let mut out = Room { initial: known.is_none(), unstable_expanded_timeline: expanded, ..Room::default() };
    let handle = store_rooms::by_nid(db, room)?;
    let view = View::new(db, &handle, &ctx.viewer.view).map_err(format::internal)?.for_sync();
    timeline_into(ctx, &view, &slice, &mut out)?;

    let people = people(&slice)?;
    let mut members = known.map_or_else(Members::default, |known| Arc::clone(&known.members));
    let entries = match known {
        None => initial_state(db, room, &wanted.required, &people, &mut members)?,
        Some(known) => {
            let changes: Vec<StateChange> = sync_rooms::state_changes(db, room, known.pos, ctx.now)?.into_values().collect();
            facts_changed(db, ctx, room, &changes, &mut out)?;
            changed_state(db, room, wanted, known, &Changes { entries: &changes, limited: out.limited }, &people, &mut members)?
        }
    };
    out.required_state = state_events(ctx, &view, &entries)?;
    if known.is_none() {
        facts(db, ctx, room, &mut out)?;
    }
    let counts = push::counts(db, ctx.viewer.user, room)?
        .values()
        .fold(Counts::default(), |sum, c| Counts { notify: sum.notify + c.notify, highlight: sum.highlight + c.highlight });
    Ok((out, members, counts))
}

fn timeline_into(ctx: &Ctx<'_>, view: &View<'_, '_>, slice: &Slice, out: &mut Room) -> Result<()> {
    out.timeline = slice.to_json(view)?;
    out.event_ids = slice.events.iter().map(|e| e.event_id.to_string()).collect();
    out.limited = slice.limited;
    if slice.limited || !slice.events.is_empty() {
        out.prev_batch = Some(slice.prev_batch());
        let live_from = ctx.base.map_or(ctx.now, |base| base.pos);
        out.num_live = Some(slice.events.iter().filter(|e| e.pos.is_some_and(|pos| pos > live_from)).count());
    }
    Ok(())
}

/// Users whom one has to know to show these events: senders, and those whose membership they are about.
fn people(slice: &Slice) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for event in &slice.events {
        found.insert(format::sender(event)?);
        if event.kind == "m.room.member"
            && let Some(key) = format::state_key(event)?
        {
            found.insert(key);
        }
    }
    Ok(found)
}

fn initial_state(
    db: &Reader<'_>,
    room: RoomNid,
    required: &Required,
    people: &BTreeSet<String>,
    members: &mut Members,
) -> Result<Vec<StateEntry>> {
    let mut entries = sync_rooms::current_state(db, room, required.wants_members())?;
    entries.retain(|e| required.matches(&e.kind, &e.state_key));
    let have: BTreeSet<String> = entries.iter().filter(|e| e.kind == "m.room.member").map(|e| e.state_key.clone()).collect();
    let mut more: BTreeSet<&str> = required.named_members().collect();
    if required.lazy() {
        more.extend(people.iter().map(String::as_str));
        *members = Arc::new(people.clone());
    }
    add_members(db, room, more.into_iter().filter(|user| !have.contains(*user)), &mut entries)?;
    Ok(entries)
}

fn add_members<'a>(db: &Reader<'_>, room: RoomNid, users: impl Iterator<Item = &'a str>, entries: &mut Vec<StateEntry>) -> Result<()> {
    for user in users {
        if let Ok(user) = <&ruma::UserId>::try_from(user) {
            entries.extend(sync_rooms::member_entry(db, room, user)?);
        }
    }
    Ok(())
}

fn changed_state(
    db: &Reader<'_>,
    room: RoomNid,
    wanted: &Wanted<'_>,
    known: &Told,
    changes: &Changes<'_>,
    people: &BTreeSet<String>,
    members: &mut Members,
) -> Result<Vec<StateEntry>> {
    let required = &wanted.required;
    // Without a gap a client that loads members lazily can keep its list of them up to date.
    let lazily = |user: &String| required.lazy() && (!changes.limited || known.members.contains(user) || people.contains(user));
    let wants = |e: &StateEntry| required.matches(&e.kind, &e.state_key) || (e.kind == "m.room.member" && lazily(&e.state_key));
    let mut entries: Vec<StateEntry> = changes.entries.iter().map(|c| &c.entry).filter(|e| wants(e)).cloned().collect();
    let mut have: BTreeSet<(String, String)> = entries.iter().map(|e| (e.kind.clone(), e.state_key.clone())).collect();
    if !required.is_within(&known.required) {
        let mut more = sync_rooms::current_state(db, room, required.wants_members())?;
        add_members(db, room, required.named_members(), &mut more)?;
        for entry in more {
            let new = required.matches(&entry.kind, &entry.state_key) && !known.required.matches(&entry.kind, &entry.state_key);
            if new && have.insert((entry.kind.clone(), entry.state_key.clone())) {
                entries.push(entry);
            }
        }
    }
    if required.lazy() {
        let missing: Vec<&str> = people
            .iter()
            .filter(|user| !known.members.contains(*user) && !have.contains(&("m.room.member".to_owned(), (*user).clone())))
            .map(String::as_str)
            .collect();
        add_members(db, room, missing.into_iter(), &mut entries)?;
        if !people.is_subset(members) {
            let told = if members.len() > MEMBERS { BTreeSet::new() } else { members.as_ref().clone() };
            *members = Arc::new(told.into_iter().chain(people.iter().cloned()).collect());
        }
    }
    Ok(entries)
}

/// Name, picture and people of a room that is told of for the first time.
fn facts(db: &Reader<'_>, ctx: &Ctx<'_>, room: RoomNid, out: &mut Room) -> Result<()> {
    out.name = rooms::state_str(db, room, "m.room.name", "name")?;
    out.avatar = rooms::state_str(db, room, "m.room.avatar", "url")?.map(Some);
    people_facts(db, ctx, room, out)
}

/// The same, as far as these changes concern it.
fn facts_changed(db: &Reader<'_>, ctx: &Ctx<'_>, room: RoomNid, changes: &[StateChange], out: &mut Room) -> Result<()> {
    let touches = |kind: &str| changes.iter().any(|c| c.entry.kind == kind);
    let (name, members) = (touches("m.room.name"), touches("m.room.member"));
    if name || members {
        out.name = rooms::state_str(db, room, "m.room.name", "name")?;
        out.name_gone = name && out.name.is_none();
        people_facts(db, ctx, room, out)?;
    }
    if touches("m.room.avatar") {
        out.avatar = Some(rooms::state_str(db, room, "m.room.avatar", "url")?);
    }
    Ok(())
}

fn people_facts(db: &Reader<'_>, ctx: &Ctx<'_>, room: RoomNid, out: &mut Room) -> Result<()> {
    out.joined_count = Some(members::count(db, room, "join")?);
    out.invited_count = Some(members::count(db, room, "invite")?);
    if out.name.is_none() {
        let heroes = sync_rooms::heroes(db, room, ctx.viewer.user)?;
        out.heroes = Some(
            heroes
                .into_iter()
                .map(|hero| Hero { user_id: hero.user_id, displayname: hero.displayname, avatar_url: hero.avatar_url })
                .collect(),
        );
    }
    Ok(())
}

/// A room that the user is not in any more: what happened until then, and how it ended.
fn left(db: &Reader<'_>, ctx: &Ctx<'_>, wanted: &Wanted<'_>, told: Option<&Told>) -> Result<Room> {
    let room = wanted.entry.room;
    let outside = |told: &&Told| matches!(told.membership, MembershipState::Invite | MembershipState::Knock);
    if ctx.form == Form::V4 && told.as_ref().is_some_and(outside) {
        // Turned down: whoever was never in the room is told what an outsider may know.
        let stripped = rooms::stripped_state(db, room, ctx.viewer.user, wanted.entry.member_event)?;
        return Ok(Room { invite_state: Some(stripped), ..Room::default() });
    }
    let handle = store_rooms::by_nid(db, room)?;
    let view = View::new(db, &handle, &ctx.viewer.view).map_err(format::internal)?.for_sync();
    let mut out = Room { initial: told.is_none(), ..Room::default() };
    let mut entries = Vec::new();
    if let Some(known) = told.filter(|told| told.membership == MembershipState::Join) {
        let history = History::load(db, room, ctx.viewer, known.pos)?;
        let request = timeline::Request {
            room,
            after: known.pos,
            up_to: ctx.now,
            limit: wanted.timeline_limit,
            history: &history,
            ignored: ctx.ignored,
        };
        timeline_into(ctx, &view, &Slice::read(db, &request, |_| true)?, &mut out)?;
        if let Some(left_at) = history.left_after(known.pos) {
            entries.extend(sync_rooms::state_changes(db, room, known.pos, left_at)?.into_values().map(|c| c.entry));
            entries.retain(|e| wanted.required.matches(&e.kind, &e.state_key) && e.state_key != ctx.viewer.user_id.as_str());
        }
    }
    if told.is_none() && wanted.entry.thrown_out {
        entries = as_it_was(db, ctx, &view, wanted, &mut out)?;
    }
    out.required_state = state_events(ctx, &view, &entries)?;
    out.required_state.push(view.state(wanted.entry.member_event).map_err(format::internal)?);
    Ok(out)
}

/// What a room was like when the user was thrown out of it, for a connection that does not know it.
fn as_it_was(db: &Reader<'_>, ctx: &Ctx<'_>, view: &View<'_, '_>, wanted: &Wanted<'_>, out: &mut Room) -> Result<Vec<StateEntry>> {
    let (room, end) = (wanted.entry.room, wanted.entry.active);
    let history = History::load(db, room, ctx.viewer, StreamPos(0))?;
    let limit = wanted.timeline_limit;
    let request = timeline::Request { room, after: StreamPos(0), up_to: end, limit, history: &history, ignored: ctx.ignored };
    let slice = Slice::read(db, &request, |_| true)?;
    timeline_into(ctx, view, &slice, out)?;
    let shown = if wanted.required.lazy() { people(&slice)? } else { BTreeSet::new() };
    let mut entries = rooms::state_at(db, room, end, ctx.now)?;
    if let Some(event) = entries.iter().find(|e| e.kind == "m.room.name" && e.state_key.is_empty()).and_then(|e| e.event) {
        out.name = format::content_str(&store_events::by_nid(db, event)?, "name")?.filter(|name| !name.is_empty());
    }
    let wants =
        |e: &StateEntry| wanted.required.matches(&e.kind, &e.state_key) || (e.kind == "m.room.member" && shown.contains(&e.state_key));
    entries.retain(|e| wants(e) && e.state_key != ctx.viewer.user_id.as_str());
    Ok(entries)
}
