//! Redactions.

use std::sync::Arc;

use ruma::{CanonicalJsonObject, api::client::redact::redact_event::v3 as redact_event};

use super::{
    super::super::{
        call::{Call, Routes},
        error::ApiResult,
    },
    change,
};
use crate::homeserver::{
    Node,
    events::{self, Draft, Txn},
};

pub(super) fn add(routes: Routes) -> Routes {
    routes.add::<redact_event::Request, _, _>(redact_event)
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/redact/{eventId}/{txnId}`
async fn redact_event(node: Arc<Node>, call: Call<redact_event::Request>) -> ApiResult<redact_event::Response> {
    let request = call.request;
    let mut content = CanonicalJsonObject::new();
    if let Some(reason) = request.reason {
        content.insert("reason".into(), reason.into());
    }
    let mut draft = Draft::message(call.who.user_id, "m.room.redaction", content);
    draft.txn = Some(Txn {
        device_id: call.who.device_id.to_string(),
        scope: format!("redact/{}/{}", request.room_id, request.event_id),
        txn_id: request.txn_id.to_string(),
    });
    draft.redacts = Some(request.event_id);
    let sent = change(&node, move |tx, ctx| {
        let room = events::room(&tx.reader(), &request.room_id)?;
        events::append(tx, ctx, &room, draft)
    });
    Ok(redact_event::Response::new(sent.await?.event_id))
}
