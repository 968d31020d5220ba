//! What is told beside rooms: messages to the device, keys, account data, receipts, typing.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    connections::State,
    request::{self, Scope},
    response::{AccountData, ByRoom, E2ee, Extensions, Room, ToDevice},
    select::{Index, Selection},
};
use crate::homeserver::{
    push as rules,
    store::{Reader, Result, account_data, one_time_keys, receipts},
    sync::{devices, ephemeral, live::Moment, thread_changes, viewer::Viewer},
    types::{RoomNid, StreamPos},
};
use ruma::{OwnedRoomId, RoomId, events::room::member::MembershipState};
use serde_json::{Map, Value};

/// Messages to the device in one answer.
const TO_DEVICE: usize = 100;
/// Rooms with up to this many receipts are told all of them at first; others those for the events that are shown.
const FEW_RECEIPTS: usize = 100;
/// Changes of thread subscriptions in one answer.
const THREADS: usize = 100;

/// What holds for all extensions of one answer.
#[derive(Debug)]
pub(super) struct Ctx<'a> {
    pub viewer: &'a Viewer,
    pub asked: &'a request::Extensions,
    /// Messages to the device up to here have arrived.
    pub acknowledged: StreamPos,
    pub base: Option<&'a State>,
    pub now: StreamPos,
    pub index: &'a Index,
    pub selection: &'a Selection<'a>,
    pub moment: &'a Moment,
    /// News of rooms in this answer.
    pub rooms: &'a BTreeMap<OwnedRoomId, Room>,
}

/// Builds the extensions asked for and notes in `next` what was told. True when there is news in them.
pub(super) fn build(db: &Reader<'_>, ctx: &Ctx<'_>, next: &mut State) -> Result<(Extensions, bool)> {
    let mut out = Extensions::default();
    let mut news = false;
    if ctx.asked.to_device.is_on() {
        let part = to_device(db, ctx)?;
        news |= !part.events.is_empty();
        out.to_device = Some(part);
    }
    if ctx.asked.e2ee.is_on() {
        let part = e2ee(db, ctx)?;
        news |= !part.device_lists.is_empty();
        news |= part.device_one_time_keys_count != next.key_counts || part.device_unused_fallback_key_types != next.fallback_keys;
        next.key_counts.clone_from(&part.device_one_time_keys_count);
        next.fallback_keys.clone_from(&part.device_unused_fallback_key_types);
        out.e2ee = Some(part);
    }
    if ctx.asked.account_data.is_on() {
        let part = account(db, ctx, next.begun.insert("account_data"))?;
        news |= !part.global.is_empty() || !part.rooms.is_empty();
        out.account_data = Some(part);
    }
    if ctx.asked.receipts.is_on() {
        let part = read(db, ctx, next.begun.insert("receipts"))?;
        news |= !part.rooms.is_empty();
        out.receipts = Some(part).filter(|part| !part.rooms.is_empty());
    }
    if ctx.asked.typing.is_on() {
        let part = typing(ctx, next.begun.insert("typing"))?;
        news |= !part.rooms.is_empty();
        out.typing = Some(part).filter(|part| !part.rooms.is_empty());
    }
    if ctx.asked.thread_subscriptions.is_on() {
        out.thread_subscriptions = threads(db, ctx, next.begun.insert("thread_subscriptions"))?;
        news |= out.thread_subscriptions.is_some();
    }
    Ok((out, news))
}

/// Threads that the user began or ceased to follow; at first those that the user follows.
fn threads(db: &Reader<'_>, ctx: &Ctx<'_>, first: bool) -> Result<Option<Map<String, Value>>> {
    let after = ctx.base.filter(|_| !first).map_or(StreamPos(0), |base| base.pos);
    let limit = ctx.asked.thread_subscriptions.limit.map_or(THREADS, request::place).clamp(1, THREADS);
    let (mut told, more) = thread_changes(db, ctx.viewer.user, after, ctx.now, limit)?;
    if first {
        told.remove("unsubscribed");
    }
    told.extend(more.map(|from| ("prev_batch".to_owned(), from.into())));
    Ok(Some(told).filter(|told| !told.is_empty()))
}

fn to_device(db: &Reader<'_>, ctx: &Ctx<'_>) -> Result<ToDevice> {
    let limit = ctx.asked.to_device.limit.map(request::place);
    let limit = limit.map_or(TO_DEVICE, |limit| limit.clamp(1, TO_DEVICE));
    let (events, more) = ephemeral::to_device(db, ctx.viewer, ctx.acknowledged, ctx.now, limit)?;
    Ok(ToDevice { next_batch: more.unwrap_or(ctx.now).0.to_string(), events })
}

fn e2ee(db: &Reader<'_>, ctx: &Ctx<'_>) -> Result<E2ee> {
    let device_lists = match ctx.base {
        Some(base) => devices::since(
            db,
            &devices::Question {
                viewer: ctx.viewer,
                joined: &joined(ctx.index),
                own_changes: &ctx.index.own_changes,
                changed_rooms: &ctx.index.changed,
                after: base.pos,
                now: ctx.now,
            },
        )?,
        None => devices::DeviceLists::default(),
    };
    Ok(E2ee {
        device_lists,
        device_one_time_keys_count: devices::key_counts(db, ctx.viewer)?,
        device_unused_fallback_key_types: one_time_keys::unused_fallbacks(db, ctx.viewer.user, &ctx.viewer.device)?,
    })
}

/// Rooms with news that the user is in.
fn joined(index: &Index) -> BTreeSet<RoomNid> {
    let is_in = |room: &RoomNid| index.entries.get(room).is_some_and(|e| e.membership == MembershipState::Join);
    index.changed.iter().copied().filter(is_in).collect()
}

/// Rooms that the connection knows and that may have news, with whether they are new to it (or to this extension): those in
/// this answer and, once the extension has begun, those with changes, before that all.
fn told_rooms<'a>(
    ctx: &'a Ctx<'_>,
    scope: &Scope,
    first: bool,
    changed: impl Iterator<Item = RoomNid>,
) -> BTreeMap<RoomNid, (&'a RoomId, bool)> {
    let mut candidates: BTreeSet<RoomNid> = changed.collect();
    candidates.extend(ctx.selection.rooms.values().filter(|w| ctx.rooms.contains_key(&w.entry.room_id)).map(|w| w.entry.room));
    if first {
        candidates.extend(ctx.base.into_iter().flat_map(|base| base.rooms.keys()));
    }
    let mut found = BTreeMap::new();
    for room in candidates {
        let Some(entry) = ctx.index.entries.get(&room) else { continue };
        let answer = ctx.rooms.get(&entry.room_id);
        let known = ctx.base.is_some_and(|base| base.rooms.contains_key(&room));
        if (known || answer.is_some()) && ctx.selection.covers(scope, entry) {
            let new = first || !known || answer.is_some_and(|r| r.initial || r.unstable_expanded_timeline);
            found.insert(room, (&*entry.room_id, new));
        }
    }
    found
}

fn account(db: &Reader<'_>, ctx: &Ctx<'_>, first: bool) -> Result<AccountData> {
    let asked = &ctx.asked.account_data;
    let after = ctx.base.filter(|_| !first).map(|base| base.pos);
    let mut out = AccountData::default();
    // With nothing told yet, rooms are read one by one below: most of them are not asked for.
    let (global, changed): (Vec<_>, Vec<_>) = match after {
        Some(after) => account_data::since(db, ctx.viewer.user, after)?.into_iter().partition(|data| data.room.is_none()),
        None => (rules::global_account_data(db, ctx.viewer.user, &ctx.viewer.user_id)?, Vec::new()),
    };
    let rooms = told_rooms(ctx, asked, first, changed.iter().filter_map(|data| data.room));
    for data in &global {
        out.global.push(ephemeral::account_data(data)?);
    }
    for (room, (room_id, new)) in &rooms {
        let of_room = if *new {
            account_data::of_room(db, ctx.viewer.user, *room)?
        } else {
            changed.iter().filter(|data| data.room == Some(*room)).cloned().collect()
        };
        if !of_room.is_empty() {
            out.rooms.insert((*room_id).to_owned(), of_room.iter().map(ephemeral::account_data).collect::<Result<_>>()?);
        }
    }
    Ok(out)
}

fn is_joined(ctx: &Ctx<'_>, room: RoomNid) -> bool {
    ctx.index.entries.get(&room).is_some_and(|e| e.membership == MembershipState::Join)
}

fn read(db: &Reader<'_>, ctx: &Ctx<'_>, first: bool) -> Result<ByRoom> {
    let asked = &ctx.asked.receipts;
    let me = ctx.viewer.user;
    let changed = match ctx.base {
        Some(base) => receipts::rooms_with_news(db, me, base.pos)?,
        None => BTreeSet::new(),
    };
    let rooms = told_rooms(ctx, asked, first, changed.iter().copied());
    let mut out = ByRoom::default();
    for (room, (room_id, new)) in &rooms {
        if !is_joined(ctx, *room) || !(*new || changed.contains(room)) {
            continue;
        }
        let after = ctx.base.filter(|_| !*new).map_or(StreamPos(0), |base| base.pos);
        let mut found = receipts::since(db, *room, me, after)?;
        if *new && found.len() > FEW_RECEIPTS {
            let shown = ctx.rooms.get(*room_id).map(|r| r.event_ids.as_slice()).unwrap_or_default();
            found.retain(|r| r.user == me || shown.contains(&r.event_id));
        }
        if let Some(event) = ephemeral::receipts(&found)? {
            out.rooms.insert((*room_id).to_owned(), event);
        }
    }
    Ok(out)
}

fn typing(ctx: &Ctx<'_>, first: bool) -> Result<ByRoom> {
    let asked = &ctx.asked.typing;
    let mut out = ByRoom::default();
    if ctx.moment.typing.is_empty() {
        return Ok(out);
    }
    let rooms = told_rooms(ctx, asked, first, ctx.moment.typing.keys().copied());
    for (room, (room_id, new)) in &rooms {
        let Some((serial, users)) = ctx.moment.typing.get(room) else { continue };
        let news = if *new { !users.is_empty() } else { ctx.base.is_some_and(|base| *serial > base.serial) };
        if news && is_joined(ctx, *room) {
            out.rooms.insert((*room_id).to_owned(), ephemeral::typing(users)?);
        }
    }
    Ok(out)
}
