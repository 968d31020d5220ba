//! What a client wants to hear of.

use ruma::{
    RoomId,
    api::client::filter::{Filter, FilterDefinition, LazyLoadOptions, RoomEventFilter, RoomFilter},
};
use serde_json::{Map, Value};

use super::super::{Raw, format, raw};
use crate::homeserver::{
    rooms::filter::{self as events, Facts},
    store::{Result, StoreError, events::StoredEvent},
};

/// Events of one room where the filter does not say.
const TIMELINE: usize = 10;
/// And at most.
const LONGEST_TIMELINE: usize = 500;

/// Is the room asked for at all?
pub(super) fn room(filter: &RoomFilter, room_id: &RoomId) -> bool {
    filter.rooms.as_ref().is_none_or(|rooms| rooms.iter().any(|id| id == room_id)) && !filter.not_rooms.iter().any(|id| id == room_id)
}

/// Is this part of the room asked for?
pub(super) fn part(filter: &RoomEventFilter, room_id: &RoomId) -> bool {
    filter.rooms.as_ref().is_none_or(|rooms| rooms.iter().any(|id| id == room_id)) && !filter.not_rooms.iter().any(|id| id == room_id)
}

/// Does an event of the timeline or of the state pass?
pub(super) fn event(filter: &RoomEventFilter, event: &StoredEvent) -> Result<bool> {
    let sender = format::sender(event)?;
    Ok(events::passes(filter, Facts { kind: &event.kind, sender: &sender, json: &event.json }))
}

/// Does an event without sender (account data, receipts, typing) pass?
pub(super) fn kind(filter: &RoomEventFilter, kind: &str) -> bool {
    events::passes(filter, Facts { kind, sender: "", json: "{}" })
}

/// The same outside rooms, with the sender where there is one.
pub(super) fn outside(filter: &Filter, kind: &str, sender: &str) -> bool {
    let mut as_room_filter = RoomEventFilter::empty();
    as_room_filter.types.clone_from(&filter.types);
    as_room_filter.not_types.clone_from(&filter.not_types);
    if !sender.is_empty() {
        as_room_filter.senders.clone_from(&filter.senders);
        as_room_filter.not_senders.clone_from(&filter.not_senders);
    }
    events::passes(&as_room_filter, Facts { kind, sender, json: "{}" })
}

/// How many events of a room's timeline.
pub(super) fn limit(filter: &RoomEventFilter) -> usize {
    filter.limit.and_then(|limit| usize::try_from(u64::from(limit)).ok()).map_or(TIMELINE, |limit| limit.clamp(1, LONGEST_TIMELINE))
}

/// Members only as far as the timeline needs them?
pub(super) fn lazy(filter: &FilterDefinition) -> bool {
    matches!(filter.room.state.lazy_load_options, LazyLoadOptions::Enabled { .. })
}

/// Leaves of each event only the fields that the client wants.
pub(super) fn fields(filter: &FilterDefinition, events: &mut [Raw]) -> Result<()> {
    let Some(fields) = &filter.event_fields else { return Ok(()) };
    let paths: Vec<Vec<String>> = fields.iter().map(|field| path(field)).collect();
    for event in events {
        let all: Value = serde_json::from_str(event.get()).map_err(|e| StoreError::Data(e.to_string()))?;
        let mut kept = Value::Object(Map::new());
        for path in &paths {
            copy(&all, &mut kept, path);
        }
        *event = raw(&kept)?;
    }
    Ok(())
}

/// The steps of a dotted path, in which a backslash takes the meaning from a dot.
fn path(field: &str) -> Vec<String> {
    let mut steps = vec![String::new()];
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            '.' => {
                steps.push(String::new());
                continue;
            }
            '\\' => chars.next().unwrap_or('\\'),
            other => other,
        };
        if let Some(step) = steps.last_mut() {
            step.push(c);
        }
    }
    steps
}

fn copy(from: &Value, to: &mut Value, path: &[String]) {
    let Some((step, rest)) = path.split_first() else { return };
    let (Some(value), Some(to)) = (from.get(step), to.as_object_mut()) else { return };
    if rest.is_empty() {
        to.insert(step.clone(), value.clone());
    } else if value.is_object() {
        copy(value, to.entry(step.clone()).or_insert_with(|| Value::Object(Map::new())), rest);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_wanted_fields_are_left() {
        let all = json!({ "type": "m.x", "content": { "a": 1, "b": { "c": 2, "d": 3 }, "e.f": 4 }, "sender": "@a:b" });
        let mut kept = json!({});
        for field in ["type", "content.b.c", r"content.e\.f", "content.missing", "missing.too"] {
            copy(&all, &mut kept, &path(field));
        }
        assert_eq!(kept, json!({ "type": "m.x", "content": { "b": { "c": 2 }, "e.f": 4 } }));
    }
}
