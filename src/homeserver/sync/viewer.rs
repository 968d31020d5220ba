//! Who looks, and what of the user's own settings decides what is shown.

use std::collections::BTreeSet;

use ruma::{OwnedDeviceId, OwnedUserId};

use crate::homeserver::{
    events::view,
    store::{Reader, Result, account_data},
    types::{Requester, UserNid},
};

/// The user and device that a response is for.
#[derive(Debug, Clone)]
pub(super) struct Viewer {
    /// The user, in the store.
    pub user: UserNid,
    /// The user, on the wire.
    pub user_id: OwnedUserId,
    /// The device.
    pub device: OwnedDeviceId,
    /// The same, for the rendering of events.
    pub view: view::Viewer,
}

impl Viewer {
    /// The requester as a viewer.
    pub fn new(who: &Requester, now_ms: u64) -> Self {
        Self { user: who.user, user_id: who.user_id.clone(), device: who.device_id.clone(), view: view::Viewer::of(who, now_ms) }
    }
}

/// Rooms that the user has marked as direct chats.
pub(super) fn direct_rooms(db: &Reader<'_>, user: UserNid) -> Result<BTreeSet<String>> {
    let Some(json) = account_data::get(db, user, None, "m.direct")? else { return Ok(BTreeSet::new()) };
    let Ok(content) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&json) else { return Ok(BTreeSet::new()) };
    let rooms = content.into_iter().filter_map(|(_, rooms)| serde_json::from_value::<Vec<String>>(rooms).ok());
    Ok(rooms.flatten().collect())
}
