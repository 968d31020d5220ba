//! The items of a thread: what the SDK has loaded of it, and what the room's own timeline knows of it meanwhile.
//!
//! The SDK's thread timeline is what was fetched (`GET .../relations`); news of the thread come with the room. Its root comes
//! with the oldest page only, which is too late: nobody reads answers without the question.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ruma::EventId;

use crate::client::view::{Item, ItemId, ItemKind};

/// The root first, then the replies. `fetched` is the root where it is in neither list.
pub(super) fn merged(root: &EventId, fetched: Option<&Arc<Item>>, thread: &[Arc<Item>], around: &[Arc<Item>]) -> Vec<Arc<Item>> {
    // What the room shows is newest: edits, reactions and receipts arrive there.
    let mut live: HashMap<&ItemId, &Arc<Item>> = HashMap::with_capacity(around.len());
    for item in around {
        if let Some(id @ ItemId::Event(_)) = &item.id {
            live.insert(id, item);
        }
    }
    let is_root = |item: &Item| matches!(&item.id, Some(ItemId::Event(id)) if id == root);
    let mut merged: Vec<Arc<Item>> = Vec::with_capacity(thread.len() + 1);
    let begin = around.iter().chain(thread).chain(fetched).find(|item| is_root(item));
    merged.extend(begin.cloned());
    for item in thread.iter().filter(|item| !is_root(item)) {
        let now = item.id.as_ref().and_then(|id| live.remove(id)).unwrap_or(item);
        merged.push(now.clone());
    }
    let from = usize::from(begin.is_some());
    let echoed = echoed(root, thread, around);
    for item in around {
        let Some(id) = &item.id else { continue };
        // Gone from `live`: placed already. Local echoes are in the thread's own list.
        if !belongs(item, root) || !live.contains_key(id) || echoed.contains(&item.unique) {
            continue;
        }
        let earlier = merged.iter().skip(from).rposition(|before| before.timestamp_ms <= item.timestamp_ms);
        merged.insert(from + earlier.map_or(0, |at| at + 1), item.clone());
    }
    merged
}

fn belongs(item: &Item, root: &EventId) -> bool {
    matches!(&item.kind, ItemKind::Message(message) if message.in_thread.as_deref() == Some(root))
}

/// Our own messages that the room has as sent already and the thread, for a moment, still as waiting: for each that waits at
/// most one, the newest with that text, and none that is older. Whoever says the same twice means it.
fn echoed(root: &EventId, thread: &[Arc<Item>], around: &[Arc<Item>]) -> HashSet<u64> {
    fn text(item: &Item) -> Option<&str> {
        match &item.kind {
            ItemKind::Message(message) => Some(message.body.plain.as_str()),
            _ => None,
        }
    }
    let mut hidden = HashSet::new();
    for echo in thread.iter().rev().filter(|item| matches!(item.id, Some(ItemId::Transaction(_)))) {
        let sent = around.iter().rev().find(|item| {
            item.is_own
                && matches!(item.id, Some(ItemId::Event(_)))
                && item.timestamp_ms >= echo.timestamp_ms
                && text(item) == text(echo)
                && belongs(item, root)
                && !hidden.contains(&item.unique)
                && !thread.iter().any(|placed| placed.id == item.id)
        });
        hidden.extend(sent.map(|item| item.unique));
    }
    hidden
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]
    use ruma::{OwnedEventId, owned_event_id};

    use super::*;
    use crate::client::{
        convert,
        view::{Body, Message, MessageKind},
    };

    fn item(id: &str, timestamp_ms: u64, root: Option<&str>) -> Arc<Item> {
        let message = Message {
            kind: MessageKind::Text,
            body: Body { plain: id.to_owned(), html: None },
            edited: false,
            reply: None,
            reactions: Vec::new(),
            thread: None,
            in_thread: root.map(|root| root.try_into().unwrap()),
            mentions: Vec::new(),
            mentions_me: false,
            editable: false,
        };
        let id: OwnedEventId = id.try_into().unwrap();
        Arc::new(Item { id: Some(ItemId::Event(id)), ..convert::aside(ItemKind::Message(message), timestamp_ms, timestamp_ms) })
    }

    fn names(items: &[Arc<Item>]) -> Vec<String> {
        let name = |item: &Arc<Item>| match &item.id {
            Some(ItemId::Event(id)) => Some(id.to_string()),
            _ => None,
        };
        items.iter().filter_map(name).collect()
    }

    #[test]
    fn the_root_stands_first_and_news_of_the_room_at_the_end() {
        let root = owned_event_id!("$root");
        let thread = [item("$3", 3, Some("$root")), item("$4", 4, Some("$root"))];
        let around = [item("$x", 2, None), item("$4", 4, Some("$root")), item("$5", 5, Some("$root")), item("$6", 6, Some("$other"))];
        let fetched = item("$root", 1, None);
        assert_eq!(names(&merged(&root, None, &thread, &around)), ["$3", "$4", "$5"]);
        assert_eq!(names(&merged(&root, Some(&fetched), &thread, &around)), ["$root", "$3", "$4", "$5"]);
        let with_root = [item("$root", 1, None), item("$3", 3, Some("$root"))];
        assert_eq!(names(&merged(&root, Some(&fetched), &with_root, &around)), ["$root", "$3", "$4", "$5"]);
    }

    #[test]
    fn what_the_room_shows_of_a_reply_is_what_the_thread_shows() {
        let root = owned_event_id!("$root");
        let newer = item("$3", 33, Some("$root"));
        let merged = merged(&root, None, &[item("$3", 3, Some("$root"))], std::slice::from_ref(&newer));
        assert!(merged.len() == 1 && merged.iter().all(|item| Arc::ptr_eq(item, &newer)));
    }

    #[test]
    fn a_reply_that_was_sent_a_moment_ago_is_there_once() {
        let root = owned_event_id!("$root");
        let own = |id: ItemId, item: Arc<Item>| Arc::new(Item { id: Some(id), is_own: true, ..Item::clone(&item) });
        let sent = item("$3", 3, Some("$root"));
        let waiting = own(ItemId::Transaction("t".into()), sent.clone());
        let sent = own(ItemId::Event(owned_event_id!("$3")), sent);
        assert_eq!(merged(&root, None, std::slice::from_ref(&waiting), std::slice::from_ref(&sent)).len(), 1);
    }

    #[test]
    fn the_same_words_said_before_do_not_vanish_while_they_are_said_again() {
        let root = owned_event_id!("$root");
        let own = |id: &str, at: u64| {
            let item = item("$same", at, Some("$root"));
            let unique = at;
            let id = if id.starts_with('$') { ItemId::Event(id.try_into().unwrap()) } else { ItemId::Transaction(id.into()) };
            Arc::new(Item { id: Some(id), is_own: true, unique, ..Item::clone(&item) })
        };
        let waiting = own("t", 10);
        let around = [own("$earlier", 3), own("$between", 11), own("$sent", 12)];
        let merged = merged(&root, None, std::slice::from_ref(&waiting), &around);
        assert_eq!(names(&merged), ["$earlier", "$between"], "one is hidden for one that waits, and none that is older");
        assert_eq!(merged.len(), 3);
    }
}
