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
    /// What stood in the composers.
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
    /// When the store cannot be opened or read: what is in it may be the only copy.
    pub async fn read(session: &SavedSession, store: &Store) -> Result<Self, StoreError> {
        let _lock = store.lock()?;
        let client = connect::open(&session.endpoint, &session.base_url, store).await?;
        let lost = |what: &str, error: &matrix_sdk::StoreError| StoreError::Unreachable {
            dir: store.dir.clone(),
            detail: super::words::one_line(&format!("{what} cannot be read: {error}"), 160),
        };
        let mut found = Self { drafts: drafts::load(&client).await.map_err(|error| lost("drafts", &error))?, ..Self::default() };
        let queued = async {
            let mut queued = Vec::new();
            for room_id in client.state_store().load_rooms_with_unsent_requests().await? {
                let requests = client.state_store().load_send_queue_requests(&room_id).await?;
                queued.extend(requests.into_iter().map(|request| (room_id.clone(), request.kind)));
            }
            Ok::<_, matrix_sdk::StoreError>(queued)
        };
        let queued = queued.await.map_err(|error| lost("unsent messages", &error))?;
        for (room_id, kind) in queued {
            match text_of(kind) {
                Some(draft) => found.unsent.push((room_id, draft)),
                None => found.others += 1,
            }
        }
        Ok(found)
    }

    /// The drafts with what was not sent in front of them, as the composers should have it.
    fn folded(&self) -> HashMap<OwnedRoomId, String> {
        let mut drafts = self.drafts.clone();
        for (room_id, draft) in self.unsent.iter().rev() {
            let typed = draft.typed();
            let before = drafts.get(room_id).map(String::as_str).unwrap_or_default();
            let all = if before.is_empty() { typed } else { format!("{typed}\n{before}") };
            // Longer drafts are not kept; the screen still has this one.
            if all.len() <= drafts::MAX_DRAFT_BYTES {
                drafts.insert(room_id.clone(), all);
            }
        }
        drafts
    }

    /// Puts the drafts and what was not sent into the composers of another store, which nobody has open. Afterwards the old
    /// store is needed no more, whatever happens to this process.
    ///
    /// # Errors
    /// When that store cannot be written.
    pub async fn keep_drafts(&self, session: &SavedSession, store: &Store) -> Result<(), StoreError> {
        let drafts = self.folded();
        if drafts.is_empty() {
            return Ok(());
        }
        let _lock = store.lock()?;
        let client = connect::open(&session.endpoint, &session.base_url, store).await?;
        drafts::save(&client, &drafts).await.map_err(|error| StoreError::Unreachable {
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]
    use ruma::owned_room_id;
    use serde_json::json;

    use super::*;
    use crate::client::{command::Secret, session::Endpoint};

    fn session(dir: &std::path::Path) -> SavedSession {
        let endpoint = Endpoint::Socket { path: dir.join("node.sock"), server_name: "home.test".to_owned() };
        let saved = json!({
            "endpoint": serde_json::to_value(endpoint).unwrap(),
            "base_url": "http://localhost/",
            "user_id": "@ann:home.test",
            "device_id": "DEVICE",
            "access_token": "t",
        });
        serde_json::from_value(saved).unwrap()
    }

    fn draft(text: &str, emote: bool) -> Draft {
        Draft { text: text.to_owned(), emote, literal: false, reply_to: None, thread_root: None, mentions: Vec::new() }
    }

    #[tokio::test]
    async fn what_was_not_sent_is_in_the_new_store_before_the_old_one_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (garden, ops) = (owned_room_id!("!garden:home.test"), owned_room_id!("!ops:home.test"));
        let leftovers = Leftovers {
            drafts: HashMap::from([(garden.clone(), "half a thought".to_owned())]),
            unsent: vec![
                (garden.clone(), draft("first", false)),
                (garden.clone(), draft("/etc is full", false)),
                (ops.clone(), draft("waves", true)),
            ],
            others: 0,
        };
        let (session, store) =
            (session(dir.path()), Store { dir: dir.path().join("new"), passphrase: Secret::new("0123456789abcdef".to_owned()) });
        leftovers.keep_drafts(&session, &store).await.unwrap();
        let kept = Leftovers::read(&session, &store).await.unwrap().drafts;
        assert_eq!(kept.get(&garden).map(String::as_str), Some("first\n//etc is full\nhalf a thought"));
        assert_eq!(kept.get(&ops).map(String::as_str), Some("/me waves"));
    }

    #[tokio::test]
    async fn drafts_that_cannot_be_read_are_an_error_and_not_none() {
        let dir = tempfile::tempdir().unwrap();
        let (session, store) =
            (session(dir.path()), Store { dir: dir.path().join("old"), passphrase: Secret::new("0123456789abcdef".to_owned()) });
        let client = connect::open(&session.endpoint, &session.base_url, &store).await.unwrap();
        client.state_store().set_custom_value_no_read(b"homeroom.drafts", b"no map".to_vec()).await.unwrap();
        drop(client);
        assert!(Leftovers::read(&session, &store).await.is_err());
    }
}
