//! What the node's owner may ask of it, answered on `admin.sock` beside whatever else the process does.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    control::{
        Request,
        server::{Handler, Replies},
    },
    exit::{Exit, Failure},
    node::account_failure,
};
use crate::{
    base::{Clock as _, SystemClock},
    homeserver::{
        self, Node,
        store::{self, held_invites, reports, rooms, users},
    },
};

/// Serves `admin.sock`.
#[derive(Debug)]
pub struct Owner {
    about: Value,
    node: Arc<Node>,
}

impl Owner {
    /// `about` is what a process that attaches is told.
    #[must_use]
    pub fn new(about: Value, node: Arc<Node>) -> Self {
        Self { about, node }
    }

    async fn create_token(&self, uses: Option<u32>, valid_ms: Option<u64>) -> Result<Value, Failure> {
        let expires_ms = valid_ms.map(|valid_ms| SystemClock.now_ms().saturating_add(valid_ms));
        let token = self.node.accounts.create_registration_token(uses, expires_ms).await.map_err(failed)?;
        Ok(json!({ "token": token }))
    }

    async fn reports(&self, limit: u32) -> Result<Value, Failure> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let found = self.node.store.read(move |db| reports::newest(db, limit)).await.map_err(failed)?;
        Ok(json!({ "reports": found }))
    }

    async fn held_invites(&self, limit: u32) -> Result<Value, Failure> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let found = self.node.store.read(move |db| held_invites::all(db, limit)).await.map_err(failed)?;
        Ok(json!({ "invites": found }))
    }

    /// Lets a held invite through.
    async fn release(&self, user_id: &str, room_id: &str) -> Result<Value, Failure> {
        let (user, room) = parse_invite(user_id, room_id)?;
        match self.node.store.write(move |tx| held_invites::release(tx, &room, &user)).await.map_err(failed)? {
            true => Ok(json!({ "released": room_id })),
            false => Err(no_such_invite(user_id, room_id)),
        }
    }

    /// Turns a held invite down in the user's name. Another server is asked; a task of the node's own does it, so that it comes
    /// to its end even if the asker hangs up.
    async fn reject(&self, user_id: String, room_id: String) -> Result<Value, Failure> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let node = Arc::clone(&self.node);
        self.node.tasks.clone().spawn("node-reject-invite", async move {
            // Who hangs up does not want to know.
            let _ = answer.send(reject(&node, &user_id, &room_id).await.map(|()| json!({ "rejected": room_id })));
        });
        answered.await.map_err(|_| Failure::new(Exit::Busy, "the node is stopping"))?
    }
}

impl Handler for Owner {
    async fn handle(&self, request: Request, replies: &mut Replies) -> Result<Value, Failure> {
        match request {
            Request::Watch => {
                replies.item(self.about.clone()).await?;
                // The connection itself is the message: it ends when this process does.
                std::future::pending().await
            }
            Request::CreateAccount { name, password, admin } => {
                let created = self.node.accounts.create(&name, password.expose(), admin).await;
                created.map(|user_id| json!({ "user_id": user_id })).map_err(|error| account_failure(&error))
            }
            Request::CreateToken { uses, valid_ms } => self.create_token(uses, valid_ms).await,
            Request::NewKey => self.node.federation.keys.rotate().await.map(|key_id| json!({ "key_id": key_id })).map_err(failed),
            Request::Reports { limit } => self.reports(limit).await,
            Request::HeldInvites { limit } => self.held_invites(limit).await,
            Request::JudgeInvite { user_id, room_id, release: true } => self.release(&user_id, &room_id).await,
            Request::JudgeInvite { user_id, room_id, release: false } => self.reject(user_id, room_id).await,
            // What does not work at the moment: push gateways and application services that take nothing.
            Request::Troubles => homeserver::troubles(&self.node).await.map(|troubles| json!({ "troubles": troubles })).map_err(failed),
            _ => Err(Failure::usage("this socket is for the node's owner; messages go through the profile's control socket")),
        }
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failure, error.to_string())
}

fn parse_invite(user_id: &str, room_id: &str) -> Result<(ruma::OwnedUserId, ruma::OwnedRoomId), Failure> {
    let user = ruma::UserId::parse(user_id).map_err(|error| Failure::usage(format!("`{user_id}` is not a user ID: {error}")))?;
    let room = ruma::RoomId::parse(room_id).map_err(|error| Failure::usage(format!("`{room_id}` is not a room ID: {error}")))?;
    Ok((user, room))
}

fn no_such_invite(user_id: &str, room_id: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("no invite of {user_id} to {room_id} is held"))
}

async fn reject(node: &Arc<Node>, user_id: &str, room_id: &str) -> Result<(), Failure> {
    let (user, room) = parse_invite(user_id, room_id)?;
    let (wanted_user, wanted_room) = (user.clone(), room.clone());
    let held = node.store.read(move |db| -> store::Result<bool> {
        let (user, room) = (users::find(db, &wanted_user)?, rooms::by_id(db, &wanted_room)?);
        let (Some(user), Some(room)) = (user, room) else { return Ok(false) };
        held_invites::is_held(db, room.nid, user)
    });
    if !held.await.map_err(failed)? {
        return Err(no_such_invite(user_id, room_id));
    }
    homeserver::federation::membership::leave(node, user, room, None).await.map_err(failed)
}
