//! The answer as it is written.

use std::collections::BTreeMap;

use ruma::{OwnedRoomId, OwnedUserId};
use serde::Serialize;

use super::super::{Raw, devices::DeviceLists, ephemeral::DeviceMessage};

/// The answer to one request.
#[derive(Debug, Default, Serialize)]
pub struct Response {
    pub(super) next_batch: String,
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub(super) account_data: Events,
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub(super) presence: Events,
    #[serde(skip_serializing_if = "ToDevice::is_empty")]
    pub(super) to_device: ToDevice,
    #[serde(skip_serializing_if = "DeviceLists::is_empty")]
    pub(super) device_lists: DeviceLists,
    pub(super) device_one_time_keys_count: BTreeMap<String, u64>,
    pub(super) device_unused_fallback_key_types: Vec<String>,
    #[serde(skip_serializing_if = "Rooms::is_empty")]
    pub(super) rooms: Rooms,
}

/// A list of events.
#[derive(Debug, Default, Serialize)]
pub(super) struct Events {
    pub events: Vec<Raw>,
}

impl Events {
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

/// Messages to the device.
#[derive(Debug, Default, Serialize)]
pub(super) struct ToDevice {
    pub events: Vec<DeviceMessage>,
}

impl ToDevice {
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

/// Rooms by what the user is to them.
#[derive(Debug, Default, Serialize)]
pub(super) struct Rooms {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub join: BTreeMap<OwnedRoomId, Room>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub invite: BTreeMap<OwnedRoomId, Invited>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub knock: BTreeMap<OwnedRoomId, Knocked>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub leave: BTreeMap<OwnedRoomId, Room>,
}

impl Rooms {
    pub fn is_empty(&self) -> bool {
        self.join.is_empty() && self.invite.is_empty() && self.knock.is_empty() && self.leave.is_empty()
    }
}

/// An invite.
#[derive(Debug, Serialize)]
pub(super) struct Invited {
    pub invite_state: Events,
}

/// A knock.
#[derive(Debug, Serialize)]
pub(super) struct Knocked {
    pub knock_state: Events,
}

/// A room that the user is in, or was.
#[derive(Debug, Default, Serialize)]
pub(super) struct Room {
    pub timeline: Timeline,
    /// Written also when empty: matrix-nio refuses rooms that were left without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Events>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_after: Option<Events>,
    #[serde(rename = "org.matrix.msc4222.state_after", skip_serializing_if = "Option::is_none")]
    pub unstable_state_after: Option<Events>,
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub account_data: Events,
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub ephemeral: Events,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread_notifications: Option<Unread>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unread_thread_notifications: BTreeMap<String, Unread>,
}

/// A stretch of the timeline.
#[derive(Debug, Default, Serialize)]
pub(super) struct Timeline {
    pub events: Vec<Raw>,
    pub limited: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_batch: Option<String>,
}

/// People of the room.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    #[serde(rename = "m.heroes", skip_serializing_if = "Option::is_none")]
    pub heroes: Option<Vec<OwnedUserId>>,
    #[serde(rename = "m.joined_member_count")]
    pub joined: u64,
    #[serde(rename = "m.invited_member_count")]
    pub invited: u64,
}

/// Unread notifications.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(super) struct Unread {
    pub notification_count: u64,
    pub highlight_count: u64,
}
