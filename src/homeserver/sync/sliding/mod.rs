//! Simplified sliding sync (MSC4186): one engine, and two forms in which clients speak to it.
//!
//! [`unstable`] reads the deployed form, [`v4`] the accepted one and writes its answers.

mod connections;
mod extensions;
mod request;
mod required;
mod response;
mod room;
mod saved;
mod select;
pub mod unstable;
pub mod v4;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub use self::{
    connections::{Connections, start},
    request::{Context, Malformed, Request},
    response::Response,
};
use self::{
    connections::{Key, State, Told},
    select::{Asked, Index, Within},
};
use super::{SyncError, live::Moment, viewer, viewer::Viewer, wait};
use crate::homeserver::{
    Node,
    store::{Reader, Result, StoreError, account_data, receipts, sync_rooms},
    types::{Requester, StreamPos},
};

/// How a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Form {
    /// As deployed.
    #[serde(rename = "u")]
    Unstable,
    /// As accepted.
    #[serde(rename = "4")]
    V4,
}

/// A request whose parts have been checked.
struct Checked {
    request: Request,
    key: Key,
    base: Option<Arc<State>>,
    acknowledged: StreamPos,
    who: Requester,
}

/// Answers a request, at once or when there is news.
///
/// # Errors
///
/// [`SyncError`].
pub async fn sync(node: &Node, who: Requester, request: Request) -> Result<Response, SyncError> {
    let checked = Arc::new(check(node, who, request).await?);
    acknowledge(node, &checked).await?;
    // The proposal's default is not to wait. Lists that are still growing rely on it.
    let timeout = if checked.base.is_some() { checked.request.timeout } else { Duration::ZERO };
    let answer = wait::for_news(node, checked.who.user, timeout, || {
        let (checked, moment, now_ms) = (Arc::clone(&checked), node.sync.live.moment(), node.clock.now_ms());
        async move {
            node.store
                .read(move |db| {
                    super::check_signed_in(db, &checked.who)?;
                    Ok::<_, SyncError>(build(db, &checked, &moment, now_ms)?)
                })
                .await
        }
    });
    let (mut response, state) = answer.await?;
    response.pos = node.sync.connections.advance(checked.key.clone(), checked.request.pos.as_deref(), state);
    Ok(response)
}

async fn check(node: &Node, who: Requester, request: Request) -> Result<Checked, SyncError> {
    request.check()?;
    let key = Key { user: who.user, device: who.device_id.clone(), form: request.form, conn_id: request.conn_id.clone() };
    let base = match &request.pos {
        Some(pos) => Some(node.sync.connections.find(&node.store, &key, pos).await?.ok_or(SyncError::UnknownPos)?),
        None => None,
    };
    let acknowledged = match &request.extensions.to_device.since {
        Some(since) => since.parse().ok().filter(|pos| *pos >= 0).map(StreamPos).ok_or(SyncError::Invalid("Unknown to_device.since"))?,
        None => StreamPos(0),
    };
    Ok(Checked { request, key, base, acknowledged, who })
}

/// Deletes the messages that the device has.
async fn acknowledge(node: &Node, checked: &Arc<Checked>) -> Result<(), StoreError> {
    if checked.acknowledged == StreamPos(0) || !checked.request.extensions.to_device.is_on() {
        return Ok(());
    }
    super::acknowledge(node, &checked.who, checked.acknowledged).await
}

fn build(db: &Reader<'_>, checked: &Checked, moment: &Moment, now_ms: u64) -> Result<((Response, State), bool)> {
    let now = sync_rooms::position(db)?;
    let viewer = Viewer::new(&checked.who, now_ms);
    let base = checked.base.as_deref();
    let ignored = account_data::ignored_users(db, viewer.user)?;
    let direct = viewer::direct_rooms(db, viewer.user)?;
    let index = Index::load(db, &viewer, base, now, &ignored)?;
    let (form, lists, subscriptions) = (checked.request.form, &checked.request.lists, &checked.request.subscriptions);
    let read: BTreeSet<_> = match base {
        Some(base) => receipts::own_rooms_since(db, viewer.user, base.pos)?.into_iter().collect(),
        None => BTreeSet::new(),
    };
    let within = Within::default();
    let asked = Asked { form, viewer: &viewer, lists, subscriptions, direct: &direct, base, read: &read, within: &within };
    let mut selection = select::select(db, &index, &asked)?;
    let ctx = room::Ctx {
        form,
        viewer: &viewer,
        base,
        now,
        changed: &index.changed,
        read: &read,
        direct: &direct,
        ignored: &ignored,
        within: &within,
    };
    let mut told: HashMap<_, Arc<Told>> = base.map(|base| base.rooms.clone()).unwrap_or_default();
    let mut rooms = BTreeMap::new();
    for (nid, wanted) in &selection.rooms {
        if let Some((room, record)) = room::build(db, &ctx, wanted)? {
            told.insert(*nid, Arc::new(record));
            rooms.insert(wanted.entry.room_id.clone(), room);
        }
    }
    for nid in index.changed.iter().chain(&read).filter(|nid| !selection.rooms.contains_key(nid)) {
        if let Some(told) = told.get_mut(nid).filter(|told| !told.behind) {
            Arc::make_mut(told).behind = true;
        }
    }
    let mut next = State {
        pos: now,
        serial: moment.serial,
        rooms: told,
        entries: Some(Arc::clone(&index.entries)),
        key_counts: base.map(|base| base.key_counts.clone()).unwrap_or_default(),
        fallback_keys: base.map(|base| base.fallback_keys.clone()).unwrap_or_default(),
        begun: base.map(|base| base.begun.clone()).unwrap_or_default(),
    };
    let ctx = extensions::Ctx {
        viewer: &viewer,
        asked: &checked.request.extensions,
        acknowledged: checked.acknowledged,
        base,
        now,
        index: &index,
        selection: &selection,
        moment,
        rooms: &rooms,
    };
    let (extensions, more) = extensions::build(db, &ctx, &mut next)?;
    let news = more || !rooms.is_empty();
    let lists = std::mem::take(&mut selection.lists).into_iter().map(|(name, count)| (name, response::List { count })).collect();
    let response = Response { txn_id: checked.request.txn_id.clone(), pos: String::new(), lists, rooms, extensions };
    Ok(((response, next), news))
}
