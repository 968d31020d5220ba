//! Server discovery and capabilities negotiation.

use std::{collections::BTreeMap, sync::Arc};

use ruma::api::client::discovery::get_supported_versions;

use super::super::{
    call::{Call, Routes},
    error::ApiResult,
};
use crate::homeserver::{Node, types::Requester};

/// Versions of the specification that this node speaks, as far as its endpoints go.
const VERSIONS: &[&str] =
    &["r0.6.0", "r0.6.1", "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10", "v1.11", "v1.12"];

/// Unstable features that clients look for.
const FEATURES: &[&str] = &["org.matrix.simplified_msc3575"];

pub(super) fn add(routes: Routes) -> Routes {
    routes.add::<get_supported_versions::Request, _, _>(get_supported_versions)
}

/// `GET /_matrix/client/versions`
async fn get_supported_versions(
    _: Arc<Node>,
    _: Call<get_supported_versions::Request, Option<Requester>>,
) -> ApiResult<get_supported_versions::Response> {
    let mut response = get_supported_versions::Response::new(VERSIONS.iter().map(ToString::to_string).collect());
    response.unstable_features = FEATURES.iter().map(|f| ((*f).to_owned(), true)).collect::<BTreeMap<_, _>>();
    Ok(response)
}
