//! What goes wrong with rooms and events, on the wire.

use http::StatusCode;

use super::error::ApiError;
use crate::homeserver::{
    events::{EventError, policy::Refusal},
    federation::membership::MembershipError,
};

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
            EventError::NeedsApproval(_) => Self::forbidden("The room's policy server has to approve what is sent, and was not asked"),
            EventError::NotApproved(Refusal { status, errcode, message }) => {
                Self::new(StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN), &errcode, message)
            }
            EventError::Unknown(why) => bad("M_UNKNOWN", why),
            EventError::Store(error) => error.into(),
            EventError::Internal(why) => Self::internal(why),
        }
    }
}

impl From<MembershipError> for ApiError {
    fn from(error: MembershipError) -> Self {
        let bad = |code: &str, why: String| Self::new(StatusCode::BAD_REQUEST, code, why);
        let elsewhere = |why: String| Self::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", why);
        match error {
            MembershipError::Event(error) => error.into(),
            MembershipError::Invalid(why) => bad("M_INVALID_PARAM", why),
            MembershipError::Missing(why) => bad("M_MISSING_PARAM", why),
            MembershipError::UnableToAuthorise(why) => bad("M_UNABLE_TO_AUTHORISE_JOIN", why),
            MembershipError::Incompatible(version) => {
                bad("M_INCOMPATIBLE_ROOM_VERSION", format!("Your server does not support version {version} of this room"))
                    .field("room_version", version.to_string())
            }
            // Said about the room; whatever else another server says is between it and us, and some of it (401) would mislead.
            MembershipError::Refused { status, errcode, message } => match (status, errcode.as_str()) {
                (403, "M_FORBIDDEN" | "M_INVITE_BLOCKED") | (404, "M_NOT_FOUND") => {
                    Self::new(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY), &errcode, message)
                }
                (400, "M_UNABLE_TO_AUTHORISE_JOIN" | "M_UNABLE_TO_GRANT_JOIN") => bad(&errcode, message),
                (400, "M_INCOMPATIBLE_ROOM_VERSION") => bad("M_UNSUPPORTED_ROOM_VERSION", message),
                (403, _) => Self::forbidden(message),
                _ => elsewhere(format!("Another server refuses: {message}")),
            },
            MembershipError::Nonsense(why) => elsewhere(format!("Another server answers wrongly: {why}")),
            MembershipError::Unreachable(why) => elsewhere(format!("No other server could help: {why}")),
        }
    }
}
