//! Events for checks that take closures: what was read once is kept, and a store error is not taken for an absent event.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use ruma::EventId;

use crate::homeserver::{
    events::{EventError, Result},
    rooms::auth::{self, Verdict},
    store::{Reader, StoreError, events},
    types::{EventNid, Pdu, RoomHandle},
};

/// Reads events of a room for one check.
pub(super) struct Lookup<'a, 'db> {
    db: &'a Reader<'db>,
    room: &'a RoomHandle,
    known: RefCell<HashMap<EventNid, Arc<Pdu>>>,
    failure: RefCell<Option<StoreError>>,
}

impl<'a, 'db> Lookup<'a, 'db> {
    pub(super) fn new(db: &'a Reader<'db>, room: &'a RoomHandle) -> Self {
        Self { db, room, known: RefCell::default(), failure: RefCell::default() }
    }

    /// An event by its ID, whichever room it is of: the rules themselves refuse what is of another.
    pub(super) fn by_id(&self, event_id: &EventId) -> Option<Arc<Pdu>> {
        self.guarded(|| {
            let Some(event) = events::by_id(self.db, event_id)? else { return Ok(None) };
            Ok(Some(Arc::new(event.pdu(&self.room.rules)?)))
        })
    }

    fn by_nid(&self, nid: EventNid) -> Result<Arc<Pdu>, StoreError> {
        if let Some(found) = self.known.borrow().get(&nid) {
            return Ok(Arc::clone(found));
        }
        let pdu = Arc::new(events::by_nid(self.db, nid)?.pdu(&self.room.rules)?);
        self.known.borrow_mut().insert(nid, Arc::clone(&pdu));
        Ok(pdu)
    }

    fn guarded(&self, find: impl FnOnce() -> Result<Option<Arc<Pdu>>, StoreError>) -> Option<Arc<Pdu>> {
        find().unwrap_or_else(|error| {
            self.failure.borrow_mut().get_or_insert(error);
            None
        })
    }

    /// The verdict, unless a look-up failed on the way to it.
    pub(super) fn settle(&self, verdict: Verdict) -> Result<Verdict> {
        match self.failure.take() {
            Some(error) => Err(EventError::Store(error)),
            None => Ok(verdict),
        }
    }
}

/// Checks an event against a state in which `find` looks keys up.
pub(super) fn judge(
    lookup: &Lookup<'_, '_>,
    pdu: &Pdu,
    find: impl Fn(&str, &str) -> Result<Option<EventNid>, StoreError>,
) -> Result<Verdict> {
    let rules = &lookup.room.rules.authorization;
    let verdict = auth::check_state(rules, pdu, |kind, key| {
        lookup.guarded(|| find(&kind.to_string(), key)?.map(|nid| lookup.by_nid(nid)).transpose())
    });
    lookup.settle(verdict)
}
