//! Transactions: what other servers push to us.

use std::sync::Arc;

use http::StatusCode;
use ruma::{ServerName, api::federation::transactions::send_transaction_message::v1 as send_transaction_message};

use super::call::Origin;
use crate::homeserver::{
    Node,
    api::{
        call::{BODY_BYTES, Call, Routes},
        error::{ApiError, ApiResult},
    },
    events::EventError,
    federation::{
        edus,
        membership::{self, MembershipError},
    },
    rooms::wire,
};

/// Most events of one transaction (Server-Server API, "Transactions").
const MAX_PDUS: usize = 50;
/// Most EDUs of one transaction.
const MAX_EDUS: usize = 100;

/// Bytes of one transaction: each of its parts may have 64 KiB.
const BYTES: usize = 12 << 20;
/// Transactions larger than other requests that are read at a time.
const LARGE_AT_ONCE: usize = 4;

pub(super) fn add(routes: Routes) -> Routes {
    let routes = routes.large_bodies(BYTES, LARGE_AT_ONCE);
    routes.add::<send_transaction_message::Request, _, _>(send_transaction_message).body_limit(BODY_BYTES)
}

/// `PUT /_matrix/federation/v1/send/{txnId}`
///
/// The events are on disk when this answers; they are worked on afterwards. A transaction that was answered before is
/// answered the same again, and nothing else happens.
async fn send_transaction_message(
    node: Arc<Node>,
    call: Call<send_transaction_message::Request, Origin>,
) -> ApiResult<send_transaction_message::Response> {
    let (request, origin) = (call.request, call.who);
    if request.origin != *origin {
        return Err(ApiError::forbidden("The transaction is of another server than the one that sends it"));
    }
    if request.pdus.len() > MAX_PDUS || request.edus.len() > MAX_EDUS {
        return Err(ApiError::invalid_param("A transaction has at most 50 PDUs and 100 EDUs"));
    }
    let txn_id = request.transaction_id.as_str();
    if txn_id.len() > 255 {
        return Err(ApiError::invalid_param("The transaction ID is too long"));
    }
    let inbound = &node.federation.inbound;
    if let Some(answer) = inbound.answered(&origin, txn_id).await? {
        return Ok(send_transaction_message::Response::new(answer));
    }
    // First, because the answer that is remembered with the events covers them too: each can be taken twice without harm.
    for edu in &request.edus {
        edus::receive(&node, &origin, edu.json()).await?;
    }
    for pdu in &request.pdus {
        ended(&node, &origin, pdu.get()).await?;
    }
    match inbound.receive(&origin, txn_id, request.pdus).await {
        Ok(answer) => Ok(send_transaction_message::Response::new(answer)),
        // They try again later, which is what they should do.
        Err(EventError::BadState(why)) => Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED", why)),
        Err(error) => Err(error.into()),
    }
}

/// An event of a room that nobody here is in can only be the end of an invite or a knock of somebody here.
async fn ended(node: &Arc<Node>, origin: &ServerName, pdu: &str) -> ApiResult<()> {
    let Some(room_id) = wire::room_of(pdu) else { return Ok(()) };
    match membership::withdrawn(node, origin, &room_id, pdu).await {
        // What is malformed is answered with the rest.
        Ok(_) | Err(MembershipError::Invalid(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
