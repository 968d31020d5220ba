//! The API without a socket: for the process that the node runs in.

use std::sync::Arc;

use axum::{Router, body::Body};
use bytes::Bytes;
use tower::ServiceExt as _;

use crate::homeserver::Node;

/// Largest answer that is read.
const ANSWER_BYTES: usize = 4 << 20;

/// A way to the node's endpoints from inside its process. Requests are authenticated like any other.
#[derive(Debug, Clone)]
pub struct Inside(Router);

impl Inside {
    /// The way to this node.
    #[must_use]
    pub fn new(node: &Arc<Node>) -> Self {
        Self(super::router(Arc::clone(node)))
    }

    /// Makes a request and reads its answer.
    ///
    /// # Errors
    ///
    /// When the answer is larger than 4 MiB.
    pub async fn request(&self, request: http::Request<Vec<u8>>) -> Result<http::Response<Bytes>, String> {
        let response = match self.0.clone().oneshot(request.map(Body::from)).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, ANSWER_BYTES).await.map_err(|error| error.to_string())?;
        Ok(http::Response::from_parts(parts, body))
    }
}
