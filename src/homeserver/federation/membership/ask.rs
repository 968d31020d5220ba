//! Asking a server that is in a room: for the place of a membership event, then to take the event.

use ruma::{
    CanonicalJsonObject, RoomVersionId, ServerName,
    api::federation::membership::{
        create_leave_event::v2 as create_leave, prepare_join_event::v1 as prepare_join, prepare_knock_event::v1 as prepare_knock,
        prepare_leave_event::v1 as prepare_leave,
    },
    room_version_rules::RoomVersionRules,
};
use serde_json::value::RawValue;

use super::{Kind, MembershipError, Result};
use crate::homeserver::{
    Node,
    events::{Ctx, EventError},
    federation::request::Limits,
    rooms::{
        build::{self, Template},
        proposal::{self, Place, Wanted},
        versions,
    },
    types::Pdu,
};

/// What a server proposes.
#[derive(Debug)]
pub(super) struct Proposal {
    pub version: RoomVersionId,
    pub rules: RoomVersionRules,
    pub place: Place,
}

/// Asks for the place of a membership event and checks that it is one.
pub(super) async fn proposal(node: &Node, server: &ServerName, kind: Kind, wanted: Wanted<'_>) -> Result<Proposal> {
    let (client, limits) = (&node.federation.client, Limits::ORDINARY.insisting());
    let (room, user) = (wanted.room_id.to_owned(), wanted.user_id.to_owned());
    let (version, template) = match kind {
        Kind::Join => {
            let mut request = prepare_join::Request::new(room, user);
            request.ver = versions::SUPPORTED.to_vec();
            let answer = client.request_within(server, request, limits).await?;
            (answer.room_version, answer.event)
        }
        Kind::Leave => {
            let answer = client.request_within(server, prepare_leave::Request::new(room, user), limits).await?;
            (answer.room_version, answer.event)
        }
        Kind::Knock => {
            let mut request = prepare_knock::Request::new(room, user);
            request.ver = versions::SUPPORTED.into_iter().filter(|v| v.rules().is_some_and(|rules| rules.authorization.knocking)).collect();
            let answer = client.request_within(server, request, limits).await?;
            (Some(answer.room_version), answer.event)
        }
    };
    // Without one it is version 1 (Server-Server API, `GET /make_join`).
    let version = version.unwrap_or(RoomVersionId::V1);
    let rules = versions::rules(&version).ok_or_else(|| EventError::UnsupportedRoomVersion(version.to_string()))?;
    let place = proposal::read(template.get(), wanted, &rules.authorization).map_err(MembershipError::Nonsense)?;
    Ok(Proposal { version, rules, place })
}

/// Builds our event for a place. Only the place is the other server's: everything that we sign is ours.
pub(super) fn event(
    ctx: &Ctx,
    wanted: Wanted<'_>,
    place: Place,
    rules: &RoomVersionRules,
    mut content: CanonicalJsonObject,
) -> Result<(Pdu, String)> {
    if let Some(user) = place.authorised_via {
        content.insert("join_authorised_via_users_server".into(), user.to_string().into());
    }
    let template = Template {
        room_id: Some(wanted.room_id),
        sender: wanted.user_id,
        kind: "m.room.member",
        state_key: Some(wanted.user_id.as_str()),
        content,
        redacts: None,
        origin_server_ts: ctx.now_ms,
        prev_events: place.prev_events,
        prev_depth: place.depth.saturating_sub(1),
        auth_events: place.auth_events,
    };
    let sign = |json: &mut CanonicalJsonObject| ctx.key.sign_event(ctx.server_name.as_str(), json, &rules.redaction);
    Ok(build::build(template, rules, sign).map_err(EventError::from)?)
}

/// Gives a leave to a server that is in the room.
pub(super) async fn send_leave(node: &Node, server: &ServerName, wanted: Wanted<'_>, pdu: &Pdu, json: &str) -> Result<()> {
    let request = create_leave::Request::new(wanted.room_id.to_owned(), pdu.event_id().to_owned(), raw(json)?);
    node.federation.client.request_within(server, request, Limits::ORDINARY.insisting()).await?;
    Ok(())
}

/// Text that is JSON as raw JSON.
pub(super) fn raw(json: &str) -> Result<Box<RawValue>> {
    RawValue::from_string(json.to_owned()).map_err(MembershipError::internal)
}
