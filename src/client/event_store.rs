//! The SDK's store of cached events, with the writes of fetched history gathered.
//!
//! The SDK hands every event of a `/messages` answer to `save_event`, one durable commit each, and the same events a moment
//! later, all together, as an update of the room's chunks. A page of 500 events then costs 501 commits instead of one. Here
//! the single events wait in memory until that update, a question about them, or their number, calls for them.
//!
//! What waits can be lost with the process. It is a copy of what the server has, and nothing refers to it yet: positions in
//! the timeline are written with the update, which carries the events itself.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use matrix_sdk::{
    cross_process_lock::CrossProcessLockGeneration,
    linked_chunk::{ChunkIdentifier, ChunkIdentifierGenerator, ChunkMetadata, LinkedChunkId, Position, RawChunk, Update},
};
use matrix_sdk_base::event_cache::{Event, Gap, store::EventCacheStore};
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId, events::relation::RelationType};

/// Events that may wait, all rooms together.
const WAITING: usize = 2_000;

type Waiting = HashMap<OwnedRoomId, HashMap<OwnedEventId, Event>>;

/// A store whose single events are written together with what refers to them.
#[derive(Debug)]
pub(super) struct GatheringStore<S> {
    inner: S,
    waiting: Mutex<Waiting>,
}

impl<S: EventCacheStore> GatheringStore<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, waiting: Mutex::new(Waiting::new()) }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Every change is one call on the map: a panic elsewhere leaves it whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what waits for a room, one by one.
    async fn write_room(&self, room_id: &RoomId) -> Result<(), S::Error> {
        let events = self.waiting().get(room_id).cloned().unwrap_or_default();
        for (event_id, event) in events {
            self.inner.save_event(room_id, event).await?;
            self.forget(room_id, [&*event_id]);
        }
        Ok(())
    }

    async fn write_all(&self) -> Result<(), S::Error> {
        let rooms: Vec<OwnedRoomId> = self.waiting().keys().cloned().collect();
        for room_id in rooms {
            self.write_room(&room_id).await?;
        }
        Ok(())
    }

    fn forget<'a>(&self, room_id: &RoomId, events: impl IntoIterator<Item = &'a EventId>) {
        let mut waiting = self.waiting();
        let Some(room) = waiting.get_mut(room_id) else { return };
        for event_id in events {
            room.remove(event_id);
        }
        if room.is_empty() {
            waiting.remove(room_id);
        }
    }
}

fn room_of<'a>(linked_chunk_id: &LinkedChunkId<'a>) -> &'a RoomId {
    match linked_chunk_id {
        LinkedChunkId::Room(room_id)
        | LinkedChunkId::Thread(room_id, ..)
        | LinkedChunkId::PinnedEvents(room_id)
        | LinkedChunkId::EventFocused(room_id, ..) => room_id,
    }
}

/// The events that an update writes.
fn written(updates: &[Update<Event, Gap>]) -> Vec<OwnedEventId> {
    let mut ids = Vec::new();
    for update in updates {
        match update {
            Update::PushItems { items, .. } => ids.extend(items.iter().filter_map(Event::event_id)),
            Update::ReplaceItem { item, .. } => ids.extend(item.event_id()),
            _ => {}
        }
    }
    ids
}

#[async_trait]
impl<S: EventCacheStore> EventCacheStore for GatheringStore<S> {
    type Error = S::Error;

    async fn try_take_leased_lock(
        &self,
        lease_duration_ms: u32,
        key: &str,
        holder: &str,
    ) -> Result<Option<CrossProcessLockGeneration>, Self::Error> {
        self.inner.try_take_leased_lock(lease_duration_ms, key, holder).await
    }

    async fn handle_linked_chunk_updates(
        &self,
        linked_chunk_id: LinkedChunkId<'_>,
        updates: Vec<Update<Event, Gap>>,
    ) -> Result<(), Self::Error> {
        let room_id = room_of(&linked_chunk_id);
        let written = written(&updates);
        self.inner.handle_linked_chunk_updates(linked_chunk_id, updates).await?;
        self.forget(room_id, written.iter().map(|event_id| &**event_id));
        Ok(())
    }

    async fn remove_room(&self, room_id: &RoomId) -> Result<(), Self::Error> {
        self.waiting().remove(room_id);
        self.inner.remove_room(room_id).await
    }

    async fn load_all_chunks(&self, linked_chunk_id: LinkedChunkId<'_>) -> Result<Vec<RawChunk<Event, Gap>>, Self::Error> {
        self.inner.load_all_chunks(linked_chunk_id).await
    }

    async fn load_all_chunks_metadata(&self, linked_chunk_id: LinkedChunkId<'_>) -> Result<Vec<ChunkMetadata>, Self::Error> {
        self.inner.load_all_chunks_metadata(linked_chunk_id).await
    }

    async fn load_last_chunk(
        &self,
        linked_chunk_id: LinkedChunkId<'_>,
    ) -> Result<(Option<RawChunk<Event, Gap>>, ChunkIdentifierGenerator), Self::Error> {
        self.inner.load_last_chunk(linked_chunk_id).await
    }

    async fn load_previous_chunk(
        &self,
        linked_chunk_id: LinkedChunkId<'_>,
        before_chunk_identifier: ChunkIdentifier,
    ) -> Result<Option<RawChunk<Event, Gap>>, Self::Error> {
        self.inner.load_previous_chunk(linked_chunk_id, before_chunk_identifier).await
    }

    async fn clear_all_linked_chunks(&self) -> Result<(), Self::Error> {
        self.waiting().clear();
        self.inner.clear_all_linked_chunks().await
    }

    async fn filter_duplicated_events(
        &self,
        linked_chunk_id: LinkedChunkId<'_>,
        events: Vec<OwnedEventId>,
    ) -> Result<Vec<(OwnedEventId, Position)>, Self::Error> {
        // Asks for positions, which events that wait do not have.
        self.inner.filter_duplicated_events(linked_chunk_id, events).await
    }

    async fn find_event(&self, room_id: &RoomId, event_id: &EventId) -> Result<Option<Event>, Self::Error> {
        let found = self.waiting().get(room_id).and_then(|room| room.get(event_id)).cloned();
        match found {
            Some(event) => Ok(Some(event)),
            None => self.inner.find_event(room_id, event_id).await,
        }
    }

    async fn find_event_relations(
        &self,
        room_id: &RoomId,
        event_id: &EventId,
        filter: Option<&[RelationType]>,
    ) -> Result<Vec<(Event, Option<Position>)>, Self::Error> {
        self.write_room(room_id).await?;
        self.inner.find_event_relations(room_id, event_id, filter).await
    }

    async fn get_room_events(
        &self,
        room_id: &RoomId,
        event_type: Option<&str>,
        session_id: Option<&str>,
    ) -> Result<Vec<Event>, Self::Error> {
        self.write_room(room_id).await?;
        self.inner.get_room_events(room_id, event_type, session_id).await
    }

    async fn save_event(&self, room_id: &RoomId, event: Event) -> Result<(), Self::Error> {
        let Some(event_id) = event.event_id() else { return self.inner.save_event(room_id, event).await };
        let full = {
            let mut waiting = self.waiting();
            waiting.entry(room_id.to_owned()).or_default().insert(event_id, event);
            waiting.values().map(HashMap::len).sum::<usize>() > WAITING
        };
        if full { self.write_all().await } else { Ok(()) }
    }

    async fn close(&self) -> Result<(), Self::Error> {
        self.write_all().await?;
        self.inner.close().await
    }

    async fn reopen(&self) -> Result<(), Self::Error> {
        self.inner.reopen().await
    }

    async fn optimize(&self) -> Result<(), Self::Error> {
        self.inner.optimize().await
    }

    async fn get_size(&self) -> Result<Option<usize>, Self::Error> {
        self.inner.get_size().await
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops where its set-up fails")]

    use matrix_sdk::deserialized_responses::TimelineEvent;
    use matrix_sdk_base::event_cache::store::MemoryStore;
    use ruma::{event_id, room_id, serde::Raw};
    use serde_json::json;

    use super::*;

    fn event(id: &str, relates_to: Option<&str>) -> Event {
        let mut content = json!({ "msgtype": "m.text", "body": "text" });
        if let Some(target) = relates_to {
            content["m.relates_to"] = json!({ "rel_type": "m.thread", "event_id": target });
        }
        let json = json!({ "type": "m.room.message", "event_id": id, "sender": "@a:x", "origin_server_ts": 1, "content": content });
        TimelineEvent::from_plaintext(Raw::new(&json).unwrap().cast_unchecked())
    }

    fn store() -> GatheringStore<MemoryStore> {
        GatheringStore::new(MemoryStore::new())
    }

    #[tokio::test]
    async fn a_fetched_event_is_found_before_it_is_written() {
        let store = store();
        let room = room_id!("!r:x");
        store.save_event(room, event("$a", None)).await.unwrap();
        assert!(store.inner.find_event(room, event_id!("$a")).await.unwrap().is_none(), "nothing is written yet");
        assert!(store.find_event(room, event_id!("$a")).await.unwrap().is_some());
        assert!(store.find_event(room_id!("!other:x"), event_id!("$a")).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn an_update_that_carries_the_events_is_their_only_write() {
        let store = store();
        let room = room_id!("!r:x");
        store.save_event(room, event("$a", None)).await.unwrap();
        store.save_event(room, event("$b", None)).await.unwrap();
        let chunk = ChunkIdentifier::new(0);
        let updates = vec![
            Update::NewItemsChunk { previous: None, new: chunk, next: None },
            Update::PushItems { at: Position::new(chunk, 0), items: vec![event("$a", None)] },
        ];
        store.handle_linked_chunk_updates(LinkedChunkId::Room(room), updates).await.unwrap();
        let waiting: Vec<OwnedEventId> = store.waiting().get(room).unwrap().keys().cloned().collect();
        assert_eq!(waiting, [event_id!("$b")], "what the update did not carry still waits");
        assert!(store.inner.find_event(room, event_id!("$a")).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_question_about_relations_sees_events_that_wait() {
        let store = store();
        let room = room_id!("!r:x");
        store.save_event(room, event("$reply", Some("$root"))).await.unwrap();
        let found = store.find_event_relations(room, event_id!("$root"), None).await.unwrap();
        assert_eq!(found.len(), 1);
        assert!(store.waiting().is_empty(), "and they are written now");
    }

    #[tokio::test]
    async fn a_bounded_number_of_events_waits_and_none_is_lost() {
        let store = store();
        let room = room_id!("!r:x");
        for number in 0..=WAITING {
            store.save_event(room, event(&format!("$e{number}"), None)).await.unwrap();
        }
        assert!(store.waiting().is_empty());
        assert!(store.inner.find_event(room, event_id!("$e0")).await.unwrap().is_some());
        store.save_event(room, event("$last", None)).await.unwrap();
        store.close().await.unwrap();
        assert!(store.inner.find_event(room, event_id!("$last")).await.unwrap().is_some(), "closing writes what waits");
    }

    #[tokio::test]
    async fn a_room_that_is_forgotten_leaves_nothing_waiting() {
        let store = store();
        let room = room_id!("!r:x");
        store.save_event(room, event("$a", None)).await.unwrap();
        store.remove_room(room).await.unwrap();
        assert!(store.find_event(room, event_id!("$a")).await.unwrap().is_none());
    }
}
