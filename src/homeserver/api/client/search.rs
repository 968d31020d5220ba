//! Searching messages, room names and topics (Client-Server API, "Server Side Search").

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use axum::Json;
use ruma::api::client::{filter::RoomEventFilter, search::search_events};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::super::{
    call::{RawCall, Routes},
    error::{ApiError, ApiResult},
};
use crate::homeserver::{
    Node,
    events::{
        EventError, snapshot,
        view::{View, Viewer},
        visibility::{History, enter},
    },
    rooms::filter::{Facts, passes},
    store::{
        Reader,
        events::{self as stored, Order, StoredEvent},
        members, rooms,
        search::{self, Field},
        users,
    },
    types::{Requester, RoomHandle, RoomNid, StreamPos, Token},
    users::limits::{Key, Kind},
};

/// Matches that one search looks at; what lies beyond is not found.
const SCANNED: usize = 2000;
/// Results of one page: default and most.
const DEFAULT_LIMIT: usize = 10;
const MAX_LIMIT: usize = 100;
/// Events of context on either side: default and most.
const CONTEXT: u64 = 5;
const MAX_CONTEXT: u64 = 50;
/// Longest search term.
const TERM_BYTES: usize = 1024;

pub(super) fn add(routes: Routes) -> Routes {
    routes.add_raw::<search_events::v3::Request, _, _, _>(search_events)
}

#[derive(Debug, Deserialize)]
struct Body {
    search_categories: Categories,
}

#[derive(Debug, Deserialize)]
struct Categories {
    #[serde(default)]
    room_events: Option<Criteria>,
}

#[derive(Debug, Deserialize)]
struct Criteria {
    search_term: String,
    #[serde(default)]
    keys: Option<Vec<String>>,
    #[serde(default)]
    filter: RoomEventFilter,
    #[serde(default)]
    order_by: Option<String>,
    #[serde(default)]
    event_context: Option<Context>,
    #[serde(default)]
    include_state: bool,
    #[serde(default)]
    groupings: Groupings,
}

#[derive(Debug, Deserialize)]
struct Context {
    #[serde(default = "context")]
    before_limit: u64,
    #[serde(default = "context")]
    after_limit: u64,
    #[serde(default)]
    include_profile: bool,
}

fn context() -> u64 {
    CONTEXT
}

#[derive(Debug, Default, Deserialize)]
struct Groupings {
    #[serde(default)]
    group_by: Vec<GroupBy>,
}

#[derive(Debug, Deserialize)]
struct GroupBy {
    key: GroupKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
enum GroupKey {
    RoomId,
    Sender,
}

impl GroupKey {
    fn as_str(self) -> &'static str {
        match self {
            Self::RoomId => "room_id",
            Self::Sender => "sender",
        }
    }
}

/// Where a page begins: how many results lie before it, of all or of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct From {
    skip: usize,
    group: Option<(GroupKey, String)>,
}

impl From {
    fn read(text: &str) -> Option<Self> {
        let (skip, group) = match text.split_once('~') {
            None => (text, None),
            Some((skip, group)) => (skip, Some(group.split_once('~')?)),
        };
        let group = match group {
            None => None,
            Some(("room_id", value)) => Some((GroupKey::RoomId, value.to_owned())),
            Some(("sender", value)) => Some((GroupKey::Sender, value.to_owned())),
            Some(_) => return None,
        };
        Some(Self { skip: skip.parse().ok()?, group })
    }
}

impl std::fmt::Display for From {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.group {
            None => write!(f, "{}", self.skip),
            Some((key, value)) => write!(f, "{}~{}~{value}", self.skip, key.as_str()),
        }
    }
}

/// `POST /_matrix/client/v3/search`
async fn search_events(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    node.limits.check(Kind::Search, Key::User(call.who.user)).map_err(ApiError::limit_exceeded)?;
    let from = match call.parameter("next_batch") {
        None => From::default(),
        Some(text) => From::read(text).ok_or_else(|| ApiError::invalid_param("This is not a token of this server"))?,
    };
    let body = Value::Object(call.object()?);
    if body.get("search_categories").is_none() {
        return Err(ApiError::missing_param("`search_categories` is missing"));
    }
    let body: Body = serde_json::from_value(body).map_err(|error| {
        let message = error.to_string();
        if message.starts_with("missing field") { ApiError::missing_param(message) } else { ApiError::bad_json(message) }
    })?;
    let Some(criteria) = body.search_categories.room_events else { return Ok(Json(json!({ "search_categories": {} }))) };
    if criteria.search_term.len() > TERM_BYTES {
        return Err(ApiError::invalid_param("`search_term` is too long"));
    }
    if criteria.order_by.as_ref().is_some_and(|order| order != "rank" && order != "recent") {
        return Err(ApiError::invalid_param("`order_by` is neither `rank` nor `recent`"));
    }
    let (who, viewer) = (call.who.clone(), Viewer::of(&call.who, node.clock.now_ms()));
    // One at a time, so that searches never take all of the store's readers.
    let _turn = node.searching.acquire().await.map_err(ApiError::internal)?;
    let found = node.store.read(move |db| Search { db, who: &who, viewer: &viewer, criteria: &criteria }.run(&from));
    Ok(Json(json!({ "search_categories": { "room_events": found.await? } })))
}

/// A result.
struct Hit {
    event: StoredEvent,
    rank: f64,
    sender: String,
}

struct Search<'a, 'db> {
    db: &'a Reader<'db>,
    who: &'a Requester,
    viewer: &'a Viewer,
    criteria: &'a Criteria,
}

impl Search<'_, '_> {
    fn run(&self, from: &From) -> Result<Value, EventError> {
        let rooms = self.rooms()?;
        let hits = self.hits(&rooms)?;
        let groups = self.groups(&hits, &rooms)?;
        let in_group = |hit: &&Hit| match &from.group {
            None => true,
            Some((GroupKey::RoomId, room)) => rooms.get(&hit.event.room).is_some_and(|handle| handle.room_id == *room),
            Some((GroupKey::Sender, sender)) => hit.sender == *sender,
        };
        let limit = self.criteria.filter.limit.map_or(DEFAULT_LIMIT, |limit| usize::try_from(u64::from(limit)).unwrap_or(MAX_LIMIT));
        let limit = limit.clamp(1, MAX_LIMIT);
        let mut page: Vec<&Hit> = hits.iter().filter(in_group).skip(from.skip).take(limit + 1).collect();
        let more = page.len() > limit;
        page.truncate(limit);
        let mut results = Vec::new();
        for hit in &page {
            let Some(room) = rooms.get(&hit.event.room) else { continue };
            results.push(self.result(hit, room)?);
        }
        let mut answer = Map::new();
        answer.insert("count".into(), hits.len().into());
        answer.insert("highlights".into(), json!(self.highlights()));
        answer.insert("results".into(), results.into());
        if self.criteria.include_state {
            answer.insert("state".into(), self.state(&page, &rooms)?);
        }
        if !groups.is_empty() {
            answer.insert("groups".into(), json!(groups));
        }
        if more {
            answer.insert("next_batch".into(), From { skip: from.skip + limit, group: from.group.clone() }.to_string().into());
        }
        Ok(answer.into())
    }

    /// The rooms that are searched: those that the user is in or was in, as far as the filter goes.
    fn rooms(&self) -> Result<HashMap<RoomNid, RoomHandle>, EventError> {
        let filter = &self.criteria.filter;
        let mut rooms = HashMap::new();
        for member in members::of_user(self.db, self.who.user)? {
            if member.forgotten || !matches!(member.membership.as_str(), "join" | "leave" | "ban") {
                continue;
            }
            let room = rooms::by_nid(self.db, member.room)?;
            let wanted = filter.rooms.as_ref().is_none_or(|rooms| rooms.contains(&room.room_id));
            if wanted && !filter.not_rooms.contains(&room.room_id) {
                rooms.insert(room.nid, room);
            }
        }
        Ok(rooms)
    }

    /// What matches and may be seen, in order.
    fn hits(&self, rooms: &HashMap<RoomNid, RoomHandle>) -> Result<Vec<Hit>, EventError> {
        let fields: Vec<Field> = match &self.criteria.keys {
            None => vec![Field::Body, Field::Name, Field::Topic],
            Some(keys) => keys
                .iter()
                .filter_map(|key| match key.as_str() {
                    "content.body" => Some(Field::Body),
                    "content.name" => Some(Field::Name),
                    "content.topic" => Some(Field::Topic),
                    _ => None,
                })
                .collect(),
        };
        let by_rank = self.criteria.order_by.as_deref() != Some("recent");
        let nids: Vec<RoomNid> = rooms.keys().copied().collect();
        let mut histories: HashMap<RoomNid, (History<'_, '_>, View<'_, '_>)> = HashMap::new();
        let mut hits = Vec::new();
        for (nid, rank) in search::find(self.db, &self.criteria.search_term, &fields, &nids, by_rank, SCANNED)? {
            let event = stored::by_nid(self.db, nid)?;
            let Some(room) = rooms.get(&event.room) else { continue };
            let sender = users::user_id(self.db, event.sender)?.to_string();
            if !passes(&self.criteria.filter, Facts { kind: &event.kind, sender: &sender, json: &event.json }) {
                continue;
            }
            let (history, view) = match histories.entry(event.room) {
                std::collections::hash_map::Entry::Occupied(found) => found.into_mut(),
                std::collections::hash_map::Entry::Vacant(slot) => {
                    slot.insert((History::new(self.db, room, self.who.user, &self.who.user_id)?, View::new(self.db, room, self.viewer)?))
                }
            };
            // What is shown without its text is not found by it either.
            if history.shows(&event)? && !view.is_erased(&event)? {
                hits.push(Hit { event, rank, sender });
            }
        }
        Ok(hits)
    }

    fn highlights(&self) -> BTreeSet<String> {
        search::words(&self.criteria.search_term).into_iter().map(str::to_lowercase).collect()
    }

    fn result(&self, hit: &Hit, room: &RoomHandle) -> Result<Value, EventError> {
        let view = View::new(self.db, room, self.viewer)?;
        let mut result = Map::new();
        result.insert("rank".into(), json!(hit.rank));
        result.insert("result".into(), value(&view.event(&hit.event)?)?);
        if let Some(wanted) = &self.criteria.event_context {
            result.insert("context".into(), self.context(hit, room, wanted, &view)?);
        }
        Ok(result.into())
    }

    fn context(&self, hit: &Hit, room: &RoomHandle, wanted: &Context, view: &View<'_, '_>) -> Result<Value, EventError> {
        let history = History::new(self.db, room, self.who.user, &self.who.user_id)?;
        let pos = hit.event.pos.unwrap_or(StreamPos(0));
        let side = |order: Order, limit: u64| -> Result<Vec<StoredEvent>, EventError> {
            let limit = usize::try_from(limit.min(MAX_CONTEXT)).unwrap_or_default();
            let (after, up_to) = match order {
                Order::Backwards => (StreamPos(i64::MIN), StreamPos(pos.0 - 1)),
                Order::Forwards => (pos, StreamPos(i64::MAX)),
            };
            let mut shown = Vec::new();
            for event in stored::range(self.db, room.nid, after, up_to, order, limit)? {
                if history.shows(&event)? {
                    shown.push(event);
                }
            }
            Ok(shown)
        };
        let (before, after) = (side(Order::Backwards, wanted.before_limit)?, side(Order::Forwards, wanted.after_limit)?);
        let start = before.last().and_then(|event| event.pos).unwrap_or(pos);
        let end = after.last().and_then(|event| event.pos).unwrap_or(pos);
        let rendered =
            |events: &[StoredEvent]| events.iter().map(|event| value(&view.event(event)?)).collect::<Result<Vec<_>, EventError>>();
        let mut context = Map::new();
        context.insert("start".into(), Token(StreamPos(start.0 - 1)).to_string().into());
        context.insert("end".into(), Token(end).to_string().into());
        context.insert("events_before".into(), rendered(&before)?.into());
        context.insert("events_after".into(), rendered(&after)?.into());
        if wanted.include_profile {
            let mut profiles = Map::new();
            for event in before.iter().chain([&hit.event]).chain(&after) {
                let sender = users::user_id(self.db, event.sender)?.to_string();
                if !profiles.contains_key(&sender) {
                    let member = members::get(self.db, room.nid, event.sender)?;
                    let (name, avatar) = member.map(|member| (member.displayname, member.avatar_url)).unwrap_or_default();
                    profiles.insert(sender, json!({ "displayname": name, "avatar_url": avatar }));
                }
            }
            context.insert("profile_info".into(), profiles.into());
        }
        Ok(context.into())
    }

    /// The state of the rooms on the page, as the user may see it.
    fn state(&self, page: &[&Hit], rooms: &HashMap<RoomNid, RoomHandle>) -> Result<Value, EventError> {
        let mut state = Map::new();
        for nid in page.iter().map(|hit| hit.event.room).collect::<BTreeSet<_>>() {
            let Some(room) = rooms.get(&nid) else { continue };
            let view = View::new(self.db, room, self.viewer)?;
            let events = snapshot::visible_to(self.db, room, enter(self.db, room, self.who.user)?)?;
            let events = events.into_values().map(|nid| value(&view.state(nid)?)).collect::<Result<Vec<_>, EventError>>()?;
            state.insert(room.room_id.to_string(), events.into());
        }
        Ok(state.into())
    }

    /// All results by room or sender, each group with its first page.
    fn groups(&self, hits: &[Hit], rooms: &HashMap<RoomNid, RoomHandle>) -> Result<BTreeMap<&'static str, Map<String, Value>>, EventError> {
        let mut groups = BTreeMap::new();
        for key in self.criteria.groupings.group_by.iter().map(|group| group.key).collect::<BTreeSet<_>>() {
            let mut by_value: Vec<(String, Vec<&Hit>)> = Vec::new();
            for hit in hits {
                let value = match key {
                    GroupKey::Sender => hit.sender.clone(),
                    GroupKey::RoomId => rooms.get(&hit.event.room).map(|room| room.room_id.to_string()).unwrap_or_default(),
                };
                match by_value.iter_mut().find(|(known, _)| *known == value) {
                    Some((_, members)) => members.push(hit),
                    None => by_value.push((value, vec![hit])),
                }
            }
            let mut told = Map::new();
            for (order, (value, members)) in by_value.into_iter().enumerate() {
                let ids: Vec<&str> = members.iter().take(DEFAULT_LIMIT).map(|hit| hit.event.event_id.as_str()).collect();
                let mut group = Map::new();
                group.insert("order".into(), order.into());
                group.insert("results".into(), json!(ids));
                if members.len() > DEFAULT_LIMIT {
                    let next = From { skip: DEFAULT_LIMIT, group: Some((key, value.clone())) };
                    group.insert("next_batch".into(), next.to_string().into());
                }
                told.insert(value, group.into());
            }
            groups.insert(key.as_str(), told);
        }
        Ok(groups)
    }
}

fn value(raw: &RawValue) -> Result<Value, EventError> {
    serde_json::from_str(raw.get()).map_err(|e| EventError::Internal(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_were() {
        for from in [
            From::default(),
            From { skip: 20, group: None },
            From { skip: 10, group: Some((GroupKey::RoomId, "!a~b:home.test".into())) },
            From { skip: 0, group: Some((GroupKey::Sender, "@ann:home.test".into())) },
        ] {
            assert_eq!(From::read(&from.to_string()), Some(from));
        }
        for wrong in ["", "x", "-1", "1~", "1~x~y", "1~room_id", "99999999999999999999999"] {
            assert_eq!(From::read(wrong), None, "{wrong}");
        }
    }
}
