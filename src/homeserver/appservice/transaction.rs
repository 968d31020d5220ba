//! What goes into one transaction for an application service.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedDeviceId, OwnedUserId};
use serde_json::{Map, Value, json, value::RawValue};

use super::{AppServices, Service};
use crate::homeserver::{
    events::{
        EventError,
        view::{View, Viewer},
    },
    store::{
        Reader, Result, StoreError,
        appservices::{self, Progress, Waiting},
        events, members, one_time_keys, rooms, state, sync_rooms, users,
    },
    sync::Moment,
    types::{EventNid, RoomNid, StreamPos, UserNid},
};

/// Events, receipts or messages to devices of one transaction.
const MOST: usize = 100;

/// A transaction that is to be sent, and what is done once it is written down.
#[derive(Debug)]
pub(super) struct Built {
    pub body: String,
    pub progress: Progress,
    /// Typing and presence up to here are in it.
    pub serial: u64,
}

/// What is looked at.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub services: &'a AppServices,
    pub place: usize,
    pub service: &'a Service,
    /// Typing and presence after this are news.
    pub serial: u64,
    pub moment: &'a Moment,
    pub now_ms: u64,
}

fn internal(error: EventError) -> StoreError {
    match error {
        EventError::Store(error) => error,
        other => StoreError::Data(other.to_string()),
    }
}

/// Puts together what is waiting; `Err` with how far there is nothing, so that it need not be looked at again.
pub(super) fn build(db: &Reader<'_>, source: &Source<'_>, at: &Waiting) -> Result<Option<Built>> {
    let mut body = Map::new();
    let queued = appservices::queued(db, &source.service.id, MOST)?;
    let mut progress = Progress { events: queued.last().map(|(pos, _)| *pos), ..Progress::of(at, sync_rooms::position(db)?) };
    let viewer =
        Viewer { user: users::find(db, &source.service.sender)?.unwrap_or(UserNid(0)), device_id: String::new(), now_ms: source.now_ms };
    let mut list = Vec::with_capacity(queued.len());
    let mut moves = Vec::new();
    for (_, event) in &queued {
        let (room, json) = event_json(db, source, &viewer, *event)?;
        moves.extend(Move::read(room, *event, &json));
        list.push(json);
    }
    let mut any = !list.is_empty();
    body.insert("events".into(), list.into());
    if source.service.ephemeral {
        let news = ephemeral(db, source, at, &mut progress)?;
        if !news.is_empty() {
            any = true;
            if source.service.unstable_ephemeral {
                body.insert("de.sorunome.msc2409.ephemeral".into(), news.clone().into());
            }
            body.insert("ephemeral".into(), news.into());
        }
    }
    if source.service.encryption {
        any |= encryption(db, source, at, &moves, &mut progress, &mut body)?;
    }
    Ok(Some(Built { body: Value::Object(body).to_string(), progress, serial: source.moment.serial }).filter(|_| any))
}

fn event_json(db: &Reader<'_>, source: &Source<'_>, viewer: &Viewer, event: EventNid) -> Result<(RoomNid, Value)> {
    let stored = events::by_nid(db, event)?;
    let room = rooms::by_nid(db, stored.room)?;
    let view = View::new(db, &room, viewer).map_err(internal)?;
    let mut json: Value = parse(&view.event(&stored).map_err(internal)?)?;
    // The viewer is a service, which has no membership of its own.
    if let Some(unsigned) = json.get_mut("unsigned").and_then(Value::as_object_mut) {
        unsigned.remove("membership");
    }
    if stored.kind == "m.room.member"
        && let Some(key) = stored.state_key
        && let (_, target) = state::key(db, key)?
        && let Ok(target) = OwnedUserId::try_from(target)
        && source.service.may_act_as(&target)
        && let Some(user) = users::find(db, &target)?
        && let Some(stripped) = members::get(db, stored.room, user)?.filter(|m| m.event == event).and_then(|m| m.invite_state)
        && let Some(object) = json.as_object_mut()
        && let Some(unsigned) = object.entry("unsigned").or_insert_with(|| json!({})).as_object_mut()
    {
        // Whoever is invited can read nothing else of the room.
        unsigned.insert("invite_room_state".into(), serde_json::from_str(&stripped).map_err(|e| StoreError::Data(e.to_string()))?);
    }
    Ok((stored.room, json))
}

fn parse(raw: &RawValue) -> Result<Value> {
    serde_json::from_str(raw.get()).map_err(|e| StoreError::Data(e.to_string()))
}

/// Typing, receipts and presence that the service may know of.
fn ephemeral(db: &Reader<'_>, source: &Source<'_>, at: &Waiting, progress: &mut Progress) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    let receipts = appservices::receipts_after(db, at.receipts, MOST)?;
    if receipts.len() == MOST
        && let Some((pos, _)) = receipts.last()
    {
        progress.receipts = *pos;
    }
    let mut by_room: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (_, receipt) in receipts {
        by_room.entry(receipt.room).or_default().push(receipt);
    }
    for (room, receipts) in by_room {
        let handle = rooms::by_nid(db, room)?;
        if !source.services.wants_room(db, source.place, room, &handle.room_id)? {
            continue;
        }
        let mut content = json!({});
        for receipt in receipts {
            let private = receipt.kind == "m.read.private";
            if private && !OwnedUserId::try_from(receipt.user_id.as_str()).is_ok_and(|user| source.service.may_act_as(&user)) {
                continue;
            }
            let mut data = json!({ "ts": receipt.ts_ms });
            if let (false, Some(data)) = (receipt.thread_id.is_empty(), data.as_object_mut()) {
                data.insert("thread_id".into(), receipt.thread_id.into());
            }
            put(&mut content, &[&receipt.event_id, &receipt.kind, &receipt.user_id], data);
        }
        if content.as_object().is_some_and(|content| !content.is_empty()) {
            found.push(json!({ "type": "m.receipt", "room_id": handle.room_id, "content": content }));
        }
    }
    for (room, (serial, typing)) in source.moment.typing.iter().filter(|(_, (serial, _))| *serial > source.serial) {
        debug_assert!(*serial <= source.moment.serial, "a moment holds what came before it");
        let handle = rooms::by_nid(db, *room)?;
        if source.services.wants_room(db, source.place, *room, &handle.room_id)? {
            found.push(json!({ "type": "m.typing", "room_id": handle.room_id, "content": { "user_ids": typing } }));
        }
    }
    for (user, presence) in source.moment.presence.iter().filter(|(_, presence)| presence.serial > source.serial) {
        if !source.service.may_act_as(&presence.user_id) && !shares_a_room(db, source, *user)? {
            continue;
        }
        let mut content = json!({
            "presence": presence.state,
            "last_active_ago": source.now_ms.saturating_sub(presence.last_active_ms),
            "currently_active": presence.state == ruma::presence::PresenceState::Online,
        });
        if let (Some(message), Some(content)) = (&presence.status_msg, content.as_object_mut()) {
            content.insert("status_msg".into(), message.as_str().into());
        }
        found.push(json!({ "type": "m.presence", "sender": presence.user_id, "content": content }));
    }
    Ok(found)
}

/// Is the user in a room that the service is interested in?
fn shares_a_room(db: &Reader<'_>, source: &Source<'_>, user: UserNid) -> Result<bool> {
    for member in members::of_user(db, user)?.into_iter().filter(|member| member.membership == "join") {
        let room = rooms::by_nid(db, member.room)?;
        if source.services.wants_room(db, source.place, room.nid, &room.room_id)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Puts a value into nested objects.
fn put(object: &mut Value, path: &[&str], value: Value) {
    let mut at = object;
    for step in path {
        if !at.is_object() {
            *at = json!({});
        }
        let Some(map) = at.as_object_mut() else { return };
        at = map.entry(*step).or_insert_with(|| json!({}));
    }
    *at = value;
}

/// Somebody who came to a room or went from it.
#[derive(Debug)]
struct Move {
    room: RoomNid,
    event: EventNid,
    user_id: OwnedUserId,
    came: bool,
}

impl Move {
    /// Reads an event as the service sees it: only who joined, or was joined before, counts.
    fn read(room: RoomNid, nid: EventNid, event: &Value) -> Option<Self> {
        if event.get("type")?.as_str()? != "m.room.member" {
            return None;
        }
        let user_id = OwnedUserId::try_from(event.get("state_key")?.as_str()?).ok()?;
        let joined = |content: Option<&Value>| content.and_then(|content| content.get("membership")).is_some_and(|is| is == "join");
        let was = joined(event.get("unsigned").and_then(|unsigned| unsigned.get("prev_content")));
        let is = joined(event.get("content"));
        (was != is).then_some(Self { room, event: nid, user_id, came: is })
    }
}

/// Was another of the service's users in the room when one of them came or went? Two who come one after the other are both there
/// when this is asked, and yet it was the first who brought the service there.
fn was_there_without(db: &Reader<'_>, source: &Source<'_>, of: &Move) -> Result<bool> {
    let Some(user) = users::find(db, &of.user_id)? else { return Ok(false) };
    let Some(when) = members::changes(db, of.room, user)?.into_iter().find(|change| change.event == of.event) else { return Ok(false) };
    for other in members::local_joined(db, of.room)? {
        if other == user || !source.service.may_act_as(&users::user_id(db, other)?) {
            continue;
        }
        let before = members::changes(db, of.room, other)?.into_iter().take_while(|change| change.pos < when.pos).last();
        if before.is_some_and(|change| change.membership == "join") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whose devices the service is to ask for anew, because they came to share a room with it, and whose it need not follow any more
/// (MSC3202, "device_lists"; as in `/sync`). Judged by who shares a room now.
fn moved(db: &Reader<'_>, source: &Source<'_>, moves: &[Move]) -> Result<(BTreeSet<OwnedUserId>, BTreeSet<OwnedUserId>)> {
    let (mut came, mut gone) = (BTreeSet::new(), BTreeSet::new());
    for of in moves {
        let to = if of.came { &mut came } else { &mut gone };
        if !source.service.may_act_as(&of.user_id) {
            to.insert(of.user_id.clone());
            continue;
        }
        // One of its own: with them come, or go, all who are there, unless the service was there, or stays, without them.
        let others = source.service.has_room(&rooms::by_nid(db, of.room)?.room_id) || was_there_without(db, source, of)?;
        if !others {
            for user in sync_rooms::joined_members(db, of.room)? {
                let user_id = users::user_id(db, user)?;
                if !source.service.may_act_as(&user_id) {
                    to.insert(user_id);
                }
            }
        }
    }
    let mut shares = BTreeMap::new();
    for user_id in came.iter().chain(&gone) {
        if let (false, Some(user)) = (shares.contains_key(user_id), users::find(db, user_id)?) {
            shares.insert(user_id.clone(), shares_a_room(db, source, user)?);
        }
    }
    let share = |user_id: &OwnedUserId| shares.get(user_id).copied().unwrap_or_default();
    came.retain(share);
    gone.retain(|user_id| !share(user_id));
    Ok((came, gone))
}

/// What a service needs that keeps keys for its users (MSC3202, MSC4203). True when there is news.
fn encryption(
    db: &Reader<'_>,
    source: &Source<'_>,
    at: &Waiting,
    moves: &[Move],
    progress: &mut Progress,
    body: &mut Map<String, Value>,
) -> Result<bool> {
    let waiting = appservices::to_device(db, &source.service.id, MOST)?;
    let mut devices: BTreeSet<(UserNid, OwnedUserId, OwnedDeviceId)> = BTreeSet::new();
    let mut messages = Vec::with_capacity(waiting.len());
    for message in waiting {
        let content: Value = serde_json::from_str(&message.content).map_err(|e| StoreError::Data(e.to_string()))?;
        messages.push(json!({
            "type": message.kind, "sender": message.sender, "content": content,
            "to_user_id": message.user_id, "to_device_id": message.device_id,
        }));
        devices.insert((message.user, message.user_id, message.device_id));
        progress.to_device.push(message.pos);
    }
    let (mut changed, left) = moved(db, source, moves)?;
    for (user, user_id) in appservices::key_changes(db, at.keys, progress.keys)? {
        if source.service.may_act_as(&user_id) || shares_a_room(db, source, user)? {
            changed.insert(user_id);
        }
    }
    if messages.is_empty() && changed.is_empty() && left.is_empty() {
        return Ok(false);
    }
    let (mut counts, mut unused) = (json!({}), json!({}));
    for (user, user_id, device) in &devices {
        // Somebody who sends to a device has claimed a key of it: its service is to see how many are left.
        let mut left = one_time_keys::counts(db, *user, device)?;
        left.entry("signed_curve25519".to_owned()).or_insert(0);
        put(&mut counts, &[user_id.as_str(), device.as_str()], json!(left));
        put(&mut unused, &[user_id.as_str(), device.as_str()], json!(one_time_keys::unused_fallbacks(db, *user, device)?));
    }
    body.insert("to_device".into(), messages.clone().into());
    body.insert("de.sorunome.msc2409.to_device".into(), messages.into());
    body.insert("org.matrix.msc3202.device_lists".into(), json!({ "changed": changed, "left": left }));
    body.insert("org.matrix.msc3202.device_one_time_keys_count".into(), counts.clone());
    body.insert("org.matrix.msc3202.device_one_time_key_counts".into(), counts);
    body.insert("org.matrix.msc3202.device_unused_fallback_key_types".into(), unused);
    Ok(true)
}

impl Progress {
    /// Everything up to here has been looked at.
    fn of(at: &Waiting, now: StreamPos) -> Self {
        Self { events: None, receipts: now.max(at.receipts), keys: now.max(at.keys), to_device: Vec::new() }
    }
}
