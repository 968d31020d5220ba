//! Access tokens: from a token to who it stands for.

use sha2::{Digest, Sha256};

use crate::homeserver::{
    Node,
    api::error::{ApiError, ApiResult},
    types::Requester,
};

/// What the store keeps of a token.
#[must_use]
pub fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Who this token stands for.
///
/// # Errors
///
/// 401 `M_UNKNOWN_TOKEN` for a token that we did not issue or that has expired (then with `soft_logout`).
pub async fn requester(node: &Node, token: &str) -> ApiResult<Requester> {
    let (hash, now_ms) = (hash(token), node.clock.now_ms());
    let found = node.store.read(move |db| crate::homeserver::store::accounts::by_token(db, &hash)).await?;
    match found {
        None => Err(ApiError::unknown_token(false)),
        Some((_, Some(expires_ms))) if expires_ms <= now_ms => Err(ApiError::unknown_token(true)),
        Some((requester, _)) => Ok(requester),
    }
}
