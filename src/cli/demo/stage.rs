//! Puts the plan on the stage: accounts, rooms and what was said in them, straight into the node of this process.
//!
//! History goes through the node's own way of making events, with times of its own, many to a commit. What needs a client
//! (pictures, receipts, direct chats) goes through the node's API, without a socket in between.

use std::{collections::BTreeMap, sync::Arc};

use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId, UserId, events::room::message::RoomMessageEventContent};
use serde_json::{Map, Value, json};

use super::{
    hand::Hand,
    picture,
    plan::{Deed, PlannedRoom, Step},
    script::{Entry, GUEST, Person},
};
use crate::homeserver::{
    Node,
    events::{self, Ctx, Draft, EventError, append, content_from_map, create, membership},
    rooms::template::{NewRoom, Preset},
    store::{self, StoreError, Tx},
    types::RoomHandle,
};

/// Steps in one job, so that other writers (the guest among them) get a turn in between.
const STEPS: usize = 200;

/// Why the stage could not be set.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The node refused an event of ours.
    #[error("an event of the demonstration was refused: {0}")]
    Event(#[from] EventError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The API refused or failed.
    #[error("{0}")]
    Api(String),
    /// A picture could not be painted.
    #[error("a picture could not be painted: {0}")]
    Picture(#[from] image::ImageError),
    /// Something that is ours to get right.
    #[error("{0}")]
    Ours(String),
}

/// A line that others refer to.
#[derive(Debug, Clone)]
struct Said {
    event_id: OwnedEventId,
    /// The newest event of its thread.
    newest: OwnedEventId,
}

/// What the steps of a room have made so far.
#[derive(Debug, Default)]
struct Progress {
    labels: BTreeMap<String, Said>,
    /// The newest message.
    last: Option<OwnedEventId>,
    /// What the guest has read last, where the plan says so.
    read: Option<Option<OwnedEventId>>,
}

/// The stage.
#[derive(Debug, Clone)]
pub struct Stage {
    node: Arc<Node>,
}

/// Something that somebody says.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// Markdown.
    pub text: &'a str,
    /// The thread that it goes into.
    pub thread: Option<&'a EventId>,
}

impl<'a> Told<'a> {
    /// Something said to the whole room.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self { text, thread: None }
    }
}

/// A room that has been made.
#[derive(Debug, Clone)]
pub struct Made {
    /// The room.
    pub room_id: OwnedRoomId,
    /// What the guest has read last.
    pub read: Option<OwnedEventId>,
}

impl Stage {
    /// On this node.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// The user ID that belongs to a key of the script.
    ///
    /// # Errors
    /// When the key is no localpart.
    pub fn user(&self, key: &str) -> Result<OwnedUserId, StageError> {
        UserId::parse(format!("@{key}:{}", self.node.config.server_name)).map_err(|error| StageError::Ours(error.to_string()))
    }

    /// Gives somebody a display name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn rename(&self, key: &str, name: &'static str) -> Result<(), StageError> {
        let user_id = self.user(key)?;
        let job = move |tx: &mut Tx<'_>| {
            let user = store::users::intern(tx, &user_id)?;
            store::profiles::set(tx, user, "displayname", &json!(name))
        };
        Ok(self.node.store.write(job).await?)
    }

    /// Accounts that nobody can sign in to: they act from within.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn extras(&self, people: &[Person]) -> Result<(), StageError> {
        let now_ms = i64::try_from(self.node.clock.now_ms()).map_err(|error| StageError::Ours(error.to_string()))?;
        let people = people.iter().map(|person| Ok((self.user(person.key)?, person.name))).collect::<Result<Vec<_>, StageError>>()?;
        self.node
            .store
            .write(move |tx| {
                for (user_id, name) in people {
                    if let Some(user) = store::accounts::create(tx, &user_id, None, false, now_ms)? {
                        store::profiles::set(tx, user, "displayname", &json!(name))?;
                    }
                }
                Ok(())
            })
            .await
    }

    /// Makes a room, brings everybody in, and lets happen what is planned.
    ///
    /// # Errors
    /// [`StageError`].
    pub async fn room(&self, planned: &PlannedRoom, made: &BTreeMap<String, Made>, hand: &Hand) -> Result<Made, StageError> {
        let room = self.open(planned, made).await?;
        let pictures = upload(&planned.steps, hand).await?;
        let mut progress = Progress::default();
        for steps in planned.steps.chunks(STEPS) {
            let (ctx, room, steps, pictures) = (Ctx::of(&self.node), room.clone(), steps.to_vec(), pictures.clone());
            let job = move |tx: &mut Tx<'_>| {
                for step in &steps {
                    take(tx, &ctx, &room, step, &pictures, &mut progress)?;
                }
                Ok::<_, EventError>(progress)
            };
            progress = self.node.store.write(job).await?;
        }
        Ok(Made { room_id: room.room_id.clone(), read: progress.read.unwrap_or(progress.last) })
    }

    async fn open(&self, planned: &PlannedRoom, made: &BTreeMap<String, Made>) -> Result<RoomHandle, StageError> {
        let ctx = Ctx { now_ms: planned.created_ms, ..Ctx::of(&self.node) };
        let guest = self.user(GUEST)?;
        let members = planned.members.iter().map(|key| self.user(key)).collect::<Result<Vec<_>, _>>()?;
        let creator = members.first().cloned().unwrap_or_else(|| guest.clone());
        let new = self.new_room(planned, creator.clone(), &guest, made)?;
        let (entry, published) = (planned.entry, planned.alias.is_some());
        let job = move |tx: &mut Tx<'_>| {
            let room = create::room(tx, &ctx, &new, published, entry == Entry::Direct)?;
            for user in members.iter().skip(1) {
                let ctx = Ctx { now_ms: ctx.now_ms + 1000, ..ctx.clone() };
                if entry != Entry::Public {
                    membership::invite(tx, &ctx, &room, &creator, user, None, Map::new())?;
                }
                membership::join(tx, &ctx, &room, user, None)?;
            }
            match entry {
                Entry::Public | Entry::Direct => membership::join(tx, &ctx, &room, &guest, None)?,
                Entry::Invited => drop(membership::invite(tx, &ctx, &room, &creator, &guest, None, Map::new())?),
                Entry::Private => {
                    membership::invite(tx, &ctx, &room, &creator, &guest, None, Map::new())?;
                    membership::join(tx, &ctx, &room, &guest, None)?;
                }
            }
            Ok::<_, EventError>(room)
        };
        Ok(self.node.store.write(job).await?)
    }

    fn new_room(
        &self,
        planned: &PlannedRoom,
        creator: OwnedUserId,
        guest: &UserId,
        made: &BTreeMap<String, Made>,
    ) -> Result<NewRoom, StageError> {
        let server = self.node.config.server_name.as_str();
        let mut creation_content = Map::new();
        let mut initial_state = Vec::new();
        if let Some(children) = &planned.children {
            creation_content.insert("type".into(), "m.space".into());
            for (order, key) in children.iter().enumerate() {
                let child = made.get(key).ok_or_else(|| StageError::Ours(format!("the space holds {key}, which is not there yet")))?;
                let content = json!({ "via": [server], "order": format!("{order:02}") });
                initial_state.push(initial("m.space.child", child.room_id.as_str(), content));
            }
        }
        if planned.encrypted {
            initial_state.push(initial("m.room.encryption", "", json!({ "algorithm": "m.megolm.v1.aes-sha2" })));
        }
        Ok(NewRoom {
            creator,
            version: RoomVersionId::V12,
            preset: match planned.entry {
                Entry::Public => Preset::Public,
                Entry::Private | Entry::Invited => Preset::Private,
                Entry::Direct => Preset::TrustedPrivate,
            },
            creation_content,
            power_level_override: Map::new(),
            initial_state,
            name: planned.name.clone(),
            topic: planned.topic.clone(),
            alias: planned.alias.as_ref().map(|alias| format!("#{alias}:{server}")),
            invite: if planned.entry == Entry::Direct { vec![guest.to_owned()] } else { Vec::new() },
        })
    }

    /// Says something now.
    ///
    /// # Errors
    /// [`StageError`].
    pub async fn say(&self, room: &OwnedRoomId, who: &str, told: Told<'_>) -> Result<OwnedEventId, StageError> {
        let guest = self.user(GUEST)?;
        let mut content = message(told.text, false, (who != GUEST).then_some(guest.as_str()))?;
        if let Some(root) = told.thread {
            let relation = json!({
                "rel_type": "m.thread", "event_id": root, "is_falling_back": true, "m.in_reply_to": { "event_id": root },
            });
            content.insert("m.relates_to".into(), relation);
        }
        self.post(room, who, "m.room.message", content).await
    }

    /// Reacts now.
    ///
    /// # Errors
    /// [`StageError`].
    pub async fn react(&self, room: &OwnedRoomId, who: &str, to: &EventId, key: &str) -> Result<OwnedEventId, StageError> {
        let relation = json!({ "rel_type": "m.annotation", "event_id": to, "key": key });
        self.post(room, who, "m.reaction", Map::from_iter([("m.relates_to".to_owned(), relation)])).await
    }

    /// Sends any message event now.
    ///
    /// # Errors
    /// [`StageError`].
    pub async fn post(&self, room: &OwnedRoomId, who: &str, kind: &str, content: Map<String, Value>) -> Result<OwnedEventId, StageError> {
        let draft = Draft::message(self.user(who)?, kind, content_from_map(content)?);
        let (ctx, room) = (Ctx::of(&self.node), room.clone());
        let job = move |tx: &mut Tx<'_>| {
            let room = events::room(&tx.reader(), &room)?;
            Ok::<_, EventError>(append(tx, &ctx, &room, draft)?.event_id)
        };
        Ok(self.node.store.write(job).await?)
    }
}

fn initial(kind: &str, state_key: &str, content: Value) -> crate::homeserver::rooms::template::Initial {
    let content = if let Value::Object(content) = content { content } else { Map::new() };
    crate::homeserver::rooms::template::Initial { kind: kind.into(), state_key: state_key.into(), content }
}

/// Content of a message in markdown. Whoever writes "robin" means the guest.
fn message(text: &str, emote: bool, guest: Option<&str>) -> Result<Map<String, Value>, StageError> {
    let content = if emote { RoomMessageEventContent::emote_markdown(text) } else { RoomMessageEventContent::text_markdown(text) };
    let value = serde_json::to_value(content).map_err(|error| StageError::Ours(error.to_string()))?;
    let Value::Object(mut content) = value else { return Err(StageError::Ours("a message is an object".into())) };
    let named = text.to_lowercase().split(|c: char| !c.is_alphanumeric()).any(|word| word == GUEST);
    let mentioned: Vec<&str> = guest.filter(|_| named).into_iter().collect();
    content.insert("m.mentions".into(), if mentioned.is_empty() { json!({}) } else { json!({ "user_ids": mentioned }) });
    Ok(content)
}

/// Takes one step. The label of a line that has been left out is a fault of the script.
fn take(
    tx: &mut Tx<'_>,
    ctx: &Ctx,
    room: &RoomHandle,
    step: &Step,
    pictures: &BTreeMap<String, Value>,
    progress: &mut Progress,
) -> Result<(), EventError> {
    if step.act == Deed::Read {
        progress.read = Some(progress.last.clone());
        return Ok(());
    }
    let who = UserId::parse(format!("@{}:{}", step.who, ctx.server_name)).map_err(|error| EventError::Internal(error.to_string()))?;
    let deed = deed(ctx, step, pictures, progress)?;
    let draft =
        Draft { redacts: deed.redacts, timestamp_ms: Some(step.at_ms), ..Draft::message(who, deed.kind, content_from_map(deed.content)?) };
    let event_id = append(tx, ctx, room, draft)?.event_id;
    if let Deed::Say { thread: Some(root), .. } = &step.act
        && let Some(said) = progress.labels.get_mut(root)
    {
        said.newest = event_id.clone();
    }
    if let Some(label) = &step.label {
        progress.labels.insert(label.clone(), Said { event_id: event_id.clone(), newest: event_id.clone() });
    }
    if matches!(step.act, Deed::Say { .. } | Deed::Picture { .. }) {
        progress.last = Some(event_id);
    }
    Ok(())
}

/// A deed as an event.
struct AsEvent {
    kind: &'static str,
    content: Map<String, Value>,
    redacts: Option<OwnedEventId>,
}

fn deed(ctx: &Ctx, step: &Step, pictures: &BTreeMap<String, Value>, progress: &Progress) -> Result<AsEvent, EventError> {
    let ours = |error: StageError| EventError::Internal(error.to_string());
    let said = |label: &str| progress.labels.get(label).ok_or_else(|| EventError::Internal(format!("no line is called {label}")));
    let object = |value: Value| if let Value::Object(object) = value { object } else { Map::new() };
    let event = |kind, content| AsEvent { kind, content, redacts: None };
    let guest = format!("@{GUEST}:{}", ctx.server_name);
    let others = (step.who != GUEST).then_some(guest.as_str());
    let message = |text: &str, emote: bool| message(text, emote, others).map_err(ours);
    Ok(match &step.act {
        Deed::Say { text, emote, reply_to, thread } => {
            let mut content = message(text, *emote)?;
            if let Some(root) = thread {
                let said = said(root)?;
                let relation = json!({
                    "rel_type": "m.thread", "event_id": said.event_id, "is_falling_back": true, "m.in_reply_to": { "event_id": said.newest },
                });
                content.insert("m.relates_to".into(), relation);
            } else if let Some(label) = reply_to {
                content.insert("m.relates_to".into(), json!({ "m.in_reply_to": { "event_id": said(label)?.event_id } }));
            }
            event("m.room.message", content)
        }
        Deed::Edit { of, text } => {
            let new = message(text, false)?;
            let mut content = message(&format!("* {text}"), false)?;
            content.insert("m.new_content".into(), Value::Object(new));
            content.insert("m.relates_to".into(), json!({ "rel_type": "m.replace", "event_id": said(of)?.event_id }));
            event("m.room.message", content)
        }
        Deed::React { to, key } => {
            let relation = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": said(to)?.event_id, "key": key } });
            event("m.reaction", object(relation))
        }
        Deed::Redact { of, reason } => {
            let target = said(of)?.event_id.clone();
            AsEvent { redacts: Some(target), ..event("m.room.redaction", object(json!({ "reason": reason }))) }
        }
        Deed::Picture { name, caption } => {
            let mut content = object(pictures.get(name).cloned().unwrap_or_default());
            content.insert("body".into(), json!(caption));
            event("m.room.message", content)
        }
        Deed::Read => return Err(EventError::Internal("reading is no event".into())),
    })
}

/// Paints and uploads the pictures of these steps; the content of their messages by name.
async fn upload(steps: &[Step], hand: &Hand) -> Result<BTreeMap<String, Value>, StageError> {
    let mut uploaded = BTreeMap::new();
    for step in steps {
        let Deed::Picture { name, .. } = &step.act else { continue };
        let wanted = name.clone();
        let painted = tokio::task::spawn_blocking(move || picture::paint(&wanted)).await;
        let painted = painted.map_err(|error| StageError::Ours(error.to_string()))??;
        let info = json!({ "mimetype": "image/png", "w": painted.width, "h": painted.height, "size": painted.png.len() });
        let filename = format!("{name}.png");
        let answer = hand.upload(&filename, "image/png", painted.png).await?;
        let content = json!({ "msgtype": "m.image", "filename": filename, "url": answer.get("content_uri"), "info": info });
        uploaded.insert(name.clone(), content);
    }
    Ok(uploaded)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops where its set-up fails")]
    use super::*;
    use crate::{
        base::{Secret, Shutdown, SystemClock, SystemRandomness},
        cli::demo::{now_ms, plan},
        homeserver::{Config, Homeserver, Listeners},
    };

    #[tokio::test]
    async fn all_that_is_planned_can_happen() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new("tannery.example".try_into().unwrap(), dir.path().to_path_buf());
        config.rate_limits = false;
        let (clock, randomness) = (Arc::new(SystemClock), Arc::new(SystemRandomness));
        let server = Homeserver::start(config, Listeners::default(), clock, randomness, Shutdown::new()).await.unwrap();
        let plan = plan::plan(1, plan::Size { rooms: 20, messages: 400 }, now_ms(), 0).unwrap();
        let stage = Stage::new(Arc::clone(server.node()));
        for name in [GUEST, "wren"] {
            server.create_account(name, "secret", false).await.unwrap();
        }
        stage.extras(&plan.people).await.unwrap();
        let hand = Hand::login(server.node(), "wren", &Secret::new("secret".into())).await.unwrap();
        let mut made = BTreeMap::new();
        for room in &plan.rooms {
            // Encrypted ones get theirs from a client.
            let steps = if room.encrypted { Vec::new() } else { room.steps.clone() };
            let room = PlannedRoom { steps, ..room.clone() };
            let done = stage.room(&room, &made, &hand).await.unwrap_or_else(|error| panic!("{}: {error}", room.key));
            made.insert(room.key.clone(), done);
        }
        assert_eq!(made.len(), 20);
        let long = &made[plan::LONG_ROOM];
        let path = format!("/_matrix/client/v3/rooms/{}/messages?dir=b&limit=100", super::super::hand::encoded(long.room_id.as_str()));
        let page = hand.call(http::Method::GET, &path, &Value::Null).await.unwrap();
        let times: Vec<u64> = page["chunk"].as_array().unwrap().iter().map(|event| event["origin_server_ts"].as_u64().unwrap()).collect();
        assert_eq!(times.len(), 100);
        assert!(times.iter().rev().is_sorted(), "history is told in order");
        server.stop().await;
    }
}
