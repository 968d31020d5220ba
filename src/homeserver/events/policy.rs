//! The policy server of a room (Server-Server API, "Policy Servers"): who has to let events through.
//!
//! It is asked over the network, and events are made inside jobs of the writer. So a job that would make an event without leave
//! is undone, the policy server is asked to sign that very event, and the job runs again with what came of it ([`writing`]).

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use futures_util::future::BoxFuture;
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, ServerName, serde::Base64, signatures::verify_json};
use serde::Deserialize;

use super::{Ctx, EventError, Result};
use crate::homeserver::{
    rooms::{build, format, redact::prune},
    store::{Reader, Store, Tx, events, servers, state},
    types::{Pdu, RoomHandle},
};

/// The key ID of every policy server's signatures.
const KEY_ID: &str = "ed25519:policy_server";
/// Events of one job that a policy server is asked about.
const EVENTS: usize = 32;

#[derive(Deserialize)]
struct Content {
    via: String,
    public_keys: PublicKeys,
}

#[derive(Deserialize)]
struct PublicKeys {
    ed25519: String,
}

/// A policy server that is in force.
#[derive(Debug, Clone)]
pub struct PolicyServer {
    /// Its name.
    pub name: OwnedServerName,
    /// Its public key, as Base64.
    pub key: String,
}

/// The way to policy servers.
pub trait Asker: Debug + Send + Sync + 'static {
    /// Has a server sign an event, which is given as JSON. The signature, as Base64.
    fn ask<'a>(&'a self, server: &'a ServerName, event: &'a str) -> BoxFuture<'a, Result<String, Refusal>>;
}

/// Why a policy server has not signed an event, as the client that wanted it sent is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Matrix error code.
    pub errcode: String,
    /// In words.
    pub message: String,
}

/// An event of ours that needs leave.
#[derive(Debug, Clone)]
pub struct Unapproved {
    room: RoomHandle,
    pdu: Pdu,
    by: PolicyServer,
}

/// What policy servers have said so far about the events of one job, and the way to ask them.
#[derive(Debug, Clone, Default)]
pub struct Approval {
    asker: Option<Arc<dyn Asker>>,
    said: Arc<Vec<(Pdu, Result<(), Refusal>)>>,
}

impl Approval {
    /// Nobody has been asked yet, and nobody can be without a way.
    #[must_use]
    pub fn by(asker: Option<Arc<dyn Asker>>) -> Self {
        Self { asker, said: Arc::default() }
    }
}

/// The room's policy server, if it has one.
///
/// # Errors
///
/// Store errors.
pub fn server(db: &Reader<'_>, room: &RoomHandle) -> Result<Option<PolicyServer>> {
    let Some(nid) = state::current(db, room.nid, "m.room.policy", "")? else { return Ok(None) };
    let content = format::content(&events::by_nid(db, nid)?.json).map_err(|e| EventError::Internal(e.to_string()))?;
    // A policy that names no server and no key is none.
    let Ok(Content { via, public_keys }) = serde_json::from_str::<Content>(content.get()) else { return Ok(None) };
    let Ok(name) = ServerName::parse(&via) else { return Ok(None) };
    Ok(servers::is_in_room(db, room.nid, &name)?.then_some(PolicyServer { name, key: public_keys.ed25519 }))
}

/// True for the event that says who the policy server is: it needs nobody's leave.
#[must_use]
pub fn is_exempt(pdu: &Pdu) -> bool {
    pdu.kind().to_string() == "m.room.policy" && pdu.state_key() == Some("")
}

/// Has the policy server signed what redaction leaves of the event, with the key that the room knows?
#[must_use]
pub fn is_signed(pdu: &Pdu, room: &RoomHandle, by: &PolicyServer) -> bool {
    let signature = pdu.json().get("signatures").and_then(CanonicalJsonValue::as_object).and_then(|all| all.get(by.name.as_str()));
    let signature = signature.and_then(CanonicalJsonValue::as_object).and_then(|keys| keys.get(KEY_ID));
    let (Some(signature), Ok(key)) = (signature, Base64::parse(&by.key)) else { return false };
    let Ok(mut json) = prune(pdu.json(), &room.rules.redaction) else { return false };
    // Only this one: the server may have signed the event with a key of its own as well.
    let only = CanonicalJsonObject::from([(KEY_ID.to_owned(), signature.clone())]);
    let signatures = CanonicalJsonObject::from([(by.name.to_string(), CanonicalJsonValue::Object(only))]);
    json.insert("signatures".into(), CanonicalJsonValue::Object(signatures));
    let keys = BTreeMap::from([(by.name.to_string(), BTreeMap::from([(KEY_ID.to_owned(), key)]))]);
    verify_json(&keys, &json).is_ok()
}

/// The policy server that would have to let this event through and has not.
///
/// # Errors
///
/// Store errors.
pub fn missing(db: &Reader<'_>, room: &RoomHandle, pdu: &Pdu) -> Result<Option<PolicyServer>> {
    if is_exempt(pdu) {
        return Ok(None);
    }
    Ok(server(db, room)?.filter(|by| !is_signed(pdu, room, by)))
}

/// True for somebody's own leave: nobody is kept in a room. What a policy server has not signed others do not believe, so it is
/// asked for a leave as for everything else; the user is out of the room here whatever it says.
#[must_use]
pub fn leaves(pdu: &Pdu) -> bool {
    pdu.membership() == Some("leave") && pdu.state_key() == Some(pdu.sender().as_str())
}

/// The event of ours in the form in which it may be sent: signed by the room's policy server, or `None` for as it is. One that
/// was signed in an earlier run of the job may have another place in the room than this one would have now.
pub(super) fn approved(db: &Reader<'_>, ctx: &Ctx, room: &RoomHandle, pdu: &Pdu) -> Result<Option<Pdu>> {
    let Some(by) = missing(db, room, pdu)? else { return Ok(None) };
    for (asked, said) in ctx.approval.said.iter().filter(|(asked, _)| is_the_same(asked, pdu)) {
        match said {
            Ok(()) if is_signed(asked, room, &by) => return Ok(Some(asked.clone())),
            // The room has another policy server, or another key of it, since it was asked.
            Ok(()) => {}
            Err(refusal) if leaves(pdu) => {
                tracing::info!(room_id = %room.room_id, refusal = %refusal.message, "a user leaves without the policy server's signature");
                return Ok(None);
            }
            Err(refusal) => return Err(EventError::NotApproved(refusal.clone())),
        }
    }
    // What it has not signed would be hidden by every server that obeys it.
    if ctx.approval.asker.is_none() || by.name == ctx.server_name {
        if leaves(pdu) {
            return Ok(None);
        }
        let why = format!("The room's policy server {} has to approve what is sent, and this server cannot ask it", by.name);
        return Err(EventError::Forbidden(why));
    }
    Err(EventError::NeedsApproval(Box::new(Unapproved { room: room.clone(), pdu: pdu.clone(), by })))
}

/// Do these say the same? Where they are in the room does not count.
fn is_the_same(one: &Pdu, other: &Pdu) -> bool {
    ["room_id", "sender", "type", "state_key", "content", "redacts", "origin_server_ts"]
        .into_iter()
        .all(|field| one.json().get(field) == other.json().get(field))
}

/// Has a policy server sign an event.
///
/// # Errors
///
/// [`Refusal`].
pub async fn sign(asker: &dyn Asker, room: &RoomHandle, pdu: &Pdu, by: &PolicyServer) -> Result<Pdu, Refusal> {
    let ours = |why: String| Refusal { status: 500, errcode: "M_UNKNOWN".to_owned(), message: why };
    let json = build::canonical(pdu.json()).map_err(|error| ours(error.to_string()))?;
    let signature = asker.ask(&by.name, &json).await?;
    let mut json = pdu.json().clone();
    if let Some(CanonicalJsonValue::Object(signatures)) = json.get_mut("signatures") {
        // The server may have signed with a key of its own as well: the event may be one of its users'.
        let theirs = signatures.entry(by.name.to_string()).or_insert_with(|| CanonicalJsonValue::Object(CanonicalJsonObject::new()));
        if let CanonicalJsonValue::Object(theirs) = theirs {
            theirs.insert(KEY_ID.to_owned(), signature.into());
        }
    }
    let signed = Pdu::from_json(pdu.event_id().to_owned(), json, &room.rules).map_err(|error| ours(error.to_string()))?;
    match is_signed(&signed, room, by) {
        true => Ok(signed),
        false => Err(Refusal {
            status: 502,
            errcode: "M_UNKNOWN".to_owned(),
            message: format!("The room's policy server {} has signed with another key than the one that the room knows", by.name),
        }),
    }
}

/// Runs a job that makes events of ours. Where a policy server has to let one through, the job is undone and run again once the
/// server has been asked; it has to make the same event again. Without a way to ask, or when it says no, the event is refused.
///
/// # Errors
///
/// Those of the job.
pub async fn writing<T, F>(store: &Store, mut ctx: Ctx, job: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce(&mut Tx<'_>, &Ctx) -> Result<T> + Clone + Send + 'static,
{
    for _ in 0..EVENTS {
        let (run, with) = (job.clone(), ctx.clone());
        let unapproved = match store.write(move |tx| run(tx, &with)).await {
            Err(EventError::NeedsApproval(unapproved)) => unapproved,
            other => return other,
        };
        let Some(asker) = &ctx.approval.asker else { return Err(EventError::NeedsApproval(unapproved)) };
        let Unapproved { room, pdu, by } = *unapproved;
        let asked = sign(asker.as_ref(), &room, &pdu, &by).await;
        if let Err(refusal) = &asked {
            tracing::info!(room_id = %room.room_id, peer = %by.name, %refusal, "a policy server has not let an event through");
        }
        let said = match asked {
            Ok(signed) => (signed, Ok(())),
            Err(refusal) => (pdu, Err(refusal)),
        };
        Arc::make_mut(&mut ctx.approval.said).push(said);
    }
    Err(EventError::BadState("The room's policy server would have to be asked about too many events at once".into()))
}
