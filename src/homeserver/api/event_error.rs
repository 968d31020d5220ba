//! What goes wrong with rooms and events, on the wire.

use http::StatusCode;

use super::error::ApiError;
use crate::homeserver::events::EventError;

impl From<EventError> for ApiError {
    fn from(error: EventError) -> Self {
        let bad = |code: &str, why: String| Self::new(StatusCode::BAD_REQUEST, code, why);
        match error {
            EventError::Forbidden(why) => Self::forbidden(why),
            EventError::Suspended => Self::user_suspended(),
            EventError::NotFound(why) => Self::not_found(why),
            EventError::TooLarge(why) => Self::too_large(why),
            EventError::BadJson(why) => Self::bad_json(why),
            EventError::InvalidParam(why) => Self::invalid_param(why),
            EventError::BadState(why) => Self::new(StatusCode::FORBIDDEN, "M_BAD_STATE", why),
            EventError::BadAlias(why) => bad("M_BAD_ALIAS", why),
            EventError::RoomInUse(why) => bad("M_ROOM_IN_USE", why),
            EventError::InvalidRoomState(why) => bad("M_INVALID_ROOM_STATE", why),
            EventError::UnsupportedRoomVersion(version) => {
                bad("M_UNSUPPORTED_ROOM_VERSION", format!("Room version {version} is not supported"))
            }
            EventError::DuplicateAnnotation(why) => bad("M_DUPLICATE_ANNOTATION", why),
            EventError::UnableToGrantJoin(why) => bad("M_UNABLE_TO_GRANT_JOIN", why),
            EventError::InviteBlocked(why) => Self::new(StatusCode::FORBIDDEN, "M_INVITE_BLOCKED", why),
            EventError::Unknown(why) => bad("M_UNKNOWN", why),
            EventError::Store(error) => error.into(),
            EventError::Internal(why) => Self::internal(why),
        }
    }
}
