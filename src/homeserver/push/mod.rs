//! Push rules: what each new event means to each local user, and the counts that follow from it.
//!
//! Evaluated inside the transaction that stores the event, so counts and events appear together.

pub mod gateway;
pub mod reading;
pub mod sender;

use futures_util::FutureExt;
use ruma::{
    OwnedUserId, UInt, UserId,
    events::{
        TimelineEventType,
        room::{
            create::RoomCreateEventContent,
            power_levels::{RoomPowerLevels, RoomPowerLevelsEventContent, RoomPowerLevelsSource},
        },
    },
    push::{FlattenedJson, PushConditionPowerLevelsCtx, PushConditionRoomCtx, Ruleset},
    serde::Raw,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    events::invites,
    rooms::relation,
    store::{
        Reader, Result, StoreError, Tx,
        account_data::{self, AccountData},
        events, held_invites, members,
        push::{self, Action, Recipient},
        pushers::{self, Notification},
        relations, state, threads,
    },
    types::{EventNid, Pdu, RoomHandle, StreamPos, UserNid},
};

/// Type of the account data that holds a user's rules.
pub const RULES: &str = "m.push_rules";
/// The thread of events that belong to none.
pub const MAIN: &str = "main";

/// A new event.
#[derive(Debug)]
pub struct NewEvent<'a> {
    /// Its room.
    pub room: &'a RoomHandle,
    /// The event.
    pub pdu: &'a Pdu,
    /// In the store.
    pub nid: EventNid,
    /// Its place.
    pub pos: StreamPos,
    /// Its sender.
    pub sender: UserNid,
    /// Now, in milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// The content of `m.push_rules`.
#[derive(Debug, Deserialize)]
struct Content {
    global: Ruleset,
}

/// The rules that everybody has from the start (Client-Server API, "Predefined Rules").
#[must_use]
pub fn default_rules(user_id: &UserId) -> Ruleset {
    let mut rules = Ruleset::server_default(user_id);
    // Rules of thread subscriptions are for those who have any: to others, threads would fall silent.
    rules.postcontent.clear();
    rules
}

/// The same for a user who follows threads, or not.
fn default_rules_with(user_id: &UserId, threads: bool) -> Ruleset {
    if threads { Ruleset::server_default(user_id) } else { default_rules(user_id) }
}

fn parse(content: &str, user_id: &UserId, threads: bool) -> Ruleset {
    let defaults = default_rules_with(user_id, threads);
    match serde_json::from_str::<Content>(content) {
        Ok(Content { global: mut rules }) => {
            // ruma leaves these alone.
            let mut about_threads = defaults.postcontent.clone();
            about_threads =
                about_threads.into_iter().map(|rule| rules.postcontent.shift_take(rule.rule_id.as_str()).unwrap_or(rule)).collect();
            rules.update_with_server_default(defaults);
            rules.postcontent = about_threads;
            rules
        }
        Err(error) => {
            tracing::error!(%error, %user_id, "stored push rules cannot be read; the default rules apply");
            defaults
        }
    }
}

/// A user's rules.
///
/// # Errors
///
/// Database errors.
pub fn rules(db: &Reader<'_>, user: UserNid, user_id: &UserId) -> Result<Ruleset> {
    let about_threads = threads::in_use(db, user)?;
    Ok(match account_data::get(db, user, None, RULES)? {
        Some(content) => parse(&content, user_id, about_threads),
        None => default_rules_with(user_id, about_threads),
    })
}

/// The content of `m.push_rules` for these rules.
///
/// # Errors
///
/// [`StoreError::Data`] when they cannot be written as JSON.
pub fn content(rules: Ruleset) -> Result<String> {
    Ok(json!({ "global": to_json(&rules)? }).to_string())
}

/// Rules as clients get them: every kind has its list, also an empty one, because some clients look into it unasked.
///
/// # Errors
///
/// [`StoreError::Data`] when they cannot be written as JSON.
pub fn to_json(rules: &Ruleset) -> Result<Value> {
    let mut json = serde_json::to_value(rules).map_err(|e| StoreError::Data(e.to_string()))?;
    if let Some(kinds) = json.as_object_mut() {
        for kind in ["override", "content", "room", "sender", "underride"] {
            kinds.entry(kind).or_insert_with(|| json!([]));
        }
    }
    Ok(json)
}

/// Stores a user's rules.
///
/// # Errors
///
/// Database errors.
pub fn set_rules(tx: &mut Tx<'_>, user: UserNid, rules: Ruleset) -> Result<()> {
    let content = content(rules)?;
    account_data::set(tx, user, None, RULES, &content)
}

/// All global account data of a user, with the rules even if they have never been touched.
///
/// # Errors
///
/// Database errors.
pub fn global_account_data(db: &Reader<'_>, user: UserNid, user_id: &UserId) -> Result<Vec<AccountData>> {
    let mut found = account_data::global(db, user)?;
    if !found.iter().any(|data| data.kind == RULES) {
        found.push(AccountData { room: None, kind: RULES.to_owned(), content: content(rules(db, user, user_id)?)? });
    }
    Ok(found)
}

/// Evaluates the rules of every local member for a new event.
///
/// Nobody is notified of their own events or of those of people they ignore, and their own events count as read with all that
/// came before them in the thread. Invites notify but are not counted: nothing that
/// the user could read would ever clear them.
///
/// # Errors
///
/// Database errors.
pub fn on_event(tx: &mut Tx<'_>, event: &NewEvent<'_>) -> Result<()> {
    if let Some(target) = event.pdu.redacts()
        && let Some(redacted) = events::by_id(&tx.reader(), target)?
        && redacted.room == event.room.nid
        && redacted.redacted_by.is_some()
        && let Some(pos) = redacted.pos
    {
        for user in push::clear_event(tx, event.room.nid, pos)? {
            tx.touch(user);
        }
    }
    if *event.pdu.kind() == TimelineEventType::RoomMember {
        forget_gone(tx, event)?;
    } else if *event.pdu.kind() != TimelineEventType::RoomRedaction {
        // Whoever speaks has read what was said before (Client-Server API, "Marking notifications as read"). Memberships change by
        // themselves with a profile, and taking back something old is not reading: clients see both so.
        push::clear(tx, event.sender, event.room.nid, Some(&thread_of(&tx.reader(), event.pdu)?), event.pos)?;
    }
    let recipients = push::recipients(&tx.reader(), event.room.nid, event.sender)?;
    let invited = invited(&tx.reader(), event)?;
    if recipients.is_empty() && invited.is_none() {
        return Ok(());
    }
    let json = serde_json::value::to_raw_value(event.pdu.json()).map_err(|e| StoreError::Data(e.to_string()))?;
    let flat = FlattenedJson::from_raw(&Raw::<serde_json::Value>::from_json(json));
    let room = Room::load(&tx.reader(), event, recipients.iter().any(|r| r.rules.is_some()) || flat.contains_mentions())?;
    let mut thread = None;
    for recipient in &recipients {
        let Some(Outcome { notify, highlight, actions }) = evaluate(&tx.reader(), recipient, &flat, &room, event)? else { continue };
        let thread_id = match &thread {
            Some(thread) => thread,
            None => &*thread.insert(thread_of(&tx.reader(), event.pdu)?),
        };
        let action = Action { user: recipient.user, room: event.room.nid, pos: event.pos, event: event.nid, thread_id, notify, highlight };
        push::add(tx, &action)?;
        if notify {
            remember(tx, recipient.user, event, actions, highlight, false)?;
        }
    }
    if let Some(recipient) = &invited
        && let Some(Outcome { notify: true, highlight, actions }) = evaluate(&tx.reader(), recipient, &flat, &room, event)?
    {
        remember(tx, recipient.user, event, actions, highlight, true)?;
    }
    Ok(())
}

/// The local user whom the event invites.
fn invited(db: &Reader<'_>, event: &NewEvent<'_>) -> Result<Option<Recipient>> {
    if *event.pdu.kind() != TimelineEventType::RoomMember {
        return Ok(None);
    }
    let Some(user_id) = event.pdu.state_key().and_then(|key| OwnedUserId::try_from(key).ok()) else { return Ok(None) };
    let Some(user) = super::store::accounts::active(db, &user_id)?.filter(|user| *user != event.sender) else { return Ok(None) };
    if members::get(db, event.room.nid, user)?.is_none_or(|member| member.membership != "invite") {
        return Ok(None);
    }
    let hidden = invites::of(db, user).map_err(|error| StoreError::Data(error.to_string()))?.hides(event.pdu.sender());
    if hidden || held_invites::is_held(db, event.room.nid, user)? { Ok(None) } else { push::recipient(db, user) }
}

fn remember(tx: &Tx<'_>, user: UserNid, event: &NewEvent<'_>, actions: String, highlight: bool, invite: bool) -> Result<()> {
    let ts_ms = i64::try_from(event.now_ms).unwrap_or(i64::MAX);
    let new = Notification { pos: event.pos, room: event.room.nid, event: event.nid, actions, highlight, invite, ts_ms, read: false };
    pushers::notify(tx, user, &new)
}

/// Whoever is not in the room has nothing to read there.
fn forget_gone(tx: &Tx<'_>, event: &NewEvent<'_>) -> Result<()> {
    let Some(user_id) = event.pdu.state_key().and_then(|key| OwnedUserId::try_from(key).ok()) else { return Ok(()) };
    let Some(user) = super::store::users::find(&tx.reader(), &user_id)? else { return Ok(()) };
    if members::get(&tx.reader(), event.room.nid, user)?.is_some_and(|member| member.membership != "join") {
        push::clear(tx, user, event.room.nid, None, event.pos)?;
    }
    Ok(())
}

/// What of the room decides about rules.
#[derive(Debug)]
struct Room {
    joined: UInt,
    power_levels: Option<PushConditionPowerLevelsCtx>,
}

impl Room {
    fn load(db: &Reader<'_>, event: &NewEvent<'_>, with_levels: bool) -> Result<Self> {
        let joined = members::count(db, event.room.nid, "join")?;
        let power_levels = if with_levels { levels(db, event.room)? } else { None };
        Ok(Self { joined: UInt::try_from(joined).unwrap_or(UInt::MAX), power_levels })
    }
}

/// The room's power levels; `None` when they cannot be read, and then nobody has permission to notify everybody.
fn levels(db: &Reader<'_>, room: &RoomHandle) -> Result<Option<PushConditionPowerLevelsCtx>> {
    let rules = &room.rules.authorization;
    let pdu = |kind: &str| -> Result<Option<Pdu>> {
        let Some(nid) = state::current(db, room.nid, kind, "")? else { return Ok(None) };
        events::by_nid(db, nid)?.pdu(&room.rules).map(Some)
    };
    let Some(create) = pdu("m.room.create")? else { return Ok(None) };
    let mut creators = vec![create.sender().to_owned()];
    if let Ok(content) = serde_json::from_str::<RoomCreateEventContent>(create.content().get())
        && rules.additional_room_creators
    {
        creators.extend(content.additional_creators);
    }
    let source = match pdu("m.room.power_levels")? {
        Some(levels) => match serde_json::from_str::<RoomPowerLevelsEventContent>(levels.content().get()) {
            Ok(content) => RoomPowerLevelsSource::Original(content),
            Err(_) => return Ok(None),
        },
        None => RoomPowerLevelsSource::None,
    };
    Ok(Some(RoomPowerLevels::new(source, rules, creators).into()))
}

/// What the recipient's rules say.
#[derive(Debug)]
struct Outcome {
    notify: bool,
    highlight: bool,
    /// The rule's actions, as JSON.
    actions: String,
}

/// What the recipient's rules say; `None` when they neither notify nor highlight.
fn evaluate(db: &Reader<'_>, recipient: &Recipient, flat: &FlattenedJson, room: &Room, event: &NewEvent<'_>) -> Result<Option<Outcome>> {
    if ignores(recipient, event.pdu.sender()) {
        return Ok(None);
    }
    let user_id = UserId::parse(&recipient.user_id).map_err(|e| StoreError::Data(format!("user ID: {e}")))?;
    let rules = match &recipient.rules {
        Some(content) => parse(content, &user_id, recipient.threads),
        None => default_rules_with(&user_id, recipient.threads),
    };
    let name = recipient.displayname.clone().unwrap_or_else(|| user_id.localpart().to_owned());
    let mut context = PushConditionRoomCtx::new(event.room.room_id.clone(), room.joined, user_id, name);
    context.power_levels.clone_from(&room.power_levels);
    if recipient.threads {
        let root = flat.get_str("content.m\\.relates_to.event_id").and_then(|root| ruma::EventId::parse(root).ok());
        let follows = root.map(|root| threads::is_subscribed(db, recipient.user, event.room.nid, &root)).transpose()?.unwrap_or(false);
        context = context.with_has_thread_subscription_fn(move |_| Box::pin(std::future::ready(follows)));
    }
    for rule in &rules {
        // Nothing in it waits: the future is one only for the sake of thread subscriptions.
        if rule.applies(flat, &context).now_or_never() == Some(true) {
            let (notify, highlight) = (rule.triggers_notification(), rule.triggers_highlight());
            if !notify && !highlight {
                return Ok(None);
            }
            let actions = serde_json::to_string(rule.actions()).map_err(|e| StoreError::Data(e.to_string()))?;
            return Ok(Some(Outcome { notify, highlight, actions }));
        }
    }
    Ok(None)
}

fn ignores(recipient: &Recipient, sender: &UserId) -> bool {
    #[derive(Deserialize)]
    struct List {
        ignored_users: serde_json::Map<String, serde_json::Value>,
    }
    recipient
        .ignored
        .as_deref()
        .and_then(|json| serde_json::from_str::<List>(json).ok())
        .is_some_and(|list| list.ignored_users.contains_key(sender.as_str()))
}

/// The thread that an event belongs to: the root's ID, or [`MAIN`].
fn thread_of(db: &Reader<'_>, pdu: &Pdu) -> Result<String> {
    let content = pdu.json().get("content").and_then(|content| content.as_object());
    match content.and_then(relation::of).filter(|_| pdu.state_key().is_none()) {
        Some(related) if related.rel_type == "m.thread" => Ok(related.parent.to_string()),
        Some(related) => thread_of_event(db, &related.parent),
        None => Ok(MAIN.to_owned()),
    }
}

/// The same for an event that is stored: what relates to a thread's event belongs to the thread.
///
/// # Errors
///
/// Database errors.
pub fn thread_of_event(db: &Reader<'_>, event_id: &ruma::EventId) -> Result<String> {
    let mut next = event_id.to_owned();
    // Relations may go in circles; honest ones are not longer than this.
    for _ in 0..4 {
        let Some(event) = events::by_id(db, &next)? else { break };
        let Some((rel_type, parent)) = relations::of_child(db, event.nid)? else { break };
        if rel_type == "m.thread" {
            return Ok(parent);
        }
        let Ok(parent) = ruma::EventId::parse(parent) else { break };
        next = parent;
    }
    Ok(MAIN.to_owned())
}
