//! What is told of one room that the user is in, or was.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ruma::{
    OwnedUserId,
    api::client::filter::{EventFormat, FilterDefinition},
    events::room::member::MembershipState,
};

use super::{
    StateForm, filter,
    response::{Events, Room, Summary, Timeline, Unread},
};
use crate::homeserver::{
    events::view::View,
    push::MAIN,
    store::{
        Reader, Result, account_data, events, members, push, receipts, rooms as store_rooms,
        sync_rooms::{self, Membership, MembershipChange, StateEntry},
    },
    sync::{
        Raw, SyncToken, ephemeral, format,
        live::Moment,
        rooms,
        timeline::{self, Slice},
        viewer::Viewer,
        visibility::History,
    },
    types::{RoomHandle, RoomNid, StreamPos, Token},
};

/// What holds for all rooms of one answer.
#[derive(Debug)]
pub(super) struct Ctx<'a> {
    pub viewer: &'a Viewer,
    pub filter: &'a FilterDefinition,
    pub form: StateForm,
    /// `None` for a first sync.
    pub since: Option<SyncToken>,
    pub full_state: bool,
    pub now: StreamPos,
    pub moment: &'a Moment,
    pub ignored: &'a BTreeSet<String>,
    pub own_changes: &'a HashMap<RoomNid, Vec<MembershipChange>>,
    /// Rooms in which the user's own receipts moved.
    pub read: &'a BTreeSet<RoomNid>,
    /// Account data of rooms that was set since then.
    pub account_data: &'a BTreeMap<RoomNid, Vec<account_data::AccountData>>,
}

impl Ctx<'_> {
    fn since_pos(&self) -> Option<StreamPos> {
        self.since.map(|since| since.pos)
    }

    fn view<'a, 'db>(&'a self, db: &'a Reader<'db>, room: &'a RoomHandle) -> Result<View<'a, 'db>> {
        let view = View::new(db, room, &self.viewer.view).map_err(format::internal)?;
        Ok(view.for_sync().federated(self.filter.event_format == EventFormat::Federation))
    }
}

/// News of a room that the user is in; `None` when there is none.
pub(super) fn joined(db: &Reader<'_>, ctx: &Ctx<'_>, member: &Membership) -> Result<Option<Room>> {
    let room = member.room;
    // Where the client knows the room up to: nowhere on a first sync, and nowhere for a room joined since then.
    let known = match ctx.since_pos() {
        Some(since) if !ctx.own_changes.contains_key(&room) || was_joined(db, ctx, room, since)? => Some(since),
        _ => None,
    };
    let full = known.is_none() || ctx.full_state;
    let after = known.unwrap_or(StreamPos(0));
    let history = History::load(db, room, ctx.viewer, after)?;
    let slice = read_timeline(db, ctx, member, &history, after, ctx.now)?;
    let handle = store_rooms::by_nid(db, room)?;
    let view = ctx.view(db, &handle)?;
    let summary = if full || touches_members(db, room, known, ctx.now)? { Some(summary(db, ctx, room)?) } else { None };
    let heroes = summary.iter().flat_map(|summary| summary.heroes.iter().flatten());
    let state = state_of(db, ctx, member, &slice, heroes, if full { None } else { known }, ctx.now)?;
    let mut out = Room { timeline: to_timeline(ctx, &view, &slice)?, ..Room::default() };
    let state_events = write_state(ctx, &view, &state, &mut out)?;
    out.account_data.events = room_account_data(db, ctx, member, full)?;
    out.ephemeral.events = room_ephemeral(db, ctx, member, known)?;
    let news = full
        || !slice.events.is_empty()
        || slice.limited
        || state_events > 0
        || !out.account_data.is_empty()
        || !out.ephemeral.is_empty()
        || ctx.read.contains(&room);
    if !news {
        return Ok(None);
    }
    out.summary = summary;
    unread(db, ctx, room, &mut out)?;
    Ok(Some(out))
}

fn was_joined(db: &Reader<'_>, ctx: &Ctx<'_>, room: RoomNid, at: StreamPos) -> Result<bool> {
    let changes = members::changes(db, room, ctx.viewer.user)?;
    Ok(changes.iter().rev().find(|c| c.pos <= at).is_some_and(|c| c.membership == "join"))
}

fn read_timeline(
    db: &Reader<'_>,
    ctx: &Ctx<'_>,
    member: &Membership,
    history: &History,
    after: StreamPos,
    up_to: StreamPos,
) -> Result<Slice> {
    let wanted = &ctx.filter.room.timeline;
    if !filter::part(wanted, &member.room_id) {
        return Ok(Slice { events: Vec::new(), limited: false, start: up_to });
    }
    let request = timeline::Request { room: member.room, after, up_to, limit: filter::limit(wanted), history, ignored: ctx.ignored };
    Slice::read(db, &request, |event| filter::event(wanted, event).unwrap_or(false))
}

fn to_timeline(ctx: &Ctx<'_>, view: &View<'_, '_>, slice: &Slice) -> Result<Timeline> {
    let mut events = slice.to_json(view)?;
    filter::fields(ctx.filter, &mut events)?;
    Ok(Timeline { events, limited: slice.limited, prev_batch: Some(slice.prev_batch()) })
}

/// The state that goes with a stretch of the timeline: all of it, or what changed since `known`. Members that load lazily are there as
/// far as the timeline or the summary, with its `heroes`, cannot be shown without them.
fn state_of<'a>(
    db: &Reader<'_>,
    ctx: &Ctx<'_>,
    member: &Membership,
    slice: &Slice,
    heroes: impl Iterator<Item = &'a OwnedUserId>,
    known: Option<StreamPos>,
    end: StreamPos,
) -> Result<Vec<StateEntry>> {
    if !filter::part(&ctx.filter.room.state, &member.room_id) {
        return Ok(Vec::new());
    }
    let room = member.room;
    let lazy = filter::lazy(ctx.filter);
    let at = if ctx.form == StateForm::Before { slice.start.min(end) } else { end };
    let mut people: BTreeSet<String> = BTreeSet::new();
    if lazy {
        for event in &slice.events {
            people.insert(format::sender(event)?);
        }
        people.extend(heroes.map(ToString::to_string));
    }
    let mut entries = match known {
        None => {
            people.insert(ctx.viewer.user_id.to_string());
            rooms::state_at(db, room, at, ctx.now)?
        }
        Some(known) => sync_rooms::state_changes(db, room, known, at)?.into_values().map(|change| change.entry).collect(),
    };
    if lazy && known.is_none() {
        entries.retain(|e| e.kind != "m.room.member" || people.contains(&e.state_key));
    }
    if ctx.form == StateForm::Before {
        add_unseen(db, room, slice, at, end, &mut entries)?;
    }
    if lazy && known.is_some() {
        add_people(db, room, at, ctx.now, people, &mut entries)?;
    }
    let mut wanted = Vec::with_capacity(entries.len());
    for entry in entries {
        let Some(event) = entry.event else { continue };
        if filter::event(&ctx.filter.room.state, &events::by_nid(db, event)?)? {
            wanted.push(entry);
        }
    }
    Ok(wanted)
}

/// State that changed during the timeline without the client seeing the event there: a filter took it out, or it was resolved.
fn add_unseen(db: &Reader<'_>, room: RoomNid, slice: &Slice, from: StreamPos, end: StreamPos, entries: &mut Vec<StateEntry>) -> Result<()> {
    let shown: BTreeSet<_> = slice.events.iter().map(|event| event.nid).collect();
    let shown_keys: BTreeSet<_> = slice.events.iter().filter_map(|event| event.state_key).collect();
    for (key, change) in sync_rooms::state_changes(db, room, from, end)? {
        if change.entry.event.is_some_and(|event| !shown.contains(&event)) && !shown_keys.contains(&key) {
            entries.retain(|entry| entry.key != key);
            entries.push(change.entry);
        }
    }
    Ok(())
}

/// The membership of those whom the timeline shows.
fn add_people(
    db: &Reader<'_>,
    room: RoomNid,
    at: StreamPos,
    now: StreamPos,
    people: BTreeSet<String>,
    entries: &mut Vec<StateEntry>,
) -> Result<()> {
    let later = sync_rooms::state_changes(db, room, at, now)?;
    for user in people {
        let Ok(user) = ruma::OwnedUserId::try_from(user) else { continue };
        let Some(mut entry) = sync_rooms::member_entry(db, room, &user)? else { continue };
        if let Some(change) = later.get(&entry.key) {
            entry.event = change.before;
        }
        if !entries.iter().any(|known| known.key == entry.key) {
            entries.push(entry);
        }
    }
    Ok(())
}

/// Puts the state where the client expects it. Returns how much there is.
fn write_state(ctx: &Ctx<'_>, view: &View<'_, '_>, state: &[StateEntry], out: &mut Room) -> Result<usize> {
    let mut events = rooms::state_events(view, state)?;
    filter::fields(ctx.filter, &mut events)?;
    let count = events.len();
    let events = Some(Events { events });
    match ctx.form {
        StateForm::Before => out.state = events,
        StateForm::After => out.state_after = events,
        StateForm::UnstableAfter => out.unstable_state_after = events,
    }
    Ok(count)
}

fn touches_members(db: &Reader<'_>, room: RoomNid, known: Option<StreamPos>, now: StreamPos) -> Result<bool> {
    let Some(known) = known else { return Ok(true) };
    Ok(sync_rooms::state_changes(db, room, known, now)?
        .values()
        .any(|c| matches!(c.entry.kind.as_str(), "m.room.member" | "m.room.name" | "m.room.canonical_alias")))
}

fn summary(db: &Reader<'_>, ctx: &Ctx<'_>, room: RoomNid) -> Result<Summary> {
    let named = rooms::state_str(db, room, "m.room.name", "name")?.is_some()
        || rooms::state_str(db, room, "m.room.canonical_alias", "alias")?.is_some();
    let heroes = if named { None } else { Some(sync_rooms::heroes(db, room, ctx.viewer.user)?) };
    Ok(Summary {
        heroes: heroes.map(|heroes| heroes.into_iter().map(|hero| hero.user_id).collect()),
        joined: members::count(db, room, "join")?,
        invited: members::count(db, room, "invite")?,
    })
}

fn unread(db: &Reader<'_>, ctx: &Ctx<'_>, room: RoomNid, out: &mut Room) -> Result<()> {
    let counts = push::counts(db, ctx.viewer.user, room)?;
    let by_thread = ctx.filter.room.timeline.unread_thread_notifications;
    let mut sum = Unread::default();
    for (thread, count) in counts {
        let count = Unread { notification_count: count.notify, highlight_count: count.highlight };
        if by_thread && thread != MAIN {
            out.unread_thread_notifications.insert(thread, count);
        } else {
            sum.notification_count += count.notification_count;
            sum.highlight_count += count.highlight_count;
        }
    }
    out.unread_notifications = Some(sum);
    Ok(())
}

fn room_account_data(db: &Reader<'_>, ctx: &Ctx<'_>, member: &Membership, full: bool) -> Result<Vec<Raw>> {
    let wanted = &ctx.filter.room.account_data;
    if !filter::part(wanted, &member.room_id) {
        return Ok(Vec::new());
    }
    let found = if full {
        account_data::of_room(db, ctx.viewer.user, member.room)?
    } else {
        ctx.account_data.get(&member.room).cloned().unwrap_or_default()
    };
    found.iter().filter(|data| filter::kind(wanted, &data.kind)).map(ephemeral::account_data).collect()
}

fn room_ephemeral(db: &Reader<'_>, ctx: &Ctx<'_>, member: &Membership, known: Option<StreamPos>) -> Result<Vec<Raw>> {
    let wanted = &ctx.filter.room.ephemeral;
    let mut out = Vec::new();
    if !filter::part(wanted, &member.room_id) {
        return Ok(out);
    }
    if filter::kind(wanted, "m.receipt") {
        let found = receipts::since(db, member.room, ctx.viewer.user, known.unwrap_or(StreamPos(0)))?;
        out.extend(ephemeral::receipts(&found)?);
    }
    if filter::kind(wanted, "m.typing")
        && let Some((serial, users)) = ctx.moment.typing.get(&member.room)
    {
        let news = match (known, ctx.since) {
            (Some(_), Some(since)) => *serial > since.serial,
            _ => !users.is_empty(),
        };
        if news {
            out.push(ephemeral::typing(users)?);
        }
    }
    Ok(out)
}

/// A room that the user is not in any more: what happened until then, and how it ended.
pub(super) fn left(db: &Reader<'_>, ctx: &Ctx<'_>, member: &Membership) -> Result<Room> {
    let room = member.room;
    let handle = store_rooms::by_nid(db, room)?;
    let view = ctx.view(db, &handle)?;
    let since = ctx.since_pos();
    let changes = members::changes(db, room, ctx.viewer.user)?;
    let end = changes
        .iter()
        .rposition(|c| c.membership == "join")
        .and_then(|join| changes.get(join + 1))
        .map(|end| end.pos)
        .filter(|end| since.is_none_or(|since| *end > since));
    let mut out = Room::default();
    let mut shown = BTreeSet::new();
    // State after the timeline has the membership by which it ended; a ban can come later than the departure.
    let own = match ctx.form {
        StateForm::Before => None,
        StateForm::After | StateForm::UnstableAfter => sync_rooms::member_entry(db, room, &ctx.viewer.user_id)?,
    };
    match end {
        Some(end) => {
            let known = match since {
                Some(since) if was_joined(db, ctx, room, since)? => Some(since),
                _ => None,
            };
            let after = known.unwrap_or(StreamPos(0));
            let history = History::load(db, room, ctx.viewer, after)?;
            let slice = read_timeline(db, ctx, member, &history, after, end)?;
            shown = slice.events.iter().map(|event| event.nid).collect();
            let mut state = state_of(db, ctx, member, &slice, std::iter::empty(), known, end)?;
            if let Some(own) = own {
                state.retain(|entry| entry.key != own.key);
                state.push(own);
            }
            write_state(ctx, &view, &state, &mut out)?;
            out.timeline = to_timeline(ctx, &view, &slice)?;
        }
        // Never in it since then: there is nothing to see but the membership itself.
        None => drop(write_state(ctx, &view, own.as_slice(), &mut out)?),
    }
    if !shown.contains(&member.event) && filter::event(&ctx.filter.room.timeline, &events::by_nid(db, member.event)?)? {
        let mut own = [view.by_nid(member.event).map_err(format::internal)?];
        filter::fields(ctx.filter, &mut own)?;
        out.timeline.events.extend(own);
    }
    // Nothing before the membership can be paged to; clients expect a place all the same.
    out.timeline.prev_batch.get_or_insert_with(|| Token(member.pos).to_string());
    out.account_data.events = room_account_data(db, ctx, member, since.is_none())?;
    Ok(out)
}

/// True for those who have left or were thrown out.
pub(super) fn is_gone(membership: &MembershipState) -> bool {
    matches!(membership, MembershipState::Leave | MembershipState::Ban)
}
