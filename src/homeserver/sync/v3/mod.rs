//! `GET /_matrix/client/v3/sync` (Client-Server API, "Syncing").

mod filter;
mod response;
mod room;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, OnceLock},
    time::Duration,
};

use ruma::{api::client::filter::FilterDefinition, events::room::member::MembershipState};
use serde_json::json;

pub use self::response::Response;
use self::response::{Events, Invited, Knocked, Rooms};
use super::{Raw, SyncError, SyncToken, devices, ephemeral, live::Moment, raw, rooms as shared, viewer::Viewer, wait};
use crate::homeserver::{
    Node, push,
    store::{
        Reader, Result, StoreError, account_data, device_lists, one_time_keys, receipts,
        sync_rooms::{self, Membership, MembershipChange},
        users,
    },
    types::{Requester, RoomNid, StreamPos, UserNid},
};

/// Messages to the device in one answer.
const TO_DEVICE: usize = 100;

/// Rooms that one answer tells for the first time. A first sync of more goes on in the next answers, which come at once.
const FIRST_ROOMS: usize = if cfg!(test) { 50 } else { 1000 };

/// Which state a client wants beside the timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateForm {
    /// That at the start of the timeline.
    Before,
    /// That at its end (`use_state_after`).
    After,
    /// The same under the name of MSC4222.
    UnstableAfter,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Params {
    /// Who asks.
    pub who: Requester,
    /// The token of the last answer.
    pub since: Option<SyncToken>,
    /// What to tell.
    pub filter: FilterDefinition,
    /// Tell all state, whatever is known.
    pub full_state: bool,
    /// Which state.
    pub form: StateForm,
    /// How long to wait for news.
    pub timeout: Duration,
}

/// Answers a request, at once or when there is news.
///
/// # Errors
///
/// [`SyncError`].
pub async fn sync(node: &Node, params: Params) -> Result<Response, SyncError> {
    if let Some(since) = params.since {
        super::acknowledge(node, &params.who, since.to_device).await?;
    }
    let timeout = if params.since.is_some() && !params.full_state { params.timeout } else { Duration::ZERO };
    let params = Arc::new(params);
    // Keys that are claimed while a device waits end the wait: it has to upload new ones.
    let keys_told = Arc::new(OnceLock::new());
    wait::for_news(node, params.who.user, timeout, || {
        let (params, moment, now_ms) = (Arc::clone(&params), node.sync.live.moment(), node.clock.now_ms());
        let keys_told = Arc::clone(&keys_told);
        async move {
            node.store
                .read(move |db| {
                    super::check_signed_in(db, &params.who)?;
                    let (response, any) = build(db, &params, &moment, now_ms)?;
                    let keys = (response.device_one_time_keys_count.clone(), response.device_unused_fallback_key_types.clone());
                    let fewer = *keys_told.get_or_init(|| keys.clone()) != keys;
                    Ok::<_, SyncError>((response, any || fewer))
                })
                .await
        }
    })
    .await
}

/// The answer as of now, and whether there is news in it.
fn build(db: &Reader<'_>, params: &Params, moment: &Moment, now_ms: u64) -> Result<(Response, bool)> {
    let now = sync_rooms::position(db)?;
    let viewer = Viewer::new(&params.who, now_ms);
    let news = News::load(db, params, &viewer, moment, now)?;
    let mut response = Response {
        account_data: global_account_data(db, params, &viewer, &news)?,
        rooms: rooms(db, params, &viewer, moment, now, &news)?,
        device_one_time_keys_count: devices::key_counts(db, &viewer)?,
        device_unused_fallback_key_types: one_time_keys::unused_fallbacks(db, viewer.user, &viewer.device)?,
        ..Response::default()
    };
    let acknowledged = params.since.map_or(StreamPos(0), |since| since.to_device);
    let (messages, more) = ephemeral::to_device(db, &viewer, acknowledged, now, TO_DEVICE)?;
    response.to_device.events = messages;
    if let Some(since) = params.since {
        let joined = news.members.values().filter(|m| m.membership == MembershipState::Join).map(|m| m.room).collect();
        let question = devices::Question {
            viewer: &viewer,
            joined: &joined,
            own_changes: &news.own_changes,
            changed_rooms: &news.changed,
            after: since.pos,
            now,
        };
        response.device_lists = devices::since(db, &question)?;
    }
    response.presence = presence(db, params, &viewer, moment, &response.device_lists.came, now_ms)?;
    response.next_batch = SyncToken { pos: now, serial: moment.serial, to_device: more.unwrap_or(now), rooms: news.rest }.to_string();
    let any = !(response.account_data.is_empty()
        && response.presence.is_empty()
        && response.rooms.is_empty()
        && response.to_device.is_empty()
        && response.device_lists.is_empty())
        || params.since.is_some_and(|since| since.rooms.is_some());
    Ok((response, any))
}

/// What there may be to tell.
#[derive(Debug)]
struct News {
    /// Rooms to look at.
    members: HashMap<RoomNid, Membership>,
    /// Those of them that the client is told of for the first time.
    first: BTreeSet<RoomNid>,
    /// Rooms beyond this one are for the next answer.
    rest: Option<i64>,
    changed: BTreeSet<RoomNid>,
    own_changes: HashMap<RoomNid, Vec<MembershipChange>>,
    read: BTreeSet<RoomNid>,
    global: Vec<account_data::AccountData>,
    by_room: BTreeMap<RoomNid, Vec<account_data::AccountData>>,
}

impl News {
    fn load(db: &Reader<'_>, params: &Params, viewer: &Viewer, moment: &Moment, now: StreamPos) -> Result<Self> {
        let Some(since) = params.since else {
            let (members, rest) = first_rooms(sync_rooms::memberships(db, viewer.user)?, 0);
            return Ok(Self {
                first: members.keys().copied().collect(),
                members,
                rest,
                changed: BTreeSet::new(),
                own_changes: HashMap::new(),
                read: BTreeSet::new(),
                global: push::global_account_data(db, viewer.user, &viewer.user_id)?,
                by_room: BTreeMap::new(),
            });
        };
        let own_changes = sync_rooms::membership_changes(db, viewer.user, since.pos)?;
        let changed = sync_rooms::rooms_with_events(db, viewer.user, since.pos, now)?;
        let read: BTreeSet<_> = receipts::own_rooms_since(db, viewer.user, since.pos)?.into_iter().collect();
        let mut global = Vec::new();
        let mut by_room: BTreeMap<RoomNid, Vec<_>> = BTreeMap::new();
        for data in account_data::since(db, viewer.user, since.pos)? {
            match data.room {
                Some(room) => by_room.entry(room).or_default().push(data),
                None => global.push(data),
            }
        }
        let mut members = if params.full_state {
            sync_rooms::memberships(db, viewer.user)?
        } else {
            let typing = moment.typing.iter().filter(|(_, (serial, _))| *serial > since.serial).map(|(room, _)| *room);
            let mut rooms: BTreeSet<RoomNid> = changed.iter().chain(own_changes.keys()).chain(by_room.keys()).copied().collect();
            rooms.extend(typing);
            rooms.extend(receipts::rooms_with_news(db, viewer.user, since.pos)?);
            let mut members = HashMap::new();
            for room in rooms {
                members.extend(sync_rooms::membership(db, viewer.user, room)?.map(|member| (room, member)));
            }
            members
        };
        let (mut first, mut rest) = (BTreeSet::new(), None);
        if let Some(told) = since.rooms {
            members.retain(|room, _| room.0 <= told);
            let (more, beyond) = first_rooms(sync_rooms::memberships(db, viewer.user)?, told);
            first.extend(more.keys().copied());
            members.extend(more);
            rest = beyond;
        }
        Ok(Self { members, first, rest, changed, own_changes, read, global, by_room })
    }
}

/// The next rooms of a first sync, and where the rest begins.
fn first_rooms(mut all: HashMap<RoomNid, Membership>, after: i64) -> (HashMap<RoomNid, Membership>, Option<i64>) {
    let mut rooms: Vec<i64> = all.keys().map(|room| room.0).filter(|room| *room > after).collect();
    rooms.sort_unstable();
    let rest = (rooms.len() > FIRST_ROOMS).then(|| rooms.get(FIRST_ROOMS - 1).copied()).flatten();
    all.retain(|room, _| room.0 > after && rest.is_none_or(|last| room.0 <= last));
    (all, rest)
}

fn rooms(db: &Reader<'_>, params: &Params, viewer: &Viewer, moment: &Moment, now: StreamPos, news: &News) -> Result<Rooms> {
    let ignored = account_data::ignored_users(db, viewer.user)?;
    let ctx = room::Ctx {
        viewer,
        filter: &params.filter,
        form: params.form,
        since: params.since,
        full_state: params.full_state,
        now,
        moment,
        ignored: &ignored,
        own_changes: &news.own_changes,
        read: &news.read,
        account_data: &news.by_room,
    };
    let at_first = room::Ctx { since: None, ..ctx };
    let mut out = Rooms::default();
    for member in news.members.values().filter(|member| filter::room(&params.filter.room, &member.room_id)) {
        let id = || member.room_id.clone();
        let first = news.first.contains(&member.room);
        let ctx = if first { &at_first } else { &ctx };
        let new = first || news.own_changes.contains_key(&member.room);
        match &member.membership {
            MembershipState::Join => out.join.extend(room::joined(db, ctx, member)?.map(|room| (id(), room))),
            MembershipState::Invite if new && !shared::invited_by_ignored(db, member.event, &ignored)? => {
                let invite_state = Events { events: shared::stripped_state(db, member.room, viewer.user, member.event)? };
                out.invite.insert(id(), Invited { invite_state });
            }
            MembershipState::Knock if new => {
                let knock_state = Events { events: shared::stripped_state(db, member.room, viewer.user, member.event)? };
                out.knock.insert(id(), Knocked { knock_state });
            }
            gone if room::is_gone(gone) && new => {
                // A client that knows the room has to hear that it is over, even of a room that was forgotten elsewhere.
                let asked = !first || (params.filter.room.include_leave && !member.forgotten);
                if asked {
                    out.leave.insert(id(), room::left(db, ctx, member)?);
                }
            }
            _ => {}
        }
    }
    Ok(out)
}

fn global_account_data(db: &Reader<'_>, params: &Params, viewer: &Viewer, news: &News) -> Result<Events> {
    let all = match params.full_state {
        true => &push::global_account_data(db, viewer.user, &viewer.user_id)?,
        false => &news.global,
    };
    let wanted = all.iter().filter(|data| filter::outside(&params.filter.account_data, &data.kind, ""));
    Ok(Events { events: wanted.map(ephemeral::account_data).collect::<Result<_>>()? })
}

/// Presence of those who share a room with the user, and of the user: what is new, and how those are who `came` to share one.
fn presence(db: &Reader<'_>, params: &Params, viewer: &Viewer, moment: &Moment, came: &BTreeSet<UserNid>, now_ms: u64) -> Result<Events> {
    let mut events: Vec<Raw> = Vec::new();
    for (user, known) in moment.presence.iter() {
        let there = known.state != ruma::presence::PresenceState::Offline;
        let news = match params.since {
            Some(since) => known.serial > since.serial || (there && came.contains(user)),
            None => there,
        };
        if !news
            || !filter::outside(&params.filter.presence, "m.presence", known.user_id.as_str())
            || !device_lists::share_a_room(db, viewer.user, *user)?
        {
            continue;
        }
        let mut content = json!({
            "presence": known.state,
            "last_active_ago": now_ms.saturating_sub(known.last_active_ms),
            "currently_active": known.state == ruma::presence::PresenceState::Online,
        });
        let profile = users::member_profile(db, *user)?;
        for (field, value) in
            [("status_msg", known.status_msg.clone()), ("displayname", profile.displayname), ("avatar_url", profile.avatar_url)]
        {
            if let (Some(value), Some(content)) = (value, content.as_object_mut()) {
                content.insert(field.into(), value.into());
            }
        }
        events.push(raw(&json!({ "type": "m.presence", "sender": known.user_id, "content": content }))?);
    }
    Ok(Events { events })
}

/// A stored filter, as it was uploaded.
///
/// # Errors
///
/// Store errors; `None` for a filter that the user does not have.
pub async fn stored_filter(node: &Node, who: &Requester, id: &str) -> Result<Option<FilterDefinition>> {
    let (user, Ok(id)) = (who.user, id.parse::<i64>()) else { return Ok(None) };
    let json = node.store.read(move |db| crate::homeserver::store::filters::get(db, user, id)).await?;
    json.map(|json| serde_json::from_str(&json).map_err(|e| StoreError::Data(e.to_string()))).transpose()
}
