//! Stored events as one viewer is shown them, with what the server adds.

use std::{
    borrow::Cow,
    cell::{OnceCell, RefCell},
    collections::HashMap,
};

use ruma::{OwnedUserId, RoomId};
use serde_json::value::RawValue;

use super::{EventError, Result, visibility::History};
use crate::homeserver::{
    rooms::{
        build,
        format::{self, Reference, References, Relations, Thread, Unsigned},
        redact,
    },
    store::{
        Reader, account_data, accounts,
        events::{self, StoredEvent},
        members::{self, Change},
        relations::{self, Audience},
        state, users,
    },
    types::{EventNid, Requester, RoomHandle, StreamPos, UserNid},
};

/// References that one event's aggregation lists at most.
const MAX_REFERENCES: usize = 100;

/// Who looks.
#[derive(Debug, Clone)]
pub struct Viewer {
    /// The user.
    pub user: UserNid,
    /// Their device: it alone is told its transaction IDs.
    pub device_id: String,
    /// Now, in milliseconds since the Unix epoch.
    pub now_ms: u64,
}

impl Viewer {
    /// Who makes a request.
    #[must_use]
    pub fn of(requester: &Requester, now_ms: u64) -> Self {
        Self { user: requester.user, device_id: requester.device_id.to_string(), now_ms }
    }
}

/// Which aggregations to add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bundle {
    All,
    Edit,
    None,
}

/// Shows events of one room to one viewer. Whether they may see them at all is decided elsewhere.
#[derive(Debug)]
pub struct View<'a, 'db> {
    db: &'a Reader<'db>,
    room: &'a RoomHandle,
    viewer: &'a Viewer,
    changes: Vec<Change>,
    room_id: Option<&'a RoomId>,
    /// As servers have events, rather than as clients do.
    federated: bool,
    /// Senders that were looked up: where in the stream they asked for erasure.
    erased: RefCell<HashMap<UserNid, Option<StreamPos>>>,
    /// Looked up for the first event that others relate to.
    sight: OnceCell<Sight<'a, 'db>>,
}

/// What decides which relations the viewer is told of.
#[derive(Debug)]
struct Sight<'a, 'db> {
    /// `None` for a viewer that is no user.
    history: Option<History<'a, 'db>>,
    /// JSON array of those whom they ignore.
    ignored: String,
}

/// The integer ids of those whom a user ignores, as a JSON array.
///
/// # Errors
///
/// Store errors.
pub fn ignored(db: &Reader<'_>, user: UserNid) -> Result<String> {
    let mut found = Vec::new();
    for user_id in account_data::ignored_users(db, user)?.into_iter().filter_map(|id| OwnedUserId::try_from(id).ok()) {
        found.extend(users::find(db, &user_id)?.map(|user| user.0.to_string()));
    }
    Ok(format!("[{}]", found.join(",")))
}

impl<'a, 'db> View<'a, 'db> {
    /// Events with their room ID.
    ///
    /// # Errors
    ///
    /// Store errors.
    pub fn new(db: &'a Reader<'db>, room: &'a RoomHandle, viewer: &'a Viewer) -> Result<Self> {
        Ok(Self {
            db,
            room,
            viewer,
            changes: members::changes(db, room.nid, viewer.user)?,
            room_id: Some(&room.room_id),
            federated: false,
            erased: RefCell::default(),
            sight: OnceCell::new(),
        })
    }

    /// Events without their room ID, as `/sync` has them.
    #[must_use]
    pub fn for_sync(mut self) -> Self {
        self.room_id = None;
        self
    }

    /// Events as servers have them, if so wished.
    #[must_use]
    pub fn federated(mut self, wished: bool) -> Self {
        self.federated = wished;
        self
    }

    /// An event with everything that belongs to it.
    ///
    /// # Errors
    ///
    /// Store errors.
    pub fn event(&self, event: &StoredEvent) -> Result<Box<RawValue>> {
        self.render(event, Bundle::All)
    }

    /// The same, by integer id.
    ///
    /// # Errors
    ///
    /// Store errors.
    pub fn by_nid(&self, event: EventNid) -> Result<Box<RawValue>> {
        self.event(&events::by_nid(self.db, event)?)
    }

    /// A state event without aggregations: for lists of state.
    ///
    /// # Errors
    ///
    /// Store errors.
    pub fn state(&self, event: EventNid) -> Result<Box<RawValue>> {
        self.render(&events::by_nid(self.db, event)?, Bundle::None)
    }

    /// The viewer's membership at a place in the stream, that place included.
    #[must_use]
    pub fn membership_at(&self, pos: StreamPos) -> &str {
        self.changes.iter().rev().find(|change| change.pos <= pos).map_or("leave", |change| &change.membership)
    }

    /// The content of an event alone.
    ///
    /// # Errors
    ///
    /// Store errors.
    pub fn content(&self, event: &StoredEvent) -> Result<Box<RawValue>> {
        let json = if self.is_erased(event)? { Cow::Owned(self.pruned(event)?) } else { Cow::Borrowed(&event.json) };
        format::content(&json).map_err(|e| bad(event, &e))
    }

    fn pruned(&self, event: &StoredEvent) -> Result<String> {
        let pruned = redact::prune(event.pdu(&self.room.rules)?.json(), &self.room.rules.redaction).map_err(EventError::Internal)?;
        Ok(build::canonical(&pruned)?)
    }

    fn render(&self, event: &StoredEvent, bundle: Bundle) -> Result<Box<RawValue>> {
        let mut unsigned = Unsigned { age: self.age(event), ..Unsigned::default() };
        if let Some(pos) = event.pos {
            unsigned.membership = Some(self.membership_at(pos).to_owned());
            self.add_replaced(event, pos, &mut unsigned)?;
        }
        if let Some((txn_id, device_id)) = &event.txn
            && event.sender == self.viewer.user
            && *device_id == self.viewer.device_id
        {
            unsigned.transaction_id = Some(txn_id.clone());
        }
        if let Some(by) = event.redacted_by {
            unsigned.redacted_because = Some(self.render(&events::by_nid(self.db, by)?, Bundle::None)?);
        }
        if self.is_erased(event)? {
            // What remains of it: no edits, no content, and no trace of what it replaced.
            (unsigned.prev_content, unsigned.relations) = (None, None);
            let json = self.pruned(event)?;
            return self.formed(event, &json, &unsigned);
        }
        unsigned.relations = self.relations(event, bundle)?;
        self.formed(event, &event.json, &unsigned)
    }

    fn formed(&self, event: &StoredEvent, json: &str, unsigned: &Unsigned) -> Result<Box<RawValue>> {
        let formed = match self.federated {
            true => format::federation_event(&event.event_id, json, unsigned),
            false => format::client_event(&event.event_id, self.room_id, json, unsigned),
        };
        formed.map_err(|e| bad(event, &e))
    }

    /// Has the sender asked for erasure, and was the viewer in the room at no time before (Client-Server API, `erase` of
    /// `POST /account/deactivate`)? The room's state is not theirs alone: without its encryption, power levels or name the
    /// room would be another one to the viewer. Of state, a member's own name and picture go.
    ///
    /// # Errors
    ///
    /// Store errors.
    pub fn is_erased(&self, event: &StoredEvent) -> Result<bool> {
        if event.state_key.is_some() && event.kind != "m.room.member" {
            return Ok(false);
        }
        let known = self.erased.borrow().get(&event.sender).copied();
        let erased = match known {
            Some(known) => known,
            None => {
                let found = accounts::erased_at(self.db, event.sender)?;
                self.erased.borrow_mut().insert(event.sender, found);
                found
            }
        };
        Ok(erased.is_some_and(|at| !self.changes.iter().any(|change| change.membership == "join" && change.pos <= at)))
    }

    fn age(&self, event: &StoredEvent) -> Option<i64> {
        i64::try_from(self.viewer.now_ms).ok().map(|now| now.saturating_sub(event.origin_server_ts))
    }

    fn add_replaced(&self, event: &StoredEvent, pos: StreamPos, unsigned: &mut Unsigned) -> Result<()> {
        let Some(key) = event.state_key else { return Ok(()) };
        let Some(before) = state::replaced_at(self.db, self.room.nid, pos, key)? else { return Ok(()) };
        let before = events::by_nid(self.db, before)?;
        unsigned.prev_content = Some(self.content(&before)?);
        unsigned.prev_sender = Some(users::user_id(self.db, before.sender)?.into());
        unsigned.replaces_state = Some(before.event_id.into());
        Ok(())
    }

    fn relations(&self, event: &StoredEvent, bundle: Bundle) -> Result<Option<Relations>> {
        if bundle == Bundle::None {
            return Ok(None);
        }
        let types = relations::types(self.db, event.room, &event.event_id)?;
        if !types.iter().any(|found| matches!(found.as_str(), "m.replace" | "m.thread" | "m.reference")) {
            return Ok(None);
        }
        let audience = self.audience(event)?;
        let has = |rel_type: &str| types.iter().any(|found| found == rel_type);
        let mut bundled = Relations::default();
        // Neither state nor redacted events nor edits can be edited.
        let editable = event.state_key.is_none() && event.redacted_by.is_none();
        if has("m.replace")
            && editable
            && relations::of_child(self.db, event.nid)?.is_none_or(|(rel_type, _)| rel_type != "m.replace")
            && let Some(edit) = relations::newest_edit(self.db, event.room, &event.event_id, (event.sender, &event.kind), &audience)?
        {
            bundled.replace = Some(self.render(&events::by_nid(self.db, edit)?, Bundle::None)?);
        }
        if bundle == Bundle::All && has("m.thread") {
            bundled.thread = self.thread(event, &audience)?;
        }
        if bundle == Bundle::All && has("m.reference") {
            let ids = relations::references(self.db, event.room, &event.event_id, &audience, MAX_REFERENCES)?;
            let chunk: Vec<_> = ids.into_iter().map(|event_id| Reference { event_id }).collect();
            bundled.references = (!chunk.is_empty()).then_some(References { chunk });
        }
        Ok((!bundled.is_empty()).then_some(bundled))
    }

    /// Who the viewer is to what relates to this event.
    fn audience(&self, event: &StoredEvent) -> Result<Audience> {
        let sight = match self.sight.get() {
            Some(sight) => sight,
            None => {
                let user_id = users::known(self.db, self.viewer.user)?;
                let history = user_id.map(|id| History::new(self.db, self.room, self.viewer.user, &id)).transpose()?;
                let ignored = ignored(self.db, self.viewer.user)?;
                self.sight.get_or_init(|| Sight { history, ignored })
            }
        };
        match &sight.history {
            Some(history) => history.audience(event, &sight.ignored),
            None => {
                let never = StreamPos(i64::MAX);
                Ok(Audience { from: never, last_join: never, stretches: "[]".to_owned(), ignored: sight.ignored.clone() })
            }
        }
    }

    fn thread(&self, root: &StoredEvent, audience: &Audience) -> Result<Option<Thread>> {
        let found = relations::thread(self.db, root.room, &root.event_id, self.viewer.user, audience)?;
        let Some((count, newest, takes_part)) = found else { return Ok(None) };
        Ok(Some(Thread {
            latest_event: self.render(&events::by_nid(self.db, newest)?, Bundle::Edit)?,
            count,
            current_user_participated: takes_part || root.sender == self.viewer.user,
        }))
    }
}

fn bad(event: &StoredEvent, error: &serde_json::Error) -> EventError {
    EventError::Internal(format!("event {}: {error}", event.event_id))
}
