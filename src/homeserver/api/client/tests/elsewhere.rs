//! What other servers, and the ways to them, become in an answer: nobody here can provoke it by a request alone.

use ruma::RoomVersionId;

use crate::homeserver::{
    api::error::ApiError,
    federation::{media::FetchError, membership::MembershipError, request::RequestError},
    media::MediaError,
};

fn told(error: impl Into<ApiError>) -> (u16, String) {
    let error = error.into();
    (error.status().as_u16(), error.errcode().unwrap_or_default().to_owned())
}

#[test]
fn what_is_wrong_with_another_servers_file_is_not_what_is_wrong_with_the_request() {
    let too_large = || [MediaError::TooLarge { limit: 1 }, MediaError::ImageTooLarge];
    for error in too_large() {
        assert_eq!(told(error), (413, "M_TOO_LARGE".into()));
    }
    for error in too_large() {
        assert_eq!(told(FetchError::Media(error)), (502, "M_TOO_LARGE".into()));
    }
    assert_eq!(told(FetchError::Media(MediaError::BrokenOff)).0, 502);
    assert_eq!(told(FetchError::Media(MediaError::NotYetUploaded)), (504, "M_NOT_YET_UPLOADED".into()));
    assert_eq!(told(FetchError::Remote(RequestError::TimedOut)).0, 504);
    let remote = |status| RequestError::Remote { status, errcode: "M_UNKNOWN".into(), message: String::new(), retry_after: None };
    for status in [400, 401, 429, 500] {
        assert_eq!(told(FetchError::Remote(remote(status))).0, 502, "{status}");
    }
    assert_eq!(told(FetchError::Malformed(crate::homeserver::federation::multipart::Malformed("x"))).0, 502);
}

#[test]
fn an_invite_to_a_server_that_lacks_the_rooms_version_is_told_as_such() {
    let refused = MembershipError::Refused { status: 400, errcode: "M_INCOMPATIBLE_ROOM_VERSION".into(), message: "no".into() };
    assert_eq!(told(refused), (400, "M_UNSUPPORTED_ROOM_VERSION".into()));
    assert_eq!(told(MembershipError::Incompatible(RoomVersionId::V12)), (400, "M_INCOMPATIBLE_ROOM_VERSION".into()));
}
