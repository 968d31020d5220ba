//! The answer, written as the deployed form has it; `v4` takes it apart and writes it in its own.

use std::collections::BTreeMap;

use ruma::{OwnedRoomId, events::room::member::MembershipState};
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::{Raw, devices::DeviceLists, ephemeral::DeviceMessage};

pub(super) fn is_false(value: &bool) -> bool {
    !*value
}

/// The answer to one request.
#[derive(Debug, Serialize)]
pub struct Response {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) txn_id: Option<String>,
    pub(super) pos: String,
    pub(super) lists: BTreeMap<String, List>,
    pub(super) rooms: BTreeMap<OwnedRoomId, Room>,
    pub(super) extensions: Extensions,
}

/// A list of rooms.
#[derive(Debug, Serialize)]
pub(super) struct List {
    pub count: usize,
}

/// News of a room.
#[derive(Debug, Default, Serialize)]
pub(super) struct Room {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `Some(None)`: there is none any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar: Option<Option<String>>,
    #[serde(skip_serializing_if = "is_false")]
    pub initial: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub unstable_expanded_timeline: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_dm: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invite_state: Option<Vec<Raw>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notification_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub highlight_count: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub required_state: Vec<Raw>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub timeline: Vec<Raw>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_batch: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    pub limited: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joined_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invited_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_live: Option<usize>,
    pub bump_stamp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heroes: Option<Vec<Hero>>,
    /// Events of the timeline, for the receipts that go with them.
    #[serde(skip)]
    pub event_ids: Vec<String>,
    /// What the user is to the room.
    #[serde(skip)]
    pub membership: Option<MembershipState>,
    /// Lists that the room is in.
    #[serde(skip)]
    pub lists: Vec<String>,
    /// There was a name, and is none any more.
    #[serde(skip)]
    pub name_gone: bool,
}

/// A member after whom a room without a name is called.
#[derive(Debug, Serialize)]
pub(super) struct Hero {
    pub user_id: ruma::OwnedUserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub displayname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
}

/// What is no room.
#[derive(Debug, Default, Serialize)]
pub(super) struct Extensions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_device: Option<ToDevice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub e2ee: Option<E2ee>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_data: Option<AccountData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipts: Option<ByRoom>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typing: Option<ByRoom>,
    #[serde(rename = "io.element.msc4308.thread_subscriptions", skip_serializing_if = "Option::is_none")]
    pub thread_subscriptions: Option<Map<String, Value>>,
}

/// Messages to the device.
#[derive(Debug, Serialize)]
pub(super) struct ToDevice {
    pub next_batch: String,
    pub events: Vec<DeviceMessage>,
}

/// Keys.
#[derive(Debug, Serialize)]
pub(super) struct E2ee {
    #[serde(skip_serializing_if = "DeviceLists::is_empty")]
    pub device_lists: DeviceLists,
    pub device_one_time_keys_count: BTreeMap<String, u64>,
    pub device_unused_fallback_key_types: Vec<String>,
}

/// Account data.
#[derive(Debug, Default, Serialize)]
pub(super) struct AccountData {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub global: Vec<Raw>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rooms: BTreeMap<OwnedRoomId, Vec<Raw>>,
}

/// One event for each of several rooms.
#[derive(Debug, Default, Serialize)]
pub(super) struct ByRoom {
    pub rooms: BTreeMap<OwnedRoomId, Raw>,
}
