//! What stands unsent in each room's composer, kept across restarts.
//!
//! All drafts live in one value of the SDK's encrypted state store, so that they load with a single read.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use matrix_sdk::Client;
use ruma::OwnedRoomId;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{context::Context, update::Update};

/// Key of the value in the store.
const KEY: &[u8] = b"homeroom.drafts";
/// Typing is written down at most this often.
const PACE: Duration = Duration::from_millis(400);
/// No draft is kept beyond this many bytes; a paste larger than that is cut at a character.
pub(super) const MAX_DRAFT_BYTES: usize = 4 * 1024 * 1024;

/// A change of one draft.
#[derive(Debug)]
pub(super) enum Change {
    /// What stands in the composer now; an empty text forgets the draft.
    Typed(OwnedRoomId, String),
    /// A text that was on its way when we stopped. It goes after what stands there already.
    Unsent(OwnedRoomId, String),
}

impl Change {
    fn room_id(&self) -> &OwnedRoomId {
        let (Self::Typed(room_id, _) | Self::Unsent(room_id, _)) = self;
        room_id
    }

    fn text(&self) -> &str {
        let (Self::Typed(_, text) | Self::Unsent(_, text)) = self;
        text
    }

    fn forgets(&self) -> bool {
        matches!(self, Self::Typed(_, text) if text.is_empty())
    }
}

/// The drafts as they were written last.
///
/// # Errors
/// When the store cannot be read, or what is in it is none of ours: the drafts may be there, so nobody should give up the store.
pub(super) async fn load(client: &Client) -> Result<HashMap<OwnedRoomId, String>, matrix_sdk::StoreError> {
    match client.state_store().get_custom_value(KEY).await? {
        Some(bytes) => Ok(serde_json::from_slice(&bytes)?),
        None => Ok(HashMap::new()),
    }
}

/// Publishes the saved drafts, then writes changes until the last sender is gone; what is unwritten then is written before
/// it ends. The senders, not the shutdown signal, end it: they may have something to say after the signal.
pub(super) async fn run(context: Context, mut changes: mpsc::Receiver<Change>, ready: oneshot::Sender<()>) {
    let loaded = load(&context.client).await;
    let unreadable = loaded.as_ref().err().map(|error| super::words::one_line(&error.to_string(), 120));
    let mut drafts = loaded.unwrap_or_default();
    context.outlet.drafts.send_replace(Arc::new(drafts.clone()));
    drop(ready);
    if let Some(error) = unreadable {
        tracing::warn!(error, "saved drafts could not be read");
        context.tell(Update::Notice { text: "What you were typing last time could not be read.".to_owned() }).await;
    }
    let mut due: Option<Instant> = None;
    // Rooms whose drafts are cut, and whose owner has been told.
    let mut too_long = HashSet::new();
    loop {
        tokio::select! {
            biased;
            change = changes.recv() => {
                let Some(change) = change else { break };
                // What was sent must not come back as a draft after a kill: that is not put off.
                let pace = if change.forgets() { Duration::ZERO } else { PACE };
                let room_id = change.room_id().clone();
                let cut = change.text().len() > MAX_DRAFT_BYTES;
                if !cut {
                    too_long.remove(&room_id);
                } else if too_long.insert(room_id) {
                    let text = "What stands in the composer is longer than 4 MiB: only its beginning outlives the end of homeroom.";
                    context.tell(Update::Notice { text: text.to_owned() }).await;
                }
                if apply(&mut drafts, change) {
                    let at = Instant::now() + pace;
                    due = Some(due.map_or(at, |due| due.min(at)));
                }
            }
            () = async { match due { Some(due) => tokio::time::sleep_until(due).await, None => std::future::pending().await } } => {
                due = None;
                write(&context, &drafts).await;
            }
        }
    }
    if due.is_some() {
        write(&context, &drafts).await;
    }
    context.outlet.drafts.send_replace(Arc::new(drafts));
}

fn apply(drafts: &mut HashMap<OwnedRoomId, String>, change: Change) -> bool {
    let (room_id, mut text) = match change {
        Change::Typed(room_id, text) => (room_id, text),
        Change::Unsent(room_id, unsent) => {
            let text = match drafts.get(&room_id) {
                Some(typed) => format!("{typed}\n\n{unsent}"),
                None => unsent,
            };
            (room_id, text)
        }
    };
    if text.len() > MAX_DRAFT_BYTES {
        let mut end = MAX_DRAFT_BYTES;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    if text.is_empty() {
        return drafts.remove(&room_id).is_some();
    }
    let changed = drafts.get(&room_id) != Some(&text);
    if changed {
        drafts.insert(room_id, text);
    }
    changed
}

/// Writes all drafts.
pub(super) async fn save(client: &Client, drafts: &HashMap<OwnedRoomId, String>) -> Result<(), matrix_sdk::StoreError> {
    let bytes = serde_json::to_vec(drafts)?;
    client.state_store().set_custom_value_no_read(KEY, bytes).await
}

async fn write(context: &Context, drafts: &HashMap<OwnedRoomId, String>) {
    if let Err(error) = save(&context.client, drafts).await {
        let full = super::words::is_disk_full(&error);
        tracing::warn!(%error, "drafts could not be saved");
        let reason = if full { "the disk is full" } else { "the local store cannot be written" };
        context.tell(Update::Notice { text: format!("What you are typing could not be saved: {reason}.") }).await;
    }
}

#[cfg(test)]
mod tests {
    use ruma::owned_room_id;

    use super::*;

    #[test]
    fn an_empty_text_forgets_and_an_equal_one_changes_nothing() {
        let mut drafts = HashMap::new();
        let room = owned_room_id!("!a:x");
        assert!(apply(&mut drafts, Change::Typed(room.clone(), "hello".to_owned())));
        assert!(!apply(&mut drafts, Change::Typed(room.clone(), "hello".to_owned())));
        assert!(apply(&mut drafts, Change::Typed(room.clone(), String::new())));
        assert!(!apply(&mut drafts, Change::Typed(room, String::new())));
        assert!(drafts.is_empty());
    }

    #[test]
    fn what_could_not_be_sent_is_added_to_what_was_typed() {
        let mut drafts = HashMap::new();
        let room = owned_room_id!("!a:x");
        assert!(apply(&mut drafts, Change::Unsent(room.clone(), "one".to_owned())));
        assert!(apply(&mut drafts, Change::Unsent(room.clone(), "two".to_owned())));
        assert_eq!(drafts.get(&room).map(String::as_str), Some("one\n\ntwo"));
    }

    #[test]
    fn an_enormous_draft_is_cut_at_a_character() {
        let mut drafts = HashMap::new();
        let room = owned_room_id!("!a:x");
        apply(&mut drafts, Change::Typed(room.clone(), "ä".repeat(MAX_DRAFT_BYTES)));
        assert!(drafts.get(&room).is_some_and(|text| text.len() <= MAX_DRAFT_BYTES));
    }
}
