//! The SDK's timeline items mirrored as view items: unchanged ones keep their `Arc`, changed ones get a higher revision.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use eyeball_im::VectorDiff;
use matrix_sdk_ui::timeline::TimelineItem;
use ruma::OwnedUserId;

use super::convert::{self, Names};
use crate::client::view::{Item, ItemId};

/// The items that a change brings.
pub(super) fn values(diff: &VectorDiff<Arc<TimelineItem>>) -> Box<dyn Iterator<Item = &Arc<TimelineItem>> + Send + '_> {
    match diff {
        VectorDiff::Append { values } | VectorDiff::Reset { values } => Box::new(values.iter()),
        VectorDiff::PushFront { value }
        | VectorDiff::PushBack { value }
        | VectorDiff::Insert { value, .. }
        | VectorDiff::Set { value, .. } => Box::new(std::iter::once(value)),
        VectorDiff::Clear | VectorDiff::PopFront | VectorDiff::PopBack | VectorDiff::Remove { .. } | VectorDiff::Truncate { .. } => {
            Box::new(std::iter::empty())
        }
    }
}

/// The SDK's items as view items, in the same order.
pub(super) struct Mirror {
    me: OwnedUserId,
    uniques: Arc<AtomicU64>,
    /// The SDK's names of items, as numbers that no other timeline uses.
    ids: HashMap<String, u64>,
    /// The last form of each item, so that its revision grows and equal forms stay one `Arc`.
    last: HashMap<u64, Arc<Item>>,
    /// Numbers of events that the SDK may bring under a new name.
    events: HashMap<ItemId, u64>,
    items: Vec<Arc<Item>>,
}

impl Mirror {
    pub(super) fn new(me: OwnedUserId, uniques: Arc<AtomicU64>) -> Self {
        Self { me, uniques, ids: HashMap::new(), last: HashMap::new(), events: HashMap::new(), items: Vec::new() }
    }

    fn convert(&mut self, item: &TimelineItem, names: &Names) -> Arc<Item> {
        let id = &item.unique_id().0;
        let unique = match self.ids.get(id) {
            Some(unique) => *unique,
            None => {
                let event = item.as_event().and_then(|event| event.event_id()).map(|id| ItemId::Event(id.to_owned()));
                let unique = match event.and_then(|event| self.events.get(&event)) {
                    Some(unique) => *unique,
                    None => self.uniques.fetch_add(1, Ordering::Relaxed),
                };
                self.ids.insert(id.clone(), unique);
                unique
            }
        };
        let now = convert::item(item, unique, &self.me, names);
        self.keep(now)
    }

    /// The old form where nothing changed, else the new one with the next revision.
    pub(super) fn keep(&mut self, mut now: Item) -> Arc<Item> {
        if let Some(before) = self.last.get(&now.unique) {
            now.revision = before.revision;
            if **before == now {
                return before.clone();
            }
            now.revision = before.revision.wrapping_add(1);
        }
        let now = Arc::new(now);
        self.last.insert(now.unique, now.clone());
        now
    }

    /// Applies one change.
    pub(super) fn apply(&mut self, diff: VectorDiff<Arc<TimelineItem>>, names: &Names) {
        match diff {
            VectorDiff::Append { values } => {
                for value in &values {
                    let item = self.convert(value, names);
                    self.items.push(item);
                }
            }
            VectorDiff::Clear => self.items.clear(),
            VectorDiff::PushFront { value } => self.insert(0, &value, names),
            VectorDiff::PushBack { value } => self.insert(self.items.len(), &value, names),
            VectorDiff::PopFront => self.remove(0),
            VectorDiff::PopBack => {
                self.items.pop();
            }
            VectorDiff::Insert { index, value } => self.insert(index, &value, names),
            VectorDiff::Set { index, value } => {
                let item = self.convert(&value, names);
                match self.items.get_mut(index) {
                    Some(slot) => *slot = item,
                    None => tracing::error!(index, "a timeline change lies outside the timeline"),
                }
            }
            VectorDiff::Remove { index } => self.remove(index),
            VectorDiff::Truncate { length } => self.items.truncate(length),
            VectorDiff::Reset { values } => {
                self.items.clear();
                for value in &values {
                    let item = self.convert(value, names);
                    self.items.push(item);
                }
            }
        }
        self.forget();
    }

    fn insert(&mut self, index: usize, value: &TimelineItem, names: &Names) {
        let item = self.convert(value, names);
        self.items.insert(index.min(self.items.len()), item);
    }

    fn remove(&mut self, index: usize) {
        if index < self.items.len() {
            self.items.remove(index);
        }
    }

    /// Drops what is remembered of items that went long ago.
    fn forget(&mut self) {
        if self.last.len() > self.items.len().saturating_mul(2).saturating_add(200) {
            let here: HashSet<u64> = self.items.iter().map(|item| item.unique).collect();
            self.last.retain(|unique, _| here.contains(unique));
            self.ids.retain(|_, unique| here.contains(unique));
            self.events.retain(|_, unique| here.contains(unique));
        }
    }

    /// How many events there are.
    pub(super) fn messages(&self) -> usize {
        self.items.iter().filter(|item| item.id.is_some()).count()
    }

    /// True when this message is there.
    pub(super) fn has(&self, id: &ItemId) -> bool {
        self.items.iter().any(|item| item.id.as_ref() == Some(id))
    }

    /// The items, oldest first.
    pub(super) fn items(&self) -> &[Arc<Item>] {
        &self.items
    }

    /// True when an event is there twice. The SDK does that when a sync brings events just while it builds the timeline, which
    /// happens with a room that we have just made or joined, or when it fell behind; every later change then hits the wrong item.
    pub(super) fn holds_an_event_twice(&self) -> bool {
        let mut seen = HashSet::with_capacity(self.items.len());
        let events = self.items.iter().filter_map(|item| item.id.as_ref()).filter(|id| matches!(id, ItemId::Event(_)));
        events.into_iter().any(|id| !seen.insert(id))
    }

    /// A number for an item that is not the SDK's, or the one that this event had before.
    pub(super) fn unique(&mut self, id: Option<&ItemId>) -> u64 {
        let uniques = &self.uniques;
        let new = || uniques.fetch_add(1, Ordering::Relaxed);
        match id {
            Some(id) => *self.events.entry(id.clone()).or_insert_with(new),
            None => new(),
        }
    }

    /// An empty one for the same timeline built anew: events keep their numbers, so that the screen's place is kept.
    pub(super) fn anew(&self) -> Self {
        let mut anew = Self::new(self.me.clone(), self.uniques.clone());
        anew.last = self.last.clone();
        anew.events = self.events.clone();
        let events = self.items.iter().filter_map(|item| Some((item.id.clone()?, item.unique)));
        for (id, unique) in events.filter(|(id, _)| matches!(id, ItemId::Event(_))) {
            anew.events.entry(id).or_insert(unique);
        }
        anew
    }
}

#[cfg(test)]
mod tests {
    use ruma::{owned_event_id, owned_user_id};

    use super::*;
    use crate::client::view::ItemKind;

    fn divider(unique: u64, timestamp_ms: u64) -> Item {
        convert::aside(ItemKind::ReadMarker, timestamp_ms, unique)
    }

    #[test]
    fn an_equal_item_stays_the_same_arc_and_a_changed_one_gets_a_higher_revision() {
        let mut mirror = Mirror::new(owned_user_id!("@a:x"), Arc::new(AtomicU64::new(1)));
        let first = mirror.keep(divider(1, 10));
        let again = mirror.keep(divider(1, 10));
        assert!(Arc::ptr_eq(&first, &again));
        let changed = mirror.keep(divider(1, 11));
        assert_eq!(changed.revision, 1);
        let back = mirror.keep(divider(1, 10));
        assert_eq!(back.revision, 2, "going back to an earlier form is a change, too");
    }

    #[test]
    fn an_event_that_is_there_twice_is_noticed_and_keeps_its_number_when_the_timeline_is_built_anew() {
        let mut mirror = Mirror::new(owned_user_id!("@a:x"), Arc::new(AtomicU64::new(1)));
        let event = |id| Some(ItemId::Event(id));
        let once = mirror.unique(event(owned_event_id!("$1")).as_ref());
        mirror.items.push(Arc::new(Item { id: event(owned_event_id!("$1")), ..divider(once, 1) }));
        mirror.items.push(Arc::new(divider(7, 1)));
        mirror.items.push(Arc::new(divider(8, 1)));
        mirror.items.push(Arc::new(Item { id: event(owned_event_id!("$2")), ..divider(2, 1) }));
        assert!(!mirror.holds_an_event_twice(), "dividers are no events");
        mirror.items.push(Arc::new(Item { id: event(owned_event_id!("$1")), ..divider(9, 1) }));
        assert!(mirror.holds_an_event_twice());
        let mut anew = mirror.anew();
        assert!(anew.items().is_empty());
        assert_eq!(anew.unique(event(owned_event_id!("$1")).as_ref()), once);
    }
}
