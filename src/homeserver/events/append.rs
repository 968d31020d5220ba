//! From a draft to a stored event: state lookups, building, authorisation, signing.

use std::{collections::BTreeMap, sync::Arc};

use ruma::{OwnedEventId, events::StateEventType};

use super::{
    Appended, Ctx, Draft, EventError, Result, Txn, current,
    persist::{self, Accepted},
    place, policy, resolution, sanity,
};
use crate::homeserver::{
    rooms::{
        auth::{self, Verdict},
        build::{self, MAX_PREV_EVENTS, Template},
    },
    store::{
        Reader, Tx,
        events::{self, Extremity},
        rooms, state,
        transactions::{self, Key},
        users,
    },
    types::{EventNid, Pdu, RoomHandle, UserNid},
};

/// How long a client's transactions are remembered: far longer than any client retries.
const REMEMBERED_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// Old transactions are forgotten with every so many events, rather than by a timer.
const CLEAN_EVERY: i64 = 256;

/// Builds, authorises, signs and stores an event of a local user. Part of the caller's job: an error undoes the whole job.
///
/// A retry of a transaction, and a state event that would change nothing, give the event that is there.
///
/// # Errors
///
/// [`EventError`].
pub fn append(tx: &mut Tx<'_>, ctx: &Ctx, room: &RoomHandle, draft: Draft) -> Result<Appended> {
    let sender = users::intern(tx, &draft.sender)?;
    if let Some(found) = retried(&tx.reader(), sender, draft.txn.as_ref())? {
        return Ok(found);
    }
    let known = Known::load(&tx.reader(), room, &draft)?;
    let appended = match known.unchanged(&draft)? {
        Some(event_id) => Appended { event_id, stored: None },
        None => {
            sanity::check(&tx.reader(), ctx, room, sender, &draft, &known)?;
            build_and_store(tx, ctx, room, sender, &draft, &known)?
        }
    };
    if let Some(txn) = &draft.txn {
        transactions::put(tx, key(sender, txn), appended.event_id.as_str(), ctx.now_ms)?;
        if appended.stored.is_some_and(|(nid, _)| nid.0 % CLEAN_EVERY == 0) {
            transactions::expire(tx, ctx.now_ms.saturating_sub(REMEMBERED_MS))?;
        }
    }
    Ok(appended)
}

fn key(user: UserNid, txn: &Txn) -> Key<'_> {
    Key { user, device_id: &txn.device_id, scope: &txn.scope, txn_id: &txn.txn_id }
}

/// What the same request was answered before.
fn retried(db: &Reader<'_>, sender: UserNid, txn: Option<&Txn>) -> Result<Option<Appended>> {
    let Some(txn) = txn else { return Ok(None) };
    let Some(answer) = transactions::get(db, key(sender, txn))? else { return Ok(None) };
    let event_id = OwnedEventId::try_from(answer).map_err(|e| EventError::Internal(format!("remembered answer: {e}")))?;
    Ok(Some(Appended { event_id, stored: None }))
}

/// The part of the room's current state that decides about a draft.
#[derive(Debug)]
pub(super) struct Known {
    /// The selected auth state, and the create event in any case.
    state: BTreeMap<(StateEventType, String), (EventNid, Arc<Pdu>)>,
    /// The pairs that belong into `auth_events`.
    selection: Vec<(StateEventType, String)>,
    /// What a state event would replace.
    replaced: Option<Arc<Pdu>>,
}

impl Known {
    pub(super) fn load(db: &Reader<'_>, room: &RoomHandle, draft: &Draft) -> Result<Self> {
        let selection = auth::selection(&draft.kind, &draft.sender, draft.state_key.as_deref(), &draft.content, &room.rules.authorization)
            .map_err(EventError::BadJson)?;
        let mut known = Self { state: BTreeMap::new(), selection: Vec::new(), replaced: None };
        let create = (StateEventType::RoomCreate, String::new());
        for pair in selection.iter().chain([&create]) {
            if !known.state.contains_key(pair)
                && let Some(found) = current(db, room, &pair.0.to_string(), &pair.1)?
            {
                known.state.insert(pair.clone(), found);
            }
        }
        if let Some(state_key) = &draft.state_key {
            let pair = (StateEventType::from(draft.kind.as_str()), state_key.clone());
            known.replaced = match known.state.get(&pair) {
                Some((_, pdu)) => Some(Arc::clone(pdu)),
                None => current(db, room, &draft.kind, state_key)?.map(|(_, pdu)| pdu),
            };
        }
        known.selection = selection;
        Ok(known)
    }

    /// An event of the auth state.
    pub(super) fn get(&self, kind: &StateEventType, state_key: &str) -> Option<Arc<Pdu>> {
        self.state.get(&(kind.clone(), state_key.to_owned())).map(|(_, pdu)| Arc::clone(pdu))
    }

    /// What a state event would replace.
    pub(super) fn replaced(&self) -> Option<&Pdu> {
        self.replaced.as_deref()
    }

    fn auth_events(&self) -> impl Iterator<Item = &(EventNid, Arc<Pdu>)> {
        self.selection.iter().filter_map(|pair| self.state.get(pair))
    }

    /// The state event that says the same already.
    fn unchanged(&self, draft: &Draft) -> Result<Option<OwnedEventId>> {
        let Some(replaced) = &self.replaced else { return Ok(None) };
        if replaced.sender() != draft.sender {
            return Ok(None);
        }
        let same = replaced.json().get("content").and_then(|content| content.as_object()).is_some_and(|content| *content == draft.content);
        Ok(same.then(|| replaced.event_id().to_owned()))
    }
}

fn current(db: &Reader<'_>, room: &RoomHandle, kind: &str, state_key: &str) -> Result<Option<(EventNid, Arc<Pdu>)>> {
    let Some(nid) = state::current(db, room.nid, kind, state_key)? else { return Ok(None) };
    Ok(Some((nid, Arc::new(events::by_nid(db, nid)?.pdu(&room.rules)?))))
}

fn build_and_store(tx: &mut Tx<'_>, ctx: &Ctx, room: &RoomHandle, sender: UserNid, draft: &Draft, known: &Known) -> Result<Appended> {
    let mut extremities = events::extremities(&tx.reader(), room.nid)?;
    let all = extremities.len() <= MAX_PREV_EVENTS;
    extremities.truncate(MAX_PREV_EVENTS);
    let (pdu, json) = build(ctx, room, draft, known, &extremities)?;
    authorise(room, &pdu, known)?;
    let txn = draft.txn.as_ref().map(|txn| (txn.txn_id.as_str(), txn.device_id.as_str()));
    let (pdu, json) = match policy::approved(&tx.reader(), ctx, room, &pdu)? {
        None => (pdu, json),
        Some(signed) if signed.event_id() == pdu.event_id() => {
            let json = build::canonical(signed.json())?;
            (signed, json)
        }
        // The room has gone on while its policy server was asked: the event has its place before that.
        Some(signed) => return place::place_with(tx, ctx, room, &signed, &place::Source::Ours, txn),
    };
    let state_before = match rooms::current_group(&tx.reader(), room.nid)? {
        // The current state is that of all extremities together: the one before an event that follows them all.
        Some(group) if all => group,
        _ => {
            let followed: Vec<EventNid> = extremities.iter().map(|extremity| extremity.nid).collect();
            resolution::merged(tx, room, &current::groups_after(tx, room, &followed)?)?
        }
    };
    let auth: Vec<EventNid> = known.auth_events().map(|(nid, _)| *nid).collect();
    let accepted = Accepted { room, pdu: &pdu, json: &json, sender, state_before, auth: &auth, came_from: None, txn };
    let stored = persist::accepted(tx, ctx, &accepted)?;
    Ok(Appended { event_id: pdu.event_id().to_owned(), stored: Some(stored) })
}

pub(super) fn build(ctx: &Ctx, room: &RoomHandle, draft: &Draft, known: &Known, extremities: &[Extremity]) -> Result<(Pdu, String)> {
    let is_create = draft.kind == "m.room.create";
    let template = Template {
        // From version 12 on, the create event does not name the room: the room is named after it.
        room_id: (!is_create || room.rules.event_format.require_room_create_room_id).then_some(&*room.room_id),
        sender: &draft.sender,
        kind: &draft.kind,
        state_key: draft.state_key.as_deref(),
        content: draft.content.clone(),
        redacts: draft.redacts.as_deref(),
        origin_server_ts: draft.timestamp_ms.unwrap_or(ctx.now_ms),
        prev_events: extremities.iter().map(|e| e.event_id.clone()).collect(),
        prev_depth: extremities.iter().map(|e| e.depth).max().unwrap_or(0),
        auth_events: known.auth_events().map(|(_, pdu)| pdu.event_id().to_owned()).collect(),
    };
    let sign = |json: &mut ruma::CanonicalJsonObject| ctx.key.sign_event(ctx.server_name.as_str(), json, &room.rules.redaction);
    Ok(build::build(template, &room.rules, sign)?)
}

/// The event's `auth_events` are the current state's, and the current state is the one before the event: one check is all three.
/// (With more forks than an event can follow, the state before it is that of some of them, which others check it against.)
pub(super) fn authorise(room: &RoomHandle, pdu: &Pdu, known: &Known) -> Result<()> {
    let rules = &room.rules.authorization;
    let by_id = |id: &ruma::EventId| known.state.values().find(|(_, pdu)| pdu.event_id() == id).map(|(_, pdu)| Arc::clone(pdu));
    for verdict in [auth::check_references(rules, pdu, by_id), auth::check_state(rules, pdu, |kind, key| known.get(kind, key))] {
        if let Verdict::Rejected(why) = verdict {
            return Err(EventError::Forbidden(why));
        }
    }
    Ok(())
}
