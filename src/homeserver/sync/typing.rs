//! Typing: who says that they type, and until when.

use std::{sync::Arc, time::Duration};

use ruma::{OwnedUserId, RoomId};
use tokio::time::Instant;

use super::live::LONGEST_TYPING;
use crate::homeserver::{
    Node,
    store::{StoreError, members, rooms},
    types::{Requester, RoomNid},
};

/// Why nobody hears of it.
#[derive(Debug, thiserror::Error)]
pub enum TypingError {
    /// Only members type.
    #[error("You are not in this room")]
    NotInRoom,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The user types, for so long, or has stopped.
///
/// # Errors
///
/// [`TypingError`].
pub async fn set(node: &Arc<Node>, who: &Requester, room_id: &RoomId, time: Option<Duration>) -> Result<(), TypingError> {
    let (user, room_id) = (who.user, room_id.to_owned());
    let room = node.store.read(move |db| {
        let Some(room) = rooms::by_id(db, &room_id)? else { return Ok::<_, StoreError>(None) };
        let member = members::get(db, room.nid, user)?;
        Ok(member.filter(|member| member.membership == "join").map(|_| room.nid))
    });
    let room = room.await?.ok_or(TypingError::NotInRoom)?;
    announce(node, room, &who.user_id, time.map(|time| Instant::now() + time.min(LONGEST_TYPING))).await?;
    Ok(())
}

/// Another server says that its user types until a time, or has stopped. Who may be believed is the caller's business.
///
/// # Errors
///
/// Store errors.
pub async fn heard(node: &Arc<Node>, room: RoomNid, user_id: &OwnedUserId, until: Option<Instant>) -> Result<(), StoreError> {
    announce(node, room, user_id, until).await
}

async fn announce(node: &Arc<Node>, room: RoomNid, user_id: &OwnedUserId, until: Option<Instant>) -> Result<(), StoreError> {
    let set = node.sync.live.set_typing(room, user_id, until);
    if set.watch {
        node.tasks.spawn("typing", watch(Arc::clone(node), room));
    }
    if set.changed { tell(node, room).await } else { Ok(()) }
}

/// Wakes the room's local members.
async fn tell(node: &Node, room: RoomNid) -> Result<(), StoreError> {
    for member in node.store.read(move |db| members::local_joined(db, room)).await? {
        node.notifier.nudge(member);
    }
    Ok(())
}

/// Waits for people's time to be over, as long as somebody types.
async fn watch(node: Arc<Node>, room: RoomNid) {
    loop {
        let expired = node.sync.live.expire_typing(room, Instant::now());
        if expired.changed
            && let Err(error) = tell(&node, room).await
        {
            tracing::warn!(%error, "could not tell that somebody stopped typing");
        }
        let Some(next) = expired.next else { return };
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = node.tasks.shutdown().wait() => return,
        }
    }
}
