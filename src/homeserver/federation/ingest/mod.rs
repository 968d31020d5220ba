//! Events of other servers: from what came over the wire to a room that has changed, or has not.
//!
//! Server-Server API, "Checks performed on receipt of a PDU"; each of the seven checks has a file. What another server sends is
//! put on disk before it is acknowledged ([`Ingest::receive`]) and worked on afterwards, room by room, one event after the
//! other within a room. A bad event is refused by itself; what came with it goes on.

pub mod asking;
mod backfill;
mod check1_format;
mod check2_signatures;
mod check3_hash;
mod check4_auth_events;
mod check5_state_before;
mod check6_current_state;
mod check7_policy;
mod fetch;
mod forks;
mod gaps;
mod import;
mod lookup;
mod place;
mod queue;
pub mod remote;
pub mod scan;
mod takeover;
#[cfg(test)]
mod tests;
mod work;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use ruma::{OwnedRoomId, OwnedServerName, RoomId, ServerName};

pub use self::import::{Gathered, Head, ImportError, Imported};
use self::remote::Remote;
use crate::{
    base::Clock,
    homeserver::{
        events::{self, Ctx},
        rooms::acl::Acl,
        store::{Reader, Store, StoreError, events as stored, servers, state},
        types::RoomHandle,
    },
};

/// An event that is not taken up: nothing is known of who made it, or it is not where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped(pub String);

/// Receives events. One per node.
#[derive(Debug)]
pub struct Ingest {
    store: Store,
    remote: Arc<dyn Remote>,
    clock: Arc<dyn Clock>,
    server_name: OwnedServerName,
    /// Who we are; the time in it is when the node started.
    ctx: Ctx,
    /// Told when something has been put into the queue.
    news: tokio::sync::Notify,
    /// The same, for those who work on a room already.
    arrived: tokio::sync::watch::Sender<()>,
    /// How much the writer does at a time when a room comes over.
    steps: takeover::Steps,
    /// Rooms that have forked widely.
    forks: forks::Forks,
    /// Rooms that somebody works on.
    busy: Mutex<HashSet<OwnedRoomId>>,
    /// One backfill of a room at a time, and few at once.
    backfills: tokio::sync::Semaphore,
    /// One run of history gets its places at a time.
    history: tokio::sync::Mutex<()>,
    /// One whole state in memory at a time.
    states: tokio::sync::Semaphore,
}

impl Ingest {
    /// Receives events into this store. Works on nothing until it is told to ([`Ingest::start`]).
    #[must_use]
    pub fn new(store: Store, remote: Arc<dyn Remote>, ctx: Ctx, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            remote,
            clock,
            server_name: ctx.server_name.clone(),
            ctx,
            news: tokio::sync::Notify::new(),
            arrived: tokio::sync::watch::Sender::new(()),
            steps: takeover::Steps::default(),
            forks: forks::Forks::default(),
            busy: Mutex::default(),
            backfills: tokio::sync::Semaphore::new(backfill::AT_ONCE),
            history: tokio::sync::Mutex::default(),
            states: tokio::sync::Semaphore::new(1),
        }
    }

    fn ctx(&self) -> Ctx {
        Ctx { now_ms: self.clock.now_ms(), ..self.ctx.clone() }
    }

    /// Servers that may know more of a room, the likeliest first, without us.
    async fn servers_of(&self, room: &RoomHandle, first: Option<&ServerName>) -> Result<Vec<OwnedServerName>, StoreError> {
        let nid = room.nid;
        let found = self.store.read(move |db| servers::in_room(db, nid)).await?;
        let mut servers: Vec<OwnedServerName> = first.map(ToOwned::to_owned).into_iter().collect();
        servers.extend(found.into_iter().filter(|server| Some(&**server) != first));
        servers.retain(|server| *server != self.server_name);
        Ok(servers)
    }
}

/// May this server take part in the room, as far as its `m.room.server_acl` says?
///
/// # Errors
///
/// Store errors.
pub fn acl_allows(db: &Reader<'_>, room: &RoomHandle, server: &ServerName) -> events::Result<bool> {
    let Some(nid) = state::current(db, room.nid, "m.room.server_acl", "")? else { return Ok(true) };
    let content = crate::homeserver::rooms::format::content(&stored::by_nid(db, nid)?.json)
        .map_err(|e| events::EventError::Internal(e.to_string()))?;
    Ok(Acl::new(content.get()).allows(server))
}

/// Puts back what [`Ingest::claim`] took.
struct Claim<'a> {
    ingest: &'a Ingest,
    room_id: OwnedRoomId,
}

impl Ingest {
    /// Takes a room to work on, unless somebody has it.
    fn claim(&self, room_id: &RoomId) -> Option<Claim<'_>> {
        let mut busy = self.busy.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        busy.insert(room_id.to_owned()).then(|| Claim { ingest: self, room_id: room_id.to_owned() })
    }

    /// True while somebody works on a room.
    fn is_busy(&self, room_id: &RoomId) -> bool {
        self.busy.lock().unwrap_or_else(std::sync::PoisonError::into_inner).contains(room_id)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.ingest.busy.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&self.room_id);
        // Somebody may have wanted the room meanwhile.
        self.ingest.news.notify_one();
    }
}
