//! What a store that is given up still holds and nobody else has: drafts, and messages that were never sent.

use std::collections::HashMap;

use ruma::{
    OwnedRoomId,
    events::{
        AnyMessageLikeEventContent,
        room::message::{MessageType, Relation},
    },
};

use matrix_sdk::store::QueuedRequestKind;

use super::{
    connect::{self, Store, StoreError},
    drafts,
    session::SavedSession,
};
use crate::client::command::Draft;

/// Drafts and unsent messages of a store.
#[derive(Debug, Default)]
pub struct Leftovers {
    drafts: HashMap<OwnedRoomId, String>,
    /// Messages that waited to be sent, or were refused, in the order of their rooms.
    pub unsent: Vec<(OwnedRoomId, Draft)>,
    /// Other things that waited: files, reactions, edits, deletions.
    pub others: usize,
}

impl Leftovers {
    /// Reads them. Needs no network.
    ///
    /// # Errors
    /// When the store cannot be opened.
    pub async fn read(session: &SavedSession, store: &Store) -> Result<Self, StoreError> {
        let _lock = store.lock()?;
        let client = connect::open(&session.endpoint, &session.base_url, store).await?;
        let mut found = Self { drafts: drafts::load(&client).await, ..Self::default() };
        let queued = async {
            let mut queued = Vec::new();
            for room_id in client.state_store().load_rooms_with_unsent_requests().await? {
                let requests = client.state_store().load_send_queue_requests(&room_id).await?;
                queued.extend(requests.into_iter().map(|request| (room_id.clone(), request.kind)));
            }
            Ok::<_, matrix_sdk::StoreError>(queued)
        };
        let queued = queued.await.map_err(|error| StoreError::Unreachable {
            dir: store.dir.clone(),
            detail: super::words::one_line(&format!("unsent messages cannot be read: {error}"), 160),
        })?;
        for (room_id, kind) in queued {
            match text_of(kind) {
                Some(draft) => found.unsent.push((room_id, draft)),
                None => found.others += 1,
            }
        }
        Ok(found)
    }

    /// Puts the drafts into another store, which nobody has open.
    ///
    /// # Errors
    /// When that store cannot be written.
    pub async fn keep_drafts(&self, session: &SavedSession, store: &Store) -> Result<(), StoreError> {
        if self.drafts.is_empty() {
            return Ok(());
        }
        let _lock = store.lock()?;
        let client = connect::open(&session.endpoint, &session.base_url, store).await?;
        drafts::save(&client, &self.drafts).await.map_err(|error| StoreError::Unreachable {
            dir: store.dir.clone(),
            detail: super::words::one_line(&format!("drafts cannot be saved: {error}"), 160),
        })
    }
}

/// A queued text message as the composer would have it.
fn text_of(kind: QueuedRequestKind) -> Option<Draft> {
    let QueuedRequestKind::Event { content } = kind else { return None };
    let AnyMessageLikeEventContent::RoomMessage(message) = content.deserialize().ok()? else { return None };
    let (reply_to, thread_root) = match message.relates_to {
        None => (None, None),
        Some(Relation::Reply(reply)) => (Some(reply.in_reply_to.event_id), None),
        Some(Relation::Thread(thread)) => (None, Some(thread.event_id)),
        Some(_) => return None,
    };
    let (text, emote) = match message.msgtype {
        MessageType::Text(text) => (text.body, false),
        MessageType::Emote(emote) => (emote.body, true),
        _ => return None,
    };
    Some(Draft { text, emote, literal: false, reply_to, thread_root, mentions: Vec::new() })
}
