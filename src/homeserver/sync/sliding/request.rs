//! What a request asks, whichever form it came in.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ruma::{OwnedRoomId, OwnedUserId};
use serde::Deserialize;

use super::{Form, required::Required};
use crate::homeserver::sync::SyncError;

/// Lists, and subscriptions, of one request.
const MOST: usize = 100;
/// Events of one room in one answer, at most.
const LONGEST_TIMELINE: u64 = 500;

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    pub(super) form: Form,
    pub(super) pos: Option<String>,
    pub(super) timeout: Duration,
    pub(super) conn_id: String,
    pub(super) txn_id: Option<String>,
    /// How the user is, as the client says.
    pub presence: ruma::presence::PresenceState,
    pub(super) lists: BTreeMap<String, List>,
    pub(super) subscriptions: BTreeMap<OwnedRoomId, Details>,
    pub(super) extensions: Extensions,
}

/// Rooms by their place in the server's list.
#[derive(Debug, Clone)]
pub(super) struct List {
    /// First and last places; `None` for all.
    pub ranges: Option<Vec<(usize, usize)>>,
    pub details: Details,
    pub filters: Filters,
}

/// What to tell of a room.
#[derive(Debug, Clone)]
pub(super) struct Details {
    pub timeline_limit: usize,
    /// Shared by the rooms of a list, so that hundreds of rooms cost one.
    pub required: Arc<Required>,
}

/// Which rooms a list has. What is missing excludes nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Filters {
    pub is_dm: Option<bool>,
    pub is_encrypted: Option<bool>,
    pub is_invited: Option<bool>,
    /// Types of room, `None` for rooms without one.
    pub room_types: Option<Vec<Option<String>>>,
    pub not_room_types: Vec<Option<String>>,
    /// Rooms of any of these spaces.
    pub spaces: Option<Vec<String>>,
    /// Rooms with any of these tags.
    pub tags: Option<Vec<String>>,
    pub not_tags: Vec<String>,
}

/// What else to tell. Both forms have them alike.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Extensions {
    #[serde(default)]
    pub to_device: ToDevice,
    #[serde(default)]
    pub e2ee: Switch,
    #[serde(default)]
    pub account_data: Scope,
    #[serde(default)]
    pub receipts: Scope,
    #[serde(default)]
    pub typing: Scope,
    #[serde(default, rename = "io.element.msc4308.thread_subscriptions")]
    pub thread_subscriptions: ThreadSubscriptions,
}

/// Which threads the user follows.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct ThreadSubscriptions {
    #[serde(flatten)]
    switch: Switch,
    pub limit: Option<u64>,
}

impl ThreadSubscriptions {
    pub fn is_on(&self) -> bool {
        self.switch.is_on()
    }
}

/// An extension without settings.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct Switch {
    #[serde(default)]
    enabled: Option<bool>,
}

impl Switch {
    pub fn is_on(self) -> bool {
        self.enabled == Some(true)
    }
}

/// Messages to the device.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct ToDevice {
    #[serde(flatten)]
    switch: Switch,
    pub limit: Option<u64>,
    pub since: Option<String>,
}

impl ToDevice {
    pub fn is_on(&self) -> bool {
        self.switch.is_on()
    }
}

/// An extension that is about rooms.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Scope {
    #[serde(flatten)]
    switch: Switch,
    /// Those of these lists only.
    pub lists: Option<Vec<String>>,
    /// Of the subscriptions only these, `*` for all.
    pub rooms: Option<Vec<String>>,
}

impl Scope {
    pub fn is_on(&self) -> bool {
        self.switch.is_on()
    }
}

impl Request {
    /// Says what is wrong with a request that could be read.
    pub(super) fn check(&self) -> Result<(), SyncError> {
        if self.conn_id.chars().count() > 255 {
            return Err(SyncError::Invalid("conn_id is too long"));
        }
        if self.lists.len() > MOST || self.subscriptions.len() > MOST {
            return Err(SyncError::Invalid("Too many lists or room subscriptions"));
        }
        let wrong = |ranges: &Vec<(usize, usize)>| ranges.len() > MOST || ranges.iter().any(|(from, to)| from > to);
        if self.lists.values().filter_map(|list| list.ranges.as_ref()).any(wrong) {
            return Err(SyncError::Invalid("A range ends before it begins, or there are too many"));
        }
        Ok(())
    }
}

/// The presence that a client sets by asking; online, if it says nothing.
pub(super) fn presence(text: Option<&str>) -> Result<ruma::presence::PresenceState, Malformed> {
    match text {
        None => Ok(ruma::presence::PresenceState::Online),
        Some(state @ ("online" | "offline" | "unavailable")) => Ok(state.into()),
        Some(_) => Err(Malformed::Invalid("`set_presence` is none of online, offline, unavailable")),
    }
}

/// A place in a list.
pub(super) fn place(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A timeline's length, bounded.
pub(super) fn timeline_limit(number: u64) -> usize {
    place(number.min(LONGEST_TIMELINE))
}

/// What a codec knows beside the body.
#[derive(Debug)]
pub struct Context {
    /// Who asks.
    pub user_id: OwnedUserId,
    /// The query.
    pub query: Vec<(String, String)>,
}

impl Context {
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Why a body is no request.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Not the form that the codec has.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A value that makes no sense.
    #[error("{0}")]
    Invalid(&'static str),
}
