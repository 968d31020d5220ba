//! Who asks: a server, by the signature of its request (Server-Server API, "Request Authentication").
//!
//! Endpoints are registered like those for clients; where ruma says that a request is signed by a server, the handler's
//! `who` is an [`Origin`], and the signature has been checked over method, path, query and body when the handler is called.

use std::{collections::BTreeMap, time::Duration};

use http::{StatusCode, header, request::Parts};
use ruma::{CanonicalJsonValue, OwnedServerName, api::federation::authentication::ServerSignatures};
use serde_json::value::RawValue;

use crate::homeserver::{
    Node,
    api::{
        call::{Scheme, address},
        error::{ApiError, ApiResult},
    },
    federation::{
        key_ring::{KeyFault, SignatureFault},
        x_matrix::{InvalidHeader, XMatrix},
    },
    users::limits::{Key, Kind},
};

/// Bodies up to this many bytes are checked where we are; larger ones would hold up other requests.
const SMALL_BODY_BYTES: usize = 64 * 1024;

/// When a server that is not known may come again, where others from its address are being checked.
const CHECKING_PAUSE: Duration = Duration::from_secs(5);

/// Deepest body that is not canonical JSON: each level is read again with those around it.
const MAX_DEPTH: usize = 64;

/// The server that signed a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(pub OwnedServerName);

impl std::ops::Deref for Origin {
    type Target = OwnedServerName;

    fn deref(&self) -> &OwnedServerName {
        &self.0
    }
}

impl Scheme for ServerSignatures {
    type Who = Origin;

    /// What the header claims, as far as it can be judged without the body and without asking anybody.
    async fn authenticate(node: &Node, parts: &Parts) -> ApiResult<Origin> {
        let header = header(parts)?;
        if header.origin == node.config.server_name {
            return Err(unauthorized("This server does not ask itself"));
        }
        // Before anything is done for it; whoever claims to be it falsely has no cause to complain.
        if !node.federation.client.has_to_do_with(&header.origin) {
            return Err(ApiError::forbidden("This server has nothing to do with yours"));
        }
        // Older servers leave it out (Server-Server API, "Request Authentication").
        if header.destination.is_some_and(|destination| destination != node.config.server_name.as_str()) {
            return Err(unauthorized("The request is for another server"));
        }
        Ok(Origin(header.origin))
    }

    async fn confirm(node: &Node, parts: &Parts, body: &bytes::Bytes, who: &Origin) -> ApiResult<()> {
        let header = header(parts)?;
        let text = if body.len() <= SMALL_BODY_BYTES {
            signed_for(parts, body, who, &node.config.server_name)?
        } else {
            let (parts, body, who, name) = (parts.clone(), body.clone(), who.clone(), node.config.server_name.clone());
            let read = tokio::task::spawn_blocking(move || signed_for(&parts, &body, &who, &name));
            read.await.map_err(ApiError::internal)??
        };
        // Whoever names a server that is not known has us ask it, which is not free.
        let mut checking = None;
        if let Some(address) = address(parts)
            && !node.federation.keys.knows(who).await.map_err(ApiError::internal)?
        {
            node.limits.check(Kind::KeyQuery, Key::Address(address)).map_err(ApiError::limit_exceeded)?;
            let busy = || ApiError::limit_exceeded(CHECKING_PAUSE);
            checking = Some(node.federation.keys.may_check(address).ok_or_else(busy)?);
        }
        let checked = node.federation.keys.verify_request(who, &header.key, &header.signature, &text).await;
        drop(checking);
        match checked {
            Ok(()) => {
                node.federation.health.heard_from(who);
                node.federation.sender.heard_from(who);
                // Only now: nobody spends another server's allowance.
                let limited = node.limits.check(Kind::Federation, Key::Server(who.0.clone()));
                limited.map_err(ApiError::limit_exceeded)
            }
            Err(SignatureFault::Wrong(_)) => Err(unauthorized("The signature is wrong")),
            Err(SignatureFault::Key(KeyFault::Unknown { .. })) => Err(unauthorized("The request is signed with a key that is not known")),
            Err(SignatureFault::Key(KeyFault::Store(error))) => Err(error.into()),
            Err(SignatureFault::Key(fault)) => {
                tracing::info!(peer = %who.0, %fault, "a request could not be checked");
                Err(unauthorized("The keys of your server could not be fetched"))
            }
        }
    }
}

fn unauthorized(message: &str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED", message)
}

/// The `X-Matrix` header. Should there be more than one, each for another key, the first counts.
fn header(parts: &Parts) -> ApiResult<XMatrix> {
    for value in parts.headers.get_all(header::AUTHORIZATION) {
        match XMatrix::parse(value.as_bytes()) {
            Ok(header) => return Ok(header),
            Err(InvalidHeader::OtherScheme) => {}
            Err(InvalidHeader::Malformed) => return Err(unauthorized("The Authorization header is malformed")),
        }
    }
    Err(unauthorized("The request is not signed"))
}

/// What the other server has signed (Server-Server API, "Request Authentication"), as canonical JSON.
fn signed_for(parts: &Parts, body: &bytes::Bytes, who: &Origin, destination: &ruma::ServerName) -> ApiResult<String> {
    let uri = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let text = |text: &str| serde_json::to_string(text).map_err(ApiError::internal);
    let content = match body.is_empty() {
        true => String::new(),
        false => format!("\"content\":{},", content(body)?),
    };
    Ok(format!(
        "{{{content}\"destination\":{},\"method\":{},\"origin\":{},\"uri\":{}}}",
        text(destination.as_str())?,
        text(parts.method.as_str())?,
        text(who.0.as_str())?,
        text(uri)?
    ))
}

/// The body as it was signed. One event with a number that canonical JSON does not have must not keep all that comes with it
/// from us, and the server that has such an event would send it again and again: its numbers stay as they came, and whoever
/// reads the event refuses it.
fn content(body: &bytes::Bytes) -> ApiResult<String> {
    if let Ok(content) = serde_json::from_slice::<CanonicalJsonValue>(body) {
        return serde_json::to_string(&content).map_err(ApiError::internal);
    }
    let mut out = String::with_capacity(body.len());
    let written = serde_json::from_slice::<&RawValue>(body).map_err(|error| error.to_string());
    let written = written.and_then(|raw| sorted(raw.get(), 0, &mut out).map_err(|error| error.to_string()));
    written.map_err(|why| ApiError::new(StatusCode::BAD_REQUEST, "M_NOT_JSON", format!("The body is not canonical JSON: {why}")))?;
    Ok(out)
}

/// Writes JSON with sorted fields and without spaces; numbers as they are.
fn sorted(json: &str, depth: usize, out: &mut String) -> serde_json::Result<()> {
    if depth > MAX_DEPTH {
        return Err(serde::de::Error::custom("it is too deep"));
    }
    match json.as_bytes().first() {
        Some(b'{') => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(json)?;
            out.push('{');
            for (number, (name, value)) in fields.into_iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                out.push_str(&serde_json::to_string(&name)?);
                out.push(':');
                sorted(value.get(), depth + 1, out)?;
            }
            out.push('}');
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(json)?;
            out.push('[');
            for (number, item) in items.into_iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                sorted(item.get(), depth + 1, out)?;
            }
            out.push(']');
        }
        Some(b'"') => out.push_str(&serde_json::to_string(&serde_json::from_str::<String>(json)?)?),
        // A number, true, false or null.
        _ => out.push_str(json),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
