//! Power levels: who may do what in a room.

use std::{collections::HashSet, sync::Arc};

use ruma::{
    Int, OwnedUserId, UserId,
    events::{TimelineEventType, room::power_levels::UserPowerLevel},
    room_version_rules::AuthorizationRules,
    state_res::events::{RoomCreateEvent, RoomPowerLevelsEvent},
};

use serde_json::Value;

use crate::homeserver::types::Pdu;

/// What needs a level of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Inviting.
    Invite,
    /// Removing.
    Kick,
    /// Banning.
    Ban,
    /// Redacting other people's events.
    Redact,
}

impl Action {
    fn field(self) -> &'static str {
        match self {
            Self::Invite => "invite",
            Self::Kick => "kick",
            Self::Ban => "ban",
            Self::Redact => "redact",
        }
    }

    fn default_level(self) -> i64 {
        if self == Self::Invite { 0 } else { 50 }
    }
}

/// A room's power levels together with its creators.
#[derive(Debug)]
pub struct PowerLevels<'a> {
    levels: Option<RoomPowerLevelsEvent<Arc<Pdu>>>,
    creators: HashSet<OwnedUserId>,
    rules: &'a AuthorizationRules,
}

impl<'a> PowerLevels<'a> {
    /// From the room's create and power levels events.
    ///
    /// # Errors
    ///
    /// Why the create event cannot be read.
    pub fn new(create: Arc<Pdu>, levels: Option<Arc<Pdu>>, rules: &'a AuthorizationRules) -> Result<Self, String> {
        let creators = RoomCreateEvent::new(create).creators(rules)?;
        Ok(Self { levels: levels.map(RoomPowerLevelsEvent::new), creators, rules })
    }

    /// The users who made the room.
    #[must_use]
    pub fn creators(&self) -> &HashSet<OwnedUserId> {
        &self.creators
    }

    /// A user's power level.
    ///
    /// # Errors
    ///
    /// Why the power levels event cannot be read.
    pub fn user(&self, user: &UserId) -> Result<UserPowerLevel, String> {
        if self.rules.explicitly_privilege_room_creators && self.creators.contains(user) {
            return Ok(UserPowerLevel::Infinite);
        }
        match &self.levels {
            Some(levels) => levels.user_power_level(user, self.rules).map(Into::into),
            None if self.creators.contains(user) => Ok(Int::from(100).into()),
            None => Ok(Int::from(0).into()),
        }
    }

    /// The level that an action needs.
    ///
    /// # Errors
    ///
    /// Why the power levels event cannot be read.
    pub fn action(&self, action: Action) -> Result<i64, String> {
        let Some(levels) = &self.levels else { return Ok(action.default_level()) };
        let content: serde_json::Map<String, Value> =
            serde_json::from_str(ruma::state_res::Event::content(&**levels).get()).map_err(|e| e.to_string())?;
        match content.get(action.field()) {
            None => Ok(action.default_level()),
            Some(Value::Number(level)) => level.as_i64().ok_or_else(|| format!("`{}` is no integer", action.field())),
            // Room versions before 10 take numbers in quotes.
            Some(Value::String(level)) if !self.rules.integer_power_levels => level.trim().parse().map_err(|_| "no integer".to_owned()),
            Some(_) => Err(format!("`{}` is no integer", action.field())),
        }
    }

    /// May this user do that?
    ///
    /// # Errors
    ///
    /// Why the power levels event cannot be read.
    pub fn may(&self, user: &UserId, action: Action) -> Result<bool, String> {
        let needed = self.action(action)?;
        Ok(match self.user(user)? {
            UserPowerLevel::Infinite => true,
            UserPowerLevel::Int(level) => i64::from(level) >= needed,
            _ => false,
        })
    }

    /// May this user send events of this type?
    ///
    /// # Errors
    ///
    /// Why the power levels event cannot be read.
    pub fn may_send(&self, user: &UserId, kind: &TimelineEventType, state_key: Option<&str>) -> Result<bool, String> {
        let needed = match &self.levels {
            Some(levels) => levels.event_power_level(kind, state_key, self.rules)?,
            None if state_key.is_some() => Int::from(50),
            None => Int::from(0),
        };
        Ok(self.user(user)? >= UserPowerLevel::Int(needed))
    }
}
