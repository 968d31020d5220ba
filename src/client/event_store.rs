//! The SDK's store of cached events, with the writes of fetched history gathered.
//!
//! The SDK hands every event of a `/messages` answer to `save_event`, one durable commit each, and the same events a moment
//! later, all together, as an update of the room's chunks. A page of 500 events then costs 501 commits instead of one. Here
//! the single events wait in memory until that update, a question about them, or their number, calls for them.
//!
//! What waits is written within a second or two all the same, and when the store is closed: the SDK also saves single events
//! that no such update follows, for instance one that was redacted while only the newest part of its room is in memory.
//! A process that is killed loses at most that second of a copy of what the server has.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use matrix_sdk::{
    cross_process_lock::CrossProcessLockGeneration,
    linked_chunk::{ChunkIdentifier, ChunkIdentifierGenerator, ChunkMetadata, LinkedChunkId, Position, RawChunk, Update},
};
use matrix_sdk_base::event_cache::{
    Event, Gap,
    store::{EventCacheStore, EventCacheStoreError},
};
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId, events::relation::RelationType};
use tokio::sync::Notify;

/// Events that may wait, all rooms together.
const WAITING: usize = 2_000;
/// How long events wait for the update that carries them.
const LINGER: Duration = Duration::from_secs(1);

/// An event, and when it was saved in the order of all.
struct Saved {
    order: u64,
    event: Event,
}

#[derive(Default)]
struct Waiting {
    rooms: HashMap<OwnedRoomId, HashMap<OwnedEventId, Saved>>,
    count: usize,
    /// Of the newest.
    order: u64,
}

impl Waiting {
    fn put(&mut self, room_id: &RoomId, event_id: OwnedEventId, event: Event) {
        self.order += 1;
        let saved = Saved { order: self.order, event };
        if self.rooms.entry(room_id.to_owned()).or_default().insert(event_id, saved).is_none() {
            self.count += 1;
        }
    }

    fn get(&self, room_id: &RoomId, event_id: &EventId) -> Option<&Saved> {
        self.rooms.get(room_id)?.get(event_id)
    }

    /// Drops an event, unless it was saved again after `order`.
    fn drop_written(&mut self, room_id: &RoomId, event_id: &EventId, order: u64) {
        let Some(room) = self.rooms.get_mut(room_id) else { return };
        if room.get(event_id).is_some_and(|saved| saved.order <= order) {
            room.remove(event_id);
            self.count -= 1;
        }
        if room.is_empty() {
            self.rooms.remove(room_id);
        }
    }

    fn drop_room(&mut self, room_id: &RoomId) {
        if let Some(room) = self.rooms.remove(room_id) {
            self.count -= room.len();
        }
    }
}

struct Shared<S> {
    inner: S,
    waiting: Mutex<Waiting>,
    /// Held while something is written, so that an older form never overwrites a newer one.
    writing: tokio::sync::Mutex<()>,
    /// Something waits.
    more: Notify,
}

impl<S> Shared<S> {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Every change is one call on the map: a panic elsewhere leaves it whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: EventCacheStore> Shared<S> {
    /// Writes what waits for a room, one by one.
    async fn write_room(&self, room_id: &RoomId) -> Result<(), S::Error> {
        let events: Vec<OwnedEventId> = self.waiting().rooms.get(room_id).into_iter().flat_map(|room| room.keys().cloned()).collect();
        for event_id in events {
            let _writing = self.writing.lock().await;
            // Asked again under the lock: it may have been written, or changed, since.
            let saved = self.waiting().get(room_id, &event_id).map(|saved| (saved.order, saved.event.clone()));
            let Some((order, event)) = saved else { continue };
            self.inner.save_event(room_id, event).await?;
            self.waiting().drop_written(room_id, &event_id, order);
        }
        Ok(())
    }

    async fn write_all(&self) -> Result<(), S::Error> {
        let rooms: Vec<OwnedRoomId> = self.waiting().rooms.keys().cloned().collect();
        for room_id in rooms {
            self.write_room(&room_id).await?;
        }
        Ok(())
    }

    /// Writes what no update came for. Ends with the store.
    async fn linger(&self) {
        loop {
            self.more.notified().await;
            tokio::time::sleep(LINGER).await;
            if let Err(error) = self.write_all().await {
                let error: EventCacheStoreError = error.into();
                tracing::warn!(%error, "cached events could not be saved; they are tried again with the next ones");
            }
        }
    }
}

/// A store whose single events are written together with what refers to them.
pub(super) struct GatheringStore<S> {
    shared: Arc<Shared<S>>,
    lingering: tokio::task::JoinHandle<()>,
}

impl<S> Drop for GatheringStore<S> {
    fn drop(&mut self) {
        self.lingering.abort();
    }
}

impl<S> std::fmt::Debug for GatheringStore<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatheringStore").field("waiting", &self.shared.waiting().count).finish_non_exhaustive()
    }
}

impl<S: EventCacheStore + 'static> GatheringStore<S> {
    /// Needs a runtime, in which a task writes what waits for too long.
    #[expect(clippy::disallowed_methods, reason = "stores are opened before there are tasks; this one ends with its store")]
    pub(super) fn new(inner: S) -> Self {
        let shared = Arc::new(Shared { inner, waiting: Mutex::default(), writing: tokio::sync::Mutex::default(), more: Notify::new() });
        let lingering = tokio::spawn({
            let shared = shared.clone();
            async move { shared.linger().await }
        });
        Self { shared, lingering }
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
impl<S: EventCacheStore + 'static> EventCacheStore for GatheringStore<S> {
    type Error = S::Error;

    async fn try_take_leased_lock(
        &self,
        lease_duration_ms: u32,
        key: &str,
        holder: &str,
    ) -> Result<Option<CrossProcessLockGeneration>, Self::Error> {
        self.shared.inner.try_take_leased_lock(lease_duration_ms, key, holder).await
    }

    async fn handle_linked_chunk_updates(
        &self,
        linked_chunk_id: LinkedChunkId<'_>,
        updates: Vec<Update<Event, Gap>>,
    ) -> Result<(), Self::Error> {
        let room_id = room_of(&linked_chunk_id);
        let written = written(&updates);
        let _writing = self.shared.writing.lock().await;
        let order = self.shared.waiting().order;
        self.shared.inner.handle_linked_chunk_updates(linked_chunk_id, updates).await?;
        let mut waiting = self.shared.waiting();
        for event_id in &written {
            waiting.drop_written(room_id, event_id, order);
        }
        Ok(())
    }

    async fn remove_room(&self, room_id: &RoomId) -> Result<(), Self::Error> {
        let _writing = self.shared.writing.lock().await;
        self.shared.waiting().drop_room(room_id);
        self.shared.inner.remove_room(room_id).await
    }

    async fn load_all_chunks(&self, linked_chunk_id: LinkedChunkId<'_>) -> Result<Vec<RawChunk<Event, Gap>>, Self::Error> {
        self.shared.write_room(room_of(&linked_chunk_id)).await?;
        self.shared.inner.load_all_chunks(linked_chunk_id).await
    }

    async fn load_all_chunks_metadata(&self, linked_chunk_id: LinkedChunkId<'_>) -> Result<Vec<ChunkMetadata>, Self::Error> {
        self.shared.inner.load_all_chunks_metadata(linked_chunk_id).await
    }

    async fn load_last_chunk(
        &self,
        linked_chunk_id: LinkedChunkId<'_>,
    ) -> Result<(Option<RawChunk<Event, Gap>>, ChunkIdentifierGenerator), Self::Error> {
        self.shared.write_room(room_of(&linked_chunk_id)).await?;
        self.shared.inner.load_last_chunk(linked_chunk_id).await
    }

    async fn load_previous_chunk(
        &self,
        linked_chunk_id: LinkedChunkId<'_>,
        before_chunk_identifier: ChunkIdentifier,
    ) -> Result<Option<RawChunk<Event, Gap>>, Self::Error> {
        self.shared.write_room(room_of(&linked_chunk_id)).await?;
        self.shared.inner.load_previous_chunk(linked_chunk_id, before_chunk_identifier).await
    }

    async fn clear_all_linked_chunks(&self) -> Result<(), Self::Error> {
        let _writing = self.shared.writing.lock().await;
        {
            let mut waiting = self.shared.waiting();
            waiting.rooms.clear();
            waiting.count = 0;
        }
        self.shared.inner.clear_all_linked_chunks().await
    }

    async fn filter_duplicated_events(
        &self,
        linked_chunk_id: LinkedChunkId<'_>,
        events: Vec<OwnedEventId>,
    ) -> Result<Vec<(OwnedEventId, Position)>, Self::Error> {
        // Asks for positions, which events that wait do not have.
        self.shared.inner.filter_duplicated_events(linked_chunk_id, events).await
    }

    async fn find_event(&self, room_id: &RoomId, event_id: &EventId) -> Result<Option<Event>, Self::Error> {
        let found = self.shared.waiting().get(room_id, event_id).map(|saved| saved.event.clone());
        match found {
            Some(event) => Ok(Some(event)),
            None => self.shared.inner.find_event(room_id, event_id).await,
        }
    }

    async fn find_event_relations(
        &self,
        room_id: &RoomId,
        event_id: &EventId,
        filter: Option<&[RelationType]>,
    ) -> Result<Vec<(Event, Option<Position>)>, Self::Error> {
        self.shared.write_room(room_id).await?;
        self.shared.inner.find_event_relations(room_id, event_id, filter).await
    }

    async fn get_room_events(
        &self,
        room_id: &RoomId,
        event_type: Option<&str>,
        session_id: Option<&str>,
    ) -> Result<Vec<Event>, Self::Error> {
        self.shared.write_room(room_id).await?;
        self.shared.inner.get_room_events(room_id, event_type, session_id).await
    }

    async fn save_event(&self, room_id: &RoomId, event: Event) -> Result<(), Self::Error> {
        let Some(event_id) = event.event_id() else { return self.shared.inner.save_event(room_id, event).await };
        if self.shared.waiting().count >= WAITING {
            self.shared.write_all().await?;
        }
        self.shared.waiting().put(room_id, event_id, event);
        self.shared.more.notify_one();
        Ok(())
    }

    async fn close(&self) -> Result<(), Self::Error> {
        self.shared.write_all().await?;
        self.shared.inner.close().await
    }

    async fn reopen(&self) -> Result<(), Self::Error> {
        self.shared.inner.reopen().await
    }

    async fn optimize(&self) -> Result<(), Self::Error> {
        self.shared.inner.optimize().await
    }

    async fn get_size(&self) -> Result<Option<usize>, Self::Error> {
        self.shared.inner.get_size().await
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
        assert!(store.shared.inner.find_event(room, event_id!("$a")).await.unwrap().is_none(), "nothing is written yet");
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
        let waiting: Vec<OwnedEventId> = store.shared.waiting().rooms.get(room).unwrap().keys().cloned().collect();
        assert_eq!(waiting, [event_id!("$b")], "what the update did not carry still waits");
        assert!(store.shared.inner.find_event(room, event_id!("$a")).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_question_about_relations_sees_events_that_wait() {
        let store = store();
        let room = room_id!("!r:x");
        store.save_event(room, event("$reply", Some("$root"))).await.unwrap();
        let found = store.find_event_relations(room, event_id!("$root"), None).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(store.shared.waiting().count, 0, "and they are written now");
    }

    #[tokio::test]
    async fn a_bounded_number_of_events_waits_and_none_is_lost() {
        let store = store();
        let room = room_id!("!r:x");
        for number in 0..=WAITING {
            store.save_event(room, event(&format!("$e{number}"), None)).await.unwrap();
        }
        assert_eq!(store.shared.waiting().count, 1);
        assert!(store.shared.inner.find_event(room, event_id!("$e0")).await.unwrap().is_some());
        store.save_event(room, event("$last", None)).await.unwrap();
        store.close().await.unwrap();
        assert!(store.shared.inner.find_event(room, event_id!("$last")).await.unwrap().is_some(), "closing writes what waits");
    }

    #[tokio::test]
    async fn a_room_that_is_forgotten_leaves_nothing_waiting() {
        let store = store();
        let room = room_id!("!r:x");
        store.save_event(room, event("$a", None)).await.unwrap();
        store.remove_room(room).await.unwrap();
        assert!(store.find_event(room, event_id!("$a")).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn an_event_that_no_update_carries_is_written_soon() {
        let store = store();
        let room = room_id!("!r:x");
        store.save_event(room, event("$a", None)).await.unwrap();
        tokio::time::timeout(LINGER * 10, async {
            while store.shared.inner.find_event(room, event_id!("$a")).await.unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .expect("written");
        assert_eq!(store.shared.waiting().count, 0);
    }

    #[test]
    fn a_form_that_was_saved_during_the_write_of_an_older_one_stays() {
        let mut waiting = Waiting::default();
        let (room, id) = (room_id!("!r:x"), event_id!("$a"));
        waiting.put(room, id.to_owned(), event("$a", None));
        let order = waiting.order;
        waiting.put(room, id.to_owned(), event("$a", None));
        waiting.drop_written(room, id, order);
        assert!(waiting.get(room, id).is_some());
        waiting.drop_written(room, id, waiting.order);
        assert_eq!(waiting.count, 0);
    }

    #[tokio::test]
    async fn loading_a_part_of_a_room_sees_the_newest_form_of_its_events() {
        let store = store();
        let room = room_id!("!r:x");
        let chunk = ChunkIdentifier::new(0);
        let updates = vec![
            Update::NewItemsChunk { previous: None, new: chunk, next: None },
            Update::PushItems { at: Position::new(chunk, 0), items: vec![event("$a", None)] },
        ];
        store.handle_linked_chunk_updates(LinkedChunkId::Room(room), updates).await.unwrap();
        store.save_event(room, event("$a", Some("$root"))).await.unwrap();
        store.load_last_chunk(LinkedChunkId::Room(room)).await.unwrap();
        assert_eq!(store.shared.waiting().count, 0, "written before it was read");
    }
}
