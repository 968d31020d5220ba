//! Walking spaces (Client-Server API, "Spaces"), and looking at rooms that nobody of ours is in: their servers are asked for
//! what they know (Server-Server API, "Spaces").
//!
//! What others answer is kept for a while, so that paging through a space asks each question once.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ruma::{OwnedRoomId, OwnedServerName, RoomId};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::{lookup::escape, request::Limits};
use crate::homeserver::{
    Node,
    events::{
        EventError,
        hierarchy::{self, Child, Look},
        membership,
    },
    store::{members, rooms},
    types::UserNid,
};

/// Rooms that one walk visits at most, whatever the space holds.
const MAX_VISITED: usize = 5000;
/// Servers that are asked about one room, one after the other.
const CANDIDATES: usize = 3;
/// How long one of them has.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a walk may wait for other servers in all. What is left out then is there at the next request.
const PATIENCE: Duration = Duration::from_secs(25);
/// Largest answer.
const ANSWER_BYTES: usize = 4 << 20;
/// Children of one remote space that are looked at.
const CHILDREN: usize = 1000;
/// How long an answer is kept, and how many.
const KEPT: Duration = Duration::from_secs(5 * 60);
const ANSWERS: usize = 256;

/// What another server says of a room.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Summary of the room.
    pub room: Map<String, Value>,
    /// Its children.
    pub children: Vec<Child>,
    /// Summaries of children, as far as that server gave them.
    known: HashMap<OwnedRoomId, Map<String, Value>>,
}

type Question = (OwnedRoomId, bool);
/// Until when it holds, and what it is; `None`: nobody knew.
type Kept = (Instant, Option<Arc<Remote>>);

/// Answers of other servers.
#[derive(Debug, Default)]
pub struct Answers(Mutex<HashMap<Question, Kept>>);

impl Answers {
    fn get(&self, question: &Question) -> Option<Option<Arc<Remote>>> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(question).filter(|(until, _)| *until > Instant::now()).map(|(_, answer)| answer.clone())
    }

    fn put(&self, question: Question, answer: Option<Arc<Remote>>) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if answers.len() >= ANSWERS {
            answers.retain(|_, (until, _)| *until > now);
            if answers.len() >= ANSWERS {
                answers.clear();
            }
        }
        // That a room was not to be found may be over soon.
        let kept = if answer.is_some() { KEPT } else { KEPT / 10 };
        answers.insert(question, (now + kept, answer));
    }
}

/// Asks servers about a room until one knows it.
pub async fn ask(node: &Node, room_id: &RoomId, via: &[OwnedServerName], suggested_only: bool) -> Option<Arc<Remote>> {
    if !node.federation.is_enabled() {
        return None;
    }
    let question = (room_id.to_owned(), suggested_only);
    if let Some(answer) = node.federation.spaces.get(&question) {
        return answer;
    }
    let mut answer = None;
    let candidates = via.iter().filter(|server| **server != node.config.server_name).take(CANDIDATES);
    for server in candidates {
        let path = format!("/_matrix/federation/v1/hierarchy/{}?suggested_only={suggested_only}", escape(room_id.as_str()));
        let limits = Limits::ORDINARY.within(ANSWER).bytes(ANSWER_BYTES);
        match node.federation.client.raw(server, http::Method::GET, &path, None, limits).await {
            Ok(body) => match read(room_id, &body, suggested_only) {
                Some(remote) => {
                    answer = Some(Arc::new(remote));
                    break;
                }
                None => tracing::debug!(%server, %room_id, "an answer about a room makes no sense"),
            },
            Err(error) => tracing::debug!(%server, %room_id, %error, "a server does not tell of a room"),
        }
    }
    node.federation.spaces.put(question, answer.clone());
    answer
}

/// What an answer says about the room that was asked for.
fn read(room_id: &RoomId, body: &[u8], suggested_only: bool) -> Option<Remote> {
    #[derive(Deserialize)]
    struct Answer {
        room: Map<String, Value>,
        #[serde(default)]
        children: Vec<Map<String, Value>>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let mut room = answer.room;
    if room.get("room_id")?.as_str()? != room_id.as_str() {
        return None;
    }
    let listed = room.remove("children_state");
    let listed = listed.as_ref().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut children: Vec<Child> =
        listed.iter().take(CHILDREN).filter_map(|event| hierarchy::child(event.clone(), suggested_only)).collect();
    hierarchy::sort(&mut children);
    let mut known = HashMap::new();
    for mut summary in answer.children.into_iter().take(CHILDREN) {
        let Some(id) = summary.get("room_id").and_then(Value::as_str).and_then(|id| RoomId::parse(id).ok()) else { continue };
        summary.remove("children_state");
        if is_summary(&summary) {
            known.insert(id, summary);
        }
    }
    is_summary(&room).then_some(Remote { room, children, known })
}

/// Does it have the form that clients rely on?
fn is_summary(room: &Map<String, Value>) -> bool {
    serde_json::from_value::<ruma::room::RoomSummary>(Value::Object(room.clone())).is_ok()
}

/// May a local user be told of a room that another server has described? Their server tells us what our whole server may
/// know; what this user may know is for us to judge.
async fn may_know(node: &Node, room_id: &RoomId, room: &Map<String, Value>, user: Option<UserNid>) -> Result<bool, EventError> {
    let rule = room.get("join_rule").and_then(Value::as_str).unwrap_or("public");
    if room.get("world_readable") == Some(&Value::Bool(true)) || matches!(rule, "public" | "knock" | "knock_restricted") {
        return Ok(true);
    }
    let Some(user) = user else { return Ok(false) };
    let allowed = room.get("allowed_room_ids").and_then(Value::as_array).cloned().unwrap_or_default();
    let allowed: Vec<OwnedRoomId> = allowed.iter().filter_map(Value::as_str).filter_map(|id| RoomId::parse(id).ok()).collect();
    let room_id = room_id.to_owned();
    node.store
        .read(move |db| {
            if let Some(room) = rooms::by_id(db, &room_id)?
                && let Some(member) = members::get(db, room.nid, user)?
                && matches!(member.membership.as_str(), "join" | "invite" | "knock")
            {
                return Ok(true);
            }
            membership::in_any(db, &allowed, user)
        })
        .await
}

/// The summary of a room that nobody of ours is in, as far as the user may know of it.
///
/// # Errors
///
/// Store errors.
pub async fn summary(
    node: &Node,
    room_id: &RoomId,
    via: &[OwnedServerName],
    user: Option<UserNid>,
) -> Result<Option<Map<String, Value>>, EventError> {
    let Some(remote) = ask(node, room_id, via, false).await else { return Ok(None) };
    Ok(may_know(node, room_id, &remote.room, user).await?.then(|| remote.room.clone()))
}

/// What to walk.
#[derive(Debug, Clone)]
pub struct Walk {
    /// Who asks.
    pub user: UserNid,
    /// Leave out children that are not suggested.
    pub suggested_only: bool,
    /// Levels below the root.
    pub max_depth: Option<u64>,
    /// Rooms to pass over, from earlier pages.
    pub skip: usize,
    /// Rooms to give.
    pub limit: usize,
}

/// A room that is still to be visited.
struct Next {
    room_id: OwnedRoomId,
    via: Vec<OwnedServerName>,
    depth: u64,
    /// What the space's server said of it.
    hint: Option<Map<String, Value>>,
}

/// A page of rooms, depth first, and whether there are more. `None` when the user may not look into the root.
///
/// # Errors
///
/// Store errors.
pub async fn walk(node: &Node, root: &RoomId, walk: &Walk) -> Result<Option<(Vec<Map<String, Value>>, bool)>, EventError> {
    let (mut page, mut passed) = (Vec::new(), 0);
    let mut visited: HashSet<OwnedRoomId> = HashSet::new();
    // A room's ID names a server only in versions before 12; further ones come with the space that links to it.
    let via = root.server_name().map(ToOwned::to_owned).into_iter().collect();
    let mut stack = vec![Next { room_id: root.to_owned(), via, depth: 0, hint: None }];
    let deadline = Instant::now() + PATIENCE;
    while let Some(next) = stack.pop() {
        if visited.len() >= MAX_VISITED {
            break;
        }
        if !visited.insert(next.room_id.clone()) {
            continue;
        }
        let Some((mut entry, children, mut hints)) = visit(node, &next, walk, deadline).await? else {
            if next.depth == 0 && next.room_id == root {
                return Ok(None);
            }
            continue;
        };
        if walk.max_depth.is_none_or(|max| next.depth < max) {
            stack.extend(children.iter().rev().map(|child| Next {
                room_id: child.room_id.clone(),
                via: child.via.clone(),
                depth: next.depth + 1,
                hint: hints.remove(&child.room_id),
            }));
        }
        passed += 1;
        if passed <= walk.skip {
            continue;
        }
        if page.len() == walk.limit {
            return Ok(Some((page, true)));
        }
        entry.insert("children_state".into(), children.into_iter().map(|child| child.event).collect::<Vec<_>>().into());
        page.push(entry);
    }
    Ok(Some((page, false)))
}

type Visited = (Map<String, Value>, Vec<Child>, HashMap<OwnedRoomId, Map<String, Value>>);

/// Looks at one room, with us or with others. `None` for a room that is left out with what is below it.
async fn visit(node: &Node, next: &Next, walk: &Walk, deadline: Instant) -> Result<Option<Visited>, EventError> {
    let (room_id, user, suggested_only) = (next.room_id.clone(), walk.user, walk.suggested_only);
    match node.store.read(move |db| hierarchy::look(db, &room_id, user, suggested_only)).await? {
        Look::Known(entry, children) => return Ok(Some((entry, children, HashMap::new()))),
        Look::Hidden => return Ok(None),
        Look::Unknown => {}
    }
    // The space's server has described it; only what is below another space is worth a question of its own.
    if let Some(hint) = &next.hint
        && hint.get("room_type").and_then(Value::as_str) != Some("m.space")
    {
        let may_know = may_know(node, &next.room_id, hint, Some(walk.user)).await?;
        return Ok(may_know.then(|| (hint.clone(), Vec::new(), HashMap::new())));
    }
    let remote = tokio::time::timeout_at(deadline, ask(node, &next.room_id, &next.via, walk.suggested_only)).await;
    let Ok(Some(remote)) = remote else { return Ok(None) };
    if !may_know(node, &next.room_id, &remote.room, Some(walk.user)).await? {
        return Ok(None);
    }
    let remote = Remote::clone(&remote);
    Ok(Some((remote.room, remote.children, remote.known)))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;

    fn answer(room_id: &str) -> Value {
        let summary = |id: &str| serde_json::json!({ "room_id": id, "num_joined_members": 3, "world_readable": false, "guest_can_join": false, "join_rule": "public" });
        let mut room = summary(room_id);
        room.as_object_mut().unwrap().insert("room_type".into(), "m.space".into());
        room.as_object_mut().unwrap().insert(
            "children_state".into(),
            serde_json::json!([
                { "type": "m.space.child", "state_key": "!b:far.test", "sender": "@x:far.test", "origin_server_ts": 2, "content": { "via": ["far.test"] } },
                { "type": "m.space.child", "state_key": "!a:far.test", "sender": "@x:far.test", "origin_server_ts": 9, "content": { "via": ["far.test", 5], "order": "a" } },
                { "type": "m.space.child", "state_key": "!gone:far.test", "sender": "@x:far.test", "origin_server_ts": 1, "content": {} },
                { "type": "m.space.child", "state_key": "no room", "content": { "via": ["far.test"] } },
                7,
            ]),
        );
        serde_json::json!({ "room": room, "children": [summary("!a:far.test"), { "room_id": "!b:far.test" }], "inaccessible_children": [] })
    }

    #[test]
    fn an_answer_is_read_in_the_spaces_order_and_what_is_malformed_is_left_out() {
        let room = ruma::room_id!("!space:far.test");
        let body = answer(room.as_str()).to_string();
        let remote = read(room, body.as_bytes(), false).unwrap();
        let children = remote.children.iter().map(|child| child.room_id.as_str()).collect::<Vec<_>>();
        assert_eq!(children, ["!a:far.test", "!b:far.test"]);
        assert_eq!(remote.known.len(), 1, "a summary without what clients need is none");
        assert!(remote.room.get("children_state").is_none());
    }

    #[test]
    fn an_answer_about_another_room_is_no_answer() {
        let body = answer("!other:far.test").to_string();
        assert!(read(ruma::room_id!("!space:far.test"), body.as_bytes(), false).is_none());
        assert!(read(ruma::room_id!("!space:far.test"), b"[]", false).is_none());
    }
}
