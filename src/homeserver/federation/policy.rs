//! Asking policy servers (Server-Server API, "Policy Servers").

use std::time::Duration;

use futures_util::{FutureExt as _, future::BoxFuture};
use ruma::{ServerName, api::federation::policy::sign_event::v1 as sign_event};
use serde_json::value::RawValue;

use super::{
    client::Client,
    request::{Limits, RequestError},
};
use crate::homeserver::events::policy::{Asker, Refusal};

/// How long a policy server may take: somebody waits for their message to be sent.
const TIME: Duration = Duration::from_secs(10);
/// Bytes of its answer.
const ANSWER_BYTES: usize = 64 * 1024;
/// Its error codes that a client is told. Others would say something to the client about its own server.
const CODES: [&str; 5] = ["M_FORBIDDEN", "M_LIMIT_EXCEEDED", "M_NOT_FOUND", "M_TOO_LARGE", "M_BAD_JSON"];

impl Asker for Client {
    /// `POST /_matrix/policy/v1/sign`
    fn ask<'a>(&'a self, server: &'a ServerName, event: &'a str) -> BoxFuture<'a, Result<String, Refusal>> {
        async move {
            let unwell = |why: String| Refusal {
                status: 502,
                errcode: "M_UNKNOWN".to_owned(),
                message: format!("The room's policy server {server} could not be asked, so nothing was sent: {why}"),
            };
            let event = RawValue::from_string(event.to_owned()).map_err(|error| unwell(error.to_string()))?;
            let limits = Limits::ORDINARY.insisting().within(TIME).bytes(ANSWER_BYTES);
            match self.request_within(server, sign_event::Request::new(event), limits).await {
                Ok(answer) => answer.ed25519_signature(server).map(ToOwned::to_owned).ok_or_else(|| unwell("it has not signed".to_owned())),
                Err(RequestError::Remote { status: status @ (400 | 403 | 404 | 429), errcode, message, .. }) if !errcode.is_empty() => {
                    let errcode = if CODES.contains(&errcode.as_str()) { errcode } else { "M_FORBIDDEN".to_owned() };
                    Err(Refusal { status, errcode, message })
                }
                Err(error) => Err(unwell(error.to_string())),
            }
        }
        .boxed()
    }
}
