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
/// What could not be written is tried again after this.
const AGAIN: Duration = Duration::from_secs(5);
/// No draft is kept beyond this many bytes; a paste larger than that is cut at a character.
pub(super) const MAX_DRAFT_BYTES: usize = 4 * 1024 * 1024;

/// A change of one draft.
#[derive(Debug)]
pub(super) enum Change {
    /// What stands in the composer now; an empty text forgets the draft.
    Typed(OwnedRoomId, String),
    /// A text that was on its way when we stopped. It goes after what stands there already.
    Unsent(OwnedRoomId, String),
    /// A text, with a number, is to be sent: until the queue has it, it is nowhere else.
    Flying(OwnedRoomId, u64, String),
    /// The queue has it, or it has come back.
    Landed(OwnedRoomId, u64),
}

/// Texts on their way into the queue, in the order in which they were sent.
#[derive(Debug, Default)]
struct Flying(HashMap<OwnedRoomId, Vec<(u64, String)>>);

impl Flying {
    fn takes_off(&mut self, room_id: OwnedRoomId, number: u64, text: String) {
        self.0.entry(room_id).or_default().push((number, text));
    }

    fn landed(&mut self, room_id: &OwnedRoomId, number: u64) {
        if let Some(texts) = self.0.get_mut(room_id) {
            texts.retain(|(flying, _)| *flying != number);
            if texts.is_empty() {
                self.0.remove(room_id);
            }
        }
    }

    /// What is to be found after a kill: these texts, each in front of what stands in its room's composer.
    fn with(&self, drafts: &HashMap<OwnedRoomId, String>) -> HashMap<OwnedRoomId, String> {
        let mut all = drafts.clone();
        for (room_id, texts) in &self.0 {
            let typed = drafts.get(room_id).map(String::as_str);
            let texts: Vec<&str> = texts.iter().map(|(_, text)| text.as_str()).chain(typed).collect();
            all.insert(room_id.clone(), texts.join("\n\n"));
        }
        all
    }
}

impl Change {
    /// What it puts into a room's composer.
    fn stands(&self) -> Option<(&OwnedRoomId, &str)> {
        match self {
            Self::Typed(room_id, text) | Self::Unsent(room_id, text) => Some((room_id, text)),
            Self::Flying(..) | Self::Landed(..) => None,
        }
    }

    fn forgets(&self) -> bool {
        matches!(self, Self::Landed(..)) || matches!(self, Self::Typed(_, text) if text.is_empty())
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
    let mut failing = false;
    let (mut flying, mut written) = (Flying::default(), drafts.clone());
    loop {
        tokio::select! {
            biased;
            change = changes.recv() => {
                let Some(change) = change else { break };
                // What was sent must not come back as a draft after a kill: that is not put off.
                let pace = if change.forgets() { Duration::ZERO } else { PACE };
                let stands = change.stands().map(|(room_id, text)| (room_id.clone(), text.len() > MAX_DRAFT_BYTES));
                if let Some((room_id, false)) = &stands {
                    too_long.remove(room_id);
                } else if let Some((room_id, true)) = stands
                    && too_long.insert(room_id)
                {
                    let text = "What stands in the composer is longer than 4 MiB: only its beginning outlives the end of homeroom.";
                    context.tell(Update::Notice { text: text.to_owned() }).await;
                }
                if apply(&mut drafts, &mut flying, change) {
                    let at = Instant::now() + pace;
                    due = Some(due.map_or(at, |due| due.min(at)));
                }
            }
            () = async { match due { Some(due) => tokio::time::sleep_until(due).await, None => std::future::pending().await } } => {
                let all = flying.with(&drafts);
                // What has landed meanwhile need not be written at all.
                let saved = (all == written && !failing) || write(&context, &all, failing).await;
                if saved && failing {
                    context.tell(Update::News { text: "What you are typing is saved again.".to_owned() }).await;
                }
                failing = !saved;
                if saved {
                    written = all;
                }
                // Also what stands there unchanged: nothing else would ever write it.
                due = failing.then(|| Instant::now() + AGAIN);
            }
        }
    }
    if due.is_some() {
        write(&context, &flying.with(&drafts), failing).await;
    }
    context.outlet.drafts.send_replace(Arc::new(drafts));
}

fn apply(drafts: &mut HashMap<OwnedRoomId, String>, flying: &mut Flying, change: Change) -> bool {
    let (room_id, mut text) = match change {
        Change::Flying(room_id, number, text) => {
            flying.takes_off(room_id, number, text);
            return true;
        }
        Change::Landed(room_id, number) => {
            flying.landed(&room_id, number);
            return true;
        }
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

/// Writes them, or says that they could not be written, once (`failing`: it has been said). True when they are on disk.
async fn write(context: &Context, drafts: &HashMap<OwnedRoomId, String>, failing: bool) -> bool {
    let saved = save(&context.client, drafts).await;
    if let Err(error) = &saved
        && !failing
    {
        let full = super::words::is_disk_full(error);
        tracing::warn!(%error, "drafts could not be saved");
        let reason = if full { "the disk is full" } else { "the local store cannot be written" };
        context.tell(Update::Notice { text: format!("What you are typing could not be saved: {reason}.") }).await;
    }
    saved.is_ok()
}

#[cfg(test)]
mod tests {
    use ruma::owned_room_id;

    use super::*;

    #[test]
    fn an_empty_text_forgets_and_an_equal_one_changes_nothing() {
        let mut drafts = HashMap::new();
        let room = owned_room_id!("!a:x");
        assert!(apply(&mut drafts, &mut Flying::default(), Change::Typed(room.clone(), "hello".to_owned())));
        assert!(!apply(&mut drafts, &mut Flying::default(), Change::Typed(room.clone(), "hello".to_owned())));
        assert!(apply(&mut drafts, &mut Flying::default(), Change::Typed(room.clone(), String::new())));
        assert!(!apply(&mut drafts, &mut Flying::default(), Change::Typed(room, String::new())));
        assert!(drafts.is_empty());
    }

    #[test]
    fn what_could_not_be_sent_is_added_to_what_was_typed() {
        let mut drafts = HashMap::new();
        let room = owned_room_id!("!a:x");
        assert!(apply(&mut drafts, &mut Flying::default(), Change::Unsent(room.clone(), "one".to_owned())));
        assert!(apply(&mut drafts, &mut Flying::default(), Change::Unsent(room.clone(), "two".to_owned())));
        assert_eq!(drafts.get(&room).map(String::as_str), Some("one\n\ntwo"));
    }

    /// Enter was pressed: the composer lets go of the text, which waits behind something else; then more is typed.
    #[test]
    fn a_text_is_among_the_drafts_until_the_queue_has_it() {
        let (mut drafts, mut flying, room) = (HashMap::new(), Flying::default(), owned_room_id!("!a:x"));
        let stored = |drafts: &HashMap<_, _>, flying: &Flying| flying.with(drafts).get(&owned_room_id!("!a:x")).cloned();
        for change in [
            Change::Typed(room.clone(), "first".to_owned()),
            Change::Flying(room.clone(), 1, "first".to_owned()),
            Change::Typed(room.clone(), String::new()),
            Change::Flying(room.clone(), 2, "/me waves".to_owned()),
        ] {
            apply(&mut drafts, &mut flying, change);
        }
        assert_eq!(stored(&drafts, &flying).as_deref(), Some("first\n\n/me waves"));
        apply(&mut drafts, &mut flying, Change::Typed(room.clone(), "newer".to_owned()));
        assert!(Change::Landed(room.clone(), 1).forgets(), "what was sent does not come back after a kill");
        apply(&mut drafts, &mut flying, Change::Landed(room.clone(), 1));
        assert_eq!(stored(&drafts, &flying).as_deref(), Some("/me waves\n\nnewer"));
        apply(&mut drafts, &mut flying, Change::Landed(room, 2));
        assert_eq!(stored(&drafts, &flying).as_deref(), Some("newer"));
        assert!(flying.0.is_empty());
    }

    #[test]
    fn an_enormous_draft_is_cut_at_a_character() {
        let mut drafts = HashMap::new();
        let room = owned_room_id!("!a:x");
        apply(&mut drafts, &mut Flying::default(), Change::Typed(room.clone(), "ä".repeat(MAX_DRAFT_BYTES)));
        assert!(drafts.get(&room).is_some_and(|text| text.len() <= MAX_DRAFT_BYTES));
    }
}
