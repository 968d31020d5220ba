//! Server implementation.

use std::sync::Arc;

use ruma::api::federation::discovery::get_server_version::v1 as get_server_version;

use crate::homeserver::{
    Node,
    api::{
        call::{Call, Routes},
        error::ApiResult,
    },
};

pub(super) fn add(routes: Routes) -> Routes {
    routes.add::<get_server_version::Request, _, _>(get_version)
}

/// `GET /_matrix/federation/v1/version`
async fn get_version(_: Arc<Node>, _: Call<get_server_version::Request, ()>) -> ApiResult<get_server_version::Response> {
    let mut server = get_server_version::Server::new();
    server.name = Some("homeroom".to_owned());
    server.version = Some(env!("CARGO_PKG_VERSION").to_owned());
    let mut response = get_server_version::Response::new();
    response.server = Some(server);
    Ok(response)
}
