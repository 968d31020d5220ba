//! How a transaction reaches a server.

use std::{fmt::Debug, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use ruma::{
    MilliSecondsSinceUnixEpoch, ServerName, UInt, api::federation::transactions::send_transaction_message::v1 as send_transaction,
    serde::Raw,
};
use serde_json::value::RawValue;

use crate::homeserver::{
    federation::{
        client::Client,
        request::{Limits, RequestError},
    },
    store::outbox::Transaction,
};

/// How long a server may take for a transaction: it may have to fetch what it lacks first.
const TIME: Duration = Duration::from_secs(60);

/// Events that the other server did not take, with its reasons.
pub type Refusals = Vec<(String, String)>;

/// Why a transaction did not arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The server is not well, or does not know us yet: the same transaction is sent again.
    Later {
        /// For the log.
        why: String,
        /// How long it wants to be left alone.
        after: Option<Duration>,
    },
    /// The server will never take it.
    Refused(String),
}

/// Carries transactions to servers.
pub trait Carrier: Debug + Send + Sync + 'static {
    /// Sends a transaction in the name of `from` and waits for the answer.
    fn carry<'a>(
        &'a self,
        from: &'a ServerName,
        to: &'a ServerName,
        transaction: &'a Transaction,
    ) -> BoxFuture<'a, Result<Refusals, Failure>>;
}

impl Carrier for Client {
    /// `PUT /_matrix/federation/v1/send/{txnId}`
    fn carry<'a>(
        &'a self,
        from: &'a ServerName,
        to: &'a ServerName,
        transaction: &'a Transaction,
    ) -> BoxFuture<'a, Result<Refusals, Failure>> {
        async move {
            let request = request(from, transaction).map_err(Failure::Refused)?;
            match self.request_within(to, request, Limits::ORDINARY.insisting().within(TIME)).await {
                Ok(answer) => {
                    Ok(answer.pdus.into_iter().filter_map(|(event_id, result)| Some((event_id.to_string(), result.err()?))).collect())
                }
                Err(error) => Err(failure(&error)),
            }
        }
        .boxed()
    }
}

fn request(from: &ServerName, transaction: &Transaction) -> Result<send_transaction::Request, String> {
    let raw = |json: String| RawValue::from_string(json).map_err(|e| e.to_string());
    let ts = u64::try_from(transaction.origin_server_ts).ok().and_then(|ms| UInt::try_from(ms).ok()).unwrap_or_default();
    let mut request = send_transaction::Request::new(transaction.id.as_str().into(), from.to_owned(), MilliSecondsSinceUnixEpoch(ts));
    request.pdus = transaction.pdus.iter().map(|json| raw(json.clone())).collect::<Result<_, _>>()?;
    for (kind, content) in &transaction.edus {
        let kind = serde_json::to_string(kind).map_err(|e| e.to_string())?;
        request.edus.push(Raw::from_json(raw(format!("{{\"content\":{content},\"edu_type\":{kind}}}"))?));
    }
    Ok(request)
}

/// Tells what the same transaction may pass later from what it never will.
fn failure(error: &RequestError) -> Failure {
    let why = error.to_string();
    match error {
        // Only these are about the transaction, and only from a Matrix server: a proxy in front of one says such things about
        // itself, and 401 or 403 is about us and may pass.
        RequestError::Remote { status: 400 | 413, errcode, .. } if !errcode.is_empty() => Failure::Refused(why),
        RequestError::Ours(_) => Failure::Refused(why),
        _ => Failure::Later { why, after: error.retry_after() },
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use ruma::{api::OutgoingRequest as _, server_name};
    use serde_json::{Value, json};

    use super::*;

    fn remote(status: u16) -> RequestError {
        RequestError::Remote { status, errcode: "M_X".into(), message: String::new(), retry_after: Some(Duration::from_secs(3)) }
    }

    #[test]
    fn what_may_pass_later_is_told_from_what_never_will() {
        for status in [401, 403, 404, 408, 421, 429, 500, 502, 503] {
            assert!(matches!(failure(&remote(status)), Failure::Later { after: Some(_), .. }), "{status}");
        }
        for status in [400, 413] {
            assert!(matches!(failure(&remote(status)), Failure::Refused(_)), "{status}");
            let of_a_proxy = RequestError::Remote { status, errcode: String::new(), message: String::new(), retry_after: None };
            assert!(matches!(failure(&of_a_proxy), Failure::Later { .. }), "{status}");
        }
        assert!(matches!(failure(&RequestError::TimedOut), Failure::Later { .. }));
    }

    #[test]
    fn a_transaction_has_the_form_of_the_specification() {
        let transaction = Transaction {
            id: "t1".into(),
            origin_server_ts: 5,
            pdus: vec![r#"{"type":"m.room.message"}"#.into()],
            edus: vec![("m.typing".into(), r#"{"typing":true}"#.into())],
        };
        let request = request(server_name!("home.test"), &transaction).unwrap();
        let key = ruma::signatures::Ed25519KeyPair::from_der(&ruma::signatures::Ed25519KeyPair::generate(), "1".into()).unwrap();
        let input = ruma::api::federation::authentication::ServerSignaturesInput::new(
            server_name!("home.test").to_owned(),
            server_name!("b.test").to_owned(),
            &key,
        );
        let http = request.try_into_http_request::<Vec<u8>>("https://b.test", input, ()).unwrap();
        assert_eq!(http.uri().path(), "/_matrix/federation/v1/send/t1");
        let body: Value = serde_json::from_slice(http.body()).unwrap();
        assert_eq!(
            body,
            json!({
                "origin": "home.test", "origin_server_ts": 5, "pdus": [{ "type": "m.room.message" }],
                "edus": [{ "edu_type": "m.typing", "content": { "typing": true } }],
            })
        );
        assert_eq!(body["pdus"].as_array().unwrap().len(), 1);
    }
}
