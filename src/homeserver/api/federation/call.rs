//! Who asks: a server, by the signature of its request (Server-Server API, "Request Authentication").
//!
//! Endpoints are registered like those for clients; where ruma says that a request is signed by a server, the handler's
//! `who` is an [`Origin`], and the signature has been checked over method, path, query and body when the handler is called.

use http::{StatusCode, header, request::Parts};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, api::federation::authentication::ServerSignatures};

use crate::homeserver::{
    Node,
    api::{
        call::Scheme,
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
        // Older servers leave it out (Server-Server API, "Request Authentication").
        if header.destination.is_some_and(|destination| destination != node.config.server_name.as_str()) {
            return Err(unauthorized("The request is for another server"));
        }
        Ok(Origin(header.origin))
    }

    async fn confirm(node: &Node, parts: &Parts, body: &bytes::Bytes, who: &Origin) -> ApiResult<()> {
        let header = header(parts)?;
        let object = if body.len() <= SMALL_BODY_BYTES {
            signed(parts, body, who, node)?
        } else {
            let (parts, body, who, name) = (parts.clone(), body.clone(), who.clone(), node.config.server_name.clone());
            let read = tokio::task::spawn_blocking(move || signed_for(&parts, &body, &who, &name));
            read.await.map_err(ApiError::internal)??
        };
        let checked = node.federation.keys.verify_request(who, &header.key, &header.signature, &object).await;
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

fn signed(parts: &Parts, body: &bytes::Bytes, who: &Origin, node: &Node) -> ApiResult<CanonicalJsonObject> {
    signed_for(parts, body, who, &node.config.server_name)
}

/// What the other server has signed (Server-Server API, "Request Authentication").
fn signed_for(parts: &Parts, body: &bytes::Bytes, who: &Origin, destination: &ruma::ServerName) -> ApiResult<CanonicalJsonObject> {
    let uri = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let text = |text: &str| CanonicalJsonValue::String(text.to_owned());
    let mut object = CanonicalJsonObject::from([
        ("method".to_owned(), text(parts.method.as_str())),
        ("uri".to_owned(), text(uri)),
        ("origin".to_owned(), text(who.0.as_str())),
        ("destination".to_owned(), text(destination.as_str())),
    ]);
    if !body.is_empty() {
        let content: CanonicalJsonValue = serde_json::from_slice(body)
            .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, "M_NOT_JSON", format!("The body is not canonical JSON: {error}")))?;
        object.insert("content".to_owned(), content);
    }
    Ok(object)
}

#[cfg(test)]
mod tests;
