//! The HTTP side: routes, requests, answers.
//!
//! Knows the wire and calls the services; decides nothing about rooms and holds no SQL.

pub mod call;
mod client;
mod directory;
pub mod endpoints;
pub mod error;
mod event_error;
mod federation;
mod files;
pub mod inside;
#[cfg(test)]
pub(crate) mod testing;

use std::{net::IpAddr, sync::Arc};

use axum::{
    Router,
    extract::{Path, Request},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Method, StatusCode, header};

use self::{call::Routes, error::ApiError};
use super::{Node, listen::Peer};

/// Every endpoint that this node serves. Whatever is not here answers `M_UNRECOGNIZED`.
pub fn router(node: Arc<Node>) -> Router {
    let proxied = Arc::clone(&node);
    let challenges = Arc::clone(&node.challenges);
    // RFC 8555, section 8.3. An authority looks at port 80, which may be one of ours or lead to one.
    let proof = move |Path(token): Path<String>| async move { challenges.page(&token).ok_or_else(ApiError::unrecognized) };
    federation::add(client::add(Routes::new(node)))
        .into_router()
        .route("/.well-known/acme-challenge/{token}", axum::routing::get(proof))
        .fallback(|| async { ApiError::unrecognized() })
        .method_not_allowed_fallback(|| async {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED", "This endpoint does not take that method")
        })
        .layer(middleware::from_fn(cross_origin))
        .layer(middleware::from_fn(move |request, next| forwarded(Arc::clone(&proxied), request, next)))
}

/// Takes the client's address from a reverse proxy that the owner trusts. From anybody else the header is worth nothing.
async fn forwarded(node: Arc<Node>, mut request: Request, next: Next) -> Response {
    let trusted = |address: IpAddr| node.config.trusted_proxies.iter().any(|network| network.contains(address));
    if let Some(Peer(Some(peer))) = request.extensions().get::<Peer>().copied()
        && trusted(peer.ip())
    {
        // Each proxy appends whom it was asked by: the last address that no proxy of ours has is the client's.
        let hops =
            request.headers().get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(",");
        let mut client = peer.ip();
        for hop in hops.rsplit(',').map(str::trim).filter(|hop| !hop.is_empty()) {
            let Ok(address) = hop.parse::<IpAddr>() else { break };
            client = address;
            if !trusted(address) {
                break;
            }
        }
        request.extensions_mut().insert(Peer(Some((client, 0).into())));
    }
    next.run(request).await
}

/// Lets web clients of any origin in, and answers their preflight requests (Client-Server API, "Web Browser Clients").
async fn cross_origin(request: Request, next: Next) -> Response {
    let mut response = if request.method() == Method::OPTIONS { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    // The pages on which users sign in are nobody else's to read.
    if response.extensions().get::<client::SameOriginOnly>().is_some() {
        return response;
    }
    let_everybody_read(&mut response);
    response
}

/// The headers that let web clients of any origin read an answer.
pub(super) fn let_everybody_read(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, PUT, DELETE, OPTIONS"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("X-Requested-With, Content-Type, Authorization, If-Match, If-None-Match"),
    );
}
