//! Spaces: the rooms below a room (Client-Server API, "Spaces").

use std::collections::HashSet;

use ruma::{OwnedRoomId, RoomId};
use serde::Serialize;
use serde_json::{
    Map, Value,
    value::{RawValue, to_raw_value},
};

use super::{EventError, Result, summary};
use crate::homeserver::{
    store::{Reader, events, rooms, state, users},
    types::{RoomHandle, UserNid},
};

/// Rooms that one walk visits at most, whatever the space holds.
const MAX_VISITED: usize = 5000;

/// What to walk.
#[derive(Debug, Clone)]
pub struct Walk {
    /// Who asks.
    pub user: UserNid,
    /// Leave out children that are not suggested.
    pub suggested_only: bool,
    /// Levels below the root.
    pub max_depth: Option<u64>,
    /// Rooms to pass over, from earlier pages.
    pub skip: usize,
    /// Rooms to give.
    pub limit: usize,
}

/// A child of a space, in the order of the space.
struct Child {
    room_id: OwnedRoomId,
    order: Option<String>,
    ts: i64,
    json: Box<RawValue>,
}

/// A page of rooms, depth first, and whether there are more.
///
/// # Errors
///
/// Store errors.
pub fn walk(db: &Reader<'_>, root: &RoomHandle, walk: &Walk) -> Result<(Vec<Map<String, Value>>, bool)> {
    let mut page = Vec::new();
    let mut passed = 0;
    let mut visited: HashSet<OwnedRoomId> = HashSet::new();
    let mut stack: Vec<(OwnedRoomId, u64)> = vec![(root.room_id.clone(), 0)];
    while let Some((room_id, depth)) = stack.pop() {
        if visited.len() >= MAX_VISITED {
            break;
        }
        if !visited.insert(room_id.clone()) {
            continue;
        }
        // Rooms of other servers, and those that are none of the asker's business, are left out with what is below them.
        let Some(room) = rooms::by_id(db, &room_id)? else { continue };
        if !summary::may_know(db, &room, Some(walk.user))? {
            continue;
        }
        let mut entry = summary::of(db, &room)?;
        let is_space = entry.get("room_type").and_then(Value::as_str) == Some("m.space");
        let children = if is_space { children(db, &room, walk.suggested_only)? } else { Vec::new() };
        if walk.max_depth.is_none_or(|max| depth < max) {
            stack.extend(children.iter().rev().map(|child| (child.room_id.clone(), depth + 1)));
        }
        passed += 1;
        if passed <= walk.skip {
            continue;
        }
        if page.len() == walk.limit {
            return Ok((page, true));
        }
        let listed: Vec<Value> = children.iter().filter_map(|child| serde_json::from_str(child.json.get()).ok()).collect();
        entry.insert("children_state".into(), listed.into());
        page.push(entry);
    }
    Ok((page, false))
}

fn children(db: &Reader<'_>, space: &RoomHandle, suggested_only: bool) -> Result<Vec<Child>> {
    #[derive(Serialize)]
    struct Stripped<'a> {
        content: &'a Map<String, Value>,
        origin_server_ts: i64,
        sender: &'a str,
        state_key: &'a str,
        r#type: &'a str,
    }
    let internal = |e: serde_json::Error| EventError::Internal(e.to_string());
    let mut children = Vec::new();
    for (state_key, nid) in state::current_of_type(db, space.nid, "m.space.child")? {
        let Ok(room_id) = RoomId::parse(&state_key) else { continue };
        let event = events::by_nid(db, nid)?;
        let content = crate::homeserver::rooms::format::content(&event.json).map_err(internal)?;
        let content: Map<String, Value> = serde_json::from_str(content.get()).map_err(internal)?;
        let via = content.get("via").and_then(Value::as_array).is_some_and(|via| !via.is_empty());
        let suggested = content.get("suggested").and_then(Value::as_bool).unwrap_or(false);
        if !via || (suggested_only && !suggested) {
            continue;
        }
        let sender = users::user_id(db, event.sender)?;
        let stripped = Stripped {
            content: &content,
            origin_server_ts: event.origin_server_ts,
            sender: sender.as_str(),
            state_key: &state_key,
            r#type: "m.space.child",
        };
        let json = to_raw_value(&stripped).map_err(internal)?;
        let order = content.get("order").and_then(Value::as_str).filter(|order| valid_order(order)).map(ToOwned::to_owned);
        children.push(Child { room_id, order, ts: event.origin_server_ts, json });
    }
    // Those with an order come first.
    children.sort_by(|a, b| {
        let key = |child: &Child| (child.order.is_none(), child.order.clone(), child.ts, child.room_id.clone());
        key(a).cmp(&key(b))
    });
    Ok(children)
}

/// Up to 50 printable ASCII characters.
fn valid_order(order: &str) -> bool {
    order.len() <= 50 && order.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
}
