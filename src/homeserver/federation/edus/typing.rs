//! `m.typing` (Server-Server API, "Typing Notifications").

use std::{sync::Arc, time::Duration};

use ruma::{RoomId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{EduError, Result, may_speak, owned};
use crate::homeserver::{
    Node,
    store::{members, rooms, users},
    sync,
};

/// How long somebody types when their server says no more: servers repeat it more often than that.
const LASTS: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Typing {
    room_id: String,
    user_id: String,
    typing: bool,
}

pub(super) async fn receive(node: &Arc<Node>, origin: &ServerName, content: &RawValue) -> Result<()> {
    let edu: Typing = serde_json::from_str(content.get())?;
    let user_id = owned(origin, &edu.user_id)?;
    let room_id = RoomId::parse(&edu.room_id).map_err(|e| EduError::Malformed(format!("room ID: {e}")))?;
    let (origin, typist) = (origin.to_owned(), user_id.clone());
    let room = node.store.read(move |db| {
        let Some(room) = rooms::by_id(db, &room_id)? else { return Ok(None) };
        may_speak(db, &room, &origin)?;
        let Some(user) = users::find(db, &typist)? else { return Ok(None) };
        let joined = members::get(db, room.nid, user)?.is_some_and(|member| member.membership == "join");
        Ok::<_, EduError>((joined && !members::local_joined(db, room.nid)?.is_empty()).then_some(room.nid))
    });
    if let Some(room) = room.await? {
        sync::typing::heard(node, room, &user_id, edu.typing.then(|| Instant::now() + LASTS)).await?;
    }
    Ok(())
}
